#include "provider/azure_call.h"

#include <stdio.h>

/* ---- a request ------------------------------------------------------------------------------- */

static void put_token(struct dk_azure_call *x)
{
    if (x->token != NULL) {
        dk_azure_token_put(x->azure->tokens, x->token);
        x->token = NULL;
    }
}

enum dk_vault_op dk_azure_op_of(enum dk_azure_pair pair, bool wraps)
{
    if (pair == DK_AZURE_WRAPKEY) {
        return wraps ? DK_VAULT_WRAPKEY : DK_VAULT_UNWRAPKEY;
    }
    return wraps ? DK_VAULT_ENCRYPT : DK_VAULT_DECRYPT;
}

/* `aad` of DK_WRAP_AAD_MAX bytes lives as long as the ask; NULL: the ask is not to be built. */
static dk_rc ask_of(const struct dk_azure_call *x, uint8_t *aad, struct dk_vault_ask *out,
                    struct dk_err *err)
{
    const struct dk_azure_setup *azure = &x->azure->azure;
    *out = (struct dk_vault_ask){.op = DK_VAULT_GET,
                                 .name = azure->key_name,
                                 .version = x->version,
                                 .api_version = azure->api_version};
    if (x->item == NULL) {
        return DK_OK;
    }
    out->op = dk_azure_op_of(x->pair, x->wraps);
    out->alg = x->oct ? DK_VAULT_A256GCM : DK_VAULT_RSA_OAEP_256;
    out->secret = x->oct ? &x->item->key : &x->w;
    out->value =
        x->oct ? dk_view_of(x->blob.ct, sizeof x->blob.ct) : dk_view_of(x->blob.rsa, x->blob.rsa_n);
    out->iv = x->blob.nonce;
    out->tag = x->blob.tag;
    if (x->oct && aad != NULL) {
        size_t n = 0;
        DK_TRY(dk_wrap_aad(&x->item->context, aad, &n, err));
        out->aad = dk_view_of(aad, n);
    }
    return DK_OK;
}

/* A fresh W, and the data key sealed under it. Another try sends the same. */
static dk_rc seal(struct dk_azure_call *x, struct dk_err *err)
{
    const struct dk_provider_setup *setup = &x->azure->setup;
    const struct dk_random *random = &setup->world->random;
    if (x->w.cell != NULL) {
        return DK_OK;
    }
    DK_TRY(dk_secret_new(setup->arena, DK_AEAD_KEY, &x->w, err));
    if (random->fill_private(random->arg, dk_secret_expose_for_crypto(&x->w), DK_AEAD_KEY) != 1) {
        return DK_FAIL(err, RANDOM, "no random bytes for a wrapping key");
    }
    return dk_azure_seal(setup->suite, &x->w, &x->item->context, &x->item->key, &x->blob, err);
}

/* False: no challenge told it yet. */
static bool know_resource(struct dk_azure *azure, char resource[static DK_AZURE_RESOURCE_MAX + 1])
{
    pthread_mutex_lock(&azure->lock);
    memcpy(resource, azure->resource, sizeof azure->resource);
    pthread_mutex_unlock(&azure->lock);
    return resource[0] != '\0';
}

dk_rc dk_azure_renew_token(struct dk_azure *azure, struct dk_err *err)
{
    struct dk_azure_token *token = NULL;
    char resource[DK_AZURE_RESOURCE_MAX + 1];
    if (know_resource(azure, resource)) {
        DK_TRY(dk_azure_token_get(azure->tokens, resource, &token, err));
        dk_azure_token_put(azure->tokens, token);
    }
    return DK_OK;
}

/* The first call of all goes out without a token, to be told by whom it is wanted. */
static dk_rc authorize(struct dk_azure_call *x, struct dk_http_request *out, struct dk_err *err)
{
    char resource[DK_AZURE_RESOURCE_MAX + 1];
    put_token(x);
    if (!know_resource(x->azure, resource)) {
        return DK_OK;
    }
    DK_TRY(dk_azure_token_get_amid(x->azure->tokens, resource, &x->token, err));
    return dk_http_add(out, "Authorization", x->token->bearer, err);
}

