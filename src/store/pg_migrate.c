/* The schema in PostgreSQL: whether it is there, and how it comes to be. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/migrations.h"
#include "store/pg_txn.h"

/* A statement that waits for another migration waits this long, and then says so. */
#define SETTINGS                                                                                   \
    "SET LOCAL lock_timeout = '60s'; SET LOCAL client_min_messages = warning; "                    \
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

/* ---- what is there --------------------------------------------------------------------------- */

/* The catalogue, so that no right on the schema is needed; then its version, or 0. */
static dk_rc read_version(struct dk_pg *store, PGconn *pg, bool *there, int64_t *version,
                          struct dk_err *err)
{
    struct dk_pg_params p = {.n = 0};
    struct dk_pg_call call = {
        .sql = "SELECT count(*) FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid "
               "= c.relnamespace WHERE n.nspname = $1 AND c.relname = 'registry'",
        .params = &p,
        .what = "looking for the registry"};
    char sql[DK_PG_SCHEMA_MAX + 64];
    int64_t tables = 0;
    bool lost;
    dk_pg_str(&p, store->schema);
    DK_TRY(dk_pg_run(pg, &call, 1, &lost, err));
    bool good = dk_pg_get_int(call.result, 0, 0, 0, 1, &tables);
    PQclear(call.result);
    *there = good && tables == 1;
    *version = 0;
    if (!good || !*there) {
        return good ? DK_OK : DK_FAIL(err, STORE, "the server's catalogue cannot be read");
    }
    snprintf(sql, sizeof sql, "SELECT schema_version FROM %s.registry WHERE id = 1", store->schema);
    call = (struct dk_pg_call){.sql = sql, .what = "reading the schema's version"};
    DK_TRY(dk_pg_run(pg, &call, 1, &lost, err));
    if (PQntuples(call.result) == 1) {
        good = dk_pg_get_int(call.result, 0, 0, 0, INT32_MAX, version);
    }
    PQclear(call.result);
    return good ? DK_OK : dk_pg_tampered("registry", err);
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

static dk_rc make_schema(struct dk_pg *store, PGconn *pg, struct dk_err *err)
{
    return scriptf(pg, "making the schema", err,
                   "CREATE SCHEMA IF NOT EXISTS %s AUTHORIZATION dekhand_admin; REVOKE ALL ON "
                   "SCHEMA %s FROM PUBLIC; GRANT USAGE ON SCHEMA %s TO dekhand_rw",
                   store->schema, store->schema, store->schema);
}

static dk_rc apply(struct dk_pg *store, PGconn *pg, int64_t version, struct dk_err *err)
{
    if (version == 0) {
        DK_TRY(dk_pg_script(pg, dk_postgres_roles, "making the roles", err));
        DK_TRY(make_schema(store, pg, err));
    }
    DK_TRY(scriptf(pg, "becoming the owner", err,
                   "SET LOCAL ROLE dekhand_admin; SET LOCAL search_path = %s, pg_temp",
                   store->schema));
    for (int64_t i = version; i < (int64_t)dk_postgres_migration_count; i++) {
        DK_TRY(
            dk_pg_script(pg, dk_postgres_migrations[i].sql, dk_postgres_migrations[i].name, err));
        dk_trace(store->world, "migrate.step");
    }
    return write_registry_row(store, pg, err);
}

/* All missing migrations in one transaction, or none; who comes second waits, and finds them. */
static dk_rc migrate_in(struct dk_pg *store, PGconn *pg, struct dk_err *err)
{
    bool there = false;
    int64_t version = 0;
    DK_TRY(dk_pg_script(pg, "BEGIN; " SETTINGS, "starting the migration", err));
    DK_TRY(read_version(store, pg, &there, &version, err));
    if (version > (int64_t)dk_postgres_migration_count) {
        return DK_FAIL(err, SCHEMA,
                       "%s has schema %lld, this program knows %u: it was written by a newer "
                       "dekhand",
                       store->where, (long long)version, dk_postgres_migration_count);
    }
    if (version == (int64_t)dk_postgres_migration_count) {
        return dk_pg_script(pg, "ROLLBACK", "ending the migration", err);
    }
    if (there && version == 0) {
        return DK_FAIL(err, TAMPERED, "the registry's own row is gone: restore it from a copy");
    }
    DK_TRY(apply(store, pg, version, err));
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
