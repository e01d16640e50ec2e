/* What a SQLite file should be made of, beside what it is made of: damage, and the schema. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>

#include "store/migrations.h"
#include "store/sqlite_txn.h"

#define MEND_TEXT (DK_PATH_MAX + 256)

static dk_rc prepare(sqlite3 *db, const char *sql, sqlite3_stmt **out, struct dk_err *err)
{
    int code = sqlite3_prepare_v2(db, sql, -1, out, NULL);
    return code == SQLITE_OK ? DK_OK : dk_sqlite_fail(db, code, "reading the schema", err);
}

/* Of a column that is never NULL: without a text there was no memory for it. */
static const char *text_at(sqlite3_stmt *stmt, int i, int *code)
{
    const char *text = (const char *)sqlite3_column_text(stmt, i);
    *code = text != NULL ? *code : SQLITE_NOMEM;
    return text != NULL ? text : "";
}

/* ---- damage ---------------------------------------------------------------------------------- */

typedef bool tell_damage(void *arg, const char *table, const char *text);

struct damage {
    sqlite3 *db;
    tell_damage *each;
    void *arg;
    int64_t count;
    bool enough;
};

/* A page that was not read, for want of memory or by the disk's fault, proves no damage. */
static int unread_page(const char *text)
{
    static const char words[] = "unable to get the page. error code=";
    const char *at = strstr(text, words);
    int code = at != NULL ? atoi(at + sizeof words - 1) : SQLITE_OK;
    return (code & 0xFF) == SQLITE_NOMEM || (code & 0xFF) == SQLITE_IOERR ? code : SQLITE_OK;
}

/* SQLITE_DONE: told all there is. */
static int read_check(struct damage *damage, sqlite3_stmt *stmt, const char *table, bool tell)
{
    int code = SQLITE_ROW;
    while (!damage->enough && (code = sqlite3_step(stmt)) == SQLITE_ROW) {
        const char *text = (const char *)sqlite3_column_text(stmt, 0);
        int unread = text == NULL ? SQLITE_NOMEM : unread_page(text);
        if (unread != SQLITE_OK) {
            return unread;
        }
        if (strcmp(text, "ok") != 0) {
            damage->count++;
            damage->enough = tell && !damage->each(damage->arg, table, text);
        }
    }
    return damage->enough ? SQLITE_DONE : code;
}

/* SQLite's check of one table with its indexes; all of the file without one. */
static dk_rc look(struct damage *damage, const char *table, bool tell, struct dk_err *err)
{
    int64_t before = damage->count;
    sqlite3_stmt *stmt = NULL;
    char *sql = table[0] == '\0' ? sqlite3_mprintf("PRAGMA main.integrity_check(20)")
                                 : sqlite3_mprintf("PRAGMA main.integrity_check(%Q)", table);
    int code = sql == NULL ? SQLITE_NOMEM : sqlite3_prepare_v2(damage->db, sql, -1, &stmt, NULL);
    code = code == SQLITE_OK ? read_check(damage, stmt, table, tell) : code;
    dk_rc rc = DK_OK;
    if ((code & 0xFF) == SQLITE_CORRUPT && damage->count == before) {
        damage->count++;
        damage->enough = tell && !damage->each(damage->arg, table, sqlite3_errmsg(damage->db));
    } else if ((code & 0xFF) != SQLITE_CORRUPT && code != SQLITE_DONE) {
        rc = dk_sqlite_fail(NULL, code, "looking for damage", err);
    } /* else the check ended, or gave up at what it told */
    sqlite3_finalize(stmt);
    sqlite3_free(sql);
    return rc;
}

/* Which table a page belongs to is known only by looking at each table alone. */
static dk_rc look_at_tables(struct damage *damage, struct dk_err *err)
{
    sqlite3_stmt *stmt = NULL;
    int code = SQLITE_ROW;
    DK_TRY(prepare(damage->db,
                   "SELECT name FROM main.sqlite_schema WHERE type = 'table' AND rootpage > 0",
                   &stmt, err));
    dk_rc rc = DK_OK;
    while (rc == DK_OK && !damage->enough && (code = sqlite3_step(stmt)) == SQLITE_ROW) {
        const char *table = text_at(stmt, 0, &code);
        if (code == SQLITE_NOMEM) {
            break;
        }
        rc = look(damage, table, true, err);
    }
    if (rc == DK_OK && code != SQLITE_ROW && code != SQLITE_DONE) {
        rc = dk_sqlite_fail(NULL, code, "looking for damage", err);
    }
    sqlite3_finalize(stmt);
    return rc;
}

