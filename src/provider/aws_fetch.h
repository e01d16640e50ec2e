/*
 * aws_fetch: gets AWS credentials once, from where the plan says, role by role.
 *
 * Called by aws_credentials, by one thread at a time. Talks to STS or a metadata service, reads
 * token files, runs a profile's credential_process.
 */
#ifndef DK_PROVIDER_AWS_FETCH_H
#define DK_PROVIDER_AWS_FETCH_H

#include "provider/aws_credentials.h"
#include "provider/aws_grant.h"

/* `*left_us`: how long they are good from now on, by the time of who handed them out; INT64_MAX =
   for ever. */
DK_MUST_USE dk_rc dk_aws_fetch(const struct dk_aws_credentials_setup *setup,
                               struct dk_aws_grant *out, int64_t *left_us, struct dk_err *err);

#endif
