/* Rows of the registry to and from SQLite: one SQL text a statement, one reader a table. */
#include <stdio.h>

#include "store/sqlite_stmt.h"

#define KEY_COLUMNS                                                                                \
    "id, tenant_id, version, state, provider, kms_key_id, encrypted_data_key, context_timestamp, " \
    "check_value, created_at, expires_at, rotated_at, compromised_at, disabled_at, purged_at, "    \
    "messages, row_mac"
#define LOG_COLUMNS                                                                                \
    "id, tenant_id, operation, from_version, to_version, success, error_message, performed_at, "   \
    "performed_by, node, detail, prev, mac"
#define LOG_WALK(where, order)                                                                     \
    "SELECT rowid, " LOG_COLUMNS " FROM key_rotation_log WHERE " where                             \
    " AND (?2 IS NULL OR performed_at >= ?2) AND (?3 IS NULL OR performed_at < ?3) " order
#define WRAP_COLUMNS                                                                               \
    "tenant_id, version, provider, kms_key_id, encrypted_data_key, context_timestamp, "            \
    "last_verified_at, row_mac"
#define BEHIND "(?3 IS NULL OR (last_verified_at, tenant_id, version, provider) > (?3, ?4, ?5, ?6))"
#define TENANT_COLUMNS                                                                             \
    "tenant_id, next_version, epoch, rotation_days, row_mac, log_head, keys_digest"

