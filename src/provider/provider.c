#include "provider/provider.h"

#include <openssl/crypto.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>

#include "crypto/hkdf.h"
#include "provider/aws.h"
#include "provider/azure.h"
#include "provider/local.h"
#include "provider/previous.h"

/* How many of the last keys are remembered by their check values (F32). */
#define RECENT 16

const struct dk_provider_ops *const dk_provider_backends[] = {&dk_provider_local, &dk_provider_aws,
                                                              &dk_provider_azure, NULL};

struct dk_provider {
    const struct dk_provider_ops *ops;
    void *self;
    struct dk_previous *previous;
    struct dk_provider_setup setup;
    pthread_mutex_t lock; /* guards recent and recent_at */
    uint8_t recent[RECENT][DK_CHECK_VALUE];
    size_t recent_at;
    struct dk_provider_calls calls;
};

dk_rc dk_provider_find(const char *name, const struct dk_provider_ops **out, struct dk_err *err)
{
    char known[160] = "";
    for (size_t i = 0; dk_provider_backends[i] != NULL; i++) {
        if (strcmp(dk_provider_backends[i]->name, name) == 0) {
            *out = dk_provider_backends[i];
            return DK_OK;
        }
        strncat(known, " ", sizeof known - strlen(known) - 1);
        strncat(known, dk_provider_backends[i]->name, sizeof known - strlen(known) - 1);
    }
    return DK_FAIL(err, CONFIG, "KMS_PROVIDER: this version has no such provider; it has:%s",
                   known);
}

dk_rc dk_provider_open(const struct dk_provider_ops *ops, const struct dk_provider_setup *setup,
                       struct dk_provider **out, struct dk_err *err)
{
    struct dk_provider *provider = dk_mem_zalloc(&setup->world->mem, sizeof *provider);
    if (provider == NULL) {
        return DK_FAIL(err, NOMEM, "no memory for the provider");
    }
    provider->ops = ops;
    provider->setup = *setup;
    provider->setup.calls = &provider->calls;
    dk_rc rc = dk_previous_open(ops, &provider->setup, &provider->previous, err);
    rc = rc == DK_OK ? ops->open(&provider->setup, &provider->self, err) : rc;
    provider->setup.settings = NULL;
    if (rc != DK_OK) {
        dk_previous_close(provider->previous);
        dk_mem_free(&setup->world->mem, provider);
        return rc;
    }
    pthread_mutex_init(&provider->lock, NULL);
    *out = provider;
    return DK_OK;
}

void dk_provider_close(struct dk_provider *provider)
{
    if (provider != NULL) {
        dk_previous_close(provider->previous);
        provider->ops->close(provider->self);
        pthread_mutex_destroy(&provider->lock);
        dk_mem_free(&provider->setup.world->mem, provider);
    }
}

dk_rc dk_provider_after_fork(struct dk_provider *provider, struct dk_err *err)
{
    pthread_mutex_init(&provider->lock, NULL);
    provider->calls = (struct dk_provider_calls){.calls = {0}}; /* the parent's were the parent's */
    DK_TRY(dk_previous_after_fork(provider->previous, err));
    return provider->ops->after_fork(provider->self, err);
}

void dk_provider_forget(struct dk_provider *provider)
{
    dk_previous_forget(provider->previous);
    provider->ops->forget(provider->self);
}

const char *dk_provider_name(const struct dk_provider *provider)
{
    return provider->ops->name;
}

unsigned dk_provider_caps(const struct dk_provider *provider)
{
    return provider->ops->caps;
}

dk_rc dk_provider_describe(struct dk_provider *provider, struct dk_provider_info *out,
                           struct dk_err *err)
{
    *out = (struct dk_provider_info){0};
    return provider->ops->describe(provider->self, out, err);
}

dk_rc dk_check_value(const struct dk_suite *suite, const struct dk_secret *key,
                     uint8_t out[static DK_CHECK_VALUE], struct dk_err *err)
{
    uint8_t info[4 + 15];
    dk_put_lp(info, "dekhand/check/1", 15);
    return dk_hkdf_public(suite, key, dk_view_of(info, sizeof info), out, DK_CHECK_VALUE, err);
}

