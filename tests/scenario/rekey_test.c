/* A new registry key under running instances, cut short, twice at once, and attacked. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "support/world.h"

#define ASSERT_CODE(call, code) assert_string_equal(dekhand_error_name(call), #code)

enum { MANY = 150 }; /* tenants: more than a page of a rekey */

/* ---- what a test does ------------------------------------------------------------------------ */

static int rekey(struct dekhand *d, bool leave, struct dekhand_rekey *out)
{
    struct dekhand_error error;
    *out = (struct dekhand_rekey){.size = sizeof *out};
    int code = dekhand_registry_rekey(d, leave, NULL, NULL, out, &error);
    if (code != DEKHAND_OK) {
        print_message("%s\n", error.text);
    }
    return code;
}

static struct dekhand_registry_info info_of(struct dekhand *d)
{
    struct dekhand_registry_info info = {.size = sizeof info};
    ASSERT_CODE(dekhand_registry(d, &info, NULL), OK);
    return info;
}

static void show(void *arg, const struct dekhand_finding *finding)
{
    (void)arg;
    print_message("%s %s: %s\n", finding->table, finding->row, finding->text);
}

static int64_t findings(struct dekhand *d)
{
    struct dekhand_audit_result result = {.size = sizeof result};
    ASSERT_CODE(dekhand_audit_verify(d, show, NULL, &result, NULL), OK);
    return result.findings;
}

static void name_of(size_t i, char out[static 16])
{
    snprintf(out, 16, "t%03u", (unsigned)i);
}

static void make_tenants(struct dekhand *d, size_t count)
{
    static uint8_t out[MANY][DK_TEST_VALUE];
    static char names[MANY][16];
    static struct dekhand_item items[MANY];
    for (size_t i = 0; i < count; i++) {
        name_of(i, names[i]);
        items[i] =
            (struct dekhand_item){.tenant = names[i], .out = out[i], .capacity = sizeof out[i]};
    }
    ASSERT_CODE(dekhand_encrypt_batch(d, items, count, NULL), OK);
}

static void let(struct dk_place *place, const char *sql)
{
    assert_int_equal(dk_place_sql(place, sql), 0);
}

/* The same with no trigger in its way. */
static void forge(struct dk_place *place, const char *sql)
{
    static const char *const tables[] = {"registry", "registry_keys", "tenants", "encryption_keys"};
    for (size_t i = 0; i < sizeof tables / sizeof tables[0]; i++) {
        dk_place_drop_triggers(place, tables[i]);
    }
    let(place, sql);
    dk_place_mend(place);
}

/* A child begins a rekey and is killed after `pages` pages of it. */
struct cut {
    struct dk_place *place;
    int pages;
};

static void die_at_page(void *arg, const char *label)
{
    struct cut *cut = arg;
    if (strcmp(label, "rekey.page_moved") == 0 && cut->pages-- == 1) {
        raise(SIGKILL);
    }
}

static int begin_and_die(void *arg)
{
    struct cut *cut = arg;
    struct dekhand_rekey result;
    struct dekhand *d = dk_place_open(cut->place);
    d->in->world.trace = die_at_page;
    d->in->world.trace_arg = cut;
    return rekey(d, false, &result);
}