dk_rc dk_azure_call_build(void *self, struct dk_http_request *out, struct dk_err *err)
{
    struct dk_azure_call *x = self;
    uint8_t aad[DK_WRAP_AAD_MAX];
    struct dk_vault_ask ask;
    out->to = &x->azure->azure.vault;
    DK_TRY(authorize(x, out, err));
    if (x->item != NULL && x->wraps && !x->oct) {
        DK_TRY(seal(x, err));
    }
    DK_TRY(ask_of(x, aad, &ask, err));
    return dk_vault_build(&ask, out, err);
}

/* ---- its answer ------------------------------------------------------------------------------ */

/* 401: what the vault wants is read, believed or not, and the call made again once. */
static enum dk_http_next judge_challenge(struct dk_azure_call *x, const struct dk_http_reply *reply,
                                         struct dk_err *err)
{
    struct dk_azure *azure = x->azure;
    struct dk_azure_challenge challenge;
    struct dk_err cause;
    char text[1024], resource[DK_AZURE_RESOURCE_MAX + 1];
    bool sent = x->token != NULL;
    if (sent ? x->refreshed : x->challenged) {
        return DK_HTTP_DONE;
    }
    dk_err_clear(&cause);
    if (!dk_http_header(reply, "www-authenticate", text, sizeof text) && sent) {
        return DK_HTTP_DONE; /* it says what is wrong with the token */
    }
    if (dk_azure_challenge_parse(text, &challenge, &cause) != DK_OK ||
        dk_azure_challenge_verify(&challenge, &azure->azure, resource, &cause) != DK_OK) {
        *err = cause;
        return DK_HTTP_DONE;
    }
    pthread_mutex_lock(&azure->lock);
    memcpy(azure->resource, resource, sizeof resource);
    pthread_mutex_unlock(&azure->lock);
    x->challenged = true;
    x->refreshed = sent;
    return !sent || dk_azure_token_refused(azure->tokens, x->token->number) ? DK_HTTP_AGAIN
                                                                            : DK_HTTP_DONE;
}

/* The key may have another pair of operations, or the identity a right to the other alone. */
static enum dk_http_next judge_forbidden(struct dk_azure_call *x, struct dk_err *err)
{
    if (x->item == NULL) {
        x->denied = true;
        return DK_HTTP_DONE;
    }
    if (x->turned) {
        *err = x->first;
        return DK_HTTP_DONE;
    }
    if (x->azure->azure.pair != DK_AZURE_AUTO) {
        return DK_HTTP_DONE;
    }
    x->turned = true;
    x->first = *err;
    x->pair = x->pair == DK_AZURE_WRAPKEY ? DK_AZURE_ENCRYPT : DK_AZURE_WRAPKEY;
    return DK_HTTP_AGAIN;
}

static enum dk_http_next judge_fault(struct dk_azure_call *x, const struct dk_http_reply *reply,
                                     struct dk_err *err)
{
    struct dk_vault_ask ask;
    if (ask_of(x, NULL, &ask, err) != DK_OK) {
        return DK_HTTP_DONE;
    }
    switch (dk_vault_explain(&ask, reply, err)) {
    case DK_VAULT_TRANSIENT:
        return DK_HTTP_LATER;
    case DK_VAULT_TOKEN:
        return judge_challenge(x, reply, err);
    case DK_VAULT_FORBIDDEN:
        return judge_forbidden(x, err);
    default:
        return DK_HTTP_DONE;
    }
}

dk_rc dk_azure_check_own(const struct dk_azure *azure, const char *text, struct dk_err *err)
{
    struct dk_vault_kid kid;
    return dk_vault_kid_parse(text, &kid) && dk_vault_kid_is_of(&kid, &azure->azure) &&
                   kid.version[0] != '\0'
               ? DK_OK
               : DK_FAIL(err, PROVIDER,
                         "Azure Key Vault answered with the key %.120s, asked was %.60s at %.80s",
                         text, azure->azure.key_name, azure->azure.vault.authority);
}

/* Another version than GET told of: the key was rotated since, and is looked at again. */
static void note_own(struct dk_azure *azure, const char *kid)
{
    pthread_mutex_lock(&azure->lock);
    if (strcmp(azure->own_kid, kid) != 0) {
        snprintf(azure->own_kid, sizeof azure->own_kid, "%s", kid);
        azure->looked_ms = INT64_MIN / 2;
    }
    pthread_mutex_unlock(&azure->lock);
}

