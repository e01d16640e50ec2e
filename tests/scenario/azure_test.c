#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

/* The provider of Azure on the fake vault, within one process whose clock and memory are ours. */
#include "support/azure_desk.h"

static struct dk_err err;

/* ---- wraps ----------------------------------------------------------------------------------- */

static const char *const keys[] = {"kek", "kek-wrap", "kek-4096", "kek-oct"};

static void a_wrap_that_the_sdk_made_opens(void **state)
{
    (void)state;
    for (size_t i = 0; i < 4; i++) {
        struct dk_desk desk;
        struct dk_wrapped wrapped;
        struct dk_secret opened = {0};
        uint8_t key[DK_DATA_KEY];
        dk_desk_open(&desk, keys[i]);
        dk_desk_sdk_wraps(keys[i], key, &wrapped);
        DK_TEST_OK(err, dk_desk_unwrap(&desk, "acme", &wrapped, &opened, &err));
        assert_memory_equal(dk_secret_expose_for_crypto(&opened), key, sizeof key);
        dk_secret_free(desk.arena, &opened);
        DK_TEST_FAILS(err, AUTH, dk_desk_unwrap(&desk, "acmf", &wrapped, &opened, &err));
        DK_TEST_SAYS(err, "Invalid ciphertext: ");
        dk_desk_close(&desk);
    }
}

static void I02_wraps_of_two_tenants_do_not_change_places(void **state)
{
    (void)state;
    for (size_t i = 0; i < 4; i++) {
        struct dk_desk desk;
        struct dk_wrapped a, b;
        struct dk_secret key_a = {0}, key_b = {0}, opened = {0};
        dk_desk_open(&desk, keys[i]);
        DK_TEST_OK(err, dk_desk_generate(&desk, "acme", &key_a, &a, &err));
        DK_TEST_OK(err, dk_desk_generate(&desk, "globex", &key_b, &b, &err));
        dk_desk_expect_opens(&desk, "acme", &a, &key_a);
        dk_desk_expect_opens(&desk, "globex", &b, &key_b);
        DK_TEST_FAILS(err, AUTH, dk_desk_unwrap(&desk, "acme", &b, &opened, &err));
        DK_TEST_FAILS(err, AUTH, dk_desk_unwrap(&desk, "globex", &a, &opened, &err));
        dk_secret_free(desk.arena, &key_a);
        dk_secret_free(desk.arena, &key_b);
        dk_desk_close(&desk);
    }
}

static void a_key_that_exists_is_wrapped_and_opens(void **state)
{
    (void)state;
    struct dk_desk desk;
    struct dk_wrapped first, second;
    struct dk_secret key = {0};
    struct dk_wrap_context context = dk_desk_context("acme");
    dk_desk_open(&desk, "kek-wrap");
    DK_TEST_OK(err, dk_desk_generate(&desk, "acme", &key, &first, &err));
    DK_TEST_OK(err, dk_provider_wrap(desk.provider, &context, &key, &second, &err));
    assert_string_not_equal(first.blob, second.blob);
    dk_desk_expect_opens(&desk, "acme", &second, &key);
    dk_secret_free(desk.arena, &key);
    dk_desk_close(&desk);
}

static void a_changed_blob_is_E_AUTH_or_E_FORMAT(void **state)
{
    (void)state;
    struct dk_desk desk;
    struct dk_wrapped good, bad;
    struct dk_secret key = {0}, opened = {0};
    uint8_t raw[DK_WRAPPED_MAX];
    size_t n = 0;
    dk_desk_open(&desk, "kek");
    DK_TEST_OK(err, dk_desk_generate(&desk, "acme", &key, &good, &err));
    assert_true(dk_base64_decode(good.blob, strlen(good.blob), raw, sizeof raw, &n));
    static const struct {
        size_t at;
        dk_rc rc;
    } places[] = {{0, DK_E_FORMAT},     {2, DK_E_FORMAT},          {3 + 200, DK_E_AUTH},
                  {3 + 256, DK_E_AUTH}, {3 + 256 + 20, DK_E_AUTH}, {3 + 256 + 59, DK_E_AUTH}};
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        bad = good;
        raw[places[i].at] ^= 4;
        dk_base64_encode(raw, n, bad.blob);
        raw[places[i].at] ^= 4;
        assert_int_equal(dk_desk_unwrap(&desk, "acme", &bad, &opened, &err), places[i].rc);
    }
    dk_secret_free(desk.arena, &key);
    dk_desk_close(&desk);
}

