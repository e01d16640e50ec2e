/*
 * Any values in rows of the log and in seals, their heads among them: `audit verify` reads them
 * all, and finds something: such rows are no registry.
 */
#include "fuzz/rows.h"
#include "keys/verify.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct fuzz_column log_columns[] = {
    {"id", "'7d0c4a7e-3b0f-4a55-9d35-0c6f4f5e6a01'"},
    {"tenant_id", "'acme'"},
    {"operation", "'create'"},
    {"from_version", "NULL"},
    {"to_version", "1"},
    {"success", "1"},
    {"error_message", "NULL"},
    {"performed_at", "'" FUZZ_TIME "'"},
    {"performed_by", "'cli:alice'"},
    {"node", "'db-1/0123456789abcdef'"},
    {"detail", "NULL"},
    {"prev", "NULL"},
    {"mac", "'" FUZZ_MAC "'"},
};
static const struct fuzz_column seal_columns[] = {
    {"n", "1"},
    {"at", "'" FUZZ_TIME "'"},
    {"heads", "'tenant acme 1 " FUZZ_MAC "' || char(10)"},
    {"prev", "NULL"},
    {"mac", "'" FUZZ_MAC "'"},
};
/* Both stay empty. */
static const struct fuzz_column key_columns[] = {
    {"id", ""},
    {"tenant_id", ""},
    {"version", ""},
    {"state", ""},
    {"provider", ""},
    {"kms_key_id", ""},
    {"encrypted_data_key", ""},
    {"context_timestamp", ""},
    {"check_value", ""},
    {"created_at", ""},
    {"expires_at", ""},
    {"rotated_at", ""},
    {"compromised_at", ""},
    {"disabled_at", ""},
    {"purged_at", ""},
    {"messages", ""},
    {"row_mac", ""},
};
static const struct fuzz_column tenant_columns[] = {
    {"tenant_id", ""}, {"next_version", ""}, {"epoch", ""},       {"rotation_days", ""},
    {"row_mac", ""},   {"log_head", ""},     {"keys_digest", ""}, {"changed_xid", ""},
};
static const struct fuzz_table tables[] = {
    {"key_rotation_log", log_columns, sizeof log_columns / sizeof log_columns[0]},
    {"seals", seal_columns, sizeof seal_columns / sizeof seal_columns[0]},
    {"encryption_keys", key_columns, sizeof key_columns / sizeof key_columns[0]},
    {"tenants", tenant_columns, sizeof tenant_columns / sizeof tenant_columns[0]},
};

static struct dk_core core;
static struct dk_sqlite_txn txn;

static void set_mac(const char *sql, const char *mac, int64_t n)
{
    sqlite3_stmt *stmt = NULL;
    fuzz_must(sqlite3_prepare_v2(txn.db, sql, -1, &stmt, NULL) == SQLITE_OK);
    sqlite3_bind_text(stmt, 1, mac, -1, SQLITE_STATIC);
    sqlite3_bind_int64(stmt, 2, n);
    fuzz_must(sqlite3_step(stmt) == SQLITE_DONE);
    sqlite3_finalize(stmt);
}

static bool sign_log(void *arg, const struct dk_log_row *row)
{
    struct dk_err err;
    struct dk_log_row mine = *row;
    (void)arg;
    dk_err_clear(&err);
    if (dk_registry_seal_log(&core, NULL, &mine, &err) == DK_OK) {
        set_mac("UPDATE key_rotation_log SET mac = ?1 WHERE rowid = ?2", mine.mac, row->seq);
    }
    return true;
}

static bool sign_seal(void *arg, const struct dk_seal_row *row)
{
    struct dk_err err;
    struct dk_seal_row mine = *row;
    (void)arg;
    dk_err_clear(&err);
    if (dk_registry_seal_seal(&core, NULL, &mine, &err) == DK_OK) {
        set_mac("UPDATE seals SET mac = ?1 WHERE n = ?2", mine.mac, row->n);
    }
    return true;
}

/* With the right MACs what they protect is read further. */
static void sign(void)
{
    struct dk_err err;
    const struct dk_log_query all = {.since = DK_TIME_NONE, .until = DK_TIME_NONE};
    dk_err_clear(&err);
    dk_rc log = dk_sqlite_log_walk(&txn, &all, sign_log, NULL, &err);
    dk_err_clear(&err);
    dk_rc seals = dk_sqlite_seal_walk(&txn, 1, sign_seal, NULL, &err);
    (void)log;
    (void)seals;
}

static void see(void *arg, const struct dk_finding *finding)
{
    (void)arg;
    fuzz_must(finding->table[0] != '\0' && finding->text[0] != '\0' && finding->row != NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input in = {data, size};
    struct dk_verify_result result;
    struct dk_err err;
    dk_err_clear(&err);
    if (txn.db == NULL) {
        fuzz_open(&core, &txn, tables, 4);
        fuzz_must(dk_audit_open(&core, &err) == DK_OK);
    }
    fuzz_sql(txn.db, "DELETE FROM key_rotation_log; DELETE FROM seals");
    uint8_t shape = fuzz_byte(&in);
    for (int i = 0; i < (shape & 3); i++) {
        fuzz_insert(txn.db, &tables[0], &in);
    }
    for (int i = 0; i < (shape >> 2 & 3); i++) {
        fuzz_insert(txn.db, &tables[1], &in);
    }
    if ((shape & 16) != 0) {
        sign();
    }
    fuzz_must(dk_verify(&core, see, NULL, &result, &err) == DK_OK);
    fuzz_must(result.findings > 0 || result.log_rows > 0 || result.seals > 0);
    return 0;
}
