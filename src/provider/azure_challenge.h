/*
 * azure_challenge: what a vault says about the tokens that it takes, and whether that is believed.
 *
 * Called by azure.c. Pure. A vault answers a call without a good token with 401 and
 *   WWW-Authenticate: Bearer authorization="https://login.microsoftonline.com/TENANT",
 *                     resource="https://vault.azure.net"
 * or authorization_uri= and scope=; with commas or blanks between them, in any order (PROVIDERS
 * B.5). Whoever could make us ask for a token for a resource of his choice, or where he likes,
 * would have it: so nothing of it is followed that the settings do not say already.
 */
#ifndef DK_PROVIDER_AZURE_CHALLENGE_H
#define DK_PROVIDER_AZURE_CHALLENGE_H

#include "provider/azure_setup.h"

#define DK_AZURE_RESOURCE_MAX (DK_HOST_MAX + 16)

struct dk_azure_challenge {
    char authority[DK_HOST_MAX + 9]; /* host, and a port where there is one; lower case */
    char tenant[DK_AZURE_TENANT_MAX + 1];
    char resource[DK_HOST_MAX + 9]; /* host, and a port where there is one; lower case */
};

/* The header's value. E_PROVIDER: it is no such challenge, or says a thing twice. */
DK_MUST_USE dk_rc dk_azure_challenge_parse(const char *text, struct dk_azure_challenge *out,
                                           struct dk_err *err);
/*
 * The resource that a token is to be asked for, `out` of DK_AZURE_RESOURCE_MAX + 1 bytes.
 * E_PROVIDER: it is not this vault's, or another authority is named than one of its cloud.
 * E_CONFIG: the vault belongs to another directory than AZURE_TENANT_ID.
 */
DK_MUST_USE dk_rc dk_azure_challenge_verify(const struct dk_azure_challenge *challenge,
                                            const struct dk_azure_setup *setup, char *out,
                                            struct dk_err *err);

#endif
