/* dekhand rotate: a new key version for one tenant, those that are due, or all. */
#include "cli/cli.h"

struct rotated {
    struct cli *cli;
    struct cli_out *out;
    struct dk_json json;
    bool dry_run;
    size_t done;
    size_t failed;
    bool stopped; /* by a signal, between two tenants */
    int said;     /* code of the failure that was printed last */
};

static bool print_one(void *arg, const struct dekhand_rotation *r)
{
    struct rotated *state = arg;
    bool ok = r->code == DEKHAND_OK;
    state->done += ok;
    state->failed += !ok;
    if (state->cli->json) {
        dk_json_object(&state->json, NULL);
        dk_json_str(&state->json, "tenantId", r->tenant);
        dk_json_int(&state->json, "fromVersion", r->from_version);
        dk_json_int(&state->json, "toVersion", r->to_version);
        dk_json_bool(&state->json, "success", ok);
        dk_json_str(&state->json, "code", ok ? NULL : dekhand_error_name(r->code));
        dk_json_str(&state->json, "error", ok ? NULL : r->text);
        dk_json_end(&state->json, '}');
    } else if (ok) {
        cli_out_printf(state->out, "%s: version %u -> %u%s\n", r->tenant, r->from_version,
                       r->to_version, state->dry_run ? " (dry run: nothing was changed)" : "");
    } else {
        state->said = r->code;
        cli_say("dekhand: %s: not rotated: %s: %s", r->tenant, dekhand_error_name(r->code),
                r->text);
    }
    state->stopped = cli_interrupted() && !cli_has(state->cli, "tenant");
    return !state->stopped;
}

static int check(const struct cli *cli, struct dekhand_rotate_args *args)
{
    int chosen = cli_has(cli, "tenant") + cli_has(cli, "due") + cli_has(cli, "all");
    if (chosen != 1) {
        return cli_usage("rotate wants one of --tenant ID, --due or --all");
    }
    if (cli_has(cli, "compromised") && cli_has(cli, "due")) {
        return cli_usage("--compromised goes with --tenant or --all");
    }
    *args = (struct dekhand_rotate_args){.size = sizeof *args,
                                         .which = cli_has(cli, "tenant") ? DEKHAND_ROTATE_TENANT
                                                  : cli_has(cli, "due")  ? DEKHAND_ROTATE_DUE
                                                                         : DEKHAND_ROTATE_ALL,
                                         .tenant = cli_get(cli, "tenant"),
                                         .dry_run = cli_has(cli, "dry-run"),
                                         .compromised = cli_has(cli, "compromised")};
    return CLI_OK;
}

static void print_end(struct rotated *state)
{
    if (state->cli->json) {
        dk_json_end(&state->json, ']');
        dk_json_int(&state->json, "rotated", state->dry_run ? 0 : (int64_t)state->done);
        dk_json_int(&state->json, "failed", (int64_t)state->failed);
        dk_json_bool(&state->json, "dryRun", state->dry_run);
        dk_json_end(&state->json, '}');
        cli_out_str(state->out, "\n");
    } else {
        cli_out_printf(state->out,
                       state->dry_run ? "%zu to rotate, %zu that could not be\n"
                                      : "%zu rotated, %zu failed\n",
                       state->done, state->failed);
    }
}

static int run(struct cli *cli, const struct dekhand_rotate_args *args, struct cli_out *out)
{
    struct rotated state = {.cli = cli, .out = out, .dry_run = args->dry_run};
    struct dekhand_error error;
    if (cli->json) {
        state.json = cli_out_json(out);
        dk_json_object(&state.json, NULL);
        dk_json_array(&state.json, "rotations");
    }
    int rc = dekhand_rotate(cli->library, args, print_one, &state, &error);
    print_end(&state);
    int code = cli_out_finish(out);
    if (state.stopped) {
        return cli_give_up((int64_t)state.done, "tenants; the rest are as they were");
    }
    if (rc != DEKHAND_OK && rc == state.said) { /* print_one told the rest */
        cli_say("  what to do: %s", error.todo);
        return cli_exit_code(rc);
    }
    if (rc != DEKHAND_OK) {
        return cli_fail(cli, &error);
    }
    return code != CLI_OK ? code : state.failed > 0 ? CLI_ATTENTION : CLI_OK;
}

int cli_rotate(struct cli *cli)
{
    static struct cli_out out;
    struct dekhand_rotate_args args;
    int code = check(cli, &args);
    cli_signals_cooperate();
    code = code == CLI_OK ? cli_open(cli) : code;
    if (code != CLI_OK) {
        return code;
    }
    code = cli_out_open(&out, NULL);
    code = code == CLI_OK ? run(cli, &args, &out) : code;
    return cli_close(cli, code);
}
