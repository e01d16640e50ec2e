#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include "base/error.h"
#include "support/expect.h"

static void numbers_count_up_from_one_without_a_gap(void **state)
{
    (void)state;
    size_t i = 0;
    for (const struct dk_error_info *info; (info = dk_error_at(i)) != NULL; i++) {
        assert_int_equal(info->rc, (int)i + 1); /* part of the ABI: new codes go to the end */
    }
    assert_int_equal(i, 37);
    assert_null(dk_error_at(i));
    assert_null(dk_error_at(SIZE_MAX));
}

static bool one_of(int v, const int *list)
{
    while (*list != 0 && *list != v) {
        list++;
    }
    return *list != 0;
}

static void every_row_is_complete(void **state)
{
    (void)state;
    static const int statuses[] = {400, 401, 403, 404, 409, 413, 415, 422, 429, 500, 503, 0};
    static const int exits[] = {1, 2, 3, 4, 5, 6, 7, 0};
    for (size_t i = 0; dk_error_at(i) != NULL; i++) {
        const struct dk_error_info *info = dk_error_at(i);
        assert_int_equal(strncmp(info->name, "E_", 2), 0);
        assert_int_equal(strncmp(info->outward, "E_", 2), 0);
        assert_true(one_of(info->http_status, statuses));
        assert_true(one_of(info->exit_code, exits));
        assert_true(strlen(info->text) > 3 && strlen(info->todo) > 3);
        assert_ptr_equal(dk_error_info(info->rc), info);
        for (size_t k = 0; k < i; k++) {
            assert_string_not_equal(dk_error_at(k)->name, info->name);
        }
    }
}

static void only_what_a_second_try_can_mend_is_retryable(void **state)
{
    (void)state;
    static const dk_rc never[] = {DK_E_USAGE,
                                  DK_E_FORMAT,
                                  DK_E_AUTH,
                                  DK_E_WRONG_KEY,
                                  DK_E_DISABLED,
                                  DK_E_PURGED,
                                  DK_E_TAMPERED,
                                  DK_E_INTERNAL,
                                  DK_E_CONFIG,
                                  DK_E_PROVIDER,
                                  DK_E_SELFTEST,
                                  DK_E_NO_MASTER_KEY,
                                  DK_E_PROVIDER_DENIED,
                                  DK_E_MASTER_KEY_DISABLED};
    for (size_t i = 0; i < sizeof never / sizeof never[0]; i++) {
        assert_false(dk_error_info(never[i])->retryable);
    }
    assert_true(dk_error_info(DK_E_BUSY)->retryable);
    assert_true(dk_error_info(DK_E_UNREACHABLE)->retryable);
    assert_true(dk_error_info(DK_E_THROTTLED)->retryable);
    assert_int_equal(dk_error_info(DK_E_BUSY)->exit_code, 6);
    assert_int_equal(dk_error_info(DK_E_UNREACHABLE)->exit_code, 6);
    assert_int_equal(dk_error_info(DK_E_THROTTLED)->exit_code, 6);
}

static void I19_wrong_key_and_failed_tag_look_alike_outside(void **state)
{
    (void)state;
    const struct dk_error_info *a = dk_error_info(DK_E_AUTH);
    const struct dk_error_info *b = dk_error_info(DK_E_WRONG_KEY);
    assert_string_equal(a->outward, b->outward);
    assert_string_equal(a->text, b->text);
    assert_string_equal(a->todo, b->todo);
    assert_int_equal(a->retryable, b->retryable);
    assert_int_equal(a->http_status, b->http_status);
    assert_int_equal(a->exit_code, b->exit_code);
    assert_string_not_equal(a->name, b->name); /* inside they stay apart */
}

static void every_other_code_has_its_own_name_outside(void **state)
{
    (void)state;
    for (size_t i = 0; dk_error_at(i) != NULL; i++) {
        const struct dk_error_info *info = dk_error_at(i);
        assert_string_equal(info->outward, info->rc == DK_E_WRONG_KEY ? "E_AUTH" : info->name);
    }
}

static void an_unknown_code_reads_as_a_defect_of_ours(void **state)
{
    (void)state;
    assert_int_equal(dk_error_info((dk_rc)9999)->rc, DK_E_INTERNAL);
    assert_int_equal(dk_error_info((dk_rc)-1)->rc, DK_E_INTERNAL);
    assert_int_equal(dk_error_info(DK_OK)->rc, DK_E_INTERNAL);
}

