#include "keys/checkup.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include "base/file.h"
#include "keys/anchor.h"
#include "keys/audit.h"
#include "keys/inspect.h"
#include "keys/registry.h"
#include "keys/states.h"

#define TEXT 900
#define FAILURES_MAX 1000    /* failed rotations looked at */
#define LATENCY_ALERT_MS 500 /* the guide's alert threshold */
#define CLOCK_SLACK_US (INT64_C(300) * 1000000)
#define WEEK_US (7 * DK_DAY_US)
#define ADVICE 320

/* One check is one line, and steers no terminal, whatever another program put into a text. */
static void keep_one_line(char *text)
{
    for (; *text != '\0'; text++) {
        bool control = (unsigned char)*text < 0x20 || *text == 0x7F;
        *text = *text == '\n' ? ' ' : control ? '?' : *text;
    }
}

void dk_report_tell(struct dk_report *report, const char *name, enum dk_level level,
                    const char *todo, const char *format, ...)
{
    char text[TEXT];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    keep_one_line(text);
    struct dk_check check = {name, level, text, todo};
    report->count[level]++;
    report->level = level > report->level ? level : report->level;
    report->each(report->arg, &check);
}

void dk_report_error(struct dk_report *report, const char *name, const struct dk_err *err,
                     const char *meaning)
{
    const struct dk_error_info *info = dk_error_info(err->rc);
    dk_report_tell(report, name, DK_LEVEL_ERROR, info->todo, "%s: %s. %s", info->name,
                   err->text[0] != '\0' ? err->text : info->text, meaning);
}

/* The day of a moment: what a person wants to read first. */
struct day {
    char text[11];
};

static struct day day_of(int64_t us)
{
    char whole[DK_TIME_TEXT];
    struct day day;
    dk_time_format(us, whole);
    snprintf(day.text, sizeof day.text, "%.10s", whole);
    return day;
}

static const char *plural(int64_t n)
{
    return n == 1 ? "" : "s";
}

/* ---- provider and store ---------------------------------------------------------------------- */

_Static_assert((int)DK_PROVIDER_ERROR == (int)DK_LEVEL_ERROR &&
                   (int)DK_PROVIDER_NOTE == (int)DK_LEVEL_NOTE,
               "levels");

static void tell_of_key(void *arg, enum dk_provider_level level, const char *text, const char *todo)
{
    dk_report_tell(arg, "master key", (enum dk_level)level, todo, "%s", text);
}

/* After a canary that ended with `rc`: who does not answer is not asked again. */
static void check_master_key(struct dk_core *core, dk_rc rc, struct dk_report *report)
{
    struct dk_provider_tell tell = {tell_of_key, report, report->thorough};
    if (rc == DK_OK || rc == DK_E_PROVIDER_DENIED || dk_revoked_is(rc)) {
        dk_provider_inspect(core->provider, &tell);
    }
}

bool dk_checkup_provider(struct dk_core *core, struct dk_report *report, int64_t *latency_ms)
{
    struct dk_err err;
    const char *name = dk_provider_name(core->provider);
    int64_t began = dk_mono_ms(core->world);
    dk_err_clear(&err);
    dk_rc rc = dk_provider_test(core->provider, &err);
    *latency_ms = dk_mono_ms(core->world) - began;
    if (rc != DK_OK) {
        dk_report_error(report, "provider", &err,
                        "Keys in memory serve until the hard limit (KMS_CACHE_HARD_TTL_SECONDS); "
                        "no other value opens, no key is made or rotated. Nothing is lost");
        check_master_key(core, rc, report);
        return false;
    }
    if (*latency_ms > LATENCY_ALERT_MS) {
        dk_report_tell(report, "provider", DK_LEVEL_WARNING,
                       "look at the network to the provider and at its status page",
                       "%s took %lld ms to make and open a canary, more than %d: first use of a "
                       "tenant and cold reads are slow",
                       name, (long long)*latency_ms, LATENCY_ALERT_MS);
    } else {
        dk_report_tell(report, "provider", DK_LEVEL_OK, "",
                       "%s wrapped and unwrapped a canary (%lld ms)", name, (long long)*latency_ms);
    }
    check_master_key(core, rc, report);
    return true;
}

