/* The demo on SQLite: two files in a folder of its own. */
#include <sqlite3.h>
#include <string.h>

#include "cli/demo_app.h"

/* ---- the place ------------------------------------------------------------------------------- */

/* The folder of the registry that the settings name: its disk is what the demo shall be on. */
static dk_rc find_base(const struct dk_settings *settings, char *out, struct dk_err *err)
{
    const char *url = dk_settings_str(settings, DK_OPT_DATABASE_URL);
    if (url == NULL) {
        return dk_settings_state_dir(settings, out, err);
    }
    if (strncmp(url, "sqlite:", 7) != 0) {
        return DK_FAIL(err, CONFIG, "DATABASE_URL: this version has no such store");
    }
    const char *path = url + 7;
    path += strncmp(path, "//", 2) == 0 ? 2 : 0;
    const char *slash = strrchr(path, '/');
    int n = slash == NULL ? snprintf(out, DK_PATH_MAX, ".")
                          : snprintf(out, DK_PATH_MAX, "%.*s", (int)(slash - path + 1), path);
    return n < DK_PATH_MAX ? DK_OK : DK_FAIL(err, CONFIG, "DATABASE_URL is too long");
}

static dk_rc choose(struct demo_app *app, const struct dk_settings *settings, struct dk_err *err)
{
    char base[DK_PATH_MAX];
    DK_TRY(find_base(settings, base, err));
    DK_TRY(cli_scratch_make_in(base, "demo", app->dir, err));
    int n = snprintf(app->database_url, sizeof app->database_url, "sqlite:%s/dekhand.db", app->dir);
    if (n >= (int)sizeof app->database_url) {
        cli_scratch_remove(app->dir);
        return DK_FAIL(err, CONFIG, "DATABASE_URL is too long");
    }
    snprintf(app->registry, sizeof app->registry, "%s/dekhand.db", app->dir);
    snprintf(app->table, sizeof app->table, "%s/app.db", app->dir);
    return DK_OK;
}

static dk_rc remove_all(struct demo_app *app, struct dk_err *err)
{
    (void)app; /* all of it lies in the folder */
    (void)err;
    return DK_OK;
}

/* ---- the table ------------------------------------------------------------------------------- */

static dk_rc failed(struct demo_app *app, const char *what, struct dk_err *err)
{
    return DK_FAIL(err, STORE, "%s: %s", what, sqlite3_errmsg(app->self));
}

static dk_rc open_table(struct demo_app *app, struct dk_err *err)
{
    char path[DK_PATH_MAX];
    sqlite3 *db = NULL;
    DK_TRY(dk_path_join(path, app->dir, "app.db", err));
    int rc = sqlite3_open(path, &db);
    app->self = db;
    if (rc == SQLITE_OK) {
        rc = sqlite3_exec(db,
                          "CREATE TABLE contacts (id INTEGER PRIMARY KEY, tenant_id TEXT NOT NULL, "
                          "name TEXT NOT NULL, phone TEXT, email TEXT)",
                          NULL, NULL, NULL);
    }
    return rc == SQLITE_OK ? DK_OK : failed(app, "making the application's table", err);
}

static dk_rc insert(struct demo_app *app, const struct demo_row *row, struct dk_err *err)
{
    sqlite3_stmt *stmt = NULL;
    bool ok = sqlite3_prepare_v2(app->self, "INSERT INTO contacts VALUES (?, ?, ?, ?, ?)", -1,
                                 &stmt, NULL) == SQLITE_OK &&
              sqlite3_bind_int64(stmt, 1, (sqlite3_int64)row->id) == SQLITE_OK &&
              sqlite3_bind_text(stmt, 2, row->tenant, -1, NULL) == SQLITE_OK &&
              sqlite3_bind_text(stmt, 3, row->name, -1, NULL) == SQLITE_OK &&
              sqlite3_bind_text(stmt, 4, row->phone, -1, NULL) == SQLITE_OK &&
              sqlite3_bind_text(stmt, 5, row->email, -1, NULL) == SQLITE_OK &&
              sqlite3_step(stmt) == SQLITE_DONE;
    dk_rc rc = ok ? DK_OK : failed(app, "storing a contact", err);
    sqlite3_finalize(stmt);
    return rc;
}

static void stored(struct demo_app *app, size_t id, const char *column,
                   char out[static DEMO_VALUE_MAX])
{
    char text[128];
    sqlite3_stmt *stmt = NULL;
    snprintf(text, sizeof text, "SELECT %s FROM contacts WHERE id = %zu", column, id);
    out[0] = '\0';
    if (sqlite3_prepare_v2(app->self, text, -1, &stmt, NULL) == SQLITE_OK &&
        sqlite3_step(stmt) == SQLITE_ROW) {
        snprintf(out, DEMO_VALUE_MAX, "%s", (const char *)sqlite3_column_text(stmt, 0));
    }
    sqlite3_finalize(stmt);
}

static void close_table(struct demo_app *app)
{
    sqlite3_close(app->self);
    app->self = NULL;
}

const struct demo_app_ops demo_app_sqlite = {
    .choose = choose,
    .open = open_table,
    .insert = insert,
    .stored = stored,
    .close = close_table,
    .remove = remove_all,
};
