#include "base/options.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/file.h"

const struct dk_option dk_options[DK_OPT_COUNT] = {
#define DK_OPTION(id, name, flag, type, def, min, max, unit, secret, reload, help)                 \
    {name, flag, DK_OPT_##type, def, min, max, unit, secret, reload, help},
#include "base/options.def"
#undef DK_OPTION
};

#define NAME_MAX_BYTES 64
#define FILE_MAX_BYTES (256 * 1024)

void dk_settings_init(struct dk_settings *settings, const struct dk_mem *mem)
{
    *settings = (struct dk_settings){.mem = mem};
}

void dk_settings_clear(struct dk_settings *settings)
{
    for (size_t i = 0; i < DK_OPT_COUNT; i++) {
        if (settings->value[i] != NULL && dk_options[i].secret) {
            memset(settings->value[i], 0, strlen(settings->value[i]));
        }
        dk_mem_free(settings->mem, settings->value[i]);
        settings->value[i] = NULL;
    }
    dk_mem_free(settings->mem, settings->file);
    settings->file = NULL;
}

static int find(const char *name)
{
    for (int i = 0; i < DK_OPT_COUNT; i++) {
        if (strcmp(dk_options[i].name, name) == 0) {
            return i;
        }
    }
    return -1;
}

/* Levenshtein distance, names are short. */
static size_t distance(const char *a, const char *b)
{
    size_t n = strlen(a), m = strlen(b);
    if (n > NAME_MAX_BYTES || m > NAME_MAX_BYTES) {
        return SIZE_MAX;
    }
    size_t row[NAME_MAX_BYTES + 1];
    for (size_t j = 0; j <= m; j++) {
        row[j] = j;
    }
    for (size_t i = 1; i <= n; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= m; j++) {
            size_t best = diagonal + (a[i - 1] != b[j - 1]);
            best = row[j] + 1 < best ? row[j] + 1 : best;
            best = row[j - 1] + 1 < best ? row[j - 1] + 1 : best;
            diagonal = row[j];
            row[j] = best;
        }
    }
    return row[m];
}

const char *dk_option_suggest(const char *name)
{
    const char *best = NULL;
    size_t least = 6; /* further away it is no slip of the hand */
    for (size_t i = 0; i < DK_OPT_COUNT; i++) {
        size_t d = distance(name, dk_options[i].name);
        if (d < least) {
            least = d;
            best = dk_options[i].name;
        }
    }
    return best;
}

static bool is_ours(const char *name)
{
    return strncmp(name, "KMS_", 4) == 0 || strncmp(name, "DEKHAND_", 8) == 0;
}

/* Names that the clouds' own programs read too. */
static bool is_of_a_cloud(const char *name)
{
    return strncmp(name, "AWS_", 4) == 0 || strncmp(name, "AZURE_", 6) == 0 ||
           strncmp(name, "IDENTITY_", 9) == 0;
}

/* KMS_PORT, KMS_PORT_8200_TCP_ADDR, KMS_X_SERVICE_HOST: made for every service by Kubernetes. */
static bool is_kubernetes(const char *name)
{
    const char *port = strstr(name, "_PORT");
    return strstr(name, "_SERVICE_HOST") != NULL || strstr(name, "_SERVICE_PORT") != NULL ||
           (port != NULL &&
            (port[5] == '\0' || (port[5] == '_' && port[6] >= '0' && port[6] <= '9')));
}

static dk_rc fail_unknown(const char *name, struct dk_err *err)
{
    const char *suggestion = dk_option_suggest(name);
    if (suggestion != NULL) {
        return DK_FAIL(err, CONFIG, "%.64s is not a setting; did you mean %s?", name, suggestion);
    }
    return DK_FAIL(err, CONFIG, "%.64s is not a setting; `dekhand config` lists them", name);
}

