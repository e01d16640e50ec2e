#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include <openssl/bio.h>
#include <openssl/ec.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>
#include <sys/stat.h>
#include <unistd.h>

#include "net/json_in.h"
#include "provider/azure_grant.h"
#include "provider/azure_jwt.h"
#include "support/expect.h"

#define TENANT "11111111-2222-3333-4444-555555555555"
#define RESOURCE "https://vault.azure.net"
#define NOW_S INT64_C(1790000000)

static struct dk_test_world w;
static struct dk_suite suite;
static struct dk_err err;
static struct dk_azure_setup setup;
static char client[] = "aaaaaaaa-bbbb", secret[] = "canary~ /+&=%25";

static int set_up(void **state)
{
    (void)state;
    dk_test_world_init(&w);
    DK_TEST_OK(err, dk_suite_open(&w.world, &suite, &err));
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    dk_suite_close(&suite);
    assert_int_equal(w.live, 0);
    return 0;
}

static void setup_as(enum dk_azure_source source)
{
    static const char *const told[] = {"AZURE_CLIENT_SECRET", "AZURE_CLIENT_CERTIFICATE_PATH",
                                       "AZURE_FEDERATED_TOKEN_FILE", "IDENTITY_ENDPOINT", "IMDS"};
    setup = (struct dk_azure_setup){.mem = &w.world.mem,
                                    .source = source,
                                    .told = told[source],
                                    .authority = {.tls = true, .port = 443},
                                    .tenant = TENANT,
                                    .client_id = client,
                                    .secret = secret};
    strcpy(setup.authority.host, "login.microsoftonline.com");
    strcpy(setup.authority.authority, "login.microsoftonline.com");
}

/* ---- requests -------------------------------------------------------------------------------- */

static bool has_line(const struct dk_http_request *request, const char *line)
{
    for (const char *p = NULL; (p = dk_http_next_line(request, p)) != NULL;) {
        if (strcmp(p, line) == 0) {
            return true;
        }
    }
    return false;
}

static void expect_body(const struct dk_http_request *request, const char *body)
{
    assert_int_equal(request->body.n, strlen(body));
    assert_memory_equal(request->body.p, body, strlen(body));
}

static void a_secret_is_percent_encoded(void **state)
{
    (void)state;
    struct dk_http_request request;
    setup_as(DK_AZURE_SECRET);
    dk_http_request_init(&request, &w.world.mem);
    DK_TEST_OK(err, dk_azure_ask_token(&setup, RESOURCE, secret, &request, &err));
    assert_ptr_equal(request.to, &setup.authority);
    assert_string_equal(request.method, "POST");
    assert_string_equal(request.path, "/" TENANT "/oauth2/v2.0/token");
    assert_true(has_line(&request, "Content-Type: application/x-www-form-urlencoded"));
    expect_body(&request,
                "client_id=aaaaaaaa-bbbb&scope=https%3A%2F%2Fvault.azure.net%2F.default&"
                "grant_type=client_credentials&client_secret=canary~%20%2F%2B%26%3D%2525");
    dk_http_request_clear(&request);
}

static void an_assertion_says_what_it_is(void **state)
{
    (void)state;
    struct dk_http_request request;
    setup_as(DK_AZURE_WORKLOAD);
    dk_http_request_init(&request, &w.world.mem);
    DK_TEST_OK(err, dk_azure_ask_token(&setup, RESOURCE, "a.b-c_d.e", &request, &err));
    expect_body(&request,
                "client_id=aaaaaaaa-bbbb&scope=https%3A%2F%2Fvault.azure.net%2F.default&"
                "grant_type=client_credentials&client_assertion_type=urn%3Aietf%3Aparams%3Aoauth"
                "%3Aclient-assertion-type%3Ajwt-bearer&client_assertion=a.b-c_d.e");
    dk_http_request_clear(&request);
}

