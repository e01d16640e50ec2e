#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

/* Key, places and sources of credentials, as settings and files say; each error names its setting.
 */
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "provider/aws_setup.h"
#include "support/expect.h"

#define ARN "arn:aws:kms:us-east-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
#define MRK "arn:aws:kms:us-east-1:111122223333:key/mrk-1234abcd12ab34cd56ef1234567890ab"

static struct dk_err err;
static struct dk_test_world w;
static struct dk_aws_setup aws;
static char folder[64];

enum { SET = 24 };
static struct {
    char name[64];
    char value[640];
} given[SET];

/* "": it is set no longer. */
static void set(const char *name, const char *value)
{
    size_t i = 0;
    while (i < SET && given[i].name[0] != '\0' && strcmp(given[i].name, name) != 0) {
        i++;
    }
    assert_true(i < SET && strlen(value) < sizeof given[0].value);
    snprintf(given[i].name, sizeof given[0].name, "%s", name);
    snprintf(given[i].value, sizeof given[0].value, "%s", value);
}

/* Writes a file of the folder; a setting that is not NULL names it. */
static void write_file(const char *name, const char *text, const char *setting)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    (void)unlink(path);
    dk_test_file_write(path, text, strlen(text), 0600);
    if (setting != NULL) {
        set(setting, path);
    }
}

static void config(const char *text)
{
    write_file("config", text, "AWS_CONFIG_FILE");
}

/* A key, a region and no files: what each case adds to. */
static void fresh(void)
{
    memset(given, 0, sizeof given);
    set("AWS_KMS_KEY_ID", "alias/dekhand");
    set("AWS_REGION", "us-east-1");
    set("AWS_CONFIG_FILE", "/dev/null");
    set("AWS_SHARED_CREDENTIALS_FILE", "/dev/null");
}

static int begin(void **state)
{
    (void)state;
    dk_test_world_init(&w);
    dk_test_folder_new(folder);
    fresh();
    return 0;
}

static int end(void **state)
{
    (void)state;
    if (aws.plan.mem != NULL) {
        dk_aws_setup_clear(&aws);
    }
    dk_test_folder_remove(folder);
    assert_int_equal(w.live, 0);
    return 0;
}

static dk_rc read_setup(void)
{
    struct dk_settings settings;
    dk_settings_init(&settings, &dk_mem_default);
    dk_err_clear(&err);
    dk_rc rc = DK_OK;
    for (size_t i = 0; rc == DK_OK && i < SET && given[i].name[0] != '\0'; i++) {
        if (given[i].value[0] != '\0') {
            rc = dk_settings_set(&settings, given[i].name, given[i].value, DK_FROM_FLAG, &err);
        }
    }
    if (aws.plan.mem != NULL) {
        dk_aws_setup_clear(&aws);
    }
    rc = rc == DK_OK ? dk_aws_setup_read(&settings, &w.world.mem, &aws, &err) : rc;
    dk_settings_clear(&settings);
    return rc;
}

static void reads(void)
{
    if (read_setup() != DK_OK) {
        fail_msg("%s", err.text);
    }
}

static void fails(const char *words)
{
    if (read_setup() != DK_E_CONFIG || strstr(err.text, words) == NULL) {
        fail_msg("\"%s\" is not in \"%s\"", words, err.text);
    }
    assert_null(strstr(err.text, "hunter2"));
    assert_int_equal(w.live, 0);
}

/* ---- key and region -------------------------------------------------------------------------- */

static void F74_the_key_is_required_and_is_one(void **state)
{
    (void)state;
    set("AWS_KMS_KEY_ID", "key/hunter2");
    fails("AWS_KMS_KEY_ID: it is neither");
    set("AWS_KMS_KEY_ID", "");
    fails("AWS_KMS_KEY_ID is required");
    static char longest[600];
    memset(longest, 'a', sizeof longest - 1);
    memcpy(longest, "alias/", 6);
    set("AWS_KMS_KEY_ID", longest);
    fails("AWS_KMS_KEY_ID: it is neither");
}

