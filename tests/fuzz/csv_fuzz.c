/* Any bytes as CSV: rows cover the input without a gap, cells lie inside their row. */
#include <stdlib.h>

#include "cli/csv_row.h"

#define CELLS 64

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_cells(const uint8_t *row, const struct csv_row *shape, const struct cell *cells)
{
    uint8_t *out = malloc(shape->size + 1);
    for (size_t i = 0; i < shape->count && i < CELLS; i++) {
        if (cells[i].p < row || cells[i].p + cells[i].n > row + shape->size ||
            csv_cell_unquote(&cells[i], out) > cells[i].n) {
            abort();
        }
    }
    free(out);
}

/* The quick look for the end finds the same one, in whole files and in cut ones. */
static void check_end(const uint8_t *row, size_t n, const struct csv_row *shape)
{
    for (int last = 0; last < 2; last++) {
        struct csv_row again;
        size_t size = 0, lines = 0;
        bool whole = csv_row_find(row, n, last == 1, NULL, 0, &again);
        if (csv_row_end(row, n, last == 1, &size, &lines) != whole ||
            (whole && (size != shape->size || lines != shape->lines))) {
            abort();
        }
    }
}

/* What is skipped piece by piece ends where the whole row ends. */
static void check_skip(const uint8_t *row, size_t n, const struct csv_row *shape)
{
    struct csv_skip skip = {.at_start = true};
    size_t lines = 0, at = 0;
    bool ended = false;
    while (at < n && !ended) {
        size_t piece = n - at < 7 ? n - at : 7;
        at += csv_row_skip(&skip, row + at, piece, &lines, &ended);
    }
    if (shape->fault == CSV_GOOD && (at != shape->size || lines != shape->lines)) {
        abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t at = 0;
    while (at < size) {
        struct cell cells[CELLS];
        struct csv_row shape;
        if (!csv_row_find(data + at, size - at, true, cells, CELLS, &shape) || shape.size == 0 ||
            shape.size > size - at) {
            abort();
        }
        check_cells(data + at, &shape, cells);
        check_end(data + at, size - at, &shape);
        check_skip(data + at, size - at, &shape);
        at += shape.size;
    }
    return 0;
}
