/*
 * context: the caller's map of strings, checked and encoded injectively (FORMATS "dk1", I17).
 *
 * Called by crypto/field for fields and by providers for wraps. Pure functions.
 */
#ifndef DK_CRYPTO_CONTEXT_H
#define DK_CRYPTO_CONTEXT_H

#include "base/bytes.h"

#define DK_CONTEXT_PAIRS 16
#define DK_CONTEXT_NAME 256
#define DK_CONTEXT_VALUE 256
/* pairs(c) at its longest */
#define DK_CONTEXT_ENCODED_MAX (4 + DK_CONTEXT_PAIRS * (4 + DK_CONTEXT_NAME + 4 + DK_CONTEXT_VALUE))

struct dk_pair {
    struct dk_view name;
    struct dk_view value;
};

/*
 * pairs(c): u32 count, then lp(name) lp(value) of each pair, sorted by name as bytes.
 * E_LIMIT: more than 16 pairs, a name of 0 or more than 256 bytes, a value of more than 256.
 * E_USAGE: not UTF-8, a NUL, a name twice. `out` holds DK_CONTEXT_ENCODED_MAX bytes.
 */
DK_MUST_USE dk_rc dk_context_encode(const struct dk_pair *pairs, size_t count, uint8_t *out,
                                    size_t *out_len, struct dk_err *err);

#endif
