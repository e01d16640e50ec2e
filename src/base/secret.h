/*
 * secret: the locked arena in which all key bytes live (M1).
 *
 * One mapping: guard pages on both sides, canaries, mlock, MADV_DONTDUMP, MADV_WIPEONFORK, cut
 * into cells of 64 bytes and, behind them, one table for the key cache. A dk_secret is a cell. It
 * cannot be printed or turned into a view except through the long-named door; freeing wipes, and
 * there is no other free. After fork() the child finds the arena wiped; dk_arena_forked() tells it,
 * and the owner then calls dk_arena_reset(). All functions but open, close and reset may be called
 * by several threads.
 */
#ifndef DK_BASE_SECRET_H
#define DK_BASE_SECRET_H

#include <stdatomic.h>

#include "base/bytes.h"

#define DK_SECRET_CELL 64

struct dk_arena;

struct dk_secret {
    uint8_t *cell; /* NULL = empty */
    uint8_t n;     /* bytes in use, 1 to DK_SECRET_CELL */
};

struct dk_arena_report {
    size_t bytes;
    bool locked; /* false: the memory lock limit is lower than the arena, as a rule (warn) */
    int refusal; /* errno of a lock that was refused */
};

/* An arena of at least `cells` cells. E_NOMEM. A refused lock is reported, not an error. */
DK_MUST_USE dk_rc dk_arena_open(const struct dk_world *world, size_t cells, struct dk_arena **out,
                                struct dk_arena_report *report, struct dk_err *err);
/* The same with a table of so many bytes. */
DK_MUST_USE dk_rc dk_arena_open_with_table(const struct dk_world *world, size_t cells,
                                           size_t table_bytes, struct dk_arena **out,
                                           struct dk_arena_report *report, struct dk_err *err);
/*
 * Wipes every cell. The table is its owner's to wipe, who knows what of it was ever touched: to
 * wipe it all would first bring it all into memory. NULL is allowed.
 */
void dk_arena_close(struct dk_arena *arena);
/* True in a child process that has not reset and revived the arena yet. */
bool dk_arena_forked(const struct dk_arena *arena);
/* The word behind it, for who looks at every call: 0 = forked. Lives as long as the arena. */
const _Atomic uint32_t *dk_arena_alive(const struct dk_arena *arena);
/*
 * In the child, alone: every cell is free again; old dk_secret values must not be used. The arena
 * counts as forked until dk_arena_revive(), so that other threads wait for the owner's recovery.
 */
void dk_arena_reset(struct dk_arena *arena);
void dk_arena_revive(struct dk_arena *arena);
/* True while the canaries stand. */
bool dk_arena_intact(const struct dk_arena *arena);

/* The table, for its one owner (keys/slots): begins at a cache line, zero at open and in a child.
 */
uint8_t *dk_arena_expose_table_for_cache(struct dk_arena *arena, size_t *n);

/* All cells as one range, for a file that holds keys: only of an arena without dk_secrets. */
uint8_t *dk_arena_expose_whole_for_file(struct dk_arena *arena, size_t *n);

/* A zeroed secret of n bytes. E_NOMEM when the arena is full. */
DK_MUST_USE dk_rc dk_secret_new(struct dk_arena *arena, size_t n, struct dk_secret *out,
                                struct dk_err *err);
/* Wipes and gives back; an empty secret is allowed. */
void dk_secret_free(struct dk_arena *arena, struct dk_secret *secret);

/* Wipes the bytes and keeps the cell. */
void dk_secret_wipe(struct dk_secret *secret);

/* The door for cryptographic calls: borrowed, never to be stored, copied or logged. */
static inline uint8_t *dk_secret_expose_for_crypto(const struct dk_secret *secret)
{
    return secret->cell;
}

/* Constant-time comparison. */
bool dk_secret_equal(const struct dk_secret *a, const struct dk_secret *b);
/* Constant-time: all bytes zero. */
bool dk_secret_is_zero(const struct dk_secret *secret);

/* Wipes memory that held plaintext or key material for a moment. */
void dk_wipe(void *p, size_t n);

#endif
