#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

/* When net/http asks again, how often, how many at once, and when it leaves a service alone. */
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include "support/cloud.h"
#include "support/expect.h"
#include "support/http_ask.h"

static struct dk_ask_desk desk;

static const struct dk_http_limits quick = {
    .tries = 3,
    .connect_ms = 1000,
    .try_ms = 1500,
    .total_ms = 4000,
    .wait_ms = 20,
    .wait_max_ms = 60,
    .parallel = 8,
    .budget = DK_BUDGET,
};

static int begin(void **state)
{
    (void)state;
    dk_ask_desk_open(&desk, quick);
    return 0;
}

static int end(void **state)
{
    (void)state;
    assert_true(dk_ask_desk_close(&desk));
    return 0;
}

/* ---- one that fails and then does not (F26) -------------------------------------------------- */

static void F26_what_passes_is_asked_again_and_comes(void **state)
{
    (void)state;
    static const char *const faults[] = {
        "{\"fault\":\"reset\"}", "{\"fault\":\"close\"}", "{\"fault\":\"html500\"}",
        "{\"fault\":\"html500\",\"status\":503}", "{\"fault\":\"throttle\"}"};
    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++) {
        dk_cloud_reset();
        /* On an old connection that ends libcurl itself tries again. */
        dk_ask_desk_reopen(&desk, quick);
        dk_ask_script(faults[i], 2);
        struct dk_ask ask = dk_ask_of(&desk.tls);
        if (dk_ask_run(desk.http, &ask) != DK_OK) {
            fail_msg("%s: %s", faults[i], ask.err.text);
        }
        assert_int_equal(dk_ask_count(), 3);
        assert_int_equal(ask.built, 3);
        assert_true(ask.built_ms[1] - ask.built_ms[0] <= 20 + 400); /* a busy machine's grace */
        assert_true(ask.built_ms[2] - ask.built_ms[1] <= 40 + 400);
    }
}

static void F26_what_stays_is_told_after_the_last_try(void **state)
{
    (void)state;
    static const struct {
        const char *fault;
        dk_rc rc;
    } cases[] = {{"{\"fault\":\"reset\"}", DK_E_UNREACHABLE},
                 {"{\"fault\":\"close\"}", DK_E_UNREACHABLE},
                 {"{\"fault\":\"html500\"}", DK_E_UNREACHABLE},
                 {"{\"fault\":\"throttle\"}", DK_E_THROTTLED}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        dk_cloud_reset();
        dk_ask_desk_reopen(&desk, quick);
        dk_ask_script(cases[i].fault, -1);
        struct dk_ask ask = dk_ask_of(&desk.tls);
        assert_int_equal(dk_ask_run(desk.http, &ask), cases[i].rc);
        assert_int_equal(dk_ask_count(), 3);
        assert_int_equal(ask.judged, 3);
    }
}

static void F28_what_will_not_pass_is_asked_once(void **state)
{
    (void)state;
    dk_ask_script("{\"status\":403,\"body\":\"no\"}", -1);
    struct dk_ask ask = dk_ask_of(&desk.tls);
    assert_int_equal(dk_ask_run(desk.http, &ask), DK_E_PROVIDER);
    assert_int_equal(dk_ask_count(), 1);
}

/* ---- time ------------------------------------------------------------------------------------ */

static void F26_who_hangs_is_left_in_time(void **state)
{
    (void)state;
    struct dk_http_limits limits = quick;
    limits.try_ms = 150;
    limits.total_ms = 400;
    dk_ask_desk_reopen(&desk, limits);
    dk_ask_script("{\"fault\":\"hang\"}", -1);
    int64_t from = dk_ask_now_ms();
    struct dk_ask ask = dk_ask_of(&desk.tls);
    assert_int_equal(dk_ask_run(desk.http, &ask), DK_E_UNREACHABLE);
    int64_t took = dk_ask_now_ms() - from;
    assert_true(took >= 290 && took < 400 + 400);
    assert_int_equal(ask.built, 3); /* one hang leaves room for a second try */
    (void)dk_cloud_control("release", "{}");
}

