#include "cli/csv_plan.h"

#include <openssl/crypto.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- pool ----------------------------------------------------------------------------------- */

#define BLOCK (256 * 1024)

struct csv_block {
    struct csv_block *next;
    size_t cap;
    size_t used;
    max_align_t bytes[];
};

static struct csv_block *new_block(size_t n)
{
    size_t cap = n > BLOCK ? n : BLOCK;
    struct csv_block *block = malloc(sizeof *block + cap);
    if (block != NULL) {
        *block = (struct csv_block){.cap = cap};
    }
    return block;
}

void *csv_pool_take(struct csv_pool *pool, size_t n)
{
    n = (n + 7) & ~(size_t)7;
    while (pool->current != NULL && pool->current->cap - pool->current->used < n &&
           pool->current->next != NULL) {
        pool->current = pool->current->next;
    }
    if (pool->current == NULL || pool->current->cap - pool->current->used < n) {
        struct csv_block *block = new_block(n);
        if (block == NULL) {
            return NULL;
        }
        *(pool->current != NULL ? &pool->current->next : &pool->first) = block;
        pool->current = block;
    }
    void *p = (uint8_t *)pool->current->bytes + pool->current->used;
    pool->current->used += n;
    return p;
}

static void free_block(struct csv_block *block)
{
    OPENSSL_cleanse(block->bytes, block->cap);
    free(block);
}

/* Blocks of the usual size are kept for the next chunk. */
void csv_pool_reset(struct csv_pool *pool)
{
    struct csv_block **link = &pool->first;
    while (*link != NULL) {
        struct csv_block *block = *link;
        block->used = 0;
        if (block->cap > BLOCK) {
            *link = block->next;
            free_block(block);
        } else {
            link = &block->next;
        }
    }
    pool->current = pool->first;
}

void csv_pool_free(struct csv_pool *pool)
{
    while (pool->first != NULL) {
        struct csv_block *next = pool->first->next;
        free_block(pool->first);
        pool->first = next;
    }
    pool->current = NULL;
}

/* ---- columns -------------------------------------------------------------------------------- */

static int copy_names(const struct csv_cell *header, size_t count, struct csv_plan *plan)
{
    plan->names = calloc(count, sizeof(*plan->names));
    plan->chosen = calloc(count, sizeof *plan->chosen);
    if (plan->names == NULL || plan->chosen == NULL) {
        return cli_usage("no memory for the header");
    }
    plan->column_count = count;
    for (size_t i = 0; i < count; i++) {
        plan->names[i] = malloc(header[i].n + 1);
        if (plan->names[i] == NULL) {
            return cli_usage("no memory for the header");
        }
        plan->names[i][csv_cell_unquote(&header[i], (uint8_t *)plan->names[i])] = '\0';
    }
    return CLI_OK;
}

static void list_names(const struct csv_plan *plan, char *out, size_t cap)
{
    size_t n = 0;
    for (size_t i = 0; i < plan->column_count && n + 2 < cap; i++) {
        int more = snprintf(out + n, cap - n, "%s%s", i > 0 ? "," : "", plan->names[i]);
        n += more > 0 ? (size_t)more : 0;
    }
}

/* The index of a column that must be there, once; SIZE_MAX after saying why not. */
static size_t find_column(const struct csv_plan *plan, const char *name, size_t n, const char *what)
{
    size_t found = SIZE_MAX;
    char all[400] = "";
    for (size_t i = 0; i < plan->column_count; i++) {
        if (strlen(plan->names[i]) == n && memcmp(plan->names[i], name, n) == 0) {
            if (found != SIZE_MAX) {
                cli_usage("%s: the header has the column `%.*s` twice", what, (int)n, name);
                return SIZE_MAX;
            }
            found = i;
        }
    }
    if (found == SIZE_MAX) {
        list_names(plan, all, sizeof all);
        cli_usage("%s: the header has no column `%.*s`; it has: %s", what, (int)n, name, all);
    }
    return found;
}

static bool is_chosen(const struct csv_plan *plan, size_t column)
{
    for (size_t i = 0; i < plan->chosen_count; i++) {
        if (plan->chosen[i] == column) {
            return true;
        }
    }
    return false;
}

static int compare_indexes(const void *a, const void *b)
{
    size_t x = *(const size_t *)a, y = *(const size_t *)b;
    return x < y ? -1 : x > y;
}

static int choose_columns(const struct cli *cli, struct csv_plan *plan)
{
    const char *list;
    for (size_t i = 0; (list = cli_nth(cli, "columns", i)) != NULL; i++) {
        for (;;) {
            size_t n = strcspn(list, ",");
            size_t column = find_column(plan, list, n, "--columns");
            if (column == SIZE_MAX) {
                return CLI_USAGE;
            }
            if (!is_chosen(plan, column)) {
                plan->chosen[plan->chosen_count++] = column;
            }
            if (list[n] == '\0') {
                break;
            }
            list += n + 1;
        }
    }
    qsort(plan->chosen, plan->chosen_count, sizeof *plan->chosen, compare_indexes);
    return CLI_OK;
}

static int choose_tenant(const struct cli *cli, struct csv_plan *plan)
{
    const char *column = cli_get(cli, "tenant-column");
    plan->tenant = cli_get(cli, "tenant");
    plan->tenant_column = SIZE_MAX;
    if ((column != NULL) == (plan->tenant != NULL)) {
        return cli_usage("--csv wants either --tenant ID or --tenant-column COLUMN");
    }
    if (column == NULL) {
        return CLI_OK;
    }
    plan->tenant_column = find_column(plan, column, strlen(column), "--tenant-column");
    if (plan->tenant_column == SIZE_MAX) {
        return CLI_USAGE;
    }
    if (is_chosen(plan, plan->tenant_column)) {
        return cli_usage("the tenant column `%s` is among --columns: it has to stay readable",
                         column);
    }
    return CLI_OK;
}

