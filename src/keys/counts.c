#include "keys/counts.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

/* So many versions waiting are written out even if none has many messages. */
#define MANY 4096

struct entry {
    struct dk_tenant tenant; /* n == 0: free */
    uint32_t version;
    int64_t count;
};

struct table {
    struct entry *entries;
    size_t cap; /* a power of two; 0 = none yet */
    size_t used;
};

struct dk_counts {
    const struct dk_world *world;
    pthread_mutex_t lock; /* guards table, and who writes most */
    struct table table;
    _Atomic int64_t most; /* the largest count since the last flush */
};

dk_rc dk_counts_open(const struct dk_world *world, struct dk_counts **out, struct dk_err *err)
{
    struct dk_counts *counts = dk_mem_zalloc(&world->mem, sizeof *counts);
    if (counts == NULL) {
        return DK_FAIL(err, NOMEM, "no memory for the message counts");
    }
    counts->world = world;
    pthread_mutex_init(&counts->lock, NULL);
    *out = counts;
    return DK_OK;
}

void dk_counts_close(struct dk_counts *counts)
{
    if (counts != NULL) {
        pthread_mutex_destroy(&counts->lock);
        dk_mem_free(&counts->world->mem, counts->table.entries);
        dk_mem_free(&counts->world->mem, counts);
    }
}

void dk_counts_after_fork(struct dk_counts *counts)
{
    pthread_mutex_init(&counts->lock, NULL);
    if (counts->table.cap > 0) {
        memset(counts->table.entries, 0, counts->table.cap * sizeof *counts->table.entries);
    }
    counts->table.used = 0;
    counts->most = 0;
}

/* The entry of a version, or the free place where it belongs. The table is never full. */
static struct entry *place(struct table *table, const struct dk_tenant *tenant, uint32_t version)
{
    uint64_t h = 1469598103934665603u; /* FNV-1a: no more than spreading */
    for (size_t i = 0; i < tenant->n; i++) {
        h = (h ^ (uint8_t)tenant->s[i]) * 1099511628211u;
    }
    h = (h ^ version) * 1099511628211u;
    for (size_t i = (size_t)(h >> 20);; i++) {
        struct entry *entry = &table->entries[i & (table->cap - 1)];
        if (entry->tenant.n == 0 ||
            (entry->version == version && dk_tenant_equal(&entry->tenant, tenant))) {
            return entry;
        }
    }
}

static bool grow(const struct dk_mem *mem, struct table *table)
{
    if (table->used + 1 <= table->cap / 4 * 3) {
        return true;
    }
    struct table bigger = {.cap = table->cap == 0 ? 64 : table->cap * 2, .used = table->used};
    bigger.entries = dk_mem_zalloc(mem, bigger.cap * sizeof *bigger.entries);
    if (bigger.entries == NULL) {
        return false;
    }
    for (size_t i = 0; i < table->cap; i++) {
        const struct entry *old = &table->entries[i];
        if (old->tenant.n > 0) {
            *place(&bigger, &old->tenant, old->version) = *old;
        }
    }
    dk_mem_free(mem, table->entries);
    *table = bigger;
    return true;
}

static int64_t add_locked(struct dk_counts *counts, const struct dk_tenant *tenant,
                          uint32_t version, int64_t count)
{
    if (!grow(&counts->world->mem, &counts->table)) {
        return INT64_MAX;
    }
    struct entry *entry = place(&counts->table, tenant, version);
    if (entry->tenant.n == 0) {
        *entry = (struct entry){.tenant = *tenant, .version = version};
        counts->table.used++;
    }
    entry->count += count;
    counts->most = entry->count > counts->most ? entry->count : counts->most;
    return entry->count;
}

int64_t dk_counts_add(struct dk_counts *counts, const struct dk_tenant *tenant, uint32_t version,
                      int64_t count)
{
    pthread_mutex_lock(&counts->lock);
    int64_t sum = add_locked(counts, tenant, version, count);
    pthread_mutex_unlock(&counts->lock);
    return sum;
}

bool dk_counts_reach(struct dk_counts *counts, int64_t messages)
{
    return atomic_load_explicit(&counts->most, memory_order_relaxed) >= messages;
}

