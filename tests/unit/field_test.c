#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include <openssl/err.h>
#include <stdlib.h>

#include "crypto/field.h"
#include "support/expect.h"

#define VERSION_MAX DK_FIELD_VERSION_MAX
/* dk_field_open() takes memory beyond this plaintext size */
#define STACK_PLAIN (2048 - DK_FIELD_OVERHEAD)

static struct dk_err err;
static struct dk_test_world world;
static struct dk_suite suite;
static uint8_t data_cell[DK_SECRET_CELL];
static const struct dk_secret data_key = {data_cell, 32};
static const uint8_t fixed_nonce[DK_AEAD_NONCE] = {0xa0, 0xa1, 0xa2, 0xa3, 0xa4, 0xa5,
                                                   0xa6, 0xa7, 0xa8, 0xa9, 0xaa, 0xab};

static int open_suite(void **state)
{
    (void)state;
    for (uint8_t i = 0; i < 32; i++) {
        data_cell[i] = i;
    }
    dk_test_world_init(&world);
    dk_err_clear(&err);
    return dk_suite_open(&world.world, &suite, &err) == DK_OK ? 0 : -1;
}

static int close_suite(void **state)
{
    (void)state;
    dk_suite_close(&suite);
    return 0;
}

/* Where a value stands: everything that it is bound to. */
struct place {
    const char *tenant;
    uint32_t version;
    struct dk_pair pairs[4];
    size_t count;
};

static const struct place plain_place = {.tenant = "acme", .version = 7};

static struct place with(struct place place, const char *name, const char *value)
{
    place.pairs[place.count++] = (struct dk_pair){dk_view_str(name), dk_view_str(value)};
    return place;
}

/* A keyed context for one place. */
struct ready {
    uint8_t okm_cell[DK_SECRET_CELL];
    uint8_t aad[DK_FIELD_AAD_MAX];
    size_t aad_len;
    struct dk_aead_key *key;
};

static void ready_for(const struct place *place, enum dk_aead_way way, struct ready *r)
{
    struct dk_tenant tenant;
    struct dk_secret okm = {r->okm_cell, DK_FIELD_SECRET};
    size_t pairs = 0;
    DK_TEST_OK(err, dk_tenant_parse(dk_view_str(place->tenant), &tenant, &err));
    DK_TEST_OK(err, dk_field_derive(&suite, &data_key, &tenant, place->version, &okm, &err));
    r->aad_len = dk_field_aad_prefix(&tenant, place->version, r->aad);
    DK_TEST_OK(err,
               dk_context_encode(place->pairs, place->count, r->aad + r->aad_len, &pairs, &err));
    r->aad_len += pairs;
    DK_TEST_OK(err, suite.aead->key_new(&suite, &okm, way, &r->key, &err));
}

static size_t seal_at(const struct place *place, enum dk_field_form form, struct dk_view plain,
                      uint8_t *out)
{
    struct ready r;
    ready_for(place, DK_AEAD_SEAL, &r);
    const struct dk_field_seal seal = {suite.aead,     r.key,       r.okm_cell + DK_AEAD_KEY,
                                       place->version, fixed_nonce, dk_view_of(r.aad, r.aad_len)};
    DK_TEST_OK(err, dk_field_seal(&seal, form, plain, out, &err));
    suite.aead->key_free(r.key);
    return dk_field_size(form, place->version, plain.n);
}

/* As the manager does: the version comes from the value, all else from the caller. */
static dk_rc open_at(const struct place *place, struct dk_view value, uint8_t *out, size_t *n)
{
    struct dk_field_parts parts;
    struct place at = *place;
    struct ready r;
    dk_err_clear(&err);
    dk_rc rc = dk_field_parse(value, &parts, &err);
    if (rc != DK_OK) {
        return rc;
    }
    at.version = parts.version;
    ready_for(&at, DK_AEAD_OPEN, &r);
    const struct dk_field_open open = {&suite, r.key, r.okm_cell + DK_AEAD_KEY,
                                       dk_view_of(r.aad, r.aad_len)};
    rc = dk_field_open(&open, &parts, out, &err);
    suite.aead->key_free(r.key);
    *n = parts.plain_size;
    ERR_clear_error();
    return rc;
}

static const enum dk_field_form forms[] = {DK_FIELD_TEXT, DK_FIELD_BINARY};

