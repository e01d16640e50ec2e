/* Health, doctor and warnings: what they say of a registry that is well, and of each trouble. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "support/world.h"

#define ASSERT_CODE(call, code) assert_string_equal(dekhand_error_name(call), #code)

#define TOLD_MAX 64

struct told {
    struct {
        char name[24], text[1024], todo[256];
        enum dekhand_level level;
    } check[TOLD_MAX];
    size_t n;
};

static void take_check(void *arg, const struct dekhand_check *check)
{
    struct told *told = arg;
    assert_true(told->n < TOLD_MAX);
    snprintf(told->check[told->n].name, sizeof told->check[0].name, "%s", check->name);
    snprintf(told->check[told->n].text, sizeof told->check[0].text, "%s", check->text);
    snprintf(told->check[told->n].todo, sizeof told->check[0].todo, "%s", check->todo);
    told->check[told->n++].level = check->level;
    assert_true(check->text[0] != '\0');
    /* Whatever is wrong says what mends it. */
    assert_true(check->level < DEKHAND_LEVEL_WARNING || check->todo[0] != '\0');
}

static struct told told;

static struct dekhand_health health_of(struct dekhand *d)
{
    struct dekhand_health health = {.size = sizeof health};
    told.n = 0;
    ASSERT_CODE(dekhand_health(d, take_check, &told, &health, NULL), OK);
    return health;
}

/* The servers of the tests: their superuser logs in, nothing has to survive, and the clock of a
 * place is not theirs. */
static bool is_of_the_server(const char *name)
{
    return strcmp(name, "login") == 0 || strcmp(name, "durability") == 0 ||
           strcmp(name, "server clock") == 0;
}

/* Findings beside those of a server. */
static int64_t findings_of(struct dk_place *place)
{
    int64_t theirs = 0;
    struct dekhand_doctor_result result = {.size = sizeof result};
    told.n = 0;
    ASSERT_CODE(dk_place_doctor(place, take_check, &told, &result), OK);
    assert_int_equal(result.checks, told.n);
    for (size_t i = 0; i < told.n; i++) {
        if (told.check[i].level < DEKHAND_LEVEL_WARNING) {
            continue;
        }
        if (is_of_the_server(told.check[i].name)) {
            theirs++;
        } else {
            print_message("%s: %s\n", told.check[i].name, told.check[i].text);
        }
    }
    return result.findings - theirs;
}

/* A check of that name and level that holds those words. */
static void assert_told(const char *name, enum dekhand_level level, const char *words)
{
    for (size_t i = 0; i < told.n; i++) {
        if (strcmp(told.check[i].name, name) == 0 && told.check[i].level == level &&
            strstr(told.check[i].text, words) != NULL) {
            return;
        }
    }
    for (size_t i = 0; i < told.n; i++) {
        print_message("%d %s: %s\n", (int)told.check[i].level, told.check[i].name,
                      told.check[i].text);
    }
    fail_msg("no %s of level %d says \"%s\"", name, (int)level, words);
}

static void put_clock_on(struct dk_place *place, int64_t days)
{
    place->w.wall_us += days * DK_DAY_US;
}

static void be_ours(const char *folder)
{
    assert_int_equal(chmod(folder, 0700), 0);
    assert_int_equal(chown(folder, geteuid(), getegid()), 0);
}

static void fresh(struct dk_place *place, struct dk_test_value *value)
{
    dk_place_new(place, true);
    be_ours(place->folder);
    struct dekhand *d = dk_place_open(place);
    ASSERT_CODE(dk_test_encrypt(d, "globex", "x", value), OK);
    ASSERT_CODE(dk_test_encrypt(d, "acme", "x", value), OK);
    dk_place_close(d);
}

static void a_fresh_registry_is_well(void **state)
{
    (void)state;
    struct dk_place place;
    struct dk_test_value value;
    fresh(&place, &value);
    struct dekhand *d = dk_place_open(&place);
    struct dekhand_health health = health_of(d);
    assert_int_equal(health.level, DEKHAND_LEVEL_OK);
    assert_true(health.provider_works && health.database_works);
    assert_int_equal(health.cache_hit_rate, -1); /* nothing was used yet */
    assert_int_equal(health.total_keys, 2);
    assert_int_equal(health.active_keys, 2);
    assert_int_equal(health.expired_keys + health.near_expiry_keys, 0);
    assert_int_equal(health.failed_rotations, 0);
    assert_true(health.anchor_seal > 0);
    ASSERT_CODE(dk_test_decrypt(d, "acme", &value, "x"), OK);
    assert_int_equal(health_of(d).cache_hit_rate, 0);
    dk_place_close(d);
    assert_int_equal(findings_of(&place), 0);
    dk_place_free(&place);
}

