#include "keys/version.h"

#include "keys/registry.h"
#include "keys/states.h"
#include "keys/tenant_change.h"

static dk_rc refuse(const struct dk_key_row *row, enum dk_state to, struct dk_err *err)
{
    if (row->state == DK_PURGED) {
        return DK_FAIL(err, REFUSED, "version %u of tenant %s was purged: there is no key to %s",
                       row->version, row->tenant.s, to == DK_DISABLED ? "disable" : "enable");
    }
    return DK_FAIL(err, REFUSED,
                   "version %u of tenant %s is the one that encrypts: `dekhand rotate` first, then "
                   "disable it",
                   row->version, row->tenant.s);
}

static dk_rc read_row(struct dk_tenant_change *change, const struct dk_key_name *name,
                      struct dk_key_row *out, struct dk_err *err)
{
    struct dk_err cause;
    dk_err_clear(&cause);
    dk_rc rc =
        change->txn.ops->key_read(change->txn.self, &name->tenant, name->version, out, &cause);
    if (rc == DK_E_NOT_FOUND) {
        return DK_FAIL(err, UNKNOWN_VERSION, "tenant %s has no version %u", name->tenant.s,
                       name->version);
    }
    if (rc != DK_OK) {
        *err = cause;
        return rc;
    }
    return dk_registry_verify_key(change->core, NULL, out, err);
}

static dk_rc move_in(struct dk_tenant_change *change, const struct dk_key_name *name,
                     enum dk_state to, bool *changed, struct dk_err *err)
{
    struct dk_key_row row;
    DK_TRY(read_row(change, name, &row, err));
    enum dk_state from = row.state;
    if (from == to || (to == DK_RETIRED && from == DK_ACTIVE)) {
        return DK_OK; /* it opens, or does not open, as is wanted */
    }
    if (!dk_state_may_become(from, to)) {
        return refuse(&row, to, err);
    }
    row.state = to;
    row.disabled_at = to == DK_DISABLED ? dk_wall_us(change->core->world) : DK_TIME_NONE;
    DK_TRY(dk_tenant_change_key(change, &row, from, err));
    DK_TRY(dk_tenant_change_close(change, to == DK_DISABLED ? "disable" : "enable", row.version, 0,
                                  "", err));
    DK_TRY(dk_store_commit(&change->txn, err));
    *changed = true;
    return DK_OK;
}

dk_rc dk_version_move(struct dk_core *core, struct dk_cache *cache, const struct dk_key_name *name,
                      enum dk_state to, const char *by, bool *changed, struct dk_err *err)
{
    struct dk_tenant_change change;
    *changed = false;
    DK_TRY(dk_audit_check(core, err));
    DK_TRY(dk_tenant_change_begin(core, &name->tenant, by, &change, err));
    dk_rc rc = move_in(&change, name, to, changed, err);
    dk_tenant_change_end(&change);
    dk_cache_forget(cache, &name->tenant, 1);
    return rc;
}
