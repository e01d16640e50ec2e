#include "provider/aws_kms.h"

#include <stdio.h>
#include <strings.h>

#include "net/json_in.h"
#include "provider/aws_place.h"

static const char *const names[DK_KMS_OPS] = {
    [DK_KMS_GENERATE] = "GenerateDataKey", [DK_KMS_ENCRYPT] = "Encrypt",
    [DK_KMS_DECRYPT] = "Decrypt",          [DK_KMS_REENCRYPT] = "ReEncrypt",
    [DK_KMS_DESCRIBE] = "DescribeKey",     [DK_KMS_ROTATION] = "GetKeyRotationStatus",
    [DK_KMS_ALIASES] = "ListAliases",
};

/* Behind `kms:`. */
static const char *const rights[DK_KMS_OPS] = {
    [DK_KMS_GENERATE] = "GenerateDataKey",
    [DK_KMS_ENCRYPT] = "Encrypt",
    [DK_KMS_DECRYPT] = "Decrypt",
    [DK_KMS_REENCRYPT] = "ReEncryptFrom of the key before, kms:ReEncryptTo of the new one",
    [DK_KMS_DESCRIBE] = "DescribeKey",
    [DK_KMS_ROTATION] = "GetKeyRotationStatus",
    [DK_KMS_ALIASES] = "ListAliases",
};

const char *dk_kms_op_name(enum dk_kms_op op)
{
    return names[op];
}

/* ---- requests -------------------------------------------------------------------------------- */

struct sink {
    struct dk_buf *body;
    dk_rc rc;
    struct dk_err *err;
};

static void put(void *arg, const char *p, size_t n)
{
    struct sink *sink = arg;
    if (sink->rc == DK_OK) {
        sink->rc = dk_buf_add(sink->body, p, n, sink->err);
    }
}

/* Exactly the three pairs as they are stored (DESIGN 4). */
static void put_context(struct dk_json *json, const char *name,
                        const struct dk_wrap_context *context)
{
    dk_json_object(json, name);
    dk_json_view(json, "TenantId", context->tenant);
    dk_json_str(json, "Purpose", context->purpose);
    dk_json_str(json, "Timestamp", context->timestamp);
    dk_json_end(json, '}');
}

static void put_plaintext(struct dk_json *json, const struct dk_secret *key)
{
    char text[DK_BASE64_LEN(DK_SECRET_CELL) + 1];
    dk_base64_encode(dk_secret_expose_for_crypto(key), key->n, text);
    dk_json_str(json, "Plaintext", text);
    dk_wipe(text, sizeof text);
}

/* {"KeyId":"alias/dekhand","KeySpec":"AES_256","EncryptionContext":{"TenantId":"t-1",..}} */
static void put_members(struct dk_json *json, const struct dk_kms_ask *ask)
{
    switch (ask->op) {
    case DK_KMS_GENERATE:
        dk_json_str(json, "KeyId", ask->key_id);
        dk_json_str(json, "KeySpec", "AES_256");
        put_context(json, "EncryptionContext", ask->context);
        break;
    case DK_KMS_ENCRYPT:
        dk_json_str(json, "KeyId", ask->key_id);
        put_plaintext(json, ask->plaintext);
        put_context(json, "EncryptionContext", ask->context);
        break;
    case DK_KMS_DECRYPT:
        dk_json_str(json, "KeyId", ask->key_id);
        dk_json_str(json, "CiphertextBlob", ask->blob);
        put_context(json, "EncryptionContext", ask->context);
        break;
    case DK_KMS_REENCRYPT:
        dk_json_str(json, "SourceKeyId", ask->key_id);
        dk_json_str(json, "DestinationKeyId", ask->destination);
        dk_json_str(json, "CiphertextBlob", ask->blob);
        put_context(json, "SourceEncryptionContext", ask->context);
        put_context(json, "DestinationEncryptionContext", ask->context);
        break;
    case DK_KMS_ALIASES:
        dk_json_str(json, "KeyId", ask->key_id);
        if (ask->marker != NULL) {
            dk_json_str(json, "Marker", ask->marker);
        }
        break;
    default:
        dk_json_str(json, "KeyId", ask->key_id);
        break;
    }
}

