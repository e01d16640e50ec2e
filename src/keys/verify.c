#include "keys/verify.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "keys/audit.h"
#include "keys/heads.h"
#include "keys/keyring.h"
#include "keys/registry.h"
#include "keys/verify_state.h"

#define PAGE 128
#define TEXT 400

/* ---- what its files share -------------------------------------------------------------------- */

DK_PRINTF(5, 6)
void dk_verify_tell(struct dk_verifier *v, const char *table, const char *tenant, const char *row,
                    const char *format, ...)
{
    char text[TEXT];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    struct dk_finding finding = {table, tenant, row, text};
    v->result->findings++;
    v->each(v->arg, &finding);
}

/* Of a tenant or a process; NULL without memory. */
struct dk_chain *dk_verify_chain(struct dk_verifier *v, bool process, const char *name)
{
    struct dk_chain *chain = dk_chain_of(&v->chains, process, name);
    if (chain == NULL) {
        v->rc = DK_FAIL(v->err, NOMEM, "no memory for the chains of the log");
    }
    return chain;
}

/* ---- the log --------------------------------------------------------------------------------- */

/* Which key the row is under, from its chain's newest row on: rows do not go back to an older key.
   False: none. */
static bool find_log_key(struct dk_verifier *v, struct dk_chain *chain,
                         const struct dk_log_row *row)
{
    size_t first = v->log_at > chain->generation ? v->log_at : chain->generation;
    struct dk_err one;
    for (size_t i = 0; i < v->ring.n; i++) {
        size_t at = (first + i) % v->ring.n;
        dk_err_clear(&one);
        if (at >= chain->generation && dk_verify_has_key(v, at) &&
            dk_registry_verify_log(v->core, &v->ring.key[at].keys, row, &one) == DK_OK) {
            chain->generation = (uint32_t)at;
            v->log_at = at;
            return true;
        }
    }
    while (v->blind && chain->generation < v->ring.n && dk_verify_has_key(v, chain->generation)) {
        chain->generation++;
    }
    return v->blind && chain->generation < v->ring.n;
}

/* Before the first row there may have been others: the seals know what that one follows. */
static bool follows_chain(struct dk_verifier *v, struct dk_chain *chain,
                          const struct dk_log_row *row)
{
    if (row->prev[0] == '\0') {
        return !chain->rows;
    }
    struct dk_hash128 before = dk_chains_hash(&v->chains, row->prev);
    if (chain->rows || v->pruned.seal == 0) {
        return dk_hash_same(chain->head, before);
    }
    chain->base = before;
    chain->base_known = row->seq <= v->pruned.seq; /* a prune that is not at its end */
    return true;
}

static void look_at_row(struct dk_verifier *v, struct dk_chain *chain, const struct dk_log_row *row)
{
    char when[DK_TIME_TEXT];
    dk_time_format(row->performed_at, when);
    bool follows = follows_chain(v, chain, row);
    if (chain->broken) {
        return; /* the first wrong row of a chain is told */
    }
    if (row->mac[0] == '\0' || !find_log_key(v, chain, row)) {
        dk_verify_tell(
            v, "key_rotation_log", row->tenant, row->id,
            "the row `%s` of %s was edited, or was not written by dekhand: who did it can write to "
            "the database but has not the registry key",
            row->operation, when);
        chain->broken = true;
    } else if (!follows) {
        dk_verify_tell(
            v, "key_rotation_log", row->tenant, row->id,
            "the row `%s` of %s does not follow the row before it: rows between them were deleted "
            "or moved, by somebody who can write to the database",
            row->operation, when);
        chain->broken = true;
    }
}

/* Unwraps, and what concerns the whole registry, stand in the chain of the process. */
static bool is_of_process(const struct dk_log_row *row)
{
    return strcmp(row->operation, "decrypt") == 0 || strcmp(row->tenant, "*") == 0;
}

