#include "keys/inspect.h"

#include "keys/audit.h"
#include "keys/keyring.h"
#include "keys/loader.h"
#include "keys/registry.h"
#include "keys/states.h"
#include "keys/unwrap.h"

#define PAGE 128

static dk_rc read_page(struct dk_core *core, const struct dk_tenant *tenant,
                       const struct dk_key_cursor *at, struct dk_key_row *rows, size_t *count,
                       struct dk_err *err)
{
    struct dk_txn txn;
    DK_TRY(dk_registry_begin(core, DK_TXN_READ, &txn, err));
    dk_rc rc = txn.ops->key_list(txn.self, tenant, DK_KEYS_ALL, at, PAGE, rows, count, err);
    dk_store_rollback(&txn);
    return rc;
}

/* Believed? A page may be from before a rekey that another thread has followed: then it is read
 * anew. */
static dk_rc believe(struct dk_core *core, struct dk_key_row *row)
{
    struct dk_txn txn;
    struct dk_key_row fresh;
    struct dk_err one;
    dk_err_clear(&one);
    dk_rc rc = dk_registry_verify_key(core, NULL, row, &one);
    bool again = rc == DK_E_TAMPERED;
    for (int i = 0; i < DK_REGISTRY_TRIES && again; i++) {
        dk_err_clear(&one);
        if (dk_registry_begin(core, DK_TXN_READ, &txn, &one) != DK_OK) {
            return rc;
        }
        if (txn.ops->key_read(txn.self, &row->tenant, row->version, &fresh, &one) == DK_OK) {
            rc = dk_registry_verify_key(core, NULL, &fresh, &one);
        }
        dk_store_rollback(&txn);
        again = dk_registry_again(core, &txn, rc);
    }
    return rc;
}

static dk_rc walk(struct dk_core *core, const struct dk_tenant *tenant, struct dk_key_row *rows,
                  bool (*each)(void *arg, const struct dk_key_row *row, dk_rc rc), void *arg,
                  struct dk_err *err)
{
    struct dk_key_cursor at = {0};
    for (;;) {
        size_t count = 0;
        DK_TRY(read_page(core, tenant, &at, rows, &count, err));
        for (size_t i = 0; i < count; i++) {
            if (!each(arg, &rows[i], believe(core, &rows[i]))) {
                return DK_OK;
            }
        }
        if (count < PAGE) {
            return DK_OK;
        }
        at = (struct dk_key_cursor){rows[count - 1].tenant, rows[count - 1].version};
    }
}

dk_rc dk_inspect_keys(struct dk_core *core, const struct dk_tenant *tenant,
                      bool (*each)(void *arg, const struct dk_key_row *row, dk_rc rc), void *arg,
                      struct dk_err *err)
{
    struct dk_key_row *rows = dk_mem_alloc(&core->world->mem, PAGE * sizeof *rows);
    if (rows == NULL) {
        return DK_FAIL(err, NOMEM, "no memory for a page of keys");
    }
    dk_rc rc = walk(core, tenant, rows, each, arg, err);
    dk_mem_free(&core->world->mem, rows);
    return rc;
}

/* ---- tenants --------------------------------------------------------------------------------- */

/* *again: what is not believed may be from before a rekey that another thread has followed. */
static dk_rc read_tenants(struct dk_core *core, const struct dk_tenant *tenant, const char *after,
                          struct dk_tenant_row *rows, dk_rc *believed, size_t *count, bool *again,
                          struct dk_err *err)
{
    struct dk_txn txn;
    struct dk_err one;
    *again = false;
    DK_TRY(dk_registry_begin(core, DK_TXN_READ, &txn, err));
    dk_rc rc = tenant == NULL ? txn.ops->tenant_list(txn.self, after, PAGE, rows, count, err)
                              : txn.ops->tenant_read(txn.self, tenant, rows, err);
    *count = tenant != NULL && rc == DK_OK ? 1 : *count;
    for (size_t i = 0; rc == DK_OK && i < *count; i++) { /* while no rekey comes between */
        dk_err_clear(&one);
        believed[i] = dk_registry_verify_tenant(core, NULL, &rows[i], &one);
        *again = *again || dk_registry_again(core, &txn, believed[i]);
    }
    dk_store_rollback(&txn);
    return rc;
}

