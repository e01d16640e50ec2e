/*
 * aws_setup: what the settings and the profile say about AWS: key, places, and where credentials
 * come from.
 *
 * Called by aws.c at open. Reads the two files of ~/.aws; talks to nobody. The order of the sources
 * is that of the SDKs (PROVIDERS A.5): environment, web identity, profile, container, instance.
 */
#ifndef DK_PROVIDER_AWS_SETUP_H
#define DK_PROVIDER_AWS_SETUP_H

#include "base/options.h"
#include "provider/aws_place.h"
#include "provider/aws_profile.h"

enum dk_aws_source {
    DK_AWS_STATIC,       /* environment or profile */
    DK_AWS_WEB_IDENTITY, /* a token in a file, for a role */
    DK_AWS_PROCESS,      /* a command of the profile */
    DK_AWS_CONTAINER,    /* ECS, EKS Pod Identity */
    DK_AWS_INSTANCE,     /* IMDSv2 */
};

#define DK_AWS_ROLES 5
#define DK_AWS_WHY 200

struct dk_aws_role {
    char *arn;
    char *session;
    char *external_id; /* NULL = none */
    long seconds;
};

/* How credentials are got: the first ones, then role by role with those before. All texts are own.
 */
struct dk_aws_plan {
    const struct dk_mem *mem;
    enum dk_aws_source source;
    const char *told; /* where that is said: "AWS_ACCESS_KEY_ID", "the profile" */
    char *access_key_id;
    char *secret;
    char *session_token;
    char *token_file; /* of web identity, or of the container's authorization */
    char *token;      /* of the container's */
    char *command;
    struct dk_aws_role web_role;
    char container_path[512];
    struct dk_endpoint metadata; /* container or instance */
    struct dk_aws_role roles[DK_AWS_ROLES];
    size_t role_count;
};

struct dk_aws_setup {
    char region[DK_AWS_REGION_MAX + 1];
    char key_id[512];
    struct dk_aws_key key;
    struct dk_endpoint kms;
    struct dk_endpoint sts;
    struct dk_endpoint iam;       /* the doctor's alone */
    char iam_why[DK_AWS_WHY + 1]; /* why there is none; "" = there is */
    struct dk_aws_plan plan;
};

/* E_CONFIG names the setting or file, and never a secret. The caller's: dk_aws_setup_clear(). */
DK_MUST_USE dk_rc dk_aws_setup_read(const struct dk_settings *settings, const struct dk_mem *mem,
                                    struct dk_aws_setup *out, struct dk_err *err);
void dk_aws_setup_clear(struct dk_aws_setup *setup); /* wipes */

#endif
