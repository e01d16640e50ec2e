#include "cli/jsonl_row.h"

struct scan {
    const uint8_t *p;
    const uint8_t *end;
    struct jsonl_name *names; /* of the objects that are open */
    size_t name_count;
    unsigned depth;
    enum jsonl_fault fault;
};

/* Where the caller wants cells from; NULL below the outermost object. */
struct wish {
    const struct jsonl_name *wanted;
    size_t count;
    struct cell *cells;
};

static bool scan_value(struct scan *s, struct cell *out);

static bool fault(struct scan *s, enum jsonl_fault what)
{
    s->fault = what;
    return false;
}

static void skip_blanks(struct scan *s)
{
    while (s->p < s->end && (*s->p == ' ' || *s->p == '\t' || *s->p == '\r' || *s->p == '\n')) {
        s->p++;
    }
}

/* The byte that comes next after white space; 0 at the end. */
static uint8_t peek(struct scan *s)
{
    skip_blanks(s);
    return s->p < s->end ? *s->p : 0;
}

/* ---- strings --------------------------------------------------------------------------------- */

static bool hex4(const uint8_t *p, const uint8_t *end, uint32_t *out)
{
    uint8_t two[2];
    if (end - p < 4 || !dk_hex_decode((const char *)p, 4, two, 2)) {
        return false;
    }
    *out = (uint32_t)two[0] << 8 | two[1];
    return true;
}

/* The bytes of the escape that begins at `\`, and its character; 0: it is none. */
static size_t read_escape(const uint8_t *p, const uint8_t *end, uint32_t *code,
                          enum jsonl_fault *why)
{
    static const char letters[] = "\"\\/bfnrt", meant[] = "\"\\/\b\f\n\r\t";
    const char *letter = end - p > 1 && p[1] != 0 ? strchr(letters, p[1]) : NULL;
    *why = JSONL_ESCAPE;
    if (letter != NULL) {
        *code = (uint8_t)meant[letter - letters];
        return 2;
    }
    if (end - p < 6 || p[1] != 'u' || !hex4(p + 2, end, code)) {
        return 0;
    }
    if (*code < 0xD800 || *code > 0xDFFF) {
        return 6;
    }
    uint32_t low;
    *why = JSONL_SURROGATE;
    if (*code > 0xDBFF || end - p < 12 || p[6] != '\\' || p[7] != 'u' || !hex4(p + 8, end, &low) ||
        low < 0xDC00 || low > 0xDFFF) {
        return 0;
    }
    *code = 0x10000 + ((*code - 0xD800) << 10) + (low - 0xDC00);
    return 12;
}

/* From its opening quote to after the closing one. */
static bool scan_string(struct scan *s, struct cell *out)
{
    const uint8_t *from = ++s->p;
    bool escaped = false;
    uint8_t all = 0;
    while (s->p < s->end && *s->p != '"') {
        uint32_t code;
        enum jsonl_fault why;
        if (*s->p < 0x20) {
            return fault(s, JSONL_CONTROL);
        }
        if (*s->p != '\\') {
            all |= *s->p++;
            continue;
        }
        size_t n = read_escape(s->p, s->end, &code, &why);
        if (n == 0) {
            return fault(s, why);
        }
        escaped = true;
        s->p += n;
    }
    *out = (struct cell){from, (size_t)(s->p - from), CELL_QUOTED, escaped};
    if (s->p == s->end) {
        return fault(s, JSONL_OPEN_STRING);
    }
    if (all >= 0x80 && !dk_utf8_valid(from, out->n)) {
        s->p = from;
        return fault(s, JSONL_UTF8);
    }
    s->p++;
    return true;
}

static uint8_t *put_utf8(uint8_t *out, uint32_t code)
{
    if (code < 0x80) {
        *out++ = (uint8_t)code;
        return out;
    }
    unsigned more = code >= 0x10000 ? 3 : code >= 0x800 ? 2 : 1;
    static const uint8_t lead[] = {0, 0xC0, 0xE0, 0xF0};
    *out++ = (uint8_t)(lead[more] | code >> (6 * more));
    while (more-- > 0) {
        *out++ = (uint8_t)(0x80 | (code >> (6 * more) & 0x3F));
    }
    return out;
}

