#include "keys/keyring.h"

#include <stdio.h>

#include "keys/audit.h"
#include "keys/registry.h"
#include "keys/registry_state.h"
#include "keys/sealer.h"

/* Without its own row nothing of the registry is believed; that is no answer about a tenant. */
static dk_rc read_row(struct dk_txn *txn, struct dk_registry_row *out, struct dk_err *err)
{
    struct dk_err cause;
    dk_err_clear(&cause);
    dk_rc rc = txn->ops->registry_read(txn->self, out, &cause);
    if (rc == DK_E_NOT_FOUND) {
        return DK_FAIL(err, TAMPERED, "the registry's own row is gone: restore it from a copy");
    }
    if (rc != DK_OK) {
        *err = cause;
    }
    return rc;
}

/* ---- following a rekey of another process ---------------------------------------------------- */

static bool has_earlier(struct dk_registry *registry)
{
    pthread_rwlock_rdlock(&registry->lock);
    bool has = registry->earlier.generation != 0;
    pthread_rwlock_unlock(&registry->lock);
    return has;
}

/* No row counts under the key before any more; `proven`: by a seal, for good. */
static void drop_earlier(struct dk_core *core, bool proven)
{
    struct dk_registry *registry = core->registry;
    pthread_rwlock_wrlock(&registry->lock);
    dk_registry_keys_free(&registry->earlier);
    atomic_fetch_add(&registry->moves, 1);
    if (proven) {
        registry->finished = registry->now.generation;
    }
    pthread_rwlock_unlock(&registry->lock);
}

/* Whether our keys are those of the row; if not, they are to be read again. */
static bool is_current(struct dk_core *core, const struct dk_registry_row *row)
{
    struct dk_registry *registry = core->registry;
    const char *wrap = row->wrap.encrypted_data_key;
    pthread_rwlock_rdlock(&registry->lock);
    bool same = strcmp(wrap, registry->wrap) == 0;
    /* A row of a lower generation is an old one, in an old snapshot or put back: ours stays. */
    bool current =
        same ? !row->rekeying || registry->earlier.generation != 0 ||
                   registry->finished == registry->now.generation
             : strcmp(wrap, registry->refused) == 0 || row->generation <= registry->now.generation;
    current = current || registry->now.generation == 0; /* not open: no MAC is looked at */
    pthread_rwlock_unlock(&registry->lock);
    return current;
}

/* Seals that came since the last look: one of them may end the rekey. */
struct look {
    struct dk_core *core;
    uint32_t generation;
    int64_t looked;
    bool finished;
};

static bool look_at_seal(void *arg, const struct dk_seal_row *seal)
{
    struct look *look = arg;
    struct dk_err forged;
    dk_err_clear(&forged);
    if (dk_registry_verify_seal(look->core, NULL, seal, &forged) != DK_OK) {
        return false;
    }
    look->looked = seal->n;
    look->finished = dk_ring_is_end(look->generation, seal->heads);
    return !look->finished;
}

static dk_rc look_for_end(struct dk_core *core, struct dk_txn *txn,
                          const struct dk_registry_row *row, struct dk_err *err)
{
    struct dk_registry *registry = core->registry;
    struct look look = {.core = core};
    if (!row->rekeying) {
        drop_earlier(core, false);
        return DK_OK;
    }
    pthread_rwlock_rdlock(&registry->lock);
    look.looked = registry->looked;
    look.generation = registry->now.generation;
    pthread_rwlock_unlock(&registry->lock);
    DK_TRY(txn->ops->seal_walk(txn->self, look.looked + 1, look_at_seal, &look, err));
    if (look.finished) {
        drop_earlier(core, true);
    }
    pthread_rwlock_wrlock(&registry->lock);
    registry->looked = look.looked;
    pthread_rwlock_unlock(&registry->lock);
    return DK_OK;
}

