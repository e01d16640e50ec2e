/* From settings to an instance's parts: places, limits, log, provider, store. */
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "door.h"
#include "keys/audit.h"
#include "keys/registry.h"
#include "provider/previous.h"

extern char **environ;

/* ---- settings -------------------------------------------------------------------------------- */

static void warn_unknown(void *arg, const char *name, const char *suggestion)
{
    DK_LOG((const struct dk_log *)arg, WARN, "unknown_setting", DK_LOG_S(SETTING, name),
           DK_LOG_S(REASON, suggestion != NULL ? suggestion : "no setting of dekhand"));
}

static void log_to_caller(void *arg, enum dk_log_level level, const char *line, size_t n)
{
    const struct dk_instance *d = arg;
    d->log(d->log_arg, (enum dekhand_log_level)level, line, n);
}

void dk_wire_log(struct dk_instance *d, const struct dekhand_config *config)
{
    d->log = config->log;
    d->log_arg = config->log_arg;
    d->core.log.clock = &dk_world_default.clock;
    d->core.log.min = DK_LOG_WARN;
    d->core.log.sink = config->log != NULL ? log_to_caller : dk_log_to_stderr;
    d->core.log.arg = d;
}

dk_rc dk_wire_settings(const struct dekhand_config *config, struct dk_settings *out,
                       struct dk_log *log, struct dk_err *err)
{
    if (config->size != sizeof *config) {
        return DK_FAIL(err, USAGE, "dekhand_config.size is %zu, not %zu", config->size,
                       sizeof *config);
    }
    for (size_t i = 0; i < config->fault_count; i++) {
        if (out->fault == NULL) {
            return DK_FAIL(err, CONFIG, "%s", config->faults[i]);
        }
        out->fault(out->fault_arg, config->faults[i]);
    }
    if (!config->ignore_environment) {
        DK_TRY(dk_settings_read_environment(out, environ, warn_unknown, log, err));
    }
    if (config->settings == NULL && config->setting_count > 0) {
        return DK_FAIL(err, USAGE, "settings of NULL with a count");
    }
    for (size_t i = 0; i < config->setting_count; i++) {
        const struct dekhand_setting *setting = &config->settings[i];
        if (setting->name == NULL || setting->value == NULL) {
            return DK_FAIL(err, USAGE, "a setting without name or value");
        }
        DK_TRY(dk_settings_set(out, setting->name, setting->value, DK_FROM_FLAG, err));
    }
    return DK_OK;
}

/* ---- places ---------------------------------------------------------------------------------- */

static dk_rc find_anchor(const struct dk_settings *settings, struct dk_places *out,
                         struct dk_err *err)
{
    const char *set = dk_settings_str(settings, DK_OPT_ANCHOR_FILE);
    if (set == NULL) {
        return dk_path_join(out->anchor, out->state_dir, "anchor", err);
    }
    int n = snprintf(out->anchor, sizeof out->anchor, "%s", set);
    return n < DK_PATH_MAX - 8 ? DK_OK : DK_FAIL(err, CONFIG, "KMS_ANCHOR_FILE is too long");
}

static dk_rc take_url(const char *url, const char *setting, struct dk_places *out,
                      struct dk_err *err)
{
    int n = snprintf(out->database_url, sizeof out->database_url, "%s", url);
    if ((size_t)n >= sizeof out->database_url) {
        return DK_FAIL(err, CONFIG, "%s is too long", setting);
    }
    dk_url_shown(out->database_url, out->database, sizeof out->database);
    return DK_OK;
}

/* The state directory is looked for only where the database lies in it. */
static dk_rc find_database(const struct dk_settings *settings, struct dk_places *out,
                           struct dk_err *err)
{
    char file[DK_PATH_MAX], url[sizeof out->database_url];
    const char *set = dk_settings_str(settings, DK_OPT_DATABASE_URL);
    if (set != NULL) {
        return take_url(set, "DATABASE_URL", out, err);
    }
    DK_TRY(dk_settings_state_dir(settings, out->state_dir, err));
    DK_TRY(dk_path_join(file, out->state_dir, "dekhand.db", err));
    snprintf(url, sizeof url, "sqlite:%s", file);
    return take_url(url, "KMS_STATE_DIR", out, err);
}

dk_rc dk_wire_migrate_place(const struct dk_settings *settings, struct dk_places *out,
                            struct dk_err *err)
{
    const char *set = dk_settings_str(settings, DK_OPT_MIGRATE_URL);
    return set != NULL ? take_url(set, "KMS_MIGRATE_URL", out, err)
                       : find_database(settings, out, err);
}

