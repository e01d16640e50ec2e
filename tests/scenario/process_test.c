#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "support/world.h"

/* What is done to a process: killed, stopped, starved, looked into; and a second one beside it. */

#define ASSERT_CODE(call, code) assert_string_equal(dekhand_error_name(call), #code)
#define IS(call, code) (strcmp(dekhand_error_name(call), #code) == 0)

static void check_registry(struct dk_place *place)
{
    struct dekhand_audit_result audit = {.size = sizeof audit};
    struct dekhand *d = dk_place_open(place);
    ASSERT_CODE(dekhand_audit_verify(d, NULL, NULL, &audit, NULL), OK);
    assert_int_equal(audit.findings, 0);
    dk_place_close(d);
    assert_int_equal(dk_place_number(place, "SELECT count(*) FROM (SELECT 1 FROM encryption_keys "
                                            "GROUP BY tenant_id HAVING count(CASE WHEN state = "
                                            "'active' THEN 1 END) <> 1) AS wrong"),
                     0);
}

/* ---- F17, F09: values that processes tell of ------------------------------------------------- */

#define TOLD 600
#define TENANTS 3
static const char *const tenants[TENANTS] = {"acme", "globex", "initech"};

struct told_value {
    atomic_bool done; /* the caller had its answer */
    size_t n;         /* its plaintext, and which tenant's */
    struct dk_test_value value;
};

struct crowd {
    struct dk_place place; /* each process has its own copy of the clock */
    struct shared {
        sem_t told;
        atomic_size_t next, rotations;
        struct told_value values[TOLD];
    } * shared;
};

static const char *plain_of(size_t n, char out[static 32])
{
    snprintf(out, 32, "value number %zu", n);
    return out;
}

static bool tell_one(struct crowd *crowd, struct dekhand *d)
{
    char plain[32];
    size_t n = atomic_fetch_add(&crowd->shared->next, 1);
    if (n >= TOLD) {
        return false;
    }
    struct told_value *told = &crowd->shared->values[n];
    told->n = n;
    if (dk_test_encrypt(d, tenants[n % TENANTS], plain_of(n, plain), &told->value) != DEKHAND_OK) {
        return false;
    }
    atomic_store(&told->done, true);
    sem_post(&crowd->shared->told);
    return true;
}

static int open_told(struct crowd *crowd, struct dekhand *d, size_t n)
{
    char plain[32];
    struct told_value *told = &crowd->shared->values[n];
    return !atomic_load(&told->done)
               ? DEKHAND_OK
               : dk_test_decrypt(d, tenants[n % TENANTS], &told->value, plain_of(n, plain));
}

static void crowd_new(struct crowd *crowd)
{
    memset(crowd, 0, sizeof *crowd);
    dk_place_new(&crowd->place, false);
    crowd->shared = dk_test_shared(sizeof *crowd->shared);
    assert_int_equal(sem_init(&crowd->shared->told, 1, 0), 0);
}

/* Everything told opens in a process that starts afresh. */
static void check_told(struct crowd *crowd)
{
    struct dekhand *d = dk_place_open(&crowd->place);
    for (size_t n = 0; n < TOLD; n++) {
        ASSERT_CODE(open_told(crowd, d, n), OK);
    }
    dk_place_close(d);
    check_registry(&crowd->place);
}

/* A day's work in fast motion: a poll is due at every fifth round. */
static int work_long(void *arg, size_t index)
{
    struct crowd *crowd = arg;
    struct dekhand *d = dk_place_open(&crowd->place);
    for (size_t round = 0; tell_one(crowd, d); round++) {
        size_t seen = atomic_load(&crowd->shared->next) - 1;
        crowd->place.w.mono_ms += 1000;
        crowd->place.w.wall_us += INT64_C(300000000);
        DK_TEST_CHILD(IS(open_told(crowd, d, seen < TOLD ? seen * 7 % (seen + 1) : 0), OK));
        if (round % 10 == 5 * index) {
            int code = dk_test_rotate(d, tenants[round % TENANTS], 0, NULL);
            DK_TEST_CHILD(IS(code, OK) || IS(code, E_CONFLICT) || IS(code, E_NOT_FOUND));
            atomic_fetch_add(&crowd->shared->rotations, IS(code, OK));
        }
    }
    DK_TEST_CHILD(atomic_load(&crowd->shared->next) >= TOLD);
    DK_TEST_CHILD(dekhand_close(d, NULL) == DEKHAND_OK);
    return 0;
}

