#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include <openssl/err.h>
#include <openssl/kdf.h>
#include <pthread.h>

#include "crypto/aead.h"
#include "crypto/selftest.h"
#include "support/expect.h"

static struct dk_err err;
static struct dk_suite suite;
static uint8_t cell[3][DK_SECRET_CELL];

static int open_suite(void **state)
{
    (void)state;
    dk_err_clear(&err);
    return dk_suite_open(&dk_world_default, &suite, &err) == DK_OK ? 0 : -1;
}

static int close_suite(void **state)
{
    (void)state;
    dk_suite_close(&suite);
    return 0;
}

static struct dk_secret secret(int which, const char *hex)
{
    struct dk_secret s = {cell[which], (uint8_t)(strlen(hex) / 2)};
    assert_true(dk_hex_decode(hex, strlen(hex), s.cell, s.n));
    return s;
}

static void is_hex(const uint8_t *p, size_t n, const char *want)
{
    char text[200];
    assert_true(n < 100);
    dk_hex_encode(p, n, text);
    assert_string_equal(text, want);
}

static void opening_tests_itself_and_closing_twice_is_allowed(void **state)
{
    (void)state;
    struct dk_suite other;
    DK_TEST_OK(err, dk_suite_open(&dk_world_default, &other, &err));
    assert_ptr_equal(other.world, &dk_world_default);
    assert_ptr_equal(other.aead, &dk_aead_openssl);
    DK_TEST_OK(err, dk_selftest(&other, &err));
    dk_suite_close(&other);
    assert_null(other.aes256gcm);
    dk_suite_close(&other);
}

static void an_openssl_without_the_algorithms_is_refused(void **state)
{
    (void)state;
    struct dk_suite other;
    assert_int_equal(EVP_set_default_properties(NULL, "provider=nothing"), 1);
    dk_err_clear(&err);
    dk_rc rc = dk_suite_open(&dk_world_default, &other, &err);
    assert_int_equal(EVP_set_default_properties(NULL, ""), 1);
    ERR_clear_error();
    assert_int_equal(rc, DK_E_SELFTEST);
    assert_null(other.hmac);
    DK_TEST_OK(err, dk_suite_open(&dk_world_default, &other, &err));
    dk_suite_close(&other);
}

static void the_self_test_names_the_primitive_that_is_wrong(void **state)
{
    (void)state;
    EVP_KDF *kdf = EVP_KDF_fetch(NULL, "TLS1-PRF", NULL);
    EVP_MAC *mac = EVP_MAC_fetch(NULL, "POLY1305", NULL);
    EVP_CIPHER *aria = EVP_CIPHER_fetch(NULL, "ARIA-256-GCM", NULL);
    assert_true(kdf != NULL && mac != NULL && aria != NULL);
    struct dk_suite wrong = suite;
    wrong.hkdf = kdf;
    DK_TEST_FAILS(err, SELFTEST, dk_selftest(&wrong, &err));
    DK_TEST_SAYS(err, "HKDF-SHA-256 does");
    wrong = suite;
    wrong.hmac = mac;
    DK_TEST_FAILS(err, SELFTEST, dk_selftest(&wrong, &err));
    DK_TEST_SAYS(err, "HMAC-SHA-256 does");
    wrong = suite;
    wrong.aes256gcm = aria; /* the right sizes, another cipher */
    DK_TEST_FAILS(err, SELFTEST, dk_selftest(&wrong, &err));
    DK_TEST_SAYS(err, "AES-256-GCM does");
    EVP_KDF_free(kdf);
    EVP_MAC_free(mac);
    EVP_CIPHER_free(aria);
    ERR_clear_error();
}

static bool open_without_tag(struct dk_aead_key *key, struct dk_aead_op *op)
{
    (void)dk_aead_openssl.open(key, op);
    return op->ok = true;
}

static bool seal_one_bit_off(struct dk_aead_key *key, struct dk_aead_op *op)
{
    bool ok = dk_aead_openssl.seal(key, op);
    op->out[op->in.n - 1] ^= 1;
    return ok;
}

static bool seal_tag_off(struct dk_aead_key *key, struct dk_aead_op *op)
{
    bool ok = dk_aead_openssl.seal(key, op);
    op->tag[0] ^= 1;
    return ok;
}

