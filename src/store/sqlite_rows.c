/* Rows of the registry to and from SQLite: one SQL text a statement, one reader a table. */
#include <stdio.h>

#include "store/sqlite_txn.h"

#define KEY_COLUMNS                                                                                \
    "id, tenant_id, version, state, provider, kms_key_id, encrypted_data_key, context_timestamp, " \
    "check_value, created_at, expires_at, rotated_at, compromised_at, disabled_at, purged_at, "    \
    "messages, row_mac"
#define LOG_COLUMNS                                                                                \
    "id, tenant_id, operation, from_version, to_version, success, error_message, performed_at, "   \
    "performed_by, node, detail"

const char *const dk_sqlite_sql[DK_SQL_COUNT] = {
    [DK_SQL_REGISTRY_READ] =
        "SELECT registry_uuid, schema_version, created_at, provider, kms_key_id, "
        "encrypted_data_key, context_timestamp FROM registry WHERE id = 1",
    [DK_SQL_REGISTRY_FILL] =
        "UPDATE registry SET provider = ?1, kms_key_id = ?2, encrypted_data_key = ?3, "
        "context_timestamp = ?4 WHERE id = 1 AND encrypted_data_key IS NULL",
    [DK_SQL_TENANT_READ] = "SELECT tenant_id, next_version, epoch, rotation_days, row_mac "
                           "FROM tenants WHERE tenant_id = ?1",
    [DK_SQL_TENANT_INSERT] =
        "INSERT INTO tenants (tenant_id, next_version, epoch, rotation_days, row_mac, changed_xid) "
        "VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT DO NOTHING",
    [DK_SQL_TENANT_UPDATE] = "UPDATE tenants SET next_version = ?2, epoch = ?3, rotation_days = "
                             "?4, row_mac = ?5, changed_xid = ?6 WHERE tenant_id = ?1 AND epoch = "
                             "?7",
    [DK_SQL_KEY_READ] = "SELECT " KEY_COLUMNS " FROM encryption_keys WHERE tenant_id = ?1 AND "
                        "version = ?2",
    [DK_SQL_KEY_ACTIVE] = "SELECT " KEY_COLUMNS " FROM encryption_keys WHERE tenant_id = ?1 AND "
                          "state = 'active'",
    [DK_SQL_KEY_INSERT] = "INSERT INTO encryption_keys (" KEY_COLUMNS ") VALUES (?1, ?2, ?3, ?4, "
                          "?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17) ON CONFLICT "
                          "DO NOTHING",
    [DK_SQL_KEY_CHECK] = "SELECT 1 FROM encryption_keys WHERE check_value = ?1",
    [DK_SQL_KEY_UPDATE] =
        "UPDATE encryption_keys SET state = ?4, provider = ?5, kms_key_id = ?6, encrypted_data_key "
        "= ?7, context_timestamp = ?8, expires_at = ?11, rotated_at = ?12, compromised_at = ?13, "
        "disabled_at = ?14, purged_at = ?15, row_mac = ?17 WHERE id = ?1 AND tenant_id = ?2 AND "
        "version = ?3 AND state = ?18 AND check_value = ?9 AND created_at = ?10",
    [DK_SQL_KEY_MESSAGES] = "UPDATE encryption_keys SET messages = messages + ?3 WHERE tenant_id = "
                            "?1 AND version = ?2 RETURNING messages",
    [DK_SQL_KEY_LIST] = "SELECT " KEY_COLUMNS " FROM encryption_keys WHERE (tenant_id, version) > "
                        "(?1, ?2) ORDER BY tenant_id, version LIMIT ?3",
    [DK_SQL_KEY_LIST_ACTIVE] = "SELECT " KEY_COLUMNS " FROM encryption_keys WHERE (tenant_id, "
                               "version) > (?1, ?2) AND state = 'active' ORDER BY tenant_id, "
                               "version LIMIT ?3",
    [DK_SQL_KEY_LIST_TENANT] = "SELECT " KEY_COLUMNS " FROM encryption_keys WHERE tenant_id = ?1 "
                               "AND version > ?2 ORDER BY version LIMIT ?3",
    [DK_SQL_KEY_COUNTS] =
        "SELECT count(*), coalesce(sum(state = 'active'), 0), coalesce(sum(state = 'active' AND "
        "expires_at <= ?1), 0), coalesce(sum(state = 'active' AND expires_at > ?1 AND expires_at "
        "<= ?2), 0) FROM encryption_keys",
    [DK_SQL_LOG_APPEND] = "INSERT INTO key_rotation_log (" LOG_COLUMNS ") VALUES (?1, ?2, ?3, ?4, "
                          "?5, ?6, ?7, ?8, ?9, ?10, ?11)",
    [DK_SQL_LOG_LIST] = "SELECT " LOG_COLUMNS " FROM key_rotation_log ORDER BY performed_at DESC, "
                        "rowid DESC LIMIT ?1",
    [DK_SQL_LOG_LIST_TENANT] = "SELECT " LOG_COLUMNS " FROM key_rotation_log WHERE tenant_id = ?2 "
                               "ORDER BY performed_at DESC, rowid DESC LIMIT ?1",
    [DK_SQL_CHANGES] = "SELECT tenant_id FROM tenants WHERE changed_xid > ?1 AND changed_xid <= ?2",
    [DK_SQL_CHANGES_MARK] = "SELECT coalesce(max(changed_xid), 0) FROM tenants",
};

