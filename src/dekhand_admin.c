/* The operator's door: init, export, history, statistics. */
#include "dekhand_admin.h"

#include <stdio.h>

#include "door.h"
#include "keys/anchor.h"
#include "keys/audit.h"
#include "keys/inspect.h"
#include "keys/registry.h"
#include "keys/verify.h"
#include "provider/local.h"

/* ---- init ----------------------------------------------------------------------------------- */

static bool found_key(void *arg, const struct dk_key_row *row, dk_rc rc)
{
    (void)rc;
    snprintf(arg, DK_KMS_KEY_ID_TEXT, "%s", row->wrap.kms_key_id);
    return false;
}

/* DESIGN 4: never a new master key where a registry key, a key row or a pin exists. */
static dk_rc make_master_key(struct dekhand *d, bool *made, struct dk_err *err)
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
    dk_rc rc = dk_local_create(d->core.world, d->places.master_key, &exists);
    if (rc == DK_E_CONFLICT) {
        return DK_OK; /* another init was first */
    }
    *made = rc == DK_OK;
    dk_trace(d->core.world, "init.master_key_made");
    return rc == DK_OK ? rc : dk_err_set(err, rc, exists.file, exists.line, "%s", exists.text);
}

static dk_rc make_registry(struct dekhand *d, struct dekhand_init_result *out, struct dk_err *err)
{
    struct dk_provider_info info;
    DK_TRY(dk_registry_create_key(&d->core, &out->made_registry, err));
    DK_TRY(dk_registry_open(&d->core, err));
    DK_TRY(dk_audit_open(&d->core, err));
    DK_TRY(dk_audit_before_adopt(&d->core, err));
    DK_TRY(dk_audit_adopt(&d->core, err));
    DK_TRY(dk_audit_start(&d->core, err));
    dk_audit_anchor(&d->core);
    DK_TRY(dk_provider_describe(d->core.provider, &info, err));
    snprintf(out->pin, sizeof out->pin, "%s", d->core.registry.pin);
    snprintf(out->kms_key_id, sizeof out->kms_key_id, "%s", info.kms_key_id);
    snprintf(out->database, sizeof out->database, "%.4000s", d->places.database_url);
    return DK_OK;
}

static dk_rc init_all(struct dekhand *d, const struct dekhand_config *config,
                      const struct dk_parts *parts, struct dk_settings *settings,
                      struct dekhand_init_result *out, struct dk_err *err)
{
    const struct dk_provider_ops *provider;
    DK_TRY(dk_wire_settings(config, settings, &d->core.log, err));
    DK_TRY(dk_wire_core(d, config, settings, parts, err));
    DK_TRY(dk_wire_choose(settings, parts, &provider, err)); /* before anything is made */
    DK_TRY(dk_dir_make(d->places.state_dir, err));
    DK_TRY(d->core.store.ops->migrate(d->core.store.self, err));
    if (provider == &dk_provider_local) {
        DK_TRY(make_master_key(d, &out->made_master_key, err));
        snprintf(out->master_key, sizeof out->master_key, "%s", d->places.master_key);
    }
    DK_TRY(dk_wire_provider(d, settings, parts, err));
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
    struct dekhand *d = dk_mem_zalloc(mem, sizeof *d);
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
    DK_TRY(dk_inspect_export(&d->core, &name, &key, err));
    memcpy(out, dk_secret_expose_for_crypto(&key), DEKHAND_DATA_KEY);
    dk_secret_free(d->core.arena, &key);
    return DK_OK;
}

int dekhand_key_export(struct dekhand *d, const char *tenant, uint32_t version, bool allow,
                       uint8_t out[DEKHAND_DATA_KEY], struct dekhand_error *error)
{
    struct dk_err err;
    dk_err_clear(&err);
    dk_rc rc = dk_door_enter(d, &err);
    if (rc == DK_OK) {
        rc = export_key(d, tenant, version, allow, out, &err);
    }
    return dk_door_leave(rc, &err, error);
}

/* ---- history and statistics ------------------------------------------------------------------ */

#define HISTORY_MAX 1000

struct history_call {
    bool (*each)(void *arg, const struct dekhand_history *entry);
    void *arg;
};

static bool tell_history(void *arg, const struct dk_log_row *row)
{
    const struct history_call *call = arg;
    struct dekhand_history entry = {row->tenant,       row->operation,    row->from_version,
                                    row->to_version,   row->success,      row->error_message,
                                    row->performed_at, row->performed_by, row->node};
    return call->each(call->arg, &entry);
}