dk_rc dk_wrap_aad(const struct dk_wrap_context *context, uint8_t *out, size_t *out_len,
                  struct dk_err *err)
{
    struct dk_pair pairs[] = {
        {dk_view_str("Purpose"), dk_view_str(context->purpose)},
        {dk_view_str("TenantId"), context->tenant},
        {dk_view_str("Timestamp"), dk_view_str(context->timestamp)},
    };
    uint8_t *p = dk_put_lp(out, "dekhand/wrap/1", 14);
    size_t n = 0;
    DK_TRY(dk_context_encode(pairs, 3, p, &n, err));
    *out_len = (size_t)(p - out) + n;
    return DK_OK;
}

/* ---- what an answer has to be ---------------------------------------------------------------- */

/* F30: what is not 32 bytes, or zero, is no data key. */
static dk_rc check_key(const struct dk_provider *provider, const struct dk_secret *key,
                       struct dk_err *err)
{
    if (key->n != DK_DATA_KEY) {
        return DK_FAIL(err, PROVIDER, "%s answered with a data key of %u bytes, not %d",
                       provider->ops->name, key->n, DK_DATA_KEY);
    }
    if (dk_secret_is_zero(key)) {
        return DK_FAIL(err, PROVIDER, "%s answered with a data key of zeros", provider->ops->name);
    }
    return DK_OK;
}

static dk_rc check_wrapped(struct dk_provider *provider, struct dk_provider_item *item)
{
    if (item->wrapped->kms_key_id[0] == '\0' || item->wrapped->blob[0] == '\0') {
        return DK_FAIL(&item->err, PROVIDER, "%s answered without a key id or a wrap",
                       provider->ops->name);
    }
    return DK_OK;
}

/* F32: remembers the last keys; true when this one was seen. The table's constraint is the rest. */
static bool seen_before(struct dk_provider *provider, const uint8_t *check_value)
{
    bool seen = false;
    pthread_mutex_lock(&provider->lock);
    for (size_t i = 0; i < RECENT; i++) {
        seen = seen || memcmp(provider->recent[i], check_value, DK_CHECK_VALUE) == 0;
    }
    memcpy(provider->recent[provider->recent_at], check_value, DK_CHECK_VALUE);
    provider->recent_at = (provider->recent_at + 1) % RECENT;
    pthread_mutex_unlock(&provider->lock);
    return seen;
}

static dk_rc check_generated(struct dk_provider *provider, struct dk_provider_item *item)
{
    DK_TRY(check_key(provider, &item->key, &item->err));
    DK_TRY(check_wrapped(provider, item));
    DK_TRY(dk_check_value(provider->setup.suite, &item->key, item->check_value, &item->err));
    if (seen_before(provider, item->check_value)) {
        return DK_FAIL(&item->err, PROVIDER, "%s handed out the same data key twice",
                       provider->ops->name);
    }
    return DK_OK;
}

static dk_rc check_unwrapped(struct dk_provider *provider, struct dk_provider_item *item)
{
    if (strcmp(item->answered, item->wrapped->kms_key_id) != 0) { /* F31 */
        return DK_FAIL(&item->err, PROVIDER, "%s answered under key %.120s, asked was %.120s",
                       provider->ops->name, item->answered, item->wrapped->kms_key_id);
    }
    return check_key(provider, &item->key, &item->err);
}

/* ---- calls ----------------------------------------------------------------------------------- */

static const struct {
    const char *told; /* in the guide's debug line */
    dk_rc (*check)(struct dk_provider *provider, struct dk_provider_item *item);
} calls[] = {
    [DK_PROVIDER_GENERATE] = {"generateDataKey", check_generated},
    [DK_PROVIDER_WRAP] = {"encrypt", check_wrapped},
    [DK_PROVIDER_UNWRAP] = {"decryptDataKey", check_unwrapped},
    [DK_PROVIDER_MOVE] = {"reEncrypt", check_wrapped},
};

