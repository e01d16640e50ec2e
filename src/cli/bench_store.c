#include "cli/bench_store.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <sqlite3.h>

#include "cli/bench_keys.h"
#include "cli/cli.h"

#define CHUNK 10000 /* tenants in turn */
#define BATCH 1000  /* of them in one transaction of the yardstick */
#define TABLES 3
#define VERIFY_US 5.0

struct store_bench {
    char ours[DK_PATH_MAX], bare[DK_PATH_MAX];
    struct dekhand *d;
    struct bench_keys keys;
    sqlite3 *from, *to;
    sqlite3_stmt *select[TABLES], *insert[TABLES], *read;
    bool failed;
};

static const char *const tables[TABLES] = {"tenants", "encryption_keys", "key_rotation_log"};

/* ---- the two places -------------------------------------------------------------------------- */

static bool open_ours(struct store_bench *b)
{
    struct dekhand_setting settings[] = {{"KMS_STATE_DIR", b->ours},
                                         {"KMS_CACHE_MAX_KEYS", "1000000"}};
    struct dekhand_config config = {.size = sizeof config,
                                    .settings = settings,
                                    .setting_count = 2,
                                    .ignore_environment = true,
                                    .actor = "cli:bench"};
    return dekhand_init(&config, NULL, NULL) == DEKHAND_OK &&
           dekhand_open(&config, &b->d, NULL) == DEKHAND_OK;
}

static bool make_bare(struct store_bench *b)
{
    struct dekhand_setting setting = {"KMS_STATE_DIR", b->bare};
    struct dekhand_config config = {.size = sizeof config,
                                    .settings = &setting,
                                    .setting_count = 1,
                                    .ignore_environment = true};
    return dekhand_init(&config, NULL, NULL) == DEKHAND_OK;
}

static bool open_database(const char *dir, sqlite3 **out)
{
    char path[DK_PATH_MAX + 16];
    snprintf(path, sizeof path, "%s/dekhand.db", dir);
    return sqlite3_open(path, out) == SQLITE_OK &&
           sqlite3_exec(*out, "PRAGMA synchronous = FULL", NULL, NULL, NULL) == SQLITE_OK;
}

/* The yardstick has the same tables and indexes, and no triggers. */
static bool drop_triggers(sqlite3 *db)
{
    sqlite3_stmt *stmt = NULL;
    char sql[8192] = "";
    bool ok = sqlite3_prepare_v2(db, "SELECT name FROM sqlite_master WHERE type = 'trigger'", -1,
                                 &stmt, NULL) == SQLITE_OK;
    while (ok && sqlite3_step(stmt) == SQLITE_ROW) {
        size_t n = strlen(sql);
        snprintf(sql + n, sizeof sql - n, "DROP TRIGGER %s;", sqlite3_column_text(stmt, 0));
    }
    sqlite3_finalize(stmt);
    return ok && sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK;
}

/* `rowid` after the rows that were copied already; generated columns are not selected. */
static bool prepare_table(struct store_bench *b, size_t i)
{
    char sql[256], places[64] = "?1";
    snprintf(sql, sizeof sql, "SELECT * FROM %s WHERE rowid > ?1 ORDER BY rowid LIMIT ?2",
             tables[i]);
    if (sqlite3_prepare_v2(b->from, sql, -1, &b->select[i], NULL) != SQLITE_OK) {
        return false;
    }
    /* is_active is generated: it is the sixth column of its table. */
    const char *columns =
        i == 1 ? "(id, tenant_id, kms_key_id, encrypted_data_key, version, created_at, expires_at, "
                 "rotated_at, state, provider, context_timestamp, check_value, compromised_at, "
                 "disabled_at, purged_at, messages, row_mac)"
               : "";
    int count = sqlite3_column_count(b->select[i]) - (i == 1);
    for (int k = 2; k <= count; k++) {
        snprintf(places + strlen(places), sizeof places - strlen(places), ", ?");
    }
    char insert[640];
    snprintf(insert, sizeof insert, "INSERT INTO %s %s VALUES (%s)", tables[i], columns, places);
    return sqlite3_prepare_v2(b->to, insert, -1, &b->insert[i], NULL) == SQLITE_OK;
}

