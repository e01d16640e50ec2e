/*
 * usage: how often the providers were asked and how often memory answered instead, kept by day in
 * the store, and what that costs at list price.
 *
 * Fed by keys/manager, with its flush of counts and at close; read by the door. What a process
 * counted since its last flush is lost with it: the figures are for people, no rule looks at them.
 * Nothing is kept where no provider is paid. Shared by threads.
 */
#ifndef DK_KEYS_USAGE_H
#define DK_KEYS_USAGE_H

#include "keys/core.h"

#define DK_USAGE_CACHE "cache" /* `source` of hits and misses */
#define DK_USAGE_HIT "hit"
#define DK_USAGE_MISS "miss"
#define DK_USAGE_DAYS_MAX 366

struct dk_usage;

DK_MUST_USE dk_rc dk_usage_open(const struct dk_world *world, struct dk_usage **out,
                                struct dk_err *err);
void dk_usage_close(struct dk_usage *usage); /* NULL is allowed */
/* In a child process, alone: `hits` and `misses` as they are there now. */
void dk_usage_after_fork(struct dk_usage *usage, int64_t hits, int64_t misses);

/* Adds to the store what was counted since the last time; both count from the opening on. What
   could not be written is written next time; that is logged. */
void dk_usage_keep(struct dk_core *core, int64_t hits, int64_t misses);

/* ---- what it costs --------------------------------------------------------------------------- */

struct dk_usage_operation {
    char name[40];
    int64_t calls;
    int64_t failed;
};

/* One provider. Amounts are millionths of a dollar. */
struct dk_usage_cost {
    char provider[32];
    char kms_key_id[DK_KMS_KEY_ID_MAX + 1]; /* "": it is not configured */
    const struct dk_price *price;           /* NULL: not in the list */
    struct dk_usage_operation operations[DK_PROVIDER_OPERATIONS];
    size_t operation_count;
    int64_t calls;
    int64_t failed;
    int64_t month_calls;          /* 30 days at this rate */
    int64_t month;                /* .. what they cost, the key's price with them */
    int64_t month_calls_uncached; /* had memory never answered */
    int64_t month_uncached;
};

struct dk_usage_costs {
    char from[11]; /* the first day that has counts, or today */
    char to[11];   /* today */
    int64_t measured_s;
    int64_t hits;
    int64_t misses;
    struct dk_usage_cost providers[4];
    size_t count;
};

/* Of the last `days` (1 to DK_USAGE_DAYS_MAX), today with them. May ask a provider what its key is.
 */
DK_MUST_USE dk_rc dk_usage_costs(struct dk_core *core, int64_t days, struct dk_usage_costs *out,
                                 struct dk_err *err);

#endif
