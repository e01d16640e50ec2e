#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include "provider/azure_setup.h"
#include "support/expect.h"

static struct dk_test_world w;
static struct dk_err err;
static struct dk_settings settings;
static struct dk_azure_setup setup;

static int set_up(void **state)
{
    (void)state;
    dk_test_world_init(&w);
    dk_settings_init(&settings, &w.world.mem);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    dk_azure_setup_clear(&setup);
    dk_settings_clear(&settings);
    return w.live == 0 ? 0 : -1;
}

static void set(const char *name, const char *value)
{
    DK_TEST_OK(err, dk_settings_set(&settings, name, value, DK_FROM_FILE, &err));
}

static dk_rc read_setup(void)
{
    dk_azure_setup_clear(&setup);
    dk_err_clear(&err);
    return dk_azure_setup_read(&settings, &w.world.mem, &setup, &err);
}

static void expect_config(const char *says)
{
    assert_int_equal(read_setup(), DK_E_CONFIG);
    DK_TEST_SAYS(err, says);
}

static void set_vault(void)
{
    set("AZURE_KEY_VAULT_URL", "https://KV.vault.azure.net/");
    set("AZURE_KEY_NAME", "kek-1");
}

static void set_application(void)
{
    set("AZURE_TENANT_ID", "11111111-2222-3333-4444-555555555555");
    set("AZURE_CLIENT_ID", "app");
}

static void what_is_required_is_named_one_by_one(void **state)
{
    (void)state;
    expect_config("AZURE_KEY_VAULT_URL is required");
    set("AZURE_KEY_VAULT_URL", "https://kv.vault.azure.net");
    expect_config("AZURE_KEY_NAME is required");
    set("AZURE_KEY_NAME", "kek");
    set("AZURE_CLIENT_SECRET", "s");
    expect_config("AZURE_TENANT_ID is required");
    set("AZURE_TENANT_ID", "contoso.onmicrosoft.com");
    expect_config("AZURE_CLIENT_ID is required");
    set("AZURE_CLIENT_ID", "app");
    assert_int_equal(read_setup(), DK_OK);
}

static void the_guides_five_settings_are_enough(void **state)
{
    (void)state;
    set_vault();
    set_application();
    set("AZURE_CLIENT_SECRET", "canary");
    assert_int_equal(read_setup(), DK_OK);
    assert_string_equal(setup.vault.host, "kv.vault.azure.net");
    assert_string_equal(setup.vault.path, "");
    assert_true(setup.vault.tls && setup.vault.port == 443);
    assert_string_equal(setup.cloud->resource, "vault.azure.net");
    assert_string_equal(setup.key_name, "kek-1");
    assert_string_equal(setup.api_version, "7.4");
    assert_int_equal(setup.pair, DK_AZURE_AUTO);
    assert_int_equal(setup.source, DK_AZURE_SECRET);
    assert_string_equal(setup.told, "AZURE_CLIENT_SECRET");
    assert_string_equal(setup.secret, "canary");
    assert_string_equal(setup.authority.host, "login.microsoftonline.com");
    assert_false(setup.authority_set);
}

static void each_cloud_has_its_authority(void **state)
{
    (void)state;
    const struct dk_azure_cloud *cloud;
    char url[128];
    set_vault();
    set_application();
    set("AZURE_CLIENT_SECRET", "s");
    for (size_t i = 0; (cloud = dk_azure_cloud_at(i)) != NULL; i++) {
        snprintf(url, sizeof url, "https://kv%s", cloud->suffix);
        set("AZURE_KEY_VAULT_URL", url);
        assert_int_equal(read_setup(), DK_OK);
        assert_ptr_equal(setup.cloud, cloud);
        assert_string_equal(setup.authority.host, cloud->authorities[0]);
        assert_string_equal(cloud->suffix + 1, cloud->resource);
    }
}

