/* Two providers at once: each data key under both, one of them down or gone, and rewrap. */
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

static const struct dekhand_setting local_is_second[] = {{"KMS_SECONDARY_PROVIDER", "local"}};

/* The fake is the first one, and the local one the second. */
static void both_bare(struct dk_place *place)
{
    dk_place_bare(place, true);
    place->provided = local_is_second;
    place->provided_count = 1;
}

static void both_new(struct dk_place *place)
{
    struct dekhand_error error;
    both_bare(place);
    assert_int_equal(dk_place_init(place, &error), DEKHAND_OK);
}

/* The local one is the first, and the fake the second: of a registry that had only the first. */
static void add_second(struct dk_place *place)
{
    place->fake = dk_fake_new();
    place->fake_is_second = true;
}

static int64_t count(struct dk_place *place, const char *what)
{
    char sql[160];
    snprintf(sql, sizeof sql, "SELECT count(*) FROM %s", what);
    return dk_place_number(place, sql);
}

static int rewrap_and_drop(struct dekhand *d, const char *to, const char *drop,
                           struct dekhand_rewrap *done)
{
    struct dekhand_error error;
    *done = (struct dekhand_rewrap){.size = sizeof *done};
    int code = dekhand_rewrap(d, to, NULL, drop, NULL, NULL, done, &error);
    if (code != DEKHAND_OK) {
        print_message("%s\n", error.text);
    }
    return code;
}

static int rewrap(struct dekhand *d, const char *to, struct dekhand_rewrap *done)
{
    return rewrap_and_drop(d, to, NULL, done);
}

static int rotate(struct dekhand *d, const char *tenant)
{
    return dk_test_rotate(d, tenant, 0, NULL);
}

/* ---- from birth ------------------------------------------------------------------------------ */

static void R5_every_key_is_wrapped_under_both_from_its_birth(void **state)
{
    (void)state;
    struct dk_place place;
    struct dk_test_value value;
    both_new(&place);
    assert_int_equal(count(&place, "registry_wraps"), 1);
    struct dekhand *d = dk_place_open(&place);
    ASSERT_CODE(dk_test_encrypt(d, "acme", "x", &value), OK);
    ASSERT_CODE(rotate(d, "acme"), OK);
    uint8_t out[5][DK_TEST_VALUE];
    struct dekhand_item items[5] = {0};
    static const char *const tenants[] = {"a", "b", "c", "d", "e"};
    for (size_t i = 0; i < 5; i++) {
        items[i] =
            (struct dekhand_item){.tenant = tenants[i], .out = out[i], .capacity = sizeof out[i]};
    }
    ASSERT_CODE(dekhand_encrypt_batch(d, items, 5, NULL), OK);
    dk_place_close(d);
    assert_int_equal(count(&place, "encryption_keys WHERE provider = 'fake'"), 7);
    assert_int_equal(count(&place, "wraps WHERE provider = 'local'"), 7);
    dk_place_free(&place);
}

/* The first one is gone for good; a fresh process opens all there is, and makes more. */
static void R5_R17_the_second_opens_what_the_first_does_not(void **state)
{
    (void)state;
    static const dk_rc gone[] = {DK_E_UNREACHABLE, DK_E_PROVIDER_DENIED, DK_E_MASTER_KEY_DISABLED,
                                 DK_E_THROTTLED,   DK_E_NO_MASTER_KEY,   DK_E_PROVIDER,
                                 DK_E_AUTH};
    for (size_t i = 0; i < sizeof gone / sizeof gone[0]; i++) {
        struct dk_place place;
        struct dk_test_value old, value;
        both_new(&place);
        struct dekhand *d = dk_place_open(&place);
        ASSERT_CODE(dk_test_encrypt(d, "acme", "x", &old), OK);
        ASSERT_CODE(rotate(d, "acme"), OK);
        ASSERT_CODE(dk_test_encrypt(d, "acme", "y", &value), OK);
        dk_place_close(d);
        dk_fake_fail(place.fake, DK_FAKE_UNWRAP, gone[i], -1);
        place.keep_log = true;
        d = dk_place_open(&place);
        ASSERT_CODE(dk_test_decrypt(d, "acme", &old, "x"), OK);
        ASSERT_CODE(dk_test_decrypt(d, "acme", &value, "y"), OK);
        assert_non_null(strstr(place.log, "second_provider_served")); /* never in silence */
        assert_non_null(
            strstr(place.log, dk_error_info(gone[i] == DK_E_AUTH ? DK_E_PROVIDER : gone[i])->name));
        dk_place_close(d);
        dk_place_free(&place);
    }
}

static void P5_a_second_provider_that_is_down_keeps_nobody_from_working(void **state)
{
    (void)state;
    struct dk_place place;
    struct dk_test_value value;
    dk_place_new(&place, false);
    add_second(&place);
    dk_fake_down(place.fake);
    struct dekhand *d = dk_place_open(&place);
    ASSERT_CODE(dk_test_encrypt(d, "acme", "x", &value), OK);
    ASSERT_CODE(rotate(d, "acme"), OK);
    ASSERT_CODE(dk_test_decrypt(d, "acme", &value, "x"), OK);
    assert_int_equal(count(&place, "wraps"), 0);
    dk_fake_up(place.fake);
    place.w.mono_ms += place.limits.poll_ms;
    ASSERT_CODE(dekhand_tick(d, NULL), OK);
    assert_int_equal(count(&place, "wraps WHERE provider = 'fake'"), 2);
    assert_int_equal(count(&place, "registry_wraps WHERE provider = 'fake'"), 1);
    dk_place_close(d);
    dk_place_free(&place);
}

