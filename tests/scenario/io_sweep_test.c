#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <sqlite3.h>
#include <stdlib.h>

#include "support/fault_vfs.h"
#include "support/world.h"

/*
 * F11, F12: every I/O call of a scenario fails once, then all from there on: SQLite's and those of
 * base/file.c, with EIO; what needs room, with ENOSPC, after half of its bytes. After each: a named
 * error, rows as before or as after, nothing leaked, and the same call succeeds when the disk is
 * well again. The scenarios are listed in docs/BAR.md.
 */

#define TENANT_MAX 32
#define SWEEP_MAX 4000

struct sweep {
    struct dk_place place;
    struct dekhand *d;
    struct dk_test_value kept; /* of tenant "kept", from before: it must always open */
    unsigned n;                /* which call fails in this round */
    const struct way *way;
};

/* How calls fail. The few syncs are all looked at, in a run of every day too. */
static const struct way {
    unsigned kinds;
    int error;
    bool and_all_after;
} ways[] = {
    {DK_IO_ANY, EIO, false}, {DK_IO_ANY, EIO, true},      {DK_IO_SYNC, EIO, false},
    {DK_IO_SYNC, EIO, true}, {DK_IO_ROOM, ENOSPC, false}, {DK_IO_ROOM, ENOSPC, true},
};
#define WAYS (sizeof ways / sizeof ways[0])

/* ---- scenarios ------------------------------------------------------------------------------- */

static int run_init(struct sweep *s)
{
    struct dekhand_error error;
    return dk_place_init(&s->place, &error);
}

static int run_open(struct sweep *s)
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

static int run_first_use(struct sweep *s)
{
    char tenant[TENANT_MAX];
    struct dk_test_value value;
    snprintf(tenant, sizeof tenant, "new-%u", s->n);
    int rc = dk_test_encrypt(s->d, tenant, "first", &value);
    return rc == DEKHAND_OK ? dk_test_decrypt(s->d, tenant, &value, "first") : rc;
}

static int run_decrypt(struct sweep *s)
{
    return dk_test_decrypt(s->d, "kept", &s->kept, "kept for ever");
}

static int run_rotate(struct sweep *s)
{
    return dk_test_rotate(s->d, "kept", 0, NULL);
}

static bool count_key(void *arg, const struct dekhand_key *key)
{
    *(int *)arg += key->code == DEKHAND_OK;
    return true;
}

static int run_list(struct sweep *s)
{
    int keys = 0;
    int rc = dekhand_keys(s->d, NULL, count_key, &keys, NULL);
    return rc == DEKHAND_OK && keys == 0 ? DEKHAND_E_INTERNAL : rc;
}

static void tell(void *arg, const struct dekhand_finding *finding)
{
    const struct sweep *s = arg;
    print_message("call %u: %s %s %s: %s\n", s->n, finding->table, finding->tenant, finding->row,
                  finding->text);
}

static int run_verify(struct sweep *s)
{
    struct dekhand_audit_result result = {.size = sizeof result};
    int rc = dekhand_audit_verify(s->d, tell, s, &result, NULL);
    return rc == DEKHAND_OK && result.findings != 0 ? DEKHAND_E_TAMPERED : rc;
}

static int run_batch(struct sweep *s)
{
    char tenants[3][TENANT_MAX];
    struct dekhand_item items[3];
    uint8_t out[3][128];
    for (unsigned i = 0; i < 3; i++) {
        snprintf(tenants[i], TENANT_MAX, "batch-%u-%u", s->n, i);
        items[i] = (struct dekhand_item){
            .tenant = tenants[i], .in = "x", .in_size = 1, .out = out[i], .capacity = 128};
    }
    return dekhand_encrypt_batch(s->d, items, 3, NULL);
}

/* The next look-out and the hourly flush are due. */
static int run_tick(struct sweep *s)
{
    struct dk_test_value value;
    int rc = dk_test_encrypt(s->d, "kept", "to count", &value);
    s->place.w.mono_ms += INT64_C(3700000);
    return rc == DEKHAND_OK ? dekhand_tick(s->d, NULL) : rc;
}

/* ---- the sweep ------------------------------------------------------------------------------- */

