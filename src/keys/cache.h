/*
 * cache: unwrapped keys in memory, behind the same face as the loader that it wraps.
 *
 * Called by keys/manager and keys/thread. A key that is there and fresh is copied out without a
 * lock: no other tenant's fetch, eviction or refresh can hold it up. All else goes through one lock
 * that is never held while store or provider are asked: one flight a key and a bound on flights
 * (keys/flights), a bound on keys (keys/slots). A key is fetched again ahead of its TTL, at 80 to
 * 90 % of it, each key at its own moment; it serves up to the hard TTL while that fails. Times are
 * counted from before the fetch, on the monotonic clock. Failures are not kept; what goes is
 * wiped. Shared by threads.
 */
#ifndef DK_KEYS_CACHE_H
#define DK_KEYS_CACHE_H

#include <stdatomic.h>

#include "keys/source.h"

struct dk_cache;

/* Bytes of the arena's table for so many keys, and keys for so many bytes. */
size_t dk_cache_table_bytes(size_t keys);
size_t dk_cache_keys_fitting(size_t bytes);

/*
 * `below` is copied; `core` is lent, and its arena has a table for core->limits.max_keys. E_NOMEM,
 * E_RANDOM, or why the provider does not tell the name of its key.
 */
DK_MUST_USE dk_rc dk_cache_open(struct dk_core *core, const struct dk_key_source *below,
                                struct dk_cache **out, struct dk_err *err);
/* Wipes what it holds. NULL is allowed. */
void dk_cache_close(struct dk_cache *cache);
/*
 * A key source with one thing more: who comes with a cell in out->okm gets the key into that, and
 * keeps it, wiped, on an error: no lock of the arena is taken.
 */
struct dk_key_source dk_cache_source(struct dk_cache *cache);
/*
 * The part of it that takes no lock: a key that is fresh at now_ms, into the cell in out->okm.
 * False: ask the source.
 */
DK_MUST_USE bool dk_cache_look(struct dk_cache *cache, const struct dk_key_name *name,
                               int64_t now_ms, struct dk_live_key *out);

/*
 * Fetches those of the names (no name twice) that are neither fresh nor on their way, all at once,
 * one batch at a time. What cannot be had is told by the call that asks for it.
 */
void dk_cache_prefetch(struct dk_cache *cache, const struct dk_key_name *names, size_t count);
/*
 * Fetches what calls have found due since the last tick, and gives up some of what is past its hard
 * TTL. While ticks come, no call fetches a key that still serves.
 */
void dk_cache_tick(struct dk_cache *cache);

/* In a child process, alone: everything is forgotten, every generation is over. */
void dk_cache_after_fork(struct dk_cache *cache);

/* Where a slot's generation stands: valid as long as the cache. */
const _Atomic uint32_t *dk_cache_generation(struct dk_cache *cache, uint32_t slot);
/* Grows whenever a generation ends: while it stands still, none needs to be looked at. */
const _Atomic uint64_t *dk_cache_changes(struct dk_cache *cache);
/* A slot's key was used through a keyed context: it is not the next to go. */
void dk_cache_warm(struct dk_cache *cache, uint32_t slot, int64_t uses);

void dk_cache_forget_all(struct dk_cache *cache);
/* Forgets every version of these tenants, at once. */
void dk_cache_forget(struct dk_cache *cache, const struct dk_tenant *tenants, size_t count);

/*
 * Adds uses, and messages sealed, to what is known of a slot's version (if it is still the
 * generation) and returns the messages; 0 when the slot has changed hands. Takes no lock.
 */
int64_t dk_cache_add_uses(struct dk_cache *cache, uint32_t slot, uint32_t generation, int64_t uses,
                          int64_t messages);

struct dk_cache_stats {
    int64_t loads;    /* keys that the source below gave */
    int64_t misses;   /* ... for a name that was not there */
    int64_t failures; /* errors that it gave */
    int64_t evictions;
    int64_t keys; /* held now */
    int64_t capacity;
};
struct dk_cache_stats dk_cache_stats(struct dk_cache *cache);

/* Of one name as it was asked for, since it is there; false: it is not there. */
struct dk_key_uses {
    uint32_t version;
    int64_t hits; /* as far as threads have told; stops at 2^32 */
    int64_t misses;
    int64_t unwraps; /* misses and refreshes */
    int64_t messages;
};
DK_MUST_USE bool dk_cache_key_uses(struct dk_cache *cache, const struct dk_key_name *name,
                                   struct dk_key_uses *out);

#endif
