/* dekhand config: every setting, its value, where it comes from. */
#include "cli/cli.h"

static const char *const source_names[] = {"default", "file", "environment", "flag"};

/* Secrets are never shown; a password inside a URL is not either. */
static void shown_value(const struct cli *cli, size_t i, char *out, size_t cap)
{
    const char *value = dk_settings_str(&cli->settings, (enum dk_option_id)i);
    if (value == NULL) {
        snprintf(out, cap, "%s", "");
        return;
    }
    if (dk_options[i].secret) {
        snprintf(out, cap, "%s", "********");
        return;
    }
    if (i == DK_OPT_DATABASE_URL || i == DK_OPT_MIGRATE_URL || strstr(value, "://") != NULL) {
        dk_url_shown(value, out, cap);
    } else {
        snprintf(out, cap, "%s", value);
    }
}

static const char *source_of(const struct cli *cli, size_t i)
{
    if (cli->settings.value[i] != NULL) {
        return source_names[cli->settings.source[i]];
    }
    return dk_options[i].def != NULL ? source_names[DK_FROM_DEFAULT] : "unset";
}

static void print_json(const struct cli *cli, struct cli_out *out)
{
    char value[4096];
    struct dk_json json = cli_out_json(out);
    dk_json_object(&json, NULL);
    dk_json_str(&json, "file", cli->settings.file);
    dk_json_array(&json, "settings");
    for (size_t i = 0; i < DK_OPT_COUNT; i++) {
        shown_value(cli, i, value, sizeof value);
        bool set = dk_settings_str(&cli->settings, (enum dk_option_id)i) != NULL;
        dk_json_object(&json, NULL);
        dk_json_str(&json, "name", dk_options[i].name);
        dk_json_str(&json, "value", set ? value : NULL);
        dk_json_str(&json, "source", source_of(cli, i));
        dk_json_str(&json, "unit", dk_options[i].unit);
        dk_json_str(&json, "help", dk_options[i].help);
        dk_json_end(&json, '}');
    }
    dk_json_end(&json, ']');
    dk_json_end(&json, '}');
    cli_out_str(out, "\n");
}

static void print_text(const struct cli *cli, struct cli_out *out)
{
    char value[4096];
    for (size_t i = 0; i < DK_OPT_COUNT; i++) {
        shown_value(cli, i, value, sizeof value);
        cli_out_printf(out, "%-28s %-24s %s\n", dk_options[i].name, value[0] ? value : "-",
                       source_of(cli, i));
        cli_out_printf(out, "    %s%s%s%s\n", dk_options[i].help, dk_options[i].unit[0] ? " (" : "",
                       dk_options[i].unit, dk_options[i].unit[0] ? ")" : "");
    }
    if (cli->settings.file != NULL) {
        cli_out_printf(out, "\nfile: %s\n", cli->settings.file);
    }
}

int cli_config_show(struct cli *cli)
{
    static struct cli_out out;
    int code = cli_out_open(&out, NULL);
    if (code != CLI_OK) {
        return code;
    }
    if (cli->json) {
        print_json(cli, &out);
    } else {
        print_text(cli, &out);
    }
    return cli_out_finish(&out);
}