dk_rc dk_kms_build(const struct dk_kms_ask *ask, struct dk_http_request *out, struct dk_err *err)
{
    char target[64];
    struct sink sink = {&out->body, DK_OK, err};
    struct dk_json json;
    out->method = "POST";
    snprintf(out->path, sizeof out->path, "/");
    snprintf(target, sizeof target, "TrentService.%s", names[ask->op]);
    DK_TRY(dk_http_add(out, "Content-Type", "application/x-amz-json-1.1", err));
    DK_TRY(dk_http_add(out, "X-Amz-Target", target, err));
    dk_json_init(&json, put, &sink);
    dk_json_object(&json, NULL);
    put_members(&json, ask);
    dk_json_end(&json, '}');
    return sink.rc;
}

/* ---- answers --------------------------------------------------------------------------------- */

/* A field of base64, decoded into the key. A key of another length is judged by the caller. */
static dk_rc read_plaintext(const json_t *json, struct dk_secret *key, struct dk_err *err)
{
    const char *text = dk_json_in_text(json, "Plaintext");
    size_t n = 0;
    if (text == NULL || !dk_base64_decode(text, strlen(text), dk_secret_expose_for_crypto(key),
                                          DK_SECRET_CELL, &n)) {
        return DK_FAIL(err, PROVIDER, "AWS KMS answered without a plaintext that can be read");
    }
    key->n = (uint8_t)n;
    return DK_OK;
}

static bool copy_text(const char *text, char *out, size_t cap)
{
    size_t n = text != NULL ? strlen(text) : 0;
    if (n == 0 || n >= cap) {
        return false;
    }
    memcpy(out, text, n + 1);
    return true;
}

static dk_rc read_blob(const json_t *json, struct dk_wrapped *out, struct dk_err *err)
{
    const char *text = dk_json_in_text(json, "CiphertextBlob");
    uint8_t bytes[DK_WRAPPED_MAX];
    size_t n = 0;
    if (!copy_text(text, out->blob, sizeof out->blob) ||
        !dk_base64_decode(text, strlen(text), bytes, sizeof bytes, &n) || n == 0) {
        return DK_FAIL(err, PROVIDER,
                       "AWS KMS answered without a CiphertextBlob of at most %d bytes",
                       DK_WRAPPED_MAX / 4 * 3);
    }
    return DK_OK;
}

static dk_rc read_members(const json_t *json, struct dk_kms_answer *out, struct dk_err *err)
{
    if (!copy_text(dk_json_in_text(json, "KeyId"), out->key_id, sizeof out->key_id)) {
        return DK_FAIL(err, PROVIDER, "AWS KMS answered without the key's ARN");
    }
    if (out->wrapped != NULL) {
        memcpy(out->wrapped->kms_key_id, out->key_id, sizeof out->key_id);
        DK_TRY(read_blob(json, out->wrapped, err));
    }
    return out->key != NULL ? read_plaintext(json, out->key, err) : DK_OK;
}

dk_rc dk_kms_read(const struct dk_kms_ask *ask, struct dk_view body, struct dk_kms_answer *out,
                  struct dk_err *err)
{
    json_t *json = NULL;
    dk_rc rc = dk_json_in_parse(body, &json, err);
    if (rc == DK_OK) {
        rc = read_members(json, out, err);
        json_decref(json);
    }
    return rc == DK_OK ? rc : dk_err_while(err, "reading the answer to %s", names[ask->op]);
}

static dk_rc read_metadata(const json_t *json, struct dk_kms_key *out, struct dk_err *err)
{
    const json_t *key = dk_json_in_object(json, "KeyMetadata");
    int64_t at = 0;
    *out = (struct dk_kms_key){.deletion_us = DK_TIME_NONE};
    if (!copy_text(dk_json_in_text(key, "Arn"), out->arn, sizeof out->arn) ||
        !copy_text(dk_json_in_text(key, "KeyState"), out->state, sizeof out->state)) {
        return DK_FAIL(err, PROVIDER, "AWS KMS described a key without ARN or state");
    }
    (void)copy_text(dk_json_in_text(key, "KeyUsage"), out->usage, sizeof out->usage);
    (void)copy_text(dk_json_in_text(key, "KeySpec"), out->spec, sizeof out->spec);
    (void)copy_text(dk_json_in_text(key, "Origin"), out->origin, sizeof out->origin);
    out->multi_region = dk_json_in_bool(key, "MultiRegion") == 1;
    if (dk_json_in_int(key, "DeletionDate", &at) && at > 0 && at < INT64_C(253402300800)) {
        out->deletion_us = at * 1000000;
    }
    return DK_OK;
}

