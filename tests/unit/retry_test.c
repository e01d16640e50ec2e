#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include "net/retry.h"
#include "support/expect.h"

/* ---- the budget ------------------------------------------------------------------------------ */

static void the_budget_pays_a_hundred_retries_and_no_more(void **state)
{
    (void)state;
    struct dk_budget budget = {DK_BUDGET, DK_BUDGET};
    int paid = 0;
    while (dk_budget_take(&budget, DK_BUDGET_RETRY)) {
        paid++;
    }
    assert_int_equal(paid, 100);
    assert_int_equal(budget.tokens, 0);
    dk_budget_give(&budget, 4);
    assert_false(dk_budget_take(&budget, DK_BUDGET_RETRY));
    assert_int_equal(budget.tokens, 4); /* what is not paid costs nothing */
    dk_budget_give(&budget, 1);
    assert_true(dk_budget_take(&budget, DK_BUDGET_RETRY));
}

static void the_budget_does_not_grow_past_its_most(void **state)
{
    (void)state;
    struct dk_budget budget = {DK_BUDGET - 2, DK_BUDGET};
    dk_budget_give(&budget, DK_BUDGET_TIMEOUT);
    assert_int_equal(budget.tokens, DK_BUDGET);
}

/* ---- the breaker ----------------------------------------------------------------------------- */

static void note(struct dk_breaker *breaker, bool failed, int times, int64_t now_ms)
{
    for (int i = 0; i < times; i++) {
        dk_breaker_note(breaker, failed, now_ms);
    }
}

static void may(struct dk_breaker *breaker, int64_t now_ms)
{
    int64_t wait = -1;
    assert_true(dk_breaker_may(breaker, now_ms, &wait));
    assert_int_equal(wait, 0);
}

static void may_not(struct dk_breaker *breaker, int64_t now_ms, int64_t wait_ms)
{
    int64_t wait = -1;
    assert_false(dk_breaker_may(breaker, now_ms, &wait));
    assert_int_equal(wait, wait_ms);
}

static void F26_it_opens_at_half_of_the_last_20(void **state)
{
    (void)state;
    struct dk_breaker breaker = {0};
    note(&breaker, true, 19, 1000);
    may(&breaker, 1000); /* 19 calls are no window */
    note(&breaker, true, 1, 1000);
    may_not(&breaker, 1000, 5000);

    breaker = (struct dk_breaker){0};
    note(&breaker, false, 11, 1000);
    note(&breaker, true, 9, 1000);
    may(&breaker, 1000); /* 9 of 20 */
    note(&breaker, true, 1, 1000);
    may_not(&breaker, 1000, 5000); /* the oldest success is out of the window: 10 of 20 */
}

static void F26_old_failures_leave_the_window(void **state)
{
    (void)state;
    struct dk_breaker breaker = {0};
    for (int i = 0; i < 1000; i++) {
        note(&breaker, true, 9, 1000);
        note(&breaker, false, 11, 1000);
        may(&breaker, 1000);
    }
}

static void F26_one_call_tries_after_5_seconds(void **state)
{
    (void)state;
    struct dk_breaker breaker = {0};
    note(&breaker, true, 20, 1000);
    may_not(&breaker, 5999, 1);
    may(&breaker, 6000);
    may_not(&breaker, 6000, 1); /* the others wait for what it finds */
    may_not(&breaker, 999999, 1);
    dk_breaker_note(&breaker, false, 6100);
    may(&breaker, 6100);
    may(&breaker, 6100);
    note(&breaker, true, 19, 7000); /* and the window begins anew */
    may(&breaker, 7000);
}

static void F26_each_probe_that_fails_doubles_the_wait_up_to_a_minute(void **state)
{
    (void)state;
    static const int64_t waits[] = {5000, 10000, 20000, 40000, 60000, 60000, 60000};
    struct dk_breaker breaker = {0};
    int64_t now = 1000;
    note(&breaker, true, 20, now);
    for (size_t i = 0; i < sizeof waits / sizeof waits[0]; i++) {
        may_not(&breaker, now, waits[i]);
        may_not(&breaker, now + waits[i] - 1, 1);
        now += waits[i];
        may(&breaker, now);
        dk_breaker_note(&breaker, true, now);
    }
}

static void answers_of_before_do_not_close_it(void **state)
{
    (void)state;
    struct dk_breaker breaker = {0};
    note(&breaker, true, 20, 1000);
    note(&breaker, false, 16, 2000);
    may_not(&breaker, 2000, 4000);
    note(&breaker, true, 16, 2000);
    may_not(&breaker, 2000, 4000);
}

/* It never went out: it says nothing of the service, and the next call may be the probe. */
static void a_probe_that_did_not_go_out_is_another_calls(void **state)
{
    (void)state;
    struct dk_breaker breaker = {0};
    note(&breaker, true, 20, 1000);
    may(&breaker, 6000);
    dk_breaker_let_go(&breaker);
    may(&breaker, 6000);
    may_not(&breaker, 6000, 1);
    dk_breaker_note(&breaker, true, 6000);
    may_not(&breaker, 6000, 10000);
    struct dk_breaker closed = {0};
    note(&closed, true, 19, 1000);
    dk_breaker_let_go(&closed);
    note(&closed, true, 1, 1000);
    may_not(&closed, 1000, 5000);
}

