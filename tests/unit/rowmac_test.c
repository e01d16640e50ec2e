#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include <openssl/hmac.h>
#include <signal.h>
#include <unistd.h>

#include "crypto/rowmac.h"
#include "support/expect.h"

static struct dk_err err;
static struct dk_suite suite;
static uint8_t cell[2][DK_SECRET_CELL];
static struct dk_mac *key, *other_key;

static int open_suite(void **state)
{
    (void)state;
    memset(cell[0], 0x11, DK_SECRET_CELL);
    memset(cell[1], 0x11, DK_SECRET_CELL);
    cell[1][31] ^= 1;
    dk_err_clear(&err);
    struct dk_secret one = {cell[0], 32}, other = {cell[1], 32};
    return dk_suite_open(&dk_world_default, &suite, &err) == DK_OK &&
                   dk_mac_new(&suite, &one, &key, &err) == DK_OK &&
                   dk_mac_new(&suite, &other, &other_key, &err) == DK_OK
               ? 0
               : -1;
}

static int close_suite(void **state)
{
    (void)state;
    dk_mac_free(key);
    dk_mac_free(other_key);
    dk_suite_close(&suite);
    return 0;
}

#define UUID "6ba7b810-9dad-41d1-80b4-00c04fd430c8"
enum { COLUMNS = 5 };

struct sample {
    struct dk_mac_column columns[COLUMNS];
    struct dk_mac_row row;
};

static void fill(struct sample *s)
{
    s->columns[0] =
        (struct dk_mac_column){"created_at", dk_view_str("2026-01-01T00:00:00.000000Z")};
    s->columns[1] = (struct dk_mac_column){"encrypted_data_key", dk_view_str("AQAAAAGgoaI=")};
    s->columns[2] = (struct dk_mac_column){"is_active", dk_view_str("true")};
    s->columns[3] = (struct dk_mac_column){"tenant_id", dk_view_str("acme")};
    s->columns[4] = (struct dk_mac_column){"version", dk_view_str("7")};
    s->row = (struct dk_mac_row){"dekhand/row/1", UUID, "encryption_keys", s->columns, COLUMNS};
}

static void compute(const struct dk_mac_row *row, char out[DK_ROWMAC_TEXT])
{
    DK_TEST_OK(err, dk_rowmac_compute(&suite, key, row, out, &err));
    assert_int_equal(strlen(out), DK_ROWMAC_TEXT - 1);
}

static bool verifies(const struct dk_mac_row *row, const char *stored)
{
    dk_err_clear(&err);
    dk_rc rc = dk_rowmac_verify(&suite, key, row, stored, &err);
    assert_true(rc == DK_OK || rc == DK_E_TAMPERED);
    return rc == DK_OK;
}

static void the_mac_is_what_formats_says(void **state)
{
    (void)state;
    static const char message[] = "\0\0\0\x0d"
                                  "dekhand/row/1"
                                  "\0\0\0\x24" UUID "\0\0\0\x05"
                                  "wraps"
                                  "\0\0\0\x01"
                                  "a"
                                  "\0\0\0\x03"
                                  "one"
                                  "\0\0\0\x01"
                                  "c"
                                  "\0\0\0\0";
    const struct dk_mac_column columns[] = {
        {"a", dk_view_str("one")}, {"b", dk_view_of(NULL, 0)}, {"c", dk_view_str("")}};
    const struct dk_mac_row row = {"dekhand/row/1", UUID, "wraps", columns, 3};
    char got[DK_ROWMAC_TEXT], want[DK_ROWMAC_TEXT];
    uint8_t mac[33] = {1};
    assert_non_null(HMAC(EVP_sha256(), cell[0], 32, (const unsigned char *)message,
                         sizeof message - 1, mac + 1, NULL));
    dk_base64_encode(mac, sizeof mac, want);
    compute(&row, got);
    assert_string_equal(got, want);
    assert_true(verifies(&row, want));
}

