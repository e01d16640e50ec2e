#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

/* One asks, the others wait or go on: whatever a pass is, and whoever gives it. */
#include <pthread.h>
#include <sched.h>

#include "provider/pass.h"
#include "support/expect.h"

enum { CROWD = 1000, STACK = 256 * 1024 };
enum { LIFE_MS = 1000000, LATE_AT_MS = 900000, RENEW_AT_MS = 800000, AGAIN_MS = 60000 };

static struct dk_err err;
static struct dk_test_world w;
static struct dk_passes *passes;

/* ---- who gives them -------------------------------------------------------------------------- */

struct ticket {
    struct dk_pass pass;
    unsigned number;
    const char *kind;
};

static atomic_llong clock_ms;
static atomic_uint readings; /* of the clock: get reads it once under its lock, and then waits */
static struct {
    atomic_uint asked;    /* how often */
    atomic_uint freed;    /* tickets */
    atomic_uint disowned; /* tickets */
    atomic_bool closed;   /* whoever asks stays until it is opened */
    atomic_uint crowd;    /* .. or until the clock was read so often */
    int64_t takes_ms;
    int64_t life_ms;
    bool fails;
} desk;

static int64_t read_clock(void *arg)
{
    (void)arg;
    readings++;
    return clock_ms;
}

static dk_rc give(void *self, const struct dk_pass_ask *ask, struct dk_pass **out,
                  struct dk_err *told)
{
    int64_t begun = clock_ms;
    assert_ptr_equal(self, &desk);
    desk.asked++;
    while (desk.closed || readings < desk.crowd) {
        sched_yield();
    }
    clock_ms += desk.takes_ms;
    if (desk.fails) {
        return DK_FAIL(told, UNREACHABLE, "nobody is there (%u)", (unsigned)desk.asked);
    }
    struct ticket *ticket = dk_mem_zalloc(&w.world.mem, sizeof *ticket);
    if (ticket == NULL) {
        return DK_FAIL(told, NOMEM, "no memory");
    }
    *ticket = (struct ticket){.number = ask->number, .kind = ask->want};
    ticket->pass.renew_ms = begun + RENEW_AT_MS;
    ticket->pass.late_ms = begun + LATE_AT_MS;
    ticket->pass.good_ms = desk.life_ms == INT64_MAX ? INT64_MAX : begun + desk.life_ms;
    *out = &ticket->pass;
    return DK_OK;
}

static void destroy(void *self, struct dk_pass *pass)
{
    assert_ptr_equal(self, &desk);
    desk.freed++;
    dk_mem_free(&w.world.mem, pass);
}

static void disown(struct dk_pass *pass)
{
    desk.disowned += pass->good_ms != 0;
}

static bool is_of_kind(const struct dk_pass *pass, const char *want)
{
    return strcmp(((const struct ticket *)pass)->kind, want) == 0;
}

static const struct dk_pass_ops ops = {.fetch = give, .free = destroy, .again_ms = AGAIN_MS};
static const struct dk_pass_ops ops_of_kinds = {
    .fetch = give, .free = destroy, .suits = is_of_kind, .again_ms = AGAIN_MS};

/* ---- who wants them -------------------------------------------------------------------------- */

static void begin_with(const struct dk_pass_ops *with)
{
    dk_test_world_init(&w);
    w.world.clock.boot_ms = read_clock;
    clock_ms = 1000;
    readings = 0;
    memset(&desk, 0, sizeof desk);
    desk.life_ms = LIFE_MS;
    DK_TEST_OK(err, dk_passes_open(&w.world, with, &desk, &passes, &err));
    assert_int_equal(desk.asked, 0);
}

static void begin(void)
{
    begin_with(&ops);
}

static void end(void)
{
    dk_passes_close(passes);
    assert_int_equal(w.live, 0);
}

static struct ticket *get(void)
{
    struct dk_pass *pass = NULL;
    DK_TEST_OK(err, dk_passes_get(passes, NULL, &pass, &err));
    return (struct ticket *)pass;
}

static void put(struct ticket *ticket)
{
    dk_passes_put(passes, &ticket->pass);
}

static unsigned number(void)
{
    struct ticket *ticket = get();
    unsigned n = ticket->number;
    put(ticket);
    return n;
}

struct getter {
    pthread_t thread;
    struct dk_err err;
    unsigned number;
};

