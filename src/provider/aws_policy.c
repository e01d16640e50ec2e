#include "provider/aws_policy.h"

/*
 * The guide's policy, and what it lacks: the rotation's state (doctor), ReEncrypt (rewrap from key
 * to key), keys of before, and that nobody with this identity deletes or disables the key.
 */
static const char head[] = "{\n"
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
                           "      \"Resource\": \"%s\"\n"
                           "    },\n"
                           "    {\n"
                           "      \"Sid\": \"DekhandListsAliases\",\n"
                           "      \"Effect\": \"Allow\",\n"
                           "      \"Action\": \"kms:ListAliases\",\n"
                           "      \"Resource\": \"*\"\n"
                           "    },\n";

static const char before[] = "    {\n"
                             "      \"Sid\": \"DekhandOpensWrapsOfBefore\",\n"
                             "      \"Effect\": \"Allow\",\n"
                             "      \"Action\": [\n"
                             "        \"kms:Decrypt\",\n"
                             "        \"kms:DescribeKey\",\n"
                             "        \"kms:ReEncryptFrom\"\n"
                             "      ],\n"
                             "      \"Resource\": [\n";

static const char tail[] = "    {\n"
                           "      \"Sid\": \"NobodyTakesTheKeyAway\",\n"
                           "      \"Effect\": \"Deny\",\n"
                           "      \"Action\": [\n"
                           "        \"kms:DeleteImportedKeyMaterial\",\n"
                           "        \"kms:DisableKey\",\n"
                           "        \"kms:PutKeyPolicy\",\n"
                           "        \"kms:ScheduleKeyDeletion\"\n"
                           "      ],\n"
                           "      \"Resource\": \"%s\"\n"
                           "    }\n"
                           "  ]\n"
                           "}\n";

static dk_rc put(struct dk_buf *out, const char *text, struct dk_err *err)
{
    return dk_buf_add(out, text, strlen(text), err);
}

/* The form's parts around the ARN. */
static dk_rc put_form(struct dk_buf *out, const char *form, const char *arn, struct dk_err *err)
{
    const char *at = strstr(form, "%s");
    DK_TRY(dk_buf_add(out, form, (size_t)(at - form), err));
    DK_TRY(put(out, arn, err));
    return put(out, at + 2, err);
}

static dk_rc put_before(struct dk_buf *out, const struct dk_previous_ids *previous,
                        struct dk_err *err)
{
    DK_TRY(put(out, before, err));
    for (size_t i = 0; i < previous->count; i++) {
        DK_TRY(put_form(out, i + 1 < previous->count ? "        \"%s\",\n" : "        \"%s\"\n",
                        previous->id[i], err));
    }
    return put(out, "      ]\n    },\n", err);
}

dk_rc dk_aws_policy(const char *arn, const struct dk_previous_ids *previous, struct dk_buf *out,
                    struct dk_err *err)
{
    DK_TRY(put_form(out, head, arn, err));
    if (previous->count > 0) {
        DK_TRY(put_before(out, previous, err));
    }
    return put_form(out, tail, arn, err);
}
