#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include "keys/states.h"
#include "support/expect.h"

static struct dk_err err;

static const int64_t now = INT64_C(1767225600) * 1000000;

static struct dk_key_row row_in(enum dk_state state)
{
    struct dk_key_row row = {.version = 7,
                             .state = state,
                             .created_at = now,
                             .expires_at = now + 90 * DK_DAY_US,
                             .rotated_at = DK_TIME_NONE,
                             .compromised_at = DK_TIME_NONE,
                             .disabled_at = DK_TIME_NONE,
                             .purged_at = state == DK_PURGED ? now : DK_TIME_NONE};
    DK_TEST_OK(err, dk_tenant_parse(dk_view_str("acme"), &row.tenant, &err));
    return row;
}

/* Written out again: a change of the table in the code has to be made here too. */
static void I09_states_go_one_way_with_one_step_back(void **state)
{
    (void)state;
    for (int from = 0; from < DK_STATE_COUNT; from++) {
        for (int to = 0; to < DK_STATE_COUNT; to++) {
            bool wanted = (from == DK_ACTIVE && to == DK_RETIRED) ||
                          (from == DK_RETIRED && to == DK_DISABLED) ||
                          (from == DK_DISABLED && to == DK_RETIRED) ||
                          (from == DK_DISABLED && to == DK_PURGED);
            assert_int_equal(dk_state_may_become((enum dk_state)from, (enum dk_state)to), wanted);
        }
    }
}

static void state_names_come_back(void **state)
{
    (void)state;
    static const char *const names[] = {"active", "retired", "disabled", "purged"};
    enum dk_state got = DK_PURGED;
    for (int i = 0; i < DK_STATE_COUNT; i++) {
        assert_string_equal(dk_state_name((enum dk_state)i), names[i]);
        assert_true(dk_state_from_name(names[i], &got));
        assert_int_equal(got, i);
    }
    assert_false(dk_state_from_name("Active", &got));
    assert_false(dk_state_from_name("", &got));
    assert_int_equal(got, DK_PURGED);
}

static void what_is_disabled_or_purged_does_not_open(void **state)
{
    (void)state;
    struct dk_key_row row = row_in(DK_ACTIVE);
    DK_TEST_OK(err, dk_state_check_open(&row, &err));
    row = row_in(DK_RETIRED);
    DK_TEST_OK(err, dk_state_check_open(&row, &err));
    row.compromised_at = now; /* so that it can be migrated */
    DK_TEST_OK(err, dk_state_check_open(&row, &err));
    row = row_in(DK_DISABLED);
    DK_TEST_FAILS(err, DISABLED, dk_state_check_open(&row, &err));
    DK_TEST_SAYS(err, "version 7 of tenant acme");
    row = row_in(DK_PURGED);
    DK_TEST_FAILS(err, PURGED, dk_state_check_open(&row, &err));
    DK_TEST_SAYS(err, "2026-01-01T00:00:00.000000Z");
    row = row_in(DK_STATE_COUNT); /* a state that is none opens nothing */
    DK_TEST_FAILS(err, PURGED, dk_state_check_open(&row, &err));
}

static dk_rc check_at(const struct dk_key_row *row, int64_t at)
{
    dk_err_clear(&err);
    return dk_state_check_encrypt(row, at, &dk_limits_default, &err);
}

static void I09_only_an_active_version_encrypts(void **state)
{
    (void)state;
    for (int s = 0; s < DK_STATE_COUNT; s++) {
        struct dk_key_row row = row_in((enum dk_state)s);
        assert_int_equal(check_at(&row, now), s == DK_ACTIVE ? DK_OK : DK_E_TAMPERED);
        row.compromised_at = now;
        assert_int_equal(check_at(&row, now), s == DK_ACTIVE ? DK_E_COMPROMISED : DK_E_TAMPERED);
    }
}

static void K8_an_expired_version_encrypts_until_two_years(void **state)
{
    (void)state;
    struct dk_key_row row = row_in(DK_ACTIVE);
    assert_int_equal(check_at(&row, now + 91 * DK_DAY_US), DK_OK);
    assert_int_equal(check_at(&row, now + DK_ENCRYPT_MAX_US), DK_OK);
    assert_int_equal(check_at(&row, now + DK_ENCRYPT_MAX_US + 1), DK_E_EXPIRED);
    assert_int_equal(check_at(&row, now - 3650 * DK_DAY_US), DK_OK); /* a clock gone back */
}

static void R25_a_version_that_sealed_its_messages_encrypts_no_more(void **state)
{
    (void)state;
    struct dk_key_row row = row_in(DK_ACTIVE);
    row.messages = dk_limits_default.encrypt_messages - 1;
    assert_int_equal(check_at(&row, now), DK_OK);
    row.messages++;
    assert_int_equal(check_at(&row, now), DK_E_KEY_EXHAUSTED);
}

static bool is_due(const struct dk_key_row *row, int64_t at)
{
    return dk_state_is_due(row, at, &dk_limits_default);
}

static void due_is_what_expires_soon_is_full_or_compromised(void **state)
{
    (void)state;
    struct dk_key_row row = row_in(DK_ACTIVE);
    int64_t warned = row.expires_at - dk_limits_default.warning_us;
    assert_false(is_due(&row, now));
    assert_false(is_due(&row, warned - 1));
    assert_true(is_due(&row, warned));
    assert_true(is_due(&row, row.expires_at + 1));
    row.messages = dk_limits_default.rotate_messages - 1;
    assert_false(is_due(&row, now));
    row.messages++;
    assert_true(is_due(&row, now));
    row.messages = 0;
    row.compromised_at = now;
    assert_true(is_due(&row, now));
}

static void R25_the_budget_is_the_one_that_is_promised(void **state)
{
    (void)state;
    const struct dk_limits *l = &dk_limits_default;
    assert_int_equal(l->flush_messages, INT64_C(1) << 20);
    assert_int_equal(l->unflushed_max, INT64_C(1) << 28);
    assert_int_equal(l->rotate_messages, INT64_C(1) << 31);
    assert_true(l->encrypt_messages <= INT64_C(1) << 32);
    assert_true(l->rotate_messages < l->encrypt_messages);
    assert_int_equal(l->rotation_us, 90 * DK_DAY_US);
    assert_int_equal(l->warning_us, 7 * DK_DAY_US);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(I09_states_go_one_way_with_one_step_back),
        cmocka_unit_test(state_names_come_back),
        cmocka_unit_test(what_is_disabled_or_purged_does_not_open),
        cmocka_unit_test(I09_only_an_active_version_encrypts),
        cmocka_unit_test(K8_an_expired_version_encrypts_until_two_years),
        cmocka_unit_test(R25_a_version_that_sealed_its_messages_encrypts_no_more),
        cmocka_unit_test(due_is_what_expires_soon_is_full_or_compromised),
        cmocka_unit_test(R25_the_budget_is_the_one_that_is_promised),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
