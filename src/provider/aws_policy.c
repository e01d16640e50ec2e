#include "provider/aws_policy.h"

#include <stdio.h>

/*
 * The guide's policy, and what it lacks: the rotation's state (doctor), ReEncrypt (rewrap from key
 * to key), and that nobody with this identity deletes or disables the key.
 */
static const char form[] = "{\n"
                           "  \"Version\": \"2012-10-17\",\n"
                           "  \"Statement\": [\n"
                           "    {\n"
                           "      \"Sid\": \"DekhandUsesTheKey\",\n"
                           "      \"Effect\": \"Allow\",\n"
                           "      \"Action\": [\n"
                           "        \"kms:Decrypt\",\n"
                           "        \"kms:DescribeKey\",\n"
                           "        \"kms:Encrypt\",\n"
                           "        \"kms:GenerateDataKey\",\n"
                           "        \"kms:GetKeyRotationStatus\",\n"
                           "        \"kms:ReEncryptFrom\",\n"
                           "        \"kms:ReEncryptTo\"\n"
                           "      ],\n"
                           "      \"Resource\": \"%1$s\"\n"
                           "    },\n"
                           "    {\n"
                           "      \"Sid\": \"DekhandListsAliases\",\n"
                           "      \"Effect\": \"Allow\",\n"
                           "      \"Action\": \"kms:ListAliases\",\n"
                           "      \"Resource\": \"*\"\n"
                           "    },\n"
                           "    {\n"
                           "      \"Sid\": \"NobodyTakesTheKeyAway\",\n"
                           "      \"Effect\": \"Deny\",\n"
                           "      \"Action\": [\n"
                           "        \"kms:DeleteImportedKeyMaterial\",\n"
                           "        \"kms:DisableKey\",\n"
                           "        \"kms:PutKeyPolicy\",\n"
                           "        \"kms:ScheduleKeyDeletion\"\n"
                           "      ],\n"
                           "      \"Resource\": \"%1$s\"\n"
                           "    }\n"
                           "  ]\n"
                           "}\n";

dk_rc dk_aws_policy(const char *arn, struct dk_buf *out, struct dk_err *err)
{
    char text[sizeof form + 1200];
    int n = snprintf(text, sizeof text, form, arn);
    if (n < 0 || (size_t)n >= sizeof text) {
        return DK_FAIL(err, INTERNAL, "an ARN too long for a policy");
    }
    return dk_buf_add(out, text, (size_t)n, err);
}
