/*
 * pg_txn: what the files of the back end for PostgreSQL share: its part of the store's table.
 */
#ifndef DK_STORE_PG_TXN_H
#define DK_STORE_PG_TXN_H

#include "store/pg_stmt.h"

/*
 * Where the server is in its own history: `timeline/start/crash`. A statement's column. A server
 * that gets over the crash of one of its processes keeps its start, and gives numbers of
 * transactions out again; what it counted it forgets, and says since when it counts.
 */
#define DK_PG_PLACE                                                                                \
    "CASE WHEN pg_is_in_recovery() THEN 'standby' ELSE "                                           \
    "substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) END || '/' || "                           \
    "extract(epoch FROM pg_postmaster_start_time())::text || '/' || "                              \
    "coalesce(extract(epoch FROM pg_stat_get_bgwriter_stat_reset_time())::text, '')"

/*
 * A condition of a statement: the transaction of that number was not visible in snapshot $1. Rows
 * of a copy that was loaded here may have numbers that this server has yet to give out: they are
 * told once, when it is seen that the place is another ($2).
 */
#define DK_PG_NOT_SEEN(column)                                                                     \
    column " >= pg_snapshot_xmin($1::text::pg_snapshot) AND NOT pg_visible_in_snapshot(" column    \
           ", $1::text::pg_snapshot) AND ($2 OR " column                                           \
           " < pg_snapshot_xmax(pg_current_snapshot()))"

/*
 * The snapshot to compare with, when `then` was taken at `place_then` and `now` is the one of this
 * transaction. *back: the store is older than it was, or another.
 */
void dk_pg_since(const char *then, const char *place_then, const char *now, const char *place_now,
                 bool *back, char out[static DK_MARK_TEXT]);

/*
 * A statement: from now on this transaction looks into indexes alone, whatever the planner knows of
 * the tables so far. Of new ones it guesses many rows a tenant, sorts them, and compiles what it
 * would have run faster as it is.
 */
#define DK_PG_BY_INDEX                                                                             \
    "SELECT set_config('jit', 'off', true), set_config('enable_bitmapscan', 'off', true), "        \
    "set_config('enable_seqscan', 'off', true)"

/* Columns of what stands in `news`: where the newest seal begins, and a lease. */
#define DK_PG_NEWS_SEAL 3
#define DK_PG_NEWS_LEASE 8

/* The columns of rows, and their readers. */
#define DK_PG_KEY_COLUMNS                                                                          \
    "id, tenant_id, version, state, provider, kms_key_id, encrypted_data_key, context_timestamp, " \
    "check_value, created_at, expires_at, rotated_at, compromised_at, disabled_at, purged_at, "    \
    "messages, row_mac"
#define DK_PG_TENANT_COLUMNS                                                                       \
    "tenant_id, next_version, epoch, rotation_days, row_mac, log_head, keys_digest"
#define DK_PG_LOG_COLUMNS                                                                          \
    "id, tenant_id, operation, from_version, to_version, success, error_message, performed_at, "   \
    "performed_by, node, detail, prev, mac"
bool dk_pg_get_key(const PGresult *r, int i, int c, struct dk_key_row *out);
bool dk_pg_get_tenant_row(const PGresult *r, int i, int c, struct dk_tenant_row *out);
/* An insert that was passed over: E_PROVIDER when the check value is there (a key handed out
 * twice). */
DK_MUST_USE dk_rc dk_pg_explain_ignored(struct dk_pg_txn *txn, const struct dk_key_row *row,
                                        struct dk_err *err);

/* Months of the log that are there before they come; as the owner. */
#define DK_PG_KEEP_MONTHS "SELECT keep_log_months(3)"

/* Migrations (pg_migrate.c), and the same as a script (pg_print.c). */
dk_rc dk_pg_migrate(void *self, struct dk_err *err);
dk_rc dk_pg_schema_version(void *self, struct dk_schema_version *out, struct dk_err *err);
dk_rc dk_pg_print(void *self, bool supabase, void (*put)(void *arg, const char *text, size_t n),
                  void *arg, struct dk_err *err);
dk_rc dk_pg_exists(void *self, bool *out, struct dk_err *err);

/* Gives rights again, and makes what is missing or changed; as the owner (pg_mend.c). */
dk_rc dk_pg_mend(PGconn *pg, const char *schema, bool is_owner, struct dk_err *err);

/* Damage and the schema (pg_schema.c). */

/* One object that a migration makes; texts are lent from it. */
struct dk_pg_expected {
    const char *type;
    char name[64], table[64];
    bool optional;      /* made inside a block, on a condition */
    const char *source; /* of a function: what stands between the two $$ */
    size_t source_n;
};