static void note_pair(struct dk_azure *azure, const struct dk_azure_call *x)
{
    pthread_mutex_lock(&azure->lock);
    azure->pair = x->turned ? x->pair : azure->pair;
    pthread_mutex_unlock(&azure->lock);
}

static dk_rc take_wrapped(struct dk_azure_call *x, const struct dk_vault_answer *answer,
                          struct dk_err *err)
{
    struct dk_provider_item *item = x->item;
    struct dk_azure_blob *blob = &x->blob;
    DK_TRY(dk_azure_check_own(x->azure, answer->kid, err));
    size_t n = answer->value_n;
    if (x->oct ? n != sizeof blob->ct : n != 256 && n != 384 && n != 512) {
        return DK_FAIL(err, PROVIDER, "Azure Key Vault answered with a wrap of %zu bytes", n);
    }
    memcpy(x->oct ? blob->ct : blob->rsa, answer->value, n);
    if (x->oct) {
        memcpy(blob->nonce, answer->iv, sizeof blob->nonce);
        memcpy(blob->tag, answer->tag, sizeof blob->tag);
    }
    blob->rsa_n = x->oct ? 0 : n;
    dk_azure_blob_put(blob, item->wrapped->blob);
    memcpy(item->wrapped->kms_key_id, answer->kid, sizeof item->wrapped->kms_key_id);
    note_own(x->azure, answer->kid);
    return DK_OK;
}

/* Equal but for case is equal: then it is told as it was stored. */
static dk_rc take_unwrapped(struct dk_azure_call *x, const struct dk_vault_answer *answer,
                            struct dk_err *err)
{
    struct dk_provider_item *item = x->item;
    struct dk_vault_kid kid, asked;
    DK_TRY(dk_azure_check_own(x->azure, answer->kid, err));
    bool same = dk_vault_kid_parse(answer->kid, &kid) &&
                dk_vault_kid_parse(item->wrapped->kms_key_id, &asked) &&
                dk_vault_kid_equal(&kid, &asked);
    snprintf(item->answered, sizeof item->answered, "%s",
             same ? item->wrapped->kms_key_id : answer->kid);
    return x->oct ? DK_OK
                  : dk_azure_open(x->azure->setup.suite, &x->w, &item->context, &x->blob,
                                  &item->key, err);
}

static dk_rc read_answer(struct dk_azure_call *x, struct dk_view body, struct dk_err *err)
{
    struct dk_vault_ask ask;
    struct dk_vault_answer answer = {.secret = x->oct ? &x->item->key : &x->w};
    if (!x->wraps && !x->oct) {
        DK_TRY(dk_secret_new(x->azure->setup.arena, DK_SECRET_CELL, &x->w, err));
    }
    DK_TRY(ask_of(x, NULL, &ask, err));
    DK_TRY(dk_vault_read(&ask, body, &answer, err));
    return x->wraps ? take_wrapped(x, &answer, err) : take_unwrapped(x, &answer, err);
}

static enum dk_http_next judge_answer(struct dk_azure_call *x, const struct dk_http_reply *reply,
                                      struct dk_err *err)
{
    dk_rc rc = x->item == NULL ? dk_vault_read_key(reply->body, x->key, err)
                               : read_answer(x, reply->body, err);
    dk_secret_free(x->azure->setup.arena, &x->w);
    if (rc == DK_OK) {
        note_pair(x->azure, x);
    }
    return DK_HTTP_DONE;
}

/* A call that went out without a token, to be told by whom it is wanted, is none. */
static void count(const struct dk_azure_call *x, const struct dk_http_reply *reply)
{
    if (x->token != NULL) {
        dk_provider_count(&x->azure->setup,
                          x->item == NULL ? DK_VAULT_GET : dk_azure_op_of(x->pair, x->wraps),
                          reply->status != 200);
    }
}

enum dk_http_next dk_azure_call_judge(void *self, const struct dk_http_reply *reply,
                                      struct dk_err *err)
{
    struct dk_azure_call *x = self;
    if (reply->status == 0) {
        return err->rc == DK_E_UNREACHABLE ? DK_HTTP_LATER : DK_HTTP_DONE;
    }
    count(x, reply);
    return reply->status == 200 ? judge_answer(x, reply, err) : judge_fault(x, reply, err);
}

void dk_azure_call_end(struct dk_azure_call *x)
{
    put_token(x);
    dk_secret_free(x->azure->setup.arena, &x->w);
}
