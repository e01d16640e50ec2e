/* The schema in PostgreSQL: whether it is there, who may make it, and how it comes to be. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/migrations.h"
#include "store/pg_txn.h"

/*
 * A statement that waits for another migration waits this long, and then says so. The lock is of
 * the transaction: a pooler in transaction mode carries it.
 */
#define BEGIN                                                                                      \
    "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; SET LOCAL lock_timeout = '60s'; "            \
    "SET LOCAL statement_timeout = 0; SET LOCAL client_min_messages = warning; "                   \
    "SELECT pg_advisory_xact_lock(hashtextextended('dekhand migrate', 0));"

static dk_rc scriptf(PGconn *pg, const char *what, struct dk_err *err, const char *format, ...)
    DK_PRINTF(4, 5);

static dk_rc scriptf(PGconn *pg, const char *what, struct dk_err *err, const char *format, ...)
{
    char sql[1024];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(sql, sizeof sql, format, args);
    va_end(args);
    if (n < 0 || (size_t)n >= sizeof sql) {
        return DK_FAIL(err, INTERNAL, "%s: a statement is too long", what);
    }
    return dk_pg_script(pg, sql, what, err);
}

/* ---- what is there, and what the login may ----------------------------------------------------
 */

struct found {
    bool registry;      /* the table is there */
    char owner[64];     /* of the schema; "" = there is none */
    int64_t roles;      /* of our three, how many there are */
    bool makes_roles;   /* the login may */
    bool makes_schema;  /* the same */
    bool is_rw, can_rw; /* a member of dekhand_rw; or may make itself one */
    bool is_admin, can_admin;
    char strong[64]; /* one of the roles to which row level security means nothing; "" = none */
    char login[64], database[64];
    /* A table or view with a name of ours that is not dekhand_admin's; "" = there is none. */
    char other_kind[16], other[64], other_owner[64];
};

/* The catalogue alone: it needs no right. `can`: of 15 on whoever may create roles may give any. */
static const char look[] =
    "WITH us AS (SELECT * FROM pg_catalog.pg_roles WHERE rolname = current_user), v AS (SELECT"
    " current_setting('server_version_num')::integer >= 160000 AS new), r AS (SELECT rolname,"
    " pg_has_role(pg_roles.oid, CASE WHEN new THEN 'SET' ELSE 'MEMBER' END) AS member,"
    " pg_has_role(pg_roles.oid, 'MEMBER WITH ADMIN OPTION') OR (NOT new AND (SELECT rolcreaterole"
    " FROM us)) AS can, rolsuper OR rolbypassrls AS strong FROM pg_catalog.pg_roles, v WHERE"
    " rolname IN ('dekhand_admin', 'dekhand_rw', 'dekhand_worker')) SELECT"
    " EXISTS (SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid ="
    " c.relnamespace WHERE n.nspname = $1 AND c.relname = 'registry'),"
    " (SELECT pg_get_userbyid(nspowner)::text FROM pg_catalog.pg_namespace WHERE nspname = $1),"
    " (SELECT count(*) FROM r),"
    " (SELECT rolsuper OR rolcreaterole FROM us),"
    " has_database_privilege(current_database(), 'CREATE'),"
    " EXISTS (SELECT FROM r WHERE rolname = 'dekhand_rw' AND member),"
    " EXISTS (SELECT FROM r WHERE rolname = 'dekhand_rw' AND can),"
    " EXISTS (SELECT FROM r WHERE rolname = 'dekhand_admin' AND member),"
    " EXISTS (SELECT FROM r WHERE rolname = 'dekhand_admin' AND can),"
    " (SELECT min(rolname)::text FROM r WHERE strong),"
    " current_user::text, current_database()::text";

static const char look_for_others[] =
    "SELECT CASE c.relkind WHEN 'r' THEN 'table' WHEN 'p' THEN 'table' WHEN 'v' THEN 'view' ELSE"
    " 'object' END, c.relname::text, pg_get_userbyid(c.relowner)::text FROM pg_catalog.pg_class c"
    " JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND"
    " c.relname::text = ANY ($2) AND pg_get_userbyid(c.relowner) <> 'dekhand_admin' ORDER BY 2"
    " LIMIT 1";

/* Calls for the name of each table and view that the migrations make; how many there are. */
static size_t names_of_ours(void (*each)(struct dk_pg_array *names, const char *name),
                            struct dk_pg_array *names)
{
    struct dk_pg_expected object;
    size_t n = 0;
    for (unsigned i = 0; i < dk_postgres_migration_count; i++) {
        const char *line = dk_postgres_migrations[i].sql;
        for (; line != NULL; line = strchr(line, '\n')) {
            line += *line == '\n';
            if (dk_pg_makes(line, &object) &&
                (strcmp(object.type, "table") == 0 || strcmp(object.type, "view") == 0)) {
                n++;
                if (each != NULL) {
                    each(names, object.name);
                }
            }
        }
    }
    return n;
}