static void I30_health_and_doctor_change_nothing(void **state)
{
    (void)state;
    struct dk_place place;
    struct dk_test_value value;
    fresh(&place, &value);
    put_clock_on(&place, 85);
    char *before = dk_place_dump(&place, true);
    struct dekhand *d = dk_place_open(&place);
    (void)health_of(d);
    (void)findings_of(&place);
    assert_true(dk_place_unchanged(&place, true, before));
    dk_place_close(d);
    dk_place_free(&place);
}

static void the_health_of_a_registry_that_opens_again_says_so(void **state)
{
    (void)state;
    struct dk_place place;
    struct dekhand_health health = {.size = sizeof health};
    dk_place_new(&place, false);
    struct dekhand_setting settings[] = {{"KMS_STATE_DIR", place.folder},
                                         {"DATABASE_URL", place.opens}};
    struct dekhand_config config = {.size = sizeof config,
                                    .settings = settings,
                                    .setting_count = 2,
                                    .ignore_environment = true};
    told.n = 0;
    ASSERT_CODE(dekhand_health_closed(&config, take_check, &told, &health, NULL), OK);
    assert_told("registry", DEKHAND_LEVEL_WARNING, "it opens now");
    assert_int_equal(health.level, DEKHAND_LEVEL_WARNING);
    assert_int_equal(health.database_level, DEKHAND_LEVEL_WARNING);
    settings[0].value = "";
    told.n = 0;
    ASSERT_CODE(dekhand_health_closed(&config, take_check, &told, &health, NULL), OK);
    assert_told("settings", DEKHAND_LEVEL_ERROR, "KMS_STATE_DIR is empty");
    assert_int_equal(health.level, DEKHAND_LEVEL_ERROR);
    assert_int_equal(health.database_level, DEKHAND_LEVEL_OK);
    ASSERT_CODE(dekhand_health_closed(&config, NULL, NULL, NULL, NULL), E_USAGE);
    dk_place_free(&place);
}

static void keys_near_their_expiry_are_a_warning_and_past_it_an_error(void **state)
{
    (void)state;
    struct dk_place place;
    struct dk_test_value value;
    fresh(&place, &value);
    put_clock_on(&place, 84);
    struct dekhand *d = dk_place_open(&place);
    struct dekhand_health health = health_of(d);
    assert_int_equal(health.keys_level, DEKHAND_LEVEL_WARNING);
    assert_int_equal(health.level, DEKHAND_LEVEL_WARNING);
    assert_int_equal(health.near_expiry_keys, 2);
    assert_told("keys", DEKHAND_LEVEL_WARNING, "2 active keys expire within 7 days");
    assert_told("keys", DEKHAND_LEVEL_WARNING, "on 2026-04-01 (tenant acme, version 1)");
    put_clock_on(&place, 7);
    health = health_of(d);
    assert_int_equal(health.level, DEKHAND_LEVEL_ERROR);
    assert_int_equal(health.expired_keys, 2);
    assert_told("keys", DEKHAND_LEVEL_ERROR, "since 2026-04-01 (tenant acme, version 1)");
    ASSERT_CODE(dk_test_encrypt(d, "acme", "x", &value), OK); /* as the text says */
    ASSERT_CODE(dk_test_rotate(d, "acme", 0, NULL), OK);
    ASSERT_CODE(dk_test_rotate(d, "globex", 0, NULL), OK);
    assert_int_equal(health_of(d).level, DEKHAND_LEVEL_OK);
    dk_place_close(d);
    dk_place_free(&place);
}

static void a_provider_that_is_down_is_an_error_and_values_in_hand_open(void **state)
{
    (void)state;
    struct dk_place place;
    struct dk_test_value value;
    fresh(&place, &value);
    struct dekhand *d = dk_place_open(&place);
    ASSERT_CODE(dk_test_decrypt(d, "acme", &value, "x"), OK);
    dk_fake_down(place.fake);
    struct dekhand_health health = health_of(d);
    assert_int_equal(health.level, DEKHAND_LEVEL_ERROR);
    assert_int_equal(health.provider_level, DEKHAND_LEVEL_ERROR);
    assert_false(health.provider_works);
    assert_true(health.database_works);
    assert_told("provider", DEKHAND_LEVEL_ERROR, "E_UNREACHABLE");
    ASSERT_CODE(dk_test_decrypt(d, "acme", &value, "x"), OK); /* as the text says */
    assert_true(findings_of(&place) > 0);
    assert_told("registry", DEKHAND_LEVEL_ERROR, "E_UNREACHABLE");
    dk_fake_up(place.fake);
    assert_int_equal(health_of(d).level, DEKHAND_LEVEL_OK);
    dk_place_close(d);
    dk_place_free(&place);
}

