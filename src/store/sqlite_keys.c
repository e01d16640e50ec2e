/* The rows of keys in SQLite. */
#include "store/sqlite_stmt.h"

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

bool dk_sqlite_read_key(sqlite3_stmt *stmt, void *to)
{
    struct dk_key_row *out = to;
    char state[16];
    return dk_sql_read_str(stmt, 0, out->id, sizeof out->id) &&
           dk_sql_read_tenant(stmt, 1, &out->tenant) &&
           dk_sql_read_version(stmt, 2, &out->version) &&
           dk_sql_read_str(stmt, 3, state, sizeof state) &&
           dk_state_from_name(state, &out->state) && dk_sql_read_wrap(stmt, 4, &out->wrap) &&
           read_check_value(stmt, 8, out->check_value) &&
           dk_sql_read_time(stmt, 9, false, &out->created_at) &&
           dk_sql_read_time(stmt, 10, false, &out->expires_at) &&
           dk_sql_read_time(stmt, 11, true, &out->rotated_at) &&
           dk_sql_read_time(stmt, 12, true, &out->compromised_at) &&
           dk_sql_read_time(stmt, 13, true, &out->disabled_at) &&
           dk_sql_read_time(stmt, 14, true, &out->purged_at) &&
           dk_sql_read_int(stmt, 15, 0, INT64_MAX, &out->messages) &&
           dk_sql_read_str(stmt, 16, out->row_mac, sizeof out->row_mac);
}

dk_rc dk_sqlite_key_read(void *self, const struct dk_tenant *tenant, uint32_t version,
                         struct dk_key_row *out, struct dk_err *err)
{
    sqlite3_stmt *stmt = NULL;
    struct dk_key_row row = {0};
    DK_TRY(dk_sql_prepare(self, DK_SQL_KEY_READ, &stmt, err));
    int bound = dk_sql_bind_str(stmt, 1, tenant->s) | sqlite3_bind_int64(stmt, 2, version);
    DK_TRY(dk_sql_read_one(self, stmt, bound, dk_sqlite_read_key, &row, "encryption_keys", err));
    *out = row;
    return DK_OK;
}

dk_rc dk_sqlite_key_read_active(void *self, const struct dk_tenant *tenant, struct dk_key_row *out,
                                struct dk_err *err)
{
    sqlite3_stmt *stmt = NULL;
    struct dk_key_row row = {0};
    DK_TRY(dk_sql_prepare(self, DK_SQL_KEY_ACTIVE, &stmt, err));
    int bound = dk_sql_bind_str(stmt, 1, tenant->s);
    DK_TRY(dk_sql_read_one(self, stmt, bound, dk_sqlite_read_key, &row, "encryption_keys", err));
    *out = row;
    return DK_OK;
}

static int bind_key(sqlite3_stmt *stmt, const struct dk_key_row *row)
{
    return dk_sql_bind_str(stmt, 1, row->id) | dk_sql_bind_str(stmt, 2, row->tenant.s) |
           sqlite3_bind_int64(stmt, 3, row->version) |
           dk_sql_bind_str(stmt, 4, dk_state_name(row->state)) |
           dk_sql_bind_str(stmt, 5, row->wrap.provider) |
           dk_sql_bind_str(stmt, 6, row->wrap.kms_key_id) |
           dk_sql_bind_str(stmt, 7, row->wrap.encrypted_data_key) |
           dk_sql_bind_str(stmt, 8, row->wrap.context_timestamp) |
           sqlite3_bind_blob(stmt, 9, row->check_value, DK_CHECK_BYTES, SQLITE_STATIC) |
           dk_sql_bind_time(stmt, 10, row->created_at) |
           dk_sql_bind_time(stmt, 11, row->expires_at) |
           dk_sql_bind_time(stmt, 12, row->rotated_at) |
           dk_sql_bind_time(stmt, 13, row->compromised_at) |
           dk_sql_bind_time(stmt, 14, row->disabled_at) |
           dk_sql_bind_time(stmt, 15, row->purged_at) |
           sqlite3_bind_int64(stmt, 16, row->messages) | dk_sql_bind_str(stmt, 17, row->row_mac);
}

