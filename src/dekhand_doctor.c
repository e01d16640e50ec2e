/* The door of the doctor: looks at the machine and the files, opens, and reads everything. */
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "door.h"
#include "keys/audit.h"
#include "keys/checkup.h"
#include "keys/registry.h"
#include "provider/local.h"

static const struct dekhand_config plain = {.size = sizeof plain};

/* ---- this machine ---------------------------------------------------------------------------- */

static void check_user(struct dk_report *report)
{
    if (geteuid() == 0) {
        dk_report_tell(report, "user", DK_LEVEL_NOTE, "run dekhand as a user of its own",
                       "this is root: nothing on this machine is kept from it, nor from what "
                       "breaks into it");
    } else {
        dk_report_tell(report, "user", DK_LEVEL_OK, "", "user %u, not root", (unsigned)geteuid());
    }
}

/* Not dumpable: no core file whatever the limit, and /proc is shut. The limit alone leaves both. */
static void check_core_files(struct dk_report *report)
{
    struct rlimit limit = {0, 0};
    getrlimit(RLIMIT_CORE, &limit);
    if (prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == 0) {
        dk_report_tell(report, "core files", DK_LEVEL_OK, "",
                       "this process leaves none, and others cannot read its memory");
        return;
    }
    dk_report_tell(report, "core files", DK_LEVEL_NOTE,
                   "call prctl(PR_SET_DUMPABLE, 0) and set RLIMIT_CORE to 0 in this process, "
                   "as the dekhand program does",
                   limit.rlim_cur != 0
                       ? "this process may leave a core file: the keys' arena is kept out of it, "
                         "plaintext in the application's memory is not"
                       : "this process leaves no core file, but where kernel.core_pattern names a "
                         "program that gets one, and other programs of this user can read its "
                         "memory, keys and plaintext");
}

static void check_memory(const struct dk_instance *d, int64_t wanted, struct dk_report *report)
{
    int64_t keys = (int64_t)d->core.limits.max_keys;
    struct rlimit limit = {0, 0};
    getrlimit(RLIMIT_MEMLOCK, &limit);
    if (d->memory.locked && keys < wanted) {
        dk_report_tell(report, "memory", DK_LEVEL_NOTE,
                       "raise the limit (ulimit -l, LimitMEMLOCK=), or lower KMS_CACHE_MAX_KEYS",
                       "the memory lock limit of %llu KiB has room for %lld keys, not for the %lld "
                       "of KMS_CACHE_MAX_KEYS: with more tenants in use, keys are fetched again",
                       (unsigned long long)(limit.rlim_cur / 1024), (long long)keys,
                       (long long)wanted);
    } else if (d->memory.locked) {
        dk_report_tell(report, "memory", DK_LEVEL_OK, "",
                       "%zu KiB for keys are locked: they do not reach swap",
                       d->memory.bytes / 1024);
    } else if (limit.rlim_cur == RLIM_INFINITY || limit.rlim_cur >= d->memory.bytes) {
        dk_report_tell(
            report, "memory", DK_LEVEL_NOTE,
            "see what else this process locks, and whether its container or seccomp "
            "filter forbids mlock2; or encrypt the swap",
            "%zu KiB for keys could not be locked (%s), and the memory lock limit is not "
            "why: keys in memory may reach swap",
            d->memory.bytes / 1024, strerror(d->memory.refusal));
    } else {
        dk_report_tell(report, "memory", DK_LEVEL_NOTE,
                       "raise the limit (ulimit -l, LimitMEMLOCK=) to the need, or lower "
                       "KMS_CACHE_MAX_KEYS",
                       "the memory lock limit is %llu KiB, the keys' arena needs %zu KiB: keys in "
                       "memory may reach swap",
                       (unsigned long long)(limit.rlim_cur / 1024), d->memory.bytes / 1024);
    }
}

/* ---- files ----------------------------------------------------------------------------------- */

