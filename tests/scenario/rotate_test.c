#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include <stdlib.h>

#include "support/world.h"

#define ASSERT_CODE(call, code) assert_string_equal(dekhand_error_name(call), #code)

static const int64_t day_us = DK_DAY_US;

/* ---- outcomes -------------------------------------------------------------------------------- */

/* What dekhand_rotate told of each tenant. */
struct told {
    size_t count;
    size_t good;
    char last_text[320];
    struct {
        char tenant[32];
        uint32_t from, to;
        int code;
    } each[256];
};

static bool take(void *arg, const struct dekhand_rotation *rotation)
{
    struct told *told = arg;
    if (told->count == 256) {
        abort();
    }
    snprintf(told->each[told->count].tenant, 32, "%s", rotation->tenant);
    told->each[told->count].from = rotation->from_version;
    told->each[told->count].to = rotation->to_version;
    told->each[told->count].code = rotation->code;
    snprintf(told->last_text, sizeof told->last_text, "%s", rotation->text);
    told->good += rotation->code == DEKHAND_OK;
    told->count++;
    return true;
}

static int rotate_many(struct dekhand *d, enum dekhand_rotate_which which, bool dry_run,
                       struct told *told)
{
    struct dekhand_rotate_args args = {.size = sizeof args, .which = which, .dry_run = dry_run};
    memset(told, 0, sizeof *told);
    return dekhand_rotate(d, &args, take, told, NULL);
}

static int rotate_compromised(struct dekhand *d, const char *tenant, struct dekhand_error *error)
{
    struct dekhand_rotate_args args = {
        .size = sizeof args, .which = DEKHAND_ROTATE_TENANT, .tenant = tenant, .compromised = true};
    return dekhand_rotate(d, &args, NULL, NULL, error);
}

/* The version under which the instance encrypts now. */
static uint32_t version_now(struct dekhand *d, const char *tenant)
{
    struct dk_test_value value;
    ASSERT_CODE(dk_test_encrypt(d, tenant, "x", &value), OK);
    return dk_test_version(&value);
}

/* `count` tenants t-0 ..; one transaction. */
static void make_tenants(struct dekhand *d, size_t count)
{
    char(*names)[32] = calloc(count, sizeof *names);
    uint8_t(*out)[128] = calloc(count, sizeof *out);
    struct dekhand_item *items = calloc(count, sizeof *items);
    assert_true(names != NULL && out != NULL && items != NULL);
    for (size_t i = 0; i < count; i++) {
        snprintf(names[i], sizeof names[i], "t-%zu", i);
        items[i].tenant = names[i];
        items[i].out = out[i];
        items[i].capacity = sizeof out[i];
    }
    ASSERT_CODE(dekhand_encrypt_batch(d, items, count, NULL), OK);
    free(items);
    free(out);
    free(names);
}

/* ---- several rotators ------------------------------------------------------------------------ */

enum { ROTATORS = 32 };

struct race {
    struct dk_place place;
    struct dekhand *d;
    size_t process, threads;
    int *codes; /* shared */
};

static void rotate_first(void *arg, size_t index)
{
    struct race *race = arg;
    race->codes[race->process * race->threads + index] = dk_test_rotate(race->d, "acme", 1, NULL);
}

static void count_codes(const struct race *race)
{
    int won = 0, lost = 0;
    for (size_t i = 0; i < ROTATORS; i++) {
        won += race->codes[i] == DEKHAND_OK;
        lost += race->codes[i] == DEKHAND_E_CONFLICT;
        if (race->codes[i] != DEKHAND_OK && race->codes[i] != DEKHAND_E_CONFLICT) {
            print_message("rotator %zu: %s\n", i, dekhand_error_name(race->codes[i]));
        }
    }
    assert_int_equal(won, 1);
    assert_int_equal(lost, ROTATORS - 1);
}

