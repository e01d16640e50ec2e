/* What a registry costs its server: statements, pages, and time of its processes. */
#include <dirent.h>
#include <math.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "base/world.h"
#include "cli/bench_pg.h"
#include "store/pg_txn.h"

/* ---- statements while keys are cached -------------------------------------------------------- */

#define CACHED 100 /* tenants in turn */
#define VALUES 10000
#define TRIES 3 /* the least counts: somebody else may use the database */

/* Where it is loaded each statement is counted; else, the sessions that had one. */
struct counter {
    char calls[200]; /* SQL; "" = no pg_stat_statements */
    char since[64];
    double before;
};

static void find_counter(struct bench_pg *b, struct counter *c)
{
    PGresult *made = PQexec(b->pg, "BEGIN");
    PQclear(made);
    char sql[160];
    snprintf(sql, sizeof sql, "CREATE EXTENSION IF NOT EXISTS pg_stat_statements SCHEMA %s",
             b->schema);
    made = PQexec(b->pg, sql);
    bool there = PQresultStatus(made) == PGRES_COMMAND_OK;
    PQclear(made);
    PQclear(PQexec(b->pg, there ? "COMMIT" : "ROLLBACK"));
    PGresult *r = PQexec(b->pg, "SELECT quote_ident(nspname) FROM pg_extension JOIN pg_namespace n "
                                "ON n.oid = extnamespace WHERE extname = 'pg_stat_statements'");
    if (PQntuples(r) == 1) {
        snprintf(c->calls, sizeof c->calls,
                 "SELECT sum(calls) FROM %s.pg_stat_statements WHERE dbid = (SELECT oid FROM "
                 "pg_database WHERE datname = current_database())",
                 PQgetvalue(r, 0, 0));
    }
    PQclear(r);
    if (c->calls[0] != '\0' && isnan(bench_pg_number(b, c->calls))) {
        c->calls[0] = '\0'; /* it is not in shared_preload_libraries */
    }
}

static void start_counting(struct bench_pg *b, struct counter *c)
{
    if (c->calls[0] != '\0') {
        c->before = bench_pg_number(b, c->calls);
        return;
    }
    PGresult *r = PQexec(b->pg, "SELECT clock_timestamp()");
    snprintf(c->since, sizeof c->since, "%s", PQntuples(r) == 1 ? PQgetvalue(r, 0, 0) : "");
    PQclear(r);
}

/* What asked for the number at the start is counted too: one. */
static double counted(struct bench_pg *b, const struct counter *c)
{
    char sql[256];
    if (c->calls[0] != '\0') {
        return bench_pg_number(b, c->calls) - c->before - 1;
    }
    snprintf(sql, sizeof sql,
             "SELECT count(*) FROM pg_stat_activity WHERE application_name = '%s' AND pid <> "
             "pg_backend_pid() AND query_start > '%s'",
             b->schema, c->since);
    return bench_pg_number(b, sql);
}

static void use_cached(struct bench_pg *b)
{
    char value[BENCH_KEYS_VALUE];
    uint8_t plain[8];
    for (size_t i = 0; i < VALUES && !b->failed; i++) {
        struct dekhand_item item = {.tenant = b->keys.names[i % CACHED],
                                    .in = "x",
                                    .in_size = 1,
                                    .out = (uint8_t *)value,
                                    .capacity = sizeof value};
        bool ok = dekhand_encrypt(b->d, &item, NULL) == DEKHAND_OK;
        item.in = value;
        item.in_size = item.size;
        item.out = plain;
        item.capacity = sizeof plain;
        b->failed = !ok || dekhand_decrypt(b->d, &item, NULL) != DEKHAND_OK;
    }
}

void bench_pg_statements(struct bench_pg *b, struct cli_bench_postgres *out)
{
    struct counter c = {.before = 0};
    struct dekhand_health health = {.size = sizeof health};
    if (!bench_pg_goes_on(b)) {
        return;
    }
    find_counter(b, &c);
    out->counted = c.calls[0] != '\0' ? "none, in pg_stat_statements; no poll falls into it"
                                      : "none; sessions that had one; no poll falls into it";
    start_counting(b, &c); /* a counter that sees nothing would always say 0 */
    if (dekhand_health(b->d, NULL, NULL, &health, NULL) != DEKHAND_OK || !(counted(b, &c) > 0)) {
        bench_pg_fail(b, "counting statements", "the server does not tell of ours");
    }
    bench_keys_name(&b->keys, 0, CACHED);
    use_cached(b);
    out->statements = INFINITY;
    for (size_t i = 0; i < TRIES && !b->failed; i++) {
        start_counting(b, &c);
        use_cached(b);
        double n = counted(b, &c);
        out->statements = n < out->statements ? n : out->statements;
    }
}

/* ---- polls of nodes that have nothing to do -------------------------------------------------- */

