#include "keys/further.h"

#include <stdio.h>

#include "keys/audit.h"
#include "keys/keyring.h"
#include "keys/registry.h"
#include "keys/unwrap.h"

#define PAGE 64
#define LEASE "wraps"

/* Looking for what is missing reads an index of all keys: not at each poll where nothing was. */
#define IDLE_MS (INT64_C(600) * 1000)
#define TROUBLE_MS (INT64_C(60) * 1000)
#define AT_WORK INT64_C(-1)
/* No clock is that far ahead of another and right. */
#define AHEAD_US (INT64_C(3600) * 1000000)

/* ---- making ---------------------------------------------------------------------------------- */

void dk_further_made(struct dk_core *core, struct dk_provider *provider,
                     const struct dk_wrapped *wrapped, const char *timestamp,
                     struct dk_further *one)
{
    one->out.tenant = one->row->tenant;
    one->out.version = one->row->version;
    one->out.last_verified_at = dk_wall_us(core->world);
    dk_registry_wrap_columns(provider, wrapped, timestamp, &one->out.wrap);
}

static void fill_out(struct dk_core *core, struct dk_provider *provider, const char *now,
                     const struct dk_provider_item *item, struct dk_further *one)
{
    if (item->err.rc != DK_OK) {
        DK_LOG(&core->log, WARN, "second_wrap_failed",
               DK_LOG_S(PROVIDER, dk_provider_name(provider)), DK_LOG_S(TENANT, one->row->tenant.s),
               DK_LOG_I(VERSION, one->row->version),
               DK_LOG_S(CODE, dk_error_info(item->err.rc)->name));
        return;
    }
    dk_further_made(core, provider, item->wrapped, now, one);
}

void dk_further_wrap_new(struct dk_core *core, struct dk_further *list, size_t count)
{
    dk_further_wrap(core, core->second, list, count);
    for (size_t i = 0; i < count; i++) {
        if (list[i].out.version == 0) {
            atomic_store(&core->further_due_ms, 0); /* somebody has to make it up */
        }
    }
}

void dk_further_wrap(struct dk_core *core, struct dk_provider *provider, struct dk_further *list,
                     size_t count)
{
    const struct dk_mem *mem = &core->world->mem;
    struct dk_provider_item *items = dk_mem_alloc(mem, count * sizeof *items);
    struct dk_wrapped *wrapped = dk_mem_alloc(mem, count * sizeof *wrapped);
    char now[DK_TIME_TEXT];
    dk_time_format(dk_wall_us(core->world), now);
    for (size_t i = 0; i < count; i++) {
        list[i].out.version = 0;
    }
    if (items != NULL && wrapped != NULL) {
        for (size_t i = 0; i < count; i++) {
            items[i].context = (struct dk_wrap_context){dk_tenant_view(&list[i].row->tenant),
                                                        DK_PURPOSE_DATA, now};
            items[i].key = list[i].key;
            items[i].wrapped = &wrapped[i];
        }
        dk_provider_wrap_many(provider, items, count);
        for (size_t i = 0; i < count; i++) {
            fill_out(core, provider, now, &items[i], &list[i]);
        }
    }
    dk_mem_free(mem, items);
    dk_mem_free(mem, wrapped);
}

dk_rc dk_further_put(struct dk_core *core, struct dk_txn *txn, struct dk_wrap_row *row,
                     struct dk_err *err)
{
    if (row->version == 0) {
        return DK_OK;
    }
    DK_TRY(dk_registry_seal_wrap(core, NULL, row, err));
    return txn->ops->wrap_put(txn->self, row, err);
}

dk_rc dk_further_first(dk_rc first, dk_rc next, const struct dk_err *of_next, struct dk_err *err)
{
    if (first == DK_OK && next != DK_OK) {
        *err = *of_next;
    }
    return first != DK_OK ? first : next;
}

/* ---- what is missing ------------------------------------------------------------------------- */

enum finding { WRAP_OPENS, WRAP_DAMAGED, WRAP_NOT_TRIED };

struct page {
    struct dk_core *core;
    struct dk_key_row rows[PAGE];
    struct dk_unwrapping open[PAGE];
    struct dk_further made[PAGE];
    struct dk_wrap_row stale[PAGE];
    enum finding finding[PAGE];
    dk_rc rc[PAGE];     /* of `rows`: DK_OK = it was opened, and is to be written down */
    size_t whose[PAGE]; /* of `open`: which of the rows */
    size_t count;
    size_t seen; /* of `stale`, with those that nobody here opens */
    struct dk_key_cursor at;
    size_t found; /* by one tick, of all that is to be done */
    size_t done;
};

