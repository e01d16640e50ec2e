#include "keys/cache_state.h"

/* A refresh that failed is tried again this much later; until then the old key serves. */
#define RETRY_MS 1000
/* A call that left a refresh to the tick looks again this much later. */
#define LOOK_AGAIN_MS 1000
/* Without a tick for so many polls, calls refresh by themselves. */
#define POLLS_WITHOUT_TICK 3
/* ---- identities (I21) ------------------------------------------------------------------------ */

/*
 * The key of all identities: of this process's randomness, and of the provider and its key that
 * everything here was unwrapped by.
 */
static dk_rc make_hash_key(struct dk_cache *cache, struct dk_err *err)
{
    struct dk_core *core = cache->core;
    struct dk_provider_info info;
    uint8_t random[16], text[4 + 32 + 4 + DK_KMS_KEY_ID_MAX];
    const char *name = dk_provider_name(core->provider);
    DK_TRY(dk_random_fill(core->world, random, sizeof random, err));
    DK_TRY(dk_provider_describe(core->provider, &info, err));
    uint8_t *p = dk_put_lp(text, name, strnlen(name, 32));
    p = dk_put_lp(p, info.kms_key_id, strnlen(info.kms_key_id, DK_KMS_KEY_ID_MAX));
    struct dk_hash128 key = dk_siphash128(random, text, (size_t)(p - text));
    memcpy(cache->hash_key, &key.lo, 8);
    memcpy(cache->hash_key + 8, &key.hi, 8);
    return DK_OK;
}

uint64_t dk_cache_tenant_hash(const struct dk_cache *cache, const struct dk_tenant *tenant)
{
    return dk_siphash128(cache->hash_key, (const uint8_t *)tenant->s, tenant->n).hi;
}

/*
 * 128 bits of the tenant, the version mixed in one to one: versions of a tenant never meet, and two
 * tenants meet as seldom as two hashes of 128 bits. `hi` stays the tenant's own.
 */
struct dk_hash128 dk_cache_id(const struct dk_cache *cache, const struct dk_key_name *name)
{
    struct dk_hash128 id =
        dk_siphash128(cache->hash_key, (const uint8_t *)name->tenant.s, name->tenant.n);
    id.lo ^= name->version * UINT64_C(0x9E3779B97F4A7C15);
    return id;
}

/* ---- time ------------------------------------------------------------------------------------ */

int64_t dk_cache_now(const struct dk_cache *cache)
{
    return dk_mono_ms(cache->core->world) - cache->born_ms;
}

/* 80 to 90 % of the TTL, each key at its own place: what came together does not go together. */
static int64_t due_of(const struct dk_cache *cache, struct dk_hash128 id, int64_t asked_ms)
{
    int64_t ttl = cache->core->limits.ttl_ms;
    int64_t place = (int64_t)((id.lo ^ id.hi) & 0xFFFF);
    return asked_ms + ttl * 8 / 10 + ttl / 10 * place / 0x10000;
}

/* A fetch that a change overtook was never fresh: it serves the call that asked, no other. */
static int64_t soft_of(const struct dk_cache *cache, const struct dk_slot_key *key)
{
    return key->asked_ms < 0 ? INT64_MIN : key->asked_ms + cache->core->limits.ttl_ms;
}

static int64_t hard_of(const struct dk_cache *cache, const struct dk_slot_key *key)
{
    return key->asked_ms < 0 ? INT64_MIN : key->asked_ms + cache->core->limits.hard_ttl_ms;
}

static bool is_ticking(const struct dk_cache *cache, int64_t now)
{
    int64_t ticked = atomic_load_explicit(&cache->ticked_ms, memory_order_relaxed);
    return ticked != INT64_MIN && now - ticked <= POLLS_WITHOUT_TICK * cache->core->limits.poll_ms;
}

/* An outage, during which a key in hand goes on until its hard TTL. A provider whose answers cannot
   be used says nothing about the key either. */
static bool is_outage(dk_rc rc)
{
    return rc == DK_E_UNREACHABLE || rc == DK_E_BUSY || rc == DK_E_STORE || rc == DK_E_IO ||
           rc == DK_E_NOMEM || rc == DK_E_THROTTLED || rc == DK_E_PROVIDER_DENIED ||
           rc == DK_E_PROVIDER || dk_revoked_is(rc);
}

/* ---- two names of one key -------------------------------------------------------------------- */

/*
 * The version that encrypts has two names, and is opened by one of them. What the other gets was
 * opened when that was: neither is ever younger for it, and who is due first asks the provider.
 */
