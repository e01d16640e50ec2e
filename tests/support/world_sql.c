/* The database of a place as others see it: here, and nowhere else, are its stores told apart. */
#include "support/world.h"

#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void must(bool ok, const char *what)
{
    if (!ok) {
        fprintf(stderr, "%s\n", what);
        abort();
    }
}

bool dk_place_is_postgres(const struct dk_place *place)
{
    return place->url[0] != '\0';
}

const char *dk_place_pick(const struct dk_place *place, const char *sqlite, const char *postgres)
{
    return dk_place_is_postgres(place) ? postgres : sqlite;
}

/* ---- SQL ------------------------------------------------------------------------------------- */

static sqlite3 *connect(const struct dk_place *place)
{
    sqlite3 *db = NULL;
    must(sqlite3_open_v2(place->database, &db, SQLITE_OPEN_READWRITE, NULL) == SQLITE_OK,
         "the database does not open");
    sqlite3_busy_timeout(db, 10000);
    return db;
}

/* What is ours stands in a schema of its own; what a test keeps may stand in `public`. */
static const char *with_schema(const struct dk_place *place, char out[static 2 * DK_PG_URL])
{
    snprintf(out, 2 * DK_PG_URL, "%s?options=-csearch_path%%3Ddekhand%%2Cpublic", place->url);
    return out;
}

int dk_place_sql(struct dk_place *place, const char *sql)
{
    if (dk_place_is_postgres(place)) {
        char url[2 * DK_PG_URL], state[6];
        return dk_pg_sql(with_schema(place, url), sql, state) ? 0 : -1;
    }
    sqlite3 *db = connect(place);
    int code = sqlite3_exec(db, sql, NULL, NULL, NULL);
    sqlite3_close(db);
    return code;
}

int64_t dk_place_number(struct dk_place *place, const char *sql)
{
    if (dk_place_is_postgres(place)) {
        char url[2 * DK_PG_URL];
        return dk_pg_number(with_schema(place, url), sql);
    }
    sqlite3 *db = connect(place);
    sqlite3_stmt *stmt = NULL;
    must(sqlite3_prepare_v2(db, sql, -1, &stmt, NULL) == SQLITE_OK &&
             sqlite3_step(stmt) == SQLITE_ROW,
         sql);
    int64_t n = sqlite3_column_int64(stmt, 0);
    sqlite3_finalize(stmt);
    sqlite3_close(db);
    return n;
}

/* ---- triggers -------------------------------------------------------------------------------- */

static void must_sql(struct dk_place *place, const char *sql)
{
    must(dk_place_sql(place, sql) == 0, sql);
}

/* What drops them all, as one text; the caller's, sqlite3_free(). */
static char *drops_of(struct dk_place *place, const char *table)
{
    sqlite3 *db = connect(place);
    sqlite3_stmt *stmt = NULL;
    must(sqlite3_prepare_v2(db,
                            "SELECT coalesce(group_concat('DROP TRIGGER ' || name, '; '), '') FROM "
                            "sqlite_schema WHERE type = 'trigger' AND tbl_name = ?",
                            -1, &stmt, NULL) == SQLITE_OK &&
             sqlite3_bind_text(stmt, 1, table, -1, SQLITE_STATIC) == SQLITE_OK &&
             sqlite3_step(stmt) == SQLITE_ROW,
         "no triggers");
    char *sql = sqlite3_mprintf("%s", (const char *)sqlite3_column_text(stmt, 0));
    sqlite3_finalize(stmt);
    sqlite3_close(db);
    must(sql != NULL, "no memory");
    return sql;
}

void dk_place_drop_triggers(struct dk_place *place, const char *table)
{
    if (dk_place_is_postgres(place)) {
        char sql[128];
        snprintf(sql, sizeof sql, "ALTER TABLE %s DISABLE TRIGGER USER", table);
        must_sql(place, sql);
        return;
    }
    char *sql = drops_of(place, table);
    must_sql(place, sql);
    sqlite3_free(sql);
}

