#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include "net/json_in.h"
#include "provider/azure_vault.h"
#include "support/expect.h"

#define VERSION "0123456789abcdef0123456789abcdef"
#define KID "https://kv.vault.azure.net/keys/kek/" VERSION
#define NOW INT64_C(1790000000)

static struct dk_err err;

/* ---- what GET says --------------------------------------------------------------------------- */

/* A modulus of so many bytes, the first of them 0x80, or 0x7F. */
static const char *modulus(size_t bytes, bool full)
{
    static uint8_t raw[1100];
    static char text[1500];
    memset(raw, 0x55, sizeof raw);
    raw[0] = full ? 0x80 : 0x7F;
    dk_base64url_encode(raw, bytes, text);
    text[DK_BASE64URL_LEN(bytes)] = '\0';
    return text;
}

static dk_rc read_key(struct dk_vault_key *key, const char *format, ...)
{
    static char text[8192];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    dk_err_clear(&err);
    return dk_vault_read_key(dk_view_str(text), key, &err);
}

static void a_key_is_read(void **state)
{
    (void)state;
    struct dk_vault_key key;
    assert_int_equal(
        read_key(&key,
                 "{\"key\":{\"kid\":\"https://KV.vault.azure.net/keys/kek/" VERSION
                 "\",\"kty\":\"RSA-HSM\",\"key_ops\":[\"encrypt\",\"decrypt\",\"sign\",7,"
                 "\"unwrapKey\"],\"n\":\"%s\",\"e\":\"AQAB\"},\"attributes\":{\"enabled\":true,"
                 "\"nbf\":1700000000,\"exp\":\"1800000000\",\"recoveryLevel\":\"Recoverable\"}}",
                 modulus(384, true)),
        DK_OK);
    assert_string_equal(key.kid, KID);
    assert_string_equal(key.kty, "RSA-HSM");
    assert_int_equal(key.kind, DK_VAULT_RSA);
    assert_int_equal(key.bits, 3072);
    assert_true(key.has_ops && key.enabled);
    assert_int_equal(key.ops,
                     1U << DK_VAULT_ENCRYPT | 1U << DK_VAULT_DECRYPT | 1U << DK_VAULT_UNWRAPKEY);
    assert_int_equal(key.nbf, 1700000000);
    assert_int_equal(key.exp, 1800000000);
    assert_string_equal(key.recovery, "Recoverable");
}

static void a_key_without_attributes_is_one_that_may(void **state)
{
    (void)state;
    struct dk_vault_key key;
    assert_int_equal(read_key(&key, "{\"key\":{\"kid\":\"" KID "\",\"kty\":\"oct-HSM\"}}"), DK_OK);
    assert_int_equal(key.kind, DK_VAULT_OCT);
    assert_true(key.enabled && !key.has_ops && key.ops == 0);
    assert_true(key.nbf == 0 && key.exp == 0);
    DK_TEST_OK(err, dk_vault_check_kind(&key, &err));
    DK_TEST_OK(err, dk_vault_check_usable(&key, NOW, &err));
}

static void a_key_that_cannot_be_one_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "{}",
        "{\"key\":[]}",
        "{\"key\":{\"kty\":\"RSA\"}}",
        "{\"key\":{\"kid\":\"" KID "\"}}",
        "{\"key\":{\"kid\":\"" KID "\",\"kty\":\"a-kind-that-is-too-long\"}}",
        "{\"key\":{\"kid\":\"" KID "\",\"kty\":\"R\\u001bSA\"}}",
        "{\"key\":{\"kid\":\"https://h/keys/a b\",\"kty\":\"RSA\"}}",
    };
    struct dk_vault_key key;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(read_key(&key, "%s", bad[i]), DK_E_PROVIDER);
    }
}

static void only_some_kinds_of_key_will_do(void **state)
{
    (void)state;
    static const struct {
        const char *kty;
        size_t bytes;
        bool full, good;
    } kinds[] = {
        {"RSA", 256, true, true},     {"RSA", 384, true, true},   {"RSA", 512, true, true},
        {"RSA-HSM", 256, true, true}, {"RSA", 128, true, false},  {"RSA", 1024, true, false},
        {"RSA", 1025, true, false},   {"RSA", 256, false, false}, {"RSA", 0, true, false},
        {"EC", 256, true, false},     {"EC-HSM", 0, true, false}, {"oct", 0, true, false},
        {"oct-HSM", 0, true, true},   {"rsa", 256, true, false},
    };
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        struct dk_vault_key key;
        assert_int_equal(read_key(&key,
                                  "{\"key\":{\"kid\":\"" KID "\",\"kty\":\"%s\",\"n\":\"%s\"}}",
                                  kinds[i].kty, modulus(kinds[i].bytes, kinds[i].full)),
                         DK_OK);
        dk_err_clear(&err);
        assert_int_equal(dk_vault_check_kind(&key, &err), kinds[i].good ? DK_OK : DK_E_CONFIG);
        if (!kinds[i].good) {
            DK_TEST_SAYS(err, "AZURE_KEY_NAME: ");
            DK_TEST_SAYS(err, "oct-HSM of 256");
        }
    }
}

