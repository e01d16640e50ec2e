#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include <sqlite3.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "keys/states.h"
#include "support/pg.h"
#include "support/world.h"

static struct dk_err err;

/* ---- the stores, each in a folder of its own
 * ----------------------------------------------------- */

/*
 * Every store there is runs the suite; files and rights are those of the first. The second one goes
 * through a pool where DEKHAND_TEST_STORE says so.
 */
enum { SQLITE, POSTGRES, STORES };
#define MANY 300

struct shop {
    struct dk_place place;
    struct dk_store store;
    unsigned made; /* keys so far: ids and check values differ */
};

static void shop_new(struct shop *shop, size_t which)
{
    memset(shop, 0, sizeof *shop);
    dk_place_bare_on(&shop->place,
                     which == SQLITE                ? DK_SQLITE
                     : dk_test_store() == DK_POOLED ? DK_POOLED
                                                    : DK_POSTGRES,
                     false);
    DK_TEST_OK(err, dk_store_open(&shop->place.w.world, shop->place.opens, &shop->store, &err));
}

static void shop_open(struct shop *shop, size_t which)
{
    shop_new(shop, which);
    DK_TEST_OK(err, shop->store.ops->migrate(shop->store.self, &err));
}

static void shop_close(struct shop *shop)
{
    dk_store_close(&shop->store);
    dk_place_free(&shop->place);
    assert_int_equal(shop->place.w.live, 0);
}

static struct dk_txn begin(struct shop *shop, enum dk_txn_mode mode)
{
    struct dk_txn txn;
    DK_TEST_OK(err, dk_store_begin(&shop->store, mode, &txn, &err));
    return txn;
}

static void commit(struct dk_txn *txn)
{
    DK_TEST_OK(err, dk_store_commit(txn, &err));
    dk_store_rollback(txn); /* allowed, does nothing */
}

static struct dk_tenant tenant_of(const char *name)
{
    struct dk_tenant tenant;
    DK_TEST_OK(err, dk_tenant_parse(dk_view_str(name), &tenant, &err));
    return tenant;
}

static struct dk_tenant_row tenant_row(const char *name)
{
    return (struct dk_tenant_row){.tenant = tenant_of(name),
                                  .next_version = 2,
                                  .epoch = 1,
                                  .row_mac = "a MAC the store does not look at"};
}

static struct dk_key_row key_row(struct shop *shop, const char *name, uint32_t version,
                                 enum dk_state state)
{
    struct dk_key_row row = {
        .tenant = tenant_of(name),
        .version = version,
        .state = state,
        .wrap = {"local", "local:1", "d3JhcA==", "2026-01-01T00:00:00.000000Z"},
        .created_at = shop->place.w.wall_us,
        .expires_at = shop->place.w.wall_us + 90 * DK_DAY_US,
        .rotated_at = DK_TIME_NONE,
        .compromised_at = DK_TIME_NONE,
        .disabled_at = DK_TIME_NONE,
        .purged_at = DK_TIME_NONE,
        .row_mac = "another MAC"};
    unsigned n = ++shop->made;
    snprintf(row.id, sizeof row.id, "00000000-0000-4000-8000-%012u", n);
    dk_put_u32(row.check_value, n);
    if (state == DK_PURGED) {
        row.purged_at = shop->place.w.wall_us;
        row.wrap.encrypted_data_key[0] = '\0';
    }
    return row;
}

/* Stores a key as if it had lived to that state. */
static struct dk_key_row put_key(struct shop *shop, const char *name, uint32_t version,
                                 enum dk_state state)
{
    struct dk_key_row row = key_row(shop, name, version, state);
    struct dk_txn txn = begin(shop, DK_TXN_WRITE);
    bool inserted = false;
    DK_TEST_OK(err, txn.ops->key_insert(txn.self, &row, &inserted, &err));
    assert_true(inserted);
    commit(&txn);
    return row;
}

/* The row alone, which nothing of ours would leave alone. */
static void put_tenant(struct shop *shop, const char *name)
{
    struct dk_tenant_row row = tenant_row(name);
    char sql[256];
    snprintf(sql, sizeof sql,
             "INSERT INTO tenants (tenant_id, next_version, epoch, row_mac, changed_xid) VALUES "
             "('%s', 2, 1, '%s', '1')",
             name, row.row_mac);
    assert_int_equal(dk_place_sql(&shop->place, sql), 0);
}

/* True: it was not there. */
static bool put_first(struct shop *shop, struct dk_txn *txn, const struct dk_tenant_row *row)
{
    struct dk_key_row key = key_row(shop, row->tenant.s, 1, DK_ACTIVE);
    struct dk_log_row log = {.operation = "create",
                             .to_version = 1,
                             .success = true,
                             .performed_at = shop->place.w.wall_us,
                             .detail = ""};
    struct dk_first first = {.tenant = row, .key = &key, .log = &log};
    memcpy(log.id, key.id, sizeof log.id);
    memcpy(log.tenant, row->tenant.s, sizeof log.tenant);
    DK_TEST_OK(err, txn->ops->insert_first(txn->self, &first, 1, NULL, NULL, &err));
    return first.inserted;
}

static struct dk_key_row get_key(struct shop *shop, const char *name, uint32_t version)
{
    struct dk_tenant tenant = tenant_of(name);
    struct dk_key_row row;
    struct dk_txn txn = begin(shop, DK_TXN_READ);
    DK_TEST_OK(err, txn.ops->key_read(txn.self, &tenant, version, &row, &err));
    dk_store_rollback(&txn);
    return row;
}

/* ---- the registry row
 * ---------------------------------------------------------------------------- */

static void a_new_store_exists_once_it_is_migrated(void **state)
{
    (void)state;
    for (size_t i = 0; i < STORES; i++) {
        struct shop shop;
        bool exists = true;
        struct dk_txn txn;
        shop_new(&shop, i);
        DK_TEST_OK(err, shop.store.ops->exists(shop.store.self, &exists, &err));
        assert_false(exists);
        DK_TEST_FAILS(err, CONFIG, dk_store_begin(&shop.store, DK_TXN_READ, &txn, &err));
        DK_TEST_SAYS(err, "dekhand init");
        for (int k = 0; k < 3; k++) { /* repeatable */
            DK_TEST_OK(err, shop.store.ops->migrate(shop.store.self, &err));
        }
        DK_TEST_OK(err, shop.store.ops->exists(shop.store.self, &exists, &err));
        assert_true(exists);
        txn = begin(&shop, DK_TXN_READ);
        dk_store_rollback(&txn);
        shop_close(&shop);
    }
}

static void the_registry_key_is_filled_once(void **state)
{
    (void)state;
    for (size_t i = 0; i < STORES; i++) {
        struct shop shop;
        struct dk_registry_row row;
        struct dk_wrap_columns wrap = {"local", "local:1",
                                       "Zmlyc3Q=", "2026-01-01T00:00:00.000000Z"};
        struct dk_wrap_columns other = {"local", "local:2", "c2Vjb25k",
                                        "2026-01-02T00:00:00.000000Z"};
        bool filled = false;
        shop_open(&shop, i);
        struct dk_txn txn = begin(&shop, DK_TXN_WRITE);
        DK_TEST_OK(err, txn.ops->registry_read(txn.self, &row, &err));
        assert_int_equal(strlen(row.uuid), 36);
        assert_int_equal(row.created_at, shop.place.w.wall_us);
        assert_string_equal(row.wrap.provider, "");
        DK_TEST_OK(err, txn.ops->registry_fill(txn.self, &wrap, &filled, &err));
        assert_true(filled);
        DK_TEST_OK(err, txn.ops->registry_fill(txn.self, &other, &filled, &err));
        assert_false(filled);
        commit(&txn);
        txn = begin(&shop, DK_TXN_WRITE);
        DK_TEST_OK(err, txn.ops->registry_fill(txn.self, &other, &filled, &err));
        assert_false(filled);
        DK_TEST_OK(err, txn.ops->registry_read(txn.self, &row, &err));
        assert_string_equal(row.wrap.encrypted_data_key, "Zmlyc3Q=");
        assert_string_equal(row.wrap.kms_key_id, "local:1");
        assert_string_equal(row.wrap.context_timestamp, wrap.context_timestamp);
        commit(&txn);
        shop_close(&shop);
    }
}

struct kept {
    size_t n;
    struct dk_registry_key_row row;
};

static bool note_kept(void *arg, const struct dk_registry_key_row *row)
{
    struct kept *kept = arg;
    kept->n++;
    kept->row = *row;
    return true;
}

static void R3_a_registry_key_gives_way_to_the_next_and_is_kept(void **state)
{
    (void)state;
    for (size_t i = 0; i < STORES; i++) {
        struct shop shop;
        struct dk_registry_row row;
        struct kept kept = {.n = 0};
        struct dk_wrap_columns first = {"local", "local:1",
                                        "Zmlyc3Q=", "2026-01-01T00:00:00.000000Z"};
        struct dk_wrap_columns second = {"local", "local:2", "c2Vjb25k",
                                         "2026-01-02T00:00:00.000000Z"};
        struct dk_registry_key_row earlier = {.generation = 1, .wrap = first, .last_seal = 7};
        bool filled = false;
        shop_open(&shop, i);
        struct dk_txn txn = begin(&shop, DK_TXN_WRITE);
        DK_TEST_OK(err, txn.ops->registry_fill(txn.self, &first, &filled, &err));
        DK_TEST_FAILS(err, CONFLICT, txn.ops->registry_rekeyed(txn.self, 1, &err));
        dk_store_rollback(&txn);
        txn = begin(&shop, DK_TXN_WRITE);
        DK_TEST_OK(err, txn.ops->registry_fill(txn.self, &first, &filled, &err));
        DK_TEST_OK(err, txn.ops->registry_rekey(txn.self, &earlier, &second, &err));
        commit(&txn);
        txn = begin(&shop, DK_TXN_WRITE);
        DK_TEST_OK(err, txn.ops->registry_read(txn.self, &row, &err));
        assert_int_equal(row.generation, 2);
        assert_true(row.rekeying);
        assert_string_equal(row.wrap.encrypted_data_key, "c2Vjb25k");
        DK_TEST_OK(err, txn.ops->registry_keys(txn.self, 1, note_kept, &kept, &err));
        assert_int_equal(kept.n, 1);
        assert_int_equal(kept.row.last_seal, 7);
        assert_string_equal(kept.row.wrap.provider, first.provider);
        assert_string_equal(kept.row.wrap.kms_key_id, first.kms_key_id);
        assert_string_equal(kept.row.wrap.encrypted_data_key, first.encrypted_data_key);
        assert_string_equal(kept.row.wrap.context_timestamp, first.context_timestamp);
        DK_TEST_OK(err, txn.ops->registry_keys(txn.self, 2, note_kept, &kept, &err));
        assert_int_equal(kept.n, 1);
        DK_TEST_OK(err, txn.ops->registry_rekeyed(txn.self, 2, &err));
        commit(&txn);
        txn = begin(&shop, DK_TXN_WRITE); /* a key that is not the one in use gives no way */
        DK_TEST_FAILS(err, STORE, txn.ops->registry_rekey(txn.self, &earlier, &second, &err));
        dk_store_rollback(&txn);
        shop_close(&shop);
    }
}

/* ---- tenants
 * ------------------------------------------------------------------------------------- */

static void a_tenant_is_inserted_where_it_is_absent(void **state)
{
    (void)state;
    for (size_t i = 0; i < STORES; i++) {
        struct shop shop;
        struct dk_tenant_row row = tenant_row("acme"), again, got, untouched;
        struct dk_tenant other = tenant_of("Acme");
        bool changed = false;
        shop_open(&shop, i);
        struct dk_txn txn = begin(&shop, DK_TXN_WRITE);
        assert_true(put_first(&shop, &txn, &row));
        again = row;
        snprintf(again.row_mac, sizeof again.row_mac, "of the second");
        assert_false(put_first(&shop, &txn, &again));
        commit(&txn);
        txn = begin(&shop, DK_TXN_WRITE);
        DK_TEST_OK(err, txn.ops->tenant_read(txn.self, &row.tenant, &got, &err));
        assert_int_equal(got.next_version, 2);
        assert_int_equal(got.epoch, 1);
        assert_int_equal(got.rotation_days, 0);
        got.epoch = 2;
        got.rotation_days = 30;
        DK_TEST_OK(err, txn.ops->tenant_update(txn.self, &got, 1, &changed, &err));
        assert_true(changed);
        commit(&txn);
        txn = begin(&shop, DK_TXN_READ);
        DK_TEST_OK(err, txn.ops->tenant_read(txn.self, &row.tenant, &got, &err));
        assert_int_equal(got.epoch, 2);
        assert_int_equal(got.rotation_days, 30);
        assert_string_equal(got.row_mac, row.row_mac);
        memset(&got, 0x5A, sizeof got);
        untouched = got;
        DK_TEST_FAILS(err, NOT_FOUND, txn.ops->tenant_read(txn.self, &other, &got, &err));
        assert_memory_equal(&got, &untouched, sizeof got);
        dk_store_rollback(&txn);
        shop_close(&shop);
    }
}