/* Made by an independent writer (Python, cryptography) from FORMATS alone. */
static void known_values_are_written_and_read_byte_for_byte(void **state)
{
    (void)state;
    static const struct {
        const char *plain, *okm, *text, *binary;
    } rows[] = {
        {"",
         "565a763121b3c61f289f2428821f4ba214d1abf3f35448c058ed9618a9e60f8df833011af0b0e2ff200175"
         "c122affe25",
         "dk1.1.-DMBGvCw4v8gAXXBIq_-JaChoqOkpaanqKmqq31cju6SpDmT81NOLTHwiGE",
         "0100000001f833011af0b0e2ff200175c122affe25a0a1a2a3a4a5a6a7a8a9aaab7d5c8eee92a43993f3534e"
         "2d31f08861"},
        {"alice@example.com",
         "40da6be8dadd1adbd3a5d59f21fff7202df6ae8ed7cc73959b250cce44c01356ac4f10d18b9e793b22f3a2bd"
         "1420d600",
         "dk1.7.rE8Q0YueeTsi86K9FCDWAKChoqOkpaanqKmqq3ukveKp-tGfAwVcJeyRY86DUERLBqEcNArWLT8QBVWz"
         "vA",
         "0100000007ac4f10d18b9e793b22f3a2bd1420d600a0a1a2a3a4a5a6a7a8a9aaab7ba4bde2a9fad19f03055c"
         "25ec9163ce8350444b06a11c340ad62d3f100555b3bc"},
        {"\0\1\2\3\4",
         "03f889dd16e2e1a2671b1f5a013d90f4e92cd960af5ec18bdb97f554a86160bb030e9e5da69bdff315f80de8"
         "296327f4",
         "dk1.2147483647.Aw6eXaab3_MV-A3oKWMn9KChoqOkpaanqKmqq6u7rgmzbkcWRWERZTQ7gnXUZpc8jg",
         "017fffffff030e9e5da69bdff315f80de8296327f4a0a1a2a3a4a5a6a7a8a9aaababbbae09b36e4716456111"
         "65343b8275d466973c8e"}};
    struct place places[3] = {
        {.tenant = "acme", .version = 1},
        plain_place,
        {.tenant = "6BA7B810-9DAD-11D1-80B4-00C04FD430C8", .version = VERSION_MAX}};
    places[1] = with(with(places[1], "field", "crm.contacts.email"), "row", "42");
    places[2] = with(with(places[2], "b", ""), "a", "\xC3\xA4");
    for (size_t i = 0; i < 3; i++) {
        struct dk_view plain = dk_view_of(rows[i].plain, i == 2 ? 5 : strlen(rows[i].plain));
        uint8_t value[200], out[64];
        char hex[400];
        size_t n = 0;
        struct ready r;
        ready_for(&places[i], DK_AEAD_SEAL, &r);
        suite.aead->key_free(r.key);
        dk_hex_encode(r.okm_cell, DK_FIELD_SECRET, hex);
        assert_string_equal(hex, rows[i].okm);

        size_t size = seal_at(&places[i], DK_FIELD_TEXT, plain, value);
        assert_int_equal(size, strlen(rows[i].text));
        assert_memory_equal(value, rows[i].text, size);
        assert_int_equal(open_at(&places[i], dk_view_of(value, size), out, &n), DK_OK);
        assert_int_equal(n, plain.n);
        assert_memory_equal(out, plain.p, n);

        size = seal_at(&places[i], DK_FIELD_BINARY, plain, value);
        dk_hex_encode(value, size, hex);
        assert_string_equal(hex, rows[i].binary);
        assert_int_equal(open_at(&places[i], dk_view_of(value, size), out, &n), DK_OK);
        assert_memory_equal(out, plain.p, plain.n);
    }
}

static void every_size_comes_back_and_fills_its_buffer_exactly(void **state)
{
    (void)state;
    static const uint32_t versions[] = {1, 9, 10, 99, 1000000000, VERSION_MAX};
    static uint8_t plain[2600], value[4000], out[2601];
    uint64_t seed = 5;
    dk_test_random_bytes(&seed, plain, sizeof plain);
    for (size_t size = 0; size <= sizeof plain; size += size < 100 || size > 1990 ? 1 : 37) {
        struct place place = {.tenant = "acme", .version = versions[size % 6]};
        for (int f = 0; f < 2; f++) {
            size_t want = dk_field_size(forms[f], place.version, size), n = 0;
            memset(value, 0xEE, sizeof value);
            memset(out, 0xEE, sizeof out);
            seal_at(&place, forms[f], dk_view_of(plain, size), value);
            assert_int_equal(value[want], 0xEE);
            assert_true(forms[f] == DK_FIELD_BINARY || memchr(value, 0xEE, want) == NULL);
            assert_int_equal(open_at(&place, dk_view_of(value, want), out, &n), DK_OK);
            assert_int_equal(n, size);
            assert_memory_equal(out, plain, size);
            assert_int_equal(out[size], 0xEE);
        }
    }
    assert_int_equal(world.live, 0);
}

static void F57_1_MiB_comes_back_and_one_byte_more_is_E_FORMAT(void **state)
{
    (void)state;
    size_t mib = DK_FIELD_PLAIN_MAX, n = 0;
    uint8_t *plain = malloc(mib + 1), *value = malloc(2 * mib), *out = malloc(mib + 1);
    assert_true(plain != NULL && value != NULL && out != NULL);
    uint64_t seed = 6;
    dk_test_random_bytes(&seed, plain, mib + 1);
    for (int f = 0; f < 2; f++) {
        size_t size = seal_at(&plain_place, forms[f], dk_view_of(plain, mib), value);
        assert_int_equal(open_at(&plain_place, dk_view_of(value, size), out, &n), DK_OK);
        assert_int_equal(n, mib);
        assert_memory_equal(out, plain, mib);
        size = seal_at(&plain_place, forms[f], dk_view_of(plain, mib + 1), value);
        assert_int_equal(open_at(&plain_place, dk_view_of(value, size), out, &n), DK_E_FORMAT);
        DK_TEST_SAYS(err, "1 MiB");
    }
    free(plain);
    free(value);
    free(out);
}

