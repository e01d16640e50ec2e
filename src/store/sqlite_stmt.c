/* Statements of SQLite: prepared once a transaction, bound without copies, read with suspicion. */
#include "store/sqlite_stmt.h"

dk_rc dk_sql_prepare(struct dk_sqlite_txn *txn, enum dk_sqlite_statement which, sqlite3_stmt **out,
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
int dk_sql_bind_str(sqlite3_stmt *stmt, int i, const char *s)
{
    return sqlite3_bind_text(stmt, i, s, -1, SQLITE_STATIC);
}

int dk_sql_bind_str_or_null(sqlite3_stmt *stmt, int i, const char *s)
{
    return s[0] == '\0' ? sqlite3_bind_null(stmt, i) : dk_sql_bind_str(stmt, i, s);
}

int dk_sql_bind_int_or_null(sqlite3_stmt *stmt, int i, int64_t v)
{
    return v == 0 ? sqlite3_bind_null(stmt, i) : sqlite3_bind_int64(stmt, i, v);
}

int dk_sql_bind_time(sqlite3_stmt *stmt, int i, int64_t us)
{
    char text[DK_TIME_TEXT];
    if (us == DK_TIME_NONE) {
        return sqlite3_bind_null(stmt, i);
    }
    dk_time_format(us, text);
    return sqlite3_bind_text(stmt, i, text, -1, SQLITE_TRANSIENT);
}

/* Steps a statement that gives no row, once. `bound` = the results of the binds, or-ed. */
dk_rc dk_sql_run(struct dk_sqlite_txn *txn, sqlite3_stmt *stmt, int bound, const char *what,
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

bool dk_sql_read_str(sqlite3_stmt *stmt, int i, char *out, size_t cap)
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

/* An empty text would read as NULL, and carry its MAC. */
bool dk_sql_read_nullable(sqlite3_stmt *stmt, int i, char *out, size_t cap)
{
    return dk_sql_read_str(stmt, i, out, cap) &&
           (out[0] != '\0' || sqlite3_column_type(stmt, i) == SQLITE_NULL);
}

bool dk_sql_read_int(sqlite3_stmt *stmt, int i, int64_t min, int64_t max, int64_t *out)
{
    int type = sqlite3_column_type(stmt, i);
    *out = sqlite3_column_int64(stmt, i); /* NULL reads as 0 */
    return (type == SQLITE_INTEGER && *out >= min && *out <= max) ||
           (type == SQLITE_NULL && min == 0);
}

bool dk_sql_read_version(sqlite3_stmt *stmt, int i, uint32_t *out)
{
    int64_t v;
    bool ok = dk_sql_read_int(stmt, i, 1, INT32_MAX, &v);
    *out = (uint32_t)v;
    return ok;
}

bool dk_sql_read_version_or_null(sqlite3_stmt *stmt, int i, uint32_t *out)
{
    if (sqlite3_column_type(stmt, i) == SQLITE_NULL) {
        *out = 0;
        return true;
    }
    return dk_sql_read_version(stmt, i, out);
}

bool dk_sql_read_time(sqlite3_stmt *stmt, int i, bool nullable, int64_t *out)
{
    if (sqlite3_column_type(stmt, i) == SQLITE_NULL) {
        *out = DK_TIME_NONE;
        return nullable;
    }
    char text[DK_TIME_TEXT];
    return dk_sql_read_str(stmt, i, text, sizeof text) && dk_time_parse(text, strlen(text), out);
}

bool dk_sql_read_tenant(sqlite3_stmt *stmt, int i, struct dk_tenant *out)
{
    char text[DK_TENANT_MAX + 1];
    struct dk_err ignored;
    dk_err_clear(&ignored);
    return dk_sql_read_str(stmt, i, text, sizeof text) &&
           dk_tenant_parse(dk_view_str(text), out, &ignored) == DK_OK && strcmp(text, out->s) == 0;
}

dk_rc dk_sql_step_one(struct dk_sqlite_txn *txn, sqlite3_stmt *stmt, int bound, const char *table,
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
dk_rc dk_sql_finish_one(struct dk_sqlite_txn *txn, sqlite3_stmt *stmt, bool ok, const char *table,
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

dk_rc dk_sql_end_walk(struct dk_sqlite_txn *txn, sqlite3_stmt *stmt, int code, const char *what,
                      struct dk_err *err)
{
    dk_rc rc = code == SQLITE_ROW || code == SQLITE_DONE ? DK_OK
                                                         : dk_sqlite_fail(txn->db, code, what, err);
    sqlite3_reset(stmt);
    return rc;
}

/* The one row of a bound statement, given to `read`. E_NOT_FOUND: none. */
dk_rc dk_sql_read_one(struct dk_sqlite_txn *txn, sqlite3_stmt *stmt, int bound,
                      bool (*read)(sqlite3_stmt *stmt, void *to), void *to, const char *table,
                      struct dk_err *err)
{
    DK_TRY(dk_sql_step_one(txn, stmt, bound, table, err));
    return dk_sql_finish_one(txn, stmt, read(stmt, to), table, err);
}

bool dk_sql_read_wrap(sqlite3_stmt *stmt, int i, struct dk_wrap_columns *out)
{
    return dk_sql_read_str(stmt, i, out->provider, sizeof out->provider) &&
           dk_sql_read_str(stmt, i + 1, out->kms_key_id, sizeof out->kms_key_id) &&
           dk_sql_read_str(stmt, i + 2, out->encrypted_data_key, sizeof out->encrypted_data_key) &&
           dk_sql_read_str(stmt, i + 3, out->context_timestamp, sizeof out->context_timestamp);
}