/* ---- statements ----------------------------------------------------------------------------- */

static dk_rc prepare(struct dk_sqlite_txn *txn, enum dk_sqlite_statement which, sqlite3_stmt **out,
                     struct dk_err *err)
{
    sqlite3_stmt **stmt = &txn->prepared[which];
    if (*stmt == NULL) {
        int code = sqlite3_prepare_v3(txn->db, dk_sqlite_sql[which], -1, SQLITE_PREPARE_PERSISTENT,
                                      stmt, NULL);
        if (code != SQLITE_OK) {
            return dk_sqlite_fail(txn->db, code, "preparing a statement", err);
        }
    }
    sqlite3_reset(*stmt);
    *out = *stmt;
    return DK_OK;
}

/* The bound values outlive the step: no copy is made. */
static int bind_str(sqlite3_stmt *stmt, int i, const char *s)
{
    return sqlite3_bind_text(stmt, i, s, -1, SQLITE_STATIC);
}

static int bind_str_or_null(sqlite3_stmt *stmt, int i, const char *s)
{
    return s[0] == '\0' ? sqlite3_bind_null(stmt, i) : bind_str(stmt, i, s);
}

static int bind_int_or_null(sqlite3_stmt *stmt, int i, int64_t v)
{
    return v == 0 ? sqlite3_bind_null(stmt, i) : sqlite3_bind_int64(stmt, i, v);
}

static int bind_time(sqlite3_stmt *stmt, int i, int64_t us)
{
    char text[DK_TIME_TEXT];
    if (us == DK_TIME_NONE) {
        return sqlite3_bind_null(stmt, i);
    }
    dk_time_format(us, text);
    return sqlite3_bind_text(stmt, i, text, -1, SQLITE_TRANSIENT);
}

/* Steps a statement that gives no row, once. `bound` = the results of the binds, or-ed. */
static dk_rc run(struct dk_sqlite_txn *txn, sqlite3_stmt *stmt, int bound, const char *what,
                 bool *changed, struct dk_err *err)
{
    int code = bound == SQLITE_OK ? sqlite3_step(stmt) : SQLITE_NOMEM;
    if (code != SQLITE_DONE) {
        dk_rc rc = dk_sqlite_fail(txn->db, code, what, err);
        sqlite3_reset(stmt);
        return rc;
    }
    if (changed != NULL) {
        *changed = sqlite3_changes(txn->db) == 1;
    }
    sqlite3_reset(stmt);
    return DK_OK;
}

