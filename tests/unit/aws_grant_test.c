#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

/* The messages by which AWS credentials are got, as bytes. */
#include <stdlib.h>

#include "provider/aws_grant.h"
#include "support/expect.h"

static struct dk_err err;
static struct dk_http_request request;
static struct dk_aws_grant grant;

static int begin(void **state)
{
    (void)state;
    dk_http_request_init(&request, &dk_mem_default);
    memset(&grant, 0, sizeof grant);
    return 0;
}

static int end(void **state)
{
    (void)state;
    dk_http_request_clear(&request);
    return 0;
}

static struct dk_aws_role role = {(char *)"arn:aws:iam::1:role/a+b", (char *)"s=1", NULL, 900};

static void asks(const char *method, const char *path, const char *line, const char *body)
{
    assert_string_equal(request.method, method);
    assert_string_equal(request.path, path);
    const char *first = dk_http_next_line(&request, NULL);
    assert_int_equal(first != NULL, line != NULL);
    if (line != NULL) {
        assert_string_equal(first, line);
        assert_null(dk_http_next_line(&request, first));
    }
    assert_int_equal(request.body.n, strlen(body));
    assert_memory_equal(request.body.p != NULL ? request.body.p : (const uint8_t *)"", body,
                        request.body.n);
}

#define FORM "Content-Type: application/x-www-form-urlencoded; charset=utf-8"
#define BASICS                                                                                     \
    "&Version=2011-06-15&RoleArn=arn%3Aaws%3Aiam%3A%3A1%3Arole%2Fa%2Bb&RoleSessionName=s%3D1"

static void a_web_identity_is_asked_for_with_its_token(void **state)
{
    (void)state;
    DK_TEST_OK(err, dk_aws_ask_web_identity(&role, "a.b&c=%", &request, &err));
    asks("POST", "/", FORM,
         "Action=AssumeRoleWithWebIdentity" BASICS
         "&DurationSeconds=900&WebIdentityToken=a.b%26c%3D%25");
}

static void a_role_is_asked_for(void **state)
{
    (void)state;
    DK_TEST_OK(err, dk_aws_ask_role(&role, &request, &err));
    asks("POST", "/", FORM, "Action=AssumeRole" BASICS "&DurationSeconds=900");
    dk_http_request_clear(&request);
    struct dk_aws_role with = role;
    with.external_id = (char *)"e/1";
    with.seconds = 43200;
    DK_TEST_OK(err, dk_aws_ask_role(&with, &request, &err));
    asks("POST", "/", FORM, "Action=AssumeRole" BASICS "&DurationSeconds=43200&ExternalId=e%2F1");
}

static void an_instance_is_asked_in_three_steps(void **state)
{
    (void)state;
    DK_TEST_OK(err, dk_aws_ask_session(&request, &err));
    asks("PUT", "/latest/api/token", "X-aws-ec2-metadata-token-ttl-seconds: 21600", "");
    dk_http_request_clear(&request);
    DK_TEST_OK(err, dk_aws_ask_instance("T==", "", &request, &err));
    asks("GET", "/latest/meta-data/iam/security-credentials/", "X-aws-ec2-metadata-token: T==", "");
    dk_http_request_clear(&request);
    DK_TEST_OK(err, dk_aws_ask_instance("T==", "role+=,.@-_1", &request, &err));
    asks("GET", "/latest/meta-data/iam/security-credentials/role+=,.@-_1",
         "X-aws-ec2-metadata-token: T==", "");
}

static void I29_a_role_that_leads_elsewhere_is_refused(void **state)
{
    (void)state;
    static const char *const names[] = {
        "..", "../../user-data", "a/b", "a?b", "a#b", "a b", "a\\b", "/", "."};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        dk_err_clear(&err);
        if (dk_aws_ask_instance("T", names[i], &request, &err) != DK_E_PROVIDER) {
            fail_msg("taken: %s", names[i]);
        }
        dk_http_request_clear(&request);
    }
    static char name[DK_HTTP_PATH_MAX];
    memset(name, 'r', sizeof name - 1);
    DK_TEST_FAILS(err, PROVIDER, dk_aws_ask_instance("T", name, &request, &err));
}

