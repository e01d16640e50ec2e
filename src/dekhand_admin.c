/* The operator's door: init and the registry. */
#include "dekhand_admin.h"

#include <stdio.h>

#include "door.h"
#include "keys/anchor.h"
#include "keys/audit.h"
#include "keys/inspect.h"
#include "keys/keyring.h"
#include "keys/registry.h"
#include "keys/rekey.h"
#include "keys/rewrap.h"
#include "provider/local.h"

/* ---- init ------------------------------------------------------------------------------------ */

static bool found_key(void *arg, const struct dk_key_row *row, dk_rc rc)
{
    (void)rc;
    snprintf(arg, DK_KMS_KEY_ID_TEXT, "%s", row->wrap.kms_key_id);
    return false;
}

/* Of a registry that is known to exist, and whose master key is not here. */
static dk_rc refuse_without_key(const struct dk_instance *d, bool anchored, struct dk_err *err)
{
    if (anchored) {
        return DK_FAIL(err, NO_MASTER_KEY,
                       "the anchor file %s belongs to a registry whose master key is not here: "
                       "copy master.key here (%s), and its database",
                       d->places.anchor, d->places.master_key);
    }
    if (d->core.pin_wanted[0] != '\0') {
        return DK_FAIL(err, NO_MASTER_KEY,
                       "KMS_REGISTRY_PIN names a registry that exists elsewhere: copy master.key "
                       "here (%s), and its database",
                       d->places.master_key);
    }
    return DK_OK;
}

/* What needs no look into the database is refused before there is one. */
static dk_rc refuse_early(struct dk_instance *d, bool local, struct dk_err *err)
{
    bool there = true;
    bool anchored = dk_file_exists(d->places.anchor); /* first: an init writes it last */
    DK_TRY(d->core.store.ops->exists(d->core.store.self, &there, err));
    if (there) {
        return DK_OK;
    }
    if (local && !dk_file_exists(d->places.master_key)) {
        return refuse_without_key(d, anchored, err);
    }
    if (anchored) {
        return DK_FAIL(err, CONFIG,
                       "the anchor file %s belongs to a registry that is not at %s: restore its "
                       "database, or remove the file to begin with an empty one",
                       d->places.anchor, d->places.database);
    }
    if (d->core.pin_wanted[0] != '\0') {
        return DK_FAIL(err, CONFIG,
                       "KMS_REGISTRY_PIN names a registry that is not at %s: put its newest copy "
                       "back, or take the pin out to begin with an empty one",
                       d->places.database);
    }
    return DK_OK;
}

/* DESIGN 4: never a new master key where a registry key, a key row or a pin exists. */
static dk_rc make_master_key(struct dk_instance *d, bool *made, struct dk_err *err)
{
    struct dk_registry_row row;
    char missing[DK_KMS_KEY_ID_TEXT] = "";
    struct dk_err exists;
    bool anchored = dk_file_exists(d->places.anchor); /* before the key: an init writes it last */
    dk_err_clear(&exists);
    if (dk_file_exists(d->places.master_key)) {
        return DK_OK;
    }
    DK_TRY(dk_registry_read(&d->core, &row, err));
    snprintf(missing, sizeof missing, "%s", row.wrap.kms_key_id);
    if (missing[0] == '\0') {
        /* Rows are looked at, not believed: there is no registry key to believe them by. */
        dk_rc rc = dk_inspect_keys(&d->core, NULL, found_key, missing, &exists);
        (void)rc;
    }
    if (dk_file_exists(d->places.master_key)) {
        return DK_OK; /* another init made it, and the registry's key, since the first look */
    }
    if (missing[0] != '\0') {
        return DK_FAIL(err, NO_MASTER_KEY,
                       "the registry is wrapped under master key %s, which is not here: copy "
                       "master.key here (%s)",
                       missing, d->places.master_key);
    }
    DK_TRY(refuse_without_key(d, anchored, err));
    dk_rc rc = dk_local_create(d->core.world, d->places.master_key, &exists);
    if (rc == DK_E_CONFLICT) {
        return DK_OK; /* another init was first */
    }
    *made = rc == DK_OK;
    dk_trace(d->core.world, "init.master_key_made");
    return rc == DK_OK ? rc : dk_err_set(err, rc, exists.file, exists.line, "%s", exists.text);
}

