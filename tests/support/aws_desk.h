/*
 * aws_desk: a world, and settings that find AWS credentials in one of their sources, all at the
 * fake (support/cloud). Its clock and the fake's go together. What does not succeed fails the test.
 *
 * A test includes it after <cmocka.h>.
 */
#ifndef DK_TEST_AWS_DESK_H
#define DK_TEST_AWS_DESK_H

#include "provider/aws_credentials.h"
#include "support/expect.h"

enum dk_aws_from {
    DK_FROM_KEYS, /* of the environment */
    DK_FROM_WEB_IDENTITY,
    DK_FROM_ROLE, /* of a profile, taken with static keys */
    DK_FROM_COMMAND,
    DK_FROM_CONTAINER,
    DK_FROM_INSTANCE,
    DK_FROM_COUNT
};

/* "web identity", for messages. */
const char *dk_aws_from_name(enum dk_aws_from from);

struct dk_aws_desk {
    struct dk_test_world w;
    struct dk_suite suite;
    struct dk_arena *arena;
    char folder[64];
    struct dk_settings settings;
    int64_t offset_s; /* of the fake's clock, and of ours against the machine's */
    /* What dk_aws_desk_credentials() opens. */
    struct dk_aws_setup aws;
    struct dk_http *sts;
    struct dk_http *metadata;
    struct dk_aws_credentials *credentials;
    int64_t skew_us;
};

/* The fake is reset; aborts when anything fails. */
void dk_aws_desk_open(struct dk_aws_desk *desk, enum dk_aws_from from);
/* With the settings as they are by now. Short waits, three tries, no budget. */
void dk_aws_desk_credentials(struct dk_aws_desk *desk);
/* Both. */
void dk_aws_desk_begin(struct dk_aws_desk *desk, enum dk_aws_from from);
/* All memory of the world was given back. */
void dk_aws_desk_end(struct dk_aws_desk *desk);

/* Credentials as they are now; dk_aws_credentials_put(). */
struct dk_aws_keys *dk_aws_desk_get(struct dk_aws_desk *desk);
/* How often a source was asked for some. */
int dk_aws_desk_asked(void);
/* KMS takes these: DescribeKey. */
void dk_aws_desk_kms_takes(struct dk_aws_desk *desk, const struct dk_aws_keys *keys);

/* All clocks go on. */
void dk_aws_desk_advance(struct dk_aws_desk *desk, int64_t seconds);
/* Writes the file AWS_CONFIG_FILE. */
void dk_aws_desk_config(struct dk_aws_desk *desk, const char *text);
/* Writes what the command prints: keys of the user, with this `Expiration`. */
void dk_aws_desk_command(struct dk_aws_desk *desk, int64_t expires_in_s);

#endif
