/* What somebody dropped or changed of the schema is made again from the migrations' own text. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/migrations.h"
#include "store/pg_txn.h"

/* ---- the statements of a migration ----------------------------------------------------------- */

struct statement {
    const char *text;
    size_t n; /* with its semicolon */
};

static const char *end_of_line(const char *p)
{
    const char *end = strchr(p, '\n');
    return end != NULL ? end + 1 : p + strlen(p);
}

/* A line that ends with a semicolon, outside of $$ .. $$. */
static size_t length_of(const char *text)
{
    bool quoted = false;
    for (const char *line = text; *line != '\0';) {
        const char *end = end_of_line(line);
        for (const char *p = line; p + 1 < end; p++) {
            bool dollars = p[0] == '$' && p[1] == '$';
            quoted = quoted != dollars;
            p += dollars;
        }
        if (!quoted && end - line >= 2 && end[-2] == ';') {
            return (size_t)(end - text);
        }
        line = end;
    }
    return strlen(text);
}

/* From *at on; comments and empty lines are passed over. */
static bool next_statement(const char **at, struct statement *out)
{
    const char *p = *at;
    while (*p == '\n' || strncmp(p, "--", 2) == 0) {
        p = end_of_line(p);
    }
    if (*p == '\0') {
        return false;
    }
    *out = (struct statement){p, length_of(p)};
    *at = p + out->n;
    return true;
}

/* ---- making again ---------------------------------------------------------------------------- */

struct mender {
    PGconn *pg;
    bool found; /* something is missing or changed */
    dk_rc rc;
    struct dk_err *err;
};

static dk_rc run(const struct mender *m, const char *before, const char *text, size_t n)
{
    size_t cap = strlen(before) + n + 1;
    char *sql = malloc(cap);
    if (sql == NULL) {
        return DK_FAIL(m->err, NOMEM, "no memory to mend the schema");
    }
    snprintf(sql, cap, "%s%.*s", before, (int)n, text);
    dk_rc rc = dk_pg_script(m->pg, sql, "mending the schema", m->err);
    free(sql);
    return rc;
}

/* What others hang on is replaced in its place; the rest is dropped first. */
static dk_rc make_again(const struct mender *m, const struct dk_pg_expected *object,
                        const struct statement *statement)
{
    static const size_t create = sizeof "CREATE" - 1;
    const char *type = object->type;
    char before[256];
    bool replace = strcmp(type, "view") == 0 || strcmp(type, "function") == 0;
    if (replace) {
        return run(m, "CREATE OR REPLACE", statement->text + create, statement->n - create);
    }
    if (strcmp(type, "index") == 0) {
        snprintf(before, sizeof before, "DROP INDEX IF EXISTS %s;", object->name);
    } else {
        snprintf(before, sizeof before, "DROP %s IF EXISTS %s ON %s;",
                 strcmp(type, "policy") == 0 ? "POLICY" : "TRIGGER", object->name, object->table);
    }
    return run(m, before, statement->text, statement->n);
}

/* Tables hold rows: they are not made again, and what is said of them is the doctor's. */
static void note(void *arg, const struct dk_schema_finding *finding)
{
    struct mender *m = arg;
    m->found = m->found || finding->fault != DK_SCHEMA_FOREIGN;
}

struct search {
    const struct dk_pg_expected *object;
    bool differs;
};

static void match(void *arg, const struct dk_schema_finding *finding)
{
    struct search *search = arg;
    const struct dk_pg_expected *object = search->object;
    search->differs =
        search->differs ||
        (finding->fault != DK_SCHEMA_FOREIGN && strcmp(finding->type, object->type) == 0 &&
         strcmp(finding->name, object->name) == 0 && strcmp(finding->table, object->table) == 0);
}

/*
 * Rights are given again as a whole, each time: doing so twice changes nothing. Row level security
 * is switched on again where something differs: that waits for whoever reads the table.
 */
static bool is_repeatable(const struct mender *m, const char *text)
{
    static const char *const words[] = {"GRANT ", "REVOKE ", "DO ", "ALTER "};
    size_t count = sizeof words / sizeof words[0] - !m->found;
    for (size_t i = 0; i < count; i++) {
        if (strncmp(text, words[i], strlen(words[i])) == 0) {
            return true;
        }
    }
    return false;
}

static dk_rc mend_statement(const struct mender *m, const PGresult *objects,
                            const struct statement *statement)
{
    struct dk_pg_expected object;
    struct search search = {.object = &object};
    if (is_repeatable(m, statement->text)) {
        return run(m, "", statement->text, statement->n);
    }
    if (!dk_pg_makes(statement->text, &object) || strcmp(object.type, "table") == 0) {
        return DK_OK;
    }
    dk_pg_compare(objects, match, &search);
    return search.differs ? make_again(m, &object, statement) : DK_OK;
}

static dk_rc mend_all(const struct mender *m, const PGresult *objects)
{
    for (unsigned i = 0; i < dk_postgres_migration_count; i++) {
        const char *at = dk_postgres_migrations[i].sql;
        struct statement statement;
        while (next_statement(&at, &statement)) {
            DK_TRY(mend_statement(m, objects, &statement));
        }
    }
    return DK_OK;
}

dk_rc dk_pg_mend(PGconn *pg, const char *schema, bool is_owner, struct dk_err *err)
{
    struct mender m = {.pg = pg, .err = err};
    struct dk_pg_call call = {.sql = dk_pg_objects, .what = "reading the schema"};
    char sql[DK_PG_SCHEMA_MAX + 64];
    bool lost;
    snprintf(sql, sizeof sql, "SET LOCAL search_path = \"%s\", pg_temp", schema);
    DK_TRY(dk_pg_script(pg, sql, "reading the schema", err));
    DK_TRY(dk_pg_run(pg, &call, 1, &lost, err));
    dk_pg_compare(call.result, note, &m);
    dk_rc rc = DK_OK;
    if (m.found && !is_owner) {
        rc = DK_FAIL(err, CONFIG,
                     "something in the schema was dropped or changed, and this login is no member "
                     "of dekhand_admin: run `dekhand migrate` with one that is");
    } else if (is_owner) {
        rc = dk_pg_script(pg, "SET LOCAL ROLE dekhand_admin", "becoming the owner", err);
        rc = rc == DK_OK ? mend_all(&m, call.result) : rc;
        rc =
            rc == DK_OK ? dk_pg_script(pg, DK_PG_KEEP_MONTHS, "making months of the log", err) : rc;
    }
    PQclear(call.result);
    return rc;
}
