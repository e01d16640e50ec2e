#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/secret.h"
#include "support/expect.h"

static struct dk_err err;

static struct dk_arena *open_arena(size_t cells)
{
    struct dk_arena *arena = NULL;
    struct dk_arena_report report = {0};
    DK_TEST_OK(err, dk_arena_open(&dk_world_default, cells, &arena, &report, &err));
    assert_true(report.bytes >= cells * DK_SECRET_CELL);
    return arena;
}

static struct dk_secret new_secret(struct dk_arena *arena, size_t n)
{
    struct dk_secret s = {0};
    DK_TEST_OK(err, dk_secret_new(arena, n, &s, &err));
    assert_int_equal(s.n, n);
    return s;
}

static void a_new_secret_is_zero_also_where_one_lived_before(void **state)
{
    (void)state;
    struct dk_arena *arena = open_arena(1);
    static const uint8_t zero[DK_SECRET_CELL];
    for (int round = 0; round < 3; round++) {
        struct dk_secret s = new_secret(arena, DK_SECRET_CELL);
        assert_true(dk_secret_is_zero(&s));
        memset(dk_secret_expose_for_crypto(&s), 0xC5, DK_SECRET_CELL);
        assert_false(dk_secret_is_zero(&s));
        const uint8_t *cell = s.cell;
        dk_secret_free(arena, &s);
        assert_memory_equal(cell, zero, DK_SECRET_CELL); /* wiped at once */
        assert_null(s.cell);
        assert_int_equal(s.n, 0);
        dk_secret_free(arena, &s); /* an empty one is allowed */
    }
    dk_arena_close(arena);
}

static void each_cell_is_handed_out_once_and_then_no_more(void **state)
{
    (void)state;
    enum { CELLS = 300 };
    struct dk_arena *arena = open_arena(CELLS);
    struct dk_secret s[CELLS], more = {0};
    for (int i = 0; i < CELLS; i++) {
        s[i] = new_secret(arena, 32);
        memset(s[i].cell, 1 + i % 250, DK_SECRET_CELL);
    }
    DK_TEST_FAILS(err, NOMEM, dk_secret_new(arena, 32, &more, &err));
    assert_null(more.cell);
    for (int i = 0; i < CELLS; i++) {
        assert_int_equal(s[i].cell[0], 1 + i % 250);
        assert_int_equal(s[i].cell[DK_SECRET_CELL - 1], 1 + i % 250);
    }
    assert_true(dk_arena_intact(arena));
    dk_secret_free(arena, &s[7]);
    more = new_secret(arena, 16);
    assert_true(dk_secret_is_zero(&more));
    dk_arena_close(arena);
}

static void a_secret_has_1_to_64_bytes(void **state)
{
    (void)state;
    struct dk_arena *arena = open_arena(2);
    struct dk_secret s = {0};
    DK_TEST_FAILS(err, INTERNAL, dk_secret_new(arena, 0, &s, &err));
    DK_TEST_FAILS(err, INTERNAL, dk_secret_new(arena, 65, &s, &err));
    DK_TEST_FAILS(err, INTERNAL, dk_secret_new(arena, 256 + 32, &s, &err));
    assert_null(s.cell);
    s = new_secret(arena, 1);
    dk_secret_free(arena, &s);
    dk_arena_close(arena);
}

static void secrets_compare_by_size_and_every_byte(void **state)
{
    (void)state;
    struct dk_arena *arena = open_arena(3);
    struct dk_secret a = new_secret(arena, 32), b = new_secret(arena, 32);
    struct dk_secret shorter = new_secret(arena, 31);
    assert_true(dk_secret_equal(&a, &b));
    assert_false(dk_secret_equal(&a, &shorter));
    for (size_t i = 0; i < 32; i++) {
        b.cell[i] = 0x80;
        assert_false(dk_secret_equal(&a, &b));
        assert_false(dk_secret_is_zero(&b));
        b.cell[i] = 0;
    }
    b.cell[32] = 1; /* beyond its size: not part of it */
    assert_true(dk_secret_equal(&a, &b));
    assert_true(dk_secret_is_zero(&b));
    dk_arena_close(arena);
}