static void F17_I05_two_processes_share_a_registry_for_a_long_time(void **state)
{
    (void)state;
    static struct crowd crowd;
    crowd_new(&crowd);
    assert_true(dk_test_processes(2, work_long, &crowd));
    for (size_t n = 0; n < TOLD; n++) {
        assert_true(crowd.shared->values[n].done);
    }
    check_told(&crowd);
    /* each rotation that was told made one version, and each version was made once */
    assert_int_equal(dk_place_number(&crowd.place, "SELECT count(*) FROM encryption_keys"),
                     TENANTS + (int64_t)crowd.shared->rotations);
    assert_int_equal(dk_place_number(&crowd.place, "SELECT sum(messages) FROM encryption_keys"),
                     TOLD);
    assert_true(crowd.shared->rotations > TENANTS);
    dk_place_free(&crowd.place);
}

struct worker {
    struct crowd *crowd;
    struct dekhand *d;
};

static void work_until_killed(void *arg, size_t index)
{
    struct worker *worker = arg;
    for (size_t round = 0; tell_one(worker->crowd, worker->d); round++) {
        if (round % 5 == index) {
            (void)dk_test_rotate(worker->d, tenants[round % TENANTS], 0, NULL);
        }
    }
}

static int be_under_load(void *arg)
{
    struct worker worker = {.crowd = arg};
    worker.d = dk_place_open(&worker.crowd->place);
    dk_test_threads(2, work_until_killed, &worker);
    return 0;
}

static void F09_R3_what_a_killed_process_told_is_there(void **state)
{
    (void)state;
    static struct crowd crowd;
    for (int i = 0; i < 6; i++) {
        int status = 0;
        crowd_new(&crowd);
        int pid = dk_test_child_start(false, be_under_load, &crowd);
        for (int told = 0; told < 3 + 20 * i; told++) {
            while (sem_wait(&crowd.shared->told) != 0) {
            }
        }
        assert_int_equal(kill(pid, SIGKILL), 0);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        check_told(&crowd);
        struct dekhand *d = dk_place_open(&crowd.place); /* and life goes on */
        ASSERT_CODE(dk_test_rotate(d, "acme", 0, NULL), OK);
        atomic_store(&crowd.shared->next, TOLD - 1);
        assert_true(tell_one(&crowd, d));
        dk_place_close(d);
        check_told(&crowd);
        dk_place_free(&crowd.place);
    }
}

/* ---- F10: stopped, then continued ------------------------------------------------------------ */

struct stopped {
    struct dk_place place; /* all of it is shared: the clock is moved from outside */
    int64_t for_ms;
    uint32_t version;
    int decrypted;
};

static int stop_and_go_on(void *arg)
{
    struct stopped *stopped = arg;
    struct dk_test_value before, after;
    struct dekhand *d = dk_place_open(&stopped->place);
    DK_TEST_CHILD(IS(dk_test_encrypt(d, "acme", "before", &before), OK));
    raise(SIGSTOP);
    DK_TEST_CHILD(IS(dk_test_encrypt(d, "acme", "after", &after), OK));
    stopped->version = dk_test_version(&after);
    stopped->decrypted = dk_test_decrypt(d, "acme", &before, "before");
    DK_TEST_CHILD(dekhand_close(d, NULL) == DEKHAND_OK);
    return 0;
}

