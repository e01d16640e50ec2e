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

/* A version whose row is gone has nothing to count for; it must not stop the others. */
static dk_rc write_one(struct dk_core *core, struct dk_txn *txn, const struct entry *entry,
                       int64_t *sum, struct dk_err *err)
{
    dk_rc rc = txn->ops->key_add_messages(txn->self, &entry->tenant, entry->version, entry->count,
                                          sum, err);
    if (rc != DK_E_NOT_FOUND) {
        return rc;
    }
    dk_err_clear(err);
    DK_LOG(&core->log, ERROR, "counted_version_is_gone", DK_LOG_S(TENANT, entry->tenant.s),
           DK_LOG_I(VERSION, entry->version), DK_LOG_I(COUNT, entry->count));
    return DK_OK;
}

static int compare(const void *pa, const void *pb)
{
    const struct entry *a = *(const struct entry *const *)pa;
    const struct entry *b = *(const struct entry *const *)pb;
    int c = strcmp(a->tenant.s, b->tenant.s);
    return c != 0 ? c : a->version < b->version ? -1 : a->version > b->version;
}

/* All flushes go over the rows in one order: none waits for one that waits for it. */
static void list(const struct table *all, const struct entry **out)
{
    size_t n = 0;
    for (size_t i = 0; i < all->cap; i++) {
        if (all->entries[i].tenant.n > 0) {
            out[n++] = &all->entries[i];
        }
    }
    qsort(out, n, sizeof(*out), compare);
}

/* sums[i] becomes what the version of entry i has sealed, for the look at rotate_messages. */
static dk_rc write_once(struct dk_core *core, const struct table *all,
                        const struct entry *const *entries, int64_t *sums, struct dk_err *err)
{
    struct dk_txn txn;
    DK_TRY(dk_store_begin(&core->store, DK_TXN_WRITE, &txn, err));
    dk_rc rc = DK_OK;
    for (size_t k = 0; k < all->used && rc == DK_OK; k++) {
        rc = write_one(core, &txn, entries[k], &sums[entries[k] - all->entries], err);
    }
    if (rc == DK_OK) {
        rc = dk_store_commit(&txn, err);
    }
    dk_store_rollback(&txn);
    return rc;
}

static dk_rc write_all(struct dk_core *core, const struct table *all, int64_t *sums,
                       struct dk_err *err)
{
    const struct entry **entries = dk_mem_alloc(&core->world->mem, all->used * sizeof(*entries));
    if (entries == NULL) {
        return DK_FAIL(err, NOMEM, "no memory to flush the message counts");
    }
    list(all, entries);
    dk_rc rc = write_once(core, all, entries, sums, err);
    dk_mem_free(&core->world->mem, entries);
    return rc;
}

dk_rc dk_counts_flush(struct dk_core *core,
                      void (*full)(void *arg, const struct dk_tenant *tenant, uint32_t version),
                      void *arg, struct dk_err *err)
{
    struct dk_counts *counts = core->counts;
    struct table all = take_all(counts);
    if (all.used == 0) {
        dk_mem_free(&core->world->mem, all.entries);
        return DK_OK;
    }
    int64_t *sums = dk_mem_zalloc(&core->world->mem, all.cap * sizeof *sums);
    dk_rc rc = sums == NULL ? DK_FAIL(err, NOMEM, "no memory to flush the message counts")
                            : write_all(core, &all, sums, err);
    if (rc != DK_OK) {
        give_back(counts, &all);
    }
    for (size_t i = 0; i < all.cap && rc == DK_OK && full != NULL; i++) {
        if (all.entries[i].tenant.n > 0 && sums[i] >= core->limits.rotate_messages) {
            full(arg, &all.entries[i].tenant, all.entries[i].version);
        }
    }
    dk_mem_free(&core->world->mem, sums);
    dk_mem_free(&core->world->mem, all.entries);
    return rc;
}
