/*
 * mac: HMAC-SHA-256 under a key that is used again and again.
 *
 * Called by rowmac and keys/. A dk_mac is keyed once: its key lies in OpenSSL's heap until it is
 * freed. It may be shared by threads: one at a time has the context that is ready, others copy one.
 */
#ifndef DK_CRYPTO_MAC_H
#define DK_CRYPTO_MAC_H

#include "crypto/suite.h"

struct dk_mac; /* dk_mac_new .. dk_mac_free */

/* Under the secret's n bytes, which are needed no longer. */
DK_MUST_USE dk_rc dk_mac_new(const struct dk_suite *suite, const struct dk_secret *key,
                             struct dk_mac **out, struct dk_err *err);
/*
 * Wipes the key. NULL is allowed. In a child of a fork too: what another thread had in its hands
 * then is left where it is.
 */
void dk_mac_free(struct dk_mac *mac);

DK_MUST_USE dk_rc dk_mac_compute(struct dk_mac *mac, struct dk_view message,
                                 uint8_t out[static DK_HMAC_LEN], struct dk_err *err);

/* The raw form, for the self-test and published vectors: a key of any length, used once. */
bool dk_hmac_raw(const struct dk_suite *suite, struct dk_view key, struct dk_view message,
                 uint8_t out[static DK_HMAC_LEN]);

#endif
