/* dekhand audit list, verify, export and prune. */
#include <stdlib.h>

#include "cli/cli.h"

#define LIST_LIMIT 100

struct audit {
    struct cli *cli;
    struct cli_out *out;
    struct dk_json json;
    size_t told;
};

/* One object a line. */
static bool entry_json(void *arg, const struct dekhand_audit_entry *entry)
{
    struct audit *audit = arg;
    struct dk_json json = cli_out_json(audit->out);
    dk_json_object(&json, NULL);
    dk_json_int(&json, "seq", entry->seq);
    dk_json_str(&json, "id", entry->id);
    dk_json_time(&json, "performedAt", entry->performed_at);
    dk_json_str(&json, "tenantId", entry->tenant);
    dk_json_str(&json, "operation", entry->operation);
    cli_json_version(&json, "fromVersion", entry->from_version);
    cli_json_version(&json, "toVersion", entry->to_version);
    dk_json_bool(&json, "success", entry->success);
    cli_json_text(&json, "error", entry->error_message);
    cli_json_text(&json, "performedBy", entry->performed_by);
    cli_json_text(&json, "node", entry->node);
    cli_json_text(&json, "detail", entry->detail);
    cli_json_text(&json, "prev", entry->prev);
    cli_json_text(&json, "mac", entry->mac);
    dk_json_end(&json, '}');
    cli_out_str(audit->out, "\n");
    return !audit->out->failed;
}

static bool entry_text(void *arg, const struct dekhand_audit_entry *entry)
{
    struct audit *audit = arg;
    char when[DK_TIME_TEXT], versions[32] = "";
    dk_time_format(entry->performed_at, when);
    if (entry->from_version != 0 && entry->to_version != 0) {
        snprintf(versions, sizeof versions, "%u -> %u", entry->from_version, entry->to_version);
    } else if (entry->from_version != 0 || entry->to_version != 0) {
        snprintf(versions, sizeof versions, "%u", entry->from_version | entry->to_version);
    }
    if (audit->told++ == 0) {
        cli_out_printf(audit->out, "%-27s  %-10s %-38s %-12s %-7s %s\n", "when (UTC)", "operation",
                       "tenant", "version", "", "by");
    }
    cli_out_printf(audit->out, "%-27s  %-10s %-38s %-12s %-7s %s%s%s\n", when, entry->operation,
                   entry->tenant, versions, entry->success ? "ok" : "FAILED", entry->performed_by,
                   entry->error_message[0] != '\0' ? ": " : "", entry->error_message);
    return !audit->out->failed;
}

/* `2026-11-24`, or a timestamp in UTC: to the second or finer, Z or not, T or the blank of psql. */
static int read_moment(const struct cli *cli, const char *name, int64_t *out)
{
    static const char rest[] = "0000-00-00T00:00:00.000000";
    const char *text = cli_get(cli, name);
    char whole[sizeof rest + 1];
    if (text == NULL) {
        return CLI_OK;
    }
    size_t n = strlen(text);
    n -= n > 10 && text[n - 1] == 'Z';
    bool fits = n == 10 || n == 19 || (n > 20 && n < sizeof rest);
    if (fits) {
        snprintf(whole, sizeof whole, "%.*s%sZ", (int)n, text, rest + n);
        whole[10] = whole[10] == ' ' ? 'T' : whole[10];
    }
    if (!fits || !dk_time_parse(whole, strlen(whole), out)) {
        return cli_usage("--%s: `%s` is neither a day (2026-11-24) nor a moment in UTC "
                         "(2026-11-24T10:00:00Z)",
                         name, text);
    }
    return CLI_OK;
}

static int read_query(const struct cli *cli, struct dekhand_audit_query *query)
{
    const char *limit = cli_get(cli, "limit");
    int code = read_moment(cli, "since", &query->since);
    code = code == CLI_OK ? read_moment(cli, "until", &query->until) : code;
    query->size = sizeof *query;
    query->tenant = cli_get(cli, "tenant");
    query->operation = cli_get(cli, "operation");
    if (limit != NULL) {
        char *end;
        unsigned long long n = strtoull(limit, &end, 10);
        if (*end != '\0' || limit[0] < '0' || limit[0] > '9' || n > SIZE_MAX) {
            return cli_usage("--limit: `%s` is no number (0 = all)", limit);
        }
        query->limit = (size_t)n;
    }
    return code;
}

static int run_list(struct cli *cli, struct dekhand_audit_query *query, bool json, const char *path)
{
    static struct cli_out out;
    struct dekhand_error error;
    int code = cli_open(cli);
    if (code != CLI_OK) {
        return code;
    }
    code = cli_out_open(&out, path);
    if (code != CLI_OK) {
        return cli_close(cli, code);
    }
    struct audit audit = {.cli = cli, .out = &out};
    if (dekhand_audit_list(cli->library, query, json ? entry_json : entry_text, &audit, &error) !=
        DEKHAND_OK) {
        code = cli_fail(cli, &error);
        cli_out_abandon(&out);
        return cli_close(cli, code);
    }
    return cli_close(cli, cli_out_finish(&out));
}

int cli_audit_list(struct cli *cli)
{
    struct dekhand_audit_query query = {.limit = LIST_LIMIT};
    int code = read_query(cli, &query);
    return code == CLI_OK ? run_list(cli, &query, cli->json, NULL) : code;
}

