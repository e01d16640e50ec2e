#include "keys/rekey.h"

#include <stdio.h>

#include "keys/audit.h"
#include "keys/audit_state.h"
#include "keys/keyring.h"
#include "keys/registry.h"
#include "keys/ring.h"

#define PAGE 128

/* What one call works on. */
struct rekey {
    struct dk_core *core;
    const struct dk_rekey_args *args;
    struct dk_rekey_result *result;
    struct dk_ring ring; /* the key before and the new one */
    struct dk_tenant_row tenants[PAGE];
    struct dk_key_row keys[PAGE];
    struct dk_wrap_row wraps[PAGE];
    size_t wrap_count;
    char left[DK_TENANT_MAX + 1]; /* the first tenant with a damaged row */
};

/* ---- the new key ----------------------------------------------------------------------------- */

struct fresh {
    struct dk_registry_keys keys;
    struct dk_registry_fresh wraps;
};

/* The provider compares what it wrapped with what it unwraps again. */
static dk_rc generate(struct dk_core *core, uint32_t generation, struct fresh *out,
                      struct dk_err *err)
{
    struct dk_secret key = {0};
    DK_TRY(dk_registry_generate(core, dk_registry_uuid(core), &key, &out->wraps, err));
    dk_rc rc = dk_registry_derive(core, &key, generation, &out->keys, err);
    dk_secret_free(core->arena, &key);
    dk_trace(core->world, "rekey.generated");
    return rc;
}

/* The last seal under the key before: its one line names the next. */
static dk_rc seal_last(struct rekey *rekey, struct dk_txn *txn, const struct fresh *fresh,
                       struct dk_err *err)
{
    char line[DK_HAND_OVER_TEXT];
    struct dk_change change;
    dk_ring_hand_over(&fresh->keys, line);
    dk_change_init(&change, rekey->core, txn);
    dk_rc rc = dk_change_add(&change, line, err);
    rc = rc == DK_OK ? dk_change_seal(rekey->core, &change, err) : rc;
    dk_change_clear(&change);
    return rc;
}

/* One row of this process about it, under `keys`, and its seal; `line` NULL = no more in it. */
static dk_rc log_it(struct rekey *rekey, struct dk_txn *txn, const struct dk_registry_keys *keys,
                    struct dk_log_row *row, const char *line, char head[static DK_MAC_TEXT],
                    struct dk_err *err)
{
    struct dk_change change;
    dk_change_init(&change, rekey->core, txn);
    change.keys = keys;
    dk_rc rc = dk_audit_store_here(rekey->core, &change, row, head, err);
    rc = rc == DK_OK && line != NULL ? dk_change_add(&change, line, err) : rc;
    rc = rc == DK_OK ? dk_change_seal(rekey->core, &change, err) : rc;
    dk_change_clear(&change);
    return rc;
}

static dk_rc store_next(struct rekey *rekey, struct dk_txn *txn, const struct fresh *fresh,
                        const struct dk_registry_row *row, char head[static DK_MAC_TEXT],
                        struct dk_err *err)
{
    struct dk_core *core = rekey->core;
    struct dk_registry_key_row earlier = {.generation = row->generation, .wrap = row->wrap};
    struct dk_seal newest;
    struct dk_log_row log;
    DK_TRY(dk_seal_newest(core, txn, &newest, err));
    earlier.last_seal = newest.n + 1;
    DK_TRY(seal_last(rekey, txn, fresh, err));
    dk_trace(core->world, "rekey.handed_over");
    DK_TRY(txn->ops->registry_rekey(txn->self, &earlier, &fresh->wraps.wrap, err));
    if (fresh->wraps.second.provider[0] != '\0') {
        DK_TRY(txn->ops->registry_wrap_put(txn->self, fresh->keys.generation, &fresh->wraps.second,
                                           err));
    }
    dk_trace(core->world, "rekey.key_stored");
    DK_TRY(dk_audit_row(core, rekey->args->by, "*", "rekey", &log, err));
    log.from_version = row->generation;
    log.to_version = fresh->keys.generation;
    log.detail = fresh->keys.pin;
    DK_TRY(log_it(rekey, txn, &fresh->keys, &log, NULL, head, err));
    dk_trace(core->world, "rekey.before_commit");
    return dk_audit_commit_here(core, txn, head, err);
}

