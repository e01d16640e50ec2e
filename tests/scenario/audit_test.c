/* The chain of the log, the seals and the anchor, through the public calls. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include <stdlib.h>
#include <unistd.h>

#include "support/world.h"

#define ASSERT_CODE(call, code) assert_string_equal(dekhand_error_name(call), #code)

static void show(void *arg, const struct dekhand_finding *finding)
{
    (void)arg;
    print_message("%s %s: %s\n", finding->table, finding->row, finding->text);
}

static struct dekhand_audit_result verify(struct dekhand *d)
{
    struct dekhand_audit_result result = {.size = sizeof result};
    ASSERT_CODE(dekhand_audit_verify(d, show, NULL, &result, NULL), OK);
    return result;
}

static void assert_whole(struct dk_place *place)
{
    struct dekhand *d = dk_place_open(place);
    assert_int_equal(verify(d).findings, 0);
    dk_place_close(d);
}

static const char *registry_id(struct dekhand *d)
{
    static struct dekhand_registry_info info;
    info.size = sizeof info;
    ASSERT_CODE(dekhand_registry(d, &info, NULL), OK);
    return info.id;
}

/* A registry with a value under version 1, a copy of it, and a value under version 2. */
struct past {
    struct dk_place place;
    size_t copy;
    char anchor[128];
    struct dk_test_value v1, v2;
};

static void past_new(struct past *past)
{
    dk_place_new(&past->place, false);
    snprintf(past->anchor, sizeof past->anchor, "%s/anchor", past->place.folder);
    struct dekhand *d = dk_place_open(&past->place);
    ASSERT_CODE(dk_test_encrypt(d, "acme", "one", &past->v1), OK);
    dk_place_close(d);
    past->copy = dk_place_keep(&past->place);
    d = dk_place_open(&past->place);
    ASSERT_CODE(dk_test_rotate(d, "acme", 0, NULL), OK);
    ASSERT_CODE(dk_test_encrypt(d, "acme", "two", &past->v2), OK);
    dk_place_close(d);
}

static void past_comes_back(struct past *past)
{
    dk_place_put_back(&past->place, past->copy);
}

static void past_free(struct past *past)
{
    dk_place_free(&past->place);
}

/* ---- the anchor ------------------------------------------------------------------------------ */

static void I04_F54_an_older_copy_is_known_across_restart_until_it_is_accepted(void **state)
{
    (void)state;
    struct past past;
    struct dk_test_value value;
    int64_t tenants = 99;
    past_new(&past);
    past_comes_back(&past);
    struct dekhand *d = dk_place_open(&past.place);
    ASSERT_CODE(dk_test_encrypt(d, "acme", "x", &value), E_ROLLBACK);
    ASSERT_CODE(dk_test_encrypt(d, "new", "x", &value), E_ROLLBACK); /* it may not be new */
    ASSERT_CODE(dk_test_rotate(d, "acme", 0, NULL), E_ROLLBACK);
    ASSERT_CODE(dk_test_decrypt(d, "acme", &past.v1, "one"), OK);
    ASSERT_CODE(dk_test_decrypt(d, "acme", &past.v2, "two"), E_ROLLBACK);
    assert_int_equal(verify(d).findings, 1);
    dk_place_close(d);
    d = dk_place_open(&past.place); /* decrypting wrote seals: the copy is not believed by them */
    ASSERT_CODE(dk_test_encrypt(d, "acme", "x", &value), E_ROLLBACK);
    ASSERT_CODE(dekhand_registry_accept_restore(d, "yes", &tenants, NULL), E_USAGE);
    ASSERT_CODE(dekhand_registry_accept_restore(d, registry_id(d), &tenants, NULL), OK);
    assert_int_equal(tenants, 0);
    ASSERT_CODE(dk_test_encrypt(d, "acme", "x", &value), OK);
    dk_place_close(d);
    assert_whole(&past.place);
    assert_int_equal(dk_place_number(&past.place, "SELECT count(*) FROM key_rotation_log WHERE "
                                                  "operation = 'accept-restore'"),
                     1);
    past_free(&past);
}