static bool open_one_bit_off(struct dk_aead_key *key, struct dk_aead_op *op)
{
    bool ok = dk_aead_openssl.open(key, op);
    op->out[0] ^= 1;
    return ok;
}

static bool fails(struct dk_aead_key *key, struct dk_aead_op *op)
{
    (void)key;
    return op->ok = false;
}

static dk_rc no_key(const struct dk_suite *s, const struct dk_secret *key, enum dk_aead_way way,
                    struct dk_aead_key **out, struct dk_err *e)
{
    return way == DK_AEAD_OPEN ? DK_FAIL(e, NOMEM, "none")
                               : dk_aead_openssl.key_new(s, key, way, out, e);
}

static void the_self_test_refuses_a_back_end_that_errs(void **state)
{
    (void)state;
    struct dk_aead_ops bad[7];
    for (size_t i = 0; i < 7; i++) {
        bad[i] = dk_aead_openssl;
    }
    bad[0].open = open_without_tag; /* the worst: takes a wrong tag */
    bad[1].seal = seal_one_bit_off;
    bad[2].seal = seal_tag_off;
    bad[3].open = open_one_bit_off;
    bad[4].seal = fails;
    bad[5].open = fails;
    bad[6].key_new = no_key;
    for (size_t i = 0; i < 7; i++) {
        struct dk_suite wrong = suite;
        wrong.aead = &bad[i];
        DK_TEST_FAILS(err, SELFTEST, dk_selftest(&wrong, &err));
        DK_TEST_SAYS(err, "AES-256-GCM does");
    }
}

/* RFC 5869, A.1 and A.3. */
static void hkdf_gives_the_rfc_values(void **state)
{
    (void)state;
    uint8_t out[42], ikm[22], salt[13], info[10];
    memset(ikm, 0x0b, sizeof ikm);
    for (uint8_t i = 0; i < 13; i++) {
        salt[i] = i;
        info[i % 10] = (uint8_t)(0xf0 + i % 10);
    }
    assert_true(dk_hkdf_raw(&suite, dk_view_of(ikm, 22), dk_view_of(salt, 13), dk_view_of(info, 10),
                            out, 42));
    is_hex(out, 42,
           "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865");
    struct dk_secret key = secret(0, "0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b");
    DK_TEST_OK(err, dk_hkdf_public(&suite, &key, dk_view_of(NULL, 0), out, 42, &err));
    is_hex(out, 42,
           "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8");
    struct dk_secret okm = {cell[1], 42};
    DK_TEST_OK(err, dk_hkdf_secret(&suite, &key, dk_view_of(NULL, 0), &okm, &err));
    assert_memory_equal(okm.cell, out, 42);
}

static void hkdf_depends_on_key_size_and_info(void **state)
{
    (void)state;
    struct dk_secret key = secret(0, "00112233445566778899aabbccddeeff");
    uint8_t a[32], b[32];
    DK_TEST_OK(err, dk_hkdf_public(&suite, &key, dk_view_str("one"), a, 32, &err));
    DK_TEST_OK(err, dk_hkdf_public(&suite, &key, dk_view_str("one"), b, 16, &err));
    assert_memory_equal(a, b, 16); /* RFC 5869: a longer output continues a shorter */
    DK_TEST_OK(err, dk_hkdf_public(&suite, &key, dk_view_str("two"), b, 32, &err));
    assert_memory_not_equal(a, b, 32);
    key.n = 15;
    DK_TEST_OK(err, dk_hkdf_public(&suite, &key, dk_view_str("one"), b, 32, &err));
    assert_memory_not_equal(a, b, 32);
}

static void hkdf_beyond_its_length_fails_and_leaves_zeroes(void **state)
{
    (void)state;
    static uint8_t out[255 * 32 + 1];
    struct dk_secret key = secret(0, "00112233445566778899aabbccddeeff");
    DK_TEST_OK(err, dk_hkdf_public(&suite, &key, dk_view_str("i"), out, 255 * 32, &err));
    memset(out, 0xEE, sizeof out);
    DK_TEST_FAILS(err, NOMEM,
                  dk_hkdf_public(&suite, &key, dk_view_str("i"), out, sizeof out, &err));
    for (size_t i = 0; i < sizeof out; i++) {
        assert_int_equal(out[i], 0);
    }
    ERR_clear_error();
}

