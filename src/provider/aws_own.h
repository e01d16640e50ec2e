/*
 * aws_own: which keys are ours: the one that wraps, and those whose wraps are opened.
 *
 * Called by aws.c and aws_inspect.c. What a row or an answer names is used only after it was held
 * against the settings here (I32, F31). Shared by threads.
 */
#ifndef DK_PROVIDER_AWS_OWN_H
#define DK_PROVIDER_AWS_OWN_H

#include "provider/aws_call.h"

/* The key that wraps now, as an answer named it. */
void dk_aws_note_own(struct dk_aws *aws, const char *arn);
/* E_PROVIDER: an answer names another key than was asked for (F31). */
DK_MUST_USE dk_rc dk_aws_check_own(const struct dk_aws *aws, const char *arn, struct dk_err *err);
/* Asks for the configured key's state. E_PROVIDER_DENIED: that is not allowed. */
DK_MUST_USE dk_rc dk_aws_describe(struct dk_aws *aws, struct dk_kms_key *out, struct dk_err *err);
/* The ARN of the key that wraps now; KMS is asked where no answer told it yet. */
DK_MUST_USE dk_rc dk_aws_learn_own(struct dk_aws *aws, char arn[static DK_KMS_KEY_ID_MAX + 1],
                                   struct dk_err *err);
/* Whether KMS has to be asked for our key before this one of a row can be judged. */
bool dk_aws_must_learn(const struct dk_aws *aws, const char *kms_key_id);
/* How a wrap under this key of a row is opened. E_NO_MASTER_KEY: it is none of ours (I32). */
DK_MUST_USE dk_rc dk_aws_find_way(struct dk_aws *aws, const char *kms_key_id,
                                  struct dk_aws_way *out, struct dk_err *err);

/* Whether the configured key, or another one of its account and Region, opens what a row names, as
   far as is known without asking. `self` is the back end. */
bool dk_aws_is_own(void *self, const char *kms_key_id);

/* Whether a row names the key of this ARN, or a replica of it. Pure. */
bool dk_aws_is_same_key(const char *arn, const char *kms_key_id);

#endif
