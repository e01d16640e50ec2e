/*
 * azure_setup: what the settings say about Azure: vault, key, cloud, and where tokens come from.
 *
 * Called by azure.c at open. Talks to nobody, reads no file. The order of the sources is that of
 * PROVIDERS B.5: secret, certificate, workload identity, managed identity. A cloud is known by the
 * end of the vault's host; who hands out tokens there follows from it, unless it is said.
 */
#ifndef DK_PROVIDER_AZURE_SETUP_H
#define DK_PROVIDER_AZURE_SETUP_H

#include "base/options.h"
#include "net/endpoint.h"

#define DK_AZURE_NAME_MAX 127
#define DK_AZURE_TENANT_MAX 253

struct dk_azure_cloud {
    const char *suffix;         /* of its vaults: ".vault.azure.net" */
    const char *resource;       /* that tokens are for: "vault.azure.net" */
    const char *authorities[4]; /* who hands them out, by all of its names; ends with NULL */
};
/* By the vault's host; NULL: it is none of a known cloud's. */
const struct dk_azure_cloud *dk_azure_cloud_of(const char *host);
/* Number i; NULL past the end. */
const struct dk_azure_cloud *dk_azure_cloud_at(size_t i);

enum dk_azure_source {
    DK_AZURE_SECRET,
    DK_AZURE_CERTIFICATE,
    DK_AZURE_WORKLOAD,    /* a token in a file (AKS) */
    DK_AZURE_APP_SERVICE, /* managed identity of App Service, Functions, Container Apps */
    DK_AZURE_IMDS,        /* of a virtual machine */
};

/* By which operations a key wraps. */
enum dk_azure_pair { DK_AZURE_AUTO, DK_AZURE_ENCRYPT, DK_AZURE_WRAPKEY };

struct dk_azure_setup {
    const struct dk_mem *mem;
    struct dk_endpoint vault;
    const struct dk_azure_cloud *cloud; /* NULL: loopback, or a host of KMS_ALLOWED_ENDPOINTS */
    char key_name[DK_AZURE_NAME_MAX + 1];
    char api_version[33];
    enum dk_azure_pair pair;
    enum dk_azure_source source;
    const char *told;                     /* where that is said: "AZURE_CLIENT_SECRET"; static */
    struct dk_endpoint authority;         /* not for managed identities */
    bool authority_set;                   /* by AZURE_AUTHORITY_HOST */
    struct dk_endpoint identity;          /* of managed identities */
    char tenant[DK_AZURE_TENANT_MAX + 1]; /* "" for managed identities */
    char *client_id;                      /* NULL: the machine's own identity */
    char *secret;                         /* the application's, or what App Service wants to see */
    char *file;                           /* certificate or token */
};

/* E_CONFIG names the setting, never a secret. The caller's: dk_azure_setup_clear(). */
DK_MUST_USE dk_rc dk_azure_setup_read(const struct dk_settings *settings, const struct dk_mem *mem,
                                      struct dk_azure_setup *out, struct dk_err *err);
void dk_azure_setup_clear(struct dk_azure_setup *setup); /* wipes */

#endif