dk_rc dk_wire_places(const struct dk_settings *settings, struct dk_places *out, struct dk_err *err)
{
    DK_TRY(dk_settings_state_dir(settings, out->state_dir, err));
    DK_TRY(dk_path_join(out->master_key, out->state_dir, "master.key", err));
    DK_TRY(find_anchor(settings, out, err));
    return find_database(settings, out, err);
}

/* ---- limits and identity --------------------------------------------------------------------- */

static dk_rc read_ttls(const struct dk_settings *settings, struct dk_limits *limits,
                       struct dk_err *err)
{
    int64_t soft = dk_settings_int(settings, DK_OPT_CACHE_TTL_SECONDS);
    int64_t hard = dk_settings_int(settings, DK_OPT_CACHE_HARD_TTL_SECONDS);
    if (hard < soft && dk_settings_is_set(settings, DK_OPT_CACHE_HARD_TTL_SECONDS)) {
        return DK_FAIL(err, CONFIG,
                       "KMS_CACHE_HARD_TTL_SECONDS: %lld is below KMS_CACHE_TTL_SECONDS (%lld)",
                       (long long)hard, (long long)soft);
    }
    limits->ttl_ms = soft * 1000;
    limits->hard_ttl_ms = (hard < soft ? soft : hard) * 1000;
    return DK_OK;
}

static dk_rc read_limits(const struct dk_settings *settings, struct dk_limits *limits,
                         struct dk_err *err)
{
    int64_t rotation = dk_settings_int(settings, DK_OPT_ROTATION_DAYS);
    int64_t warning = dk_settings_int(settings, DK_OPT_WARNING_DAYS);
    if (warning >= rotation && dk_settings_is_set(settings, DK_OPT_WARNING_DAYS) && warning > 0) {
        return DK_FAIL(err, CONFIG,
                       "KMS_WARNING_DAYS: %lld is not below KMS_ROTATION_DAYS (%lld): every key "
                       "would be due at once",
                       (long long)warning, (long long)rotation);
    }
    warning = warning < rotation ? warning : rotation - 1;
    limits->rotation_us = rotation * DK_DAY_US;
    limits->warning_us = warning * DK_DAY_US;
    limits->poll_ms = dk_settings_int(settings, DK_OPT_POLL_SECONDS) * 1000;
    limits->lease_ms = dk_settings_int(settings, DK_OPT_LEASE_SECONDS) * 1000;
    if (limits->lease_ms <= limits->poll_ms) {
        return DK_FAIL(err, CONFIG,
                       "KMS_LEASE_SECONDS (%lld) is not above KMS_POLL_SECONDS (%lld): the lease "
                       "would be over before it is renewed",
                       (long long)limits->lease_ms / 1000, (long long)limits->poll_ms / 1000);
    }
    limits->canary_us = dk_settings_int(settings, DK_OPT_CANARY_HOURS) * 3600 * 1000000;
    limits->max_keys = (size_t)dk_settings_int(settings, DK_OPT_CACHE_MAX_KEYS);
    return read_ttls(settings, limits, err);
}

static dk_rc read_pin(const struct dk_settings *settings, char *out, struct dk_err *err)
{
    const char *pin = dk_settings_str(settings, DK_OPT_REGISTRY_PIN);
    uint8_t bytes[32];
    if (pin == NULL) {
        return DK_OK;
    }
    if (!dk_hex_decode(pin, strlen(pin), bytes, sizeof bytes)) {
        return DK_FAIL(err, CONFIG, "KMS_REGISTRY_PIN is not 64 hex digits");
    }
    dk_hex_encode(bytes, sizeof bytes, out);
    return DK_OK;
}

static dk_rc read_log(const struct dk_settings *settings, struct dk_log *log, struct dk_err *err)
{
    const char *form = dk_settings_str(settings, DK_OPT_LOG);
    const char *debug = dk_settings_str(settings, DK_OPT_DEBUG);
    if (strcmp(form, "json") != 0 && strcmp(form, "text") != 0) {
        return DK_FAIL(err, CONFIG, "KMS_LOG: it is neither text nor json");
    }
    log->format = strcmp(form, "json") == 0 ? DK_LOG_JSON : DK_LOG_TEXT;
    log->kms_audit = debug != NULL && dk_debug_asks_for_kms(debug);
    return DK_OK;
}

