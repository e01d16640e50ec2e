#include "keys/create.h"

#include <stdlib.h>
#include <string.h>

#include "keys/audit_state.h"
#include "keys/further.h"
#include "keys/keyring.h"
#include "keys/registry.h"
#include "keys/unwrap.h"

#define CLOCK_SLACK_US (INT64_C(300) * 1000000)

/* All of a row but its wrap; its context's time is that of its creation. */
static dk_rc begin_row(struct dk_core *core, const struct dk_tenant *tenant, uint32_t version,
                       int64_t rotation_days, struct dk_key_row *row, struct dk_err *err)
{
    *row = (struct dk_key_row){.tenant = *tenant,
                               .version = version,
                               .state = DK_ACTIVE,
                               .rotated_at = DK_TIME_NONE,
                               .compromised_at = DK_TIME_NONE,
                               .disabled_at = DK_TIME_NONE,
                               .purged_at = DK_TIME_NONE};
    row->created_at = dk_wall_us(core->world);
    row->expires_at = row->created_at +
                      (rotation_days > 0 ? rotation_days * DK_DAY_US : core->limits.rotation_us);
    dk_time_format(row->created_at, row->wrap.context_timestamp);
    return dk_uuid_new(core->world, row->id, err);
}

static struct dk_wrap_context context_of(const struct dk_key_row *row)
{
    return (struct dk_wrap_context){dk_tenant_view(&row->tenant), DK_PURPOSE_DATA,
                                    row->wrap.context_timestamp};
}

dk_rc dk_create_row(struct dk_core *core, const struct dk_tenant *tenant, uint32_t version,
                    int64_t rotation_days, struct dk_key_row *out, struct dk_wrap_row *further,
                    struct dk_err *err)
{
    struct dk_secret key = {0};
    struct dk_wrapped wrapped;
    DK_TRY(begin_row(core, tenant, version, rotation_days, out, err));
    struct dk_wrap_context context = context_of(out);
    DK_TRY(dk_provider_generate(core->provider, &context, &key, &wrapped, out->check_value, err));
    char timestamp[DK_TIME_TEXT];
    memcpy(timestamp, out->wrap.context_timestamp, sizeof timestamp);
    dk_registry_wrap_columns(core->provider, &wrapped, timestamp, &out->wrap);
    further->version = 0;
    if (core->second != NULL) {
        struct dk_further second = {.row = out, .key = key};
        dk_further_wrap_new(core, &second, 1);
        *further = second.out;
    }
    dk_secret_free(core->arena, &key); /* it is used only after it was read back and unwrapped */
    return DK_OK;
}

dk_rc dk_create_check_clock(const struct dk_core *core, const struct dk_key_row *row,
                            struct dk_err *err)
{
    int64_t age = dk_wall_us(core->world) - row->created_at;
    if (age > CLOCK_SLACK_US || age < -CLOCK_SLACK_US) {
        return DK_FAIL(err, CLOCK, "the clock went %lld s while a key was being made",
                       (long long)(age / 1000000));
    }
    return DK_OK;
}

bool dk_create_at_hand(const struct dk_core *core)
{
    return core->store.ops->streams &&
           (dk_provider_caps(core->provider) & DK_PROVIDER_AT_HAND) != 0 &&
           (core->second == NULL || (dk_provider_caps(core->second) & DK_PROVIDER_AT_HAND) != 0);
}

/* ---- first versions -------------------------------------------------------------------------- */

/* What one tenant's first version stores. */
struct first_rows {
    struct dk_key_row key;
    struct dk_tenant_row tenant;
    struct dk_log_row log;
    struct dk_wrap_row further; /* version 0: none */
};

struct wanted {
    const struct dk_tenant *name;
    dk_rc *rc; /* its answer */
};

struct batch {
    struct dk_core *core;
    struct wanted *wanted; /* in the order of their names */
    size_t count;
    bool at_hand;            /* keys are made when they are stored; else all of them before */
    struct first_rows *rows; /* of those that got a key, `good` of them */
    struct dk_first *firsts;
    size_t good;
};

/* The tenant's row and its first log row, each with what ties it to the other. */
static dk_rc prepare_first(struct dk_core *core, struct first_rows *rows, struct dk_err *err)
{
    struct dk_key_row *key = &rows->key;
    rows->tenant = (struct dk_tenant_row){.tenant = key->tenant, .next_version = 2, .epoch = 1};
    DK_TRY(dk_create_check_clock(core, key, err));
    DK_TRY(dk_registry_seal_key(core, NULL, key, err)); /* here, where the registry's key stays */
    DK_TRY(dk_audit_row(core, NULL, key->tenant.s, "create", &rows->log, err));
    rows->log.to_version = key->version;
    rows->log.detail = key->wrap.kms_key_id;
    DK_TRY(dk_audit_first_digest(core, key, rows->tenant.keys_digest, err));
    DK_TRY(dk_audit_chain(core, &rows->tenant, &rows->log, err));
    return dk_registry_seal_tenant(core, NULL, &rows->tenant, err);
}

