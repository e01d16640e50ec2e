/*
 * tenant_change: one change of a tenant's keys: what every such transaction begins and ends with.
 *
 * Called by rotate, version and policy. It begins with the tenant's row, believed, and its key rows
 * as they were at the last change; it ends with the digest over the rows as they are now, a log row
 * in the tenant's chain, and a seal. Belongs to one thread.
 */
#ifndef DK_KEYS_TENANT_CHANGE_H
#define DK_KEYS_TENANT_CHANGE_H

#include "keys/audit.h"

struct dk_tenant_change {
    struct dk_core *core;
    struct dk_txn txn;
    struct dk_tenant_row row; /* as it was read; what the caller changes in it is stored */
    struct dk_change seal;
};

/* The tenant's row before a change, believed: E_NOT_FOUND, E_TAMPERED, E_SCHEMA. */
DK_MUST_USE dk_rc dk_tenant_change_look(struct dk_core *core, struct dk_txn *txn,
                                        const struct dk_tenant *tenant, struct dk_tenant_row *out,
                                        struct dk_err *err);
/*
 * Begins the write transaction. `by` may be NULL = who opened the library. E_NOT_FOUND: no such
 * tenant; E_TAMPERED, E_ROLLBACK: its rows are not as they were left. Nothing is open on an error.
 */
DK_MUST_USE dk_rc dk_tenant_change_begin(struct dk_core *core, const struct dk_tenant *tenant,
                                         const char *by, struct dk_tenant_change *out,
                                         struct dk_err *err);
/* Gives the row its MAC and stores it where its state is still `old_state`: else E_CONFLICT. */
DK_MUST_USE dk_rc dk_tenant_change_key(struct dk_tenant_change *change, struct dk_key_row *row,
                                       enum dk_state old_state, struct dk_err *err);
/* All but the commit. `from`, `to`: versions for the log, 0 = none. */
DK_MUST_USE dk_rc dk_tenant_change_close(struct dk_tenant_change *change, const char *operation,
                                         uint32_t from, uint32_t to, const char *detail,
                                         struct dk_err *err);
/* For every exit: rolls back what was not committed. */
void dk_tenant_change_end(struct dk_tenant_change *change);

#endif
