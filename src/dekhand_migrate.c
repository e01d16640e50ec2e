/* The door of migrate: the registry's schema by itself, without keys. */
#include <stdio.h>

#include "door.h"

static const struct dekhand_config plain = {.size = sizeof plain};

/* ---- for init -------------------------------------------------------------------------------- */

/* The store of the login that may change the schema; the caller's, dk_store_close(). */
static dk_rc open_other(const struct dk_world *world, const struct dk_settings *settings,
                        struct dk_places *places, struct dk_store *out, struct dk_err *err)
{
    static const char usual[] = "DATABASE_URL";
    struct dk_err cause;
    dk_err_clear(&cause);
    DK_TRY(dk_wire_migrate_place(settings, places, err));
    dk_rc rc = dk_store_open(world, places->database_url, out, &cause);
    if (rc == DK_OK) {
        return DK_OK;
    }
    bool renamed = dk_settings_is_set(settings, DK_OPT_MIGRATE_URL) &&
                   strncmp(cause.text, usual, strlen(usual)) == 0;
    return dk_err_set(err, rc, cause.file, cause.line, "%s%s", renamed ? "KMS_MIGRATE_URL" : "",
                      cause.text + (renamed ? strlen(usual) : 0));
}

/* Both names lead to one registry, or the login of the first sees none. */
static dk_rc compare(struct dk_instance *d, const struct dk_places *other,
                     const struct dk_schema_version *made, struct dk_err *err)
{
    struct dk_schema_version seen;
    DK_TRY(d->core.store.ops->schema_version(d->core.store.self, &seen, err));
    return strcmp(seen.uuid, made->uuid) == 0
               ? DK_OK
               : DK_FAIL(err, CONFIG,
                         "KMS_MIGRATE_URL (%.100s) and DATABASE_URL (%.100s) are two databases, or "
                         "two schemas of one",
                         other->database, d->places.database);
}

/* As whoever KMS_MIGRATE_URL logs in. */
static dk_rc migrate_elsewhere(struct dk_instance *d, const struct dk_settings *settings,
                               struct dk_err *err)
{
    struct dk_places places;
    struct dk_store store = {.ops = NULL};
    struct dk_schema_version made;
    dk_rc rc = open_other(d->core.world, settings, &places, &store, err);
    rc = rc == DK_OK ? store.ops->migrate(store.self, err) : rc;
    rc = rc == DK_OK ? store.ops->schema_version(store.self, &made, err) : rc;
    if (store.ops != NULL) {
        dk_store_close(&store);
    }
    return rc == DK_OK ? compare(d, &places, &made, err) : rc;
}

/* True: nothing is to be made, and no right to make it is needed. */
static bool is_current(struct dk_instance *d)
{
    struct dk_txn txn;
    struct dk_err ignored;
    dk_err_clear(&ignored);
    bool current = dk_store_begin(&d->core.store, DK_TXN_READ, &txn, &ignored) == DK_OK;
    if (current) {
        dk_store_rollback(&txn);
    }
    return current;
}

dk_rc dk_door_migrate(struct dk_instance *d, const struct dk_settings *settings, struct dk_err *err)
{
    const struct dk_store *store = &d->core.store;
    struct dk_schema_version now;
    struct dk_err cause;
    dk_err_clear(&cause);
    if (store->ops->script == NULL) { /* a file of our own: mended too */
        return store->ops->migrate(store->self, err);
    }
    DK_TRY(store->ops->schema_version(store->self, &now, err));
    if (now.version > 0 && is_current(d)) {
        return DK_OK;
    }
    dk_rc rc = migrate_elsewhere(d, settings, &cause);
    if (rc == DK_E_CONFIG) {
        return DK_FAIL(err, CONFIG, "%s: run `dekhand migrate` with a login that may: %s",
                       now.version > 0 ? "the schema is older" : "there is no registry yet",
                       cause.text);
    }
    if (rc != DK_OK) {
        *err = cause;
    }
    return rc;
}

/* ---- migrate --------------------------------------------------------------------------------- */

/* A file is made by init, with its key: half a registry in it would help nobody. */
static dk_rc refuse_new_file(const struct dk_store *store, const struct dk_places *places,
                             struct dk_err *err)
{
    bool there = false;
    if (store->ops->script != NULL) {
        return DK_OK;
    }
    DK_TRY(store->ops->exists(store->self, &there, err));
    return there ? DK_OK
                 : DK_FAIL(err, CONFIG, "there is no registry at %.200s: `dekhand init` makes it",
                           places->database);
}

