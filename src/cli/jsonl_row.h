/*
 * jsonl_row: judges one line of JSON and finds the members that are asked for, without changing or
 * copying a byte.
 *
 * Called by jsonl.c and its fuzz target. Pure: no allocation, so a line takes no memory beyond
 * itself whatever it holds; numbers are never read, so none loses a digit. RFC 8259, UTF-8 only, no
 * half surrogate pairs, no name twice in one object, at most JSONL_DEPTH_MAX levels.
 */
#ifndef DK_CLI_JSONL_ROW_H
#define DK_CLI_JSONL_ROW_H

#include "cli/cell.h"

#define JSONL_DEPTH_MAX 16
#define JSONL_NAMES_MAX 4096 /* of an object and those around it, together */

enum jsonl_fault {
    JSONL_GOOD,
    JSONL_BLANK, /* nothing but white space: no line of data, and no mistake */
    JSONL_NOT_OBJECT,
    JSONL_NO_VALUE, /* a value is wanted: NaN, a quote of another kind, .5 */
    JSONL_NO_NAME,
    JSONL_NO_COLON,
    JSONL_NO_COMMA,
    JSONL_MORE, /* after the object */
    JSONL_NUMBER,
    JSONL_OPEN_STRING,
    JSONL_CONTROL,
    JSONL_ESCAPE,
    JSONL_SURROGATE,
    JSONL_UTF8,
    JSONL_DEEP,
    JSONL_TWICE,
    JSONL_MANY
};

struct jsonl_name {
    const uint8_t *p;
    size_t n;
    uint32_t hash;
    bool escaped;
};

/*
 * Fills cells[i] with the member named wanted[i] (plain UTF-8, no hash needed) of the object that
 * is the line. `names` has room for JSONL_NAMES_MAX. `at`: where a fault was found.
 */
enum jsonl_fault jsonl_row_read(const uint8_t *p, size_t n, const struct jsonl_name *wanted,
                                size_t count, struct cell *cells, struct jsonl_name *names,
                                size_t *at);
const char *jsonl_fault_text(enum jsonl_fault fault);

/* The value of a string's content; `out` has room for cell->n bytes. Returns its length. */
size_t jsonl_unescape(const struct cell *cell, uint8_t *out);
#define JSONL_GROWTH 6 /* a control character becomes \u00XX */
/* Writes the content of the string that has this value (UTF-8); returns the byte after. */
uint8_t *jsonl_put_escaped(uint8_t *out, const uint8_t *p, size_t n);

#endif
