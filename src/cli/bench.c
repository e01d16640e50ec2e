/*
 * dekhand bench: each figure beside its yardstick, interleaved in one run, median of the ratios.
 *
 * Never a test: machines are noisy. The one file of cli/ that looks into the library, for the AAD
 * that the yardstick has to carry too.
 */
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <stdlib.h>

#include "cli/bench_cache.h"
#include "cli/bench_store.h"
#include "cli/bench_bulk.h"
#include "cli/cli.h"
#include "crypto/field.h"

#define PLAIN 64
#define BATCH 1000 /* operations a round of a figure */
#define TENANTS 100
#define ROUNDS_MAX 1001

struct bench {
    struct dekhand *d;
    struct cli *cli;
    char dir[DK_PATH_MAX];
    char tenants[TENANTS][40];
    uint8_t aad[TENANTS][DK_FIELD_AAD_PREFIX_MAX + 4];
    size_t aad_len[TENANTS];
    EVP_CIPHER_CTX *seal[TENANTS]; /* bare, keyed once */
    EVP_CIPHER_CTX *open;
    uint8_t order[BATCH];
    uint8_t key[32];
    uint8_t plain[PLAIN];
    uint8_t bare[PLAIN + 28]; /* a bare nonce | ciphertext | tag, of tenant 0 */
    uint8_t value[256];       /* the library's, of tenant 0 */
    size_t value_len;
    uint8_t text[256];
    size_t text_len;
    uint64_t iv;
    bool failed;
};

/* ---- the yardstick: a bare EVP context with the same AAD ------------------------------------- */

static void bare_seal(struct bench *b, EVP_CIPHER_CTX *ctx, size_t tenant, const uint8_t *in,
                      size_t n, uint8_t *out)
{
    uint8_t iv[12] = {0};
    int len = 0;
    b->iv++;
    memcpy(iv, &b->iv, sizeof b->iv);
    bool ok = EVP_EncryptInit_ex2(ctx, NULL, NULL, iv, NULL) == 1 &&
              EVP_EncryptUpdate(ctx, NULL, &len, b->aad[tenant], (int)b->aad_len[tenant]) == 1 &&
              EVP_EncryptUpdate(ctx, out + 12, &len, in, (int)n) == 1 &&
              EVP_EncryptFinal_ex(ctx, out + 12 + n, &len) == 1 &&
              EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG, 16, out + 12 + n) == 1;
    memcpy(out, iv, sizeof iv);
    b->failed = b->failed || !ok;
}

static void bare_open(struct bench *b, EVP_CIPHER_CTX *ctx, uint8_t *in, size_t n, uint8_t *out)
{
    int len = 0;
    bool ok = EVP_DecryptInit_ex2(ctx, NULL, NULL, in, NULL) == 1 &&
              EVP_DecryptUpdate(ctx, NULL, &len, b->aad[0], (int)b->aad_len[0]) == 1 &&
              EVP_DecryptUpdate(ctx, out, &len, in + 12, (int)n) == 1 &&
              EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_TAG, 16, in + 12 + n) == 1 &&
              EVP_DecryptFinal_ex(ctx, out + len, &len) == 1;
    b->failed = b->failed || !ok;
}

static EVP_CIPHER_CTX *keyed(struct bench *b, int encrypt)
{
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    b->failed = b->failed || ctx == NULL ||
                EVP_CipherInit_ex2(ctx, EVP_aes_256_gcm(), b->key, NULL, encrypt, NULL) != 1;
    return ctx;
}

/* ---- what is compared: BATCH operations each ------------------------------------------------- */

static void yard_encrypt(struct bench *b)
{
    uint8_t out[PLAIN + 28];
    for (int i = 0; i < BATCH; i++) {
        bare_seal(b, b->seal[0], 0, b->plain, PLAIN, out);
    }
}

