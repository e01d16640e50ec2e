#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "net/json_in.h"
#include "provider/azure_vault.h"
#include "provider/azure_wrap.h"
#include "support/expect.h"

#define VERSION "0123456789abcdef0123456789abcdef"
#define KID "https://kv.vault.azure.net/keys/kek/" VERSION
#define NOW INT64_C(1790000000)

static struct dk_test_world w;
static struct dk_suite suite;
static struct dk_arena *arena;
static struct dk_err err;

static int set_up(void **state)
{
    (void)state;
    struct dk_arena_report report;
    dk_test_world_init(&w);
    DK_TEST_OK(err, dk_suite_open(&w.world, &suite, &err));
    DK_TEST_OK(err, dk_arena_open(&w.world, 16, &arena, &report, &err));
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    dk_arena_close(arena);
    dk_suite_close(&suite);
    assert_int_equal(w.live, 0);
    return 0;
}

static struct dk_secret secret_of(uint8_t byte, size_t n)
{
    struct dk_secret out;
    DK_TEST_OK(err, dk_secret_new(arena, DK_SECRET_CELL, &out, &err));
    memset(dk_secret_expose_for_crypto(&out), byte, n);
    out.n = (uint8_t)n;
    return out;
}

/* ---- requests -------------------------------------------------------------------------------- */

static void expect_request(const struct dk_vault_ask *ask, const char *method, const char *path,
                           const char *body)
{
    struct dk_http_request request;
    dk_http_request_init(&request, &w.world.mem);
    DK_TEST_OK(err, dk_vault_build(ask, &request, &err));
    assert_string_equal(request.method, method);
    assert_string_equal(request.path, path);
    assert_int_equal(request.body.n, strlen(body));
    assert_memory_equal(request.body.p != NULL ? (const char *)request.body.p : "", body,
                        strlen(body));
    dk_http_request_clear(&request);
}

static struct dk_vault_ask ask_of(enum dk_vault_op op, const char *version)
{
    return (struct dk_vault_ask){.op = op, .name = "kek", .version = version, .api_version = "7.4"};
}

static void the_first_call_has_no_body(void **state)
{
    (void)state;
    struct dk_vault_ask ask = ask_of(DK_VAULT_GET, "");
    expect_request(&ask, "GET", "/keys/kek?api-version=7.4", "");
    ask = ask_of(DK_VAULT_GET, VERSION);
    expect_request(&ask, "GET", "/keys/kek/" VERSION "?api-version=7.4", "");
}

static void rsa_is_named_oaep_256_and_nothing_else(void **state)
{
    (void)state;
    static const uint8_t wrapped[] = {0xFB, 0xFF, 0xFE, 0x00};
    struct dk_secret secret = secret_of(0xFF, 32);
    struct dk_vault_ask ask = ask_of(DK_VAULT_ENCRYPT, "");
    ask.secret = &secret;
    static const char body[] =
        "{\"alg\":\"RSA-OAEP-256\",\"value\":\"__________________________________________8\"}";
    expect_request(&ask, "POST", "/keys/kek/encrypt?api-version=7.4", body);
    ask.op = DK_VAULT_WRAPKEY;
    expect_request(&ask, "POST", "/keys/kek/wrapkey?api-version=7.4", body);
    ask = ask_of(DK_VAULT_DECRYPT, VERSION);
    ask.value = dk_view_of(wrapped, sizeof wrapped);
    static const char back[] = "{\"alg\":\"RSA-OAEP-256\",\"value\":\"-__-AA\"}";
    expect_request(&ask, "POST", "/keys/kek/" VERSION "/decrypt?api-version=7.4", back);
    ask.op = DK_VAULT_UNWRAPKEY;
    expect_request(&ask, "POST", "/keys/kek/" VERSION "/unwrapkey?api-version=7.4", back);
    dk_secret_free(arena, &secret);
}

