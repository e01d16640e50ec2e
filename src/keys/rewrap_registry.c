/* The registry's keys under another master key. */
#include <stdio.h>

#include "keys/audit.h"
#include "keys/keyring.h"
#include "keys/registry.h"
#include "keys/rewrap_state.h"

#define TRIES 3

/* ---- the registry's key ---------------------------------------------------------------------- */

struct taking {
    struct dk_rewrapping *rewrap;
    const struct dk_registry_row *before;
    struct dk_wrap_columns wrap;
};

/* Only in the place of the wrap that was read: E_CONFLICT. */
static dk_rc take_place(void *arg, struct dk_txn *txn, struct dk_err *err)
{
    const struct taking *taking = arg;
    const struct dk_wrap_columns *before = &taking->before->wrap, *wrap = &taking->wrap;
    uint32_t generation = taking->before->generation;
    bool other = strcmp(before->provider, wrap->provider) != 0;
    DK_TRY(txn->ops->registry_wrap_put(txn->self, generation, wrap, err));
    DK_TRY(txn->ops->registry_rewrap(txn->self, generation, before, wrap, err));
    DK_TRY(txn->ops->registry_wrap_drop(txn->self, generation, wrap->provider, err));
    if (other && dk_rewrap_opens_here(taking->rewrap, before->provider)) {
        DK_TRY(txn->ops->registry_wrap_put(txn->self, generation, before, err));
    }
    dk_trace(taking->rewrap->core->world, "rewrap.registry_changed");
    return DK_OK;
}

static dk_rc rewrap_registry(struct dk_rewrapping *rewrap, const struct dk_registry_row *before,
                             struct dk_err *err)
{
    struct dk_core *core = rewrap->core;
    struct taking taking = {.rewrap = rewrap, .before = before};
    const struct dk_audit_change with = {take_place, &taking};
    struct dk_log_row log;
    DK_TRY(dk_further_wrap_registry(core, rewrap->to, NULL, before, &taking.wrap, err));
    dk_trace(core->world, "rewrap.registry_wrapped");
    DK_TRY(dk_audit_row(core, rewrap->args->by, "*", "rewrap", &log, err));
    log.from_version = log.to_version = before->generation;
    log.detail = rewrap->result->kms_key_id;
    return dk_audit_change_here(core, &log, &with, err);
}

/* ---- its further wraps, and those of earlier keys -------------------------------------------- */

struct has {
    const struct dk_rewrapping *rewrap;
    bool under;
    struct dk_wrap_columns wrap; /* the one that is under it */
    char leaving[4][32];
    size_t n;
};

static bool note_wrap(void *arg, const struct dk_wrap_columns *wrap)
{
    struct has *has = arg;
    if (dk_rewrap_is_under(has->rewrap, wrap)) {
        has->under = true;
        has->wrap = *wrap;
    }
    if (dk_rewrap_drops(has->rewrap, wrap->provider) && has->n < 4) {
        snprintf(has->leaving[has->n++], sizeof has->leaving[0], "%.31s", wrap->provider);
    }
    return true;
}

/* `wrap` NULL: only what is to be dropped goes. */
static dk_rc put_registry_wrap(struct dk_rewrapping *rewrap, uint32_t generation,
                               const struct has *has, const struct dk_wrap_columns *wrap,
                               struct dk_err *err)
{
    struct dk_txn txn;
    DK_TRY(dk_registry_begin(rewrap->core, DK_TXN_WRITE, &txn, err));
    dk_rc rc = wrap != NULL ? txn.ops->registry_wrap_put(txn.self, generation, wrap, err) : DK_OK;
    for (size_t i = 0; i < has->n && rc == DK_OK; i++) {
        rc = txn.ops->registry_wrap_drop(txn.self, generation, has->leaving[i], err);
    }
    rc = rc == DK_OK ? dk_store_commit(&txn, err) : rc;
    dk_store_rollback(&txn);
    return rc;
}

