#include "keys/thread.h"

#include <pthread.h>

#include "keys/counts.h"

#define NONE DK_HOT_KEYS
#define TENANT_AT 11 /* after lp("dk1") and the length of the tenant */

struct dk_threads {
    struct dk_core *core;
    struct dk_cache *cache;
    pthread_key_t key;
    pthread_mutex_t lock; /* guards first; taken before a thread's own */
    struct dk_thread *first;
    _Atomic int64_t uses;
};

/* ---- counting -------------------------------------------------------------------------------- */

static struct dk_tenant tenant_of(const struct dk_hot *hot)
{
    struct dk_tenant tenant = {.n = hot->tenant_n};
    memcpy(tenant.s, hot->aad + TENANT_AT, hot->tenant_n);
    return tenant;
}

/* What is known of the version afterwards: sealed by all, and pending here. */
struct folded {
    int64_t sum;
    int64_t pending;
};

static struct folded fold_locked(struct dk_threads *threads, struct dk_hot *hot)
{
    struct folded known = {0, 0};
    int64_t uses = atomic_load_explicit(&hot->uses, memory_order_relaxed);
    int64_t more = uses - hot->folded;
    if (more <= 0) {
        return known;
    }
    bool seals = hot->asked == DK_VERSION_ACTIVE;
    hot->folded = uses;
    atomic_fetch_add_explicit(&threads->uses, more, memory_order_relaxed);
    known.sum =
        dk_cache_add_uses(threads->cache, hot->slot, hot->generation, more, seals ? more : 0);
    if (seals) {
        struct dk_tenant tenant = tenant_of(hot);
        known.pending = dk_counts_add(threads->core->counts, &tenant, hot->version, more);
    }
    return known;
}

static void fold_thread(struct dk_threads *threads, struct dk_thread *thread)
{
    pthread_mutex_lock(&thread->lock);
    for (unsigned i = 0; i < thread->count; i++) {
        (void)fold_locked(threads, &thread->hot[i]);
    }
    pthread_mutex_unlock(&thread->lock);
}

void dk_threads_fold(struct dk_threads *threads)
{
    pthread_mutex_lock(&threads->lock);
    for (struct dk_thread *t = threads->first; t != NULL; t = t->next_thread) {
        fold_thread(threads, t);
    }
    pthread_mutex_unlock(&threads->lock);
}

int64_t dk_threads_uses(struct dk_threads *threads)
{
    return atomic_load_explicit(&threads->uses, memory_order_relaxed);
}

static dk_rc check_budget(const struct dk_core *core, const struct dk_hot *hot, struct folded known,
                          struct dk_err *err)
{
    if (known.sum >= core->limits.encrypt_messages) {
        return DK_FAIL(err, KEY_EXHAUSTED, "version %u of tenant %.*s has sealed %lld messages",
                       hot->version, (int)hot->tenant_n, (const char *)hot->aad + TENANT_AT,
                       (long long)known.sum);
    }
    if (known.pending >= core->limits.unflushed_max) {
        return DK_FAIL(
            err, KEY_EXHAUSTED, "%lld messages of tenant %.*s could not be counted in the store",
            (long long)known.pending, (int)hot->tenant_n, (const char *)hot->aad + TENANT_AT);
    }
    return DK_OK;
}

dk_rc dk_thread_fold_one(struct dk_thread *thread, struct dk_hot *hot, struct dk_err *err)
{
    struct dk_threads *threads = thread->all;
    pthread_mutex_lock(&thread->lock);
    struct folded known = fold_locked(threads, hot);
    pthread_mutex_unlock(&thread->lock);
    dk_rc rc = check_budget(threads->core, hot, known, err);
    if (rc != DK_OK) {
        hot->fresh_until_ms = INT64_MIN; /* every later call looks at the budget again */
    }
    return rc;
}

/* ---- threads --------------------------------------------------------------------------------- */

static void free_thread(struct dk_threads *threads, struct dk_thread *thread)
{
    for (unsigned i = 0; i < thread->count; i++) {
        threads->core->suite.aead->key_free(thread->hot[i].key);
    }
    dk_nonce_pool_free(thread->nonces);
    dk_secret_free(threads->core->arena, &thread->scratch);
    pthread_mutex_destroy(&thread->lock);
    dk_mem_free(&threads->core->world->mem, thread);
}