static void adopt(struct dk_core *core, const struct dk_registry_row *row, struct dk_ring *ring,
                  const struct dk_ring_end *end)
{
    struct dk_registry *registry = core->registry;
    struct dk_ring_key *last = &ring->key[ring->n - 1];
    struct dk_ring_key *before = &ring->key[ring->n - 2];
    pthread_rwlock_wrlock(&registry->lock);
    if (strcmp(last->keys.pin, registry->now.pin) != 0) {
        dk_registry_keys_free(&registry->now);
        registry->now = last->keys;
        last->keys = (struct dk_registry_keys){.generation = 0};
        memcpy(registry->wrap, row->wrap.encrypted_data_key, sizeof registry->wrap);
    }
    dk_registry_keys_free(&registry->earlier);
    if (end->finished) {
        registry->finished = registry->now.generation;
    } else if (row->rekeying) {
        registry->earlier = before->keys;
        before->keys = (struct dk_registry_keys){.generation = 0};
    }
    registry->looked = end->looked;
    registry->boundary = before->last_seal;
    atomic_fetch_add(&registry->moves, 1);
    pthread_rwlock_unlock(&registry->lock);
}

/* Whether the keys of the row come from ours: by the seals, from generation `from` on. */
static dk_rc follow_from(struct dk_core *core, struct dk_txn *txn,
                         const struct dk_registry_row *row, uint32_t from, const char *pin,
                         struct dk_err *err)
{
    struct dk_ring ring;
    struct dk_ring_end end;
    DK_TRY(dk_ring_open(core, txn, row, from, &ring, err));
    struct dk_seal start = {.n = ring.key[0].last_seal};
    dk_rc rc = pin != NULL && strcmp(ring.key[0].keys.pin, pin) != 0
                   ? DK_FAIL(err, TAMPERED, "registry key %u is not the one that was open", from)
                   : dk_ring_follow(core, txn, &ring, &start, row->rekeying, &end, err);
    if (rc == DK_OK) {
        adopt(core, row, &ring, &end);
    }
    dk_ring_close(core, &ring);
    return rc;
}

/* A process that was started with the pin of the key before goes on with the one it leads to. */
static void say_followed(struct dk_core *core, const char *from)
{
    DK_LOG(&core->log, INFO, "registry_key_followed",
           DK_LOG_I(COUNT, dk_registry_generation(core)));
    if (strcmp(core->pin_wanted, from) == 0) {
        dk_registry_pin(core, core->pin_wanted);
        DK_LOG(&core->log, WARN, "registry_pin_moved",
               DK_LOG_S(REASON, "the registry was rekeyed: set KMS_REGISTRY_PIN to the new pin "
                                "before the next start"));
    }
}

/* Noted, so that it is not tried again at every transaction. */
static void note_refused(struct dk_core *core, const struct dk_registry_row *row, bool same,
                         const struct dk_err *cause)
{
    struct dk_registry *registry = core->registry;
    pthread_rwlock_wrlock(&registry->lock);
    if (same) {
        registry->finished = registry->now.generation;
    } else {
        memcpy(registry->refused, row->wrap.encrypted_data_key, sizeof registry->refused);
    }
    pthread_rwlock_unlock(&registry->lock);
    DK_LOG(&core->log, ERROR, "registry_key_not_followed", DK_LOG_I(COUNT, row->generation),
           DK_LOG_S(REASON, cause->text));
}

static dk_rc follow_in(struct dk_core *core, struct dk_txn *txn, struct dk_err *err)
{
    struct dk_registry_row row;
    struct dk_err cause;
    char pin[DK_HASH_TEXT];
    dk_err_clear(&cause);
    DK_TRY(read_row(txn, &row, err));
    if (is_current(core, &row)) {
        return DK_OK; /* another thread was first */
    }
    dk_registry_pin(core, pin);
    bool same = strcmp(row.wrap.encrypted_data_key, core->registry->wrap) == 0;
    dk_rc rc = same ? follow_from(core, txn, &row, row.generation - 1, NULL, &cause)
                    : follow_from(core, txn, &row, dk_registry_generation(core), pin, &cause);
    if (rc == DK_E_TAMPERED) {
        note_refused(core, &row, same, &cause);
        return DK_OK;
    }
    if (rc != DK_OK) {
        *err = cause;
    } else if (!same) {
        say_followed(core, pin);
    }
    return rc;
}

static dk_rc follow_now(struct dk_core *core, struct dk_err *err)
{
    struct dk_txn txn;
    pthread_mutex_lock(&core->registry->follow_lock);
    dk_rc rc = dk_store_begin(&core->store, DK_TXN_READ, &txn, err);
    if (rc == DK_OK) {
        rc = follow_in(core, &txn, err);
        dk_store_rollback(&txn);
    }
    pthread_mutex_unlock(&core->registry->follow_lock);
    return rc == DK_OK ? rc : dk_err_while(err, "following a rekey of the registry");
}

