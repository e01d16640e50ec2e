/* The part of audit that chains rows from before the log was a chain, after a migration. */
#include <string.h>

#include "keys/audit_state.h"
#include "keys/keyring.h"
#include "keys/registry.h"

#define PAGE 128

struct adopt {
    struct dk_core *core;
    struct dk_tenant_row *tenant;
    struct dk_log_row row;
    bool found;
    dk_rc rc;
    struct dk_err *err;
};

/* Chains the oldest row; the statement ends here, because the table is written next. */
static bool adopt_row(void *arg, const struct dk_log_row *row)
{
    struct adopt *adopt = arg;
    adopt->row = *row;
    adopt->found = true;
    adopt->rc = dk_audit_chain(adopt->core, adopt->tenant, &adopt->row, adopt->err);
    return false;
}

static dk_rc adopt_tenant(struct dk_core *core, struct dk_change *change,
                          struct dk_tenant_row *tenant, struct dk_err *err)
{
    struct dk_txn *txn = change->txn;
    struct adopt adopt = {.core = core, .tenant = tenant, .err = err};
    struct dk_log_query query = {
        .tenant = &tenant->tenant, .since = DK_TIME_NONE, .until = DK_TIME_NONE, .unchained = true};
    do {
        adopt.found = false;
        DK_TRY(txn->ops->log_walk(txn->self, &query, adopt_row, &adopt, err));
        DK_TRY(adopt.rc);
        if (adopt.found) {
            DK_TRY(txn->ops->log_chain(txn->self, &adopt.row, err));
        }
    } while (adopt.found);
    DK_TRY(dk_audit_digest(core, txn, &tenant->tenant, tenant->keys_digest, err));
    DK_TRY(dk_audit_update_tenant(core, txn, tenant, tenant->epoch, err));
    return dk_audit_add_head(change, tenant, err);
}

/* A seal without heads says that everything before it is chained. */
static bool is_end(void *arg, const struct dk_seal_row *row)
{
    bool *ended = arg;
    *ended = row->heads[0] == '\0';
    return !*ended;
}

/* A page of tenants, in one transaction and one seal; *count = 0 at the end. */
static dk_rc adopt_page(struct dk_core *core, struct dk_change *change, struct dk_tenant_row *rows,
                        char *after, size_t *count, struct dk_err *err)
{
    struct dk_txn *txn = change->txn;
    struct dk_seal_row newest;
    bool ended = false;
    DK_TRY(txn->ops->seal_newest(txn->self, &newest, err));
    DK_TRY(txn->ops->seal_walk(txn->self, 1, is_end, &ended, err));
    DK_TRY(txn->ops->tenant_list(txn->self, after, PAGE, rows, count, err));
    for (size_t i = 0; i < *count; i++) {
        memcpy(after, rows[i].tenant.s, rows[i].tenant.n + 1);
        DK_TRY(dk_registry_verify_tenant(core, NULL, &rows[i], err));
        if (rows[i].keys_digest[0] != '\0' && newest.n == 0) {
            return DK_FAIL(err, TAMPERED,
                           "the seals of the registry are gone: somebody deleted them");
        }
        if (rows[i].keys_digest[0] == '\0' && ended) {
            return DK_FAIL(err, TAMPERED,
                           "the row of tenant %s is of a time before the log was chained: an old "
                           "row was put back",
                           rows[i].tenant.s);
        }
        if (rows[i].keys_digest[0] == '\0') {
            DK_TRY(adopt_tenant(core, change, &rows[i], err));
        }
    }
    if (change->n > 0 || (*count == 0 && !ended)) {
        DK_TRY(dk_change_seal(core, change, err));
    }
    dk_trace(core->world, "init.page_sealed");
    return dk_store_commit(txn, err);
}

dk_rc dk_audit_adopt(struct dk_core *core, struct dk_err *err)
{
    char after[DK_TENANT_MAX + 1] = "";
    size_t count;
    struct dk_tenant_row *rows = dk_mem_alloc(&core->world->mem, PAGE * sizeof *rows);
    dk_rc rc = rows != NULL ? DK_OK : DK_FAIL(err, NOMEM, "no memory for a page of tenants");
    do {
        struct dk_txn txn;
        struct dk_change change;
        count = 0;
        if (rc == DK_OK && (rc = dk_registry_begin(core, DK_TXN_ALONE, &txn, err)) == DK_OK) {
            dk_change_init(&change, core, &txn);
            rc = adopt_page(core, &change, rows, after, &count, err);
            dk_change_clear(&change);
            dk_store_rollback(&txn);
        }
    } while (rc == DK_OK && count > 0);
    dk_mem_free(&core->world->mem, rows);
    return rc;
}
