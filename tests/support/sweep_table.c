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

#include "support/sweep.h"

static int init(struct dk_sweep *s)
{
    struct dekhand_error error;
    return dk_place_init(&s->place, &error);
}

static int open_and_close(struct dk_sweep *s)
{
    struct dekhand *d = NULL;
    struct dekhand_error error;
    struct dk_test_value value;
    int rc = dk_place_try_open(&s->place, &d, &error);
    if (rc != DEKHAND_OK) {
        return rc;
    }
    rc = dk_test_encrypt(d, "kept", "counted at close", &value);
    int closed = dekhand_close(d, &error);
    return rc != DEKHAND_OK ? rc : closed;
}

/* ---- values ------------------------------------------------------------------------------------
 */

static int first_use(struct dk_sweep *s)
{
    struct dk_test_value value;
    int rc = dk_test_encrypt(s->d, "new", "first", &value);
    return rc == DEKHAND_OK ? dk_test_decrypt(s->d, "new", &value, "first") : rc;
}

static int cold_decrypt(struct dk_sweep *s)
{
    return dk_test_decrypt(s->d, "kept", &s->kept, "kept for ever");
}

/* Two new tenants, and between them one that has a key. */
static int batch_of_new_tenants(struct dk_sweep *s)
{
    static const char *const tenants[3] = {"new-1", "kept", "new-2"};
    struct dekhand_item items[3];
    uint8_t out[3][128];
    for (unsigned i = 0; i < 3; i++) {
        items[i] = (struct dekhand_item){
            .tenant = tenants[i], .in = "x", .in_size = 1, .out = out[i], .capacity = 128};
    }
    return dekhand_encrypt_batch(s->d, items, 3, NULL);
}

/* ---- keys --------------------------------------------------------------------------------------
 */

static int rotate(struct dk_sweep *s)
{
    return dk_test_rotate(s->d, "kept", 0, NULL);
}

static bool count_key(void *arg, const struct dekhand_key *key)
{
    *(int *)arg += key->code == DEKHAND_OK;
    return true;
}

static int list_of_keys(struct dk_sweep *s)
{
    int keys = 0;
    int rc = dekhand_keys(s->d, NULL, count_key, &keys, NULL);
    return rc == DEKHAND_OK && keys == 0 ? DEKHAND_E_INTERNAL : rc;
}

static int export(struct dk_sweep *s)
{
    uint8_t key[DEKHAND_DATA_KEY];
    return dekhand_key_export(s->d, "kept", 1, true, key, NULL);
}

static void rotate_before(struct dk_sweep *s)
{
    s->d = dk_place_open(&s->place);
    assert_int_equal(rotate(s), DEKHAND_OK);
    dk_place_close(s->d);
}

/* And back, so that what was sealed under it opens. */
static int disable_and_enable(struct dk_sweep *s)
{
    int rc = dekhand_key_disable(s->d, "kept", 1, NULL, NULL);
    return rc == DEKHAND_OK ? dekhand_key_enable(s->d, "kept", 1, NULL, NULL) : rc;
}

static void it_opens_again(struct dk_sweep *s)
{
    assert_int_equal(dekhand_key_enable(s->d, "kept", 1, NULL, NULL), DEKHAND_OK);
}

static int tenant_set(struct dk_sweep *s)
{
    return dekhand_tenant_set(s->d, "kept", 30, NULL, NULL);
}

static bool each_tenant(void *arg, const struct dekhand_tenant *tenant)
{
    *(int *)arg += tenant->code == DEKHAND_OK;
    return true;
}

static int list_of_tenants(struct dk_sweep *s)
{
    int tenants = 0;
    int rc = dekhand_tenants(s->d, NULL, each_tenant, &tenants, NULL);
    return rc == DEKHAND_OK && tenants == 0 ? DEKHAND_E_INTERNAL : rc;
}

static int cache_clear(struct dk_sweep *s)
{
    return dekhand_cache_clear(s->d, NULL);
}

/* The next look-out and the hourly work are due: counts, warnings. */
static int tick(struct dk_sweep *s)
{
    struct dk_test_value value;
    int rc = dk_test_encrypt(s->d, "kept", "to count", &value);
    s->place.w.mono_ms += INT64_C(3700000);
    return rc == DEKHAND_OK ? dekhand_tick(s->d, NULL) : rc;
}

#define WARNINGS "SELECT count(*) FROM key_rotation_log WHERE operation = 'warning'"

static void warned_once(struct dk_sweep *s)
{
    assert_int_equal(dk_place_number(&s->place, WARNINGS), 1);
}

/* ---- the registry ------------------------------------------------------------------------------
 */

static struct dekhand_registry_info info_of(struct dk_sweep *s, int *rc)
{
    struct dekhand_registry_info info = {.size = sizeof info};
    *rc = dekhand_registry(s->d, &info, NULL);
    return info;
}

