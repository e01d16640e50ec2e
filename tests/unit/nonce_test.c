#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "crypto/nonce.h"
#include "support/expect.h"

#define PER_POOL (sizeof(((struct dk_nonce_pool *)0)->bytes) / DK_AEAD_NONCE)

static struct dk_err err;

static int compare(const void *a, const void *b)
{
    return memcmp(a, b, DK_AEAD_NONCE);
}

static size_t repeats(uint8_t (*nonces)[DK_AEAD_NONCE], size_t n)
{
    size_t same = 0;
    qsort(nonces, n, DK_AEAD_NONCE, compare);
    for (size_t i = 1; i < n; i++) {
        same += compare(nonces[i - 1], nonces[i]) == 0;
    }
    return same;
}

static void I18_nonces_of_many_refills_never_repeat(void **state)
{
    (void)state;
    enum { MANY = 200000 };
    uint8_t(*nonces)[DK_AEAD_NONCE] = calloc(MANY, DK_AEAD_NONCE);
    struct dk_nonce_pool *pool = dk_nonce_pool_new();
    assert_non_null(nonces);
    assert_non_null(pool);
    for (size_t i = 0; i < MANY; i++) {
        DK_TEST_OK(err, dk_nonce_take(pool, &dk_world_default, nonces[i], &err));
    }
    assert_int_equal(repeats(nonces, MANY), 0);
    dk_nonce_pool_free(pool);
    free(nonces);
}

static void every_random_byte_is_used_once_and_erased(void **state)
{
    (void)state;
    struct dk_test_world w, same;
    dk_test_world_init(&w);
    dk_test_world_init(&same);
    struct dk_nonce_pool *pool = dk_nonce_pool_new();
    assert_non_null(pool);
    assert_int_equal(sizeof pool->bytes % DK_AEAD_NONCE, 0); /* nothing is left over */
    uint8_t expected[sizeof pool->bytes], zero[sizeof pool->bytes] = {0};
    for (int round = 0; round < 3; round++) {
        dk_test_random_bytes(&same.random_state, expected, sizeof expected);
        for (size_t i = 0; i < PER_POOL; i++) {
            uint8_t nonce[DK_AEAD_NONCE];
            DK_TEST_OK(err, dk_nonce_take(pool, &w.world, nonce, &err));
            assert_memory_equal(nonce, expected + i * DK_AEAD_NONCE, DK_AEAD_NONCE);
            assert_memory_equal(pool->bytes, zero, (i + 1) * DK_AEAD_NONCE);
        }
        assert_int_equal(pool->left, 0);
    }
    dk_nonce_pool_free(pool);
}

static void I18_random_failure_yields_no_nonce(void **state)
{
    (void)state;
    struct dk_test_world w;
    dk_test_world_init(&w);
    struct dk_nonce_pool *pool = dk_nonce_pool_new();
    assert_non_null(pool);
    uint8_t nonce[DK_AEAD_NONCE], untouched[DK_AEAD_NONCE], zero[sizeof pool->bytes] = {0};
    memset(nonce, 0xEE, sizeof nonce);
    memset(untouched, 0xEE, sizeof untouched);
    w.random_fails = true;
    for (int i = 0; i < 3; i++) { /* it stays so: no half-filled pool is ever served */
        DK_TEST_FAILS(err, RANDOM, dk_nonce_take(pool, &w.world, nonce, &err));
        assert_memory_equal(nonce, untouched, sizeof nonce);
        assert_memory_equal(pool->bytes, zero, sizeof pool->bytes);
        assert_int_equal(pool->left, 0);
    }
    w.random_fails = false;
    DK_TEST_OK(err, dk_nonce_take(pool, &w.world, nonce, &err));
    w.random_fails = true;
    for (size_t i = 1; i < PER_POOL; i++) { /* what was filled before may still be used */
        DK_TEST_OK(err, dk_nonce_take(pool, &w.world, nonce, &err));
    }
    DK_TEST_FAILS(err, RANDOM, dk_nonce_take(pool, &w.world, nonce, &err));
    dk_nonce_pool_free(pool);
}

enum { EACH = 700 };

struct shared {
    uint8_t nonces[4 * EACH][DK_AEAD_NONCE];
};

struct family {
    struct dk_nonce_pool *pool;
    struct shared *shared;
    int child;
};

static int take_as_child(void *arg)
{
    struct family *f = arg;
    DK_TEST_CHILD(f->pool->left == 0); /* wiped: it reads as empty */
    for (size_t i = 0; i < EACH; i++) {
        dk_err_clear(&err);
        DK_TEST_CHILD(dk_nonce_take(f->pool, &dk_world_default,
                                    f->shared->nonces[f->child * EACH + i], &err) == DK_OK);
    }
    return 0;
}