dk_rc dk_sqlite_integrity(void *self, tell_damage *each, void *arg, struct dk_err *err)
{
    struct dk_sqlite_txn *txn = self;
    struct damage damage = {.db = txn->db, .each = each, .arg = arg};
    DK_TRY(look(&damage, "", false, err));
    if (damage.count == 0) {
        return DK_OK;
    }
    damage.count = 0;
    DK_TRY(look_at_tables(&damage, err));
    return damage.count > 0 ? DK_OK : look(&damage, "", true, err);
}

/* ---- SQL as it is kept ----------------------------------------------------------------------- */

struct token {
    const char *p;
    size_t n; /* 0: the end */
};

static bool is_word(char c)
{
    return isalnum((unsigned char)c) || c == '_' || c == '$' || (unsigned char)c >= 0x80;
}

static const char *skip_blank(const char *p)
{
    for (;;) {
        if (isspace((unsigned char)*p)) {
            p++;
        } else if (p[0] == '-' && p[1] == '-') {
            p += strcspn(p, "\n");
        } else if (p[0] == '/' && p[1] == '*') {
            const char *end = strstr(p + 2, "*/");
            p = end != NULL ? end + 2 : p + strlen(p);
        } else {
            return p;
        }
    }
}

/* Blanks and comments tell nothing; what is quoted is one token, quotes included. */
static struct token next(const char **at)
{
    struct token token = {skip_blank(*at), 0};
    const char *p = token.p;
    char quote = *p == '[' ? ']' : *p;
    if (*p == '\'' || *p == '"' || *p == '`' || *p == '[') {
        const char *end = strchr(p + 1, quote);
        token.n = end != NULL ? (size_t)(end - p) + 1 : strlen(p);
    } else if (is_word(*p)) {
        while (is_word(p[token.n])) {
            token.n++;
        }
    } else {
        token.n = *p != '\0';
    }
    *at = token.p + token.n;
    return token;
}

static bool same(const char *a, const char *b)
{
    struct token one, other;
    do {
        one = next(&a);
        other = next(&b);
        if (one.n != other.n || memcmp(one.p, other.p, one.n) != 0) {
            return false;
        }
    } while (one.n > 0);
    return true;
}

/* ---- the schema ------------------------------------------------------------------------------ */

/* An empty registry in memory: what the migrations of this version make. */
static dk_rc make_model(sqlite3 **out, struct dk_err *err)
{
    sqlite3 *db = NULL;
    int code = sqlite3_open_v2(":memory:", &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, NULL);
    for (unsigned i = 0; code == SQLITE_OK && i < dk_sqlite_migration_count; i++) {
        code = sqlite3_exec(db, dk_sqlite_migrations[i].sql, NULL, NULL, NULL);
    }
    if (code != SQLITE_OK) {
        dk_rc rc = dk_sqlite_fail(db, code, "making a schema to compare with", err);
        sqlite3_close(db);
        return rc;
    }
    *out = db;
    return DK_OK;
}

typedef void tell_finding(void *arg, const struct dk_schema_finding *finding);

struct comparison {
    sqlite3 *db;
    const char *path; /* NULL: no command is made of it */
    sqlite3 *model;
    sqlite3_stmt *ours; /* of the model, by name: type, sql */
    sqlite3_stmt *works_on;
    sqlite3_stmt *there; /* of the database, by name */
    tell_finding *each;
    void *arg;
    int code; /* once it is an error, nothing is told any more */
    struct dk_err *err;
};

enum { ROWID, TYPE, NAME, TABLE, SQL };
#define OBJECTS                                                                                    \
    "SELECT rowid, type, name, tbl_name, sql FROM main.sqlite_schema WHERE sql IS NOT NULL"

static bool found(sqlite3_stmt *stmt, const char *name, int *code)
{
    sqlite3_reset(stmt);
    int rc = sqlite3_bind_text(stmt, 1, name, -1, SQLITE_TRANSIENT);
    rc = rc == SQLITE_OK ? sqlite3_step(stmt) : rc;
    *code = rc == SQLITE_ROW || rc == SQLITE_DONE ? *code : rc;
    return rc == SQLITE_ROW;
}