static void yard_encrypt_text(struct bench *b)
{
    uint8_t out[PLAIN + 28], text[256];
    for (int i = 0; i < BATCH; i++) {
        bare_seal(b, b->seal[0], 0, b->plain, PLAIN, out);
        EVP_EncodeBlock(text, out, sizeof out);
    }
}

static void yard_decrypt(struct bench *b)
{
    uint8_t out[PLAIN];
    for (int i = 0; i < BATCH; i++) {
        bare_open(b, b->open, b->bare, PLAIN, out);
    }
}

static void yard_decrypt_text(struct bench *b)
{
    uint8_t out[PLAIN], text[256], bytes[256];
    int n = EVP_EncodeBlock(text, b->bare, sizeof b->bare);
    for (int i = 0; i < BATCH; i++) {
        b->failed = EVP_DecodeBlock(bytes, text, n) < 0 || b->failed;
        bare_open(b, b->open, bytes, PLAIN, out);
    }
}

static void yard_naive(struct bench *b)
{
    uint8_t out[PLAIN + 28];
    for (int i = 0; i < BATCH; i++) {
        EVP_CIPHER_CTX *ctx = keyed(b, 1);
        bare_seal(b, ctx, 0, b->plain, PLAIN, out);
        EVP_CIPHER_CTX_free(ctx);
    }
}

static void yard_tenants(struct bench *b)
{
    uint8_t out[PLAIN + 28];
    for (int i = 0; i < BATCH; i++) {
        bare_seal(b, b->seal[b->order[i]], b->order[i], b->plain, PLAIN, out);
    }
}

static void our_encrypt_of(struct bench *b, size_t tenant, enum dekhand_format format)
{
    uint8_t out[256];
    struct dekhand_item item = {.tenant = b->tenants[tenant],
                                .format = format,
                                .in = b->plain,
                                .in_size = PLAIN,
                                .out = out,
                                .capacity = sizeof out};
    b->failed = dekhand_encrypt(b->d, &item, NULL) != DEKHAND_OK || b->failed;
}

static void our_encrypt(struct bench *b)
{
    for (int i = 0; i < BATCH; i++) {
        our_encrypt_of(b, 0, DEKHAND_BINARY);
    }
}

static void our_encrypt_text(struct bench *b)
{
    for (int i = 0; i < BATCH; i++) {
        our_encrypt_of(b, 0, DEKHAND_TEXT);
    }
}

static void our_tenants(struct bench *b)
{
    for (int i = 0; i < BATCH; i++) {
        our_encrypt_of(b, b->order[i], DEKHAND_BINARY);
    }
}

static void our_decrypt_of(struct bench *b, const uint8_t *value, size_t n)
{
    uint8_t out[PLAIN];
    for (int i = 0; i < BATCH; i++) {
        struct dekhand_item item = {
            .tenant = b->tenants[0], .in = value, .in_size = n, .out = out, .capacity = sizeof out};
        b->failed = dekhand_decrypt(b->d, &item, NULL) != DEKHAND_OK || b->failed;
    }
}

static void our_decrypt(struct bench *b)
{
    our_decrypt_of(b, b->value, b->value_len);
}

static void our_decrypt_text(struct bench *b)
{
    our_decrypt_of(b, b->text, b->text_len);
}

struct figure {
    const char *name;
    const char *yardstick_name;
    void (*yardstick)(struct bench *b);
    void (*ours)(struct bench *b);
    double goal; /* yardstick time over our time, at least */
};

static const struct figure figures[] = {
    {"encrypt_64_binary", "keyed EVP context, same AAD", yard_encrypt, our_encrypt, 0.85},
    {"decrypt_64_binary", "keyed EVP context, same AAD", yard_decrypt, our_decrypt, 0.85},
    {"encrypt_64_text", "keyed EVP context, same AAD, EVP_EncodeBlock", yard_encrypt_text,
     our_encrypt_text, 0.85},
    {"decrypt_64_text", "keyed EVP context, same AAD, EVP_DecodeBlock", yard_decrypt_text,
     our_decrypt_text, 0.85},
    {"encrypt_64_vs_naive", "EVP context made and keyed each time", yard_naive, our_encrypt, 2.5},
    {"encrypt_64_100_tenants", "100 keyed EVP contexts, random order", yard_tenants, our_tenants,
     0.85},
};

