/* Old rows of the log deleted, under running instances, cut short, and what is then believed. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include <signal.h>
#include <sys/wait.h>

#include "support/world.h"

#define ASSERT_CODE(call, code) assert_string_equal(dekhand_error_name(call), #code)
#define ROWS "SELECT count(*) FROM key_rotation_log"
#define OLDEST                                                                                     \
    dk_place_pick(&place, "SELECT min(rowid) FROM key_rotation_log",                               \
                  "SELECT min(seq) FROM key_rotation_log")
#define NEWEST                                                                                     \
    dk_place_pick(&place, "SELECT max(rowid) FROM key_rotation_log",                               \
                  "SELECT max(seq) FROM key_rotation_log")
#define PRUNES "SELECT count(*) FROM key_rotation_log WHERE operation = 'prune'"

static const int64_t day_us = INT64_C(86400) * 1000000;

/* ---- what a test does ------------------------------------------------------------------------ */

static int prune(struct dekhand *d, int64_t before, bool dry, struct dekhand_prune *out)
{
    struct dekhand_error error;
    *out = (struct dekhand_prune){.size = sizeof *out};
    int code = dekhand_audit_prune(d, before, dry, out, &error);
    if (code != DEKHAND_OK) {
        print_message("%s\n", error.text);
    }
    return code;
}

static void show(void *arg, const struct dekhand_finding *finding)
{
    (void)arg;
    print_message("%s %s %s: %s\n", finding->table, finding->tenant, finding->row, finding->text);
}

static int64_t findings(struct dekhand *d)
{
    struct dekhand_audit_result result = {.size = sizeof result};
    ASSERT_CODE(dekhand_audit_verify(d, show, NULL, &result, NULL), OK);
    return result.findings;
}

static void use(struct dekhand *d, const char *tenant)
{
    struct dk_test_value value;
    ASSERT_CODE(dk_test_encrypt(d, tenant, "x", &value), OK);
    ASSERT_CODE(dk_test_decrypt(d, tenant, &value, "x"), OK);
}

/* What was written is in seals from now on; where each transaction seals, it was before. */
static void seal_now(struct dk_place *place, struct dekhand *d)
{
    place->w.mono_ms += place->limits.poll_ms;
    ASSERT_CODE(dekhand_tick(d, NULL), OK);
}

/* acme has two versions, globex one: three changes, and unwraps. */
static struct dekhand *used(struct dk_place *place)
{
    dk_place_new(place, false);
    struct dekhand *d = dk_place_open(place);
    use(d, "acme");
    use(d, "globex");
    ASSERT_CODE(dk_test_rotate(d, "acme", 0, NULL), OK);
    use(d, "acme");
    seal_now(place, d);
    return d;
}

static void let(struct dk_place *place, const char *sql)
{
    assert_int_equal(dk_place_sql(place, sql), 0);
}

/* ---- tests ----------------------------------------------------------------------------------- */

static void R28_what_is_left_of_a_pruned_log_verifies(void **state)
{
    (void)state;
    struct dk_place place;
    struct dekhand_prune result;
    struct dekhand *running = used(&place);
    int64_t old = dk_place_number(&place, ROWS), newest = dk_place_number(&place, NEWEST);
    int64_t seals = dk_place_number(&place, "SELECT max(n) FROM seals");
    place.w.wall_us += day_us;
    struct dekhand *other = dk_place_open(&place);
    ASSERT_CODE(prune(other, place.w.wall_us, false, &result), OK);
    assert_int_equal(result.rows, old);
    assert_int_equal(result.seal, seals);
    /* in SQLite there is one a row, after that of init */
    assert_true(dk_place_is_postgres(&place) || seals == old + 1);
    assert_int_equal(dk_place_number(&place, ROWS), 1);
    assert_int_equal(findings(running), 0);
    ASSERT_CODE(dk_test_rotate(running, "acme", 0, NULL),
                OK); /* chains go on behind what is gone */
    use(running, "acme");
    use(other, "globex");
    assert_int_equal(findings(running), 0);
    assert_int_equal(dk_place_number(&place, OLDEST), newest + 1);
    seal_now(&place, running);
    place.w.wall_us += day_us;
    int64_t later = dk_place_number(&place, ROWS);
    ASSERT_CODE(prune(running, place.w.wall_us, false, &result), OK);
    assert_int_equal(result.rows, later); /* the proof of before too: the new one goes further */
    assert_int_equal(findings(other), 0);
    dk_place_close(other);
    dk_place_close(running);
    running = dk_place_open(&place);
    use(running, "acme");
    assert_int_equal(findings(running), 0);
    dk_place_close(running);
    dk_place_free(&place);
}

