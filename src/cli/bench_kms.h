/*
 * bench_kms: the figures of AWS KMS, for `dekhand bench`: the key and the endpoint that the
 * settings name, in registries of its own in a folder that goes at the end.
 *
 * Called by cli/bench only. Calls are real ones: each costs what the service takes for it.
 */
#ifndef DK_CLI_BENCH_KMS_H
#define DK_CLI_BENCH_KMS_H

#include "cli/bench_bulk.h"
#include "cli/cli.h"

#define BENCH_KMS_TENANTS 1000
#define BENCH_KMS_USES 20 /* of each */

struct cli_bench_kms {
    struct bench_result wrap;  /* us: one Encrypt beside a bare libcurl round trip */
    struct bench_result sign;  /* us: one signature beside its HMACs and digests */
    struct bench_result slow;  /* ns a value: while the provider does not answer, beside else */
    struct bench_result calls; /* of the provider, beside decrypts */
    struct bench_result mixed; /* the same beside decrypts and encrypts in turn */
};

/* AWS KMS holds the master key, over TLS and without a proxy; else says so: the exit code. */
bool cli_bench_has_kms(const struct cli *cli, int *code);
/* `d`: any open instance: its suite and memory are used. False: a call failed or a signal came, and
   the figures mean nothing. */
bool cli_bench_kms(const struct cli *cli, struct dekhand *d, size_t rounds,
                   struct cli_bench_kms *out);

/* bench_kms_cache.c: all but `wrap` and `sign`. */
bool bench_kms_cache(const struct cli *cli, size_t rounds, struct cli_bench_kms *out);

#endif
