#include "keys/sealer.h"

#include "keys/audit.h"
#include "keys/audit_state.h"
#include "keys/keyring.h"

#define LEASE "seal"
#define HEADS_MAX (64 * 1024) /* bytes of a seal: more than that begins another */

struct sealer {
    struct dk_core *core;
    struct dk_change *change;
    dk_rc rc;
    struct dk_err *err;
};

static dk_rc seal_page(struct sealer *sealer)
{
    dk_rc rc = dk_change_seal(sealer->core, sealer->change, sealer->err);
    sealer->change->n = 0;
    return rc;
}

static bool add(void *arg, const struct dk_moved *moved)
{
    struct sealer *sealer = arg;
    sealer->rc = moved->process
                     ? dk_audit_add_process(sealer->change, moved->name, moved->head, sealer->err)
                     : dk_audit_add_tenant(sealer->change, moved->name, moved->epoch, moved->head,
                                           sealer->err);
    if (sealer->rc == DK_OK && sealer->change->n >= HEADS_MAX) {
        sealer->rc = seal_page(sealer);
    }
    return sealer->rc == DK_OK;
}

dk_rc dk_sealer_seal(struct dk_core *core, struct dk_txn *txn, struct dk_err *err)
{
    struct dk_change change;
    struct sealer sealer = {.core = core, .change = &change, .err = err};
    dk_change_init(&change, core, txn);
    dk_rc rc = txn->ops->moved(txn->self, add, &sealer, err);
    rc = rc == DK_OK ? sealer.rc : rc;
    if (rc == DK_OK && change.n > 0) {
        rc = seal_page(&sealer);
    }
    dk_change_clear(&change);
    return rc;
}

/* Two that seal at once: the second one finds the lease, or the seals, changed: E_BUSY. */
static dk_rc turn_in(struct dk_core *core, struct dk_txn *txn, int64_t lease_ms, bool *held,
                     struct dk_err *err)
{
    char node[DK_ACTOR_MAX + 1];
    dk_audit_node(core, node);
    DK_TRY(txn->ops->lease(txn->self, LEASE, node, lease_ms, held, err));
    if (!*held) {
        return DK_OK;
    }
    DK_TRY(dk_sealer_seal(core, txn, err));
    DK_TRY(txn->ops->tidy(txn->self, err));
    return dk_store_commit(txn, err);
}

dk_rc dk_sealer_turn(struct dk_core *core, int64_t lease_ms, bool *held, struct dk_err *err)
{
    struct dk_txn txn;
    *held = false;
    if (!core->store.ops->seals_apart || dk_audit_check(core, err) != DK_OK) {
        dk_err_clear(err);
        return DK_OK;
    }
    DK_TRY(dk_registry_begin(core, DK_TXN_SEAL, &txn, err));
    dk_rc rc = turn_in(core, &txn, lease_ms, held, err);
    dk_store_rollback(&txn);
    *held = *held && rc == DK_OK;
    return rc;
}

dk_rc dk_sealer_is_free(struct dk_core *core, struct dk_txn *txn, bool *out, struct dk_err *err)
{
    char node[DK_ACTOR_MAX + 1];
    *out = false;
    if (!core->store.ops->seals_apart) {
        return DK_OK;
    }
    dk_audit_node(core, node);
    return txn->ops->lease(txn->self, LEASE, node, 0, out, err);
}