static void a_container_is_asked_with_its_token_if_there_is_one(void **state)
{
    (void)state;
    DK_TEST_OK(err, dk_aws_ask_container("/v2/x", "Basic abc", &request, &err));
    asks("GET", "/v2/x", "Authorization: Basic abc", "");
    dk_http_request_clear(&request);
    DK_TEST_OK(err, dk_aws_ask_container("", NULL, &request, &err));
    asks("GET", "", NULL, "");
    DK_TEST_FAILS(err, CONFIG, dk_aws_ask_container("/", "a\r\nX: b", &request, &err));
}

/* ---- answers --------------------------------------------------------------------------------- */

static void is_grant(const char *id, const char *secret, const char *token, int64_t expires_us)
{
    assert_string_equal(grant.id, id);
    assert_string_equal(grant.secret, secret);
    assert_string_equal(grant.token, token);
    assert_int_equal(grant.expires_us, expires_us);
}

#define AT_US (INT64_C(1767225600) * 1000000) /* 2026-01-01T00:00:00Z */

static void sts_answers_in_xml(void **state)
{
    (void)state;
    DK_TEST_OK(err, dk_aws_read_sts(
                        dk_view_str("<AssumeRoleResponse xmlns=\"https://sts.amazonaws.com/doc/\">"
                                    "<AssumeRoleResult><AssumedRoleUser><Arn>x</Arn>"
                                    "</AssumedRoleUser><Credentials><AccessKeyId>ASIA</AccessKeyId>"
                                    "<SecretAccessKey>s+/&amp;</SecretAccessKey>"
                                    "<SessionToken>T==</SessionToken>"
                                    "<Expiration>2026-01-01T00:00:00Z</Expiration></Credentials>"
                                    "</AssumeRoleResult></AssumeRoleResponse>"),
                        &grant, &err));
    is_grant("ASIA", "s+/&", "T==", AT_US);
}

static void F29_an_answer_of_sts_that_is_none_is_refused(void **state)
{
    (void)state;
    static const char *const bodies[] = {
        "",
        "{}",
        "<a/>",
        "<Credentials><AccessKeyId>A</AccessKeyId></Credentials>",
        "<Credentials><SecretAccessKey>s</SecretAccessKey></Credentials>",
        "<Credentials><AccessKeyId>A</AccessKeyId><SecretAccessKey></SecretAccessKey>"
        "</Credentials>",
        "<Credentials><AccessKeyId>A</AccessKeyId><SecretAccessKey>s</SecretAccessKey>"
        "<Expiration>soon</Expiration></Credentials>",
        "<Credentials><AccessKeyId>A</AccessKeyId><AccessKeyId>B</AccessKeyId>"
        "<SecretAccessKey>s</SecretAccessKey></Credentials>",
        "<Credentials><AccessKeyId>A</AccessKeyId><SecretAccessKey>"
        "0123456789012345678901234567890123456789012345678901234567890123456"
        "</SecretAccessKey></Credentials>",
        "<!DOCTYPE x [<!ENTITY e SYSTEM \"file:///etc/passwd\">]><Credentials><AccessKeyId>&e;"
        "</AccessKeyId><SecretAccessKey>s</SecretAccessKey></Credentials>",
    };
    for (size_t i = 0; i < sizeof bodies / sizeof bodies[0]; i++) {
        DK_TEST_FAILS(err, PROVIDER, dk_aws_read_sts(dk_view_str(bodies[i]), &grant, &err));
    }
}

