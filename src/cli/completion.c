/*
 * dekhand completion bash|zsh|fish: a script made from the tables of commands, options, settings.
 *
 * The scripts know words only: they never run dekhand and never open a registry. What a value may
 * be stands in `values`; any other value is left to the user, a FILE excepted.
 */
#include "cli/cli.h"

enum kind { ANY, WORDS, FILES, FOLDERS };

struct value {
    const char *option; /* without the dashes; a setting's flag too */
    enum kind kind;
    const char *words;
};

static const struct value values[] = {
    {"operation", WORDS,
     "create rotate compromise export decrypt warning accept-restore cache-clear rekey "
     "rewrap prune disable enable tenant-set"},
    {"provider", WORDS, "local aws-kms azure-key-vault"},
    {"secondary-provider", WORDS, "local aws-kms azure-key-vault"},
    {"to", WORDS, "local aws-kms azure-key-vault"},
    {"drop", WORDS, "local aws-kms azure-key-vault"},
    {"log", WORDS, "text json"},
    {"format", WORDS, "text md html json"},
    {"state-dir", FOLDERS, ""},
    {"anchor-file", FILES, ""},
};

static struct value value_of(const char *option, const char *arg)
{
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        if (strcmp(values[i].option, option) == 0) {
            return values[i];
        }
    }
    return (struct value){option, strcmp(arg, "FILE") == 0 ? FILES : ANY, ""};
}

/* A settings flag as an option; its help is the setting's name. */
static struct cli_option flag_of(const struct dk_option *setting)
{
    return (struct cli_option){setting->flag, 0, "VALUE", false, setting->name};
}

/* The first entry of a command's name: there its second words are told once. */
static bool first_of_name(const struct cli_command *command)
{
    return command == cli_commands || strcmp(command[-1].name, command->name) != 0;
}

/* What a first word stands for that has second ones: `list, show, export`. */
static void put_second_words(struct cli_out *out, const struct cli_command *first)
{
    cli_out_str(out, first->sub);
    for (const struct cli_command *c = first + 1; c->name != NULL && !first_of_name(c); c++) {
        cli_out_printf(out, ", %s", c->sub);
    }
}

/* Writes a text with a backslash before each of `special`, and `quote` for a single quote. */
static void put_escaped(struct cli_out *out, const char *text, const char *special,
                        const char *quote)
{
    for (; *text != '\0'; text++) {
        if (*text == '\'') {
            cli_out_str(out, quote);
        } else {
            cli_out_printf(out, "%s%c", strchr(special, *text) != NULL ? "\\" : "", *text);
        }
    }
}

/* ---- bash ------------------------------------------------------------------------------------ */

static const char bash_head[] =
    "# Completion of dekhand in bash, made by `dekhand completion bash`.\n"
    "_dekhand()\n"
    "{\n"
    "    local cur=${COMP_WORDS[COMP_CWORD]} prev= command=${COMP_WORDS[1]} options= kind=\n"
    "    ((COMP_CWORD > 0)) && prev=${COMP_WORDS[COMP_CWORD - 1]}\n"
    "    if [[ $cur == = ]]; then # --name=value comes as three words\n"
    "        cur=\n"
    "    elif [[ $prev == = ]] && ((COMP_CWORD > 1)); then\n"
    "        prev=${COMP_WORDS[COMP_CWORD - 2]}\n"
    "    fi\n"
    "    COMPREPLY=()\n"
    "    if ((COMP_CWORD == 1)); then\n"
    "        command=\n"
    "    fi\n";

static const char bash_tail[] =
    "    case $kind in\n"
    "        any) return ;;\n"
    "        files)\n"
    "            compopt -o filenames 2>/dev/null\n"
    "            mapfile -t COMPREPLY < <(compgen -f -- \"$cur\")\n"
    "            return\n"
    "            ;;\n"
    "        folders)\n"
    "            compopt -o filenames 2>/dev/null\n"
    "            mapfile -t COMPREPLY < <(compgen -d -- \"$cur\")\n"
    "            return\n"
    "            ;;\n"
    "    esac\n"
    "    mapfile -t COMPREPLY < <(compgen -W \"$options\" -- \"$cur\")\n"
    "}\n"
    "complete -F _dekhand dekhand\n";

