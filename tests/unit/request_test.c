#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

/* Requests and answers as bytes: headers in, headers out. */
#include <stdlib.h>

#include "net/http.h"
#include "support/expect.h"

static struct dk_err err;

static void lines_come_in_the_order_they_were_added(void **state)
{
    (void)state;
    struct dk_http_request request;
    dk_http_request_init(&request, &dk_mem_default);
    assert_null(dk_http_next_line(&request, NULL));
    DK_TEST_OK(err, dk_http_add(&request, "X-One", "1", &err));
    DK_TEST_OK(err, dk_http_add(&request, "X-Empty", "", &err));
    DK_TEST_OK(err, dk_http_add(&request, "x-one", " two words ", &err));
    const char *line = dk_http_next_line(&request, NULL);
    assert_string_equal(line, "X-One: 1");
    line = dk_http_next_line(&request, line);
    assert_string_equal(line, "X-Empty: ");
    line = dk_http_next_line(&request, line);
    assert_string_equal(line, "x-one:  two words ");
    assert_null(dk_http_next_line(&request, line));
    DK_TEST_OK(err, dk_http_body(&request, "{", &err));
    DK_TEST_OK(err, dk_http_body(&request, "}", &err));
    assert_int_equal(request.body.n, 2);
    assert_memory_equal(request.body.p, "{}", 2);
    dk_http_request_clear(&request);
    assert_null(dk_http_next_line(&request, NULL));
    assert_int_equal(request.body.n, 0);
}

/* A token with a line end would be two headers. */
static void R29_each_byte_is_taken_or_refused(void **state)
{
    (void)state;
    for (int c = 1; c < 256; c++) {
        struct dk_http_request request;
        const char value[] = {'a', (char)c, 'b', '\0'};
        dk_http_request_init(&request, &dk_mem_default);
        if (c >= 0x20 && c <= 0x7E) {
            DK_TEST_OK(err, dk_http_add(&request, "Authorization", value, &err));
        } else {
            DK_TEST_FAILS(err, CONFIG, dk_http_add(&request, "Authorization", value, &err));
            DK_TEST_SAYS(err, "Authorization");
            assert_int_equal(request.head.n, 0);
        }
        dk_http_request_clear(&request);
    }
}

static void head_and_body_have_ceilings(void **state)
{
    (void)state;
    static char text[DK_HTTP_REPLY_MAX + 1];
    struct dk_http_request request;
    dk_http_request_init(&request, &dk_mem_default);
    memset(text, 'v', sizeof text - 1);
    DK_TEST_OK(err, dk_http_body(&request, text, &err));
    DK_TEST_FAILS(err, LIMIT, dk_http_body(&request, "x", &err));
    text[DK_HTTP_HEAD_MAX] = '\0';
    DK_TEST_FAILS(err, LIMIT, dk_http_add(&request, "X", text, &err));
    dk_http_request_clear(&request);
}

/* ---- answers --------------------------------------------------------------------------------- */

/* In memory of exactly its size: a sanitizer sees each byte too far. */
static bool header(const char *head, const char *name, char *out, size_t cap)
{
    size_t n = strlen(head);
    char *exact = malloc(n + (n == 0));
    assert_non_null(exact);
    memcpy(exact, head, n);
    struct dk_http_reply reply = {200, dk_view_of(exact, n), {NULL, 0}};
    bool found = dk_http_header(&reply, name, out, cap);
    free(exact);
    return found;
}

static void a_header_is_found_whatever_its_case(void **state)
{
    (void)state;
    static const struct {
        const char *head;
        const char *value; /* NULL = not found */
    } cases[] = {
        {"HTTP/1.1 200 OK\r\nRetry-After: 5\r\n\r\n", "5"},
        {"HTTP/1.1 200 OK\r\nrEtRy-AfTeR:5\r\n", "5"},
        {"Retry-After:\t 5 \t\r\n", "5"},
        {"Retry-After: a b\r\n", "a b"},
        {"Retry-After: 5\n", "5"},
        {"Retry-After: 5", "5"},
        {"Retry-After:", ""},
        {"Retry-After: ", ""},
        {"Retry-After:\r\n", ""},
        {"Retry-After: 1\r\nRetry-After: 2\r\n", "1"},
        {"X-Retry-After: 5\r\nRetry-After-X: 6\r\n", NULL},
        {"Retry-After : 5\r\n", NULL},
        {" Retry-After: 5\r\n", NULL},
        {"Retry-After 5\r\n", NULL},
        {"Retry-After", NULL},
        {"X: Retry-After: 5\r\n", NULL},
        {"HTTP/1.1 200 Retry-After: 5\r\n", NULL},
        {"\r\n", NULL},
        {"", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char value[16] = "before";
        bool found = header(cases[i].head, "retry-after", value, sizeof value);
        if (found != (cases[i].value != NULL) || strcmp(value, found ? cases[i].value : "") != 0) {
            fail_msg("\"%s\": %d \"%s\"", cases[i].head, found, value);
        }
    }
    struct dk_http_reply none = {0};
    char value[16];
    assert_false(dk_http_header(&none, "date", value, sizeof value));
}

static void a_long_value_is_cut(void **state)
{
    (void)state;
    char value[4];
    assert_true(header("X-A: 123456789\r\n", "x-a", value, sizeof value));
    assert_string_equal(value, "123");
    char one[1];
    assert_true(header("X-A: 123456789\r\n", "x-a", one, sizeof one));
    assert_string_equal(one, "");
}

static void the_date_is_read(void **state)
{
    (void)state;
    static const struct {
        const char *date;
        int64_t us; /* 0 = none */
    } cases[] = {
        {"Sun, 30 Aug 2015 12:36:00 GMT", INT64_C(1440938160000000)},
        {"Sunday, 30-Aug-15 12:36:00 GMT", INT64_C(1440938160000000)},
        {"Sun Aug 30 12:36:00 2015", INT64_C(1440938160000000)},
        {"Tue, 19 Jan 2038 03:14:08 GMT", INT64_C(2147483648000000)},
        {"Thu, 01 Jan 1970 00:00:00 GMT", 0},
        {"", 0},
        {"soon", 0},
        {"Sun, 99 Aug 2015 12:36:00 GMT", 0},
        {"1440938160", 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char head[96];
        int64_t us = 0;
        snprintf(head, sizeof head, "HTTP/1.1 200 OK\r\nDate: %s\r\n\r\n", cases[i].date);
        struct dk_http_reply reply = {200, dk_view_str(head), {NULL, 0}};
        assert_int_equal(dk_http_date(&reply, &us), cases[i].us != 0);
        assert_true(cases[i].us == 0 || us == cases[i].us);
    }
    struct dk_http_reply none = {200, dk_view_str("HTTP/1.1 200 OK\r\n\r\n"), {NULL, 0}};
    int64_t us;
    assert_false(dk_http_date(&none, &us));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_come_in_the_order_they_were_added),
        cmocka_unit_test(R29_each_byte_is_taken_or_refused),
        cmocka_unit_test(head_and_body_have_ceilings),
        cmocka_unit_test(a_header_is_found_whatever_its_case),
        cmocka_unit_test(a_long_value_is_cut),
        cmocka_unit_test(the_date_is_read),
    };
    return cmocka_run_group_tests_name("request", tests, NULL, NULL);
}
