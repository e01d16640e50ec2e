/*
 * sqlite_txn: what sqlite.c (connections, migrations) and sqlite_rows.c (rows) share.
 */
#ifndef DK_STORE_SQLITE_TXN_H
#define DK_STORE_SQLITE_TXN_H

#include <sqlite3.h>

#include <stdatomic.h>

#include "base/file.h"
#include "store/store.h"

enum dk_sqlite_statement {
    DK_SQL_REGISTRY_READ,
    DK_SQL_REGISTRY_FILL,
    DK_SQL_REGISTRY_KEEP,
    DK_SQL_REGISTRY_REKEY,
    DK_SQL_REGISTRY_REKEYED,
    DK_SQL_REGISTRY_PRUNED,
    DK_SQL_REGISTRY_KEYS,
    DK_SQL_TENANT_READ,
    DK_SQL_TENANT_INSERT,
    DK_SQL_TENANT_UPDATE,
    DK_SQL_TENANT_REMAC,
    DK_SQL_KEY_READ,
    DK_SQL_KEY_ACTIVE,
    DK_SQL_KEY_INSERT,
    DK_SQL_KEY_CHECK,
    DK_SQL_KEY_UPDATE,
    DK_SQL_KEY_REMAC,
    DK_SQL_KEY_MESSAGES,
    DK_SQL_KEY_LIST,
    DK_SQL_KEY_LIST_ACTIVE,
    DK_SQL_KEY_LIST_TENANT,
    DK_SQL_KEY_EXPIRING,
    DK_SQL_KEY_COUNTS,
    DK_SQL_KEY_MACS,
    DK_SQL_KEY_FIND,
    DK_SQL_TENANT_LIST,
    DK_SQL_WRAPS_OF,
    DK_SQL_WRAPS_STALE,
    DK_SQL_WRAP_PUT,
    DK_SQL_WRAP_DROP,
    DK_SQL_WRAPS_MISSING,
    DK_SQL_REGISTRY_WRAPS,
    DK_SQL_REGISTRY_WRAP_PUT,
    DK_SQL_REGISTRY_WRAP_DROP,
    DK_SQL_REGISTRY_REWRAP,
    DK_SQL_CALLS_ADD,
    DK_SQL_CALLS_SUM,
    DK_SQL_LOG_APPEND,
    DK_SQL_LOG_CHAIN,
    DK_SQL_LOG_OLDEST,
    DK_SQL_LOG_NEWEST,
    DK_SQL_LOG_TENANT_OLDEST,
    DK_SQL_LOG_TENANT_NEWEST,
    DK_SQL_LOG_UNCHAINED,
    DK_SQL_LOG_FAILED,
    DK_SQL_LOG_KNOWS,
    DK_SQL_LOG_EDGE,
    DK_SQL_LOG_PRUNE,
    DK_SQL_LOG_MARK,
    DK_SQL_LOG_CLEARED,
    DK_SQL_SEAL_APPEND,
    DK_SQL_SEAL_NEWEST,
    DK_SQL_SEAL_WALK,
    DK_SQL_CHANGES,
    DK_SQL_CHANGES_MARK,
    DK_SQL_COUNT
};

struct dk_sqlite {
    const struct dk_world *world;
    char path[DK_PATH_MAX];
    atomic_int open_txns; /* of this process; seen by the child of a fork */
    atomic_bool seen;     /* a transaction has begun: the file was there */
    atomic_bool broken;   /* forked inside a transaction: SQLite's state here cannot be trusted */
};

struct dk_sqlite_txn {
    struct dk_sqlite *store;
    sqlite3 *db;
    enum dk_txn_mode mode;
    int64_t change_mark; /* changed_xid of this transaction; 0 = not known yet */
    sqlite3_stmt *prepared[DK_SQL_COUNT];
};

/* The SQL of each statement (sqlite_rows.c). */
extern const char *const dk_sqlite_sql[DK_SQL_COUNT];

/* Turns a result code into ours; `what` completes "... failed: ". */
DK_MUST_USE dk_rc dk_sqlite_fail(sqlite3 *db, int code, const char *what, struct dk_err *err);

