/* The MACs of rows, log rows and seals: columns sorted by name, texts as docs/FORMAT.md says. */
#include "crypto/rowmac.h"
#include "keys/registry.h"
#include "keys/registry_state.h"

/* Text of a number or a time lives in the caller's array. */
struct mac_texts {
    char text[12][DK_TIME_TEXT];
    size_t used;
};

static struct dk_view text_of_int(struct mac_texts *texts, int64_t v)
{
    char *text = texts->text[texts->used++];
    uint64_t left = v < 0 ? -(uint64_t)v : (uint64_t)v;
    size_t at = DK_TIME_TEXT;
    do {
        text[--at] = (char)('0' + left % 10);
        left /= 10;
    } while (left > 0);
    if (v < 0) {
        text[--at] = '-';
    }
    return dk_view_of(text + at, DK_TIME_TEXT - at);
}

static struct dk_view text_of_time(struct mac_texts *texts, int64_t us)
{
    if (us == DK_TIME_NONE) {
        return dk_view_of(NULL, 0);
    }
    char *text = texts->text[texts->used++];
    dk_time_format(us, text);
    return dk_view_of(text, DK_TIME_TEXT - 1);
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
enum mac_of { OF_ROW, OF_LOG, OF_SEAL };

/* By which key a MAC is made or verified; `keys` NULL = the registry's as it is now. */
struct mac_call {
    const struct dk_core *core;
    const struct dk_registry_keys *keys;
    enum mac_of of;
    enum mac_way way;
};

static dk_rc mac_by(const struct mac_call *call, const struct dk_registry_keys *keys,
                    const struct dk_mac_row *row, char *mac, struct dk_err *err)
{
    const struct dk_suite *suite = &call->core->suite;
    struct dk_mac *key = call->of == OF_ROW   ? keys->row
                         : call->of == OF_LOG ? keys->log
                                              : keys->seal;
    if (key == NULL) {
        return DK_FAIL(err, INTERNAL, "the registry is not open");
    }
    return call->way == MAC_SEAL ? dk_rowmac_compute(suite, key, row, mac, err)
                                 : dk_rowmac_verify(suite, key, row, mac, err);
}

/* A row of a tenant or a key is believed under the key before too, while a rekey moves the rows. */
static dk_rc mac_now(const struct mac_call *call, const struct dk_mac_row *row, char *mac,
                     struct dk_err *err)
{
    const struct dk_registry *registry = call->core->registry;
    struct dk_err first;
    dk_err_clear(&first);
    dk_rc rc = mac_by(call, &registry->now, row, mac, &first);
    bool again = rc == DK_E_TAMPERED && call->way == MAC_VERIFY && call->of == OF_ROW &&
                 registry->earlier.generation != 0;
    if (again) {
        return mac_by(call, &registry->earlier, row, mac, err);
    }
    if (rc != DK_OK) {
        *err = first;
    }
    return rc;
}

static dk_rc mac_row(const struct mac_call *call, const struct dk_mac_row *row, char *mac,
                     struct dk_err *err)
{
    if (call->keys != NULL) {
        return mac_by(call, call->keys, row, mac, err);
    }
    pthread_rwlock_rdlock(&call->core->registry->lock);
    dk_rc rc = mac_now(call, row, mac, err);
    pthread_rwlock_unlock(&call->core->registry->lock);
    return rc;
}

#define MAC_ROW(call, label, table, columns)                                                       \
    {                                                                                              \
        label, (call)->core->registry->uuid, table, columns, sizeof(columns) / sizeof *(columns)   \
    }

static dk_rc mac_key(const struct mac_call *call, const struct dk_key_row *row, char *mac,
                     struct dk_err *err)
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
    struct dk_mac_row all = MAC_ROW(call, "dekhand/row/1", "encryption_keys", columns);
    return mac_row(call, &all, mac, err);
}

static dk_rc mac_wrap(const struct mac_call *call, const struct dk_wrap_row *row, char *mac,
                      struct dk_err *err)
{
    struct mac_texts texts = {.used = 0};
    const struct dk_mac_column columns[] = {
        {"context_timestamp", dk_view_str(row->wrap.context_timestamp)},
        {"encrypted_data_key", dk_view_str(row->wrap.encrypted_data_key)},
        {"kms_key_id", dk_view_str(row->wrap.kms_key_id)},
        {"last_verified_at", text_of_time(&texts, row->last_verified_at)},
        {"provider", dk_view_str(row->wrap.provider)},
        {"tenant_id", dk_tenant_view(&row->tenant)},
        {"version", text_of_int(&texts, row->version)},
    };
    struct dk_mac_row all = MAC_ROW(call, "dekhand/row/1", "wraps", columns);
    return mac_row(call, &all, mac, err);
}

static dk_rc mac_tenant(const struct mac_call *call, const struct dk_tenant_row *row, char *mac,
                        struct dk_err *err)
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
    struct dk_mac_row all = MAC_ROW(call, "dekhand/row/1", "tenants", columns);
    return mac_row(call, &all, mac, err);
}

