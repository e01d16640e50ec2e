/*
 * bench_rounds: what the figures share: the median of the rounds, and a CPU of one's own.
 *
 * Called by the files of the bench.
 */
#ifndef DK_CLI_BENCH_ROUNDS_H
#define DK_CLI_BENCH_ROUNDS_H

#include <stddef.h>

/* Of n > 0; sorts them. */
double bench_median(double *v, size_t n);
/* The calling thread stays on CPU number `which` of those that it may use: for its first
   milliseconds a new thread may share one, beside an idle one. */
void bench_keep_to_cpu(unsigned which);

#endif
