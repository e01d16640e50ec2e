#include "keys/usage.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#define DAY_US (INT64_C(86400) * 1000000)
#define MONTH_DAYS 30
#define ROWS (2 * DK_PROVIDER_OPERATIONS + 2)

/* What the store knows of already, since the opening. */
struct dk_usage {
    const struct dk_world *world;
    pthread_mutex_t lock; /* guards what follows; held while the store is told */
    struct dk_provider_calls told[2];
    int64_t hits;
    int64_t misses;
};

dk_rc dk_usage_open(const struct dk_world *world, struct dk_usage **out, struct dk_err *err)
{
    struct dk_usage *usage = dk_mem_zalloc(&world->mem, sizeof *usage);
    if (usage == NULL) {
        return DK_FAIL(err, NOMEM, "no memory for the counts of calls");
    }
    usage->world = world;
    pthread_mutex_init(&usage->lock, NULL);
    *out = usage;
    return DK_OK;
}

void dk_usage_close(struct dk_usage *usage)
{
    if (usage != NULL) {
        pthread_mutex_destroy(&usage->lock);
        dk_mem_free(&usage->world->mem, usage);
    }
}

void dk_usage_after_fork(struct dk_usage *usage, int64_t hits, int64_t misses)
{
    const struct dk_world *world = usage->world;
    *usage = (struct dk_usage){.world = world, .hits = hits, .misses = misses};
    pthread_mutex_init(&usage->lock, NULL);
}

static void day_of(int64_t us, char out[static 11])
{
    char text[DK_TIME_TEXT];
    dk_time_format(us, text);
    snprintf(out, 11, "%.10s", text);
}

/* ---- what is kept ---------------------------------------------------------------------------- */

struct keeping {
    struct dk_call_row rows[ROWS];
    size_t n;
    char day[11];
};

static void add_row(struct keeping *keeping, const char *source, const char *operation,
                    int64_t calls, int64_t failed)
{
    if (calls > 0 || failed > 0) {
        struct dk_call_row *row = &keeping->rows[keeping->n++];
        *row = (struct dk_call_row){.calls = calls, .failed = failed};
        memcpy(row->day, keeping->day, sizeof row->day);
        snprintf(row->source, sizeof row->source, "%s", source);
        snprintf(row->operation, sizeof row->operation, "%s", operation);
    }
}

static void add_provider(struct keeping *keeping, const struct dk_provider *provider,
                         const struct dk_provider_calls *now, const struct dk_provider_calls *told)
{
    for (unsigned i = 0; i < DK_PROVIDER_OPERATIONS; i++) {
        const char *name = dk_provider_operation(provider, i);
        if (name == NULL) {
            return;
        }
        add_row(keeping, dk_provider_name(provider), name, now->calls[i] - told->calls[i],
                now->failed[i] - told->failed[i]);
    }
}

static int compare_rows(const void *pa, const void *pb)
{
    const struct dk_call_row *a = pa, *b = pb;
    int c = strcmp(a->source, b->source);
    return c != 0 ? c : strcmp(a->operation, b->operation);
}

static dk_rc store_rows(struct dk_core *core, struct keeping *keeping, struct dk_err *err)
{
    struct dk_txn txn;
    qsort(keeping->rows, keeping->n, sizeof keeping->rows[0], compare_rows);
    DK_TRY(dk_store_begin(&core->store, DK_TXN_WRITE, &txn, err));
    dk_rc rc = txn.ops->calls_add(txn.self, keeping->rows, keeping->n, err);
    rc = rc == DK_OK ? dk_store_commit(&txn, err) : rc;
    dk_store_rollback(&txn);
    return rc;
}

static bool is_paid(const struct dk_provider *provider)
{
    return provider != NULL && dk_provider_operation(provider, 0) != NULL;
}

static void keep_in(struct dk_core *core, int64_t hits, int64_t misses)
{
    struct dk_usage *usage = core->usage;
    struct dk_provider *const providers[2] = {core->provider, core->second};
    struct dk_provider_calls now[2] = {{.calls = {0}}, {.calls = {0}}};
    struct keeping keeping = {.n = 0};
    struct dk_err err;
    dk_err_clear(&err);
    day_of(dk_wall_us(core->world), keeping.day);
    for (size_t i = 0; i < 2; i++) {
        if (providers[i] != NULL) {
            now[i] = dk_provider_calls(providers[i]);
            add_provider(&keeping, providers[i], &now[i], &usage->told[i]);
        }
    }
    add_row(&keeping, DK_USAGE_CACHE, DK_USAGE_HIT, hits - usage->hits, 0);
    add_row(&keeping, DK_USAGE_CACHE, DK_USAGE_MISS, misses - usage->misses, 0);
    dk_rc rc = keeping.n > 0 ? store_rows(core, &keeping, &err) : DK_OK;
    if (rc == DK_OK) {
        memcpy(usage->told, now, sizeof now);
        usage->hits = hits > usage->hits ? hits : usage->hits;
        usage->misses = misses > usage->misses ? misses : usage->misses;
    } else if (rc != DK_E_READ_ONLY) {
        DK_LOG(&core->log, WARN, "calls_not_kept", DK_LOG_S(CODE, dk_error_info(rc)->name),
               DK_LOG_S(REASON, err.text));
    }
}

