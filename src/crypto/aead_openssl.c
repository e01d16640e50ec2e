/* The reference back end: OpenSSL EVP, the context kept keyed (MICROBENCH 1, row c). */
#include "crypto/aead.h"

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

static void key_free(struct dk_aead_key *key)
{
    EVP_CIPHER_CTX_free(ctx_of(key)); /* wipes the key schedule */
}

static bool seal(struct dk_aead_key *key, struct dk_aead_op *op)
{
    EVP_CIPHER_CTX *ctx = ctx_of(key);
    int n = 0;
    uint8_t none[DK_AEAD_TAG];
    op->ok = EVP_EncryptInit_ex2(ctx, NULL, NULL, op->nonce, NULL) == 1 &&
             (op->aad.n == 0 ||
              EVP_EncryptUpdate(ctx, NULL, &n, op->aad.p, (int)op->aad.n) == 1) &&
             (op->in.n == 0 ||
              (EVP_EncryptUpdate(ctx, op->out, &n, op->in.p, (int)op->in.n) == 1 &&
               n == (int)op->in.n)) &&
             EVP_EncryptFinal_ex(ctx, none, &n) == 1 &&
             EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG, DK_AEAD_TAG, op->tag) == 1;
    return op->ok;
}

static bool open_one(struct dk_aead_key *key, struct dk_aead_op *op)
{
    EVP_CIPHER_CTX *ctx = ctx_of(key);
    int n = 0;
    uint8_t none[DK_AEAD_TAG];
    op->ok = EVP_DecryptInit_ex2(ctx, NULL, NULL, op->nonce, NULL) == 1 &&
             (op->aad.n == 0 ||
              EVP_DecryptUpdate(ctx, NULL, &n, op->aad.p, (int)op->aad.n) == 1) &&
             (op->in.n == 0 ||
              (EVP_DecryptUpdate(ctx, op->out, &n, op->in.p, (int)op->in.n) == 1 &&
               n == (int)op->in.n)) &&
             EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_TAG, DK_AEAD_TAG, op->tag) == 1 &&
             EVP_DecryptFinal_ex(ctx, none, &n) == 1;
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
    .key_free = key_free,
    .seal = seal,
    .open = open_one,
    .seal_batch = seal_batch,
    .open_batch = open_batch,
};
