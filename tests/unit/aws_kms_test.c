#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

/* The messages of AWS KMS, row by row. */
#include <stdlib.h>

#include "net/json_in.h"
#include "provider/aws_kms.h"
#include "support/expect.h"

#define ARN "arn:aws:kms:us-east-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
#define NOW "2026-01-01T00:00:00.000000Z"

static struct dk_err err;
static uint8_t cell[DK_SECRET_CELL];
static const struct dk_wrap_context context = {{(const uint8_t *)"acme", 4}, "DataEncryption", NOW};

/* ---- requests -------------------------------------------------------------------------------- */

#define CONTEXT "{\"TenantId\":\"acme\",\"Purpose\":\"DataEncryption\",\"Timestamp\":\"" NOW "\"}"

static void each_operation_asks_with_the_members_it_has(void **state)
{
    (void)state;
    for (size_t i = 0; i < 32; i++) {
        cell[i] = (uint8_t)i;
    }
    const struct dk_secret key = {cell, 32};
    const struct {
        struct dk_kms_ask ask;
        const char *target;
        const char *body;
    } cases[] = {
        {{.op = DK_KMS_GENERATE, .key_id = "alias/dekhand", .context = &context},
         "TrentService.GenerateDataKey",
         "{\"KeyId\":\"alias/dekhand\",\"KeySpec\":\"AES_256\",\"EncryptionContext\":" CONTEXT "}"},
        {{.op = DK_KMS_ENCRYPT, .key_id = ARN, .context = &context, .plaintext = &key},
         "TrentService.Encrypt",
         "{\"KeyId\":\"" ARN "\","
         "\"Plaintext\":\"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\","
         "\"EncryptionContext\":" CONTEXT "}"},
        {{.op = DK_KMS_DECRYPT, .key_id = ARN, .context = &context, .blob = "QkxPQg=="},
         "TrentService.Decrypt",
         "{\"KeyId\":\"" ARN "\",\"CiphertextBlob\":\"QkxPQg==\",\"EncryptionContext\":" CONTEXT
         "}"},
        {{.op = DK_KMS_REENCRYPT,
          .key_id = ARN,
          .context = &context,
          .blob = "QkxPQg==",
          .destination = "alias/new"},
         "TrentService.ReEncrypt",
         "{\"SourceKeyId\":\"" ARN "\",\"DestinationKeyId\":\"alias/new\","
         "\"CiphertextBlob\":\"QkxPQg==\",\"SourceEncryptionContext\":" CONTEXT
         ",\"DestinationEncryptionContext\":" CONTEXT "}"},
        {{.op = DK_KMS_DESCRIBE, .key_id = "alias/dekhand"},
         "TrentService.DescribeKey",
         "{\"KeyId\":\"alias/dekhand\"}"},
        {{.op = DK_KMS_ROTATION, .key_id = ARN},
         "TrentService.GetKeyRotationStatus",
         "{\"KeyId\":\"" ARN "\"}"},
        {{.op = DK_KMS_ALIASES, .key_id = ARN},
         "TrentService.ListAliases",
         "{\"KeyId\":\"" ARN "\"}"},
    };
    assert_int_equal(sizeof cases / sizeof cases[0], DK_KMS_OPS);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct dk_http_request request;
        dk_http_request_init(&request, &dk_mem_default);
        DK_TEST_OK(err, dk_kms_build(&cases[i].ask, &request, &err));
        assert_string_equal(request.method, "POST");
        assert_string_equal(request.path, "/");
        const char *line = dk_http_next_line(&request, NULL);
        assert_string_equal(line, "Content-Type: application/x-amz-json-1.1");
        line = dk_http_next_line(&request, line);
        assert_memory_equal(line, "X-Amz-Target: ", 14);
        assert_string_equal(line + 14, cases[i].target);
        assert_string_equal(strchr(cases[i].target, '.') + 1, dk_kms_op_name(cases[i].ask.op));
        assert_null(dk_http_next_line(&request, line));
        assert_int_equal(request.body.n, strlen(cases[i].body));
        assert_memory_equal(request.body.p, cases[i].body, request.body.n);
        dk_http_request_clear(&request);
    }
}

