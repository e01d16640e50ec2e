#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

/* Published signatures (sigv4.txt says where they come from), and four that botocore made. */
#include <stdlib.h>

#include "provider/aws_sign.h"
#include "support/expect.h"

#define KEY_ID "AKIDEXAMPLE"
#define SECRET "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
#define AT_US (INT64_C(1440938160) * 1000000) /* 20150830T123600Z */

static struct dk_err err;
static struct dk_suite suite;
static uint8_t cell[DK_SECRET_CELL];
static struct dk_secret secret = {cell, sizeof SECRET - 1};

static struct dk_endpoint endpoint_of(const char *host)
{
    struct dk_endpoint to = {.tls = true, .port = 443};
    snprintf(to.host, sizeof to.host, "%s", host);
    snprintf(to.authority, sizeof to.authority, "%s", host);
    return to;
}

static void begin(struct dk_http_request *request, const struct dk_endpoint *to)
{
    dk_http_request_init(request, &dk_mem_default);
    request->to = to;
    request->method = "POST";
}

static struct dk_sigv4 signer(const char *service, const char *token)
{
    return (struct dk_sigv4){&suite, KEY_ID, &secret, token, "us-east-1", service, AT_US};
}

/* What follows `name=` in the line Authorization. */
static const char *authorization(const struct dk_http_request *request, const char *name)
{
    for (const char *line = dk_http_next_line(request, NULL); line != NULL;
         line = dk_http_next_line(request, line)) {
        const char *at = strncmp(line, "Authorization: ", 15) == 0 ? strstr(line, name) : NULL;
        if (at != NULL) {
            return at + strlen(name);
        }
    }
    fail_msg("%s is in no Authorization", name);
    return NULL;
}

/* ---- the published ones ---------------------------------------------------------------------- */

/* The canonical request is made over all that is sent with the date and the token. */
static void check_canonical(const struct dk_http_request *request, const char *digest)
{
    struct dk_buf canonical;
    struct dk_http_request copy;
    char names[DK_SIGV4_SIGNED], hex[2 * DK_SHA256_LEN + 1];
    uint8_t got[DK_SHA256_LEN];
    begin(&copy, request->to);
    copy.method = request->method;
    DK_TEST_OK(err, dk_buf_add(&copy.body, request->body.p, request->body.n, &err));
    for (const char *line = dk_http_next_line(request, NULL); line != NULL;
         line = dk_http_next_line(request, line)) {
        if (strncmp(line, "Authorization: ", 15) != 0) {
            DK_TEST_OK(err, dk_buf_add(&copy.head, line, strlen(line) + 1, &err));
        }
    }
    dk_buf_init(&canonical, &dk_mem_default, DK_HTTP_REPLY_MAX);
    DK_TEST_OK(err, dk_sigv4_canonical(&suite, &copy, &canonical, names, &err));
    DK_TEST_OK(err, dk_sha256(&suite, dk_view_of(canonical.p, canonical.n), got, &err));
    dk_hex_encode(got, sizeof got, hex);
    if (strcmp(hex, digest) != 0) {
        fail_msg("the canonical request is:\n%.*s", (int)canonical.n, (const char *)canonical.p);
    }
    dk_buf_clear(&canonical);
    dk_http_request_clear(&copy);
}

struct reading {
    struct dk_endpoint to;
    struct dk_http_request request;
    char method[8];
    char token[512];
    char canonical[65];
    unsigned cases;
};

static void end_case(struct reading *r, const char *signature)
{
    struct dk_sigv4 sign = signer("service", r->token[0] != '\0' ? r->token : NULL);
    r->request.method = r->method;
    DK_TEST_OK(err, dk_sigv4_sign(&sign, &r->request, &err));
    check_canonical(&r->request, r->canonical);
    assert_string_equal(authorization(&r->request, "Signature="), signature);
    assert_memory_equal(authorization(&r->request, "Credential="),
                        "AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, ", 53);
    dk_http_request_clear(&r->request);
    r->cases++;
}

static void take_line(struct reading *r, char *line)
{
    char *rest = strchr(line, ' ');
    assert_non_null(rest);
    *rest++ = '\0';
    if (strcmp(line, "case") == 0) {
        begin(&r->request, &r->to);
        r->token[0] = '\0';
    } else if (strcmp(line, "method") == 0) {
        snprintf(r->method, sizeof r->method, "%s", rest);
    } else if (strcmp(line, "header") == 0) {
        char *colon = strchr(rest, ':');
        assert_non_null(colon);
        *colon = '\0';
        DK_TEST_OK(err, dk_http_add(&r->request, rest, colon + 1, &err));
    } else if (strcmp(line, "token") == 0) {
        snprintf(r->token, sizeof r->token, "%s", rest);
    } else if (strcmp(line, "body") == 0) {
        DK_TEST_OK(err, dk_http_body(&r->request, rest, &err));
    } else if (strcmp(line, "canonical") == 0) {
        snprintf(r->canonical, sizeof r->canonical, "%s", rest);
    } else {
        assert_string_equal(line, "signature");
        end_case(r, rest);
    }
}