/* ---- reading columns: what dekhand cannot have written is E_TAMPERED ------------------------- */

static bool read_str(sqlite3_stmt *stmt, int i, char *out, size_t cap)
{
    int type = sqlite3_column_type(stmt, i);
    if (type == SQLITE_NULL) {
        out[0] = '\0';
        return true;
    }
    const unsigned char *text = sqlite3_column_text(stmt, i);
    size_t n = (size_t)sqlite3_column_bytes(stmt, i);
    if (type != SQLITE_TEXT || text == NULL || n >= cap || memchr(text, '\0', n) != NULL) {
        return false;
    }
    memcpy(out, text, n);
    out[n] = '\0';
    return true;
}

static bool read_int(sqlite3_stmt *stmt, int i, int64_t min, int64_t max, int64_t *out)
{
    int type = sqlite3_column_type(stmt, i);
    *out = sqlite3_column_int64(stmt, i); /* NULL reads as 0 */
    return (type == SQLITE_INTEGER && *out >= min && *out <= max) ||
           (type == SQLITE_NULL && min == 0);
}

static bool read_version(sqlite3_stmt *stmt, int i, int64_t min, uint32_t *out)
{
    int64_t v;
    bool ok = read_int(stmt, i, min, INT32_MAX, &v);
    *out = (uint32_t)v;
    return ok;
}

static bool read_time(sqlite3_stmt *stmt, int i, bool nullable, int64_t *out)
{
    if (sqlite3_column_type(stmt, i) == SQLITE_NULL) {
        *out = DK_TIME_NONE;
        return nullable;
    }
    char text[DK_TIME_TEXT];
    return read_str(stmt, i, text, sizeof text) && dk_time_parse(text, strlen(text), out);
}

static bool read_tenant(sqlite3_stmt *stmt, int i, struct dk_tenant *out)
{
    char text[DK_TENANT_MAX + 1];
    struct dk_err ignored;
    dk_err_clear(&ignored);
    return read_str(stmt, i, text, sizeof text) &&
           dk_tenant_parse(dk_view_str(text), out, &ignored) == DK_OK && strcmp(text, out->s) == 0;
}

/* provider, kms_key_id, encrypted_data_key, context_timestamp from column i on. */
static bool read_wrap(sqlite3_stmt *stmt, int i, struct dk_wrap_columns *out)
{
    return read_str(stmt, i, out->provider, sizeof out->provider) &&
           read_str(stmt, i + 1, out->kms_key_id, sizeof out->kms_key_id) &&
           read_str(stmt, i + 2, out->encrypted_data_key, sizeof out->encrypted_data_key) &&
           read_str(stmt, i + 3, out->context_timestamp, sizeof out->context_timestamp);
}

static bool read_check_value(sqlite3_stmt *stmt, int i, uint8_t *out)
{
    const void *blob = sqlite3_column_blob(stmt, i);
    if (sqlite3_column_type(stmt, i) != SQLITE_BLOB || blob == NULL ||
        sqlite3_column_bytes(stmt, i) != DK_CHECK_BYTES) {
        return false;
    }
    memcpy(out, blob, DK_CHECK_BYTES);
    return true;
}

static bool read_key(sqlite3_stmt *stmt, void *to)
{
    struct dk_key_row *out = to;
    char state[16];
    return read_str(stmt, 0, out->id, sizeof out->id) && read_tenant(stmt, 1, &out->tenant) &&
           read_version(stmt, 2, 1, &out->version) && read_str(stmt, 3, state, sizeof state) &&
           dk_state_from_name(state, &out->state) && read_wrap(stmt, 4, &out->wrap) &&
           read_check_value(stmt, 8, out->check_value) &&
           read_time(stmt, 9, false, &out->created_at) &&
           read_time(stmt, 10, false, &out->expires_at) &&
           read_time(stmt, 11, true, &out->rotated_at) &&
           read_time(stmt, 12, true, &out->compromised_at) &&
           read_time(stmt, 13, true, &out->disabled_at) &&
           read_time(stmt, 14, true, &out->purged_at) &&
           read_int(stmt, 15, 0, INT64_MAX, &out->messages) &&
           read_str(stmt, 16, out->row_mac, sizeof out->row_mac);
}

