/* The rows of keys to and from PostgreSQL. */
#include <string.h>

#include "store/pg_txn.h"

#define PAGE 500        /* rows that are read at once where there is no limit */
#define COUNT_PAGE 1000 /* versions whose messages are counted in one statement */

bool dk_pg_get_key(const PGresult *r, int i, int c, struct dk_key_row *out)
{
    char state[16];
    return dk_pg_get_uuid(r, i, c, out->id) && dk_pg_get_tenant(r, i, c + 1, &out->tenant) &&
           dk_pg_get_version(r, i, c + 2, &out->version) &&
           dk_pg_get_str(r, i, c + 3, state, sizeof state) &&
           dk_state_from_name(state, &out->state) && dk_pg_get_wrap(r, i, c + 4, &out->wrap) &&
           dk_pg_get_bytes(r, i, c + 8, out->check_value, DK_CHECK_BYTES) &&
           dk_pg_get_time(r, i, c + 9, false, &out->created_at) &&
           dk_pg_get_time(r, i, c + 10, false, &out->expires_at) &&
           dk_pg_get_time(r, i, c + 11, true, &out->rotated_at) &&
           dk_pg_get_time(r, i, c + 12, true, &out->compromised_at) &&
           dk_pg_get_time(r, i, c + 13, true, &out->disabled_at) &&
           dk_pg_get_time(r, i, c + 14, true, &out->purged_at) &&
           dk_pg_get_int(r, i, c + 15, 0, INT64_MAX, &out->messages) &&
           dk_pg_get_str(r, i, c + 16, out->row_mac, sizeof out->row_mac);
}

static dk_rc read_one(struct dk_pg_txn *txn, const struct dk_tenant *tenant, const char *sql,
                      const struct dk_pg_params *p, struct dk_key_row *out, struct dk_err *err)
{
    struct dk_key_row row;
    PGresult *r = NULL;
    memset(&row, 0, sizeof row);
    DK_TRY(dk_pg_one(txn, tenant->s, sql, p, "encryption_keys", &r, err));
    bool good = dk_pg_get_key(r, 0, 0, &row);
    PQclear(r);
    if (!good) {
        return dk_pg_tampered("encryption_keys", err);
    }
    *out = row;
    return DK_OK;
}

dk_rc dk_pg_key_read(void *self, const struct dk_tenant *tenant, uint32_t version,
                     struct dk_key_row *out, struct dk_err *err)
{
    struct dk_pg_params p = {.n = 0};
    dk_pg_str(&p, tenant->s);
    dk_pg_int(&p, version);
    return read_one(self, tenant,
                    "SELECT " DK_PG_KEY_COLUMNS
                    " FROM encryption_keys WHERE tenant_id = $1 AND version "
                    "= $2",
                    &p, out, err);
}

dk_rc dk_pg_key_read_active(void *self, const struct dk_tenant *tenant, struct dk_key_row *out,
                            struct dk_err *err)
{
    struct dk_pg_params p = {.n = 0};
    dk_pg_str(&p, tenant->s);
    return read_one(self, tenant,
                    "SELECT " DK_PG_KEY_COLUMNS
                    " FROM encryption_keys WHERE tenant_id = $1 AND state = "
                    "'active'",
                    &p, out, err);
}

static void add_key(struct dk_pg_params *p, const struct dk_key_row *row)
{
    dk_pg_uuid(p, row->id);
    dk_pg_str(p, row->tenant.s);
    dk_pg_int(p, row->version);
    dk_pg_str(p, dk_state_name(row->state));
    dk_pg_str(p, row->wrap.provider);
    dk_pg_str(p, row->wrap.kms_key_id);
    dk_pg_str(p, row->wrap.encrypted_data_key);
    dk_pg_str(p, row->wrap.context_timestamp);
    dk_pg_bytes(p, row->check_value, DK_CHECK_BYTES);
    dk_pg_time(p, row->created_at);
    dk_pg_time(p, row->expires_at);
    dk_pg_time(p, row->rotated_at);
    dk_pg_time(p, row->compromised_at);
    dk_pg_time(p, row->disabled_at);
    dk_pg_time(p, row->purged_at);
}

