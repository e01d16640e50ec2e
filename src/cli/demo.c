/*
 * dekhand demo: two tenants' contacts encrypted, kept apart and rotated, in a folder of its own.
 *
 * Every line that is printed is the outcome of a real call; the demo ends 1 at the first surprise.
 */
#include <errno.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/cli.h"

struct contact {
    const char *tenant;
    const char *name;
    const char *phone;
    const char *email;
};

static const struct contact contacts[] = {
    {"acme", "Ada Lovelace", "+44 20 7946 0018", "ada@acme.example"},
    {"acme", "Grace Hopper", "+1 202 555 0143", "grace@acme.example"},
    {"acme", "Çelik Ağa", "+90 212 555 0199", "celik@acme.example"},
    {"globex", "李小龙", "+852 5550 1234", "lee@globex.example"},
    {"globex", "Márta Kovács", "+36 1 555 0162", "marta@globex.example"},
};
#define CONTACTS (sizeof contacts / sizeof contacts[0])
#define VALUE_MAX 512

struct demo {
    struct cli *cli;
    char dir[DK_PATH_MAX];
    struct dekhand *d;
    sqlite3 *app; /* the application's own database */
    struct cli_out *out;
    struct dk_json json;
    bool failed;
};

/* One step: what it shows, and whether it went as it should. */
static void step(struct demo *demo, const char *name, bool ok, const char *shows)
{
    demo->failed = demo->failed || !ok;
    if (demo->cli->json) {
        dk_json_object(&demo->json, NULL);
        dk_json_str(&demo->json, "step", name);
        dk_json_bool(&demo->json, "ok", ok);
        dk_json_str(&demo->json, "shows", shows);
        dk_json_end(&demo->json, '}');
    } else {
        cli_out_printf(demo->out, "%s %-16s %s\n", ok ? "  ok  " : "FAILED", name, shows);
    }
}

static void note(struct demo *demo, const char *text)
{
    if (!demo->cli->json) {
        cli_out_printf(demo->out, "\n%s\n", text);
    }
}

static void detail(struct demo *demo, const char *label, const char *text)
{
    if (!demo->cli->json) {
        cli_out_printf(demo->out, "         %-14s %s\n", label, text);
    }
}

/* ---- the application's table ----------------------------------------------------------------- */

static bool sql(struct demo *demo, const char *text)
{
    return sqlite3_exec(demo->app, text, NULL, NULL, NULL) == SQLITE_OK;
}

static bool open_app(struct demo *demo)
{
    char path[DK_PATH_MAX];
    struct dk_err err;
    dk_err_clear(&err);
    return dk_path_join(path, demo->dir, "app.db", &err) == DK_OK &&
           sqlite3_open(path, &demo->app) == SQLITE_OK &&
           sql(demo, "CREATE TABLE contacts (id INTEGER PRIMARY KEY, tenant_id TEXT NOT NULL, name "
                     "TEXT NOT NULL, phone TEXT, email TEXT)");
}

static bool insert(struct demo *demo, size_t i, const char *phone, const char *email)
{
    sqlite3_stmt *stmt = NULL;
    bool ok = sqlite3_prepare_v2(demo->app, "INSERT INTO contacts VALUES (?, ?, ?, ?, ?)", -1,
                                 &stmt, NULL) == SQLITE_OK &&
              sqlite3_bind_int64(stmt, 1, (sqlite3_int64)i + 1) == SQLITE_OK &&
              sqlite3_bind_text(stmt, 2, contacts[i].tenant, -1, NULL) == SQLITE_OK &&
              sqlite3_bind_text(stmt, 3, contacts[i].name, -1, NULL) == SQLITE_OK &&
              sqlite3_bind_text(stmt, 4, phone, -1, NULL) == SQLITE_OK &&
              sqlite3_bind_text(stmt, 5, email, -1, NULL) == SQLITE_OK &&
              sqlite3_step(stmt) == SQLITE_DONE;
    sqlite3_finalize(stmt);
    return ok;
}

