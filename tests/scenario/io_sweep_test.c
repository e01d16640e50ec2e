#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include <errno.h>

#include "support/fault_vfs.h"
#include "support/sweep.h"

/*
 * F11, F12: every I/O call of a scenario fails once, then all from there on: SQLite's and those of
 * base/file.c, with EIO; what needs room, with ENOSPC, after half of its bytes. What must hold
 * after is said in sweep.h; which calls are alike, in docs/BAR.md.
 */

static void begin_plan(struct dk_sweep *s, struct dk_disk_plan plan)
{
    dk_disk_start(s->place.folder, 1, DK_DISK_HONEST);
    dk_disk_plan(&plan);
}

static void arm(struct dk_sweep *s, const struct dk_sweep_way *way)
{
    begin_plan(s, (struct dk_disk_plan){.kinds = way->kinds,
                                        .fails = dk_sweep_point,
                                        .error = way->error,
                                        .part = way->error == ENOSPC});
}

static void disarm(struct dk_sweep *s)
{
    (void)s;
    dk_disk_stop();
}

/* What a disk that fails is called; a failing disk is no tampering and no older registry. */
/* UNREACHABLE: a provider is, and what would stand in for it was not read. */
static const char *const names[] = {"E_STORE", "E_IO", "E_LEASE", "E_UNREACHABLE", NULL};

#define WAY(which, code)                                                                           \
    .kinds = (which), .error = (code), .names = names, .arm = arm, .disarm = disarm

/* What is lost when a sync or a write fails is more than what is not read. */
static const struct dk_sweep_way reads = {WAY(DK_IO_ANY & ~DK_IO_CHANGE, EIO),
                                          .once = DK_SWEEP_OURS, .all = DK_SWEEP_LAST};
static const struct dk_sweep_way changes = {WAY(DK_IO_CHANGE, EIO), .once = DK_SWEEP_UNLIKE,
                                            .all = DK_SWEEP_UNLIKE};
static const struct dk_sweep_way room = {WAY(DK_IO_ROOM, ENOSPC), .once = DK_SWEEP_UNLIKE,
                                         .all = DK_SWEEP_LAST};

static void F11_F12_on_a_bad_disk(void **state)
{
    dk_sweep_scenario(*state, &reads);
    dk_sweep_scenario(*state, &changes);
}

static void F11_F12_on_a_full_disk(void **state)
{
    dk_sweep_scenario(*state, &room);
}

/* Each call takes minutes: a key that was read is past its time before it is in hand. */
static void F12_a_slow_disk_is_waited_for(void **state)
{
    static struct dk_sweep s;
    int64_t waited_ms = 0;
    (void)state;
    for (size_t i = 0; i < DK_SWEEP_SCENARIOS; i++) {
        const struct dk_sweep_scenario *scenario = &dk_sweep_table[i];
        dk_sweep_prepare(&s, scenario);
        s.place.limits.lease_ms = INT64_MAX / 2; /* a look takes longer than a lease lasts */
        dk_sweep_begin(&s, scenario);
        int64_t before = s.place.w.mono_ms;
        begin_plan(&s, (struct dk_disk_plan){.kinds = DK_IO_ANY,
                                             .clock_ms = &s.place.w.mono_ms,
                                             .delay_ms = s.place.limits.hard_ttl_ms / 8});
        assert_int_equal(scenario->run(&s), DEKHAND_OK);
        dk_disk_stop();
        waited_ms += s.place.w.mono_ms - before;
        dk_sweep_end(&s);
        dk_sweep_free(&s);
    }
    assert_true(waited_ms > 10 * s.place.limits.hard_ttl_ms);
}

int main(void)
{
    static struct CMUnitTest tests[2 * DK_SWEEP_SCENARIOS + 1];
    dk_sweep_tests(tests, "F11_F12_%s_on_a_bad_disk", F11_F12_on_a_bad_disk);
    dk_sweep_tests(tests + DK_SWEEP_SCENARIOS, "F11_F12_%s_on_a_full_disk", F11_F12_on_a_full_disk);
    tests[2 * DK_SWEEP_SCENARIOS] =
        (struct CMUnitTest)cmocka_unit_test(F12_a_slow_disk_is_waited_for);
    dk_test_folders_in_memory();
    dk_fault_vfs_install();
    return cmocka_run_group_tests_name("I/O", tests, NULL, NULL);
}
