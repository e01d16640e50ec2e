/* Further wraps of data keys and registry keys in SQLite. */
#include "store/sqlite_stmt.h"

/* ---- data keys ------------------------------------------------------------------------------- */

static bool read_wrap_row(sqlite3_stmt *stmt, struct dk_wrap_row *out)
{
    return dk_sql_read_tenant(stmt, 0, &out->tenant) &&
           dk_sql_read_version(stmt, 1, &out->version) && dk_sql_read_wrap(stmt, 2, &out->wrap) &&
           dk_sql_read_time(stmt, 6, false, &out->last_verified_at) &&
           dk_sql_read_str(stmt, 7, out->row_mac, sizeof out->row_mac);
}

/* At most `limit` rows. One that is none is passed over: it opens nothing, and the others may. */
static dk_rc walk(struct dk_sqlite_txn *txn, sqlite3_stmt *stmt, int bound, size_t limit,
                  bool (*each)(void *arg, const struct dk_wrap_row *row), void *arg,
                  struct dk_err *err)
{
    struct dk_wrap_row row;
    int code = bound == SQLITE_OK ? SQLITE_ROW : SQLITE_NOMEM;
    while (limit > 0 && code == SQLITE_ROW && (code = sqlite3_step(stmt)) == SQLITE_ROW) {
        bool good = read_wrap_row(stmt, &row);
        if (!good && (sqlite3_errcode(txn->db) & 0xFF) == SQLITE_NOMEM) {
            return dk_sql_finish_one(txn, stmt, false, "wraps", err);
        }
        limit -= good;
        if (good && !each(arg, &row)) {
            break;
        }
    }
    return dk_sql_end_walk(txn, stmt, code, "reading further wraps", err);
}

dk_rc dk_sqlite_wraps_of(void *self, const struct dk_tenant *tenant, uint32_t version,
                         bool (*each)(void *arg, const struct dk_wrap_row *row), void *arg,
                         struct dk_err *err)
{
    sqlite3_stmt *stmt = NULL;
    DK_TRY(dk_sql_prepare(self, DK_SQL_WRAPS_OF, &stmt, err));
    int bound = dk_sql_bind_str(stmt, 1, tenant->s) | sqlite3_bind_int64(stmt, 2, version);
    return walk(self, stmt, bound, SIZE_MAX, each, arg, err);
}

dk_rc dk_sqlite_wraps_stale(void *self, const struct dk_stale *stale,
                            bool (*each)(void *arg, const struct dk_wrap_row *row), void *arg,
                            struct dk_err *err)
{
    const struct dk_wrap_cursor *after = &stale->after;
    sqlite3_stmt *stmt = NULL;
    DK_TRY(dk_sql_prepare(self, DK_SQL_WRAPS_STALE, &stmt, err));
    int bound =
        dk_sql_bind_time(stmt, 1, stale->before_us) | dk_sql_bind_time(stmt, 2, stale->beyond_us) |
        dk_sql_bind_time(stmt, 3, after->verified_at) | dk_sql_bind_str(stmt, 4, after->tenant.s) |
        sqlite3_bind_int64(stmt, 5, after->version) | dk_sql_bind_str(stmt, 6, after->provider);
    return walk(self, stmt, bound, stale->limit, each, arg, err);
}

dk_rc dk_sqlite_wrap_put(void *self, const struct dk_wrap_row *row, struct dk_err *err)
{
    sqlite3_stmt *stmt = NULL;
    bool stored = false;
    DK_TRY(dk_sql_prepare(self, DK_SQL_WRAP_PUT, &stmt, err));
    int bound =
        dk_sql_bind_str(stmt, 1, row->tenant.s) | sqlite3_bind_int64(stmt, 2, row->version) |
        dk_sql_bind_str(stmt, 3, row->wrap.provider) |
        dk_sql_bind_str(stmt, 4, row->wrap.kms_key_id) |
        dk_sql_bind_str(stmt, 5, row->wrap.encrypted_data_key) |
        dk_sql_bind_str(stmt, 6, row->wrap.context_timestamp) |
        dk_sql_bind_time(stmt, 7, row->last_verified_at) | dk_sql_bind_str(stmt, 8, row->row_mac);
    DK_TRY(dk_sql_run(self, stmt, bound, "storing a further wrap", &stored, err));
    return stored ? DK_OK : DK_FAIL(err, TAMPERED, "something in the database drops further wraps");
}

