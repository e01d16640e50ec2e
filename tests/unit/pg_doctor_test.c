/* What is said of a server: by figures that no server of today shows, and by one that goes away. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include <string.h>
#include <time.h>

#include "store/pg_doctor.h"
#include "support/expect.h"
#include "support/pg.h"

#define DAY DK_DAY_US
#define SECOND INT64_C(1000000)

static int64_t moment(const char *text)
{
    int64_t us = 0;
    assert_true(dk_time_parse(text, strlen(text), &us));
    return us;
}

static void off_this_machine_only_a_proven_name_is_well(void **state)
{
    (void)state;
    static const struct {
        bool local, tls;
        const char *sslmode;
        enum dk_store_level level;
    } ways[] = {
        {true, false, "prefer", DK_STORE_WELL},
        {true, true, "prefer", DK_STORE_WELL},
        {false, false, "disable", DK_STORE_FINDING},
        {false, false, "prefer", DK_STORE_FINDING},
        {false, false, "verify-full", DK_STORE_FINDING},
        {false, true, "prefer", DK_STORE_FINDING},
        {false, true, "require", DK_STORE_FINDING},
        {false, true, "verify-ca", DK_STORE_FINDING},
        {false, true, "verify-full", DK_STORE_WELL},
        {false, true, "", DK_STORE_FINDING},
    };
    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
        assert_int_equal(dk_pg_tls_level(ways[i].local, ways[i].tls, ways[i].sslmode),
                         ways[i].level);
    }
}

static void a_version_is_told_of_half_a_year_before_its_end(void **state)
{
    (void)state;
    int64_t end = -1, last = moment("2027-11-11T00:00:00.000000Z");
    assert_int_equal(dk_pg_version_level(140020, last, &end), DK_STORE_FINDING);
    assert_int_equal(dk_pg_version_level(90624, last, &end), DK_STORE_FINDING);
    assert_int_equal(dk_pg_version_level(0, last, &end), DK_STORE_FINDING);
    assert_int_equal(dk_pg_version_level(150000, last - 181 * DAY, &end), DK_STORE_WELL);
    assert_int_equal(end, last);
    assert_int_equal(dk_pg_version_level(150099, last - 179 * DAY, &end), DK_STORE_NOTE);
    assert_int_equal(dk_pg_version_level(150099, last + 1000 * DAY, &end), DK_STORE_NOTE);
    assert_int_equal(dk_pg_version_level(160001, last, &end), DK_STORE_WELL);
    assert_int_equal(dk_pg_version_level(990000, last, &end), DK_STORE_WELL); /* not known yet */
    assert_int_equal(end, 0);
}

/* ---- one database ---------------------------------------------------------------------------- */

static char url[DK_PG_URL];
static struct dk_test_world w;
static struct dk_store store;

static int open_store(void **state)
{
    (void)state;
    struct dk_err err;
    dk_pg_database_new(url);
    dk_test_world_init(&w);
    dk_err_clear(&err);
    return dk_store_open(&w.world, url, &store, &err) == DK_OK ? 0 : -1;
}

static int close_store(void **state)
{
    (void)state;
    dk_store_close(&store);
    dk_pg_database_drop(url);
    return atomic_load(&w.live);
}

struct told {
    const char *name;
    int count;
    enum dk_store_level level;
    char text[400];
    const char *sql; /* run at the first note */
};

static void take(void *arg, const struct dk_store_note *note)
{
    struct told *told = arg;
    char sqlstate[6];
    assert_true(note->text[0] != '\0');
    assert_true(note->level != DK_STORE_FINDING || note->fix[0] != '\0');
    if (told->sql != NULL) {
        assert_true(dk_pg_sql(url, told->sql, sqlstate));
        told->sql = NULL;
    }
    if (strcmp(note->name, told->name) == 0) {
        told->count++;
        told->level = note->level;
        snprintf(told->text, sizeof told->text, "%s", note->text);
    }
}

static void the_clocks_are_compared(void **state)
{
    (void)state;
    static const struct {
        int64_t ahead_s;
        enum dk_store_level level;
        const char *words;
    } clocks[] = {
        {0, DK_STORE_WELL, "agree"},        {-1, DK_STORE_WELL, "agree"},
        {20, DK_STORE_NOTE, "ahead of"},    {-20, DK_STORE_NOTE, "behind"},
        {70, DK_STORE_FINDING, "ahead of"}, {-70, DK_STORE_FINDING, "behind"},
    };
    struct dk_err err;
    for (size_t i = 0; i < sizeof clocks / sizeof clocks[0]; i++) {
        struct told told = {.name = "server clock"};
        struct timespec now;
        clock_gettime(CLOCK_REALTIME, &now);
        w.wall_us = now.tv_sec * SECOND + now.tv_nsec / 1000 - clocks[i].ahead_s * SECOND;
        DK_TEST_OK(err, store.ops->circumstances(store.self, take, &told, &err));
        assert_int_equal(told.count, 1);
        assert_int_equal(told.level, clocks[i].level);
        assert_non_null(strstr(told.text, clocks[i].words));
    }
}

static void a_server_that_goes_away_ends_the_visit(void **state)
{
    (void)state;
    struct dk_err err;
    struct told told = {.name = "encoding",
                        .sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE "
                               "datname = current_database() AND pid <> pg_backend_pid()"};
    DK_TEST_FAILS(err, UNREACHABLE, store.ops->circumstances(store.self, take, &told, &err));
    assert_int_equal(told.count, 0);
    DK_TEST_OK(err, store.ops->circumstances(store.self, take, &told, &err)); /* and the next */
    assert_int_equal(told.count, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(off_this_machine_only_a_proven_name_is_well),
        cmocka_unit_test(a_version_is_told_of_half_a_year_before_its_end),
        cmocka_unit_test(the_clocks_are_compared),
        cmocka_unit_test(a_server_that_goes_away_ends_the_visit),
    };
    return cmocka_run_group_tests(tests, open_store, close_store);
}
