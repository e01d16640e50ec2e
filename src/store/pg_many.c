/* Many tenants in one statement of PostgreSQL: arrays in, rows out. */
#include <stdlib.h>
#include <string.h>

#include "store/pg_txn.h"

/* ---- looking for many ------------------------------------------------------------------------ */

static bool is_wanted(const struct dk_find *find, uint32_t version, const PGresult *r, int i)
{
    char state[16];
    return find->version != 0 ? find->version == version
                              : dk_pg_get_str(r, i, 4, state, sizeof state) &&
                                    strcmp(state, dk_state_name(DK_ACTIVE)) == 0;
}

/* The number of the one that a row is of, from 1 on in the statement. */
static bool read_place(const PGresult *r, int i, size_t count, size_t *out)
{
    int64_t at = 0;
    bool good = dk_pg_get_int(r, i, 0, 1, (int64_t)count, &at);
    *out = good ? (size_t)at - 1 : 0;
    return good;
}

static dk_rc take_tenants(const PGresult *r, struct dk_find *finds, size_t count,
                          struct dk_err *err)
{
    for (int i = 0; i < PQntuples(r); i++) {
        size_t at;
        if (!read_place(r, i, count, &at)) {
            return dk_pg_tampered("tenants", err);
        }
        finds[at].row_rc = dk_pg_get_tenant_row(r, i, 1, &finds[at].row) ? DK_OK : DK_E_TAMPERED;
    }
    return DK_OK;
}

/* Of a tenant whose rows cannot all be read nothing is believed; the others go on. */
static dk_rc take_keys(const PGresult *r, struct dk_find *finds, size_t count,
                       bool (*each)(void *arg, size_t i, uint32_t version, const char *row_mac),
                       void *arg, struct dk_err *err)
{
    bool more = true;
    for (int i = 0; i < PQntuples(r) && more; i++) {
        size_t at;
        uint32_t version;
        char row_mac[DK_MAC_TEXT];
        if (!read_place(r, i, count, &at)) {
            return dk_pg_tampered("encryption_keys", err);
        }
        struct dk_find *find = &finds[at];
        find->versions++;
        if (!dk_pg_get_version(r, i, 3, &version) ||
            !dk_pg_get_str(r, i, 17, row_mac, sizeof row_mac)) {
            find->key_rc = DK_E_TAMPERED;
            continue;
        }
        more = each(arg, at, version, row_mac);
        if (find->key_rc == DK_E_NOT_FOUND && is_wanted(find, version, r, i)) {
            find->key_rc = dk_pg_get_key(r, i, 1, find->key) ? DK_OK : DK_E_TAMPERED;
        }
    }
    return DK_OK;
}

static bool is_unknown(const struct dk_find *find)
{
    return find->row_rc == DK_E_NOT_FOUND && find->versions == 0 && !find->no_log;
}

static dk_rc ask_log(struct dk_pg_txn *txn, struct dk_find *finds, size_t count,
                     const struct dk_pg_array *ids, struct dk_err *err)
{
    struct dk_pg_params p = {.n = 0};
    PGresult *r = NULL;
    size_t row = 0;
    dk_rc rc = DK_OK;
    dk_pg_array(&p, ids);
    DK_TRY(
        dk_pg_ask(txn, NULL,
                  "SELECT (SELECT true FROM key_rotation_log l WHERE l.tenant_id = u.id AND "
                  "l.operation <> 'decrypt' LIMIT 1) IS NOT NULL FROM unnest($1) WITH ORDINALITY "
                  "u(id, i) ORDER BY u.i",
                  &p, "looking for tenants in the log", &r, err));
    for (size_t i = 0; i < count && rc == DK_OK; i++) {
        if (is_unknown(&finds[i])) {
            bool good =
                (int)row < PQntuples(r) && dk_pg_get_bool(r, (int)row++, 0, &finds[i].in_log);
            rc = good ? DK_OK : dk_pg_tampered("key_rotation_log", err);
        }
    }
    PQclear(r);
    return rc;
}

/* Those of whom nothing is there: does the log know them? */
static dk_rc look_into_log(struct dk_pg_txn *txn, struct dk_find *finds, size_t count,
                           struct dk_err *err)
{
    struct dk_pg_array ids;
    size_t unknown = 0;
    for (size_t i = 0; i < count; i++) {
        unknown += is_unknown(&finds[i]);
    }
    if (unknown == 0) {
        return DK_OK;
    }
    dk_pg_array_begin(&ids, &txn->store->world->mem, DK_PG_TEXTS, unknown);
    for (size_t i = 0; i < count; i++) {
        if (is_unknown(&finds[i])) {
            dk_pg_array_str(&ids, finds[i].tenant->s);
        }
    }
    dk_rc rc = ids.failed ? DK_FAIL(err, NOMEM, "no memory to look for %zu tenants", unknown)
                          : ask_log(txn, finds, count, &ids, err);
    dk_pg_array_free(&ids);
    return rc;
}