static void bash_value(struct cli_out *out, const struct cli_option *option)
{
    static const char *const kinds[] = {
        [ANY] = "any", [WORDS] = "words", [FILES] = "files", [FOLDERS] = "folders"};
    if (option->arg == NULL) {
        return;
    }
    struct value value = value_of(option->name, option->arg);
    cli_out_str(out, "                ");
    if (option->letter != 0) {
        cli_out_printf(out, "-%c | ", option->letter);
    }
    cli_out_printf(out, "--%s) kind=%s", option->name, kinds[value.kind]);
    if (value.kind == WORDS) {
        cli_out_printf(out, " options='%s'", value.words);
    }
    cli_out_str(out, " ;;\n");
}

static void bash_options(struct cli_out *out, const struct cli_option *options)
{
    for (const struct cli_option *o = options; o->name != NULL; o++) {
        cli_out_printf(out, " --%s", o->name);
        if (o->letter != 0) {
            cli_out_printf(out, " -%c", o->letter);
        }
    }
}

static void bash_command(struct cli_out *out, const struct cli_command *command)
{
    cli_out_printf(out, "        '%s%s%s')\n            options=\"", command->name,
                   command->sub != NULL ? " " : "", command->sub != NULL ? command->sub : "");
    bash_options(out, command->options);
    cli_out_str(out, " $common\"\n            case $prev in\n");
    for (const struct cli_option *o = command->options; o->name != NULL; o++) {
        bash_value(out, o);
    }
    cli_out_str(out, "            esac\n            ;;\n");
}

/* `keys`: then the second word belongs to the command's name, and may be what is asked for. */
static void bash_second_words(struct cli_out *out)
{
    cli_out_str(out, "    case $command in\n");
    for (const struct cli_command *c = cli_commands; c->name != NULL; c++) {
        if (c->sub == NULL) {
            continue;
        }
        if (first_of_name(c)) {
            cli_out_printf(out, "        %s)\n            options='", c->name);
        }
        cli_out_printf(out, " %s", c->sub);
        if (c[1].name == NULL || first_of_name(c + 1)) {
            cli_out_str(out, "'\n            ((COMP_CWORD == 2)) || "
                             "command=\"$command ${COMP_WORDS[2]}\"\n            ;;\n");
        }
    }
    cli_out_str(out, "    esac\n");
}

static void bash_script(struct cli_out *out)
{
    cli_out_str(out, bash_head);
    cli_out_str(out, "    local common='");
    bash_options(out, cli_common);
    for (size_t i = 0; i < DK_OPT_COUNT; i++) {
        if (dk_options[i].flag != NULL) {
            cli_out_printf(out, " --%s", dk_options[i].flag);
        }
    }
    cli_out_str(out, "'\n");
    bash_second_words(out);
    cli_out_str(out, "    case $command in\n        '') options='");
    for (const struct cli_command *c = cli_commands; c->name != NULL; c++) {
        if (first_of_name(c)) {
            cli_out_printf(out, "%s ", c->name);
        }
    }
    cli_out_str(out, "--help --version' ;;\n");
    for (const struct cli_command *c = cli_commands; c->name != NULL; c++) {
        bash_command(out, c);
    }
    cli_out_str(out, "    esac\n    [[ -z $command ]] || case $prev in\n");
    for (const struct cli_option *o = cli_common; o->name != NULL; o++) {
        bash_value(out, o);
    }
    for (size_t i = 0; i < DK_OPT_COUNT; i++) {
        if (dk_options[i].flag != NULL) {
            struct cli_option flag = flag_of(&dk_options[i]);
            bash_value(out, &flag);
        }
    }
    cli_out_str(out, "    esac\n");
    cli_out_str(out, bash_tail);
}

/* ---- zsh ------------------------------------------------------------------------------------- */

#define ZSH_SPECIAL "\\[]:"
#define ZSH_QUOTE "'\\''"

