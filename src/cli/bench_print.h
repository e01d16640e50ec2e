/*
 * bench_print: how the figures are shown: a line each, or members of one JSON document.
 *
 * Called by bench.c alone.
 */
#ifndef DK_CLI_BENCH_PRINT_H
#define DK_CLI_BENCH_PRINT_H

#include "cli/bench_kms.h"
#include "cli/bench_postgres.h"

struct bench_print {
    struct cli_out *out;
    struct dk_json *json; /* NULL: lines */
};

void bench_print_row(const struct bench_print *p, const char *name, const char *yardstick,
                     const char *unit, struct bench_result r, double goal, bool at_most);
void bench_print_rss(const struct bench_print *p, long rss_kib);
void bench_print_kms(const struct bench_print *p, const struct cli_bench_kms *kms);
/* Rows of the figures; then, outside their array, the server and the plan. */
void bench_print_postgres(const struct bench_print *p, const struct cli_bench_postgres *pg);
void bench_print_server(const struct bench_print *p, long tenants, struct cli_bench_postgres *pg);

#endif
