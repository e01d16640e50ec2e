/* The reference back end: OpenSSL EVP, the context kept keyed. */
#include "crypto/aead.h"

#include <openssl/core_names.h>
#include <openssl/params.h>

/* struct dk_aead_key is the EVP context itself: no second allocation, no indirection. */
static EVP_CIPHER_CTX *ctx_of(struct dk_aead_key *key)
{
    return (EVP_CIPHER_CTX *)(void *)key;
}

static dk_rc key_new(const struct dk_suite *suite, const struct dk_secret *key,
                     enum dk_aead_way way, struct dk_aead_key **out, struct dk_err *err)
{
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    if (key->n < DK_AEAD_KEY || ctx == NULL ||
        EVP_CipherInit_ex2(ctx, suite->aes256gcm, dk_secret_expose_for_crypto(key), NULL,
                           way == DK_AEAD_SEAL, NULL) != 1) {
        EVP_CIPHER_CTX_free(ctx);
        return DK_FAIL(err, NOMEM, "no memory for a cipher context");
    }
    *out = (struct dk_aead_key *)(void *)ctx;
    return DK_OK;
}

/* The cipher stays: no fetch, no allocation, half the time of a new context. */
static dk_rc key_change(const struct dk_suite *suite, const struct dk_secret *key,
                        enum dk_aead_way way, struct dk_aead_key *in, struct dk_err *err)
{
    (void)suite;
    if (key->n < DK_AEAD_KEY ||
        EVP_CipherInit_ex2(ctx_of(in), NULL, dk_secret_expose_for_crypto(key), NULL,
                           way == DK_AEAD_SEAL, NULL) != 1) {
        return DK_FAIL(err, NOMEM, "a cipher context could not be keyed");
    }
    return DK_OK;
}

static void key_free(struct dk_aead_key *key)
{
    EVP_CIPHER_CTX_free(ctx_of(key)); /* wipes the key schedule */
}

/*
 * The calls below EVP_EncryptUpdate and EVP_CIPHER_CTX_ctrl: those look up by name, at each call,
 * what never changes for GCM, and cost a tenth of a short message.
 * EVP_Cipher: in NULL = finish, out NULL = additional data; -1 = failed, or the tag is wrong.
 */
static bool step(EVP_CIPHER_CTX *ctx, uint8_t *out, const uint8_t *in, size_t n)
{
    return EVP_Cipher(ctx, out, in, (unsigned)n) >= 0;
}

/* A parameter list with the tag alone, built without a call. */
#define TAG_PARAMS(tag)                                                                            \
    {                                                                                              \
        OSSL_PARAM_octet_string(OSSL_CIPHER_PARAM_AEAD_TAG, tag, DK_AEAD_TAG), OSSL_PARAM_END      \
    }

static bool seal(struct dk_aead_key *key, struct dk_aead_op *op)
{
    EVP_CIPHER_CTX *ctx = ctx_of(key);
    OSSL_PARAM tag[] = TAG_PARAMS(op->tag);
    uint8_t none[DK_AEAD_TAG];
    op->ok = EVP_EncryptInit_ex2(ctx, NULL, NULL, op->nonce, NULL) == 1 &&
             (op->aad.n == 0 || step(ctx, NULL, op->aad.p, op->aad.n)) &&
             (op->in.n == 0 || step(ctx, op->out, op->in.p, op->in.n)) &&
             step(ctx, none, NULL, 0) && EVP_CIPHER_CTX_get_params(ctx, tag) == 1;
    return op->ok;
}

static bool open_one(struct dk_aead_key *key, struct dk_aead_op *op)
{
    EVP_CIPHER_CTX *ctx = ctx_of(key);
    OSSL_PARAM tag[] = TAG_PARAMS(op->tag);
    uint8_t none[DK_AEAD_TAG];
    op->ok = EVP_DecryptInit_ex2(ctx, NULL, NULL, op->nonce, NULL) == 1 &&
             (op->aad.n == 0 || step(ctx, NULL, op->aad.p, op->aad.n)) &&
             (op->in.n == 0 || step(ctx, op->out, op->in.p, op->in.n)) &&
             EVP_CIPHER_CTX_set_params(ctx, tag) == 1 && step(ctx, none, NULL, 0);
    return op->ok;
}

static void seal_batch(struct dk_aead_key *key, struct dk_aead_op *ops, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        seal(key, &ops[i]);
    }
}

static void open_batch(struct dk_aead_key *key, struct dk_aead_op *ops, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        open_one(key, &ops[i]);
    }
}

const struct dk_aead_ops dk_aead_openssl = {
    .name = "openssl",
    .key_new = key_new,
    .key_change = key_change,
    .key_free = key_free,
    .seal = seal,
    .open = open_one,
    .seal_batch = seal_batch,
    .open_batch = open_batch,
};