static void a_failed_rotation_is_told_until_it_is_made_good(void **state)
{
    (void)state;
    struct dk_place place;
    struct dk_test_value value;
    fresh(&place, &value);
    struct dekhand *d = dk_place_open(&place);
    dk_fake_fail(place.fake, DK_FAKE_GENERATE, DK_E_UNREACHABLE, 2);
    ASSERT_CODE(dk_test_rotate(d, "acme", 0, NULL), E_UNREACHABLE);
    ASSERT_CODE(dk_test_rotate(d, "acme", 0, NULL), E_UNREACHABLE);
    place.w.wall_us += 1000;
    struct dekhand_health health = health_of(d);
    assert_int_equal(health.rotation_level, DEKHAND_LEVEL_WARNING);
    assert_int_equal(health.failed_rotations, 1); /* one tenant, twice */
    assert_told("rotation", DEKHAND_LEVEL_WARNING, "of acme: E_UNREACHABLE");
    ASSERT_CODE(dk_test_rotate(d, "acme", 0, NULL), OK);
    assert_int_equal(health_of(d).level, DEKHAND_LEVEL_OK);
    dk_place_close(d);
    dk_place_free(&place);
}

static void I04_F54_an_older_registry_is_an_error(void **state)
{
    (void)state;
    struct dk_place place;
    struct dk_test_value value;
    fresh(&place, &value);
    size_t old = dk_place_keep(&place);
    struct dekhand *d = dk_place_open(&place);
    ASSERT_CODE(dk_test_rotate(d, "acme", 0, NULL), OK);
    dk_place_close(d);
    dk_place_put_back(&place, old);
    d = dk_place_open(&place);
    struct dekhand_health health = health_of(d);
    assert_int_equal(health.anchor_level, DEKHAND_LEVEL_ERROR);
    assert_told("anchor", DEKHAND_LEVEL_ERROR, "an old copy was put back");
    assert_true(findings_of(&place) > 0);
    assert_told("anchor", DEKHAND_LEVEL_ERROR, "an old copy was put back");
    ASSERT_CODE(dekhand_warnings(d, NULL, NULL, NULL), E_ROLLBACK);
    dk_place_close(d);
    dk_place_free(&place);
}

static void the_doctor_names_each_trouble(void **state)
{
    (void)state;
    struct dk_place place;
    struct dk_test_value value;
    fresh(&place, &value);
    struct dekhand *d = dk_place_open(&place);
    /* Compromised, and no new version can be made. */
    dk_fake_fail(place.fake, DK_FAKE_GENERATE, DK_E_UNREACHABLE, 1);
    struct dekhand_rotate_args args = {
        .size = sizeof args, .which = DEKHAND_ROTATE_TENANT, .tenant = "acme", .compromised = true};
    ASSERT_CODE(dekhand_rotate(d, &args, NULL, NULL, NULL), E_COMPROMISED);
    dk_place_close(d);
    assert_true(findings_of(&place) > 0);
    assert_told("budget", DEKHAND_LEVEL_ERROR, "the first of tenant acme, version 1, made on 20");
    assert_told("budget", DEKHAND_LEVEL_ERROR, ": marked compromised");
    /* Counts are in no MAC: a budget that is nearly used up. */
    assert_int_equal(dk_place_sql(&place, "UPDATE encryption_keys SET messages = 2147483648 "
                                          "WHERE tenant_id = 'globex'"),
                     0);
    (void)findings_of(&place);
    assert_told("budget", DEKHAND_LEVEL_WARNING, "near the message budget");
    put_clock_on(&place, -10);
    (void)findings_of(&place);
    assert_told("clock", DEKHAND_LEVEL_ERROR, "one of the two clocks is wrong");
    put_clock_on(&place, 10 + 731);
    (void)findings_of(&place);
    assert_told("budget", DEKHAND_LEVEL_ERROR, "older than two years");
    dk_place_drop_triggers(&place, "encryption_keys");
    assert_int_equal(dk_place_sql(&place, "UPDATE encryption_keys SET expires_at = "
                                          "'2030-01-01T00:00:00.000000Z'"),
                     0);
    (void)findings_of(&place);
    assert_told("rows", DEKHAND_LEVEL_ERROR, "was edited");
    assert_int_equal(chmod(place.folder, 0755), 0);
    (void)findings_of(&place);
    assert_told("state folder", DEKHAND_LEVEL_WARNING, "mode 755");
    dk_place_free(&place);
}

