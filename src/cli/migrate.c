/* dekhand migrate: the registry's schema, made or printed. */
#include "cli/cli.h"

static void put(void *arg, const char *text, size_t length)
{
    cli_out_write(arg, text, length);
}

static void print_json(const struct dekhand_migration *m, struct cli_out *out)
{
    struct dk_json json = cli_out_json(out);
    dk_json_object(&json, NULL);
    dk_json_str(&json, "registryId", m->registry_id);
    dk_json_str(&json, "database", m->database);
    dk_json_int(&json, "from", m->from);
    dk_json_int(&json, "to", m->to);
    dk_json_end(&json, '}');
    cli_out_str(out, "\n");
}

static void print_text(const struct dekhand_migration *m, struct cli_out *out)
{
    if (m->from == m->to) {
        cli_out_printf(out, "Schema %u is there already, as this version makes it.\n\n", m->to);
    } else if (m->from == 0) {
        cli_out_printf(out, "Schema %u was made. `dekhand init` gives the registry its key.\n\n",
                       m->to);
    } else {
        cli_out_printf(out, "The schema was brought from %u to %u.\n\n", m->from, m->to);
    }
    cli_out_printf(out, "  registry      %s\n  database      %s\n", m->registry_id, m->database);
}

int cli_migrate(struct cli *cli)
{
    static struct cli_out out;
    struct dekhand_setting list[DK_OPT_COUNT];
    struct dekhand_config config = cli_config(cli, list);
    struct dekhand_migration done = {.size = sizeof done};
    struct dekhand_error error;
    bool script = cli_has(cli, "print");
    if (cli_has(cli, "supabase") && !script) {
        return cli_usage("--supabase wants --print");
    }
    if (script && cli->json) {
        return cli_usage("--print is SQL: it has no --json");
    }
    int code = cli_out_open(&out, NULL);
    if (code != CLI_OK) {
        return code;
    }
    int rc = script ? dekhand_migrate_script(&config, cli_has(cli, "supabase"), put, &out, &error)
                    : dekhand_migrate(&config, &done, &error);
    if (rc != DEKHAND_OK) {
        cli_out_abandon(&out);
        return cli_fail(cli, &error);
    }
    if (!script && cli->json) {
        print_json(&done, &out);
    } else if (!script) {
        print_text(&done, &out);
    }
    return cli_out_finish(&out);
}