static bool see_row(void *arg, const struct dk_log_row *row)
{
    struct dk_verifier *v = arg;
    bool process = is_of_process(row);
    struct dk_chain *chain = dk_verify_chain(v, process, process ? row->node : row->tenant);
    if (chain == NULL) {
        return false;
    }
    v->result->log_rows++;
    look_at_row(v, chain, row);
    chain->rows = true;
    chain->head = dk_chains_hash(&v->chains, row->mac);
    if (!dk_chains_add_mac(&v->chains, chain->generation, row->mac)) {
        v->rc = DK_FAIL(v->err, NOMEM, "no memory for the rows of the log");
        return false;
    }
    return true;
}

/* ---- tenants and keys ------------------------------------------------------------------------ */

static void look_at_head(struct dk_verifier *v, struct dk_chain *chain,
                         const struct dk_tenant_row *row)
{
    const char *name = row->tenant.s;
    struct dk_hash128 head = dk_chains_hash(&v->chains, row->log_head);
    bool sealed = dk_hash_same(chain->sealed, head) && chain->epoch == row->epoch;
    bool has_rows = chain->rows || chain->pruned;
    if (chain->broken) {
        return;
    }
    if (row->epoch < chain->epoch) {
        dk_verify_tell(v, "tenants", name, name,
                       "its row is of epoch %lld, the seals know %lld: an old row was put back",
                       (long long)row->epoch, (long long)chain->epoch);
    } else if (v->log_cut) {
        return;
    } else if (row->log_head[0] != '\0' ? !(has_rows && dk_hash_same(chain->head, head))
                                        : has_rows) {
        dk_verify_tell(
            v, "tenants", name, name,
            "its newest log row is not the last of its chain: rows at the end were deleted, or "
            "an old row of the tenant was put back");
    } else if (!sealed && !v->seals_cut && !chain->moved) {
        dk_verify_tell(
            v, "tenants", name, name,
            "its last change stands in no seal: seals were deleted, or rows of an older copy were "
            "put back");
    }
}

/* While a rekey is under way, a row may still be under the key before. */
static const struct dk_registry_keys *key_before(const struct dk_verifier *v)
{
    size_t n = v->ring.n;
    return n > 1 && !v->rekeyed && dk_verify_has_key(v, n - 2) ? &v->ring.key[n - 2].keys : NULL;
}

static bool is_tenant_ours(struct dk_verifier *v, const struct dk_tenant_row *row)
{
    const struct dk_registry_keys *before = key_before(v);
    struct dk_err one;
    dk_err_clear(&one);
    return dk_registry_verify_tenant(v->core, &v->ring.key[v->ring.n - 1].keys, row, &one) ==
               DK_OK ||
           (before != NULL && dk_registry_verify_tenant(v->core, before, row, &one) == DK_OK);
}

static bool is_key_ours(struct dk_verifier *v, const struct dk_key_row *row)
{
    const struct dk_registry_keys *before = key_before(v);
    struct dk_err one;
    dk_err_clear(&one);
    return dk_registry_verify_key(v->core, &v->ring.key[v->ring.n - 1].keys, row, &one) == DK_OK ||
           (before != NULL && dk_registry_verify_key(v->core, before, row, &one) == DK_OK);
}

static dk_rc see_tenant(struct dk_verifier *v, const struct dk_tenant_row *row)
{
    char digest[DK_MAC_TEXT];
    const char *name = row->tenant.s;
    struct dk_chain *chain = dk_verify_chain(v, false, name);
    if (chain == NULL) {
        return v->rc;
    }
    chain->row_of_tenant = true;
    v->result->tenants++;
    if (!is_tenant_ours(v, row)) {
        dk_verify_tell(
            v, "tenants", name, name,
            "its row was edited, or was not written by dekhand: who did it can write to the "
            "database but has not the registry key");
        return DK_OK;
    }
    DK_TRY(dk_audit_digest(v->core, v->txn, &row->tenant, digest, v->err));
    if (strcmp(digest, row->keys_digest) != 0) {
        dk_verify_tell(
            v, "tenants", name, name,
            "its key rows are not those of its last change: one was put back, edited or deleted");
    }
    look_at_head(v, chain, row);
    return DK_OK;
}

