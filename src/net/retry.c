#include "net/retry.h"

#define OPEN_FIRST_MS 5000
#define OPEN_MAX_MS 60000

bool dk_budget_take(struct dk_budget *budget, int cost)
{
    if (budget->tokens < cost) {
        return false;
    }
    budget->tokens -= cost;
    return true;
}

void dk_budget_give(struct dk_budget *budget, int tokens)
{
    budget->tokens += tokens;
    budget->tokens = budget->tokens < budget->max ? budget->tokens : budget->max;
}

bool dk_breaker_may(struct dk_breaker *breaker, int64_t now_ms, int64_t *wait_ms)
{
    *wait_ms = 0;
    if (breaker->open_ms == 0) {
        return true;
    }
    if (now_ms < breaker->open_until_ms) {
        *wait_ms = breaker->open_until_ms - now_ms;
        return false;
    }
    if (breaker->probing) {
        *wait_ms = 1;
        return false;
    }
    breaker->probing = true;
    return true;
}

static void open_for(struct dk_breaker *breaker, int64_t ms, int64_t now_ms)
{
    breaker->open_ms = ms < OPEN_MAX_MS ? ms : OPEN_MAX_MS;
    breaker->open_until_ms = now_ms + breaker->open_ms;
    breaker->probing = false;
}

static int failures(const struct dk_breaker *breaker)
{
    return __builtin_popcount(breaker->failed & ((UINT32_C(1) << DK_BREAKER_WINDOW) - 1));
}

void dk_breaker_note(struct dk_breaker *breaker, bool failed, int64_t now_ms)
{
    if (breaker->open_ms != 0 && !breaker->probing) {
        return; /* it was on its way when the breaker opened */
    }
    if (breaker->probing && !failed) {
        *breaker = (struct dk_breaker){0};
        return;
    }
    if (breaker->probing) {
        open_for(breaker, breaker->open_ms * 2, now_ms);
        return;
    }
    breaker->failed = breaker->failed << 1 | failed;
    breaker->count += breaker->count < DK_BREAKER_WINDOW;
    if (breaker->count == DK_BREAKER_WINDOW && failures(breaker) * 2 >= DK_BREAKER_WINDOW) {
        open_for(breaker, OPEN_FIRST_MS, now_ms);
    }
}

void dk_breaker_let_go(struct dk_breaker *breaker)
{
    breaker->probing = false;
}

/* A hundredth of a second's calls may begin together; with what comes in within a second that is
   the rate. One by one where that is less than two. */
void dk_pace_init(struct dk_pace *pace, unsigned per_second, int64_t now_ms)
{
    double together = per_second / 100;
    bool several = together > 1;
    *pace = (struct dk_pace){.per_second = several ? per_second - together : per_second,
                             .most = several ? together : 1,
                             .at_ms = now_ms};
    pace->tokens = pace->most;
}

int64_t dk_pace_take(struct dk_pace *pace, int64_t now_ms)
{
    if (pace->per_second <= 0) {
        return 0;
    }
    pace->tokens += (double)(now_ms - pace->at_ms) * pace->per_second / 1000;
    pace->tokens = pace->tokens < pace->most ? pace->tokens : pace->most;
    pace->at_ms = now_ms;
    if (pace->tokens >= 1) {
        pace->tokens -= 1;
        return 0;
    }
    return 1 + (int64_t)((1 - pace->tokens) * 1000 / pace->per_second);
}

int64_t dk_retry_wait_ms(int64_t first_ms, int64_t max_ms, int tried, uint32_t random)
{
    int64_t most = tried < 20 ? first_ms << tried : max_ms;
    most = most < max_ms ? most : max_ms;
    return (int64_t)((double)most * random / UINT32_MAX);
}
