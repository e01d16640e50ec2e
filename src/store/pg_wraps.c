/* Further wraps of data keys and registry keys in PostgreSQL. */
#include <string.h>

#include "store/pg_txn.h"

#define PAGE 500 /* rows that are read at once behind a page with unreadable ones */
#define WRAP_COLUMNS                                                                               \
    "tenant_id, version, provider, kms_key_id, encrypted_data_key, context_timestamp, "            \
    "last_verified_at, row_mac"

/* ---- data keys ------------------------------------------------------------------------------- */

static bool get_wrap_row(const PGresult *r, int i, struct dk_wrap_row *out)
{
    return dk_pg_get_tenant(r, i, 0, &out->tenant) && dk_pg_get_version(r, i, 1, &out->version) &&
           dk_pg_get_wrap(r, i, 2, &out->wrap) &&
           dk_pg_get_time(r, i, 6, false, &out->last_verified_at) &&
           dk_pg_get_str(r, i, 7, out->row_mac, sizeof out->row_mac);
}

/* At most `limit` rows, *told of which there were; false: `each` has seen enough. One that is none
   is passed over: it opens nothing, and the others may. The result goes. */
static bool walk(PGresult *r, size_t limit, size_t *told,
                 bool (*each)(void *arg, const struct dk_wrap_row *row), void *arg)
{
    struct dk_wrap_row row;
    bool more = true;
    for (int i = 0; i < PQntuples(r) && more && *told < limit; i++) {
        bool good = get_wrap_row(r, i, &row);
        *told += good;
        more = !good || each(arg, &row);
    }
    PQclear(r);
    return more && *told < limit;
}

dk_rc dk_pg_wraps_of(void *self, const struct dk_tenant *tenant, uint32_t version,
                     bool (*each)(void *arg, const struct dk_wrap_row *row), void *arg,
                     struct dk_err *err)
{
    struct dk_pg_params p = {.n = 0};
    size_t told = 0;
    PGresult *r = NULL;
    dk_pg_str(&p, tenant->s);
    dk_pg_int(&p, version);
    DK_TRY(dk_pg_ask(self, tenant->s,
                     "SELECT " WRAP_COLUMNS
                     " FROM wraps WHERE tenant_id = $1 AND ($2 = 0 OR version "
                     "= $2) ORDER BY version, provider",
                     &p, "reading further wraps", &r, err));
    walk(r, SIZE_MAX, &told, each, arg);
    return DK_OK;
}

#define BEHIND                                                                                     \
    "($3 IS NULL OR (last_verified_at, tenant_id, version, provider) > ($3, $4, $5, $6)) ORDER "   \
    "BY "                                                                                          \
    "last_verified_at, tenant_id, version, provider LIMIT $2 + $7"

/* Each of the two parts reads its end of the index. */
static dk_rc ask_stale(struct dk_pg_txn *txn, const struct dk_stale *stale, int64_t limit,
                       int64_t offset, PGresult **r, struct dk_err *err)
{
    struct dk_pg_params p = {.n = 0};
    dk_pg_time(&p, stale->before_us);
    dk_pg_int(&p, limit);
    dk_pg_time(&p, stale->after.verified_at);
    dk_pg_str(&p, stale->after.tenant.s);
    dk_pg_int(&p, stale->after.version);
    dk_pg_str(&p, stale->after.provider);
    dk_pg_int(&p, offset);
    dk_pg_time(&p, stale->beyond_us);
    return dk_pg_ask(txn, NULL,
                     "(SELECT " WRAP_COLUMNS " FROM wraps WHERE last_verified_at < $1 AND " BEHIND
                     ") UNION ALL (SELECT " WRAP_COLUMNS
                     " FROM wraps WHERE last_verified_at > $8 AND " BEHIND
                     ") ORDER BY last_verified_at, tenant_id, version, provider LIMIT $2 OFFSET $7",
                     &p, "reading further wraps", r, err);
}

dk_rc dk_pg_wraps_stale(void *self, const struct dk_stale *stale,
                        bool (*each)(void *arg, const struct dk_wrap_row *row), void *arg,
                        struct dk_err *err)
{
    int64_t seen = 0, asked = (int64_t)stale->limit, n;
    size_t told = 0;
    bool more = true;
    do {
        PGresult *r = NULL;
        DK_TRY(ask_stale(self, stale, asked, seen, &r, err));
        n = PQntuples(r);
        more = walk(r, stale->limit, &told, each, arg) && n == asked;
        seen += n;
        asked = PAGE;
    } while (more);
    return DK_OK;
}

static void add_wrap(struct dk_pg_params *p, const struct dk_wrap_columns *wrap)
{
    dk_pg_str(p, wrap->provider);
    dk_pg_str(p, wrap->kms_key_id);
    dk_pg_str(p, wrap->encrypted_data_key);
    dk_pg_str(p, wrap->context_timestamp);
}

