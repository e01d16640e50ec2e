/*
 * aws: the master key in AWS KMS. Data keys come from GenerateDataKey, the context is AWS's own
 * EncryptionContext (DESIGN 4), the key's ARN from the answer is stored and named at Decrypt.
 *
 * Named in provider.c only.
 */
#ifndef DK_PROVIDER_AWS_H
#define DK_PROVIDER_AWS_H

#include "provider/provider.h"

extern const struct dk_provider_ops dk_provider_aws;

#endif