/* ---- the pace -------------------------------------------------------------------------------- */

enum { CALLS = 6000 };
static int64_t begun[CALLS];

/* Takes as often as it may, at moments that are not round; how many there were. */
static int take_for(unsigned per_second, int64_t ms, uint64_t seed)
{
    struct dk_pace pace;
    int count = 0;
    int64_t now = 12345, end = now + ms;
    dk_pace_init(&pace, per_second, now);
    while (now < end && count < CALLS) {
        int64_t wait = dk_pace_take(&pace, now);
        assert_true(wait >= 0 && wait <= 1001);
        if (wait == 0) {
            begun[count++] = now;
            now += (int64_t)(seed == 0 ? 0 : dk_test_random(&seed) % 40 == 0 ? 700 : 0);
        } else {
            now += wait;
        }
    }
    return count;
}

static int most_in_a_second(int count)
{
    int most = 0, from = 0;
    for (int i = 0; i < count; i++) {
        while (begun[i] - begun[from] >= 1000) {
            from++;
        }
        most = i - from + 1 > most ? i - from + 1 : most;
    }
    return most;
}

static void no_second_has_more_calls_than_the_rate(void **state)
{
    (void)state;
    static const unsigned rates[] = {1, 2, 3, 7, 10, 50, 99, 100, 101, 333, 1000};
    for (size_t i = 0; i < sizeof rates / sizeof rates[0]; i++) {
        int count = take_for(rates[i], 5000, 0);
        int most = most_in_a_second(count);
        if (most > (int)rates[i]) {
            fail_msg("%d calls in a second, %u are allowed", most, rates[i]);
        }
        assert_true(count >= (int)rates[i] * 4); /* and it is not slower than it must be */
        count = take_for(rates[i], 20000, i + 1);
        assert_true(most_in_a_second(count) <= (int)rates[i]);
    }
}

static void thousands_a_second_pass(void **state)
{
    (void)state;
    int count = take_for(5000, 1000, 0);
    assert_true(count >= 4900 && count <= 5000);
}

static void without_a_rate_nobody_waits(void **state)
{
    (void)state;
    struct dk_pace pace;
    dk_pace_init(&pace, 0, 1);
    for (int i = 0; i < 100000; i++) {
        assert_int_equal(dk_pace_take(&pace, 1), 0);
    }
}

/* ---- the wait -------------------------------------------------------------------------------- */

static void the_wait_doubles_and_stays_within_its_bounds(void **state)
{
    (void)state;
    static const int64_t most[] = {100, 200, 400, 800, 1600, 2000, 2000, 2000};
    for (int i = 0; i < 8; i++) {
        assert_int_equal(dk_retry_wait_ms(100, 2000, i, 0), 0);
        assert_int_equal(dk_retry_wait_ms(100, 2000, i, UINT32_MAX), most[i]);
        int64_t half = dk_retry_wait_ms(100, 2000, i, UINT32_MAX / 2);
        assert_true(half >= most[i] / 2 - 1 && half <= most[i] / 2);
    }
    assert_int_equal(dk_retry_wait_ms(100, 2000, 1000, UINT32_MAX), 2000);
    assert_int_equal(dk_retry_wait_ms(0, 2000, 3, UINT32_MAX), 0);
}

/* Full jitter: callers that failed together do not come again together. */
static void the_wait_is_spread_evenly(void **state)
{
    (void)state;
    uint64_t seed = 7;
    int buckets[10] = {0};
    for (int i = 0; i < 10000; i++) {
        int64_t wait = dk_retry_wait_ms(1000, 2000, 0, (uint32_t)(dk_test_random(&seed) >> 32));
        assert_true(wait >= 0 && wait <= 1000);
        buckets[wait / 100 < 10 ? wait / 100 : 9]++;
    }
    for (int i = 0; i < 10; i++) {
        assert_in_range(buckets[i], 850, 1150);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_budget_pays_a_hundred_retries_and_no_more),
        cmocka_unit_test(the_budget_does_not_grow_past_its_most),
        cmocka_unit_test(F26_it_opens_at_half_of_the_last_20),
        cmocka_unit_test(F26_old_failures_leave_the_window),
        cmocka_unit_test(F26_one_call_tries_after_5_seconds),
        cmocka_unit_test(F26_each_probe_that_fails_doubles_the_wait_up_to_a_minute),
        cmocka_unit_test(answers_of_before_do_not_close_it),
        cmocka_unit_test(a_probe_that_did_not_go_out_is_another_calls),
        cmocka_unit_test(no_second_has_more_calls_than_the_rate),
        cmocka_unit_test(thousands_a_second_pass),
        cmocka_unit_test(without_a_rate_nobody_waits),
        cmocka_unit_test(the_wait_doubles_and_stays_within_its_bounds),
        cmocka_unit_test(the_wait_is_spread_evenly),
    };
    return cmocka_run_group_tests_name("retry", tests, NULL, NULL);
}