/* ---- older keys, and whether wraps still open ------------------------------------------------ */

static void ticks_fill_what_older_keys_lack(void **state)
{
    (void)state;
    enum { OLD = 150 };
    struct dk_place place;
    struct dk_test_value value;
    char tenant[16];
    dk_place_new(&place, false);
    struct dekhand *d = dk_place_open(&place);
    for (int i = 0; i < OLD; i++) {
        snprintf(tenant, sizeof tenant, "t%d", i);
        ASSERT_CODE(dk_test_encrypt(d, tenant, "x", &value), OK);
    }
    dk_place_close(d);
    add_second(&place);
    d = dk_place_open(&place);
    for (int i = 0; i < 3; i++) {
        place.w.mono_ms += place.limits.poll_ms;
        ASSERT_CODE(dekhand_tick(d, NULL), OK);
    }
    assert_int_equal(count(&place, "wraps"), OLD);
    int uses = dk_fake_uses(place.fake);
    place.w.mono_ms += place.limits.poll_ms;
    ASSERT_CODE(dekhand_tick(d, NULL), OK); /* nothing is lacking, nobody is asked */
    assert_int_equal(dk_fake_uses(place.fake), uses);
    dk_place_close(d);
    dk_place_free(&place);
}

static void each_wrap_is_opened_again_on_a_schedule(void **state)
{
    (void)state;
    struct dk_place place;
    struct dk_test_value value;
    both_new(&place);
    add_second(&place); /* another fake: the first is local from now on */
    struct dekhand *d = dk_place_open(&place);
    ASSERT_CODE(dk_test_encrypt(d, "acme", "x", &value), OK);
    int uses = dk_fake_uses(place.fake);
    place.w.mono_ms += place.limits.poll_ms;
    ASSERT_CODE(dekhand_tick(d, NULL), OK);
    assert_int_equal(dk_fake_uses(place.fake), uses);
    place.w.wall_us += DK_DAY_US + 1;
    place.w.mono_ms += 600000; /* nothing was lacking: it is looked at again in ten minutes */
    ASSERT_CODE(dekhand_tick(d, NULL), OK);
    assert_int_equal(dk_fake_uses(place.fake), uses + 1);
    place.w.mono_ms += place.limits.poll_ms;
    ASSERT_CODE(dekhand_tick(d, NULL), OK);
    assert_int_equal(dk_fake_uses(place.fake), uses + 1);
    place.keep_log = true;
    dk_fake_fail(place.fake, DK_FAKE_UNWRAP, DK_E_AUTH, 1);
    place.w.wall_us += DK_DAY_US + 1;
    place.w.mono_ms += 600000; /* nothing was lacking: it is looked at again in ten minutes */
    ASSERT_CODE(dekhand_tick(d, NULL), OK);
    assert_non_null(strstr(place.log, "second_wrap_does_not_open"));
    dk_place_close(d);
    dk_place_free(&place);
}

/* ---- who writes rows ------------------------------------------------------------------------- */

/* A further wrap carries a MAC over all of it: of another tenant, or changed, it opens nothing. */
static void I02_I03_a_further_wrap_that_was_changed_is_never_used(void **state)
{
    (void)state;
    static const char *const changes[] = {
        "UPDATE wraps SET encrypted_data_key = (SELECT w.encrypted_data_key FROM wraps w WHERE "
        "w.tenant_id = 'globex') WHERE tenant_id = 'acme'",
        "UPDATE wraps SET kms_key_id = 'local:00000000000000000000000000000000' WHERE tenant_id = "
        "'acme'",
        "UPDATE wraps SET context_timestamp = '2026-01-01T00:00:00.000001Z' WHERE tenant_id = "
        "'acme'",
        "UPDATE wraps SET version = 7 WHERE tenant_id = 'acme'",
        "UPDATE wraps SET tenant_id = 'other' WHERE tenant_id = 'acme'",
        "UPDATE wraps SET provider = 'fake' WHERE tenant_id = 'acme'",
        "UPDATE wraps SET last_verified_at = '2026-01-01T00:00:00.000001Z' WHERE tenant_id = "
        "'acme'",
        "DELETE FROM wraps WHERE tenant_id = 'acme'",
        "UPDATE wraps SET row_mac = 'x' WHERE tenant_id = 'acme'",
    };
    for (size_t i = 0; i < sizeof changes / sizeof changes[0]; i++) {
        struct dk_place place;
        struct dk_test_value acme, globex;
        both_new(&place);
        struct dekhand *d = dk_place_open(&place);
        ASSERT_CODE(dk_test_encrypt(d, "acme", "x", &acme), OK);
        ASSERT_CODE(dk_test_encrypt(d, "globex", "y", &globex), OK);
        dk_place_close(d);
        assert_int_equal(dk_place_sql(&place, changes[i]), 0);
        d = dk_place_open(&place);
        ASSERT_CODE(dk_test_decrypt(d, "acme", &acme, "x"), OK); /* by the first */
        dk_place_close(d);
        d = dk_place_open(&place);
        dk_fake_down(place.fake);
        ASSERT_CODE(dk_test_decrypt(d, "acme", &acme, "x"), E_UNREACHABLE);
        ASSERT_CODE(dk_test_decrypt(d, "globex", &globex, "y"), OK);
        dk_place_close(d);
        dk_place_free(&place);
    }
}

