#include "keys/thread.h"

#include <pthread.h>

#include "keys/counts.h"

#define NONE DK_HOT_KEYS
#define TENANT_AT 11 /* after lp("dk1") and the length of the tenant */

struct dk_threads {
    struct dk_core *core;
    struct dk_cache *cache;
    pthread_key_t key;
    pthread_mutex_t lock; /* guards first, uses, and of every hot key all but its owner's reads */
    struct dk_thread *first;
    int64_t uses;
};

/* ---- counting ------------------------------------------------------------------------------- */

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
    if (more > 0) {
        hot->folded = uses;
        threads->uses += more;
    }
    if (more > 0 && hot->asked == DK_VERSION_ACTIVE) {
        struct dk_tenant tenant = tenant_of(hot);
        known.sum = dk_cache_add_messages(threads->cache, hot->slot, hot->generation, more);
        known.pending = dk_counts_add(threads->core->counts, &tenant, hot->version, more);
    }
    return known;
}

static void fold_thread_locked(struct dk_threads *threads, struct dk_thread *thread)
{
    for (unsigned i = 0; i < thread->count; i++) {
        (void)fold_locked(threads, &thread->hot[i]);
    }
}

void dk_threads_fold(struct dk_threads *threads)
{
    pthread_mutex_lock(&threads->lock);
    for (struct dk_thread *t = threads->first; t != NULL; t = t->next_thread) {
        fold_thread_locked(threads, t);
    }
    pthread_mutex_unlock(&threads->lock);
}

int64_t dk_threads_uses(struct dk_threads *threads)
{
    pthread_mutex_lock(&threads->lock);
    int64_t uses = threads->uses;
    pthread_mutex_unlock(&threads->lock);
    return uses;
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
    pthread_mutex_lock(&threads->lock);
    struct folded known = fold_locked(threads, hot);
    pthread_mutex_unlock(&threads->lock);
    dk_rc rc = check_budget(threads->core, hot, known, err);
    if (rc != DK_OK) {
        hot->fresh_until_ms = INT64_MIN; /* every later call looks at the budget again */
    }
    return rc;
}

/* ---- threads -------------------------------------------------------------------------------- */

static void free_thread(struct dk_threads *threads, struct dk_thread *thread)
{
    for (unsigned i = 0; i < thread->count; i++) {
        threads->core->suite.aead->key_free(thread->hot[i].key);
    }
    dk_nonce_pool_free(thread->nonces);
    dk_mem_free(&threads->core->world->mem, thread);
}

