/*
 * pool: memory taken piece by piece and given back all at once; wiped before it is freed.
 *
 * What a batch of rows needs beside its buffers lives in one. Belongs to one thread at a time.
 */
#ifndef DK_CLI_POOL_H
#define DK_CLI_POOL_H

#include <stddef.h>

struct pool_block;
struct pool {
    struct pool_block *first;
    struct pool_block *current;
};

/* NULL when there is no memory. Valid until the reset. */
void *pool_take(struct pool *pool, size_t n);
void pool_reset(struct pool *pool);
void pool_free(struct pool *pool);

#endif