static bool read_registry(sqlite3_stmt *stmt, void *to)
{
    struct dk_registry_row *out = to;
    return read_str(stmt, 0, out->uuid, sizeof out->uuid) &&
           read_version(stmt, 1, 1, &out->schema_version) &&
           read_time(stmt, 2, false, &out->created_at) && read_wrap(stmt, 3, &out->wrap);
}

static bool read_tenant_row(sqlite3_stmt *stmt, void *to)
{
    struct dk_tenant_row *out = to;
    return read_tenant(stmt, 0, &out->tenant) &&
           read_int(stmt, 1, 1, (int64_t)INT32_MAX + 1, &out->next_version) &&
           read_int(stmt, 2, 1, INT64_MAX, &out->epoch) &&
           read_int(stmt, 3, 0, INT32_MAX, &out->rotation_days) &&
           read_str(stmt, 4, out->row_mac, sizeof out->row_mac);
}

static bool read_log(sqlite3_stmt *stmt, void *to)
{
    struct dk_log_row *out = to;
    int64_t success = 0;
    bool ok = read_str(stmt, 0, out->id, sizeof out->id) && read_tenant(stmt, 1, &out->tenant) &&
              read_str(stmt, 2, out->operation, sizeof out->operation) &&
              read_version(stmt, 3, 0, &out->from_version) &&
              read_version(stmt, 4, 0, &out->to_version) && read_int(stmt, 5, 0, 1, &success) &&
              read_str(stmt, 6, out->error_message, sizeof out->error_message) &&
              read_time(stmt, 7, false, &out->performed_at) &&
              read_str(stmt, 8, out->performed_by, sizeof out->performed_by) &&
              read_str(stmt, 9, out->node, sizeof out->node) &&
              read_str(stmt, 10, out->detail, sizeof out->detail);
    out->success = success == 1;
    return ok;
}

static dk_rc step_one(struct dk_sqlite_txn *txn, sqlite3_stmt *stmt, int bound, const char *table,
                      struct dk_err *err)
{
    int code = bound == SQLITE_OK ? sqlite3_step(stmt) : SQLITE_NOMEM;
    if (code == SQLITE_ROW) {
        return DK_OK;
    }
    dk_rc rc = code == SQLITE_DONE ? DK_FAIL(err, NOT_FOUND, "no such row in %s", table)
                                   : dk_sqlite_fail(txn->db, code, table, err);
    sqlite3_reset(stmt);
    return rc;
}

/* A value that SQLite could not hand over for want of memory is E_NOMEM, not tampering. */
static dk_rc finish_one(struct dk_sqlite_txn *txn, sqlite3_stmt *stmt, bool ok, const char *table,
                        struct dk_err *err)
{
    int code = sqlite3_errcode(txn->db);
    sqlite3_reset(stmt);
    if (ok) {
        return DK_OK;
    }
    if ((code & 0xFF) == SQLITE_NOMEM) {
        return DK_FAIL(err, NOMEM, "out of memory reading %s", table);
    }
    return DK_FAIL(err, TAMPERED, "a row of %s holds what dekhand does not write", table);
}

/* The one row of a bound statement, given to `read`. E_NOT_FOUND: none. */
static dk_rc read_one(struct dk_sqlite_txn *txn, sqlite3_stmt *stmt, int bound,
                      bool (*read)(sqlite3_stmt *stmt, void *to), void *to, const char *table,
                      struct dk_err *err)
{
    DK_TRY(step_one(txn, stmt, bound, table, err));
    return finish_one(txn, stmt, read(stmt, to), table, err);
}

