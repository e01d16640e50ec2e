#include "cli/bench_cache.h"

#include <openssl/evp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "cli/bench_rounds.h"
#include "crypto/field.h"
#include "dekhand_admin.h"
#include "door.h"
#include "keys/audit_state.h"
#include "keys/epochs.h"

#define TENANTS 1000
#define CROWD 1000
#define PLAIN 64
#define LOOKUPS 4000 /* a round */
#define VALUES 8000  /* a thread and round: two milliseconds */
#define ROUNDS_MAX 101
#define BATCH 1024
#define BYTES_A_KEY 120

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

struct rounds {
    size_t count;
    double yard[ROUNDS_MAX], ours[ROUNDS_MAX], ratio[ROUNDS_MAX];
};

static struct cli_bench_ratio sum_up(struct rounds *rounds)
{
    for (size_t i = 0; i < rounds->count; i++) {
        rounds->ratio[i] = rounds->ours[i] / rounds->yard[i];
    }
    return (struct cli_bench_ratio){bench_median(rounds->yard, rounds->count),
                                    bench_median(rounds->ours, rounds->count),
                                    bench_median(rounds->ratio, rounds->count)};
}

static void name_tenant(size_t i, char out[static 40])
{
    snprintf(out, 40, "10000000-0000-4000-8000-%012zu", i);
}

static bool encrypt(struct dekhand *d, const char *tenant)
{
    static const uint8_t plain[PLAIN];
    uint8_t out[256];
    struct dekhand_item item = {.tenant = tenant,
                                .format = DEKHAND_BINARY,
                                .in = plain,
                                .in_size = PLAIN,
                                .out = out,
                                .capacity = sizeof out};
    return dekhand_encrypt(d, &item, NULL) == DEKHAND_OK;
}

/* ---- a look-up ------------------------------------------------------------------------------- */

struct lookup {
    struct dk_cache *cache;
    struct dk_key_name names[TENANTS];
    uint16_t order[LOOKUPS];
    struct dk_secret cell;
    EVP_CIPHER_CTX *bare;
    uint8_t aad[DK_FIELD_AAD_PREFIX_MAX + 4];
    size_t aad_len;
    bool ok;
};

static bool make_tenants(struct dekhand *d)
{
    static char tenants[TENANTS][40];
    static uint8_t out[TENANTS][128];
    static struct dekhand_item items[TENANTS];
    for (size_t i = 0; i < TENANTS; i++) {
        name_tenant(i, tenants[i]);
        items[i] = (struct dekhand_item){.tenant = tenants[i],
                                         .format = DEKHAND_BINARY,
                                         .out = out[i],
                                         .capacity = sizeof out[i]};
    }
    return dekhand_encrypt_batch(d, items, TENANTS, NULL) == DEKHAND_OK;
}

static bool key_bare(struct lookup *l)
{
    static const uint8_t key[32] = "a bare context of AES-256-GCM..";
    l->bare = EVP_CIPHER_CTX_new();
    l->aad_len = 60;
    l->ok =
        l->bare != NULL && EVP_EncryptInit_ex2(l->bare, EVP_aes_256_gcm(), key, NULL, NULL) == 1;
    return l->ok;
}

static void start_lookup(struct dekhand *d, struct lookup *l)
{
    struct dk_err err;
    uint64_t dice = 88172645463325252u;
    dk_err_clear(&err);
    l->cache = dk_manager_cache(d->in->manager);
    l->ok = key_bare(l) && make_tenants(d);
    for (size_t i = 0; i < TENANTS; i++) {
        char text[40];
        name_tenant(i, text);
        l->ok = dk_tenant_parse(dk_view_str(text), &l->names[i].tenant, &err) == DK_OK && l->ok;
    }
    for (size_t i = 0; i < LOOKUPS; i++) {
        dice ^= dice << 13;
        dice ^= dice >> 7;
        dice ^= dice << 17;
        l->order[i] = (uint16_t)(dice % TENANTS);
    }
    l->aad_len = dk_field_aad_prefix(&l->names[0].tenant, 1, l->aad) + 4;
    l->ok = l->ok && dk_secret_new(d->in->core.arena, DK_FIELD_SECRET, &l->cell, &err) == DK_OK;
}

static double time_lookups(struct lookup *l)
{
    int64_t now = dk_mono_ms(&dk_world_default); /* as of the call, which needs it before */
    double from = now_s();
    for (size_t i = 0; i < LOOKUPS; i++) {
        struct dk_live_key live = {.okm = l->cell};
        l->ok = dk_cache_look(l->cache, &l->names[l->order[i]], now, &live) && l->ok;
    }
    return (now_s() - from) * 1e9 / LOOKUPS;
}