static void check_state_dir(const struct dk_instance *d, struct dk_report *report)
{
    struct stat st;
    const char *dir = d->places.state_dir;
    char todo[DK_PATH_MAX + 64];
    if (stat(dir, &st) != 0) {
        dk_report_tell(report, "state folder", DK_LEVEL_NOTE, "",
                       "%s is not there: nothing is kept in it", dir);
    } else if (!S_ISDIR(st.st_mode)) {
        dk_report_tell(report, "state folder", DK_LEVEL_ERROR, "correct KMS_STATE_DIR",
                       "%s is no folder: nothing can be kept in it", dir);
    } else if ((st.st_mode & 077) != 0 || st.st_uid != geteuid()) {
        if (st.st_uid != geteuid()) {
            snprintf(todo, sizeof todo,
                     "run dekhand as user %u, or chown it to the user of dekhand; chmod 700 it",
                     (unsigned)st.st_uid);
        } else {
            snprintf(todo, sizeof todo, "chmod 700 %s", dir);
        }
        dk_report_tell(report, "state folder", DK_LEVEL_WARNING, todo,
                       "%s has mode %03o and owner %u: others may see, or replace, the database "
                       "and the anchor in it",
                       dir, (unsigned)(st.st_mode & 07777), (unsigned)st.st_uid);
    } else {
        dk_report_tell(report, "state folder", DK_LEVEL_OK, "", "%s, ours alone", dir);
    }
}

/* True too when that cannot be told. */
static bool registry_is_there(const struct dk_instance *d)
{
    struct dk_err ignored;
    bool exists = true;
    dk_err_clear(&ignored);
    if (d->core.store.ops == NULL) {
        return true;
    }
    dk_rc rc = d->core.store.ops->exists(d->core.store.self, &exists, &ignored);
    return rc != DK_OK || exists || dk_file_exists(d->places.anchor);
}

static void check_master_key(const struct dk_instance *d, struct dk_report *report)
{
    int fd = -1;
    struct dk_err err;
    const char *path = d->places.master_key;
    dk_err_clear(&err);
    if (dk_file_open_private(path, &fd, &err) == DK_OK) {
        close(fd);
        dk_report_tell(report, "master key", DK_LEVEL_OK, "",
                       "%s is there, ours alone: keep a copy of it away from copies of the "
                       "database",
                       path);
    } else if (err.rc == DK_E_NOT_FOUND && !registry_is_there(d)) {
        dk_report_tell(report, "master key", DK_LEVEL_NOTE, "",
                       "%s is not there, nor is a registry: the line of the registry says what to "
                       "do",
                       path);
    } else if (err.rc == DK_E_NOT_FOUND) {
        dk_report_tell(report, "master key", DK_LEVEL_ERROR,
                       "copy master.key there from its safe place, mode 0600; never make a new one",
                       "%s is not there: no key opens, and values stay closed until it is back",
                       path);
    } else {
        dk_report_tell(
            report, "master key", DK_LEVEL_ERROR,
            "make it the file of the user of dekhand, mode 0600, or run as that user; if "
            "others could read it: docs/OPERATIONS.md, A key leaked",
            "%s. It is refused, no key opens; nothing is lost", err.text);
    }
}

/* True when both lie in one folder: who puts back the one can put back the other. */
static bool beside(const char *anchor, const char *url)
{
    const char *colon = strchr(url, ':');
    const char *database = colon != NULL ? colon + 1 : url;
    const char *a = strrchr(anchor, '/'), *b = strrchr(database, '/');
    return a != NULL && b != NULL && a - anchor == b - database &&
           memcmp(anchor, database, (size_t)(a - anchor)) == 0;
}

static void check_trust(const struct dk_instance *d, struct dk_report *report)
{
    if (d->core.pin_wanted[0] == '\0') {
        dk_report_tell(report, "pin", DK_LEVEL_NOTE,
                       "set KMS_REGISTRY_PIN to what `dekhand registry show` prints",
                       "KMS_REGISTRY_PIN is not set: the registry key is trusted as first seen, "
                       "or as the anchor knows it");
    } else {
        dk_report_tell(report, "pin", DK_LEVEL_OK, "",
                       "KMS_REGISTRY_PIN is set, and is this registry's");
    }
    if (beside(d->places.anchor, d->places.database)) {
        dk_report_tell(report, "anchor place", DK_LEVEL_NOTE,
                       "set KMS_ANCHOR_FILE to another disk or folder",
                       "the anchor lies beside the database: who puts back an old copy of the "
                       "folder puts back both, and it is not noticed");
    }
}

/* ---- all of it ------------------------------------------------------------------------------- */

static void check_registry(struct dk_instance *d, struct dk_report *report)
{
    struct dk_core *core = &d->core;
    struct dk_key_counts counts;
    int64_t ignored = 0;
    check_trust(d, report);
    dk_checkup_provider(core, report, &ignored);
    dk_checkup_second(core, report);
    dk_checkup_store(core, report, &ignored);
    dk_checkup_circumstances(core, report);
    dk_checkup_integrity(core, report);
    dk_checkup_schema(core, report);
    dk_checkup_rows(core, report);
    dk_checkup_guard(core, report, &ignored);
    dk_checkup_seals(core, report);
    dk_checkup_expiry(core, report, &counts);
    dk_checkup_keys(core, report);
    dk_checkup_rotation(core, report, &ignored);
    dk_checkup_clock(core, report);
}