/* ---- rounds ---------------------------------------------------------------------------------- */

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double median(double *v, size_t n)
{
    qsort(v, n, sizeof *v, compare_doubles);
    return v[n / 2];
}

static double timed(struct bench *b, void (*run)(struct bench *b))
{
    double from = bench_now_s();
    run(b);
    return bench_now_s() - from;
}

static struct bench_result measure(struct bench *b, const struct figure *f, size_t rounds)
{
    static double ratio[ROUNDS_MAX], yard[ROUNDS_MAX], ours[ROUNDS_MAX];
    (void)timed(b, f->yardstick);
    (void)timed(b, f->ours);
    for (size_t i = 0; i < rounds; i++) {
        bool yard_first = i % 2 == 0;
        yard[i] = yard_first ? timed(b, f->yardstick) : 0;
        ours[i] = timed(b, f->ours);
        yard[i] = yard_first ? yard[i] : timed(b, f->yardstick);
        ratio[i] = yard[i] / ours[i];
    }
    return (struct bench_result){median(ratio, rounds), median(yard, rounds) * 1e9 / BATCH,
                                 median(ours, rounds) * 1e9 / BATCH};
}

/* ---- whole files ----------------------------------------------------------------------------- */

/* The values of the rows through bare contexts: nothing else is in the time. */
static double bare_rows(void *arg, long rows)
{
    struct bench *b = arg;
    uint8_t out[64];
    double total = 0;
    for (long i = 0; i < rows; i += 1000) {
        static char values[2000][BENCH_BULK_VALUE];
        static size_t sizes[2000];
        for (long k = 0; k < 2000; k++) {
            sizes[k] = bench_bulk_value((size_t)(i + k / 2), (size_t)k % 2, values[k]);
        }
        double from = bench_now_s();
        for (long k = 0; k < 2000 && i + k / 2 < rows; k++) {
            size_t tenant = bench_bulk_tenant((size_t)(i + k / 2));
            bare_seal(b, b->seal[tenant], tenant, (const uint8_t *)values[k], sizes[k], out);
        }
        total += bench_now_s() - from;
    }
    return total;
}

/* ---- the frame ------------------------------------------------------------------------------- */

static void make_values(struct bench *b)
{
    struct dekhand_item item = {.tenant = b->tenants[0],
                                .format = DEKHAND_BINARY,
                                .in = b->plain,
                                .in_size = PLAIN,
                                .out = b->value,
                                .capacity = sizeof b->value};
    b->failed = dekhand_encrypt(b->d, &item, NULL) != DEKHAND_OK || b->failed;
    b->value_len = item.size;
    item.format = DEKHAND_TEXT;
    item.out = b->text;
    b->failed = dekhand_encrypt(b->d, &item, NULL) != DEKHAND_OK || b->failed;
    b->text_len = item.size;
    bare_seal(b, b->seal[0], 0, b->plain, PLAIN, b->bare);
}

