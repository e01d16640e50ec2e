/*
 * Any bytes as a line of JSON: what jsonl_row says of them is what jansson says, and the values of
 * the members asked for are the same.
 */
#include <jansson.h>
#include <stdlib.h>

#include "cli/jsonl_row.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct jsonl_name wanted[] = {{(const uint8_t *)"a", 1, 0, false},
                                           {(const uint8_t *)"tenant", 6, 0, false},
                                           {(const uint8_t *)"\xC3\xA9", 2, 0, false},
                                           {(const uint8_t *)"\xF0\x9F\xA6\x89", 4, 0, false},
                                           {(const uint8_t *)"", 0, 0, false}};
#define WANTED (sizeof wanted / sizeof wanted[0])

static struct jsonl_name names[JSONL_NAMES_MAX];

static void demand(bool ok)
{
    if (!ok) {
        abort();
    }
}

/*
 * jansson reads numbers, keeps names as C strings, and drops a NUL byte after a number; jsonl_row
 * bounds depth and names.
 */
static bool may_differ(enum jsonl_fault fault, const json_t *value, const json_error_t *error,
                       bool has_nul)
{
    if (value == NULL) {
        enum json_error_code code = json_error_code(error);
        return code == json_error_numeric_overflow || code == json_error_null_byte_in_key;
    }
    return has_nul || fault == JSONL_DEEP || fault == JSONL_MANY ||
           (fault == JSONL_NOT_OBJECT && json_is_array(value));
}

/* What is written again has the same value. */
static void check_again(const uint8_t *value, size_t n)
{
    uint8_t *line = malloc(n * JSONL_GROWTH + 16), *back = malloc(n * JSONL_GROWTH + 1);
    struct cell cell;
    size_t at;
    uint8_t *end = dk_put_bytes(line, "{\"a\":\"", 6);
    end = jsonl_put_escaped(end, value, n);
    end = dk_put_bytes(end, "\"}", 2);
    demand(jsonl_row_read(line, (size_t)(end - line), wanted, 1, &cell, names, &at) == JSONL_GOOD);
    demand(cell.kind == CELL_QUOTED && jsonl_unescape(&cell, back) == n &&
           memcmp(back, value, n) == 0);
    free(line);
    free(back);
}

static void check_string(const struct cell *cell, const json_t *member)
{
    uint8_t *out = malloc(cell->n + 1);
    size_t n = jsonl_unescape(cell, out);
    demand(n <= cell->n && n == json_string_length(member) &&
           memcmp(out, json_string_value(member), n) == 0);
    demand(cell->escaped || (n == cell->n && memcmp(out, cell->p, n) == 0));
    check_again(out, n);
    free(out);
}

static void check_cell(const struct cell *cell, const json_t *member, const uint8_t *data,
                       size_t size)
{
    enum cell_kind kind = member == NULL           ? CELL_MISSING
                          : json_is_null(member)   ? CELL_NULL
                          : json_is_string(member) ? CELL_QUOTED
                          : json_is_number(member) ? CELL_BARE
                                                   : CELL_OTHER;
    demand(cell->kind == kind);
    demand(kind == CELL_MISSING || (cell->p >= data && cell->p + cell->n <= data + size));
    if (kind == CELL_QUOTED) {
        check_string(cell, member);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct cell cells[WANTED];
    json_error_t error;
    size_t at = 0;
    enum jsonl_fault fault = jsonl_row_read(data, size, wanted, WANTED, cells, names, &at);
    json_t *value =
        json_loadb((const char *)data, size,
                   JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL, &error);
    demand(at <= size);
    demand((fault == JSONL_GOOD) == (value != NULL) ||
           may_differ(fault, value, &error, size > 0 && memchr(data, 0, size) != NULL));
    for (size_t i = 0; i < WANTED && fault == JSONL_GOOD && value != NULL; i++) {
        char name[8] = "";
        memcpy(name, wanted[i].p, wanted[i].n);
        check_cell(&cells[i], json_object_get(value, name), data, size);
    }
    json_decref(value);
    return 0;
}
