/*
 * selftest: known answers for every primitive, checked before a key is touched.
 *
 * Called once by crypto/suite. Public data only; the figures' sources stand in selftest.c.
 */
#ifndef DK_CRYPTO_SELFTEST_H
#define DK_CRYPTO_SELFTEST_H

#include "crypto/suite.h"

/* E_SELFTEST names the primitive. About 20 microseconds. */
DK_MUST_USE dk_rc dk_selftest(const struct dk_suite *suite, struct dk_err *err);

#endif
