/* The course of calls: begun, answered, asked again, over. One thread, many requests. */
#include <time.h>

#include "net/lane.h"

struct run {
    struct dk_http *http;
    struct dk_lane *lane;
    struct dk_http_call *calls;
    size_t count;
    size_t begun;
    struct dk_transfer *transfers; /* as many as may be on their way */
    size_t places;
    size_t active;
    bool paced; /* no call may begin now; the next may at .. */
    int64_t paced_until;
};

/* Of the machine, not of the world: a wait has to end also where a test's clock stands still. */
static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* ---- leave to begin -------------------------------------------------------------------------- */

static dk_rc may_begin(struct dk_http *http, struct dk_err *err)
{
    int64_t wait = 0;
    pthread_mutex_lock(&http->lock);
    bool may = http->setup.limits.budget == 0 ||
               dk_breaker_may(&http->breaker, dk_mono_ms(http->setup.world), &wait);
    pthread_mutex_unlock(&http->lock);
    return may ? DK_OK
               : DK_FAIL(err, UNREACHABLE,
                         "%s failed at half of its last %d calls: it is asked again in %lld s",
                         http->setup.service, DK_BREAKER_WINDOW, (long long)(wait + 999) / 1000);
}

/* 0, or how long the call has to wait for its turn. */
static int64_t take_turn(struct dk_http *http)
{
    unsigned rate = http->setup.limits.per_second;
    if (rate == 0) {
        return 0;
    }
    pthread_mutex_lock(&http->lock);
    if (http->pace.at_ms == 0) {
        dk_pace_init(&http->pace, rate, now_ms());
    }
    int64_t wait = dk_pace_take(&http->pace, now_ms());
    pthread_mutex_unlock(&http->lock);
    return wait;
}

/* An answer below 500 is one of a service that works, whatever it says. */
static void note_answer(struct dk_http *http, long status)
{
    bool failed = status == 0 || status >= 500;
    pthread_mutex_lock(&http->lock);
    dk_breaker_note(&http->breaker, failed, dk_mono_ms(http->setup.world));
    pthread_mutex_unlock(&http->lock);
}

/* A success gives back what its retry cost; who is throttled, or denied, has gained nothing. */
static void note_success(struct dk_transfer *transfer)
{
    struct dk_http *http = transfer->http;
    pthread_mutex_lock(&http->lock);
    dk_budget_give(&http->budget, transfer->paid > 0 ? transfer->paid : 1);
    pthread_mutex_unlock(&http->lock);
}

/* Nothing went out: that says nothing of the service. */
static void note_unsent(struct dk_http *http)
{
    pthread_mutex_lock(&http->lock);
    dk_breaker_let_go(&http->breaker);
    pthread_mutex_unlock(&http->lock);
}

static bool pay_for_retry(struct dk_transfer *transfer, bool timed_out)
{
    struct dk_http *http = transfer->http;
    int cost = timed_out ? DK_BUDGET_TIMEOUT : DK_BUDGET_RETRY;
    if (http->setup.limits.budget == 0) {
        return true;
    }
    pthread_mutex_lock(&http->lock);
    bool paid = dk_budget_take(&http->budget, cost);
    transfer->paid = paid ? cost : 0;
    pthread_mutex_unlock(&http->lock);
    return paid;
}

/* ---- one call -------------------------------------------------------------------------------- */

static void finish(struct run *run, struct dk_transfer *transfer)
{
    dk_transfer_end(transfer);
    dk_http_request_clear(&transfer->request);
    dk_buf_wipe(&transfer->body);
    dk_buf_wipe(&transfer->head);
    transfer->call = NULL;
    run->active--;
}

/* E_..: the call is over before anything went out. */
static dk_rc try_once(struct dk_transfer *transfer, struct dk_err *err)
{
    const struct dk_http_limits *limits = &transfer->http->setup.limits;
    int64_t left = transfer->end_ms - now_ms();
    bool again = transfer->tried++ > 0;
    transfer->due_ms = 0;
    /* No time is left, or nobody asks any more: what the try before ended with is the cause. */
    if (again && (left <= 0 || may_begin(transfer->http, err) != DK_OK)) {
        *err = transfer->last;
        return err->rc;
    }
    if (!again) {
        DK_TRY(may_begin(transfer->http, err));
    }
    dk_http_request_clear(&transfer->request);
    dk_rc rc = transfer->call->build(transfer->call->self, &transfer->request, err);
    if (rc == DK_OK) {
        left = left < 1 ? 1 : left;
        rc = dk_transfer_begin(transfer, left < limits->try_ms ? left : limits->try_ms, err);
    }
    if (rc != DK_OK) {
        note_unsent(transfer->http);
    }
    return rc;
}