/* ---- the face ------------------------------------------------------------------------------- */

dk_rc dk_sqlite_registry_read(void *self, struct dk_registry_row *out, struct dk_err *err)
{
    sqlite3_stmt *stmt = NULL;
    struct dk_registry_row row = {0};
    DK_TRY(prepare(self, DK_SQL_REGISTRY_READ, &stmt, err));
    DK_TRY(read_one(self, stmt, SQLITE_OK, read_registry, &row, "registry", err));
    *out = row;
    return DK_OK;
}

dk_rc dk_sqlite_registry_fill(void *self, const struct dk_wrap_columns *wrap, bool *filled,
                              struct dk_err *err)
{
    sqlite3_stmt *stmt = NULL;
    DK_TRY(prepare(self, DK_SQL_REGISTRY_FILL, &stmt, err));
    int bound = bind_str(stmt, 1, wrap->provider) | bind_str(stmt, 2, wrap->kms_key_id) |
                bind_str(stmt, 3, wrap->encrypted_data_key) |
                bind_str(stmt, 4, wrap->context_timestamp);
    return run(self, stmt, bound, "storing the registry key", filled, err);
}

dk_rc dk_sqlite_tenant_read(void *self, const struct dk_tenant *tenant, struct dk_tenant_row *out,
                            struct dk_err *err)
{
    sqlite3_stmt *stmt = NULL;
    struct dk_tenant_row row = {0};
    DK_TRY(prepare(self, DK_SQL_TENANT_READ, &stmt, err));
    int bound = bind_str(stmt, 1, tenant->s);
    DK_TRY(read_one(self, stmt, bound, read_tenant_row, &row, "tenants", err));
    *out = row;
    return DK_OK;
}

/* One number a transaction, above all that are there: the write lock is held. */
static dk_rc change_mark(struct dk_sqlite_txn *txn, struct dk_err *err)
{
    sqlite3_stmt *stmt = NULL;
    if (txn->change_mark == 0) {
        DK_TRY(prepare(txn, DK_SQL_CHANGES_MARK, &stmt, err));
        DK_TRY(step_one(txn, stmt, SQLITE_OK, "tenants", err));
        txn->change_mark = sqlite3_column_int64(stmt, 0) + 1;
        sqlite3_reset(stmt);
    }
    return DK_OK;
}

static int bind_tenant_row(sqlite3_stmt *stmt, const struct dk_tenant_row *row, int64_t mark)
{
    return bind_str(stmt, 1, row->tenant.s) | sqlite3_bind_int64(stmt, 2, row->next_version) |
           sqlite3_bind_int64(stmt, 3, row->epoch) | bind_int_or_null(stmt, 4, row->rotation_days) |
           bind_str(stmt, 5, row->row_mac) | sqlite3_bind_int64(stmt, 6, mark);
}

dk_rc dk_sqlite_tenant_insert(void *self, const struct dk_tenant_row *row, bool *inserted,
                              struct dk_err *err)
{
    struct dk_sqlite_txn *txn = self;
    sqlite3_stmt *stmt = NULL;
    DK_TRY(change_mark(txn, err));
    DK_TRY(prepare(txn, DK_SQL_TENANT_INSERT, &stmt, err));
    int bound = bind_tenant_row(stmt, row, txn->change_mark);
    return run(txn, stmt, bound, "storing a tenant", inserted, err);
}

dk_rc dk_sqlite_tenant_update(void *self, const struct dk_tenant_row *row, int64_t old_epoch,
                              bool *changed, struct dk_err *err)
{
    struct dk_sqlite_txn *txn = self;
    sqlite3_stmt *stmt = NULL;
    DK_TRY(change_mark(txn, err));
    DK_TRY(prepare(txn, DK_SQL_TENANT_UPDATE, &stmt, err));
    int bound =
        bind_tenant_row(stmt, row, txn->change_mark) | sqlite3_bind_int64(stmt, 7, old_epoch);
    return run(txn, stmt, bound, "changing a tenant", changed, err);
}

