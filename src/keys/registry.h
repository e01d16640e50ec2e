/*
 * registry: the registry key, its pin, and the MACs by which a row is believed (I01, I03).
 *
 * Called by the door at open and by every rule that reads or writes a row. After dk_registry_open
 * only reads: shared by threads.
 */
#ifndef DK_KEYS_REGISTRY_H
#define DK_KEYS_REGISTRY_H

#include "keys/core.h"

/* The registry's row as it stands, in a transaction of its own. */
DK_MUST_USE dk_rc dk_registry_read(struct dk_core *core, struct dk_registry_row *out,
                                   struct dk_err *err);
/* Opens the wrap in a row's columns; `subject` is the tenant or the registry's UUID. The key is
   the caller's: dk_secret_free(). */
DK_MUST_USE dk_rc dk_registry_unwrap(struct dk_core *core, struct dk_view subject,
                                     const char *purpose, const struct dk_wrap_columns *wrap,
                                     struct dk_secret *out, struct dk_err *err);
/* A fresh wrap as a row's columns. */
void dk_registry_wrap_columns(const struct dk_core *core, const struct dk_wrapped *wrapped,
                              const char *timestamp, struct dk_wrap_columns *out);
/*
 * Unwraps the registry key and derives K_row and the pin. E_CONFIG: no registry key yet (run
 * init). E_TAMPERED: the pin is not the wanted one.
 */
DK_MUST_USE dk_rc dk_registry_open(struct dk_core *core, struct dk_err *err);
/* Makes the registry key where there is none; *created false: there was one. */
DK_MUST_USE dk_rc dk_registry_create_key(struct dk_core *core, bool *created, struct dk_err *err);
/* Gives the cells back. */
void dk_registry_clear(struct dk_core *core);
/* In a child after fork: the cells went with the arena. */
void dk_registry_forget(struct dk_core *core);

/* Puts the row's MAC into row->row_mac. */
DK_MUST_USE dk_rc dk_registry_seal_key(const struct dk_core *core, struct dk_key_row *row,
                                       struct dk_err *err);
DK_MUST_USE dk_rc dk_registry_seal_tenant(const struct dk_core *core, struct dk_tenant_row *row,
                                          struct dk_err *err);
DK_MUST_USE dk_rc dk_registry_seal_log(const struct dk_core *core, struct dk_log_row *row,
                                       struct dk_err *err);
DK_MUST_USE dk_rc dk_registry_seal_seal(const struct dk_core *core, struct dk_seal_row *row,
                                        struct dk_err *err);
DK_MUST_USE dk_rc dk_registry_verify_log(const struct dk_core *core, const struct dk_log_row *row,
                                         struct dk_err *err);
DK_MUST_USE dk_rc dk_registry_verify_seal(const struct dk_core *core, const struct dk_seal_row *row,
                                          struct dk_err *err);
/* E_TAMPERED names tenant and version; such a row is never used. */
DK_MUST_USE dk_rc dk_registry_verify_key(const struct dk_core *core, const struct dk_key_row *row,
                                         struct dk_err *err);
DK_MUST_USE dk_rc dk_registry_verify_tenant(const struct dk_core *core,
                                            const struct dk_tenant_row *row, struct dk_err *err);

#endif