static void one_has_won(struct race *race, const struct dk_test_value *before)
{
    struct dk_place *place = &race->place;
    count_codes(race);
    assert_int_equal(dk_place_number(place, "SELECT count(*) FROM encryption_keys"), 2);
    assert_int_equal(dk_place_number(place, "SELECT version FROM encryption_keys WHERE state = "
                                            "'active'"),
                     2);
    assert_int_equal(dk_place_number(place, "SELECT next_version FROM tenants"), 3);
    assert_int_equal(dk_place_number(place, "SELECT count(*) FROM key_rotation_log WHERE operation "
                                            "= 'rotate' AND success"),
                     1);
    assert_true(dk_place_reads(place, "acme", before, "before"));
}

static void start_race(struct race *race, struct dk_test_value *before)
{
    race->codes = dk_test_shared(ROTATORS * sizeof *race->codes);
    dk_place_new(&race->place, false);
    race->d = dk_place_open(&race->place);
    ASSERT_CODE(dk_test_encrypt(race->d, "acme", "before", before), OK);
}

static void F36_I05_of_32_threads_that_rotate_one_wins(void **state)
{
    (void)state;
    struct race race = {.threads = ROTATORS};
    struct dk_test_value before;
    start_race(&race, &before);
    dk_test_threads(ROTATORS, rotate_first, &race);
    assert_int_equal(version_now(race.d, "acme"), 2);
    dk_place_close(race.d);
    one_has_won(&race, &before);
    dk_place_free(&race.place);
}

static int rotate_in_process(void *arg, size_t index)
{
    struct race *race = arg;
    race->process = index;
    race->d = dk_place_open(&race->place);
    dk_test_threads(race->threads, rotate_first, race);
    dk_place_close(race->d);
    return 0;
}

static void F36_I05_of_32_rotators_in_4_processes_one_wins(void **state)
{
    (void)state;
    struct race race = {.threads = ROTATORS / 4};
    struct dk_test_value before;
    start_race(&race, &before);
    dk_place_close(race.d);
    assert_true(dk_test_processes(4, rotate_in_process, &race));
    one_has_won(&race, &before);
    dk_place_free(&race.place);
}

static int rotate_often(void *arg, size_t index)
{
    struct race *race = arg;
    struct dekhand *d = dk_place_open(&race->place);
    for (int i = 0; i < 10; i++) {
        int code = dk_test_rotate(d, "acme", 0, NULL);
        DK_TEST_CHILD(code == DEKHAND_OK || code == DEKHAND_E_CONFLICT);
        race->codes[index] += code == DEKHAND_OK;
    }
    dk_place_close(d);
    return 0;
}

static void F36_two_processes_that_rotate_count_up_without_a_gap(void **state)
{
    (void)state;
    struct race race = {0};
    struct dk_test_value before;
    start_race(&race, &before);
    dk_place_close(race.d);
    assert_true(dk_test_processes(2, rotate_often, &race));
    int64_t made = race.codes[0] + race.codes[1];
    assert_true(made >= 10); /* of two that meet, one wins */
    assert_int_equal(dk_place_number(&race.place, "SELECT max(version) FROM encryption_keys"),
                     made + 1);
    assert_int_equal(dk_place_number(&race.place, "SELECT count(*) FROM encryption_keys"),
                     made + 1);
    assert_int_equal(dk_place_number(&race.place, "SELECT epoch FROM tenants"), made + 1);
    assert_true(dk_place_reads(&race.place, "acme", &before, "before"));
    dk_place_free(&race.place);
}

/* ---- one after the other --------------------------------------------------------------------- */

