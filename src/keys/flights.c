#include "keys/flights.h"

#include <string.h>

void dk_flights_init(struct dk_flights *flights, pthread_mutex_t *lock)
{
    memset(flights, 0, sizeof *flights);
    flights->lock = lock;
    pthread_cond_init(&flights->room, NULL);
    pthread_cond_init(&flights->batch_landed, NULL);
    for (size_t i = 0; i < DK_FLIGHTS; i++) {
        pthread_cond_init(&flights->flight[i].landed, NULL);
    }
}

void dk_flights_clear(struct dk_flights *flights)
{
    pthread_cond_destroy(&flights->room);
    pthread_cond_destroy(&flights->batch_landed);
    for (size_t i = 0; i < DK_FLIGHTS; i++) {
        pthread_cond_destroy(&flights->flight[i].landed);
    }
}

static bool same_id(struct dk_hash128 a, struct dk_hash128 b)
{
    return a.lo == b.lo && a.hi == b.hi;
}

struct dk_flight *dk_flights_find(struct dk_flights *flights, struct dk_hash128 id)
{
    for (size_t i = 0; i < DK_FLIGHTS; i++) {
        struct dk_flight *flight = &flights->flight[i];
        if (flight->busy && !flight->done && same_id(flight->id, id)) {
            return flight;
        }
    }
    return NULL;
}

struct dk_flight *dk_flights_start(struct dk_flights *flights, struct dk_hash128 id)
{
    struct dk_flight *free_one = NULL;
    unsigned of_tenant = 0;
    for (size_t i = 0; i < DK_FLIGHTS; i++) {
        struct dk_flight *flight = &flights->flight[i];
        of_tenant += flight->busy && flight->id.hi == id.hi;
        free_one = flight->busy ? free_one : flight;
    }
    if (free_one == NULL || of_tenant >= DK_FLIGHTS_OF_TENANT) {
        return NULL;
    }
    free_one->id = id;
    free_one->busy = true;
    free_one->done = false;
    free_one->waiters = 0;
    dk_err_clear(&free_one->err);
    return free_one;
}

static void leave(struct dk_flights *flights, struct dk_flight *flight)
{
    if (flight->waiters == 0) {
        flight->busy = false;
        pthread_cond_broadcast(&flights->room); /* all: the next in line may have enough places */
    }
}

void dk_flights_land(struct dk_flights *flights, struct dk_flight *flight,
                     const struct dk_err *answer)
{
    flight->done = true;
    flight->err = *answer;
    pthread_cond_broadcast(&flight->landed);
    leave(flights, flight);
}

dk_rc dk_flights_wait(struct dk_flights *flights, struct dk_flight *flight, struct dk_err *err)
{
    flight->waiters++;
    while (!flight->done) {
        pthread_cond_wait(&flight->landed, flights->lock);
    }
    dk_rc rc = flight->err.rc;
    if (rc != DK_OK) {
        *err = flight->err;
    }
    flight->waiters--;
    leave(flights, flight);
    return rc;
}

void dk_flights_wait_for_room(struct dk_flights *flights)
{
    pthread_cond_wait(&flights->room, flights->lock);
}

bool dk_flights_in_batch(const struct dk_flights *flights, struct dk_hash128 id)
{
    for (size_t i = 0; i < flights->batch_count; i++) {
        if (same_id(flights->batch[i], id)) {
            return true;
        }
    }
    return false;
}

void dk_flights_start_batch(struct dk_flights *flights, const struct dk_hash128 *ids, size_t count)
{
    flights->batch = ids;
    flights->batch_count = count;
}

void dk_flights_land_batch(struct dk_flights *flights)
{
    flights->batch = NULL;
    flights->batch_count = 0;
    pthread_cond_broadcast(&flights->batch_landed);
}

void dk_flights_wait_for_batch(struct dk_flights *flights)
{
    pthread_cond_wait(&flights->batch_landed, flights->lock);
}