static void I05_a_tenant_changes_only_from_the_epoch_that_was_read(void **state)
{
    (void)state;
    for (size_t i = 0; i < STORES; i++) {
        struct shop shop;
        struct dk_tenant_row row = tenant_row("acme"), got;
        bool changed = false;
        shop_open(&shop, i);
        put_tenant(&shop, "acme");
        row.next_version = 3;
        row.epoch = 2;
        for (int k = 0; k < 2; k++) { /* the second one comes too late */
            struct dk_txn txn = begin(&shop, DK_TXN_WRITE);
            DK_TEST_OK(err, txn.ops->tenant_update(txn.self, &row, 1, &changed, &err));
            assert_int_equal(changed, k == 0);
            commit(&txn);
        }
        struct dk_txn txn = begin(&shop, DK_TXN_WRITE);
        row.next_version = 2; /* versions and epochs only grow */
        row.epoch = 3;
        DK_TEST_FAILS(err, STORE, txn.ops->tenant_update(txn.self, &row, 2, &changed, &err));
        dk_store_rollback(&txn);
        txn = begin(&shop, DK_TXN_READ);
        DK_TEST_OK(err, txn.ops->tenant_read(txn.self, &row.tenant, &got, &err));
        assert_int_equal(got.next_version, 3);
        assert_int_equal(got.epoch, 2);
        dk_store_rollback(&txn);
        shop_close(&shop);
    }
}

static void macs_are_renewed_where_they_are_still_the_old_ones(void **state)
{
    (void)state;
    for (size_t i = 0; i < STORES; i++) {
        struct shop shop;
        struct dk_tenant_row row = tenant_row("acme"), got;
        char old[DK_MAC_TEXT];
        bool changed = false;
        shop_open(&shop, i);
        put_tenant(&shop, "acme");
        memcpy(old, row.row_mac, sizeof old);
        snprintf(row.row_mac, sizeof row.row_mac, "another");
        snprintf(row.keys_digest, sizeof row.keys_digest, "digest");
        for (int k = 0; k < 2; k++) {
            struct dk_txn txn = begin(&shop, DK_TXN_WRITE);
            DK_TEST_OK(err, txn.ops->tenant_remac(txn.self, &row, old, &changed, &err));
            assert_int_equal(changed, k == 0);
            commit(&txn);
        }
        struct dk_txn txn = begin(&shop, DK_TXN_READ);
        DK_TEST_OK(err, txn.ops->tenant_read(txn.self, &row.tenant, &got, &err));
        assert_string_equal(got.row_mac, "another");
        assert_string_equal(got.keys_digest, "digest");
        assert_int_equal(got.epoch, row.epoch);
        dk_store_rollback(&txn);
        shop_close(&shop);
    }
}

static void what_is_rolled_back_is_not_there(void **state)
{
    (void)state;
    for (size_t i = 0; i < STORES; i++) {
        struct shop shop;
        struct dk_tenant_row row = tenant_row("acme");
        struct dk_key_row key;
        bool inserted = false;
        shop_open(&shop, i);
        key = key_row(&shop, "acme", 2, DK_RETIRED);
        char *before = dk_place_dump(&shop.place, true);
        struct dk_txn txn = begin(&shop, DK_TXN_WRITE);
        assert_true(put_first(&shop, &txn, &row));
        DK_TEST_OK(err, txn.ops->key_insert(txn.self, &key, &inserted, &err));
        assert_true(inserted);
        dk_store_rollback(&txn);
        dk_store_rollback(&txn);
        assert_true(dk_place_unchanged(&shop.place, true, before));
        shop_close(&shop);
    }
}

/* ---- keys
 * ---------------------------------------------------------------------------------------- */

static void assert_same_row(const struct dk_key_row *a, const struct dk_key_row *b)
{
    assert_string_equal(a->id, b->id);
    assert_string_equal(a->tenant.s, b->tenant.s);
    assert_int_equal(a->version, b->version);
    assert_int_equal(a->state, b->state);
    assert_string_equal(a->wrap.provider, b->wrap.provider);
    assert_string_equal(a->wrap.kms_key_id, b->wrap.kms_key_id);
    assert_string_equal(a->wrap.encrypted_data_key, b->wrap.encrypted_data_key);
    assert_string_equal(a->wrap.context_timestamp, b->wrap.context_timestamp);
    assert_memory_equal(a->check_value, b->check_value, sizeof a->check_value);
    assert_int_equal(a->created_at, b->created_at);
    assert_int_equal(a->expires_at, b->expires_at);
    assert_int_equal(a->rotated_at, b->rotated_at);
    assert_int_equal(a->compromised_at, b->compromised_at);
    assert_int_equal(a->disabled_at, b->disabled_at);
    assert_int_equal(a->purged_at, b->purged_at);
    assert_int_equal(a->messages, b->messages);
    assert_string_equal(a->row_mac, b->row_mac);
}

static void a_key_row_comes_back_as_it_was_stored(void **state)
{
    (void)state;
    for (size_t i = 0; i < STORES; i++) {
        struct shop shop;
        shop_open(&shop, i);
        for (int s = 0; s < DK_STATE_COUNT; s++) {
            struct dk_key_row row = key_row(&shop, "acme", (uint32_t)s + 1, (enum dk_state)s);
            struct dk_txn txn = begin(&shop, DK_TXN_WRITE);
            bool inserted = false;
            row.rotated_at = s == 0 ? DK_TIME_NONE : 1;
            row.compromised_at = s == 1 ? -1 : DK_TIME_NONE;
            row.disabled_at = s == 2 ? INT64_C(4102444800000000) : DK_TIME_NONE;
            row.messages = s * INT64_C(1000000000000);
            memset(row.wrap.kms_key_id, 'k', sizeof row.wrap.kms_key_id - 1);
            if (s != DK_PURGED) {
                memset(row.wrap.encrypted_data_key, 'A', sizeof row.wrap.encrypted_data_key - 1);
            }
            DK_TEST_OK(err, txn.ops->key_insert(txn.self, &row, &inserted, &err));
            assert_true(inserted);
            commit(&txn);
            struct dk_key_row got = get_key(&shop, "acme", (uint32_t)s + 1);
            assert_same_row(&got, &row);
        }
        struct dk_tenant acme = tenant_of("acme"), none = tenant_of("globex");
        struct dk_key_row got;
        struct dk_txn txn = begin(&shop, DK_TXN_READ);
        DK_TEST_OK(err, txn.ops->key_read_active(txn.self, &acme, &got, &err));
        assert_int_equal(got.version, 1);
        DK_TEST_FAILS(err, NOT_FOUND, txn.ops->key_read_active(txn.self, &none, &got, &err));
        DK_TEST_FAILS(err, NOT_FOUND, txn.ops->key_read(txn.self, &acme, 5, &got, &err));
        dk_store_rollback(&txn);
        shop_close(&shop);
    }
}

static void I05_a_second_active_key_or_a_version_twice_is_not_inserted(void **state)
{
    (void)state;
    for (size_t i = 0; i < STORES; i++) {
        struct shop shop;
        bool inserted = true;
        shop_open(&shop, i);
        put_key(&shop, "acme", 1, DK_ACTIVE);
        struct dk_key_row second = key_row(&shop, "acme", 2, DK_ACTIVE);
        struct dk_key_row twice = key_row(&shop, "acme", 1, DK_RETIRED);
        struct dk_txn txn = begin(&shop, DK_TXN_WRITE);
        DK_TEST_OK(err, txn.ops->key_insert(txn.self, &second, &inserted, &err));
        assert_false(inserted);
        inserted = true;
        DK_TEST_OK(err, txn.ops->key_insert(txn.self, &twice, &inserted, &err));
        assert_false(inserted);
        commit(&txn);
        put_key(&shop, "globex", 1, DK_ACTIVE); /* another tenant's is no hindrance */
        assert_int_equal(dk_place_number(&shop.place, "SELECT count(*) FROM encryption_keys"), 2);
        shop_close(&shop);
    }
}

static void I05_F32_a_data_key_in_use_already_is_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < STORES; i++) {
        struct shop shop;
        bool inserted = false;
        shop_open(&shop, i);
        struct dk_key_row first = put_key(&shop, "acme", 1, DK_ACTIVE);
        struct dk_key_row row = key_row(&shop, "globex", 1, DK_ACTIVE);
        memcpy(row.check_value, first.check_value, sizeof row.check_value);
        struct dk_txn txn = begin(&shop, DK_TXN_WRITE);
        DK_TEST_FAILS(err, PROVIDER, txn.ops->key_insert(txn.self, &row, &inserted, &err));
        assert_false(inserted);
        dk_store_rollback(&txn);
        shop_close(&shop);
    }
}

/* ---- I09: states
 * --------------------------------------------------------------------------------- */

/* `row` as it is after a change to `to` by the rules above. */
static struct dk_key_row changed_to(const struct dk_key_row *row, enum dk_state to, int64_t now)
{
    struct dk_key_row next = *row;
    next.state = to;
    if (to == DK_PURGED) {
        next.purged_at = now;
        next.wrap.encrypted_data_key[0] = '\0';
    } else if (row->state == DK_PURGED) {
        next.purged_at = DK_TIME_NONE;
        snprintf(next.wrap.encrypted_data_key, sizeof next.wrap.encrypted_data_key, "d3JhcA==");
    }
    return next;
}

static void I09_only_changes_of_the_state_table_are_stored(void **state)
{
    (void)state;
    for (size_t i = 0; i < STORES; i++) {
        struct shop shop;
        shop_open(&shop, i);
        uint32_t version = 0;
        for (int from = 0; from < DK_STATE_COUNT; from++) {
            for (int to = 0; to < DK_STATE_COUNT; to++) {
                char name[32];
                bool changed = false;
                snprintf(name, sizeof name, "tenant-%d-%d", from, to);
                struct dk_key_row row = put_key(&shop, name, ++version, (enum dk_state)from);
                struct dk_key_row next = changed_to(&row, (enum dk_state)to, row.created_at);
                struct dk_txn txn = begin(&shop, DK_TXN_WRITE);
                dk_err_clear(&err);
                dk_rc rc = txn.ops->key_update(txn.self, &next, row.state, &changed, &err);
                if (from == to || dk_state_may_become(row.state, next.state)) {
                    assert_int_equal(rc, DK_OK);
                    assert_true(changed);
                    commit(&txn);
                } else {
                    assert_int_equal(rc, DK_E_STORE);
                    dk_store_rollback(&txn);
                }
                struct dk_key_row got = get_key(&shop, name, version);
                assert_same_row(&got, rc == DK_OK ? &next : &row);
            }
        }
        shop_close(&shop);
    }
}

/* The same by any program that can write to the database. */
static void I09_raw_sql_passes_the_same_table(void **state)
{
    (void)state;
    for (size_t i = 0; i < STORES; i++) {
        struct shop shop;
        uint32_t version = 0;
        shop_open(&shop, i);
        for (int from = 0; from < DK_STATE_COUNT; from++) {
            for (int to = 0; to < DK_STATE_COUNT; to++) {
                char name[32], sql[320];
                snprintf(name, sizeof name, "tenant-%d-%d", from, to);
                put_key(&shop, name, ++version, (enum dk_state)from);
                snprintf(
                    sql, sizeof sql,
                    "UPDATE encryption_keys SET state = '%s', purged_at = %s, encrypted_data_key "
                    "= '%s' WHERE tenant_id = '%s'",
                    dk_state_name((enum dk_state)to),
                    to == DK_PURGED ? "'2026-01-01T00:00:00.000000Z'" : "NULL",
                    to == DK_PURGED ? "" : "d3JhcA==", name);
                bool allowed =
                    from == to || dk_state_may_become((enum dk_state)from, (enum dk_state)to);
                assert_int_equal(dk_place_sql(&shop.place, sql) == 0, allowed);
            }
        }
        shop_close(&shop);
    }
}

static void a_key_changes_only_from_the_state_that_was_read(void **state)
{
    (void)state;
    for (size_t i = 0; i < STORES; i++) {
        struct shop shop;
        bool changed = true;
        shop_open(&shop, i);
        struct dk_key_row row = put_key(&shop, "acme", 1, DK_RETIRED);
        struct dk_key_row next = changed_to(&row, DK_DISABLED, 0);
        struct dk_txn txn = begin(&shop, DK_TXN_WRITE);
        DK_TEST_OK(err, txn.ops->key_update(txn.self, &next, DK_ACTIVE, &changed, &err));
        assert_false(changed);
        struct dk_key_row other = next;
        other.check_value[0] ^= 1;
        DK_TEST_OK(err, txn.ops->key_update(txn.self, &other, DK_RETIRED, &changed, &err));
        assert_false(changed);
        DK_TEST_OK(err, txn.ops->key_update(txn.self, &next, DK_RETIRED, &changed, &err));
        assert_true(changed);
        commit(&txn);
        shop_close(&shop);
    }
}

static void F55_a_purged_row_keeps_no_blob(void **state)
{
    (void)state;
    for (size_t i = 0; i < STORES; i++) {
        struct shop shop;
        bool changed = false;
        shop_open(&shop, i);
        struct dk_key_row row = put_key(&shop, "acme", 1, DK_DISABLED);
        struct dk_key_row next = row;
        next.state = DK_PURGED; /* neither date nor an erased blob */
        struct dk_txn txn = begin(&shop, DK_TXN_WRITE);
        DK_TEST_FAILS(err, STORE,
                      txn.ops->key_update(txn.self, &next, DK_DISABLED, &changed, &err));
        dk_store_rollback(&txn);
        next = changed_to(&row, DK_PURGED, row.created_at);
        txn = begin(&shop, DK_TXN_WRITE);
        DK_TEST_OK(err, txn.ops->key_update(txn.self, &next, DK_DISABLED, &changed, &err));
        commit(&txn);
        struct dk_key_row got = get_key(&shop, "acme", 1);
        assert_same_row(&got, &next);
        shop_close(&shop);
    }
}