static void the_region_comes_from_the_first_that_has_one(void **state)
{
    (void)state;
    config("[default]\nregion = eu-west-3\n");
    reads();
    assert_string_equal(aws.region, "us-east-1");
    assert_string_equal(aws.kms.host, "kms.us-east-1.amazonaws.com");
    assert_string_equal(aws.sts.host, "sts.us-east-1.amazonaws.com");
    set("AWS_REGION", "");
    set("AWS_DEFAULT_REGION", "eu-west-2");
    reads();
    assert_string_equal(aws.region, "eu-west-2");
    set("AWS_DEFAULT_REGION", "");
    reads();
    assert_string_equal(aws.region, "eu-west-3");
    config("");
    set("AWS_KMS_KEY_ID", ARN);
    reads();
    assert_string_equal(aws.region, "us-east-1");
    set("AWS_KMS_KEY_ID", "alias/dekhand");
    fails("AWS_REGION is required");
    set("AWS_REGION", "us-east-1.evil.example/hunter2");
    fails("AWS_REGION: it is no name of a region");
}

static void a_key_of_another_region_is_an_error(void **state)
{
    (void)state;
    set("AWS_KMS_KEY_ID", ARN);
    set("AWS_REGION", "eu-west-1");
    fails("AWS_KMS_KEY_ID is a key of us-east-1, and the region is eu-west-1");
    assert_null(strstr(err.text, "replica"));
    set("AWS_KMS_KEY_ID", MRK);
    fails("give the ARN of its replica in that region");
    set("AWS_REGION", "us-east-1");
    reads();
    assert_string_equal(aws.key_id, MRK);
    assert_string_equal(aws.key.account, "111122223333");
}

/* ---- endpoints ------------------------------------------------------------------------------- */

static void the_endpoint_comes_from_the_first_that_has_one(void **state)
{
    (void)state;
    config("[default]\nservices = mine\nendpoint_url = https://of-profile.amazonaws.com\n"
           "[services mine]\nkms =\n  endpoint_url = https://of-services.amazonaws.com\n");
    reads();
    assert_string_equal(aws.kms.host, "of-services.amazonaws.com");
    assert_string_equal(aws.sts.host, "of-profile.amazonaws.com");
    set("AWS_ENDPOINT_URL", "https://of-all.amazonaws.com");
    reads();
    assert_string_equal(aws.kms.host, "of-all.amazonaws.com");
    assert_string_equal(aws.sts.host, "of-all.amazonaws.com");
    set("AWS_ENDPOINT_URL_KMS", "https://of-kms.amazonaws.com");
    set("AWS_ENDPOINT_URL_STS", "https://of-sts.amazonaws.com");
    reads();
    assert_string_equal(aws.kms.host, "of-kms.amazonaws.com");
    assert_string_equal(aws.sts.host, "of-sts.amazonaws.com");
    set("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true");
    reads();
    assert_string_equal(aws.kms.host, "kms.us-east-1.amazonaws.com");
    assert_string_equal(aws.region, "us-east-1");
}

static void an_endpoint_of_iam_beside_fips_is_no_error(void **state)
{
    (void)state;
    fresh();
    set("AWS_USE_FIPS_ENDPOINT", "true");
    set("AWS_ENDPOINT_URL_IAM", "https://iam.amazonaws.com");
    reads();
    assert_string_equal(aws.kms.host, "kms-fips.us-east-1.amazonaws.com");
    assert_non_null(strstr(aws.iam_why, "AWS_USE_FIPS_ENDPOINT"));
}

static void fips_and_dual_stack_are_set_or_in_the_profile(void **state)
{
    (void)state;
    set("AWS_USE_FIPS_ENDPOINT", "true");
    reads();
    assert_string_equal(aws.kms.host, "kms-fips.us-east-1.amazonaws.com");
    config("[default]\nuse_fips_endpoint = TRUE\nuse_dualstack_endpoint = true\n");
    set("AWS_USE_FIPS_ENDPOINT", "false");
    reads();
    assert_string_equal(aws.kms.host, "kms.us-east-1.api.aws");
    set("AWS_USE_FIPS_ENDPOINT", "");
    reads();
    assert_string_equal(aws.kms.host, "kms-fips.us-east-1.api.aws");
    set("AWS_ENDPOINT_URL", "http://localhost:1");
    fails("AWS_ENDPOINT_URL and AWS_USE_FIPS_ENDPOINT exclude each other");
}

