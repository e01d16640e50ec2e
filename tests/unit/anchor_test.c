#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "keys/anchor.h"
#include "keys/epochs.h"
#include "support/expect.h"
#include "support/golden.h"

static struct dk_test_world w;
static struct dk_suite suite;
static struct dk_err err;
static char folder[64], path[96];

static int set_up(void **state)
{
    (void)state;
    const char *tmp = getenv("TMPDIR");
    dk_test_world_init(&w);
    DK_TEST_OK(err, dk_suite_open(&w.world, &suite, &err));
    snprintf(folder, sizeof folder, "%.40s/anchor-XXXXXX", tmp != NULL ? tmp : "/tmp");
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/anchor", folder);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    char lock[128];
    snprintf(lock, sizeof lock, "%s.lock", path);
    unlink(path);
    unlink(lock);
    rmdir(folder);
    dk_suite_close(&suite);
    return 0;
}

static struct dk_anchor anchor_of(int64_t n)
{
    struct dk_anchor anchor = {.seal = {.n = n}};
    memset(anchor.pin, 'a', 64);
    snprintf(anchor.seal.hash, sizeof anchor.seal.hash, "%064llx", (unsigned long long)n);
    return anchor;
}

static int64_t number_there(void)
{
    struct dk_anchor there;
    DK_TEST_OK(err, dk_anchor_read(&suite, path, &there, &err));
    return there.seal.n;
}

static size_t read_file(const char *name, char *text, size_t cap)
{
    FILE *file = fopen(name, "re");
    assert_non_null(file);
    size_t n = fread(text, 1, cap, file);
    fclose(file);
    return n;
}

static void R9_golden_anchor_opens_and_is_written_again(void **state)
{
    (void)state;
    char golden[DK_ANCHOR_MAX + 1], again[DK_ANCHOR_MAX + 1];
    struct dk_anchor anchor;
    FILE *file = dk_golden_open("anchor");
    size_t n = fread(golden, 1, sizeof golden, file);
    fclose(file);
    assert_true(dk_anchor_parse(&suite, golden, n, &anchor));
    assert_int_equal(anchor.seal.n, 42);
    DK_TEST_OK(err, dk_anchor_write(&suite, path, &anchor, false, &err));
    assert_int_equal(read_file(path, again, sizeof again), n);
    assert_memory_equal(golden, again, n);
}

static void every_flip_cut_and_addition_is_refused(void **state)
{
    (void)state;
    char text[DK_ANCHOR_MAX + 1], bad[DK_ANCHOR_MAX + 1];
    struct dk_anchor anchor = anchor_of(7);
    DK_TEST_OK(err, dk_anchor_write(&suite, path, &anchor, false, &err));
    size_t n = read_file(path, text, sizeof text);
    for (size_t i = 0; i < n; i++) {
        for (int bit = 0; bit < 8; bit++) {
            memcpy(bad, text, n);
            bad[i] = (char)(bad[i] ^ (1 << bit));
            assert_false(dk_anchor_parse(&suite, bad, n, &anchor));
        }
        assert_false(dk_anchor_parse(&suite, text, i, &anchor));
    }
    memcpy(bad, text, n);
    bad[n] = '\n';
    assert_false(dk_anchor_parse(&suite, bad, n + 1, &anchor));
    assert_true(dk_anchor_parse(&suite, text, n, &anchor));
}

static void it_moves_forward_only(void **state)
{
    (void)state;
    const int64_t numbers[] = {3, 2, 3, 9, 1};
    const int64_t there[] = {3, 3, 3, 9, 9};
    assert_int_equal(number_there(), 0);
    for (size_t i = 0; i < 5; i++) {
        struct dk_anchor anchor = anchor_of(numbers[i]);
        DK_TEST_OK(err, dk_anchor_write(&suite, path, &anchor, false, &err));
        assert_int_equal(number_there(), there[i]);
    }
    struct dk_anchor back = anchor_of(4); /* an operator accepted an older registry */
    DK_TEST_OK(err, dk_anchor_write(&suite, path, &back, true, &err));
    assert_int_equal(number_there(), 4);
}

