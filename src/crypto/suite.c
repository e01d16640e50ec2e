#include "crypto/suite.h"

#include <openssl/core_names.h>
#include <openssl/kdf.h>
#include <openssl/params.h>

#include "crypto/aead.h"
#include "crypto/selftest.h"

bool dk_hkdf_raw(const struct dk_suite *suite, struct dk_view ikm, struct dk_view salt,
                 struct dk_view info, uint8_t *out, size_t n)
{
    EVP_KDF_CTX *ctx = EVP_KDF_CTX_new(suite->hkdf);
    if (ctx == NULL) {
        return false;
    }
    static char digest[] = "SHA256";
    OSSL_PARAM params[5];
    size_t k = 0;
    params[k++] = OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, digest, 0);
    params[k++] =
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, (void *)(uintptr_t)ikm.p, ikm.n);
    if (salt.n > 0) {
        params[k++] = OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SALT,
                                                        (void *)(uintptr_t)salt.p, salt.n);
    }
    if (info.n > 0) {
        params[k++] = OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO,
                                                        (void *)(uintptr_t)info.p, info.n);
    }
    params[k] = OSSL_PARAM_construct_end();
    bool ok = EVP_KDF_derive(ctx, out, n, params) == 1;
    EVP_KDF_CTX_free(ctx);
    return ok;
}

bool dk_hmac_raw(const struct dk_suite *suite, struct dk_view key, struct dk_view message,
                 uint8_t out[static DK_HMAC_LEN])
{
    EVP_MAC_CTX *ctx = EVP_MAC_CTX_new(suite->hmac);
    if (ctx == NULL) {
        return false;
    }
    static char digest[] = "SHA256";
    OSSL_PARAM params[] = {OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
                           OSSL_PARAM_construct_end()};
    size_t n = 0;
    bool ok = EVP_MAC_init(ctx, key.p, key.n, params) == 1 &&
              EVP_MAC_update(ctx, message.p, message.n) == 1 &&
              EVP_MAC_final(ctx, out, &n, DK_HMAC_LEN) == 1 && n == DK_HMAC_LEN;
    EVP_MAC_CTX_free(ctx);
    return ok;
}

dk_rc dk_hkdf_public(const struct dk_suite *suite, const struct dk_secret *ikm, struct dk_view info,
                     uint8_t *out, size_t n, struct dk_err *err)
{
    struct dk_view key = dk_view_of(dk_secret_expose_for_crypto(ikm), ikm->n);
    if (!dk_hkdf_raw(suite, key, dk_view_of(NULL, 0), info, out, n)) {
        dk_wipe(out, n);
        return DK_FAIL(err, NOMEM, "HKDF failed");
    }
    return DK_OK;
}

dk_rc dk_hkdf_secret(const struct dk_suite *suite, const struct dk_secret *ikm, struct dk_view info,
                     struct dk_secret *out, struct dk_err *err)
{
    return dk_hkdf_public(suite, ikm, info, dk_secret_expose_for_crypto(out), out->n, err);
}

dk_rc dk_hmac(const struct dk_suite *suite, const struct dk_secret *key, struct dk_view message,
              uint8_t out[static DK_HMAC_LEN], struct dk_err *err)
{
    struct dk_view k = dk_view_of(dk_secret_expose_for_crypto(key), key->n);
    if (!dk_hmac_raw(suite, k, message, out)) {
        return DK_FAIL(err, NOMEM, "HMAC failed");
    }
    return DK_OK;
}

dk_rc dk_sha256(const struct dk_suite *suite, struct dk_view message,
                uint8_t out[static DK_SHA256_LEN], struct dk_err *err)
{
    unsigned n = 0;
    if (EVP_Digest(message.p, message.n, out, &n, suite->sha256, NULL) != 1 || n != DK_SHA256_LEN) {
        return DK_FAIL(err, NOMEM, "SHA-256 failed");
    }
    return DK_OK;
}

dk_rc dk_suite_open(const struct dk_world *world, struct dk_suite *suite, struct dk_err *err)
{
    *suite = (struct dk_suite){.world = world, .aead = &dk_aead_openssl};
    suite->aes256gcm = EVP_CIPHER_fetch(NULL, "AES-256-GCM", NULL);
    suite->hkdf = EVP_KDF_fetch(NULL, "HKDF", NULL);
    suite->hmac = EVP_MAC_fetch(NULL, "HMAC", NULL);
    suite->sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
    if (suite->aes256gcm == NULL || suite->hkdf == NULL || suite->hmac == NULL ||
        suite->sha256 == NULL) {
        dk_suite_close(suite);
        return DK_FAIL(err, SELFTEST, "OpenSSL has no AES-256-GCM, HKDF, HMAC or SHA-256");
    }
    dk_rc rc = dk_selftest(suite, err);
    if (rc != DK_OK) {
        dk_suite_close(suite);
    }
    return rc;
}

void dk_suite_close(struct dk_suite *suite)
{
    EVP_CIPHER_free(suite->aes256gcm);
    EVP_KDF_free(suite->hkdf);
    EVP_MAC_free(suite->hmac);
    EVP_MD_free(suite->sha256);
    *suite = (struct dk_suite){0};
}
