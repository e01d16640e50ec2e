#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

/* How AWS credentials are kept fresh. Against the fake. */
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include "support/aws_desk.h"
#include "support/cloud.h"
#include "support/http_ask.h"

#define MINUTE 60

static struct dk_err err;
static struct dk_aws_desk desk;

/* How often they were asked for so far, by the number of the ones that are lent now. */
static unsigned number(void)
{
    struct dk_aws_keys *keys = dk_aws_desk_get(&desk);
    unsigned n = keys->number;
    dk_aws_credentials_put(desk.credentials, keys);
    return n;
}

static void R16_each_source_gives_keys_that_kms_takes(void **state)
{
    (void)state;
    for (enum dk_aws_from from = 0; from < DK_FROM_COUNT; from++) {
        dk_aws_desk_begin(&desk, from);
        struct dk_aws_keys *keys = dk_aws_desk_get(&desk);
        dk_aws_desk_kms_takes(&desk, keys);
        assert_int_equal(keys->number, 1);
        bool temporary = from != DK_FROM_KEYS && from != DK_FROM_COMMAND;
        assert_int_equal(keys->token != NULL, temporary);
        assert_int_equal(keys->pass.good_ms == INT64_MAX, from == DK_FROM_KEYS);
        dk_aws_credentials_put(desk.credentials, keys);
        assert_int_equal(number(), 1); /* and is not asked twice */
        assert_int_equal(dk_aws_desk_asked(), temporary ? 1 : 0);
        dk_aws_desk_end(&desk);
    }
}

/* ---- when they are asked for again ----------------------------------------------------------- */

/* A web identity of an hour: asked for anew from a quarter of an hour before its end. */
static void R16_they_are_fresh_before_they_end(void **state)
{
    (void)state;
    dk_aws_desk_begin(&desk, DK_FROM_WEB_IDENTITY);
    assert_int_equal(number(), 1);
    dk_aws_desk_advance(&desk, 44 * MINUTE);
    assert_int_equal(number(), 1);
    dk_aws_desk_advance(&desk, 1 * MINUTE + 2);
    assert_int_equal(number(), 2);
    assert_int_equal(dk_aws_desk_asked(), 2);
    dk_aws_desk_advance(&desk, 44 * MINUTE);
    assert_int_equal(number(), 2);
    dk_aws_desk_advance(&desk, 2 * MINUTE);
    assert_int_equal(number(), 3);
    dk_aws_desk_end(&desk);
}

static void R16_a_failure_keeps_the_old_ones_to_their_end(void **state)
{
    (void)state;
    dk_aws_desk_begin(&desk, DK_FROM_WEB_IDENTITY);
    assert_int_equal(number(), 1);
    dk_cloud_script("sts", NULL, "{\"fault\":\"html500\"}", -1);
    dk_aws_desk_advance(&desk, 46 * MINUTE);
    assert_int_equal(number(), 1);
    assert_int_equal(dk_aws_desk_asked(), 1 + 3);
    assert_int_equal(number(), 1); /* within a minute nobody asks again */
    assert_int_equal(dk_aws_desk_asked(), 1 + 3);
    dk_aws_desk_advance(&desk, 1 * MINUTE);
    assert_int_equal(number(), 1);
    assert_int_equal(dk_aws_desk_asked(), 1 + 6);
    dk_aws_desk_advance(&desk, 12 * MINUTE); /* in the last ten minutes too */
    struct dk_aws_keys *keys = dk_aws_desk_get(&desk);
    assert_int_equal(keys->number, 1);
    dk_aws_desk_kms_takes(&desk, keys);
    dk_aws_credentials_put(desk.credentials, keys);
    assert_int_equal(dk_aws_desk_asked(), 1 + 9);
    dk_aws_desk_advance(&desk, 2 * MINUTE);
    DK_TEST_FAILS(err, UNREACHABLE, dk_aws_credentials_get(desk.credentials, &keys, &err));
    DK_TEST_SAYS(err, "AWS STS gave no credentials: HTTP 500");
    assert_non_null(strstr(err.trail, "AWS_WEB_IDENTITY_TOKEN_FILE"));
    (void)dk_cloud_control("unscript", "{}");
    dk_aws_desk_advance(&desk, 2);
    assert_int_equal(number(), 2);
    dk_aws_desk_end(&desk);
}