/* RFC 4231, 4.2 and 4.4. */
static void hmac_gives_the_rfc_values(void **state)
{
    (void)state;
    uint8_t out[DK_HMAC_LEN], dd[50];
    struct dk_secret key = secret(0, "0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b");
    DK_TEST_OK(err, dk_hmac(&suite, &key, dk_view_str("Hi There"), out, &err));
    is_hex(out, 32, "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
    memset(dd, 0xdd, sizeof dd);
    key = secret(0, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa");
    DK_TEST_OK(err, dk_hmac(&suite, &key, dk_view_of(dd, 50), out, &err));
    is_hex(out, 32, "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe");
}

static void F01_each_failed_allocation_of_openssl_is_E_NOMEM(void **state)
{
    (void)state;
    struct dk_secret key =
        secret(0, "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff");
    uint8_t good_kdf[32], good_mac[32];
    DK_TEST_OK(err, dk_hkdf_public(&suite, &key, dk_view_str("i"), good_kdf, 32, &err));
    DK_TEST_OK(err, dk_hmac(&suite, &key, dk_view_str("m"), good_mac, &err));
    for (int which = 0; which < 2; which++) {
        unsigned n = 1, failed = 0;
        for (bool more = true; more && n < 200; n++) {
            uint8_t out[32];
            memset(out, 0xEE, sizeof out);
            dk_err_clear(&err);
            dk_test_openssl_fail_in(n);
            dk_rc rc = which == 0 ? dk_hkdf_public(&suite, &key, dk_view_str("i"), out, 32, &err)
                                  : dk_hmac(&suite, &key, dk_view_str("m"), out, &err);
            more = dk_test_openssl_fail_in(0) >= n;
            ERR_clear_error();
            if (rc == DK_OK) {
                assert_memory_equal(out, which == 0 ? good_kdf : good_mac, 32);
            } else {
                assert_int_equal(rc, DK_E_NOMEM);
                failed++;
            }
        }
        assert_true(failed > 0 && n < 200);
    }
}

static void *derive_much(void *arg)
{
    const uint8_t *want = arg;
    struct dk_secret key = {cell[2], 32};
    uintptr_t bad = 0;
    for (int i = 0; i < 300; i++) {
        uint8_t out[32], mac[32];
        struct dk_err mine;
        dk_err_clear(&mine);
        bad += dk_hkdf_public(&suite, &key, dk_view_str("i"), out, 32, &mine) != DK_OK ||
               dk_hmac(&suite, &key, dk_view_str("m"), mac, &mine) != DK_OK ||
               memcmp(out, want, 32) != 0 || memcmp(mac, want + 32, 32) != 0;
    }
    return (void *)bad;
}

static void threads_share_a_suite(void **state)
{
    (void)state;
    uint8_t want[64];
    pthread_t threads[4];
    struct dk_secret key = {cell[2], 32};
    memset(cell[2], 5, 32);
    DK_TEST_OK(err, dk_hkdf_public(&suite, &key, dk_view_str("i"), want, 32, &err));
    DK_TEST_OK(err, dk_hmac(&suite, &key, dk_view_str("m"), want + 32, &err));
    for (int i = 0; i < 4; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, derive_much, want), 0);
    }
    for (int i = 0; i < 4; i++) {
        void *bad = NULL;
        pthread_join(threads[i], &bad);
        assert_null(bad);
    }
}

int main(void)
{
    dk_test_openssl_memory();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(opening_tests_itself_and_closing_twice_is_allowed),
        cmocka_unit_test(an_openssl_without_the_algorithms_is_refused),
        cmocka_unit_test(the_self_test_names_the_primitive_that_is_wrong),
        cmocka_unit_test(the_self_test_refuses_a_back_end_that_errs),
        cmocka_unit_test(hkdf_gives_the_rfc_values),
        cmocka_unit_test(hkdf_depends_on_key_size_and_info),
        cmocka_unit_test(hkdf_beyond_its_length_fails_and_leaves_zeroes),
        cmocka_unit_test(hmac_gives_the_rfc_values),
        cmocka_unit_test(F01_each_failed_allocation_of_openssl_is_E_NOMEM),
        cmocka_unit_test(threads_share_a_suite),
    };
    return cmocka_run_group_tests_name("suite", tests, open_suite, close_suite);
}
