#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include "crypto/context.h"
#include "support/expect.h"

static struct dk_err err;
static uint8_t out[DK_CONTEXT_ENCODED_MAX];
static size_t out_len;

static struct dk_pair pair(const char *name, const char *value)
{
    return (struct dk_pair){dk_view_str(name), dk_view_str(value)};
}

static void the_empty_context_is_a_zero(void **state)
{
    (void)state;
    DK_TEST_OK(err, dk_context_encode(NULL, 0, out, &out_len, &err));
    assert_int_equal(out_len, 4);
    assert_memory_equal(out, "\0\0\0\0", 4);
}

static void pairs_are_sorted_by_name_as_bytes(void **state)
{
    (void)state;
    static const char want[] = "\0\0\0\4"
                               "\0\0\0\1A\0\0\0\0"
                               "\0\0\0\1a\0\0\0\1x"
                               "\0\0\0\2aa\0\0\0\1y"
                               "\0\0\0\2\xC3\xA4\0\0\0\1z";
    const struct dk_pair sorted[] = {pair("A", ""), pair("a", "x"), pair("aa", "y"),
                                     pair("\xC3\xA4", "z")};
    for (int order = 0; order < 24; order++) { /* all permutations of four */
        struct dk_pair pairs[4];
        bool taken[4] = {false};
        for (int i = 0, rest = order; i < 4; i++) {
            int pick = rest % (4 - i), k = 0;
            rest /= 4 - i;
            for (; taken[k] || pick > 0; k++) {
                pick -= !taken[k];
            }
            taken[k] = true;
            pairs[i] = sorted[k];
        }
        DK_TEST_OK(err, dk_context_encode(pairs, 4, out, &out_len, &err));
        assert_int_equal(out_len, sizeof want - 1);
        assert_memory_equal(out, want, sizeof want - 1);
    }
}

static void sizes_up_to_the_limits_pass_and_the_next_are_refused(void **state)
{
    (void)state;
    static uint8_t letters[300];
    memset(letters, 'n', sizeof letters);
    for (size_t n = 0; n <= 258; n++) {
        struct dk_pair name = {dk_view_of(letters, n), dk_view_str("v")};
        struct dk_pair value = {dk_view_str("n"), dk_view_of(letters, n)};
        if (n >= 1 && n <= 256) {
            DK_TEST_OK(err, dk_context_encode(&name, 1, out, &out_len, &err));
            assert_int_equal(out_len, 4 + 4 + n + 4 + 1);
        } else {
            DK_TEST_FAILS(err, LIMIT, dk_context_encode(&name, 1, out, &out_len, &err));
        }
        if (n <= 256) {
            DK_TEST_OK(err, dk_context_encode(&value, 1, out, &out_len, &err));
            assert_int_equal(out_len, 4 + 4 + 1 + 4 + n);
        } else {
            DK_TEST_FAILS(err, LIMIT, dk_context_encode(&value, 1, out, &out_len, &err));
        }
    }
}

static void sixteen_pairs_at_their_longest_fill_the_buffer(void **state)
{
    (void)state;
    static char names[17][256];
    struct dk_pair pairs[17];
    for (size_t i = 0; i < 17; i++) {
        memset(names[i], 'a' + (int)i, 256);
        pairs[i] = (struct dk_pair){dk_view_of(names[i], 256), dk_view_of(names[0], 256)};
    }
    DK_TEST_OK(err, dk_context_encode(pairs, 16, out, &out_len, &err));
    assert_int_equal(out_len, DK_CONTEXT_ENCODED_MAX);
    DK_TEST_FAILS(err, LIMIT, dk_context_encode(pairs, 17, out, &out_len, &err));
    DK_TEST_FAILS(err, LIMIT, dk_context_encode(pairs, SIZE_MAX, out, &out_len, &err));
}

static void what_is_not_utf8_or_holds_a_NUL_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *p;
        size_t n;
    } bad[] = {{"\xFF", 1}, {"a\0b", 3}, {"\0", 1}, {"\xC3", 1}, {"\xED\xA0\x80", 3}};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct dk_pair name = {dk_view_of(bad[i].p, bad[i].n), dk_view_str("v")};
        struct dk_pair value = {dk_view_str("n"), dk_view_of(bad[i].p, bad[i].n)};
        DK_TEST_FAILS(err, USAGE, dk_context_encode(&name, 1, out, &out_len, &err));
        DK_TEST_FAILS(err, USAGE, dk_context_encode(&value, 1, out, &out_len, &err));
    }
}