static void I04_the_newest_copy_put_back_again_heals_it(void **state)
{
    (void)state;
    struct past past;
    struct dk_test_value value;
    past_new(&past);
    size_t newest = dk_place_keep(&past.place);
    past_comes_back(&past);
    struct dekhand *d = dk_place_open(&past.place);
    ASSERT_CODE(dk_test_encrypt(d, "acme", "x", &value), E_ROLLBACK);
    dk_place_put_back(&past.place, newest);
    past.place.w.mono_ms += past.place.limits.poll_ms;
    ASSERT_CODE(dk_test_encrypt(d, "acme", "x", &value), OK); /* no restart is needed */
    assert_int_equal(dk_test_version(&value), 2);
    dk_place_close(d);
    past_free(&past);
}

static void I04_what_another_process_accepted_goes_on_after_the_poll(void **state)
{
    (void)state;
    struct past past;
    struct dk_test_value value;
    past_new(&past);
    struct dekhand *running = dk_place_open(&past.place);
    ASSERT_CODE(dk_test_encrypt(running, "acme", "x", &value), OK);
    past.place.w.mono_ms += past.place.limits.poll_ms;
    ASSERT_CODE(dekhand_tick(running, NULL), OK);
    past_comes_back(&past);
    past.place.w.mono_ms += past.place.limits.poll_ms;
    ASSERT_CODE(dk_test_encrypt(running, "acme", "x", &value), E_ROLLBACK);
    struct dekhand *person = dk_place_open(&past.place);
    ASSERT_CODE(dekhand_registry_accept_restore(person, registry_id(person), NULL, NULL), OK);
    dk_place_close(person);
    ASSERT_CODE(dk_test_encrypt(running, "acme", "x", &value), E_ROLLBACK); /* not yet */
    past.place.w.mono_ms += past.place.limits.poll_ms;
    ASSERT_CODE(dk_test_encrypt(running, "acme", "x", &value), OK);
    assert_int_equal(dk_test_version(&value), 1);
    ASSERT_CODE(dekhand_close(running, NULL), OK);
    assert_whole(&past.place);
    past_free(&past);
}

static void without_an_anchor_the_first_sight_is_trusted(void **state)
{
    (void)state;
    struct past past;
    struct dk_test_value value;
    past_new(&past);
    past_comes_back(&past);
    assert_int_equal(unlink(past.anchor), 0);
    struct dekhand *d = dk_place_open(&past.place);
    ASSERT_CODE(dk_test_encrypt(d, "acme", "x", &value), OK);
    dk_place_close(d);
    assert_int_equal(access(past.anchor, F_OK), 0); /* and remembered */
    past_free(&past);
}

static void F54_one_tenants_old_rows_are_accepted_on_purpose(void **state)
{
    (void)state;
    struct past past;
    struct dk_test_value value;
    int64_t tenants = 0;
    past_new(&past);
    dk_place_drop_triggers(&past.place, "encryption_keys");
    assert_int_equal(dk_place_sql(&past.place, "DELETE FROM encryption_keys WHERE version = 1"), 0);
    dk_place_mend(&past.place);
    struct dekhand *d = dk_place_open(&past.place);
    ASSERT_CODE(dk_test_encrypt(d, "acme", "x", &value), E_ROLLBACK);
    ASSERT_CODE(dk_test_decrypt(d, "acme", &past.v2, "two"), OK);
    assert_true(verify(d).findings > 0);
    ASSERT_CODE(dekhand_registry_accept_restore(d, registry_id(d), &tenants, NULL), OK);
    assert_int_equal(tenants, 1);
    ASSERT_CODE(dk_test_encrypt(d, "acme", "x", &value), OK);
    ASSERT_CODE(dk_test_decrypt(d, "acme", &past.v1, "one"), E_UNKNOWN_VERSION);
    assert_int_equal(verify(d).findings, 0);
    dk_place_close(d);
    past_free(&past);
}

