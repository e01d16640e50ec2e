#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include <stdlib.h>
#include <time.h>

#include "base/world.h"
#include "support/expect.h"

static struct dk_err err;

static const struct {
    const char *text;
    int64_t us;
} moments[] = {
    {"1970-01-01T00:00:00.000000Z", 0},
    {"1970-01-01T00:00:00.000001Z", 1},
    {"1969-12-31T23:59:59.999999Z", -1},
    {"2000-02-29T12:34:56.789012Z", INT64_C(951827696789012)},
    {"2024-02-29T23:59:59.999999Z", INT64_C(1709251199999999)},
    {"2038-01-19T03:14:08.000000Z", INT64_C(2147483648000000)},
    {"1900-02-28T00:00:00.000000Z", INT64_C(-2203977600000000)},
    {"0001-01-01T00:00:00.000000Z", INT64_C(-62135596800000000)},
    {"9999-12-31T23:59:59.999999Z", INT64_C(253402300799999999)},
};

static void known_moments_format_and_parse(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof moments / sizeof moments[0]; i++) {
        char text[DK_TIME_TEXT];
        int64_t us = 42;
        dk_time_format(moments[i].us, text);
        assert_string_equal(text, moments[i].text);
        assert_true(dk_time_parse(text, strlen(text), &us));
        assert_int_equal(us, moments[i].us);
    }
}

static void I23_moments_beyond_the_calendar_stop_at_its_ends(void **state)
{
    (void)state;
    char text[DK_TIME_TEXT];
    dk_time_format(INT64_MAX, text);
    assert_string_equal(text, "9999-12-31T23:59:59.999999Z");
    dk_time_format(INT64_C(253402300800000000), text);
    assert_string_equal(text, "9999-12-31T23:59:59.999999Z");
    dk_time_format(INT64_MIN, text);
    assert_string_equal(text, "0001-01-01T00:00:00.000000Z");
    dk_time_format(INT64_C(-62135596800000001), text);
    assert_string_equal(text, "0001-01-01T00:00:00.000000Z");
}

static void random_moments_agree_with_the_c_library(void **state)
{
    (void)state;
    uint64_t seed = 23;
    const int64_t least = moments[7].us / 1000000, most = moments[8].us / 1000000;
    for (int i = 0; i < 200000; i++) {
        time_t t = least + (int64_t)(dk_test_random(&seed) % (uint64_t)(most - least));
        unsigned micro = (unsigned)(dk_test_random(&seed) % 1000000);
        struct tm tm;
        char want[64], got[DK_TIME_TEXT];
        assert_non_null(gmtime_r(&t, &tm));
        snprintf(want, sizeof want, "%04d-%02d-%02dT%02d:%02d:%02d.%06uZ", tm.tm_year + 1900,
                 tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec, micro);
        dk_time_format((int64_t)t * 1000000 + micro, got);
        assert_string_equal(got, want);
        int64_t us = 0;
        assert_true(dk_time_parse(got, sizeof got - 1, &us));
        assert_int_equal(us, (int64_t)t * 1000000 + micro);
    }
}

static void every_other_spelling_of_a_moment_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "2026-01-01T00:00:00.000000",
        "2026-01-01T00:00:00.000000z",
        "2026-01-01 00:00:00.000000Z",
        "2026-01-01t00:00:00.000000Z",
        "2026-01-01T00:00:00.00000Z",
        "2026-01-01T00:00:00.0000000Z",
        "2026-01-01T00:00:00Z",
        "2026-01-01T00:00:00.000000+00:00",
        "+026-01-01T00:00:00.000000Z",
        "2026-1-01T000:00:00.000000Z",
        " 026-01-01T00:00:00.000000Z",
        "0000-01-01T00:00:00.000000Z",
        "2026-00-01T00:00:00.000000Z",
        "2026-13-01T00:00:00.000000Z",
        "2026-01-00T00:00:00.000000Z",
        "2026-01-32T00:00:00.000000Z",
        "2026-04-31T00:00:00.000000Z",
        "2026-02-29T00:00:00.000000Z",
        "1900-02-29T00:00:00.000000Z",
        "2024-02-30T00:00:00.000000Z",
        "2026-01-01T24:00:00.000000Z",
        "2026-01-01T00:60:00.000000Z",
        "2016-12-31T23:59:60.000000Z",
        "2026-01-01T00:00:00,000000Z",
        "2026-01-01T00:00:00.00000-Z",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        int64_t us = 42;
        if (dk_time_parse(bad[i], strlen(bad[i]), &us) || us != 42) {
            fail_msg("%s", bad[i]);
        }
    }
}

static void every_byte_of_a_moment_counts(void **state)
{
    (void)state;
    static const char good[] = "2026-11-11T11:11:11.111111Z";
    for (size_t at = 0; at < sizeof good - 1; at++) {
        for (int c = 0; c < 256; c++) {
            char text[sizeof good];
            memcpy(text, good, sizeof text);
            text[at] = (char)c;
            int64_t us;
            bool digit = c >= '0' && c <= '9' && good[at] >= '0' && good[at] <= '9';
            if (dk_time_parse(text, sizeof good - 1, &us) && !digit && c != good[at]) {
                fail_msg("byte %zu = %d was taken", at, c);
            }
        }
    }
}