/* A write that is rolled back: what a rotation would meet. */
static dk_rc try_to_write(struct dk_core *core, struct dk_err *err)
{
    struct dk_txn txn;
    DK_TRY(dk_store_begin(&core->store, DK_TXN_WRITE, &txn, err));
    dk_store_rollback(&txn);
    return DK_OK;
}

/* Of the registry, and of a tenant, whom no other check of the health reads. */
static dk_rc read_a_row(struct dk_txn *txn, struct dk_registry_row *row, struct dk_err *err)
{
    struct dk_tenant_row tenant;
    size_t count = 0;
    DK_TRY(txn->ops->registry_read(txn->self, row, err));
    return txn->ops->tenant_list(txn->self, "", 1, &tenant, &count, err);
}

bool dk_checkup_store(struct dk_core *core, struct dk_report *report, int64_t *latency_ms)
{
    struct dk_err err;
    struct dk_registry_row row;
    int64_t began = dk_mono_ms(core->world);
    struct dk_txn txn;
    dk_err_clear(&err);
    dk_rc rc = dk_store_begin(&core->store, DK_TXN_READ, &txn, &err);
    if (rc == DK_OK) {
        rc = read_a_row(&txn, &row, &err);
        dk_store_rollback(&txn);
    }
    if (rc != DK_OK) {
        dk_report_error(report, "database", &err,
                        "Keys in memory serve until the hard limit; nothing else opens");
        return false;
    }
    *latency_ms = dk_mono_ms(core->world) - began;
    if (try_to_write(core, &err) != DK_OK) {
        const struct dk_error_info *info = dk_error_info(err.rc);
        dk_report_tell(report, "database", DK_LEVEL_WARNING, info->todo,
                       "it can be read, not written (%s: %s): values open, new tenants and "
                       "rotations fail, unwraps are not written down",
                       info->name, err.text);
        return true;
    }
    dk_report_tell(report, "database", DK_LEVEL_OK, "", "it reads and takes writes (%lld ms)",
                   (long long)*latency_ms);
    return true;
}

/* ---- expiry ---------------------------------------------------------------------------------- */

static bool take_first(void *arg, const struct dk_key_row *row)
{
    *(struct dk_key_row *)arg = *row;
    return false;
}

static dk_rc read_expiry(struct dk_core *core, int64_t now, struct dk_key_counts *counts,
                         struct dk_key_row *expired, struct dk_key_row *near, struct dk_err *err)
{
    struct dk_txn txn;
    int64_t soon = now + core->limits.warning_us;
    DK_TRY(dk_store_begin(&core->store, DK_TXN_READ, &txn, err));
    dk_rc rc = txn.ops->key_counts(txn.self, now, soon, counts, err);
    if (rc == DK_OK && counts->expired > 0) {
        rc = txn.ops->key_expiring(txn.self, 0, now, take_first, expired, err);
    }
    if (rc == DK_OK && counts->near_expiry > 0) {
        rc = txn.ops->key_expiring(txn.self, now + 1, soon, take_first, near, err);
    }
    dk_store_rollback(&txn);
    return rc;
}

static void tell_expiry(struct dk_core *core, struct dk_report *report,
                        const struct dk_key_counts *counts, const struct dk_key_row *expired,
                        const struct dk_key_row *near)
{
    int64_t days = core->limits.warning_us / DK_DAY_US;
    if (counts->expired > 0) {
        dk_report_tell(report, "keys", DK_LEVEL_ERROR,
                       "run `dekhand rotate --due` now, and see that it runs every day",
                       "%lld active key%s past the rotation date, the first since %s (tenant %s, "
                       "version %u): encryption goes on until a key is two years old, nothing is "
                       "lost, but the rotation promised is not kept",
                       (long long)counts->expired, counts->expired == 1 ? " is" : "s are",
                       day_of(expired->expires_at).text, expired->tenant.s, expired->version);
    }
    if (counts->near_expiry > 0) {
        dk_report_tell(report, "keys", DK_LEVEL_WARNING,
                       "run `dekhand rotate --due`, and see that it runs every day",
                       "%lld active key%s within %lld days, the first on %s (tenant %s, version "
                       "%u): a daily rotation would have renewed %s",
                       (long long)counts->near_expiry,
                       counts->near_expiry == 1 ? " expires" : "s expire", (long long)days,
                       day_of(near->expires_at).text, near->tenant.s, near->version,
                       counts->near_expiry == 1 ? "it" : "them");
    }
    if (counts->expired == 0 && counts->near_expiry == 0) {
        dk_report_tell(report, "keys", DK_LEVEL_OK, "",
                       "%lld key version%s, %lld active, none expires within %lld days",
                       (long long)counts->total, plural(counts->total), (long long)counts->active,
                       (long long)days);
    }
}

