#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include <stdlib.h>
#include <sys/mman.h>

#include "support/world.h"

#define ASSERT_CODE(call, code) assert_string_equal(dekhand_error_name(call), #code)

#define OUT_MAX 1024

/* ---- items
 * ----------------------------------------------------------------------------------------- */

struct sealed {
    uint8_t p[OUT_MAX];
    size_t n;
};

static struct dekhand_item item_of(const char *tenant, const struct dekhand_pair *context,
                                   size_t context_count, enum dekhand_format format, const void *in,
                                   size_t n)
{
    return (struct dekhand_item){.tenant = tenant,
                                 .context = context,
                                 .context_count = context_count,
                                 .format = format,
                                 .in = in,
                                 .in_size = n};
}

static void seal(struct dekhand *d, struct dekhand_item item, struct sealed *out)
{
    item.out = out->p;
    item.capacity = sizeof out->p;
    ASSERT_CODE(dekhand_encrypt(d, &item, NULL), OK);
    out->n = item.size;
}

/* Opens into a buffer that must stay untouched on an error (I20). The plaintext is "secret". */
static int open_value(struct dekhand *d, struct dekhand_item item)
{
    uint8_t out[OUT_MAX], untouched[OUT_MAX];
    memset(out, 0, sizeof out);
    memset(untouched, 0, sizeof untouched);
    item.out = out;
    item.capacity = sizeof out;
    int code = dekhand_decrypt(d, &item, NULL);
    if (code == DEKHAND_OK) {
        assert_int_equal(item.size, 6);
        assert_memory_equal(out, "secret", 6);
        memset(out, 0, 6);
    }
    assert_memory_equal(out, untouched, sizeof out);
    return code;
}

/* ---- I16: where a value opens
 * ------------------------------------------------------------------------ */

static const struct {
    const char *tenant;
    size_t count;
    struct dekhand_pair pairs[3];
} places[] = {
    {"acme", 0, {{0}}},
    {"acme", 1, {{"field", "users.phone"}}},
    {"acme", 1, {{"field", "users.fax"}}},
    {"acme", 1, {{"field", "orders.phone"}}},
    {"acme", 2, {{"field", "users.phone"}, {"row", "1"}}},
    {"acme", 2, {{"field", "users.phone"}, {"row", "2"}}},
    {"acme", 2, {{"field", "1"}, {"row", "users.phone"}}},
    {"acme", 1, {{"field", ""}}},
    {"acme", 1, {{"fielduser", "s.phone"}}},
    {"acme", 2, {{"field", "users.phone"}, {"row", ""}}},
    {"globex", 0, {{0}}},
    {"globex", 1, {{"field", "users.phone"}}},
    {"Acme", 0, {{0}}},
    {"acm", 1, {{"e", ""}}},
};
#define PLACES (sizeof places / sizeof places[0])

static struct dekhand_item item_at(size_t place, const struct sealed *value)
{
    return item_of(places[place].tenant, places[place].pairs, places[place].count, DEKHAND_TEXT,
                   value->p, value->n);
}

static void I16_R10_F62_a_value_opens_in_its_own_place_only(void **state)
{
    (void)state;
    for (int format = DEKHAND_TEXT; format <= DEKHAND_BINARY; format++) {
        struct dk_place place;
        dk_place_new(&place, false);
        struct dekhand *d = dk_place_open(&place);
        for (size_t made = 0; made < PLACES; made++) {
            struct sealed value;
            seal(d,
                 item_of(places[made].tenant, places[made].pairs, places[made].count,
                         (enum dekhand_format)format, "secret", 6),
                 &value);
            for (size_t asked = 0; asked < PLACES; asked++) {
                int code = open_value(d, item_at(asked, &value));
                if (asked == made) {
                    ASSERT_CODE(code, OK);
                } else if (code != DEKHAND_E_UNKNOWN_VERSION) { /* a tenant without any key */
                    assert_true(code == DEKHAND_E_AUTH || code == DEKHAND_E_WRONG_KEY);
                }
            }
        }
        dk_place_close(d);
        dk_place_free(&place);
    }
}

