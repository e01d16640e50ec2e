/*
 * rowmac: the MAC over a row of the registry (FORMATS "Registry key", I01, I03).
 *
 * Called by keys/. Takes columns as name and text, sorted by name; NULL columns are left out, so
 * a later nullable column keeps old MACs valid. Pure.
 */
#ifndef DK_CRYPTO_ROWMAC_H
#define DK_CRYPTO_ROWMAC_H

#include "crypto/mac.h"

/* base64 of 0x01 | HMAC-SHA-256, with its NUL */
#define DK_ROWMAC_TEXT 45

struct dk_mac_column {
    const char *name;
    struct dk_view text; /* p == NULL: the column is NULL */
};

struct dk_mac_row {
    const char *label; /* "dekhand/row/1" */
    const char *registry_uuid;
    const char *table;
    const struct dk_mac_column *columns; /* sorted by name as bytes */
    size_t count;
};

DK_MUST_USE dk_rc dk_rowmac_compute(const struct dk_suite *suite, struct dk_mac *key,
                                    const struct dk_mac_row *row, char out[static DK_ROWMAC_TEXT],
                                    struct dk_err *err);
/* E_TAMPERED when `stored` is not the row's MAC (constant time). */
DK_MUST_USE dk_rc dk_rowmac_verify(const struct dk_suite *suite, struct dk_mac *key,
                                   const struct dk_mac_row *row, const char *stored,
                                   struct dk_err *err);

#endif
