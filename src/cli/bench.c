/*
 * dekhand bench: each figure beside its yardstick, interleaved in one run, median of the ratios.
 *
 * Never a test: machines are noisy. The one file of cli/ that looks into the library, for the AAD
 * that the yardstick has to carry too.
 */
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <stdlib.h>

#include "cli/bench_bulk.h"
#include "cli/bench_cache.h"
#include "cli/bench_kms.h"
#include "cli/bench_print.h"
#include "cli/bench_rounds.h"
#include "cli/bench_store.h"
#include "cli/cli.h"
#include "crypto/field.h"

#define PLAIN 64
#define BATCH 1000 /* operations a round of a figure */
#define TENANTS 100
#define ROUNDS_MAX 1001
#define POLL_TURNS 4 /* of 5 s */

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
    return (struct bench_result){bench_median(ratio, rounds),
                                 bench_median(yard, rounds) * 1e9 / BATCH,
                                 bench_median(ours, rounds) * 1e9 / BATCH};
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

static void print_cache(struct bench *b, const struct bench_print *p, size_t rounds, size_t keys)
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
        bench_print_row(p, rows[i].name, rows[i].yardstick, rows[i].unit, r, rows[i].goal,
                        rows[i].at_most);
    }
}

static void print_store(struct bench *b, const struct bench_print *p, size_t tenants)
{
    struct cli_bench_store s = {0};
    b->failed = !cli_bench_store(tenants, &s) || b->failed;
    bench_print_row(p, "new_tenants", "the same rows into a bare SQLite, an HMAC each", "us",
                    s.create, 0.5, false);
    bench_print_row(p, "cold_keys", "SELECT, HKDF and GCM open of each", "us", s.cold, 0.5, false);
    bench_print_row(p, "audit_verify", "200,000 rows a second", "us", s.verify, 1, false);
}

/* What was asked for. */
struct asked {
    size_t rounds;
    long rows, keys, tenants, filled;
    bool here;     /* what needs no server */
    bool postgres; /* DATABASE_URL's */
    bool kms;      /* AWS KMS, as the settings have it */
};

static void print_figures(struct bench *b, const struct bench_print *p, size_t rounds)
{
    for (size_t i = 0; i < sizeof figures / sizeof figures[0] && !cli_interrupted(); i++) {
        const struct figure *f = &figures[i];
        bench_print_row(p, f->name, f->yardstick_name, "ns", measure(b, f, rounds), f->goal, false);
    }
}

static void print_bulk(struct bench *b, const struct bench_print *p, long rows, long *rss_kib)
{
    struct bench_result bulk[BENCH_BULK_CASES];
    b->failed = !bench_bulk(b->dir, rows, bare_rows, b, bulk, rss_kib) || b->failed;
    for (size_t i = 0; i < BENCH_BULK_CASES; i++) {
        bench_print_row(p, bench_bulk_cases[i].name, "bare AEAD of the same values, one thread",
                        "s", bulk[i], bench_bulk_cases[i].goal, true);
    }
}

static void print_here(struct bench *b, const struct bench_print *p, const struct asked *asked,
                       long *rss_kib)
{
    print_figures(b, p, asked->rounds);
    if (!cli_interrupted()) {
        print_bulk(b, p, asked->rows, rss_kib);
    }
    if (!cli_interrupted()) {
        print_cache(b, p, asked->rounds, (size_t)asked->keys);
    }
    if (!cli_interrupted()) {
        print_store(b, p, (size_t)asked->keys / 10);
    }
}

static bool run_postgres(struct bench *b, const struct asked *asked, struct cli_bench_postgres *p)
{
    struct cli_bench_postgres_args args = {
        .tenants = (size_t)asked->tenants,
        .filled = (size_t)asked->filled,
        .turns = asked->rounds < POLL_TURNS ? 1 : POLL_TURNS,
    };
    bool good = cli_bench_postgres(b->cli, &args, p);
    b->failed = b->failed || !good;
    return good;
}

