/* dekhand registry show, rekey and accept-restore. */
#include "cli/cli.h"

static void show_json(const struct dekhand_registry_info *info, struct cli_out *out)
{
    struct dk_json json = cli_out_json(out);
    dk_json_object(&json, NULL);
    dk_json_str(&json, "registryId", info->id);
    dk_json_time(&json, "createdAt", info->created_at);
    dk_json_int(&json, "schemaVersion", info->schema_version);
    dk_json_str(&json, "provider", info->provider);
    dk_json_str(&json, "kmsKeyId", info->kms_key_id);
    dk_json_str(&json, "registryPin", info->pin);
    dk_json_str(&json, "database", info->database);
    dk_json_str(&json, "anchorFile", info->anchor);
    if (info->anchor_seal == 0) {
        dk_json_null(&json, "anchorSeal");
    } else {
        dk_json_int(&json, "anchorSeal", info->anchor_seal);
    }
    dk_json_int(&json, "newestSeal", info->newest_seal);
    dk_json_bool(&json, "older", info->older);
    dk_json_int(&json, "generation", info->generation);
    dk_json_bool(&json, "rekeying", info->rekeying);
    if (info->rekeyed_at == DK_TIME_NONE) {
        dk_json_null(&json, "rekeyedAt");
    } else {
        dk_json_time(&json, "rekeyedAt", info->rekeyed_at);
    }
    cli_json_text(&json, "rekeyedBy", info->rekeyed_by);
    dk_json_end(&json, '}');
    cli_out_str(out, "\n");
}

static void show_rekey(const struct dekhand_registry_info *info, struct cli_out *out)
{
    char when[DK_TIME_TEXT];
    if (info->rekeyed_at != DK_TIME_NONE) {
        dk_time_format(info->rekeyed_at, when);
        cli_out_printf(out, "  registry key  number %u, of %s%s%s\n", info->generation, when,
                       info->rekeyed_by[0] != '\0' ? ", by " : "", info->rekeyed_by);
    }
}

static void show_text(const struct dekhand_registry_info *info, struct cli_out *out)
{
    char created[DK_TIME_TEXT];
    dk_time_format(info->created_at, created);
    cli_out_printf(out, "  registry      %s, schema %u, of %s\n", info->id, info->schema_version,
                   created);
    cli_out_printf(out, "  database      %s\n", info->database);
    cli_out_printf(out, "  wrapped by    %s, %s\n", info->provider, info->kms_key_id);
    cli_out_printf(out, "  registry pin  %s\n", info->pin);
    show_rekey(info, out);
    cli_out_printf(out, "  seals         %lld\n", (long long)info->newest_seal);
    if (info->anchor_seal == 0) {
        cli_out_printf(out, "  anchor        none (%s): an older copy would not be noticed\n",
                       info->anchor);
    } else {
        cli_out_printf(out, "  anchor        seal %lld, in %s\n", (long long)info->anchor_seal,
                       info->anchor);
    }
    if (info->rekeying) {
        cli_out_printf(out, "\nA rekey is unfinished: all works, and the key before is believed in "
                            "rows that have not\nmoved. Go on with it:\n    dekhand registry "
                            "rekey\n");
    }
    if (info->older) {
        cli_out_printf(out,
                       "\nThe registry is older than the anchor: a copy of another time was put "
                       "back. Nothing is\nencrypted; what its key versions sealed still opens. "
                       "Restore the newest copy. If there is\nnone, take it as it stands, and know "
                       "that values sealed under later versions are lost:\n"
                       "    dekhand registry accept-restore --confirm %s\n",
                       info->id);
    }
}

static int show(struct cli *cli)
{
    static struct cli_out out;
    struct dekhand_registry_info info = {.size = sizeof info};
    struct dekhand_error error;
    if (dekhand_registry(cli->library, &info, &error) != DEKHAND_OK) {
        return cli_fail(cli, &error);
    }
    int code = cli_out_open(&out, NULL);
    if (code != CLI_OK) {
        return code;
    }
    if (cli->json) {
        show_json(&info, &out);
    } else {
        show_text(&info, &out);
    }
    code = cli_out_finish(&out);
    return code == CLI_OK && info.older ? CLI_ATTENTION : code;
}