static void the_order_of_pairs_and_the_case_of_a_uuid_do_not_matter(void **state)
{
    (void)state;
    struct dk_place place;
    struct sealed value;
    static const struct dekhand_pair there[] = {{"field", "a"}, {"row", "1"}};
    static const struct dekhand_pair back[] = {{"row", "1"}, {"field", "a"}};
    static const char *const ids[] = {"3f2504e0-4f89-41d3-9a0c-0305e82c3301",
                                      "3F2504E0-4F89-41D3-9A0C-0305E82C3301",
                                      "3f2504E0-4f89-41D3-9a0c-0305e82C3301"};
    dk_place_new(&place, false);
    struct dekhand *d = dk_place_open(&place);
    for (size_t i = 0; i < 3; i++) {
        seal(d, item_of(ids[i], there, 2, DEKHAND_TEXT, "secret", 6), &value);
        for (size_t k = 0; k < 3; k++) {
            ASSERT_CODE(open_value(d, item_of(ids[k], back, 2, DEKHAND_TEXT, value.p, value.n)),
                        OK);
        }
    }
    assert_int_equal(dk_place_number(&place, "SELECT count(*) FROM tenants"), 1);
    dk_place_close(d);
    dk_place_free(&place);
}

/* ---- F57, F58: what is no value
 * ----------------------------------------------------------------------- */

static void F58_R26_a_value_with_any_bit_flipped_is_refused(void **state)
{
    (void)state;
    struct dk_place place;
    struct sealed value;
    dk_place_new(&place, false);
    struct dekhand *d = dk_place_open(&place);
    for (int format = DEKHAND_TEXT; format <= DEKHAND_BINARY; format++) {
        seal(d, item_of("acme", NULL, 0, (enum dekhand_format)format, "secret", 6), &value);
        for (size_t bit = 0; bit < 8 * value.n; bit++) {
            value.p[bit / 8] ^= (uint8_t)(1u << bit % 8);
            int code = open_value(d, item_of("acme", NULL, 0, DEKHAND_TEXT, value.p, value.n));
            value.p[bit / 8] ^= (uint8_t)(1u << bit % 8);
            assert_true(code == DEKHAND_E_FORMAT || code == DEKHAND_E_AUTH ||
                        code == DEKHAND_E_WRONG_KEY || code == DEKHAND_E_UNKNOWN_VERSION);
        }
        ASSERT_CODE(open_value(d, item_of("acme", NULL, 0, DEKHAND_TEXT, value.p, value.n)), OK);
    }
    dk_place_close(d);
    dk_place_free(&place);
}

static void F57_a_value_of_another_length_is_refused(void **state)
{
    (void)state;
    struct dk_place place;
    struct sealed value;
    dk_place_new(&place, false);
    struct dekhand *d = dk_place_open(&place);
    for (int format = DEKHAND_TEXT; format <= DEKHAND_BINARY; format++) {
        seal(d, item_of("acme", NULL, 0, (enum dekhand_format)format, "secret", 6), &value);
        size_t least = dekhand_encrypted_size((enum dekhand_format)format, 1, 0);
        for (size_t n = 0; n < value.n + 8; n++) {
            uint8_t *copy = calloc(1, n + 1); /* reading past its end would show */
            assert_non_null(copy);
            memcpy(copy, value.p, n < value.n ? n : value.n);
            int code = open_value(d, item_of("acme", NULL, 0, DEKHAND_TEXT, copy, n));
            if (n == value.n) {
                ASSERT_CODE(code, OK);
            } else if (n < least) {
                ASSERT_CODE(code, E_FORMAT);
            } else {
                assert_true(code == DEKHAND_E_FORMAT || code == DEKHAND_E_AUTH);
            }
            free(copy);
        }
    }
    dk_place_close(d);
    dk_place_free(&place);
}

