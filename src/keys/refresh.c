#include "keys/cache_state.h"

#include <stdlib.h>

/* Slots that are looked at in one go: about 0.1 ms with the lock. */
#define AT_ONCE 4096

/* ---- batches --------------------------------------------------------------------------------- */

/* What a batch needs while it is in the air. */
struct batch {
    struct dk_key_name *names;
    struct dk_hash128 *ids;
    struct dk_live_key *keys;
    dk_rc *rc;
    size_t count;
};

static bool alloc_batch(const struct dk_mem *mem, size_t count, struct batch *batch)
{
    batch->names = dk_mem_alloc(mem, count * sizeof *batch->names);
    batch->ids = dk_mem_alloc(mem, count * sizeof *batch->ids);
    batch->keys = dk_mem_zalloc(mem, count * sizeof *batch->keys);
    batch->rc = dk_mem_alloc(mem, count * sizeof *batch->rc);
    return batch->names != NULL && batch->ids != NULL && batch->keys != NULL && batch->rc != NULL;
}

static void free_batch(const struct dk_mem *mem, struct batch *batch)
{
    dk_mem_free(mem, batch->names);
    dk_mem_free(mem, batch->ids);
    dk_mem_free(mem, batch->keys);
    dk_mem_free(mem, batch->rc);
}

static bool is_fresh(struct dk_cache *cache, const struct dk_key_name *name, struct dk_hash128 id)
{
    struct dk_slot_key key;
    return (dk_slots_peek(&cache->slots, id, &key, NULL) && dk_cache_now(cache) < key.due_ms) ||
           dk_cache_has_twin(cache, name, id);
}

/* The batch brings the version that encrypts, which is this one as far as is known: the call that
   asks for it gets it from there. */
static bool comes_along(struct dk_cache *cache, const struct dk_key_name *name,
                        const struct batch *batch)
{
    const struct dk_key_name active = {.tenant = name->tenant, .version = DK_VERSION_ACTIVE};
    struct dk_hash128 id = dk_cache_id(cache, &active);
    struct dk_slot_key key;
    if (!dk_slots_peek(&cache->slots, id, &key, NULL) || key.version != name->version) {
        return false;
    }
    for (size_t k = 0; k < batch->count; k++) {
        if (batch->ids[k].lo == id.lo && batch->ids[k].hi == id.hi) {
            return true;
        }
    }
    return false;
}

static void choose_these_locked(struct dk_cache *cache, const struct dk_key_name *names,
                                size_t count, bool active, struct batch *batch)
{
    for (size_t k = 0; k < count; k++) {
        struct dk_hash128 id = dk_cache_id(cache, &names[k]);
        if ((names[k].version == DK_VERSION_ACTIVE) == active && !is_fresh(cache, &names[k], id) &&
            dk_flights_find(&cache->flights, id) == NULL &&
            (active || !comes_along(cache, &names[k], batch))) {
            batch->ids[batch->count] = id;
            batch->names[batch->count++] = names[k];
        }
    }
}

/* Those of the names that neither memory has nor a flight is fetching. */
static void choose_locked(struct dk_cache *cache, const struct dk_key_name *names, size_t count,
                          struct batch *batch)
{
    choose_these_locked(cache, names, count, true, batch);
    choose_these_locked(cache, names, count, false, batch);
}

/* `all`: the answer of the whole batch; on an error no item has one of its own. */
static void land_batch_locked(struct dk_cache *cache, struct batch *batch, struct dk_ask *ask,
                              dk_rc all)
{
    for (size_t k = 0; k < batch->count; k++) {
        dk_rc rc = all == DK_OK ? batch->rc[k] : all;
        ask->name = &batch->names[k];
        ask->id = batch->ids[k];
        ask->stale = false;
        if (rc == DK_OK) {
            dk_cache_keep_locked(cache, ask, &batch->keys[k]);
            dk_secret_free(cache->core->arena, &batch->keys[k].okm);
        } else if (dk_cache_miss_locked(cache, ask, rc) == DK_OK) {
            batch->rc[k] = rc;
        } else {
            batch->rc[k] = DK_OK; /* nothing to tell: the call that asks for it will say why */
        }
    }
    dk_flights_land_batch(&cache->flights);
}

/* The outages through which old keys serve on, with the lock released. */
static void tell_batch(struct dk_cache *cache, const struct batch *batch)
{
    for (size_t k = 0; k < batch->count; k++) {
        struct dk_ask ask = {.name = &batch->names[k], .stale = batch->rc[k] != DK_OK};
        dk_cache_tell_stale(cache, &ask, batch->rc[k]);
    }
}

