/* Several processes over one registry in PostgreSQL: who seals, who is there, what each one knows.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "support/world.h"

#define ASSERT_CODE(call, code) assert_string_equal(dekhand_error_name(call), #code)
#define POLL_MS 100 /* of real time: leases go by the server's clock, and hold for three polls */
#define SEALS "SELECT count(*) FROM seals"
#define NODES "SELECT count(*) FROM nodes"

static void place_new(struct dk_place *place)
{
    dk_place_bare(place, false);
    place->limits.poll_ms = POLL_MS;
    ASSERT_CODE(dk_place_init(place, NULL), OK);
}

static void tick(struct dk_place *place, struct dekhand *d)
{
    place->w.mono_ms += POLL_MS;
    ASSERT_CODE(dekhand_tick(d, NULL), OK);
}

static void use(struct dekhand *d, const char *tenant)
{
    struct dk_test_value value;
    ASSERT_CODE(dk_test_encrypt(d, tenant, "x", &value), OK);
}

static void count_finding(void *arg, const struct dekhand_finding *finding)
{
    fprintf(stderr, "%s: %s\n", finding->table, finding->text);
    ++*(size_t *)arg;
}

static size_t findings(struct dekhand *d)
{
    size_t n = 0;
    struct dekhand_audit_result result = {.size = sizeof result};
    ASSERT_CODE(dekhand_audit_verify(d, count_finding, &n, &result, NULL), OK);
    return n;
}

static void I26_who_has_the_lease_seals_for_all_and_another_takes_over(void **state)
{
    (void)state;
    struct dk_place place;
    place_new(&place);
    struct dekhand *a = dk_place_open(&place), *b = dk_place_open(&place);
    use(a, "acme");
    use(b, "globex");
    int64_t seals = dk_place_number(&place, SEALS);
    assert_int_equal(findings(a), 0); /* what no seal has yet is no finding */
    tick(&place, a);
    assert_int_equal(dk_place_number(&place, SEALS), seals + 1);
    assert_int_equal(dk_place_number(&place,
                                     "SELECT count(*) FROM seals WHERE heads LIKE '%acme%' AND "
                                     "heads LIKE '%globex%' AND heads LIKE '%process%'"),
                     1);
    tick(&place, a);
    assert_int_equal(dk_place_number(&place, SEALS), seals + 1); /* nothing to seal */
    use(b, "initech");
    tick(&place, b);
    assert_int_equal(dk_place_number(&place, SEALS), seals + 1); /* it is not b's turn */
    usleep(4 * POLL_MS * 1000);
    tick(&place, b);
    assert_int_equal(dk_place_number(&place, SEALS), seals + 2);
    assert_int_equal(dk_place_number(&place, "SELECT fence FROM leases"),
                     dk_place_number(&place, "SELECT max(fence) FROM leases"));
    assert_int_equal(findings(b), 0);
    dk_place_close(a);
    dk_place_close(b);
    struct dekhand *fresh = dk_place_open(&place);
    assert_int_equal(findings(fresh), 0);
    dk_place_close(fresh);
    dk_place_free(&place);
}

static void I26_who_writes_and_closes_leaves_it_sealed(void **state)
{
    (void)state;
    struct dk_place place;
    place_new(&place);
    for (int i = 0; i < 3; i++) {
        int64_t seals = dk_place_number(&place, SEALS);
        struct dekhand *d = dk_place_open(&place);
        if (i < 2) {
            use(d, i == 0 ? "acme" : "globex");
        }
        dk_place_close(d);
        assert_int_equal(dk_place_number(&place, SEALS), seals + (i < 2));
    }
    dk_place_free(&place);
}

static void a_process_that_ticks_is_a_node_until_it_closes(void **state)
{
    (void)state;
    struct dk_place place;
    place_new(&place);
    struct dekhand *a = dk_place_open(&place), *b = dk_place_open(&place);
    assert_int_equal(dk_place_number(&place, NODES), 0);
    tick(&place, a);
    tick(&place, b);
    assert_int_equal(dk_place_number(&place, NODES), 2);
    dk_place_close(a);
    assert_int_equal(dk_place_number(&place, NODES), 1);
    dk_place_close(b);
    assert_int_equal(dk_place_number(&place, NODES), 0);
    dk_place_free(&place);
}