static dk_rc make_registry(struct dk_instance *d, struct dekhand_init_result *out,
                           struct dk_err *err)
{
    struct dk_provider_info info;
    DK_TRY(dk_registry_create_key(&d->core, &out->made_registry, err));
    d->core.just_made = out->made_registry;
    DK_TRY(dk_registry_open(&d->core, err));
    DK_TRY(dk_audit_open(&d->core, err));
    DK_TRY(dk_audit_before_adopt(&d->core, err));
    DK_TRY(dk_audit_adopt(&d->core, err));
    DK_TRY(dk_audit_start(&d->core, err));
    dk_audit_anchor(&d->core);
    DK_TRY(dk_provider_describe(d->core.provider, &info, err));
    dk_registry_pin(&d->core, out->pin);
    snprintf(out->kms_key_id, sizeof out->kms_key_id, "%s", info.kms_key_id);
    snprintf(out->database, sizeof out->database, "%.4000s", d->places.database);
    return DK_OK;
}

static dk_rc init_all(struct dk_instance *d, const struct dekhand_config *config,
                      const struct dk_parts *parts, struct dk_settings *settings,
                      struct dekhand_init_result *out, struct dk_err *err)
{
    const struct dk_provider_ops *provider, *second;
    DK_TRY(dk_wire_settings(config, settings, &d->core.log, err));
    DK_TRY(dk_wire_core(d, config, settings, parts, err));
    DK_TRY(dk_wire_choose(settings, parts, &provider, err)); /* before anything is made */
    DK_TRY(dk_wire_choose_second(settings, parts, provider, &second, err));
    bool local = provider == &dk_provider_local || second == &dk_provider_local;
    DK_TRY(refuse_early(d, local, err));
    if (!local || dk_file_exists(d->places.master_key)) {
        DK_TRY(dk_wire_provider(d, settings, parts, err));
    }
    DK_TRY(dk_dir_make(d->places.state_dir, err));
    DK_TRY(dk_door_migrate(d, settings, err));
    if (local) {
        DK_TRY(make_master_key(d, &out->made_master_key, err));
        snprintf(out->master_key, sizeof out->master_key, "%s", d->places.master_key);
    }
    if (d->core.provider == NULL) {
        DK_TRY(dk_wire_provider(d, settings, parts, err));
    }
    return make_registry(d, out, err);
}

int dk_door_init(const struct dekhand_config *config, const struct dk_parts *parts,
                 struct dekhand_init_result *out, struct dekhand_error *error)
{
    static const struct dekhand_config plain = {.size = sizeof plain};
    struct dk_err err;
    struct dk_settings settings;
    struct dekhand_init_result result = {0};
    dk_err_clear(&err);
    config = config != NULL ? config : &plain;
    const struct dk_mem *mem = parts->world != NULL ? &parts->world->mem : &dk_mem_default;
    struct dk_instance *d = dk_mem_zalloc(mem, sizeof *d);
    if (d == NULL) {
        return dk_door_leave(DK_FAIL(&err, NOMEM, "no memory to open"), &err, error);
    }
    dk_wire_log(d, config);
    dk_settings_init(&settings, mem);
    dk_rc rc = init_all(d, config, parts, &settings, &result, &err);
    dk_settings_clear(&settings);
    dk_wire_close(d);
    dk_mem_free(mem, d);
    if (rc == DK_OK && out != NULL) {
        *out = result;
    }
    return dk_door_leave(rc, &err, error);
}

int dekhand_init(const struct dekhand_config *config, struct dekhand_init_result *out,
                 struct dekhand_error *error)
{
    static const struct dk_parts real;
    return dk_door_init(config, &real, out, error);
}

