/* What is damaged, and whether the schema is what the migrations make. */
#include <stdio.h>
#include <string.h>

#include "store/migrations.h"
#include "store/pg_txn.h"

static const char *const tables[] = {
    "registry", "registry_keys", "tenants", "encryption_keys", "key_rotation_log",
    "seals",    "leases",        "nodes",   "key_counts",      "key_count_deltas",
    "wraps",    "registry_wraps"};

/* Every row is read: a page whose checksum is wrong, or a broken row, ends that. */
dk_rc dk_pg_integrity(void *self, bool (*each)(void *arg, const char *table, const char *text),
                      void *arg, struct dk_err *err)
{
    struct dk_pg_txn *txn = self;
    for (size_t i = 0; i < sizeof tables / sizeof tables[0]; i++) {
        char sql[96];
        PGresult *r = NULL;
        snprintf(sql, sizeof sql, "SELECT count(*), sum(length(t::text)) FROM %s t", tables[i]);
        dk_rc rc = dk_pg_ask(txn, NULL, sql, NULL, "reading every row", &r, err);
        PQclear(r);
        if (rc == DK_E_STORE) { /* the transaction is over with it */
            (void)each(arg, tables[i], err->text);
            dk_err_clear(err);
            return DK_OK;
        }
        DK_TRY(rc);
    }
    return DK_OK;
}

/* ---- what the migrations make ---------------------------------------------------------------- */

/* The kinds of statements that make something, and whether it is made on a table. */
static const struct {
    const char *words, *type;
    bool on_table;
} kinds[] = {
    {"CREATE TABLE ", "table", false},       {"CREATE INDEX ", "index", true},
    {"CREATE UNIQUE INDEX ", "index", true}, {"CREATE TRIGGER ", "trigger", true},
    {"CREATE VIEW ", "view", false},         {"CREATE FUNCTION ", "function", false},
    {"CREATE POLICY ", "policy", true},
};

static const char *take_word(const char *p, char *out, size_t cap)
{
    size_t n = strcspn(p, " (\n;");
    snprintf(out, cap, "%.*s", (int)n, p);
    return p + n;
}

bool dk_pg_makes(const char *line, struct dk_pg_expected *out)
{
    size_t indent = strspn(line, " ");
    line += indent;
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        size_t n = strlen(kinds[i].words);
        if (strncmp(line, kinds[i].words, n) != 0) {
            continue;
        }
        *out = (struct dk_pg_expected){.type = kinds[i].type, .optional = indent > 0};
        const char *p = take_word(line + n, out->name, sizeof out->name);
        const char *on = kinds[i].on_table ? strstr(p, " ON ") : NULL;
        take_word(on != NULL ? on + 4 : out->name, out->table, sizeof out->table);
        if (strcmp(out->type, "function") == 0) {
            const char *from = strstr(p, "$$");
            const char *to = from != NULL ? strstr(from + 2, "$$") : NULL;
            out->source = to != NULL ? from + 2 : "";
            out->source_n = to != NULL ? (size_t)(to - from - 2) : 0;
        }
        return true;
    }
    return false;
}

static bool same_name(const struct dk_pg_expected *a, const char *type, const char *name,
                      const char *table)
{
    return strcmp(a->type, type) == 0 && strcmp(a->name, name) == 0 && strcmp(a->table, table) == 0;
}

/* Goes on to the next object of all migrations; false: there is none. */
static bool next_expected(unsigned *migration, const char **at, struct dk_pg_expected *out)
{
    while (*migration < dk_postgres_migration_count) {
        const char *line = *at != NULL ? *at : dk_postgres_migrations[*migration].sql;
        while (*line != '\0') {
            const char *end = strchr(line, '\n');
            const char *next = end != NULL ? end + 1 : line + strlen(line);
            if (dk_pg_makes(line, out)) {
                *at = next;
                return true;
            }
            line = next;
        }
        *at = NULL;
        ++*migration;
    }
    return false;
}

/* ---- what is there --------------------------------------------------------------------------- */