/* A thread ends: its counts stay, its keys go. */
static void end_thread(void *arg)
{
    struct dk_thread *thread = arg;
    struct dk_threads *threads = thread->all;
    pthread_mutex_lock(&threads->lock);
    fold_thread_locked(threads, thread);
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
    threads->uses = 0;
    for (struct dk_thread *t = threads->first; t != NULL; t = t->next_thread) {
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

/* ---- hot keys ------------------------------------------------------------------------------- */

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
static uint32_t hash_of(struct dk_view tenant, uint32_t asked)
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

static struct dk_hot *find(struct dk_thread *thread, struct dk_view tenant, uint32_t asked,
                           uint32_t hash)
{
    for (uint8_t i = thread->buckets[hash % DK_HOT_BUCKETS]; i != NONE; i = thread->hot[i].next) {
        struct dk_hot *hot = &thread->hot[i];
        if (hot->hash == hash && hot->asked == asked && hot->tenant_n == tenant.n &&
            memcmp(hot->aad + TENANT_AT, tenant.p, tenant.n) == 0) {
            return hot;
        }
    }
    return NULL;
}

/* Some slot moved on since this key was looked at: was it its own? */
static bool look(struct dk_hot *hot, uint64_t changes)
{
    bool good = atomic_load_explicit(hot->slot_generation, memory_order_acquire) == hot->generation;
    hot->changes_seen = good ? changes : hot->changes_seen;
    return good;
}

struct dk_hot *dk_thread_find(struct dk_thread *thread, struct dk_view tenant, uint32_t asked,
                              int64_t now_ms)
{
    struct dk_hot *hot = find(thread, tenant, asked, hash_of(tenant, asked));
    if (hot == NULL) {
        return NULL;
    }
    uint64_t changes = atomic_load_explicit(thread->changes, memory_order_acquire);
    if (now_ms >= hot->fresh_until_ms || (changes != hot->changes_seen && !look(hot, changes))) {
        return NULL;
    }
    return hot;
}

/* Folds and unkeys the entry, and takes it out of its chain. */
static void empty_locked(struct dk_thread *thread, struct dk_hot *hot)
{
    struct dk_threads *threads = thread->all;
    uint8_t i = (uint8_t)(hot - thread->hot);
    (void)fold_locked(threads, hot);
    struct dk_aead_key *key = hot->key;
    hot->key = NULL; /* first: a fork here must not leave a freed pointer to the child */
    threads->core->suite.aead->key_free(key);
    uint8_t *link = &thread->buckets[hot->hash % DK_HOT_BUCKETS];
    while (*link != i) {
        link = &thread->hot[*link].next;
    }
    *link = hot->next;
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
        if (!hot->used_lately) {
            empty_locked(thread, hot);
            return hot;
        }
        hot->used_lately = false;
    }
}

static void fill(struct dk_hot *hot, const struct dk_key_name *name, const struct dk_live_key *key,
                 const _Atomic uint32_t *generation)
{
    hot->slot_generation = generation;
    hot->generation = key->generation;
    hot->slot = key->slot;
    hot->asked = name->version;
    hot->version = key->version;
    hot->tenant_n = name->tenant.n;
    hot->used_lately = true;
    memcpy(hot->commitment, dk_secret_expose_for_crypto(&key->okm) + DK_AEAD_KEY,
           DK_FIELD_COMMITMENT);
    hot->aad_n = (uint8_t)dk_field_aad_prefix(&name->tenant, key->version, hot->aad);
    hot->changes_seen = UINT64_MAX;       /* the first find looks */
    dk_put_u32(hot->aad + hot->aad_n, 0); /* an empty context: count 0 */
}

static struct dk_hot *replace_locked(struct dk_thread *thread, struct dk_hot *old,
                                     const struct dk_key_name *name, const struct dk_live_key *key,
                                     struct dk_aead_key *aead, const _Atomic uint32_t *generation)
{
    struct dk_hot *hot = old;
    if (hot != NULL) {
        empty_locked(thread, hot);
    } else {
        hot = take_locked(thread);
    }
    fill(hot, name, key, generation);
    hot->key = aead;
    hot->hash = hash_of(dk_tenant_view(&name->tenant), name->version);
    hot->next = thread->buckets[hot->hash % DK_HOT_BUCKETS];
    thread->buckets[hot->hash % DK_HOT_BUCKETS] = (uint8_t)(hot - thread->hot);
    return hot;
}

dk_rc dk_thread_key(struct dk_thread *thread, const struct dk_key_name *name,
                    const struct dk_live_key *key, struct dk_hot **out, struct dk_err *err)
{
    struct dk_threads *threads = thread->all;
    const struct dk_suite *suite = &threads->core->suite;
    struct dk_view tenant = dk_tenant_view(&name->tenant);
    struct dk_hot *hot = find(thread, tenant, name->version, hash_of(tenant, name->version));
    if (name->version == DK_VERSION_ACTIVE &&
        key->messages >= threads->core->limits.encrypt_messages) {
        return DK_FAIL(err, KEY_EXHAUSTED, "version %u of tenant %s has sealed %lld messages",
                       key->version, name->tenant.s, (long long)key->messages);
    }
    if (hot == NULL || hot->slot != key->slot || hot->generation != key->generation) {
        struct dk_aead_key *aead = NULL;
        enum dk_aead_way way = name->version == DK_VERSION_ACTIVE ? DK_AEAD_SEAL : DK_AEAD_OPEN;
        DK_TRY(suite->aead->key_new(suite, &key->okm, way, &aead, err));
        const _Atomic uint32_t *generation = dk_cache_generation(threads->cache, key->slot);
        pthread_mutex_lock(&threads->lock);
        hot = replace_locked(thread, hot, name, key, aead, generation);
        pthread_mutex_unlock(&threads->lock);
    }
    struct folded known = {0, 0}; /* what opens has no budget */
    if (name->version == DK_VERSION_ACTIVE) {
        known.sum = key->messages;
        known.pending = dk_counts_pending(threads->core->counts, &name->tenant, key->version);
    }
    DK_TRY(check_budget(threads->core, hot, known, err));
    hot->fresh_until_ms = key->fresh_until_ms;
    *out = hot;
    return DK_OK;
}
