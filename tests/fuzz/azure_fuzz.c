/*
 * Any bytes as an answer of Azure Key Vault, as the id of one of its keys, or as a wrap: refused,
 * or within the bounds of what they are. The first byte says as what they are read.
 */
#include <stdlib.h>
#include <string.h>

#include "net/json_in.h"
#include "provider/azure_vault.h"
#include "provider/azure_wrap.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void expect(bool condition)
{
    if (!condition) {
        abort();
    }
}

static void read_answer(enum dk_vault_op op, enum dk_vault_alg alg, struct dk_view body)
{
    uint8_t cell[DK_SECRET_CELL];
    struct dk_secret secret = {cell, 0};
    struct dk_vault_answer answer = {.secret = &secret};
    const struct dk_vault_ask ask = {.op = op, .alg = alg, .name = "kek", .version = ""};
    struct dk_err err;
    dk_err_clear(&err);
    dk_rc rc = dk_vault_read(&ask, body, &answer, &err);
    expect(rc == err.rc && (rc == DK_OK || rc == DK_E_PROVIDER));
    if (rc == DK_OK) {
        bool back = op == DK_VAULT_DECRYPT;
        expect(answer.kid[0] != '\0' && strlen(answer.kid) <= DK_KMS_KEY_ID_MAX);
        expect(back ? secret.n > 0 && secret.n <= DK_SECRET_CELL
                    : answer.value_n > 0 && answer.value_n <= sizeof answer.value);
    }
}

static void read_key(struct dk_view body)
{
    struct dk_vault_key key;
    struct dk_err err;
    dk_err_clear(&err);
    if (dk_vault_read_key(body, &key, &err) != DK_OK) {
        expect(err.rc == DK_E_PROVIDER);
        return;
    }
    expect(key.nbf >= 0 && key.exp >= 0 && strlen(key.kid) <= DK_KMS_KEY_ID_MAX);
    (void)(dk_vault_check_kind(&key, &err) == DK_OK);
    dk_err_clear(&err);
    (void)(dk_vault_check_usable(&key, INT64_C(1790000000), &err) == DK_OK);
}

static void explain(uint8_t how, struct dk_view body)
{
    static const long statuses[] = {400, 401, 403, 404, 409, 429, 500, 302};
    const struct dk_vault_ask ask = {
        .op = (enum dk_vault_op)(how % DK_VAULT_OPS), .name = "kek", .version = ""};
    const struct dk_http_reply reply = {.status = statuses[how & 7], .head = body, .body = body};
    struct dk_err err;
    dk_err_clear(&err);
    enum dk_vault_fault fault = dk_vault_explain(&ask, &reply, &err);
    expect(err.rc != DK_OK && err.text[0] != '\0');
    expect((fault == DK_VAULT_TRANSIENT) ==
           (err.rc == DK_E_THROTTLED || err.rc == DK_E_UNREACHABLE));
}

static void read_text(struct dk_view bytes)
{
    char *text = malloc(bytes.n + 1), again[DK_WRAPPED_MAX + 1];
    struct dk_vault_kid kid;
    struct dk_azure_blob blob;
    struct dk_err err;
    if (text == NULL) {
        return;
    }
    memcpy(text, bytes.p, bytes.n);
    text[bytes.n] = '\0';
    if (dk_vault_kid_parse(text, &kid)) {
        expect(kid.port > 0 && strpbrk(kid.host, "/?#@%") == NULL && kid.name[0] != '\0');
        expect(strlen(kid.version) == 0 || strlen(kid.version) == DK_VAULT_VERSION_LEN);
        expect(dk_vault_kid_equal(&kid, &kid));
    }
    dk_err_clear(&err);
    if (dk_azure_blob_read(text, &blob, &err) == DK_OK) {
        dk_azure_blob_put(&blob, again);
        expect(strcmp(text, again) == 0); /* each wrap has one text */
    }
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    dk_json_in_setup();
    if (size == 0) {
        return 0;
    }
    struct dk_view body = dk_view_of(data + 1, size - 1);
    switch (data[0]) {
    case 'w':
        read_answer(DK_VAULT_ENCRYPT, DK_VAULT_RSA_OAEP_256, body);
        break;
    case 'g':
        read_answer(DK_VAULT_ENCRYPT, DK_VAULT_A256GCM, body);
        break;
    case 'u':
        read_answer(DK_VAULT_DECRYPT, DK_VAULT_RSA_OAEP_256, body);
        break;
    case 'k':
        read_key(body);
        break;
    case 't':
        read_text(body);
        break;
    default:
        explain(data[0], body);
    }
    return 0;
}