/* A thread ends: its counts stay, its keys go. */
static void end_thread(void *arg)
{
    struct dk_thread *thread = arg;
    struct dk_threads *threads = thread->all;
    pthread_mutex_lock(&threads->lock);
    fold_thread(threads, thread);
    struct dk_thread **link = &threads->first;
    while (*link != thread) {
        link = &(*link)->next_thread;
    }
    *link = thread->next_thread;
    pthread_mutex_unlock(&threads->lock);
    free_thread(threads, thread);
}

dk_rc dk_threads_open(struct dk_core *core, struct dk_cache *cache, struct dk_threads **out,
                      struct dk_err *err)
{
    struct dk_threads *threads = dk_mem_zalloc(&core->world->mem, sizeof *threads);
    if (threads == NULL || pthread_key_create(&threads->key, end_thread) != 0) {
        dk_mem_free(&core->world->mem, threads);
        return DK_FAIL(err, NOMEM, "no memory, or no thread-specific key");
    }
    threads->core = core;
    threads->cache = cache;
    pthread_mutex_init(&threads->lock, NULL);
    *out = threads;
    return DK_OK;
}

void dk_threads_close(struct dk_threads *threads)
{
    if (threads == NULL) {
        return;
    }
    pthread_key_delete(threads->key);
    while (threads->first != NULL) {
        struct dk_thread *thread = threads->first;
        threads->first = thread->next_thread;
        free_thread(threads, thread);
    }
    pthread_mutex_destroy(&threads->lock);
    dk_mem_free(&threads->core->world->mem, threads);
}

void dk_threads_after_fork(struct dk_threads *threads)
{
    pthread_mutex_init(&threads->lock, NULL);
    atomic_store(&threads->uses, 0);
    for (struct dk_thread *t = threads->first; t != NULL; t = t->next_thread) {
        pthread_mutex_init(&t->lock, NULL);
        t->scratch = (struct dk_secret){0}; /* the cell went with the arena */
        for (unsigned i = 0; i < t->count; i++) {
            t->hot[i].folded = atomic_load_explicit(&t->hot[i].uses, memory_order_relaxed);
        }
    }
}

static dk_rc new_thread(struct dk_threads *threads, struct dk_thread **out, struct dk_err *err)
{
    const struct dk_mem *mem = &threads->core->world->mem;
    struct dk_thread *thread = dk_mem_zalloc(mem, sizeof *thread);
    struct dk_nonce_pool *nonces = dk_nonce_pool_new();
    if (thread == NULL || nonces == NULL || pthread_setspecific(threads->key, thread) != 0) {
        dk_nonce_pool_free(nonces);
        dk_mem_free(mem, thread);
        return DK_FAIL(err, NOMEM, "no memory for a thread's contexts");
    }
    thread->all = threads;
    thread->nonces = nonces;
    thread->changes = dk_cache_changes(threads->cache);
    pthread_mutex_init(&thread->lock, NULL);
    memset(thread->buckets, NONE, sizeof thread->buckets);
    pthread_mutex_lock(&threads->lock);
    thread->next_thread = threads->first;
    threads->first = thread;
    pthread_mutex_unlock(&threads->lock);
    *out = thread;
    return DK_OK;
}

dk_rc dk_thread_get(struct dk_threads *threads, struct dk_thread **out, struct dk_err *err)
{
    *out = pthread_getspecific(threads->key);
    return *out != NULL ? DK_OK : new_thread(threads, out, err);
}

struct dk_secret dk_thread_scratch(struct dk_thread *thread)
{
    if (thread->scratch.cell == NULL) {
        struct dk_err none;
        dk_err_clear(&none);
        dk_rc ignored =
            dk_secret_new(thread->all->core->arena, DK_FIELD_SECRET, &thread->scratch, &none);
        (void)ignored;
    }
    return thread->scratch;
}

/* ---- hot keys -------------------------------------------------------------------------------- */

static inline uint64_t load_word(const uint8_t *p)
{
    uint64_t word;
    memcpy(&word, p, sizeof word);
    return word;
}

/*
 * Spreads ids over the chains; a bad spread costs time, never correctness. The products do not
 * wait for each other; the last word overlaps the one before it.
 */
