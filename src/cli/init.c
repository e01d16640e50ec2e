/* dekhand init: the registry, and the master key where it is local; what is missing of them. */
#include <unistd.h>

#include "cli/cli.h"

static void print_json(const struct dekhand_init_result *r, struct cli_out *out)
{
    struct dk_json json = cli_out_json(out);
    dk_json_object(&json, NULL);
    dk_json_bool(&json, "madeMasterKey", r->made_master_key);
    dk_json_bool(&json, "madeRegistry", r->made_registry);
    dk_json_str(&json, "registryPin", r->pin);
    dk_json_str(&json, "kmsKeyId", r->kms_key_id);
    dk_json_str(&json, "database", r->database);
    dk_json_str(&json, "masterKeyFile", r->master_key[0] != '\0' ? r->master_key : NULL);
    dk_json_end(&json, '}');
    cli_out_str(out, "\n");
}

static void print_text(const struct dekhand_init_result *r, struct cli_out *out)
{
    const char *head =
        r->made_registry ? "A new registry is ready." : "The registry is there, and its key opens.";
    cli_out_printf(out, "%s\n\n", head);
    cli_out_printf(out, "  registry      %s\n", r->database);
    bool local = r->master_key[0] != '\0';
    if (local) {
        cli_out_printf(out, "  master key    %s%s\n", r->master_key,
                       r->made_master_key ? " (new)" : "");
    }
    cli_out_printf(out, "  %s    %s\n", local ? "key id    " : "master key", r->kms_key_id);
    cli_out_printf(out, "  registry pin  %s\n\n", r->pin);
    if (!local) {
        cli_out_printf(out,
                       "Keep copies of the registry in two places that do not fail together, and "
                       "see to it\nthat nobody can delete the master key (`dekhand doctor "
                       "--print-policy`): without either\nevery value is lost for ever. Set "
                       "KMS_REGISTRY_PIN to the pin, so that a forged registry\nis refused.\n");
        return;
    }
    cli_out_printf(out,
                   "Keep safe, in two places that do not fail together: the master key file and "
                   "copies of\nthe registry. Without the master key every value is lost for ever. "
                   "Set KMS_REGISTRY_PIN\nto the pin, so that a forged registry is refused.\n");
}

int cli_init(struct cli *cli)
{
    static struct cli_out out;
    struct dekhand_setting list[DK_OPT_COUNT];
    struct dekhand_config config = cli_config(cli, list);
    struct dekhand_init_result result;
    struct dekhand_error error;
    if (dekhand_init(&config, &result, &error) != DEKHAND_OK) {
        return cli_fail(cli, &error);
    }
    int code = cli_out_open(&out, NULL);
    if (code != CLI_OK) {
        return code;
    }
    if (geteuid() == 0) {
        cli_say("dekhand: warning: running as root: the keys belong to root now; an ordinary user "
                "for the application is safer");
    }
    if (cli->json) {
        print_json(&result, &out);
    } else {
        print_text(&result, &out);
    }
    return cli_out_finish(&out);
}