static void R5_values_of_every_version_open_in_a_fresh_process(void **state)
{
    (void)state;
    enum { VERSIONS = 6 };
    struct dk_place place;
    struct dk_test_value values[VERSIONS];
    char plain[16];
    dk_place_new(&place, false);
    struct dekhand *d = dk_place_open(&place);
    for (uint32_t v = 1; v <= VERSIONS; v++) {
        uint32_t to = 0;
        snprintf(plain, sizeof plain, "of version %u", v);
        ASSERT_CODE(dk_test_encrypt(d, "acme", plain, &values[v - 1]), OK);
        assert_int_equal(dk_test_version(&values[v - 1]), v);
        ASSERT_CODE(dk_test_rotate(d, "acme", v, &to), OK);
        assert_int_equal(to, v + 1);
    }
    for (uint32_t v = 1; v <= VERSIONS; v++) {
        snprintf(plain, sizeof plain, "of version %u", v);
        ASSERT_CODE(dk_test_decrypt(d, "acme", &values[v - 1], plain), OK);
        assert_true(dk_place_reads(&place, "acme", &values[v - 1], plain));
    }
    dk_place_close(d);
    dk_place_free(&place);
}

static void what_cannot_be_rotated_is_said_and_left_alone(void **state)
{
    (void)state;
    struct dk_place place;
    dk_place_new(&place, true);
    struct dekhand *d = dk_place_open(&place);
    assert_int_equal(version_now(d, "acme"), 1);
    char *before = dk_place_dump(&place, false);
    int made = atomic_load(&place.fake->calls[DK_FAKE_GENERATE]);
    ASSERT_CODE(dk_test_rotate(d, "nobody", 0, NULL), E_NOT_FOUND);
    ASSERT_CODE(dk_test_rotate(d, "acme", 7, NULL), E_CONFLICT);
    ASSERT_CODE(dk_test_rotate(d, "no tenant!", 0, NULL), E_USAGE);
    assert_int_equal(atomic_load(&place.fake->calls[DK_FAKE_GENERATE]), made);
    dk_fake_down(place.fake);
    ASSERT_CODE(dk_test_rotate(d, "acme", 0, NULL), E_UNREACHABLE);
    dk_fake_up(place.fake);
    assert_true(dk_place_unchanged(&place, false, before));
    assert_int_equal(dk_place_number(&place, "SELECT count(*) FROM key_rotation_log WHERE NOT "
                                             "success AND error_message LIKE 'E_UNREACHABLE%' AND "
                                             "tenant_id = 'acme'"),
                     1);
    dk_place_close(d);
    dk_place_free(&place);
}

static void I30_a_dry_run_changes_nothing(void **state)
{
    (void)state;
    struct dk_place place;
    struct told told;
    dk_place_new(&place, true);
    struct dekhand *d = dk_place_open(&place);
    make_tenants(d, 3);
    int uses = dk_fake_uses(place.fake);
    char *before = dk_place_dump(&place, true);
    ASSERT_CODE(rotate_many(d, DEKHAND_ROTATE_ALL, true, &told), OK);
    assert_int_equal(told.count, 3);
    for (size_t i = 0; i < told.count; i++) {
        assert_int_equal(told.each[i].from, 1);
        assert_int_equal(told.each[i].to, 2);
        assert_int_equal(told.each[i].code, DEKHAND_OK);
    }
    ASSERT_CODE(rotate_many(d, DEKHAND_ROTATE_DUE, true, &told), OK);
    assert_int_equal(told.count, 0);
    struct dekhand_rotate_args args = {
        .size = sizeof args, .which = DEKHAND_ROTATE_TENANT, .tenant = "nobody", .dry_run = true};
    ASSERT_CODE(dekhand_rotate(d, &args, NULL, NULL, NULL), E_NOT_FOUND);
    assert_int_equal(dk_fake_uses(place.fake), uses);
    assert_true(dk_place_unchanged(&place, true, before));
    dk_place_close(d);
    dk_place_free(&place);
}

