#include "keys/create.h"

#include "keys/audit.h"
#include "keys/keyring.h"
#include "keys/registry.h"

#define CLOCK_SLACK_US (INT64_C(300) * 1000000)

dk_rc dk_create_row(struct dk_core *core, const struct dk_tenant *tenant, uint32_t version,
                    int64_t rotation_days, struct dk_key_row *out, struct dk_err *err)
{
    struct dk_key_row *row = out;
    *row = (struct dk_key_row){.tenant = *tenant,
                               .version = version,
                               .state = DK_ACTIVE,
                               .rotated_at = DK_TIME_NONE,
                               .compromised_at = DK_TIME_NONE,
                               .disabled_at = DK_TIME_NONE,
                               .purged_at = DK_TIME_NONE};
    row->created_at = dk_wall_us(core->world);
    row->expires_at = row->created_at +
                      (rotation_days > 0 ? rotation_days * DK_DAY_US : core->limits.rotation_us);
    char now[DK_TIME_TEXT];
    dk_time_format(row->created_at, now);
    DK_TRY(dk_uuid_new(core->world, row->id, err));

    struct dk_wrap_context context = {dk_tenant_view(tenant), DK_PURPOSE_DATA, now};
    struct dk_secret key = {0};
    struct dk_wrapped wrapped;
    DK_TRY(dk_provider_generate(core->provider, &context, &key, &wrapped, row->check_value, err));
    dk_secret_free(core->arena, &key); /* it is used only after it was read back and unwrapped */
    dk_registry_wrap_columns(core, &wrapped, now, &row->wrap);
    return DK_OK;
}

dk_rc dk_create_check_clock(const struct dk_core *core, const struct dk_key_row *row,
                            struct dk_err *err)
{
    int64_t age = dk_wall_us(core->world) - row->created_at;
    if (age > CLOCK_SLACK_US || age < -CLOCK_SLACK_US) {
        return DK_FAIL(err, CLOCK, "the clock went %lld s while a key was being made",
                       (long long)(age / 1000000));
    }
    return DK_OK;
}

/* The tenant's row and its first log row, each with what ties it to the other. */
static dk_rc prepare_first(struct dk_core *core, const struct dk_key_row *row,
                           struct dk_tenant_row *tenant, struct dk_log_row *log, struct dk_err *err)
{
    *tenant = (struct dk_tenant_row){.tenant = row->tenant, .next_version = 2, .epoch = 1};
    DK_TRY(dk_audit_row(core, NULL, row->tenant.s, "create", log, err));
    log->to_version = row->version;
    log->detail = row->wrap.kms_key_id;
    DK_TRY(dk_audit_first_digest(core, row, tenant->keys_digest, err));
    DK_TRY(dk_audit_chain(core, tenant, log, err));
    return dk_registry_seal_tenant(core, NULL, tenant, err);
}

/* One tenant inside the transaction of all. */
static dk_rc insert_first(struct dk_core *core, struct dk_change *change, struct dk_key_row *row,
                          struct dk_err *err)
{
    struct dk_txn *txn = change->txn;
    struct dk_tenant_row tenant;
    struct dk_log_row log;
    bool inserted = false;
    DK_TRY(dk_create_check_clock(core, row, err));
    DK_TRY(dk_registry_seal_key(core, NULL, row, err)); /* here, where the registry's key stays */
    DK_TRY(prepare_first(core, row, &tenant, &log, err));
    DK_TRY(txn->ops->tenant_insert(txn->self, &tenant, &inserted, err));
    if (!inserted) {
        return DK_OK; /* another process was first: its key is the one */
    }
    dk_trace(core->world, "first_use.tenant_inserted");
    DK_TRY(txn->ops->key_insert(txn->self, row, &inserted, err));
    if (!inserted) {
        return DK_FAIL(err, TAMPERED,
                       "tenant %s has key rows but no tenant row: it is not a new tenant",
                       row->tenant.s);
    }
    dk_trace(core->world, "first_use.key_inserted");
    DK_TRY(dk_audit_store(change, &tenant, &log, err));
    dk_trace(core->world, "first_use.log_written");
    return DK_OK;
}