/* The statement at the start of a line; false: it makes nothing that is looked at. */
bool dk_pg_makes(const char *line, struct dk_pg_expected *out);
extern const char dk_pg_objects[]; /* the query: an object of the current schema a row */
/* What the rows of that query are, beside what the migrations make. */
void dk_pg_compare(const PGresult *r,
                   void (*each)(void *arg, const struct dk_schema_finding *finding), void *arg);
dk_rc dk_pg_integrity(void *txn, bool (*each)(void *arg, const char *table, const char *text),
                      void *arg, struct dk_err *err);
dk_rc dk_pg_schema(void *txn, void (*each)(void *arg, const struct dk_schema_finding *finding),
                   void *arg, struct dk_err *err);

/* The server, the way to it and the rights there (pg_doctor.c). */
dk_rc dk_pg_circumstances(void *self, void (*each)(void *arg, const struct dk_store_note *note),
                          void *arg, struct dk_err *err);

/* The registry, tenants, and what changed (pg_rows.c). */
dk_rc dk_pg_registry_read(void *txn, struct dk_registry_row *out, struct dk_err *err);
dk_rc dk_pg_registry_fill(void *txn, const struct dk_wrap_columns *wrap, bool *filled,
                          struct dk_err *err);
dk_rc dk_pg_registry_rekey(void *txn, const struct dk_registry_key_row *earlier,
                           const struct dk_wrap_columns *wrap, struct dk_err *err);
dk_rc dk_pg_registry_rekeyed(void *txn, uint32_t generation, struct dk_err *err);
dk_rc dk_pg_registry_pruned(void *txn, const struct dk_log_edge *edge, struct dk_err *err);
dk_rc dk_pg_registry_keys(void *txn, uint32_t from,
                          bool (*each)(void *arg, const struct dk_registry_key_row *row), void *arg,
                          struct dk_err *err);
dk_rc dk_pg_tenant_read(void *txn, const struct dk_tenant *tenant, struct dk_tenant_row *out,
                        struct dk_err *err);
dk_rc dk_pg_tenant_update(void *txn, const struct dk_tenant_row *row, int64_t old_epoch,
                          bool *changed, struct dk_err *err);
dk_rc dk_pg_tenant_remac(void *txn, const struct dk_tenant_row *row, const char *old_mac,
                         bool *changed, struct dk_err *err);
dk_rc dk_pg_tenant_list(void *txn, const char *after, size_t limit, struct dk_tenant_row *out,
                        size_t *count, struct dk_err *err);
dk_rc dk_pg_changes(void *txn, struct dk_mark *mark, bool *went_back,
                    void (*each)(void *arg, const struct dk_tenant *tenant), void *arg,
                    struct dk_err *err);
dk_rc dk_pg_log_cleared(void *txn, int64_t *mark, bool *cleared, struct dk_err *err);
dk_rc dk_pg_node(void *txn, const char *node, bool leaves, struct dk_err *err);
dk_rc dk_pg_tidy(void *txn, struct dk_err *err);
dk_rc dk_pg_lease(void *txn, const char *name, const char *holder, int64_t ms, bool *held,
                  struct dk_err *err);

/* Keys (pg_keys.c). */
dk_rc dk_pg_key_read(void *txn, const struct dk_tenant *tenant, uint32_t version,
                     struct dk_key_row *out, struct dk_err *err);
dk_rc dk_pg_key_read_active(void *txn, const struct dk_tenant *tenant, struct dk_key_row *out,
                            struct dk_err *err);
dk_rc dk_pg_key_insert(void *txn, const struct dk_key_row *row, bool *inserted, struct dk_err *err);
dk_rc dk_pg_key_update(void *txn, const struct dk_key_row *row, enum dk_state old_state,
                       bool *changed, struct dk_err *err);
dk_rc dk_pg_key_remac(void *txn, const struct dk_key_row *row, const char *old_mac, bool *changed,
                      struct dk_err *err);
dk_rc dk_pg_key_add_messages(void *txn, struct dk_sealed *list, size_t count, struct dk_err *err);
dk_rc dk_pg_key_list(void *txn, const struct dk_tenant *tenant, enum dk_key_filter filter,
                     const struct dk_key_cursor *after, size_t limit, struct dk_key_row *out,
                     size_t *count, struct dk_err *err);
dk_rc dk_pg_key_page(void *txn, const struct dk_tenant *tenant, struct dk_key_page *page,
                     struct dk_err *err);
dk_rc dk_pg_key_expiring(void *txn, int64_t from_us, int64_t until_us,
                         bool (*each)(void *arg, const struct dk_key_row *row), void *arg,
                         struct dk_err *err);
