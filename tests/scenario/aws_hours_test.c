#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

/* Days with the AWS provider, in a few seconds: our clocks and the fake's go on together. */
#include <stdlib.h>

#include "provider/aws.h"
#include "support/aws_desk.h"
#include "support/cloud.h"

#define MINUTE 60
#define HOUR (60 * MINUTE)

static struct dk_err err;
static struct dk_aws_desk desk;
static struct dk_log no_log;
static struct dk_provider *provider;

static void begin(enum dk_aws_from from)
{
    dk_aws_desk_open(&desk, from);
    const struct dk_provider_setup setup = {.world = &desk.w.world,
                                            .suite = &desk.suite,
                                            .arena = desk.arena,
                                            .log = &no_log,
                                            .settings = &desk.settings};
    DK_TEST_OK(err, dk_provider_open(&dk_provider_aws, &setup, &provider, &err));
}

static void end(void)
{
    dk_provider_close(provider);
    dk_aws_desk_end(&desk);
}

#define CALLS 3 /* of KMS in works(): what was made is looked at by the provider too */

/* A key is made, and opened again. */
static void works(const char *when)
{
    struct dk_secret key = {0}, again = {0};
    struct dk_wrapped wrapped;
    uint8_t check_value[DK_CHECK_VALUE];
    char now[DK_TIME_TEXT];
    dk_time_format(desk.w.wall_us, now);
    const struct dk_wrap_context context = {dk_view_str("acme"), DK_PURPOSE_DATA, now};
    dk_err_clear(&err);
    if (dk_provider_generate(provider, &context, &key, &wrapped, check_value, &err) != DK_OK ||
        dk_provider_unwrap(provider, &context, &wrapped, &again, &err) != DK_OK) {
        fail_msg("%s: %s", when, err.text);
    }
    assert_true(dk_secret_equal(&key, &again));
    dk_secret_free(desk.arena, &key);
    dk_secret_free(desk.arena, &again);
}

static int kms_calls(void)
{
    return dk_cloud_count("kms.GenerateDataKey") + dk_cloud_count("kms.Decrypt");
}

/* ---- 26 hours -------------------------------------------------------------------------------- */

/* What the platform does meanwhile: token files are written anew, their old content is void. */
static void rotate(enum dk_aws_from from, int64_t minute)
{
    if (from == DK_FROM_WEB_IDENTITY && minute % 48 == 0) {
        (void)dk_cloud_control("rotate_credentials", "{\"service\":\"sts\",\"seconds\":3600}");
    }
    if (from == DK_FROM_CONTAINER && minute % 60 == 0) {
        (void)dk_cloud_control("rotate_credentials", "{\"service\":\"container\"}");
    }
    if (from == DK_FROM_COMMAND && minute % 30 == 0) {
        dk_aws_desk_command(&desk, HOUR);
    }
}

static void work_for_26_hours(enum dk_aws_from from)
{
    enum { STEP = 6 };
    char when[64];
    int calls = 0;
    for (int64_t minute = 0; minute <= 26 * 60; minute += STEP) {
        rotate(from, minute);
        snprintf(when, sizeof when, "%s, minute %lld", dk_aws_from_name(from), (long long)minute);
        works(when);
        calls += CALLS;
        dk_aws_desk_advance(&desk, STEP * MINUTE);
    }
    assert_int_equal(kms_calls(), calls); /* not one was refused and asked again */
}

static void R16_F34_26_hours_with_rotating_credentials_have_no_failure(void **state)
{
    (void)state;
    static const struct {
        enum dk_aws_from from;
        int least, most; /* times that the source is asked: hourly, or every six hours */
    } cases[] = {
        {DK_FROM_WEB_IDENTITY, 26, 40}, {DK_FROM_ROLE, 26, 40},    {DK_FROM_COMMAND, 0, 0},
        {DK_FROM_CONTAINER, 4, 8},      {DK_FROM_INSTANCE, 4, 12},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        begin(cases[i].from);
        work_for_26_hours(cases[i].from);
        int asked = dk_aws_desk_asked();
        assert_in_range(asked, cases[i].least, cases[i].most);
        assert_true(cases[i].from != DK_FROM_INSTANCE ||
                    dk_cloud_count("imds.Token") == asked); /* each with a token of its own */
        end();
    }
}

/* ---- between two calls ----------------------------------------------------------------------- */

