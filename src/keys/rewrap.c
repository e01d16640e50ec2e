#include "keys/rewrap.h"

#include <stdio.h>

#include "keys/audit.h"
#include "keys/keyring.h"
#include "keys/move.h"
#include "keys/registry.h"
#include "keys/rewrap_state.h"
#include "keys/tenant_change.h"
bool dk_rewrap_opens_here(const struct dk_rewrapping *rewrap, const char *provider)
{
    return dk_unwrap_provider(rewrap->core, provider) != NULL;
}

bool dk_rewrap_drops(const struct dk_rewrapping *rewrap, const char *provider)
{
    return rewrap->args->drop != NULL && strcmp(rewrap->args->drop, provider) == 0;
}

bool dk_rewrap_is_under(const struct dk_rewrapping *rewrap, const struct dk_wrap_columns *wrap)
{
    return strcmp(wrap->provider, dk_provider_name(rewrap->to)) == 0 &&
           strcmp(wrap->kms_key_id, rewrap->result->kms_key_id) == 0;
}

static void count_failed(struct dk_rewrapping *rewrap, const char *tenant, uint32_t version,
                         const struct dk_err *err)
{
    struct dk_rewrap_result *result = rewrap->result;
    result->first = result->failed++ == 0 ? err->rc : result->first;
    DK_LOG(&rewrap->core->log, ERROR, "rewrap_failed", DK_LOG_S(TENANT, tenant),
           DK_LOG_I(VERSION, version), DK_LOG_S(CODE, dk_error_info(err->rc)->name),
           DK_LOG_S(REASON, err->text));
}

static void note_failed(struct dk_rewrapping *rewrap, const struct dk_key_row *row,
                        const struct dk_err *err)
{
    count_failed(rewrap, row->tenant.s, row->version, err);
}

static void note_unreadable(void *arg, const char *tenant, uint32_t version)
{
    struct dk_err err;
    dk_err_clear(&err);
    (void)DK_FAIL(&err, TAMPERED, "its row holds what dekhand does not write");
    count_failed(arg, tenant, version, &err);
}

/* ---- one version ----------------------------------------------------------------------------- */

/* Further wraps of a version that are to go, and the one that is the first now. */
struct leaving {
    const struct dk_rewrapping *rewrap;
    char provider[4][32];
    size_t n;
    bool dropped; /* one of `drop` among them */
};

static bool note_leaving(void *arg, const struct dk_wrap_row *row)
{
    struct leaving *leaving = arg;
    bool first = strcmp(row->wrap.provider, dk_provider_name(leaving->rewrap->to)) == 0;
    bool dropped = dk_rewrap_drops(leaving->rewrap, row->wrap.provider);
    leaving->dropped = leaving->dropped || dropped;
    if ((first || dropped) && leaving->n < 4) {
        snprintf(leaving->provider[leaving->n++], sizeof leaving->provider[0], "%.31s",
                 row->wrap.provider);
    }
    return true;
}

/* *dropped: a wrap of `drop` was among them. */
static dk_rc tidy(struct dk_rewrapping *rewrap, struct dk_txn *txn, const struct dk_key_row *row,
                  bool *dropped, struct dk_err *err)
{
    struct leaving leaving = {.rewrap = rewrap};
    DK_TRY(txn->ops->wraps_of(txn->self, &row->tenant, row->version, note_leaving, &leaving, err));
    for (size_t i = 0; i < leaving.n; i++) {
        DK_TRY(
            txn->ops->wrap_drop(txn->self, &row->tenant, row->version, leaving.provider[i], err));
    }
    *dropped = leaving.dropped;
    return DK_OK;
}

/* The wrap before stays where somebody can open it; where it was not opened now, that is due. */
static dk_rc keep_before(struct dk_rewrapping *rewrap, struct dk_txn *txn,
                         const struct dk_key_row *before, bool opened, struct dk_err *err)
{
    struct dk_wrap_row row = {.tenant = before->tenant,
                              .version = before->version,
                              .wrap = before->wrap,
                              .last_verified_at = opened ? dk_wall_us(rewrap->core->world) : 0};
    bool other = strcmp(before->wrap.provider, dk_provider_name(rewrap->to)) != 0;
    return other && dk_rewrap_opens_here(rewrap, before->wrap.provider)
               ? dk_further_put(rewrap->core, txn, &row, err)
               : DK_OK;
}