/* Another may have been first: then its key is the one, and *stored stays false. */
static dk_rc store_locked(struct rekey *rekey, const struct fresh *fresh, bool *stored,
                          struct dk_err *err)
{
    struct dk_core *core = rekey->core;
    struct dk_registry_row row;
    struct dk_txn txn;
    char head[DK_MAC_TEXT];
    DK_TRY(dk_registry_begin(core, DK_TXN_ALONE, &txn, err));
    dk_rc rc = txn.ops->registry_read(txn.self, &row, err);
    bool ours = rc == DK_OK && row.generation + 1 == fresh->keys.generation;
    if (ours && row.rekeying) { /* the seals said that it is over */
        rc = txn.ops->registry_rekeyed(txn.self, row.generation, err);
    }
    if (ours && rc == DK_OK) {
        rc = store_next(rekey, &txn, fresh, &row, head, err);
    }
    dk_store_rollback(&txn);
    if (rc == DK_OK && ours) {
        *stored = true;
        dk_trace(core->world, "rekey.begun");
    }
    return rc;
}

static dk_rc begin_new(struct rekey *rekey, uint32_t generation, struct dk_err *err)
{
    struct dk_core *core = rekey->core;
    struct fresh fresh = {.keys = {.generation = 0}};
    DK_TRY(generate(core, generation + 1, &fresh, err));
    pthread_mutex_lock(&core->audit->lock);
    dk_rc rc = store_locked(rekey, &fresh, &rekey->result->begun, err);
    pthread_mutex_unlock(&core->audit->lock);
    dk_registry_keys_free(&fresh.keys);
    return rc;
}

/* ---- the rows -------------------------------------------------------------------------------- */

enum under { UNDER_NONE, UNDER_BEFORE, UNDER_NEW };

/* By what the two keys said of a row; *err is what went wrong beside it. */
static dk_rc which(dk_rc now, dk_rc before, const struct dk_err *cause, enum under *out,
                   struct dk_err *err)
{
    *out = now == DK_OK ? UNDER_NEW : before == DK_OK ? UNDER_BEFORE : UNDER_NONE;
    if (*out == UNDER_NONE && (now != DK_E_TAMPERED || before != DK_E_TAMPERED)) {
        *err = *cause; /* a row that could not be looked at is not a damaged one */
        return cause->rc;
    }
    return DK_OK;
}

static dk_rc key_under(struct rekey *rekey, const struct dk_key_row *row, enum under *out,
                       struct dk_err *err)
{
    const struct dk_ring_key *key = rekey->ring.key;
    struct dk_err cause;
    dk_err_clear(&cause);
    dk_rc before = DK_E_TAMPERED;
    dk_rc now = dk_registry_verify_key(rekey->core, &key[1].keys, row, &cause);
    if (now == DK_E_TAMPERED) {
        dk_err_clear(&cause);
        before = dk_registry_verify_key(rekey->core, &key[0].keys, row, &cause);
    }
    return which(now, before, &cause, out, err);
}

static dk_rc tenant_under(struct rekey *rekey, const struct dk_tenant_row *row, enum under *out,
                          struct dk_err *err)
{
    const struct dk_ring_key *key = rekey->ring.key;
    struct dk_err cause;
    dk_err_clear(&cause);
    dk_rc before = DK_E_TAMPERED;
    dk_rc now = dk_registry_verify_tenant(rekey->core, &key[1].keys, row, &cause);
    if (now == DK_E_TAMPERED) {
        dk_err_clear(&cause);
        before = dk_registry_verify_tenant(rekey->core, &key[0].keys, row, &cause);
    }
    return which(now, before, &cause, out, err);
}

static dk_rc move_key(struct rekey *rekey, struct dk_txn *txn, struct dk_key_row *row,
                      struct dk_err *err)
{
    char old_mac[DK_MAC_TEXT];
    bool changed = false;
    memcpy(old_mac, row->row_mac, sizeof old_mac);
    DK_TRY(dk_registry_seal_key(rekey->core, &rekey->ring.key[1].keys, row, err));
    DK_TRY(txn->ops->key_remac(txn->self, row, old_mac, &changed, err));
    rekey->result->keys += changed;
    return changed ? DK_OK
                   : DK_FAIL(err, TAMPERED, "something in the database drops MACs of key rows");
}

