/*
 * retry: when to ask again, and when to leave a service alone (SECURITY-BAR 6).
 *
 * Called by net/http. Pure but for what they keep; the time is handed in. The caller's lock guards
 * all of them.
 */
#ifndef DK_NET_RETRY_H
#define DK_NET_RETRY_H

#include <stdbool.h>
#include <stdint.h>

/* Tokens that retries cost: a service that is down is not asked three times by everybody. The
   figures are those of the AWS SDKs' standard mode. */
#define DK_BUDGET 500
#define DK_BUDGET_RETRY 5
#define DK_BUDGET_TIMEOUT 10
struct dk_budget {
    int tokens;
    int max;
};
bool dk_budget_take(struct dk_budget *budget, int cost);
void dk_budget_give(struct dk_budget *budget, int tokens);

/* Half of the last 20 calls failed: nobody asks for 5 s, then one call tries; 60 s at most. */
#define DK_BREAKER_WINDOW 20
struct dk_breaker {
    uint32_t failed; /* of the last calls, a bit each */
    int count;       /* how many there were, up to the window */
    int64_t open_until_ms;
    int64_t open_ms; /* how long it is open; 0 = closed */
    bool probing;    /* one call is on its way */
};
/* False: not now; `wait_ms` is how long yet. True while it is closed, and once for a probe. */
bool dk_breaker_may(struct dk_breaker *breaker, int64_t now_ms, int64_t *wait_ms);
void dk_breaker_note(struct dk_breaker *breaker, bool failed, int64_t now_ms);
/* In place of a note: the call did not go out. If it was the probe, another one may be. */
void dk_breaker_let_go(struct dk_breaker *breaker);

/* Calls that begin within any one second are never more than the rate: they are spread over it. */
struct dk_pace {
    double per_second; /* tokens that come in; 0 = no limit */
    double most;       /* that are kept */
    double tokens;
    int64_t at_ms;
};
void dk_pace_init(struct dk_pace *pace, unsigned per_second, int64_t now_ms);
/* 0: a call may begin now, and is counted; else milliseconds to wait before asking again. */
int64_t dk_pace_take(struct dk_pace *pace, int64_t now_ms);

/* Full jitter: `random` of 32 bits between nothing and the whole of the wait of try 0, 1, .. */
int64_t dk_retry_wait_ms(int64_t first_ms, int64_t max_ms, int tried, uint32_t random);

#endif