/* OFFSET 0: one look into the index for each, and no join of the whole table. */
static dk_rc find_in(struct dk_pg_txn *txn, struct dk_find *finds, size_t count,
                     const struct dk_pg_params *p,
                     bool (*each)(void *arg, size_t i, uint32_t version, const char *row_mac),
                     void *arg, struct dk_err *err)
{
    static const char *const sql[2] = {
        "SELECT u.i, t.* FROM unnest($1) WITH ORDINALITY u(k, i), LATERAL "
        "(SELECT " DK_PG_TENANT_COLUMNS " FROM tenants WHERE tenant_id = u.k OFFSET 0) t",
        "SELECT u.i, k.* FROM unnest($1) WITH ORDINALITY u(k, i), LATERAL "
        "(SELECT " DK_PG_KEY_COLUMNS
        " FROM encryption_keys WHERE tenant_id = u.k ORDER BY version OFFSET 0) k"};
    PGresult *r[2] = {NULL, NULL};
    DK_TRY(dk_pg_ask_two(txn, sql, p, "looking for keys", r, err));
    dk_rc rc = take_tenants(r[0], finds, count, err);
    rc = rc == DK_OK ? take_keys(r[1], finds, count, each, arg, err) : rc;
    PQclear(r[0]);
    PQclear(r[1]);
    return rc == DK_OK ? look_into_log(txn, finds, count, err) : rc;
}

dk_rc dk_pg_find_many(void *self, struct dk_find *finds, size_t count,
                      bool (*each)(void *arg, size_t i, uint32_t version, const char *row_mac),
                      void *arg, struct dk_err *err)
{
    struct dk_pg_txn *txn = self;
    struct dk_pg_params p = {.n = 0};
    struct dk_pg_array ids;
    dk_pg_array_begin(&ids, &txn->store->world->mem, DK_PG_TEXTS, count);
    for (size_t i = 0; i < count; i++) {
        dk_pg_array_str(&ids, finds[i].tenant->s);
        memset(&finds[i].row, 0, sizeof finds[i].row);
        finds[i].row_rc = finds[i].key_rc = DK_E_NOT_FOUND;
        finds[i].versions = 0;
        finds[i].in_log = false;
    }
    dk_pg_array(&p, &ids);
    dk_rc rc = ids.failed ? DK_FAIL(err, NOMEM, "no memory to look for %zu keys", count)
                          : find_in(txn, finds, count, &p, each, arg, err);
    dk_pg_array_free(&ids);
    return rc;
}

/* ---- first versions of many ------------------------------------------------------------------ */

/* One array for each column that is not the same in all rows. */
enum {
    A_TENANT,
    A_TENANT_MAC,
    A_HEAD,
    A_DIGEST,
    A_KEY_ID,
    A_PROVIDER,
    A_KMS_KEY,
    A_WRAPPED,
    A_TIMESTAMP,
    A_CHECK,
    A_CREATED,
    A_EXPIRES,
    A_KEY_MAC,
    A_LOG_ID,
    A_OPERATION,
    A_VERSION,
    A_AT,
    A_BY,
    A_NODE,
    A_DETAIL,
    A_LOG_MAC,
    A_COUNT
};

static const enum dk_pg_member members[A_COUNT] = {
    [A_CHECK] = DK_PG_BYTEAS, [A_CREATED] = DK_PG_TIMES, [A_EXPIRES] = DK_PG_TIMES,
    [A_VERSION] = DK_PG_INTS, [A_AT] = DK_PG_TIMES,
};

static void add_first(struct dk_pg_array *a, const struct dk_first *first)
{
    const struct dk_tenant_row *tenant = first->tenant;
    const struct dk_key_row *key = first->key;
    const struct dk_log_row *log = first->log;
    dk_pg_array_str(&a[A_TENANT], tenant->tenant.s);
    dk_pg_array_str(&a[A_TENANT_MAC], tenant->row_mac);
    dk_pg_array_str_or_null(&a[A_HEAD], tenant->log_head);
    dk_pg_array_str_or_null(&a[A_DIGEST], tenant->keys_digest);
    dk_pg_array_str(&a[A_KEY_ID], key->id);
    dk_pg_array_str(&a[A_PROVIDER], key->wrap.provider);
    dk_pg_array_str(&a[A_KMS_KEY], key->wrap.kms_key_id);
    dk_pg_array_str(&a[A_WRAPPED], key->wrap.encrypted_data_key);
    dk_pg_array_str(&a[A_TIMESTAMP], key->wrap.context_timestamp);
    dk_pg_array_bytes(&a[A_CHECK], key->check_value, DK_CHECK_BYTES);
    dk_pg_array_time(&a[A_CREATED], key->created_at);
    dk_pg_array_time(&a[A_EXPIRES], key->expires_at);
    dk_pg_array_str(&a[A_KEY_MAC], key->row_mac);
    dk_pg_array_str(&a[A_LOG_ID], log->id);
    dk_pg_array_str(&a[A_OPERATION], log->operation);
    dk_pg_array_int(&a[A_VERSION], log->to_version);
    dk_pg_array_time(&a[A_AT], log->performed_at);
    dk_pg_array_str_or_null(&a[A_BY], log->performed_by);
    dk_pg_array_str_or_null(&a[A_NODE], log->node);
    dk_pg_array_str_or_null(&a[A_DETAIL], log->detail);
    dk_pg_array_str_or_null(&a[A_LOG_MAC], log->mac);
}

