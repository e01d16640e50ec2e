#include "provider/provider.h"

#include <openssl/crypto.h>
#include <pthread.h>

#include "crypto/hkdf.h"
#include "provider/local.h"

/* How many of the last keys are remembered by their check values (F32). */
#define RECENT 16

const struct dk_provider_ops *const dk_provider_backends[] = {&dk_provider_local, NULL};

struct dk_provider {
    const struct dk_provider_ops *ops;
    void *self;
    struct dk_provider_setup setup;
    pthread_mutex_t lock; /* guards recent and recent_at */
    uint8_t recent[RECENT][DK_CHECK_VALUE];
    size_t recent_at;
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
    dk_rc rc = ops->open(setup, &provider->self, err);
    if (rc != DK_OK) {
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
        provider->ops->close(provider->self);
        pthread_mutex_destroy(&provider->lock);
        dk_mem_free(&provider->setup.world->mem, provider);
    }
}

dk_rc dk_provider_after_fork(struct dk_provider *provider, struct dk_err *err)
{
    pthread_mutex_init(&provider->lock, NULL);
    return provider->ops->after_fork(provider->self, err);
}

void dk_provider_forget(struct dk_provider *provider)
{
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

static dk_rc check_wrapped(const struct dk_provider *provider, const struct dk_wrapped *wrapped,
                           struct dk_err *err)
{
    if (wrapped->kms_key_id[0] == '\0' || wrapped->blob[0] == '\0') {
        return DK_FAIL(err, PROVIDER, "%s answered without a key id or a wrap",
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

static dk_rc unwrap_checked(struct dk_provider *provider, const struct dk_wrap_context *context,
                            const struct dk_wrapped *wrapped, struct dk_secret *key,
                            struct dk_err *err)
{
    char answered[DK_KMS_KEY_ID_MAX + 1] = "";
    DK_TRY(provider->ops->unwrap(provider->self, context, wrapped, key, answered, err));
    if (strcmp(answered, wrapped->kms_key_id) != 0) { /* F31 */
        return DK_FAIL(err, PROVIDER, "%s answered under key %.200s, asked was %.200s",
                       provider->ops->name, answered, wrapped->kms_key_id);
    }
    return check_key(provider, key, err);
}

/* The guide's debug line, and a log line for a failure. Returns rc. */
static dk_rc report(struct dk_provider *provider, const char *operation,
                    const struct dk_wrap_context *context, dk_rc rc)
{
    char tenant[DK_TENANT_MAX + 1];
    size_t n = context->tenant.n < DK_TENANT_MAX ? context->tenant.n : DK_TENANT_MAX;
    memcpy(tenant, context->tenant.p, n);
    tenant[n] = '\0';
    const char *code = rc == DK_OK ? NULL : dk_error_info(rc)->name;
    dk_log_kms_audit(provider->setup.log, operation, tenant, rc == DK_OK, code);
    if (rc != DK_OK) {
        DK_LOG(provider->setup.log, WARN, "provider_failed", DK_LOG_S(OPERATION, operation),
               DK_LOG_S(PROVIDER, provider->ops->name), DK_LOG_S(TENANT, tenant),
               DK_LOG_S(CODE, code));
    }
    return rc;
}

dk_rc dk_provider_unwrap(struct dk_provider *provider, const struct dk_wrap_context *context,
                         const struct dk_wrapped *wrapped, struct dk_secret *key,
                         struct dk_err *err)
{
    struct dk_secret fresh = {0};
    DK_TRY(dk_secret_new(provider->setup.arena, DK_SECRET_CELL, &fresh, err));
    dk_rc rc = unwrap_checked(provider, context, wrapped, &fresh, err);
    if (rc == DK_OK) {
        *key = fresh;
    } else {
        dk_secret_free(provider->setup.arena, &fresh);
    }
    return report(provider, "decryptDataKey", context, rc);
}

/* The blob is opened again before anything relies on it. */
static dk_rc compare_unwrapped(struct dk_provider *provider, const struct dk_wrap_context *context,
                               const struct dk_wrapped *wrapped, const struct dk_secret *key,
                               struct dk_err *err)
{
    struct dk_secret again = {0};
    dk_rc rc = dk_provider_unwrap(provider, context, wrapped, &again, err);
    if (rc == DK_E_AUTH || rc == DK_E_FORMAT) {
        err->rc = rc = DK_E_PROVIDER; /* what it has just wrapped: its own fault */
    }
    if (rc == DK_OK && !dk_secret_equal(&again, key)) {
        rc = DK_FAIL(err, PROVIDER, "%s: a fresh wrap opens to another key", provider->ops->name);
    }
    dk_secret_free(provider->setup.arena, &again);
    return rc == DK_OK ? rc : dk_err_while(err, "opening a fresh wrap");
}

static dk_rc generate_checked(struct dk_provider *provider, const struct dk_wrap_context *context,
                              struct dk_secret *key, struct dk_wrapped *out, uint8_t *check_value,
                              struct dk_err *err)
{
    DK_TRY(provider->ops->generate(provider->self, context, key, out, err));
    DK_TRY(check_key(provider, key, err));
    DK_TRY(check_wrapped(provider, out, err));
    DK_TRY(dk_check_value(provider->setup.suite, key, check_value, err));
    if (seen_before(provider, check_value)) {
        return DK_FAIL(err, PROVIDER, "%s handed out the same data key twice", provider->ops->name);
    }
    return DK_OK;
}

dk_rc dk_provider_generate(struct dk_provider *provider, const struct dk_wrap_context *context,
                           struct dk_secret *key, struct dk_wrapped *out,
                           uint8_t check_value[static DK_CHECK_VALUE], struct dk_err *err)
{
    struct dk_secret fresh = {0};
    *out = (struct dk_wrapped){0};
    DK_TRY(dk_secret_new(provider->setup.arena, DK_SECRET_CELL, &fresh, err));
    dk_rc rc = generate_checked(provider, context, &fresh, out, check_value, err);
    (void)report(provider, "generateDataKey", context, rc);
    if (rc == DK_OK) {
        rc = compare_unwrapped(provider, context, out, &fresh, err);
    }
    if (rc == DK_OK) {
        *key = fresh;
    } else {
        dk_secret_free(provider->setup.arena, &fresh);
    }
    return rc;
}

dk_rc dk_provider_wrap(struct dk_provider *provider, const struct dk_wrap_context *context,
                       const struct dk_secret *key, struct dk_wrapped *out, struct dk_err *err)
{
    *out = (struct dk_wrapped){0};
    DK_TRY(check_key(provider, key, err));
    dk_rc rc = provider->ops->wrap(provider->self, context, key, out, err);
    if (rc == DK_OK) {
        rc = check_wrapped(provider, out, err);
    }
    (void)report(provider, "encrypt", context, rc);
    return rc == DK_OK ? compare_unwrapped(provider, context, out, key, err) : rc;
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