static void of_processes_that_write_at_once_the_farthest_stays(void **state)
{
    (void)state;
    enum { CHILDREN = 8, EACH = 20 };
    for (int c = 0; c < CHILDREN; c++) {
        if (fork() == 0) {
            struct dk_err mine;
            bool good = true;
            dk_err_clear(&mine);
            for (int i = 0; i < EACH; i++) {
                struct dk_anchor anchor = anchor_of(1 + i * CHILDREN + c);
                good = good && dk_anchor_write(&suite, path, &anchor, false, &mine) == DK_OK;
            }
            _exit(good ? 0 : 1);
        }
    }
    for (int c = 0; c < CHILDREN; c++) {
        int status = 0;
        assert_true(wait(&status) > 0);
        assert_int_equal(status, 0);
    }
    assert_int_equal(number_there(), CHILDREN * EACH);
}

static void a_damaged_or_open_file_is_named(void **state)
{
    (void)state;
    struct dk_anchor anchor = anchor_of(7);
    FILE *file = fopen(path, "we");
    assert_non_null(file);
    fputs("dekhand-anchor 1\n", file);
    fclose(file);
    chmod(path, 0600);
    DK_TEST_FAILS(err, TAMPERED, dk_anchor_read(&suite, path, &anchor, &err));
    DK_TEST_FAILS(err, TAMPERED, dk_anchor_write(&suite, path, &anchor, false, &err));
    unlink(path);
    DK_TEST_OK(err, dk_anchor_write(&suite, path, &anchor, false, &err));
    chmod(path, 0644);
    DK_TEST_FAILS(err, CONFIG, dk_anchor_read(&suite, path, &anchor, &err));
    chmod(path, 0600);
    assert_int_equal(number_there(), 7);
}

/* ---- epochs ---------------------------------------------------------------------------------- */

static struct dk_tenant nth(unsigned i)
{
    struct dk_tenant tenant = {.n = 0};
    tenant.n = (uint8_t)snprintf(tenant.s, sizeof tenant.s, "tenant-%u", i);
    return tenant;
}

static void I04_the_highest_epoch_of_each_tenant_is_remembered(void **state)
{
    (void)state;
    enum { TENANTS = 5000 };
    struct dk_epochs *epochs = NULL;
    DK_TEST_OK(err, dk_epochs_open(&w.world, 100000, &epochs, &err));
    for (unsigned i = 0; i < TENANTS; i++) {
        struct dk_tenant tenant = nth(i);
        assert_int_equal(dk_epochs_see(epochs, &tenant, 10 + i), 10 + i);
    }
    for (unsigned i = 0; i < TENANTS; i++) {
        struct dk_tenant tenant = nth(i);
        assert_int_equal(dk_epochs_see(epochs, &tenant, 9), 10 + i);
        assert_int_equal(dk_epochs_see(epochs, &tenant, 11 + i), 11 + i);
    }
    dk_epochs_forget(epochs);
    struct dk_tenant tenant = nth(1);
    assert_int_equal(dk_epochs_see(epochs, &tenant, 1), 1);
    dk_epochs_close(epochs);
}

/* Beyond its bound it forgets, and never takes one tenant for another. */
static void I04_a_full_table_forgets_and_invents_nothing(void **state)
{
    (void)state;
    struct dk_epochs *epochs = NULL;
    unsigned known = 0;
    DK_TEST_OK(err, dk_epochs_open(&w.world, 256, &epochs, &err));
    for (unsigned i = 0; i < 4000; i++) {
        struct dk_tenant tenant = nth(i);
        assert_int_equal(dk_epochs_see(epochs, &tenant, 10 + i), 10 + i);
    }
    for (unsigned i = 4000; i-- > 0;) {
        struct dk_tenant tenant = nth(i);
        int64_t epoch = dk_epochs_see(epochs, &tenant, 1);
        assert_true(epoch == 1 || epoch == 10 + i);
        known += epoch != 1;
    }
    assert_true(known > 0);
    dk_epochs_close(epochs);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(R9_golden_anchor_opens_and_is_written_again, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(every_flip_cut_and_addition_is_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(it_moves_forward_only, set_up, tear_down),
        cmocka_unit_test_setup_teardown(of_processes_that_write_at_once_the_farthest_stays, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_damaged_or_open_file_is_named, set_up, tear_down),
        cmocka_unit_test_setup_teardown(I04_the_highest_epoch_of_each_tenant_is_remembered, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(I04_a_full_table_forgets_and_invents_nothing, set_up,
                                        tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
