/*
 * The demo on PostgreSQL: two schemas of its own, one of the registry and one of the application.
 *
 * Connects the way the registry does (store/pg_conn.h): same servers, same TLS, same deadlines.
 * Schemas are made and dropped by the login of KMS_MIGRATE_URL; the table is filled and read by
 * that of DATABASE_URL, as an application's would be.
 */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/world.h"
#include "cli/demo_app.h"
#include "store/pg_stmt.h"

#define SCHEMA_OPTION "dekhand_schema="
#define REMOVE_TRIES 4 /* a second apart: the server may be starting again */

struct place {
    struct dk_pg login, maker;
    PGconn *pg;            /* the application's */
    char schema[32];       /* of the registry */
    char table_schema[40]; /* of the application */
};

/* ---- the place ------------------------------------------------------------------------------- */

/* Another schema of the same database: what the URL says of it already is taken out. */
static dk_rc with_schema(const char *url, const char *schema, char out[static DEMO_URL_MAX],
                         struct dk_err *err)
{
    char copy[DEMO_URL_MAX];
    size_t n = strlen(url);
    if (n >= sizeof copy) {
        return DK_FAIL(err, CONFIG, "DATABASE_URL, or KMS_MIGRATE_URL, is too long");
    }
    memcpy(copy, url, n + 1);
    char *at = strstr(copy, SCHEMA_OPTION);
    if (at != NULL && at > copy && (at[-1] == '?' || at[-1] == '&')) {
        size_t skip = strcspn(at, "&");
        skip += at[skip] == '&';
        memmove(at, at + skip, strlen(at + skip) + 1);
    }
    n = strlen(copy);
    while (n > 0 && (copy[n - 1] == '?' || copy[n - 1] == '&')) {
        copy[--n] = '\0';
    }
    int wanted = snprintf(out, DEMO_URL_MAX, "%s%c" SCHEMA_OPTION "%s", copy,
                          strchr(copy, '?') != NULL ? '&' : '?', schema);
    return wanted < DEMO_URL_MAX
               ? DK_OK
               : DK_FAIL(err, CONFIG, "DATABASE_URL, or KMS_MIGRATE_URL, is too long");
}

static dk_rc name_schemas(struct place *place, struct dk_err *err)
{
    uint8_t random[4];
    char hex[2 * sizeof random + 1];
    if (dk_world_default.random.fill(dk_world_default.random.arg, random, sizeof random) == 0) {
        return DK_FAIL(err, INTERNAL, "there is no randomness for a name");
    }
    dk_hex_encode(random, sizeof random, hex);
    snprintf(place->schema, sizeof place->schema, "dekhand_demo_%s", hex);
    snprintf(place->table_schema, sizeof place->table_schema, "%s_app", place->schema);
    return DK_OK;
}

/* Who cannot get in is told before anything is made. */
static dk_rc knock(struct dk_pg *store, struct dk_err *err)
{
    PGconn *pg = NULL;
    DK_TRY(dk_pg_connect(store, &pg, err));
    PQfinish(pg);
    return DK_OK;
}

static dk_rc choose_in(struct demo_app *app, struct place *place,
                       const struct dk_settings *settings, struct dk_err *err)
{
    const char *url = dk_settings_str(settings, DK_OPT_DATABASE_URL);
    const char *migrate = dk_settings_str(settings, DK_OPT_MIGRATE_URL);
    DK_TRY(name_schemas(place, err));
    DK_TRY(with_schema(url, place->schema, app->database_url, err));
    if (migrate != NULL) {
        DK_TRY(with_schema(migrate, place->schema, app->migrate_url, err));
    }
    DK_TRY(dk_pg_parse(&place->login, app->database_url, err));
    DK_TRY(dk_pg_parse(&place->maker, migrate != NULL ? app->migrate_url : app->database_url, err));
    snprintf(app->registry, sizeof app->registry, "schema %s of %s", place->schema,
             place->login.where);
    snprintf(app->table, sizeof app->table, "schema %s of %s", place->table_schema,
             place->login.where);
    DK_TRY(knock(&place->login, err));
    DK_TRY(knock(&place->maker, err));
    return cli_scratch_make_in(NULL, "demo", app->dir, err); /* the anchor's: not in the database */
}

static void close_place(struct demo_app *app)
{
    struct place *place = app->self;
    if (place != NULL) {
        PQfinish(place->pg);
        place->pg = NULL;
    }
}

static void forget_place(struct demo_app *app)
{
    struct place *place = app->self;
    dk_pg_forget_url(&place->login);
    dk_pg_forget_url(&place->maker);
    free(place);
    app->self = NULL;
}

static dk_rc choose(struct demo_app *app, const struct dk_settings *settings, struct dk_err *err)
{
    struct place *place = calloc(1, sizeof *place);
    if (place == NULL) {
        return DK_FAIL(err, NOMEM, "no memory for the demo");
    }
    app->self = place;
    dk_rc rc = choose_in(app, place, settings, err);
    if (rc != DK_OK) {
        forget_place(app);
    }
    return rc;
}

/* ---- the table ------------------------------------------------------------------------------- */

static dk_rc run_as_maker(struct place *place, const char *sql, const char *what,
                          struct dk_err *err)
{
    PGconn *pg = NULL;
    DK_TRY(dk_pg_connect(&place->maker, &pg, err));
    dk_rc rc = dk_pg_script(pg, sql, what, err);
    PQfinish(pg); /* what was not committed is rolled back */
    return rc;
}

