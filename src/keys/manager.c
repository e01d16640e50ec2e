/* Values through keys, and what happens beside them. */
#include <stdlib.h>

#include "keys/audit.h"
#include "keys/counts.h"
#include "keys/further.h"
#include "keys/loader.h"
#include "keys/manager_state.h"
#include "keys/registry.h"
#include "keys/rotate.h"
#include "keys/usage.h"
#include "keys/warning.h"

#define FLUSH_EVERY_MS (INT64_C(3600) * 1000)
#define WARN_EVERY_MS (INT64_C(3600) * 1000)
#define PREFETCH_MAX 2048

/* ---- open, close, fork ----------------------------------------------------------------------- */

static void schedule(struct dk_manager *manager)
{
    int64_t now = dk_mono_ms(manager->core->world);
    atomic_store(&manager->next_poll_ms, now + manager->core->limits.poll_ms);
    atomic_store(&manager->next_flush_ms, now + FLUSH_EVERY_MS);
}

static void free_parts(struct dk_manager *manager)
{
    struct dk_core *core = manager->core;
    dk_threads_close(manager->threads);
    dk_cache_close(manager->cache);
    dk_counts_close(core->counts);
    dk_usage_close(core->usage);
    core->counts = NULL;
    core->usage = NULL;
    pthread_mutex_destroy(&manager->poll_lock);
    dk_lease_destroy(&manager->lease);
    dk_mem_free(&core->world->mem, manager);
}

static dk_rc open_parts(struct dk_manager *manager, struct dk_err *err)
{
    struct dk_key_source loader = dk_loader_source(manager->core);
    DK_TRY(dk_counts_open(manager->core->world, &manager->core->counts, err));
    DK_TRY(dk_usage_open(manager->core->world, &manager->core->usage, err));
    DK_TRY(dk_cache_open(manager->core, &loader, &manager->cache, err));
    manager->keys = dk_cache_source(manager->cache);
    DK_TRY(dk_threads_open(manager->core, manager->cache, &manager->threads, err));
    DK_TRY(dk_poll_first(manager, err));
    return dk_audit_start(manager->core, err);
}

dk_rc dk_manager_open(struct dk_core *core, struct dk_manager **out, struct dk_err *err)
{
    struct dk_manager *manager = dk_mem_zalloc(&core->world->mem, sizeof *manager);
    if (manager == NULL) {
        return DK_FAIL(err, NOMEM, "no memory for the key manager");
    }
    manager->core = core;
    pthread_mutex_init(&manager->poll_lock, NULL);
    dk_lease_init(&manager->lease);
    dk_rc rc = open_parts(manager, err);
    if (rc != DK_OK) {
        free_parts(manager);
        return rc;
    }
    schedule(manager);
    *out = manager;
    return DK_OK;
}

static void rotate_full(void *arg, const struct dk_tenant *tenant, uint32_t version);

/* As of the last fold. */
static struct dk_manager_stats stats_of(struct dk_manager *manager)
{
    struct dk_cache_stats cache = dk_cache_stats(manager->cache);
    int64_t calls = dk_threads_uses(manager->threads);
    return (struct dk_manager_stats){.calls = calls,
                                     .hits = calls > cache.misses ? calls - cache.misses : 0,
                                     .misses = cache.misses,
                                     .unwraps = cache.loads,
                                     .failures = cache.failures,
                                     .evictions = cache.evictions,
                                     .cached_keys = cache.keys,
                                     .capacity = cache.capacity};
}

static void keep_usage(struct dk_manager *manager)
{
    struct dk_manager_stats stats = stats_of(manager);
    dk_usage_keep(manager->core, stats.hits, stats.misses);
}

static dk_rc flush(struct dk_manager *manager, struct dk_err *err)
{
    dk_threads_fold(manager->threads);
    dk_rc rc = dk_counts_flush(manager->core, rotate_full, manager, err);
    if (rc == DK_OK) {
        keep_usage(manager); /* a store that is busy is not waited for twice */
    } else {
        DK_LOG(&manager->core->log, WARN, "counts_not_flushed",
               DK_LOG_S(CODE, dk_error_info(rc)->name), DK_LOG_S(REASON, err->text));
    }
    return rc;
}