dk_rc dk_sqlite_key_read(void *self, const struct dk_tenant *tenant, uint32_t version,
                         struct dk_key_row *out, struct dk_err *err)
{
    sqlite3_stmt *stmt = NULL;
    struct dk_key_row row = {0};
    DK_TRY(prepare(self, DK_SQL_KEY_READ, &stmt, err));
    int bound = bind_str(stmt, 1, tenant->s) | sqlite3_bind_int64(stmt, 2, version);
    DK_TRY(read_one(self, stmt, bound, read_key, &row, "encryption_keys", err));
    *out = row;
    return DK_OK;
}

dk_rc dk_sqlite_key_read_active(void *self, const struct dk_tenant *tenant, struct dk_key_row *out,
                                struct dk_err *err)
{
    sqlite3_stmt *stmt = NULL;
    struct dk_key_row row = {0};
    DK_TRY(prepare(self, DK_SQL_KEY_ACTIVE, &stmt, err));
    int bound = bind_str(stmt, 1, tenant->s);
    DK_TRY(read_one(self, stmt, bound, read_key, &row, "encryption_keys", err));
    *out = row;
    return DK_OK;
}

static int bind_key(sqlite3_stmt *stmt, const struct dk_key_row *row)
{
    return bind_str(stmt, 1, row->id) | bind_str(stmt, 2, row->tenant.s) |
           sqlite3_bind_int64(stmt, 3, row->version) |
           bind_str(stmt, 4, dk_state_name(row->state)) | bind_str(stmt, 5, row->wrap.provider) |
           bind_str(stmt, 6, row->wrap.kms_key_id) |
           bind_str(stmt, 7, row->wrap.encrypted_data_key) |
           bind_str(stmt, 8, row->wrap.context_timestamp) |
           sqlite3_bind_blob(stmt, 9, row->check_value, DK_CHECK_BYTES, SQLITE_STATIC) |
           bind_time(stmt, 10, row->created_at) | bind_time(stmt, 11, row->expires_at) |
           bind_time(stmt, 12, row->rotated_at) | bind_time(stmt, 13, row->compromised_at) |
           bind_time(stmt, 14, row->disabled_at) | bind_time(stmt, 15, row->purged_at) |
           sqlite3_bind_int64(stmt, 16, row->messages) | bind_str(stmt, 17, row->row_mac);
}

/* An insert that was ignored: because of the check value (a key handed out twice), or not. */
static dk_rc explain_ignored(void *self, const struct dk_key_row *row, struct dk_err *err)
{
    sqlite3_stmt *stmt = NULL;
    struct dk_err none;
    dk_err_clear(&none);
    DK_TRY(prepare(self, DK_SQL_KEY_CHECK, &stmt, err));
    int bound = sqlite3_bind_blob(stmt, 1, row->check_value, DK_CHECK_BYTES, SQLITE_STATIC);
    dk_rc rc = step_one(self, stmt, bound, "encryption_keys", &none);
    sqlite3_reset(stmt);
    if (rc == DK_OK) {
        return DK_FAIL(err, PROVIDER, "the provider handed out a data key that is in use already");
    }
    return rc == DK_E_NOT_FOUND ? DK_OK
                                : dk_err_set(err, rc, none.file, none.line, "%s", none.text);
}

dk_rc dk_sqlite_key_insert(void *self, const struct dk_key_row *row, bool *inserted,
                           struct dk_err *err)
{
    sqlite3_stmt *stmt = NULL;
    DK_TRY(prepare(self, DK_SQL_KEY_INSERT, &stmt, err));
    DK_TRY(run(self, stmt, bind_key(stmt, row), "storing a key", inserted, err));
    return *inserted ? DK_OK : explain_ignored(self, row, err);
}

