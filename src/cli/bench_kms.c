#include "cli/bench_kms.h"

#include <curl/curl.h>
#include <openssl/ssl.h>

#include "cli/bench_rounds.h"
#include "crypto/mac.h"
#include "door.h"
#include "provider/aws_credentials.h"
#include "provider/aws_kms.h"
#include "provider/aws_sign.h"

#define ROUNDS_MAX 1001
#define CALLS 10      /* of each side in a round, in turn */
#define SIGNATURES 50 /* of each side in a round */
#define SERVICE "kms"

struct bench_kms {
    const struct cli *cli;
    const struct dk_core *core; /* of a registry that is open: its suite and memory */
    const struct dk_provider_ops *ops;
    void *provider; /* ours */
    struct dk_aws_setup aws;
    struct dk_http *http; /* for credentials */
    struct dk_aws_credentials *credentials;
    struct dk_aws_keys *keys;
    struct dk_secret key; /* what is wrapped */
    struct dk_wrapped wrapped;
    struct dk_http_request request; /* without the lines of the signature: `head` bytes */
    size_t head;
    CURL *easy; /* the bare one */
    struct curl_slist *lines;
    char reply[8192];
    size_t reply_n;
    double yard[ROUNDS_MAX], ours[ROUNDS_MAX], ratio[ROUNDS_MAX];
    struct dk_err err;
};

static const struct dk_wrap_context context = {
    {(const uint8_t *)"dekhand-bench", 13}, "ConnectionTest", "2026-01-01T00:00:00.000000Z"};

/* ---- the request ----------------------------------------------------------------------------- */

static dk_rc build(struct bench_kms *b)
{
    struct dk_kms_ask ask = {
        .op = DK_KMS_ENCRYPT, .key_id = b->aws.key_id, .context = &context, .plaintext = &b->key};
    dk_http_request_init(&b->request, &b->core->world->mem);
    b->request.to = &b->aws.kms;
    DK_TRY(dk_kms_build(&ask, &b->request, &b->err));
    b->head = b->request.head.n;
    return DK_OK;
}

static dk_rc sign(struct bench_kms *b)
{
    struct dk_sigv4 sign = {.suite = &b->core->suite,
                            .access_key_id = b->keys->id,
                            .secret = &b->keys->secret,
                            .session_token = b->keys->token,
                            .region = b->aws.region,
                            .service = SERVICE,
                            .at_us = dk_wall_us(b->core->world)};
    b->request.head.n = b->head;
    return dk_sigv4_sign(&sign, &b->request, &b->err);
}

/* ---- a wrap: the yardstick ------------------------------------------------------------------- */

static size_t take(char *p, size_t size, size_t n, void *arg)
{
    struct bench_kms *b = arg;
    if (size * n > sizeof b->reply - b->reply_n) {
        return 0;
    }
    memcpy(b->reply + b->reply_n, p, size * n);
    b->reply_n += size * n;
    return size * n;
}

/* As net/lane: libcurl's own part of a call is the same on both sides. */
static CURLcode set_tls(CURL *easy, void *ctx, void *arg)
{
    (void)easy;
    (void)arg;
    SSL_CTX_set_options(ctx, SSL_OP_CLEANSE_PLAINTEXT);
    return CURLE_OK;
}

static bool open_bare(struct bench_kms *b)
{
    const struct dk_endpoint *to = &b->aws.kms;
    const char *ca = dk_settings_str(&b->cli->settings, DK_OPT_CA_FILE);
    char url[DK_HOST_MAX + 300];
    CURL *easy = b->easy = curl_easy_init();
    if (easy == NULL) {
        return false;
    }
    snprintf(url, sizeof url, "https://%s%s/", to->authority, to->path);
    curl_easy_setopt(easy, CURLOPT_URL, url);
    curl_easy_setopt(easy, CURLOPT_POST, 1L);
    curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)b->request.body.n);
    curl_easy_setopt(easy, CURLOPT_POSTFIELDS, (const char *)b->request.body.p);
    curl_easy_setopt(easy, CURLOPT_USERAGENT, "dekhand/" DK_VERSION);
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, take);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, b);
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, 10000L);
    curl_easy_setopt(easy, CURLOPT_PROXY, "");
    curl_easy_setopt(easy, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 1L);
    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 2L);
    curl_easy_setopt(easy, CURLOPT_SSL_CTX_FUNCTION, set_tls);
    if (ca != NULL) {
        curl_easy_setopt(easy, CURLOPT_CAINFO, ca);
        curl_easy_setopt(easy, CURLOPT_CAPATH, NULL);
    }
    return true;
}