/* One row an object: type, name, table, whether it is as it has to be, source of a function. */
const char dk_pg_objects[] =
    "WITH s AS (SELECT oid FROM pg_namespace WHERE nspname = current_schema())"
    " SELECT 'table'::text, relname::text, relname::text, relrowsecurity AND relforcerowsecurity,"
    " ''::text FROM pg_class, s WHERE relnamespace = s.oid AND relkind IN ('r', 'p')"
    " UNION ALL SELECT 'view', relname::text, relname::text,"
    " coalesce('security_invoker=true' = ANY (reloptions), false), '' FROM pg_class, s"
    " WHERE relnamespace = s.oid AND relkind = 'v'"
    " UNION ALL SELECT 'index', i.relname::text, t.relname::text, x.indisvalid, ''"
    " FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_class t ON t.oid ="
    " x.indrelid, s WHERE t.relnamespace = s.oid AND NOT EXISTS (SELECT 1 FROM pg_constraint c"
    " WHERE c.conindid = i.oid)"
    " UNION ALL SELECT 'trigger', g.tgname::text, t.relname::text, g.tgenabled IN ('O', 'A'), ''"
    " FROM pg_trigger g JOIN pg_class t ON t.oid = g.tgrelid, s WHERE t.relnamespace = s.oid AND"
    " NOT g.tgisinternal AND g.tgparentid = 0 AND NOT (t.relispartition AND g.tgname ="
    " 'key_rotation_log_not_emptied')"
    " UNION ALL SELECT 'function', p.proname::text, p.proname::text, NOT p.prosecdef, p.prosrc"
    " FROM pg_proc p, s WHERE p.pronamespace = s.oid"
    " UNION ALL SELECT 'policy', p.polname::text, t.relname::text, true, '' FROM pg_policy p JOIN"
    " pg_class t ON t.oid = p.polrelid, s WHERE t.relnamespace = s.oid"
    " UNION ALL SELECT 'rule', r.rulename::text, t.relname::text, true, '' FROM pg_rewrite r JOIN"
    " pg_class t ON t.oid = r.ev_class, s WHERE t.relnamespace = s.oid AND r.rulename <> '_RETURN'"
    " UNION ALL SELECT 'owner', o.rolname::text, t.relname::text, true, '' FROM pg_class t JOIN"
    " pg_roles o ON o.oid = t.relowner, s WHERE t.relnamespace = s.oid AND t.relkind IN ('r', 'p',"
    " 'v') AND o.rolname <> 'dekhand_admin'"
    " UNION SELECT 'grant', coalesce(g.rolname, 'PUBLIC')::text, t.relname::text, true, ''"
    " FROM pg_class t CROSS JOIN LATERAL aclexplode(t.relacl) a LEFT JOIN pg_roles g ON g.oid ="
    " a.grantee, s WHERE t.relnamespace = s.oid AND t.relkind IN ('r', 'p', 'v') AND a.grantee <>"
    " t.relowner AND g.rolname IS DISTINCT FROM 'dekhand_rw' AND NOT (coalesce(g.rolname ="
    " 'authenticated', false) AND t.relname = 'owner_keys' AND a.privilege_type = 'SELECT')"
    " UNION SELECT 'grant', coalesce(g.rolname, 'PUBLIC')::text, t.relname::text, true,"
    " c.attname::text FROM pg_attribute c JOIN pg_class t ON t.oid = c.attrelid CROSS JOIN LATERAL"
    " aclexplode(c.attacl) a LEFT JOIN pg_roles g ON g.oid = a.grantee, s WHERE t.relnamespace ="
    " s.oid AND g.rolname IS DISTINCT FROM 'dekhand_rw' AND NOT (coalesce(g.rolname ="
    " 'authenticated', false) AND t.relname = 'encryption_keys' AND a.privilege_type = 'SELECT' AND"
    " c.attname IN ('tenant_id', 'version', 'state', 'is_active', 'created_at', 'expires_at',"
    " 'rotated_at'))";

struct object {
    const char *type, *name, *table, *source;
    bool good;
};

static bool read_object(const PGresult *r, int i, struct object *out)
{
    return dk_pg_lend_str(r, i, 0, &out->type) && dk_pg_lend_str(r, i, 1, &out->name) &&
           dk_pg_lend_str(r, i, 2, &out->table) && dk_pg_get_bool(r, i, 3, &out->good) &&
           dk_pg_lend_str(r, i, 4, &out->source);
}