static void F57_sizes_beyond_the_limit_are_refused_unread(void **state)
{
    (void)state;
    struct dk_place place;
    struct sealed value;
    struct dekhand_error error;
    uint8_t out[64];
    dk_place_new(&place, false);
    struct dekhand *d = dk_place_open(&place);
    /* memory that cannot be read: only its size may be looked at */
    void *none = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(none != MAP_FAILED);
    static const size_t sizes[] = {DEKHAND_PLAINTEXT_MAX + 1, (size_t)1 << 32, SIZE_MAX};
    for (size_t i = 0; i < 3; i++) {
        struct dekhand_item item = item_of("acme", NULL, 0, DEKHAND_TEXT, none, sizes[i]);
        item.out = out;
        item.capacity = sizeof out;
        assert_int_equal(dekhand_encrypt(d, &item, &error), DEKHAND_E_LIMIT);
    }
    for (int format = DEKHAND_TEXT; format <= DEKHAND_BINARY; format++) {
        seal(d, item_of("acme", NULL, 0, (enum dekhand_format)format, "secret", 6), &value);
        for (size_t i = 1; i < 3; i++) { /* a value that claims to go on for ever */
            size_t plain = 0;
            ASSERT_CODE(open_value(d, item_of("acme", NULL, 0, DEKHAND_TEXT, value.p, sizes[i])),
                        E_FORMAT);
            ASSERT_CODE(dekhand_decrypted_size(value.p, sizes[i], &plain, &error), E_FORMAT);
        }
    }
    munmap(none, 4096);
    dk_place_close(d);
    dk_place_free(&place);
}

static void the_largest_and_the_smallest_value_come_back(void **state)
{
    (void)state;
    static const size_t sizes[] = {0, 1, DEKHAND_PLAINTEXT_MAX};
    struct dk_place place;
    dk_place_new(&place, false);
    struct dekhand *d = dk_place_open(&place);
    for (size_t i = 0; i < 3; i++) {
        for (int format = DEKHAND_TEXT; format <= DEKHAND_BINARY; format++) {
            size_t n = sizes[i], plain_n = 0;
            size_t size = dekhand_encrypted_size((enum dekhand_format)format, 1, n);
            uint8_t *plain = malloc(n + 1), *value = malloc(size), *back = malloc(n + 1);
            assert_true(plain != NULL && value != NULL && back != NULL);
            memset(plain, 0xAB, n + 1);
            struct dekhand_item item =
                item_of("acme", NULL, 0, (enum dekhand_format)format, plain, n);
            item.out = value;
            item.capacity = size;
            ASSERT_CODE(dekhand_encrypt(d, &item, NULL), OK);
            assert_int_equal(item.size, size);
            ASSERT_CODE(dekhand_decrypted_size(value, size, &plain_n, NULL), OK);
            assert_int_equal(plain_n, n);
            item = item_of("acme", NULL, 0, DEKHAND_TEXT, value, size);
            item.out = back;
            item.capacity = n;
            ASSERT_CODE(dekhand_decrypt(d, &item, NULL), OK);
            assert_memory_equal(back, plain, n);
            free(plain);
            free(value);
            free(back);
        }
    }
    dk_place_close(d);
    dk_place_free(&place);
}

static void a_buffer_one_byte_short_is_told_the_exact_size(void **state)
{
    (void)state;
    struct dk_place place;
    struct sealed value;
    dk_place_new(&place, false);
    struct dekhand *d = dk_place_open(&place);
    for (int format = DEKHAND_TEXT; format <= DEKHAND_BINARY; format++) {
        for (size_t n = 0; n < 40; n++) {
            uint8_t plain[40] = {0}, out[OUT_MAX], untouched[OUT_MAX];
            memset(out, 0xEE, sizeof out);
            memset(untouched, 0xEE, sizeof untouched);
            size_t size = dekhand_encrypted_size((enum dekhand_format)format, 1, n);
            assert_true(size <= dekhand_encrypted_size((enum dekhand_format)format, 0, n));
            struct dekhand_item item =
                item_of("acme", NULL, 0, (enum dekhand_format)format, plain, n);
            item.out = out;
            item.capacity = size - 1;
            ASSERT_CODE(dekhand_encrypt(d, &item, NULL), E_BUFFER);
            assert_int_equal(item.size, size);
            assert_memory_equal(out, untouched, sizeof out);
            seal(d, item_of("acme", NULL, 0, (enum dekhand_format)format, plain, n), &value);
            assert_int_equal(value.n, size);
            item = item_of("acme", NULL, 0, DEKHAND_TEXT, value.p, value.n);
            item.out = out;
            item.capacity = n == 0 ? 0 : n - 1;
            int code = dekhand_decrypt(d, &item, NULL);
            assert_int_equal(code, n == 0 ? DEKHAND_OK : DEKHAND_E_BUFFER);
            assert_int_equal(item.size, n);
            assert_memory_equal(out, untouched, sizeof out);
        }
    }
    dk_place_close(d);
    dk_place_free(&place);
}

/* ---- calls that are not valid
 * -------------------------------------------------------------------------- */