static dk_rc check_int(const struct dk_option *option, const char *value, struct dk_err *err)
{
    char *end = NULL;
    errno = 0;
    long long v = strtoll(value, &end, 10);
    bool plain = value[0] == '-' || (value[0] >= '0' && value[0] <= '9');
    if (!plain || *end != '\0' || errno != 0) {
        return DK_FAIL(err, CONFIG, "%s: not a whole number of %s", option->name, option->unit);
    }
    if (v < option->min) {
        return DK_FAIL(err, CONFIG, "%s: %lld is below %lld %s", option->name, v,
                       (long long)option->min, option->unit);
    }
    if (v > option->max) {
        return DK_FAIL(err, CONFIG, "%s: %lld is above %lld %s", option->name, v,
                       (long long)option->max, option->unit);
    }
    return DK_OK;
}

static dk_rc check_bool(const struct dk_option *option, const char *value, struct dk_err *err)
{
    bool known = strcasecmp(value, "true") == 0 || strcasecmp(value, "false") == 0 ||
                 strcmp(value, "1") == 0 || strcmp(value, "0") == 0;
    return known ? DK_OK : DK_FAIL(err, CONFIG, "%s: it is neither true nor false", option->name);
}

/* A setting that is none is told and passed over, where somebody asked for that. */
static dk_rc pass_over(const struct dk_settings *settings, dk_rc rc, struct dk_err *err)
{
    if (rc != DK_E_CONFIG || settings->fault == NULL) {
        return rc;
    }
    settings->fault(settings->fault_arg, err->text);
    dk_err_clear(err);
    return DK_OK;
}

static dk_rc set(struct dk_settings *settings, const char *name, const char *value,
                 enum dk_option_source source, struct dk_err *err)
{
    int i = find(name);
    if (i < 0) {
        return fail_unknown(name, err);
    }
    if (value[0] == '\0' && source != DK_FROM_FLAG && is_of_a_cloud(name)) {
        return DK_OK;
    }
    if (value[0] == '\0') {
        return DK_FAIL(err, CONFIG, "%s is empty: give it a value or leave it out", name);
    }
    if (dk_options[i].type == DK_OPT_INT) {
        DK_TRY(check_int(&dk_options[i], value, err));
    }
    if (dk_options[i].type == DK_OPT_BOOL) {
        DK_TRY(check_bool(&dk_options[i], value, err));
    }
    if (settings->value[i] != NULL && settings->source[i] > source) {
        return DK_OK;
    }
    char *copy = dk_mem_strdup(settings->mem, value);
    if (copy == NULL) {
        return DK_FAIL(err, NOMEM, "no memory for %s", name);
    }
    dk_mem_free(settings->mem, settings->value[i]);
    settings->value[i] = copy;
    settings->source[i] = source;
    return DK_OK;
}

dk_rc dk_settings_set(struct dk_settings *settings, const char *name, const char *value,
                      enum dk_option_source source, struct dk_err *err)
{
    return pass_over(settings, set(settings, name, value, source, err), err);
}

bool dk_debug_asks_for_kms(const char *debug)
{
    bool asked = false;
    while (*(debug += strspn(debug, ", ")) != '\0') {
        bool off = *debug == '-';
        const char *name = debug + off;
        debug += strcspn(debug, ", ");
        bool all = *name == '*' && name + 1 == debug;
        asked = all || strncmp(name, "kms:", 4) == 0 ? !off : asked;
    }
    return asked;
}

dk_rc dk_settings_read_environment(struct dk_settings *settings, char **environ_list,
                                   void (*warn)(void *arg, const char *name,
                                                const char *suggestion),
                                   void *arg, struct dk_err *err)
{
    for (; *environ_list != NULL; environ_list++) {
        const char *equals = strchr(*environ_list, '=');
        size_t n = equals != NULL ? (size_t)(equals - *environ_list) : 0;
        char name[NAME_MAX_BYTES + 1];
        if (n == 0 || n > NAME_MAX_BYTES) {
            continue;
        }
        memcpy(name, *environ_list, n);
        name[n] = '\0';
        if (find(name) >= 0) {
            if (strcmp(name, "DEBUG") == 0 && !dk_debug_asks_for_kms(equals + 1)) {
                continue; /* another program's DEBUG */
            }
            DK_TRY(dk_settings_set(settings, name, equals + 1, DK_FROM_ENVIRONMENT, err));
        } else if (is_ours(name) && !is_kubernetes(name) && warn != NULL) {
            warn(arg, name, dk_option_suggest(name));
        }
    }
    return DK_OK;
}