/* At hand: the key too is made while earlier ones are being stored. */
static dk_rc make_first(void *arg, size_t i, struct dk_err *err)
{
    struct batch *batch = arg;
    struct first_rows *rows = &batch->rows[i];
    if (batch->at_hand) {
        DK_TRY(dk_create_row(batch->core, batch->wanted[i].name, 1, 0, &rows->key, &rows->further,
                             err));
        dk_trace(batch->core->world, "first_use.generated");
    }
    DK_TRY(prepare_first(batch->core, rows, err));
    batch->firsts[i] = (struct dk_first){&rows->tenant, &rows->key, &rows->log, false, false};
    return DK_OK;
}

/* One that was there already has its key: of another process, which was first. */
static dk_rc note_inserted(struct dk_change *change, const struct dk_first *first,
                           struct dk_err *err)
{
    if (first->orphans) {
        return DK_FAIL(err, TAMPERED,
                       "tenant %s has key rows but no tenant row: it is not a new tenant",
                       first->tenant->tenant.s);
    }
    return first->inserted ? dk_audit_add_head(change, first->tenant, err) : DK_OK;
}

static dk_rc insert_in(struct dk_change *change, struct batch *batch, struct dk_err *err)
{
    struct dk_txn *txn = change->txn;
    DK_TRY(txn->ops->insert_first(txn->self, batch->firsts, batch->good, make_first, batch, err));
    for (size_t i = 0; i < batch->good; i++) {
        DK_TRY(note_inserted(change, &batch->firsts[i], err));
        if (batch->firsts[i].inserted) {
            DK_TRY(dk_further_put(batch->core, txn, &batch->rows[i].further, err));
        }
    }
    if (change->n > 0) {
        DK_TRY(dk_change_seal(batch->core, change, err));
    }
    dk_trace(batch->core->world, "first_use.before_commit");
    return dk_store_commit(txn, err);
}

static dk_rc insert_batch(struct batch *batch, struct dk_err *err)
{
    struct dk_core *core = batch->core;
    struct dk_txn txn;
    struct dk_change change;
    DK_TRY(dk_registry_begin(core, DK_TXN_WRITE, &txn, err));
    dk_change_init(&change, core, &txn);
    dk_rc all = insert_in(&change, batch, err);
    dk_change_clear(&change);
    dk_store_rollback(&txn);
    if (all == DK_OK) {
        dk_trace(core->world, "first_use.committed");
    }
    return all;
}

static int compare_names(const void *a, const void *b)
{
    const struct wanted *x = a, *y = b;
    return strcmp(x->name->s, y->name->s);
}

/* The keys of one call of the provider: `n` wanted ones from number `from` on. */
struct making {
    size_t from;
    size_t n;
    struct dk_provider_item *items;
    struct dk_wrapped *wrapped;
    struct dk_further *further; /* of those that got a key; NULL: there is no second provider */
    size_t first;               /* number of the first of them among the batch's rows */
    size_t made;
};

static void begin_rows(struct batch *batch, struct making *making, struct dk_err *err)
{
    size_t n = 0;
    for (size_t i = 0; i < making->n; i++) {
        const struct wanted *wanted = &batch->wanted[making->from + i];
        struct dk_key_row *row = &batch->rows[batch->good + n].key;
        *wanted->rc = begin_row(batch->core, wanted->name, 1, 0, row, err);
        if (*wanted->rc == DK_OK) {
            making->items[n].context = context_of(row);
            making->items[n].wrapped = &making->wrapped[n];
            n++;
        }
    }
    dk_provider_generate_many(batch->core->provider, making->items, n);
}

static void take_row(struct batch *batch, struct making *making, const struct dk_key_row *row,
                     struct dk_secret *key)
{
    struct first_rows *rows = &batch->rows[batch->good++];
    rows->key = *row;
    rows->further.version = 0;
    if (making->further != NULL) {
        making->further[making->made++] = (struct dk_further){.row = &rows->key, .key = *key};
    } else {
        dk_secret_free(batch->core->arena, key);
    }
}