void dk_checkup_expiry(struct dk_core *core, struct dk_report *report, struct dk_key_counts *counts)
{
    struct dk_err err;
    struct dk_key_row *rows = dk_mem_alloc(&core->world->mem, 2 * sizeof *rows);
    dk_err_clear(&err);
    *counts = (struct dk_key_counts){0};
    dk_rc rc = rows == NULL
                   ? DK_FAIL(&err, NOMEM, "no memory for two rows")
                   : read_expiry(core, dk_wall_us(core->world), counts, &rows[0], &rows[1], &err);
    if (rc != DK_OK) {
        dk_report_error(report, "keys", &err, "Which keys expire is not known");
    } else {
        tell_expiry(core, report, counts, &rows[0], &rows[1]);
    }
    dk_mem_free(&core->world->mem, rows);
}

/* ---- rotations that failed ------------------------------------------------------------------- */

struct failures {
    struct dk_core *core;
    struct dk_txn *txn;
    struct dk_log_row newest;
    int64_t first_at;
    int64_t count;
    size_t looked_at;
    char last[DK_TENANT_MAX + 1]; /* failures of one tenant in a row count once */
};

/* A version that was made after the failure made it good. */
static bool was_made_good(struct failures *failures, const struct dk_log_row *row)
{
    struct dk_tenant tenant;
    struct dk_key_row active;
    struct dk_err ignored;
    dk_err_clear(&ignored);
    return dk_tenant_parse(dk_view_str(row->tenant), &tenant, &ignored) == DK_OK &&
           failures->txn->ops->key_read_active(failures->txn->self, &tenant, &active, &ignored) ==
               DK_OK &&
           active.created_at > row->performed_at;
}

static bool see_failure(void *arg, const struct dk_log_row *row)
{
    struct failures *failures = arg;
    if (strcmp(row->operation, "rotate") != 0) {
        return true;
    }
    if (!was_made_good(failures, row)) {
        if (failures->count == 0) {
            failures->newest = *row;
        }
        failures->first_at = row->performed_at;
        failures->count += strcmp(failures->last, row->tenant) != 0;
        snprintf(failures->last, sizeof failures->last, "%s", row->tenant);
    }
    return ++failures->looked_at < FAILURES_MAX;
}

void dk_checkup_rotation(struct dk_core *core, struct dk_report *report, int64_t *failed)
{
    struct dk_err err;
    struct dk_txn txn;
    struct failures failures = {.core = core, .txn = &txn};
    struct dk_log_query query = {.since = dk_wall_us(core->world) - WEEK_US,
                                 .until = DK_TIME_NONE,
                                 .newest_first = true,
                                 .failed = true};
    dk_err_clear(&err);
    dk_rc rc = dk_store_begin(&core->store, DK_TXN_READ, &txn, &err);
    if (rc == DK_OK) {
        rc = txn.ops->log_walk(txn.self, &query, see_failure, &failures, &err);
        dk_store_rollback(&txn);
    }
    *failed = failures.count;
    if (rc != DK_OK) {
        dk_report_error(report, "rotation", &err, "Whether rotations failed is not known");
    } else if (failures.count > 0) {
        dk_report_tell(report, "rotation", DK_LEVEL_WARNING,
                       "mend the cause, then `dekhand rotate --tenant T`; `dekhand audit list "
                       "--operation rotate` has all of them",
                       "the rotation of %lld tenant%s failed and was not made good, first on %s, "
                       "last of %s: %s. The old version goes on encrypting; nothing is lost",
                       (long long)failures.count, plural(failures.count),
                       day_of(failures.first_at).text, failures.newest.tenant,
                       failures.newest.error_message);
    } else {
        dk_report_tell(report, "rotation", DK_LEVEL_OK, "",
                       "no rotation of the last 7 days failed and was left so");
    }
}

/* ---- the guard ------------------------------------------------------------------------------- */

