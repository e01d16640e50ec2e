#include "provider/aws_own.h"

#include <stdio.h>

void dk_aws_note_own(struct dk_aws *aws, const char *arn)
{
    pthread_mutex_lock(&aws->lock);
    snprintf(aws->own_arn, sizeof aws->own_arn, "%s", arn);
    pthread_mutex_unlock(&aws->lock);
}

/* The ARN that an answer names has to be one of what was asked for (F31). */
dk_rc dk_aws_check_own(const struct dk_aws *aws, const char *arn, struct dk_err *err)
{
    const struct dk_aws_key *own = &aws->aws.key;
    struct dk_aws_key key;
    bool same = dk_aws_key_parse(arn, &key) && key.form == DK_AWS_KEY_ARN &&
                strcmp(key.region, aws->aws.region) == 0;
    if (own->account[0] != '\0') {
        same = same && strcmp(own->account, key.account) == 0 &&
               strcmp(own->partition, key.partition) == 0;
    }
    if (own->form == DK_AWS_KEY_ID || own->form == DK_AWS_KEY_ARN) {
        same = same && strcmp(own->id, key.id) == 0;
    }
    return same ? DK_OK
                : DK_FAIL(err, PROVIDER, "AWS KMS answered with the key %.120s, asked was %.120s",
                          arn, aws->aws.key_id);
}

dk_rc dk_aws_describe(struct dk_aws *aws, struct dk_kms_key *out, struct dk_err *err)
{
    struct dk_aws_call x = {
        .aws = aws, .ask = {.op = DK_KMS_DESCRIBE, .key_id = aws->aws.key_id}, .described = out};
    DK_TRY(dk_aws_call_run(&x, err));
    return dk_aws_check_own(aws, out->arn, err);
}

static dk_rc generate_and_forget(struct dk_aws *aws, char arn[static DK_KMS_KEY_ID_MAX + 1],
                                 struct dk_err *err)
{
    char now[DK_TIME_TEXT];
    struct dk_secret key = {0};
    dk_time_format(dk_wall_us(aws->setup.world), now);
    struct dk_wrap_context context = {dk_view_str("dekhand-canary"), "ConnectionTest", now};
    DK_TRY(dk_secret_new(aws->setup.arena, DK_SECRET_CELL, &key, err));
    struct dk_aws_call x = {
        .aws = aws,
        .ask = {.op = DK_KMS_GENERATE, .key_id = aws->aws.key_id, .context = &context},
        .answer = {.key = &key}};
    dk_rc rc = dk_aws_call_run(&x, err);
    dk_secret_free(aws->setup.arena, &key);
    memcpy(arn, x.answer.key_id, sizeof x.answer.key_id);
    return rc == DK_OK ? dk_aws_check_own(aws, arn, err) : rc;
}

/* Who may not describe the key may generate under it. */
static dk_rc ask(struct dk_aws *aws, char arn[static DK_KMS_KEY_ID_MAX + 1], struct dk_err *err)
{
    struct dk_kms_key key;
    struct dk_err cause;
    dk_err_clear(&cause);
    dk_rc rc = dk_aws_describe(aws, &key, &cause);
    if (rc == DK_E_PROVIDER_DENIED) {
        return generate_and_forget(aws, arn, err);
    }
    if (rc != DK_OK) {
        *err = cause;
        return rc;
    }
    memcpy(arn, key.arn, sizeof key.arn);
    return DK_OK;
}

/* "" = not known. How often it was asked for until then. */
static unsigned recall(struct dk_aws *aws, char arn[static DK_KMS_KEY_ID_MAX + 1])
{
    pthread_mutex_lock(&aws->lock);
    memcpy(arn, aws->own_arn, sizeof aws->own_arn);
    unsigned asks = aws->asks;
    pthread_mutex_unlock(&aws->lock);
    return asks;
}

static void note_asked(struct dk_aws *aws, const struct dk_err *failure)
{
    pthread_mutex_lock(&aws->lock);
    aws->asks++;
    aws->ask_failure = *failure;
    pthread_mutex_unlock(&aws->lock);
}

/* One thread at a time; who waited while another asked is told what that one was. */
static dk_rc ask_for_all(struct dk_aws *aws, unsigned before,
                         char arn[static DK_KMS_KEY_ID_MAX + 1], struct dk_err *err)
{
    bool asked = recall(aws, arn) != before;
    if (arn[0] != '\0') {
        return DK_OK;
    }
    if (asked) {
        pthread_mutex_lock(&aws->lock);
        *err = aws->ask_failure;
        pthread_mutex_unlock(&aws->lock);
        return err->rc;
    }
    dk_rc rc = ask(aws, arn, err);
    if (rc == DK_OK) {
        dk_aws_note_own(aws, arn);
    }
    note_asked(aws, err);
    return rc;
}

/* By asking, where no answer told it yet. */
dk_rc dk_aws_learn_own(struct dk_aws *aws, char arn[static DK_KMS_KEY_ID_MAX + 1],
                       struct dk_err *err)
{
    unsigned before = recall(aws, arn);
    if (arn[0] != '\0') {
        return DK_OK;
    }
    pthread_mutex_lock(&aws->ask);
    dk_rc rc = ask_for_all(aws, before, arn, err);
    pthread_mutex_unlock(&aws->ask);
    return rc;
}