/* All versions of a tenant; *moved = how many. What is damaged stays as it is. */
static dk_rc move_keys(struct rekey *rekey, struct dk_txn *txn, const struct dk_tenant *tenant,
                       size_t *moved, struct dk_err *err)
{
    struct dk_key_cursor at = {0};
    enum under under;
    size_t count;
    do {
        DK_TRY(txn->ops->key_list(txn->self, tenant, DK_KEYS_ALL, &at, PAGE, rekey->keys, &count,
                                  err));
        for (size_t i = 0; i < count; i++) {
            at = (struct dk_key_cursor){rekey->keys[i].tenant, rekey->keys[i].version};
            DK_TRY(key_under(rekey, &rekey->keys[i], &under, err));
            if (under == UNDER_BEFORE) {
                DK_TRY(move_key(rekey, txn, &rekey->keys[i], err));
                ++*moved;
            }
        }
    } while (count == PAGE);
    return DK_OK;
}

static bool note_wrap(void *arg, const struct dk_wrap_row *row)
{
    struct rekey *rekey = arg;
    struct dk_err ignored;
    dk_err_clear(&ignored);
    if (dk_registry_verify_wrap(rekey->core, &rekey->ring.key[0].keys, row, &ignored) == DK_OK) {
        rekey->wraps[rekey->wrap_count++] = *row;
    }
    return rekey->wrap_count < PAGE;
}

/* Further wraps of a tenant's versions, in pages: what has moved is under the key before no more.
   What is damaged opens nothing; who fills wraps drops it and makes it again. */
static dk_rc move_wraps(struct rekey *rekey, struct dk_txn *txn, const struct dk_tenant *tenant,
                        struct dk_err *err)
{
    do {
        rekey->wrap_count = 0;
        DK_TRY(txn->ops->wraps_of(txn->self, tenant, 0, note_wrap, rekey, err));
        for (size_t i = 0; i < rekey->wrap_count; i++) {
            DK_TRY(dk_registry_seal_wrap(rekey->core, &rekey->ring.key[1].keys, &rekey->wraps[i],
                                         err));
            DK_TRY(txn->ops->wrap_put(txn->self, &rekey->wraps[i], err));
        }
    } while (rekey->wrap_count == PAGE);
    return DK_OK;
}

/* A digest that did not fit the rows before does not fit them after: nothing is made good here. */
static dk_rc move_tenant(struct rekey *rekey, struct dk_txn *txn, struct dk_tenant_row *row,
                         struct dk_err *err)
{
    struct dk_core *core = rekey->core;
    enum under under;
    char digest[DK_MAC_TEXT], old_mac[DK_MAC_TEXT];
    size_t moved = 0;
    bool changed = false;
    DK_TRY(tenant_under(rekey, row, &under, err));
    if (under == UNDER_NONE) {
        return DK_OK;
    }
    DK_TRY(dk_audit_digest(core, txn, &row->tenant, digest, err));
    bool fits = strcmp(digest, row->keys_digest) == 0;
    DK_TRY(move_keys(rekey, txn, &row->tenant, &moved, err));
    DK_TRY(move_wraps(rekey, txn, &row->tenant, err));
    if (under == UNDER_NEW && moved == 0) {
        return DK_OK;
    }
    dk_trace(core->world, "rekey.keys_moved");
    if (fits) {
        DK_TRY(dk_audit_digest(core, txn, &row->tenant, row->keys_digest, err));
    }
    memcpy(old_mac, row->row_mac, sizeof old_mac);
    DK_TRY(dk_registry_seal_tenant(core, &rekey->ring.key[1].keys, row, err));
    DK_TRY(txn->ops->tenant_remac(txn->self, row, old_mac, &changed, err));
    rekey->result->tenants += changed;
    dk_trace(core->world, "rekey.tenant_moved");
    return changed ? DK_OK
                   : DK_FAIL(err, TAMPERED, "something in the database drops MACs of tenants");
}

static dk_rc move_page(struct rekey *rekey, char *after, size_t *count, struct dk_err *err)
{
    struct dk_txn txn;
    DK_TRY(dk_registry_begin(rekey->core, DK_TXN_ALONE, &txn, err));
    dk_rc rc = txn.ops->tenant_list(txn.self, after, PAGE, rekey->tenants, count, err);
    for (size_t i = 0; i < *count && rc == DK_OK; i++) {
        memcpy(after, rekey->tenants[i].tenant.s, rekey->tenants[i].tenant.n + 1);
        rc = move_tenant(rekey, &txn, &rekey->tenants[i], err);
    }
    rc = rc == DK_OK ? dk_store_commit(&txn, err) : rc;
    dk_store_rollback(&txn);
    dk_trace(rekey->core->world, "rekey.page_moved");
    return rc;
}