static dk_rc read_newest_seal(struct dk_core *core, struct dk_seal_row *out, struct dk_err *err)
{
    struct dk_txn txn;
    DK_TRY(dk_store_begin(&core->store, DK_TXN_READ, &txn, err));
    dk_rc rc = txn.ops->seal_newest(txn.self, out, err);
    dk_store_rollback(&txn);
    return rc;
}

static void tell_older(struct dk_core *core, struct dk_report *report)
{
    struct dk_err ignored;
    struct dk_seal_row newest = {.n = 0};
    char todo[ADVICE], at[DK_TIME_TEXT] = "a time that cannot be read";
    dk_err_clear(&ignored);
    if (read_newest_seal(core, &newest, &ignored) == DK_OK && newest.n > 0) {
        dk_time_format(newest.at, at);
    }
    snprintf(todo, sizeof todo,
             "put the newest copy of the database back; if there is none: `dekhand registry show`, "
             "then `dekhand registry accept-restore --confirm %s`",
             dk_registry_uuid(core));
    dk_report_tell(report, "anchor", DK_LEVEL_ERROR, todo,
                   "the registry, last changed %s, is older than %s knows it: an old copy was put "
                   "back. What its versions sealed opens, nothing is encrypted, and values sealed "
                   "under later versions do not open until the newest copy is back",
                   at, core->anchor_path);
}

/* The anchor is replaced, not written to: it is the folder that has to take a file. */
static bool anchor_folder_takes_files(const char *path)
{
    char folder[DK_PATH_MAX];
    snprintf(folder, sizeof folder, "%s", path);
    char *slash = strrchr(folder, '/');
    if (slash == NULL) {
        return faccessat(AT_FDCWD, ".", W_OK | X_OK, AT_EACCESS) == 0;
    }
    slash[slash == folder] = '\0';
    return faccessat(AT_FDCWD, folder, W_OK | X_OK, AT_EACCESS) == 0;
}

void dk_checkup_guard(struct dk_core *core, struct dk_report *report, int64_t *anchored)
{
    struct dk_err err;
    struct dk_anchor anchor;
    dk_err_clear(&err);
    *anchored = 0;
    if (dk_audit_check(core, &err) != DK_OK) {
        tell_older(core, report);
        return;
    }
    if (dk_anchor_read(&core->suite, core->anchor_path, &anchor, &err) != DK_OK) {
        dk_report_error(report, "anchor", &err, "An old copy of the database would not be known");
        return;
    }
    *anchored = anchor.seal.n;
    if (!anchor_folder_takes_files(core->anchor_path)) {
        dk_report_tell(report, "anchor", DK_LEVEL_WARNING,
                       "make its folder one that the user of dekhand can write to, or correct "
                       "KMS_ANCHOR_FILE",
                       "%s cannot be %s: after a restart %s copy of the database would be taken "
                       "for the present",
                       core->anchor_path, anchor.seal.n == 0 ? "made" : "renewed",
                       anchor.seal.n == 0 ? "any old" : "an old, but younger,");
    } else if (anchor.seal.n == 0) {
        dk_report_tell(report, "anchor", DK_LEVEL_NOTE,
                       "set KMS_ANCHOR_FILE to a place that outlives the process",
                       "there is none at %s: an old copy of the database would be taken for the "
                       "present after a restart",
                       core->anchor_path);
    } else {
        dk_report_tell(report, "anchor", DK_LEVEL_OK, "",
                       "the registry holds seal %lld, which %s knows", (long long)anchor.seal.n,
                       core->anchor_path);
    }
}

/* ---- marks, budgets, ages -------------------------------------------------------------------- */

/* What may be wrong with one active version, beside its expiry. */
enum trouble { COMPROMISED, OLD, EXHAUSTED, FULL, FUTURE, TROUBLES };

static const struct {
    enum dk_level level;
    const char
        *text; /* after "<count> active key(s), the first of tenant <t>, version <v> ...: " */
} troubles[TROUBLES] = {
    [COMPROMISED] = {DK_LEVEL_ERROR, "marked compromised, without a newer version: the tenant "
                                     "cannot encrypt; its values open"},
    [OLD] = {DK_LEVEL_ERROR, "older than two years: the tenant cannot encrypt; its values open"},
    [EXHAUSTED] = {DK_LEVEL_ERROR, "out of messages: the tenant cannot encrypt; its values open"},
    [FULL] = {DK_LEVEL_WARNING, "near the message budget: it is rotated early by a process that "
                                "encrypts, or by hand; nothing is lost"},
    [FUTURE] = {DK_LEVEL_WARNING, "made in the future: the clock was ahead then, or is behind now; "
                                  "it is due too late, nothing is lost"},
};

