#include "keys/rewrap.h"

#include <stdio.h>

#include "keys/audit_state.h"
#include "keys/further.h"
#include "keys/keyring.h"
#include "keys/registry.h"
#include "keys/tenant_change.h"
#include "keys/unwrap.h"

#define PAGE 64
#define TRIES 3

enum fate { PASSED_OVER, UNDER_IT, TO_MOVE };

struct rewrap {
    struct dk_core *core;
    const struct dk_rewrap_args *args;
    struct dk_rewrap_result *result;
    struct dk_provider *to;
    struct dk_key_row rows[PAGE];
    struct dk_unwrapping open[PAGE];
    struct dk_further made[PAGE];
    bool by_first[PAGE]; /* of `made`: its first wrap was opened, not a further one */
    enum fate fate[PAGE];
    dk_rc rc[PAGE]; /* of the rows: DK_OK = it was opened, and is to be written down */
    size_t count;   /* rows that were read */
    bool stopped;
};

static bool is_configured(const struct rewrap *rewrap, const char *provider)
{
    return dk_unwrap_provider(rewrap->core, provider) != NULL;
}

static bool is_under(const struct rewrap *rewrap, const struct dk_wrap_columns *wrap)
{
    return strcmp(wrap->provider, dk_provider_name(rewrap->to)) == 0 &&
           strcmp(wrap->kms_key_id, rewrap->result->kms_key_id) == 0;
}

static void note_failed(struct rewrap *rewrap, const struct dk_key_row *row,
                        const struct dk_err *err)
{
    struct dk_rewrap_result *result = rewrap->result;
    result->first = result->failed++ == 0 ? err->rc : result->first;
    DK_LOG(&rewrap->core->log, ERROR, "rewrap_failed", DK_LOG_S(TENANT, row->tenant.s),
           DK_LOG_I(VERSION, row->version), DK_LOG_S(CODE, dk_error_info(err->rc)->name),
           DK_LOG_S(REASON, err->text));
}

/* ---- one version ----------------------------------------------------------------------------- */

/* Further wraps of a version that nobody here opens any more, and the one that is the first now. */
struct leaving {
    const struct rewrap *rewrap;
    char provider[4][32];
    size_t n;
};

static bool note_leaving(void *arg, const struct dk_wrap_row *row)
{
    struct leaving *leaving = arg;
    bool first = strcmp(row->wrap.provider, dk_provider_name(leaving->rewrap->to)) == 0;
    if ((first || !is_configured(leaving->rewrap, row->wrap.provider)) && leaving->n < 4) {
        snprintf(leaving->provider[leaving->n++], sizeof leaving->provider[0], "%.31s",
                 row->wrap.provider);
    }
    return true;
}

static dk_rc tidy(struct rewrap *rewrap, struct dk_txn *txn, const struct dk_key_row *row,
                  struct dk_err *err)
{
    struct leaving leaving = {.rewrap = rewrap};
    DK_TRY(txn->ops->wraps_of(txn->self, &row->tenant, row->version, note_leaving, &leaving, err));
    for (size_t i = 0; i < leaving.n; i++) {
        DK_TRY(
            txn->ops->wrap_drop(txn->self, &row->tenant, row->version, leaving.provider[i], err));
    }
    return DK_OK;
}

/* The wrap before stays where somebody can open it; where it was not opened now, that is due. */
static dk_rc keep_before(struct rewrap *rewrap, struct dk_txn *txn, const struct dk_key_row *before,
                         bool opened, struct dk_err *err)
{
    struct dk_wrap_row row = {.tenant = before->tenant,
                              .version = before->version,
                              .wrap = before->wrap,
                              .last_verified_at = opened ? dk_wall_us(rewrap->core->world) : 0};
    bool other = strcmp(before->wrap.provider, dk_provider_name(rewrap->to)) != 0;
    return other && is_configured(rewrap, before->wrap.provider)
               ? dk_further_put(rewrap->core, txn, &row, err)
               : DK_OK;
}

/* Whoever changed the version meanwhile was first; its wrap is another's matter, at the next run.
 */
static dk_rc change_in(struct rewrap *rewrap, struct dk_tenant_change *change,
                       const struct dk_further *made, bool *changed, struct dk_err *err)
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
    DK_TRY(tidy(rewrap, txn, &row, err));
    dk_trace(rewrap->core->world, "rewrap.key_changed");
    DK_TRY(dk_tenant_change_close(change, "rewrap", row.version, row.version, row.wrap.kms_key_id,
                                  err));
    dk_trace(rewrap->core->world, "rewrap.before_commit");
    *changed = true;
    return dk_store_commit(txn, err);
}