/* The registry's row has no MAC: what opens is held against the anchor and all other rows. */
static void I03_a_further_wrap_of_the_registry_key_that_was_changed_opens_nothing(void **state)
{
    (void)state;
    static const char *const changes[] = {
        "UPDATE registry_wraps SET generation = 7",
        "UPDATE registry_wraps SET provider = 'fake'",
        "UPDATE registry_wraps SET kms_key_id = 'local:00000000000000000000000000000000'",
        "UPDATE registry_wraps SET context_timestamp = '2026-01-01T00:00:00.000001Z'",
        "UPDATE registry_wraps SET encrypted_data_key = (SELECT encrypted_data_key FROM wraps)",
        "DELETE FROM registry_wraps",
    };
    for (size_t i = 0; i < sizeof changes / sizeof changes[0]; i++) {
        struct dk_place place;
        struct dk_test_value value;
        both_new(&place);
        struct dekhand *d = dk_place_open(&place);
        ASSERT_CODE(dk_test_encrypt(d, "acme", "x", &value), OK);
        dk_place_close(d);
        assert_int_equal(dk_place_sql(&place, changes[i]), 0);
        assert_true(dk_place_reads(&place, "acme", &value, "x"));
        dk_fake_down(place.fake);
        assert_false(dk_place_reads(&place, "acme", &value, "x"));
        dk_place_free(&place);
    }
}

/* It is made again from the first one, and only where that one opens: it may be all that is left.
 */
static void a_damaged_further_wrap_is_made_again_by_who_can(void **state)
{
    (void)state;
    struct dk_place place;
    struct dk_test_value value;
    both_new(&place);
    struct dekhand *d = dk_place_open(&place);
    ASSERT_CODE(dk_test_encrypt(d, "acme", "x", &value), OK);
    dk_place_close(d);
    assert_int_equal(dk_place_sql(&place, "UPDATE wraps SET row_mac = 'x'"), 0);
    d = dk_place_open(&place);
    dk_fake_down(place.fake);
    place.w.wall_us += DK_DAY_US + 1;
    place.w.mono_ms += place.limits.poll_ms;
    ASSERT_CODE(dekhand_tick(d, NULL), OK);
    assert_int_equal(count(&place, "wraps WHERE row_mac = 'x'"), 1);
    dk_fake_up(place.fake);
    place.w.mono_ms += 600000;
    ASSERT_CODE(dekhand_tick(d, NULL), OK);
    assert_int_equal(count(&place, "wraps WHERE row_mac <> 'x'"), 1);
    dk_place_close(d);
    dk_fake_down(place.fake);
    d = dk_place_open(&place);
    ASSERT_CODE(dk_test_decrypt(d, "acme", &value, "x"), OK);
    dk_place_close(d);
    dk_place_free(&place);
}

/* ---- rekey ----------------------------------------------------------------------------------- */

static void a_rekey_takes_further_wraps_along(void **state)
{
    (void)state;
    struct dk_place place;
    struct dk_test_value value;
    struct dekhand_rekey done = {.size = sizeof done};
    both_new(&place);
    struct dekhand *d = dk_place_open(&place);
    ASSERT_CODE(dk_test_encrypt(d, "acme", "x", &value), OK);
    ASSERT_CODE(rotate(d, "acme"), OK);
    ASSERT_CODE(dekhand_registry_rekey(d, false, NULL, NULL, &done, NULL), OK);
    dk_place_close(d);
    dk_fake_down(place.fake);
    d = dk_place_open(&place); /* the registry's new key, and its earlier one, by the second */
    ASSERT_CODE(dk_test_decrypt(d, "acme", &value, "x"), OK);
    struct dekhand_audit_result verified = {.size = sizeof verified};
    ASSERT_CODE(dekhand_audit_verify(d, NULL, NULL, &verified, NULL), OK);
    assert_int_equal(verified.findings, 0);
    dk_place_close(d);
    dk_place_free(&place);
}

/* ---- rewrap ---------------------------------------------------------------------------------- */

/* Values stay as they are, a reader that was there before goes on, wraps of who left go when that
   is asked for. */
static void R5_rewrap_moves_a_registry_and_no_reader_notices(void **state)
{
    (void)state;
    struct dk_place place;
    struct dk_test_value acme, globex;
    struct dekhand_rewrap done;
    dk_place_new(&place, false);
    struct dekhand *d = dk_place_open(&place);
    ASSERT_CODE(dk_test_encrypt(d, "acme", "x", &acme), OK);
    ASSERT_CODE(dk_test_encrypt(d, "globex", "y", &globex), OK);
    ASSERT_CODE(rotate(d, "acme"), OK);
    struct dekhand *reader = dk_place_open(&place);
    ASSERT_CODE(dk_test_decrypt(reader, "acme", &acme, "x"), OK);
    dk_place_close(d);
    add_second(&place);
    d = dk_place_open(&place);
    ASSERT_CODE(rewrap(d, "fake", &done), OK);
    assert_int_equal(done.rewrapped, 3);
    assert_int_equal(done.failed, 0);
    assert_true(done.registry);
    assert_string_equal(done.kms_key_id, DK_FAKE_KEY_ID);
    ASSERT_CODE(rewrap(d, "fake", &done), OK); /* again: nothing is left to do */
    assert_int_equal(done.rewrapped, 0);
    assert_int_equal(done.kept, 3);
    assert_false(done.registry);
    assert_int_equal(count(&place, "encryption_keys WHERE provider = 'fake'"), 3);
    assert_int_equal(count(&place, "wraps WHERE provider = 'local'"), 3);
    place.w.mono_ms += place.limits.poll_ms;
    ASSERT_CODE(dk_test_decrypt(reader, "globex", &globex, "y"), OK); /* it knows no fake */
    ASSERT_CODE(dk_test_decrypt(reader, "acme", &acme, "x"), OK);
    dk_place_close(reader);
    dk_place_close(d);
    /* The local one is gone for good, and its wraps go. */
    place.fake_is_second = false;
    char path[128];
    snprintf(path, sizeof path, "%s/master.key", place.folder);
    assert_int_equal(unlink(path), 0);
    d = dk_place_open(&place);
    ASSERT_CODE(dk_test_decrypt(d, "acme", &acme, "x"), OK);
    ASSERT_CODE(dk_test_decrypt(d, "globex", &globex, "y"), OK);
    ASSERT_CODE(rewrap(d, "fake", &done), OK);
    assert_int_equal(count(&place, "wraps"), 3); /* this process may lack a setting */
    ASSERT_CODE(rewrap_and_drop(d, "fake", "fake", &done), E_CONFIG);
    ASSERT_CODE(rewrap_and_drop(d, "fake", "local", &done), OK);
    assert_int_equal(done.dropped, 3);
    assert_int_equal(count(&place, "wraps"), 0);
    assert_int_equal(count(&place, "registry_wraps"), 0);
    struct dekhand_audit_result verified = {.size = sizeof verified};
    ASSERT_CODE(dekhand_audit_verify(d, NULL, NULL, &verified, NULL), OK);
    assert_int_equal(verified.findings, 0);
    dk_place_close(d);
    dk_place_free(&place);
}

