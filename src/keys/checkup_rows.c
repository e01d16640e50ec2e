/* The part of checkup that reads all that is stored: damage, the schema, every row. */
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "keys/checkup.h"
#include "keys/verify.h"

#define TOLD_MAX 20 /* findings of one kind that are told one by one */

struct told {
    struct dk_report *report;
    int64_t count;
};

/* Findings that audit verify has a line for, and this has not. */
static void tell_rest(const struct told *told, const char *name)
{
    dk_report_tell(told->report, name, DK_LEVEL_ERROR, "run `dekhand audit verify`",
                   "%lld more findings like these", (long long)told->count - TOLD_MAX);
}

/* ---- damage ---------------------------------------------------------------------------------- */

/* What it means for the data that a table cannot be read whole. */
static const struct {
    const char *table;
    const char *text;
} losses[] = {
    {"encryption_keys", "values of versions whose rows lie there open no more"},
    {"tenants", "tenants whose rows lie there neither encrypt nor decrypt"},
    {"key_rotation_log", "no key opens for a process that cannot write down that it does; no row "
                         "of a key is lost"},
    {"seals", "nothing is sealed upon them, so no key is made or opened; no row of a key is lost"},
    {"registry", "nothing can be proven, so nothing opens"},
    {"registry_keys", "what was made before a rekey cannot be proven"},
};

static const char *loss_of(const char *table)
{
    for (size_t i = 0; i < sizeof losses / sizeof losses[0]; i++) {
        if (strcmp(losses[i].table, table) == 0) {
            return losses[i].text;
        }
    }
    return table[0] == '\0' ? "it is in no table's own pages, so no row is lost yet"
                            : "no row of ours lies there";
}

static bool tell_damage(void *arg, const char *table, const char *text)
{
    struct told *told = arg;
    told->count++;
    dk_report_tell(told->report, "integrity", DK_LEVEL_ERROR,
                   "stop what writes to it, keep this file, and put the newest copy back: "
                   "`mv \"$state\"/dekhand.db* set-aside/ && cp COPY \"$state/dekhand.db\"` "
                   "(docs/OPERATIONS.md, An old copy)",
                   "the database file is damaged%s%s: %s. SQLite says: %.300s",
                   table[0] != '\0' ? " in table " : "", table, loss_of(table), text);
    return told->count < TOLD_MAX;
}

void dk_checkup_integrity(struct dk_core *core, struct dk_report *report)
{
    struct dk_err err;
    struct dk_txn txn;
    struct told told = {report, 0};
    dk_err_clear(&err);
    dk_rc rc = dk_store_begin(&core->store, DK_TXN_READ, &txn, &err);
    if (rc == DK_OK) {
        rc = txn.ops->integrity(txn.self, tell_damage, &told, &err);
        dk_store_rollback(&txn);
    }
    if (rc != DK_OK && told.count == 0) {
        dk_report_error(report, "integrity", &err, "The database could not be read whole");
    } else if (told.count == 0) {
        dk_report_tell(report, "integrity", DK_LEVEL_OK, "",
                       "the database's own check finds it whole");
    }
}

/* ---- the schema ------------------------------------------------------------------------------ */

static const char *const faults[] = {
    [DK_SCHEMA_MISSING] = "is missing",
    [DK_SCHEMA_CHANGED] = "is not as dekhand made it",
    [DK_SCHEMA_FOREIGN] = "is not dekhand's",
};

static bool is(const struct dk_schema_finding *finding, const char *type)
{
    return strcmp(finding->type, type) == 0;
}

static const char *meaning_of(const struct dk_schema_finding *finding)
{
    bool foreign = finding->fault == DK_SCHEMA_FOREIGN;
    return is(finding, "table")  ? "what is stored there may be lost or say something else"
           : is(finding, "view") ? "who reads it is told something else; no row is touched"
           : is(finding, "grant") || is(finding, "owner")
               ? "a login that should not can read rows of it, or change them"
           : is(finding, "index")
               ? (foreign ? "it may refuse rows or be read in their place"
                          : "rows that contradict each other may come in, and reading is slow")
           : foreign ? "it may change, delete or swallow rows whenever dekhand writes one"
                     : "the database refuses no more what no program should do to its rows; MACs, "
                       "seals and log still show it";
}