/* A clock that was ahead when a key was made: the key's day comes too late. */
static void the_doctor_names_a_key_made_in_the_future(void **state)
{
    (void)state;
    struct dk_place place;
    struct dk_test_value value;
    fresh(&place, &value);
    put_clock_on(&place, 400);
    struct dekhand *d = dk_place_open(&place);
    ASSERT_CODE(dk_test_encrypt(d, "initech", "x", &value), OK);
    dk_place_close(d);
    (void)findings_of(&place);
    assert_told("budget", DEKHAND_LEVEL_OK, "3 active keys");
    put_clock_on(&place, -400);
    (void)findings_of(&place);
    assert_told("budget", DEKHAND_LEVEL_WARNING, "1 active key, the first of tenant initech");
    assert_told("budget", DEKHAND_LEVEL_WARNING, "made in the future");
    /* What its line says mends it. */
    d = dk_place_open(&place);
    struct dekhand_rotate_args args = {
        .size = sizeof args, .which = DEKHAND_ROTATE_TENANT, .tenant = "initech"};
    ASSERT_CODE(dekhand_rotate(d, &args, NULL, NULL, NULL), OK);
    dk_place_close(d);
    (void)findings_of(&place);
    assert_told("budget", DEKHAND_LEVEL_OK, "3 active keys");
    dk_place_free(&place);
}

static void the_doctor_looks_at_the_master_key_file(void **state)
{
    (void)state;
    struct dk_place place;
    char path[128], away[128];
    dk_place_new(&place, false);
    be_ours(place.folder);
    snprintf(path, sizeof path, "%s/master.key", place.folder);
    snprintf(away, sizeof away, "%s/away", place.folder);
    assert_int_equal(findings_of(&place), 0);
    assert_told("master key", DEKHAND_LEVEL_OK, "is there");
    assert_int_equal(chmod(path, 0644), 0);
    assert_true(findings_of(&place) > 0);
    assert_told("master key", DEKHAND_LEVEL_ERROR, "nothing is lost");
    assert_int_equal(chmod(path, 0600), 0);
    assert_int_equal(rename(path, away), 0);
    assert_true(findings_of(&place) > 0);
    assert_told("master key", DEKHAND_LEVEL_ERROR, "is not there");
    assert_told("registry", DEKHAND_LEVEL_ERROR, "E_NO_MASTER_KEY");
    assert_int_equal(rename(away, path), 0);
    assert_int_equal(findings_of(&place), 0);
    dk_place_free(&place);
}

static void the_doctor_of_nothing_says_what_to_do(void **state)
{
    (void)state;
    struct dk_place place;
    dk_place_bare(&place, false);
    assert_true(findings_of(&place) > 0);
    assert_told("registry", DEKHAND_LEVEL_ERROR, "dekhand init");
    dk_place_free(&place);
}

/* ---- warnings -------------------------------------------------------------------------------- */

static void count_warning(void *arg, const struct dekhand_warning *warning)
{
    (void)warning;
    ++*(int *)arg;
}

static int warnings_of(struct dekhand *d)
{
    int n = 0;
    ASSERT_CODE(dekhand_warnings(d, count_warning, &n, NULL), OK);
    return n;
}

static void each_version_is_warned_of_once(void **state)
{
    (void)state;
    struct dk_place place;
    struct dk_test_value value;
    fresh(&place, &value);
    struct dekhand *d = dk_place_open(&place);
    assert_int_equal(warnings_of(d), 0);
    put_clock_on(&place, 84);
    assert_int_equal(warnings_of(d), 2);
    assert_int_equal(warnings_of(d), 0);
    dk_place_close(d);
    d = dk_place_open(&place); /* nor after a restart */
    assert_int_equal(warnings_of(d), 0);
    ASSERT_CODE(dk_test_rotate(d, "acme", 0, NULL), OK);
    assert_int_equal(warnings_of(d), 0);
    put_clock_on(&place, 84);
    assert_int_equal(warnings_of(d), 1); /* the new version in its turn */
    dk_place_close(d);
    assert_int_equal(dk_place_number(&place, "SELECT count(*) FROM key_rotation_log "
                                             "WHERE operation = 'warning'"),
                     3);
    assert_int_equal(dk_place_number(&place, "SELECT count(*) FROM key_rotation_log WHERE "
                                             "operation = 'warning' AND from_version = 2"),
                     1);
    dk_place_free(&place);
}