static void oct_binds_the_context_and_lets_the_vault_choose_the_nonce(void **state)
{
    (void)state;
    static const uint8_t iv[12] = {1}, tag[16] = {2}, ct[3] = {3, 3, 3};
    struct dk_secret secret = secret_of(0, 3);
    struct dk_vault_ask ask = ask_of(DK_VAULT_ENCRYPT, "");
    ask.alg = DK_VAULT_A256GCM;
    ask.secret = &secret;
    ask.aad = dk_view_str("aad");
    expect_request(&ask, "POST", "/keys/kek/encrypt?api-version=7.4",
                   "{\"alg\":\"A256GCM\",\"value\":\"AAAA\",\"aad\":\"YWFk\"}");
    ask.op = DK_VAULT_DECRYPT;
    ask.version = VERSION;
    ask.value = dk_view_of(ct, sizeof ct);
    ask.iv = iv;
    ask.tag = tag;
    expect_request(&ask, "POST", "/keys/kek/" VERSION "/decrypt?api-version=7.4",
                   "{\"alg\":\"A256GCM\",\"value\":\"AwMD\",\"aad\":\"YWFk\","
                   "\"iv\":\"AQAAAAAAAAAAAAAA\",\"tag\":\"AgAAAAAAAAAAAAAAAAAAAA\"}");
    dk_secret_free(arena, &secret);
}

static void a_context_that_is_none_is_not_sent(void **state)
{
    (void)state;
    static const uint8_t long_one[1025];
    struct dk_secret secret = secret_of(0, 3);
    struct dk_vault_ask ask = ask_of(DK_VAULT_ENCRYPT, "");
    struct dk_http_request request;
    ask.alg = DK_VAULT_A256GCM;
    ask.secret = &secret;
    ask.aad = dk_view_of(long_one, sizeof long_one);
    dk_http_request_init(&request, &w.world.mem);
    DK_TEST_FAILS(err, LIMIT, dk_vault_build(&ask, &request, &err));
    dk_http_request_clear(&request);
    dk_secret_free(arena, &secret);
}

/* ---- key ids --------------------------------------------------------------------------------- */

static struct dk_azure_setup setup_of(const char *host, uint16_t port)
{
    struct dk_azure_setup setup = {.vault = {.tls = true, .port = port}, .key_name = "kek"};
    snprintf(setup.vault.host, sizeof setup.vault.host, "%s", host);
    return setup;
}

static void a_kid_is_taken_apart(void **state)
{
    (void)state;
    struct dk_vault_kid kid, other;
    struct dk_azure_setup setup = setup_of("kv.vault.azure.net", 443);
    assert_true(dk_vault_kid_parse(KID, &kid));
    assert_string_equal(kid.host, "kv.vault.azure.net");
    assert_string_equal(kid.name, "kek");
    assert_string_equal(kid.version, VERSION);
    assert_true(kid.tls && kid.port == 443);
    assert_true(dk_vault_kid_is_of(&kid, &setup));
    assert_true(dk_vault_kid_parse("HTTPS://KV.Vault.azure.net:443/keys/KEK/"
                                   "0123456789ABCDEF0123456789ABCDEF",
                                   &other));
    assert_true(dk_vault_kid_equal(&kid, &other) && dk_vault_kid_is_of(&other, &setup));
    assert_true(dk_vault_kid_parse("http://[::1]:8080/keys/a", &other));
    assert_string_equal(other.host, "::1");
    assert_true(!other.tls && other.port == 8080 && other.version[0] == '\0');
    assert_true(dk_vault_kid_parse("https://h/keys/a/", &other));
}

