#include "cli/page.h"

#include <stdarg.h>

/* ---- text that may be anything --------------------------------------------------------------- */

static const char *entity(char c)
{
    switch (c) {
    case '<':
        return "&lt;";
    case '>':
        return "&gt;";
    case '&':
        return "&amp;";
    case '"':
        return "&quot;";
    default:
        return NULL;
    }
}

static void put_html(struct cli_out *out, const char *text)
{
    for (; *text != '\0'; text++) {
        const char *instead = entity(*text);
        if (instead != NULL) {
            cli_out_str(out, instead);
        } else {
            cli_out_write(out, text, 1);
        }
    }
}

static void put_markdown(struct cli_out *out, const char *text)
{
    for (; *text != '\0'; text++) {
        if (strchr("\\`*_[]<>|&:~", *text) != NULL) {
            cli_out_str(out, "\\");
        }
        cli_out_write(out, text, 1);
    }
}

static const char *printable(char out[static CLI_PAGE_CELL], const char *text)
{
    snprintf(out, CLI_PAGE_CELL, "%s", text);
    cli_make_printable(out);
    return out;
}

static void put_text(const struct cli_page *page, const char *text)
{
    char plain[CLI_PAGE_CELL];
    text = printable(plain, text);
    if (page->form == CLI_PAGE_HTML) {
        put_html(page->out, text);
    } else if (page->form == CLI_PAGE_MARKDOWN) {
        put_markdown(page->out, text);
    } else {
        cli_out_str(page->out, text);
    }
}

static void put_between(const struct cli_page *page, const char *before, const char *text,
                        const char *after)
{
    cli_out_str(page->out, before);
    put_text(page, text);
    cli_out_str(page->out, after);
}

/* ---- the page -------------------------------------------------------------------------------- */

static const char head[] =
    "</title>\n<style>body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem "
    "auto;padding:0 1rem;color:#1a1a1a;background:#fff}table{border-collapse:collapse;margin:1rem "
    "0}th,td{padding:.25rem .75rem;border-bottom:1px solid "
    "#ccc;text-align:right;font-variant-numeric:tabular-nums}th:first-child,td:first-child{text-"
    "align:left}h2{overflow-wrap:anywhere}@media(prefers-color-scheme:dark){body{color:#eee;"
    "background:#161616}th,td{border-color:#444}}</style>\n</head>\n<body>\n";

void cli_page_begin(struct cli_page *page, const char *title)
{
    switch (page->form) {
    case CLI_PAGE_HTML:
        put_between(page,
                    "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta "
                    "name=\"viewport\" content=\"width=device-width\">\n<title>",
                    title, head);
        put_between(page, "<h1>", title, "</h1>\n");
        break;
    case CLI_PAGE_MARKDOWN:
        put_between(page, "# ", title, "\n");
        break;
    default:
        put_between(page, "", title, "\n");
    }
}

void cli_page_section(struct cli_page *page, const char *title)
{
    static const char *const around[][2] = {
        [CLI_PAGE_TEXT] = {"\n", "\n"},
        [CLI_PAGE_MARKDOWN] = {"\n## ", "\n"},
        [CLI_PAGE_HTML] = {"<h2>", "</h2>\n"},
    };
    put_between(page, around[page->form][0], title, around[page->form][1]);
}

void cli_page_line(struct cli_page *page, const char *format, ...)
{
    char text[CLI_PAGE_CELL];
    va_list args;
    static const char *const around[][2] = {
        [CLI_PAGE_TEXT] = {"", "\n"},
        [CLI_PAGE_MARKDOWN] = {"\n", "\n"},
        [CLI_PAGE_HTML] = {"<p>", "</p>\n"},
    };
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    put_between(page, around[page->form][0], text, around[page->form][1]);
}

static void put_cells(const struct cli_page *page, const char *const *cells, const char *tag)
{
    if (page->form == CLI_PAGE_TEXT) {
        for (size_t i = 0; i < page->columns; i++) {
            char plain[CLI_PAGE_CELL];
            cli_out_printf(page->out, i == 0 ? "  %-28s" : " %16s", printable(plain, cells[i]));
        }
        cli_out_str(page->out, "\n");
        return;
    }
    bool html = page->form == CLI_PAGE_HTML;
    cli_out_str(page->out, html ? "<tr>" : "|");
    for (size_t i = 0; i < page->columns; i++) {
        if (html) {
            cli_out_printf(page->out, "<%s>", tag);
            put_text(page, cells[i]);
            cli_out_printf(page->out, "</%s>", tag);
        } else {
            put_between(page, " ", cells[i], " |");
        }
    }
    cli_out_str(page->out, html ? "</tr>\n" : "\n");
}

void cli_page_table(struct cli_page *page, const char *const *heads, size_t columns)
{
    page->columns = columns;
    cli_out_str(page->out, page->form == CLI_PAGE_HTML       ? "<table>\n"
                           : page->form == CLI_PAGE_MARKDOWN ? "\n"
                                                             : "");
    put_cells(page, heads, "th");
    if (page->form == CLI_PAGE_MARKDOWN) {
        for (size_t i = 0; i < columns; i++) {
            cli_out_str(page->out, i == 0 ? "|---|" : "---:|");
        }
        cli_out_str(page->out, "\n");
    }
}

void cli_page_row(struct cli_page *page, const char *const *cells)
{
    put_cells(page, cells, "td");
}

void cli_page_table_end(struct cli_page *page)
{
    cli_out_str(page->out, page->form == CLI_PAGE_HTML ? "</table>\n" : "");
}

void cli_page_end(struct cli_page *page)
{
    cli_out_str(page->out, page->form == CLI_PAGE_HTML ? "</body>\n</html>\n" : "");
}

/* ---- numbers --------------------------------------------------------------------------------- */

const char *cli_page_count(char out[static 32], int64_t count)
{
    char digits[24];
    size_t n = (size_t)snprintf(digits, sizeof digits, "%lld", (long long)count), at = 0;
    for (size_t i = 0; i < n; i++) {
        if (i > 0 && (n - i) % 3 == 0) {
            out[at++] = ',';
        }
        out[at++] = digits[i];
    }
    out[at] = '\0';
    return out;
}

const char *cli_page_dollars(char out[static 40], int64_t micro)
{
    char whole[32];
    int64_t cents = (micro + 5000) / 10000;
    if (micro > 0 && cents == 0) {
        return "< $0.01";
    }
    snprintf(out, 40, "$%s.%02d", cli_page_count(whole, cents / 100), (int)(cents % 100));
    return out;
}
