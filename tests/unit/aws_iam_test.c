#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

/* Who calls AWS, and what he may: the messages alone. */
#include "provider/aws_iam.h"
#include "support/expect.h"

#define ROLE "arn:aws:iam::111122223333:role/dekhand"
#define KEY "arn:aws:kms:us-east-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
#define DELETION "kms:ScheduleKeyDeletion"

static struct dk_err err;
static struct dk_http_request request;

static int begin(void **state)
{
    (void)state;
    dk_http_request_init(&request, &dk_mem_default);
    return 0;
}

static int end(void **state)
{
    (void)state;
    dk_http_request_clear(&request);
    return 0;
}

static void assert_body(const char *text)
{
    DK_TEST_OK(err, dk_buf_add(&request.body, "", 1, &err));
    assert_string_equal((const char *)request.body.p, text);
    assert_string_equal(request.method, "POST");
    assert_string_equal(request.path, "/");
}

static void sts_is_asked_who_calls(void **state)
{
    (void)state;
    DK_TEST_OK(err, dk_aws_ask_caller(&request, &err));
    assert_body("Action=GetCallerIdentity&Version=2011-06-15");
}

static void iam_is_asked_of_one_action_and_one_key(void **state)
{
    (void)state;
    DK_TEST_OK(err, dk_aws_ask_simulation(ROLE, DELETION, KEY, &request, &err));
    assert_body("Action=SimulatePrincipalPolicy&Version=2010-05-08"
                "&PolicySourceArn=arn%3Aaws%3Aiam%3A%3A111122223333%3Arole%2Fdekhand"
                "&ActionNames.member.1=kms%3AScheduleKeyDeletion"
                "&ResourceArns.member.1=arn%3Aaws%3Akms%3Aus-east-1%3A111122223333%3Akey%2F"
                "1234abcd-12ab-34cd-56ef-1234567890ab");
}

/* ---- who calls ------------------------------------------------------------------------------- */

#define CALLER(arn)                                                                                \
    "<GetCallerIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">"              \
    "<GetCallerIdentityResult><Arn>" arn "</Arn><UserId>AIDA</UserId>"                             \
    "<Account>111122223333</Account></GetCallerIdentityResult></GetCallerIdentityResponse>"

static void a_caller_is_read(void **state)
{
    (void)state;
    char arn[DK_AWS_PRINCIPAL_MAX + 1];
    DK_TEST_OK(err, dk_aws_read_caller(dk_view_str(CALLER(ROLE)), arn, &err));
    assert_string_equal(arn, ROLE);
}

static void F29_what_names_no_caller_is_refused(void **state)
{
    (void)state;
    static const char *const bodies[] = {
        "",
        "{}",
        "<x/>",
        CALLER(""),
        CALLER("dekhand"),
        CALLER("arn:aws:iam::1:user/a b"),
        CALLER("arn:aws:iam::1:user/a&#27;[2J"),
        CALLER("arn:x</Arn><Arn>arn:y"),
    };
    for (size_t i = 0; i < sizeof bodies / sizeof bodies[0]; i++) {
        char arn[DK_AWS_PRINCIPAL_MAX + 1];
        dk_err_clear(&err);
        if (dk_aws_read_caller(dk_view_str(bodies[i]), arn, &err) != DK_E_PROVIDER) {
            fail_msg("taken: %s", bodies[i]);
        }
    }
}

