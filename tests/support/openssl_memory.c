#include "support/expect.h"

#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>

static atomic_uint asked;
static atomic_uint fail_at;

static bool refused(void)
{
    return atomic_fetch_add(&asked, 1) + 1 == atomic_load(&fail_at);
}

static void *openssl_malloc(size_t n, const char *file, int line)
{
    (void)file;
    (void)line;
    return n == 0 || refused() ? NULL : malloc(n);
}

static void *openssl_realloc(void *p, size_t n, const char *file, int line)
{
    (void)file;
    (void)line;
    if (n == 0) {
        free(p);
        return NULL;
    }
    return refused() ? NULL : realloc(p, n);
}

static void openssl_free(void *p, const char *file, int line)
{
    (void)file;
    (void)line;
    free(p);
}

void dk_test_openssl_memory(void)
{
    if (CRYPTO_set_mem_functions(openssl_malloc, openssl_realloc, openssl_free) != 1) {
        fprintf(stderr, "OpenSSL has allocated already\n");
        abort();
    }
}

unsigned dk_test_openssl_fail_in(unsigned n)
{
    atomic_store(&fail_at, 0);
    unsigned before = atomic_exchange(&asked, 0);
    atomic_store(&fail_at, n);
    return before;
}
