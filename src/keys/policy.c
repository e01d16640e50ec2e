#include "keys/policy.h"

#include <stdio.h>

#include "base/options.h"
#include "keys/registry.h"
#include "keys/tenant_change.h"

static dk_rc read_active(struct dk_tenant_change *change, struct dk_key_row *out,
                         struct dk_err *err)
{
    struct dk_err cause;
    const struct dk_tenant *tenant = &change->row.tenant;
    dk_err_clear(&cause);
    dk_rc rc = change->txn.ops->key_read_active(change->txn.self, tenant, out, &cause);
    if (rc == DK_E_NOT_FOUND) { /* its rows are those of its last change: it was given up */
        return DK_FAIL(err, REFUSED,
                       "tenant %s has no active version: `dekhand rotate --tenant %s` makes one",
                       tenant->s, tenant->s);
    }
    if (rc != DK_OK) {
        *err = cause;
    }
    return rc;
}

static dk_rc set_in(struct dk_tenant_change *change, int64_t days, int64_t *expires_at,
                    struct dk_err *err)
{
    struct dk_core *core = change->core;
    struct dk_key_row row;
    char detail[32];
    DK_TRY(read_active(change, &row, err));
    DK_TRY(dk_registry_verify_key(core, NULL, &row, err));
    row.expires_at = row.created_at + (days > 0 ? days * DK_DAY_US : core->limits.rotation_us);
    DK_TRY(dk_tenant_change_key(change, &row, row.state, err));
    change->row.rotation_days = days;
    snprintf(detail, sizeof detail, "rotation_days %d", (int)days);
    DK_TRY(dk_tenant_change_close(change, "tenant-set", 0, 0,
                                  days > 0 ? detail : "rotation_days default", err));
    *expires_at = row.expires_at;
    return dk_store_commit(&change->txn, err);
}

dk_rc dk_policy_set(struct dk_core *core, struct dk_cache *cache, const struct dk_tenant *tenant,
                    int64_t days, const char *by, int64_t *expires_at, struct dk_err *err)
{
    struct dk_tenant_change change;
    int64_t most = dk_options[DK_OPT_ROTATION_DAYS].max;
    if (days < 0 || days > most) {
        return DK_FAIL(err, USAGE, "a rotation period is 1 to %lld days, or 0 for the default",
                       (long long)most);
    }
    DK_TRY(dk_audit_check(core, err));
    DK_TRY(dk_tenant_change_begin(core, tenant, by, &change, err));
    dk_rc rc = set_in(&change, days, expires_at, err);
    dk_tenant_change_end(&change);
    dk_cache_forget(cache, tenant, 1);
    return rc;
}