dk_rc dk_kms_read_key(struct dk_view body, struct dk_kms_key *out, struct dk_err *err)
{
    json_t *json = NULL;
    DK_TRY(dk_json_in_parse(body, &json, err));
    dk_rc rc = read_metadata(json, out, err);
    json_decref(json);
    return rc;
}

dk_rc dk_kms_read_rotation(struct dk_view body, bool *enabled, struct dk_err *err)
{
    json_t *json = NULL;
    DK_TRY(dk_json_in_parse(body, &json, err));
    int value = dk_json_in_bool(json, "KeyRotationEnabled");
    json_decref(json);
    if (value < 0) {
        return DK_FAIL(err, PROVIDER, "AWS KMS did not say whether the key rotates");
    }
    *enabled = value == 1;
    return DK_OK;
}

static bool is_alias_of(const json_t *entry, const char *id)
{
    const char *target = dk_json_in_text(entry, "TargetKeyId");
    return target != NULL && strcmp(target, id) == 0;
}

static dk_rc add_alias(const json_t *entry, struct dk_kms_aliases *out, struct dk_err *err)
{
    struct dk_aws_key key;
    const char *name = dk_json_in_text(entry, "AliasName");
    size_t n = strlen(out->text);
    if (name == NULL || !dk_aws_key_parse(name, &key) || key.form != DK_AWS_KEY_ALIAS) {
        return DK_FAIL(err, PROVIDER, "AWS KMS listed an alias that is none");
    }
    if (n + 2 + strlen(name) < sizeof out->text) {
        snprintf(out->text + n, sizeof out->text - n, "%s%s", n > 0 ? ", " : "", name);
        out->shown++;
    }
    out->count++;
    return DK_OK;
}

static dk_rc read_aliases(const json_t *json, const char *id, struct dk_kms_aliases *out,
                          struct dk_err *err)
{
    const json_t *list = json_object_get(json, "Aliases");
    if (!json_is_array(list)) {
        return DK_FAIL(err, PROVIDER, "AWS KMS answered without a list of aliases");
    }
    for (size_t i = 0; i < json_array_size(list); i++) {
        if (is_alias_of(json_array_get(list, i), id)) {
            DK_TRY(add_alias(json_array_get(list, i), out, err));
        }
    }
    out->more = dk_json_in_bool(json, "Truncated") == 1;
    if (out->more &&
        !copy_text(dk_json_in_text(json, "NextMarker"), out->marker, sizeof out->marker)) {
        return DK_FAIL(err, PROVIDER, "AWS KMS has more aliases and does not say where");
    }
    return DK_OK;
}

dk_rc dk_kms_read_aliases(struct dk_view body, const char *id, struct dk_kms_aliases *out,
                          struct dk_err *err)
{
    json_t *json = NULL;
    DK_TRY(dk_json_in_parse(body, &json, err));
    dk_rc rc = read_aliases(json, id, out, err);
    json_decref(json);
    return rc;
}

/* ---- errors ---------------------------------------------------------------------------------- */

/* `ns#Name:where` -> `Name`; `where` may be a URL with a # of its own. */
static void take_code(const char *text, char code[static 64])
{
    size_t n = strcspn(text, ": \t\r\n<");
    const char *sharp = memchr(text, '#', n);
    const char *name = sharp != NULL ? sharp + 1 : text;
    snprintf(code, 64, "%.*s", (int)(text + n - name), name);
}

/* What stands between <Name> and the next tag: enough for an error's code and message. */
static bool take_tag(struct dk_view body, const char *tag, char *out, size_t cap)
{
    const char *from = memmem(body.p, body.n, tag, strlen(tag));
    if (from == NULL) {
        return false;
    }
    from += strlen(tag);
    size_t left = (size_t)((const char *)body.p + body.n - from);
    const char *to = memchr(from, '<', left);
    snprintf(out, cap, "%.*s", (int)(to != NULL ? (size_t)(to - from) : 0), from);
    return out[0] != '\0';
}

