#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

/* A process that forks with connections open, also amid a request. Against the fake. */
#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>

#include "support/cloud.h"
#include "support/expect.h"
#include "support/http_ask.h"

static struct dk_ask_desk desk;

static int begin(void **state)
{
    (void)state;
    dk_ask_desk_open(&desk, dk_ask_quick);
    return 0;
}

static int end(void **state)
{
    (void)state;
    assert_true(dk_ask_desk_close(&desk));
    return 0;
}

static void succeeds(struct dk_http *with, const struct dk_endpoint *to)
{
    struct dk_ask ask = dk_ask_of(to);
    if (dk_ask_run(with, &ask) != DK_OK) {
        fail_msg("%s", ask.err.text);
    }
    assert_int_equal(ask.status, 200);
}

static int ask_as_a_child(void *arg)
{
    struct dk_http *ours = arg;
    dk_http_after_fork(ours);
    for (int i = 0; i < 3; i++) {
        struct dk_ask ask = dk_ask_of(&desk.tls);
        DK_TEST_CHILD(dk_ask_run(ours, &ask) == DK_OK);
        DK_TEST_CHILD(ask.status == 200);
    }
    dk_http_close(ours);
    return 0;
}

static void a_child_makes_a_connection_of_its_own_and_the_parents_goes_on(void **state)
{
    (void)state;
    succeeds(desk.http, &desk.tls);
    int before = dk_cloud_count("connections");
    assert_true(dk_test_in_child(false, ask_as_a_child, desk.http));
    assert_int_equal(dk_cloud_count("connections"), before + 1);
    for (int i = 0; i < 3; i++) {
        succeeds(desk.http, &desk.tls);
    }
    assert_int_equal(dk_cloud_count("connections"), before + 1);
    assert_int_equal(dk_ask_count(), 7);
}

static void *ask_slowly(void *arg)
{
    struct dk_ask *ask = arg;
    (void)dk_ask_run(desk.http, ask);
    return NULL;
}

/* The other thread's lane is in the middle of an answer when the process forks. */
static void a_fork_amid_a_request_disturbs_it_not(void **state)
{
    (void)state;
    struct dk_ask slow = dk_ask_of(&desk.tls);
    pthread_t thread;
    dk_ask_script("{\"fault\":\"slow\",\"seconds\":0.5}", 1);
    assert_int_equal(pthread_create(&thread, NULL, ask_slowly, &slow), 0);
    for (int i = 0; i < 5000 && dk_ask_count() == 0; i++) {
        usleep(1000);
    }
    assert_int_equal(dk_ask_count(), 1);
    assert_true(dk_test_in_child(false, ask_as_a_child, desk.http));
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(slow.err.rc, DK_OK);
    assert_int_equal(slow.status, 200);
    assert_int_equal(slow.built, 1);
}

enum { FILES = 64 };

/* A service that turns into a daemon: it closes all, and what it opens has the sockets' numbers. */
static int go_on_as_a_daemon(void *arg)
{
    struct dk_http *ours = arg;
    int files[FILES];
    struct stat before[FILES], after;
    closefrom(3);
    for (int i = 0; i < FILES; i++) {
        files[i] = open("/tmp", O_TMPFILE | O_RDWR, 0600);
        DK_TEST_CHILD(files[i] >= 0 && write(files[i], "1", 1) == 1);
        DK_TEST_CHILD(fstat(files[i], &before[i]) == 0);
    }
    dk_http_after_fork(ours);
    for (int i = 0; i < FILES; i++) {
        DK_TEST_CHILD(fstat(files[i], &after) == 0);
        DK_TEST_CHILD(after.st_ino == before[i].st_ino && after.st_size == 1);
    }
    return ask_as_a_child(ours);
}

static void a_child_that_closed_all_keeps_what_it_opened_since(void **state)
{
    (void)state;
    succeeds(desk.http, &desk.tls);
    assert_true(dk_test_in_child(false, go_on_as_a_daemon, desk.http));
    succeeds(desk.http, &desk.tls);
    assert_int_equal(dk_ask_count(), 5);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_child_makes_a_connection_of_its_own_and_the_parents_goes_on),
        TEST(a_fork_amid_a_request_disturbs_it_not),
        TEST(a_child_that_closed_all_keeps_what_it_opened_since),
    };
    return cmocka_run_group_tests_name("http_fork", tests, NULL, NULL);
}
