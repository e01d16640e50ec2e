#include "keys/rewrap.h"

#include <stdio.h>

#include "keys/audit.h"
#include "keys/further.h"
#include "keys/keyring.h"
#include "keys/registry.h"
#include "keys/tenant_change.h"
#include "keys/unwrap.h"

#define PAGE 64

struct rewrap {
    struct dk_core *core;
    const struct dk_rewrap_args *args;
    struct dk_rewrap_result *result;
    struct dk_provider *to;
    struct dk_key_row rows[PAGE];
    struct dk_unwrapping open[PAGE];
    struct dk_further made[PAGE];
    size_t count; /* rows that were read */
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

/* The wrap before stays where somebody can open it. */
static dk_rc keep_before(struct rewrap *rewrap, struct dk_txn *txn, const struct dk_key_row *before,
                         struct dk_err *err)
{
    struct dk_wrap_row row = {.tenant = before->tenant,
                              .version = before->version,
                              .wrap = before->wrap,
                              .last_verified_at = dk_wall_us(rewrap->core->world)};
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
    DK_TRY(keep_before(rewrap, txn, &row, err));
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

/* What is under it already may still have wraps that nobody opens: they go. */
static void tidy_one(struct rewrap *rewrap, const struct dk_key_row *row)
{
    struct dk_txn txn;
    struct dk_err err;
    dk_err_clear(&err);
    rewrap->result->kept++;
    dk_rc rc = dk_registry_begin(rewrap->core, DK_TXN_WRITE, &txn, &err);
    if (rc == DK_OK) {
        rc = tidy(rewrap, &txn, row, &err);
        rc = rc == DK_OK ? dk_store_commit(&txn, &err) : rc;
        dk_store_rollback(&txn);
    }
    if (rc != DK_OK) {
        note_failed(rewrap, row, &err);
    }
}

static size_t choose(struct rewrap *rewrap)
{
    size_t n = 0;
    struct dk_err err;
    for (size_t i = 0; i < rewrap->count; i++) {
        const struct dk_key_row *row = &rewrap->rows[i];
        dk_err_clear(&err);
        if (row->state == DK_PURGED) {
            continue;
        }
        if (dk_registry_verify_key(rewrap->core, NULL, row, &err) != DK_OK) {
            note_failed(rewrap, row, &err);
        } else if (is_under(rewrap, &row->wrap)) {
            tidy_one(rewrap, row);
        } else {
            rewrap->open[n++].row = row;
        }
    }
    return n;
}

/* Opened by whoever can, wrapped by the new one, which opens its own wrap again (R5). */
static dk_rc work_page(struct rewrap *rewrap, struct dk_err *err)
{
    struct dk_core *core = rewrap->core;
    size_t n = choose(rewrap), opened = 0;
    if (n == 0) {
        return DK_OK;
    }
    dk_unwrap_many(core, rewrap->open, n);
    for (size_t i = 0; i < n; i++) {
        if (rewrap->open[i].err.rc == DK_OK) {
            rewrap->made[opened].row = rewrap->open[i].row;
            rewrap->made[opened++].key = rewrap->open[i].key;
        } else {
            note_failed(rewrap, rewrap->open[i].row, &rewrap->open[i].err);
        }
    }
    dk_trace(core->world, "rewrap.opened");
    dk_further_wrap(core, rewrap->to, rewrap->made, opened);
    for (size_t i = 0; i < opened; i++) {
        dk_secret_free(core->arena, &rewrap->made[i].key);
        if (rewrap->made[i].out.version != 0) {
            change_one(rewrap, &rewrap->made[i]);
        } else {
            struct dk_err lost;
            dk_err_clear(&lost);
            (void)DK_FAIL(&lost, PROVIDER, "%s did not wrap it", dk_provider_name(rewrap->to));
            note_failed(rewrap, rewrap->made[i].row, &lost);
        }
    }
    return dk_audit_check(core, err);
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

static dk_rc store_registry(struct rewrap *rewrap, const struct dk_registry_row *before,
                            const struct dk_wrap_columns *wrap, struct dk_err *err)
{
    struct dk_txn txn;
    uint32_t generation = before->generation;
    bool other = strcmp(before->wrap.provider, wrap->provider) != 0;
    DK_TRY(dk_registry_begin(rewrap->core, DK_TXN_WRITE, &txn, err));
    dk_rc rc = txn.ops->registry_wrap_put(txn.self, generation, wrap, err);
    rc = rc == DK_OK ? txn.ops->registry_rewrap(txn.self, generation, wrap, err) : rc;
    rc = rc == DK_OK ? txn.ops->registry_wrap_drop(txn.self, generation, wrap->provider, err) : rc;
    if (rc == DK_OK && other && is_configured(rewrap, before->wrap.provider)) {
        rc = txn.ops->registry_wrap_put(txn.self, generation, &before->wrap, err);
    }
    dk_trace(rewrap->core->world, "rewrap.registry_changed");
    rc = rc == DK_OK ? dk_store_commit(&txn, err) : rc;
    dk_store_rollback(&txn);
    return rc;
}

/* ---- earlier registry keys ------------------------------------------------------------------- */

/* What the log and the seals of before are verified by: it opens by the new provider too. */
struct earlier {
    struct dk_registry_key_row list[PAGE];
    size_t n;
};

static bool note_earlier(void *arg, const struct dk_registry_key_row *row)
{
    struct earlier *earlier = arg;
    earlier->list[earlier->n++] = *row;
    return earlier->n < PAGE;
}

struct has {
    const struct rewrap *rewrap;
    bool under;
    char leaving[4][32];
    size_t n;
};

static bool note_wrap(void *arg, const struct dk_wrap_columns *wrap)
{
    struct has *has = arg;
    has->under = has->under || is_under(has->rewrap, wrap);
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

static dk_rc work_earlier_one(struct rewrap *rewrap, const struct dk_ring *ring,
                              const struct dk_registry_row *now,
                              const struct dk_registry_key_row *key, struct dk_err *err)
{
    struct dk_registry_row row = *now;
    struct dk_wrap_columns wrap;
    struct has has = {.n = 0};
    DK_TRY(look_at_wraps(rewrap, key->generation, &has, err));
    if (is_under(rewrap, &key->wrap) || has.under) {
        return has.n > 0 ? put_registry_wrap(rewrap, key->generation, &has, NULL, err) : DK_OK;
    }
    row.wrap = key->wrap;
    row.generation = key->generation;
    DK_TRY(dk_further_wrap_registry(rewrap->core, rewrap->to, ring, &row, &wrap, err));
    return put_registry_wrap(rewrap, key->generation, &has, &wrap, err);
}

static dk_rc work_earlier(struct rewrap *rewrap, const struct dk_ring *ring,
                          const struct dk_registry_row *now, struct dk_err *err)
{
    struct dk_txn txn;
    uint32_t from = 1;
    dk_rc rc = DK_OK;
    struct earlier *earlier = dk_mem_alloc(&rewrap->core->world->mem, sizeof *earlier);
    if (earlier == NULL) {
        return DK_FAIL(err, NOMEM, "no memory for earlier registry keys");
    }
    do {
        earlier->n = 0;
        rc = dk_registry_begin(rewrap->core, DK_TXN_READ, &txn, err);
        if (rc == DK_OK) {
            rc = txn.ops->registry_keys(txn.self, from, note_earlier, earlier, err);
            dk_store_rollback(&txn);
        }
        for (size_t i = 0; i < earlier->n && rc == DK_OK; i++) {
            from = earlier->list[i].generation + 1;
            rc = work_earlier_one(rewrap, ring, now, &earlier->list[i], err);
        }
    } while (rc == DK_OK && earlier->n == PAGE);
    dk_mem_free(&rewrap->core->world->mem, earlier);
    return rc;
}

/* An earlier key that cannot be had is told, and keeps no tenant's key from its new wrap. */
static void try_earlier(struct rewrap *rewrap, const struct dk_registry_row *now)
{
    struct dk_err err;
    struct dk_ring ring;
    if (now->generation < 2) {
        return;
    }
    dk_err_clear(&err);
    dk_rc rc = dk_keyring_open_ring(rewrap->core, &ring, &err);
    if (rc == DK_OK) {
        rc = work_earlier(rewrap, &ring, now, &err);
        dk_ring_close(rewrap->core, &ring);
    }
    if (rc != DK_OK) {
        struct dk_rewrap_result *result = rewrap->result;
        result->first = result->failed++ == 0 ? rc : result->first;
        DK_LOG(&rewrap->core->log, ERROR, "rewrap_failed", DK_LOG_S(TENANT, "*"),
               DK_LOG_S(CODE, dk_error_info(rc)->name), DK_LOG_S(REASON, err.text));
    }
}

static dk_rc log_registry(struct rewrap *rewrap, const struct dk_registry_row *row,
                          struct dk_err *err)
{
    struct dk_log_row log;
    DK_TRY(dk_audit_row(rewrap->core, rewrap->args->by, "*", "rewrap", &log, err));
    log.from_version = log.to_version = row->generation;
    log.detail = rewrap->result->kms_key_id;
    return dk_audit_write_here(rewrap->core, &log, err);
}

static dk_rc work_registry(struct rewrap *rewrap, struct dk_err *err)
{
    struct dk_registry_row row;
    struct dk_wrap_columns wrap;
    struct has has = {.n = 0};
    DK_TRY(dk_registry_read(rewrap->core, &row, err));
    try_earlier(rewrap, &row);
    if (!is_under(rewrap, &row.wrap)) {
        DK_TRY(dk_further_wrap_registry(rewrap->core, rewrap->to, NULL, &row, &wrap, err));
        DK_TRY(store_registry(rewrap, &row, &wrap, err));
        rewrap->result->registry = true;
    }
    DK_TRY(look_at_wraps(rewrap, row.generation, &has, err));
    if (has.n > 0) {
        DK_TRY(put_registry_wrap(rewrap, row.generation, &has, NULL, err));
    }
    if (!rewrap->result->registry) {
        return DK_OK;
    }
    return log_registry(rewrap, &row, err);
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