/* *again: keys were to be read, the transaction is over. */
static dk_rc begin_once(struct dk_core *core, enum dk_txn_mode mode, struct dk_txn *txn,
                        bool *again, struct dk_err *err)
{
    struct dk_registry_row row;
    struct dk_err none;
    unsigned moves = atomic_load(&core->registry->moves);
    dk_err_clear(&none);
    *again = false;
    DK_TRY(dk_store_begin(&core->store, mode, txn, err));
    txn->stamp = moves;
    dk_rc rc = read_row(txn, &row, &none);
    if (rc == DK_E_TAMPERED) {
        return DK_OK; /* no news: what is open goes on, and audit verify says so */
    }
    if (rc == DK_OK && !is_current(core, &row)) {
        *again = true;
    } else if (rc == DK_OK && has_earlier(core->registry)) {
        rc = look_for_end(core, txn, &row, &none);
    }
    if (rc != DK_OK || *again) {
        dk_store_rollback(txn);
    }
    if (rc != DK_OK) {
        *err = none;
    }
    return rc;
}

dk_rc dk_registry_begin(struct dk_core *core, enum dk_txn_mode mode, struct dk_txn *txn,
                        struct dk_err *err)
{
    bool again = true;
    for (int i = 0; i < DK_REGISTRY_TRIES && again; i++) {
        DK_TRY(begin_once(core, mode, txn, &again, err));
        if (again) {
            DK_TRY(follow_now(core, err));
        }
    }
    /* Somebody rekeys over and over, or the row is another at each look. */
    if (again) {
        return DK_FAIL(err, BUSY, "the registry's key is changing");
    }
    /* What others left unsealed is sealed first: then a change alone seals for itself. */
    dk_rc rc = mode == DK_TXN_ALONE && core->store.ops->seals_apart ? dk_sealer_seal(core, txn, err)
                                                                    : DK_OK;
    if (rc != DK_OK) {
        dk_store_rollback(txn);
    }
    return rc;
}

bool dk_registry_again(const struct dk_core *core, const struct dk_txn *txn, dk_rc rc)
{
    return rc == DK_E_TAMPERED && atomic_load(&core->registry->moves) != txn->stamp;
}

/* ---- at open --------------------------------------------------------------------------------- */

struct find_rekey {
    uint32_t to;
    struct dk_core *core;
    struct dk_rekey_info *out;
    const struct dk_registry_keys *keys;
};

static bool find_rekey(void *arg, const struct dk_log_row *row)
{
    struct find_rekey *find = arg;
    struct dk_err forged;
    dk_err_clear(&forged);
    if (strcmp(row->operation, "rekey") != 0 || row->to_version != find->to ||
        dk_registry_verify_log(find->core, find->keys, row, &forged) != DK_OK) {
        return true;
    }
    find->out->at = row->performed_at;
    snprintf(find->out->by, sizeof find->out->by, "%s", row->performed_by);
    return false;
}

/* When the key of that generation came, and by whom; `keys` are its own. */
static dk_rc when_rekeyed(struct dk_core *core, struct dk_txn *txn, uint32_t to,
                          const struct dk_registry_keys *keys, struct dk_rekey_info *out,
                          struct dk_err *err)
{
    static const struct dk_tenant all = {.s = "*", .n = 1};
    struct dk_log_query query = {
        .tenant = &all, .since = DK_TIME_NONE, .until = DK_TIME_NONE, .newest_first = true};
    struct find_rekey find = {to, core, out, keys};
    out->at = DK_TIME_NONE;
    out->by[0] = '\0';
    return txn->ops->log_walk(txn->self, &query, find_rekey, &find, err);
}

static dk_rc no_such_pin(struct dk_err *err)
{
    return DK_FAIL(err, TAMPERED,
                   "the registry key is not the one of KMS_REGISTRY_PIN: another registry, or a "
                   "forged one");
}