dk_rc dk_pg_explain_ignored(struct dk_pg_txn *txn, const struct dk_key_row *row, struct dk_err *err)
{
    struct dk_pg_params p = {.n = 0};
    PGresult *r = NULL;
    dk_pg_bytes(&p, row->check_value, DK_CHECK_BYTES);
    DK_TRY(dk_pg_ask(txn, NULL, "SELECT 1 FROM encryption_keys WHERE check_value = $1", &p,
                     "encryption_keys", &r, err));
    int n = PQntuples(r);
    PQclear(r);
    return n == 0 ? DK_OK
                  : DK_FAIL(err, PROVIDER,
                            "the provider handed out a data key that is in use already");
}

dk_rc dk_pg_key_insert(void *self, const struct dk_key_row *row, bool *inserted, struct dk_err *err)
{
    struct dk_pg_params p = {.n = 0};
    add_key(&p, row);
    dk_pg_int(&p, row->messages);
    dk_pg_str(&p, row->row_mac);
    DK_TRY(dk_pg_do(self, row->tenant.s,
                    "INSERT INTO encryption_keys (" DK_PG_KEY_COLUMNS
                    ") VALUES ($1, $2, $3, $4, $5, $6, "
                    "$7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17) ON CONFLICT DO NOTHING",
                    &p, "storing a key", inserted, err));
    return *inserted ? DK_OK : dk_pg_explain_ignored(self, row, err);
}

dk_rc dk_pg_key_update(void *self, const struct dk_key_row *row, enum dk_state old_state,
                       bool *changed, struct dk_err *err)
{
    struct dk_pg_params p = {.n = 0};
    add_key(&p, row);
    dk_pg_str(&p, row->row_mac);
    dk_pg_str(&p, dk_state_name(old_state));
    return dk_pg_do(self, row->tenant.s,
                    "UPDATE encryption_keys SET state = $4, provider = $5, kms_key_id = $6, "
                    "encrypted_data_key = $7, context_timestamp = $8, expires_at = $11, rotated_at "
                    "= $12, compromised_at = $13, disabled_at = $14, purged_at = $15, row_mac = "
                    "$16 WHERE id = $1 AND tenant_id = $2 AND version = $3 AND state = $17 AND "
                    "check_value = $9 AND created_at = $10",
                    &p, "changing a key", changed, err);
}

dk_rc dk_pg_key_remac(void *self, const struct dk_key_row *row, const char *old_mac, bool *changed,
                      struct dk_err *err)
{
    struct dk_pg_params p = {.n = 0};
    dk_pg_str(&p, row->tenant.s);
    dk_pg_int(&p, row->version);
    dk_pg_str(&p, row->row_mac);
    dk_pg_str(&p, old_mac);
    return dk_pg_do(self, row->tenant.s,
                    "UPDATE encryption_keys SET row_mac = $3 WHERE tenant_id = $1 AND version = $2 "
                    "AND row_mac = $4",
                    &p, "renewing a MAC", changed, err);
}

static dk_rc take_sums(const PGresult *r, struct dk_sealed *list, size_t count, struct dk_err *err)
{
    for (int i = 0; i < PQntuples(r); i++) {
        int64_t at, sum;
        if (!dk_pg_get_int(r, i, 0, 1, (int64_t)count, &at) ||
            !dk_pg_get_int(r, i, 1, 0, INT64_MAX, &sum)) {
            return dk_pg_tampered("encryption_keys", err);
        }
        list[at - 1].sum = sum;
        list[at - 1].gone = false;
    }
    return DK_OK;
}

/*
 * The rows are locked in the order of the list, whatever way the UPDATE then goes over them: one
 * look into the index for each, in a loop that is made of the list. What the UPDATE sees is from
 * after that.
 */
