#include "cli/bench_print.h"

#define RSS_GOAL_KIB (32 * 1024)
#define PAGES_GOAL 1000
#define POLL_GOAL_PERCENT 2

void bench_print_row(const struct bench_print *p, const char *name, const char *yardstick,
                     const char *unit, struct bench_result r, double goal, bool at_most)
{
    bool met = at_most ? r.ratio <= goal : r.ratio >= goal;
    if (p->json != NULL) {
        dk_json_object(p->json, NULL);
        dk_json_str(p->json, "name", name);
        dk_json_str(p->json, "yardstick", yardstick);
        dk_json_str(p->json, "unit", unit);
        dk_json_num(p->json, "yardstickTime", r.yardstick);
        dk_json_num(p->json, "time", r.ours);
        dk_json_num(p->json, "ratio", r.ratio);
        dk_json_num(p->json, "goal", goal);
        dk_json_str(p->json, "goalIs", at_most ? "at most" : "at least");
        dk_json_bool(p->json, "met", met);
        dk_json_end(p->json, '}');
    } else {
        cli_out_printf(p->out, "%-24s %8.3f (goal %s %.2f: %s)  %.3g %s beside %.3g: %s\n", name,
                       r.ratio, at_most ? "<=" : ">=", goal, met ? "met" : "NOT MET", r.ours, unit,
                       r.yardstick, yardstick);
    }
}

void bench_print_rss(const struct bench_print *p, long rss_kib)
{
    if (p->json != NULL) {
        dk_json_int(p->json, "csvRssKiB", rss_kib);
        dk_json_int(p->json, "csvRssGoalKiB", RSS_GOAL_KIB);
    } else {
        cli_out_printf(p->out, "csv memory (RSS)         %ld KiB (goal < %d: %s)\n", rss_kib,
                       RSS_GOAL_KIB, rss_kib < RSS_GOAL_KIB ? "met" : "NOT MET");
    }
}

void bench_print_kms(const struct bench_print *p, const struct cli_bench_kms *kms)
{
    bench_print_row(p, "kms_wrap", "one kept libcurl handle, the same request, built and signed",
                    "us", kms->wrap, 1.1, true);
    bench_print_row(p, "kms_sign", "the five HMACs and two digests of it", "us", kms->sign, 1.5,
                    true);
    bench_print_row(p, "kms_slow",
                    "two threads' cached decrypts, nobody waits for KMS; best rounds", "ns",
                    kms->slow, 0.95, false);
    bench_print_row(p, "kms_calls", "20 decrypts of each of 1,000 tenants, in a fresh instance",
                    "calls", kms->calls, 0.1, true);
    bench_print_row(p, "kms_calls_mixed", "10 decrypts and 10 encrypts of each, in turn", "calls",
                    kms->mixed, 0.1, true);
}

/* ---- PostgreSQL ------------------------------------------------------------------------------ */

void bench_print_postgres(const struct bench_print *p, const struct cli_bench_postgres *pg)
{
    struct bench_result statements = {pg->statements, 0, pg->statements};
    struct bench_result pages = {pg->pages / PAGES_GOAL, PAGES_GOAL, pg->pages};
    struct bench_result polls = {pg->poll_percent / POLL_GOAL_PERCENT, POLL_GOAL_PERCENT,
                                 pg->poll_percent};
    bench_print_row(p, "pg_new_tenants", "bare INSERT and COMMIT of the same rows, batched", "us",
                    pg->create, 0.5, false);
    bench_print_row(p, "pg_cold_keys", "pipelined SELECT, HKDF and GCM open of each", "us",
                    pg->cold, 0.5, false);
    bench_print_row(p, "pg_cached_statements", pg->counted, "statements", statements, 0, true);
    bench_print_row(p, "pg_health_pages", "1,000 pages of the server", "pages", pages, 1, true);
    if (pg->has_polls) {
        bench_print_row(p, "pg_idle_polls", "2 % of a core of the server, 100 nodes", "%", polls, 1,
                        true);
    }
}

/* A line each; in JSON a member of an array. */
static void print_plan(const struct bench_print *p, char *plan)
{
    char *rest = plan, *line;
    if (p->json != NULL) {
        dk_json_array(p->json, "healthPlan");
    }
    while ((line = strsep(&rest, "\n")) != NULL && rest != NULL) {
        if (p->json != NULL) {
            dk_json_str(p->json, NULL, line);
        } else {
            cli_out_printf(p->out, "    %s\n", line);
        }
    }
    if (p->json != NULL) {
        dk_json_end(p->json, ']');
    }
}

void bench_print_server(const struct bench_print *p, long tenants, struct cli_bench_postgres *pg)
{
    if (p->json == NULL) {
        cli_out_printf(p->out, "%s; %ld tenants; the health query over %zu keys:\n", pg->server,
                       tenants, pg->keys);
        print_plan(p, pg->plan);
        return;
    }
    dk_json_object(p->json, "postgres");
    dk_json_str(p->json, "server", pg->server);
    dk_json_int(p->json, "tenants", tenants);
    dk_json_int(p->json, "healthKeys", (int64_t)pg->keys);
    print_plan(p, pg->plan);
    dk_json_end(p->json, '}');
}