static void R13_what_one_node_rotates_the_others_know_after_a_poll(void **state)
{
    (void)state;
    struct dk_place place;
    struct dk_test_value value;
    place_new(&place);
    struct dekhand *a = dk_place_open(&place), *b = dk_place_open(&place);
    use(a, "acme");
    use(b, "acme");
    for (uint32_t version = 2; version < 6; version++) {
        ASSERT_CODE(dk_test_rotate(version % 2 == 0 ? a : b, "acme", 0, NULL), OK);
        tick(&place, a);
        tick(&place, b);
        ASSERT_CODE(dk_test_encrypt(a, "acme", "x", &value), OK);
        assert_int_equal(dk_test_version(&value), version);
        ASSERT_CODE(dk_test_encrypt(b, "acme", "x", &value), OK);
        assert_int_equal(dk_test_version(&value), version);
    }
    dk_place_close(a);
    dk_place_close(b);
    dk_place_free(&place);
}

static void R13_a_clear_that_was_seen_counts_though_the_look_then_fails(void **state)
{
    (void)state;
    struct dk_place place;
    struct dekhand_stats stats = {.size = sizeof stats};
    place_new(&place);
    struct dekhand *a = dk_place_open(&place), *b = dk_place_open(&place);
    use(a, "acme");
    tick(&place, a);
    ASSERT_CODE(dekhand_cache_clear(b, NULL), OK);
    assert_int_equal(dk_place_sql(&place, "REVOKE SELECT ON seals FROM dekhand_rw"), 0);
    place.w.mono_ms += POLL_MS;
    assert_int_not_equal(dekhand_tick(a, NULL), DEKHAND_OK);
    ASSERT_CODE(dekhand_stats(a, &stats, NULL), OK);
    assert_int_equal(stats.cached_keys, 0);
    assert_int_equal(dk_place_sql(&place, "GRANT SELECT ON seals TO dekhand_rw"), 0);
    tick(&place, a);
    use(a, "acme");
    dk_place_close(a);
    dk_place_close(b);
    dk_place_free(&place);
}

/* Who sees that the row is not what dekhand writes goes on seeing what changes. */
static void R13_a_registry_row_that_cannot_be_read_hides_no_change(void **state)
{
    (void)state;
    struct dk_place place;
    struct dk_test_value value;
    place_new(&place);
    struct dekhand *a = dk_place_open(&place), *b = dk_place_open(&place);
    use(a, "acme");
    tick(&place, a);
    ASSERT_CODE(dk_test_rotate(b, "acme", 0, NULL), OK);
    assert_int_equal(dk_place_sql(&place, "UPDATE registry SET created_at = 'infinity'"), 0);
    tick(&place, a);
    ASSERT_CODE(dk_test_encrypt(a, "acme", "x", &value), OK);
    assert_int_equal(dk_test_version(&value), 2);
    dk_place_close(a);
    dk_place_close(b);
    dk_place_free(&place);
}

/* Another that is always there at the same moment. */
#define COLLIDES                                                                                   \
    "CREATE FUNCTION public.collide() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE "         \
    "EXCEPTION 'two at once' USING ERRCODE = 'serialization_failure'; END $$; GRANT EXECUTE ON "   \
    "FUNCTION public.collide() TO PUBLIC; CREATE TRIGGER collide BEFORE INSERT ON leases FOR "     \
    "EACH ROW EXECUTE FUNCTION public.collide()"

