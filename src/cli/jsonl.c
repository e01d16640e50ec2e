/*
 * JSON lines for the bulk engine: one object a line; the chosen strings are replaced and every
 * other byte stays as it was (DESIGN 6).
 */
#include <stdlib.h>

#include "cli/bulk.h"
#include "cli/jsonl_row.h"

/* The names of the plan as jsonl_row_read() takes them: bulk->format_state. */
static int copy_names(struct bulk *bulk)
{
    struct jsonl_name *wanted = calloc(bulk->plan.name_count + 1, sizeof *wanted);
    if (wanted == NULL) {
        return cli_usage("no memory for the names");
    }
    for (size_t i = 0; i < bulk->plan.name_count; i++) {
        wanted[i].p = (const uint8_t *)bulk->plan.names[i];
        wanted[i].n = strlen(bulk->plan.names[i]);
    }
    bulk->format_state = wanted;
    return CLI_OK;
}

/* A byte order mark before the first line stays as it is. */
static int begin(struct bulk *bulk)
{
    struct bulk_input *in = &bulk->input;
    struct dekhand_error error;
    struct dk_err err;
    dk_err_clear(&err);
    int code = bulk_plan_make(bulk->cli, &bulk->format->words, &bulk->plan);
    code = code == CLI_OK ? copy_names(bulk) : code;
    if (code == CLI_OK && !bulk_fill(bulk, &error)) {
        code = cli_fail(bulk->cli, &error);
    }
    if (code != CLI_OK) {
        return code;
    }
    in->at = csv_mark_size(in->buffer, in->n);
    in->line = 1;
    return dk_buf_add(&bulk->head, in->buffer, in->at, &err) == DK_OK
               ? CLI_OK
               : cli_fail_internal(bulk->cli, &err);
}

static void end(struct bulk *bulk)
{
    free(bulk->format_state);
    bulk->format_state = NULL;
}

/* A line feed inside a string would be a mistake: lines end with any. */
static bool find(const uint8_t *p, size_t n, bool last, size_t *size, size_t *lines)
{
    const uint8_t *feed = memchr(p, '\n', n);
    *size = feed != NULL ? (size_t)(feed - p) + 1 : n;
    *lines = feed != NULL;
    return feed != NULL || last;
}

static size_t skip(struct csv_skip *state, const uint8_t *p, size_t n, size_t *lines, bool *ended)
{
    size_t size = 0;
    (void)state;
    *ended = find(p, n, false, &size, lines);
    return size;
}

static void read_row(const struct bulk *bulk, struct bulk_batch *batch, struct bulk_row *row)
{
    size_t at = 0;
    enum jsonl_fault fault =
        jsonl_row_read(row->p, row->n, bulk->format_state, bulk->plan.name_count, batch->cells,
                       batch->scratch, &at);
    row->blank = fault == JSONL_BLANK;
    if (fault != JSONL_GOOD && fault != JSONL_BLANK) {
        bulk_bad(batch, row, SIZE_MAX, "not JSON at byte %zu: %s", at + 1, jsonl_fault_text(fault));
    }
}

static const char *kind_of(const struct cell *cell)
{
    return cell->kind == CELL_BARE ? "a number"
           : cell->p[0] == '{'     ? "an object"
           : cell->p[0] == '['     ? "an array"
                                   : "true or false";
}

static void check(struct bulk_batch *batch, struct bulk_row *row, size_t name)
{
    const struct cell *cell = &batch->cells[name];
    if (cell->kind != CELL_QUOTED) {
        bulk_bad(batch, row, name, "%s; only a string can be worked on", kind_of(cell));
    }
}

static bool is_utf8(const uint8_t *p, size_t n)
{
    while (n > 0) {
        const uint8_t *nul = memchr(p, '\0', n); /* which dk_utf8_valid() does not take */
        size_t part = nul != NULL ? (size_t)(nul - p) : n;
        if (!dk_utf8_valid(p, part)) {
            return false;
        }
        p += part + (nul != NULL);
        n -= part + (nul != NULL);
    }
    return true;
}

static const char *refuse(const uint8_t *p, size_t n)
{
    return is_utf8(p, n) ? NULL : "the value is not UTF-8: no JSON string can hold it";
}

static uint8_t *put(uint8_t *out, const struct bulk_row *row, const struct cell *cell,
                    const uint8_t *value, size_t n)
{
    (void)row, (void)cell;
    return jsonl_put_escaped(out, value, n);
}

const struct bulk_format bulk_jsonl = {
    .words = {"jsonl", "fields", "field", "FIELD", false},
    .long_row = "the line is longer than 4 MiB",
    .growth = JSONL_GROWTH,
    .scratch_size = JSONL_NAMES_MAX * sizeof(struct jsonl_name),
    .begin = begin,
    .end = end,
    .find = find,
    .skip = skip,
    .read = read_row,
    .check = check,
    .unescape = jsonl_unescape,
    .refuse = refuse,
    .put = put,
};
