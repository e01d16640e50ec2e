#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include "base/bytes.h"
#include "support/expect.h"

static struct dk_err err;

static void views_compare_by_length_and_bytes(void **state)
{
    (void)state;
    assert_true(dk_view_equal(dk_view_str("abc"), dk_view_of("abcd", 3)));
    assert_false(dk_view_equal(dk_view_str("abc"), dk_view_str("abcd")));
    assert_false(dk_view_equal(dk_view_str("abc"), dk_view_str("abd")));
    assert_true(dk_view_equal(dk_view_of(NULL, 0), dk_view_str("")));
}

static void a_buffer_grows_to_its_ceiling_and_no_further(void **state)
{
    (void)state;
    struct dk_test_world w;
    dk_test_world_init(&w);
    struct dk_buf buf;
    dk_buf_init(&buf, &w.world.mem, 1000);
    for (int i = 0; i < 1000; i++) {
        uint8_t byte = (uint8_t)(i * 7);
        DK_TEST_OK(err, dk_buf_add(&buf, &byte, 1, &err));
    }
    assert_int_equal(buf.n, 1000);
    assert_true(buf.cap <= 1000);
    DK_TEST_FAILS(err, LIMIT, dk_buf_add(&buf, "x", 1, &err));
    DK_TEST_SAYS(err, "1000");
    DK_TEST_FAILS(err, LIMIT, dk_buf_reserve(&buf, SIZE_MAX, &err));
    assert_int_equal(buf.n, 1000);
    for (int i = 0; i < 1000; i++) {
        assert_int_equal(buf.p[i], (uint8_t)(i * 7));
    }
    DK_TEST_OK(err, dk_buf_add(&buf, NULL, 0, &err));
    dk_buf_clear(&buf);
    assert_int_equal(w.live, 0);
}

static void one_large_piece_fits_at_once(void **state)
{
    (void)state;
    struct dk_test_world w;
    dk_test_world_init(&w);
    struct dk_buf buf;
    uint8_t piece[3000];
    memset(piece, 9, sizeof piece);
    dk_buf_init(&buf, &w.world.mem, 4000);
    DK_TEST_OK(err, dk_buf_add(&buf, piece, sizeof piece, &err));
    DK_TEST_OK(err, dk_buf_add(&buf, piece, 1000, &err));
    DK_TEST_FAILS(err, LIMIT, dk_buf_add(&buf, piece, 1, &err));
    assert_int_equal(w.allocs, 1); /* doubling would pass the ceiling: it takes the ceiling */
    dk_buf_clear(&buf);
    assert_null(buf.p);
    assert_int_equal(buf.n, 0);
    DK_TEST_OK(err, dk_buf_add(&buf, piece, 5, &err)); /* usable again */
    assert_int_equal(buf.n, 5);
    dk_buf_clear(&buf);
    assert_int_equal(w.live, 0);
}

static void F01_a_buffer_without_memory_keeps_its_content(void **state)
{
    (void)state;
    struct dk_test_world w;
    dk_test_world_init(&w);
    struct dk_buf buf;
    dk_buf_init(&buf, &w.world.mem, 100000);
    w.fail_alloc_at = 1;
    DK_TEST_FAILS(err, NOMEM, dk_buf_add(&buf, "abc", 3, &err));
    assert_int_equal(buf.n, 0);
    DK_TEST_OK(err, dk_buf_add(&buf, "abc", 3, &err));
    w.fail_alloc_at = w.allocs + 1;
    DK_TEST_FAILS(err, NOMEM, dk_buf_reserve(&buf, 50000, &err));
    assert_int_equal(buf.n, 3);
    assert_memory_equal(buf.p, "abc", 3);
    dk_buf_clear(&buf);
    assert_int_equal(w.live, 0);
}

/* Keeps freed blocks readable until the end of the test. */
static uint8_t kept[8][512];
static size_t kept_count;

