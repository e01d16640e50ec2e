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
struct dk_hkdf;

struct dk_suite {
    const struct dk_world *world;
    const struct dk_aead_ops *aead;
    EVP_CIPHER *aes256gcm;
    EVP_MAC *hmac;
    bool hmac_again; /* a context begins again under its key; not before OpenSSL 3.0.3 */
    struct dk_hkdf *hkdf;
    EVP_MD *sha256;
};

/* Fetches and self-tests: E_SELFTEST names the primitive that failed. */
DK_MUST_USE dk_rc dk_suite_open(const struct dk_world *world, struct dk_suite *suite,
                                struct dk_err *err);
void dk_suite_close(struct dk_suite *suite);

#define DK_HMAC_LEN 32
/* A context for HMAC-SHA-256 under a key of zeros: the caller's. NULL: no memory. */
EVP_MAC_CTX *dk_suite_hmac_ctx(const struct dk_suite *suite);

#define DK_SHA256_LEN 32
DK_MUST_USE dk_rc dk_sha256(const struct dk_suite *suite, struct dk_view message,
                            uint8_t out[static DK_SHA256_LEN], struct dk_err *err);

#endif
