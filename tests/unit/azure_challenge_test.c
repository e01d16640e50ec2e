#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include "provider/azure_challenge.h"
#include "support/expect.h"

#define TENANT "11111111-2222-3333-4444-555555555555"
#define OTHER "11111111-2222-3333-4444-555555555556"
#define ENTRA "https://login.microsoftonline.com/"

static struct dk_err err;

/* ---- what it says ---------------------------------------------------------------------------- */

static void the_forms_of_a_challenge_are_one(void **state)
{
    (void)state;
    static const char *const forms[] = {
        "Bearer authorization=\"" ENTRA TENANT "\", resource=\"https://vault.azure.net\"",
        "Bearer authorization=\"" ENTRA TENANT "\" resource=\"https://vault.azure.net\"",
        "Bearer authorization=\"" ENTRA TENANT "\",resource=\"https://vault.azure.net\"",
        "Bearer resource=\"https://vault.azure.net\", authorization=\"" ENTRA TENANT "\"",
        "Bearer authorization_uri=\"" ENTRA TENANT "\", scope=\"https://vault.azure.net/.default\"",
        "bearer\tAUTHORIZATION_URI=\"" ENTRA TENANT "/oauth2/v2.0/authorize\" ,, "
        "Scope=\"https://vault.azure.net//.default\" ,",
        "  Bearer authorization=" ENTRA TENANT ", resource=https://vault.azure.net/",
        "Bearer error=\"invalid_token\", authorization=\"" ENTRA TENANT
        "\", resource=\"HTTPS://Vault.Azure.net\", claims=\"a b, c=d\"",
    };
    for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++) {
        struct dk_azure_challenge challenge;
        DK_TEST_OK(err, dk_azure_challenge_parse(forms[i], &challenge, &err));
        assert_string_equal(challenge.authority, "login.microsoftonline.com");
        assert_string_equal(challenge.tenant, TENANT);
        assert_string_equal(challenge.resource, "vault.azure.net");
    }
}

static void a_challenge_that_cannot_be_read_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "Bearer",
        "Bearer ",
        "Basic realm=\"vault\"",
        "Bearerauthorization=\"" ENTRA TENANT "\", resource=\"https://vault.azure.net\"",
        "Bearer authorization=\"" ENTRA TENANT "\"",
        "Bearer resource=\"https://vault.azure.net\"",
        "Bearer authorization=\"" ENTRA TENANT "\", resource=\"https://vault.azure.net",
        "Bearer authorization=\"" ENTRA TENANT "\", resource=\"https://vault.azure.net\"x",
        "Bearer authorization=\"" ENTRA TENANT "\", resource=\"https://vault\\.azure.net\"",
        "Bearer authorization=\"" ENTRA TENANT "\", resource=https://vault\"azure.net",
        "Bearer authorization \"" ENTRA TENANT "\", resource=\"https://vault.azure.net\"",
        "Bearer =\"a\", authorization=\"" ENTRA TENANT "\", resource=\"https://vault.azure.net\"",
        "Bearer a23456789012345678901234567890123=b",
        /* said twice, by one name or two */
        "Bearer authorization=\"" ENTRA TENANT "\", resource=\"https://vault.azure.net\", "
        "resource=\"https://vault.azure.net\"",
        "Bearer authorization=\"" ENTRA TENANT "\", resource=\"https://vault.azure.net\", "
        "scope=\"https://evil.example/.default\"",
        "Bearer authorization=\"" ENTRA TENANT "\", authorization_uri=\"https://evil.example/a\", "
        "resource=\"https://vault.azure.net\"",
        /* no such URLs */
        "Bearer authorization=\"http://login.microsoftonline.com/" TENANT
        "\", resource=\"https://vault.azure.net\"",
        "Bearer authorization=\"https://login.microsoftonline.com\", "
        "resource=\"https://vault.azure.net\"",
        "Bearer authorization=\"https://login.microsoftonline.com//\", "
        "resource=\"https://vault.azure.net\"",
        "Bearer authorization=\"https://user@login.microsoftonline.com/" TENANT
        "\", resource=\"https://vault.azure.net\"",
        "Bearer authorization=\"" ENTRA "a%2Fb\", resource=\"https://vault.azure.net\"",
        "Bearer authorization=\"" ENTRA TENANT "\", resource=\"vault.azure.net\"",
        "Bearer authorization=\"" ENTRA TENANT "\", resource=\"https://\"",
        "Bearer authorization=\"" ENTRA TENANT "\", resource=\"https://vault.azure.net/x\"",
        "Bearer authorization=\"" ENTRA TENANT "\", resource=\"https://vault.azure.net/.default\"",
        "Bearer authorization=\"" ENTRA TENANT "\", scope=\"https://vault.azure.net\"",
        "Bearer authorization=\"" ENTRA TENANT "\", scope=\"https://vault.azure.net/.default x\"",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct dk_azure_challenge challenge;
        dk_err_clear(&err);
        if (dk_azure_challenge_parse(bad[i], &challenge, &err) != DK_E_PROVIDER) {
            fail_msg("taken: %s", bad[i]);
        }
        assert_string_equal(challenge.resource, "");
    }
}