const char *const dk_sqlite_sql[DK_SQL_COUNT] = {
    [DK_SQL_REGISTRY_READ] =
        "SELECT registry_uuid, schema_version, created_at, provider, kms_key_id, "
        "encrypted_data_key, context_timestamp, generation, rekeying, pruned_seq FROM registry "
        "WHERE id = 1",
    [DK_SQL_REGISTRY_FILL] =
        "UPDATE registry SET provider = ?1, kms_key_id = ?2, encrypted_data_key = ?3, "
        "context_timestamp = ?4 WHERE id = 1 AND encrypted_data_key IS NULL",
    [DK_SQL_REGISTRY_KEEP] =
        "INSERT INTO registry_keys (generation, provider, kms_key_id, encrypted_data_key, "
        "context_timestamp, last_seal) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    [DK_SQL_REGISTRY_REKEY] =
        "UPDATE registry SET provider = ?1, kms_key_id = ?2, encrypted_data_key = ?3, "
        "context_timestamp = ?4, generation = ?5 + 1, rekeying = 1 WHERE id = 1 AND generation = "
        "?5 AND rekeying = 0",
    [DK_SQL_REGISTRY_REKEYED] =
        "UPDATE registry SET rekeying = 0 WHERE id = 1 AND generation = ?1 AND rekeying = 1",
    [DK_SQL_REGISTRY_PRUNED] = "UPDATE registry SET pruned_seq = max(pruned_seq, ?1) WHERE id = 1",
    [DK_SQL_REGISTRY_KEYS] =
        "SELECT generation, provider, kms_key_id, encrypted_data_key, context_timestamp, last_seal "
        "FROM registry_keys WHERE generation >= ?1 ORDER BY generation",
    [DK_SQL_TENANT_READ] = "SELECT " TENANT_COLUMNS " FROM tenants WHERE tenant_id = ?1",
    [DK_SQL_TENANT_LIST] = "SELECT " TENANT_COLUMNS " FROM tenants WHERE tenant_id > ?1 ORDER BY "
                           "tenant_id LIMIT ?2",
    [DK_SQL_WRAPS_OF] = "SELECT " WRAP_COLUMNS " FROM wraps WHERE tenant_id = ?1 AND (?2 = 0 OR "
                        "version = ?2) ORDER BY version, provider",
    [DK_SQL_WRAPS_STALE] =
        "SELECT " WRAP_COLUMNS " FROM wraps WHERE last_verified_at < ?1 AND " BEHIND
        " UNION ALL SELECT " WRAP_COLUMNS " FROM wraps WHERE last_verified_at > ?2 AND " BEHIND
        " ORDER BY last_verified_at, tenant_id, version, provider",
    [DK_SQL_WRAP_PUT] =
        "INSERT INTO wraps (" WRAP_COLUMNS
        ") VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT (tenant_id, version, "
        "provider) DO UPDATE SET kms_key_id = ?4, encrypted_data_key = ?5, "
        "context_timestamp = ?6, last_verified_at = ?7, row_mac = ?8",
    [DK_SQL_WRAP_DROP] =
        "DELETE FROM wraps WHERE tenant_id = ?1 AND version = ?2 AND provider = ?3",
    [DK_SQL_WRAPS_MISSING] =
        "SELECT " KEY_COLUMNS " FROM encryption_keys k WHERE (tenant_id, version) > (?1, ?2) AND "
        "state <> 'purged' AND provider <> ?3 AND NOT EXISTS (SELECT 1 FROM wraps w WHERE "
        "w.tenant_id = k.tenant_id AND w.version = k.version AND w.provider = ?3) ORDER BY "
        "tenant_id, version",
    [DK_SQL_REGISTRY_WRAPS] = "SELECT provider, kms_key_id, encrypted_data_key, context_timestamp "
                              "FROM registry_wraps WHERE generation = ?1 ORDER BY provider",
    [DK_SQL_REGISTRY_WRAP_PUT] =
        "INSERT INTO registry_wraps (generation, provider, kms_key_id, encrypted_data_key, "
        "context_timestamp) VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT (generation, provider) DO "
        "UPDATE SET kms_key_id = ?3, encrypted_data_key = ?4, context_timestamp = ?5",
    [DK_SQL_REGISTRY_WRAP_DROP] =
        "DELETE FROM registry_wraps WHERE generation = ?1 AND provider = ?2",
    [DK_SQL_REGISTRY_REWRAP] =
        "UPDATE registry SET provider = ?2, kms_key_id = ?3, encrypted_data_key = ?4, "
        "context_timestamp = ?5 WHERE id = 1 AND generation = ?1 AND encrypted_data_key = ?6",
    [DK_SQL_CALLS_ADD] =
        "INSERT INTO call_counts (day, source, operation, calls, failed) VALUES (?1, ?2, ?3, ?4, "
        "?5) ON CONFLICT (day, source, operation) DO UPDATE SET calls = calls + ?4, failed = "
        "failed + ?5",
    [DK_SQL_CALLS_SUM] =
        "SELECT min(day), source, operation, sum(calls), sum(failed) FROM call_counts WHERE day >= "
        "?1 GROUP BY source, operation ORDER BY source, operation",
    [DK_SQL_TENANT_INSERT] = "INSERT OR FAIL INTO tenants (" TENANT_COLUMNS
                             ", changed_xid) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, "
                             "?8) ON CONFLICT DO NOTHING",
    [DK_SQL_TENANT_UPDATE] =
        "UPDATE tenants SET next_version = ?2, epoch = ?3, rotation_days = "
        "?4, row_mac = ?5, log_head = ?6, keys_digest = ?7, changed_xid = ?8 WHERE "
        "tenant_id = ?1 AND epoch = ?9",
    [DK_SQL_TENANT_REMAC] = "UPDATE tenants SET row_mac = ?2, keys_digest = ?3 WHERE tenant_id = "
                            "?1 AND row_mac = ?4",
    [DK_SQL_KEY_READ] = "SELECT " KEY_COLUMNS " FROM encryption_keys WHERE tenant_id = ?1 AND "
                        "version = ?2",
    [DK_SQL_KEY_ACTIVE] = "SELECT " KEY_COLUMNS " FROM encryption_keys WHERE tenant_id = ?1 AND "
                          "state = 'active'",
    [DK_SQL_KEY_INSERT] =
        "INSERT OR FAIL INTO encryption_keys (" KEY_COLUMNS ") VALUES (?1, ?2, ?3, ?4, "
        "?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17) ON CONFLICT "
        "DO NOTHING",
    [DK_SQL_KEY_CHECK] = "SELECT 1 FROM encryption_keys WHERE check_value = ?1",
    [DK_SQL_KEY_UPDATE] =
        "UPDATE encryption_keys SET state = ?4, provider = ?5, kms_key_id = ?6, encrypted_data_key "
        "= ?7, context_timestamp = ?8, expires_at = ?11, rotated_at = ?12, compromised_at = ?13, "
        "disabled_at = ?14, purged_at = ?15, row_mac = ?17 WHERE id = ?1 AND tenant_id = ?2 AND "
        "version = ?3 AND state = ?18 AND check_value = ?9 AND created_at = ?10",
    [DK_SQL_KEY_REMAC] = "UPDATE encryption_keys SET row_mac = ?3 WHERE tenant_id = ?1 AND version "
                         "= ?2 AND row_mac = ?4",
    [DK_SQL_KEY_MESSAGES] = "UPDATE encryption_keys SET messages = messages + ?3 WHERE tenant_id = "
                            "?1 AND version = ?2 RETURNING messages",
    [DK_SQL_KEY_LIST] = "SELECT " KEY_COLUMNS " FROM encryption_keys WHERE (tenant_id, version) > "
                        "(?1, ?2) ORDER BY tenant_id, version LIMIT ?3",
    [DK_SQL_KEY_LIST_ACTIVE] = "SELECT " KEY_COLUMNS " FROM encryption_keys WHERE (tenant_id, "
                               "version) > (?1, ?2) AND state = 'active' ORDER BY tenant_id, "
                               "version LIMIT ?3",
    [DK_SQL_KEY_LIST_TENANT] = "SELECT " KEY_COLUMNS " FROM encryption_keys WHERE tenant_id = ?1 "
                               "AND version > ?2 ORDER BY version LIMIT ?3",
    [DK_SQL_KEY_EXPIRING] = "SELECT " KEY_COLUMNS " FROM encryption_keys WHERE state = 'active' "
                            "AND expires_at >= ?1 AND expires_at <= ?2 ORDER BY expires_at, "
                            "tenant_id",
    [DK_SQL_KEY_COUNTS] =
        "SELECT count(*), coalesce(sum(state = 'active'), 0), coalesce(sum(state = 'active' AND "
        "expires_at <= ?1), 0), coalesce(sum(state = 'active' AND expires_at > ?1 AND expires_at "
        "<= ?2), 0) FROM encryption_keys",
    [DK_SQL_KEY_MACS] = "SELECT version, row_mac FROM encryption_keys WHERE tenant_id = ?1 ORDER "
                        "BY version",
    [DK_SQL_KEY_FIND] = "SELECT " KEY_COLUMNS " FROM encryption_keys WHERE tenant_id = ?1 ORDER BY "
                        "version",
    [DK_SQL_LOG_APPEND] =
        "INSERT OR FAIL INTO key_rotation_log (" LOG_COLUMNS ") VALUES (?1, ?2, ?3, ?4, "
        "?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
    [DK_SQL_LOG_CHAIN] = "UPDATE key_rotation_log SET prev = ?2, mac = ?3 WHERE id = ?1 AND mac IS "
                         "NULL",
    [DK_SQL_LOG_OLDEST] = LOG_WALK("rowid > ?1", "ORDER BY rowid"),
    [DK_SQL_LOG_NEWEST] = LOG_WALK("(?1 = 0 OR rowid < ?1)", "ORDER BY rowid DESC"),
    [DK_SQL_LOG_TENANT_OLDEST] = LOG_WALK("rowid > ?1 AND tenant_id = ?4", "ORDER BY rowid"),
    [DK_SQL_LOG_TENANT_NEWEST] =
        LOG_WALK("(?1 = 0 OR rowid < ?1) AND tenant_id = ?4", "ORDER BY rowid DESC"),
    [DK_SQL_LOG_UNCHAINED] =
        LOG_WALK("rowid > ?1 AND tenant_id = ?4 AND mac IS NULL", "ORDER BY rowid"),
    [DK_SQL_LOG_FAILED] = LOG_WALK("(?1 = 0 OR rowid < ?1) AND success = 0", "ORDER BY rowid DESC"),
    [DK_SQL_LOG_KNOWS] = "SELECT 1 FROM key_rotation_log WHERE tenant_id = ?1 AND operation <> "
                         "'decrypt' LIMIT 1",
    [DK_SQL_LOG_EDGE] = "SELECT max(rowid), count(*) FROM key_rotation_log WHERE rowid <= (SELECT "
                        "rowid FROM key_rotation_log WHERE mac = ?1)",
    [DK_SQL_LOG_PRUNE] = "DELETE FROM key_rotation_log WHERE rowid IN (SELECT rowid FROM "
                         "key_rotation_log WHERE rowid <= ?1 ORDER BY rowid LIMIT ?2)",
    [DK_SQL_LOG_MARK] = "SELECT coalesce(max(rowid), 0) FROM key_rotation_log",
    [DK_SQL_LOG_CLEARED] = "SELECT 1 FROM key_rotation_log WHERE tenant_id = '*' AND operation = "
                           "'cache-clear' AND rowid > ?1 AND rowid <= ?2 LIMIT 1",
    [DK_SQL_SEAL_APPEND] = "INSERT INTO seals (n, at, heads, prev, mac) VALUES (?1, ?2, ?3, ?4, "
                           "?5)",
    [DK_SQL_SEAL_NEWEST] = "SELECT n, at, NULL, prev, mac FROM seals ORDER BY n DESC LIMIT 1",
    [DK_SQL_SEAL_WALK] = "SELECT n, at, heads, prev, mac FROM seals WHERE n >= ?1 ORDER BY n",
    [DK_SQL_CHANGES] =
        "SELECT tenant_id FROM tenants WHERE changed_xid > ?1 AND changed_xid <= ?2 AND epoch > 1",
    [DK_SQL_CHANGES_MARK] = "SELECT coalesce(max(changed_xid), 0) FROM tenants",
};

