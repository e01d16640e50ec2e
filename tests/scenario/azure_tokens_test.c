#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

/* What the provider of Azure asks, how often, and with which token. */
#include <pthread.h>

#include "support/azure_desk.h"

#define MINUTE_MS (INT64_C(60) * 1000)

static struct dk_err err;

/* ---- what is asked how often ----------------------------------------------------------------- */

static void the_key_is_looked_at_every_five_minutes(void **state)
{
    (void)state;
    struct dk_desk desk;
    struct dk_wrapped wrapped;
    struct dk_secret key = {0};
    dk_desk_open(&desk, "kek");
    dk_desk_expect_generates(&desk);
    assert_int_equal(dk_cloud_count("vault.get"), 2); /* the first one without a token */
    desk.w.mono_ms += 5 * MINUTE_MS - 1;
    dk_desk_expect_generates(&desk);
    assert_int_equal(dk_cloud_count("vault.get"), 2);
    desk.w.slept_ms += 1;
    DK_TEST_OK(err, dk_desk_generate(&desk, "acme", &key, &wrapped, &err));
    assert_int_equal(dk_cloud_count("vault.get"), 3);
    desk.w.mono_ms += 60 * MINUTE_MS; /* who unwraps does not care */
    dk_desk_expect_opens(&desk, "acme", &wrapped, &key);
    assert_int_equal(dk_cloud_count("vault.get"), 3);
    (void)dk_cloud_control("key", "{\"name\":\"kek\",\"rotate\":true}");
    dk_desk_expect_generates(&desk); /* by an answer of an hour ago, had it been kept */
    dk_secret_free(desk.arena, &key);
    dk_desk_close(&desk);
}

static void a_rotation_is_seen_by_the_answer(void **state)
{
    (void)state;
    struct dk_desk desk;
    dk_desk_open(&desk, "kek");
    dk_desk_expect_generates(&desk);
    (void)dk_cloud_control("key", "{\"name\":\"kek\",\"rotate\":true}");
    dk_desk_clear_counts();
    dk_desk_expect_generates(&desk);
    assert_int_equal(dk_cloud_count("vault.get"), 0);
    dk_desk_expect_generates(&desk); /* the new version is looked at */
    assert_int_equal(dk_cloud_count("vault.get"), 1);
    dk_desk_expect_generates(&desk);
    assert_int_equal(dk_cloud_count("vault.get"), 1);
    dk_desk_close(&desk);
}

static void a_key_that_may_not_be_looked_at_is_not_asked_about_each_time(void **state)
{
    (void)state;
    struct dk_desk desk;
    dk_desk_open(&desk, "kek");
    (void)dk_cloud_control("deny", "{\"action\":\"vault:get\"}");
    for (int i = 0; i < 5; i++) {
        dk_desk_expect_generates(&desk);
    }
    assert_int_equal(dk_cloud_count("vault.get"), 3);
    dk_desk_close(&desk);
}

/* ---- tokens ---------------------------------------------------------------------------------- */

static void R16_a_token_is_renewed_before_its_end(void **state)
{
    (void)state;
    struct dk_desk desk;
    dk_desk_open(&desk, "kek"); /* 3,599 seconds */
    dk_desk_expect_generates(&desk);
    assert_int_equal(dk_cloud_count("token.Token"), 1);
    desk.w.mono_ms += 3599 * 1000 - 5 * MINUTE_MS - 1;
    dk_desk_expect_generates(&desk);
    assert_int_equal(dk_cloud_count("token.Token"), 1);
    desk.w.slept_ms += 1; /* the time that the machine slept counts */
    dk_desk_expect_generates(&desk);
    assert_int_equal(dk_cloud_count("token.Token"), 2);
    desk.w.wall_us += DK_DAY_US; /* a wrong wall clock makes it no older */
    dk_desk_expect_generates(&desk);
    assert_int_equal(dk_cloud_count("token.Token"), 2);
    dk_desk_close(&desk);
}

static void advance(struct dk_desk *desk, int64_t *offset_s, int64_t seconds)
{
    char clock[64];
    *offset_s += seconds;
    desk->w.wall_us += seconds * 1000000;
    desk->w.mono_ms += seconds * 1000;
    snprintf(clock, sizeof clock, "{\"offset\":%lld}", (long long)*offset_s);
    (void)dk_cloud_control("clock", clock);
}

