#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include <errno.h>
#include <glob.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "support/world.h"

#define ASSERT_CODE(call, code) assert_string_equal(dekhand_error_name(call), #code)

/* ---- where a process is killed --------------------------------------------------------------- */

enum step {
    INIT,
    FIRST_USE,
    BATCH,
    ROTATE,
    COMPROMISE,
    ROTATE_ALL,
    REKEY,
    REWRAP,
    FILL,
    WARN,
    PRUNE,
    SEAL
};

/* In SQLite each change seals; in PostgreSQL who polls, for all. */
enum where { EVERYWHERE, IN_SQLITE, IN_POSTGRES };

static const struct {
    enum step step;
    const char *label;
    int hit; /* killed when it passes there this many times */
    enum where where;
} points[] = {
    {INIT, "migrate.step", 1, EVERYWHERE},
    {INIT, "migrate.before_commit", 1, IN_POSTGRES},
    {INIT, "init.master_key_made", 1, EVERYWHERE},
    {INIT, "init.registry_key_generated", 1, EVERYWHERE},
    {INIT, "init.registry_key_stored", 1, EVERYWHERE},
    {INIT, "init.page_sealed", 1, EVERYWHERE},
    {FIRST_USE, "first_use.begin", 1, EVERYWHERE},
    {FIRST_USE, "first_use.generated", 1, EVERYWHERE},
    {FIRST_USE, "first_use.tenant_inserted", 1, EVERYWHERE},
    {FIRST_USE, "first_use.key_inserted", 1, IN_SQLITE},
    {FIRST_USE, "first_use.log_written", 1, IN_SQLITE},
    {FIRST_USE, "change.sealed", 1, IN_SQLITE},
    {FIRST_USE, "first_use.before_commit", 1, EVERYWHERE},
    {FIRST_USE, "first_use.committed", 1, EVERYWHERE},
    {FIRST_USE, "first_use.read_back", 1, EVERYWHERE},
    {FIRST_USE, "unwrap.log_written", 1, EVERYWHERE},
    {BATCH, "first_use.key_inserted", 2, IN_SQLITE},
    {BATCH, "first_use.tenant_inserted", 3, IN_SQLITE},
    {BATCH, "first_use.tenant_inserted", 1, IN_POSTGRES}, /* all of them at once */
    {BATCH, "first_use.committed", 1, EVERYWHERE},
    {ROTATE, "rotate.begin", 1, EVERYWHERE},
    {ROTATE, "rotate.generated", 1, EVERYWHERE},
    {ROTATE, "rotate.locked", 1, EVERYWHERE},
    {ROTATE, "tenant_change.tenant_updated", 1, EVERYWHERE},
    {ROTATE, "rotate.old_retired", 1, EVERYWHERE},
    {ROTATE, "rotate.key_inserted", 1, EVERYWHERE},
    {ROTATE, "tenant_change.log_written", 1, EVERYWHERE},
    {ROTATE, "change.sealed", 1, IN_SQLITE},
    {ROTATE, "rotate.before_commit", 1, EVERYWHERE},
    {ROTATE, "rotate.committed", 1, EVERYWHERE},
    {ROTATE, "rotate.read_back", 1, EVERYWHERE},
    {COMPROMISE, "rotate.old_retired", 1, EVERYWHERE},
    {COMPROMISE, "rotate.committed", 1, EVERYWHERE},
    {ROTATE_ALL, "rotate.old_retired", 2, EVERYWHERE},
    {ROTATE_ALL, "rotate.committed", 2, EVERYWHERE},
    {REKEY, "rekey.generated", 1, EVERYWHERE},
    {REKEY, "rekey.handed_over", 1, EVERYWHERE},
    {REKEY, "rekey.key_stored", 1, EVERYWHERE},
    {REKEY, "rekey.before_commit", 1, EVERYWHERE},
    {REKEY, "rekey.begun", 1, EVERYWHERE},
    {REKEY, "rekey.keys_moved", 1, EVERYWHERE},
    {REKEY, "rekey.tenant_moved", 1, EVERYWHERE},
    {REKEY, "rekey.tenant_moved", 2, EVERYWHERE},
    {REKEY, "rekey.page_moved", 1, EVERYWHERE},
    {REKEY, "rekey.before_end", 1, EVERYWHERE},
    {REKEY, "rekey.ended", 1, EVERYWHERE},
    {REWRAP, "rewrap.registry_wrapped", 1, EVERYWHERE},
    {REWRAP, "rewrap.registry_changed", 1, EVERYWHERE},
    {REWRAP, "rewrap.opened", 1, EVERYWHERE},
    {REWRAP, "rewrap.key_changed", 1, EVERYWHERE},
    {REWRAP, "tenant_change.tenant_updated", 1, EVERYWHERE},
    {REWRAP, "rewrap.before_commit", 2, EVERYWHERE},
    {REWRAP, "rewrap.committed", 1, EVERYWHERE},
    {REWRAP, "rewrap.committed", 2, EVERYWHERE},
    {FILL, "further.registry_read", 1, EVERYWHERE},
    {FILL, "further.worked", 1, EVERYWHERE},
    {WARN, "change.sealed", 1, IN_SQLITE},
    {WARN, "warning.sealed", 1, EVERYWHERE},
    {PRUNE, "prune.log_written", 1, EVERYWHERE},
    {PRUNE, "prune.page_deleted", 1, EVERYWHERE},
    {PRUNE, "change.sealed", 1, EVERYWHERE},
    {PRUNE, "prune.before_commit", 1, EVERYWHERE},
    {PRUNE, "prune.begun", 1, EVERYWHERE},
    {PRUNE, "prune.page_deleted", 2, EVERYWHERE},
    {PRUNE, "prune.ended", 1, EVERYWHERE},
    {SEAL, "change.sealed", 1, IN_POSTGRES},
};
#define POINTS (sizeof points / sizeof points[0])