static void F57_lengths_from_zero_to_the_header_are_E_FORMAT(void **state)
{
    (void)state;
    for (int f = 0; f < 2; f++) {
        uint8_t value[100], out[8];
        size_t size = seal_at(&plain_place, forms[f], dk_view_of(NULL, 0), value), n;
        for (size_t len = 0; len < size; len++) {
            uint8_t *exact = malloc(len + (len == 0)); /* a sanitizer sees a read too far */
            assert_non_null(exact);
            memcpy(exact, value, len);
            assert_int_equal(open_at(&plain_place, dk_view_of(exact, len), out, &n), DK_E_FORMAT);
            free(exact);
        }
        assert_int_equal(open_at(&plain_place, dk_view_of(value, size), out, &n), DK_OK);
    }
    size_t n;
    assert_int_equal(open_at(&plain_place, dk_view_of(NULL, 0), NULL, &n), DK_E_FORMAT);
}

static void a_value_cut_anywhere_is_refused(void **state)
{
    (void)state;
    for (int f = 0; f < 2; f++) {
        uint8_t value[200], out[64];
        size_t size = seal_at(&plain_place, forms[f], dk_view_str("0123456789abcdef"), value), n;
        for (size_t len = 0; len < size; len++) {
            dk_rc rc = open_at(&plain_place, dk_view_of(value, len), out, &n);
            assert_true(rc == DK_E_FORMAT || rc == DK_E_AUTH);
        }
        value[size] = 'A';
        assert_int_not_equal(open_at(&plain_place, dk_view_of(value, size + 1), out, &n), DK_OK);
    }
}

static void F57_a_claim_of_4_GiB_is_E_FORMAT(void **state)
{
    (void)state;
    static const size_t claims[] = {UINT32_MAX, (size_t)UINT32_MAX + 1, (size_t)UINT32_MAX + 6,
                                    SIZE_MAX / 2};
    static const char *const heads[] = {"dk1.7.AAAA", "\x01\0\0\0\x07"};
    for (int h = 0; h < 2; h++) {
        for (size_t i = 0; i < sizeof claims / sizeof claims[0]; i++) {
            struct dk_field_parts parts; /* only the head is there, and only the head is read */
            DK_TEST_FAILS(err, FORMAT,
                          dk_field_parse(dk_view_of(heads[h], claims[i]), &parts, &err));
        }
    }
}

static void F60_versions_outside_1_to_2147483647_are_E_FORMAT(void **state)
{
    (void)state;
    static const char *const bad[] = {"0",
                                      "00",
                                      "01",
                                      "007",
                                      "",
                                      "-1",
                                      "+1",
                                      " 1",
                                      "1 ",
                                      "1x",
                                      "x",
                                      "0x1",
                                      "1e1",
                                      "1,0",
                                      "2147483648",
                                      "2147483650",
                                      "4294967295",
                                      "4294967296",
                                      "4294967297",
                                      "9999999999",
                                      "18446744073709551617",
                                      "99999999999999999999999999999999999999"};
    char tail[64], text[160];
    memset(tail, 'A', 59);
    tail[59] = '\0';
    struct dk_field_parts parts;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        snprintf(text, sizeof text, "dk1.%s.%s", bad[i], tail);
        DK_TEST_FAILS(err, FORMAT, dk_field_parse(dk_view_str(text), &parts, &err));
    }
    static const uint32_t binary_bad[] = {0, 0x80000000, 0x80000001, UINT32_MAX};
    uint8_t binary[64] = {1};
    for (size_t i = 0; i < 4; i++) {
        dk_put_u32(binary + 1, binary_bad[i]);
        DK_TEST_FAILS(err, FORMAT, dk_field_parse(dk_view_of(binary, 64), &parts, &err));
        DK_TEST_SAYS(err, "key version");
    }
    static const uint32_t good[] = {1, 10, 2147483640, VERSION_MAX};
    for (size_t i = 0; i < 4; i++) {
        dk_put_u32(binary + 1, good[i]);
        DK_TEST_OK(err, dk_field_parse(dk_view_of(binary, 64), &parts, &err));
        assert_int_equal(parts.version, good[i]);
        snprintf(text, sizeof text, "dk1.%u.%s", good[i], tail);
        DK_TEST_OK(err, dk_field_parse(dk_view_str(text), &parts, &err));
        assert_int_equal(parts.version, good[i]);
    }
}

static void R9_a_value_tells_its_form_version_and_size_without_a_key(void **state)
{
    (void)state;
    struct place place = {.tenant = "acme", .version = 31};
    for (int f = 0; f < 2; f++) {
        uint8_t value[200];
        struct dk_field_parts parts;
        size_t size = seal_at(&place, forms[f], dk_view_str("seventeen letters"), value);
        DK_TEST_OK(err, dk_field_parse(dk_view_of(value, size), &parts, &err));
        assert_int_equal(parts.form, forms[f]);
        assert_int_equal(parts.version, 31);
        assert_int_equal(parts.plain_size, 17);
        assert_ptr_equal(parts.body.p + parts.body.n, value + size);
    }
}

