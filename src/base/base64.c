/* RFC 4648, both alphabets, strict. Tables are indexed by ciphertext and wrapped keys. */
#include "base/bytes.h"

static const char std_alphabet[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
static const char url_alphabet[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/* Value of a character plus one; 0 = not of the alphabet (and so are all above 127). */
static const uint8_t std_values[256] = {
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 63,
    0, 0, 0, 64, 53, 54, 55, 56, 57, 58, 59, 60, 61, 62, 0, 0, 0, 0, 0, 0, 0, 1,
    2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23,
    24, 25, 26, 0, 0, 0, 0, 0, 0, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39,
    40, 41, 42, 43, 44, 45, 46, 47, 48, 49, 50, 51, 52, 0, 0, 0, 0, 0};
static const uint8_t url_values[256] = {
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    0, 63, 0, 0, 53, 54, 55, 56, 57, 58, 59, 60, 61, 62, 0, 0, 0, 0, 0, 0, 0, 1,
    2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23,
    24, 25, 26, 0, 0, 0, 0, 64, 0, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39,
    40, 41, 42, 43, 44, 45, 46, 47, 48, 49, 50, 51, 52, 0, 0, 0, 0, 0};

/* A bad character gives all ones: bit 7 tells. */
#define BAD 0x80u
static inline uint32_t value_of(const uint8_t values[256], uint8_t c)
{
    return (uint32_t)values[c] - 1;
}

/* Whole groups and the rest; returns the characters written. */
static size_t encode(const uint8_t *p, size_t n, char *out, const char *alphabet)
{
    char *start = out;
    for (; n >= 3; n -= 3, p += 3, out += 4) {
        uint32_t v = (uint32_t)p[0] << 16 | (uint32_t)p[1] << 8 | p[2];
        out[0] = alphabet[v >> 18];
        out[1] = alphabet[v >> 12 & 63];
        out[2] = alphabet[v >> 6 & 63];
        out[3] = alphabet[v & 63];
    }
    if (n > 0) {
        uint32_t v = (uint32_t)p[0] << 16 | (n == 2 ? (uint32_t)p[1] << 8 : 0);
        *out++ = alphabet[v >> 18];
        *out++ = alphabet[v >> 12 & 63];
        if (n == 2) {
            *out++ = alphabet[v >> 6 & 63];
        }
    }
    return (size_t)(out - start);
}

/* The strict inverse for text without padding. */
static bool decode(const char *text, size_t len, uint8_t *out, const uint8_t values[256])
{
    const uint8_t *in = (const uint8_t *)text;
    uint32_t bad = 0;
    for (; len >= 4; len -= 4, in += 4, out += 3) {
        uint32_t a = value_of(values, in[0]);
        uint32_t b = value_of(values, in[1]);
        uint32_t c = value_of(values, in[2]);
        uint32_t d = value_of(values, in[3]);
        bad |= a | b | c | d;
        uint32_t v = a << 18 | b << 12 | c << 6 | d;
        out[0] = (uint8_t)(v >> 16);
        out[1] = (uint8_t)(v >> 8);
        out[2] = (uint8_t)v;
    }
    if (len == 1) {
        return false;
    }
    if (len >= 2) {
        uint32_t a = value_of(values, in[0]);
        uint32_t b = value_of(values, in[1]);
        uint32_t c = len == 3 ? value_of(values, in[2]) : 0;
        bad |= a | b | c;
        uint32_t v = a << 18 | b << 12 | c << 6;
        out[0] = (uint8_t)(v >> 16);
        if (len == 3) {
            out[1] = (uint8_t)(v >> 8);
        }
        if ((bad & BAD) == 0 && (v & (len == 3 ? 0xFFu : 0xFFFFu)) != 0) {
            return false; /* unused trailing bits must be zero: one text for each value */
        }
    }
    return (bad & BAD) == 0;
}

void dk_base64_encode(const uint8_t *p, size_t n, char *out)
{
    size_t len = encode(p, n, out, std_alphabet);
    while (len % 4 != 0) {
        out[len++] = '=';
    }
    out[len] = '\0';
}

bool dk_base64_decode(const char *text, size_t len, uint8_t *out, size_t cap, size_t *out_len)
{
    if (len % 4 != 0) {
        return false;
    }
    size_t pad = 0;
    while (pad < 2 && len > pad && text[len - pad - 1] == '=') {
        pad++;
    }
    size_t n = len / 4 * 3 - pad;
    if (n > cap || !decode(text, len - pad, out, std_values)) {
        return false;
    }
    *out_len = n;
    return true;
}

void dk_base64url_encode(const uint8_t *p, size_t n, char *out)
{
    encode(p, n, out, url_alphabet);
}

bool dk_base64url_decoded_len(size_t len, size_t *n)
{
    if (len % 4 == 1) {
        return false;
    }
    *n = len / 4 * 3 + (len % 4 ? len % 4 - 1 : 0);
    return true;
}

bool dk_base64url_decode(const char *text, size_t len, uint8_t *out)
{
    return decode(text, len, out, url_values);
}