static void managed_identities_are_asked_in_two_ways(void **state)
{
    (void)state;
    struct dk_http_request request;
    setup_as(DK_AZURE_IMDS);
    dk_http_request_init(&request, &w.world.mem);
    DK_TEST_OK(err, dk_azure_ask_identity(&setup, RESOURCE, &request, &err));
    assert_ptr_equal(request.to, &setup.identity);
    assert_string_equal(request.method, "GET");
    assert_string_equal(request.path,
                        "/metadata/identity/oauth2/token?api-version=2018-02-01&"
                        "resource=https%3A%2F%2Fvault.azure.net&client_id=aaaaaaaa-bbbb");
    assert_true(has_line(&request, "Metadata: true"));
    dk_http_request_clear(&request);
    setup_as(DK_AZURE_APP_SERVICE);
    setup.client_id = NULL;
    dk_http_request_init(&request, &w.world.mem);
    DK_TEST_OK(err, dk_azure_ask_identity(&setup, RESOURCE, &request, &err));
    assert_string_equal(request.path,
                        "?api-version=2019-08-01&resource=https%3A%2F%2Fvault.azure.net");
    assert_true(has_line(&request, "X-IDENTITY-HEADER: canary~ /+&=%25"));
    assert_int_equal(request.body.n, 0);
    dk_http_request_clear(&request);
}

static void what_is_too_long_is_not_asked(void **state)
{
    (void)state;
    static char long_one[1200];
    struct dk_http_request request;
    char url[64];
    memset(long_one, 'a', sizeof long_one - 1);
    setup_as(DK_AZURE_IMDS);
    setup.client_id = long_one;
    dk_http_request_init(&request, &w.world.mem);
    DK_TEST_FAILS(err, LIMIT, dk_azure_ask_identity(&setup, RESOURCE, &request, &err));
    dk_http_request_clear(&request);
    DK_TEST_FAILS(err, CONFIG, dk_azure_token_url(&setup, url, sizeof url, &err));
}

static void the_token_url_has_the_path_of_its_host(void **state)
{
    (void)state;
    char url[DK_URL_MAX];
    setup_as(DK_AZURE_CERTIFICATE);
    DK_TEST_OK(err, dk_azure_token_url(&setup, url, sizeof url, &err));
    assert_string_equal(url, "https://login.microsoftonline.com/" TENANT "/oauth2/v2.0/token");
    setup.authority.tls = false;
    strcpy(setup.authority.authority, "localhost:8080");
    strcpy(setup.authority.path, "/entra");
    DK_TEST_OK(err, dk_azure_token_url(&setup, url, sizeof url, &err));
    assert_string_equal(url, "http://localhost:8080/entra/" TENANT "/oauth2/v2.0/token");
}

/* ---- answers --------------------------------------------------------------------------------- */

static struct dk_azure_grant grant;

static dk_rc read_grant(const char *text)
{
    dk_err_clear(&err);
    return dk_azure_read_grant(dk_view_str(text), NOW_S * 1000000 + 999999, &grant, &err);
}

static void a_grant_says_how_long_it_is_good(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t seconds;
    } good[] = {
        {"{\"token_type\":\"Bearer\",\"expires_in\":3599,\"access_token\":\"t.o-k_en\"}", 3599},
        {"{\"expires_in\":\"86399\",\"expires_on\":\"1\",\"access_token\":\"t.o-k_en\"}", 86399},
        {"{\"token_type\":\"bearer\",\"expires_on\":\"1790000100\",\"access_token\":\"t.o-k_en\"}",
         100},
        {"{\"expires_in\":99999999999,\"access_token\":\"t.o-k_en\"}", 86400 * 7},
    };
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        assert_int_equal(read_grant(good[i].text), DK_OK);
        assert_int_equal(grant.seconds, good[i].seconds);
        assert_string_equal(grant.token, "t.o-k_en");
    }
    dk_azure_grant_clear(&grant);
    assert_int_equal(grant.token[0] + grant.token[3], 0);
}