/* ---- reading rows ---------------------------------------------------------------------------- */

static bool read_registry(sqlite3_stmt *stmt, void *to)
{
    struct dk_registry_row *out = to;
    int64_t rekeying = 0;
    bool ok = dk_sql_read_str(stmt, 0, out->uuid, sizeof out->uuid) &&
              dk_sql_read_version(stmt, 1, &out->schema_version) &&
              dk_sql_read_time(stmt, 2, false, &out->created_at) &&
              dk_sql_read_wrap(stmt, 3, &out->wrap) &&
              dk_sql_read_version(stmt, 7, &out->generation) &&
              dk_sql_read_int(stmt, 8, 0, 1, &rekeying) &&
              dk_sql_read_int(stmt, 9, 0, INT64_MAX, &out->pruned_seq);
    out->rekeying = rekeying == 1;
    return ok;
}

static bool read_registry_key(sqlite3_stmt *stmt, struct dk_registry_key_row *out)
{
    return dk_sql_read_version(stmt, 0, &out->generation) &&
           dk_sql_read_wrap(stmt, 1, &out->wrap) &&
           dk_sql_read_int(stmt, 5, 1, INT64_MAX, &out->last_seal);
}

/* NULL reads as 0; a 0 that is stored would carry the same MAC. */
static bool read_days(sqlite3_stmt *stmt, int i, int64_t *out)
{
    bool null = sqlite3_column_type(stmt, i) == SQLITE_NULL;
    return dk_sql_read_int(stmt, i, null ? 0 : 1, INT32_MAX, out);
}