static double time_bare(struct lookup *l)
{
    uint8_t iv[12] = {0}, plain[PLAIN] = {0}, out[PLAIN], tag[16];
    double from = now_s();
    for (size_t i = 0; i < LOOKUPS; i++) {
        int len = 0;
        memcpy(iv, &i, sizeof i);
        l->ok = EVP_EncryptInit_ex2(l->bare, NULL, NULL, iv, NULL) == 1 &&
                EVP_EncryptUpdate(l->bare, NULL, &len, l->aad, (int)l->aad_len) == 1 &&
                EVP_EncryptUpdate(l->bare, out, &len, plain, PLAIN) == 1 &&
                EVP_EncryptFinal_ex(l->bare, out, &len) == 1 &&
                EVP_CIPHER_CTX_ctrl(l->bare, EVP_CTRL_AEAD_GET_TAG, 16, tag) == 1 && l->ok;
    }
    return (now_s() - from) * 1e9 / LOOKUPS;
}

static bool measure_lookup(struct dekhand *d, struct rounds *rounds, struct cli_bench_ratio *out)
{
    static struct lookup lookup;
    start_lookup(d, &lookup);
    for (size_t i = 0; i < rounds->count && lookup.ok; i++) {
        rounds->yard[i] = time_bare(&lookup);
        rounds->ours[i] = time_lookups(&lookup);
    }
    *out = sum_up(rounds);
    EVP_CIPHER_CTX_free(lookup.bare);
    dk_secret_free(d->in->core.arena, &lookup.cell);
    return lookup.ok;
}

/* ---- two threads ----------------------------------------------------------------------------- */

struct worker {
    struct dekhand *d; /* NULL: a bare context of its own */
    pthread_barrier_t *start;
    unsigned number;
    char tenant[40];
    double from, to;
    bool ok;
};

static void encrypt_values(struct worker *worker)
{
    bool ok = true; /* not worker->ok: the other's record lies in the same cache line */
    for (int i = 0; i < VALUES; i++) {
        ok = encrypt(worker->d, worker->tenant) && ok;
    }
    worker->ok = worker->ok && ok;
}

static void encrypt_bare(struct worker *worker, struct lookup *bare)
{
    for (int i = 0; i < VALUES / LOOKUPS; i++) {
        (void)time_bare(bare);
    }
    worker->ok = bare->ok;
}

static void *work(void *arg)
{
    struct worker *worker = arg;
    struct lookup *bare = NULL;
    bench_keep_to_cpu(worker->number);
    if (worker->d != NULL) {
        worker->ok = encrypt(worker->d, worker->tenant); /* keys this thread's context */
    } else {
        bare = calloc(1, sizeof *bare);
        worker->ok = bare != NULL && key_bare(bare);
    }
    pthread_barrier_wait(worker->start);
    worker->from = now_s();
    if (worker->d != NULL) {
        encrypt_values(worker);
    } else if (worker->ok) {
        encrypt_bare(worker, bare);
    }
    worker->to = now_s();
    if (bare != NULL) {
        EVP_CIPHER_CTX_free(bare->bare);
    }
    free(bare);
    return NULL;
}

/* Nanoseconds a value of `count` (at most 2) threads together, each with a tenant of its own. */
static double time_threads(struct dekhand *d, unsigned count, bool *ok)
{
    pthread_barrier_t start;
    pthread_t threads[2];
    struct worker workers[2];
    pthread_barrier_init(&start, NULL, count);
    for (unsigned i = 0; i < count; i++) {
        workers[i] = (struct worker){.d = d, .start = &start, .number = i};
        name_tenant(i, workers[i].tenant);
        if (pthread_create(&threads[i], NULL, work, &workers[i]) != 0) {
            abort(); /* one would wait for the other for ever */
        }
    }
    double from = 0, to = 0;
    for (unsigned i = 0; i < count; i++) {
        pthread_join(threads[i], NULL);
        *ok = *ok && workers[i].ok;
        from = i == 0 || workers[i].from < from ? workers[i].from : from;
        to = workers[i].to > to ? workers[i].to : to;
    }
    pthread_barrier_destroy(&start);
    return (to - from) * 1e9 / (VALUES * count);
}

static void keep_least(double *least, double time)
{
    *least = *least == 0 || time < *least ? time : *least;
}

/*
 * How much faster two threads are than one; the same of bare contexts says what the machine has.
 * The best of many short rounds: a median would measure whether the second CPU was given to us.
 */
static bool measure_threads(struct dekhand *d, size_t rounds, struct cli_bench_cache *out)
{
    bool ok = true;
    struct cli_bench_ratio ours = {0, 0, 0}, bare = {0, 0, 0};
    for (size_t i = 0; i < 4 * rounds; i++) {
        keep_least(&ours.yardstick, time_threads(d, 2, &ok));
        keep_least(&bare.yardstick, time_threads(NULL, 2, &ok));
        keep_least(&ours.ours, time_threads(d, 1, &ok));
        keep_least(&bare.ours, time_threads(NULL, 1, &ok));
    }
    ours.ratio = ours.ours / ours.yardstick;
    bare.ratio = bare.ours / bare.yardstick;
    out->threads = ours;
    out->bare_threads = bare;
    return ok;
}

/* ---- memory ---------------------------------------------------------------------------------- */

