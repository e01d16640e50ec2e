#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include <sys/wait.h>
#include <unistd.h>

#include "support/world.h"

/*
 * A fork at every labelled point of a change, as another thread of the process might do it: with
 * keys in hand and counts not yet written. Inside a transaction the child is told E_FORKED;
 * elsewhere it goes on. It never hangs, nothing of the parent's is lost or written twice.
 */

#define ASSERT_CODE(call, code) assert_string_equal(dekhand_error_name(call), #code)
#define HANGS_AFTER_SECONDS 120
#ifdef __SANITIZE_THREAD__
#define BY_CHILD 0
#else
#define BY_CHILD 4 /* counted at its close */
#endif

enum change { FIRST_USE, BATCH, ROTATE, COLD_READ };

static const struct {
    enum change change;
    const char *label;
    bool in_transaction;
} points[] = {
    {FIRST_USE, "first_use.begin", false},
    {FIRST_USE, "first_use.generated", false},
    {FIRST_USE, "first_use.tenant_inserted", true},
    {FIRST_USE, "first_use.key_inserted", true},
    {FIRST_USE, "first_use.log_written", true},
    {FIRST_USE, "change.sealed", true},
    {FIRST_USE, "first_use.before_commit", true},
    {FIRST_USE, "first_use.committed", false},
    {FIRST_USE, "first_use.read_back", false},
    {BATCH, "first_use.key_inserted", true},
    {BATCH, "unwrap.log_written", true},
    {ROTATE, "rotate.begin", false},
    {ROTATE, "rotate.generated", false},
    {ROTATE, "rotate.locked", true},
    {ROTATE, "tenant_change.tenant_updated", true},
    {ROTATE, "rotate.old_retired", true},
    {ROTATE, "rotate.key_inserted", true},
    {ROTATE, "tenant_change.log_written", true},
    {ROTATE, "rotate.before_commit", true},
    {ROTATE, "rotate.committed", false},
    {ROTATE, "rotate.read_back", false},
    {COLD_READ, "unwrap.log_written", true},
};
#define POINTS (sizeof points / sizeof points[0])

struct state {
    struct dk_place place;
    struct dekhand *d;
    size_t point;
    struct dk_test_value hot; /* of "warm" */
    int child_status;         /* -1: the label was not passed */
};

static bool is(int code, const char *name)
{
    return strcmp(dekhand_error_name(code), name) == 0;
}

static int live_in_child(struct state *state)
{
    const char *wanted = points[state->point].in_transaction ? "E_FORKED" : "OK";
    struct dk_test_value value;
    alarm(HANGS_AFTER_SECONDS);
    for (int i = 0; i < 2; i++) {
        DK_TEST_CHILD(is(dk_test_decrypt(state->d, "warm", &state->hot, "hot"), wanted));
        DK_TEST_CHILD(is(dk_test_encrypt(state->d, "warm", "x", &value), wanted));
        DK_TEST_CHILD(is(dk_test_encrypt(state->d, "of-the-child", "x", &value), wanted));
    }
#ifdef __SANITIZE_THREAD__ /* to it, a mutex that was initialised anew is still locked */
    return 0;
#else
    return dekhand_close(state->d, NULL);
#endif
}

static void fork_there(void *arg, const char *label)
{
    struct state *state = arg;
    if (state->child_status != -1 || strcmp(label, points[state->point].label) != 0) {
        return;
    }
    state->child_status = 0;
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        state->d->in->world.trace = NULL;
        _exit(live_in_child(state));
    }
    if (waitpid(child, &state->child_status, 0) != child) {
        state->child_status = -2;
    }
}

static int change(struct state *state)
{
    struct dk_test_value value;
    uint8_t out[2][DK_TEST_VALUE];
    struct dekhand_item items[2] = {
        {.tenant = "new", .out = out[0], .capacity = DK_TEST_VALUE},
        {.tenant = "newer", .out = out[1], .capacity = DK_TEST_VALUE},
    };
    switch (points[state->point].change) {
    case FIRST_USE:
        return dk_test_encrypt(state->d, "new", "x", &value);
    case BATCH:
        return dekhand_encrypt_batch(state->d, items, 2, NULL);
    case ROTATE:
        return dk_test_rotate(state->d, "warm", 0, NULL);
    default:
        state->place.w.mono_ms += state->place.limits.hard_ttl_ms + 1;
        return dk_test_decrypt(state->d, "warm", &state->hot, "hot");
    }
}

static void check(struct state *state, int64_t sealed)
{
    struct dekhand_audit_result audit = {.size = sizeof audit};
    ASSERT_CODE(dk_test_decrypt(state->d, "warm", &state->hot, "hot"), OK);
    ASSERT_CODE(dekhand_audit_verify(state->d, NULL, NULL, &audit, NULL), OK);
    assert_int_equal(audit.findings, 0);
    dk_place_close(state->d);
    assert_int_equal(dk_place_number(&state->place, "SELECT sum(messages) FROM encryption_keys"),
                     sealed);
    assert_int_equal(dk_place_number(&state->place, "SELECT count(*) FROM encryption_keys WHERE "
                                                    "tenant_id = 'of-the-child'"),
                     points[state->point].in_transaction ? 0 : 1);
}

static void R25_a_fork_at_any_point_gives_right_bytes_or_a_clear_no(void **unused)
{
    (void)unused;
    static struct state state;
    for (size_t i = 0; i < POINTS; i++) {
        memset(&state, 0, sizeof state);
        state.point = i;
        state.child_status = -1;
        dk_place_new(&state.place, false);
        state.d = dk_place_open(&state.place);
        ASSERT_CODE(dk_test_encrypt(state.d, "warm", "hot", &state.hot), OK);
        ASSERT_CODE(dk_test_decrypt(state.d, "warm", &state.hot, "hot"), OK);
        state.d->in->world.trace = fork_there;
        state.d->in->world.trace_arg = &state;
        ASSERT_CODE(change(&state), OK);
        if (state.child_status != 0) {
            fail_msg("%s: the child ended with status 0x%x", points[i].label,
                     (unsigned)state.child_status);
        }
        /* one by the parent before, those of its change, those of a child that may */
        int64_t sealed = 1 + (points[i].change == FIRST_USE) + 2 * (points[i].change == BATCH) +
                         (points[i].in_transaction ? 0 : BY_CHILD);
        check(&state, sealed);
        dk_place_free(&state.place);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(R25_a_fork_at_any_point_gives_right_bytes_or_a_clear_no),
    };
    dk_test_folders_in_memory();
    return cmocka_run_group_tests_name("fork points", tests, NULL, NULL);
}
