#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include <stdlib.h>

#include "net/json_in.h"
#include "support/expect.h"

static struct dk_err err;

/* In memory of exactly its size: a sanitizer sees each byte too far. */
static dk_rc parse_bytes(const void *p, size_t n, json_t **out)
{
    uint8_t *exact = malloc(n + (n == 0));
    assert_non_null(exact);
    memcpy(exact, p, n);
    dk_err_clear(&err);
    *out = NULL;
    dk_rc rc = dk_json_in_parse(dk_view_of(exact, n), out, &err);
    free(exact);
    assert_int_equal(rc, err.rc);
    assert_int_equal(rc == DK_OK, *out != NULL);
    return rc;
}

static dk_rc parse(const char *text, json_t **out)
{
    return parse_bytes(text, strlen(text), out);
}

static void members_are_read_by_name_and_type(void **state)
{
    (void)state;
    json_t *json;
    assert_int_equal(parse(" {\"s\":\"\xC3\xA9\\u00e9\\\"\",\"n\":null,\"o\":{\"i\":\"x\"},"
                           "\"t\":true,\"f\":false,\"a\":[1]}\n",
                           &json),
                     DK_OK);
    assert_string_equal(dk_json_in_text(json, "s"), "\xC3\xA9\xC3\xA9\"");
    static const char *const others[] = {"n", "o", "t", "f", "a", "none", "S", ""};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        assert_null(dk_json_in_text(json, others[i]));
        assert_int_equal(dk_json_in_object(json, others[i]) != NULL, i == 1);
        assert_int_equal(dk_json_in_bool(json, others[i]), i == 2 ? 1 : i == 3 ? 0 : -1);
    }
    assert_string_equal(dk_json_in_text(dk_json_in_object(json, "o"), "i"), "x");
    assert_null(dk_json_in_text(NULL, "s"));
    assert_null(dk_json_in_object(NULL, "o"));
    assert_int_equal(dk_json_in_bool(NULL, "t"), -1);
    json_decref(json);
}

static void numbers_come_as_such_or_as_text(void **state)
{
    (void)state;
    static const struct {
        const char *value;
        bool is_one;
        int64_t n;
    } cases[] = {
        {"0", true, 0},
        {"-7", true, -7},
        {"9223372036854775807", true, INT64_MAX},
        {"1.507184161473E9", true, 1507184161},
        {"1.9", true, 1},
        {"-1.9", true, -1},
        {"1e14", true, INT64_C(100000000000000)},
        {"1e15", false, 0},
        {"-1e300", false, 0},
        {"\"1767225600\"", true, 1767225600},
        {"\"0\"", true, 0},
        {"\"007\"", true, 7},
        {"\"999999999999999999\"", true, INT64_C(999999999999999999)},
        {"\"9999999999999999999\"", false, 0},
        {"\"\"", false, 0},
        {"\"-1\"", false, 0},
        {"\"1.5\"", false, 0},
        {"\" 1\"", false, 0},
        {"\"0x10\"", false, 0},
        {"true", false, 0},
        {"null", false, 0},
        {"[1]", false, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[64];
        json_t *json;
        int64_t n = 42;
        snprintf(text, sizeof text, "{\"n\":%s}", cases[i].value);
        assert_int_equal(parse(text, &json), DK_OK);
        assert_int_equal(dk_json_in_int(json, "n", &n), cases[i].is_one);
        assert_int_equal(n, cases[i].is_one ? cases[i].n : 42);
        json_decref(json);
    }
    int64_t n = 42;
    assert_false(dk_json_in_int(NULL, "n", &n));
    assert_int_equal(n, 42);
}

static void F29_what_is_no_object_is_refused(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "",
        " ",
        "null",
        "true",
        "1",
        "\"s\"",
        "[]",
        "[{}]",
        "{",
        "}",
        "{]",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1,}",
        "{,}",
        "{a:1}",
        "{'a':1}",
        "{\"a\":01}",
        "{\"a\":NaN}",
        "{\"a\":Infinity}",
        "{\"a\":1}{",
        "{} {}",
        "{}x",
        "{\"a\":1 /* c */}",
        "// c\n{}",
        /* what no number of ours holds */
        "{\"a\":9223372036854775808}",
        "{\"a\":1e999}",
        /* twice, whatever they hold */
        "{\"a\":1,\"a\":1}",
        "{\"a\":1,\"\\u0061\":2}",
        "{\"b\":{\"a\":1,\"a\":2}}",
        /* strings */
        "{\"a\":\"\\u0000\"}",
        "{\"a\\u0000b\":1}",
        "{\"a\":\"\\ud800\"}",
        "{\"a\":\"\\x\"}",
        "{\"a\":\"\n\"}",
        "{\"a\":\"",
        "{\"a\":\"\\",
        "{\"a\":\"\xFF\"}",
        "{\"a\":\"\xC0\x80\"}",
        "{\"a\":\"\xED\xA0\x80\"}",
        "\xEF\xBB\xBF{}",
    };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        json_t *json;
        if (parse(texts[i], &json) != DK_E_PROVIDER) {
            fail_msg("taken: %s", texts[i]);
        }
    }
    json_t *json;
    assert_int_equal(parse_bytes("{}\0", 3, &json), DK_E_PROVIDER);
    assert_int_equal(parse_bytes("{\"a\":\"x\0y\"}", 11, &json), DK_E_PROVIDER);
    assert_int_equal(dk_json_in_parse((struct dk_view){NULL, 0}, &json, &err), DK_E_PROVIDER);
}