/* An insert that was ignored: because of the check value (a key handed out twice), or not. */
static dk_rc explain_ignored(void *self, const struct dk_key_row *row, struct dk_err *err)
{
    sqlite3_stmt *stmt = NULL;
    struct dk_err none;
    dk_err_clear(&none);
    DK_TRY(dk_sql_prepare(self, DK_SQL_KEY_CHECK, &stmt, err));
    int bound = sqlite3_bind_blob(stmt, 1, row->check_value, DK_CHECK_BYTES, SQLITE_STATIC);
    dk_rc rc = dk_sql_step_one(self, stmt, bound, "encryption_keys", &none);
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
    DK_TRY(dk_sql_prepare(self, DK_SQL_KEY_INSERT, &stmt, err));
    DK_TRY(dk_sql_run(self, stmt, bind_key(stmt, row), "storing a key", inserted, err));
    return *inserted ? DK_OK : explain_ignored(self, row, err);
}

dk_rc dk_sqlite_key_update(void *self, const struct dk_key_row *row, enum dk_state old_state,
                           bool *changed, struct dk_err *err)
{
    sqlite3_stmt *stmt = NULL;
    DK_TRY(dk_sql_prepare(self, DK_SQL_KEY_UPDATE, &stmt, err));
    int bound = bind_key(stmt, row) | dk_sql_bind_str(stmt, 18, dk_state_name(old_state));
    return dk_sql_run(self, stmt, bound, "changing a key", changed, err);
}

static bool read_messages(sqlite3_stmt *stmt, void *to)
{
    return dk_sql_read_int(stmt, 0, 0, INT64_MAX, to);
}

dk_rc dk_sqlite_key_remac(void *self, const struct dk_key_row *row, const char *old_mac,
                          bool *changed, struct dk_err *err)
{
    sqlite3_stmt *stmt = NULL;
    DK_TRY(dk_sql_prepare(self, DK_SQL_KEY_REMAC, &stmt, err));
    int bound = dk_sql_bind_str(stmt, 1, row->tenant.s) |
                sqlite3_bind_int64(stmt, 2, row->version) | dk_sql_bind_str(stmt, 3, row->row_mac) |
                dk_sql_bind_str(stmt, 4, old_mac);
    return dk_sql_run(self, stmt, bound, "renewing a MAC", changed, err);
}

static dk_rc add_messages(void *self, struct dk_sealed *of, struct dk_err *err)
{
    struct dk_err cause;
    sqlite3_stmt *stmt = NULL;
    of->sum = 0;
    dk_err_clear(&cause);
    DK_TRY(dk_sql_prepare(self, DK_SQL_KEY_MESSAGES, &stmt, err));
    int bound = dk_sql_bind_str(stmt, 1, of->tenant->s) | sqlite3_bind_int64(stmt, 2, of->version) |
                sqlite3_bind_int64(stmt, 3, of->count);
    dk_rc rc =
        dk_sql_read_one(self, stmt, bound, read_messages, &of->sum, "encryption_keys", &cause);
    of->gone = rc == DK_E_NOT_FOUND;
    if (rc != DK_OK && !of->gone) {
        *err = cause;
        return rc;
    }
    return DK_OK;
}