static void R28_only_rows_in_seals_of_before_the_moment_go(void **state)
{
    (void)state;
    struct dk_place place;
    struct dekhand_prune result;
    struct dekhand *d = used(&place);
    int64_t born = place.w.wall_us, old = dk_place_number(&place, ROWS);
    place.w.wall_us += day_us;
    ASSERT_CODE(dk_test_rotate(d, "globex", 0, NULL), OK);
    seal_now(&place, d);
    place.w.wall_us -= 2 * day_us; /* a clock that went back makes no later row old */
    ASSERT_CODE(dk_test_rotate(d, "acme", 0, NULL), OK);
    seal_now(&place, d);
    place.w.wall_us += 4 * day_us;
    int64_t all = dk_place_number(&place, ROWS);
    ASSERT_CODE(prune(d, born, false, &result), OK);
    assert_true(result.rows == 0 && result.seal == 0);
    ASSERT_CODE(prune(d, born + day_us, true, &result), OK);
    assert_int_equal(result.rows, old);
    assert_int_equal(dk_place_number(&place, ROWS), all);
    ASSERT_CODE(prune(d, place.w.wall_us + 1, false, &result), E_USAGE);
    assert_int_equal(dk_place_number(&place, ROWS), all);
    ASSERT_CODE(prune(d, born + day_us, false, &result), OK);
    assert_int_equal(result.rows, old);
    assert_int_equal(dk_place_number(&place, ROWS), all - old + 1);
    assert_int_equal(findings(d), 0);
    ASSERT_CODE(prune(d, born + day_us, false, &result), OK); /* and nothing more */
    assert_int_equal(result.rows, 0);
    assert_int_equal(dk_place_number(&place, PRUNES), 1);
    dk_place_close(d);
    dk_place_free(&place);
}

static void R28_nothing_is_pruned_while_there_are_findings(void **state)
{
    (void)state;
    struct dk_place place;
    struct dekhand_prune result;
    struct dekhand *d = used(&place);
    place.w.wall_us += day_us;
    dk_place_drop_triggers(&place, "key_rotation_log");
    let(&place, "UPDATE key_rotation_log SET performed_by = "
                "'mallory' WHERE operation = 'rotate'");
    int64_t all = dk_place_number(&place, ROWS);
    ASSERT_CODE(prune(d, place.w.wall_us, false, &result), E_TAMPERED);
    assert_int_equal(dk_place_number(&place, ROWS), all);
    dk_place_close(d);
    dk_place_free(&place);
}

static void R28_raw_sql_deletes_no_row_that_was_not_pruned(void **state)
{
    (void)state;
    struct dk_place place;
    struct dekhand_prune result;
    struct dekhand *d = used(&place);
    assert_int_not_equal(dk_place_sql(&place, "DELETE FROM key_rotation_log"), 0);
    place.w.wall_us += day_us;
    ASSERT_CODE(prune(d, place.w.wall_us, false, &result), OK);
    use(d, "initech");
    assert_int_not_equal(dk_place_sql(&place, "DELETE FROM key_rotation_log"), 0);
    assert_int_not_equal(dk_place_sql(&place, "UPDATE registry SET pruned_seq = 0"), 0);
    assert_int_equal(findings(d), 0);
    dk_place_close(d);
    dk_place_free(&place);
}

