/*
 * aws_call: one call of AWS KMS: a data key there or back, or a question about the key.
 *
 * Called by the files of the back end, whose state they share. Signs each request with the
 * credentials of the moment, judges each answer: what may pass, whether the clock is wrong, whether
 * other credentials would do (struct dk_http_call).
 */
#ifndef DK_PROVIDER_AWS_CALL_H
#define DK_PROVIDER_AWS_CALL_H

#include <pthread.h>

#include "provider/aws_credentials.h"
#include "provider/aws_kms.h"

/* The back end. */
struct dk_aws {
    struct dk_provider_setup setup;
    struct dk_aws_setup aws;
    struct dk_http *kms;
    struct dk_http *sts;
    struct dk_http *iam;
    struct dk_http *metadata;
    struct dk_aws_credentials *credentials;
    int64_t skew_us;           /* of the service's clock against ours; atomic */
    pthread_mutex_t ask;       /* one thread asks which key is ours at a time */
    pthread_mutex_t lock;      /* guards what follows */
    unsigned asks;             /* so far */
    struct dk_err ask_failure; /* of the last; DK_OK = none */
    char
        own_arn[DK_KMS_KEY_ID_MAX + 1]; /* the key that wraps now, from an answer; "" = not known */
};

/* By which key a wrap is opened. */
struct dk_aws_way {
    char key_id[DK_KMS_KEY_ID_MAX + 1]; /* the row's, or that of our replica */
};

struct dk_aws_call {
    struct dk_aws *aws;
    struct dk_aws_way way; /* Decrypt, ReEncrypt */
    struct dk_kms_ask ask;
    struct dk_kms_answer answer;
    struct dk_kms_key *described; /* DescribeKey */
    bool *rotates;                /* GetKeyRotationStatus */
    struct dk_kms_aliases *named; /* ListAliases */
    const char *alias_of;         /* .. of the key of this id */
    struct dk_aws_keys *keys;     /* that the request was signed with */
    bool refreshed;
    bool corrected;
    int64_t skew_us; /* that the request was signed with */
};

/* For struct dk_http_call; `self` is the call. */
DK_MUST_USE dk_rc dk_aws_call_build(void *self, struct dk_http_request *out, struct dk_err *err);
enum dk_http_next dk_aws_call_judge(void *self, const struct dk_http_reply *reply,
                                    struct dk_err *err);
/* One alone, from its beginning to its end. */
DK_MUST_USE dk_rc dk_aws_call_run(struct dk_aws_call *call, struct dk_err *err);
/* Gives back what it holds; more than once is allowed. */
void dk_aws_call_end(struct dk_aws_call *call);

#endif
