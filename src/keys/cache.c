/* size: slots, flights and batches are one thing under one lock; apart they would share all of it.
 */
#include "keys/cache.h"

#include <pthread.h>
#include <stdlib.h>

#include "crypto/siphash.h"

#define CHUNK 1024 /* slots are allocated as they are needed */
#define NONE UINT32_MAX
#define FLIGHTS 64
/* A refresh that failed is tried again this much later; until then the old key serves. */
#define RETRY_MS 1000

struct slot {
    struct dk_hash128 id; /* of (tenant, version) */
    uint64_t tenant_hash;
    struct dk_secret okm; /* empty = the slot is free */
    _Atomic uint32_t generation;
    uint32_t version;
    uint32_t next; /* in the bucket's chain, or in the free list */
    bool referenced;
    int64_t soft_ms;
    int64_t hard_ms;
    int64_t messages;
};

struct flight {
    struct dk_hash128 id;
    bool busy;
    bool done;
    unsigned waiters;
    struct dk_err err; /* err.rc = the answer */
};

struct dk_cache {
    struct dk_core *core;
    struct dk_key_source below;
    uint8_t hash_key[16];
    pthread_mutex_t lock; /* guards everything below */
    pthread_cond_t landed;
    _Atomic uint64_t changes; /* generations moved on; read without the lock */
    struct slot **chunks;
    uint32_t slot_count; /* made so far */
    uint32_t free_slot;
    uint32_t *buckets;
    uint32_t bucket_mask;
    uint32_t hand;    /* of the clock that finds a victim */
    uint32_t forgets; /* grows with every dk_cache_forget: a fetch older than it is not kept */
    struct flight flights[FLIGHTS];
    const struct dk_hash128 *batch; /* of the one batch in the air; NULL = none */
    size_t batch_count;
    struct dk_cache_stats stats;
};

static struct slot *slot_at(struct dk_cache *cache, uint32_t i)
{
    return &cache->chunks[i / CHUNK][i % CHUNK];
}

/* Keyed contexts of the slot are worth nothing from now on. */
static void move_on(struct dk_cache *cache, struct slot *slot)
{
    atomic_fetch_add(&slot->generation, 1);
    atomic_fetch_add(&cache->changes, 1);
}

/* ---- identities (I21) ----------------------------------------------------------------------- */

static uint64_t hash_tenant(const struct dk_cache *cache, const struct dk_tenant *tenant)
{
    return dk_siphash128(cache->hash_key, (const uint8_t *)tenant->s, tenant->n).hi;
}

/* lp(provider) | lp(tenant) | u32(version); the hash key is this cache's own. */
static struct dk_hash128 hash_name(const struct dk_cache *cache, const struct dk_key_name *name)
{
    uint8_t text[4 + 32 + 4 + DK_TENANT_MAX + 4];
    const char *provider = dk_provider_name(cache->core->provider);
    uint8_t *p = dk_put_lp(text, provider, strnlen(provider, 32));
    p = dk_put_lp(p, name->tenant.s, name->tenant.n);
    p = dk_put_u32(p, name->version);
    return dk_siphash128(cache->hash_key, text, (size_t)(p - text));
}

static bool same_id(struct dk_hash128 a, struct dk_hash128 b)
{
    return a.lo == b.lo && a.hi == b.hi;
}

/* ---- open and close ------------------------------------------------------------------------- */

static void forget_all_locked(struct dk_cache *cache);

static bool alloc_tables(struct dk_cache *cache)
{
    const struct dk_mem *mem = &cache->core->world->mem;
    uint32_t buckets = 64;
    while (buckets < cache->core->limits.max_keys) {
        buckets *= 2;
    }
    cache->bucket_mask = buckets - 1;
    cache->buckets = dk_mem_alloc(mem, buckets * sizeof *cache->buckets);
    size_t chunks = (cache->core->limits.max_keys + CHUNK - 1) / CHUNK;
    cache->chunks = dk_mem_zalloc(mem, chunks * sizeof(*cache->chunks));
    if (cache->buckets == NULL || cache->chunks == NULL) {
        return false;
    }
    memset(cache->buckets, 0xFF, buckets * sizeof *cache->buckets);
    return true;
}

