/* First versions of many tenants at once in PostgreSQL, made while earlier ones are being stored.
 */
#include <stdlib.h>
#include <string.h>

#include "store/pg_txn.h"

/* The server has nothing to do until it has the first. */
#define FIRST_SLICE 128
#define SLICE 512
#define THERE_ALREADY "23505" /* of a unique index */

/* ---- columns --------------------------------------------------------------------------------- */

/* One array for each that is not the same in all rows; those of one table stand together. */
enum {
    A_TENANT, /* of all tables */
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
    A_VERSION, /* of keys and log */
    A_LOG_ID,
    A_OPERATION,
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

/* ---- statements ------------------------------------------------------------------------------ */

/* A table each, of tenants that are new: as fast as it gets. One that is not new stops them. */
static const struct {
    const char *sql;
    int from, to; /* columns, after the tenant's name */
} plain[] = {
    {"INSERT INTO tenants (" DK_PG_TENANT_COLUMNS
     ") SELECT tenant, 2, 1, NULL, mac, head, digest FROM unnest($1, $2, $3, $4) u(tenant, mac, "
     "head, digest)",
     A_TENANT_MAC, A_DIGEST},
    {"INSERT INTO encryption_keys (" DK_PG_KEY_COLUMNS
     ") SELECT id::uuid, tenant, version, 'active', provider, kms_key, wrapped, stamp, checked, "
     "created, expires, NULL, NULL, NULL, NULL, 0, mac FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, "
     "$9, $10, $11) u(tenant, id, provider, kms_key, wrapped, stamp, checked, created, expires, "
     "mac, version)",
     A_KEY_ID, A_VERSION},
    {"INSERT INTO key_rotation_log (" DK_PG_LOG_COLUMNS
     ") SELECT id::uuid, tenant, operation, NULL, version, true, NULL, at, by, node, detail, NULL, "
     "mac FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9) u(tenant, version, id, operation, at, "
     "by, node, detail, mac)",
     A_VERSION, A_LOG_MAC},
};
#define TABLES (sizeof plain / sizeof plain[0])

/*
 * All three in one: keys and log rows of those whose tenant row was inserted. A tenant that is
 * there already, or becomes so while this waits for it, is passed over.
 */
static const char careful[] =
    "WITH u AS (SELECT * FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, "
    "$15, $16, $17, $18, $19, $20, $21) WITH ORDINALITY u(tenant, tenant_mac, head, digest, "
    "key_id, provider, kms_key, wrapped, stamp, checked, created, expires, key_mac, version, "
    "log_id, operation, at, by, node, detail, log_mac, i)), "
    "t AS (INSERT INTO tenants (" DK_PG_TENANT_COLUMNS ") SELECT tenant, 2, 1, NULL, tenant_mac, "
    "head, digest FROM u ORDER BY i ON CONFLICT DO NOTHING RETURNING tenant_id), "
    "k AS (INSERT INTO encryption_keys (" DK_PG_KEY_COLUMNS ") SELECT key_id::uuid, tenant, "
    "version, 'active', provider, kms_key, wrapped, stamp, checked, created, expires, NULL, NULL, "
    "NULL, NULL, 0, key_mac FROM u WHERE tenant IN (SELECT tenant_id FROM t) ON CONFLICT DO "
    "NOTHING RETURNING tenant_id), "
    "l AS (INSERT INTO key_rotation_log (" DK_PG_LOG_COLUMNS ") SELECT log_id::uuid, tenant, "
    "operation, NULL, version, true, NULL, at, by, node, detail, NULL, log_mac FROM u WHERE tenant "
    "IN (SELECT tenant_id FROM k) ORDER BY i RETURNING tenant_id) "
    "SELECT u.i, k.tenant_id IS NOT NULL, l.tenant_id IS NOT NULL FROM u JOIN t ON t.tenant_id = "
    "u.tenant LEFT JOIN k ON k.tenant_id = u.tenant LEFT JOIN l ON l.tenant_id = u.tenant";

/* ---- slices ---------------------------------------------------------------------------------- */

struct inserting {
    struct dk_pg_txn *txn;
    struct dk_first *firsts;
    size_t count;
    dk_rc (*make)(void *arg, size_t i, struct dk_err *err);
    void *arg;
    bool careful;                  /* the second time */
    bool passed_over;              /* the first time: not all rows were stored */
    struct dk_pg_array a[A_COUNT]; /* of the slice that is stored */
    struct dk_pg_params params;
};

static size_t first_of(const struct inserting *in, size_t slice, size_t *n)
{
    size_t from = slice == 0 ? 0 : FIRST_SLICE + (slice - 1) * SLICE;
    size_t most = slice == 0 ? FIRST_SLICE : SLICE;
    *n = in->count - from < most ? in->count - from : most;
    return from;
}

static size_t slices_of(size_t count)
{
    return count <= FIRST_SLICE ? 1 : 1 + (count - FIRST_SLICE + SLICE - 1) / SLICE;
}

static void free_arrays(struct inserting *in)
{
    for (size_t c = 0; c < A_COUNT; c++) {
        dk_pg_array_free(&in->a[c]);
    }
}

static dk_rc make_slice(struct inserting *in, size_t slice, struct dk_err *err)
{
    size_t n, from = first_of(in, slice, &n);
    bool failed = false;
    free_arrays(in);
    for (size_t c = 0; c < A_COUNT; c++) {
        dk_pg_array_begin(&in->a[c], &in->txn->store->world->mem, members[c], n);
    }
    for (size_t i = from; i < from + n; i++) {
        if (!in->careful && in->make != NULL) {
            DK_TRY(in->make(in->arg, i, err));
        }
        in->firsts[i].inserted = !in->careful; /* or else it is done again */
        in->firsts[i].orphans = false;
        add_first(in->a, &in->firsts[i]);
    }
    for (size_t c = 0; c < A_COUNT; c++) {
        failed = failed || in->a[c].failed;
    }
    return failed ? DK_FAIL(err, NOMEM, "no memory for %zu new tenants", in->count) : DK_OK;
}

static void add_columns(struct inserting *in, int from, int to)
{
    in->params.n = 0;
    dk_pg_array(&in->params, &in->a[A_TENANT]);
    for (int c = from; c <= to; c++) {
        dk_pg_array(&in->params, &in->a[c]);
    }
}

static dk_rc send_plain(void *arg, size_t k, struct dk_pg_call *call, struct dk_err *err)
{
    struct inserting *in = arg;
    if (k == 0) {
        call->sql = "SAVEPOINT first_use";
        return DK_OK;
    }
    size_t table = (k - 1) % TABLES;
    if (table == 0) {
        DK_TRY(make_slice(in, (k - 1) / TABLES, err));
    }
    add_columns(in, plain[table].from, plain[table].to);
    *call = (struct dk_pg_call){.sql = plain[table].sql, .params = &in->params};
    return DK_OK;
}

static dk_rc count_plain(void *arg, size_t k, PGresult *r, struct dk_err *err)
{
    struct inserting *in = arg;
    size_t n = 0;
    (void)err;
    if (k > 0) {
        (void)first_of(in, (k - 1) / TABLES, &n);
        in->passed_over = in->passed_over || dk_pg_touched(r) != (int64_t)n;
    }
    PQclear(r);
    return DK_OK;
}

static dk_rc send_careful(void *arg, size_t k, struct dk_pg_call *call, struct dk_err *err)
{
    struct inserting *in = arg;
    if (k == 0) {
        call->sql = "ROLLBACK TO SAVEPOINT first_use";
        return DK_OK;
    }
    DK_TRY(make_slice(in, k - 1, err));
    add_columns(in, A_TENANT + 1, A_COUNT - 1);
    *call = (struct dk_pg_call){.sql = careful, .params = &in->params};
    return DK_OK;
}

static dk_rc note_careful(void *arg, size_t k, PGresult *r, struct dk_err *err)
{
    struct inserting *in = arg;
    dk_rc rc = DK_OK;
    for (int i = 0; i < PQntuples(r) && rc == DK_OK && k > 0; i++) {
        size_t n, from = first_of(in, k - 1, &n);
        int64_t at;
        bool key, log;
        if (!dk_pg_get_int(r, i, 0, 1, (int64_t)n, &at) || !dk_pg_get_bool(r, i, 1, &key) ||
            !dk_pg_get_bool(r, i, 2, &log)) {
            rc = dk_pg_tampered("what was inserted", err);
        } else if (key && !log) {
            rc = DK_FAIL(err, TAMPERED, "something in the database drops log rows");
        } else {
            in->firsts[from + (size_t)at - 1].inserted = true;
            in->firsts[from + (size_t)at - 1].orphans = !key;
        }
    }
    PQclear(r);
    return rc;
}

static dk_rc insert_slices(struct inserting *in, struct dk_err *err)
{
    struct dk_pg_feed feed = {.count = 1 + slices_of(in->count) * (in->careful ? 1 : TABLES),
                              .what = "storing new tenants",
                              .make = in->careful ? send_careful : send_plain,
                              .eat = in->careful ? note_careful : count_plain,
                              .arg = in};
    dk_rc rc = dk_pg_feed(in->txn, &feed, err);
    free_arrays(in);
    return rc;
}

/* Once more where the plain way met something that was there. */
static dk_rc insert_all(struct inserting *in, struct dk_err *err)
{
    struct dk_pg_txn *txn = in->txn;
    struct dk_err cause;
    dk_err_clear(&cause);
    dk_rc rc = insert_slices(in, &cause);
    bool met = rc != DK_OK && !txn->gone && dk_pg_failed_by(&cause, THERE_ALREADY);
    if (met || (rc == DK_OK && in->passed_over)) {
        txn->failed = false;
        in->careful = true;
        return insert_slices(in, err);
    }
    if (rc != DK_OK) {
        *err = cause;
    }
    return rc;
}

dk_rc dk_pg_insert_first(void *self, struct dk_first *firsts, size_t count,
                         dk_rc (*make)(void *arg, size_t i, struct dk_err *err), void *arg,
                         struct dk_err *err)
{
    struct dk_pg_txn *txn = self;
    struct inserting in = {.txn = txn, .firsts = firsts, .count = count, .make = make, .arg = arg};
    for (size_t c = 0; c < A_COUNT; c++) {
        in.a[c].mem = &txn->store->world->mem;
    }
    dk_trace(txn->store->world, "first_use.tenant_inserted");
    DK_TRY(insert_all(&in, err));
    for (size_t i = 0; i < count; i++) {
        if (firsts[i].orphans) {
            DK_TRY(dk_pg_explain_ignored(txn, firsts[i].key, err));
        }
    }
    return DK_OK;
}