/* What raw SQL must not do to the rows of one key, one tenant, the registry and the log. */
static const char *const forbidden[] = {
    "DELETE FROM encryption_keys",
    "DELETE FROM tenants",
    "DELETE FROM registry",
    "DELETE FROM key_rotation_log",
    "UPDATE key_rotation_log SET success = 0",
    "UPDATE key_rotation_log SET performed_by = 'another'",
    "UPDATE encryption_keys SET compromised_at = NULL",
    "UPDATE encryption_keys SET compromised_at = '2027-01-01T00:00:00.000000Z'",
    "UPDATE encryption_keys SET rotated_at = NULL",
    "UPDATE encryption_keys SET version = version + 1",
    "UPDATE encryption_keys SET tenant_id = 'globex'",
    "UPDATE encryption_keys SET id = 'x'",
    "UPDATE encryption_keys SET check_value = zeroblob(32)",
    "UPDATE encryption_keys SET created_at = '2027-01-01T00:00:00.000000Z'",
    "UPDATE encryption_keys SET messages = messages - 1",
    "UPDATE encryption_keys SET state = 'active'",
    "UPDATE encryption_keys SET state = 'unheard'",
    "UPDATE encryption_keys SET encrypted_data_key = ''",
    "UPDATE tenants SET tenant_id = 'globex'",
    "UPDATE tenants SET next_version = next_version - 1",
    "UPDATE tenants SET epoch = epoch - 1",
    "UPDATE tenants SET changed_xid = changed_xid - 1",
    "UPDATE registry SET encrypted_data_key = 'x'",
    "UPDATE registry SET encrypted_data_key = NULL, provider = NULL, kms_key_id = NULL, "
    "context_timestamp = NULL",
    "UPDATE registry SET registry_uuid = 'x'",
    "UPDATE key_rotation_log SET mac = 'x', operation = 'x'",
    "UPDATE key_rotation_log SET prev = 'x'",
    "UPDATE seals SET heads = ''",
    "UPDATE OR REPLACE seals SET n = 2",
    "REPLACE INTO seals VALUES (1, 'x', 'x', NULL, 'x')",
    "DELETE FROM seals",
    "UPDATE registry_keys SET last_seal = 2",
    "UPDATE OR REPLACE registry_keys SET generation = 2",
    "REPLACE INTO registry_keys VALUES (1, 'x', 'x', 'x', 'x', 1)",
    "DELETE FROM registry_keys",
    "UPDATE registry SET generation = 2",
    "UPDATE registry SET rekeying = 1",
    "UPDATE registry SET encrypted_data_key = 'e', generation = 2",
    "UPDATE registry SET encrypted_data_key = 'e', generation = 3",
    "UPDATE registry SET kms_key_id = 'e'",
    "UPDATE OR REPLACE registry SET id = 2",
    "UPDATE OR REPLACE tenants SET rowid = rowid + 1",
    "UPDATE OR REPLACE encryption_keys SET rowid = rowid + 1",
    "UPDATE OR REPLACE key_rotation_log SET rowid = rowid + 1",
    "REPLACE INTO key_rotation_log (id, tenant_id, operation, performed_at) SELECT id, 'x', 'x', "
    "'x' FROM key_rotation_log",
    "REPLACE INTO key_rotation_log (rowid, id, tenant_id, operation, performed_at) SELECT rowid, "
    "'x', 'x', 'x', 'x' FROM key_rotation_log",
};

#define KEY_REST                                                                                   \
    "kms_key_id, 'b', created_at, expires_at, state, provider, context_timestamp, row_mac"

/* REPLACE takes rows away without a DELETE trigger: what would take one away is passed over. */
static const char *const passed_over[] = {
    "INSERT INTO registry SELECT 2, registry_uuid, schema_version, created_at, NULL, NULL, NULL, "
    "NULL, 1, 0, 0 FROM registry",
    "REPLACE INTO registry SELECT 1, registry_uuid, schema_version, created_at, NULL, NULL, NULL, "
    "NULL, 1, 0, 0 FROM registry",
    "REPLACE INTO tenants VALUES ('acme', 1, 1, NULL, 9, 'm', NULL, NULL)",
    "REPLACE INTO tenants (rowid, tenant_id, next_version, epoch, changed_xid, row_mac) SELECT "
    "rowid, 'x', 1, 1, 9, 'm' FROM tenants",
    "REPLACE INTO encryption_keys (id, tenant_id, version, check_value, kms_key_id, "
    "encrypted_data_key, created_at, expires_at, state, provider, context_timestamp, row_mac) "
    "SELECT id, 'x', 9, randomblob(32), " KEY_REST " FROM encryption_keys",
    "REPLACE INTO encryption_keys (id, tenant_id, version, check_value, kms_key_id, "
    "encrypted_data_key, created_at, expires_at, state, provider, context_timestamp, row_mac) "
    "SELECT 'x', tenant_id, version, randomblob(32), " KEY_REST " FROM encryption_keys",
    "REPLACE INTO encryption_keys (id, tenant_id, version, check_value, kms_key_id, "
    "encrypted_data_key, created_at, expires_at, state, provider, context_timestamp, row_mac) "
    "SELECT 'x', 'x', 9, check_value, " KEY_REST " FROM encryption_keys",
    "REPLACE INTO encryption_keys (rowid, id, tenant_id, version, check_value, kms_key_id, "
    "encrypted_data_key, created_at, expires_at, state, provider, context_timestamp, row_mac) "
    "SELECT rowid, 'x', 'x', 9, randomblob(32), " KEY_REST " FROM encryption_keys",
    "REPLACE INTO encryption_keys (id, tenant_id, version, check_value, kms_key_id, "
    "encrypted_data_key, created_at, expires_at, state, provider, context_timestamp, row_mac) "
    "SELECT 'x', tenant_id, 9, randomblob(32), " KEY_REST " FROM encryption_keys WHERE "
    "state = 'active'",
};

static void I09_what_may_not_change_is_refused_to_raw_sql(void **state)
{
    (void)state;
    struct shop shop;
    shop_open(&shop, 0);
    assert_int_equal(dk_place_sql(&shop.place,
                                  "UPDATE registry SET provider = 'local', kms_key_id = 'k', "
                                  "encrypted_data_key = 'd', context_timestamp = 't'; "
                                  "INSERT INTO seals VALUES (1, 't', '', NULL, 'm'); "
                                  "INSERT INTO registry_keys VALUES (1, 'local', 'k', 'other', "
                                  "'t', 1); "
                                  "INSERT INTO tenants VALUES ('acme', 2, 2, NULL, 2, 'm', "
                                  "NULL, NULL); "
                                  "INSERT INTO key_rotation_log (id, tenant_id, operation, "
                                  "performed_at) VALUES ('1', 'acme', 'create', 't')"),
                     0);
    struct dk_key_row row = key_row(&shop, "acme", 1, DK_RETIRED);
    row.compromised_at = row.rotated_at = row.created_at;
    row.messages = 5;
    struct dk_txn txn = begin(&shop, DK_TXN_WRITE);
    bool inserted = false;
    DK_TEST_OK(err, txn.ops->key_insert(txn.self, &row, &inserted, &err));
    row = key_row(&shop, "initech", 1, DK_ACTIVE);
    DK_TEST_OK(err, txn.ops->key_insert(txn.self, &row, &inserted, &err));
    commit(&txn);
    for (size_t i = 0; i < sizeof forbidden / sizeof forbidden[0]; i++) {
        char *before = dk_place_dump(&shop.place, true);
        if (dk_place_sql(&shop.place, forbidden[i]) == 0) {
            fail_msg("not refused: %s", forbidden[i]);
        }
        assert_true(dk_place_unchanged(&shop.place, true, before));
    }
    for (size_t i = 0; i < sizeof passed_over / sizeof passed_over[0]; i++) {
        char *before = dk_place_dump(&shop.place, true);
        assert_int_equal(dk_place_sql(&shop.place, passed_over[i]), 0);
        if (!dk_place_unchanged(&shop.place, true, before)) {
            fail_msg("not passed over: %s", passed_over[i]);
        }
    }
    shop_close(&shop);
}

static void I09_compromised_at_is_never_cleared(void **state)
{
    (void)state;
    for (size_t i = 0; i < STORES; i++) {
        struct shop shop;
        bool changed = false;
        shop_open(&shop, i);
        struct dk_key_row row = put_key(&shop, "acme", 1, DK_ACTIVE), next = row;
        next.compromised_at = row.created_at;
        struct dk_txn txn = begin(&shop, DK_TXN_WRITE);
        DK_TEST_OK(err, txn.ops->key_update(txn.self, &next, DK_ACTIVE, &changed, &err));
        commit(&txn);
        for (int k = 0; k < 2; k++) {
            struct dk_key_row back = next;
            back.compromised_at = k == 0 ? DK_TIME_NONE : next.compromised_at + 1;
            txn = begin(&shop, DK_TXN_WRITE);
            DK_TEST_FAILS(err, STORE,
                          txn.ops->key_update(txn.self, &back, DK_ACTIVE, &changed, &err));
            dk_store_rollback(&txn);
        }
        shop_close(&shop);
    }
}

/* ---- counts, lists, log, changes
 * ----------------------------------------------------------------- */

static void R25_messages_of_many_versions_add_up(void **state)
{
    (void)state;
    enum { TENANTS = 3 };
    static const char *const names[TENANTS] = {"acme", "globex", "initech"};
    for (size_t i = 0; i < STORES; i++) {
        struct shop shop;
        struct dk_tenant tenants[TENANTS];
        struct dk_sealed list[2 * TENANTS];
        shop_open(&shop, i);
        for (uint32_t t = 0; t < TENANTS; t++) {
            tenants[t] = tenant_of(names[t]);
            put_key(&shop, names[t], 1, DK_RETIRED);
            if (t != 1) { /* of globex there is no second version */
                put_key(&shop, names[t], 2, DK_ACTIVE);
            }
        }
        for (int round = 1; round <= 2; round++) {
            struct dk_txn txn = begin(&shop, DK_TXN_WRITE);
            for (uint32_t k = 0; k < 2 * TENANTS; k++) {
                list[k] = (struct dk_sealed){.tenant = &tenants[k / 2],
                                             .version = k % 2 + 1,
                                             .count = (INT64_C(1) << 32) + k,
                                             .sum = -1,
                                             .gone = k != 3};
            }
            DK_TEST_OK(err, txn.ops->key_add_messages(txn.self, list, 2 * TENANTS, &err));
            for (uint32_t k = 0; k < 2 * TENANTS; k++) {
                assert_int_equal(list[k].gone, k == 3);
                assert_int_equal(list[k].sum, k == 3 ? 0 : round * list[k].count);
            }
            DK_TEST_OK(err, txn.ops->key_add_messages(txn.self, list, 0, &err));
            commit(&txn);
        }
        for (uint32_t k = 0; k < 2 * TENANTS; k++) {
            if (k != 3) {
                assert_int_equal(get_key(&shop, names[k / 2], k % 2 + 1).messages,
                                 2 * list[k].count);
            }
        }
        shop_close(&shop);
    }
}

static void keys_are_listed_in_pages_by_tenant_and_version(void **state)
{
    (void)state;
    enum { TENANTS = 7, VERSIONS = 5 };
    for (size_t i = 0; i < STORES; i++) {
        struct shop shop;
        struct dk_key_row rows[4];
        shop_open(&shop, i);
        for (int t = TENANTS; t-- > 0;) { /* not in their order */
            for (uint32_t v = VERSIONS; v > 0; v--) {
                char name[16];
                snprintf(name, sizeof name, "tenant-%c", 'a' + t);
                put_key(&shop, name, v, v == VERSIONS ? DK_ACTIVE : DK_RETIRED);
            }
        }
        for (int filter = 0; filter < 3; filter++) {
            struct dk_key_cursor at = {0};
            struct dk_tenant one = tenant_of("tenant-c");
            size_t count = 4, seen = 0;
            struct dk_txn txn = begin(&shop, DK_TXN_READ);
            while (count > 0) {
                DK_TEST_OK(err, txn.ops->key_list(txn.self, filter == 2 ? &one : NULL,
                                                  filter == 1 ? DK_KEYS_ACTIVE : DK_KEYS_ALL, &at,
                                                  4, rows, &count, &err));
                for (size_t k = 0; k < count; k++, seen++) {
                    size_t t = filter == 0 ? seen / VERSIONS : filter == 1 ? seen : 2;
                    size_t v = filter == 1 ? VERSIONS : seen % VERSIONS + 1;
                    assert_int_equal(rows[k].tenant.s[7], 'a' + (int)t);
                    assert_int_equal(rows[k].version, v);
                    at = (struct dk_key_cursor){rows[k].tenant, rows[k].version};
                }
            }
            assert_int_equal(seen, filter == 0   ? TENANTS * VERSIONS
                                   : filter == 1 ? TENANTS
                                                 : VERSIONS);
            dk_store_rollback(&txn);
        }
        shop_close(&shop);
    }
}

