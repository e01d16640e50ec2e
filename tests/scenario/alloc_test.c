#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include <sqlite3.h>
#include <stdlib.h>
#include <unistd.h>

#include "support/world.h"

/*
 * F01: every allocation of a scenario fails once, then all from there on: ours, then SQLite's.
 * After each the state is as before or as after, nothing is leaked, and the same call succeeds
 * when there is memory again. The scenarios are listed in docs/BAR.md.
 */

#define TENANT_MAX 32
#define SWEEP_MAX 20000

/* ---- SQLite's allocator, under our control --------------------------------------------------- */

static struct {
    sqlite3_mem_methods real;
    unsigned count;
    unsigned fail_at;
    bool and_all_after;
} sq;

static bool sqlite_fails(void)
{
    sq.count++;
    return sq.fail_at != 0 &&
           (sq.count == sq.fail_at || (sq.and_all_after && sq.count > sq.fail_at));
}

static void *sqlite_malloc(int n)
{
    return sqlite_fails() ? NULL : sq.real.xMalloc(n);
}

static void *sqlite_realloc(void *p, int n)
{
    return sqlite_fails() ? NULL : sq.real.xRealloc(p, n);
}

static void take_sqlite_over(void)
{
    sqlite3_mem_methods ours;
    if (sqlite3_config(SQLITE_CONFIG_GETMALLOC, &sq.real) != SQLITE_OK) {
        abort();
    }
    ours = sq.real;
    ours.xMalloc = sqlite_malloc;
    ours.xRealloc = sqlite_realloc;
    if (sqlite3_config(SQLITE_CONFIG_MALLOC, &ours) != SQLITE_OK) {
        abort();
    }
}

/* ---- scenarios ------------------------------------------------------------------------------- */

struct sweep {
    struct dk_place place;
    struct dekhand *d;
    struct dk_test_value kept; /* of tenant "kept", from before: it must always open */
    unsigned n;                /* which allocation fails in this round */
    bool of_sqlite;
};

