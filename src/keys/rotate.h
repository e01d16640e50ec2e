/*
 * rotate: a new data key version for a tenant, in one transaction (I05, I06, I08).
 *
 * Called by the door and, for versions near their message budget, by the manager. Old versions
 * stay and open. Fields are not touched: that is re-encryption.
 */
#ifndef DK_KEYS_ROTATE_H
#define DK_KEYS_ROTATE_H

#include "keys/cache.h"

enum dk_rotate_which { DK_ROTATE_ONE, DK_ROTATE_DUE, DK_ROTATE_ALL };

struct dk_rotate_args {
    enum dk_rotate_which which;
    const struct dk_tenant *tenant; /* DK_ROTATE_ONE */
    uint32_t if_version;            /* only while this is the active version; 0 = any */
    bool dry_run;                   /* says what would be done; changes nothing (I30) */
    bool compromised;               /* the old version never encrypts again */
    const char *by;                 /* for the log; NULL = who opened the library */
};

/* One tenant's outcome. */
struct dk_rotation {
    struct dk_tenant tenant;
    uint32_t from_version;
    uint32_t to_version; /* 0: not rotated */
    dk_rc rc;
    const char *text; /* of the error, "" when there is none; lent for the call */
};

/*
 * Rotates; gives `each` every tenant's outcome, until it answers false. One tenant's failure stops
 * no other's. The answer
 * is an error only when the work could not be done at all (or the one tenant's error).
 */
DK_MUST_USE dk_rc dk_rotate(struct dk_core *core, struct dk_cache *cache,
                            const struct dk_rotate_args *args,
                            bool (*each)(void *arg, const struct dk_rotation *rotation), void *arg,
                            struct dk_err *err);

#endif
