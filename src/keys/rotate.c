#include "keys/rotate.h"

#include <stdio.h>

#include "keys/audit.h"
#include "keys/create.h"
#include "keys/further.h"
#include "keys/inspect.h"
#include "keys/loader.h"
#include "keys/keyring.h"
#include "keys/registry.h"
#include "keys/states.h"
#include "keys/tenant_change.h"
#include "keys/unwrap.h"

#define PAGE 128

/* What one rotation works on: both rows as they were read, and the new one. */
struct work {
    const char *by;
    struct dk_tenant_row tenant;
    struct dk_key_row old;
    struct dk_key_row fresh;
    struct dk_wrap_row further; /* of it, by the second provider; version 0: none */
};

static dk_rc look_at_tenant(struct dk_core *core, const struct dk_tenant *tenant,
                            struct dk_tenant_row *out, struct dk_err *err)
{
    struct dk_txn txn;
    struct dk_err last;
    dk_rc rc = DK_E_TAMPERED;
    bool again = true;
    for (int i = 0; i < DK_REGISTRY_TRIES && again; i++) {
        dk_err_clear(&last);
        DK_TRY(dk_registry_begin(core, DK_TXN_READ, &txn, err));
        rc = dk_tenant_change_look(core, &txn, tenant, out, &last);
        dk_store_rollback(&txn);
        again = dk_registry_again(core, &txn, rc);
    }
    if (rc != DK_OK) {
        *err = last;
    }
    return rc;
}

/* Every row believed, and none active? */
static bool is_not_active(void *arg, const struct dk_key_row *row, dk_rc rc)
{
    bool *none = arg;
    *none = rc == DK_OK && row->state != DK_ACTIVE;
    return *none;
}

/*
 * True of a tenant whose rows are those of its last change, each one believed, and hold no active
 * one: what was left was accepted (guard.c). Nothing else of dekhand leaves a tenant so.
 */
static bool active_was_given_up(struct dk_core *core, const struct dk_tenant *tenant)
{
    struct dk_txn txn;
    struct dk_err err;
    struct dk_tenant_row known;
    bool none = true;
    dk_err_clear(&err);
    if (dk_registry_begin(core, DK_TXN_READ, &txn, &err) != DK_OK) {
        return false;
    }
    bool whole = dk_audit_tenant(core, &txn, tenant, &known, &err) == DK_OK &&
                 dk_audit_check(core, &err) == DK_OK &&
                 dk_audit_check_tenant(core, &txn, &known, &err) == DK_OK;
    dk_store_rollback(&txn);
    return whole && dk_inspect_keys(core, tenant, is_not_active, &none, &err) == DK_OK && none;
}

/* `old.version` is 0 where there is no active version to be replaced. */
static dk_rc read_both(struct dk_core *core, const struct dk_tenant *tenant, struct work *work,
                       struct dk_err *err)
{
    struct dk_key_name active = {*tenant, DK_VERSION_ACTIVE};
    DK_TRY(look_at_tenant(core, tenant, &work->tenant, err));
    dk_rc rc = dk_loader_read_row(core, &active, &work->old, err);
    if (rc == DK_E_TAMPERED && active_was_given_up(core, tenant)) {
        work->old = (struct dk_key_row){.tenant = *tenant, .compromised_at = DK_TIME_NONE};
        dk_err_clear(err);
        return DK_OK;
    }
    return rc;
}

static dk_rc check_epoch(const struct dk_tenant_change *change, const struct work *work,
                         struct dk_err *err)
{
    return change->row.epoch == work->tenant.epoch
               ? DK_OK
               : DK_FAIL(err, CONFLICT, "tenant %s was changed by another at the same time",
                         work->tenant.tenant.s);
}

static dk_rc retire_old(struct dk_tenant_change *change, const struct work *work, bool compromised,
                        struct dk_err *err)
{
    struct dk_key_row retired = work->old;
    if (!dk_state_may_become(retired.state, DK_RETIRED)) {
        return DK_FAIL(err, INTERNAL, "rotating a version that is %s",
                       dk_state_name(retired.state));
    }
    retired.state = DK_RETIRED;
    retired.rotated_at = dk_wall_us(change->core->world);
    if (compromised && retired.compromised_at == DK_TIME_NONE) {
        retired.compromised_at = retired.rotated_at;
    }
    return dk_tenant_change_key(change, &retired, work->old.state, err);
}

static dk_rc flip_in(struct dk_tenant_change *change, struct work *work, bool compromised,
                     struct dk_err *err)
{
    struct dk_core *core = change->core;
    struct dk_txn *txn = &change->txn;
    bool inserted = false;
    DK_TRY(dk_create_check_clock(core, &work->fresh, err));
    DK_TRY(check_epoch(change, work, err));
    if (work->old.version != 0) {
        DK_TRY(retire_old(change, work, compromised, err));
    }
    dk_trace(core->world, "rotate.old_retired");
    DK_TRY(dk_registry_seal_key(core, NULL, &work->fresh, err));
    DK_TRY(txn->ops->key_insert(txn->self, &work->fresh, &inserted, err));
    if (!inserted) {
        return DK_FAIL(err, TAMPERED, "version %u of tenant %s exists already", work->fresh.version,
                       work->fresh.tenant.s);
    }
    DK_TRY(dk_further_put(core, txn, &work->further, err));
    dk_trace(core->world, "rotate.key_inserted");
    change->row.next_version = (int64_t)work->fresh.version + 1;
    DK_TRY(dk_tenant_change_close(change, compromised ? "compromise" : "rotate", work->old.version,
                                  work->fresh.version, work->fresh.wrap.kms_key_id, err));
    dk_trace(core->world, "rotate.before_commit");
    return dk_store_commit(txn, err);
}