/* More than a page of tenants: each once, also those whose new version sorts behind the page. */
static void all_are_rotated_once(void **state)
{
    (void)state;
    enum { TENANTS = 140 };
    struct dk_place place;
    struct told *told = calloc(1, sizeof *told);
    assert_non_null(told);
    dk_place_new(&place, false);
    struct dekhand *d = dk_place_open(&place);
    make_tenants(d, TENANTS);
    ASSERT_CODE(rotate_many(d, DEKHAND_ROTATE_ALL, false, told), OK);
    assert_int_equal(told->count, TENANTS);
    assert_int_equal(told->good, TENANTS);
    assert_int_equal(dk_place_number(&place, "SELECT count(*) FROM encryption_keys"), 2 * TENANTS);
    assert_int_equal(dk_place_number(&place, "SELECT count(*) FROM encryption_keys WHERE state = "
                                             "'active' AND version = 2"),
                     TENANTS);
    free(told);
    dk_place_close(d);
    dk_place_free(&place);
}

static void one_tenant_that_fails_stops_no_other(void **state)
{
    (void)state;
    struct dk_place place;
    struct told told;
    dk_place_new(&place, false);
    struct dekhand *d = dk_place_open(&place);
    make_tenants(d, 5);
    assert_int_equal(dk_place_sql(&place, "UPDATE tenants SET epoch = epoch + 1 WHERE tenant_id = "
                                          "'t-2'"),
                     0);
    ASSERT_CODE(rotate_many(d, DEKHAND_ROTATE_ALL, false, &told), OK);
    assert_int_equal(told.count, 5);
    assert_int_equal(told.good, 4);
    assert_string_equal(told.each[2].tenant, "t-2");
    ASSERT_CODE(told.each[2].code, E_TAMPERED);
    assert_int_equal(told.each[2].to, 0);
    dk_place_close(d);
    dk_place_free(&place);
}

static bool two_are_enough(void *arg, const struct dekhand_rotation *rotation)
{
    size_t *told = arg;
    assert_int_equal(rotation->code, DEKHAND_OK);
    return ++*told < 2;
}

static void F03_a_caller_that_has_enough_is_told_no_further_tenant(void **state)
{
    (void)state;
    struct dk_place place;
    struct dekhand_rotate_args args = {.size = sizeof args, .which = DEKHAND_ROTATE_ALL};
    size_t told = 0;
    dk_place_new(&place, false);
    struct dekhand *d = dk_place_open(&place);
    make_tenants(d, 5);
    ASSERT_CODE(dekhand_rotate(d, &args, two_are_enough, &told, NULL), OK);
    assert_int_equal(told, 2);
    assert_int_equal(
        dk_place_number(&place, "SELECT count(*) FROM encryption_keys WHERE version = 2"), 2);
    dk_place_close(d);
    dk_place_free(&place);
}

/* ---- time ------------------------------------------------------------------------------------ */

static void due_begins_at_the_warning_days(void **state)
{
    (void)state;
    struct dk_place place;
    struct told told;
    dk_place_new(&place, false);
    struct dekhand *d = dk_place_open(&place);
    int64_t born = place.w.wall_us;
    assert_int_equal(version_now(d, "acme"), 1);
    place.w.wall_us = born + 83 * day_us - 1;
    ASSERT_CODE(rotate_many(d, DEKHAND_ROTATE_DUE, false, &told), OK);
    assert_int_equal(told.count, 0);
    place.w.wall_us = born + 83 * day_us;
    assert_int_equal(version_now(d, "globex"), 1); /* a young one beside it */
    ASSERT_CODE(rotate_many(d, DEKHAND_ROTATE_DUE, false, &told), OK);
    assert_int_equal(told.count, 1);
    assert_string_equal(told.each[0].tenant, "acme");
    assert_int_equal(told.each[0].to, 2);
    ASSERT_CODE(rotate_many(d, DEKHAND_ROTATE_DUE, false, &told), OK);
    assert_int_equal(told.count, 0);
    dk_place_close(d);
    dk_place_free(&place);
}

