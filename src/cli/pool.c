#include "cli/pool.h"

#include <openssl/crypto.h>
#include <stdint.h>
#include <stdlib.h>

#define BLOCK (128 * 1024)

struct pool_block {
    struct pool_block *next;
    size_t cap;
    size_t used;
    max_align_t bytes[];
};

static struct pool_block *new_block(size_t n)
{
    size_t cap = n > BLOCK ? n : BLOCK;
    struct pool_block *block = malloc(sizeof *block + cap);
    if (block != NULL) {
        *block = (struct pool_block){.cap = cap};
    }
    return block;
}

void *pool_take(struct pool *pool, size_t n)
{
    n = (n + 7) & ~(size_t)7;
    while (pool->current != NULL && pool->current->cap - pool->current->used < n &&
           pool->current->next != NULL) {
        pool->current = pool->current->next;
    }
    if (pool->current == NULL || pool->current->cap - pool->current->used < n) {
        struct pool_block *block = new_block(n);
        if (block == NULL) {
            return NULL;
        }
        *(pool->current != NULL ? &pool->current->next : &pool->first) = block;
        pool->current = block;
    }
    void *p = (uint8_t *)pool->current->bytes + pool->current->used;
    pool->current->used += n;
    return p;
}

static void free_block(struct pool_block *block)
{
    OPENSSL_cleanse(block->bytes, block->cap);
    free(block);
}

/* Blocks of the usual size are kept for the next batch. */
void pool_reset(struct pool *pool)
{
    struct pool_block **link = &pool->first;
    while (*link != NULL) {
        struct pool_block *block = *link;
        block->used = 0;
        if (block->cap > BLOCK) {
            *link = block->next;
            free_block(block);
        } else {
            link = &block->next;
        }
    }
    pool->current = pool->first;
}

void pool_free(struct pool *pool)
{
    while (pool->first != NULL) {
        struct pool_block *next = pool->first->next;
        free_block(pool->first);
        pool->first = next;
    }
    pool->current = NULL;
}