static void I01_each_column_changed_by_one_bit_is_refused(void **state)
{
    (void)state;
    struct sample s;
    char stored[DK_ROWMAC_TEXT];
    fill(&s);
    compute(&s.row, stored);
    assert_true(verifies(&s.row, stored));
    for (int c = 0; c < COLUMNS; c++) {
        struct dk_view old = s.columns[c].text;
        char text[64];
        for (size_t bit = 0; bit < 8 * old.n; bit++) {
            memcpy(text, old.p, old.n);
            text[bit / 8] = (char)(text[bit / 8] ^ (1 << bit % 8));
            s.columns[c].text = dk_view_of(text, old.n);
            assert_false(verifies(&s.row, stored));
            DK_TEST_SAYS(err, "encryption_keys");
        }
        s.columns[c].text = dk_view_of(old.p, old.n - 1);
        assert_false(verifies(&s.row, stored));
        s.columns[c].text = dk_view_of(NULL, 0); /* set to NULL */
        assert_false(verifies(&s.row, stored));
        s.columns[c].text = dk_view_str("");
        assert_false(verifies(&s.row, stored));
        s.columns[c].text = old;
        assert_true(verifies(&s.row, stored));
    }
}

static void I01_names_order_and_borders_of_columns_count(void **state)
{
    (void)state;
    struct sample s;
    char stored[DK_ROWMAC_TEXT];
    fill(&s);
    compute(&s.row, stored);
    struct dk_view a = s.columns[3].text;
    s.columns[3].text = s.columns[4].text; /* two values swapped */
    s.columns[4].text = a;
    assert_false(verifies(&s.row, stored));
    fill(&s);
    s.columns[4].name = "versioo";
    assert_false(verifies(&s.row, stored));
    fill(&s);
    s.row.count = COLUMNS - 1;
    assert_false(verifies(&s.row, stored));
    const struct dk_mac_column ab_c[] = {{"ab", dk_view_str("c")}};
    const struct dk_mac_column a_bc[] = {{"a", dk_view_str("bc")}};
    struct dk_mac_row row = {"dekhand/row/1", UUID, "t", ab_c, 1};
    compute(&row, stored);
    row.columns = a_bc;
    assert_false(verifies(&row, stored));
}

static void I02_a_mac_serves_its_row_only(void **state)
{
    (void)state;
    struct sample s;
    char stored[DK_ROWMAC_TEXT];
    fill(&s);
    compute(&s.row, stored);
    s.row.table = "wraps";
    assert_false(verifies(&s.row, stored));
    fill(&s);
    s.row.label = "dekhand/log/1";
    assert_false(verifies(&s.row, stored));
    fill(&s);
    s.row.registry_uuid = "6ba7b810-9dad-41d1-80b4-00c04fd430c9";
    assert_false(verifies(&s.row, stored));
    fill(&s);
    s.columns[3].text = dk_view_str("acmf");
    assert_false(verifies(&s.row, stored));
}

static void I03_a_mac_under_another_key_is_refused(void **state)
{
    (void)state;
    struct sample s;
    char forged[DK_ROWMAC_TEXT];
    fill(&s);
    DK_TEST_OK(err, dk_rowmac_compute(&suite, other_key, &s.row, forged, &err));
    assert_false(verifies(&s.row, forged));
}

static void a_later_nullable_column_keeps_old_macs_valid(void **state)
{
    (void)state;
    const struct dk_mac_column before[] = {{"a", dk_view_str("1")}, {"z", dk_view_str("2")}};
    const struct dk_mac_column after[] = {
        {"a", dk_view_str("1")}, {"m", dk_view_of(NULL, 0)}, {"z", dk_view_str("2")}};
    const struct dk_mac_row old = {"dekhand/row/1", UUID, "t", before, 2};
    const struct dk_mac_row new = {"dekhand/row/1", UUID, "t", after, 3};
    char stored[DK_ROWMAC_TEXT];
    compute(&old, stored);
    assert_true(verifies(&new, stored));
}

static void a_changed_mac_is_refused(void **state)
{
    (void)state;
    struct sample s;
    char stored[DK_ROWMAC_TEXT], longer[DK_ROWMAC_TEXT + 4];
    fill(&s);
    compute(&s.row, stored);
    for (size_t bit = 0; bit < 8 * (DK_ROWMAC_TEXT - 1); bit++) {
        stored[bit / 8] = (char)(stored[bit / 8] ^ (1 << bit % 8));
        assert_false(verifies(&s.row, stored));
        stored[bit / 8] = (char)(stored[bit / 8] ^ (1 << bit % 8));
    }
    assert_true(verifies(&s.row, stored));
    assert_false(verifies(&s.row, ""));
    snprintf(longer, sizeof longer, "%sA", stored);
    assert_false(verifies(&s.row, longer));
    stored[DK_ROWMAC_TEXT - 2] = '\0';
    assert_false(verifies(&s.row, stored));
}