/* The kernel takes any bytes as a name; lines of seals end names at a blank (docs/FORMAT.md 13). */
static void read_host(struct dk_core *core)
{
    if (gethostname(core->host, sizeof core->host - 1) != 0 || core->host[0] == '\0') {
        snprintf(core->host, sizeof core->host, "unknown");
    }
    for (char *p = core->host; *p != '\0'; p++) {
        bool plain = (*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') ||
                     (*p >= '0' && *p <= '9') || *p == '-' || *p == '.' || *p == '_';
        *p = plain ? *p : '_';
    }
}

static void read_identity(struct dk_core *core, const char *actor)
{
    char buffer[1024];
    struct passwd entry, *found = NULL;
    read_host(core);
    if (actor != NULL) {
        snprintf(core->actor, sizeof core->actor, "%s", actor);
        return;
    }
    if (getpwuid_r(geteuid(), &entry, buffer, sizeof buffer, &found) == 0 && found != NULL) {
        snprintf(core->actor, sizeof core->actor, "lib:%.100s", found->pw_name);
    } else {
        snprintf(core->actor, sizeof core->actor, "lib:%u", (unsigned)geteuid());
    }
}

/* ---- the core -------------------------------------------------------------------------------- */

/*
 * OpenSSL's generator has locks that a fork may copy while another thread holds them: a child
 * would wait for ever. Calls under way are counted, so that it can be told instead.
 */
static int counted_fill(void *arg, uint8_t *p, size_t n)
{
    struct dk_instance *d = arg;
    atomic_fetch_add(&d->in_random, 1);
    int ok = d->random.fill(d->random.arg, p, n);
    atomic_fetch_sub(&d->in_random, 1);
    return ok;
}

static int counted_fill_private(void *arg, uint8_t *p, size_t n)
{
    struct dk_instance *d = arg;
    atomic_fetch_add(&d->in_random, 1);
    int ok = d->random.fill_private(d->random.arg, p, n);
    atomic_fetch_sub(&d->in_random, 1);
    return ok;
}

static void take_world(struct dk_instance *d, const struct dk_parts *parts)
{
    d->world = parts->world != NULL ? *parts->world : dk_world_default;
    d->random = d->world.random;
    d->world.random = (struct dk_random){counted_fill, counted_fill_private, d};
}

/* Beside the cached keys: master keys, the registry's, and what is in flight. */
#define CELLS 4096
/* What else of this process is locked: the master key file while it is read. */
#define LOCKED_ELSEWHERE (256 * 1024)
/* A cache below this is no help: rather the whole one, unlocked, and a warning. */
#define LEAST_KEYS 1024

static dk_rc try_arena(struct dk_core *core, size_t keys, struct dk_arena_report *report,
                       struct dk_err *err)
{
    return dk_arena_open_with_table(core->world, CELLS, dk_cache_table_bytes(keys), &core->arena,
                                    report, err);
}

/* Keys whose arena the memory lock limit lets in; 0 = none, or it is not the limit. */
static size_t lockable_keys(size_t wanted)
{
    struct rlimit limit;
    size_t beside = (size_t)CELLS * DK_SECRET_CELL + LOCKED_ELSEWHERE;
    if (getrlimit(RLIMIT_MEMLOCK, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY ||
        limit.rlim_cur <= beside) {
        return 0;
    }
    size_t keys = dk_cache_keys_fitting(limit.rlim_cur - beside);
    return keys < wanted && keys >= LEAST_KEYS ? keys : 0;
}

static void tell_arena(const struct dk_core *core, const struct dk_arena_report *report,
                       size_t wanted, bool asked_for)
{
    size_t keys = core->limits.max_keys;
    if (!report->locked) {
        DK_LOG(&core->log, WARN, "memory_not_locked", DK_LOG_I(BYTES, (int64_t)report->bytes),
               DK_LOG_S(REASON, "the memory lock limit (ulimit -l) is lower: keys may reach swap; "
                                "raise it or lower KMS_CACHE_MAX_KEYS"));
    } else if (keys < wanted && asked_for) {
        DK_LOG(&core->log, WARN, "cache_made_smaller", DK_LOG_I(COUNT, (int64_t)keys),
               DK_LOG_I(BYTES, (int64_t)report->bytes),
               DK_LOG_S(REASON, "KMS_CACHE_MAX_KEYS is more than the memory lock limit (ulimit -l) "
                                "has room for"));
    } else {
        DK_LOG(&core->log, INFO, "cache_opened", DK_LOG_I(COUNT, (int64_t)keys),
               DK_LOG_I(BYTES, (int64_t)report->bytes));
    }
}

/* As many keys as were asked for; fewer, when that is what can be locked into memory. */
static dk_rc open_arena(struct dk_core *core, bool asked_for, struct dk_arena_report *report,
                        struct dk_err *err)
{
    size_t wanted = core->limits.max_keys;
    DK_TRY(try_arena(core, wanted, report, err));
    size_t fewer = report->locked ? 0 : lockable_keys(wanted);
    if (fewer > 0) {
        dk_arena_close(core->arena);
        core->arena = NULL;
        DK_TRY(try_arena(core, fewer, report, err));
        core->limits.max_keys = fewer;
    }
    if (fewer > 0 && !report->locked) { /* others have the limit in use: small would be no help */
        dk_arena_close(core->arena);
        core->arena = NULL;
        core->limits.max_keys = wanted;
        DK_TRY(try_arena(core, wanted, report, err));
    }
    tell_arena(core, report, wanted, asked_for);
    return DK_OK;
}

dk_rc dk_wire_core(struct dk_instance *d, const struct dekhand_config *config,
                   const struct dk_settings *settings, const struct dk_parts *parts,
                   struct dk_err *err)
{
    struct dk_core *core = &d->core;
    take_world(d, parts);
    core->world = &d->world;
    core->limits = parts->limits != NULL ? *parts->limits : dk_limits_default;
    core->log.clock = &d->world.clock;
    DK_TRY(read_log(settings, &core->log, err));
    if (parts->limits == NULL) {
        DK_TRY(read_limits(settings, &core->limits, err));
    }
    DK_TRY(read_pin(settings, core->pin_wanted, err));
    read_identity(core, config->actor);
    DK_TRY(dk_wire_places(settings, &d->places, err));
    core->anchor_path = d->places.anchor;
    DK_TRY(dk_suite_open(core->world, &core->suite, err));
    dk_revoked_init(&core->revoked);
    DK_TRY(dk_registry_new(core, err));
    DK_TRY(open_arena(core, dk_settings_is_set(settings, DK_OPT_CACHE_MAX_KEYS), &d->memory, err));
    d->alive = dk_arena_alive(core->arena);
    return dk_store_open(core->world, d->places.database_url, &core->store, err);
}

dk_rc dk_wire_choose(const struct dk_settings *settings, const struct dk_parts *parts,
                     const struct dk_provider_ops **out, struct dk_err *err)
{
    const char *name;
    if (parts->provider != NULL) {
        *out = parts->provider;
        return DK_OK;
    }
    DK_TRY(dk_settings_provider(settings, &name, err));
    return dk_provider_find(name, out, err);
}

static dk_rc open_provider(struct dk_instance *d, const struct dk_settings *settings,
                           const struct dk_parts *parts, const struct dk_provider_ops *ops,
                           struct dk_provider **out, struct dk_err *err)
{
    struct dk_provider_setup setup = {.world = d->core.world,
                                      .suite = &d->core.suite,
                                      .arena = d->core.arena,
                                      .log = &d->core.log,
                                      .settings = settings,
                                      .master_key_path = d->places.master_key,
                                      .test_arg = parts->provider_arg};
    return dk_provider_open(ops, &setup, out, err);
}

dk_rc dk_wire_choose_second(const struct dk_settings *settings, const struct dk_parts *parts,
                            const struct dk_provider_ops *first, const struct dk_provider_ops **out,
                            struct dk_err *err)
{
    const char *name = dk_settings_str(settings, DK_OPT_SECONDARY_PROVIDER);
    *out = parts->second;
    if (name == NULL || parts->second != NULL) {
        return DK_OK;
    }
    if (strcmp(name, first->name) == 0) {
        return DK_FAIL(err, CONFIG,
                       "KMS_SECONDARY_PROVIDER: it is the first one, %s: a second one is another",
                       name);
    }
    dk_rc rc = dk_provider_find(name, out, err);
    return rc == DK_OK ? rc : dk_err_while(err, "KMS_SECONDARY_PROVIDER");
}

dk_rc dk_wire_provider(struct dk_instance *d, const struct dk_settings *settings,
                       const struct dk_parts *parts, struct dk_err *err)
{
    const struct dk_provider_ops *first, *second;
    DK_TRY(dk_wire_choose(settings, parts, &first, err));
    DK_TRY(dk_wire_choose_second(settings, parts, first, &second, err));
    DK_TRY(open_provider(d, settings, parts, first, &d->core.provider, err));
    dk_previous_tell_unused(settings, &d->core.log, first, second);
    dk_rc rc =
        second != NULL ? open_provider(d, settings, parts, second, &d->core.second, err) : DK_OK;
    return rc == DK_OK ? rc
                       : dk_err_while(err, "opening KMS_SECONDARY_PROVIDER (%s)", second->name);
}

void dk_wire_close(struct dk_instance *d)
{
    struct dk_core *core = &d->core;
    dk_registry_free(core);
    dk_audit_close(core);
    dk_provider_close(core->provider);
    dk_provider_close(core->second);
    dk_store_close(&core->store);
    dk_arena_close(core->arena);
    dk_suite_close(&core->suite);
}