static void a_write_past_the_last_cell_is_seen(void **state)
{
    (void)state;
    enum { CELLS = 4 };
    struct dk_arena *arena = open_arena(CELLS);
    uint8_t *low = NULL, *high = NULL;
    for (int i = 0; i < CELLS; i++) {
        uint8_t *cell = new_secret(arena, 64).cell;
        low = low == NULL || cell < low ? cell : low;
        high = cell > high ? cell : high;
    }
    assert_true(dk_arena_intact(arena));
    high[DK_SECRET_CELL] ^= 1;
    assert_false(dk_arena_intact(arena));
    high[DK_SECRET_CELL] ^= 1;
    assert_true(dk_arena_intact(arena));
    low[-DK_SECRET_CELL] ^= 1;
    assert_false(dk_arena_intact(arena));
    dk_arena_close(arena);
}

static void dies_as_expected(int signal)
{
    (void)signal;
    _exit(0);
}

/* Leaves with 0 only through the handler. */
static int touch(void *arg)
{
    struct sigaction action = {.sa_handler = dies_as_expected};
    DK_TEST_CHILD(sigaction(SIGSEGV, &action, NULL) == 0);
    DK_TEST_CHILD(sigaction(SIGBUS, &action, NULL) == 0);
    *(volatile uint8_t *)arg = 1;
    fprintf(stderr, "the page could be written\n");
    return 1;
}

static void guard_pages_stand_on_both_sides(void **state)
{
    (void)state;
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    struct dk_arena *arena = open_arena(4 * page / DK_SECRET_CELL - 3); /* fills its pages */
    struct dk_secret first = new_secret(arena, 1);
    uint8_t *inside = first.cell - 2 * DK_SECRET_CELL;
    assert_int_equal((uintptr_t)inside % page, 0);
    assert_true(dk_test_in_child(false, touch, inside - 1));
    assert_true(dk_test_in_child(false, touch, inside + 4 * page));
    dk_arena_close(arena);
}

struct flags {
    bool dontdump, wipeonfork, locked;
};

/* VmFlags of the mapping that holds `p`. */
static struct flags flags_of(const uint8_t *p)
{
    FILE *maps = fopen("/proc/self/smaps", "re");
    assert_non_null(maps);
    char line[512];
    bool here = false;
    struct flags f = {false, false, false};
    while (fgets(line, sizeof line, maps) != NULL) {
        unsigned long from, to;
        char colon;
        if (sscanf(line, "%lx-%lx%c", &from, &to, &colon) == 3) {
            here = (uintptr_t)p >= from && (uintptr_t)p < to;
        } else if (here && strncmp(line, "VmFlags:", 8) == 0) {
            f.dontdump = strstr(line, " dd") != NULL;
            f.wipeonfork = strstr(line, " wf") != NULL;
            f.locked = strstr(line, " lo") != NULL;
        }
    }
    fclose(maps);
    return f;
}

static void secrets_stay_out_of_core_files_and_swap(void **state)
{
    (void)state;
    struct dk_arena *arena = NULL;
    struct dk_arena_report report;
    DK_TEST_OK(err, dk_arena_open(&dk_world_default, 100, &arena, &report, &err));
    struct dk_secret s = new_secret(arena, 32);
    struct flags f = flags_of(s.cell);
    assert_true(f.dontdump);
    assert_true(f.wipeonfork);
    assert_int_equal(f.locked, report.locked); /* what is reported is true */
    dk_arena_close(arena);
}