static void print_kms(struct bench *b, const struct bench_print *p, size_t rounds)
{
    static struct cli_bench_kms kms;
    if (cli_bench_kms(b->cli, b->d, rounds, &kms)) {
        bench_print_kms(p, &kms);
    } else {
        b->failed = true;
    }
}

static void run(struct bench *b, const struct bench_print *p, const struct asked *asked)
{
    static struct cli_bench_postgres pg;
    long rss_kib = 0;
    if (p->json != NULL) {
        dk_json_object(p->json, NULL);
        dk_json_str(p->json, "version", dekhand_version());
        dk_json_int(p->json, "rounds", (int64_t)asked->rounds);
        if (asked->here) {
            dk_json_int(p->json, "csvRows", asked->rows);
        }
        dk_json_array(p->json, "figures");
    }
    if (asked->here) {
        print_here(b, p, asked, &rss_kib);
    }
    bool postgres = asked->postgres && !cli_interrupted() && run_postgres(b, asked, &pg);
    if (postgres) {
        bench_print_postgres(p, &pg);
    }
    if (asked->kms && !cli_interrupted()) {
        print_kms(b, p, asked->rounds);
    }
    if (p->json != NULL) {
        dk_json_end(p->json, ']');
    }
    if (asked->here) {
        bench_print_rss(p, rss_kib);
    }
    if (postgres) {
        bench_print_server(p, asked->tenants, &pg);
    }
    if (p->json != NULL) {
        dk_json_end(p->json, '}');
        cli_out_str(p->out, "\n");
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

static bool take_numbers(struct cli *cli, struct asked *out)
{
    long rounds = number(cli, "rounds", 201, 1, ROUNDS_MAX);
    *out = (struct asked){
        .rounds = (size_t)(rounds > 0 ? rounds : 0),
        .rows = number(cli, "rows", 1000000, 1, 100000000),
        .keys = number(cli, "keys", 1000000, 1000, 10000000),
        .tenants = number(cli, "tenants", 20000, 100, 1000000),
        .filled = number(cli, "postgres-tenants", 0, 0, 100000000),
        .here = !cli_has(cli, "postgres") && !cli_has(cli, "kms"),
        .postgres =
            cli_bench_has_postgres(cli) && (cli_has(cli, "postgres") || !cli_has(cli, "kms")),
        .kms = cli_has(cli, "kms"),
    };
    return rounds >= 0 && out->rows >= 0 && out->keys >= 0 && out->tenants >= 0 && out->filled >= 0;
}

int cli_bench(struct cli *cli)
{
    static struct cli_out out;
    static struct bench bench;
    struct asked asked;
    int code;
    if (!take_numbers(cli, &asked)) {
        return CLI_USAGE;
    }
    if (cli_has(cli, "postgres") && !asked.postgres) {
        return cli_usage("--postgres wants a server: DATABASE_URL is no postgresql://");
    }
    if (asked.kms && !cli_bench_has_kms(cli, &code)) {
        return code;
    }
    bench.cli = cli;
    if (cli_scratch_make("bench", bench.dir) != CLI_OK || cli_out_open(&out, NULL) != CLI_OK) {
        return CLI_FAILED;
    }
    cli_signals_cooperate(); /* from here on there are things to remove */
    code = start(&bench);
    if (code == CLI_OK) {
        struct dk_json json = cli_out_json(&out);
        run(&bench, &(struct bench_print){&out, cli->json ? &json : NULL}, &asked);
    }
    stop(&bench);
    if (cli_interrupted()) {
        return cli_give_up(0, "figures: none of them means anything");
    }
    code = code == CLI_OK ? cli_out_finish(&out) : code;
    if (code == CLI_OK && bench.failed) {
        cli_say("dekhand: a call failed during the bench: its figures mean nothing");
        code = CLI_FAILED;
    }
    return code;
}
