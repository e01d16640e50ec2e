/*
 * aws_rights: whether the identity that dekhand runs as may take the key away.
 *
 * Called by aws_inspect for the doctor. Nothing of the kind can be tried in KMS without doing it:
 * so STS is asked who calls, and IAM what his policies say. Where that may not be asked, how to
 * find out by hand is told; nothing is wrong then.
 */
#ifndef DK_PROVIDER_AWS_RIGHTS_H
#define DK_PROVIDER_AWS_RIGHTS_H

#include "provider/aws_call.h"

void dk_aws_tell_rights(struct dk_aws *aws, const char *key_arn,
                        const struct dk_provider_tell *tell);

#endif
