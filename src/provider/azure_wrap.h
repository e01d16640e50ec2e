/*
 * azure_wrap: the two forms of a data key that Azure wraps (FORMATS "Wraps", K6).
 *
 *   RSA:     0x01 | u16 n | n bytes RSA-OAEP-256(W) | nonce12 | ct | tag
 *   oct-HSM: 0x02 | nonce12 | ct | tag
 *
 * Called by azure.c. RSA binds nothing to a context, so it wraps 32 random bytes W, and W seals the
 * data key with the context as additional data. What oct-HSM seals, it seals by itself.
 */
#ifndef DK_PROVIDER_AZURE_WRAP_H
#define DK_PROVIDER_AZURE_WRAP_H

#include "crypto/aead.h"
#include "provider/provider.h"

#define DK_AZURE_RSA_MAX 512
#define DK_AZURE_SEALED (DK_AEAD_NONCE + DK_DATA_KEY + DK_AEAD_TAG)
#define DK_AZURE_BLOB_MAX (3 + DK_AZURE_RSA_MAX + DK_AZURE_SEALED)

/* A blob's parts; rsa.n = 0: the form of oct-HSM. */
struct dk_azure_blob {
    uint8_t rsa[DK_AZURE_RSA_MAX];
    size_t rsa_n;
    uint8_t nonce[DK_AEAD_NONCE];
    uint8_t ct[DK_DATA_KEY];
    uint8_t tag[DK_AEAD_TAG];
};

/* base64 of the blob, into `out` of DK_WRAPPED_MAX + 1 bytes. */
void dk_azure_blob_put(const struct dk_azure_blob *blob, char *out);
/* E_FORMAT: it is neither form. */
DK_MUST_USE dk_rc dk_azure_blob_read(const char *text, struct dk_azure_blob *out,
                                     struct dk_err *err);

/* Fills nonce, ct and tag. */
DK_MUST_USE dk_rc dk_azure_seal(const struct dk_suite *suite, const struct dk_secret *w,
                                const struct dk_wrap_context *context, const struct dk_secret *key,
                                struct dk_azure_blob *out, struct dk_err *err);
/* `key` has a cell. E_PROVIDER: W is none. E_AUTH: another context, or it was changed. */
DK_MUST_USE dk_rc dk_azure_open(const struct dk_suite *suite, const struct dk_secret *w,
                                const struct dk_wrap_context *context,
                                const struct dk_azure_blob *blob, struct dk_secret *key,
                                struct dk_err *err);

#endif
