#include "keys/tenant_change.h"

#include "keys/keyring.h"
#include "keys/registry.h"

dk_rc dk_tenant_change_look(struct dk_core *core, struct dk_txn *txn,
                            const struct dk_tenant *tenant, struct dk_tenant_row *out,
                            struct dk_err *err)
{
    struct dk_err cause;
    dk_err_clear(&cause);
    dk_rc rc = dk_audit_tenant(core, txn, tenant, out, &cause);
    if (rc == DK_E_NOT_FOUND) {
        return DK_FAIL(err, NOT_FOUND, "tenant %s has no key yet: its first encryption makes one",
                       tenant->s);
    }
    if (rc != DK_OK) {
        *err = cause;
    }
    return rc;
}

dk_rc dk_tenant_change_begin(struct dk_core *core, const struct dk_tenant *tenant, const char *by,
                             struct dk_tenant_change *out, struct dk_err *err)
{
    out->core = core;
    DK_TRY(dk_registry_begin(core, DK_TXN_WRITE, &out->txn, err));
    dk_change_init(&out->seal, core, &out->txn);
    out->seal.by = by;
    dk_rc rc = dk_tenant_change_look(core, &out->txn, tenant, &out->row, err);
    rc = rc == DK_OK ? dk_audit_check_tenant(core, &out->txn, &out->row, err) : rc;
    if (rc != DK_OK) {
        dk_tenant_change_end(out);
    }
    return rc;
}

dk_rc dk_tenant_change_key(struct dk_tenant_change *change, struct dk_key_row *row,
                           enum dk_state old_state, struct dk_err *err)
{
    bool changed = false;
    DK_TRY(dk_registry_seal_key(change->core, NULL, row, err));
    DK_TRY(change->txn.ops->key_update(change->txn.self, row, old_state, &changed, err));
    return changed ? DK_OK
                   : DK_FAIL(err, CONFLICT, "version %u of tenant %s was changed by another",
                             row->version, row->tenant.s);
}

dk_rc dk_tenant_change_close(struct dk_tenant_change *change, const char *operation, uint32_t from,
                             uint32_t to, const char *detail, struct dk_err *err)
{
    struct dk_core *core = change->core;
    struct dk_tenant_row *row = &change->row;
    struct dk_log_row log;
    int64_t old_epoch = row->epoch++;
    DK_TRY(dk_audit_row(core, change->seal.by, row->tenant.s, operation, &log, err));
    log.from_version = from;
    log.to_version = to;
    log.detail = detail;
    DK_TRY(dk_audit_digest(core, &change->txn, &row->tenant, row->keys_digest, err));
    DK_TRY(dk_audit_chain(core, row, &log, err));
    DK_TRY(dk_audit_update_tenant(core, &change->txn, row, old_epoch, err));
    dk_trace(core->world, "tenant_change.tenant_updated");
    DK_TRY(dk_audit_store(&change->seal, row, &log, err));
    dk_trace(core->world, "tenant_change.log_written");
    return dk_change_seal(core, &change->seal, err);
}

void dk_tenant_change_end(struct dk_tenant_change *change)
{
    dk_change_clear(&change->seal);
    dk_store_rollback(&change->txn);
}