static void a_uuid_is_random_version_4(void **state)
{
    (void)state;
    char seen[1000][DK_UUID_TEXT];
    for (size_t i = 0; i < 1000; i++) {
        DK_TEST_OK(err, dk_uuid_new(&dk_world_default, seen[i], &err));
        const char *u = seen[i];
        assert_int_equal(strlen(u), 36);
        for (size_t k = 0; k < 36; k++) {
            bool dash = k == 8 || k == 13 || k == 18 || k == 23;
            assert_true(dash ? u[k] == '-' : strchr("0123456789abcdef", u[k]) != NULL);
        }
        assert_int_equal(u[14], '4');
        assert_non_null(strchr("89ab", u[19]));
    }
    qsort(seen, 1000, sizeof seen[0], (int (*)(const void *, const void *))strcmp);
    for (size_t i = 1; i < 1000; i++) {
        assert_string_not_equal(seen[i - 1], seen[i]);
    }
}

static void a_failed_generator_gives_no_bytes_and_no_uuid(void **state)
{
    (void)state;
    struct dk_test_world w;
    dk_test_world_init(&w);
    uint8_t bytes[32], zero[32] = {0};
    memset(bytes, 0xAA, sizeof bytes);
    w.random_fails = true;
    DK_TEST_FAILS(err, RANDOM, dk_random_fill(&w.world, bytes, sizeof bytes, &err));
    assert_memory_equal(bytes, zero, sizeof bytes); /* not even the half that was filled */
    char uuid[DK_UUID_TEXT] = "untouched";
    DK_TEST_FAILS(err, RANDOM, dk_uuid_new(&w.world, uuid, &err));
    assert_string_equal(uuid, "untouched");
    w.random_fails = false;
    DK_TEST_OK(err, dk_random_fill(&w.world, bytes, sizeof bytes, &err));
    assert_memory_not_equal(bytes, zero, sizeof bytes);
}

static void F01_helpers_without_memory_return_null(void **state)
{
    (void)state;
    struct dk_test_world w;
    dk_test_world_init(&w);
    w.fail_alloc_all = 1;
    assert_null(dk_mem_zalloc(&w.world.mem, 8));
    assert_null(dk_mem_strdup(&w.world.mem, "abc"));
    w.fail_alloc_all = 0;
    uint8_t *p = dk_mem_zalloc(&w.world.mem, 300);
    for (int i = 0; i < 300; i++) {
        assert_int_equal(p[i], 0);
    }
    char *s = dk_mem_strdup(&w.world.mem, "abc");
    assert_string_equal(s, "abc");
    dk_mem_free(&w.world.mem, p);
    dk_mem_free(&w.world.mem, s);
    dk_mem_free(&w.world.mem, NULL);
    assert_int_equal(w.live, 0);
}

static void the_real_world_has_clocks_memory_and_randomness(void **state)
{
    (void)state;
    const struct dk_world *world = &dk_world_default;
    int64_t now = (int64_t)time(NULL) * 1000000;
    assert_true(dk_wall_us(world) >= now - 1000000 && dk_wall_us(world) < now + 60000000);
    int64_t before = dk_mono_ms(world);
    int64_t deadline = dk_wall_us(world) + 5000000;
    while (dk_mono_ms(world) == before && dk_wall_us(world) < deadline) {
        assert_true(dk_mono_ms(world) >= before);
    }
    assert_true(dk_mono_ms(world) > before && dk_mono_ms(world) < before + 10000);
    void *p = dk_mem_alloc(&dk_mem_default, 16);
    assert_non_null(p);
    dk_mem_free(&dk_mem_default, p);
    uint8_t a[32], b[32];
    assert_int_equal(world->random.fill(world->random.arg, a, 32), 1);
    assert_int_equal(world->random.fill_private(world->random.arg, b, 32), 1);
    assert_memory_not_equal(a, b, 32);
}

static void count_label(void *arg, const char *label)
{
    *(int *)arg += strcmp(label, "between") == 0;
}

static void trace_points_reach_their_listener_or_nobody(void **state)
{
    (void)state;
    struct dk_test_world w;
    dk_test_world_init(&w);
    int seen = 0;
    dk_trace(&w.world, "between");
    w.world.trace = count_label;
    w.world.trace_arg = &seen;
    dk_trace(&w.world, "between");
    assert_int_equal(seen, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_moments_format_and_parse),
        cmocka_unit_test(I23_moments_beyond_the_calendar_stop_at_its_ends),
        cmocka_unit_test(random_moments_agree_with_the_c_library),
        cmocka_unit_test(every_other_spelling_of_a_moment_is_refused),
        cmocka_unit_test(every_byte_of_a_moment_counts),
        cmocka_unit_test(a_uuid_is_random_version_4),
        cmocka_unit_test(a_failed_generator_gives_no_bytes_and_no_uuid),
        cmocka_unit_test(F01_helpers_without_memory_return_null),
        cmocka_unit_test(the_real_world_has_clocks_memory_and_randomness),
        cmocka_unit_test(trace_points_reach_their_listener_or_nobody),
    };
    return cmocka_run_group_tests_name("world", tests, NULL, NULL);
}
