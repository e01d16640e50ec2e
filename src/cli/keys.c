/* dekhand keys list, show, disable, enable and export. */
#include <openssl/crypto.h>

#include "cli/cli.h"

#define HISTORY 100

struct listing {
    struct cli *cli;
    struct cli_out *out;
    struct dk_json json;
    size_t shown;
    size_t tampered;
};

static void key_json(struct dk_json *json, const struct dekhand_key *key)
{
    dk_json_object(json, NULL);
    dk_json_str(json, "tenantId", key->tenant);
    dk_json_int(json, "version", key->version);
    dk_json_str(json, "state", key->state);
    dk_json_str(json, "provider", key->provider);
    dk_json_str(json, "kmsKeyId", key->kms_key_id);
    dk_json_time(json, "createdAt", key->created_at);
    dk_json_time(json, "expiresAt", key->expires_at);
    dk_json_time(json, "rotatedAt", key->rotated_at);
    dk_json_time(json, "compromisedAt", key->compromised_at);
    dk_json_time(json, "disabledAt", key->disabled_at);
    dk_json_time(json, "purgedAt", key->purged_at);
    dk_json_int(json, "messages", key->messages);
    dk_json_bool(json, "due", key->due);
    dk_json_bool(json, "tampered", key->code == DEKHAND_E_TAMPERED);
    dk_json_end(json, '}');
}

static bool print_key(void *arg, const struct dekhand_key *key)
{
    struct listing *list = arg;
    char created[DK_TIME_TEXT], expires[DK_TIME_TEXT];
    list->tampered += key->code != DEKHAND_OK;
    if (list->cli->json) {
        key_json(&list->json, key);
    } else {
        if (list->shown == 0) {
            cli_out_printf(list->out, "%-38s %7s  %-9s %-10s %-10s %12s  %s\n", "tenant", "version",
                           "state", "created", "expires", "messages", "note");
        }
        dk_time_format(key->created_at, created);
        dk_time_format(key->expires_at, expires);
        cli_out_printf(list->out, "%-38s %7u  %-9s %.10s %.10s %12lld  %s\n", key->tenant,
                       key->version, key->state, created, expires, (long long)key->messages,
                       key->code != DEKHAND_OK                  ? "TAMPERED"
                       : key->compromised_at != DEKHAND_NO_TIME ? "compromised"
                       : key->due                               ? "due for rotation"
                                                                : "");
    }
    list->shown++;
    return !list->out->failed;
}

static void stats_json(struct dk_json *json, const struct dekhand_stats *stats)
{
    dk_json_object(json, "stats");
    dk_json_int(json, "totalKeys", stats->total_keys);
    dk_json_int(json, "activeKeys", stats->active_keys);
    dk_json_int(json, "expiredKeys", stats->expired_keys);
    dk_json_int(json, "keysNearExpiration", stats->near_expiry_keys);
    dk_json_end(json, '}');
}

static int print_stats(struct listing *list)
{
    struct dekhand_stats stats = {.size = sizeof stats};
    struct dekhand_error error;
    if (dekhand_stats(list->cli->library, &stats, &error) != DEKHAND_OK) {
        return cli_fail(list->cli, &error);
    }
    if (list->cli->json) {
        stats_json(&list->json, &stats);
    } else {
        cli_out_printf(list->out, "%lld keys, %lld active, %lld expired, %lld near their expiry\n",
                       (long long)stats.total_keys, (long long)stats.active_keys,
                       (long long)stats.expired_keys, (long long)stats.near_expiry_keys);
    }
    return CLI_OK;
}