struct getter {
    pthread_t thread;
    struct dk_err err;
    unsigned number;
    int64_t took_ms;
};

static void *get_once(void *arg)
{
    struct getter *g = arg;
    struct dk_aws_keys *keys = NULL;
    int64_t from = dk_ask_now_ms();
    dk_err_clear(&g->err);
    if (dk_aws_credentials_get(desk.credentials, &keys, &g->err) == DK_OK) {
        g->number = keys->number;
        dk_aws_credentials_put(desk.credentials, keys);
    }
    g->took_ms = dk_ask_now_ms() - from;
    return NULL;
}

enum { CROWD = 32 };
static struct getter crowd[CROWD];

static void run_crowd(void)
{
    memset(crowd, 0, sizeof crowd);
    for (int i = 0; i < CROWD; i++) {
        assert_int_equal(pthread_create(&crowd[i].thread, NULL, get_once, &crowd[i]), 0);
    }
    for (int i = 0; i < CROWD; i++) {
        assert_int_equal(pthread_join(crowd[i].thread, NULL), 0);
    }
}

static void a_crowd_of_32_asks_once(void **state)
{
    (void)state;
    dk_aws_desk_begin(&desk, DK_FROM_WEB_IDENTITY);
    (void)dk_cloud_control("latency", "{\"service\":\"sts\",\"seconds\":0.3}");
    run_crowd();
    for (int i = 0; i < CROWD; i++) {
        assert_int_equal(crowd[i].err.rc, DK_OK);
        assert_int_equal(crowd[i].number, 1);
    }
    assert_int_equal(dk_aws_desk_asked(), 1);
    dk_aws_desk_advance(&desk, 51 * MINUTE); /* nine minutes are left: all wait for the new ones */
    run_crowd();
    for (int i = 0; i < CROWD; i++) {
        assert_int_equal(crowd[i].number, 2);
    }
    assert_int_equal(dk_aws_desk_asked(), 2);
    dk_aws_desk_end(&desk);
}

/* Fourteen minutes are left: one thread asks, and the others go on with what they have. */
static void before_that_only_one_waits(void **state)
{
    (void)state;
    dk_aws_desk_begin(&desk, DK_FROM_WEB_IDENTITY);
    assert_int_equal(number(), 1);
    dk_aws_desk_advance(&desk, 46 * MINUTE);
    (void)dk_cloud_control("latency", "{\"service\":\"sts\",\"seconds\":0.5}");
    run_crowd();
    int waited = 0;
    for (int i = 0; i < CROWD; i++) {
        assert_int_equal(crowd[i].err.rc, DK_OK);
        waited += crowd[i].took_ms >= 450;
        assert_true(crowd[i].number == 1 || crowd[i].number == 2);
    }
    assert_int_equal(waited, 1);
    assert_int_equal(dk_aws_desk_asked(), 2);
    dk_aws_desk_end(&desk);
}

/* A source that is down is not asked by each of them in turn. */
static void a_crowd_that_gets_none_asks_once_and_hears_it_together(void **state)
{
    (void)state;
    dk_aws_desk_begin(&desk, DK_FROM_WEB_IDENTITY);
    dk_cloud_script("sts", NULL, "{\"status\":403,\"body\":\"no\"}", -1);
    (void)dk_cloud_control("latency", "{\"service\":\"sts\",\"seconds\":0.2}");
    run_crowd();
    for (int i = 0; i < CROWD; i++) {
        assert_int_equal(crowd[i].err.rc, DK_E_PROVIDER_DENIED);
        assert_non_null(strstr(crowd[i].err.text, "HTTP 403"));
        assert_true(crowd[i].took_ms < 4000);
    }
    assert_int_equal(dk_aws_desk_asked(), 1);
    struct dk_aws_keys *keys = NULL;
    DK_TEST_FAILS(err, PROVIDER_DENIED, dk_aws_credentials_get(desk.credentials, &keys, &err));
    assert_int_equal(dk_aws_desk_asked(), 1); /* nor by the next call of a batch */
    (void)dk_cloud_control("unscript", "{}");
    dk_aws_desk_advance(&desk, 2);
    assert_int_equal(number(), 1);
    dk_aws_desk_end(&desk);
}

