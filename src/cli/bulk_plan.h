/*
 * bulk_plan: what to do with which column or field, worked out once from the call and the header.
 *
 * Made by a format (csv.c, jsonl.c); after that it is only read, by any number of threads.
 */
#ifndef DK_CLI_BULK_PLAN_H
#define DK_CLI_BULK_PLAN_H

#include "cli/cli.h"

#define BULK_CONTEXT_VALUE 256

/* How a format speaks of its things. */
struct bulk_words {
    const char *format;      /* the option that chooses it: "csv" */
    const char *list;        /* the option that lists names: "columns" */
    const char *noun;        /* "column" */
    const char *placeholder; /* "COLUMN" */
    bool has_header;         /* names stand in the file's first row, not in the call alone */
};

struct bulk_part {
    const char *text; /* lent by the context */
    size_t n;
    size_t name; /* whose cell stands here; SIZE_MAX = the text */
};

struct bulk_template {
    struct bulk_part *parts; /* NULL: the pair's value as it is */
    size_t count;
};

struct bulk_plan {
    const struct bulk_words *words;
    char **names; /* of the header, or all that the call mentions */
    size_t name_count;
    size_t name_cap;
    size_t *chosen; /* ascending indexes of the names to work on */
    size_t chosen_count;
    const char *tenant; /* the same for all rows, or NULL */
    size_t tenant_name; /* SIZE_MAX = none */
    struct cli_context context;
    struct bulk_template templates[17]; /* of its values */
    bool context_varies;
};

/* Takes over `name`, also where it fails; NULL is refused like a lack of memory. */
int bulk_plan_add_name(struct bulk_plan *plan, char *name);
/* After the header's names. Prints what is wrong and returns CLI_USAGE. */
int bulk_plan_make(const struct cli *cli, const struct bulk_words *words, struct bulk_plan *plan);
void bulk_plan_clear(struct bulk_plan *plan);
/* Refuses --rejects where its file would take the place of another; before anything is read. */
int bulk_check_rejects(const struct cli *cli);

#endif