/* A name is data, whatever stands in it. */
static void a_tenants_name_stays_in_its_string(void **state)
{
    (void)state;
    static const char name[] = "a\",\"Purpose\":\"x\\\r\n\xC3\xA9";
    const struct dk_wrap_context odd = {dk_view_str(name), "DataEncryption", NOW};
    const struct dk_kms_ask ask = {.op = DK_KMS_GENERATE, .key_id = "alias/\"k", .context = &odd};
    struct dk_http_request request;
    json_t *json = NULL;
    dk_http_request_init(&request, &dk_mem_default);
    DK_TEST_OK(err, dk_kms_build(&ask, &request, &err));
    DK_TEST_OK(err, dk_json_in_parse(dk_view_of(request.body.p, request.body.n), &json, &err));
    json_t *pairs = dk_json_in_object(json, "EncryptionContext");
    assert_int_equal(json_object_size(json), 3);
    assert_int_equal(json_object_size(pairs), 3);
    assert_string_equal(dk_json_in_text(pairs, "TenantId"), name);
    assert_string_equal(dk_json_in_text(pairs, "Purpose"), "DataEncryption");
    assert_string_equal(dk_json_in_text(json, "KeyId"), "alias/\"k");
    json_decref(json);
    dk_http_request_clear(&request);
}

static void a_request_without_memory_is_none(void **state)
{
    (void)state;
    const struct dk_kms_ask ask = {
        .op = DK_KMS_GENERATE, .key_id = "alias/dekhand", .context = &context};
    struct dk_test_world w;
    dk_test_world_init(&w);
    bool built = false;
    for (unsigned n = 1; !built && n < 20; n++) {
        struct dk_http_request request;
        dk_http_request_init(&request, &w.world.mem);
        w.fail_alloc_at = w.allocs + n;
        dk_err_clear(&err);
        built = dk_kms_build(&ask, &request, &err) == DK_OK;
        assert_true(built || err.rc == DK_E_NOMEM);
        dk_http_request_clear(&request);
        assert_int_equal(w.live, 0);
    }
    assert_true(built);
}

/* ---- answers with a key ---------------------------------------------------------------------- */

#define KEY_32 "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="

static dk_rc read_key(const char *body, struct dk_secret *key, struct dk_wrapped *wrapped)
{
    const struct dk_kms_ask ask = {.op = DK_KMS_GENERATE, .key_id = ARN, .context = &context};
    struct dk_kms_answer answer = {.key = key, .wrapped = wrapped};
    dk_err_clear(&err);
    memset(cell, 0, sizeof cell);
    dk_rc rc = dk_kms_read(&ask, dk_view_str(body), &answer, &err);
    if (rc == DK_OK) {
        assert_string_equal(answer.key_id, ARN);
        assert_true(wrapped == NULL || strcmp(wrapped->kms_key_id, ARN) == 0);
    } else {
        assert_int_equal(rc, DK_E_PROVIDER);
        assert_int_equal(err.rc, DK_E_PROVIDER);
        assert_non_null(strstr(err.trail, "GenerateDataKey"));
    }
    return rc;
}

static void an_answer_gives_key_blob_and_arn(void **state)
{
    (void)state;
    struct dk_secret key = {cell, DK_SECRET_CELL};
    struct dk_wrapped wrapped;
    assert_int_equal(read_key("{\"CiphertextBlob\":\"QkxPQg==\",\"Plaintext\":\"" KEY_32
                              "\",\"KeyId\":\"" ARN "\",\"KeyMaterialId\":\"00ff\",\"New\":[{}]}",
                              &key, &wrapped),
                     DK_OK);
    assert_int_equal(key.n, 32);
    for (size_t i = 0; i < 32; i++) {
        assert_int_equal(cell[i], i);
    }
    assert_string_equal(wrapped.blob, "QkxPQg==");
}

static void an_answer_to_encrypt_needs_no_plaintext(void **state)
{
    (void)state;
    struct dk_wrapped wrapped;
    assert_int_equal(
        read_key("{\"CiphertextBlob\":\"QkxPQg==\",\"KeyId\":\"" ARN "\"}", NULL, &wrapped), DK_OK);
    assert_string_equal(wrapped.blob, "QkxPQg==");
}

