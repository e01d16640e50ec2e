/*
 * bytes: borrowed views, owned buffers with a ceiling, big-endian numbers, hex and base64.
 *
 * Used by every room. A dk_buf belongs to one thread; its memory comes from the dk_mem given at
 * init. Nothing here is meant for keys: those live in dk_secret (base/secret.h).
 */
#ifndef DK_BASE_BYTES_H
#define DK_BASE_BYTES_H

#include <stdint.h>
#include <string.h>

#include "base/error.h"
#include "base/world.h"

/* A borrowed range of bytes. */
struct dk_view {
    const uint8_t *p;
    size_t n;
};

static inline struct dk_view dk_view_of(const void *p, size_t n)
{
    return (struct dk_view){p, n};
}

static inline struct dk_view dk_view_str(const char *s)
{
    return (struct dk_view){(const uint8_t *)s, strlen(s)};
}

static inline bool dk_view_equal(struct dk_view a, struct dk_view b)
{
    return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

/* An owned, growing buffer that refuses to pass its ceiling. */
struct dk_buf {
    uint8_t *p;
    size_t n;
    size_t cap;
    size_t max_bytes;
    const struct dk_mem *mem;
};

void dk_buf_init(struct dk_buf *buf, const struct dk_mem *mem, size_t max_bytes);
/* Frees the memory; the buffer can be used again. */
void dk_buf_clear(struct dk_buf *buf);
/* The same after wiping: for buffers that held plaintext. */
void dk_buf_wipe(struct dk_buf *buf);
/* Makes room for `more` bytes. E_LIMIT past the ceiling, E_NOMEM; the content is untouched. */
DK_MUST_USE dk_rc dk_buf_reserve(struct dk_buf *buf, size_t more, struct dk_err *err);
DK_MUST_USE dk_rc dk_buf_add(struct dk_buf *buf, const void *p, size_t n, struct dk_err *err);

/* Big-endian stores; each returns the byte after what it wrote. */
static inline uint8_t *dk_put_u32(uint8_t *p, uint32_t v)
{
    p[0] = (uint8_t)(v >> 24);
    p[1] = (uint8_t)(v >> 16);
    p[2] = (uint8_t)(v >> 8);
    p[3] = (uint8_t)v;
    return p + 4;
}

static inline uint8_t *dk_put_bytes(uint8_t *p, const void *from, size_t n)
{
    if (n > 0) {
        memcpy(p, from, n);
    }
    return p + n;
}

/* lp(x): u32 length, then the bytes (FORMATS.md). */
static inline uint8_t *dk_put_lp(uint8_t *p, const void *from, size_t n)
{
    return dk_put_bytes(dk_put_u32(p, (uint32_t)n), from, n);
}

static inline uint32_t dk_get_u32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* 2 * n lower-case digits and a NUL. */
void dk_hex_encode(const uint8_t *p, size_t n, char *out);
/* Exactly n bytes from 2 * n digits of either case; false otherwise. */
DK_MUST_USE bool dk_hex_decode(const char *text, size_t text_len, uint8_t *out, size_t n);

/* base64 sizes: RFC 4648 section 4 with padding, section 5 (URL alphabet) without. */
#define DK_BASE64_LEN(n) (((n) + 2) / 3 * 4)
#define DK_BASE64URL_LEN(n) (((n) / 3) * 4 + ((n) % 3 ? (n) % 3 + 1 : 0))

/* Writes DK_BASE64_LEN(n) characters and a NUL. */
void dk_base64_encode(const uint8_t *p, size_t n, char *out);
/* Strict: padding exact, trailing bits zero, no white space. `cap` bytes fit in out. */
DK_MUST_USE bool dk_base64_decode(const char *text, size_t len, uint8_t *out, size_t cap,
                                  size_t *out_len);
/* Writes DK_BASE64URL_LEN(n) characters, no NUL. */
void dk_base64url_encode(const uint8_t *p, size_t n, char *out);
/* Bytes that `len` characters stand for; false for a length that no encoding has. */
DK_MUST_USE bool dk_base64url_decoded_len(size_t len, size_t *n);
/* Strict as above, no padding; out has the decoded length. */
DK_MUST_USE bool dk_base64url_decode(const char *text, size_t len, uint8_t *out);

static inline bool dk_begins(const char *text, const char *with)
{
    return strncmp(text, with, strlen(with)) == 0;
}

/* ASCII that is seen, with no blank and nothing that controls; "" is a word. */
static inline bool dk_is_word(const char *text)
{
    for (; *text != '\0'; text++) {
        if (*text <= 0x20 || *text > 0x7E) {
            return false;
        }
    }
    return true;
}

/* Valid UTF-8 (RFC 3629: no surrogates, no overlong forms) without NUL. */
DK_MUST_USE bool dk_utf8_valid(const uint8_t *p, size_t n);

#endif
