/*
 * rows: a registry whose tables take any value in any column, and input bytes made into its rows.
 *
 * Of the fuzz targets that read rows. The tables are in memory, without the checks and triggers of
 * the schema, as whoever can write to the file has them too; they are read by the SQLite back end.
 */
#ifndef DK_FUZZ_ROWS_H
#define DK_FUZZ_ROWS_H

#include <stdlib.h>

#include "keys/audit.h"
#include "keys/registry.h"
#include "store/sqlite_txn.h"

#define FUZZ_UUID "6ba7b810-9dad-41d1-80b4-00c04fd430c8"
#define FUZZ_TIME "2025-10-14T12:00:00.000000Z"
#define FUZZ_MAC "AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"

struct fuzz_column {
    const char *name;
    const char *good; /* as SQL writes it */
};

struct fuzz_table {
    const char *name;
    const struct fuzz_column *columns;
    int count;
};

/* What is left of the input. */
struct fuzz_input {
    const uint8_t *p;
    size_t n;
};

static inline void fuzz_must(bool ok)
{
    if (!ok) {
        abort();
    }
}

static inline uint8_t fuzz_byte(struct fuzz_input *in)
{
    return in->n > 0 ? (in->n--, *in->p++) : 0;
}

static inline struct dk_view fuzz_bytes(struct fuzz_input *in, size_t n)
{
    n = n < in->n ? n : in->n;
    struct dk_view view = dk_view_of(in->p, n);
    in->p += n;
    in->n -= n;
    return view;
}

static inline int64_t fuzz_int(struct fuzz_input *in)
{
    uint64_t v = 0;
    for (int i = 0; i < 8; i++) {
        v = v << 8 | fuzz_byte(in);
    }
    return (int64_t)v;
}

/* ---- the registry ---------------------------------------------------------------------------- */

static inline void fuzz_sql(sqlite3 *db, const char *sql)
{
    fuzz_must(sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK);
}

static inline void fuzz_make_table(sqlite3 *db, const struct fuzz_table *table)
{
    char sql[1024];
    int n = snprintf(sql, sizeof sql, "CREATE TABLE %s (", table->name);
    for (int i = 0; i < table->count; i++) {
        n += snprintf(sql + n, sizeof sql - (size_t)n, "%s%s", i > 0 ? ", " : "",
                      table->columns[i].name);
    }
    snprintf(sql + n, sizeof sql - (size_t)n, ")");
    fuzz_sql(db, sql);
}

/* One row: for each column a byte that says what stands in it, and its bytes. */
static inline void fuzz_insert(sqlite3 *db, const struct fuzz_table *table, struct fuzz_input *in)
{
    enum { NULL_VALUE, INTEGER, REAL, TEXT, BLOB, KINDS };
    char sql[2048];
    sqlite3_stmt *stmt = NULL;
    const uint8_t *start = in->p;
    size_t size = in->n;
    int n = snprintf(sql, sizeof sql, "INSERT INTO %s VALUES (", table->name);
    for (int i = 0; i < table->count; i++) {
        uint8_t kind = fuzz_byte(in);
        bool good = kind == 0 || kind > KINDS;
        n += snprintf(sql + n, sizeof sql - (size_t)n, "%s%s", i > 0 ? ", " : "",
                      good ? table->columns[i].good : "?");
        if (!good && kind >= 1 + TEXT) {
            (void)fuzz_bytes(in, fuzz_byte(in));
        } else if (!good && kind > 1 + NULL_VALUE) {
            (void)fuzz_int(in);
        }
    }
    snprintf(sql + n, sizeof sql - (size_t)n, ")");
    fuzz_must(sqlite3_prepare_v2(db, sql, -1, &stmt, NULL) == SQLITE_OK);
    in->p = start;
    in->n = size;
    for (int i = 0, bound = 0; i < table->count; i++) {
        uint8_t kind = fuzz_byte(in);
        if (kind == 0 || kind > KINDS) {
            continue;
        }
        bound++;
        if (kind == 1 + INTEGER) {
            sqlite3_bind_int64(stmt, bound, fuzz_int(in));
        } else if (kind == 1 + REAL) {
            sqlite3_bind_double(stmt, bound, (double)fuzz_int(in) / 256);
        } else if (kind == 1 + TEXT || kind == 1 + BLOB) {
            struct dk_view v = fuzz_bytes(in, fuzz_byte(in));
            kind == 1 + TEXT
                ? sqlite3_bind_text(stmt, bound, (const char *)v.p, (int)v.n, SQLITE_TRANSIENT)
                : sqlite3_bind_blob(stmt, bound, v.p, (int)v.n, SQLITE_TRANSIENT);
        }
    }
    fuzz_must(sqlite3_step(stmt) == SQLITE_DONE);
    sqlite3_finalize(stmt);
}

