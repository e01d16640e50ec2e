#include "provider/azure_wrap.h"

#define MARK_RSA 0x01
#define MARK_OCT 0x02

/* ---- bytes ----------------------------------------------------------------------------------- */

void dk_azure_blob_put(const struct dk_azure_blob *blob, char *out)
{
    uint8_t bytes[DK_AZURE_BLOB_MAX], *p = bytes;
    *p++ = blob->rsa_n > 0 ? MARK_RSA : MARK_OCT;
    if (blob->rsa_n > 0) {
        *p++ = (uint8_t)(blob->rsa_n >> 8);
        *p++ = (uint8_t)blob->rsa_n;
        p = dk_put_bytes(p, blob->rsa, blob->rsa_n);
    }
    p = dk_put_bytes(p, blob->nonce, sizeof blob->nonce);
    p = dk_put_bytes(p, blob->ct, sizeof blob->ct);
    p = dk_put_bytes(p, blob->tag, sizeof blob->tag);
    dk_base64_encode(bytes, (size_t)(p - bytes), out);
}

/* The length of the RSA part, 0 for the other form; false: it is neither. */
static bool measure(const uint8_t *bytes, size_t n, size_t *rsa_n)
{
    *rsa_n = 0;
    if (n == 1 + DK_AZURE_SEALED) {
        return bytes[0] == MARK_OCT;
    }
    if (n < 3 + DK_AZURE_SEALED || bytes[0] != MARK_RSA) {
        return false;
    }
    *rsa_n = (size_t)bytes[1] << 8 | bytes[2];
    return *rsa_n > 0 && *rsa_n <= DK_AZURE_RSA_MAX && n == 3 + *rsa_n + DK_AZURE_SEALED;
}

dk_rc dk_azure_blob_read(const char *text, struct dk_azure_blob *out, struct dk_err *err)
{
    uint8_t bytes[DK_AZURE_BLOB_MAX];
    size_t n = 0;
    if (!dk_base64_decode(text, strlen(text), bytes, sizeof bytes, &n) ||
        !measure(bytes, n, &out->rsa_n)) {
        return DK_FAIL(err, FORMAT, "the wrapped key is not one of Azure Key Vault");
    }
    const uint8_t *sealed = bytes + n - DK_AZURE_SEALED;
    memcpy(out->rsa, bytes + 3, out->rsa_n);
    memcpy(out->nonce, sealed, sizeof out->nonce);
    memcpy(out->ct, sealed + sizeof out->nonce, sizeof out->ct);
    memcpy(out->tag, sealed + sizeof out->nonce + sizeof out->ct, sizeof out->tag);
    return DK_OK;
}

/* ---- the seal under W ------------------------------------------------------------------------ */

/* One message; the context is keyed for it alone. */
static dk_rc run_aead(const struct dk_suite *suite, const struct dk_secret *w, enum dk_aead_way way,
                      struct dk_aead_op *op, struct dk_err *err)
{
    struct dk_aead_key *key = NULL;
    DK_TRY(suite->aead->key_new(suite, w, way, &key, err));
    bool ok = way == DK_AEAD_SEAL ? suite->aead->seal(key, op) : suite->aead->open(key, op);
    suite->aead->key_free(key);
    if (!ok && way == DK_AEAD_SEAL) {
        return DK_FAIL(err, INTERNAL, "AES-256-GCM failed");
    }
    return ok ? DK_OK
              : DK_FAIL(err, AUTH,
                        "Invalid ciphertext: the wrapped key was changed, or belongs to another "
                        "tenant, purpose or time");
}

dk_rc dk_azure_seal(const struct dk_suite *suite, const struct dk_secret *w,
                    const struct dk_wrap_context *context, const struct dk_secret *key,
                    struct dk_azure_blob *out, struct dk_err *err)
{
    uint8_t aad[DK_WRAP_AAD_MAX];
    size_t aad_len = 0;
    DK_TRY(dk_wrap_aad(context, aad, &aad_len, err));
    DK_TRY(dk_random_fill(suite->world, out->nonce, sizeof out->nonce, err));
    struct dk_aead_op op = {.nonce = out->nonce,
                            .aad = dk_view_of(aad, aad_len),
                            .in = dk_view_of(dk_secret_expose_for_crypto(key), DK_DATA_KEY),
                            .out = out->ct,
                            .tag = out->tag};
    return run_aead(suite, w, DK_AEAD_SEAL, &op, err);
}

dk_rc dk_azure_open(const struct dk_suite *suite, const struct dk_secret *w,
                    const struct dk_wrap_context *context, const struct dk_azure_blob *blob,
                    struct dk_secret *key, struct dk_err *err)
{
    uint8_t aad[DK_WRAP_AAD_MAX], tag[DK_AEAD_TAG];
    size_t aad_len = 0;
    if (w->n != DK_AEAD_KEY || dk_secret_is_zero(w)) {
        return DK_FAIL(err, PROVIDER,
                       "Azure Key Vault answered with a wrapping key of %u bytes, or of zeros",
                       w->n);
    }
    DK_TRY(dk_wrap_aad(context, aad, &aad_len, err));
    memcpy(tag, blob->tag, sizeof tag);
    struct dk_aead_op op = {.nonce = blob->nonce,
                            .aad = dk_view_of(aad, aad_len),
                            .in = dk_view_of(blob->ct, DK_DATA_KEY),
                            .out = dk_secret_expose_for_crypto(key),
                            .tag = tag};
    dk_rc rc = run_aead(suite, w, DK_AEAD_OPEN, &op, err);
    if (rc != DK_OK) {
        dk_secret_wipe(key);
        return rc;
    }
    key->n = DK_DATA_KEY;
    return DK_OK;
}