/* One rekey, however many tries it takes: what was begun is gone on with. */
static int rekey_with(struct dk_sweep *s, bool leave_damaged)
{
    int rc = DEKHAND_OK;
    struct dekhand_rekey result = {.size = sizeof result};
    struct dekhand_registry_info info = info_of(s, &rc);
    if (rc != DEKHAND_OK || (info.generation == 2 && !info.rekeying)) {
        return rc;
    }
    rc = dekhand_registry_rekey(s->d, leave_damaged, NULL, NULL, &result, NULL);
    bool as_told = result.begun != info.rekeying && result.damaged == 0;
    return rc == DEKHAND_OK && !as_told ? DEKHAND_E_INTERNAL : rc;
}

static int rekey(struct dk_sweep *s)
{
    return rekey_with(s, false);
}

/* Nothing is damaged: so nothing may be left, whatever memory or disk had to say meanwhile. */
static int rekey_that_leaves_the_damaged(struct dk_sweep *s)
{
    return rekey_with(s, true);
}

static void there_was_one_rekey(struct dk_sweep *s)
{
    int rc = DEKHAND_OK;
    struct dekhand_registry_info info = info_of(s, &rc);
    assert_int_equal(rc, DEKHAND_OK);
    assert_int_equal(info.generation, 2);
    assert_false(info.rekeying);
}

static void die(void *arg, const char *label)
{
    if (strcmp(label, arg) == 0) {
        raise(SIGKILL);
    }
}

static int rekey_and_die(void *arg)
{
    static char begun[] = "rekey.begun";
    struct dk_sweep s = {.d = dk_place_open(arg)};
    s.d->in->world.trace = die;
    s.d->in->world.trace_arg = begun;
    return rekey(&s);
}

static void begin_a_rekey(struct dk_sweep *s)
{
    int status = 0;
    int pid = dk_test_child_start(false, rekey_and_die, &s->place);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    dk_place_close(dk_place_open(&s->place));
}

static int audit_verify(struct dk_sweep *s)
{
    struct dekhand_audit_result result = {.size = sizeof result};
    int rc = dekhand_audit_verify(s->d, NULL, NULL, &result, NULL);
    return rc == DEKHAND_OK && result.findings != 0 ? DEKHAND_E_TAMPERED : rc;
}

static bool count_entry(void *arg, const struct dekhand_audit_entry *entry)
{
    *(int *)arg += entry->success;
    return true;
}

static int audit_list(struct dk_sweep *s)
{
    int rows = 0;
    struct dekhand_audit_query query = {.size = sizeof query};
    int rc = dekhand_audit_list(s->d, &query, count_entry, &rows, NULL);
    return rc == DEKHAND_OK && rows == 0 ? DEKHAND_E_INTERNAL : rc;
}

static int audit_prune(struct dk_sweep *s)
{
    struct dekhand_prune result = {.size = sizeof result};
    return dekhand_audit_prune(s->d, s->place.w.wall_us, false, &result, NULL);
}

#define PRUNED                                                                                     \
    "SELECT count(*) FROM key_rotation_log WHERE operation IN ('create', 'rotate', 'cache-clear')"

static void rows_to_prune(struct dk_sweep *s)
{
    s->d = dk_place_open(&s->place);
    assert_int_equal(rotate(s), DEKHAND_OK);
    assert_int_equal(cache_clear(s), DEKHAND_OK);
    dk_place_close(s->d);
}

static void old_rows_are_gone(struct dk_sweep *s)
{
    assert_int_equal(dk_place_number(&s->place, PRUNED), 0);
}

/* ---- an old copy -------------------------------------------------------------------------------
 */

static void copy_file(const char *from, const char *to)
{
    char command[256];
    snprintf(command, sizeof command, "cp %s %s", from, to);
    assert_int_equal(system(command), 0);
}

/* The database of before a rotation is back; the anchor knows better. */
static void old_copy_comes_back(struct dk_sweep *s)
{
    char copy[128];
    snprintf(copy, sizeof copy, "%s.old", s->place.database);
    copy_file(s->place.database, copy);
    s->d = dk_place_open(&s->place);
    assert_int_equal(rotate(s), DEKHAND_OK);
    dk_place_close(s->d);
    assert_int_equal(rename(copy, s->place.database), 0);
}

static int accept_restore(struct dk_sweep *s)
{
    int rc = DEKHAND_OK;
    struct dekhand_registry_info info = info_of(s, &rc);
    return rc == DEKHAND_OK ? dekhand_registry_accept_restore(s->d, info.id, NULL, NULL) : rc;
}

static void it_encrypts_again(struct dk_sweep *s)
{
    struct dk_test_value value;
    assert_int_equal(dk_test_encrypt(s->d, "kept", "after it", &value), DEKHAND_OK);
}

/* ---- what is well ------------------------------------------------------------------------------
 */

struct told {
    bool accused; /* somebody is said to have changed or put back something */
    enum dekhand_level worst;
};

