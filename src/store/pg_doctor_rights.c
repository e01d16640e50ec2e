/* The doctor's look at rights: who may read and write the registry beside dekhand_rw. */
#include <stdio.h>
#include <string.h>

#include "store/pg_doctor.h"

#define FIX 400
#define LINES_MAX 5 /* of one kind, one by one */

/* ---- row security ---------------------------------------------------------------------------- */

#define UNGUARDED                                                                                  \
    "SELECT count(*), coalesce(string_agg(format('%I.%I', n.nspname, c.relname), ', ' ORDER BY "   \
    "c.relname), ''), coalesce(min(format('%I.%I', n.nspname, c.relname)), '') FROM "              \
    "pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE "        \
    "n.nspname = $1 AND c.relkind IN ('r', 'p') AND NOT (c.relrowsecurity AND "                    \
    "c.relforcerowsecurity)"

static void look_at_row_security(struct dk_pg_exam *exam)
{
    PGresult *r = NULL;
    int64_t n = 0;
    const char *list, *first;
    char fix[FIX];
    if (!dk_pg_inquire(exam, "row security", UNGUARDED, true, &r)) {
        return;
    }
    if (!dk_pg_get_int(r, 0, 0, 0, INT32_MAX, &n) || !dk_pg_lend_str(r, 0, 1, &list) ||
        !dk_pg_lend_str(r, 0, 2, &first)) {
        dk_pg_odd(exam, "row security");
    } else if (n > 0) {
        snprintf(fix, sizeof fix,
                 "find who did it, then ALTER TABLE %.130s ENABLE ROW LEVEL SECURITY, FORCE ROW "
                 "LEVEL SECURITY, for each of them",
                 first);
        dk_pg_note(exam, DK_STORE_FINDING, "row security", fix,
                   "%.500s: not enabled and forced, so who has a right on the table has all of its "
                   "rows, the owner first",
                   list);
    } else {
        dk_pg_note(exam, DK_STORE_WELL, "row security", "",
                   "enabled and forced on every table of the schema");
    }
    PQclear(r);
}

/* ---- others ---------------------------------------------------------------------------------- */

/*
 * What the migrations grant to those four: the metadata of an owner's own keys, to `authenticated`.
 * A membership brings the rights of the role, and is told in their place.
 */
#define OTHERS                                                                                     \
    "WITH s AS (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = $1), "                     \
    "who AS (SELECT 'public'::name AS name, NULL::oid AS id UNION ALL SELECT rolname, oid FROM "   \
    "pg_catalog.pg_roles WHERE rolname IN ('anon', 'authenticated', 'service_role')), "            \
    "member AS (SELECT w.name, r.rolname FROM who w JOIN pg_catalog.pg_roles r ON r.rolname IN "   \
    "('dekhand_admin', 'dekhand_rw', 'dekhand_worker') AND pg_has_role(w.id, r.oid, 'MEMBER')), "  \
    "may AS (SELECT w.name, c.relname, v.verb FROM who w, s JOIN pg_catalog.pg_class c ON "        \
    "c.relnamespace = s.oid AND c.relkind IN ('r', 'p', 'v', 'm'), unnest(ARRAY['SELECT', "        \
    "'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'TRIGGER']) v(verb) WHERE (has_table_privilege("    \
    "w.name, c.oid, v.verb) AND NOT (w.name = 'authenticated' AND c.relkind = 'v' AND v.verb = "   \
    "'SELECT')) OR (v.verb IN ('SELECT', 'INSERT', 'UPDATE') AND EXISTS (SELECT 1 FROM "           \
    "pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped "  \
    "AND has_column_privilege(w.name, c.oid, a.attnum, v.verb) AND NOT (w.name = "                 \
    "'authenticated' AND v.verb = 'SELECT' AND (c.relkind = 'v' OR a.attname IN ('tenant_id', "    \
    "'version', 'state', 'is_active', 'created_at', 'expires_at', 'rotated_at')))))) "             \
    "SELECT format('%s is a member of %I', name, rolname), format('REVOKE %I FROM %s', rolname, "  \
    "name) FROM member UNION ALL "                                                                 \
    "SELECT format('%s may %s %I.%I', CASE name WHEN 'public' THEN 'everybody (PUBLIC)' ELSE "     \
    "name::text END, string_agg(DISTINCT verb, ', '), $1, relname), format('REVOKE ALL ON %I.%I "  \
    "FROM %s', $1, relname, name) FROM may WHERE name NOT IN (SELECT name FROM member) GROUP BY "  \
    "name, relname UNION ALL "                                                                     \
    "SELECT format('%s may CREATE in the schema %I', name, $1), format('REVOKE CREATE ON SCHEMA "  \
    "%I FROM %s', $1, name) FROM who, s WHERE has_schema_privilege(name, s.oid, 'CREATE') UNION "  \
    "ALL "                                                                                         \
    "SELECT DISTINCT format('the view %I.%I shows %I.%I with the rights of its owner', "           \
    "vn.nspname, "                                                                                 \
    "v.relname, $1, t.relname), format(CASE v.relkind WHEN 'm' THEN 'DROP MATERIALIZED VIEW "      \
    "%I.%I' ELSE 'ALTER VIEW %I.%I SET (security_invoker = true)' END, vn.nspname, v.relname) "    \
    "FROM s JOIN pg_catalog.pg_class t ON t.relnamespace = s.oid JOIN pg_catalog.pg_depend d ON "  \
    "d.refclassid = 'pg_catalog.pg_class'::regclass AND d.refobjid = t.oid AND d.classid = "       \
    "'pg_catalog.pg_rewrite'::regclass JOIN pg_catalog.pg_rewrite w ON w.oid = d.objid JOIN "      \
    "pg_catalog.pg_class v ON v.oid = w.ev_class AND v.relkind IN ('v', 'm') AND "                 \
    "v.relnamespace <> s.oid JOIN pg_catalog.pg_namespace vn ON vn.oid = v.relnamespace WHERE "    \
    "v.relkind = 'm' OR NOT coalesce('security_invoker=true' = ANY (v.reloptions), false)"