dk_rc dk_manager_costs(struct dk_manager *manager, int64_t days, struct dk_usage_costs *out,
                       struct dk_err *err)
{
    dk_threads_fold(manager->threads);
    keep_usage(manager);
    return dk_usage_costs(manager->core, days, out, err);
}

dk_rc dk_manager_close(struct dk_manager *manager, struct dk_err *err)
{
    dk_threads_fold(manager->threads);
    dk_rc rc = dk_counts_flush(manager->core, NULL, NULL, err);
    if (rc == DK_OK) {
        keep_usage(manager);
    }
    dk_poll_last(manager);
    free_parts(manager);
    return rc;
}

void dk_manager_abandon(struct dk_manager *manager)
{
    if (manager != NULL) {
        free_parts(manager);
    }
}

void dk_manager_after_fork(struct dk_manager *manager)
{
    pthread_mutex_init(&manager->poll_lock, NULL);
    pthread_mutex_init(&manager->lease.lock, NULL);
    dk_counts_after_fork(manager->core->counts);
    dk_cache_after_fork(manager->cache);
    dk_threads_after_fork(manager->threads);
    struct dk_manager_stats stats = stats_of(manager);
    dk_usage_after_fork(manager->core->usage, stats.hits, stats.misses);
    schedule(manager);
    atomic_store(&manager->next_poll_ms, INT64_MIN); /* look at once */
    atomic_store(&manager->next_hello_ms, 0);        /* a node of its own */
}

/* ---- what happens beside calls --------------------------------------------------------------- */

static bool flush_is_due(struct dk_manager *manager)
{
    int64_t now = dk_mono_ms(manager->core->world);
    int64_t due = atomic_load(&manager->next_flush_ms);
    bool hour_over = now >= due && atomic_compare_exchange_strong(&manager->next_flush_ms, &due,
                                                                  now + FLUSH_EVERY_MS);
    return hour_over ||
           dk_counts_want_flush(manager->core->counts, manager->core->limits.flush_messages);
}

/* One caller in each interval looks; the others go on. Its failures are logged, not returned. */
__attribute__((noinline)) static void poll_if_due(struct dk_manager *manager, int64_t now)
{
    int64_t due = atomic_load_explicit(&manager->next_poll_ms, memory_order_relaxed);
    struct dk_err err;
    if (now < due || !atomic_compare_exchange_strong(&manager->next_poll_ms, &due,
                                                     now + manager->core->limits.poll_ms)) {
        return;
    }
    dk_err_clear(&err);
    dk_rc ignored = dk_poll(manager, &err);
    if (flush_is_due(manager)) {
        dk_err_clear(&err);
        ignored = flush(manager, &err);
    }
    (void)ignored;
}

/* Once an hour; the first tick looks too. Of many nodes the one that leads. */
static dk_rc warn_if_due(struct dk_manager *manager, int64_t now, struct dk_err *err)
{
    int64_t due = atomic_load(&manager->next_warning_ms);
    bool elsewhere = manager->core->store.ops->lease != NULL && !atomic_load(&manager->leads);
    if (elsewhere || now < due ||
        !atomic_compare_exchange_strong(&manager->next_warning_ms, &due, now + WARN_EVERY_MS)) {
        return DK_OK;
    }
    struct dk_err cause;
    dk_err_clear(&cause);
    dk_rc rc = dk_warning_look(manager->core, NULL, NULL, NULL, &cause);
    if (rc == DK_OK || rc == DK_E_READ_ONLY || rc == DK_E_ROLLBACK) {
        return DK_OK; /* the last two have their own alarms; `health` goes on telling the keys */
    }
    *err = cause;
    return rc;
}

dk_rc dk_manager_tick(struct dk_manager *manager, struct dk_err *err)
{
    int64_t now = dk_mono_ms(manager->core->world);
    bool new_node =
        manager->core->store.ops->node != NULL && atomic_load(&manager->next_hello_ms) == 0;
    /* it may be the one that leads */
    bool polls = new_node || now >= atomic_load(&manager->next_poll_ms);
    if (polls) {
        atomic_store(&manager->next_poll_ms, now + manager->core->limits.poll_ms);
        DK_TRY(dk_poll(manager, err));
    }
    dk_poll_hello(manager);
    dk_cache_tick(manager->cache);
    dk_threads_fold(manager->threads);
    if (flush_is_due(manager)) {
        DK_TRY(flush(manager, err));
    }
    if (polls) {
        dk_further_tick(manager->core); /* asks providers, and may wait for them: after all else */
    }
    return warn_if_due(manager, now, err);
}

