/*
 * move: wraps from one master key of a provider to its newest, by the provider itself.
 *
 * Called by rewrap, for providers that can (DK_PROVIDER_MOVES): one call of theirs instead of two,
 * and the data key comes here once, when what was moved is opened and compared.
 */
#ifndef DK_KEYS_MOVE_H
#define DK_KEYS_MOVE_H

#include "keys/further.h"

/*
 * Rows whose wrap is this provider's: `out` of each gets the moved wrap, under the row's own
 * context time. It was opened, and what it holds has the row's check value. `version` 0: not moved,
 * and it can be opened and wrapped instead. The code of the first of those, which is no failure
 * yet.
 */
dk_rc dk_move_wraps(struct dk_core *core, struct dk_provider *provider, struct dk_further *list,
                    size_t count);

#endif
