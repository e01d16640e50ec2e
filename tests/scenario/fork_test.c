#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "support/world.h"

#define ASSERT_CODE(call, code) assert_string_equal(dekhand_error_name(call), #code)

/* What a child found, in memory that the parent sees. */
struct report {
    struct dk_test_value value;
    int code;
    int decrypted;
};

static int wait_for(pid_t child)
{
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static pid_t run_child(struct dekhand *d, struct report *report, const struct dk_test_value *old)
{
    pid_t child = fork();
    if (child == 0) {
        report->code = dk_test_encrypt(d, "acme", "from the child", &report->value);
        report->decrypted = dk_test_decrypt(d, "acme", old, "from the parent");
        _exit(dekhand_close(d, NULL) == DEKHAND_OK ? 0 : 1);
    }
    return child;
}

static void I18_a_child_with_a_warm_parent_seals_and_opens_under_other_nonces(void **state)
{
    (void)state;
    struct dk_place place;
    struct dk_test_value before, after;
    struct report *reports = dk_test_shared(2 * sizeof *reports);
    dk_place_new(&place, false);
    struct dekhand *d = dk_place_open(&place);
    ASSERT_CODE(dk_test_encrypt(d, "acme", "from the parent", &before), OK);
    pid_t first = run_child(d, &reports[0], &before);
    pid_t second = run_child(d, &reports[1], &before);
    ASSERT_CODE(dk_test_encrypt(d, "acme", "from the parent", &after), OK);
    assert_int_equal(wait_for(first), 0);
    assert_int_equal(wait_for(second), 0);
    for (int i = 0; i < 2; i++) {
        ASSERT_CODE(reports[i].code, OK);
        ASSERT_CODE(reports[i].decrypted, OK);
        ASSERT_CODE(dk_test_decrypt(d, "acme", &reports[i].value, "from the child"), OK);
    }
    /* dk1.1. and 22 characters of commitment and a bit; the nonce follows */
    assert_memory_not_equal(reports[0].value.p + 28, reports[1].value.p + 28, 15);
    assert_memory_not_equal(reports[0].value.p + 28, after.p + 28, 15);
    dk_place_close(d);
    /* Parent: two; each child: one. Nobody counts another's. */
    assert_int_equal(dk_place_number(&place, "SELECT sum(messages) FROM encryption_keys"), 4);
    dk_place_free(&place);
}

static void a_child_that_only_closes_writes_no_counts(void **state)
{
    (void)state;
    struct dk_place place;
    struct dk_test_value value;
    dk_place_new(&place, false);
    struct dekhand *d = dk_place_open(&place);
    ASSERT_CODE(dk_test_encrypt(d, "acme", "x", &value), OK);
    pid_t child = fork();
    if (child == 0) {
        _exit(dekhand_close(d, NULL) == DEKHAND_OK ? 0 : 1);
    }
    assert_int_equal(wait_for(child), 0);
    assert_int_equal(dk_place_number(&place, "SELECT sum(messages) FROM encryption_keys"), 0);
    ASSERT_CODE(dk_test_decrypt(d, "acme", &value, "x"), OK);
    dk_place_close(d);
    assert_int_equal(dk_place_number(&place, "SELECT sum(messages) FROM encryption_keys"), 1);
    dk_place_free(&place);
}

enum { FILES = 64 };

/* As a service that turns into a daemon; its files get the numbers that our connections had. */
static int close_all_and_seal(struct dekhand *d, struct report *report)
{
    int files[FILES];
    struct stat before[FILES], after;
    closefrom(3);
    for (int i = 0; i < FILES; i++) {
        files[i] = open("/tmp", O_TMPFILE | O_RDWR, 0600);
        if (files[i] < 0 || write(files[i], "1", 1) != 1 || fstat(files[i], &before[i]) != 0) {
            return 1;
        }
    }
    report->code = dk_test_encrypt(d, "acme", "from the child", &report->value);
    for (int i = 0; i < FILES; i++) {
        if (fstat(files[i], &after) != 0 || after.st_ino != before[i].st_ino ||
            after.st_size != 1) {
            return 2;
        }
    }
    return dekhand_close(d, NULL) == DEKHAND_OK ? 0 : 3;
}

static void a_child_that_closed_all_keeps_what_it_opened_since(void **state)
{
    (void)state;
    struct dk_place place;
    struct dk_test_value value;
    struct report *report = dk_test_shared(sizeof *report);
    dk_place_new(&place, false);
    struct dekhand *d = dk_place_open(&place);
    ASSERT_CODE(dk_test_encrypt(d, "acme", "from the parent", &value), OK);
    pid_t child = fork();
    if (child == 0) {
        _exit(close_all_and_seal(d, report));
    }
    assert_int_equal(wait_for(child), 0);
    ASSERT_CODE(report->code, OK);
    ASSERT_CODE(dk_test_decrypt(d, "acme", &report->value, "from the child"), OK);
    dk_place_close(d);
    dk_place_free(&place);
}

static void a_grandchild_goes_on_too(void **state)
{
    (void)state;
    struct dk_place place;
    struct dk_test_value value;
    dk_place_new(&place, false);
    struct dekhand *d = dk_place_open(&place);
    ASSERT_CODE(dk_test_encrypt(d, "acme", "x", &value), OK);
    pid_t child = fork();
    if (child == 0) {
        pid_t grandchild = fork();
        if (grandchild == 0) {
            _exit(dk_test_decrypt(d, "acme", &value, "x"));
        }
        int status = 0;
        bool ok = waitpid(grandchild, &status, 0) == grandchild && status == 0;
        _exit(ok && dk_test_decrypt(d, "acme", &value, "x") == DEKHAND_OK ? 0 : 1);
    }
    assert_int_equal(wait_for(child), 0);
    dk_place_close(d);
    dk_place_free(&place);
}

static void a_child_without_the_master_key_file_says_so(void **state)
{
    (void)state;
    struct dk_place place;
    struct dk_test_value value;
    char path[128];
    dk_place_new(&place, false);
    struct dekhand *d = dk_place_open(&place);
    ASSERT_CODE(dk_test_encrypt(d, "acme", "x", &value), OK);
    snprintf(path, sizeof path, "%s/master.key", place.folder);
    assert_int_equal(unlink(path), 0);
    pid_t child = fork();
    if (child == 0) {
        int first = dk_test_decrypt(d, "acme", &value, "x");
        int second = dk_test_decrypt(d, "acme", &value, "x");
        _exit(first == DEKHAND_E_NO_MASTER_KEY && second == first ? 0 : 1);
    }
    assert_int_equal(wait_for(child), 0);
    ASSERT_CODE(dk_test_decrypt(d, "acme", &value, "x"), OK); /* the parent has it in memory */
    dk_place_close(d);
    dk_place_free(&place);
}

/* The trace point inside the write transaction forks, as another thread of the process might. */
struct inside {
    struct dekhand *d;
    int wanted; /* from the child's calls */
    struct dk_test_value value;
    int child_status;
};

static void fork_inside(void *arg, const char *label)
{
    struct inside *inside = arg;
    if (strcmp(label, "rotate.locked") != 0) {
        return;
    }
    pid_t child = fork();
    if (child == 0) {
        int first = dk_test_decrypt(inside->d, "acme", &inside->value, "x");
        int second = dk_test_decrypt(inside->d, "acme", &inside->value, "x");
        _exit(first == inside->wanted && second == inside->wanted ? 0 : 1);
    }
    inside->child_status = wait_for(child);
}

/* It is told, or has connections of its own: nothing of SQLite's may be carried over a fork. */
static void a_child_of_a_fork_inside_a_transaction_leaves_it_alone(void **state)
{
    (void)state;
    struct dk_place place;
    struct inside inside = {.child_status = -1};
    uint32_t to = 0;
    dk_place_new(&place, false);
    inside.wanted = dk_place_is_postgres(&place) ? DEKHAND_OK : DEKHAND_E_FORKED;
    place.w.world.trace = fork_inside;
    place.w.world.trace_arg = &inside;
    inside.d = dk_place_open(&place);
    ASSERT_CODE(dk_test_encrypt(inside.d, "acme", "x", &inside.value), OK);
    ASSERT_CODE(dk_test_rotate(inside.d, "acme", 0, &to), OK);
    assert_int_equal(inside.child_status, 0);
    assert_int_equal(to, 2);
    ASSERT_CODE(dk_test_decrypt(inside.d, "acme", &inside.value, "x"), OK);
    dk_place_close(inside.d);
    dk_place_free(&place);
}

/* The sanitizers' own allocators have locks that a fork with threads at work leaves shut. */
#ifndef DK_SANITIZED
/* Threads at work while the process forks again and again; children must never see wrong bytes. */
struct busy {
    struct dekhand *d;
    struct dk_test_value value;
    atomic_bool stop;
    atomic_int wrong;
};

static void work_or_fork(void *arg, size_t index)
{
    struct busy *busy = arg;
    if (index > 0) {
        while (!atomic_load(&busy->stop)) {
            struct dk_test_value value;
            if (dk_test_encrypt(busy->d, "acme", "y", &value) != DEKHAND_OK) {
                atomic_fetch_add(&busy->wrong, 1);
            }
        }
        return;
    }
    for (int i = 0; i < 20; i++) {
        pid_t child = fork();
        if (child == 0) {
            int rc = dk_test_decrypt(busy->d, "acme", &busy->value, "x");
            _exit(rc == DEKHAND_OK || rc == DEKHAND_E_FORKED ? 0 : 1);
        }
        int status = 0;
        if (waitpid(child, &status, 0) != child || status != 0) {
            atomic_fetch_add(&busy->wrong, 1);
        }
    }
    atomic_store(&busy->stop, true);
}

static void I18_forks_under_load_give_right_bytes_or_a_clear_no(void **state)
{
    (void)state;
    struct dk_place place;
    static struct busy busy;
    dk_place_new(&place, false);
    busy.d = dk_place_open(&place);
    ASSERT_CODE(dk_test_encrypt(busy.d, "acme", "x", &busy.value), OK);
    dk_test_threads(3, work_or_fork, &busy);
    assert_int_equal(atomic_load(&busy.wrong), 0);
    dk_place_close(busy.d);
    dk_place_free(&place);
}
#endif

/* ---- a family: children by the half dozen, what they seal, whom they wait for ---------------- */

enum { CHILDREN = 4, EACH = 300, HEAD = 5 + 16, NONCE = 12 };

/* What children hand back: lives in shared memory. */
struct shared {
    uint8_t nonces[(CHILDREN + 1) * EACH][NONCE];
    struct dk_test_value values[CHILDREN + 1];
};

struct family {
    struct dk_place place;
    struct dekhand *d;
    struct dk_test_value before;
    struct shared *shared;
};

static void family_new(struct family *family, bool fake)
{
    memset(family, 0, sizeof *family);
    dk_place_new(&family->place, fake);
    family->d = dk_place_open(&family->place);
    family->shared = dk_test_shared(sizeof *family->shared);
    ASSERT_CODE(dk_test_encrypt(family->d, "acme", "before", &family->before), OK);
}

static void family_free(struct family *family)
{
    dk_place_close(family->d);
    dk_place_free(&family->place);
}

/* Seals EACH values of one byte; their nonces go to the family's table. */
static int seal_some(struct family *family, size_t who)
{
    for (size_t i = 0; i < EACH; i++) {
        uint8_t out[64];
        struct dekhand_item item = {.tenant = "acme",
                                    .format = DEKHAND_BINARY,
                                    .in = "x",
                                    .in_size = 1,
                                    .out = out,
                                    .capacity = sizeof out};
        DK_TEST_CHILD(dekhand_encrypt(family->d, &item, NULL) == DEKHAND_OK);
        memcpy(family->shared->nonces[who * EACH + i], out + HEAD, NONCE);
    }
    return 0;
}

static int live_on(void *arg, size_t index)
{
    struct family *family = arg;
    DK_TEST_CHILD(dk_test_decrypt(family->d, "acme", &family->before, "before") == DEKHAND_OK);
    DK_TEST_CHILD(seal_some(family, index) == 0);
    DK_TEST_CHILD(dk_test_encrypt(family->d, "acme", "of a child",
                                  &family->shared->values[index]) == DEKHAND_OK);
    DK_TEST_CHILD(dekhand_close(family->d, NULL) == DEKHAND_OK);
    return 0;
}

static int compare_nonces(const void *a, const void *b)
{
    return memcmp(a, b, NONCE);
}

static void I18_R25_children_go_on_and_no_nonce_comes_twice(void **state)
{
    (void)state;
    struct family family;
    family_new(&family, false); /* a warm cache, a nonce pool in its middle */
    assert_true(dk_test_processes(CHILDREN, live_on, &family));
    assert_int_equal(seal_some(&family, CHILDREN), 0);
    uint8_t *all = family.shared->nonces[0];
    qsort(all, (CHILDREN + 1) * EACH, NONCE, compare_nonces);
    for (size_t i = 1; i < (CHILDREN + 1) * EACH; i++) {
        assert_memory_not_equal(all + (i - 1) * NONCE, all + i * NONCE, NONCE);
    }
    for (size_t i = 0; i < CHILDREN; i++) {
        ASSERT_CODE(dk_test_decrypt(family.d, "acme", &family.shared->values[i], "of a child"), OK);
        assert_true(dk_place_reads(&family.place, "acme", &family.shared->values[i], "of a child"));
    }
    family_free(&family);
}

static int fails_then_works(void *arg)
{
    struct family *family = arg;
    struct dk_test_value value;
    dk_fake_down(family->place.fake);
    DK_TEST_CHILD(dk_test_encrypt(family->d, "acme", "x", &value) == DEKHAND_E_UNREACHABLE);
    DK_TEST_CHILD(dk_test_decrypt(family->d, "acme", &family->before, "before") ==
                  DEKHAND_E_UNREACHABLE);
    dk_fake_up(family->place.fake);
    DK_TEST_CHILD(dk_test_encrypt(family->d, "acme", "x", &value) == DEKHAND_OK);
    DK_TEST_CHILD(dk_test_decrypt(family->d, "acme", &value, "x") == DEKHAND_OK);
    DK_TEST_CHILD(dekhand_close(family->d, NULL) == DEKHAND_OK);
    return 0;
}

static void R4_a_child_without_provider_gets_errors_and_recovers(void **state)
{
    (void)state;
    struct family family;
    family_new(&family, true);
    assert_true(dk_test_in_child(false, fails_then_works, &family));
    ASSERT_CODE(dk_test_decrypt(family.d, "acme", &family.before, "before"), OK);
    assert_int_equal(atomic_load(&family.place.fake->calls[DK_FAKE_AFTER_FORK]) >= 1, 1);
    family_free(&family);
}

/* Another thread is in the middle of a fetch: its flight does not exist in the child. */
static void *fetch(void *arg)
{
    struct family *family = arg;
    struct dk_test_value value;
    return dk_test_encrypt(family->d, "globex", "x", &value) == DEKHAND_OK ? arg : NULL;
}

static int use_beside_flight(void *arg)
{
    struct family *family = arg;
    struct dk_test_value value;
    DK_TEST_CHILD(dk_test_decrypt(family->d, "acme", &family->before, "before") == DEKHAND_OK);
    DK_TEST_CHILD(dk_test_encrypt(family->d, "globex", "y", &value) == DEKHAND_OK);
    DK_TEST_CHILD(dk_test_decrypt(family->d, "globex", &value, "y") == DEKHAND_OK);
    return 0;
}

static void a_child_does_not_wait_for_a_flight_of_its_parent(void **state)
{
    (void)state;
    struct family family;
    pthread_t thread;
    void *good = NULL;
    family_new(&family, true);
    dk_fake_shut_gate(family.place.fake);
    assert_int_equal(pthread_create(&thread, NULL, fetch, &family), 0);
    dk_fake_await(family.place.fake, 1); /* it is at the provider: in no transaction */
    int child = dk_test_child_start(false, use_beside_flight, &family);
    dk_fake_open_gate(family.place.fake);
    bool child_good = dk_test_child_end(child);
    pthread_join(thread, &good);
    assert_true(child_good);
    assert_non_null(good);
    assert_int_equal(dk_place_number(&family.place, "SELECT count(*) FROM encryption_keys"), 2);
    family_free(&family);
}

/* A thread that stands in the random generator when the process forks. */
struct slow_random {
    struct dk_random real;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool shut, inside;
};

static int fill_slowly(void *arg, uint8_t *p, size_t n)
{
    struct slow_random *slow = arg;
    pthread_mutex_lock(&slow->lock);
    slow->inside = slow->shut;
    pthread_cond_broadcast(&slow->changed);
    while (slow->shut) {
        pthread_cond_wait(&slow->changed, &slow->lock);
    }
    pthread_mutex_unlock(&slow->lock);
    return slow->real.fill(slow->real.arg, p, n);
}

static int is_told(void *arg)
{
    struct family *family = arg;
    struct dk_test_value value;
    for (int i = 0; i < 2; i++) {
        DK_TEST_CHILD(dk_test_decrypt(family->d, "acme", &family->before, "before") ==
                      DEKHAND_E_FORKED);
        DK_TEST_CHILD(dk_test_encrypt(family->d, "acme", "x", &value) == DEKHAND_E_FORKED);
    }
    DK_TEST_CHILD(dekhand_close(family->d, NULL) == DEKHAND_OK);
    return 0;
}

/* Its locks may be held for ever in the child: whoever asked there would hang. */
static void a_child_of_a_fork_while_random_bytes_are_drawn_is_told(void **state)
{
    (void)state;
    struct family family;
    struct slow_random slow = {.shut = false};
    pthread_t thread;
    void *good = NULL;
    memset(&family, 0, sizeof family);
    pthread_mutex_init(&slow.lock, NULL);
    pthread_cond_init(&slow.changed, NULL);
    dk_place_new(&family.place, false);
    slow.real = family.place.w.world.random;
    family.place.w.world.random = (struct dk_random){fill_slowly, fill_slowly, &slow};
    family.d = dk_place_open(&family.place);
    ASSERT_CODE(dk_test_encrypt(family.d, "acme", "before", &family.before), OK);
    slow.shut = true;
    assert_int_equal(pthread_create(&thread, NULL, fetch, &family), 0);
    pthread_mutex_lock(&slow.lock);
    while (!slow.inside) {
        pthread_cond_wait(&slow.changed, &slow.lock);
    }
    pthread_mutex_unlock(&slow.lock);
    assert_true(dk_test_in_child(false, is_told, &family));
    pthread_mutex_lock(&slow.lock);
    slow.shut = false;
    pthread_cond_broadcast(&slow.changed);
    pthread_mutex_unlock(&slow.lock);
    pthread_join(thread, &good);
    assert_non_null(good);
    ASSERT_CODE(dk_test_decrypt(family.d, "acme", &family.before, "before"), OK);
    family_free(&family);
    pthread_cond_destroy(&slow.changed);
    pthread_mutex_destroy(&slow.lock);
}

/* ---- threads of a child
 * ---------------------------------------------------------------------------------- */

struct crowd {
    struct family *family;
    atomic_int bad;
};

static void use(void *arg, size_t index)
{
    struct crowd *crowd = arg;
    struct dk_test_value value;
    (void)index;
    int opened = dk_test_decrypt(crowd->family->d, "acme", &crowd->family->before, "before");
    int sealed = dk_test_encrypt(crowd->family->d, "acme", "x", &value);
    atomic_fetch_add(&crowd->bad, opened != DEKHAND_OK || sealed != DEKHAND_OK);
}

static int use_with_threads(void *arg)
{
    struct crowd crowd = {.family = arg};
    dk_test_threads(16, use, &crowd); /* one recovers, the others wait for it */
    DK_TEST_CHILD(crowd.bad == 0);
    DK_TEST_CHILD(dekhand_close(crowd.family->d, NULL) == DEKHAND_OK);
    return 0;
}

static void threads_of_a_child_come_at_once(void **state)
{
    (void)state;
    struct family family;
    family_new(&family, false);
    for (int i = 0; i < 5; i++) {
        assert_true(dk_test_in_child(false, use_with_threads, &family));
    }
    family_free(&family);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(I18_a_child_with_a_warm_parent_seals_and_opens_under_other_nonces),
        cmocka_unit_test(a_child_that_only_closes_writes_no_counts),
        cmocka_unit_test(a_child_that_closed_all_keeps_what_it_opened_since),
        cmocka_unit_test(a_grandchild_goes_on_too),
        cmocka_unit_test(a_child_without_the_master_key_file_says_so),
        cmocka_unit_test(a_child_of_a_fork_inside_a_transaction_leaves_it_alone),
#ifndef DK_SANITIZED
        cmocka_unit_test(I18_forks_under_load_give_right_bytes_or_a_clear_no),
#endif
        cmocka_unit_test(I18_R25_children_go_on_and_no_nonce_comes_twice),
        cmocka_unit_test(R4_a_child_without_provider_gets_errors_and_recovers),
        cmocka_unit_test(a_child_does_not_wait_for_a_flight_of_its_parent),
        cmocka_unit_test(a_child_of_a_fork_while_random_bytes_are_drawn_is_told),
        cmocka_unit_test(threads_of_a_child_come_at_once),
    };
    return cmocka_run_group_tests_name("fork", tests, NULL, NULL);
}