static void listen(void *arg, const struct dekhand_check *check)
{
    struct told *told = arg;
    bool accuses = strstr(check->text, "E_TAMPERED") != NULL ||
                   strstr(check->text, "E_ROLLBACK") != NULL ||
                   strstr(check->text, "database file is damaged") != NULL ||
                   strstr(check->todo, "who wrote") != NULL;
    if (accuses) {
        print_message("%s: %s\n", check->name, check->text);
    }
    told->accused = told->accused || accuses;
    told->worst = check->level > told->worst ? check->level : told->worst;
}

/* What fails is told as what it is; when nothing does, nothing is wrong. */
static int judge(const struct dk_sweep *s, const struct told *told, int rc)
{
    if (rc != DEKHAND_OK) {
        return rc;
    }
    if (told->accused) {
        return DEKHAND_E_TAMPERED;
    }
    return s->well && told->worst >= DEKHAND_LEVEL_ERROR ? DEKHAND_E_INTERNAL : DEKHAND_OK;
}

static int health(struct dk_sweep *s)
{
    struct told told = {.accused = false};
    struct dekhand_health out = {.size = sizeof out};
    int rc = dekhand_health(s->d, listen, &told, &out, NULL);
    bool well = out.provider_works && out.database_works && out.active_keys > 0;
    return rc == DEKHAND_OK && s->well && !well ? DEKHAND_E_INTERNAL : judge(s, &told, rc);
}

static int doctor(struct dk_sweep *s)
{
    struct told told = {.accused = false};
    struct dekhand_doctor_result out = {.size = sizeof out};
    int rc = dk_place_doctor(&s->place, listen, &told, &out);
    return judge(s, &told, rc);
}

/* ---- a second provider -------------------------------------------------------------------------
 */

/* Nothing has a wrap of it yet. */
static void second_comes(struct dk_sweep *s)
{
    s->place.fake = dk_fake_new();
    s->place.fake_is_second = true;
}

static int rewrap(struct dk_sweep *s)
{
    struct dekhand_rewrap done = {.size = sizeof done};
    return dekhand_rewrap(s->d, "fake", NULL, NULL, NULL, NULL, &done, NULL);
}

static int fill(struct dk_sweep *s)
{
    s->place.w.mono_ms += 600000;
    return dekhand_tick(s->d, NULL);
}

/* The first wraps are those of the fake, the further ones those of the file. */
static void fake_is_first(struct dk_sweep *s)
{
    second_comes(s);
    s->d = dk_place_open(&s->place);
    assert_int_equal(rewrap(s), DEKHAND_OK);
    dk_place_close(s->d);
}

static int decrypt_by_the_other(struct dk_sweep *s)
{
    dk_fake_down(s->place.fake);
    int rc = cold_decrypt(s);
    dk_fake_up(s->place.fake);
    return rc;
}

static void both_wrap_all(struct dk_sweep *s)
{
    assert_int_equal(fill(s), DEKHAND_OK);
    assert_int_equal(dk_place_number(&s->place, "SELECT count(*) FROM encryption_keys"),
                     dk_place_number(&s->place, "SELECT count(*) FROM wraps"));
    assert_int_equal(dk_place_number(&s->place, "SELECT count(*) FROM registry_wraps"), 1);
}

/* ---- the table ---------------------------------------------------------------------------------
 */

#define RUN(function) .name = #function, .run = function

const struct dk_sweep_scenario dk_sweep_table[DK_SWEEP_SCENARIOS] = {
    {RUN(open_and_close), .opens = true},
    {RUN(first_use)},
    {RUN(cold_decrypt)},
    {RUN(batch_of_new_tenants)},
    {RUN(rotate)},
    {RUN(list_of_keys)},
    {RUN(export)},
    {RUN(disable_and_enable), .prepare = rotate_before, .after = it_opens_again},
    {RUN(tenant_set)},
    {RUN(list_of_tenants)},
    {RUN(cache_clear)},
    {RUN(tick), .days = 85, .after = warned_once},
    {RUN(rekey), .after = there_was_one_rekey},
    {.name = "resumed_rekey", .run = rekey, .prepare = begin_a_rekey, .after = there_was_one_rekey},
    {RUN(rekey_that_leaves_the_damaged), .after = there_was_one_rekey},
    {RUN(audit_list)},
    {RUN(audit_verify)},
    {RUN(audit_prune), .days = 1, .prepare = rows_to_prune, .after = old_rows_are_gone},
    {RUN(accept_restore), .prepare = old_copy_comes_back, .after = it_encrypts_again},
    {RUN(health)},
    {RUN(doctor), .opens = true},
    {.name = "first_use_of_two", .run = first_use, .prepare = second_comes, .after = both_wrap_all},
    {RUN(fill), .prepare = second_comes, .after = both_wrap_all},
    {RUN(rewrap), .prepare = second_comes, .after = both_wrap_all},
    {RUN(decrypt_by_the_other), .prepare = fake_is_first},
    {RUN(init), .bare = true, .opens = true},
};