static size_t open_files(void)
{
    size_t count = 0;
    DIR *folder = opendir("/proc/self/fd");
    assert_non_null(folder);
    while (readdir(folder) != NULL) {
        count++;
    }
    closedir(folder);
    return count;
}

/* What a disk that fails is called; a failing disk is no tampering and no older registry. */
static bool is_named(int rc)
{
    static const char *const names[] = {"E_STORE", "E_IO"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strcmp(dekhand_error_name(rc), names[i]) == 0) {
            return true;
        }
    }
    return false;
}

static int run_on_bad_disk(struct sweep *s, int (*run)(struct sweep *s), bool *reached)
{
    struct dk_disk_plan plan = {.kinds = s->way->kinds,
                                .at = s->n,
                                .and_all_after = s->way->and_all_after,
                                .error = s->way->error,
                                .part = s->way->error == ENOSPC};
    dk_disk_plan(&plan);
    int rc = run(s);
    *reached = dk_disk_calls() >= s->n;
    dk_disk_plan(NULL);
    if (rc != DEKHAND_OK && !is_named(rc)) {
        fail_msg("call %u: %s", s->n, dekhand_error_name(rc));
    }
    return rc;
}

/* Whole rows only: chains, digests, counts of keys and versions agree. */
static void check_whole(struct sweep *s)
{
    assert_int_equal(run_verify(s), DEKHAND_OK);
    assert_int_equal(dk_place_number(&s->place,
                                     "SELECT (SELECT count(*) FROM tenants t WHERE next_version - "
                                     "1 <> (SELECT max(version) FROM encryption_keys k WHERE "
                                     "k.tenant_id = t.tenant_id)) + (SELECT count(*) FROM (SELECT "
                                     "1 FROM encryption_keys GROUP BY tenant_id HAVING sum(state = "
                                     "'active') <> 1))"),
                     0);
}

/* True when there was a call number n at all. */
static bool round_of(struct sweep *s, int (*run)(struct sweep *s), bool with_instance)
{
    int live = atomic_load(&s->place.w.live);
    size_t files = open_files();
    int64_t memory = sqlite3_memory_used();
    bool reached = false;
    s->d = with_instance ? dk_place_open(&s->place) : NULL;
    (void)run_on_bad_disk(s, run, &reached);
    int rc = run(s); /* the disk is well again */
    if (rc != DEKHAND_OK) {
        fail_msg("after call %u: %s", s->n, dekhand_error_name(rc));
    }
    if (!with_instance) {
        s->d = dk_place_open(&s->place);
    }
    check_whole(s);
    assert_int_equal(s->kept.n > 0 ? run_decrypt(s) : DEKHAND_OK, DEKHAND_OK);
    dk_place_close(s->d);
    assert_int_equal(atomic_load(&s->place.w.live), live);
    assert_int_equal(open_files(), files);
    assert_true(sqlite3_memory_used() == memory);
    return reached;
}

/* Each of the first calls; then, in a run of every day, one in five, a sanitised one in 29. */
static unsigned next_round(const struct sweep *s)
{
#ifdef DK_SANITIZED
    unsigned step = 29, all = 5;
#else
    unsigned step = 5, all = 20;
#endif
    return s->n + (getenv("DEKHAND_SWEEP") != NULL || s->n < all ? 1 : step);
}

static void begin(struct sweep *s, const struct way *way)
{
    *s = (struct sweep){.way = way};
    dk_place_bare(&s->place, false);
    dk_disk_start(s->place.folder, 1, DK_DISK_HONEST);
}

static void end(struct sweep *s)
{
    dk_disk_stop();
    dk_place_free(&s->place);
}

static void sweep(int (*run)(struct sweep *s), bool with_instance)
{
    static struct sweep s;
    for (size_t i = 0; i < WAYS; i++) {
        begin(&s, &ways[i]);
        assert_int_equal(run_init(&s), DEKHAND_OK);
        s.d = dk_place_open(&s.place);
        assert_int_equal(dk_test_encrypt(s.d, "kept", "kept for ever", &s.kept), DEKHAND_OK);
        dk_place_close(s.d);
        for (s.n = 1; round_of(&s, run, with_instance); s.n = next_round(&s)) {
            assert_true(s.n < SWEEP_MAX);
        }
        assert_true(s.n > 1 || ways[i].kinds != DK_IO_ANY); /* reading syncs nothing */
        end(&s);
    }
}