static dk_rc look_at_wraps(struct dk_rewrapping *rewrap, uint32_t generation, struct has *has,
                           struct dk_err *err)
{
    struct dk_txn txn;
    has->rewrap = rewrap;
    DK_TRY(dk_registry_begin(rewrap->core, DK_TXN_READ, &txn, err));
    dk_rc rc = txn.ops->registry_wraps(txn.self, generation, note_wrap, has, err);
    dk_store_rollback(&txn);
    return rc;
}

/* What the log and the seals of before are verified by: it opens by the new provider too. A wrap
   that says so is believed when it was opened. */
static dk_rc work_earlier_one(void *arg, const struct dk_ring *ring,
                              const struct dk_registry_row *row, struct dk_err *err)
{
    struct dk_rewrapping *rewrap = arg;
    struct dk_wrap_columns wrap;
    struct dk_err broken;
    struct has has = {.n = 0};
    DK_TRY(look_at_wraps(rewrap, row->generation, &has, err));
    bool first = dk_rewrap_is_under(rewrap, &row->wrap);
    if (first || has.under) {
        dk_err_clear(&broken);
        dk_rc rc = dk_further_try_registry(rewrap->core, ring, row, first ? &row->wrap : &has.wrap,
                                           &broken);
        if (rc == DK_OK) {
            return has.n > 0 ? put_registry_wrap(rewrap, row->generation, &has, NULL, err) : DK_OK;
        }
        if (first || rc != DK_E_TAMPERED) {
            *err = broken;
            return rc;
        }
    }
    DK_TRY(dk_further_wrap_registry(rewrap->core, rewrap->to, ring, row, &wrap, err));
    return put_registry_wrap(rewrap, row->generation, &has, &wrap, err);
}

/* An earlier key that cannot be had is told, and keeps no tenant's key from its new wrap. */
static void try_earlier(struct dk_rewrapping *rewrap, const struct dk_registry_row *now)
{
    struct dk_err err;
    dk_err_clear(&err);
    dk_rc rc = dk_further_each_earlier(rewrap->core, now, work_earlier_one, rewrap, &err);
    if (rc != DK_OK) {
        struct dk_rewrap_result *result = rewrap->result;
        result->first = result->failed++ == 0 ? rc : result->first;
        DK_LOG(&rewrap->core->log, ERROR, "rewrap_failed", DK_LOG_S(TENANT, "*"),
               DK_LOG_S(CODE, dk_error_info(rc)->name), DK_LOG_S(REASON, err.text));
    }
}

static dk_rc drop_leaving(struct dk_rewrapping *rewrap, struct dk_err *err)
{
    struct dk_registry_row row;
    struct has has = {.n = 0};
    DK_TRY(dk_registry_read(rewrap->core, &row, err));
    DK_TRY(look_at_wraps(rewrap, row.generation, &has, err));
    if (has.n == 0) {
        return DK_OK;
    }
    DK_TRY(dk_further_try_registry(rewrap->core, NULL, &row, &row.wrap, err));
    return put_registry_wrap(rewrap, row.generation, &has, NULL, err);
}

dk_rc dk_rewrap_registry(struct dk_rewrapping *rewrap, struct dk_err *err)
{
    struct dk_registry_row row;
    struct dk_err cause;
    dk_rc rc = DK_E_CONFLICT;
    DK_TRY(dk_registry_read(rewrap->core, &row, err));
    try_earlier(rewrap, &row);
    for (int i = 0; i < TRIES && rc == DK_E_CONFLICT; i++) { /* another was first: look again */
        dk_err_clear(&cause);
        DK_TRY(dk_registry_read(rewrap->core, &row, err));
        bool under = dk_rewrap_is_under(rewrap, &row.wrap);
        rc = under ? DK_OK : rewrap_registry(rewrap, &row, &cause);
        rewrap->result->registry = rc == DK_OK && !under;
    }
    if (rc != DK_OK) {
        *err = cause;
        return rc;
    }
    return drop_leaving(rewrap, err);
}
