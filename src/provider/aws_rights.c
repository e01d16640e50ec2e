#include "provider/aws_rights.h"

#include <stdio.h>

#include "provider/aws_iam.h"
#include "provider/aws_sign.h"

/* By any of these a key is gone in the end. */
static const struct {
    const char *action;
    const char *meaning;
} dangers[] = {
    {"kms:ScheduleKeyDeletion", "destroys every data key under it"},
    {"kms:PutKeyPolicy", "can let anybody do that"},
};
#define DANGERS (sizeof dangers / sizeof dangers[0])

/* ---- questions ------------------------------------------------------------------------------- */

struct ask {
    struct dk_aws *aws;
    char *caller;          /* gets the answer of STS; NULL: IAM is asked */
    const char *principal; /* IAM */
    const char *action;
    const char *key_arn;
    bool *allowed;
    struct dk_aws_keys *keys; /* that the request was signed with */
};

static void put_keys(struct ask *ask)
{
    if (ask->keys != NULL) {
        dk_aws_credentials_put(ask->aws->credentials, ask->keys);
        ask->keys = NULL;
    }
}

static dk_rc build(void *self, struct dk_http_request *out, struct dk_err *err)
{
    struct ask *ask = self;
    struct dk_aws *aws = ask->aws;
    bool sts = ask->caller != NULL;
    int64_t skew_us = __atomic_load_n(&aws->skew_us, __ATOMIC_RELAXED);
    put_keys(ask);
    DK_TRY(dk_aws_credentials_get(aws->credentials, &ask->keys, err));
    struct dk_sigv4 sign = {.suite = aws->setup.suite,
                            .access_key_id = ask->keys->id,
                            .secret = &ask->keys->secret,
                            .session_token = ask->keys->token,
                            .region = sts ? aws->aws.region : dk_aws_iam_region(aws->aws.region),
                            .service = sts ? "sts" : "iam",
                            .at_us = dk_wall_us(aws->setup.world) + skew_us};
    out->to = sts ? &aws->aws.sts : &aws->aws.iam;
    if (sts) {
        DK_TRY(dk_aws_ask_caller(out, err));
    } else {
        DK_TRY(dk_aws_ask_simulation(ask->principal, ask->action, ask->key_arn, out, err));
    }
    return dk_sigv4_sign(&sign, out, err);
}

static enum dk_http_next explain(const struct ask *ask, const struct dk_http_reply *reply,
                                 struct dk_err *err)
{
    char code[64], message[200];
    bool again = reply->status >= 500 || reply->status == 429;
    dk_aws_error_of(reply, code, message);
    (void)dk_err_set_backend(err, again ? DK_E_UNREACHABLE : DK_E_PROVIDER_DENIED, reply->status,
                             __FILE__, __LINE__, "AWS %s: HTTP %ld %.60s",
                             ask->caller != NULL ? "STS" : "IAM", reply->status, code);
    return again ? DK_HTTP_LATER : DK_HTTP_DONE;
}

static dk_rc read_answer(const struct ask *ask, struct dk_view body, struct dk_err *err)
{
    return ask->caller != NULL ? dk_aws_read_caller(body, ask->caller, err)
                               : dk_aws_read_simulation(body, ask->action, ask->allowed, err);
}

static enum dk_http_next judge(void *self, const struct dk_http_reply *reply, struct dk_err *err)
{
    struct ask *ask = self;
    if (reply->status == 0) {
        return err->rc == DK_E_UNREACHABLE ? DK_HTTP_LATER : DK_HTTP_DONE;
    }
    if (reply->status != 200) {
        return explain(ask, reply, err);
    }
    (void)read_answer(ask, reply->body, err); /* it is in the call's err */
    return DK_HTTP_DONE;
}

static dk_rc run(struct ask *ask, struct dk_err *err)
{
    struct dk_http_call call = {build, judge, ask, err};
    dk_http_run(ask->caller != NULL ? ask->aws->sts : ask->aws->iam, &call, 1);
    put_keys(ask);
    return err->rc;
}

/* ---- what is told ---------------------------------------------------------------------------- */

static void tell_unknown(const struct dk_provider_tell *tell, const char *who, const char *key_arn,
                         const char *why)
{
    char todo[2 * DK_KMS_KEY_ID_MAX + 200];
    snprintf(todo, sizeof todo,
             "ask as somebody who may: aws iam simulate-principal-policy --policy-source-arn "
             "%.300s --action-names kms:ScheduleKeyDeletion kms:PutKeyPolicy --resource-arns %s",
             who[0] != '\0' ? who : "<ARN>", key_arn);
    dk_provider_say(tell, DK_PROVIDER_NOTE, todo,
                    "whether this identity may schedule the deletion of %s is not known (%.200s)",
                    key_arn, why);
}

static void tell_root(const struct dk_provider_tell *tell, const char *caller, const char *key_arn)
{
    dk_provider_say(tell, DK_PROVIDER_WARNING,
                    "give dekhand a user or role of its own, with the policy that dekhand doctor "
                    "--print-policy prints",
                    "dekhand runs as %.100s, who may do everything: whoever gets hold of its "
                    "credentials can delete %s, and every data key under it is lost",
                    caller, key_arn);
}

static void ask_policies(struct dk_aws *aws, const char *principal, const char *key_arn,
                         const struct dk_provider_tell *tell)
{
    bool any = false;
    for (size_t i = 0; i < DANGERS; i++) {
        bool allowed = false;
        struct dk_err err;
        struct ask ask = {.aws = aws,
                          .principal = principal,
                          .action = dangers[i].action,
                          .key_arn = key_arn,
                          .allowed = &allowed};
        dk_err_clear(&err);
        if (run(&ask, &err) != DK_OK) {
            tell_unknown(tell, principal, key_arn, err.text);
            return;
        }
        if (allowed) {
            any = true;
            dk_provider_say(tell, DK_PROVIDER_WARNING,
                            "attach the deny statement that dekhand doctor --print-policy prints",
                            "%.300s has the right %s on %s: whoever gets hold of it %s", principal,
                            dangers[i].action, key_arn, dangers[i].meaning);
        }
    }
    if (!any) {
        dk_provider_say(tell, DK_PROVIDER_OK, "",
                        "the policies of %.300s let it neither schedule the deletion of %s nor "
                        "change the key's own policy",
                        principal, key_arn);
    }
}

void dk_aws_tell_rights(struct dk_aws *aws, const char *key_arn,
                        const struct dk_provider_tell *tell)
{
    char caller[DK_AWS_PRINCIPAL_MAX + 1] = "", principal[DK_AWS_PRINCIPAL_MAX + 1];
    struct ask ask = {.aws = aws, .caller = caller};
    struct dk_err err;
    dk_err_clear(&err);
    if (run(&ask, &err) != DK_OK) {
        tell_unknown(tell, "", key_arn, err.text);
        return;
    }
    switch (dk_aws_principal_of(caller, principal)) {
    case DK_AWS_ROOT:
        tell_root(tell, caller, key_arn);
        break;
    case DK_AWS_PRINCIPAL:
        if (aws->aws.iam_why[0] != '\0') {
            tell_unknown(tell, principal, key_arn, aws->aws.iam_why);
        } else {
            ask_policies(aws, principal, key_arn, tell);
        }
        break;
    default:
        tell_unknown(tell, "", key_arn, "it is neither a user nor a role");
        break;
    }
}