static bool read_tenant_row(sqlite3_stmt *stmt, void *to)
{
    struct dk_tenant_row *out = to;
    return dk_sql_read_tenant(stmt, 0, &out->tenant) &&
           dk_sql_read_int(stmt, 1, 1, (int64_t)INT32_MAX + 1, &out->next_version) &&
           dk_sql_read_int(stmt, 2, 1, INT64_MAX, &out->epoch) &&
           read_days(stmt, 3, &out->rotation_days) &&
           dk_sql_read_str(stmt, 4, out->row_mac, sizeof out->row_mac) &&
           dk_sql_read_nullable(stmt, 5, out->log_head, sizeof out->log_head) &&
           dk_sql_read_nullable(stmt, 6, out->keys_digest, sizeof out->keys_digest);
}

/* ---- the face -------------------------------------------------------------------------------- */

dk_rc dk_sqlite_registry_read(void *self, struct dk_registry_row *out, struct dk_err *err)
{
    sqlite3_stmt *stmt = NULL;
    struct dk_registry_row row = {0};
    DK_TRY(dk_sql_prepare(self, DK_SQL_REGISTRY_READ, &stmt, err));
    DK_TRY(dk_sql_read_one(self, stmt, SQLITE_OK, read_registry, &row, "registry", err));
    *out = row;
    return DK_OK;
}

