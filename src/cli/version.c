/* dekhand version. */
#include "cli/cli.h"

int cli_version(struct cli *cli)
{
    static struct cli_out out;
    int code = cli_out_open(&out, NULL);
    if (code != CLI_OK) {
        return code;
    }
    if (cli->json) {
        struct dk_json json = cli_out_json(&out);
        dk_json_object(&json, NULL);
        dk_json_str(&json, "version", dekhand_version());
        dk_json_end(&json, '}');
        cli_out_str(&out, "\n");
    } else {
        cli_out_printf(&out, "dekhand %s\n", dekhand_version());
    }
    return cli_out_finish(&out);
}
