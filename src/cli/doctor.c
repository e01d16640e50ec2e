/* dekhand doctor: one line a check, and what mends it. */
#include "cli/cli.h"

static const char *const levels[] = {
    [DEKHAND_LEVEL_OK] = "ok",
    [DEKHAND_LEVEL_NOTE] = "note",
    [DEKHAND_LEVEL_WARNING] = "warning",
    [DEKHAND_LEVEL_ERROR] = "error",
};

void cli_print_check(struct cli_out *out, const struct dekhand_check *check)
{
    cli_out_printf(out, "%-8s %-13s %s%s%s\n", levels[check->level], check->name, check->text,
                   check->todo[0] != '\0' ? "; fix: " : "", check->todo);
}

struct doctor {
    struct cli *cli;
    struct cli_out *out;
    struct dk_json json;
};

static void print_check(void *arg, const struct dekhand_check *check)
{
    struct doctor *doctor = arg;
    if (!doctor->cli->json) {
        cli_print_check(doctor->out, check);
        return;
    }
    dk_json_object(&doctor->json, NULL);
    dk_json_str(&doctor->json, "name", check->name);
    dk_json_str(&doctor->json, "level", levels[check->level]);
    dk_json_str(&doctor->json, "text", check->text);
    cli_json_text(&doctor->json, "fix", check->todo);
    dk_json_end(&doctor->json, '}');
}

static void print_result(struct doctor *doctor, const struct dekhand_doctor_result *result)
{
    if (doctor->cli->json) {
        dk_json_end(&doctor->json, ']');
        dk_json_bool(&doctor->json, "ok", result->findings == 0);
        dk_json_int(&doctor->json, "notes", result->notes);
        dk_json_int(&doctor->json, "findings", result->findings);
        dk_json_end(&doctor->json, '}');
        cli_out_str(doctor->out, "\n");
    } else {
        cli_out_printf(doctor->out, "%lld checks, %lld notes, %lld findings\n",
                       (long long)result->checks, (long long)result->notes,
                       (long long)result->findings);
    }
}

static void put_policy(void *arg, const char *text, size_t n)
{
    cli_out_write(arg, text, n);
}

static int print_policy(struct cli *cli)
{
    static struct cli_out out;
    struct dekhand_setting list[DK_OPT_COUNT];
    struct dekhand_config config = cli_config(cli, list);
    struct dekhand_error error;
    int code = cli_out_open(&out, NULL);
    if (code != CLI_OK) {
        return code;
    }
    if (dekhand_provider_policy(&config, put_policy, &out, &error) != DEKHAND_OK) {
        cli_out_abandon(&out);
        return cli_fail(cli, &error);
    }
    return cli_out_finish(&out);
}

int cli_doctor(struct cli *cli)
{
    if (cli_has(cli, "print-policy")) {
        return print_policy(cli);
    }
    static struct cli_out out;
    struct dekhand_setting list[DK_OPT_COUNT];
    struct dekhand_config config = cli_config(cli, list);
    struct dekhand_doctor_result result = {.size = sizeof result};
    struct dekhand_error error;
    int code = cli_out_open(&out, NULL);
    if (code != CLI_OK) {
        return code;
    }
    struct doctor doctor = {cli, &out, cli_out_json(&out)};
    if (cli->json) {
        dk_json_object(&doctor.json, NULL);
        dk_json_array(&doctor.json, "checks");
    }
    if (dekhand_doctor(&config, print_check, &doctor, &result, &error) != DEKHAND_OK) {
        cli_out_abandon(&out);
        return cli_fail(cli, &error);
    }
    print_result(&doctor, &result);
    code = cli_out_finish(&out);
    return code == CLI_OK && result.findings > 0 ? CLI_FINDINGS : code;
}