static void tell(const struct rekey *rekey)
{
    if (rekey->args->each != NULL) {
        rekey->args->each(rekey->args->arg, rekey->result);
    }
}

static dk_rc move_all(struct rekey *rekey, struct dk_err *err)
{
    char after[DK_TENANT_MAX + 1] = "";
    size_t count;
    do {
        count = 0;
        tell(rekey);
        DK_TRY(move_page(rekey, after, &count, err));
    } while (count == PAGE);
    return DK_OK;
}

/* ---- the end --------------------------------------------------------------------------------- */

static void note_damaged(struct rekey *rekey, const char *tenant)
{
    if (rekey->result->damaged++ == 0) {
        snprintf(rekey->left, sizeof rekey->left, "%s", tenant);
    }
}

static dk_rc look_at_tenants(struct rekey *rekey, struct dk_txn *txn, struct dk_err *err)
{
    char after[DK_TENANT_MAX + 1] = "", digest[DK_MAC_TEXT];
    enum under under;
    size_t count;
    do {
        DK_TRY(txn->ops->tenant_list(txn->self, after, PAGE, rekey->tenants, &count, err));
        for (size_t i = 0; i < count; i++) {
            const struct dk_tenant_row *row = &rekey->tenants[i];
            memcpy(after, row->tenant.s, row->tenant.n + 1);
            DK_TRY(dk_audit_digest(rekey->core, txn, &row->tenant, digest, err));
            DK_TRY(tenant_under(rekey, row, &under, err));
            if (under != UNDER_NEW || strcmp(digest, row->keys_digest) != 0) {
                note_damaged(rekey, row->tenant.s);
            }
        }
    } while (count == PAGE);
    return DK_OK;
}

static dk_rc look_at_keys(struct rekey *rekey, struct dk_txn *txn, struct dk_err *err)
{
    struct dk_key_cursor at = {0};
    enum under under;
    size_t count;
    do {
        DK_TRY(
            txn->ops->key_list(txn->self, NULL, DK_KEYS_ALL, &at, PAGE, rekey->keys, &count, err));
        for (size_t i = 0; i < count; i++) {
            at = (struct dk_key_cursor){rekey->keys[i].tenant, rekey->keys[i].version};
            DK_TRY(key_under(rekey, &rekey->keys[i], &under, err));
            if (under != UNDER_NEW) {
                note_damaged(rekey, rekey->keys[i].tenant.s);
            }
        }
    } while (count == PAGE);
    return DK_OK;
}

/*
 * Everything once more, keys of tenants without a row too: is it under the new key? Another process
 * may have ended this rekey and begun the next one: then it is that one's matter.
 */
static dk_rc count_damaged(struct rekey *rekey, struct dk_err *err)
{
    struct dk_txn txn;
    struct dk_registry_row row;
    DK_TRY(dk_registry_begin(rekey->core, DK_TXN_READ, &txn, err));
    dk_rc rc = txn.ops->registry_read(txn.self, &row, err);
    bool ours = rc == DK_OK && row.generation == rekey->result->generation;
    rc = ours ? look_at_tenants(rekey, &txn, err) : rc;
    rc = ours && rc == DK_OK ? look_at_keys(rekey, &txn, err) : rc;
    dk_store_rollback(&txn);
    DK_TRY(rc);
    if (rekey->result->damaged > 0 && !rekey->args->leave_damaged) {
        return DK_FAIL(err, TAMPERED,
                       "all has moved to the new key but %lld damaged rows, one of tenant %s: "
                       "repair them (`dekhand audit verify` names each) and run this again, or end "
                       "it with --leave-damaged; until then the key before is believed too",
                       (long long)rekey->result->damaged, rekey->left);
    }
    return DK_OK;
}

/* What the row says is a hint; the seals decide. */
static dk_rc is_over(struct rekey *rekey, struct dk_txn *txn, bool *over, struct dk_err *err)
{
    struct dk_seal start = {.n = rekey->ring.key[0].last_seal};
    struct dk_ring_end seals;
    DK_TRY(dk_ring_follow(rekey->core, txn, &rekey->ring, &start, true, &seals, err));
    *over = seals.finished;
    return DK_OK;
}

