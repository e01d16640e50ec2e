/*
 * Any words behind a command: refused with one line, or options of the tables alone, each with a
 * value that stands in one of the words. The input is the words with a NUL after each.
 */
#include <stdarg.h>
#include <stdlib.h>

#include "cli/cli.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define WORDS 80

static const struct cli_option options[] = {
    {"tenant", 0, "ID", false, "one value"},     {"context", 0, "NAME=VALUE", true, "many values"},
    {"csv", 0, NULL, false, "a switch"},         {"output", 'o', "FILE", false, "a letter"},
    {"all", 'a', NULL, false, "a short switch"}, {NULL, 0, NULL, false, NULL},
};
const struct cli_option cli_common[] = {
    {"json", 0, NULL, false, "a switch"},
    {"help", 'h', NULL, false, "a short switch"},
    {NULL, 0, NULL, false, NULL},
};
static const struct cli_command command = {"encrypt", NULL, "any", options, NULL, false};
static unsigned said;

int cli_usage(const char *format, ...)
{
    char text[2048];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    said += n > 0;
    return CLI_USAGE;
}

static bool stands_in(const struct cli_arg *arg, char **words, int count)
{
    for (int i = 0; i < count; i++) {
        if (arg->value >= words[i] && arg->value <= words[i] + strlen(words[i])) {
            return true;
        }
    }
    return arg->value[0] == '\0'; /* a switch */
}

static bool is_option(const char *name)
{
    for (size_t i = 0; i < DK_OPT_COUNT; i++) {
        if (name == dk_options[i].name) {
            return true;
        }
    }
    for (const struct cli_option *o = options; o->name != NULL; o++) {
        if (name == o->name) {
            return true;
        }
    }
    return name == cli_common[0].name || name == cli_common[1].name;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct cli cli;
    char *text = malloc(size + 1), *words[WORDS];
    int count = 0;
    if (text == NULL) {
        abort();
    }
    if (size > 0) {
        memcpy(text, data, size);
    }
    text[size] = '\0';
    for (size_t at = 0; at < size && count < WORDS; at += strlen(text + at) + 1) {
        words[count++] = text + at;
    }
    cli = (struct cli){.command = &command};
    said = 0;
    int code = cli_parse(&cli, count, words);
    if ((code == CLI_OK) != (said == 0) || said > 1 || (code != CLI_OK && code != CLI_USAGE) ||
        cli.arg_count > CLI_ARGS_MAX) {
        abort();
    }
    for (size_t i = 0; i < cli.arg_count; i++) {
        const struct cli_arg *arg = &cli.args[i];
        if (!is_option(arg->name) || !stands_in(arg, words, count) || !cli_has(&cli, arg->name) ||
            (cli_nth(&cli, arg->name, 1) != NULL && strcmp(arg->name, "context") != 0)) {
            abort();
        }
    }
    free(text);
    return 0;
}
