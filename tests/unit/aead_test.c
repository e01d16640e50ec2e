#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include <openssl/err.h>
#include <pthread.h>

#include "crypto/aead.h"
#include "support/expect.h"

static const struct dk_aead_ops *const aead = &dk_aead_openssl;
static struct dk_err err;
static struct dk_suite suite;
static uint8_t cell[DK_SECRET_CELL];
static struct dk_secret secret = {cell, DK_AEAD_KEY};
static struct dk_aead_key *seal_key, *open_key;

static const uint8_t nonce[DK_AEAD_NONCE] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};

static int open_all(void **state)
{
    (void)state;
    for (uint8_t i = 0; i < DK_SECRET_CELL; i++) {
        cell[i] = (uint8_t)(i * 3 + 1);
    }
    dk_err_clear(&err);
    return dk_suite_open(&dk_world_default, &suite, &err) == DK_OK &&
                   aead->key_new(&suite, &secret, DK_AEAD_SEAL, &seal_key, &err) == DK_OK &&
                   aead->key_new(&suite, &secret, DK_AEAD_OPEN, &open_key, &err) == DK_OK
               ? 0
               : -1;
}

static int close_all(void **state)
{
    (void)state;
    aead->key_free(seal_key);
    aead->key_free(open_key);
    aead->key_free(NULL); /* is allowed */
    dk_suite_close(&suite);
    return 0;
}

static struct dk_aead_op op_of(const char *aad, const void *in, size_t n, uint8_t *out,
                               uint8_t *tag)
{
    return (struct dk_aead_op){nonce, dk_view_str(aad), dk_view_of(in, n), out, tag, false};
}

static void what_is_sealed_opens_for_every_size(void **state)
{
    (void)state;
    uint8_t plain[200], sealed[201], opened[201], tag[DK_AEAD_TAG];
    for (size_t i = 0; i < sizeof plain; i++) {
        plain[i] = (uint8_t)(i ^ 0x5C);
    }
    for (size_t n = 0; n <= sizeof plain; n++) {
        memset(sealed, 0xEE, sizeof sealed);
        memset(opened, 0xEE, sizeof opened);
        struct dk_aead_op op = op_of(n % 3 == 0 ? "" : "aad", plain, n, sealed, tag);
        assert_true(aead->seal(seal_key, &op));
        assert_true(op.ok);
        assert_int_equal(sealed[n], 0xEE);
        op.in = dk_view_of(sealed, n);
        op.out = opened;
        op.ok = false;
        assert_true(aead->open(open_key, &op));
        assert_true(op.ok);
        assert_memory_equal(opened, plain, n);
        assert_int_equal(opened[n], 0xEE);
        assert_true(n < 8 || memcmp(sealed, plain, n) != 0);
    }
}

static void the_same_address_may_be_in_and_out(void **state)
{
    (void)state;
    uint8_t there[100], apart[100], tag[DK_AEAD_TAG], tag_apart[DK_AEAD_TAG];
    memset(there, 'p', sizeof there);
    struct dk_aead_op op = op_of("a", there, sizeof there, apart, tag_apart);
    assert_true(aead->seal(seal_key, &op));
    op = op_of("a", there, sizeof there, there, tag);
    assert_true(aead->seal(seal_key, &op));
    assert_memory_equal(there, apart, sizeof there);
    assert_memory_equal(tag, tag_apart, sizeof tag);
    assert_true(aead->open(open_key, &op));
    for (size_t i = 0; i < sizeof there; i++) {
        assert_int_equal(there[i], 'p');
    }
}