static void key_counts_tell_active_expired_and_near(void **state)
{
    (void)state;
    for (size_t i = 0; i < STORES; i++) {
        struct shop shop;
        struct dk_key_counts counts;
        shop_open(&shop, i);
        int64_t now = shop.place.w.wall_us;
        struct dk_txn txn = begin(&shop, DK_TXN_READ);
        DK_TEST_OK(err, txn.ops->key_counts(txn.self, now, now, &counts, &err));
        assert_int_equal(counts.total, 0);
        assert_int_equal(counts.active + counts.expired + counts.near_expiry, 0);
        dk_store_rollback(&txn);
        put_key(&shop, "acme", 1, DK_RETIRED);
        put_key(&shop, "acme", 2, DK_ACTIVE);
        put_key(&shop, "globex", 1, DK_ACTIVE);
        put_key(&shop, "globex", 2, DK_PURGED);
        int64_t end = now + 90 * DK_DAY_US;
        static const struct {
            int64_t from_end_us, warn_us, expired, near;
        } at[] = {{-8 * DK_DAY_US, 7 * DK_DAY_US, 0, 0},
                  {-7 * DK_DAY_US, 7 * DK_DAY_US, 0, 2},
                  {-1, 7 * DK_DAY_US, 0, 2},
                  {0, 7 * DK_DAY_US, 2, 0},
                  {1, 0, 2, 0}};
        for (size_t k = 0; k < sizeof at / sizeof at[0]; k++) {
            int64_t then = end + at[k].from_end_us;
            txn = begin(&shop, DK_TXN_READ);
            DK_TEST_OK(err,
                       txn.ops->key_counts(txn.self, then, then + at[k].warn_us, &counts, &err));
            dk_store_rollback(&txn);
            assert_int_equal(counts.total, 4);
            assert_int_equal(counts.active, 2);
            assert_int_equal(counts.expired, at[k].expired);
            assert_int_equal(counts.near_expiry, at[k].near);
        }
        shop_close(&shop);
    }
}

static struct dk_log_row log_row(const char *tenant, unsigned n, int64_t at)
{
    struct dk_log_row row = {.operation = "rotate",
                             .from_version = n,
                             .to_version = n + 1,
                             .success = n % 2 == 0,
                             .performed_at = at,
                             .detail = n % 3 == 0 ? "a detail" : ""};
    snprintf(row.id, sizeof row.id, "00000000-0000-4000-8000-%012u", n);
    snprintf(row.tenant, sizeof row.tenant, "%s", tenant);
    snprintf(row.error_message, sizeof row.error_message, "%s", n % 2 ? "E_BUSY: \"'\n" : "");
    snprintf(row.performed_by, sizeof row.performed_by, "%s", "test");
    if (n > 5) {
        snprintf(row.prev, sizeof row.prev, "prev %u", n);
        snprintf(row.mac, sizeof row.mac, "mac %u", n);
    }
    return row;
}

static void put_log(struct shop *shop, const char *tenant, unsigned n, int64_t at)
{
    struct dk_log_row row = log_row(tenant, n, at);
    struct dk_txn txn = begin(shop, DK_TXN_WRITE);
    DK_TEST_OK(err, txn.ops->log_append(txn.self, &row, &err));
    commit(&txn);
}

/* What a walk gave, as the numbers of the rows. */
struct walked {
    unsigned n[32];
    size_t count, stop_at;
};

static bool note_log(void *arg, const struct dk_log_row *row)
{
    struct walked *walked = arg;
    unsigned n = row->from_version;
    struct dk_log_row right = log_row(row->tenant, n, row->performed_at);
    assert_string_equal(row->id, right.id);
    assert_int_equal(row->to_version, n + 1);
    assert_int_equal(row->success, right.success);
    assert_string_equal(row->error_message, right.error_message);
    assert_string_equal(row->performed_by, "test");
    assert_string_equal(row->node, "");
    assert_string_equal(row->detail, right.detail);
    assert_string_equal(row->prev, right.prev);
    assert_string_equal(row->mac, right.mac);
    assert_int_equal(row->seq, n);
    walked->n[walked->count++] = n;
    return walked->count != walked->stop_at;
}

static void assert_walk(struct shop *shop, const struct dk_log_query *query, size_t stop_at,
                        const char *right)
{
    struct walked walked = {.stop_at = stop_at};
    char text[128] = "";
    struct dk_txn txn = begin(shop, DK_TXN_READ);
    DK_TEST_OK(err, txn.ops->log_walk(txn.self, query, note_log, &walked, &err));
    dk_store_rollback(&txn);
    for (size_t i = 0; i < walked.count; i++) {
        snprintf(text + strlen(text), sizeof text - strlen(text), "%s%u", i > 0 ? " " : "",
                 walked.n[i]);
    }
    assert_string_equal(text, right);
}

static void the_log_is_walked_both_ways_and_in_parts(void **state)
{
    (void)state;
    for (size_t i = 0; i < STORES; i++) {
        struct shop shop;
        struct dk_tenant acme = tenant_of("acme");
        shop_open(&shop, i);
        int64_t at = shop.place.w.wall_us;
        for (unsigned n = 1; n <= 10; n++) { /* some at the same moment */
            put_log(&shop, n % 2 ? "acme" : "*", n, at + n / 4);
        }
        struct dk_log_query all = {.since = DK_TIME_NONE, .until = DK_TIME_NONE}, query = all;
        assert_walk(&shop, &all, 0, "1 2 3 4 5 6 7 8 9 10");
        assert_walk(&shop, &all, 3, "1 2 3");
        query.newest_first = true;
        assert_walk(&shop, &query, 0, "10 9 8 7 6 5 4 3 2 1");
        query.after = 4;
        assert_walk(&shop, &query, 0, "3 2 1");
        query.newest_first = false;
        assert_walk(&shop, &query, 0, "5 6 7 8 9 10");
        query.since = at + 2;
        assert_walk(&shop, &query, 0, "8 9 10");
        query = all;
        query.until = at + 1;
        assert_walk(&shop, &query, 0, "1 2 3");
        query = all;
        query.tenant = &acme;
        assert_walk(&shop, &query, 0, "1 3 5 7 9");
        query.after = 5;
        assert_walk(&shop, &query, 0, "7 9");
        query.newest_first = true;
        assert_walk(&shop, &query, 0, "3 1");
        query = all;
        query.tenant = &acme;
        query.unchained = true;
        assert_walk(&shop, &query, 0, "1 3 5");
        shop_close(&shop);
    }
}

static bool sees_a_clear(struct shop *shop, int64_t *mark)
{
    bool cleared = false;
    struct dk_txn txn = begin(shop, DK_TXN_READ);
    DK_TEST_OK(err, txn.ops->log_cleared(txn.self, mark, &cleared, &err));
    dk_store_rollback(&txn);
    return cleared;
}

static void put_operation(struct shop *shop, const char *tenant, const char *operation, unsigned n,
                          bool commits)
{
    struct dk_log_row row = log_row(tenant, n, 1000);
    snprintf(row.operation, sizeof row.operation, "%s", operation);
    struct dk_txn txn = begin(shop, DK_TXN_WRITE);
    DK_TEST_OK(err, txn.ops->log_append(txn.self, &row, &err));
    if (commits) {
        commit(&txn);
    }
    dk_store_rollback(&txn);
}

static void R13_a_clear_since_a_mark_is_seen_once(void **state)
{
    (void)state;
    for (size_t i = 0; i < STORES; i++) {
        struct shop shop;
        int64_t mark = 0, late = 0, newer;
        shop_open(&shop, i);
        assert_false(sees_a_clear(&shop, &mark));
        put_operation(&shop, "*", "cache-clear", 1, true);
        put_operation(&shop, "*", "decrypt", 2, true);
        assert_true(sees_a_clear(&shop, &mark));
        assert_false(sees_a_clear(&shop, &mark));
        put_operation(&shop, "acme", "cache-clear", 3, true);
        put_operation(&shop, "*", "rekey", 4, true);
        put_operation(&shop, "*", "cache-clear", 5, false);
        assert_false(sees_a_clear(&shop, &mark));
        put_operation(&shop, "*", "cache-clear", 6, true);
        put_operation(&shop, "*", "cache-clear", 7, true);
        assert_true(sees_a_clear(&shop, &mark));
        assert_true(sees_a_clear(&shop, &late));
        assert_int_equal(late, mark);
        newer = mark + 1; /* of a store that this is an older copy of */
        assert_true(sees_a_clear(&shop, &newer));
        assert_int_equal(newer, mark);
        shop_close(&shop);
    }
}

static void a_log_row_is_written_once_and_chained_once(void **state)
{
    (void)state;
    for (size_t i = 0; i < STORES; i++) {
        struct shop shop;
        struct dk_tenant acme = tenant_of("acme");
        shop_open(&shop, i);
        put_log(&shop, "acme", 1, shop.place.w.wall_us);
        put_log(&shop, "acme", 6, shop.place.w.wall_us);
        struct dk_log_row row = log_row("acme", 1, shop.place.w.wall_us);
        struct dk_txn txn = begin(&shop, DK_TXN_WRITE);
        DK_TEST_FAILS(err, STORE, txn.ops->log_append(txn.self, &row, &err));
        dk_store_rollback(&txn);
        snprintf(row.mac, sizeof row.mac, "a mac");
        txn = begin(&shop, DK_TXN_WRITE);
        DK_TEST_OK(err, txn.ops->log_chain(txn.self, &row, &err));
        DK_TEST_FAILS(err, CONFLICT, txn.ops->log_chain(txn.self, &row, &err));
        commit(&txn);
        struct dk_log_query query = {.since = DK_TIME_NONE, .until = DK_TIME_NONE};
        query.tenant = &acme;
        query.unchained = true;
        assert_walk(&shop, &query, 0, "");
        shop_close(&shop);
    }
}

static bool note_seal(void *arg, const struct dk_seal_row *row)
{
    struct walked *walked = arg;
    char heads[32];
    snprintf(heads, sizeof heads, "heads of %lld\n", (long long)row->n);
    assert_string_equal(row->heads, heads);
    assert_string_equal(row->prev, row->n == 1 ? "" : "a hash");
    assert_string_equal(row->mac, "a mac");
    walked->n[walked->count++] = (unsigned)row->n;
    return walked->count != walked->stop_at;
}

static void seals_are_walked_from_any_number_on(void **state)
{
    (void)state;
    for (size_t i = 0; i < STORES; i++) {
        struct shop shop;
        struct dk_seal_row newest = {.n = 99};
        struct walked walked = {.stop_at = 2};
        shop_open(&shop, i);
        struct dk_txn txn = begin(&shop, DK_TXN_WRITE);
        DK_TEST_OK(err, txn.ops->seal_newest(txn.self, &newest, &err));
        assert_int_equal(newest.n, 0);
        for (int64_t n = 1; n <= 5; n++) {
            char heads[32];
            struct dk_seal_row row = {.n = n, .at = shop.place.w.wall_us, .heads = heads};
            snprintf(heads, sizeof heads, "heads of %lld\n", (long long)n);
            snprintf(row.prev, sizeof row.prev, "%s", n == 1 ? "" : "a hash");
            snprintf(row.mac, sizeof row.mac, "a mac");
            DK_TEST_OK(err, txn.ops->seal_append(txn.self, &row, &err));
        }
        commit(&txn);
        txn = begin(&shop, DK_TXN_WRITE);
        DK_TEST_OK(err, txn.ops->seal_newest(txn.self, &newest, &err));
        assert_int_equal(newest.n, 5);
        assert_int_equal(newest.at, shop.place.w.wall_us);
        assert_null(newest.heads);
        DK_TEST_OK(err, txn.ops->seal_walk(txn.self, 3, note_seal, &walked, &err));
        assert_int_equal(walked.count, 2);
        assert_int_equal(walked.n[0], 3);
        newest.heads = "other heads";
        DK_TEST_FAILS(err, STORE, txn.ops->seal_append(txn.self, &newest, &err));
        dk_store_rollback(&txn);
        shop_close(&shop);
    }
}

static bool note_mac(void *arg, uint32_t version, const char *row_mac)
{
    struct walked *walked = arg;
    assert_true(strlen(row_mac) > 0);
    walked->n[walked->count++] = version;
    return true;
}