/* Whether there is anything to be killed at, of that step. */
static bool is_point(size_t i, enum step step)
{
    bool postgres = dk_test_store() != DK_SQLITE;
    return points[i].step == step && points[i].where != (postgres ? IN_SQLITE : IN_POSTGRES);
}

static void say(const char *what, size_t i)
{
    print_message("%s %s (%d)\n", what, points[i].label, points[i].hit);
}

/* ---- the process that dies ------------------------------------------------------------------- */

enum { VALUES = 8 };

/* What callers were told before the end: lives in shared memory. */
struct told {
    size_t count;
    struct {
        char tenant[16];
        char plain[16];
        struct dk_test_value value;
    } values[VALUES];
};

struct victim {
    struct dk_place *place;
    struct told *told;
    size_t point;
    int hits;
};

static void die_there(void *arg, const char *label)
{
    struct victim *victim = arg;
    if (strcmp(label, points[victim->point].label) == 0 &&
        ++victim->hits == points[victim->point].hit) {
        raise(SIGKILL);
    }
}

static void tell(struct told *told, const char *tenant, const char *plain,
                 const struct dk_test_value *value)
{
    snprintf(told->values[told->count].tenant, 16, "%s", tenant);
    snprintf(told->values[told->count].plain, 16, "%s", plain);
    told->values[told->count].value = *value;
    told->count++;
}

static int write_value(struct dekhand *d, struct told *told, const char *tenant, const char *plain)
{
    struct dk_test_value value;
    int code = dk_test_encrypt(d, tenant, plain, &value);
    if (code == DEKHAND_OK) {
        tell(told, tenant, plain, &value);
    }
    return code;
}