/* ---- opening --------------------------------------------------------------------------------- */

enum step { FINDING, WIRING, OPENING };

/* What mends an error at a step, where the step knows better than the error. */
static const struct {
    enum step step;
    dk_rc rc;
    const char *todo;
} mends[] = {
    {FINDING, DK_E_CONFIG,
     "if there was a registry, put its newest copy back, or correct KMS_STATE_DIR, DATABASE_URL or "
     "the user; only for the first one: `dekhand init`"},
    {WIRING, DK_E_CONFIG,
     "do what the text says of the setting or file; if master.key is damaged, copy it from its "
     "safe "
     "place, mode 0600; never make a new one"},
    {OPENING, DK_E_NO_MASTER_KEY,
     "copy the master key of this database here (one of AWS or Azure: name it in the settings), or "
     "put the database of this master key back; a new one opens nothing"},
    {OPENING, DK_E_TAMPERED,
     "put the newest copy of the right database back; for a pin, compare it with the one you wrote "
     "down: if it is another, correct KMS_REGISTRY_PIN; for an anchor: docs/OPERATIONS.md, "
     "E_TAMPERED"},
    {OPENING, DK_E_STORE,
     "look at its disk (`df`) and owner; if it is damaged, `dekhand doctor` names the table: keep "
     "the file, put the newest copy back (docs/OPERATIONS.md, An old copy)"},
};

static const char *mend_of(enum step step, dk_rc rc)
{
    for (size_t i = 0; i < sizeof mends / sizeof mends[0]; i++) {
        if (mends[i].step == step && mends[i].rc == rc) {
            return mends[i].todo;
        }
    }
    return dk_error_info(rc)->todo;
}

/* As dekhand_open() does it. */
static dk_rc open_registry(struct dk_instance *d, const struct dk_parts *parts,
                           struct dk_settings *settings, enum step *step, struct dk_err *err)
{
    *step = FINDING;
    DK_TRY(dk_door_check_initialised(d, err));
    *step = WIRING;
    DK_TRY(dk_door_open_provider(d, settings, parts, err));
    *step = OPENING;
    DK_TRY(dk_registry_open(&d->core, err));
    DK_TRY(dk_audit_open(&d->core, err));
    return dk_manager_open(&d->core, &d->manager, err);
}

struct faults {
    struct dk_report *report;
    int64_t count;
};

static void tell_fault(void *arg, const char *text)
{
    struct faults *faults = arg;
    faults->count++;
    dk_report_tell(faults->report, "settings", DK_LEVEL_ERROR,
                   "correct it, or take it out so that its default counts; docs/REFERENCE.md, "
                   "Settings, has what each may be",
                   "%s: %s. Nothing opens with these settings; nothing is lost",
                   dk_error_info(DK_E_CONFIG)->name, text);
}

/* Settings and what is made of them alone. A fault is told, and the others count all the same. */
static bool settle(struct dk_instance *d, const struct dekhand_config *config,
                   const struct dk_parts *parts, struct dk_settings *settings,
                   const struct dk_provider_ops **provider, struct dk_report *report)
{
    struct dk_err err;
    struct faults faults = {report, 0};
    dk_err_clear(&err);
    settings->fault = tell_fault;
    settings->fault_arg = &faults;
    dk_rc rc = dk_wire_settings(config, settings, &d->core.log, &err);
    rc = rc == DK_OK ? dk_wire_core(d, config, settings, parts, &err) : rc;
    dk_rc chosen = dk_wire_choose(settings, parts, provider, &err);
    rc = rc == DK_OK ? chosen : rc;
    if (rc == DK_E_CONFIG) {
        tell_fault(&faults, err.text);
    } else if (rc != DK_OK) {
        dk_report_error(report, "settings", &err, "Nothing opens with these settings");
    } else if (faults.count == 0) {
        dk_report_tell(report, "settings", DK_LEVEL_OK, "", "provider %s, database %s",
                       (*provider)->name, d->places.database);
    }
    return rc == DK_OK && faults.count == 0;
}

/* ---- the doctor ------------------------------------------------------------------------------ */

/* What can be said of the parts of a registry that does not open as a whole. */
static void check_parts(struct dk_instance *d, enum step step, struct dk_report *report)
{
    struct dk_txn txn;
    struct dk_err err;
    int64_t ignored = 0;
    dk_err_clear(&err);
    if (step == OPENING) {
        dk_checkup_provider(&d->core, report, &ignored);
    }
    dk_checkup_circumstances(&d->core, report);
    if (step != FINDING && dk_store_begin(&d->core.store, DK_TXN_READ, &txn, &err) == DK_OK) {
        dk_store_rollback(&txn);
        dk_checkup_integrity(&d->core, report);
        dk_checkup_schema(&d->core, report);
    }
}