static void free_tables(struct dk_cache *cache)
{
    const struct dk_mem *mem = &cache->core->world->mem;
    for (uint32_t i = 0; cache->chunks != NULL && i < cache->slot_count; i += CHUNK) {
        dk_mem_free(mem, cache->chunks[i / CHUNK]);
    }
    dk_mem_free(mem, cache->chunks);
    dk_mem_free(mem, cache->buckets);
    dk_mem_free(mem, cache);
}

dk_rc dk_cache_open(struct dk_core *core, const struct dk_key_source *below, struct dk_cache **out,
                    struct dk_err *err)
{
    struct dk_cache *cache = dk_mem_zalloc(&core->world->mem, sizeof *cache);
    if (cache == NULL) {
        return DK_FAIL(err, NOMEM, "no memory for the key cache");
    }
    cache->core = core;
    cache->below = *below;
    cache->free_slot = NONE;
    if (!alloc_tables(cache) ||
        dk_random_fill(core->world, cache->hash_key, sizeof cache->hash_key, err) != DK_OK) {
        free_tables(cache);
        return DK_FAIL(err, NOMEM, "no memory for the key cache");
    }
    pthread_mutex_init(&cache->lock, NULL);
    pthread_cond_init(&cache->landed, NULL);
    *out = cache;
    return DK_OK;
}

void dk_cache_close(struct dk_cache *cache)
{
    if (cache != NULL) {
        forget_all_locked(cache);
        pthread_cond_destroy(&cache->landed);
        pthread_mutex_destroy(&cache->lock);
        free_tables(cache);
    }
}

void dk_cache_after_fork(struct dk_cache *cache)
{
    pthread_mutex_init(&cache->lock, NULL); /* a thread that is gone may have held them */
    pthread_cond_init(&cache->landed, NULL);
    memset(cache->flights, 0, sizeof cache->flights);
    cache->batch = NULL;
    cache->batch_count = 0;
    memset(cache->buckets, 0xFF, (cache->bucket_mask + 1u) * sizeof *cache->buckets);
    cache->free_slot = NONE;
    cache->stats.keys = 0;
    for (uint32_t i = 0; i < cache->slot_count; i++) {
        struct slot *slot = slot_at(cache, i);
        move_on(cache, slot);
        slot->okm = (struct dk_secret){0}; /* the cells went with the arena */
        slot->next = cache->free_slot;
        cache->free_slot = i;
    }
}

/* ---- slots ---------------------------------------------------------------------------------- */

static uint32_t *bucket_of(struct dk_cache *cache, struct dk_hash128 id)
{
    return &cache->buckets[id.lo & cache->bucket_mask];
}

static uint32_t find_locked(struct dk_cache *cache, struct dk_hash128 id)
{
    uint32_t i = *bucket_of(cache, id);
    while (i != NONE && !same_id(slot_at(cache, i)->id, id)) {
        i = slot_at(cache, i)->next;
    }
    return i;
}

/* Held, and within its soft TTL. */
static bool is_fresh_locked(struct dk_cache *cache, uint32_t i, int64_t now)
{
    return i != NONE && now < slot_at(cache, i)->soft_ms;
}

static void drop_locked(struct dk_cache *cache, uint32_t i)
{
    struct slot *slot = slot_at(cache, i);
    uint32_t *link = bucket_of(cache, slot->id);
    while (*link != i) {
        link = &slot_at(cache, *link)->next;
    }
    *link = slot->next;
    move_on(cache, slot);
    dk_secret_free(cache->core->arena, &slot->okm);
    slot->next = cache->free_slot;
    cache->free_slot = i;
    cache->stats.keys--;
}