/* ---- key ids --------------------------------------------------------------------------------- */

static void I32_a_key_id_that_is_not_configured_is_not_asked_for(void **state)
{
    (void)state;
    struct dk_desk desk;
    struct dk_wrapped good, bad;
    struct dk_secret key = {0}, opened = {0};
    dk_desk_open(&desk, "kek");
    DK_TEST_OK(err, dk_desk_generate(&desk, "acme", &key, &good, &err));
    dk_secret_free(desk.arena, &key);
    dk_desk_clear_counts();
    const char *version = strrchr(good.kms_key_id, '/');
    const char *const foreign[] = {"https://evil.vault.azure.net/keys/kek",
                                   "https://localhost/keys/kek", "http://localhost/keys/kek", "kek",
                                   ""};
    for (size_t i = 0; i < sizeof foreign / sizeof foreign[0]; i++) {
        bad = good;
        snprintf(bad.kms_key_id, sizeof bad.kms_key_id, "%s%s", foreign[i], version);
        DK_TEST_FAILS(err, NO_MASTER_KEY, dk_desk_unwrap(&desk, "acme", &bad, &opened, &err));
    }
    bad = good;
    snprintf(bad.kms_key_id, sizeof bad.kms_key_id, "%s/keys/kek-wrap%s", dk_cloud("AZURE_VAULT"),
             version);
    DK_TEST_FAILS(err, NO_MASTER_KEY, dk_desk_unwrap(&desk, "acme", &bad, &opened, &err));
    DK_TEST_SAYS(err, "which is no version of kek (AZURE_KEY_NAME)");
    bad.kms_key_id[strlen(bad.kms_key_id) - strlen(version)] = '\0'; /* no version */
    DK_TEST_FAILS(err, NO_MASTER_KEY, dk_desk_unwrap(&desk, "acme", &bad, &opened, &err));
    assert_int_equal(dk_desk_total(), 0);
    dk_desk_close(&desk);
}

static void a_key_id_in_another_case_is_the_same(void **state)
{
    (void)state;
    struct dk_desk desk;
    struct dk_wrapped wrapped;
    struct dk_secret key = {0};
    dk_desk_open(&desk, "kek");
    DK_TEST_OK(err, dk_desk_generate(&desk, "acme", &key, &wrapped, &err));
    for (char *p = wrapped.kms_key_id + 8; *p != '\0'; p++) { /* HTTPS://LOCALHOST:../KEYS/ not */
        bool keys_part = strncmp(p, "/keys/", 6) == 0;
        p += keys_part ? 6 : 0;
        *p = *p >= 'a' && *p <= 'z' ? (char)(*p - 'a' + 'A') : *p;
    }
    dk_desk_expect_opens(&desk, "acme", &wrapped, &key);
    dk_secret_free(desk.arena, &key);
    dk_desk_close(&desk);
}

static void F31_an_answer_of_another_key_is_E_PROVIDER(void **state)
{
    (void)state;
    struct dk_desk desk;
    struct dk_wrapped wrapped;
    struct dk_secret key = {0}, opened = {0};
    char script[400];
    dk_desk_open(&desk, "kek");
    DK_TEST_OK(err, dk_desk_generate(&desk, "acme", &key, &wrapped, &err));
    dk_secret_free(desk.arena, &key);
    static const char *const kids[] = {
        "https://evil.vault.azure.net/keys/kek/0123456789abcdef0123456789abcdef", "kek",
        "%s/keys/kek", "%s/keys/kek-wrap/0123456789abcdef0123456789abcdef",
        "%s/keys/kek/0123456789abcdef0123456789abcdef"};
    for (size_t i = 0; i < sizeof kids / sizeof kids[0]; i++) {
        bool local = kids[i][0] == '%';
        snprintf(script, sizeof script,
                 "{\"service\":\"vault\",\"answers\":[{\"json\":{\"kid\":\"%s%s\",\"value\":"
                 "\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\"}}]}",
                 local ? dk_cloud("AZURE_VAULT") : "", kids[i] + (local ? 2 : 0));
        (void)dk_cloud_control("script", script);
        DK_TEST_FAILS(err, PROVIDER, dk_desk_unwrap(&desk, "acme", &wrapped, &opened, &err));
    }
    dk_desk_close(&desk);
}

