#include "cli/bench_bulk.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "cli/bench_rounds.h"

#define ROUNDS 5

const struct bench_bulk_case bench_bulk_cases[BENCH_BULK_CASES] = {
    {"csv", false, "--threads=1", 2.3},
    {"csv_two_threads", false, "--threads=2", 1.6},
    {"jsonl", true, "--threads=1", 2.6},
    {"jsonl_two_threads", true, "--threads=2", 1.8},
};

double bench_now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

size_t bench_bulk_value(size_t row, size_t column, char out[BENCH_BULK_VALUE])
{
    int n =
        column == 0
            ? snprintf(out, BENCH_BULK_VALUE, "+49 %03zu %07zu", row % 997, row % 9999991)
            : snprintf(out, BENCH_BULK_VALUE, "name.%zu.%zu@example.org", row % 100003, row % 7);
    return (size_t)n;
}

size_t bench_bulk_tenant(size_t row)
{
    return row * 31 % BENCH_BULK_TENANTS;
}

static bool write_file(const char *path, bool jsonl, long rows)
{
    FILE *file = fopen(path, "we");
    char phone[BENCH_BULK_VALUE], email[BENCH_BULK_VALUE];
    if (file == NULL) {
        return false;
    }
    fputs(jsonl ? "" : "id,tenant,name,phone,email\n", file);
    for (long i = 0; i < rows; i++) {
        bench_bulk_value((size_t)i, 0, phone);
        bench_bulk_value((size_t)i, 1, email);
        fprintf(file,
                jsonl ? "{\"id\":%ld,\"tenant\":\"tenant-%zu\",\"name\":\"Name of %ld\","
                        "\"phone\":\"%s\",\"email\":\"%s\"}\n"
                      : "%ld,tenant-%zu,Name of %ld,%s,%s\n",
                i, bench_bulk_tenant((size_t)i), i, phone, email);
    }
    return fclose(file) == 0;
}

struct run {
    const char *dir;
    char csv[DK_PATH_MAX];
    char jsonl[DK_PATH_MAX];
};

/* This program again, as a user runs it: file in, /dev/null out. Seconds; below 0: it failed. */
static double run_once(const struct run *run, const struct bench_bulk_case *one, long *rss_kib)
{
    char flag[DK_PATH_MAX + 32];
    struct rusage usage;
    int status = 0;
    snprintf(flag, sizeof flag, "--state-dir=%s", run->dir);
    double from = bench_now_s();
    pid_t child = fork();
    if (child == 0) {
        if (freopen(one->jsonl ? run->jsonl : run->csv, "r", stdin) == NULL ||
            freopen("/dev/null", "w", stdout) == NULL ||
            freopen("/dev/null", "w", stderr) == NULL) {
            _exit(127);
        }
        execl("/proc/self/exe", "dekhand", "encrypt", one->jsonl ? "--jsonl" : "--csv",
              one->jsonl ? "--fields" : "--columns", "phone,email", "--tenant-column", "tenant",
              one->threads, flag, (char *)NULL);
        _exit(127);
    }
    bool ok = child > 0 && wait4(child, &status, 0, &usage) == child && WIFEXITED(status) &&
              WEXITSTATUS(status) == 0;
    if (ok && !one->jsonl && usage.ru_maxrss > *rss_kib) {
        *rss_kib = usage.ru_maxrss;
    }
    return ok ? bench_now_s() - from : -1;
}

bool bench_bulk(const char *dir, long rows, double (*bare)(void *arg, long rows), void *arg,
                struct bench_result *results, long *rss_kib)
{
    static double yardstick[ROUNDS], ours[BENCH_BULK_CASES][ROUNDS],
        ratio[BENCH_BULK_CASES][ROUNDS];
    struct run run = {.dir = dir};
    struct dk_err err;
    dk_err_clear(&err);
    *rss_kib = 0;
    bool ok = dk_path_join(run.csv, dir, "bench.csv", &err) == DK_OK &&
              dk_path_join(run.jsonl, dir, "bench.jsonl", &err) == DK_OK &&
              write_file(run.csv, false, rows) && write_file(run.jsonl, true, rows) &&
              run_once(&run, &bench_bulk_cases[0], rss_kib) >= 0; /* makes the tenants' keys */
    for (size_t i = 0; ok && i < ROUNDS; i++) {
        yardstick[i] = bare(arg, rows);
        for (size_t k = 0; ok && k < BENCH_BULK_CASES; k++) {
            ours[k][i] = run_once(&run, &bench_bulk_cases[k], rss_kib);
            ratio[k][i] = ours[k][i] / yardstick[i];
            ok = ours[k][i] >= 0;
        }
    }
    unlink(run.csv);
    unlink(run.jsonl);
    double yard = bench_median(yardstick, ROUNDS);
    for (size_t k = 0; k < BENCH_BULK_CASES; k++) {
        results[k] = (struct bench_result){bench_median(ratio[k], ROUNDS), yard,
                                           bench_median(ours[k], ROUNDS)};
    }
    return ok;
}
