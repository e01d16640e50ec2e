/*
 * aws_grant: the messages by which temporary AWS credentials are got: STS, containers, instances,
 * and what a credential_process prints.
 *
 * Called by aws_credentials. Pure: builds requests and reads answers (PROVIDERS A.5).
 */
#ifndef DK_PROVIDER_AWS_GRANT_H
#define DK_PROVIDER_AWS_GRANT_H

#include "base/secret.h"
#include "provider/aws_setup.h"
#include "net/http.h"

#define DK_AWS_ID_MAX 128
#define DK_AWS_SECRET_MAX DK_SECRET_CELL
#define DK_AWS_TOKEN_MAX 12287

/* What an answer hands out; dk_aws_grant_clear wipes it. */
struct dk_aws_grant {
    char id[DK_AWS_ID_MAX + 1];
    char secret[DK_AWS_SECRET_MAX + 1];
    char token[DK_AWS_TOKEN_MAX + 1]; /* "" = none */
    int64_t expires_us;               /* DK_TIME_NONE = never */
};
void dk_aws_grant_clear(struct dk_aws_grant *grant);

/* Action=AssumeRoleWithWebIdentity, not signed. */
DK_MUST_USE dk_rc dk_aws_ask_web_identity(const struct dk_aws_role *role, const char *token,
                                          struct dk_http_request *out, struct dk_err *err);
/* Action=AssumeRole, to be signed. */
DK_MUST_USE dk_rc dk_aws_ask_role(const struct dk_aws_role *role, struct dk_http_request *out,
                                  struct dk_err *err);
/* IMDSv2: the session's token; the role's name; its credentials. */
DK_MUST_USE dk_rc dk_aws_ask_session(struct dk_http_request *out, struct dk_err *err);
DK_MUST_USE dk_rc dk_aws_ask_instance(const char *session, const char *role,
                                      struct dk_http_request *out, struct dk_err *err);
/* `token` NULL: without authorization. */
DK_MUST_USE dk_rc dk_aws_ask_container(const char *path, const char *token,
                                       struct dk_http_request *out, struct dk_err *err);

/* XML of STS. */
DK_MUST_USE dk_rc dk_aws_read_sts(struct dk_view body, struct dk_aws_grant *out,
                                  struct dk_err *err);
/* JSON of containers and instances. An instance says by `Code` that it has none: E_PROVIDER. */
DK_MUST_USE dk_rc dk_aws_read_metadata(struct dk_view body, struct dk_aws_grant *out,
                                       struct dk_err *err);
/* JSON of a credential_process, `Version` 1. */
DK_MUST_USE dk_rc dk_aws_read_process(struct dk_view text, struct dk_aws_grant *out,
                                      struct dk_err *err);
/* One line of visible ASCII: the session's token, the role's name. E_PROVIDER. */
DK_MUST_USE dk_rc dk_aws_read_line(struct dk_view body, char *out, size_t cap, struct dk_err *err);

/* 2026-11-24T00:00:00Z, with a fraction or an offset of nothing; false: none of these. */
DK_MUST_USE bool dk_aws_parse_time(const char *text, int64_t *us);

#endif