static int run_open(struct sweep *s)
{
    struct dekhand *d = NULL;
    struct dekhand_error error;
    int rc = dk_place_try_open(&s->place, &d, &error);
    if (rc == DEKHAND_OK) {
        rc = dekhand_close(d, &error);
    }
    return rc;
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

static int run_init(struct sweep *s)
{
    struct dekhand_error error;
    return dk_place_init(&s->place, &error);
}

/* ---- the sweep ------------------------------------------------------------------------------- */

static void arm(struct sweep *s, bool and_all_after)
{
    struct dk_test_world *w = &s->place.w;
    atomic_store(&w->allocs, 0);
    sq.count = 0;
    if (s->of_sqlite) {
        sq.fail_at = s->n;
        sq.and_all_after = and_all_after;
    } else if (and_all_after) {
        w->fail_alloc_all = s->n;
    } else {
        w->fail_alloc_at = s->n;
    }
}

/* True when there was an allocation number n at all. */
static bool disarm(struct sweep *s)
{
    bool reached = (s->of_sqlite ? sq.count : atomic_load(&s->place.w.allocs)) >= s->n;
    s->place.w.fail_alloc_at = 0;
    s->place.w.fail_alloc_all = 0;
    sq.fail_at = 0;
    return reached;
}

static bool round_of(struct sweep *s, int (*run)(struct sweep *s), bool with_instance,
                     bool and_all_after)
{
    int before = atomic_load(&s->place.w.live);
    s->d = with_instance ? dk_place_open(&s->place) : NULL;
    arm(s, and_all_after);
    int rc = run(s);
    bool reached = disarm(s);
    if (rc != DEKHAND_OK) {
        const char *name = dekhand_error_name(rc);
        if (strcmp(name, "E_NOMEM") != 0 && strcmp(name, "E_STORE") != 0) {
            fail_msg("allocation %u: %s", s->n, name);
        }
    }
    assert_int_equal(run(s), DEKHAND_OK); /* there is memory again */
    if (with_instance) {
        assert_int_equal(run_decrypt(s), DEKHAND_OK);
        dk_place_close(s->d);
    }
    assert_int_equal(atomic_load(&s->place.w.live), before);
    return reached;
}

/*
 * SQLite allocates thousands of times in a transaction. Past the first 200, a run of every day
 * looks at one in seven (with all failing from there on: one in 31), a sanitised one at fewer;
 * DEKHAND_SWEEP=full looks at each.
 */
static unsigned next_round(const struct sweep *s, bool and_all_after)
{
    if (!s->of_sqlite || getenv("DEKHAND_SWEEP") != NULL) {
        return s->n + 1;
    }
#ifdef DK_SANITIZED
    return s->n + (s->n < 40 ? 1 : and_all_after ? 197 : 97);
#else
    return s->n + (s->n < 200 ? 1 : and_all_after ? 31 : 7);
#endif
}

static void sweep(int (*run)(struct sweep *s), bool with_instance, bool of_sqlite)
{
    static struct sweep s;
    for (int all = 0; all < 2; all++) {
        s = (struct sweep){.of_sqlite = of_sqlite};
        dk_place_new(&s.place, false);
        s.d = dk_place_open(&s.place);
        assert_int_equal(dk_test_encrypt(s.d, "kept", "kept for ever", &s.kept), DEKHAND_OK);
        dk_place_close(s.d);
        for (s.n = 1; round_of(&s, run, with_instance, all == 1); s.n = next_round(&s, all == 1)) {
            assert_true(s.n < SWEEP_MAX);
        }
        assert_true(s.n > 1);
        assert_true(dk_place_reads(&s.place, "kept", &s.kept, "kept for ever"));
        assert_int_equal(dk_place_number(&s.place, "SELECT count(*) FROM (SELECT 1 FROM "
                                                   "encryption_keys GROUP BY tenant_id HAVING "
                                                   "sum(state = 'active') <> 1)"),
                         0);
        dk_place_free(&s.place);
    }
}

static void sweep_init(bool of_sqlite)
{
    static struct sweep s;
    for (int all = 0; all < 2; all++) {
        bool reached = true;
        for (unsigned n = 1; reached; n++) {
            s = (struct sweep){.of_sqlite = of_sqlite, .n = n};
            dk_place_bare(&s.place, false);
            reached = round_of(&s, run_init, false, all == 1);
            dk_place_close(dk_place_open(&s.place)); /* what was made is whole */
            dk_place_free(&s.place);
        }
    }
}

static void F01_init_without_memory(void **state)
{
    (void)state;
    sweep_init(false);
}

static void F01_open_and_close_without_memory(void **state)
{
    (void)state;
    sweep(run_open, false, false);
}

static void F01_first_use_without_memory(void **state)
{
    (void)state;
    sweep(run_first_use, true, false);
}

static void F01_cold_decrypt_without_memory(void **state)
{
    (void)state;
    sweep(run_decrypt, true, false);
}

static void F01_rotate_without_memory(void **state)
{
    (void)state;
    sweep(run_rotate, true, false);
}

static void F01_list_of_keys_without_memory(void **state)
{
    (void)state;
    sweep(run_list, true, false);
}

static void F01_batch_of_new_tenants_without_memory(void **state)
{
    (void)state;
    sweep(run_batch, true, false);
}

static void F01_first_use_without_memory_for_sqlite(void **state)
{
    (void)state;
    sweep(run_first_use, true, true);
}

static void F01_cold_decrypt_without_memory_for_sqlite(void **state)
{
    (void)state;
    sweep(run_decrypt, true, true);
}

static void F01_rotate_without_memory_for_sqlite(void **state)
{
    (void)state;
    sweep(run_rotate, true, true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(F01_init_without_memory),
        cmocka_unit_test(F01_open_and_close_without_memory),
        cmocka_unit_test(F01_first_use_without_memory),
        cmocka_unit_test(F01_cold_decrypt_without_memory),
        cmocka_unit_test(F01_rotate_without_memory),
        cmocka_unit_test(F01_list_of_keys_without_memory),
        cmocka_unit_test(F01_batch_of_new_tenants_without_memory),
        cmocka_unit_test(F01_first_use_without_memory_for_sqlite),
        cmocka_unit_test(F01_cold_decrypt_without_memory_for_sqlite),
        cmocka_unit_test(F01_rotate_without_memory_for_sqlite),
    };
    dk_test_folders_in_memory();
    take_sqlite_over();
    return cmocka_run_group_tests_name("allocation", tests, NULL, NULL);
}
