/*
 * sqlite_stmt: binding and reading, shared by the files that hold the rows.
 *
 * What dekhand cannot have written (a wrong type, a text too long, a date that is none) is
 * E_TAMPERED. One thread, inside one transaction.
 */
#ifndef DK_STORE_SQLITE_STMT_H
#define DK_STORE_SQLITE_STMT_H

#include "store/sqlite_txn.h"

DK_MUST_USE dk_rc dk_sql_prepare(struct dk_sqlite_txn *txn, enum dk_sqlite_statement which,
                                 sqlite3_stmt **out, struct dk_err *err);

/* SQLite's result code; results are or-ed. The bound text outlives the step: no copy is made. */
int dk_sql_bind_str(sqlite3_stmt *stmt, int i, const char *s);
int dk_sql_bind_str_or_null(sqlite3_stmt *stmt, int i, const char *s); /* "" = NULL */
int dk_sql_bind_int_or_null(sqlite3_stmt *stmt, int i, int64_t v);     /* 0 = NULL */
int dk_sql_bind_time(sqlite3_stmt *stmt, int i, int64_t us);           /* DK_TIME_NONE = NULL */

/* Steps a statement that gives no row, once. `bound` = the results of the binds, or-ed. */
DK_MUST_USE dk_rc dk_sql_run(struct dk_sqlite_txn *txn, sqlite3_stmt *stmt, int bound,
                             const char *what, bool *changed, struct dk_err *err);
/* Steps to the one row. E_NOT_FOUND: none; then the statement is reset. */
DK_MUST_USE dk_rc dk_sql_step_one(struct dk_sqlite_txn *txn, sqlite3_stmt *stmt, int bound,
                                  const char *table, struct dk_err *err);
/* Resets, and turns a reader's answer into a result. */
DK_MUST_USE dk_rc dk_sql_finish_one(struct dk_sqlite_txn *txn, sqlite3_stmt *stmt, bool ok,
                                    const char *table, struct dk_err *err);
/* After the last row that was wanted: resets; `code` is the last step's. */
DK_MUST_USE dk_rc dk_sql_end_walk(struct dk_sqlite_txn *txn, sqlite3_stmt *stmt, int code,
                                  const char *what, struct dk_err *err);
/* The one row of a bound statement, given to `read`. */
DK_MUST_USE dk_rc dk_sql_read_one(struct dk_sqlite_txn *txn, sqlite3_stmt *stmt, int bound,
                                  bool (*read)(sqlite3_stmt *stmt, void *to), void *to,
                                  const char *table, struct dk_err *err);

/* False: not what dekhand writes. */
bool dk_sql_read_str(sqlite3_stmt *stmt, int i, char *out, size_t cap);      /* NULL = "" */
bool dk_sql_read_nullable(sqlite3_stmt *stmt, int i, char *out, size_t cap); /* never '' */
bool dk_sql_read_int(sqlite3_stmt *stmt, int i, int64_t min, int64_t max, int64_t *out);
bool dk_sql_read_version(sqlite3_stmt *stmt, int i, uint32_t *out);
bool dk_sql_read_version_or_null(sqlite3_stmt *stmt, int i, uint32_t *out); /* NULL = 0 */
bool dk_sql_read_time(sqlite3_stmt *stmt, int i, bool nullable, int64_t *out);
/* provider, kms_key_id, encrypted_data_key, context_timestamp from column i on. */
bool dk_sql_read_wrap(sqlite3_stmt *stmt, int i, struct dk_wrap_columns *out);
bool dk_sql_read_tenant(sqlite3_stmt *stmt, int i, struct dk_tenant *out);

/* A whole row of encryption_keys (a struct dk_key_row). */
bool dk_sqlite_read_key(sqlite3_stmt *stmt, void *to);
/* The rows of a bound statement, as dk_store_ops.key_page says. */
DK_MUST_USE dk_rc dk_sqlite_read_page(struct dk_sqlite_txn *txn, sqlite3_stmt *stmt, int bound,
                                      const char *what, struct dk_key_page *page,
                                      struct dk_err *err);

#endif
