#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include "keys/heads.h"
#include "support/expect.h"

#define MAC "AeoCYnZ73JxDDrNRICIheCntf9CqTzXHW67xKz6K4yTx"
#define PIN "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
#define LONG "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define UUID_LOWER "6ba7b810-9dad-41d1-80b4-00c04fd430c8"

static struct dk_head only(const char *text)
{
    struct dk_heads heads = dk_heads_of(text);
    struct dk_head head, none;
    assert_true(dk_heads_next(&heads, &head));
    assert_false(dk_heads_next(&heads, &none));
    return head;
}

static void each_kind_of_line_is_read(void **state)
{
    (void)state;
    struct dk_head head = only("tenant acme 9223372036854775807 " MAC "\n");
    assert_int_equal(head.of, DK_HEAD_TENANT);
    assert_string_equal(head.name, "acme");
    assert_int_equal(head.epoch, INT64_MAX);
    assert_string_equal(head.mac, MAC);
    head = only("tenant " UUID_LOWER " 1 -\n");
    assert_int_equal(head.of, DK_HEAD_TENANT);
    assert_string_equal(head.name, UUID_LOWER);
    assert_string_equal(head.mac, "");
    head = only("tenant " LONG LONG LONG LONG " 10 " MAC "\n");
    assert_int_equal(head.of, DK_HEAD_TENANT);
    assert_int_equal(strlen(head.name), DK_TENANT_MAX);
    head = only("process db-1.example/0123456789abcdef " MAC "\n");
    assert_int_equal(head.of, DK_HEAD_PROCESS);
    assert_string_equal(head.name, "db-1.example/0123456789abcdef");
    assert_int_equal(head.epoch, 0);
    assert_string_equal(head.mac, MAC);
    head = only("rekey 2 " PIN "\n");
    assert_int_equal(head.of, DK_HEAD_REKEY);
    assert_int_equal(head.generation, 2);
    assert_string_equal(head.pin, PIN);
    head = only("rekeyed 2147483647\n");
    assert_int_equal(head.of, DK_HEAD_REKEYED);
    assert_int_equal(head.generation, INT32_MAX);
}

/* One fault each; most of them were taken before. */
static void lines_that_are_not_exact_are_not_read(void **state)
{
    (void)state;
    static const char *const wrong[] = {
        "tenant acme 1 " MAC,
        "\n",
        "tenant acme 0 " MAC "\n",
        "tenant acme -1 " MAC "\n",
        "tenant acme +1 " MAC "\n",
        "tenant acme 01 " MAC "\n",
        "tenant acme 1x " MAC "\n",
        "tenant acme 9223372036854775808 " MAC "\n",
        "tenant acme -\n",
        "tenant acme 1\n",
        "tenant acme 1 \n",
        "tenant acme 1 --\n",
        "tenant  acme 1 " MAC "\n",
        "tenant acme  1 " MAC "\n",
        "tenant acme 1  " MAC "\n",
        "tenant\tacme 1 " MAC "\n",
        " tenant acme 1 " MAC "\n",
        "Tenant acme 1 " MAC "\n",
        "tenant acme 1 " MAC "=\n",
        "tenant acme 1 " MAC " \n",
        "tenant acme 1 " MAC " more\n",
        "tenant acme 1 " MAC "\r\n",
        "tenant acme 1 A" MAC "\n",
        "tenant acme 1 -eoCYnZ73JxDDrNRICIheCntf9CqTzXHW67xKz6K4yTx\n",
        "tenant a/b 1 " MAC "\n",
        "tenant * 1 " MAC "\n",
        "tenant 6BA7B810-9dad-41d1-80b4-00c04fd430c8 1 " MAC "\n",
        "tenant " LONG LONG LONG LONG "a 1 " MAC "\n",
        "process db/0123456789abcdef -\n",
        "process db/0123456789abcdef\n",
        "process db " MAC "\n",
        "process /0123456789abcdef " MAC "\n",
        "process db/0123456789ABCDEF " MAC "\n",
        "process db/0123456789abcde " MAC "\n",
        "process db/0123456789abcdef0 " MAC "\n",
        "process my db/0123456789abcdef " MAC "\n",
        "process " MAC "\n",
        "process " LONG LONG LONG "aaaaaaaaaaaaaaa/0123456789abcdef0 " MAC "\n",
        "rekey 2 " PIN " \n",
        "rekey 2  " PIN "\n",
        "rekey 02 " PIN "\n",
        "rekey 0 " PIN "\n",
        "rekey 2147483648 " PIN "\n",
        "rekey 2 " PIN "0\n",
        "rekey 2 0" PIN "\n",
        "rekey 2 A0112233445566778899aabbccddeeff00112233445566778899aabbccddeeff\n",
        "rekey 2\n",
        "rekey 2 " PIN,
        "rekeyed 2 \n",
        "rekeyed 02\n",
        "rekeyed 0\n",
        "rekeyed \n",
        "rekeyed 4294967298\n",
        "rekeyed 2",
        "seal acme 1 " MAC "\n",
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        struct dk_head head = only(wrong[i]);
        if (head.of != DK_HEAD_OTHER) {
            fail_msg("was read: %s", wrong[i]);
        }
    }
}

static void a_wrong_line_does_not_hide_the_next(void **state)
{
    (void)state;
    static const enum dk_head_of want[] = {DK_HEAD_TENANT, DK_HEAD_OTHER, DK_HEAD_OTHER,
                                           DK_HEAD_PROCESS, DK_HEAD_REKEYED};
    struct dk_heads heads = dk_heads_of("tenant acme 1 " MAC "\nno line\n\nprocess "
                                        "db/0123456789abcdef " MAC "\nrekeyed 2\n");
    struct dk_head head;
    for (size_t i = 0; i < sizeof want / sizeof want[0]; i++) {
        assert_true(dk_heads_next(&heads, &head));
        assert_int_equal(head.of, want[i]);
    }
    assert_false(dk_heads_next(&heads, &head));
    heads = dk_heads_of("");
    assert_false(dk_heads_next(&heads, &head));
}

/* `rekey` stands alone, `rekeyed` last. */
static void K5_lines_of_a_rekey_count_in_their_place_only(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "rekey 2 " PIN "\ntenant acme 1 " MAC "\n",
        "tenant acme 1 " MAC "\nrekey 2 " PIN "\n",
        "rekey 2 " PIN "\nrekey 3 " PIN "\n",
        "rekeyed 2\ntenant acme 1 " MAC "\n",
    };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct dk_heads heads = dk_heads_of(texts[i]);
        struct dk_head head;
        while (dk_heads_next(&heads, &head)) {
            assert_true(head.of == DK_HEAD_OTHER || head.of == DK_HEAD_TENANT);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_kind_of_line_is_read),
        cmocka_unit_test(lines_that_are_not_exact_are_not_read),
        cmocka_unit_test(a_wrong_line_does_not_hide_the_next),
        cmocka_unit_test(K5_lines_of_a_rekey_count_in_their_place_only),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
