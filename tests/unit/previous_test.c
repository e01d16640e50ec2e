#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

/* Which keys KMS_PREVIOUS_KEYS may name, and which rows are theirs. */
#include "provider/aws.h"
#include "provider/azure.h"
#include "support/expect.h"

#define ID "1234abcd-12ab-34cd-56ef-1234567890ab"
#define MRK "mrk-1234abcd12ab34cd56ef1234567890ab"
#define ARN "arn:aws:kms:us-east-1:111122223333:key/" ID
#define OF(region, account) "arn:aws:kms:" region ":" account ":key/" MRK
#define VAULT "https://kv.vault.azure.net"
#define VERSION "/0123456789abcdef0123456789abcdef"

static struct dk_err err;

/* ---- entries --------------------------------------------------------------------------------- */

static void an_entry_becomes_the_settings_that_name_the_key(void **state)
{
    (void)state;
    static const struct {
        const struct dk_provider_ops *ops;
        const char *id;
        enum dk_option_id option[2];
        const char *value[2];
    } cases[] = {
        {&dk_provider_aws, ARN, {DK_OPT_AWS_KMS_KEY_ID, DK_OPT_AWS_REGION}, {ARN, "us-east-1"}},
        {&dk_provider_aws,
         "arn:aws-cn:kms:cn-north-1:111122223333:key/" ID,
         {DK_OPT_AWS_KMS_KEY_ID, DK_OPT_AWS_REGION},
         {"arn:aws-cn:kms:cn-north-1:111122223333:key/" ID, "cn-north-1"}},
        {&dk_provider_azure,
         VAULT "/keys/kek",
         {DK_OPT_AZURE_KEY_VAULT_URL, DK_OPT_AZURE_KEY_NAME},
         {VAULT, "kek"}},
        {&dk_provider_azure,
         "https://kv.vault.usgovcloudapi.net:8443/keys/Kek-1/",
         {DK_OPT_AZURE_KEY_VAULT_URL, DK_OPT_AZURE_KEY_NAME},
         {"https://kv.vault.usgovcloudapi.net:8443", "Kek-1"}},
        {&dk_provider_azure,
         "https://keys/keys/kek",
         {DK_OPT_AZURE_KEY_VAULT_URL, DK_OPT_AZURE_KEY_NAME},
         {"https://keys", "kek"}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct dk_previous_aim aim;
        assert_true(cases[i].ops->previous_aim(cases[i].id, &aim));
        assert_int_equal(aim.count, cases[i].ops == &dk_provider_aws ? 2 : 3);
        for (size_t j = 0; j < 2; j++) {
            assert_int_equal(aim.option[j], cases[i].option[j]);
            assert_string_equal(aim.value[j], cases[i].value[j]);
        }
    }
}

static void I29_an_entry_that_is_no_key_is_none(void **state)
{
    (void)state;
    static const char *const ids[] = {
        "",
        "kek",
        ID,
        "alias/kek",
        "arn:aws:kms:us-east-1:111122223333:alias/kek",
        "arn:aws:kms:us-east-1:111122223333:key/",
        "arn:aws:kms:us-east-1:11112222333:key/" ID,
        "arn:aws:kms:us-east-1.evil.example/:111122223333:key/" ID,
        "arn:aws:kms:cn-north-1:111122223333:key/" ID,
        "arn:evil:kms:us-east-1:111122223333:key/" ID,
        VAULT,
        VAULT "/",
        VAULT "/keys/",
        VAULT "/secrets/kek",
        VAULT "/keys/kek" VERSION,
        VAULT "/keys/kek?x=y",
        VAULT "/keys/../kek",
        "https://u:p@kv.vault.azure.net/keys/kek",
        "https:///keys/kek",
        "ftp://kv.vault.azure.net/keys/kek",
    };
    for (size_t i = 0; i < sizeof ids / sizeof ids[0]; i++) {
        struct dk_previous_aim aim;
        if (dk_provider_aws.previous_aim(ids[i], &aim) ||
            dk_provider_azure.previous_aim(ids[i], &aim)) {
            fail_msg("taken: %s", ids[i]);
        }
    }
}

/* ---- rows ------------------------------------------------------------------------------------ */

static void I32_a_row_is_of_an_entry_or_of_none(void **state)
{
    (void)state;
    static const struct {
        const struct dk_provider_ops *ops;
        const char *entry;
        const char *row;
        bool is;
    } cases[] = {
        {&dk_provider_aws, ARN, ARN, true},
        {&dk_provider_aws, ARN, "arn:aws:kms:us-east-2:111122223333:key/" ID, false},
        {&dk_provider_aws, ARN, "arn:aws:kms:us-east-1:111122223334:key/" ID, false},
        {&dk_provider_aws, ARN, "arn:aws-cn:kms:us-east-1:111122223333:key/" ID, false},
        {&dk_provider_aws, ARN, ID, false},
        {&dk_provider_aws, ARN, "", false},
        {&dk_provider_aws, ARN, VAULT "/keys/kek" VERSION, false},
        {&dk_provider_aws, OF("us-east-1", "111122223333"), OF("us-east-1", "111122223333"), true},
        {&dk_provider_aws, OF("us-east-1", "111122223333"), OF("eu-west-1", "111122223333"), true},
        {&dk_provider_aws, OF("us-east-1", "111122223333"), OF("eu-west-1", "111122223334"), false},
        {&dk_provider_azure, VAULT "/keys/kek", VAULT "/keys/kek" VERSION, true},
        {&dk_provider_azure, VAULT "/keys/kek", "https://KV.vault.azure.net/keys/Kek" VERSION,
         true},
        {&dk_provider_azure, VAULT "/keys/kek", VAULT "/keys/kek2" VERSION, false},
        {&dk_provider_azure, VAULT "/keys/kek", VAULT ":444/keys/kek" VERSION, false},
        {&dk_provider_azure, VAULT "/keys/kek", "http://kv.vault.azure.net:443/keys/kek" VERSION,
         false},
        {&dk_provider_azure, VAULT "/keys/kek", VAULT ".evil.example/keys/kek" VERSION, false},
        {&dk_provider_azure, VAULT "/keys/kek", ARN, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        if (cases[i].ops->previous_is(cases[i].entry, cases[i].row) != cases[i].is) {
            fail_msg("%s: %s", cases[i].entry, cases[i].row);
        }
    }
}

/* ---- opening --------------------------------------------------------------------------------- */

static struct dk_test_world w;

static void set(struct dk_settings *settings, const char *name, const char *value)
{
    DK_TEST_OK(err, dk_settings_set(settings, name, value, DK_FROM_FLAG, &err));
}

static void set_all(struct dk_settings *settings)
{
    static const char *const given[][2] = {{"AWS_KMS_KEY_ID", OF("eu-west-1", "111122223333")},
                                           {"AWS_ACCESS_KEY_ID", "AKIA"},
                                           {"AWS_SECRET_ACCESS_KEY", "secret"},
                                           {"AWS_CONFIG_FILE", "/dev/null"},
                                           {"AWS_SHARED_CREDENTIALS_FILE", "/dev/null"},
                                           {"AZURE_KEY_VAULT_URL", VAULT},
                                           {"AZURE_KEY_NAME", "kek"},
                                           {"AZURE_TENANT_ID", "tenant"},
                                           {"AZURE_CLIENT_ID", "client"},
                                           {"AZURE_CLIENT_SECRET", "secret"}};
    dk_err_clear(&err);
    dk_settings_init(settings, &w.world.mem);
    for (size_t i = 0; i < sizeof given / sizeof given[0]; i++) {
        set(settings, given[i][0], given[i][1]);
    }
}

static dk_rc open_with(const char *list, struct dk_provider **out)
{
    struct dk_settings settings;
    struct dk_provider_setup setup = {.world = &w.world, .settings = &settings};
    set_all(&settings);
    set(&settings, "KMS_PREVIOUS_KEYS", list);
    dk_rc rc = dk_provider_open(&dk_provider_aws, &setup, out, &err);
    dk_settings_clear(&settings);
    return rc;
}

static void a_list_opens_and_its_faults_are_told(void **state)
{
    (void)state;
    static char many[17 * sizeof ARN + 1];
    struct dk_provider *provider = NULL;
    dk_test_world_init(&w);
    assert_int_equal(open_with(" " ARN ",," VAULT "/keys/kek\t, ", &provider), DK_OK);
    dk_provider_close(provider);
    for (size_t i = 0; i < 17; i++) {
        strcat(many, ARN ",");
    }
    assert_int_equal(open_with(many, &provider), DK_E_CONFIG);
    DK_TEST_SAYS(err, "KMS_PREVIOUS_KEYS: more than 16 keys of aws-kms");
    assert_int_equal(open_with(ARN ",alias/x", &provider), DK_E_CONFIG);
    DK_TEST_SAYS(err, "KMS_PREVIOUS_KEYS: alias/x is neither");
}

/* ---- what the configured key opens ----------------------------------------------------------- */

static bool is_own(const struct dk_provider_ops *ops, const char *key, const char *row)
{
    struct dk_settings settings;
    struct dk_provider_setup setup = {.world = &w.world, .settings = &settings};
    void *self = NULL;
    dk_test_world_init(&w);
    set_all(&settings);
    set(&settings, "AWS_REGION", "eu-west-1");
    set(&settings, ops == &dk_provider_aws ? "AWS_KMS_KEY_ID" : "AZURE_KEY_NAME", key);
    DK_TEST_OK(err, ops->open(&setup, &self, &err));
    bool own = ops->is_own(self, row);
    ops->close(self);
    dk_settings_clear(&settings);
    return own;
}

static void what_the_configured_key_opens_is_no_others(void **state)
{
    (void)state;
    static const struct {
        const struct dk_provider_ops *ops;
        const char *key;
        const char *row;
        bool own;
    } cases[] = {
        {&dk_provider_aws, OF("eu-west-1", "111122223333"), OF("us-east-1", "111122223333"), true},
        {&dk_provider_aws, OF("eu-west-1", "111122223333"), OF("eu-west-1", "111122223333"), true},
        {&dk_provider_aws, OF("eu-west-1", "111122223333"), OF("eu-west-1", "111122223334"), false},
        {&dk_provider_aws, OF("eu-west-1", "111122223333"), OF("us-east-1", "111122223334"), false},
        {&dk_provider_aws, OF("eu-west-1", "111122223333"),
         "arn:aws:kms:eu-west-1:111122223333:key/" ID, true}, /* an alias's of before */
        {&dk_provider_aws, OF("eu-west-1", "111122223333"), ARN, false},
        {&dk_provider_aws, OF("eu-west-1", "111122223333"), MRK, false},
        {&dk_provider_aws, OF("eu-west-1", "111122223333"), VAULT "/keys/kek" VERSION, false},
        {&dk_provider_aws, "arn:aws:kms:eu-west-1:111122223333:alias/kek",
         OF("eu-west-1", "111122223333"), true},
        {&dk_provider_aws, "arn:aws:kms:eu-west-1:111122223333:alias/kek",
         OF("us-east-1", "111122223333"), false}, /* not known yet */
        {&dk_provider_aws, MRK, OF("us-east-1", "111122223333"), true},
        {&dk_provider_aws, MRK, OF("eu-west-1", "111122223333"), true},
        {&dk_provider_aws, MRK, "arn:aws:kms:eu-west-1:111122223333:key/" ID, false},
        {&dk_provider_aws, ID, "arn:aws:kms:eu-west-1:111122223333:key/" ID, true},
        {&dk_provider_aws, ID, ARN, false},
        {&dk_provider_aws, "alias/kek", OF("eu-west-1", "111122223333"), false},
        {&dk_provider_azure, "kek", VAULT "/keys/kek" VERSION, true},
        {&dk_provider_azure, "kek", "https://KV.vault.azure.net/keys/KEK" VERSION, true},
        {&dk_provider_azure, "kek", VAULT "/keys/kek2" VERSION, false},
        {&dk_provider_azure, "kek", ARN, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        if (is_own(cases[i].ops, cases[i].key, cases[i].row) != cases[i].own) {
            fail_msg("%s: %s", cases[i].key, cases[i].row);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_entry_becomes_the_settings_that_name_the_key),
        cmocka_unit_test(I29_an_entry_that_is_no_key_is_none),
        cmocka_unit_test(I32_a_row_is_of_an_entry_or_of_none),
        cmocka_unit_test(a_list_opens_and_its_faults_are_told),
        cmocka_unit_test(what_the_configured_key_opens_is_no_others),
    };
    return cmocka_run_group_tests_name("previous", tests, NULL, NULL);
}