/* Whoever changed the version meanwhile was first; its wrap is another's matter, at the next run.
 */
static dk_rc change_in(struct dk_rewrapping *rewrap, struct dk_tenant_change *change,
                       const struct dk_further *made, bool *changed, bool *dropped,
                       struct dk_err *err)
{
    struct dk_txn *txn = &change->txn;
    struct dk_key_row row;
    DK_TRY(txn->ops->key_read(txn->self, &made->row->tenant, made->row->version, &row, err));
    DK_TRY(dk_registry_verify_key(rewrap->core, NULL, &row, err));
    if (row.state == DK_PURGED ||
        strcmp(row.wrap.encrypted_data_key, made->row->wrap.encrypted_data_key) != 0) {
        return DK_OK;
    }
    DK_TRY(keep_before(rewrap, txn, &row, rewrap->by_first[made - rewrap->made], err));
    row.wrap = made->out.wrap;
    DK_TRY(dk_tenant_change_key(change, &row, row.state, err));
    DK_TRY(tidy(rewrap, txn, &row, dropped, err));
    dk_trace(rewrap->core->world, "rewrap.key_changed");
    DK_TRY(dk_tenant_change_close(change, "rewrap", row.version, row.version, row.wrap.kms_key_id,
                                  err));
    dk_trace(rewrap->core->world, "rewrap.before_commit");
    *changed = true;
    return dk_store_commit(txn, err);
}

static void change_one(struct dk_rewrapping *rewrap, const struct dk_further *made)
{
    struct dk_tenant_change change;
    struct dk_err err;
    bool changed = false, dropped = false;
    dk_err_clear(&err);
    dk_rc rc =
        dk_tenant_change_begin(rewrap->core, &made->row->tenant, rewrap->args->by, &change, &err);
    if (rc == DK_OK) {
        rc = change_in(rewrap, &change, made, &changed, &dropped, &err);
        dk_tenant_change_end(&change);
    }
    if (rc != DK_OK) {
        note_failed(rewrap, made->row, &err);
    } else if (changed) {
        rewrap->result->rewrapped++;
        rewrap->result->dropped += dropped;
        dk_trace(rewrap->core->world, "rewrap.committed");
    } else {
        rewrap->result->kept++;
    }
}

/* ---- a page ---------------------------------------------------------------------------------- */

static void none_opened(struct dk_rewrapping *rewrap)
{
    for (size_t i = 0; i < rewrap->count; i++) {
        rewrap->rc[i] = DK_E_NOT_FOUND;
    }
}

static dk_rc audit(struct dk_rewrapping *rewrap, const struct dk_unwrapping *list, size_t n,
                   struct dk_err *err)
{
    none_opened(rewrap);
    for (size_t k = 0; k < n; k++) {
        rewrap->rc[list[k].row - rewrap->rows] = list[k].err.rc;
    }
    return dk_audit_unwraps(rewrap->core, rewrap->rows, rewrap->rc, rewrap->count, err);
}

/* Of what is under it already: those that have wraps that are to go. */
static dk_rc find_leaving(struct dk_rewrapping *rewrap, size_t *count, struct dk_err *err)
{
    struct dk_txn txn;
    dk_rc rc = DK_OK;
    size_t n = 0;
    DK_TRY(dk_registry_begin(rewrap->core, DK_TXN_READ, &txn, err));
    for (size_t i = 0; i < rewrap->count && rc == DK_OK; i++) {
        const struct dk_key_row *row = &rewrap->rows[i];
        struct leaving leaving = {.rewrap = rewrap};
        if (rewrap->fate[i] == DK_REWRAP_UNDER) {
            rc = txn.ops->wraps_of(txn.self, &row->tenant, row->version, note_leaving, &leaving,
                                   err);
        }
        if (leaving.n > 0) {
            rewrap->open[n].row = row;
            rewrap->open[n++].wrap = &row->wrap;
        }
    }
    dk_store_rollback(&txn);
    *count = n;
    return rc;
}