dk_rc dk_sqlite_key_update(void *self, const struct dk_key_row *row, enum dk_state old_state,
                           bool *changed, struct dk_err *err)
{
    sqlite3_stmt *stmt = NULL;
    DK_TRY(prepare(self, DK_SQL_KEY_UPDATE, &stmt, err));
    int bound = bind_key(stmt, row) | bind_str(stmt, 18, dk_state_name(old_state));
    return run(self, stmt, bound, "changing a key", changed, err);
}

static bool read_messages(sqlite3_stmt *stmt, void *to)
{
    return read_int(stmt, 0, 0, INT64_MAX, to);
}

dk_rc dk_sqlite_key_add_messages(void *self, const struct dk_tenant *tenant, uint32_t version,
                                 int64_t count, int64_t *sum, struct dk_err *err)
{
    sqlite3_stmt *stmt = NULL;
    DK_TRY(prepare(self, DK_SQL_KEY_MESSAGES, &stmt, err));
    int bound = bind_str(stmt, 1, tenant->s) | sqlite3_bind_int64(stmt, 2, version) |
                sqlite3_bind_int64(stmt, 3, count);
    return read_one(self, stmt, bound, read_messages, sum, "encryption_keys", err);
}

dk_rc dk_sqlite_key_list(void *self, const struct dk_tenant *tenant, enum dk_key_filter filter,
                         const struct dk_key_cursor *after, size_t limit, struct dk_key_row *out,
                         size_t *count, struct dk_err *err)
{
    struct dk_sqlite_txn *txn = self;
    sqlite3_stmt *stmt = NULL;
    enum dk_sqlite_statement which = tenant != NULL             ? DK_SQL_KEY_LIST_TENANT
                                     : filter == DK_KEYS_ACTIVE ? DK_SQL_KEY_LIST_ACTIVE
                                                                : DK_SQL_KEY_LIST;
    DK_TRY(prepare(txn, which, &stmt, err));
    int bound = bind_str(stmt, 1, tenant != NULL ? tenant->s : after->tenant.s) |
                sqlite3_bind_int64(stmt, 2, after->version) |
                sqlite3_bind_int64(stmt, 3, (sqlite3_int64)limit);
    size_t n = 0;
    int code = bound == SQLITE_OK ? SQLITE_ROW : SQLITE_NOMEM;
    while (n < limit && code == SQLITE_ROW && (code = sqlite3_step(stmt)) == SQLITE_ROW) {
        if (!read_key(stmt, &out[n++])) {
            return finish_one(txn, stmt, false, "encryption_keys", err);
        }
    }
    dk_rc rc = code == SQLITE_ROW || code == SQLITE_DONE
                   ? DK_OK
                   : dk_sqlite_fail(txn->db, code, "listing keys", err);
    sqlite3_reset(stmt);
    *count = rc == DK_OK ? n : 0;
    return rc;
}

static bool read_counts(sqlite3_stmt *stmt, void *to)
{
    struct dk_key_counts *out = to;
    return read_int(stmt, 0, 0, INT64_MAX, &out->total) &&
           read_int(stmt, 1, 0, INT64_MAX, &out->active) &&
           read_int(stmt, 2, 0, INT64_MAX, &out->expired) &&
           read_int(stmt, 3, 0, INT64_MAX, &out->near_expiry);
}

dk_rc dk_sqlite_key_counts(void *self, int64_t now_us, int64_t warn_until_us,
                           struct dk_key_counts *out, struct dk_err *err)
{
    sqlite3_stmt *stmt = NULL;
    DK_TRY(prepare(self, DK_SQL_KEY_COUNTS, &stmt, err));
    int bound = bind_time(stmt, 1, now_us) | bind_time(stmt, 2, warn_until_us);
    return read_one(self, stmt, bound, read_counts, out, "encryption_keys", err);
}