static void warnings_leave_the_chain_whole(void **state)
{
    (void)state;
    struct dk_place place;
    struct dk_test_value value;
    fresh(&place, &value);
    put_clock_on(&place, 84);
    struct dekhand *d = dk_place_open(&place);
    assert_int_equal(warnings_of(d), 2);
    struct dekhand_audit_result result = {.size = sizeof result};
    ASSERT_CODE(dekhand_audit_verify(d, NULL, NULL, &result, NULL), OK);
    assert_int_equal(result.findings, 0);
    ASSERT_CODE(dk_test_decrypt(d, "acme", &value, "x"), OK);
    dk_place_close(d);
    dk_place_free(&place);
}

/* More than a page, all of the same moment. */
static void many_that_expire_at_one_moment_are_each_told(void **state)
{
    (void)state;
    struct dk_place place;
    struct dk_test_value value;
    dk_place_new(&place, true);
    struct dekhand *d = dk_place_open(&place);
    for (int i = 0; i < 150; i++) {
        char tenant[16];
        snprintf(tenant, sizeof tenant, "t%d", i);
        ASSERT_CODE(dk_test_encrypt(d, tenant, "x", &value), OK);
    }
    put_clock_on(&place, 200);
    assert_int_equal(warnings_of(d), 150);
    assert_int_equal(warnings_of(d), 0);
    dk_place_close(d);
    dk_place_free(&place);
}

static int warn_in_child(void *arg, size_t index)
{
    struct dk_place *place = arg;
    struct dekhand *d = dk_place_open(place);
    (void)index;
    int code = dekhand_warnings(d, NULL, NULL, NULL);
    dk_place_close(d);
    return code;
}

static void of_many_processes_one_tells(void **state)
{
    (void)state;
    struct dk_place place;
    struct dk_test_value value;
    fresh(&place, &value);
    put_clock_on(&place, 84);
    assert_true(dk_test_processes(8, warn_in_child, &place));
    assert_int_equal(dk_place_number(&place, "SELECT count(*) FROM key_rotation_log "
                                             "WHERE operation = 'warning'"),
                     2);
    dk_place_free(&place);
}

static void the_tick_tells_in_the_log(void **state)
{
    (void)state;
    struct dk_place place;
    struct dk_test_value value;
    fresh(&place, &value);
    place.keep_log = true;
    struct dekhand *d = dk_place_open(&place);
    ASSERT_CODE(dekhand_tick(d, NULL), OK);
    put_clock_on(&place, 84);
    ASSERT_CODE(dekhand_tick(d, NULL), OK);
    assert_null(strstr(place.log, "key_expires_soon")); /* not yet an hour */
    place.w.mono_ms += 3600 * 1000;
    ASSERT_CODE(dekhand_tick(d, NULL), OK);
    assert_non_null(strstr(place.log, "key_expires_soon"));
    assert_non_null(strstr(place.log, "globex"));
    dk_place_close(d);
    dk_place_free(&place);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_fresh_registry_is_well),
        cmocka_unit_test(I30_health_and_doctor_change_nothing),
        cmocka_unit_test(the_health_of_a_registry_that_opens_again_says_so),
        cmocka_unit_test(keys_near_their_expiry_are_a_warning_and_past_it_an_error),
        cmocka_unit_test(a_provider_that_is_down_is_an_error_and_values_in_hand_open),
        cmocka_unit_test(a_failed_rotation_is_told_until_it_is_made_good),
        cmocka_unit_test(I04_F54_an_older_registry_is_an_error),
        cmocka_unit_test(the_doctor_names_each_trouble),
        cmocka_unit_test(the_doctor_names_a_key_made_in_the_future),
        cmocka_unit_test(the_doctor_looks_at_the_master_key_file),
        cmocka_unit_test(the_doctor_of_nothing_says_what_to_do),
        cmocka_unit_test(each_version_is_warned_of_once),
        cmocka_unit_test(warnings_leave_the_chain_whole),
        cmocka_unit_test(many_that_expire_at_one_moment_are_each_told),
        cmocka_unit_test(of_many_processes_one_tells),
        cmocka_unit_test(the_tick_tells_in_the_log),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
