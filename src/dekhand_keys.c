/* The door for keys: rotation, metadata, export. */
#include "dekhand_admin.h"

#include "door.h"
#include "keys/inspect.h"
#include "keys/policy.h"
#include "keys/rotate.h"
#include "keys/states.h"
#include "keys/version.h"

/* ---- keys ------------------------------------------------------------------------------------ */

struct rotation_call {
    bool (*each)(void *arg, const struct dekhand_rotation *rotation);
    void *arg;
};

static bool tell_rotation(void *arg, const struct dk_rotation *rotation)
{
    const struct rotation_call *call = arg;
    struct dekhand_rotation out = {rotation->tenant.s, rotation->from_version, rotation->to_version,
                                   (int)rotation->rc, rotation->text};
    return call->each == NULL || call->each(call->arg, &out);
}

static dk_rc rotate(struct dekhand *d, const struct dekhand_rotate_args *args,
                    struct rotation_call *call, struct dk_err *err)
{
    struct dk_tenant tenant;
    if (args == NULL || args->size != sizeof *args) {
        return DK_FAIL(err, USAGE, "dekhand_rotate_args.size is not %zu", sizeof *args);
    }
    bool one = args->which == DEKHAND_ROTATE_TENANT;
    DK_TRY(dk_door_enter(d, DK_MAY_ROTATE, one ? args->tenant : NULL, err));
    if (args->compromised) {
        DK_TRY(dk_door_enter(d, DK_MAY_ADMINISTER, one ? args->tenant : NULL, err));
    }
    struct dk_rotate_args inner = {.which = (enum dk_rotate_which)args->which,
                                   .if_version = args->if_version,
                                   .dry_run = args->dry_run,
                                   .compromised = args->compromised,
                                   .by = d->actor.name};
    if (one) {
        if (args->tenant == NULL) {
            return DK_FAIL(err, USAGE, "no tenant is given");
        }
        DK_TRY(dk_tenant_parse(dk_view_str(args->tenant), &tenant, err));
        inner.tenant = &tenant;
    } else if (args->which != DEKHAND_ROTATE_DUE && args->which != DEKHAND_ROTATE_ALL) {
        return DK_FAIL(err, USAGE, "what to rotate is neither a tenant, nor due, nor all");
    }
    struct dk_instance *in = d->in;
    return dk_rotate(&in->core, dk_manager_cache(in->manager), &inner, tell_rotation, call, err);
}

int dekhand_rotate(struct dekhand *d, const struct dekhand_rotate_args *args,
                   bool (*each)(void *arg, const struct dekhand_rotation *rotation), void *arg,
                   struct dekhand_error *error)
{
    struct dk_err err;
    struct rotation_call call = {each, arg};
    dk_err_clear(&err);
    return dk_door_leave(rotate(d, args, &call, &err), &err, error);
}

struct keys_call {
    const struct dk_core *core;
    bool (*each)(void *arg, const struct dekhand_key *key);
    void *arg;
};

static bool tell_key(void *arg, const struct dk_key_row *row, dk_rc rc)
{
    const struct keys_call *call = arg;
    const struct dk_core *core = call->core;
    struct dekhand_key key = {
        .tenant = row->tenant.s,
        .version = row->version,
        .state = dk_state_name(row->state),
        .provider = row->wrap.provider,
        .kms_key_id = row->wrap.kms_key_id,
        .created_at = row->created_at,
        .expires_at = row->expires_at,
        .rotated_at = row->rotated_at,
        .compromised_at = row->compromised_at,
        .disabled_at = row->disabled_at,
        .purged_at = row->purged_at,
        .messages = row->messages,
        .due =
            row->state == DK_ACTIVE && dk_state_is_due(row, dk_wall_us(core->world), &core->limits),
        .code = (int)rc,
    };
    return call->each(call->arg, &key);
}

int dekhand_keys(struct dekhand *d, const char *tenant,
                 bool (*each)(void *arg, const struct dekhand_key *key), void *arg,
                 struct dekhand_error *error)
{
    struct dk_err err;
    struct dk_tenant parsed;
    struct keys_call call = {NULL, each, arg};
    dk_err_clear(&err);
    dk_rc rc = dk_door_enter(d, DK_MAY_VIEW_KEYS, tenant, &err);
    if (rc == DK_OK && each == NULL) {
        rc = DK_FAIL(&err, USAGE, "nobody is there to be told the keys");
    }
    if (rc == DK_OK && tenant != NULL) {
        rc = dk_tenant_parse(dk_view_str(tenant), &parsed, &err);
    }
    if (rc == DK_OK) {
        call.core = &d->in->core;
        rc = dk_inspect_keys(&d->in->core, tenant != NULL ? &parsed : NULL, tell_key, &call, &err);
    }
    return dk_door_leave(rc, &err, error);
}

/* ---- tenants --------------------------------------------------------------------------------- */

struct tenants_call {
    bool (*each)(void *arg, const struct dekhand_tenant *tenant);
    void *arg;
};