static void what_does_not_begin_as_a_dk1_value_is_E_FORMAT(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "dk1",
        "dk1.",
        "dk1.1",
        "dk1.12",
        "dk1.1.",
        "DK1.1.AAAA",
        "dk2.1.AAAA",
        "dk1:1:AAAA",
        " dk1.1.AAAA",
        "\xEF\xBB\xBF\x64k1.1.AAAA",
        "alice@example.com",
        "",
        "{\"encrypted\":\"AAAA\",\"version\":\"v1\",\"algorithm\":\"AES-256-GCM\"}",
        "AAAA",
        "dk1.1..AAAA",
        "dk1..AAAA"};
    struct dk_field_parts parts;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        DK_TEST_FAILS(err, FORMAT, dk_field_parse(dk_view_str(bad[i]), &parts, &err));
    }
    uint8_t binary[64] = {0};
    for (int c = 0; c < 256; c++) {
        binary[0] = (uint8_t)c;
        dk_put_u32(binary + 1, 1);
        dk_err_clear(&err);
        assert_int_equal(dk_field_parse(dk_view_of(binary, 64), &parts, &err),
                         c == 1 ? DK_OK : DK_E_FORMAT);
    }
}

static void F58_R26_each_flipped_bit_is_refused(void **state)
{
    (void)state;
    static const uint8_t zero[64];
    struct place place = with(plain_place, "field", "t.c");
    for (int f = 0; f < 2; f++) {
        uint8_t value[200], out[64];
        unsigned wrong_key = 0, auth = 0, format = 0;
        size_t size = seal_at(&place, forms[f], dk_view_str("plaintext"), value), n;
        for (size_t bit = 0; bit < 8 * size; bit++) {
            value[bit / 8] ^= (uint8_t)(1u << bit % 8);
            memset(out, 0, sizeof out);
            dk_rc rc = open_at(&place, dk_view_of(value, size), out, &n);
            wrong_key += rc == DK_E_WRONG_KEY;
            auth += rc == DK_E_AUTH;
            format += rc == DK_E_FORMAT;
            assert_memory_equal(out, zero, sizeof out);
            value[bit / 8] ^= (uint8_t)(1u << bit % 8);
        }
        assert_int_equal(wrong_key + auth + format, 8 * size);
        if (forms[f] == DK_FIELD_BINARY) {
            /* mark and sign bit of the version; the version and the commitment; all the rest */
            assert_int_equal(format, 8 + 1);
            assert_int_equal(wrong_key, 31 + 8 * DK_FIELD_COMMITMENT);
            assert_int_equal(auth, 8 * (DK_AEAD_NONCE + 9 + DK_AEAD_TAG));
        }
        assert_int_equal(open_at(&place, dk_view_of(value, size), out, &n), DK_OK);
    }
}

static void F58_any_other_byte_anywhere_in_a_text_is_refused(void **state)
{
    (void)state;
    uint8_t value[200], out[64];
    size_t size = seal_at(&plain_place, DK_FIELD_TEXT, dk_view_str("abc"), value), n;
    for (size_t at = 0; at < size; at++) {
        uint8_t right = value[at];
        for (int c = 0; c < 256; c++) {
            value[at] = (uint8_t)c;
            dk_rc rc = open_at(&plain_place, dk_view_of(value, size), out, &n);
            if ((rc == DK_OK) != (c == right)) {
                fail_msg("byte %zu as %d", at, c);
            }
        }
        value[at] = right;
    }
}

static void F61_padding_spaces_and_other_alphabets_are_refused(void **state)
{
    (void)state;
    uint8_t out[64];
    size_t n;
    for (size_t plain = 0; plain < 3; plain++) {
        uint8_t value[200];
        size_t size = seal_at(&plain_place, DK_FIELD_TEXT, dk_view_of("ab", plain), value);
        static const char *const tails[] = {"=", "==",   "===", "\n",  "\r\n",
                                            " ", "    ", "A",   "AAAA"};
        for (size_t i = 0; i < sizeof tails / sizeof tails[0]; i++) {
            memcpy(value + size, tails[i], strlen(tails[i]));
            assert_int_not_equal(
                open_at(&plain_place, dk_view_of(value, size + strlen(tails[i])), out, &n), DK_OK);
        }
        static const char other[] = "+/= \n\t.%";
        for (size_t at = size - 20; at < size; at++) {
            uint8_t right = value[at];
            for (const char *c = other; *c != '\0'; c++) {
                value[at] = (uint8_t)*c;
                assert_int_equal(open_at(&plain_place, dk_view_of(value, size), out, &n),
                                 DK_E_FORMAT);
            }
            value[at] = right;
        }
        assert_int_equal(open_at(&plain_place, dk_view_of(value, size), out, &n), DK_OK);
    }
}

static void letters_are_judged_without_a_key(void **state)
{
    (void)state;
    static uint8_t plain[3000], value[4200];
    static const size_t sizes[] = {0, 1, 2, 3, 723, 724, 725, 726, 1492, 2999};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        struct dk_field_parts parts;
        size_t size = seal_at(&plain_place, DK_FIELD_TEXT, dk_view_of(plain, sizes[i]), value);
        DK_TEST_OK(err, dk_field_parse(dk_view_of(value, size), &parts, &err));
        assert_true(dk_field_letters_ok(&parts));
        size_t head = size - parts.body.n;
        for (size_t at = head; at < size; at += at + 40 < size ? 31 : 1) {
            uint8_t right = value[at];
            value[at] = '+';
            assert_false(dk_field_letters_ok(&parts));
            value[at] = right;
        }
        if (parts.body.n % 4 != 0) { /* a bit that stands for nothing */
            value[size - 1] = value[size - 1] == 'B' ? 'A' : 'B';
            assert_false(dk_field_letters_ok(&parts));
        }
        size = seal_at(&plain_place, DK_FIELD_BINARY, dk_view_of(plain, sizes[i]), value);
        DK_TEST_OK(err, dk_field_parse(dk_view_of(value, size), &parts, &err));
        assert_true(dk_field_letters_ok(&parts)); /* bytes have no letters */
    }
}