/* ---- registry -------------------------------------------------------------------------------- */

static dk_rc read_info(struct dk_instance *d, struct dekhand_registry_info *out, struct dk_err *err)
{
    struct dk_registry_row row;
    struct dk_anchor anchor;
    if (out == NULL || out->size != sizeof *out) {
        return DK_FAIL(err, USAGE, "dekhand_registry_info.size is not %zu", sizeof *out);
    }
    DK_TRY(dk_registry_read(&d->core, &row, err));
    DK_TRY(dk_anchor_read(&d->core.suite, d->places.anchor, &anchor, err));
    struct dekhand_registry_info info = {.size = sizeof info,
                                         .created_at = row.created_at,
                                         .schema_version = row.schema_version,
                                         .anchor_seal = anchor.seal.n};
    snprintf(info.id, sizeof info.id, "%s", row.uuid);
    snprintf(info.provider, sizeof info.provider, "%s", row.wrap.provider);
    snprintf(info.kms_key_id, sizeof info.kms_key_id, "%s", row.wrap.kms_key_id);
    dk_registry_pin(&d->core, info.pin);
    snprintf(info.database, sizeof info.database, "%.4000s", d->places.database);
    snprintf(info.anchor, sizeof info.anchor, "%.4000s", d->places.anchor);
    DK_TRY(dk_inspect_newest_seal(&d->core, &info.newest_seal, err));
    struct dk_rekey_info rekey;
    DK_TRY(dk_keyring_info(&d->core, &rekey, err));
    info.generation = rekey.generation;
    info.rekeying = rekey.unfinished;
    info.rekeyed_at = rekey.at;
    memcpy(info.rekeyed_by, rekey.by, sizeof info.rekeyed_by);
    struct dk_err back;
    dk_err_clear(&back);
    info.older = dk_audit_check(&d->core, &back) != DK_OK;
    *out = info;
    return DK_OK;
}

int dekhand_registry(struct dekhand *d, struct dekhand_registry_info *out,
                     struct dekhand_error *error)
{
    struct dk_err err;
    dk_err_clear(&err);
    dk_rc rc = dk_door_enter(d, DK_MAY_ADMINISTER, NULL, &err);
    if (rc == DK_OK) {
        rc = read_info(d->in, out, &err);
    }
    return dk_door_leave(rc, &err, error);
}

int dekhand_registry_accept_restore(struct dekhand *d, const char *confirm, int64_t *tenants,
                                    struct dekhand_error *error)
{
    struct dk_err err;
    int64_t accepted = 0;
    dk_err_clear(&err);
    dk_rc rc = dk_door_enter(d, DK_MAY_ADMINISTER, NULL, &err);
    if (rc == DK_OK) {
        rc = dk_manager_accept(d->in->manager, confirm, d->actor.name, &accepted, &err);
    }
    if (rc == DK_OK && tenants != NULL) {
        *tenants = accepted;
    }
    return dk_door_leave(rc, &err, error);
}

struct rekey_call {
    void (*each)(void *arg, const struct dekhand_rekey *so_far);
    void *arg;
};

static struct dekhand_rekey rekey_of(const struct dk_rekey_result *result)
{
    struct dekhand_rekey out = {.size = sizeof out,
                                .generation = result->generation,
                                .begun = result->begun,
                                .tenants = result->tenants,
                                .keys = result->keys,
                                .damaged = result->damaged};
    memcpy(out.pin, result->pin, sizeof out.pin);
    return out;
}

static void tell_rekey(void *arg, const struct dk_rekey_result *so_far)
{
    const struct rekey_call *call = arg;
    struct dekhand_rekey out = rekey_of(so_far);
    if (call->each != NULL) {
        call->each(call->arg, &out);
    }
}

