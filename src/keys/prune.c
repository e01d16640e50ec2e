#include "keys/prune.h"

#include <stdio.h>
#include <string.h>

#include "keys/audit.h"
#include "keys/audit_state.h"
#include "keys/heads.h"
#include "keys/keyring.h"
#include "keys/pruned.h"
#include "keys/registry.h"
#include "keys/verify.h"

#define PAGE 1000 /* rows deleted in one transaction */

struct prune {
    struct dk_core *core;
    const struct dk_prune_args *args;
    struct dk_prune_result *result;
    struct dk_pruned last; /* the prune before, ended or not */
    struct dk_pruned next; /* seal 0 = there is nothing to begin */
    struct dk_log_edge last_edge, next_edge;
    bool chained; /* the seal that ends the chaining of old rows was read */
    struct dk_err *err;
    dk_rc rc;
};

/* ---- which rows ------------------------------------------------------------------------------ */

/* Heads stand in the order in which their rows were written: the last one is the newest row. */
static bool last_head(const char *text, char out[static DK_MAC_TEXT])
{
    bool found = false;
    struct dk_heads heads = dk_heads_of(text);
    struct dk_head head;
    while (dk_heads_next(&heads, &head)) {
        if (head.mac[0] != '\0' && head.of != DK_HEAD_OTHER) {
            memcpy(out, head.mac, sizeof head.mac);
            found = true;
        }
    }
    return found;
}

/* Seals up to the first that is not old enough: a clock that went back makes no later one old. */
static bool see_seal(void *arg, const struct dk_seal_row *seal)
{
    struct prune *prune = arg;
    bool chained = prune->chained;
    prune->chained = chained || seal->heads[0] == '\0';
    if (seal->n <= prune->last.seal) {
        (void)(chained && last_head(seal->heads, prune->last_edge.mac));
        return true;
    }
    if (seal->at >= prune->args->before) {
        return false;
    }
    if (chained && last_head(seal->heads, prune->next_edge.mac)) {
        prune->next.seal = seal->n;
        prune->rc = dk_seal_hash(prune->core, seal->mac, prune->next.hash, prune->err);
    }
    return prune->rc == DK_OK;
}

static dk_rc find_edge(struct dk_txn *txn, int64_t seal, struct dk_log_edge *edge,
                       struct dk_err *err)
{
    edge->seal = seal;
    return seal != 0 && edge->mac[0] != '\0' ? txn->ops->log_edge(txn->self, edge, err) : DK_OK;
}

static dk_rc plan_in(struct prune *prune, struct dk_txn *txn, struct dk_err *err)
{
    struct dk_registry_row row;
    struct dk_ring ring = {0};
    DK_TRY(txn->ops->registry_read(txn->self, &row, err));
    DK_TRY(dk_ring_open_any(prune->core, txn, &row, &ring, err));
    dk_rc rc = dk_pruned_read(prune->core, txn, &ring, &prune->last, err);
    dk_ring_close(prune->core, &ring);
    DK_TRY(rc);
    DK_TRY(txn->ops->seal_walk(txn->self, 1, see_seal, prune, err));
    DK_TRY(prune->rc);
    DK_TRY(find_edge(txn, prune->last.seal, &prune->last_edge, err));
    DK_TRY(find_edge(txn, prune->next.seal, &prune->next_edge, err));
    if (prune->next.seal != 0 && prune->next_edge.seq == 0) {
        return DK_FAIL(err, TAMPERED, "seal %lld knows a row that the log has not",
                       (long long)prune->next.seal);
    }
    prune->next.rows = prune->next_edge.rows;
    /* Numbers only grow; SQLite may have given lower ones in a VACUUM. */
    prune->next.seq = prune->next_edge.seq > row.pruned_seq ? prune->next_edge.seq : row.pruned_seq;
    return DK_OK;
}

static dk_rc plan(struct prune *prune, struct dk_txn *txn, struct dk_err *err)
{
    prune->last_edge = prune->next_edge = (struct dk_log_edge){.seq = 0};
    prune->last = prune->next = (struct dk_pruned){.seal = 0};
    prune->chained = false;
    prune->err = err;
    prune->rc = DK_OK;
    return plan_in(prune, txn, err);
}

/* ---- deleting -------------------------------------------------------------------------------- */

static dk_rc delete_page(struct prune *prune, struct dk_txn *txn, const struct dk_log_edge *edge,
                         int64_t *deleted, struct dk_err *err)
{
    DK_TRY(txn->ops->log_prune(txn->self, edge, PAGE, deleted, err));
    dk_trace(prune->core->world, "prune.page_deleted");
    return DK_OK;
}

static dk_rc begin_in(struct prune *prune, struct dk_txn *txn, struct dk_change *change,
                      int64_t *deleted, char head[static DK_MAC_TEXT], struct dk_err *err)
{
    struct dk_core *core = prune->core;
    char detail[DK_PRUNED_TEXT];
    struct dk_log_row row;
    DK_TRY(dk_audit_row(core, prune->args->by, "*", "prune", &row, err));
    dk_pruned_format(&prune->next, detail);
    row.detail = detail;
    DK_TRY(dk_audit_store_here(core, change, &row, head, err));
    dk_trace(core->world, "prune.log_written");
    DK_TRY(txn->ops->registry_pruned(txn->self, &prune->next_edge, err));
    DK_TRY(delete_page(prune, txn, &prune->next_edge, deleted, err));
    DK_TRY(dk_change_seal(core, change, err));
    dk_trace(core->world, "prune.before_commit");
    return dk_audit_commit_here(core, txn, head, err);
}