static dk_rc read_missing(struct page *page, const char *provider, struct dk_err *err)
{
    struct dk_txn txn;
    struct dk_key_page keys = {.after = page->at, .limit = PAGE, .rows = page->rows};
    page->count = 0;
    DK_TRY(dk_registry_begin(page->core, DK_TXN_READ, &txn, err));
    dk_rc rc = txn.ops->wraps_missing(txn.self, provider, &keys, err);
    dk_store_rollback(&txn);
    page->count = keys.count;
    if (rc == DK_OK && page->count > 0) {
        const struct dk_key_row *last = &page->rows[page->count - 1];
        page->at = (struct dk_key_cursor){last->tenant, last->version};
    }
    return rc;
}

/* From where the last one ended: what can never be done does not keep the others from it. */
static dk_rc read_on(struct page *page, const char *provider, struct dk_err *err)
{
    bool begun = page->at.version != 0;
    DK_TRY(read_missing(page, provider, err));
    if (page->count == 0 && begun) {
        page->at = (struct dk_key_cursor){.version = 0};
        return read_missing(page, provider, err);
    }
    return DK_OK;
}

/* Only believed rows; what they hold lies in memory until the wraps are made. */
static size_t open_page(struct page *page)
{
    struct dk_err ignored;
    size_t n = 0;
    for (size_t i = 0; i < page->count; i++) {
        dk_err_clear(&ignored);
        if (dk_registry_verify_key(page->core, NULL, &page->rows[i], &ignored) == DK_OK) {
            page->open[n++].row = &page->rows[i];
        }
    }
    dk_unwrap_many(page->core, page->open, n);
    size_t opened = 0;
    for (size_t i = 0; i < n; i++) {
        if (page->open[i].err.rc == DK_OK) {
            page->made[opened].row = page->open[i].row;
            page->made[opened++].key = page->open[i].key;
        }
    }
    return opened;
}

/* A version that was purged meanwhile gets none. */
static dk_rc put_one(struct page *page, struct dk_txn *txn, struct dk_wrap_row *row,
                     struct dk_err *err)
{
    struct dk_key_row now;
    if (row->version == 0) {
        return DK_OK;
    }
    DK_TRY(txn->ops->key_read(txn->self, &row->tenant, row->version, &now, err));
    return now.state == DK_PURGED ? DK_OK : dk_further_put(page->core, txn, row, err);
}

static size_t made_of(const struct page *page, size_t n)
{
    size_t made = 0;
    for (size_t i = 0; i < n; i++) {
        made += page->made[i].out.version != 0;
    }
    return made;
}

static dk_rc store_made(struct page *page, size_t n, struct dk_err *err)
{
    struct dk_txn txn;
    dk_rc rc = DK_OK;
    DK_TRY(dk_registry_begin(page->core, DK_TXN_WRITE, &txn, err));
    for (size_t i = 0; i < n && rc == DK_OK; i++) {
        rc = put_one(page, &txn, &page->made[i].out, err);
    }
    rc = rc == DK_OK ? dk_store_commit(&txn, err) : rc;
    dk_store_rollback(&txn);
    page->done += rc == DK_OK ? made_of(page, n) : 0;
    return rc;
}

/* What was opened is written down, as every unwrap is (I26). */
static dk_rc audit(struct page *page, size_t n, struct dk_err *err)
{
    for (size_t i = 0; i < page->count; i++) {
        page->rc[i] = DK_E_NOT_FOUND;
    }
    for (size_t k = 0; k < n; k++) {
        page->rc[page->made[k].row - page->rows] = DK_OK;
    }
    return dk_audit_unwraps(page->core, page->rows, page->rc, page->count, err);
}

static dk_rc make_missing(struct page *page, struct dk_provider *provider, struct dk_err *err)
{
    page->found += page->count;
    if (page->count == 0) {
        return DK_OK;
    }
    DK_TRY(dk_provider_test(provider, err)); /* no page of failures while it is away */
    size_t n = open_page(page);
    dk_rc rc = n > 0 ? audit(page, n, err) : DK_OK;
    if (rc == DK_OK && n > 0) {
        dk_further_wrap(page->core, provider, page->made, n);
    }
    for (size_t i = 0; i < n; i++) {
        dk_secret_free(page->core->arena, &page->made[i].key);
    }
    return rc == DK_OK && n > 0 ? store_made(page, n, err) : rc;
}