#define NODES 100
#define NEW_EACH 5 /* nodes say that they are there every fifth turn: so each fifth begins anew */
#define TURN_S 5.0

/* The parent of a process, or 0. */
static long parent_of(long pid)
{
    char path[64], text[512] = "";
    long parent = 0;
    snprintf(path, sizeof path, "/proc/%ld/stat", pid);
    FILE *file = fopen(path, "re");
    const char *after =
        file != NULL && fgets(text, sizeof text, file) != NULL ? strrchr(text, ')') : NULL;
    if (after == NULL || sscanf(after + 1, " %*c %ld", &parent) != 1) {
        parent = 0;
    }
    if (file != NULL) {
        fclose(file);
    }
    return parent;
}

/* Exactly; /proc/PID/stat would count hundredths of a second. */
static double seconds_of(long pid)
{
    char path[64];
    double ns = 0;
    snprintf(path, sizeof path, "/proc/%ld/schedstat", pid);
    FILE *file = fopen(path, "re");
    if (file == NULL || fscanf(file, "%lf", &ns) != 1) {
        ns = 0;
    }
    if (file != NULL) {
        fclose(file);
    }
    return ns * 1e-9;
}

/* User and system time of a server's processes; those that have ended since are not in it. */
static double server_seconds(long postmaster)
{
    double sum = seconds_of(postmaster);
    DIR *proc = opendir("/proc");
    for (struct dirent *entry; proc != NULL && (entry = readdir(proc)) != NULL;) {
        long pid = strtol(entry->d_name, NULL, 10);
        sum += pid > 0 && parent_of(pid) == postmaster ? seconds_of(pid) : 0;
    }
    if (proc != NULL) {
        closedir(proc);
    }
    return sum;
}

/* 0: it runs elsewhere, or where its processes have other numbers. */
static long find_postmaster(struct bench_pg *b)
{
    char path[64], name[32] = "";
    const char *address = PQhostaddr(b->pg);
    bool here = address == NULL || address[0] == '\0' || strncmp(address, "127.", 4) == 0 ||
                strcmp(address, "::1") == 0;
    double pid = bench_pg_number(b, "SELECT pg_backend_pid()");
    if (!here || isnan(pid)) {
        return 0;
    }
    snprintf(path, sizeof path, "/proc/%ld/comm", (long)pid);
    FILE *file = fopen(path, "re");
    bool is_one =
        file != NULL && fgets(name, sizeof name, file) != NULL && strncmp(name, "postgres", 8) == 0;
    if (file != NULL) {
        fclose(file);
    }
    long parent = is_one ? parent_of((long)pid) : 0;
    return parent > 1 || (parent == 1 && seconds_of(1) > 0) ? parent : 0;
}

static void pause_until(double moment)
{
    double left = moment - bench_now_s();
    if (left > 0) {
        struct timespec t = {(time_t)left, (long)((left - (double)(time_t)left) * 1e9)};
        nanosleep(&t, NULL);
    }
}

/* In real time, one node after the other. */
static double watch_turns(struct bench_pg *b, struct dekhand **nodes, size_t n, size_t turns,
                          long postmaster)
{
    double began = bench_now_s(), before = server_seconds(postmaster);
    for (size_t i = 0; i < turns * n && bench_pg_goes_on(b); i++) {
        pause_until(began + (double)i * TURN_S / (double)n);
        if (dekhand_tick(nodes[i % n], NULL) != DEKHAND_OK) {
            bench_pg_fail(b, "a poll", "it failed");
        }
    }
    pause_until(began + (double)turns * TURN_S);
    return (server_seconds(postmaster) - before) / (bench_now_s() - began);
}

void bench_pg_polls(struct bench_pg *b, size_t turns, struct cli_bench_postgres *out)
{
    static struct dekhand *nodes[NODES];
    double room = bench_pg_number(b, "SELECT current_setting('max_connections')::int - 10 - "
                                     "(SELECT count(*) FROM pg_stat_activity)");
    size_t n = room >= NODES ? NODES : room > 0 ? (size_t)room : 0;
    long postmaster = find_postmaster(b);
    if (!bench_pg_goes_on(b) || postmaster == 0 || n == 0) {
        return;
    }
    for (size_t i = 0; i < n && bench_pg_goes_on(b); i++) {
        nodes[i] = bench_pg_instance(b, "5", "1024");
        if (i % NEW_EACH != 0 && !b->failed && dekhand_tick(nodes[i], NULL) != DEKHAND_OK) {
            bench_pg_fail(b, "a poll", "it failed");
        }
    }
    pause_until(bench_now_s() + TURN_S);
    if (bench_pg_goes_on(b)) {
        double share = watch_turns(b, nodes, n, turns, postmaster);
        out->poll_percent = 100 * share * NODES / (double)n;
        out->has_polls = true;
    }
    for (size_t i = 0; i < n; i++) {
        (void)dekhand_close(nodes[i], NULL);
        nodes[i] = NULL;
    }
}

