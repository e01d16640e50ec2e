#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include <stdlib.h>

#include "keys/audit.h"
#include "keys/registry.h"
#include "keys/registry_state.h"
#include "support/golden.h"
#include "support/world.h"

static struct dk_err err;

/* ---- a core with the registry key of a golden case
 * ----------------------------------------------- */

static void core_open(struct dk_core *core)
{
    struct dk_arena_report report;
    memset(core, 0, sizeof *core);
    core->world = &dk_world_default;
    DK_TEST_OK(err, dk_suite_open(core->world, &core->suite, &err));
    DK_TEST_OK(err, dk_arena_open(core->world, 16, &core->arena, &report, &err));
    DK_TEST_OK(err, dk_registry_new(core, &err));
}

static void core_close(struct dk_core *core)
{
    dk_registry_free(core);
    dk_arena_close(core->arena);
    dk_suite_close(&core->suite);
}

/* K_row, K_log and K_seal as FORMATS derives them. */
static void set_registry(struct dk_core *core, const struct dk_golden_case *c)
{
    struct dk_secret key = {0};
    dk_registry_clear(core);
    snprintf(core->registry->uuid, sizeof core->registry->uuid, "%s",
             dk_golden_get(c, "registry_uuid", 0));
    DK_TEST_OK(err, dk_secret_new(core->arena, 32, &key, &err));
    assert_int_equal(dk_golden_bytes(c, "registry_key_hex", dk_secret_expose_for_crypto(&key), 32),
                     32);
    DK_TEST_OK(err, dk_registry_derive(core, &key, 1, &core->registry->now, &err));
    dk_secret_free(core->arena, &key);
}

/* ---- golden columns to rows
 * ---------------------------------------------------------------------- */

static const char *column(const struct dk_golden_case *c, const char *name)
{
    size_t n = strlen(name);
    for (size_t i = 0;; i++) {
        const char *text = dk_golden_get(c, "column", i);
        if (text == NULL) {
            return NULL;
        }
        if (strncmp(text, name, n) == 0 && text[n] == ':') {
            return text + n + 1;
        }
    }
}

static int64_t time_of(const struct dk_golden_case *c, const char *name)
{
    int64_t us = DK_TIME_NONE;
    const char *text = column(c, name);
    if (text != NULL) {
        assert_true(dk_time_parse(text, strlen(text), &us));
    }
    return us;
}

#define TEXT(to, c, name)                                                                          \
    snprintf((to), sizeof(to), "%s", column((c), (name)) != NULL ? column((c), (name)) : "")

static void key_of(const struct dk_golden_case *c, struct dk_key_row *row)
{
    size_t n = 0;
    memset(row, 0, sizeof *row);
    const char *check_value = column(c, "check_value");
    assert_true(
        dk_base64_decode(check_value, strlen(check_value), row->check_value, DK_CHECK_BYTES, &n));
    DK_TEST_OK(err, dk_tenant_parse(dk_view_str(column(c, "tenant_id")), &row->tenant, &err));
    TEXT(row->id, c, "id");
    TEXT(row->wrap.provider, c, "provider");
    TEXT(row->wrap.kms_key_id, c, "kms_key_id");
    TEXT(row->wrap.encrypted_data_key, c, "encrypted_data_key");
    TEXT(row->wrap.context_timestamp, c, "context_timestamp");
    row->version = (uint32_t)strtoul(column(c, "version"), NULL, 10);
    assert_true(dk_state_from_name(column(c, "state"), &row->state));
    row->created_at = time_of(c, "created_at");
    row->expires_at = time_of(c, "expires_at");
    row->rotated_at = time_of(c, "rotated_at");
    row->compromised_at = time_of(c, "compromised_at");
    row->disabled_at = time_of(c, "disabled_at");
    row->purged_at = time_of(c, "purged_at");
}

static void tenant_of(const struct dk_golden_case *c, struct dk_tenant_row *row)
{
    memset(row, 0, sizeof *row);
    DK_TEST_OK(err, dk_tenant_parse(dk_view_str(column(c, "tenant_id")), &row->tenant, &err));
    row->epoch = strtoll(column(c, "epoch"), NULL, 10);
    row->next_version = strtoll(column(c, "next_version"), NULL, 10);
    row->rotation_days =
        column(c, "rotation_days") != NULL ? strtoll(column(c, "rotation_days"), NULL, 10) : 0;
    TEXT(row->log_head, c, "log_head");
    TEXT(row->keys_digest, c, "keys_digest");
}