dk_rc dk_manager_accept(struct dk_manager *manager, const char *confirm, const char *by,
                        int64_t *tenants, struct dk_err *err)
{
    pthread_mutex_lock(&manager->poll_lock);
    dk_rc rc = dk_audit_accept(manager->core, confirm, by, tenants, err);
    pthread_mutex_unlock(&manager->poll_lock);
    dk_cache_forget_all(manager->cache);
    return rc;
}

/* The marks move past the row first: what is forgotten after that need not be forgotten again. */
static dk_rc write_clear(struct dk_manager *manager, const char *by, struct dk_err *err)
{
    struct dk_log_row row;
    struct dk_txn txn;
    bool cleared;
    DK_TRY(dk_audit_row(manager->core, by, "*", DK_CACHE_CLEAR, &row, err));
    DK_TRY(dk_audit_write_here(manager->core, &row, err));
    DK_TRY(dk_store_begin(&manager->core->store, DK_TXN_READ, &txn, err));
    dk_rc rc = dk_poll_see_clears(manager, &txn, &cleared, err);
    dk_store_rollback(&txn);
    return rc;
}

dk_rc dk_manager_clear(struct dk_manager *manager, const char *by, struct dk_err *err)
{
    pthread_mutex_lock(&manager->poll_lock);
    dk_rc rc = write_clear(manager, by, err);
    pthread_mutex_unlock(&manager->poll_lock);
    dk_cache_forget_all(manager->cache);
    return rc;
}

static bool ignore_rotation(void *arg, const struct dk_rotation *rotation)
{
    (void)arg;
    (void)rotation;
    return true;
}

/* R25: a version near its budget is rotated early. That it fails is logged there, and retried. */
static void rotate_full(void *arg, const struct dk_tenant *tenant, uint32_t version)
{
    struct dk_manager *manager = arg;
    struct dk_err err;
    struct dk_rotate_args args = {.which = DK_ROTATE_ONE, .tenant = tenant, .if_version = version};
    dk_err_clear(&err);
    dk_rc ignored = dk_rotate(manager->core, manager->cache, &args, ignore_rotation, NULL, &err);
    (void)ignored;
}

/* ---- one value ------------------------------------------------------------------------------- */

/* The slow road to a context: canonical name, cache, key it. */
__attribute__((noinline)) static dk_rc fetch_hot(struct dk_manager *manager,
                                                 struct dk_thread *thread, struct dk_view tenant,
                                                 uint32_t asked, int64_t now, struct dk_hot **out,
                                                 struct dk_err *err)
{
    struct dk_key_name name = {.version = asked};
    DK_TRY(dk_tenant_parse(tenant, &name.tenant, err));
    *out = dk_thread_find(thread, dk_tenant_view(&name.tenant), asked, now);
    if (*out != NULL) {
        return DK_OK; /* an upper-case UUID */
    }
    struct dk_live_key key = {.okm = dk_thread_scratch(thread)};
    bool lent = key.okm.cell != NULL;
    if (!lent || !dk_cache_look(manager->cache, &name, now, &key)) {
        DK_TRY(manager->keys.get(manager->keys.self, &name, &key, err));
    }
    dk_rc rc = dk_thread_key(thread, &name, &key, out, err);
    if (lent) {
        dk_secret_wipe(&key.okm);
    } else {
        dk_secret_free(manager->core->arena, &key.okm);
    }
    return rc;
}

