#include "provider/azure_fetch.h"

#include "base/file.h"
#include "provider/azure_jwt.h"

struct dk_http_limits dk_azure_fetch_limits(const struct dk_azure_setup *setup, bool identity)
{
    struct dk_http_limits limits = dk_http_limits_default;
    limits.budget = 0;
    if (identity) {
        /* 5 tries, from 0.8 s on, twice as long each. */
        limits.tries = 5;
        limits.connect_ms = setup->source == DK_AZURE_IMDS ? 1000 : 2000;
        limits.total_ms = 15000;
        limits.wait_ms = 800;
        limits.wait_max_ms = 6400;
    }
    return limits;
}

struct ask {
    const struct dk_azure_tokens_setup *setup;
    const char *resource;
    const char *proof; /* secret or assertion */
    struct dk_azure_grant *out;
};

static bool is_identity(const struct dk_azure_setup *setup)
{
    return setup->source == DK_AZURE_APP_SERVICE || setup->source == DK_AZURE_IMDS;
}

static dk_rc build(void *self, struct dk_http_request *out, struct dk_err *err)
{
    struct ask *ask = self;
    const struct dk_azure_setup *azure = ask->setup->azure;
    return is_identity(azure) ? dk_azure_ask_identity(azure, ask->resource, out, err)
                              : dk_azure_ask_token(azure, ask->resource, ask->proof, out, err);
}

/* A machine that has no identity service does not get one: it is not asked again and again. */
static enum dk_http_next explain_silence(const struct ask *ask, struct dk_err *err)
{
    if (!is_identity(ask->setup->azure)) {
        return err->rc == DK_E_UNREACHABLE ? DK_HTTP_LATER : DK_HTTP_DONE;
    }
    struct dk_err cause = *err;
    if (err->rc == DK_E_UNREACHABLE && ask->setup->azure->source == DK_AZURE_IMDS) {
        dk_err_clear(err);
        (void)DK_FAIL_BACKEND(err, UNREACHABLE, cause.backend,
                              "no Azure credentials: AZURE_CLIENT_SECRET, "
                              "AZURE_CLIENT_CERTIFICATE_PATH and AZURE_FEDERATED_TOKEN_FILE are "
                              "not set, and there is no managed identity: %.100s",
                              cause.text);
    }
    return DK_HTTP_DONE;
}

static enum dk_http_next judge(void *self, const struct dk_http_reply *reply, struct dk_err *err)
{
    struct ask *ask = self;
    int64_t now_us;
    if (reply->status == 0) {
        return explain_silence(ask, err);
    }
    if (reply->status != 200) {
        return dk_azure_explain_grant(ask->setup->azure, reply, err);
    }
    if (!dk_http_date(reply, &now_us)) {
        now_us = dk_wall_us(ask->setup->world);
    }
    if (dk_azure_read_grant(reply->body, now_us, ask->out, err) != DK_OK) {
        (void)dk_err_while(err, "reading the answer of who hands out tokens");
    }
    return DK_HTTP_DONE;
}

static dk_rc run(struct ask *ask, struct dk_err *err)
{
    struct dk_http_call call = {build, judge, ask, err};
    dk_http_run(is_identity(ask->setup->azure) ? ask->setup->identity : ask->setup->authority,
                &call, 1);
    return err->rc;
}

/* ---- proofs ---------------------------------------------------------------------------------- */

static dk_rc from_certificate(struct ask *ask, struct dk_err *err)
{
    const struct dk_azure_tokens_setup *setup = ask->setup;
    struct dk_azure_certificate certificate;
    char url[DK_URL_MAX + DK_AZURE_TENANT_MAX], jti[DK_UUID_TEXT], assertion[DK_AZURE_JWT_MAX + 1];
    struct dk_azure_claims claims = {.audience = url,
                                     .client_id = setup->azure->client_id,
                                     .jti = jti,
                                     .now_s = dk_wall_us(setup->world) / 1000000};
    DK_TRY(dk_azure_token_url(setup->azure, url, sizeof url, err));
    DK_TRY(dk_uuid_new(setup->world, jti, err));
    DK_TRY(dk_azure_certificate_read(setup->suite, setup->azure->file, &certificate, err));
    dk_rc rc = dk_azure_jwt_make(&certificate, &claims, assertion, err);
    dk_azure_certificate_clear(&certificate);
    if (rc == DK_OK) {
        ask->proof = assertion;
        rc = run(ask, err);
    }
    dk_wipe(assertion, sizeof assertion);
    return rc;
}

/* The file's text without the line's end, and a NUL. */
static dk_rc read_token(const char *path, struct dk_buf *out, struct dk_err *err)
{
    struct dk_err cause;
    dk_err_clear(&cause);
    dk_rc rc = dk_file_read(path, out, &cause);
    while (rc == DK_OK && out->n > 0 && strchr(" \t\r\n", out->p[out->n - 1]) != NULL) {
        out->n--;
    }
    if (rc == DK_OK && (out->n == 0 || memchr(out->p, '\0', out->n) != NULL)) {
        rc = DK_FAIL(&cause, CONFIG, "%s holds no token", path);
    }
    rc = rc == DK_OK ? dk_buf_add(out, "", 1, &cause) : rc;
    if (rc == DK_OK || rc == DK_E_NOMEM) {
        return rc == DK_OK ? rc : DK_FAIL(err, NOMEM, "%s", cause.text);
    }
    return DK_FAIL(err, CONFIG, "AZURE_FEDERATED_TOKEN_FILE: %s", cause.text);
}

static dk_rc from_workload(struct ask *ask, struct dk_err *err)
{
    struct dk_buf token;
    dk_buf_init(&token, &ask->setup->world->mem, DK_AZURE_TOKEN_MAX);
    dk_rc rc = read_token(ask->setup->azure->file, &token, err);
    if (rc == DK_OK) {
        ask->proof = (const char *)token.p;
        rc = run(ask, err);
    }
    dk_buf_wipe(&token);
    return rc;
}

dk_rc dk_azure_fetch(const struct dk_azure_tokens_setup *setup, const char *resource,
                     struct dk_azure_grant *out, struct dk_err *err)
{
    struct ask ask = {.setup = setup, .resource = resource, .out = out};
    switch (setup->azure->source) {
    case DK_AZURE_CERTIFICATE:
        return from_certificate(&ask, err);
    case DK_AZURE_WORKLOAD:
        return from_workload(&ask, err);
    default:
        ask.proof = setup->azure->secret;
        return run(&ask, err);
    }
}
