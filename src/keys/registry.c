#include "keys/registry.h"

#include <stdio.h>

#include "base/file.h"
#include "crypto/hkdf.h"
#include "keys/keyring.h"
#include "keys/registry_state.h"
#include "keys/unwrap.h"

/* ---- open ------------------------------------------------------------------------------------ */

dk_rc dk_registry_new(struct dk_core *core, struct dk_err *err)
{
    struct dk_registry *registry = dk_mem_zalloc(&core->world->mem, sizeof *registry);
    if (registry == NULL) {
        return DK_FAIL(err, NOMEM, "no memory for the registry's keys");
    }
    pthread_mutex_init(&registry->follow_lock, NULL);
    pthread_rwlock_init(&registry->lock, NULL);
    core->registry = registry;
    return DK_OK;
}

void dk_registry_free(struct dk_core *core)
{
    if (core->registry != NULL) {
        dk_registry_clear(core);
        pthread_mutex_destroy(&core->registry->follow_lock);
        pthread_rwlock_destroy(&core->registry->lock);
        dk_mem_free(&core->world->mem, core->registry);
        core->registry = NULL;
    }
}

static struct dk_view label_of(const char *label, uint8_t info[static 64])
{
    return dk_view_of(info, (size_t)(dk_put_lp(info, label, strlen(label)) - info));
}

static dk_rc derive_mac(const struct dk_core *core, const struct dk_secret *key, const char *label,
                        struct dk_mac **out, struct dk_err *err)
{
    uint8_t info[64];
    struct dk_secret derived = {0};
    DK_TRY(dk_secret_new(core->arena, 32, &derived, err));
    dk_rc rc = dk_hkdf_secret(&core->suite, key, label_of(label, info), &derived, err);
    rc = rc == DK_OK ? dk_mac_new(&core->suite, &derived, out, err) : rc;
    dk_secret_free(core->arena, &derived);
    return rc;
}

void dk_registry_keys_free(struct dk_registry_keys *keys)
{
    dk_mac_free(keys->row);
    dk_mac_free(keys->log);
    dk_mac_free(keys->seal);
    *keys = (struct dk_registry_keys){.generation = 0};
}

static dk_rc derive_all(struct dk_core *core, const struct dk_secret *key,
                        struct dk_registry_keys *keys, struct dk_err *err)
{
    uint8_t pin[32], info[64];
    struct dk_view label = label_of("dekhand/pin/1", info);
    DK_TRY(dk_hkdf_public(&core->suite, key, label, pin, sizeof pin, err));
    dk_hex_encode(pin, sizeof pin, keys->pin);
    DK_TRY(derive_mac(core, key, "dekhand/row-mac/1", &keys->row, err));
    DK_TRY(derive_mac(core, key, "dekhand/log-mac/1", &keys->log, err));
    return derive_mac(core, key, "dekhand/seal-mac/1", &keys->seal, err);
}

dk_rc dk_registry_derive(struct dk_core *core, const struct dk_secret *key, uint32_t generation,
                         struct dk_registry_keys *out, struct dk_err *err)
{
    struct dk_registry_keys keys = {.generation = generation};
    dk_rc rc = derive_all(core, key, &keys, err);
    if (rc != DK_OK) {
        dk_registry_keys_free(&keys);
        return rc;
    }
    *out = keys;
    return DK_OK;
}

dk_rc dk_registry_read(struct dk_core *core, struct dk_registry_row *row, struct dk_err *err)
{
    struct dk_txn txn;
    DK_TRY(dk_store_begin(&core->store, DK_TXN_READ, &txn, err));
    struct dk_err cause;
    dk_err_clear(&cause);
    dk_rc rc = txn.ops->registry_read(txn.self, row, &cause);
    dk_store_rollback(&txn);
    if (rc == DK_E_NOT_FOUND) {
        return DK_FAIL(err, TAMPERED, "the registry's own row is gone: restore it from a copy");
    }
    if (rc != DK_OK) {
        *err = cause;
    }
    return rc;
}

/* Columns and fields are as wide as each other. */
static void copy_text(char *out, size_t cap, const char *text)
{
    size_t n = strnlen(text, cap - 1);
    memcpy(out, text, n);
    out[n] = '\0';
}

void dk_registry_wrapped(const struct dk_wrap_columns *wrap, struct dk_wrapped *out)
{
    copy_text(out->kms_key_id, sizeof out->kms_key_id, wrap->kms_key_id);
    copy_text(out->blob, sizeof out->blob, wrap->encrypted_data_key);
}