static int opens_without_a_lock(void *arg)
{
    (void)arg;
    struct rlimit none = {0, 0};
    DK_TEST_CHILD(setrlimit(RLIMIT_MEMLOCK, &none) == 0);
    struct dk_arena *arena = NULL;
    struct dk_arena_report report = {.locked = true};
    struct dk_secret s = {0};
    dk_err_clear(&err);
    DK_TEST_CHILD(dk_arena_open(&dk_world_default, 1000, &arena, &report, &err) == DK_OK);
    DK_TEST_CHILD(!report.locked);
    DK_TEST_CHILD(report.bytes >= 1000 * DK_SECRET_CELL);
    DK_TEST_CHILD(dk_secret_new(arena, 32, &s, &err) == DK_OK);
    s.cell[0] = 1;
    DK_TEST_CHILD(dk_arena_intact(arena));
    dk_arena_close(arena);
    return 0;
}

static void F05_R30_without_a_memory_lock_the_arena_opens_and_says_so(void **state)
{
    (void)state;
    assert_true(dk_test_in_child(true, opens_without_a_lock, NULL));
}

struct family {
    struct dk_arena *arena;
    struct dk_secret secret;
};

static int finds_the_arena_wiped(void *arg)
{
    struct family *f = arg;
    DK_TEST_CHILD(dk_arena_forked(f->arena));
    DK_TEST_CHILD(dk_secret_is_zero(&f->secret));
    dk_arena_reset(f->arena);
    DK_TEST_CHILD(dk_arena_forked(f->arena)); /* until its owner is done too */
    dk_arena_revive(f->arena);
    DK_TEST_CHILD(!dk_arena_forked(f->arena));
    DK_TEST_CHILD(dk_arena_intact(f->arena));
    for (int i = 0; i < 8; i++) { /* every cell is free again */
        struct dk_secret s;
        dk_err_clear(&err);
        DK_TEST_CHILD(dk_secret_new(f->arena, 32, &s, &err) == DK_OK);
        DK_TEST_CHILD(dk_secret_is_zero(&s));
        s.cell[0] = 7;
    }
    struct dk_secret none;
    DK_TEST_CHILD(dk_secret_new(f->arena, 32, &none, &err) == DK_E_NOMEM);
    dk_arena_close(f->arena);
    return 0;
}

static void a_child_process_sees_no_secret(void **state)
{
    (void)state;
    struct family f = {open_arena(8), {0}};
    f.secret = new_secret(f.arena, 32);
    memset(f.secret.cell, 0x42, 32);
    assert_false(dk_arena_forked(f.arena));
    assert_true(dk_test_in_child(false, finds_the_arena_wiped, &f));
    assert_false(dk_arena_forked(f.arena)); /* the parent goes on */
    assert_true(dk_arena_intact(f.arena));
    assert_int_equal(f.secret.cell[31], 0x42);
    dk_arena_close(f.arena);
}

static void F01_each_failed_allocation_opens_no_arena(void **state)
{
    (void)state;
    for (unsigned n = 1; n <= 2; n++) {
        struct dk_test_world w;
        dk_test_world_init(&w);
        struct dk_arena *arena = NULL;
        struct dk_arena_report report;
        w.fail_alloc_at = n;
        DK_TEST_FAILS(err, NOMEM, dk_arena_open(&w.world, 10, &arena, &report, &err));
        assert_null(arena);
        assert_int_equal(w.live, 0);
        w.fail_alloc_at = 0;
        DK_TEST_OK(err, dk_arena_open(&w.world, 10, &arena, &report, &err));
        assert_int_equal(w.allocs, n + 2); /* the loop saw them all */
        dk_arena_close(arena);
        assert_int_equal(w.live, 0);
    }
}

/* Promises any size: what is too large for the machine is never touched. */
static void *alloc_anything(void *arg, size_t n)
{
    return dk_mem_default.alloc(arg, n < 65536 ? n : 65536);
}

static void F01_no_address_space_opens_no_arena(void **state)
{
    (void)state;
    struct dk_world world = dk_world_default;
    struct dk_arena *arena = NULL;
    struct dk_arena_report report;
    world.mem.alloc = alloc_anything;
    DK_TEST_FAILS(err, NOMEM, dk_arena_open(&world, (size_t)1 << 52, &arena, &report, &err));
    assert_null(arena);
}