size_t jsonl_unescape(const struct cell *cell, uint8_t *out)
{
    const uint8_t *p = cell->p, *end = cell->p + cell->n;
    uint8_t *to = out;
    while (p < end) {
        const uint8_t *slash = cell->escaped ? memchr(p, '\\', (size_t)(end - p)) : NULL;
        size_t plain = (size_t)((slash != NULL ? slash : end) - p);
        uint32_t code = 0;
        enum jsonl_fault why;
        to = dk_put_bytes(to, p, plain);
        p += plain;
        if (slash != NULL) {
            p += read_escape(p, end, &code, &why); /* scan_string saw that it is one */
            to = put_utf8(to, code);
        }
    }
    return (size_t)(to - out);
}

uint8_t *jsonl_put_escaped(uint8_t *out, const uint8_t *p, size_t n)
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < n; i++) {
        uint8_t c = p[i];
        if (c >= 0x20 && c != '"' && c != '\\') {
            *out++ = c;
            continue;
        }
        *out++ = '\\';
        if (c == '"' || c == '\\') {
            *out++ = c;
        } else if (c >= '\b' && c <= '\r' && c != '\v') {
            *out++ = (uint8_t) "btn?fr"[c - '\b'];
        } else {
            out = dk_put_bytes(out, "u00", 3);
            *out++ = (uint8_t)digits[c >> 4];
            *out++ = (uint8_t)digits[c & 15];
        }
    }
    return out;
}

/* ---- names ----------------------------------------------------------------------------------- */

/* The next byte of a name's value. `held`: bytes of an escape's character that are still to come.
 */
struct name_reader {
    const uint8_t *p;
    const uint8_t *end;
    bool escaped;
    uint8_t held[4];
    unsigned next, count;
};

static struct name_reader read_name(const struct jsonl_name *name)
{
    return (struct name_reader){.p = name->p, .end = name->p + name->n, .escaped = name->escaped};
}

/* -1 at the end. */
static int next_byte(struct name_reader *r)
{
    if (r->next < r->count) {
        return r->held[r->next++];
    }
    if (r->p == r->end) {
        return -1;
    }
    if (!r->escaped || *r->p != '\\') {
        return *r->p++;
    }
    uint32_t code = 0;
    enum jsonl_fault why;
    r->p += read_escape(r->p, r->end, &code, &why);
    r->count = (unsigned)(put_utf8(r->held, code) - r->held);
    r->next = 1;
    return r->held[0];
}

static bool same_name(const struct jsonl_name *a, const struct jsonl_name *b)
{
    if (!a->escaped && !b->escaped) {
        return a->n == b->n && memcmp(a->p, b->p, a->n) == 0;
    }
    struct name_reader x = read_name(a), y = read_name(b);
    int c;
    do {
        c = next_byte(&x);
        if (c != next_byte(&y)) {
            return false;
        }
    } while (c >= 0);
    return true;
}

/* FNV-1a: it only spares comparisons. */
static uint32_t hash_of(const struct jsonl_name *name)
{
    struct name_reader r = read_name(name);
    uint32_t h = 2166136261u;
    for (int c; (c = next_byte(&r)) >= 0;) {
        h = (h ^ (uint32_t)c) * 16777619u;
    }
    return h;
}

/* Keeps a name of the object whose first is number `base`. */
static bool add_name(struct scan *s, size_t base, const struct cell *text)
{
    struct jsonl_name name = {text->p, text->n, 0, text->escaped};
    name.hash = hash_of(&name);
    for (size_t i = base; i < s->name_count; i++) {
        if (s->names[i].hash == name.hash && same_name(&s->names[i], &name)) {
            return fault(s, JSONL_TWICE);
        }
    }
    if (s->name_count == JSONL_NAMES_MAX) {
        return fault(s, JSONL_MANY);
    }
    s->names[s->name_count++] = name;
    return true;
}

static void take_wish(const struct wish *wish, const struct jsonl_name *name,
                      const struct cell *value)
{
    for (size_t i = 0; i < wish->count; i++) {
        if (same_name(&wish->wanted[i], name)) {
            wish->cells[i] = *value;
            return;
        }
    }
}

/* ---- values ---------------------------------------------------------------------------------- */

static size_t skip_digits(struct scan *s)
{
    const uint8_t *from = s->p;
    while (s->p < s->end && *s->p >= '0' && *s->p <= '9') {
        s->p++;
    }
    return (size_t)(s->p - from);
}

static bool scan_number(struct scan *s, struct cell *out)
{
    const uint8_t *from = s->p;
    s->p += *s->p == '-';
    bool zero = s->p < s->end && *s->p == '0';
    size_t whole = skip_digits(s);
    bool good = whole > 0 && !(zero && whole > 1);
    if (good && s->p < s->end && *s->p == '.') {
        s->p++;
        good = skip_digits(s) > 0;
    }
    if (good && s->p < s->end && (*s->p == 'e' || *s->p == 'E')) {
        s->p++;
        s->p += s->p < s->end && (*s->p == '+' || *s->p == '-');
        good = skip_digits(s) > 0;
    }
    *out = (struct cell){from, (size_t)(s->p - from), CELL_BARE, false};
    return good || fault(s, JSONL_NUMBER);
}

