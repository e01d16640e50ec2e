/*
 * The migration as a script for psql or Supabase's CLI.
 *
 * It is one statement, a DO block: whoever runs it, with or without a transaction around it, and
 * cut into statements by whatever reads it, it is done whole or not at all. What is different from
 * pg_migrate.c is who decides: there the program, here the block.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "store/migrations.h"
#include "store/pg_txn.h"

struct printer {
    void (*put)(void *arg, const char *text, size_t n);
    void *arg;
    const char *schema;
};

static void text(const struct printer *p, const char *s)
{
    p->put(p->arg, s, strlen(s));
}

static void line(const struct printer *p, const char *format, ...) DK_PRINTF(2, 3);

static void line(const struct printer *p, const char *format, ...)
{
    char s[512];
    va_list args;
    va_start(args, format);
    vsnprintf(s, sizeof s, format, args);
    va_end(args);
    text(p, s);
    text(p, "\n");
}

/* The file's name has to begin with 14 digits, later than those of the migrations before. */
static void head(const struct printer *p, const struct dk_world *world, bool supabase)
{
    char now[DK_TIME_TEXT], digits[15];
    size_t n = 0;
    dk_time_format(dk_wall_us(world), now);
    for (const char *c = now; *c != '\0' && n < 14; c++) {
        if (*c >= '0' && *c <= '9') {
            digits[n++] = *c;
        }
    }
    digits[n] = '\0';
    if (supabase) {
        line(p, "-- supabase/migrations/%s_dekhand.sql", digits);
    }
    line(p, "-- dekhand " DK_VERSION ": schema %u of the registry in PostgreSQL 15 or later, with",
         dk_postgres_migration_count);
    text(p,
         "-- roles and rights. Done whole or not at all, and where it is there already, nothing\n"
         "-- is changed. Run it as a login that may create roles, and schemas in this database.\n"
         "-- Then make the login of dekhand a member: GRANT dekhand_rw TO login\n");
    if (supabase) {
        text(p, "-- No BEGIN and no COMMIT: the Supabase CLI has a transaction of its own.\n");
    } else {
        text(p, "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE;\n");
    }
}

static void look(const struct printer *p)
{
    text(p, "DO $dekhand$\n"
            "DECLARE\n"
            "    role_before text := current_setting('role');\n"
            "    path_before text := current_setting('search_path');\n"
            "    lock_before text := current_setting('lock_timeout');\n"
            "    has integer := 0;\n"
            "BEGIN\n"
            "    IF lock_before = '0' THEN -- who waits keeps others waiting, too\n"
            "        SET LOCAL lock_timeout = '60s';\n"
            "    END IF;\n"
            "    PERFORM pg_advisory_xact_lock(hashtextextended('dekhand migrate', 0));\n");
    line(p, "    IF to_regclass('\"%s\".registry') IS NOT NULL THEN", p->schema);
    text(p, "        SET LOCAL ROLE dekhand_rw; -- nobody else sees the row\n");
    line(p, "        SELECT schema_version INTO has FROM \"%s\".registry WHERE id = 1;", p->schema);
    text(p, "        PERFORM set_config('role', role_before, true);\n"
            "    END IF;\n"
            "    IF has IS NULL THEN\n"
            "        RAISE EXCEPTION 'the registry''s own row is gone: restore it from a copy';\n");
    line(p, "    ELSIF has > %u THEN", dk_postgres_migration_count);
    line(p,
         "        RAISE EXCEPTION 'there is schema %%, and this is %u: it was written by a newer "
         "dekhand', has;",
         dk_postgres_migration_count);
    line(p, "    ELSIF has = %u THEN", dk_postgres_migration_count);
    line(p,
         "        PERFORM set_config('lock_timeout', lock_before, true);\n"
         "        RAISE NOTICE 'schema %u of dekhand is there already: nothing was changed';\n"
         "        RETURN;\n"
         "    END IF;",
         dk_postgres_migration_count);
}

static void quoted(const struct printer *p, const char *tag, const char *sql)
{
    line(p, "    EXECUTE $%s$", tag);
    text(p, sql);
    line(p, "$%s$;", tag);
}

static void migrations(const struct printer *p)
{
    char tag[32];
    for (unsigned i = 0; i < dk_postgres_migration_count; i++) {
        line(p, "    -- %s", dk_postgres_migrations[i].name);
        line(p, "    IF has < %u THEN", i + 1);
        snprintf(tag, sizeof tag, "dekhand_%u", i + 1);
        quoted(p, tag, dk_postgres_migrations[i].sql);
        text(p, "    END IF;\n");
    }
}

static void body(const struct printer *p)
{
    text(p, "    -- the roles\n");
    quoted(p, "dekhand_roles", dk_postgres_roles);
    text(p, "    -- the schema\n    IF has = 0 THEN\n");
    line(p,
         "        IF to_regnamespace('\"%s\"') IS NULL THEN\n"
         "            CREATE SCHEMA \"%s\" AUTHORIZATION dekhand_admin;\n"
         "        END IF;\n"
         "        SET LOCAL ROLE dekhand_admin;\n"
         "        REVOKE ALL ON SCHEMA \"%s\" FROM PUBLIC;\n"
         "        GRANT USAGE ON SCHEMA \"%s\" TO dekhand_rw;\n"
         "    END IF;\n"
         "    SET LOCAL ROLE dekhand_admin;\n"
         "    SET LOCAL search_path = \"%s\", pg_temp;",
         p->schema, p->schema, p->schema, p->schema, p->schema);
    migrations(p);
    text(p, "    PERFORM keep_log_months(3);\n");
    text(p, "    -- the registry, without a key: `dekhand init` gives it one\n"
            "    SET LOCAL ROLE dekhand_rw;\n");
    line(p,
         "    INSERT INTO registry (id, registry_uuid, schema_version, created_at)\n"
         "        VALUES (1, gen_random_uuid(), %u, now())\n"
         "        ON CONFLICT (id) DO UPDATE SET schema_version = excluded.schema_version;",
         dk_postgres_migration_count);
    text(p, "    PERFORM set_config('lock_timeout', lock_before, true);\n"
            "    PERFORM set_config('search_path', path_before, true);\n"
            "    PERFORM set_config('role', role_before, true);\n");
    line(p, "    RAISE NOTICE 'schema %u of dekhand is there now';\nEND $dekhand$;",
         dk_postgres_migration_count);
}

dk_rc dk_pg_print(void *self, bool supabase, void (*put)(void *arg, const char *text, size_t n),
                  void *arg, struct dk_err *err)
{
    const struct dk_pg *store = self;
    struct printer p = {put, arg, store != NULL ? store->schema : "dekhand"};
    (void)err;
    head(&p, store != NULL ? store->world : &dk_world_default, supabase);
    look(&p);
    body(&p);
    if (!supabase) {
        text(&p, "COMMIT;\n");
    }
    return DK_OK;
}
