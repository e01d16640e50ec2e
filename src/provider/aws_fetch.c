#include "provider/aws_fetch.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/file.h"
#include "provider/aws_kms.h"
#include "provider/aws_process.h"
#include "provider/aws_sign.h"

enum kind { WEB_IDENTITY, ROLE, SESSION, ROLE_NAME, INSTANCE, CONTAINER };

/* One question, and what its answer is to fill. */
struct ask {
    const struct dk_aws_credentials_setup *setup;
    enum kind kind;
    const struct dk_aws_role *role;
    const struct dk_aws_grant *with; /* what a request for a role is signed with */
    const struct dk_secret *secret;  /* of it */
    const char *token;               /* from a file, or the session's */
    const char *name;                /* of the instance's role */
    char *line;                      /* gets a token or a name */
    size_t line_cap;
    struct dk_aws_grant *out;
    int64_t server_us; /* the time of who answered */
    int64_t skew_us;   /* of the service's clock against ours */
    bool corrected;
};

static int64_t server_now(const struct ask *ask)
{
    return dk_wall_us(ask->setup->world) + ask->skew_us;
}

static dk_rc build_role(struct ask *ask, struct dk_http_request *out, struct dk_err *err)
{
    const struct dk_aws_grant *with = ask->with;
    struct dk_sigv4 sign = {.suite = ask->setup->suite,
                            .access_key_id = with->id,
                            .secret = ask->secret,
                            .session_token = with->token[0] != '\0' ? with->token : NULL,
                            .region = ask->setup->aws->region,
                            .service = "sts",
                            .at_us = server_now(ask)};
    DK_TRY(dk_aws_ask_role(ask->role, out, err));
    return dk_sigv4_sign(&sign, out, err);
}

static dk_rc build(void *self, struct dk_http_request *out, struct dk_err *err)
{
    struct ask *ask = self;
    const struct dk_aws_setup *aws = ask->setup->aws;
    bool sts = ask->kind == WEB_IDENTITY || ask->kind == ROLE;
    out->to = sts ? &aws->sts : &aws->plan.metadata;
    switch (ask->kind) {
    case WEB_IDENTITY:
        return dk_aws_ask_web_identity(ask->role, ask->token, out, err);
    case ROLE:
        return build_role(ask, out, err);
    case SESSION:
        return dk_aws_ask_session(out, err);
    case ROLE_NAME:
        return dk_aws_ask_instance(ask->token, "", out, err);
    case INSTANCE:
        return dk_aws_ask_instance(ask->token, ask->name, out, err);
    default:
        return dk_aws_ask_container(aws->plan.container_path, ask->token, out, err);
    }
}

static dk_rc read_answer(struct ask *ask, struct dk_view body, struct dk_err *err)
{
    switch (ask->kind) {
    case WEB_IDENTITY:
    case ROLE:
        return dk_aws_read_sts(body, ask->out, err);
    case SESSION:
    case ROLE_NAME:
        return dk_aws_read_line(body, ask->line, ask->line_cap, err);
    default:
        return dk_aws_read_metadata(body, ask->out, err);
    }
}

static const char *who(const struct ask *ask)
{
    return ask->kind == WEB_IDENTITY || ask->kind == ROLE ? "AWS STS"
           : ask->kind == CONTAINER                       ? "the container's credentials service"
                                                          : "the instance's metadata service";
}

/* What is worth another try, and what says that it will never be one. */
static enum dk_http_next explain(struct ask *ask, const struct dk_http_reply *reply,
                                 struct dk_err *err)
{
    char code[64], message[200];
    long status = reply->status;
    dk_aws_error_of(reply, code, message);
    bool throttled = status == 429 || dk_begins(code, "Throttl");
    bool again = throttled || status >= 500 || strcmp(code, "IDPCommunicationError") == 0;
    dk_rc rc = throttled ? DK_E_THROTTLED : again ? DK_E_UNREACHABLE : DK_E_PROVIDER_DENIED;
    const char *role = ask->role != NULL ? ask->role->arn : "";
    (void)dk_err_set_backend(err, rc, status, __FILE__, __LINE__,
                             "%s gave no credentials: HTTP %ld %.60s%s%.100s%s%.80s", who(ask),
                             status, code, message[0] != '\0' ? ": " : "", message,
                             role[0] != '\0' ? " for " : "", role);
    return again ? DK_HTTP_LATER : DK_HTTP_DONE;
}

/* True when a request was signed at a time that is none of the service's: it is signed anew, once.
 */
