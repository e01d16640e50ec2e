#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

/* Where AWS credentials are got from, and what a source says that has none. Against the fake. */
#include <stdlib.h>

#include "support/aws_desk.h"
#include "support/cloud.h"

static struct dk_err err;
static struct dk_aws_desk desk;

static void a_role_on_a_role_is_taken_in_order(void **state)
{
    (void)state;
    char text[1024];
    dk_aws_desk_open(&desk, DK_FROM_ROLE);
    snprintf(text, sizeof text,
             "[default]\nrole_arn = arn:aws:iam::111122223333:role/last\nsource_profile = middle\n"
             "external_id = e-1\nrole_session_name = here\nduration_seconds = 900\n"
             "[profile middle]\nrole_arn = arn:aws:iam::111122223333:role/dekhand\n"
             "source_profile = base\nexternal_id = e-1\n"
             "[profile base]\naws_access_key_id = %s\naws_secret_access_key = %s\n",
             dk_cloud("AWS_ID"), dk_cloud("AWS_SECRET"));
    dk_aws_desk_config(&desk, text);
    (void)dk_cloud_control(
        "set", "{\"service\":\"sts\",\"roles\":[\"dekhand\",\"last\"],\"external_id\":\"e-1\"}");
    dk_aws_desk_credentials(&desk);
    struct dk_aws_keys *keys = dk_aws_desk_get(&desk);
    dk_aws_desk_kms_takes(&desk, keys);
    dk_aws_credentials_put(desk.credentials, keys);
    assert_int_equal(dk_cloud_count("sts.AssumeRole"), 2);
    const char *said = dk_cloud_control("requests", "{}");
    const char *middle = strstr(said, "RoleArn=arn%3Aaws%3Aiam%3A%3A111122223333%3Arole%2Fdekhand");
    const char *last = strstr(said, "RoleArn=arn%3Aaws%3Aiam%3A%3A111122223333%3Arole%2Flast");
    assert_true(middle != NULL && last > middle);
    assert_non_null(strstr(last, "RoleSessionName=here&DurationSeconds=900&ExternalId=e-1"));
    dk_aws_desk_end(&desk);
}

static void a_container_may_have_its_token_in_a_setting(void **state)
{
    (void)state;
    char token[256], url[256];
    FILE *file = fopen(dk_cloud("AWS_CONTAINER_TOKEN_FILE"), "re");
    assert_non_null(file);
    assert_non_null(fgets(token, sizeof token, file));
    fclose(file);
    dk_aws_desk_open(&desk, DK_FROM_INSTANCE); /* the container's come before */
    snprintf(url, sizeof url, "%s%s", dk_cloud("FAKE_PLAIN"), dk_cloud("AWS_CONTAINER_PATH"));
    dk_cloud_set(&desk.settings, "AWS_CONTAINER_AUTHORIZATION_TOKEN", token);
    dk_cloud_set(&desk.settings, "AWS_CONTAINER_CREDENTIALS_FULL_URI", url);
    dk_aws_desk_credentials(&desk);
    struct dk_aws_keys *keys = dk_aws_desk_get(&desk);
    dk_aws_desk_kms_takes(&desk, keys);
    dk_aws_credentials_put(desk.credentials, keys);
    assert_int_equal(dk_cloud_count("container.Credentials"), 1);
    dk_aws_desk_end(&desk);
}

/* ---- sources that give nothing of use -------------------------------------------------------- */

static void fails_to_get(dk_rc rc, const char *words)
{
    struct dk_aws_keys *keys = NULL;
    dk_err_clear(&err);
    assert_int_equal(dk_aws_credentials_get(desk.credentials, &keys, &err), rc);
    DK_TEST_SAYS(err, words);
    assert_null(keys);
}

static void R16_an_instance_that_does_not_answer_is_named(void **state)
{
    (void)state;
    dk_aws_desk_begin(&desk, DK_FROM_INSTANCE);
    dk_cloud_script("imds", "Token", "{\"fault\":\"reset\"}", -1);
    fails_to_get(DK_E_UNREACHABLE, "hop limit");
    dk_aws_desk_end(&desk);
}

