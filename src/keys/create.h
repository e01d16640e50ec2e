/*
 * create: a new key version as a row, and the first version of tenants (first use, I06, I07).
 *
 * Called by the loader and by rotate. The order is the point: generate, wrap, unwrap, compare;
 * then one transaction that inserts the row as active; then read back; only then encrypt.
 */
#ifndef DK_KEYS_CREATE_H
#define DK_KEYS_CREATE_H

#include "keys/core.h"

/* A fresh, proven and MAC-sealed row. Nothing is stored yet. */
DK_MUST_USE dk_rc dk_create_row(struct dk_core *core, const struct dk_tenant *tenant,
                                uint32_t version, int64_t rotation_days, struct dk_key_row *out,
                                struct dk_wrap_row *further, struct dk_err *err);
/*
 * Whether keys are made, and opened, while the store works on others: inside a transaction, so the
 * provider is one that waits for nobody.
 */
bool dk_create_at_hand(const struct dk_core *core);
/* E_CLOCK when the wrap's time and now are more than 300 s apart (K7). */
DK_MUST_USE dk_rc dk_create_check_clock(const struct dk_core *core, const struct dk_key_row *row,
                                        struct dk_err *err);
/*
 * Version 1 of each tenant, in one transaction: distinct ones, of whom the caller has just seen
 * that nothing is there (I07). rc[i]: DK_OK = created here or by another meanwhile; read it.
 * E_TAMPERED for all: there were keys without a tenant.
 */
DK_MUST_USE dk_rc dk_create_first(struct dk_core *core, const struct dk_tenant *const *tenants,
                                  size_t count, dk_rc *rc, struct dk_err *err);

#endif
