#include "crypto/rowmac.h"

#include <assert.h>
#include <openssl/crypto.h>

/* The widest row: a wrapped key of 2 KiB, an id of 512 bytes, a dozen short columns. */
#define MESSAGE_MAX 8192

static dk_rc put_lp_checked(uint8_t *message, size_t *n, struct dk_view v, struct dk_err *err)
{
    if (v.n + 4 > MESSAGE_MAX - *n) {
        return DK_FAIL(err, TAMPERED, "a row is longer than any that dekhand writes");
    }
    dk_put_lp(message + *n, v.p, v.n);
    *n += 4 + v.n;
    return DK_OK;
}

dk_rc dk_rowmac_compute(const struct dk_suite *suite, const struct dk_secret *key,
                        const struct dk_mac_row *row, char out[static DK_ROWMAC_TEXT],
                        struct dk_err *err)
{
    uint8_t message[MESSAGE_MAX];
    size_t n = 0;
    DK_TRY(put_lp_checked(message, &n, dk_view_str(row->label), err));
    DK_TRY(put_lp_checked(message, &n, dk_view_str(row->registry_uuid), err));
    DK_TRY(put_lp_checked(message, &n, dk_view_str(row->table), err));
    for (size_t i = 0; i < row->count; i++) {
        const struct dk_mac_column *column = &row->columns[i];
        assert(i == 0 || strcmp(row->columns[i - 1].name, column->name) < 0);
        if (column->text.p == NULL) {
            continue;
        }
        DK_TRY(put_lp_checked(message, &n, dk_view_str(column->name), err));
        DK_TRY(put_lp_checked(message, &n, column->text, err));
    }
    uint8_t mac[1 + DK_HMAC_LEN] = {0x01};
    DK_TRY(dk_hmac(suite, key, dk_view_of(message, n), mac + 1, err));
    dk_base64_encode(mac, sizeof mac, out);
    return DK_OK;
}

dk_rc dk_rowmac_verify(const struct dk_suite *suite, const struct dk_secret *key,
                       const struct dk_mac_row *row, const char *stored, struct dk_err *err)
{
    char right[DK_ROWMAC_TEXT];
    DK_TRY(dk_rowmac_compute(suite, key, row, right, err));
    if (strlen(stored) != DK_ROWMAC_TEXT - 1 ||
        CRYPTO_memcmp(stored, right, DK_ROWMAC_TEXT - 1) != 0) {
        return DK_FAIL(err, TAMPERED, "a row of %s does not carry its MAC", row->table);
    }
    return DK_OK;
}