static void calls_that_are_not_valid_say_so(void **state)
{
    (void)state;
    struct dk_place place;
    struct dekhand_pair pairs[17], half = {"a", NULL}, bad = {"a", "\xff"},
                                   twice[2] = {{"a", "1"}, {"a", "2"}};
    char longest[258];
    uint8_t out[OUT_MAX];
    memset(longest, 'x', sizeof longest);
    longest[257] = '\0';
    struct dekhand_pair too_long = {longest, "1"}, no_name = {"", "1"};
    for (size_t i = 0; i < 17; i++) {
        pairs[i] = (struct dekhand_pair){longest + 240 + i, "v"};
    }
    dk_place_new(&place, false);
    struct dekhand *d = dk_place_open(&place);
    const struct {
        struct dekhand_item item;
        int code;
    } calls[] = {
        {item_of(NULL, NULL, 0, DEKHAND_TEXT, "x", 1), DEKHAND_E_USAGE},
        {item_of("", NULL, 0, DEKHAND_TEXT, "x", 1), DEKHAND_E_USAGE},
        {item_of("a b", NULL, 0, DEKHAND_TEXT, "x", 1), DEKHAND_E_USAGE},
        {item_of(longest, NULL, 0, DEKHAND_TEXT, "x", 1), DEKHAND_E_USAGE},
        {item_of("acme", NULL, 0, DEKHAND_TEXT, NULL, 1), DEKHAND_E_USAGE},
        {item_of("acme", NULL, 1, DEKHAND_TEXT, "x", 1), DEKHAND_E_USAGE},
        {item_of("acme", pairs, 17, DEKHAND_TEXT, "x", 1), DEKHAND_E_LIMIT},
        {item_of("acme", &half, 1, DEKHAND_TEXT, "x", 1), DEKHAND_E_USAGE},
        {item_of("acme", &bad, 1, DEKHAND_TEXT, "x", 1), DEKHAND_E_USAGE},
        {item_of("acme", twice, 2, DEKHAND_TEXT, "x", 1), DEKHAND_E_USAGE},
        {item_of("acme", &no_name, 1, DEKHAND_TEXT, "x", 1), DEKHAND_E_LIMIT},
        {item_of("acme", &too_long, 1, DEKHAND_TEXT, "x", 1), DEKHAND_E_LIMIT},
        {item_of("acme", NULL, 0, (enum dekhand_format)7, "x", 1), DEKHAND_E_USAGE},
    };
    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++) {
        struct dekhand_item item = calls[i].item;
        struct dekhand_error error;
        item.out = out;
        item.capacity = sizeof out;
        int code = dekhand_encrypt(d, &item, &error);
        if (code != calls[i].code) {
            fail_msg("call %zu: %s %s", i, error.name, error.text);
        }
    }
    struct dekhand_item item = item_of("acme", NULL, 0, DEKHAND_TEXT, "x", 1);
    item.capacity = 5;
    ASSERT_CODE(dekhand_encrypt(d, &item, NULL), E_USAGE);
    ASSERT_CODE(dekhand_encrypt(d, NULL, NULL), E_USAGE);
    ASSERT_CODE(dekhand_encrypt(NULL, &item, NULL), E_USAGE);
    ASSERT_CODE(dekhand_decrypt(NULL, &item, NULL), E_USAGE);
    ASSERT_CODE(dekhand_encrypt_batch(d, NULL, 1, NULL), E_USAGE);
    ASSERT_CODE(dekhand_encrypt_batch(d, NULL, 0, NULL), OK);
    dk_place_close(d);
    dk_place_free(&place);
}

/* ---- R27: batches
 * ---------------------------------------------------------------------------------------- */

static void count_commits(void *arg, const char *label)
{
    *(int *)arg += strcmp(label, "first_use.committed") == 0;
}