static void R15_each_refusal_is_told(void **state)
{
    (void)state;
    static const struct {
        enum dk_aws_from from;
        const char *service;
        const char *operation;
        const char *answer;
        dk_rc rc;
        const char *words;
        int count;
    } cases[] = {
        {DK_FROM_INSTANCE, "imds", "Token", "{\"status\":403}", DK_E_PROVIDER_DENIED, "HTTP 403",
         0},
        {DK_FROM_INSTANCE, "imds", "Role", "{\"status\":404}", DK_E_PROVIDER_DENIED, "HTTP 404", 0},
        {DK_FROM_INSTANCE, "imds", "Role", "{\"body\":\"two words\"}", DK_E_PROVIDER, "single word",
         0},
        {DK_FROM_INSTANCE, "imds", "Role", "{\"body\":\"a/../b\"}", DK_E_PROVIDER, "no name", 0},
        {DK_FROM_INSTANCE, "imds", "Role", "{\"body\":\"\"}", DK_E_PROVIDER, "empty", 0},
        {DK_FROM_INSTANCE, "imds", "Credentials",
         "{\"json\":{\"Code\":\"AssumeRoleUnauthorizedAccess\"}}", DK_E_PROVIDER,
         "AssumeRoleUnauthorizedAccess", 1},
        {DK_FROM_INSTANCE, "imds", "Credentials", "{\"fault\":\"bad_json\"}", DK_E_PROVIDER,
         "no JSON", 1},
        {DK_FROM_INSTANCE, "imds", "Credentials", "{\"fault\":\"duplicate_keys\"}", DK_E_PROVIDER,
         "no JSON", 1},
        {DK_FROM_CONTAINER, "container", NULL, "{\"fault\":\"empty\"}", DK_E_PROVIDER, "no JSON",
         1},
        {DK_FROM_CONTAINER, "container", NULL, "{\"fault\":\"wrong_case\"}", DK_E_PROVIDER,
         "without an access key", 1},
        {DK_FROM_CONTAINER, "container", NULL, "{\"fault\":\"oversize\"}", DK_E_PROVIDER,
         "longer than", 1},
        {DK_FROM_CONTAINER, "container", NULL, "{\"status\":401}", DK_E_PROVIDER_DENIED, "HTTP 401",
         1},
        {DK_FROM_CONTAINER, "container", NULL, "{\"fault\":\"throttle\"}", DK_E_THROTTLED,
         "HTTP 429", 3},
        {DK_FROM_WEB_IDENTITY, "sts", NULL, "{\"body\":\"<a/>\"}", DK_E_PROVIDER,
         "without an access key", 1},
        {DK_FROM_WEB_IDENTITY, "sts", NULL, "{\"body\":\"<a\"}", DK_E_PROVIDER, "XML", 1},
        {DK_FROM_WEB_IDENTITY, "sts", NULL, "{\"fault\":\"throttle\"}", DK_E_THROTTLED,
         "Throttling: Rate exceeded", 3},
        {DK_FROM_WEB_IDENTITY, "sts", NULL,
         "{\"status\":400,\"body\":\"<E><Error><Code>IDPCommunicationError</Code></Error></E>\"}",
         DK_E_UNREACHABLE, "IDPCommunicationError", 3},
        {DK_FROM_ROLE, "sts", NULL, "{\"fault\":\"redirect\",\"to\":\"http://169.254.169.254/\"}",
         DK_E_PROVIDER_DENIED, "HTTP 307", 1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        dk_aws_desk_begin(&desk, cases[i].from);
        dk_cloud_script(cases[i].service, cases[i].operation, cases[i].answer, -1);
        struct dk_aws_keys *keys = NULL;
        dk_err_clear(&err);
        if (dk_aws_credentials_get(desk.credentials, &keys, &err) != cases[i].rc ||
            strstr(err.text, cases[i].words) == NULL || dk_aws_desk_asked() != cases[i].count) {
            fail_msg("%zu: %d, %d times: %s", i, (int)err.rc, dk_aws_desk_asked(), err.text);
        }
        dk_aws_desk_end(&desk);
    }
}

static void F34_a_token_file_that_is_gone_is_named(void **state)
{
    (void)state;
    static const struct {
        enum dk_aws_from from;
        const char *setting;
    } cases[] = {{DK_FROM_WEB_IDENTITY, "AWS_WEB_IDENTITY_TOKEN_FILE"},
                 {DK_FROM_CONTAINER, "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"}};
    for (size_t i = 0; i < 2; i++) {
        char path[128];
        dk_aws_desk_open(&desk, cases[i].from);
        snprintf(path, sizeof path, "%.63s/token", desk.folder);
        dk_cloud_set(&desk.settings, cases[i].setting, path);
        dk_aws_desk_credentials(&desk);
        fails_to_get(DK_E_CONFIG, cases[i].setting);
        dk_test_file_write(path, " \n", 2, 0600);
        dk_aws_desk_advance(&desk, 2);
        fails_to_get(DK_E_CONFIG, "holds no token");
        dk_test_file_write(path, "a\nb", 3, 0600);
        dk_aws_desk_advance(&desk, 2);
        fails_to_get(i == 0 ? DK_E_PROVIDER_DENIED : DK_E_CONFIG, "");
        dk_aws_desk_end(&desk);
    }
}

/* A role is asked for by our clock; STS tells its own when it says no. */
static void R16_a_role_is_taken_with_a_clock_that_is_an_hour_off(void **state)
{
    (void)state;
    static const int64_t offsets[] = {3600, -3600, 86400 * 3};
    for (size_t i = 0; i < sizeof offsets / sizeof offsets[0]; i++) {
        dk_aws_desk_begin(&desk, DK_FROM_ROLE);
        desk.w.wall_us += offsets[i] * 1000000;
        dk_aws_credentials_put(desk.credentials, dk_aws_desk_get(&desk));
        assert_int_equal(dk_cloud_count("sts.AssumeRole"), 2); /* one retry */
        dk_aws_desk_end(&desk);
    }
    dk_aws_desk_begin(&desk, DK_FROM_ROLE); /* where the clock is right, the secret is wrong */
    desk.aws.plan.secret[0] ^= 1;
    fails_to_get(DK_E_PROVIDER_DENIED, "SignatureDoesNotMatch");
    assert_int_equal(dk_aws_desk_asked(), 1);
    dk_aws_desk_end(&desk);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_role_on_a_role_is_taken_in_order),
        cmocka_unit_test(a_container_may_have_its_token_in_a_setting),
        cmocka_unit_test(R16_an_instance_that_does_not_answer_is_named),
        cmocka_unit_test(R15_each_refusal_is_told),
        cmocka_unit_test(F34_a_token_file_that_is_gone_is_named),
        cmocka_unit_test(R16_a_role_is_taken_with_a_clock_that_is_an_hour_off),
    };
    return cmocka_run_group_tests_name("aws_fetch", tests, NULL, NULL);
}