/* ---- pages of the health query --------------------------------------------------------------- */

#define SLICE 100000

/* Rows as they are of tenants that began in the last 90 days; nobody could read them. */
static void fill_slice(struct bench_pg *b, size_t from, size_t to)
{
    char sql[2000];
    snprintf(sql, sizeof sql,
             BENCH_PG_AS_US
             "SET LOCAL statement_timeout = 0; INSERT INTO tenants (tenant_id, next_version, "
             "epoch, row_mac, log_head, keys_digest) SELECT 'filled-' || i, 2, 1, repeat('m', 44), "
             "repeat('h', 44), repeat('d', 44) FROM generate_series(%zu, %zu) i; INSERT INTO "
             "encryption_keys (id, tenant_id, kms_key_id, encrypted_data_key, version, created_at, "
             "expires_at, state, provider, context_timestamp, check_value, row_mac) SELECT "
             "gen_random_uuid(), 'filled-' || i, repeat('k', 40), repeat('w', 88), 1, at, at + "
             "interval '90 days', 'active', 'local', to_char(at, 'YYYY-MM-DD\"T\"HH24:MI:SS.MS"
             "\"Z\"'), sha256(('filled-' || i)::bytea), repeat('m', 44) FROM (SELECT i, now() - "
             "random() * interval '90 days' AS at FROM generate_series(%zu, %zu) i) s; COMMIT",
             from, to, from, to);
    bench_pg_do(b, sql);
}

/* As a registry is that lives: somebody seals, and adds the counts up; the server vacuums. */
static void settle(struct bench_pg *b)
{
    struct dekhand *d = bench_pg_goes_on(b) ? bench_pg_instance(b, "5", "1024") : NULL;
    if (d != NULL && dekhand_tick(d, NULL) != DEKHAND_OK) {
        bench_pg_fail(b, "a poll", "it failed");
    }
    (void)dekhand_close(d, NULL);
    bench_pg_do(b, "SET ROLE dekhand_admin");
    bench_pg_do(b, "VACUUM (ANALYZE) $.tenants, $.encryption_keys, $.key_counts, "
                   "$.key_count_deltas");
    bench_pg_do(b, "RESET ROLE");
}

/* The first such line is the top of the plan: it has the pages of all below it. */
static double pages_in(const char *line)
{
    double pages = 0;
    static const char *const kinds[] = {" hit=", " read="};
    for (size_t i = 0; i < 2; i++) {
        const char *at = strstr(line, kinds[i]);
        pages += at != NULL ? strtod(at + strlen(kinds[i]), NULL) : 0;
    }
    return pages;
}

static void take_plan(struct bench_pg *b, const PGresult *r, struct cli_bench_postgres *out)
{
    out->pages = NAN;
    out->plan[0] = '\0';
    for (int i = 0; i < PQntuples(r); i++) {
        const char *line = PQgetvalue(r, i, 0);
        size_t n = strlen(out->plan);
        snprintf(out->plan + n, sizeof out->plan - n, "%s\n", line);
        if (isnan(out->pages) && strstr(line, "Buffers: shared") != NULL) {
            out->pages = pages_in(line);
        }
    }
    if (isnan(out->pages)) {
        bench_pg_fail(b, "the health query's plan", PQerrorMessage(b->pg));
    }
}

static void explain(struct bench_pg *b, struct cli_bench_postgres *out)
{
    char sql[2000], from[DK_TIME_TEXT], until[DK_TIME_TEXT];
    const char *params[2] = {from, until};
    int64_t now_us = (int64_t)time(NULL) * 1000000;
    dk_time_format(now_us, from);
    dk_time_format(now_us + 7 * INT64_C(86400) * 1000000, until);
    snprintf(sql, sizeof sql, "EXPLAIN (ANALYZE, BUFFERS, TIMING off) %s", dk_pg_key_counts_sql);
    bench_pg_do(b, BENCH_PG_AS_US);
    PGresult *r = PQexecParams(b->pg, sql, 2, NULL, params, NULL, NULL, 0);
    take_plan(b, r, out);
    PQclear(r);
    bench_pg_do(b, "ROLLBACK");
}

void bench_pg_pages(struct bench_pg *b, size_t filled, struct cli_bench_postgres *out)
{
    for (size_t at = 0; at < filled && bench_pg_goes_on(b); at += SLICE) {
        fill_slice(b, at + 1, filled - at < SLICE ? filled : at + SLICE);
    }
    if (bench_pg_goes_on(b)) {
        settle(b);
    }
    if (bench_pg_goes_on(b)) {
        out->keys = b->tenants + filled;
        explain(b, out);
    }
}