static void I29_each_endpoint_names_where_it_comes_from(void **state)
{
    (void)state;
    set("AWS_ENDPOINT_URL", "http://169.254.169.254");
    fails("AWS_ENDPOINT_URL: ");
    set("AWS_ENDPOINT_URL", "");
    set("AWS_ENDPOINT_URL_STS", "https://evil.example");
    fails("AWS_ENDPOINT_URL_STS: evil.example is no host of this service");
    set("AWS_ENDPOINT_URL_STS", "https://of-sts.amazonaws.com");
    set("AWS_ENDPOINT_URL_IAM", "https://evil.example"); /* the doctor's alone: it is told there */
    reads();
    assert_string_equal(aws.iam.host, "");
    assert_non_null(strstr(aws.iam_why, "AWS_ENDPOINT_URL_IAM: evil.example is no host"));
    set("AWS_ENDPOINT_URL_STS", "https://evil.example");
    set("KMS_ALLOWED_ENDPOINTS", "evil.example");
    reads();
    fresh();
    config("[default]\nendpoint_url = ftp://x\n");
    fails("endpoint_url of the profile: ");
    set("AWS_REGION", "us");
    config("");
    reads();
    assert_string_equal(aws.kms.host, "kms.us.amazonaws.com");
}

/* ---- the order of the sources ---------------------------------------------------------------- */

