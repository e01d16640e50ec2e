/* The log and the seals to and from SQLite. */
#include "store/sqlite_stmt.h"

/* A tenant's id, or "*". */
static bool read_subject(sqlite3_stmt *stmt, int i, char *out)
{
    struct dk_tenant tenant;
    char star[4];
    if (dk_sql_read_tenant(stmt, i, &tenant)) {
        memcpy(out, tenant.s, tenant.n + 1);
        return true;
    }
    if (dk_sql_read_str(stmt, i, star, sizeof star) && strcmp(star, "*") == 0) {
        memcpy(out, "*", 2);
        return true;
    }
    return false;
}

/* A text of any length, lent until the statement moves on. */
static bool lend_str(sqlite3_stmt *stmt, int i, const char **out)
{
    int type = sqlite3_column_type(stmt, i);
    *out = type == SQLITE_NULL ? "" : (const char *)sqlite3_column_text(stmt, i);
    return type == SQLITE_NULL || (type == SQLITE_TEXT && *out != NULL &&
                                   strlen(*out) == (size_t)sqlite3_column_bytes(stmt, i));
}

static bool read_log(sqlite3_stmt *stmt, struct dk_log_row *out)
{
    int64_t success = 0;
    out->seq = sqlite3_column_int64(stmt, 0);
    bool ok = dk_sql_read_str(stmt, 1, out->id, sizeof out->id) &&
              read_subject(stmt, 2, out->tenant) &&
              dk_sql_read_str(stmt, 3, out->operation, sizeof out->operation) &&
              dk_sql_read_version_or_null(stmt, 4, &out->from_version) &&
              dk_sql_read_version_or_null(stmt, 5, &out->to_version) &&
              dk_sql_read_int(stmt, 6, 0, 1, &success) &&
              dk_sql_read_nullable(stmt, 7, out->error_message, sizeof out->error_message) &&
              dk_sql_read_time(stmt, 8, false, &out->performed_at) &&
              dk_sql_read_nullable(stmt, 9, out->performed_by, sizeof out->performed_by) &&
              dk_sql_read_nullable(stmt, 10, out->node, sizeof out->node) &&
              lend_str(stmt, 11, &out->detail) &&
              (out->detail[0] != '\0' || sqlite3_column_type(stmt, 11) == SQLITE_NULL) &&
              dk_sql_read_nullable(stmt, 12, out->prev, sizeof out->prev) &&
              dk_sql_read_nullable(stmt, 13, out->mac, sizeof out->mac);
    out->success = success == 1;
    return ok;
}

dk_rc dk_sqlite_log_append(void *self, const struct dk_log_row *row, struct dk_err *err)
{
    sqlite3_stmt *stmt = NULL;
    DK_TRY(dk_sql_prepare(self, DK_SQL_LOG_APPEND, &stmt, err));
    int bound = dk_sql_bind_str(stmt, 1, row->id) | dk_sql_bind_str(stmt, 2, row->tenant) |
                dk_sql_bind_str(stmt, 3, row->operation) |
                dk_sql_bind_int_or_null(stmt, 4, row->from_version) |
                dk_sql_bind_int_or_null(stmt, 5, row->to_version) |
                sqlite3_bind_int64(stmt, 6, row->success ? 1 : 0) |
                dk_sql_bind_str_or_null(stmt, 7, row->error_message) |
                dk_sql_bind_time(stmt, 8, row->performed_at) |
                dk_sql_bind_str_or_null(stmt, 9, row->performed_by) |
                dk_sql_bind_str_or_null(stmt, 10, row->node) |
                dk_sql_bind_str_or_null(stmt, 11, row->detail) |
                dk_sql_bind_str_or_null(stmt, 12, row->prev) |
                dk_sql_bind_str_or_null(stmt, 13, row->mac);
    bool stored = false;
    DK_TRY(dk_sql_run(self, stmt, bound, "writing the log", &stored, err));
    return stored ? DK_OK : DK_FAIL(err, TAMPERED, "something in the database drops log rows");
}