static void *keep_alloc(void *arg, size_t n)
{
    (void)arg;
    return n <= sizeof kept[0] && kept_count < 8 ? kept[kept_count++] : NULL;
}

static void keep_free(void *arg, void *p)
{
    (void)arg;
    (void)p;
}

static size_t count_secret(void)
{
    size_t n = 0;
    for (size_t i = 0; i + 6 <= sizeof kept; i++) {
        n += memcmp((uint8_t *)kept + i, "secret", 6) == 0;
    }
    return n;
}

static void I28_a_wiped_buffer_leaves_nothing_behind(void **state)
{
    (void)state;
    const struct dk_mem mem = {keep_alloc, keep_free, NULL};
    struct dk_buf buf;
    dk_buf_init(&buf, &mem, 512);
    DK_TEST_OK(err, dk_buf_add(&buf, "secret", 6, &err));
    assert_int_equal(count_secret(), 1);
    DK_TEST_OK(err, dk_buf_reserve(&buf, 400, &err)); /* moves: the old block is wiped too */
    assert_int_equal(kept_count, 2);
    assert_int_equal(count_secret(), 1);
    dk_buf_wipe(&buf);
    assert_int_equal(count_secret(), 0);
    assert_int_equal(buf.cap, 0);
    dk_buf_wipe(&buf); /* an empty one is allowed */
}

static void numbers_are_big_endian_and_lengths_precede(void **state)
{
    (void)state;
    uint8_t out[16] = {0};
    assert_ptr_equal(dk_put_u32(out, 0x01020304), out + 4);
    assert_memory_equal(out, "\x01\x02\x03\x04", 4);
    assert_int_equal(dk_get_u32((const uint8_t *)"\xff\x00\x80\x01"), 0xff008001u);
    assert_ptr_equal(dk_put_lp(out, "abc", 3), out + 7);
    assert_memory_equal(out,
                        "\x00\x00\x00\x03"
                        "abc",
                        7);
    assert_ptr_equal(dk_put_lp(out, NULL, 0), out + 4);
    assert_memory_equal(out, "\x00\x00\x00\x00", 4);
}

static void hex_is_lower_case_and_comes_back(void **state)
{
    (void)state;
    uint8_t all[256], back[256];
    char text[513];
    for (int i = 0; i < 256; i++) {
        all[i] = (uint8_t)i;
    }
    dk_hex_encode(all, 256, text);
    assert_int_equal(strlen(text), 512);
    assert_int_equal(strncmp(text, "000102", 6), 0);
    assert_string_equal(text + 506, "fdfeff");
    assert_true(dk_hex_decode(text, 512, back, 256));
    assert_memory_equal(all, back, 256);
    assert_true(dk_hex_decode("aBcDeF09", 8, back, 4));
    assert_memory_equal(back, "\xab\xcd\xef\x09", 4);
}

static void hex_refuses_other_lengths_and_every_other_byte(void **state)
{
    (void)state;
    uint8_t out[4];
    assert_false(dk_hex_decode("abc", 3, out, 2));
    assert_false(dk_hex_decode("abcd", 4, out, 1));
    assert_false(dk_hex_decode("", 0, out, 1));
    assert_true(dk_hex_decode("", 0, out, 0));
    for (int c = 0; c < 256; c++) {
        char hi[2] = {(char)c, '0'}, lo[2] = {'0', (char)c};
        bool digit = c != 0 && strchr("0123456789abcdefABCDEF", c) != NULL;
        assert_int_equal(dk_hex_decode(hi, 2, out, 1), digit);
        assert_int_equal(dk_hex_decode(lo, 2, out, 1), digit);
    }
}