/* ---- keys of rows ---------------------------------------------------------------------------- */

static bool is_here(const struct dk_aws *aws, const struct dk_aws_key *key)
{
    return strcmp(key->region, aws->aws.region) == 0;
}

static bool same_account(const struct dk_aws_key *a, const struct dk_aws_key *b)
{
    return strcmp(a->account, b->account) == 0 && strcmp(a->partition, b->partition) == 0;
}

/* One multi-Region key has the same id in each of its Regions. */
static bool is_replica(const struct dk_aws_key *a, const struct dk_aws_key *b)
{
    return same_account(a, b) && dk_aws_key_is_multi_region(a) && strcmp(a->id, b->id) == 0;
}

static bool must_learn(const struct dk_aws *aws, const struct dk_aws_key *key)
{
    const struct dk_aws_key *own = &aws->aws.key;
    if (is_here(aws, key)) {
        return own->account[0] == '\0';
    }
    if (!dk_aws_key_is_multi_region(key) || own->form == DK_AWS_KEY_ARN) {
        return false;
    }
    return own->form == DK_AWS_KEY_ID      ? strcmp(own->id, key->id) == 0
           : own->form == DK_AWS_ALIAS_ARN ? same_account(own, key)
                                           : true;
}

static bool parse_row(const char *kms_key_id, struct dk_aws_key *out)
{
    return dk_aws_key_parse(kms_key_id, out) && out->form == DK_AWS_KEY_ARN;
}

bool dk_aws_must_learn(const struct dk_aws *aws, const char *kms_key_id)
{
    struct dk_aws_key key;
    return parse_row(kms_key_id, &key) && must_learn(aws, &key);
}

/* What the setting says of our key, or KMS where that is not enough to judge this one. */
static dk_rc find_own(struct dk_aws *aws, const struct dk_aws_key *key, struct dk_aws_key *own,
                      struct dk_err *err)
{
    char arn[DK_KMS_KEY_ID_MAX + 1];
    *own = aws->aws.key;
    if (!must_learn(aws, key)) {
        return DK_OK;
    }
    DK_TRY(dk_aws_learn_own(aws, arn, err));
    return dk_aws_key_parse(arn, own)
               ? DK_OK
               : DK_FAIL(err, PROVIDER, "AWS KMS named a key that is none: %.120s", arn);
}

bool dk_aws_is_same_key(const char *arn, const char *kms_key_id)
{
    struct dk_aws_key key, of_row;
    return parse_row(arn, &key) && parse_row(kms_key_id, &of_row) &&
           (strcmp(arn, kms_key_id) == 0 || is_replica(&key, &of_row));
}

/*
 * A key id from a row is used only if it is one of the configured key's account and region (I32):
 * an alias may have been moved, but never into a stranger's account. One of another region is used
 * never: where our key is a replica of it, ours is asked.
 */
dk_rc dk_aws_find_way(struct dk_aws *aws, const char *kms_key_id, struct dk_aws_way *out,
                      struct dk_err *err)
{
    struct dk_aws_key key, own;
    bool is_arn = parse_row(kms_key_id, &key);
    if (is_arn) {
        DK_TRY(find_own(aws, &key, &own, err));
    }
    if (is_arn && is_here(aws, &key) && same_account(&key, &own)) {
        snprintf(out->key_id, sizeof out->key_id, "%s", kms_key_id);
        return DK_OK;
    }
    if (is_arn && own.form == DK_AWS_KEY_ARN && is_replica(&key, &own)) {
        snprintf(out->key_id, sizeof out->key_id, "arn:%s:kms:%s:%s:key/%s", own.partition,
                 aws->aws.region, own.account, own.id);
        return DK_OK;
    }
    return DK_FAIL(err, NO_MASTER_KEY,
                   "the data key was wrapped by %.120s, which is no key of the account and "
                   "region of AWS_KMS_KEY_ID (%.80s), and not in KMS_PREVIOUS_KEYS",
                   kms_key_id, aws->aws.key_id);
}

/* A bare id says neither account nor Region: of a multi-Region key it is that of all replicas. */
static bool is_of_id(const struct dk_aws *aws, const struct dk_aws_key *key)
{
    return strcmp(aws->aws.key.id, key->id) == 0 &&
           (is_here(aws, key) || dk_aws_key_is_multi_region(key));
}

bool dk_aws_is_own(void *self, const char *kms_key_id)
{
    struct dk_aws *aws = self;
    struct dk_aws_key key, own;
    char arn[DK_KMS_KEY_ID_MAX + 1];
    (void)recall(aws, arn);
    if (arn[0] == '\0' || !dk_aws_key_parse(arn, &own)) {
        own = aws->aws.key;
    }
    if (!parse_row(kms_key_id, &key)) {
        return false;
    }
    if (own.form == DK_AWS_KEY_ID) {
        return is_of_id(aws, &key);
    }
    return (is_here(aws, &key) && same_account(&key, &own)) ||
           (own.form == DK_AWS_KEY_ARN && is_replica(&key, &own));
}
