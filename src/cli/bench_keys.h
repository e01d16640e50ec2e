/*
 * bench_keys: many tenants' keys through the library, first used and cold, and what a bare reader
 * has to do for each of them.
 *
 * Called by the bench of the registry, whatever the store is. One thread.
 */
#ifndef DK_CLI_BENCH_KEYS_H
#define DK_CLI_BENCH_KEYS_H

#include <openssl/evp.h>
#include <stdbool.h>

#include "dekhand.h"

#define BENCH_KEYS_VALUE 96 /* room for one */

struct bench_keys {
    size_t chunk;                     /* tenants in one call, at most */
    struct dekhand_item *items;       /* chunk */
    char (*names)[32];                /* chunk: of the tenants asked for last */
    char (*values)[BENCH_KEYS_VALUE]; /* of all tenants */
    EVP_CIPHER_CTX *open;
    EVP_KDF_CTX *kdf;
    unsigned char key[32], blob[64];
    bool failed; /* a call failed: no time means anything */
};

/* False: no memory. Cleared in any case with bench_keys_clear(). */
bool bench_keys_init(struct bench_keys *k, size_t chunk, size_t tenants);
void bench_keys_clear(struct bench_keys *k);

/* names[] of the tenants from number `at` on. */
void bench_keys_name(struct bench_keys *k, size_t at, size_t n);
/* One value of each of them, in one call. Seconds. */
double bench_keys_encrypt(struct bench_keys *k, struct dekhand *d, size_t at, size_t n);
double bench_keys_decrypt(struct bench_keys *k, struct dekhand *d, size_t at, size_t n);

/* One HKDF and one GCM open: the least that a wrapped key costs. */
bool bench_keys_bare(struct bench_keys *k);

#endif
