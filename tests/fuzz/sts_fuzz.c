/* Any bytes as an answer of AWS STS: XML with credentials, or refused with a text. */
#include <stdlib.h>

#include "provider/aws_grant.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

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
    return 0;
}