dk_rc dk_sqlite_key_add_messages(void *self, struct dk_sealed *list, size_t count,
                                 struct dk_err *err)
{
    for (size_t i = 0; i < count; i++) {
        DK_TRY(add_messages(self, &list[i], err));
    }
    return DK_OK;
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
    DK_TRY(dk_sql_prepare(txn, which, &stmt, err));
    int bound = dk_sql_bind_str(stmt, 1, tenant != NULL ? tenant->s : after->tenant.s) |
                sqlite3_bind_int64(stmt, 2, after->version) |
                sqlite3_bind_int64(stmt, 3, (sqlite3_int64)limit);
    size_t n = 0;
    int code = bound == SQLITE_OK ? SQLITE_ROW : SQLITE_NOMEM;
    while (n < limit && code == SQLITE_ROW && (code = sqlite3_step(stmt)) == SQLITE_ROW) {
        if (!dk_sqlite_read_key(stmt, &out[n++])) {
            return dk_sql_finish_one(txn, stmt, false, "encryption_keys", err);
        }
    }
    dk_rc rc = dk_sql_end_walk(txn, stmt, code, "listing keys", err);
    *count = rc == DK_OK ? n : 0;
    return rc;
}

static void tell_unreadable(const struct dk_key_page *page, sqlite3_stmt *stmt)
{
    struct dk_tenant tenant;
    uint32_t version;
    bool named = dk_sql_read_tenant(stmt, 1, &tenant);
    bool counted = dk_sql_read_version(stmt, 2, &version);
    if (page->unreadable != NULL) {
        page->unreadable(page->arg, named ? tenant.s : "", counted ? version : 0);
    }
}

dk_rc dk_sqlite_read_page(struct dk_sqlite_txn *txn, sqlite3_stmt *stmt, int bound,
                          const char *what, struct dk_key_page *page, struct dk_err *err)
{
    size_t n = 0;
    int code = bound == SQLITE_OK ? SQLITE_ROW : SQLITE_NOMEM;
    page->count = 0;
    while (n < page->limit && code == SQLITE_ROW && (code = sqlite3_step(stmt)) == SQLITE_ROW) {
        if (dk_sqlite_read_key(stmt, &page->rows[n])) {
            n++;
        } else if ((sqlite3_errcode(txn->db) & 0xFF) == SQLITE_NOMEM) {
            return dk_sql_finish_one(txn, stmt, false, "encryption_keys", err);
        } else {
            tell_unreadable(page, stmt);
        }
    }
    dk_rc rc = dk_sql_end_walk(txn, stmt, code, what, err);
    page->count = rc == DK_OK ? n : 0;
    return rc;
}

dk_rc dk_sqlite_key_page(void *self, const struct dk_tenant *tenant, struct dk_key_page *page,
                         struct dk_err *err)
{
    sqlite3_stmt *stmt = NULL;
    DK_TRY(dk_sql_prepare(self, tenant != NULL ? DK_SQL_KEY_LIST_TENANT : DK_SQL_KEY_LIST, &stmt,
                          err));
    int bound = dk_sql_bind_str(stmt, 1, tenant != NULL ? tenant->s : page->after.tenant.s) |
                sqlite3_bind_int64(stmt, 2, page->after.version) | sqlite3_bind_int64(stmt, 3, -1);
    return dk_sqlite_read_page(self, stmt, bound, "listing keys", page, err);
}

dk_rc dk_sqlite_key_expiring(void *self, int64_t from_us, int64_t until_us,
                             bool (*each)(void *arg, const struct dk_key_row *row), void *arg,
                             struct dk_err *err)
{
    struct dk_sqlite_txn *txn = self;
    sqlite3_stmt *stmt = NULL;
    struct dk_key_row row;
    DK_TRY(dk_sql_prepare(txn, DK_SQL_KEY_EXPIRING, &stmt, err));
    int bound = dk_sql_bind_time(stmt, 1, from_us) | dk_sql_bind_time(stmt, 2, until_us);
    int code = bound == SQLITE_OK ? SQLITE_ROW : SQLITE_NOMEM;
    while (code == SQLITE_ROW && (code = sqlite3_step(stmt)) == SQLITE_ROW) {
        if (!dk_sqlite_read_key(stmt, &row)) {
            return dk_sql_finish_one(txn, stmt, false, "encryption_keys", err);
        }
        if (!each(arg, &row)) {
            break;
        }
    }
    return dk_sql_end_walk(txn, stmt, code, "listing keys by their expiry", err);
}