static void read_json_error(struct dk_view body, char code[static 64], char message[static 200])
{
    struct dk_err ignored;
    json_t *json = NULL;
    dk_err_clear(&ignored);
    if (dk_json_in_parse(body, &json, &ignored) != DK_OK) {
        return;
    }
    const char *type = dk_json_in_text(json, "__type");
    const char *text = dk_json_in_text(json, "message");
    text = text != NULL ? text : dk_json_in_text(json, "Message");
    if (type != NULL) {
        take_code(type, code);
    }
    snprintf(message, 200, "%s", text != NULL ? text : "");
    json_decref(json);
}

void dk_aws_error_of(const struct dk_http_reply *reply, char code[static 64],
                     char message[static 200])
{
    char header[128];
    code[0] = message[0] = '\0';
    if (reply->body.n > 0 && reply->body.p[0] == '{') {
        read_json_error(reply->body, code, message);
    } else if (reply->body.n > 0 && take_tag(reply->body, "<Code>", code, 64)) {
        (void)take_tag(reply->body, "<Message>", message, 200);
    }
    if (code[0] == '\0' && dk_http_header(reply, "x-amzn-errortype", header, sizeof header)) {
        take_code(header, code);
    }
    for (char *c = message; *c != '\0'; c++) {
        *c = (unsigned char)*c < ' ' || *c == 0x7f ? ' ' : *c; /* it goes into a line of a log */
    }
}

/* Codes of KMS and what they mean; a name that ends with * is a beginning. */
static const struct {
    const char *code;
    enum dk_aws_fault fault;
    dk_rc rc;
    const char *text; /* the guide's wording where it has one */
    bool lacks;       /* the permission of the operation, perhaps */
} faults[] = {
    {"Throttl*", DK_AWS_TRANSIENT, DK_E_THROTTLED, "AWS KMS throttles", false},
    {"RequestLimitExceeded", DK_AWS_TRANSIENT, DK_E_THROTTLED, "AWS KMS throttles", false},
    {"TooManyRequestsException", DK_AWS_TRANSIENT, DK_E_THROTTLED, "AWS KMS throttles", false},
    {"KMSInternalException", DK_AWS_TRANSIENT, DK_E_UNREACHABLE, "AWS KMS failed", false},
    {"DependencyTimeoutException", DK_AWS_TRANSIENT, DK_E_UNREACHABLE, "AWS KMS failed", false},
    {"KeyUnavailableException", DK_AWS_TRANSIENT, DK_E_UNREACHABLE, "AWS KMS failed", false},
    {"ExpiredToken*", DK_AWS_CREDENTIALS, DK_E_PROVIDER_DENIED, "the AWS credentials have expired",
     false},
    {"UnrecognizedClientException", DK_AWS_CREDENTIALS, DK_E_PROVIDER_DENIED,
     "AWS does not know these credentials", false},
    {"InvalidClientTokenId", DK_AWS_CREDENTIALS, DK_E_PROVIDER_DENIED,
     "AWS does not know these credentials", false},
    {"InvalidSignatureException", DK_AWS_SKEW, DK_E_PROVIDER_DENIED,
     "AWS does not accept the signature: is AWS_SECRET_ACCESS_KEY right, and the clock?", false},
    {"SignatureDoesNotMatch", DK_AWS_SKEW, DK_E_PROVIDER_DENIED,
     "AWS does not accept the signature: is AWS_SECRET_ACCESS_KEY right, and the clock?", false},
    {"RequestExpired", DK_AWS_SKEW, DK_E_PROVIDER_DENIED, "AWS takes the request for an old one",
     false},
    {"RequestInTheFuture", DK_AWS_SKEW, DK_E_PROVIDER_DENIED,
     "AWS takes the request for one of the future", false},
    {"RequestTimeTooSkewed", DK_AWS_SKEW, DK_E_PROVIDER_DENIED,
     "AWS takes the request for an old one", false},
    {"AccessDenied*", DK_AWS_FAILED, DK_E_PROVIDER_DENIED, "Access denied to KMS key", true},
    {"InvalidCiphertextException", DK_AWS_FAILED, DK_E_AUTH,
     "Invalid ciphertext: the wrapped key was changed, or belongs to another tenant, purpose or "
     "time",
     false},
    {"IncorrectKeyException", DK_AWS_FAILED, DK_E_AUTH,
     "Invalid ciphertext: the wrapped key was made under another master key", false},
    {"DisabledException", DK_AWS_FAILED, DK_E_MASTER_KEY_DISABLED, "the master key is disabled",
     false},
    {"KMSInvalidStateException", DK_AWS_FAILED, DK_E_MASTER_KEY_DISABLED,
     "the master key is disabled or pending deletion", false},
    {"NotFoundException", DK_AWS_FAILED, DK_E_NO_MASTER_KEY, "AWS KMS has no such key here", false},
    {"InvalidKeyUsageException", DK_AWS_FAILED, DK_E_CONFIG,
     "the key is none for encryption: a symmetric key with the usage ENCRYPT_DECRYPT is needed",
     false},
    {"InvalidArnException", DK_AWS_FAILED, DK_E_CONFIG, "AWS KMS does not take the key's ARN",
     false},
    {"ValidationException", DK_AWS_FAILED, DK_E_CONFIG, "AWS KMS does not take the request", false},
    {"LimitExceededException", DK_AWS_FAILED, DK_E_PROVIDER, "a limit of AWS KMS is reached",
     false},
    {"UnsupportedOperationException", DK_AWS_FAILED, DK_E_CONFIG,
     "AWS KMS does not do this with the key", false},
    {"InvalidGrantTokenException", DK_AWS_FAILED, DK_E_PROVIDER_DENIED, "Access denied to KMS key",
     true},
};
#define FAULTS (sizeof faults / sizeof faults[0])