static dk_rc end_in(struct rekey *rekey, struct dk_txn *txn, bool said, char *head,
                    struct dk_err *err)
{
    uint32_t generation = rekey->result->generation;
    char line[DK_HAND_OVER_TEXT];
    struct dk_log_row log;
    dk_ring_end_line(generation, line);
    if (said) {
        DK_TRY(txn->ops->registry_rekeyed(txn->self, generation, err));
    }
    DK_TRY(dk_audit_row(rekey->core, rekey->args->by, "*", "rekey-end", &log, err));
    log.to_version = generation;
    DK_TRY(log_it(rekey, txn, NULL, &log, line, head, err));
    dk_trace(rekey->core->world, "rekey.before_end");
    return dk_audit_commit_here(rekey->core, txn, head, err);
}

static dk_rc end_locked(struct rekey *rekey, struct dk_err *err)
{
    struct dk_core *core = rekey->core;
    struct dk_registry_row row;
    struct dk_txn txn;
    char head[DK_MAC_TEXT];
    DK_TRY(dk_registry_begin(core, DK_TXN_ALONE, &txn, err));
    dk_rc rc = txn.ops->registry_read(txn.self, &row, err);
    bool over = rc == DK_OK && row.generation != rekey->result->generation;
    if (rc == DK_OK && !over) {
        rc = is_over(rekey, &txn, &over, err);
    }
    if (rc == DK_OK && !over) {
        rc = end_in(rekey, &txn, row.rekeying, head, err);
    }
    dk_store_rollback(&txn);
    if (rc == DK_OK && !over) {
        dk_trace(core->world, "rekey.ended");
    }
    return rc;
}

static dk_rc end(struct rekey *rekey, struct dk_err *err)
{
    struct dk_txn txn;
    pthread_mutex_lock(&rekey->core->audit->lock);
    dk_rc rc = end_locked(rekey, err);
    pthread_mutex_unlock(&rekey->core->audit->lock);
    DK_TRY(rc);
    DK_TRY(dk_registry_begin(rekey->core, DK_TXN_READ, &txn, err)); /* the key before is dropped */
    dk_store_rollback(&txn);
    return DK_OK;
}

/* ---- all of it ------------------------------------------------------------------------------- */

/* The registry's row as it is, and whether seals say that its last rekey is over. */
static dk_rc look(struct rekey *rekey, struct dk_registry_row *row, bool *unfinished,
                  struct dk_err *err)
{
    struct dk_core *core = rekey->core;
    struct dk_txn txn;
    bool over = true;
    *unfinished = false;
    DK_TRY(dk_registry_begin(core, DK_TXN_READ, &txn, err));
    dk_rc rc = txn.ops->registry_read(txn.self, row, err);
    if (rc == DK_OK && row->generation > 1) {
        dk_ring_close(core, &rekey->ring);
        rc = dk_ring_open(core, &txn, row, row->generation - 1, &rekey->ring, err);
    }
    if (rc == DK_OK && row->generation > 1) {
        rc = is_over(rekey, &txn, &over, err);
    }
    *unfinished = !over;
    dk_store_rollback(&txn);
    return rc;
}

static dk_rc rekey_all(struct rekey *rekey, struct dk_err *err)
{
    struct dk_registry_row row;
    bool unfinished;
    DK_TRY(dk_audit_check(rekey->core, err));
    DK_TRY(look(rekey, &row, &unfinished, err));
    if (!unfinished) {
        uint32_t generation = row.generation;
        DK_TRY(begin_new(rekey, generation, err));
        DK_TRY(look(rekey, &row, &unfinished, err)); /* read back, opened, followed by its seals */
    }
    rekey->result->generation = row.generation;
    dk_registry_pin(rekey->core, rekey->result->pin);
    if (!unfinished) {
        return DK_OK; /* another has begun one and ended it meanwhile */
    }
    DK_TRY(move_all(rekey, err));
    tell(rekey);
    DK_TRY(count_damaged(rekey, err));
    return end(rekey, err);
}

dk_rc dk_rekey(struct dk_core *core, const struct dk_rekey_args *args, struct dk_rekey_result *out,
               struct dk_err *err)
{
    *out = (struct dk_rekey_result){.generation = 0};
    struct rekey *rekey = dk_mem_zalloc(&core->world->mem, sizeof *rekey);
    if (rekey == NULL) {
        return DK_FAIL(err, NOMEM, "no memory for a rekey");
    }
    rekey->core = core;
    rekey->args = args;
    rekey->result = out;
    dk_rc rc = rekey_all(rekey, err);
    dk_ring_close(core, &rekey->ring);
    dk_mem_free(&core->world->mem, rekey);
    return rc == DK_OK ? rc : dk_err_while(err, "rekeying the registry");
}