static bool read_counts(sqlite3_stmt *stmt, void *to)
{
    struct dk_key_counts *out = to;
    return dk_sql_read_int(stmt, 0, 0, INT64_MAX, &out->total) &&
           dk_sql_read_int(stmt, 1, 0, INT64_MAX, &out->active) &&
           dk_sql_read_int(stmt, 2, 0, INT64_MAX, &out->expired) &&
           dk_sql_read_int(stmt, 3, 0, INT64_MAX, &out->near_expiry);
}

dk_rc dk_sqlite_key_counts(void *self, int64_t now_us, int64_t warn_until_us,
                           struct dk_key_counts *out, struct dk_err *err)
{
    sqlite3_stmt *stmt = NULL;
    DK_TRY(dk_sql_prepare(self, DK_SQL_KEY_COUNTS, &stmt, err));
    int bound = dk_sql_bind_time(stmt, 1, now_us) | dk_sql_bind_time(stmt, 2, warn_until_us);
    return dk_sql_read_one(self, stmt, bound, read_counts, out, "encryption_keys", err);
}

static bool read_mac(sqlite3_stmt *stmt, int i, uint32_t *version, char row_mac[static DK_MAC_TEXT],
                     int mac)
{
    return dk_sql_read_version(stmt, i, version) &&
           dk_sql_read_str(stmt, mac, row_mac, DK_MAC_TEXT);
}

dk_rc dk_sqlite_key_macs(void *self, const struct dk_tenant *tenant,
                         bool (*each)(void *arg, uint32_t version, const char *row_mac), void *arg,
                         struct dk_err *err)
{
    struct dk_sqlite_txn *txn = self;
    sqlite3_stmt *stmt = NULL;
    bool more = true;
    DK_TRY(dk_sql_prepare(txn, DK_SQL_KEY_MACS, &stmt, err));
    int code = dk_sql_bind_str(stmt, 1, tenant->s) == SQLITE_OK ? SQLITE_ROW : SQLITE_NOMEM;
    while (more && code == SQLITE_ROW && (code = sqlite3_step(stmt)) == SQLITE_ROW) {
        uint32_t version;
        char row_mac[DK_MAC_TEXT];
        if (!read_mac(stmt, 0, &version, row_mac, 1)) {
            return dk_sql_finish_one(txn, stmt, false, "encryption_keys", err);
        }
        more = each(arg, version, row_mac);
    }
    return dk_sql_end_walk(txn, stmt, code, "reading the MACs of a tenant's keys", err);
}

/* ---- many at once: one after the other ------------------------------------------------------- */

static bool is_wanted(sqlite3_stmt *stmt, uint32_t version)
{
    if (version != 0) {
        return sqlite3_column_int64(stmt, 2) == version;
    }
    const unsigned char *state = sqlite3_column_text(stmt, 3);
    return state != NULL && strcmp((const char *)state, dk_state_name(DK_ACTIVE)) == 0;
}

static dk_rc find_keys(struct dk_sqlite_txn *txn, struct dk_find *find, size_t at,
                       bool (*each)(void *arg, size_t i, uint32_t version, const char *row_mac),
                       void *arg, bool *more, struct dk_err *err)
{
    sqlite3_stmt *stmt = NULL;
    find->key_rc = DK_E_NOT_FOUND;
    find->versions = 0;
    DK_TRY(dk_sql_prepare(txn, DK_SQL_KEY_FIND, &stmt, err));
    int code = dk_sql_bind_str(stmt, 1, find->tenant->s) == SQLITE_OK ? SQLITE_ROW : SQLITE_NOMEM;
    while (*more && code == SQLITE_ROW && (code = sqlite3_step(stmt)) == SQLITE_ROW) {
        uint32_t version;
        char row_mac[DK_MAC_TEXT];
        bool readable = read_mac(stmt, 2, &version, row_mac, 16);
        if ((sqlite3_errcode(txn->db) & 0xFF) == SQLITE_NOMEM) {
            return dk_sql_finish_one(txn, stmt, false, "encryption_keys", err);
        }
        find->versions++;
        if (!readable) { /* of this tenant nothing is believed; the others go on */
            find->key_rc = DK_E_TAMPERED;
            break;
        }
        *more = each(arg, at, version, row_mac);
        if (find->key_rc == DK_E_NOT_FOUND && is_wanted(stmt, find->version)) {
            find->key_rc = dk_sqlite_read_key(stmt, find->key) ? DK_OK : DK_E_TAMPERED;
        }
        if ((sqlite3_errcode(txn->db) & 0xFF) == SQLITE_NOMEM) {
            return dk_sql_finish_one(txn, stmt, false, "encryption_keys", err);
        }
    }
    return dk_sql_end_walk(txn, stmt, code, "reading a tenant's keys", err);
}