static void F29_a_grant_that_cannot_be_one_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "[]",
        "{\"expires_in\":3599}",
        "{\"expires_in\":3599,\"access_token\":\"\"}",
        "{\"expires_in\":3599,\"access_token\":7}",
        "{\"expires_in\":3599,\"access_token\":\"a b\"}",
        "{\"expires_in\":3599,\"access_token\":\"a\\r\\nX-Evil: 1\"}",
        "{\"expires_in\":3599,\"access_token\":\"a\\u007f\"}",
        "{\"expires_in\":3599,\"access_token\":\"\\u00e4\"}",
        "{\"token_type\":\"PoP\",\"expires_in\":3599,\"access_token\":\"t\"}",
        "{\"access_token\":\"t\"}",
        "{\"expires_in\":0,\"access_token\":\"t\"}",
        "{\"expires_in\":-5,\"access_token\":\"t\"}",
        "{\"expires_in\":\"soon\",\"access_token\":\"t\"}",
        "{\"expires_on\":\"1790000000\",\"access_token\":\"t\"}",
        "{\"expires_on\":\"1\",\"access_token\":\"t\"}",
        "{\"expires_in\":3599,\"access_token\":\"t\",\"access_token\":\"u\"}",
    };
    static char long_one[DK_AZURE_TOKEN_MAX + 64];
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        if (read_grant(bad[i]) != DK_E_PROVIDER) {
            fail_msg("taken: %s", bad[i]);
        }
    }
    int n = snprintf(long_one, sizeof long_one, "{\"expires_in\":1,\"access_token\":\"");
    memset(long_one + n, 'a', DK_AZURE_TOKEN_MAX + 1);
    strcpy(long_one + n + DK_AZURE_TOKEN_MAX + 1, "\"}");
    assert_int_equal(read_grant(long_one), DK_E_PROVIDER);
    strcpy(long_one + n + DK_AZURE_TOKEN_MAX, "\"}");
    assert_int_equal(read_grant(long_one), DK_OK);
    dk_azure_grant_clear(&grant);
}

/* ---- refusals -------------------------------------------------------------------------------- */

#define AADSTS(number, text)                                                                       \
    "{\"error\":\"invalid_client\",\"error_description\":\"AADSTS" number ": " text                \
    ". Trace ID: 1-2-3 Correlation ID: 4 Timestamp: 5\",\"error_codes\":[" number "]}"

static const struct {
    enum dk_azure_source source;
    long status;
    const char *body;
    enum dk_http_next next;
    dk_rc rc;
    const char *says;
} refusals[] = {
    {DK_AZURE_SECRET, 401, AADSTS("7000215", "Invalid client secret provided"), DK_HTTP_DONE,
     DK_E_PROVIDER_DENIED,
     "Microsoft Entra: AZURE_CLIENT_SECRET is not the application's secret (its value, not its "
     "id) (HTTP 401 invalid_client: AADSTS7000215: Invalid client secret provided.)"},
    {DK_AZURE_SECRET, 401, AADSTS("7000222", "expired"), DK_HTTP_DONE, DK_E_PROVIDER_DENIED,
     "the secret of the application has expired"},
    {DK_AZURE_SECRET, 400, AADSTS("700016", "not found"), DK_HTTP_DONE, DK_E_PROVIDER_DENIED,
     "no application AZURE_CLIENT_ID"},
    {DK_AZURE_SECRET, 400, AADSTS("90002", "not found"), DK_HTTP_DONE, DK_E_PROVIDER_DENIED,
     "no directory AZURE_TENANT_ID"},
    {DK_AZURE_WORKLOAD, 401, AADSTS("700213", "no match"), DK_HTTP_DONE, DK_E_PROVIDER_DENIED,
     "no federated credential for this workload's subject"},
    {DK_AZURE_CERTIFICATE, 401, AADSTS("700024", "time"), DK_HTTP_DONE, DK_E_PROVIDER_DENIED,
     "are file and clock right?"},
    {DK_AZURE_CERTIFICATE, 401, AADSTS("700027", "who"), DK_HTTP_DONE, DK_E_PROVIDER_DENIED,
     "the certificate is not the application's"},
    {DK_AZURE_SECRET, 400, AADSTS("1", "new"), DK_HTTP_DONE, DK_E_PROVIDER_DENIED,
     "Microsoft Entra: no token was given (HTTP 400 invalid_client: AADSTS1: new.)"},
    {DK_AZURE_SECRET, 400, "{\"error\":\"invalid_scope\"}", DK_HTTP_DONE, DK_E_PROVIDER_DENIED,
     "no token was given (HTTP 400 invalid_scope: )"},
    {DK_AZURE_SECRET, 429, AADSTS("90055", "many"), DK_HTTP_LATER, DK_E_THROTTLED,
     "Microsoft Entra gave no token: HTTP 429 invalid_client"},
    {DK_AZURE_SECRET, 408, "", DK_HTTP_LATER, DK_E_UNREACHABLE, "HTTP 408"},
    {DK_AZURE_SECRET, 503, "<html>", DK_HTTP_LATER, DK_E_UNREACHABLE, "HTTP 503"},
    {DK_AZURE_SECRET, 404, "", DK_HTTP_DONE, DK_E_PROVIDER,
     "what answers is not Microsoft Entra: HTTP 404"},
    {DK_AZURE_SECRET, 302, "", DK_HTTP_DONE, DK_E_PROVIDER,
     "HTTP 302, a redirect, which is not followed"},
    {DK_AZURE_IMDS, 404, "", DK_HTTP_LATER, DK_E_UNREACHABLE, "the managed identity gave no token"},
    {DK_AZURE_IMDS, 410, "", DK_HTTP_LATER, DK_E_UNREACHABLE, "HTTP 410"},
    {DK_AZURE_IMDS, 400,
     "{\"error\":\"invalid_request\",\"error_description\":\"Identity not found\"}", DK_HTTP_DONE,
     DK_E_PROVIDER_DENIED,
     "the managed identity: no token was given (HTTP 400 invalid_request: Identity not found)"},
    {DK_AZURE_APP_SERVICE, 404, "", DK_HTTP_DONE, DK_E_PROVIDER,
     "what answers is not the managed identity"},
    {DK_AZURE_APP_SERVICE, 401, "{\"statusCode\":401,\"message\":\"header\\nis wrong\"}",
     DK_HTTP_DONE, DK_E_PROVIDER_DENIED, "(HTTP 401 : header is wrong)"},
};

