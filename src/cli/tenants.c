/* dekhand tenants list and set. */
#include "cli/cli.h"

struct listing {
    struct cli *cli;
    struct cli_out *out;
    struct dk_json json;
    size_t shown;
    size_t tampered;
};

static void days_json(struct dk_json *json, int64_t days)
{
    if (days == 0) {
        dk_json_null(json, "rotationDays");
    } else {
        dk_json_int(json, "rotationDays", days);
    }
}

static bool print_tenant(void *arg, const struct dekhand_tenant *tenant)
{
    struct listing *list = arg;
    bool tampered = tenant->code != DEKHAND_OK;
    list->tampered += tampered;
    if (list->cli->json) {
        dk_json_object(&list->json, NULL);
        dk_json_str(&list->json, "tenantId", tenant->tenant);
        dk_json_int(&list->json, "versions", tenant->versions);
        days_json(&list->json, tenant->rotation_days);
        dk_json_bool(&list->json, "tampered", tampered);
        dk_json_end(&list->json, '}');
    } else {
        char days[24] = "default";
        if (tenant->rotation_days > 0) {
            snprintf(days, sizeof days, "%lld", (long long)tenant->rotation_days);
        }
        if (list->shown == 0) {
            cli_out_printf(list->out, "%-38s %8s  %13s  %s\n", "tenant", "versions",
                           "rotation days", "note");
        }
        cli_out_printf(list->out, "%-38s %8u  %13s  %s\n", tenant->tenant, tenant->versions, days,
                       tampered ? "TAMPERED" : "");
    }
    list->shown++;
    return !list->out->failed;
}

static int print_all(struct listing *list)
{
    struct dekhand_error error;
    if (list->cli->json) {
        list->json = cli_out_json(list->out);
        dk_json_object(&list->json, NULL);
        dk_json_array(&list->json, "tenants");
    }
    if (dekhand_tenants(list->cli->library, cli_get(list->cli, "tenant"), print_tenant, list,
                        &error) != DEKHAND_OK) {
        return cli_fail(list->cli, &error);
    }
    if (list->cli->json) {
        dk_json_end(&list->json, ']');
        dk_json_end(&list->json, '}');
        cli_out_str(list->out, "\n");
    }
    return CLI_OK;
}

static int list_tenants(struct cli *cli)
{
    static struct cli_out out;
    struct listing list = {.cli = cli, .out = &out};
    int code = cli_out_open(&out, NULL);
    code = code == CLI_OK ? print_all(&list) : code;
    code = code == CLI_OK ? cli_out_finish(&out) : code;
    code = code == CLI_OK ? cli_tell_tampered(list.tampered) : code;
    return code;
}

int cli_tenants_list(struct cli *cli)
{
    int code = cli_open(cli);
    return code == CLI_OK ? cli_close(cli, list_tenants(cli)) : code;
}

static int parse_days(const char *text, int64_t *out)
{
    unsigned long days, most = (unsigned long)dk_options[DK_OPT_ROTATION_DAYS].max;
    if (strcmp(text, "default") == 0) {
        *out = 0;
        return CLI_OK;
    }
    if (!cli_read_count(text, most, &days)) {
        return cli_usage("--rotation-days wants 1 to %lu, or `default`, not `%s`", most, text);
    }
    *out = (int64_t)days;
    return CLI_OK;
}

static int set_tenant(struct cli *cli, const char *tenant, int64_t days)
{
    static struct cli_out out;
    struct dekhand_error error;
    char expires[DK_TIME_TEXT];
    int64_t expires_at = DEKHAND_NO_TIME;
    if (dekhand_tenant_set(cli->library, tenant, days, &expires_at, &error) != DEKHAND_OK) {
        return cli_fail(cli, &error);
    }
    int code = cli_out_open(&out, NULL);
    if (code != CLI_OK) {
        return code;
    }
    if (cli->json) {
        struct dk_json json = cli_out_json(&out);
        dk_json_object(&json, NULL);
        dk_json_str(&json, "tenantId", tenant);
        days_json(&json, days);
        dk_json_time(&json, "expiresAt", expires_at);
        dk_json_end(&json, '}');
        cli_out_str(&out, "\n");
    } else {
        dk_time_format(expires_at, expires);
        bool over = expires_at <= dk_wall_us(&dk_world_default);
        cli_out_printf(&out, "%s: its active key version %s at %s%s\n", tenant,
                       over ? "expired" : "expires", expires,
                       over ? ": `dekhand rotate --due` makes the next" : "");
    }
    return cli_out_finish(&out);
}

int cli_tenants_set(struct cli *cli)
{
    const char *tenant = cli_need(cli, "tenant");
    const char *text = tenant != NULL ? cli_need(cli, "rotation-days") : NULL;
    int64_t days = 0;
    if (text == NULL || parse_days(text, &days) != CLI_OK) {
        return CLI_USAGE;
    }
    int code = cli_open(cli);
    return code == CLI_OK ? cli_close(cli, set_tenant(cli, tenant, days)) : code;
}