static void forget_all_locked(struct dk_cache *cache)
{
    for (uint32_t i = 0; i < cache->slot_count; i++) {
        if (slot_at(cache, i)->okm.cell != NULL) {
            drop_locked(cache, i);
        }
    }
}

/* Second chance: the first slot that was not used since the hand came by last. */
static void evict_one_locked(struct dk_cache *cache)
{
    for (;;) {
        uint32_t i = cache->hand;
        cache->hand = (cache->hand + 1) % cache->slot_count;
        struct slot *slot = slot_at(cache, i);
        if (slot->okm.cell == NULL) {
            continue;
        }
        if (!slot->referenced) {
            drop_locked(cache, i);
            cache->stats.evictions++;
            return;
        }
        slot->referenced = false;
    }
}

static bool grow_locked(struct dk_cache *cache)
{
    uint32_t max = (uint32_t)cache->core->limits.max_keys;
    if (cache->slot_count >= max) {
        return false;
    }
    uint32_t n = max - cache->slot_count < CHUNK ? max - cache->slot_count : CHUNK;
    struct slot *chunk = dk_mem_zalloc(&cache->core->world->mem, n * sizeof *chunk);
    if (chunk == NULL) {
        return false;
    }
    cache->chunks[cache->slot_count / CHUNK] = chunk;
    for (uint32_t k = n; k-- > 0;) {
        chunk[k].next = cache->free_slot;
        cache->free_slot = cache->slot_count + k;
    }
    cache->slot_count += n;
    return true;
}

/* A free slot, made, or freed by eviction; NONE only without any memory at all. */
static uint32_t take_slot_locked(struct dk_cache *cache)
{
    if (cache->free_slot == NONE && !grow_locked(cache)) {
        if (cache->slot_count == 0) {
            return NONE;
        }
        evict_one_locked(cache);
    }
    uint32_t i = cache->free_slot;
    cache->free_slot = slot_at(cache, i)->next;
    return i;
}

static bool copy_out_locked(struct dk_cache *cache, uint32_t i, struct dk_live_key *out,
                            struct dk_err *err)
{
    struct slot *slot = slot_at(cache, i);
    *out = (struct dk_live_key){.version = slot->version,
                                .messages = slot->messages,
                                .slot = i,
                                .generation = atomic_load(&slot->generation),
                                .fresh_until_ms = slot->soft_ms};
    if (dk_secret_new(cache->core->arena, slot->okm.n, &out->okm, err) != DK_OK) {
        return false;
    }
    memcpy(dk_secret_expose_for_crypto(&out->okm), dk_secret_expose_for_crypto(&slot->okm),
           slot->okm.n);
    slot->referenced = true;
    return true;
}

/* A key whose tenant may have changed while it was fetched serves the asking call, not the next. */
#define LONG_AGO (INT64_MIN / 2)

/* Keeps what the source below gave; takes the key over. */
static uint32_t keep_locked(struct dk_cache *cache, const struct dk_key_name *name,
                            struct dk_hash128 id, struct dk_live_key *key, int64_t asked_ms)
{
    uint32_t i = find_locked(cache, id);
    if (i != NONE) {
        struct slot *old = slot_at(cache, i);
        if (old->version == key->version && dk_secret_equal(&old->okm, &key->okm)) {
            dk_secret_free(cache->core->arena, &key->okm); /* the same key: contexts stay good */
        } else {
            drop_locked(cache, i);
            i = NONE;
        }
    }
    if (i == NONE) {
        i = take_slot_locked(cache);
        if (i == NONE) {
            return NONE;
        }
        struct slot *slot = slot_at(cache, i);
        slot->id = id;
        slot->tenant_hash = hash_tenant(cache, &name->tenant);
        slot->okm = key->okm;
        slot->version = key->version;
        slot->next = *bucket_of(cache, id);
        *bucket_of(cache, id) = i;
        cache->stats.keys++;
    }
    struct slot *slot = slot_at(cache, i);
    slot->messages = key->messages;
    slot->referenced = true;
    /* From before the fetch, never sliding. */
    slot->soft_ms = asked_ms + cache->core->limits.ttl_ms;
    slot->hard_ms = asked_ms + cache->core->limits.hard_ttl_ms;
    key->okm = (struct dk_secret){0};
    return i;
}

