#include "keys/epochs.h"

#include <pthread.h>

#include "crypto/siphash.h"

#define FIRST 64

/* Two arrays rather than one of pairs: 12 bytes a tenant, and there may be a million. */
struct table {
    uint64_t *tenants; /* keyed hash; 0 = free */
    uint32_t *epochs;  /* none is told from one of 2^32 or more: nobody changes a key so often */
    size_t cap;        /* a power of two */
};

struct dk_epochs {
    const struct dk_world *world;
    pthread_mutex_t lock; /* guards all that follows */
    uint8_t hash_key[16];
    size_t max;
    struct table table;
    size_t used;
};

/* One block: twice the one before it, it never fits into what that leaves behind. */
static bool table_new(const struct dk_mem *mem, size_t cap, struct table *out)
{
    uint64_t *block = dk_mem_zalloc(mem, cap * (sizeof *out->tenants + sizeof *out->epochs));
    if (block == NULL) {
        return false;
    }
    *out = (struct table){block, (uint32_t *)(void *)(block + cap), cap};
    return true;
}

static void table_free(const struct dk_mem *mem, struct table *table)
{
    dk_mem_free(mem, table->tenants);
}

dk_rc dk_epochs_open(const struct dk_world *world, size_t max, struct dk_epochs **out,
                     struct dk_err *err)
{
    struct dk_epochs *epochs = dk_mem_zalloc(&world->mem, sizeof *epochs);
    if (epochs == NULL) {
        return DK_FAIL(err, NOMEM, "no memory for the epochs");
    }
    epochs->world = world;
    epochs->max = max;
    dk_rc rc = table_new(&world->mem, FIRST, &epochs->table)
                   ? dk_random_fill(world, epochs->hash_key, sizeof epochs->hash_key, err)
                   : DK_FAIL(err, NOMEM, "no memory for the epochs");
    if (rc != DK_OK) {
        table_free(&world->mem, &epochs->table);
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
        table_free(&epochs->world->mem, &epochs->table);
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

/* The tenant's place or the free one where it belongs; there always is a free one. */
static size_t place(const struct table *table, uint64_t hash)
{
    size_t i = (size_t)hash & (table->cap - 1);
    while (table->tenants[i] != 0 && table->tenants[i] != hash) {
        i = (i + 1) & (table->cap - 1);
    }
    return i;
}

/* Twice the size while the bound permits it; without memory it stays as it is. */
static void grow_locked(struct dk_epochs *epochs)
{
    const struct dk_mem *mem = &epochs->world->mem;
    struct table *table = &epochs->table, bigger;
    if (!is_full(epochs->used, table->cap) || table->cap >= epochs->max ||
        !table_new(mem, table->cap * 2, &bigger)) {
        return;
    }
    for (size_t i = 0; i < table->cap; i++) {
        if (table->tenants[i] != 0) {
            size_t to = place(&bigger, table->tenants[i]);
            bigger.tenants[to] = table->tenants[i];
            bigger.epochs[to] = table->epochs[i];
        }
    }
    table_free(mem, table);
    *table = bigger;
}

static int64_t see_locked(struct dk_epochs *epochs, uint64_t hash, int64_t epoch)
{
    grow_locked(epochs);
    struct table *table = &epochs->table;
    uint32_t known = epoch < UINT32_MAX ? (uint32_t)epoch : UINT32_MAX;
    size_t i = place(table, hash);
    if (table->tenants[i] == 0 && is_full(epochs->used, table->cap)) {
        i = (size_t)hash & (table->cap - 1);
        if (table->tenants[i] == 0) {
            return epoch; /* a quarter stays free, or the search would not end: not remembered */
        }
    } /* else another tenant is forgotten */
    epochs->used += table->tenants[i] == 0;
    if (table->tenants[i] != hash || table->epochs[i] < known) {
        table->tenants[i] = hash;
        table->epochs[i] = known;
    }
    return table->epochs[i] > known ? table->epochs[i] : epoch;
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
    memset(epochs->table.tenants, 0, epochs->table.cap * sizeof *epochs->table.tenants);
    epochs->used = 0;
    pthread_mutex_unlock(&epochs->lock);
}
