/*
 * bench_postgres: the figures of a registry in PostgreSQL, for `dekhand bench`: on the server that
 * DATABASE_URL names, in a schema of its own, which is dropped at the end.
 *
 * Called by cli/bench only. What it measures stands in bench_pg_rows.c and bench_pg_server.c.
 */
#ifndef DK_CLI_BENCH_POSTGRES_H
#define DK_CLI_BENCH_POSTGRES_H

#include "cli/bench_bulk.h"
#include "cli/cli.h"

struct cli_bench_postgres_args {
    size_t tenants; /* first used, then cold */
    size_t filled;  /* keys that the health query finds beside those; made by the server */
    size_t turns;   /* of polls, 5 s each */
};

struct cli_bench_postgres {
    char server[64];            /* its version, and what its commits wait for */
    struct bench_result create; /* us a tenant */
    struct bench_result cold;   /* us a key */
    double statements;          /* that reached the server while keys were cached */
    const char *counted;        /* how */
    double pages;               /* that the health query touches */
    size_t keys;                /* when it did */
    char plan[6000];            /* its lines */
    bool has_polls;             /* the server's processes can be seen */
    double poll_percent;        /* of a core, for 100 nodes that have nothing to do */
};

/* DATABASE_URL is PostgreSQL's. */
bool cli_bench_has_postgres(const struct cli *cli);
/* False: a call failed or a signal came, and the figures mean nothing; what was made is gone. */
bool cli_bench_postgres(const struct cli *cli, const struct cli_bench_postgres_args *args,
                        struct cli_bench_postgres *out);

#endif
