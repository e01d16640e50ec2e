/*
 * version: one key version disabled, and enabled again (DESIGN 4, I09).
 *
 * Called by the door. Disabled: the row and its wrapped key stay, opening is refused, here at once
 * and in other processes at their next poll.
 */
#ifndef DK_KEYS_VERSION_H
#define DK_KEYS_VERSION_H

#include "keys/cache.h"

/*
 * Moves a version between retired and `to` (DK_DISABLED or DK_RETIRED). *changed false: it was so
 * already. E_REFUSED: an active version (rotate first), a purged one. E_NOT_FOUND,
 * E_UNKNOWN_VERSION, E_TAMPERED.
 */
DK_MUST_USE dk_rc dk_version_move(struct dk_core *core, struct dk_cache *cache,
                                  const struct dk_key_name *name, enum dk_state to, const char *by,
                                  bool *changed, struct dk_err *err);

#endif