/*
 * Three tables in one statement: keys and log rows of those whose tenant row was inserted. A tenant
 * that is there already, or becomes so while this waits for it, is passed over.
 */
static const char insert_all[] =
    "WITH u AS (SELECT * FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, "
    "$15, $16, $17, $18, $19, $20, $21) WITH ORDINALITY u(tenant, tenant_mac, head, digest, "
    "key_id, "
    "provider, kms_key, wrapped, stamp, checked, created, expires, key_mac, log_id, operation, "
    "version, at, by, node, detail, log_mac, i)), "
    "t AS (INSERT INTO tenants (" DK_PG_TENANT_COLUMNS ") SELECT tenant, 2, 1, NULL, tenant_mac, "
    "head, digest FROM u ORDER BY tenant ON CONFLICT DO NOTHING RETURNING tenant_id), "
    "k AS (INSERT INTO encryption_keys (" DK_PG_KEY_COLUMNS ") SELECT key_id::uuid, tenant, "
    "version, 'active', provider, kms_key, wrapped, stamp, checked, created, expires, NULL, NULL, "
    "NULL, NULL, 0, key_mac FROM u WHERE tenant IN (SELECT tenant_id FROM t) ON CONFLICT DO "
    "NOTHING RETURNING tenant_id), "
    "l AS (INSERT INTO key_rotation_log (" DK_PG_LOG_COLUMNS ") SELECT log_id::uuid, tenant, "
    "operation, NULL, version, true, NULL, at, by, node, detail, NULL, log_mac FROM u WHERE tenant "
    "IN (SELECT tenant_id FROM k) ORDER BY i RETURNING tenant_id) "
    "SELECT u.i, k.tenant_id IS NOT NULL, l.tenant_id IS NOT NULL FROM u JOIN t ON t.tenant_id = "
    "u.tenant LEFT JOIN k ON k.tenant_id = u.tenant LEFT JOIN l ON l.tenant_id = u.tenant";

static dk_rc note_one(struct dk_pg_txn *txn, struct dk_first *first, bool key, bool log,
                      struct dk_err *err)
{
    first->inserted = true;
    first->orphans = !key;
    if (!key) {
        return dk_pg_explain_ignored(txn, first->key, err);
    }
    return log ? DK_OK : DK_FAIL(err, TAMPERED, "something in the database drops log rows");
}

static dk_rc insert_in(struct dk_pg_txn *txn, const struct dk_pg_params *p, struct dk_first *firsts,
                       size_t count, struct dk_err *err)
{
    PGresult *r = NULL;
    dk_rc rc = DK_OK;
    DK_TRY(dk_pg_ask(txn, NULL, insert_all, p, "storing new tenants", &r, err));
    for (int i = 0; i < PQntuples(r) && rc == DK_OK; i++) {
        size_t at;
        bool key, log;
        bool good = read_place(r, i, count, &at) && dk_pg_get_bool(r, i, 1, &key) &&
                    dk_pg_get_bool(r, i, 2, &log);
        rc = good ? note_one(txn, &firsts[at], key, log, err)
                  : dk_pg_tampered("what was inserted", err);
    }
    PQclear(r);
    return rc;
}

dk_rc dk_pg_insert_first(void *self, struct dk_first *firsts, size_t count, struct dk_err *err)
{
    struct dk_pg_txn *txn = self;
    struct dk_pg_params p = {.n = 0};
    struct dk_pg_array a[A_COUNT];
    bool failed = false;
    for (size_t k = 0; k < A_COUNT; k++) {
        dk_pg_array_begin(&a[k], &txn->store->world->mem, members[k], count);
    }
    for (size_t i = 0; i < count; i++) {
        firsts[i].inserted = firsts[i].orphans = false;
        add_first(a, &firsts[i]);
    }
    for (size_t k = 0; k < A_COUNT; k++) {
        dk_pg_array(&p, &a[k]);
        failed = failed || a[k].failed;
    }
    dk_trace(txn->store->world, "first_use.tenant_inserted");
    dk_rc rc = failed ? DK_FAIL(err, NOMEM, "no memory for %zu new tenants", count)
                      : insert_in(txn, &p, firsts, count, err);
    for (size_t k = 0; k < A_COUNT; k++) {
        dk_pg_array_free(&a[k]);
    }
    return rc;
}