/* A line for each row of (what it is, what mends it). */
static void tell_rows(struct dk_pg_exam *exam, const char *name, enum dk_store_level level,
                      const PGresult *r, const char *meaning)
{
    int n = PQntuples(r);
    for (int i = 0; i < n && i < LINES_MAX; i++) {
        const char *text, *fix;
        if (!dk_pg_lend_str(r, i, 0, &text) || !dk_pg_lend_str(r, i, 1, &fix)) {
            dk_pg_odd(exam, name);
            return;
        }
        dk_pg_note(exam, level, name, fix, "%.400s: %s", text, meaning);
    }
    if (n > LINES_MAX) {
        dk_pg_note(exam, level, name, "mend these, and run `dekhand doctor` again",
                   "%d more like these", n - LINES_MAX);
    }
}

static void look_for(struct dk_pg_exam *exam, const char *name, const char *sql,
                     enum dk_store_level level, const char *meaning, const char *well)
{
    PGresult *r = NULL;
    if (!dk_pg_inquire(exam, name, sql, true, &r)) {
        return;
    }
    tell_rows(exam, name, level, r, meaning);
    if (PQntuples(r) == 0 && well != NULL) {
        dk_pg_note(exam, DK_STORE_WELL, name, "", "%s", well);
    }
    PQclear(r);
}

/* ---- functions with their owner's rights ----------------------------------------------------- */

#define DEFINERS                                                                                   \
    "SELECT format('the function %I.%I works with the rights of %I', n.nspname, p.proname, "       \
    "pg_get_userbyid(p.proowner)), format('find who made it, then ALTER FUNCTION %s SECURITY "     \
    "INVOKER, or drop it', p.oid::regprocedure) FROM pg_catalog.pg_proc p JOIN "                   \
    "pg_catalog.pg_namespace n ON n.oid = p.pronamespace WHERE p.prosecdef AND (n.nspname = $1 "   \
    "OR pg_get_userbyid(p.proowner) IN ('dekhand_admin', 'dekhand_rw', 'dekhand_worker')) ORDER "  \
    "BY 1"

/* ---- Supabase and PostgREST ------------------------------------------------------------------ */

/* Where there is a role of that name. */
#define API                                                                                        \
    "SELECT DISTINCT format('PostgREST serves the schema %I', $1), 'take it out of pgrst.db_"      \
    "schemas (Supabase: Settings, Data API, Exposed schemas), then NOTIFY pgrst, ''reload "        \
    "config''' FROM pg_catalog.pg_db_role_setting s JOIN pg_catalog.pg_roles r ON r.oid = "        \
    "s.setrole AND r.rolname = 'authenticator' CROSS JOIN unnest(s.setconfig) c(line) CROSS JOIN " \
    "regexp_split_to_table(substr(c.line, length('pgrst.db_schemas=') + 1), ',') e(name) WHERE "   \
    "s.setdatabase IN (0, (SELECT oid FROM pg_catalog.pg_database WHERE datname = "                \
    "current_database())) AND starts_with(c.line, 'pgrst.db_schemas=') AND trim(both ' \"' from "  \
    "e.name) = $1"
#define HAS_API "SELECT count(*) FROM pg_catalog.pg_roles WHERE rolname = 'authenticator'"

static void look_at_api(struct dk_pg_exam *exam)
{
    PGresult *r = NULL;
    int64_t n = 0;
    if (!dk_pg_inquire(exam, "api", HAS_API, false, &r)) {
        return;
    }
    bool there = dk_pg_get_int(r, 0, 0, 0, 1, &n) && n == 1;
    PQclear(r);
    if (there) {
        look_for(exam, "api", API, DK_STORE_FINDING,
                 "what its roles may do there is to be had over HTTP",
                 "PostgREST does not serve the schema");
    }
}

#define PUBLISHED                                                                                  \
    "SELECT format('the publication %I sends rows of %I.%I', pubname, schemaname, tablename), "    \
    "format('ALTER PUBLICATION %I DROP TABLE %I.%I, if nobody needs it', pubname, schemaname, "    \
    "tablename) FROM pg_catalog.pg_publication_tables WHERE schemaname = $1 ORDER BY 1"

/* ---- all of it ------------------------------------------------------------------------------- */

void dk_pg_look_at_rights(struct dk_pg_exam *exam)
{
    look_at_row_security(exam);
    look_for(exam, "access", OTHERS, DK_STORE_FINDING,
             "beyond what the migrations grant; see whether it was used, then take it away",
             "nobody beside dekhand's roles may read or write here; of Supabase's, signed-in users "
             "see the metadata of their own keys");
    look_for(exam, "definer", DEFINERS, DK_STORE_FINDING,
             "whoever may call it has them too, and dekhand makes none",
             "no function lends its owner's rights to who calls it");
    look_at_api(exam);
    look_for(exam, "publication", PUBLISHED, DK_STORE_NOTE,
             "each subscriber has a copy of them, wrapped keys and names of tenants", NULL);
}