static void begin(struct run *run, struct dk_transfer *transfer, struct dk_http_call *call)
{
    const struct dk_mem *mem = &run->http->setup.world->mem;
    *transfer = (struct dk_transfer){.http = run->http,
                                     .lane = run->lane,
                                     .call = call,
                                     .end_ms = now_ms() + run->http->setup.limits.total_ms};
    dk_http_request_init(&transfer->request, mem);
    dk_buf_init(&transfer->head, mem, DK_HTTP_HEAD_MAX);
    dk_buf_init(&transfer->body, mem, DK_HTTP_REPLY_MAX);
    run->active++;
    if (try_once(transfer, call->err) != DK_OK) {
        finish(run, transfer);
    }
}

/* What the service asks for (seconds or a date), else full jitter. */
static int64_t wait_of(const struct dk_transfer *transfer, const struct dk_http_reply *reply)
{
    const struct dk_http_setup *setup = &transfer->http->setup;
    char text[64];
    uint32_t random = UINT32_MAX;
    struct dk_err ignored;
    dk_err_clear(&ignored);
    if (dk_random_fill(setup->world, (uint8_t *)&random, sizeof random, &ignored) != DK_OK) {
        random = UINT32_MAX; /* the whole wait */
    }
    int64_t wait = dk_retry_wait_ms(setup->limits.wait_ms, setup->limits.wait_max_ms,
                                    transfer->tried - 1, random);
    if (reply->status == 0 || !dk_http_header(reply, "retry-after", text, sizeof text)) {
        return wait;
    }
    int64_t date_us = 0, asked = 0;
    if (strspn(text, "0123456789") == strlen(text) && strlen(text) < 7) {
        for (const char *p = text; *p != '\0'; p++) {
            asked = asked * 10 + (*p - '0') * 1000;
        }
    } else if (dk_http_date(reply, &date_us)) {
        time_t until = curl_getdate(text, NULL);
        asked = until > 0 && until < INT64_MAX / 1000 ? (int64_t)until * 1000 - date_us / 1000 : 0;
    }
    return asked > wait ? asked : wait;
}

/* True when the call goes on: then its error is no error yet. */
static bool goes_on(struct dk_transfer *transfer, enum dk_http_next next, CURLcode code,
                    const struct dk_http_reply *reply)
{
    int64_t now = now_ms();
    if (next == DK_HTTP_DONE || transfer->tried >= transfer->http->setup.limits.tries) {
        return false;
    }
    int64_t wait = next == DK_HTTP_LATER ? wait_of(transfer, reply) : 0;
    if (now + wait >= transfer->end_ms || !pay_for_retry(transfer, dk_transfer_timed_out(code))) {
        return false;
    }
    transfer->due_ms = now + wait;
    return true;
}

/* What went wrong on this side says nothing of the service. */
static bool is_ours(const struct dk_transfer *transfer, const struct dk_err *err)
{
    return transfer->forbidden || err->rc == DK_E_CONFIG || err->rc == DK_E_NOMEM;
}

static void answered(struct run *run, struct dk_transfer *transfer, CURLcode code)
{
    struct dk_http_reply reply = {0};
    struct dk_http_call *call = transfer->call;
    if (code == CURLE_OK) {
        curl_easy_getinfo(transfer->easy, CURLINFO_RESPONSE_CODE, &reply.status);
        reply.head = dk_view_of(transfer->head.p, transfer->head.n);
        reply.body = dk_view_of(transfer->body.p, transfer->body.n);
    } else {
        (void)dk_transfer_explain(transfer, code, call->err);
    }
    if (is_ours(transfer, call->err)) {
        note_unsent(transfer->http);
    } else {
        note_answer(transfer->http, reply.status);
    }
    enum dk_http_next next = call->judge(call->self, &reply, call->err);
    if (dk_transfer_broke_off(transfer, code)) {
        next = DK_HTTP_LATER; /* as when none comes */
    }
    if (next == DK_HTTP_DONE && call->err->rc == DK_OK) {
        note_success(transfer);
    }
    if (!goes_on(transfer, next, code, &reply)) {
        finish(run, transfer);
        return;
    }
    dk_transfer_end(transfer);
    transfer->last = *call->err;
    dk_err_clear(call->err);
}