static void R27_new_tenants_of_a_batch_are_made_in_one_transaction(void **state)
{
    (void)state;
    enum { ITEMS = 30, TENANTS = 10 };
    struct dk_place place;
    static uint8_t out[ITEMS][128], back[ITEMS][16];
    char names[TENANTS][32];
    struct dekhand_item items[ITEMS];
    int commits = 0;
    dk_place_new(&place, true);
    place.w.world.trace = count_commits;
    place.w.world.trace_arg = &commits;
    struct dekhand *d = dk_place_open(&place);
    int made = atomic_load(&place.fake->calls[DK_FAKE_GENERATE]);
    int opened = atomic_load(&place.fake->calls[DK_FAKE_UNWRAP]);
    for (int i = 0; i < ITEMS; i++) {
        snprintf(names[i % TENANTS], sizeof names[0], "t-%d", i % TENANTS);
        items[i] = item_of(names[i % TENANTS], NULL, 0, i % 2 ? DEKHAND_TEXT : DEKHAND_BINARY,
                           "secret", 6);
        items[i].out = out[i];
        items[i].capacity = sizeof out[i];
    }
    ASSERT_CODE(dekhand_encrypt_batch(d, items, ITEMS, NULL), OK);
    assert_int_equal(commits, 1);
    assert_int_equal(atomic_load(&place.fake->calls[DK_FAKE_GENERATE]) - made, TENANTS);
    /* each fresh wrap is proved, and each stored one opened (I06) */
    assert_int_equal(atomic_load(&place.fake->calls[DK_FAKE_UNWRAP]) - opened, 2 * TENANTS);
    dk_place_close(d);
    d = dk_place_open(&place); /* cold */
    opened = atomic_load(&place.fake->calls[DK_FAKE_UNWRAP]);
    for (int i = 0; i < ITEMS; i++) {
        items[i].in = out[i];
        items[i].in_size = items[i].size;
        items[i].out = back[i];
        items[i].capacity = sizeof back[i];
    }
    ASSERT_CODE(dekhand_decrypt_batch(d, items, ITEMS, NULL), OK);
    assert_int_equal(atomic_load(&place.fake->calls[DK_FAKE_UNWRAP]) - opened, TENANTS);
    for (int i = 0; i < ITEMS; i++) {
        ASSERT_CODE(items[i].code, OK);
        assert_int_equal(items[i].size, 6);
        assert_memory_equal(back[i], "secret", 6);
    }
    dk_place_close(d);
    dk_place_free(&place);
}

static void R27_a_bad_item_harms_no_other(void **state)
{
    (void)state;
    struct dk_place place;
    uint8_t out[9][128];
    struct dekhand_error error;
    struct sealed value;
    dk_place_new(&place, false);
    struct dekhand *d = dk_place_open(&place);
    seal(d, item_of("tampered", NULL, 0, DEKHAND_TEXT, "secret", 6), &value);
    dk_place_close(d);
    assert_int_equal(dk_place_sql(&place, "UPDATE encryption_keys SET kms_key_id = 'local:x'"), 0);
    d = dk_place_open(&place);
    struct dekhand_pair half = {NULL, "1"};
    struct dekhand_item items[] = {
        item_of("acme", NULL, 0, DEKHAND_TEXT, "secret", 6),
        item_of(NULL, NULL, 0, DEKHAND_TEXT, "secret", 6),
        item_of("no tenant", NULL, 0, DEKHAND_TEXT, "secret", 6),
        item_of("tampered", NULL, 0, DEKHAND_TEXT, "secret", 6),
        item_of("acme", &half, 1, DEKHAND_TEXT, "secret", 6),
        item_of("globex", NULL, 0, DEKHAND_TEXT, NULL, 6),
        item_of("globex", NULL, 0, DEKHAND_TEXT, "secret", DEKHAND_PLAINTEXT_MAX + 1),
        item_of("globex", NULL, 0, DEKHAND_TEXT, "secret", 6),
        item_of("acme", NULL, 0, DEKHAND_BINARY, "secret", 6),
    };
    static const int codes[] = {DEKHAND_OK,         DEKHAND_E_USAGE, DEKHAND_E_USAGE,
                                DEKHAND_E_TAMPERED, DEKHAND_E_USAGE, DEKHAND_E_USAGE,
                                DEKHAND_E_LIMIT,    DEKHAND_OK,      DEKHAND_OK};
    for (size_t i = 0; i < 9; i++) {
        items[i].out = out[i];
        items[i].capacity = sizeof out[i];
        items[i].code = -1;
    }
    assert_int_equal(dekhand_encrypt_batch(d, items, 9, &error), DEKHAND_E_USAGE); /* the first */
    assert_non_null(strstr(error.text, "item 2 of 9"));
    for (size_t i = 0; i < 9; i++) {
        assert_int_equal(items[i].code, codes[i]);
        if (codes[i] == DEKHAND_OK) {
            ASSERT_CODE(open_value(d, item_of(items[i].tenant, NULL, 0, DEKHAND_TEXT, out[i],
                                              items[i].size)),
                        OK);
        }
    }
    /* the same on the way back: cut, of another tenant, of an unknown version */
    struct dekhand_item values[4];
    uint8_t back[4][16];
    for (size_t i = 0; i < 4; i++) {
        values[i] = item_of("acme", NULL, 0, DEKHAND_TEXT, out[0], items[0].size);
        values[i].out = back[i];
        values[i].capacity = sizeof back[i];
    }
    values[1].tenant = "globex";
    uint8_t unknown[128];
    memcpy(unknown, out[0], items[0].size);
    unknown[4] = '8';
    values[2].in = unknown;
    values[0].in_size -= 2; /* no length that base64url has */
    ASSERT_CODE(dekhand_decrypt_batch(d, values, 4, NULL), E_FORMAT);
    assert_int_equal(values[0].code, DEKHAND_E_FORMAT);
    assert_int_equal(values[1].code, DEKHAND_E_WRONG_KEY);
    assert_int_equal(values[2].code, DEKHAND_E_UNKNOWN_VERSION);
    assert_int_equal(values[3].code, DEKHAND_OK);
    dk_place_close(d);
    dk_place_free(&place);
}