static dk_rc fill_all(struct page *page, struct dk_provider *provider, struct dk_err *err)
{
    page->at = (struct dk_key_cursor){.version = 0};
    do {
        DK_TRY(read_missing(page, dk_provider_name(provider), err));
        DK_TRY(make_missing(page, provider, err));
    } while (page->count == PAGE);
    return DK_OK;
}

dk_rc dk_further_fill(struct dk_core *core, struct dk_err *err)
{
    if (core->second == NULL) {
        return DK_OK;
    }
    struct page *page = dk_mem_zalloc(&core->world->mem, sizeof *page);
    if (page == NULL) {
        return DK_FAIL(err, NOMEM, "no memory to fill further wraps");
    }
    page->core = core;
    struct dk_err second;
    dk_err_clear(&second);
    dk_rc rc = fill_all(page, core->provider, err);
    dk_rc other = fill_all(page, core->second, &second);
    dk_mem_free(&core->world->mem, page);
    return dk_further_first(rc, other, &second, err);
}

/* ---- whether they still open ----------------------------------------------------------------- */

static bool note_stale(void *arg, const struct dk_wrap_row *row)
{
    struct page *page = arg;
    struct dk_wrap_cursor *at = &page->core->further_at.stale;
    *at = (struct dk_wrap_cursor){row->last_verified_at, row->tenant, row->version, ""};
    snprintf(at->provider, sizeof at->provider, "%s", row->wrap.provider);
    page->seen++;
    if (dk_unwrap_provider(page->core, row->wrap.provider) != NULL) {
        page->stale[page->count++] = *row;
    }
    return true;
}

static dk_rc walk_stale(struct page *page, struct dk_txn *txn, struct dk_err *err)
{
    struct dk_further_at *at = &page->core->further_at;
    int64_t now = dk_wall_us(page->core->world);
    const struct dk_stale stale = {.before_us = now - page->core->limits.canary_us,
                                   .beyond_us = now + AHEAD_US,
                                   .after = at->stale,
                                   .limit = PAGE};
    page->count = page->seen = 0;
    DK_TRY(txn->ops->wraps_stale(txn->self, &stale, note_stale, page, err));
    if (page->seen < PAGE) {
        at->stale = (struct dk_wrap_cursor){.verified_at = DK_TIME_NONE};
    }
    return DK_OK;
}

static dk_rc read_stale(struct page *page, struct dk_err *err)
{
    struct dk_txn txn;
    bool begun = page->core->further_at.stale.verified_at != DK_TIME_NONE;
    DK_TRY(dk_registry_begin(page->core, DK_TXN_READ, &txn, err));
    dk_rc rc = walk_stale(page, &txn, err);
    rc = rc == DK_OK && page->seen == 0 && begun ? walk_stale(page, &txn, err) : rc;
    for (size_t i = 0; i < page->count && rc == DK_OK; i++) {
        struct dk_wrap_row *stale = &page->stale[i];
        page->finding[i] = WRAP_OPENS;
        rc = txn.ops->key_read(txn.self, &stale->tenant, stale->version, &page->rows[i], err);
        if (rc == DK_E_NOT_FOUND || rc == DK_E_TAMPERED) {
            /* Somebody deleted or damaged the row: what is left of it stays. */
            dk_err_clear(err);
            page->finding[i] = WRAP_NOT_TRIED;
            rc = DK_OK;
        }
    }
    dk_store_rollback(&txn);
    return rc;
}

/* Those of the page that are to be asked for, by the wrap that `first` says; how many. */
static size_t choose_tries(struct page *page, enum finding which, bool first)
{
    size_t n = 0;
    for (size_t i = 0; i < page->count; i++) {
        if (page->finding[i] == which && (first || page->rc[i] == DK_OK)) {
            page->open[n].row = &page->rows[i];
            page->open[n].wrap = first ? &page->rows[i].wrap : &page->stale[i].wrap;
            page->whose[n++] = i;
        }
    }
    dk_unwrap_try_many(page->core, page->open, n);
    return n;
}