static void *get_once(void *arg)
{
    struct getter *g = arg;
    struct dk_pass *pass = NULL;
    dk_err_clear(&g->err);
    if (dk_passes_get(passes, NULL, &pass, &g->err) == DK_OK) {
        g->number = ((struct ticket *)pass)->number;
        dk_passes_put(passes, pass);
    }
    return NULL;
}

static void start(struct getter *g)
{
    pthread_attr_t attr;
    assert_int_equal(pthread_attr_init(&attr), 0);
    assert_int_equal(pthread_attr_setstacksize(&attr, STACK), 0);
    *g = (struct getter){0};
    assert_int_equal(pthread_create(&g->thread, &attr, get_once, g), 0);
    pthread_attr_destroy(&attr);
}

static void finish(struct getter *g)
{
    assert_int_equal(pthread_join(g->thread, NULL), 0);
}

static void wait_until(const atomic_uint *count, unsigned n)
{
    while (*count < n) {
        sched_yield();
    }
}

static struct getter crowd[CROWD];

/* The answer comes when all of them are waiting for it: who asks reads the clock twice before. */
static void run_crowd(void)
{
    desk.crowd = readings + CROWD + 1;
    for (int i = 0; i < CROWD; i++) {
        start(&crowd[i]);
    }
    for (int i = 0; i < CROWD; i++) {
        finish(&crowd[i]);
    }
    desk.crowd = 0;
}

/* ---- one asks -------------------------------------------------------------------------------- */

static void R16_of_1000_threads_one_asks(void **state)
{
    (void)state;
    begin();
    run_crowd();
    for (int i = 0; i < CROWD; i++) {
        assert_int_equal(crowd[i].err.rc, DK_OK);
        assert_int_equal(crowd[i].number, 1);
    }
    assert_int_equal(desk.asked, 1);
    clock_ms += LATE_AT_MS; /* so near the end too, all of them */
    run_crowd();
    for (int i = 0; i < CROWD; i++) {
        assert_int_equal(crowd[i].number, 2);
    }
    assert_int_equal(desk.asked, 2);
    assert_int_equal(desk.freed, 1);
    end();
}

/* However long it took: the moment in which a failure is told to who comes later is over by then.
 */
static void R16_a_failure_is_told_to_all_who_waited(void **state)
{
    (void)state;
    begin();
    desk.fails = true;
    run_crowd();
    clock_ms += 3000;
    run_crowd();
    for (int i = 0; i < CROWD; i++) {
        assert_int_equal(crowd[i].err.rc, DK_E_UNREACHABLE);
        assert_string_equal(crowd[i].err.text, "nobody is there (2)");
    }
    assert_int_equal(desk.asked, 2);
    end();
}

static void R16_a_failure_is_told_for_a_second(void **state)
{
    (void)state;
    struct dk_pass *pass = NULL;
    begin();
    desk.fails = true;
    DK_TEST_FAILS(err, UNREACHABLE, dk_passes_get(passes, NULL, &pass, &err));
    desk.fails = false;
    clock_ms += 999;
    DK_TEST_FAILS(err, UNREACHABLE, dk_passes_get(passes, NULL, &pass, &err));
    DK_TEST_SAYS(err, "nobody is there (1)");
    clock_ms += 1;
    assert_int_equal(number(), 1);
    assert_int_equal(desk.asked, 2);
    end();
}

/* A source that is slower than what it gives is long good: they do not ask one after the other. */
static void R16_what_is_over_when_it_comes_is_for_all_who_waited(void **state)
{
    (void)state;
    begin();
    desk.takes_ms = LIFE_MS + 1;
    run_crowd();
    for (int i = 0; i < CROWD; i++) {
        assert_int_equal(crowd[i].number, 1);
    }
    assert_int_equal(desk.asked, 1);
    assert_int_equal(number(), 2); /* who comes later asks */
    end();
}

/* ---- ahead of the end ------------------------------------------------------------------------ */

static void R16_the_next_one_is_asked_for_while_the_old_one_serves(void **state)
{
    (void)state;
    struct getter one;
    begin();
    assert_int_equal(number(), 1);
    clock_ms += RENEW_AT_MS - 1;
    assert_int_equal(number(), 1);
    assert_int_equal(desk.asked, 1);
    clock_ms += 1;
    desk.closed = true;
    start(&one);
    wait_until(&desk.asked, 2);
    for (int i = 0; i < 100; i++) {
        assert_int_equal(number(), 1); /* at once */
    }
    desk.closed = false;
    finish(&one);
    assert_int_equal(one.number, 2);
    assert_int_equal(number(), 2);
    assert_int_equal(desk.asked, 2);
    end();
}