static dk_rc migrate(struct dk_store *store, const struct dk_places *places,
                     struct dekhand_migration *out, struct dk_err *err)
{
    struct dk_schema_version before, after;
    DK_TRY(refuse_new_file(store, places, err));
    DK_TRY(store->ops->schema_version(store->self, &before, err));
    DK_TRY(store->ops->migrate(store->self, err));
    DK_TRY(store->ops->schema_version(store->self, &after, err));
    out->from = before.version;
    out->to = after.version;
    snprintf(out->registry_id, sizeof out->registry_id, "%s", after.uuid);
    snprintf(out->database, sizeof out->database, "%.4000s", places->database);
    return DK_OK;
}

/* What both calls begin with: the settings, read; the log goes where the caller wants it. */
static dk_rc settle(struct dk_instance *d, const struct dekhand_config *config,
                    struct dk_settings *settings, struct dk_err *err)
{
    dk_wire_log(d, config);
    return dk_wire_settings(config, settings, &d->core.log, err);
}

struct call {
    struct dekhand_migration *out; /* NULL: the script is wanted */
    bool supabase;
    void (*put)(void *arg, const char *text, size_t n);
    void *arg;
};

/* The schema's name stands in the URL; where that is none of PostgreSQL, the default one is meant.
 */
static dk_rc print(const struct call *call, struct dk_store *store, struct dk_err *err)
{
    bool other = store->ops == NULL || store->ops->script == NULL;
    return dk_store_script(other ? NULL : store, call->supabase, call->put, call->arg, err);
}

static dk_rc do_call(const struct call *call, struct dk_instance *d,
                     const struct dekhand_config *config, struct dk_settings *settings,
                     struct dk_err *err)
{
    struct dk_store store = {.ops = NULL};
    DK_TRY(settle(d, config, settings, err));
    bool named = dk_settings_is_set(settings, DK_OPT_MIGRATE_URL) ||
                 dk_settings_is_set(settings, DK_OPT_DATABASE_URL);
    dk_rc rc = DK_OK;
    if (call->out != NULL || named) {
        rc = open_other(&dk_world_default, settings, &d->places, &store, err);
    }
    if (rc == DK_OK) {
        rc = call->out != NULL ? migrate(&store, &d->places, call->out, err)
                               : print(call, &store, err);
    }
    if (store.ops != NULL) {
        dk_store_close(&store);
    }
    return rc;
}

static dk_rc enter(const struct call *call, const struct dekhand_config *config, struct dk_err *err)
{
    struct dk_settings settings;
    struct dk_instance *d = dk_mem_zalloc(&dk_mem_default, sizeof *d);
    if (d == NULL) {
        return DK_FAIL(err, NOMEM, "no memory to open");
    }
    dk_settings_init(&settings, &dk_mem_default);
    dk_rc rc = do_call(call, d, config != NULL ? config : &plain, &settings, err);
    dk_settings_clear(&settings);
    dk_mem_free(&dk_mem_default, d);
    return rc;
}

int dekhand_migrate(const struct dekhand_config *config, struct dekhand_migration *out,
                    struct dekhand_error *error)
{
    struct dk_err err;
    struct dekhand_migration done = {.size = sizeof done};
    struct call call = {.out = &done};
    dk_err_clear(&err);
    dk_rc rc = out != NULL && out->size == sizeof *out
                   ? enter(&call, config, &err)
                   : DK_FAIL(&err, USAGE, "dekhand_migration.size is not %zu", sizeof *out);
    if (rc == DK_OK) {
        *out = done;
    }
    return dk_door_leave(rc, &err, error);
}

int dekhand_migrate_script(const struct dekhand_config *config, bool supabase,
                           void (*each)(void *arg, const char *text, size_t length), void *arg,
                           struct dekhand_error *error)
{
    struct dk_err err;
    struct call call = {.supabase = supabase, .put = each, .arg = arg};
    dk_err_clear(&err);
    dk_rc rc = each != NULL ? enter(&call, config, &err)
                            : DK_FAIL(&err, USAGE, "no function to give the script to");
    return dk_door_leave(rc, &err, error);
}
