#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

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
        _exit(first == DEKHAND_E_FORKED && second == DEKHAND_E_FORKED ? 0 : 1);
    }
    inside->child_status = wait_for(child);
}

static void a_child_of_a_fork_inside_a_transaction_is_told(void **state)
{
    (void)state;
    struct dk_place place;
    struct inside inside = {.child_status = -1};
    uint32_t to = 0;
    dk_place_new(&place, false);
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
#ifdef __SANITIZE_THREAD__
    print_message("forking with threads at work is not supported by this sanitizer\n");
    return;
#endif
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(I18_a_child_with_a_warm_parent_seals_and_opens_under_other_nonces),
        cmocka_unit_test(a_child_that_only_closes_writes_no_counts),
        cmocka_unit_test(a_grandchild_goes_on_too),
        cmocka_unit_test(a_child_without_the_master_key_file_says_so),
        cmocka_unit_test(a_child_of_a_fork_inside_a_transaction_is_told),
        cmocka_unit_test(I18_forks_under_load_give_right_bytes_or_a_clear_no),
    };
    return cmocka_run_group_tests_name("fork", tests, NULL, NULL);
}