/* Whether a key of that length is one is judged once for all back ends (provider.c). */
static void F30_keys_of_other_lengths_are_handed_on_as_they_are(void **state)
{
    (void)state;
    static const size_t lengths[] = {0, 1, 31, 33, 64};
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        uint8_t bytes[64];
        char text[DK_BASE64_LEN(64) + 1], body[512];
        struct dk_secret key = {cell, DK_SECRET_CELL};
        memset(bytes, 0x5A, sizeof bytes);
        dk_base64_encode(bytes, lengths[i], text);
        snprintf(body, sizeof body, "{\"Plaintext\":\"%s\",\"KeyId\":\"" ARN "\"}", text);
        assert_int_equal(read_key(body, &key, NULL), DK_OK);
        assert_int_equal(key.n, lengths[i]);
        assert_memory_equal(cell, bytes, lengths[i]);
    }
}

static void F29_what_is_no_answer_is_refused(void **state)
{
    (void)state;
    static const char *const bodies[] = {
        "",
        " ",
        "null",
        "[]",
        "\"text\"",
        "{}",
        "{\"Plaintext\":",
        "<html></html>",
        "{} {}",
        /* without, or of another type */
        "{\"CiphertextBlob\":\"QkxPQg==\",\"KeyId\":\"" ARN "\"}",
        "{\"CiphertextBlob\":\"QkxPQg==\",\"Plaintext\":\"" KEY_32 "\"}",
        "{\"Plaintext\":\"" KEY_32 "\",\"KeyId\":\"" ARN "\"}",
        "{\"CiphertextBlob\":\"QkxPQg==\",\"Plaintext\":null,\"KeyId\":\"" ARN "\"}",
        "{\"CiphertextBlob\":\"QkxPQg==\",\"Plaintext\":7,\"KeyId\":\"" ARN "\"}",
        "{\"CiphertextBlob\":null,\"Plaintext\":\"" KEY_32 "\",\"KeyId\":\"" ARN "\"}",
        "{\"CiphertextBlob\":\"\",\"Plaintext\":\"" KEY_32 "\",\"KeyId\":\"" ARN "\"}",
        "{\"CiphertextBlob\":\"QkxPQg==\",\"Plaintext\":\"" KEY_32 "\",\"KeyId\":\"\"}",
        "{\"CiphertextBlob\":\"QkxPQg==\",\"Plaintext\":\"" KEY_32 "\",\"KeyId\":[\"" ARN "\"]}",
        /* of other names */
        "{\"ciphertextBlob\":\"QkxPQg==\",\"plaintext\":\"" KEY_32 "\",\"keyId\":\"" ARN "\"}",
        /* base64 that is none, or another's */
        "{\"CiphertextBlob\":\"QkxPQg==\",\"Plaintext\":\"AAEC AwQF\",\"KeyId\":\"" ARN "\"}",
        "{\"CiphertextBlob\":\"QkxPQg==\",\"Plaintext\":\"AAE\",\"KeyId\":\"" ARN "\"}",
        "{\"CiphertextBlob\":\"QkxPQg==\",\"Plaintext\":\"AAH=\",\"KeyId\":\"" ARN "\"}",
        "{\"CiphertextBlob\":\"QkxP-_==\",\"Plaintext\":\"" KEY_32 "\",\"KeyId\":\"" ARN "\"}",
        "{\"CiphertextBlob\":\"QkxPQg\",\"Plaintext\":\"" KEY_32 "\",\"KeyId\":\"" ARN "\"}",
        /* 65 bytes */
        "{\"CiphertextBlob\":\"QkxPQg==\",\"Plaintext\":"
        "\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
        "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\",\"KeyId\":\"" ARN "\"}",
        /* twice, with a NUL, not UTF-8 */
        "{\"CiphertextBlob\":\"QkxPQg==\",\"Plaintext\":\"" KEY_32 "\",\"Plaintext\":\"" KEY_32
        "\",\"KeyId\":\"" ARN "\"}",
        "{\"CiphertextBlob\":\"QkxPQg==\",\"Plaintext\":\"" KEY_32 "\\u0000\",\"KeyId\":\"" ARN
        "\"}",
        "{\"CiphertextBlob\":\"QkxPQg==\",\"Plaintext\":\"" KEY_32 "\",\"KeyId\":\"" ARN
        "\xFF\xFE\"}",
        "{\"CiphertextBlob\":\"QkxPQg==\",\"Plaintext\":\"" KEY_32 "\",\"KeyId\":\"" ARN
        "\",\"x\":[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]}",
    };
    for (size_t i = 0; i < sizeof bodies / sizeof bodies[0]; i++) {
        struct dk_secret key = {cell, DK_SECRET_CELL};
        struct dk_wrapped wrapped;
        if (read_key(bodies[i], &key, &wrapped) != DK_E_PROVIDER) {
            fail_msg("taken: %s", bodies[i]);
        }
        assert_null(strstr(err.text, "AAEC"));
    }
}