static void R15_each_refusal_of_a_token_has_its_code(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof refusals / sizeof refusals[0]; i++) {
        const struct dk_http_reply reply = {.status = refusals[i].status,
                                            .body = dk_view_str(refusals[i].body)};
        setup_as(refusals[i].source);
        dk_err_clear(&err);
        assert_int_equal(dk_azure_explain_grant(&setup, &reply, &err), refusals[i].next);
        assert_int_equal(err.rc, refusals[i].rc);
        DK_TEST_SAYS(err, refusals[i].says);
        assert_null(strstr(err.text, "Trace ID"));
    }
}

/* ---- certificates ---------------------------------------------------------------------------- */

static X509 *certificate_of(EVP_PKEY *key)
{
    X509 *x = X509_new();
    assert_non_null(x);
    ASN1_INTEGER_set(X509_get_serialNumber(x), 7);
    X509_gmtime_adj(X509_getm_notBefore(x), 0);
    X509_gmtime_adj(X509_getm_notAfter(x), 3600);
    X509_set_pubkey(x, key);
    assert_true(X509_sign(x, key, EVP_sha256()) > 0);
    return x;
}

static EVP_PKEY *keys[2]; /* RSA */

static EVP_PKEY *key_of(size_t i)
{
    if (keys[i] == NULL) {
        keys[i] = EVP_RSA_gen(2048);
        assert_non_null(keys[i]);
    }
    return keys[i];
}

/* The letters: k, K = the private key 0, 1; c, C = their certificates; e = encrypted; . = noise. */
static size_t pem_of(const char *parts, char *out, size_t cap)
{
    BIO *bio = BIO_new(BIO_s_mem());
    char *text;
    for (; *parts != '\0'; parts++) {
        EVP_PKEY *key = key_of(*parts == 'K' || *parts == 'C');
        if (*parts == 'c' || *parts == 'C') {
            X509 *x = certificate_of(key);
            PEM_write_bio_X509(bio, x);
            X509_free(x);
        } else if (*parts == 'e') {
            PEM_write_bio_PrivateKey(bio, key, EVP_aes_128_cbc(), (const uint8_t *)"pw", 2, NULL,
                                     NULL);
        } else if (*parts == '.') {
            BIO_puts(bio, "Bag Attributes: none\n");
        } else {
            PEM_write_bio_PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL);
        }
    }
    long n = BIO_get_mem_data(bio, &text);
    assert_true(n >= 0 && (size_t)n < cap);
    dk_put_bytes((uint8_t *)out, text, (size_t)n);
    BIO_free(bio);
    return (size_t)n;
}

static void a_certificate_is_found_among_others(void **state)
{
    (void)state;
    static const char *const good[] = {"kc", "ck", ".k.c", "Ckc", "cCk", "kCCc"};
    char pem[16384];
    struct dk_azure_certificate certificate;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        size_t n = pem_of(good[i], pem, sizeof pem);
        DK_TEST_OK(err, dk_azure_certificate_parse(dk_view_of(pem, n), &certificate, &err));
        assert_int_equal(EVP_PKEY_eq(certificate.key, key_of(0)), 1);
        dk_azure_certificate_clear(&certificate);
        assert_null(certificate.key);
    }
}

