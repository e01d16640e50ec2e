/*
 * csv_plan: what to do with which column, worked out once from the call and the header; and the
 * pool that a chunk's texts live in.
 */
#ifndef DK_CLI_CSV_PLAN_H
#define DK_CLI_CSV_PLAN_H

#include "cli/cli.h"
#include "cli/csv_row.h"

#define CSV_COLUMNS_MAX 4096
#define CSV_CONTEXT_VALUE 256

/* ---- a pool: taken piece by piece, given back all at once, wiped at the end -------------------
 */

struct csv_block;
struct csv_pool {
    struct csv_block *first;
    struct csv_block *current;
};
/* NULL when there is no memory. Valid until the reset. */
void *csv_pool_take(struct csv_pool *pool, size_t n);
void csv_pool_reset(struct csv_pool *pool);
void csv_pool_free(struct csv_pool *pool);

/* ---- the plan -------------------------------------------------------------------------------- */

struct csv_plan {
    char **names; /* of all columns */
    size_t column_count;
    size_t *chosen; /* ascending indexes of the columns to work on */
    size_t chosen_count;
    const char *tenant;   /* the same for all rows, or NULL */
    size_t tenant_column; /* SIZE_MAX = none */
    struct cli_context context;
    const struct dekhand_pair *pairs; /* values are templates when context_varies */
    size_t pair_count;
    bool context_varies;
};

/* Prints what is wrong and returns CLI_USAGE. Cleared by csv_plan_clear in any case. */
int csv_plan_make(const struct cli *cli, const struct csv_cell *header, size_t count,
                  struct csv_plan *out);
void csv_plan_clear(struct csv_plan *plan);
/* Refuses --rejects where its file would take the place of another; before anything is read. */
int csv_check_rejects(const struct cli *cli);
/* Value of pair i for a row; NULL: a NUL in a cell, too long, or no memory. */
const char *csv_plan_fill(const struct csv_plan *plan, struct csv_pool *pool, size_t i,
                          const struct csv_cell *cells);

#endif
