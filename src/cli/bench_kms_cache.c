/* The figures of keys in memory over AWS KMS: how often it is asked, and who waits when it is slow.
 */
#include <pthread.h>
#include <stdlib.h>

#include "cli/bench_forwarder.h"
#include "cli/bench_keys.h"
#include "cli/bench_kms.h"
#include "cli/bench_rounds.h"
#include "door.h"

#define THREADS 2
#define HOT 100                              /* tenants whose values the two threads open */
#define VALUES 8000                          /* a thread and slice: two milliseconds */
#define SLICES 4                             /* a round */
#define ROUNDS_MAX (BENCH_KMS_TENANTS - HOT) /* each has a cold tenant of its own */
#define AWAIT_MS 2000                        /* until the request is on its way: less than a try */
#define SETTINGS_MAX 40

struct bench_kms_cache {
    const struct cli *cli;
    char dir[DK_PATH_MAX];
    struct dekhand *d;
    struct bench_keys keys;
    struct bench_forwarder *forwarder;
    char proxy[40];
    bool failed;
};

static bool goes_on(const struct bench_kms_cache *b)
{
    return !b->failed && !b->keys.failed && !cli_interrupted();
}

static void fail(struct bench_kms_cache *b, const char *what, const char *why)
{
    if (!b->failed) {
        cli_say("dekhand: bench: %s: %s", what, why);
    }
    b->failed = true;
}

/* ---- the registry ---------------------------------------------------------------------------- */

/* What the settings say of AWS; all else is the bench's. No poll or refresh in the midst of it. */
static struct dekhand_config config_of(struct bench_kms_cache *b,
                                       struct dekhand_setting list[static SETTINGS_MAX])
{
    const struct dekhand_setting own[] = {
        {"KMS_PROVIDER", "aws-kms"},        {"KMS_STATE_DIR", b->dir},
        {"KMS_POLL_SECONDS", "3600"},       {"KMS_LEASE_SECONDS", "86400"},
        {"KMS_CACHE_TTL_SECONDS", "86400"}, {"KMS_CACHE_HARD_TTL_SECONDS", "604800"},
    };
    size_t n = sizeof own / sizeof own[0];
    memcpy(list, own, sizeof own);
    if (b->forwarder != NULL) {
        list[n++] = (struct dekhand_setting){"KMS_PROXY", b->proxy};
    }
    for (size_t i = 0; i < DK_OPT_COUNT && n < SETTINGS_MAX; i++) {
        bool aws = strncmp(dk_options[i].name, "AWS_", 4) == 0;
        if (b->cli->settings.value[i] != NULL &&
            (aws || i == DK_OPT_CA_FILE || i == DK_OPT_ALLOWED_ENDPOINTS)) {
            list[n++] = (struct dekhand_setting){dk_options[i].name, b->cli->settings.value[i]};
        }
    }
    return (struct dekhand_config){.size = sizeof(struct dekhand_config),
                                   .settings = list,
                                   .setting_count = n,
                                   .ignore_environment = true,
                                   .actor = "cli:bench"};
}

/* What a process has that has just begun. */
static void reopen(struct bench_kms_cache *b)
{
    struct dekhand_setting list[SETTINGS_MAX];
    struct dekhand_config config = config_of(b, list);
    struct dekhand_error error;
    if (dekhand_close(b->d, NULL) != DEKHAND_OK) {
        fail(b, "closing the registry", "the counts could not be written");
    }
    b->d = NULL;
    if (!b->failed && dekhand_open(&config, &b->d, &error) != DEKHAND_OK) {
        fail(b, "opening the registry", error.text);
    }
}

static void make_registry(struct bench_kms_cache *b)
{
    struct dekhand_setting list[SETTINGS_MAX];
    struct dekhand_config config = config_of(b, list);
    struct dekhand_error error;
    if (dekhand_init(&config, NULL, &error) != DEKHAND_OK) {
        fail(b, "making the registry", error.text);
        return;
    }
    reopen(b);
    if (goes_on(b)) {
        (void)bench_keys_encrypt(&b->keys, b->d, 0, BENCH_KMS_TENANTS);
    }
}

static bool decrypt(struct bench_kms_cache *b, size_t tenant)
{
    uint8_t plain[8];
    const char *value = b->keys.values[tenant];
    struct dekhand_item item = {.tenant = b->keys.names[tenant],
                                .in = value,
                                .in_size = (uint8_t)value[BENCH_KEYS_VALUE - 1],
                                .out = plain,
                                .capacity = sizeof plain};
    return dekhand_decrypt(b->d, &item, NULL) == DEKHAND_OK;
}

static bool encrypt(struct bench_kms_cache *b, size_t tenant)
{
    uint8_t value[BENCH_KEYS_VALUE];
    struct dekhand_item item = {.tenant = b->keys.names[tenant],
                                .in = "x",
                                .in_size = 1,
                                .out = value,
                                .capacity = sizeof value};
    return dekhand_encrypt(b->d, &item, NULL) == DEKHAND_OK;
}

/* ---- how often it is asked ------------------------------------------------------------------- */

