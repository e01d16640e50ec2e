/*
 * loader: the key source over store and provider: believe the row, unwrap, compare, derive.
 *
 * Called by the cache on a miss, by rotate and key export for rows. Shared by threads.
 */
#ifndef DK_KEYS_LOADER_H
#define DK_KEYS_LOADER_H

#include "keys/source.h"

/* A source over `core`, which is lent. Nothing to close. */
struct dk_key_source dk_loader_source(struct dk_core *core);

/* The row of a name, its MAC verified. E_NOT_FOUND, E_UNKNOWN_VERSION, E_TAMPERED. */
DK_MUST_USE dk_rc dk_loader_read_row(struct dk_core *core, const struct dk_key_name *name,
                                     struct dk_key_row *out, struct dk_err *err);

#endif