static void examine(struct dk_instance *d, const struct dekhand_config *config,
                    const struct dk_parts *parts, struct dk_settings *settings,
                    struct dk_report *report)
{
    struct dk_err err;
    enum step step;
    const struct dk_provider_ops *provider = NULL;
    dk_err_clear(&err);
    check_user(report);
    check_core_files(report);
    bool settled = settle(d, config, parts, settings, &provider, report);
    if (d->memory.bytes > 0) {
        check_memory(d, dk_settings_int(settings, DK_OPT_CACHE_MAX_KEYS), report);
    }
    if (dk_wire_places(settings, &d->places, &err) == DK_OK) {
        check_state_dir(d, report);
    }
    if (provider == &dk_provider_local) {
        check_master_key(d, report);
    }
    if (!settled) {
        return;
    }
    if (open_registry(d, parts, settings, &step, &err) != DK_OK) {
        dk_report_tell(report, "registry", DK_LEVEL_ERROR, mend_of(step, err.rc),
                       "%s: %s. It does not open; nothing in it was changed",
                       dk_error_info(err.rc)->name, err.text);
        check_parts(d, step, report);
        return;
    }
    dk_report_tell(report, "registry", DK_LEVEL_OK, "", "%s opens", dk_registry_uuid(&d->core));
    check_registry(d, report);
}

/* ---- the health of what does not open -------------------------------------------------------- */

static void find_cause(struct dk_instance *d, const struct dekhand_config *config,
                       const struct dk_parts *parts, struct dk_settings *settings,
                       struct dk_report *report, struct dekhand_health *out)
{
    struct dk_err err;
    enum step step;
    const struct dk_provider_ops *provider = NULL;
    dk_err_clear(&err);
    bool settled = settle(d, config, parts, settings, &provider, report);
    snprintf(out->provider, sizeof out->provider, "%s", provider != NULL ? provider->name : "");
    if (!settled) {
        return;
    }
    if (open_registry(d, parts, settings, &step, &err) == DK_OK) {
        dk_report_tell(report, "registry", DK_LEVEL_WARNING, "run `dekhand health` again",
                       "it opens now; a moment ago it did not");
        out->database_level = DEKHAND_LEVEL_WARNING;
        return;
    }
    bool key = step == WIRING && provider == &dk_provider_local;
    bool holder = step == WIRING || err.rc == DK_E_PROVIDER || err.rc == DK_E_UNREACHABLE ||
                  err.rc == DK_E_THROTTLED || err.rc == DK_E_PROVIDER_DENIED ||
                  dk_revoked_is(err.rc);
    *(holder ? &out->provider_level : &out->database_level) = DEKHAND_LEVEL_ERROR;
    dk_report_tell(report,
                   key      ? "master key"
                   : holder ? "provider"
                            : "registry",
                   DK_LEVEL_ERROR, mend_of(step, err.rc), "%s: %s. %s", dk_error_info(err.rc)->name,
                   err.text,
                   holder ? "No key opens, no value is encrypted or decrypted; nothing is lost"
                          : "It does not open; nothing in it was changed");
}

/* ---- the door -------------------------------------------------------------------------------- */

/* An instance that nothing of its wiring is known of yet; NULL: no memory. */
static struct dk_instance *begin(const struct dekhand_config *config, const struct dk_parts *parts,
                                 const struct dk_mem **mem, struct dk_settings *settings)
{
    *mem = parts->world != NULL ? &parts->world->mem : &dk_mem_default;
    struct dk_instance *d = dk_mem_zalloc(*mem, sizeof *d);
    if (d != NULL) {
        dk_wire_log(d, config);
        dk_settings_init(settings, *mem);
    }
    return d;
}

static void end(struct dk_instance *d, const struct dk_mem *mem, struct dk_settings *settings)
{
    dk_manager_abandon(d->manager);
    dk_settings_clear(settings);
    dk_wire_close(d);
    dk_mem_free(mem, d);
}

