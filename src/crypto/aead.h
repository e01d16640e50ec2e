/*
 * aead: AES-256-GCM with 12-byte nonces and 16-byte tags, behind one small face.
 *
 * Called by crypto/field, the local provider and the self-test. A dk_aead_key is keyed once and
 * used for many messages (3x faster than keying each time); it seals or opens, not both, and
 * belongs to one thread. A second back end is a second dk_aead_ops.
 */
#ifndef DK_CRYPTO_AEAD_H
#define DK_CRYPTO_AEAD_H

#include "crypto/suite.h"

#define DK_AEAD_KEY 32
#define DK_AEAD_NONCE 12
#define DK_AEAD_TAG 16

enum dk_aead_way { DK_AEAD_SEAL, DK_AEAD_OPEN };

struct dk_aead_key; /* the back end's own */

/* One message of a batch. `in` and `out` may be the same address; sizes are equal. */
struct dk_aead_op {
    const uint8_t *nonce; /* DK_AEAD_NONCE bytes */
    struct dk_view aad;
    struct dk_view in;
    uint8_t *out;
    uint8_t *tag; /* DK_AEAD_TAG bytes: written by seal, read by open */
    bool ok;      /* open: the tag verified */
};

struct dk_aead_ops {
    const char *name;
    /* Keys a context with the first 32 bytes of the secret. E_NOMEM. */
    dk_rc (*key_new)(const struct dk_suite *suite, const struct dk_secret *key,
                     enum dk_aead_way way, struct dk_aead_key **out, struct dk_err *err);
    /* Another key, and way, into a context: what was there is overwritten. On an error: free it. */
    dk_rc (*key_change)(const struct dk_suite *suite, const struct dk_secret *key,
                        enum dk_aead_way way, struct dk_aead_key *in, struct dk_err *err);
    void (*key_free)(struct dk_aead_key *key); /* NULL is allowed */
    /* False: the back end failed, nothing in `out` may be used. Never blocks. */
    bool (*seal)(struct dk_aead_key *key, struct dk_aead_op *op);
    /* False: tag or back end; the caller wipes `out`, which may hold unproven plaintext. */
    bool (*open)(struct dk_aead_key *key, struct dk_aead_op *op);
    /* Each op as above with its own `ok`; one back end may interleave them. */
    void (*seal_batch)(struct dk_aead_key *key, struct dk_aead_op *ops, size_t count);
    void (*open_batch)(struct dk_aead_key *key, struct dk_aead_op *ops, size_t count);
};

extern const struct dk_aead_ops dk_aead_openssl;

#endif
