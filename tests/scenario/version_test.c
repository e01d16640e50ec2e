/* One version disabled and enabled again; a tenant's own rotation period. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include "dekhand_admin.h"
#include "support/world.h"

#define ASSERT_CODE(call, code) assert_string_equal(dekhand_error_name(call), #code)

static struct dk_place place;

/* acme with versions 1 (retired) and 2 (active), and a value of each. */
static struct dekhand *open_two(struct dk_test_value *first, struct dk_test_value *second)
{
    dk_place_new(&place, false);
    struct dekhand *d = dk_place_open(&place);
    ASSERT_CODE(dk_test_encrypt(d, "acme", "one", first), OK);
    ASSERT_CODE(dk_test_rotate(d, "acme", 0, NULL), OK);
    ASSERT_CODE(dk_test_encrypt(d, "acme", "two", second), OK);
    return d;
}

static void end(struct dekhand *d)
{
    struct dekhand_audit_result result = {.size = sizeof result};
    ASSERT_CODE(dekhand_audit_verify(d, NULL, NULL, &result, NULL), OK);
    assert_int_equal(result.findings, 0);
    dk_place_close(d);
    dk_place_free(&place);
}

static void I09_a_disabled_version_opens_nothing_until_it_is_enabled(void **state)
{
    (void)state;
    struct dk_test_value first, second;
    bool changed = false;
    struct dekhand *d = open_two(&first, &second);
    ASSERT_CODE(dk_test_decrypt(d, "acme", &first, "one"), OK);
    ASSERT_CODE(dekhand_key_disable(d, "acme", 1, &changed, NULL), OK);
    assert_true(changed);
    ASSERT_CODE(dk_test_decrypt(d, "acme", &first, "one"), E_DISABLED);
    ASSERT_CODE(dk_test_decrypt(d, "acme", &second, "two"), OK);
    assert_false(dk_place_reads(&place, "acme", &first, "one"));
    ASSERT_CODE(dekhand_key_disable(d, "acme", 1, &changed, NULL), OK);
    assert_false(changed);
    assert_int_equal(dk_place_number(&place, "SELECT count(*) FROM encryption_keys WHERE state = "
                                             "'disabled' AND disabled_at IS NOT NULL AND "
                                             "encrypted_data_key <> ''"),
                     1);

    ASSERT_CODE(dekhand_key_enable(d, "acme", 1, &changed, NULL), OK);
    assert_true(changed);
    ASSERT_CODE(dk_test_decrypt(d, "acme", &first, "one"), OK);
    ASSERT_CODE(dekhand_key_enable(d, "acme", 1, &changed, NULL), OK);
    assert_false(changed);
    assert_int_equal(dk_place_number(&place, "SELECT count(*) FROM key_rotation_log WHERE "
                                             "operation IN ('disable', 'enable') AND "
                                             "from_version = 1 AND to_version IS NULL"),
                     2);
    end(d);
}

static void another_process_refuses_it_within_a_poll(void **state)
{
    (void)state;
    struct dk_test_value first, second;
    struct dekhand *d = open_two(&first, &second);
    struct dekhand *other = dk_place_open(&place);
    ASSERT_CODE(dk_test_decrypt(other, "acme", &first, "one"), OK);
    ASSERT_CODE(dekhand_key_disable(d, "acme", 1, NULL, NULL), OK);
    place.w.mono_ms += 5000;
    ASSERT_CODE(dk_test_decrypt(other, "acme", &first, "one"), E_DISABLED);
    dk_place_close(other);
    end(d);
}

static void I09_the_active_version_is_not_disabled_and_nothing_is_changed(void **state)
{
    (void)state;
    struct dk_test_value first, second;
    struct dekhand_error error;
    struct dekhand *d = open_two(&first, &second);
    char *before = dk_place_dump(&place, true);
    ASSERT_CODE(dekhand_key_disable(d, "acme", 2, NULL, &error), E_REFUSED);
    assert_non_null(strstr(error.text, "`dekhand rotate` first"));
    ASSERT_CODE(dekhand_key_disable(d, "acme", 3, NULL, NULL), E_UNKNOWN_VERSION);
    ASSERT_CODE(dekhand_key_disable(d, "nobody", 1, NULL, NULL), E_NOT_FOUND);
    ASSERT_CODE(dekhand_key_disable(d, "acme", 0, NULL, NULL), E_USAGE);
    ASSERT_CODE(dekhand_key_disable(d, NULL, 1, NULL, NULL), E_USAGE);
    ASSERT_CODE(dekhand_key_enable(d, "acme", 2, NULL, NULL), OK);
    assert_true(dk_place_unchanged(&place, true, before));
    ASSERT_CODE(dk_test_decrypt(d, "acme", &second, "two"), OK);
    end(d);
}