/* Keys out of nothing, in place of the loader. */
static dk_rc invent(void *self, const struct dk_key_name *names, size_t count,
                    struct dk_live_key *keys, dk_rc *rc, struct dk_err *err)
{
    const struct dk_core *core = self;
    for (size_t i = 0; i < count; i++) {
        keys[i] = (struct dk_live_key){.version = 1};
        (void)dk_epochs_see(core->audit->epochs, &names[i].tenant, 1); /* as the loader does */
        rc[i] = dk_secret_new(core->arena, DK_FIELD_SECRET, &keys[i].okm, err);
        if (rc[i] == DK_OK) {
            memset(dk_secret_expose_for_crypto(&keys[i].okm), 0xA5, DK_FIELD_SECRET);
        }
    }
    return DK_OK;
}

static double resident_mb(void)
{
    long pages = 0;
    FILE *file = fopen("/proc/self/statm", "re");
    if (file == NULL || fscanf(file, "%*d %ld", &pages) != 1) {
        pages = 0;
    }
    if (file != NULL) {
        fclose(file);
    }
    return (double)pages * (double)sysconf(_SC_PAGESIZE) / 1e6;
}

static bool fill_cache(struct dk_cache *cache, size_t keys)
{
    static struct dk_key_name names[BATCH];
    for (size_t at = 0; at < keys; at += BATCH) {
        size_t n = keys - at < BATCH ? keys - at : BATCH;
        for (size_t i = 0; i < n; i++) {
            char text[40];
            name_tenant(at + i, text);
            names[i].tenant.n = (uint8_t)strlen(text);
            memcpy(names[i].tenant.s, text, names[i].tenant.n);
        }
        dk_cache_prefetch(cache, names, n);
    }
    return dk_cache_stats(cache).keys == (int64_t)keys;
}

/* A cache, and the epochs, of a process with so many tenants; all else it shares with `d`. */
static bool measure_memory(struct dekhand *d, size_t keys, struct cli_bench_ratio *out)
{
    static struct dk_core core;
    struct dk_audit audit = {0};
    struct dk_cache *cache = NULL;
    struct dk_arena_report report;
    struct dk_err err;
    double before = resident_mb();
    dk_err_clear(&err);
    core = d->in->core;
    core.limits.max_keys = keys;
    core.audit = &audit;
    core.arena = NULL;
    struct dk_key_source source = {.self = &core, .get_many = invent};
    bool ok = dk_arena_open_with_table(core.world, 2 * BATCH, dk_cache_table_bytes(keys),
                                       &core.arena, &report, &err) == DK_OK &&
              dk_epochs_open(core.world, keys, &audit.epochs, &err) == DK_OK &&
              dk_cache_open(&core, &source, &cache, &err) == DK_OK && fill_cache(cache, keys);
    *out = (struct cli_bench_ratio){.yardstick = (double)keys * BYTES_A_KEY / 1e6,
                                    .ours = resident_mb() - before};
    out->ratio = out->ours / out->yardstick;
    dk_cache_close(cache);
    dk_epochs_close(audit.epochs);
    dk_arena_close(core.arena);
    return ok;
}

/* ---- one cold key ---------------------------------------------------------------------------- */

struct crowd {
    struct dekhand *d;
    pthread_barrier_t start;
    atomic_int failed;
};

static void *join_crowd(void *arg)
{
    struct crowd *crowd = arg;
    pthread_barrier_wait(&crowd->start);
    if (!encrypt(crowd->d, "cold")) {
        atomic_fetch_add(&crowd->failed, 1);
    }
    return NULL;
}

static bool measure_cold(struct dekhand *d, struct cli_bench_ratio *out)
{
    static pthread_t threads[CROWD];
    struct crowd crowd = {.d = d};
    struct dk_cache *cache = dk_manager_cache(d->in->manager);
    int64_t before = dk_cache_stats(cache).loads;
    pthread_attr_t small;
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 256 * 1024);
    pthread_barrier_init(&crowd.start, NULL, CROWD);
    for (size_t i = 0; i < CROWD; i++) {
        if (pthread_create(&threads[i], &small, join_crowd, &crowd) != 0) {
            abort(); /* the others would wait for it for ever */
        }
    }
    for (size_t i = 0; i < CROWD; i++) {
        pthread_join(threads[i], NULL);
    }
    pthread_barrier_destroy(&crowd.start);
    pthread_attr_destroy(&small);
    double calls = (double)(dk_cache_stats(cache).loads - before);
    *out = (struct cli_bench_ratio){1, calls, calls};
    return atomic_load(&crowd.failed) == 0;
}

bool cli_bench_cache(struct dekhand *d, size_t rounds, size_t keys, struct cli_bench_cache *out)
{
    static struct rounds room;
    room.count = rounds < ROUNDS_MAX ? rounds : ROUNDS_MAX;
    bool ok = measure_lookup(d, &room, &out->lookup);
    ok = measure_threads(d, room.count, out) && ok;
    ok = measure_memory(d, keys, &out->memory) && ok;
    return measure_cold(d, &out->cold) && ok;
}
