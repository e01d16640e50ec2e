/*
 * registry: the registry key, its pin, and the MACs by which a row is believed (I01, I03).
 *
 * Called by the door at open and by every rule that reads or writes a row. Shared by threads. The
 * MACs are in row_macs.c; what follows a rekey is keyring.h.
 */
#ifndef DK_KEYS_REGISTRY_H
#define DK_KEYS_REGISTRY_H

#include "keys/core.h"

/* Fills core->registry, without a key yet. */
DK_MUST_USE dk_rc dk_registry_new(struct dk_core *core, struct dk_err *err);
void dk_registry_free(struct dk_core *core); /* allowed when there is none */

/* The registry's row as it stands, in a transaction of its own. */
DK_MUST_USE dk_rc dk_registry_read(struct dk_core *core, struct dk_registry_row *out,
                                   struct dk_err *err);
/*
 * Opens a registry key of this generation by its wrap, or by a further one where that is not
 * opened. The key is the caller's: dk_secret_free().
 */
DK_MUST_USE dk_rc dk_registry_unwrap(struct dk_core *core, const char *uuid,
                                     const struct dk_wrap_columns *wrap, uint32_t generation,
                                     struct dk_secret *out, struct dk_err *err);
/* By this wrap alone. E_TAMPERED: it does not open. */
DK_MUST_USE dk_rc dk_registry_unwrap_one(struct dk_core *core, const char *uuid,
                                         const struct dk_wrap_columns *wrap, struct dk_secret *out,
                                         struct dk_err *err);
/* A registry key that nobody has yet, and its wraps; `second.provider` "": none. */
struct dk_registry_fresh {
    struct dk_wrap_columns wrap;
    struct dk_wrap_columns second;
};
DK_MUST_USE dk_rc dk_registry_generate(struct dk_core *core, const char *uuid,
                                       struct dk_secret *key, struct dk_registry_fresh *out,
                                       struct dk_err *err);
/* A row's columns as the provider takes them. */
void dk_registry_wrapped(const struct dk_wrap_columns *wrap, struct dk_wrapped *out);
/* A fresh wrap as a row's columns. */
void dk_registry_wrap_columns(const struct dk_provider *provider, const struct dk_wrapped *wrapped,
                              const char *timestamp, struct dk_wrap_columns *out);
/*
 * Unwraps the registry key and derives what is made of it. E_CONFIG: no registry key yet (run
 * init), or the wanted pin is that of an earlier key. E_TAMPERED: it is another's.
 */
DK_MUST_USE dk_rc dk_registry_open(struct dk_core *core, struct dk_err *err);
/* Makes the registry key where there is none; *created false: there was one. */
DK_MUST_USE dk_rc dk_registry_create_key(struct dk_core *core, bool *created, struct dk_err *err);
/* Gives the cells back. */
void dk_registry_clear(struct dk_core *core);
/* In a child after fork: the cells went with the arena. */
void dk_registry_forget(struct dk_core *core);

/* False in a child that has not opened it again. */
bool dk_registry_is_open(const struct dk_core *core);
const char *dk_registry_uuid(const struct dk_core *core);
uint32_t dk_registry_generation(const struct dk_core *core);
void dk_registry_pin(const struct dk_core *core, char out[static DK_HASH_TEXT]);
/* The same, and of which generation it is. */
uint32_t dk_registry_pin_now(const struct dk_core *core, char out[static DK_HASH_TEXT]);
/* The last seal that is under an earlier key; 0 = none. */
int64_t dk_registry_boundary(const struct dk_core *core);

/* What is derived from a registry key. The caller's: dk_registry_keys_free(). */
DK_MUST_USE dk_rc dk_registry_derive(struct dk_core *core, const struct dk_secret *key,
                                     uint32_t generation, struct dk_registry_keys *out,
                                     struct dk_err *err);
/* The same from the wrap. E_TAMPERED: it does not open. */
DK_MUST_USE dk_rc dk_registry_open_wrap(struct dk_core *core, const char *uuid,
                                        const struct dk_wrap_columns *wrap, uint32_t generation,
                                        struct dk_registry_keys *out, struct dk_err *err);
void dk_registry_keys_free(struct dk_registry_keys *keys);

/*
 * MACs. `keys` NULL = the registry's own, now; rows of tenants and keys are then believed under the
 * key before too, while a rekey moves them. Seal: puts the MAC into the row.
 */
DK_MUST_USE dk_rc dk_registry_seal_key(const struct dk_core *core,
                                       const struct dk_registry_keys *keys, struct dk_key_row *row,
                                       struct dk_err *err);
DK_MUST_USE dk_rc dk_registry_seal_tenant(const struct dk_core *core,
                                          const struct dk_registry_keys *keys,
                                          struct dk_tenant_row *row, struct dk_err *err);
DK_MUST_USE dk_rc dk_registry_seal_log(const struct dk_core *core,
                                       const struct dk_registry_keys *keys, struct dk_log_row *row,
                                       struct dk_err *err);
DK_MUST_USE dk_rc dk_registry_seal_seal(const struct dk_core *core,
                                        const struct dk_registry_keys *keys,
                                        struct dk_seal_row *row, struct dk_err *err);
/* E_TAMPERED names tenant and version; such a row is never used. */
DK_MUST_USE dk_rc dk_registry_verify_key(const struct dk_core *core,
                                         const struct dk_registry_keys *keys,
                                         const struct dk_key_row *row, struct dk_err *err);
/* Of a further wrap. */
DK_MUST_USE dk_rc dk_registry_seal_wrap(const struct dk_core *core,
                                        const struct dk_registry_keys *keys,
                                        struct dk_wrap_row *row, struct dk_err *err);
DK_MUST_USE dk_rc dk_registry_verify_wrap(const struct dk_core *core,
                                          const struct dk_registry_keys *keys,
                                          const struct dk_wrap_row *row, struct dk_err *err);
DK_MUST_USE dk_rc dk_registry_verify_tenant(const struct dk_core *core,
                                            const struct dk_registry_keys *keys,
                                            const struct dk_tenant_row *row, struct dk_err *err);
DK_MUST_USE dk_rc dk_registry_verify_log(const struct dk_core *core,
                                         const struct dk_registry_keys *keys,
                                         const struct dk_log_row *row, struct dk_err *err);
DK_MUST_USE dk_rc dk_registry_verify_seal(const struct dk_core *core,
                                          const struct dk_registry_keys *keys,
                                          const struct dk_seal_row *row, struct dk_err *err);

#endif
