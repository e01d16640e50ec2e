/*
 * bench_store: the figures of the registry, for `dekhand bench`: new tenants, cold keys, verify.
 *
 * Called by cli/bench only. Ours and a bare SQLite take turns, a chunk of tenants each.
 */
#ifndef DK_CLI_BENCH_STORE_H
#define DK_CLI_BENCH_STORE_H

#include "cli/bench_bulk.h"

struct cli_bench_store {
    struct bench_result create; /* us a tenant */
    struct bench_result cold;   /* us a key */
    struct bench_result verify; /* us a row, beside 5 (200,000 rows a second) */
};

/* False: a call failed, and the figures mean nothing. */
bool cli_bench_store(size_t tenants, struct cli_bench_store *out);

#endif
