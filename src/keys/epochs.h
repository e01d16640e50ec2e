/*
 * epochs: the highest epoch of each tenant that this process has seen (I04).
 *
 * Called by audit. 12 bytes a tenant, bounded; beyond the bound old entries make room, and what is
 * forgotten is caught by the seals. Shared by threads.
 */
#ifndef DK_KEYS_EPOCHS_H
#define DK_KEYS_EPOCHS_H

#include "base/tenant.h"
#include "base/world.h"

struct dk_epochs;

DK_MUST_USE dk_rc dk_epochs_open(const struct dk_world *world, size_t max, struct dk_epochs **out,
                                 struct dk_err *err);
void dk_epochs_close(struct dk_epochs *epochs); /* NULL is allowed */
void dk_epochs_after_fork(struct dk_epochs *epochs);
/* Notes the epoch unless a higher one is known; returns the highest. */
int64_t dk_epochs_see(struct dk_epochs *epochs, const struct dk_tenant *tenant, int64_t epoch);
/* After an operator accepted an older registry. */
void dk_epochs_forget(struct dk_epochs *epochs);

#endif
