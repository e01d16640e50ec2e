/*
 * inspect: what there is: versions, history, counts; and the audited export of a data key.
 *
 * Called by the door. Reads metadata; only the export touches a key. Every row is believed first.
 */
#ifndef DK_KEYS_INSPECT_H
#define DK_KEYS_INSPECT_H

#include "keys/source.h"

/*
 * Gives `each` every version, by tenant and number; `tenant` NULL = all. A row whose MAC fails is
 * given with rc E_TAMPERED. `each` returns false to stop.
 */
DK_MUST_USE dk_rc dk_inspect_keys(struct dk_core *core, const struct dk_tenant *tenant,
                                  bool (*each)(void *arg, const struct dk_key_row *row, dk_rc rc),
                                  void *arg, struct dk_err *err);
/* The same of tenants, by id. E_NOT_FOUND: `tenant` is none. */
DK_MUST_USE dk_rc dk_inspect_tenants(struct dk_core *core, const struct dk_tenant *tenant,
                                     bool (*each)(void *arg, const struct dk_tenant_row *row,
                                                  dk_rc rc),
                                     void *arg, struct dk_err *err);
/* At most `limit` rows of the log; `changes_only` leaves out the unwraps. */
DK_MUST_USE dk_rc dk_inspect_log(struct dk_core *core, const struct dk_log_query *query,
                                 bool changes_only, size_t limit,
                                 bool (*each)(void *arg, const struct dk_log_row *row), void *arg,
                                 struct dk_err *err);
/* The number of the newest seal; 0 = none. */
DK_MUST_USE dk_rc dk_inspect_newest_seal(struct dk_core *core, int64_t *out, struct dk_err *err);
DK_MUST_USE dk_rc dk_inspect_counts(struct dk_core *core, struct dk_key_counts *out,
                                    struct dk_err *err);
/* The data key itself, after the log row of the export is committed; the caller's to free. */
DK_MUST_USE dk_rc dk_inspect_export(struct dk_core *core, const struct dk_key_name *name,
                                    const char *by, struct dk_secret *out, struct dk_err *err);

#endif