struct ages {
    struct dk_core *core;
    int64_t now;
    int64_t count[TROUBLES];
    struct dk_tenant first[TROUBLES];
    uint32_t version[TROUBLES];
    int64_t made_at[TROUBLES];
    int64_t active;
};

static enum trouble trouble_of(const struct ages *ages, const struct dk_key_row *row)
{
    const struct dk_limits *limits = &ages->core->limits;
    return row->compromised_at != DK_TIME_NONE               ? COMPROMISED
           : ages->now - row->created_at > DK_ENCRYPT_MAX_US ? OLD
           : row->messages >= limits->encrypt_messages       ? EXHAUSTED
           : row->messages >= limits->rotate_messages        ? FULL
           : row->created_at > ages->now + CLOCK_SLACK_US    ? FUTURE
                                                             : TROUBLES;
}

static bool see_age(void *arg, const struct dk_key_row *row, dk_rc rc)
{
    struct ages *ages = arg;
    if (rc != DK_OK || row->state != DK_ACTIVE) {
        return true; /* a row that is not believed is told by dk_checkup_rows */
    }
    ages->active++;
    enum trouble trouble = trouble_of(ages, row);
    if (trouble != TROUBLES && ages->count[trouble]++ == 0) {
        ages->first[trouble] = row->tenant;
        ages->version[trouble] = row->version;
        ages->made_at[trouble] = row->created_at;
    }
    return true;
}

void dk_checkup_keys(struct dk_core *core, struct dk_report *report)
{
    struct dk_err err;
    struct ages ages = {.core = core, .now = dk_wall_us(core->world)};
    bool any = false;
    dk_err_clear(&err);
    if (dk_inspect_keys(core, NULL, see_age, &ages, &err) != DK_OK) {
        dk_report_error(report, "budget", &err, "Budgets and marks of the keys are not known");
        return;
    }
    for (int i = 0; i < TROUBLES; i++) {
        if (ages.count[i] > 0) {
            any = true;
            dk_report_tell(
                report, "budget", troubles[i].level,
                i == FUTURE
                    ? "see that the clock is right (NTP), then run `dekhand rotate --tenant T`"
                    : "run `dekhand rotate --tenant T`, for all of them `dekhand rotate "
                      "--due`",
                "%lld active key%s, the first of tenant %s, version %u, made on %s: %s",
                (long long)ages.count[i], plural(ages.count[i]), ages.first[i].s, ages.version[i],
                day_of(ages.made_at[i]).text, troubles[i].text);
        }
    }
    if (!any) {
        dk_report_tell(report, "budget", DK_LEVEL_OK, "",
                       "%lld active key%s within message budget and age, none compromised",
                       (long long)ages.active, plural(ages.active));
    }
}

/* ---- the clock ------------------------------------------------------------------------------- */

void dk_checkup_clock(struct dk_core *core, struct dk_report *report)
{
    struct dk_err err;
    struct dk_seal_row newest = {.n = 0};
    int64_t now = dk_wall_us(core->world);
    char text[DK_TIME_TEXT], sealed[DK_TIME_TEXT];
    dk_err_clear(&err);
    dk_rc rc = read_newest_seal(core, &newest, &err);
    dk_time_format(now, text);
    if (rc != DK_OK) {
        dk_report_error(report, "clock", &err, "The clock could not be compared");
    } else if (newest.n > 0 && newest.at > now + CLOCK_SLACK_US) {
        dk_time_format(newest.at, sealed);
        dk_report_tell(report, "clock", DK_LEVEL_ERROR,
                       "set the clock (NTP) of this machine, or of the one that wrote last",
                       "this machine says %s, the newest change was written at %s: one of the two "
                       "clocks is wrong. Keys are due too early or too late; nothing is lost",
                       text, sealed);
    } else {
        dk_report_tell(report, "clock", DK_LEVEL_OK, "", "%s, not before the newest change", text);
    }
}