static void the_12_published_requests_are_signed_as_published(void **state)
{
    (void)state;
    FILE *file = fopen("tests/vectors/sigv4.txt", "re"); /* tests run in the repository's root */
    struct reading r = {.to = endpoint_of("example.amazonaws.com")};
    char *line = NULL;
    size_t cap = 0;
    assert_non_null(file);
    while (getline(&line, &cap, file) >= 0) {
        line[strcspn(line, "\n")] = '\0';
        if (line[0] != '#') {
            take_line(&r, line);
        }
    }
    free(line);
    fclose(file);
    assert_int_equal(r.cases, 12);
}

/* ---- those of KMS ---------------------------------------------------------------------------- */

#define BODY                                                                                       \
    "{\"KeyId\":\"alias/dekhand\",\"KeySpec\":\"AES_256\",\"EncryptionContext\":{\"TenantId\":"    \
    "\"t-1\"}}"

static void kms_request(struct dk_http_request *request, const struct dk_endpoint *to)
{
    begin(request, to);
    DK_TEST_OK(err, dk_http_add(request, "X-Amz-Target", "TrentService.GenerateDataKey", &err));
    DK_TEST_OK(err, dk_http_add(request, "Content-Type", "application/x-amz-json-1.1", &err));
    DK_TEST_OK(err, dk_http_body(request, BODY, &err));
}

static void a_call_of_kms_is_signed_as_botocore_signs_it(void **state)
{
    (void)state;
    static const struct {
        const char *token;
        const char *length;
        const char *names;
        const char *signature;
    } cases[] = {
        {NULL, NULL, "content-type;host;x-amz-date;x-amz-target, ",
         "be4f839b428ad112d2dbe96eaafebe295bb3578130c5dcad613ba62804a3f019"},
        {"SESSIONTOKENEXAMPLE==", NULL,
         "content-type;host;x-amz-date;x-amz-security-token;x-amz-target, ",
         "953890da7fdb4723835033436784e1e9f16afca4c756b978eb7e62e985c2e64d"},
        {NULL, "84", "content-length;content-type;host;x-amz-date;x-amz-target, ",
         "08e3419069089be10dc2c196e8a7e3e6fafedbbf4e4c31ea712e30c489e6ee05"},
    };
    struct dk_endpoint to = endpoint_of("kms.us-east-1.amazonaws.com");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct dk_http_request request;
        struct dk_sigv4 sign = signer("kms", cases[i].token);
        kms_request(&request, &to);
        if (cases[i].length != NULL) {
            DK_TEST_OK(err, dk_http_add(&request, "Content-Length", cases[i].length, &err));
        }
        DK_TEST_OK(err, dk_sigv4_sign(&sign, &request, &err));
        assert_string_equal(authorization(&request, "Signature="), cases[i].signature);
        assert_memory_equal(authorization(&request, "SignedHeaders="), cases[i].names,
                            strlen(cases[i].names));
        dk_http_request_clear(&request);
    }
}

static void the_hash_of_its_body_ends_the_canonical_request(void **state)
{
    (void)state;
    static const char digest[] = "698f7044254a50ed49c6d904d748038b72976e7cf1768310dc4f2c1144b6c003";
    struct dk_endpoint to = endpoint_of("kms.us-east-1.amazonaws.com");
    struct dk_http_request request;
    struct dk_buf canonical;
    char names[DK_SIGV4_SIGNED];
    kms_request(&request, &to);
    dk_buf_init(&canonical, &dk_mem_default, 4096);
    DK_TEST_OK(err, dk_sigv4_canonical(&suite, &request, &canonical, names, &err));
    assert_true(canonical.n > 64);
    assert_memory_equal(canonical.p + canonical.n - 64, digest, 64);
    assert_string_equal(names, "content-type;host;x-amz-target");
    dk_buf_clear(&canonical);
    dk_http_request_clear(&request);
}

