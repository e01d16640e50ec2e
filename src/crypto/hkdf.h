/*
 * hkdf: HKDF-SHA-256 (RFC 5869), of HMACs.
 *
 * OpenSSL's own looks the digest up by name for each of its HMACs and takes thrice the time. Shared
 * by threads: one at a time has the context that is ready, others make one.
 */
#ifndef DK_CRYPTO_HKDF_H
#define DK_CRYPTO_HKDF_H

#include "crypto/suite.h"

/* For dk_suite_open and dk_suite_close. NULL: no memory. */
struct dk_hkdf *dk_hkdf_open(const struct dk_suite *suite);
/* NULL is allowed. In a child of a fork, what another thread had in its hands is left alone. */
void dk_hkdf_close(struct dk_hkdf *hkdf);

/* Without salt. The result has out->n bytes, or n bytes. */
DK_MUST_USE dk_rc dk_hkdf_secret(const struct dk_suite *suite, const struct dk_secret *ikm,
                                 struct dk_view info, struct dk_secret *out, struct dk_err *err);
/* The same for what may be shown: check values, commitments, fingerprints. */
DK_MUST_USE dk_rc dk_hkdf_public(const struct dk_suite *suite, const struct dk_secret *ikm,
                                 struct dk_view info, uint8_t *out, size_t n, struct dk_err *err);

/* The raw form, for the self-test and published vectors (keys of any length, salt). */
bool dk_hkdf_raw(const struct dk_suite *suite, struct dk_view ikm, struct dk_view salt,
                 struct dk_view info, uint8_t *out, size_t n);

#endif