static void I09_a_version_that_was_compromised_stays_so_when_enabled(void **state)
{
    (void)state;
    struct dk_test_value first, second;
    struct dekhand *d = open_two(&first, &second);
    struct dekhand_rotate_args args = {
        .size = sizeof args, .which = DEKHAND_ROTATE_TENANT, .tenant = "acme", .compromised = true};
    ASSERT_CODE(dekhand_rotate(d, &args, NULL, NULL, NULL), OK);
    ASSERT_CODE(dekhand_key_disable(d, "acme", 2, NULL, NULL), OK);
    ASSERT_CODE(dekhand_key_enable(d, "acme", 2, NULL, NULL), OK);
    assert_int_equal(dk_place_number(&place, "SELECT version FROM encryption_keys WHERE "
                                             "compromised_at IS NOT NULL"),
                     2);
    end(d);
}

static void a_tenant_rotates_in_its_own_period_and_the_active_version_with_it(void **state)
{
    (void)state;
    struct dk_test_value first, second;
    struct dekhand *d = open_two(&first, &second);
    int64_t expires_at = 0;
    ASSERT_CODE(dekhand_tenant_set(d, "acme", 10, &expires_at, NULL), OK);
    assert_int_equal(expires_at - place.w.wall_us, 10 * DK_DAY_US);
    ASSERT_CODE(dk_test_rotate(d, "acme", 0, NULL), OK);
    assert_int_equal(
        dk_place_number(
            &place, dk_place_pick(&place,
                                  "SELECT CAST(round(julianday(expires_at) - "
                                  "julianday(created_at)) AS INTEGER) FROM encryption_keys WHERE "
                                  "version = 3",
                                  "SELECT extract(day FROM expires_at - created_at) FROM "
                                  "encryption_keys WHERE version = 3")),
        10);
    ASSERT_CODE(dekhand_tenant_set(d, "acme", 0, &expires_at, NULL), OK);
    assert_int_equal(expires_at - place.w.wall_us, 90 * DK_DAY_US);
    assert_int_equal(dk_place_number(&place, "SELECT count(*) FROM tenants WHERE rotation_days "
                                             "IS NULL"),
                     1);
    char *before = dk_place_dump(&place, true);
    ASSERT_CODE(dekhand_tenant_set(d, "acme", 731, NULL, NULL), E_USAGE);
    ASSERT_CODE(dekhand_tenant_set(d, "acme", -1, NULL, NULL), E_USAGE);
    ASSERT_CODE(dekhand_tenant_set(d, "nobody", 10, NULL, NULL), E_NOT_FOUND);
    assert_true(dk_place_unchanged(&place, true, before));
    ASSERT_CODE(dk_test_decrypt(d, "acme", &second, "two"), OK);
    end(d);
}

static bool count_tenant(void *arg, const struct dekhand_tenant *tenant)
{
    size_t *count = arg;
    assert_int_equal(tenant->code, DEKHAND_OK);
    assert_int_equal(tenant->versions, 1);
    return ++*count < 200;
}

static void tenants_are_listed_page_by_page_until_told_to_stop(void **state)
{
    (void)state;
    dk_place_new(&place, false);
    struct dekhand *d = dk_place_open(&place);
    struct dk_test_value value;
    char name[16];
    for (int i = 0; i < 260; i++) {
        snprintf(name, sizeof name, "t-%d", i);
        ASSERT_CODE(dk_test_encrypt(d, name, "x", &value), OK);
    }
    size_t count = 0;
    ASSERT_CODE(dekhand_tenants(d, NULL, count_tenant, &count, NULL), OK);
    assert_int_equal(count, 200);
    count = 1000;
    ASSERT_CODE(dekhand_tenants(d, "t-3", count_tenant, &count, NULL), OK);
    assert_int_equal(count, 1001);
    ASSERT_CODE(dekhand_tenants(d, "nobody", count_tenant, &count, NULL), E_NOT_FOUND);
    end(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(I09_a_disabled_version_opens_nothing_until_it_is_enabled),
        cmocka_unit_test(another_process_refuses_it_within_a_poll),
        cmocka_unit_test(I09_the_active_version_is_not_disabled_and_nothing_is_changed),
        cmocka_unit_test(I09_a_version_that_was_compromised_stays_so_when_enabled),
        cmocka_unit_test(a_tenant_rotates_in_its_own_period_and_the_active_version_with_it),
        cmocka_unit_test(tenants_are_listed_page_by_page_until_told_to_stop),
    };
    dk_test_folders_in_memory();
    return cmocka_run_group_tests_name("version", tests, NULL, NULL);
}