/* RFC 3629, section 4, written from the grammar instead of from code points. */
static size_t utf8_one(const uint8_t *p, size_t n)
{
    static const struct {
        uint8_t lead[2], second[2];
        size_t len;
    } rows[] = {{{0x01, 0x7F}, {0, 0}, 1},       {{0xC2, 0xDF}, {0x80, 0xBF}, 2},
                {{0xE0, 0xE0}, {0xA0, 0xBF}, 3}, {{0xE1, 0xEC}, {0x80, 0xBF}, 3},
                {{0xED, 0xED}, {0x80, 0x9F}, 3}, {{0xEE, 0xEF}, {0x80, 0xBF}, 3},
                {{0xF0, 0xF0}, {0x90, 0xBF}, 4}, {{0xF1, 0xF3}, {0x80, 0xBF}, 4},
                {{0xF4, 0xF4}, {0x80, 0x8F}, 4}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        size_t len = rows[i].len;
        if (p[0] < rows[i].lead[0] || p[0] > rows[i].lead[1] || len > n) {
            continue;
        }
        bool ok = len == 1 || (p[1] >= rows[i].second[0] && p[1] <= rows[i].second[1]);
        for (size_t k = 2; k < len; k++) {
            ok = ok && p[k] >= 0x80 && p[k] <= 0xBF;
        }
        return ok ? len : 0;
    }
    return 0;
}

static bool utf8_all(const uint8_t *p, size_t n)
{
    while (n > 0) {
        size_t len = utf8_one(p, n);
        if (len == 0) {
            return false;
        }
        p += len;
        n -= len;
    }
    return true;
}

static void utf8_agrees_with_the_grammar_on_every_two_bytes_and_edges(void **state)
{
    (void)state;
    static const uint8_t edges[] = {0x01, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xFF};
    uint8_t p[4];
    for (unsigned v = 0; v < 0x10000; v++) {
        p[0] = (uint8_t)(v >> 8);
        p[1] = (uint8_t)v;
        assert_int_equal(dk_utf8_valid(p, 1), utf8_all(p, 1));
        assert_int_equal(dk_utf8_valid(p, 2), utf8_all(p, 2));
        for (unsigned k = 0; k < 100; k++) {
            p[2] = edges[k / 10];
            p[3] = edges[k % 10];
            if (dk_utf8_valid(p, 3) != utf8_all(p, 3) || dk_utf8_valid(p, 4) != utf8_all(p, 4)) {
                fail_msg("%02x %02x %02x %02x", p[0], p[1], p[2], p[3]);
            }
        }
    }
}

static void utf8_refuses_what_the_rfc_names(void **state)
{
    (void)state;
    static const char *const bad[] = {"\xC0\x80",         "\xE0\x80\x80",     "\xED\xA0\x80",
                                      "\xF4\x90\x80\x80", "\xF8\x88\x80\x80", "\xE2\x82",
                                      "\xC3\x28",         "\xF0\x8F\xBF\xBF", "a\xFF"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_false(dk_utf8_valid((const uint8_t *)bad[i], strlen(bad[i])));
    }
    assert_true(dk_utf8_valid((const uint8_t *)"Stra\xC3\x9F\xE2\x82\xAC\xF0\x9F\x98\x80", 13));
    assert_false(dk_utf8_valid((const uint8_t *)"a\0b", 3));
    assert_true(dk_utf8_valid(NULL, 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(views_compare_by_length_and_bytes),
        cmocka_unit_test(a_buffer_grows_to_its_ceiling_and_no_further),
        cmocka_unit_test(one_large_piece_fits_at_once),
        cmocka_unit_test(F01_a_buffer_without_memory_keeps_its_content),
        cmocka_unit_test(I28_a_wiped_buffer_leaves_nothing_behind),
        cmocka_unit_test(numbers_are_big_endian_and_lengths_precede),
        cmocka_unit_test(hex_is_lower_case_and_comes_back),
        cmocka_unit_test(hex_refuses_other_lengths_and_every_other_byte),
        cmocka_unit_test(utf8_agrees_with_the_grammar_on_every_two_bytes_and_edges),
        cmocka_unit_test(utf8_refuses_what_the_rfc_names),
    };
    return cmocka_run_group_tests_name("bytes", tests, NULL, NULL);
}