static bool is_code(const char *pattern, const char *code)
{
    size_t n = strlen(pattern);
    return pattern[n - 1] == '*' ? strncmp(pattern, code, n - 1) == 0 : strcmp(pattern, code) == 0;
}

static enum dk_aws_fault explain_status(const struct dk_kms_ask *ask, long status,
                                        struct dk_err *err)
{
    const char *op = names[ask->op];
    if (status >= 500) {
        (void)DK_FAIL_BACKEND(err, UNREACHABLE, status, "AWS KMS failed at %s: HTTP %ld", op,
                              status);
        return DK_AWS_TRANSIENT;
    }
    if (status == 429) {
        (void)DK_FAIL_BACKEND(err, THROTTLED, status, "AWS KMS throttles %s", op);
        return DK_AWS_TRANSIENT;
    }
    if (status == 401 || status == 403) {
        (void)DK_FAIL_BACKEND(err, PROVIDER_DENIED, status,
                              "Access denied to KMS key %.120s: kms:%s (HTTP %ld)", ask->key_id,
                              rights[ask->op], status);
        return DK_AWS_FAILED;
    }
    (void)DK_FAIL_BACKEND(
        err, PROVIDER, status, "what answers %s is not AWS KMS: HTTP %ld%s", op, status,
        status >= 300 && status < 400 ? ", a redirect, which is not followed" : "");
    return DK_AWS_FAILED;
}

enum dk_aws_fault dk_kms_explain(const struct dk_kms_ask *ask, const struct dk_http_reply *reply,
                                 struct dk_err *err)
{
    char code[64], message[200], request_id[64] = "";
    dk_aws_error_of(reply, code, message);
    (void)dk_http_header(reply, "x-amzn-requestid", request_id, sizeof request_id);
    for (size_t i = 0; i < FAULTS; i++) {
        if (!is_code(faults[i].code, code)) {
            continue;
        }
        (void)dk_err_set_backend(err, faults[i].rc, reply->status, __FILE__, __LINE__,
                                 "%s%s%.100s (%s%s, key %.90s, request %.40s)", faults[i].text,
                                 message[0] != '\0' ? ": " : "", message,
                                 faults[i].lacks ? "permission needed: kms:" : "",
                                 faults[i].lacks ? rights[ask->op] : names[ask->op], ask->key_id,
                                 request_id);
        return faults[i].fault;
    }
    if (code[0] == '\0' || reply->status == 429) {
        return explain_status(ask, reply->status, err);
    }
    bool transient = reply->status >= 500;
    (void)dk_err_set_backend(err, transient ? DK_E_UNREACHABLE : DK_E_PROVIDER, reply->status,
                             __FILE__, __LINE__, "AWS KMS answered %s with %.60s: %.100s",
                             names[ask->op], code, message);
    return transient ? DK_AWS_TRANSIENT : DK_AWS_FAILED;
}