static dk_rc see_tenants(struct dk_verifier *v, struct dk_tenant_row *rows)
{
    char after[DK_TENANT_MAX + 1] = "";
    size_t count;
    do {
        DK_TRY(v->txn->ops->tenant_list(v->txn->self, after, PAGE, rows, &count, v->err));
        for (size_t i = 0; i < count; i++) {
            DK_TRY(see_tenant(v, &rows[i]));
            memcpy(after, rows[i].tenant.s, rows[i].tenant.n + 1);
        }
    } while (count == PAGE);
    return DK_OK;
}

static dk_rc see_key(struct dk_verifier *v, const struct dk_key_row *row)
{
    char name[DK_TENANT_MAX + 16];
    v->result->keys++;
    snprintf(name, sizeof name, "%s:%u", row->tenant.s, row->version);
    if (!is_key_ours(v, row)) {
        dk_verify_tell(
            v, "encryption_keys", row->tenant.s, name,
            "the row of version %u was edited, or was not written by dekhand: it is never used; "
            "who did it can write to the database but has not the registry key",
            row->version);
    }
    struct dk_chain *chain = dk_verify_chain(v, false, row->tenant.s);
    if (chain == NULL) {
        return v->rc;
    }
    if (!chain->row_of_tenant && !v->tenants_cut) {
        dk_verify_tell(v, "tenants", row->tenant.s, row->tenant.s,
                       "it has a key row of version %u but no row of its own: somebody deleted it",
                       row->version);
        chain->row_of_tenant = true; /* told once */
    }
    return DK_OK;
}

static dk_rc see_keys(struct dk_verifier *v, struct dk_key_row *rows)
{
    struct dk_key_cursor at = {0};
    size_t count;
    do {
        DK_TRY(v->txn->ops->key_list(v->txn->self, NULL, DK_KEYS_ALL, &at, PAGE, rows, &count,
                                     v->err));
        for (size_t i = 0; i < count; i++) {
            DK_TRY(see_key(v, &rows[i]));
            at = (struct dk_key_cursor){rows[i].tenant, rows[i].version};
        }
    } while (count == PAGE);
    return DK_OK;
}

/* ---- processes, and tenants of whom only the log knows --------------------------------------- */

/* The names are known to the rows and to the seals; a second walk finds the ones that are wrong. */
static void look_at_end(struct dk_verifier *v, bool process, const char *name, const char *row)
{
    struct dk_chain *chain = dk_verify_chain(v, process, name);
    if (chain == NULL || chain->broken) {
        return;
    }
    if (!process && !chain->row_of_tenant && !v->tenants_cut) {
        chain->broken = true;
        dk_verify_tell(v, "tenants", name, name,
                       "the log and the seals know it, but its row is gone: somebody deleted it");
    }
    if ((chain->base.lo | chain->base.hi) != 0 && !chain->base_known && !v->seals_cut) {
        chain->broken = true;
        dk_verify_tell(v, "key_rotation_log", process ? "" : name, row,
                       "the first row of %s %s follows a row that was not pruned, and is gone: it "
                       "was deleted, by somebody who can write to the database",
                       process ? "process" : "tenant", name);
    } else if (process && !v->log_cut && !v->seals_cut && !chain->moved &&
               !dk_hash_same(chain->head, chain->sealed)) {
        chain->broken = true;
        dk_verify_tell(
            v, "key_rotation_log", "", row,
            "the unwraps of process %s do not end with the row that was sealed: rows or seals at "
            "the end were deleted",
            name);
    }
}

static bool end_of_row(void *arg, const struct dk_log_row *row)
{
    bool process = is_of_process(row);
    look_at_end(arg, process, process ? row->node : row->tenant, row->id);
    return true;
}

static bool end_of_seal(void *arg, const struct dk_seal_row *seal)
{
    struct dk_heads heads = dk_heads_of(seal->heads);
    struct dk_head head;
    while (dk_heads_next(&heads, &head)) {
        if (head.of == DK_HEAD_TENANT || head.of == DK_HEAD_PROCESS) {
            look_at_end(arg, head.of == DK_HEAD_PROCESS, head.name, head.name);
        }
    }
    return true;
}

/* ---- all of it ------------------------------------------------------------------------------- */

/* What a page of rows needs, one after the other. */
union page {
    struct dk_tenant_row tenants[PAGE];
    struct dk_key_row keys[PAGE];
};

