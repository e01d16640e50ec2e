#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include "support/aws_desk.h"

#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "provider/aws_kms.h"
#include "provider/aws_sign.h"
#include "support/cloud.h"

#define ROLE "arn:aws:iam::111122223333:role/dekhand" /* that the fake knows */

const char *dk_aws_from_name(enum dk_aws_from from)
{
    static const char *const names[DK_FROM_COUNT] = {"keys",      "web identity", "a role",
                                                     "a command", "a container",  "an instance"};
    return names[from];
}

static void check(bool ok, const char *what)
{
    if (!ok) {
        fprintf(stderr, "aws_desk: %s\n", what);
        abort();
    }
}

static void set_clocks(struct dk_aws_desk *desk)
{
    char json[64];
    snprintf(json, sizeof json, "{\"offset\":%lld}", (long long)desk->offset_s);
    (void)dk_cloud_control("clock", json);
}

void dk_aws_desk_advance(struct dk_aws_desk *desk, int64_t seconds)
{
    desk->offset_s += seconds;
    desk->w.wall_us += seconds * 1000000;
    desk->w.mono_ms += seconds * 1000;
    set_clocks(desk);
}

static void write_file(const struct dk_aws_desk *desk, const char *name, const char *text,
                       char path[static 128])
{
    snprintf(path, 128, "%.63s/%s", desk->folder, name);
    (void)unlink(path);
    dk_test_file_write(path, text, strlen(text), 0600);
}

void dk_aws_desk_config(struct dk_aws_desk *desk, const char *text)
{
    char path[128];
    write_file(desk, "config", text, path);
    dk_cloud_set(&desk->settings, "AWS_CONFIG_FILE", path);
}

void dk_aws_desk_command(struct dk_aws_desk *desk, int64_t expires_in_s)
{
    char path[128], text[1024], expires[DK_TIME_TEXT];
    dk_time_format(desk->w.wall_us + expires_in_s * 1000000, expires);
    snprintf(text, sizeof text,
             "{\"Version\":1,\"AccessKeyId\":\"%s\",\"SecretAccessKey\":\"%s\","
             "\"Expiration\":\"%s\"}",
             dk_cloud("AWS_ID"), dk_cloud("AWS_SECRET"), expires);
    write_file(desk, "printed", text, path);
}

static void from_role(struct dk_aws_desk *desk)
{
    char text[1024];
    snprintf(text, sizeof text,
             "[default]\nrole_arn = " ROLE "\nsource_profile = base\n"
             "[profile base]\naws_access_key_id = %s\naws_secret_access_key = %s\n",
             dk_cloud("AWS_ID"), dk_cloud("AWS_SECRET"));
    dk_aws_desk_config(desk, text);
}

static void from_command(struct dk_aws_desk *desk)
{
    char text[256];
    snprintf(text, sizeof text, "[default]\ncredential_process = cat %.63s/printed\n",
             desk->folder);
    dk_aws_desk_config(desk, text);
    dk_aws_desk_command(desk, 3600);
}

static void from_container(struct dk_aws_desk *desk)
{
    char url[256];
    snprintf(url, sizeof url, "%s%s", dk_cloud("FAKE_PLAIN"), dk_cloud("AWS_CONTAINER_PATH"));
    dk_cloud_set(&desk->settings, "AWS_CONTAINER_CREDENTIALS_FULL_URI", url);
    dk_cloud_set(&desk->settings, "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
                 dk_cloud("AWS_CONTAINER_TOKEN_FILE"));
}

static void set_source(struct dk_aws_desk *desk, enum dk_aws_from from)
{
    switch (from) {
    case DK_FROM_KEYS:
        dk_cloud_set(&desk->settings, "AWS_ACCESS_KEY_ID", dk_cloud("AWS_ID"));
        dk_cloud_set(&desk->settings, "AWS_SECRET_ACCESS_KEY", dk_cloud("AWS_SECRET"));
        break;
    case DK_FROM_WEB_IDENTITY:
        dk_cloud_set(&desk->settings, "AWS_ROLE_ARN", dk_cloud("AWS_ROLE_ARN"));
        dk_cloud_set(&desk->settings, "AWS_WEB_IDENTITY_TOKEN_FILE",
                     dk_cloud("AWS_WEB_IDENTITY_TOKEN_FILE"));
        break;
    case DK_FROM_ROLE:
        from_role(desk);
        break;
    case DK_FROM_COMMAND:
        from_command(desk);
        break;
    case DK_FROM_CONTAINER:
        from_container(desk);
        break;
    default:
        dk_cloud_set(&desk->settings, "AWS_EC2_METADATA_SERVICE_ENDPOINT", dk_cloud("FAKE_PLAIN"));
        break;
    }
}