/* A key that the seals do not know gets no wrap of the new provider, and keeps no tenant's from it.
 */
static void I03_rewrap_makes_no_wrap_of_a_planted_registry_key(void **state)
{
    (void)state;
    struct dk_place place;
    struct dk_test_value value;
    struct dekhand_rekey rekeyed = {.size = sizeof rekeyed};
    struct dekhand_rewrap done;
    dk_place_new(&place, false);
    struct dekhand *d = dk_place_open(&place);
    ASSERT_CODE(dk_test_encrypt(d, "acme", "x", &value), OK);
    ASSERT_CODE(dekhand_registry_rekey(d, false, NULL, NULL, &rekeyed, NULL), OK);
    dk_place_close(d);
    dk_place_drop_triggers(&place, "registry_keys");
    assert_int_equal(
        dk_place_sql(
            &place, "UPDATE registry_keys SET encrypted_data_key = (SELECT encrypted_data_key "
                    "FROM registry), context_timestamp = (SELECT context_timestamp FROM registry)"),
        0);
    dk_place_mend(&place);
    add_second(&place);
    d = dk_place_open(&place);
    ASSERT_CODE(rewrap(d, "fake", &done), OK);
    assert_int_equal(done.failed, 1);
    assert_int_equal(done.rewrapped, 1);
    assert_int_equal(count(&place, "registry_wraps WHERE generation = 1"), 0);
    ASSERT_CODE(dk_test_decrypt(d, "acme", &value, "x"), OK);
    dk_place_close(d);
    dk_place_free(&place);
}

static void rewrap_wants_a_provider_that_is_configured_and_the_right(void **state)
{
    (void)state;
    struct dk_place place;
    struct dekhand_rewrap done;
    both_new(&place);
    struct dekhand *d = dk_place_open(&place), *cron = NULL;
    ASSERT_CODE(rewrap(d, "aws-kms", &done), E_CONFIG);
    struct dekhand_actor actor = {.size = sizeof actor, .role = DEKHAND_ROLE_CRON, .name = "cron"};
    ASSERT_CODE(dekhand_act_as(d, &actor, &cron, NULL), OK);
    ASSERT_CODE(rewrap(cron, "local", &done), E_DENIED);
    dekhand_close(cron, NULL);
    dk_place_close(d);
    dk_place_free(&place);
}

/* A wrap that its own provider does not open again changes nothing (I15). */
static void I15_a_new_wrap_is_opened_before_it_takes_a_place(void **state)
{
    (void)state;
    struct dk_place place;
    struct dk_test_value value;
    struct dekhand_rewrap done;
    dk_place_new(&place, false);
    add_second(&place);
    struct dekhand *d = dk_place_open(&place);
    dk_fake_down(place.fake);
    ASSERT_CODE(dk_test_encrypt(d, "acme", "x", &value), OK);
    dk_fake_up(place.fake);
    ASSERT_CODE(rewrap(d, "fake", &done), OK); /* the registry's; now tenants' wraps go bad */
    ASSERT_CODE(rewrap(d, "local", &done), OK);
    ASSERT_CODE(dk_test_encrypt(d, "globex", "x", &value), OK);
    atomic_store(&place.fake->flip_wrap, true);
    assert_int_not_equal(rewrap(d, "fake", &done), DEKHAND_OK);
    assert_int_equal(count(&place, "encryption_keys WHERE provider = 'local'"), 2);
    ASSERT_CODE(dk_test_decrypt(d, "globex", &value, "x"), OK);
    dk_place_close(d);
    dk_place_free(&place);
}

/* ---- nothing starves, nothing goes before another was opened --------------------------------- */

enum { DEAD = 70, GOOD = 3 };

/* A MAC that is none, and one that dekhand cannot even read: E_TAMPERED of the store. */
static const char *const bad_macs[] = {
    "x", "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567"
         "8901234567890123456789012345678901234567890123456789"};
enum { BAD_MACS = 2 };

static void damage(struct dk_place *place, const char *table, const char *mac, const char *like)
{
    char sql[320];
    snprintf(sql, sizeof sql, "UPDATE %s SET row_mac = '%s' WHERE tenant_id LIKE '%s'", table, mac,
             like);
    assert_int_equal(dk_place_sql(place, sql), 0);
}