/* ---- all of them ----------------------------------------------------------------------------- */

static struct dk_transfer *free_place(struct run *run)
{
    for (size_t i = 0; i < run->places; i++) {
        if (run->transfers[i].call == NULL) {
            return &run->transfers[i];
        }
    }
    return NULL;
}

static void begin_some(struct run *run)
{
    run->paced = false;
    while (run->begun < run->count && run->active < run->places) {
        int64_t wait = take_turn(run->http);
        if (wait > 0) {
            run->paced = true;
            run->paced_until = now_ms() + wait;
            return;
        }
        begin(run, free_place(run), &run->calls[run->begun++]);
    }
}

static void begin_again(struct run *run)
{
    int64_t now = now_ms();
    for (size_t i = 0; i < run->places; i++) {
        struct dk_transfer *transfer = &run->transfers[i];
        if (transfer->call == NULL || transfer->easy != NULL || transfer->due_ms > now) {
            continue;
        }
        int64_t wait = take_turn(run->http);
        if (wait > 0) {
            transfer->due_ms = now + wait;
        } else if (try_once(transfer, transfer->call->err) != DK_OK) {
            finish(run, transfer);
        }
    }
}

static int poll_ms(const struct run *run)
{
    int64_t now = now_ms(), least = 1000;
    for (size_t i = 0; i < run->places; i++) {
        const struct dk_transfer *transfer = &run->transfers[i];
        if (transfer->call != NULL && transfer->easy == NULL && transfer->due_ms - now < least) {
            least = transfer->due_ms - now;
        }
    }
    if (run->paced && run->paced_until - now < least) {
        least = run->paced_until - now;
    }
    return (int)(least > 0 ? least : 0);
}

static void take_answers(struct run *run)
{
    int left = 0;
    CURLMsg *message;
    while ((message = curl_multi_info_read(run->lane->multi, &left)) != NULL) {
        char *arg = NULL;
        CURLcode code = message->data.result;
        if (message->msg == CURLMSG_DONE &&
            curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &arg) == CURLE_OK) {
            answered(run, (struct dk_transfer *)(void *)arg, code);
        }
    }
}

static void work(struct run *run)
{
    for (;;) {
        int running = 0;
        begin_again(run);
        begin_some(run);
        if (run->active == 0 && run->begun == run->count) {
            return;
        }
        curl_multi_perform(run->lane->multi, &running);
        size_t before = run->active;
        take_answers(run);
        if (run->active == before) {
            curl_multi_poll(run->lane->multi, NULL, 0, poll_ms(run), NULL);
        }
    }
}

static void fail_all(struct run *run)
{
    for (size_t i = 0; i < run->count; i++) {
        (void)DK_FAIL(run->calls[i].err, NOMEM, "no memory for a call of %s",
                      run->http->setup.service);
    }
}

void dk_http_run(struct dk_http *http, struct dk_http_call *calls, size_t count)
{
    const struct dk_mem *mem = &http->setup.world->mem;
    size_t places = count < http->setup.limits.parallel ? count : http->setup.limits.parallel;
    struct dk_transfer one;
    struct run run = {.http = http, .calls = calls, .count = count, .places = places};
    memset(&one, 0, sizeof one);
    run.transfers = places == 1 ? &one : dk_mem_zalloc(mem, places * sizeof *run.transfers);
    run.lane = run.transfers != NULL ? dk_lane_take(http) : NULL;
    if (run.lane == NULL) {
        fail_all(&run);
    } else {
        work(&run);
        dk_lane_give(http, run.lane);
    }
    if (run.transfers != &one) {
        dk_mem_free(mem, run.transfers);
    }
}
