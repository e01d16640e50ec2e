/*
 * Any bytes as an answer of AWS KMS: the first one says to what and how, the rest is its head, an
 * empty line, and its body. Read, or refused with a text; nothing too long, nothing half.
 */
#include <stdlib.h>

#include "provider/aws_kms.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint8_t cell[DK_SECRET_CELL];

static void must(bool ok)
{
    if (!ok) {
        abort();
    }
}

static void must_say(dk_rc rc, const struct dk_err *err)
{
    must(rc == err->rc && (rc == DK_OK || err->text[0] != '\0'));
}

static void read_data_key(struct dk_view body, bool with_plaintext)
{
    static const struct dk_kms_ask ask = {.op = DK_KMS_GENERATE, .key_id = "alias/x"};
    struct dk_secret key = {cell, DK_SECRET_CELL};
    struct dk_wrapped wrapped;
    struct dk_kms_answer answer = {.key = with_plaintext ? &key : NULL, .wrapped = &wrapped};
    struct dk_err err;
    dk_err_clear(&err);
    dk_rc rc = dk_kms_read(&ask, body, &answer, &err);
    must_say(rc, &err);
    if (rc == DK_OK) {
        must(answer.key_id[0] != '\0' && strlen(answer.key_id) <= DK_KMS_KEY_ID_MAX);
        must(wrapped.blob[0] != '\0' && strlen(wrapped.blob) <= DK_WRAPPED_MAX);
        must(strcmp(wrapped.kms_key_id, answer.key_id) == 0);
        must(key.n <= DK_SECRET_CELL);
    }
}

static void read_key(struct dk_view body)
{
    struct dk_kms_key key;
    struct dk_err err;
    bool rotates = false;
    dk_err_clear(&err);
    dk_rc rc = dk_kms_read_key(body, &key, &err);
    must_say(rc, &err);
    must(rc != DK_OK || (key.arn[0] != '\0' && key.state[0] != '\0'));
    must(rc != DK_OK || key.deletion_us == DK_TIME_NONE || key.deletion_us > 0);
    dk_err_clear(&err);
    must_say(dk_kms_read_rotation(body, &rotates, &err), &err);
}

static void read_aliases(struct dk_view body)
{
    struct dk_kms_aliases aliases = {.count = 0};
    struct dk_err err;
    dk_err_clear(&err);
    must_say(dk_kms_read_aliases(body, "1234", &aliases, &err), &err);
    must(aliases.shown <= aliases.count && strlen(aliases.text) < sizeof aliases.text);
    must(strlen(aliases.marker) <= DK_KMS_MARKER_MAX);
    must(err.rc != DK_OK || !aliases.more || aliases.marker[0] != '\0');
}

static void explain(long status, struct dk_view head, struct dk_view body)
{
    static const struct dk_kms_ask ask = {.op = DK_KMS_DECRYPT, .key_id = "alias/x"};
    const struct dk_http_reply reply = {status, head, body};
    char code[64], message[200];
    int64_t us = 0;
    struct dk_err err;
    dk_err_clear(&err);
    enum dk_aws_fault fault = dk_kms_explain(&ask, &reply, &err);
    must(err.rc != DK_OK && err.text[0] != '\0' && err.backend == status);
    must(fault <= DK_AWS_SKEW);
    dk_aws_error_of(&reply, code, message);
    must(strlen(code) < sizeof code && strlen(message) < sizeof message);
    (void)dk_http_date(&reply, &us);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const long statuses[] = {400, 403, 429, 500, 307, 200};
    uint8_t how = size > 0 ? data[0] : 0;
    struct dk_view head = {data + (size > 0), 0}, body = {data + (size > 0), size - (size > 0)};
    const uint8_t *cut = body.n > 0 ? memmem(body.p, body.n, "\n\n", 2) : NULL;
    if (cut != NULL) {
        head.n = (size_t)(cut - body.p) + 1;
        body.n -= head.n + 1;
        body.p = cut + 2;
    }
    read_data_key(body, how & 1);
    read_key(body);
    read_aliases(body);
    explain(statuses[how % 6], head, body);
    return 0;
}