static void F26_bytes_one_by_one_do_not_prolong_it(void **state)
{
    (void)state;
    struct dk_http_limits limits = quick;
    limits.tries = 1;
    limits.try_ms = 200;
    dk_ask_desk_reopen(&desk, limits);
    dk_ask_script("{\"fault\":\"drip\",\"seconds\":0.02}", -1);
    int64_t from = dk_ask_now_ms();
    struct dk_ask ask = dk_ask_of(&desk.tls);
    assert_int_equal(dk_ask_run(desk.http, &ask), DK_E_UNREACHABLE);
    assert_true(dk_ask_now_ms() - from < 200 + 400);
}

static void a_service_asks_to_wait_and_is_heard(void **state)
{
    (void)state;
    static const char *const answers[] = {"{\"fault\":\"retry_after\",\"seconds\":1}",
                                          "{\"fault\":\"retry_after\",\"date\":2}"};
    for (size_t i = 0; i < 2; i++) { /* a date has no fractions: between one and two seconds */
        dk_ask_script(answers[i], 1);
        struct dk_ask ask = dk_ask_of(&desk.tls);
        assert_int_equal(dk_ask_run(desk.http, &ask), DK_OK);
        int64_t waited = ask.built_ms[1] - ask.built_ms[0];
        assert_true(waited >= 1000 && waited <= 2000 + 400);
    }
}

/* A clock of ours that is wrong does not matter: the date counts from the answer's own. */
static void a_date_to_wait_for_is_of_the_services_clock(void **state)
{
    (void)state;
    (void)dk_cloud_control("clock", "{\"offset\":-86400}");
    dk_ask_script("{\"fault\":\"retry_after\",\"date\":2}", 1);
    struct dk_ask ask = dk_ask_of(&desk.tls);
    assert_int_equal(dk_ask_run(desk.http, &ask), DK_OK);
    int64_t waited = ask.built_ms[1] - ask.built_ms[0];
    assert_true(waited >= 1000 && waited <= 2000 + 400);
}

static void F27_a_wait_that_is_longer_than_the_call_ends_it_at_once(void **state)
{
    (void)state;
    static const char *const answers[] = {"{\"fault\":\"retry_after\",\"seconds\":5}",
                                          "{\"fault\":\"retry_after\",\"seconds\":600}",
                                          "{\"fault\":\"retry_after\",\"seconds\":999999}",
                                          "{\"fault\":\"retry_after\",\"date\":86400}"};
    for (size_t i = 0; i < sizeof answers / sizeof answers[0]; i++) {
        dk_cloud_reset();
        dk_ask_script(answers[i], -1);
        int64_t from = dk_ask_now_ms();
        struct dk_ask ask = dk_ask_of(&desk.tls);
        assert_int_equal(dk_ask_run(desk.http, &ask), DK_E_THROTTLED);
        assert_true(dk_ask_now_ms() - from < 1000);
        assert_int_equal(dk_ask_count(), 1);
    }
}

static void a_wait_that_cannot_be_read_is_none(void **state)
{
    (void)state;
    static const char *const values[] = {"", "-5", "soon", "99999999999999999999", "1 2"};
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        char answer[160];
        snprintf(answer, sizeof answer, "{\"status\":429,\"headers\":{\"Retry-After\":\"%s\"}}",
                 values[i]);
        dk_ask_script(answer, 1);
        struct dk_ask ask = dk_ask_of(&desk.tls);
        assert_int_equal(dk_ask_run(desk.http, &ask), DK_OK);
        assert_true(ask.built_ms[1] - ask.built_ms[0] <= 20 + 400);
    }
}

/* ---- the budget (F27) ------------------------------------------------------------------------ */

static void F27_R15_throttled_calls_soon_ask_once_each(void **state)
{
    (void)state;
    struct dk_http_limits limits = quick;
    limits.budget = 50;
    limits.wait_ms = 1;
    dk_ask_desk_reopen(&desk, limits);
    dk_ask_script("{\"fault\":\"throttle\"}", -1);
    for (int i = 0; i < 60; i++) {
        struct dk_ask ask = dk_ask_of(&desk.tls);
        assert_int_equal(dk_ask_run(desk.http, &ask), DK_E_THROTTLED);
    }
    assert_int_equal(dk_ask_count(), 60 + 50 / DK_BUDGET_RETRY); /* not 180: no storm */
}