static bool is_plain(const char *text, const char *allowed)
{
    return text[0] != '\0' && text[0] != '-' && text[strspn(text, allowed)] == '\0';
}

#define LETTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_"

/* A name may be the attacker's: what is no plain word is not put into a command. */
static void drop_command(struct comparison *c, sqlite3_stmt *row, char out[static MEND_TEXT])
{
    const char *quote = is_plain(c->path, LETTERS "/.-+@,:") ? "" : "'";
    const char *name = text_at(row, NAME, &c->code), *type = text_at(row, TYPE, &c->code);
    if (strchr(c->path, '\'') != NULL) {
        snprintf(out, MEND_TEXT, "sqlite3 dekhand.db");
    } else {
        snprintf(out, MEND_TEXT, "sqlite3 %s%s%s", quote, c->path, quote);
    }
    size_t n = strlen(out);
    if (is_plain(name, LETTERS)) {
        snprintf(out + n, MEND_TEXT - n, " 'DROP %s \"%.100s\"'",
                 strcmp(type, "index") == 0 ? "INDEX" : "TRIGGER", name);
    } else {
        snprintf(out + n, MEND_TEXT - n,
                 " 'PRAGMA writable_schema = ON; DELETE FROM sqlite_schema WHERE rowid = %lld; "
                 "VACUUM'",
                 (long long)sqlite3_column_int64(row, ROWID));
    }
}

/* `type` is ours where the object has the name of one of ours. */
static void tell(struct comparison *c, enum dk_schema_fault fault, const char *type,
                 sqlite3_stmt *row)
{
    char mend[MEND_TEXT] = "";
    if (fault == DK_SCHEMA_FOREIGN && c->path != NULL) {
        drop_command(c, row, mend);
    }
    struct dk_schema_finding finding = {fault, type, text_at(row, NAME, &c->code),
                                        text_at(row, TABLE, &c->code), mend};
    if (c->code == SQLITE_OK) {
        c->each(c->arg, &finding);
    }
}

static void compare_one(struct comparison *c, sqlite3_stmt *row)
{
    const char *type = text_at(row, TYPE, &c->code), *sql = text_at(row, SQL, &c->code);
    const char *name = text_at(row, NAME, &c->code), *table = text_at(row, TABLE, &c->code);
    if (found(c->ours, name, &c->code)) {
        const char *our_type = text_at(c->ours, 0, &c->code);
        const char *our_sql = text_at(c->ours, 1, &c->code);
        if (strcmp(type, our_type) != 0 || !same(sql, our_sql)) {
            tell(c, DK_SCHEMA_CHANGED, our_type, row);
        }
    } else if (strcmp(type, "trigger") == 0 || strcmp(type, "index") == 0) {
        /* SQLite opens no file where that column is not what the SQL says. */
        if (found(c->works_on, table, &c->code)) {
            tell(c, DK_SCHEMA_FOREIGN, type, row);
        }
    }
}

static void look_for_one(struct comparison *c, sqlite3_stmt *row)
{
    const char *name = text_at(row, NAME, &c->code);
    if (!found(c->there, name, &c->code)) {
        tell(c, DK_SCHEMA_MISSING, text_at(row, TYPE, &c->code), row);
    }
}

static dk_rc for_all(struct comparison *c, sqlite3 *db,
                     void (*call)(struct comparison *c, sqlite3_stmt *row))
{
    sqlite3_stmt *stmt = NULL;
    int code;
    DK_TRY(prepare(db, OBJECTS, &stmt, c->err));
    while (c->code == SQLITE_OK && (code = sqlite3_step(stmt)) != SQLITE_DONE) {
        if (code != SQLITE_ROW) {
            c->code = code;
            break;
        }
        call(c, stmt);
    }
    dk_rc rc =
        c->code == SQLITE_OK ? DK_OK : dk_sqlite_fail(NULL, c->code, "reading the schema", c->err);
    sqlite3_finalize(stmt);
    return rc;
}