static bool serves_twin(const struct dk_cache *cache, const struct dk_slot_key *key,
                        uint32_t version, struct dk_hash128 id)
{
    return key->version == version && key->asked_ms >= 0 &&
           dk_cache_now(cache) < due_of(cache, id, key->asked_ms);
}

static struct dk_hash128 active_id(const struct dk_cache *cache, const struct dk_key_name *name)
{
    const struct dk_key_name active = {.tenant = name->tenant, .version = DK_VERSION_ACTIVE};
    return dk_cache_id(cache, &active);
}

bool dk_cache_has_twin(const struct dk_cache *cache, const struct dk_key_name *name,
                       struct dk_hash128 id)
{
    struct dk_slot_key key;
    return name->version != DK_VERSION_ACTIVE &&
           dk_slots_peek(&cache->slots, active_id(cache, name), &key, NULL) &&
           serves_twin(cache, &key, name->version, id);
}

static bool lend_locked(struct dk_cache *cache, const struct dk_key_name *name,
                        struct dk_hash128 twin, uint32_t version, struct dk_live_key *out)
{
    struct dk_slot_key key;
    uint8_t *cell = dk_secret_expose_for_crypto(&out->okm);
    if (cache->forgetting > 0 || !dk_slots_peek(&cache->slots, twin, &key, cell) ||
        !serves_twin(cache, &key, version, dk_cache_id(cache, name))) {
        return false;
    }
    out->lent = true;
    out->asked_ms = key.asked_ms;
    return true;
}

static dk_rc lend(void *self, const struct dk_key_name *name, uint32_t version, bool waits,
                  struct dk_live_key *out, struct dk_err *err)
{
    struct dk_cache *cache = self;
    const struct dk_key_name by_version = {.tenant = name->tenant, .version = version};
    struct dk_hash128 twin = dk_cache_id(cache, &by_version);
    struct dk_live_key key = {.version = version};
    struct dk_err theirs;
    dk_rc rc = DK_OK;
    dk_err_clear(&theirs);
    DK_TRY(dk_secret_new(cache->core->arena, DK_FIELD_SECRET, &key.okm, err));
    pthread_mutex_lock(&cache->lock);
    struct dk_flight *flight = waits ? dk_flights_find(&cache->flights, twin) : NULL;
    if (flight != NULL && is_outage(dk_flights_wait(&cache->flights, flight, &theirs))) {
        *err = theirs;
        rc = theirs.rc;
    } else if (!lend_locked(cache, name, twin, version, &key)) {
        rc = DK_E_NOT_FOUND;
    }
    pthread_mutex_unlock(&cache->lock);
    if (rc != DK_OK) {
        dk_secret_free(cache->core->arena, &key.okm);
        return rc;
    }
    *out = key;
    return DK_OK;
}

/* ---- open and close -------------------------------------------------------------------------- */

size_t dk_cache_table_bytes(size_t keys)
{
    return dk_slots_bytes(keys);
}

size_t dk_cache_keys_fitting(size_t bytes)
{
    return dk_slots_fitting(bytes);
}

static dk_rc take_table(struct dk_cache *cache, struct dk_err *err)
{
    size_t keys = cache->core->limits.max_keys, n = 0;
    uint64_t seed;
    uint8_t *table = dk_arena_expose_table_for_cache(cache->core->arena, &n);
    if (n < dk_slots_bytes(keys)) {
        return DK_FAIL(err, INTERNAL, "the arena has no room for %zu keys", keys);
    }
    memcpy(&seed, cache->hash_key, sizeof seed);
    dk_slots_init(&cache->slots, table, keys, seed);
    return DK_OK;
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
    cache->born_ms = dk_mono_ms(core->world);
    cache->ticked_ms = INT64_MIN;
    dk_rc rc = make_hash_key(cache, err);
    rc = rc == DK_OK ? take_table(cache, err) : rc;
    if (rc != DK_OK) {
        dk_mem_free(&core->world->mem, cache);
        return rc;
    }
    pthread_mutex_init(&cache->lock, NULL);
    dk_flights_init(&cache->flights, &cache->lock);
    cache->lender = (struct dk_key_lender){cache, lend};
    core->lender = &cache->lender;
    *out = cache;
    return DK_OK;
}

void dk_cache_close(struct dk_cache *cache)
{
    if (cache != NULL) {
        cache->core->lender = NULL;
        dk_slots_drop_range_locked(&cache->slots, 0, UINT32_MAX, NULL, 0);
        dk_flights_clear(&cache->flights);
        pthread_mutex_destroy(&cache->lock);
        dk_mem_free(&cache->core->world->mem, cache);
    }
}