static void F28_a_key_that_may_not_wrap_now_says_why(void **state)
{
    (void)state;
    static const struct {
        const char *attributes, *says;
    } rows[] = {
        {"\"enabled\":true", NULL},
        {"\"enabled\":false", "the master key is disabled"},
        {"\"enabled\":true,\"exp\":1790000001", NULL},
        {"\"enabled\":true,\"exp\":1790000000",
         "the master key has expired at 2026-09-21T14:13:20.000000Z: give it a new version"},
        {"\"enabled\":true,\"nbf\":1790000000", NULL},
        {"\"enabled\":true,\"nbf\":1790000001",
         "the master key is not valid before 2026-09-21T14:13:21.000000Z"},
        {"\"enabled\":true,\"nbf\":9223372036854775807",
         "the master key is not valid before 9999-12-31T23:59:59.000000Z"},
        {"\"enabled\":true,\"nbf\":-5,\"exp\":-1", NULL},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct dk_vault_key key;
        assert_int_equal(read_key(&key,
                                  "{\"key\":{\"kid\":\"" KID
                                  "\",\"kty\":\"oct-HSM\"},\"attributes\":{%s}}",
                                  rows[i].attributes),
                         DK_OK);
        dk_err_clear(&err);
        assert_int_equal(dk_vault_check_usable(&key, NOW, &err),
                         rows[i].says == NULL ? DK_OK : DK_E_MASTER_KEY_DISABLED);
        if (rows[i].says != NULL) {
            DK_TEST_SAYS(err, rows[i].says);
        }
    }
}

/* ---- what an answer that is no success means ------------------------------------------------- */

#define HEAD "HTTP/1.1 400 x\r\nx-ms-request-id: req-1\r\n\r\n"

static const struct {
    enum dk_vault_op op;
    long status;
    const char *code, *inner; /* NULL: the answer is no JSON, or has none */
    enum dk_vault_fault fault;
    dk_rc rc;
    const char *says;
} faults[] = {
    {DK_VAULT_GET, 401, "Unauthorized", NULL, DK_VAULT_TOKEN, DK_E_PROVIDER_DENIED,
     "Azure Key Vault does not accept the token: it is so"},
    {DK_VAULT_GET, 401, NULL, NULL, DK_VAULT_TOKEN, DK_E_PROVIDER_DENIED, "does not accept"},
    {DK_VAULT_UNWRAPKEY, 403, "Forbidden", "AccessDenied", DK_VAULT_FORBIDDEN, DK_E_PROVIDER_DENIED,
     "Access denied to the key in Azure Key Vault: permission needed: keys/unwrapKey (Forbidden, "
     "AccessDenied, key kek, request req-1)"},
    {DK_VAULT_ENCRYPT, 403, "Forbidden", "ForbiddenByRbac", DK_VAULT_FORBIDDEN,
     DK_E_PROVIDER_DENIED, "permission needed: keys/encrypt (Forbidden, ForbiddenByRbac"},
    {DK_VAULT_GET, 403, "Forbidden", NULL, DK_VAULT_FORBIDDEN, DK_E_PROVIDER_DENIED,
     "permission needed: keys/get (Forbidden, key kek"},
    {DK_VAULT_GET, 403, NULL, NULL, DK_VAULT_FORBIDDEN, DK_E_PROVIDER_DENIED, "keys/get"},
    {DK_VAULT_WRAPKEY, 403, "Forbidden", "KeyOperationForbidden", DK_VAULT_FORBIDDEN,
     DK_E_PROVIDER_DENIED,
     "the key's key_ops do not list the operation (KeyOperationForbidden, "
     "keys/wrapKey"},
    {DK_VAULT_DECRYPT, 403, "Forbidden", "ForbiddenByFirewall", DK_VAULT_FAILED,
     DK_E_PROVIDER_DENIED, "the vault's firewall does not let this machine in"},
    {DK_VAULT_DECRYPT, 403, "Forbidden", "ForbiddenByConnection", DK_VAULT_FAILED,
     DK_E_PROVIDER_DENIED, "private endpoint only"},
    {DK_VAULT_DECRYPT, 403, "Forbidden", "KeyDisabled", DK_VAULT_FAILED, DK_E_MASTER_KEY_DISABLED,
     "the master key is disabled (KeyDisabled, keys/decrypt, key kek"},
    {DK_VAULT_ENCRYPT, 403, "Forbidden", "KeyExpired", DK_VAULT_FAILED, DK_E_MASTER_KEY_DISABLED,
     "the master key has expired"},
    {DK_VAULT_ENCRYPT, 403, "Forbidden", "KeyNotYetValid", DK_VAULT_FAILED,
     DK_E_MASTER_KEY_DISABLED, "not valid yet"},
    {DK_VAULT_DECRYPT, 400, "BadParameter", NULL, DK_VAULT_FAILED, DK_E_AUTH,
     "Invalid ciphertext: the wrapped key was changed"},
    {DK_VAULT_UNWRAPKEY, 400, "BadParameter", NULL, DK_VAULT_FAILED, DK_E_AUTH,
     "Invalid ciphertext: "},
    {DK_VAULT_ENCRYPT, 400, "BadParameter", NULL, DK_VAULT_FAILED, DK_E_CONFIG,
     "Azure Key Vault does not take keys/encrypt of the key kek: BadParameter: it is so"},
    {DK_VAULT_GET, 400, "BadParameter", NULL, DK_VAULT_FAILED, DK_E_CONFIG, "keys/get"},
    {DK_VAULT_DECRYPT, 400, "MissingApiVersionParameter", NULL, DK_VAULT_FAILED, DK_E_CONFIG,
     "MissingApiVersionParameter"},
    {DK_VAULT_DECRYPT, 400, NULL, NULL, DK_VAULT_FAILED, DK_E_PROVIDER,
     "what answers keys/decrypt is not Azure Key Vault: HTTP 400"},
    {DK_VAULT_GET, 404, "KeyNotFound", NULL, DK_VAULT_FAILED, DK_E_NO_MASTER_KEY,
     "Azure Key Vault has no key kek/" VERSION " (request req-1)"},
    {DK_VAULT_GET, 404, "NotFound", NULL, DK_VAULT_FAILED, DK_E_PROVIDER, "NotFound: it is so"},
    {DK_VAULT_GET, 404, NULL, NULL, DK_VAULT_FAILED, DK_E_PROVIDER, "is not Azure Key Vault"},
    {DK_VAULT_GET, 408, NULL, NULL, DK_VAULT_TRANSIENT, DK_E_UNREACHABLE, "HTTP 408"},
    {DK_VAULT_GET, 409, "Conflict", NULL, DK_VAULT_TRANSIENT, DK_E_UNREACHABLE, "409 Conflict"},
    {DK_VAULT_GET, 429, "Throttled", NULL, DK_VAULT_TRANSIENT, DK_E_THROTTLED,
     "Azure Key Vault throttles keys/get"},
    {DK_VAULT_GET, 500, "InternalError", NULL, DK_VAULT_TRANSIENT, DK_E_UNREACHABLE, "HTTP 500"},
    {DK_VAULT_GET, 503, NULL, NULL, DK_VAULT_TRANSIENT, DK_E_UNREACHABLE, "HTTP 503"},
    {DK_VAULT_GET, 307, NULL, NULL, DK_VAULT_FAILED, DK_E_PROVIDER,
     "HTTP 307, a redirect, which is not followed"},
    {DK_VAULT_GET, 201, NULL, NULL, DK_VAULT_FAILED, DK_E_PROVIDER, "HTTP 201"},
};