static void R28_rows_under_an_earlier_registry_key_go_too(void **state)
{
    (void)state;
    struct dk_place place;
    struct dekhand_prune result;
    struct dekhand_rekey rekey = {.size = sizeof rekey};
    struct dekhand *d = used(&place);
    int64_t old = dk_place_number(&place, ROWS);
    place.w.wall_us += day_us;
    ASSERT_CODE(dekhand_registry_rekey(d, false, NULL, NULL, &rekey, NULL), OK);
    ASSERT_CODE(prune(d, place.w.wall_us, false, &result), OK);
    assert_int_equal(result.rows, old);
    ASSERT_CODE(dk_test_rotate(d, "globex", 0, NULL), OK);
    assert_int_equal(findings(d), 0);
    place.w.wall_us += day_us;
    ASSERT_CODE(prune(d, place.w.wall_us, false, &result), OK); /* the seals of the rekey too */
    assert_int_equal(findings(d), 0);
    rekey.size = sizeof rekey;
    ASSERT_CODE(dekhand_registry_rekey(d, false, NULL, NULL, &rekey, NULL), OK);
    assert_int_equal(findings(d), 0); /* its proof is under the key before */
    dk_place_close(d);
    dk_place_free(&place);
}

/* ---- cut short ------------------------------------------------------------------------------- */

enum { BATCH = 150, BATCHES = 15, PAGE = 1000 };

static void make_rows(struct dekhand *d)
{
    static uint8_t out[BATCH][DK_TEST_VALUE];
    static char names[BATCH][16];
    static struct dekhand_item items[BATCH];
    for (size_t batch = 0; batch < BATCHES; batch++) {
        for (size_t i = 0; i < BATCH; i++) {
            snprintf(names[i], sizeof names[i], "t%02u-%03u", (unsigned)batch, (unsigned)i);
            items[i] =
                (struct dekhand_item){.tenant = names[i], .out = out[i], .capacity = sizeof out[i]};
        }
        ASSERT_CODE(dekhand_encrypt_batch(d, items, BATCH, NULL), OK);
    }
}

static void die_at_page(void *arg, const char *label)
{
    int *pages = arg;
    if (strcmp(label, "prune.page_deleted") == 0 && ++*pages == 2) {
        raise(SIGKILL);
    }
}

static int begin_and_die(void *arg)
{
    struct dk_place *place = arg;
    struct dekhand_prune result;
    int pages = 0;
    struct dekhand *d = dk_place_open(place);
    d->in->world.trace = die_at_page;
    d->in->world.trace_arg = &pages;
    return prune(d, place->w.wall_us, false, &result);
}

static void R28_a_prune_that_was_cut_short_is_ended_by_the_next(void **state)
{
    (void)state;
    struct dk_place place;
    struct dekhand_prune result;
    int status = 0;
    dk_place_new(&place, false);
    struct dekhand *d = dk_place_open(&place);
    make_rows(d);
    seal_now(&place, d);
    place.w.wall_us += day_us;
    int64_t all = dk_place_number(&place, ROWS);
    assert_true(all > 2 * PAGE);
    int pid = dk_test_child_start(false, begin_and_die, &place);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    assert_int_equal(dk_place_number(&place, ROWS), all - PAGE + 1);
    assert_int_equal(findings(d), 0); /* half gone: every row that is left is believed */
    ASSERT_CODE(dk_test_rotate(d, "t00-000", 0, NULL), OK);
    ASSERT_CODE(dk_test_rotate(d, "t14-149", 0, NULL), OK);
    assert_int_equal(findings(d), 0);
    ASSERT_CODE(prune(d, place.w.wall_us, true, &result), OK);
    assert_int_equal(result.rows, all - PAGE);
    ASSERT_CODE(prune(d, place.w.wall_us, false, &result), OK);
    assert_int_equal(result.rows, all - PAGE);
    assert_int_equal(dk_place_number(&place, PRUNES), 1);
    assert_int_equal(findings(d), 0);
    dk_place_close(d);
    dk_place_free(&place);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(R28_what_is_left_of_a_pruned_log_verifies),
        cmocka_unit_test(R28_only_rows_in_seals_of_before_the_moment_go),
        cmocka_unit_test(R28_nothing_is_pruned_while_there_are_findings),
        cmocka_unit_test(R28_raw_sql_deletes_no_row_that_was_not_pruned),
        cmocka_unit_test(R28_rows_under_an_earlier_registry_key_go_too),
        cmocka_unit_test(R28_a_prune_that_was_cut_short_is_ended_by_the_next),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