static dk_rc tidy_in(struct dk_rewrapping *rewrap, struct dk_tenant_change *change,
                     const struct dk_key_row *before, bool *dropped, struct dk_err *err)
{
    struct dk_txn *txn = &change->txn;
    struct dk_key_row row;
    DK_TRY(txn->ops->key_read(txn->self, &before->tenant, before->version, &row, err));
    if (strcmp(row.row_mac, before->row_mac) != 0) {
        return DK_OK; /* another's matter by now */
    }
    DK_TRY(tidy(rewrap, txn, &row, dropped, err));
    DK_TRY(dk_tenant_change_close(change, "rewrap", row.version, row.version, row.wrap.kms_key_id,
                                  err));
    return dk_store_commit(txn, err);
}

static void tidy_one(struct dk_rewrapping *rewrap, const struct dk_unwrapping *tried)
{
    struct dk_tenant_change change;
    bool dropped = false;
    struct dk_err err = tried->err;
    if (err.rc == DK_OK && dk_tenant_change_begin(rewrap->core, &tried->row->tenant,
                                                  rewrap->args->by, &change, &err) == DK_OK) {
        dk_rc rc = tidy_in(rewrap, &change, tried->row, &dropped, &err);
        rewrap->result->dropped += rc == DK_OK && dropped;
        dk_tenant_change_end(&change);
    }
    if (err.rc != DK_OK) {
        rewrap->result->kept--; /* it is one of those that failed */
        note_failed(rewrap, tried->row, &err);
    }
}

/* No wrap goes before the first one was just opened: it may be all that is left. */
static dk_rc tidy_page(struct dk_rewrapping *rewrap, struct dk_err *err)
{
    size_t n = 0;
    DK_TRY(find_leaving(rewrap, &n, err));
    if (n == 0) {
        return DK_OK;
    }
    dk_unwrap_try_many(rewrap->core, rewrap->open, n);
    DK_TRY(audit(rewrap, rewrap->open, n, err));
    for (size_t k = 0; k < n; k++) {
        tidy_one(rewrap, &rewrap->open[k]);
    }
    return DK_OK;
}

static enum dk_rewrap_fate fate_of(struct dk_rewrapping *rewrap, const struct dk_key_row *row)
{
    struct dk_err err;
    dk_err_clear(&err);
    if (row->state == DK_PURGED) {
        return DK_REWRAP_NOT;
    }
    if (dk_registry_verify_key(rewrap->core, NULL, row, &err) != DK_OK) {
        note_failed(rewrap, row, &err);
        return DK_REWRAP_NOT;
    }
    bool under = dk_rewrap_is_under(rewrap, &row->wrap);
    rewrap->result->kept += under;
    return under ? DK_REWRAP_UNDER : DK_REWRAP_DUE;
}

/* What opens is in hand, in `made`; how many. */
static size_t open_page(struct dk_rewrapping *rewrap, size_t n)
{
    size_t opened = 0;
    dk_unwrap_many(rewrap->core, rewrap->open, n);
    for (size_t k = 0; k < n; k++) {
        const struct dk_unwrapping *one = &rewrap->open[k];
        if (one->err.rc == DK_OK) {
            rewrap->made[opened].row = one->row;
            rewrap->by_first[opened] = !one->further;
            rewrap->made[opened++].key = one->key;
        } else {
            note_failed(rewrap, one->row, &one->err);
        }
    }
    dk_trace(rewrap->core->world, "rewrap.opened");
    return opened;
}

static void settle_one(struct dk_rewrapping *rewrap, const struct dk_further *made)
{
    struct dk_err lost;
    if (made->out.version != 0) {
        change_one(rewrap, made);
        return;
    }
    dk_err_clear(&lost);
    (void)DK_FAIL(&lost, PROVIDER, "%s did not wrap it", dk_provider_name(rewrap->to));
    note_failed(rewrap, made->row, &lost);
}