/* Signed anew for each round, outside the time: a signature is good for five minutes. */
static bool sign_bare(struct bench_kms *b)
{
    curl_slist_free_all(b->lines);
    b->lines = NULL;
    if (sign(b) != DK_OK) {
        return false;
    }
    for (const char *line = dk_http_next_line(&b->request, NULL); line != NULL;
         line = dk_http_next_line(&b->request, line)) {
        struct curl_slist *more = curl_slist_append(b->lines, line);
        if (more == NULL) {
            return false;
        }
        b->lines = more;
    }
    return curl_easy_setopt(b->easy, CURLOPT_HTTPHEADER, b->lines) == CURLE_OK;
}

static bool ask_bare(struct bench_kms *b)
{
    long status = 0;
    b->reply_n = 0;
    CURLcode code = curl_easy_perform(b->easy);
    if (code == CURLE_OK) {
        curl_easy_getinfo(b->easy, CURLINFO_RESPONSE_CODE, &status);
    }
    if (status != 200) {
        (void)DK_FAIL(&b->err, PROVIDER, "the bare request: %s, HTTP %ld: %.*s",
                      curl_easy_strerror(code), status, (int)(b->reply_n < 200 ? b->reply_n : 200),
                      b->reply);
    }
    return status == 200;
}

/* ---- a wrap: ours ---------------------------------------------------------------------------- */

static bool ask_ours(struct bench_kms *b)
{
    struct dk_provider_item item, *items = &item;
    item.context = context;
    item.key = b->key;
    item.wrapped = &b->wrapped;
    dk_err_clear(&item.err);
    b->ops->run(b->provider, DK_PROVIDER_WRAP, &items, 1);
    b->err = item.err;
    return item.err.rc == DK_OK;
}

static struct bench_result sum_up(struct bench_kms *b, size_t rounds, double per_us)
{
    for (size_t i = 0; i < rounds; i++) {
        b->ratio[i] = b->ours[i] / b->yard[i];
    }
    return (struct bench_result){bench_median(b->ratio, rounds),
                                 bench_median(b->yard, rounds) * per_us,
                                 bench_median(b->ours, rounds) * per_us};
}

/* One call after the other, ours and the bare one in turn. */
static bool measure_wrap(struct bench_kms *b, size_t rounds, struct bench_result *out)
{
    bool ok = open_bare(b) && sign_bare(b) && ask_bare(b) && ask_ours(b);
    for (size_t i = 0; ok && i < rounds && !cli_interrupted(); i++) {
        ok = sign_bare(b);
        b->yard[i] = b->ours[i] = 0;
        for (size_t k = 0; ok && k < CALLS; k++) {
            double from = bench_now_s();
            ok = ask_bare(b);
            double middle = bench_now_s();
            ok = ok && ask_ours(b);
            b->yard[i] += middle - from;
            b->ours[i] += bench_now_s() - middle;
        }
    }
    if (ok && !cli_interrupted()) {
        *out = sum_up(b, rounds, 1e6 / CALLS);
    }
    return ok;
}

/* ---- a signature ----------------------------------------------------------------------------- */

/* What a signature's HMACs and digests are made of. */
struct parts {
    uint8_t secret[4 + DK_SECRET_CELL];
    size_t secret_n;
    struct dk_buf canonical;
    char scope[160];
    char text[320];
};