static void expect_fault(size_t i, const char *inner_name)
{
    char body[512] = "<html>no</html>";
    struct dk_vault_ask ask = {
        .op = faults[i].op, .name = "kek", .version = VERSION, .api_version = "7.4"};
    if (faults[i].code != NULL) {
        snprintf(body, sizeof body, "{\"error\":{\"code\":\"%s\",\"message\":\"it is\\nso\"",
                 faults[i].code);
        if (faults[i].inner != NULL) {
            size_t n = strlen(body);
            snprintf(body + n, sizeof body - n, ",\"%s\":{\"code\":\"%s\"}", inner_name,
                     faults[i].inner);
        }
        strcat(body, "}}");
    }
    const struct dk_http_reply reply = {
        .status = faults[i].status, .head = dk_view_str(HEAD), .body = dk_view_str(body)};
    dk_err_clear(&err);
    assert_int_equal(dk_vault_explain(&ask, &reply, &err), faults[i].fault);
    assert_int_equal(err.rc, faults[i].rc);
    assert_int_equal(err.backend, faults[i].status);
    DK_TEST_SAYS(err, faults[i].says);
    assert_null(strpbrk(err.text, "\r\n"));
}

static void F28_R15_each_refusal_has_its_code(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++) {
        expect_fault(i, "innererror");
        expect_fault(i, "innerError");
    }
}

static void a_version_is_not_named_where_none_was_asked_for(void **state)
{
    (void)state;
    static const char body[] = "{\"error\":{\"code\":\"KeyNotFound\",\"message\":\"\"}}";
    struct dk_vault_ask ask = {
        .op = DK_VAULT_GET, .name = "kek", .version = "", .api_version = "7"};
    const struct dk_http_reply reply = {.status = 404, .body = dk_view_str(body)};
    dk_err_clear(&err);
    assert_int_equal(dk_vault_explain(&ask, &reply, &err), DK_VAULT_FAILED);
    DK_TEST_SAYS(err, "has no key kek (request )");
}

int main(void)
{
    dk_json_in_setup();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_key_is_read),
        cmocka_unit_test(a_key_without_attributes_is_one_that_may),
        cmocka_unit_test(a_key_that_cannot_be_one_is_refused),
        cmocka_unit_test(only_some_kinds_of_key_will_do),
        cmocka_unit_test(F28_a_key_that_may_not_wrap_now_says_why),
        cmocka_unit_test(F28_R15_each_refusal_has_its_code),
        cmocka_unit_test(a_version_is_not_named_where_none_was_asked_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
