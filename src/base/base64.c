/* RFC 4648, both alphabets, strict. Tables are indexed by ciphertext and wrapped keys. */
#include "base/bytes.h"

static const char std_alphabet[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
static const char url_alphabet[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/* Value of a character plus one; 0 = not of the alphabet (and so are all above 127). */
static const uint8_t std_values[256] = {
    0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,
    0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  63,
    0,  0,  0,  64, 53, 54, 55, 56, 57, 58, 59, 60, 61, 62, 0,  0,  0,  0,  0,  0,  0,  1,
    2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23,
    24, 25, 26, 0,  0,  0,  0,  0,  0,  27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39,
    40, 41, 42, 43, 44, 45, 46, 47, 48, 49, 50, 51, 52, 0,  0,  0,  0,  0};
static const uint8_t url_values[256] = {
    0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,
    0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,
    0,  63, 0,  0,  53, 54, 55, 56, 57, 58, 59, 60, 61, 62, 0,  0,  0,  0,  0,  0,  0,  1,
    2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23,
    24, 25, 26, 0,  0,  0,  0,  64, 0,  27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39,
    40, 41, 42, 43, 44, 45, 46, 47, 48, 49, 50, 51, 52, 0,  0,  0,  0,  0};

/* A bad character gives all ones: bit 7 tells. */
#define BAD 0x80u
static inline uint32_t value_of(const uint8_t values[256], uint8_t c)
{
    return (uint32_t)values[c] - 1;
}

/* ---- sixteen characters at a time ------------------------------------------------------------ */

/* Vectors of gcc and clang: SSE2 on every x86-64, NEON on arm64. Comparisons give 0 or -1. */
typedef int8_t v16 __attribute__((vector_size(16)));
typedef uint8_t v16u __attribute__((vector_size(16)));
typedef uint16_t v8u16 __attribute__((vector_size(16)));
typedef uint32_t v4u32 __attribute__((vector_size(16)));
typedef uint64_t v2u64 __attribute__((vector_size(16)));

struct alphabet {
    const char *letters;
    const uint8_t *values;
};
static const struct alphabet std64 = {std_alphabet, std_values};
static const struct alphabet url64 = {url_alphabet, url_values};

static inline v16 all(int c)
{
    int8_t b = (int8_t)c;
    return (v16){b, b, b, b, b, b, b, b, b, b, b, b, b, b, b, b};
}

/* Sums of bytes that are masked away later may wrap: without signs. */
static inline v16 sum(v16 a, v16 b)
{
    return (v16)((v16u)a + (v16u)b);
}

/* 6 bytes to eight values of 6 bits, the first in the lowest byte. Reads 8 bytes. */
static inline uint64_t spread(const uint8_t *p)
{
    uint64_t x;
    memcpy(&x, p, sizeof x);
    x = __builtin_bswap64(x) >> 16;
    x = x >> 24 | (x & 0xFFFFFF) << 32;
    x = (x >> 12 & 0x00000FFF00000FFF) | (x & 0x00000FFF00000FFF) << 16;
    return (x >> 6 & 0x003F003F003F003F) | (x & 0x003F003F003F003F) << 8;
}

/* The inverse, of two at once: each 48 bits, the first byte highest. */
static inline v2u64 gather(v16 values)
{
    v8u16 pair = (v8u16)values;
    pair = (pair << 6 & 0x0FC0) | pair >> 8;
    v4u32 four = (v4u32)pair;
    four = (four << 12 & 0xFFF000) | four >> 16;
    v2u64 eight = (v2u64)four;
    return (eight & 0xFFFFFF) << 24 | eight >> 32;
}

/* 12 bytes (14 are read) to 16 characters. */
static inline void encode_block(const uint8_t *p, char *out, const struct alphabet *alphabet)
{
    v2u64 two = {spread(p), spread(p + 6)};
    v16 v = (v16)two;
    v16 c = sum(v, all('A'));
    c = sum(c, (v > all(25)) & all('a' - 26 - 'A'));
    c = sum(c, (v > all(51)) & all('0' - 52 - ('a' - 26)));
    c = sum(c, (v > all(61)) & all(alphabet->letters[62] - 62 - ('0' - 52)));
    c = sum(c, (v > all(62)) & all(alphabet->letters[63] - 63 - (alphabet->letters[62] - 62)));
    memcpy(out, &c, sizeof c);
}

static inline v16 between(v16 c, int from, int to)
{
    return (c > all(from - 1)) & (c < all(to + 1));
}

/* 16 characters to 12 bytes; what is not of the alphabet shows in *good. */
static inline void decode_block(const uint8_t *in, uint8_t *out, const struct alphabet *alphabet,
                                v16 *good)
{
    v16 c;
    memcpy(&c, in, sizeof c);
    v16 upper = between(c, 'A', 'Z');
    v16 lower = between(c, 'a', 'z');
    v16 digit = between(c, '0', '9');
    v16 plus = c == all(alphabet->letters[62]);
    v16 slash = c == all(alphabet->letters[63]);
    *good &= upper | lower | digit | plus | slash;
    v16 distance = (upper & all('A')) | (lower & all('a' - 26)) | (digit & all('0' - 52)) |
                   (plus & all(alphabet->letters[62] - 62)) |
                   (slash & all(alphabet->letters[63] - 63));
    v2u64 two = gather((v16)((v16u)c - (v16u)distance));
    uint64_t first = __builtin_bswap64(two[0] << 16 | two[1] >> 32);
    uint32_t last = __builtin_bswap32((uint32_t)two[1]);
    memcpy(out, &first, sizeof first);
    memcpy(out + 8, &last, sizeof last);
}

static inline bool is_all(v16 v)
{
    v2u64 two = (v2u64)v;
    return (two[0] & two[1]) == UINT64_MAX;
}

/* ---- the rest, in groups of three bytes ------------------------------------------------------ */

/*
 * Returns the characters written. `out` may lie before `p` in the same buffer, as far as there are
 * groups of three bytes to go (crypto/field seals in place): all reads of a block come first.
 */
/* Inlined into each caller: the alphabet becomes constants. */
__attribute__((always_inline)) static inline size_t encode(const uint8_t *p, size_t n, char *out,
                                                           const struct alphabet *alphabet)
{
    const char *letters = alphabet->letters;
    char *start = out;
    for (; n >= 14; n -= 12, p += 12, out += 16) {
        encode_block(p, out, alphabet);
    }
    for (; n >= 3; n -= 3, p += 3, out += 4) {
        uint32_t v = (uint32_t)p[0] << 16 | (uint32_t)p[1] << 8 | p[2];
        out[0] = letters[v >> 18];
        out[1] = letters[v >> 12 & 63];
        out[2] = letters[v >> 6 & 63];
        out[3] = letters[v & 63];
    }
    if (n > 0) {
        uint32_t v = (uint32_t)p[0] << 16 | (n == 2 ? (uint32_t)p[1] << 8 : 0);
        *out++ = letters[v >> 18];
        *out++ = letters[v >> 12 & 63];
        if (n == 2) {
            *out++ = letters[v >> 6 & 63];
        }
    }
    return (size_t)(out - start);
}

/* The strict inverse for text without padding. */
__attribute__((always_inline)) static inline bool decode(const char *text, size_t len, uint8_t *out,
                                                         const struct alphabet *alphabet)
{
    const uint8_t *values = alphabet->values;
    const uint8_t *in = (const uint8_t *)text;
    v16 good = all(-1);
    uint32_t bad = 0;
    for (; len >= 16; len -= 16, in += 16, out += 12) {
        decode_block(in, out, alphabet, &good);
    }
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
    if (len == 1 || !is_all(good)) {
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
    size_t len = encode(p, n, out, &std64);
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
    if (n > cap || !decode(text, len - pad, out, &std64)) {
        return false;
    }
    *out_len = n;
    return true;
}

void dk_base64url_encode(const uint8_t *p, size_t n, char *out)
{
    encode(p, n, out, &url64);
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
    return decode(text, len, out, &url64);
}