static bool correct_clock(struct ask *ask, const struct dk_http_reply *reply)
{
    int64_t theirs;
    if (ask->kind != ROLE || ask->corrected || !dk_http_date(reply, &theirs)) {
        return false;
    }
    int64_t moved = theirs - server_now(ask);
    if (moved < DK_AWS_SKEW_US && moved > -DK_AWS_SKEW_US) {
        return false;
    }
    ask->corrected = true;
    ask->skew_us += moved;
    return true;
}

static enum dk_http_next judge(void *self, const struct dk_http_reply *reply, struct dk_err *err)
{
    struct ask *ask = self;
    if (reply->status == 0) {
        return err->rc == DK_E_UNREACHABLE ? DK_HTTP_LATER : DK_HTTP_DONE;
    }
    if (!dk_http_date(reply, &ask->server_us)) {
        ask->server_us = server_now(ask);
    }
    if (reply->status != 200) {
        enum dk_http_next next = explain(ask, reply, err);
        return next == DK_HTTP_DONE && correct_clock(ask, reply) ? DK_HTTP_AGAIN : next;
    }
    if (read_answer(ask, reply->body, err) != DK_OK) {
        (void)dk_err_while(err, "reading the answer of %s", who(ask));
    }
    return DK_HTTP_DONE;
}

static dk_rc run(struct ask *ask, struct dk_err *err)
{
    bool sts = ask->kind == WEB_IDENTITY || ask->kind == ROLE;
    struct dk_http_call call = {build, judge, ask, err};
    dk_http_run(sts ? ask->setup->sts : ask->setup->metadata, &call, 1);
    return err->rc;
}

/* ---- sources --------------------------------------------------------------------------------- */

/* The file's text, without the line's end; the caller wipes it. */
static dk_rc read_token(const struct dk_aws_credentials_setup *setup, const char *path,
                        const char *setting, struct dk_buf *out, struct dk_err *err)
{
    struct dk_err cause;
    dk_err_clear(&cause);
    dk_buf_init(out, &setup->world->mem, DK_AWS_TOKEN_MAX);
    dk_rc rc = dk_file_read(path, out, &cause);
    while (rc == DK_OK && out->n > 0 && strchr(" \t\r\n", out->p[out->n - 1]) != NULL) {
        out->n--;
    }
    if (rc == DK_OK && (out->n == 0 || memchr(out->p, '\0', out->n) != NULL)) {
        rc = DK_FAIL(&cause, CONFIG, "%s holds no token", path);
    }
    rc = rc == DK_OK ? dk_buf_add(out, "", 1, &cause) : rc;
    return rc == DK_OK ? rc
                       : dk_err_set(err, rc == DK_E_NOMEM ? rc : DK_E_CONFIG, __FILE__, __LINE__,
                                    "%s: %s", setting, cause.text);
}

static dk_rc from_web_identity(struct ask *ask, struct dk_err *err)
{
    struct dk_buf token;
    const struct dk_aws_plan *plan = &ask->setup->aws->plan;
    dk_rc rc = read_token(ask->setup, plan->token_file, "AWS_WEB_IDENTITY_TOKEN_FILE", &token, err);
    if (rc == DK_OK) {
        ask->kind = WEB_IDENTITY;
        ask->role = &plan->web_role;
        ask->token = (const char *)token.p;
        rc = run(ask, err);
    }
    dk_buf_wipe(&token);
    return rc;
}

static dk_rc from_container(struct ask *ask, struct dk_err *err)
{
    struct dk_buf token;
    const struct dk_aws_plan *plan = &ask->setup->aws->plan;
    dk_buf_init(&token, &ask->setup->world->mem, DK_AWS_TOKEN_MAX);
    dk_rc rc = DK_OK;
    ask->token = plan->token;
    if (plan->token_file != NULL) {
        rc = read_token(ask->setup, plan->token_file, "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
                        &token, err);
        ask->token = (const char *)token.p;
    }
    if (rc == DK_OK) {
        ask->kind = CONTAINER;
        rc = run(ask, err);
    }
    dk_buf_wipe(&token);
    return rc;
}

/* In a container the answer to PUT may not come back: it has one hop to live. */
static dk_rc explain_instance(dk_rc rc, struct dk_err *err)
{
    if (rc != DK_E_UNREACHABLE) {
        return rc;
    }
    struct dk_err cause = *err;
    dk_err_clear(err);
    return DK_FAIL_BACKEND(err, UNREACHABLE, cause.backend,
                           "no AWS credentials: none in the environment, the profile or a "
                           "container, and the instance's metadata service does not answer (in a "
                           "container its hop limit has to be 2): %.120s",
                           cause.text);
}