/* Takes off quotes, or a trailing comment and blanks. NULL: a quote is not closed. */
static char *unquote(char *value)
{
    char quote = value[0];
    if (quote == '"' || quote == '\'') {
        char *end = strchr(value + 1, quote);
        if (end == NULL) {
            return NULL;
        }
        *end = '\0';
        return value + 1;
    }
    for (char *p = value; *p != '\0'; p++) {
        if (*p == '#' && (p == value || p[-1] == ' ' || p[-1] == '\t')) {
            *p = '\0';
            break;
        }
    }
    size_t n = strlen(value);
    while (n > 0 && (value[n - 1] == ' ' || value[n - 1] == '\t' || value[n - 1] == '\r')) {
        value[--n] = '\0';
    }
    return value;
}

/* Cuts a line at its `=`: the value's first byte, or NULL when it is not NAME=value. */
static char *cut_name(char *line)
{
    char *equals = strchr(line, '=');
    size_t n = equals != NULL ? (size_t)(equals - line) : strlen(line);
    while (n > 0 && (line[n - 1] == ' ' || line[n - 1] == '\t' || line[n - 1] == '\r')) {
        n--;
    }
    line[n] = '\0';
    return equals != NULL ? equals + 1 + strspn(equals + 1, " \t") : NULL;
}

/* The end of another program's value: that of the line, or of the quote if it closes further on. */
static char *after_foreign(char *value, char *end, const char *text_end)
{
    char quote = value != NULL ? *value : '\0';
    if (quote != '"' && quote != '\'') {
        return end;
    }
    for (char *p = value + 1; p < text_end; p++) {
        if (*p == '\\' && quote == '"') {
            p++;
        } else if (*p == quote) {
            char *line_end = memchr(p, '\n', (size_t)(text_end - p));
            return p < end ? end : line_end;
        }
    }
    return end; /* never closed: nothing but the line is its own */
}

/*
 * Reads the line at `line`, which ends at `end` (a LF made NUL, or NULL: the last one). What other
 * programs keep in the file is passed over, whatever its form. *end moves on behind a value of
 * theirs that goes over several lines.
 */
static dk_rc read_line(struct dk_settings *settings, char *line, char **end, const char *text_end,
                       struct dk_err *err)
{
    line += strspn(line, " \t");
    if (strncmp(line, "export ", 7) == 0) {
        line += 7 + strspn(line + 7, " \t");
    }
    if (*line == '\0' || *line == '#' || *line == '\r') {
        return DK_OK;
    }
    char *value = cut_name(line);
    if (find(line) < 0 && !is_ours(line)) {
        *end = *end != NULL ? after_foreign(value, *end, text_end) : NULL;
        return DK_OK;
    }
    if (value == NULL) {
        return DK_FAIL(err, CONFIG, "a line of ours is NAME=value, this one has no `=`");
    }
    value = unquote(value);
    if (value == NULL) {
        return DK_FAIL(err, CONFIG, "%s: the quote is not closed", line);
    }
    if (strcmp(line, "DEBUG") == 0 && !dk_debug_asks_for_kms(value)) {
        return DK_OK;
    }
    return set(settings, line, value, DK_FROM_FILE, err);
}

static unsigned count_lines(const char *p, const char *end)
{
    unsigned n = 0;
    for (; p < end; p++) {
        n += *p == '\n';
    }
    return n;
}

