#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "support/world.h"

#define ASSERT_CODE(call, code) assert_string_equal(dekhand_error_name(call), #code)

/* An old copy of the registry is put back under a process that runs: it must not go on sealing
   under a version that the registry does not have any more. */
static void I04_an_old_registry_put_back_is_noticed_by_the_next_poll(void **state)
{
    (void)state;
    struct dk_place place;
    struct dk_test_value v1, v2, v3;
    dk_place_new(&place, false);
    struct dekhand *d = dk_place_open(&place);
    ASSERT_CODE(dk_test_encrypt(d, "acme", "one", &v1), OK);
    size_t old = dk_place_keep(&place);
    ASSERT_CODE(dk_test_rotate(d, "acme", 0, NULL), OK);
    ASSERT_CODE(dk_test_encrypt(d, "acme", "two", &v2), OK);
    assert_int_equal(dk_test_version(&v2), 2);
    place.w.mono_ms += place.limits.poll_ms;
    ASSERT_CODE(dekhand_tick(d, NULL), OK);
    dk_place_put_back(&place, old);
    place.w.mono_ms += place.limits.poll_ms;
    ASSERT_CODE(dk_test_encrypt(d, "acme", "three", &v3), E_ROLLBACK);
    ASSERT_CODE(dk_test_rotate(d, "acme", 0, NULL), E_ROLLBACK);
    ASSERT_CODE(dk_test_decrypt(d, "acme", &v2, "two"), E_ROLLBACK); /* its row is gone */
    ASSERT_CODE(dk_test_decrypt(d, "acme", &v1, "one"), OK);
    ASSERT_CODE(dekhand_close(d, NULL), OK); /* what v2 counted has no row: no reason to fail */
    dk_place_free(&place);
}

static void P5_a_registry_that_vanished_is_an_outage_not_a_new_beginning(void **state)
{
    (void)state;
    struct dk_place place;
    struct dk_test_value value;
    dk_place_new(&place, false);
    place.limits.ttl_ms = 1000;
    place.limits.hard_ttl_ms = 600000;
    struct dekhand *d = dk_place_open(&place);
    ASSERT_CODE(dk_test_encrypt(d, "acme", "x", &value), OK);
    ASSERT_CODE(dk_test_decrypt(d, "acme", &value, "x"), OK);
    dk_place_take_away(&place);
    place.w.mono_ms += 2000;
    ASSERT_CODE(dk_test_decrypt(d, "acme", &value, "x"), OK);
    int code = dk_test_encrypt(d, "new", "x", &value);
    assert_true(code == DEKHAND_E_STORE || code == DEKHAND_E_UNREACHABLE);
    assert_true(dk_place_is_away(&place)); /* nobody made another one */
    dk_place_bring_back(&place);
    dk_place_close(d);
    dk_place_free(&place);
}