static bool read_found(const PGresult *r, const PGresult *others, struct found *out)
{
    bool good =
        PQntuples(r) == 1 && dk_pg_get_bool(r, 0, 0, &out->registry) &&
        dk_pg_get_str(r, 0, 1, out->owner, sizeof out->owner) &&
        dk_pg_get_int(r, 0, 2, 0, 3, &out->roles) && dk_pg_get_bool(r, 0, 3, &out->makes_roles) &&
        dk_pg_get_bool(r, 0, 4, &out->makes_schema) && dk_pg_get_bool(r, 0, 5, &out->is_rw) &&
        dk_pg_get_bool(r, 0, 6, &out->can_rw) && dk_pg_get_bool(r, 0, 7, &out->is_admin) &&
        dk_pg_get_bool(r, 0, 8, &out->can_admin) &&
        dk_pg_get_str(r, 0, 9, out->strong, sizeof out->strong) &&
        dk_pg_get_str(r, 0, 10, out->login, sizeof out->login) &&
        dk_pg_get_str(r, 0, 11, out->database, sizeof out->database);
    out->other[0] = '\0';
    return good && (PQntuples(others) == 0 ||
                    (dk_pg_get_str(others, 0, 0, out->other_kind, sizeof out->other_kind) &&
                     dk_pg_get_str(others, 0, 1, out->other, sizeof out->other) &&
                     dk_pg_get_str(others, 0, 2, out->other_owner, sizeof out->other_owner)));
}

static dk_rc look_around(struct dk_pg *store, PGconn *pg, struct found *out, struct dk_err *err)
{
    struct dk_pg_params p = {.n = 0}, p_others = {.n = 0};
    struct dk_pg_call calls[2] = {
        {.sql = look, .params = &p, .what = "looking for the registry"},
        {.sql = look_for_others, .params = &p_others, .what = "looking for the registry"}};
    struct dk_pg_array names;
    bool lost;
    dk_pg_array_begin(&names, &store->world->mem, DK_PG_TEXTS, names_of_ours(NULL, NULL));
    names_of_ours(dk_pg_array_str, &names);
    dk_pg_str(&p, store->schema);
    dk_pg_str(&p_others, store->schema);
    dk_pg_array(&p_others, &names);
    dk_rc rc = names.failed ? DK_FAIL(err, NOMEM, "no memory to look for the registry")
                            : dk_pg_run(pg, calls, 2, &lost, err);
    dk_pg_array_free(&names);
    DK_TRY(rc);
    bool good = read_found(calls[0].result, calls[1].result, out);
    PQclear(calls[0].result);
    PQclear(calls[1].result);
    return good ? DK_OK : DK_FAIL(err, STORE, "the server's catalogue cannot be read");
}

/* ---- what is somebody else's ----------------------------------------------------------------- */

#define OR_ANOTHER "or name another schema in the URL (dekhand_schema=NAME)"

static dk_rc check_owners(const struct dk_pg *store, const struct found *found, struct dk_err *err)
{
    const char *schema = store->schema;
    if (found->owner[0] != '\0' && strcmp(found->owner, "dekhand_admin") != 0) {
        return DK_FAIL(err, CONFIG,
                       "the schema %s belongs to %s: ALTER SCHEMA %s OWNER TO dekhand_admin, drop "
                       "it, " OR_ANOTHER,
                       schema, found->owner, schema);
    }
    if (found->other[0] != '\0') {
        return DK_FAIL(err, CONFIG,
                       "the %s %s.%s belongs to %s: if it is dekhand's, ALTER TABLE %s.%s OWNER TO "
                       "dekhand_admin; if not, move it away, " OR_ANOTHER,
                       found->other_kind, schema, found->other, found->other_owner, schema,
                       found->other);
    }
    return DK_OK;
}

/* What the server refused, or does not show: where something is somebody else's, that is why. */
static dk_rc explain(const struct dk_pg *store, const struct found *found, dk_rc rc,
                     struct dk_err *err)
{
    static const char *const states[] = {"42501", "42P01", "42P07", "3F000"};
    struct dk_err why;
    dk_err_clear(&why);
    for (size_t i = 0; i < sizeof states / sizeof states[0] && rc != DK_OK; i++) {
        if (dk_pg_failed_by(err, states[i]) && check_owners(store, found, &why) != DK_OK) {
            *err = why;
            return err->rc;
        }
    }
    return rc;
}

/* ---- the version of what is there ------------------------------------------------------------ */

