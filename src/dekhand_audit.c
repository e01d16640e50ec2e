/* The door for the log: history, the audit's list and its verification. */
#include "door.h"
#include "keys/audit.h"
#include "keys/inspect.h"
#include "keys/prune.h"
#include "keys/verify.h"

/* ---- history --------------------------------------------------------------------------------- */

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
    dk_rc rc = dk_door_enter(d, DK_MAY_READ_AUDIT, tenant, &err);
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
        rc = dk_inspect_log(&d->in->core, &query, true, limit < HISTORY_MAX ? limit : HISTORY_MAX,
                            tell_history, &call, &err);
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
    DK_TRY(dk_door_enter(d, DK_MAY_READ_AUDIT, query->tenant, err));
    if (query->tenant != NULL) {
        DK_TRY(dk_tenant_parse(dk_view_str(query->tenant), &tenant, err));
    }
    struct dk_log_query log = {.tenant = query->tenant != NULL ? &tenant : NULL,
                               .since = query->since != 0 ? query->since : DK_TIME_NONE,
                               .until = query->until != 0 ? query->until : DK_TIME_NONE,
                               .newest_first = !query->oldest_first};
    return dk_inspect_log(&d->in->core, &log, false, SIZE_MAX, tell_entry, call, err);
}

int dekhand_audit_list(struct dekhand *d, const struct dekhand_audit_query *query,
                       bool (*each)(void *arg, const struct dekhand_audit_entry *entry), void *arg,
                       struct dekhand_error *error)
{
    struct dk_err err;
    struct audit_call call = {query, 0, each, arg};
    dk_err_clear(&err);
    return dk_door_leave(list_audit(d, &call, &err), &err, error);
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
    dk_rc rc = dk_door_enter(d, DK_MAY_READ_AUDIT, NULL, &err);
    if (rc == DK_OK && (out == NULL || out->size != sizeof *out)) {
        rc = DK_FAIL(&err, USAGE, "dekhand_audit_result.size is not %zu", sizeof *out);
    }
    if (rc == DK_OK) {
        rc = dk_verify(&d->in->core, tell_finding, &call, &result, &err);
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

int dekhand_audit_prune(struct dekhand *d, int64_t before, bool dry_run, struct dekhand_prune *out,
                        struct dekhand_error *error)
{
    struct dk_err err;
    struct dk_prune_result result = {.seal = 0};
    dk_err_clear(&err);
    dk_rc rc = dk_door_enter(d, DK_MAY_ADMINISTER, NULL, &err);
    if (rc == DK_OK && (out == NULL || out->size != sizeof *out)) {
        rc = DK_FAIL(&err, USAGE, "dekhand_prune.size is not %zu", sizeof *out);
    }
    if (rc == DK_OK) {
        struct dk_prune_args args = {.before = before, .dry_run = dry_run, .by = d->actor.name};
        rc = dk_prune(&d->in->core, &args, &result, &err);
        *out =
            (struct dekhand_prune){.size = sizeof *out, .seal = result.seal, .rows = result.rows};
    }
    return dk_door_leave(rc, &err, error);
}
