#include "provider/aws_grant.h"

#include <stdio.h>
#include <stdlib.h>

#include "net/form.h"
#include "net/json_in.h"
#include "net/xml.h"

void dk_aws_grant_clear(struct dk_aws_grant *grant)
{
    dk_wipe(grant, sizeof *grant);
    grant->expires_us = DK_TIME_NONE;
}

/* ---- requests -------------------------------------------------------------------------------- */

static dk_rc begin_form(const char *action, const struct dk_aws_role *role,
                        struct dk_http_request *out, struct dk_err *err)
{
    out->method = "POST";
    snprintf(out->path, sizeof out->path, "/");
    DK_TRY(
        dk_http_add(out, "Content-Type", "application/x-www-form-urlencoded; charset=utf-8", err));
    DK_TRY(dk_form_add(&out->body, "Action", action, err));
    DK_TRY(dk_form_add(&out->body, "Version", "2011-06-15", err));
    DK_TRY(dk_form_add(&out->body, "RoleArn", role->arn, err));
    return dk_form_add(&out->body, "RoleSessionName", role->session, err);
}

static dk_rc add_seconds(const struct dk_aws_role *role, struct dk_http_request *out,
                         struct dk_err *err)
{
    char text[16];
    snprintf(text, sizeof text, "%ld", role->seconds);
    return dk_form_add(&out->body, "DurationSeconds", text, err);
}

dk_rc dk_aws_ask_web_identity(const struct dk_aws_role *role, const char *token,
                              struct dk_http_request *out, struct dk_err *err)
{
    DK_TRY(begin_form("AssumeRoleWithWebIdentity", role, out, err));
    DK_TRY(add_seconds(role, out, err));
    return dk_form_add(&out->body, "WebIdentityToken", token, err);
}

dk_rc dk_aws_ask_role(const struct dk_aws_role *role, struct dk_http_request *out,
                      struct dk_err *err)
{
    DK_TRY(begin_form("AssumeRole", role, out, err));
    DK_TRY(add_seconds(role, out, err));
    return role->external_id != NULL ? dk_form_add(&out->body, "ExternalId", role->external_id, err)
                                     : DK_OK;
}

dk_rc dk_aws_ask_session(struct dk_http_request *out, struct dk_err *err)
{
    out->method = "PUT";
    snprintf(out->path, sizeof out->path, "/latest/api/token");
    return dk_http_add(out, "X-aws-ec2-metadata-token-ttl-seconds", "21600", err);
}

dk_rc dk_aws_ask_instance(const char *session, const char *role, struct dk_http_request *out,
                          struct dk_err *err)
{
    out->method = "GET";
    int n = snprintf(out->path, sizeof out->path, "/latest/meta-data/iam/security-credentials/%s",
                     role);
    bool leads_up = strcmp(role, ".") == 0 || strcmp(role, "..") == 0;
    if (n >= (int)sizeof out->path || leads_up || strpbrk(role, "/?# \\") != NULL) {
        return DK_FAIL(err, PROVIDER, "the instance's metadata names a role that is no name");
    }
    return dk_http_add(out, "X-aws-ec2-metadata-token", session, err);
}

dk_rc dk_aws_ask_container(const char *path, const char *token, struct dk_http_request *out,
                           struct dk_err *err)
{
    out->method = "GET";
    snprintf(out->path, sizeof out->path, "%s", path);
    return token != NULL ? dk_http_add(out, "Authorization", token, err) : DK_OK;
}

/* ---- answers --------------------------------------------------------------------------------- */

static bool take_number(const char **text, size_t digits, int *out)
{
    *out = 0;
    for (size_t i = 0; i < digits; i++) {
        char c = (*text)[i];
        if (c < '0' || c > '9') {
            return false;
        }
        *out = *out * 10 + (c - '0');
    }
    *text += digits;
    return true;
}

bool dk_aws_parse_time(const char *text, int64_t *us)
{
    static const char between[] = "--T::";
    int part[6];
    for (size_t i = 0; i < 6; i++) {
        if (!take_number(&text, i == 0 ? 4 : 2, &part[i]) || (i < 5 && *text++ != between[i])) {
            return false;
        }
    }
    if (*text == '.') {
        text += 1 + strspn(text + 1, "0123456789");
    }
    if (strcmp(text, "Z") != 0 && strcmp(text, "+00:00") != 0 && strcmp(text, "+0000") != 0) {
        return false;
    }
    char exact[96];
    snprintf(exact, sizeof exact, "%04d-%02d-%02dT%02d:%02d:%02d.000000Z", part[0], part[1],
             part[2], part[3], part[4], part[5]);
    return dk_time_parse(exact, strlen(exact), us);
}

