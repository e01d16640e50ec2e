#include "keys/create.h"

#include "keys/audit_state.h"
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

/* What one tenant's first version stores. */
struct first_rows {
    struct dk_tenant_row tenant;
    struct dk_log_row log;
};

/* The tenant's row and its first log row, each with what ties it to the other. */
static dk_rc prepare_first(struct dk_core *core, struct dk_key_row *row, struct first_rows *out,
                           struct dk_err *err)
{
    out->tenant = (struct dk_tenant_row){.tenant = row->tenant, .next_version = 2, .epoch = 1};
    DK_TRY(dk_create_check_clock(core, row, err));
    DK_TRY(dk_registry_seal_key(core, NULL, row, err)); /* here, where the registry's key stays */
    DK_TRY(dk_audit_row(core, NULL, row->tenant.s, "create", &out->log, err));
    out->log.to_version = row->version;
    out->log.detail = row->wrap.kms_key_id;
    DK_TRY(dk_audit_first_digest(core, row, out->tenant.keys_digest, err));
    DK_TRY(dk_audit_chain(core, &out->tenant, &out->log, err));
    return dk_registry_seal_tenant(core, NULL, &out->tenant, err);
}

/* One that was there already has its key: of another process, which was first. */
static dk_rc note_inserted(struct dk_change *change, const struct dk_first *first,
                           struct dk_err *err)
{
    if (first->orphans) {
        return DK_FAIL(err, TAMPERED,
                       "tenant %s has key rows but no tenant row: it is not a new tenant",
                       first->tenant->tenant.s);
    }
    return first->inserted ? dk_audit_add_head(change, first->tenant, err) : DK_OK;
}

/* All tenants of a batch. */
struct batch {
    struct dk_key_row *rows;
    const dk_rc *rc; /* only those that are DK_OK */
    size_t count;
    struct first_rows *first_rows;
    struct dk_first *firsts;
};

static dk_rc insert_in(struct dk_core *core, struct dk_change *change, struct batch *batch,
                       struct dk_err *err)
{
    struct dk_txn *txn = change->txn;
    size_t n = 0;
    for (size_t i = 0; i < batch->count; i++) {
        if (batch->rc[i] == DK_OK) {
            struct first_rows *rows = &batch->first_rows[n];
            DK_TRY(prepare_first(core, &batch->rows[i], rows, err));
            batch->firsts[n++] =
                (struct dk_first){&rows->tenant, &batch->rows[i], &rows->log, 0, 0};
        }
    }
    DK_TRY(txn->ops->insert_first(txn->self, batch->firsts, n, err));
    for (size_t i = 0; i < n; i++) {
        DK_TRY(note_inserted(change, &batch->firsts[i], err));
    }
    if (change->n > 0) {
        DK_TRY(dk_change_seal(core, change, err));
    }
    dk_trace(core->world, "first_use.before_commit");
    return dk_store_commit(txn, err);
}

static dk_rc insert_batch(struct dk_core *core, struct batch *batch, struct dk_err *err)
{
    struct dk_txn txn;
    struct dk_change change;
    DK_TRY(dk_registry_begin(core, DK_TXN_WRITE, &txn, err));
    dk_change_init(&change, core, &txn);
    dk_rc all = insert_in(core, &change, batch, err);
    dk_change_clear(&change);
    dk_store_rollback(&txn);
    if (all == DK_OK) {
        dk_trace(core->world, "first_use.committed");
    }
    return all;
}

static dk_rc insert_all(struct dk_core *core, struct dk_key_row *rows, size_t count,
                        const dk_rc *rc, struct dk_err *err)
{
    const struct dk_mem *mem = &core->world->mem;
    struct batch batch = {.rows = rows,
                          .rc = rc,
                          .count = count,
                          .first_rows = dk_mem_alloc(mem, count * sizeof *batch.first_rows),
                          .firsts = dk_mem_alloc(mem, count * sizeof *batch.firsts)};
    dk_rc all = batch.first_rows != NULL && batch.firsts != NULL
                    ? insert_batch(core, &batch, err)
                    : DK_FAIL(err, NOMEM, "no memory for %zu new tenants", count);
    dk_mem_free(mem, batch.first_rows);
    dk_mem_free(mem, batch.firsts);
    return all;
}

static bool ignore_mac(void *arg, size_t i, uint32_t version, const char *row_mac)
{
    (void)arg;
    (void)i;
    (void)version;
    (void)row_mac;
    return true;
}

/* I07: rows of the tenant, tombstones too, mean that it is not new; unless its tenant row is there
   too: then another made it since this caller looked. */
static dk_rc check_new(const struct dk_find *find, struct dk_err *err)
{
    if (find->versions > 0 && find->row_rc == DK_E_NOT_FOUND) {
        return DK_FAIL(err, TAMPERED,
                       "tenant %s has key rows but no tenant row: it is not a new tenant",
                       find->tenant->s);
    }
    return DK_OK;
}

static dk_rc find_all(struct dk_core *core, struct dk_find *finds, size_t count, struct dk_err *err)
{
    struct dk_txn txn;
    DK_TRY(dk_registry_begin(core, DK_TXN_READ, &txn, err));
    dk_rc rc = txn.ops->find_many(txn.self, finds, count, ignore_mac, NULL, err);
    dk_store_rollback(&txn);
    return rc;
}

static dk_rc check_all_new(struct dk_core *core, const struct dk_tenant *const *tenants,
                           size_t count, struct dk_key_row *scratch, dk_rc *rc, struct dk_err *err)
{
    struct dk_find *finds = dk_mem_alloc(&core->world->mem, count * sizeof *finds);
    if (finds == NULL) {
        return DK_FAIL(err, NOMEM, "no memory to look for %zu tenants", count);
    }
    for (size_t i = 0; i < count; i++) {
        finds[i] = (struct dk_find){.tenant = tenants[i], .key = &scratch[i], .no_log = true};
    }
    dk_rc all = find_all(core, finds, count, err);
    for (size_t i = 0; i < count && all == DK_OK; i++) {
        struct dk_err one;
        dk_err_clear(&one);
        rc[i] = check_new(&finds[i], &one);
        if (rc[i] != DK_OK) {
            *err = one;
        }
    }
    dk_mem_free(&core->world->mem, finds);
    return all;
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