static void I23_clock_jumps_neither_skip_nor_repeat_a_rotation(void **state)
{
    (void)state;
    struct dk_place place;
    struct told told;
    dk_place_new(&place, false);
    struct dekhand *d = dk_place_open(&place);
    int64_t born = place.w.wall_us;
    assert_int_equal(version_now(d, "acme"), 1);
    static const int jumps[] = {-3650, -1, 1, 0};
    for (size_t i = 0; i < sizeof jumps / sizeof jumps[0]; i++) {
        place.w.wall_us = born + jumps[i] * day_us;
        ASSERT_CODE(rotate_many(d, DEKHAND_ROTATE_DUE, false, &told), OK);
        assert_int_equal(told.count, 0);
    }
    place.w.wall_us = born + 3650 * day_us;
    for (int i = 0; i < 2; i++) {
        ASSERT_CODE(rotate_many(d, DEKHAND_ROTATE_DUE, false, &told), OK);
        assert_int_equal(told.count, i == 0 ? 1 : 0);
    }
    assert_int_equal(dk_place_number(&place, "SELECT count(*) FROM encryption_keys"), 2);
    dk_place_close(d);
    dk_place_free(&place);
}

static void K8_after_two_years_a_version_opens_but_encrypts_no_more(void **state)
{
    (void)state;
    struct dk_place place;
    struct dk_test_value value, late;
    dk_place_new(&place, false);
    int64_t born = place.w.wall_us;
    struct dekhand *d = dk_place_open(&place);
    ASSERT_CODE(dk_test_encrypt(d, "acme", "old", &value), OK);
    dk_place_close(d);
    place.w.wall_us = born + 730 * day_us; /* expired long ago, and still in use */
    d = dk_place_open(&place);
    ASSERT_CODE(dk_test_encrypt(d, "acme", "late", &late), OK);
    dk_place_close(d);
    place.w.wall_us = born + 730 * day_us + 1;
    d = dk_place_open(&place);
    ASSERT_CODE(dk_test_encrypt(d, "acme", "late", &late), E_EXPIRED);
    ASSERT_CODE(dk_test_decrypt(d, "acme", &value, "old"), OK);
    ASSERT_CODE(dk_test_rotate(d, "acme", 0, NULL), OK);
    assert_int_equal(version_now(d, "acme"), 2);
    dk_place_close(d);
    dk_place_free(&place);
}

struct jump {
    struct dk_place *place;
    const char *label;
    int64_t by_us;
};

static void move_clock(void *arg, const char *label)
{
    struct jump *jump = arg;
    if (strcmp(label, jump->label) == 0) {
        jump->place->w.wall_us += jump->by_us;
    }
}

static void K7_a_clock_that_jumps_while_a_key_is_made_stops_it(void **state)
{
    (void)state;
    static const struct {
        int64_t seconds;
        bool good;
    } jumps[] = {{301, false}, {-301, false}, {86400, false}, {299, true}, {-299, true}};
    struct dk_place place;
    struct jump jump = {.place = &place};
    dk_place_new(&place, false);
    place.w.world.trace = move_clock;
    place.w.world.trace_arg = &jump;
    jump.label = "";
    struct dekhand *d = dk_place_open(&place);
    assert_int_equal(version_now(d, "acme"), 1);
    for (size_t i = 0; i < sizeof jumps / sizeof jumps[0]; i++) {
        char tenant[32];
        char *before = dk_place_dump(&place, false);
        snprintf(tenant, sizeof tenant, "new-%zu", i);
        jump.by_us = jumps[i].seconds * 1000000;
        jump.label = "rotate.generated";
        int rotated = dk_test_rotate(d, "acme", 0, NULL);
        jump.label = "first_use.generated";
        int first = dk_test_encrypt(d, tenant, "x", &(struct dk_test_value){0});
        jump.label = "";
        assert_int_equal(rotated, jumps[i].good ? DEKHAND_OK : DEKHAND_E_CLOCK);
        assert_int_equal(first, jumps[i].good ? DEKHAND_OK : DEKHAND_E_CLOCK);
        if (jumps[i].good) {
            free(before);
        } else {
            assert_true(dk_place_unchanged(&place, false, before));
        }
    }
    dk_place_close(d);
    dk_place_free(&place);
}

