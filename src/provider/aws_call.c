#include "provider/aws_call.h"

#include "provider/aws.h"
#include "provider/aws_sign.h"

void dk_aws_call_end(struct dk_aws_call *x)
{
    if (x->keys != NULL) {
        dk_aws_credentials_put(x->aws->credentials, x->keys);
        x->keys = NULL;
    }
}

dk_rc dk_aws_call_build(void *self, struct dk_http_request *out, struct dk_err *err)
{
    struct dk_aws_call *x = self;
    struct dk_aws *aws = x->aws;
    out->to = &aws->aws.kms;
    dk_aws_call_end(x);
    DK_TRY(
        dk_aws_credentials_get_amid(aws->credentials, &x->keys, err)); /* who runs it asked ahead */
    x->skew_us = __atomic_load_n(&aws->skew_us, __ATOMIC_RELAXED);
    struct dk_sigv4 sign = {.suite = aws->setup.suite,
                            .access_key_id = x->keys->id,
                            .secret = &x->keys->secret,
                            .session_token = x->keys->token,
                            .region = aws->aws.region,
                            .service = "kms",
                            .at_us = dk_wall_us(aws->setup.world) + x->skew_us};
    DK_TRY(dk_kms_build(&x->ask, out, err));
    return dk_sigv4_sign(&sign, out, err);
}

/* True when the service's clock is another than was thought: the request is signed anew, once. */
static bool correct_clock(struct dk_aws_call *x, const struct dk_http_reply *reply)
{
    struct dk_aws *aws = x->aws;
    int64_t theirs;
    if (x->corrected || !dk_http_date(reply, &theirs)) {
        return false;
    }
    int64_t skew = theirs - dk_wall_us(aws->setup.world);
    int64_t moved = skew - x->skew_us;
    x->corrected = true;
    if (moved < DK_AWS_SKEW_US && moved > -DK_AWS_SKEW_US) {
        return false;
    }
    __atomic_store_n(&aws->skew_us, skew, __ATOMIC_RELAXED);
    DK_LOG(aws->setup.log, WARN, "clock_differs", DK_LOG_S(PROVIDER, dk_provider_aws.name),
           DK_LOG_I(SECONDS, skew / 1000000));
    return true;
}

static enum dk_http_next judge_fault(struct dk_aws_call *x, const struct dk_http_reply *reply,
                                     struct dk_err *err)
{
    switch (dk_kms_explain(&x->ask, reply, err)) {
    case DK_AWS_TRANSIENT:
        return DK_HTTP_LATER;
    case DK_AWS_SKEW:
        return correct_clock(x, reply) ? DK_HTTP_AGAIN : DK_HTTP_DONE;
    case DK_AWS_CREDENTIALS:
        if (!x->refreshed && dk_aws_credentials_refused(x->aws->credentials, x->keys->number)) {
            x->refreshed = true;
            return DK_HTTP_AGAIN;
        }
        return DK_HTTP_DONE;
    default:
        return DK_HTTP_DONE;
    }
}

static dk_rc read_answer(struct dk_aws_call *x, struct dk_view body, struct dk_err *err)
{
    switch (x->ask.op) {
    case DK_KMS_DESCRIBE:
        return dk_kms_read_key(body, x->described, err);
    case DK_KMS_ROTATION:
        return dk_kms_read_rotation(body, x->rotates, err);
    case DK_KMS_ALIASES:
        return dk_kms_read_aliases(body, x->alias_of, x->named, err);
    default:
        return dk_kms_read(&x->ask, body, &x->answer, err);
    }
}

enum dk_http_next dk_aws_call_judge(void *self, const struct dk_http_reply *reply,
                                    struct dk_err *err)
{
    struct dk_aws_call *x = self;
    if (reply->status == 0) {
        return err->rc == DK_E_UNREACHABLE ? DK_HTTP_LATER : DK_HTTP_DONE;
    }
    dk_provider_count(&x->aws->setup, x->ask.op, reply->status != 200);
    if (reply->status != 200) {
        return judge_fault(x, reply, err);
    }
    (void)read_answer(x, reply->body, err);
    return DK_HTTP_DONE;
}

dk_rc dk_aws_call_run(struct dk_aws_call *x, struct dk_err *err)
{
    struct dk_http_call call = {dk_aws_call_build, dk_aws_call_judge, x, err};
    dk_http_run(x->aws->kms, &call, 1);
    dk_aws_call_end(x);
    return err->rc;
}