static int start(struct bench *b)
{
    /* No poll in the midst of a figure: after it, keys made here are read again. */
    struct dekhand_setting settings[] = {
        {"KMS_STATE_DIR", b->dir}, {"KMS_POLL_SECONDS", "3600"}, {"KMS_LEASE_SECONDS", "86400"}};
    struct dekhand_config config = {.size = sizeof config,
                                    .settings = settings,
                                    .setting_count = 3,
                                    .ignore_environment = true,
                                    .actor = "cli:bench"};
    struct dekhand_error error;
    struct dekhand_init_result made;
    if (dekhand_init(&config, &made, &error) != DEKHAND_OK ||
        dekhand_open(&config, &b->d, &error) != DEKHAND_OK) {
        return cli_fail(b->cli, &error);
    }
    b->failed = RAND_bytes(b->key, sizeof b->key) != 1 || RAND_bytes(b->plain, PLAIN) != 1 ||
                RAND_bytes(b->order, BATCH) != 1;
    for (size_t i = 0; i < BATCH; i++) {
        b->order[i] %= TENANTS;
    }
    for (size_t i = 0; i < TENANTS; i++) {
        struct dk_tenant tenant;
        struct dk_err err;
        dk_err_clear(&err);
        snprintf(b->tenants[i], sizeof b->tenants[i], "00000000-0000-4000-8000-%012zu", i);
        b->failed =
            dk_tenant_parse(dk_view_str(b->tenants[i]), &tenant, &err) != DK_OK || b->failed;
        b->aad_len[i] = dk_field_aad_prefix(&tenant, 1, b->aad[i]) + 4;
        b->seal[i] = keyed(b, 1);
    }
    b->open = keyed(b, 0);
    make_values(b);
    return CLI_OK;
}

static void print_row(struct bench *b, struct cli_out *out, struct dk_json *json, const char *name,
                      const char *yardstick, const char *unit, struct bench_result r, double goal,
                      bool at_most)
{
    bool met = at_most ? r.ratio <= goal : r.ratio >= goal;
    if (b->cli->json) {
        dk_json_object(json, NULL);
        dk_json_str(json, "name", name);
        dk_json_str(json, "yardstick", yardstick);
        dk_json_str(json, "unit", unit);
        dk_json_num(json, "yardstickTime", r.yardstick);
        dk_json_num(json, "time", r.ours);
        dk_json_num(json, "ratio", r.ratio);
        dk_json_num(json, "goal", goal);
        dk_json_str(json, "goalIs", at_most ? "at most" : "at least");
        dk_json_bool(json, "met", met);
        dk_json_end(json, '}');
    } else {
        cli_out_printf(out, "%-24s %8.3f (goal %s %.2f: %s)  %.3g %s beside %.3g: %s\n", name,
                       r.ratio, at_most ? "<=" : ">=", goal, met ? "met" : "NOT MET", r.ours, unit,
                       r.yardstick, yardstick);
    }
}

static void print_rss(struct bench *b, struct cli_out *out, struct dk_json *json, long rss_kib)
{
    if (b->cli->json) {
        dk_json_int(json, "csvRssKiB", rss_kib);
        dk_json_int(json, "csvRssGoalKiB", 32 * 1024);
    } else {
        cli_out_printf(out, "csv memory (RSS)         %ld KiB (goal < %d: %s)\n", rss_kib,
                       32 * 1024, rss_kib < 32 * 1024 ? "met" : "NOT MET");
    }
}

static void print_cache(struct bench *b, struct cli_out *out, struct dk_json *json, size_t rounds,
                        size_t keys)
{
    struct cli_bench_cache c = {0};
    b->failed = !cli_bench_cache(b->d, rounds, keys, &c) || b->failed;
    const struct {
        const char *name, *yardstick, *unit;
        struct cli_bench_ratio r;
        double goal;
        bool at_most;
    } rows[] = {
        {"lookup_1000_tenants", "keyed EVP encrypt of 64 bytes, same AAD", "ns", c.lookup, 0.20,
         true},
        {"encrypt_64_two_threads", "two threads; the time is one's; best rounds", "ns", c.threads,
         1.85, false},
        {"two_threads_of_bare",
         "what two bare contexts gain over one",
         "times",
         {c.bare_threads.ratio, c.threads.ratio, c.threads.ratio / c.bare_threads.ratio},
         0.95,
         false},
        {"memory_of_cached_keys", "120 bytes a key", "MB", c.memory, 1, true},
        {"cold_key_1000_threads", "one provider call", "calls", c.cold, 1, true},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct bench_result r = {rows[i].r.ratio, rows[i].r.yardstick, rows[i].r.ours};
        print_row(b, out, json, rows[i].name, rows[i].yardstick, rows[i].unit, r, rows[i].goal,
                  rows[i].at_most);
    }
}