static void I26_who_never_comes_to_seal_says_so_once(void **state)
{
    (void)state;
    struct dk_place place;
    place_new(&place);
    place.keep_log = true;
    struct dekhand *d = dk_place_open(&place);
    assert_int_equal(dk_place_sql(&place, COLLIDES), 0);
    for (int round = 0; round < 2; round++) {
        for (int turn = 1; turn <= 8; turn++) {
            place.log[place.log_n = 0] = '\0';
            tick(&place, d);
            assert_int_equal(strstr(place.log, "not_sealed") != NULL, turn == 5);
            assert_int_equal(strstr(place.log, "E_BUSY") != NULL, turn == 5);
        }
        assert_int_equal(dk_place_sql(&place, "ALTER TABLE leases DISABLE TRIGGER collide"), 0);
        tick(&place, d); /* it counts from the beginning then */
        assert_int_equal(dk_place_sql(&place, "ALTER TABLE leases ENABLE TRIGGER collide"), 0);
    }
    assert_int_equal(dk_place_sql(&place, "DROP TRIGGER collide ON leases"), 0);
    dk_place_close(d);
    dk_place_free(&place);
}

/* ---- first use and rotation by all at once --------------------------------------------------- */

#define PROCESSES 4
#define THREADS 8
#define TENANTS 40

struct crowd {
    struct dk_place *place;
    struct dekhand *d;
    int codes[THREADS];
};

static void first_uses(void *arg, size_t index)
{
    struct crowd *crowd = arg;
    char name[32];
    struct dk_test_value value;
    for (size_t i = 0; i < TENANTS && crowd->codes[index] == DEKHAND_OK; i++) {
        snprintf(name, sizeof name, "tenant-%02zu", (i + index * 5) % TENANTS);
        crowd->codes[index] = dk_test_encrypt(crowd->d, name, "x", &value);
        if (crowd->codes[index] == DEKHAND_OK) {
            crowd->codes[index] = dk_test_decrypt(crowd->d, name, &value, "x");
        }
    }
}

static int crowd_in_process(void *arg, size_t index)
{
    struct crowd crowd = {.place = arg};
    (void)index;
    crowd.d = dk_place_open(arg);
    dk_test_threads(THREADS, first_uses, &crowd);
    dk_place_close(crowd.d);
    for (size_t i = 0; i < THREADS; i++) {
        if (crowd.codes[i] != DEKHAND_OK) {
            fprintf(stderr, "a thread: %s\n", dekhand_error_name(crowd.codes[i]));
            return 1;
        }
    }
    return 0;
}

static void R2_I05_first_use_by_all_nodes_at_once_makes_one_row_a_tenant(void **state)
{
    (void)state;
    struct dk_place place;
    place_new(&place);
    assert_true(dk_test_processes(PROCESSES, crowd_in_process, &place));
    assert_int_equal(dk_place_number(&place, "SELECT count(*) FROM encryption_keys"), TENANTS);
    assert_int_equal(dk_place_number(&place, "SELECT count(DISTINCT tenant_id) FROM tenants"),
                     TENANTS);
    struct dekhand *d = dk_place_open(&place);
    assert_int_equal(findings(d), 0);
    dk_place_close(d);
    dk_place_free(&place);
}

/* ---- counts ---------------------------------------------------------------------------------- */

static void key_versions_are_counted_as_they_change(void **state)
{
    (void)state;
    struct dk_place place;
    char name[32];
    struct dekhand_health health;
    place_new(&place);
    struct dekhand *d = dk_place_open(&place);
    for (int i = 0; i < 30; i++) {
        snprintf(name, sizeof name, "tenant-%02d", i);
        use(d, name);
        place.w.wall_us += 7 * INT64_C(60) * 1000000;
        if (i % 3 == 0) {
            ASSERT_CODE(dk_test_rotate(d, name, 0, NULL), OK);
        }
        if (i == 15) {
            tick(&place, d);
            assert_int_equal(dk_place_number(&place, "SELECT count(*) FROM key_count_deltas"), 0);
        }
    }
    for (int late = 0; late < 3; late++) { /* before, in and after the hours in which they expire */
        health = (struct dekhand_health){.size = sizeof health};
        ASSERT_CODE(dekhand_health(d, NULL, NULL, &health, NULL), OK);
        assert_int_equal(health.total_keys, 40);
        assert_int_equal(health.active_keys, 30);
        assert_int_equal(health.total_keys,
                         dk_place_number(&place, "SELECT count(*) FROM encryption_keys"));
        char now[DK_TIME_TEXT], sql[256];
        dk_time_format(place.w.wall_us, now);
        snprintf(
            sql, sizeof sql,
            "SELECT count(*) FROM encryption_keys WHERE state = 'active' AND expires_at <= '%s'",
            now);
        assert_int_equal(health.expired_keys, dk_place_number(&place, sql));
        place.w.wall_us += (late == 0 ? 90 * 24 * 60 - 100 : 12 * 60) * INT64_C(60) * 1000000;
    }
    dk_place_close(d);
    dk_place_free(&place);
}

