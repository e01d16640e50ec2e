#include "cli/csv_row.h"

struct scan {
    const uint8_t *p;
    size_t n;
    size_t i;
    struct cell *cells;
    size_t cap;
    struct csv_row *row;
};

static void fault(struct scan *s, enum csv_fault what)
{
    if (s->row->fault == CSV_GOOD) {
        s->row->fault = what;
        s->row->fault_cell = s->row->count;
    }
}

static void add_cell(struct scan *s, struct cell cell)
{
    if (s->row->count < s->cap) {
        s->cells[s->row->count] = cell;
    } else {
        fault(s, CSV_TOO_MANY);
    }
    s->row->count++;
}

/* From after the opening quote to after the closing one. False: it does not come. */
static bool scan_quoted(struct scan *s, struct cell *cell)
{
    size_t from = ++s->i;
    for (;;) {
        const uint8_t *quote = s->i < s->n ? memchr(s->p + s->i, '"', s->n - s->i) : NULL;
        if (quote == NULL) {
            s->i = s->n;
            *cell = (struct cell){s->p + from, s->n - from, CELL_QUOTED, cell->escaped};
            return false;
        }
        s->i = (size_t)(quote - s->p) + 1;
        if (s->i < s->n && s->p[s->i] == '"') {
            cell->escaped = true;
            s->i++;
            continue;
        }
        *cell = (struct cell){s->p + from, s->i - 1 - from, CELL_QUOTED, cell->escaped};
        return true;
    }
}

/* To the comma, the line end or the end; true when a quote is among it. */
static bool scan_plain(struct scan *s)
{
    bool quote = false;
    while (s->i < s->n && s->p[s->i] != ',' && s->p[s->i] != '\n') {
        quote = quote || s->p[s->i] == '"';
        s->i++;
    }
    return quote;
}

static void scan_cell(struct scan *s)
{
    struct cell cell = {0};
    size_t from = s->i;
    if (s->i < s->n && s->p[s->i] == '"') {
        if (!scan_quoted(s, &cell)) {
            fault(s, CSV_OPEN_QUOTE);
        }
        size_t rest = s->i;
        (void)scan_plain(s);
        bool only_cr = s->i == rest + 1 && s->p[rest] == '\r' && s->i < s->n && s->p[s->i] == '\n';
        if (s->i > rest && !only_cr) {
            fault(s, CSV_AFTER_QUOTE);
        }
    } else {
        if (scan_plain(s)) {
            fault(s, CSV_QUOTE_INSIDE);
        }
        size_t end = s->i;
        if (end > from && s->i < s->n && s->p[s->i] == '\n' && s->p[end - 1] == '\r') {
            end--; /* CR LF ends the row: the CR is not the cell's */
        }
        cell = (struct cell){s->p + from, end - from, end > from ? CELL_BARE : CELL_NULL, false};
    }
    add_cell(s, cell);
}

static void count_lines(struct csv_row *row, const uint8_t *p)
{
    const uint8_t *end = p + row->size;
    while (p < end && (p = memchr(p, '\n', (size_t)(end - p))) != NULL) {
        row->lines++;
        p++;
    }
}

bool csv_row_find(const uint8_t *p, size_t n, bool last, struct cell *cells, size_t cap,
                  struct csv_row *out)
{
    struct scan s = {p, n, 0, cells, cap, out};
    *out = (struct csv_row){.fault = CSV_GOOD};
    if (n == 0) {
        return last;
    }
    for (;;) {
        scan_cell(&s);
        if (s.i == n) {
            if (!last) {
                return false;
            }
            out->size = n;
            break;
        }
        if (p[s.i] == '\n') {
            out->size = s.i + 1;
            break;
        }
        s.i++; /* the comma; an empty cell may follow at the very end */
        if (s.i == n && !last) {
            return false;
        }
    }
    count_lines(out, p);
    return true;
}

bool csv_row_end(const uint8_t *p, size_t n, bool last, size_t *size, size_t *lines)
{
    const uint8_t *feed = n > 0 ? memchr(p, '\n', n) : NULL;
    if (feed != NULL && memchr(p, '"', (size_t)(feed - p)) == NULL) {
        *size = (size_t)(feed - p) + 1;
        *lines = 1;
        return true;
    }
    struct csv_row row;
    if (!csv_row_find(p, n, last, NULL, 0, &row)) {
        return false;
    }
    *size = row.size;
    *lines = row.lines;
    return true;
}

size_t csv_row_skip(struct csv_skip *skip, const uint8_t *p, size_t n, size_t *lines, bool *ended)
{
    for (size_t i = 0; i < n; i++) {
        uint8_t c = p[i];
        *lines += c == '\n';
        if (skip->in_quotes) {
            skip->in_quotes = c != '"';
            skip->after_quote = c == '"';
        } else if (c == '\n') {
            *ended = true;
            return i + 1;
        } else if (c == '"' && (skip->at_start || skip->after_quote)) {
            skip->in_quotes = true; /* a cell begins, or "" goes on */
            skip->after_quote = false;
        } else {
            skip->after_quote = false;
        }
        skip->at_start = !skip->in_quotes && c == ',';
    }
    return n;
}

size_t csv_cell_unquote(const struct cell *cell, uint8_t *out)
{
    size_t n = 0;
    for (size_t i = 0; i < cell->n; i++) {
        out[n++] = cell->p[i];
        i += cell->escaped && cell->p[i] == '"';
    }
    return n;
}

uint8_t *csv_put_doubled(uint8_t *out, const uint8_t *p, size_t n)
{
    while (n > 0) {
        const uint8_t *quote = memchr(p, '"', n);
        size_t part = quote != NULL ? (size_t)(quote - p) + 1 : n;
        out = dk_put_bytes(out, p, part);
        if (quote != NULL) {
            *out++ = '"';
        }
        p += part;
        n -= part;
    }
    return out;
}

size_t csv_mark_size(const uint8_t *p, size_t n)
{
    return n >= 3 && memcmp(p, "\xEF\xBB\xBF", 3) == 0 ? 3 : 0;
}

bool csv_needs_quotes(const uint8_t *p, size_t n, bool before_lf)
{
    if (n == 0) {
        return true; /* unquoted empty would read as NULL */
    }
    return memchr(p, ',', n) != NULL || memchr(p, '"', n) != NULL || memchr(p, '\n', n) != NULL ||
           (before_lf && p[n - 1] == '\r'); /* would be CR LF */
}

const char *csv_fault_text(enum csv_fault what)
{
    static const char *const texts[] = {"", "a quote inside a cell that does not begin with one",
                                        "text after a closing quote", "a quote is never closed",
                                        "too many cells"};
    return texts[what];
}