/* By secret; tokens live an hour, and the vault looks at their end. */
static void R16_F34_26_hours_of_tokens_have_no_failure(void **state)
{
    (void)state;
    struct dk_desk desk;
    int64_t offset_s = 0;
    dk_desk_open(&desk, "kek");
    dk_desk_expect_generates(&desk);
    dk_desk_clear_counts();
    int tokens = dk_cloud_count("token.Token"), before = dk_desk_total();
    for (int minute = 0; minute < 26 * 60; minute += 6) {
        advance(&desk, &offset_s, 360);
        dk_desk_expect_generates(&desk);
    }
    tokens = dk_cloud_count("token.Token") - tokens;
    assert_in_range(tokens, 26, 40);
    /* Each step: what the key is, a wrap, its opening; nothing was refused and asked again. */
    assert_int_equal(dk_desk_total() - before - tokens, 260 * 3);
    dk_desk_close(&desk);
}

static void a_long_lived_token_is_renewed_at_half_its_life(void **state)
{
    (void)state;
    struct dk_desk desk;
    dk_desk_open(&desk, "kek");
    (void)dk_cloud_control("lifetime", "{\"service\":\"token\",\"seconds\":7200}");
    dk_desk_expect_generates(&desk);
    desk.w.mono_ms += 60 * MINUTE_MS - 1;
    dk_desk_expect_generates(&desk);
    assert_int_equal(dk_cloud_count("token.Token"), 1);
    desk.w.mono_ms += 1;
    dk_desk_expect_generates(&desk);
    assert_int_equal(dk_cloud_count("token.Token"), 2);
    dk_desk_close(&desk);
}

static void R17_a_good_token_is_kept_while_there_is_no_other(void **state)
{
    (void)state;
    struct dk_desk desk;
    struct dk_wrapped wrapped;
    struct dk_secret key = {0};
    dk_desk_open(&desk, "kek");
    dk_desk_expect_generates(&desk);
    (void)dk_cloud_control("script",
                           "{\"service\":\"token\",\"times\":-1,\"answers\":[{\"status\":403}]}");
    desk.w.mono_ms += 56 * MINUTE_MS;
    dk_desk_expect_generates(&desk); /* asked, refused, and none the worse */
    assert_int_equal(dk_cloud_count("token.Token"), 2);
    dk_desk_expect_generates(&desk); /* not asked again at once */
    assert_int_equal(dk_cloud_count("token.Token"), 2);
    desk.w.mono_ms += 30000;
    dk_desk_expect_generates(&desk);
    assert_int_equal(dk_cloud_count("token.Token"), 3);
    desk.w.mono_ms += 4 * MINUTE_MS; /* now it is over */
    DK_TEST_FAILS(err, PROVIDER, dk_desk_generate(&desk, "acme", &key, &wrapped, &err));
    DK_TEST_SAYS(err, "what answers is not Microsoft Entra: HTTP 403");
    assert_int_equal(dk_cloud_count("token.Token"), 4);
    DK_TEST_FAILS(err, PROVIDER,
                  dk_desk_generate(&desk, "acme", &key, &wrapped, &err)); /* within a second */
    assert_int_equal(dk_cloud_count("token.Token"), 4);
    (void)dk_cloud_control("unscript", "{}");
    desk.w.mono_ms += 1000;
    dk_desk_expect_generates(&desk);
    dk_desk_close(&desk);
}

/* A challenge that stands for every answer of the vault. */
static void script_401(const char *header)
{
    char script[512];
    snprintf(script, sizeof script,
             "{\"service\":\"vault\",\"times\":-1,\"answers\":[{\"status\":401,\"headers\":{%s}}]}",
             header);
    (void)dk_cloud_control("script", script);
}

#define CHALLENGE                                                                                  \
    "\"WWW-Authenticate\":\"Bearer authorization=\\\"https://login.microsoftonline.com/"           \
    "common\\\", resource=\\\"https://vault.azure.net\\\"\""