dk_rc dk_sqlite_log_chain(void *self, const struct dk_log_row *row, struct dk_err *err)
{
    sqlite3_stmt *stmt = NULL;
    bool changed = false;
    DK_TRY(dk_sql_prepare(self, DK_SQL_LOG_CHAIN, &stmt, err));
    int bound = dk_sql_bind_str(stmt, 1, row->id) | dk_sql_bind_str_or_null(stmt, 2, row->prev) |
                dk_sql_bind_str(stmt, 3, row->mac);
    DK_TRY(dk_sql_run(self, stmt, bound, "chaining the log", &changed, err));
    return changed ? DK_OK : DK_FAIL(err, CONFLICT, "a log row was chained by another");
}

static enum dk_sqlite_statement choose(const struct dk_log_query *query)
{
    if (query->unchained) {
        return DK_SQL_LOG_UNCHAINED;
    }
    if (query->failed) {
        return DK_SQL_LOG_FAILED;
    }
    if (query->tenant != NULL) {
        return query->newest_first ? DK_SQL_LOG_TENANT_NEWEST : DK_SQL_LOG_TENANT_OLDEST;
    }
    return query->newest_first ? DK_SQL_LOG_NEWEST : DK_SQL_LOG_OLDEST;
}

dk_rc dk_sqlite_log_walk(void *self, const struct dk_log_query *query,
                         bool (*each)(void *arg, const struct dk_log_row *row), void *arg,
                         struct dk_err *err)
{
    struct dk_sqlite_txn *txn = self;
    sqlite3_stmt *stmt = NULL;
    struct dk_log_row row;
    DK_TRY(dk_sql_prepare(txn, choose(query), &stmt, err));
    int bound = sqlite3_bind_int64(stmt, 1, query->after) |
                dk_sql_bind_time(stmt, 2, query->since) | dk_sql_bind_time(stmt, 3, query->until) |
                (query->tenant != NULL ? dk_sql_bind_str(stmt, 4, query->tenant->s) : SQLITE_OK);
    int code = bound == SQLITE_OK ? SQLITE_ROW : SQLITE_NOMEM;
    while (code == SQLITE_ROW && (code = sqlite3_step(stmt)) == SQLITE_ROW) {
        if (!read_log(stmt, &row)) {
            return dk_sql_finish_one(txn, stmt, false, "key_rotation_log", err);
        }
        if (!each(arg, &row)) {
            break;
        }
    }
    return dk_sql_end_walk(txn, stmt, code, "reading the log", err);
}

static bool read_edge(sqlite3_stmt *stmt, void *to)
{
    struct dk_log_edge *edge = to;
    return dk_sql_read_int(stmt, 0, 0, INT64_MAX, &edge->seq) &&
           dk_sql_read_int(stmt, 1, 0, INT64_MAX, &edge->rows);
}

/* Every transaction sealed, so the last head of a seal is its newest row. */
dk_rc dk_sqlite_log_edge(void *self, struct dk_log_edge *edge, struct dk_err *err)
{
    sqlite3_stmt *stmt = NULL;
    DK_TRY(dk_sql_prepare(self, DK_SQL_LOG_EDGE, &stmt, err));
    int bound = dk_sql_bind_str(stmt, 1, edge->mac);
    return dk_sql_read_one(self, stmt, bound, read_edge, edge, "key_rotation_log", err);
}

dk_rc dk_sqlite_log_prune(void *self, const struct dk_log_edge *edge, int64_t limit,
                          int64_t *deleted, struct dk_err *err)
{
    struct dk_sqlite_txn *txn = self;
    sqlite3_stmt *stmt = NULL;
    DK_TRY(dk_sql_prepare(txn, DK_SQL_LOG_PRUNE, &stmt, err));
    int bound = sqlite3_bind_int64(stmt, 1, edge->seq) | sqlite3_bind_int64(stmt, 2, limit);
    DK_TRY(dk_sql_run(txn, stmt, bound, "pruning the log", NULL, err));
    *deleted = sqlite3_changes(txn->db);
    return DK_OK;
}

static bool read_mark(sqlite3_stmt *stmt, void *to)
{
    return dk_sql_read_int(stmt, 0, 0, INT64_MAX, to);
}

/*
 * Only rows since the last look are read: a poll costs what was written meanwhile. Numbers of rows
 * fall in an older copy, and in a VACUUM.
 */