static void F29_texts_that_are_longer_than_any_are_refused(void **state)
{
    (void)state;
    static char body[8192], arn[DK_KMS_KEY_ID_MAX + 2], blob[DK_WRAPPED_MAX + 6];
    struct dk_secret key = {cell, DK_SECRET_CELL};
    struct dk_wrapped wrapped;
    memset(arn, 'a', sizeof arn - 1);
    snprintf(body, sizeof body,
             "{\"CiphertextBlob\":\"QkxPQg==\",\"Plaintext\":\"" KEY_32 "\",\"KeyId\":\"%s\"}",
             arn);
    assert_int_equal(read_key(body, &key, &wrapped), DK_E_PROVIDER);
    memset(blob, 'A', DK_WRAPPED_MAX / 4 * 4); /* 2044 of 2047 fit */
    snprintf(body, sizeof body,
             "{\"CiphertextBlob\":\"%s\",\"Plaintext\":\"" KEY_32 "\",\"KeyId\":\"" ARN "\"}",
             blob);
    assert_int_equal(read_key(body, &key, &wrapped), DK_OK);
    assert_string_equal(wrapped.blob, blob);
    strcat(blob, "AAAA");
    snprintf(body, sizeof body,
             "{\"CiphertextBlob\":\"%s\",\"Plaintext\":\"" KEY_32 "\",\"KeyId\":\"" ARN "\"}",
             blob);
    assert_int_equal(read_key(body, &key, &wrapped), DK_E_PROVIDER);
}

/* ---- answers about a key --------------------------------------------------------------------- */

static dk_rc describe(const char *body, struct dk_kms_key *out)
{
    dk_err_clear(&err);
    return dk_kms_read_key(dk_view_str(body), out, &err);
}

static void a_key_is_described(void **state)
{
    (void)state;
    struct dk_kms_key key;
    assert_int_equal(
        describe("{\"KeyMetadata\":{\"Arn\":\"" ARN "\",\"KeyState\":\"PendingDeletion\","
                 "\"KeyUsage\":\"ENCRYPT_DECRYPT\",\"KeySpec\":\"SYMMETRIC_DEFAULT\","
                 "\"Origin\":\"AWS_KMS\",\"MultiRegion\":true,\"DeletionDate\":1.507184161473E9,"
                 "\"CreationDate\":1507184161}}",
                 &key),
        DK_OK);
    assert_string_equal(key.arn, ARN);
    assert_string_equal(key.state, "PendingDeletion");
    assert_string_equal(key.usage, "ENCRYPT_DECRYPT");
    assert_string_equal(key.spec, "SYMMETRIC_DEFAULT");
    assert_string_equal(key.origin, "AWS_KMS");
    assert_true(key.multi_region);
    assert_int_equal(key.deletion_us, INT64_C(1507184161) * 1000000);

    assert_int_equal(
        describe("{\"KeyMetadata\":{\"Arn\":\"" ARN "\",\"KeyState\":\"Enabled\"}}", &key), DK_OK);
    assert_string_equal(key.usage, "");
    assert_false(key.multi_region);
    assert_int_equal(key.deletion_us, DK_TIME_NONE);
}