/* The world goes on meanwhile: the version it has in hand is compromised, time passes. */
static void stop_for(int64_t ms)
{
    int status = 0;
    struct stopped *stopped = dk_test_shared(sizeof *stopped);
    dk_place_new(&stopped->place, false);
    int pid = dk_test_child_start(false, stop_and_go_on, stopped);
    assert_int_equal(waitpid(pid, &status, WUNTRACED), pid);
    assert_true(WIFSTOPPED(status));
    struct dekhand *d = dk_place_open(&stopped->place);
    struct dekhand_rotate_args args = {
        .size = sizeof args, .which = DEKHAND_ROTATE_TENANT, .tenant = "acme", .compromised = true};
    ASSERT_CODE(dekhand_rotate(d, &args, NULL, NULL, NULL), OK);
    dk_place_close(d);
    stopped->place.w.mono_ms += ms;
    stopped->place.w.wall_us += ms * 1000;
    assert_int_equal(kill(pid, SIGCONT), 0);
    assert_true(dk_test_child_end(pid));
    assert_int_equal(stopped->version, 2);
    ASSERT_CODE(stopped->decrypted, OK);
    check_registry(&stopped->place);
    dk_place_free(&stopped->place);
}

static void F10_a_process_stopped_for_hours_looks_again_before_it_encrypts(void **state)
{
    (void)state;
    stop_for(INT64_C(7200) * 1000);
}

static void F10_a_process_stopped_for_a_moment_looks_again_too(void **state)
{
    (void)state;
    stop_for(dk_limits_default.poll_ms);
}

/* ---- F07, F08: out of descriptors, out of processes ------------------------------------------ */

static bool descriptors(rlim_t most)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) {
        return false;
    }
    limit.rlim_cur = most;
    return setrlimit(RLIMIT_NOFILE, &limit) == 0;
}

static int warm(struct dekhand *d)
{
    struct dk_test_value value;
    DK_TEST_CHILD(IS(dk_test_encrypt(d, "acme", "hot", &value), OK));
    return IS(dk_test_decrypt(d, "acme", &value, "hot"), OK) ? 0 : 1;
}

/* 100: there were enough. */
static int use_with_few(struct dk_place *place, rlim_t most, struct dekhand *d)
{
    struct dekhand *second = NULL;
    struct dekhand_error error;
    struct dk_test_value value;
    DK_TEST_CHILD(warm(d) == 0);
    DK_TEST_CHILD(descriptors(most));
    DK_TEST_CHILD(warm(d) == 0);
    int code = dk_test_encrypt(d, "cold", "x", &value);
    DK_TEST_CHILD(IS(code, E_STORE) || IS(code, E_UNREACHABLE) || IS(code, OK));
    int opened = dk_place_try_open(place, &second, &error);
    DK_TEST_CHILD(IS(opened, E_STORE) || IS(opened, E_IO) || IS(opened, E_UNREACHABLE) ||
                  IS(opened, OK));
    DK_TEST_CHILD(opened == DEKHAND_OK || strstr(error.text, "Too many open files") != NULL);
    DK_TEST_CHILD(opened != DEKHAND_OK || dekhand_close(second, NULL) == DEKHAND_OK);
    DK_TEST_CHILD(descriptors(1024));
    return IS(code, OK) && IS(opened, OK) ? 100 : 0;
}

/* From none to as many as it takes. */
static int live_with_few(void *arg)
{
    struct dk_place *place = arg;
    struct dekhand *d = dk_place_open(place);
    int first = open("/dev/null", O_RDONLY | O_CLOEXEC), rc = 0;
    rlim_t enough = dk_place_is_postgres(place) ? 2 : 3; /* one less where connections stay */
    close(first);
    for (rlim_t more = 0; rc == 0; more++) {
        DK_TEST_CHILD(more < 12);
        rc = use_with_few(place, (rlim_t)first + more, d);
        DK_TEST_CHILD(rc == 0 || (rc == 100 && more >= enough));
        DK_TEST_CHILD(IS(dk_test_rotate(d, "acme", 0, NULL), OK)); /* they are back */
    }
    DK_TEST_CHILD(dekhand_close(d, NULL) == DEKHAND_OK);
    return 0;
}

