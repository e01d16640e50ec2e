/*
 * Any text as a vault's challenge: refused, or read as three plain words. One that is believed
 * leads to the vault's own resource and nowhere else.
 */
#include <stdlib.h>
#include <string.h>

#include "provider/azure_challenge.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool is_plain(const char *text)
{
    return text[0] != '\0' && strpbrk(text, " \t\r\n,\"\\/?#@%") == NULL;
}

/* A vault of the public cloud, and one on loopback. */
static void look(const struct dk_azure_challenge *challenge, bool loopback)
{
    struct dk_azure_setup setup = {.vault = {.tls = true, .loopback = loopback}};
    char resource[DK_AZURE_RESOURCE_MAX + 1];
    struct dk_err err;
    strcpy(setup.vault.host, loopback ? "localhost" : "kv.vault.azure.net");
    strcpy(setup.vault.authority, loopback ? "localhost:8443" : "kv.vault.azure.net");
    setup.cloud = dk_azure_cloud_of(setup.vault.host);
    dk_err_clear(&err);
    if (dk_azure_challenge_verify(challenge, &setup, resource, &err) != DK_OK) {
        return;
    }
    bool good = strcmp(resource, "https://vault.azure.net") == 0;
    for (size_t i = 0; loopback && dk_azure_cloud_at(i) != NULL; i++) {
        good = good || strcmp(resource + 8, dk_azure_cloud_at(i)->resource) == 0;
    }
    good = good || (loopback && strncmp(resource, "https://localhost", 17) == 0);
    if (!good) {
        abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct dk_azure_challenge challenge;
    struct dk_err err;
    char *text = malloc(size + 1); /* exactly as long as it is: a byte too far is seen */
    if (text == NULL) {
        return 0;
    }
    memcpy(text, data, size);
    text[size] = '\0';
    dk_err_clear(&err);
    if (dk_azure_challenge_parse(text, &challenge, &err) == DK_OK) {
        if (!is_plain(challenge.authority) || !is_plain(challenge.tenant) ||
            !is_plain(challenge.resource)) {
            abort();
        }
        look(&challenge, false);
        look(&challenge, true);
    }
    free(text);
    return 0;
}
