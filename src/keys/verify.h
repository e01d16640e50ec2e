/*
 * verify: reads the whole registry and says what in it dekhand did not write, or wrote and lost.
 *
 * Called by the door. One read transaction over everything: log rows and their chains, seals, the
 * rows of tenants and keys, each against the others. Changes nothing.
 */
#ifndef DK_KEYS_VERIFY_H
#define DK_KEYS_VERIFY_H

#include "keys/core.h"

/* Texts are lent for the call. */
struct dk_finding {
    const char *table;  /* "key_rotation_log", "seals", "tenants", "encryption_keys", "schema" */
    const char *tenant; /* "" = none */
    const char *row;    /* what names the row in its table */
    const char *text;   /* what is wrong, and what it took */
};

struct dk_verify_result {
    int64_t log_rows;
    int64_t seals;
    int64_t tenants;
    int64_t keys;
    int64_t findings;
};

/* DK_OK with findings too; an error only when the store cannot be read. */
DK_MUST_USE dk_rc dk_verify(struct dk_core *core,
                            void (*each)(void *arg, const struct dk_finding *finding), void *arg,
                            struct dk_verify_result *out, struct dk_err *err);

#endif
