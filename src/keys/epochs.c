#include "keys/epochs.h"

#include <pthread.h>

#include "crypto/siphash.h"

#define FIRST 64

struct entry {
    uint64_t tenant; /* keyed hash; 0 = free */
    int64_t epoch;
};

struct dk_epochs {
    const struct dk_world *world;
    pthread_mutex_t lock; /* guards all that follows */
    uint8_t hash_key[16];
    size_t max;
    struct entry *entries;
    size_t cap; /* a power of two */
    size_t used;
};

dk_rc dk_epochs_open(const struct dk_world *world, size_t max, struct dk_epochs **out,
                     struct dk_err *err)
{
    struct dk_epochs *epochs = dk_mem_zalloc(&world->mem, sizeof *epochs);
    if (epochs == NULL) {
        return DK_FAIL(err, NOMEM, "no memory for the epochs");
    }
    epochs->world = world;
    epochs->max = max;
    epochs->cap = FIRST;
    epochs->entries = dk_mem_zalloc(&world->mem, FIRST * sizeof *epochs->entries);
    dk_rc rc = epochs->entries != NULL
                   ? dk_random_fill(world, epochs->hash_key, sizeof epochs->hash_key, err)
                   : DK_FAIL(err, NOMEM, "no memory for the epochs");
    if (rc != DK_OK) {
        dk_mem_free(&world->mem, epochs->entries);
        dk_mem_free(&world->mem, epochs);
        return rc;
    }
    pthread_mutex_init(&epochs->lock, NULL);
    *out = epochs;
    return DK_OK;
}

void dk_epochs_close(struct dk_epochs *epochs)
{
    if (epochs != NULL) {
        pthread_mutex_destroy(&epochs->lock);
        dk_mem_free(&epochs->world->mem, epochs->entries);
        dk_mem_free(&epochs->world->mem, epochs);
    }
}

void dk_epochs_after_fork(struct dk_epochs *epochs)
{
    pthread_mutex_init(&epochs->lock, NULL);
}

static uint64_t hash_of(const struct dk_epochs *epochs, const struct dk_tenant *tenant)
{
    uint64_t hash = dk_siphash128(epochs->hash_key, (const uint8_t *)tenant->s, tenant->n).hi;
    return hash != 0 ? hash : 1;
}

static bool is_full(size_t used, size_t cap)
{
    return used >= cap / 4 * 3;
}

/* The tenant's entry or the free one where it belongs; there always is a free one. */
static struct entry *place(struct entry *entries, size_t cap, uint64_t hash)
{
    size_t i = (size_t)hash & (cap - 1);
    while (entries[i].tenant != 0 && entries[i].tenant != hash) {
        i = (i + 1) & (cap - 1);
    }
    return &entries[i];
}

/* Twice the size while the bound permits it; without memory it stays as it is. */
static void grow_locked(struct dk_epochs *epochs)
{
    size_t cap = epochs->cap * 2;
    if (!is_full(epochs->used, epochs->cap) || epochs->cap >= epochs->max) {
        return;
    }
    struct entry *bigger = dk_mem_zalloc(&epochs->world->mem, cap * sizeof *bigger);
    for (size_t i = 0; bigger != NULL && i < epochs->cap; i++) {
        if (epochs->entries[i].tenant != 0) {
            *place(bigger, cap, epochs->entries[i].tenant) = epochs->entries[i];
        }
    }
    if (bigger != NULL) {
        dk_mem_free(&epochs->world->mem, epochs->entries);
        epochs->entries = bigger;
        epochs->cap = cap;
    }
}

static int64_t see_locked(struct dk_epochs *epochs, uint64_t hash, int64_t epoch)
{
    grow_locked(epochs);
    struct entry *entry = place(epochs->entries, epochs->cap, hash);
    if (entry->tenant == 0 && is_full(epochs->used, epochs->cap)) {
        entry = &epochs->entries[hash & (epochs->cap - 1)];
        if (entry->tenant == 0) {
            return epoch; /* a quarter stays free, or the search would not end: not remembered */
        }
    } /* else another tenant is forgotten */
    epochs->used += entry->tenant == 0;
    if (entry->tenant != hash || entry->epoch < epoch) {
        *entry = (struct entry){hash, epoch};
    }
    return entry->epoch;
}

int64_t dk_epochs_see(struct dk_epochs *epochs, const struct dk_tenant *tenant, int64_t epoch)
{
    uint64_t hash = hash_of(epochs, tenant);
    pthread_mutex_lock(&epochs->lock);
    int64_t highest = see_locked(epochs, hash, epoch);
    pthread_mutex_unlock(&epochs->lock);
    return highest;
}

void dk_epochs_forget(struct dk_epochs *epochs)
{
    pthread_mutex_lock(&epochs->lock);
    memset(epochs->entries, 0, epochs->cap * sizeof *epochs->entries);
    epochs->used = 0;
    pthread_mutex_unlock(&epochs->lock);
}