static dk_rc walk_tenants(struct dk_core *core, const struct dk_tenant *tenant,
                          struct dk_tenant_row *rows,
                          bool (*each)(void *arg, const struct dk_tenant_row *row, dk_rc rc),
                          void *arg, struct dk_err *err)
{
    char after[DK_TENANT_MAX + 1] = "";
    dk_rc believed[PAGE];
    size_t count;
    do {
        bool again = true;
        for (int i = 0; i < DK_REGISTRY_TRIES && again; i++) {
            count = 0;
            DK_TRY(read_tenants(core, tenant, after, rows, believed, &count, &again, err));
        }
        for (size_t i = 0; i < count; i++) {
            memcpy(after, rows[i].tenant.s, rows[i].tenant.n + 1);
            if (!each(arg, &rows[i], believed[i])) {
                return DK_OK;
            }
        }
    } while (count == PAGE);
    return DK_OK;
}

dk_rc dk_inspect_tenants(struct dk_core *core, const struct dk_tenant *tenant,
                         bool (*each)(void *arg, const struct dk_tenant_row *row, dk_rc rc),
                         void *arg, struct dk_err *err)
{
    struct dk_tenant_row *rows = dk_mem_alloc(&core->world->mem, PAGE * sizeof *rows);
    if (rows == NULL) {
        return DK_FAIL(err, NOMEM, "no memory for a page of tenants");
    }
    dk_rc rc = walk_tenants(core, tenant, rows, each, arg, err);
    dk_mem_free(&core->world->mem, rows);
    return rc;
}

/* ---- history --------------------------------------------------------------------------------- */

struct history {
    bool changes_only;
    size_t left;
    bool (*each)(void *arg, const struct dk_log_row *row);
    void *arg;
};

static bool tell(void *arg, const struct dk_log_row *row)
{
    struct history *history = arg;
    if (history->changes_only && strcmp(row->operation, "decrypt") == 0) {
        return true;
    }
    return history->left-- > 0 && history->each(history->arg, row);
}

dk_rc dk_inspect_log(struct dk_core *core, const struct dk_log_query *query, bool changes_only,
                     size_t limit, bool (*each)(void *arg, const struct dk_log_row *row), void *arg,
                     struct dk_err *err)
{
    struct dk_txn txn;
    struct history history = {changes_only, limit, each, arg};
    DK_TRY(dk_store_begin(&core->store, DK_TXN_READ, &txn, err));
    dk_rc rc = txn.ops->log_walk(txn.self, query, tell, &history, err);
    dk_store_rollback(&txn);
    return rc;
}

dk_rc dk_inspect_newest_seal(struct dk_core *core, int64_t *out, struct dk_err *err)
{
    struct dk_txn txn;
    struct dk_seal_row newest;
    DK_TRY(dk_store_begin(&core->store, DK_TXN_READ, &txn, err));
    dk_rc rc = txn.ops->seal_newest(txn.self, &newest, err);
    dk_store_rollback(&txn);
    *out = rc == DK_OK ? newest.n : 0;
    return rc;
}

dk_rc dk_inspect_counts(struct dk_core *core, struct dk_key_counts *out, struct dk_err *err)
{
    struct dk_txn txn;
    int64_t now = dk_wall_us(core->world);
    DK_TRY(dk_store_begin(&core->store, DK_TXN_READ, &txn, err));
    dk_rc rc = txn.ops->key_counts(txn.self, now, now + core->limits.warning_us, out, err);
    dk_store_rollback(&txn);
    return rc;
}

static dk_rc log_export(struct dk_core *core, const struct dk_key_name *name, const char *by,
                        struct dk_err *err)
{
    struct dk_log_row log;
    DK_TRY(dk_audit_row(core, by, name->tenant.s, "export", &log, err));
    log.from_version = name->version;
    return dk_audit_write(core, &name->tenant, &log, err);
}

dk_rc dk_inspect_export(struct dk_core *core, const struct dk_key_name *name, const char *by,
                        struct dk_secret *out, struct dk_err *err)
{
    struct dk_key_row row;
    DK_TRY(dk_loader_read_row(core, name, &row, err));
    DK_TRY(dk_state_check_open(&row, err));
    DK_TRY(log_export(core, name, by, err));
    return dk_unwrap(core, &row, out, err);
}
