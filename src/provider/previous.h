/*
 * previous: master keys of before, that still open and never wrap (KMS_PREVIOUS_KEYS).
 *
 * Called by provider.c, and by the wiring, which knows both providers. Each is a back end of its
 * own, opened with the same settings but for what names the key: so it has the same endpoint
 * policy, challenges and checks as the configured one, its own connections and credentials, and its
 * trouble is not the other's. A row is given to it by exact comparison with the setting, unless the
 * configured key opens it; no row names where a request goes (I32). Shared by threads.
 */
#ifndef DK_PROVIDER_PREVIOUS_H
#define DK_PROVIDER_PREVIOUS_H

#include "provider/provider.h"

struct dk_previous; /* dk_previous_open .. close; NULL is allowed everywhere: there are none */

/* Those of this back end; *out is NULL when the setting names none. E_CONFIG names the entry. */
DK_MUST_USE dk_rc dk_previous_open(const struct dk_provider_ops *ops,
                                   const struct dk_provider_setup *setup, struct dk_previous **out,
                                   struct dk_err *err);
void dk_previous_close(struct dk_previous *previous);
DK_MUST_USE dk_rc dk_previous_after_fork(struct dk_previous *previous, struct dk_err *err);
void dk_previous_forget(struct dk_previous *previous);

/* Unwraps those that are under one of them and that the configured key, `own`, does not open; moves
   the rest to the front: how many that are. */
size_t dk_previous_unwrap(struct dk_previous *previous, void *own, struct dk_provider_item **items,
                          size_t count);

/* For the doctor: what there is to say of each as a key that opens. */
void dk_previous_inspect(struct dk_previous *previous, const struct dk_provider_tell *tell);
/* Lent, as long as they are open. */
struct dk_previous_ids dk_previous_ids(const struct dk_previous *previous);

/* Logs the entries that are of neither provider; `second` may be NULL. They were read already. */
void dk_previous_tell_unused(const struct dk_settings *settings, const struct dk_log *log,
                             const struct dk_provider_ops *first,
                             const struct dk_provider_ops *second);

#endif