/* As dekhand_rw: nobody else sees the row, its owner included. */
static dk_rc read_version(struct dk_pg *store, PGconn *pg, struct dk_schema_version *out,
                          struct dk_err *err)
{
    char sql[DK_PG_SCHEMA_MAX + 96];
    struct dk_pg_call call = {.sql = sql, .what = "reading the schema's version"};
    bool lost, good = true;
    snprintf(sql, sizeof sql,
             "SELECT schema_version, registry_uuid FROM \"%s\".registry WHERE id = 1",
             store->schema);
    DK_TRY(dk_pg_script(pg, "SET LOCAL ROLE dekhand_rw", "becoming dekhand_rw", err));
    DK_TRY(dk_pg_run(pg, &call, 1, &lost, err));
    if (PQntuples(call.result) == 1) {
        good = dk_pg_get_version(call.result, 0, 0, &out->version) &&
               dk_pg_get_uuid(call.result, 0, 1, out->uuid);
    }
    PQclear(call.result);
    DK_TRY(good ? DK_OK : dk_pg_tampered("registry", err));
    return dk_pg_script(pg, "SET LOCAL ROLE NONE", "becoming the login again", err);
}

static dk_rc not_a_member(const struct found *found, const char *roles, const char *or_else,
                          struct dk_err *err)
{
    return DK_FAIL(err, CONFIG,
                   "the login %s is no member of %s: as an administrator of roles, GRANT %s TO "
                   "%s%s",
                   found->login, roles, roles, found->login, or_else);
}

static dk_rc find_version(struct dk_pg *store, PGconn *pg, const struct found *found,
                          struct dk_schema_version *out, struct dk_err *err)
{
    if (!found->registry) {
        return DK_OK;
    }
    if (!found->is_rw && !found->can_rw) {
        DK_TRY(check_owners(store, found, err));
        return not_a_member(found, "dekhand_rw", "", err);
    }
    if (!found->is_rw) {
        DK_TRY(dk_pg_script(pg, "GRANT dekhand_rw TO CURRENT_USER", "joining dekhand_rw", err));
    }
    DK_TRY(read_version(store, pg, out, err));
    return out->version > 0
               ? DK_OK
               : DK_FAIL(err, TAMPERED, "the registry's own row is gone: restore it from a copy");
}

dk_rc dk_pg_schema_version(void *self, struct dk_schema_version *out, struct dk_err *err)
{
    struct dk_schema_version version = {.version = 0};
    struct found found;
    PGconn *pg = NULL;
    DK_TRY(dk_pg_connect(self, &pg, err));
    dk_rc rc = dk_pg_script(pg, "BEGIN", "looking for the registry", err);
    rc = rc == DK_OK ? look_around(self, pg, &found, err) : rc;
    if (rc == DK_OK) {
        rc = explain(self, &found, find_version(self, pg, &found, &version, err), err);
    }
    PQfinish(pg); /* nothing is to be kept */
    if (rc == DK_OK) {
        *out = version;
    }
    return rc;
}

dk_rc dk_pg_exists(void *self, bool *out, struct dk_err *err)
{
    struct dk_pg *store = self;
    struct dk_pg_params p = {.n = 0};
    struct dk_pg_call call = {.sql = "SELECT count(*) FROM pg_catalog.pg_namespace WHERE nspname = "
                                     "$1",
                              .params = &p,
                              .what = "looking for the schema"};
    struct dk_pg_conn *conn = NULL;
    int64_t n = 0;
    bool lost = false;
    DK_TRY(dk_pg_take(store, &conn, err));
    dk_pg_str(&p, store->schema);
    dk_rc rc = dk_pg_run(conn->pg, &call, 1, &lost, err);
    if (rc == DK_OK && !dk_pg_get_int(call.result, 0, 0, 0, 1, &n)) {
        rc = DK_FAIL(err, STORE, "the server's catalogue cannot be read");
    }
    PQclear(call.result);
    dk_pg_give(store, conn);
    if (rc == DK_OK) {
        *out = n == 1;
    }
    return rc;
}

/* ---- making it ------------------------------------------------------------------------------- */

/* What the server would refuse in the middle is told before the beginning, with the way out. */
static dk_rc check_rights(const struct dk_pg *store, const struct found *found, struct dk_err *err)
{
    if (found->strong[0] != '\0') {
        return DK_FAIL(err, CONFIG,
                       "the role %s is a superuser or has BYPASSRLS: row level security means "
                       "nothing to it; ALTER ROLE %s NOSUPERUSER NOBYPASSRLS",
                       found->strong, found->strong);
    }
    if (found->roles < 3 && !found->makes_roles) {
        return DK_FAIL(err, CONFIG,
                       "the login %s may not create roles, and dekhand_admin, dekhand_rw and "
                       "dekhand_worker are not all there: `dekhand migrate --print | psql <as a "
                       "role administrator>`",
                       found->login);
    }
    if (found->roles == 3 &&
        ((!found->is_admin && !found->can_admin) || (!found->is_rw && !found->can_rw))) {
        return not_a_member(found, "dekhand_admin, dekhand_rw",
                            ", or `dekhand migrate --print | psql`", err);
    }
    if (found->owner[0] == '\0' && !found->makes_schema) {
        return DK_FAIL(err, CONFIG,
                       "the login %s may not make a schema in %s: GRANT CREATE ON DATABASE %s TO "
                       "%s, or `dekhand migrate --print | psql`",
                       found->login, found->database, found->database, found->login);
    }
    return check_owners(store, found, err);
}

