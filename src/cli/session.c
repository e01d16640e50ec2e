/* Settings, the open library, and how errors are said. */
#include <pwd.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/log.h"
#include "cli/cli.h"

extern char **environ;

/* ---- saying ---------------------------------------------------------------------------------- */

/* What a user or a file gave must not steer a terminal: controls and broken UTF-8 become `?`. */
void cli_make_printable(char *text)
{
    size_t n = strlen(text);
    for (size_t i = 0; i < n;) {
        unsigned char c = (unsigned char)text[i];
        size_t len = c >= 0xF0 ? 4 : c >= 0xE0 ? 3 : c >= 0x80 ? 2 : 1;
        if ((len == 1 && c >= 0x20 && c != 0x7F) || c == '\n' ||
            (len > 1 && len <= n - i && dk_utf8_valid((const uint8_t *)text + i, len))) {
            i += len;
        } else {
            text[i++] = '?';
        }
    }
}

static void DK_PRINTF(2, 0) say_v(const char *prefix, const char *format, va_list args)
{
    char text[2048];
    int n = snprintf(text, sizeof text - 1, "%s", prefix);
    vsnprintf(text + n, sizeof text - 1 - (size_t)n, format, args);
    cli_make_printable(text);
    size_t len = strlen(text);
    text[len++] = '\n';
    struct dk_err ignored;
    dk_err_clear(&ignored);
    dk_rc rc = dk_fd_write(STDERR_FILENO, text, len, &ignored);
    (void)rc;
}

void cli_say(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    say_v("", format, args);
    va_end(args);
}

int cli_usage(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    say_v("dekhand: ", format, args);
    va_end(args);
    return CLI_USAGE;
}

int cli_exit_code(int code)
{
    return code == DEKHAND_OK ? CLI_OK : dk_error_info((dk_rc)code)->exit_code;
}

const char *cli_error_text(const struct dekhand_error *error)
{
    bool uniform = error->code == DEKHAND_E_AUTH || error->code == DEKHAND_E_WRONG_KEY;
    return uniform ? dk_error_info((dk_rc)error->code)->text : error->text;
}

int cli_tell_tampered(size_t rows)
{
    if (rows == 0) {
        return CLI_OK;
    }
    cli_say("dekhand: %zu rows do not carry their MAC: they are not used (E_TAMPERED)", rows);
    return CLI_ATTENTION;
}

int cli_fail(const struct cli *cli, const struct dekhand_error *error)
{
    const struct dk_error_info *info = dk_error_info((dk_rc)error->code);
    (void)cli;
    cli_say("dekhand: %s: %s\n  what to do: %s", info->outward, cli_error_text(error), info->todo);
    return info->exit_code;
}

int cli_fail_internal(const struct cli *cli, const struct dk_err *err)
{
    struct dekhand_error error = {.code = (int)err->rc};
    snprintf(error.text, sizeof error.text, "%s", err->text);
    return cli_fail(cli, &error);
}

/* ---- settings -------------------------------------------------------------------------------- */

static void warn_unknown(void *arg, const char *name, const char *suggestion)
{
    (void)arg;
    cli_say(suggestion != NULL
                ? "dekhand: warning: %s in the environment is not a setting; did you "
                  "mean %s?"
                : "dekhand: warning: %s in the environment is not a setting%s",
            name, suggestion != NULL ? suggestion : "");
}

static dk_rc load_file(struct cli *cli, struct dk_err *err)
{
    const char *named = cli_get(cli, "env-file");
    if (named != NULL) {
        return dk_settings_read_file(&cli->settings, named, true, err);
    }
    DK_TRY(dk_settings_read_file(&cli->settings, ".env", false, err));
    if (cli->settings.file == NULL) {
        return dk_settings_read_file(&cli->settings, "/etc/dekhand/dekhand.env", false, err);
    }
    return DK_OK;
}

/* Whoever is on this machine reads arguments. */
static dk_rc refuse_password(const struct dk_option *option, const char *value, struct dk_err *err)
{
    char shown[DK_PATH_MAX];
    dk_url_shown(value, shown, sizeof shown);
    bool url =
        option == &dk_options[DK_OPT_DATABASE_URL] || option == &dk_options[DK_OPT_MIGRATE_URL];
    return !url || strncmp(value, shown, sizeof shown - 1) == 0
               ? DK_OK
               : DK_FAIL(err, USAGE,
                         "--%s: every user of this machine can read a password there: set %s in "
                         "the environment or a file, or put the password into ~/.pgpass",
                         option->flag, option->name);
}

static dk_rc load_all(struct cli *cli, struct dk_err *err)
{
    DK_TRY(load_file(cli, err));
    DK_TRY(dk_settings_read_environment(&cli->settings, environ, warn_unknown, NULL, err));
    for (size_t i = 0; i < cli->arg_count; i++) {
        for (size_t k = 0; k < DK_OPT_COUNT; k++) {
            if (cli->args[i].name == dk_options[k].name) {
                DK_TRY(refuse_password(&dk_options[k], cli->args[i].value, err));
                DK_TRY(dk_settings_set(&cli->settings, dk_options[k].name, cli->args[i].value,
                                       DK_FROM_FLAG, err));
            }
        }
    }
    return DK_OK;
}