static void tenants_and_the_macs_of_their_keys_are_listed(void **state)
{
    (void)state;
    for (size_t i = 0; i < STORES; i++) {
        struct shop shop;
        struct walked walked = {.count = 0};
        struct dk_tenant acme = tenant_of("acme");
        struct dk_tenant_row rows[8];
        bool inserted = false;
        size_t count = 0;
        shop_open(&shop, i);
        struct dk_txn txn = begin(&shop, DK_TXN_WRITE);
        for (unsigned n = 1; n <= 3; n++) {
            char name[16];
            snprintf(name, sizeof name, "%s", n == 1 ? "initech" : n == 2 ? "acme" : "globex");
            struct dk_tenant_row row = tenant_row(name);
            snprintf(row.log_head, sizeof row.log_head, "%s", n == 2 ? "a head" : "");
            snprintf(row.keys_digest, sizeof row.keys_digest, "%s", n == 2 ? "a digest" : "");
            assert_true(put_first(&shop, &txn, &row));
        }
        for (unsigned n = 2; n <= 3; n++) {
            struct dk_key_row key = key_row(&shop, "acme", n, DK_RETIRED);
            DK_TEST_OK(err, txn.ops->key_insert(txn.self, &key, &inserted, &err));
            assert_true(inserted);
        }
        DK_TEST_OK(err, txn.ops->tenant_list(txn.self, "", 2, rows, &count, &err));
        assert_int_equal(count, 2);
        assert_string_equal(rows[0].tenant.s, "acme");
        assert_string_equal(rows[0].log_head, "a head");
        assert_string_equal(rows[0].keys_digest, "a digest");
        assert_string_equal(rows[1].tenant.s, "globex");
        assert_string_equal(rows[1].keys_digest, "");
        DK_TEST_OK(err, txn.ops->tenant_list(txn.self, "globex", 8, rows, &count, &err));
        assert_int_equal(count, 1);
        assert_string_equal(rows[0].tenant.s, "initech");
        DK_TEST_OK(err, txn.ops->key_macs(txn.self, &acme, note_mac, &walked, &err));
        assert_int_equal(walked.count, 3);
        assert_int_equal(walked.n[2], 3);
        dk_store_rollback(&txn);
        shop_close(&shop);
    }
}

static bool note_of_one(void *arg, size_t i, uint32_t version, const char *row_mac)
{
    return i == 0 && note_mac(arg, version, row_mac);
}

static void find(struct dk_txn *txn, uint32_t version, dk_rc want, struct dk_key_row *out)
{
    struct dk_tenant acme = tenant_of("acme");
    struct walked walked = {.count = 0};
    struct dk_find find = {.tenant = &acme, .version = version, .key = out};
    struct dk_find_calls calls = {note_of_one, NULL, &walked};
    DK_TEST_OK(err, txn->ops->find_many(txn->self, &find, 1, &calls, &err));
    assert_int_equal(walked.count, 3);
    for (uint32_t n = 0; n < 3; n++) {
        assert_int_equal(walked.n[n], n + 1);
    }
    assert_int_equal(find.versions, 3);
    assert_int_equal(find.row_rc, DK_E_NOT_FOUND);
    assert_int_equal(find.key_rc, want);
}

static void I04_a_key_is_found_beside_the_macs_of_all(void **state)
{
    (void)state;
    for (size_t i = 0; i < STORES; i++) {
        struct shop shop;
        struct dk_key_row row, alone;
        bool inserted = false;
        shop_open(&shop, i);
        struct dk_txn txn = begin(&shop, DK_TXN_WRITE);
        for (unsigned n = 1; n <= 3; n++) {
            struct dk_key_row key = key_row(&shop, "acme", n, n == 2 ? DK_ACTIVE : DK_RETIRED);
            DK_TEST_OK(err, txn.ops->key_insert(txn.self, &key, &inserted, &err));
        }
        struct dk_key_row other = key_row(&shop, "globex", 7, DK_ACTIVE);
        DK_TEST_OK(err, txn.ops->key_insert(txn.self, &other, &inserted, &err));
        find(&txn, 3, DK_OK, &row);
        DK_TEST_OK(err, txn.ops->key_read(txn.self, &row.tenant, 3, &alone, &err));
        assert_string_equal(row.id, alone.id);
        assert_string_equal(row.wrap.encrypted_data_key, alone.wrap.encrypted_data_key);
        assert_string_equal(row.row_mac, alone.row_mac);
        assert_int_equal(row.expires_at, alone.expires_at);
        find(&txn, 0, DK_OK, &row);
        assert_int_equal(row.version, 2);
        find(&txn, 7, DK_E_NOT_FOUND, &row);
        commit(&txn);
        shop_close(&shop);
    }
}

struct seen {
    size_t count;
    char names[8][16];
};

static void see(void *arg, const struct dk_tenant *tenant)
{
    struct seen *seen = arg;
    if (seen->count < 8) {
        snprintf(seen->names[seen->count], sizeof seen->names[0], "%.15s", tenant->s);
    }
    seen->count++;
}

static size_t changes(struct shop *shop, struct dk_mark *mark, struct seen *seen)
{
    struct dk_txn txn = begin(shop, DK_TXN_READ);
    bool went_back = true;
    seen->count = 0;
    DK_TEST_OK(err, txn.ops->changes(txn.self, mark, &went_back, see, seen, &err));
    dk_store_rollback(&txn);
    assert_false(went_back);
    return seen->count;
}

static void raise_epoch(struct shop *shop, const char *name, int64_t from)
{
    struct dk_tenant_row row = tenant_row(name);
    bool changed = false;
    row.epoch = from + 1;
    struct dk_txn txn = begin(shop, DK_TXN_WRITE);
    DK_TEST_OK(err, txn.ops->tenant_update(txn.self, &row, from, &changed, &err));
    assert_true(changed);
    commit(&txn);
}

static void R13_changes_since_a_mark_are_told_once(void **state)
{
    (void)state;
    for (size_t i = 0; i < STORES; i++) {
        struct shop shop;
        struct seen seen;
        struct dk_mark mark = {.n = 0}, late = {.n = 0};
        shop_open(&shop, i);
        assert_int_equal(changes(&shop, &mark, &seen), 0);
        put_tenant(&shop, "acme");
        put_tenant(&shop, "globex");
        put_tenant(&shop, "initech");
        assert_int_equal(changes(&shop, &mark, &seen), 0); /* new tenants make nothing old */
        raise_epoch(&shop, "acme", 1);
        raise_epoch(&shop, "globex", 1);
        assert_int_equal(changes(&shop, &mark, &seen), 2);
        assert_int_equal(changes(&shop, &mark, &seen), 0);
        raise_epoch(&shop, "acme", 2);
        late = mark;
        assert_int_equal(changes(&shop, &mark, &seen), 1);
        assert_string_equal(seen.names[0], "acme");
        assert_int_equal(changes(&shop, &mark, &seen), 0);
        assert_int_equal(changes(&shop, &late, &seen), 1); /* each for himself */
        shop_close(&shop);
    }
}

static void I04_a_store_that_is_older_than_a_mark_says_so(void **state)
{
    (void)state;
    for (size_t i = 0; i < STORES; i++) {
        struct shop shop;
        struct dk_mark mark = {.n = 0}, ahead;
        struct seen seen;
        bool went_back = false;
        shop_open(&shop, i);
        put_tenant(&shop, "acme");
        assert_int_equal(changes(&shop, &mark, &seen), 0);
        ahead = mark;
        ahead.n += 5; /* as SQLite counts */
        snprintf(ahead.text, sizeof ahead.text, "4000000000000:4000000000000:");
        struct dk_txn txn = begin(&shop, DK_TXN_READ);
        DK_TEST_OK(err, txn.ops->changes(txn.self, &ahead, &went_back, see, &seen, &err));
        dk_store_rollback(&txn);
        assert_true(went_back);
        assert_int_equal(changes(&shop, &ahead, &seen), 0);
        shop_close(&shop);
    }
}

struct tally {
    size_t of[MANY];
    size_t found[MANY];
};

static bool count_versions(void *arg, size_t i, uint32_t version, const char *row_mac)
{
    struct tally *tally = arg;
    assert_int_equal(version, ++tally->of[i]); /* by version */
    assert_string_equal(row_mac, "another MAC");
    return true;
}

static void count_found(void *arg, size_t i)
{
    struct tally *tally = arg;
    tally->found[i]++;
}

/* Every third has a row, every second a key or two, and the same one may be asked for twice. */
static void I07_many_keys_are_found_at_once_each_with_what_there_is_of_its_tenant(void **state)
{
    (void)state;
    for (size_t i = 0; i < STORES; i++) {
        struct shop shop;
        static struct dk_tenant tenants[MANY];
        static struct dk_find finds[MANY];
        static struct dk_key_row rows[MANY];
        static struct tally tally;
        const struct dk_find_calls calls = {count_versions, count_found, &tally};
        tally = (struct tally){{0}, {0}};
        shop_open(&shop, i);
        for (size_t k = 0; k < MANY; k++) {
            char name[32];
            snprintf(name, sizeof name, "tenant-%zu", k - k % 7 % 2);
            tenants[k] = tenant_of(name);
            finds[k] = (struct dk_find){
                .tenant = &tenants[k], .version = k % 4 == 0 ? 0 : 2, .key = &rows[k]};
            if (k % 7 % 2 == 1) {
                continue; /* as the one before */
            }
            if (k % 3 == 0) {
                put_tenant(&shop, name);
            }
            if (k % 2 == 0) {
                put_key(&shop, name, 1, DK_RETIRED);
                put_key(&shop, name, 2, DK_ACTIVE);
            }
            if (k % 5 == 0) {
                put_log(&shop, name, 1000 + (unsigned)k, 1000);
            }
        }
        struct dk_txn txn = begin(&shop, DK_TXN_READ);
        DK_TEST_OK(err, txn.ops->find_many(txn.self, finds, MANY, &calls, &err));
        dk_store_rollback(&txn);
        for (size_t k = 0; k < MANY; k++) {
            size_t as = k - k % 7 % 2;
            bool keys = as % 2 == 0, row = as % 3 == 0;
            assert_int_equal(finds[k].row_rc, row ? DK_OK : DK_E_NOT_FOUND);
            assert_int_equal(finds[k].key_rc, keys ? DK_OK : DK_E_NOT_FOUND);
            assert_int_equal(finds[k].versions, keys ? 2 : 0);
            assert_int_equal(tally.of[k], keys ? 2 : 0);
            assert_int_equal(tally.found[k], 1);
            assert_int_equal(finds[k].in_log, !row && !keys && as % 5 == 0);
            if (keys) {
                assert_int_equal(rows[k].version, 2);
                assert_true(dk_tenant_equal(&rows[k].tenant, &tenants[k]));
            }
            if (row) {
                assert_true(dk_tenant_equal(&finds[k].row.tenant, &tenants[k]));
            }
        }
        shop_close(&shop);
    }
}

static void I07_first_versions_are_inserted_where_nothing_of_the_tenant_is(void **state)
{
    (void)state;
    for (size_t i = 0; i < STORES; i++) {
        struct shop shop;
        static struct dk_tenant_row tenants[4];
        static struct dk_key_row keys[4];
        static struct dk_log_row logs[4];
        struct dk_first firsts[4];
        static const char *const names[4] = {"fresh", "known", "orphan", "zebra"};
        shop_open(&shop, i);
        put_tenant(&shop, "known");
        put_key(&shop, "orphan", 1, DK_RETIRED);
        for (unsigned k = 0; k < 4; k++) {
            tenants[k] = tenant_row(names[k]);
            keys[k] = key_row(&shop, names[k], 1, DK_ACTIVE);
            logs[k] = log_row(names[k], 500 + k, 1000);
            logs[k].from_version = 0;
            logs[k].to_version = 1;
            firsts[k] = (struct dk_first){&tenants[k], &keys[k], &logs[k], false, false};
        }
        struct dk_txn txn = begin(&shop, DK_TXN_WRITE);
        DK_TEST_OK(err, txn.ops->insert_first(txn.self, firsts, 4, NULL, NULL, &err));
        commit(&txn);
        assert_true(firsts[0].inserted && !firsts[0].orphans);
        assert_false(firsts[1].inserted || firsts[1].orphans);
        assert_true(firsts[2].orphans);
        assert_true(firsts[3].inserted && !firsts[3].orphans);
        struct dk_key_row got = get_key(&shop, "zebra", 1);
        assert_same_row(&keys[3], &got);
        assert_int_equal(dk_place_number(&shop.place, "SELECT count(*) FROM key_rotation_log"), 2);
        txn = begin(&shop, DK_TXN_WRITE); /* a data key that is in use */
        tenants[0] = tenant_row("thief");
        memcpy(keys[0].id, keys[1].id, sizeof keys[0].id);
        keys[0].tenant = tenant_of("thief");
        DK_TEST_FAILS(err, PROVIDER, txn.ops->insert_first(txn.self, firsts, 1, NULL, NULL, &err));
        dk_store_rollback(&txn);
        shop_close(&shop);
    }
}

/* Rows are made while others are on their way; one that is there already stops nobody. */
struct making {
    struct dk_tenant_row tenants[MANY];
    struct dk_key_row keys[MANY];
    struct dk_log_row logs[MANY];
    struct dk_first firsts[MANY];
    size_t made, fails_at;
};

static void prepare_many(struct shop *shop, struct making *making)
{
    for (unsigned k = 0; k < MANY; k++) {
        char name[32];
        snprintf(name, sizeof name, "t%04u", k);
        making->tenants[k] = tenant_row(name);
        making->keys[k] = key_row(shop, name, 1, DK_ACTIVE);
        making->logs[k] = log_row(name, 5000 + k, 1000);
        making->logs[k].from_version = 0;
        making->logs[k].to_version = 1;
        making->firsts[k] = (struct dk_first){.tenant = NULL};
    }
}

static dk_rc make_one(void *arg, size_t i, struct dk_err *why)
{
    struct making *making = arg;
    assert_int_equal(i, making->made++);
    making->firsts[i] =
        (struct dk_first){&making->tenants[i], &making->keys[i], &making->logs[i], false, false};
    return i == making->fails_at ? DK_FAIL(why, PROVIDER, "no more keys") : DK_OK;
}