/* The role that DATABASE_URL logs in as; quoted. The caller's: PQfreemem. */
static dk_rc read_login(struct place *place, char **out, struct dk_err *err)
{
    struct dk_pg_call call = {.sql = "SELECT current_user::text", .what = "asking for the login"};
    bool lost;
    DK_TRY(dk_pg_run(place->pg, &call, 1, &lost, err));
    const char *login = PQgetvalue(call.result, 0, 0);
    *out = PQescapeIdentifier(place->pg, login, strlen(login));
    PQclear(call.result);
    return *out != NULL ? DK_OK : DK_FAIL(err, NOMEM, "no memory for the login's name");
}

static dk_rc open_table(struct demo_app *app, struct dk_err *err)
{
    struct place *place = app->self;
    char sql[1024], *login = NULL;
    DK_TRY(dk_pg_connect(&place->login, &place->pg, err));
    DK_TRY(read_login(place, &login, err));
    snprintf(sql, sizeof sql,
             "BEGIN; SET LOCAL lock_timeout = '5s'; CREATE SCHEMA %s; CREATE TABLE %s.contacts (id "
             "bigint PRIMARY KEY, tenant_id text NOT NULL, name text NOT NULL, phone text, email "
             "text); GRANT USAGE ON SCHEMA %s TO %s; GRANT SELECT, INSERT ON %s.contacts TO %s; "
             "COMMIT",
             place->table_schema, place->table_schema, place->table_schema, login,
             place->table_schema, login);
    PQfreemem(login);
    return run_as_maker(place, sql, "making the application's table", err);
}

static dk_rc insert(struct demo_app *app, const struct demo_row *row, struct dk_err *err)
{
    struct place *place = app->self;
    struct dk_pg_params p = {.n = 0};
    char sql[128];
    struct dk_pg_call call = {.sql = sql, .params = &p, .what = "storing a contact"};
    bool lost;
    snprintf(sql, sizeof sql, "INSERT INTO %s.contacts VALUES ($1, $2, $3, $4, $5)",
             place->table_schema);
    dk_pg_int(&p, (int64_t)row->id);
    dk_pg_str(&p, row->tenant);
    dk_pg_str(&p, row->name);
    dk_pg_str(&p, row->phone);
    dk_pg_str(&p, row->email);
    DK_TRY(dk_pg_run(place->pg, &call, 1, &lost, err));
    PQclear(call.result);
    return DK_OK;
}

static void stored(struct demo_app *app, size_t id, const char *column,
                   char out[static DEMO_VALUE_MAX])
{
    struct place *place = app->self;
    struct dk_pg_params p = {.n = 0};
    char sql[128];
    struct dk_pg_call call = {.sql = sql, .params = &p, .what = "reading a contact"};
    struct dk_err none;
    bool lost;
    dk_err_clear(&none);
    out[0] = '\0';
    snprintf(sql, sizeof sql, "SELECT %s FROM %s.contacts WHERE id = $1", column,
             place->table_schema);
    dk_pg_int(&p, (int64_t)id);
    if (dk_pg_run(place->pg, &call, 1, &lost, &none) == DK_OK) {
        if (PQntuples(call.result) == 1) {
            snprintf(out, DEMO_VALUE_MAX, "%s", PQgetvalue(call.result, 0, 0));
        }
        PQclear(call.result);
    }
}

/* ---- the end --------------------------------------------------------------------------------- */

/* The registry's schema is its owner's to drop; that role may not be there yet. */
static dk_rc drop_both(struct place *place, PGconn *pg, struct dk_err *err)
{
    struct dk_pg_params p = {.n = 0};
    struct dk_pg_call call = {.sql = "SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = $1",
                              .params = &p,
                              .what = "looking for the demo's schema"};
    char sql[256];
    bool lost;
    dk_pg_str(&p, place->schema);
    snprintf(sql, sizeof sql,
             "BEGIN; SET LOCAL lock_timeout = '5s'; DROP SCHEMA IF EXISTS %s CASCADE; COMMIT",
             place->table_schema);
    DK_TRY(dk_pg_script(pg, sql, "dropping the application's schema", err));
    DK_TRY(dk_pg_run(pg, &call, 1, &lost, err));
    int n = PQntuples(call.result);
    PQclear(call.result);
    snprintf(sql, sizeof sql,
             "BEGIN; SET LOCAL lock_timeout = '5s'; SET LOCAL ROLE dekhand_admin; DROP SCHEMA IF "
             "EXISTS %s CASCADE; COMMIT",
             place->schema);
    return n == 0 ? DK_OK : dk_pg_script(pg, sql, "dropping the demo's schema", err);
}

static dk_rc try_to_drop(struct place *place, struct dk_err *err)
{
    PGconn *pg = NULL;
    DK_TRY(dk_pg_connect(&place->maker, &pg, err));
    dk_rc rc = drop_both(place, pg, err);
    PQfinish(pg);
    return rc;
}

static dk_rc remove_all(struct demo_app *app, struct dk_err *err)
{
    struct place *place = app->self;
    const struct timespec pause = {.tv_sec = 1};
    struct dk_err cause;
    dk_rc rc = DK_E_INTERNAL;
    for (int i = 0; i < REMOVE_TRIES && rc != DK_OK; i++) {
        if (i > 0) {
            nanosleep(&pause, NULL);
        }
        dk_err_clear(&cause);
        rc = try_to_drop(place, &cause);
    }
    if (rc != DK_OK) {
        rc = dk_err_set(err, rc, cause.file, cause.line,
                        "DROP SCHEMA IF EXISTS %s, %s CASCADE is left to do: %.120s",
                        place->table_schema, place->schema, cause.text);
    }
    forget_place(app);
    return rc;
}

const struct demo_app_ops demo_app_postgres = {
    .choose = choose,
    .open = open_table,
    .insert = insert,
    .stored = stored,
    .close = close_place,
    .remove = remove_all,
};
