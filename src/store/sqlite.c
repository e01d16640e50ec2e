#include "store/sqlite.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "store/migrations.h"
#include "store/sqlite_txn.h"

#define BUSY_MS 5000
#define WAL_RETRY_MS 10
/* "dekh": tells our file from any other SQLite database. */
#define APPLICATION_ID 0x64656b68

/* With the system's reason, where SQLite kept it: "too many open files" is no damage. */
static dk_rc fail_io(sqlite3 *db, long extended, const char *what, const char *text,
                     struct dk_err *err)
{
    int why = db != NULL ? sqlite3_system_errno(db) : 0;
    return why == 0 ? DK_FAIL_BACKEND(err, STORE, extended, "%s failed: %s", what, text)
                    : DK_FAIL_BACKEND(err, STORE, extended, "%s failed: %s (%s)", what, text,
                                      strerror(why));
}

dk_rc dk_sqlite_fail(sqlite3 *db, int code, const char *what, struct dk_err *err)
{
    const char *text = db != NULL ? sqlite3_errmsg(db) : sqlite3_errstr(code);
    long extended = db != NULL ? sqlite3_extended_errcode(db) : code;
    switch (code & 0xFF) {
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return DK_FAIL_BACKEND(err, BUSY, extended, "%s: the database is locked by another process",
                               what);
    case SQLITE_NOMEM:
        return DK_FAIL_BACKEND(err, NOMEM, extended, "%s: out of memory", what);
    case SQLITE_READONLY:
    case SQLITE_PERM:
        return DK_FAIL_BACKEND(err, READ_ONLY, extended, "%s: the database cannot be written",
                               what);
    case SQLITE_NOTADB:
        return DK_FAIL_BACKEND(err, SCHEMA, extended, "%s: the file is not a database", what);
    case SQLITE_CORRUPT:
        return DK_FAIL_BACKEND(err, STORE, extended, "%s: the database is damaged: %s", what, text);
    case SQLITE_CANTOPEN:
    case SQLITE_IOERR:
        return fail_io(db, extended, what, text, err);
    default:
        return DK_FAIL_BACKEND(err, STORE, extended, "%s failed: %s", what, text);
    }
}

static dk_rc exec(sqlite3 *db, const char *sql, const char *what, struct dk_err *err)
{
    int code = sqlite3_exec(db, sql, NULL, NULL, NULL);
    return code == SQLITE_OK ? DK_OK : dk_sqlite_fail(db, code, what, err);
}

static dk_rc read_int(sqlite3 *db, const char *sql, int64_t *out, struct dk_err *err)
{
    sqlite3_stmt *stmt = NULL;
    int code = sqlite3_prepare_v2(db, sql, -1, &stmt, NULL);
    if (code == SQLITE_OK) {
        code = sqlite3_step(stmt);
    }
    dk_rc rc = DK_OK;
    if (code == SQLITE_ROW) {
        *out = sqlite3_column_int64(stmt, 0);
    } else {
        rc = dk_sqlite_fail(db, code, "reading the database's head", err);
    }
    sqlite3_finalize(stmt);
    return rc;
}

/* ---- connections ----------------------------------------------------------------------------- */