dk_rc dk_sqlite_registry_fill(void *self, const struct dk_wrap_columns *wrap, bool *filled,
                              struct dk_err *err)
{
    sqlite3_stmt *stmt = NULL;
    DK_TRY(dk_sql_prepare(self, DK_SQL_REGISTRY_FILL, &stmt, err));
    int bound = dk_sql_bind_str(stmt, 1, wrap->provider) |
                dk_sql_bind_str(stmt, 2, wrap->kms_key_id) |
                dk_sql_bind_str(stmt, 3, wrap->encrypted_data_key) |
                dk_sql_bind_str(stmt, 4, wrap->context_timestamp);
    return dk_sql_run(self, stmt, bound, "storing the registry key", filled, err);
}

dk_rc dk_sqlite_registry_rekey(void *self, const struct dk_registry_key_row *earlier,
                               const struct dk_wrap_columns *wrap, struct dk_err *err)
{
    sqlite3_stmt *stmt = NULL;
    bool stored = false;
    DK_TRY(dk_sql_prepare(self, DK_SQL_REGISTRY_KEEP, &stmt, err));
    int bound = sqlite3_bind_int64(stmt, 1, earlier->generation) |
                dk_sql_bind_str(stmt, 2, earlier->wrap.provider) |
                dk_sql_bind_str(stmt, 3, earlier->wrap.kms_key_id) |
                dk_sql_bind_str(stmt, 4, earlier->wrap.encrypted_data_key) |
                dk_sql_bind_str(stmt, 5, earlier->wrap.context_timestamp) |
                sqlite3_bind_int64(stmt, 6, earlier->last_seal);
    DK_TRY(dk_sql_run(self, stmt, bound, "keeping the earlier registry key", &stored, err));
    if (!stored) {
        return DK_FAIL(err, TAMPERED, "something in the database drops earlier registry keys");
    }
    DK_TRY(dk_sql_prepare(self, DK_SQL_REGISTRY_REKEY, &stmt, err));
    bound = dk_sql_bind_str(stmt, 1, wrap->provider) | dk_sql_bind_str(stmt, 2, wrap->kms_key_id) |
            dk_sql_bind_str(stmt, 3, wrap->encrypted_data_key) |
            dk_sql_bind_str(stmt, 4, wrap->context_timestamp) |
            sqlite3_bind_int64(stmt, 5, earlier->generation);
    DK_TRY(dk_sql_run(self, stmt, bound, "storing the next registry key", &stored, err));
    return stored ? DK_OK : DK_FAIL(err, CONFLICT, "the registry was rekeyed by another");
}

dk_rc dk_sqlite_registry_rekeyed(void *self, uint32_t generation, struct dk_err *err)
{
    sqlite3_stmt *stmt = NULL;
    bool changed = false;
    DK_TRY(dk_sql_prepare(self, DK_SQL_REGISTRY_REKEYED, &stmt, err));
    int bound = sqlite3_bind_int64(stmt, 1, generation);
    DK_TRY(dk_sql_run(self, stmt, bound, "ending the rekey", &changed, err));
    return changed ? DK_OK : DK_FAIL(err, CONFLICT, "there is no rekey under way");
}

dk_rc dk_sqlite_registry_pruned(void *self, const struct dk_log_edge *edge, struct dk_err *err)
{
    sqlite3_stmt *stmt = NULL;
    bool changed = false;
    DK_TRY(dk_sql_prepare(self, DK_SQL_REGISTRY_PRUNED, &stmt, err));
    int bound = sqlite3_bind_int64(stmt, 1, edge->seq);
    DK_TRY(dk_sql_run(self, stmt, bound, "noting what was pruned", &changed, err));
    return changed ? DK_OK : DK_FAIL(err, TAMPERED, "there is no registry row");
}