static int write_batch(struct dekhand *d)
{
    static const char *const tenants[] = {"acme", "initech", "umbrella"};
    uint8_t out[3][DK_TEST_VALUE];
    struct dekhand_item items[3] = {0};
    for (size_t i = 0; i < 3; i++) {
        items[i].tenant = tenants[i];
        items[i].out = out[i];
        items[i].capacity = sizeof out[i];
    }
    return dekhand_encrypt_batch(d, items, 3, NULL);
}

static int rotate(struct dekhand *d, enum step step)
{
    struct dekhand_rotate_args args = {.size = sizeof args,
                                       .which = step == ROTATE_ALL ? DEKHAND_ROTATE_ALL
                                                                   : DEKHAND_ROTATE_TENANT,
                                       .tenant = step == ROTATE_ALL ? NULL : "acme",
                                       .compromised = step == COMPROMISE};
    return dekhand_rotate(d, &args, NULL, NULL, NULL);
}

static int rekey(struct dekhand *d, struct dekhand_rekey *out)
{
    *out = (struct dekhand_rekey){.size = sizeof *out};
    return dekhand_registry_rekey(d, false, NULL, NULL, out, NULL);
}

static int rewrap(struct dekhand *d)
{
    struct dekhand_rewrap done = {.size = sizeof done};
    int code = dekhand_rewrap(d, "fake", NULL, NULL, NULL, NULL, &done, NULL);
    return code == DEKHAND_OK ? done.failed_code : code;
}

static int prune(struct dekhand *d, int64_t before, struct dekhand_prune *out)
{
    *out = (struct dekhand_prune){.size = sizeof *out};
    return dekhand_audit_prune(d, before, false, out, NULL);
}

static int prune_now(struct dekhand *d)
{
    struct dekhand_prune ignored;
    return prune(d, dk_wall_us(&d->in->world), &ignored);
}

/* The application's tick: what was written goes into seals. */
static int seal_now(struct dekhand *d, struct dk_place *place)
{
    place->w.mono_ms += place->limits.poll_ms;
    return dekhand_tick(d, NULL);
}

/* The tick that makes wraps of the second provider. */
static int fill(struct dekhand *d, struct dk_place *place)
{
    place->w.mono_ms += 600000;
    return dekhand_tick(d, NULL);
}

static int do_step(struct dekhand *d, const struct victim *victim, enum step step)
{
    struct dekhand_rekey ignored;
    return step == FIRST_USE ? write_value(d, victim->told, "acme", "lost")
           : step == BATCH   ? write_batch(d)
           : step == REKEY   ? rekey(d, &ignored)
           : step == REWRAP  ? rewrap(d)
           : step == FILL    ? fill(d, victim->place)
           : step == WARN    ? dekhand_warnings(d, NULL, NULL, NULL)
           : step == PRUNE   ? prune_now(d)
           : step == SEAL    ? seal_now(d, victim->place)
                             : rotate(d, step);
}

/* Comes back only when the label is not passed. */
static int be_killed(void *arg)
{
    struct victim *victim = arg;
    struct dk_place *place = victim->place;
    enum step step = points[victim->point].step;
    struct dekhand_error error;
    if (step == INIT) {
        place->w.world.trace = die_there;
        place->w.world.trace_arg = victim;
        return dk_place_init(place, &error);
    }
    struct dekhand *d = dk_place_open(place);
    int code = write_value(d, victim->told, "globex", "before");
    if (step >= ROTATE && code == DEKHAND_OK) {
        code = write_value(d, victim->told, "acme", "before");
    }
    if (step == PRUNE && code == DEKHAND_OK) {
        code = seal_now(d, place);
    }
    place->w.wall_us += step == WARN ? 84 * DK_DAY_US : 0;
    place->w.wall_us++; /* what was written is of before now */
    d->in->world.trace = die_there;
    d->in->world.trace_arg = victim;
    return code == DEKHAND_OK ? do_step(d, victim, step) : code;
}

static void kill_at(struct dk_place *place, struct told *told, size_t point)
{
    struct victim victim = {.place = place, .told = told, .point = point};
    int status = 0;
    int pid = dk_test_child_start(false, be_killed, &victim);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL) {
        fail_msg("%s was not passed: status 0x%x", points[point].label, (unsigned)status);
    }
}

