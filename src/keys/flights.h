/*
 * flights: the fetches that are under way: one for a key, so many at once, one batch beside them.
 *
 * Called by keys/cache only, with its lock held; who waits gives the lock up meanwhile. Knows
 * identities and answers, no keys and no source. No tenant has more than a quarter of the places.
 */
#ifndef DK_KEYS_FLIGHTS_H
#define DK_KEYS_FLIGHTS_H

#include <pthread.h>

#include "base/error.h"
#include "crypto/siphash.h"

#define DK_FLIGHTS 64
#define DK_FLIGHTS_OF_TENANT (DK_FLIGHTS / 4)

struct dk_flight {
    struct dk_hash128 id; /* .hi is the tenant's alone */
    bool busy;            /* the place is taken, until the last one that waits has its answer */
    bool done;
    unsigned waiters;
    pthread_cond_t landed;
    struct dk_err err; /* err.rc = the answer */
};

struct dk_flights {
    pthread_mutex_t *lock; /* the cache's */
    struct dk_flight flight[DK_FLIGHTS];
    pthread_cond_t room;            /* a place became free */
    const struct dk_hash128 *batch; /* of the one batch in the air; NULL = none */
    size_t batch_count;
    pthread_cond_t batch_landed;
};

void dk_flights_init(struct dk_flights *flights, pthread_mutex_t *lock);
void dk_flights_clear(struct dk_flights *flights);

/* On its way alone; NULL = it is not. */
struct dk_flight *dk_flights_find(struct dk_flights *flights, struct dk_hash128 id);
/* NULL: there is no place, or its tenant has enough of them. */
struct dk_flight *dk_flights_start(struct dk_flights *flights, struct dk_hash128 id);
void dk_flights_land(struct dk_flights *flights, struct dk_flight *flight,
                     const struct dk_err *answer);
/* Waits for another caller's flight; its error is ours. */
DK_MUST_USE dk_rc dk_flights_wait(struct dk_flights *flights, struct dk_flight *flight,
                                  struct dk_err *err);
void dk_flights_wait_for_room(struct dk_flights *flights);

/* True when the batch in the air brings this key. */
DK_MUST_USE bool dk_flights_in_batch(const struct dk_flights *flights, struct dk_hash128 id);
/* `ids` is lent until the batch has landed; there is none in the air. */
void dk_flights_start_batch(struct dk_flights *flights, const struct dk_hash128 *ids, size_t count);
void dk_flights_land_batch(struct dk_flights *flights);
void dk_flights_wait_for_batch(struct dk_flights *flights);

#endif
