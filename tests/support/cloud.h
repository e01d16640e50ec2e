/*
 * cloud: the fake of AWS and Azure (tests/cloud.py), moto, and local-kms (tests/local_kms), for one
 * test program.
 *
 * Each started when it is first asked for, out of build/cache, gone with this process, however it
 * ends. Programs run in the repository's root. Nothing here asserts: what cannot fail
 * for a good reason aborts.
 */
#ifndef DK_TEST_CLOUD_H
#define DK_TEST_CLOUD_H

#include "base/options.h"

/* What the fake printed: "FAKE_TLS", "AWS_KEY_ARN", ..; never NULL. */
const char *dk_cloud(const char *name);

enum { DK_CLOUD_ANSWER = 65536 };
/* POST /_control/VERB with JSON; its answer is JSON too. Returns a static buffer. */
const char *dk_cloud_control(const char *verb, const char *json);
/* The next `times` calls (-1 = all) of a service get one answer: `{"fault":"reset"}`. `operation`
   NULL = any. */
void dk_cloud_script(const char *service, const char *operation, const char *answer, int times);
/* How often an operation was called: "kms.Decrypt", "connections". */
int dk_cloud_count(const char *operation);
/* Everything as at the start. */
void dk_cloud_reset(void);

/* A KMS key in moto, its ARN; static. */
const char *dk_cloud_moto_key(void);

/* What boto3 wraps at the fake for tenant acme, data encryption and this time: base64 into `blob`.
 */
void dk_cloud_boto3_wraps(const uint8_t *key, size_t n, const char *timestamp, char *blob,
                          size_t cap);

/* Settings for AWS at the fake, at moto, at local-kms with a key of their own; `settings` is
   initialised here. */
void dk_cloud_aws(struct dk_settings *settings);
void dk_cloud_moto(struct dk_settings *settings);
void dk_cloud_local_kms(struct dk_settings *settings);
/* "DisableKey" and the like with the key of these settings at local-kms; `more` = further members:
   `,"PendingWindowInDays":7`. */
void dk_cloud_local_kms_do(const struct dk_settings *settings, const char *operation,
                           const char *more);
/* For Azure at the fake, with this key: "kek", "kek-wrap", "kek-oct". */
void dk_cloud_azure(struct dk_settings *settings, const char *key);
void dk_cloud_set(struct dk_settings *settings, const char *name, const char *value);

#endif