static void print_store(struct bench *b, struct cli_out *out, struct dk_json *json, size_t tenants)
{
    struct cli_bench_store s = {0};
    b->failed = !cli_bench_store(tenants, &s) || b->failed;
    print_row(b, out, json, "new_tenants", "the same rows into a bare SQLite, an HMAC each", "us",
              s.create, 0.5, false);
    print_row(b, out, json, "cold_keys", "SELECT, HKDF and GCM open of each", "us", s.cold, 0.5,
              false);
    print_row(b, out, json, "audit_verify", "200,000 rows a second", "us", s.verify, 1, false);
}

static void run(struct bench *b, struct cli_out *out, size_t rounds, long rows, long keys)
{
    struct dk_json json = cli_out_json(out);
    struct bench_result bulk[BENCH_BULK_CASES];
    long rss_kib = 0;
    if (b->cli->json) {
        dk_json_object(&json, NULL);
        dk_json_str(&json, "version", dekhand_version());
        dk_json_int(&json, "rounds", (int64_t)rounds);
        dk_json_int(&json, "csvRows", rows);
        dk_json_array(&json, "figures");
    }
    for (size_t i = 0; i < sizeof figures / sizeof figures[0]; i++) {
        const struct figure *f = &figures[i];
        print_row(b, out, &json, f->name, f->yardstick_name, "ns", measure(b, f, rounds), f->goal,
                  false);
    }
    b->failed = !bench_bulk(b->dir, rows, bare_rows, b, bulk, &rss_kib) || b->failed;
    for (size_t i = 0; i < BENCH_BULK_CASES; i++) {
        print_row(b, out, &json, bench_bulk_cases[i].name,
                  "bare AEAD of the same values, one thread", "s", bulk[i],
                  bench_bulk_cases[i].goal, true);
    }
    print_cache(b, out, &json, rounds, (size_t)keys);
    print_store(b, out, &json, (size_t)keys / 10);
    if (b->cli->json) {
        dk_json_end(&json, ']');
    }
    print_rss(b, out, &json, rss_kib);
    if (b->cli->json) {
        dk_json_end(&json, '}');
        cli_out_str(out, "\n");
    }
}

static void stop(struct bench *b)
{
    b->failed = dekhand_close(b->d, NULL) != DEKHAND_OK || b->failed;
    for (size_t i = 0; i < TENANTS; i++) {
        EVP_CIPHER_CTX_free(b->seal[i]);
    }
    EVP_CIPHER_CTX_free(b->open);
    cli_scratch_remove(b->dir);
}

static long number(const struct cli *cli, const char *name, long def, long min, long max)
{
    const char *text = cli_get(cli, name);
    char *end = NULL;
    long v = text != NULL ? strtol(text, &end, 10) : def;
    if (text != NULL && (*end != '\0' || v < min || v > max)) {
        cli_usage("--%s wants a number from %ld to %ld", name, min, max);
        return -1;
    }
    return v;
}

int cli_bench(struct cli *cli)
{
    static struct cli_out out;
    static struct bench bench;
    long rounds = number(cli, "rounds", 201, 1, ROUNDS_MAX);
    long rows = number(cli, "rows", 1000000, 1, 100000000);
    long keys = number(cli, "keys", 1000000, 1000, 10000000);
    if (rounds < 0 || rows < 0 || keys < 0) {
        return CLI_USAGE;
    }
    bench.cli = cli;
    if (cli_scratch_make("bench", bench.dir) != CLI_OK || cli_out_open(&out, NULL) != CLI_OK) {
        return CLI_FAILED;
    }
    int code = start(&bench);
    if (code == CLI_OK) {
        run(&bench, &out, (size_t)rounds, rows, keys);
    }
    stop(&bench);
    code = code == CLI_OK ? cli_out_finish(&out) : code;
    if (code == CLI_OK && bench.failed) {
        cli_say("dekhand: a call failed during the bench: its figures mean nothing");
        code = CLI_FAILED;
    }
    return code;
}