static void F54_an_active_version_that_was_given_up_is_followed_by_the_next(void **state)
{
    (void)state;
    struct past past;
    struct dk_test_value value;
    struct dekhand_rotate_args args = {
        .size = sizeof args, .which = DEKHAND_ROTATE_TENANT, .tenant = "acme"};
    past_new(&past);
    dk_place_drop_triggers(&past.place, "encryption_keys");
    assert_int_equal(dk_place_sql(&past.place, "DELETE FROM encryption_keys WHERE version = 2"), 0);
    dk_place_mend(&past.place);
    struct dekhand *d = dk_place_open(&past.place);
    ASSERT_CODE(dekhand_rotate(d, &args, NULL, NULL, NULL), E_ROLLBACK); /* not on its own */
    ASSERT_CODE(dekhand_registry_accept_restore(d, registry_id(d), NULL, NULL), OK);
    ASSERT_CODE(dk_test_encrypt(d, "acme", "x", &value), E_TAMPERED); /* no new key unasked */
    ASSERT_CODE(dekhand_rotate(d, &args, NULL, NULL, NULL), OK);
    ASSERT_CODE(dk_test_encrypt(d, "acme", "x", &value), OK);
    assert_int_equal(dk_test_version(&value), 3);
    ASSERT_CODE(dk_test_decrypt(d, "acme", &value, "x"), OK);
    ASSERT_CODE(dk_test_decrypt(d, "acme", &past.v1, "one"), OK);
    ASSERT_CODE(dk_test_decrypt(d, "acme", &past.v2, "two"), E_UNKNOWN_VERSION);
    ASSERT_CODE(dekhand_rotate(d, &args, NULL, NULL, NULL), OK);
    assert_int_equal(verify(d).findings, 0);
    dk_place_close(d);
    past_free(&past);
}

static void I08_a_version_whose_row_was_edited_is_not_followed_by_another(void **state)
{
    (void)state;
    struct past past;
    struct dekhand_rotate_args args = {
        .size = sizeof args, .which = DEKHAND_ROTATE_TENANT, .tenant = "acme"};
    past_new(&past);
    dk_place_drop_triggers(&past.place, "encryption_keys");
    assert_int_equal(dk_place_sql(&past.place, "UPDATE encryption_keys SET state = 'disabled' "
                                               "WHERE version = 2"),
                     0);
    dk_place_mend(&past.place);
    struct dekhand *d = dk_place_open(&past.place);
    /* The MACs are as they were, and so is their digest: only the row itself is wrong. */
    ASSERT_CODE(dekhand_rotate(d, &args, NULL, NULL, NULL), E_TAMPERED);
    assert_int_equal(dk_place_number(&past.place, "SELECT count(*) FROM encryption_keys"), 2);
    dk_place_close(d);
    past_free(&past);
}

static void the_anchor_of_another_registry_is_refused(void **state)
{
    (void)state;
    struct past past, other;
    struct dekhand *d = NULL;
    struct dekhand_error error;
    past_new(&past);
    past_new(&other);
    char command[300];
    snprintf(command, sizeof command, "cp '%s' '%s'", other.anchor, past.anchor);
    assert_int_equal(system(command), 0);
    ASSERT_CODE(dk_place_try_open(&past.place, &d, &error), E_TAMPERED);
    assert_non_null(strstr(error.text, "anchor"));
    past_free(&other);
    past_free(&past);
}

/* ---- chains ---------------------------------------------------------------------------------- */

static void work(struct dk_place *place, size_t index)
{
    struct dk_test_value value;
    char own[32];
    snprintf(own, sizeof own, "tenant-%zu", index);
    struct dekhand *d = dk_place_open(place);
    ASSERT_CODE(dk_test_encrypt(d, "shared", "x", &value), OK);
    ASSERT_CODE(dk_test_encrypt(d, own, "x", &value), OK);
    ASSERT_CODE(dk_test_rotate(d, own, 0, NULL), OK);
    ASSERT_CODE(dk_test_decrypt(d, own, &value, "x"), OK);
    dk_place_close(d);
}

static int work_in_child(void *arg, size_t index)
{
    work(arg, index);
    return 0;
}

static void I26_the_chains_of_many_processes_are_whole(void **state)
{
    (void)state;
    enum { PROCESSES = 6 };
    struct dk_place place;
    dk_place_new(&place, false);
    assert_true(dk_test_processes(PROCESSES, work_in_child, &place));
    struct dekhand *d = dk_place_open(&place);
    struct dekhand_audit_result result = verify(d);
    assert_int_equal(result.findings, 0);
    assert_int_equal(result.tenants, PROCESSES + 1);
    assert_int_equal(result.keys, 2 * PROCESSES + 1);
    dk_place_close(d);
    /* a process has a chain of its own, and each of its unwraps is in it */
    assert_int_equal(dk_place_number(&place, "SELECT count(DISTINCT node) FROM key_rotation_log "
                                             "WHERE operation = 'decrypt'"),
                     PROCESSES);
    dk_place_free(&place);
}

static void use(void *arg, size_t index)
{
    struct dekhand *d = arg;
    struct dk_test_value value;
    char own[32];
    for (size_t i = 0; i < 10; i++) {
        snprintf(own, sizeof own, "tenant-%zu-%zu", index, i);
        if (dk_test_encrypt(d, own, "x", &value) != DEKHAND_OK ||
            dk_test_rotate(d, own, 0, NULL) != DEKHAND_OK ||
            dk_test_decrypt(d, own, &value, "x") != DEKHAND_OK) {
            abort();
        }
    }
}

