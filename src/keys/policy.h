/*
 * policy: how long the keys of one tenant encrypt, where it is not the default.
 *
 * Called by the door. The active version's expiry moves with it: who shortens the period need not
 * wait for the one before to end.
 */
#ifndef DK_KEYS_POLICY_H
#define DK_KEYS_POLICY_H

#include "keys/cache.h"

/*
 * `days`: 1 to the most of KMS_ROTATION_DAYS, or 0 = the default again. *expires_at: of the active
 * version now. E_NOT_FOUND, E_TAMPERED, E_REFUSED: there is no active version.
 */
DK_MUST_USE dk_rc dk_policy_set(struct dk_core *core, struct dk_cache *cache,
                                const struct dk_tenant *tenant, int64_t days, const char *by,
                                int64_t *expires_at, struct dk_err *err);

#endif