static bool print_history(void *arg, const struct dekhand_history *entry)
{
    struct listing *list = arg;
    char when[DK_TIME_TEXT];
    if (list->cli->json) {
        dk_json_object(&list->json, NULL);
        dk_json_time(&list->json, "performedAt", entry->performed_at);
        dk_json_str(&list->json, "operation", entry->operation);
        cli_json_version(&list->json, "fromVersion", entry->from_version);
        cli_json_version(&list->json, "toVersion", entry->to_version);
        dk_json_bool(&list->json, "success", entry->success);
        dk_json_str(&list->json, "error", entry->error_message[0] ? entry->error_message : NULL);
        dk_json_str(&list->json, "performedBy", entry->performed_by);
        dk_json_str(&list->json, "node", entry->node);
        dk_json_end(&list->json, '}');
        return true;
    }
    dk_time_format(entry->performed_at, when);
    cli_out_printf(list->out, "  %s  %-10s %u -> %u  %s  %s%s%s\n", when, entry->operation,
                   entry->from_version, entry->to_version, entry->performed_by,
                   entry->success ? "ok" : "FAILED", entry->error_message[0] ? ": " : "",
                   entry->error_message);
    return true;
}

static int history(struct listing *list, const char *tenant)
{
    struct dekhand_error error;
    if (list->cli->json) {
        dk_json_array(&list->json, "history");
    } else {
        cli_out_printf(list->out, "\nhistory, newest first:\n");
    }
    int rc = dekhand_history(list->cli->library, tenant, HISTORY, print_history, list, &error);
    if (list->cli->json) {
        dk_json_end(&list->json, ']');
    }
    return rc == DEKHAND_OK ? CLI_OK : cli_fail(list->cli, &error);
}

static int print_keys(struct listing *list, const char *tenant, bool show)
{
    struct dekhand_error error;
    if (list->cli->json) {
        list->json = cli_out_json(list->out);
        dk_json_object(&list->json, NULL);
        dk_json_array(&list->json, "keys");
    }
    if (dekhand_keys(list->cli->library, tenant, print_key, list, &error) != DEKHAND_OK) {
        return cli_fail(list->cli, &error);
    }
    if (show && list->shown == 0) {
        snprintf(error.text, sizeof error.text, "tenant %.128s has no key", tenant);
        error.code = DEKHAND_E_NOT_FOUND;
        return cli_fail(list->cli, &error);
    }
    if (list->cli->json) {
        dk_json_end(&list->json, ']');
    }
    int code = show ? history(list, tenant) : print_stats(list);
    if (list->cli->json) {
        dk_json_end(&list->json, '}');
        cli_out_str(list->out, "\n");
    }
    return code;
}

static int list_keys(struct cli *cli, const char *tenant, bool show)
{
    static struct cli_out out;
    struct listing list = {.cli = cli, .out = &out};
    int code = cli_open(cli);
    if (code != CLI_OK) {
        return code;
    }
    code = cli_out_open(&out, NULL);
    code = code == CLI_OK ? print_keys(&list, tenant, show) : code;
    code = code == CLI_OK ? cli_out_finish(&out) : code;
    code = code == CLI_OK ? cli_tell_tampered(list.tampered) : code;
    return cli_close(cli, code);
}

int cli_keys_list(struct cli *cli)
{
    return list_keys(cli, cli_get(cli, "tenant"), false);
}

int cli_keys_show(struct cli *cli)
{
    const char *tenant = cli_need(cli, "tenant");
    return tenant == NULL ? CLI_USAGE : list_keys(cli, tenant, true);
}

/* ---- disable, enable ------------------------------------------------------------------------- */

static int parse_version(const char *text, uint32_t *out)
{
    unsigned long v;
    if (!cli_read_count(text, INT32_MAX, &v)) {
        return cli_usage("--version wants a key version from 1 on, not `%s`", text);
    }
    *out = (uint32_t)v;
    return CLI_OK;
}