/* The stored text of a contact's column; "" when it is not there. */
static void stored(struct demo *demo, size_t i, const char *column, char out[VALUE_MAX])
{
    char text[128];
    sqlite3_stmt *stmt = NULL;
    snprintf(text, sizeof text, "SELECT %s FROM contacts WHERE id = %zu", column, i + 1);
    out[0] = '\0';
    if (sqlite3_prepare_v2(demo->app, text, -1, &stmt, NULL) == SQLITE_OK &&
        sqlite3_step(stmt) == SQLITE_ROW) {
        snprintf(out, VALUE_MAX, "%s", (const char *)sqlite3_column_text(stmt, 0));
    }
    sqlite3_finalize(stmt);
}

/* ---- calls ----------------------------------------------------------------------------------- */

static int encrypt(struct demo *demo, const char *tenant, const char *field, const char *plain,
                   char out[VALUE_MAX])
{
    struct dekhand_pair context = {"field", field};
    struct dekhand_item item = {.tenant = tenant,
                                .context = &context,
                                .context_count = 1,
                                .in = plain,
                                .in_size = strlen(plain),
                                .out = out,
                                .capacity = VALUE_MAX - 1};
    int rc = dekhand_encrypt(demo->d, &item, NULL);
    out[rc == DEKHAND_OK ? item.size : 0] = '\0';
    return rc;
}

static int decrypt(struct demo *demo, const char *tenant, const char *field, const char *value,
                   char out[VALUE_MAX])
{
    struct dekhand_pair context = {"field", field};
    struct dekhand_item item = {.tenant = tenant,
                                .context = &context,
                                .context_count = 1,
                                .in = value,
                                .in_size = strlen(value),
                                .out = out,
                                .capacity = VALUE_MAX - 1};
    int rc = dekhand_decrypt(demo->d, &item, NULL);
    out[rc == DEKHAND_OK ? item.size : 0] = '\0';
    return rc;
}

/* ---- the steps ------------------------------------------------------------------------------- */

static bool start(struct demo *demo)
{
    struct dekhand_setting setting = {"KMS_STATE_DIR", demo->dir};
    struct dekhand_config config = {.size = sizeof config,
                                    .settings = &setting,
                                    .setting_count = 1,
                                    .ignore_environment = true,
                                    .actor = "cli:demo"};
    struct dekhand_error error = {0};
    struct dekhand_init_result made = {0};
    bool ok = dekhand_init(&config, &made, &error) == DEKHAND_OK &&
              dekhand_open(&config, &demo->d, &error) == DEKHAND_OK && open_app(demo);
    step(demo, "init", ok,
         ok ? "a local master key, a registry and an application's table" : error.text);
    if (ok) {
        detail(demo, "master key", made.kms_key_id);
    }
    return ok;
}

static void fill_table(struct demo *demo)
{
    char phone[VALUE_MAX], email[VALUE_MAX], shows[120];
    bool ok = true;
    for (size_t i = 0; i < CONTACTS && ok; i++) {
        const struct contact *c = &contacts[i];
        ok = encrypt(demo, c->tenant, "contacts.phone", c->phone, phone) == DEKHAND_OK &&
             encrypt(demo, c->tenant, "contacts.email", c->email, email) == DEKHAND_OK &&
             insert(demo, i, phone, email);
    }
    snprintf(shows, sizeof shows, "%zu contacts of two tenants, phone and e-mail under two keys",
             CONTACTS);
    step(demo, "encrypt", ok, shows);
    stored(demo, 0, "name", email);
    stored(demo, 0, "phone", phone);
    detail(demo, "in the table", email);
    detail(demo, "", phone);
}

static bool all_read(struct demo *demo)
{
    char value[VALUE_MAX], plain[VALUE_MAX];
    bool ok = true;
    for (size_t i = 0; i < CONTACTS && ok; i++) {
        stored(demo, i, "phone", value);
        ok = decrypt(demo, contacts[i].tenant, "contacts.phone", value, plain) == DEKHAND_OK &&
             strcmp(plain, contacts[i].phone) == 0;
        stored(demo, i, "email", value);
        ok = ok && decrypt(demo, contacts[i].tenant, "contacts.email", value, plain) == 0 &&
             strcmp(plain, contacts[i].email) == 0;
    }
    return ok;
}

