#include "keys/lease.h"

/* Clocks are read one after the other, and the one of calls is coarse. */
#define SLACK_MS 1000

void dk_lease_init(struct dk_lease *lease)
{
    pthread_mutex_init(&lease->lock, NULL);
    atomic_store(&lease->until_ms, INT64_MIN);
    atomic_store(&lease->next_try_ms, INT64_MIN);
}

void dk_lease_destroy(struct dk_lease *lease)
{
    pthread_mutex_destroy(&lease->lock);
}

struct dk_lease_start dk_lease_now(const struct dk_world *world)
{
    struct dk_lease_start start = {.mono_ms = dk_mono_ms(world)};
    start.boot_ms = dk_boot_ms(world);
    start.wall_ms = dk_wall_us(world) / 1000;
    return start;
}

void dk_lease_renew(struct dk_lease *lease, const struct dk_lease_start *start, int64_t lease_ms)
{
    atomic_store(&lease->boot_lead, start->boot_ms - start->mono_ms);
    atomic_store(&lease->wall_lead, start->wall_ms - start->mono_ms);
    atomic_store(&lease->until_ms, start->mono_ms + lease_ms);
}

void dk_lease_compare(struct dk_lease *lease, const struct dk_world *world, int64_t lease_ms)
{
    struct dk_lease_start now = dk_lease_now(world);
    int64_t slept = now.boot_ms - now.mono_ms - atomic_load(&lease->boot_lead);
    int64_t stepped = now.wall_ms - now.mono_ms - atomic_load(&lease->wall_lead);
    if (slept > SLACK_MS || stepped > lease_ms || stepped < -lease_ms) {
        atomic_store(&lease->until_ms, INT64_MIN);
        atomic_store(&lease->next_try_ms, INT64_MIN);
    }
}