int cli_registry_show(struct cli *cli)
{
    int code = cli_open(cli);
    return code == CLI_OK ? cli_close(cli, show(cli)) : code;
}

struct rekey {
    bool told;
    struct cli_progress progress;
};

/* The pin is told before the first row moves: who is cut short then has it already. */
static void rekey_progress(void *arg, const struct dekhand_rekey *so_far)
{
    struct rekey *seen = arg;
    if (!seen->told) {
        cli_say("dekhand: registry key %u %s; its pin is %s", so_far->generation,
                so_far->begun ? "is made" : "was made before, going on with it", so_far->pin);
    }
    seen->told = true;
    cli_progress_show(&seen->progress, 0, so_far->tenants + so_far->keys);
}

static void rekey_json(const struct dekhand_rekey *done, struct cli_out *out)
{
    struct dk_json json = cli_out_json(out);
    dk_json_object(&json, NULL);
    dk_json_int(&json, "generation", done->generation);
    dk_json_str(&json, "registryPin", done->pin);
    dk_json_bool(&json, "begun", done->begun);
    dk_json_int(&json, "tenants", done->tenants);
    dk_json_int(&json, "keys", done->keys);
    dk_json_int(&json, "damaged", done->damaged);
    dk_json_end(&json, '}');
    cli_out_str(out, "\n");
}

static int rekey(struct cli *cli)
{
    static struct cli_out out;
    struct rekey seen = {.told = false};
    struct dekhand_rekey done = {.size = sizeof done};
    struct dekhand_error error;
    cli_progress_start(&seen.progress, -1);
    int rc = dekhand_registry_rekey(cli->library, cli_has(cli, "leave-damaged"), rekey_progress,
                                    &seen, &done, &error);
    cli_progress_end(&seen.progress);
    if (rc != DEKHAND_OK) {
        return cli_fail(cli, &error);
    }
    int code = cli_out_open(&out, NULL);
    if (code == CLI_OK && cli->json) {
        rekey_json(&done, &out);
    } else if (code == CLI_OK) {
        cli_out_printf(
            &out,
            "The registry has key %u; the rows of %lld tenants and %lld key versions are "
            "under it. Running\nprocesses follow by themselves. Where KMS_REGISTRY_PIN is "
            "set, set it to the new pin:\n    %s\n",
            done.generation, (long long)done.tenants, (long long)done.keys, done.pin);
    }
    return code == CLI_OK ? cli_out_finish(&out) : code;
}

int cli_registry_rekey(struct cli *cli)
{
    int code = cli_open(cli);
    return code == CLI_OK ? cli_close(cli, rekey(cli)) : code;
}

static int accept(struct cli *cli, const char *confirm)
{
    static struct cli_out out;
    struct dekhand_error error;
    int64_t tenants = 0;
    if (dekhand_registry_accept_restore(cli->library, confirm, &tenants, &error) != DEKHAND_OK) {
        return cli_fail(cli, &error);
    }
    int code = cli_out_open(&out, NULL);
    if (code == CLI_OK && cli->json) {
        struct dk_json json = cli_out_json(&out);
        dk_json_object(&json, NULL);
        dk_json_str(&json, "registryId", confirm);
        dk_json_int(&json, "tenants", tenants);
        dk_json_end(&json, '}');
        cli_out_str(&out, "\n");
    } else if (code == CLI_OK) {
        cli_out_printf(&out,
                       "The registry is taken as it stands; the key rows of %lld tenants were not "
                       "those of their\nlast change. Versions that were made after this copy are "
                       "lost: rotate every tenant now,\n`dekhand rotate --all`.\n",
                       (long long)tenants);
    }
    return code == CLI_OK ? cli_out_finish(&out) : code;
}

int cli_registry_accept(struct cli *cli)
{
    const char *confirm = cli_need(cli, "confirm");
    if (confirm == NULL) {
        return CLI_USAGE;
    }
    int code = cli_open(cli);
    return code == CLI_OK ? cli_close(cli, accept(cli, confirm)) : code;
}
