/* The part of audit that knows an older registry: the anchor, the newest seal, accept-restore. */
#include <stdio.h>
#include <string.h>

#include "keys/anchor.h"
#include "keys/audit_state.h"
#include "keys/epochs.h"
#include "keys/inspect.h"
#include "keys/keyring.h"
#include "keys/registry.h"

#define PAGE 128

/* ---- is the store as far as it was? ---------------------------------------------------------- */

/* Whether the store holds that very seal. That it cannot be read for want of memory is no answer.
 */
static dk_rc holds(struct dk_core *core, struct dk_txn *txn, const struct dk_seal *seal, bool *out,
                   struct dk_err *err)
{
    struct dk_seal there;
    struct dk_err cause;
    dk_err_clear(&cause);
    dk_rc rc = dk_seal_read(core, txn, seal->n, &there, &cause);
    if (rc != DK_OK && rc != DK_E_NOT_FOUND && rc != DK_E_TAMPERED) {
        *err = cause;
        return rc;
    }
    *out = rc == DK_OK && strcmp(there.hash, seal->hash) == 0;
    return DK_OK;
}

/* The short look: most of the time nothing was sealed since the last one. */
static dk_rc is_newest(struct dk_core *core, struct dk_txn *txn, const struct dk_seal *seal,
                       bool *out, struct dk_err *err)
{
    struct dk_seal_row newest;
    char hash[DK_HASH_TEXT];
    dk_rc rc = txn->ops->seal_newest(txn->self, &newest, err);
    if (rc == DK_E_TAMPERED) { /* the long one says so */
        dk_err_clear(err);
        return DK_OK;
    }
    DK_TRY(rc);
    DK_TRY(dk_seal_hash(core, newest.mac, hash, err));
    *out = newest.n == seal->n && newest.n > 0 && strcmp(hash, seal->hash) == 0;
    return DK_OK;
}

static dk_rc went_back(struct dk_core *core, int64_t n, struct dk_err *err)
{
    if (atomic_exchange(&core->audit->back, true)) {
        return DK_OK;
    }
    DK_LOG(&core->log, ERROR, "registry_went_back", DK_LOG_I(COUNT, n),
           DK_LOG_S(REASON, "the registry does not hold a seal that was seen in it: it is an older "
                            "copy, or another one. Nothing is encrypted until the newest copy is "
                            "back or `dekhand registry accept-restore` is run"));
    return dk_audit_new_chain(core, err);
}

static dk_rc read_anchor(struct dk_core *core, struct dk_anchor *anchor, struct dk_err *err)
{
    return dk_anchor_read(&core->suite, core->anchor_path, anchor, err);
}

/* A newest seal that is not ours is no reason not to open: `audit verify` has to say so. */
static dk_rc start_in(struct dk_core *core, struct dk_txn *txn, const struct dk_anchor *anchor,
                      struct dk_err *err)
{
    bool there = true;
    struct dk_err forged;
    dk_err_clear(&forged);
    DK_TRY(dk_keyring_check_anchor(core, txn, anchor, err));
    dk_rc rc = dk_seal_newest(core, txn, &core->audit->known, &forged);
    if (rc == DK_E_TAMPERED) {
        return went_back(core, anchor->seal.n, err);
    }
    if (rc != DK_OK) {
        *err = forged;
        return rc;
    }
    if (anchor->seal.n > 0) {
        DK_TRY(holds(core, txn, &anchor->seal, &there, err));
    }
    if (!there) {
        return went_back(core, anchor->seal.n, err);
    }
    if (core->audit->known.n == 0) {
        return DK_FAIL(err, CONFIG, "the registry has no seal yet: run `dekhand init`");
    }
    return DK_OK;
}

dk_rc dk_audit_start(struct dk_core *core, struct dk_err *err)
{
    struct dk_anchor anchor;
    struct dk_txn txn;
    DK_TRY(read_anchor(core, &anchor, err)); /* first the anchor, then the store: it only grows */
    DK_TRY(dk_registry_begin(core, DK_TXN_READ, &txn, err));
    dk_rc rc = start_in(core, &txn, &anchor, err);
    dk_store_rollback(&txn);
    core->audit->anchored = anchor.seal.n;
    return rc;
}