/* All of them are there; the first ones are taken away, one after the other. */
static void R16_sources_are_asked_in_the_order_of_the_sdks(void **state)
{
    (void)state;
    set("AWS_ACCESS_KEY_ID", "AKENV");
    set("AWS_SECRET_ACCESS_KEY", "secret of env");
    set("AWS_SESSION_TOKEN", "token of env");
    set("AWS_WEB_IDENTITY_TOKEN_FILE", "/var/run/token");
    set("AWS_ROLE_ARN", "arn:aws:iam::1:role/web");
    write_file("credentials",
               "[default]\naws_access_key_id = AKFILE\naws_secret_access_key = secret of file\n",
               "AWS_SHARED_CREDENTIALS_FILE");
    set("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/v2/x");
    set("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://169.254.170.23/v1/y");
    reads();
    assert_int_equal(aws.plan.source, DK_AWS_STATIC);
    assert_string_equal(aws.plan.access_key_id, "AKENV");
    assert_string_equal(aws.plan.secret, "secret of env");
    assert_string_equal(aws.plan.session_token, "token of env");
    set("AWS_ACCESS_KEY_ID", ""); /* empty counts as not set */
    set("AWS_SECRET_ACCESS_KEY", "");
    reads();
    assert_int_equal(aws.plan.source, DK_AWS_WEB_IDENTITY);
    assert_string_equal(aws.plan.token_file, "/var/run/token");
    assert_string_equal(aws.plan.web_role.arn, "arn:aws:iam::1:role/web");
    assert_string_equal(aws.plan.web_role.session, "dekhand");
    assert_int_equal(aws.plan.web_role.seconds, 3600);
    set("AWS_WEB_IDENTITY_TOKEN_FILE", "");
    reads();
    assert_int_equal(aws.plan.source, DK_AWS_STATIC);
    assert_string_equal(aws.plan.access_key_id, "AKFILE");
    assert_null(aws.plan.session_token);
    set("AWS_SHARED_CREDENTIALS_FILE", "/dev/null");
    reads();
    assert_int_equal(aws.plan.source, DK_AWS_CONTAINER);
    assert_string_equal(aws.plan.metadata.host, "169.254.170.2");
    assert_string_equal(aws.plan.container_path, "/v2/x");
    set("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "");
    reads();
    assert_string_equal(aws.plan.metadata.host, "169.254.170.23");
    assert_string_equal(aws.plan.metadata.path, "/v1/y");
    assert_string_equal(aws.plan.container_path, "");
    set("AWS_CONTAINER_CREDENTIALS_FULL_URI", "");
    reads();
    assert_int_equal(aws.plan.source, DK_AWS_INSTANCE);
    assert_string_equal(aws.plan.metadata.host, "169.254.169.254");
    assert_false(aws.plan.metadata.tls);
    set("AWS_EC2_METADATA_DISABLED", "true");
    fails("AWS_ACCESS_KEY_ID is required");
    DK_TEST_SAYS(err, "AWS_EC2_METADATA_DISABLED");
}

static void F74_half_of_a_source_is_an_error(void **state)
{
    (void)state;
    static const struct {
        const char *name, *value, *name2, *value2;
        const char *config;
        const char *words;
    } cases[] = {
        {"AWS_ACCESS_KEY_ID", "AK", NULL, NULL, "", "AWS_SECRET_ACCESS_KEY is required"},
        {"AWS_SECRET_ACCESS_KEY", "hunter2", NULL, NULL, "", "AWS_ACCESS_KEY_ID is required"},
        {"AWS_WEB_IDENTITY_TOKEN_FILE", "/x", NULL, NULL, "", "AWS_ROLE_ARN is required"},
        {"AWS_WEB_IDENTITY_TOKEN_FILE", "/x", "AWS_ROLE_ARN", "hunter2", "",
         "AWS_ROLE_ARN or role_arn: it is no ARN"},
        {"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "v2/x", NULL, NULL, "",
         "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI: it is no path"},
        {"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/v2/x\r\nHost: y", NULL, NULL, "",
         "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI: it is no path"},
        {"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/@evil.example", NULL, NULL, "",
         "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI: it is no path"},
        {"AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://evil.example/x", NULL, NULL, "",
         "AWS_CONTAINER_CREDENTIALS_FULL_URI: evil.example"},
        {"AWS_CONTAINER_CREDENTIALS_FULL_URI", "https://kms.us-east-1.amazonaws.com", NULL, NULL,
         "", "AWS_CONTAINER_CREDENTIALS_FULL_URI: "},
        {"AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://10.0.0.1", NULL, NULL, "",
         "AWS_EC2_METADATA_SERVICE_ENDPOINT: 10.0.0.1"},
        {"AWS_PROFILE", "none", NULL, NULL, "[default]\n", "AWS_PROFILE: there is no profile none"},
        {"AWS_PROFILE", "p", NULL, NULL, "[profile p]\n", "the AWS profile p has no credentials"},
        {"AWS_PROFILE", "p", NULL, NULL, "[profile p]\nrole_arn = arn:x\n",
         "the AWS profile p has no credentials"},
        {NULL, NULL, NULL, NULL, "[default]\naws_access_key_id = AK\n", "no aws_secret_access_key"},
        {NULL, NULL, NULL, NULL, "[default]\nweb_identity_token_file = /x\n",
         "AWS_ROLE_ARN is required"},
        {NULL, NULL, NULL, NULL, "[default]\nrole_arn = x\nsource_profile = y\n", "no ARN"},
        {NULL, NULL, NULL, NULL, "[default]\nrole_arn = arn:x\nsource_profile = y\n",
         "source_profile: there is no profile y"},
        {NULL, NULL, NULL, NULL,
         "[default]\nrole_arn = arn:x\nsource_profile = y\n[profile y]\nregion = z\n",
         "the AWS profile y has no credentials"},
        {NULL, NULL, NULL, NULL, "[default]\nrole_arn = arn:x\ncredential_source = environment\n",
         "credential_source: it is neither"},
        {NULL, NULL, NULL, NULL, "[default]\nrole_arn = arn:x\ncredential_source = Environment\n",
         "AWS_ACCESS_KEY_ID is required"},
        {NULL, NULL, NULL, NULL, "[default]\nrole_arn = arn:x\ncredential_source = EcsContainer\n",
         "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI is required"},
        {"AWS_EC2_METADATA_DISABLED", "true", NULL, NULL,
         "[default]\nrole_arn = arn:x\ncredential_source = Ec2InstanceMetadata\n",
         "AWS_EC2_METADATA_DISABLED"},
        {"AWS_CONFIG_FILE", "/nowhere/config", NULL, NULL, NULL, "AWS_CONFIG_FILE: "},
        {"AWS_SHARED_CREDENTIALS_FILE", "/nowhere", NULL, NULL, "",
         "AWS_SHARED_CREDENTIALS_FILE: "},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        fresh();
        if (cases[i].config != NULL) {
            config(cases[i].config);
        }
        if (cases[i].name != NULL) {
            set(cases[i].name, cases[i].value);
        }
        if (cases[i].name2 != NULL) {
            set(cases[i].name2, cases[i].value2);
        }
        fails(cases[i].words);
    }
}

/* ---- profiles -------------------------------------------------------------------------------- */

static void a_profile_leads_from_role_to_role(void **state)
{
    (void)state;
    config("[profile top]\nrole_arn = arn:1\nsource_profile = middle\nexternal_id = e\n"
           "role_session_name = s\nduration_seconds = 900\n"
           "[profile middle]\nrole_arn = arn:2\nsource_profile = base\nduration_seconds = 99999\n"
           "[profile base]\ncredential_process = /bin/printer 'a b'\n");
    set("AWS_PROFILE", "top");
    reads();
    assert_int_equal(aws.plan.source, DK_AWS_PROCESS);
    assert_string_equal(aws.plan.command, "/bin/printer 'a b'");
    assert_int_equal(aws.plan.role_count, 2);
    assert_string_equal(aws.plan.roles[0].arn, "arn:1");
    assert_string_equal(aws.plan.roles[0].external_id, "e");
    assert_string_equal(aws.plan.roles[0].session, "s");
    assert_int_equal(aws.plan.roles[0].seconds, 900);
    assert_string_equal(aws.plan.roles[1].arn, "arn:2");
    assert_null(aws.plan.roles[1].external_id);
    assert_string_equal(aws.plan.roles[1].session, "dekhand");
    assert_int_equal(aws.plan.roles[1].seconds, 3600);
}

static void a_role_may_have_its_source_named(void **state)
{
    (void)state;
    static const struct {
        const char *source;
        enum dk_aws_source found;
    } cases[] = {{"Environment", DK_AWS_STATIC},
                 {"EcsContainer", DK_AWS_CONTAINER},
                 {"Ec2InstanceMetadata", DK_AWS_INSTANCE}};
    for (size_t i = 0; i < 3; i++) {
        char text[256];
        fresh();
        set("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/x");
        snprintf(text, sizeof text,
                 "[profile p]\nrole_arn = arn:1\nsource_profile = q\n"
                 "[profile q]\nrole_arn = arn:2\ncredential_source = %s\n",
                 cases[i].source);
        config(text);
        set("AWS_PROFILE", "p");
        if (i == 0) {
            fails("AWS_ACCESS_KEY_ID is required"); /* for the environment has none */
            continue;
        }
        reads();
        assert_int_equal(aws.plan.source, cases[i].found);
        assert_int_equal(aws.plan.role_count, 2);
    }
}

static void F74_a_circle_of_profiles_is_an_error(void **state)
{
    (void)state;
    config("[default]\nrole_arn = arn:1\nsource_profile = default\n");
    fails("or a circle");
    config("[default]\nrole_arn = arn:1\nsource_profile = a\n"
           "[profile a]\nrole_arn = arn:2\nsource_profile = b\n"
           "[profile b]\nrole_arn = arn:3\nsource_profile = a\n");
    fails("or a circle");
    config("[default]\nrole_arn = arn:1\nsource_profile = default\n" /* its own keys */
           "aws_access_key_id = AK\naws_secret_access_key = s\n");
    reads();
    assert_int_equal(aws.plan.role_count, 1);
    assert_string_equal(aws.plan.access_key_id, "AK");
    char text[1024];
    size_t n = (size_t)snprintf(text, sizeof text, "[profile p%d]\n", DK_AWS_ROLES);
    n += (size_t)snprintf(text + n, sizeof text - n,
                          "aws_access_key_id = AK\naws_secret_access_key = s\n");
    for (int i = DK_AWS_ROLES - 1; i >= 0; i--) {
        n += (size_t)snprintf(text + n, sizeof text - n,
                              "[profile p%d]\nrole_arn = arn:%d\nsource_profile = p%d\n", i, i,
                              i + 1);
    }
    config(text);
    set("AWS_PROFILE", "p0");
    reads();
    assert_int_equal(aws.plan.role_count, DK_AWS_ROLES);
}

static void a_profile_may_have_a_web_identity(void **state)
{
    (void)state;
    config("[profile p]\nrole_arn = arn:1\nweb_identity_token_file = /t\nrole_session_name = s\n");
    set("AWS_PROFILE", "p");
    reads();
    assert_int_equal(aws.plan.source, DK_AWS_WEB_IDENTITY);
    assert_string_equal(aws.plan.token_file, "/t");
    assert_string_equal(aws.plan.web_role.arn, "arn:1");
    assert_string_equal(aws.plan.web_role.session, "s");
    assert_int_equal(aws.plan.role_count, 0);
}

/* ---- the files at home ----------------------------------------------------------------------- */

static int look_at_home(void *arg)
{
    (void)arg;
    DK_TEST_CHILD(setenv("HOME", folder, 1) == 0);
    set("AWS_CONFIG_FILE", "");
    set("AWS_SHARED_CREDENTIALS_FILE", "");
    DK_TEST_CHILD(read_setup() == DK_OK && aws.plan.source == DK_AWS_INSTANCE);
    char path[128];
    snprintf(path, sizeof path, "%s/.aws", folder);
    DK_TEST_CHILD(mkdir(path, 0700) == 0);
    write_file(".aws/credentials", "[default]\naws_access_key_id = AK\naws_secret_access_key = s\n",
               NULL);
    write_file(".aws/config", "[default]\nuse_fips_endpoint = true\n", NULL);
    DK_TEST_CHILD(read_setup() == DK_OK && aws.plan.source == DK_AWS_STATIC);
    DK_TEST_CHILD(strcmp(aws.kms.host, "kms-fips.us-east-1.amazonaws.com") == 0);
    dk_aws_setup_clear(&aws);
    DK_TEST_CHILD(setenv("HOME", "relative", 1) == 0); /* a home that is none */
    DK_TEST_CHILD(read_setup() == DK_OK && aws.plan.source == DK_AWS_INSTANCE);
    DK_TEST_CHILD(unsetenv("HOME") == 0);
    DK_TEST_CHILD(read_setup() == DK_OK && aws.plan.source == DK_AWS_INSTANCE);
    return 0;
}

static void the_files_are_looked_for_at_home(void **state)
{
    (void)state;
    assert_true(dk_test_in_child(false, look_at_home, NULL));
}

static void a_file_that_is_too_long_is_named(void **state)
{
    (void)state;
    size_t n = 256 * 1024 + 1;
    char *text = malloc(n + 1);
    assert_non_null(text);
    memset(text, '#', n);
    text[n] = '\0';
    config(text);
    free(text);
    fails("AWS_CONFIG_FILE: ");
}

static void nothing_is_left_when_an_allocation_fails(void **state)
{
    (void)state;
    config("[profile top]\nrole_arn = arn:1\nsource_profile = base\nexternal_id = e\n"
           "[profile base]\naws_access_key_id = AK\naws_secret_access_key = s\n"
           "aws_session_token = t\n");
    set("AWS_PROFILE", "top");
    bool done = false;
    for (unsigned n = 1; !done && n < 60; n++) {
        w.fail_alloc_at = w.allocs + n;
        done = read_setup() == DK_OK;
        if (!done && err.rc != DK_E_NOMEM) {
            fail_msg("allocation %u: %d %s", n, (int)err.rc, err.text);
        }
        assert_true(done || w.live == 0);
    }
    assert_true(done);
    w.fail_alloc_at = 0;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(F74_the_key_is_required_and_is_one),
        TEST(the_region_comes_from_the_first_that_has_one),
        TEST(a_key_of_another_region_is_an_error),
        TEST(the_endpoint_comes_from_the_first_that_has_one),
        TEST(an_endpoint_of_iam_beside_fips_is_no_error),
        TEST(fips_and_dual_stack_are_set_or_in_the_profile),
        TEST(I29_each_endpoint_names_where_it_comes_from),
        TEST(R16_sources_are_asked_in_the_order_of_the_sdks),
        TEST(F74_half_of_a_source_is_an_error),
        TEST(a_profile_leads_from_role_to_role),
        TEST(a_role_may_have_its_source_named),
        TEST(F74_a_circle_of_profiles_is_an_error),
        TEST(a_profile_may_have_a_web_identity),
        TEST(the_files_are_looked_for_at_home),
        TEST(a_file_that_is_too_long_is_named),
        TEST(nothing_is_left_when_an_allocation_fails),
    };
    return cmocka_run_group_tests_name("aws_setup", tests, NULL, NULL);
}
