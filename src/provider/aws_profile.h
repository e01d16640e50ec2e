/*
 * aws_profile: the files ~/.aws/config and ~/.aws/credentials, as far as they name keys and places.
 *
 * Called by aws_setup. Pure: text in, members out. Values may be secrets: they are wiped when they
 * are let go. SSO is left out.
 */
#ifndef DK_PROVIDER_AWS_PROFILE_H
#define DK_PROVIDER_AWS_PROFILE_H

#include "base/bytes.h"

enum dk_aws_member {
    DK_AWS_P_ACCESS_KEY_ID,
    DK_AWS_P_SECRET_ACCESS_KEY,
    DK_AWS_P_SESSION_TOKEN,
    DK_AWS_P_ROLE_ARN,
    DK_AWS_P_SOURCE_PROFILE,
    DK_AWS_P_CREDENTIAL_SOURCE,
    DK_AWS_P_EXTERNAL_ID,
    DK_AWS_P_ROLE_SESSION_NAME,
    DK_AWS_P_DURATION_SECONDS,
    DK_AWS_P_WEB_IDENTITY_TOKEN_FILE,
    DK_AWS_P_CREDENTIAL_PROCESS,
    DK_AWS_P_REGION,
    DK_AWS_P_ENDPOINT_URL,
    DK_AWS_P_SERVICES,
    DK_AWS_P_USE_FIPS,
    DK_AWS_P_USE_DUALSTACK,
    DK_AWS_P_MEMBERS
};

struct dk_aws_profile {
    const struct dk_mem *mem;
    bool found;
    char *member[DK_AWS_P_MEMBERS]; /* NULL = not there */
};

void dk_aws_profile_init(struct dk_aws_profile *profile, const struct dk_mem *mem);
void dk_aws_profile_clear(struct dk_aws_profile *profile);

/*
 * Adds what the text has of the profile `name`, where it is not there yet: the first file wins.
 * `config`: sections are [profile NAME], and [default].
 */
DK_MUST_USE dk_rc dk_aws_profile_read(struct dk_aws_profile *profile, struct dk_view text,
                                      bool config, const char *name, struct dk_err *err);

/* `endpoint_url` of `service` in [services NAME]; "" = none. `out` of `cap` bytes. */
DK_MUST_USE dk_rc dk_aws_services_read(struct dk_view text, const char *name, const char *service,
                                       char *out, size_t cap, struct dk_err *err);

#endif