/* ---- what is left ---------------------------------------------------------------------------- */

static void all_told_is_readable(struct dk_place *place, const struct told *told)
{
    for (size_t i = 0; i < told->count; i++) {
        assert_true(dk_place_reads(place, told->values[i].tenant, &told->values[i].value,
                                   told->values[i].plain));
    }
}

static void the_store_is_whole(struct dk_place *place)
{
    assert_true(dk_place_is_postgres(place) ||
                dk_place_number(place, "SELECT integrity_check = 'ok' FROM pragma_integrity_check "
                                       "LIMIT 1") == 1);
    int64_t tenants = dk_place_number(place, "SELECT count(*) FROM tenants");
    assert_int_equal(
        dk_place_number(place, "SELECT count(*) FROM encryption_keys WHERE state = 'active'"),
        tenants);
    assert_int_equal(dk_place_number(place, "SELECT count(*) FROM tenants t WHERE next_version = "
                                            "(SELECT max(version) + 1 FROM encryption_keys k WHERE "
                                            "k.tenant_id = t.tenant_id)"),
                     tenants);
    if (dk_place_number(place, "SELECT pruned_seq FROM registry") != 0) {
        return;
    }
    /* the history and the keys tell the same story */
    assert_int_equal(dk_place_number(place,
                                     "SELECT count(*) FROM key_rotation_log WHERE success "
                                     "AND operation NOT IN ('decrypt', 'rewrap') AND tenant_id <> "
                                     "'*'"),
                     dk_place_number(place, "SELECT count(*) FROM encryption_keys"));
}

static void life_goes_on(struct dk_place *place, struct told *told)
{
    struct dekhand *d = dk_place_open(place);
    ASSERT_CODE(write_value(d, told, "acme", "after"), OK);
    uint32_t from = dk_test_version(&told->values[told->count - 1].value), to = 0;
    ASSERT_CODE(dk_test_rotate(d, "acme", from, &to), OK);
    assert_int_equal(to, from + 1);
    ASSERT_CODE(write_value(d, told, "acme", "rotated"), OK);
    assert_int_equal(dk_test_version(&told->values[told->count - 1].value), to);
    ASSERT_CODE(write_value(d, told, "globex", "after"), OK);
    dk_place_close(d);
}

/* Who rewraps has somewhere to rewrap to. */
static void add_second(struct dk_place *place, size_t point)
{
    if (points[point].step == REWRAP || points[point].step == FILL) {
        place->fake = dk_fake_new();
        place->fake_is_second = true;
    }
}

static void R3_I06_a_process_killed_at_any_point_loses_nothing_told(void **state)
{
    (void)state;
    for (size_t i = 0; i < POINTS; i++) {
        struct dk_place place;
        struct told *told = dk_test_shared(sizeof *told);
        if (!is_point(i, points[i].step) || points[i].step == INIT) {
            continue;
        }
        say("killed at", i);
        dk_place_new(&place, false);
        add_second(&place, i);
        kill_at(&place, told, i);
        assert_int_not_equal(told->count, 0);
        the_store_is_whole(&place);
        all_told_is_readable(&place, told);
        life_goes_on(&place, told);
        the_store_is_whole(&place);
        all_told_is_readable(&place, told);
        dk_place_free(&place);
    }
}