static dk_rc from_instance(struct ask *ask, struct dk_err *err)
{
    char session[256], name[128];
    ask->kind = SESSION;
    ask->line = session;
    ask->line_cap = sizeof session;
    dk_rc rc = explain_instance(run(ask, err), err);
    if (rc == DK_OK) {
        ask->kind = ROLE_NAME;
        ask->token = session;
        ask->line = name;
        ask->line_cap = sizeof name;
        rc = run(ask, err);
    }
    if (rc == DK_OK) {
        ask->kind = INSTANCE;
        ask->name = name;
        rc = run(ask, err);
    }
    dk_wipe(session, sizeof session);
    return rc;
}

static dk_rc from_process(struct ask *ask, struct dk_err *err)
{
    struct dk_buf text;
    dk_buf_init(&text, &ask->setup->world->mem, DK_HTTP_REPLY_MAX);
    dk_rc rc =
        dk_aws_process_run(ask->setup->aws->plan.command, DK_AWS_PROCESS_SECONDS, &text, err);
    if (rc == DK_OK) {
        ask->server_us = server_now(ask);
        rc = dk_aws_read_process(dk_view_of(text.p, text.n), ask->out, err);
    }
    dk_buf_wipe(&text);
    return rc;
}

static dk_rc from_static(struct ask *ask, struct dk_err *err)
{
    const struct dk_aws_plan *plan = &ask->setup->aws->plan;
    struct dk_aws_grant *out = ask->out;
    size_t n = strlen(plan->secret);
    size_t token_n = plan->session_token != NULL ? strlen(plan->session_token) : 0;
    if (strlen(plan->access_key_id) > DK_AWS_ID_MAX || n > DK_AWS_SECRET_MAX ||
        token_n > DK_AWS_TOKEN_MAX) {
        return DK_FAIL(err, CONFIG, "the AWS credentials of %s are longer than any", plan->told);
    }
    snprintf(out->id, sizeof out->id, "%s", plan->access_key_id);
    memcpy(out->secret, plan->secret, n + 1);
    snprintf(out->token, sizeof out->token, "%s",
             plan->session_token != NULL ? plan->session_token : "");
    out->expires_us = DK_TIME_NONE;
    return DK_OK;
}

static dk_rc from_source(struct ask *ask, struct dk_err *err)
{
    switch (ask->setup->aws->plan.source) {
    case DK_AWS_STATIC:
        return from_static(ask, err);
    case DK_AWS_WEB_IDENTITY:
        return from_web_identity(ask, err);
    case DK_AWS_PROCESS:
        return from_process(ask, err);
    case DK_AWS_CONTAINER:
        return from_container(ask, err);
    default:
        return from_instance(ask, err);
    }
}

/* ---- roles ----------------------------------------------------------------------------------- */

static dk_rc take_role(struct ask *ask, const struct dk_aws_role *role, struct dk_err *err)
{
    const struct dk_mem *mem = &ask->setup->world->mem;
    struct dk_secret secret = {0};
    struct dk_aws_grant *with = dk_mem_alloc(mem, sizeof *with);
    if (with == NULL) {
        return DK_FAIL(err, NOMEM, "no memory for credentials");
    }
    *with = *ask->out;
    dk_rc rc = dk_secret_new(ask->setup->arena, strlen(with->secret), &secret, err);
    if (rc == DK_OK) {
        memcpy(dk_secret_expose_for_crypto(&secret), with->secret, secret.n);
        ask->kind = ROLE;
        ask->role = role;
        ask->with = with;
        ask->secret = &secret;
        dk_aws_grant_clear(ask->out);
        rc = run(ask, err);
    }
    dk_secret_free(ask->setup->arena, &secret);
    dk_aws_grant_clear(with);
    dk_mem_free(mem, with);
    return rc;
}

dk_rc dk_aws_fetch(const struct dk_aws_credentials_setup *setup, struct dk_aws_grant *out,
                   int64_t *left_us, struct dk_err *err)
{
    const struct dk_aws_plan *plan = &setup->aws->plan;
    struct ask ask = {
        .setup = setup, .out = out, .skew_us = __atomic_load_n(setup->skew_us, __ATOMIC_RELAXED)};
    dk_aws_grant_clear(out);
    DK_TRY(from_source(&ask, err));
    for (size_t i = plan->role_count; i > 0; i--) {
        DK_TRY(take_role(&ask, &plan->roles[i - 1], err));
    }
    *left_us = out->expires_us == DK_TIME_NONE ? INT64_MAX : out->expires_us - ask.server_us;
    return DK_OK;
}