static void what_is_no_kid_is_none(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "kek",
        "ftp://h/keys/a",
        "https://",
        "https:///keys/a",
        "https://h",
        "https://h/secrets/a",
        "https://h/keys/",
        "https://h/keys/a_b",
        "https://h/keys//" VERSION,
        "https://h/keys/a/0123",
        "https://h/keys/a/" VERSION "0",
        "https://h/keys/a/0123456789abcdef0123456789abcdeg",
        "https://h/keys/a/" VERSION "/",
        "https://u@h/keys/a",
        "https://h:/keys/a",
        "https://h:0/keys/a",
        "https://h:65536/keys/a",
        "https://h:123456/keys/a",
        "https://h:4x/keys/a",
        "https://[::1/keys/a",
        "https://[::1]x/keys/a",
        "https://[]/keys/a",
        "https://h?/keys/a",
    };
    char long_name[200] = "https://h/keys/";
    struct dk_vault_kid kid;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        if (dk_vault_kid_parse(bad[i], &kid)) {
            fail_msg("%s is taken for a kid", bad[i]);
        }
    }
    memset(long_name + 15, 'a', 128);
    assert_false(dk_vault_kid_parse(long_name, &kid));
    long_name[15 + 127] = '\0';
    assert_true(dk_vault_kid_parse(long_name, &kid));
}

static void I32_a_kid_of_another_vault_or_name_is_not_ours(void **state)
{
    (void)state;
    static const char *const foreign[] = {
        "https://evil.vault.azure.net/keys/kek/" VERSION,
        "https://kv.vault.azure.net:444/keys/kek/" VERSION,
        "http://kv.vault.azure.net:443/keys/kek/" VERSION,
        "https://kv.vault.azure.net/keys/kek2/" VERSION,
        "https://kv.vault.azure.net.evil.example/keys/kek/" VERSION,
    };
    struct dk_azure_setup setup = setup_of("kv.vault.azure.net", 443);
    struct dk_vault_kid kid, own;
    assert_true(dk_vault_kid_parse(KID, &own));
    for (size_t i = 0; i < sizeof foreign / sizeof foreign[0]; i++) {
        assert_true(dk_vault_kid_parse(foreign[i], &kid));
        assert_false(dk_vault_kid_is_of(&kid, &setup));
        assert_false(dk_vault_kid_equal(&kid, &own));
    }
    assert_true(dk_vault_kid_parse("https://kv.vault.azure.net/keys/kek/"
                                   "1123456789abcdef0123456789abcdef",
                                   &kid));
    assert_true(dk_vault_kid_is_of(&kid, &setup));
    assert_false(dk_vault_kid_equal(&kid, &own));
}

static void only_the_host_of_a_kid_is_made_lower_case(void **state)
{
    (void)state;
    char out[DK_KMS_KEY_ID_MAX + 1];
    char long_one[DK_KMS_KEY_ID_MAX + 2];
    assert_true(dk_vault_kid_copy("https://KV.Vault.Azure.NET/keys/Kek/ABC", out));
    assert_string_equal(out, "https://kv.vault.azure.net/keys/Kek/ABC");
    assert_true(dk_vault_kid_copy("NO/Scheme", out));
    assert_string_equal(out, "no/Scheme");
    memset(long_one, 'a', sizeof long_one - 1);
    long_one[sizeof long_one - 1] = '\0';
    assert_false(dk_vault_kid_copy(long_one, out));
    assert_false(dk_vault_kid_copy("https://h/keys/a\nb", out));
    assert_false(dk_vault_kid_copy("https://h/keys/\x7F", out));
    assert_false(dk_vault_kid_copy(NULL, out));
    assert_false(dk_vault_kid_copy("", out));
}

/* ---- answers --------------------------------------------------------------------------------- */

static dk_rc read_text(enum dk_vault_op op, enum dk_vault_alg alg, const char *text,
                       struct dk_vault_answer *out)
{
    struct dk_vault_ask ask = ask_of(op, "");
    ask.alg = alg;
    dk_err_clear(&err);
    return dk_vault_read(&ask, dk_view_str(text), out, &err);
}