static void a_text_without_key_or_its_certificate_is_E_CONFIG(void **state)
{
    (void)state;
    static const struct {
        const char *parts, *says;
    } bad[] = {{"", "it is empty"},
               {".", "no private key"},
               {"c", "no private key"},
               {"ec", "no private key that can be read (PEM, without a password)"},
               {"k", "no certificate of its private key"},
               {"kC", "no certificate of its private key"}};
    static char huge[65537];
    char pem[16384];
    struct dk_azure_certificate certificate;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        size_t n = pem_of(bad[i].parts, pem, sizeof pem);
        DK_TEST_FAILS(err, CONFIG,
                      dk_azure_certificate_parse(dk_view_of(pem, n), &certificate, &err));
        DK_TEST_SAYS(err, bad[i].says);
        assert_null(certificate.key);
    }
    DK_TEST_FAILS(err, CONFIG,
                  dk_azure_certificate_parse(dk_view_of(huge, sizeof huge), &certificate, &err));
}

static void a_key_that_is_too_weak_or_no_rsa_is_E_CONFIG(void **state)
{
    (void)state;
    EVP_PKEY *const weak[] = {EVP_RSA_gen(1024), EVP_EC_gen("P-256")};
    for (size_t i = 0; i < 2; i++) {
        struct dk_azure_certificate certificate;
        BIO *bio = BIO_new(BIO_s_mem());
        char *text;
        PEM_write_bio_PrivateKey(bio, weak[i], NULL, NULL, 0, NULL, NULL);
        long n = BIO_get_mem_data(bio, &text);
        DK_TEST_FAILS(err, CONFIG,
                      dk_azure_certificate_parse(dk_view_of(text, (size_t)n), &certificate, &err));
        DK_TEST_SAYS(err, "none of RSA with 2048 bits");
        BIO_free(bio);
        EVP_PKEY_free(weak[i]);
    }
}

static void F75_the_file_has_to_be_private(void **state)
{
    (void)state;
    char folder[64], path[96], other[96], pem[16384];
    struct dk_azure_certificate certificate;
    size_t n = pem_of("kc", pem, sizeof pem);
    dk_test_folder_new(folder);
    snprintf(path, sizeof path, "%s/client.pem", folder);
    snprintf(other, sizeof other, "%s/link.pem", folder);
    dk_test_file_write(path, pem, n, 0600);
    DK_TEST_OK(err, dk_azure_certificate_read(&suite, path, &certificate, &err));
    dk_azure_certificate_clear(&certificate);
    assert_int_equal(symlink(path, other), 0);
    DK_TEST_FAILS(err, CONFIG, dk_azure_certificate_read(&suite, other, &certificate, &err));
    assert_int_equal(chmod(path, 0644), 0);
    DK_TEST_FAILS(err, CONFIG, dk_azure_certificate_read(&suite, path, &certificate, &err));
    DK_TEST_SAYS(err, "AZURE_CLIENT_CERTIFICATE_PATH: ");
    DK_TEST_SAYS(err, path);
    assert_int_equal(unlink(path), 0);
    DK_TEST_FAILS(err, CONFIG, dk_azure_certificate_read(&suite, path, &certificate, &err));
    static char huge[70000];
    dk_test_file_write(path, huge, sizeof huge, 0600);
    DK_TEST_FAILS(err, CONFIG, dk_azure_certificate_read(&suite, path, &certificate, &err));
    DK_TEST_SAYS(err, "larger than 65536 bytes");
    dk_test_folder_remove(folder);
}

/* ---- assertions ------------------------------------------------------------------------------ */

static size_t decode(const char *text, size_t len, char *out, size_t cap)
{
    size_t n = 0;
    assert_true(dk_base64url_decoded_len(len, &n) && n < cap);
    assert_true(dk_base64url_decode(text, len, (uint8_t *)out));
    out[n] = '\0';
    return n;
}

static bool verifies(EVP_PKEY *key, const char *message, size_t n, const char *signature,
                     size_t signature_n)
{
    EVP_PKEY_CTX *how = NULL;
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool ok = EVP_DigestVerifyInit(ctx, &how, EVP_sha256(), NULL, key) == 1 &&
              EVP_PKEY_CTX_set_rsa_padding(how, RSA_PKCS1_PSS_PADDING) == 1 &&
              EVP_PKEY_CTX_set_rsa_pss_saltlen(how, 32) == 1 &&
              EVP_DigestVerify(ctx, (const uint8_t *)signature, signature_n,
                               (const uint8_t *)message, n) == 1;
    EVP_MD_CTX_free(ctx);
    return ok;
}

