/* The door for what is well and what is not: statistics. */
#include "door.h"
#include "keys/inspect.h"

static dk_rc read_stats(struct dk_instance *d, struct dekhand_stats *out, struct dk_err *err)
{
    struct dk_key_counts counts;
    if (out == NULL || out->size != sizeof *out) {
        return DK_FAIL(err, USAGE, "dekhand_stats.size is not %zu", sizeof *out);
    }
    DK_TRY(dk_inspect_counts(&d->core, &counts, err));
    struct dk_manager_stats memory = dk_manager_stats(d->manager);
    *out = (struct dekhand_stats){.size = sizeof *out,
                                  .total_keys = counts.total,
                                  .active_keys = counts.active,
                                  .expired_keys = counts.expired,
                                  .near_expiry_keys = counts.near_expiry,
                                  .calls = memory.calls,
                                  .misses = memory.misses,
                                  .failures = memory.failures,
                                  .evictions = memory.evictions,
                                  .cached_keys = memory.cached_keys};
    return DK_OK;
}

int dekhand_stats(struct dekhand *d, struct dekhand_stats *out, struct dekhand_error *error)
{
    struct dk_err err;
    dk_err_clear(&err);
    dk_rc rc = dk_door_enter(d, DK_MAY_SEE_HEALTH, NULL, &err);
    if (rc == DK_OK) {
        rc = read_stats(d->in, out, &err);
    }
    return dk_door_leave(rc, &err, error);
}