int64_t dk_counts_pending(struct dk_counts *counts, const struct dk_tenant *tenant,
                          uint32_t version)
{
    pthread_mutex_lock(&counts->lock);
    int64_t sum = counts->table.cap > 0 ? place(&counts->table, tenant, version)->count : 0;
    pthread_mutex_unlock(&counts->lock);
    return sum;
}

bool dk_counts_want_flush(struct dk_counts *counts, int64_t messages)
{
    pthread_mutex_lock(&counts->lock);
    bool want = counts->most >= messages || counts->table.used >= MANY;
    pthread_mutex_unlock(&counts->lock);
    return want;
}

static struct table take_all(struct dk_counts *counts)
{
    pthread_mutex_lock(&counts->lock);
    struct table all = counts->table;
    counts->table = (struct table){0};
    counts->most = 0;
    pthread_mutex_unlock(&counts->lock);
    return all;
}

/* After a failed flush: nothing is forgotten while there is memory to hold it. */
static void give_back(struct dk_counts *counts, const struct table *all)
{
    pthread_mutex_lock(&counts->lock);
    for (size_t i = 0; i < all->cap; i++) {
        const struct entry *entry = &all->entries[i];
        if (entry->tenant.n > 0) {
            add_locked(counts, &entry->tenant, entry->version, entry->count);
        }
    }
    pthread_mutex_unlock(&counts->lock);
}

static int compare(const void *pa, const void *pb)
{
    const struct dk_sealed *a = pa, *b = pb;
    int c = strcmp(a->tenant->s, b->tenant->s);
    return c != 0 ? c : a->version < b->version ? -1 : a->version > b->version;
}

/* In the order that the store wants. */
static void list_all(const struct table *all, struct dk_sealed *out)
{
    size_t n = 0;
    for (size_t i = 0; i < all->cap; i++) {
        const struct entry *entry = &all->entries[i];
        if (entry->tenant.n > 0) {
            out[n++] = (struct dk_sealed){
                .tenant = &entry->tenant, .version = entry->version, .count = entry->count};
        }
    }
    qsort(out, n, sizeof *out, compare);
}

static dk_rc write_all(struct dk_core *core, struct dk_sealed *list, size_t count,
                       struct dk_err *err)
{
    struct dk_txn txn;
    DK_TRY(dk_store_begin(&core->store, DK_TXN_WRITE, &txn, err));
    dk_rc rc = txn.ops->key_add_messages(txn.self, list, count, err);
    if (rc == DK_OK) {
        rc = dk_store_commit(&txn, err);
    }
    dk_store_rollback(&txn);
    return rc;
}

/* A version whose row is gone has nothing to count for; it did not stop the others. */
static void tell_gone(const struct dk_core *core, const struct dk_sealed *of)
{
    DK_LOG(&core->log, ERROR, "counted_version_is_gone", DK_LOG_S(TENANT, of->tenant->s),
           DK_LOG_I(VERSION, of->version), DK_LOG_I(COUNT, of->count));
}

dk_rc dk_counts_flush(struct dk_core *core,
                      void (*full)(void *arg, const struct dk_tenant *tenant, uint32_t version),
                      void *arg, struct dk_err *err)
{
    struct dk_counts *counts = core->counts;
    const struct dk_mem *mem = &core->world->mem;
    struct table all = take_all(counts);
    if (all.used == 0) {
        dk_mem_free(mem, all.entries);
        return DK_OK;
    }
    struct dk_sealed *list = dk_mem_alloc(mem, all.used * sizeof *list);
    dk_rc rc = DK_E_NOMEM;
    if (list == NULL) {
        rc = DK_FAIL(err, NOMEM, "no memory to flush the message counts");
    } else {
        list_all(&all, list);
        rc = write_all(core, list, all.used, err);
    }
    if (rc != DK_OK) {
        give_back(counts, &all);
    }
    for (size_t i = 0; i < all.used && rc == DK_OK; i++) {
        if (list[i].gone) {
            tell_gone(core, &list[i]);
        } else if (full != NULL && list[i].sum >= core->limits.rotate_messages) {
            full(arg, list[i].tenant, list[i].version);
        }
    }
    dk_mem_free(mem, list);
    dk_mem_free(mem, all.entries);
    return rc;
}