static dk_rc connect_to(const char *name, int flags, sqlite3 **out, struct dk_err *err)
{
    sqlite3 *db = NULL;
    int code =
        sqlite3_open_v2(name, &db, flags | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE, NULL);
    if (code != SQLITE_OK) {
        dk_rc rc = dk_sqlite_fail(db, code, "opening the database", err);
        sqlite3_close(db);
        return rc;
    }
    sqlite3_busy_timeout(db, BUSY_MS);
    sqlite3_db_config(db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    sqlite3_db_config(db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
    /* FULL: a commit is on the disk before it is acknowledged. No temporary file has rows in it.
       16 MiB: a batch of new tenants does not write its pages twice; what is not used costs none.
     */
    dk_rc rc = exec(db,
                    "PRAGMA synchronous = FULL; PRAGMA cell_size_check = ON; PRAGMA temp_store = "
                    "MEMORY; PRAGMA cache_size = -16384",
                    "setting up", err);
    if (rc != DK_OK) {
        sqlite3_close(db);
        return dk_err_while(err, "opening %s", name);
    }
    *out = db;
    return DK_OK;
}

static bool wal_exists(const struct dk_sqlite *store)
{
    char wal[DK_PATH_MAX + 8];
    snprintf(wal, sizeof wal, "%s-wal", store->path);
    return dk_file_exists(wal);
}

/* file:PATH?immutable=1 with the characters that a URI gives a meaning escaped. */
static void immutable_uri(const char *path, char *out, size_t cap)
{
    size_t n = (size_t)snprintf(out, cap, "file:");
    for (; *path != '\0' && n + 16 < cap; path++) {
        bool special = *path == '%' || *path == '?' || *path == '#';
        n += (size_t)snprintf(out + n, cap - n, special ? "%%%02x" : "%c", (unsigned char)*path);
    }
    snprintf(out + n, cap - n, "?immutable=1");
}

/*
 * A folder that cannot be written (F16): WAL mode wants to make its -shm file there. Without a
 * -wal file no writer is at work, so the file can be read as it stands.
 */
static dk_rc connect_immutable(const struct dk_sqlite *store, sqlite3 **out, struct dk_err *err)
{
    char uri[3 * DK_PATH_MAX + 32];
    immutable_uri(store->path, uri, sizeof uri);
    return connect_to(uri, SQLITE_OPEN_READONLY | SQLITE_OPEN_URI, out, err);
}

static bool folder_is_writable(const struct dk_sqlite *store)
{
    char copy[DK_PATH_MAX];
    snprintf(copy, sizeof copy, "%s", store->path);
    char *slash = strrchr(copy, '/');
    if (slash == NULL) {
        return access(".", W_OK) == 0;
    }
    slash[slash == copy] = '\0';
    return access(copy, W_OK) == 0;
}

static dk_rc connect(const struct dk_sqlite *store, enum dk_txn_mode mode, sqlite3 **out,
                     struct dk_err *err)
{
    if (!dk_file_exists(store->path) && atomic_load(&store->seen)) {
        return DK_FAIL(err, STORE, "%s has vanished: is its disk mounted?", store->path);
    }
    if (!dk_file_exists(store->path)) {
        return DK_FAIL(err, CONFIG, "there is no registry at %s: run `dekhand init`", store->path);
    }
    if (access(store->path, R_OK) != 0) {
        return DK_FAIL_BACKEND(err, STORE, errno, "%s cannot be read: %s", store->path,
                               strerror(errno));
    }
    bool writable = access(store->path, W_OK) == 0 && folder_is_writable(store);
    if (!writable && mode != DK_TXN_READ) {
        return DK_FAIL(err, READ_ONLY, "%s or its folder is read-only for this user", store->path);
    }
    if (!writable && !wal_exists(store)) {
        return connect_immutable(store, out, err);
    }
    return connect_to(store->path, writable ? SQLITE_OPEN_READWRITE : SQLITE_OPEN_READONLY, out,
                      err);
}

/* ---- migrations ------------------------------------------------------------------------------ */

static dk_rc check_schema(const struct dk_sqlite *store, sqlite3 *db, struct dk_err *err)
{
    int64_t application = 0, version = 0;
    DK_TRY(read_int(db, "PRAGMA application_id", &application, err));
    DK_TRY(read_int(db, "PRAGMA user_version", &version, err));
    if (application == 0 && version == 0) {
        return DK_FAIL(err, CONFIG, "%s holds no registry yet: run `dekhand init`", store->path);
    }
    if (application != APPLICATION_ID) {
        return DK_FAIL(err, SCHEMA, "%s is the database of another program", store->path);
    }
    if (version != (int64_t)dk_sqlite_migration_count) {
        return DK_FAIL(err, SCHEMA, "%s has schema %lld, this program knows %u: %s", store->path,
                       (long long)version, dk_sqlite_migration_count,
                       version > (int64_t)dk_sqlite_migration_count
                           ? "it was written by a newer dekhand"
                           : "run `dekhand init`");
    }
    return DK_OK;
}

static dk_rc create_registry_row(const struct dk_sqlite *store, sqlite3 *db, struct dk_err *err)
{
    char uuid[DK_UUID_TEXT], now[DK_TIME_TEXT], sql[256];
    DK_TRY(dk_uuid_new(store->world, uuid, err));
    dk_time_format(dk_wall_us(store->world), now);
    snprintf(sql, sizeof sql,
             "INSERT OR IGNORE INTO registry (id, registry_uuid, schema_version, created_at) "
             "VALUES (1, '%s', 0, '%s')",
             uuid, now);
    return exec(db, sql, "making the registry row", err);
}

/* One transaction: all missing migrations, or none. */
static dk_rc apply(const struct dk_sqlite *store, sqlite3 *db, struct dk_err *err)
{
    int64_t application = 0, version = 0, tables = 0;
    DK_TRY(read_int(db, "PRAGMA application_id", &application, err));
    DK_TRY(read_int(db, "PRAGMA user_version", &version, err));
    DK_TRY(read_int(db, "SELECT count(*) FROM sqlite_schema", &tables, err));
    if (application != APPLICATION_ID && (application != 0 || version != 0 || tables != 0)) {
        return DK_FAIL(err, SCHEMA, "%s is the database of another program", store->path);
    }
    if (version > (int64_t)dk_sqlite_migration_count) {
        return DK_FAIL(err, SCHEMA,
                       "%s has schema %lld, this program knows %u: it was written by "
                       "a newer dekhand",
                       store->path, (long long)version, dk_sqlite_migration_count);
    }
    for (unsigned i = (unsigned)version; i < dk_sqlite_migration_count; i++) {
        DK_TRY(exec(db, dk_sqlite_migrations[i].sql, dk_sqlite_migrations[i].name, err));
        dk_trace(store->world, "migrate.step");
    }
    if (version == (int64_t)dk_sqlite_migration_count) {
        return dk_sqlite_mend_schema(db, err);
    }
    char sql[160];
    DK_TRY(create_registry_row(store, db, err));
    snprintf(sql, sizeof sql,
             "UPDATE registry SET schema_version = %u; PRAGMA application_id = %d; "
             "PRAGMA user_version = %u",
             dk_sqlite_migration_count, APPLICATION_ID, dk_sqlite_migration_count);
    return exec(db, sql, "writing the schema version", err);
}

static dk_rc make_file(const struct dk_sqlite *store, struct dk_err *err)
{
    int fd = open(store->path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0) {
        return DK_FAIL_BACKEND(err, IO, errno, "%s cannot be made: %s", store->path,
                               strerror(errno));
    }
    close(fd);
    return dk_dir_sync(store->path, err);
}

/* SQLite does not wait when two switch to WAL at once: one is refused, and comes again. */
static dk_rc set_wal(sqlite3 *db, struct dk_err *err)
{
    int code;
    sqlite3_busy_timeout(db, 0);
    for (int waited_ms = 0;; waited_ms += WAL_RETRY_MS) {
        code = sqlite3_exec(db, "PRAGMA journal_mode = WAL", NULL, NULL, NULL);
        if ((code & 0xFF) != SQLITE_BUSY || waited_ms >= BUSY_MS) {
            break;
        }
        sqlite3_sleep(WAL_RETRY_MS);
    }
    sqlite3_busy_timeout(db, BUSY_MS);
    return code == SQLITE_OK ? DK_OK : dk_sqlite_fail(db, code, "setting WAL mode", err);
}

static dk_rc sqlite_migrate(void *self, struct dk_err *err)
{
    struct dk_sqlite *store = self;
    sqlite3 *db = NULL;
    DK_TRY(make_file(store, err));
    DK_TRY(connect_to(store->path, SQLITE_OPEN_READWRITE, &db, err));
    dk_rc rc = set_wal(db, err);
    if (rc == DK_OK) {
        rc = exec(db, "BEGIN IMMEDIATE", "starting the migration", err);
    }
    if (rc == DK_OK) {
        rc = apply(store, db, err);
        rc = rc == DK_OK ? exec(db, "COMMIT", "committing the migration", err) : rc;
        if (rc != DK_OK) {
            sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL);
        }
    }
    sqlite3_close(db);
    return rc;
}

static dk_rc read_head(sqlite3 *db, struct dk_schema_version *out, struct dk_err *err)
{
    int64_t application = 0, version = 0;
    sqlite3_stmt *stmt = NULL;
    DK_TRY(read_int(db, "PRAGMA application_id", &application, err));
    DK_TRY(read_int(db, "PRAGMA user_version", &version, err));
    if (application != APPLICATION_ID) {
        return DK_OK;
    }
    out->version = (uint32_t)version;
    if (sqlite3_prepare_v2(db, "SELECT registry_uuid FROM registry", -1, &stmt, NULL) ==
            SQLITE_OK &&
        sqlite3_step(stmt) == SQLITE_ROW && sqlite3_column_text(stmt, 0) != NULL) {
        snprintf(out->uuid, sizeof out->uuid, "%s", (const char *)sqlite3_column_text(stmt, 0));
    }
    sqlite3_finalize(stmt);
    return DK_OK;
}

static dk_rc sqlite_schema_version(void *self, struct dk_schema_version *out, struct dk_err *err)
{
    const struct dk_sqlite *store = self;
    struct dk_schema_version found = {.version = 0};
    sqlite3 *db = NULL;
    struct stat st;
    if (stat(store->path, &st) != 0 || st.st_size == 0) {
        *out = found;
        return DK_OK;
    }
    DK_TRY(connect(store, DK_TXN_READ, &db, err));
    dk_rc rc = read_head(db, &found, err);
    sqlite3_close(db);
    if (rc == DK_OK) {
        *out = found;
    }
    return rc;
}

static dk_rc sqlite_exists(void *self, bool *out, struct dk_err *err)
{
    const struct dk_sqlite *store = self;
    struct stat st;
    bool found = lstat(store->path, &st) == 0;
    if (!found && errno == EACCES) { /* there may be one: nobody is told to make another */
        return DK_FAIL_BACKEND(err, STORE, errno, "%s cannot be reached: %s", store->path,
                               strerror(errno));
    }
    *out = found && st.st_size > 0;
    return DK_OK;
}

/* ---- transactions ---------------------------------------------------------------------------- */

static void end(struct dk_sqlite_txn *txn)
{
    for (size_t i = 0; i < DK_SQL_COUNT; i++) {
        sqlite3_finalize(txn->prepared[i]);
    }
    sqlite3_close(txn->db);
    atomic_fetch_sub(&txn->store->open_txns, 1);
    dk_mem_free(&txn->store->world->mem, txn);
}

static dk_rc start(struct dk_sqlite *store, struct dk_sqlite_txn *txn, struct dk_err *err)
{
    DK_TRY(connect(store, txn->mode, &txn->db, err));
    DK_TRY(exec(txn->db, txn->mode == DK_TXN_READ ? "BEGIN" : "BEGIN IMMEDIATE",
                "starting a transaction", err));
    return check_schema(store, txn->db, err);
}

static dk_rc sqlite_begin(void *self, enum dk_txn_mode mode, void **out, struct dk_err *err)
{
    struct dk_sqlite *store = self;
    if (atomic_load(&store->broken)) {
        return DK_FAIL(err, FORKED, "this process was forked while another thread used %s",
                       store->path);
    }
    struct dk_sqlite_txn *txn = dk_mem_zalloc(&store->world->mem, sizeof *txn);
    if (txn == NULL) {
        return DK_FAIL(err, NOMEM, "no memory for a transaction");
    }
    txn->store = store;
    txn->mode = mode;
    atomic_fetch_add(&store->open_txns, 1);
    dk_rc rc = start(store, txn, err);
    if (rc != DK_OK) {
        end(txn);
        return rc;
    }
    atomic_store(&store->seen, true);
    *out = txn;
    return DK_OK;
}

static dk_rc sqlite_commit(void *self, struct dk_err *err)
{
    struct dk_sqlite_txn *txn = self;
    for (size_t i = 0; i < DK_SQL_COUNT; i++) {
        sqlite3_reset(txn->prepared[i]);
    }
    dk_rc rc = exec(txn->db, "COMMIT", "committing", err);
    if (rc != DK_OK) {
        sqlite3_exec(txn->db, "ROLLBACK", NULL, NULL, NULL);
    }
    end(txn);
    return rc;
}

static void sqlite_rollback(void *self)
{
    struct dk_sqlite_txn *txn = self;
    for (size_t i = 0; i < DK_SQL_COUNT; i++) {
        sqlite3_reset(txn->prepared[i]);
    }
    sqlite3_exec(txn->db, "ROLLBACK", NULL, NULL, NULL);
    end(txn);
}

/* ---- the store ------------------------------------------------------------------------------- */

static dk_rc sqlite_open(const struct dk_world *world, const char *url, void **self,
                         struct dk_err *err)
{
    /* sqlite:path, and the URL form sqlite:///absolute/path */
    const char *path = strncmp(url, "//", 2) == 0 ? url + 2 : url;
    if (path[0] == '\0' || strlen(path) >= DK_PATH_MAX - 8) {
        return DK_FAIL(err, CONFIG, "DATABASE_URL: sqlite: wants a path after it");
    }
    struct dk_sqlite *store = dk_mem_zalloc(&world->mem, sizeof *store);
    if (store == NULL) {
        return DK_FAIL(err, NOMEM, "no memory for the store");
    }
    store->world = world;
    snprintf(store->path, sizeof store->path, "%s", path);
    *self = store;
    return DK_OK;
}

static void sqlite_close(void *self)
{
    struct dk_sqlite *store = self;
    dk_mem_free(&store->world->mem, store);
}

static dk_rc sqlite_after_fork(void *self, struct dk_err *err)
{
    struct dk_sqlite *store = self;
    if (atomic_load(&store->open_txns) != 0) {
        atomic_store(&store->broken, true);
        return DK_FAIL(err, FORKED, "this process was forked while another thread used %s",
                       store->path);
    }
    return DK_OK;
}

const struct dk_store_ops dk_store_sqlite = {
    .scheme = "sqlite",
    .open = sqlite_open,
    .close = sqlite_close,
    .after_fork = sqlite_after_fork,
    .migrate = sqlite_migrate,
    .schema_version = sqlite_schema_version,
    .exists = sqlite_exists,
    .begin = sqlite_begin,
    .commit = sqlite_commit,
    .rollback = sqlite_rollback,
    .registry_read = dk_sqlite_registry_read,
    .registry_fill = dk_sqlite_registry_fill,
    .registry_rekey = dk_sqlite_registry_rekey,
    .registry_rekeyed = dk_sqlite_registry_rekeyed,
    .registry_pruned = dk_sqlite_registry_pruned,
    .registry_keys = dk_sqlite_registry_keys,
    .tenant_read = dk_sqlite_tenant_read,
    .tenant_update = dk_sqlite_tenant_update,
    .tenant_remac = dk_sqlite_tenant_remac,
    .key_read = dk_sqlite_key_read,
    .key_read_active = dk_sqlite_key_read_active,
    .key_insert = dk_sqlite_key_insert,
    .key_update = dk_sqlite_key_update,
    .key_remac = dk_sqlite_key_remac,
    .key_add_messages = dk_sqlite_key_add_messages,
    .key_list = dk_sqlite_key_list,
    .key_page = dk_sqlite_key_page,
    .key_expiring = dk_sqlite_key_expiring,
    .key_counts = dk_sqlite_key_counts,
    .integrity = dk_sqlite_integrity,
    .schema = dk_sqlite_schema,
    .key_macs = dk_sqlite_key_macs,
    .find_many = dk_sqlite_find_many,
    .insert_first = dk_sqlite_insert_first,
    .tenant_list = dk_sqlite_tenant_list,
    .calls_add = dk_sqlite_calls_add,
    .calls_sum = dk_sqlite_calls_sum,
    .wraps_of = dk_sqlite_wraps_of,
    .wraps_stale = dk_sqlite_wraps_stale,
    .wrap_put = dk_sqlite_wrap_put,
    .wrap_drop = dk_sqlite_wrap_drop,
    .wraps_missing = dk_sqlite_wraps_missing,
    .registry_wraps = dk_sqlite_registry_wraps,
    .registry_wrap_put = dk_sqlite_registry_wrap_put,
    .registry_wrap_drop = dk_sqlite_registry_wrap_drop,
    .registry_rewrap = dk_sqlite_registry_rewrap,
    .log_append = dk_sqlite_log_append,
    .log_chain = dk_sqlite_log_chain,
    .log_walk = dk_sqlite_log_walk,
    .log_edge = dk_sqlite_log_edge,
    .log_prune = dk_sqlite_log_prune,
    .log_cleared = dk_sqlite_log_cleared,
    .seal_append = dk_sqlite_seal_append,
    .seal_newest = dk_sqlite_seal_newest,
    .seal_walk = dk_sqlite_seal_walk,
    .changes = dk_sqlite_changes,
};
