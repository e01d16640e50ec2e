/*
 * cell: one value of a row, as it stands in the file: a cell of CSV or a member of a JSON object.
 *
 * Written by csv_row and jsonl_row, read by the bulk engine, which knows neither format.
 */
#ifndef DK_CLI_CELL_H
#define DK_CLI_CELL_H

#include "base/bytes.h"

enum cell_kind {
    CELL_MISSING, /* JSON: the object has no such name */
    CELL_NULL,    /* JSON: null; CSV: empty without quotes */
    CELL_BARE,    /* JSON: a number; CSV: without quotes */
    CELL_QUOTED,  /* JSON: a string; CSV: in quotes */
    CELL_OTHER    /* JSON: true, false, an object or an array */
};

struct cell {
    const uint8_t *p; /* the content, without the quotes around it */
    size_t n;
    enum cell_kind kind;
    bool escaped; /* the content is not yet the value: JSON `\`, CSV `""` */
};

#endif