/* The text of a column_hex item, or of the column; "" is NULL. */
static void text_of(const struct dk_golden_case *c, const char *name, char *out, size_t cap)
{
    const char *hex = dk_golden_get(c, "column_hex", 0);
    size_t n = strlen(name);
    memset(out, 0, cap);
    if (hex != NULL && strncmp(hex, name, n) == 0 && hex[n] == ':') {
        hex += n + 1;
        assert_true(strlen(hex) / 2 < cap);
        assert_true(dk_hex_decode(hex, strlen(hex), (uint8_t *)out, strlen(hex) / 2));
    } else if (column(c, name) != NULL) {
        snprintf(out, cap, "%s", column(c, name));
    }
}

static uint32_t version_of(const struct dk_golden_case *c, const char *name)
{
    return column(c, name) != NULL ? (uint32_t)strtoul(column(c, name), NULL, 10) : 0;
}

static void log_of(const struct dk_golden_case *c, struct dk_log_row *row)
{
    memset(row, 0, sizeof *row);
    TEXT(row->id, c, "id");
    TEXT(row->tenant, c, "tenant_id");
    TEXT(row->operation, c, "operation");
    row->from_version = version_of(c, "from_version");
    row->to_version = version_of(c, "to_version");
    row->success = strcmp(column(c, "success"), "true") == 0;
    text_of(c, "error_message", row->error_message, sizeof row->error_message);
    row->performed_at = time_of(c, "performed_at");
    TEXT(row->performed_by, c, "performed_by");
    TEXT(row->node, c, "node");
    row->detail = column(c, "detail") != NULL ? column(c, "detail") : "";
    TEXT(row->prev, c, "prev");
}

/* Where `tenants` got a digest and a chain, its rows got a file of their own. */
static void R9_golden_tenants_with_a_chain_have_these_macs(void **state)
{
    (void)state;
    static struct dk_golden_case c;
    struct dk_core core;
    struct dk_tenant_row row;
    unsigned count = 0;
    core_open(&core);
    FILE *file = dk_golden_open("tenant_chain.txt");
    while (dk_golden_next(file, &c)) {
        set_registry(&core, &c);
        tenant_of(&c, &row);
        assert_true(row.keys_digest[0] != '\0');
        DK_TEST_OK(err, dk_registry_seal_tenant(&core, NULL, &row, &err));
        assert_string_equal(row.row_mac, dk_golden_get(&c, "row_mac", 0));
        DK_TEST_OK(err, dk_registry_verify_tenant(&core, NULL, &row, &err));
        count++;
    }
    fclose(file);
    assert_true(count >= 2);
    core_close(&core);
}

static void R9_golden_log_rows_have_these_macs(void **state)
{
    (void)state;
    static struct dk_golden_case c;
    struct dk_core core;
    struct dk_log_row row;
    unsigned count = 0;
    core_open(&core);
    FILE *file = dk_golden_open("log_mac.txt");
    while (dk_golden_next(file, &c)) {
        set_registry(&core, &c);
        log_of(&c, &row);
        DK_TEST_OK(err, dk_registry_seal_log(&core, NULL, &row, &err));
        assert_string_equal(row.mac, dk_golden_get(&c, "mac", 0));
        DK_TEST_OK(err, dk_registry_verify_log(&core, NULL, &row, &err));
        count++;
    }
    fclose(file);
    assert_true(count >= 7);
    core_close(&core);
}

static unsigned look_at_seals(const char *name)
{
    static struct dk_golden_case c;
    struct dk_core core;
    char heads[512], hash[DK_HASH_TEXT];
    unsigned count = 0;
    core_open(&core);
    FILE *file = dk_golden_open(name);
    while (dk_golden_next(file, &c)) {
        struct dk_seal_row row = {.at = time_of(&c, "at"), .heads = heads};
        set_registry(&core, &c);
        text_of(&c, "heads", heads, sizeof heads);
        row.n = strtoll(column(&c, "n"), NULL, 10);
        TEXT(row.prev, &c, "prev");
        DK_TEST_OK(err, dk_registry_seal_seal(&core, NULL, &row, &err));
        assert_string_equal(row.mac, dk_golden_get(&c, "mac", 0));
        DK_TEST_OK(err, dk_registry_verify_seal(&core, NULL, &row, &err));
        DK_TEST_OK(err, dk_seal_hash(&core, row.mac, hash, &err));
        assert_string_equal(hash, dk_golden_get(&c, "hash", 0));
        count++;
    }
    fclose(file);
    core_close(&core);
    return count;
}

