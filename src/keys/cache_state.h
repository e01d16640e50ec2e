/*
 * cache_state: what cache.c (one call) and refresh.c (batches, ticks, forgetting) share of a cache.
 */
#ifndef DK_KEYS_CACHE_STATE_H
#define DK_KEYS_CACHE_STATE_H

#include <pthread.h>

#include "keys/cache.h"
#include "keys/flights.h"
#include "keys/slots.h"

#define DK_REFRESH_QUEUE 256

/* What calls found due, for the next tick. */
struct dk_refresh_queue {
    size_t count;
    struct dk_hash128 ids[DK_REFRESH_QUEUE];
    struct dk_key_name names[DK_REFRESH_QUEUE];
};

struct dk_cache {
    struct dk_core *core;
    struct dk_key_source below;
    uint8_t hash_key[16];
    int64_t born_ms;           /* times of slots count from here */
    _Atomic int64_t ticked_ms; /* INT64_MIN: never */
    pthread_mutex_t lock;      /* guards everything below; see keys/slots for who reads without */
    struct dk_slots slots;
    struct dk_flights flights;
    struct dk_refresh_queue queue;
    uint32_t swept;      /* slots before this one were looked at by the ticks */
    uint32_t forgets;    /* grows with every dk_cache_forget: a fetch older than it is not kept */
    uint32_t forgetting; /* at work now: what is to go yet is lent to nobody */
    uint32_t revoked;    /* core->revoked.times, as far as keys were let go for it */
    struct dk_cache_stats stats;
    struct dk_key_lender lender;
};

/* One name that is asked for, from the look-up to the landing. */
struct dk_ask {
    const struct dk_key_name *name;
    struct dk_hash128 id;
    int64_t asked_ms; /* before the fetch */
    uint32_t forgets; /* as they stood then */
    uint32_t slot;    /* where it lies now */
    bool stale;       /* the old key serves on, and the log is to be told */
};

struct dk_hash128 dk_cache_id(const struct dk_cache *cache, const struct dk_key_name *name);
/* The `hi` of the identities of a tenant. */
uint64_t dk_cache_tenant_hash(const struct dk_cache *cache, const struct dk_tenant *tenant);
int64_t dk_cache_now(const struct dk_cache *cache);

/* The slot of the version that encrypts is this very version, and not opened too long ago: it will
   be lent to `name`. */
DK_MUST_USE bool dk_cache_has_twin(const struct dk_cache *cache, const struct dk_key_name *name,
                                   struct dk_hash128 id);

/* Keeps what was fetched; the same key again keeps slot and generation. */
void dk_cache_keep_locked(struct dk_cache *cache, struct dk_ask *ask,
                          const struct dk_live_key *key);
/* DK_OK: the old key serves through an outage. Else `rc`: what the registry refuses is gone. */
DK_MUST_USE dk_rc dk_cache_miss_locked(struct dk_cache *cache, struct dk_ask *ask, dk_rc rc);
/* Logs that it serves on; without the lock, for the log may be slow. */
void dk_cache_tell_stale(struct dk_cache *cache, const struct dk_ask *ask, dk_rc rc);

#endif
