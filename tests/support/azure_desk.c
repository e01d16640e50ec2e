#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "support/azure_desk.h"

#include <jansson.h>

#include "provider/azure.h"

static struct dk_err err;

void dk_desk_new(struct dk_desk *desk, const char *key)
{
    struct dk_arena_report report;
    struct dk_settings *settings = &desk->settings;
    memset(desk, 0, sizeof *desk);
    dk_cloud_reset();
    dk_test_world_init(&desk->w);
    desk->w.world.random = dk_world_default.random;
    DK_TEST_OK(err, dk_suite_open(&desk->w.world, &desk->suite, &err));
    DK_TEST_OK(err, dk_arena_open(&desk->w.world, 64, &desk->arena, &report, &err));
    dk_settings_init(settings, &desk->w.world.mem);
    dk_cloud_set(settings, "AZURE_KEY_VAULT_URL", dk_cloud("AZURE_VAULT"));
    dk_cloud_set(settings, "AZURE_AUTHORITY_HOST", dk_cloud("FAKE_TLS"));
    dk_cloud_set(settings, "AZURE_TENANT_ID", dk_cloud("AZURE_TENANT"));
    dk_cloud_set(settings, "AZURE_CLIENT_ID", dk_cloud("AZURE_CLIENT"));
    dk_cloud_set(settings, "AZURE_CLIENT_SECRET", dk_cloud("AZURE_SECRET"));
    dk_cloud_set(settings, "KMS_CA_FILE", dk_cloud("FAKE_CA"));
    dk_cloud_set(settings, "AZURE_KEY_NAME", key);
}

dk_rc dk_desk_try_open(struct dk_desk *desk, struct dk_err *why)
{
    const struct dk_provider_setup setup = {.world = &desk->w.world,
                                            .suite = &desk->suite,
                                            .arena = desk->arena,
                                            .log = &desk->log,
                                            .settings = &desk->settings};
    dk_err_clear(why);
    return dk_provider_open(&dk_provider_azure, &setup, &desk->provider, why);
}

void dk_desk_open(struct dk_desk *desk, const char *key)
{
    dk_desk_new(desk, key);
    DK_TEST_OK(err, dk_desk_try_open(desk, &err));
}

void dk_desk_close(struct dk_desk *desk)
{
    dk_provider_close(desk->provider);
    dk_settings_clear(&desk->settings);
    dk_arena_close(desk->arena);
    dk_suite_close(&desk->suite);
    assert_int_equal(desk->w.live, 0);
}

struct dk_wrap_context dk_desk_context(const char *tenant)
{
    return (struct dk_wrap_context){dk_view_str(tenant), DK_PURPOSE_DATA, DK_DESK_NOW};
}

dk_rc dk_desk_generate(struct dk_desk *desk, const char *tenant, struct dk_secret *key,
                       struct dk_wrapped *wrapped, struct dk_err *why)
{
    uint8_t check_value[DK_CHECK_VALUE];
    struct dk_wrap_context context = dk_desk_context(tenant);
    dk_err_clear(why);
    return dk_provider_generate(desk->provider, &context, key, wrapped, check_value, why);
}

dk_rc dk_desk_unwrap(struct dk_desk *desk, const char *tenant, const struct dk_wrapped *wrapped,
                     struct dk_secret *key, struct dk_err *why)
{
    struct dk_wrap_context context = dk_desk_context(tenant);
    dk_err_clear(why);
    return dk_provider_unwrap(desk->provider, &context, wrapped, key, why);
}

void dk_desk_expect_opens(struct dk_desk *desk, const char *tenant,
                          const struct dk_wrapped *wrapped, const struct dk_secret *key)
{
    struct dk_secret opened = {0};
    DK_TEST_OK(err, dk_desk_unwrap(desk, tenant, wrapped, &opened, &err));
    assert_true(key == NULL || dk_secret_equal(&opened, key));
    dk_secret_free(desk->arena, &opened);
}

void dk_desk_expect_generates(struct dk_desk *desk)
{
    struct dk_wrapped wrapped;
    struct dk_secret key = {0};
    DK_TEST_OK(err, dk_desk_generate(desk, "acme", &key, &wrapped, &err));
    dk_secret_free(desk->arena, &key);
}

/* ---- what the fake was asked ----------------------------------------------------------------- */

void dk_desk_clear_counts(void)
{
    (void)dk_cloud_control("counts", "{\"clear\":true}");
}

int dk_desk_total(void)
{
    static const char *const operations[] = {"vault.get",     "vault.encrypt",   "vault.decrypt",
                                             "vault.wrapkey", "vault.unwrapkey", "token.Token",
                                             "identity.Imds", "connections"};
    int total = 0;
    for (size_t i = 0; i < sizeof operations / sizeof operations[0]; i++) {
        total += dk_cloud_count(operations[i]);
    }
    return total;
}

/* ---- the SDK --------------------------------------------------------------------------------- */

static void copy_member(const json_t *json, const char *name, char *out, size_t cap)
{
    const char *text = json_string_value(json_object_get(json, name));
    assert_non_null(text);
    assert_true(strlen(text) < cap);
    memcpy(out, text, strlen(text) + 1);
}

void dk_desk_sdk_wraps(const char *name, uint8_t key[static DK_DATA_KEY], struct dk_wrapped *out)
{
    static const char *const passed[] = {"AZURE_VAULT",  "AZURE_TENANT", "AZURE_CLIENT",
                                         "AZURE_SECRET", "FAKE_TLS",     "FAKE_CA"};
    char command[2048] = "", text[4096], hex[2 * DK_DATA_KEY + 1];
    size_t n = 0;
    for (size_t i = 0; i < sizeof passed / sizeof passed[0]; i++) {
        n += (size_t)snprintf(command + n, sizeof command - n, "%s='%s' ", passed[i],
                              dk_cloud(passed[i]));
    }
    snprintf(command + n, sizeof command - n,
             "build/cache/python/bin/python tests/oracle_azure.py wrap %s", name);
    FILE *from = popen(command, "re");
    assert_non_null(from);
    assert_non_null(fgets(text, sizeof text, from));
    assert_int_equal(pclose(from), 0);
    json_t *made = json_loads(text, 0, NULL);
    copy_member(made, "kid", out->kms_key_id, sizeof out->kms_key_id);
    copy_member(made, "blob", out->blob, sizeof out->blob);
    copy_member(made, "key", hex, sizeof hex);
    assert_true(dk_hex_decode(hex, strlen(hex), key, DK_DATA_KEY));
    json_decref(made);
}