static void metadata_answers_in_json(void **state)
{
    (void)state;
    DK_TEST_OK(err, dk_aws_read_metadata(
                        dk_view_str("{\"Code\":\"Success\",\"AccessKeyId\":\"ASIA\","
                                    "\"SecretAccessKey\":\"s\",\"Token\":\"T\",\"RoleArn\":\"r\","
                                    "\"Expiration\":\"2026-01-01T00:00:00Z\"}"),
                        &grant, &err));
    is_grant("ASIA", "s", "T", AT_US);
    DK_TEST_OK(err, dk_aws_read_metadata(
                        dk_view_str("{\"AccessKeyId\":\"ASIA\",\"SecretAccessKey\":\"s\"}"), &grant,
                        &err));
    is_grant("ASIA", "s", "", DK_TIME_NONE);
}

static void F29_an_answer_of_metadata_that_is_none_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *body;
        const char *words;
    } cases[] = {
        {"", "no JSON"},
        {"[]", "no object"},
        {"{}", "without an access key"},
        {"{\"Code\":\"Failed\",\"Message\":\"m\"}", "has no credentials: Failed"},
        {"{\"Code\":\"success\",\"AccessKeyId\":\"A\",\"SecretAccessKey\":\"s\"}",
         "has no credentials: success"},
        {"{\"AccessKeyId\":\"A\"}", "without an access key"},
        {"{\"AccessKeyId\":\"\",\"SecretAccessKey\":\"s\"}", "without an access key"},
        {"{\"AccessKeyId\":1,\"SecretAccessKey\":\"s\"}", "without an access key"},
        {"{\"AccessKeyId\":\"A\",\"SecretAccessKey\":null}", "without an access key"},
        {"{\"AccessKeyId\":\"A\",\"SecretAccessKey\":\"s\",\"Expiration\":\"1767225600\"}",
         "a time that cannot be read"},
        {"{\"AccessKeyId\":\"A\",\"SecretAccessKey\":\"0123456789012345678901234567890123456789"
         "01234567890123456789012345\"}",
         "longer than any"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        dk_err_clear(&err);
        if (dk_aws_read_metadata(dk_view_str(cases[i].body), &grant, &err) != DK_E_PROVIDER ||
            strstr(err.text, cases[i].words) == NULL) {
            fail_msg("%s: %s", cases[i].body, err.text);
        }
    }
}

static void a_token_of_12_kib_fits(void **state)
{
    (void)state;
    static char body[DK_AWS_TOKEN_MAX + 128];
    for (int more = 0; more < 2; more++) {
        int n = snprintf(body, sizeof body,
                         "{\"AccessKeyId\":\"A\",\"SecretAccessKey\":\"s\",\"Token\":\"");
        memset(body + n, 'T', DK_AWS_TOKEN_MAX + (size_t)more);
        snprintf(body + n + DK_AWS_TOKEN_MAX + more, 3, "\"}");
        dk_err_clear(&err);
        assert_int_equal(dk_aws_read_metadata(dk_view_str(body), &grant, &err),
                         more == 0 ? DK_OK : DK_E_PROVIDER);
    }
}

static void a_command_prints_version_1(void **state)
{
    (void)state;
    DK_TEST_OK(err,
               dk_aws_read_process(
                   dk_view_str("{\"Version\":1,\"AccessKeyId\":\"A\",\"SecretAccessKey\":\"s\","
                               "\"SessionToken\":\"T\",\"Token\":\"none\","
                               "\"Expiration\":\"2026-01-01T00:00:00Z\"}\n"),
                   &grant, &err));
    is_grant("A", "s", "T", AT_US);
    static const char *const bodies[] = {
        "{\"AccessKeyId\":\"A\",\"SecretAccessKey\":\"s\"}",
        "{\"Version\":2,\"AccessKeyId\":\"A\",\"SecretAccessKey\":\"s\"}",
        "{\"Version\":null,\"AccessKeyId\":\"A\",\"SecretAccessKey\":\"s\"}",
    };
    for (size_t i = 0; i < sizeof bodies / sizeof bodies[0]; i++) {
        DK_TEST_FAILS(err, PROVIDER, dk_aws_read_process(dk_view_str(bodies[i]), &grant, &err));
        DK_TEST_SAYS(err, "`Version` 1");
    }
    DK_TEST_FAILS(err, PROVIDER, dk_aws_read_process(dk_view_str("error"), &grant, &err));
}