/* Whatever a date may be, it is one of the years that there are, or none. */
static void dates_that_are_none_are_passed_over(void **state)
{
    (void)state;
    static const char *const dates[] = {"null", "\"soon\"",     "-5",
                                        "0",    "1e300",        "-1e300",
                                        "true", "253402300800", "9223372036854775807",
                                        "1e14"};
    for (size_t i = 0; i < sizeof dates / sizeof dates[0]; i++) {
        char body[300];
        struct dk_kms_key key;
        snprintf(body, sizeof body,
                 "{\"KeyMetadata\":{\"Arn\":\"" ARN
                 "\",\"KeyState\":\"Enabled\",\"DeletionDate\":%s}}",
                 dates[i]);
        assert_int_equal(describe(body, &key), DK_OK);
        assert_int_equal(key.deletion_us, DK_TIME_NONE);
    }
}

static void F29_a_description_without_arn_or_state_is_refused(void **state)
{
    (void)state;
    static const char *const bodies[] = {
        "",
        "null",
        "{}",
        "{\"KeyMetadata\":null}",
        "{\"KeyMetadata\":[]}",
        "{\"KeyMetadata\":{}}",
        "{\"KeyMetadata\":{\"Arn\":\"" ARN "\"}}",
        "{\"KeyMetadata\":{\"KeyState\":\"Enabled\"}}",
        "{\"KeyMetadata\":{\"Arn\":\"" ARN "\",\"KeyState\":1}}",
        "{\"KeyMetadata\":{\"Arn\":\"" ARN
        "\",\"KeyState\":\"a state with a name that is longer than any\"}}",
    };
    for (size_t i = 0; i < sizeof bodies / sizeof bodies[0]; i++) {
        struct dk_kms_key key;
        assert_int_equal(describe(bodies[i], &key), DK_E_PROVIDER);
        assert_int_equal(err.rc, DK_E_PROVIDER);
    }
}

static void whether_it_rotates_is_a_plain_word(void **state)
{
    (void)state;
    bool on = false;
    DK_TEST_OK(err, dk_kms_read_rotation(
                        dk_view_str("{\"KeyRotationEnabled\":true,\"KeyId\":\"x\"}"), &on, &err));
    assert_true(on);
    DK_TEST_OK(err, dk_kms_read_rotation(dk_view_str("{\"KeyRotationEnabled\":false}"), &on, &err));
    assert_false(on);
    static const char *const bodies[] = {"", "{}", "{\"KeyRotationEnabled\":\"true\"}",
                                         "{\"KeyRotationEnabled\":1}"};
    for (size_t i = 0; i < sizeof bodies / sizeof bodies[0]; i++) {
        DK_TEST_FAILS(err, PROVIDER, dk_kms_read_rotation(dk_view_str(bodies[i]), &on, &err));
        assert_false(on);
    }
}

/* ---- aliases --------------------------------------------------------------------------------- */

#define ID "1234abcd-12ab-34cd-56ef-1234567890ab"
#define ALIAS(name) "{\"AliasName\":\"alias/" name "\",\"TargetKeyId\":\"" ID "\"}"

static dk_rc list(const char *body, struct dk_kms_aliases *out)
{
    dk_err_clear(&err);
    return dk_kms_read_aliases(dk_view_str(body), ID, out, &err);
}

static void aliases_of_the_key_are_listed_page_by_page(void **state)
{
    (void)state;
    struct dk_kms_aliases all = {.count = 0};
    /* moto lists those of AWS with no key, and others' where it is asked for one key's */
    DK_TEST_OK(err, list("{\"Aliases\":[" ALIAS(
                             "a") ",{\"AliasName\":\"alias/aws/s3\"},"
                                  "{\"AliasName\":\"alias/c\",\"TargetKeyId\":\"another\"}],"
                                  "\"Truncated\":true,\"NextMarker\":\"m/1\"}",
                         &all));
    assert_true(all.more);
    assert_string_equal(all.marker, "m/1");
    DK_TEST_OK(err, list("{\"Aliases\":[" ALIAS("b") "],\"Truncated\":false}", &all));
    assert_false(all.more);
    assert_string_equal(all.text, "alias/a, alias/b");
    assert_int_equal(all.count, 2);
    DK_TEST_OK(err, list("{\"Aliases\":[]}", &all));
    assert_int_equal(all.count, 2);
}