static void an_answer_is_read(void **state)
{
    (void)state;
    struct dk_vault_answer answer = {.value_n = 0};
    assert_int_equal(read_text(DK_VAULT_ENCRYPT, DK_VAULT_RSA_OAEP_256,
                               "{\"kid\":\"https://KV.vault.azure.net/keys/kek/" VERSION
                               "\",\"value\":\"-__-AA\"}",
                               &answer),
                     DK_OK);
    assert_string_equal(answer.kid, KID);
    assert_int_equal(answer.value_n, 4);
    assert_int_equal(answer.value[0], 0xFB);
    assert_int_equal(read_text(DK_VAULT_ENCRYPT, DK_VAULT_A256GCM,
                               "{\"kid\":\"" KID
                               "\",\"value\":\"AwMD\",\"iv\":\"AQAAAAAAAAAAAAAA\","
                               "\"tag\":\"AgAAAAAAAAAAAAAAAAAAAA\"}",
                               &answer),
                     DK_OK);
    assert_int_equal(answer.iv[0], 1);
    assert_int_equal(answer.tag[0], 2);
    struct dk_secret secret = secret_of(0, 0);
    answer.secret = &secret;
    assert_int_equal(read_text(DK_VAULT_DECRYPT, DK_VAULT_RSA_OAEP_256,
                               "{\"kid\":\"" KID "\",\"value\":\"AwMD\"}", &answer),
                     DK_OK);
    assert_int_equal(secret.n, 3);
    assert_int_equal(dk_secret_expose_for_crypto(&secret)[2], 3);
    dk_secret_free(arena, &secret);
}

static void F29_an_answer_that_cannot_be_one_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "[]",
        "{\"kid\":\"" KID "\"",
        "{\"kid\":\"" KID "\"}",
        "{\"value\":\"AwMD\"}",
        "{\"kid\":1,\"value\":\"AwMD\"}",
        "{\"kid\":\"\",\"value\":\"AwMD\"}",
        "{\"kid\":\"" KID "\",\"value\":\"\"}",
        "{\"kid\":\"" KID "\",\"value\":7}",
        "{\"kid\":\"" KID "\",\"value\":\"AwMD=\"}",
        "{\"kid\":\"" KID "\",\"value\":\"Aw+D\"}",
        "{\"kid\":\"" KID "\",\"value\":\"AwMD\",\"value\":\"AwME\"}",
    };
    struct dk_secret secret = secret_of(0, 0);
    struct dk_vault_answer answer = {.secret = &secret};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(read_text(DK_VAULT_WRAPKEY, DK_VAULT_RSA_OAEP_256, bad[i], &answer),
                         DK_E_PROVIDER);
        assert_int_equal(read_text(DK_VAULT_UNWRAPKEY, DK_VAULT_RSA_OAEP_256, bad[i], &answer),
                         DK_E_PROVIDER);
    }
    static const char *const bad_gcm[] = {
        "{\"kid\":\"" KID "\",\"value\":\"AwMD\",\"tag\":\"AgAAAAAAAAAAAAAAAAAAAA\"}",
        "{\"kid\":\"" KID "\",\"value\":\"AwMD\",\"iv\":\"AQAAAAAAAAAAAAAA\"}",
        "{\"kid\":\"" KID
        "\",\"value\":\"AwMD\",\"iv\":\"AQAA\",\"tag\":\"AgAAAAAAAAAAAAAAAAAAAA\"}",
        "{\"kid\":\"" KID "\",\"value\":\"AwMD\",\"iv\":\"AQAAAAAAAAAAAAAA\",\"tag\":\"AgAA\"}",
    };
    for (size_t i = 0; i < sizeof bad_gcm / sizeof bad_gcm[0]; i++) {
        assert_int_equal(read_text(DK_VAULT_ENCRYPT, DK_VAULT_A256GCM, bad_gcm[i], &answer),
                         DK_E_PROVIDER);
    }
    dk_secret_free(arena, &secret);
}