/* ---- refused --------------------------------------------------------------------------------- */

static void F34_what_a_service_refused_is_asked_for_anew(void **state)
{
    (void)state;
    dk_aws_desk_begin(&desk, DK_FROM_INSTANCE);
    assert_int_equal(number(), 1);
    dk_aws_desk_advance(&desk, 10);
    assert_true(dk_aws_credentials_refused(desk.credentials, 1));
    assert_true(
        dk_aws_credentials_refused(desk.credentials, 1)); /* a second call, before the get */
    assert_int_equal(number(), 2);
    assert_true(dk_aws_credentials_refused(desk.credentials, 1)); /* newer ones are there */
    assert_int_equal(number(), 2);
    assert_false(dk_aws_credentials_refused(desk.credentials, 2)); /* those were new a moment ago */
    dk_aws_desk_advance(&desk, 6);
    assert_true(dk_aws_credentials_refused(desk.credentials, 2));
    assert_int_equal(number(), 3);
    dk_aws_desk_end(&desk);
}

static void F34_keys_that_cannot_change_are_not_asked_for(void **state)
{
    (void)state;
    dk_aws_desk_begin(&desk, DK_FROM_KEYS);
    assert_int_equal(number(), 1);
    dk_aws_desk_advance(&desk, 3600);
    assert_false(dk_aws_credentials_refused(desk.credentials, 1));
    assert_int_equal(number(), 1);
    dk_aws_desk_end(&desk);
}

static void keys_in_hand_stay_good_while_new_ones_come(void **state)
{
    (void)state;
    dk_aws_desk_begin(&desk, DK_FROM_CONTAINER);
    struct dk_aws_keys *old = dk_aws_desk_get(&desk), *also = dk_aws_desk_get(&desk);
    assert_ptr_equal(old, also);
    dk_aws_desk_advance(&desk, 10);
    (void)dk_cloud_control("rotate_credentials", "{\"service\":\"container\"}");
    assert_true(dk_aws_credentials_refused(desk.credentials, old->number));
    struct dk_aws_keys *fresh = dk_aws_desk_get(&desk);
    assert_ptr_not_equal(old, fresh);
    assert_string_not_equal(old->id, fresh->id);
    dk_aws_desk_kms_takes(&desk, fresh);
    dk_aws_desk_kms_takes(&desk, old); /* the fake's go on until they end */
    dk_aws_credentials_put(desk.credentials, old);
    dk_aws_desk_kms_takes(&desk, also);
    dk_aws_credentials_put(desk.credentials, also);
    dk_aws_credentials_put(desk.credentials, fresh);
    dk_aws_desk_end(&desk);
}

/* ---- what comes is nearly over, or over --------------------------------------------------------
 */

/* It may be our clock: the service will say. They are not asked for at each call. */
static void R16_what_has_ended_already_is_tried(void **state)
{
    (void)state;
    static const int64_t ends[] = {-5, 0, -86400};
    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++) {
        dk_aws_desk_begin(&desk, DK_FROM_COMMAND);
        dk_aws_desk_command(&desk, ends[i]);
        assert_int_equal(number(), 1);
        dk_aws_desk_advance(&desk, 19 * MINUTE);
        assert_int_equal(number(), 1);
        dk_aws_desk_advance(&desk, 2 * MINUTE);
        assert_int_equal(number(), 2);
        assert_true(dk_aws_credentials_refused(desk.credentials, 1));
        dk_aws_desk_end(&desk);
    }
}

/* AWS: such an instance has trouble of its own, and what it gives may still be taken. */
static void an_instance_may_give_what_is_nearly_over(void **state)
{
    (void)state;
    dk_aws_desk_begin(&desk, DK_FROM_INSTANCE);
    (void)dk_cloud_control("lifetime", "{\"service\":\"imds\",\"seconds\":240}");
    assert_int_equal(number(), 1);
    dk_aws_desk_advance(&desk, 19 * MINUTE);
    assert_int_equal(number(), 1);
    assert_int_equal(dk_aws_desk_asked(), 1);
    dk_aws_desk_advance(&desk, 2 * MINUTE);
    assert_int_equal(number(), 2);
    dk_aws_desk_end(&desk);
}

