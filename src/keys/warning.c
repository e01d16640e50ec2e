#include "keys/warning.h"

#include <stdio.h>

#include "keys/audit.h"
#include "keys/keyring.h"
#include "keys/registry.h"

#define PAGE 64

/* A page of versions to look at, in the order of their expiry. */
struct page {
    struct dk_core *core;
    struct dk_key_row rows[PAGE];
    size_t n;
    int64_t from_us;         /* where the next page begins ... */
    struct dk_tenant behind; /* ... behind this tenant, of those that expire at that moment */
    bool more;
};

static bool is_behind(const struct page *page, const struct dk_key_row *row)
{
    return row->expires_at > page->from_us || strcmp(row->tenant.s, page->behind.s) > 0;
}

static bool take_row(void *arg, const struct dk_key_row *row)
{
    struct page *page = arg;
    if (!is_behind(page, row)) {
        return true;
    }
    page->more = page->n == PAGE;
    if (!page->more) {
        page->rows[page->n++] = *row;
    }
    return !page->more;
}

static dk_rc read_page(struct page *page, struct dk_err *err)
{
    struct dk_txn txn;
    struct dk_core *core = page->core;
    int64_t until = dk_wall_us(core->world) + core->limits.warning_us;
    page->n = 0;
    page->more = false;
    DK_TRY(dk_store_begin(&core->store, DK_TXN_READ, &txn, err));
    dk_rc rc = txn.ops->key_expiring(txn.self, page->from_us, until, take_row, page, err);
    dk_store_rollback(&txn);
    if (rc == DK_OK && page->n > 0) {
        page->from_us = page->rows[page->n - 1].expires_at;
        page->behind = page->rows[page->n - 1].tenant;
    }
    return rc;
}

struct search {
    uint32_t version;
    bool told;
};

/* Newest first: before its version was made nothing can be said of it. */
static bool see_row(void *arg, const struct dk_log_row *row)
{
    struct search *search = arg;
    search->told = strcmp(row->operation, "warning") == 0 && row->from_version == search->version;
    return !search->told && row->to_version != search->version;
}

static dk_rc was_told(struct dk_txn *txn, const struct dk_key_row *row, bool *out,
                      struct dk_err *err)
{
    struct search search = {.version = row->version};
    struct dk_log_query query = {
        .tenant = &row->tenant, .since = DK_TIME_NONE, .until = DK_TIME_NONE, .newest_first = true};
    DK_TRY(txn->ops->log_walk(txn->self, &query, see_row, &search, err));
    *out = search.told;
    return DK_OK;
}

/* Writes the warning's row, unless there is one, or the version is not what it was. */
static dk_rc warn_of(struct dk_core *core, struct dk_change *change, const struct dk_key_row *row,
                     bool *told, struct dk_err *err)
{
    struct dk_tenant_row tenant;
    struct dk_log_row log;
    bool before = false;
    char expires[DK_TIME_TEXT];
    *told = false;
    DK_TRY(dk_audit_tenant(core, change->txn, &row->tenant, &tenant, err)); /* locks the row */
    DK_TRY(was_told(change->txn, row, &before, err));
    if (before) {
        return DK_OK;
    }
    DK_TRY(dk_audit_row(core, change->by, row->tenant.s, "warning", &log, err));
    dk_time_format(row->expires_at, expires);
    log.from_version = row->version;
    log.detail = expires;
    DK_TRY(dk_audit_chain(core, &tenant, &log, err));
    DK_TRY(dk_audit_update_tenant(core, change->txn, &tenant, tenant.epoch, err));
    DK_TRY(dk_audit_store(change, &tenant, &log, err));
    *told = true;
    return DK_OK;
}

static dk_rc warn_in(struct dk_core *core, struct dk_change *change, const struct page *page,
                     bool *told, struct dk_err *err)
{
    for (size_t i = 0; i < page->n; i++) {
        struct dk_err one;
        dk_err_clear(&one);
        dk_rc rc = dk_registry_verify_key(core, NULL, &page->rows[i], &one);
        rc = rc == DK_OK ? warn_of(core, change, &page->rows[i], &told[i], &one) : rc;
        if (rc != DK_OK && rc != DK_E_TAMPERED) { /* what is not believed, `doctor` tells */
            *err = one;
            return rc;
        }
    }
    if (change->n == 0) {
        return DK_OK;
    }
    DK_TRY(dk_change_seal(core, change, err));
    dk_trace(core->world, "warning.sealed");
    return dk_store_commit(change->txn, err);
}

static dk_rc warn_page(struct dk_core *core, const char *by, const struct page *page, bool *told,
                       struct dk_err *err)
{
    struct dk_txn txn;
    struct dk_change change;
    DK_TRY(dk_registry_begin(core, DK_TXN_WRITE, &txn, err));
    dk_change_init(&change, core, &txn);
    change.by = by;
    dk_rc rc = warn_in(core, &change, page, told, err);
    dk_change_clear(&change);
    dk_store_rollback(&txn);
    return rc;
}

/* A look without the write lock: nearly always all were told. */
static dk_rc any_untold(struct dk_core *core, const struct page *page, bool *out,
                        struct dk_err *err)
{
    struct dk_txn txn;
    dk_rc rc = DK_OK;
    *out = false;
    DK_TRY(dk_store_begin(&core->store, DK_TXN_READ, &txn, err));
    for (size_t i = 0; i < page->n && rc == DK_OK && !*out; i++) {
        bool told = false;
        rc = was_told(&txn, &page->rows[i], &told, err);
        *out = !told;
    }
    dk_store_rollback(&txn);
    return rc;
}

static void tell_page(struct dk_core *core, const struct page *page, const bool *told,
                      void (*each)(void *arg, const struct dk_key_row *row), void *arg)
{
    for (size_t i = 0; i < page->n; i++) {
        char expires[DK_TIME_TEXT];
        if (!told[i]) {
            continue;
        }
        dk_time_format(page->rows[i].expires_at, expires);
        DK_LOG(&core->log, WARN, "key_expires_soon", DK_LOG_S(TENANT, page->rows[i].tenant.s),
               DK_LOG_I(VERSION, page->rows[i].version), DK_LOG_S(EXPIRES_AT, expires),
               DK_LOG_S(REASON, "it goes on encrypting; `dekhand rotate --due` renews it"));
        if (each != NULL) {
            each(arg, &page->rows[i]);
        }
    }
}

static dk_rc look_at_pages(struct page *page, const char *by,
                           void (*each)(void *arg, const struct dk_key_row *row), void *arg,
                           struct dk_err *err)
{
    do {
        bool told[PAGE] = {false};
        bool untold = false;
        DK_TRY(read_page(page, err));
        DK_TRY(any_untold(page->core, page, &untold, err));
        if (untold) {
            DK_TRY(warn_page(page->core, by, page, told, err));
            tell_page(page->core, page, told, each, arg);
        }
    } while (page->more);
    return DK_OK;
}

dk_rc dk_warning_look(struct dk_core *core, const char *by,
                      void (*each)(void *arg, const struct dk_key_row *row), void *arg,
                      struct dk_err *err)
{
    DK_TRY(dk_audit_check(core, err));
    struct page *page = dk_mem_zalloc(&core->world->mem, sizeof *page);
    if (page == NULL) {
        return DK_FAIL(err, NOMEM, "no memory for a page of keys");
    }
    page->core = core;
    dk_rc rc = look_at_pages(page, by, each, arg, err);
    dk_mem_free(&core->world->mem, page);
    return rc;
}