static void keep_fault(void *arg, const char *text)
{
    struct cli *cli = arg;
    char *copy = cli->fault_count < CLI_FAULTS_MAX ? strdup(text) : NULL;
    if (copy != NULL) {
        cli->fault[cli->fault_count++] = copy;
    }
}

int cli_load_settings(struct cli *cli)
{
    struct dk_err err;
    dk_err_clear(&err);
    if (cli->command->looks) {
        cli->settings.fault = keep_fault;
        cli->settings.fault_arg = cli;
    }
    return load_all(cli, &err) == DK_OK ? CLI_OK : cli_fail_internal(cli, &err);
}

/* ---- the library ----------------------------------------------------------------------------- */

static void log_line(void *arg, enum dekhand_log_level level, const char *line, size_t length)
{
    dk_log_to_stderr(arg, (enum dk_log_level)level, line, length);
}

struct dekhand_config cli_config(struct cli *cli, struct dekhand_setting *list)
{
    size_t n = 0;
    for (size_t i = 0; i < DK_OPT_COUNT; i++) {
        if (cli->settings.value[i] != NULL) {
            list[n++] = (struct dekhand_setting){dk_options[i].name, cli->settings.value[i]};
        }
    }
    const struct passwd *user = getpwuid(geteuid());
    if (user != NULL) {
        snprintf(cli->actor, sizeof cli->actor, "cli:%.64s", user->pw_name);
    } else {
        snprintf(cli->actor, sizeof cli->actor, "cli:%u", (unsigned)geteuid());
    }
    return (struct dekhand_config){.size = sizeof(struct dekhand_config),
                                   .settings = list,
                                   .setting_count = n,
                                   .ignore_environment = true,
                                   .actor = cli->actor,
                                   .log = log_line,
                                   .faults = cli->fault,
                                   .fault_count = cli->fault_count};
}

/* A setting that nobody typed just now: where it was found, and the flag that wins over it. */
static void say_source(const struct cli *cli, const struct dekhand_error *error)
{
    static const struct {
        enum dk_option_id id;
        const char *example;
    } told[] = {{DK_OPT_DATABASE_URL, "sqlite:PATH"}, {DK_OPT_PROVIDER, "local"}};
    for (size_t i = 0; error->code == DEKHAND_E_CONFIG && i < sizeof told / sizeof told[0]; i++) {
        const struct dk_option *option = &dk_options[told[i].id];
        enum dk_option_source source = cli->settings.source[told[i].id];
        bool found = source == DK_FROM_FILE || source == DK_FROM_ENVIRONMENT;
        if (found && cli->settings.value[told[i].id] != NULL &&
            strncmp(error->text, option->name, strlen(option->name)) == 0) {
            cli_say("  %s comes from %s; `--%s %s` wins over it", option->name,
                    source == DK_FROM_ENVIRONMENT ? "the environment"
                    : cli->settings.file != NULL  ? cli->settings.file
                                                  : "a file",
                    option->flag, told[i].example);
        }
    }
}

int cli_open_quietly(struct cli *cli, struct dekhand_error *error)
{
    struct dekhand_setting list[DK_OPT_COUNT];
    struct dekhand_config config = cli_config(cli, list);
    return dekhand_open(&config, &cli->library, error);
}

int cli_open(struct cli *cli)
{
    struct dekhand_error error;
    if (cli_open_quietly(cli, &error) != DEKHAND_OK) {
        int code = cli_fail(cli, &error);
        say_source(cli, &error);
        return code;
    }
    return CLI_OK;
}

int cli_close(struct cli *cli, int code)
{
    struct dekhand_error error;
    if (dekhand_close(cli->library, &error) != DEKHAND_OK) {
        /* The work is done; only the message budget does not know of it. */
        cli_say("dekhand: warning: the message counts could not be written: %s", error.text);
    }
    cli->library = NULL;
    return code;
}

/* ---- contexts -------------------------------------------------------------------------------- */

int cli_context_read(const struct cli *cli, struct cli_context *out)
{
    *out = (struct cli_context){.count = 0};
    for (const char *text; (text = cli_nth(cli, "context", out->count)) != NULL; out->count++) {
        if (out->count == 16) {
            cli_context_free(out);
            return cli_usage("a context has at most 16 pairs");
        }
        char *copy = strdup(text);
        char *equals = copy != NULL ? strchr(copy, '=') : NULL;
        out->storage[out->count] = copy;
        if (equals == NULL || equals == copy) {
            out->count += copy != NULL;
            cli_context_free(out);
            return cli_usage("--context wants NAME=VALUE, not `%s`", text);
        }
        *equals = '\0';
        out->pairs[out->count] = (struct dekhand_pair){copy, equals + 1};
    }
    return CLI_OK;
}

void cli_context_free(struct cli_context *context)
{
    for (size_t i = 0; i < context->count; i++) {
        free(context->storage[i]);
    }
    context->count = 0;
}