/* The wanted pin is that of an earlier key? It is told, never followed: that is the pin's point. */
static dk_rc explain_ring(struct dk_core *core, struct dk_txn *txn, const struct dk_ring *ring,
                          struct dk_err *err)
{
    struct dk_ring_end end;
    struct dk_rekey_info info = {.generation = 0};
    struct dk_err broken;
    char when[DK_TIME_TEXT] = "some time";
    size_t i = 0;
    dk_err_clear(&broken);
    while (i + 1 < ring->n && strcmp(ring->key[i].keys.pin, core->pin_wanted) != 0) {
        i++;
    }
    struct dk_ring rest = {ring->key + i, ring->n - i};
    struct dk_seal start = {.n = ring->key[i].last_seal};
    if (i + 1 == ring->n || dk_ring_follow(core, txn, &rest, &start, false, &end, &broken)) {
        return no_such_pin(err);
    }
    DK_TRY(when_rekeyed(core, txn, rest.key[1].keys.generation, &rest.key[1].keys, &info, err));
    if (info.at != DK_TIME_NONE) {
        dk_time_format(info.at, when);
    }
    return DK_FAIL(err, CONFIG,
                   "KMS_REGISTRY_PIN is the pin of the registry's key %u; the registry was rekeyed "
                   "by %.60s at %s. If you know of that, set it to the pin that `registry rekey` "
                   "told; else trust nothing here until you do",
                   rest.key[0].keys.generation, info.by[0] != '\0' ? info.by : "somebody", when);
}

static dk_rc explain_pin(struct dk_core *core, struct dk_txn *txn,
                         const struct dk_registry_row *row, struct dk_err *err)
{
    struct dk_ring ring;
    struct dk_err broken;
    dk_err_clear(&broken);
    if (row->generation == 1 || dk_ring_open(core, txn, row, 1, &ring, &broken) != DK_OK) {
        return no_such_pin(err);
    }
    dk_rc rc = explain_ring(core, txn, &ring, err);
    dk_ring_close(core, &ring);
    return rc;
}

static bool note_boundary(void *arg, const struct dk_registry_key_row *row)
{
    *(int64_t *)arg = row->last_seal;
    return true;
}

static dk_rc start_in(struct dk_core *core, struct dk_txn *txn, struct dk_err *err)
{
    struct dk_registry_row row;
    int64_t boundary = 0;
    char pin[DK_HASH_TEXT];
    DK_TRY(read_row(txn, &row, err));
    if (row.generation > 1) {
        DK_TRY(
            txn->ops->registry_keys(txn->self, row.generation - 1, note_boundary, &boundary, err));
    }
    core->registry->boundary = boundary;
    dk_registry_pin(core, pin);
    if (core->pin_wanted[0] != '\0' && strcmp(core->pin_wanted, pin) != 0) {
        return explain_pin(core, txn, &row, err);
    }
    return DK_OK;
}

dk_rc dk_keyring_start(struct dk_core *core, struct dk_err *err)
{
    struct dk_txn txn;
    DK_TRY(dk_store_begin(&core->store, DK_TXN_READ, &txn, err));
    dk_rc rc = start_in(core, &txn, err);
    dk_store_rollback(&txn);
    return rc;
}

/* ---- what is wrapped anew -------------------------------------------------------------------- */

static dk_rc not_ours(uint32_t generation, struct dk_err *err)
{
    return DK_FAIL(err, TAMPERED, "the wrap of registry key %u holds another key: it is forged",
                   generation);
}

dk_rc dk_keyring_check_key(struct dk_core *core, const struct dk_ring *ring, uint32_t generation,
                           const struct dk_secret *key, struct dk_err *err)
{
    struct dk_registry_keys keys;
    char pin[DK_HASH_TEXT] = "";
    if (ring == NULL) {
        if (dk_registry_pin_now(core, pin) != generation) {
            return DK_FAIL(err, BUSY,
                           "registry key %u is not the one in use here: a rekey is going on",
                           generation);
        }
    } else if (generation <= ring->n) {
        memcpy(pin, ring->key[generation - 1].keys.pin, sizeof pin);
    }
    DK_TRY(dk_registry_derive(core, key, generation, &keys, err));
    bool known = strcmp(keys.pin, pin) == 0;
    dk_registry_keys_free(&keys);
    return known ? DK_OK : not_ours(generation, err);
}