/* ---- compromised ----------------------------------------------------------------------------- */

static void I09_a_compromised_version_opens_and_is_replaced(void **state)
{
    (void)state;
    struct dk_place place;
    struct dk_test_value value;
    struct dekhand_error error;
    dk_place_new(&place, false);
    struct dekhand *d = dk_place_open(&place);
    ASSERT_CODE(dk_test_encrypt(d, "acme", "old", &value), OK);
    ASSERT_CODE(rotate_compromised(d, "acme", &error), OK);
    assert_int_equal(version_now(d, "acme"), 2);
    ASSERT_CODE(dk_test_decrypt(d, "acme", &value, "old"), OK);
    assert_int_equal(dk_place_number(&place, "SELECT count(*) FROM encryption_keys WHERE version = "
                                             "1 AND compromised_at IS NOT NULL AND state = "
                                             "'retired'"),
                     1);
    assert_int_equal(dk_place_number(&place, "SELECT count(*) FROM encryption_keys WHERE version = "
                                             "2 AND compromised_at IS NULL"),
                     1);
    dk_place_close(d);
    dk_place_free(&place);
}

static void F49_I09_a_compromise_while_the_provider_is_down_stops_encryption(void **state)
{
    (void)state;
    struct dk_place place;
    struct dk_test_value value, none;
    struct dekhand_error error;
    struct told told;
    dk_place_new(&place, true);
    struct dekhand *d = dk_place_open(&place), *other = dk_place_open(&place);
    ASSERT_CODE(dk_test_encrypt(d, "acme", "old", &value), OK);
    assert_int_equal(version_now(other, "acme"), 1);
    dk_fake_down(place.fake);
    ASSERT_CODE(rotate_compromised(d, "acme", &error), E_COMPROMISED);
    assert_non_null(strstr(error.text, "no new version could be made"));
    ASSERT_CODE(dk_test_encrypt(d, "acme", "new", &none), E_COMPROMISED);
    place.w.mono_ms += place.limits.poll_ms; /* the other instance looks, and knows */
    ASSERT_CODE(dk_test_encrypt(other, "acme", "new", &none), E_COMPROMISED);
    dk_fake_up(place.fake);
    ASSERT_CODE(dk_test_encrypt(d, "acme", "new", &none), E_COMPROMISED);
    ASSERT_CODE(dk_test_decrypt(d, "acme", &value, "old"), OK); /* so that it can be migrated */
    ASSERT_CODE(rotate_many(d, DEKHAND_ROTATE_DUE, false, &told), OK); /* it is due at once */
    assert_int_equal(told.count, 1);
    assert_int_equal(version_now(d, "acme"), 2);
    place.w.mono_ms += place.limits.poll_ms;
    assert_int_equal(version_now(other, "acme"), 2);
    ASSERT_CODE(dk_test_decrypt(other, "acme", &value, "old"), OK);
    assert_int_equal(dk_place_number(&place, "SELECT count(*) FROM encryption_keys WHERE "
                                             "compromised_at IS NOT NULL"),
                     1);
    dk_place_close(other);
    dk_place_close(d);
    dk_place_free(&place);
}