static void an_authority_may_be_set_with_its_scheme_or_without(void **state)
{
    (void)state;
    set_vault();
    set_application();
    set("AZURE_CLIENT_SECRET", "s");
    set("AZURE_AUTHORITY_HOST", "https://login.microsoftonline.us/");
    assert_int_equal(read_setup(), DK_OK);
    assert_string_equal(setup.authority.authority, "login.microsoftonline.us");
    assert_true(setup.authority_set);
    set("AZURE_AUTHORITY_HOST", "login.chinacloudapi.cn");
    assert_int_equal(read_setup(), DK_OK);
    assert_true(setup.authority.tls);
    set("AZURE_AUTHORITY_HOST", "https://entra.example:8443");
    expect_config("AZURE_AUTHORITY_HOST: entra.example is no host of this service");
    set("KMS_ALLOWED_ENDPOINTS", "entra.example");
    assert_int_equal(read_setup(), DK_OK);
    assert_string_equal(setup.authority.authority, "entra.example:8443");
    set("AZURE_AUTHORITY_HOST", "http://login.microsoftonline.com");
    expect_config("AZURE_AUTHORITY_HOST: ");
    char long_one[600];
    memset(long_one, 'a', sizeof long_one - 1);
    long_one[sizeof long_one - 1] = '\0';
    set("AZURE_AUTHORITY_HOST", long_one);
    expect_config("AZURE_AUTHORITY_HOST: ");
}

static void I29_a_vault_is_where_vaults_are(void **state)
{
    (void)state;
    static const struct {
        const char *url, *says;
    } bad[] = {
        {"https://evil.example", "is no host of this service"},
        {"https://vault.azure.net", "is no host of this service"},
        {"https://kv.vault.azure.net.evil.example", "is no host of this service"},
        {"https://169.254.169.254", "is no host of this service"},
        {"http://kv.vault.azure.net", "http:// is for loopback only"},
        {"ftp://kv.vault.azure.net", "AZURE_KEY_VAULT_URL: "},
        {"https://u:p@kv.vault.azure.net", "AZURE_KEY_VAULT_URL: "},
        {"https://kv.vault.azure.net/keys/kek", "the key's name is the setting AZURE_KEY_NAME"},
        {"https://kv.vault.azure.net/?a=b", "AZURE_KEY_VAULT_URL: "},
    };
    set_vault();
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        set("AZURE_KEY_VAULT_URL", bad[i].url);
        expect_config(bad[i].says);
    }
    set("KMS_ALLOWED_ENDPOINTS", "evil.example");
    set("AZURE_KEY_VAULT_URL", "https://evil.example");
    assert_int_equal(read_setup(), DK_OK);
    assert_null(setup.cloud);
    set("AZURE_KEY_VAULT_URL", "http://localhost:8080");
    assert_int_equal(read_setup(), DK_OK);
    assert_true(setup.vault.loopback && !setup.vault.tls && setup.cloud == NULL);
}

static void names_and_versions_are_words(void **state)
{
    (void)state;
    static const char *const bad[] = {"a/b", "a b", "a?b", "a%2fb", "..", "a_b", "ä"};
    char name[130];
    set_vault();
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        set("AZURE_KEY_NAME", bad[i]);
        expect_config("AZURE_KEY_NAME: it has to be the name alone");
    }
    memset(name, 'a', sizeof name);
    name[128] = '\0';
    set("AZURE_KEY_NAME", name);
    expect_config("AZURE_KEY_NAME: ");
    name[127] = '\0';
    set("AZURE_KEY_NAME", name);
    assert_int_equal(read_setup(), DK_OK);
    set("KMS_AZURE_API_VERSION", "7.4&a=b");
    expect_config("KMS_AZURE_API_VERSION: it is no version");
    set("KMS_AZURE_API_VERSION", "2025-07-01");
    assert_int_equal(read_setup(), DK_OK);
    set_application();
    set("AZURE_CLIENT_SECRET", "s");
    set("AZURE_TENANT_ID", "../x");
    expect_config("AZURE_TENANT_ID: it has to be the directory's id");
}

static void the_operations_are_chosen_by_name(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        enum dk_azure_pair pair;
    } pairs[] = {
        {"auto", DK_AZURE_AUTO}, {"encrypt", DK_AZURE_ENCRYPT}, {"wrapkey", DK_AZURE_WRAPKEY}};
    set_vault();
    for (size_t i = 0; i < 3; i++) {
        set("KMS_AZURE_KEY_OPS", pairs[i].text);
        assert_int_equal(read_setup(), DK_OK);
        assert_int_equal(setup.pair, pairs[i].pair);
    }
    set("KMS_AZURE_KEY_OPS", "Encrypt");
    expect_config("KMS_AZURE_KEY_OPS: it is neither auto nor encrypt nor wrapkey");
}