dk_rc dk_sqlite_log_append(void *self, const struct dk_log_row *row, struct dk_err *err)
{
    sqlite3_stmt *stmt = NULL;
    DK_TRY(prepare(self, DK_SQL_LOG_APPEND, &stmt, err));
    int bound = bind_str(stmt, 1, row->id) | bind_str(stmt, 2, row->tenant.s) |
                bind_str(stmt, 3, row->operation) | bind_int_or_null(stmt, 4, row->from_version) |
                bind_int_or_null(stmt, 5, row->to_version) |
                sqlite3_bind_int64(stmt, 6, row->success ? 1 : 0) |
                bind_str_or_null(stmt, 7, row->error_message) |
                bind_time(stmt, 8, row->performed_at) |
                bind_str_or_null(stmt, 9, row->performed_by) |
                bind_str_or_null(stmt, 10, row->node) | bind_str_or_null(stmt, 11, row->detail);
    return run(self, stmt, bound, "writing the log", NULL, err);
}

dk_rc dk_sqlite_log_list(void *self, const struct dk_tenant *tenant, size_t limit,
                         struct dk_log_row *out, size_t *count, struct dk_err *err)
{
    struct dk_sqlite_txn *txn = self;
    sqlite3_stmt *stmt = NULL;
    DK_TRY(prepare(txn, tenant != NULL ? DK_SQL_LOG_LIST_TENANT : DK_SQL_LOG_LIST, &stmt, err));
    int bound = sqlite3_bind_int64(stmt, 1, (sqlite3_int64)limit) |
                (tenant != NULL ? bind_str(stmt, 2, tenant->s) : SQLITE_OK);
    size_t n = 0;
    int code = bound == SQLITE_OK ? SQLITE_ROW : SQLITE_NOMEM;
    while (n < limit && code == SQLITE_ROW && (code = sqlite3_step(stmt)) == SQLITE_ROW) {
        if (!read_log(stmt, &out[n++])) {
            return finish_one(txn, stmt, false, "key_rotation_log", err);
        }
    }
    dk_rc rc = code == SQLITE_ROW || code == SQLITE_DONE
                   ? DK_OK
                   : dk_sqlite_fail(txn->db, code, "listing the log", err);
    sqlite3_reset(stmt);
    *count = rc == DK_OK ? n : 0;
    return rc;
}

dk_rc dk_sqlite_changes(void *self, int64_t *mark, bool *went_back,
                        void (*each)(void *arg, const struct dk_tenant *tenant), void *arg,
                        struct dk_err *err)
{
    struct dk_sqlite_txn *txn = self;
    sqlite3_stmt *stmt = NULL;
    DK_TRY(prepare(txn, DK_SQL_CHANGES_MARK, &stmt, err));
    DK_TRY(step_one(txn, stmt, SQLITE_OK, "tenants", err));
    int64_t newest = sqlite3_column_int64(stmt, 0);
    sqlite3_reset(stmt);
    *went_back = newest < *mark;
    if (each != NULL && newest > *mark) {
        DK_TRY(prepare(txn, DK_SQL_CHANGES, &stmt, err));
        int bound = sqlite3_bind_int64(stmt, 1, *mark) | sqlite3_bind_int64(stmt, 2, newest);
        int code = bound == SQLITE_OK ? SQLITE_ROW : SQLITE_NOMEM;
        while (code == SQLITE_ROW && (code = sqlite3_step(stmt)) == SQLITE_ROW) {
            struct dk_tenant tenant;
            if (!read_tenant(stmt, 0, &tenant)) {
                return finish_one(txn, stmt, false, "tenants", err);
            }
            each(arg, &tenant);
        }
        if (code != SQLITE_DONE) {
            return dk_sqlite_fail(txn->db, code, "reading the changes", err);
        }
        sqlite3_reset(stmt);
    }
    *mark = newest;
    return DK_OK;
}