static dk_rc read_lines(struct dk_settings *settings, const char *path, FILE *file, char *text,
                        struct dk_err *err)
{
    size_t n = fread(text, 1, FILE_MAX_BYTES, file);
    if (ferror(file)) {
        return DK_FAIL_BACKEND(err, IO, errno, "%s cannot be read", path);
    }
    if (n == FILE_MAX_BYTES || memchr(text, '\0', n) != NULL) {
        dk_rc rc =
            DK_FAIL(err, CONFIG, "%s is not a settings file: %s", path,
                    n == FILE_MAX_BYTES ? "it is larger than 256 KiB" : "it holds a NUL byte");
        return pass_over(settings, rc, err);
    }
    text[n] = '\0';
    unsigned number = 1;
    for (char *line = text; line != NULL;) {
        char *first = strchr(line, '\n'), *end = first;
        if (first != NULL) {
            *first = '\0';
        }
        struct dk_err cause;
        dk_err_clear(&cause);
        if (read_line(settings, line, &end, text + n, &cause) != DK_OK) {
            DK_TRY(pass_over(settings,
                             dk_err_set(err, cause.rc, __FILE__, __LINE__, "%s, line %u: %s", path,
                                        number, cause.text),
                             err));
        }
        number += first == NULL ? 0 : 1 + (end != NULL ? count_lines(first + 1, end + 1) : 0);
        line = end != NULL ? end + 1 : NULL;
    }
    return DK_OK;
}

dk_rc dk_settings_read_file(struct dk_settings *settings, const char *path, bool must_exist,
                            struct dk_err *err)
{
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        if (!must_exist && (errno == ENOENT || errno == ENOTDIR)) {
            return DK_OK;
        }
        dk_rc rc =
            DK_FAIL_BACKEND(err, CONFIG, errno, "%s cannot be opened: %s", path, strerror(errno));
        return pass_over(settings, rc, err);
    }
    char *text = dk_mem_alloc(settings->mem, FILE_MAX_BYTES + 1);
    dk_rc rc = text == NULL ? DK_FAIL(err, NOMEM, "no memory to read %s", path)
                            : read_lines(settings, path, file, text, err);
    fclose(file);
    if (text != NULL) {
        memset(text, 0, FILE_MAX_BYTES);
    }
    dk_mem_free(settings->mem, text);
    if (rc == DK_OK) {
        dk_mem_free(settings->mem, settings->file);
        settings->file = dk_mem_strdup(settings->mem, path);
    }
    return rc;
}

const char *dk_settings_str(const struct dk_settings *settings, enum dk_option_id id)
{
    return settings->value[id] != NULL ? settings->value[id] : dk_options[id].def;
}

int64_t dk_settings_int(const struct dk_settings *settings, enum dk_option_id id)
{
    return strtoll(dk_settings_str(settings, id), NULL, 10);
}

bool dk_settings_bool(const struct dk_settings *settings, enum dk_option_id id)
{
    const char *value = dk_settings_str(settings, id);
    return value != NULL && (strcasecmp(value, "true") == 0 || strcmp(value, "1") == 0);
}

bool dk_settings_is_set(const struct dk_settings *settings, enum dk_option_id id)
{
    return settings->value[id] != NULL;
}

dk_rc dk_settings_state_dir(const struct dk_settings *settings, char *out, struct dk_err *err)
{
    const char *set = dk_settings_str(settings, DK_OPT_STATE_DIR);
    const char *xdg = getenv("XDG_STATE_HOME");
    const char *home = getenv("HOME");
    if (set != NULL) {
        int n = snprintf(out, DK_PATH_MAX, "%s", set);
        return n < DK_PATH_MAX ? DK_OK : DK_FAIL(err, CONFIG, "KMS_STATE_DIR is too long");
    }
    if (xdg != NULL && xdg[0] == '/') {
        return dk_path_join(out, xdg, "dekhand", err);
    }
    if (home != NULL && home[0] == '/') {
        return dk_path_join(out, home, ".local/state/dekhand", err);
    }
    return DK_FAIL(err, CONFIG, "KMS_STATE_DIR is required: there is no HOME to put the state in");
}

