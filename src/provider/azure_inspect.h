/*
 * azure_inspect: what there is to say of a key in Azure Key Vault, and the rights that it takes.
 *
 * Called by azure.c for `dekhand doctor`. Pure.
 */
#ifndef DK_PROVIDER_AZURE_INSPECT_H
#define DK_PROVIDER_AZURE_INSPECT_H

#include "provider/azure_vault.h"

/* Tells one thing: the worst. `opens_only`: the key wraps nothing any more. */
void dk_azure_tell_key(const struct dk_vault_key *key, int64_t now_s, bool opens_only,
                       const struct dk_provider_tell *tell);
/* A role definition for `az role definition create`; `pair` is the one that is used. */
DK_MUST_USE dk_rc dk_azure_role(const struct dk_azure_setup *setup, enum dk_azure_pair pair,
                                struct dk_buf *out, struct dk_err *err);

#endif