static inline uint32_t hash_of(struct dk_view tenant, uint32_t asked)
{
    uint64_t k = 0x9E3779B97F4A7C15u;
    uint64_t h = (asked + tenant.n) * k;
    if (tenant.n >= 8) {
        h ^= load_word(tenant.p + tenant.n - 8) * 0xD6E8FEB86659FD93u;
        for (size_t i = 0; i + 8 < tenant.n; i += 8) {
            k += 0xA0761D6478BD642Eu; /* even: the factor stays odd */
            h += load_word(tenant.p + i) * k;
        }
    } else {
        for (size_t i = 0; i < tenant.n; i++) {
            h += (uint64_t)tenant.p[i] << (8 * i);
        }
        h *= 0xD6E8FEB86659FD93u;
    }
    h ^= h >> 32;
    return (uint32_t)((h * 0x9E3779B97F4A7C15u) >> 32);
}

/* Ids differ at their end, more often than not: that is looked at first. */
static inline bool is_of(const struct dk_hot *hot, struct dk_view tenant, uint32_t asked)
{
    const uint8_t *own = hot->aad + TENANT_AT;
    return hot->asked == asked && hot->tenant_n == tenant.n &&
           (tenant.n < 8 || load_word(own + tenant.n - 8) == load_word(tenant.p + tenant.n - 8)) &&
           memcmp(own, tenant.p, tenant.n) == 0;
}

static inline struct dk_hot *find(struct dk_thread *thread, struct dk_view tenant, uint32_t asked,
                                  uint32_t hash)
{
    for (uint8_t i = thread->buckets[hash % DK_HOT_BUCKETS]; i != NONE; i = thread->hot[i].next) {
        struct dk_hot *hot = &thread->hot[i];
        if (hot->hash == hash && is_of(hot, tenant, asked)) {
            return hot;
        }
    }
    return NULL;
}

/* Folds the entry and takes it out of its chain; its context stays with it. */
static void unlink_locked(struct dk_thread *thread, struct dk_hot *hot)
{
    uint8_t i = (uint8_t)(hot - thread->hot);
    (void)fold_locked(thread->all, hot);
    uint8_t *link = &thread->buckets[hot->hash % DK_HOT_BUCKETS];
    while (*link != i) {
        link = &thread->hot[*link].next;
    }
    *link = hot->next;
    thread->last = NULL;
}

/* Of an entry that is in no chain. */
static void unkey(struct dk_thread *thread, struct dk_hot *hot)
{
    struct dk_aead_key *key = hot->key;
    hot->key = NULL; /* first: a fork here must not leave a freed pointer to the child */
    thread->all->core->suite.aead->key_free(key);
}

/*
 * Some slot was given up since the last look: contexts of such a slot are freed now. The slots of
 * those that were used are told so: hits on contexts do not come by the cache.
 */
__attribute__((noinline)) static void look_through(struct dk_thread *thread, uint64_t changes)
{
    struct dk_cache *cache = thread->all->cache;
    pthread_mutex_lock(&thread->lock);
    for (unsigned i = 0; i < thread->count; i++) {
        struct dk_hot *hot = &thread->hot[i];
        int64_t uses = atomic_load_explicit(&hot->uses, memory_order_relaxed);
        if (hot->key == NULL) {
            continue;
        }
        if (atomic_load_explicit(hot->slot_generation, memory_order_acquire) != hot->generation) {
            unlink_locked(thread, hot);
            unkey(thread, hot);
        } else if (uses != hot->uses_seen) {
            dk_cache_warm(cache, hot->slot, uses - hot->uses_seen);
        }
        hot->uses_seen = uses;
    }
    thread->changes_seen = changes;
    pthread_mutex_unlock(&thread->lock);
}

struct dk_hot *dk_thread_find(struct dk_thread *thread, struct dk_view tenant, uint32_t asked,
                              int64_t now_ms)
{
    uint64_t changes = atomic_load_explicit(thread->changes, memory_order_acquire);
    if (changes != thread->changes_seen) {
        look_through(thread, changes);
    }
    struct dk_hot *hot = thread->last;
    if (hot == NULL || !is_of(hot, tenant, asked)) {
        hot = thread->last = find(thread, tenant, asked, hash_of(tenant, asked));
    }
    return hot != NULL && now_ms < hot->fresh_until_ms ? hot : NULL;
}