static void R17_a_failure_is_of_no_account_while_the_old_one_is_good(void **state)
{
    (void)state;
    struct dk_pass *pass = NULL;
    begin();
    assert_int_equal(number(), 1);
    desk.fails = true;
    clock_ms += RENEW_AT_MS;
    assert_int_equal(number(), 1);
    clock_ms += AGAIN_MS - 1;
    assert_int_equal(number(), 1);
    assert_int_equal(desk.asked, 2);
    clock_ms += 1;
    assert_int_equal(number(), 1);
    assert_int_equal(desk.asked, 3);
    clock_ms += AGAIN_MS; /* in the time in which all wait too */
    assert_int_equal(number(), 1);
    assert_int_equal(number(), 1);
    assert_int_equal(desk.asked, 4);
    clock_ms += LIFE_MS - RENEW_AT_MS - 2 * AGAIN_MS - 1;
    assert_int_equal(number(), 1);
    clock_ms += 1;
    DK_TEST_FAILS(err, UNREACHABLE, dk_passes_get(passes, NULL, &pass, &err));
    end();
}

/* Amid a run nobody asks while one is good: the requests on their way would time out meanwhile. */
static void R15_R16_amid_a_run_a_good_one_is_not_renewed(void **state)
{
    (void)state;
    struct dk_pass *pass = NULL;
    begin();
    assert_int_equal(number(), 1);
    static const int64_t steps[] = {RENEW_AT_MS, LATE_AT_MS - RENEW_AT_MS,
                                    LIFE_MS - LATE_AT_MS - 1};
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        clock_ms += steps[i];
        DK_TEST_OK(err, dk_passes_get_amid(passes, NULL, &pass, &err));
        dk_passes_put(passes, pass);
        assert_int_equal(desk.asked, 1);
    }
    clock_ms += 1;
    DK_TEST_OK(err, dk_passes_get_amid(passes, NULL, &pass, &err));
    assert_int_equal(((struct ticket *)pass)->number, 2);
    dk_passes_put(passes, pass);
    end();
}

static void one_without_an_end_is_asked_for_once(void **state)
{
    (void)state;
    begin();
    desk.life_ms = INT64_MAX;
    assert_int_equal(number(), 1);
    clock_ms += INT64_C(1) << 60;
    assert_int_equal(number(), 1);
    end();
}

/* ---- refused --------------------------------------------------------------------------------- */

static void F34_a_refused_one_is_lent_to_nobody_any_more(void **state)
{
    (void)state;
    begin();
    struct ticket *first = get(), *also = get();
    assert_false(dk_passes_refused(passes, 1)); /* it came just now */
    assert_int_equal(number(), 1);
    clock_ms += 4999;
    assert_false(dk_passes_refused(passes, 1));
    clock_ms += 1;
    assert_true(dk_passes_refused(passes, 1));
    assert_true(dk_passes_refused(passes, 1));
    assert_int_equal(desk.asked, 1); /* by the next get */
    assert_int_equal(number(), 2);
    assert_true(dk_passes_refused(passes, 1)); /* there is a newer one */
    assert_false(dk_passes_refused(passes, 2));
    assert_int_equal(number(), 2);
    put(first);
    assert_int_equal(desk.freed, 0); /* it is in other hands yet */
    put(also);
    assert_int_equal(desk.freed, 1);
    end();
}

/* The calls of a batch are refused one after the other; the first of them asks already. */
static void F34_who_is_refused_while_another_asks_waits_for_it(void **state)
{
    (void)state;
    struct getter one, two;
    begin();
    assert_int_equal(number(), 1);
    clock_ms += 5000;
    assert_true(dk_passes_refused(passes, 1));
    desk.closed = true;
    start(&one);
    wait_until(&desk.asked, 2);
    assert_true(dk_passes_refused(passes, 1));
    unsigned before = readings;
    start(&two);
    wait_until(&readings, before + 1);
    desk.closed = false;
    finish(&one);
    finish(&two);
    assert_int_equal(one.number, 2);
    assert_int_equal(two.number, 2);
    assert_int_equal(desk.asked, 2);
    end();
}

