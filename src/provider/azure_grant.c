#include "provider/azure_grant.h"

#include <stdio.h>

#include "base/secret.h"
#include "net/form.h"
#include "net/json_in.h"

#define ASSERTION_TYPE "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
#define LONGEST_SECONDS                                                                            \
    (INT64_C(86400) * 7) /* what is said to be good for longer is good so long */

void dk_azure_grant_clear(struct dk_azure_grant *grant)
{
    dk_wipe(grant, sizeof *grant);
}

static bool is_identity(const struct dk_azure_setup *setup)
{
    return setup->source == DK_AZURE_APP_SERVICE || setup->source == DK_AZURE_IMDS;
}

/* ---- requests -------------------------------------------------------------------------------- */

dk_rc dk_azure_token_url(const struct dk_azure_setup *setup, char *out, size_t cap,
                         struct dk_err *err)
{
    const struct dk_endpoint *to = &setup->authority;
    int n = snprintf(out, cap, "%s://%s%s/%s/oauth2/v2.0/token", to->tls ? "https" : "http",
                     to->authority, to->path, setup->tenant);
    return n > 0 && (size_t)n < cap
               ? DK_OK
               : DK_FAIL(err, CONFIG, "AZURE_AUTHORITY_HOST: the address is too long");
}

/*
 * client_id=..&scope=https%3A%2F%2Fvault.azure.net%2F.default&grant_type=client_credentials and
 * client_secret=.., or client_assertion_type=..&client_assertion=..
 */
static dk_rc put_form(const struct dk_azure_setup *setup, const char *resource, const char *proof,
                      struct dk_buf *body, struct dk_err *err)
{
    char scope[DK_HOST_MAX + 32];
    snprintf(scope, sizeof scope, "%s/.default", resource);
    DK_TRY(dk_form_add(body, "client_id", setup->client_id, err));
    DK_TRY(dk_form_add(body, "scope", scope, err));
    DK_TRY(dk_form_add(body, "grant_type", "client_credentials", err));
    if (setup->source == DK_AZURE_SECRET) {
        return dk_form_add(body, "client_secret", proof, err);
    }
    DK_TRY(dk_form_add(body, "client_assertion_type", ASSERTION_TYPE, err));
    return dk_form_add(body, "client_assertion", proof, err);
}

dk_rc dk_azure_ask_token(const struct dk_azure_setup *setup, const char *resource,
                         const char *proof, struct dk_http_request *out, struct dk_err *err)
{
    out->to = &setup->authority;
    out->method = "POST";
    snprintf(out->path, sizeof out->path, "/%s/oauth2/v2.0/token", setup->tenant);
    DK_TRY(dk_http_add(out, "Content-Type", "application/x-www-form-urlencoded", err));
    DK_TRY(dk_http_add(out, "Accept", "application/json", err));
    return put_form(setup, resource, proof, &out->body, err);
}

static dk_rc put_query(const struct dk_azure_setup *setup, const char *version,
                       const char *resource, struct dk_buf *query, struct dk_err *err)
{
    DK_TRY(dk_buf_add(query, "?", 1, err));
    DK_TRY(dk_form_add(query, "api-version", version, err));
    DK_TRY(dk_form_add(query, "resource", resource, err));
    if (setup->client_id != NULL) {
        DK_TRY(dk_form_add(query, "client_id", setup->client_id, err));
    }
    return dk_buf_add(query, "", 1, err);
}

dk_rc dk_azure_ask_identity(const struct dk_azure_setup *setup, const char *resource,
                            struct dk_http_request *out, struct dk_err *err)
{
    bool imds = setup->source == DK_AZURE_IMDS;
    struct dk_buf query;
    out->to = &setup->identity;
    out->method = "GET";
    dk_buf_init(&query, setup->mem, DK_HTTP_PATH_MAX - 64);
    dk_rc rc = put_query(setup, imds ? "2018-02-01" : "2019-08-01", resource, &query, err);
    if (rc == DK_OK) {
        snprintf(out->path, sizeof out->path, "%s%s", imds ? "/metadata/identity/oauth2/token" : "",
                 (const char *)query.p);
    }
    dk_buf_clear(&query);
    DK_TRY(rc);
    return imds ? dk_http_add(out, "Metadata", "true", err)
                : dk_http_add(out, "X-IDENTITY-HEADER", setup->secret, err);
}

/* ---- answers --------------------------------------------------------------------------------- */

/* expires_in, or where there is none (App Service) expires_on; numbers or texts. */
static bool read_life(const json_t *json, int64_t now_us, int64_t *seconds)
{
    int64_t at = 0;
    if (!dk_json_in_int(json, "expires_in", seconds)) {
        if (!dk_json_in_int(json, "expires_on", &at)) {
            return false;
        }
        int64_t now = now_us / 1000000;
        *seconds = at > now ? at - now : 0;
    }
    *seconds = *seconds < LONGEST_SECONDS ? *seconds : LONGEST_SECONDS;
    return *seconds > 0;
}

