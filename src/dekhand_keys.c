/* The door for keys: rotation, metadata, export. */
#include "door.h"
#include "keys/inspect.h"
#include "keys/rotate.h"
#include "keys/states.h"

/* ---- keys ----------------------------------------------------------------------------------- */

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

/* ---- export --------------------------------------------------------------------------------- */

static dk_rc export_key(struct dekhand *d, const char *tenant, uint32_t version, bool allow,
                        uint8_t *out, struct dk_err *err)
{
    struct dk_key_name name = {.version = version};
    struct dk_secret key = {0};
    if (!allow) {
        return DK_FAIL(err, USAGE,
                       "a key leaves only when it is asked for by name: "
                       "--allow-key-export, or allow = true");
    }
    if (out == NULL || tenant == NULL || version == 0 || version > DK_FIELD_VERSION_MAX) {
        return DK_FAIL(err, USAGE, "a tenant and a version from 1 on are needed");
    }
    DK_TRY(dk_tenant_parse(dk_view_str(tenant), &name.tenant, err));
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
