/* dekhand report --cost: how often the providers were asked, and what that costs. */
#include "cli/cli.h"
#include "cli/page.h"

#define DAYS 30
#define DAYS_MAX 366

static const char *const form_names[] = {
    [CLI_PAGE_TEXT] = "text", [CLI_PAGE_MARKDOWN] = "md", [CLI_PAGE_HTML] = "html"};
#define FORMS (sizeof form_names / sizeof form_names[0])

struct reporting {
    struct cli *cli;
    bool as_json;
    enum cli_page_form form;
    unsigned long days;
    struct cli_out *out;
    struct dk_json json;
    struct cli_page page;
    struct dekhand_cost_report total;
};

static double dollars(int64_t micro)
{
    return (double)micro / 1e6;
}

/* ---- JSON ------------------------------------------------------------------------------------ */

static void json_cost(void *arg, const struct dekhand_cost *cost)
{
    struct dk_json *json = &((struct reporting *)arg)->json;
    dk_json_object(json, NULL);
    dk_json_str(json, "provider", cost->provider);
    cli_json_text(json, "kmsKeyId", cost->kms_key_id);
    cli_json_text(json, "keyKind", cost->key_kind);
    dk_json_array(json, "operations");
    for (size_t i = 0; i < cost->operation_count; i++) {
        dk_json_object(json, NULL);
        dk_json_str(json, "operation", cost->operations[i].operation);
        dk_json_int(json, "calls", cost->operations[i].calls);
        dk_json_int(json, "failed", cost->operations[i].failed);
        dk_json_end(json, '}');
    }
    dk_json_end(json, ']');
    dk_json_int(json, "calls", cost->calls);
    dk_json_int(json, "failed", cost->failed);
    dk_json_num(json, "usdPer10000Calls", dollars(cost->per_10000));
    dk_json_num(json, "usdKeyPerMonth", dollars(cost->key_month));
    dk_json_int(json, "freeCallsPerMonth", cost->free_calls_month);
    dk_json_int(json, "forecastCallsPerMonth", cost->month_calls);
    dk_json_num(json, "forecastUsdPerMonth", dollars(cost->month));
    dk_json_int(json, "forecastCallsPerMonthWithoutCache", cost->month_calls_uncached);
    dk_json_num(json, "forecastUsdPerMonthWithoutCache", dollars(cost->month_uncached));
    dk_json_end(json, '}');
}

static void json_total(struct reporting *r)
{
    const struct dekhand_cost_report *total = &r->total;
    int64_t lookups = total->hits + total->misses;
    dk_json_end(&r->json, ']');
    dk_json_str(&r->json, "from", total->from);
    dk_json_str(&r->json, "to", total->to);
    dk_json_num(&r->json, "measuredDays", (double)total->measured_s / 86400);
    dk_json_object(&r->json, "cache");
    dk_json_int(&r->json, "hits", total->hits);
    dk_json_int(&r->json, "misses", total->misses);
    if (lookups > 0) {
        dk_json_num(&r->json, "hitRate", (double)total->hits / (double)lookups);
    } else {
        dk_json_null(&r->json, "hitRate");
    }
    dk_json_end(&r->json, '}');
    dk_json_str(&r->json, "pricesOf", total->prices_of);
    dk_json_num(&r->json, "forecastUsdPerMonth", dollars(total->month));
    dk_json_num(&r->json, "forecastUsdPerMonthWithoutCache", dollars(total->month_uncached));
    dk_json_end(&r->json, '}');
    cli_out_str(r->out, "\n");
}

/* ---- a page ---------------------------------------------------------------------------------- */

static void page_operations(struct reporting *r, const struct dekhand_cost *cost)
{
    char calls[32], failed[32];
    cli_page_table(&r->page, (const char *const[]){"operation", "calls", "failed"}, 3);
    for (size_t i = 0; i < cost->operation_count; i++) {
        const struct dekhand_calls *one = &cost->operations[i];
        cli_page_row(&r->page,
                     (const char *const[]){one->operation, cli_page_count(calls, one->calls),
                                           cli_page_count(failed, one->failed)});
    }
    cli_page_row(&r->page, (const char *const[]){"all", cli_page_count(calls, cost->calls),
                                                 cli_page_count(failed, cost->failed)});
    cli_page_table_end(&r->page);
}