dk_rc dk_sqlite_registry_keys(void *self, uint32_t from,
                              bool (*each)(void *arg, const struct dk_registry_key_row *row),
                              void *arg, struct dk_err *err)
{
    struct dk_sqlite_txn *txn = self;
    sqlite3_stmt *stmt = NULL;
    struct dk_registry_key_row row;
    DK_TRY(dk_sql_prepare(txn, DK_SQL_REGISTRY_KEYS, &stmt, err));
    int code = sqlite3_bind_int64(stmt, 1, from) == SQLITE_OK ? SQLITE_ROW : SQLITE_NOMEM;
    while (code == SQLITE_ROW && (code = sqlite3_step(stmt)) == SQLITE_ROW) {
        if (!read_registry_key(stmt, &row)) {
            return dk_sql_finish_one(txn, stmt, false, "registry_keys", err);
        }
        if (!each(arg, &row)) {
            break;
        }
    }
    return dk_sql_end_walk(txn, stmt, code, "reading the earlier registry keys", err);
}

dk_rc dk_sqlite_tenant_read(void *self, const struct dk_tenant *tenant, struct dk_tenant_row *out,
                            struct dk_err *err)
{
    sqlite3_stmt *stmt = NULL;
    struct dk_tenant_row row = {0};
    DK_TRY(dk_sql_prepare(self, DK_SQL_TENANT_READ, &stmt, err));
    int bound = dk_sql_bind_str(stmt, 1, tenant->s);
    DK_TRY(dk_sql_read_one(self, stmt, bound, read_tenant_row, &row, "tenants", err));
    *out = row;
    return DK_OK;
}

/* One number a transaction, above all that are there: the write lock is held. */
static dk_rc change_mark(struct dk_sqlite_txn *txn, struct dk_err *err)
{
    sqlite3_stmt *stmt = NULL;
    if (txn->change_mark == 0) {
        DK_TRY(dk_sql_prepare(txn, DK_SQL_CHANGES_MARK, &stmt, err));
        DK_TRY(dk_sql_step_one(txn, stmt, SQLITE_OK, "tenants", err));
        int64_t newest = sqlite3_column_int64(stmt, 0);
        sqlite3_reset(stmt);
        if (newest < 0 || newest == INT64_MAX) {
            return DK_FAIL(err, TAMPERED, "changed_xid of a tenant is %lld", (long long)newest);
        }
        txn->change_mark = newest + 1;
    }
    return DK_OK;
}

static int bind_tenant_row(sqlite3_stmt *stmt, const struct dk_tenant_row *row, int64_t mark)
{
    return dk_sql_bind_str(stmt, 1, row->tenant.s) |
           sqlite3_bind_int64(stmt, 2, row->next_version) |
           sqlite3_bind_int64(stmt, 3, row->epoch) |
           dk_sql_bind_int_or_null(stmt, 4, row->rotation_days) |
           dk_sql_bind_str(stmt, 5, row->row_mac) |
           dk_sql_bind_str_or_null(stmt, 6, row->log_head) |
           dk_sql_bind_str_or_null(stmt, 7, row->keys_digest) | sqlite3_bind_int64(stmt, 8, mark);
}

dk_rc dk_sqlite_tenant_insert(void *self, const struct dk_tenant_row *row, bool *inserted,
                              struct dk_err *err)
{
    struct dk_sqlite_txn *txn = self;
    sqlite3_stmt *stmt = NULL;
    DK_TRY(change_mark(txn, err));
    DK_TRY(dk_sql_prepare(txn, DK_SQL_TENANT_INSERT, &stmt, err));
    int bound = bind_tenant_row(stmt, row, txn->change_mark);
    return dk_sql_run(txn, stmt, bound, "storing a tenant", inserted, err);
}

