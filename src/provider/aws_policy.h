/*
 * aws_policy: the least that dekhand needs to be allowed, and who may not delete the key.
 *
 * Called by aws.c. Pure.
 */
#ifndef DK_PROVIDER_AWS_POLICY_H
#define DK_PROVIDER_AWS_POLICY_H

#include "provider/provider.h"

/* A policy of IAM for the identity of dekhand, as JSON, for the key of this ARN, and for those of
   before. */
DK_MUST_USE dk_rc dk_aws_policy(const char *arn, const struct dk_previous_ids *previous,
                                struct dk_buf *out, struct dk_err *err);

#endif
