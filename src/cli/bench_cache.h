/*
 * bench_cache: the figures of the key cache, for `dekhand bench`.
 *
 * Called by cli/bench only. Looks into the library as that does: a cache is filled without a
 * million rows below it.
 */
#ifndef DK_CLI_BENCH_CACHE_H
#define DK_CLI_BENCH_CACHE_H

#include "dekhand.h"

struct cli_bench_ratio {
    double yardstick;
    double ours;
    double ratio; /* ours over the yardstick; the median of the rounds */
};

struct cli_bench_cache {
    struct cli_bench_ratio lookup; /* ns: one of 1,000 tenants beside a keyed encrypt of 64 bytes */
    struct cli_bench_ratio threads;      /* ns a value: one thread over two; best */
    struct cli_bench_ratio bare_threads; /* the same of bare contexts: what this machine gives */
    struct cli_bench_ratio memory; /* MB for `keys` cached tenants beside 120 bytes for each */
    struct cli_bench_ratio cold;   /* provider calls of 1,000 threads with one cold key, beside 1 */
};

/* False: a call failed, and the figures mean nothing. */
bool cli_bench_cache(struct dekhand *d, size_t rounds, size_t keys, struct cli_bench_cache *out);

#endif