void dk_registry_wrap_columns(const struct dk_provider *provider, const struct dk_wrapped *wrapped,
                              const char *timestamp, struct dk_wrap_columns *out)
{
    copy_text(out->provider, sizeof out->provider, dk_provider_name(provider));
    copy_text(out->kms_key_id, sizeof out->kms_key_id, wrapped->kms_key_id);
    copy_text(out->encrypted_data_key, sizeof out->encrypted_data_key, wrapped->blob);
    copy_text(out->context_timestamp, sizeof out->context_timestamp, timestamp);
}

/*
 * Anybody who knows the public key can wrap a registry key of his own (I03): where that would do,
 * the key has to be one that this place knows, by the anchor or the pin (DESIGN 4).
 */
static dk_rc check_trust(const struct dk_core *core, const struct dk_provider *provider,
                         struct dk_err *err)
{
    bool proves = (dk_provider_caps(provider) & DK_PROVIDER_AUTHENTICATES) != 0;
    if (proves || core->just_made || core->pin_wanted[0] != '\0' ||
        dk_file_exists(core->anchor_path)) {
        return DK_OK;
    }
    return DK_FAIL(
        err, CONFIG,
        "KMS_REGISTRY_PIN is required: a wrap of %s proves nothing about who made it, and "
        "there is no anchor here (%.120s); `dekhand registry show` prints the pin where "
        "there is one",
        dk_provider_name(provider), core->anchor_path);
}

dk_rc dk_registry_unwrap_one(struct dk_core *core, const char *uuid,
                             const struct dk_wrap_columns *wrap, struct dk_secret *out,
                             struct dk_err *err)
{
    struct dk_wrap_context context = {dk_view_str(uuid), DK_PURPOSE_REGISTRY,
                                      wrap->context_timestamp};
    struct dk_provider *provider = dk_unwrap_provider(core, wrap->provider);
    struct dk_wrapped wrapped;
    if (provider == NULL) {
        return DK_FAIL(err, CONFIG,
                       "the registry key is wrapped by %s, which is neither KMS_PROVIDER (%s) nor "
                       "KMS_SECONDARY_PROVIDER",
                       wrap->provider, dk_provider_name(core->provider));
    }
    DK_TRY(check_trust(core, provider, err));
    dk_registry_wrapped(wrap, &wrapped);
    dk_rc rc = dk_provider_unwrap(provider, &context, &wrapped, out, err);
    if (rc == DK_E_AUTH || rc == DK_E_FORMAT || rc == DK_E_USAGE) {
        err->rc = rc = DK_E_TAMPERED; /* the row itself carries no MAC: its wrap is its proof.
                                         USAGE: its context is no text */
    }
    return rc;
}

/* The further wraps of a registry key, until one opens. */
struct further {
    struct dk_core *core;
    const char *uuid;
    const struct dk_wrap_columns *first;
    struct dk_secret *out;
    struct dk_wrap_columns list[4];
    size_t n;
};

static bool note_further(void *arg, const struct dk_wrap_columns *wrap)
{
    struct further *further = arg;
    bool other = strcmp(wrap->provider, further->first->provider) != 0 &&
                 dk_unwrap_provider(further->core, wrap->provider) != NULL;
    if (other && further->n < sizeof further->list / sizeof further->list[0]) {
        further->list[further->n++] = *wrap;
    }
    return true;
}

static bool open_further(struct further *further, uint32_t generation, dk_rc first)
{
    struct dk_txn txn;
    struct dk_err ignored;
    bool opened = false;
    dk_err_clear(&ignored);
    if (dk_store_begin(&further->core->store, DK_TXN_READ, &txn, &ignored) != DK_OK) {
        return false;
    }
    dk_rc rc = txn.ops->registry_wraps(txn.self, generation, note_further, further, &ignored);
    dk_store_rollback(&txn);
    for (size_t i = 0; i < further->n && rc == DK_OK && !opened; i++) {
        dk_err_clear(&ignored);
        opened = dk_registry_unwrap_one(further->core, further->uuid, &further->list[i],
                                        further->out, &ignored) == DK_OK;
        if (opened) {
            __atomic_fetch_add(&further->core->second_served, 1, __ATOMIC_RELAXED);
            DK_LOG(&further->core->log, WARN, "second_provider_served",
                   DK_LOG_S(PROVIDER, further->list[i].provider), DK_LOG_I(COUNT, 1),
                   DK_LOG_S(CODE, dk_error_info(first)->name));
        }
    }
    return opened;
}