static void the_first_cause_stays(void **state)
{
    (void)state;
    struct dk_err err;
    memset(&err, 0x77, sizeof err); /* the caller's stack holds anything */
    dk_err_clear(&err);
    assert_int_equal(err.rc, DK_OK);
    assert_int_equal(DK_FAIL_BACKEND(&err, BUSY, 5L, "locked by %s", "another"), DK_E_BUSY);
    assert_int_equal(DK_FAIL(&err, STORE, "second"), DK_E_BUSY);
    assert_int_equal(DK_FAIL_BACKEND(&err, IO, 7L, "third"), DK_E_BUSY);
    assert_int_equal(err.rc, DK_E_BUSY);
    assert_int_equal(err.backend, 5);
    assert_string_equal(err.text, "locked by another");
    assert_non_null(strstr(err.file, "error_test.c"));
    assert_true(err.line > 0);
}

static void a_cause_without_backend_has_the_backend_zero(void **state)
{
    (void)state;
    struct dk_err err;
    memset(&err, 0x77, sizeof err);
    dk_err_clear(&err);
    int line = __LINE__ + 1;
    assert_int_equal(DK_FAIL(&err, USAGE, "x"), DK_E_USAGE);
    assert_int_equal(err.backend, 0);
    assert_int_equal(err.line, line);
    dk_err_clear(&err);
    assert_int_equal(err.rc, DK_OK);
    assert_string_equal(err.text, "");
}

static void a_long_text_is_cut_and_ends(void **state)
{
    (void)state;
    struct dk_err err;
    char text[1000];
    memset(text, 'x', sizeof text);
    text[sizeof text - 1] = '\0';
    dk_err_clear(&err);
    assert_int_equal(DK_FAIL(&err, IO, "%s", text), DK_E_IO);
    assert_int_equal(strnlen(err.text, sizeof err.text), sizeof err.text - 1);
}

static void the_trail_grows_outwards_and_never_overflows(void **state)
{
    (void)state;
    struct dk_err err;
    dk_err_clear(&err);
    assert_int_equal(DK_FAIL(&err, IO, "no disk"), DK_E_IO);
    assert_int_equal(dk_err_while(&err, "reading row %d", 3), DK_E_IO);
    assert_int_equal(dk_err_while(&err, "rotating"), DK_E_IO);
    assert_string_equal(err.trail, "reading row 3, rotating");
    for (int i = 0; i < 200; i++) {
        assert_int_equal(dk_err_while(&err, "%.*s", i % 11, "abcdefghijk"), DK_E_IO);
        assert_true(strnlen(err.trail, sizeof err.trail) < sizeof err.trail);
    }
    assert_int_equal(strncmp(err.trail, "reading row 3, rotating", 23), 0);
    assert_string_equal(err.text, "no disk");
}

static dk_rc leaves_early(dk_rc inner, int *reached)
{
    DK_TRY(inner);
    *reached = 1;
    return DK_OK;
}

static void try_hands_the_code_up(void **state)
{
    (void)state;
    int reached = 0;
    assert_int_equal(leaves_early(DK_E_PURGED, &reached), DK_E_PURGED);
    assert_int_equal(reached, 0);
    assert_int_equal(leaves_early(DK_OK, &reached), DK_OK);
    assert_int_equal(reached, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_count_up_from_one_without_a_gap),
        cmocka_unit_test(every_row_is_complete),
        cmocka_unit_test(only_what_a_second_try_can_mend_is_retryable),
        cmocka_unit_test(I19_wrong_key_and_failed_tag_look_alike_outside),
        cmocka_unit_test(every_other_code_has_its_own_name_outside),
        cmocka_unit_test(an_unknown_code_reads_as_a_defect_of_ours),
        cmocka_unit_test(the_first_cause_stays),
        cmocka_unit_test(a_cause_without_backend_has_the_backend_zero),
        cmocka_unit_test(a_long_text_is_cut_and_ends),
        cmocka_unit_test(the_trail_grows_outwards_and_never_overflows),
        cmocka_unit_test(try_hands_the_code_up),
    };
    return cmocka_run_group_tests_name("error", tests, NULL, NULL);
}