/* So many tenants whose rows nobody believes any more, and a few after them that are well. */
static void make_dead_and_good(struct dk_place *place, const char *mac)
{
    struct dk_test_value value;
    char tenant[16];
    struct dekhand *d = dk_place_open(place);
    for (int i = 0; i < DEAD + GOOD; i++) {
        snprintf(tenant, sizeof tenant, "%c%d", i < DEAD ? 'a' : 'z', i);
        ASSERT_CODE(dk_test_encrypt(d, tenant, "x", &value), OK);
    }
    dk_place_close(d);
    dk_place_drop_triggers(place, "encryption_keys");
    damage(place, "encryption_keys", mac, "a%");
    dk_place_mend(place);
}

static void tick_for_minutes(struct dk_place *place, struct dekhand *d, int minutes)
{
    for (int i = 0; i < minutes; i++) {
        place->w.mono_ms += 60000;
        ASSERT_CODE(dekhand_tick(d, NULL), OK);
    }
}

static void ticks_come_to_all_however_many_can_never_be_wrapped(void **state)
{
    (void)state;
    for (size_t i = 0; i < BAD_MACS; i++) {
        struct dk_place place;
        dk_place_new(&place, false);
        make_dead_and_good(&place, bad_macs[i]);
        add_second(&place);
        struct dekhand *d = dk_place_open(&place);
        tick_for_minutes(&place, d, 4);
        assert_int_equal(count(&place, "wraps WHERE tenant_id LIKE 'z%'"), GOOD);
        assert_int_equal(count(&place, "wraps"), GOOD);
        dk_place_close(d);
        dk_place_free(&place);
    }
}

/* By the ticks of a day later; and everything goes. */
static void assert_good_ones_are_made_again(struct dk_place *place, struct dekhand *d)
{
    place->w.wall_us += DK_DAY_US + 1;
    tick_for_minutes(place, d, 4);
    assert_int_equal(count(place, "wraps WHERE row_mac = 'x'"), 0);
    assert_int_equal(count(place, "wraps WHERE tenant_id LIKE 'z%'"), GOOD);
    dk_place_close(d);
    dk_place_free(place);
}

static void ticks_open_all_however_many_cannot_be_tried(void **state)
{
    (void)state;
    for (size_t i = 0; i < BAD_MACS; i++) {
        struct dk_place place;
        both_new(&place);
        make_dead_and_good(&place, bad_macs[i]);
        damage(&place, "wraps", "x", "z%");
        struct dekhand *d = dk_place_open(&place);
        assert_good_ones_are_made_again(&place, d);
    }
}

/* Wraps that cannot be read are no end of those that are to be opened. */
static void ticks_open_wraps_behind_those_that_cannot_be_read(void **state)
{
    (void)state;
    struct dk_place place;
    struct dk_test_value value;
    char tenant[16];
    both_new(&place);
    struct dekhand *d = dk_place_open(&place);
    for (int i = 0; i < DEAD + GOOD; i++) {
        snprintf(tenant, sizeof tenant, "%c%d", i < DEAD ? 'a' : 'z', i);
        ASSERT_CODE(dk_test_encrypt(d, tenant, "x", &value), OK);
    }
    damage(&place, "wraps", bad_macs[1], "a%");
    damage(&place, "wraps", "x", "z%");
    assert_good_ones_are_made_again(&place, d);
}

/* The first one wraps nothing: what the second one lacks is made all the same. */
static void a_provider_that_is_away_keeps_no_wrap_of_the_other_from_being_made(void **state)
{
    (void)state;
    struct dk_place place;
    struct dk_test_value value;
    struct dekhand_rewrap done;
    both_new(&place);
    struct dekhand *d = dk_place_open(&place);
    ASSERT_CODE(dk_test_encrypt(d, "acme", "x", &value), OK);
    ASSERT_CODE(rewrap(d, "local", &done), OK);
    ASSERT_CODE(dk_test_encrypt(d, "globex", "y", &value), OK);
    /* Acme and the registry lack a wrap of the fake, globex one of the local one. */
    assert_int_equal(dk_place_sql(&place, "DELETE FROM wraps"), 0);
    assert_int_equal(dk_place_sql(&place, "DELETE FROM registry_wraps"), 0);
    dk_fake_fail(place.fake, DK_FAKE_WRAP, DK_E_UNREACHABLE, -1);
    tick_for_minutes(&place, d, 1);
    assert_int_equal(count(&place, "wraps WHERE provider = 'local'"), 1);
    assert_int_equal(count(&place, "wraps"), 1);
    dk_fake_fail(place.fake, DK_FAKE_WRAP, DK_OK, 0);
    tick_for_minutes(&place, d, 1);
    assert_int_equal(count(&place, "wraps WHERE provider = 'fake'"), 1);
    assert_int_equal(count(&place, "registry_wraps WHERE provider = 'fake'"), 1);
    dk_place_close(d);
    dk_place_free(&place);
}

/* By a clock that was years ahead: nobody waits until then. */
static void a_wrap_that_was_opened_in_the_future_is_opened_again(void **state)
{
    (void)state;
    struct dk_place place;
    struct dk_test_value value;
    both_new(&place);
    struct dekhand *d = dk_place_open(&place);
    int64_t now = place.w.wall_us;
    place.w.wall_us = now + 1000 * DK_DAY_US;
    ASSERT_CODE(dk_test_encrypt(d, "acme", "x", &value), OK);
    dk_place_close(d);
    place.w.wall_us = now;
    damage(&place, "wraps", "x", "acme");
    d = dk_place_open(&place);
    tick_for_minutes(&place, d, 1);
    assert_int_equal(count(&place, "wraps WHERE row_mac = 'x'"), 0);
    assert_int_equal(count(&place, "wraps"), 1);
    dk_place_close(d);
    dk_place_free(&place);
}

