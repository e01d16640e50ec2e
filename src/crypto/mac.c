#include "crypto/mac.h"

#include <stdatomic.h>

struct dk_mac {
    const struct dk_mem *mem;
    EVP_MAC_CTX *keyed; /* copied from, and never changed */
    EVP_MAC_CTX *ready; /* NULL where a context does not begin again */
    atomic_flag taken;  /* `ready` is a thread's, or NULL */
};

static void clear(struct dk_mac *mac)
{
    if (!atomic_flag_test_and_set_explicit(&mac->taken, memory_order_acquire)) {
        EVP_MAC_CTX_free(mac->ready);
    }
    EVP_MAC_CTX_free(mac->keyed);
}

static bool init(struct dk_mac *mac, const struct dk_suite *suite, struct dk_view key)
{
    *mac = (struct dk_mac){.mem = &suite->world->mem, .taken = ATOMIC_FLAG_INIT};
    mac->keyed = dk_suite_hmac_ctx(suite);
    bool ok = mac->keyed != NULL && EVP_MAC_init(mac->keyed, key.p, key.n, NULL) == 1;
    if (ok && suite->hmac_again) {
        mac->ready = EVP_MAC_CTX_dup(mac->keyed);
        ok = mac->ready != NULL;
    } else {
        atomic_flag_test_and_set(&mac->taken);
    }
    if (!ok) {
        clear(mac);
    }
    return ok;
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
    struct dk_mac *mac = dk_mem_alloc(&suite->world->mem, sizeof *mac);
    if (mac == NULL || !init(mac, suite, dk_view_of(dk_secret_expose_for_crypto(key), key->n))) {
        dk_mem_free(&suite->world->mem, mac);
        return DK_FAIL(err, NOMEM, "no memory for the key of a MAC");
    }
    *out = mac;
    return DK_OK;
}

void dk_mac_free(struct dk_mac *mac)
{
    if (mac != NULL) {
        clear(mac);
        dk_mem_free(mac->mem, mac);
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
    struct dk_mac mac;
    bool ok = init(&mac, suite, key);
    if (ok) {
        ok = compute(&mac, message, out);
        clear(&mac);
    }
    return ok;
}