static void the_policies_of_a_session_are_those_of_its_role(void **state)
{
    (void)state;
    static const struct {
        const char *caller;
        enum dk_aws_principal kind;
        const char *principal;
    } cases[] = {
        {"arn:aws:iam::111122223333:user/dekhand", DK_AWS_PRINCIPAL,
         "arn:aws:iam::111122223333:user/dekhand"},
        {"arn:aws:iam::111122223333:user/team/dekhand", DK_AWS_PRINCIPAL,
         "arn:aws:iam::111122223333:user/team/dekhand"},
        {"arn:aws:sts::111122223333:assumed-role/dekhand/i-0abc", DK_AWS_PRINCIPAL, ROLE},
        {"arn:aws-cn:sts::111122223333:assumed-role/dekhand/x", DK_AWS_PRINCIPAL,
         "arn:aws-cn:iam::111122223333:role/dekhand"},
        {"arn:aws:iam::111122223333:root", DK_AWS_ROOT, ""},
        {"arn:aws:sts::111122223333:root", DK_AWS_STRANGER, ""},
        {"arn:aws:sts::111122223333:federated-user/x", DK_AWS_STRANGER, ""},
        {"arn:aws:sts::111122223333:assumed-role/dekhand", DK_AWS_STRANGER, ""},
        {"arn:aws:sts::111122223333:assumed-role//x", DK_AWS_STRANGER, ""},
        {"arn:aws:iam::111122223333:group/x", DK_AWS_STRANGER, ""},
        {"arn:aws:iam", DK_AWS_STRANGER, ""},
        {"", DK_AWS_STRANGER, ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char principal[DK_AWS_PRINCIPAL_MAX + 1];
        assert_int_equal(dk_aws_principal_of(cases[i].caller, principal), cases[i].kind);
        assert_string_equal(principal, cases[i].principal);
    }
}

static void a_caller_longer_than_any_is_a_stranger(void **state)
{
    (void)state;
    char caller[DK_AWS_PRINCIPAL_MAX + 64], principal[DK_AWS_PRINCIPAL_MAX + 1];
    memset(caller, 'a', sizeof caller);
    memcpy(caller, "arn:aws:iam::111122223333:user/", 31);
    caller[sizeof caller - 1] = '\0';
    assert_int_equal(dk_aws_principal_of(caller, principal), DK_AWS_STRANGER);
    assert_string_equal(principal, "");
}

/* ---- what he may ----------------------------------------------------------------------------- */

#define ANSWER(name, decision)                                                                     \
    "<SimulatePrincipalPolicyResponse><SimulatePrincipalPolicyResult><EvaluationResults><member>"  \
    "<EvalActionName>" name "</EvalActionName><EvalDecision>" decision "</EvalDecision>"           \
    "<ResourceSpecificResults><member><EvalResourceName>" KEY "</EvalResourceName>"                \
    "<EvalResourceDecision>allowed</EvalResourceDecision></member></ResourceSpecificResults>"      \
    "</member></EvaluationResults></SimulatePrincipalPolicyResult>"                                \
    "</SimulatePrincipalPolicyResponse>"

static void a_decision_is_read(void **state)
{
    (void)state;
    static const struct {
        const char *body;
        bool allowed;
    } cases[] = {{ANSWER(DELETION, "allowed"), true},
                 {ANSWER("KMS:scheduleKeyDeletion", "allowed"), true},
                 {ANSWER(DELETION, "implicitDeny"), false},
                 {ANSWER(DELETION, "explicitDeny"), false}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        bool allowed = !cases[i].allowed;
        DK_TEST_OK(err,
                   dk_aws_read_simulation(dk_view_str(cases[i].body), DELETION, &allowed, &err));
        assert_int_equal(allowed, cases[i].allowed);
    }
}

static void F29_what_is_no_decision_is_refused(void **state)
{
    (void)state;
    static const char *const bodies[] = {
        "",
        "<x/>",
        ANSWER(DELETION, ""),
        ANSWER(DELETION, "Allowed"),
        ANSWER(DELETION, "perhaps"),
        ANSWER("", "allowed"),
        ANSWER("kms:Decrypt", "allowed"),
        ANSWER(DELETION, "allowed</EvalDecision><EvalDecision>implicitDeny"),
        "<!DOCTYPE x><member><EvalActionName>" DELETION
        "</EvalActionName><EvalDecision>allowed</EvalDecision></member>",
    };
    for (size_t i = 0; i < sizeof bodies / sizeof bodies[0]; i++) {
        bool allowed = false;
        dk_err_clear(&err);
        if (dk_aws_read_simulation(dk_view_str(bodies[i]), DELETION, &allowed, &err) !=
                DK_E_PROVIDER ||
            allowed) {
            fail_msg("taken: %s", bodies[i]);
        }
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(sts_is_asked_who_calls),
        TEST(iam_is_asked_of_one_action_and_one_key),
        TEST(a_caller_is_read),
        TEST(F29_what_names_no_caller_is_refused),
        TEST(the_policies_of_a_session_are_those_of_its_role),
        TEST(a_caller_longer_than_any_is_a_stranger),
        TEST(a_decision_is_read),
        TEST(F29_what_is_no_decision_is_refused),
    };
    return cmocka_run_group_tests_name("aws_iam", tests, NULL, NULL);
}