static dk_rc compare_prepared(struct comparison *c)
{
    DK_TRY(
        prepare(c->model, "SELECT type, sql FROM sqlite_schema WHERE name = ?1", &c->ours, c->err));
    DK_TRY(prepare(c->model,
                   "SELECT 1 FROM sqlite_schema WHERE type IN ('table', 'view') AND name = ?1 "
                   "COLLATE NOCASE",
                   &c->works_on, c->err));
    DK_TRY(prepare(c->db, "SELECT 1 FROM main.sqlite_schema WHERE name = ?1", &c->there, c->err));
    DK_TRY(for_all(c, c->db, compare_one));
    return for_all(c, c->model, look_for_one);
}

static dk_rc compare(struct comparison *c)
{
    DK_TRY(make_model(&c->model, c->err));
    dk_rc rc = compare_prepared(c);
    sqlite3_finalize(c->ours);
    sqlite3_finalize(c->works_on);
    sqlite3_finalize(c->there);
    sqlite3_close(c->model);
    return rc;
}

dk_rc dk_sqlite_schema(void *self, tell_finding *each, void *arg, struct dk_err *err)
{
    struct dk_sqlite_txn *txn = self;
    struct comparison c = {
        .db = txn->db, .path = txn->store->path, .each = each, .arg = arg, .err = err};
    return compare(&c);
}

/* ---- mending --------------------------------------------------------------------------------- */

#define MENDED_MAX 64

struct mending {
    struct {
        char type[16], name[64];
        bool drop;
    } object[MENDED_MAX]; /* nothing is changed while the schema is read */
    size_t n;
};

static void note_object(void *arg, const struct dk_schema_finding *finding)
{
    struct mending *mending = arg;
    bool made_again = strcmp(finding->type, "table") != 0 && finding->fault != DK_SCHEMA_FOREIGN;
    if (made_again && mending->n < MENDED_MAX) {
        size_t i = mending->n++;
        snprintf(mending->object[i].type, sizeof mending->object[i].type, "%s", finding->type);
        snprintf(mending->object[i].name, sizeof mending->object[i].name, "%s", finding->name);
        mending->object[i].drop = finding->fault == DK_SCHEMA_CHANGED;
    }
}

static dk_rc run(sqlite3 *db, char *sql, const char *name, struct dk_err *err)
{
    int code = sql == NULL ? SQLITE_NOMEM : sqlite3_exec(db, sql, NULL, NULL, NULL);
    sqlite3_free(sql);
    if (code != SQLITE_OK) {
        dk_rc rc = dk_sqlite_fail(db, code, "mending the schema", err);
        (void)dk_err_while(err, "making %s again", name);
        return rc;
    }
    return DK_OK;
}

static dk_rc make_again(sqlite3 *db, sqlite3 *model, const char *name, struct dk_err *err)
{
    sqlite3_stmt *stmt = NULL;
    DK_TRY(prepare(model, "SELECT sql FROM sqlite_schema WHERE name = ?1", &stmt, err));
    int code = SQLITE_OK;
    bool ours = found(stmt, name, &code);
    const char *sql = ours ? text_at(stmt, 0, &code) : "";
    dk_rc rc = code != SQLITE_OK ? dk_sqlite_fail(NULL, code, "mending the schema", err)
               : ours            ? run(db, sqlite3_mprintf("%s", sql), name, err)
                                 : DK_FAIL(err, INTERNAL, "%s is none of ours", name);
    sqlite3_finalize(stmt);
    return rc;
}

dk_rc dk_sqlite_mend_schema(sqlite3 *db, struct dk_err *err)
{
    struct mending mending = {.n = 0};
    struct comparison c = {.db = db, .each = note_object, .arg = &mending, .err = err};
    sqlite3 *model = NULL;
    DK_TRY(compare(&c));
    if (mending.n == 0) {
        return DK_OK;
    }
    DK_TRY(make_model(&model, err));
    dk_rc rc = DK_OK;
    for (size_t i = 0; i < mending.n && rc == DK_OK; i++) {
        const char *name = mending.object[i].name;
        if (mending.object[i].drop) {
            rc =
                run(db, sqlite3_mprintf("DROP %s \"%w\"", mending.object[i].type, name), name, err);
        }
        rc = rc == DK_OK ? make_again(db, model, name, err) : rc;
    }
    sqlite3_close(model);
    return rc;
}
