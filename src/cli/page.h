/*
 * page: a report as text, Markdown, or one HTML page that needs nothing from elsewhere.
 *
 * Used by commands that report. What it is given may come from a database that others can write:
 * everything is escaped. One page at a time, in order: begin, lines and tables, end.
 */
#ifndef DK_CLI_PAGE_H
#define DK_CLI_PAGE_H

#include "cli/cli.h"

enum cli_page_form { CLI_PAGE_TEXT, CLI_PAGE_MARKDOWN, CLI_PAGE_HTML };

#define CLI_PAGE_CELL 640 /* bytes that are shown of a text at most */

struct cli_page {
    struct cli_out *out;
    enum cli_page_form form;
    size_t columns; /* of the table that is open */
};

void cli_page_begin(struct cli_page *page, const char *title);
void cli_page_section(struct cli_page *page, const char *title);
/* A paragraph. */
void cli_page_line(struct cli_page *page, const char *format, ...) DK_PRINTF(2, 3);
/* The first column is text, the others are numbers. */
void cli_page_table(struct cli_page *page, const char *const *heads, size_t columns);
void cli_page_row(struct cli_page *page, const char *const *cells);
void cli_page_table_end(struct cli_page *page);
void cli_page_end(struct cli_page *page);

/* 1234567 as "1,234,567". */
const char *cli_page_count(char out[static 32], int64_t count);
/* Millionths of a dollar as "$1,234.50"; what is more than nothing and no cent as "< $0.01". */
const char *cli_page_dollars(char out[static 40], int64_t micro);

#endif
