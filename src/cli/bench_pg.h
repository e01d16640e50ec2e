/*
 * bench_pg: what the files of the bench for PostgreSQL share: the schema, and a connection to it.
 *
 * Libpq directly: yardsticks, and what the library does not tell. As the login that made the
 * schema; statements name it, so that a pooler may stand between.
 */
#ifndef DK_CLI_BENCH_PG_H
#define DK_CLI_BENCH_PG_H

#include <libpq-fe.h>

#include "cli/bench_keys.h"
#include "cli/bench_postgres.h"

#define BENCH_PG_BATCH 2048 /* tenants of one statement of the yardsticks, as of ours */
#define BENCH_PG_CHUNK (2 * BENCH_PG_BATCH) /* in turn */

struct bench_pg {
    char dir[DK_PATH_MAX];
    char schema[32];
    char url[2048], migrate[2048]; /* with that schema; "" = no other login migrates */
    PGconn *pg;
    struct dekhand *d; /* what `keys` are made with */
    struct bench_keys keys;
    size_t tenants;
    bool failed;
};

/* Goes on: nothing has failed, and no signal came. */
bool bench_pg_goes_on(const struct bench_pg *b);
/* Tells a failure once, and marks it. */
void bench_pg_fail(struct bench_pg *b, const char *what, const char *why);

#define BENCH_PG_NO_POLL "3600" /* seconds: none falls into the midst of a figure */
/* An instance on the schema. `poll_seconds`, `max_keys`: settings. */
struct dekhand *bench_pg_instance(struct bench_pg *b, const char *poll_seconds,
                                  const char *max_keys);
/* b->d anew: it knows no key. */
void bench_pg_reopen(struct bench_pg *b);

/* Statements, every `$` in them replaced by the schema. */
void bench_pg_do(struct bench_pg *b, const char *sql);
/* The first column of its row; NAN where there is none, which is no failure. */
double bench_pg_number(struct bench_pg *b, const char *sql);
/* The transaction's rights and rows are the library's. */
#define BENCH_PG_AS_US                                                                             \
    "BEGIN; SET LOCAL ROLE dekhand_rw; SET LOCAL dekhand.scope = 'all'; SET LOCAL search_path = "  \
    "$, pg_temp; "
#define BENCH_PG_AS_OWNER "BEGIN; SET LOCAL ROLE dekhand_admin; "

/* Beside bare tables, in turns (bench_pg_rows.c). */
void bench_pg_create(struct bench_pg *b, struct bench_result *out);
void bench_pg_cold(struct bench_pg *b, struct bench_result *out);

/* What the server has to do (bench_pg_server.c). */
void bench_pg_statements(struct bench_pg *b, struct cli_bench_postgres *out);
void bench_pg_polls(struct bench_pg *b, size_t turns, struct cli_bench_postgres *out);
void bench_pg_pages(struct bench_pg *b, size_t filled, struct cli_bench_postgres *out);

#endif
