#include "crypto/mac.h"

#include <stdatomic.h>

struct dk_mac {
    const struct dk_mem *mem;
    EVP_MAC_CTX *keyed; /* copied from, and never changed */
    EVP_MAC_CTX *ready;
    atomic_flag taken; /* `ready` is a thread's */
};

static void mac_free(struct dk_mac *mac)
{
    if (!atomic_flag_test_and_set_explicit(&mac->taken, memory_order_acquire)) {
        EVP_MAC_CTX_free(mac->ready);
    }
    EVP_MAC_CTX_free(mac->keyed);
    dk_mem_free(mac->mem, mac);
}

static struct dk_mac *mac_new(const struct dk_suite *suite, struct dk_view key)
{
    struct dk_mac *mac = dk_mem_zalloc(&suite->world->mem, sizeof *mac);
    if (mac == NULL) {
        return NULL;
    }
    mac->mem = &suite->world->mem;
    atomic_flag_clear(&mac->taken);
    mac->keyed = dk_suite_hmac_ctx(suite);
    if (mac->keyed == NULL || EVP_MAC_init(mac->keyed, key.p, key.n, NULL) != 1 ||
        (mac->ready = EVP_MAC_CTX_dup(mac->keyed)) == NULL) {
        mac_free(mac);
        return NULL;
    }
    return mac;
}

/* Without a key the context begins again under the one it has: no fetch, and half the hashing. */
static bool run(EVP_MAC_CTX *ctx, struct dk_view message, uint8_t *out)
{
    size_t n = 0;
    return ctx != NULL && EVP_MAC_init(ctx, NULL, 0, NULL) == 1 &&
           EVP_MAC_update(ctx, message.p, message.n) == 1 &&
           EVP_MAC_final(ctx, out, &n, DK_HMAC_LEN) == 1 && n == DK_HMAC_LEN;
}

static bool compute(struct dk_mac *mac, struct dk_view message, uint8_t *out)
{
    if (!atomic_flag_test_and_set_explicit(&mac->taken, memory_order_acquire)) {
        bool ok = run(mac->ready, message, out);
        atomic_flag_clear_explicit(&mac->taken, memory_order_release);
        return ok;
    }
    EVP_MAC_CTX *copy = EVP_MAC_CTX_dup(mac->keyed);
    bool ok = run(copy, message, out);
    EVP_MAC_CTX_free(copy);
    return ok;
}

dk_rc dk_mac_new(const struct dk_suite *suite, const struct dk_secret *key, struct dk_mac **out,
                 struct dk_err *err)
{
    struct dk_mac *mac = mac_new(suite, dk_view_of(dk_secret_expose_for_crypto(key), key->n));
    if (mac == NULL) {
        return DK_FAIL(err, NOMEM, "no memory for the key of a MAC");
    }
    *out = mac;
    return DK_OK;
}

void dk_mac_free(struct dk_mac *mac)
{
    if (mac != NULL) {
        mac_free(mac);
    }
}

dk_rc dk_mac_compute(struct dk_mac *mac, struct dk_view message, uint8_t out[static DK_HMAC_LEN],
                     struct dk_err *err)
{
    return compute(mac, message, out) ? DK_OK : DK_FAIL(err, NOMEM, "HMAC failed");
}

bool dk_hmac_raw(const struct dk_suite *suite, struct dk_view key, struct dk_view message,
                 uint8_t out[static DK_HMAC_LEN])
{
    struct dk_mac *mac = mac_new(suite, key);
    bool ok = mac != NULL && compute(mac, message, out);
    dk_mac_free(mac);
    return ok;
}