static void F62_I16_a_value_opens_in_its_place_only(void **state)
{
    (void)state;
    struct place home = with(with(plain_place, "field", "crm.contacts.email"), "row", "42");
    struct place moved[9];
    for (size_t i = 0; i < 9; i++) {
        moved[i] = plain_place;
    }
    moved[0] = home;
    moved[0].tenant = "acmf";
    moved[1] = home;
    moved[1].tenant = "Acme";
    moved[2] = with(with(plain_place, "field", "crm.contacts.phone"), "row", "42");
    moved[3] = with(with(plain_place, "field", "crm.users.email"), "row", "42");
    moved[4] = with(with(plain_place, "field", "crm.contacts.email"), "row", "43");
    moved[5] = with(plain_place, "field", "crm.contacts.email");
    moved[6] = plain_place;
    moved[7] = with(home, "extra", "");
    moved[8] = with(with(plain_place, "fiel", "dcrm.contacts.email"), "row", "42");
    for (int f = 0; f < 2; f++) {
        uint8_t value[200], out[64];
        static const uint8_t zero[64];
        size_t size = seal_at(&home, forms[f], dk_view_str("alice@example.com"), value), n;
        for (size_t i = 0; i < 9; i++) {
            memset(out, 0, sizeof out);
            dk_rc rc = open_at(&moved[i], dk_view_of(value, size), out, &n);
            assert_string_equal(dk_error_info(rc)->outward, "E_AUTH");
            /* the tenant is in the key as well: another one is another key */
            assert_int_equal(rc, i < 2 ? DK_E_WRONG_KEY : DK_E_AUTH);
            assert_memory_equal(out, zero, sizeof out);
        }
        struct place reordered =
            with(with(plain_place, "row", "42"), "field", "crm.contacts.email");
        assert_int_equal(open_at(&reordered, dk_view_of(value, size), out, &n), DK_OK);
        assert_memory_equal(out, "alice@example.com", 17);
    }
}

static void I16_a_value_given_another_version_is_refused(void **state)
{
    (void)state;
    uint8_t value[200], out[64];
    size_t size = seal_at(&plain_place, DK_FIELD_BINARY, dk_view_str("x"), value), n;
    dk_put_u32(value + 1, 8);
    assert_int_equal(open_at(&plain_place, dk_view_of(value, size), out, &n), DK_E_WRONG_KEY);
}

static void another_data_key_is_E_WRONG_KEY(void **state)
{
    (void)state;
    uint8_t value[200], out[64];
    size_t size = seal_at(&plain_place, DK_FIELD_TEXT, dk_view_str("x"), value), n;
    for (size_t bit = 0; bit < 256; bit++) {
        data_cell[bit / 8] ^= (uint8_t)(1u << bit % 8);
        dk_rc rc = open_at(&plain_place, dk_view_of(value, size), out, &n);
        data_cell[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_int_equal(rc, DK_E_WRONG_KEY);
    }
}

static void I20_a_failed_tag_leaves_the_callers_buffer_zero(void **state)
{
    (void)state;
    static const size_t sizes[] = {1, 16, 100, STACK_PLAIN, STACK_PLAIN + 1, 5000, 100000};
    static uint8_t plain[100000], value[140000], out[100000], zero[100000];
    memset(plain, 'p', sizeof plain);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        for (int f = 0; f < 2; f++) {
            size_t size = seal_at(&plain_place, forms[f], dk_view_of(plain, sizes[i]), value), n;
            value[size - 3] = value[size - 3] == 'A' ? 'B' : 'A'; /* in the tag */
            memset(out, 0, sizeof out);
            assert_int_equal(open_at(&plain_place, dk_view_of(value, size), out, &n), DK_E_AUTH);
            assert_memory_equal(out, zero, sizeof out);
        }
    }
    assert_int_equal(world.live, 0);
}

/* Blocks that stay readable after their free(). */
static uint8_t kept[1 << 16];

static void *keep_alloc(void *arg, size_t n)
{
    (void)arg;
    return n <= sizeof kept ? kept : NULL;
}

static void keep_free(void *arg, void *p)
{
    (void)arg;
    (void)p;
}

static void I28_no_plaintext_stays_in_freed_memory(void **state)
{
    (void)state;
    static uint8_t plain[20000], value[30000], out[20000];
    memset(plain, 'p', sizeof plain);
    struct dk_world keeping = world.world;
    keeping.mem = (struct dk_mem){keep_alloc, keep_free, NULL};
    for (int f = 0; f < 2; f++) {
        for (int bad = 0; bad < 2; bad++) {
            size_t size = seal_at(&plain_place, forms[f], dk_view_of(plain, sizeof plain), value),
                   n;
            value[size - 3] ^= bad ? 1 : 0;
            memset(kept, 0xEE, sizeof kept);
            suite.world = &keeping;
            dk_rc rc = open_at(&plain_place, dk_view_of(value, size), out, &n);
            suite.world = &world.world;
            assert_int_equal(rc == DK_OK, !bad);
            assert_int_equal(kept[sizeof kept - 1], 0xEE);
            for (size_t i = 0; i < sizeof plain + DK_FIELD_OVERHEAD; i++) {
                assert_int_equal(kept[i], 0); /* it was used, and wiped */
            }
        }
    }
}