/* ---- one flight a key ----------------------------------------------------------------------- */

static struct flight *find_flight_locked(struct dk_cache *cache, struct dk_hash128 id)
{
    for (size_t k = 0; k < FLIGHTS; k++) {
        struct flight *flight = &cache->flights[k];
        if (flight->busy && !flight->done && same_id(flight->id, id)) {
            return flight;
        }
    }
    return NULL;
}

/* True when the batch in the air brings this key. */
static bool is_in_batch_locked(const struct dk_cache *cache, struct dk_hash128 id)
{
    for (size_t k = 0; k < cache->batch_count; k++) {
        if (same_id(cache->batch[k], id)) {
            return true;
        }
    }
    return false;
}

static struct flight *start_flight_locked(struct dk_cache *cache, struct dk_hash128 id)
{
    for (size_t k = 0; k < FLIGHTS; k++) {
        struct flight *flight = &cache->flights[k];
        if (!flight->busy) {
            *flight = (struct flight){.id = id, .busy = true};
            return flight;
        }
    }
    return NULL;
}

/* Waits for another caller's flight; its error is ours, its success is in the table. */
static dk_rc wait_locked(struct dk_cache *cache, struct flight *flight, struct dk_err *err)
{
    flight->waiters++;
    while (!flight->done) {
        pthread_cond_wait(&cache->landed, &cache->lock);
    }
    dk_rc rc = flight->err.rc;
    if (rc != DK_OK) {
        *err = flight->err;
    }
    if (--flight->waiters == 0) {
        flight->busy = false;
        pthread_cond_broadcast(&cache->landed); /* a place for another flight */
    }
    return rc;
}

/* An outage, during which a key in hand goes on until its hard TTL. */
static bool is_outage(dk_rc rc)
{
    return rc == DK_E_UNREACHABLE || rc == DK_E_BUSY || rc == DK_E_STORE || rc == DK_E_IO ||
           rc == DK_E_NOMEM || rc == DK_E_NO_MASTER_KEY;
}

/* Fetches from below with the lock released, and keeps or forgets. */
static dk_rc fly_locked(struct dk_cache *cache, const struct dk_key_name *name,
                        struct flight *flight, int64_t now, struct dk_live_key *out,
                        struct dk_err *err)
{
    struct dk_hash128 id = flight->id;
    struct dk_live_key key = {0};
    dk_err_clear(&flight->err);
    struct dk_err cause;
    dk_err_clear(&cause);
    uint32_t forgets = cache->forgets;
    pthread_mutex_unlock(&cache->lock);
    dk_rc rc = cache->below.get(cache->below.self, name, &key, &cause);
    pthread_mutex_lock(&cache->lock);
    uint32_t i = NONE;
    if (rc == DK_OK) {
        cache->stats.loads++;
        i = keep_locked(cache, name, id, &key, forgets == cache->forgets ? now : LONG_AGO);
        rc = i == NONE ? DK_FAIL(&cause, NOMEM, "no memory to keep a key") : DK_OK;
        dk_secret_free(cache->core->arena, &key.okm);
    } else {
        cache->stats.failures++;
        i = find_locked(cache, id);
        if (i != NONE && is_outage(rc) && now < slot_at(cache, i)->hard_ms) {
            DK_LOG(&cache->core->log, WARN, "key_not_refreshed", DK_LOG_S(TENANT, name->tenant.s),
                   DK_LOG_S(CODE, dk_error_info(rc)->name));
            int64_t hard_ms = slot_at(cache, i)->hard_ms;
            slot_at(cache, i)->soft_ms = now + RETRY_MS < hard_ms ? now + RETRY_MS : hard_ms;
            rc = DK_OK;
        } else if (i != NONE) {
            drop_locked(cache, i); /* what the registry refuses now is not served from memory */
        }
    }
    if (rc == DK_OK && !copy_out_locked(cache, i, out, &cause)) {
        rc = cause.rc;
    }
    flight->done = true;
    if (rc != DK_OK) {
        flight->err = cause;
        *err = cause;
    }
    flight->busy = flight->waiters > 0;
    pthread_cond_broadcast(&cache->landed);
    return rc;
}

