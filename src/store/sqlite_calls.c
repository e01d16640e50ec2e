/* Counts of provider calls in SQLite. */
#include "store/sqlite_stmt.h"

static dk_rc add_one(struct dk_sqlite_txn *txn, const struct dk_call_row *row, struct dk_err *err)
{
    sqlite3_stmt *stmt = NULL;
    bool stored = false;
    DK_TRY(dk_sql_prepare(txn, DK_SQL_CALLS_ADD, &stmt, err));
    int bound = dk_sql_bind_str(stmt, 1, row->day) | dk_sql_bind_str(stmt, 2, row->source) |
                dk_sql_bind_str(stmt, 3, row->operation) | sqlite3_bind_int64(stmt, 4, row->calls) |
                sqlite3_bind_int64(stmt, 5, row->failed);
    return dk_sql_run(txn, stmt, bound, "counting provider calls", &stored, err);
}

dk_rc dk_sqlite_calls_add(void *self, const struct dk_call_row *rows, size_t count,
                          struct dk_err *err)
{
    for (size_t i = 0; i < count; i++) {
        DK_TRY(add_one(self, &rows[i], err));
    }
    return DK_OK;
}

static bool read_call(sqlite3_stmt *stmt, struct dk_call_row *out)
{
    return dk_sql_read_str(stmt, 0, out->day, sizeof out->day) &&
           dk_sql_read_str(stmt, 1, out->source, sizeof out->source) &&
           dk_sql_read_str(stmt, 2, out->operation, sizeof out->operation) &&
           dk_sql_read_int(stmt, 3, 0, DK_CALLS_MAX, &out->calls) &&
           dk_sql_read_int(stmt, 4, 0, DK_CALLS_MAX, &out->failed);
}

dk_rc dk_sqlite_calls_sum(void *self, const char *from,
                          bool (*each)(void *arg, const struct dk_call_row *row), void *arg,
                          struct dk_err *err)
{
    struct dk_sqlite_txn *txn = self;
    sqlite3_stmt *stmt = NULL;
    struct dk_call_row row;
    DK_TRY(dk_sql_prepare(txn, DK_SQL_CALLS_SUM, &stmt, err));
    int code = dk_sql_bind_str(stmt, 1, from) == SQLITE_OK ? SQLITE_ROW : SQLITE_NOMEM;
    while (code == SQLITE_ROW && (code = sqlite3_step(stmt)) == SQLITE_ROW) {
        if (read_call(stmt, &row) && !each(arg, &row)) {
            break;
        }
    }
    return dk_sql_end_walk(txn, stmt, code, "reading counts of provider calls", err);
}
