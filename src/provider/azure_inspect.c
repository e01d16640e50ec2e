#include "provider/azure_inspect.h"

#include <stdio.h>

#define SOON_S (INT64_C(30) * 86400) /* before its end a key is spoken of */

/* Disabled, expired or not valid yet: what wraps nothing. An expired key still opens. */
static void tell_unusable(const struct dk_vault_key *key, const char *text,
                          const struct dk_provider_tell *tell)
{
    char todo[DK_KMS_KEY_ID_MAX + 100];
    snprintf(todo, sizeof todo, "az keyvault key %s --id %s",
             key->enabled ? "rotate" : "set-attributes --enabled true", key->kid);
    dk_provider_say(tell, DK_PROVIDER_ERROR, todo, "%s", text);
}

void dk_azure_tell_key(const struct dk_vault_key *key, int64_t now_s, bool opens_only,
                       const struct dk_provider_tell *tell)
{
    char todo[DK_KMS_KEY_ID_MAX + 100], at[DK_TIME_TEXT];
    struct dk_err err;
    dk_err_clear(&err);
    if (dk_vault_check_usable(key, now_s, &err) != DK_OK && !(opens_only && key->enabled)) {
        tell_unusable(key, err.text, tell);
    } else if (!opens_only && key->exp != 0 && key->exp - now_s < SOON_S) {
        dk_time_format(key->exp * 1000000, at);
        snprintf(todo, sizeof todo, "az keyvault key rotate --id %s", key->kid);
        dk_provider_say(tell, DK_PROVIDER_WARNING, todo,
                        "%s expires at %s: from then on nothing is wrapped under it", key->kid, at);
    } else if (strstr(key->recovery, "Purgeable") != NULL) {
        dk_provider_say(
            tell, DK_PROVIDER_NOTE,
            "az keyvault update --name <VAULT> --enable-purge-protection true",
            "%s is enabled; whoever may purge it can destroy it for good: the vault has no purge "
            "protection",
            key->kid);
    } else {
        dk_provider_say(tell, DK_PROVIDER_OK, "", "%s is enabled (%s)", key->kid, key->kty);
    }
}

static const char form[] = "{\n"
                           "  \"Name\": \"dekhand %1$s\",\n"
                           "  \"IsCustom\": true,\n"
                           "  \"Description\": \"Wraps and unwraps data keys under %2$s\",\n"
                           "  \"Actions\": [],\n"
                           "  \"NotActions\": [],\n"
                           "  \"DataActions\": [\n"
                           "    \"Microsoft.KeyVault/vaults/keys/read\",\n"
                           "    \"Microsoft.KeyVault/vaults/keys/%3$s/action\",\n"
                           "    \"Microsoft.KeyVault/vaults/keys/%4$s/action\"\n"
                           "  ],\n"
                           "  \"NotDataActions\": [],\n"
                           "  \"AssignableScopes\": [\n"
                           "    \"/subscriptions/<SUBSCRIPTION>/resourceGroups/<GROUP>\"\n"
                           "  ]\n"
                           "}\n";

/* The names of roles are not those of access policies: wrap is wrapKey. */
dk_rc dk_azure_role(const struct dk_azure_setup *setup, enum dk_azure_pair pair, struct dk_buf *out,
                    struct dk_err *err)
{
    char text[sizeof form + 2 * DK_AZURE_NAME_MAX + DK_HOST_MAX + 128];
    char key[DK_HOST_MAX + DK_AZURE_NAME_MAX + 32];
    bool wrapkey = pair == DK_AZURE_WRAPKEY;
    snprintf(key, sizeof key, "%s/keys/%s", setup->vault.authority, setup->key_name);
    int n = snprintf(text, sizeof text, form, setup->key_name, key, wrapkey ? "wrap" : "encrypt",
                     wrapkey ? "unwrap" : "decrypt");
    return dk_buf_add(out, text, (size_t)n, err);
}