static void a_success_gives_back_what_its_retry_cost(void **state)
{
    (void)state;
    struct dk_http_limits limits = quick;
    limits.budget = DK_BUDGET_RETRY;
    limits.wait_ms = 1;
    dk_ask_desk_reopen(&desk, limits);
    for (int i = 0; i < 5; i++) {
        dk_ask_script("{\"fault\":\"throttle\"}", 1);
        struct dk_ask ask = dk_ask_of(&desk.tls);
        assert_int_equal(dk_ask_run(desk.http, &ask), DK_OK);
        assert_int_equal(ask.built, 2);
    }
    dk_ask_script("{\"status\":403}", 1); /* an answer, and no success */
    dk_ask_script("{\"fault\":\"throttle\"}", 2);
    struct dk_ask ask = dk_ask_of(&desk.tls), broke = dk_ask_of(&desk.tls);
    assert_int_equal(dk_ask_run(desk.http, &ask), DK_E_PROVIDER);
    assert_int_equal(dk_ask_run(desk.http, &broke), DK_E_THROTTLED);
    assert_int_equal(broke.built, 2);
}

static void a_timeout_costs_twice_as_much(void **state)
{
    (void)state;
    struct dk_http_limits limits = quick;
    limits.try_ms = 100;
    limits.budget = DK_BUDGET_TIMEOUT;
    dk_ask_desk_reopen(&desk, limits);
    dk_ask_script("{\"fault\":\"hang\"}", -1);
    struct dk_ask ask = dk_ask_of(&desk.tls);
    assert_int_equal(dk_ask_run(desk.http, &ask), DK_E_UNREACHABLE);
    assert_int_equal(ask.built, 2);
    (void)dk_cloud_control("release", "{}");
}

static void a_budget_of_nothing_is_no_budget(void **state)
{
    (void)state;
    struct dk_http_limits limits = quick;
    limits.budget = 0;
    dk_ask_desk_reopen(&desk, limits);
    dk_ask_script("{\"fault\":\"html500\"}", -1);
    for (int i = 0; i < 12; i++) { /* and no breaker */
        struct dk_ask ask = dk_ask_of(&desk.tls);
        assert_int_equal(dk_ask_run(desk.http, &ask), DK_E_UNREACHABLE);
        assert_int_equal(ask.built, 3);
    }
}

/* ---- the breaker (F26) ----------------------------------------------------------------------- */

static void fail_until_it_opens(void)
{
    dk_ask_script("{\"fault\":\"html500\"}", 20);
    struct dk_http_limits limits = quick;
    limits.tries = 1;
    dk_ask_desk_reopen(&desk, limits);
    for (int i = 0; i < DK_BREAKER_WINDOW; i++) {
        struct dk_ask ask = dk_ask_of(&desk.tls);
        assert_int_equal(dk_ask_run(desk.http, &ask), DK_E_UNREACHABLE);
    }
    assert_int_equal(dk_ask_count(), DK_BREAKER_WINDOW);
}

static void F26_a_service_that_is_down_is_left_alone(void **state)
{
    (void)state;
    fail_until_it_opens();
    struct dk_ask ask = dk_ask_of(&desk.tls);
    assert_int_equal(dk_ask_run(desk.http, &ask), DK_E_UNREACHABLE);
    DK_TEST_SAYS(ask.err, "it is asked again in 5 s");
    assert_int_equal(ask.built, 0);
    assert_int_equal(dk_ask_count(), DK_BREAKER_WINDOW);
    desk.w.mono_ms += 5000;
    struct dk_ask probe = dk_ask_of(&desk.tls);
    assert_int_equal(dk_ask_run(desk.http, &probe), DK_OK);
    assert_int_equal(dk_ask_count(), DK_BREAKER_WINDOW + 1);
    struct dk_ask after = dk_ask_of(&desk.tls);
    assert_int_equal(dk_ask_run(desk.http, &after), DK_OK);
}

