#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include "support/world.h"

/*
 * F45: the wall clock is a day or ten years off, or stands still. Nothing is skipped, repeated or
 * lost; how long a key stays in memory is the monotonic clock's to say.
 */

#define ASSERT_CODE(call, code) assert_string_equal(dekhand_error_name(call), #code)

static const int64_t day_us = DK_DAY_US;
/* `due`: how many of the tenants, one made at each stop on the way, are past their time there. */
static const struct {
    int days, due;
} offs[] = {{1, 0}, {-1, 0}, {3650, 3}, {-3650, 0}, {0, 1}};
#define OFFS (sizeof offs / sizeof offs[0])

static void check_audit(struct dekhand *d)
{
    struct dekhand_audit_result audit = {.size = sizeof audit};
    ASSERT_CODE(dekhand_audit_verify(d, NULL, NULL, &audit, NULL), OK);
    assert_int_equal(audit.findings, 0);
}

static void F45_what_is_in_memory_does_not_follow_the_wall_clock(void **state)
{
    (void)state;
    struct dk_place place;
    struct dk_test_value value, more;
    dk_place_new(&place, true);
    struct dekhand *d = dk_place_open(&place);
    int64_t born = place.w.wall_us;
    ASSERT_CODE(dk_test_encrypt(d, "acme", "x", &value), OK);
    ASSERT_CODE(dk_test_decrypt(d, "acme", &value, "x"), OK);
    int uses = dk_fake_uses(place.fake);
    for (size_t i = 0; i < OFFS; i++) {
        place.w.wall_us = born + offs[i].days * day_us;
        ASSERT_CODE(dk_test_encrypt(d, "acme", "y", &more), OK);
        ASSERT_CODE(dk_test_decrypt(d, "acme", &value, "x"), OK);
        assert_int_equal(dk_fake_uses(place.fake), uses);
    }
    place.w.mono_ms += place.limits.hard_ttl_ms + 1; /* the wall clock stands still */
    ASSERT_CODE(dk_test_decrypt(d, "acme", &value, "x"), OK);
    assert_int_equal(dk_fake_uses(place.fake), uses + 1);
    dk_place_close(d);
    dk_place_free(&place);
}

static void F45_I23_rotations_at_one_moment_make_one_version_each(void **state)
{
    (void)state;
    struct dk_place place;
    struct dk_test_value values[6];
    dk_place_new(&place, false);
    struct dekhand *d = dk_place_open(&place);
    for (uint32_t i = 0; i < 6; i++) {
        uint32_t to = 0;
        ASSERT_CODE(dk_test_encrypt(d, "acme", "x", &values[i]), OK);
        assert_int_equal(dk_test_version(&values[i]), i + 1);
        ASSERT_CODE(dk_test_rotate(d, "acme", i + 1, &to), OK);
        assert_int_equal(to, i + 2);
    }
    check_audit(d);
    for (size_t i = 0; i < 6; i++) {
        ASSERT_CODE(dk_test_decrypt(d, "acme", &values[i], "x"), OK);
    }
    dk_place_close(d);
    dk_place_free(&place);
}

static bool count(void *arg, const struct dekhand_rotation *rotation)
{
    assert_int_equal(rotation->code, DEKHAND_OK);
    ++*(int *)arg;
    return true;
}

static int rotate_due(struct dekhand *d)
{
    int rotated = 0;
    struct dekhand_rotate_args args = {.size = sizeof args, .which = DEKHAND_ROTATE_DUE};
    ASSERT_CODE(dekhand_rotate(d, &args, count, &rotated, NULL), OK);
    return rotated;
}

/* A version that seems two years old is all that stops encryption; rotating mends it. */
static void use_under_wrong_clock(struct dekhand *d, size_t i, struct dk_test_value *out)
{
    int code = dk_test_encrypt(d, "acme", "x", out);
    assert_true(code == DEKHAND_OK || (code == DEKHAND_E_EXPIRED && offs[i].due > 0));
    assert_int_equal(rotate_due(d), offs[i].due);
    assert_int_equal(rotate_due(d), 0); /* no second time */
    ASSERT_CODE(dk_test_encrypt(d, "acme", "x", out), OK);
}

static void F45_I23_nothing_is_lost_or_done_twice_while_the_clock_is_wrong(void **state)
{
    (void)state;
    struct dk_place place;
    struct dk_test_value values[OFFS + 1], fresh;
    dk_place_new(&place, false);
    int64_t born = place.w.wall_us;
    struct dekhand *d = dk_place_open(&place);
    ASSERT_CODE(dk_test_encrypt(d, "acme", "x", &values[OFFS]), OK);
    dk_place_close(d);
    for (size_t i = 0; i < OFFS; i++) {
        char tenant[16];
        place.w.wall_us = born + offs[i].days * day_us;
        d = dk_place_open(&place);
        use_under_wrong_clock(d, i, &values[i]);
        snprintf(tenant, sizeof tenant, "new-%zu", i);
        ASSERT_CODE(dk_test_encrypt(d, tenant, "y", &fresh), OK);
        ASSERT_CODE(dk_test_decrypt(d, tenant, &fresh, "y"), OK);
        place.w.mono_ms += 3700000; /* look-out and flush go by the other clock */
        ASSERT_CODE(dekhand_tick(d, NULL), OK);
        check_audit(d);
        dk_place_close(d);
    }
    for (size_t i = 0; i <= OFFS; i++) {
        assert_true(dk_place_reads(&place, "acme", &values[i], "x"));
    }
    assert_int_equal(dk_place_number(&place, "SELECT count(*) FROM encryption_keys WHERE tenant_id "
                                             "= 'acme'"),
                     2);
    /* Every message was counted: of acme one at first, two at each stop where it did not seem too
       old, and one of each new tenant. */
    assert_int_equal(dk_place_number(&place, "SELECT sum(messages) FROM encryption_keys"),
                     1 + 2 * OFFS - 1 + OFFS);
    dk_place_free(&place);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(F45_what_is_in_memory_does_not_follow_the_wall_clock),
        cmocka_unit_test(F45_I23_rotations_at_one_moment_make_one_version_each),
        cmocka_unit_test(F45_I23_nothing_is_lost_or_done_twice_while_the_clock_is_wrong),
    };
    return cmocka_run_group_tests_name("clock", tests, NULL, NULL);
}
