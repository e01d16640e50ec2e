#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

/* Regions, keys and endpoints of AWS, some of them against botocore's own table. */
#include <stdlib.h>

#include "provider/aws_place.h"
#include "support/expect.h"

#define UUID "1234abcd-12ab-34cd-56ef-1234567890ab"
#define MRK "mrk-1234abcd12ab34cd56ef1234567890ab"

static struct dk_err err;

/* ---- against botocore (tests/aws_places.py) -------------------------------------------------- */

static void check_region(const char *region, const char *partition, const char *suffix)
{
    const struct dk_aws_partition *ours = dk_aws_partition_of(region);
    if (strcmp(ours->name, partition) != 0 || strcmp(ours->suffix, suffix) != 0) {
        fail_msg("%s: %s %s", region, ours->name, ours->suffix);
    }
    assert_true(dk_aws_is_region(region));
}

static void check_endpoint(const char *name, const char *region, bool fips, bool dual,
                           const char *url)
{
    struct dk_endpoint to;
    const struct dk_aws_service service = {
        .name = name, .region = region, .fips = fips, .dual_stack = dual};
    DK_TEST_OK(err, dk_aws_endpoint(&service, &to, &err));
    assert_memory_equal(url, "https://", 8);
    if (strcmp(to.authority, url + 8) != 0) {
        fail_msg("%s in %s%s%s: %s", name, region, fips ? ", FIPS" : "", dual ? ", dual-stack" : "",
                 to.authority);
    }
    assert_true(to.tls && to.port == 443 && !to.loopback);
    assert_string_equal(to.path, "");
}

static void regions_and_endpoints_are_botocores(void **state)
{
    (void)state;
    FILE *file = fopen("tests/vectors/aws_places.txt", "re"); /* tests run in the root */
    char line[256], word[5][96];
    int regions = 0, endpoints = 0, signings = 0;
    assert_non_null(file);
    while (fgets(line, sizeof line, file) != NULL) {
        if (sscanf(line, "region %95s %95s %95s", word[0], word[1], word[2]) == 3) {
            check_region(word[0], word[1], word[2]);
            regions++;
        } else if (sscanf(line, "endpoint %95s %95s %95s %95s %95s", word[0], word[1], word[2],
                          word[3], word[4]) == 5) {
            check_endpoint(word[0], word[1], strcmp(word[2], "fips") == 0,
                           strcmp(word[3], "dual") == 0, word[4]);
            endpoints++;
        } else if (sscanf(line, "signing iam %95s %95s", word[0], word[1]) == 2) {
            assert_string_equal(dk_aws_iam_region(word[0]), word[1]);
            signings++;
        } else {
            assert_int_equal(line[0], '#');
        }
    }
    fclose(file);
    assert_true(regions >= 45);
    assert_int_equal(endpoints, 3 * 8 * 4);
    assert_int_equal(signings, regions);
}

static void each_partition_is_found_by_its_prefix(void **state)
{
    (void)state;
    size_t n = 0;
    for (const struct dk_aws_partition *p; (p = dk_aws_partition_at(n)) != NULL; n++) {
        char region[64];
        snprintf(region, sizeof region, "%sx-1", p->prefix);
        assert_ptr_equal(dk_aws_partition_of(region), p);
    }
    assert_int_equal(n, 8);
    assert_string_equal(dk_aws_partition_of("zz-new-9")->name, "aws"); /* of tomorrow */
}

/* ---- regions --------------------------------------------------------------------------------- */

static void I29_a_region_is_a_part_of_a_host_name(void **state)
{
    (void)state;
    static const char *const good[] = {"us-east-1", "eusc-de-east-1", "local", "a1",
                                       "abcdefghijklmnopqrstuvwxyz012345"};
    static const char *const bad[] = {"",
                                      "a",
                                      "-a",
                                      "a-",
                                      "US-EAST-1",
                                      "us east 1",
                                      "us_east_1",
                                      "us-east-1.evil.example/",
                                      "us-east-1.",
                                      "us-east-1#",
                                      "us-east-1@x",
                                      "us-east-1\n",
                                      "us-\xC3\xA9",
                                      "abcdefghijklmnopqrstuvwxyz0123456"};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        assert_true(dk_aws_is_region(good[i]));
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_false(dk_aws_is_region(bad[i]));
    }
}

/* ---- keys ------------------------------------------------------------------------------------ */

