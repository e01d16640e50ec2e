/*
 * sealer: heads into seals, where that is a transaction of its own.
 *
 * Called by keyring, manager and verify. On a store where others write at the same time a change
 * does not seal: one process at a time, who has the lease, reads which chains moved since the
 * newest seal and adds the next one. A store whose transactions seal for themselves gives nothing
 * to do.
 */
#ifndef DK_KEYS_SEALER_H
#define DK_KEYS_SEALER_H

#include "keys/core.h"

/* What is not sealed yet, in a transaction that sees one moment; the caller commits. */
DK_MUST_USE dk_rc dk_sealer_seal(struct dk_core *core, struct dk_txn *txn, struct dk_err *err);
/*
 * Takes or keeps the lease for that long (0: only now) and seals. Nothing is done while another has
 * it (*held false), or while the registry is older than it was. E_BUSY: another was there at the
 * same moment, and what is not sealed is for the next turn.
 */
DK_MUST_USE dk_rc dk_sealer_turn(struct dk_core *core, int64_t lease_ms, bool *held,
                                 struct dk_err *err);
/* Whether a turn would have the lease, as this transaction sees it. */
DK_MUST_USE dk_rc dk_sealer_is_free(struct dk_core *core, struct dk_txn *txn, bool *out,
                                    struct dk_err *err);

#endif