static dk_rc take_parts(struct bench_kms *b, struct parts *parts)
{
    char names[DK_SIGV4_SIGNED], hex[2 * DK_SHA256_LEN + 1] = "", now[17];
    int64_t seconds = dk_wall_us(b->core->world) / 1000000;
    time_t time = (time_t)seconds;
    struct tm tm;
    gmtime_r(&time, &tm);
    strftime(now, sizeof now, "%Y%m%dT%H%M%SZ", &tm);
    memcpy(parts->secret, "AWS4", 4);
    memcpy(parts->secret + 4, dk_secret_expose_for_crypto(&b->keys->secret), b->keys->secret.n);
    parts->secret_n = 4 + (size_t)b->keys->secret.n;
    memset(hex, '0', sizeof hex - 1);
    snprintf(parts->scope, sizeof parts->scope, "%.8s/%s/" SERVICE "/aws4_request", now,
             b->aws.region);
    snprintf(parts->text, sizeof parts->text, "AWS4-HMAC-SHA256\n%s\n%s\n%s", now, parts->scope,
             hex);
    b->request.head.n = b->head;
    DK_TRY(dk_http_add(&b->request, "X-Amz-Date", now, &b->err));
    if (b->keys->token != NULL) {
        DK_TRY(dk_http_add(&b->request, "X-Amz-Security-Token", b->keys->token, &b->err));
    }
    return dk_sigv4_canonical(&b->core->suite, &b->request, &parts->canonical, names, &b->err);
}

/* Five HMACs, each under the one before, and two digests: nothing else. */
static bool hash_parts(struct bench_kms *b, const struct parts *parts)
{
    const struct dk_suite *suite = &b->core->suite;
    uint8_t digest[DK_SHA256_LEN], key[DK_HMAC_LEN] = {0};
    struct dk_view under = dk_view_of(key, sizeof key);
    struct dk_view body = dk_view_of(b->request.body.p, b->request.body.n);
    struct dk_view canonical = dk_view_of(parts->canonical.p, parts->canonical.n);
    return dk_sha256(suite, body, digest, &b->err) == DK_OK &&
           dk_sha256(suite, canonical, digest, &b->err) == DK_OK &&
           dk_hmac_raw(suite, dk_view_of(parts->secret, parts->secret_n),
                       dk_view_of(parts->scope, 8), key) &&
           dk_hmac_raw(suite, under, dk_view_str(b->aws.region), key) &&
           dk_hmac_raw(suite, under, dk_view_str(SERVICE), key) &&
           dk_hmac_raw(suite, under, dk_view_str("aws4_request"), key) &&
           dk_hmac_raw(suite, under, dk_view_str(parts->text), key);
}

static bool measure_sign(struct bench_kms *b, size_t rounds, struct bench_result *out)
{
    struct parts parts;
    dk_buf_init(&parts.canonical, &b->core->world->mem, 2 * DK_HTTP_HEAD_MAX);
    bool ok = take_parts(b, &parts) == DK_OK && hash_parts(b, &parts);
    for (size_t i = 0; ok && i < rounds; i++) {
        double from = bench_now_s();
        for (size_t k = 0; k < SIGNATURES; k++) {
            ok = hash_parts(b, &parts) && ok;
        }
        double middle = bench_now_s();
        for (size_t k = 0; k < SIGNATURES; k++) {
            ok = sign(b) == DK_OK && ok;
        }
        b->yard[i] = middle - from;
        b->ours[i] = bench_now_s() - middle;
    }
    if (ok) {
        *out = sum_up(b, rounds, 1e6 / SIGNATURES);
    }
    dk_wipe(parts.secret, sizeof parts.secret);
    dk_buf_wipe(&parts.canonical);
    return ok;
}

/* ---- open and close -------------------------------------------------------------------------- */

static dk_rc read_setup(const struct cli *cli, struct dk_aws_setup *out, struct dk_err *err)
{
    const char *name;
    DK_TRY(dk_settings_provider(&cli->settings, &name, err));
    if (strcmp(name, "aws-kms") != 0) {
        return DK_FAIL(err, USAGE, "--kms wants AWS KMS: the master key is with the provider %s",
                       name);
    }
    if (dk_settings_is_set(&cli->settings, DK_OPT_PROXY)) {
        return DK_FAIL(err, USAGE, "--kms measures without a proxy: KMS_PROXY is set");
    }
    DK_TRY(dk_aws_setup_read(&cli->settings, &dk_mem_default, out, err));
    return out->kms.tls ? DK_OK
                        : DK_FAIL(err, USAGE, "--kms measures over TLS: the endpoint is http://%s",
                                  out->kms.authority);
}