/* The rows half of the back end's table. */
dk_rc dk_sqlite_registry_read(void *txn, struct dk_registry_row *out, struct dk_err *err);
dk_rc dk_sqlite_registry_fill(void *txn, const struct dk_wrap_columns *wrap, bool *filled,
                              struct dk_err *err);
dk_rc dk_sqlite_registry_rekey(void *txn, const struct dk_registry_key_row *earlier,
                               const struct dk_wrap_columns *wrap, struct dk_err *err);
dk_rc dk_sqlite_registry_rekeyed(void *txn, uint32_t generation, struct dk_err *err);
dk_rc dk_sqlite_registry_pruned(void *txn, const struct dk_log_edge *edge, struct dk_err *err);
dk_rc dk_sqlite_registry_keys(void *txn, uint32_t from,
                              bool (*each)(void *arg, const struct dk_registry_key_row *row),
                              void *arg, struct dk_err *err);
dk_rc dk_sqlite_tenant_read(void *txn, const struct dk_tenant *tenant, struct dk_tenant_row *out,
                            struct dk_err *err);
dk_rc dk_sqlite_tenant_insert(void *txn, const struct dk_tenant_row *row, bool *inserted,
                              struct dk_err *err);
dk_rc dk_sqlite_tenant_update(void *txn, const struct dk_tenant_row *row, int64_t old_epoch,
                              bool *changed, struct dk_err *err);
dk_rc dk_sqlite_tenant_remac(void *txn, const struct dk_tenant_row *row, const char *old_mac,
                             bool *changed, struct dk_err *err);
dk_rc dk_sqlite_key_read(void *txn, const struct dk_tenant *tenant, uint32_t version,
                         struct dk_key_row *out, struct dk_err *err);
dk_rc dk_sqlite_key_read_active(void *txn, const struct dk_tenant *tenant, struct dk_key_row *out,
                                struct dk_err *err);
dk_rc dk_sqlite_key_insert(void *txn, const struct dk_key_row *row, bool *inserted,
                           struct dk_err *err);
dk_rc dk_sqlite_key_update(void *txn, const struct dk_key_row *row, enum dk_state old_state,
                           bool *changed, struct dk_err *err);
dk_rc dk_sqlite_key_remac(void *txn, const struct dk_key_row *row, const char *old_mac,
                          bool *changed, struct dk_err *err);
dk_rc dk_sqlite_key_add_messages(void *txn, struct dk_sealed *list, size_t count,
                                 struct dk_err *err);
dk_rc dk_sqlite_key_list(void *txn, const struct dk_tenant *tenant, enum dk_key_filter filter,
                         const struct dk_key_cursor *after, size_t limit, struct dk_key_row *out,
                         size_t *count, struct dk_err *err);
dk_rc dk_sqlite_key_page(void *txn, const struct dk_tenant *tenant, struct dk_key_page *page,
                         struct dk_err *err);
dk_rc dk_sqlite_key_expiring(void *txn, int64_t from_us, int64_t until_us,
                             bool (*each)(void *arg, const struct dk_key_row *row), void *arg,
                             struct dk_err *err);
dk_rc dk_sqlite_key_counts(void *txn, int64_t now_us, int64_t warn_until_us,
                           struct dk_key_counts *out, struct dk_err *err);
dk_rc dk_sqlite_key_macs(void *txn, const struct dk_tenant *tenant,
                         bool (*each)(void *arg, uint32_t version, const char *row_mac), void *arg,
                         struct dk_err *err);
dk_rc dk_sqlite_calls_add(void *txn, const struct dk_call_row *rows, size_t count,
                          struct dk_err *err);
dk_rc dk_sqlite_calls_sum(void *txn, const char *from,
                          bool (*each)(void *arg, const struct dk_call_row *row), void *arg,
                          struct dk_err *err);
dk_rc dk_sqlite_wraps_of(void *txn, const struct dk_tenant *tenant, uint32_t version,
                         bool (*each)(void *arg, const struct dk_wrap_row *row), void *arg,
                         struct dk_err *err);
