/*
 * bench_bulk: whole files through this program as a user runs it, beside the bare AEAD time of
 * their values.
 *
 * Called by bench.c. Files, runs and yardstick take turns; the median of the ratios counts.
 */
#ifndef DK_CLI_BENCH_BULK_H
#define DK_CLI_BENCH_BULK_H

#include <stdbool.h>
#include <stddef.h>

#define BENCH_BULK_TENANTS 50
#define BENCH_BULK_VALUE 32 /* room for one */

struct bench_result {
    double ratio, yardstick, ours;
};

struct bench_bulk_case {
    const char *name;
    bool jsonl;
    const char *threads;
    double goal; /* our time over the yardstick's, at most */
};
extern const struct bench_bulk_case bench_bulk_cases[];
#define BENCH_BULK_CASES 4

/* The values of a row: two columns. Returns the length. */
size_t bench_bulk_value(size_t row, size_t column, char out[BENCH_BULK_VALUE]);
size_t bench_bulk_tenant(size_t row);
double bench_now_s(void);

/*
 * `bare` seals the values of that many rows and returns the seconds. `results` has room for
 * BENCH_BULK_CASES; `rss_kib` is the most that a run with CSV held. False: a run failed.
 */
bool bench_bulk(const char *dir, long rows, double (*bare)(void *arg, long rows), void *arg,
                struct bench_result *results, long *rss_kib);

#endif
