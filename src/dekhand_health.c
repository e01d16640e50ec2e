/* The door for what is well and what is not: health, warnings, statistics. */
#include <stdio.h>
#include <sys/stat.h>

#include "door.h"
#include "keys/inspect.h"
#include "keys/warning.h"
#include "provider/local.h"

#define HIT_RATE_CALLS 1000 /* fewer say nothing */
#define HIT_RATE_ALERT 70   /* percent: the guide's alert threshold */

/* The public levels are those of checkup.h. */
_Static_assert((int)DEKHAND_LEVEL_ERROR == (int)DK_LEVEL_ERROR &&
                   (int)DEKHAND_LEVEL_NOTE == (int)DK_LEVEL_NOTE,
               "levels");

void dk_door_tell_check(void *arg, const struct dk_check *check)
{
    const struct dk_check_call *call = arg;
    struct dekhand_check out = {check->name, (enum dekhand_level)check->level, check->text,
                                check->todo};
    if (call->each != NULL) {
        call->each(call->arg, &out);
    }
}

static int hit_rate(const struct dk_manager_stats *stats)
{
    return stats->calls == 0 ? -1 : (int)(stats->hits * 100 / stats->calls);
}

static void check_cache(struct dk_instance *d, struct dk_report *report, int *rate)
{
    struct dk_manager_stats stats = dk_manager_stats(d->manager);
    *rate = hit_rate(&stats);
    if (stats.calls >= HIT_RATE_CALLS && *rate < HIT_RATE_ALERT) {
        dk_report_tell(report, "cache", DK_LEVEL_WARNING,
                       "raise KMS_CACHE_MAX_KEYS above the number of tenants in use, or "
                       "KMS_CACHE_TTL_SECONDS",
                       "%d %% of the calls found their key in memory, fewer than %d %%: the others "
                       "ask the provider",
                       *rate, HIT_RATE_ALERT);
    }
}

/* Who may write to its folder can put another master key there, whatever the file's own mode. */
static void check_key_folder(const struct dk_instance *d, struct dk_report *report)
{
    struct stat st;
    char todo[DK_PATH_MAX + 16];
    if (strcmp(dk_provider_name(d->core.provider), dk_provider_local.name) == 0 &&
        stat(d->places.state_dir, &st) == 0 && (st.st_mode & 022) != 0) {
        snprintf(todo, sizeof todo, "chmod 700 %s", d->places.state_dir);
        dk_report_tell(report, "master key", DK_LEVEL_WARNING, todo,
                       "its folder %s can be written by others (mode %04o): they can take the "
                       "master key away or put another there. Nothing is lost yet",
                       d->places.state_dir, (unsigned)st.st_mode & 07777);
    }
}

static void check_provider(struct dk_instance *d, struct dk_report *report,
                           struct dekhand_health *out)
{
    out->provider_works = dk_checkup_provider(&d->core, report, &out->provider_latency_ms);
    dk_checkup_second(&d->core, report);
    check_key_folder(d, report);
    check_cache(d, report, &out->cache_hit_rate);
}

static void check_guard(struct dk_core *core, struct dk_report *report, int64_t *anchored)
{
    dk_checkup_guard(core, report, anchored);
    dk_checkup_seals(core, report);
}

static void check_all(struct dk_instance *d, struct dk_report *report, struct dekhand_health *out)
{
    struct dk_core *core = &d->core;
    struct dk_key_counts counts;
    enum dk_level level;
    snprintf(out->provider, sizeof out->provider, "%s", dk_provider_name(core->provider));
    out->at = dk_wall_us(core->world);
    DK_REPORT_LEVEL(level, report, check_provider(d, report, out));
    out->provider_level = (enum dekhand_level)level;
    DK_REPORT_LEVEL(level, report,
                    out->database_works =
                        dk_checkup_store(core, report, &out->database_latency_ms));
    out->database_level = (enum dekhand_level)level;
    DK_REPORT_LEVEL(level, report, dk_checkup_expiry(core, report, &counts));
    out->keys_level = (enum dekhand_level)level;
    DK_REPORT_LEVEL(level, report, dk_checkup_rotation(core, report, &out->failed_rotations));
    out->rotation_level = (enum dekhand_level)level;
    DK_REPORT_LEVEL(level, report, check_guard(core, report, &out->anchor_seal));
    out->anchor_level = (enum dekhand_level)level;
    out->total_keys = counts.total;
    out->active_keys = counts.active;
    out->expired_keys = counts.expired;
    out->near_expiry_keys = counts.near_expiry;
    out->level = (enum dekhand_level)report->level;
}

