/*
 * source: the face through which a key comes: from the registry (loader) or from memory (cache).
 *
 * The cache has the same face as what it wraps, so the manager reads the same with or without it.
 */
#ifndef DK_KEYS_SOURCE_H
#define DK_KEYS_SOURCE_H

#include "keys/core.h"

/* Asking for version 0 = for the version that encrypts, made at first use. */
#define DK_VERSION_ACTIVE 0

struct dk_key_name {
    struct dk_tenant tenant;
    uint32_t version;
};

/* A key ready for use. `okm` is the caller's: dk_secret_free(). */
struct dk_live_key {
    struct dk_secret okm; /* DK_FIELD_SECRET bytes: encryption key, commitment */
    uint32_t version;     /* never 0 */
    int64_t messages;     /* sealed by all processes, as the store knew */
    uint32_t slot;        /* of the cache; the loader leaves 0 */
    uint32_t generation;
    int64_t fresh_until_ms;
    bool lent;        /* nobody was asked to open it: */
    int64_t asked_ms; /* it was opened then, by the lender's time */
};

/*
 * Who has keys in memory, and lends one to the source that has just read which version encrypts:
 * what was opened by the version's own name is not opened twice. Shared by threads.
 */
struct dk_key_lender {
    void *self;
    /*
     * `name` asks for the active version, which is `version`. `waits`: for who is opening it now;
     * an outage that this one met is ours. The caller's, as from a source: okm, lent, asked_ms.
     * E_NOT_FOUND: it is to be opened.
     */
    dk_rc (*lend)(void *self, const struct dk_key_name *name, uint32_t version, bool waits,
                  struct dk_live_key *out, struct dk_err *err);
};

struct dk_key_source {
    void *self;
    /* May block on store and provider. Errors as of the loader; nothing is cached of them. */
    dk_rc (*get)(void *self, const struct dk_key_name *name, struct dk_live_key *out,
                 struct dk_err *err);
    /*
     * The same for many at once (the cache has dk_cache_prefetch instead, which keeps them): one
     * transaction for reading, one for all that are created. Each gets its own answer: rc[i], and
     * keys[i] where it is DK_OK. The call itself fails only when no item could be worked on.
     */
    dk_rc (*get_many)(void *self, const struct dk_key_name *names, size_t count,
                      struct dk_live_key *keys, dk_rc *rc, struct dk_err *err);
};

#endif