int dekhand_registry_rekey(struct dekhand *d, bool leave_damaged,
                           void (*each)(void *arg, const struct dekhand_rekey *so_far), void *arg,
                           struct dekhand_rekey *out, struct dekhand_error *error)
{
    struct dk_err err;
    struct rekey_call call = {each, arg};
    struct dk_rekey_result result = {.generation = 0};
    dk_err_clear(&err);
    dk_rc rc = dk_door_enter(d, DK_MAY_ADMINISTER, NULL, &err);
    if (rc == DK_OK && (out == NULL || out->size != sizeof *out)) {
        rc = DK_FAIL(&err, USAGE, "dekhand_rekey.size is not %zu", sizeof *out);
    }
    if (rc == DK_OK) {
        struct dk_rekey_args args = {
            .by = d->actor.name, .leave_damaged = leave_damaged, .each = tell_rekey, .arg = &call};
        rc = dk_rekey(&d->in->core, &args, &result, &err);
        *out = rekey_of(&result);
    }
    return dk_door_leave(rc, &err, error);
}

/* ---- rewrap ---------------------------------------------------------------------------------- */

struct rewrap_call {
    bool (*each)(void *arg, const struct dekhand_rewrap *so_far);
    void *arg;
};

static struct dekhand_rewrap rewrap_of(const struct dk_rewrap_result *result)
{
    struct dekhand_rewrap out = {.size = sizeof out,
                                 .rewrapped = result->rewrapped,
                                 .kept = result->kept,
                                 .failed = result->failed,
                                 .dropped = result->dropped,
                                 .failed_code = (int)result->first,
                                 .registry = result->registry};
    _Static_assert(sizeof out.kms_key_id == sizeof result->kms_key_id, "key ids");
    memcpy(out.kms_key_id, result->kms_key_id, sizeof out.kms_key_id);
    return out;
}

static bool tell_rewrap(void *arg, const struct dk_rewrap_result *so_far)
{
    const struct rewrap_call *call = arg;
    struct dekhand_rewrap out = rewrap_of(so_far);
    return call->each == NULL || call->each(call->arg, &out);
}

static dk_rc rewrap(struct dekhand *d, const char *to, const char *tenant, const char *drop,
                    const struct rewrap_call *call, struct dekhand_rewrap *out, struct dk_err *err)
{
    struct dk_tenant name;
    struct dk_rewrap_result result = {.rewrapped = 0};
    struct dk_rewrap_args args = {.to = to,
                                  .tenant = tenant != NULL ? &name : NULL,
                                  .drop = drop,
                                  .by = d->actor.name,
                                  .each = tell_rewrap,
                                  .arg = (void *)(uintptr_t)call};
    if (out == NULL || out->size != sizeof *out || to == NULL) {
        return DK_FAIL(err, USAGE, "no provider to rewrap to, or dekhand_rewrap.size is not %zu",
                       sizeof *out);
    }
    if (tenant != NULL) {
        DK_TRY(dk_tenant_parse(dk_view_str(tenant), &name, err));
    }
    dk_rc rc = dk_rewrap(&d->in->core, &args, &result, err);
    *out = rewrap_of(&result);
    return rc;
}

int dekhand_rewrap(struct dekhand *d, const char *to, const char *tenant, const char *drop,
                   bool (*each)(void *arg, const struct dekhand_rewrap *so_far), void *arg,
                   struct dekhand_rewrap *out, struct dekhand_error *error)
{
    struct dk_err err;
    struct rewrap_call call = {each, arg};
    dk_err_clear(&err);
    dk_rc rc = dk_door_enter(d, DK_MAY_ADMINISTER, NULL, &err);
    rc = rc == DK_OK ? rewrap(d, to, tenant, drop, &call, out, &err) : rc;
    return dk_door_leave(rc, &err, error);
}

/* ---- cache ----------------------------------------------------------------------------------- */

int dekhand_cache_clear(struct dekhand *d, struct dekhand_error *error)
{
    struct dk_err err;
    dk_err_clear(&err);
    dk_rc rc = dk_door_enter(d, DK_MAY_ADMINISTER, NULL, &err);
    if (rc == DK_OK) {
        rc = dk_manager_clear(d->in->manager, d->actor.name, &err);
    }
    return dk_door_leave(rc, &err, error);
}