/* Another may have been first: so what is to go is looked up anew, in this transaction. */
static dk_rc begin_locked(struct prune *prune, struct dk_err *err)
{
    struct dk_txn txn;
    struct dk_change change;
    char head[DK_MAC_TEXT];
    int64_t deleted = 0;
    DK_TRY(dk_registry_begin(prune->core, DK_TXN_ALONE, &txn, err));
    dk_change_init(&change, prune->core, &txn);
    dk_rc rc = plan(prune, &txn, err);
    bool begins = rc == DK_OK && prune->next.seal != 0;
    rc = begins ? begin_in(prune, &txn, &change, &deleted, head, err) : rc;
    dk_change_clear(&change);
    dk_store_rollback(&txn);
    if (begins && rc == DK_OK) {
        prune->result->seal = prune->next.seal;
        prune->result->rows += deleted;
        dk_trace(prune->core->world, "prune.begun");
    }
    return rc;
}

static dk_rc begin_new(struct prune *prune, struct dk_err *err)
{
    struct dk_core *core = prune->core;
    pthread_mutex_lock(&core->audit->lock);
    dk_rc rc = begin_locked(prune, err);
    pthread_mutex_unlock(&core->audit->lock);
    return rc;
}

/* Each page in a transaction of its own, so that others can write between two. */
static dk_rc delete_rest(struct prune *prune, const struct dk_log_edge *edge, struct dk_err *err)
{
    int64_t deleted;
    do {
        struct dk_txn txn;
        deleted = 0;
        DK_TRY(dk_registry_begin(prune->core, DK_TXN_WRITE, &txn, err));
        dk_rc rc = delete_page(prune, &txn, edge, &deleted, err);
        rc = rc == DK_OK ? dk_store_commit(&txn, err) : rc;
        dk_store_rollback(&txn);
        DK_TRY(rc);
        prune->result->rows += deleted;
    } while (deleted == PAGE);
    dk_trace(prune->core->world, "prune.ended");
    return DK_OK;
}

/* ---- all of it ------------------------------------------------------------------------------- */

static void see_finding(void *arg, const struct dk_finding *finding)
{
    (void)arg;
    (void)finding;
}

/* Rows that go take what could be learned from them along. */
static dk_rc check(struct prune *prune, struct dk_err *err)
{
    struct dk_verify_result found;
    DK_TRY(dk_audit_check(prune->core, err));
    DK_TRY(dk_verify(prune->core, see_finding, NULL, &found, err));
    return found.findings == 0
               ? DK_OK
               : DK_FAIL(err, TAMPERED,
                         "there are %lld findings (`dekhand audit verify` names each): no row of "
                         "the log is deleted while one could tell of them",
                         (long long)found.findings);
}

static dk_rc look(struct prune *prune, struct dk_err *err)
{
    struct dk_txn txn;
    DK_TRY(dk_registry_begin(prune->core, DK_TXN_READ, &txn, err));
    dk_rc rc = plan(prune, &txn, err);
    dk_store_rollback(&txn);
    return rc;
}

static dk_rc prune_all(struct prune *prune, struct dk_err *err)
{
    if (prune->args->before > dk_wall_us(prune->core->world)) {
        return DK_FAIL(err, USAGE, "the moment before which rows are old is in the future");
    }
    DK_TRY(check(prune, err));
    DK_TRY(look(prune, err));
    prune->result->seal = prune->last.seal;
    if (prune->args->dry_run) {
        prune->result->seal = prune->next.seal != 0 ? prune->next.seal : prune->last.seal;
        prune->result->rows = prune->next.seal != 0 ? prune->next.rows : prune->last_edge.rows;
        return DK_OK;
    }
    if (prune->next.seal != 0) {
        DK_TRY(begin_new(prune, err));
    }
    const struct dk_log_edge *edge = prune->next.seal != 0 ? &prune->next_edge : &prune->last_edge;
    return edge->seq != 0 ? delete_rest(prune, edge, err) : DK_OK;
}

dk_rc dk_prune(struct dk_core *core, const struct dk_prune_args *args, struct dk_prune_result *out,
               struct dk_err *err)
{
    *out = (struct dk_prune_result){.seal = 0};
    struct prune *prune = dk_mem_zalloc(&core->world->mem, sizeof *prune);
    if (prune == NULL) {
        return DK_FAIL(err, NOMEM, "no memory for a prune");
    }
    prune->core = core;
    prune->args = args;
    prune->result = out;
    dk_rc rc = prune_all(prune, err);
    dk_mem_free(&core->world->mem, prune);
    return rc == DK_OK ? rc : dk_err_while(err, "pruning the log");
}
