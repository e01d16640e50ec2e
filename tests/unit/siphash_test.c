#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/params.h>

#include "crypto/siphash.h"
#include "support/expect.h"

static void to_bytes(struct dk_hash128 h, uint8_t out[16])
{
    for (int i = 0; i < 8; i++) {
        out[i] = (uint8_t)(h.lo >> (8 * i));
        out[8 + i] = (uint8_t)(h.hi >> (8 * i));
    }
}

static void by_openssl(EVP_MAC *mac, const uint8_t key[16], const uint8_t *p, size_t n,
                       uint8_t out[16])
{
    size_t size = 16, got = 0;
    OSSL_PARAM params[] = {OSSL_PARAM_construct_size_t(OSSL_MAC_PARAM_SIZE, &size),
                           OSSL_PARAM_construct_end()};
    EVP_MAC_CTX *ctx = EVP_MAC_CTX_new(mac);
    assert_non_null(ctx);
    assert_int_equal(EVP_MAC_init(ctx, key, 16, params), 1);
    assert_int_equal(EVP_MAC_update(ctx, p, n), 1);
    assert_int_equal(EVP_MAC_final(ctx, out, &got, 16), 1);
    assert_int_equal(got, 16);
    EVP_MAC_CTX_free(ctx);
}

static void agrees_with_openssl_for_every_length(void **state)
{
    (void)state;
    EVP_MAC *mac = EVP_MAC_fetch(NULL, "SIPHASH", NULL);
    assert_non_null(mac);
    uint64_t seed = 21;
    for (size_t n = 0; n <= 600; n++) {
        uint8_t key[16], p[600], ours[16], theirs[16];
        dk_test_random_bytes(&seed, key, sizeof key);
        dk_test_random_bytes(&seed, p, n);
        to_bytes(dk_siphash128(key, p, n), ours);
        by_openssl(mac, key, p, n, theirs);
        assert_memory_equal(ours, theirs, 16);
    }
    EVP_MAC_free(mac);
}

/* vectors_sip128 of the reference code (veorq/SipHash, CC0): key 00..0f, input 00..len-1. */
static void reference_vectors(void **state)
{
    (void)state;
    static const struct {
        size_t n;
        const char *want;
    } rows[] = {{0, "a3817f04ba25a8e66df67214c7550293"},
                {1, "da87c1d86b99af44347659119b22fc45"},
                {8, "3b62a9ba6258f5610f83e264f31497b4"},
                {63, "5150d1772f50834a503e069a973fbd7c"}};
    uint8_t key[16], p[64], got[16];
    for (uint8_t i = 0; i < 64; i++) {
        p[i] = i;
        key[i % 16] = i % 16;
    }
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char text[33];
        to_bytes(dk_siphash128(key, p, rows[i].n), got);
        dk_hex_encode(got, 16, text);
        assert_string_equal(text, rows[i].want);
    }
}

static void I21_each_bit_of_key_and_message_counts(void **state)
{
    (void)state;
    uint8_t key[16] = {0}, p[40] = {0};
    struct dk_hash128 base = dk_siphash128(key, p, sizeof p);
    for (size_t bit = 0; bit < 8 * (sizeof key + sizeof p); bit++) {
        uint8_t *at = bit < 128 ? &key[bit / 8] : &p[(bit - 128) / 8];
        *at ^= (uint8_t)(1u << bit % 8);
        struct dk_hash128 h = dk_siphash128(key, p, sizeof p);
        assert_true(h.lo != base.lo && h.hi != base.hi); /* both halves, with 2^-64 of luck */
        *at = 0;
    }
    struct dk_hash128 shorter = dk_siphash128(key, p, sizeof p - 1);
    assert_true(shorter.lo != base.lo && shorter.hi != base.hi);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(agrees_with_openssl_for_every_length),
        cmocka_unit_test(reference_vectors),
        cmocka_unit_test(I21_each_bit_of_key_and_message_counts),
    };
    return cmocka_run_group_tests_name("siphash", tests, NULL, NULL);
}