/* The second provider's wraps of the same keys, which go then. */
static void wrap_further(struct batch *batch, struct making *making)
{
    struct dk_core *core = batch->core;
    if (making->made > 0) {
        dk_further_wrap_new(core, making->further, making->made);
    }
    for (size_t i = 0; i < making->made; i++) {
        batch->rows[making->first + i].further = making->further[i].out;
        dk_secret_free(core->arena, &making->further[i].key);
    }
}

/* Those that got a key move up to where the others are not. */
static void finish_rows(struct batch *batch, struct making *making, struct dk_err *err)
{
    size_t n = 0, base = batch->good;
    making->first = base;
    making->made = 0;
    for (size_t i = 0; i < making->n; i++) {
        const struct wanted *wanted = &batch->wanted[making->from + i];
        if (*wanted->rc != DK_OK) {
            continue;
        }
        struct dk_provider_item *item = &making->items[n];
        struct dk_key_row *row = &batch->rows[base + n].key;
        *wanted->rc = item->err.rc;
        if (item->err.rc == DK_OK) {
            char timestamp[DK_TIME_TEXT];
            memcpy(timestamp, row->wrap.context_timestamp, sizeof timestamp);
            memcpy(row->check_value, item->check_value, sizeof row->check_value);
            dk_registry_wrap_columns(batch->core->provider, item->wrapped, timestamp, &row->wrap);
            take_row(batch, making, row, &item->key);
        } else {
            *err = item->err;
        }
        n++;
    }
}

/* Before any transaction, as a provider may be slow. Those that get no key are left out. */
static dk_rc generate_all(struct batch *batch, struct dk_err *err)
{
    const struct dk_mem *mem = &batch->core->world->mem;
    size_t most = batch->count < DK_UNWRAP_MOST ? batch->count : DK_UNWRAP_MOST;
    struct making making = {.items = dk_mem_alloc(mem, most * sizeof *making.items),
                            .wrapped = dk_mem_alloc(mem, most * sizeof *making.wrapped)};
    bool second = batch->core->second != NULL;
    making.further = second ? dk_mem_alloc(mem, most * sizeof *making.further) : NULL;
    bool room =
        making.items != NULL && making.wrapped != NULL && (!second || making.further != NULL);
    for (; room && making.from < batch->count; making.from += making.n) {
        size_t left = batch->count - making.from;
        making.n = left < most ? left : most;
        begin_rows(batch, &making, err);
        finish_rows(batch, &making, err);
        wrap_further(batch, &making);
    }
    dk_mem_free(mem, making.further);
    dk_mem_free(mem, making.items);
    dk_mem_free(mem, making.wrapped);
    return room ? DK_OK : DK_FAIL(err, NOMEM, "no memory to make %zu keys", batch->count);
}

static void generate_later(struct batch *batch)
{
    for (size_t i = 0; i < batch->count; i++) {
        *batch->wanted[i].rc = DK_OK;
    }
    batch->good = batch->count;
}

static dk_rc create_all(struct batch *batch, struct dk_err *err)
{
    struct dk_err of_all;
    qsort(batch->wanted, batch->count, sizeof batch->wanted[0], compare_names);
    dk_trace(batch->core->world, "first_use.begin");
    if (batch->at_hand) {
        generate_later(batch);
    } else {
        DK_TRY(generate_all(batch, err));
        dk_trace(batch->core->world, "first_use.generated");
    }
    dk_err_clear(&of_all);
    dk_rc all = batch->good > 0 ? insert_batch(batch, &of_all) : DK_OK;
    if (all != DK_OK) {
        *err = of_all;
    }
    return all;
}

dk_rc dk_create_first(struct dk_core *core, const struct dk_tenant *const *tenants, size_t count,
                      dk_rc *rc, struct dk_err *err)
{
    const struct dk_mem *mem = &core->world->mem;
    struct batch batch = {.core = core,
                          .wanted = dk_mem_alloc(mem, count * sizeof *batch.wanted),
                          .count = count,
                          .at_hand = dk_create_at_hand(core),
                          .rows = dk_mem_alloc(mem, count * sizeof *batch.rows),
                          .firsts = dk_mem_alloc(mem, count * sizeof *batch.firsts)};
    bool room = batch.wanted != NULL && batch.rows != NULL && batch.firsts != NULL;
    for (size_t i = 0; i < count && room; i++) {
        batch.wanted[i] = (struct wanted){tenants[i], &rc[i]};
    }
    dk_rc all =
        room ? create_all(&batch, err) : DK_FAIL(err, NOMEM, "no memory for %zu new keys", count);
    dk_mem_free(mem, batch.wanted);
    dk_mem_free(mem, batch.rows);
    dk_mem_free(mem, batch.firsts);
    return all;
}