static void change_one(struct rewrap *rewrap, const struct dk_further *made)
{
    struct dk_tenant_change change;
    struct dk_err err;
    bool changed = false;
    dk_err_clear(&err);
    dk_rc rc =
        dk_tenant_change_begin(rewrap->core, &made->row->tenant, rewrap->args->by, &change, &err);
    if (rc == DK_OK) {
        rc = change_in(rewrap, &change, made, &changed, &err);
        dk_tenant_change_end(&change);
    }
    if (rc != DK_OK) {
        note_failed(rewrap, made->row, &err);
    } else if (changed) {
        rewrap->result->rewrapped++;
        dk_trace(rewrap->core->world, "rewrap.committed");
    } else {
        rewrap->result->kept++;
    }
}

/* ---- a page ---------------------------------------------------------------------------------- */

static dk_rc audit(struct rewrap *rewrap, const struct dk_unwrapping *list, size_t n,
                   struct dk_err *err)
{
    for (size_t i = 0; i < rewrap->count; i++) {
        rewrap->rc[i] = DK_E_NOT_FOUND;
    }
    for (size_t k = 0; k < n; k++) {
        rewrap->rc[list[k].row - rewrap->rows] = list[k].err.rc;
    }
    return dk_audit_unwraps(rewrap->core, rewrap->rows, rewrap->rc, rewrap->count, err);
}