/* ---- many threads
 * --------------------------------------------------------------------------------------- */

enum { THREADS = 8, ROUNDS = 150 };

struct busy {
    struct dk_place place;
    struct dekhand *d;
    atomic_int bad;
};

static void work(void *arg, size_t index)
{
    struct busy *busy = arg;
    char tenant[32];
    for (size_t i = 0; i < ROUNDS; i++) {
        struct dk_test_value value;
        snprintf(tenant, sizeof tenant, "t-%zu", (index + i) % 5);
        if (index == 0 && i % 10 == 0) {
            int code = dk_test_rotate(busy->d, tenant, 0, NULL);
            atomic_fetch_add(&busy->bad, code != DEKHAND_OK && code != DEKHAND_E_NOT_FOUND);
        }
        int sealed = dk_test_encrypt(busy->d, tenant, "secret", &value);
        int opened = sealed == 0 ? dk_test_decrypt(busy->d, tenant, &value, "secret") : 0;
        atomic_fetch_add(&busy->bad, sealed != DEKHAND_OK || opened != DEKHAND_OK);
    }
}

static void I18_threads_share_an_instance_while_keys_rotate(void **state)
{
    (void)state;
    struct busy busy = {.bad = 0};
    struct dekhand_stats stats = {.size = sizeof stats};
    dk_place_new(&busy.place, false);
    busy.d = dk_place_open(&busy.place);
    dk_test_threads(THREADS, work, &busy);
    assert_int_equal(busy.bad, 0);
    ASSERT_CODE(dekhand_stats(busy.d, &stats, NULL), OK);
    assert_int_equal(stats.active_keys, 5);
    assert_int_equal(stats.calls, 2 * THREADS * ROUNDS);
    dk_place_close(busy.d);
    assert_int_equal(dk_place_number(&busy.place, "SELECT sum(messages) FROM encryption_keys"),
                     THREADS * ROUNDS);
    dk_place_free(&busy.place);
    assert_int_equal(busy.place.w.live, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(I16_R10_F62_a_value_opens_in_its_own_place_only),
        cmocka_unit_test(the_order_of_pairs_and_the_case_of_a_uuid_do_not_matter),
        cmocka_unit_test(F58_R26_a_value_with_any_bit_flipped_is_refused),
        cmocka_unit_test(F57_a_value_of_another_length_is_refused),
        cmocka_unit_test(F57_sizes_beyond_the_limit_are_refused_unread),
        cmocka_unit_test(the_largest_and_the_smallest_value_come_back),
        cmocka_unit_test(a_buffer_one_byte_short_is_told_the_exact_size),
        cmocka_unit_test(calls_that_are_not_valid_say_so),
        cmocka_unit_test(R27_new_tenants_of_a_batch_are_made_in_one_transaction),
        cmocka_unit_test(R27_a_bad_item_harms_no_other),
        cmocka_unit_test(I18_threads_share_an_instance_while_keys_rotate),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