static bool scan_word(struct scan *s, struct cell *out)
{
    static const struct {
        const char *text;
        enum cell_kind kind;
    } words[] = {{"null", CELL_NULL}, {"true", CELL_OTHER}, {"false", CELL_OTHER}};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        size_t n = strlen(words[i].text);
        if ((size_t)(s->end - s->p) >= n && memcmp(s->p, words[i].text, n) == 0) {
            *out = (struct cell){s->p, n, words[i].kind, false};
            s->p += n;
            return true;
        }
    }
    return fault(s, JSONL_NO_VALUE);
}

static bool scan_member(struct scan *s, size_t base, const struct wish *wish)
{
    struct cell text, value;
    if (peek(s) != '"') {
        return fault(s, JSONL_NO_NAME);
    }
    if (!scan_string(s, &text) || !add_name(s, base, &text)) {
        return false;
    }
    if (peek(s) != ':') {
        return fault(s, JSONL_NO_COLON);
    }
    s->p++;
    size_t mine = s->name_count - 1;
    if (!scan_value(s, &value)) {
        return false;
    }
    if (wish != NULL) {
        take_wish(wish, &s->names[mine], &value);
    }
    return true;
}

/* An object or an array, from its opening bracket to after the closing one. */
static bool scan_members(struct scan *s, const struct wish *wish)
{
    bool named = *s->p == '{';
    uint8_t close = named ? '}' : ']';
    size_t base = s->name_count;
    struct cell value;
    if (++s->depth > JSONL_DEPTH_MAX) {
        return fault(s, JSONL_DEEP);
    }
    s->p++;
    bool more = peek(s) != close;
    while (more) {
        if (!(named ? scan_member(s, base, wish) : scan_value(s, &value))) {
            return false;
        }
        more = peek(s) == ',';
        if (!more && peek(s) != close) {
            return fault(s, JSONL_NO_COMMA);
        }
        s->p += more;
    }
    s->p++;
    s->name_count = base;
    s->depth--;
    return true;
}

static bool scan_value(struct scan *s, struct cell *out)
{
    uint8_t c = peek(s);
    const uint8_t *from = s->p;
    if (c == '"') {
        return scan_string(s, out);
    }
    if (c == '-' || (c >= '0' && c <= '9')) {
        return scan_number(s, out);
    }
    if (c != '{' && c != '[') {
        return scan_word(s, out);
    }
    bool good = scan_members(s, NULL);
    *out = (struct cell){from, (size_t)(s->p - from), CELL_OTHER, false};
    return good;
}

static void scan_line(struct scan *s, const struct wish *wish)
{
    skip_blanks(s);
    if (s->p == s->end) {
        s->fault = JSONL_BLANK;
    } else if (*s->p != '{') {
        s->fault = JSONL_NOT_OBJECT;
    } else if (scan_members(s, wish)) {
        skip_blanks(s);
        s->fault = s->p == s->end ? JSONL_GOOD : JSONL_MORE;
    }
}

enum jsonl_fault jsonl_row_read(const uint8_t *p, size_t n, const struct jsonl_name *wanted,
                                size_t count, struct cell *cells, struct jsonl_name *names,
                                size_t *at)
{
    struct scan s = {.p = p, .end = p + n, .names = names};
    struct wish wish = {wanted, count, cells};
    for (size_t i = 0; i < count; i++) {
        cells[i] = (struct cell){.kind = CELL_MISSING};
    }
    scan_line(&s, &wish);
    *at = (size_t)(s.p - p);
    return s.fault;
}

const char *jsonl_fault_text(enum jsonl_fault what)
{
    static const char *const texts[] = {
        "",
        "",
        "the line is no JSON object",
        "a value is wanted: a string, a number, true, false, null, an object or an array",
        "a name in double quotes is wanted",
        "a colon is wanted after a name",
        "a comma or a closing bracket is wanted",
        "text after the object",
        "not a number as JSON writes them",
        "a string is never closed",
        "a control character inside a string has to be escaped",
        "an escape that JSON does not have",
        "half of a surrogate pair",
        "a string is not UTF-8",
        "nested deeper than 16 levels",
        "a name stands twice in one object",
        "more than 4096 names",
    };
    return texts[what];
}
