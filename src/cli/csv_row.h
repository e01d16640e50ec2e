/*
 * csv_row: finds one row of CSV and its cells, without changing a byte (PostgreSQL's rules).
 *
 * Called by csv.c and its fuzz target. Pure. A row ends with LF or CR LF outside quotes, or with
 * the input.
 */
#ifndef DK_CLI_CSV_ROW_H
#define DK_CLI_CSV_ROW_H

#include "cli/cell.h"

enum csv_fault {
    CSV_GOOD,
    CSV_QUOTE_INSIDE, /* a quote in a cell that does not begin with one */
    CSV_AFTER_QUOTE,  /* text after the closing quote */
    CSV_OPEN_QUOTE,   /* a quote that is never closed */
    CSV_TOO_MANY      /* more cells than there is room for */
};

struct csv_row {
    size_t size;  /* bytes, the line end included */
    size_t lines; /* line feeds in it */
    size_t count; /* cells */
    enum csv_fault fault;
    size_t fault_cell;
};

/*
 * False: the row does not end within the n bytes and more may come (`last` false). A row of no
 * bytes at the end of the input is none: size 0.
 */
DK_MUST_USE bool csv_row_find(const uint8_t *p, size_t n, bool last, struct cell *cells, size_t cap,
                              struct csv_row *out);

/* The same without the cells, and quickly where no quote is in sight. */
DK_MUST_USE bool csv_row_end(const uint8_t *p, size_t n, bool last, size_t *size, size_t *lines);

/* Where a row ends that is too long to be held: carries its state from piece to piece. */
struct csv_skip {
    bool in_quotes;
    bool at_start; /* of a cell */
    bool after_quote;
};
/* Bytes of this piece that belong to the row; *ended when its line end is among them. */
size_t csv_row_skip(struct csv_skip *skip, const uint8_t *p, size_t n, size_t *lines, bool *ended);

/* The cell's value with "" made one quote; `out` has room for cell->n bytes. Returns its length. */
size_t csv_cell_unquote(const struct cell *cell, uint8_t *out);
/* Bytes of the byte order mark at the start of the input: 3 or 0. It is no part of the header. */
size_t csv_mark_size(const uint8_t *p, size_t n);
/* Copies with each `"` twice, as inside the quotes of a cell; returns the byte after. */
uint8_t *csv_put_doubled(uint8_t *out, const uint8_t *p, size_t n);
/* Whether a value read back unquoted would be another; `before_lf`: a bare LF comes after it. */
bool csv_needs_quotes(const uint8_t *p, size_t n, bool before_lf);
const char *csv_fault_text(enum csv_fault fault);

#endif
