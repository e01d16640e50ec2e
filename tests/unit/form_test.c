#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include "net/form.h"
#include "support/expect.h"

static struct dk_err err;

static void says(const struct dk_buf *buf, const char *text)
{
    assert_int_equal(buf->n, strlen(text));
    assert_memory_equal(buf->p, text, buf->n);
}

static void pairs_are_joined(void **state)
{
    (void)state;
    struct dk_buf buf;
    dk_buf_init(&buf, &dk_mem_default, 1024);
    DK_TEST_OK(err, dk_form_add(&buf, "Action", "AssumeRole", &err));
    says(&buf, "Action=AssumeRole");
    DK_TEST_OK(err, dk_form_add(&buf, "RoleArn", "arn:aws:iam::1:role/a b", &err));
    DK_TEST_OK(err, dk_form_add(&buf, "Empty", "", &err));
    says(&buf, "Action=AssumeRole&RoleArn=arn%3Aaws%3Aiam%3A%3A1%3Arole%2Fa%20b&Empty=");
    dk_buf_clear(&buf);
    DK_TEST_OK(err, dk_buf_add(&buf, "/x?", 3, &err)); /* a query */
    DK_TEST_OK(err, dk_form_add(&buf, "a", "1", &err));
    DK_TEST_OK(err, dk_form_add(&buf, "b", "2", &err));
    says(&buf, "/x?a=1&b=2");
    dk_buf_clear(&buf);
}

/* RFC 3986: letters, digits and -._~ stand for themselves, and no other byte does. */
static void each_byte_is_plain_or_percent_encoded(void **state)
{
    (void)state;
    for (int c = 1; c < 256; c++) {
        struct dk_buf buf;
        const char value[] = {(char)c, '\0'};
        char expected[4];
        bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                     c == '-' || c == '.' || c == '_' || c == '~';
        snprintf(expected, sizeof expected, plain ? "%c" : "%%%02X", c);
        dk_buf_init(&buf, &dk_mem_default, 16);
        DK_TEST_OK(err, dk_form_encode(&buf, value, &err));
        says(&buf, expected);
        dk_buf_clear(&buf);
    }
}

static void a_value_does_not_pass_the_ceiling(void **state)
{
    (void)state;
    struct dk_buf buf;
    dk_buf_init(&buf, &dk_mem_default, 6);
    DK_TEST_OK(err, dk_form_add(&buf, "a", "1234", &err));
    DK_TEST_FAILS(err, LIMIT, dk_form_add(&buf, "b", "1", &err));
    dk_buf_clear(&buf);
    DK_TEST_FAILS(err, LIMIT, dk_form_add(&buf, "a", "%%", &err));
    dk_buf_clear(&buf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pairs_are_joined),
        cmocka_unit_test(each_byte_is_plain_or_percent_encoded),
        cmocka_unit_test(a_value_does_not_pass_the_ceiling),
    };
    return cmocka_run_group_tests_name("form", tests, NULL, NULL);
}