dk_rc dk_settings_provider(const struct dk_settings *settings, const char **out, struct dk_err *err)
{
    bool aws = dk_settings_is_set(settings, DK_OPT_AWS_KMS_KEY_ID);
    bool azure = dk_settings_is_set(settings, DK_OPT_AZURE_KEY_VAULT_URL);
    const char *set = dk_settings_str(settings, DK_OPT_PROVIDER);
    if (set == NULL && aws && azure) {
        return DK_FAIL(err, CONFIG,
                       "KMS_PROVIDER is required: both AWS_KMS_KEY_ID and AZURE_KEY_VAULT_URL are "
                       "set (aws-kms or azure-key-vault)");
    }
    *out = set != NULL ? set : aws ? "aws-kms" : azure ? "azure-key-vault" : "local";
    return DK_OK;
}

/* ---- what may be shown of a URL -------------------------------------------------------------- */

#define MASK "********"

struct shown {
    char *out;
    size_t n, cap;
};

static void show(struct shown *shown, const char *text, size_t n)
{
    size_t room = shown->cap - 1 - shown->n;
    n = n > room ? room : n;
    memcpy(shown->out + shown->n, text, n);
    shown->n += n;
    shown->out[shown->n] = '\0';
}

/* The last of `c` in n bytes, or NULL. */
static const char *last_of(const char *text, size_t n, char c)
{
    while (n > 0 && text[n - 1] != c) {
        n--;
    }
    return n > 0 ? text + n - 1 : NULL;
}

/*
 * The user's part ends at the last @ before the path; where there is none, at the last one at all:
 * then a slash stands in the password, and it is no URL. Rather too much is hidden than too little.
 */
static const char *show_user(struct shown *shown, const char *from)
{
    const char *at = last_of(from, strcspn(from, "/"), '@');
    at = at != NULL ? at : last_of(from, strlen(from), '@');
    const char *colon = at != NULL ? memchr(from, ':', (size_t)(at - from)) : NULL;
    if (colon == NULL) {
        return from;
    }
    show(shown, from, (size_t)(colon + 1 - from));
    show(shown, MASK, strlen(MASK));
    return at;
}

/* A name may be written with %XX: such a one is not read, its value is hidden. */
static bool is_secret_name(const char *name, size_t n)
{
    static const char *const words[] = {"password", "secret", "_key", "%"};
    char small[64];
    size_t k = 0;
    for (; k < n && k < sizeof small - 1; k++) {
        small[k] = (char)(name[k] >= 'A' && name[k] <= 'Z' ? name[k] | 0x20 : name[k]);
    }
    small[k] = '\0';
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        if (strstr(small, words[i]) != NULL) {
            return true;
        }
    }
    return false;
}

/* name=value, between & of a query. */
static void show_query(struct shown *shown, const char *query)
{
    while (*query != '\0') {
        size_t n = strcspn(query, "&"), name = strcspn(query, "=&");
        if (name < n && is_secret_name(query, name)) {
            show(shown, query, name + 1);
            show(shown, MASK, strlen(MASK));
        } else {
            show(shown, query, n);
        }
        query += n;
        show(shown, query, *query == '&');
        query += *query == '&';
    }
}

void dk_url_shown(const char *url, char *out, size_t cap)
{
    struct shown shown = {.out = out, .cap = cap};
    const char *from = strstr(url, "://");
    out[0] = '\0';
    if (strncmp(url, "sqlite:", 7) == 0) {
        show(&shown, url, strlen(url));
    } else if (from == NULL) { /* no URL: words of libpq, or something mistyped */
        bool open = strpbrk(url, "@= ") == NULL;
        show(&shown, open ? url : MASK, open ? strlen(url) : strlen(MASK));
    } else {
        show(&shown, url, (size_t)(from + 3 - url));
        from = show_user(&shown, from + 3);
        size_t n = strcspn(from, "?");
        show(&shown, from, n + (from[n] == '?'));
        show_query(&shown, from + n + (from[n] == '?'));
    }
}
