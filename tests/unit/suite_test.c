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
#include "crypto/hkdf.h"
#include "crypto/mac.h"
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
    EVP_MAC *blake = EVP_MAC_fetch(NULL, "BLAKE2SMAC", NULL); /* the right size, another MAC */
    EVP_MAC *mac = EVP_MAC_fetch(NULL, "POLY1305", NULL);
    EVP_CIPHER *aria = EVP_CIPHER_fetch(NULL, "ARIA-256-GCM", NULL);
    assert_true(blake != NULL && mac != NULL && aria != NULL);
    struct dk_suite wrong = suite, other = suite;
    other.hmac = blake;
    wrong.hkdf = dk_hkdf_open(&other);
    assert_non_null(wrong.hkdf);
    DK_TEST_FAILS(err, SELFTEST, dk_selftest(&wrong, &err));
    DK_TEST_SAYS(err, "HKDF-SHA-256 does");
    dk_hkdf_close(wrong.hkdf);
    wrong = suite;
    wrong.hmac = mac;
    DK_TEST_FAILS(err, SELFTEST, dk_selftest(&wrong, &err));
    DK_TEST_SAYS(err, "HMAC-SHA-256 does");
    wrong = suite;
    wrong.aes256gcm = aria; /* the right sizes, another cipher */
    DK_TEST_FAILS(err, SELFTEST, dk_selftest(&wrong, &err));
    DK_TEST_SAYS(err, "AES-256-GCM does");
    EVP_MAC_free(blake);
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