static void a_name_given_twice_is_refused_wherever_it_stands(void **state)
{
    (void)state;
    for (size_t count = 2; count <= 16; count++) {
        for (size_t i = 0; i < count; i++) {
            for (size_t k = 0; k < i; k++) {
                char names[16][3];
                struct dk_pair pairs[16];
                for (size_t m = 0; m < count; m++) {
                    /* neither ascending nor descending */
                    snprintf(names[m], sizeof names[m], "%c", (char)('a' + m * 7 % 17));
                    pairs[m] = pair(names[m], "v");
                }
                DK_TEST_OK(err, dk_context_encode(pairs, count, out, &out_len, &err));
                pairs[i].name = pairs[k].name;
                DK_TEST_FAILS(err, USAGE, dk_context_encode(pairs, count, out, &out_len, &err));
                DK_TEST_SAYS(err, "twice");
            }
        }
    }
}

static bool encodings_equal(const struct dk_pair *a, size_t na, const struct dk_pair *b, size_t nb)
{
    uint8_t first[DK_CONTEXT_ENCODED_MAX];
    size_t first_len = 0;
    DK_TEST_OK(err, dk_context_encode(a, na, first, &first_len, &err));
    DK_TEST_OK(err, dk_context_encode(b, nb, out, &out_len, &err));
    return first_len == out_len && memcmp(first, out, out_len) == 0;
}

static void I17_known_neighbours_differ(void **state)
{
    (void)state;
    const struct dk_pair ab_c[] = {pair("ab", "c")}, a_bc[] = {pair("a", "bc")};
    const struct dk_pair a_empty[] = {pair("a", "")};
    const struct dk_pair a_b[] = {pair("a", "b")}, b_a[] = {pair("b", "a")};
    const struct dk_pair two[] = {pair("a", "b"), pair("c", "d")};
    const struct dk_pair crossed[] = {pair("a", "d"), pair("c", "b")};
    const struct dk_pair joined[] = {pair("a", "b\x01\x02\x01"
                                               "c")};
    assert_false(encodings_equal(ab_c, 1, a_bc, 1));
    assert_false(encodings_equal(a_empty, 1, NULL, 0)); /* empty is not absent */
    assert_false(encodings_equal(a_b, 1, b_a, 1));
    assert_false(encodings_equal(two, 2, crossed, 2));
    assert_false(encodings_equal(two, 2, joined, 1));
    assert_false(encodings_equal(two, 2, two, 1));
    assert_true(encodings_equal(two, 2, two, 2));
}

/* A small world of contexts, so that equal ones and near ones are met often. */
struct sample {
    char text[4][2][4];
    struct dk_pair pairs[4];
    size_t count;
};

static void draw_text(uint64_t *seed, char text[4], size_t least)
{
    static const char letters[] = {'a', 'b', '\x01', '\x02'};
    uint64_t r = dk_test_random(seed);
    size_t n = least + (r >> 40) % (4 - least);
    for (size_t i = 0; i < n; i++) {
        text[i] = letters[(r >> (2 * i)) & 3];
    }
    text[n] = '\0';
}

static bool has_name(const struct sample *s, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(s->text[i][0], name) == 0) {
            return true;
        }
    }
    return false;
}

static void draw(uint64_t *seed, struct sample *s)
{
    s->count = dk_test_random(seed) >> 62;
    for (size_t i = 0; i < s->count; i++) {
        do {
            draw_text(seed, s->text[i][0], 1);
        } while (has_name(s, i, s->text[i][0]));
        draw_text(seed, s->text[i][1], 0);
    }
}