static void an_assertion_is_what_rfc_7518_and_7523_want(void **state)
{
    (void)state;
    char pem[16384], jwt[DK_AZURE_JWT_MAX + 1], part[2048], expected[256];
    char thumbprint[DK_BASE64URL_LEN(32) + 1] = "";
    struct dk_azure_certificate certificate;
    const struct dk_azure_claims claims = {.audience = "https://login/t/oauth2/v2.0/token",
                                           .client_id = "app\"1",
                                           .jti = "id-1",
                                           .now_s = NOW_S};
    size_t n = pem_of("kc", pem, sizeof pem);
    DK_TEST_OK(err, dk_azure_certificate_parse(dk_view_of(pem, n), &certificate, &err));
    DK_TEST_OK(err, dk_azure_jwt_make(&certificate, &claims, jwt, &err));
    const char *dot = strchr(jwt, '.'), *last = strrchr(jwt, '.');
    assert_true(dot != NULL && last > dot);
    decode(jwt, (size_t)(dot - jwt), part, sizeof part);
    dk_base64url_encode(certificate.thumbprint, 32, thumbprint);
    snprintf(expected, sizeof expected, "{\"alg\":\"PS256\",\"typ\":\"JWT\",\"x5t#S256\":\"%s\"}",
             thumbprint);
    assert_string_equal(part, expected);
    decode(dot + 1, (size_t)(last - dot - 1), part, sizeof part);
    assert_string_equal(part, "{\"aud\":\"https://login/t/oauth2/v2.0/token\",\"iss\":\"app\\\"1\","
                              "\"sub\":\"app\\\"1\",\"jti\":\"id-1\",\"nbf\":1789999940,"
                              "\"exp\":1790000540}");
    n = decode(last + 1, strlen(last + 1), part, sizeof part);
    assert_int_equal(n, 256);
    assert_true(verifies(key_of(0), jwt, (size_t)(last - jwt), part, n));
    assert_false(verifies(key_of(1), jwt, (size_t)(last - jwt), part, n));
    dk_azure_certificate_clear(&certificate);
}

static void an_assertion_that_cannot_be_made_is_E_CONFIG(void **state)
{
    (void)state;
    static char long_one[2000];
    char jwt[DK_AZURE_JWT_MAX + 1];
    struct dk_azure_claims claims = {
        .audience = "a", .client_id = long_one, .jti = "id-1", .now_s = NOW_S};
    struct dk_azure_certificate certificate = {.key = key_of(0)};
    memset(long_one, 'a', sizeof long_one - 1);
    DK_TEST_FAILS(err, CONFIG, dk_azure_jwt_make(&certificate, &claims, jwt, &err));
    DK_TEST_SAYS(err, "AZURE_CLIENT_ID");
    claims.client_id = "app";
    certificate.key = EVP_EC_gen("P-256");
    DK_TEST_FAILS(err, CONFIG, dk_azure_jwt_make(&certificate, &claims, jwt, &err));
    dk_azure_certificate_clear(&certificate);
}

int main(void)
{
    dk_json_in_setup();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_secret_is_percent_encoded),
        cmocka_unit_test(an_assertion_says_what_it_is),
        cmocka_unit_test(managed_identities_are_asked_in_two_ways),
        cmocka_unit_test(what_is_too_long_is_not_asked),
        cmocka_unit_test(the_token_url_has_the_path_of_its_host),
        cmocka_unit_test(a_grant_says_how_long_it_is_good),
        cmocka_unit_test(F29_a_grant_that_cannot_be_one_is_refused),
        cmocka_unit_test(R15_each_refusal_of_a_token_has_its_code),
        cmocka_unit_test(a_certificate_is_found_among_others),
        cmocka_unit_test(a_text_without_key_or_its_certificate_is_E_CONFIG),
        cmocka_unit_test(a_key_that_is_too_weak_or_no_rsa_is_E_CONFIG),
        cmocka_unit_test(F75_the_file_has_to_be_private),
        cmocka_unit_test(an_assertion_is_what_rfc_7518_and_7523_want),
        cmocka_unit_test(an_assertion_that_cannot_be_made_is_E_CONFIG),
    };
    int failed = cmocka_run_group_tests(tests, set_up, tear_down);
    EVP_PKEY_free(keys[0]);
    EVP_PKEY_free(keys[1]);
    return failed;
}