static void keep_apart(struct demo *demo)
{
    char value[VALUE_MAX], plain[VALUE_MAX];
    stored(demo, 0, "phone", value);
    int other = decrypt(demo, "globex", "contacts.phone", value, plain);
    step(demo, "other tenant", other == DEKHAND_E_WRONG_KEY && plain[0] == '\0',
         "globex asks for acme's phone number: refused");
    int column = decrypt(demo, "acme", "contacts.email", value, plain);
    step(demo, "other column", column == DEKHAND_E_AUTH && plain[0] == '\0',
         "the same value moved into the e-mail column: refused");
    size_t at = strlen(value) - 10;
    value[at] = value[at] == 'A' ? 'B' : 'A';
    int changed = decrypt(demo, "acme", "contacts.phone", value, plain);
    step(demo, "changed value", changed == DEKHAND_E_AUTH && plain[0] == '\0',
         "one letter of it changed: refused");
}

static void rotate(struct demo *demo)
{
    struct dekhand_rotate_args args = {
        .size = sizeof args, .which = DEKHAND_ROTATE_TENANT, .tenant = "acme"};
    char value[VALUE_MAX];
    bool ok = dekhand_rotate(demo->d, &args, NULL, NULL, NULL) == DEKHAND_OK;
    step(demo, "rotate", ok, "acme has key version 2, version 1 is kept for reading");
    step(demo, "old values", all_read(demo), "every value of before still reads");
    ok = encrypt(demo, "acme", "contacts.phone", "+44 20 7946 0000", value) == DEKHAND_OK &&
         strncmp(value, "dk1.2.", 6) == 0;
    step(demo, "new value", ok, "a new value is under version 2");
    detail(demo, "", value);
}

static bool show_entry(void *arg, const struct dekhand_history *entry)
{
    char text[200], when[DK_TIME_TEXT];
    dk_time_format(entry->performed_at, when);
    snprintf(text, sizeof text, "%s of %s, version %u, by %s", entry->operation, entry->tenant,
             entry->to_version, entry->performed_by);
    detail(arg, when, text);
    return true;
}

static void show_history(struct demo *demo)
{
    step(demo, "history", true, "what happened to the keys is written down");
    if (!demo->cli->json &&
        dekhand_history(demo->d, NULL, 10, show_entry, demo, NULL) != DEKHAND_OK) {
        demo->failed = true;
    }
}

/* ---- the frame ------------------------------------------------------------------------------- */

static void run_steps(struct demo *demo)
{
    note(demo, "A registry of its own, in a temporary folder:");
    if (start(demo)) {
        fill_table(demo);
        step(demo, "decrypt", all_read(demo), "each tenant reads its own values");
        note(demo, "Kept apart:");
        keep_apart(demo);
        note(demo, "Rotated:");
        rotate(demo);
        show_history(demo);
    }
    sqlite3_close(demo->app);
    demo->failed = dekhand_close(demo->d, NULL) != DEKHAND_OK || demo->failed;
}

static int print_all(struct demo *demo)
{
    int64_t started = cli_now_ms();
    if (demo->cli->json) {
        demo->json = cli_out_json(demo->out);
        dk_json_object(&demo->json, NULL);
        dk_json_array(&demo->json, "steps");
    }
    run_steps(demo);
    bool keep = cli_has(demo->cli, "keep");
    if (!keep) {
        cli_scratch_remove(demo->dir);
    }
    double seconds = (double)(cli_now_ms() - started) / 1000;
    if (demo->cli->json) {
        dk_json_end(&demo->json, ']');
        dk_json_bool(&demo->json, "ok", !demo->failed);
        dk_json_num(&demo->json, "seconds", seconds);
        dk_json_end(&demo->json, '}');
        cli_out_str(demo->out, "\n");
    } else {
        cli_out_printf(demo->out, "\n%s in %.2f s. The demo's folder %s%s%s.\n",
                       demo->failed ? "FAILED" : "All as it should be", seconds,
                       keep ? "stays: " : "is gone again", keep ? demo->dir : "", "");
        cli_out_printf(demo->out, "Next: `dekhand init`, then `dekhand encrypt --tenant acme`, or "
                                  "a whole file with --csv.\n");
    }
    int code = cli_out_finish(demo->out);
    return code != CLI_OK ? code : demo->failed ? CLI_FAILED : CLI_OK;
}

int cli_demo(struct cli *cli)
{
    static struct cli_out out;
    struct demo demo = {.cli = cli, .out = &out};
    int code = cli_scratch_make("demo", demo.dir);
    if (code != CLI_OK) {
        return code;
    }
    code = cli_out_open(&out, NULL);
    return code != CLI_OK ? code : print_all(&demo);
}