static void I03_I09_F51_a_compromised_version_made_active_by_hand_is_not_used(void **state)
{
    (void)state;
    struct dk_place place;
    struct dk_test_value value, none;
    struct dekhand_error error;
    dk_place_new(&place, false);
    struct dekhand *d = dk_place_open(&place);
    ASSERT_CODE(dk_test_encrypt(d, "acme", "old", &value), OK);
    ASSERT_CODE(rotate_compromised(d, "acme", &error), OK);
    dk_place_close(d);
    assert_int_not_equal(dk_place_sql(&place, "UPDATE encryption_keys SET state = 'active' WHERE "
                                              "version = 1"),
                         0);
    assert_int_not_equal(dk_place_sql(&place, "UPDATE encryption_keys SET compromised_at = NULL"),
                         0);
    dk_place_drop_triggers(&place, "encryption_keys");
    assert_int_equal(dk_place_sql(&place, "UPDATE encryption_keys SET state = 'retired' WHERE "
                                          "version = 2; "
                                          "UPDATE encryption_keys SET state = 'active' WHERE "
                                          "version = 1"),
                     0);
    d = dk_place_open(&place);
    ASSERT_CODE(dk_test_encrypt(d, "acme", "new", &none), E_TAMPERED);
    ASSERT_CODE(dk_test_rotate(d, "acme", 0, NULL), E_TAMPERED);
    dk_place_close(d);
    dk_place_free(&place);
}

/* ---- other instances ------------------------------------------------------------------------- */

static void R13_another_instance_follows_after_its_poll(void **state)
{
    (void)state;
    struct dk_place place;
    struct dk_test_value value;
    dk_place_new(&place, false);
    struct dekhand *d = dk_place_open(&place), *other = dk_place_open(&place);
    assert_int_equal(version_now(d, "acme"), 1);
    assert_int_equal(version_now(other, "acme"), 1);
    ASSERT_CODE(dk_test_rotate(d, "acme", 0, NULL), OK);
    assert_int_equal(version_now(d, "acme"), 2); /* at once where it was done */
    assert_int_equal(version_now(other, "acme"), 1);
    ASSERT_CODE(dk_test_encrypt(d, "acme", "new", &value), OK);
    ASSERT_CODE(dk_test_decrypt(other, "acme", &value, "new"), OK); /* read at need */
    place.w.mono_ms += place.limits.poll_ms - 1;
    assert_int_equal(version_now(other, "acme"), 1);
    place.w.mono_ms += 1;
    assert_int_equal(version_now(other, "acme"), 2);
    ASSERT_CODE(dk_test_rotate(d, "acme", 0, NULL), OK);
    place.w.mono_ms += place.limits.poll_ms;
    ASSERT_CODE(dekhand_tick(other, NULL), OK); /* or by a tick of the application */
    assert_int_equal(version_now(other, "acme"), 3);
    dk_place_close(other);
    dk_place_close(d);
    dk_place_free(&place);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(F36_I05_of_32_threads_that_rotate_one_wins),
        cmocka_unit_test(F36_I05_of_32_rotators_in_4_processes_one_wins),
        cmocka_unit_test(F36_two_processes_that_rotate_count_up_without_a_gap),
        cmocka_unit_test(R5_values_of_every_version_open_in_a_fresh_process),
        cmocka_unit_test(what_cannot_be_rotated_is_said_and_left_alone),
        cmocka_unit_test(I30_a_dry_run_changes_nothing),
        cmocka_unit_test(all_are_rotated_once),
        cmocka_unit_test(one_tenant_that_fails_stops_no_other),
        cmocka_unit_test(F03_a_caller_that_has_enough_is_told_no_further_tenant),
        cmocka_unit_test(due_begins_at_the_warning_days),
        cmocka_unit_test(I23_clock_jumps_neither_skip_nor_repeat_a_rotation),
        cmocka_unit_test(K8_after_two_years_a_version_opens_but_encrypts_no_more),
        cmocka_unit_test(K7_a_clock_that_jumps_while_a_key_is_made_stops_it),
        cmocka_unit_test(I09_a_compromised_version_opens_and_is_replaced),
        cmocka_unit_test(F49_I09_a_compromise_while_the_provider_is_down_stops_encryption),
        cmocka_unit_test(I03_I09_F51_a_compromised_version_made_active_by_hand_is_not_used),
        cmocka_unit_test(R13_another_instance_follows_after_its_poll),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