int dekhand_health_closed(const struct dekhand_config *config,
                          void (*each)(void *arg, const struct dekhand_check *check), void *arg,
                          struct dekhand_health *out, struct dekhand_error *error)
{
    static const struct dk_parts real;
    struct dk_err err;
    struct dk_settings settings;
    const struct dk_mem *mem;
    struct dk_check_call call = {each, arg};
    struct dk_report report = {.each = dk_door_tell_check, .arg = &call, .thorough = true};
    struct dekhand_health health = {.size = sizeof health, .cache_hit_rate = -1};
    dk_err_clear(&err);
    config = config != NULL ? config : &plain;
    if (out == NULL || out->size != sizeof *out) {
        return dk_door_leave(DK_FAIL(&err, USAGE, "dekhand_health.size is not %zu", sizeof *out),
                             &err, error);
    }
    struct dk_instance *d = begin(config, &real, &mem, &settings);
    if (d == NULL) {
        return dk_door_leave(DK_FAIL(&err, NOMEM, "no memory to open"), &err, error);
    }
    find_cause(d, config, &real, &settings, &report, &health);
    health.at = dk_wall_us(d->core.world != NULL ? d->core.world : &dk_world_default);
    health.level = (enum dekhand_level)report.level;
    end(d, mem, &settings);
    *out = health;
    return dk_door_leave(DK_OK, &err, error);
}

int dk_door_doctor(const struct dekhand_config *config, const struct dk_parts *parts,
                   void (*each)(void *arg, const struct dekhand_check *check), void *arg,
                   struct dekhand_doctor_result *out, struct dekhand_error *error)
{
    struct dk_err err;
    struct dk_settings settings;
    const struct dk_mem *mem;
    struct dk_check_call call = {each, arg};
    struct dk_report report = {.each = dk_door_tell_check, .arg = &call, .thorough = true};
    dk_err_clear(&err);
    config = config != NULL ? config : &plain;
    if (out == NULL || out->size != sizeof *out) {
        return dk_door_leave(
            DK_FAIL(&err, USAGE, "dekhand_doctor_result.size is not %zu", sizeof *out), &err,
            error);
    }
    struct dk_instance *d = begin(config, parts, &mem, &settings);
    if (d == NULL) {
        return dk_door_leave(DK_FAIL(&err, NOMEM, "no memory to open"), &err, error);
    }
    examine(d, config, parts, &settings, &report);
    end(d, mem, &settings);
    const int64_t *count = report.count;
    *out =
        (struct dekhand_doctor_result){.size = sizeof *out,
                                       .checks = count[DK_LEVEL_OK] + count[DK_LEVEL_NOTE] +
                                                 count[DK_LEVEL_WARNING] + count[DK_LEVEL_ERROR],
                                       .notes = count[DK_LEVEL_NOTE],
                                       .findings = count[DK_LEVEL_WARNING] + count[DK_LEVEL_ERROR]};
    return dk_door_leave(DK_OK, &err, error);
}

int dekhand_doctor(const struct dekhand_config *config,
                   void (*each)(void *arg, const struct dekhand_check *check), void *arg,
                   struct dekhand_doctor_result *out, struct dekhand_error *error)
{
    static const struct dk_parts real;
    return dk_door_doctor(config, &real, each, arg, out, error);
}

/* ---- rights ---------------------------------------------------------------------------------- */

static dk_rc make_policy(struct dk_instance *d, const struct dekhand_config *config,
                         struct dk_settings *settings, struct dk_buf *out, struct dk_err *err)
{
    static const struct dk_parts real;
    DK_TRY(dk_wire_settings(config, settings, &d->core.log, err));
    DK_TRY(dk_wire_core(d, config, settings, &real, err));
    DK_TRY(dk_wire_provider(d, settings, &real, err));
    return dk_provider_policy(d->core.provider, out, err);
}

#define POLICY_MAX 8192

int dekhand_provider_policy(const struct dekhand_config *config,
                            void (*put)(void *arg, const char *text, size_t length), void *arg,
                            struct dekhand_error *error)
{
    static const struct dk_parts real;
    struct dk_err err;
    struct dk_settings settings;
    struct dk_buf text;
    const struct dk_mem *mem;
    dk_err_clear(&err);
    config = config != NULL ? config : &plain;
    if (put == NULL) {
        return dk_door_leave(DK_FAIL(&err, USAGE, "no function for the text"), &err, error);
    }
    struct dk_instance *d = begin(config, &real, &mem, &settings);
    if (d == NULL) {
        return dk_door_leave(DK_FAIL(&err, NOMEM, "no memory to open"), &err, error);
    }
    dk_buf_init(&text, mem, POLICY_MAX);
    dk_rc rc = make_policy(d, config, &settings, &text, &err);
    end(d, mem, &settings);
    if (rc == DK_OK) {
        put(arg, (const char *)text.p, text.n);
    }
    dk_buf_clear(&text);
    return dk_door_leave(rc, &err, error);
}
