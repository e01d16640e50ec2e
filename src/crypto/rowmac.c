#include "crypto/rowmac.h"

#include <assert.h>
#include <openssl/crypto.h>

/* Most rows fit here: a wrapped key of 2 KiB, an id of 512 bytes, a dozen short columns. */
#define STACK_MESSAGE 4096
/* The widest row: a seal over the tenants of a batch. */
#define MESSAGE_MAX (1024 * 1024)

static size_t size_of(const struct dk_mac_row *row)
{
    size_t n = 12 + strlen(row->label) + strlen(row->registry_uuid) + strlen(row->table);
    for (size_t i = 0; i < row->count; i++) {
        const struct dk_mac_column *column = &row->columns[i];
        assert(i == 0 || strcmp(row->columns[i - 1].name, column->name) < 0);
        n += column->text.p == NULL ? 0 : 8 + strlen(column->name) + column->text.n;
    }
    return n;
}

static uint8_t *put_str(uint8_t *p, const char *s)
{
    return dk_put_lp(p, s, strlen(s));
}

static void encode(const struct dk_mac_row *row, uint8_t *p)
{
    p = put_str(p, row->label);
    p = put_str(p, row->registry_uuid);
    p = put_str(p, row->table);
    for (size_t i = 0; i < row->count; i++) {
        const struct dk_mac_column *column = &row->columns[i];
        if (column->text.p != NULL) {
            p = put_str(p, column->name);
            p = dk_put_lp(p, column->text.p, column->text.n);
        }
    }
}

dk_rc dk_rowmac_compute(const struct dk_suite *suite, struct dk_mac *key,
                        const struct dk_mac_row *row, char out[static DK_ROWMAC_TEXT],
                        struct dk_err *err)
{
    uint8_t stack[STACK_MESSAGE], *message = stack;
    uint8_t mac[1 + DK_HMAC_LEN] = {0x01};
    size_t n = size_of(row);
    if (n > MESSAGE_MAX) {
        return DK_FAIL(err, TAMPERED, "a row is longer than any that dekhand writes");
    }
    if (n > sizeof stack) {
        message = dk_mem_alloc(&suite->world->mem, n);
        if (message == NULL) {
            return DK_FAIL(err, NOMEM, "no memory for the MAC of a row");
        }
    }
    encode(row, message);
    dk_rc rc = dk_mac_compute(key, dk_view_of(message, n), mac + 1, err);
    if (message != stack) {
        dk_mem_free(&suite->world->mem, message);
    }
    if (rc == DK_OK) {
        dk_base64_encode(mac, sizeof mac, out);
    }
    return rc;
}

dk_rc dk_rowmac_verify(const struct dk_suite *suite, struct dk_mac *key,
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