/* The guide's debug line, and a log line for a failure. */
static void report(struct dk_provider *provider, enum dk_provider_op op,
                   const struct dk_provider_item *item)
{
    char tenant[DK_TENANT_MAX + 1];
    dk_rc rc = item->err.rc;
    size_t n = item->context.tenant.n < DK_TENANT_MAX ? item->context.tenant.n : DK_TENANT_MAX;
    memcpy(tenant, item->context.tenant.p, n);
    tenant[n] = '\0';
    const char *code = rc == DK_OK ? NULL : dk_error_info(rc)->name;
    dk_log_kms_audit(provider->setup.log, calls[op].told, tenant, rc == DK_OK, code);
    if (rc != DK_OK) {
        DK_LOG(provider->setup.log, WARN, "provider_failed", DK_LOG_S(OPERATION, calls[op].told),
               DK_LOG_S(PROVIDER, provider->ops->name), DK_LOG_S(TENANT, tenant),
               DK_LOG_S(CODE, code));
    }
}

/* Those that nothing went wrong with yet. `going` has room for all. */
static void run_in(struct dk_provider *provider, enum dk_provider_op op,
                   struct dk_provider_item *items, size_t count, struct dk_provider_item **going)
{
    size_t n = 0;
    for (size_t i = 0; i < count; i++) {
        if (items[i].err.rc == DK_OK) {
            going[n++] = &items[i];
        }
    }
    size_t own = op == DK_PROVIDER_UNWRAP
                     ? dk_previous_unwrap(provider->previous, provider->self, going, n)
                     : n;
    if (own > 0) {
        provider->ops->run(provider->self, op, going, own);
    }
    for (size_t i = 0; i < n; i++) {
        if (going[i]->err.rc == DK_OK) {
            (void)calls[op].check(provider, going[i]); /* it is in the item's err */
        }
        report(provider, op, going[i]);
    }
}

static void fail_all(struct dk_provider_item *items, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        (void)DK_FAIL(&items[i].err, NOMEM, "no memory for %zu calls of the provider", count);
    }
}

static void run(struct dk_provider *provider, enum dk_provider_op op,
                struct dk_provider_item *items, size_t count)
{
    const struct dk_mem *mem = &provider->setup.world->mem;
    struct dk_provider_item *one;
    struct dk_provider_item **going = count == 1 ? &one : dk_mem_alloc(mem, count * sizeof(*going));
    if (going == NULL) {
        fail_all(items, count);
        return;
    }
    run_in(provider, op, items, count, going);
    if (going != &one) {
        dk_mem_free(mem, going);
    }
}

/* A cell for each answer. */
static void take_cells(struct dk_provider *provider, struct dk_provider_item *items, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        dk_err_clear(&items[i].err);
        items[i].key = (struct dk_secret){0};
        items[i].answered[0] = '\0';
        if (dk_secret_new(provider->setup.arena, DK_SECRET_CELL, &items[i].key, &items[i].err) !=
            DK_OK) {
            (void)dk_err_while(&items[i].err, "making room for a data key");
        }
    }
}

static void drop_failed(struct dk_provider *provider, struct dk_provider_item *items, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (items[i].err.rc != DK_OK) {
            dk_secret_free(provider->setup.arena, &items[i].key);
        }
    }
}

void dk_provider_unwrap_many(struct dk_provider *provider, struct dk_provider_item *items,
                             size_t count)
{
    take_cells(provider, items, count);
    run(provider, DK_PROVIDER_UNWRAP, items, count);
    drop_failed(provider, items, count);
}

static void compare_one(struct dk_provider *provider, struct dk_provider_item *item,
                        struct dk_provider_item *again)
{
    if (again->err.rc != DK_OK) {
        item->err = again->err;
        if (item->err.rc == DK_E_AUTH || item->err.rc == DK_E_FORMAT) {
            item->err.rc = DK_E_PROVIDER; /* what it has just wrapped: its own fault */
        }
    } else if (!dk_secret_equal(&again->key, &item->key)) {
        (void)DK_FAIL(&item->err, PROVIDER, "%s: a fresh wrap opens to another key",
                      provider->ops->name);
    }
    if (item->err.rc != DK_OK) {
        (void)dk_err_while(&item->err, "opening a fresh wrap");
    }
}