static void a_vault_that_refuses_for_ever_is_asked_a_few_times(void **state)
{
    (void)state;
    struct dk_desk desk;
    struct dk_wrapped wrapped;
    struct dk_secret key = {0};
    dk_desk_open(&desk, "kek");
    script_401(CHALLENGE);
    DK_TEST_FAILS(err, PROVIDER_DENIED, dk_desk_generate(&desk, "acme", &key, &wrapped, &err));
    assert_int_equal(dk_cloud_count("vault.get"), 2); /* without a token, and with one */
    assert_int_equal(dk_cloud_count("token.Token"), 1);
    desk.w.mono_ms += 5000; /* the token may be asked for again, once */
    dk_desk_clear_counts();
    DK_TEST_FAILS(err, PROVIDER_DENIED, dk_desk_generate(&desk, "acme", &key, &wrapped, &err));
    assert_int_equal(dk_cloud_count("vault.get"), 2);
    assert_int_equal(dk_cloud_count("token.Token"), 1);
    dk_desk_close(&desk);
}

static void a_refusal_without_a_challenge_is_told_as_it_came(void **state)
{
    (void)state;
    struct dk_desk desk;
    struct dk_wrapped wrapped;
    struct dk_secret key = {0};
    dk_desk_open(&desk, "kek");
    script_401("");
    DK_TEST_FAILS(err, PROVIDER, dk_desk_generate(&desk, "acme", &key, &wrapped, &err));
    DK_TEST_SAYS(err, "is AZURE_KEY_VAULT_URL a vault?");
    assert_int_equal(dk_cloud_count("vault.get"), 1);
    (void)dk_cloud_control("unscript", "{}");
    dk_desk_expect_generates(&desk);
    script_401("");
    DK_TEST_FAILS(err, PROVIDER_DENIED, dk_desk_generate(&desk, "acme", &key, &wrapped, &err));
    DK_TEST_SAYS(err, "does not accept the token");
    dk_desk_close(&desk);
}

/* As a child does it, but for the arena, of which this back end keeps nothing. */
static void after_a_fork_all_is_asked_anew(void **state)
{
    (void)state;
    struct dk_desk desk;
    dk_desk_open(&desk, "kek");
    dk_desk_expect_generates(&desk);
    dk_desk_clear_counts();
    DK_TEST_OK(err, dk_provider_after_fork(desk.provider, &err));
    dk_desk_expect_generates(&desk);
    assert_int_equal(dk_cloud_count("token.Token"), 1);
    dk_provider_forget(desk.provider);
    dk_desk_close(&desk);
}

static struct dk_desk shared;
static atomic_int opened_by_threads;
static struct dk_wrapped shared_wrap;

static void *open_often(void *arg)
{
    (void)arg;
    for (int i = 0; i < 8; i++) {
        struct dk_wrap_context context = dk_desk_context("acme");
        struct dk_secret key = {0};
        struct dk_err mine;
        dk_err_clear(&mine);
        if (dk_provider_unwrap(shared.provider, &context, &shared_wrap, &key, &mine) == DK_OK) {
            opened_by_threads++;
            dk_secret_free(shared.arena, &key);
        }
    }
    return NULL;
}

/* The token ends while all are at it: one of them asks, the others wait for him. */
static void R16_threads_wait_for_one_token(void **state)
{
    (void)state;
    enum { THREADS = 6 };
    pthread_t threads[THREADS];
    struct dk_secret key = {0};
    dk_desk_open(&shared, "kek");
    DK_TEST_OK(err, dk_desk_generate(&shared, "acme", &key, &shared_wrap, &err));
    dk_secret_free(shared.arena, &key);
    shared.w.mono_ms += 60 * MINUTE_MS;
    dk_desk_clear_counts();
    (void)dk_cloud_control("latency", "{\"service\":\"token\",\"seconds\":0.2}");
    for (size_t i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, open_often, NULL), 0);
    }
    for (size_t i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
    }
    assert_int_equal(opened_by_threads, THREADS * 8);
    assert_int_equal(dk_cloud_count("token.Token"), 1);
    dk_desk_close(&shared);
}

static int64_t (*boot_ms_before)(void *arg);
static int looks_at_the_clock;

/* Soon after its beginning a run is in the last five minutes of the token. */
static int64_t boot_ms_of_a_long_run(void *arg)
{
    return boot_ms_before(arg) + (looks_at_the_clock++ < 10 ? 0 : 57 * MINUTE_MS);
}