static void of_many_aliases_some_are_shown(void **state)
{
    (void)state;
    struct dk_kms_aliases all = {.count = 0};
    for (int i = 0; i < 40; i++) {
        DK_TEST_OK(err, list("{\"Aliases\":[" ALIAS("a-name-of-25-characters-0") "]}", &all));
    }
    assert_int_equal(all.count, 40);
    assert_in_range(all.shown, 5, 15);
    assert_true(strlen(all.text) < sizeof all.text);
}

static void F29_a_list_of_aliases_that_is_none_is_refused(void **state)
{
    (void)state;
    static char far[2100];
    static const char *const bodies[] = {
        "",
        "null",
        "[]",
        "{}",
        "{\"Aliases\":{}}",
        "{\"Aliases\":null}",
        "{\"Aliases\":[{\"TargetKeyId\":\"" ID "\"}]}",
        "{\"Aliases\":[" ALIAS("") "]}",
        "{\"Aliases\":[" ALIAS("a b") "]}",
        "{\"Aliases\":[" ALIAS("\\u001b[2J") "]}",
        "{\"Aliases\":[{\"AliasName\":\"" ARN "\",\"TargetKeyId\":\"" ID "\"}]}",
        "{\"Aliases\":[],\"Truncated\":true}",
        "{\"Aliases\":[],\"Truncated\":true,\"NextMarker\":\"\"}",
        "{\"Aliases\":[],\"Truncated\":true,\"NextMarker\":5}",
        far,
    };
    snprintf(far, sizeof far, "{\"Aliases\":[],\"Truncated\":true,\"NextMarker\":\"%01025d\"}", 1);
    for (size_t i = 0; i < sizeof bodies / sizeof bodies[0]; i++) {
        struct dk_kms_aliases all = {.count = 0};
        if (list(bodies[i], &all) != DK_E_PROVIDER) {
            fail_msg("taken: %s", bodies[i]);
        }
    }
}

static void a_further_page_is_asked_for_by_its_marker(void **state)
{
    (void)state;
    struct dk_kms_ask ask = {.op = DK_KMS_ALIASES, .key_id = ARN};
    struct dk_http_request request;
    for (int page = 0; page < 2; page++) {
        ask.marker = page > 0 ? "m\"1" : NULL;
        dk_http_request_init(&request, &dk_mem_default);
        DK_TEST_OK(err, dk_kms_build(&ask, &request, &err));
        DK_TEST_OK(err, dk_buf_add(&request.body, "", 1, &err));
        assert_string_equal((const char *)request.body.p, page > 0 ? "{\"KeyId\":\"" ARN
                                                                     "\",\"Marker\":\"m\\\"1\"}"
                                                                   : "{\"KeyId\":\"" ARN "\"}");
        dk_http_request_clear(&request);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_operation_asks_with_the_members_it_has),
        cmocka_unit_test(a_tenants_name_stays_in_its_string),
        cmocka_unit_test(a_request_without_memory_is_none),
        cmocka_unit_test(an_answer_gives_key_blob_and_arn),
        cmocka_unit_test(an_answer_to_encrypt_needs_no_plaintext),
        cmocka_unit_test(F30_keys_of_other_lengths_are_handed_on_as_they_are),
        cmocka_unit_test(F29_what_is_no_answer_is_refused),
        cmocka_unit_test(F29_texts_that_are_longer_than_any_are_refused),
        cmocka_unit_test(a_key_is_described),
        cmocka_unit_test(dates_that_are_none_are_passed_over),
        cmocka_unit_test(F29_a_description_without_arn_or_state_is_refused),
        cmocka_unit_test(whether_it_rotates_is_a_plain_word),
        cmocka_unit_test(aliases_of_the_key_are_listed_page_by_page),
        cmocka_unit_test(of_many_aliases_some_are_shown),
        cmocka_unit_test(F29_a_list_of_aliases_that_is_none_is_refused),
        cmocka_unit_test(a_further_page_is_asked_for_by_its_marker),
    };
    return cmocka_run_group_tests_name("aws_kms", tests, NULL, NULL);
}