static void I26_the_chain_of_many_threads_is_whole(void **state)
{
    (void)state;
    struct dk_place place;
    dk_place_new(&place, false);
    struct dekhand *d = dk_place_open(&place);
    dk_test_threads(8, use, d);
    assert_int_equal(verify(d).findings, 0);
    dk_place_close(d);
    dk_place_free(&place);
}

struct forked {
    struct dekhand *d;
    struct dk_test_value value;
};

static int go_on(void *arg, size_t index)
{
    struct forked *forked = arg;
    struct dk_test_value value;
    (void)index;
    DK_TEST_CHILD(dk_test_decrypt(forked->d, "acme", &forked->value, "x") == DEKHAND_OK);
    DK_TEST_CHILD(dk_test_encrypt(forked->d, "globex", "y", &value) == DEKHAND_OK);
    DK_TEST_CHILD(dekhand_close(forked->d, NULL) == DEKHAND_OK);
    return 0;
}

static void I26_children_of_a_fork_have_chains_of_their_own(void **state)
{
    (void)state;
    struct dk_place place;
    struct forked forked;
    dk_place_new(&place, false);
    forked.d = dk_place_open(&place);
    ASSERT_CODE(dk_test_encrypt(forked.d, "acme", "x", &forked.value), OK);
    assert_true(dk_test_processes(4, go_on, &forked));
    ASSERT_CODE(dk_test_rotate(forked.d, "acme", 0, NULL), OK);
    ASSERT_CODE(dk_test_decrypt(forked.d, "acme", &forked.value, "x"), OK);
    assert_int_equal(verify(forked.d).findings, 0);
    dk_place_close(forked.d);
    assert_int_equal(dk_place_number(&place, "SELECT count(DISTINCT node) FROM key_rotation_log"),
                     5);
    dk_place_free(&place);
}

static void I26_a_batch_of_unwraps_is_one_row(void **state)
{
    (void)state;
    enum { ITEMS = 20 };
    struct dk_place place;
    static uint8_t out[ITEMS][128];
    static char names[ITEMS][16];
    struct dekhand_item items[ITEMS];
    dk_place_new(&place, false);
    for (int i = 0; i < ITEMS; i++) {
        snprintf(names[i], sizeof names[i], "tenant-%u", (unsigned)i % 100);
        items[i] = (struct dekhand_item){
            .tenant = names[i], .in = "x", .in_size = 1, .out = out[i], .capacity = 128};
    }
    struct dekhand *d = dk_place_open(&place);
    ASSERT_CODE(dekhand_encrypt_batch(d, items, ITEMS, NULL), OK);
    dk_place_close(d);
    assert_int_equal(dk_place_number(&place, "SELECT count(*) FROM key_rotation_log WHERE "
                                             "operation = 'decrypt'"),
                     1);
    assert_int_equal(dk_place_number(&place, "SELECT count(*) FROM key_rotation_log WHERE "
                                             "operation = 'decrypt' AND tenant_id = '*' AND ' ' || "
                                             "detail || ' ' LIKE '% tenant-7:1 %'"),
                     1);
    assert_whole(&place);
    dk_place_free(&place);
}

/* The seal of a large batch needs memory to be verified: none of it is no sign of an old copy. */
static void F01_I04_a_poll_without_memory_is_no_rollback(void **state)
{
    (void)state;
    enum { ITEMS = 100 };
    struct dk_place place;
    struct dk_test_value value;
    static uint8_t out[ITEMS][128];
    static char names[ITEMS][32];
    struct dekhand_item items[ITEMS];
    dk_place_new(&place, false);
    for (int i = 0; i < ITEMS; i++) {
        snprintf(names[i], sizeof names[i], "tenant-%u", (unsigned)i % 100);
        items[i] = (struct dekhand_item){
            .tenant = names[i], .in = "x", .in_size = 1, .out = out[i], .capacity = 128};
    }
    struct dekhand *d = dk_place_open(&place);
    ASSERT_CODE(dekhand_encrypt_batch(d, items, ITEMS, NULL), OK);
    dk_place_drop_triggers(&place, "seals");
    assert_int_equal(dk_place_sql(&place, "DELETE FROM seals WHERE heads LIKE 'process%'"),
                     0); /* the newest is the large one */
    place.w.mono_ms += place.limits.poll_ms;
    ASSERT_CODE(dekhand_tick(d, NULL), OK);
    for (unsigned n = 1; n <= 12; n++) {
        place.w.mono_ms += place.limits.poll_ms;
        atomic_store(&place.w.allocs, 0);
        place.w.fail_alloc_all = n;
        (void)dekhand_tick(d, NULL);
        place.w.fail_alloc_all = 0;
        ASSERT_CODE(dk_test_encrypt(d, "tenant-7", "x", &value), OK);
    }
    dk_place_close(d);
    dk_place_free(&place);
}

