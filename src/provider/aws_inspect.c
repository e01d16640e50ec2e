#include "provider/aws_inspect.h"

#include <stdio.h>

#include "provider/aws_own.h"
#include "provider/aws_policy.h"
#include "provider/aws_rights.h"

#define ALIAS_PAGES 5 /* a key has 50 aliases at most, and a page as many */

/* The day that KMS names; a key whose replicas wait has none yet. */
static void tell_deletion(const struct dk_kms_key *key, const struct dk_provider_tell *tell)
{
    char todo[2 * DK_KMS_KEY_ID_MAX + 200], when[DK_TIME_TEXT] = "a day that it does not tell";
    if (key->deletion_us != DK_TIME_NONE) {
        dk_time_format(key->deletion_us, when);
        when[sizeof "2026-01-01T00:00:00" - 1] = '\0';
    }
    snprintf(todo, sizeof todo,
             "aws kms cancel-key-deletion --key-id %s && aws kms enable-key --key-id %s", key->arn,
             key->arn);
    dk_provider_say(tell, DK_PROVIDER_ERROR, todo,
                    "%s is %s: on %s it is deleted, and every data key under it is lost for ever",
                    key->arn, key->state, when);
}

static void tell_state(const struct dk_kms_key *key, const struct dk_provider_tell *tell)
{
    char todo[DK_KMS_KEY_ID_MAX + 200];
    if (strcmp(key->state, "PendingDeletion") == 0 ||
        strcmp(key->state, "PendingReplicaDeletion") == 0) {
        tell_deletion(key, tell);
    } else if (strcmp(key->state, "PendingImport") == 0) {
        snprintf(todo, sizeof todo,
                 "import the same key material again (no other will do): aws kms "
                 "get-parameters-for-import, aws kms import-key-material --key-id %s",
                 key->arn);
        dk_provider_say(tell, DK_PROVIDER_ERROR, todo,
                        "%s is %s: it has no key material, and no data key under it opens",
                        key->arn, key->state);
    } else {
        snprintf(todo, sizeof todo, "aws kms enable-key --key-id %s", key->arn);
        dk_provider_say(tell, DK_PROVIDER_ERROR, todo, "%s is %s: no data key under it opens",
                        key->arn, key->state);
    }
}

/* By which names the key is known. It is of no consequence: who may not ask is told nothing. */
static void tell_aliases(struct dk_aws *aws, const char *arn, const struct dk_provider_tell *tell)
{
    struct dk_aws_key key;
    struct dk_err err;
    struct dk_kms_aliases named = {.count = 0};
    char marker[DK_KMS_MARKER_MAX + 1];
    struct dk_aws_call x = {.aws = aws,
                            .ask = {.op = DK_KMS_ALIASES, .key_id = arn},
                            .named = &named,
                            .alias_of = key.id};
    dk_err_clear(&err);
    if (!dk_aws_key_parse(arn, &key)) {
        return;
    }
    for (int page = 0; page < ALIAS_PAGES && (page == 0 || named.more); page++) {
        memcpy(marker, named.marker, sizeof marker);
        x.ask.marker = page > 0 ? marker : NULL;
        if (dk_aws_call_run(&x, &err) != DK_OK) {
            return;
        }
    }
    if (named.count > 0) {
        dk_provider_say(tell, DK_PROVIDER_OK, "", "%s is known as %s%s", arn, named.text,
                        named.more || named.count > named.shown ? " and by more names" : "");
    }
}

/* Who may not ask is told which right he lacks; nothing is wrong with the key then. */
static void tell_rotation(struct dk_aws *aws, const struct dk_kms_key *key,
                          const struct dk_provider_tell *tell)
{
    bool rotates = false;
    struct dk_err err;
    char todo[DK_KMS_KEY_ID_MAX + 64];
    struct dk_aws_call x = {
        .aws = aws, .ask = {.op = DK_KMS_ROTATION, .key_id = key->arn}, .rotates = &rotates};
    dk_err_clear(&err);
    if (dk_aws_call_run(&x, &err) != DK_OK) {
        dk_provider_say(tell, DK_PROVIDER_NOTE,
                        "allow kms:GetKeyRotationStatus (dekhand doctor --print-policy)",
                        "%s is %s; whether it rotates is not known (%s)", key->arn, key->state,
                        dk_error_info(err.rc)->name);
    } else if (!rotates) {
        snprintf(todo, sizeof todo, "aws kms enable-key-rotation --key-id %s", key->arn);
        dk_provider_say(
            tell, DK_PROVIDER_NOTE, todo,
            "%s is %s, not scheduled for deletion; its material does not rotate by itself",
            key->arn, key->state);
    } else {
        dk_provider_say(tell, DK_PROVIDER_OK, "",
                        "%s is %s, rotates, and is not scheduled for deletion", key->arn,
                        key->state);
    }
}

void dk_aws_inspect(void *self, bool opens_only, const struct dk_provider_tell *tell)
{
    struct dk_aws *aws = self;
    struct dk_kms_key key;
    struct dk_err err;
    dk_err_clear(&err);
    dk_rc rc = dk_aws_describe(aws, &key, &err);
    if (rc == DK_E_PROVIDER_DENIED) {
        dk_provider_say(tell, DK_PROVIDER_NOTE,
                        "allow kms:DescribeKey (dekhand doctor --print-policy)",
                        "the state of %s is not known: %.200s", aws->aws.key_id, err.text);
    } else if (rc != DK_OK) {
        dk_provider_say(tell, DK_PROVIDER_WARNING, dk_error_info(rc)->todo, "%s: %.250s",
                        dk_error_info(rc)->name, err.text);
    } else if (strcmp(key.state, "Enabled") != 0) {
        tell_state(&key, tell);
    } else if (key.usage[0] != '\0' && strcmp(key.usage, "ENCRYPT_DECRYPT") != 0) {
        dk_provider_say(tell, DK_PROVIDER_ERROR,
                        "name a symmetric key with the usage ENCRYPT_DECRYPT", "%s is a key for %s",
                        key.arn, key.usage);
    } else if (opens_only) {
        dk_provider_say(tell, DK_PROVIDER_OK, "", "%s is %s, not scheduled for deletion", key.arn,
                        key.state);
    } else {
        tell_rotation(aws, &key, tell);
        tell_aliases(aws, key.arn, tell);
        if (tell->thorough) {
            dk_aws_tell_rights(aws, key.arn, tell);
        }
    }
}

/* A policy names keys by ARN; where that is not known it has a place to fill in. */
dk_rc dk_aws_tell_policy(void *self, const struct dk_previous_ids *previous, struct dk_buf *out,
                         struct dk_err *err)
{
    struct dk_aws *aws = self;
    char arn[DK_KMS_KEY_ID_MAX + 1];
    struct dk_err ignored;
    dk_err_clear(&ignored);
    if (aws->aws.key.form == DK_AWS_KEY_ARN) {
        return dk_aws_policy(aws->aws.key_id, previous, out, err);
    }
    if (dk_aws_learn_own(aws, arn, &ignored) != DK_OK) {
        snprintf(arn, sizeof arn, "arn:%s:kms:%s:<ACCOUNT>:key/%s",
                 dk_aws_partition_of(aws->aws.region)->name, aws->aws.region,
                 aws->aws.key.form == DK_AWS_KEY_ID ? aws->aws.key.id : "<KEY_ID>");
    }
    return dk_aws_policy(arn, previous, out, err);
}
