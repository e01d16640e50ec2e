/*
 * thread: what each calling thread keeps: a pool of nonces and contexts keyed for its hot keys.
 *
 * Called by keys/manager. A dk_thread belongs to its thread. Its own lock is for who folds the
 * counts of all threads; no other thread's call ever holds it. At most DK_HOT_KEYS contexts a
 * thread (about 290 KiB). A context is good while its slot's generation is the one it was made
 * for; one whose generation is over is freed at the thread's next call.
 */
#ifndef DK_KEYS_THREAD_H
#define DK_KEYS_THREAD_H

#include <pthread.h>

#include "crypto/nonce.h"
#include "keys/cache.h"

#define DK_HOT_KEYS 192
#define DK_HOT_BUCKETS 1024 /* most chains have one key: no branch to guess wrong */

struct dk_threads;

/* What every call reads stands first, in one cache line. */
struct dk_hot {
    uint32_t hash;
    uint8_t tenant_n;
    uint8_t next;
    bool used_lately;
    uint8_t aad_n;
    uint32_t asked; /* the version asked for; DK_VERSION_ACTIVE seals, others open */
    uint32_t version;
    struct dk_aead_key *key; /* NULL: the entry is empty, and in no chain */
    int64_t fresh_until_ms;
    _Atomic int64_t uses; /* written by the owner only */
    int64_t uses_seen;    /* when the generations were looked at last */
    uint8_t commitment[DK_FIELD_COMMITMENT];
    /* The prefix and the count of an empty context; the tenant stands in it at byte 11. */
    uint8_t aad[DK_FIELD_AAD_PREFIX_MAX + 4];
    const _Atomic uint32_t *slot_generation;
    uint32_t generation;
    uint32_t slot;
    int64_t folded;
};

struct dk_thread {
    struct dk_threads *all;
    struct dk_thread *next_thread;
    struct dk_nonce_pool *nonces;
    const _Atomic uint64_t *changes; /* of the cache */
    uint64_t changes_seen;           /* when the generations were looked at last */
    int64_t tick;                    /* the clock of calls at the last one */
    struct dk_hot *last;             /* found last: fields of one tenant come together */
    unsigned count;                  /* of hot, and empty ones among them */
    unsigned hand;
    uint8_t buckets[DK_HOT_BUCKETS]; /* index of the first, DK_HOT_KEYS = none */
    pthread_mutex_t lock;            /* for what the owner changes but uses, and others read */
    struct dk_secret scratch;        /* where the cache puts a key; see dk_thread_scratch */
    struct dk_hot hot[DK_HOT_KEYS];
};

DK_MUST_USE dk_rc dk_threads_open(struct dk_core *core, struct dk_cache *cache,
                                  struct dk_threads **out, struct dk_err *err);
/* No thread may be inside a call or ending. NULL is allowed. */
void dk_threads_close(struct dk_threads *threads);
/* In a child process, alone: what was counted before belongs to the parent. */
void dk_threads_after_fork(struct dk_threads *threads);
/* Adds what all threads have sealed to the counts. */
void dk_threads_fold(struct dk_threads *threads);
/* Calls served so far, as of the last fold. */
int64_t dk_threads_uses(struct dk_threads *threads);

/* This thread's; made at its first call, given back when the thread ends. */
DK_MUST_USE dk_rc dk_thread_get(struct dk_threads *threads, struct dk_thread **out,
                                struct dk_err *err);

/*
 * A cell of this thread's for the key of one look-up; empty when the arena has none to spare.
 * Borrowed: the caller wipes it.
 */
struct dk_secret dk_thread_scratch(struct dk_thread *thread);

/* The keyed context for a tenant id as given (canonical or not found), still good at now_ms. */
struct dk_hot *dk_thread_find(struct dk_thread *thread, struct dk_view tenant, uint32_t asked,
                              int64_t now_ms);
/* Makes or renews the context of a key. E_KEY_EXHAUSTED when its budget is used up. */
DK_MUST_USE dk_rc dk_thread_key(struct dk_thread *thread, const struct dk_key_name *name,
                                const struct dk_live_key *key, struct dk_hot **out,
                                struct dk_err *err);

/* How many messages a thread counts alone before it tells the others. */
#define DK_HOT_QUANTUM (1 << 14)
/* Counts one use that seals; E_KEY_EXHAUSTED past the budget, or when counts cannot be flushed. */
DK_MUST_USE dk_rc dk_thread_fold_one(struct dk_thread *thread, struct dk_hot *hot,
                                     struct dk_err *err);

DK_MUST_USE static inline dk_rc dk_hot_use(struct dk_thread *thread, struct dk_hot *hot,
                                           struct dk_err *err)
{
    int64_t uses = atomic_load_explicit(&hot->uses, memory_order_relaxed) + 1;
    atomic_store_explicit(&hot->uses, uses, memory_order_relaxed);
    hot->used_lately = true;
    return uses % DK_HOT_QUANTUM == 0 ? dk_thread_fold_one(thread, hot, err) : DK_OK;
}

#endif
