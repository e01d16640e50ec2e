/*
 * Any values in the rows of a key and of a tenant: refused, or a row that dekhand writes again byte
 * for byte (else two rows would carry one MAC), with a MAC that only the registry key makes.
 */
#include "fuzz/rows.h"
#include "keys/states.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct fuzz_column key_columns[] = {
    {"id", "'0b9f2c1e-7f0a-4d0e-8f39-5a1d2c3b4e5f'"},
    {"tenant_id", "'acme'"},
    {"version", "1"},
    {"state", "'active'"},
    {"provider", "'local'"},
    {"kms_key_id", "'local:00112233445566778899aabbccddeeff'"},
    {"encrypted_data_key", "'AQAAAAE='"},
    {"context_timestamp", "'" FUZZ_TIME "'"},
    {"check_value", "zeroblob(32)"},
    {"created_at", "'" FUZZ_TIME "'"},
    {"expires_at", "'" FUZZ_TIME "'"},
    {"rotated_at", "NULL"},
    {"compromised_at", "NULL"},
    {"disabled_at", "NULL"},
    {"purged_at", "NULL"},
    {"messages", "0"},
    {"row_mac", "'" FUZZ_MAC "'"},
};
static const struct fuzz_column tenant_columns[] = {
    {"tenant_id", "'acme'"},   {"next_version", "2"},         {"epoch", "1"},
    {"rotation_days", "NULL"}, {"row_mac", "'" FUZZ_MAC "'"}, {"log_head", "NULL"},
    {"keys_digest", "NULL"},   {"changed_xid", "1"},
};
static const struct fuzz_table tables[] = {
    {"encryption_keys", key_columns, sizeof key_columns / sizeof key_columns[0]},
    {"tenants", tenant_columns, sizeof tenant_columns / sizeof tenant_columns[0]},
};

static struct dk_core core;
static struct dk_sqlite_txn txn;
static struct dk_err err;

static bool is_none(const char *sql)
{
    sqlite3_stmt *stmt = NULL;
    fuzz_must(sqlite3_prepare_v2(txn.db, sql, -1, &stmt, NULL) == SQLITE_OK);
    bool none = sqlite3_step(stmt) == SQLITE_DONE;
    sqlite3_finalize(stmt);
    return none;
}

/* Which columns a purged or foreign row may lack is the schema's affair: NOT NULL. */
#define SAME_KEYS                                                                                  \
    "SELECT * FROM key_before WHERE id IS NOT NULL AND provider IS NOT NULL AND kms_key_id IS "    \
    "NOT "                                                                                         \
    "NULL AND encrypted_data_key IS NOT NULL AND context_timestamp IS NOT NULL AND row_mac IS "    \
    "NOT "                                                                                         \
    "NULL AND messages IS NOT NULL EXCEPT SELECT * FROM encryption_keys"

static void check_states(struct dk_key_row *row, int64_t now)
{
    dk_err_clear(&err);
    dk_rc open = dk_state_check_open(row, &err);
    dk_err_clear(&err);
    dk_rc encrypt = dk_state_check_encrypt(row, now, &core.limits, &err);
    fuzz_must((open == DK_OK) == (row->state == DK_ACTIVE || row->state == DK_RETIRED));
    fuzz_must(encrypt != DK_OK || (row->state == DK_ACTIVE && row->compromised_at == DK_TIME_NONE));
    fuzz_must(dk_state_is_due(row, now, &core.limits) || encrypt != DK_E_COMPROMISED);
    dk_err_clear(&err);
}

static void check_key(struct dk_key_row *row, int64_t now)
{
    bool inserted = false;
    dk_err_clear(&err);
    fuzz_must(dk_registry_verify_key(&core, NULL, row, &err) == DK_E_TAMPERED ||
              strcmp(row->row_mac, FUZZ_MAC) != 0);
    fuzz_sql(txn.db, "DELETE FROM encryption_keys");
    fuzz_must(dk_sqlite_key_insert(&txn, row, &inserted, &err) == DK_OK && inserted);
    fuzz_must(is_none(SAME_KEYS));
    fuzz_must(dk_registry_seal_key(&core, NULL, row, &err) == DK_OK);
    fuzz_must(dk_registry_verify_key(&core, NULL, row, &err) == DK_OK);
    check_states(row, now);
    row->version ^= 1;
    fuzz_must(dk_registry_verify_key(&core, NULL, row, &err) == DK_E_TAMPERED);
}

static void check_tenant(struct dk_tenant_row *row)
{
    bool inserted = false;
    dk_err_clear(&err);
    fuzz_sql(txn.db, "DELETE FROM tenants");
    fuzz_must(dk_sqlite_tenant_insert(&txn, row, &inserted, &err) == DK_OK && inserted);
    fuzz_must(is_none("SELECT tenant_id, next_version, epoch, rotation_days, row_mac, log_head, "
                      "keys_digest FROM tenant_before WHERE row_mac IS NOT NULL EXCEPT SELECT "
                      "tenant_id, next_version, epoch, rotation_days, row_mac, log_head, "
                      "keys_digest FROM tenants"));
    fuzz_must(dk_registry_seal_tenant(&core, NULL, row, &err) == DK_OK);
    fuzz_must(dk_registry_verify_tenant(&core, NULL, row, &err) == DK_OK);
    row->epoch ^= 1;
    fuzz_must(dk_registry_verify_tenant(&core, NULL, row, &err) == DK_E_TAMPERED);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input in = {data, size};
    static struct dk_key_row key;
    static struct dk_tenant_row tenant;
    const struct dk_key_cursor start = {0};
    size_t count = 0;
    if (txn.db == NULL) {
        fuzz_open(&core, &txn, tables, 2);
        fuzz_sql(txn.db, "CREATE TABLE key_before AS SELECT * FROM encryption_keys; "
                         "CREATE TABLE tenant_before AS SELECT * FROM tenants");
    }
    fuzz_sql(txn.db, "DELETE FROM encryption_keys; DELETE FROM tenants; DELETE FROM key_before; "
                     "DELETE FROM tenant_before");
    txn.change_mark = 0;
    int64_t now = fuzz_int(&in) >> 8; /* before the year 3000 or so */
    fuzz_insert(txn.db, &tables[0], &in);
    fuzz_insert(txn.db, &tables[1], &in);
    fuzz_sql(txn.db, "INSERT INTO key_before SELECT * FROM encryption_keys; "
                     "INSERT INTO tenant_before SELECT * FROM tenants");
    dk_err_clear(&err);
    dk_rc rc = dk_sqlite_key_list(&txn, NULL, DK_KEYS_ALL, &start, 1, &key, &count, &err);
    fuzz_must(rc == DK_OK || rc == DK_E_TAMPERED);
    if (rc == DK_OK && count == 1) {
        check_key(&key, now);
    }
    dk_err_clear(&err);
    rc = dk_sqlite_tenant_list(&txn, "", 1, &tenant, &count, &err);
    fuzz_must(rc == DK_OK || rc == DK_E_TAMPERED);
    if (rc == DK_OK && count == 1) {
        check_tenant(&tenant);
    }
    return 0;
}
