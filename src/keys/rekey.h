/*
 * rekey: a new registry key, and every row of tenants and keys moved under it (K5).
 *
 * Called by the door. The first transaction stores the new key, keeps the one before, and hands
 * over in the seals; then pages of tenants are moved; the last one ends it. A process that dies
 * anywhere between leaves a registry that works: the next dk_rekey() goes on where it stood.
 */
#ifndef DK_KEYS_REKEY_H
#define DK_KEYS_REKEY_H

#include "keys/core.h"

struct dk_rekey_result {
    uint32_t generation;
    char pin[DK_HASH_TEXT];
    bool begun;      /* by this call; else it went on with another's */
    int64_t tenants; /* whose rows this call moved */
    int64_t keys;
    int64_t damaged; /* rows that are left */
};

struct dk_rekey_args {
    const char *by; /* for the log; NULL = who opened the library */
    /* End it although rows are left that prove nothing: they cannot be repaired from then on. */
    bool leave_damaged;
    void (*each)(void *arg, const struct dk_rekey_result *so_far);
    void *arg;
};

/*
 * E_TAMPERED: all has moved but rows that are damaged; it is unfinished until they are repaired, or
 * left. The result says how far it came, after an error too.
 */
DK_MUST_USE dk_rc dk_rekey(struct dk_core *core, const struct dk_rekey_args *args,
                           struct dk_rekey_result *out, struct dk_err *err);

#endif
