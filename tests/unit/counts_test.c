#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include <stdlib.h>

#include "keys/counts.h"
#include "keys/thread.h"
#include "support/world.h"

#define ASSERT_CODE(call, code) assert_string_equal(dekhand_error_name(call), #code)

static struct dk_err err;

static int64_t stored(struct dk_place *place)
{
    return dk_place_number(place, "SELECT coalesce(sum(messages), 0) FROM encryption_keys");
}

/* Seals until the first failure, at most `most` times; *code = the last answer. */
static int64_t seal_many(struct dekhand *d, const char *tenant, int64_t most, int *code)
{
    uint8_t out[64];
    struct dekhand_item item = {.tenant = tenant,
                                .format = DEKHAND_BINARY,
                                .in = "x",
                                .in_size = 1,
                                .out = out,
                                .capacity = sizeof out};
    for (int64_t n = 0; n < most; n++) {
        *code = dekhand_encrypt(d, &item, NULL);
        if (*code != DEKHAND_OK) {
            return n;
        }
    }
    return most;
}

static void seal(struct dekhand *d, int64_t count)
{
    int code = DEKHAND_OK;
    assert_int_equal(seal_many(d, "acme", count, &code), count);
}

/* ---- the table
 * ------------------------------------------------------------------------------------- */

static void pending_counts_are_kept_by_tenant_and_version(void **state)
{
    (void)state;
    struct dk_test_world w;
    struct dk_counts *counts = NULL;
    dk_test_world_init(&w);
    DK_TEST_OK(err, dk_counts_open(&w.world, &counts, &err));
    for (int round = 1; round <= 3; round++) {
        for (uint32_t i = 0; i < 3000; i++) { /* the table grows */
            struct dk_tenant tenant = {0};
            tenant.n = (uint8_t)snprintf(tenant.s, sizeof tenant.s, "t-%u", i / 3);
            assert_int_equal(dk_counts_add(counts, &tenant, i % 3, i + 1),
                             (int64_t)round * (i + 1));
            assert_int_equal(dk_counts_pending(counts, &tenant, i % 3), (int64_t)round * (i + 1));
            assert_int_equal(dk_counts_pending(counts, &tenant, 7), 0);
        }
    }
    assert_true(dk_counts_want_flush(counts, 9000));
    assert_false(dk_counts_want_flush(counts, 9001));
    dk_counts_after_fork(counts);
    assert_false(dk_counts_want_flush(counts, 1));
    dk_counts_close(counts);
    dk_counts_close(NULL);
    assert_int_equal(w.live, 0);
}

static void F01_what_cannot_be_remembered_is_not_sealed(void **state)
{
    (void)state;
    struct dk_test_world w;
    struct dk_counts *counts = NULL;
    struct dk_tenant tenant = {.n = 4, .s = "acme"};
    dk_test_world_init(&w);
    DK_TEST_OK(err, dk_counts_open(&w.world, &counts, &err));
    w.fail_alloc_all = w.allocs + 1;
    assert_true(dk_counts_add(counts, &tenant, 1, 5) == INT64_MAX);
    w.fail_alloc_all = 0;
    assert_int_equal(dk_counts_add(counts, &tenant, 1, 5), 5);
    dk_counts_close(counts);
}

/* ---- when they reach the store
 * ---------------------------------------------------------------------- */

static void R25_close_writes_what_was_sealed_and_not_what_was_opened(void **state)
{
    (void)state;
    struct dk_place place;
    struct dk_test_value value;
    dk_place_new(&place, false);
    struct dekhand *d = dk_place_open(&place);
    seal(d, 10);
    ASSERT_CODE(dk_test_encrypt(d, "acme", "x", &value), OK);
    for (int i = 0; i < 5; i++) {
        ASSERT_CODE(dk_test_decrypt(d, "acme", &value, "x"), OK);
    }
    assert_int_equal(stored(&place), 0); /* nothing on the hot path waits for this */
    dk_place_close(d);
    assert_int_equal(stored(&place), 11);
    d = dk_place_open(&place);
    seal(d, 1);
    dk_place_close(d);
    assert_int_equal(stored(&place), 12);
    dk_place_free(&place);
}