static void R9_golden_seals_have_these_macs_and_hashes(void **state)
{
    (void)state;
    assert_int_equal(look_at_seals("seal_mac.txt"), 4);
    assert_int_equal(look_at_seals("rekey_seals.txt"), 2);
}

/* ---- golden digests
 * ------------------------------------------------------------------------------ */

/* The nth `key` item, as a version and a MAC. */
static bool key_item(const struct dk_golden_case *c, size_t nth, uint32_t *version,
                     char row_mac[static DK_MAC_TEXT])
{
    const char *text = dk_golden_get(c, "key", nth);
    if (text == NULL) {
        return false;
    }
    char *end = NULL;
    *version = (uint32_t)strtoul(text, &end, 10);
    assert_true(*end == ':' && strlen(end + 1) == DK_MAC_TEXT - 1);
    memcpy(row_mac, end + 1, DK_MAC_TEXT);
    return true;
}

/* A store that has the key rows of a golden case, and no more. */
static dk_rc golden_macs(void *txn, const struct dk_tenant *tenant,
                         bool (*each)(void *arg, uint32_t version, const char *row_mac), void *arg,
                         struct dk_err *ignored)
{
    uint32_t version;
    char row_mac[DK_MAC_TEXT];
    (void)tenant;
    (void)ignored;
    for (size_t i = 0; key_item(txn, i, &version, row_mac) && each(arg, version, row_mac); i++) {
    }
    return DK_OK;
}

static void R9_golden_key_rows_have_these_digests(void **state)
{
    (void)state;
    static struct dk_golden_case c;
    static const struct dk_store_ops ops = {.key_macs = golden_macs};
    struct dk_core core;
    struct dk_txn txn = {.ops = &ops, .self = &c};
    struct dk_tenant tenant;
    struct dk_key_row first = {0};
    char digest[DK_MAC_TEXT];
    unsigned all = 0, firsts = 0;
    core_open(&core);
    DK_TEST_OK(err, dk_tenant_parse(dk_view_str("acme"), &tenant, &err));
    FILE *file = dk_golden_open("keys_digest.txt");
    while (dk_golden_next(file, &c)) {
        const char *want = dk_golden_get(&c, "keys_digest", 0);
        DK_TEST_OK(err, dk_audit_digest(&core, &txn, &tenant, digest, &err));
        assert_string_equal(digest, want);
        all++;
        if (key_item(&c, 0, &first.version, first.row_mac) && dk_golden_get(&c, "key", 1) == NULL) {
            DK_TEST_OK(err, dk_audit_first_digest(&core, &first, digest, &err));
            assert_string_equal(digest, want);
            firsts++;
        }
    }
    fclose(file);
    assert_true(all >= 3 && firsts >= 1);
    core_close(&core);
}

static void R9_golden_rows_have_these_macs(void **state)
{
    (void)state;
    static struct dk_golden_case c;
    struct dk_core core;
    unsigned keys = 0, tenants = 0;
    core_open(&core);
    FILE *file = dk_golden_open("row_mac.txt");
    while (dk_golden_next(file, &c)) {
        const char *table = dk_golden_get(&c, "table", 0);
        const char *row_mac = dk_golden_get(&c, "row_mac", 0);
        set_registry(&core, &c);
        if (strcmp(table, "encryption_keys") == 0) {
            struct dk_key_row row;
            if (column(&c, "encrypted_data_key") == NULL) {
                continue; /* SQLite's rows have '' there; rowmac_test has this case */
            }
            key_of(&c, &row);
            DK_TEST_OK(err, dk_registry_seal_key(&core, NULL, &row, &err));
            assert_string_equal(row.row_mac, row_mac);
            DK_TEST_OK(err, dk_registry_verify_key(&core, NULL, &row, &err));
            keys++;
        } else if (strcmp(table, "tenants") == 0) {
            struct dk_tenant_row row;
            tenant_of(&c, &row);
            DK_TEST_OK(err, dk_registry_seal_tenant(&core, NULL, &row, &err));
            assert_string_equal(row.row_mac, row_mac);
            DK_TEST_OK(err, dk_registry_verify_tenant(&core, NULL, &row, &err));
            tenants++;
        }
    }
    fclose(file);
    assert_true(keys >= 2 && tenants >= 1);
    core_close(&core);
}