static void R3_init_killed_at_any_point_is_repeated(void **state)
{
    (void)state;
    for (size_t i = 0; i < POINTS; i++) {
        struct dk_place place;
        struct dekhand_error error;
        struct told *told = dk_test_shared(sizeof *told);
        if (!is_point(i, INIT)) {
            continue;
        }
        say("killed at", i);
        dk_place_bare(&place, false);
        kill_at(&place, told, i);
        assert_int_equal(dk_place_init(&place, &error), DEKHAND_OK);
        struct dekhand_init_result first = place.made;
        assert_int_equal(dk_place_init(&place, &error), DEKHAND_OK);
        assert_string_equal(place.made.pin, first.pin); /* and it stays the same registry */
        assert_false(place.made.made_master_key || place.made.made_registry);
        life_goes_on(&place, told);
        the_store_is_whole(&place);
        all_told_is_readable(&place, told);
        dk_place_free(&place);
    }
}

/* A rotation that was cut short is either whole or not there: the version in use tells which. */
static void I06_a_killed_rotation_is_whole_or_not_there(void **state)
{
    (void)state;
    for (size_t i = 0; i < POINTS; i++) {
        struct dk_place place;
        struct dk_test_value value;
        struct told *told = dk_test_shared(sizeof *told);
        if (!is_point(i, ROTATE) && !is_point(i, COMPROMISE)) {
            continue;
        }
        dk_place_new(&place, false);
        kill_at(&place, told, i);
        bool done = strcmp(points[i].label, "rotate.committed") == 0 ||
                    strcmp(points[i].label, "rotate.read_back") == 0;
        struct dekhand *d = dk_place_open(&place);
        ASSERT_CODE(dk_test_encrypt(d, "acme", "now", &value), OK);
        assert_int_equal(dk_test_version(&value), done ? 2 : 1);
        dk_place_close(d);
        assert_int_equal(dk_place_number(&place, "SELECT count(*) FROM encryption_keys WHERE "
                                                 "compromised_at IS NOT NULL"),
                         done && points[i].step == COMPROMISE ? 1 : 0);
        dk_place_free(&place);
    }
}

/* Whoever was cut short, the next one ends it, and makes no second key. */
static void R3_a_killed_rekey_is_gone_on_with(void **state)
{
    (void)state;
    for (size_t i = 0; i < POINTS; i++) {
        struct dk_place place;
        struct dekhand_rekey result;
        struct dekhand_audit_result verified = {.size = sizeof verified};
        struct told *told = dk_test_shared(sizeof *told);
        if (!is_point(i, REKEY)) {
            continue;
        }
        say("killed at", i);
        dk_place_new(&place, false);
        kill_at(&place, told, i);
        struct dekhand *d = dk_place_open(&place);
        ASSERT_CODE(dekhand_audit_verify(d, NULL, NULL, &verified, NULL), OK);
        assert_int_equal(verified.findings, 0);
        ASSERT_CODE(rekey(d, &result), OK);
        bool ended = strcmp(points[i].label, "rekey.ended") == 0;
        assert_int_equal(result.generation, ended ? 3 : 2);
        ASSERT_CODE(dekhand_audit_verify(d, NULL, NULL, &verified, NULL), OK);
        assert_int_equal(verified.findings, 0);
        dk_place_close(d);
        all_told_is_readable(&place, told);
        life_goes_on(&place, told);
        dk_place_free(&place);
    }
}

/* Old wraps or new ones: each version has one that opens; the next run does what is left. The same
   where the tick was killed that makes the second ones. */
static void R5_a_killed_rewrap_is_gone_on_with(void **state)
{
    (void)state;
    for (size_t i = 0; i < POINTS; i++) {
        struct dk_place place;
        struct dekhand_audit_result verified = {.size = sizeof verified};
        struct told *told = dk_test_shared(sizeof *told);
        if (!is_point(i, REWRAP) && !is_point(i, FILL)) {
            continue;
        }
        say("killed at", i);
        dk_place_new(&place, false);
        add_second(&place, i);
        kill_at(&place, told, i);
        all_told_is_readable(&place, told);
        struct dekhand *d = dk_place_open(&place);
        ASSERT_CODE(rewrap(d), OK);
        assert_int_equal(dk_place_number(&place, "SELECT count(*) FROM encryption_keys WHERE "
                                                 "provider <> 'fake'"),
                         0);
        assert_int_equal(dk_place_number(&place, "SELECT count(*) FROM registry WHERE provider = "
                                                 "'fake'"),
                         1);
        assert_int_equal(dk_place_number(&place, "SELECT count(*) FROM wraps WHERE provider = "
                                                 "'local'"),
                         dk_place_number(&place, "SELECT count(*) FROM encryption_keys"));
        ASSERT_CODE(dekhand_audit_verify(d, NULL, NULL, &verified, NULL), OK);
        assert_int_equal(verified.findings, 0);
        dk_place_close(d);
        all_told_is_readable(&place, told);
        life_goes_on(&place, told);
        dk_place_free(&place);
    }
}