int dekhand_history(struct dekhand *d, const char *tenant, size_t limit,
                    bool (*each)(void *arg, const struct dekhand_history *entry), void *arg,
                    struct dekhand_error *error)
{
    struct dk_err err;
    struct dk_tenant parsed;
    struct history_call call = {each, arg};
    dk_err_clear(&err);
    dk_rc rc = dk_door_enter(d, &err);
    if (rc == DK_OK && each == NULL) {
        rc = DK_FAIL(&err, USAGE, "nobody is there to be told the history");
    }
    if (rc == DK_OK && tenant != NULL) {
        rc = dk_tenant_parse(dk_view_str(tenant), &parsed, &err);
    }
    if (rc == DK_OK) {
        struct dk_log_query query = {.tenant = tenant != NULL ? &parsed : NULL,
                                     .since = DK_TIME_NONE,
                                     .until = DK_TIME_NONE,
                                     .newest_first = true};
        rc = dk_inspect_log(&d->core, &query, true, limit < HISTORY_MAX ? limit : HISTORY_MAX,
                            tell_history, &call, &err);
    }
    return dk_door_leave(rc, &err, error);
}

/* ---- registry -------------------------------------------------------------------------------- */

static dk_rc read_info(struct dekhand *d, struct dekhand_registry_info *out, struct dk_err *err)
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
    snprintf(info.pin, sizeof info.pin, "%s", d->core.registry.pin);
    snprintf(info.database, sizeof info.database, "%.4000s", d->places.database_url);
    snprintf(info.anchor, sizeof info.anchor, "%.4000s", d->places.anchor);
    DK_TRY(dk_inspect_newest_seal(&d->core, &info.newest_seal, err));
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
    dk_rc rc = dk_door_enter(d, &err);
    if (rc == DK_OK) {
        rc = read_info(d, out, &err);
    }
    return dk_door_leave(rc, &err, error);
}

int dekhand_registry_accept_restore(struct dekhand *d, const char *confirm, int64_t *tenants,
                                    struct dekhand_error *error)
{
    struct dk_err err;
    int64_t accepted = 0;
    dk_err_clear(&err);
    dk_rc rc = dk_door_enter(d, &err);
    if (rc == DK_OK) {
        rc = dk_manager_accept(d->manager, confirm, &accepted, &err);
    }
    if (rc == DK_OK && tenants != NULL) {
        *tenants = accepted;
    }
    return dk_door_leave(rc, &err, error);
}

/* ---- audit ----------------------------------------------------------------------------------- */

struct audit_call {
    const struct dekhand_audit_query *query;
    size_t told;
    bool (*each)(void *arg, const struct dekhand_audit_entry *entry);
    void *arg;
};

static bool tell_entry(void *arg, const struct dk_log_row *row)
{
    struct audit_call *call = arg;
    const char *wanted = call->query->operation;
    if (wanted != NULL && strcmp(wanted, row->operation) != 0) {
        return true;
    }
    struct dekhand_audit_entry entry = {.seq = row->seq,
                                        .id = row->id,
                                        .tenant = row->tenant,
                                        .operation = row->operation,
                                        .from_version = row->from_version,
                                        .to_version = row->to_version,
                                        .success = row->success,
                                        .error_message = row->error_message,
                                        .performed_at = row->performed_at,
                                        .performed_by = row->performed_by,
                                        .node = row->node,
                                        .detail = row->detail,
                                        .prev = row->prev,
                                        .mac = row->mac};
    return call->each(call->arg, &entry) && ++call->told != call->query->limit;
}

static dk_rc list_audit(struct dekhand *d, struct audit_call *call, struct dk_err *err)
{
    const struct dekhand_audit_query *query = call->query;
    struct dk_tenant tenant;
    if (query == NULL || query->size != sizeof *query || call->each == NULL) {
        return DK_FAIL(err, USAGE, "a query with its size, and somebody to tell, are needed");
    }
    if (query->tenant != NULL) {
        DK_TRY(dk_tenant_parse(dk_view_str(query->tenant), &tenant, err));
    }
    struct dk_log_query log = {.tenant = query->tenant != NULL ? &tenant : NULL,
                               .since = query->since != 0 ? query->since : DK_TIME_NONE,
                               .until = query->until != 0 ? query->until : DK_TIME_NONE,
                               .newest_first = !query->oldest_first};
    return dk_inspect_log(&d->core, &log, false, SIZE_MAX, tell_entry, call, err);
}

int dekhand_audit_list(struct dekhand *d, const struct dekhand_audit_query *query,
                       bool (*each)(void *arg, const struct dekhand_audit_entry *entry), void *arg,
                       struct dekhand_error *error)
{
    struct dk_err err;
    struct audit_call call = {query, 0, each, arg};
    dk_err_clear(&err);
    dk_rc rc = dk_door_enter(d, &err);
    if (rc == DK_OK) {
        rc = list_audit(d, &call, &err);
    }
    return dk_door_leave(rc, &err, error);
}

