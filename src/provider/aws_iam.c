#include "provider/aws_iam.h"

#include <stdio.h>

#include "net/form.h"
#include "net/xml.h"

/* ---- who calls ------------------------------------------------------------------------------- */

static dk_rc begin_form(const char *action, const char *version, struct dk_http_request *out,
                        struct dk_err *err)
{
    out->method = "POST";
    snprintf(out->path, sizeof out->path, "/");
    DK_TRY(
        dk_http_add(out, "Content-Type", "application/x-www-form-urlencoded; charset=utf-8", err));
    DK_TRY(dk_form_add(&out->body, "Action", action, err));
    return dk_form_add(&out->body, "Version", version, err);
}

dk_rc dk_aws_ask_caller(struct dk_http_request *out, struct dk_err *err)
{
    return begin_form("GetCallerIdentity", "2011-06-15", out, err);
}

dk_rc dk_aws_read_caller(struct dk_view body, char out[static DK_AWS_PRINCIPAL_MAX + 1],
                         struct dk_err *err)
{
    const struct dk_xml_field fields[] = {
        {"GetCallerIdentityResult", "Arn", out, DK_AWS_PRINCIPAL_MAX + 1}};
    DK_TRY(dk_xml_read(body, fields, 1, err));
    if (!dk_begins(out, "arn:") || !dk_is_word(out)) {
        out[0] = '\0';
        return DK_FAIL(err, PROVIDER, "AWS STS does not say who calls");
    }
    return DK_OK;
}

/* What follows the colon number `n`; NULL: there are fewer. */
static const char *after_colons(const char *text, int n)
{
    for (; n > 0 && text != NULL; n--) {
        text = strchr(text, ':');
        text = text != NULL ? text + 1 : NULL;
    }
    return text;
}

/* arn:P:sts::A:assumed-role/ROLE/SESSION is arn:P:iam::A:role/ROLE */
static bool to_role(const char *caller, const char *role, char out[static DK_AWS_PRINCIPAL_MAX + 1])
{
    const char *service = after_colons(caller, 2), *account = after_colons(caller, 4);
    size_t n = strcspn(role, "/");
    if (n == 0 || role[n] != '/') {
        return false;
    }
    int len =
        snprintf(out, DK_AWS_PRINCIPAL_MAX + 1, "%.*siam::%.*s:role/%.*s", (int)(service - caller),
                 caller, (int)strcspn(account, ":"), account, (int)n, role);
    return len > 0 && len <= DK_AWS_PRINCIPAL_MAX;
}

enum dk_aws_principal dk_aws_principal_of(const char *caller,
                                          char out[static DK_AWS_PRINCIPAL_MAX + 1])
{
    const char *service = after_colons(caller, 2), *what = after_colons(caller, 5);
    out[0] = '\0';
    if (what == NULL || strlen(caller) > DK_AWS_PRINCIPAL_MAX) {
        return DK_AWS_STRANGER;
    }
    if (dk_begins(service, "iam:") && strcmp(what, "root") == 0) {
        return DK_AWS_ROOT;
    }
    if (dk_begins(service, "iam:") && (dk_begins(what, "user/") || dk_begins(what, "role/"))) {
        snprintf(out, DK_AWS_PRINCIPAL_MAX + 1, "%s", caller);
        return DK_AWS_PRINCIPAL;
    }
    static const char session[] = "assumed-role/";
    if (dk_begins(service, "sts:") && dk_begins(what, session) &&
        to_role(caller, what + sizeof session - 1, out)) {
        return DK_AWS_PRINCIPAL;
    }
    out[0] = '\0';
    return DK_AWS_STRANGER;
}

/* ---- what he may ----------------------------------------------------------------------------- */

dk_rc dk_aws_ask_simulation(const char *principal, const char *action, const char *key_arn,
                            struct dk_http_request *out, struct dk_err *err)
{
    DK_TRY(begin_form("SimulatePrincipalPolicy", "2010-05-08", out, err));
    DK_TRY(dk_form_add(&out->body, "PolicySourceArn", principal, err));
    DK_TRY(dk_form_add(&out->body, "ActionNames.member.1", action, err));
    return dk_form_add(&out->body, "ResourceArns.member.1", key_arn, err);
}

/* With one action and one resource there is one member that has a decision. */
dk_rc dk_aws_read_simulation(struct dk_view body, const char *action, bool *allowed,
                             struct dk_err *err)
{
    char name[160], decision[32];
    const struct dk_xml_field fields[] = {
        {"member", "EvalActionName", name, sizeof name},
        {"member", "EvalDecision", decision, sizeof decision},
    };
    DK_TRY(dk_xml_read(body, fields, sizeof fields / sizeof fields[0], err));
    bool yes = strcmp(decision, "allowed") == 0;
    if (strcasecmp(name, action) != 0 ||
        (!yes && strcmp(decision, "explicitDeny") != 0 && strcmp(decision, "implicitDeny") != 0)) {
        return DK_FAIL(err, PROVIDER, "AWS IAM does not say whether %s is allowed", action);
    }
    *allowed = yes;
    return DK_OK;
}