dk_rc dk_pg_wrap_put(void *self, const struct dk_wrap_row *row, struct dk_err *err)
{
    struct dk_pg_params p = {.n = 0};
    bool stored = false;
    dk_pg_str(&p, row->tenant.s);
    dk_pg_int(&p, row->version);
    add_wrap(&p, &row->wrap);
    dk_pg_time(&p, row->last_verified_at);
    dk_pg_str(&p, row->row_mac);
    DK_TRY(dk_pg_do(self, row->tenant.s,
                    "INSERT INTO wraps (" WRAP_COLUMNS
                    ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (tenant_id, version, "
                    "provider) DO UPDATE SET kms_key_id = $4, encrypted_data_key = $5, "
                    "context_timestamp = $6, last_verified_at = $7, row_mac = $8",
                    &p, "storing a further wrap", &stored, err));
    return stored ? DK_OK : DK_FAIL(err, TAMPERED, "something in the database drops further wraps");
}

dk_rc dk_pg_wrap_drop(void *self, const struct dk_tenant *tenant, uint32_t version,
                      const char *provider, struct dk_err *err)
{
    struct dk_pg_params p = {.n = 0};
    dk_pg_str(&p, tenant->s);
    dk_pg_int(&p, version);
    dk_pg_str(&p, provider);
    return dk_pg_do(self, tenant->s,
                    "DELETE FROM wraps WHERE tenant_id = $1 AND version = $2 AND provider = $3", &p,
                    "dropping a further wrap", NULL, err);
}

static dk_rc ask_missing(struct dk_pg_txn *txn, const void *of, const struct dk_key_page *page,
                         int64_t limit, int64_t offset, PGresult **r, struct dk_err *err)
{
    const char *provider = of;
    struct dk_pg_params p = {.n = 0};
    dk_pg_str(&p, page->after.tenant.s);
    dk_pg_int(&p, page->after.version);
    dk_pg_int(&p, limit);
    dk_pg_str(&p, provider);
    dk_pg_int(&p, offset);
    return dk_pg_ask(
        txn, NULL,
        "SELECT " DK_PG_KEY_COLUMNS
        " FROM encryption_keys k WHERE (tenant_id, version) > ($1, $2) AND state <> 'purged' AND "
        "provider <> $4 AND NOT EXISTS (SELECT FROM wraps w WHERE w.tenant_id = k.tenant_id AND "
        "w.version = k.version AND w.provider = $4) ORDER BY tenant_id, version LIMIT $3 OFFSET $5",
        &p, "listing keys without a further wrap", r, err);
}

dk_rc dk_pg_wraps_missing(void *self, const char *provider, struct dk_key_page *page,
                          struct dk_err *err)
{
    return dk_pg_read_page(self, ask_missing, provider, page, err);
}

/* ---- registry keys --------------------------------------------------------------------------- */

dk_rc dk_pg_registry_wraps(void *self, uint32_t generation,
                           bool (*each)(void *arg, const struct dk_wrap_columns *wrap), void *arg,
                           struct dk_err *err)
{
    struct dk_pg_params p = {.n = 0};
    struct dk_wrap_columns wrap;
    PGresult *r = NULL;
    bool more = true;
    dk_pg_int(&p, generation);
    DK_TRY(dk_pg_ask(self, NULL,
                     "SELECT provider, kms_key_id, encrypted_data_key, context_timestamp FROM "
                     "registry_wraps WHERE generation = $1 ORDER BY provider",
                     &p, "reading the registry key's wraps", &r, err));
    for (int i = 0; i < PQntuples(r) && more; i++) {
        more = !dk_pg_get_wrap(r, i, 0, &wrap) || each(arg, &wrap);
    }
    PQclear(r);
    return DK_OK;
}

dk_rc dk_pg_registry_wrap_put(void *self, uint32_t generation, const struct dk_wrap_columns *wrap,
                              struct dk_err *err)
{
    struct dk_pg_params p = {.n = 0};
    bool stored = false;
    dk_pg_int(&p, generation);
    add_wrap(&p, wrap);
    DK_TRY(
        dk_pg_do(self, NULL,
                 "INSERT INTO registry_wraps (generation, provider, kms_key_id, "
                 "encrypted_data_key, context_timestamp) VALUES ($1, $2, $3, $4, $5) ON CONFLICT "
                 "(generation, provider) DO UPDATE SET kms_key_id = $3, encrypted_data_key = $4, "
                 "context_timestamp = $5",
                 &p, "storing a wrap of the registry key", &stored, err));
    return stored ? DK_OK : DK_FAIL(err, TAMPERED, "something in the database drops further wraps");
}

dk_rc dk_pg_registry_wrap_drop(void *self, uint32_t generation, const char *provider,
                               struct dk_err *err)
{
    struct dk_pg_params p = {.n = 0};
    dk_pg_int(&p, generation);
    dk_pg_str(&p, provider);
    return dk_pg_do(self, NULL,
                    "DELETE FROM registry_wraps WHERE generation = $1 AND provider = $2", &p,
                    "dropping a wrap of the registry key", NULL, err);
}

dk_rc dk_pg_registry_rewrap(void *self, uint32_t generation, const struct dk_wrap_columns *before,
                            const struct dk_wrap_columns *wrap, struct dk_err *err)
{
    struct dk_pg_txn *txn = self;
    struct dk_pg_params p = {.n = 0};
    bool changed = false;
    dk_pg_int(&p, generation);
    add_wrap(&p, wrap);
    dk_pg_str(&p, before->encrypted_data_key);
    DK_TRY(dk_pg_do(txn, NULL,
                    "UPDATE registry SET provider = $2, kms_key_id = $3, encrypted_data_key = $4, "
                    "context_timestamp = $5 WHERE id = 1 AND generation = $1 AND "
                    "encrypted_data_key = $6",
                    &p, "changing the registry's wrap", &changed, err));
    if (!changed) {
        return DK_FAIL(err, CONFLICT, "the registry has another wrap by now");
    }
    txn->registry.wrap = *wrap;
    return DK_OK;
}