static void short_lived_ones_are_not_asked_for_all_the_time(void **state)
{
    (void)state;
    dk_aws_desk_begin(&desk, DK_FROM_COMMAND);
    dk_aws_desk_command(&desk, 8 * MINUTE);
    assert_int_equal(number(), 1);
    dk_aws_desk_advance(&desk, 5 * MINUTE);
    assert_int_equal(number(), 1);
    dk_aws_desk_command(&desk, 8 * MINUTE);
    dk_aws_desk_advance(&desk, 2 * MINUTE);
    assert_int_equal(number(), 2);
    dk_aws_desk_end(&desk);
}

/* ---- fork, memory ---------------------------------------------------------------------------- */

static int get_as_a_child(void *arg)
{
    (void)arg;
    struct dk_aws_keys *keys = NULL;
    dk_arena_reset(desk.arena);
    dk_arena_revive(desk.arena);
    dk_http_after_fork(desk.sts);
    dk_http_after_fork(desk.metadata);
    dk_aws_credentials_after_fork(desk.credentials);
    dk_err_clear(&err);
    DK_TEST_CHILD(dk_aws_credentials_get(desk.credentials, &keys, &err) == DK_OK);
    DK_TEST_CHILD(keys->secret.n == 40 && !dk_secret_is_zero(&keys->secret));
    dk_aws_credentials_put(desk.credentials, keys);
    return 0;
}

static void a_child_asks_for_its_own(void **state)
{
    (void)state;
    dk_aws_desk_begin(&desk, DK_FROM_CONTAINER);
    assert_int_equal(number(), 1);
    assert_true(dk_test_in_child(false, get_as_a_child, NULL));
    assert_int_equal(dk_aws_desk_asked(), 2);
    struct dk_aws_keys *keys = dk_aws_desk_get(&desk);
    dk_aws_desk_kms_takes(&desk, keys);
    dk_aws_credentials_put(desk.credentials, keys);
    dk_aws_desk_end(&desk);
}

static void nothing_is_left_when_an_allocation_fails(void **state)
{
    (void)state;
    static const enum dk_aws_from sources[] = {DK_FROM_ROLE, DK_FROM_COMMAND, DK_FROM_CONTAINER};
    for (size_t i = 0; i < sizeof sources / sizeof sources[0]; i++) {
        bool got = false;
        for (unsigned n = 1; !got && n < 120; n++) {
            struct dk_aws_keys *keys = NULL;
            dk_aws_desk_begin(&desk, sources[i]);
            desk.w.fail_alloc_at = desk.w.allocs + n;
            dk_err_clear(&err);
            got = dk_aws_credentials_get(desk.credentials, &keys, &err) == DK_OK;
            if (!got && err.rc != DK_E_NOMEM) {
                fail_msg("allocation %u: %d %s", n, (int)err.rc, err.text);
            }
            if (got) {
                dk_aws_credentials_put(desk.credentials, keys);
            }
            dk_aws_desk_end(&desk);
        }
        assert_true(got);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(R16_each_source_gives_keys_that_kms_takes),
        cmocka_unit_test(R16_they_are_fresh_before_they_end),
        cmocka_unit_test(R16_a_failure_keeps_the_old_ones_to_their_end),
        cmocka_unit_test(a_crowd_of_32_asks_once),
        cmocka_unit_test(before_that_only_one_waits),
        cmocka_unit_test(a_crowd_that_gets_none_asks_once_and_hears_it_together),
        cmocka_unit_test(F34_what_a_service_refused_is_asked_for_anew),
        cmocka_unit_test(F34_keys_that_cannot_change_are_not_asked_for),
        cmocka_unit_test(keys_in_hand_stay_good_while_new_ones_come),
        cmocka_unit_test(R16_what_has_ended_already_is_tried),
        cmocka_unit_test(an_instance_may_give_what_is_nearly_over),
        cmocka_unit_test(short_lived_ones_are_not_asked_for_all_the_time),
        cmocka_unit_test(a_child_asks_for_its_own),
        cmocka_unit_test(nothing_is_left_when_an_allocation_fails),
    };
    return cmocka_run_group_tests_name("aws_credentials", tests, NULL, NULL);
}