dk_rc dk_audit_before_adopt(struct dk_core *core, struct dk_err *err)
{
    struct dk_anchor anchor;
    struct dk_txn txn;
    int64_t newest = 0;
    DK_TRY(read_anchor(core, &anchor, err));
    DK_TRY(dk_registry_begin(core, DK_TXN_READ, &txn, err));
    dk_rc rc = dk_keyring_check_anchor(core, &txn, &anchor, err);
    dk_store_rollback(&txn);
    DK_TRY(rc);
    DK_TRY(dk_inspect_newest_seal(core, &newest, err));
    if (newest == 0 && anchor.seal.n > 0) {
        return DK_FAIL(err, ROLLBACK,
                       "the registry has no seal, and the anchor file %s knows seal %lld of it",
                       core->anchor_path, (long long)anchor.seal.n);
    }
    return DK_OK;
}

/* The seal that was known is gone: an operator accepted it (the anchor says so), or not. */
static dk_rc look_again(struct dk_core *core, struct dk_txn *txn, struct dk_err *err)
{
    struct dk_anchor anchor;
    bool there = false;
    DK_TRY(read_anchor(core, &anchor, err));
    DK_TRY(dk_keyring_check_anchor(core, txn, &anchor, err));
    if (anchor.seal.n > 0) {
        DK_TRY(holds(core, txn, &anchor.seal, &there, err));
    }
    if (!there) {
        return went_back(core, core->audit->known.n, err);
    }
    DK_TRY(dk_seal_newest(core, txn, &core->audit->known, err));
    dk_epochs_forget(core->audit->epochs);
    core->audit->anchored = anchor.seal.n;
    DK_TRY(dk_audit_new_chain(core, err));
    if (atomic_exchange(&core->audit->back, false)) {
        DK_LOG(&core->log, WARN, "registry_accepted",
               DK_LOG_S(REASON, "the anchor names a seal that the registry holds: going on"));
    }
    return DK_OK;
}

dk_rc dk_audit_look(struct dk_core *core, struct dk_txn *txn, bool *back, struct dk_err *err)
{
    struct dk_audit *audit = core->audit;
    bool there = false;
    if (!atomic_load(&audit->back)) {
        DK_TRY(is_newest(core, txn, &audit->known, &there, err));
        if (there) {
            *back = false;
            return DK_OK;
        }
        DK_TRY(holds(core, txn, &audit->known, &there, err));
    }
    if (there) {
        *back = false;
        return dk_seal_newest(core, txn, &audit->known, err);
    }
    *back = true;
    return look_again(core, txn, err);
}

dk_rc dk_audit_check(const struct dk_core *core, struct dk_err *err)
{
    if (atomic_load_explicit(&core->audit->back, memory_order_relaxed)) {
        return DK_FAIL(err, ROLLBACK, "the registry is older than it was");
    }
    return DK_OK;
}

static dk_rc write_anchor(struct dk_core *core, bool back, struct dk_err *err)
{
    struct dk_audit *audit = core->audit;
    struct dk_anchor anchor = {.seal = audit->known};
    dk_registry_pin(core, anchor.pin);
    DK_TRY(dk_anchor_write(&core->suite, core->anchor_path, &anchor, back, err));
    audit->anchored = anchor.seal.n;
    return DK_OK;
}

void dk_audit_anchor(struct dk_core *core)
{
    struct dk_audit *audit = core->audit;
    struct dk_err err;
    dk_err_clear(&err);
    if (atomic_load(&audit->back) || audit->known.n <= audit->anchored ||
        audit->known.n <= dk_registry_boundary(core)) { /* under an earlier key: the next look */
        return;
    }
    if (write_anchor(core, false, &err) != DK_OK) {
        DK_LOG(&core->log, WARN, "anchor_not_written", DK_LOG_S(CODE, dk_error_info(err.rc)->name),
               DK_LOG_S(REASON, err.text));
    }
}

/* ---- accept-restore -------------------------------------------------------------------------- */

