/* What a process does that hears nothing of the registry: for how long it encrypts, and when again.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include "support/world.h"

#define ASSERT_CODE(call, code) assert_string_equal(dekhand_error_name(call), #code)
#define HOUR_MS (INT64_C(3600) * 1000)

/* A registry with a tenant in memory. */
static struct dekhand *used(struct dk_place *place, struct dk_test_value *value)
{
    dk_place_new(place, false);
    struct dekhand *d = dk_place_open(place);
    ASSERT_CODE(dk_test_encrypt(d, "acme", "x", value), OK);
    return d;
}

static void F46_a_node_that_is_cut_off_encrypts_to_the_lease_and_decrypts_on(void **state)
{
    (void)state;
    struct dk_place place;
    struct dk_test_value value, fresh;
    struct dekhand *d = used(&place, &value);
    ASSERT_CODE(dk_test_decrypt(d, "acme", &value, "x"), OK);
    dk_place_take_away(&place);
    int64_t begun = place.w.mono_ms;
    while (place.w.mono_ms + place.limits.poll_ms < begun + place.limits.lease_ms) {
        place.w.mono_ms += place.limits.poll_ms;
        ASSERT_CODE(dk_test_encrypt(d, "acme", "x", &fresh), OK);
    }
    place.w.mono_ms = begun + place.limits.lease_ms;
    ASSERT_CODE(dk_test_encrypt(d, "acme", "x", &fresh), E_LEASE);
    place.w.mono_ms = begun + 3 * HOUR_MS;
    ASSERT_CODE(dk_test_encrypt(d, "acme", "x", &fresh), E_LEASE);
    ASSERT_CODE(dk_test_decrypt(d, "acme", &value, "x"), OK);
    dk_place_bring_back(&place);
    ASSERT_CODE(dk_test_encrypt(d, "acme", "x", &fresh), E_LEASE); /* it looked a moment ago */
    place.w.mono_ms += place.limits.poll_ms;
    ASSERT_CODE(dk_test_encrypt(d, "acme", "x", &fresh), OK);
    dk_place_close(d);
    dk_place_free(&place);
}

static void I22_a_process_that_made_no_call_for_long_looks_before_it_encrypts(void **state)
{
    (void)state;
    struct dk_place place;
    struct dk_test_value value;
    struct dekhand *d = used(&place, &value), *other = dk_place_open(&place);
    ASSERT_CODE(dk_test_rotate(other, "acme", 0, NULL), OK);
    place.w.mono_ms += place.limits.lease_ms + 1;
    ASSERT_CODE(dk_test_encrypt(d, "acme", "x", &value), OK);
    assert_int_equal(dk_test_version(&value), 2);
    dk_place_close(other);
    dk_place_close(d);
    dk_place_free(&place);
}

/* SIGSTOP, a suspended machine: the clock of calls stood still meanwhile. */
static void F10_I22_what_was_rotated_while_the_machine_slept_encrypts_no_more(void **state)
{
    (void)state;
    struct dk_place place;
    struct dk_test_value value;
    struct dekhand *d = used(&place, &value), *other = dk_place_open(&place);
    ASSERT_CODE(dk_test_rotate(other, "acme", 0, NULL), OK);
    ASSERT_CODE(dk_test_encrypt(d, "acme", "x", &value), OK);
    assert_int_equal(dk_test_version(&value), 1); /* no poll was due yet */
    place.w.slept_ms += 2 * HOUR_MS;
    place.w.mono_ms += 4;
    ASSERT_CODE(dk_test_encrypt(d, "acme", "x", &value), OK);
    assert_int_equal(dk_test_version(&value), 2);
    dk_place_take_away(&place);
    place.w.slept_ms += 2 * HOUR_MS;
    place.w.mono_ms += 4;
    ASSERT_CODE(dk_test_encrypt(d, "acme", "x", &value), E_LEASE);
    dk_place_bring_back(&place);
    dk_place_close(other);
    dk_place_close(d);
    dk_place_free(&place);
}

static void I22_F45_a_step_of_the_wall_clock_beyond_the_lease_is_a_look(void **state)
{
    (void)state;
    struct dk_place place;
    struct dk_test_value value;
    struct dekhand *d = used(&place, &value), *other = dk_place_open(&place);
    const int64_t steps_ms[] = {place.limits.lease_ms + 1000, -HOUR_MS, 24 * HOUR_MS};
    uint32_t version = 1;
    for (size_t i = 0; i < sizeof steps_ms / sizeof steps_ms[0]; i++) {
        ASSERT_CODE(dk_test_rotate(other, "acme", 0, NULL), OK);
        place.w.mono_ms += 4;
        ASSERT_CODE(dk_test_encrypt(d, "acme", "x", &value), OK);
        assert_int_equal(dk_test_version(&value), version);
        place.w.wall_us += steps_ms[i] * 1000;
        place.w.mono_ms += 4;
        ASSERT_CODE(dk_test_encrypt(d, "acme", "x", &value), OK);
        assert_int_equal(dk_test_version(&value), ++version);
    }
    dk_place_close(other);
    dk_place_close(d);
    dk_place_free(&place);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(F46_a_node_that_is_cut_off_encrypts_to_the_lease_and_decrypts_on),
        cmocka_unit_test(I22_a_process_that_made_no_call_for_long_looks_before_it_encrypts),
        cmocka_unit_test(F10_I22_what_was_rotated_while_the_machine_slept_encrypts_no_more),
        cmocka_unit_test(I22_F45_a_step_of_the_wall_clock_beyond_the_lease_is_a_look),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