static dk_rc insert_in(struct dk_core *core, struct dk_change *change, struct dk_key_row *rows,
                       size_t count, const dk_rc *rc, struct dk_err *err)
{
    for (size_t i = 0; i < count; i++) {
        if (rc[i] == DK_OK) {
            DK_TRY(insert_first(core, change, &rows[i], err));
        }
    }
    if (change->n > 0) {
        DK_TRY(dk_change_seal(core, change, err));
    }
    dk_trace(core->world, "first_use.before_commit");
    return dk_store_commit(change->txn, err);
}

static dk_rc insert_all(struct dk_core *core, struct dk_key_row *rows, size_t count,
                        const dk_rc *rc, struct dk_err *err)
{
    struct dk_txn txn;
    struct dk_change change;
    DK_TRY(dk_registry_begin(core, DK_TXN_WRITE, &txn, err));
    dk_change_init(&change, core, &txn);
    dk_rc all = insert_in(core, &change, rows, count, rc, err);
    dk_change_clear(&change);
    dk_store_rollback(&txn);
    if (all == DK_OK) {
        dk_trace(core->world, "first_use.committed");
    }
    return all;
}

/* I07: rows of the tenant, tombstones too, mean that it is not new; unless its tenant row is there
   too: then another made it since this caller looked. */
static dk_rc check_new(struct dk_txn *txn, const struct dk_tenant *tenant,
                       struct dk_key_row *scratch, struct dk_err *err)
{
    struct dk_key_cursor start = {0};
    struct dk_tenant_row row;
    struct dk_err none;
    size_t found = 0;
    DK_TRY(txn->ops->key_list(txn->self, tenant, DK_KEYS_ALL, &start, 1, scratch, &found, err));
    if (found == 0) {
        return DK_OK;
    }
    dk_err_clear(&none);
    dk_rc rc = txn->ops->tenant_read(txn->self, tenant, &row, &none);
    if (rc == DK_E_NOT_FOUND) {
        return DK_FAIL(err, TAMPERED,
                       "tenant %s has key rows but no tenant row: it is not a new tenant",
                       tenant->s);
    }
    return rc == DK_OK ? rc : dk_err_set(err, rc, none.file, none.line, "%s", none.text);
}

static dk_rc check_all_new(struct dk_core *core, const struct dk_tenant *const *tenants,
                           size_t count, struct dk_key_row *scratch, dk_rc *rc, struct dk_err *err)
{
    struct dk_txn txn;
    DK_TRY(dk_registry_begin(core, DK_TXN_READ, &txn, err));
    for (size_t i = 0; i < count; i++) {
        struct dk_err one;
        dk_err_clear(&one);
        rc[i] = check_new(&txn, tenants[i], scratch, &one);
        if (rc[i] != DK_OK) {
            *err = one;
        }
    }
    dk_store_rollback(&txn);
    return DK_OK;
}

dk_rc dk_create_first(struct dk_core *core, const struct dk_tenant *const *tenants, size_t count,
                      dk_rc *rc, struct dk_err *err)
{
    struct dk_key_row *rows = dk_mem_alloc(&core->world->mem, count * sizeof *rows);
    if (rows == NULL) {
        return DK_FAIL(err, NOMEM, "no memory for %zu new keys", count);
    }
    dk_trace(core->world, "first_use.begin");
    dk_rc all = check_all_new(core, tenants, count, rows, rc, err);
    size_t good = 0;
    for (size_t i = 0; i < count && all == DK_OK; i++) {
        if (rc[i] == DK_OK) {
            rc[i] = dk_create_row(core, tenants[i], 1, 0, &rows[i], err);
            good += rc[i] == DK_OK;
        }
    }
    dk_trace(core->world, "first_use.generated");
    if (all == DK_OK && good > 0) {
        struct dk_err of_all;
        dk_err_clear(&of_all);
        all = insert_all(core, rows, count, rc, &of_all);
        if (all != DK_OK) {
            *err = of_all;
        }
    }
    dk_mem_free(&core->world->mem, rows);
    return all;
}
