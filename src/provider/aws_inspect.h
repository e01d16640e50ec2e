/*
 * aws_inspect: what the doctor says of the key in AWS KMS, and the rights as a policy.
 *
 * Called by aws.c, as two calls of its table (struct dk_provider_ops). Who may not ask is told
 * which right is missing; nothing is wrong with the key then.
 */
#ifndef DK_PROVIDER_AWS_INSPECT_H
#define DK_PROVIDER_AWS_INSPECT_H

#include "provider/aws_call.h"

void dk_aws_inspect(void *self, bool opens_only, const struct dk_provider_tell *tell);
DK_MUST_USE dk_rc dk_aws_tell_policy(void *self, const struct dk_previous_ids *previous,
                                     struct dk_buf *out, struct dk_err *err);

#endif
