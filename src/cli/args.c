/* Options of a command from its table: --name value, --name=value, -x value. */
#include <stdlib.h>

#include "cli/cli.h"

static const struct cli_option *find_in(const struct cli_option *options, const char *name,
                                        size_t n)
{
    for (; options->name != NULL; options++) {
        if (strlen(options->name) == n && memcmp(options->name, name, n) == 0) {
            return options;
        }
    }
    return NULL;
}

static const struct cli_option *find_letter(const struct cli_option *options, char letter)
{
    for (; options->name != NULL; options++) {
        if (options->letter == letter) {
            return options;
        }
    }
    return NULL;
}

/* A setting given as a flag: kept under its environment name. NULL: there is none. */
static const struct dk_option *find_setting(const char *name, size_t n)
{
    for (size_t i = 0; i < DK_OPT_COUNT; i++) {
        const char *flag = dk_options[i].flag;
        if (flag != NULL && strlen(flag) == n && memcmp(flag, name, n) == 0) {
            return &dk_options[i];
        }
    }
    return NULL;
}

/* `said`: how the user writes it; a setting is kept under its environment name. */
static int add(struct cli *cli, const char *name, const char *said, const char *value, bool many)
{
    if (!many && cli_has(cli, name)) {
        return cli_usage("--%s is given twice", said);
    }
    if (cli->arg_count == CLI_ARGS_MAX) {
        return cli_usage("more than %d options", CLI_ARGS_MAX);
    }
    cli->args[cli->arg_count++] = (struct cli_arg){name, value};
    return CLI_OK;
}

struct word {
    const char *name;
    size_t n;
    const char *said;         /* the long name, as messages have it */
    const char *inline_value; /* after "=", or NULL */
};

static int take(struct cli *cli, const char *canonical, bool wants_value, bool many,
                const struct word *word, int argc, char **argv, int *i)
{
    const char *value = word->inline_value;
    if (!wants_value) {
        return value != NULL ? cli_usage("--%s takes no value", word->said)
                             : add(cli, canonical, word->said, "", many);
    }
    if (value == NULL) {
        if (*i + 1 >= argc) {
            return cli_usage("--%s wants a value", word->said);
        }
        value = argv[++*i];
    }
    return add(cli, canonical, word->said, value, many);
}

static int parse_one(struct cli *cli, int argc, char **argv, int *i)
{
    const char *text = argv[*i];
    const struct cli_option *option = NULL;
    struct word word = {0};
    if (text[0] != '-' || text[1] == '\0') {
        bool reads = find_in(cli->command->options, "csv", 3) != NULL;
        return reads ? cli_usage("`%s` is not an option: the input is standard input (`< %s`)",
                                 text, text)
                     : cli_usage("`%s` is not an option; `dekhand %s --help` lists them", text,
                                 cli->command->name);
    }
    if (text[1] == '-') {
        word.name = text + 2;
        word.n = strcspn(word.name, "=");
        word.inline_value = word.name[word.n] == '=' ? word.name + word.n + 1 : NULL;
        option = find_in(cli->command->options, word.name, word.n);
        option = option != NULL ? option : find_in(cli_common, word.name, word.n);
    } else {
        option = find_letter(cli->command->options, text[1]);
        option = option != NULL ? option : find_letter(cli_common, text[1]);
        word.inline_value = text[2] != '\0' ? text + 2 : NULL;
    }
    if (option != NULL) {
        word.said = option->name;
        return take(cli, option->name, option->arg != NULL, option->many, &word, argc, argv, i);
    }
    const struct dk_option *setting = word.name != NULL ? find_setting(word.name, word.n) : NULL;
    if (setting != NULL) {
        word.said = setting->flag;
        return take(cli, setting->name, true, false, &word, argc, argv, i);
    }
    return cli_usage("`dekhand %s%s%s` has no option `%.*s`; --help lists them", cli->command->name,
                     cli->command->sub != NULL ? " " : "",
                     cli->command->sub != NULL ? cli->command->sub : "", (int)strcspn(text, "="),
                     text);
}

int cli_parse(struct cli *cli, int argc, char **argv)
{
    for (int i = 0; i < argc; i++) {
        int code = parse_one(cli, argc, argv, &i);
        if (code != CLI_OK) {
            return code;
        }
    }
    return CLI_OK;
}

const char *cli_nth(const struct cli *cli, const char *name, size_t i)
{
    for (size_t k = 0; k < cli->arg_count; k++) {
        if (strcmp(cli->args[k].name, name) == 0 && i-- == 0) {
            return cli->args[k].value;
        }
    }
    return NULL;
}

const char *cli_get(const struct cli *cli, const char *name)
{
    return cli_nth(cli, name, 0);
}

bool cli_has(const struct cli *cli, const char *name)
{
    return cli_get(cli, name) != NULL;
}

const char *cli_need(const struct cli *cli, const char *name)
{
    const char *value = cli_get(cli, name);
    if (value == NULL) {
        cli_usage("--%s is required; `dekhand %s --help` tells more", name, cli->command->name);
    }
    return value;
}

bool cli_read_count(const char *text, unsigned long max, unsigned long *out)
{
    char *end = NULL;
    *out = strtoul(text, &end, 10);
    return text[0] >= '1' && text[0] <= '9' && *end == '\0' && *out <= max;
}

static void print_option(FILE *to, const char *name, char letter, const char *arg, const char *help)
{
    char left[64];
    snprintf(left, sizeof left, "%s%c%s--%s%s%s", letter ? "-" : "", letter ? letter : ' ',
             letter ? ", " : "   ", name, arg != NULL ? " " : "", arg != NULL ? arg : "");
    fprintf(to, "  %-32s %s\n", left, help);
}

void cli_help(FILE *to, const struct cli_command *command)
{
    fprintf(to, "dekhand %s%s%s: %s\n\n", command->name, command->sub != NULL ? " " : "",
            command->sub != NULL ? command->sub : "", command->summary);
    for (const struct cli_option *o = command->options; o->name != NULL; o++) {
        print_option(to, o->name, o->letter, o->arg, o->help);
    }
    for (const struct cli_option *o = cli_common; o->name != NULL; o++) {
        print_option(to, o->name, o->letter, o->arg, o->help);
    }
    fprintf(to, "\nSettings as flags (they win over the environment and the file):\n");
    for (size_t i = 0; i < DK_OPT_COUNT; i++) {
        const char *flag = dk_options[i].flag;
        if (flag != NULL && find_in(command->options, flag, strlen(flag)) == NULL) {
            print_option(to, dk_options[i].flag, 0, "VALUE", dk_options[i].name);
        }
    }
}