static const char enable_all[] =
    "DO $$ DECLARE name text; BEGIN FOR name IN SELECT tablename FROM pg_tables WHERE schemaname = "
    "'dekhand' LOOP EXECUTE format('ALTER TABLE %I ENABLE TRIGGER USER', name); END LOOP; END $$";

void dk_place_mend(struct dk_place *place)
{
    struct dk_store store;
    struct dk_err err;
    dk_err_clear(&err);
    if (dk_place_is_postgres(place)) {
        must_sql(place, enable_all);
    }
    must(dk_store_open(&place->w.world, place->opens, &store, &err) == DK_OK &&
             store.ops->migrate(store.self, &err) == DK_OK,
         err.text);
    dk_store_close(&store);
}

void dk_place_refuse(struct dk_place *place, const char *event, const char *table)
{
    char sql[400];
    if (dk_place_is_postgres(place)) {
        snprintf(sql, sizeof sql,
                 "CREATE FUNCTION public.refuse_all() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
                 "RAISE EXCEPTION 'no room'; END $$; CREATE TRIGGER refused BEFORE %s ON %s FOR "
                 "EACH ROW EXECUTE FUNCTION public.refuse_all()",
                 event, table);
    } else {
        snprintf(sql, sizeof sql,
                 "CREATE TRIGGER refused BEFORE %s ON %s BEGIN SELECT RAISE(ABORT, 'no room'); END",
                 event, table);
    }
    must_sql(place, sql);
}

void dk_place_allow(struct dk_place *place, const char *table)
{
    char sql[160];
    if (dk_place_is_postgres(place)) {
        snprintf(sql, sizeof sql, "DROP TRIGGER refused ON %s; DROP FUNCTION public.refuse_all()",
                 table);
    } else {
        snprintf(sql, sizeof sql, "DROP TRIGGER refused");
    }
    must_sql(place, sql);
}

/* ---- the whole of it ------------------------------------------------------------------------- */

static void copy_file(const char *from, const char *to)
{
    char command[2 * DK_PG_URL + 16];
    snprintf(command, sizeof command, "cp '%s' '%s'", from, to);
    must(system(command) == 0, command);
}

size_t dk_place_keep(struct dk_place *place)
{
    must(place->copied < DK_PLACE_COPIES, "too many copies of a place");
    char *copy = place->copies[place->copied];
    if (dk_place_is_postgres(place)) {
        dk_pg_database_copy(place->url, copy);
    } else {
        snprintf(copy, DK_PG_URL, "%s/copy-%zu.db", place->folder, place->copied);
        copy_file(place->database, copy);
    }
    return place->copied++;
}

void dk_place_put_back(struct dk_place *place, size_t copy)
{
    if (dk_place_is_postgres(place)) {
        dk_pg_database_replace(place->url, place->copies[copy]);
    } else {
        copy_file(place->copies[copy], place->database);
    }
}

void dk_place_take_away(struct dk_place *place)
{
    if (dk_place_is_postgres(place)) {
        dk_pg_database_rename(place->url, place->away);
    } else {
        snprintf(place->away, sizeof place->away, "%s/away.db", place->folder);
        must(rename(place->database, place->away) == 0, "the database does not go");
    }
}

bool dk_place_is_away(const struct dk_place *place)
{
    char state[6];
    return dk_place_is_postgres(place) ? !dk_pg_sql(place->url, "SELECT 1", state)
                                       : access(place->database, F_OK) != 0;
}

void dk_place_bring_back(struct dk_place *place)
{
    if (dk_place_is_postgres(place)) {
        dk_pg_database_rename_to(place->away, place->url);
    } else {
        must(rename(place->away, place->database) == 0, "the database does not come back");
    }
}

void dk_place_forget(struct dk_place *place)
{
    for (size_t i = 0; i < place->copied; i++) {
        if (dk_place_is_postgres(place)) {
            dk_pg_database_drop(place->copies[i]);
        } else {
            unlink(place->copies[i]);
        }
    }
    if (dk_place_is_postgres(place)) {
        dk_pg_database_drop(place->url);
    }
}