static dk_rc check_ring(struct dk_core *core, struct dk_txn *txn, const struct dk_ring *ring,
                        struct dk_err *err)
{
    char pin[DK_HASH_TEXT];
    struct dk_ring_end end;
    struct dk_seal start = {.n = ring->key[0].last_seal};
    dk_registry_pin(core, pin);
    const struct dk_registry_keys *last = &ring->key[ring->n - 1].keys;
    if (strcmp(last->pin, pin) == 0) {
        return dk_ring_follow(core, txn, ring, &start, false, &end, err);
    }
    return dk_registry_again(core, txn, DK_E_TAMPERED) /* another thread followed a rekey */
               ? DK_FAIL(err, BUSY, "the registry's key is changing")
               : not_ours(last->generation, err);
}

dk_rc dk_keyring_open_ring(struct dk_core *core, struct dk_ring *out, struct dk_err *err)
{
    struct dk_txn txn;
    struct dk_registry_row row;
    DK_TRY(dk_registry_begin(core, DK_TXN_READ, &txn, err));
    dk_rc rc = txn.ops->registry_read(txn.self, &row, err);
    rc = rc == DK_OK ? dk_ring_open(core, &txn, &row, 1, out, err) : rc;
    if (rc == DK_OK) {
        rc = check_ring(core, &txn, out, err);
        if (rc != DK_OK) {
            dk_ring_close(core, out);
        }
    }
    dk_store_rollback(&txn);
    return rc;
}

/* ---- the anchor ------------------------------------------------------------------------------ */

static dk_rc check_earlier_anchor(struct dk_core *core, struct dk_txn *txn,
                                  const struct dk_ring *ring, const struct dk_anchor *anchor,
                                  struct dk_err *err)
{
    struct dk_ring_end end;
    for (size_t i = 0; i + 1 < ring->n; i++) {
        struct dk_ring rest = {ring->key + i, ring->n - i};
        if (strcmp(ring->key[i].keys.pin, anchor->pin) == 0) {
            return dk_ring_follow(core, txn, &rest, &anchor->seal, false, &end, err);
        }
    }
    return DK_FAIL(err, TAMPERED, "no earlier key has that pin");
}

dk_rc dk_keyring_check_anchor(struct dk_core *core, struct dk_txn *txn,
                              const struct dk_anchor *anchor, struct dk_err *err)
{
    struct dk_registry_row row;
    struct dk_ring ring = {.n = 0};
    struct dk_err cause;
    char pin[DK_HASH_TEXT];
    dk_err_clear(&cause);
    dk_registry_pin(core, pin);
    if (anchor->seal.n == 0 || strcmp(anchor->pin, pin) == 0) {
        return DK_OK;
    }
    DK_TRY(read_row(txn, &row, err));
    dk_rc rc = dk_ring_open(core, txn, &row, 1, &ring, &cause);
    rc = rc == DK_OK ? check_earlier_anchor(core, txn, &ring, anchor, &cause) : rc;
    dk_ring_close(core, &ring);
    if (rc == DK_E_TAMPERED) {
        return DK_FAIL(err, TAMPERED,
                       "the registry key is not the one of the anchor file %s: another registry, a "
                       "forged one, or a copy from before a rekey",
                       core->anchor_path);
    }
    if (rc != DK_OK) {
        *err = cause;
    }
    return rc;
}

/* ---- for who asks ---------------------------------------------------------------------------- */

static bool seal_time(void *arg, const struct dk_seal_row *seal)
{
    *(int64_t *)arg = seal->at;
    return false;
}

static dk_rc info_in(struct dk_core *core, struct dk_txn *txn, struct dk_rekey_info *out,
                     struct dk_err *err)
{
    out->generation = dk_registry_generation(core);
    out->unfinished = has_earlier(core->registry);
    out->at = DK_TIME_NONE;
    if (out->generation == 1) {
        return DK_OK;
    }
    DK_TRY(when_rekeyed(core, txn, out->generation, NULL, out, err));
    int64_t first = dk_registry_boundary(core) + 1;
    return out->at != DK_TIME_NONE
               ? DK_OK
               : txn->ops->seal_walk(txn->self, first, seal_time, &out->at, err);
}

dk_rc dk_keyring_info(struct dk_core *core, struct dk_rekey_info *out, struct dk_err *err)
{
    struct dk_txn txn;
    struct dk_rekey_info info = {.generation = 0};
    DK_TRY(dk_registry_begin(core, DK_TXN_READ, &txn, err));
    dk_rc rc = info_in(core, &txn, &info, err);
    dk_store_rollback(&txn);
    if (rc == DK_OK) {
        *out = info;
    }
    return rc;
}
