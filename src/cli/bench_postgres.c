#include "cli/bench_postgres.h"

#include <math.h>
#include <openssl/rand.h>
#include <stdlib.h>

#include "cli/bench_pg.h"
#include "store/pg_conn.h"

#define SCHEMA_PARAMETER "dekhand_schema="
#define MAX_KEYS "1000000"

/* ---- failures -------------------------------------------------------------------------------- */

bool bench_pg_goes_on(const struct bench_pg *b)
{
    return !b->failed && !b->keys.failed && !cli_interrupted();
}

void bench_pg_fail(struct bench_pg *b, const char *what, const char *why)
{
    if (!b->failed) {
        cli_say("dekhand: bench: %s: %.*s", what, (int)strcspn(why, "\n"), why);
    }
    b->failed = true;
}

/* ---- the connection -------------------------------------------------------------------------- */

/* Every `$` not before a digit is the schema. */
static char *with_schema(const struct bench_pg *b, const char *sql)
{
    size_t n = strlen(sql), marks = 0;
    for (const char *p = sql; *p != '\0'; p++) {
        marks += *p == '$';
    }
    char *whole = malloc(n + marks * sizeof b->schema + 1), *to = whole;
    for (const char *p = sql; whole != NULL && *p != '\0'; p++) {
        bool mark = *p == '$' && (p[1] < '0' || p[1] > '9');
        to += mark ? snprintf(to, sizeof b->schema, "%s", b->schema) : (*to = *p, 1);
    }
    if (whole != NULL) {
        *to = '\0';
    }
    return whole;
}

void bench_pg_do(struct bench_pg *b, const char *sql)
{
    char *whole = with_schema(b, sql);
    PGresult *r = whole != NULL && b->pg != NULL ? PQexec(b->pg, whole) : NULL;
    if (PQresultStatus(r) != PGRES_COMMAND_OK && PQresultStatus(r) != PGRES_TUPLES_OK) {
        bench_pg_fail(b, "a statement failed", PQerrorMessage(b->pg));
        PQclear(PQexec(b->pg, "ROLLBACK"));
    }
    PQclear(r);
    free(whole);
}

double bench_pg_number(struct bench_pg *b, const char *sql)
{
    char *whole = with_schema(b, sql);
    PGresult *r = whole != NULL && b->pg != NULL ? PQexec(b->pg, whole) : NULL;
    bool good = PQresultStatus(r) == PGRES_TUPLES_OK && PQntuples(r) == 1 && !PQgetisnull(r, 0, 0);
    double number = good ? strtod(PQgetvalue(r, 0, 0), NULL) : NAN;
    PQclear(r);
    if (b->pg != NULL && PQtransactionStatus(b->pg) == PQTRANS_INERROR) {
        PQclear(PQexec(b->pg, "ROLLBACK"));
    }
    free(whole);
    return number;
}

/* As the library connects: what it asks of TLS holds here too. */
static PGconn *connect(struct bench_pg *b)
{
    struct dk_pg *place = calloc(1, sizeof *place);
    PGconn *pg = NULL;
    struct dk_err err;
    dk_err_clear(&err);
    if (place != NULL &&
        dk_pg_parse(place, b->migrate[0] != '\0' ? b->migrate : b->url, &err) == DK_OK) {
        if (dk_pg_connect(place, &pg, &err) == DK_OK) {
            PQsetnonblocking(pg, 0);
        }
        dk_pg_forget_url(place);
    }
    free(place);
    if (pg == NULL) {
        bench_pg_fail(b, "no connection", err.text);
    }
    return pg;
}

/* ---- the schema ------------------------------------------------------------------------------ */

/*
 * The URL with our schema in the place of any other, and a name by which the server knows our
 * sessions. False: it is too long.
 */
static bool name_schema(const char *url, const char *schema, char *out, size_t cap)
{
    const char *at = strstr(url, SCHEMA_PARAMETER);
    bool named = at != NULL && at > url && (at[-1] == '?' || at[-1] == '&');
    const char *rest = named ? at + strcspn(at, "&") : "";
    size_t n = named ? (size_t)(at - url) : strlen(url);
    rest += *rest == '&';
    bool asks = memchr(url, '?', n) != NULL;
    const char *join = !asks ? "?" : n > 0 && (url[n - 1] == '?' || url[n - 1] == '&') ? "" : "&";
    int length = snprintf(out, cap, "%.*s%s%s%s" SCHEMA_PARAMETER "%s&application_name=%s", (int)n,
                          url, join, rest, rest[0] != '\0' ? "&" : "", schema, schema);
    return length > 0 && (size_t)length < cap;
}

static bool name_all(struct bench_pg *b, const struct cli *cli)
{
    const char *url = cli->settings.value[DK_OPT_DATABASE_URL];
    const char *migrate = cli->settings.value[DK_OPT_MIGRATE_URL];
    unsigned char random[4];
    if (RAND_bytes(random, sizeof random) != 1) {
        return false;
    }
    snprintf(b->schema, sizeof b->schema, "dekhand_bench_%02x%02x%02x%02x", random[0], random[1],
             random[2], random[3]);
    return name_schema(url, b->schema, b->url, sizeof b->url) &&
           (migrate == NULL || name_schema(migrate, b->schema, b->migrate, sizeof b->migrate));
}

