#include "support/http_ask.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "support/cloud.h"

/* The fake's names for what is asked, in scripts and counts. */
#define SERVICE "imds"
#define OPERATION "Token"

int64_t dk_ask_now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

struct dk_ask dk_ask_of(const struct dk_endpoint *to)
{
    struct dk_ask ask = {.to = to};
    dk_err_clear(&ask.err);
    return ask;
}

static dk_rc build(void *self, struct dk_http_request *out, struct dk_err *err)
{
    struct dk_ask *ask = self;
    if (ask->built < DK_ASKS_BUILT) {
        ask->built_ms[ask->built] = dk_ask_now_ms();
    }
    ask->built++;
    if (ask->build_fails != DK_OK) {
        return dk_err_set(err, ask->build_fails, __FILE__, __LINE__, "nothing to ask with");
    }
    out->to = ask->to;
    out->method = "PUT";
    snprintf(out->path, sizeof out->path, "/latest/api/token");
    return dk_http_add(out, "X-aws-ec2-metadata-token-ttl-seconds", "60", err);
}

static void keep(struct dk_view from, char *out, size_t cap)
{
    size_t n = from.n < cap - 1 ? from.n : cap - 1;
    if (n > 0) {
        memcpy(out, from.p, n);
    }
    out[n] = '\0';
}

/* AWS throttles with 400, others with 429. */
static bool is_throttled(const struct dk_ask *ask)
{
    return ask->status == 429 || strstr(ask->body, "Throttl") != NULL;
}

static enum dk_http_next judge(void *self, const struct dk_http_reply *reply, struct dk_err *err)
{
    struct dk_ask *ask = self;
    ask->judged++;
    ask->status = reply->status;
    ask->body_n = reply->body.n;
    keep(reply->head, ask->head, sizeof ask->head);
    keep(reply->body, ask->body, sizeof ask->body);
    if (reply->status == 0) {
        return err->rc == DK_E_UNREACHABLE ? DK_HTTP_LATER : DK_HTTP_DONE;
    }
    if (reply->status == 200) {
        return DK_HTTP_DONE;
    }
    if (is_throttled(ask)) {
        (void)DK_FAIL_BACKEND(err, THROTTLED, reply->status, "throttled");
        return DK_HTTP_LATER;
    }
    if (reply->status >= 500) {
        (void)DK_FAIL_BACKEND(err, UNREACHABLE, reply->status, "HTTP %ld", reply->status);
        return DK_HTTP_LATER;
    }
    (void)DK_FAIL_BACKEND(err, PROVIDER, reply->status, "HTTP %ld", reply->status);
    return DK_HTTP_DONE;
}

struct dk_http_call dk_ask_call(struct dk_ask *ask)
{
    return (struct dk_http_call){build, judge, ask, &ask->err};
}

dk_rc dk_ask_run(struct dk_http *http, struct dk_ask *ask)
{
    struct dk_http_call call = dk_ask_call(ask);
    dk_http_run(http, &call, 1);
    return ask->err.rc;
}

void dk_ask_script(const char *answer, int times)
{
    dk_cloud_script(SERVICE, OPERATION, answer, times);
}

int dk_ask_count(void)
{
    return dk_cloud_count(SERVICE "." OPERATION);
}

struct dk_endpoint dk_ask_endpoint(const char *url)
{
    static const char *const none[] = {NULL};
    const struct dk_endpoint_policy policy = {
        .kind = DK_ENDPOINT_SERVICE, .setting = "TEST_URL", .suffixes = none};
    struct dk_endpoint to;
    struct dk_err err;
    dk_err_clear(&err);
    if (dk_endpoint_parse(url, &policy, &to, &err) != DK_OK) {
        fprintf(stderr, "%s: %s\n", url, err.text);
        abort();
    }
    return to;
}

/* ---- the desk -------------------------------------------------------------------------------- */

const struct dk_http_limits dk_ask_quick = {
    .tries = 3,
    .connect_ms = 10000,
    .try_ms = 10000,
    .total_ms = 20000,
    .wait_ms = 20,
    .wait_max_ms = 60,
    .parallel = 8,
    .budget = DK_BUDGET,
};

struct dk_http *dk_ask_desk_http(struct dk_ask_desk *desk, struct dk_http_limits limits,
                                 const char *ca_file, const char *proxy)
{
    const struct dk_http_setup setup = {&desk->w.world, limits, "the service", ca_file, proxy};
    struct dk_http *out = NULL;
    struct dk_err err;
    dk_err_clear(&err);
    if (dk_http_open(&setup, &out, &err) != DK_OK) {
        fprintf(stderr, "http_ask: %s\n", err.text);
        abort();
    }
    return out;
}

void dk_ask_desk_reopen(struct dk_ask_desk *desk, struct dk_http_limits limits)
{
    dk_http_close(desk->http);
    desk->http = dk_ask_desk_http(desk, limits, dk_cloud("FAKE_CA"), NULL);
}

void dk_ask_desk_open(struct dk_ask_desk *desk, struct dk_http_limits limits)
{
    memset(desk, 0, sizeof *desk);
    dk_test_world_init(&desk->w);
    dk_cloud_reset();
    desk->tls = dk_ask_endpoint(dk_cloud("FAKE_TLS"));
    desk->plain = dk_ask_endpoint(dk_cloud("FAKE_PLAIN"));
    dk_ask_desk_reopen(desk, limits);
}

bool dk_ask_desk_close(struct dk_ask_desk *desk)
{
    dk_http_close(desk->http);
    desk->http = NULL;
    return desk->w.live == 0;
}