dk_rc dk_sqlite_tenant_update(void *self, const struct dk_tenant_row *row, int64_t old_epoch,
                              bool *changed, struct dk_err *err)
{
    struct dk_sqlite_txn *txn = self;
    sqlite3_stmt *stmt = NULL;
    DK_TRY(change_mark(txn, err));
    DK_TRY(dk_sql_prepare(txn, DK_SQL_TENANT_UPDATE, &stmt, err));
    int bound =
        bind_tenant_row(stmt, row, txn->change_mark) | sqlite3_bind_int64(stmt, 9, old_epoch);
    return dk_sql_run(txn, stmt, bound, "changing a tenant", changed, err);
}

dk_rc dk_sqlite_tenant_remac(void *self, const struct dk_tenant_row *row, const char *old_mac,
                             bool *changed, struct dk_err *err)
{
    sqlite3_stmt *stmt = NULL;
    DK_TRY(dk_sql_prepare(self, DK_SQL_TENANT_REMAC, &stmt, err));
    int bound = dk_sql_bind_str(stmt, 1, row->tenant.s) | dk_sql_bind_str(stmt, 2, row->row_mac) |
                dk_sql_bind_str_or_null(stmt, 3, row->keys_digest) |
                dk_sql_bind_str(stmt, 4, old_mac);
    return dk_sql_run(self, stmt, bound, "renewing a MAC", changed, err);
}

dk_rc dk_sqlite_tenant_list(void *self, const char *after, size_t limit, struct dk_tenant_row *out,
                            size_t *count, struct dk_err *err)
{
    struct dk_sqlite_txn *txn = self;
    sqlite3_stmt *stmt = NULL;
    DK_TRY(dk_sql_prepare(txn, DK_SQL_TENANT_LIST, &stmt, err));
    int bound = dk_sql_bind_str(stmt, 1, after) | sqlite3_bind_int64(stmt, 2, (int64_t)limit);
    size_t n = 0;
    int code = bound == SQLITE_OK ? SQLITE_ROW : SQLITE_NOMEM;
    while (n < limit && code == SQLITE_ROW && (code = sqlite3_step(stmt)) == SQLITE_ROW) {
        if (!read_tenant_row(stmt, &out[n++])) {
            return dk_sql_finish_one(txn, stmt, false, "tenants", err);
        }
    }
    dk_rc rc = dk_sql_end_walk(txn, stmt, code, "listing tenants", err);
    *count = rc == DK_OK ? n : 0;
    return rc;
}

dk_rc dk_sqlite_changes(void *self, struct dk_mark *mark, bool *went_back,
                        void (*each)(void *arg, const struct dk_tenant *tenant), void *arg,
                        struct dk_err *err)
{
    struct dk_sqlite_txn *txn = self;
    sqlite3_stmt *stmt = NULL;
    DK_TRY(dk_sql_prepare(txn, DK_SQL_CHANGES_MARK, &stmt, err));
    DK_TRY(dk_sql_step_one(txn, stmt, SQLITE_OK, "tenants", err));
    int64_t newest = sqlite3_column_int64(stmt, 0);
    sqlite3_reset(stmt);
    *went_back = newest < mark->n;
    if (each != NULL && newest > mark->n) {
        DK_TRY(dk_sql_prepare(txn, DK_SQL_CHANGES, &stmt, err));
        int bound = sqlite3_bind_int64(stmt, 1, mark->n) | sqlite3_bind_int64(stmt, 2, newest);
        int code = bound == SQLITE_OK ? SQLITE_ROW : SQLITE_NOMEM;
        while (code == SQLITE_ROW && (code = sqlite3_step(stmt)) == SQLITE_ROW) {
            struct dk_tenant tenant;
            if (!dk_sql_read_tenant(stmt, 0, &tenant)) {
                return dk_sql_finish_one(txn, stmt, false, "tenants", err);
            }
            each(arg, &tenant);
        }
        if (code != SQLITE_DONE) {
            return dk_sqlite_fail(txn->db, code, "reading the changes", err);
        }
        sqlite3_reset(stmt);
    }
    mark->n = newest;
    return DK_OK;
}
