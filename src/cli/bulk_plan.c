#include "cli/bulk_plan.h"

#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- names ----------------------------------------------------------------------------------- */

int bulk_plan_add_name(struct bulk_plan *plan, char *name)
{
    if (plan->name_count == plan->name_cap) {
        size_t cap = plan->name_cap == 0 ? 16 : plan->name_cap * 2;
        char **names = realloc(plan->names, cap * sizeof *names);
        if (names != NULL) {
            plan->names = names;
            plan->name_cap = cap;
        }
    }
    if (name == NULL || plan->name_count == plan->name_cap) {
        free(name);
        return cli_usage("no memory for the names");
    }
    plan->names[plan->name_count++] = name;
    return CLI_OK;
}

static void list_names(const struct bulk_plan *plan, char *out, size_t cap)
{
    size_t n = 0;
    for (size_t i = 0; i < plan->name_count && n + 2 < cap; i++) {
        int more = snprintf(out + n, cap - n, "%s%s", i > 0 ? "," : "", plan->names[i]);
        n += more > 0 ? (size_t)more : 0;
    }
}

static bool is_name(const struct bulk_plan *plan, size_t i, const char *name, size_t n)
{
    return strlen(plan->names[i]) == n && memcmp(plan->names[i], name, n) == 0;
}

/* The index of a column that must be there, once; SIZE_MAX after saying why not. */
static size_t find_in_header(const struct bulk_plan *plan, const char *name, size_t n,
                             const char *option)
{
    size_t found = SIZE_MAX;
    char all[400] = "";
    for (size_t i = 0; i < plan->name_count; i++) {
        if (is_name(plan, i, name, n)) {
            if (found != SIZE_MAX) {
                cli_usage("--%s: the header has the column `%.*s` twice", option, (int)n, name);
                return SIZE_MAX;
            }
            found = i;
        }
    }
    if (found == SIZE_MAX) {
        list_names(plan, all, sizeof all);
        cli_usage("--%s: the header has no column `%.*s`; it has: %s", option, (int)n, name, all);
    }
    return found;
}

/* Without a header any name will do; the first call that mentions it gives it its index. */
static size_t find_or_add(struct bulk_plan *plan, const char *name, size_t n, const char *option)
{
    if (n == 0 || !dk_utf8_valid((const uint8_t *)name, n)) {
        cli_usage("--%s: a name of a field is wanted, in UTF-8", option);
        return SIZE_MAX;
    }
    for (size_t i = 0; i < plan->name_count; i++) {
        if (is_name(plan, i, name, n)) {
            return i;
        }
    }
    return bulk_plan_add_name(plan, strndup(name, n)) == CLI_OK ? plan->name_count - 1 : SIZE_MAX;
}

static size_t find_name(struct bulk_plan *plan, const char *name, size_t n, const char *option)
{
    return plan->words->has_header ? find_in_header(plan, name, n, option)
                                   : find_or_add(plan, name, n, option);
}

/* ---- what is chosen -------------------------------------------------------------------------- */