static void F34_a_refused_one_does_not_come_back_when_there_is_no_other(void **state)
{
    (void)state;
    struct dk_pass *pass = NULL;
    begin();
    assert_int_equal(number(), 1);
    clock_ms += 5000;
    assert_true(dk_passes_refused(passes, 1));
    desk.fails = true;
    DK_TEST_FAILS(err, UNREACHABLE, dk_passes_get(passes, NULL, &pass, &err));
    clock_ms += 1000;
    DK_TEST_FAILS(err, UNREACHABLE, dk_passes_get(passes, NULL, &pass, &err));
    assert_int_equal(desk.asked, 3);
    end();
}

/* ---- kinds, fork, memory --------------------------------------------------------------------- */

static void one_of_another_kind_does_not_suit(void **state)
{
    (void)state;
    struct dk_pass *vault = NULL, *hsm = NULL;
    begin_with(&ops_of_kinds);
    DK_TEST_OK(err, dk_passes_get(passes, "vault", &vault, &err));
    DK_TEST_OK(err, dk_passes_get(passes, "hsm", &hsm, &err));
    assert_string_equal(((struct ticket *)vault)->kind, "vault");
    assert_string_equal(((struct ticket *)hsm)->kind, "hsm");
    assert_int_equal(desk.asked, 2);
    dk_passes_put(passes, vault);
    dk_passes_put(passes, hsm);
    assert_int_equal(desk.freed, 1);
    end();
}

static int get_as_a_child(void *arg)
{
    struct dk_pass *pass = NULL;
    (void)arg;
    desk.closed = false;
    dk_passes_after_fork(passes, disown);
    DK_TEST_CHILD(desk.disowned == 1 && desk.freed == 1);
    DK_TEST_CHILD(dk_passes_get(passes, NULL, &pass, &err) == DK_OK);
    DK_TEST_CHILD(((struct ticket *)pass)->number == 2);
    dk_passes_put(passes, pass);
    dk_passes_close(passes);
    DK_TEST_CHILD(w.live == 0);
    return 0;
}

/* While a thread of the parent is asking: its answer is the parent's. */
static void a_child_asks_anew(void **state)
{
    (void)state;
    struct getter one;
    begin();
    assert_int_equal(number(), 1);
    clock_ms += LATE_AT_MS;
    desk.closed = true;
    start(&one);
    wait_until(&desk.asked, 2);
    assert_true(dk_test_in_child(false, get_as_a_child, NULL));
    desk.closed = false;
    finish(&one);
    assert_int_equal(one.number, 2);
    assert_int_equal(number(), 2);
    end();
}

static void F01_nothing_is_left_when_an_allocation_fails(void **state)
{
    (void)state;
    struct dk_passes *none = NULL;
    struct dk_pass *pass = NULL;
    begin();
    w.fail_alloc_all = w.allocs + 1;
    DK_TEST_FAILS(err, NOMEM, dk_passes_open(&w.world, &ops, &desk, &none, &err));
    assert_null(none);
    DK_TEST_FAILS(err, NOMEM, dk_passes_get(passes, NULL, &pass, &err));
    assert_null(pass);
    end();
    dk_passes_close(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(R16_of_1000_threads_one_asks),
        cmocka_unit_test(R16_a_failure_is_told_to_all_who_waited),
        cmocka_unit_test(R16_a_failure_is_told_for_a_second),
        cmocka_unit_test(R16_what_is_over_when_it_comes_is_for_all_who_waited),
        cmocka_unit_test(R16_the_next_one_is_asked_for_while_the_old_one_serves),
        cmocka_unit_test(R17_a_failure_is_of_no_account_while_the_old_one_is_good),
        cmocka_unit_test(R15_R16_amid_a_run_a_good_one_is_not_renewed),
        cmocka_unit_test(one_without_an_end_is_asked_for_once),
        cmocka_unit_test(F34_a_refused_one_is_lent_to_nobody_any_more),
        cmocka_unit_test(F34_who_is_refused_while_another_asks_waits_for_it),
        cmocka_unit_test(F34_a_refused_one_does_not_come_back_when_there_is_no_other),
        cmocka_unit_test(one_of_another_kind_does_not_suit),
        cmocka_unit_test(a_child_asks_anew),
        cmocka_unit_test(F01_nothing_is_left_when_an_allocation_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