static inline dk_rc get_hot(struct dk_manager *manager, struct dk_view tenant, uint32_t asked,
                            struct dk_thread **thread, struct dk_hot **out, struct dk_err *err)
{
    int64_t now = dk_mono_ms(manager->core->world);
    DK_TRY(dk_thread_get(manager->threads, thread, err));
    if (now >= atomic_load_explicit(&manager->next_poll_ms, memory_order_relaxed)) {
        poll_if_due(manager, now);
    }
    if (now != (*thread)->tick) { /* 250 times a second at most */
        (*thread)->tick = now;
        dk_lease_compare(&manager->lease, manager->core->world, manager->core->limits.lease_ms);
    }
    if (asked == DK_VERSION_ACTIVE && dk_lease_is_over(&manager->lease, now)) {
        DK_TRY(dk_poll_renew_lease(manager, err));
    }
    *out = dk_thread_find(*thread, tenant, asked, now);
    if (*out == NULL) {
        DK_TRY(fetch_hot(manager, *thread, tenant, asked, now, out, err));
        if (*out == NULL) {
            return DK_FAIL(err, INTERNAL, "a key was fetched and is not there");
        }
    }
    return dk_hot_use(*thread, *out, err);
}

/*
 * The whole AAD when there is a context: the hot key's prefix, then the pairs. Without one it
 * stands ready in the hot key; the large buffer stays out of that call's frame.
 */
static dk_rc build_aad(const struct dk_hot *hot, const struct dk_request *request,
                       uint8_t buffer[static DK_FIELD_AAD_MAX], struct dk_view *out,
                       struct dk_err *err)
{
    size_t n = 0;
    memcpy(buffer, hot->aad, hot->aad_n);
    DK_TRY(dk_context_encode(request->pairs, request->pair_count, buffer + hot->aad_n, &n, err));
    *out = dk_view_of(buffer, hot->aad_n + n);
    return DK_OK;
}

static inline struct dk_view plain_aad(const struct dk_hot *hot)
{
    return dk_view_of(hot->aad, hot->aad_n + 4);
}

static inline dk_rc seal(struct dk_manager *manager, struct dk_thread *thread,
                         const struct dk_hot *hot, struct dk_view aad, enum dk_field_form form,
                         struct dk_view plain, uint8_t *out, struct dk_err *err)
{
    uint8_t nonce[DK_AEAD_NONCE];
    DK_TRY(dk_nonce_take(thread->nonces, manager->core->world, nonce, err));
    struct dk_field_seal seal = {.aead = manager->core->suite.aead,
                                 .key = hot->key,
                                 .commitment = hot->commitment,
                                 .version = hot->version,
                                 .nonce = nonce,
                                 .aad = aad};
    return dk_field_seal(&seal, form, plain, out, err);
}

__attribute__((noinline)) static dk_rc seal_in_context(
    struct dk_manager *manager, struct dk_thread *thread, const struct dk_hot *hot,
    const struct dk_request *request, enum dk_field_form form, struct dk_view plain, uint8_t *out,
    struct dk_err *err)
{
    uint8_t buffer[DK_FIELD_AAD_MAX];
    struct dk_view aad;
    DK_TRY(build_aad(hot, request, buffer, &aad, err));
    return seal(manager, thread, hot, aad, form, plain, out, err);
}

dk_rc dk_manager_encrypt(struct dk_manager *manager, const struct dk_request *request,
                         enum dk_field_form form, struct dk_view plain, uint8_t *out, size_t cap,
                         size_t *need, struct dk_err *err)
{
    struct dk_thread *thread;
    struct dk_hot *hot;
    if (plain.n > DK_FIELD_PLAIN_MAX) {
        return DK_FAIL(err, LIMIT, "a value has at most 1 MiB, not %zu bytes", plain.n);
    }
    DK_TRY(get_hot(manager, request->tenant, DK_VERSION_ACTIVE, &thread, &hot, err));
    *need = dk_field_size(form, hot->version, plain.n);
    if (cap < *need) {
        return DK_FAIL(err, BUFFER, "the result has %zu bytes, the buffer %zu", *need, cap);
    }
    if (request->pair_count > 0) {
        return seal_in_context(manager, thread, hot, request, form, plain, out, err);
    }
    return seal(manager, thread, hot, plain_aad(hot), form, plain, out, err);
}

static inline dk_rc open_value(struct dk_manager *manager, const struct dk_hot *hot,
                               struct dk_view aad, const struct dk_field_parts *parts, uint8_t *out,
                               struct dk_err *err)
{
    struct dk_field_open open = {
        .suite = &manager->core->suite, .key = hot->key, .commitment = hot->commitment, .aad = aad};
    return dk_field_open(&open, parts, out, err);
}