bool cli_bench_has_kms(const struct cli *cli, int *code)
{
    struct dk_aws_setup setup = {.plan = {.mem = &dk_mem_default}};
    struct dk_err err;
    dk_err_clear(&err);
    bool has = read_setup(cli, &setup, &err) == DK_OK;
    if (!has) {
        *code = cli_fail_internal(cli, &err);
    }
    dk_aws_setup_clear(&setup);
    return has;
}

static dk_rc open_credentials(struct bench_kms *b)
{
    struct dk_http_setup http = {.world = b->core->world,
                                 .limits = dk_http_limits_default,
                                 .service = "AWS",
                                 .ca_file = dk_settings_str(&b->cli->settings, DK_OPT_CA_FILE)};
    static const int64_t no_skew;
    DK_TRY(dk_http_open(&http, &b->http, &b->err));
    struct dk_aws_credentials_setup setup = {.world = b->core->world,
                                             .suite = &b->core->suite,
                                             .arena = b->core->arena,
                                             .aws = &b->aws,
                                             .sts = b->http,
                                             .metadata = b->http,
                                             .skew_us = &no_skew};
    DK_TRY(dk_aws_credentials_open(&setup, &b->credentials, &b->err));
    return dk_aws_credentials_get(b->credentials, &b->keys, &b->err);
}

static dk_rc open_all(struct bench_kms *b)
{
    const struct dk_settings *settings = &b->cli->settings;
    struct dk_provider_setup setup = {.world = b->core->world,
                                      .suite = &b->core->suite,
                                      .arena = b->core->arena,
                                      .log = &b->core->log,
                                      .settings = settings};
    DK_TRY(dk_aws_setup_read(settings, &b->core->world->mem, &b->aws, &b->err));
    DK_TRY(dk_provider_find("aws-kms", &b->ops, &b->err));
    DK_TRY(b->ops->open(&setup, &b->provider, &b->err));
    DK_TRY(open_credentials(b));
    DK_TRY(dk_secret_new(b->core->arena, DK_SECRET_CELL, &b->key, &b->err));
    DK_TRY(
        dk_random_fill(b->core->world, dk_secret_expose_for_crypto(&b->key), DK_DATA_KEY, &b->err));
    b->key.n = DK_DATA_KEY;
    return build(b);
}

static void close_all(struct bench_kms *b)
{
    curl_easy_cleanup(b->easy);
    curl_slist_free_all(b->lines);
    if (b->request.head.mem != NULL) {
        dk_http_request_clear(&b->request);
    }
    if (b->keys != NULL) {
        dk_aws_credentials_put(b->credentials, b->keys);
    }
    dk_aws_credentials_close(b->credentials);
    dk_http_close(b->http);
    if (b->provider != NULL) {
        b->ops->close(b->provider);
    }
    dk_secret_free(b->core->arena, &b->key);
    dk_aws_setup_clear(&b->aws);
}

static bool measure_calls(const struct cli *cli, struct dekhand *d, size_t rounds,
                          struct cli_bench_kms *out)
{
    static struct bench_kms b;
    b = (struct bench_kms){.cli = cli, .core = &d->in->core};
    b.aws.plan.mem = &b.core->world->mem;
    dk_err_clear(&b.err);
    bool ok = open_all(&b) == DK_OK && measure_sign(&b, rounds, &out->sign) &&
              measure_wrap(&b, rounds, &out->wrap);
    if (!ok) {
        (void)cli_fail_internal(cli, &b.err);
    }
    close_all(&b);
    return ok;
}

bool cli_bench_kms(const struct cli *cli, struct dekhand *d, size_t rounds,
                   struct cli_bench_kms *out)
{
    rounds = rounds < ROUNDS_MAX ? rounds : ROUNDS_MAX;
    return measure_calls(cli, d, rounds, out) && !cli_interrupted() &&
           bench_kms_cache(cli, rounds, out);
}