static void F01_a_long_value_without_memory_is_E_NOMEM(void **state)
{
    (void)state;
    static uint8_t plain[STACK_PLAIN + 1], value[4000], out[STACK_PLAIN + 1], zero[STACK_PLAIN + 1];
    memset(plain, 'p', sizeof plain);
    for (int f = 0; f < 2; f++) {
        size_t size = seal_at(&plain_place, forms[f], dk_view_of(plain, sizeof plain), value), n;
        memset(out, 0, sizeof out);
        world.fail_alloc_at = world.allocs + 1;
        assert_int_equal(open_at(&plain_place, dk_view_of(value, size), out, &n), DK_E_NOMEM);
        assert_memory_equal(out, zero, sizeof out);
        /* one byte less needs no memory at all */
        size = seal_at(&plain_place, forms[f], dk_view_of(plain, STACK_PLAIN), value);
        world.fail_alloc_at = 0;
        world.fail_alloc_all = 1;
        assert_int_equal(open_at(&plain_place, dk_view_of(value, size), out, &n), DK_OK);
        world.fail_alloc_all = 0;
    }
    assert_int_equal(world.live, 0);
}

static bool seal_fails_late(struct dk_aead_key *key, struct dk_aead_op *op)
{
    (void)key;
    memset(op->out, 'p', op->in.n); /* what a broken back end may leave: the plaintext */
    return op->ok = false;
}

static void I20_a_failed_seal_leaves_zeroes(void **state)
{
    (void)state;
    struct dk_aead_ops broken = dk_aead_openssl;
    broken.seal = seal_fails_late;
    for (int f = 0; f < 2; f++) {
        uint8_t out[200], zero[200] = {0};
        struct ready r;
        ready_for(&plain_place, DK_AEAD_SEAL, &r);
        const struct dk_field_seal seal = {&broken, r.key,       r.okm_cell + DK_AEAD_KEY,
                                           7,       fixed_nonce, dk_view_of(r.aad, r.aad_len)};
        size_t size = dk_field_size(forms[f], 7, 9);
        memset(out, 0xEE, sizeof out);
        DK_TEST_FAILS(err, INTERNAL,
                      dk_field_seal(&seal, forms[f], dk_view_str("plaintext"), out, &err));
        assert_memory_equal(out, zero, size);
        assert_int_equal(out[size], 0xEE);
        suite.aead->key_free(r.key);
    }
}

static void F01_a_key_that_cannot_be_derived_is_no_key(void **state)
{
    (void)state;
    struct dk_tenant tenant;
    uint8_t cell[DK_SECRET_CELL], zero[DK_SECRET_CELL] = {0};
    struct dk_secret okm = {cell, DK_FIELD_SECRET};
    DK_TEST_OK(err, dk_tenant_parse(dk_view_str("acme"), &tenant, &err));
    memset(cell, 0xEE, sizeof cell);
    dk_err_clear(&err);
    dk_test_openssl_fail_in(1);
    dk_rc rc = dk_field_derive(&suite, &data_key, &tenant, 1, &okm, &err);
    dk_test_openssl_fail_in(0);
    ERR_clear_error();
    assert_int_equal(rc, DK_E_NOMEM);
    assert_memory_equal(cell, zero, DK_FIELD_SECRET);
}

static void text_becomes_binary_and_back_without_a_key(void **state)
{
    (void)state;
    for (size_t plain = 0; plain < 40; plain++) {
        uint8_t text[200], binary[200], made[200];
        static const char letters[] = "0123456789012345678901234567890123456789";
        size_t text_len = seal_at(&plain_place, DK_FIELD_TEXT, dk_view_of(letters, plain), text);
        size_t binary_len =
            seal_at(&plain_place, DK_FIELD_BINARY, dk_view_of(letters, plain), binary);
        struct dk_field_parts parts;
        DK_TEST_OK(err, dk_field_parse(dk_view_of(text, text_len), &parts, &err));
        made[0] = 1;
        dk_put_u32(made + 1, parts.version);
        assert_true(dk_base64url_decode((const char *)parts.body.p, parts.body.n, made + 5));
        assert_memory_equal(made, binary, binary_len); /* the nonce is the same here */
        DK_TEST_OK(err, dk_field_parse(dk_view_of(binary, binary_len), &parts, &err));
        int head = snprintf((char *)made, sizeof made, "dk1.%u.", parts.version);
        dk_base64url_encode(parts.body.p, parts.body.n, (char *)made + head);
        assert_memory_equal(made, text, text_len);
    }
}

