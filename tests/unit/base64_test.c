#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include <openssl/evp.h>

#include "base/bytes.h"
#include "support/expect.h"

#define STD "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
#define URL "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

static bool of_alphabet(const char *alphabet, int c)
{
    return c != 0 && strchr(alphabet, c) != NULL;
}

static bool std_ok(const char *text, size_t len)
{
    uint8_t out[64];
    size_t n;
    return dk_base64_decode(text, len, out, sizeof out, &n);
}

static bool url_ok(const char *text, size_t len)
{
    uint8_t out[64];
    size_t n;
    return dk_base64url_decoded_len(len, &n) && n <= sizeof out &&
           dk_base64url_decode(text, len, out);
}

static void rfc4648_examples(void **state)
{
    (void)state;
    static const char *const rows[][2] = {{"", ""},
                                          {"f", "Zg=="},
                                          {"fo", "Zm8="},
                                          {"foo", "Zm9v"},
                                          {"foob", "Zm9vYg=="},
                                          {"fooba", "Zm9vYmE="},
                                          {"foobar", "Zm9vYmFy"}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const uint8_t *plain = (const uint8_t *)rows[i][0];
        size_t n = strlen(rows[i][0]);
        char text[16];
        dk_base64_encode(plain, n, text);
        assert_string_equal(text, rows[i][1]);
        memset(text, '#', sizeof text);
        dk_base64url_encode(plain, n, text);
        size_t len = strcspn(rows[i][1], "=");
        assert_int_equal(DK_BASE64URL_LEN(n), len);
        assert_memory_equal(text, rows[i][1], len);
        assert_int_equal(text[len], '#'); /* no NUL, nothing beyond */
    }
}

static void random_bytes_encode_as_openssl_does_and_come_back(void **state)
{
    (void)state;
    uint64_t seed = 64;
    for (int round = 0; round < 20000; round++) {
        uint8_t in[200], back[200];
        unsigned char theirs[300];
        char ours[300], url[300];
        size_t n = dk_test_random(&seed) % (sizeof in + 1), got = 999;
        dk_test_random_bytes(&seed, in, n);
        int len = EVP_EncodeBlock(theirs, in, (int)n);
        dk_base64_encode(in, n, ours);
        assert_string_equal(ours, (char *)theirs);
        assert_int_equal(DK_BASE64_LEN(n), len);
        assert_true(dk_base64_decode(ours, (size_t)len, back, n, &got));
        assert_int_equal(got, n);
        assert_memory_equal(back, in, n);

        dk_base64url_encode(in, n, url);
        size_t url_len = DK_BASE64URL_LEN(n);
        for (size_t i = 0; i < url_len; i++) {
            char same = ours[i] == '+' ? '-' : ours[i] == '/' ? '_' : ours[i];
            assert_int_equal(url[i], same);
        }
        memset(back, 0, sizeof back);
        assert_true(dk_base64url_decoded_len(url_len, &got));
        assert_int_equal(got, n);
        assert_true(dk_base64url_decode(url, url_len, back));
        assert_memory_equal(back, in, n);
    }
}

static void F61_each_byte_outside_the_alphabet_is_refused_everywhere(void **state)
{
    (void)state;
    for (size_t len = 4; len <= 8; len += 4) {
        for (size_t at = 0; at < len; at++) {
            for (int c = 0; c < 256; c++) {
                char text[9] = "AAAAAAAA";
                text[at] = (char)c;
                /* '=' may stand last: then the bits before it are zero here */
                assert_int_equal(std_ok(text, len),
                                 of_alphabet(STD, c) || (c == '=' && at == len - 1));
                assert_int_equal(url_ok(text, len), of_alphabet(URL, c));
            }
        }
    }
}

