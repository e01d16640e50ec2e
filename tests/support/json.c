/* The reader behind dk_test_json_valid(): grammar only, recursive descent. */
#include "support/expect.h"

struct reader {
    const uint8_t *p;
    const uint8_t *end;
    unsigned depth;
};

static bool read_value(struct reader *r);

static void skip_blanks(struct reader *r)
{
    while (r->p < r->end && strchr(" \t\r\n", *r->p) != NULL && *r->p != 0) {
        r->p++;
    }
}

static bool take(struct reader *r, uint8_t c)
{
    skip_blanks(r);
    if (r->p == r->end || *r->p != c) {
        return false;
    }
    r->p++;
    return true;
}

static bool read_escape(struct reader *r)
{
    if (r->p == r->end) {
        return false;
    }
    uint8_t c = *r->p++;
    if (c != 'u') {
        return c != 0 && strchr("\"\\/bfnrt", c) != NULL;
    }
    uint8_t two[2];
    if (r->end - r->p < 4 || !dk_hex_decode((const char *)r->p, 4, two, 2)) {
        return false;
    }
    r->p += 4;
    return two[0] < 0xD8 || two[0] > 0xDF; /* nothing of ours writes a surrogate */
}

static bool read_string(struct reader *r)
{
    if (!take(r, '"')) {
        return false;
    }
    while (r->p < r->end && *r->p != '"') {
        uint8_t c = *r->p++;
        if (c < 0x20 || (c == '\\' && !read_escape(r))) {
            return false;
        }
    }
    return take(r, '"');
}

static size_t read_digits(struct reader *r)
{
    size_t n = 0;
    for (; r->p < r->end && *r->p >= '0' && *r->p <= '9'; n++) {
        r->p++;
    }
    return n;
}

static bool read_number(struct reader *r)
{
    r->p += *r->p == '-';
    bool zero = r->p < r->end && *r->p == '0';
    size_t whole = read_digits(r);
    if (whole == 0 || (zero && whole > 1)) {
        return false;
    }
    if (r->p < r->end && *r->p == '.') {
        r->p++;
        return read_digits(r) > 0; /* no exponents in what we write */
    }
    return true;
}

static bool read_word(struct reader *r, const char *word)
{
    size_t n = strlen(word);
    if ((size_t)(r->end - r->p) < n || memcmp(r->p, word, n) != 0) {
        return false;
    }
    r->p += n;
    return true;
}

static bool read_members(struct reader *r, bool named, uint8_t close)
{
    if (r->depth++ > 64) {
        return false;
    }
    bool ok = take(r, close);
    while (!ok) {
        if ((named && (!read_string(r) || !take(r, ':'))) || !read_value(r)) {
            return false;
        }
        ok = take(r, close);
        if (!ok && !take(r, ',')) {
            return false;
        }
    }
    r->depth--;
    return true;
}

static bool read_value(struct reader *r)
{
    skip_blanks(r);
    if (r->p == r->end) {
        return false;
    }
    switch (*r->p) {
    case '{':
        r->p++;
        return read_members(r, true, '}');
    case '[':
        r->p++;
        return read_members(r, false, ']');
    case '"':
        return read_string(r);
    case 't':
        return read_word(r, "true");
    case 'f':
        return read_word(r, "false");
    case 'n':
        return read_word(r, "null");
    default:
        return read_number(r);
    }
}

bool dk_test_json_valid(const char *p, size_t n)
{
    struct reader r = {(const uint8_t *)p, (const uint8_t *)p + n, 0};
    if (!dk_utf8_valid(r.p, n) || !read_value(&r)) {
        return false;
    }
    skip_blanks(&r);
    return r.p == r.end;
}
