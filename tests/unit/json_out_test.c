#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include <signal.h>
#include <unistd.h>

#include "base/json_out.h"
#include "support/expect.h"

static char text[65536];
static size_t used;

static void put(void *arg, const char *p, size_t n)
{
    (void)arg;
    assert_true(used + n < sizeof text);
    if (n > 0) {
        memcpy(text + used, p, n);
    }
    used += n;
    text[used] = '\0';
}

static struct dk_json fresh(void)
{
    struct dk_json json;
    used = 0;
    text[0] = '\0';
    dk_json_init(&json, put, NULL);
    return json;
}

static void is_written(const char *want)
{
    assert_string_equal(text, want);
    assert_true(dk_test_json_valid(text, used));
}

static void members_and_elements_are_separated(void **state)
{
    (void)state;
    struct dk_json json = fresh();
    dk_json_object(&json, NULL);
    dk_json_str(&json, "a", "x");
    dk_json_array(&json, "list");
    dk_json_int(&json, NULL, 1);
    dk_json_object(&json, NULL);
    dk_json_end(&json, '}');
    dk_json_array(&json, NULL);
    dk_json_end(&json, ']');
    dk_json_null(&json, NULL);
    dk_json_end(&json, ']');
    dk_json_bool(&json, "yes", true);
    dk_json_bool(&json, "no", false);
    dk_json_str(&json, "none", NULL);
    dk_json_end(&json, '}');
    is_written("{\"a\":\"x\",\"list\":[1,{},[],null],\"yes\":true,\"no\":false,\"none\":null}");
}

static void numbers_keep_their_digits(void **state)
{
    (void)state;
    struct dk_json json = fresh();
    dk_json_array(&json, NULL);
    dk_json_int(&json, NULL, INT64_MIN);
    dk_json_int(&json, NULL, INT64_MAX);
    dk_json_int(&json, NULL, 0);
    dk_json_num(&json, NULL, 0);
    dk_json_num(&json, NULL, 99.5);
    dk_json_num(&json, NULL, -0.25);
    dk_json_num(&json, NULL, 1.0 / 3);
    dk_json_num(&json, NULL, 0.0006);
    dk_json_num(&json, NULL, -1234567.891);
    dk_json_num(&json, NULL, 0.9999);
    dk_json_end(&json, ']');
    is_written("[-9223372036854775808,9223372036854775807,0,0.000,99.500,-0.250,0.333,0.001,"
               "-1234567.891,1.000]");
}

static void what_is_no_number_is_null(void **state)
{
    (void)state;
    struct dk_json json = fresh();
    volatile double zero = 0;
    dk_json_array(&json, NULL);
    dk_json_num(&json, NULL, 0 / zero);
    dk_json_num(&json, NULL, 1 / zero);
    dk_json_num(&json, NULL, -1 / zero);
    dk_json_num(&json, NULL, 1e300); /* more digits than any buffer of ours */
    dk_json_end(&json, ']');
    is_written("[null,null,null,null]");
}

static void times_are_text_and_none_is_null(void **state)
{
    (void)state;
    struct dk_json json = fresh();
    dk_json_array(&json, NULL);
    dk_json_time(&json, NULL, 0);
    dk_json_time(&json, NULL, DK_TIME_NONE);
    dk_json_end(&json, ']');
    is_written("[\"1970-01-01T00:00:00.000000Z\",null]");
}

static void I27_every_byte_is_escaped_kept_or_replaced(void **state)
{
    (void)state;
    for (int c = 0; c < 256; c++) {
        uint8_t bytes[3] = {'<', (uint8_t)c, '>'};
        char want[32];
        struct dk_json json = fresh();
        dk_json_view(&json, NULL, dk_view_of(bytes, 3));
        if (c == '"' || c == '\\') {
            snprintf(want, sizeof want, "\"<\\%c>\"", c);
        } else if (c < 0x20 || c == 0x7F) {
            snprintf(want, sizeof want, "\"<\\u%04x>\"", (unsigned)c);
        } else if (c < 0x80) {
            snprintf(want, sizeof want, "\"<%c>\"", c);
        } else {
            snprintf(want, sizeof want, "\"<\\ufffd>\"");
        }
        is_written(want);
    }
}

static void I27_names_are_escaped_too(void **state)
{
    (void)state;
    struct dk_json json = fresh();
    dk_json_object(&json, NULL);
    dk_json_int(&json, "a\"b\n", 1);
    dk_json_end(&json, '}');
    is_written("{\"a\\\"b\\u000a\":1}");
}

