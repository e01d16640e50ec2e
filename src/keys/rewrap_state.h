/*
 * rewrap_state: what the two parts of a rewrap share: the keys of tenants, those of the registry.
 */
#ifndef DK_KEYS_REWRAP_STATE_H
#define DK_KEYS_REWRAP_STATE_H

#include "keys/further.h"
#include "keys/rewrap.h"
#include "keys/unwrap.h"

#define DK_REWRAP_PAGE 64

enum dk_rewrap_fate { DK_REWRAP_NOT, DK_REWRAP_UNDER, DK_REWRAP_DUE };

struct dk_rewrapping {
    struct dk_core *core;
    const struct dk_rewrap_args *args;
    struct dk_rewrap_result *result;
    struct dk_provider *to;
    bool moves; /* `to` moves wraps from its other keys by itself, as far as it has not refused */
    bool moved; /* .. and has done so */
    struct dk_key_row rows[DK_REWRAP_PAGE];
    struct dk_unwrapping open[DK_REWRAP_PAGE];
    struct dk_further made[DK_REWRAP_PAGE];
    bool by_first[DK_REWRAP_PAGE]; /* of `made`: its first wrap was opened, not a further one */
    enum dk_rewrap_fate fate[DK_REWRAP_PAGE];
    dk_rc rc[DK_REWRAP_PAGE]; /* of the rows: DK_OK = it was opened, and is to be written down */
    size_t count;             /* rows that were read */
    bool stopped;
};

/* Whether the provider of that name is configured. */
bool dk_rewrap_opens_here(const struct dk_rewrapping *rewrap, const char *provider);
/* Whether its further wraps are to go. */
bool dk_rewrap_drops(const struct dk_rewrapping *rewrap, const char *provider);
/* Whether it is a wrap by the key that all are to be under. */
bool dk_rewrap_is_under(const struct dk_rewrapping *rewrap, const struct dk_wrap_columns *wrap);

/* The registry's key and its earlier ones (rewrap_registry.c). */
DK_MUST_USE dk_rc dk_rewrap_registry(struct dk_rewrapping *rewrap, struct dk_err *err);

#endif