static dk_rc mac_log(const struct mac_call *call, const struct dk_log_row *row, char *mac,
                     struct dk_err *err)
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
    struct dk_mac_row all = MAC_ROW(call, "dekhand/log/1", "key_rotation_log", columns);
    return mac_row(call, &all, mac, err);
}

static dk_rc mac_seal(const struct mac_call *call, const struct dk_seal_row *row, char *mac,
                      struct dk_err *err)
{
    struct mac_texts texts = {.used = 0};
    const struct dk_mac_column columns[] = {
        {"at", text_of_time(&texts, row->at)},
        {"heads", dk_view_str(row->heads)},
        {"n", text_of_int(&texts, row->n)},
        {"prev", text_or_null(row->prev)},
    };
    struct dk_mac_row all = MAC_ROW(call, "dekhand/seal/1", "seals", columns);
    return mac_row(call, &all, mac, err);
}

dk_rc dk_registry_seal_key(const struct dk_core *core, const struct dk_registry_keys *keys,
                           struct dk_key_row *row, struct dk_err *err)
{
    struct mac_call call = {core, keys, OF_ROW, MAC_SEAL};
    return mac_key(&call, row, row->row_mac, err);
}

dk_rc dk_registry_seal_wrap(const struct dk_core *core, const struct dk_registry_keys *keys,
                            struct dk_wrap_row *row, struct dk_err *err)
{
    struct mac_call call = {core, keys, OF_ROW, MAC_SEAL};
    return mac_wrap(&call, row, row->row_mac, err);
}

dk_rc dk_registry_verify_wrap(const struct dk_core *core, const struct dk_registry_keys *keys,
                              const struct dk_wrap_row *row, struct dk_err *err)
{
    struct mac_call call = {core, keys, OF_ROW, MAC_VERIFY};
    char mac[DK_MAC_TEXT];
    memcpy(mac, row->row_mac, sizeof mac);
    dk_rc rc = mac_wrap(&call, row, mac, err);
    return rc == DK_OK ? rc
                       : dk_err_while(err, "a further wrap of version %u of tenant %s",
                                      row->version, row->tenant.s);
}

dk_rc dk_registry_seal_tenant(const struct dk_core *core, const struct dk_registry_keys *keys,
                              struct dk_tenant_row *row, struct dk_err *err)
{
    struct mac_call call = {core, keys, OF_ROW, MAC_SEAL};
    return mac_tenant(&call, row, row->row_mac, err);
}

dk_rc dk_registry_seal_log(const struct dk_core *core, const struct dk_registry_keys *keys,
                           struct dk_log_row *row, struct dk_err *err)
{
    struct mac_call call = {core, keys, OF_LOG, MAC_SEAL};
    return mac_log(&call, row, row->mac, err);
}

dk_rc dk_registry_seal_seal(const struct dk_core *core, const struct dk_registry_keys *keys,
                            struct dk_seal_row *row, struct dk_err *err)
{
    struct mac_call call = {core, keys, OF_SEAL, MAC_SEAL};
    return mac_seal(&call, row, row->mac, err);
}

dk_rc dk_registry_verify_key(const struct dk_core *core, const struct dk_registry_keys *keys,
                             const struct dk_key_row *row, struct dk_err *err)
{
    struct mac_call call = {core, keys, OF_ROW, MAC_VERIFY};
    char mac[DK_MAC_TEXT];
    memcpy(mac, row->row_mac, sizeof mac);
    dk_rc rc = mac_key(&call, row, mac, err);
    return rc == DK_OK ? rc
                       : dk_err_while(err, "version %u of tenant %s", row->version, row->tenant.s);
}

dk_rc dk_registry_verify_tenant(const struct dk_core *core, const struct dk_registry_keys *keys,
                                const struct dk_tenant_row *row, struct dk_err *err)
{
    struct mac_call call = {core, keys, OF_ROW, MAC_VERIFY};
    char mac[DK_MAC_TEXT];
    memcpy(mac, row->row_mac, sizeof mac);
    dk_rc rc = mac_tenant(&call, row, mac, err);
    return rc == DK_OK ? rc : dk_err_while(err, "tenant %s", row->tenant.s);
}

dk_rc dk_registry_verify_log(const struct dk_core *core, const struct dk_registry_keys *keys,
                             const struct dk_log_row *row, struct dk_err *err)
{
    struct mac_call call = {core, keys, OF_LOG, MAC_VERIFY};
    char mac[DK_MAC_TEXT];
    memcpy(mac, row->mac, sizeof mac);
    return mac_log(&call, row, mac, err);
}

dk_rc dk_registry_verify_seal(const struct dk_core *core, const struct dk_registry_keys *keys,
                              const struct dk_seal_row *row, struct dk_err *err)
{
    struct mac_call call = {core, keys, OF_SEAL, MAC_VERIFY};
    char mac[DK_MAC_TEXT];
    memcpy(mac, row->mac, sizeof mac);
    return mac_seal(&call, row, mac, err);
}
