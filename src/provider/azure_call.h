/*
 * azure_call: one call of the vault: a question about the key, or a data key there or back.
 *
 * Called by azure.c, whose state it shares. Builds each request with a token, judges each answer:
 * what may pass, what a challenge asks for, which pair of operations is allowed, and whether the
 * answer is of our key (struct dk_http_call).
 */
#ifndef DK_PROVIDER_AZURE_CALL_H
#define DK_PROVIDER_AZURE_CALL_H

#include <pthread.h>

#include "provider/azure_token.h"
#include "provider/azure_vault.h"
#include "provider/azure_wrap.h"

/* The back end. */
struct dk_azure {
    struct dk_provider_setup setup;
    struct dk_azure_setup azure;
    struct dk_http *vault;
    struct dk_http *authority;
    struct dk_http *identity;
    struct dk_azure_tokens *tokens;
    pthread_mutex_t look; /* one thread asks about the key at a time */
    pthread_mutex_t lock; /* guards what follows */
    char
        resource[DK_AZURE_RESOURCE_MAX + 1]; /* from a challenge that was believed; "" = none yet */
    char own_kid[DK_KMS_KEY_ID_MAX + 1];     /* the key that wraps now; "" = not known */
    enum dk_azure_pair pair;                 /* that was found to be allowed */
    struct dk_vault_key key;                 /* what GET said; kty "": it may not be asked */
    bool looked;                             /* it was asked */
    int64_t looked_ms;                       /* when; INT64_MIN / 2 = it has changed since */
    unsigned looks;                          /* so far */
    struct dk_err look_failure;              /* of the last; DK_OK = none */
};

struct dk_azure_call {
    struct dk_azure *azure;
    struct dk_provider_item *item; /* NULL: GET */
    bool wraps;
    bool oct;
    enum dk_azure_pair pair;
    char version[DK_VAULT_VERSION_LEN + 1]; /* to unwrap */
    struct dk_azure_blob blob;
    struct dk_secret w;           /* RSA: what the vault wraps, or unwrapped */
    struct dk_vault_key *key;     /* GET: gets the answer */
    bool denied;                  /* GET is not allowed */
    struct dk_azure_token *token; /* that the request went out with */
    bool challenged;              /* a challenge was answered already */
    bool refreshed;               /* .. and a token that was sent was refused */
    bool turned;                  /* the other pair was tried */
    struct dk_err first;          /* why the first one was refused */
};

/* Before a run: what all its requests would wait for, once. */
DK_MUST_USE dk_rc dk_azure_renew_token(struct dk_azure *azure, struct dk_err *err);
/* For struct dk_http_call; `self` is the call. */
DK_MUST_USE dk_rc dk_azure_call_build(void *self, struct dk_http_request *out, struct dk_err *err);
enum dk_http_next dk_azure_call_judge(void *self, const struct dk_http_reply *reply,
                                      struct dk_err *err);
/* Gives back what it holds; more than once is allowed. */
void dk_azure_call_end(struct dk_azure_call *call);

enum dk_vault_op dk_azure_op_of(enum dk_azure_pair pair, bool wraps);
/* The key that an answer names has to be a version of ours: E_PROVIDER (F31). */
DK_MUST_USE dk_rc dk_azure_check_own(const struct dk_azure *azure, const char *kid,
                                     struct dk_err *err);

#endif