/* As dekhand_rw, so that no policy is needed for anybody else. */
static dk_rc write_registry_row(struct dk_pg *store, PGconn *pg, struct dk_err *err)
{
    char uuid[DK_UUID_TEXT], now[DK_TIME_TEXT];
    DK_TRY(dk_uuid_new(store->world, uuid, err));
    dk_time_format(dk_wall_us(store->world), now);
    return scriptf(pg, "writing the registry row", err,
                   "SET LOCAL ROLE dekhand_rw; INSERT INTO registry (id, registry_uuid, "
                   "schema_version, created_at) VALUES (1, '%s', %u, '%s') ON CONFLICT (id) DO "
                   "UPDATE SET schema_version = excluded.schema_version",
                   uuid, dk_postgres_migration_count, now);
}

static dk_rc make_schema(struct dk_pg *store, PGconn *pg, bool there, struct dk_err *err)
{
    if (!there) {
        DK_TRY(scriptf(pg, "making the schema", err,
                       "CREATE SCHEMA \"%s\" AUTHORIZATION dekhand_admin", store->schema));
    }
    return scriptf(pg, "giving the schema", err,
                   "SET LOCAL ROLE dekhand_admin; REVOKE ALL ON SCHEMA \"%s\" FROM PUBLIC; GRANT "
                   "USAGE ON SCHEMA \"%s\" TO dekhand_rw",
                   store->schema, store->schema);
}

static dk_rc apply(struct dk_pg *store, PGconn *pg, const struct found *found, uint32_t version,
                   struct dk_err *err)
{
    DK_TRY(dk_pg_script(pg, dk_postgres_roles, "making the roles", err));
    if (version == 0) {
        DK_TRY(make_schema(store, pg, found->owner[0] != '\0', err));
    }
    DK_TRY(scriptf(pg, "becoming the owner", err,
                   "SET LOCAL ROLE dekhand_admin; SET LOCAL search_path = \"%s\", pg_temp",
                   store->schema));
    for (unsigned i = version; i < dk_postgres_migration_count; i++) {
        DK_TRY(
            dk_pg_script(pg, dk_postgres_migrations[i].sql, dk_postgres_migrations[i].name, err));
        dk_trace(store->world, "migrate.step");
    }
    DK_TRY(dk_pg_script(pg, DK_PG_KEEP_MONTHS, "making months of the log", err));
    return write_registry_row(store, pg, err);
}

static dk_rc migrate_from(struct dk_pg *store, PGconn *pg, const struct found *found,
                          struct dk_err *err)
{
    struct dk_schema_version now = {.version = 0};
    DK_TRY(find_version(store, pg, found, &now, err));
    if (now.version > dk_postgres_migration_count) {
        return DK_FAIL(err, SCHEMA,
                       "%s has schema %u, this program knows %u: it was written by a newer "
                       "dekhand",
                       store->where, now.version, dk_postgres_migration_count);
    }
    if (now.version == dk_postgres_migration_count) {
        return dk_pg_mend(pg, store->schema, found->is_admin, err);
    }
    DK_TRY(check_rights(store, found, err));
    return apply(store, pg, found, now.version, err);
}

/* All missing migrations in one transaction, or none; who comes second waits, and finds them. */
static dk_rc migrate_in(struct dk_pg *store, PGconn *pg, struct dk_err *err)
{
    struct found found;
    DK_TRY(dk_pg_script(pg, BEGIN, "starting the migration", err));
    DK_TRY(look_around(store, pg, &found, err));
    DK_TRY(explain(store, &found, migrate_from(store, pg, &found, err), err));
    dk_trace(store->world, "migrate.before_commit");
    return dk_pg_script(pg, "COMMIT", "committing the migration", err);
}

dk_rc dk_pg_migrate(void *self, struct dk_err *err)
{
    PGconn *pg = NULL;
    DK_TRY(dk_pg_connect(self, &pg, err));
    dk_rc rc = migrate_in(self, pg, err);
    PQfinish(pg); /* what was not committed is rolled back */
    return rc;
}