static void a_row_longer_than_any_of_ours_is_refused(void **state)
{
    (void)state;
    static char text[1100000];
    memset(text, 'x', sizeof text);
    struct dk_mac_column column = {"c", dk_view_of(text, 0)};
    struct dk_mac_row row = {"l", "u", "t", &column, 1};
    char out[DK_ROWMAC_TEXT];
    size_t fixed = 3 * 5 + 5 + 4; /* lp of label, uuid, table and name, the length of the text */
    column.text.n = 1024 * 1024 - fixed;
    compute(&row, out);
    assert_true(verifies(&row, out));
    column.text.n++;
    DK_TEST_FAILS(err, TAMPERED, dk_rowmac_compute(&suite, key, &row, out, &err));
    DK_TEST_FAILS(err, TAMPERED, dk_rowmac_verify(&suite, key, &row, out, &err));
    text[sizeof text - 1] = '\0';
    row.count = 0;
    for (int part = 0; part < 3; part++) {
        struct dk_mac_row wide = row;
        *(part == 0 ? &wide.label : part == 1 ? &wide.registry_uuid : &wide.table) = text;
        DK_TEST_FAILS(err, TAMPERED, dk_rowmac_compute(&suite, key, &wide, out, &err));
    }
    column = (struct dk_mac_column){text, dk_view_str("v")};
    row.count = 1;
    DK_TEST_FAILS(err, TAMPERED, dk_rowmac_compute(&suite, key, &row, out, &err));
}

static void F01_without_memory_nothing_verifies(void **state)
{
    (void)state;
    struct sample s;
    char stored[DK_ROWMAC_TEXT], out[DK_ROWMAC_TEXT] = "untouched";
    fill(&s);
    compute(&s.row, stored);
    dk_err_clear(&err);
    dk_test_openssl_fail_in(1);
    dk_rc computed = dk_rowmac_compute(&suite, key, &s.row, out, &err);
    dk_test_openssl_fail_in(1);
    dk_err_clear(&err);
    dk_rc verified = dk_rowmac_verify(&suite, key, &s.row, stored, &err);
    dk_test_openssl_fail_in(0);
    assert_int_equal(computed, DK_E_NOMEM);
    assert_int_equal(verified, DK_E_NOMEM);
    assert_string_equal(out, "untouched");
}

static void dies_as_expected(int signal)
{
    (void)signal;
    _exit(0);
}

static int computes_unsorted(void *arg)
{
    struct sample *s = arg;
    char out[DK_ROWMAC_TEXT];
    struct sigaction action = {.sa_handler = dies_as_expected};
    DK_TEST_CHILD(sigaction(SIGABRT, &action, NULL) == 0);
    DK_TEST_CHILD(freopen("/dev/null", "w", stderr) != NULL);
    (void)!dk_rowmac_compute(&suite, key, &s->row, out, &err);
    return 1;
}

static void columns_out_of_order_stop_the_program(void **state)
{
    (void)state;
    struct sample s;
    fill(&s);
    s.columns[2].name = "zzz";
    assert_true(dk_test_in_child(false, computes_unsorted, &s));
    fill(&s);
    s.columns[2].name = s.columns[1].name;
    assert_true(dk_test_in_child(false, computes_unsorted, &s));
}

int main(void)
{
    dk_test_openssl_memory();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_mac_is_what_formats_says),
        cmocka_unit_test(I01_each_column_changed_by_one_bit_is_refused),
        cmocka_unit_test(I01_names_order_and_borders_of_columns_count),
        cmocka_unit_test(I02_a_mac_serves_its_row_only),
        cmocka_unit_test(I03_a_mac_under_another_key_is_refused),
        cmocka_unit_test(a_later_nullable_column_keeps_old_macs_valid),
        cmocka_unit_test(a_changed_mac_is_refused),
        cmocka_unit_test(a_row_longer_than_any_of_ours_is_refused),
        cmocka_unit_test(F01_without_memory_nothing_verifies),
        cmocka_unit_test(columns_out_of_order_stop_the_program),
    };
    return cmocka_run_group_tests_name("rowmac", tests, open_suite, close_suite);
}