struct verify_call {
    void (*each)(void *arg, const struct dekhand_finding *finding);
    void *arg;
};

static void tell_finding(void *arg, const struct dk_finding *found)
{
    const struct verify_call *call = arg;
    struct dekhand_finding finding = {found->table, found->tenant, found->row, found->text};
    if (call->each != NULL) {
        call->each(call->arg, &finding);
    }
}

int dekhand_audit_verify(struct dekhand *d,
                         void (*each)(void *arg, const struct dekhand_finding *finding), void *arg,
                         struct dekhand_audit_result *out, struct dekhand_error *error)
{
    struct dk_err err;
    struct dk_verify_result result;
    struct verify_call call = {each, arg};
    dk_err_clear(&err);
    dk_rc rc = dk_door_enter(d, &err);
    if (rc == DK_OK && (out == NULL || out->size != sizeof *out)) {
        rc = DK_FAIL(&err, USAGE, "dekhand_audit_result.size is not %zu", sizeof *out);
    }
    if (rc == DK_OK) {
        rc = dk_verify(&d->core, tell_finding, &call, &result, &err);
    }
    if (rc == DK_OK) {
        *out = (struct dekhand_audit_result){.size = sizeof *out,
                                             .log_rows = result.log_rows,
                                             .seals = result.seals,
                                             .tenants = result.tenants,
                                             .keys = result.keys,
                                             .findings = result.findings};
    }
    return dk_door_leave(rc, &err, error);
}

static dk_rc read_stats(struct dekhand *d, struct dekhand_stats *out, struct dk_err *err)
{
    struct dk_key_counts counts;
    if (out == NULL || out->size != sizeof *out) {
        return DK_FAIL(err, USAGE, "dekhand_stats.size is not %zu", sizeof *out);
    }
    DK_TRY(dk_inspect_counts(&d->core, &counts, err));
    struct dk_manager_stats memory = dk_manager_stats(d->manager);
    *out = (struct dekhand_stats){
        .size = sizeof *out,
        .total_keys = counts.total,
        .active_keys = counts.active,
        .expired_keys = counts.expired,
        .near_expiry_keys = counts.near_expiry,
        .calls = memory.calls,
        .hits = memory.calls > memory.misses ? memory.calls - memory.misses : 0,
        .misses = memory.misses,
        .unwraps = memory.unwraps,
        .failures = memory.failures,
        .evictions = memory.evictions,
        .cached_keys = memory.cached_keys,
        .cache_capacity = memory.capacity,
        .locked_bytes = (int64_t)d->memory.bytes,
        .memory_locked = d->memory.locked};
    return DK_OK;
}

int dekhand_stats(struct dekhand *d, struct dekhand_stats *out, struct dekhand_error *error)
{
    struct dk_err err;
    dk_err_clear(&err);
    dk_rc rc = dk_door_enter(d, &err);
    if (rc == DK_OK) {
        rc = read_stats(d, out, &err);
    }
    return dk_door_leave(rc, &err, error);
}

static dk_rc read_key_stats(struct dekhand *d, const char *tenant, uint32_t version,
                            struct dekhand_key_stats *out, struct dk_err *err)
{
    struct dk_key_name name = {.version = version};
    if (out == NULL || out->size != sizeof *out) {
        return DK_FAIL(err, USAGE, "dekhand_key_stats.size is not %zu", sizeof *out);
    }
    if (tenant == NULL || version == 0 || version > DK_FIELD_VERSION_MAX) {
        return DK_FAIL(err, USAGE, "a tenant and a version from 1 on are needed");
    }
    DK_TRY(dk_tenant_parse(dk_view_str(tenant), &name.tenant, err));
    struct dk_key_uses uses = dk_manager_key_uses(d->manager, &name);
    *out = (struct dekhand_key_stats){.size = sizeof *out,
                                      .hits = uses.hits,
                                      .misses = uses.misses,
                                      .unwraps = uses.unwraps,
                                      .messages = uses.messages};
    return DK_OK;
}

int dekhand_key_stats(struct dekhand *d, const char *tenant, uint32_t version,
                      struct dekhand_key_stats *out, struct dekhand_error *error)
{
    struct dk_err err;
    dk_err_clear(&err);
    dk_rc rc = dk_door_enter(d, &err);
    if (rc == DK_OK) {
        rc = read_key_stats(d, tenant, version, out, &err);
    }
    return dk_door_leave(rc, &err, error);
}

int dekhand_cache_clear(struct dekhand *d, struct dekhand_error *error)
{
    struct dk_err err;
    dk_err_clear(&err);
    dk_rc rc = dk_door_enter(d, &err);
    if (rc == DK_OK) {
        rc = dk_manager_clear(d->manager, &err);
    }
    return dk_door_leave(rc, &err, error);
}