static void F61_padding_is_exact_or_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "Zg",   "Zg=",  "Zg===", "Zm8",      "Zm8==",    "Zm9v=",    "====", "A===",
        "Zg=a", "Z=g=", "=Zg=",  "Zm9v====", "Zg==Zg==", "Zm8=Zm9v", "=",    "=="};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_false(std_ok(bad[i], strlen(bad[i])));
    }
    static const char *const padded[] = {"Zg==", "Zm8=", "Zg=", "Zm9v=", "Zm9v====", "="};
    for (size_t i = 0; i < sizeof padded / sizeof padded[0]; i++) {
        assert_false(url_ok(padded[i], strlen(padded[i])));
    }
}

static void F61_blanks_and_line_ends_are_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"Zm9v\n",     "Zm9v\r\n", " Zm9v",  "Zm9v ", "Zm 9v",
                                      "Zm9v\nZm9v", "Zm9\n",    "Zg==\n", "\tZm9", "Z g="};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_false(std_ok(bad[i], strlen(bad[i])));
        assert_false(url_ok(bad[i], strlen(bad[i])));
    }
    assert_false(std_ok("Zm9\0", 4));
    assert_false(url_ok("Zm\0", 3));
}

static void F61_the_other_alphabet_is_refused(void **state)
{
    (void)state;
    assert_true(std_ok("+/+/", 4));
    assert_false(std_ok("-_-_", 4));
    assert_true(url_ok("-_-_", 4));
    assert_false(url_ok("+/+/", 4));
    assert_false(url_ok("AAA/", 4));
    assert_false(url_ok("A+", 2));
}

static void F61_each_value_has_one_text(void **state)
{
    (void)state;
    for (int a = 0; a < 64; a++) {
        for (int b = 0; b < 64; b++) {
            char two[5] = {URL[a], URL[b], '=', '='};
            char three[5] = {'A', URL[a], URL[b], '='};
            assert_int_equal(url_ok(two, 2), b % 16 == 0);
            assert_int_equal(url_ok(three, 3), b % 4 == 0);
            two[0] = STD[a], two[1] = STD[b];
            three[1] = STD[a], three[2] = STD[b];
            assert_int_equal(std_ok(two, 4), b % 16 == 0);
            assert_int_equal(std_ok(three, 4), b % 4 == 0);
        }
    }
}

static void an_impossible_length_is_refused(void **state)
{
    (void)state;
    for (size_t len = 0; len < 200; len++) {
        size_t n = 999;
        assert_int_equal(dk_base64url_decoded_len(len, &n), len % 4 != 1);
        if (len % 4 != 1) {
            assert_int_equal(DK_BASE64URL_LEN(n), len);
        }
    }
    uint8_t out[4];
    assert_false(dk_base64url_decode("AAAAA", 5, out));
    assert_false(dk_base64url_decode("A", 1, out));
}

static void what_does_not_fit_is_refused_untouched(void **state)
{
    (void)state;
    uint8_t out[8];
    size_t n = 77;
    memset(out, 0xEE, sizeof out);
    assert_false(dk_base64_decode("Zm9vYmFy", 8, out, 5, &n));
    assert_int_equal(n, 77);
    for (size_t i = 0; i < sizeof out; i++) {
        assert_int_equal(out[i], 0xEE);
    }
    assert_true(dk_base64_decode("Zm9vYmFy", 8, out, 6, &n));
    assert_int_equal(n, 6);
    assert_int_equal(out[6], 0xEE);
    assert_true(dk_base64_decode("", 0, out, 0, &n));
    assert_int_equal(n, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rfc4648_examples),
        cmocka_unit_test(random_bytes_encode_as_openssl_does_and_come_back),
        cmocka_unit_test(F61_each_byte_outside_the_alphabet_is_refused_everywhere),
        cmocka_unit_test(F61_padding_is_exact_or_refused),
        cmocka_unit_test(F61_blanks_and_line_ends_are_refused),
        cmocka_unit_test(F61_the_other_alphabet_is_refused),
        cmocka_unit_test(F61_each_value_has_one_text),
        cmocka_unit_test(an_impossible_length_is_refused),
        cmocka_unit_test(what_does_not_fit_is_refused_untouched),
    };
    return cmocka_run_group_tests_name("base64", tests, NULL, NULL);
}