static void I17_tenant_and_version_are_apart_in_key_and_aad(void **state)
{
    (void)state;
    static const struct place places[] = {
        {.tenant = "a", .version = 1},          {.tenant = "a", .version = 11},
        {.tenant = "a1", .version = 1},         {.tenant = "a11", .version = 1},
        {.tenant = "A", .version = 1},          {.tenant = "a", .version = 0x01000000},
        {.tenant = "a", .version = VERSION_MAX}};
    struct ready r[7];
    for (size_t i = 0; i < 7; i++) {
        ready_for(&places[i], DK_AEAD_SEAL, &r[i]);
        suite.aead->key_free(r[i].key);
        for (size_t k = 0; k < i; k++) {
            assert_memory_not_equal(r[i].okm_cell, r[k].okm_cell, DK_AEAD_KEY);
            assert_memory_not_equal(r[i].okm_cell + 32, r[k].okm_cell + 32, DK_FIELD_COMMITMENT);
            assert_true(r[i].aad_len != r[k].aad_len ||
                        memcmp(r[i].aad, r[k].aad, r[i].aad_len) != 0);
        }
    }
    struct dk_tenant longest;
    char name[DK_TENANT_MAX];
    uint8_t prefix[DK_FIELD_AAD_PREFIX_MAX];
    memset(name, 't', sizeof name);
    DK_TEST_OK(err, dk_tenant_parse(dk_view_of(name, sizeof name), &longest, &err));
    assert_int_equal(dk_field_aad_prefix(&longest, 1, prefix), DK_FIELD_AAD_PREFIX_MAX);
}

/* GF(2^128) as GCM has it (NIST SP 800-38D, 6.3), to build the attack of F59. */

struct gf {
    uint64_t hi, lo;
};

static struct gf gf_load(const uint8_t p[16])
{
    struct gf x = {0, 0};
    for (int i = 0; i < 8; i++) {
        x.hi = x.hi << 8 | p[i];
        x.lo = x.lo << 8 | p[8 + i];
    }
    return x;
}

static struct gf gf_add(struct gf a, struct gf b)
{
    return (struct gf){a.hi ^ b.hi, a.lo ^ b.lo};
}

static struct gf gf_mul(struct gf x, struct gf v)
{
    struct gf z = {0, 0};
    for (int i = 0; i < 128; i++) {
        if ((i < 64 ? x.hi >> (63 - i) : x.lo >> (127 - i)) & 1) {
            z = gf_add(z, v);
        }
        bool carry = v.lo & 1;
        v.lo = v.lo >> 1 | v.hi << 63;
        v.hi = v.hi >> 1 ^ (carry ? UINT64_C(0xE100000000000000) : 0);
    }
    return z;
}

/* a^(2^128 - 2) */
static struct gf gf_inverse(struct gf a)
{
    struct gf result = {UINT64_C(1) << 63, 0}, square = gf_mul(a, a);
    for (int i = 1; i < 128; i++) {
        result = gf_mul(result, square);
        square = gf_mul(square, square);
    }
    return result;
}

/* H = AES_K(0) */
static struct gf hash_key(const uint8_t key[32])
{
    uint8_t zero[16] = {0}, h[32];
    int n = 0;
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    assert_non_null(ctx);
    assert_int_equal(EVP_EncryptInit_ex(ctx, EVP_aes_256_ecb(), NULL, key, NULL), 1);
    assert_int_equal(EVP_EncryptUpdate(ctx, h, &n, zero, 16), 1);
    EVP_CIPHER_CTX_free(ctx);
    return gf_load(h);
}

/* The tag of an all-zero ciphertext block. */
static struct gf tag_of_zeroes(struct ready *r, struct dk_view aad)
{
    uint8_t block[16] = {0}, tag[16];
    struct dk_aead_op op = {fixed_nonce, aad, dk_view_of(block, 16), block, tag, false};
    assert_true(suite.aead->seal(r->key, &op)); /* the keystream */
    assert_true(suite.aead->seal(r->key, &op)); /* sealed again: zeroes */
    assert_true(gf_load(block).hi == 0 && gf_load(block).lo == 0);
    return gf_load(tag);
}

static void gf_store(struct gf x, uint8_t out[16])
{
    dk_put_u32(dk_put_u32(out, (uint32_t)(x.hi >> 32)), (uint32_t)x.hi);
    dk_put_u32(dk_put_u32(out + 8, (uint32_t)(x.lo >> 32)), (uint32_t)x.lo);
}

/*
 * One ciphertext block whose tag is the same under two keys: tag = T0 + C * H^2 for each, so
 * C = (T0a + T0b) / (Ha^2 + Hb^2). Plain AES-GCM opens it under both.
 */
static void F59_R26_one_value_valid_under_two_keys_is_stopped_by_the_commitment(void **state)
{
    (void)state;
    struct ready seal[2], open[2];
    struct place place = plain_place;
    struct gf h2[2], t0[2];
    for (int k = 0; k < 2; k++) {
        data_cell[0] = (uint8_t)(k * 0x40); /* two chosen data keys */
        ready_for(&place, DK_AEAD_SEAL, &seal[k]);
        ready_for(&place, DK_AEAD_OPEN, &open[k]);
        struct gf h = hash_key(seal[k].okm_cell);
        h2[k] = gf_mul(h, h);
        t0[k] = tag_of_zeroes(&seal[k], dk_view_of(seal[k].aad, seal[k].aad_len));
    }
    data_cell[0] = 0;
    uint8_t value[DK_FIELD_BINARY_HEAD + DK_FIELD_OVERHEAD + 16] = {1}, out[16];
    uint8_t *commitment = dk_put_u32(value + 1, place.version);
    uint8_t *block = dk_put_bytes(commitment + DK_FIELD_COMMITMENT, fixed_nonce, DK_AEAD_NONCE);
    uint8_t *tag = block + 16;
    struct gf c = gf_mul(gf_add(t0[0], t0[1]), gf_inverse(gf_add(h2[0], h2[1])));
    gf_store(c, block);
    gf_store(gf_add(t0[0], gf_mul(c, h2[0])), tag);

    for (int k = 0; k < 2; k++) { /* the attack is real */
        struct dk_aead_op op = {
            fixed_nonce, dk_view_of(open[k].aad, open[k].aad_len), dk_view_of(block, 16), out, tag,
            false};
        assert_true(suite.aead->open(open[k].key, &op));
    }
    for (int committed = 0; committed < 2; committed++) { /* and dk1 opens under one key at most */
        memcpy(commitment, seal[committed].okm_cell + DK_AEAD_KEY, DK_FIELD_COMMITMENT);
        struct dk_field_parts parts;
        DK_TEST_OK(err, dk_field_parse(dk_view_of(value, sizeof value), &parts, &err));
        for (int k = 0; k < 2; k++) {
            const struct dk_field_open with_key = {&suite, open[k].key,
                                                   open[k].okm_cell + DK_AEAD_KEY,
                                                   dk_view_of(open[k].aad, open[k].aad_len)};
            dk_err_clear(&err);
            assert_int_equal(dk_field_open(&with_key, &parts, out, &err),
                             k == committed ? DK_OK : DK_E_WRONG_KEY);
        }
    }
    for (int k = 0; k < 2; k++) {
        suite.aead->key_free(seal[k].key);
        suite.aead->key_free(open[k].key);
    }
}