static bool is_chosen(const struct bulk_plan *plan, size_t name)
{
    for (size_t i = 0; i < plan->chosen_count; i++) {
        if (plan->chosen[i] == name) {
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

static int choose(struct bulk_plan *plan, size_t name)
{
    if (name == SIZE_MAX) {
        return CLI_USAGE;
    }
    if (is_chosen(plan, name)) {
        return CLI_OK;
    }
    size_t *chosen = realloc(plan->chosen, (plan->chosen_count + 1) * sizeof *chosen);
    if (chosen == NULL) {
        return cli_usage("no memory for the names");
    }
    plan->chosen = chosen;
    plan->chosen[plan->chosen_count++] = name;
    return CLI_OK;
}

static int choose_all(const struct cli *cli, struct bulk_plan *plan)
{
    const char *list, *option = plan->words->list;
    for (size_t i = 0; (list = cli_nth(cli, option, i)) != NULL; i++) {
        for (;;) {
            size_t n = strcspn(list, ",");
            int code = choose(plan, find_name(plan, list, n, option));
            if (code != CLI_OK) {
                return code;
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

static int choose_tenant(const struct cli *cli, struct bulk_plan *plan)
{
    const char *name = cli_get(cli, "tenant-column");
    plan->tenant = cli_get(cli, "tenant");
    plan->tenant_name = SIZE_MAX;
    if ((name != NULL) == (plan->tenant != NULL)) {
        return cli_usage("--%s wants either --tenant ID or --tenant-column %s", plan->words->format,
                         plan->words->placeholder);
    }
    if (name == NULL) {
        return CLI_OK;
    }
    plan->tenant_name = find_name(plan, name, strlen(name), "tenant-column");
    if (plan->tenant_name == SIZE_MAX) {
        return CLI_USAGE;
    }
    if (is_chosen(plan, plan->tenant_name)) {
        return cli_usage("the tenant %s `%s` is among --%s: it has to stay readable",
                         plan->words->noun, name, plan->words->list);
    }
    return CLI_OK;
}

/* ---- contexts -------------------------------------------------------------------------------- */

static void add_part(struct bulk_template *out, const char *text, size_t n, size_t name)
{
    if (n > 0 || name != SIZE_MAX) {
        out->parts[out->count++] = (struct bulk_part){text, n, name};
    }
}

/* `text` in parts: what stands as it is, and `{name}`; `{{` is a brace. */
static int compile(struct bulk_plan *plan, const char *text, struct bulk_template *out)
{
    const char *from = text;
    size_t braces = 0;
    for (const char *p = text; (p = strchr(p, '{')) != NULL; p++) {
        braces++;
    }
    out->parts = calloc(2 * braces + 1, sizeof *out->parts);
    if (out->parts == NULL) {
        return cli_usage("no memory for a context");
    }
    for (const char *p = text; (p = strchr(p, '{')) != NULL; from = p) {
        bool brace = p[1] == '{';
        add_part(out, from, (size_t)(p - from) + brace, SIZE_MAX);
        if (brace) {
            p += 2;
            continue;
        }
        const char *end = strchr(p, '}');
        if (end == NULL) {
            return cli_usage("--context: `{` without `}`; a brace itself is written `{{`");
        }
        size_t name = find_name(plan, p + 1, (size_t)(end - p - 1), "context");
        if (name == SIZE_MAX) {
            return CLI_USAGE;
        }
        if (is_chosen(plan, name)) {
            return cli_usage("--context: %s `%s` is encrypted itself and cannot name a place",
                             plan->words->noun, plan->names[name]);
        }
        add_part(out, NULL, 0, name);
        p = end + 1;
    }
    add_part(out, from, strlen(from), SIZE_MAX);
    return CLI_OK;
}

static int read_context(const struct cli *cli, struct bulk_plan *plan)
{
    int code = cli_context_read(cli, &plan->context);
    for (size_t i = 0; i < plan->context.count && code == CLI_OK; i++) {
        const char *value = plan->context.pairs[i].value;
        if (strchr(value, '{') != NULL) {
            plan->context_varies = true;
            code = compile(plan, value, &plan->templates[i]);
        }
    }
    return code;
}

/* ---- rejects --------------------------------------------------------------------------------- */

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

int bulk_check_rejects(const struct cli *cli)
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

/* ---- the plan -------------------------------------------------------------------------------- */

int bulk_plan_make(const struct cli *cli, const struct bulk_words *words, struct bulk_plan *plan)
{
    plan->words = words;
    if (!cli_has(cli, words->list)) {
        return cli_usage("--%s wants --%s A,B: which %ss to work on", words->format, words->list,
                         words->noun);
    }
    int code = choose_all(cli, plan);
    code = code == CLI_OK ? choose_tenant(cli, plan) : code;
    return code == CLI_OK ? read_context(cli, plan) : code;
}

void bulk_plan_clear(struct bulk_plan *plan)
{
    for (size_t i = 0; i < plan->name_count; i++) {
        free(plan->names[i]);
    }
    free(plan->names);
    free(plan->chosen);
    for (size_t i = 0; i < sizeof plan->templates / sizeof plan->templates[0]; i++) {
        free(plan->templates[i].parts);
    }
    cli_context_free(&plan->context);
    *plan = (struct bulk_plan){0};
}