/* F30: what is longer than a cell is nobody's key. */
static void F30_a_secret_longer_than_any_is_refused(void **state)
{
    (void)state;
    char text[300], value[88 + 1];
    struct dk_secret secret = secret_of(0, 0);
    struct dk_vault_answer answer = {.secret = &secret};
    memset(value, 'A', 88);
    value[88] = '\0';
    snprintf(text, sizeof text, "{\"kid\":\"" KID "\",\"value\":\"%s\"}", value);
    assert_int_equal(read_text(DK_VAULT_DECRYPT, DK_VAULT_RSA_OAEP_256, text, &answer),
                     DK_E_PROVIDER);
    value[86] = '\0';
    snprintf(text, sizeof text, "{\"kid\":\"" KID "\",\"value\":\"%s\"}", value);
    assert_int_equal(read_text(DK_VAULT_DECRYPT, DK_VAULT_RSA_OAEP_256, text, &answer), DK_OK);
    assert_int_equal(secret.n, DK_SECRET_CELL);
    dk_secret_free(arena, &secret);
}

/* ---- the two forms of a wrap ----------------------------------------------------------------- */

static const struct dk_wrap_context context = {
    {(const uint8_t *)"acme", 4}, DK_PURPOSE_DATA, "2026-01-01T00:00:00.000000Z"};

static void a_blob_goes_there_and_back(void **state)
{
    (void)state;
    static const size_t sizes[] = {256, 384, 512, 0};
    char text[DK_WRAPPED_MAX + 1];
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        struct dk_azure_blob blob = {.rsa_n = sizes[i]}, back;
        uint8_t bytes[DK_AZURE_BLOB_MAX];
        size_t n = 0;
        memset(blob.rsa, 7, sizes[i]);
        memset(blob.nonce, 1, sizeof blob.nonce);
        memset(blob.ct, 2, sizeof blob.ct);
        memset(blob.tag, 3, sizeof blob.tag);
        dk_azure_blob_put(&blob, text);
        assert_true(dk_base64_decode(text, strlen(text), bytes, sizeof bytes, &n));
        assert_int_equal(n, sizes[i] > 0 ? 3 + sizes[i] + 60 : 61);
        assert_int_equal(bytes[0], sizes[i] > 0 ? 1 : 2);
        assert_int_equal(bytes[n - 1], 3);
        DK_TEST_OK(err, dk_azure_blob_read(text, &back, &err));
        assert_int_equal(back.rsa_n, sizes[i]);
        assert_memory_equal(back.rsa, blob.rsa, sizes[i]);
        assert_memory_equal(back.nonce, blob.nonce, sizeof blob.nonce);
        assert_memory_equal(back.ct, blob.ct, sizeof blob.ct);
        assert_memory_equal(back.tag, blob.tag, sizeof blob.tag);
    }
}

static void a_blob_of_another_form_is_E_FORMAT(void **state)
{
    (void)state;
    uint8_t bytes[DK_AZURE_BLOB_MAX + 8] = {1, 1, 0};
    char text[DK_BASE64_LEN(sizeof bytes) + 1];
    struct dk_azure_blob blob;
    for (size_t n = 0; n <= sizeof bytes; n++) {
        dk_base64_encode(bytes, n, text);
        dk_err_clear(&err);
        assert_int_equal(dk_azure_blob_read(text, &blob, &err),
                         n == 3 + 256 + 60 ? DK_OK : DK_E_FORMAT);
    }
    bytes[0] = 2;
    for (size_t n = 0; n <= 3 + 256 + 60; n++) {
        dk_base64_encode(bytes, n, text);
        dk_err_clear(&err);
        assert_int_equal(dk_azure_blob_read(text, &blob, &err), n == 61 ? DK_OK : DK_E_FORMAT);
    }
    bytes[0] = 3;
    dk_base64_encode(bytes, 61, text);
    DK_TEST_FAILS(err, FORMAT, dk_azure_blob_read(text, &blob, &err));
    bytes[0] = 1, bytes[1] = 0, bytes[2] = 0; /* no RSA part */
    dk_base64_encode(bytes, 63, text);
    DK_TEST_FAILS(err, FORMAT, dk_azure_blob_read(text, &blob, &err));
    DK_TEST_FAILS(err, FORMAT, dk_azure_blob_read("AQ=", &blob, &err));
    DK_TEST_FAILS(err, FORMAT, dk_azure_blob_read("", &blob, &err));
}