void dk_cache_after_fork(struct dk_cache *cache)
{
    pthread_mutex_init(&cache->lock, NULL); /* a thread that is gone may have held it */
    dk_flights_init(&cache->flights, &cache->lock);
    dk_slots_after_fork(&cache->slots);
    cache->queue.count = 0;
    cache->swept = 0;
    cache->forgetting = 0;
    atomic_store(&cache->ticked_ms, INT64_MIN);
}

/* ---- what a fetch brought -------------------------------------------------------------------- */

/* A master key was taken away (keys/revoked): nothing that it opened stays. */
static void let_go_locked(struct dk_cache *cache)
{
    uint32_t times = atomic_load(&cache->core->revoked.times);
    if (times != cache->revoked) {
        cache->revoked = times;
        cache->forgets++;
        dk_slots_drop_range_locked(&cache->slots, 0, UINT32_MAX, NULL, 0);
    }
}

/* The same key again keeps its slot and generation: contexts keyed with it stay good. */
void dk_cache_keep_locked(struct dk_cache *cache, struct dk_ask *ask, const struct dk_live_key *key)
{
    struct dk_slots *slots = &cache->slots;
    let_go_locked(cache);
    const uint8_t *okm = dk_secret_expose_for_crypto(&key->okm);
    ask->slot = dk_slots_find_locked(slots, ask->id);
    bool miss = ask->slot == DK_SLOT_NONE;
    if (!miss && !dk_slots_same_locked(slots, ask->slot, key->version, okm)) {
        dk_slots_drop_locked(slots, ask->slot);
        ask->slot = DK_SLOT_NONE;
    }
    if (ask->slot == DK_SLOT_NONE) {
        ask->slot = dk_slots_put_locked(slots, ask->id, key->version, okm, &cache->stats.evictions);
    }
    int64_t asked_ms = key->lent ? key->asked_ms : ask->asked_ms;
    bool current = ask->forgets == cache->forgets;
    dk_slots_set_messages(slots, ask->slot, key->messages);
    dk_slots_set_times(slots, ask->slot, current ? asked_ms : -1, due_of(cache, ask->id, asked_ms));
    if (!key->lent) {
        cache->stats.loads++;
        cache->stats.misses += miss;
        dk_slots_count_unwrap(slots, ask->slot, miss);
    }
}

/* The old key serves through an outage; what the registry refuses now does not serve any more. */
dk_rc dk_cache_miss_locked(struct dk_cache *cache, struct dk_ask *ask, dk_rc rc)
{
    struct dk_slot_key key;
    int64_t now = dk_cache_now(cache);
    cache->stats.failures++;
    let_go_locked(cache);
    ask->slot = dk_slots_find_locked(&cache->slots, ask->id);
    if (ask->slot == DK_SLOT_NONE) {
        return rc;
    }
    if (!is_outage(rc) || !dk_slots_peek(&cache->slots, ask->id, &key, NULL) ||
        now >= hard_of(cache, &key)) {
        dk_slots_drop_locked(&cache->slots, ask->slot);
        return rc;
    }
    int64_t hard = hard_of(cache, &key);
    int64_t again = now + RETRY_MS < hard ? now + RETRY_MS : hard;
    dk_slots_set_times(&cache->slots, ask->slot, key.asked_ms, again);
    ask->stale = true;
    return DK_OK;
}

void dk_cache_tell_stale(struct dk_cache *cache, const struct dk_ask *ask, dk_rc rc)
{
    if (ask->stale) {
        DK_LOG(&cache->core->log, WARN, "key_not_refreshed", DK_LOG_S(TENANT, ask->name->tenant.s),
               DK_LOG_S(CODE, dk_error_info(rc)->name));
    }
}

/* ---- one call -------------------------------------------------------------------------------- */

/* The key is in out->okm; what stands beside it. */
static void fill(const struct dk_cache *cache, const struct dk_slot_key *key, int64_t fresh_until,
                 struct dk_live_key *out)
{
    out->version = key->version;
    out->messages = key->messages;
    out->slot = key->slot;
    out->generation = key->generation;
    out->fresh_until_ms = fresh_until == INT64_MIN ? INT64_MIN : fresh_until + cache->born_ms;
}

