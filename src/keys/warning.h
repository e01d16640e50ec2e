/*
 * warning: tells once of each key version that enters its warning phase.
 *
 * Called by the manager's tick, hourly, and by the door. A version's warning is a row of the log
 * (operation `warning`), so that of many processes one tells it, and none again after a restart.
 */
#ifndef DK_KEYS_WARNING_H
#define DK_KEYS_WARNING_H

#include "keys/core.h"

/*
 * Looks at every active version within KMS_WARNING_DAYS of its expiry, or past it. Of those without
 * a row: writes it, logs `key_expires_soon`, and tells `each` (may be NULL). `by` as in the log.
 * E_ROLLBACK while the registry is older than it was: nothing is written.
 */
DK_MUST_USE dk_rc dk_warning_look(struct dk_core *core, const char *by,
                                  void (*each)(void *arg, const struct dk_key_row *row), void *arg,
                                  struct dk_err *err);

#endif