/* What cannot be read is told and counted, and the others get their new wrap. */
static void rewrap_goes_on_past_rows_that_cannot_be_read(void **state)
{
    (void)state;
    struct dk_place place;
    struct dekhand_rewrap done;
    dk_place_new(&place, false);
    make_dead_and_good(&place, bad_macs[1]);
    add_second(&place);
    place.keep_log = true;
    struct dekhand *d = dk_place_open(&place);
    ASSERT_CODE(rewrap(d, "fake", &done), OK);
    assert_int_equal(done.failed, DEAD);
    assert_int_equal(done.rewrapped, GOOD);
    assert_string_equal(dekhand_error_name(done.failed_code), "E_TAMPERED");
    assert_non_null(strstr(place.log, "rewrap_failed"));
    assert_int_equal(count(&place, "encryption_keys WHERE provider = 'fake'"), GOOD);
    dk_place_close(d);
    dk_place_free(&place);
}

/* Of the present key and of the one before: opened, and made again where they are damaged. */
static void the_registrys_further_wraps_are_opened_on_a_schedule(void **state)
{
    (void)state;
    struct dk_place place;
    struct dk_test_value value;
    struct dekhand_rekey rekeyed = {.size = sizeof rekeyed};
    both_new(&place);
    struct dekhand *d = dk_place_open(&place);
    ASSERT_CODE(dk_test_encrypt(d, "acme", "x", &value), OK);
    ASSERT_CODE(dekhand_registry_rekey(d, false, NULL, NULL, &rekeyed, NULL), OK);
    tick_for_minutes(&place, d, 1); /* the first one of a process looks */
    static const char damage[] = "UPDATE registry_wraps SET encrypted_data_key = (SELECT "
                                 "encrypted_data_key FROM wraps)";
    assert_int_equal(dk_place_sql(&place, damage), 0);
    tick_for_minutes(&place, d, 11);
    const char *const bad = "registry_wraps r, wraps w WHERE r.encrypted_data_key = "
                            "w.encrypted_data_key";
    assert_int_equal(count(&place, bad), 2);
    place.keep_log = true;
    place.w.wall_us += DK_DAY_US + 1;
    dk_fake_down(place.fake); /* then nobody can say which key it was */
    tick_for_minutes(&place, d, 11);
    assert_int_equal(count(&place, bad), 2);
    assert_non_null(strstr(place.log, "second_wrap_does_not_open"));
    dk_fake_up(place.fake);
    tick_for_minutes(&place, d, 1);
    assert_int_equal(count(&place, bad), 0);
    assert_int_equal(count(&place, "registry_wraps"), 2);
    dk_place_close(d);
    dk_fake_down(place.fake);
    assert_true(dk_place_reads(&place, "acme", &value, "x"));
    dk_place_free(&place);
}

/* One that cannot be wrapped is made up for later; those behind it have theirs now. */
static void an_earlier_registry_key_that_fails_keeps_none_from_its_wrap(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        struct dk_place place;
        struct dekhand_rewrap done;
        struct dekhand_rekey rekeyed = {.size = sizeof rekeyed};
        dk_place_new(&place, false);
        struct dekhand *d = dk_place_open(&place);
        ASSERT_CODE(dekhand_registry_rekey(d, false, NULL, NULL, &rekeyed, NULL), OK);
        ASSERT_CODE(dekhand_registry_rekey(d, false, NULL, NULL, &rekeyed, NULL), OK);
        dk_place_close(d);
        add_second(&place);
        d = dk_place_open(&place);
        if (i == 0) {
            dk_fake_fail(place.fake, DK_FAKE_WRAP, DK_E_PROVIDER, 2); /* the present one too */
            tick_for_minutes(&place, d, 1);
        } else {
            dk_fake_fail(place.fake, DK_FAKE_WRAP, DK_E_PROVIDER, 1);
            ASSERT_CODE(rewrap(d, "fake", &done), OK);
            assert_int_equal(done.failed, 1);
        }
        assert_int_equal(count(&place, "registry_wraps WHERE generation = 1"), 0);
        assert_int_equal(count(&place, "registry_wraps WHERE generation = 2"), 1);
        assert_int_equal(count(&place, "registry_wraps WHERE generation = 3"), 1);
        tick_for_minutes(&place, d, 2);
        assert_int_equal(count(&place, "registry_wraps WHERE generation = 1"), 1);
        dk_place_close(d);
        dk_place_free(&place);
    }
}

struct visitor {
    const char *at;
    struct dekhand *d;
    struct dk_place *place;
    int times;
};

static void rekey_once(void *arg, const char *label)
{
    struct visitor *visitor = arg;
    struct dekhand_rekey rekeyed = {.size = sizeof rekeyed};
    if (strcmp(label, visitor->at) == 0 && visitor->times++ == 0 &&
        dekhand_registry_rekey(visitor->d, false, NULL, NULL, &rekeyed, NULL) != DEKHAND_OK) {
        abort();
    }
}