/* One word of _arguments: '(-o --output)'{-o+,--output=}'[help]:FILE:_files'. */
static void zsh_option(struct cli_out *out, const struct cli_option *option)
{
    static const char *const actions[] = {
        [ANY] = " ", [WORDS] = "", [FILES] = "_files", [FOLDERS] = "_files -/"};
    cli_out_str(out, "        ");
    if (option->letter != 0) {
        cli_out_printf(out, "'(-%c --%s)'{-%c%s,--%s%s}'", option->letter, option->name,
                       option->letter, option->arg != NULL ? "+" : "", option->name,
                       option->arg != NULL ? "=" : "");
    } else {
        cli_out_printf(out, "'%s--%s%s", option->many ? "*" : "", option->name,
                       option->arg != NULL ? "=" : "");
    }
    cli_out_str(out, "[");
    put_escaped(out, option->help, ZSH_SPECIAL, ZSH_QUOTE);
    cli_out_str(out, "]");
    if (option->arg != NULL) {
        struct value value = value_of(option->name, option->arg);
        cli_out_str(out, ":");
        put_escaped(out, option->arg, ZSH_SPECIAL, ZSH_QUOTE);
        cli_out_printf(out, value.kind == WORDS ? ":(%s)" : ":%s",
                       value.kind == WORDS ? value.words : actions[value.kind]);
    }
    cli_out_str(out, "'\n");
}

static void zsh_word(struct cli_out *out, const char *word, const char *help)
{
    cli_out_printf(out, "'%s:", word);
    put_escaped(out, help, "\\:", ZSH_QUOTE);
    cli_out_str(out, "'\n");
}

static void zsh_common(struct cli_out *out)
{
    cli_out_str(out, "    local -a commands common\n    common=(\n");
    for (const struct cli_option *o = cli_common; o->name != NULL; o++) {
        zsh_option(out, o);
    }
    for (size_t i = 0; i < DK_OPT_COUNT; i++) {
        if (dk_options[i].flag != NULL) {
            struct cli_option flag = flag_of(&dk_options[i]);
            zsh_option(out, &flag);
        }
    }
    cli_out_str(out, "    )\n");
}

static void zsh_first_words(struct cli_out *out)
{
    cli_out_str(out, "    if ((CURRENT == 2)); then\n        commands=(\n");
    for (const struct cli_command *c = cli_commands; c->name != NULL; c++) {
        if (c->sub == NULL) {
            cli_out_str(out, "            ");
            zsh_word(out, c->name, c->summary);
        } else if (first_of_name(c)) {
            cli_out_printf(out, "            '%s:", c->name);
            put_second_words(out, c);
            cli_out_str(out, "'\n");
        }
    }
    cli_out_str(out, "        )\n        _describe -t commands command commands\n"
                     "        return\n    fi\n    local command=$words[2]\n");
}

static void zsh_second_words(struct cli_out *out)
{
    cli_out_str(out, "    case $command in\n");
    for (const struct cli_command *c = cli_commands; c->name != NULL; c++) {
        if (c->sub == NULL) {
            continue;
        }
        if (first_of_name(c)) {
            cli_out_printf(out, "    (%s)\n        commands=(\n", c->name);
        }
        cli_out_str(out, "            ");
        zsh_word(out, c->sub, c->summary);
        if (c[1].name == NULL || first_of_name(c + 1)) {
            cli_out_str(out, "        )\n        if ((CURRENT == 3)); then\n"
                             "            _describe -t commands command commands\n"
                             "            return\n        fi\n"
                             "        command=\"$command $words[3]\"\n"
                             "        shift words\n        ((CURRENT--))\n        ;;\n");
        }
    }
    cli_out_str(out, "    esac\n    shift words\n    ((CURRENT--))\n");
}

static void zsh_script(struct cli_out *out)
{
    cli_out_str(out, "#compdef dekhand\n"
                     "# Completion of dekhand in zsh, made by `dekhand completion zsh`.\n"
                     "_dekhand() {\n");
    zsh_common(out);
    zsh_first_words(out);
    zsh_second_words(out);
    cli_out_str(out, "    local -a own\n    case $command in\n");
    for (const struct cli_command *c = cli_commands; c->name != NULL; c++) {
        cli_out_printf(out, "    ('%s%s%s')\n        own=(\n", c->name, c->sub != NULL ? " " : "",
                       c->sub != NULL ? c->sub : "");
        for (const struct cli_option *o = c->options; o->name != NULL; o++) {
            zsh_option(out, o);
        }
        cli_out_str(out, "        )\n        ;;\n");
    }
    cli_out_str(out, "    (*) return 1 ;;\n    esac\n    _arguments $own $common\n}\n"
                     "compdef _dekhand dekhand\n"
                     "if [[ $funcstack[1] == _dekhand ]]; then # found by compinit: asked for now\n"
                     "    _dekhand \"$@\"\nfi\n");
}