static void sources_have_an_order(void **state)
{
    (void)state;
    set_vault();
    set("AZURE_POD_IDENTITY_AUTHORITY_HOST", "http://127.0.0.1:1");
    assert_int_equal(read_setup(), DK_OK);
    assert_int_equal(setup.source, DK_AZURE_IMDS);
    assert_null(setup.client_id);
    assert_string_equal(setup.told, "the machine's managed identity");
    set("IDENTITY_ENDPOINT", "http://169.254.129.2:8081/msi/token");
    expect_config("IDENTITY_HEADER is required");
    set("IDENTITY_HEADER", "canary");
    set("AZURE_CLIENT_ID", "app");
    assert_int_equal(read_setup(), DK_OK);
    assert_int_equal(setup.source, DK_AZURE_APP_SERVICE);
    assert_string_equal(setup.identity.path, "/msi/token");
    assert_string_equal(setup.secret, "canary");
    assert_string_equal(setup.client_id, "app");
    set_application();
    set("AZURE_FEDERATED_TOKEN_FILE", "/f");
    assert_int_equal(read_setup(), DK_OK);
    assert_int_equal(setup.source, DK_AZURE_WORKLOAD);
    assert_string_equal(setup.file, "/f");
    set("AZURE_CLIENT_CERTIFICATE_PATH", "/c");
    assert_int_equal(read_setup(), DK_OK);
    assert_int_equal(setup.source, DK_AZURE_CERTIFICATE);
    assert_string_equal(setup.file, "/c");
    assert_null(setup.secret);
    set("AZURE_CLIENT_SECRET", "s");
    assert_int_equal(read_setup(), DK_OK);
    assert_int_equal(setup.source, DK_AZURE_SECRET);
    assert_null(setup.file);
}

/* App Service has an address of its own in the link-local range; IMDS has one, and no other. */
static void I29_identities_are_asked_on_this_machine_alone(void **state)
{
    (void)state;
    static const char *const good[] = {
        "http://169.254.129.2:8081/msi/token", "http://127.0.0.1:41000/msi/token",
        "http://localhost:42356/msi/token", "http://169.254.169.254/x"};
    static const char *const bad[] = {"http://10.0.0.1/msi/token", "http://169.255.1.1/msi/token",
                                      "https://identity.example/msi/token", "http://167772161/x",
                                      "http://[fe80::1]/msi/token"};
    set_vault();
    set("IDENTITY_HEADER", "h");
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        set("IDENTITY_ENDPOINT", good[i]);
        assert_int_equal(read_setup(), DK_OK);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        set("IDENTITY_ENDPOINT", bad[i]);
        expect_config("IDENTITY_ENDPOINT: ");
    }
    dk_settings_clear(&settings);
    dk_settings_init(&settings, &w.world.mem);
    set_vault();
    assert_int_equal(read_setup(), DK_OK);
    assert_string_equal(setup.identity.host, "169.254.169.254");
    set("AZURE_POD_IDENTITY_AUTHORITY_HOST", "http://169.254.129.2:8081");
    expect_config("AZURE_POD_IDENTITY_AUTHORITY_HOST: ");
}

static void without_memory_nothing_is_left(void **state)
{
    (void)state;
    set_vault();
    set_application();
    set("AZURE_CLIENT_SECRET", "s");
    int before = w.live;
    for (unsigned n = 1;; n++) {
        w.fail_alloc_at = w.allocs + n;
        dk_rc rc = read_setup();
        w.fail_alloc_at = 0;
        if (rc == DK_OK) {
            assert_true(n > 2);
            break;
        }
        assert_int_equal(rc, DK_E_NOMEM);
        assert_int_equal(w.live, before);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_is_required_is_named_one_by_one, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_guides_five_settings_are_enough, set_up, tear_down),
        cmocka_unit_test_setup_teardown(each_cloud_has_its_authority, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_authority_may_be_set_with_its_scheme_or_without, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(I29_a_vault_is_where_vaults_are, set_up, tear_down),
        cmocka_unit_test_setup_teardown(names_and_versions_are_words, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_operations_are_chosen_by_name, set_up, tear_down),
        cmocka_unit_test_setup_teardown(sources_have_an_order, set_up, tear_down),
        cmocka_unit_test_setup_teardown(I29_identities_are_asked_on_this_machine_alone, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(without_memory_nothing_is_left, set_up, tear_down),
    };
    setup.mem = &dk_mem_default;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
