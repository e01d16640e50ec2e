#include "crypto/nonce.h"

#include <sys/mman.h>

#ifndef MADV_WIPEONFORK
#define MADV_WIPEONFORK 18
#endif

struct dk_nonce_pool *dk_nonce_pool_new(void)
{
    void *page = mmap(NULL, sizeof(struct dk_nonce_pool), PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED) {
        return NULL;
    }
    if (madvise(page, sizeof(struct dk_nonce_pool), MADV_WIPEONFORK) != 0) {
        munmap(page, sizeof(struct dk_nonce_pool));
        return NULL;
    }
    (void)madvise(page, sizeof(struct dk_nonce_pool), MADV_DONTDUMP);
    return page;
}

void dk_nonce_pool_free(struct dk_nonce_pool *pool)
{
    if (pool != NULL) {
        dk_wipe(pool, sizeof *pool);
        munmap(pool, sizeof *pool);
    }
}

dk_rc dk_nonce_refill(struct dk_nonce_pool *pool, const struct dk_world *world, struct dk_err *err)
{
    pool->left = 0;
    DK_TRY(dk_random_fill(world, pool->bytes, sizeof pool->bytes, err));
    pool->left = sizeof pool->bytes;
    return DK_OK;
}
