/*
 * unwrap: from believed rows to data keys in hand.
 *
 * Called by the loader, by rotate for reading back, by key export, by rewrap. Knows which provider
 * wrapped a key; the providers do as many at once as is good. Where the first wrap is not opened, a
 * further one is (table wraps), and that is told. Shared by threads.
 */
#ifndef DK_KEYS_UNWRAP_H
#define DK_KEYS_UNWRAP_H

#include "keys/core.h"

struct dk_unwrapping {
    const struct dk_key_row *row; /* its MAC was verified */
    struct dk_secret key;         /* the answer: the caller's, dk_secret_free() */
    struct dk_err err;            /* how it ended */
    bool further;                 /* a further wrap opened it */
    /* Of the call alone: who is asked, for what. */
    struct dk_provider *by;
    const struct dk_wrap_columns *wrap;
};

/* As many data keys as are in hand at once: they lie in the arena. */
#define DK_UNWRAP_MOST 256

/* The provider of that name, NULL: it is not configured. */
struct dk_provider *dk_unwrap_provider(const struct dk_core *core, const char *name);

/*
 * The data keys, each compared with its check value. E_CONFIG: a provider wrapped it that is not
 * configured. E_PROVIDER: the wrap does not open. E_TAMPERED: it opens to another key. At most
 * DK_UNWRAP_MOST.
 */
void dk_unwrap_many(struct dk_core *core, struct dk_unwrapping *list, size_t count);
/* One. */
DK_MUST_USE dk_rc dk_unwrap(struct dk_core *core, const struct dk_key_row *row,
                            struct dk_secret *out, struct dk_err *err);

/* E_TAMPERED: this is not the row's key, by its check value. */
DK_MUST_USE dk_rc dk_unwrap_compare(struct dk_core *core, const struct dk_key_row *row,
                                    const struct dk_secret *key, struct dk_err *err);

/*
 * Whether these wraps open, each by its own provider and no other, to their rows' keys (F16): `row`
 * and `wrap` are set, `err` is the answer. E_AUTH, E_FORMAT, E_TAMPERED: the wrap is damaged. No
 * key is kept, and nothing is written down: that is the caller's to do. At most DK_UNWRAP_MOST.
 */
void dk_unwrap_try_many(struct dk_core *core, struct dk_unwrapping *list, size_t count);

#endif