/* For the next tick, once. False: there is no place. */
static bool queue_locked(struct dk_refresh_queue *queue, const struct dk_ask *ask)
{
    for (size_t i = 0; i < queue->count; i++) {
        if (queue->ids[i].lo == ask->id.lo && queue->ids[i].hi == ask->id.hi) {
            return true;
        }
    }
    if (queue->count == DK_REFRESH_QUEUE) {
        return false;
    }
    queue->ids[queue->count] = ask->id;
    queue->names[queue->count++] = *ask->name;
    return true;
}

/* Fetches from below with the lock released. `out` gets the key, new or old. */
static dk_rc fly_locked(struct dk_cache *cache, struct dk_flight *flight, struct dk_ask *ask,
                        struct dk_live_key *out, struct dk_err *err)
{
    struct dk_live_key key = {0};
    struct dk_slot_key kept;
    struct dk_err cause;
    uint8_t *cell = dk_secret_expose_for_crypto(&out->okm);
    dk_err_clear(&cause);
    ask->forgets = cache->forgets;
    pthread_mutex_unlock(&cache->lock);
    dk_rc got = cache->below.get(cache->below.self, ask->name, &key, &cause);
    pthread_mutex_lock(&cache->lock);
    dk_rc rc = got;
    if (got == DK_OK) {
        dk_cache_keep_locked(cache, ask, &key);
        dk_secret_free(cache->core->arena, &key.okm);
    } else {
        rc = dk_cache_miss_locked(cache, ask, got);
    }
    if (rc == DK_OK) {
        dk_err_clear(&cause);
        if (dk_slots_read(&cache->slots, ask->id, &kept, cell)) {
            fill(cache, &kept, kept.asked_ms < 0 ? INT64_MIN : kept.due_ms, out);
        } else {
            rc = DK_FAIL(&cause, INTERNAL, "a key was kept and is not there");
        }
    } else {
        *err = cause;
    }
    dk_flights_land(&cache->flights, flight, &cause);
    if (ask->stale) {
        pthread_mutex_unlock(&cache->lock);
        dk_cache_tell_stale(cache, ask, got);
        pthread_mutex_lock(&cache->lock);
    }
    return rc;
}

/* A key that is fresh, or due while somebody else brings the new one; and until when. */
static bool serves_on_locked(struct dk_cache *cache, const struct dk_ask *ask,
                             const struct dk_slot_key *key, int64_t *fresh_until)
{
    int64_t now = ask->asked_ms, soft = soft_of(cache, key);
    *fresh_until = key->due_ms; /* the next call looks again */
    if (now < key->due_ms || dk_flights_find(&cache->flights, ask->id) != NULL ||
        dk_flights_in_batch(&cache->flights, ask->id)) {
        return true;
    }
    if (now < soft && is_ticking(cache, now) && queue_locked(&cache->queue, ask)) {
        *fresh_until = now + LOOK_AGAIN_MS < soft ? now + LOOK_AGAIN_MS : soft;
        return true;
    }
    return false;
}

/* The same key by its other name, into `out`, and kept by this one. */
static bool borrow_locked(struct dk_cache *cache, struct dk_ask *ask, struct dk_live_key *out)
{
    const struct dk_key_name *name = ask->name;
    struct dk_slot_key kept;
    struct dk_live_key key = {.okm = out->okm, .version = name->version};
    if (name->version == DK_VERSION_ACTIVE ||
        !lend_locked(cache, name, active_id(cache, name), name->version, &key)) {
        return false;
    }
    ask->forgets = cache->forgets;
    dk_cache_keep_locked(cache, ask, &key);
    bool there = dk_slots_peek(&cache->slots, ask->id, &kept, NULL);
    if (there) {
        fill(cache, &kept, kept.asked_ms < 0 ? INT64_MIN : kept.due_ms, out);
    }
    return there;
}

static dk_rc get_locked(struct dk_cache *cache, struct dk_ask *ask, struct dk_live_key *out,
                        struct dk_err *err)
{
    struct dk_slots *slots = &cache->slots;
    struct dk_flights *flights = &cache->flights;
    uint8_t *cell = dk_secret_expose_for_crypto(&out->okm);
    for (;;) {
        struct dk_slot_key key;
        int64_t fresh_until = INT64_MIN;
        ask->asked_ms = dk_cache_now(cache);
        bool there = dk_slots_read(slots, ask->id, &key, cell);
        if (there && ask->asked_ms >= hard_of(cache, &key)) {
            dk_slots_drop_locked(slots, key.slot);
            there = false;
        }
        if ((!there || ask->asked_ms >= key.due_ms) && borrow_locked(cache, ask, out)) {
            return DK_OK;
        }
        if (there && serves_on_locked(cache, ask, &key, &fresh_until)) {
            fill(cache, &key, fresh_until, out);
            return DK_OK;
        }
        struct dk_flight *flight = dk_flights_find(flights, ask->id);
        if (flight != NULL) {
            DK_TRY(dk_flights_wait(flights, flight, err));
        } else if (dk_flights_in_batch(flights, ask->id)) {
            dk_flights_wait_for_batch(flights);
        } else if ((flight = dk_flights_start(flights, ask->id)) != NULL) {
            return fly_locked(cache, flight, ask, out, err);
        } else if (there) { /* all places are taken, maybe by a provider that hangs */
            fill(cache, &key, key.due_ms, out);
            return DK_OK;
        } else {
            dk_flights_wait_for_room(flights);
        }
    }
}

