/* dekhand encrypt and decrypt: one value, from standard input to standard output. */
#include <errno.h>
#include <openssl/crypto.h>
#include <stdlib.h>
#include <unistd.h>

#include "cli/cli.h"

/* The longest text of a 1 MiB value, a newline after it, and a byte that tells of too much. */
#define INPUT_MAX (2 * 1024 * 1024)

static int read_all(uint8_t *p, size_t cap, size_t *n)
{
    *n = 0;
    while (*n < cap) {
        ssize_t got = read(STDIN_FILENO, p + *n, cap - *n);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            cli_say("dekhand: standard input cannot be read: %s", strerror(errno));
            return CLI_FAILED;
        }
        if (got == 0) {
            return CLI_OK;
        }
        *n += (size_t)got;
    }
    cli_say("dekhand: E_LIMIT: a value has at most 1 MiB; for a file of many use --csv or --jsonl");
    return CLI_FAILED;
}

/* What is printed is either the value with a newline, or the exact bytes of the plaintext. */
static void print_encrypted(struct cli *cli, struct cli_out *out, const struct dekhand_item *item)
{
    uint32_t version = 0;
    int rc = dekhand_value_version(item->out, item->size, &version, NULL);
    if (cli->json && rc == DEKHAND_OK) {
        struct dk_json json = cli_out_json(out);
        dk_json_object(&json, NULL);
        dk_json_str(&json, "tenantId", item->tenant);
        dk_json_view(&json, "encrypted", dk_view_of(item->out, item->size));
        dk_json_str(&json, "algorithm", "aes-256-gcm");
        dk_json_int(&json, "keyVersion", version);
        dk_json_end(&json, '}');
    } else {
        cli_out_write(out, item->out, item->size);
    }
    cli_out_str(out, "\n");
}

static int print_decrypted(struct cli *cli, struct cli_out *out, const struct dekhand_item *item)
{
    if (!cli->json) {
        cli_out_write(out, item->out, item->size);
        return CLI_OK;
    }
    struct dk_json json = cli_out_json(out);
    dk_json_object(&json, NULL);
    dk_json_str(&json, "tenantId", item->tenant);
    if (dk_utf8_valid(item->out, item->size)) {
        dk_json_view(&json, "plaintext", dk_view_of(item->out, item->size));
    } else {
        char *text = malloc(DK_BASE64_LEN(item->size) + 1);
        if (text == NULL) {
            cli_say("dekhand: E_NOMEM: no memory for the result");
            return CLI_FAILED;
        }
        dk_base64_encode(item->out, item->size, text);
        dk_json_str(&json, "plaintextBase64", text);
        OPENSSL_cleanse(text, DK_BASE64_LEN(item->size));
        free(text);
    }
    dk_json_end(&json, '}');
    cli_out_str(out, "\n");
    return CLI_OK;
}

/* decrypt takes one newline off: the one that encrypt put there, or an editor's. A binary value
 * (FORMAT.md 4.3) begins with 0x01, and its last byte may be any. */
static size_t without_newline(const uint8_t *p, size_t n)
{
    if (n > 0 && p[0] != 0x01 && p[n - 1] == '\n') {
        n--;
        n -= n > 0 && p[n - 1] == '\r';
    }
    return n;
}

static int run(struct cli *cli, bool encrypt, struct dekhand_item *item)
{
    static struct cli_out out;
    struct dekhand_error error;
    int rc = encrypt ? dekhand_encrypt(cli->library, item, &error)
                     : dekhand_decrypt(cli->library, item, &error);
    if (rc != DEKHAND_OK) {
        return cli_fail(cli, &error);
    }
    int code = cli_out_open(&out, cli_get(cli, "output"));
    if (code != CLI_OK) {
        return code;
    }
    if (encrypt) {
        print_encrypted(cli, &out, item);
    } else {
        code = print_decrypted(cli, &out, item);
    }
    if (code != CLI_OK) {
        cli_out_abandon(&out);
    } else {
        code = cli_out_finish(&out);
    }
    OPENSSL_cleanse(out.buffer, sizeof out.buffer);
    return code;
}

static int one_value(struct cli *cli, bool encrypt, const char *tenant,
                     const struct cli_context *context)
{
    uint8_t *in = malloc(INPUT_MAX), *result = malloc(INPUT_MAX);
    size_t n = 0;
    int code = in == NULL || result == NULL ? CLI_FAILED : CLI_OK;
    if (code == CLI_OK && isatty(STDIN_FILENO) == 1) {
        cli_say("(type or paste the value, end it with Ctrl-D)");
    }
    code = code == CLI_OK ? read_all(in, INPUT_MAX, &n) : code;
    code = code == CLI_OK ? cli_open(cli) : code;
    if (code == CLI_OK) {
        struct dekhand_item item = {.tenant = tenant,
                                    .context = context->pairs,
                                    .context_count = context->count,
                                    .format = DEKHAND_TEXT,
                                    .in = in,
                                    .in_size = encrypt ? n : without_newline(in, n),
                                    .out = result,
                                    .capacity = INPUT_MAX};
        code = cli_close(cli, run(cli, encrypt, &item));
    }
    if (in != NULL) {
        OPENSSL_cleanse(in, INPUT_MAX);
    }
    if (result != NULL) {
        OPENSSL_cleanse(result, INPUT_MAX);
    }
    free(in);
    free(result);
    return code;
}

/* Options of files, and the formats that they go with. */
static int check_options(const struct cli *cli, bool csv, bool jsonl)
{
    static const struct {
        const char *name;
        bool csv, jsonl;
    } options[] = {{"columns", true, false},
                   {"fields", false, true},
                   {"tenant-column", true, true},
                   {"rejects", true, true},
                   {"threads", true, true}};
    if (csv && jsonl) {
        return cli_usage("either --csv or --jsonl");
    }
    for (size_t i = 0; i < sizeof options / sizeof options[0]; i++) {
        if (cli_has(cli, options[i].name) &&
            !((csv && options[i].csv) || (jsonl && options[i].jsonl))) {
            return cli_usage("--%s goes with %s%s%s", options[i].name,
                             options[i].csv ? "--csv" : "",
                             options[i].csv && options[i].jsonl ? " or " : "",
                             options[i].jsonl ? "--jsonl" : "");
        }
    }
    return CLI_OK;
}

static int encrypt_or_decrypt(struct cli *cli, bool encrypt)
{
    struct cli_context context;
    bool csv = cli_has(cli, "csv"), jsonl = cli_has(cli, "jsonl");
    if (check_options(cli, csv, jsonl) != CLI_OK) {
        return CLI_USAGE;
    }
    if (csv || jsonl) {
        cli_signals_cooperate();
        return cli_bulk(cli, encrypt);
    }
    const char *tenant = cli_need(cli, "tenant");
    if (tenant == NULL || cli_context_read(cli, &context) != CLI_OK) {
        return CLI_USAGE;
    }
    int code = one_value(cli, encrypt, tenant, &context);
    cli_context_free(&context);
    return code;
}

int cli_encrypt(struct cli *cli)
{
    return encrypt_or_decrypt(cli, true);
}

int cli_decrypt(struct cli *cli)
{
    return encrypt_or_decrypt(cli, false);
}