static void R25_a_tick_writes_what_is_many_or_an_hour_old(void **state)
{
    (void)state;
    struct dk_place place;
    dk_place_new(&place, false);
    place.limits.flush_messages = 100;
    struct dekhand *d = dk_place_open(&place);
    seal(d, 99);
    ASSERT_CODE(dekhand_tick(d, NULL), OK);
    assert_int_equal(stored(&place), 0);
    seal(d, 1);
    ASSERT_CODE(dekhand_tick(d, NULL), OK);
    assert_int_equal(stored(&place), 100);
    seal(d, 3);
    place.w.mono_ms += 3600 * 1000 - 1;
    ASSERT_CODE(dekhand_tick(d, NULL), OK);
    assert_int_equal(stored(&place), 100);
    place.w.mono_ms += 1;
    ASSERT_CODE(dekhand_tick(d, NULL), OK);
    assert_int_equal(stored(&place), 103);
    seal(d, 4);
    place.w.mono_ms += 3600 * 1000 + place.limits.poll_ms; /* without a tick the next call does */
    seal(d, 1);
    assert_true(stored(&place) >= 107);
    dk_place_close(d);
    assert_int_equal(stored(&place), 108);
    dk_place_free(&place);
}

static void refuse_counts(struct dk_place *place)
{
    dk_place_refuse(place, "UPDATE OF messages", "encryption_keys");
}

static void counts_that_cannot_be_written_are_kept_and_told_at_close(void **state)
{
    (void)state;
    struct dk_place place;
    struct dekhand_error error;
    dk_place_new(&place, false);
    place.limits.flush_messages = 10;
    struct dekhand *d = dk_place_open(&place);
    seal(d, 20);
    refuse_counts(&place);
    ASSERT_CODE(dekhand_tick(d, NULL), E_STORE);
    ASSERT_CODE(dekhand_tick(d, NULL), E_STORE);
    dk_place_allow(&place, "encryption_keys");
    ASSERT_CODE(dekhand_tick(d, NULL), OK);
    assert_int_equal(stored(&place), 20);
    seal(d, 5);
    refuse_counts(&place);
    assert_int_equal(dekhand_close(d, &error), DEKHAND_E_STORE); /* they are lost, all is freed */
    assert_int_equal(place.w.live, 0);
    dk_place_free(&place);
}

/* ---- the budget
 * -------------------------------------------------------------------------------------- */

static void R25_a_version_near_its_budget_is_rotated_early(void **state)
{
    (void)state;
    struct dk_place place;
    struct dk_test_value value;
    dk_place_new(&place, false);
    place.limits.flush_messages = 10;
    place.limits.rotate_messages = 30;
    struct dekhand *d = dk_place_open(&place);
    seal(d, 29);
    ASSERT_CODE(dekhand_tick(d, NULL), OK);
    ASSERT_CODE(dk_test_encrypt(d, "acme", "x", &value), OK);
    assert_int_equal(dk_test_version(&value), 1);
    seal(d, 10);
    ASSERT_CODE(dekhand_tick(d, NULL), OK);
    ASSERT_CODE(dk_test_encrypt(d, "acme", "y", &value), OK);
    assert_int_equal(dk_test_version(&value), 2);
    assert_int_equal(dk_place_number(&place, "SELECT messages FROM encryption_keys WHERE version = "
                                             "1"),
                     40);
    dk_place_close(d);
    dk_place_free(&place);
}