static void I06_first_versions_are_made_while_others_are_stored(void **state)
{
    (void)state;
    for (size_t i = 0; i < STORES; i++) {
        struct shop shop;
        static struct making making;
        static const char *const there[2] = {"t0003", "t0290"};
        shop_open(&shop, i);
        prepare_many(&shop, &making);
        making.made = 0;
        making.fails_at = MANY / 2;
        struct dk_txn txn = begin(&shop, DK_TXN_WRITE);
        DK_TEST_FAILS(
            err, PROVIDER,
            txn.ops->insert_first(txn.self, making.firsts, MANY, make_one, &making, &err));
        dk_store_rollback(&txn);
        assert_int_equal(making.made, MANY / 2 + 1);
        assert_int_equal(dk_place_number(&shop.place, "SELECT count(*) FROM tenants"), 0);
        put_tenant(&shop, there[0]);
        put_tenant(&shop, there[1]);
        making.made = 0;
        making.fails_at = MANY;
        txn = begin(&shop, DK_TXN_WRITE);
        DK_TEST_OK(err,
                   txn.ops->insert_first(txn.self, making.firsts, MANY, make_one, &making, &err));
        commit(&txn);
        assert_int_equal(making.made, MANY);
        for (size_t k = 0; k < MANY; k++) {
            assert_int_equal(making.firsts[k].inserted, k != 3 && k != 290);
            assert_false(making.firsts[k].orphans);
        }
        assert_int_equal(dk_place_number(&shop.place, "SELECT count(*) FROM tenants"), MANY);
        assert_int_equal(dk_place_number(&shop.place, "SELECT count(*) FROM key_rotation_log"),
                         MANY - 2);
        struct dk_key_row got = get_key(&shop, "t0299", 1);
        assert_same_row(&making.keys[MANY - 1], &got);
        shop_close(&shop);
    }
}

struct summed {
    char text[256];
    bool once; /* stops after the first */
};

static bool note_sum(void *arg, const struct dk_call_row *row)
{
    struct summed *summed = arg;
    size_t n = strlen(summed->text);
    snprintf(summed->text + n, sizeof summed->text - n, "%s %s %s %lld %lld\n", row->day,
             row->source, row->operation, (long long)row->calls, (long long)row->failed);
    return !summed->once;
}

static void assert_sums(struct shop *shop, const char *from, bool once, const char *right)
{
    struct summed summed = {.once = once};
    struct dk_txn txn = begin(shop, DK_TXN_READ);
    DK_TEST_OK(err, txn.ops->calls_sum(txn.self, from, note_sum, &summed, &err));
    dk_store_rollback(&txn);
    assert_string_equal(summed.text, right);
}

static void calls_add_up_by_day_and_are_summed_by_operation(void **state)
{
    (void)state;
    static const struct dk_call_row rows[] = {{"2026-01-30", "aws-kms", "Decrypt", 5, 1},
                                              {"2026-01-31", "aws-kms", "Decrypt", 7, 0},
                                              {"2026-01-31", "cache", "hit", DK_CALLS_MAX / 2, 0}};
    for (size_t i = 0; i < STORES; i++) {
        struct shop shop;
        shop_open(&shop, i);
        for (int twice = 0; twice < 2; twice++) {
            struct dk_txn txn = begin(&shop, DK_TXN_WRITE);
            DK_TEST_OK(err, txn.ops->calls_add(txn.self, rows, 3, &err));
            commit(&txn);
        }
        struct dk_txn txn = begin(&shop, DK_TXN_WRITE);
        DK_TEST_OK(err, txn.ops->calls_add(txn.self, rows, 3, &err));
        dk_store_rollback(&txn); /* it never was */
        assert_sums(&shop, "2026-01-01", false,
                    "2026-01-30 aws-kms Decrypt 24 2\n2026-01-31 cache hit 4503599627370496 0\n");
        assert_sums(&shop, "2026-01-31", true, "2026-01-31 aws-kms Decrypt 14 0\n");
        assert_sums(&shop, "2026-02-01", false, "");
        txn = begin(&shop, DK_TXN_WRITE);
        DK_TEST_OK(err, txn.ops->calls_add(txn.self, &rows[2], 1, &err));
        commit(&txn);
        assert_sums(&shop, "2026-01-31", false, "2026-01-31 aws-kms Decrypt 14 0\n"); /* no count */
        shop_close(&shop);
    }
}

static void rows_that_dekhand_cannot_have_written_are_tampered(void **state)
{
    (void)state;
    static const char *const edits[] = {
        "UPDATE encryption_keys SET expires_at = 'tomorrow'",
        "UPDATE encryption_keys SET expires_at = 5",
        "UPDATE encryption_keys SET compromised_at = ''",
        "UPDATE encryption_keys SET kms_key_id = x'6B'",
        "UPDATE encryption_keys SET kms_key_id = 'a' || char(0) || 'b'",
        "UPDATE encryption_keys SET encrypted_data_key = hex(zeroblob(4096))",
        "UPDATE encryption_keys SET provider = hex(zeroblob(64))",
        "UPDATE encryption_keys SET messages = 1.5",
        "UPDATE encryption_keys SET messages = 'many'",
        "UPDATE encryption_keys SET row_mac = hex(zeroblob(64))",
    };
    for (size_t i = 0; i < sizeof edits / sizeof edits[0]; i++) {
        struct shop shop;
        struct dk_tenant acme = tenant_of("acme");
        struct dk_key_row row, untouched;
        struct dk_key_cursor start = {0};
        size_t count = 0;
        shop_open(&shop, 0);
        put_key(&shop, "acme", 1, DK_ACTIVE);
        assert_int_equal(dk_place_sql(&shop.place, edits[i]), 0);
        memset(&row, 0x5A, sizeof row);
        untouched = row;
        struct dk_txn txn = begin(&shop, DK_TXN_READ);
        DK_TEST_FAILS(err, TAMPERED, txn.ops->key_read(txn.self, &acme, 1, &row, &err));
        DK_TEST_FAILS(err, TAMPERED, txn.ops->key_read_active(txn.self, &acme, &row, &err));
        assert_memory_equal(&row, &untouched, sizeof row);
        struct walked walked = {.count = 0};
        struct dk_find find = {.tenant = &acme, .version = 1, .key = &row};
        struct dk_find_calls calls = {note_of_one, NULL, &walked};
        DK_TEST_OK(err, txn.ops->find_many(txn.self, &find, 1, &calls, &err));
        assert_int_equal(find.key_rc, DK_E_TAMPERED);
        DK_TEST_FAILS(
            err, TAMPERED,
            txn.ops->key_list(txn.self, NULL, DK_KEYS_ALL, &start, 1, &row, &count, &err));
        dk_store_rollback(&txn);
        shop_close(&shop);
    }
}

/* ---- schema
 * -------------------------------------------------------------------------------------- */

static void F80_a_newer_schema_is_refused(void **state)
{
    (void)state;
    struct shop shop;
    struct dk_txn txn;
    shop_open(&shop, 0);
    assert_int_equal(dk_place_sql(&shop.place, "PRAGMA user_version = 999"), 0);
    DK_TEST_FAILS(err, SCHEMA, dk_store_begin(&shop.store, DK_TXN_READ, &txn, &err));
    DK_TEST_SAYS(err, "newer");
    DK_TEST_FAILS(err, SCHEMA, dk_store_begin(&shop.store, DK_TXN_WRITE, &txn, &err));
    DK_TEST_FAILS(err, SCHEMA, shop.store.ops->migrate(shop.store.self, &err));
    shop_close(&shop);
}

static void F23_the_database_of_another_program_is_left_alone(void **state)
{
    (void)state;
    static const char *const others[] = {
        "CREATE TABLE customers (name)",
        "PRAGMA user_version = 1",
        "PRAGMA application_id = 77; CREATE TABLE x (y)",
    };
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        struct shop shop;
        struct dk_txn txn;
        shop_new(&shop, 0);
        dk_test_file_write(shop.place.database, "", 0, 0600);
        assert_int_equal(dk_place_sql(&shop.place, others[i]), 0);
        char *before = dk_place_dump(&shop.place, true);
        DK_TEST_FAILS(err, SCHEMA, shop.store.ops->migrate(shop.store.self, &err));
        dk_err_clear(&err);
        assert_int_not_equal(dk_store_begin(&shop.store, DK_TXN_WRITE, &txn, &err), DK_OK);
        assert_true(dk_place_unchanged(&shop.place, true, before));
        shop_close(&shop);
    }
}

static void a_file_that_is_no_database_is_refused(void **state)
{
    (void)state;
    struct shop shop;
    struct dk_txn txn;
    char junk[4096];
    memset(junk, 'j', sizeof junk);
    shop_new(&shop, 0);
    dk_test_file_write(shop.place.database, junk, sizeof junk, 0600);
    DK_TEST_FAILS(err, SCHEMA, dk_store_begin(&shop.store, DK_TXN_READ, &txn, &err));
    DK_TEST_FAILS(err, SCHEMA, shop.store.ops->migrate(shop.store.self, &err));
    shop_close(&shop);
}

static void an_unknown_scheme_names_those_there_are(void **state)
{
    (void)state;
    struct dk_store store;
    DK_TEST_FAILS(err, CONFIG, dk_store_open(&dk_world_default, "mysql://x", &store, &err));
    DK_TEST_SAYS(err, "sqlite:");
    DK_TEST_FAILS(err, CONFIG, dk_store_open(&dk_world_default, "sqlite:", &store, &err));
}

struct differences {
    char text[16][96]; /* "changed trigger seals_stay of seals" */
    char mend[512];    /* of the last one */
    size_t n;
};

static void see_finding(void *arg, const struct dk_schema_finding *finding)
{
    static const char *const faults[] = {"missing", "changed", "foreign"};
    struct differences *seen = arg;
    assert_true(seen->n < 16);
    snprintf(seen->text[seen->n++], sizeof seen->text[0], "%s %s %s of %s", faults[finding->fault],
             finding->type, finding->name, finding->table);
    snprintf(seen->mend, sizeof seen->mend, "%s", finding->mend);
    assert_int_equal(finding->fault == DK_SCHEMA_FOREIGN, finding->mend[0] != '\0');
}

static struct differences schema_of(struct shop *shop)
{
    struct differences seen = {.n = 0};
    struct dk_txn txn = begin(shop, DK_TXN_READ);
    DK_TEST_OK(err, txn.ops->schema(txn.self, see_finding, &seen, &err));
    dk_store_rollback(&txn);
    return seen;
}

static void I01_a_schema_that_differs_is_told_and_made_again(void **state)
{
    static const struct {
        const char *sql, *told;
        bool mended; /* by migrate() */
    } cases[] = {
        {"DROP TRIGGER seals_stay", "missing trigger seals_stay of seals", true},
        {"DROP INDEX tenants_changed", "missing index tenants_changed of tenants", true},
        {"DROP VIEW key_rotation_health", "missing view key_rotation_health of key_rotation_health",
         true},
        {"DROP TABLE registry_keys; CREATE VIEW registry_keys AS SELECT 1 AS generation",
         "changed table registry_keys of registry_keys", false},
        {"DROP TRIGGER seals_fixed; CREATE TRIGGER seals_fixed BEFORE UPDATE ON seals BEGIN SELECT "
         "RAISE(ABORT, 'dekhand: a seal does not  change'); END",
         "changed trigger seals_fixed of seals", true},
        {"ALTER TABLE seals ADD COLUMN x", "changed table seals of seals", false},
        {"CREATE TRIGGER x AFTER UPDATE ON Tenants BEGIN SELECT 1; END",
         "foreign trigger x of Tenants", false},
        {"CREATE TRIGGER x INSTEAD OF INSERT ON key_rotation_health BEGIN SELECT 1; END",
         "foreign trigger x of key_rotation_health", false},
        {"CREATE INDEX x ON seals (at)", "foreign index x of seals", false},
        {"DROP TRIGGER seals_fixed; CREATE TRIGGER seals_fixed/**/ BEFORE  UPDATE ON seals -- ;\n"
         "BEGIN SELECT RAISE(ABORT, 'dekhand: a seal does not change'); END",
         NULL, true},
        {"CREATE TABLE app (a); CREATE INDEX b ON app (a); CREATE VIEW c AS SELECT * FROM seals; "
         "CREATE TRIGGER d AFTER INSERT ON app BEGIN SELECT 1; END; ANALYZE",
         NULL, true},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct shop shop;
        shop_open(&shop, 0);
        assert_int_equal(schema_of(&shop).n, 0);
        assert_int_equal(dk_place_sql(&shop.place, cases[i].sql), 0);
        struct differences seen = schema_of(&shop);
        for (size_t k = 0; k < seen.n; k++) {
            print_message("%s\n", seen.text[k]);
        }
        bool told = cases[i].told != NULL;
        assert_true(seen.n >= told);
        assert_true(!told ? seen.n == 0 : strcmp(seen.text[0], cases[i].told) == 0);
        if (cases[i].mended) {
            DK_TEST_OK(err, shop.store.ops->migrate(shop.store.self, &err));
            assert_int_equal(schema_of(&shop).n, 0);
        }
        shop_close(&shop);
    }
}

