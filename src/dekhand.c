/* The library's door: open, close, fork, and on whose behalf a call is made. */
#include "dekhand.h"

#include <sched.h>
#include <stdio.h>
#include <unistd.h>

#include "door.h"
#include "keys/audit.h"
#include "keys/registry.h"
#include "provider/local.h"

/* The public codes are those of errors.def: a number that differs does not compile. */
#define DK_ERROR(name, number, outward, retryable, http, exit, text, todo)                         \
    _Static_assert((int)DEKHAND_E_##name == number, #name);
#include "base/errors.def"
#undef DK_ERROR

const char *dekhand_version(void)
{
    return DK_VERSION;
}

const char *dekhand_error_name(int code)
{
    return code == DEKHAND_OK ? "OK" : dk_error_info((dk_rc)code)->name;
}

int dk_door_leave(dk_rc rc, const struct dk_err *err, struct dekhand_error *error)
{
    if (error == NULL) {
        return (int)rc;
    }
    if (rc == DK_OK) {
        *error = (struct dekhand_error){.code = DEKHAND_OK};
        return DEKHAND_OK;
    }
    const struct dk_error_info *info = dk_error_info(rc);
    error->code = (int)rc;
    error->retryable = info->retryable;
    snprintf(error->name, sizeof error->name, "%s", info->name);
    snprintf(error->text, sizeof error->text, err->trail[0] != '\0' ? "%s (%s)" : "%s%s",
             err->text[0] != '\0' ? err->text : info->text, err->trail);
    snprintf(error->todo, sizeof error->todo, "%s", info->todo);
    return (int)rc;
}

/* ---- open, close, fork ----------------------------------------------------------------------- */

dk_rc dk_door_check_initialised(struct dk_instance *d, struct dk_err *err)
{
    bool exists = false;
    DK_TRY(d->core.store.ops->exists(d->core.store.self, &exists, err));
    if (!exists && dk_file_exists(d->places.anchor)) {
        return DK_FAIL(err, CONFIG,
                       "the registry of the anchor %s is not at %s: put its newest copy back, or "
                       "correct DATABASE_URL",
                       d->places.anchor, d->places.database);
    }
    return exists ? DK_OK
                  : DK_FAIL(err, CONFIG,
                            "there is no registry at %s: is it the right place and user? For the "
                            "first one run `dekhand init`",
                            d->places.database);
}

/* Without any setting of a provider it is taken to be local: the registry may know better. */
static dk_rc explain_provider(struct dk_instance *d, const struct dk_settings *settings,
                              struct dk_err *err)
{
    struct dk_registry_row row;
    struct dk_err ignored;
    dk_err_clear(&ignored);
    if (d->core.provider != NULL || err->rc != DK_E_NO_MASTER_KEY ||
        dk_settings_is_set(settings, DK_OPT_PROVIDER) ||
        dk_registry_read(&d->core, &row, &ignored) != DK_OK || row.wrap.provider[0] == '\0' ||
        strcmp(row.wrap.provider, dk_provider_local.name) == 0) {
        return err->rc;
    }
    bool aws = strcmp(row.wrap.provider, "aws-kms") == 0;
    dk_err_clear(err);
    return DK_FAIL(err, CONFIG, "%s is required: the registry's key is wrapped by %s, %.150s",
                   aws ? "AWS_KMS_KEY_ID" : "AZURE_KEY_VAULT_URL", row.wrap.provider,
                   row.wrap.kms_key_id);
}

dk_rc dk_door_open_provider(struct dk_instance *d, const struct dk_settings *settings,
                            const struct dk_parts *parts, struct dk_err *err)
{
    dk_rc rc = dk_wire_provider(d, settings, parts, err);
    return rc == DK_OK ? rc : explain_provider(d, settings, err);
}

static dk_rc open_all(struct dk_instance *d, const struct dekhand_config *config,
                      const struct dk_parts *parts, struct dk_settings *settings,
                      struct dk_err *err)
{
    DK_TRY(dk_wire_settings(config, settings, &d->core.log, err));
    DK_TRY(dk_wire_core(d, config, settings, parts, err));
    DK_TRY(dk_door_check_initialised(d, err));
    DK_TRY(dk_door_open_provider(d, settings, parts, err));
    DK_TRY(dk_registry_open(&d->core, err));
    DK_TRY(dk_audit_open(&d->core, err));
    return dk_manager_open(&d->core, &d->manager, err);
}

int dk_door_open(const struct dekhand_config *config, const struct dk_parts *parts,
                 struct dekhand **out, struct dekhand_error *error)
{
    static const struct dekhand_config plain = {.size = sizeof plain};
    struct dk_err err;
    struct dk_settings settings;
    dk_err_clear(&err);
    config = config != NULL ? config : &plain;
    const struct dk_mem *mem = parts->world != NULL ? &parts->world->mem : &dk_mem_default;
    if (out == NULL) {
        return dk_door_leave(DK_FAIL(&err, USAGE, "dekhand_open: no place for the result"), &err,
                             error);
    }
    struct dekhand *handle = dk_mem_zalloc(mem, sizeof *handle);
    struct dk_instance *d = dk_mem_zalloc(mem, sizeof *d);
    if (handle == NULL || d == NULL) {
        dk_mem_free(mem, handle);
        dk_mem_free(mem, d);
        return dk_door_leave(DK_FAIL(&err, NOMEM, "no memory to open"), &err, error);
    }
    dk_wire_log(d, config);
    dk_settings_init(&settings, mem);
    dk_rc rc = open_all(d, config, parts, &settings, &err);
    dk_settings_clear(&settings);
    if (rc != DK_OK) {
        dk_wire_close(d);
        dk_mem_free(mem, d);
        dk_mem_free(mem, handle);
        return dk_door_leave(rc, &err, error);
    }
    handle->in = d;
    dk_actor_make_local(d->core.actor, &handle->actor);
    *out = handle;
    return dk_door_leave(DK_OK, &err, error);
}

int dekhand_open(const struct dekhand_config *config, struct dekhand **out,
                 struct dekhand_error *error)
{
    static const struct dk_parts real;
    return dk_door_open(config, &real, out, error);
}

static dk_rc close_instance(struct dk_instance *d, struct dk_err *err)
{
    /* A child that never used its copy has nothing to write: the counts are the parent's. */
    if (dk_arena_forked(d->core.arena)) {
        dk_arena_reset(d->core.arena);
        dk_registry_forget(&d->core);
        dk_audit_forget(&d->core);
        dk_manager_after_fork(d->manager);
        dk_provider_forget(d->core.provider);
        if (d->core.second != NULL) {
            dk_provider_forget(d->core.second);
        }
    }
    dk_rc rc = dk_manager_close(d->manager, err);
    struct dk_mem mem = d->world.mem;
    dk_wire_close(d);
    dk_mem_free(&mem, d);
    return rc;
}

int dekhand_close(struct dekhand *d, struct dekhand_error *error)
{
    struct dk_err err;
    dk_rc rc = DK_OK;
    dk_err_clear(&err);
    if (d != NULL) {
        struct dk_mem mem = d->in->world.mem;
        rc = d->lent ? DK_OK : close_instance(d->in, &err);
        dk_mem_free(&mem, d);
    }
    return dk_door_leave(rc, &err, error);
}

/* In a child: everything that lay in the arena is read again, in the order of open. */
static dk_rc recover(struct dk_instance *d, struct dk_err *err)
{
    if (atomic_load(&d->in_random) != 0) {
        return DK_FAIL(err, FORKED,
                       "this process was forked while another thread drew random bytes");
    }
    dk_arena_reset(d->core.arena);
    dk_registry_forget(&d->core);
    dk_revoked_init(&d->core.revoked);
    atomic_store(&d->core.further_busy, false); /* it was a thread of the parent */
    dk_manager_after_fork(d->manager);
    dk_rc rc = dk_provider_after_fork(d->core.provider, err);
    if (rc == DK_OK && d->core.second != NULL) {
        rc = dk_provider_after_fork(d->core.second, err);
    }
    if (rc == DK_OK) {
        rc = d->core.store.ops->after_fork(d->core.store.self, err);
    }
    if (rc == DK_OK) {
        rc = dk_registry_open(&d->core, err);
    }
    if (rc == DK_OK) {
        rc = dk_audit_after_fork(&d->core, err);
    }
    if (rc == DK_OK) {
        dk_arena_revive(d->core.arena);
    }
    return rc == DK_OK ? rc : dk_err_while(err, "opening again after fork");
}

static dk_rc enter_forked(struct dk_instance *d, struct dk_err *err)
{
    dk_rc rc = DK_OK;
    int self = (int)getpid();
    int who = 0;
    /* A pid that is not ours was copied by a fork in the midst of a recovery: nobody is at it. */
    while (!atomic_compare_exchange_weak(&d->recovering, &who, self)) {
        if (who == self) {
            sched_yield();
            who = 0;
        }
    }
    if (dk_arena_forked(d->core.arena)) {
        rc = recover(d, err);
    }
    atomic_store(&d->recovering, 0);
    return rc;
}

dk_rc dk_door_begin(struct dekhand *d, struct dk_err *err)
{
    if (d == NULL) {
        return DK_FAIL(err, USAGE, "no dekhand instance is given");
    }
    bool alive = atomic_load_explicit(d->in->alive, memory_order_acquire) != 0;
    return alive ? DK_OK : enter_forked(d->in, err);
}

dk_rc dk_door_enter(struct dekhand *d, enum dk_action action, const char *tenant,
                    struct dk_err *err)
{
    struct dk_view view = tenant != NULL ? dk_view_str(tenant) : dk_view_of(NULL, 0);
    DK_TRY(dk_door_begin(d, err));
    return dk_access_check(&d->actor, action, view, err);
}

dk_rc dk_door_name_key(const char *tenant, uint32_t version, struct dk_key_name *out,
                       struct dk_err *err)
{
    if (tenant == NULL || version == 0 || version > DK_FIELD_VERSION_MAX) {
        return DK_FAIL(err, USAGE, "a tenant and a version from 1 on are needed");
    }
    out->version = version;
    return dk_tenant_parse(dk_view_str(tenant), &out->tenant, err);
}

int dekhand_tick(struct dekhand *d, struct dekhand_error *error)
{
    struct dk_err err;
    dk_err_clear(&err);
    dk_rc rc = dk_door_begin(d, &err);
    if (rc == DK_OK) {
        rc = dk_manager_tick(d->in->manager, &err);
    }
    return dk_door_leave(rc, &err, error);
}

/* ---- actors ---------------------------------------------------------------------------------- */

/* The public roles are those of access.h. */
_Static_assert((int)DEKHAND_ROLE_HEALTH == (int)DK_ROLE_HEALTH &&
                   (int)DEKHAND_ROLE_NONE == (int)DK_ROLE_NONE,
               "roles");

static dk_rc make_actor(const struct dekhand_actor *actor, struct dk_actor *out, struct dk_err *err)
{
    struct dk_tenant own;
    if (actor == NULL || actor->size != sizeof *actor) {
        return DK_FAIL(err, USAGE, "dekhand_actor.size is not %zu", sizeof *actor);
    }
    bool owner = actor->role == DEKHAND_ROLE_ORG_OWNER;
    if (owner != (actor->tenant != NULL)) {
        return DK_FAIL(err, USAGE, "an org owner, and nobody else, has a tenant");
    }
    if (owner) {
        DK_TRY(dk_tenant_parse(dk_view_str(actor->tenant), &own, err));
    }
    return dk_actor_make((enum dk_role)actor->role, owner ? &own : NULL, actor->name, out, err);
}

static dk_rc act_as(struct dekhand *d, const struct dekhand_actor *actor, struct dekhand **out,
                    struct dk_err *err)
{
    struct dk_actor made;
    DK_TRY(dk_door_begin(d, err));
    if (out == NULL) {
        return DK_FAIL(err, USAGE, "no place for the result");
    }
    if (d->lent) {
        return DK_FAIL(err, DENIED, "the role `%s` cannot act as another", d->actor.role);
    }
    DK_TRY(make_actor(actor, &made, err));
    struct dekhand *handle = dk_mem_zalloc(&d->in->world.mem, sizeof *handle);
    if (handle == NULL) {
        return DK_FAIL(err, NOMEM, "no memory for an actor");
    }
    *handle = (struct dekhand){d->in, made, true};
    *out = handle;
    return DK_OK;
}

int dekhand_act_as(struct dekhand *d, const struct dekhand_actor *actor, struct dekhand **out,
                   struct dekhand_error *error)
{
    struct dk_err err;
    dk_err_clear(&err);
    return dk_door_leave(act_as(d, actor, out, &err), &err, error);
}