int dekhand_health(struct dekhand *d, void (*each)(void *arg, const struct dekhand_check *check),
                   void *arg, struct dekhand_health *out, struct dekhand_error *error)
{
    struct dk_err err;
    struct dk_check_call call = {each, arg};
    struct dk_report report = {.each = dk_door_tell_check, .arg = &call};
    struct dekhand_health health = {.size = sizeof health};
    dk_err_clear(&err);
    dk_rc rc = dk_door_enter(d, DK_MAY_SEE_HEALTH, NULL, &err);
    if (rc == DK_OK && (out == NULL || out->size != sizeof *out)) {
        rc = DK_FAIL(&err, USAGE, "dekhand_health.size is not %zu", sizeof *out);
    }
    if (rc == DK_OK) {
        check_all(d->in, &report, &health);
        *out = health;
    }
    return dk_door_leave(rc, &err, error);
}

/* ---- warnings -------------------------------------------------------------------------------- */

struct warning_call {
    void (*each)(void *arg, const struct dekhand_warning *warning);
    void *arg;
};

static void tell_warning(void *arg, const struct dk_key_row *row)
{
    const struct warning_call *call = arg;
    struct dekhand_warning warning = {row->tenant.s, row->version, row->expires_at};
    if (call->each != NULL) {
        call->each(call->arg, &warning);
    }
}

int dekhand_warnings(struct dekhand *d,
                     void (*each)(void *arg, const struct dekhand_warning *warning), void *arg,
                     struct dekhand_error *error)
{
    struct dk_err err;
    struct warning_call call = {each, arg};
    dk_err_clear(&err);
    dk_rc rc = dk_door_enter(d, DK_MAY_ROTATE, NULL, &err);
    if (rc == DK_OK) {
        rc = dk_warning_look(&d->in->core, d->actor.name, tell_warning, &call, &err);
    }
    return dk_door_leave(rc, &err, error);
}

/* ---- statistics ------------------------------------------------------------------------------ */

static dk_rc read_stats(struct dk_instance *d, struct dekhand_stats *out, struct dk_err *err)
{
    struct dk_key_counts counts;
    if (out == NULL || out->size != sizeof *out) {
        return DK_FAIL(err, USAGE, "dekhand_stats.size is not %zu", sizeof *out);
    }
    DK_TRY(dk_inspect_counts(&d->core, &counts, err));
    struct dk_manager_stats memory = dk_manager_stats(d->manager);
    *out = (struct dekhand_stats){.size = sizeof *out,
                                  .total_keys = counts.total,
                                  .active_keys = counts.active,
                                  .expired_keys = counts.expired,
                                  .near_expiry_keys = counts.near_expiry,
                                  .calls = memory.calls,
                                  .hits = memory.hits,
                                  .misses = memory.misses,
                                  .unwraps = memory.unwraps,
                                  .failures = memory.failures,
                                  .evictions = memory.evictions,
                                  .cached_keys = memory.cached_keys,
                                  .cache_capacity = memory.capacity,
                                  .locked_bytes = (int64_t)d->memory.bytes,
                                  .memory_locked = d->memory.locked};
    return DK_OK;
}

int dekhand_stats(struct dekhand *d, struct dekhand_stats *out, struct dekhand_error *error)
{
    struct dk_err err;
    dk_err_clear(&err);
    dk_rc rc = dk_door_enter(d, DK_MAY_SEE_HEALTH, NULL, &err);
    if (rc == DK_OK) {
        rc = read_stats(d->in, out, &err);
    }
    return dk_door_leave(rc, &err, error);
}