static dk_rc read_members(const json_t *json, int64_t now_us, struct dk_azure_grant *out,
                          struct dk_err *err)
{
    const char *token = dk_json_in_text(json, "access_token");
    const char *type = dk_json_in_text(json, "token_type");
    size_t n = token != NULL ? strlen(token) : 0;
    if (n == 0 || n > DK_AZURE_TOKEN_MAX || !dk_is_word(token) ||
        (type != NULL && strcasecmp(type, "Bearer") != 0)) {
        return DK_FAIL(err, PROVIDER, "the answer has no access token that can be used");
    }
    if (!read_life(json, now_us, &out->seconds)) {
        return DK_FAIL(err, PROVIDER, "the answer's token is over, or does not say when it is");
    }
    memcpy(out->token, token, n + 1);
    return DK_OK;
}

dk_rc dk_azure_read_grant(struct dk_view body, int64_t now_us, struct dk_azure_grant *out,
                          struct dk_err *err)
{
    json_t *json = NULL;
    DK_TRY(dk_json_in_parse(body, &json, err));
    dk_rc rc = read_members(json, now_us, out, err);
    json_decref(json);
    return rc;
}

/* ---- errors ---------------------------------------------------------------------------------- */

/* What the token server's numbers are about. */
static const struct {
    const char *number;
    const char *text;
} numbers[] = {
    {"7000215", "AZURE_CLIENT_SECRET is not the application's secret (its value, not its id)"},
    {"7000222", "the secret of the application has expired: make a new one"},
    {"7000218", "the token server wants a secret or an assertion"},
    {"700016", "the directory has no application AZURE_CLIENT_ID"},
    {"90002", "there is no directory AZURE_TENANT_ID"},
    {"900023", "AZURE_TENANT_ID is neither the id of a directory nor one of its domains"},
    {"700213", "the application has no federated credential for this workload's subject"},
    {"700211", "the application has no federated credential for this workload's issuer"},
    {"700212", "the application has no federated credential for this workload's audience"},
    {"700024", "the assertion is over, or not valid yet: are file and clock right?"},
    {"700027", "the certificate is not the application's"},
    {"700021", "the assertion is of another application than AZURE_CLIENT_ID"},
    {"50013", "the assertion's signature is not good"},
    {"500011", "the directory does not know the vault's service"},
    {"7000112", "the application is disabled"},
};
#define NUMBERS (sizeof numbers / sizeof numbers[0])

struct refusal {
    char error[64];
    char number[16]; /* of AADSTS.. */
    char text[160];
};

/* The first sentence, on one line: what follows are ids and a time. */
static void copy_sentence(const char *text, char *out, size_t cap)
{
    text = text != NULL ? text : "";
    const char *end = strstr(text, " Trace ID:");
    snprintf(out, cap, "%.*s", (int)(end != NULL ? (size_t)(end - text) : cap), text);
    for (; *out != '\0'; out++) {
        *out = *out < ' ' ? ' ' : *out;
    }
}

static void read_refusal(struct dk_view body, struct refusal *out)
{
    struct dk_err ignored;
    json_t *json = NULL;
    *out = (struct refusal){.error = ""};
    dk_err_clear(&ignored);
    if (dk_json_in_parse(body, &json, &ignored) != DK_OK) {
        return;
    }
    const char *error = dk_json_in_text(json, "error");
    const char *text = dk_json_in_text(json, "error_description");
    text = text != NULL ? text : dk_json_in_text(json, "message"); /* App Service */
    copy_sentence(error, out->error, sizeof out->error);
    copy_sentence(text, out->text, sizeof out->text);
    if (text != NULL && strncmp(text, "AADSTS", 6) == 0) {
        snprintf(out->number, sizeof out->number, "%.*s", (int)strspn(text + 6, "0123456789"),
                 text + 6);
    }
    json_decref(json);
}

static const char *meaning_of(const char *number)
{
    for (size_t i = 0; i < NUMBERS; i++) {
        if (strcmp(numbers[i].number, number) == 0) {
            return numbers[i].text;
        }
    }
    return "no token was given";
}

/* IMDS says 404 and 410 while it is being set up (PROVIDERS B.5). */
static bool may_pass(const struct dk_azure_setup *setup, long status)
{
    bool imds = setup->source == DK_AZURE_IMDS && (status == 404 || status == 410);
    return status >= 500 || status == 429 || status == 408 || imds;
}

enum dk_http_next dk_azure_explain_grant(const struct dk_azure_setup *setup,
                                         const struct dk_http_reply *reply, struct dk_err *err)
{
    struct refusal r;
    long status = reply->status;
    const char *who = is_identity(setup) ? "the managed identity" : "Microsoft Entra";
    read_refusal(reply->body, &r);
    if (may_pass(setup, status)) {
        dk_rc rc = status == 429 ? DK_E_THROTTLED : DK_E_UNREACHABLE;
        (void)dk_err_set_backend(err, rc, status, __FILE__, __LINE__,
                                 "%s gave no token: HTTP %ld %.60s", who, status, r.error);
        return DK_HTTP_LATER;
    }
    if (r.error[0] == '\0' && r.text[0] == '\0') {
        (void)DK_FAIL_BACKEND(
            err, PROVIDER, status, "what answers is not %s: HTTP %ld%s", who, status,
            status >= 300 && status < 400 ? ", a redirect, which is not followed" : "");
        return DK_HTTP_DONE;
    }
    (void)DK_FAIL_BACKEND(err, PROVIDER_DENIED, status, "%s: %s (HTTP %ld %.40s: %.110s)", who,
                          meaning_of(r.number), status, r.error, r.text);
    return DK_HTTP_DONE;
}
