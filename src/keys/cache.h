/*
 * cache: unwrapped keys in memory, behind the same face as the loader that it wraps.
 *
 * Called by keys/manager and keys/thread. Bounded; one flight a key and a bound on flights; soft
 * and hard TTL on the monotonic clock, counted from the fetch; failures are not cached; eviction
 * wipes. One lock guards all of it but a slot's generation, which readers of keyed contexts check
 * without it. Shared by threads.
 */
#ifndef DK_KEYS_CACHE_H
#define DK_KEYS_CACHE_H

#include <stdatomic.h>

#include "keys/source.h"

struct dk_cache;

/* `below` is copied; `core` is lent. */
DK_MUST_USE dk_rc dk_cache_open(struct dk_core *core, const struct dk_key_source *below,
                                struct dk_cache **out, struct dk_err *err);
void dk_cache_close(struct dk_cache *cache); /* NULL is allowed */
struct dk_key_source dk_cache_source(struct dk_cache *cache);

/*
 * Fetches those of the names (no name twice) that are neither fresh nor on their way, all at once,
 * one batch at a time. What cannot be had is told by the call that asks for it.
 */
void dk_cache_prefetch(struct dk_cache *cache, const struct dk_key_name *names, size_t count);

/* In a child process, alone: everything is forgotten, every generation moves on. */
void dk_cache_after_fork(struct dk_cache *cache);

/* True when `name` would be served without the source below. */
DK_MUST_USE bool dk_cache_has(struct dk_cache *cache, const struct dk_key_name *name);
/* Where a slot's generation stands: valid as long as the cache. */
const _Atomic uint32_t *dk_cache_generation(struct dk_cache *cache, uint32_t slot);
/* Grows whenever any generation does: while it stands still, none needs to be looked at. */
const _Atomic uint64_t *dk_cache_changes(struct dk_cache *cache);

void dk_cache_forget_all(struct dk_cache *cache);
/* Forgets every version of these tenants, at once. */
void dk_cache_forget(struct dk_cache *cache, const struct dk_tenant *tenants, size_t count);

/*
 * Adds sealed messages to what is known of a slot's version (if it is still the generation) and
 * returns the sum; 0 when the slot has moved on.
 */
int64_t dk_cache_add_messages(struct dk_cache *cache, uint32_t slot, uint32_t generation,
                              int64_t count);

struct dk_cache_stats {
    int64_t loads;    /* calls of the source below that gave a key */
    int64_t failures; /* ... that gave an error */
    int64_t evictions;
    int64_t keys; /* held now */
};
struct dk_cache_stats dk_cache_stats(struct dk_cache *cache);

#endif