/* W3: depth 16. An answer of 20,000 brackets does not come near the recursion. */
static void F29_depth_has_a_limit(void **state)
{
    (void)state;
    static char text[80064];
    for (size_t depth = 1; depth <= 20000; depth = depth < 20 ? depth + 1 : depth * 5) {
        json_t *json;
        size_t n = (size_t)snprintf(text, 16, "{\"a\":");
        memset(text + n, '[', depth - 1);
        n += depth - 1;
        text[n++] = '1';
        memset(text + n, ']', depth - 1);
        text[n + depth - 1] = '}';
        text[n + depth] = '\0';
        assert_int_equal(parse(text, &json), depth <= 16 ? DK_OK : DK_E_PROVIDER);
        json_decref(json);
    }
    json_t *json; /* brackets in a string are none */
    assert_int_equal(parse("{\"a\":\"[[[[[[[[[[[[[[[[[[[[[[[[\\\"[[[[[[[[[[[[[[[\"}", &json),
                     DK_OK);
    json_decref(json);
    assert_int_equal(parse("]]]]]]]]]]]]]]]]]]]]", &json), DK_E_PROVIDER);
}

static void F29_the_number_of_values_has_a_limit(void **state)
{
    (void)state;
    static char text[16384];
    for (int values = 990; values <= 1010; values++) {
        json_t *json;
        size_t n = (size_t)snprintf(text, sizeof text, "{\"a\":[1");
        for (int i = 1; i < values; i++) {
            n += (size_t)snprintf(text + n, sizeof text - n, ",1");
        }
        snprintf(text + n, sizeof text - n, "]}");
        bool fits = values + 2 <= 1000; /* and the two around them */
        assert_int_equal(parse(text, &json), fits ? DK_OK : DK_E_PROVIDER);
        json_decref(json);
    }
}

/* What jansson frees is wiped: a key does not stay in the heap. */
static void what_jansson_frees_goes_through_ours(void **state)
{
    (void)state;
    dk_json_in_setup();
    dk_json_in_setup();
    json_malloc_t alloc;
    json_free_t release;
    json_get_alloc_funcs(&alloc, &release);
    assert_ptr_equal(alloc, malloc);
    assert_ptr_not_equal(release, free);
    release(NULL);
    release(alloc(1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(members_are_read_by_name_and_type),
        cmocka_unit_test(numbers_come_as_such_or_as_text),
        cmocka_unit_test(F29_what_is_no_object_is_refused),
        cmocka_unit_test(F29_depth_has_a_limit),
        cmocka_unit_test(F29_the_number_of_values_has_a_limit),
        cmocka_unit_test(what_jansson_frees_goes_through_ours),
    };
    return cmocka_run_group_tests_name("json_in", tests, NULL, NULL);
}