static int has_no_wipeonfork(void *arg)
{
    struct dk_test_world *w = arg;
    struct dk_arena *arena = NULL;
    struct dk_arena_report report;
    dk_err_clear(&err);
    DK_TEST_CHILD(dk_test_no_wipeonfork());
    DK_TEST_CHILD(dk_arena_open(&w->world, 10, &arena, &report, &err) == DK_E_NOMEM);
    DK_TEST_CHILD(arena == NULL && w->live == 0);
    return 0;
}

static void an_arena_that_fork_would_copy_is_not_opened(void **state)
{
    (void)state;
    struct dk_test_world w;
    dk_test_world_init(&w);
    assert_true(dk_test_in_child(false, has_no_wipeonfork, &w));
}

static void a_failed_generator_opens_no_arena(void **state)
{
    (void)state;
    struct dk_test_world w;
    dk_test_world_init(&w);
    struct dk_arena *arena = NULL;
    struct dk_arena_report report;
    w.random_fails = true;
    DK_TEST_FAILS(err, RANDOM, dk_arena_open(&w.world, 10, &arena, &report, &err));
    assert_null(arena);
    assert_int_equal(w.live, 0);
    dk_arena_close(NULL);
}

enum { THREADS = 4, ROUNDS = 3000, HELD = 5 };

static void *take_and_give_back(void *arg)
{
    struct dk_arena *arena = arg;
    uintptr_t bad = 0;
    for (int i = 0; i < ROUNDS; i++) {
        struct dk_secret s[HELD] = {{0}};
        struct dk_err mine;
        dk_err_clear(&mine);
        for (int k = 0; k < HELD; k++) {
            bad += dk_secret_new(arena, 32, &s[k], &mine) != DK_OK || !dk_secret_is_zero(&s[k]);
            memset(s[k].cell, i + k, 32);
        }
        for (int k = 0; k < HELD; k++) {
            bad += s[k].cell[31] != (uint8_t)(i + k);
            dk_secret_free(arena, &s[k]);
        }
    }
    return (void *)bad;
}

static void threads_never_share_a_cell(void **state)
{
    (void)state;
    struct dk_arena *arena = open_arena(THREADS * HELD);
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, take_and_give_back, arena), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        void *bad = NULL;
        pthread_join(threads[i], &bad);
        assert_null(bad);
    }
    assert_true(dk_arena_intact(arena));
    dk_arena_close(arena);
}

static void wipe_wipes(void **state)
{
    (void)state;
    uint8_t bytes[100], zero[100] = {0};
    memset(bytes, 9, sizeof bytes);
    dk_wipe(bytes, 99);
    assert_memory_equal(bytes, zero, 99);
    assert_int_equal(bytes[99], 9);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_new_secret_is_zero_also_where_one_lived_before),
        cmocka_unit_test(each_cell_is_handed_out_once_and_then_no_more),
        cmocka_unit_test(a_secret_has_1_to_64_bytes),
        cmocka_unit_test(secrets_compare_by_size_and_every_byte),
        cmocka_unit_test(a_write_past_the_last_cell_is_seen),
        cmocka_unit_test(guard_pages_stand_on_both_sides),
        cmocka_unit_test(secrets_stay_out_of_core_files_and_swap),
        cmocka_unit_test(F05_R30_without_a_memory_lock_the_arena_opens_and_says_so),
        cmocka_unit_test(a_child_process_sees_no_secret),
        cmocka_unit_test(F01_each_failed_allocation_opens_no_arena),
        cmocka_unit_test(F01_no_address_space_opens_no_arena),
        cmocka_unit_test(an_arena_that_fork_would_copy_is_not_opened),
        cmocka_unit_test(a_failed_generator_opens_no_arena),
        cmocka_unit_test(threads_never_share_a_cell),
        cmocka_unit_test(wipe_wipes),
    };
    return cmocka_run_group_tests_name("secret", tests, NULL, NULL);
}