static bool tell_tenant(void *arg, const struct dk_tenant_row *row, dk_rc rc)
{
    const struct tenants_call *call = arg;
    struct dekhand_tenant tenant = {.tenant = row->tenant.s,
                                    .versions = (uint32_t)(row->next_version - 1),
                                    .rotation_days = row->rotation_days,
                                    .code = (int)rc};
    return call->each(call->arg, &tenant);
}

int dekhand_tenants(struct dekhand *d, const char *tenant,
                    bool (*each)(void *arg, const struct dekhand_tenant *tenant), void *arg,
                    struct dekhand_error *error)
{
    struct dk_err err;
    struct dk_tenant parsed;
    struct tenants_call call = {each, arg};
    dk_err_clear(&err);
    dk_rc rc = dk_door_enter(d, DK_MAY_VIEW_KEYS, tenant, &err);
    if (rc == DK_OK && each == NULL) {
        rc = DK_FAIL(&err, USAGE, "nobody is there to be told the tenants");
    }
    if (rc == DK_OK && tenant != NULL) {
        rc = dk_tenant_parse(dk_view_str(tenant), &parsed, &err);
    }
    if (rc == DK_OK) {
        rc = dk_inspect_tenants(&d->in->core, tenant != NULL ? &parsed : NULL, tell_tenant, &call,
                                &err);
    }
    return dk_door_leave(rc, &err, error);
}

static dk_rc set_tenant(struct dekhand *d, const char *tenant, int64_t days, int64_t *expires_at,
                        struct dk_err *err)
{
    struct dk_tenant parsed;
    int64_t expires = DK_TIME_NONE;
    DK_TRY(dk_door_enter(d, DK_MAY_ADMINISTER, tenant, err));
    if (tenant == NULL) {
        return DK_FAIL(err, USAGE, "no tenant is given");
    }
    DK_TRY(dk_tenant_parse(dk_view_str(tenant), &parsed, err));
    DK_TRY(dk_policy_set(&d->in->core, dk_manager_cache(d->in->manager), &parsed, days,
                         d->actor.name, &expires, err));
    if (expires_at != NULL) {
        *expires_at = expires;
    }
    return DK_OK;
}

int dekhand_tenant_set(struct dekhand *d, const char *tenant, int64_t rotation_days,
                       int64_t *expires_at, struct dekhand_error *error)
{
    struct dk_err err;
    dk_err_clear(&err);
    return dk_door_leave(set_tenant(d, tenant, rotation_days, expires_at, &err), &err, error);
}

/* ---- one version ----------------------------------------------------------------------------- */

static dk_rc move_version(struct dekhand *d, const char *tenant, uint32_t version, enum dk_state to,
                          bool *changed, struct dk_err *err)
{
    struct dk_key_name name;
    bool moved = false;
    DK_TRY(dk_door_enter(d, DK_MAY_ADMINISTER, tenant, err));
    DK_TRY(dk_door_name_key(tenant, version, &name, err));
    DK_TRY(dk_version_move(&d->in->core, dk_manager_cache(d->in->manager), &name, to, d->actor.name,
                           &moved, err));
    if (changed != NULL) {
        *changed = moved;
    }
    return DK_OK;
}

int dekhand_key_disable(struct dekhand *d, const char *tenant, uint32_t version, bool *changed,
                        struct dekhand_error *error)
{
    struct dk_err err;
    dk_err_clear(&err);
    dk_rc rc = move_version(d, tenant, version, DK_DISABLED, changed, &err);
    return dk_door_leave(rc, &err, error);
}

int dekhand_key_enable(struct dekhand *d, const char *tenant, uint32_t version, bool *changed,
                       struct dekhand_error *error)
{
    struct dk_err err;
    dk_err_clear(&err);
    dk_rc rc = move_version(d, tenant, version, DK_RETIRED, changed, &err);
    return dk_door_leave(rc, &err, error);
}

/* ---- export ---------------------------------------------------------------------------------- */

static dk_rc export_key(struct dekhand *d, const char *tenant, uint32_t version, bool allow,
                        uint8_t *out, struct dk_err *err)
{
    struct dk_key_name name;
    struct dk_secret key = {0};
    if (!allow) {
        return DK_FAIL(err, USAGE,
                       "a key leaves only when it is asked for by name: "
                       "--allow-key-export, or allow = true");
    }
    if (out == NULL) {
        return DK_FAIL(err, USAGE, "no place for the result");
    }
    DK_TRY(dk_door_name_key(tenant, version, &name, err));
    DK_TRY(dk_inspect_export(&d->in->core, &name, d->actor.name, &key, err));
    memcpy(out, dk_secret_expose_for_crypto(&key), DEKHAND_DATA_KEY);
    dk_secret_free(d->in->core.arena, &key);
    return DK_OK;
}

int dekhand_key_export(struct dekhand *d, const char *tenant, uint32_t version, bool allow,
                       uint8_t out[DEKHAND_DATA_KEY], struct dekhand_error *error)
{
    struct dk_err err;
    dk_err_clear(&err);
    dk_rc rc = dk_door_enter(d, DK_MAY_ADMINISTER, tenant, &err);
    if (rc == DK_OK) {
        rc = export_key(d, tenant, version, allow, out, &err);
    }
    return dk_door_leave(rc, &err, error);
}