/* Of those that nothing went wrong with: one after the other in `again`, which has room for all. */
static void open_again(struct dk_provider *provider, const struct dk_provider_item *items,
                       size_t count, struct dk_provider_item *again)
{
    size_t n = 0;
    for (size_t i = 0; i < count; i++) {
        if (items[i].err.rc == DK_OK) {
            again[n].context = items[i].context;
            again[n++].wrapped = items[i].wrapped;
        }
    }
    dk_provider_unwrap_many(provider, again, n);
}

/* Blobs are opened again before anything relies on them. */
static void compare_in(struct dk_provider *provider, struct dk_provider_item *items, size_t count,
                       struct dk_provider_item *again)
{
    size_t n = 0;
    open_again(provider, items, count, again);
    for (size_t i = 0; i < count; i++) {
        if (items[i].err.rc == DK_OK) {
            compare_one(provider, &items[i], &again[n]);
            dk_secret_free(provider->setup.arena, &again[n++].key);
        }
    }
}

static void compare_unwrapped(struct dk_provider *provider, struct dk_provider_item *items,
                              size_t count)
{
    const struct dk_mem *mem = &provider->setup.world->mem;
    struct dk_provider_item one;
    struct dk_provider_item *again = count == 1 ? &one : dk_mem_alloc(mem, count * sizeof *again);
    if (again == NULL) {
        fail_all(items, count);
        return;
    }
    compare_in(provider, items, count, again);
    if (again != &one) {
        dk_mem_free(mem, again);
    }
}

void dk_provider_generate_many(struct dk_provider *provider, struct dk_provider_item *items,
                               size_t count)
{
    take_cells(provider, items, count);
    for (size_t i = 0; i < count; i++) {
        *items[i].wrapped = (struct dk_wrapped){0};
    }
    run(provider, DK_PROVIDER_GENERATE, items, count);
    compare_unwrapped(provider, items, count);
    drop_failed(provider, items, count);
}

void dk_provider_wrap_many(struct dk_provider *provider, struct dk_provider_item *items,
                           size_t count)
{
    for (size_t i = 0; i < count; i++) {
        dk_err_clear(&items[i].err);
        *items[i].wrapped = (struct dk_wrapped){0};
        (void)check_key(provider, &items[i].key, &items[i].err);
    }
    run(provider, DK_PROVIDER_WRAP, items, count);
    compare_unwrapped(provider, items, count);
}

/* What was moved is opened once: its key is the answer. */
static void open_moved(struct dk_provider *provider, struct dk_provider_item *items, size_t count,
                       struct dk_provider_item *again)
{
    size_t n = 0;
    open_again(provider, items, count, again);
    for (size_t i = 0; i < count; i++) {
        if (items[i].err.rc == DK_OK) {
            items[i].key = again[n].key;
            items[i].err = again[n++].err;
        }
    }
}

void dk_provider_move_many(struct dk_provider *provider, struct dk_provider_item *items,
                           size_t count)
{
    const struct dk_mem *mem = &provider->setup.world->mem;
    for (size_t i = 0; i < count; i++) {
        dk_err_clear(&items[i].err);
        items[i].key = (struct dk_secret){0};
        *items[i].wrapped = (struct dk_wrapped){0};
    }
    struct dk_provider_item *again = dk_mem_alloc(mem, count * sizeof *again);
    if (again == NULL) {
        fail_all(items, count);
        return;
    }
    run(provider, DK_PROVIDER_MOVE, items, count);
    open_moved(provider, items, count, again);
    dk_mem_free(mem, again);
}

/* ---- one ------------------------------------------------------------------------------------- */

