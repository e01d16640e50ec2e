/*
 * suite: the algorithms of one library instance, fetched once, and their power-on self-test.
 *
 * Opened by the door, passed down to whoever needs a primitive. Immutable after open: shared by
 * threads. No algorithm is fetched on a hot path.
 */
#ifndef DK_CRYPTO_SUITE_H
#define DK_CRYPTO_SUITE_H

#include <openssl/evp.h>

#include "base/secret.h"

struct dk_aead_ops;

struct dk_suite {
    const struct dk_world *world;
    const struct dk_aead_ops *aead;
    EVP_CIPHER *aes256gcm;
    EVP_KDF *hkdf;
    EVP_MAC *hmac;
    EVP_MD *sha256;
};

/* Fetches and self-tests: E_SELFTEST names the primitive that failed. */
DK_MUST_USE dk_rc dk_suite_open(const struct dk_world *world, struct dk_suite *suite,
                                struct dk_err *err);
void dk_suite_close(struct dk_suite *suite);

/* HKDF-SHA-256 without salt (RFC 5869). The result has out->n bytes, or n bytes. */
DK_MUST_USE dk_rc dk_hkdf_secret(const struct dk_suite *suite, const struct dk_secret *ikm,
                                 struct dk_view info, struct dk_secret *out, struct dk_err *err);
/* The same for what may be shown: check values, commitments, fingerprints. */
DK_MUST_USE dk_rc dk_hkdf_public(const struct dk_suite *suite, const struct dk_secret *ikm,
                                 struct dk_view info, uint8_t *out, size_t n, struct dk_err *err);

#define DK_HMAC_LEN 32
/* HMAC-SHA-256 under the secret's n bytes. */
DK_MUST_USE dk_rc dk_hmac(const struct dk_suite *suite, const struct dk_secret *key,
                          struct dk_view message, uint8_t out[static DK_HMAC_LEN],
                          struct dk_err *err);

#define DK_SHA256_LEN 32
DK_MUST_USE dk_rc dk_sha256(const struct dk_suite *suite, struct dk_view message,
                            uint8_t out[static DK_SHA256_LEN], struct dk_err *err);

/* The raw forms, for the self-test and published vectors (keys of any length, salt). */
bool dk_hkdf_raw(const struct dk_suite *suite, struct dk_view ikm, struct dk_view salt,
                 struct dk_view info, uint8_t *out, size_t n);
bool dk_hmac_raw(const struct dk_suite *suite, struct dk_view key, struct dk_view message,
                 uint8_t out[static DK_HMAC_LEN]);

#endif