static void F29_a_wrap_of_another_size_is_E_PROVIDER(void **state)
{
    (void)state;
    static const char *const names[] = {"kek", "kek-oct"};
    for (size_t i = 0; i < 2; i++) {
        struct dk_desk desk;
        struct dk_wrapped wrapped;
        struct dk_secret key = {0};
        char script[512];
        dk_desk_open(&desk, names[i]);
        snprintf(script, sizeof script,
                 "{\"service\":\"vault\",\"operation\":\"encrypt\",\"answers\":[{\"json\":{\"kid\":"
                 "\"%s/keys/%s/0123456789abcdef0123456789abcdef\",\"value\":\"AwMD\",\"iv\":"
                 "\"AQAAAAAAAAAAAAAA\",\"tag\":\"AgAAAAAAAAAAAAAAAAAAAA\"}}]}",
                 dk_cloud("AZURE_VAULT"), names[i]);
        (void)dk_cloud_control("script", script);
        DK_TEST_FAILS(err, PROVIDER, dk_desk_generate(&desk, "acme", &key, &wrapped, &err));
        DK_TEST_SAYS(err, "answered with a wrap of 3 bytes");
        dk_desk_close(&desk);
    }
}

static void describe_asks_nobody(void **state)
{
    (void)state;
    struct dk_desk desk;
    struct dk_provider_info info;
    struct dk_wrapped wrapped;
    struct dk_secret key = {0};
    char expected[128];
    dk_desk_open(&desk, "kek");
    DK_TEST_OK(err, dk_provider_describe(desk.provider, &info, &err));
    snprintf(expected, sizeof expected, "%s/keys/kek", dk_cloud("AZURE_VAULT"));
    assert_string_equal(info.kms_key_id, expected);
    assert_int_equal(dk_desk_total(), 0);
    DK_TEST_OK(err, dk_desk_generate(&desk, "acme", &key, &wrapped, &err));
    DK_TEST_OK(err, dk_provider_describe(desk.provider, &info, &err));
    assert_string_equal(info.kms_key_id, wrapped.kms_key_id);
    assert_int_equal(dk_provider_caps(desk.provider), DK_PROVIDER_BINDS_CONTEXT);
    dk_secret_free(desk.arena, &key);
    dk_desk_close(&desk);
}

/* ---- many, and nothing ----------------------------------------------------------------------- */

enum { MANY = 24 }; /* a key, its second one, and as many W as are on their way: 64 cells */

static void many_keys_are_made_at_once(void **state)
{
    (void)state;
    struct dk_desk desk;
    static struct dk_provider_item items[MANY];
    static struct dk_wrapped wrapped[MANY];
    dk_desk_open(&desk, "kek");
    for (size_t i = 0; i < MANY; i++) {
        items[i].context = dk_desk_context(i % 2 == 0 ? "acme" : "globex");
        items[i].wrapped = &wrapped[i];
    }
    dk_provider_generate_many(desk.provider, items, MANY);
    for (size_t i = 0; i < MANY; i++) {
        if (items[i].err.rc != DK_OK) {
            fail_msg("%zu: %s", i, items[i].err.text);
        }
        dk_secret_free(desk.arena, &items[i].key);
    }
    assert_int_equal(dk_cloud_count("vault.encrypt"), MANY);
    assert_int_equal(dk_cloud_count("token.Token"), 1);
    strcpy(wrapped[3].kms_key_id, "https://evil.vault.azure.net/keys/kek/x"); /* its own matter */
    dk_provider_unwrap_many(desk.provider, items, MANY);
    for (size_t i = 0; i < MANY; i++) {
        assert_int_equal(items[i].err.rc, i == 3 ? DK_E_NO_MASTER_KEY : DK_OK);
        dk_secret_free(desk.arena, &items[i].key);
    }
    dk_desk_close(&desk);
}

