#include "base/secret.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef MADV_WIPEONFORK
#define MADV_WIPEONFORK 18
#endif

#define CANARY_BYTES 32

struct dk_arena {
    const struct dk_world *world;
    uint8_t *map; /* guard page | inside | guard page */
    size_t map_bytes;
    uint8_t *inside;
    size_t inside_bytes;
    uint8_t *cells;
    size_t cell_count;
    size_t table_bytes;
    _Atomic uint32_t *alive; /* inside: reads 0 after fork */
    uint8_t canary[CANARY_BYTES];
    pthread_mutex_t lock; /* guards free_list and free_count */
    uint32_t *free_list;  /* outside the mapping: indexes of free cells */
    size_t free_count;
};

/* Cells before the table: alive word and first canary (one each), the cells, the last canary. */
static size_t table_at(const struct dk_arena *arena)
{
    return (arena->cell_count + 3) * DK_SECRET_CELL;
}

/* The table is not written: pages that nothing lies in yet cost no memory. */
static void lay_out(struct dk_arena *arena)
{
    arena->alive = (_Atomic uint32_t *)(void *)arena->inside;
    memcpy(arena->inside + DK_SECRET_CELL, arena->canary, CANARY_BYTES);
    arena->cells = arena->inside + 2 * DK_SECRET_CELL;
    memcpy(arena->cells + arena->cell_count * DK_SECRET_CELL, arena->canary, CANARY_BYTES);
    for (size_t i = 0; i < arena->cell_count; i++) {
        arena->free_list[i] = (uint32_t)(arena->cell_count - 1 - i);
    }
    arena->free_count = arena->cell_count;
}

static bool map_pages(struct dk_arena *arena, struct dk_arena_report *report)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t wanted = table_at(arena) + arena->table_bytes;
    arena->inside_bytes = (wanted + page - 1) / page * page;
    arena->map_bytes = arena->inside_bytes + 2 * page;
    void *map = mmap(NULL, arena->map_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED) {
        return false;
    }
    arena->map = map;
    arena->inside = arena->map + page;
    if (mprotect(arena->inside, arena->inside_bytes, PROT_READ | PROT_WRITE) != 0 ||
        madvise(arena->inside, arena->inside_bytes, MADV_WIPEONFORK) != 0) {
        munmap(arena->map, arena->map_bytes);
        return false;
    }
    (void)madvise(arena->inside, arena->inside_bytes, MADV_DONTDUMP);
    report->bytes = arena->inside_bytes;
    report->locked = mlock2(arena->inside, arena->inside_bytes, MLOCK_ONFAULT) == 0;
    report->refusal = report->locked ? 0 : errno;
    return true;
}

dk_rc dk_arena_open(const struct dk_world *world, size_t cells, struct dk_arena **out,
                    struct dk_arena_report *report, struct dk_err *err)
{
    return dk_arena_open_with_table(world, cells, 0, out, report, err);
}

dk_rc dk_arena_open_with_table(const struct dk_world *world, size_t cells, size_t table_bytes,
                               struct dk_arena **out, struct dk_arena_report *report,
                               struct dk_err *err)
{
    struct dk_arena *arena = dk_mem_zalloc(&world->mem, sizeof *arena);
    if (arena == NULL) {
        return DK_FAIL(err, NOMEM, "no memory for the key arena");
    }
    arena->world = world;
    arena->cell_count = cells;
    arena->table_bytes = table_bytes;
    arena->free_list = dk_mem_alloc(&world->mem, cells * sizeof *arena->free_list);
    if (arena->free_list == NULL ||
        dk_random_fill(world, arena->canary, CANARY_BYTES, err) != DK_OK ||
        !map_pages(arena, report)) {
        dk_mem_free(&world->mem, arena->free_list);
        dk_mem_free(&world->mem, arena);
        return DK_FAIL(err, NOMEM, "no memory for a key arena of %zu cells", cells);
    }
    pthread_mutex_init(&arena->lock, NULL);
    lay_out(arena);
    dk_arena_revive(arena);
    *out = arena;
    return DK_OK;
}

