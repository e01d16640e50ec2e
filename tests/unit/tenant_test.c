#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include "base/tenant.h"
#include "support/expect.h"

static struct dk_err err;

static void every_byte_is_allowed_or_named(void **state)
{
    (void)state;
    static const char allowed[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._:-";
    for (int c = 0; c < 256; c++) {
        for (size_t at = 0; at < 3; at++) {
            char text[3] = {'a', 'b', 'c'};
            struct dk_tenant t;
            text[at] = (char)c;
            if (c != 0 && strchr(allowed, c) != NULL) {
                DK_TEST_OK(err, dk_tenant_parse(dk_view_of(text, 3), &t, &err));
                assert_int_equal(t.n, 3);
                assert_memory_equal(t.s, text, 3);
                assert_int_equal(t.s[3], '\0');
            } else {
                char hex[16];
                snprintf(hex, sizeof hex, "0x%02x", (unsigned)c);
                DK_TEST_FAILS(err, USAGE, dk_tenant_parse(dk_view_of(text, 3), &t, &err));
                DK_TEST_SAYS(err, hex);
            }
        }
    }
}

static void one_to_128_bytes_and_nothing_else(void **state)
{
    (void)state;
    char text[300];
    struct dk_tenant t;
    memset(text, 'x', sizeof text);
    for (size_t n = 0; n < sizeof text; n++) {
        memset(&t, 0xEE, sizeof t);
        if (n >= 1 && n <= 128) {
            DK_TEST_OK(err, dk_tenant_parse(dk_view_of(text, n), &t, &err));
            assert_int_equal(t.n, n);
            assert_int_equal(strlen(t.s), n);
        } else {
            DK_TEST_FAILS(err, USAGE, dk_tenant_parse(dk_view_of(text, n), &t, &err));
            assert_int_equal(t.n, 0xEE); /* untouched */
        }
    }
}

static void parses_to(const char *text, const char *want)
{
    struct dk_tenant t;
    DK_TEST_OK(err, dk_tenant_parse(dk_view_str(text), &t, &err));
    assert_string_equal(t.s, want);
}

static void only_the_uuid_form_is_lower_cased(void **state)
{
    (void)state;
    parses_to("6BA7B810-9DAD-11D1-80B4-00C04FD430C8", "6ba7b810-9dad-11d1-80b4-00c04fd430c8");
    parses_to("ABCDEFAB-CDEF-ABCD-EFAB-CDEFABCDEFAB", "abcdefab-cdef-abcd-efab-cdefabcdefab");
    parses_to("00000000-0000-0000-0000-00000000000F", "00000000-0000-0000-0000-00000000000f");
    static const char *const kept[] = {"6BA7B810-9DAD-11D1-80B4-00C04FD430C",   /* 35 */
                                       "6BA7B810-9DAD-11D1-80B4-00C04FD430C8A", /* 37 */
                                       "6BA7B8109DAD11D180B400C04FD430C8",      /* no dashes */
                                       "6BA7B810-9DAD-11D1-80B4-00C04FD430CG",  /* no hex digit */
                                       "6BA7B810-9DAD-11D1-80B4-00C04FD430C.",
                                       "6BA7B810:9DAD-11D1-80B4-00C04FD430C8",
                                       "6BA7B81-09DAD-11D1-80B4-00C04FD430C8",
                                       "Acme",
                                       "ACME"};
    for (size_t i = 0; i < sizeof kept / sizeof kept[0]; i++) {
        parses_to(kept[i], kept[i]);
    }
}

static void every_dash_and_digit_of_a_uuid_counts(void **state)
{
    (void)state;
    static const char uuid[] = "6BA7B810-9DAD-11D1-80B4-00C04FD430CA";
    for (size_t at = 0; at < 36; at++) {
        char text[37];
        memcpy(text, uuid, sizeof text);
        text[at] = uuid[at] == '-' ? 'A' : '-';
        parses_to(text, text);
    }
}

static void equal_means_the_same_bytes(void **state)
{
    (void)state;
    struct dk_tenant a, b;
    DK_TEST_OK(err, dk_tenant_parse(dk_view_str("acme"), &a, &err));
    DK_TEST_OK(err, dk_tenant_parse(dk_view_str("acme"), &b, &err));
    assert_true(dk_tenant_equal(&a, &b));
    DK_TEST_OK(err, dk_tenant_parse(dk_view_str("acmE"), &b, &err));
    assert_false(dk_tenant_equal(&a, &b));
    DK_TEST_OK(err, dk_tenant_parse(dk_view_str("acme2"), &b, &err));
    assert_false(dk_tenant_equal(&a, &b));
    assert_true(dk_view_equal(dk_tenant_view(&b), dk_view_str("acme2")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_byte_is_allowed_or_named),
        cmocka_unit_test(one_to_128_bytes_and_nothing_else),
        cmocka_unit_test(only_the_uuid_form_is_lower_cased),
        cmocka_unit_test(every_dash_and_digit_of_a_uuid_counts),
        cmocka_unit_test(equal_means_the_same_bytes),
    };
    return cmocka_run_group_tests_name("tenant", tests, NULL, NULL);
}