/* OpenSSL's own, and ours with another thread's call between. */
static void hkdf_is_that_of_openssl(void **state)
{
    (void)state;
    EVP_KDF *kdf = EVP_KDF_fetch(NULL, "HKDF", NULL);
    EVP_KDF_CTX *ctx = EVP_KDF_CTX_new(kdf);
    char digest[] = "SHA256";
    uint8_t ikm[80], salt[100], info[70], want[300], got[300];
    assert_non_null(ctx);
    for (size_t i = 0; i < 300; i++) {
        size_t ikm_n = 1 + i % sizeof ikm, salt_n = i % 3 == 0 ? 0 : i % sizeof salt, n = i + 1;
        memset(ikm, (int)i, sizeof ikm);
        memset(salt, (int)(i * 7), sizeof salt);
        memset(info, (int)(i * 11), sizeof info);
        OSSL_PARAM params[] = {OSSL_PARAM_construct_utf8_string("digest", digest, 0),
                               OSSL_PARAM_construct_octet_string("key", ikm, ikm_n),
                               OSSL_PARAM_construct_octet_string("info", info, i % sizeof info),
                               OSSL_PARAM_construct_octet_string("salt", salt, salt_n),
                               OSSL_PARAM_construct_end()};
        EVP_KDF_CTX_reset(ctx);
        assert_int_equal(EVP_KDF_derive(ctx, want, n, params), 1);
        assert_true(dk_hkdf_raw(&suite, dk_view_of(ikm, ikm_n), dk_view_of(salt, salt_n),
                                dk_view_of(info, i % sizeof info), got, n));
        assert_memory_equal(got, want, n);
    }
    EVP_KDF_CTX_free(ctx);
    EVP_KDF_free(kdf);
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

static dk_rc hmac(const struct dk_secret *key, struct dk_view message, uint8_t out[DK_HMAC_LEN])
{
    struct dk_mac *mac = NULL;
    dk_rc rc = dk_mac_new(&suite, key, &mac, &err);
    rc = rc == DK_OK ? dk_mac_compute(mac, message, out, &err) : rc;
    dk_mac_free(mac);
    return rc;
}

/* RFC 4231, 4.2 and 4.4. */
static void hmac_gives_the_rfc_values(void **state)
{
    (void)state;
    uint8_t out[DK_HMAC_LEN], dd[50];
    struct dk_secret key = secret(0, "0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b");
    DK_TEST_OK(err, hmac(&key, dk_view_str("Hi There"), out));
    is_hex(out, 32, "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
    memset(dd, 0xdd, sizeof dd);
    key = secret(0, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa");
    DK_TEST_OK(err, hmac(&key, dk_view_of(dd, 50), out));
    is_hex(out, 32, "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe");
}

static void a_mac_is_the_same_each_time_and_outlives_its_secret(void **state)
{
    (void)state;
    uint8_t first[DK_HMAC_LEN], other[DK_HMAC_LEN], out[DK_HMAC_LEN];
    struct dk_secret key = secret(0, "0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b");
    struct dk_mac *mac = NULL;
    DK_TEST_OK(err, dk_mac_new(&suite, &key, &mac, &err));
    memset(cell[0], 0, sizeof cell[0]);
    DK_TEST_OK(err, dk_mac_compute(mac, dk_view_str("Hi There"), first, &err));
    is_hex(first, 32, "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
    DK_TEST_OK(err, dk_mac_compute(mac, dk_view_str(""), other, &err));
    assert_memory_not_equal(first, other, sizeof other);
    for (int i = 0; i < 3; i++) {
        DK_TEST_OK(err, dk_mac_compute(mac, dk_view_str("Hi There"), out, &err));
        assert_memory_equal(out, first, sizeof out);
        DK_TEST_OK(err, dk_mac_compute(mac, dk_view_str(""), out, &err));
        assert_memory_equal(out, other, sizeof out);
    }
    dk_mac_free(mac);
    dk_mac_free(NULL);
}

/* As with OpenSSL before 3.0.3, where a context that is used again gives wrong MACs, and no error.
 */
static void a_mac_is_right_where_no_context_begins_again(void **state)
{
    (void)state;
    uint8_t out[DK_HMAC_LEN];
    struct dk_suite old = suite;
    struct dk_secret key = secret(0, "0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b");
    struct dk_mac *mac = NULL;
    old.hmac_again = false;
    DK_TEST_OK(err, dk_mac_new(&old, &key, &mac, &err));
    for (int i = 0; i < 3; i++) {
        DK_TEST_OK(err, dk_mac_compute(mac, dk_view_str("Hi There"), out, &err));
        is_hex(out, 32, "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
    }
    dk_mac_free(mac);
}

/* One MAC through all failures: what is left of one call must not show in the next. */
static void F01_a_mac_goes_on_after_a_failed_allocation(void **state)
{
    (void)state;
    struct dk_secret key = secret(0, "00112233445566778899aabbccddeeff");
    uint8_t want[DK_HMAC_LEN], out[DK_HMAC_LEN];
    struct dk_mac *mac = NULL;
    unsigned n = 1, failed = 0;
    DK_TEST_OK(err, dk_mac_new(&suite, &key, &mac, &err));
    DK_TEST_OK(err, dk_mac_compute(mac, dk_view_str("m"), want, &err));
    for (bool more = true; more && n < 200; n++) {
        dk_err_clear(&err);
        dk_test_openssl_fail_in(n);
        dk_rc rc = dk_mac_compute(mac, dk_view_str("m"), out, &err);
        more = dk_test_openssl_fail_in(0) >= n;
        ERR_clear_error();
        assert_true(rc == DK_OK || rc == DK_E_NOMEM);
        failed += rc != DK_OK;
        DK_TEST_OK(err, dk_mac_compute(mac, dk_view_str("m"), out, &err));
        assert_memory_equal(out, want, sizeof out);
    }
    assert_true(failed > 0 && n < 200);
    dk_mac_free(mac);
}

static void F01_each_failed_allocation_of_openssl_is_E_NOMEM(void **state)
{
    (void)state;
    struct dk_secret key =
        secret(0, "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff");
    uint8_t good_kdf[32], good_mac[32];
    DK_TEST_OK(err, dk_hkdf_public(&suite, &key, dk_view_str("i"), good_kdf, 32, &err));
    DK_TEST_OK(err, hmac(&key, dk_view_str("m"), good_mac));
    for (int which = 0; which < 2; which++) {
        unsigned n = 1, failed = 0;
        for (bool more = true; more && n < 200; n++) {
            uint8_t out[32];
            memset(out, 0xEE, sizeof out);
            dk_err_clear(&err);
            dk_test_openssl_fail_in(n);
            dk_rc rc = which == 0 ? dk_hkdf_public(&suite, &key, dk_view_str("i"), out, 32, &err)
                                  : hmac(&key, dk_view_str("m"), out);
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

struct much {
    struct dk_mac *mac;
    uint8_t want[64];
};

static void *derive_much(void *arg)
{
    const struct much *much = arg;
    struct dk_secret key = {cell[2], 32};
    uintptr_t bad = 0;
    for (int i = 0; i < 300; i++) {
        uint8_t out[32], mac[32];
        struct dk_err mine;
        dk_err_clear(&mine);
        bad += dk_hkdf_public(&suite, &key, dk_view_str("i"), out, 32, &mine) != DK_OK ||
               dk_mac_compute(much->mac, dk_view_str("m"), mac, &mine) != DK_OK ||
               memcmp(out, much->want, 32) != 0 || memcmp(mac, much->want + 32, 32) != 0;
    }
    return (void *)bad;
}

static void threads_share_a_suite_and_a_mac(void **state)
{
    (void)state;
    struct much much;
    pthread_t threads[4];
    struct dk_secret key = {cell[2], 32};
    memset(cell[2], 5, 32);
    DK_TEST_OK(err, dk_hkdf_public(&suite, &key, dk_view_str("i"), much.want, 32, &err));
    DK_TEST_OK(err, dk_mac_new(&suite, &key, &much.mac, &err));
    DK_TEST_OK(err, dk_mac_compute(much.mac, dk_view_str("m"), much.want + 32, &err));
    for (int i = 0; i < 4; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, derive_much, &much), 0);
    }
    for (int i = 0; i < 4; i++) {
        void *bad = NULL;
        pthread_join(threads[i], &bad);
        assert_null(bad);
    }
    dk_mac_free(much.mac);
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
        cmocka_unit_test(hkdf_is_that_of_openssl),
        cmocka_unit_test(hmac_gives_the_rfc_values),
        cmocka_unit_test(a_mac_is_the_same_each_time_and_outlives_its_secret),
        cmocka_unit_test(a_mac_is_right_where_no_context_begins_again),
        cmocka_unit_test(F01_a_mac_goes_on_after_a_failed_allocation),
        cmocka_unit_test(F01_each_failed_allocation_of_openssl_is_E_NOMEM),
        cmocka_unit_test(threads_share_a_suite_and_a_mac),
    };
    return cmocka_run_group_tests_name("suite", tests, open_suite, close_suite);
}