dk_rc dk_sqlite_wrap_drop(void *self, const struct dk_tenant *tenant, uint32_t version,
                          const char *provider, struct dk_err *err)
{
    sqlite3_stmt *stmt = NULL;
    bool changed = false;
    DK_TRY(dk_sql_prepare(self, DK_SQL_WRAP_DROP, &stmt, err));
    int bound = dk_sql_bind_str(stmt, 1, tenant->s) | sqlite3_bind_int64(stmt, 2, version) |
                dk_sql_bind_str(stmt, 3, provider);
    return dk_sql_run(self, stmt, bound, "dropping a further wrap", &changed, err);
}

dk_rc dk_sqlite_wraps_missing(void *self, const char *provider, struct dk_key_page *page,
                              struct dk_err *err)
{
    sqlite3_stmt *stmt = NULL;
    DK_TRY(dk_sql_prepare(self, DK_SQL_WRAPS_MISSING, &stmt, err));
    int bound = dk_sql_bind_str(stmt, 1, page->after.tenant.s) |
                sqlite3_bind_int64(stmt, 2, page->after.version) |
                dk_sql_bind_str(stmt, 3, provider);
    return dk_sqlite_read_page(self, stmt, bound, "listing keys without a further wrap", page, err);
}

/* ---- registry keys --------------------------------------------------------------------------- */

dk_rc dk_sqlite_registry_wraps(void *self, uint32_t generation,
                               bool (*each)(void *arg, const struct dk_wrap_columns *wrap),
                               void *arg, struct dk_err *err)
{
    struct dk_sqlite_txn *txn = self;
    sqlite3_stmt *stmt = NULL;
    struct dk_wrap_columns wrap;
    DK_TRY(dk_sql_prepare(txn, DK_SQL_REGISTRY_WRAPS, &stmt, err));
    int bound = sqlite3_bind_int64(stmt, 1, generation);
    int code = bound == SQLITE_OK ? SQLITE_ROW : SQLITE_NOMEM;
    while (code == SQLITE_ROW && (code = sqlite3_step(stmt)) == SQLITE_ROW) {
        if (dk_sql_read_wrap(stmt, 0, &wrap) && !each(arg, &wrap)) {
            break;
        }
    }
    return dk_sql_end_walk(txn, stmt, code, "reading the registry key's wraps", err);
}

static int bind_wrap(sqlite3_stmt *stmt, uint32_t generation, const struct dk_wrap_columns *wrap)
{
    return sqlite3_bind_int64(stmt, 1, generation) | dk_sql_bind_str(stmt, 2, wrap->provider) |
           dk_sql_bind_str(stmt, 3, wrap->kms_key_id) |
           dk_sql_bind_str(stmt, 4, wrap->encrypted_data_key) |
           dk_sql_bind_str(stmt, 5, wrap->context_timestamp);
}

dk_rc dk_sqlite_registry_wrap_put(void *self, uint32_t generation,
                                  const struct dk_wrap_columns *wrap, struct dk_err *err)
{
    sqlite3_stmt *stmt = NULL;
    bool stored = false;
    DK_TRY(dk_sql_prepare(self, DK_SQL_REGISTRY_WRAP_PUT, &stmt, err));
    DK_TRY(dk_sql_run(self, stmt, bind_wrap(stmt, generation, wrap),
                      "storing a wrap of the registry key", &stored, err));
    return stored ? DK_OK : DK_FAIL(err, TAMPERED, "something in the database drops further wraps");
}

dk_rc dk_sqlite_registry_wrap_drop(void *self, uint32_t generation, const char *provider,
                                   struct dk_err *err)
{
    sqlite3_stmt *stmt = NULL;
    bool changed = false;
    DK_TRY(dk_sql_prepare(self, DK_SQL_REGISTRY_WRAP_DROP, &stmt, err));
    int bound = sqlite3_bind_int64(stmt, 1, generation) | dk_sql_bind_str(stmt, 2, provider);
    return dk_sql_run(self, stmt, bound, "dropping a wrap of the registry key", &changed, err);
}

dk_rc dk_sqlite_registry_rewrap(void *self, uint32_t generation,
                                const struct dk_wrap_columns *before,
                                const struct dk_wrap_columns *wrap, struct dk_err *err)
{
    sqlite3_stmt *stmt = NULL;
    bool changed = false;
    DK_TRY(dk_sql_prepare(self, DK_SQL_REGISTRY_REWRAP, &stmt, err));
    int bound =
        bind_wrap(stmt, generation, wrap) | dk_sql_bind_str(stmt, 6, before->encrypted_data_key);
    DK_TRY(dk_sql_run(self, stmt, bound, "changing the registry's wrap", &changed, err));
    return changed ? DK_OK : DK_FAIL(err, CONFLICT, "the registry has another wrap by now");
}
