/* Any bytes as an answer of AWS STS or IAM: XML with credentials, a caller or a decision, or
 * refused with a text. */
#include <stdlib.h>

#include "provider/aws_grant.h"
#include "provider/aws_iam.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The same bytes as an answer about who calls, and about what he may. */
static void read_rights(struct dk_view body)
{
    static char caller[DK_AWS_PRINCIPAL_MAX + 1], principal[DK_AWS_PRINCIPAL_MAX + 1];
    struct dk_err err;
    bool allowed = false;
    dk_err_clear(&err);
    dk_rc rc = dk_aws_read_caller(body, caller, &err);
    bool good = rc == DK_OK ? strncmp(caller, "arn:", 4) == 0 : err.text[0] != '\0';
    if (rc == DK_OK) {
        bool known = dk_aws_principal_of(caller, principal) == DK_AWS_PRINCIPAL;
        good = good && known == (principal[0] != '\0');
    }
    dk_err_clear(&err);
    rc = dk_aws_read_simulation(body, "kms:ScheduleKeyDeletion", &allowed, &err);
    if (!good || (rc != DK_OK && (allowed || err.text[0] == '\0'))) {
        abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct dk_aws_grant grant;
    struct dk_err err;
    dk_err_clear(&err);
    dk_rc rc = dk_aws_read_sts(dk_view_of(data, size), &grant, &err);
    bool good = rc == DK_OK ? grant.id[0] != '\0' && grant.secret[0] != '\0' &&
                                  strlen(grant.id) <= DK_AWS_ID_MAX &&
                                  strlen(grant.secret) <= DK_AWS_SECRET_MAX &&
                                  strlen(grant.token) <= DK_AWS_TOKEN_MAX
                            : (rc == DK_E_PROVIDER || rc == DK_E_NOMEM) && err.text[0] != '\0';
    if (!good) {
        abort();
    }
    dk_aws_grant_clear(&grant);
    read_rights(dk_view_of(data, size));
    return 0;
}
