/*
 * azure_token: the access token of a process, kept fresh.
 *
 * Called by azure.c and azure_call.c. A token that is good for two hours or more is renewed from
 * half of its life on, each one from five minutes before its end; how, pass.h says. How long it is
 * good is counted from the moment it was asked for. Shared by threads.
 */
#ifndef DK_PROVIDER_AZURE_TOKEN_H
#define DK_PROVIDER_AZURE_TOKEN_H

#include "crypto/suite.h"
#include "net/http.h"
#include "provider/azure_challenge.h"
#include "provider/azure_setup.h"
#include "provider/pass.h"

struct dk_azure_token {
    struct dk_pass pass;
    char *bearer; /* "Bearer ..", as the header has it */
    char resource[DK_AZURE_RESOURCE_MAX + 1];
    unsigned number; /* counts the tokens */
};

struct dk_azure_tokens_setup {
    const struct dk_world *world;
    const struct dk_suite *suite;
    const struct dk_azure_setup *azure; /* lent, for as long as the tokens are open */
    struct dk_http *authority;          /* lent */
    struct dk_http *identity;           /* lent */
};

struct dk_azure_tokens; /* dk_azure_tokens_open .. close */

/* E_CONFIG: the certificate's file cannot be used. Asks nobody. */
DK_MUST_USE dk_rc dk_azure_tokens_open(const struct dk_azure_tokens_setup *setup,
                                       struct dk_azure_tokens **out, struct dk_err *err);
void dk_azure_tokens_close(struct dk_azure_tokens *tokens); /* NULL is allowed */
/* In a child: the next get asks anew. */
void dk_azure_tokens_after_fork(struct dk_azure_tokens *tokens);

/*
 * Lent until dk_azure_token_put(). E_CONFIG, E_UNREACHABLE, E_THROTTLED, E_PROVIDER_DENIED,
 * E_PROVIDER: none was given, and there is none that is still good.
 */
DK_MUST_USE dk_rc dk_azure_token_get(struct dk_azure_tokens *tokens, const char *resource,
                                     struct dk_azure_token **out, struct dk_err *err);
/* Amid a run: one that is still good is not renewed (pass.h). */
DK_MUST_USE dk_rc dk_azure_token_get_amid(struct dk_azure_tokens *tokens, const char *resource,
                                          struct dk_azure_token **out, struct dk_err *err);
void dk_azure_token_put(struct dk_azure_tokens *tokens, struct dk_azure_token *token);
/* The vault refused the one of this number: the next get asks anew. False: it did so just now. */
bool dk_azure_token_refused(struct dk_azure_tokens *tokens, unsigned number);

#endif