/* Opened by whoever can, which is written down (I26), wrapped by the new one, which opens its own
   wrap again (R5). */
static dk_rc wrap_page(struct dk_rewrapping *rewrap, size_t n, struct dk_err *err)
{
    struct dk_core *core = rewrap->core;
    size_t opened = open_page(rewrap, n);
    dk_rc rc = audit(rewrap, rewrap->open, n, err);
    if (rc == DK_OK) {
        dk_further_wrap(core, rewrap->to, rewrap->made, opened);
    }
    for (size_t i = 0; i < opened; i++) {
        dk_secret_free(core->arena, &rewrap->made[i].key);
    }
    for (size_t i = 0; i < opened && rc == DK_OK; i++) {
        settle_one(rewrap, &rewrap->made[i]);
    }
    return rc;
}

/* The first of all alone: who may not, or has another provider's wrap, is told so once. */
static size_t choose_moving(struct dk_rewrapping *rewrap, size_t n)
{
    size_t chosen = 0;
    for (size_t k = 0; k < n && (rewrap->moved || chosen == 0); k++) {
        const struct dk_key_row *row = rewrap->open[k].row;
        if (strcmp(row->wrap.provider, dk_provider_name(rewrap->to)) == 0) {
            rewrap->by_first[chosen] = true;
            rewrap->made[chosen++].row = row;
        }
    }
    return chosen;
}

/* Takes those out of `open` that were moved; how many are left. */
static size_t leave_unmoved(struct dk_rewrapping *rewrap, size_t n)
{
    size_t left = 0;
    for (size_t k = 0; k < n; k++) {
        const struct dk_key_row *row = rewrap->open[k].row;
        if (rewrap->rc[row - rewrap->rows] != DK_OK) {
            rewrap->open[left++].row = row;
        }
    }
    return left;
}

/* From one key of the provider to another, by itself; its new wraps were opened, which is written
   down. What it does not move is opened and wrapped. */
static dk_rc move_page(struct dk_rewrapping *rewrap, size_t *n, struct dk_err *err)
{
    size_t chosen = rewrap->moves ? choose_moving(rewrap, *n) : 0, moved = 0;
    if (chosen == 0) {
        return DK_OK;
    }
    dk_rc refused = dk_move_wraps(rewrap->core, rewrap->to, rewrap->made, chosen);
    none_opened(rewrap);
    for (size_t k = 0; k < chosen; k++) {
        if (rewrap->made[k].out.version != 0) {
            rewrap->rc[rewrap->made[k].row - rewrap->rows] = DK_OK;
            moved++;
        }
    }
    rewrap->moves = refused != DK_E_PROVIDER_DENIED; /* who may not is not asked again */
    rewrap->moved = rewrap->moved || moved > 0;
    DK_TRY(dk_audit_unwraps(rewrap->core, rewrap->rows, rewrap->rc, rewrap->count, err));
    *n = leave_unmoved(rewrap, *n);
    for (size_t k = 0; k < chosen; k++) {
        if (rewrap->made[k].out.version != 0) {
            change_one(rewrap, &rewrap->made[k]);
        }
    }
    return DK_OK;
}

static dk_rc work_page(struct dk_rewrapping *rewrap, struct dk_err *err)
{
    size_t n = 0;
    for (size_t i = 0; i < rewrap->count; i++) {
        rewrap->fate[i] = fate_of(rewrap, &rewrap->rows[i]);
    }
    DK_TRY(tidy_page(rewrap, err));
    for (size_t i = 0; i < rewrap->count; i++) {
        if (rewrap->fate[i] == DK_REWRAP_DUE) {
            rewrap->open[n++].row = &rewrap->rows[i];
        }
    }
    bool knows = rewrap->moved;
    DK_TRY(move_page(rewrap, &n, err));
    if (!knows && rewrap->moved) {
        DK_TRY(move_page(rewrap, &n, err));
    }
    if (n > 0) {
        DK_TRY(wrap_page(rewrap, n, err));
    }
    return dk_audit_check(rewrap->core, err);
}