/* A tenant whose key rows are not those of its last change: they are from now on. */
static dk_rc accept_tenant(struct dk_core *core, struct dk_change *change,
                           struct dk_tenant_row *row, int64_t *accepted, struct dk_err *err)
{
    struct dk_log_row log;
    char digest[DK_MAC_TEXT];
    int64_t old_epoch = row->epoch;
    DK_TRY(dk_registry_verify_tenant(core, NULL, row, err));
    DK_TRY(dk_audit_digest(core, change->txn, &row->tenant, digest, err));
    if (strcmp(digest, row->keys_digest) == 0) {
        return DK_OK;
    }
    memcpy(row->keys_digest, digest, sizeof digest);
    row->epoch++;
    DK_TRY(dk_audit_row(core, change->by, row->tenant.s, "accept-restore", &log, err));
    DK_TRY(dk_audit_chain(core, row, &log, err));
    DK_TRY(dk_audit_update_tenant(core, change->txn, row, old_epoch, err));
    ++*accepted;
    return dk_audit_store(change, row, &log, err);
}

/* One seal a page: a seal has a ceiling. */
static dk_rc accept_pages(struct dk_core *core, struct dk_txn *txn, const char *by,
                          struct dk_tenant_row *rows, int64_t *accepted, struct dk_err *err)
{
    char after[DK_TENANT_MAX + 1] = "";
    size_t count;
    do {
        struct dk_change change;
        dk_change_init(&change, core, txn);
        change.by = by;
        dk_rc rc = txn->ops->tenant_list(txn->self, after, PAGE, rows, &count, err);
        for (size_t i = 0; i < count && rc == DK_OK; i++) {
            memcpy(after, rows[i].tenant.s, rows[i].tenant.n + 1);
            rc = accept_tenant(core, &change, &rows[i], accepted, err);
        }
        if (rc == DK_OK && change.n > 0) {
            rc = dk_change_seal(core, &change, err);
        }
        dk_change_clear(&change);
        DK_TRY(rc);
    } while (count == PAGE);
    return DK_OK;
}

static dk_rc log_accepted(struct dk_core *core, struct dk_txn *txn, const char *by,
                          char head[static DK_MAC_TEXT], struct dk_err *err)
{
    struct dk_log_row log;
    struct dk_change change;
    DK_TRY(dk_audit_row(core, by, "*", "accept-restore", &log, err));
    dk_change_init(&change, core, txn);
    dk_rc rc = dk_audit_store_here(core, &change, &log, head, err);
    rc = rc == DK_OK ? dk_change_seal(core, &change, err) : rc;
    dk_change_clear(&change);
    return rc;
}

static dk_rc accept_locked(struct dk_core *core, const char *by, struct dk_tenant_row *rows,
                           int64_t *accepted, struct dk_err *err)
{
    struct dk_txn txn;
    char head[DK_MAC_TEXT];
    DK_TRY(dk_registry_begin(core, DK_TXN_ALONE, &txn, err));
    dk_rc rc = accept_pages(core, &txn, by, rows, accepted, err);
    rc = rc == DK_OK ? log_accepted(core, &txn, by, head, err) : rc;
    rc = rc == DK_OK ? dk_audit_commit_here(core, &txn, head, err) : rc;
    dk_store_rollback(&txn);
    return rc;
}

static dk_rc look_and_anchor(struct dk_core *core, struct dk_err *err)
{
    struct dk_txn txn;
    DK_TRY(dk_registry_begin(core, DK_TXN_READ, &txn, err));
    dk_rc rc = dk_seal_newest(core, &txn, &core->audit->known, err);
    dk_store_rollback(&txn);
    return rc == DK_OK ? write_anchor(core, true, err) : rc;
}

dk_rc dk_audit_accept(struct dk_core *core, const char *confirm, const char *by, int64_t *tenants,
                      struct dk_err *err)
{
    int64_t accepted = 0;
    if (confirm == NULL || strcmp(confirm, dk_registry_uuid(core)) != 0) {
        return DK_FAIL(err, USAGE, "to accept the registry as it stands, confirm its id: %s",
                       dk_registry_uuid(core));
    }
    struct dk_tenant_row *rows = dk_mem_alloc(&core->world->mem, PAGE * sizeof *rows);
    if (rows == NULL) {
        return DK_FAIL(err, NOMEM, "no memory for a page of tenants");
    }
    pthread_mutex_lock(&core->audit->lock);
    dk_rc rc = accept_locked(core, by, rows, &accepted, err);
    pthread_mutex_unlock(&core->audit->lock);
    dk_mem_free(&core->world->mem, rows);
    DK_TRY(rc);
    DK_TRY(look_and_anchor(core, err));
    dk_epochs_forget(core->audit->epochs);
    atomic_store(&core->audit->back, false);
    *tenants = accepted;
    return DK_OK;
}
