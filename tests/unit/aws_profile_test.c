#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

/* The files ~/.aws/config and ~/.aws/credentials. */
#include <stdlib.h>

#include "provider/aws_profile.h"
#include "support/expect.h"

static struct dk_err err;
static struct dk_test_world w;
static struct dk_aws_profile profile;

static int begin(void **state)
{
    (void)state;
    dk_test_world_init(&w);
    dk_aws_profile_init(&profile, &w.world.mem);
    return 0;
}

static int end(void **state)
{
    (void)state;
    dk_aws_profile_clear(&profile);
    assert_int_equal(w.live, 0);
    return 0;
}

/* In memory of exactly its size: a sanitizer sees each byte too far. */
static void read_as(const char *text, bool config, const char *name)
{
    size_t n = strlen(text);
    char *exact = malloc(n + (n == 0));
    assert_non_null(exact);
    memcpy(exact, text, n);
    DK_TEST_OK(err, dk_aws_profile_read(&profile, dk_view_of(exact, n), config, name, &err));
    free(exact);
}

static const char *one(const char *text, bool config, const char *name, enum dk_aws_member member)
{
    dk_aws_profile_clear(&profile);
    read_as(text, config, name);
    return profile.member[member];
}

static void is(const char *value, const char *expected)
{
    if ((value == NULL) != (expected == NULL) || (value != NULL && strcmp(value, expected) != 0)) {
        fail_msg("\"%s\", not \"%s\"", value != NULL ? value : "(none)",
                 expected != NULL ? expected : "(none)");
    }
}

static void each_member_has_its_name(void **state)
{
    (void)state;
    static const char *const names[] = {"aws_access_key_id",  "aws_secret_access_key",
                                        "aws_session_token",  "role_arn",
                                        "source_profile",     "credential_source",
                                        "external_id",        "role_session_name",
                                        "duration_seconds",   "web_identity_token_file",
                                        "credential_process", "region",
                                        "endpoint_url",       "services",
                                        "use_fips_endpoint",  "use_dualstack_endpoint"};
    assert_int_equal(sizeof names / sizeof names[0], DK_AWS_P_MEMBERS);
    for (size_t i = 0; i < DK_AWS_P_MEMBERS; i++) {
        char text[128];
        snprintf(text, sizeof text, "[x]\n%s = value %zu\n", names[i], i);
        dk_aws_profile_clear(&profile);
        read_as(text, false, "x");
        assert_true(profile.found);
        for (size_t k = 0; k < DK_AWS_P_MEMBERS; k++) {
            assert_int_equal(profile.member[k] != NULL, k == i);
        }
        assert_memory_equal(profile.member[i], "value ", 6);
    }
}