/* ---- I01, I03: each column changed
 * ---------------------------------------------------------------- */

/* The first case of a table. */
static void load_case(struct dk_core *core, const char *table, struct dk_golden_case *c)
{
    FILE *file = dk_golden_open("row_mac.txt");
    do {
        assert_true(dk_golden_next(file, c));
    } while (strcmp(dk_golden_get(c, "table", 0), table) != 0);
    fclose(file);
    set_registry(core, c);
}

static void change_key(struct dk_key_row *row, int which)
{
    switch (which) {
    case 0:
        row->id[0] ^= 1;
        break;
    case 1:
        row->tenant.s[0] ^= 1;
        break;
    case 2:
        row->version++;
        break;
    case 3:
        row->state = DK_DISABLED;
        break;
    case 4:
        row->wrap.provider[0] ^= 1;
        break;
    case 5:
        row->wrap.kms_key_id[6] ^= 1;
        break;
    case 6:
        row->wrap.encrypted_data_key[10] ^= 1;
        break;
    case 7:
        row->wrap.context_timestamp[25] ^= 1;
        break;
    case 8:
        row->check_value[31] ^= 1;
        break;
    case 9:
        row->created_at++;
        break;
    case 10:
        row->expires_at++;
        break;
    case 11:
        row->rotated_at = row->rotated_at == DK_TIME_NONE ? 0 : DK_TIME_NONE;
        break;
    case 12:
        row->compromised_at = row->compromised_at == DK_TIME_NONE ? 0 : DK_TIME_NONE;
        break;
    case 13:
        row->disabled_at = row->disabled_at == DK_TIME_NONE ? 0 : DK_TIME_NONE;
        break;
    case 14:
        row->purged_at = row->purged_at == DK_TIME_NONE ? 0 : DK_TIME_NONE;
        break;
    default:
        row->row_mac[5] = row->row_mac[5] == 'A' ? 'B' : 'A';
        break;
    }
}

static void I01_I03_F51_a_changed_column_of_a_key_is_tampered(void **state)
{
    (void)state;
    static struct dk_golden_case c;
    struct dk_core core;
    struct dk_key_row good, row;
    core_open(&core);
    load_case(&core, "encryption_keys", &c);
    key_of(&c, &good);
    DK_TEST_OK(err, dk_registry_seal_key(&core, NULL, &good, &err));
    for (int which = 0; which <= 15; which++) {
        row = good;
        change_key(&row, which);
        DK_TEST_FAILS(err, TAMPERED, dk_registry_verify_key(&core, NULL, &row, &err));
        assert_non_null(strstr(err.trail, row.tenant.s));
    }
    row = good;
    row.messages = 12345; /* counted by everyone, and so not in the MAC */
    DK_TEST_OK(err, dk_registry_verify_key(&core, NULL, &row, &err));
    static const char *const macs[] = {"", "A", "AZLB", "not base64 at all!"};
    for (size_t i = 0; i < sizeof macs / sizeof macs[0]; i++) {
        snprintf(row.row_mac, sizeof row.row_mac, "%s", macs[i]);
        DK_TEST_FAILS(err, TAMPERED, dk_registry_verify_key(&core, NULL, &row, &err));
    }
    core.registry->uuid[0] ^= 1; /* a row of another registry */
    DK_TEST_FAILS(err, TAMPERED, dk_registry_verify_key(&core, NULL, &good, &err));
    core_close(&core);
}

static void I03_a_changed_column_of_a_tenant_is_tampered(void **state)
{
    (void)state;
    static struct dk_golden_case c;
    struct dk_core core;
    struct dk_tenant_row good, row;
    core_open(&core);
    load_case(&core, "tenants", &c);
    tenant_of(&c, &good);
    DK_TEST_OK(err, dk_registry_seal_tenant(&core, NULL, &good, &err));
    for (int which = 0; which < 7; which++) {
        row = good;
        row.keys_digest[0] = which == 5 ? 'A' : '\0'; /* NULL in this row */
        row.log_head[0] = which == 6 ? 'A' : '\0';
        row.tenant.s[0] ^= which == 0;
        row.epoch += which == 1;
        row.next_version += which == 2;
        row.rotation_days += which == 3;
        row.row_mac[5] = which == 4 ? (row.row_mac[5] == 'A' ? 'B' : 'A') : row.row_mac[5];
        DK_TEST_FAILS(err, TAMPERED, dk_registry_verify_tenant(&core, NULL, &row, &err));
    }
    core_close(&core);
}