/* Of what is under it already: those that still have wraps that nobody opens. */
static dk_rc find_leaving(struct rewrap *rewrap, size_t *count, struct dk_err *err)
{
    struct dk_txn txn;
    dk_rc rc = DK_OK;
    size_t n = 0;
    DK_TRY(dk_registry_begin(rewrap->core, DK_TXN_READ, &txn, err));
    for (size_t i = 0; i < rewrap->count && rc == DK_OK; i++) {
        const struct dk_key_row *row = &rewrap->rows[i];
        struct leaving leaving = {.rewrap = rewrap};
        if (rewrap->fate[i] == UNDER_IT) {
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

static dk_rc tidy_in(struct rewrap *rewrap, struct dk_tenant_change *change,
                     const struct dk_key_row *before, struct dk_err *err)
{
    struct dk_txn *txn = &change->txn;
    struct dk_key_row row;
    DK_TRY(txn->ops->key_read(txn->self, &before->tenant, before->version, &row, err));
    if (strcmp(row.row_mac, before->row_mac) != 0) {
        return DK_OK; /* another's matter by now */
    }
    DK_TRY(tidy(rewrap, txn, &row, err));
    DK_TRY(dk_tenant_change_close(change, "rewrap", row.version, row.version, row.wrap.kms_key_id,
                                  err));
    return dk_store_commit(txn, err);
}

static void tidy_one(struct rewrap *rewrap, const struct dk_unwrapping *tried)
{
    struct dk_tenant_change change;
    struct dk_err err = tried->err;
    if (err.rc == DK_OK && dk_tenant_change_begin(rewrap->core, &tried->row->tenant,
                                                  rewrap->args->by, &change, &err) == DK_OK) {
        dk_rc ignored = tidy_in(rewrap, &change, tried->row, &err);
        (void)ignored;
        dk_tenant_change_end(&change);
    }
    if (err.rc != DK_OK) {
        note_failed(rewrap, tried->row, &err);
    }
}

/* No wrap goes before the first one was just opened: it may be all that is left. */
static dk_rc tidy_page(struct rewrap *rewrap, struct dk_err *err)
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

static enum fate fate_of(struct rewrap *rewrap, const struct dk_key_row *row)
{
    struct dk_err err;
    dk_err_clear(&err);
    if (row->state == DK_PURGED) {
        return PASSED_OVER;
    }
    if (dk_registry_verify_key(rewrap->core, NULL, row, &err) != DK_OK) {
        note_failed(rewrap, row, &err);
        return PASSED_OVER;
    }
    bool under = is_under(rewrap, &row->wrap);
    rewrap->result->kept += under;
    return under ? UNDER_IT : TO_MOVE;
}

/* What opens is in hand, in `made`; how many. */
static size_t open_page(struct rewrap *rewrap, size_t n)
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

static void settle_one(struct rewrap *rewrap, const struct dk_further *made)
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
static dk_rc move_page(struct rewrap *rewrap, size_t n, struct dk_err *err)
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

static dk_rc work_page(struct rewrap *rewrap, struct dk_err *err)
{
    size_t n = 0;
    for (size_t i = 0; i < rewrap->count; i++) {
        rewrap->fate[i] = fate_of(rewrap, &rewrap->rows[i]);
    }
    DK_TRY(tidy_page(rewrap, err));
    for (size_t i = 0; i < rewrap->count; i++) {
        if (rewrap->fate[i] == TO_MOVE) {
            rewrap->open[n++].row = &rewrap->rows[i];
        }
    }
    if (n > 0) {
        DK_TRY(move_page(rewrap, n, err));
    }
    return dk_audit_check(rewrap->core, err);
}

static dk_rc read_page(struct rewrap *rewrap, struct dk_key_cursor *at, struct dk_err *err)
{
    struct dk_txn txn;
    DK_TRY(dk_registry_begin(rewrap->core, DK_TXN_READ, &txn, err));
    dk_rc rc = txn.ops->key_list(txn.self, rewrap->args->tenant, DK_KEYS_ALL, at, PAGE,
                                 rewrap->rows, &rewrap->count, err);
    dk_store_rollback(&txn);
    if (rc == DK_OK && rewrap->count > 0) {
        const struct dk_key_row *last = &rewrap->rows[rewrap->count - 1];
        *at = (struct dk_key_cursor){last->tenant, last->version};
    }
    return rc;
}

static dk_rc work_all(struct rewrap *rewrap, struct dk_err *err)
{
    struct dk_key_cursor at = {0};
    do {
        DK_TRY(read_page(rewrap, &at, err));
        DK_TRY(work_page(rewrap, err));
        rewrap->stopped =
            rewrap->args->each != NULL && !rewrap->args->each(rewrap->args->arg, rewrap->result);
    } while (rewrap->count == PAGE && !rewrap->stopped);
    return DK_OK;
}

/* ---- the registry's key ---------------------------------------------------------------------- */

static dk_rc log_registry(struct rewrap *rewrap, struct dk_change *change, uint32_t generation,
                          char head[static DK_MAC_TEXT], struct dk_err *err)
{
    struct dk_log_row log;
    DK_TRY(dk_audit_row(rewrap->core, rewrap->args->by, "*", "rewrap", &log, err));
    log.from_version = log.to_version = generation;
    log.detail = rewrap->result->kms_key_id;
    DK_TRY(dk_audit_store_here(rewrap->core, change, &log, head, err));
    return dk_change_seal(rewrap->core, change, err);
}

/* Only in the place of the wrap that was read: E_CONFLICT. */
static dk_rc change_registry(struct rewrap *rewrap, struct dk_txn *txn,
                             const struct dk_registry_row *before,
                             const struct dk_wrap_columns *wrap, struct dk_err *err)
{
    uint32_t generation = before->generation;
    bool other = strcmp(before->wrap.provider, wrap->provider) != 0;
    DK_TRY(txn->ops->registry_wrap_put(txn->self, generation, wrap, err));
    DK_TRY(txn->ops->registry_rewrap(txn->self, generation, &before->wrap, wrap, err));
    DK_TRY(txn->ops->registry_wrap_drop(txn->self, generation, wrap->provider, err));
    if (other && is_configured(rewrap, before->wrap.provider)) {
        DK_TRY(txn->ops->registry_wrap_put(txn->self, generation, &before->wrap, err));
    }
    dk_trace(rewrap->core->world, "rewrap.registry_changed");
    return DK_OK;
}

static dk_rc store_registry_locked(struct rewrap *rewrap, const struct dk_registry_row *before,
                                   const struct dk_wrap_columns *wrap, struct dk_err *err)
{
    struct dk_core *core = rewrap->core;
    struct dk_txn txn;
    struct dk_change change;
    char head[DK_MAC_TEXT];
    DK_TRY(dk_registry_begin(core, DK_TXN_WRITE, &txn, err));
    dk_change_init(&change, core, &txn);
    dk_rc rc = change_registry(rewrap, &txn, before, wrap, err);
    rc = rc == DK_OK ? log_registry(rewrap, &change, before->generation, head, err) : rc;
    rc = rc == DK_OK ? dk_audit_commit_here(core, &txn, head, err) : rc;
    dk_change_clear(&change);
    dk_store_rollback(&txn);
    return rc;
}

static dk_rc rewrap_registry(struct rewrap *rewrap, const struct dk_registry_row *before,
                             struct dk_err *err)
{
    struct dk_wrap_columns wrap;
    DK_TRY(dk_further_wrap_registry(rewrap->core, rewrap->to, NULL, before, &wrap, err));
    dk_trace(rewrap->core->world, "rewrap.registry_wrapped");
    pthread_mutex_lock(&rewrap->core->audit->lock);
    dk_rc rc = store_registry_locked(rewrap, before, &wrap, err);
    pthread_mutex_unlock(&rewrap->core->audit->lock);
    return rc;
}

/* ---- its further wraps, and those of earlier keys -------------------------------------------- */

struct has {
    const struct rewrap *rewrap;
    bool under;
    struct dk_wrap_columns wrap; /* the one that is under it */
    char leaving[4][32];
    size_t n;
};

static bool note_wrap(void *arg, const struct dk_wrap_columns *wrap)
{
    struct has *has = arg;
    if (is_under(has->rewrap, wrap)) {
        has->under = true;
        has->wrap = *wrap;
    }
    if (!is_configured(has->rewrap, wrap->provider) && has->n < 4) {
        snprintf(has->leaving[has->n++], sizeof has->leaving[0], "%.31s", wrap->provider);
    }
    return true;
}

/* `wrap` NULL: only what nobody opens any more goes. */
static dk_rc put_registry_wrap(struct rewrap *rewrap, uint32_t generation, const struct has *has,
                               const struct dk_wrap_columns *wrap, struct dk_err *err)
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

static dk_rc look_at_wraps(struct rewrap *rewrap, uint32_t generation, struct has *has,
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
    struct rewrap *rewrap = arg;
    struct dk_wrap_columns wrap;
    struct dk_err broken;
    struct has has = {.n = 0};
    DK_TRY(look_at_wraps(rewrap, row->generation, &has, err));
    bool first = is_under(rewrap, &row->wrap);
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
static void try_earlier(struct rewrap *rewrap, const struct dk_registry_row *now)
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

static dk_rc drop_leaving(struct rewrap *rewrap, struct dk_err *err)
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

static dk_rc work_registry(struct rewrap *rewrap, struct dk_err *err)
{
    struct dk_registry_row row;
    struct dk_err cause;
    dk_rc rc = DK_E_CONFLICT;
    DK_TRY(dk_registry_read(rewrap->core, &row, err));
    try_earlier(rewrap, &row);
    for (int i = 0; i < TRIES && rc == DK_E_CONFLICT; i++) { /* another was first: look again */
        dk_err_clear(&cause);
        DK_TRY(dk_registry_read(rewrap->core, &row, err));
        bool under = is_under(rewrap, &row.wrap);
        rc = under ? DK_OK : rewrap_registry(rewrap, &row, &cause);
        rewrap->result->registry = rc == DK_OK && !under;
    }
    if (rc != DK_OK) {
        *err = cause;
        return rc;
    }
    return drop_leaving(rewrap, err);
}

/* ---- all ------------------------------------------------------------------------------------- */

static dk_rc rewrap_all(struct rewrap *rewrap, struct dk_err *err)
{
    struct dk_provider_info info;
    rewrap->to = dk_unwrap_provider(rewrap->core, rewrap->args->to);
    if (rewrap->to == NULL) {
        return DK_FAIL(err, CONFIG,
                       "rewrap --to %.40s: it is neither KMS_PROVIDER (%s) nor "
                       "KMS_SECONDARY_PROVIDER",
                       rewrap->args->to, dk_provider_name(rewrap->core->provider));
    }
    DK_TRY(dk_audit_check(rewrap->core, err));
    DK_TRY(dk_provider_test(rewrap->to, err)); /* and after it the name of its key is known */
    DK_TRY(dk_provider_describe(rewrap->to, &info, err));
    memcpy(rewrap->result->kms_key_id, info.kms_key_id, sizeof info.kms_key_id);
    if (rewrap->args->tenant == NULL) {
        DK_TRY(work_registry(rewrap, err));
    }
    DK_TRY(work_all(rewrap, err));
    return rewrap->args->tenant == NULL && !rewrap->stopped ? dk_further_fill(rewrap->core, err)
                                                            : DK_OK;
}

dk_rc dk_rewrap(struct dk_core *core, const struct dk_rewrap_args *args,
                struct dk_rewrap_result *out, struct dk_err *err)
{
    struct rewrap *rewrap = dk_mem_zalloc(&core->world->mem, sizeof *rewrap);
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