static dk_rc read_page(struct dk_rewrapping *rewrap, struct dk_key_cursor *at, struct dk_err *err)
{
    struct dk_txn txn;
    struct dk_key_page page = {.after = *at,
                               .limit = DK_REWRAP_PAGE,
                               .rows = rewrap->rows,
                               .unreadable = note_unreadable,
                               .arg = rewrap};
    DK_TRY(dk_registry_begin(rewrap->core, DK_TXN_READ, &txn, err));
    dk_rc rc = txn.ops->key_page(txn.self, rewrap->args->tenant, &page, err);
    dk_store_rollback(&txn);
    rewrap->count = page.count;
    if (rc == DK_OK && rewrap->count > 0) {
        const struct dk_key_row *last = &rewrap->rows[rewrap->count - 1];
        *at = (struct dk_key_cursor){last->tenant, last->version};
    }
    return rc;
}

static dk_rc work_all(struct dk_rewrapping *rewrap, struct dk_err *err)
{
    struct dk_key_cursor at = {0};
    do {
        DK_TRY(read_page(rewrap, &at, err));
        DK_TRY(work_page(rewrap, err));
        rewrap->stopped =
            rewrap->args->each != NULL && !rewrap->args->each(rewrap->args->arg, rewrap->result);
    } while (rewrap->count == DK_REWRAP_PAGE && !rewrap->stopped);
    return DK_OK;
}

/* ---- all ------------------------------------------------------------------------------------- */

static dk_rc rewrap_all(struct dk_rewrapping *rewrap, struct dk_err *err)
{
    struct dk_provider_info info;
    rewrap->to = dk_unwrap_provider(rewrap->core, rewrap->args->to);
    if (rewrap->to == NULL) {
        return DK_FAIL(err, CONFIG,
                       "rewrap --to %.40s: it is neither KMS_PROVIDER (%s) nor "
                       "KMS_SECONDARY_PROVIDER",
                       rewrap->args->to, dk_provider_name(rewrap->core->provider));
    }
    if (rewrap->args->drop != NULL && dk_rewrap_opens_here(rewrap, rewrap->args->drop)) {
        return DK_FAIL(err, CONFIG,
                       "rewrap --drop %.40s: it is configured; take it out of the settings of all "
                       "processes first",
                       rewrap->args->drop);
    }
    DK_TRY(dk_audit_check(rewrap->core, err));
    DK_TRY(dk_provider_test(rewrap->to, err)); /* and after it the name of its key is known */
    DK_TRY(dk_provider_describe(rewrap->to, &info, err));
    memcpy(rewrap->result->kms_key_id, info.kms_key_id, sizeof info.kms_key_id);
    rewrap->moves = (dk_provider_caps(rewrap->to) & DK_PROVIDER_MOVES) != 0;
    if (rewrap->args->tenant == NULL) {
        DK_TRY(dk_rewrap_registry(rewrap, err));
    }
    DK_TRY(work_all(rewrap, err));
    return rewrap->args->tenant == NULL && !rewrap->stopped ? dk_further_fill(rewrap->core, err)
                                                            : DK_OK;
}

dk_rc dk_rewrap(struct dk_core *core, const struct dk_rewrap_args *args,
                struct dk_rewrap_result *out, struct dk_err *err)
{
    struct dk_rewrapping *rewrap = dk_mem_zalloc(&core->world->mem, sizeof *rewrap);
    *out = (struct dk_rewrap_result){.first = DK_OK};
    if (rewrap == NULL) {
        return DK_FAIL(err, NOMEM, "no memory to rewrap keys");
    }
    rewrap->core = core;
    rewrap->args = args;
    rewrap->result = out;
    dk_rc rc = rewrap_all(rewrap, err);
    dk_mem_free(&core->world->mem, rewrap);
    return rc == DK_OK ? rc : dk_err_while(err, "rewrapping under %.40s", args->to);
}