static inline dk_rc fuzz_begin(void *self, enum dk_txn_mode mode, void **txn, struct dk_err *err)
{
    (void)mode;
    (void)err;
    *txn = self;
    return DK_OK;
}

static inline void fuzz_rollback(void *txn)
{
    (void)txn;
}

static inline dk_rc fuzz_registry_read(void *txn, struct dk_registry_row *out, struct dk_err *err)
{
    (void)txn;
    (void)err;
    *out = (struct dk_registry_row){.uuid = FUZZ_UUID,
                                    .schema_version = 5,
                                    .wrap = {"fuzz", "fuzz", "AA==", FUZZ_TIME},
                                    .generation = 1};
    return DK_OK;
}

static inline dk_rc fuzz_registry_keys(void *txn, uint32_t from,
                                       bool (*each)(void *arg,
                                                    const struct dk_registry_key_row *row),
                                       void *arg, struct dk_err *err)
{
    (void)txn;
    (void)from;
    (void)each;
    (void)arg;
    (void)err;
    return DK_OK;
}

static inline dk_rc fuzz_registry_wraps(void *txn, uint32_t generation,
                                        bool (*each)(void *arg, const struct dk_wrap_columns *wrap),
                                        void *arg, struct dk_err *err)
{
    (void)txn, (void)generation, (void)each, (void)arg, (void)err;
    return DK_OK;
}

/* A provider under which every wrap holds one and the same known key. */
static inline dk_rc fuzz_provider_open(const struct dk_provider_setup *setup, void **self,
                                       struct dk_err *err)
{
    (void)setup;
    (void)err;
    *self = NULL;
    return DK_OK;
}

static inline void fuzz_run(void *self, enum dk_provider_op op,
                            struct dk_provider_item *const *items, size_t count)
{
    (void)self;
    (void)op;
    for (size_t i = 0; i < count; i++) {
        struct dk_provider_item *item = items[i];
        memset(dk_secret_expose_for_crypto(&item->key), 0x11, DK_DATA_KEY);
        item->key.n = DK_DATA_KEY;
        memcpy(item->answered, item->wrapped->kms_key_id, sizeof item->answered);
    }
}

static const struct dk_provider_ops fuzz_provider = {
    .name = "fuzz", .caps = DK_PROVIDER_AUTHENTICATES, .open = fuzz_provider_open, .run = fuzz_run};

/* The tables here have no triggers on purpose. */
static dk_rc fuzz_schema(void *txn,
                         void (*each)(void *arg, const struct dk_schema_finding *finding),
                         void *arg, struct dk_err *err)
{
    (void)txn, (void)each, (void)arg, (void)err;
    return DK_OK;
}

static const struct dk_store_ops fuzz_store = {
    .scheme = "fuzz",
    .begin = fuzz_begin,
    .rollback = fuzz_rollback,
    .schema = fuzz_schema,
    .registry_read = fuzz_registry_read,
    .registry_keys = fuzz_registry_keys,
    .registry_wraps = fuzz_registry_wraps,
    .key_list = dk_sqlite_key_list,
    .key_macs = dk_sqlite_key_macs,
    .find_many = dk_sqlite_find_many,
    .tenant_list = dk_sqlite_tenant_list,
    .log_walk = dk_sqlite_log_walk,
    .seal_newest = dk_sqlite_seal_newest,
    .seal_walk = dk_sqlite_seal_walk,
};

/* A core over `db`, once; its registry key is known. */
static inline void fuzz_open(struct dk_core *core, struct dk_sqlite_txn *txn,
                             const struct fuzz_table *tables, size_t count)
{
    struct dk_arena_report report;
    struct dk_err err;
    dk_err_clear(&err);
    core->world = &dk_world_default;
    core->limits = dk_limits_default;
    fuzz_must(dk_suite_open(core->world, &core->suite, &err) == DK_OK);
    fuzz_must(dk_arena_open(core->world, 16, &core->arena, &report, &err) == DK_OK);
    struct dk_provider_setup setup = {
        .world = core->world, .suite = &core->suite, .arena = core->arena, .log = &core->log};
    fuzz_must(sqlite3_open(":memory:", &txn->db) == SQLITE_OK);
    for (size_t i = 0; i < count; i++) {
        fuzz_make_table(txn->db, &tables[i]);
    }
    core->store = (struct dk_store){.ops = &fuzz_store, .self = txn, .world = core->world};
    fuzz_must(dk_provider_open(&fuzz_provider, &setup, &core->provider, &err) == DK_OK);
    fuzz_must(dk_registry_new(core, &err) == DK_OK && dk_registry_open(core, &err) == DK_OK);
}

#endif
