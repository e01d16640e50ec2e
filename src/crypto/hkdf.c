#include "crypto/hkdf.h"

#include <openssl/crypto.h>
#include <stdatomic.h>

#define OUT_MAX (255 * DK_HMAC_LEN)

struct dk_hkdf {
    EVP_MAC_CTX *ready;
    atomic_flag taken; /* `ready` is a thread's */
};

static const uint8_t zeros[DK_HMAC_LEN];

struct dk_hkdf *dk_hkdf_open(const struct dk_suite *suite)
{
    struct dk_hkdf *hkdf = OPENSSL_zalloc(sizeof *hkdf); /* as the contexts of a suite are */
    if (hkdf == NULL) {
        return NULL;
    }
    atomic_flag_clear(&hkdf->taken);
    hkdf->ready = dk_suite_hmac_ctx(suite);
    if (hkdf->ready == NULL) {
        dk_hkdf_close(hkdf);
        return NULL;
    }
    return hkdf;
}

void dk_hkdf_close(struct dk_hkdf *hkdf)
{
    if (hkdf == NULL) {
        return;
    }
    if (!atomic_flag_test_and_set_explicit(&hkdf->taken, memory_order_acquire)) {
        EVP_MAC_CTX_free(hkdf->ready);
    }
    OPENSSL_free(hkdf);
}

static bool hmac(EVP_MAC_CTX *ctx, struct dk_view key, const struct dk_view *parts, size_t count,
                 uint8_t out[static DK_HMAC_LEN])
{
    size_t n = 0;
    bool ok = EVP_MAC_init(ctx, key.p, key.n, NULL) == 1;
    for (size_t i = 0; i < count && ok; i++) {
        ok = parts[i].n == 0 || EVP_MAC_update(ctx, parts[i].p, parts[i].n) == 1;
    }
    return ok && EVP_MAC_final(ctx, out, &n, DK_HMAC_LEN) == 1 && n == DK_HMAC_LEN;
}

/* T(i) = HMAC(prk, T(i - 1) | info | i), one after the other. */
static bool expand(EVP_MAC_CTX *ctx, struct dk_view prk, struct dk_view info, uint8_t *out,
                   size_t n)
{
    uint8_t block[DK_HMAC_LEN], number = 0;
    bool ok = true;
    for (size_t done = 0; done < n && ok; done += DK_HMAC_LEN) {
        size_t left = n - done;
        number++;
        const struct dk_view parts[] = {dk_view_of(block, done > 0 ? sizeof block : 0), info,
                                        dk_view_of(&number, 1)};
        ok = hmac(ctx, prk, parts, 3, block);
        memcpy(out + done, block, left < sizeof block ? left : sizeof block);
    }
    dk_wipe(block, sizeof block);
    return ok;
}

static bool derive(EVP_MAC_CTX *ctx, struct dk_view ikm, struct dk_view salt, struct dk_view info,
                   uint8_t *out, size_t n)
{
    uint8_t prk[DK_HMAC_LEN];
    struct dk_view none = dk_view_of(zeros, sizeof zeros); /* that is no salt */
    bool ok = hmac(ctx, salt.n > 0 ? salt : none, &ikm, 1, prk) &&
              expand(ctx, dk_view_of(prk, sizeof prk), info, out, n);
    dk_wipe(prk, sizeof prk);
    return EVP_MAC_init(ctx, none.p, none.n, NULL) == 1 && ok; /* no key stays in the context */
}

bool dk_hkdf_raw(const struct dk_suite *suite, struct dk_view ikm, struct dk_view salt,
                 struct dk_view info, uint8_t *out, size_t n)
{
    struct dk_hkdf *hkdf = suite->hkdf;
    if (n == 0 || n > OUT_MAX) {
        return false;
    }
    if (!atomic_flag_test_and_set_explicit(&hkdf->taken, memory_order_acquire)) {
        bool ok = derive(hkdf->ready, ikm, salt, info, out, n);
        atomic_flag_clear_explicit(&hkdf->taken, memory_order_release);
        return ok;
    }
    EVP_MAC_CTX *own = dk_suite_hmac_ctx(suite);
    bool ok = own != NULL && derive(own, ikm, salt, info, out, n);
    EVP_MAC_CTX_free(own);
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