static dk_rc read_key_stats(struct dk_instance *d, const char *tenant, uint32_t version,
                            struct dekhand_key_stats *out, struct dk_err *err)
{
    struct dk_key_name name;
    if (out == NULL || out->size != sizeof *out) {
        return DK_FAIL(err, USAGE, "dekhand_key_stats.size is not %zu", sizeof *out);
    }
    DK_TRY(dk_door_name_key(tenant, version, &name, err));
    struct dk_key_uses uses = dk_manager_key_uses(d->manager, &name);
    *out = (struct dekhand_key_stats){.size = sizeof *out,
                                      .hits = uses.hits,
                                      .misses = uses.misses,
                                      .unwraps = uses.unwraps,
                                      .messages = uses.messages};
    return DK_OK;
}

int dekhand_key_stats(struct dekhand *d, const char *tenant, uint32_t version,
                      struct dekhand_key_stats *out, struct dekhand_error *error)
{
    struct dk_err err;
    dk_err_clear(&err);
    dk_rc rc = dk_door_enter(d, DK_MAY_SEE_HEALTH, tenant, &err);
    if (rc == DK_OK) {
        rc = read_key_stats(d->in, tenant, version, out, &err);
    }
    return dk_door_leave(rc, &err, error);
}

/* ---- what the providers cost ----------------------------------------------------------------- */

struct cost_call {
    void (*each)(void *arg, const struct dekhand_cost *cost);
    void *arg;
};

static void tell_cost(const struct cost_call *call, const struct dk_usage_cost *cost)
{
    struct dekhand_calls operations[DK_PROVIDER_OPERATIONS];
    for (size_t i = 0; i < cost->operation_count; i++) {
        operations[i] = (struct dekhand_calls){cost->operations[i].name, cost->operations[i].calls,
                                               cost->operations[i].failed};
    }
    const struct dk_price none = {.kind = ""};
    const struct dk_price *price = cost->price != NULL ? cost->price : &none;
    struct dekhand_cost out = {.provider = cost->provider,
                               .kms_key_id = cost->kms_key_id,
                               .key_kind = price->kind,
                               .per_10000 = price->per_10000,
                               .key_month = price->key_month,
                               .free_calls_month = price->free_month,
                               .operations = operations,
                               .operation_count = cost->operation_count,
                               .calls = cost->calls,
                               .failed = cost->failed,
                               .month_calls = cost->month_calls,
                               .month = cost->month,
                               .month_calls_uncached = cost->month_calls_uncached,
                               .month_uncached = cost->month_uncached};
    call->each(call->arg, &out);
}

static dk_rc costs(struct dk_instance *d, int64_t days, const struct cost_call *call,
                   struct dekhand_cost_report *out, struct dk_err *err)
{
    struct dk_usage_costs costs;
    if (out == NULL || out->size != sizeof *out || days < 1 || days > DK_USAGE_DAYS_MAX) {
        return DK_FAIL(err, USAGE, "days from 1 to %d, and dekhand_cost_report.size = %zu",
                       DK_USAGE_DAYS_MAX, sizeof *out);
    }
    DK_TRY(dk_manager_costs(d->manager, days, &costs, err));
    *out = (struct dekhand_cost_report){.size = sizeof *out,
                                        .prices_of = DK_PRICES_OF,
                                        .measured_s = costs.measured_s,
                                        .hits = costs.hits,
                                        .misses = costs.misses};
    memcpy(out->from, costs.from, sizeof out->from);
    memcpy(out->to, costs.to, sizeof out->to);
    for (size_t i = 0; i < costs.count; i++) {
        out->month += costs.providers[i].month;
        out->month_uncached += costs.providers[i].month_uncached;
        if (call->each != NULL) {
            tell_cost(call, &costs.providers[i]);
        }
    }
    return DK_OK;
}

int dekhand_costs(struct dekhand *d, int64_t days,
                  void (*each)(void *arg, const struct dekhand_cost *cost), void *arg,
                  struct dekhand_cost_report *out, struct dekhand_error *error)
{
    struct dk_err err;
    const struct cost_call call = {each, arg};
    dk_err_clear(&err);
    dk_rc rc = dk_door_enter(d, DK_MAY_VIEW_KEYS, NULL, &err);
    rc = rc == DK_OK ? costs(d->in, days, &call, out, &err) : rc;
    return dk_door_leave(rc, &err, error);
}