int cli_audit_export(struct cli *cli)
{
    struct dekhand_audit_query query = {.oldest_first = true};
    int code = read_query(cli, &query);
    return code == CLI_OK ? run_list(cli, &query, true, cli_get(cli, "output")) : code;
}

/* ---- verify ---------------------------------------------------------------------------------- */

static void print_finding(void *arg, const struct dekhand_finding *finding)
{
    struct audit *audit = arg;
    if (audit->cli->json) {
        dk_json_object(&audit->json, NULL);
        dk_json_str(&audit->json, "table", finding->table);
        cli_json_text(&audit->json, "tenantId", finding->tenant);
        dk_json_str(&audit->json, "row", finding->row);
        dk_json_str(&audit->json, "text", finding->text);
        dk_json_end(&audit->json, '}');
        return;
    }
    char line[1500];
    snprintf(line, sizeof line, "%s, %s%s%srow %s: %s", finding->table,
             finding->tenant[0] != '\0' ? "tenant " : "", finding->tenant,
             finding->tenant[0] != '\0' ? ", " : "", finding->row, finding->text);
    cli_make_printable(line); /* names may be whoever's who wrote them there */
    cli_out_printf(audit->out, "%s\n", line);
}

static void print_result(struct audit *audit, const struct dekhand_audit_result *result)
{
    if (audit->cli->json) {
        dk_json_end(&audit->json, ']');
        dk_json_bool(&audit->json, "ok", result->findings == 0);
        dk_json_int(&audit->json, "logRows", result->log_rows);
        dk_json_int(&audit->json, "seals", result->seals);
        dk_json_int(&audit->json, "tenants", result->tenants);
        dk_json_int(&audit->json, "keys", result->keys);
        dk_json_end(&audit->json, '}');
        cli_out_str(audit->out, "\n");
        return;
    }
    cli_out_printf(audit->out, "%lld log rows, %lld seals, %lld tenants, %lld key versions: ",
                   (long long)result->log_rows, (long long)result->seals,
                   (long long)result->tenants, (long long)result->keys);
    if (result->findings == 0) {
        cli_out_str(audit->out, "all are as dekhand wrote them, and none is missing\n");
    } else {
        cli_out_printf(audit->out, "%lld findings\n", (long long)result->findings);
    }
}

static int verify(struct audit *audit)
{
    struct dekhand_audit_result result = {.size = sizeof result};
    struct dekhand_error error;
    if (audit->cli->json) {
        dk_json_object(&audit->json, NULL);
        dk_json_array(&audit->json, "findings");
    }
    if (dekhand_audit_verify(audit->cli->library, print_finding, audit, &result, &error) !=
        DEKHAND_OK) {
        int code = cli_fail(audit->cli, &error);
        audit->out->n = audit->cli->json ? 0 : audit->out->n; /* half an object is none */
        cli_out_abandon(audit->out);
        return code;
    }
    print_result(audit, &result);
    int code = cli_out_finish(audit->out);
    return code == CLI_OK && result.findings > 0 ? CLI_FINDINGS : code;
}

int cli_audit_verify(struct cli *cli)
{
    static struct cli_out out;
    int code = cli_open(cli);
    if (code != CLI_OK) {
        return code;
    }
    code = cli_out_open(&out, NULL);
    if (code == CLI_OK) {
        struct audit audit = {.cli = cli, .out = &out, .json = cli_out_json(&out)};
        code = verify(&audit);
    }
    return cli_close(cli, code);
}

/* ---- prune ----------------------------------------------------------------------------------- */

static void print_prune(const struct cli *cli, int64_t before, const struct dekhand_prune *done,
                        struct cli_out *out)
{
    bool dry = cli_has(cli, "dry-run");
    if (cli->json) {
        struct dk_json json = cli_out_json(out);
        dk_json_object(&json, NULL);
        dk_json_time(&json, "before", before);
        dk_json_bool(&json, "dryRun", dry);
        dk_json_int(&json, "seal", done->seal);
        dk_json_int(&json, "rows", done->rows);
        dk_json_end(&json, '}');
        cli_out_str(out, "\n");
    } else if (done->rows == 0) {
        cli_out_str(out, "No row of the log is that old.\n");
    } else {
        cli_out_printf(out, "%lld rows of the log%s: those up to seal %lld.\n",
                       (long long)done->rows, dry ? " would be deleted" : " were deleted",
                       (long long)done->seal);
    }
}

static int prune(struct cli *cli, int64_t before)
{
    static struct cli_out out;
    struct dekhand_prune done = {.size = sizeof done};
    struct dekhand_error error;
    if (dekhand_audit_prune(cli->library, before, cli_has(cli, "dry-run"), &done, &error) !=
        DEKHAND_OK) {
        return cli_fail(cli, &error);
    }
    int code = cli_out_open(&out, NULL);
    if (code == CLI_OK) {
        print_prune(cli, before, &done, &out);
    }
    return code == CLI_OK ? cli_out_finish(&out) : code;
}

int cli_audit_prune(struct cli *cli)
{
    int64_t before = 0;
    if (cli_get(cli, "before") == NULL) {
        return cli_usage("audit prune wants --before TIME");
    }
    int code = read_moment(cli, "before", &before);
    code = code == CLI_OK ? cli_open(cli) : code;
    return code == CLI_OK ? cli_close(cli, prune(cli, before)) : code;
}
