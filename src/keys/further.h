/*
 * further: data keys under a second master key (KMS_SECONDARY_PROVIDER).
 *
 * Called where keys are made (create), by the tick, which makes what is missing and looks whether
 * what is there still opens, and by rewrap. Shared by threads.
 */
#ifndef DK_KEYS_FURTHER_H
#define DK_KEYS_FURTHER_H

#include "keys/core.h"
#include "keys/ring.h"

/* One data key, and the wrap that it gets. */
struct dk_further {
    const struct dk_key_row *row;
    struct dk_secret key;   /* lent */
    struct dk_wrap_row out; /* `version` 0: none was made, and the log says why */
};

/* Wraps each under this provider, by the context time `now`. At most DK_UNWRAP_MOST. */
void dk_further_wrap(struct dk_core *core, struct dk_provider *provider, struct dk_further *list,
                     size_t count);
/* The same of keys that are made, by the second provider: what lacks one is due at the next tick.
 */
void dk_further_wrap_new(struct dk_core *core, struct dk_further *list, size_t count);
/* This wrap, which was just opened, is the one that it gets. */
void dk_further_made(struct dk_core *core, struct dk_provider *provider,
                     const struct dk_wrapped *wrapped, const char *timestamp,
                     struct dk_further *one);
/* Stores it, under the registry's key as it is in this transaction. One that is none is passed
   over. */
DK_MUST_USE dk_rc dk_further_put(struct dk_core *core, struct dk_txn *txn, struct dk_wrap_row *row,
                                 struct dk_err *err);

/*
 * A registry key under this provider, by its row; not stored. `ring`: all keys, for one that may be
 * an earlier one (dk_keyring_open_ring); NULL: the registry's own. E_TAMPERED: the row's wrap holds
 * a key that is not known. E_BUSY: it is not the key that this instance is under, of a rekey that
 * it has not followed, or has meanwhile.
 */
DK_MUST_USE dk_rc dk_further_wrap_registry(struct dk_core *core, struct dk_provider *provider,
                                           const struct dk_ring *ring,
                                           const struct dk_registry_row *row,
                                           struct dk_wrap_columns *out, struct dk_err *err);
/* Whether this wrap of a registry key opens, by its own provider, to that very key. E_TAMPERED: it
   is damaged. `row` and `ring` as above. */
DK_MUST_USE dk_rc dk_further_try_registry(struct dk_core *core, const struct dk_ring *ring,
                                          const struct dk_registry_row *row,
                                          const struct dk_wrap_columns *wrap, struct dk_err *err);
/* The registry's key under this provider too, where it is not yet. */
DK_MUST_USE dk_rc dk_further_registry(struct dk_core *core, struct dk_provider *provider,
                                      struct dk_err *err);
/* Each earlier registry key as a registry's row, outside of transactions. One that fails keeps none
   from its turn; the first error is what is told. */
DK_MUST_USE dk_rc dk_further_each_earlier(struct dk_core *core, const struct dk_registry_row *now,
                                          dk_rc (*each)(void *arg, const struct dk_ring *ring,
                                                        const struct dk_registry_row *row,
                                                        struct dk_err *err),
                                          void *arg, struct dk_err *err);
/* Once every KMS_CANARY_HOURS, and first of all: opens each further wrap of the registry's keys. A
   damaged one is made again, from a key that was just opened and is known. False: there is one of
   which nobody could say, and it is logged. */
bool dk_further_registry_tick(struct dk_core *core);

/* Of two parts the first error, which `err` has already, else that of the second one. */
DK_MUST_USE dk_rc dk_further_first(dk_rc first, dk_rc next, const struct dk_err *of_next,
                                   struct dk_err *err);

/* Both wraps for every version that lacks one: of all, page by page. What cannot be opened or
   wrapped is logged; what cannot be read is passed over. One provider that is away keeps no wrap
   of the other from being made. */
DK_MUST_USE dk_rc dk_further_fill(struct dk_core *core, struct dk_err *err);

/*
 * A page of work, once a poll: makes wraps that are missing, of data keys and of the registry's,
 * and opens those again that nobody opened for KMS_CANARY_HOURS. Of many nodes the one that has the
 * lease. What goes wrong is logged.
 */
void dk_further_tick(struct dk_core *core);

#endif