static void cut_short(struct dk_place *place)
{
    struct cut cut = {place, 1};
    int status = 0;
    int pid = dk_test_child_start(false, begin_and_die, &cut);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

/* ---- another process rekeys ------------------------------------------------------------------ */

static void a_running_instance_follows_a_rekey(void **state)
{
    (void)state;
    struct dk_place place;
    struct dk_test_value before, after;
    struct dekhand_rekey result;
    uint32_t version = 0;
    dk_place_new(&place, false);
    place.keep_log = true;
    struct dekhand *running = dk_place_open(&place);
    ASSERT_CODE(dk_test_encrypt(running, "acme", "before", &before), OK);
    struct dekhand *other = dk_place_open(&place);
    ASSERT_CODE(rekey(other, false, &result), OK);
    assert_true(result.begun);
    assert_int_equal(result.generation, 2);
    assert_int_equal(result.tenants, 1);
    dk_place_close(other);
    ASSERT_CODE(dk_test_rotate(running, "acme", 0, &version), OK);
    assert_int_equal(version, 2);
    ASSERT_CODE(dk_test_encrypt(running, "globex", "new", &after), OK);
    ASSERT_CODE(dk_test_decrypt(running, "acme", &before, "before"), OK);
    assert_string_equal(info_of(running).pin, result.pin);
    assert_string_not_equal(result.pin, place.made.pin);
    assert_int_equal(findings(running), 0);
    assert_null(strstr(place.log, "went_back"));
    dk_place_close(running);
    assert_true(dk_place_reads(&place, "acme", &before, "before"));
    dk_place_free(&place);
}

static void it_follows_several_rekeys_at_once_and_its_child_too(void **state)
{
    (void)state;
    struct dk_place place;
    struct dk_test_value value;
    struct dekhand_rekey result;
    dk_place_new(&place, false);
    struct dekhand *running = dk_place_open(&place);
    ASSERT_CODE(dk_test_encrypt(running, "acme", "x", &value), OK);
    for (uint32_t generation = 2; generation < 5; generation++) {
        struct dekhand *other = dk_place_open(&place);
        ASSERT_CODE(rekey(other, false, &result), OK);
        assert_int_equal(result.generation, generation);
        dk_place_close(other);
    }
    assert_int_equal(info_of(running).generation, 4);
    assert_int_equal(findings(running), 0);
    int status = 0, pid = fork();
    if (pid == 0) {
        _exit(dk_test_decrypt(running, "acme", &value, "x"));
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    dk_place_close(running);
    dk_place_free(&place);
}

/* ---- cut short ------------------------------------------------------------------------------- */

static void R3_a_rekey_that_was_cut_short_works_and_is_gone_on_with(void **state)
{
    (void)state;
    struct dk_place place;
    struct dekhand_rekey result;
    struct dk_test_value value;
    char name[16];
    dk_place_new(&place, false);
    struct dekhand *running = dk_place_open(&place);
    make_tenants(running, MANY);
    cut_short(&place);
    struct dekhand *fresh = dk_place_open(&place);
    struct dekhand_registry_info info = info_of(fresh);
    assert_true(info.rekeying);
    assert_int_equal(info.generation, 2);
    for (size_t i = 0; i < MANY; i += 25) { /* of a page that moved, and of one that did not */
        name_of(i, name);
        ASSERT_CODE(dk_test_encrypt(fresh, name, "x", &value), OK);
        ASSERT_CODE(dk_test_rotate(running, name, 0, NULL), OK);
        ASSERT_CODE(dk_test_decrypt(fresh, name, &value, "x"), OK);
    }
    ASSERT_CODE(dk_test_encrypt(running, "new", "x", &value), OK);
    assert_int_equal(findings(fresh), 0);
    ASSERT_CODE(rekey(fresh, false, &result), OK);
    assert_false(result.begun);
    assert_int_equal(result.generation, 2);
    assert_string_equal(result.pin, info.pin);
    assert_true(result.tenants > 0 && result.tenants < MANY);
    assert_false(info_of(running).rekeying);
    assert_int_equal(findings(running), 0);
    dk_place_close(running);
    dk_place_close(fresh);
    dk_place_free(&place);
}

static int rekey_now(void *arg, size_t i)
{
    (void)i;
    struct dk_place *place = arg;
    struct dekhand_rekey result;
    struct dekhand *d = dk_place_open(place);
    int code = rekey(d, false, &result);
    dk_place_close(d);
    return code;
}

static void F36_rekeys_at_once_make_no_second_key_while_one_is_unfinished(void **state)
{
    (void)state;
    struct dk_place place;
    dk_place_new(&place, false);
    struct dekhand *d = dk_place_open(&place);
    make_tenants(d, MANY);
    assert_true(dk_test_processes(4, rekey_now, &place));
    uint32_t generation = info_of(d).generation;
    assert_in_range(generation, 2, 5);
    assert_false(info_of(d).rekeying);
    assert_int_equal(findings(d), 0);
    assert_int_equal(dk_place_number(&place, "SELECT count(*) FROM key_rotation_log WHERE "
                                             "operation = 'rekey'"),
                     generation - 1);
    assert_int_equal(dk_place_number(&place, "SELECT count(*) FROM key_rotation_log WHERE "
                                             "operation = 'rekey-end'"),
                     generation - 1);
    dk_place_close(d);
    dk_place_free(&place);
}

/* ---- threads --------------------------------------------------------------------------------- */

enum { THREADS = 3, ROUNDS = 12 };

struct busy {
    struct dk_place *place;
    struct dekhand *d;
    atomic_int running;
    int codes[THREADS + 1];
};

/* The last thread rekeys; the others use keys that are not in hand, until it is done. */
static void keep_busy(void *arg, size_t index)
{
    struct busy *busy = arg;
    struct dekhand_rekey result;
    struct dk_test_value value;
    char name[16];
    int code = DEKHAND_OK;
    if (index == THREADS) {
        for (int i = 0; i < ROUNDS && code == DEKHAND_OK; i++) {
            struct dekhand *other = dk_place_open(busy->place);
            code = rekey(other, false, &result);
            dk_place_close(other);
        }
        atomic_store(&busy->running, 0);
    }
    for (size_t i = 0; atomic_load(&busy->running) && code == DEKHAND_OK; i++) {
        name_of(i % MANY, name);
        code = dk_test_encrypt(busy->d, name, "x", &value);
        code = code == DEKHAND_OK && i % 7 == 0 ? dk_test_rotate(busy->d, name, 0, NULL) : code;
        code = code == DEKHAND_E_CONFLICT ? DEKHAND_OK : code; /* two threads, one tenant */
        if (code == DEKHAND_OK) {
            code = dk_test_decrypt(busy->d, name, &value, "x");
        }
    }
    busy->codes[index] = code;
}

static void threads_see_no_error_while_others_rekey(void **state)
{
    (void)state;
    struct dk_place place;
    dk_place_new(&place, false);
    place.limits.max_keys = 16;
    struct busy busy = {.place = &place, .running = 1};
    busy.d = dk_place_open(&place);
    make_tenants(busy.d, MANY);
    dk_test_threads(THREADS + 1, keep_busy, &busy);
    for (size_t i = 0; i <= THREADS; i++) {
        assert_string_equal(dekhand_error_name(busy.codes[i]), "OK");
    }
    assert_int_equal(info_of(busy.d).generation, ROUNDS + 1);
    assert_int_equal(findings(busy.d), 0);
    dk_place_close(busy.d);
    dk_place_free(&place);
}

/* ---- rows that are damaged ------------------------------------------------------------------- */

static void damaged_rows_keep_it_unfinished_until_they_are_left(void **state)
{
    (void)state;
    struct dk_place place;
    struct dk_test_value value;
    struct dekhand_rekey result;
    dk_place_new(&place, false);
    struct dekhand *d = dk_place_open(&place);
    ASSERT_CODE(dk_test_encrypt(d, "acme", "x", &value), OK);
    make_tenants(d, 3);
    forge(&place, "UPDATE encryption_keys SET expires_at = created_at WHERE tenant_id = "
                  "'acme'");
    ASSERT_CODE(rekey(d, false, &result), E_TAMPERED);
    assert_int_equal(result.damaged, 1);
    assert_true(result.tenants >= 3);
    assert_true(info_of(d).rekeying);
    ASSERT_CODE(rekey(d, false, &result), E_TAMPERED);
    assert_false(result.begun);
    ASSERT_CODE(rekey(d, true, &result), OK);
    assert_int_equal(result.damaged, 1);
    assert_false(info_of(d).rekeying);
    dk_place_close(d);
    assert_false(dk_place_reads(&place, "acme", &value, "x"));
    dk_place_free(&place);
}

static void I04_a_rekey_makes_no_old_rows_good(void **state)
{
    (void)state;
    struct dk_place place;
    struct dk_test_value value;
    struct dekhand_rekey result;
    dk_place_new(&place, false);
    struct dekhand *d = dk_place_open(&place);
    ASSERT_CODE(dk_test_encrypt(d, "acme", "x", &value), OK);
    ASSERT_CODE(dk_test_rotate(d, "acme", 0, NULL), OK);
    forge(&place, "DELETE FROM encryption_keys WHERE version = 2");
    ASSERT_CODE(rekey(d, true, &result), OK);
    dk_place_close(d);
    d = dk_place_open(&place);
    ASSERT_CODE(dk_test_encrypt(d, "acme", "x", &value), E_ROLLBACK);
    dk_place_close(d);
    dk_place_free(&place);
}

/* ---- who writes to the database -------------------------------------------------------------- */

#define OLD_ROWS                                                                                   \
    "CREATE TABLE kept_t AS SELECT * FROM tenants; CREATE TABLE kept_k AS SELECT * FROM "          \
    "encryption_keys; CREATE TABLE kept_r AS SELECT * FROM registry"
#define PUT_BACK                                                                                   \
    "UPDATE tenants SET (row_mac, keys_digest) = (SELECT row_mac, keys_digest FROM kept_t k "      \
    "WHERE k.tenant_id = tenants.tenant_id); UPDATE encryption_keys SET row_mac = (SELECT "        \
    "row_mac FROM kept_k k WHERE k.id = encryption_keys.id); "

/* Beside what is dekhand's: a schema with tables of others in it is not mended. */
static void keep_old_rows(struct dk_place *place)
{
    let(place, OLD_ROWS);
    if (dk_place_is_postgres(place)) {
        let(place, "ALTER TABLE kept_t SET SCHEMA public; ALTER TABLE kept_k SET SCHEMA public; "
                   "ALTER TABLE kept_r SET SCHEMA public");
    }
}

static void I04_rows_under_the_old_key_are_nothing_once_it_is_over(void **state)
{
    (void)state;
    struct dk_place place;
    struct dk_test_value value, more;
    struct dekhand_rekey result;
    dk_place_new(&place, false);
    struct dekhand *d = dk_place_open(&place);
    ASSERT_CODE(dk_test_encrypt(d, "acme", "x", &value), OK);
    dk_place_close(d);
    keep_old_rows(&place);
    cut_short(&place);
    forge(&place, PUT_BACK); /* unfinished: they are believed */
    assert_true(dk_place_reads(&place, "acme", &value, "x"));
    struct dekhand *held = dk_place_open(&place); /* holds the key before */
    ASSERT_CODE(dk_test_encrypt(held, "acme", "x", &more), OK);
    d = dk_place_open(&place);
    ASSERT_CODE(rekey(d, false, &result), OK);
    dk_place_close(d);
    forge(&place, PUT_BACK);
    assert_false(dk_place_reads(&place, "acme", &value, "x"));
    forge(&place, "UPDATE registry SET rekeying = true"); /* the hint is a hint: the seals decide */
    assert_false(dk_place_reads(&place, "acme", &value, "x"));
    ASSERT_CODE(dk_test_rotate(held, "acme", 0, NULL), E_TAMPERED);
    d = dk_place_open(&place);
    assert_true(findings(d) > 0);
    dk_place_close(d);
    dk_place_close(held);
    dk_place_free(&place);
}

static void a_hint_that_lies_is_put_right_by_the_next_rekey(void **state)
{
    (void)state;
    struct dk_place place;
    struct dk_test_value value;
    struct dekhand_rekey result;
    char name[16];
    dk_place_new(&place, false);
    struct dekhand *d = dk_place_open(&place);
    make_tenants(d, MANY);
    name_of(MANY - 1, name);
    dk_place_close(d);
    cut_short(&place);
    forge(&place, "UPDATE registry SET rekeying = false"); /* it is not over */
    d = dk_place_open(&place);
    ASSERT_CODE(dk_test_encrypt(d, name, "x", &value), E_TAMPERED);
    assert_int_equal(findings(d), 1);
    ASSERT_CODE(rekey(d, false, &result), OK);
    assert_int_equal(result.generation, 2);
    ASSERT_CODE(dk_test_encrypt(d, name, "x", &value), OK);
    assert_int_equal(findings(d), 0);
    forge(&place, "UPDATE registry SET rekeying = true"); /* it is over */
    assert_int_equal(findings(d), 1);
    ASSERT_CODE(rekey(d, false, &result), OK);
    assert_int_equal(result.generation, 3);
    assert_int_equal(findings(d), 0);
    dk_place_close(d);
    dk_place_free(&place);
}

static void a_running_instance_follows_no_row_but_the_seals(void **state)
{
    (void)state;
    struct dk_place place;
    struct dk_test_value value;
    struct dekhand_rekey result;
    dk_place_new(&place, false);
    place.keep_log = true;
    struct dekhand *d = dk_place_open(&place);
    ASSERT_CODE(dk_test_encrypt(d, "acme", "x", &value), OK);
    keep_old_rows(&place);
    ASSERT_CODE(rekey(d, false, &result), OK);
    /* the old wrap again, as if it were the next key */
    forge(&place,
          "INSERT INTO registry_keys SELECT 2, provider, kms_key_id, encrypted_data_key, "
          "context_timestamp, (SELECT max(n) FROM seals) FROM registry; UPDATE registry SET "
          "(encrypted_data_key, context_timestamp, kms_key_id) = (SELECT encrypted_data_key, "
          "context_timestamp, kms_key_id FROM kept_r), generation = 3");
    ASSERT_CODE(dk_test_rotate(d, "acme", 0, NULL), OK); /* under the key that it has */
    assert_string_equal(info_of(d).pin, result.pin);
    assert_non_null(strstr(place.log, "registry_key_not_followed"));
    dk_place_close(d);
    struct dekhand_error error;
    assert_int_equal(dk_place_try_open(&place, &d, &error), DEKHAND_E_TAMPERED); /* the anchor */
    dk_place_free(&place);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_running_instance_follows_a_rekey),
        cmocka_unit_test(it_follows_several_rekeys_at_once_and_its_child_too),
        cmocka_unit_test(R3_a_rekey_that_was_cut_short_works_and_is_gone_on_with),
        cmocka_unit_test(F36_rekeys_at_once_make_no_second_key_while_one_is_unfinished),
        cmocka_unit_test(threads_see_no_error_while_others_rekey),
        cmocka_unit_test(damaged_rows_keep_it_unfinished_until_they_are_left),
        cmocka_unit_test(I04_a_rekey_makes_no_old_rows_good),
        cmocka_unit_test(I04_rows_under_the_old_key_are_nothing_once_it_is_over),
        cmocka_unit_test(a_hint_that_lies_is_put_right_by_the_next_rekey),
        cmocka_unit_test(a_running_instance_follows_no_row_but_the_seals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
