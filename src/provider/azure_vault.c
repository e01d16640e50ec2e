#include "provider/azure_vault.h"

#include <stdio.h>

#include "base/json_out.h"
#include "net/json_in.h"

static const struct {
    const char *name; /* in key_ops and permissions */
    const char *path;
} ops[DK_VAULT_OPS] = {
    [DK_VAULT_GET] = {"get", ""},
    [DK_VAULT_ENCRYPT] = {"encrypt", "/encrypt"},
    [DK_VAULT_DECRYPT] = {"decrypt", "/decrypt"},
    [DK_VAULT_WRAPKEY] = {"wrapKey", "/wrapkey"},
    [DK_VAULT_UNWRAPKEY] = {"unwrapKey", "/unwrapkey"},
};

static const char *const algs[] = {
    [DK_VAULT_RSA_OAEP_256] = "RSA-OAEP-256", [DK_VAULT_A256GCM] = "A256GCM"};

const char *dk_vault_op_name(enum dk_vault_op op)
{
    return ops[op].name;
}

static bool undoes(enum dk_vault_op op)
{
    return op == DK_VAULT_DECRYPT || op == DK_VAULT_UNWRAPKEY;
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

/* base64url without padding. At most an AAD: its context has three pairs of at most 128 bytes. */
#define PUT_MAX 1024
static dk_rc put_bytes(struct dk_json *json, const char *name, const void *p, size_t n,
                       struct dk_err *err)
{
    char text[DK_BASE64URL_LEN(PUT_MAX)];
    if (n > PUT_MAX) {
        return DK_FAIL(err, LIMIT, "%zu bytes are too many for Azure Key Vault", n);
    }
    dk_base64url_encode(p, n, text);
    dk_json_view(json, name, dk_view_of(text, DK_BASE64URL_LEN(n)));
    dk_wipe(text, sizeof text);
    return DK_OK;
}

/* {"alg":"RSA-OAEP-256","value":".."}; A256GCM: aad, and to unwrap iv and tag */
static dk_rc put_members(struct dk_json *json, const struct dk_vault_ask *ask, struct dk_err *err)
{
    dk_json_str(json, "alg", algs[ask->alg]);
    if (undoes(ask->op)) {
        DK_TRY(put_bytes(json, "value", ask->value.p, ask->value.n, err));
    } else {
        DK_TRY(put_bytes(json, "value", dk_secret_expose_for_crypto(ask->secret), ask->secret->n,
                         err));
    }
    if (ask->alg != DK_VAULT_A256GCM) {
        return DK_OK;
    }
    DK_TRY(put_bytes(json, "aad", ask->aad.p, ask->aad.n, err));
    if (!undoes(ask->op)) {
        return DK_OK; /* the vault chooses the iv */
    }
    DK_TRY(put_bytes(json, "iv", ask->iv, DK_VAULT_IV, err));
    return put_bytes(json, "tag", ask->tag, DK_VAULT_TAG, err);
}

dk_rc dk_vault_build(const struct dk_vault_ask *ask, struct dk_http_request *out,
                     struct dk_err *err)
{
    struct sink sink = {&out->body, DK_OK, err};
    struct dk_json json;
    out->method = ask->op == DK_VAULT_GET ? "GET" : "POST";
    snprintf(out->path, sizeof out->path, "/keys/%s%s%s%s?api-version=%s", ask->name,
             ask->version[0] != '\0' ? "/" : "", ask->version, ops[ask->op].path, ask->api_version);
    DK_TRY(dk_http_add(out, "Accept", "application/json", err));
    if (ask->op == DK_VAULT_GET) {
        return DK_OK;
    }
    DK_TRY(dk_http_add(out, "Content-Type", "application/json", err));
    dk_json_init(&json, put, &sink);
    dk_json_object(&json, NULL);
    DK_TRY(put_members(&json, ask, err));
    dk_json_end(&json, '}');
    return sink.rc;
}

/* ---- answers --------------------------------------------------------------------------------- */

/* Of exactly `*n` bytes when `exact`, else of 1 to `*n`, which becomes their number. */
static bool read_bytes(const json_t *json, const char *name, bool exact, uint8_t *out, size_t *n)
{
    const char *text = dk_json_in_text(json, name);
    size_t len = text != NULL ? strlen(text) : 0, bytes = 0;
    if (!dk_base64url_decoded_len(len, &bytes) || bytes == 0 || bytes > *n ||
        (exact && bytes != *n) || !dk_base64url_decode(text, len, out)) {
        return false;
    }
    *n = bytes;
    return true;
}

static bool read_wrapped(const json_t *json, struct dk_vault_answer *out, bool gcm)
{
    size_t iv = sizeof out->iv, tag = sizeof out->tag;
    out->value_n = sizeof out->value;
    return read_bytes(json, "value", false, out->value, &out->value_n) &&
           (!gcm || (read_bytes(json, "iv", true, out->iv, &iv) &&
                     read_bytes(json, "tag", true, out->tag, &tag)));
}

static bool read_unwrapped(const json_t *json, struct dk_secret *out)
{
    size_t n = DK_SECRET_CELL;
    if (!read_bytes(json, "value", false, dk_secret_expose_for_crypto(out), &n)) {
        return false;
    }
    out->n = (uint8_t)n;
    return true;
}

static dk_rc read_members(const struct dk_vault_ask *ask, const json_t *json,
                          struct dk_vault_answer *out, struct dk_err *err)
{
    bool gcm = ask->alg == DK_VAULT_A256GCM;
    if (!dk_vault_kid_copy(dk_json_in_text(json, "kid"), out->kid)) {
        return DK_FAIL(err, PROVIDER, "Azure Key Vault answered without the key's id");
    }
    if (undoes(ask->op) ? !read_unwrapped(json, out->secret) : !read_wrapped(json, out, gcm)) {
        return DK_FAIL(err, PROVIDER, "Azure Key Vault answered without a value that can be read");
    }
    return DK_OK;
}

dk_rc dk_vault_read(const struct dk_vault_ask *ask, struct dk_view body,
                    struct dk_vault_answer *out, struct dk_err *err)
{
    json_t *json = NULL;
    dk_rc rc = dk_json_in_parse(body, &json, err);
    if (rc == DK_OK) {
        rc = read_members(ask, json, out, err);
        json_decref(json);
    }
    return rc == DK_OK ? rc : dk_err_while(err, "reading the answer to %s", ops[ask->op].name);
}

/* ---- errors ---------------------------------------------------------------------------------- */

#define DENIED "Access denied to the key in Azure Key Vault"

struct refusal {
    long status;
    char code[48];
    char inner[48];
    char message[240];
    char request_id[48];
};

static void copy(char *out, size_t cap, const char *text)
{
    snprintf(out, cap, "%s", text != NULL ? text : "");
    for (; *out != '\0'; out++) {
        *out = *out < ' ' ? ' ' : *out; /* messages have line ends in them */
    }
}

static void read_refusal(const struct dk_http_reply *reply, struct refusal *out)
{
    struct dk_err ignored;
    json_t *json = NULL;
    *out = (struct refusal){.status = reply->status};
    (void)dk_http_header(reply, "x-ms-request-id", out->request_id, sizeof out->request_id);
    dk_err_clear(&ignored);
    if (dk_json_in_parse(reply->body, &json, &ignored) != DK_OK) {
        return;
    }
    const json_t *error = dk_json_in_object(json, "error");
    const json_t *inner = dk_json_in_object(error, "innererror");
    inner = inner != NULL ? inner : dk_json_in_object(error, "innerError");
    copy(out->code, sizeof out->code, dk_json_in_text(error, "code"));
    copy(out->inner, sizeof out->inner, dk_json_in_text(inner, "code"));
    copy(out->message, sizeof out->message, dk_json_in_text(error, "message"));
    json_decref(json);
}

/* By the inner code, which says why it is forbidden. */
static const struct {
    const char *inner;
    enum dk_vault_fault fault;
    dk_rc rc;
    const char *text;
} reasons[] = {
    {"KeyDisabled", DK_VAULT_FAILED, DK_E_MASTER_KEY_DISABLED, "the master key is disabled"},
    {"KeyExpired", DK_VAULT_FAILED, DK_E_MASTER_KEY_DISABLED,
     "the master key has expired: give it a new version"},
    {"KeyNotYetValid", DK_VAULT_FAILED, DK_E_MASTER_KEY_DISABLED,
     "the master key is not valid yet"},
    {"ForbiddenByFirewall", DK_VAULT_FAILED, DK_E_PROVIDER_DENIED,
     DENIED ": the vault's firewall does not let this machine in"},
    {"ForbiddenByConnection", DK_VAULT_FAILED, DK_E_PROVIDER_DENIED,
     DENIED ": the vault is reached by its private endpoint only"},
    {"KeyOperationForbidden", DK_VAULT_FORBIDDEN, DK_E_PROVIDER_DENIED,
     DENIED ": the key's key_ops do not list the operation"},
};
#define REASONS (sizeof reasons / sizeof reasons[0])

static enum dk_vault_fault explain_forbidden(const struct dk_vault_ask *ask,
                                             const struct refusal *r, struct dk_err *err)
{
    const char *op = ops[ask->op].name;
    for (size_t i = 0; i < REASONS; i++) {
        if (strcmp(reasons[i].inner, r->inner) == 0) {
            (void)dk_err_set_backend(err, reasons[i].rc, r->status, __FILE__, __LINE__,
                                     "%s (%s, keys/%s, key %.80s, request %.40s)", reasons[i].text,
                                     r->inner, op, ask->name, r->request_id);
            return reasons[i].fault;
        }
    }
    (void)DK_FAIL_BACKEND(err, PROVIDER_DENIED, r->status,
                          DENIED ": permission needed: keys/%s (%.40s%s%.40s, key %.80s, request "
                                 "%.40s)",
                          op, r->code, r->inner[0] != '\0' ? ", " : "", r->inner, ask->name,
                          r->request_id);
    return DK_VAULT_FORBIDDEN;
}

/* On the way back it is the blob that the vault does not like: it made all the rest itself. */
static enum dk_vault_fault explain_bad_request(const struct dk_vault_ask *ask,
                                               const struct refusal *r, struct dk_err *err)
{
    if (undoes(ask->op) && strcmp(r->code, "BadParameter") == 0) {
        (void)DK_FAIL_BACKEND(err, AUTH, r->status,
                              "Invalid ciphertext: the wrapped key was changed, or belongs to "
                              "another tenant, purpose, time or master key (%.90s)",
                              r->message);
    } else {
        (void)DK_FAIL_BACKEND(err, CONFIG, r->status,
                              "Azure Key Vault does not take keys/%s of the key %.60s: %.40s: "
                              "%.120s",
                              ops[ask->op].name, ask->name, r->code, r->message);
    }
    return DK_VAULT_FAILED;
}

static enum dk_vault_fault explain_rest(const struct dk_vault_ask *ask, const struct refusal *r,
                                        struct dk_err *err)
{
    const char *op = ops[ask->op].name;
    if (r->status == 429) {
        (void)DK_FAIL_BACKEND(err, THROTTLED, r->status,
                              "Azure Key Vault throttles keys/%s (request %.40s)", op,
                              r->request_id);
        return DK_VAULT_TRANSIENT;
    }
    if (r->status >= 500 || r->status == 408 || r->status == 409) {
        (void)DK_FAIL_BACKEND(err, UNREACHABLE, r->status,
                              "Azure Key Vault failed at keys/%s: HTTP %ld %.40s (request %.40s)",
                              op, r->status, r->code, r->request_id);
        return DK_VAULT_TRANSIENT;
    }
    if (r->code[0] != '\0') {
        (void)DK_FAIL_BACKEND(err, PROVIDER, r->status,
                              "Azure Key Vault answered keys/%s with %.40s: %.120s", op, r->code,
                              r->message);
        return DK_VAULT_FAILED;
    }
    (void)DK_FAIL_BACKEND(
        err, PROVIDER, r->status, "what answers keys/%s is not Azure Key Vault: HTTP %ld%s", op,
        r->status,
        r->status >= 300 && r->status < 400 ? ", a redirect, which is not followed" : "");
    return DK_VAULT_FAILED;
}

enum dk_vault_fault dk_vault_explain(const struct dk_vault_ask *ask,
                                     const struct dk_http_reply *reply, struct dk_err *err)
{
    struct refusal r;
    read_refusal(reply, &r);
    if (r.status == 401) {
        (void)DK_FAIL_BACKEND(err, PROVIDER_DENIED, r.status,
                              "Azure Key Vault does not accept the token: %.160s (request %.40s)",
                              r.message, r.request_id);
        return DK_VAULT_TOKEN;
    }
    if (r.status == 403) {
        return explain_forbidden(ask, &r, err);
    }
    if (r.status == 400 && r.code[0] != '\0') {
        return explain_bad_request(ask, &r, err);
    }
    if (r.status == 404 && strcmp(r.code, "KeyNotFound") == 0) {
        (void)DK_FAIL_BACKEND(err, NO_MASTER_KEY, r.status,
                              "Azure Key Vault has no key %.80s%s%.32s (request %.40s)", ask->name,
                              ask->version[0] != '\0' ? "/" : "", ask->version, r.request_id);
        return DK_VAULT_FAILED;
    }
    return explain_rest(ask, &r, err);
}
