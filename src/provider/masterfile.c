#include "provider/masterfile.h"

#include <openssl/sha.h>
#include <stdio.h>

#define HEAD "dekhand-master-key 1\n"
#define SUM_WORD "sha256 "

struct reader {
    const char *p;
    const char *end;
    unsigned line;
};

/* The next line without its LF; false at the end or when no LF follows. */
static bool next_line(struct reader *r, struct dk_view *line)
{
    const char *lf = r->p < r->end ? memchr(r->p, '\n', (size_t)(r->end - r->p)) : NULL;
    if (lf == NULL) {
        return false;
    }
    *line = dk_view_of(r->p, (size_t)(lf - r->p));
    r->p = lf + 1;
    r->line++;
    return true;
}

static bool parse_number(struct dk_view text, uint32_t *out)
{
    uint64_t v = 0;
    for (size_t i = 0; i < text.n; i++) {
        if (text.p[i] < '0' || text.p[i] > '9' || i >= 10) {
            return false;
        }
        v = v * 10 + (text.p[i] - '0');
    }
    *out = (uint32_t)v;
    return text.n > 0 && text.p[0] != '0' && v <= UINT32_MAX;
}

/* "<number> <created> <base64 of 32 bytes>" */
static bool parse_key(struct dk_view line, struct dk_master_key *key)
{
    const char *p = (const char *)line.p;
    const char *space = memchr(p, ' ', line.n);
    size_t number_len = space != NULL ? (size_t)(space - p) : 0;
    size_t rest = line.n - number_len;
    size_t size = 0;
    int64_t created;
    if (space == NULL || rest != 1 + (DK_TIME_TEXT - 1) + 1 + DK_BASE64_LEN(DK_DATA_KEY) ||
        space[DK_TIME_TEXT] != ' ' || !parse_number(dk_view_of(p, number_len), &key->number) ||
        !dk_time_parse(space + 1, DK_TIME_TEXT - 1, &created)) {
        return false;
    }
    memcpy(key->created, space + 1, DK_TIME_TEXT - 1);
    key->created[DK_TIME_TEXT - 1] = '\0';
    return dk_base64_decode(space + 1 + DK_TIME_TEXT, DK_BASE64_LEN(DK_DATA_KEY),
                            dk_secret_expose_for_crypto(&key->key), DK_SECRET_CELL, &size) &&
           size == DK_DATA_KEY;
}

static bool sum_is_right(const char *from, struct dk_view line)
{
    size_t word = sizeof SUM_WORD - 1;
    uint8_t sum[SHA256_DIGEST_LENGTH];
    char hex[2 * sizeof sum + 1];
    SHA256((const uint8_t *)from, (size_t)((const char *)line.p - from), sum);
    dk_hex_encode(sum, sizeof sum, hex);
    return line.n == word + 2 * sizeof sum && memcmp(line.p, SUM_WORD, word) == 0 &&
           memcmp(line.p + word, hex, 2 * sizeof sum) == 0;
}

static dk_rc add_key(struct dk_arena *arena, struct reader *r, struct dk_view line,
                     struct dk_master_keys *out, struct dk_err *err)
{
    if (out->count == DK_MASTER_KEYS_MAX) {
        return DK_FAIL(err, FORMAT, "more than %d master keys", DK_MASTER_KEYS_MAX);
    }
    struct dk_master_key *key = &out->key[out->count];
    DK_TRY(dk_secret_new(arena, DK_DATA_KEY, &key->key, err));
    out->count++;
    if (!parse_key(line, key)) {
        return DK_FAIL(err, FORMAT, "line %u is not a master key", r->line);
    }
    if (dk_secret_is_zero(&key->key)) {
        return DK_FAIL(err, FORMAT, "line %u: a master key of zeros", r->line);
    }
    if (out->count > 1 && out->key[out->count - 2].number >= key->number) {
        return DK_FAIL(err, FORMAT, "line %u: the numbers do not ascend", r->line);
    }
    return DK_OK;
}

static dk_rc parse_lines(struct dk_arena *arena, struct dk_view text, struct dk_master_keys *out,
                         struct dk_err *err)
{
    const char *start = (const char *)text.p;
    struct reader r = {start, start + text.n, 0};
    struct dk_view line;
    if (!next_line(&r, &line) || line.n != sizeof HEAD - 2 || memcmp(line.p, HEAD, line.n) != 0) {
        return DK_FAIL(err, FORMAT, "line 1 is not `dekhand-master-key 1`");
    }
    for (;;) {
        if (!next_line(&r, &line)) {
            return DK_FAIL(err, FORMAT, "the file is cut short: no sha256 line");
        }
        if (line.n >= 7 && memcmp(line.p, SUM_WORD, 7) == 0) {
            break;
        }
        DK_TRY(add_key(arena, &r, line, out, err));
    }
    if (!sum_is_right(start, line)) {
        return DK_FAIL(err, FORMAT, "the checksum of line %u is not that of the file", r.line);
    }
    if (r.p != r.end || out->count == 0) {
        return DK_FAIL(err, FORMAT,
                       out->count == 0 ? "no master key in it" : "bytes follow the sha256 line");
    }
    return DK_OK;
}

dk_rc dk_masterfile_parse(struct dk_arena *arena, struct dk_view text, struct dk_master_keys *out,
                          struct dk_err *err)
{
    out->count = 0;
    dk_rc rc = parse_lines(arena, text, out, err);
    if (rc != DK_OK) {
        dk_master_keys_clear(arena, out);
    }
    return rc;
}

void dk_master_keys_clear(struct dk_arena *arena, struct dk_master_keys *keys)
{
    for (size_t i = 0; i < keys->count; i++) {
        dk_secret_free(arena, &keys->key[i].key);
    }
    keys->count = 0;
}

dk_rc dk_masterfile_write(uint32_t number, const char *created, const uint8_t *key, uint8_t *out,
                          size_t *out_len, struct dk_err *err)
{
    char *text = (char *)out;
    int n = snprintf(text, 128, HEAD "%u %s ", number, created);
    if (n < 0 || n >= 128) {
        return DK_FAIL(err, INTERNAL, "a master key line of %d bytes", n);
    }
    dk_base64_encode(key, DK_DATA_KEY, text + n);
    n += (int)DK_BASE64_LEN(DK_DATA_KEY);
    text[n++] = '\n';
    uint8_t sum[SHA256_DIGEST_LENGTH];
    SHA256(out, (size_t)n, sum);
    memcpy(text + n, SUM_WORD, sizeof SUM_WORD - 1);
    n += (int)sizeof SUM_WORD - 1;
    dk_hex_encode(sum, sizeof sum, text + n);
    n += 64;
    text[n++] = '\n';
    *out_len = (size_t)n;
    return DK_OK;
}
