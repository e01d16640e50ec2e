/* News of the registry: what changed elsewhere, whether it is as new as it was, and for how long.
 */
#include "keys/audit.h"
#include "keys/keyring.h"
#include "keys/manager_state.h"
#include "keys/registry.h"
#include "keys/sealer.h"

#define CHANGED_MAX 256
#define HELLOS_A_LEASE 3
#define BUSY_TURNS 5 /* in a row, and it is no coincidence any more */

dk_rc dk_poll_see_clears(struct dk_manager *manager, struct dk_txn *txn, bool *cleared,
                         struct dk_err *err)
{
    return txn->ops->log_cleared(txn->self, &manager->clears, cleared, err);
}

dk_rc dk_poll_first(struct dk_manager *manager, struct dk_err *err)
{
    struct dk_txn txn;
    struct dk_lease_start start = dk_lease_now(manager->core->world);
    DK_TRY(dk_store_begin(&manager->core->store, DK_TXN_READ, &txn, err));
    bool went_back, cleared;
    dk_rc rc = dk_poll_see_clears(manager, &txn, &cleared, err);
    rc = rc == DK_OK ? txn.ops->changes(txn.self, &manager->mark, &went_back, NULL, NULL, err) : rc;
    dk_store_rollback(&txn);
    atomic_store(&manager->behind, manager->mark.behind);
    if (rc == DK_OK && !manager->mark.behind) {
        dk_lease_renew(&manager->lease, &start, manager->core->limits.lease_ms);
    }
    return rc;
}

/* Who has the lease seals at each poll; longer, so that it stays with who is there. */
static int64_t lease_ms(const struct dk_manager *manager)
{
    return 3 * manager->core->limits.poll_ms;
}

/* Who comes at the same moment as another leaves it to that one; told once where that goes on. */
static void seal_now(struct dk_manager *manager, int64_t ms)
{
    struct dk_err err;
    bool held = false;
    dk_err_clear(&err);
    dk_rc rc = dk_sealer_turn(manager->core, ms, &held, &err);
    manager->busy_turns = rc == DK_E_BUSY ? manager->busy_turns + 1 : 0;
    if (rc == DK_E_BUSY ? manager->busy_turns == BUSY_TURNS : rc != DK_OK) {
        DK_LOG(&manager->core->log, WARN, "not_sealed", DK_LOG_S(CODE, dk_error_info(err.rc)->name),
               DK_LOG_S(REASON, err.text));
    }
    atomic_store(&manager->leads, held && ms > 0);
}

struct changed {
    struct dk_manager *manager;
    bool may_seal;
    size_t count;
    struct dk_tenant tenants[CHANGED_MAX];
};

static void forget_changed(struct changed *changed)
{
    if (changed->count > 0) {
        dk_cache_forget(changed->manager->cache, changed->tenants, changed->count);
        changed->count = 0;
    }
}

static void note_changed(void *arg, const struct dk_tenant *tenant)
{
    struct changed *changed = arg;
    changed->tenants[changed->count++] = *tenant;
    if (changed->count == CHANGED_MAX) {
        forget_changed(changed);
    }
}

/*
 * Another registry, or an older copy of this one: no key in memory counts any more. Nor after a
 * `cache clear`, anywhere.
 */
static dk_rc look_for_changes(struct dk_manager *manager, struct dk_txn *txn,
                              struct changed *changed, struct dk_err *err)
{
    struct dk_core *core = manager->core;
    bool went_back = false, back = false, cleared = false;
    dk_rc rc = dk_poll_see_clears(manager, txn, &cleared, err);
    rc = rc == DK_OK
             ? txn->ops->changes(txn->self, &manager->mark, &went_back, note_changed, changed, err)
             : rc;
    rc = rc == DK_OK ? dk_audit_look(core, txn, &back, err) : rc;
    rc = rc == DK_OK ? dk_sealer_is_free(core, txn, &changed->may_seal, err) : rc;
    if (went_back || back || cleared) { /* whatever failed then: the marks have moved past it */
        dk_cache_forget_all(manager->cache);
    }
    return rc;
}