dk_rc dk_registry_unwrap(struct dk_core *core, const char *uuid, const struct dk_wrap_columns *wrap,
                         uint32_t generation, struct dk_secret *out, struct dk_err *err)
{
    struct dk_err cause;
    struct further further = {.core = core, .uuid = uuid, .first = wrap, .out = out};
    dk_err_clear(&cause);
    dk_rc rc = dk_registry_unwrap_one(core, uuid, wrap, out, &cause);
    if (rc == DK_OK || (rc != DK_E_NOMEM && open_further(&further, generation, rc))) {
        return DK_OK;
    }
    *err = cause;
    return rc;
}

dk_rc dk_registry_open_wrap(struct dk_core *core, const char *uuid,
                            const struct dk_wrap_columns *wrap, uint32_t generation,
                            struct dk_registry_keys *out, struct dk_err *err)
{
    struct dk_secret key = {0};
    DK_TRY(dk_registry_unwrap(core, uuid, wrap, generation, &key, err));
    dk_rc rc = dk_registry_derive(core, &key, generation, out, err);
    dk_secret_free(core->arena, &key);
    return rc;
}

dk_rc dk_registry_open(struct dk_core *core, struct dk_err *err)
{
    struct dk_registry *registry = core->registry;
    struct dk_registry_row row;
    struct dk_registry_keys keys;
    DK_TRY(dk_registry_read(core, &row, err));
    if (row.wrap.provider[0] == '\0') {
        return dk_file_exists(core->anchor_path)
                   ? DK_FAIL(err, CONFIG,
                             "the registry is an empty one, and the anchor %s knows another: put "
                             "the newest copy of the database back",
                             core->anchor_path)
                   : DK_FAIL(err, CONFIG, "the registry has no key yet: run `dekhand init`");
    }
    dk_rc rc = dk_registry_open_wrap(core, row.uuid, &row.wrap, row.generation, &keys, err);
    if (rc != DK_OK) {
        return dk_err_while(err, "opening the registry key");
    }
    snprintf(registry->uuid, sizeof registry->uuid, "%s", row.uuid);
    pthread_rwlock_wrlock(&registry->lock);
    registry->now = keys;
    memcpy(registry->wrap, row.wrap.encrypted_data_key, sizeof registry->wrap);
    pthread_rwlock_unlock(&registry->lock);
    rc = dk_keyring_start(core, err);
    if (rc != DK_OK) {
        dk_registry_clear(core);
        return dk_err_while(err, "opening the registry key");
    }
    return DK_OK;
}

void dk_registry_clear(struct dk_core *core)
{
    pthread_rwlock_wrlock(&core->registry->lock);
    dk_registry_keys_free(&core->registry->now);
    dk_registry_keys_free(&core->registry->earlier);
    pthread_rwlock_unlock(&core->registry->lock);
}

void dk_registry_forget(struct dk_core *core)
{
    struct dk_registry *registry = core->registry;
    bool whole = pthread_rwlock_tryrdlock(&registry->lock) == 0;
    if (whole) {
        pthread_rwlock_unlock(&registry->lock);
    }
    pthread_mutex_init(&registry->follow_lock, NULL);
    pthread_rwlock_init(&registry->lock, NULL);
    if (whole) { /* no thread was moving them at the fork */
        dk_registry_keys_free(&registry->now);
        dk_registry_keys_free(&registry->earlier);
    }
    registry->now = registry->earlier = (struct dk_registry_keys){.generation = 0};
    registry->wrap[0] = registry->refused[0] = '\0';
    registry->looked = 0;
}

bool dk_registry_is_open(const struct dk_core *core)
{
    return dk_registry_generation(core) != 0;
}

const char *dk_registry_uuid(const struct dk_core *core)
{
    return core->registry->uuid;
}

uint32_t dk_registry_generation(const struct dk_core *core)
{
    pthread_rwlock_rdlock(&core->registry->lock);
    uint32_t generation = core->registry->now.generation;
    pthread_rwlock_unlock(&core->registry->lock);
    return generation;
}

uint32_t dk_registry_pin_now(const struct dk_core *core, char out[static DK_HASH_TEXT])
{
    pthread_rwlock_rdlock(&core->registry->lock);
    memcpy(out, core->registry->now.pin, DK_HASH_TEXT);
    uint32_t generation = core->registry->now.generation;
    pthread_rwlock_unlock(&core->registry->lock);
    return generation;
}

void dk_registry_pin(const struct dk_core *core, char out[static DK_HASH_TEXT])
{
    (void)dk_registry_pin_now(core, out);
}

int64_t dk_registry_boundary(const struct dk_core *core)
{
    pthread_rwlock_rdlock(&core->registry->lock);
    int64_t boundary = core->registry->boundary;
    pthread_rwlock_unlock(&core->registry->lock);
    return boundary;
}