/* A free entry: a new one, or the first that was not used since the hand came by last. */
static struct dk_hot *take_locked(struct dk_thread *thread)
{
    if (thread->count < DK_HOT_KEYS) {
        return &thread->hot[thread->count++];
    }
    for (;;) {
        struct dk_hot *hot = &thread->hot[thread->hand];
        thread->hand = (thread->hand + 1) % DK_HOT_KEYS;
        if (hot->key == NULL) {
            return hot;
        }
        if (!hot->used_lately) {
            unlink_locked(thread, hot);
            return hot;
        }
        hot->used_lately = false;
    }
}

static void fill(struct dk_cache *cache, struct dk_hot *hot, const struct dk_key_name *name,
                 const struct dk_live_key *key)
{
    hot->slot_generation = dk_cache_generation(cache, key->slot);
    hot->generation = key->generation;
    hot->slot = key->slot;
    hot->asked = name->version;
    hot->version = key->version;
    hot->tenant_n = name->tenant.n;
    hot->used_lately = true;
    memcpy(hot->commitment, dk_secret_expose_for_crypto(&key->okm) + DK_AEAD_KEY,
           DK_FIELD_COMMITMENT);
    hot->aad_n = (uint8_t)dk_field_aad_prefix(&name->tenant, key->version, hot->aad);
    dk_put_u32(hot->aad + hot->aad_n, 0); /* an empty context: count 0 */
}

/* Keys a new context, or that of the entry anew. On an error the entry is empty. */
static dk_rc key_context(struct dk_thread *thread, struct dk_hot *hot, uint32_t asked,
                         const struct dk_secret *okm, struct dk_err *err)
{
    const struct dk_suite *suite = &thread->all->core->suite;
    enum dk_aead_way way = asked == DK_VERSION_ACTIVE ? DK_AEAD_SEAL : DK_AEAD_OPEN;
    if (hot->key == NULL) {
        return suite->aead->key_new(suite, okm, way, &hot->key, err);
    }
    dk_rc rc = suite->aead->key_change(suite, okm, way, hot->key, err);
    if (rc != DK_OK) {
        unkey(thread, hot);
    }
    return rc;
}

/* Puts the key into the entry of its name, or into one that is free. */
static dk_rc replace(struct dk_thread *thread, const struct dk_key_name *name,
                     const struct dk_live_key *key, uint32_t hash, struct dk_hot **at,
                     struct dk_err *err)
{
    struct dk_hot *hot = *at;
    pthread_mutex_lock(&thread->lock);
    if (hot != NULL) {
        unlink_locked(thread, hot);
    } else {
        hot = take_locked(thread);
    }
    pthread_mutex_unlock(&thread->lock);
    DK_TRY(key_context(thread, hot, name->version, &key->okm, err));
    pthread_mutex_lock(&thread->lock);
    fill(thread->all->cache, hot, name, key);
    hot->hash = hash;
    hot->next = thread->buckets[hash % DK_HOT_BUCKETS];
    thread->buckets[hash % DK_HOT_BUCKETS] = (uint8_t)(hot - thread->hot);
    pthread_mutex_unlock(&thread->lock);
    *at = hot;
    return DK_OK;
}

dk_rc dk_thread_key(struct dk_thread *thread, const struct dk_key_name *name,
                    const struct dk_live_key *key, struct dk_hot **out, struct dk_err *err)
{
    struct dk_threads *threads = thread->all;
    const struct dk_limits *limits = &threads->core->limits;
    struct dk_view tenant = dk_tenant_view(&name->tenant);
    uint32_t hash = hash_of(tenant, name->version);
    struct dk_hot *hot = find(thread, tenant, name->version, hash);
    bool seals = name->version == DK_VERSION_ACTIVE; /* what opens has no budget */
    if (seals && key->messages >= limits->encrypt_messages) {
        return DK_FAIL(err, KEY_EXHAUSTED, "version %u of tenant %s has sealed %lld messages",
                       key->version, name->tenant.s, (long long)key->messages);
    }
    if (hot == NULL || hot->slot != key->slot || hot->generation != key->generation) {
        DK_TRY(replace(thread, name, key, hash, &hot, err));
    }
    if (seals && dk_counts_reach(threads->core->counts, limits->unflushed_max)) {
        struct folded known = {
            key->messages, dk_counts_pending(threads->core->counts, &name->tenant, key->version)};
        DK_TRY(check_budget(threads->core, hot, known, err));
    }
    hot->fresh_until_ms = key->fresh_until_ms;
    *out = hot;
    return DK_OK;
}
