#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

/* What AWS KMS says when it does not do what was asked: code, text, next step, and what is done. */
#include <stdlib.h>

#include "provider/aws_kms.h"
#include "support/expect.h"

#define ARN "arn:aws:kms:us-east-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"

static struct dk_err err;

static struct dk_http_reply reply_of(long status, const char *head, const char *body)
{
    return (struct dk_http_reply){status, dk_view_str(head), dk_view_str(body)};
}

static enum dk_aws_fault explain(long status, const char *head, const char *body)
{
    const struct dk_kms_ask ask = {.op = DK_KMS_DECRYPT, .key_id = ARN};
    struct dk_http_reply reply = reply_of(status, head, body);
    dk_err_clear(&err);
    enum dk_aws_fault fault = dk_kms_explain(&ask, &reply, &err);
    assert_int_not_equal(err.rc, DK_OK);
    assert_true(err.text[0] != '\0');
    assert_int_equal(err.backend, status);
    return fault;
}

/* ---- the table ------------------------------------------------------------------------------- */

static const struct {
    const char *code;
    enum dk_aws_fault fault;
    dk_rc rc;
    const char *words;
} rows[] = {
    {"ThrottlingException", DK_AWS_TRANSIENT, DK_E_THROTTLED, "throttles"},
    {"Throttling", DK_AWS_TRANSIENT, DK_E_THROTTLED, "throttles"},
    {"ThrottledException", DK_AWS_TRANSIENT, DK_E_THROTTLED, "throttles"},
    {"RequestLimitExceeded", DK_AWS_TRANSIENT, DK_E_THROTTLED, "throttles"},
    {"TooManyRequestsException", DK_AWS_TRANSIENT, DK_E_THROTTLED, "throttles"},
    {"KMSInternalException", DK_AWS_TRANSIENT, DK_E_UNREACHABLE, "AWS KMS failed"},
    {"DependencyTimeoutException", DK_AWS_TRANSIENT, DK_E_UNREACHABLE, "AWS KMS failed"},
    {"KeyUnavailableException", DK_AWS_TRANSIENT, DK_E_UNREACHABLE, "AWS KMS failed"},
    {"ExpiredTokenException", DK_AWS_CREDENTIALS, DK_E_PROVIDER_DENIED, "have expired"},
    {"ExpiredToken", DK_AWS_CREDENTIALS, DK_E_PROVIDER_DENIED, "have expired"},
    {"UnrecognizedClientException", DK_AWS_CREDENTIALS, DK_E_PROVIDER_DENIED, "does not know"},
    {"InvalidClientTokenId", DK_AWS_CREDENTIALS, DK_E_PROVIDER_DENIED, "does not know"},
    {"InvalidSignatureException", DK_AWS_SKEW, DK_E_PROVIDER_DENIED, "AWS_SECRET_ACCESS_KEY"},
    {"SignatureDoesNotMatch", DK_AWS_SKEW, DK_E_PROVIDER_DENIED, "AWS_SECRET_ACCESS_KEY"},
    {"RequestExpired", DK_AWS_SKEW, DK_E_PROVIDER_DENIED, "old one"},
    {"RequestInTheFuture", DK_AWS_SKEW, DK_E_PROVIDER_DENIED, "future"},
    {"RequestTimeTooSkewed", DK_AWS_SKEW, DK_E_PROVIDER_DENIED, "old one"},
    {"AccessDeniedException", DK_AWS_FAILED, DK_E_PROVIDER_DENIED,
     "Access denied to KMS key: said (permission needed: kms:Decrypt, key " ARN},
    {"AccessDenied", DK_AWS_FAILED, DK_E_PROVIDER_DENIED, "Access denied to KMS key"},
    {"InvalidGrantTokenException", DK_AWS_FAILED, DK_E_PROVIDER_DENIED, "Access denied to KMS key"},
    {"InvalidCiphertextException", DK_AWS_FAILED, DK_E_AUTH, "Invalid ciphertext"},
    {"IncorrectKeyException", DK_AWS_FAILED, DK_E_AUTH, "Invalid ciphertext"},
    {"DisabledException", DK_AWS_FAILED, DK_E_MASTER_KEY_DISABLED, "disabled"},
    {"KMSInvalidStateException", DK_AWS_FAILED, DK_E_MASTER_KEY_DISABLED, "pending deletion"},
    {"NotFoundException", DK_AWS_FAILED, DK_E_NO_MASTER_KEY, "no such key"},
    {"InvalidKeyUsageException", DK_AWS_FAILED, DK_E_CONFIG, "ENCRYPT_DECRYPT"},
    {"InvalidArnException", DK_AWS_FAILED, DK_E_CONFIG, "ARN"},
    {"ValidationException", DK_AWS_FAILED, DK_E_CONFIG, "does not take the request"},
    {"LimitExceededException", DK_AWS_FAILED, DK_E_PROVIDER, "limit"},
    {"UnsupportedOperationException", DK_AWS_FAILED, DK_E_CONFIG, "does not do this"},
};
#define ROWS (sizeof rows / sizeof rows[0])