static void F34_credentials_that_ended_meanwhile_are_replaced(void **state)
{
    (void)state;
    for (enum dk_aws_from from = DK_FROM_WEB_IDENTITY; from < DK_FROM_COUNT; from++) {
        begin(from);
        works("at first");
        dk_aws_desk_advance(&desk, 12 * HOUR); /* nobody called */
        if (from == DK_FROM_COMMAND) {
            dk_aws_desk_command(&desk, HOUR);
        }
        if (from == DK_FROM_WEB_IDENTITY) {
            (void)dk_cloud_control("rotate_credentials", "{\"service\":\"sts\"}");
        }
        works("twelve hours later");
        assert_int_equal(kms_calls(), 2 * CALLS);
        end();
    }
}

/* AWS takes back a session before its time: one refusal, one retry. */
static void F34_credentials_that_are_taken_back_cost_one_retry(void **state)
{
    (void)state;
    static const char *const codes[] = {"ExpiredTokenException", "UnrecognizedClientException"};
    for (size_t i = 0; i < 2; i++) {
        char answer[96];
        begin(DK_FROM_CONTAINER);
        works("at first");
        dk_aws_desk_advance(&desk, 10 * MINUTE);
        snprintf(answer, sizeof answer, "{\"status\":400,\"json\":{\"__type\":\"%s\"}}", codes[i]);
        dk_cloud_script("kms", NULL, answer, 1);
        works(codes[i]);
        assert_int_equal(kms_calls(), 2 * CALLS + 1);
        assert_int_equal(dk_aws_desk_asked(), 2);
        dk_cloud_script("kms", NULL, answer, -1); /* and when it stays, no storm */
        struct dk_secret key = {0};
        struct dk_wrapped wrapped;
        uint8_t check_value[DK_CHECK_VALUE];
        const struct dk_wrap_context context = {dk_view_str("acme"), DK_PURPOSE_DATA,
                                                "2026-01-01T00:00:00.000000Z"};
        dk_aws_desk_advance(&desk, 10);
        DK_TEST_FAILS(err, PROVIDER_DENIED,
                      dk_provider_generate(provider, &context, &key, &wrapped, check_value, &err));
        assert_int_equal(kms_calls(), 2 * CALLS + 3);
        assert_int_equal(dk_aws_desk_asked(), 3);
        end();
    }
}

/* ---- clocks ---------------------------------------------------------------------------------- */

static void R16_a_clock_that_is_off_costs_one_retry_and_no_credentials(void **state)
{
    (void)state;
    static const int64_t jumps[] = {HOUR, -HOUR, 86400, -86400, INT64_C(10) * 365 * 86400};
    for (enum dk_aws_from from = 0; from < DK_FROM_COUNT; from++) {
        begin(from);
        works("at first");
        int calls = kms_calls(), times = dk_aws_desk_asked();
        for (size_t i = 0; i < sizeof jumps / sizeof jumps[0]; i++) {
            desk.w.wall_us += jumps[i] * 1000000;
            works(dk_aws_from_name(from));
            works(dk_aws_from_name(from));
            calls += 2 * CALLS + 1;
            assert_int_equal(kms_calls(), calls);
            assert_int_equal(dk_aws_desk_asked(), times); /* their time is the monotonic clock's */
        }
        end();
    }
}

static void R16_a_wrong_clock_at_the_start_is_no_failure(void **state)
{
    (void)state;
    static const int64_t offsets[] = {HOUR, -HOUR, 2 * 86400};
    for (size_t i = 0; i < sizeof offsets / sizeof offsets[0]; i++) {
        for (enum dk_aws_from from = 0; from < DK_FROM_COUNT; from++) {
            begin(from);
            desk.w.wall_us += offsets[i] * 1000000;
            works(dk_aws_from_name(from));
            assert_int_equal(kms_calls(), CALLS + 1);
            end();
        }
    }
}

/* What the machine slept counts, as it does at AWS. */
static void R16_a_machine_that_slept_asks_anew(void **state)
{
    (void)state;
    begin(DK_FROM_WEB_IDENTITY);
    works("at first");
    int64_t mono_ms = desk.w.mono_ms;
    dk_aws_desk_advance(&desk, 50 * MINUTE);
    desk.w.slept_ms += desk.w.mono_ms - mono_ms;
    desk.w.mono_ms = mono_ms;
    works("after fifty minutes of sleep");
    assert_int_equal(dk_aws_desk_asked(), 2);
    end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(R16_F34_26_hours_with_rotating_credentials_have_no_failure),
        cmocka_unit_test(F34_credentials_that_ended_meanwhile_are_replaced),
        cmocka_unit_test(F34_credentials_that_are_taken_back_cost_one_retry),
        cmocka_unit_test(R16_a_clock_that_is_off_costs_one_retry_and_no_credentials),
        cmocka_unit_test(R16_a_wrong_clock_at_the_start_is_no_failure),
        cmocka_unit_test(R16_a_machine_that_slept_asks_anew),
    };
    return cmocka_run_group_tests_name("aws_hours", tests, NULL, NULL);
}