static dk_rc get_locked(struct dk_cache *cache, const struct dk_key_name *name,
                        struct dk_live_key *out, struct dk_err *err)
{
    struct dk_hash128 id = hash_name(cache, name);
    for (;;) {
        int64_t now = dk_mono_ms(cache->core->world);
        uint32_t i = find_locked(cache, id);
        struct flight *flight = find_flight_locked(cache, id);
        bool fresh = is_fresh_locked(cache, i, now);
        bool usable = i != NONE && now < slot_at(cache, i)->hard_ms;
        bool in_batch = is_in_batch_locked(cache, id);
        if (fresh || (usable && (flight != NULL || in_batch))) { /* another brings the new one */
            return copy_out_locked(cache, i, out, err) ? DK_OK : err->rc;
        }
        if (flight != NULL) {
            DK_TRY(wait_locked(cache, flight, err));
            continue;
        }
        if (in_batch) {
            pthread_cond_wait(&cache->landed, &cache->lock);
            continue;
        }
        flight = start_flight_locked(cache, id);
        if (flight != NULL) {
            return fly_locked(cache, name, flight, now, out, err);
        }
        pthread_cond_wait(&cache->landed, &cache->lock);
    }
}

static dk_rc cache_get(void *self, const struct dk_key_name *name, struct dk_live_key *out,
                       struct dk_err *err)
{
    struct dk_cache *cache = self;
    pthread_mutex_lock(&cache->lock);
    dk_rc rc = get_locked(cache, name, out, err);
    pthread_mutex_unlock(&cache->lock);
    return rc;
}

/* ---- batches -------------------------------------------------------------------------------- */

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

/* Those of the names that neither memory has nor a flight is fetching. */
static void choose_locked(struct dk_cache *cache, const struct dk_key_name *names, size_t count,
                          struct batch *batch)
{
    int64_t now = dk_mono_ms(cache->core->world);
    for (size_t k = 0; k < count; k++) {
        struct dk_hash128 id = hash_name(cache, &names[k]);
        bool fresh = is_fresh_locked(cache, find_locked(cache, id), now);
        if (!fresh && find_flight_locked(cache, id) == NULL) {
            batch->ids[batch->count] = id;
            batch->names[batch->count++] = names[k];
        }
    }
}

static void fly_batch_locked(struct dk_cache *cache, struct batch *batch)
{
    struct dk_err err;
    int64_t now = dk_mono_ms(cache->core->world);
    uint32_t forgets = cache->forgets;
    dk_err_clear(&err);
    cache->batch = batch->ids;
    cache->batch_count = batch->count;
    pthread_mutex_unlock(&cache->lock);
    dk_rc all = cache->below.get_many(cache->below.self, batch->names, batch->count, batch->keys,
                                      batch->rc, &err);
    pthread_mutex_lock(&cache->lock);
    now = forgets == cache->forgets ? now : LONG_AGO;
    for (size_t k = 0; k < batch->count && all == DK_OK; k++) {
        cache->stats.loads += batch->rc[k] == DK_OK;
        cache->stats.failures += batch->rc[k] != DK_OK;
        if (batch->rc[k] == DK_OK) {
            (void)keep_locked(cache, &batch->names[k], batch->ids[k], &batch->keys[k], now);
            dk_secret_free(cache->core->arena, &batch->keys[k].okm);
        }
    }
    cache->batch = NULL;
    cache->batch_count = 0;
    pthread_cond_broadcast(&cache->landed);
}