/* Whatever was deleted is proven to have been pruned; the next one deletes what is left. */
static void R28_a_killed_prune_is_gone_on_with(void **state)
{
    (void)state;
    for (size_t i = 0; i < POINTS; i++) {
        struct dk_place place;
        struct dekhand_prune result;
        struct dekhand_audit_result verified = {.size = sizeof verified};
        struct told *told = dk_test_shared(sizeof *told);
        if (!is_point(i, PRUNE)) {
            continue;
        }
        say("killed at", i);
        dk_place_new(&place, false);
        kill_at(&place, told, i);
        place.w.wall_us++;
        struct dekhand *d = dk_place_open(&place);
        ASSERT_CODE(dekhand_audit_verify(d, NULL, NULL, &verified, NULL), OK);
        assert_int_equal(verified.findings, 0);
        ASSERT_CODE(prune(d, place.w.wall_us, &result), OK);
        assert_int_equal(dk_place_number(&place, "SELECT count(*) FROM key_rotation_log"), 1);
        ASSERT_CODE(dekhand_audit_verify(d, NULL, NULL, &verified, NULL), OK);
        assert_int_equal(verified.findings, 0);
        dk_place_close(d);
        all_told_is_readable(&place, told);
        life_goes_on(&place, told);
        dk_place_free(&place);
    }
}

/* ---- the table above is complete ------------------------------------------------------------- */

static bool in_table(const char *label)
{
    for (size_t i = 0; i < POINTS; i++) {
        if (strcmp(points[i].label, label) == 0) {
            return true;
        }
    }
    return false;
}

static size_t look_into(const char *path)
{
    char line[512], label[64];
    size_t found = 0;
    FILE *file = fopen(path, "re");
    assert_non_null(file);
    while (fgets(line, sizeof line, file) != NULL) {
        const char *call = strstr(line, "dk_trace(");
        if (call != NULL && sscanf(call, "dk_trace(%*[^\"]\"%63[^\"]\"", label) == 1) {
            if (!in_table(label)) {
                fail_msg("%s: nobody is killed at %s", path, label);
            }
            found++;
        }
    }
    fclose(file);
    return found;
}

static void every_label_of_the_library_is_a_point(void **state)
{
    (void)state;
    glob_t paths;
    size_t found = 0;
    assert_int_equal(glob("src/*.c", 0, NULL, &paths), 0);
    assert_int_equal(glob("src/*/*.c", GLOB_APPEND, NULL, &paths), 0);
    for (size_t i = 0; i < paths.gl_pathc; i++) {
        found += look_into(paths.gl_pathv[i]);
    }
    globfree(&paths);
    assert_true(found >= 22);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(R3_I06_a_process_killed_at_any_point_loses_nothing_told),
        cmocka_unit_test(R3_init_killed_at_any_point_is_repeated),
        cmocka_unit_test(I06_a_killed_rotation_is_whole_or_not_there),
        cmocka_unit_test(R3_a_killed_rekey_is_gone_on_with),
        cmocka_unit_test(R5_a_killed_rewrap_is_gone_on_with),
        cmocka_unit_test(R28_a_killed_prune_is_gone_on_with),
        cmocka_unit_test(every_label_of_the_library_is_a_point),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