static dk_rc check(struct dk_aws_grant *out, const char *expires, const char *from,
                   struct dk_err *err)
{
    out->expires_us = DK_TIME_NONE;
    if (out->id[0] == '\0' || out->secret[0] == '\0') {
        return DK_FAIL(err, PROVIDER, "%s answered without an access key", from);
    }
    if (expires[0] != '\0' && !dk_aws_parse_time(expires, &out->expires_us)) {
        return DK_FAIL(err, PROVIDER, "%s answered with a time that cannot be read", from);
    }
    return DK_OK;
}

dk_rc dk_aws_read_sts(struct dk_view body, struct dk_aws_grant *out, struct dk_err *err)
{
    char expires[64];
    const struct dk_xml_field fields[] = {
        {"Credentials", "AccessKeyId", out->id, sizeof out->id},
        {"Credentials", "SecretAccessKey", out->secret, sizeof out->secret},
        {"Credentials", "SessionToken", out->token, sizeof out->token},
        {"Credentials", "Expiration", expires, sizeof expires},
    };
    DK_TRY(dk_xml_read(body, fields, sizeof fields / sizeof fields[0], err));
    return check(out, expires, "AWS STS", err);
}

static bool copy_member(const json_t *json, const char *name, char *out, size_t cap)
{
    const char *text = dk_json_in_text(json, name);
    int n = snprintf(out, cap, "%s", text != NULL ? text : "");
    return n >= 0 && (size_t)n < cap;
}

static dk_rc read_json(const json_t *json, const char *token, const char *from,
                       struct dk_aws_grant *out, struct dk_err *err)
{
    char expires[64];
    if (!copy_member(json, "AccessKeyId", out->id, sizeof out->id) ||
        !copy_member(json, "SecretAccessKey", out->secret, sizeof out->secret) ||
        !copy_member(json, token, out->token, sizeof out->token) ||
        !copy_member(json, "Expiration", expires, sizeof expires)) {
        return DK_FAIL(err, PROVIDER, "%s answered with credentials longer than any", from);
    }
    return check(out, expires, from, err);
}

dk_rc dk_aws_read_metadata(struct dk_view body, struct dk_aws_grant *out, struct dk_err *err)
{
    json_t *json = NULL;
    DK_TRY(dk_json_in_parse(body, &json, err));
    const char *code = dk_json_in_text(json, "Code");
    dk_rc rc = code != NULL && strcmp(code, "Success") != 0
                   ? DK_FAIL(err, PROVIDER, "the metadata service has no credentials: %.60s", code)
                   : read_json(json, "Token", "the metadata service", out, err);
    json_decref(json);
    return rc;
}

dk_rc dk_aws_read_process(struct dk_view text, struct dk_aws_grant *out, struct dk_err *err)
{
    json_t *json = NULL;
    int64_t version = 0;
    DK_TRY(dk_json_in_parse(text, &json, err));
    dk_rc rc = !dk_json_in_int(json, "Version", &version) || version != 1
                   ? DK_FAIL(err, PROVIDER, "credential_process did not print `Version` 1")
                   : read_json(json, "SessionToken", "credential_process", out, err);
    json_decref(json);
    return rc;
}

dk_rc dk_aws_read_line(struct dk_view body, char *out, size_t cap, struct dk_err *err)
{
    size_t n = body.n;
    while (n > 0 && (body.p[n - 1] == '\n' || body.p[n - 1] == '\r')) {
        n--;
    }
    for (size_t i = 0; i < n; i++) {
        if (body.p[i] <= 0x20 || body.p[i] > 0x7E) {
            return DK_FAIL(err, PROVIDER, "the metadata service's answer is no single word");
        }
    }
    if (n == 0 || n >= cap) {
        return DK_FAIL(err, PROVIDER, "the metadata service's answer is empty or too long");
    }
    memcpy(out, body.p, n);
    out[n] = '\0';
    return DK_OK;
}