static void utf8_is_kept_and_anything_else_replaced(void **state)
{
    (void)state;
    static const struct {
        const char *in, *want;
    } rows[] = {
        {"\xC3\xA4\xE2\x82\xAC\xF0\x9F\x98\x80", "\"\xC3\xA4\xE2\x82\xAC\xF0\x9F\x98\x80\""},
        {"\xC3", "\"\\ufffd\""},
        {"a\xE2\x82", "\"a\\ufffd\\ufffd\""},
        {"\xE2\x82z", "\"\\ufffd\\ufffdz\""},
        {"\xED\xA0\x80", "\"\\ufffd\\ufffd\\ufffd\""},
        {"\xF0\x9F\x98", "\"\\ufffd\\ufffd\\ufffd\""},
        {"\xC0\x80", "\"\\ufffd\\ufffd\""},
        {"\xFF\xC3\xA4", "\"\\ufffd\xC3\xA4\""},
        {"", "\"\""},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct dk_json json = fresh();
        dk_json_str(&json, NULL, rows[i].in);
        is_written(rows[i].want);
    }
    struct dk_json json = fresh();
    dk_json_view(&json, NULL, dk_view_of("a\0b", 3));
    is_written("\"a\\u0000b\"");
}

static void I27_random_bytes_always_make_a_document(void **state)
{
    (void)state;
    uint64_t seed = 27;
    for (int round = 0; round < 20000; round++) {
        uint8_t bytes[64];
        size_t n = dk_test_random(&seed) % (sizeof bytes + 1);
        dk_test_random_bytes(&seed, bytes, sizeof bytes);
        struct dk_json json = fresh();
        dk_json_view(&json, NULL, dk_view_of(bytes, n));
        assert_true(dk_test_json_valid(text, used));
        assert_null(strpbrk(text, "\r\n\033\177"));
        assert_int_equal(strlen(text), used);
    }
}

static void sixteen_levels_close_again(void **state)
{
    (void)state;
    struct dk_json json = fresh();
    for (int i = 0; i < 16; i++) {
        dk_json_array(&json, NULL);
    }
    dk_json_int(&json, NULL, 5);
    for (int i = 0; i < 16; i++) {
        dk_json_end(&json, ']');
    }
    is_written("[[[[[[[[[[[[[[[[5]]]]]]]]]]]]]]]]");
}

static void dies_as_expected(int signal)
{
    (void)signal;
    _exit(0);
}

static int go_deeper(void *arg)
{
    struct sigaction action = {.sa_handler = dies_as_expected};
    DK_TEST_CHILD(sigaction(SIGABRT, &action, NULL) == 0);
    DK_TEST_CHILD(freopen("/dev/null", "w", stderr) != NULL);
    for (int i = 0; i < 17; i++) {
        dk_json_array(arg, NULL);
    }
    return 1;
}

static int end_too_often(void *arg)
{
    struct sigaction action = {.sa_handler = dies_as_expected};
    DK_TEST_CHILD(sigaction(SIGABRT, &action, NULL) == 0);
    DK_TEST_CHILD(freopen("/dev/null", "w", stderr) != NULL);
    dk_json_end(arg, ']');
    return 1;
}

static void our_own_nesting_mistakes_stop_the_program(void **state)
{
    (void)state;
    struct dk_json json = fresh();
    assert_true(dk_test_in_child(false, go_deeper, &json));
    assert_true(dk_test_in_child(false, end_too_often, &json));
}

/* The checker of these tests must be able to say no. */
static void the_reader_of_the_tests_is_strict(void **state)
{
    (void)state;
    static const char *const bad[] = {"",         "{",      "{}x",     "[1,]",     "{\"a\"}",
                                      "{a:1}",    "\"\n\"", "\"\\x\"", "01",       "1.",
                                      "nan",      "-",      "[1 2]",   "\"\xFF\"", "\"\\u12\"",
                                      "{\"a\":}", "\"abc",  "tru",     "1,5",      "\"\\ud800\""};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        if (dk_test_json_valid(bad[i], strlen(bad[i]))) {
            fail_msg("%s", bad[i]);
        }
    }
    static const char good[] = " {\"a\" : [1, -2.5, true, null, \"\\u00e4\\n\"], \"b\":{}} ";
    assert_true(dk_test_json_valid(good, sizeof good - 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(members_and_elements_are_separated),
        cmocka_unit_test(numbers_keep_their_digits),
        cmocka_unit_test(what_is_no_number_is_null),
        cmocka_unit_test(times_are_text_and_none_is_null),
        cmocka_unit_test(I27_every_byte_is_escaped_kept_or_replaced),
        cmocka_unit_test(I27_names_are_escaped_too),
        cmocka_unit_test(utf8_is_kept_and_anything_else_replaced),
        cmocka_unit_test(I27_random_bytes_always_make_a_document),
        cmocka_unit_test(sixteen_levels_close_again),
        cmocka_unit_test(our_own_nesting_mistakes_stop_the_program),
        cmocka_unit_test(the_reader_of_the_tests_is_strict),
    };
    return cmocka_run_group_tests_name("json_out", tests, NULL, NULL);
}
