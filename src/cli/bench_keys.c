#include "cli/bench_keys.h"

#include <openssl/kdf.h>
#include <stdio.h>
#include <stdlib.h>

#include "cli/bench_bulk.h"

/* ---- through the library --------------------------------------------------------------------- */

void bench_keys_name(struct bench_keys *k, size_t at, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        snprintf(k->names[i], sizeof k->names[i], "tenant-%08zu", at + i);
    }
}

double bench_keys_encrypt(struct bench_keys *k, struct dekhand *d, size_t at, size_t n)
{
    bench_keys_name(k, at, n);
    for (size_t i = 0; i < n; i++) {
        k->items[i] = (struct dekhand_item){.tenant = k->names[i],
                                            .in = "x",
                                            .in_size = 1,
                                            .out = (uint8_t *)k->values[at + i],
                                            .capacity = BENCH_KEYS_VALUE};
    }
    double began = bench_now_s();
    k->failed = dekhand_encrypt_batch(d, k->items, n, NULL) != DEKHAND_OK || k->failed;
    double took = bench_now_s() - began;
    for (size_t i = 0; i < n; i++) {
        k->values[at + i][BENCH_KEYS_VALUE - 1] = (char)k->items[i].size;
    }
    return took;
}

double bench_keys_decrypt(struct bench_keys *k, struct dekhand *d, size_t at, size_t n)
{
    uint8_t plain[8]; /* all into one: nobody reads them */
    bench_keys_name(k, at, n);
    for (size_t i = 0; i < n; i++) {
        k->items[i] =
            (struct dekhand_item){.tenant = k->names[i],
                                  .in = k->values[at + i],
                                  .in_size = (uint8_t)k->values[at + i][BENCH_KEYS_VALUE - 1],
                                  .out = plain,
                                  .capacity = sizeof plain};
    }
    double began = bench_now_s();
    k->failed = dekhand_decrypt_batch(d, k->items, n, NULL) != DEKHAND_OK || k->failed;
    return bench_now_s() - began;
}

/* ---- the yardstick --------------------------------------------------------------------------- */

bool bench_keys_bare(struct bench_keys *k)
{
    unsigned char out[64];
    int n;
    EVP_DecryptInit_ex2(k->open, NULL, NULL, k->blob, NULL);
    EVP_DecryptUpdate(k->open, out, &n, k->blob + 12, 32);
    EVP_CIPHER_CTX_ctrl(k->open, EVP_CTRL_AEAD_SET_TAG, 16, k->blob + 44);
    (void)EVP_DecryptFinal_ex(k->open, out, &n); /* of random bytes: it refuses, at the same cost */
    return EVP_KDF_derive(k->kdf, out, 48, NULL) == 1;
}

static bool prepare_bare(struct bench_keys *k)
{
    char digest[] = "SHA256";
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string("digest", digest, 0),
        OSSL_PARAM_construct_octet_string("key", k->key, sizeof k->key),
        OSSL_PARAM_construct_octet_string("info", k->blob, 40),
        OSSL_PARAM_construct_end(),
    };
    EVP_KDF *kdf = EVP_KDF_fetch(NULL, "HKDF", NULL);
    k->kdf = EVP_KDF_CTX_new(kdf);
    EVP_KDF_free(kdf);
    k->open = EVP_CIPHER_CTX_new();
    return EVP_KDF_CTX_set_params(k->kdf, params) == 1 &&
           EVP_DecryptInit_ex2(k->open, EVP_aes_256_gcm(), k->key, NULL, NULL) == 1;
}

/* ---- its life -------------------------------------------------------------------------------- */

bool bench_keys_init(struct bench_keys *k, size_t chunk, size_t tenants)
{
    *k = (struct bench_keys){.chunk = chunk};
    k->items = calloc(chunk, sizeof *k->items);
    k->names = calloc(chunk, sizeof *k->names);
    k->values = calloc(tenants, sizeof *k->values);
    return k->items != NULL && k->names != NULL && k->values != NULL && prepare_bare(k);
}

void bench_keys_clear(struct bench_keys *k)
{
    EVP_CIPHER_CTX_free(k->open);
    EVP_KDF_CTX_free(k->kdf);
    free(k->items);
    free(k->names);
    free(k->values);
    *k = (struct bench_keys){.chunk = 0};
}
