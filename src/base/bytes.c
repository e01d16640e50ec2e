#include "base/bytes.h"

#include <openssl/crypto.h>

void dk_buf_init(struct dk_buf *buf, const struct dk_mem *mem, size_t max_bytes)
{
    *buf = (struct dk_buf){.mem = mem, .max_bytes = max_bytes};
}

void dk_buf_clear(struct dk_buf *buf)
{
    dk_mem_free(buf->mem, buf->p);
    buf->p = NULL;
    buf->n = 0;
    buf->cap = 0;
}

void dk_buf_wipe(struct dk_buf *buf)
{
    if (buf->p != NULL) {
        OPENSSL_cleanse(buf->p, buf->cap);
    }
    dk_buf_clear(buf);
}

dk_rc dk_buf_reserve(struct dk_buf *buf, size_t more, struct dk_err *err)
{
    if (more <= buf->cap - buf->n) {
        return DK_OK;
    }
    if (more > buf->max_bytes - buf->n) {
        return DK_FAIL(err, LIMIT, "more than %zu bytes", buf->max_bytes);
    }
    size_t cap = buf->cap < 256 ? 256 : buf->cap;
    while (cap - buf->n < more) {
        cap *= 2;
    }
    if (cap > buf->max_bytes) {
        cap = buf->max_bytes;
    }
    uint8_t *p = dk_mem_alloc(buf->mem, cap);
    if (p == NULL) {
        return DK_FAIL(err, NOMEM, "no memory for a buffer of %zu bytes", cap);
    }
    if (buf->p != NULL) {
        memcpy(p, buf->p, buf->n);
        OPENSSL_cleanse(buf->p, buf->n);
        dk_mem_free(buf->mem, buf->p);
    }
    buf->p = p;
    buf->cap = cap;
    return DK_OK;
}

dk_rc dk_buf_add(struct dk_buf *buf, const void *p, size_t n, struct dk_err *err)
{
    DK_TRY(dk_buf_reserve(buf, n, err));
    if (n > 0) {
        memcpy(buf->p + buf->n, p, n);
        buf->n += n;
    }
    return DK_OK;
}

void dk_hex_encode(const uint8_t *p, size_t n, char *out)
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < n; i++) {
        *out++ = digits[p[i] >> 4];
        *out++ = digits[p[i] & 15];
    }
    *out = '\0';
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool dk_hex_decode(const char *text, size_t text_len, uint8_t *out, size_t n)
{
    if (text_len != 2 * n) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        int hi = hex_value(text[2 * i]);
        int lo = hex_value(text[2 * i + 1]);
        if (hi < 0 || lo < 0) {
            return false;
        }
        out[i] = (uint8_t)(hi << 4 | lo);
    }
    return true;
}

bool dk_utf8_valid(const uint8_t *p, size_t n)
{
    size_t i = 0;
    while (i < n) {
        uint8_t c = p[i];
        if (c < 0x80) {
            if (c == 0) {
                return false;
            }
            i++;
            continue;
        }
        size_t more = c >= 0xF0 ? 3 : c >= 0xE0 ? 2 : 1;
        uint32_t low = more == 3 ? 0x10000 : more == 2 ? 0x800 : 0x80;
        if (c < 0xC2 || c > 0xF4 || n - i <= more) {
            return false;
        }
        uint32_t code = c & (0x3Fu >> more);
        for (size_t k = 1; k <= more; k++) {
            if ((p[i + k] & 0xC0) != 0x80) {
                return false;
            }
            code = code << 6 | (p[i + k] & 0x3F);
        }
        if (code < low || code > 0x10FFFF || (code >= 0xD800 && code <= 0xDFFF)) {
            return false;
        }
        i += more + 1;
    }
    return true;
}