/* A port that is not the service's own stands in Host, and is signed with it. */
static void the_port_is_signed(void **state)
{
    (void)state;
    struct dk_endpoint to = endpoint_of("localhost:8443"), other = endpoint_of("localhost:8444");
    struct dk_http_request one, two;
    struct dk_sigv4 sign = signer("kms", NULL);
    kms_request(&one, &to);
    kms_request(&two, &other);
    DK_TEST_OK(err, dk_sigv4_sign(&sign, &one, &err));
    DK_TEST_OK(err, dk_sigv4_sign(&sign, &two, &err));
    assert_string_not_equal(authorization(&one, "Signature="), authorization(&two, "Signature="));
    dk_http_request_clear(&one);
    dk_http_request_clear(&two);
}

/* ---- what does not fit ----------------------------------------------------------------------- */

static void too_many_lines_and_long_names_are_refused(void **state)
{
    (void)state;
    struct dk_endpoint to = endpoint_of("kms.us-east-1.amazonaws.com");
    struct dk_http_request request;
    struct dk_sigv4 sign = signer("kms", NULL);
    char name[80];
    begin(&request, &to);
    for (int i = 0; i < DK_SIGV4_LINES - 2; i++) { /* host and the date come on top */
        snprintf(name, sizeof name, "X-Line-%d", i);
        DK_TEST_OK(err, dk_http_add(&request, name, "v", &err));
    }
    DK_TEST_OK(err, dk_sigv4_sign(&sign, &request, &err));
    dk_http_request_clear(&request);
    DK_TEST_OK(err, dk_http_add(&request, "X-One-More", "v", &err));
    for (int i = 0; i < DK_SIGV4_LINES - 2; i++) {
        snprintf(name, sizeof name, "X-Line-%d", i);
        DK_TEST_OK(err, dk_http_add(&request, name, "v", &err));
    }
    DK_TEST_FAILS(err, LIMIT, dk_sigv4_sign(&sign, &request, &err));
    dk_http_request_clear(&request);
    memset(name, 'n', 70);
    name[70] = '\0';
    DK_TEST_OK(err, dk_http_add(&request, name, "v", &err));
    DK_TEST_FAILS(err, LIMIT, dk_sigv4_sign(&sign, &request, &err));
    dk_http_request_clear(&request);
}

static void a_token_with_a_line_end_is_not_signed(void **state)
{
    (void)state;
    struct dk_endpoint to = endpoint_of("kms.us-east-1.amazonaws.com");
    struct dk_http_request request;
    struct dk_sigv4 sign = signer("kms", "token\r\nX-Injected: 1");
    kms_request(&request, &to);
    DK_TEST_FAILS(err, CONFIG, dk_sigv4_sign(&sign, &request, &err));
    assert_null(strstr(err.text, "Injected"));
    dk_http_request_clear(&request);
}

static void nothing_is_left_when_an_allocation_fails(void **state)
{
    (void)state;
    struct dk_endpoint to = endpoint_of("kms.us-east-1.amazonaws.com");
    struct dk_test_world w;
    dk_test_world_init(&w);
    bool signed_at_last = false;
    for (unsigned n = 1; !signed_at_last && n < 50; n++) {
        struct dk_http_request request;
        struct dk_sigv4 sign = signer("kms", "token");
        dk_http_request_init(&request, &w.world.mem);
        request.to = &to;
        request.method = "POST";
        w.fail_alloc_at = w.allocs + n;
        dk_err_clear(&err);
        signed_at_last = dk_sigv4_sign(&sign, &request, &err) == DK_OK;
        assert_true(signed_at_last || err.rc == DK_E_NOMEM);
        dk_http_request_clear(&request);
        assert_int_equal(w.live, 0);
        assert_true(signed_at_last || n < 49);
    }
    assert_true(signed_at_last);
}

static int open_suite(void **state)
{
    (void)state;
    dk_err_clear(&err);
    memcpy(cell, SECRET, sizeof SECRET - 1);
    return dk_suite_open(&dk_world_default, &suite, &err) == DK_OK ? 0 : -1;
}

static int close_suite(void **state)
{
    (void)state;
    dk_suite_close(&suite);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_12_published_requests_are_signed_as_published),
        cmocka_unit_test(a_call_of_kms_is_signed_as_botocore_signs_it),
        cmocka_unit_test(the_hash_of_its_body_ends_the_canonical_request),
        cmocka_unit_test(the_port_is_signed),
        cmocka_unit_test(too_many_lines_and_long_names_are_refused),
        cmocka_unit_test(a_token_with_a_line_end_is_not_signed),
        cmocka_unit_test(nothing_is_left_when_an_allocation_fails),
    };
    return cmocka_run_group_tests_name("sigv4", tests, open_suite, close_suite);
}