/* Another rekeys between two looks: nobody calls the key of before forged. */
static void a_rekey_meanwhile_is_no_forgery(void **state)
{
    (void)state;
    struct dk_place place;
    struct dk_test_value value;
    both_new(&place);
    struct visitor visitor = {"further.registry_read", NULL, &place, 0};
    place.w.world.trace = rekey_once;
    place.w.world.trace_arg = &visitor;
    struct dekhand *d = dk_place_open(&place), *other = dk_place_open(&place);
    visitor.d = other;
    ASSERT_CODE(dk_test_encrypt(d, "acme", "x", &value), OK);
    place.keep_log = true;
    tick_for_minutes(&place, d, 1);
    place.w.world.trace = NULL;
    assert_true(visitor.times > 0);
    assert_null(strstr(place.log, "forged"));
    assert_null(strstr(place.log, "second_wrap_does_not_open"));
    tick_for_minutes(&place, d, 2);
    assert_int_equal(count(&place, "registry_wraps"), 2);
    dk_place_close(other);
    dk_place_close(d);
    dk_fake_down(place.fake);
    assert_true(dk_place_reads(&place, "acme", &value, "x"));
    dk_place_free(&place);
}

static void make_once(void *arg, const char *label)
{
    struct visitor *visitor = arg;
    struct dk_test_value value;
    if (strcmp(label, visitor->at) == 0 && visitor->times++ == 0) {
        dk_fake_down(visitor->place->fake);
        if (dk_test_encrypt(visitor->d, "globex", "x", &value) != DEKHAND_OK) {
            abort();
        }
        dk_fake_up(visitor->place->fake);
    }
}

/* A key that was made without its second wrap while a tick was at work: the next one sees to it. */
static void what_becomes_due_during_a_tick_stays_due(void **state)
{
    (void)state;
    struct dk_place place;
    struct dk_test_value value;
    dk_place_new(&place, false);
    add_second(&place);
    struct visitor visitor = {"further.worked", NULL, &place, 1};
    place.w.world.trace = make_once;
    place.w.world.trace_arg = &visitor;
    struct dekhand *d = dk_place_open(&place);
    visitor.d = d;
    ASSERT_CODE(dk_test_encrypt(d, "acme", "x", &value), OK);
    tick_for_minutes(&place, d, 2);
    place.w.mono_ms += 600000;
    visitor.times = 0;
    ASSERT_CODE(dekhand_tick(d, NULL), OK);
    assert_true(visitor.times > 0);
    assert_int_equal(count(&place, "wraps"), 1);
    place.w.mono_ms += place.limits.poll_ms;
    ASSERT_CODE(dekhand_tick(d, NULL), OK);
    assert_int_equal(count(&place, "wraps"), 2);
    place.w.world.trace = NULL;
    dk_place_close(d);
    dk_place_free(&place);
}

/* What is merely away is told, and stays. */
static void a_registry_wrap_whose_provider_is_away_stays(void **state)
{
    (void)state;
    struct dk_place place;
    struct dk_test_value value;
    dk_place_new(&place, false);
    add_second(&place);
    struct dekhand *d = dk_place_open(&place);
    ASSERT_CODE(dk_test_encrypt(d, "acme", "x", &value), OK);
    tick_for_minutes(&place, d, 1);
    assert_int_equal(count(&place, "registry_wraps"), 1);
    char *before = dk_place_dump(&place, false);
    place.keep_log = true;
    dk_fake_down(place.fake);
    place.w.wall_us += DK_DAY_US + 1;
    tick_for_minutes(&place, d, 11);
    assert_non_null(strstr(place.log, "second_wrap_does_not_open"));
    assert_non_null(strstr(place.log, "E_UNREACHABLE"));
    assert_true(dk_place_unchanged(&place, false, before));
    dk_place_close(d);
    dk_place_free(&place);
}

/* Nobody here opens the local wrap any more; it goes when the fake one was opened, and not before.
 */
static void rewrap_drops_nothing_before_the_first_wrap_was_opened(void **state)
{
    (void)state;
    struct dk_place place;
    struct dk_test_value value;
    struct dekhand_rewrap done;
    both_new(&place);
    struct dekhand *d = dk_place_open(&place);
    ASSERT_CODE(dk_test_encrypt(d, "acme", "x", &value), OK);
    dk_place_close(d);
    place.provided_count = 0;
    d = dk_place_open(&place);
    const char *const rows = "key_rotation_log WHERE operation = 'rewrap'";
    const char *const opened = "key_rotation_log WHERE operation = 'decrypt'";
    int64_t written = count(&place, opened);
    dk_fake_fail(place.fake, DK_FAKE_UNWRAP, DK_E_AUTH, -1);
    assert_int_not_equal(rewrap_and_drop(d, "fake", "local", &done), DEKHAND_OK);
    assert_int_equal(count(&place, "wraps"), 1);
    assert_int_equal(count(&place, "registry_wraps"), 1);
    assert_int_equal(count(&place, rows), 0);
    dk_fake_fail(place.fake, DK_FAKE_UNWRAP, DK_OK, 0);
    ASSERT_CODE(rewrap_and_drop(d, "fake", "local", &done), OK);
    assert_int_equal(done.failed, 0);
    assert_int_equal(count(&place, "wraps"), 0);
    assert_int_equal(count(&place, "registry_wraps"), 0);
    assert_int_equal(count(&place, rows), 1); /* of the tenant */
    assert_int_equal(count(&place, opened), written + 1);
    char *before = dk_place_dump(&place, true);
    ASSERT_CODE(rewrap_and_drop(d, "fake", "local", &done), OK); /* nothing is left to write */
    assert_true(dk_place_unchanged(&place, true, before));
    struct dekhand_audit_result verified = {.size = sizeof verified};
    ASSERT_CODE(dekhand_audit_verify(d, NULL, NULL, &verified, NULL), OK);
    assert_int_equal(verified.findings, 0);
    dk_place_close(d);
    dk_place_free(&place);
}