static void a_challenge_of_any_length_is_read_or_refused(void **state)
{
    (void)state;
    char text[2048], filler[600];
    struct dk_azure_challenge challenge;
    memset(filler, 'a', sizeof filler);
    for (size_t n = 1; n < sizeof filler; n += 7) {
        filler[n] = '\0';
        snprintf(text, sizeof text,
                 "Bearer authorization=\"" ENTRA "%s\", resource=\"https://%s.net\"", filler,
                 filler);
        filler[n] = 'a';
        dk_err_clear(&err);
        dk_rc rc = dk_azure_challenge_parse(text, &challenge, &err);
        assert_int_equal(rc, n <= DK_AZURE_TENANT_MAX && n + 4 < DK_HOST_MAX + 9 ? DK_OK
                                                                                 : DK_E_PROVIDER);
    }
}

/* ---- whether it is believed ------------------------------------------------------------------ */

static struct dk_azure_setup setup_of(const char *host, uint16_t port)
{
    struct dk_azure_setup setup = {.vault = {.tls = true, .port = port}, .tenant = TENANT};
    snprintf(setup.vault.host, sizeof setup.vault.host, "%s", host);
    snprintf(setup.vault.authority, sizeof setup.vault.authority, port == 443 ? "%s" : "%s:%u",
             host, port);
    setup.vault.loopback = strcmp(host, "localhost") == 0;
    setup.cloud = dk_azure_cloud_of(host);
    return setup;
}

static struct dk_azure_challenge challenge_of(const char *authority, const char *resource)
{
    struct dk_azure_challenge challenge = {.tenant = TENANT};
    snprintf(challenge.authority, sizeof challenge.authority, "%s", authority);
    snprintf(challenge.resource, sizeof challenge.resource, "%s", resource);
    return challenge;
}

static dk_rc verify(const struct dk_azure_setup *setup, const char *authority, const char *resource,
                    char *out)
{
    struct dk_azure_challenge challenge = challenge_of(authority, resource);
    dk_err_clear(&err);
    return dk_azure_challenge_verify(&challenge, setup, out, &err);
}

static void each_cloud_has_its_resource_and_its_authorities(void **state)
{
    (void)state;
    const struct dk_azure_cloud *cloud, *other;
    char host[DK_HOST_MAX + 1], out[DK_AZURE_RESOURCE_MAX + 1], expected[DK_HOST_MAX + 9];
    for (size_t i = 0; (cloud = dk_azure_cloud_at(i)) != NULL; i++) {
        snprintf(host, sizeof host, "kv%s", cloud->suffix);
        struct dk_azure_setup setup = setup_of(host, 443);
        assert_ptr_equal(setup.cloud, cloud);
        for (const char *const *name = cloud->authorities; *name != NULL; name++) {
            assert_int_equal(verify(&setup, *name, cloud->resource, out), DK_OK);
            snprintf(expected, sizeof expected, "https://%s", cloud->resource);
            assert_string_equal(out, expected);
        }
        for (size_t k = 0; (other = dk_azure_cloud_at(k)) != NULL; k++) {
            if (other != cloud) {
                assert_int_equal(verify(&setup, cloud->authorities[0], other->resource, out),
                                 DK_E_PROVIDER);
            }
            if (strcmp(other->authorities[0], cloud->authorities[0]) != 0) {
                assert_int_equal(verify(&setup, other->authorities[0], cloud->resource, out),
                                 DK_E_PROVIDER);
            }
        }
    }
    assert_null(dk_azure_cloud_of("vault.azure.net"));
    assert_null(dk_azure_cloud_of("kvvault.azure.net"));
    assert_null(dk_azure_cloud_of("kv.vault.azure.net.evil.example"));
}

static void a_hostile_challenge_gets_no_token(void **state)
{
    (void)state;
    static const char *const resources[] = {
        "evil.example",
        "azure.net",
        "net",
        "graph.microsoft.com",
        "management.azure.com",
        "kv.vault.azure.net",
        "vault.azure.net:444",
        "vault.azure.net.evil.example",
    };
    static const char *const authorities[] = {
        "evil.example",
        "login.microsoftonline.com.evil.example",
        "login.microsoftonline.com:444",
        "xlogin.microsoftonline.com",
        "microsoftonline.com",
    };
    char out[DK_AZURE_RESOURCE_MAX + 1];
    struct dk_azure_setup setup = setup_of("kv.vault.azure.net", 443);
    for (size_t i = 0; i < sizeof resources / sizeof resources[0]; i++) {
        assert_int_equal(verify(&setup, "login.microsoftonline.com", resources[i], out),
                         DK_E_PROVIDER);
        DK_TEST_SAYS(err, "none was asked for");
    }
    for (size_t i = 0; i < sizeof authorities / sizeof authorities[0]; i++) {
        assert_int_equal(verify(&setup, authorities[i], "vault.azure.net", out), DK_E_PROVIDER);
        DK_TEST_SAYS(err, "none was asked for");
    }
}