static void F11_F12_init_on_a_bad_disk(void **state)
{
    (void)state;
    static struct sweep s;
    for (size_t i = 0; i < WAYS; i++) {
        bool reached = true;
        for (unsigned n = 1; reached; n = next_round(&s)) {
            begin(&s, &ways[i]);
            s.n = n;
            reached = round_of(&s, run_init, false);
            end(&s);
        }
        assert_true(s.n > 1);
    }
}

static void F11_F12_open_and_close_on_a_bad_disk(void **state)
{
    (void)state;
    sweep(run_open, false);
}

static void F11_F12_first_use_on_a_bad_disk(void **state)
{
    (void)state;
    sweep(run_first_use, true);
}

static void F11_F12_cold_decrypt_on_a_bad_disk(void **state)
{
    (void)state;
    sweep(run_decrypt, true);
}

static void F11_F12_rotate_on_a_bad_disk(void **state)
{
    (void)state;
    sweep(run_rotate, true);
}

static void F11_F12_list_of_keys_on_a_bad_disk(void **state)
{
    (void)state;
    sweep(run_list, true);
}

static void F11_F12_audit_verify_on_a_bad_disk(void **state)
{
    (void)state;
    sweep(run_verify, true);
}

static void F11_F12_batch_of_new_tenants_on_a_bad_disk(void **state)
{
    (void)state;
    sweep(run_batch, true);
}

static void F11_F12_tick_on_a_bad_disk(void **state)
{
    (void)state;
    sweep(run_tick, true);
}

/* Each call takes minutes: a key that was read is past its time before it is in hand. */
static void F12_a_slow_disk_is_waited_for(void **state)
{
    (void)state;
    static struct sweep s;
    begin(&s, &ways[0]);
    assert_int_equal(run_init(&s), DEKHAND_OK);
    struct dk_disk_plan slow = {.kinds = DK_IO_ANY,
                                .clock_ms = &s.place.w.mono_ms,
                                .delay_ms = s.place.limits.hard_ttl_ms / 8};
    s.d = dk_place_open(&s.place);
    int64_t before = s.place.w.mono_ms;
    dk_disk_plan(&slow);
    assert_int_equal(dk_test_encrypt(s.d, "kept", "kept for ever", &s.kept), DEKHAND_OK);
    assert_int_equal(run_decrypt(&s), DEKHAND_OK);
    assert_int_equal(run_rotate(&s), DEKHAND_OK);
    assert_int_equal(run_decrypt(&s), DEKHAND_OK);
    assert_int_equal(run_batch(&s), DEKHAND_OK);
    assert_int_equal(run_tick(&s), DEKHAND_OK);
    assert_int_equal(run_verify(&s), DEKHAND_OK);
    assert_true(s.place.w.mono_ms - before > 10 * s.place.limits.hard_ttl_ms);
    dk_disk_plan(NULL);
    dk_place_close(s.d);
    end(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(F11_F12_init_on_a_bad_disk),
        cmocka_unit_test(F11_F12_open_and_close_on_a_bad_disk),
        cmocka_unit_test(F11_F12_first_use_on_a_bad_disk),
        cmocka_unit_test(F11_F12_cold_decrypt_on_a_bad_disk),
        cmocka_unit_test(F11_F12_rotate_on_a_bad_disk),
        cmocka_unit_test(F11_F12_list_of_keys_on_a_bad_disk),
        cmocka_unit_test(F11_F12_audit_verify_on_a_bad_disk),
        cmocka_unit_test(F11_F12_batch_of_new_tenants_on_a_bad_disk),
        cmocka_unit_test(F11_F12_tick_on_a_bad_disk),
        cmocka_unit_test(F12_a_slow_disk_is_waited_for),
    };
    dk_test_folders_in_memory();
    dk_fault_vfs_install();
    return cmocka_run_group_tests_name("I/O", tests, NULL, NULL);
}