dk_rc dk_poll(struct dk_manager *manager, struct dk_err *err)
{
    struct changed *changed = dk_mem_alloc(&manager->core->world->mem, sizeof *changed);
    struct dk_txn txn;
    if (changed == NULL) {
        return DK_FAIL(err, NOMEM, "no memory to look for changes");
    }
    changed->manager = manager;
    changed->count = 0;
    changed->may_seal = false;
    struct dk_lease_start start = dk_lease_now(manager->core->world);
    pthread_mutex_lock(&manager->poll_lock);
    dk_rc rc = dk_registry_begin(manager->core, DK_TXN_READ, &txn, err);
    if (rc == DK_OK) {
        rc = look_for_changes(manager, &txn, changed, err);
        dk_store_rollback(&txn);
    }
    forget_changed(changed);
    atomic_store(&manager->behind, manager->mark.behind);
    if (rc == DK_OK && !manager->mark.behind) { /* what a late copy tells is no news */
        dk_lease_renew(&manager->lease, &start, manager->core->limits.lease_ms);
    }
    if (rc == DK_OK) {
        dk_audit_anchor(manager->core);
    }
    if (rc == DK_OK && changed->may_seal) {
        seal_now(manager, lease_ms(manager));
    } else if (rc == DK_OK) {
        manager->busy_turns = 0;
        atomic_store(&manager->leads, false);
    }
    pthread_mutex_unlock(&manager->poll_lock);
    dk_mem_free(&manager->core->world->mem, changed);
    if (rc != DK_OK) {
        DK_LOG(&manager->core->log, WARN, "changes_not_seen",
               DK_LOG_S(CODE, dk_error_info(rc)->name), DK_LOG_S(REASON, err->text));
    }
    return rc;
}

static dk_rc say(struct dk_core *core, bool leaves, struct dk_err *err)
{
    char node[DK_ACTOR_MAX + 1];
    struct dk_txn txn;
    dk_audit_node(core, node);
    DK_TRY(dk_store_begin(&core->store, DK_TXN_WRITE, &txn, err));
    dk_rc rc = txn.ops->node(txn.self, node, leaves, err);
    rc = rc == DK_OK ? dk_store_commit(&txn, err) : rc;
    dk_store_rollback(&txn);
    return rc;
}

/* Nothing depends on it: a failure is told by the look that comes next. */
void dk_poll_hello(struct dk_manager *manager)
{
    struct dk_core *core = manager->core;
    struct dk_err err;
    int64_t now = dk_mono_ms(core->world);
    if (core->store.ops->node == NULL || now < atomic_load(&manager->next_hello_ms)) {
        return;
    }
    atomic_store(&manager->next_hello_ms, now + core->limits.lease_ms / HELLOS_A_LEASE);
    dk_err_clear(&err);
    dk_rc ignored = say(core, false, &err);
    (void)ignored;
}

void dk_poll_last(struct dk_manager *manager)
{
    struct dk_txn txn;
    struct dk_err err;
    bool back = false;
    dk_err_clear(&err);
    if (!dk_registry_is_open(manager->core)) {
        return; /* a child that only closes: it has not opened the registry again */
    }
    if (dk_audit_has_unsealed(manager->core)) {
        pthread_mutex_lock(&manager->poll_lock);
        seal_now(manager, 0);
        pthread_mutex_unlock(&manager->poll_lock);
    }
    if (atomic_load(&manager->next_hello_ms) != 0) {
        dk_rc ignored = say(manager->core, true, &err);
        (void)ignored;
        dk_err_clear(&err);
    }
    if (dk_registry_begin(manager->core, DK_TXN_READ, &txn, &err) == DK_OK) {
        dk_rc rc = dk_audit_look(manager->core, &txn, &back, &err);
        dk_store_rollback(&txn);
        if (rc == DK_OK) {
            dk_audit_anchor(manager->core);
        }
    }
}

/* Nothing is encrypted on old news (I22): whoever finds the lease over looks, once a poll at most.
 */
dk_rc dk_poll_renew_lease(struct dk_manager *manager, struct dk_err *err)
{
    struct dk_lease *lease = &manager->lease;
    const struct dk_limits *limits = &manager->core->limits;
    struct dk_err cause;
    dk_err_clear(&cause);
    pthread_mutex_lock(&lease->lock);
    int64_t now = dk_mono_ms(manager->core->world);
    bool looks = dk_lease_is_over(lease, now) && now >= atomic_load(&lease->next_try_ms);
    dk_rc rc = DK_OK;
    if (looks) {
        rc = dk_poll(manager, &cause);
        atomic_store(&lease->next_try_ms, rc == DK_E_NOMEM ? now : now + limits->poll_ms);
    }
    bool over = dk_lease_is_over(lease, dk_mono_ms(manager->core->world));
    pthread_mutex_unlock(&lease->lock);
    if (over && rc == DK_E_NOMEM) { /* it says nothing of the registry */
        *err = cause;
        return rc;
    }
    return over ? DK_FAIL(err, LEASE,
                          "nothing is known of the registry since more than %lld s, and nothing is "
                          "encrypted until it answers: a rotation or a revocation may have been "
                          "missed%s%.120s",
                          (long long)limits->lease_ms / 1000,
                          rc != DK_OK                     ? ". Now: "
                          : atomic_load(&manager->behind) ? ". Now: it is a standby that answers"
                                                          : "",
                          rc != DK_OK ? cause.text : "")
                : DK_OK;
}