static const char *todo_of(const struct dk_schema_finding *finding, char *out, size_t cap)
{
    if (finding->fault == DK_SCHEMA_FOREIGN) {
        snprintf(out, cap, "find who put it there, then `%s` and `dekhand audit verify`",
                 finding->mend);
        return out;
    }
    return is(finding, "table")
               ? "find who did it, and put the newest copy back (docs/OPERATIONS.md, An old copy)"
               : "find who did it; `dekhand migrate` makes it again, then `dekhand audit verify`";
}

static void tell_schema(void *arg, const struct dk_schema_finding *finding)
{
    struct told *told = arg;
    char todo[DK_PATH_MAX + 512];
    bool harmless = is(finding, "view");
    if (++told->count <= TOLD_MAX) {
        dk_report_tell(told->report, "schema", harmless ? DK_LEVEL_WARNING : DK_LEVEL_ERROR,
                       todo_of(finding, todo, sizeof todo), "the %s %.100s%s%.100s %s: %s",
                       finding->type, finding->name, is(finding, "table") || harmless ? "" : " on ",
                       is(finding, "table") || harmless ? "" : finding->table,
                       faults[finding->fault], meaning_of(finding));
    }
}

void dk_checkup_schema(struct dk_core *core, struct dk_report *report)
{
    struct dk_err err;
    struct dk_txn txn;
    struct told told = {report, 0};
    dk_err_clear(&err);
    dk_rc rc = dk_store_begin(&core->store, DK_TXN_READ, &txn, &err);
    if (rc == DK_OK) {
        rc = txn.ops->schema(txn.self, tell_schema, &told, &err);
        dk_store_rollback(&txn);
    }
    if (rc != DK_OK) {
        dk_report_error(report, "schema", &err,
                        "Whether tables and triggers were changed is not known");
    } else if (told.count > TOLD_MAX) {
        tell_rest(&told, "schema");
    } else if (told.count == 0) {
        dk_report_tell(report, "schema", DK_LEVEL_OK, "",
                       "tables, triggers, indexes and the view are as dekhand made them");
    }
}

/* ---- rows ------------------------------------------------------------------------------------ */

static void tell_finding(void *arg, const struct dk_finding *finding)
{
    struct told *told = arg;
    if (strcmp(finding->table, "schema") == 0) {
        return; /* dk_checkup_schema tells them, with what mends each */
    }
    if (++told->count <= TOLD_MAX) {
        bool older = strcmp(finding->table, "seals") == 0 && strcmp(finding->row, "newest") == 0;
        dk_report_tell(told->report, "rows", DK_LEVEL_ERROR,
                       older ? "what the line of the anchor says"
                             : "find who wrote to the database, put the row back from a copy "
                               "(docs/OPERATIONS.md, Findings); `dekhand audit verify` names all",
                       "%s%s%s, row %s: %.500s", finding->table,
                       finding->tenant[0] != '\0' ? " of tenant " : "", finding->tenant,
                       finding->row, finding->text);
    }
}

void dk_checkup_rows(struct dk_core *core, struct dk_report *report)
{
    struct dk_err err;
    struct dk_verify_result result;
    struct told told = {report, 0};
    dk_err_clear(&err);
    if (dk_verify(core, tell_finding, &told, &result, &err) != DK_OK) {
        dk_report_error(report, "rows", &err, "Whether rows were changed is not known");
    } else if (told.count > TOLD_MAX) {
        tell_rest(&told, "rows");
    } else if (told.count == 0) {
        dk_report_tell(report, "rows", DK_LEVEL_OK, "",
                       "key versions: %lld, tenants: %lld, log rows: %lld, seals: %lld: all are as "
                       "dekhand wrote them, and none is missing",
                       (long long)result.keys, (long long)result.tenants,
                       (long long)result.log_rows, (long long)result.seals);
    }
}