static void I01_the_seal_under_w_is_bound_to_its_context(void **state)
{
    (void)state;
    struct dk_secret wrapping = secret_of(0x11, 32), key = secret_of(0x22, 32);
    struct dk_secret opened = secret_of(0, 0);
    struct dk_azure_blob blob = {.rsa_n = 256}, changed;
    DK_TEST_OK(err, dk_azure_seal(&suite, &wrapping, &context, &key, &blob, &err));
    DK_TEST_OK(err, dk_azure_open(&suite, &wrapping, &context, &blob, &opened, &err));
    assert_true(dk_secret_equal(&opened, &key));
    struct dk_wrap_context others[] = {context, context, context};
    others[0].tenant = dk_view_str("acmf");
    others[1].purpose = DK_PURPOSE_REGISTRY;
    others[2].timestamp = "2026-01-01T00:00:00.000001Z";
    for (size_t i = 0; i < 3; i++) {
        DK_TEST_FAILS(err, AUTH,
                      dk_azure_open(&suite, &wrapping, &others[i], &blob, &opened, &err));
        DK_TEST_SAYS(err, "Invalid ciphertext: ");
        assert_true(dk_secret_is_zero(&(struct dk_secret){opened.cell, 32}));
    }
    uint8_t *const parts[] = {changed.nonce, changed.ct, changed.tag};
    for (size_t i = 0; i < 3; i++) {
        changed = blob;
        parts[i][3] ^= 1;
        DK_TEST_FAILS(err, AUTH,
                      dk_azure_open(&suite, &wrapping, &context, &changed, &opened, &err));
    }
    dk_secret_free(arena, &wrapping);
    dk_secret_free(arena, &key);
    dk_secret_free(arena, &opened);
}

static void F30_a_w_that_is_none_is_E_PROVIDER(void **state)
{
    (void)state;
    struct dk_secret key = secret_of(0x22, 32), opened = secret_of(0, 0);
    struct dk_azure_blob blob = {.rsa_n = 256};
    struct dk_secret none[] = {secret_of(1, 31), secret_of(1, 33), secret_of(0, 32)};
    for (size_t i = 0; i < 3; i++) {
        DK_TEST_FAILS(err, PROVIDER,
                      dk_azure_open(&suite, &none[i], &context, &blob, &opened, &err));
        dk_secret_free(arena, &none[i]);
    }
    struct dk_secret wrapping = secret_of(0x11, 32);
    w.random_fails = true;
    DK_TEST_FAILS(err, RANDOM, dk_azure_seal(&suite, &wrapping, &context, &key, &blob, &err));
    w.random_fails = false;
    dk_secret_free(arena, &wrapping);
    dk_secret_free(arena, &key);
    dk_secret_free(arena, &opened);
}

int main(void)
{
    dk_json_in_setup();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_call_has_no_body),
        cmocka_unit_test(rsa_is_named_oaep_256_and_nothing_else),
        cmocka_unit_test(oct_binds_the_context_and_lets_the_vault_choose_the_nonce),
        cmocka_unit_test(a_context_that_is_none_is_not_sent),
        cmocka_unit_test(a_kid_is_taken_apart),
        cmocka_unit_test(what_is_no_kid_is_none),
        cmocka_unit_test(I32_a_kid_of_another_vault_or_name_is_not_ours),
        cmocka_unit_test(only_the_host_of_a_kid_is_made_lower_case),
        cmocka_unit_test(an_answer_is_read),
        cmocka_unit_test(F29_an_answer_that_cannot_be_one_is_refused),
        cmocka_unit_test(F30_a_secret_longer_than_any_is_refused),
        cmocka_unit_test(a_blob_goes_there_and_back),
        cmocka_unit_test(a_blob_of_another_form_is_E_FORMAT),
        cmocka_unit_test(I01_the_seal_under_w_is_bound_to_its_context),
        cmocka_unit_test(F30_a_w_that_is_none_is_E_PROVIDER),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
