#include "keys/heads.h"

#define INSTANCE_HEX 16 /* behind the host's name and a slash */

_Static_assert(DK_ACTOR_MAX <= DK_TENANT_MAX, "the name of a head holds a node too");

static bool take_word(struct dk_view *line, const char *word)
{
    size_t n = strlen(word);
    if (line->n < n || memcmp(line->p, word, n) != 0) {
        return false;
    }
    *line = dk_view_of(line->p + n, line->n - n);
    return true;
}

/* Up to the next space, which goes too: two spaces have an empty field between them. */
static struct dk_view take_field(struct dk_view *line)
{
    const uint8_t *space = line->n > 0 ? memchr(line->p, ' ', line->n) : NULL;
    size_t n = space != NULL ? (size_t)(space - line->p) : line->n;
    size_t gone = n + (space != NULL);
    struct dk_view field = dk_view_of(line->p, n);
    *line = dk_view_of(line->p + gone, line->n - gone);
    return field;
}

/* 1 and more, without leading zeros. */
static bool read_number(struct dk_view text, int64_t max, int64_t *out)
{
    int64_t v = 0;
    for (size_t i = 0; i < text.n; i++) {
        int digit = text.p[i] - '0';
        if (digit < 0 || digit > 9 || v > (max - digit) / 10) {
            return false;
        }
        v = v * 10 + digit;
    }
    *out = v;
    return text.n > 0 && text.p[0] != '0';
}

static bool read_generation(struct dk_view text, uint32_t *out)
{
    int64_t v = 0;
    bool ok = read_number(text, INT32_MAX, &v);
    *out = (uint32_t)v;
    return ok;
}

static bool is_base64(uint8_t c)
{
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '+' ||
           c == '/';
}

static bool is_hex(uint8_t c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
}

/* All of the line's rest: so many letters of that kind. */
static bool read_rest(struct dk_view rest, size_t n, bool (*is_letter)(uint8_t c), char *out)
{
    if (rest.n != n) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        if (!is_letter(rest.p[i])) {
            return false;
        }
    }
    memcpy(out, rest.p, n);
    out[n] = '\0';
    return true;
}

static bool read_mac(struct dk_view rest, char out[static DK_MAC_TEXT])
{
    return read_rest(rest, DK_MAC_TEXT - 1, is_base64, out);
}

static bool read_tenant(struct dk_view line, struct dk_head *out)
{
    struct dk_tenant tenant;
    struct dk_err ignored;
    struct dk_view name = take_field(&line), epoch = take_field(&line);
    dk_err_clear(&ignored);
    if (dk_tenant_parse(name, &tenant, &ignored) != DK_OK ||
        memcmp(tenant.s, name.p, name.n) != 0 || !read_number(epoch, INT64_MAX, &out->epoch)) {
        return false;
    }
    memcpy(out->name, tenant.s, tenant.n + (size_t)1);
    return (line.n == 1 && line.p[0] == '-') || read_mac(line, out->mac);
}

static bool read_process(struct dk_view line, struct dk_head *out)
{
    struct dk_view node = take_field(&line);
    char instance[INSTANCE_HEX + 1];
    if (node.n > DK_ACTOR_MAX || node.n < INSTANCE_HEX + 2) {
        return false;
    }
    const uint8_t *slash = node.p + node.n - INSTANCE_HEX - 1;
    if (*slash != '/' ||
        !read_rest(dk_view_of(slash + 1, INSTANCE_HEX), INSTANCE_HEX, is_hex, instance)) {
        return false;
    }
    memcpy(out->name, node.p, node.n);
    out->name[node.n] = '\0';
    return read_mac(line, out->mac);
}

static bool read_rekey(struct dk_view line, struct dk_head *out)
{
    return read_generation(take_field(&line), &out->generation) &&
           read_rest(line, DK_HASH_TEXT - 1, is_hex, out->pin);
}

static enum dk_head_of read_line(struct dk_view line, bool first, bool last, struct dk_head *out)
{
    if (take_word(&line, "tenant ")) {
        return read_tenant(line, out) ? DK_HEAD_TENANT : DK_HEAD_OTHER;
    }
    if (take_word(&line, "process ")) {
        return read_process(line, out) ? DK_HEAD_PROCESS : DK_HEAD_OTHER;
    }
    if (take_word(&line, "rekeyed ")) {
        return last && read_generation(line, &out->generation) ? DK_HEAD_REKEYED : DK_HEAD_OTHER;
    }
    return take_word(&line, "rekey ") && first && last && read_rekey(line, out) ? DK_HEAD_REKEY
                                                                                : DK_HEAD_OTHER;
}

bool dk_heads_next(struct dk_heads *heads, struct dk_head *out)
{
    const char *line = heads->at;
    if (*line == '\0') {
        return false;
    }
    const char *end = strchr(line, '\n');
    size_t n = end != NULL ? (size_t)(end - line) : strlen(line);
    heads->at = line + n + (end != NULL);
    out->name[0] = out->mac[0] = out->pin[0] = '\0';
    out->epoch = 0;
    out->generation = 0;
    out->of = DK_HEAD_OTHER;
    if (end != NULL) {
        struct dk_view view = dk_view_of((const uint8_t *)line, n);
        out->of = read_line(view, line == heads->start, *heads->at == '\0', out);
    }
    return true;
}
