/*
 * lease: how long this process may encrypt without news of the registry (I22).
 *
 * Called by manager. A version that was retired elsewhere encrypts nothing here later than that
 * after it: the lease counts from before the last look that succeeded was begun. Time that the
 * clock of calls does not see (the machine slept) ends it at once, until the next look. Shared by
 * threads.
 */
#ifndef DK_KEYS_LEASE_H
#define DK_KEYS_LEASE_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/world.h"

struct dk_lease {
    _Atomic int64_t until_ms;  /* of the clock of calls; from then on nothing is encrypted */
    _Atomic int64_t boot_lead; /* of the clock that counts sleep before the one of calls */
    _Atomic int64_t wall_lead; /* of the wall's, in ms */
    _Atomic int64_t next_try_ms;
    pthread_mutex_t lock; /* one thread at a time tries to renew it */
};

/* When a look was begun. */
struct dk_lease_start {
    int64_t mono_ms, boot_ms, wall_ms;
};

void dk_lease_init(struct dk_lease *lease);
void dk_lease_destroy(struct dk_lease *lease);
struct dk_lease_start dk_lease_now(const struct dk_world *world);
/* The look that was begun then succeeded. */
void dk_lease_renew(struct dk_lease *lease, const struct dk_lease_start *start, int64_t lease_ms);
/*
 * Compares the clocks; to be asked whenever the clock of calls has moved. When they went apart the
 * lease is over.
 */
void dk_lease_compare(struct dk_lease *lease, const struct dk_world *world, int64_t lease_ms);

static inline bool dk_lease_is_over(struct dk_lease *lease, int64_t now_ms)
{
    return now_ms >= atomic_load_explicit(&lease->until_ms, memory_order_relaxed);
}

#endif