/* SQL that takes a foreign object away; "" for one that comes with something else. */
static void mend_of(const struct object *object, char *out, size_t cap)
{
    static const char *const kinds_of[][2] = {
        {"trigger", "TRIGGER"}, {"rule", "RULE"}, {"policy", "POLICY"}};
    const char *name = object->name, *table = object->table;
    const char *quote = strcmp(name, "PUBLIC") == 0 ? "" : "\"";
    out[0] = '\0';
    if (strcmp(object->type, "owner") == 0) {
        snprintf(out, cap, "ALTER TABLE %.63s OWNER TO dekhand_admin", table);
    } else if (strcmp(object->type, "grant") == 0) {
        bool column = object->source[0] != '\0';
        snprintf(out, cap, "REVOKE ALL %s%.63s%s ON %.63s FROM %s%.63s%s", column ? "(" : "",
                 object->source, column ? ")" : "", table, quote, name, quote);
    }
    for (size_t i = 0; i < sizeof kinds_of / sizeof kinds_of[0]; i++) {
        if (strcmp(object->type, kinds_of[i][0]) == 0) {
            snprintf(out, cap, "DROP %s \"%.63s\" ON %.63s", kinds_of[i][1], name, table);
        }
    }
}

/* Missing, or not what it was. */
static void look_at_expected(const PGresult *r, const struct dk_pg_expected *wanted,
                             void (*each)(void *arg, const struct dk_schema_finding *finding),
                             void *arg)
{
    struct object object;
    bool found = false, same = true;
    for (int i = 0; i < PQntuples(r) && !found; i++) {
        found =
            read_object(r, i, &object) && same_name(wanted, object.type, object.name, object.table);
        same = !found ||
               (object.good && (wanted->source == NULL ||
                                (strlen(object.source) == wanted->source_n &&
                                 memcmp(object.source, wanted->source, wanted->source_n) == 0)));
    }
    if ((!found && !wanted->optional) || !same) {
        struct dk_schema_finding finding = {found ? DK_SCHEMA_CHANGED : DK_SCHEMA_MISSING,
                                            wanted->type, wanted->name, wanted->table, ""};
        each(arg, &finding);
    }
}

static bool is_expected(const struct object *object)
{
    struct dk_pg_expected wanted;
    unsigned migration = 0;
    const char *at = NULL;
    while (next_expected(&migration, &at, &wanted)) {
        if (same_name(&wanted, object->type, object->name, object->table)) {
            return true;
        }
    }
    return false;
}

/* What works on our rows unasked, and who may reach them. */
static bool acts(const char *type)
{
    return strcmp(type, "trigger") == 0 || strcmp(type, "rule") == 0 ||
           strcmp(type, "policy") == 0 || strcmp(type, "owner") == 0 || strcmp(type, "grant") == 0;
}

void dk_pg_compare(const PGresult *r,
                   void (*each)(void *arg, const struct dk_schema_finding *finding), void *arg)
{
    struct dk_pg_expected wanted;
    struct object object;
    unsigned migration = 0;
    const char *at = NULL;
    while (next_expected(&migration, &at, &wanted)) {
        look_at_expected(r, &wanted, each, arg);
    }
    for (int i = 0; i < PQntuples(r); i++) {
        if (read_object(r, i, &object) && acts(object.type) && !is_expected(&object)) {
            char mend[320];
            mend_of(&object, mend, sizeof mend);
            struct dk_schema_finding finding = {DK_SCHEMA_FOREIGN, object.type, object.name,
                                                object.table, mend};
            each(arg, &finding);
        }
    }
}

dk_rc dk_pg_schema(void *self, void (*each)(void *arg, const struct dk_schema_finding *finding),
                   void *arg, struct dk_err *err)
{
    PGresult *r = NULL;
    DK_TRY(dk_pg_ask(self, NULL, dk_pg_objects, NULL, "reading the schema", &r, err));
    dk_pg_compare(r, each, arg);
    PQclear(r);
    return DK_OK;
}