static dk_rc add_page(struct dk_pg_txn *txn, struct dk_sealed *list, size_t count,
                      const struct dk_pg_params *p, struct dk_err *err)
{
    struct dk_pg_call calls[3] = {
        {.sql = DK_PG_BY_INDEX, .what = "counting messages"},
        {.sql = "SELECT count(*) FROM unnest($1, $2) u(tenant, version), LATERAL (SELECT FROM "
                "encryption_keys k WHERE k.tenant_id = u.tenant AND k.version = u.version FOR NO "
                "KEY UPDATE) k",
         .params = p,
         .wait_ms = 2 * DK_PG_DEADLINE_MS}, /* two that may wait */
        {.sql = "UPDATE encryption_keys k SET messages = k.messages + u.count FROM unnest($1, $2, "
                "$3) WITH ORDINALITY u(tenant, version, count, i) WHERE k.tenant_id = u.tenant AND "
                "k.version = u.version RETURNING u.i, k.messages",
         .params = p}};
    DK_TRY(dk_pg_ask_all(txn, calls, 3, err));
    dk_rc rc = take_sums(calls[2].result, list, count, err);
    for (size_t i = 0; i < 3; i++) {
        PQclear(calls[i].result);
    }
    return rc;
}

static dk_rc add_messages(struct dk_pg_txn *txn, struct dk_sealed *list, size_t count,
                          struct dk_err *err)
{
    static const enum dk_pg_member members[3] = {DK_PG_TEXTS, DK_PG_INTS, DK_PG_INTS};
    struct dk_pg_params p = {.n = 0};
    struct dk_pg_array a[3];
    for (size_t k = 0; k < 3; k++) {
        dk_pg_array_begin(&a[k], &txn->store->world->mem, members[k], count);
    }
    for (size_t i = 0; i < count; i++) {
        dk_pg_array_str(&a[0], list[i].tenant->s);
        dk_pg_array_int(&a[1], list[i].version);
        dk_pg_array_int(&a[2], list[i].count);
        list[i].sum = 0;
        list[i].gone = true;
    }
    bool failed = a[0].failed || a[1].failed || a[2].failed;
    for (size_t k = 0; k < 3; k++) {
        dk_pg_array(&p, &a[k]);
    }
    dk_rc rc = failed ? DK_FAIL(err, NOMEM, "no memory to count the messages of %zu keys", count)
                      : add_page(txn, list, count, &p, err);
    for (size_t k = 0; k < 3; k++) {
        dk_pg_array_free(&a[k]);
    }
    return rc;
}

dk_rc dk_pg_key_add_messages(void *self, struct dk_sealed *list, size_t count, struct dk_err *err)
{
    for (size_t i = 0; i < count; i += COUNT_PAGE) {
        size_t n = count - i < COUNT_PAGE ? count - i : COUNT_PAGE;
        DK_TRY(add_messages(self, list + i, n, err));
    }
    return DK_OK;
}

static dk_rc read_keys(PGresult *r, struct dk_key_row *out, size_t *count, struct dk_err *err)
{
    dk_rc rc = DK_OK;
    size_t n = (size_t)PQntuples(r);
    for (size_t i = 0; i < n && rc == DK_OK; i++) {
        memset(&out[i], 0, sizeof out[i]);
        rc = dk_pg_get_key(r, (int)i, 0, &out[i]) ? DK_OK : dk_pg_tampered("encryption_keys", err);
    }
    PQclear(r);
    *count = rc == DK_OK ? n : 0;
    return rc;
}

dk_rc dk_pg_key_list(void *self, const struct dk_tenant *tenant, enum dk_key_filter filter,
                     const struct dk_key_cursor *after, size_t limit, struct dk_key_row *out,
                     size_t *count, struct dk_err *err)
{
    struct dk_pg_params p = {.n = 0};
    PGresult *r = NULL;
    const char *sql =
        tenant != NULL ? "SELECT " DK_PG_KEY_COLUMNS
                         " FROM encryption_keys WHERE tenant_id = $1 AND version > $2 "
                         "ORDER BY version LIMIT $3"
        : filter == DK_KEYS_ACTIVE ? "SELECT " DK_PG_KEY_COLUMNS
                                     " FROM encryption_keys WHERE (tenant_id, version) > ($1, $2) "
                                     "AND state = 'active' ORDER BY tenant_id, version LIMIT $3"
                                   : "SELECT " DK_PG_KEY_COLUMNS
                                     " FROM encryption_keys WHERE (tenant_id, version) > ($1, $2) "
                                     "ORDER BY tenant_id, version LIMIT $3";
    dk_pg_str(&p, tenant != NULL ? tenant->s : after->tenant.s);
    dk_pg_int(&p, after->version);
    dk_pg_int(&p, (int64_t)limit);
    DK_TRY(dk_pg_ask(self, tenant != NULL ? tenant->s : NULL, sql, &p, "listing keys", &r, err));
    return read_keys(r, out, count, err);
}

