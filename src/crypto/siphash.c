#include "crypto/siphash.h"

#include <string.h>

struct state {
    uint64_t v0, v1, v2, v3;
};

static inline uint64_t rotl(uint64_t x, int b)
{
    return x << b | x >> (64 - b);
}

static inline void sip_round(struct state *s)
{
    s->v0 += s->v1;
    s->v1 = rotl(s->v1, 13) ^ s->v0;
    s->v0 = rotl(s->v0, 32);
    s->v2 += s->v3;
    s->v3 = rotl(s->v3, 16) ^ s->v2;
    s->v0 += s->v3;
    s->v3 = rotl(s->v3, 21) ^ s->v0;
    s->v2 += s->v1;
    s->v1 = rotl(s->v1, 17) ^ s->v2;
    s->v2 = rotl(s->v2, 32);
}

/* Little-endian on every machine; written out, so that a compiler sees one load. */
static inline uint64_t load(const uint8_t *p)
{
    return (uint64_t)p[0] | (uint64_t)p[1] << 8 | (uint64_t)p[2] << 16 | (uint64_t)p[3] << 24 |
           (uint64_t)p[4] << 32 | (uint64_t)p[5] << 40 | (uint64_t)p[6] << 48 |
           (uint64_t)p[7] << 56;
}

/* The last n < 8 of `all` bytes: where there are 8, the end of one load of them. */
static inline uint64_t load_end(const uint8_t *p, size_t n, size_t all)
{
    uint64_t v = 0;
    if (all >= 8 && n > 0) {
        return load(p + n - 8) >> (64 - 8 * n);
    }
    for (size_t i = 0; i < n; i++) {
        v |= (uint64_t)p[i] << (8 * i);
    }
    return v;
}

static inline uint64_t finish(struct state *s)
{
    sip_round(s);
    sip_round(s);
    sip_round(s);
    sip_round(s);
    return s->v0 ^ s->v1 ^ s->v2 ^ s->v3;
}

struct dk_hash128 dk_siphash128(const uint8_t key[static 16], const uint8_t *p, size_t n)
{
    uint64_t k0 = load(key);
    uint64_t k1 = load(key + 8);
    /* The constants are the ASCII text "somepseudorandomlygeneratedbytes" of the paper. */
    struct state s = {k0 ^ 0x736f6d6570736575u, k1 ^ 0x646f72616e646f6du ^ 0xee,
                      k0 ^ 0x6c7967656e657261u, k1 ^ 0x7465646279746573u};
    size_t left = n;
    for (; left >= 8; left -= 8, p += 8) {
        uint64_t m = load(p);
        s.v3 ^= m;
        sip_round(&s);
        sip_round(&s);
        s.v0 ^= m;
    }
    uint64_t last = load_end(p, left, n) | (uint64_t)(n & 0xFF) << 56;
    s.v3 ^= last;
    sip_round(&s);
    sip_round(&s);
    s.v0 ^= last;
    struct dk_hash128 out;
    s.v2 ^= 0xee;
    out.lo = finish(&s);
    s.v1 ^= 0xdd;
    out.hi = finish(&s);
    return out;
}
