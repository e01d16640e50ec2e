/*
 * nonce: a per-thread store of random bytes for GCM nonces (I18).
 *
 * One page, refilled from the world's randomness, erased as it is used, wiped by the kernel in a
 * child process: a wiped page reads as empty, so no nonce is used twice across fork. Belongs to
 * one thread.
 */
#ifndef DK_CRYPTO_NONCE_H
#define DK_CRYPTO_NONCE_H

#include "crypto/aead.h"

struct dk_nonce_pool {
    uint32_t left; /* unused bytes at the end of `bytes`; 0 after fork */
    uint8_t bytes[4096 - sizeof(uint32_t)];
};

/* NULL when no page can be had. */
struct dk_nonce_pool *dk_nonce_pool_new(void);
void dk_nonce_pool_free(struct dk_nonce_pool *pool); /* wipes; NULL is allowed */

/* Refills an empty pool. E_RANDOM: no nonce, so no ciphertext. */
DK_MUST_USE dk_rc dk_nonce_refill(struct dk_nonce_pool *pool, const struct dk_world *world,
                                  struct dk_err *err);

/* Takes 12 bytes that nobody else will see. */
DK_MUST_USE static inline dk_rc dk_nonce_take(struct dk_nonce_pool *pool,
                                              const struct dk_world *world,
                                              uint8_t out[static DK_AEAD_NONCE], struct dk_err *err)
{
    if (pool->left < DK_AEAD_NONCE) {
        DK_TRY(dk_nonce_refill(pool, world, err));
    }
    uint8_t *from = pool->bytes + (sizeof pool->bytes - pool->left);
    memcpy(out, from, DK_AEAD_NONCE);
    memset(from, 0, DK_AEAD_NONCE);
    pool->left -= DK_AEAD_NONCE;
    return DK_OK;
}

#endif
