#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "support/expect.h"
#include "support/pg.h"

static char url[DK_PG_URL];
static char state_of[6];

static int open_database(void **state)
{
    (void)state;
    dk_pg_database_new(url);
    return 0;
}

static int drop_database(void **state)
{
    (void)state;
    dk_pg_database_drop(url);
    return 0;
}

static void sql_runs_and_is_read_back(void **state)
{
    (void)state;
    assert_true(
        dk_pg_sql(url, "CREATE TABLE t (a int, b text); INSERT INTO t VALUES (1, 'x')", state_of));
    assert_string_equal(state_of, "00000");
    assert_true(dk_pg_sql(url, "INSERT INTO t VALUES (-2, NULL)", state_of));
    assert_int_equal(dk_pg_number(url, "SELECT min(a) FROM t"), -2);
    char *text = dk_pg_text(url, "SELECT a, b FROM t ORDER BY a");
    assert_string_equal(text, "-2|\n1|x\n");
    free(text);
}

static void errors_have_their_sqlstate(void **state)
{
    (void)state;
    static const struct {
        const char *sql;
        const char *state;
    } errors[] = {
        {"SELEC 1", "42601"},
        {"SELECT * FROM nothing", "42P01"},
        {"CREATE TABLE u (a int PRIMARY KEY); INSERT INTO u VALUES (1), (1)", "23505"},
        {"SELECT pg_terminate_backend(pg_backend_pid())", "57P01"},
    };
    for (size_t i = 0; i < sizeof errors / sizeof errors[0]; i++) {
        assert_false(dk_pg_sql(url, errors[i].sql, state_of));
        assert_string_equal(state_of, errors[i].state);
    }
    /* What came before the error in the same call is undone. */
    assert_int_equal(dk_pg_number(url, "SELECT count(*) FROM pg_tables WHERE tablename = 'u'"), 0);
    assert_false(dk_pg_sql("postgresql://dek@127.0.0.1:1/postgres", "SELECT 1", state_of));
    assert_string_equal(state_of, "08006");
}

static void a_copy_is_another_database(void **state)
{
    (void)state;
    char copy[DK_PG_URL];
    assert_true(dk_pg_sql(url, "CREATE TABLE c AS SELECT 7 AS a", state_of));
    dk_pg_database_copy(url, copy);
    assert_string_not_equal(copy, url);
    assert_true(dk_pg_sql(copy, "UPDATE c SET a = 8", state_of));
    assert_int_equal(dk_pg_number(url, "SELECT a FROM c"), 7);
    assert_int_equal(dk_pg_number(copy, "SELECT a FROM c"), 8);
    dk_pg_database_replace(copy, url);
    assert_int_equal(dk_pg_number(copy, "SELECT a FROM c"), 7);
    dk_pg_database_drop(copy);
    assert_false(dk_pg_sql(copy, "SELECT 1", state_of));
}

static void a_database_that_was_renamed_is_not_there(void **state)
{
    (void)state;
    char away[DK_PG_URL];
    dk_pg_database_rename(url, away);
    assert_false(dk_pg_sql(url, "SELECT 1", state_of));
    assert_int_equal(dk_pg_number(away, "SELECT 1"), 1);
    dk_pg_database_rename_to(away, url);
    assert_int_equal(dk_pg_number(url, "SELECT 1"), 1);
}

/* Also while the pool holds a connection to it: that is cut, and the next one is made. */
static void the_pool_leads_to_the_same_database(void **state)
{
    (void)state;
    char pooled[DK_PG_URL], copy[DK_PG_URL];
    dk_pg_pooled(url, pooled);
    assert_string_not_equal(pooled, url);
    assert_true(dk_pg_sql(pooled, "CREATE TABLE p AS SELECT 9 AS a", state_of));
    assert_int_equal(dk_pg_number(url, "SELECT a FROM p"), 9);
    dk_pg_database_copy(url, copy);
    assert_true(dk_pg_sql(url, "UPDATE p SET a = 10", state_of));
    assert_int_equal(dk_pg_number(pooled, "SELECT a FROM p"), 10);
    dk_pg_database_replace(url, copy);
    assert_int_equal(dk_pg_number(pooled, "SELECT a FROM p"), 9);
    dk_pg_database_drop(copy);
}

/* ---- a server of one's own ------------------------------------------------------------------- */

static const char *program;

static int start_own(void *arg)
{
    unsetenv("DEKHAND_TEST_PG");
    execl(program, program, (const char *)arg, (char *)NULL);
    return 127;
}

/* Told to a new process of this program: starts a server, leaves its URL, ends as it is told. */
static int run_own(const char *path)
{
    const char *server = dk_pg_server();
    int64_t ordinary = dk_pg_number(server, "SELECT 1");
    dk_test_file_write(path, server, strlen(server), 0644);
    bool killed = strstr(path, "killed") != NULL;
    if (killed && fork() == 0) {
        sleep(10); /* a child that is left over keeps nothing alive */
        _exit(0);
    }
    if (killed) {
        abort();
    }
    return ordinary == 1 ? 0 : 1;
}

static void assert_server_goes(const char *how, bool ends_well)
{
    char folder[64];
    char path[128];
    char own[DK_PG_URL] = "";
    dk_test_folder_new(folder);
    snprintf(path, sizeof path, "%s/%s", folder, how);
    assert_int_equal(dk_test_in_child(false, start_own, path), ends_well);
    FILE *file = fopen(path, "re");
    assert_non_null(file);
    assert_non_null(fgets(own, sizeof own, file));
    fclose(file);
    assert_string_not_equal(own, dk_pg_server());
    int tries = 0;
    while (dk_pg_sql(own, "SELECT 1", state_of) && tries < 3000) {
        usleep(10000);
        tries++;
    }
    assert_string_not_equal(state_of, "00000");
    dk_test_folder_remove(folder);
}

static void own_server_goes_with_its_process(void **state)
{
    (void)state;
    assert_server_goes("ended", true);
    assert_server_goes("killed", false);
}

int main(int argc, char **argv)
{
    program = argv[0];
    if (argc == 2) {
        return run_own(argv[1]);
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sql_runs_and_is_read_back),
        cmocka_unit_test(errors_have_their_sqlstate),
        cmocka_unit_test(a_copy_is_another_database),
        cmocka_unit_test(a_database_that_was_renamed_is_not_there),
        cmocka_unit_test(the_pool_leads_to_the_same_database),
        cmocka_unit_test(own_server_goes_with_its_process),
    };
    return cmocka_run_group_tests(tests, open_database, drop_database);
}