static void R27_a_batch_that_cannot_begin_says_so_for_each_item(void **state)
{
    (void)state;
    struct dk_place place;
    uint8_t out[2][128] = {{0}};
    char path[128];
    dk_place_new(&place, false);
    struct dekhand *d = dk_place_open(&place);
    struct dekhand_item items[2];
    for (int i = 0; i < 2; i++) {
        items[i] = (struct dekhand_item){
            .tenant = "acme", .in = "x", .in_size = 1, .out = out[i], .capacity = 128};
    }
    ASSERT_CODE(dekhand_encrypt_batch(d, items, 2, NULL), OK);
    snprintf(path, sizeof path, "%s/master.key", place.folder);
    assert_int_equal(unlink(path), 0);
    int *codes = dk_test_shared(3 * sizeof *codes);
    pid_t child = fork();
    if (child == 0) { /* it cannot open again without the master key */
        codes[2] = dekhand_encrypt_batch(d, items, 2, NULL);
        codes[0] = items[0].size == 0 ? items[0].code : 0;
        codes[1] = items[1].size == 0 ? items[1].code : 0;
        _exit(0);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    for (int i = 0; i < 3; i++) {
        ASSERT_CODE(codes[i], E_NO_MASTER_KEY);
    }
    dk_place_close(d);
    dk_place_free(&place);
}

struct stampede {
    struct dekhand *d;
    atomic_int wrong;
};

static void batch_of_one(void *arg, size_t index)
{
    struct stampede *s = arg;
    uint8_t out[128];
    (void)index;
    struct dekhand_item item = {
        .tenant = "cold", .in = "x", .in_size = 1, .out = out, .capacity = sizeof out};
    if (dekhand_encrypt_batch(s->d, &item, 1, NULL) != DEKHAND_OK) {
        atomic_fetch_add(&s->wrong, 1);
    }
}

static void F47_batches_of_many_threads_make_one_call_for_a_cold_key(void **state)
{
    (void)state;
    struct dk_place place;
    struct stampede s = {.wrong = 0};
    dk_place_new(&place, true);
    s.d = dk_place_open(&place);
    int before = atomic_load(&place.fake->calls[DK_FAKE_GENERATE]);
    dk_test_threads(32, batch_of_one, &s);
    assert_int_equal(atomic_load(&s.wrong), 0);
    assert_int_equal(atomic_load(&place.fake->calls[DK_FAKE_GENERATE]) - before, 1);
    dk_place_close(s.d);
    dk_place_free(&place);
}

static void I09_a_second_mark_during_an_outage_reads_like_the_first(void **state)
{
    (void)state;
    struct dk_place place;
    struct dk_test_value value;
    dk_place_new(&place, true);
    struct dekhand *d = dk_place_open(&place);
    ASSERT_CODE(dk_test_encrypt(d, "acme", "x", &value), OK);
    dk_fake_fail(place.fake, DK_FAKE_GENERATE, DK_E_UNREACHABLE, -1);
    struct dekhand_rotate_args args = {
        .size = sizeof args, .which = DEKHAND_ROTATE_TENANT, .tenant = "acme", .compromised = true};
    ASSERT_CODE(dekhand_rotate(d, &args, NULL, NULL, NULL), E_COMPROMISED);
    ASSERT_CODE(dekhand_rotate(d, &args, NULL, NULL, NULL), E_COMPROMISED);
    ASSERT_CODE(dk_test_encrypt(d, "acme", "y", &value), E_COMPROMISED);
    dk_fake_fail(place.fake, DK_FAKE_GENERATE, DK_OK, 0);
    ASSERT_CODE(dekhand_rotate(d, &args, NULL, NULL, NULL), OK);
    ASSERT_CODE(dk_test_encrypt(d, "acme", "y", &value), OK);
    dk_place_close(d);
    dk_place_free(&place);
}

static void calls_without_a_place_for_the_answer_are_refused(void **state)
{
    (void)state;
    struct dk_place place;
    dk_place_new(&place, false);
    struct dekhand *d = dk_place_open(&place);
    struct dekhand_config config = {.size = sizeof config, .setting_count = 1};
    struct dekhand *other = NULL;
    ASSERT_CODE(dekhand_keys(d, NULL, NULL, NULL, NULL), E_USAGE);
    ASSERT_CODE(dekhand_history(d, NULL, 1, NULL, NULL, NULL), E_USAGE);
    ASSERT_CODE(dekhand_decrypted_size("x", 1, NULL, NULL), E_USAGE);
    ASSERT_CODE(dekhand_value_version("x", 1, NULL, NULL), E_USAGE);
    ASSERT_CODE(dekhand_key_export(d, "acme", 1, true, NULL, NULL), E_USAGE);
    ASSERT_CODE(dekhand_encrypt(d, NULL, NULL), E_USAGE);
    ASSERT_CODE(dekhand_encrypt(NULL, NULL, NULL), E_USAGE);
    ASSERT_CODE(dekhand_encrypt_batch(d, NULL, 2, NULL), E_USAGE);
    ASSERT_CODE(dekhand_stats(d, NULL, NULL), E_USAGE);
    ASSERT_CODE(dekhand_rotate(d, NULL, NULL, NULL, NULL), E_USAGE);
    ASSERT_CODE(dekhand_open(NULL, NULL, NULL), E_USAGE);
    ASSERT_CODE(dekhand_open(&config, &other, NULL), E_USAGE);
    dk_place_close(d);
    dk_place_free(&place);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(I04_an_old_registry_put_back_is_noticed_by_the_next_poll),
        cmocka_unit_test(P5_a_registry_that_vanished_is_an_outage_not_a_new_beginning),
        cmocka_unit_test(R27_a_batch_that_cannot_begin_says_so_for_each_item),
        cmocka_unit_test(F47_batches_of_many_threads_make_one_call_for_a_cold_key),
        cmocka_unit_test(I09_a_second_mark_during_an_outage_reads_like_the_first),
        cmocka_unit_test(calls_without_a_place_for_the_answer_are_refused),
    };
    return cmocka_run_group_tests_name("trouble", tests, NULL, NULL);
}