static bool look(struct dk_cache *cache, struct dk_hash128 id, int64_t now, struct dk_live_key *out)
{
    struct dk_slot_key key;
    uint8_t *cell = dk_secret_expose_for_crypto(&out->okm);
    if (!dk_slots_read(&cache->slots, id, &key, cell) || now >= key.due_ms) {
        return false;
    }
    fill(cache, &key, key.due_ms, out);
    return true;
}

bool dk_cache_look(struct dk_cache *cache, const struct dk_key_name *name, int64_t now_ms,
                   struct dk_live_key *out)
{
    return look(cache, dk_cache_id(cache, name), now_ms - cache->born_ms, out);
}

static dk_rc get_into(struct dk_cache *cache, const struct dk_key_name *name,
                      struct dk_live_key *out, struct dk_err *err)
{
    struct dk_ask ask = {.name = name, .id = dk_cache_id(cache, name)};
    if (look(cache, ask.id, dk_cache_now(cache), out)) {
        return DK_OK;
    }
    pthread_mutex_lock(&cache->lock);
    dk_rc rc = get_locked(cache, &ask, out, err);
    pthread_mutex_unlock(&cache->lock);
    return rc;
}

static dk_rc cache_get(void *self, const struct dk_key_name *name, struct dk_live_key *out,
                       struct dk_err *err)
{
    struct dk_cache *cache = self;
    struct dk_arena *arena = cache->core->arena;
    bool lent = out->okm.cell != NULL;
    if (!lent) {
        DK_TRY(dk_secret_new(arena, DK_FIELD_SECRET, &out->okm, err));
    }
    dk_rc rc = get_into(cache, name, out, err);
    if (rc != DK_OK && lent) {
        dk_secret_wipe(&out->okm);
    } else if (rc != DK_OK) {
        dk_secret_free(arena, &out->okm);
    }
    return rc;
}

struct dk_key_source dk_cache_source(struct dk_cache *cache)
{
    return (struct dk_key_source){.self = cache, .get = cache_get};
}

/* ---- beside calls ---------------------------------------------------------------------------- */

const _Atomic uint32_t *dk_cache_generation(struct dk_cache *cache, uint32_t slot)
{
    return dk_slots_generation(&cache->slots, slot);
}

const _Atomic uint64_t *dk_cache_changes(struct dk_cache *cache)
{
    return &cache->slots.changes;
}

void dk_cache_warm(struct dk_cache *cache, uint32_t slot, int64_t uses)
{
    dk_slots_warm(&cache->slots, slot, uses);
}

int64_t dk_cache_add_uses(struct dk_cache *cache, uint32_t slot, uint32_t generation, int64_t uses,
                          int64_t messages)
{
    return dk_slots_add_uses(&cache->slots, slot, generation, uses, messages);
}

struct dk_cache_stats dk_cache_stats(struct dk_cache *cache)
{
    pthread_mutex_lock(&cache->lock);
    struct dk_cache_stats stats = cache->stats;
    stats.keys = cache->slots.keys;
    stats.capacity = cache->slots.capacity;
    pthread_mutex_unlock(&cache->lock);
    return stats;
}

bool dk_cache_key_uses(struct dk_cache *cache, const struct dk_key_name *name,
                       struct dk_key_uses *out)
{
    pthread_mutex_lock(&cache->lock);
    uint32_t slot = dk_slots_find_locked(&cache->slots, dk_cache_id(cache, name));
    if (slot != DK_SLOT_NONE) {
        struct dk_slot_counts counts = dk_slots_counts(&cache->slots, slot);
        *out = (struct dk_key_uses){counts.version, counts.hits, counts.misses, counts.unwraps,
                                    counts.messages};
    }
    pthread_mutex_unlock(&cache->lock);
    return slot != DK_SLOT_NONE;
}