static void take_keys(PGresult *r, struct dk_key_page *page)
{
    for (int i = 0; i < PQntuples(r) && page->count < page->limit; i++) {
        struct dk_key_row *row = &page->rows[page->count];
        struct dk_tenant tenant;
        uint32_t version;
        memset(row, 0, sizeof *row);
        if (dk_pg_get_key(r, i, 0, row)) {
            page->count++;
        } else if (page->unreadable != NULL) {
            bool named = dk_pg_get_tenant(r, i, 1, &tenant);
            bool counted = dk_pg_get_version(r, i, 2, &version);
            page->unreadable(page->arg, named ? tenant.s : "", counted ? version : 0);
        }
    }
    PQclear(r);
}

/* The pages after the first are behind `offset` rows, some of which are none. */
dk_rc dk_pg_read_page(struct dk_pg_txn *txn, dk_pg_ask_page ask, const void *of,
                      struct dk_key_page *page, struct dk_err *err)
{
    int64_t seen = 0, limit = (int64_t)page->limit;
    bool more = true;
    page->count = 0;
    while (more) {
        PGresult *r = NULL;
        dk_rc rc = ask(txn, of, page, limit, seen, &r, err);
        if (rc != DK_OK) {
            page->count = 0;
            return rc;
        }
        int64_t n = PQntuples(r);
        take_keys(r, page);
        more = n == limit && page->count < page->limit;
        seen += n;
        limit = PAGE;
    }
    return DK_OK;
}

static dk_rc ask_page(struct dk_pg_txn *txn, const void *of, const struct dk_key_page *page,
                      int64_t limit, int64_t offset, PGresult **r, struct dk_err *err)
{
    const struct dk_tenant *tenant = of;
    struct dk_pg_params p = {.n = 0};
    const char *sql = tenant != NULL
                          ? "SELECT " DK_PG_KEY_COLUMNS
                            " FROM encryption_keys WHERE tenant_id = $1 AND version > $2 "
                            "ORDER BY version LIMIT $3 OFFSET $4"
                          : "SELECT " DK_PG_KEY_COLUMNS
                            " FROM encryption_keys WHERE (tenant_id, version) > ($1, $2) "
                            "ORDER BY tenant_id, version LIMIT $3 OFFSET $4";
    dk_pg_str(&p, tenant != NULL ? tenant->s : page->after.tenant.s);
    dk_pg_int(&p, page->after.version);
    dk_pg_int(&p, limit);
    dk_pg_int(&p, offset);
    return dk_pg_ask(txn, tenant != NULL ? tenant->s : NULL, sql, &p, "listing keys", r, err);
}

dk_rc dk_pg_key_page(void *self, const struct dk_tenant *tenant, struct dk_key_page *page,
                     struct dk_err *err)
{
    return dk_pg_read_page(self, ask_page, tenant, page, err);
}

/* One page of those that expire, behind the last one of the page before. */
static dk_rc expiring_page(struct dk_pg_txn *txn, const struct dk_key_row *last, int64_t from_us,
                           int64_t until_us, PGresult **out, struct dk_err *err)
{
    struct dk_pg_params p = {.n = 0};
    dk_pg_time(&p, from_us);
    dk_pg_time(&p, until_us);
    dk_pg_str(&p, last->tenant.s);
    dk_pg_int(&p, PAGE);
    return dk_pg_ask(txn, NULL,
                     "SELECT " DK_PG_KEY_COLUMNS " FROM encryption_keys WHERE state = 'active' AND "
                     "(expires_at, tenant_id) > ($1, $3) AND expires_at <= $2 ORDER BY expires_at, "
                     "tenant_id LIMIT $4",
                     &p, "listing keys by their expiry", out, err);
}