void dk_aws_desk_open(struct dk_aws_desk *desk, enum dk_aws_from from)
{
    struct dk_arena_report report;
    struct dk_err err;
    memset(desk, 0, sizeof *desk);
    dk_err_clear(&err);
    dk_test_world_init(&desk->w);
    desk->w.world.random = dk_world_default.random;
    desk->w.wall_us = dk_wall_us(&dk_world_default);
    dk_cloud_reset();
    (void)dk_cloud_control("rotate_credentials", "{\"service\":\"sts\"}"); /* of today's clock */
    dk_test_folder_new(desk->folder);
    check(dk_suite_open(&desk->w.world, &desk->suite, &err) == DK_OK, err.text);
    check(dk_arena_open(&desk->w.world, 64, &desk->arena, &report, &err) == DK_OK, err.text);
    dk_settings_init(&desk->settings, &dk_mem_default);
    dk_cloud_set(&desk->settings, "AWS_KMS_KEY_ID", dk_cloud("AWS_KEY_ARN"));
    dk_cloud_set(&desk->settings, "AWS_REGION", "us-east-1");
    dk_cloud_set(&desk->settings, "AWS_ENDPOINT_URL", dk_cloud("FAKE_TLS"));
    dk_cloud_set(&desk->settings, "AWS_SHARED_CREDENTIALS_FILE", "/dev/null");
    dk_cloud_set(&desk->settings, "AWS_CONFIG_FILE", "/dev/null");
    dk_cloud_set(&desk->settings, "KMS_CA_FILE", dk_cloud("FAKE_CA"));
    set_source(desk, from);
}

/* ---- credentials ----------------------------------------------------------------------------- */

static dk_rc open_http(struct dk_aws_desk *desk, const char *service, struct dk_http **out,
                       struct dk_err *err)
{
    const struct dk_http_setup setup = {.world = &desk->w.world,
                                        .limits = {.tries = 3,
                                                   .connect_ms = 10000,
                                                   .try_ms = 10000,
                                                   .total_ms = 20000,
                                                   .wait_ms = 2,
                                                   .wait_max_ms = 5,
                                                   .parallel = 4},
                                        .service = service,
                                        .ca_file = dk_cloud("FAKE_CA")};
    return dk_http_open(&setup, out, err);
}

static dk_rc open_credentials(struct dk_aws_desk *desk, struct dk_err *err)
{
    DK_TRY(open_http(desk, "AWS STS", &desk->sts, err));
    DK_TRY(open_http(desk, "the metadata service", &desk->metadata, err));
    DK_TRY(dk_aws_setup_read(&desk->settings, &desk->w.world.mem, &desk->aws, err));
    const struct dk_aws_credentials_setup setup = {.world = &desk->w.world,
                                                   .suite = &desk->suite,
                                                   .arena = desk->arena,
                                                   .aws = &desk->aws,
                                                   .sts = desk->sts,
                                                   .metadata = desk->metadata,
                                                   .skew_us = &desk->skew_us};
    return dk_aws_credentials_open(&setup, &desk->credentials, err);
}

void dk_aws_desk_credentials(struct dk_aws_desk *desk)
{
    struct dk_err err;
    DK_TEST_OK(err, open_credentials(desk, &err));
}

void dk_aws_desk_begin(struct dk_aws_desk *desk, enum dk_aws_from from)
{
    dk_aws_desk_open(desk, from);
    dk_aws_desk_credentials(desk);
}

struct dk_aws_keys *dk_aws_desk_get(struct dk_aws_desk *desk)
{
    struct dk_aws_keys *keys = NULL;
    struct dk_err err;
    DK_TEST_OK(err, dk_aws_credentials_get(desk->credentials, &keys, &err));
    return keys;
}

int dk_aws_desk_asked(void)
{
    return dk_cloud_count("sts.AssumeRole") + dk_cloud_count("sts.AssumeRoleWithWebIdentity") +
           dk_cloud_count("container.Credentials") + dk_cloud_count("imds.Credentials");
}

struct question {
    struct dk_aws_desk *desk;
    const struct dk_aws_keys *keys;
};

static dk_rc build(void *self, struct dk_http_request *out, struct dk_err *err)
{
    const struct question *q = self;
    const struct dk_kms_ask ask = {.op = DK_KMS_DESCRIBE, .key_id = q->desk->aws.key_id};
    const struct dk_sigv4 sign = {.suite = &q->desk->suite,
                                  .access_key_id = q->keys->id,
                                  .secret = &q->keys->secret,
                                  .session_token = q->keys->token,
                                  .region = "us-east-1",
                                  .service = "kms",
                                  .at_us = q->desk->w.wall_us};
    out->to = &q->desk->aws.kms;
    DK_TRY(dk_kms_build(&ask, out, err));
    return dk_sigv4_sign(&sign, out, err);
}

static enum dk_http_next judge(void *self, const struct dk_http_reply *reply, struct dk_err *err)
{
    (void)self;
    if (reply->status != 200) {
        (void)DK_FAIL(err, PROVIDER_DENIED, "KMS says HTTP %ld: %.*s", reply->status,
                      (int)(reply->body.n < 200 ? reply->body.n : 200),
                      (const char *)reply->body.p);
    }
    return DK_HTTP_DONE;
}

void dk_aws_desk_kms_takes(struct dk_aws_desk *desk, const struct dk_aws_keys *keys)
{
    struct dk_err err;
    struct question question = {desk, keys};
    struct dk_http_call call = {build, judge, &question, &err};
    dk_err_clear(&err);
    dk_http_run(desk->sts, &call, 1);
    if (err.rc != DK_OK) {
        fail_msg("%s", err.text);
    }
}

void dk_aws_desk_end(struct dk_aws_desk *desk)
{
    if (desk->aws.plan.mem != NULL) {
        dk_aws_credentials_close(desk->credentials);
        dk_aws_setup_clear(&desk->aws);
    }
    dk_http_close(desk->metadata);
    dk_http_close(desk->sts);
    dk_settings_clear(&desk->settings);
    dk_arena_close(desk->arena);
    dk_suite_close(&desk->suite);
    dk_test_folder_remove(desk->folder);
    assert_int_equal(desk->w.live, 0);
}