/* A row that cannot even be read is a finding, and the other tables are looked at all the same. */
static dk_rc or_finding(struct dk_verifier *v, const char *table, int64_t before, dk_rc rc)
{
    char number[24];
    if (rc != DK_E_TAMPERED) {
        return rc == DK_OK ? v->rc : rc;
    }
    snprintf(number, sizeof number, "%lld", (long long)before + 1);
    dk_verify_tell(v, table, "", number, "row number %s cannot be read: %s", number, v->err->text);
    dk_err_clear(v->err);
    return DK_OK;
}

static bool note_moved(void *arg, const struct dk_moved *moved)
{
    struct dk_chain *chain = dk_verify_chain(arg, moved->process, moved->name);
    if (chain != NULL) {
        chain->moved = true;
    }
    return chain != NULL;
}

static dk_rc verify_in(struct dk_verifier *v, union page *page)
{
    struct dk_log_query all = {.since = DK_TIME_NONE, .until = DK_TIME_NONE};
    const struct dk_store_ops *ops = v->txn->ops;
    void *txn = v->txn->self;
    struct dk_verify_result *n = v->result;
    DK_TRY(dk_verify_open_keys(v));
    DK_TRY(dk_verify_open_pruned(v));
    DK_TRY(ops->moved != NULL ? ops->moved(txn, note_moved, v, v->err) : DK_OK);
    DK_TRY(v->rc);
    dk_rc rc = ops->log_walk(txn, &all, see_row, v, v->err);
    v->log_cut = rc == DK_E_TAMPERED;
    DK_TRY(or_finding(v, "key_rotation_log", n->log_rows, rc));
    rc = ops->seal_walk(txn, 1, dk_verify_seal, v, v->err);
    v->seals_cut = rc == DK_E_TAMPERED;
    DK_TRY(or_finding(v, "seals", n->seals, rc));
    dk_verify_rekey(v);
    rc = see_tenants(v, page->tenants);
    v->tenants_cut = rc == DK_E_TAMPERED;
    DK_TRY(or_finding(v, "tenants", n->tenants, rc));
    rc = see_keys(v, page->keys);
    DK_TRY(or_finding(v, "encryption_keys", n->keys, rc));
    rc = ops->log_walk(txn, &all, end_of_row, v, v->err);
    DK_TRY(rc == DK_E_TAMPERED ? DK_OK : rc); /* it was told above */
    dk_err_clear(v->err);
    rc = ops->seal_walk(txn, 1, end_of_seal, v, v->err);
    DK_TRY(rc == DK_E_TAMPERED ? DK_OK : rc);
    dk_err_clear(v->err);
    struct dk_err older;
    dk_err_clear(&older);
    if (dk_audit_check(v->core, &older) != DK_OK) {
        dk_verify_tell(
            v, "seals", "", "newest",
            "the registry does not hold a seal that was seen in it: it is an older copy, or "
            "another one, put in its place");
    }
    if (v->seal_n == 0) {
        dk_verify_tell(v, "seals", "", "1", "there is no seal: somebody deleted them all");
    }
    DK_TRY(dk_verify_schema(v));
    return v->rc;
}

dk_rc dk_verify(struct dk_core *core, void (*each)(void *arg, const struct dk_finding *finding),
                void *arg, struct dk_verify_result *out, struct dk_err *err)
{
    struct dk_txn txn;
    struct dk_verify_result result = {0};
    struct dk_verifier v = {
        .core = core, .txn = &txn, .each = each, .arg = arg, .result = &result, .err = err};
    DK_TRY(dk_chains_init(&v.chains, core->world, err));
    union page *page = dk_mem_alloc(&core->world->mem, sizeof *page);
    dk_rc rc = page != NULL ? dk_registry_begin(core, DK_TXN_READ, &txn, err)
                            : DK_FAIL(err, NOMEM, "no memory for a page of rows");
    if (rc == DK_OK) {
        rc = verify_in(&v, page);
        dk_store_rollback(&txn);
    }
    dk_mem_free(&core->world->mem, page);
    dk_ring_close(core, &v.ring);
    dk_chains_clear(&v.chains);
    if (rc == DK_OK) {
        *out = result;
    }
    return rc;
}