/* ---- fish ------------------------------------------------------------------------------------ */

static const char fish_head[] =
    "# Completion of dekhand in fish, made by `dekhand completion fish`.\n"
    "# The words before the cursor are these, and no more.\n"
    "function __dekhand_at\n"
    "    set -l words (commandline -opc)\n"
    "    set -e words[1]\n"
    "    test \"$words\" = \"$argv\"\n"
    "end\n"
    "# The line begins with these words.\n"
    "function __dekhand_in\n"
    "    set -l words (commandline -opc)\n"
    "    set -l n (math (count $argv) + 1)\n"
    "    test (count $words) -ge $n; and test \"$words[2..$n]\" = \"$argv\"\n"
    "end\n"
    "complete -c dekhand -f\n"
    "complete -c dekhand -n __dekhand_at -l help -l version\n";

static void fish_words(struct cli_out *out, const char *before, const char *word, const char *help)
{
    cli_out_printf(out, "complete -c dekhand -n '__dekhand_at%s%s' -a %s -d '",
                   before[0] != '\0' ? " " : "", before, word);
    put_escaped(out, help, "\\", "\\'");
    cli_out_str(out, "'\n");
}

/* `where`: the condition, of a command or of every one. */
static void fish_option(struct cli_out *out, const char *where, const struct cli_option *option)
{
    cli_out_printf(out, "complete -c dekhand -n '%s' -l %s", where, option->name);
    if (option->letter != 0) {
        cli_out_printf(out, " -s %c", option->letter);
    }
    if (option->arg != NULL) {
        struct value value = value_of(option->name, option->arg);
        switch (value.kind) {
        case ANY:
            cli_out_str(out, " -x");
            break;
        case WORDS:
            cli_out_printf(out, " -x -a '%s'", value.words);
            break;
        case FILES:
            cli_out_str(out, " -r -F");
            break;
        case FOLDERS:
            cli_out_str(out, " -x -a '(__fish_complete_directories)'");
            break;
        }
    }
    cli_out_str(out, " -d '");
    put_escaped(out, option->help, "\\", "\\'");
    cli_out_str(out, "'\n");
}

static void fish_command(struct cli_out *out, const struct cli_command *command)
{
    char where[96];
    snprintf(where, sizeof where, "__dekhand_in %s%s%s", command->name,
             command->sub != NULL ? " " : "", command->sub != NULL ? command->sub : "");
    if (command->sub == NULL) {
        fish_words(out, "", command->name, command->summary);
    } else if (first_of_name(command)) {
        cli_out_printf(out, "complete -c dekhand -n __dekhand_at -a %s -d '", command->name);
        put_second_words(out, command);
        cli_out_str(out, "'\n");
    }
    if (command->sub != NULL) {
        fish_words(out, command->name, command->sub, command->summary);
    }
    for (const struct cli_option *o = command->options; o->name != NULL; o++) {
        fish_option(out, where, o);
    }
}

static void fish_script(struct cli_out *out)
{
    static const char everywhere[] = "not __dekhand_at";
    cli_out_str(out, fish_head);
    for (const struct cli_command *c = cli_commands; c->name != NULL; c++) {
        fish_command(out, c);
    }
    for (const struct cli_option *o = cli_common; o->name != NULL; o++) {
        fish_option(out, everywhere, o);
    }
    for (size_t i = 0; i < DK_OPT_COUNT; i++) {
        if (dk_options[i].flag != NULL) {
            struct cli_option flag = flag_of(&dk_options[i]);
            fish_option(out, everywhere, &flag);
        }
    }
}

/* ---- the command ----------------------------------------------------------------------------- */

static const struct {
    const char *name;
    void (*write)(struct cli_out *out);
} shells[] = {{"bash", bash_script}, {"zsh", zsh_script}, {"fish", fish_script}};

int cli_completion(struct cli *cli)
{
    static struct cli_out out;
    int code = cli_out_open(&out, NULL);
    if (code != CLI_OK) {
        return code;
    }
    for (size_t i = 0; i < sizeof shells / sizeof shells[0]; i++) {
        if (strcmp(shells[i].name, cli->command->sub) == 0) {
            shells[i].write(&out);
        }
    }
    return cli_out_finish(&out);
}