dk_rc dk_pg_key_expiring(void *self, int64_t from_us, int64_t until_us,
                         bool (*each)(void *arg, const struct dk_key_row *row), void *arg,
                         struct dk_err *err)
{
    struct dk_key_row row;
    bool more = true;
    int n;
    memset(&row, 0, sizeof row);
    row.expires_at = from_us; /* no tenant's id is "": all of that moment are behind it */
    do {
        PGresult *r = NULL;
        dk_rc rc = DK_OK;
        DK_TRY(expiring_page(self, &row, row.expires_at, until_us, &r, err));
        n = PQntuples(r);
        for (int i = 0; i < n && rc == DK_OK && more; i++) {
            rc = dk_pg_get_key(r, i, 0, &row) ? DK_OK : dk_pg_tampered("encryption_keys", err);
            more = rc == DK_OK && each(arg, &row);
        }
        PQclear(r);
        DK_TRY(rc);
    } while (more && n == PAGE);
    return DK_OK;
}

/*
 * Sums of whole quarters of an hour, and the keys themselves of the two that are cut by a moment:
 * the pages that are read do not grow with the number of keys.
 */
const char dk_pg_key_counts_sql[] =
    "WITH c AS (SELECT bucket, active, total FROM key_counts UNION ALL SELECT "
    "bucket, active, total FROM key_count_deltas), n AS (SELECT "
    "(SELECT count(*) FROM encryption_keys WHERE state = 'active' AND expires_at "
    ">= count_bucket($1) AND expires_at <= $1) AS now, (SELECT count(*) FROM "
    "encryption_keys WHERE state = 'active' AND expires_at >= count_bucket($2) AND "
    "expires_at <= $2) AS later) SELECT coalesce(sum(total), 0)::bigint, "
    "coalesce(sum(active), 0)::bigint, (coalesce(sum(active) FILTER (WHERE bucket "
    "< count_bucket($1)), 0) + min(now))::bigint, (coalesce(sum(active) FILTER "
    "(WHERE bucket >= count_bucket($1) AND bucket < count_bucket($2)), 0) - "
    "min(now) + min(later))::bigint FROM n LEFT JOIN c ON true";

dk_rc dk_pg_key_counts(void *self, int64_t now_us, int64_t warn_until_us, struct dk_key_counts *out,
                       struct dk_err *err)
{
    struct dk_pg_params p = {.n = 0};
    PGresult *r = NULL;
    dk_pg_time(&p, now_us);
    dk_pg_time(&p, warn_until_us);
    DK_TRY(dk_pg_one(self, NULL, dk_pg_key_counts_sql, &p, "encryption_keys", &r, err));
    bool good = dk_pg_get_int(r, 0, 0, 0, INT64_MAX, &out->total) &&
                dk_pg_get_int(r, 0, 1, 0, INT64_MAX, &out->active) &&
                dk_pg_get_int(r, 0, 2, 0, INT64_MAX, &out->expired) &&
                dk_pg_get_int(r, 0, 3, 0, INT64_MAX, &out->near_expiry);
    PQclear(r);
    return good ? DK_OK : dk_pg_tampered("encryption_keys", err);
}

dk_rc dk_pg_key_macs(void *self, const struct dk_tenant *tenant,
                     bool (*each)(void *arg, uint32_t version, const char *row_mac), void *arg,
                     struct dk_err *err)
{
    struct dk_pg_params p = {.n = 0};
    PGresult *r = NULL;
    dk_rc rc = DK_OK;
    bool more = true;
    dk_pg_str(&p, tenant->s);
    DK_TRY(dk_pg_ask(self, tenant->s,
                     "SELECT version, row_mac FROM encryption_keys WHERE tenant_id = $1 ORDER BY "
                     "version",
                     &p, "reading the MACs of a tenant's keys", &r, err));
    for (int i = 0; i < PQntuples(r) && rc == DK_OK && more; i++) {
        uint32_t version;
        char row_mac[DK_MAC_TEXT];
        bool good =
            dk_pg_get_version(r, i, 0, &version) && dk_pg_get_str(r, i, 1, row_mac, sizeof row_mac);
        rc = good ? DK_OK : dk_pg_tampered("encryption_keys", err);
        more = rc == DK_OK && each(arg, version, row_mac);
    }
    PQclear(r);
    return rc;
}