__attribute__((noinline)) static dk_rc open_in_context(struct dk_manager *manager,
                                                       const struct dk_hot *hot,
                                                       const struct dk_request *request,
                                                       const struct dk_field_parts *parts,
                                                       uint8_t *out, struct dk_err *err)
{
    uint8_t buffer[DK_FIELD_AAD_MAX];
    struct dk_view aad;
    DK_TRY(build_aad(hot, request, buffer, &aad, err));
    return open_value(manager, hot, aad, parts, out, err);
}

dk_rc dk_manager_decrypt(struct dk_manager *manager, const struct dk_request *request,
                         struct dk_view value, uint8_t *out, size_t cap, size_t *need,
                         struct dk_err *err)
{
    struct dk_thread *thread;
    struct dk_hot *hot;
    struct dk_field_parts parts;
    DK_TRY(dk_field_parse(value, &parts, err));
    *need = parts.plain_size;
    if (cap < *need) {
        return DK_FAIL(err, BUFFER, "the result has %zu bytes, the buffer %zu", *need, cap);
    }
    dk_rc rc = get_hot(manager, request->tenant, parts.version, &thread, &hot, err);
    if (rc != DK_OK && !dk_field_letters_ok(&parts)) {
        dk_err_clear(err); /* not a value at all: that comes before the question of its key */
        return DK_FAIL(err, FORMAT, "the base64url part is not strict base64url");
    }
    if (rc != DK_OK) {
        return rc;
    }
    if (request->pair_count > 0) {
        return open_in_context(manager, hot, request, &parts, out, err);
    }
    return open_value(manager, hot, plain_aad(hot), &parts, out, err);
}

/* ---- batches --------------------------------------------------------------------------------- */

bool dk_manager_is_hot(struct dk_manager *manager, struct dk_view tenant, uint32_t version)
{
    struct dk_thread *thread;
    struct dk_err err;
    dk_err_clear(&err);
    return dk_thread_get(manager->threads, &thread, &err) == DK_OK &&
           dk_thread_find(thread, tenant, version, dk_mono_ms(manager->core->world)) != NULL;
}

static int compare_names(const void *pa, const void *pb)
{
    const struct dk_key_name *a = pa, *b = pb;
    int c = strcmp(a->tenant.s, b->tenant.s);
    return c != 0 ? c : a->version < b->version ? -1 : a->version > b->version;
}

/* Sorts, and takes doubles out. */
static size_t keep_distinct(struct dk_key_name *names, size_t count)
{
    size_t kept = 0;
    qsort(names, count, sizeof *names, compare_names);
    for (size_t i = 0; i < count; i++) {
        if (kept == 0 || compare_names(&names[kept - 1], &names[i]) != 0) {
            names[kept++] = names[i];
        }
    }
    return kept;
}

void dk_manager_prefetch(struct dk_manager *manager, struct dk_key_name *names, size_t count)
{
    count = keep_distinct(names, count);
    for (size_t at = 0; at < count; at += PREFETCH_MAX) {
        size_t n = count - at < PREFETCH_MAX ? count - at : PREFETCH_MAX;
        dk_cache_prefetch(manager->cache, names + at, n);
    }
}

struct dk_cache *dk_manager_cache(struct dk_manager *manager)
{
    return manager->cache;
}

struct dk_manager_stats dk_manager_stats(struct dk_manager *manager)
{
    dk_threads_fold(manager->threads);
    return stats_of(manager);
}

struct dk_key_uses dk_manager_key_uses(struct dk_manager *manager, const struct dk_key_name *name)
{
    struct dk_key_name active = {.tenant = name->tenant, .version = DK_VERSION_ACTIVE};
    struct dk_key_uses uses = {.version = name->version}, sealing;
    dk_threads_fold(manager->threads);
    if (!dk_cache_key_uses(manager->cache, name, &uses)) {
        uses = (struct dk_key_uses){.version = name->version};
    }
    if (dk_cache_key_uses(manager->cache, &active, &sealing) && sealing.version == name->version) {
        uses.hits += sealing.hits;
        uses.misses += sealing.misses;
        uses.unwraps += sealing.unwraps;
        uses.messages = sealing.messages;
    }
    return uses;
}
