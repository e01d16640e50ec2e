/*
 * local: the provider whose master keys lie in one private file (FORMATS "Master key file").
 *
 * The file is read once at open. The highest number wraps, all unwrap. Wraps are bound to the
 * whole context by AES-256-GCM's AAD.
 */
#ifndef DK_PROVIDER_LOCAL_H
#define DK_PROVIDER_LOCAL_H

#include "provider/provider.h"

extern const struct dk_provider_ops dk_provider_local;

/*
 * Makes a new master key file with key number 1, 0600, exclusively and synced. E_CONFLICT when a
 * file is there: it is never replaced.
 */
DK_MUST_USE dk_rc dk_local_create(const struct dk_world *world, const char *path,
                                  struct dk_err *err);

#endif