static void random_bytes_never_open_and_never_crash(void **state)
{
    (void)state;
    uint64_t seed = 58;
    unsigned parsed = 0;
    struct ready r;
    ready_for(&plain_place, DK_AEAD_OPEN, &r);
    const struct dk_field_open open = {&suite, r.key, r.okm_cell + DK_AEAD_KEY,
                                       dk_view_of(r.aad, r.aad_len)};
    for (int round = 0; round < 100000; round++) {
        static const char *const heads[] = {"", "dk1.", "dk1.7.", "\x01\0\0\0\x07"};
        static const size_t head_len[] = {0, 4, 6, 5};
        uint8_t value[160], out[160];
        uint64_t x = dk_test_random(&seed);
        size_t size = x % sizeof value, h = (x >> 32) % 4;
        size = size < head_len[h] ? head_len[h] : size;
        dk_test_random_bytes(&seed, value, size);
        if (h == 2) {
            for (size_t i = 0; i < size; i++) {
                value[i] = (uint8_t) "ABCDEFGHabcdefgh0123456789-_AAAA"[value[i] % 32];
            }
        }
        memcpy(value, heads[h], head_len[h]);
        uint8_t *exact = malloc(size + (size == 0));
        assert_non_null(exact);
        memcpy(exact, value, size);
        struct dk_field_parts parts;
        dk_err_clear(&err);
        if (dk_field_parse(dk_view_of(exact, size), &parts, &err) == DK_OK) {
            parsed++;
            assert_int_not_equal(dk_field_open(&open, &parts, out, &err), DK_OK);
        }
        free(exact);
    }
    suite.aead->key_free(r.key);
    ERR_clear_error();
    assert_true(parsed > 10000);
}

int main(void)
{
    dk_test_openssl_memory();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_values_are_written_and_read_byte_for_byte),
        cmocka_unit_test(every_size_comes_back_and_fills_its_buffer_exactly),
        cmocka_unit_test(F57_1_MiB_comes_back_and_one_byte_more_is_E_FORMAT),
        cmocka_unit_test(F57_lengths_from_zero_to_the_header_are_E_FORMAT),
        cmocka_unit_test(a_value_cut_anywhere_is_refused),
        cmocka_unit_test(F57_a_claim_of_4_GiB_is_E_FORMAT),
        cmocka_unit_test(F60_versions_outside_1_to_2147483647_are_E_FORMAT),
        cmocka_unit_test(R9_a_value_tells_its_form_version_and_size_without_a_key),
        cmocka_unit_test(what_does_not_begin_as_a_dk1_value_is_E_FORMAT),
        cmocka_unit_test(F58_R26_each_flipped_bit_is_refused),
        cmocka_unit_test(F58_any_other_byte_anywhere_in_a_text_is_refused),
        cmocka_unit_test(F61_padding_spaces_and_other_alphabets_are_refused),
        cmocka_unit_test(letters_are_judged_without_a_key),
        cmocka_unit_test(F62_I16_a_value_opens_in_its_place_only),
        cmocka_unit_test(I16_a_value_given_another_version_is_refused),
        cmocka_unit_test(another_data_key_is_E_WRONG_KEY),
        cmocka_unit_test(I20_a_failed_tag_leaves_the_callers_buffer_zero),
        cmocka_unit_test(I28_no_plaintext_stays_in_freed_memory),
        cmocka_unit_test(F01_a_long_value_without_memory_is_E_NOMEM),
        cmocka_unit_test(I20_a_failed_seal_leaves_zeroes),
        cmocka_unit_test(F01_a_key_that_cannot_be_derived_is_no_key),
        cmocka_unit_test(text_becomes_binary_and_back_without_a_key),
        cmocka_unit_test(I17_tenant_and_version_are_apart_in_key_and_aad),
        cmocka_unit_test(F59_R26_one_value_valid_under_two_keys_is_stopped_by_the_commitment),
        cmocka_unit_test(random_bytes_never_open_and_never_crash),
    };
    return cmocka_run_group_tests_name("field", tests, open_suite, close_suite);
}
