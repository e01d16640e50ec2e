#include "keys/registry.h"

#include <stdio.h>

#include "base/file.h"

#define REGISTRY_KEY 32

static dk_rc derive(const struct dk_core *core, const struct dk_secret *key, const char *label,
                    struct dk_secret *out, uint8_t *public_out, struct dk_err *err)
{
    uint8_t info[64];
    size_t n = (size_t)(dk_put_lp(info, label, strlen(label)) - info);
    if (public_out != NULL) {
        return dk_hkdf_public(&core->suite, key, dk_view_of(info, n), public_out, 32, err);
    }
    DK_TRY(dk_secret_new(core->arena, 32, out, err));
    return dk_hkdf_secret(&core->suite, key, dk_view_of(info, n), out, err);
}

static dk_rc derive_all(struct dk_core *core, const struct dk_secret *key, struct dk_err *err)
{
    uint8_t pin[32];
    DK_TRY(derive(core, key, "dekhand/pin/1", NULL, pin, err));
    dk_hex_encode(pin, sizeof pin, core->registry.pin);
    if (core->pin_wanted[0] != '\0' && strcmp(core->pin_wanted, core->registry.pin) != 0) {
        return DK_FAIL(err, TAMPERED,
                       "the registry key is not the one of KMS_REGISTRY_PIN: another registry, or "
                       "a forged one");
    }
    DK_TRY(derive(core, key, "dekhand/row-mac/1", &core->registry.k_row, NULL, err));
    DK_TRY(derive(core, key, "dekhand/log-mac/1", &core->registry.k_log, NULL, err));
    return derive(core, key, "dekhand/seal-mac/1", &core->registry.k_seal, NULL, err);
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

static dk_rc check_provider(const struct dk_core *core, const struct dk_registry_row *row,
                            struct dk_err *err)
{
    if (strcmp(row->wrap.provider, dk_provider_name(core->provider)) != 0) {
        return DK_FAIL(err, CONFIG, "the registry key is wrapped by %s, KMS_PROVIDER is %s",
                       row->wrap.provider, dk_provider_name(core->provider));
    }
    return DK_OK;
}

dk_rc dk_registry_unwrap(struct dk_core *core, struct dk_view subject, const char *purpose,
                         const struct dk_wrap_columns *wrap, struct dk_secret *out,
                         struct dk_err *err)
{
    struct dk_wrap_context context = {subject, purpose, wrap->context_timestamp};
    struct dk_wrapped wrapped;
    snprintf(wrapped.kms_key_id, sizeof wrapped.kms_key_id, "%s", wrap->kms_key_id);
    snprintf(wrapped.blob, sizeof wrapped.blob, "%s", wrap->encrypted_data_key);
    return dk_provider_unwrap(core->provider, &context, &wrapped, out, err);
}

void dk_registry_wrap_columns(const struct dk_core *core, const struct dk_wrapped *wrapped,
                              const char *timestamp, struct dk_wrap_columns *out)
{
    snprintf(out->provider, sizeof out->provider, "%s", dk_provider_name(core->provider));
    snprintf(out->kms_key_id, sizeof out->kms_key_id, "%s", wrapped->kms_key_id);
    snprintf(out->encrypted_data_key, sizeof out->encrypted_data_key, "%s", wrapped->blob);
    snprintf(out->context_timestamp, sizeof out->context_timestamp, "%s", timestamp);
}

dk_rc dk_registry_open(struct dk_core *core, struct dk_err *err)
{
    struct dk_registry_row row;
    DK_TRY(dk_registry_read(core, &row, err));
    if (row.wrap.provider[0] == '\0') {
        return DK_FAIL(err, CONFIG, "the registry has no key yet: run `dekhand init`");
    }
    DK_TRY(check_provider(core, &row, err));
    snprintf(core->registry.uuid, sizeof core->registry.uuid, "%s", row.uuid);
    struct dk_secret key = {0};
    dk_rc rc =
        dk_registry_unwrap(core, dk_view_str(row.uuid), DK_PURPOSE_REGISTRY, &row.wrap, &key, err);
    if (rc == DK_E_AUTH || rc == DK_E_FORMAT) {
        err->rc = rc = DK_E_TAMPERED; /* the row itself carries no MAC: its wrap is its proof */
    }
    if (rc == DK_OK) {
        rc = derive_all(core, &key, err);
    }
    dk_secret_free(core->arena, &key);
    if (rc != DK_OK) {
        dk_registry_clear(core);
        return dk_err_while(err, "opening the registry key");
    }
    return DK_OK;
}

void dk_registry_clear(struct dk_core *core)
{
    dk_secret_free(core->arena, &core->registry.k_row);
    dk_secret_free(core->arena, &core->registry.k_log);
    dk_secret_free(core->arena, &core->registry.k_seal);
}

void dk_registry_forget(struct dk_core *core)
{
    core->registry.k_row = core->registry.k_log = core->registry.k_seal = (struct dk_secret){0};
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

static dk_rc fill(struct dk_core *core, struct dk_txn *txn, struct dk_wrapped *wrapped,
                  const char *timestamp, bool *created, struct dk_err *err)
{
    struct dk_wrap_columns columns;
    dk_registry_wrap_columns(core, wrapped, timestamp, &columns);
    DK_TRY(refuse_second(core, txn, err));
    DK_TRY(txn->ops->registry_fill(txn->self, &columns, created, err));
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
    char now[DK_TIME_TEXT];
    dk_time_format(dk_wall_us(core->world), now);
    struct dk_wrap_context context = {dk_view_str(row.uuid), DK_PURPOSE_REGISTRY, now};
    struct dk_secret key = {0};
    struct dk_wrapped wrapped;
    uint8_t check_value[DK_CHECK_VALUE];
    struct dk_txn txn;
    DK_TRY(dk_provider_generate(core->provider, &context, &key, &wrapped, check_value, err));
    dk_secret_free(core->arena, &key); /* dk_registry_open unwraps what was stored */
    dk_trace(core->world, "init.registry_key_generated");
    DK_TRY(dk_store_begin(&core->store, DK_TXN_WRITE, &txn, err));
    dk_rc rc = fill(core, &txn, &wrapped, now, created, err);
    dk_store_rollback(&txn);
    return rc;
}

/* ---- row MACs: columns sorted by name, texts as FORMATS says --------------------------------- */

/* Text of a number or a time lives in the caller's array. */
struct mac_texts {
    char text[12][DK_TIME_TEXT];
    size_t used;
};

static struct dk_view text_of_int(struct mac_texts *texts, int64_t v)
{
    char *text = texts->text[texts->used++];
    snprintf(text, DK_TIME_TEXT, "%lld", (long long)v);
    return dk_view_str(text);
}

static struct dk_view text_of_time(struct mac_texts *texts, int64_t us)
{
    if (us == DK_TIME_NONE) {
        return dk_view_of(NULL, 0);
    }
    char *text = texts->text[texts->used++];
    dk_time_format(us, text);
    return dk_view_str(text);
}

/* What the struct has as "" or 0 is NULL in the table. */
static struct dk_view text_or_null(const char *s)
{
    return s[0] == '\0' ? dk_view_of(NULL, 0) : dk_view_str(s);
}

static struct dk_view int_or_null(struct mac_texts *texts, int64_t v)
{
    return v == 0 ? dk_view_of(NULL, 0) : text_of_int(texts, v);
}

enum mac_way { MAC_SEAL, MAC_VERIFY };

static dk_rc mac_with(const struct dk_core *core, const struct dk_secret *key,
                      const struct dk_mac_row *row, enum mac_way way, char *out, struct dk_err *err)
{
    return way == MAC_SEAL ? dk_rowmac_compute(&core->suite, key, row, out, err)
                           : dk_rowmac_verify(&core->suite, key, row, out, err);
}

static dk_rc mac(const struct dk_core *core, const char *table, const struct dk_mac_column *columns,
                 size_t count, enum mac_way way, char *row_mac, struct dk_err *err)
{
    struct dk_mac_row row = {"dekhand/row/1", core->registry.uuid, table, columns, count};
    return mac_with(core, &core->registry.k_row, &row, way, row_mac, err);
}

static dk_rc mac_key(const struct dk_core *core, const struct dk_key_row *row, enum mac_way way,
                     char *row_mac, struct dk_err *err)
{
    struct mac_texts texts = {.used = 0};
    char check_value[DK_BASE64_LEN(DK_CHECK_BYTES) + 1];
    dk_base64_encode(row->check_value, DK_CHECK_BYTES, check_value);
    const struct dk_mac_column columns[] = {
        {"check_value", dk_view_str(check_value)},
        {"compromised_at", text_of_time(&texts, row->compromised_at)},
        {"context_timestamp", dk_view_str(row->wrap.context_timestamp)},
        {"created_at", text_of_time(&texts, row->created_at)},
        {"disabled_at", text_of_time(&texts, row->disabled_at)},
        {"encrypted_data_key", dk_view_str(row->wrap.encrypted_data_key)},
        {"expires_at", text_of_time(&texts, row->expires_at)},
        {"id", dk_view_str(row->id)},
        {"kms_key_id", dk_view_str(row->wrap.kms_key_id)},
        {"provider", dk_view_str(row->wrap.provider)},
        {"purged_at", text_of_time(&texts, row->purged_at)},
        {"rotated_at", text_of_time(&texts, row->rotated_at)},
        {"state", dk_view_str(dk_state_name(row->state))},
        {"tenant_id", dk_tenant_view(&row->tenant)},
        {"version", text_of_int(&texts, row->version)},
    };
    return mac(core, "encryption_keys", columns, sizeof columns / sizeof columns[0], way, row_mac,
               err);
}

static dk_rc mac_tenant(const struct dk_core *core, const struct dk_tenant_row *row,
                        enum mac_way way, char *row_mac, struct dk_err *err)
{
    struct mac_texts texts = {.used = 0};
    const struct dk_mac_column columns[] = {
        {"epoch", text_of_int(&texts, row->epoch)},
        {"keys_digest", text_or_null(row->keys_digest)},
        {"log_head", text_or_null(row->log_head)},
        {"next_version", text_of_int(&texts, row->next_version)},
        {"rotation_days", int_or_null(&texts, row->rotation_days)},
        {"tenant_id", dk_tenant_view(&row->tenant)},
    };
    return mac(core, "tenants", columns, sizeof columns / sizeof columns[0], way, row_mac, err);
}

static dk_rc mac_log(const struct dk_core *core, const struct dk_log_row *row, enum mac_way way,
                     char *out, struct dk_err *err)
{
    struct mac_texts texts = {.used = 0};
    const struct dk_mac_column columns[] = {
        {"detail", text_or_null(row->detail)},
        {"error_message", text_or_null(row->error_message)},
        {"from_version", int_or_null(&texts, row->from_version)},
        {"id", dk_view_str(row->id)},
        {"node", text_or_null(row->node)},
        {"operation", dk_view_str(row->operation)},
        {"performed_at", text_of_time(&texts, row->performed_at)},
        {"performed_by", text_or_null(row->performed_by)},
        {"prev", text_or_null(row->prev)},
        {"success", dk_view_str(row->success ? "true" : "false")},
        {"tenant_id", dk_view_str(row->tenant)},
        {"to_version", int_or_null(&texts, row->to_version)},
    };
    struct dk_mac_row all = {"dekhand/log/1", core->registry.uuid, "key_rotation_log", columns,
                             sizeof columns / sizeof columns[0]};
    return mac_with(core, &core->registry.k_log, &all, way, out, err);
}

static dk_rc mac_seal(const struct dk_core *core, const struct dk_seal_row *row, enum mac_way way,
                      char *out, struct dk_err *err)
{
    struct mac_texts texts = {.used = 0};
    const struct dk_mac_column columns[] = {
        {"at", text_of_time(&texts, row->at)},
        {"heads", dk_view_str(row->heads)},
        {"n", text_of_int(&texts, row->n)},
        {"prev", text_or_null(row->prev)},
    };
    struct dk_mac_row all = {"dekhand/seal/1", core->registry.uuid, "seals", columns,
                             sizeof columns / sizeof columns[0]};
    return mac_with(core, &core->registry.k_seal, &all, way, out, err);
}

dk_rc dk_registry_seal_log(const struct dk_core *core, struct dk_log_row *row, struct dk_err *err)
{
    return mac_log(core, row, MAC_SEAL, row->mac, err);
}

dk_rc dk_registry_verify_log(const struct dk_core *core, const struct dk_log_row *row,
                             struct dk_err *err)
{
    char mac[DK_MAC_TEXT];
    memcpy(mac, row->mac, sizeof mac);
    return mac_log(core, row, MAC_VERIFY, mac, err);
}

dk_rc dk_registry_seal_seal(const struct dk_core *core, struct dk_seal_row *row, struct dk_err *err)
{
    return mac_seal(core, row, MAC_SEAL, row->mac, err);
}

dk_rc dk_registry_verify_seal(const struct dk_core *core, const struct dk_seal_row *row,
                              struct dk_err *err)
{
    char mac[DK_MAC_TEXT];
    memcpy(mac, row->mac, sizeof mac);
    return mac_seal(core, row, MAC_VERIFY, mac, err);
}

dk_rc dk_registry_seal_key(const struct dk_core *core, struct dk_key_row *row, struct dk_err *err)
{
    return mac_key(core, row, MAC_SEAL, row->row_mac, err);
}

dk_rc dk_registry_seal_tenant(const struct dk_core *core, struct dk_tenant_row *row,
                              struct dk_err *err)
{
    return mac_tenant(core, row, MAC_SEAL, row->row_mac, err);
}

dk_rc dk_registry_verify_key(const struct dk_core *core, const struct dk_key_row *row,
                             struct dk_err *err)
{
    char row_mac[DK_MAC_TEXT];
    memcpy(row_mac, row->row_mac, sizeof row_mac);
    dk_rc rc = mac_key(core, row, MAC_VERIFY, row_mac, err);
    return rc == DK_OK ? rc
                       : dk_err_while(err, "version %u of tenant %s", row->version, row->tenant.s);
}

dk_rc dk_registry_verify_tenant(const struct dk_core *core, const struct dk_tenant_row *row,
                                struct dk_err *err)
{
    char row_mac[DK_MAC_TEXT];
    memcpy(row_mac, row->row_mac, sizeof row_mac);
    dk_rc rc = mac_tenant(core, row, MAC_VERIFY, row_mac, err);
    return rc == DK_OK ? rc : dk_err_while(err, "tenant %s", row->tenant.s);
}