/* ---- dumps ----------------------------------------------------------------------------------- */

static void dump_table(sqlite3 *db, const char *table, const char *columns, FILE *to)
{
    char sql[256];
    sqlite3_stmt *stmt = NULL;
    snprintf(sql, sizeof sql, "SELECT %s FROM \"%s\" ORDER BY rowid", columns, table);
    must(sqlite3_prepare_v2(db, sql, -1, &stmt, NULL) == SQLITE_OK, sql);
    while (sqlite3_step(stmt) == SQLITE_ROW) {
        fprintf(to, "%s", table);
        for (int i = 0; i < sqlite3_column_count(stmt); i++) {
            const uint8_t *bytes = sqlite3_column_blob(stmt, i);
            fprintf(to, " %d:", sqlite3_column_type(stmt, i));
            for (int k = 0; k < sqlite3_column_bytes(stmt, i); k++) {
                fprintf(to, "%02x", bytes[k]);
            }
        }
        fputc('\n', to);
    }
    sqlite3_finalize(stmt);
}

/* What a row of history touches beside its own table. */
static const char *columns_of(const char *table, bool history)
{
    if (history) {
        return "rowid, *";
    }
    if (strcmp(table, "tenants") == 0) {
        return "tenant_id, next_version, epoch, rotation_days, keys_digest";
    }
    return strcmp(table, "seals") == 0 || strcmp(table, "key_rotation_log") == 0 ? NULL
                                                                                 : "rowid, *";
}

/* All in one query: a connection for each table would be most of what some tests do. */
static void dump_postgres(const struct dk_place *place, bool history, FILE *to)
{
    static const char *const tables[] = {"registry",        "registry_keys",    "tenants",
                                         "encryption_keys", "key_rotation_log", "seals"};
    char sql[1024] = "", url[2 * DK_PG_URL];
    size_t n = 0;
    for (size_t i = 0; i < sizeof tables / sizeof tables[0]; i++) {
        const char *columns = columns_of(tables[i], history);
        if (columns != NULL) {
            columns = strcmp(columns, "rowid, *") == 0 ? "*" : columns;
            n += (size_t)snprintf(sql + n, sizeof sql - n,
                                  "%sSELECT '%s ' || t::text FROM (SELECT %s FROM %s) t",
                                  n > 0 ? " UNION ALL " : "", tables[i], columns, tables[i]);
        }
    }
    must(n + 16 < sizeof sql, "a dump's query is too long");
    snprintf(sql + n, sizeof sql - n, " ORDER BY 1");
    char *rows = dk_pg_text(with_schema(place, url), sql);
    fputs(rows, to);
    free(rows);
}

static void dump_sqlite(const struct dk_place *place, bool history, FILE *to)
{
    sqlite3 *db = connect(place);
    sqlite3_stmt *stmt = NULL;
    must(sqlite3_prepare_v2(db, "SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name",
                            -1, &stmt, NULL) == SQLITE_OK,
         "no dump");
    while (sqlite3_step(stmt) == SQLITE_ROW) {
        const char *table = (const char *)sqlite3_column_text(stmt, 0);
        const char *columns = columns_of(table, history);
        if (columns != NULL) {
            dump_table(db, table, columns, to);
        }
    }
    sqlite3_finalize(stmt);
    sqlite3_close(db);
}

char *dk_place_dump(struct dk_place *place, bool history)
{
    char *text = NULL;
    size_t n = 0;
    FILE *to = open_memstream(&text, &n);
    must(to != NULL, "no dump");
    if (dk_place_is_postgres(place)) {
        dump_postgres(place, history, to);
    } else {
        dump_sqlite(place, history, to);
    }
    must(fclose(to) == 0, "no dump");
    return text;
}

bool dk_place_unchanged(struct dk_place *place, bool history, char *before)
{
    char *after = dk_place_dump(place, history);
    bool same = strcmp(before, after) == 0;
    if (!same) {
        fprintf(stderr, "before:\n%safter:\n%s", before, after);
    }
    free(before);
    free(after);
    return same;
}
