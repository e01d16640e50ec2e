#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

/* The AWS provider at a KMS that says 200 and something that is not true. */
#include <stdlib.h>

#include "provider/aws.h"
#include "support/aws_desk.h"
#include "support/cloud.h"

#define NOW "2026-01-01T00:00:00.000000Z"

static struct dk_err err;
static struct dk_aws_desk desk;
static struct dk_log no_log;
static struct dk_provider *provider;
static const struct dk_wrap_context context = {{(const uint8_t *)"acme", 4}, DK_PURPOSE_DATA, NOW};

static void begin_with(const char *key_id)
{
    dk_aws_desk_open(&desk, DK_FROM_KEYS);
    if (key_id != NULL) {
        dk_cloud_set(&desk.settings, "AWS_KMS_KEY_ID", key_id);
    }
    const struct dk_provider_setup setup = {.world = &desk.w.world,
                                            .suite = &desk.suite,
                                            .arena = desk.arena,
                                            .log = &no_log,
                                            .settings = &desk.settings};
    DK_TEST_OK(err, dk_provider_open(&dk_provider_aws, &setup, &provider, &err));
}

static void end(void)
{
    dk_provider_close(provider);
    dk_aws_desk_end(&desk);
}

static dk_rc generate(struct dk_secret *key, struct dk_wrapped *wrapped)
{
    uint8_t check_value[DK_CHECK_VALUE];
    *key = (struct dk_secret){0};
    dk_err_clear(&err);
    return dk_provider_generate(provider, &context, key, wrapped, check_value, &err);
}

static dk_rc unwrap(const struct dk_wrapped *wrapped, struct dk_secret *key)
{
    *key = (struct dk_secret){0};
    dk_err_clear(&err);
    return dk_provider_unwrap(provider, &context, wrapped, key, &err);
}

static const struct {
    const char *fault;
    dk_rc generate, unwrap;
    int calls; /* that a refusal takes: what a lie is, is not asked again */
} lies[] = {
    {"bad_json", DK_E_PROVIDER, DK_E_PROVIDER, 1},
    {"deep_json", DK_E_PROVIDER, DK_E_PROVIDER, 1},
    {"duplicate_keys", DK_E_PROVIDER, DK_E_PROVIDER, 1},
    {"nul_in_string", DK_E_PROVIDER, DK_E_PROVIDER, 1},
    {"not_utf8", DK_E_PROVIDER, DK_E_PROVIDER, 1},
    {"empty", DK_E_PROVIDER, DK_E_PROVIDER, 1},
    {"oversize", DK_E_PROVIDER, DK_E_PROVIDER, 1},
    {"no_plaintext", DK_E_PROVIDER, DK_E_PROVIDER, 1},
    {"wrong_case", DK_E_PROVIDER, DK_E_PROVIDER, 1},
    {"truncate", DK_E_PROVIDER, DK_E_PROVIDER, 3},
    {"bad_chunk", DK_E_PROVIDER, DK_E_PROVIDER, 3},
    {"short_key", DK_E_PROVIDER, DK_E_PROVIDER, 1},
    {"long_key", DK_E_PROVIDER, DK_E_PROVIDER, 1},
    {"zero_key", DK_E_PROVIDER, DK_E_PROVIDER, 1},
    {"wrong_key_id", DK_E_PROVIDER, DK_E_PROVIDER, 1},
};
#define LIES (sizeof lies / sizeof lies[0])

static void script(const char *operation, const char *fault)
{
    char answer[64];
    snprintf(answer, sizeof answer, "{\"fault\":\"%s\"}", fault);
    dk_cloud_script("kms", operation, answer, -1);
}

static void F29_F30_F31_a_lie_about_a_new_key_makes_none(void **state)
{
    (void)state;
    for (size_t i = 0; i < LIES; i++) {
        struct dk_secret key;
        struct dk_wrapped wrapped;
        begin_with(NULL);
        script("GenerateDataKey", lies[i].fault);
        if (generate(&key, &wrapped) != lies[i].generate) {
            fail_msg("%s: %d %s", lies[i].fault, (int)err.rc, err.text);
        }
        assert_null(key.cell);
        assert_int_equal(dk_cloud_count("kms.GenerateDataKey"), lies[i].calls);
        (void)dk_cloud_control("unscript", "{}");
        assert_int_equal(generate(&key, &wrapped), DK_OK); /* and the next one is made */
        dk_secret_free(desk.arena, &key);
        end();
    }
}

static void F29_F30_F31_a_lie_about_an_old_key_opens_nothing(void **state)
{
    (void)state;
    for (size_t i = 0; i < LIES; i++) {
        struct dk_secret good, key;
        struct dk_wrapped wrapped;
        begin_with(NULL);
        assert_int_equal(generate(&good, &wrapped), DK_OK);
        int before = dk_cloud_count("kms.Decrypt");
        script("Decrypt", lies[i].fault);
        if (unwrap(&wrapped, &key) != lies[i].unwrap) {
            fail_msg("%s: %d %s", lies[i].fault, (int)err.rc, err.text);
        }
        assert_null(key.cell);
        assert_int_equal(dk_cloud_count("kms.Decrypt"), before + lies[i].calls);
        (void)dk_cloud_control("unscript", "{}");
        assert_int_equal(unwrap(&wrapped, &key), DK_OK);
        assert_true(dk_secret_equal(&good, &key));
        dk_secret_free(desk.arena, &good);
        dk_secret_free(desk.arena, &key);
        end();
    }
}

/* What KMS hands out is opened again, and compared: another's key, or its own twice. */
static void F32_another_tenants_key_or_the_same_twice_is_refused(void **state)
{
    (void)state;
    struct dk_secret first, key;
    struct dk_wrapped wrapped;
    begin_with(NULL);
    script("GenerateDataKey", "same_key");
    assert_int_equal(generate(&first, &wrapped), DK_OK);
    assert_int_equal(generate(&key, &wrapped), DK_E_PROVIDER);
    assert_null(key.cell);
    dk_secret_free(desk.arena, &first);
    end();
    begin_with(NULL);
    assert_int_equal(generate(&first, &wrapped), DK_OK);
    script("GenerateDataKey", "swap_keys");
    assert_int_equal(generate(&key, &wrapped), DK_E_PROVIDER);
    assert_null(key.cell);
    dk_secret_free(desk.arena, &first);
    end();
}

/* An alias may lead to any key of the account: then what it is said to lead to has to open. */
static void F31_behind_an_alias_a_wrong_key_does_not_open(void **state)
{
    (void)state;
    struct dk_secret key;
    struct dk_wrapped wrapped;
    begin_with("alias/dekhand");
    script("GenerateDataKey", "wrong_key_id");
    assert_int_not_equal(generate(&key, &wrapped), DK_OK);
    assert_null(key.cell);
    (void)dk_cloud_control("unscript", "{}");
    assert_int_equal(generate(&key, &wrapped), DK_OK);
    assert_string_equal(wrapped.kms_key_id, dk_cloud("AWS_KEY_ARN")); /* never the alias */
    dk_secret_free(desk.arena, &key);
    end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(F29_F30_F31_a_lie_about_a_new_key_makes_none),
        cmocka_unit_test(F29_F30_F31_a_lie_about_an_old_key_opens_nothing),
        cmocka_unit_test(F32_another_tenants_key_or_the_same_twice_is_refused),
        cmocka_unit_test(F31_behind_an_alias_a_wrong_key_does_not_open),
    };
    return cmocka_run_group_tests_name("aws_lies", tests, NULL, NULL);
}