/* No key serves whose unwrap could not be written down. */
static void I26_F77_an_unwrap_that_cannot_be_written_serves_nobody(void **state)
{
    (void)state;
    struct dk_place place;
    struct dk_test_value value, none;
    dk_place_new(&place, false);
    struct dekhand *d = dk_place_open(&place);
    ASSERT_CODE(dk_test_encrypt(d, "acme", "x", &value), OK);
    dk_place_close(d);
    dk_place_refuse(&place, "INSERT", "key_rotation_log");
    d = dk_place_open(&place);
    ASSERT_CODE(dk_test_decrypt(d, "acme", &value, "x"), E_STORE);
    ASSERT_CODE(dk_test_encrypt(d, "acme", "x", &none), E_STORE);
    ASSERT_CODE(dk_test_rotate(d, "acme", 0, NULL), E_STORE); /* nor is anything changed */
    assert_int_equal(dk_place_number(&place, "SELECT count(*) FROM encryption_keys"), 1);
    dk_place_allow(&place, "key_rotation_log");
    ASSERT_CODE(dk_test_decrypt(d, "acme", &value, "x"), OK);
    dk_place_close(d);
    assert_whole(&place);
    dk_place_free(&place);
}

/* By its number, or as the one that encrypts: asked for, and written down, once. */
static void R12_I26_a_version_with_two_names_is_opened_once(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        struct dk_place place;
        struct dk_test_value value, other;
        dk_place_new(&place, true);
        struct dekhand *d = dk_place_open(&place);
        assert_int_equal(dk_test_encrypt(d, "acme", "x", &value), DEKHAND_OK);
        dk_place_close(d);
        d = dk_place_open(&place);
        int uses = dk_fake_uses(place.fake);
        int64_t rows = dk_place_number(&place, "SELECT count(*) FROM key_rotation_log");
        for (int k = 0; k < 4; k++) {
            if ((k + i) % 2 == 0) {
                assert_int_equal(dk_test_encrypt(d, "acme", "y", &other), DEKHAND_OK);
            } else {
                assert_int_equal(dk_test_decrypt(d, "acme", &value, "x"), DEKHAND_OK);
            }
        }
        assert_int_equal(dk_fake_uses(place.fake), uses + 1);
        assert_int_equal(dk_place_number(&place, "SELECT count(*) FROM key_rotation_log"),
                         rows + 1);
        dk_place_close(d);
        dk_place_free(&place);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(R12_I26_a_version_with_two_names_is_opened_once),
        cmocka_unit_test(I04_F54_an_older_copy_is_known_across_restart_until_it_is_accepted),
        cmocka_unit_test(I04_the_newest_copy_put_back_again_heals_it),
        cmocka_unit_test(I04_what_another_process_accepted_goes_on_after_the_poll),
        cmocka_unit_test(without_an_anchor_the_first_sight_is_trusted),
        cmocka_unit_test(F54_one_tenants_old_rows_are_accepted_on_purpose),
        cmocka_unit_test(F54_an_active_version_that_was_given_up_is_followed_by_the_next),
        cmocka_unit_test(I08_a_version_whose_row_was_edited_is_not_followed_by_another),
        cmocka_unit_test(the_anchor_of_another_registry_is_refused),
        cmocka_unit_test(I26_the_chains_of_many_processes_are_whole),
        cmocka_unit_test(I26_the_chain_of_many_threads_is_whole),
        cmocka_unit_test(I26_children_of_a_fork_have_chains_of_their_own),
        cmocka_unit_test(I26_a_batch_of_unwraps_is_one_row),
        cmocka_unit_test(F01_I04_a_poll_without_memory_is_no_rollback),
        cmocka_unit_test(I26_F77_an_unwrap_that_cannot_be_written_serves_nobody),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
