/*
 * azure_fetch: gets one token, from where the settings say.
 *
 * Called by azure_token, by one thread at a time. Reads token files and certificates anew each
 * time.
 */
#ifndef DK_PROVIDER_AZURE_FETCH_H
#define DK_PROVIDER_AZURE_FETCH_H

#include "provider/azure_grant.h"
#include "provider/azure_token.h"

/* The limits of who hands out tokens: `identity` for managed identities (PROVIDERS B.5). */
struct dk_http_limits dk_azure_fetch_limits(const struct dk_azure_setup *setup, bool identity);

DK_MUST_USE dk_rc dk_azure_fetch(const struct dk_azure_tokens_setup *setup, const char *resource,
                                 struct dk_azure_grant *out, struct dk_err *err);

#endif