static void an_authority_that_is_set_may_be_named(void **state)
{
    (void)state;
    char out[DK_AZURE_RESOURCE_MAX + 1];
    struct dk_azure_setup setup = setup_of("kv.vault.azure.net", 443);
    snprintf(setup.authority.authority, sizeof setup.authority.authority, "entra.example:8443");
    assert_int_equal(verify(&setup, "entra.example:8443", "vault.azure.net", out), DK_E_PROVIDER);
    setup.authority_set = true;
    assert_int_equal(verify(&setup, "entra.example:8443", "vault.azure.net", out), DK_OK);
    assert_int_equal(verify(&setup, "entra.example", "vault.azure.net", out), DK_E_PROVIDER);
}

static void loopback_may_have_the_resource_of_a_cloud_or_its_own(void **state)
{
    (void)state;
    char out[DK_AZURE_RESOURCE_MAX + 1];
    struct dk_azure_setup setup = setup_of("localhost", 8443);
    assert_int_equal(verify(&setup, "login.microsoftonline.com", "vault.azure.net", out), DK_OK);
    assert_int_equal(verify(&setup, "login.chinacloudapi.cn", "vault.azure.cn", out), DK_OK);
    assert_int_equal(verify(&setup, "login.microsoftonline.com", "localhost:8443", out), DK_OK);
    assert_string_equal(out, "https://localhost:8443");
    assert_int_equal(verify(&setup, "login.microsoftonline.com", "localhost", out), DK_OK);
    assert_int_equal(verify(&setup, "login.microsoftonline.com", "localhost:8444", out),
                     DK_E_PROVIDER);
    assert_int_equal(verify(&setup, "login.microsoftonline.com", "graph.microsoft.com", out),
                     DK_E_PROVIDER);
    assert_int_equal(verify(&setup, "evil.example", "vault.azure.net", out), DK_E_PROVIDER);
}

static void a_host_of_ones_own_is_its_own_resource_or_in_its_domain(void **state)
{
    (void)state;
    char out[DK_AZURE_RESOURCE_MAX + 1];
    struct dk_azure_setup setup = setup_of("kv.vault.stack.example", 443);
    const char *entra = "login.microsoftonline.com";
    assert_int_equal(verify(&setup, entra, "kv.vault.stack.example", out), DK_OK);
    assert_int_equal(verify(&setup, entra, "vault.stack.example", out), DK_OK);
    assert_int_equal(verify(&setup, entra, "stack.example", out), DK_OK);
    assert_int_equal(verify(&setup, entra, "example", out), DK_E_PROVIDER);
    assert_int_equal(verify(&setup, entra, "ault.stack.example", out), DK_E_PROVIDER);
    assert_int_equal(verify(&setup, entra, "vault.azure.net", out), DK_E_PROVIDER);
}

static void a_vault_of_another_directory_is_told_by_its_setting(void **state)
{
    (void)state;
    char out[DK_AZURE_RESOURCE_MAX + 1];
    static const struct {
        const char *theirs, *ours;
        dk_rc rc;
    } pairs[] = {
        {OTHER, TENANT, DK_E_CONFIG},
        {TENANT, TENANT, DK_OK},
        {"AAAAAAAA-2222-3333-4444-555555555555", "aaaaaaaa-2222-3333-4444-555555555555", DK_OK},
        {OTHER, "contoso.onmicrosoft.com", DK_OK}, /* one of the two has no id: who knows */
        {"contoso.onmicrosoft.com", TENANT, DK_OK},
        {OTHER, "", DK_OK}, /* a managed identity */
        {"11111111x2222-3333-4444-555555555556", TENANT, DK_OK},
        {"1111111z-2222-3333-4444-555555555556", TENANT, DK_OK},
    };
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        struct dk_azure_setup setup = setup_of("kv.vault.azure.net", 443);
        struct dk_azure_challenge challenge =
            challenge_of("login.microsoftonline.com", "vault.azure.net");
        snprintf(setup.tenant, sizeof setup.tenant, "%s", pairs[i].ours);
        snprintf(challenge.tenant, sizeof challenge.tenant, "%s", pairs[i].theirs);
        dk_err_clear(&err);
        assert_int_equal(dk_azure_challenge_verify(&challenge, &setup, out, &err), pairs[i].rc);
        if (pairs[i].rc != DK_OK) {
            DK_TEST_SAYS(err, "AZURE_TENANT_ID: the vault kv.vault.azure.net belongs to the "
                              "directory " OTHER);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_forms_of_a_challenge_are_one),
        cmocka_unit_test(a_challenge_that_cannot_be_read_is_refused),
        cmocka_unit_test(a_challenge_of_any_length_is_read_or_refused),
        cmocka_unit_test(each_cloud_has_its_resource_and_its_authorities),
        cmocka_unit_test(a_hostile_challenge_gets_no_token),
        cmocka_unit_test(an_authority_that_is_set_may_be_named),
        cmocka_unit_test(loopback_may_have_the_resource_of_a_cloud_or_its_own),
        cmocka_unit_test(a_host_of_ones_own_is_its_own_resource_or_in_its_domain),
        cmocka_unit_test(a_vault_of_another_directory_is_told_by_its_setting),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