void dk_usage_keep(struct dk_core *core, int64_t hits, int64_t misses)
{
    if (is_paid(core->provider) || is_paid(core->second)) {
        pthread_mutex_lock(&core->usage->lock);
        keep_in(core, hits, misses);
        pthread_mutex_unlock(&core->usage->lock);
    }
}

/* ---- what it costs --------------------------------------------------------------------------- */

static struct dk_usage_cost *find_cost(struct dk_usage_costs *costs, const char *provider)
{
    const size_t room = sizeof costs->providers / sizeof costs->providers[0];
    for (size_t i = 0; i < costs->count; i++) {
        if (strcmp(costs->providers[i].provider, provider) == 0) {
            return &costs->providers[i];
        }
    }
    if (costs->count == room) {
        return NULL;
    }
    struct dk_usage_cost *cost = &costs->providers[costs->count++];
    *cost = (struct dk_usage_cost){.price = dk_price_find(provider)};
    snprintf(cost->provider, sizeof cost->provider, "%s", provider);
    return cost;
}

static bool take_row(void *arg, const struct dk_call_row *row)
{
    struct dk_usage_costs *costs = arg;
    if (strcmp(row->day, costs->from) < 0) {
        memcpy(costs->from, row->day, sizeof costs->from);
    }
    if (strcmp(row->source, DK_USAGE_CACHE) == 0) {
        *(strcmp(row->operation, DK_USAGE_HIT) == 0 ? &costs->hits : &costs->misses) += row->calls;
        return true;
    }
    struct dk_usage_cost *cost = find_cost(costs, row->source);
    if (cost != NULL && cost->operation_count < DK_PROVIDER_OPERATIONS) {
        struct dk_usage_operation *operation = &cost->operations[cost->operation_count++];
        operation->calls = row->calls;
        operation->failed = row->failed;
        snprintf(operation->name, sizeof operation->name, "%s", row->operation);
        cost->calls += row->calls;
        cost->failed += row->failed;
    }
    return true;
}

/* A month at the rate of the time that was measured. */
static int64_t month_of(const struct dk_usage_costs *costs, int64_t calls)
{
    double month = (double)calls * MONTH_DAYS * 86400 / (double)costs->measured_s + .5;
    return month < (double)DK_CALLS_MAX ? (int64_t)month : DK_CALLS_MAX;
}

static int64_t pay(const struct dk_usage_cost *cost, int64_t calls)
{
    const struct dk_price *price = cost->price;
    if (price == NULL) {
        return 0;
    }
    int64_t paid = calls > price->free_month ? calls - price->free_month : 0;
    return (cost->kms_key_id[0] != '\0' ? price->key_month : 0) +
           (int64_t)((double)paid * (double)price->per_10000 / 10000 + .5);
}

/* What memory answered the first provider would have been asked. */
static void forecast(struct dk_usage_costs *costs)
{
    for (size_t i = 0; i < costs->count; i++) {
        struct dk_usage_cost *cost = &costs->providers[i];
        cost->month_calls = month_of(costs, cost->calls);
        cost->month_calls_uncached = month_of(costs, cost->calls + (i == 0 ? costs->hits : 0));
        cost->month = pay(cost, cost->month_calls);
        cost->month_uncached = pay(cost, cost->month_calls_uncached);
    }
}

static dk_rc name_configured(struct dk_provider *provider, struct dk_usage_costs *costs,
                             struct dk_err *err)
{
    struct dk_provider_info info;
    struct dk_usage_cost *cost = find_cost(costs, dk_provider_name(provider));
    cost->price = dk_provider_price(provider); /* may ask: after it, the id is known better */
    DK_TRY(dk_provider_describe(provider, &info, err));
    memcpy(cost->kms_key_id, info.kms_key_id, sizeof cost->kms_key_id);
    return DK_OK;
}

/* From the start of the first day, and no less than a day: an hour of noise makes no forecast. */
static dk_rc measure(struct dk_usage_costs *costs, int64_t now, struct dk_err *err)
{
    char text[32];
    int64_t from = 0;
    snprintf(text, sizeof text, "%sT00:00:00.000000Z", costs->from);
    if (!dk_time_parse(text, strlen(text), &from)) {
        return DK_FAIL(err, TAMPERED, "call_counts has a day that is none: %.10s", costs->from);
    }
    int64_t measured = now > from ? now - from : 0;
    costs->measured_s = (measured > DAY_US ? measured : DAY_US) / 1000000;
    return DK_OK;
}

dk_rc dk_usage_costs(struct dk_core *core, int64_t days, struct dk_usage_costs *out,
                     struct dk_err *err)
{
    struct dk_txn txn;
    char from[11];
    int64_t now = dk_wall_us(core->world);
    *out = (struct dk_usage_costs){.count = 0};
    day_of(now, out->to);
    memcpy(out->from, out->to, sizeof out->from);
    day_of(now - (days - 1) * DAY_US, from);
    DK_TRY(name_configured(core->provider, out, err));
    if (core->second != NULL) {
        DK_TRY(name_configured(core->second, out, err));
    }
    DK_TRY(dk_store_begin(&core->store, DK_TXN_READ, &txn, err));
    dk_rc rc = txn.ops->calls_sum(txn.self, from, take_row, out, err);
    dk_store_rollback(&txn);
    DK_TRY(rc);
    DK_TRY(measure(out, now, err));
    forecast(out);
    return DK_OK;
}