static void F01_each_allocation_may_fail(void **state)
{
    (void)state;
    for (size_t i = 0; i < 4; i += 3) { /* RSA and oct-HSM */
        struct dk_desk desk;
        unsigned n = 1;
        dk_desk_new(&desk, keys[i]);
        for (bool done = false; !done; n++) {
            struct dk_wrapped wrapped;
            struct dk_secret key = {0};
            int before = desk.w.live;
            desk.w.fail_alloc_at = desk.w.allocs + n;
            dk_rc rc = dk_desk_try_open(&desk, &err);
            if (rc == DK_OK) {
                rc = dk_desk_generate(&desk, "acme", &key, &wrapped, &err);
                done = rc == DK_OK && desk.w.allocs < desk.w.fail_alloc_at;
                dk_secret_free(desk.arena, &key);
                dk_provider_close(desk.provider);
                desk.provider = NULL;
            }
            desk.w.fail_alloc_at = 0;
            assert_true(rc == DK_OK || rc == DK_E_NOMEM);
            assert_int_equal(desk.w.live, before);
        }
        assert_true(n > 20);
        dk_desk_close(&desk);
    }
}

static void without_randomness_there_is_no_key(void **state)
{
    (void)state;
    struct dk_desk desk;
    struct dk_wrapped wrapped;
    struct dk_secret key = {0};
    struct dk_test_world test;
    struct dk_wrap_context context = dk_desk_context("acme");
    dk_test_world_init(&test);
    dk_desk_open(&desk, "kek");
    DK_TEST_OK(err, dk_desk_generate(&desk, "acme", &key, &wrapped, &err));
    desk.w.world.random = test.world.random; /* whose argument fails */
    test.random_fails = true;
    struct dk_secret none = {0};
    DK_TEST_FAILS(err, RANDOM, dk_desk_generate(&desk, "acme", &none, &wrapped, &err));
    DK_TEST_FAILS(err, RANDOM, dk_provider_wrap(desk.provider, &context, &key, &wrapped, &err));
    desk.w.world.random = dk_world_default.random;
    dk_secret_free(desk.arena, &key);
    dk_desk_close(&desk);
}

static void a_full_arena_is_E_NOMEM(void **state)
{
    (void)state;
    struct dk_desk desk;
    struct dk_wrapped wrapped;
    struct dk_secret key = {0}, filler[64], opened = {0};
    size_t n = 0;
    dk_desk_open(&desk, "kek");
    DK_TEST_OK(err, dk_desk_generate(&desk, "acme", &key, &wrapped, &err));
    dk_err_clear(&err);
    while (dk_secret_new(desk.arena, 32, &filler[n], &err) == DK_OK) {
        n++;
    }
    dk_secret_free(desk.arena, &filler[--n]); /* room for the key, none for W */
    DK_TEST_FAILS(err, NOMEM, dk_desk_unwrap(&desk, "acme", &wrapped, &opened, &err));
    while (n > 0) {
        dk_secret_free(desk.arena, &filler[--n]);
    }
    dk_desk_expect_opens(&desk, "acme", &wrapped, &key);
    dk_secret_free(desk.arena, &key);
    dk_desk_close(&desk);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_wrap_that_the_sdk_made_opens),
        cmocka_unit_test(I02_wraps_of_two_tenants_do_not_change_places),
        cmocka_unit_test(a_key_that_exists_is_wrapped_and_opens),
        cmocka_unit_test(a_changed_blob_is_E_AUTH_or_E_FORMAT),
        cmocka_unit_test(I32_a_key_id_that_is_not_configured_is_not_asked_for),
        cmocka_unit_test(a_key_id_in_another_case_is_the_same),
        cmocka_unit_test(F31_an_answer_of_another_key_is_E_PROVIDER),
        cmocka_unit_test(F29_a_wrap_of_another_size_is_E_PROVIDER),
        cmocka_unit_test(describe_asks_nobody),
        cmocka_unit_test(many_keys_are_made_at_once),
        cmocka_unit_test(F01_each_allocation_may_fail),
        cmocka_unit_test(without_randomness_there_is_no_key),
        cmocka_unit_test(a_full_arena_is_E_NOMEM),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