/* ---- new tenants ----------------------------------------------------------------------------- */

/* Rows of one transaction, as values to bind. */
struct rows {
    sqlite3_value **value;
    size_t n, columns;
};

static bool load(struct store_bench *b, size_t table, int64_t after, size_t n, struct rows *out)
{
    sqlite3_stmt *stmt = b->select[table];
    out->columns = (size_t)sqlite3_column_count(stmt) - (table == 1);
    out->n = 0;
    sqlite3_bind_int64(stmt, 1, after);
    sqlite3_bind_int64(stmt, 2, (int64_t)n);
    while (sqlite3_step(stmt) == SQLITE_ROW) {
        for (size_t c = 0; c < out->columns; c++) {
            int column = (int)c + (table == 1 && c >= 5);
            out->value[out->n * out->columns + c] =
                sqlite3_value_dup(sqlite3_column_value(stmt, column));
        }
        out->n++;
    }
    return sqlite3_reset(stmt) == SQLITE_OK && out->n == n;
}

/* One HMAC a row, as long as what ours is over, and the row. */
static bool insert(struct store_bench *b, size_t table, const struct rows *rows)
{
    static const unsigned char row[320];
    unsigned char mac[32];
    bool ok = true;
    for (size_t i = 0; i < rows->n && ok; i++) {
        for (size_t c = 0; c < rows->columns; c++) {
            sqlite3_bind_value(b->insert[table], (int)c + 1, rows->value[i * rows->columns + c]);
        }
        ok = HMAC(EVP_sha256(), b->keys.key, sizeof b->keys.key, row, sizeof row, mac, NULL) !=
                 NULL &&
             sqlite3_step(b->insert[table]) == SQLITE_DONE;
        sqlite3_reset(b->insert[table]);
    }
    return ok;
}

static void free_rows(struct rows *rows)
{
    for (size_t i = 0; i < rows->n * rows->columns; i++) {
        sqlite3_value_free(rows->value[i]);
    }
    rows->n = 0;
}

static double bare_create(struct store_bench *b, size_t at, size_t n)
{
    static sqlite3_value *memory[TABLES][BATCH * 20];
    struct rows rows[TABLES] = {{.value = memory[0]}, {.value = memory[1]}, {.value = memory[2]}};
    double took = 0;
    for (size_t done = 0; done < n && !b->failed; done += BATCH) {
        size_t m = n - done < BATCH ? n - done : BATCH;
        for (size_t t = 0; t < TABLES; t++) {
            b->failed = !load(b, t, (int64_t)(at + done), m, &rows[t]) || b->failed;
        }
        double began = bench_now_s();
        b->failed =
            sqlite3_exec(b->to, "BEGIN IMMEDIATE", NULL, NULL, NULL) != SQLITE_OK || b->failed;
        for (size_t t = 0; t < TABLES; t++) {
            b->failed = !insert(b, t, &rows[t]) || b->failed;
        }
        b->failed = sqlite3_exec(b->to, "COMMIT", NULL, NULL, NULL) != SQLITE_OK || b->failed;
        took += bench_now_s() - began;
        for (size_t t = 0; t < TABLES; t++) {
            free_rows(&rows[t]);
        }
    }
    return took;
}

/* ---- cold keys ------------------------------------------------------------------------------- */

static bool bare_key(struct store_bench *b, const char *tenant)
{
    sqlite3_bind_text(b->read, 1, tenant, -1, SQLITE_STATIC);
    bool ok = sqlite3_step(b->read) == SQLITE_ROW;
    for (int i = 0; ok && i < sqlite3_column_count(b->read); i++) {
        (void)sqlite3_column_text(b->read, i);
    }
    sqlite3_reset(b->read);
    return bench_keys_bare(&b->keys) && ok;
}

static double bare_read(struct store_bench *b, size_t at, size_t n)
{
    bench_keys_name(&b->keys, at, n);
    double began = bench_now_s();
    for (size_t i = 0; i < n; i++) {
        b->failed = !bare_key(b, b->keys.names[i]) || b->failed;
    }
    return bench_now_s() - began;
}

