/*
 * dekhand demo: two tenants' contacts encrypted, kept apart and rotated, in a folder of its own;
 * with --here in a place of its own on the store that is configured (demo_app.h).
 *
 * Every line that is printed is the outcome of a real call; the demo ends 1 at the first surprise.
 */
#include "cli/demo_app.h"

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

struct demo {
    struct cli *cli;
    bool here;
    struct demo_app app;
    struct dekhand *d;
    struct cli_out *out;
    struct dk_json json;
    int64_t steps;
    bool failed;
    struct dekhand_error error; /* of the beginning, --here */
};

/* One step: what it shows, and whether it went as it should. */
static void step(struct demo *demo, const char *name, bool ok, const char *shows)
{
    demo->failed = demo->failed || !ok;
    demo->steps++;
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

/* False: a signal asks for the end. What was made elsewhere is taken away first. */
static bool goes_on(const struct demo *demo)
{
    return !demo->here || !cli_interrupted();
}

static void stored(struct demo *demo, size_t i, const char *column, char out[static DEMO_VALUE_MAX])
{
    demo->app.ops->stored(&demo->app, i + 1, column, out);
}

/* ---- calls ----------------------------------------------------------------------------------- */

static int encrypt(struct demo *demo, const char *tenant, const char *field, const char *plain,
                   char out[DEMO_VALUE_MAX])
{
    struct dekhand_pair context = {"field", field};
    struct dekhand_item item = {.tenant = tenant,
                                .context = &context,
                                .context_count = 1,
                                .in = plain,
                                .in_size = strlen(plain),
                                .out = out,
                                .capacity = DEMO_VALUE_MAX - 1};
    int rc = dekhand_encrypt(demo->d, &item, NULL);
    out[rc == DEKHAND_OK ? item.size : 0] = '\0';
    return rc;
}

static int decrypt(struct demo *demo, const char *tenant, const char *field, const char *value,
                   char out[DEMO_VALUE_MAX])
{
    struct dekhand_pair context = {"field", field};
    struct dekhand_item item = {.tenant = tenant,
                                .context = &context,
                                .context_count = 1,
                                .in = value,
                                .in_size = strlen(value),
                                .out = out,
                                .capacity = DEMO_VALUE_MAX - 1};
    int rc = dekhand_decrypt(demo->d, &item, NULL);
    out[rc == DEKHAND_OK ? item.size : 0] = '\0';
    return rc;
}

/* ---- the steps ------------------------------------------------------------------------------- */

/* A registry of its own has an anchor of its own, and another pin. */
static struct dekhand_config settings_here(struct demo *demo, const char *anchor,
                                           struct dekhand_setting *list)
{
    struct dekhand_config config = cli_config(demo->cli, list);
    size_t n = 0;
    for (size_t i = 0; i < config.setting_count; i++) {
        const char *name = list[i].name;
        if (strcmp(name, "DATABASE_URL") != 0 && strcmp(name, "KMS_MIGRATE_URL") != 0 &&
            strcmp(name, "KMS_ANCHOR_FILE") != 0 && strcmp(name, "KMS_REGISTRY_PIN") != 0) {
            list[n++] = list[i];
        }
    }
    list[n++] = (struct dekhand_setting){"DATABASE_URL", demo->app.database_url};
    if (demo->app.migrate_url[0] != '\0') {
        list[n++] = (struct dekhand_setting){"KMS_MIGRATE_URL", demo->app.migrate_url};
    }
    list[n++] = (struct dekhand_setting){"KMS_ANCHOR_FILE", anchor};
    config.setting_count = n;
    return config;
}

static bool make_all(struct demo *demo, struct dekhand_init_result *made)
{
    char anchor[DK_PATH_MAX];
    struct dekhand_setting list[DK_OPT_COUNT] = {{"KMS_STATE_DIR", demo->app.dir}};
    struct dekhand_config config = {.size = sizeof config,
                                    .settings = list,
                                    .setting_count = 1,
                                    .ignore_environment = true,
                                    .actor = "cli:demo"};
    struct dk_err err;
    dk_err_clear(&err);
    if (demo->here) {
        snprintf(anchor, sizeof anchor, "%.4000s/anchor", demo->app.dir);
        config = settings_here(demo, anchor, list);
    }
    if (dekhand_init(&config, made, &demo->error) != DEKHAND_OK || !goes_on(demo) ||
        dekhand_open(&config, &demo->d, &demo->error) != DEKHAND_OK || !goes_on(demo)) {
        return false;
    }
    if (demo->app.ops->open(&demo->app, &err) != DK_OK) {
        demo->error.code = (int)err.rc;
        snprintf(demo->error.text, sizeof demo->error.text, "%s", err.text);
        return false;
    }
    return true;
}

static bool start(struct demo *demo)
{
    struct dekhand_init_result made = {0};
    bool ok = make_all(demo, &made);
    const char *shows = demo->here ? "a registry and an application's table"
                                   : "a local master key, a registry and an application's table";
    if (!goes_on(demo)) {
        return false;
    }
    step(demo, "init", ok, ok ? shows : demo->error.text);
    if (ok) {
        detail(demo, "master key", made.kms_key_id);
    }
    return ok;
}

static void fill_table(struct demo *demo)
{
    char phone[DEMO_VALUE_MAX], email[DEMO_VALUE_MAX], shows[120];
    bool ok = true;
    struct dk_err err;
    dk_err_clear(&err);
    for (size_t i = 0; i < CONTACTS && ok; i++) {
        const struct contact *c = &contacts[i];
        struct demo_row row = {i + 1, c->tenant, c->name, phone, email};
        ok = encrypt(demo, c->tenant, "contacts.phone", c->phone, phone) == DEKHAND_OK &&
             encrypt(demo, c->tenant, "contacts.email", c->email, email) == DEKHAND_OK &&
             demo->app.ops->insert(&demo->app, &row, &err) == DK_OK;
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
    char value[DEMO_VALUE_MAX], plain[DEMO_VALUE_MAX];
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

static void read_back(struct demo *demo)
{
    step(demo, "decrypt", all_read(demo), "each tenant reads its own values");
}

static void keep_apart(struct demo *demo)
{
    char value[DEMO_VALUE_MAX], plain[DEMO_VALUE_MAX];
    note(demo, "Kept apart:");
    stored(demo, 0, "phone", value);
    int other = decrypt(demo, "globex", "contacts.phone", value, plain);
    step(demo, "other tenant", other == DEKHAND_E_WRONG_KEY && plain[0] == '\0',
         "globex asks for acme's phone number: refused");
    int column = decrypt(demo, "acme", "contacts.email", value, plain);
    step(demo, "other column", column == DEKHAND_E_AUTH && plain[0] == '\0',
         "the same value moved into the e-mail column: refused");
    if (strlen(value) > 10) { /* else it was not stored, and that was told */
        size_t at = strlen(value) - 10;
        value[at] = value[at] == 'A' ? 'B' : 'A';
    }
    int changed = decrypt(demo, "acme", "contacts.phone", value, plain);
    step(demo, "changed value", changed == DEKHAND_E_AUTH && plain[0] == '\0',
         "one letter of it changed: refused");
}

static void rotate(struct demo *demo)
{
    struct dekhand_rotate_args args = {
        .size = sizeof args, .which = DEKHAND_ROTATE_TENANT, .tenant = "acme"};
    char value[DEMO_VALUE_MAX];
    note(demo, "Rotated:");
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

static void show_place(struct demo *demo)
{
    if (!demo->here) {
        note(demo, "A registry of its own, in a temporary folder:");
        return;
    }
    note(demo, "A registry of its own, where the settings say; all of it goes at the end:");
    detail(demo, "registry", demo->app.registry);
    detail(demo, "contacts", demo->app.table);
}

static void run_steps(struct demo *demo)
{
    static void (*const steps[])(struct demo *) = {fill_table, read_back, keep_apart, rotate,
                                                   show_history};
    show_place(demo);
    bool ok = start(demo);
    for (size_t i = 0; i < sizeof steps / sizeof steps[0] && ok && goes_on(demo); i++) {
        steps[i](demo);
    }
    demo->app.ops->close(&demo->app);
    demo->failed = dekhand_close(demo->d, NULL) != DEKHAND_OK || demo->failed;
}

static void clean_up(struct demo *demo)
{
    struct dk_err err;
    dk_err_clear(&err);
    if (demo->app.ops->remove(&demo->app, &err) != DK_OK) {
        int ignored = cli_fail_internal(demo->cli, &err);
        (void)ignored;
        demo->failed = true;
    }
    if (!cli_has(demo->cli, "keep")) {
        cli_scratch_remove(demo->app.dir);
    }
}

static void begin_json(struct demo *demo)
{
    demo->json = cli_out_json(demo->out);
    dk_json_object(&demo->json, NULL);
    if (demo->here) {
        dk_json_str(&demo->json, "registry", demo->app.registry);
        dk_json_str(&demo->json, "contacts", demo->app.table);
    }
    dk_json_array(&demo->json, "steps");
}

static void end_json(struct demo *demo, double seconds)
{
    dk_json_end(&demo->json, ']');
    dk_json_bool(&demo->json, "ok", !demo->failed);
    dk_json_num(&demo->json, "seconds", seconds);
    dk_json_end(&demo->json, '}');
    cli_out_str(demo->out, "\n");
}

static void end_text(struct demo *demo, double seconds)
{
    const char *head = demo->failed ? "FAILED" : "All as it should be";
    bool keep = cli_has(demo->cli, "keep");
    if (demo->here) {
        cli_out_printf(demo->out, "\n%s in %.2f s.%s\n", head, seconds,
                       demo->failed ? "" : " What it made is gone again.");
        cli_out_printf(demo->out, "Next: `dekhand encrypt --tenant acme`, or a whole file with "
                                  "--csv.\n");
        return;
    }
    cli_out_printf(demo->out, "\n%s in %.2f s. The demo's folder %s%s.\n", head, seconds,
                   keep ? "stays: " : "is gone again", keep ? demo->app.dir : "");
    cli_out_printf(demo->out, "Next: `dekhand init`, then `dekhand encrypt --tenant acme`, or "
                              "a whole file with --csv.\n");
}

static int run_all(struct demo *demo)
{
    int64_t started = cli_now_ms();
    if (demo->cli->json) {
        begin_json(demo);
    }
    run_steps(demo);
    clean_up(demo);
    bool stopped = demo->here && cli_interrupted();
    demo->failed = demo->failed || stopped;
    double seconds = (double)(cli_now_ms() - started) / 1000;
    (demo->cli->json ? end_json : end_text)(demo, seconds);
    int code = cli_out_finish(demo->out);
    if (stopped) {
        return cli_give_up(demo->steps, "steps; what the demo had made was taken away");
    }
    if (demo->here && demo->error.code != DEKHAND_OK) {
        code = cli_fail(demo->cli, &demo->error);
        if (demo->error.code == DEKHAND_E_CONFIG && demo->app.ops == &demo_app_postgres) {
            cli_say("  the demo makes schemas of its own: as the login of KMS_MIGRATE_URL, or else "
                    "of DATABASE_URL");
        }
    }
    return code != CLI_OK ? code : demo->failed ? CLI_FAILED : CLI_OK;
}

/* The demo makes no master key that stays: nobody could tell it from one that is needed. */
static dk_rc need_master_key(const struct cli *cli, struct dk_err *err)
{
    char dir[DK_PATH_MAX], path[DK_PATH_MAX];
    const char *provider;
    DK_TRY(dk_settings_provider(&cli->settings, &provider, err));
    if (strcmp(provider, "local") != 0) {
        return DK_OK;
    }
    DK_TRY(dk_settings_state_dir(&cli->settings, dir, err));
    DK_TRY(dk_path_join(path, dir, "master.key", err));
    return dk_file_exists(path) ? DK_OK
                                : DK_FAIL(err, NO_MASTER_KEY,
                                          "--here works with the master key that there is, and %s "
                                          "is not there: run `dekhand init` first",
                                          path);
}

static dk_rc choose_here(struct demo *demo, struct dk_err *err)
{
    const struct dk_settings *settings = &demo->cli->settings;
    const char *url = dk_settings_str(settings, DK_OPT_DATABASE_URL);
    bool server =
        url != NULL && (strncmp(url, "postgres:", 9) == 0 || strncmp(url, "postgresql:", 11) == 0);
    demo->app.ops = server ? &demo_app_postgres : &demo_app_sqlite;
    DK_TRY(need_master_key(demo->cli, err));
    DK_TRY(demo->app.ops->choose(&demo->app, settings, err));
    /* Before anything is made: whoever kills the demo knows what to look for. */
    cli_say("dekhand: the demo makes, and drops at the end: %s; %s", demo->app.registry,
            demo->app.table);
    return DK_OK;
}

int cli_demo(struct cli *cli)
{
    static struct cli_out out;
    static struct demo demo;
    struct dk_err err;
    dk_err_clear(&err);
    demo = (struct demo){.cli = cli, .here = cli_has(cli, "here"), .out = &out};
    if (demo.here && cli_has(cli, "keep")) {
        return cli_usage("--here leaves nothing behind: it goes without --keep");
    }
    int code = cli_out_open(&out, NULL);
    if (code != CLI_OK) {
        return code;
    }
    if (demo.here) {
        cli_signals_cooperate();
        if (choose_here(&demo, &err) != DK_OK) {
            cli_out_abandon(&out);
            return cli_fail_internal(cli, &err);
        }
        return run_all(&demo);
    }
    demo.app.ops = &demo_app_sqlite;
    code = cli_scratch_make("demo", demo.app.dir);
    return code != CLI_OK ? code : run_all(&demo);
}
