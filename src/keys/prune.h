/*
 * prune: deletes old rows of the log, and leaves a proof by which the rest still verifies.
 *
 * Called by the door. Seals stay. What may go are the rows that stand in seals of before a moment;
 * a row `prune` names the last of those seals, and is sealed with the first page of deletions.
 */
#ifndef DK_KEYS_PRUNE_H
#define DK_KEYS_PRUNE_H

#include "keys/core.h"

struct dk_prune_args {
    int64_t before; /* rows in seals of before this moment */
    bool dry_run;
    const char *by; /* for the log row; NULL = who opened the library */
};

struct dk_prune_result {
    int64_t seal; /* the log is pruned up to this one; 0: nothing was ever pruned */
    int64_t rows; /* deleted by this call, or that would be */
};

/*
 * Cut short, the next call ends it. E_TAMPERED: verify finds something in the registry, and what
 * it would take to look into it stays. E_USAGE: a moment in the future. *out is filled after an
 * error too.
 */
DK_MUST_USE dk_rc dk_prune(struct dk_core *core, const struct dk_prune_args *args,
                           struct dk_prune_result *out, struct dk_err *err);

#endif
