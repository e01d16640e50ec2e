#include "net/http.h"

#include <stdio.h>

#include "net/json_in.h"
#include "net/lane.h"

const struct dk_http_limits dk_http_limits_default = {
    .tries = 3,
    .connect_ms = 2000,
    .try_ms = 3000,
    .total_ms = 5000,
    .wait_ms = 100,
    .wait_max_ms = 2000,
    .parallel = 16,
    .per_second = 0,
    .budget = DK_BUDGET,
};

static void set_up_once(void)
{
    (void)curl_global_init(CURL_GLOBAL_DEFAULT); /* thread-safe since 7.84; again is no harm */
    dk_json_in_setup();
}

static dk_rc copy_setup(struct dk_http *http, struct dk_err *err)
{
    const struct dk_mem *mem = &http->setup.world->mem;
    const struct dk_http_setup *setup = &http->setup;
    http->ca_file = setup->ca_file != NULL ? dk_mem_strdup(mem, setup->ca_file) : NULL;
    http->proxy = setup->proxy != NULL ? dk_mem_strdup(mem, setup->proxy) : NULL;
    bool lacks = (setup->ca_file != NULL && http->ca_file == NULL) ||
                 (setup->proxy != NULL && http->proxy == NULL);
    return lacks ? DK_FAIL(err, NOMEM, "no memory for %s", setup->service) : DK_OK;
}

dk_rc dk_http_open(const struct dk_http_setup *setup, struct dk_http **out, struct dk_err *err)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, set_up_once);
    struct dk_http *http = dk_mem_zalloc(&setup->world->mem, sizeof *http);
    if (http == NULL) {
        return DK_FAIL(err, NOMEM, "no memory for %s", setup->service);
    }
    http->setup = *setup;
    http->budget = (struct dk_budget){setup->limits.budget, setup->limits.budget};
    pthread_mutex_init(&http->lock, NULL);
    dk_rc rc = copy_setup(http, err);
    if (rc != DK_OK) {
        dk_http_close(http);
        return rc;
    }
    *out = http;
    return DK_OK;
}

void dk_http_close(struct dk_http *http)
{
    if (http == NULL) {
        return;
    }
    const struct dk_mem *mem = &http->setup.world->mem;
    for (struct dk_lane *lane = http->lanes, *next; lane != NULL; lane = next) {
        next = lane->next;
        dk_lane_free(mem, lane);
    }
    pthread_mutex_destroy(&http->lock);
    dk_mem_free(mem, http->ca_file);
    dk_mem_free(mem, http->proxy);
    dk_mem_free(mem, http);
}

/*
 * A lane that another thread of the parent had in its hands is in no state to be closed: it is left
 * where it is, without its sockets.
 */
void dk_http_after_fork(struct dk_http *http)
{
    pthread_mutex_init(&http->lock, NULL);
    for (struct dk_lane *lane = http->lanes, *next; lane != NULL; lane = next) {
        next = lane->next;
        if (dk_lane_forked(lane) && !lane->lent) {
            dk_lane_free(&http->setup.world->mem, lane);
        }
    }
    http->lanes = http->idle = NULL;
    http->breaker = (struct dk_breaker){0};
    http->pace.at_ms = 0;
}