/* Sections of config have the word `profile` before their name, those of credentials have not. */
static void sections_are_told_apart(void **state)
{
    (void)state;
    static const struct {
        const char *section;
        const char *name;
        bool in_config, in_credentials;
    } cases[] = {
        {"[x]", "x", false, true},
        {"[profile x]", "x", true, false},
        {"[ profile\t x ]", "x", true, false},
        {"[ x ]", "x", false, true},
        {"[default]", "default", true, true},
        {"[profile default]", "default", true, false},
        {"[profilex]", "x", false, false},
        {"[profile]", "profile", false, true},
        {"[X]", "x", false, false},
        {"[xy]", "x", false, false},
        {"[x", "x", false, false},
        {"x]", "x", false, false},
        {"[]", "x", false, false},
        {"[profile x] # comment", "x", true, false},
        {"[profile \"two words\"]", "two words", true, false},
        {"[profile 'two words']", "two words", true, false},
        {"[profile two words]", "two words", true, false},
        {"[profile \"x]", "x", false, false},
        {"[sso-session x]", "x", false, false},
        {"[services x]", "x", false, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[128];
        snprintf(text, sizeof text, "region = none\n%s\nregion = here\n", cases[i].section);
        const char *value = one(text, true, cases[i].name, DK_AWS_P_REGION);
        if ((value != NULL) != cases[i].in_config) {
            fail_msg("%s in config", cases[i].section);
        }
        is(value, cases[i].in_config ? "here" : NULL);
        assert_int_equal(profile.found, cases[i].in_config);
        is(one(text, false, cases[i].name, DK_AWS_P_REGION),
           cases[i].in_credentials ? "here" : NULL);
    }
}

static void values_are_what_stands_behind_the_first_sign(void **state)
{
    (void)state;
    static const struct {
        const char *line;
        const char *value;
    } cases[] = {
        {"region=us-east-1", "us-east-1"},
        {"region \t=\t us-east-1 \t\r", "us-east-1"},
        {"region = a=b==", "a=b=="},
        {"REGION = us-east-1", "us-east-1"},
        {"Region = us-east-1", "us-east-1"},
        {"region = two words", "two words"},
        {"region = x # comment", "x"},
        {"region = x ; comment", "x"},
        {"region = x#y;z", "x#y;z"},
        {"region = x #", "x"},
        {"region =# comment", "# comment"},
        {"region = # comment", NULL},
        {"region =", NULL},
        {"region = \t", NULL},
        {"region", NULL},
        {"# region = x", NULL},
        {"; region = x", NULL},
        {" # region = x", NULL},
        {"regions = x", NULL},
        {"my region = x", NULL},
        {"= x", NULL},
        {"  region = indented", "indented"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[128];
        static const char *const ends[] = {"", "\n", "\r\n", "\n\n[other]\nregion = other\n"};
        for (size_t k = 0; k < 4; k++) {
            snprintf(text, sizeof text, "[default]\n%s%s", cases[i].line, ends[k]);
            is(one(text, true, "default", DK_AWS_P_REGION), cases[i].value);
        }
    }
}

/* What is indented below a name without a value is that name's. */
static void nested_settings_are_not_the_profiles(void **state)
{
    (void)state;
    static const char text[] = "[default]\ns3 =\n  region = nested\n  endpoint_url = https://s3\n"
                               "aws_access_key_id = AK\n";
    is(one(text, true, "default", DK_AWS_P_REGION), NULL);
    is(profile.member[DK_AWS_P_ENDPOINT_URL], NULL);
    is(profile.member[DK_AWS_P_ACCESS_KEY_ID], "AK");
}

static void what_was_read_first_stays(void **state)
{
    (void)state;
    read_as("[x]\nregion = first\nregion = second\n[y]\nregion = third\n[x]\nregion = fourth\n"
            "role_arn = later\n",
            false, "x");
    read_as("[profile x]\nregion = fifth\nexternal_id = config\n", true, "x");
    is(profile.member[DK_AWS_P_REGION], "first");
    is(profile.member[DK_AWS_P_ROLE_ARN], "later");
    is(profile.member[DK_AWS_P_EXTERNAL_ID], "config");
}

static void a_file_with_a_zero_byte_is_refused(void **state)
{
    (void)state;
    static const char text[] = "[x]\nregion = a\0b\n";
    DK_TEST_FAILS(
        err, CONFIG,
        dk_aws_profile_read(&profile, dk_view_of(text, sizeof text - 1), false, "x", &err));
    char out[64];
    static const char services[] = "[services s]\nkms =\n  endpoint_url = https://a\0b\n";
    DK_TEST_FAILS(err, CONFIG,
                  dk_aws_services_read(dk_view_of(services, sizeof services - 1), "s", "kms", out,
                                       sizeof out, &err));
    DK_TEST_OK(err, dk_aws_profile_read(&profile, (struct dk_view){NULL, 0}, true, "x", &err));
    assert_false(profile.found);
}

static void without_memory_it_says_so(void **state)
{
    (void)state;
    static const char text[] = "[x]\nregion = a\nrole_arn = b\n";
    w.fail_alloc_at = w.allocs + 2;
    DK_TEST_FAILS(err, NOMEM, dk_aws_profile_read(&profile, dk_view_str(text), false, "x", &err));
}

/* ---- services -------------------------------------------------------------------------------- */

static void an_endpoint_of_a_service_is_found(void **state)
{
    (void)state;
    static const char text[] =
        "[profile x]\nservices = mine\n"
        "[services mine]\ns3 =\n  endpoint_url = https://s3\n"
        "kms =\n  max_attempts = 3\n  endpoint_url = https://kms # ours\n"
        "sts = \n\tendpoint_url=http://localhost:1\nendpoint_url = https://none\n"
        "[services other]\nkms =\n  endpoint_url = https://other\n";
    static const struct {
        const char *name, *service, *url;
    } cases[] = {
        {"mine", "kms", "https://kms"},
        {"mine", "sts", "http://localhost:1"},
        {"mine", "s3", "https://s3"},
        {"other", "kms", "https://other"},
        {"other", "sts", ""},
        {"none", "kms", ""},
        {"mine", "km", ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char out[64] = "before";
        DK_TEST_OK(err, dk_aws_services_read(dk_view_str(text), cases[i].name, cases[i].service,
                                             out, sizeof out, &err));
        assert_string_equal(out, cases[i].url);
    }
    char few[12];
    DK_TEST_OK(err, dk_aws_services_read(dk_view_str(text), "mine", "kms", few, sizeof few, &err));
    char fewer[11];
    DK_TEST_FAILS(
        err, CONFIG,
        dk_aws_services_read(dk_view_str(text), "mine", "kms", fewer, sizeof fewer, &err));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(each_member_has_its_name),
        TEST(sections_are_told_apart),
        TEST(values_are_what_stands_behind_the_first_sign),
        TEST(nested_settings_are_not_the_profiles),
        TEST(what_was_read_first_stays),
        TEST(a_file_with_a_zero_byte_is_refused),
        TEST(without_memory_it_says_so),
        TEST(an_endpoint_of_a_service_is_found),
    };
    return cmocka_run_group_tests_name("aws_profile", tests, NULL, NULL);
}