static void print_moved(struct cli *cli, struct cli_out *out, const char *tenant, uint32_t version,
                        bool disable, bool changed)
{
    if (cli->json) {
        struct dk_json json = cli_out_json(out);
        dk_json_object(&json, NULL);
        dk_json_str(&json, "tenantId", tenant);
        dk_json_int(&json, "version", version);
        dk_json_bool(&json, "disabled", disable);
        dk_json_bool(&json, "changed", changed);
        dk_json_end(&json, '}');
        cli_out_str(out, "\n");
        return;
    }
    cli_out_printf(out, "%s: version %u %s%s%s\n", tenant, version, changed ? "is " : "was ",
                   disable ? "disabled" : "enabled",
                   changed ? "; every process knows it within its KMS_POLL_SECONDS" : " already");
}

static int move_version(struct cli *cli, const char *tenant, uint32_t version, bool disable)
{
    static struct cli_out out;
    struct dekhand_error error;
    bool changed = false;
    int rc = disable ? dekhand_key_disable(cli->library, tenant, version, &changed, &error)
                     : dekhand_key_enable(cli->library, tenant, version, &changed, &error);
    if (rc != DEKHAND_OK) {
        return cli_fail(cli, &error);
    }
    int code = cli_out_open(&out, NULL);
    if (code != CLI_OK) {
        return code;
    }
    print_moved(cli, &out, tenant, version, disable, changed);
    return cli_out_finish(&out);
}

static int move_asked(struct cli *cli, bool disable)
{
    const char *tenant = cli_need(cli, "tenant");
    const char *text = tenant != NULL ? cli_need(cli, "version") : NULL;
    uint32_t version = 0;
    if (text == NULL || parse_version(text, &version) != CLI_OK) {
        return CLI_USAGE;
    }
    int code = cli_open(cli);
    return code == CLI_OK ? cli_close(cli, move_version(cli, tenant, version, disable)) : code;
}

int cli_keys_disable(struct cli *cli)
{
    return move_asked(cli, true);
}

int cli_keys_enable(struct cli *cli)
{
    return move_asked(cli, false);
}

/* ---- export ---------------------------------------------------------------------------------- */

static void print_export(struct cli *cli, struct cli_out *out, const char *tenant, uint32_t version,
                         const uint8_t *key)
{
    char text[DK_BASE64_LEN(DEKHAND_DATA_KEY) + 1];
    dk_base64_encode(key, DEKHAND_DATA_KEY, text);
    if (cli->json) {
        struct dk_json json = cli_out_json(out);
        dk_json_object(&json, NULL);
        dk_json_str(&json, "tenantId", tenant);
        dk_json_int(&json, "version", version);
        dk_json_str(&json, "dataKey", text);
        dk_json_end(&json, '}');
        cli_out_str(out, "\n");
    } else {
        cli_out_printf(out, "%s\n", text);
    }
    OPENSSL_cleanse(text, sizeof text);
}

static int export_key(struct cli *cli, const char *tenant, uint32_t version)
{
    static struct cli_out out;
    uint8_t key[DEKHAND_DATA_KEY];
    struct dekhand_error error;
    if (dekhand_key_export(cli->library, tenant, version, true, key, &error) != DEKHAND_OK) {
        return cli_fail(cli, &error);
    }
    int code = cli_out_open(&out, NULL);
    if (code == CLI_OK) {
        print_export(cli, &out, tenant, version, key);
        code = cli_out_finish(&out);
    }
    OPENSSL_cleanse(key, sizeof key);
    OPENSSL_cleanse(out.buffer, sizeof out.buffer);
    return code;
}

int cli_keys_export(struct cli *cli)
{
    const char *tenant = cli_need(cli, "tenant");
    const char *text = tenant != NULL ? cli_need(cli, "version") : NULL;
    uint32_t version = 0;
    if (text == NULL || parse_version(text, &version) != CLI_OK) {
        return CLI_USAGE;
    }
    if (!cli_has(cli, "allow-key-export")) {
        return cli_usage("a data key opens every value of its version; add --allow-key-export if "
                         "it shall leave all the same");
    }
    int code = cli_open(cli);
    return code != CLI_OK ? code : cli_close(cli, export_key(cli, tenant, version));
}