static void R25_the_budget_stops_encryption_in_every_process(void **state)
{
    (void)state;
    enum { BUDGET = 3 * DK_HOT_QUANTUM };
    struct dk_place place;
    struct dk_test_value value;
    int code = DEKHAND_OK;
    dk_place_new(&place, false);
    place.limits.encrypt_messages = BUDGET;
    struct dekhand *d = dk_place_open(&place);
    ASSERT_CODE(dk_test_encrypt(d, "acme", "x", &value), OK);
    int64_t sealed = 1 + seal_many(d, "acme", 2 * BUDGET, &code);
    ASSERT_CODE(code, E_KEY_EXHAUSTED);
    assert_true(sealed <= BUDGET && sealed >= BUDGET - DK_HOT_QUANTUM);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(seal_many(d, "acme", 1, &code), 0);
        ASSERT_CODE(code, E_KEY_EXHAUSTED);
    }
    ASSERT_CODE(dk_test_decrypt(d, "acme", &value, "x"), OK); /* it still opens */
    assert_int_equal(seal_many(d, "globex", 1, &code), 1);    /* another tenant's is its own */
    dk_place_close(d);
    d = dk_place_open(&place);
    assert_int_equal(seal_many(d, "acme", 1, &code), 0);
    ASSERT_CODE(code, E_KEY_EXHAUSTED);
    ASSERT_CODE(dk_test_rotate(d, "acme", 0, NULL), OK);
    assert_int_equal(seal_many(d, "acme", 1, &code), 1);
    dk_place_close(d);
    dk_place_free(&place);
}

struct crowd {
    struct dekhand *d;
    _Atomic int64_t sealed;
    atomic_int other_code;
};

static void seal_in_crowd(void *arg, size_t index)
{
    struct crowd *crowd = arg;
    int code = DEKHAND_OK;
    (void)index;
    atomic_fetch_add(&crowd->sealed, seal_many(crowd->d, "acme", 8 * DK_HOT_QUANTUM, &code));
    if (code != DEKHAND_E_KEY_EXHAUSTED) {
        atomic_store(&crowd->other_code, code == DEKHAND_OK ? -1 : code);
    }
}

static void R25_threads_overrun_the_budget_by_a_quantum_each_at_most(void **state)
{
    (void)state;
    enum { BUDGET = 3 * DK_HOT_QUANTUM, THREADS = 4 };
    struct dk_place place;
    struct crowd crowd = {.sealed = 0};
    dk_place_new(&place, false);
    place.limits.encrypt_messages = BUDGET;
    crowd.d = dk_place_open(&place);
    dk_test_threads(THREADS, seal_in_crowd, &crowd);
    assert_int_equal(crowd.other_code, 0);
    assert_true(crowd.sealed <= BUDGET + THREADS * DK_HOT_QUANTUM);
    dk_place_close(crowd.d);
    assert_true(stored(&place) >= crowd.sealed);
    dk_place_free(&place);
}

static void R25_a_process_that_cannot_flush_stops(void **state)
{
    (void)state;
    enum { MOST = 2 * DK_HOT_QUANTUM };
    struct dk_place place;
    int code = DEKHAND_OK;
    dk_place_new(&place, false);
    place.limits.unflushed_max = MOST;
    struct dekhand *d = dk_place_open(&place);
    seal(d, 1);
    refuse_counts(&place);
    int64_t sealed = 1 + seal_many(d, "acme", 2 * MOST, &code);
    ASSERT_CODE(code, E_KEY_EXHAUSTED);
    assert_true(sealed <= MOST);
    assert_int_equal(seal_many(d, "acme", 1, &code), 0);
    dk_place_allow(&place, "encryption_keys");
    place.w.mono_ms += 3600 * 1000;
    ASSERT_CODE(dekhand_tick(d, NULL), OK);
    assert_int_equal(seal_many(d, "acme", 100, &code), 100);
    dk_place_close(d);
    assert_true(stored(&place) >= sealed + 100);
    dk_place_free(&place);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pending_counts_are_kept_by_tenant_and_version),
        cmocka_unit_test(F01_what_cannot_be_remembered_is_not_sealed),
        cmocka_unit_test(R25_close_writes_what_was_sealed_and_not_what_was_opened),
        cmocka_unit_test(R25_a_tick_writes_what_is_many_or_an_hour_old),
        cmocka_unit_test(counts_that_cannot_be_written_are_kept_and_told_at_close),
        cmocka_unit_test(R25_a_version_near_its_budget_is_rotated_early),
        cmocka_unit_test(R25_the_budget_stops_encryption_in_every_process),
        cmocka_unit_test(R25_threads_overrun_the_budget_by_a_quantum_each_at_most),
        cmocka_unit_test(R25_a_process_that_cannot_flush_stops),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
