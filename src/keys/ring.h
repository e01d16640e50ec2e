/*
 * ring: the registry's keys, earlier ones too, and the seals that lead from each to the next (K5).
 *
 * The log and the seals are never rewritten, so each earlier key is kept, wrapped, for what it
 * made. The last seal under a key names the pin of the next one: whoever trusts a key follows that
 * line and nothing else. A dk_ring belongs to one thread.
 */
#ifndef DK_KEYS_RING_H
#define DK_KEYS_RING_H

#include "keys/anchor.h"
#include "keys/core.h"

/* More than an operator makes in a lifetime; the number in the row is anybody's to write. */
#define DK_GENERATIONS_MAX 512

struct dk_ring_key {
    struct dk_registry_keys keys; /* generation 0: it could not be opened (dk_ring_open_any) */
    int64_t last_seal;            /* under it; 0: it is the newest key */
};

/* Keys of following generations, the last one that of the registry's row. */
struct dk_ring {
    struct dk_ring_key *key;
    size_t n;
};

/* From that generation on. E_TAMPERED: one is missing, or does not open. */
DK_MUST_USE dk_rc dk_ring_open(struct dk_core *core, struct dk_txn *txn,
                               const struct dk_registry_row *row, uint32_t from,
                               struct dk_ring *out, struct dk_err *err);
/* All of them; one that is missing or does not open is left empty. */
DK_MUST_USE dk_rc dk_ring_open_any(struct dk_core *core, struct dk_txn *txn,
                                   const struct dk_registry_row *row, struct dk_ring *out,
                                   struct dk_err *err);
void dk_ring_close(struct dk_core *core, struct dk_ring *ring);

struct dk_ring_end {
    int64_t looked; /* the last seal that was read */
    bool finished;  /* one of them ends the rekey to the ring's last key */
};

/*
 * Reads seals from `start` on (its hash "" = any): whether each is under its key, follows the one
 * before, and hands over to the ring's next key where it is the last of its own. Until the first
 * seal under the last key; `whole`: all of them. E_TAMPERED: they do not lead there.
 */
DK_MUST_USE dk_rc dk_ring_follow(struct dk_core *core, struct dk_txn *txn,
                                 const struct dk_ring *ring, const struct dk_seal *start,
                                 bool whole, struct dk_ring_end *out, struct dk_err *err);

#define DK_HAND_OVER_TEXT 96
/* The line of a key's last seal, which is its only one; that of the seal that ends a rekey. */
void dk_ring_hand_over(const struct dk_registry_keys *next, char out[static DK_HAND_OVER_TEXT]);
void dk_ring_end_line(uint32_t generation, char out[static DK_HAND_OVER_TEXT]);
bool dk_ring_is_end(uint32_t generation, const char *heads);

#endif