/* What the row is worth is the answer of reading it; anything else is an error. */
static dk_rc find_tenant(struct dk_sqlite_txn *txn, struct dk_find *find, struct dk_err *err)
{
    struct dk_err cause;
    dk_err_clear(&cause);
    find->row_rc = dk_sqlite_tenant_read(txn, find->tenant, &find->row, &cause);
    if (find->row_rc != DK_OK && find->row_rc != DK_E_NOT_FOUND && find->row_rc != DK_E_TAMPERED) {
        *err = cause;
        return err->rc;
    }
    return DK_OK;
}

static dk_rc look_into_log(struct dk_sqlite_txn *txn, struct dk_find *find, struct dk_err *err)
{
    sqlite3_stmt *stmt = NULL;
    DK_TRY(dk_sql_prepare(txn, DK_SQL_LOG_KNOWS, &stmt, err));
    int code = dk_sql_bind_str(stmt, 1, find->tenant->s);
    code = code == SQLITE_OK ? sqlite3_step(stmt) : SQLITE_NOMEM;
    find->in_log = code == SQLITE_ROW;
    return dk_sql_end_walk(txn, stmt, code, "looking for a tenant in the log", err);
}

dk_rc dk_sqlite_find_many(void *self, struct dk_find *finds, size_t count,
                          const struct dk_find_calls *calls, struct dk_err *err)
{
    bool more = true;
    for (size_t i = 0; i < count && more; i++) {
        struct dk_find *find = &finds[i];
        find->in_log = false;
        DK_TRY(find_tenant(self, find, err));
        DK_TRY(find_keys(self, find, i, calls->mac, calls->arg, &more, err));
        if (find->row_rc == DK_E_NOT_FOUND && find->versions == 0) {
            DK_TRY(look_into_log(self, find, err));
        }
        if (more && calls->found != NULL) {
            calls->found(calls->arg, i);
        }
    }
    return DK_OK;
}

static dk_rc insert_one(struct dk_sqlite_txn *txn, struct dk_first *first, struct dk_err *err)
{
    const struct dk_world *world = txn->store->world;
    bool stored = false;
    DK_TRY(dk_sqlite_tenant_insert(txn, first->tenant, &first->inserted, err));
    if (!first->inserted) {
        return DK_OK;
    }
    dk_trace(world, "first_use.tenant_inserted");
    DK_TRY(dk_sqlite_key_insert(txn, first->key, &stored, err));
    first->orphans = !stored;
    if (!stored) {
        return DK_OK;
    }
    dk_trace(world, "first_use.key_inserted");
    DK_TRY(dk_sqlite_log_append(txn, first->log, err));
    dk_trace(world, "first_use.log_written");
    return DK_OK;
}

dk_rc dk_sqlite_insert_first(void *self, struct dk_first *firsts, size_t count,
                             dk_rc (*make)(void *arg, size_t i, struct dk_err *err), void *arg,
                             struct dk_err *err)
{
    for (size_t i = 0; i < count; i++) {
        if (make != NULL) {
            DK_TRY(make(arg, i, err));
        }
        firsts[i].orphans = false;
        DK_TRY(insert_one(self, &firsts[i], err));
    }
    return DK_OK;
}