static dk_rc flip(struct dk_core *core, struct work *work, bool compromised, struct dk_err *err)
{
    struct dk_tenant_change change;
    DK_TRY(dk_tenant_change_begin(core, &work->tenant.tenant, work->by, &change, err));
    dk_trace(core->world, "rotate.locked");
    dk_rc rc = flip_in(&change, work, compromised, err);
    dk_tenant_change_end(&change);
    if (rc == DK_OK) {
        dk_trace(core->world, "rotate.committed");
    }
    return rc;
}

/* I06: what was committed is read back, believed and unwrapped before it is used. */
static dk_rc read_back(struct dk_core *core, const struct work *work, struct dk_err *err)
{
    struct dk_key_name name = {work->fresh.tenant, work->fresh.version};
    struct dk_key_row row;
    struct dk_secret key = {0};
    DK_TRY(dk_loader_read_row(core, &name, &row, err));
    DK_TRY(dk_unwrap(core, &row, &key, err));
    dk_secret_free(core->arena, &key);
    dk_trace(core->world, "rotate.read_back");
    return DK_OK;
}

/* No new version can be made, but the old one must stop: the mark alone (DESIGN "States"). */
static dk_rc mark_compromised_in(struct dk_tenant_change *change, struct work *work,
                                 struct dk_err *err)
{
    struct dk_key_row row = work->old;
    row.compromised_at = dk_wall_us(change->core->world);
    DK_TRY(check_epoch(change, work, err));
    DK_TRY(dk_tenant_change_key(change, &row, row.state, err));
    DK_TRY(dk_tenant_change_close(change, "compromise", row.version, 0, "", err));
    return dk_store_commit(&change->txn, err);
}

static dk_rc mark_compromised(struct dk_core *core, struct work *work, struct dk_err *cause)
{
    struct dk_tenant_change change;
    struct dk_err err;
    dk_err_clear(&err);
    if (work->old.version == 0) {
        return cause->rc;
    }
    dk_rc rc = DK_OK;
    if (work->old.compromised_at == DK_TIME_NONE) {
        rc = dk_tenant_change_begin(core, &work->tenant.tenant, work->by, &change, &err);
        if (rc == DK_OK) {
            rc = mark_compromised_in(&change, work, &err);
            dk_tenant_change_end(&change);
        }
    }
    if (rc != DK_OK) {
        return cause->rc; /* the first cause stays */
    }
    char text[200];
    snprintf(text, sizeof text, "%.190s", cause->text);
    dk_err_clear(cause);
    return DK_FAIL(cause, COMPROMISED,
                   "version %u of tenant %s is marked, but no new version could be made: %s",
                   work->old.version, work->old.tenant.s, text);
}

/* A failed attempt is history too; that it cannot be written changes nothing. */
static void log_failure(struct dk_core *core, const char *by, const struct dk_tenant *tenant,
                        uint32_t from, const struct dk_err *cause)
{
    struct dk_log_row log;
    struct dk_err err;
    dk_err_clear(&err);
    if (dk_audit_row(core, by, tenant->s, "rotate", &log, &err) != DK_OK) {
        return;
    }
    log.success = false;
    log.from_version = from;
    snprintf(log.error_message, sizeof log.error_message, "%s: %.200s",
             dk_error_info(cause->rc)->name, cause->text);
    dk_rc ignored = dk_audit_write(core, tenant, &log, &err);
    (void)ignored;
}

static dk_rc make_next(struct dk_core *core, struct work *work, bool compromised,
                       struct dk_err *err)
{
    dk_trace(core->world, "rotate.begin");
    if (work->tenant.next_version > DK_FIELD_VERSION_MAX) {
        return DK_FAIL(err, LIMIT, "tenant %s has used up its versions", work->tenant.tenant.s);
    }
    DK_TRY(dk_create_row(core, &work->tenant.tenant, (uint32_t)work->tenant.next_version,
                         work->tenant.rotation_days, &work->fresh, &work->further, err));
    dk_trace(core->world, "rotate.generated");
    return flip(core, work, compromised, err);
}