static void each_form_of_a_key_is_read(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        enum dk_aws_key_form form;
        const char *partition, *region, *account, *id;
        bool multi;
    } cases[] = {
        {UUID, DK_AWS_KEY_ID, "", "", "", UUID, false},
        {MRK, DK_AWS_KEY_ID, "", "", "", MRK, true},
        {"1234ABCD-12AB-34CD-56EF-1234567890AB", DK_AWS_KEY_ID, "", "", "",
         "1234ABCD-12AB-34CD-56EF-1234567890AB", false},
        {"alias/dekhand", DK_AWS_KEY_ALIAS, "", "", "", "alias/dekhand", false},
        {"alias/aws/s3", DK_AWS_KEY_ALIAS, "", "", "", "alias/aws/s3", false},
        {"alias/a:b_c-D/9", DK_AWS_KEY_ALIAS, "", "", "", "alias/a:b_c-D/9", false},
        {"arn:aws:kms:us-east-1:111122223333:key/" UUID, DK_AWS_KEY_ARN, "aws", "us-east-1",
         "111122223333", UUID, false},
        {"arn:aws-us-gov:kms:us-gov-west-1:111122223333:key/" MRK, DK_AWS_KEY_ARN, "aws-us-gov",
         "us-gov-west-1", "111122223333", MRK, true},
        {"arn:aws-cn:kms:cn-north-1:000000000000:alias/x", DK_AWS_ALIAS_ARN, "aws-cn", "cn-north-1",
         "000000000000", "alias/x", false},
        {"arn:aws:kms:us-east-1:111122223333:alias/a:b", DK_AWS_ALIAS_ARN, "aws", "us-east-1",
         "111122223333", "alias/a:b", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct dk_aws_key key;
        memset(&key, 0x5A, sizeof key);
        if (!dk_aws_key_parse(cases[i].text, &key)) {
            fail_msg("%s", cases[i].text);
        }
        assert_int_equal(key.form, cases[i].form);
        assert_string_equal(key.partition, cases[i].partition);
        assert_string_equal(key.region, cases[i].region);
        assert_string_equal(key.account, cases[i].account);
        assert_string_equal(key.id, cases[i].id);
        assert_int_equal(dk_aws_key_is_multi_region(&key), cases[i].multi);
    }
}

static void what_is_no_key_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        " ",
        "key/" UUID,
        "1234abcd",
        UUID "0",
        UUID "\n",
        "1234abcd-12ab-34cd-56ef-1234567890a",
        "1234abcd-12ab-34cd-56ef-1234567890ag",
        "1234abcd12ab-34cd-56ef-1234567890ab-",
        "1234abcd-12ab-34cd-56ef_1234567890ab",
        "mrk-",
        "mrk-" UUID,
        "mrk-1234abcd12ab34cd56ef1234567890a",
        MRK "0",
        "mrk-1234abcd12ab34cd56ef1234567890ag",
        "MRK-1234abcd12ab34cd56ef1234567890ab",
        "alias/",
        "alias",
        "Alias/x",
        "alias/a b",
        "alias/\xC3\xA9",
        "alias/x\n",
        "alias/x?",
        "alias/%41",
        "arn:",
        "arn:aws",
        "arn:aws:kms",
        "arn:aws:kms:us-east-1:111122223333",
        "arn:aws:kms:us-east-1:111122223333:",
        "arn:aws:kms:us-east-1:111122223333:" UUID,
        "arn:aws:kms:us-east-1:111122223333:key/",
        "arn:aws:kms:us-east-1:111122223333:key/alias/x",
        "arn:aws:kms:us-east-1:111122223333:key/" UUID "/x",
        "arn:aws:kms:us-east-1:111122223333:alias/",
        "arn:aws:kms:us-east-1:111122223333:x/" UUID,
        "arn:aws:s3:us-east-1:111122223333:key/" UUID,
        "arn:aws:kms::111122223333:key/" UUID,
        "arn:aws:kms:us-east-1::key/" UUID,
        "arn::kms:us-east-1:111122223333:key/" UUID,
        "arn:aws:kms:us-east-1:11112222333:key/" UUID,
        "arn:aws:kms:us-east-1:1111222233334:key/" UUID,
        "arn:aws:kms:us-east-1:11112222333x:key/" UUID,
        "arn:AWS:kms:us-east-1:111122223333:key/" UUID,
        "arn:aws:kms:US-EAST-1:111122223333:key/" UUID,
        "arn:aws:kms:us-east-1.evil.example:111122223333:key/" UUID,
        "arn:aws:kmsx:us-east-1:111122223333:key/" UUID,
        "arn:a-partition-longer-than-any:kms:us-east-1:111122223333:key/" UUID,
        "arn:aws:kms:a-region-with-a-name-that-is-longer-than-any:111122223333:key/" UUID,
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct dk_aws_key key;
        if (dk_aws_key_parse(bad[i], &key)) {
            fail_msg("taken: %s", bad[i]);
        }
    }
}