static bool prepare_read(struct store_bench *b)
{
    return sqlite3_prepare_v2(b->from,
                              "SELECT * FROM encryption_keys WHERE tenant_id = ?1 AND version = 1",
                              -1, &b->read, NULL) == SQLITE_OK;
}

/* ---- the figures ----------------------------------------------------------------------------- */

static struct bench_result per(double bare, double ours, size_t n, bool speed)
{
    struct bench_result r = {.yardstick = bare * 1e6 / (double)n, .ours = ours * 1e6 / (double)n};
    r.ratio = speed ? bare / ours : ours / bare;
    return r;
}

static void measure_create(struct store_bench *b, size_t tenants, struct cli_bench_store *out)
{
    double bare = 0, ours = 0;
    for (size_t at = 0; at < tenants && !b->failed && !b->keys.failed; at += CHUNK) {
        size_t n = tenants - at < CHUNK ? tenants - at : CHUNK;
        ours += bench_keys_encrypt(&b->keys, b->d, at, n);
        bare += bare_create(b, at, n);
    }
    out->create = per(bare, ours, tenants, true);
}

static void measure_cold(struct store_bench *b, size_t tenants, struct cli_bench_store *out)
{
    double bare = 0, ours = 0;
    b->failed = dekhand_close(b->d, NULL) != DEKHAND_OK || !open_ours(b) || b->failed;
    for (size_t at = 0; at < tenants && !b->failed && !b->keys.failed; at += CHUNK) {
        size_t n = tenants - at < CHUNK ? tenants - at : CHUNK;
        bare += bare_read(b, at, n);
        ours += bench_keys_decrypt(&b->keys, b->d, at, n);
    }
    out->cold = per(bare, ours, tenants, true);
}

static void measure_verify(struct store_bench *b, struct cli_bench_store *out)
{
    struct dekhand_audit_result r = {.size = sizeof r};
    double began = bench_now_s();
    b->failed = dekhand_audit_verify(b->d, NULL, NULL, &r, NULL) != DEKHAND_OK || r.findings != 0 ||
                b->failed;
    double took = bench_now_s() - began;
    size_t rows = (size_t)(r.log_rows + r.keys + r.tenants + r.seals);
    out->verify = per(VERIFY_US * 1e-6 * (double)rows, took, rows, true);
}

static bool begin(struct store_bench *b, size_t tenants)
{
    if (!bench_keys_init(&b->keys, CHUNK, tenants) || !open_ours(b) || !make_bare(b) ||
        !open_database(b->ours, &b->from) || !open_database(b->bare, &b->to) ||
        !drop_triggers(b->to)) {
        return false;
    }
    for (size_t i = 0; i < TABLES; i++) {
        if (!prepare_table(b, i)) {
            return false;
        }
    }
    return prepare_read(b);
}

static void end(struct store_bench *b)
{
    for (size_t i = 0; i < TABLES; i++) {
        sqlite3_finalize(b->select[i]);
        sqlite3_finalize(b->insert[i]);
    }
    sqlite3_finalize(b->read);
    sqlite3_close(b->from);
    sqlite3_close(b->to);
    b->failed = dekhand_close(b->d, NULL) != DEKHAND_OK || b->failed || b->keys.failed;
    bench_keys_clear(&b->keys);
    cli_scratch_remove(b->ours);
    cli_scratch_remove(b->bare);
}

bool cli_bench_store(size_t tenants, struct cli_bench_store *out)
{
    static struct store_bench b;
    b = (struct store_bench){.failed = false};
    if (cli_scratch_make("bench-ours", b.ours) != CLI_OK ||
        cli_scratch_make("bench-bare", b.bare) != CLI_OK) {
        return false;
    }
    b.failed = !begin(&b, tenants);
    if (!b.failed) {
        measure_create(&b, tenants, out);
        measure_cold(&b, tenants, out);
        measure_verify(&b, out);
    }
    end(&b);
    return !b.failed;
}