static dk_rc rotate_work(struct dk_core *core, const struct dk_rotate_args *args,
                         const struct dk_tenant *tenant, struct work *work, struct dk_rotation *out,
                         struct dk_err *err)
{
    DK_TRY(read_both(core, tenant, work, err));
    out->from_version = work->old.version;
    if (args->if_version != 0 && args->if_version != work->old.version) {
        return DK_FAIL(err, CONFLICT, "the active version of tenant %s is %u, not %u", tenant->s,
                       work->old.version, args->if_version);
    }
    if (args->dry_run) {
        out->to_version = (uint32_t)work->tenant.next_version;
        return DK_OK;
    }
    dk_rc rc = make_next(core, work, args->compromised, err);
    if (rc != DK_OK) {
        return args->compromised ? mark_compromised(core, work, err) : rc;
    }
    out->to_version = work->fresh.version;
    return read_back(core, work, err);
}

static dk_rc rotate_one(struct dk_core *core, struct dk_cache *cache,
                        const struct dk_rotate_args *args, const struct dk_tenant *tenant,
                        struct dk_rotation *out, struct dk_err *err)
{
    struct work *work = dk_mem_alloc(&core->world->mem, sizeof *work);
    *out = (struct dk_rotation){.tenant = *tenant, .text = ""};
    if (work == NULL) {
        return DK_FAIL(err, NOMEM, "no memory for a rotation");
    }
    work->by = args->by;
    dk_rc rc = rotate_work(core, args, tenant, work, out, err);
    dk_mem_free(&core->world->mem, work);
    if (args->dry_run) {
        return rc;
    }
    dk_cache_forget(cache, tenant, 1);
    if (rc == DK_OK) {
        DK_LOG(&core->log, INFO, "key_rotated", DK_LOG_S(TENANT, tenant->s),
               DK_LOG_I(FROM_VERSION, out->from_version), DK_LOG_I(VERSION, out->to_version));
    } else if (out->to_version == 0 && rc != DK_E_CONFLICT && rc != DK_E_NOT_FOUND) {
        /* Neither a race that another won, nor a tenant that is none, is a failed rotation. */
        log_failure(core, args->by, tenant, out->from_version, err);
    }
    return rc;
}

static bool tell(bool (*each)(void *arg, const struct dk_rotation *rotation), void *arg,
                 struct dk_rotation *rotation, dk_rc rc, const struct dk_err *err)
{
    rotation->rc = rc;
    rotation->text = rc == DK_OK ? "" : err->text;
    return each(arg, rotation);
}

/* A page of tenants whose active version is wanted; the cursor moves past what was looked at. */
static dk_rc next_page(struct dk_core *core, struct dk_key_cursor *at, struct dk_key_row *rows,
                       size_t *count, struct dk_err *err)
{
    struct dk_txn txn;
    DK_TRY(dk_store_begin(&core->store, DK_TXN_READ, &txn, err));
    dk_rc rc = txn.ops->key_list(txn.self, NULL, DK_KEYS_ACTIVE, at, PAGE, rows, count, err);
    dk_store_rollback(&txn);
    if (rc == DK_OK && *count > 0) {
        /* Past every version of the tenant: the one that its rotation makes too. */
        *at = (struct dk_key_cursor){rows[*count - 1].tenant, DK_FIELD_VERSION_MAX};
    }
    return rc;
}

static dk_rc rotate_pages(struct dk_core *core, struct dk_cache *cache,
                          const struct dk_rotate_args *args, struct dk_key_row *rows,
                          bool (*each)(void *arg, const struct dk_rotation *rotation), void *arg,
                          struct dk_err *err)
{
    struct dk_key_cursor at = {0};
    int64_t now = dk_wall_us(core->world);
    for (;;) {
        size_t count = 0;
        DK_TRY(next_page(core, &at, rows, &count, err));
        for (size_t i = 0; i < count; i++) {
            if (args->which == DK_ROTATE_DUE && !dk_state_is_due(&rows[i], now, &core->limits)) {
                continue;
            }
            struct dk_rotation rotation;
            struct dk_err one;
            dk_err_clear(&one);
            struct dk_rotate_args mine = *args;
            mine.if_version = rows[i].version; /* rotated by another meanwhile: not again */
            dk_rc rc = rotate_one(core, cache, &mine, &rows[i].tenant, &rotation, &one);
            /* E_CONFLICT: another has just rotated it. */
            if (rc != DK_E_CONFLICT && !tell(each, arg, &rotation, rc, &one)) {
                return DK_OK;
            }
        }
        if (count == 0) {
            return DK_OK;
        }
    }
}

dk_rc dk_rotate(struct dk_core *core, struct dk_cache *cache, const struct dk_rotate_args *args,
                bool (*each)(void *arg, const struct dk_rotation *rotation), void *arg,
                struct dk_err *err)
{
    if (args->which == DK_ROTATE_ONE) {
        struct dk_rotation rotation;
        dk_rc rc = rotate_one(core, cache, args, args->tenant, &rotation, err);
        (void)tell(each, arg, &rotation, rc, err);
        return rc;
    }
    struct dk_key_row *rows = dk_mem_alloc(&core->world->mem, PAGE * sizeof *rows);
    if (rows == NULL) {
        return DK_FAIL(err, NOMEM, "no memory for a page of keys");
    }
    dk_rc rc = rotate_pages(core, cache, args, rows, each, arg, err);
    dk_mem_free(&core->world->mem, rows);
    return rc;
}