/* ---- the registry's own key
 * ------------------------------------------------------------------------ */

static void a_pin_that_is_another_is_refused(void **state)
{
    (void)state;
    struct dk_place place, other;
    struct dekhand *d = NULL;
    struct dekhand_error error;
    dk_place_new(&place, false);
    dk_place_new(&other, false);
    assert_string_not_equal(place.made.pin, other.made.pin);
    struct dekhand_setting settings[] = {{"KMS_STATE_DIR", place.folder},
                                         {"KMS_REGISTRY_PIN", place.made.pin},
                                         {"DATABASE_URL", place.opens}};
    struct dekhand_config config = {.size = sizeof config,
                                    .settings = settings,
                                    .setting_count = 3,
                                    .ignore_environment = true};
    assert_int_equal(dekhand_open(&config, &d, &error), DEKHAND_OK);
    dk_place_close(d);
    settings[1].value = other.made.pin;
    assert_int_equal(dekhand_open(&config, &d, &error), DEKHAND_E_TAMPERED);
    assert_non_null(strstr(error.text, "KMS_REGISTRY_PIN"));
    dk_place_free(&other);
    dk_place_free(&place);
}

static void F53_a_changed_registry_row_does_not_open(void **state)
{
    (void)state;
    static const char *const edits[] = {
        "UPDATE registry SET registry_uuid = '00000000-0000-4000-8000-000000000000'",
        "UPDATE registry SET context_timestamp = '2026-01-01T00:00:00.000001Z'",
        "UPDATE registry SET encrypted_data_key = 'AAAA' || substr(encrypted_data_key, 5)",
        "UPDATE registry SET encrypted_data_key = substr(encrypted_data_key, 1, 84) || 'AAA='",
        "UPDATE registry SET encrypted_data_key = 'x'",
    };
    for (size_t i = 0; i < sizeof edits / sizeof edits[0]; i++) {
        struct dk_place place;
        struct dekhand *d = NULL;
        struct dekhand_error error;
        dk_place_new(&place, false);
        dk_place_drop_triggers(&place, "registry");
        assert_int_equal(dk_place_sql(&place, edits[i]), 0);
        assert_int_equal(dk_place_try_open(&place, &d, &error), DEKHAND_E_TAMPERED);
        dk_place_free(&place);
    }
}

static void a_registry_that_lost_its_key_gets_no_second_one(void **state)
{
    (void)state;
    struct dk_place place;
    struct dk_test_value value;
    struct dekhand_error error;
    dk_place_new(&place, false);
    struct dekhand *d = dk_place_open(&place);
    assert_int_equal(dk_test_encrypt(d, "acme", "one", &value), DEKHAND_OK);
    dk_place_close(d);
    dk_place_drop_triggers(&place, "registry");
    assert_int_equal(
        dk_place_sql(&place,
                     "UPDATE registry SET provider = NULL, kms_key_id = NULL, encrypted_data_key "
                     "= NULL, context_timestamp = NULL"),
        0);
    char *before = dk_place_dump(&place, true);
    assert_int_equal(dk_place_try_open(&place, &d, &error), DEKHAND_E_CONFIG);
    assert_int_equal(dk_place_init(&place, &error), DEKHAND_E_CONFIG);
    assert_non_null(strstr(error.text, "local:"));
    assert_true(dk_place_unchanged(&place, true, before));
    dk_place_free(&place);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(R9_golden_rows_have_these_macs),
        cmocka_unit_test(R9_golden_tenants_with_a_chain_have_these_macs),
        cmocka_unit_test(R9_golden_log_rows_have_these_macs),
        cmocka_unit_test(R9_golden_seals_have_these_macs_and_hashes),
        cmocka_unit_test(R9_golden_key_rows_have_these_digests),
        cmocka_unit_test(I01_I03_F51_a_changed_column_of_a_key_is_tampered),
        cmocka_unit_test(I03_a_changed_column_of_a_tenant_is_tampered),
        cmocka_unit_test(a_pin_that_is_another_is_refused),
        cmocka_unit_test(F53_a_changed_registry_row_does_not_open),
        cmocka_unit_test(a_registry_that_lost_its_key_gets_no_second_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