/* ---- contexts ------------------------------------------------------------------------------- */

/* Walks a template; `{column}` and `{{`. Says what is wrong with a name, once, at the start. */
static int check_template(const struct csv_plan *plan, const char *text, bool *varies)
{
    for (; *text != '\0'; text++) {
        if (*text != '{') {
            continue;
        }
        *varies = true;
        if (text[1] == '{') {
            text++;
            continue;
        }
        const char *end = strchr(text, '}');
        if (end == NULL) {
            return cli_usage("--context: `{` without `}`; a brace itself is written `{{`");
        }
        size_t column = find_column(plan, text + 1, (size_t)(end - text - 1), "--context");
        if (column == SIZE_MAX) {
            return CLI_USAGE;
        }
        if (is_chosen(plan, column)) {
            return cli_usage("--context: column `%s` is encrypted itself and cannot name a place",
                             plan->names[column]);
        }
        text = end;
    }
    return CLI_OK;
}

static int read_context(const struct cli *cli, struct csv_plan *plan)
{
    int code = cli_context_read(cli, &plan->context);
    plan->pairs = plan->context.pairs;
    plan->pair_count = plan->context.count;
    for (size_t i = 0; i < plan->pair_count && code == CLI_OK; i++) {
        code = check_template(plan, plan->pairs[i].value, &plan->context_varies);
    }
    return code;
}

static size_t column_index(const struct csv_plan *plan, const char *name, size_t n)
{
    size_t i = 0;
    while (strlen(plan->names[i]) != n || memcmp(plan->names[i], name, n) != 0) {
        i++; /* check_template found it */
    }
    return i;
}

const char *csv_plan_fill(const struct csv_plan *plan, struct csv_pool *pool, size_t i,
                          const struct csv_cell *cells)
{
    const char *from = plan->pairs[i].value;
    size_t n = 0;
    char *out = csv_pool_take(pool, CSV_CONTEXT_VALUE + 1);
    for (; out != NULL && *from != '\0'; from++) {
        if (*from != '{' || from[1] == '{') {
            if (n == CSV_CONTEXT_VALUE) {
                return NULL;
            }
            from += *from == '{';
            out[n++] = *from;
            continue;
        }
        size_t len = strcspn(from + 1, "}");
        const struct csv_cell *cell = &cells[column_index(plan, from + 1, len)];
        uint8_t *text = csv_pool_take(pool, cell->n + 1);
        size_t m = text != NULL ? csv_cell_unquote(cell, text) : 0;
        if (text == NULL || m > CSV_CONTEXT_VALUE - n || memchr(text, '\0', m) != NULL) {
            return NULL;
        }
        memcpy(out + n, text, m);
        n += m;
        from += len + 1;
    }
    if (out != NULL) {
        out[n] = '\0';
    }
    return out;
}

/* ---- rejects -------------------------------------------------------------------------------- */

static bool same_file(const struct stat *a, const struct stat *b)
{
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

static const char *base_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash != NULL ? slash + 1 : path;
}

static bool folder_stat(const char *path, struct stat *st)
{
    char folder[DK_PATH_MAX];
    const char *base = base_of(path);
    int n = snprintf(folder, sizeof folder, "%.*s.", (int)(base - path), path);
    return n > 0 && n < (int)sizeof folder && stat(folder, st) == 0;
}

/* Two spellings of one name, whether or not there is such a file yet. */
static bool same_name(const char *a, const char *b)
{
    struct stat x, y;
    if (strcmp(a, b) == 0) {
        return true;
    }
    if (lstat(a, &x) == 0 && lstat(b, &y) == 0) {
        return same_file(&x, &y);
    }
    return strcmp(base_of(a), base_of(b)) == 0 && folder_stat(a, &x) && folder_stat(b, &y) &&
           same_file(&x, &y);
}

int csv_check_rejects(const struct cli *cli)
{
    const char *rejects = cli_get(cli, "rejects"), *output = cli_get(cli, "output");
    struct stat st, in;
    if (rejects == NULL) {
        return CLI_OK;
    }
    if (output != NULL && same_name(rejects, output)) {
        return cli_usage("--rejects and --output name the same file: %s", rejects);
    }
    if (lstat(rejects, &st) != 0) {
        return CLI_OK;
    }
    if (fstat(STDIN_FILENO, &in) == 0 && same_file(&in, &st)) {
        return cli_usage("--rejects %s is the file on standard input", rejects);
    }
    return cli_usage("--rejects %s exists already: move it away, its rows would be lost", rejects);
}

int csv_plan_make(const struct cli *cli, const struct csv_cell *header, size_t count,
                  struct csv_plan *out)
{
    if (!cli_has(cli, "columns")) {
        return cli_usage("--csv wants --columns A,B: which columns to work on");
    }
    int code = copy_names(header, count, out);
    code = code == CLI_OK ? choose_columns(cli, out) : code;
    code = code == CLI_OK ? choose_tenant(cli, out) : code;
    return code == CLI_OK ? read_context(cli, out) : code;
}

void csv_plan_clear(struct csv_plan *plan)
{
    for (size_t i = 0; i < plan->column_count; i++) {
        free(plan->names[i]);
    }
    free(plan->names);
    free(plan->chosen);
    cli_context_free(&plan->context);
    *plan = (struct csv_plan){0};
}