/* Its owner had nothing to send: that says nothing of the service. */
static void a_probe_that_is_not_sent_does_not_close_it(void **state)
{
    (void)state;
    fail_until_it_opens();
    desk.w.mono_ms += 5000;
    struct dk_ask ask = dk_ask_of(&desk.tls);
    ask.build_fails = DK_E_PROVIDER_DENIED;
    assert_int_equal(dk_ask_run(desk.http, &ask), DK_E_PROVIDER_DENIED);
    dk_ask_script("{\"fault\":\"html500\"}", 1);
    struct dk_ask probe = dk_ask_of(&desk.tls), next = dk_ask_of(&desk.tls);
    assert_int_equal(dk_ask_run(desk.http, &probe), DK_E_UNREACHABLE);
    assert_int_equal(probe.built, 1);
    assert_int_equal(dk_ask_run(desk.http, &next), DK_E_UNREACHABLE);
    assert_int_equal(next.built, 0);
    DK_TEST_SAYS(next.err, "it is asked again in 10 s");
}

static void what_is_not_sent_is_no_success(void **state)
{
    (void)state;
    struct dk_http_limits limits = quick;
    limits.tries = 1;
    dk_ask_desk_reopen(&desk, limits);
    dk_ask_script("{\"fault\":\"html500\"}", 20);
    for (int i = 0; i < DK_BREAKER_WINDOW; i++) {
        struct dk_ask unsent[3];
        for (int k = 0; k < 3; k++) {
            unsent[k] = dk_ask_of(&desk.tls);
            unsent[k].build_fails = DK_E_CONFIG;
            assert_int_equal(dk_ask_run(desk.http, &unsent[k]), DK_E_CONFIG);
        }
        struct dk_ask ask = dk_ask_of(&desk.tls);
        assert_int_equal(dk_ask_run(desk.http, &ask), DK_E_UNREACHABLE);
    }
    struct dk_ask ask = dk_ask_of(&desk.tls);
    assert_int_equal(dk_ask_run(desk.http, &ask), DK_E_UNREACHABLE);
    assert_int_equal(ask.built, 0);
}

static void F28_denials_do_not_open_it(void **state)
{
    (void)state;
    dk_ask_script("{\"status\":403}", -1);
    for (int i = 0; i < 3 * DK_BREAKER_WINDOW; i++) {
        struct dk_ask ask = dk_ask_of(&desk.tls);
        assert_int_equal(dk_ask_run(desk.http, &ask), DK_E_PROVIDER);
        assert_int_equal(ask.built, 1);
    }
}

/* ---- many ------------------------------------------------------------------------------------ */

enum { MANY = 64 };

static void run_many(struct dk_ask *asks, size_t count)
{
    struct dk_http_call calls[MANY];
    for (size_t i = 0; i < count; i++) {
        asks[i] = dk_ask_of(&desk.tls);
        calls[i] = dk_ask_call(&asks[i]);
    }
    dk_http_run(desk.http, calls, count);
}

static void no_more_are_on_their_way_than_may_be(void **state)
{
    (void)state;
    struct dk_ask asks[MANY];
    (void)dk_cloud_control("latency", "{\"service\":\"imds\",\"seconds\":0.05}");
    int64_t from = dk_ask_now_ms();
    run_many(asks, MANY);
    int64_t took = dk_ask_now_ms() - from;
    for (size_t i = 0; i < MANY; i++) {
        assert_int_equal(asks[i].err.rc, DK_OK);
        assert_int_equal(asks[i].status, 200);
    }
    assert_true(took >= MANY / 8 * 50 && took < MANY * 50);
    assert_int_equal(dk_cloud_count("connections"), 8);
    run_many(asks, MANY); /* on the same ones */
    assert_int_equal(dk_cloud_count("connections"), 8);
}

