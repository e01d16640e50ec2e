#include "cli/bench_rounds.h"

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

double bench_median(double *v, size_t n)
{
    qsort(v, n, sizeof *v, compare_doubles);
    return v[n / 2];
}

void bench_keep_to_cpu(unsigned which)
{
    cpu_set_t all, own;
    CPU_ZERO(&own);
    if (sched_getaffinity(0, sizeof all, &all) != 0 || CPU_COUNT(&all) <= (int)which) {
        return;
    }
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (CPU_ISSET(cpu, &all) && which-- == 0) {
            CPU_SET(cpu, &own);
            break;
        }
    }
    (void)pthread_setaffinity_np(pthread_self(), sizeof own, &own);
}