static void page_price(struct reporting *r, const struct dekhand_cost *cost)
{
    char each[40], key[40], free_calls[32];
    cli_page_line(&r->page,
                  "Price of a key of kind %s: %s for 10,000 calls, %s a month for the key itself.",
                  cost->key_kind, cli_page_dollars(each, cost->per_10000),
                  cli_page_dollars(key, cost->key_month));
    if (cost->free_calls_month > 0) {
        cli_page_line(&r->page,
                      "%s calls a month cost nothing, of all that the account makes; the key's "
                      "price goes up with its first two rotations.",
                      cli_page_count(free_calls, cost->free_calls_month));
    }
}

static void page_cost(void *arg, const struct dekhand_cost *cost)
{
    struct reporting *r = arg;
    char title[640], calls[32], month[40], calls_uncached[32], uncached[40];
    bool configured = cost->kms_key_id[0] != '\0';
    snprintf(title, sizeof title, "%s%s%s", cost->provider, configured ? ", " : "",
             configured ? cost->kms_key_id : ", not configured any more");
    cli_page_section(&r->page, title);
    if (cost->per_10000 == 0 && cost->key_month == 0) {
        cli_page_line(&r->page, cost->key_kind[0] != '\0' ? "Nobody is paid for it."
                                                          : "It is not in the price list.");
        return;
    }
    page_operations(r, cost);
    page_price(r, cost);
    cli_page_line(&r->page, "Forecast: %s calls and %s a month; without the cache %s and %s.",
                  cli_page_count(calls, cost->month_calls), cli_page_dollars(month, cost->month),
                  cli_page_count(calls_uncached, cost->month_calls_uncached),
                  cli_page_dollars(uncached, cost->month_uncached));
}

static void page_total(struct reporting *r)
{
    const struct dekhand_cost_report *total = &r->total;
    char hits[32], lookups[32], month[40], uncached[40];
    int64_t all = total->hits + total->misses;
    cli_page_section(&r->page, "All");
    cli_page_line(&r->page, "%s to %s (UTC), prices of %s in US dollars, before tax.", total->from,
                  total->to, total->prices_of);
    if (all > 0) {
        cli_page_line(&r->page, "%s of %s calls found their key in memory: %.1f %%.",
                      cli_page_count(hits, total->hits), cli_page_count(lookups, all),
                      100 * (double)total->hits / (double)all);
    }
    cli_page_line(&r->page, "Forecast: %s a month; without the cache %s.",
                  cli_page_dollars(month, total->month),
                  cli_page_dollars(uncached, total->month_uncached));
}

/* ---- the command ----------------------------------------------------------------------------- */

static int report(struct reporting *r)
{
    struct dekhand_error error;
    bool json = r->as_json;
    int code = cli_out_open(r->out, NULL);
    if (code != CLI_OK) {
        return code;
    }
    if (json) {
        r->json = cli_out_json(r->out);
        dk_json_object(&r->json, NULL);
        dk_json_str(&r->json, "report", "cost");
        dk_json_array(&r->json, "providers");
    } else {
        r->page = (struct cli_page){.out = r->out, .form = r->form};
        cli_page_begin(&r->page, "What the master keys cost");
    }
    r->total.size = sizeof r->total;
    if (dekhand_costs(r->cli->library, (int64_t)r->days, json ? json_cost : page_cost, r, &r->total,
                      &error) != DEKHAND_OK) {
        return cli_fail(r->cli, &error);
    }
    if (json) {
        json_total(r);
    } else {
        page_total(r);
        cli_page_end(&r->page);
    }
    return cli_out_finish(r->out);
}

static bool read_form(struct reporting *r)
{
    const char *name = cli_get(r->cli, "format");
    r->as_json = r->cli->json;
    if (name == NULL || strcmp(name, "json") == 0) {
        r->as_json = r->as_json || name != NULL;
        return true;
    }
    for (size_t i = 0; i < FORMS; i++) {
        if (strcmp(name, form_names[i]) == 0) {
            r->form = (enum cli_page_form)i;
            return !r->as_json;
        }
    }
    return false;
}

int cli_report(struct cli *cli)
{
    static struct cli_out out;
    struct reporting r = {.cli = cli, .out = &out, .days = DAYS};
    const char *days = cli_get(cli, "days");
    if (!cli_has(cli, "cost")) {
        return cli_usage("report wants to know about what: --cost");
    }
    if (!read_form(&r)) {
        return cli_usage("--format wants text, md, html or json (and --json is json)");
    }
    if (days != NULL && !cli_read_count(days, DAYS_MAX, &r.days)) {
        return cli_usage("--days wants 1 to %d, not `%s`", DAYS_MAX, days);
    }
    int code = cli_open(cli);
    return code == CLI_OK ? cli_close(cli, report(&r)) : code;
}
