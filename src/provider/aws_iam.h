/*
 * aws_iam: the messages by which AWS says who calls, and what he may do with a key.
 *
 * Called by aws_rights. Pure: builds requests and reads answers in XML (STS GetCallerIdentity,
 * which needs no right, and IAM SimulatePrincipalPolicy, which needs one that is of no other use
 * here).
 */
#ifndef DK_PROVIDER_AWS_IAM_H
#define DK_PROVIDER_AWS_IAM_H

#include "net/http.h"

#define DK_AWS_PRINCIPAL_MAX 2047

/* Action=GetCallerIdentity, to be signed. */
DK_MUST_USE dk_rc dk_aws_ask_caller(struct dk_http_request *out, struct dk_err *err);
/* Its ARN, of visible ASCII. E_PROVIDER. */
DK_MUST_USE dk_rc dk_aws_read_caller(struct dk_view body, char out[static DK_AWS_PRINCIPAL_MAX + 1],
                                     struct dk_err *err);

enum dk_aws_principal {
    DK_AWS_PRINCIPAL, /* a user or a role: its policies can be asked about */
    DK_AWS_ROOT,      /* of the account: it may do everything */
    DK_AWS_STRANGER,  /* a federated user, and what else there is */
};
/* Whose policies count for a caller: of a session, the role's ARN. `out` is "" but for a user or a
   role. A role's path is not in a session's ARN: such a role is not found. */
enum dk_aws_principal dk_aws_principal_of(const char *caller,
                                          char out[static DK_AWS_PRINCIPAL_MAX + 1]);

/* Action=SimulatePrincipalPolicy for one action ("kms:ScheduleKeyDeletion") and the key of this
   ARN, to be signed. */
DK_MUST_USE dk_rc dk_aws_ask_simulation(const char *principal, const char *action,
                                        const char *key_arn, struct dk_http_request *out,
                                        struct dk_err *err);
/* E_PROVIDER: it is no answer about this action. */
DK_MUST_USE dk_rc dk_aws_read_simulation(struct dk_view body, const char *action, bool *allowed,
                                         struct dk_err *err);

#endif
