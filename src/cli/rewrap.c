/* dekhand rewrap: the same data keys under another master key. */
#include "cli/cli.h"

struct rewrapping {
    struct cli *cli;
    bool stopped; /* by a signal, between two pages */
};

static bool tell(void *arg, const struct dekhand_rewrap *so_far)
{
    struct rewrapping *state = arg;
    (void)so_far;
    state->stopped = cli_interrupted();
    return !state->stopped;
}

static void print(struct cli *cli, const struct dekhand_rewrap *done, struct cli_out *out)
{
    if (cli->json) {
        struct dk_json json = cli_out_json(out);
        dk_json_object(&json, NULL);
        dk_json_str(&json, "kmsKeyId", done->kms_key_id);
        dk_json_int(&json, "rewrapped", done->rewrapped);
        dk_json_int(&json, "kept", done->kept);
        dk_json_int(&json, "failed", done->failed);
        dk_json_int(&json, "dropped", done->dropped);
        dk_json_bool(&json, "registry", done->registry);
        dk_json_end(&json, '}');
        cli_out_str(out, "\n");
        return;
    }
    cli_out_printf(out, "%lld key versions are under %s now, %lld were already, %lld failed\n",
                   (long long)done->rewrapped, done->kms_key_id, (long long)done->kept,
                   (long long)done->failed);
    if (done->dropped > 0) {
        cli_out_printf(out, "%lld key versions lost a wrap that was to go\n",
                       (long long)done->dropped);
    }
    if (done->registry) {
        cli_out_str(out, "the registry's key is under it too\n");
    }
}

static int rewrap(struct cli *cli, const char *to)
{
    static struct cli_out out;
    struct dekhand_rewrap done = {.size = sizeof done};
    struct dekhand_error error;
    struct rewrapping state = {cli, false};
    if (dekhand_rewrap(cli->library, to, cli_get(cli, "tenant"), cli_get(cli, "drop"), tell, &state,
                       &done, &error) != DEKHAND_OK) {
        return cli_fail(cli, &error);
    }
    if (state.stopped) {
        cli_say("dekhand: stopped: run it again, it goes on with what is left");
    }
    int code = cli_out_open(&out, NULL);
    if (code != CLI_OK) {
        return code;
    }
    print(cli, &done, &out);
    code = cli_out_finish(&out);
    if (done.failed > 0) {
        cli_say("dekhand: %s: %lld key versions keep the wrap that they have; the log names each",
                dekhand_error_name(done.failed_code), (long long)done.failed);
    }
    return code == CLI_OK && (done.failed > 0 || state.stopped) ? CLI_ATTENTION : code;
}

int cli_rewrap(struct cli *cli)
{
    const char *to = cli_need(cli, "to");
    if (to == NULL) {
        return CLI_USAGE;
    }
    cli_signals_cooperate();
    int code = cli_open(cli);
    return code == CLI_OK ? cli_close(cli, rewrap(cli, to)) : code;
}