static void I18_R25_fork_in_the_middle_of_a_pool_repeats_no_nonce(void **state)
{
    (void)state;
    struct family f = {.pool = dk_nonce_pool_new()};
    assert_non_null(f.pool);
    f.shared =
        mmap(NULL, sizeof *f.shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(f.shared != MAP_FAILED);
    for (size_t i = 0; i < 100; i++) { /* now in the middle of a pool */
        DK_TEST_OK(err, dk_nonce_take(f.pool, &dk_world_default, f.shared->nonces[i], &err));
    }
    assert_int_not_equal(f.pool->left, 0);
    for (f.child = 1; f.child <= 3; f.child++) {
        assert_true(dk_test_in_child(false, take_as_child, &f));
    }
    for (size_t i = 100; i < EACH; i++) { /* the parent's pool goes on */
        DK_TEST_OK(err, dk_nonce_take(f.pool, &dk_world_default, f.shared->nonces[i], &err));
    }
    assert_int_equal(repeats(f.shared->nonces, sizeof f.shared->nonces / DK_AEAD_NONCE), 0);
    munmap(f.shared, sizeof *f.shared);
    dk_nonce_pool_free(f.pool);
}

static int may_not_touch_the_random(void *arg)
{
    struct family *f = arg;
    struct dk_test_world w;
    uint8_t nonce[DK_AEAD_NONCE];
    dk_test_world_init(&w);
    w.random_fails = true;
    dk_err_clear(&err);
    DK_TEST_CHILD(dk_nonce_take(f->pool, &w.world, nonce, &err) == DK_E_RANDOM);
    return 0;
}

static void I18_a_child_without_randomness_gets_no_nonce(void **state)
{
    (void)state;
    struct family f = {.pool = dk_nonce_pool_new()};
    uint8_t nonce[DK_AEAD_NONCE];
    assert_non_null(f.pool);
    DK_TEST_OK(err, dk_nonce_take(f.pool, &dk_world_default, nonce, &err));
    assert_true(dk_test_in_child(false, may_not_touch_the_random, &f));
    dk_nonce_pool_free(f.pool);
}

enum { THREADS = 4, PER_THREAD = 5000 };
static uint8_t of_threads[THREADS * PER_THREAD][DK_AEAD_NONCE];

static void *take_in_thread(void *arg)
{
    uint8_t(*out)[DK_AEAD_NONCE] = arg;
    uintptr_t bad = 0;
    struct dk_err mine;
    struct dk_nonce_pool *pool = dk_nonce_pool_new();
    for (size_t i = 0; pool != NULL && i < PER_THREAD; i++) {
        dk_err_clear(&mine);
        bad += dk_nonce_take(pool, &dk_world_default, out[i], &mine) != DK_OK;
    }
    dk_nonce_pool_free(pool);
    return (void *)bad;
}

static void I18_threads_with_a_pool_each_repeat_no_nonce(void **state)
{
    (void)state;
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(
            pthread_create(&threads[i], NULL, take_in_thread, of_threads + i * PER_THREAD), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        void *bad = NULL;
        pthread_join(threads[i], &bad);
        assert_null(bad);
    }
    assert_int_equal(repeats(of_threads, THREADS * PER_THREAD), 0);
}

static int has_no_address_space(void *arg)
{
    (void)arg;
    struct rlimit old, none;
    DK_TEST_CHILD(getrlimit(RLIMIT_AS, &old) == 0);
    none = (struct rlimit){0, old.rlim_max};
    DK_TEST_CHILD(setrlimit(RLIMIT_AS, &none) == 0);
    struct dk_nonce_pool *pool = dk_nonce_pool_new();
    setrlimit(RLIMIT_AS, &old);
    DK_TEST_CHILD(pool == NULL);
    return 0;
}

static void F01_without_address_space_there_is_no_pool(void **state)
{
    (void)state;
    assert_true(dk_test_in_child(false, has_no_address_space, NULL));
}

static int has_no_wipeonfork(void *arg)
{
    (void)arg;
    DK_TEST_CHILD(dk_test_no_wipeonfork());
    DK_TEST_CHILD(dk_nonce_pool_new() == NULL);
    return 0;
}

static void I18_a_pool_that_fork_would_copy_is_not_made(void **state)
{
    (void)state;
    assert_true(dk_test_in_child(false, has_no_wipeonfork, NULL));
}

static void no_pool_is_allowed_to_be_freed(void **state)
{
    (void)state;
    dk_nonce_pool_free(NULL);
    struct dk_nonce_pool *pool = dk_nonce_pool_new();
    assert_non_null(pool);
    assert_int_equal(pool->left, 0); /* empty until the first take */
    dk_nonce_pool_free(pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(I18_nonces_of_many_refills_never_repeat),
        cmocka_unit_test(every_random_byte_is_used_once_and_erased),
        cmocka_unit_test(I18_random_failure_yields_no_nonce),
        cmocka_unit_test(I18_R25_fork_in_the_middle_of_a_pool_repeats_no_nonce),
        cmocka_unit_test(I18_a_child_without_randomness_gets_no_nonce),
        cmocka_unit_test(I18_threads_with_a_pool_each_repeat_no_nonce),
        cmocka_unit_test(F01_without_address_space_there_is_no_pool),
        cmocka_unit_test(I18_a_pool_that_fork_would_copy_is_not_made),
        cmocka_unit_test(no_pool_is_allowed_to_be_freed),
    };
    return cmocka_run_group_tests_name("nonce", tests, NULL, NULL);
}
