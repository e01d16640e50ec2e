#include "crypto/suite.h"

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/params.h>

#include "crypto/aead.h"
#include "crypto/hkdf.h"
#include "crypto/selftest.h"

EVP_MAC_CTX *dk_suite_hmac_ctx(const struct dk_suite *suite)
{
    static char digest[] = "SHA256";
    static const uint8_t zeros[DK_HMAC_LEN];
    OSSL_PARAM params[] = {OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
                           OSSL_PARAM_construct_end()};
    EVP_MAC_CTX *ctx = EVP_MAC_CTX_new(suite->hmac);
    if (ctx != NULL && EVP_MAC_init(ctx, zeros, sizeof zeros, params) != 1) {
        EVP_MAC_CTX_free(ctx);
        return NULL;
    }
    return ctx;
}

/* OpenSSL before 3.0.3 says that a context begins again, and goes on with what is in it. */
static bool begins_again(EVP_MAC_CTX *ctx)
{
    static const uint8_t message[] = {1};
    uint8_t mac[2][DK_HMAC_LEN];
    size_t n = 0;
    bool ok = ctx != NULL;
    for (size_t i = 0; i < 2 && ok; i++) {
        ok = EVP_MAC_init(ctx, NULL, 0, NULL) == 1 &&
             EVP_MAC_update(ctx, message, sizeof message) == 1 &&
             EVP_MAC_final(ctx, mac[i], &n, DK_HMAC_LEN) == 1 && n == DK_HMAC_LEN;
    }
    return ok && memcmp(mac[0], mac[1], DK_HMAC_LEN) == 0;
}

static bool probe_hmac(const struct dk_suite *suite)
{
    EVP_MAC_CTX *ctx = dk_suite_hmac_ctx(suite);
    bool again = begins_again(ctx);
    EVP_MAC_CTX_free(ctx);
    ERR_clear_error();
    return again;
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
    suite->hmac = EVP_MAC_fetch(NULL, "HMAC", NULL);
    suite->sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
    if (suite->aes256gcm == NULL || suite->hmac == NULL || suite->sha256 == NULL) {
        dk_suite_close(suite);
        return DK_FAIL(err, SELFTEST, "OpenSSL has no AES-256-GCM, HMAC or SHA-256");
    }
    suite->hmac_again = probe_hmac(suite);
    suite->hkdf = dk_hkdf_open(suite);
    if (suite->hkdf == NULL) {
        dk_suite_close(suite);
        return DK_FAIL(err, NOMEM, "no memory for HKDF");
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
    dk_hkdf_close(suite->hkdf);
    EVP_MAC_free(suite->hmac);
    EVP_MD_free(suite->sha256);
    *suite = (struct dk_suite){0};
}