void dk_arena_close(struct dk_arena *arena)
{
    if (arena == NULL) {
        return;
    }
    OPENSSL_cleanse(arena->inside, table_at(arena));
    munmap(arena->map, arena->map_bytes);
    pthread_mutex_destroy(&arena->lock);
    dk_mem_free(&arena->world->mem, arena->free_list);
    dk_mem_free(&arena->world->mem, arena);
}

bool dk_arena_forked(const struct dk_arena *arena)
{
    return atomic_load_explicit(arena->alive, memory_order_acquire) == 0;
}

const _Atomic uint32_t *dk_arena_alive(const struct dk_arena *arena)
{
    return arena->alive;
}

void dk_arena_reset(struct dk_arena *arena)
{
    pthread_mutex_init(&arena->lock, NULL); /* a thread that is gone may have held it */
    lay_out(arena);
}

void dk_arena_revive(struct dk_arena *arena)
{
    atomic_store_explicit(arena->alive, 1, memory_order_release);
}

bool dk_arena_intact(const struct dk_arena *arena)
{
    const uint8_t *last = arena->cells + arena->cell_count * DK_SECRET_CELL;
    return memcmp(arena->inside + DK_SECRET_CELL, arena->canary, CANARY_BYTES) == 0 &&
           memcmp(last, arena->canary, CANARY_BYTES) == 0;
}

uint8_t *dk_arena_expose_table_for_cache(struct dk_arena *arena, size_t *n)
{
    *n = arena->table_bytes;
    return arena->inside + table_at(arena);
}

uint8_t *dk_arena_expose_whole_for_file(struct dk_arena *arena, size_t *n)
{
    *n = arena->cell_count * DK_SECRET_CELL;
    return arena->cells;
}

dk_rc dk_secret_new(struct dk_arena *arena, size_t n, struct dk_secret *out, struct dk_err *err)
{
    if (n == 0 || n > DK_SECRET_CELL) {
        return DK_FAIL(err, INTERNAL, "a secret of %zu bytes", n);
    }
    pthread_mutex_lock(&arena->lock);
    bool found = arena->free_count > 0;
    uint32_t index = found ? arena->free_list[--arena->free_count] : 0;
    pthread_mutex_unlock(&arena->lock);
    if (!found) {
        return DK_FAIL(err, NOMEM, "the key arena is full (%zu cells)", arena->cell_count);
    }
    out->cell = arena->cells + (size_t)index * DK_SECRET_CELL;
    out->n = (uint8_t)n;
    return DK_OK;
}

void dk_secret_free(struct dk_arena *arena, struct dk_secret *secret)
{
    if (secret->cell == NULL) {
        return;
    }
    OPENSSL_cleanse(secret->cell, DK_SECRET_CELL);
    uint32_t index = (uint32_t)((size_t)(secret->cell - arena->cells) / DK_SECRET_CELL);
    pthread_mutex_lock(&arena->lock);
    arena->free_list[arena->free_count++] = index;
    pthread_mutex_unlock(&arena->lock);
    secret->cell = NULL;
    secret->n = 0;
}

void dk_secret_wipe(struct dk_secret *secret)
{
    OPENSSL_cleanse(secret->cell, DK_SECRET_CELL);
}

bool dk_secret_equal(const struct dk_secret *a, const struct dk_secret *b)
{
    return a->n == b->n && CRYPTO_memcmp(a->cell, b->cell, a->n) == 0;
}

bool dk_secret_is_zero(const struct dk_secret *secret)
{
    static const uint8_t zero[DK_SECRET_CELL];
    return CRYPTO_memcmp(secret->cell, zero, secret->n) == 0;
}

void dk_wipe(void *p, size_t n)
{
    OPENSSL_cleanse(p, n);
}