dk_rc dk_sqlite_wraps_stale(void *txn, const struct dk_stale *stale,
                            bool (*each)(void *arg, const struct dk_wrap_row *row), void *arg,
                            struct dk_err *err);
dk_rc dk_sqlite_wrap_put(void *txn, const struct dk_wrap_row *row, struct dk_err *err);
dk_rc dk_sqlite_wrap_drop(void *txn, const struct dk_tenant *tenant, uint32_t version,
                          const char *provider, struct dk_err *err);
dk_rc dk_sqlite_wraps_missing(void *txn, const char *provider, struct dk_key_page *page,
                              struct dk_err *err);
dk_rc dk_sqlite_registry_wraps(void *txn, uint32_t generation,
                               bool (*each)(void *arg, const struct dk_wrap_columns *wrap),
                               void *arg, struct dk_err *err);
dk_rc dk_sqlite_registry_wrap_put(void *txn, uint32_t generation,
                                  const struct dk_wrap_columns *wrap, struct dk_err *err);
dk_rc dk_sqlite_registry_wrap_drop(void *txn, uint32_t generation, const char *provider,
                                   struct dk_err *err);
dk_rc dk_sqlite_registry_rewrap(void *txn, uint32_t generation,
                                const struct dk_wrap_columns *before,
                                const struct dk_wrap_columns *wrap, struct dk_err *err);
dk_rc dk_sqlite_find_many(void *txn, struct dk_find *finds, size_t count,
                          const struct dk_find_calls *calls, struct dk_err *err);
dk_rc dk_sqlite_insert_first(void *txn, struct dk_first *firsts, size_t count,
                             dk_rc (*make)(void *arg, size_t i, struct dk_err *err), void *arg,
                             struct dk_err *err);
dk_rc dk_sqlite_tenant_list(void *txn, const char *after, size_t limit, struct dk_tenant_row *out,
                            size_t *count, struct dk_err *err);
dk_rc dk_sqlite_changes(void *txn, struct dk_mark *mark, bool *went_back,
                        void (*each)(void *arg, const struct dk_tenant *tenant), void *arg,
                        struct dk_err *err);

/* Damage and the schema (sqlite_schema.c). */
dk_rc dk_sqlite_integrity(void *txn, bool (*each)(void *arg, const char *table, const char *text),
                          void *arg, struct dk_err *err);
dk_rc dk_sqlite_schema(void *txn, void (*each)(void *arg, const struct dk_schema_finding *finding),
                       void *arg, struct dk_err *err);
/* Makes what is missing or changed again, tables excepted; in the caller's transaction. */
DK_MUST_USE dk_rc dk_sqlite_mend_schema(sqlite3 *db, struct dk_err *err);

/* The log and the seals (sqlite_log.c). */
dk_rc dk_sqlite_log_append(void *txn, const struct dk_log_row *row, struct dk_err *err);
dk_rc dk_sqlite_log_chain(void *txn, const struct dk_log_row *row, struct dk_err *err);
dk_rc dk_sqlite_log_walk(void *txn, const struct dk_log_query *query,
                         bool (*each)(void *arg, const struct dk_log_row *row), void *arg,
                         struct dk_err *err);
dk_rc dk_sqlite_log_cleared(void *txn, int64_t *mark, bool *cleared, struct dk_err *err);
dk_rc dk_sqlite_log_edge(void *txn, struct dk_log_edge *edge, struct dk_err *err);
dk_rc dk_sqlite_log_prune(void *txn, const struct dk_log_edge *edge, int64_t limit,
                          int64_t *deleted, struct dk_err *err);
dk_rc dk_sqlite_seal_append(void *txn, const struct dk_seal_row *row, struct dk_err *err);
dk_rc dk_sqlite_seal_newest(void *txn, struct dk_seal_row *out, struct dk_err *err);
dk_rc dk_sqlite_seal_walk(void *txn, int64_t from,
                          bool (*each)(void *arg, const struct dk_seal_row *row), void *arg,
                          struct dk_err *err);

#endif
