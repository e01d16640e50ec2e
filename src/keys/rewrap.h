/*
 * rewrap: the same data keys under another master key; values stay as they are (DESIGN 2).
 *
 * Called by the door. Goes over all versions that are not purged: what is not wrapped by the newest
 * key of the provider `to` gets such a wrap, opened and compared before anything is changed, and in
 * one transaction that one takes the place of the first. The wrap before stays as a further one
 * where its provider is still configured; else it goes. Further wraps of others go only where
 * `drop` names their provider: this process may know less of the configuration than its operator. A
 * run that is cut short leaves a registry that works; the next one goes on with what is left.
 */
#ifndef DK_KEYS_REWRAP_H
#define DK_KEYS_REWRAP_H

#include "keys/core.h"

struct dk_rewrap_result {
    int64_t rewrapped; /* versions */
    int64_t kept;      /* that were under it already */
    int64_t failed;    /* that could not be opened, or wrapped: each is logged */
    int64_t dropped;   /* that lost their wrap of `drop` */
    bool registry;     /* its key was rewrapped */
    char kms_key_id[DK_KMS_KEY_ID_MAX + 1]; /* what wraps now */
    dk_rc first;                            /* of those that failed */
};

struct dk_rewrap_args {
    const char *to;                 /* the provider: one of the two that are configured */
    const struct dk_tenant *tenant; /* NULL = all, and the registry's key */
    const char *drop;               /* NULL = nothing: a provider that is not configured any more */
    const char *by;
    /* After each page; false = stop. */
    bool (*each)(void *arg, const struct dk_rewrap_result *so_far);
    void *arg;
};

/* E_CONFIG: `to` is not configured, or `drop` is. The result says how far it came, after an error
 * too.
 */
DK_MUST_USE dk_rc dk_rewrap(struct dk_core *core, const struct dk_rewrap_args *args,
                            struct dk_rewrap_result *out, struct dk_err *err);

#endif
