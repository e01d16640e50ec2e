/*
 * CSV for the bulk engine: a header, then rows; the chosen cells are replaced and every other byte
 * stays as it was (DESIGN 6).
 */
#include <stdlib.h>

#include "cli/bulk.h"
#include "cli/csv_row.h"

#define COLUMNS_MAX 4096

static int copy_names(struct bulk_plan *plan, const struct cell *header, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        char *name = malloc(header[i].n + 1);
        if (name != NULL) {
            name[csv_cell_unquote(&header[i], (uint8_t *)name)] = '\0';
        }
        int code = bulk_plan_add_name(plan, name);
        if (code != CLI_OK) {
            return code;
        }
    }
    return CLI_OK;
}

/* Reads until the header row is whole; its size with the byte order mark before it. */
static int find_header(struct bulk *bulk, struct cell *cells, struct csv_row *shape, size_t *mark)
{
    struct bulk_input *in = &bulk->input;
    struct dekhand_error error;
    do {
        if (in->n >= BULK_ROW_MAX) {
            return cli_usage("the first line is longer than 4 MiB: a CSV file with a header is "
                             "wanted");
        }
        if (!bulk_fill(bulk, &error)) {
            return cli_fail(bulk->cli, &error);
        }
        *mark = csv_mark_size(in->buffer, in->n);
    } while (
        !csv_row_find(in->buffer + *mark, in->n - *mark, in->ended, cells, COLUMNS_MAX, shape));
    if (shape->size == 0) {
        return cli_usage("the input is empty: a CSV file with a header is wanted");
    }
    if (shape->fault != CSV_GOOD) {
        return cli_usage("line 1: %s: a header is wanted", csv_fault_text(shape->fault));
    }
    return CLI_OK;
}

/* The header stays as it is. */
static int begin(struct bulk *bulk)
{
    static struct cell cells[COLUMNS_MAX];
    struct bulk_input *in = &bulk->input;
    struct csv_row shape;
    struct dk_err err;
    size_t mark = 0;
    dk_err_clear(&err);
    int code = find_header(bulk, cells, &shape, &mark);
    code = code == CLI_OK ? copy_names(&bulk->plan, cells, shape.count) : code;
    code = code == CLI_OK ? bulk_plan_make(bulk->cli, &bulk->format->words, &bulk->plan) : code;
    if (code == CLI_OK && dk_buf_add(&bulk->head, in->buffer, mark + shape.size, &err) != DK_OK) {
        code = cli_fail_internal(bulk->cli, &err);
    }
    in->at = mark + shape.size;
    in->line = 1 + (int64_t)shape.lines;
    return code;
}

static void end(struct bulk *bulk)
{
    (void)bulk;
}

static void read_row(const struct bulk *bulk, struct bulk_batch *batch, struct bulk_row *row)
{
    size_t columns = bulk->plan.name_count;
    struct csv_row shape;
    if (!csv_row_find(row->p, row->n, true, batch->cells, columns, &shape)) {
        bulk_bad(batch, row, SIZE_MAX, "%s", csv_fault_text(CSV_OPEN_QUOTE));
    } else if (shape.fault != CSV_GOOD && shape.fault != CSV_TOO_MANY) {
        bulk_bad(batch, row, shape.fault_cell < columns ? shape.fault_cell : SIZE_MAX, "%s",
                 csv_fault_text(shape.fault));
    } else if (shape.count != columns) {
        bulk_bad(batch, row, SIZE_MAX, "%zu cells, the header has %zu", shape.count, columns);
    }
}

/* Any text is one that can be encrypted. */
static void check(struct bulk_batch *batch, struct bulk_row *row, size_t name)
{
    (void)batch, (void)row, (void)name;
}

static const char *refuse(const uint8_t *p, size_t n)
{
    (void)p, (void)n;
    return NULL;
}

/* Values keep their quoting; one that could not stand without quotes gets them. */
static uint8_t *put(uint8_t *out, const struct bulk_row *row, const struct cell *cell,
                    const uint8_t *value, size_t n)
{
    const uint8_t *row_end = row->p + row->n;
    bool before_lf = cell->p + cell->n + 1 == row_end && row_end[-1] == '\n';
    if (cell->kind == CELL_QUOTED) {
        return csv_put_doubled(out, value, n);
    }
    if (!csv_needs_quotes(value, n, before_lf)) {
        return dk_put_bytes(out, value, n);
    }
    *out++ = '"';
    out = csv_put_doubled(out, value, n);
    *out++ = '"';
    return out;
}

const struct bulk_format bulk_csv = {
    .words = {"csv", "columns", "column", "COLUMN", true},
    .long_row = "the row is longer than 4 MiB, or a quote is never closed",
    .null_is_empty = true,
    .growth = 2,
    .begin = begin,
    .end = end,
    .find = csv_row_end,
    .skip = csv_row_skip,
    .read = read_row,
    .check = check,
    .unescape = csv_cell_unquote,
    .refuse = refuse,
    .put = put,
};