static void check_row(size_t i, enum dk_aws_fault fault)
{
    if (fault != rows[i].fault || err.rc != rows[i].rc || strstr(err.text, rows[i].words) == NULL) {
        fail_msg("%s: %d %d %s", rows[i].code, (int)fault, (int)err.rc, err.text);
    }
    assert_non_null(strstr(err.text, "Decrypt"));
    assert_non_null(strstr(err.text, ARN));
    assert_true(strlen(dk_error_info(err.rc)->todo) > 10); /* the next step */
}

static void F27_F28_R15_each_code_is_told_and_treated_as_the_table_says(void **state)
{
    (void)state;
    for (size_t i = 0; i < ROWS; i++) {
        char body[200];
        snprintf(body, sizeof body, "{\"__type\":\"%s\",\"message\":\"said\"}", rows[i].code);
        check_row(i,
                  explain(400, "HTTP/1.1 400 Bad Request\r\nx-amzn-RequestId: r-1\r\n\r\n", body));
        assert_non_null(strstr(err.text, ": said ("));
        assert_non_null(strstr(err.text, "request r-1"));
    }
}

/* Whatever is around the code, and wherever it stands. */
static void R15_the_code_is_found_in_each_of_its_forms(void **state)
{
    (void)state;
    for (size_t i = 0; i < ROWS; i++) {
        char body[300], head[300];
        static const char *const forms[] = {
            "{\"__type\":\"com.amazonaws.kms#%s\"}",
            "{\"__type\":\"com.amazonaws.kms#%s:\",\"Message\":\"said\"}",
            "{\"__type\":\"%s:http://internal.amazon.com/coral#x/\"}",
            "<ErrorResponse><Error><Code>%s</Code><Message>said</Message></Error></ErrorResponse>",
        };
        for (size_t k = 0; k < sizeof forms / sizeof forms[0]; k++) {
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
            snprintf(body, sizeof body, forms[k], rows[i].code);
#pragma GCC diagnostic pop
            enum dk_aws_fault fault = explain(403, "HTTP/1.1 403 Forbidden\r\n\r\n", body);
            if (strcmp(rows[i].code, "AccessDeniedException") != 0) {
                check_row(i, fault);
            }
        }
        snprintf(head, sizeof head,
                 "HTTP/1.1 400 Bad Request\r\nX-AMZN-ErrorType: %s:http://internal.amazon.com/\r\n"
                 "\r\n",
                 rows[i].code);
        enum dk_aws_fault fault = explain(400, head, "{}");
        assert_int_equal(fault, rows[i].fault);
        assert_int_equal(err.rc, rows[i].rc);
    }
}

static void the_body_counts_before_the_header(void **state)
{
    (void)state;
    char code[64], message[200];
    struct dk_http_reply reply =
        reply_of(400, "HTTP/1.1 400 Bad\r\nx-amzn-errortype: FromHeader\r\n\r\n",
                 "{\"__type\":\"FromBody\",\"Message\":\"B\",\"message\":\"b\"}");
    dk_aws_error_of(&reply, code, message);
    assert_string_equal(code, "FromBody");
    assert_string_equal(message, "b");
}

/* ---- without a code: by the status ----------------------------------------------------------- */