static void I05_an_index_that_rows_forbid_is_not_made_again(void **state)
{
    (void)state;
    struct shop shop;
    shop_open(&shop, 0);
    assert_int_equal(
        dk_place_sql(&shop.place, "DROP INDEX encryption_keys_one_active; DROP TRIGGER seals_stay"),
        0);
    for (int i = 1; i <= 2; i++) {
        char sql[512];
        snprintf(sql, sizeof sql,
                 "DROP TRIGGER IF EXISTS encryption_keys_once; INSERT INTO encryption_keys (id, "
                 "tenant_id, kms_key_id, encrypted_data_key, version, created_at, expires_at, "
                 "state, provider, context_timestamp, check_value, row_mac) VALUES (%d, 'acme', "
                 "'k', 'w', %d, 'c', 'e', 'active', 'local', 't', randomblob(32), 'm')",
                 i, i);
        assert_int_equal(dk_place_sql(&shop.place, sql), 0);
    }
    dk_err_clear(&err);
    assert_int_equal(shop.store.ops->migrate(shop.store.self, &err), DK_E_STORE);
    assert_non_null(strstr(err.trail, "encryption_keys_one_active"));
    assert_int_equal(schema_of(&shop).n, 3); /* all of it or nothing */
    shop_close(&shop);
}

/* They wait for each other, a minute at most. */
#ifdef DK_SANITIZED
enum { MIGRANTS = 4, MIGRANT_ROUNDS = 4 };
#else
enum { MIGRANTS = 8, MIGRANT_ROUNDS = 10 };
#endif

static int migrate_in_process(void *arg, size_t index)
{
    struct shop *shop = arg;
    (void)index;
    dk_err_clear(&err);
    if (shop->store.ops->migrate(shop->store.self, &err) != DK_OK) {
        fprintf(stderr, "migrating: %s\n", err.text);
        return 1;
    }
    return 0;
}

static void processes_that_migrate_at_once_make_one_registry(void **state)
{
    (void)state;
    for (size_t i = 0; i < STORES; i++) {
        for (int round = 0; round < MIGRANT_ROUNDS; round++) {
            struct shop shop;
            shop_new(&shop, i);
            assert_true(dk_test_processes(MIGRANTS, migrate_in_process, &shop));
            assert_int_equal(dk_place_number(&shop.place, "SELECT count(*) FROM registry"), 1);
            struct dk_txn txn = begin(&shop, DK_TXN_WRITE);
            dk_store_rollback(&txn);
            shop_close(&shop);
        }
    }
}

/* ---- locks and rights
 * ---------------------------------------------------------------------------- */