static void each_flipped_bit_of_tag_ciphertext_nonce_and_aad_is_refused(void **state)
{
    (void)state;
    uint8_t all[DK_AEAD_NONCE + 3 + 21 + DK_AEAD_TAG], out[21];
    uint8_t *aad = all + DK_AEAD_NONCE, *ct = aad + 3, *tag = ct + 21;
    memcpy(all, nonce, sizeof nonce);
    memcpy(aad, "aad", 3);
    struct dk_aead_op op = {all,  dk_view_of(aad, 3), dk_view_str("twenty-one bytes here"), ct, tag,
                            false};
    assert_true(aead->seal(seal_key, &op));
    op.in = dk_view_of(ct, 21);
    op.out = out;
    for (size_t bit = 0; bit < 8 * sizeof all; bit++) {
        all[bit / 8] ^= (uint8_t)(1u << bit % 8);
        op.ok = true;
        assert_false(aead->open(open_key, &op));
        assert_false(op.ok);
        all[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    assert_true(aead->open(open_key, &op)); /* a refusal does not spoil the keyed context */
    assert_memory_equal(out, "twenty-one bytes here", 21);
    op.aad.n = 2;
    assert_false(aead->open(open_key, &op));
    op.aad.n = 3;
    op.in.n = 20;
    assert_false(aead->open(open_key, &op));
    ERR_clear_error();
}

static void another_key_does_not_open(void **state)
{
    (void)state;
    uint8_t ct[5], tag[DK_AEAD_TAG];
    struct dk_aead_op op = op_of("", "hello", 5, ct, tag);
    assert_true(aead->seal(seal_key, &op));
    op.in = dk_view_of(ct, 5);
    for (size_t bit = 0; bit < 8 * DK_AEAD_KEY; bit++) {
        struct dk_aead_key *other = NULL;
        uint8_t out[5];
        op.out = out;
        cell[bit / 8] ^= (uint8_t)(1u << bit % 8);
        DK_TEST_OK(err, aead->key_new(&suite, &secret, DK_AEAD_OPEN, &other, &err));
        cell[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_false(aead->open(other, &op));
        aead->key_free(other);
    }
    ERR_clear_error();
}

static void K1_a_key_of_fewer_than_32_bytes_is_refused(void **state)
{
    (void)state;
    for (uint8_t n = 0; n < DK_AEAD_KEY; n++) {
        struct dk_secret shorter = {cell, n};
        struct dk_aead_key *none = NULL;
        dk_err_clear(&err);
        assert_int_not_equal(aead->key_new(&suite, &shorter, DK_AEAD_SEAL, &none, &err), DK_OK);
        assert_null(none);
    }
}

static void only_the_first_32_bytes_are_the_key(void **state)
{
    (void)state;
    struct dk_secret okm = {cell, 48}; /* the key, then the commitment */
    struct dk_aead_key *same = NULL;
    uint8_t a[5], b[5], tag_a[DK_AEAD_TAG], tag_b[DK_AEAD_TAG];
    DK_TEST_OK(err, aead->key_new(&suite, &okm, DK_AEAD_SEAL, &same, &err));
    struct dk_aead_op op = op_of("", "hello", 5, a, tag_a);
    assert_true(aead->seal(seal_key, &op));
    op = op_of("", "hello", 5, b, tag_b);
    assert_true(aead->seal(same, &op));
    assert_memory_equal(a, b, 5);
    assert_memory_equal(tag_a, tag_b, DK_AEAD_TAG);
    aead->key_free(same);
}

static void each_op_of_a_batch_stands_alone(void **state)
{
    (void)state;
    enum { COUNT = 9 };
    static const char text[] = "eight by";
    uint8_t nonces[COUNT][DK_AEAD_NONCE], ct[COUNT][8], tags[COUNT][DK_AEAD_TAG], out[COUNT][8];
    struct dk_aead_op ops[COUNT];
    for (uint8_t i = 0; i < COUNT; i++) {
        memset(nonces[i], i, DK_AEAD_NONCE);
        ops[i] = (struct dk_aead_op){
            nonces[i], dk_view_of(nonces[i], i), dk_view_of(text, 8), ct[i], tags[i], false};
    }
    aead->seal_batch(seal_key, ops, COUNT);
    for (int i = 0; i < COUNT; i++) {
        uint8_t one[8], tag[DK_AEAD_TAG];
        assert_true(ops[i].ok);
        struct dk_aead_op single = ops[i];
        single.out = one;
        single.tag = tag;
        assert_true(aead->seal(seal_key, &single));
        assert_memory_equal(one, ct[i], 8);
        assert_memory_equal(tag, tags[i], DK_AEAD_TAG);
        ops[i].in = dk_view_of(ct[i], 8);
        ops[i].out = out[i];
    }
    tags[2][0] ^= 1;
    ct[5][7] ^= 0x80;
    aead->open_batch(open_key, ops, COUNT);
    for (int i = 0; i < COUNT; i++) {
        assert_int_equal(ops[i].ok, i != 2 && i != 5);
        assert_true(!ops[i].ok || memcmp(out[i], text, 8) == 0);
    }
    aead->seal_batch(seal_key, ops, 0);
    aead->open_batch(open_key, ops, 0);
    ERR_clear_error();
}

static void F01_each_failed_allocation_gives_no_key(void **state)
{
    (void)state;
    unsigned n = 1, failed = 0;
    for (bool more = true; more && n < 100; n++) {
        struct dk_aead_key *key = NULL;
        dk_err_clear(&err);
        dk_test_openssl_fail_in(n);
        dk_rc rc = aead->key_new(&suite, &secret, DK_AEAD_SEAL, &key, &err);
        more = dk_test_openssl_fail_in(0) >= n;
        ERR_clear_error();
        assert_true(rc == DK_E_NOMEM ? key == NULL : rc == DK_OK && key != NULL);
        failed += rc != DK_OK;
        aead->key_free(key);
    }
    assert_true(failed > 0 && n < 100);
}

static void *seal_and_open_much(void *arg)
{
    (void)arg;
    struct dk_aead_key *s = NULL, *o = NULL;
    struct dk_err mine;
    dk_err_clear(&mine);
    uintptr_t bad = aead->key_new(&suite, &secret, DK_AEAD_SEAL, &s, &mine) != DK_OK ||
                    aead->key_new(&suite, &secret, DK_AEAD_OPEN, &o, &mine) != DK_OK;
    for (int i = 0; i < 2000 && bad == 0; i++) {
        uint8_t ct[16], tag[DK_AEAD_TAG], out[16];
        struct dk_aead_op op = op_of("a", "sixteen bytes ..", 16, ct, tag);
        bad += !aead->seal(s, &op);
        op.in = dk_view_of(ct, 16);
        op.out = out;
        bad += !aead->open(o, &op) || memcmp(out, "sixteen bytes ..", 16) != 0;
    }
    aead->key_free(s);
    aead->key_free(o);
    return (void *)bad;
}

static void each_thread_has_its_own_key(void **state)
{
    (void)state;
    pthread_t threads[4];
    for (int i = 0; i < 4; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, seal_and_open_much, NULL), 0);
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
        cmocka_unit_test(what_is_sealed_opens_for_every_size),
        cmocka_unit_test(the_same_address_may_be_in_and_out),
        cmocka_unit_test(each_flipped_bit_of_tag_ciphertext_nonce_and_aad_is_refused),
        cmocka_unit_test(another_key_does_not_open),
        cmocka_unit_test(K1_a_key_of_fewer_than_32_bytes_is_refused),
        cmocka_unit_test(only_the_first_32_bytes_are_the_key),
        cmocka_unit_test(each_op_of_a_batch_stands_alone),
        cmocka_unit_test(F01_each_failed_allocation_gives_no_key),
        cmocka_unit_test(each_thread_has_its_own_key),
    };
    return cmocka_run_group_tests_name("aead", tests, open_all, close_all);
}