static void each_of_many_ends_as_itself(void **state)
{
    (void)state;
    struct dk_ask asks[MANY];
    dk_ask_script("{\"status\":403}", 10);
    run_many(asks, MANY);
    size_t denied = 0;
    for (size_t i = 0; i < MANY; i++) {
        assert_int_equal(asks[i].judged, 1);
        denied += asks[i].err.rc == DK_E_PROVIDER;
        assert_true(asks[i].err.rc == DK_OK || asks[i].err.rc == DK_E_PROVIDER);
    }
    assert_int_equal(denied, 10);
    dk_http_run(desk.http, NULL, 0);
}

static void F26_many_at_once_when_all_fail_is_no_storm(void **state)
{
    (void)state;
    struct dk_ask asks[MANY];
    dk_ask_script("{\"fault\":\"html500\"}", -1);
    run_many(asks, MANY);
    for (size_t i = 0; i < MANY; i++) {
        assert_int_equal(asks[i].err.rc, DK_E_UNREACHABLE);
    }
    /* And what was on its way when it opened. */
    assert_true(dk_ask_count() <= DK_BREAKER_WINDOW + 8);
}

static void the_pace_is_kept(void **state)
{
    (void)state;
    struct dk_ask asks[40];
    struct dk_http_limits limits = quick;
    limits.per_second = 50;
    dk_ask_desk_reopen(&desk, limits);
    int64_t from = dk_ask_now_ms();
    run_many(asks, 40);
    assert_true(dk_ask_now_ms() - from >= 39 * 20 - 2);
    assert_true(dk_ask_now_ms() - from < 39 * 20 + 1000);
    int64_t first = asks[0].built_ms[0], last = asks[39].built_ms[0];
    assert_true(last - first >= 39 * 20 - 2);
    dk_ask_script("{\"fault\":\"throttle\"}", 1);
    struct dk_ask again = dk_ask_of(&desk.tls);
    assert_int_equal(dk_ask_run(desk.http, &again), DK_OK); /* a retry takes its turn */
    assert_true(again.built_ms[1] - again.built_ms[0] >= 19);
}

enum { THREADS = 8, EACH = 20 };

static void *ask_often(void *arg)
{
    struct dk_ask *asks = arg;
    for (int i = 0; i < EACH; i++) {
        asks[i] = dk_ask_of(&desk.tls);
        (void)dk_ask_run(desk.http, &asks[i]);
    }
    return NULL;
}

static void threads_share_it(void **state)
{
    (void)state;
    static struct dk_ask asks[THREADS][EACH];
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, ask_often, asks[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        for (int k = 0; k < EACH; k++) {
            assert_int_equal(asks[i][k].err.rc, DK_OK);
        }
    }
    assert_int_equal(dk_ask_count(), THREADS * EACH);
    assert_true(dk_cloud_count("connections") <= THREADS);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(F26_what_passes_is_asked_again_and_comes),
        TEST(F26_what_stays_is_told_after_the_last_try),
        TEST(F28_what_will_not_pass_is_asked_once),
        TEST(F26_who_hangs_is_left_in_time),
        TEST(F26_bytes_one_by_one_do_not_prolong_it),
        TEST(a_service_asks_to_wait_and_is_heard),
        TEST(a_date_to_wait_for_is_of_the_services_clock),
        TEST(F27_a_wait_that_is_longer_than_the_call_ends_it_at_once),
        TEST(a_wait_that_cannot_be_read_is_none),
        TEST(F27_R15_throttled_calls_soon_ask_once_each),
        TEST(a_success_gives_back_what_its_retry_cost),
        TEST(a_timeout_costs_twice_as_much),
        TEST(a_budget_of_nothing_is_no_budget),
        TEST(F26_a_service_that_is_down_is_left_alone),
        TEST(a_probe_that_is_not_sent_does_not_close_it),
        TEST(what_is_not_sent_is_no_success),
        TEST(F28_denials_do_not_open_it),
        TEST(no_more_are_on_their_way_than_may_be),
        TEST(each_of_many_ends_as_itself),
        TEST(F26_many_at_once_when_all_fail_is_no_storm),
        TEST(the_pace_is_kept),
        TEST(threads_share_it),
    };
    return cmocka_run_group_tests_name("http_retry", tests, NULL, NULL);
}