dk_rc dk_provider_unwrap(struct dk_provider *provider, const struct dk_wrap_context *context,
                         const struct dk_wrapped *wrapped, struct dk_secret *key,
                         struct dk_err *err)
{
    struct dk_wrapped lent = *wrapped;
    struct dk_provider_item item;
    item.context = *context;
    item.wrapped = &lent;
    dk_provider_unwrap_many(provider, &item, 1);
    if (item.err.rc != DK_OK) {
        *err = item.err;
        return item.err.rc;
    }
    *key = item.key;
    return DK_OK;
}

dk_rc dk_provider_generate(struct dk_provider *provider, const struct dk_wrap_context *context,
                           struct dk_secret *key, struct dk_wrapped *out,
                           uint8_t check_value[static DK_CHECK_VALUE], struct dk_err *err)
{
    struct dk_provider_item item;
    item.context = *context;
    item.wrapped = out;
    dk_provider_generate_many(provider, &item, 1);
    if (item.err.rc != DK_OK) {
        *err = item.err;
        return item.err.rc;
    }
    *key = item.key;
    memcpy(check_value, item.check_value, DK_CHECK_VALUE);
    return DK_OK;
}

dk_rc dk_provider_wrap(struct dk_provider *provider, const struct dk_wrap_context *context,
                       const struct dk_secret *key, struct dk_wrapped *out, struct dk_err *err)
{
    struct dk_provider_item item;
    item.context = *context;
    item.key = *key;
    item.wrapped = out;
    dk_provider_wrap_many(provider, &item, 1);
    if (item.err.rc != DK_OK) {
        *err = item.err;
    }
    return item.err.rc;
}

dk_rc dk_provider_test(struct dk_provider *provider, struct dk_err *err)
{
    char now[DK_TIME_TEXT];
    dk_time_format(dk_wall_us(provider->setup.world), now);
    struct dk_wrap_context context = {dk_view_str("dekhand-canary"), "ConnectionTest", now};
    struct dk_secret key = {0};
    struct dk_wrapped wrapped;
    uint8_t check_value[DK_CHECK_VALUE];
    DK_TRY(dk_provider_generate(provider, &context, &key, &wrapped, check_value, err));
    dk_secret_free(provider->setup.arena, &key);
    return DK_OK;
}

void dk_provider_say(const struct dk_provider_tell *tell, enum dk_provider_level level,
                     const char *todo, const char *format, ...)
{
    char text[2 * DK_KMS_KEY_ID_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    tell->tell(tell->arg, level, text, todo);
}

void dk_provider_inspect(struct dk_provider *provider, const struct dk_provider_tell *tell)
{
    if (provider->ops->inspect != NULL) {
        provider->ops->inspect(provider->self, false, tell);
    }
    if (tell->thorough) {
        dk_previous_inspect(provider->previous, tell);
    }
}

dk_rc dk_provider_policy(struct dk_provider *provider, struct dk_buf *out, struct dk_err *err)
{
    if (provider->ops->policy == NULL) {
        return DK_FAIL(err, USAGE,
                       "the provider %s knows no rights: the file's owner and mode are all",
                       provider->ops->name);
    }
    const struct dk_previous_ids previous = dk_previous_ids(provider->previous);
    return provider->ops->policy(provider->self, &previous, out, err);
}

const char *dk_provider_operation(const struct dk_provider *provider, unsigned operation)
{
    return provider->ops->operation != NULL ? provider->ops->operation(operation) : NULL;
}

struct dk_provider_calls dk_provider_calls(struct dk_provider *provider)
{
    struct dk_provider_calls out;
    for (size_t i = 0; i < DK_PROVIDER_OPERATIONS; i++) {
        out.calls[i] = __atomic_load_n(&provider->calls.calls[i], __ATOMIC_RELAXED);
        out.failed[i] = __atomic_load_n(&provider->calls.failed[i], __ATOMIC_RELAXED);
    }
    return out;
}

const struct dk_price *dk_provider_price(struct dk_provider *provider)
{
    return provider->ops->price != NULL ? provider->ops->price(provider->self)
                                        : dk_price_find(provider->ops->name);
}
