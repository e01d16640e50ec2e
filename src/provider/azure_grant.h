/*
 * azure_grant: the messages by which Azure hands out tokens: the token server, and managed
 * identity.
 *
 * Called by azure_token. Pure: builds requests and reads answers (PROVIDERS B.5).
 */
#ifndef DK_PROVIDER_AZURE_GRANT_H
#define DK_PROVIDER_AZURE_GRANT_H

#include "net/http.h"
#include "provider/azure_setup.h"

#define DK_AZURE_TOKEN_MAX 12287

/* A token that was got; dk_azure_grant_clear wipes it. */
struct dk_azure_grant {
    char token[DK_AZURE_TOKEN_MAX + 1];
    int64_t seconds; /* that it is good for, from the answer on */
};
void dk_azure_grant_clear(struct dk_azure_grant *grant);

/* `https://AUTHORITY/TENANT/oauth2/v2.0/token`: what an assertion is made out to. */
DK_MUST_USE dk_rc dk_azure_token_url(const struct dk_azure_setup *setup, char *out, size_t cap,
                                     struct dk_err *err);
/* To the token server. `proof` is the secret, or an assertion where the source is another. */
DK_MUST_USE dk_rc dk_azure_ask_token(const struct dk_azure_setup *setup, const char *resource,
                                     const char *proof, struct dk_http_request *out,
                                     struct dk_err *err);
/* To App Service or IMDS, as the setup says. */
DK_MUST_USE dk_rc dk_azure_ask_identity(const struct dk_azure_setup *setup, const char *resource,
                                        struct dk_http_request *out, struct dk_err *err);

/* An answer of 200 from any of them; `now_us` is the time of who answered. E_PROVIDER. */
DK_MUST_USE dk_rc dk_azure_read_grant(struct dk_view body, int64_t now_us,
                                      struct dk_azure_grant *out, struct dk_err *err);
/* Another answer. What is refused is E_PROVIDER_DENIED and says what has to be mended. */
enum dk_http_next dk_azure_explain_grant(const struct dk_azure_setup *setup,
                                         const struct dk_http_reply *reply, struct dk_err *err);

#endif