static void F26_F29_without_a_code_the_status_counts(void **state)
{
    (void)state;
    static const struct {
        long status;
        enum dk_aws_fault fault;
        dk_rc rc;
        const char *words;
    } cases[] = {
        {500, DK_AWS_TRANSIENT, DK_E_UNREACHABLE, "AWS KMS failed at Decrypt: HTTP 500"},
        {502, DK_AWS_TRANSIENT, DK_E_UNREACHABLE, "HTTP 502"},
        {503, DK_AWS_TRANSIENT, DK_E_UNREACHABLE, "HTTP 503"},
        {504, DK_AWS_TRANSIENT, DK_E_UNREACHABLE, "HTTP 504"},
        {429, DK_AWS_TRANSIENT, DK_E_THROTTLED, "throttles Decrypt"},
        {401, DK_AWS_FAILED, DK_E_PROVIDER_DENIED, "Access denied to KMS key " ARN},
        {403, DK_AWS_FAILED, DK_E_PROVIDER_DENIED, "kms:Decrypt"},
        {400, DK_AWS_FAILED, DK_E_PROVIDER, "is not AWS KMS: HTTP 400"},
        {404, DK_AWS_FAILED, DK_E_PROVIDER, "HTTP 404"},
        {204, DK_AWS_FAILED, DK_E_PROVIDER, "HTTP 204"},
        {307, DK_AWS_FAILED, DK_E_PROVIDER, "a redirect, which is not followed"},
    };
    static const char *const bodies[] = {
        "",
        "{}",
        "{",
        "null",
        "[]",
        "{\"message\":\"m\"}",
        "{\"__type\":7}",
        "<html><body>no</body></html>",
        "<Code>",
        "<Code></Code>",
        "\xFF\xFE",
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        for (size_t k = 0; k < sizeof bodies / sizeof bodies[0]; k++) {
            enum dk_aws_fault fault = explain(cases[i].status, "HTTP/1.1 x\r\n\r\n", bodies[k]);
            assert_int_equal(fault, cases[i].fault);
            assert_int_equal(err.rc, cases[i].rc);
            DK_TEST_SAYS(err, cases[i].words);
        }
    }
}

static void a_code_that_nobody_knows_is_told_as_it_is(void **state)
{
    (void)state;
    assert_int_equal(explain(400, "\r\n", "{\"__type\":\"NewException\",\"message\":\"why\"}"),
                     DK_AWS_FAILED);
    assert_int_equal(err.rc, DK_E_PROVIDER);
    DK_TEST_SAYS(err, "AWS KMS answered Decrypt with NewException: why");
    assert_int_equal(explain(503, "\r\n", "{\"__type\":\"ServiceUnavailable\"}"), DK_AWS_TRANSIENT);
    assert_int_equal(err.rc, DK_E_UNREACHABLE);
    assert_int_equal(explain(429, "\r\n", "{\"__type\":\"SlowDown\"}"), DK_AWS_TRANSIENT);
    assert_int_equal(err.rc, DK_E_THROTTLED);
}

static void long_texts_are_cut(void **state)
{
    (void)state;
    static char body[4096];
    char name[300], code[64], message[200];
    memset(name, 'N', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    snprintf(body, sizeof body, "{\"__type\":\"%s\",\"message\":\"%s%s\"}", name, name, name);
    struct dk_http_reply reply = reply_of(400, "\r\n", body);
    dk_aws_error_of(&reply, code, message);
    assert_int_equal(strlen(code), sizeof code - 1);
    assert_int_equal(strlen(message), sizeof message - 1);
    snprintf(body, sizeof body, "<Code>%s</Code><Message>%s</Message>", name, name);
    reply = reply_of(400, "\r\n", body);
    dk_aws_error_of(&reply, code, message);
    assert_int_equal(strlen(code), sizeof code - 1);
    assert_int_equal(strlen(message), sizeof message - 1);
    assert_int_equal(explain(400, "\r\n", body), DK_AWS_FAILED);
}

/* Exactly its bytes: a sanitizer sees one too far. */
static void an_answer_that_is_cut_is_read_to_its_end(void **state)
{
    (void)state;
    static const char whole[] = "<Error><Code>AccessDenied</Code><Message>no</Message></Error>";
    static const char head[] = "HTTP/1.1 400 Bad\r\nx-amzn-errortype: \t AccessDenied\r\n";
    for (size_t n = 0; n < sizeof whole; n++) {
        for (size_t h = 0; h < sizeof head; h++) {
            char code[64], message[200];
            char *body = malloc(n + 1), *lines = malloc(h + 1);
            memcpy(body + 1, whole, n);
            memcpy(lines + 1, head, h);
            struct dk_http_reply reply = {400, dk_view_of(lines + 1, h), dk_view_of(body + 1, n)};
            dk_aws_error_of(&reply, code, message);
            assert_true(code[0] == '\0' || memcmp("AccessDenied", code, strlen(code)) == 0);
            free(body);
            free(lines);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(F27_F28_R15_each_code_is_told_and_treated_as_the_table_says),
        cmocka_unit_test(R15_the_code_is_found_in_each_of_its_forms),
        cmocka_unit_test(the_body_counts_before_the_header),
        cmocka_unit_test(F26_F29_without_a_code_the_status_counts),
        cmocka_unit_test(a_code_that_nobody_knows_is_told_as_it_is),
        cmocka_unit_test(long_texts_are_cut),
        cmocka_unit_test(an_answer_that_is_cut_is_read_to_its_end),
    };
    return cmocka_run_group_tests_name("aws_faults", tests, NULL, NULL);
}