static void F07_without_descriptors_there_is_an_error_and_then_life_goes_on(void **state)
{
    (void)state;
    struct dk_place place;
    dk_place_new(&place, false);
    assert_true(dk_test_in_child(false, live_with_few, &place));
    check_registry(&place);
    dk_place_free(&place);
}

static void *nothing(void *arg)
{
    return arg;
}

/* Only an ordinary user is held by the limit. */
static int live_alone(void *arg)
{
    struct dk_place *place = arg;
    struct dekhand_error error;
    struct dk_test_value value;
    struct rlimit none = {0, 0};
    pthread_t thread;
    DK_TEST_CHILD(setrlimit(RLIMIT_NPROC, &none) == 0);
    DK_TEST_CHILD(fork() == -1 && errno == EAGAIN);
    DK_TEST_CHILD(pthread_create(&thread, NULL, nothing, NULL) == EAGAIN);
    DK_TEST_CHILD(dk_place_init(place, &error) == DEKHAND_OK);
    struct dekhand *d = dk_place_open(place);
    DK_TEST_CHILD(IS(dk_test_encrypt(d, "acme", "alone", &value), OK));
    DK_TEST_CHILD(IS(dk_test_rotate(d, "acme", 0, NULL), OK));
    DK_TEST_CHILD(IS(dk_test_decrypt(d, "acme", &value, "alone"), OK));
    place->w.mono_ms += INT64_C(7200000);
    DK_TEST_CHILD(IS(dekhand_tick(d, NULL), OK));
    DK_TEST_CHILD(dekhand_close(d, NULL) == DEKHAND_OK);
    return 0;
}

static void F08_without_threads_and_processes_everything_works(void **state)
{
    (void)state;
    struct dk_place place;
    dk_place_bare(&place, false);
    assert_true(dk_test_in_child(true, live_alone, &place));
    dk_place_free(&place);
}

/* ---- F06: another user looks in -------------------------------------------------------------- */

struct peep {
    pid_t target;
    const void *secret;
};

static int peep(void *arg)
{
    const struct peep *peep = arg;
    char path[64], bytes[16];
    snprintf(path, sizeof path, "/proc/%d/mem", (int)peep->target);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd >= 0) { /* even the open is denied where the kernel is strict; the bytes always are */
        DK_TEST_CHILD(pread(fd, bytes, sizeof bytes, (off_t)(intptr_t)peep->secret) < 0);
        close(fd);
    }
    DK_TEST_CHILD(ptrace(PTRACE_ATTACH, peep->target, NULL, NULL) == -1 && errno == EPERM);
    return 0;
}

static void F06_another_user_can_neither_trace_nor_read_the_process(void **state)
{
    (void)state;
    struct dk_place place;
    struct dk_test_value value;
    dk_place_new(&place, false);
    struct dekhand *d = dk_place_open(&place);
    ASSERT_CODE(dk_test_encrypt(d, "acme", "x", &value), OK);
    struct peep call = {.target = getpid(), .secret = &value};
    if (geteuid() ==
        0) { /* else there is no other user to become: tests/scenario/test_cli_process.py */
        assert_true(dk_test_in_child(true, peep, &call));
    }
    dk_place_close(d);
    dk_place_free(&place);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(F17_I05_two_processes_share_a_registry_for_a_long_time),
        cmocka_unit_test(F09_R3_what_a_killed_process_told_is_there),
        cmocka_unit_test(F10_a_process_stopped_for_hours_looks_again_before_it_encrypts),
        cmocka_unit_test(F10_a_process_stopped_for_a_moment_looks_again_too),
        cmocka_unit_test(F07_without_descriptors_there_is_an_error_and_then_life_goes_on),
        cmocka_unit_test(F08_without_threads_and_processes_everything_works),
        cmocka_unit_test(F06_another_user_can_neither_trace_nor_read_the_process),
    };
    dk_test_folders_in_memory();
    return cmocka_run_group_tests_name("process", tests, NULL, NULL);
}