/* Two nodes: tenants they share, and so many of their own that the tables in memory differ in size
 * and order. */
enum { FLUSHES = 30, SHARED = 400, MOST = 1100 };
static const size_t own[2] = {MOST - SHARED, 150};

static int seal_all(struct dekhand *d, size_t index)
{
    static char names[MOST][32];
    static uint8_t out[MOST][64];
    static struct dekhand_item items[MOST];
    size_t n = SHARED + own[index];
    for (size_t i = 0; i < n; i++) {
        if (i < SHARED) {
            snprintf(names[i], sizeof names[i], "both-%03zu", i);
        } else {
            snprintf(names[i], sizeof names[i], "%c-%03zu", index == 0 ? 'a' : 'z', i);
        }
        items[i] = (struct dekhand_item){.tenant = names[i],
                                         .format = DEKHAND_BINARY,
                                         .in = "x",
                                         .in_size = 1,
                                         .out = out[i],
                                         .capacity = sizeof out[i]};
    }
    return dekhand_encrypt_batch(d, items, n, NULL);
}

static int flush_often(void *arg, size_t index)
{
    struct dekhand_error error = {.code = DEKHAND_OK};
    struct dekhand *d = dk_place_open(arg);
    int code = DEKHAND_OK;
    for (int round = 0; round < FLUSHES && code == DEKHAND_OK; round++) {
        code = seal_all(d, index);
        code = code == DEKHAND_OK ? dekhand_tick(d, &error) : code;
    }
    dk_place_close(d);
    if (code != DEKHAND_OK) {
        fprintf(stderr, "%s: %s\n", dekhand_error_name(code), error.text);
    }
    return code;
}

static void R25_nodes_that_count_the_same_versions_at_once_do_not_deadlock(void **state)
{
    (void)state;
    struct dk_place place;
    place_new(&place);
    place.limits.flush_messages = 1;
    place.limits.max_keys = 2 * MOST;
    assert_true(dk_test_processes(2, flush_often, &place));
    assert_int_equal(dk_place_number(&place, "SELECT sum(messages)::bigint FROM encryption_keys"),
                     FLUSHES * (2 * SHARED + own[0] + own[1]));
    dk_place_free(&place);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(I26_who_has_the_lease_seals_for_all_and_another_takes_over),
        cmocka_unit_test(I26_who_writes_and_closes_leaves_it_sealed),
        cmocka_unit_test(I26_who_never_comes_to_seal_says_so_once),
        cmocka_unit_test(R13_a_registry_row_that_cannot_be_read_hides_no_change),
        cmocka_unit_test(a_process_that_ticks_is_a_node_until_it_closes),
        cmocka_unit_test(R13_what_one_node_rotates_the_others_know_after_a_poll),
        cmocka_unit_test(R13_a_clear_that_was_seen_counts_though_the_look_then_fails),
        cmocka_unit_test(R2_I05_first_use_by_all_nodes_at_once_makes_one_row_a_tenant),
        cmocka_unit_test(key_versions_are_counted_as_they_change),
        cmocka_unit_test(R25_nodes_that_count_the_same_versions_at_once_do_not_deadlock),
    };
    setenv("DEKHAND_TEST_STORE", "postgres", 0);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