static void a_line_is_one_word(void **state)
{
    (void)state;
    char out[8];
    static const struct {
        const char *body;
        const char *word; /* NULL = refused */
    } cases[] = {
        {"role", "role"},   {"role\n", "role"}, {"role\r\n\n", "role"}, {"1234567", "1234567"},
        {"T~!==", "T~!=="}, {"", NULL},         {"\n", NULL},           {"12345678", NULL},
        {"a b", NULL},      {"a\nb", NULL},     {" a", NULL},           {"a\t", NULL},
        {"\x7F", NULL},     {"\xC3\xA9", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        dk_err_clear(&err);
        dk_rc rc = dk_aws_read_line(dk_view_str(cases[i].body), out, sizeof out, &err);
        assert_int_equal(rc, cases[i].word != NULL ? DK_OK : DK_E_PROVIDER);
        assert_true(rc != DK_OK || strcmp(out, cases[i].word) == 0);
    }
    DK_TEST_FAILS(err, PROVIDER, dk_aws_read_line(dk_view_of("a\0b", 3), out, sizeof out, &err));
}

static void times_are_read_in_their_forms(void **state)
{
    (void)state;
    static const char *const good[] = {
        "2026-01-01T00:00:00Z",
        "2026-01-01T00:00:00.123Z",
        "2026-01-01T00:00:00.123456789012Z",
        "2026-01-01T00:00:00+00:00",
        "2026-01-01T00:00:00+0000",
        "2026-01-01T00:00:00.Z",
    };
    static const char *const bad[] = {
        "",
        "2026-01-01",
        "2026-01-01T00:00:00",
        "2026-01-01 00:00:00Z",
        "2026-1-1T0:0:0Z",
        "2026-01-01T00:00:00+01:00",
        "2026-01-01T00:00:00z",
        "2026-01-01T00:00:00ZZ",
        "2026-02-30T00:00:00Z",
        "2026-13-01T00:00:00Z",
        "2026-01-01T25:00:00Z",
        "+026-01-01T00:00:00Z",
        "20260101T000000Z",
        "1767225600",
    };
    int64_t us = 0;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        if (!dk_aws_parse_time(good[i], &us)) {
            fail_msg("%s", good[i]);
        }
        assert_int_equal(us, AT_US);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        size_t n = strlen(bad[i]) + 1;
        char *exact = malloc(n); /* a sanitizer sees each byte too far */
        assert_non_null(exact);
        memcpy(exact, bad[i], n);
        if (dk_aws_parse_time(exact, &us)) {
            fail_msg("taken: %s", bad[i]);
        }
        free(exact);
    }
}

static void a_grant_is_wiped(void **state)
{
    (void)state;
    memset(&grant, 'x', sizeof grant);
    dk_aws_grant_clear(&grant);
    assert_int_equal(grant.expires_us, DK_TIME_NONE);
    grant.expires_us = 0;
    for (size_t i = 0; i < sizeof grant; i++) {
        assert_int_equal(((const uint8_t *)&grant)[i], 0);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_web_identity_is_asked_for_with_its_token),
        TEST(a_role_is_asked_for),
        TEST(an_instance_is_asked_in_three_steps),
        TEST(I29_a_role_that_leads_elsewhere_is_refused),
        TEST(a_container_is_asked_with_its_token_if_there_is_one),
        TEST(sts_answers_in_xml),
        TEST(F29_an_answer_of_sts_that_is_none_is_refused),
        TEST(metadata_answers_in_json),
        TEST(F29_an_answer_of_metadata_that_is_none_is_refused),
        TEST(a_token_of_12_kib_fits),
        TEST(a_command_prints_version_1),
        TEST(a_line_is_one_word),
        TEST(times_are_read_in_their_forms),
        TEST(a_grant_is_wiped),
    };
    return cmocka_run_group_tests_name("aws_grant", tests, NULL, NULL);
}
