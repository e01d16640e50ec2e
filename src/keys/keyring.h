/*
 * keyring: how an instance follows a rekey of the registry by another (K5).
 *
 * Called by whatever begins a transaction, by the door at open and by the guard of the anchor. A
 * key in hand is left only for one to which the seals lead from it (ring.h). Shared by threads.
 */
#ifndef DK_KEYS_KEYRING_H
#define DK_KEYS_KEYRING_H

#include "keys/anchor.h"
#include "keys/core.h"
#include "keys/ring.h"

/*
 * Begins a transaction in which the registry's key is the one of the store: where another process
 * has rekeyed meanwhile, its key is opened first. Every transaction that makes or verifies a MAC
 * begins here. A read transaction may still be older than what another thread followed since: see
 * dk_registry_again.
 */
DK_MUST_USE dk_rc dk_registry_begin(struct dk_core *core, enum dk_txn_mode mode, struct dk_txn *txn,
                                    struct dk_err *err);

#define DK_REGISTRY_TRIES 16
/*
 * After a read that ended with `rc`: E_TAMPERED counts for nothing where this process took other
 * keys since the transaction began. Then it is to be read again, in a new one.
 */
bool dk_registry_again(const struct dk_core *core, const struct dk_txn *txn, dk_rc rc);

/* For dk_registry_open: the wanted pin, and the key before while a rekey is unfinished. */
DK_MUST_USE dk_rc dk_keyring_start(struct dk_core *core, struct dk_err *err);

/*
 * E_TAMPERED: the anchor is of a registry key that is not ours, nor an earlier one from which the
 * seals lead to ours.
 */
DK_MUST_USE dk_rc dk_keyring_check_anchor(struct dk_core *core, struct dk_txn *txn,
                                          const struct dk_anchor *anchor, struct dk_err *err);

/*
 * All of the registry's keys, whose seals lead to the one in hand. dk_ring_close().
 */
DK_MUST_USE dk_rc dk_keyring_open_ring(struct dk_core *core, struct dk_ring *out,
                                       struct dk_err *err);
/* Before a registry key is wrapped anew. E_TAMPERED: it is not the ring's key of that generation;
   `ring` NULL: not the one in hand. */
DK_MUST_USE dk_rc dk_keyring_check_key(struct dk_core *core, const struct dk_ring *ring,
                                       uint32_t generation, const struct dk_secret *key,
                                       struct dk_err *err);

struct dk_rekey_info {
    uint32_t generation;
    bool unfinished;
    int64_t at;                /* when this generation's key came; DK_TIME_NONE: it is the first */
    char by[DK_ACTOR_MAX + 1]; /* "" = the log does not say */
};

DK_MUST_USE dk_rc dk_keyring_info(struct dk_core *core, struct dk_rekey_info *out,
                                  struct dk_err *err);

#endif