dk_rc dk_sqlite_log_cleared(void *self, int64_t *mark, bool *cleared, struct dk_err *err)
{
    sqlite3_stmt *stmt = NULL;
    int64_t newest = 0, one = 0;
    struct dk_err none;
    dk_err_clear(&none);
    DK_TRY(dk_sql_prepare(self, DK_SQL_LOG_MARK, &stmt, err));
    DK_TRY(dk_sql_read_one(self, stmt, SQLITE_OK, read_mark, &newest, "key_rotation_log", err));
    DK_TRY(dk_sql_prepare(self, DK_SQL_LOG_CLEARED, &stmt, err));
    int bound = sqlite3_bind_int64(stmt, 1, *mark) | sqlite3_bind_int64(stmt, 2, newest);
    dk_rc rc = dk_sql_read_one(self, stmt, bound, read_mark, &one, "key_rotation_log", &none);
    if (rc != DK_OK && rc != DK_E_NOT_FOUND) {
        *err = none;
        return rc;
    }
    *cleared = rc == DK_OK || newest < *mark;
    *mark = newest;
    return DK_OK;
}

/* ---- seals ----------------------------------------------------------------------------------- */

static bool read_seal(sqlite3_stmt *stmt, void *to)
{
    struct dk_seal_row *out = to;
    return dk_sql_read_int(stmt, 0, 1, INT64_MAX, &out->n) &&
           dk_sql_read_time(stmt, 1, false, &out->at) && lend_str(stmt, 2, &out->heads) &&
           dk_sql_read_nullable(stmt, 3, out->prev, sizeof out->prev) &&
           dk_sql_read_str(stmt, 4, out->mac, sizeof out->mac);
}

dk_rc dk_sqlite_seal_append(void *self, const struct dk_seal_row *row, struct dk_err *err)
{
    sqlite3_stmt *stmt = NULL;
    DK_TRY(dk_sql_prepare(self, DK_SQL_SEAL_APPEND, &stmt, err));
    int bound = sqlite3_bind_int64(stmt, 1, row->n) | dk_sql_bind_time(stmt, 2, row->at) |
                dk_sql_bind_str(stmt, 3, row->heads) | dk_sql_bind_str_or_null(stmt, 4, row->prev) |
                dk_sql_bind_str(stmt, 5, row->mac);
    bool stored = false;
    DK_TRY(dk_sql_run(self, stmt, bound, "writing a seal", &stored, err));
    return stored ? DK_OK : DK_FAIL(err, TAMPERED, "something in the database drops seals");
}

dk_rc dk_sqlite_seal_newest(void *self, struct dk_seal_row *out, struct dk_err *err)
{
    sqlite3_stmt *stmt = NULL;
    struct dk_seal_row row = {0};
    struct dk_err none;
    dk_err_clear(&none);
    DK_TRY(dk_sql_prepare(self, DK_SQL_SEAL_NEWEST, &stmt, err));
    dk_rc rc = dk_sql_read_one(self, stmt, SQLITE_OK, read_seal, &row, "seals", &none);
    if (rc != DK_OK && rc != DK_E_NOT_FOUND) {
        *err = none;
        return rc;
    }
    row.heads = NULL;
    *out = row;
    return DK_OK;
}

dk_rc dk_sqlite_seal_walk(void *self, int64_t from,
                          bool (*each)(void *arg, const struct dk_seal_row *row), void *arg,
                          struct dk_err *err)
{
    struct dk_sqlite_txn *txn = self;
    sqlite3_stmt *stmt = NULL;
    struct dk_seal_row row;
    DK_TRY(dk_sql_prepare(txn, DK_SQL_SEAL_WALK, &stmt, err));
    int code = sqlite3_bind_int64(stmt, 1, from) == SQLITE_OK ? SQLITE_ROW : SQLITE_NOMEM;
    while (code == SQLITE_ROW && (code = sqlite3_step(stmt)) == SQLITE_ROW) {
        if (!read_seal(stmt, &row)) {
            return dk_sql_finish_one(txn, stmt, false, "seals", err);
        }
        if (!each(arg, &row)) {
            break;
        }
    }
    return dk_sql_end_walk(txn, stmt, code, "reading the seals", err);
}