/* The second one is asked for a wrap too; that it cannot is told, and made good later. */
static void wrap_second(struct dk_core *core, const struct dk_wrap_context *context,
                        const struct dk_secret *key, struct dk_wrap_columns *out)
{
    struct dk_wrapped wrapped;
    struct dk_err err;
    dk_err_clear(&err);
    if (core->second != NULL &&
        dk_provider_wrap(core->second, context, key, &wrapped, &err) == DK_OK) {
        dk_registry_wrap_columns(core->second, &wrapped, context->timestamp, out);
    }
}

dk_rc dk_registry_generate(struct dk_core *core, const char *uuid, struct dk_secret *key,
                           struct dk_registry_fresh *out, struct dk_err *err)
{
    char now[DK_TIME_TEXT];
    struct dk_wrapped wrapped;
    uint8_t check_value[DK_CHECK_VALUE];
    memset(out, 0, sizeof *out);
    dk_time_format(dk_wall_us(core->world), now);
    struct dk_wrap_context context = {dk_view_str(uuid), DK_PURPOSE_REGISTRY, now};
    DK_TRY(dk_provider_generate(core->provider, &context, key, &wrapped, check_value, err));
    dk_registry_wrap_columns(core->provider, &wrapped, now, &out->wrap);
    wrap_second(core, &context, key, &out->second);
    return DK_OK;
}

/* A registry that had keys and lost its own must not get another one (DESIGN 4, init). */
static dk_rc refuse_second(struct dk_core *core, struct dk_txn *txn, struct dk_err *err)
{
    struct dk_key_cursor start = {0};
    struct dk_key_row *row = dk_mem_alloc(&core->world->mem, sizeof *row);
    size_t count = 0;
    if (row == NULL) {
        return DK_FAIL(err, NOMEM, "no memory for a row");
    }
    dk_rc rc = txn->ops->key_list(txn->self, NULL, DK_KEYS_ALL, &start, 1, row, &count, err);
    if (rc == DK_OK && count > 0) {
        rc = DK_FAIL(err, CONFIG,
                     "the registry holds keys under %.200s but has lost its own: restore the "
                     "registry row, a new key could not read them",
                     row->wrap.kms_key_id);
    }
    dk_mem_free(&core->world->mem, row);
    return rc;
}

static dk_rc fill(struct dk_core *core, struct dk_txn *txn, const struct dk_registry_fresh *fresh,
                  bool *created, struct dk_err *err)
{
    DK_TRY(refuse_second(core, txn, err));
    DK_TRY(txn->ops->registry_fill(txn->self, &fresh->wrap, created, err));
    if (*created && fresh->second.provider[0] != '\0') {
        DK_TRY(txn->ops->registry_wrap_put(txn->self, 1, &fresh->second, err));
    }
    dk_trace(core->world, "init.registry_key_stored");
    return dk_store_commit(txn, err);
}

/* The anchor knows a registry with a key: say what is missing of it. */
static dk_rc refuse_anchored(struct dk_core *core, struct dk_err *err)
{
    struct dk_txn txn;
    DK_TRY(dk_store_begin(&core->store, DK_TXN_READ, &txn, err));
    dk_rc rc = refuse_second(core, &txn, err);
    dk_store_rollback(&txn);
    DK_TRY(rc);
    return DK_FAIL(err, CONFIG,
                   "the anchor file %s belongs to a registry that is not here: restore its "
                   "database, or remove the file to begin with an empty one",
                   core->anchor_path);
}

dk_rc dk_registry_create_key(struct dk_core *core, bool *created, struct dk_err *err)
{
    struct dk_registry_row row;
    /* Looked at first: another init writes the anchor after the key, so the row read next has it.
     */
    bool anchored = dk_file_exists(core->anchor_path);
    DK_TRY(dk_registry_read(core, &row, err));
    *created = false;
    if (row.wrap.provider[0] != '\0') {
        return DK_OK;
    }
    if (core->pin_wanted[0] != '\0') {
        return DK_FAIL(err, CONFIG,
                       "KMS_REGISTRY_PIN is set but the registry has no key: this is not the "
                       "registry of that pin");
    }
    if (anchored) {
        return refuse_anchored(core, err);
    }
    struct dk_registry_fresh fresh;
    struct dk_secret key = {0};
    struct dk_txn txn;
    DK_TRY(dk_registry_generate(core, row.uuid, &key, &fresh, err));
    dk_secret_free(core->arena, &key); /* dk_registry_open unwraps what was stored */
    dk_trace(core->world, "init.registry_key_generated");
    DK_TRY(dk_store_begin(&core->store, DK_TXN_WRITE, &txn, err));
    dk_rc rc = fill(core, &txn, &fresh, created, err);
    dk_store_rollback(&txn);
    return rc;
}