void dk_cache_prefetch(struct dk_cache *cache, const struct dk_key_name *names, size_t count)
{
    const struct dk_mem *mem = &cache->core->world->mem;
    struct batch batch = {.count = 0};
    if (alloc_batch(mem, count, &batch)) {
        pthread_mutex_lock(&cache->lock);
        while (cache->batch != NULL) { /* it may bring what this one wants */
            pthread_cond_wait(&cache->landed, &cache->lock);
        }
        choose_locked(cache, names, count, &batch);
        if (batch.count > 0) {
            fly_batch_locked(cache, &batch);
        }
        pthread_mutex_unlock(&cache->lock);
    }
    free_batch(mem, &batch);
}

struct dk_key_source dk_cache_source(struct dk_cache *cache)
{
    return (struct dk_key_source){.self = cache, .get = cache_get};
}

bool dk_cache_has(struct dk_cache *cache, const struct dk_key_name *name)
{
    pthread_mutex_lock(&cache->lock);
    uint32_t i = find_locked(cache, hash_name(cache, name));
    bool has = is_fresh_locked(cache, i, dk_mono_ms(cache->core->world));
    pthread_mutex_unlock(&cache->lock);
    return has;
}

const _Atomic uint32_t *dk_cache_generation(struct dk_cache *cache, uint32_t slot)
{
    pthread_mutex_lock(&cache->lock);
    const _Atomic uint32_t *generation = &slot_at(cache, slot)->generation;
    pthread_mutex_unlock(&cache->lock);
    return generation;
}

const _Atomic uint64_t *dk_cache_changes(struct dk_cache *cache)
{
    return &cache->changes;
}

void dk_cache_forget_all(struct dk_cache *cache)
{
    pthread_mutex_lock(&cache->lock);
    cache->forgets++;
    forget_all_locked(cache);
    pthread_mutex_unlock(&cache->lock);
}

static int compare_hashes(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* Drops what belongs to one of the sorted hashes. */
static void forget_hashes_locked(struct dk_cache *cache, const uint64_t *hashes, size_t count)
{
    for (uint32_t i = 0; i < cache->slot_count; i++) {
        struct slot *slot = slot_at(cache, i);
        if (slot->okm.cell != NULL &&
            bsearch(&slot->tenant_hash, hashes, count, sizeof *hashes, compare_hashes) != NULL) {
            drop_locked(cache, i);
        }
    }
}

void dk_cache_forget(struct dk_cache *cache, const struct dk_tenant *tenants, size_t count)
{
    enum { AT_ONCE = 256 };
    uint64_t hashes[AT_ONCE];
    pthread_mutex_lock(&cache->lock);
    cache->forgets++;
    for (size_t at = 0; at < count; at += AT_ONCE) {
        size_t n = count - at < AT_ONCE ? count - at : AT_ONCE;
        for (size_t k = 0; k < n; k++) {
            hashes[k] = hash_tenant(cache, &tenants[at + k]);
        }
        qsort(hashes, n, sizeof *hashes, compare_hashes);
        forget_hashes_locked(cache, hashes, n);
    }
    pthread_mutex_unlock(&cache->lock);
}

int64_t dk_cache_add_messages(struct dk_cache *cache, uint32_t i, uint32_t generation,
                              int64_t count)
{
    int64_t sum = 0;
    pthread_mutex_lock(&cache->lock);
    struct slot *slot = slot_at(cache, i);
    if (atomic_load(&slot->generation) == generation) {
        slot->messages += count;
        sum = slot->messages;
    }
    pthread_mutex_unlock(&cache->lock);
    return sum;
}

struct dk_cache_stats dk_cache_stats(struct dk_cache *cache)
{
    pthread_mutex_lock(&cache->lock);
    struct dk_cache_stats stats = cache->stats;
    pthread_mutex_unlock(&cache->lock);
    return stats;
}