/* What that asks: its parameters are the two moments. The bench explains it. */
extern const char dk_pg_key_counts_sql[];
dk_rc dk_pg_key_counts(void *txn, int64_t now_us, int64_t warn_until_us, struct dk_key_counts *out,
                       struct dk_err *err);
dk_rc dk_pg_key_macs(void *txn, const struct dk_tenant *tenant,
                     bool (*each)(void *arg, uint32_t version, const char *row_mac), void *arg,
                     struct dk_err *err);

/* A page of keys, of statements that `ask` sends: rows behind the page's cursor, so many. */
typedef dk_rc (*dk_pg_ask_page)(struct dk_pg_txn *txn, const void *of,
                                const struct dk_key_page *page, int64_t limit, int64_t offset,
                                PGresult **r, struct dk_err *err);
dk_rc dk_pg_read_page(struct dk_pg_txn *txn, dk_pg_ask_page ask, const void *of,
                      struct dk_key_page *page, struct dk_err *err);

/* Further wraps (pg_wraps.c). */
dk_rc dk_pg_wraps_of(void *txn, const struct dk_tenant *tenant, uint32_t version,
                     bool (*each)(void *arg, const struct dk_wrap_row *row), void *arg,
                     struct dk_err *err);
dk_rc dk_pg_wraps_stale(void *txn, const struct dk_stale *stale,
                        bool (*each)(void *arg, const struct dk_wrap_row *row), void *arg,
                        struct dk_err *err);
dk_rc dk_pg_wrap_put(void *txn, const struct dk_wrap_row *row, struct dk_err *err);
dk_rc dk_pg_wrap_drop(void *txn, const struct dk_tenant *tenant, uint32_t version,
                      const char *provider, struct dk_err *err);
dk_rc dk_pg_wraps_missing(void *txn, const char *provider, struct dk_key_page *page,
                          struct dk_err *err);
dk_rc dk_pg_registry_wraps(void *txn, uint32_t generation,
                           bool (*each)(void *arg, const struct dk_wrap_columns *wrap), void *arg,
                           struct dk_err *err);
dk_rc dk_pg_registry_wrap_put(void *txn, uint32_t generation, const struct dk_wrap_columns *wrap,
                              struct dk_err *err);
dk_rc dk_pg_registry_wrap_drop(void *txn, uint32_t generation, const char *provider,
                               struct dk_err *err);
dk_rc dk_pg_registry_rewrap(void *txn, uint32_t generation, const struct dk_wrap_columns *before,
                            const struct dk_wrap_columns *wrap, struct dk_err *err);

/* Counts of provider calls (pg_calls.c). */
dk_rc dk_pg_calls_add(void *txn, const struct dk_call_row *rows, size_t count, struct dk_err *err);
dk_rc dk_pg_calls_sum(void *txn, const char *from,
                      bool (*each)(void *arg, const struct dk_call_row *row), void *arg,
                      struct dk_err *err);

/* Many at once (pg_many.c, pg_first.c). */
dk_rc dk_pg_find_many(void *txn, struct dk_find *finds, size_t count,
                      const struct dk_find_calls *calls, struct dk_err *err);
dk_rc dk_pg_insert_first(void *txn, struct dk_first *firsts, size_t count,
                         dk_rc (*make)(void *arg, size_t i, struct dk_err *err), void *arg,
                         struct dk_err *err);

/* The log and the seals (pg_log.c). */
dk_rc dk_pg_log_append(void *txn, const struct dk_log_row *row, struct dk_err *err);
dk_rc dk_pg_log_chain(void *txn, const struct dk_log_row *row, struct dk_err *err);
dk_rc dk_pg_log_walk(void *txn, const struct dk_log_query *query,
                     bool (*each)(void *arg, const struct dk_log_row *row), void *arg,
                     struct dk_err *err);
dk_rc dk_pg_log_edge(void *txn, struct dk_log_edge *edge, struct dk_err *err);
dk_rc dk_pg_log_prune(void *txn, const struct dk_log_edge *edge, int64_t limit, int64_t *deleted,
                      struct dk_err *err);
dk_rc dk_pg_seal_append(void *txn, const struct dk_seal_row *row, struct dk_err *err);
dk_rc dk_pg_seal_newest(void *txn, struct dk_seal_row *out, struct dk_err *err);
dk_rc dk_pg_seal_walk(void *txn, int64_t from,
                      bool (*each)(void *arg, const struct dk_seal_row *row), void *arg,
                      struct dk_err *err);
dk_rc dk_pg_moved(void *txn, bool (*each)(void *arg, const struct dk_moved *moved), void *arg,
                  struct dk_err *err);

#endif