static struct dekhand_config config_of(struct bench_pg *b, struct dekhand_setting list[static 7],
                                       const char *poll_seconds, const char *max_keys)
{
    size_t n = 0;
    bool polls = strcmp(poll_seconds, BENCH_PG_NO_POLL) != 0;
    list[n++] = (struct dekhand_setting){"KMS_STATE_DIR", b->dir};
    list[n++] = (struct dekhand_setting){"KMS_PROVIDER", "local"};
    list[n++] = (struct dekhand_setting){"DATABASE_URL", b->url};
    list[n++] = (struct dekhand_setting){"KMS_POLL_SECONDS", poll_seconds};
    list[n++] = (struct dekhand_setting){"KMS_CACHE_MAX_KEYS", max_keys};
    if (!polls) { /* it has to last until the next */
        list[n++] = (struct dekhand_setting){"KMS_LEASE_SECONDS", "86400"};
    }
    if (b->migrate[0] != '\0') {
        list[n++] = (struct dekhand_setting){"KMS_MIGRATE_URL", b->migrate};
    }
    return (struct dekhand_config){.size = sizeof(struct dekhand_config),
                                   .settings = list,
                                   .setting_count = n,
                                   .ignore_environment = true,
                                   .actor = "cli:bench"};
}

struct dekhand *bench_pg_instance(struct bench_pg *b, const char *poll_seconds,
                                  const char *max_keys)
{
    struct dekhand_setting list[7];
    struct dekhand_config config = config_of(b, list, poll_seconds, max_keys);
    struct dekhand *d = NULL;
    struct dekhand_error error;
    if (dekhand_open(&config, &d, &error) != DEKHAND_OK) {
        bench_pg_fail(b, "opening the registry", error.text);
        return NULL;
    }
    return d;
}

void bench_pg_reopen(struct bench_pg *b)
{
    if (dekhand_close(b->d, NULL) != DEKHAND_OK) {
        bench_pg_fail(b, "closing the registry", "the counts could not be written");
    }
    b->d = bench_pg_instance(b, BENCH_PG_NO_POLL, MAX_KEYS);
}

static void make_schema(struct bench_pg *b)
{
    struct dekhand_setting list[7];
    struct dekhand_config config = config_of(b, list, BENCH_PG_NO_POLL, MAX_KEYS);
    struct dekhand_error error;
    if (dekhand_init(&config, NULL, &error) != DEKHAND_OK) {
        bench_pg_fail(b, "making the registry", error.text);
        return;
    }
    bench_pg_reopen(b);
    b->pg = b->failed ? NULL : connect(b);
}

/* On a connection of its own: the other may be in the middle of something, or gone. */
static void drop_schema(struct bench_pg *b)
{
    bool failed = b->failed;
    PQfinish(b->pg);
    b->failed = false;
    b->pg = connect(b);
    if (bench_pg_number(b, "SELECT count(*) FROM pg_namespace WHERE nspname = '$'") > 0) {
        bench_pg_do(b, BENCH_PG_AS_OWNER "SET LOCAL lock_timeout = '60s'; DROP SCHEMA $ CASCADE; "
                                         "COMMIT");
    }
    if (b->failed) {
        cli_say("dekhand: bench: the schema %s stays: DROP SCHEMA %s CASCADE", b->schema,
                b->schema);
    }
    PQfinish(b->pg);
    b->failed = b->failed || failed;
}

/* ---- all of it ------------------------------------------------------------------------------- */

bool cli_bench_has_postgres(const struct cli *cli)
{
    const char *url = cli->settings.value[DK_OPT_DATABASE_URL];
    return url != NULL &&
           (strncmp(url, "postgresql:", 11) == 0 || strncmp(url, "postgres:", 9) == 0);
}

static void tell_server(struct bench_pg *b, struct cli_bench_postgres *out)
{
    PGresult *r = PQexec(b->pg, "SELECT 'PostgreSQL ' || split_part(current_setting("
                                "'server_version'), ' ', 1) || ', fsync ' || current_setting("
                                "'fsync') || ', synchronous_commit ' || current_setting("
                                "'synchronous_commit')");
    if (PQntuples(r) == 1) {
        snprintf(out->server, sizeof out->server, "%s", PQgetvalue(r, 0, 0));
    }
    PQclear(r);
}

static void measure(struct bench_pg *b, const struct cli_bench_postgres_args *args,
                    struct cli_bench_postgres *out)
{
    tell_server(b, out);
    bench_pg_create(b, &out->create);
    bench_pg_cold(b, &out->cold);
    bench_pg_statements(b, out);
    bench_pg_polls(b, args->turns, out);
    bench_pg_pages(b, args->filled, out);
}

bool cli_bench_postgres(const struct cli *cli, const struct cli_bench_postgres_args *args,
                        struct cli_bench_postgres *out)
{
    static struct bench_pg b;
    b = (struct bench_pg){.tenants = args->tenants};
    if (!name_all(&b, cli) || cli_scratch_make("bench-postgres", b.dir) != CLI_OK) {
        return false;
    }
    cli_say("dekhand: bench: in a schema of its own on the server of DATABASE_URL: %s", b.schema);
    b.failed = !bench_keys_init(&b.keys, BENCH_PG_CHUNK, args->tenants);
    if (!b.failed) {
        make_schema(&b);
    }
    if (!b.failed) {
        measure(&b, args, out);
    }
    bool good = bench_pg_goes_on(&b);
    (void)dekhand_close(b.d, NULL);
    drop_schema(&b);
    bench_keys_clear(&b.keys);
    cli_scratch_remove(b.dir);
    return good && !b.failed;
}