static void an_alias_has_at_most_256_characters(void **state)
{
    (void)state;
    static const char *const begins[] = {"", "arn:aws:kms:us-east-1:111122223333:"};
    for (size_t i = 0; i < 2; i++) {
        char text[400];
        struct dk_aws_key key;
        size_t n = (size_t)snprintf(text, sizeof text, "%salias/", begins[i]);
        memset(text + n, 'a', 251);
        text[n + 250] = '\0';
        assert_true(dk_aws_key_parse(text, &key));
        assert_int_equal(strlen(key.id), 256);
        text[n + 250] = 'a';
        text[n + 251] = '\0';
        assert_false(dk_aws_key_parse(text, &key));
    }
}

/* ---- endpoints of one's own ------------------------------------------------------------------ */

static void I29_an_endpoint_of_ones_own_is_judged(void **state)
{
    (void)state;
    struct dk_aws_service service = {
        .name = "kms", .region = "us-east-1", .setting = "AWS_ENDPOINT_URL_KMS"};
    struct dk_endpoint to;
    static const char *const good[] = {
        "https://vpce-1-2.kms.us-east-1.vpce.amazonaws.com",
        "https://kms.us-east-1.api.aws",
        "https://kms.cn-north-1.amazonaws.com.cn",
        "https://kms.eusc-de-east-1.amazonaws.eu",
        "http://localhost:4566",
        "https://127.0.0.1:1",
    };
    static const char *const bad[] = {
        "http://kms.us-east-1.amazonaws.com",
        "https://evilamazonaws.com",
        "https://api.aws",
        "https://kms.amazonaws.com.evil",
        "https://169.254.169.254",
        "https://kms.example.org",
    };
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        service.url = good[i];
        DK_TEST_OK(err, dk_aws_endpoint(&service, &to, &err));
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        service.url = bad[i];
        DK_TEST_FAILS(err, CONFIG, dk_aws_endpoint(&service, &to, &err));
        DK_TEST_SAYS(err, "AWS_ENDPOINT_URL_KMS");
    }
    service.url = "https://kms.example.org";
    service.allowed = "kms.example.org";
    DK_TEST_OK(err, dk_aws_endpoint(&service, &to, &err));
}

/* The signature is one over the path `/`: another one would never be right. */
static void an_endpoint_with_a_path_is_refused(void **state)
{
    (void)state;
    struct dk_aws_service service = {.name = "kms",
                                     .region = "us-east-1",
                                     .url = "http://localhost:4566/kms",
                                     .setting = "AWS_ENDPOINT_URL"};
    struct dk_endpoint to;
    DK_TEST_FAILS(err, CONFIG, dk_aws_endpoint(&service, &to, &err));
    DK_TEST_SAYS(err, "AWS_ENDPOINT_URL");
    DK_TEST_SAYS(err, "path");
    service.url = "http://localhost:4566/";
    DK_TEST_OK(err, dk_aws_endpoint(&service, &to, &err));
}

static void an_endpoint_of_ones_own_excludes_fips_and_dual_stack(void **state)
{
    (void)state;
    struct dk_aws_service service = {.name = "kms",
                                     .region = "us-east-1",
                                     .url = "https://kms.us-east-1.amazonaws.com",
                                     .setting = "AWS_ENDPOINT_URL"};
    struct dk_endpoint to;
    service.fips = true;
    DK_TEST_FAILS(err, CONFIG, dk_aws_endpoint(&service, &to, &err));
    DK_TEST_SAYS(err, "AWS_ENDPOINT_URL and AWS_USE_FIPS_ENDPOINT");
    service.fips = false;
    service.dual_stack = true;
    DK_TEST_FAILS(err, CONFIG, dk_aws_endpoint(&service, &to, &err));
    DK_TEST_SAYS(err, "AWS_USE_DUALSTACK_ENDPOINT");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(regions_and_endpoints_are_botocores),
        cmocka_unit_test(each_partition_is_found_by_its_prefix),
        cmocka_unit_test(I29_a_region_is_a_part_of_a_host_name),
        cmocka_unit_test(each_form_of_a_key_is_read),
        cmocka_unit_test(what_is_no_key_is_refused),
        cmocka_unit_test(an_alias_has_at_most_256_characters),
        cmocka_unit_test(I29_an_endpoint_of_ones_own_is_judged),
        cmocka_unit_test(an_endpoint_with_a_path_is_refused),
        cmocka_unit_test(an_endpoint_of_ones_own_excludes_fips_and_dual_stack),
    };
    return cmocka_run_group_tests_name("aws_place", tests, NULL, NULL);
}