static void F15_a_locked_store_is_busy_and_can_be_tried_again(void **state)
{
    (void)state;
    struct shop shop;
    struct dk_txn txn;
    sqlite3 *other = NULL;
    shop_open(&shop, 0);
    put_key(&shop, "acme", 1, DK_ACTIVE);
    assert_int_equal(sqlite3_open(shop.place.database, &other), SQLITE_OK);
    assert_int_equal(sqlite3_exec(other, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
    DK_TEST_FAILS(err, BUSY, dk_store_begin(&shop.store, DK_TXN_WRITE, &txn, &err));
    assert_true(dk_error_info(DK_E_BUSY)->retryable);
    txn = begin(&shop, DK_TXN_READ); /* readers are not held up */
    dk_store_rollback(&txn);
    assert_int_equal(sqlite3_exec(other, "ROLLBACK", NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(other);
    txn = begin(&shop, DK_TXN_WRITE);
    dk_store_rollback(&txn);
    shop_close(&shop);
}

static int read_and_fail_to_write(void *arg)
{
    struct shop *shop = arg;
    struct dk_tenant acme;
    struct dk_key_row row;
    struct dk_txn txn;
    dk_err_clear(&err);
    DK_TEST_CHILD(dk_tenant_parse(dk_view_str("acme"), &acme, &err) == DK_OK);
    dk_rc rc = dk_store_begin(&shop->store, DK_TXN_READ, &txn, &err);
    if (rc != DK_OK) {
        fprintf(stderr, "reading: %s\n", err.text);
        return 1;
    }
    DK_TEST_CHILD(txn.ops->key_read(txn.self, &acme, 1, &row, &err) == DK_OK);
    DK_TEST_CHILD(row.version == 1);
    dk_store_rollback(&txn);
    DK_TEST_CHILD(dk_store_begin(&shop->store, DK_TXN_WRITE, &txn, &err) == DK_E_READ_ONLY);
    DK_TEST_CHILD(err.rc == DK_E_READ_ONLY && err.text[0] != '\0');
    return 0;
}

static void F16_where_nothing_can_be_written_reading_goes_on(void **state)
{
    (void)state;
    static const struct {
        unsigned folder, file;
    } modes[] = {{0755, 0444}, {0555, 0644}, {0555, 0444}};
    for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++) {
        struct shop shop;
        shop_open(&shop, 0);
        put_key(&shop, "acme", 1, DK_ACTIVE);
        assert_int_equal(chmod(shop.place.database, modes[i].file), 0);
        assert_int_equal(chmod(shop.place.folder, modes[i].folder), 0);
        if (geteuid() == 0) {
            assert_int_equal(chown(shop.place.database, 65534, 65534), 0);
        }
        print_message("folder %o, file %o\n", modes[i].folder, modes[i].file);
        assert_true(dk_test_in_child(true, read_and_fail_to_write, &shop));
        assert_int_equal(chmod(shop.place.folder, 0755), 0);
        shop_close(&shop);
    }
}

/* The -wal file of a writer that is at work, or that was killed, holds rows that count. */
static void F16_a_reader_without_rights_sees_what_a_writer_has_committed(void **state)
{
    (void)state;
    struct shop shop;
    sqlite3 *writer = NULL;
    shop_open(&shop, 0);
    assert_int_equal(sqlite3_open(shop.place.database, &writer), SQLITE_OK);
    assert_int_equal(sqlite3_exec(writer, "PRAGMA wal_autocheckpoint = 0; SELECT * FROM registry",
                                  NULL, NULL, NULL),
                     SQLITE_OK);
    put_key(&shop, "acme", 1, DK_ACTIVE); /* stays in the -wal file */
    char path[128];
    static const char *const suffixes[] = {"", "-wal", "-shm"};
    for (size_t i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "%s%s", shop.place.database, suffixes[i]);
        assert_int_equal(chmod(path, 0444), 0);
    }
    assert_int_equal(chmod(shop.place.folder, 0555), 0);
    assert_true(dk_test_in_child(true, read_and_fail_to_write, &shop));
    assert_int_equal(chmod(shop.place.folder, 0755), 0);
    sqlite3_close(writer);
    shop_close(&shop);
}

/* ---- further wraps
 * ------------------------------------------------------------------------------------- */

static struct dk_wrap_row wrap_row(const char *tenant, uint32_t version, const char *provider,
                                   int64_t at)
{
    struct dk_wrap_row row = {.tenant = tenant_of(tenant),
                              .version = version,
                              .wrap = {"", "key:1", "d3JhcA==", "2026-01-01T00:00:00.000001Z"},
                              .last_verified_at = at,
                              .row_mac = "a MAC"};
    snprintf(row.wrap.provider, sizeof row.wrap.provider, "%s", provider);
    return row;
}

static void put_wrap(struct dk_txn *txn, const struct dk_wrap_row *row)
{
    DK_TEST_OK(err, txn->ops->wrap_put(txn->self, row, &err));
}

struct wraps {
    struct dk_wrap_row row[16];
    size_t n, most;
};

static bool note_wrap(void *arg, const struct dk_wrap_row *row)
{
    struct wraps *wraps = arg;
    wraps->row[wraps->n++] = *row;
    return wraps->n != wraps->most;
}

static size_t wraps_of(struct dk_txn *txn, const char *tenant, uint32_t version,
                       struct wraps *wraps)
{
    struct dk_tenant of = tenant_of(tenant);
    wraps->n = 0;
    DK_TEST_OK(err, txn->ops->wraps_of(txn->self, &of, version, note_wrap, wraps, &err));
    return wraps->n;
}

static void a_further_wrap_comes_back_is_replaced_and_goes(void **state)
{
    (void)state;
    for (size_t i = 0; i < STORES; i++) {
        struct shop shop;
        struct wraps got = {.n = 0};
        struct dk_tenant acme = tenant_of("acme");
        shop_open(&shop, i);
        int64_t now = shop.place.w.wall_us;
        struct dk_wrap_row rows[] = {
            wrap_row("acme", 1, "aws-kms", now), wrap_row("acme", 1, "local", now),
            wrap_row("acme", 2, "local", now), wrap_row("globex", 1, "local", now)};
        struct dk_txn txn = begin(&shop, DK_TXN_WRITE);
        for (size_t k = 4; k > 0; k--) {
            put_wrap(&txn, &rows[k - 1]);
        }
        commit(&txn);
        txn = begin(&shop, DK_TXN_WRITE);
        assert_int_equal(wraps_of(&txn, "acme", 1, &got), 2);
        for (size_t k = 0; k < 2; k++) { /* by provider; every column */
            assert_string_equal(got.row[k].tenant.s, "acme");
            assert_int_equal(got.row[k].version, 1);
            assert_string_equal(got.row[k].wrap.provider, rows[k].wrap.provider);
            assert_string_equal(got.row[k].wrap.kms_key_id, "key:1");
            assert_string_equal(got.row[k].wrap.encrypted_data_key, "d3JhcA==");
            assert_string_equal(got.row[k].wrap.context_timestamp, "2026-01-01T00:00:00.000001Z");
            assert_int_equal(got.row[k].last_verified_at, now);
            assert_string_equal(got.row[k].row_mac, "a MAC");
        }
        assert_int_equal(wraps_of(&txn, "acme", 0, &got), 3); /* of all versions */
        assert_int_equal(wraps_of(&txn, "nobody", 0, &got), 0);
        got.most = 1;
        assert_int_equal(wraps_of(&txn, "acme", 0, &got), 1);
        got.most = 0;
        struct dk_wrap_row other = wrap_row("acme", 1, "local", now + 1);
        snprintf(other.wrap.encrypted_data_key, sizeof other.wrap.encrypted_data_key, "bmV3");
        put_wrap(&txn, &other);
        assert_int_equal(wraps_of(&txn, "acme", 1, &got), 2);
        assert_string_equal(got.row[1].wrap.encrypted_data_key, "bmV3");
        assert_int_equal(got.row[1].last_verified_at, now + 1);
        DK_TEST_OK(err, txn.ops->wrap_drop(txn.self, &acme, 1, "local", &err));
        DK_TEST_OK(err, txn.ops->wrap_drop(txn.self, &acme, 1, "local", &err)); /* it is gone */
        commit(&txn);
        txn = begin(&shop, DK_TXN_READ);
        assert_int_equal(wraps_of(&txn, "acme", 1, &got), 1);
        assert_string_equal(got.row[0].wrap.provider, "aws-kms");
        assert_int_equal(wraps_of(&txn, "acme", 2, &got), 1);
        assert_int_equal(wraps_of(&txn, "globex", 1, &got), 1);
        dk_store_rollback(&txn);
        shop_close(&shop);
    }
}

static void versions_without_a_wrap_are_listed_in_pages(void **state)
{
    (void)state;
    for (size_t i = 0; i < STORES; i++) {
        struct shop shop;
        struct dk_key_row rows[8];
        struct dk_key_page page = {.limit = 4, .rows = rows};
        shop_open(&shop, i);
        static const char *const tenants[] = {"a", "b", "c", "d"};
        for (size_t k = 0; k < 4; k++) {
            put_tenant(&shop, tenants[k]);
            put_key(&shop, tenants[k], 1, DK_RETIRED);
            put_key(&shop, tenants[k], 2, k == 3 ? DK_PURGED : DK_ACTIVE);
        }
        struct dk_txn txn = begin(&shop, DK_TXN_WRITE);
        struct dk_wrap_row has = wrap_row("b", 1, "aws-kms", shop.place.w.wall_us);
        put_wrap(&txn, &has);
        has = wrap_row("c", 1, "azure-key-vault", shop.place.w.wall_us); /* another's */
        put_wrap(&txn, &has);
        commit(&txn);
        static const char *const want[] = {"a1", "a2", "b2", "c1", "c2", "d1"};
        size_t seen = 0;
        txn = begin(&shop, DK_TXN_READ);
        do {
            DK_TEST_OK(err, txn.ops->wraps_missing(txn.self, "aws-kms", &page, &err));
            for (size_t k = 0; k < page.count; k++, seen++) {
                char name[8];
                snprintf(name, sizeof name, "%.1s%u", rows[k].tenant.s, rows[k].version);
                assert_true(seen < 6);
                assert_string_equal(name, want[seen]);
                page.after = (struct dk_key_cursor){rows[k].tenant, rows[k].version};
            }
        } while (page.count == 4);
        assert_int_equal(seen, 6);
        page.after = (struct dk_key_cursor){.version = 0}; /* the row itself is of its provider */
        DK_TEST_OK(err, txn.ops->wraps_missing(txn.self, "local", &page, &err));
        assert_int_equal(page.count, 0);
        dk_store_rollback(&txn);
        shop_close(&shop);
    }
}

static void wraps_that_nobody_opened_lately_are_listed_in_pages(void **state)
{
    (void)state;
    for (size_t i = 0; i < STORES; i++) {
        struct shop shop;
        struct wraps got = {.n = 0};
        shop_open(&shop, i);
        int64_t now = shop.place.w.wall_us;
        struct dk_stale stale = {now, now + 7, {.verified_at = DK_TIME_NONE}, 2};
        const struct dk_wrap_row rows[] = {
            wrap_row("z", 1, "local", 0), /* never */
            wrap_row("b", 1, "local", now - 9),   wrap_row("a", 1, "aws-kms", now - 5),
            wrap_row("a", 1, "local", now - 5),   wrap_row("a", 2, "aws-kms", now - 5),
            wrap_row("c", 1, "aws-kms", now + 8), /* by a clock that was ahead */
            wrap_row("b", 2, "local", now + 9),   wrap_row("c", 1, "local", now),
            wrap_row("d", 1, "local", now + 7)};
        struct dk_txn txn = begin(&shop, DK_TXN_WRITE);
        for (size_t k = 9; k > 0; k--) {
            put_wrap(&txn, &rows[k - 1]);
        }
        commit(&txn);
        txn = begin(&shop, DK_TXN_READ);
        size_t seen = 0;
        do { /* pages of two; those of about this moment are not among them */
            got.n = 0;
            DK_TEST_OK(err, txn.ops->wraps_stale(txn.self, &stale, note_wrap, &got, &err));
            assert_true(got.n <= 2);
            for (size_t k = 0; k < got.n; k++, seen++) {
                assert_string_equal(got.row[k].tenant.s, rows[seen].tenant.s);
                assert_int_equal(got.row[k].version, rows[seen].version);
                assert_string_equal(got.row[k].wrap.provider, rows[seen].wrap.provider);
                stale.after = (struct dk_wrap_cursor){got.row[k].last_verified_at,
                                                      got.row[k].tenant, got.row[k].version, ""};
                memcpy(stale.after.provider, got.row[k].wrap.provider, sizeof stale.after.provider);
            }
        } while (got.n == 2);
        assert_int_equal(seen, 7);
        dk_store_rollback(&txn);
        shop_close(&shop);
    }
}

/* More in a row than any page has: MACs that are too long. */
#define UNREADABLE 1100

static void fill_unreadable(struct shop *shop)
{
    char sql[512];
    struct dk_txn txn = begin(shop, DK_TXN_WRITE);
    for (uint32_t k = 1; k <= UNREADABLE + 3; k++) {
        bool inserted = false, good = k == 1 || k > UNREADABLE + 1;
        struct dk_key_row row = key_row(shop, "acme", k, DK_RETIRED);
        struct dk_wrap_row wrap = wrap_row("acme", k, "azure-key-vault", k);
        snprintf(row.row_mac, sizeof row.row_mac, good ? "good" : "bad");
        memcpy(wrap.row_mac, row.row_mac, sizeof wrap.row_mac);
        DK_TEST_OK(err, txn.ops->key_insert(txn.self, &row, &inserted, &err));
        put_wrap(&txn, &wrap);
    }
    commit(&txn);
    const char *const tables[] = {"encryption_keys", "wraps"};
    dk_place_drop_triggers(&shop->place, tables[0]);
    for (size_t i = 0; i < 2; i++) {
        snprintf(sql, sizeof sql, "UPDATE %s SET row_mac = '%0200d' WHERE row_mac = 'bad'",
                 tables[i], 0);
        assert_int_equal(dk_place_sql(&shop->place, sql), 0);
    }
}

static void note_unreadable(void *arg, const char *tenant, uint32_t version)
{
    uint32_t *last = arg;
    assert_string_equal(tenant, "acme");
    assert_int_equal(version, ++*last);
}

static void rows_that_cannot_be_read_keep_nobody_from_those_behind_them(void **state)
{
    (void)state;
    for (size_t i = 0; i < STORES; i++) {
        struct shop shop;
        struct wraps got = {.n = 0};
        struct dk_key_row rows[2];
        const struct dk_tenant acme = tenant_of("acme");
        shop_open(&shop, i);
        fill_unreadable(&shop);
        struct dk_txn txn = begin(&shop, DK_TXN_READ);
        for (int which = 0; which < 3; which++) {
            uint32_t last = 1;
            struct dk_key_page page = {
                .limit = 2, .rows = rows, .unreadable = note_unreadable, .arg = &last};
            for (uint32_t round = 0; round < 2; round++) {
                if (which == 0) {
                    DK_TEST_OK(err, txn.ops->wraps_missing(txn.self, "aws-kms", &page, &err));
                } else {
                    DK_TEST_OK(err,
                               txn.ops->key_page(txn.self, which == 1 ? &acme : NULL, &page, &err));
                }
                assert_int_equal(page.count, 2 - round);
                assert_int_equal(rows[0].version, round == 0 ? 1 : UNREADABLE + 3);
                assert_int_equal(rows[1].version, UNREADABLE + 2);
                assert_int_equal(last, UNREADABLE + 1);
                page.after = (struct dk_key_cursor){rows[1].tenant, rows[1].version};
            }
        }
        struct dk_stale stale = {
            shop.place.w.wall_us, INT64_C(1) << 52, {.verified_at = DK_TIME_NONE}, 2};
        DK_TEST_OK(err, txn.ops->wraps_stale(txn.self, &stale, note_wrap, &got, &err));
        assert_int_equal(got.n, 2);
        assert_int_equal(got.row[1].version, UNREADABLE + 2);
        dk_store_rollback(&txn);
        shop_close(&shop);
    }
}

struct columns {
    struct dk_wrap_columns wrap[8];
    size_t n;
};

static bool note_columns(void *arg, const struct dk_wrap_columns *wrap)
{
    struct columns *columns = arg;
    columns->wrap[columns->n++] = *wrap;
    return true;
}

static size_t registry_wraps(struct dk_txn *txn, uint32_t generation, struct columns *out)
{
    out->n = 0;
    DK_TEST_OK(err, txn->ops->registry_wraps(txn->self, generation, note_columns, out, &err));
    return out->n;
}

static void the_registrys_wrap_changes_only_for_a_further_one_and_from_what_was_read(void **state)
{
    (void)state;
    for (size_t i = 0; i < STORES; i++) {
        struct shop shop;
        struct columns got;
        struct dk_registry_row row;
        const struct dk_wrap_columns first = {"local", "local:1",
                                              "Zmlyc3Q=", "2026-01-01T00:00:00.000000Z"};
        const struct dk_wrap_columns second = {"aws-kms", "arn:1", "c2Vjb25k",
                                               "2026-01-02T00:00:00.000000Z"};
        struct dk_wrap_columns newer = second;
        bool filled = false;
        snprintf(newer.encrypted_data_key, sizeof newer.encrypted_data_key, "bmV3ZXI=");
        shop_open(&shop, i);
        struct dk_txn txn = begin(&shop, DK_TXN_WRITE);
        DK_TEST_OK(err, txn.ops->registry_fill(txn.self, &first, &filled, &err));
        DK_TEST_OK(err, txn.ops->registry_wrap_put(txn.self, 1, &second, &err));
        DK_TEST_OK(err, txn.ops->registry_wrap_put(txn.self, 2, &second, &err));
        DK_TEST_OK(err, txn.ops->registry_wrap_put(txn.self, 1, &newer, &err)); /* replaces */
        commit(&txn);
        txn = begin(&shop, DK_TXN_WRITE);
        assert_int_equal(registry_wraps(&txn, 1, &got), 1);
        assert_string_equal(got.wrap[0].encrypted_data_key, "bmV3ZXI=");
        assert_string_equal(got.wrap[0].kms_key_id, "arn:1");
        assert_string_equal(got.wrap[0].context_timestamp, second.context_timestamp);
        /* It is no further one: a trigger says no. */
        DK_TEST_FAILS(err, STORE, txn.ops->registry_rewrap(txn.self, 1, &first, &second, &err));
        dk_store_rollback(&txn);
        txn = begin(&shop, DK_TXN_WRITE); /* that is not the one that is there */
        DK_TEST_FAILS(err, CONFLICT, txn.ops->registry_rewrap(txn.self, 1, &newer, &newer, &err));
        dk_store_rollback(&txn);
        txn = begin(&shop, DK_TXN_WRITE);
        DK_TEST_FAILS(err, CONFLICT, txn.ops->registry_rewrap(txn.self, 2, &first, &newer, &err));
        dk_store_rollback(&txn);
        txn = begin(&shop, DK_TXN_WRITE);
        DK_TEST_OK(err, txn.ops->registry_rewrap(txn.self, 1, &first, &newer, &err));
        DK_TEST_OK(err, txn.ops->registry_wrap_drop(txn.self, 1, "aws-kms", &err));
        DK_TEST_OK(err, txn.ops->registry_wrap_drop(txn.self, 1, "aws-kms", &err));
        DK_TEST_OK(err, txn.ops->registry_read(txn.self, &row, &err));
        assert_string_equal(row.wrap.encrypted_data_key, "bmV3ZXI=");
        commit(&txn);
        txn = begin(&shop, DK_TXN_READ);
        DK_TEST_OK(err, txn.ops->registry_read(txn.self, &row, &err));
        assert_string_equal(row.wrap.provider, "aws-kms");
        assert_int_equal(row.generation, 1);
        assert_int_equal(registry_wraps(&txn, 1, &got), 0);
        assert_int_equal(registry_wraps(&txn, 2, &got), 1);
        dk_store_rollback(&txn);
        shop_close(&shop);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(R3_a_registry_key_gives_way_to_the_next_and_is_kept),
        cmocka_unit_test(a_further_wrap_comes_back_is_replaced_and_goes),
        cmocka_unit_test(versions_without_a_wrap_are_listed_in_pages),
        cmocka_unit_test(wraps_that_nobody_opened_lately_are_listed_in_pages),
        cmocka_unit_test(rows_that_cannot_be_read_keep_nobody_from_those_behind_them),
        cmocka_unit_test(the_registrys_wrap_changes_only_for_a_further_one_and_from_what_was_read),
        cmocka_unit_test(macs_are_renewed_where_they_are_still_the_old_ones),
        cmocka_unit_test(a_new_store_exists_once_it_is_migrated),
        cmocka_unit_test(the_registry_key_is_filled_once),
        cmocka_unit_test(a_tenant_is_inserted_where_it_is_absent),
        cmocka_unit_test(I05_a_tenant_changes_only_from_the_epoch_that_was_read),
        cmocka_unit_test(what_is_rolled_back_is_not_there),
        cmocka_unit_test(a_key_row_comes_back_as_it_was_stored),
        cmocka_unit_test(I05_a_second_active_key_or_a_version_twice_is_not_inserted),
        cmocka_unit_test(I05_F32_a_data_key_in_use_already_is_refused),
        cmocka_unit_test(I09_only_changes_of_the_state_table_are_stored),
        cmocka_unit_test(I09_raw_sql_passes_the_same_table),
        cmocka_unit_test(a_key_changes_only_from_the_state_that_was_read),
        cmocka_unit_test(F55_a_purged_row_keeps_no_blob),
        cmocka_unit_test(I09_what_may_not_change_is_refused_to_raw_sql),
        cmocka_unit_test(I09_compromised_at_is_never_cleared),
        cmocka_unit_test(R25_messages_of_many_versions_add_up),
        cmocka_unit_test(keys_are_listed_in_pages_by_tenant_and_version),
        cmocka_unit_test(key_counts_tell_active_expired_and_near),
        cmocka_unit_test(the_log_is_walked_both_ways_and_in_parts),
        cmocka_unit_test(R13_a_clear_since_a_mark_is_seen_once),
        cmocka_unit_test(a_log_row_is_written_once_and_chained_once),
        cmocka_unit_test(seals_are_walked_from_any_number_on),
        cmocka_unit_test(tenants_and_the_macs_of_their_keys_are_listed),
        cmocka_unit_test(I04_a_key_is_found_beside_the_macs_of_all),
        cmocka_unit_test(I07_many_keys_are_found_at_once_each_with_what_there_is_of_its_tenant),
        cmocka_unit_test(I07_first_versions_are_inserted_where_nothing_of_the_tenant_is),
        cmocka_unit_test(I06_first_versions_are_made_while_others_are_stored),
        cmocka_unit_test(R13_changes_since_a_mark_are_told_once),
        cmocka_unit_test(I04_a_store_that_is_older_than_a_mark_says_so),
        cmocka_unit_test(calls_add_up_by_day_and_are_summed_by_operation),
        cmocka_unit_test(rows_that_dekhand_cannot_have_written_are_tampered),
        cmocka_unit_test(F80_a_newer_schema_is_refused),
        cmocka_unit_test(F23_the_database_of_another_program_is_left_alone),
        cmocka_unit_test(a_file_that_is_no_database_is_refused),
        cmocka_unit_test(an_unknown_scheme_names_those_there_are),
        cmocka_unit_test(I01_a_schema_that_differs_is_told_and_made_again),
        cmocka_unit_test(I05_an_index_that_rows_forbid_is_not_made_again),
        cmocka_unit_test(processes_that_migrate_at_once_make_one_registry),
        cmocka_unit_test(F15_a_locked_store_is_busy_and_can_be_tried_again),
        cmocka_unit_test(F16_where_nothing_can_be_written_reading_goes_on),
        cmocka_unit_test(F16_a_reader_without_rights_sees_what_a_writer_has_committed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