/* Another context close to `from`: a pair moved, dropped, changed, or a letter across a border. */
static void draw_near(uint64_t *seed, const struct sample *from, struct sample *to)
{
    *to = *from;
    if (to->count == 0) {
        draw(seed, to);
        return;
    }
    uint64_t r = dk_test_random(seed);
    size_t i = (r >> 8) % to->count, k = (r >> 16) % to->count;
    char *name = to->text[i][0], *value = to->text[i][1];
    switch (r % 5) {
    case 0: { /* the same pairs in another order */
        char other[2][4];
        memcpy(other, to->text[i], sizeof other);
        memcpy(to->text[i], to->text[k], sizeof other);
        memcpy(to->text[k], other, sizeof other);
        break;
    }
    case 1:
        to->count--;
        break;
    case 2:
        draw_text(seed, value, 0);
        break;
    case 3: /* the value's first letter becomes the name's last */
        if (strlen(name) < 3 && value[0] != '\0') {
            size_t n = strlen(name);
            name[n] = value[0];
            name[n + 1] = '\0';
            memmove(value, value + 1, strlen(value));
        }
        break;
    default:
        draw_text(seed, name, 1);
        break;
    }
    for (size_t a = 0; a < to->count; a++) {
        if (has_name(to, a, to->text[a][0])) {
            to->count = a; /* no name twice */
        }
    }
}

static bool same_map(const struct sample *a, const struct sample *b)
{
    if (a->count != b->count) {
        return false;
    }
    for (size_t i = 0; i < a->count; i++) {
        size_t k = 0;
        while (k < b->count && strcmp(a->text[i][0], b->text[k][0]) != 0) {
            k++;
        }
        if (k == b->count || strcmp(a->text[i][1], b->text[k][1]) != 0) {
            return false;
        }
    }
    return true;
}

static size_t encode_sample(struct sample *s, uint8_t *to)
{
    size_t n = 0;
    for (size_t i = 0; i < s->count; i++) {
        s->pairs[i] = pair(s->text[i][0], s->text[i][1]);
    }
    dk_err_clear(&err);
    if (dk_context_encode(s->pairs, s->count, to, &n, &err) != DK_OK) {
        fail_msg("%s", err.text);
    }
    return n;
}

/* The inverse, written from FORMATS: what has an inverse is injective. */
static bool decode(const uint8_t *p, size_t n, struct sample *s)
{
    const uint8_t *end = p + n;
    memset(s, 0, sizeof *s);
    s->count = dk_get_u32(p);
    p += 4;
    for (size_t i = 0; i < s->count; i++) {
        for (int part = 0; part < 2; part++) {
            size_t len = end - p >= 4 ? dk_get_u32(p) : SIZE_MAX;
            if (len > 3 || (size_t)(end - p) < 4 + len) {
                return false;
            }
            memcpy(s->text[i][part], p + 4, len);
            p += 4 + len;
        }
    }
    return p == end;
}

static void I17_encoding_is_injective(void **state)
{
    (void)state;
    uint64_t seed = 17;
    unsigned same = 0, different = 0;
    for (int i = 0; i < 1000000; i++) {
        struct sample a, b, back;
        uint8_t ea[256], eb[256];
        draw(&seed, &a);
        draw_near(&seed, &a, &b);
        size_t na = encode_sample(&a, ea), nb = encode_sample(&b, eb);
        bool equal = na == nb && memcmp(ea, eb, na) == 0;
        if (equal != same_map(&a, &b)) {
            fail_msg("pair %d: encodings %s, contexts do not", i, equal ? "agree" : "differ");
        }
        if (!decode(ea, na, &back) || !same_map(&a, &back)) {
            fail_msg("pair %d does not come back", i);
        }
        same += equal;
        different += !equal;
    }
    assert_true(same > 100000 && different > 100000); /* both cases were met */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_empty_context_is_a_zero),
        cmocka_unit_test(pairs_are_sorted_by_name_as_bytes),
        cmocka_unit_test(sizes_up_to_the_limits_pass_and_the_next_are_refused),
        cmocka_unit_test(sixteen_pairs_at_their_longest_fill_the_buffer),
        cmocka_unit_test(what_is_not_utf8_or_holds_a_NUL_is_refused),
        cmocka_unit_test(a_name_given_twice_is_refused_wherever_it_stands),
        cmocka_unit_test(I17_known_neighbours_differ),
        cmocka_unit_test(I17_encoding_is_injective),
    };
    return cmocka_run_group_tests_name("context", tests, NULL, NULL);
}