static void fly_batch_locked(struct dk_cache *cache, struct batch *batch)
{
    struct dk_err err;
    struct dk_ask ask = {.asked_ms = dk_cache_now(cache), .forgets = cache->forgets};
    dk_err_clear(&err);
    dk_flights_start_batch(&cache->flights, batch->ids, batch->count);
    pthread_mutex_unlock(&cache->lock);
    dk_rc all = cache->below.get_many(cache->below.self, batch->names, batch->count, batch->keys,
                                      batch->rc, &err);
    pthread_mutex_lock(&cache->lock);
    land_batch_locked(cache, batch, &ask, all);
}

static bool all_fresh(struct dk_cache *cache, const struct dk_key_name *names, size_t count)
{
    for (size_t k = 0; k < count; k++) {
        if (!is_fresh(cache, &names[k], dk_cache_id(cache, &names[k]))) {
            return false;
        }
    }
    return true;
}

void dk_cache_prefetch(struct dk_cache *cache, const struct dk_key_name *names, size_t count)
{
    const struct dk_mem *mem = &cache->core->world->mem;
    struct batch batch = {.count = 0};
    if (all_fresh(cache, names, count)) {
        return; /* no batch of others holds it up */
    }
    if (alloc_batch(mem, count, &batch)) {
        pthread_mutex_lock(&cache->lock);
        while (cache->flights.batch != NULL) { /* it may bring what this one wants */
            dk_flights_wait_for_batch(&cache->flights);
        }
        choose_locked(cache, names, count, &batch);
        if (batch.count > 0) {
            fly_batch_locked(cache, &batch);
        }
        pthread_mutex_unlock(&cache->lock);
        tell_batch(cache, &batch);
    }
    free_batch(mem, &batch);
}

/* ---- beside calls ---------------------------------------------------------------------------- */

/* Takes what is queued; the caller's to free. NULL: nothing, or no memory (the calls will do it).
 */
static struct dk_key_name *take_queue(struct dk_cache *cache, size_t *count)
{
    struct dk_key_name *names = NULL;
    pthread_mutex_lock(&cache->lock);
    *count = cache->queue.count;
    if (*count > 0) {
        names = dk_mem_alloc(&cache->core->world->mem, *count * sizeof *names);
    }
    if (names != NULL) {
        memcpy(names, cache->queue.names, *count * sizeof *names);
        cache->queue.count = 0;
    }
    pthread_mutex_unlock(&cache->lock);
    return names;
}

/* Keys that nobody asks for any more go at their hard TTL, a part of the table at each tick. */
static void sweep(struct dk_cache *cache)
{
    int64_t oldest = dk_cache_now(cache) - cache->core->limits.hard_ttl_ms;
    pthread_mutex_lock(&cache->lock);
    dk_slots_drop_old_locked(&cache->slots, cache->swept, cache->swept + AT_ONCE, oldest);
    cache->swept = cache->swept + AT_ONCE < cache->slots.used ? cache->swept + AT_ONCE : 0;
    pthread_mutex_unlock(&cache->lock);
}

void dk_cache_tick(struct dk_cache *cache)
{
    size_t count = 0;
    atomic_store_explicit(&cache->ticked_ms, dk_cache_now(cache), memory_order_relaxed);
    struct dk_key_name *names = take_queue(cache, &count);
    if (names != NULL) {
        dk_cache_prefetch(cache, names, count);
        dk_mem_free(&cache->core->world->mem, names);
    }
    sweep(cache);
}

/* The lock is given up now and then: who waits for it to fetch a key does not wait for all. */
static void forget(struct dk_cache *cache, const uint64_t *tenants, size_t count)
{
    uint32_t at = 0;
    pthread_mutex_lock(&cache->lock);
    cache->forgets++;
    cache->forgetting++;
    while (at < cache->slots.used) {
        dk_slots_drop_range_locked(&cache->slots, at, at + AT_ONCE, tenants, count);
        at += AT_ONCE;
        pthread_mutex_unlock(&cache->lock);
        pthread_mutex_lock(&cache->lock);
    }
    cache->forgetting--;
    pthread_mutex_unlock(&cache->lock);
}

void dk_cache_forget_all(struct dk_cache *cache)
{
    forget(cache, NULL, 0);
}

static int compare_hashes(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

void dk_cache_forget(struct dk_cache *cache, const struct dk_tenant *tenants, size_t count)
{
    uint64_t hashes[256];
    for (size_t at = 0; at < count; at += 256) {
        size_t n = count - at < 256 ? count - at : 256;
        for (size_t k = 0; k < n; k++) {
            hashes[k] = dk_cache_tenant_hash(cache, &tenants[at + k]);
        }
        qsort(hashes, n, sizeof *hashes, compare_hashes);
        forget(cache, hashes, n);
    }
}
