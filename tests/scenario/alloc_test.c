#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include <sqlite3.h>
#include <stdlib.h>

#include "support/sweep.h"

/*
 * F01: every allocation of a scenario fails once, then all from there on: ours, then SQLite's. What
 * must hold after is said in sweep.h. SQLite allocates thousands of times in a transaction, of
 * which those that are alike fail once (docs/BAR.md).
 */

/* ---- allocators that fail ----------------------------------------------------------------------
 */

static sqlite3_mem_methods sqlites;
static bool sqlites_fail; /* or ours */

static bool sqlite_fails(void)
{
    return sqlites_fail && dk_sweep_point();
}

static void *sqlite_malloc(int n)
{
    return sqlite_fails() ? NULL : sqlites.xMalloc(n);
}

static void *sqlite_realloc(void *p, int n)
{
    return sqlite_fails() ? NULL : sqlites.xRealloc(p, n);
}

static void take_sqlite_over(void)
{
    sqlite3_mem_methods failing;
    if (sqlite3_config(SQLITE_CONFIG_GETMALLOC, &sqlites) != SQLITE_OK) {
        abort();
    }
    failing = sqlites;
    failing.xMalloc = sqlite_malloc;
    failing.xRealloc = sqlite_realloc;
    if (sqlite3_config(SQLITE_CONFIG_MALLOC, &failing) != SQLITE_OK) {
        abort();
    }
}

static void arm_ours(struct dk_sweep *s, const struct dk_sweep_way *way)
{
    (void)way;
    s->place.w.alloc_fails = dk_sweep_point;
}

static void disarm_ours(struct dk_sweep *s)
{
    s->place.w.alloc_fails = NULL;
}

static void arm_sqlites(struct dk_sweep *s, const struct dk_sweep_way *way)
{
    (void)s;
    (void)way;
    sqlites_fail = true;
}

static void disarm_sqlites(struct dk_sweep *s)
{
    (void)s;
    sqlites_fail = false;
}

/* ---- the sweep ---------------------------------------------------------------------------------
 */

static const char *const names[] = {"E_NOMEM", "E_STORE", NULL};

static const struct dk_sweep_way of_ours = {
    .once = DK_SWEEP_EACH,
    .all = DK_SWEEP_EACH,
    .names = names,
    .arm = arm_ours,
    .disarm = disarm_ours,
};

static const struct dk_sweep_way of_sqlite = {
    .once = DK_SWEEP_OURS,
    .all = DK_SWEEP_LAST,
    .names = names,
    .arm = arm_sqlites,
    .disarm = disarm_sqlites,
};

static void F01_without_memory(void **state)
{
    dk_sweep_scenario(*state, &of_ours);
}

static void F01_without_memory_for_sqlite(void **state)
{
    dk_sweep_scenario(*state, &of_sqlite);
}

int main(void)
{
    static struct CMUnitTest tests[2 * DK_SWEEP_SCENARIOS];
    dk_sweep_tests(tests, "F01_%s_without_memory", F01_without_memory);
    dk_sweep_tests(tests + DK_SWEEP_SCENARIOS, "F01_%s_without_memory_for_sqlite",
                   F01_without_memory_for_sqlite);
    dk_test_folders_in_memory();
    take_sqlite_over();
    return cmocka_run_group_tests_name("allocation", tests, NULL, NULL);
}