static void tell_broken(struct page *page, size_t i, const struct dk_err *err)
{
    const struct dk_wrap_row *stale = &page->stale[i];
    bool damaged = err->rc == DK_E_TAMPERED || err->rc == DK_E_AUTH || err->rc == DK_E_FORMAT;
    page->finding[i] = damaged ? WRAP_DAMAGED : WRAP_NOT_TRIED;
    page->rc[i] = DK_E_NOT_FOUND;
    DK_LOG(&page->core->log, ERROR, "second_wrap_does_not_open", DK_LOG_S(TENANT, stale->tenant.s),
           DK_LOG_I(VERSION, stale->version), DK_LOG_S(PROVIDER, stale->wrap.provider),
           DK_LOG_S(CODE, dk_error_info(err->rc)->name), DK_LOG_S(REASON, err->text));
}

/* Only believed rows: what is wrong with those is told by audit verify. */
static void judge_stale(struct page *page)
{
    struct dk_core *core = page->core;
    struct dk_err err;
    for (size_t i = 0; i < page->count; i++) {
        dk_err_clear(&err);
        page->rc[i] = DK_OK;
        if (page->finding[i] == WRAP_NOT_TRIED ||
            dk_registry_verify_key(core, NULL, &page->rows[i], &err) != DK_OK) {
            page->finding[i] = WRAP_NOT_TRIED;
            page->rc[i] = DK_E_NOT_FOUND;
        } else if (dk_registry_verify_wrap(core, NULL, &page->stale[i], &err) != DK_OK) {
            tell_broken(page, i, &err);
        }
    }
}

/* A wrap is given up only where the first one was just opened: it may be all that is left. */
static void try_stale(struct page *page)
{
    judge_stale(page);
    size_t n = choose_tries(page, WRAP_OPENS, false);
    for (size_t k = 0; k < n; k++) {
        if (page->open[k].err.rc != DK_OK) {
            tell_broken(page, page->whose[k], &page->open[k].err);
        }
    }
    n = choose_tries(page, WRAP_DAMAGED, true);
    for (size_t k = 0; k < n; k++) {
        size_t i = page->whose[k];
        page->rc[i] = page->open[k].err.rc;
        page->finding[i] = page->rc[i] == DK_OK ? WRAP_DAMAGED : WRAP_NOT_TRIED;
    }
}

struct same {
    const struct dk_wrap_row *row;
    bool there;
};

static bool note_same(void *arg, const struct dk_wrap_row *row)
{
    struct same *same = arg;
    same->there = same->there ||
                  (strcmp(row->wrap.provider, same->row->wrap.provider) == 0 &&
                   strcmp(row->wrap.encrypted_data_key, same->row->wrap.encrypted_data_key) == 0 &&
                   strcmp(row->row_mac, same->row->row_mac) == 0);
    return true;
}

/* Only the wrap that was tried: what somebody made meanwhile is another's. What does not open goes,
   and is made again from the first wrap. */
static dk_rc settle_wrap(struct page *page, struct dk_txn *txn, size_t i, struct dk_err *err)
{
    struct dk_wrap_row *row = &page->stale[i];
    struct same same = {row, false};
    struct dk_err ignored;
    dk_err_clear(&ignored);
    DK_TRY(txn->ops->wraps_of(txn->self, &row->tenant, row->version, note_same, &same, err));
    if (!same.there || page->finding[i] == WRAP_NOT_TRIED) {
        return DK_OK;
    }
    if (page->finding[i] == WRAP_DAMAGED) {
        return txn->ops->wrap_drop(txn->self, &row->tenant, row->version, row->wrap.provider, err);
    }
    row->last_verified_at = dk_wall_us(page->core->world);
    return dk_registry_verify_wrap(page->core, NULL, row, &ignored) == DK_OK
               ? put_one(page, txn, row, err)
               : DK_OK;
}

static dk_rc settle_page(struct page *page, struct dk_err *err)
{
    struct dk_txn txn;
    DK_TRY(dk_registry_begin(page->core, DK_TXN_WRITE, &txn, err));
    dk_rc rc = DK_OK;
    for (size_t i = 0; i < page->count && rc == DK_OK; i++) {
        rc = settle_wrap(page, &txn, i, err);
    }
    rc = rc == DK_OK ? dk_store_commit(&txn, err) : rc;
    dk_store_rollback(&txn);
    return rc;
}