struct rival {
    struct dk_place *place;
    struct dekhand *d;
    int times;
};

static void rewrap_first(void *arg, const char *label)
{
    struct rival *rival = arg;
    struct dekhand_rewrap done;
    if (strcmp(label, "rewrap.registry_wrapped") == 0 && rival->times++ == 0) {
        if (rewrap(rival->d, "fake", &done) != DEKHAND_OK || !done.registry) {
            abort();
        }
    }
}

/* The registry's wrap changes only from the one that was read, with its row in the log. */
static void a_registry_that_another_rewrapped_meanwhile_is_left_alone(void **state)
{
    (void)state;
    struct dk_place place;
    struct dk_test_value value;
    struct dekhand_rewrap done;
    dk_place_new(&place, false);
    add_second(&place);
    struct rival rival = {&place, NULL, 0};
    place.w.world.trace = rewrap_first;
    place.w.world.trace_arg = &rival;
    struct dekhand *d = dk_place_open(&place);
    ASSERT_CODE(dk_test_encrypt(d, "acme", "x", &value), OK);
    rival.d = dk_place_open(&place);
    ASSERT_CODE(rewrap(d, "fake", &done), OK);
    assert_int_equal(rival.times, 2);
    assert_false(done.registry);
    assert_int_equal(done.kept, 1);
    assert_int_equal(count(&place, "key_rotation_log WHERE operation = 'rewrap' AND tenant_id = "
                                   "'*'"),
                     1);
    place.w.world.trace = NULL;
    dk_place_close(rival.d);
    dk_place_close(d);
    assert_true(dk_place_reads(&place, "acme", &value, "x"));
    dk_place_free(&place);
}

/* A wrap that did not open when its key was moved is due, not just verified. */
static void a_wrap_that_was_not_opened_is_not_stamped_as_opened(void **state)
{
    (void)state;
    struct dk_place place;
    struct dk_test_value value;
    struct dekhand_rewrap done;
    for (int i = 0; i < 2; i++) {
        both_new(&place);
        struct dekhand *d = dk_place_open(&place);
        ASSERT_CODE(dk_test_encrypt(d, "acme", "x", &value), OK);
        int64_t opened = count(&place, "key_rotation_log WHERE operation = 'decrypt'");
        if (i == 1) {
            dk_fake_fail(place.fake, DK_FAKE_UNWRAP, DK_E_PROVIDER_DENIED, -1);
        }
        ASSERT_CODE(rewrap(d, "local", &done), OK);
        assert_int_equal(done.rewrapped, 1);
        assert_int_equal(count(&place, "key_rotation_log WHERE operation = 'decrypt'"), opened + 1);
        assert_int_equal(count(&place, "wraps WHERE provider = 'fake' AND last_verified_at < "
                                       "'2000-01-01T00:00:00.000000Z'"),
                         i);
        dk_place_close(d);
        dk_place_free(&place);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(R5_every_key_is_wrapped_under_both_from_its_birth),
        cmocka_unit_test(R5_R17_the_second_opens_what_the_first_does_not),
        cmocka_unit_test(P5_a_second_provider_that_is_down_keeps_nobody_from_working),
        cmocka_unit_test(ticks_fill_what_older_keys_lack),
        cmocka_unit_test(each_wrap_is_opened_again_on_a_schedule),
        cmocka_unit_test(I02_I03_a_further_wrap_that_was_changed_is_never_used),
        cmocka_unit_test(I03_a_further_wrap_of_the_registry_key_that_was_changed_opens_nothing),
        cmocka_unit_test(a_damaged_further_wrap_is_made_again_by_who_can),
        cmocka_unit_test(a_rekey_takes_further_wraps_along),
        cmocka_unit_test(R5_rewrap_moves_a_registry_and_no_reader_notices),
        cmocka_unit_test(I03_rewrap_makes_no_wrap_of_a_planted_registry_key),
        cmocka_unit_test(rewrap_wants_a_provider_that_is_configured_and_the_right),
        cmocka_unit_test(ticks_come_to_all_however_many_can_never_be_wrapped),
        cmocka_unit_test(ticks_open_all_however_many_cannot_be_tried),
        cmocka_unit_test(ticks_open_wraps_behind_those_that_cannot_be_read),
        cmocka_unit_test(a_provider_that_is_away_keeps_no_wrap_of_the_other_from_being_made),
        cmocka_unit_test(a_wrap_that_was_opened_in_the_future_is_opened_again),
        cmocka_unit_test(rewrap_goes_on_past_rows_that_cannot_be_read),
        cmocka_unit_test(the_registrys_further_wraps_are_opened_on_a_schedule),
        cmocka_unit_test(an_earlier_registry_key_that_fails_keeps_none_from_its_wrap),
        cmocka_unit_test(a_rekey_meanwhile_is_no_forgery),
        cmocka_unit_test(what_becomes_due_during_a_tick_stays_due),
        cmocka_unit_test(a_registry_wrap_whose_provider_is_away_stays),
        cmocka_unit_test(rewrap_drops_nothing_before_the_first_wrap_was_opened),
        cmocka_unit_test(a_registry_that_another_rewrapped_meanwhile_is_left_alone),
        cmocka_unit_test(a_wrap_that_was_not_opened_is_not_stamped_as_opened),
        cmocka_unit_test(I15_a_new_wrap_is_opened_before_it_takes_a_place),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