/* It would hold up the requests that are on their way, until they time out (breaker, budget). */
static void R15_R16_a_token_is_not_renewed_amid_a_run(void **state)
{
    (void)state;
    enum { ITEMS = 24 };
    struct dk_desk desk;
    struct dk_wrapped wrapped;
    struct dk_secret key = {0};
    struct dk_provider_item items[ITEMS];
    dk_desk_open(&desk, "kek");
    DK_TEST_OK(err, dk_desk_generate(&desk, "acme", &key, &wrapped, &err));
    dk_desk_clear_counts();
    boot_ms_before = desk.w.world.clock.boot_ms;
    desk.w.world.clock.boot_ms = boot_ms_of_a_long_run;
    for (size_t i = 0; i < ITEMS; i++) {
        items[i] =
            (struct dk_provider_item){.context = dk_desk_context("acme"), .wrapped = &wrapped};
    }
    dk_provider_unwrap_many(desk.provider, items, ITEMS);
    assert_true(looks_at_the_clock > 10);
    assert_int_equal(dk_cloud_count("token.Token"), 0);
    for (size_t i = 0; i < ITEMS; i++) {
        assert_int_equal(items[i].err.rc, DK_OK);
        assert_true(dk_secret_equal(&items[i].key, &key));
        dk_secret_free(desk.arena, &items[i].key);
    }
    dk_desk_expect_opens(&desk, "acme", &wrapped, &key); /* the next one does, before it begins */
    assert_int_equal(dk_cloud_count("token.Token"), 1);
    dk_secret_free(desk.arena, &key);
    dk_desk_close(&desk);
}

static struct dk_err crowd_errs[8];

static void *generate_once(void *arg)
{
    struct dk_err *mine = arg;
    struct dk_wrap_context context = dk_desk_context("acme");
    struct dk_secret key = {0};
    struct dk_wrapped wrapped;
    uint8_t check[DK_CHECK_VALUE];
    dk_err_clear(mine);
    if (dk_provider_generate(shared.provider, &context, &key, &wrapped, check, mine) == DK_OK) {
        dk_secret_free(shared.arena, &key);
    }
    return NULL;
}

/* Nobody knows the key yet, and the vault is down: not each of them waits for all before it. */
static void F26_threads_are_told_together_that_the_vault_is_down(void **state)
{
    (void)state;
    enum { THREADS = 8 };
    pthread_t threads[THREADS];
    dk_desk_open(&shared, "kek");
    (void)dk_cloud_control("script",
                           "{\"service\":\"vault\",\"times\":-1,\"answers\":[{\"status\":503}]}");
    (void)dk_cloud_control("latency", "{\"service\":\"vault\",\"seconds\":0.5}");
    for (size_t i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, generate_once, &crowd_errs[i]), 0);
    }
    for (size_t i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(crowd_errs[i].rc, DK_E_UNREACHABLE);
        DK_TEST_SAYS(crowd_errs[i], "HTTP 503");
    }
    assert_int_equal(dk_cloud_count("vault.get"), 3); /* the tries of one call */
    (void)dk_cloud_control("unscript", "{}");
    dk_desk_expect_generates(&shared);
    dk_desk_close(&shared);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_key_is_looked_at_every_five_minutes),
        cmocka_unit_test(a_rotation_is_seen_by_the_answer),
        cmocka_unit_test(a_key_that_may_not_be_looked_at_is_not_asked_about_each_time),
        cmocka_unit_test(R16_a_token_is_renewed_before_its_end),
        cmocka_unit_test(R16_F34_26_hours_of_tokens_have_no_failure),
        cmocka_unit_test(a_long_lived_token_is_renewed_at_half_its_life),
        cmocka_unit_test(R17_a_good_token_is_kept_while_there_is_no_other),
        cmocka_unit_test(a_vault_that_refuses_for_ever_is_asked_a_few_times),
        cmocka_unit_test(a_refusal_without_a_challenge_is_told_as_it_came),
        cmocka_unit_test(after_a_fork_all_is_asked_anew),
        cmocka_unit_test(R16_threads_wait_for_one_token),
        cmocka_unit_test(R15_R16_a_token_is_not_renewed_amid_a_run),
        cmocka_unit_test(F26_threads_are_told_together_that_the_vault_is_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
