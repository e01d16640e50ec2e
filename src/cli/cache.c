/* dekhand cache clear. */
#include "cli/cli.h"

static int clear(struct cli *cli)
{
    static struct cli_out out;
    struct dekhand_error error;
    if (dekhand_cache_clear(cli->library, &error) != DEKHAND_OK) {
        return cli_fail(cli, &error);
    }
    int code = cli_out_open(&out, NULL);
    if (code != CLI_OK) {
        return code;
    }
    if (cli->json) {
        struct dk_json json = cli_out_json(&out);
        dk_json_object(&json, NULL);
        dk_json_bool(&json, "cleared", true);
        dk_json_end(&json, '}');
        cli_out_str(&out, "\n");
    } else {
        cli_out_str(&out, "Every process that uses this registry reads its keys again, each within "
                          "its KMS_POLL_SECONDS.\n");
    }
    return cli_out_finish(&out);
}

int cli_cache_clear(struct cli *cli)
{
    int code = cli_open(cli);
    return code == CLI_OK ? cli_close(cli, clear(cli)) : code;
}