/* By the library's own count of calls, those of opening the registry among them. */
static void measure_calls(struct bench_kms_cache *b, bool mixed, struct bench_result *out)
{
    reopen(b);
    for (size_t use = 0; use < BENCH_KMS_USES && goes_on(b); use++) {
        for (size_t i = 0; i < BENCH_KMS_TENANTS && goes_on(b); i++) {
            if (!(mixed && use % 2 != 0 ? encrypt(b, i) : decrypt(b, i))) {
                fail(b, "uses of keys", "a call failed");
            }
        }
    }
    if (goes_on(b)) {
        const double uses = (double)BENCH_KMS_TENANTS * BENCH_KMS_USES;
        struct dk_provider_calls counts = dk_provider_calls(b->d->in->core.provider);
        double calls = 0;
        for (size_t i = 0; i < DK_PROVIDER_OPERATIONS; i++) {
            calls += (double)counts.calls[i];
        }
        *out = (struct bench_result){calls / uses, uses, calls};
    }
}

/* ---- who waits when it is slow --------------------------------------------------------------- */

struct reader {
    struct bench_kms_cache *b;
    pthread_barrier_t *start;
    unsigned number;
    double from, to;
    bool ok;
};

static void *read_values(void *arg)
{
    struct reader *reader = arg;
    bool ok = true;
    bench_keep_to_cpu(reader->number);
    for (size_t i = 0; i < HOT; i++) {
        ok = decrypt(reader->b, i) && ok; /* keys this thread's contexts */
    }
    pthread_barrier_wait(reader->start);
    reader->from = bench_now_s();
    for (size_t i = 0; i < VALUES; i++) {
        ok = decrypt(reader->b, i % HOT) && ok;
    }
    reader->to = bench_now_s();
    reader->ok = ok;
    return NULL;
}

/* Nanoseconds a value of two threads together. */
static double time_slice(struct bench_kms_cache *b)
{
    pthread_barrier_t start;
    pthread_t threads[THREADS];
    struct reader readers[THREADS];
    double from = 0, to = 0;
    pthread_barrier_init(&start, NULL, THREADS);
    for (unsigned i = 0; i < THREADS; i++) {
        readers[i] = (struct reader){.b = b, .start = &start, .number = i};
        if (pthread_create(&threads[i], NULL, read_values, &readers[i]) != 0) {
            abort(); /* one would wait for the other for ever */
        }
    }
    for (unsigned i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        if (!readers[i].ok) {
            fail(b, "keys in memory", "a call failed");
        }
        from = i == 0 || readers[i].from < from ? readers[i].from : from;
        to = readers[i].to > to ? readers[i].to : to;
    }
    pthread_barrier_destroy(&start);
    return (to - from) * 1e9 / (THREADS * VALUES);
}

/* The best: a median would measure whether the second CPU was given to us. */
static void time_readers(struct bench_kms_cache *b, double *best)
{
    for (size_t i = 0; i < SLICES; i++) {
        double time = time_slice(b);
        *best = *best == 0 || time < *best ? time : *best;
    }
}

struct waiter {
    struct bench_kms_cache *b;
    size_t tenant; /* its key is in no memory */
    bool ok;
};

static void *wait_for_key(void *arg)
{
    struct waiter *waiter = arg;
    waiter->ok = decrypt(waiter->b, waiter->tenant);
    return NULL;
}

/* The same while another thread waits for an answer that is held back, and then comes. */
static void time_beside_waiter(struct bench_kms_cache *b, size_t tenant, double *best)
{
    struct waiter waiter = {.b = b, .tenant = tenant};
    pthread_t thread;
    bench_forwarder_hold(b->forwarder);
    if (pthread_create(&thread, NULL, wait_for_key, &waiter) != 0) {
        fail(b, "a slow provider", "no thread");
        bench_forwarder_release(b->forwarder);
        return;
    }
    bool waits = bench_forwarder_await(b->forwarder, AWAIT_MS);
    if (waits) {
        time_readers(b, best);
    }
    bench_forwarder_release(b->forwarder);
    pthread_join(thread, NULL);
    if (!waits || !waiter.ok) {
        fail(b, "a slow provider", waits ? "its answer did not come" : "nobody asked it");
    }
}

static void measure_slow(struct bench_kms_cache *b, size_t rounds, struct bench_result *out)
{
    double with = 0, without = 0;
    uint16_t port = 0;
    b->forwarder = bench_forwarder_open(&port);
    if (b->forwarder == NULL) {
        fail(b, "a slow provider", "no socket");
        return;
    }
    snprintf(b->proxy, sizeof b->proxy, "http://127.0.0.1:%u", port);
    reopen(b);
    rounds = rounds < ROUNDS_MAX ? rounds : ROUNDS_MAX;
    for (size_t i = 0; i < rounds && goes_on(b); i++) {
        time_readers(b, &without);
        time_beside_waiter(b, HOT + i, &with);
    }
    if (goes_on(b)) {
        *out = (struct bench_result){without / with, without, with};
    }
}

bool bench_kms_cache(const struct cli *cli, size_t rounds, struct cli_bench_kms *out)
{
    static struct bench_kms_cache b;
    b = (struct bench_kms_cache){.cli = cli};
    if (cli_scratch_make("bench-kms", b.dir) != CLI_OK) {
        return false;
    }
    b.failed = !bench_keys_init(&b.keys, BENCH_KMS_TENANTS, BENCH_KMS_TENANTS);
    if (!b.failed) {
        make_registry(&b);
    }
    if (goes_on(&b)) {
        measure_calls(&b, false, &out->calls);
        measure_calls(&b, true, &out->mixed);
    }
    if (goes_on(&b)) {
        measure_slow(&b, rounds, &out->slow);
    }
    bool good = goes_on(&b);
    (void)dekhand_close(b.d, NULL);
    bench_forwarder_close(b.forwarder);
    bench_keys_clear(&b.keys);
    cli_scratch_remove(b.dir);
    return good;
}