static dk_rc verify_stale(struct page *page, struct dk_err *err)
{
    bool any = false;
    DK_TRY(read_stale(page, err));
    try_stale(page);
    for (size_t i = 0; i < page->count; i++) {
        any = any || page->finding[i] != WRAP_NOT_TRIED;
    }
    bool full = page->seen == PAGE; /* there may be more; at once, unless nobody opens anything */
    page->found += full ? PAGE : 0;
    if (!any) {
        return DK_OK;
    }
    DK_TRY(dk_audit_unwraps(page->core, page->rows, page->rc, page->count, err));
    DK_TRY(settle_page(page, err));
    page->done += full ? PAGE : 0;
    return DK_OK;
}

/* ---- the tick -------------------------------------------------------------------------------- */

static dk_rc take_turn(struct dk_core *core, bool *held, struct dk_err *err)
{
    struct dk_txn txn;
    char node[DK_ACTOR_MAX + 1];
    *held = true;
    if (core->store.ops->lease == NULL) {
        return DK_OK;
    }
    dk_audit_node(core, node);
    DK_TRY(dk_registry_begin(core, DK_TXN_SEAL, &txn, err));
    dk_rc rc = txn.ops->lease(txn.self, LEASE, node, 3 * core->limits.poll_ms, held, err);
    rc = rc == DK_OK && *held ? dk_store_commit(&txn, err) : rc;
    dk_store_rollback(&txn);
    return rc;
}

/* A page that is full is followed by the next one; after the last one it begins anew. */
static dk_rc make_some(struct page *page, struct dk_provider *provider, struct dk_key_cursor *at,
                       struct dk_err *err)
{
    page->at = *at;
    DK_TRY(read_on(page, dk_provider_name(provider), err));
    *at = page->count == PAGE ? page->at : (struct dk_key_cursor){.version = 0};
    return make_missing(page, provider, err);
}

/* Each part for itself: what one of them cannot do keeps no other from its work. */
static dk_rc work(struct page *page, struct dk_err *err)
{
    struct dk_core *core = page->core;
    struct dk_further_at *at = &core->further_at;
    bool held = false;
    DK_TRY(take_turn(core, &held, err));
    if (!held) {
        return DK_OK;
    }
    page->found += !dk_further_registry_tick(core);
    struct dk_provider *const both[2] = {core->provider, core->second};
    struct dk_err one;
    dk_rc rc = DK_OK;
    for (size_t i = 0; i < 2; i++) {
        dk_err_clear(&one);
        rc = dk_further_first(rc, dk_further_registry(core, both[i], &one), &one, err);
    }
    dk_err_clear(&one);
    rc = dk_further_first(rc, verify_stale(page, &one), &one, err); /* what it drops .. */
    for (size_t i = 0; i < 2; i++) {                                /* .. is made again at once */
        dk_err_clear(&one);
        rc = dk_further_first(rc, make_some(page, both[i], &at->missing[i], &one), &one, err);
    }
    return rc;
}

static void work_and_wait(struct page *page, int64_t now)
{
    struct dk_core *core = page->core;
    struct dk_err err;
    dk_err_clear(&err);
    if (!core->further_at.begun) {
        core->further_at.begun = true;
        core->further_at.stale.verified_at = DK_TIME_NONE;
    }
    /* What another thread makes due from here on stays so. */
    int64_t at_work = AT_WORK;
    atomic_store(&core->further_due_ms, at_work);
    dk_rc rc = work(page, &err);
    dk_trace(core->world, "further.worked");
    bool all = rc == DK_OK && page->done == page->found;
    bool some = page->done > 0; /* then the next page may do as well */
    int64_t wait = some ? 0 : !all ? TROUBLE_MS : IDLE_MS;
    atomic_compare_exchange_strong(&core->further_due_ms, &at_work, now + wait);
    if (rc != DK_OK && rc != DK_E_BUSY && rc != DK_E_READ_ONLY) {
        DK_LOG(&core->log, WARN, "second_wraps_wait", DK_LOG_S(CODE, dk_error_info(rc)->name),
               DK_LOG_S(REASON, err.text));
    }
}

void dk_further_tick(struct dk_core *core)
{
    int64_t now = dk_mono_ms(core->world);
    if (core->second == NULL || now < atomic_load(&core->further_due_ms) ||
        atomic_exchange(&core->further_busy, true)) {
        return;
    }
    struct page *page = dk_mem_zalloc(&core->world->mem, sizeof *page);
    if (page != NULL) {
        page->core = core;
        work_and_wait(page, now);
    }
    dk_mem_free(&core->world->mem, page);
    atomic_store(&core->further_busy, false);
}
