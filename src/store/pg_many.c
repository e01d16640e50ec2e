/* Looking for the keys of many tenants at once in PostgreSQL: arrays in, rows out. */
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
static dk_rc take_keys(const PGresult *r, size_t from, size_t count, struct dk_find *finds,
                       const struct dk_find_calls *calls, bool *more, struct dk_err *err)
{
    for (int i = 0; i < PQntuples(r) && *more; i++) {
        size_t at;
        uint32_t version;
        char row_mac[DK_MAC_TEXT];
        if (!read_place(r, i, count, &at)) {
            return dk_pg_tampered("encryption_keys", err);
        }
        struct dk_find *find = &finds[from + at];
        find->versions++;
        if (!dk_pg_get_version(r, i, 3, &version) ||
            !dk_pg_get_str(r, i, 17, row_mac, sizeof row_mac)) {
            find->key_rc = DK_E_TAMPERED;
            continue;
        }
        *more = calls->mac(calls->arg, from + at, version, row_mac);
        if (find->key_rc == DK_E_NOT_FOUND && is_wanted(find, version, r, i)) {
            find->key_rc = dk_pg_get_key(r, i, 1, find->key) ? DK_OK : DK_E_TAMPERED;
        }
    }
    return DK_OK;
}

static bool is_unknown(const struct dk_find *find)
{
    return find->row_rc == DK_E_NOT_FOUND && find->versions == 0;
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

/*
 * Many in slices: while one is worked on here, the server reads the next.
 * OFFSET 0: one look into the index for each, and no join of the whole table.
 */
#define FIND_SLICE 256
#define EACH_TENANT                                                                                \
    "SELECT u.i, t.* FROM unnest($1) WITH ORDINALITY u(k, i), LATERAL "                            \
    "(SELECT " DK_PG_TENANT_COLUMNS " FROM tenants WHERE tenant_id = u.k OFFSET 0) t"
#define EACH_KEY                                                                                   \
    "SELECT u.i, k.* FROM unnest($1) WITH ORDINALITY u(k, i), LATERAL "                            \
    "(SELECT " DK_PG_KEY_COLUMNS                                                                   \
    " FROM encryption_keys WHERE tenant_id = u.k ORDER BY version OFFSET 0) k"

struct finding {
    struct dk_pg_txn *txn;
    struct dk_find *finds;
    size_t count;
    const struct dk_find_calls *calls;
    bool more;              /* nobody has said that it is enough */
    struct dk_pg_array ids; /* of the slice that is asked for */
    struct dk_pg_params params;
};

static void tell_found(const struct finding *f, size_t i)
{
    if (f->calls->found != NULL) {
        f->calls->found(f->calls->arg, i);
    }
}

static size_t slice_n(size_t count, size_t k)
{
    size_t left = count - k * FIND_SLICE;
    return left < FIND_SLICE ? left : FIND_SLICE;
}

/* First how to look; then for each slice its tenants, and their keys. */
static dk_rc ask_slice(void *arg, size_t k, struct dk_pg_call *call, struct dk_err *err)
{
    struct finding *f = arg;
    call->sql = k == 0 ? DK_PG_BY_INDEX : k % 2 == 1 ? EACH_TENANT : EACH_KEY;
    if (k % 2 == 1) {
        size_t from = k / 2 * FIND_SLICE, n = slice_n(f->count, k / 2);
        dk_pg_array_free(&f->ids);
        dk_pg_array_begin(&f->ids, &f->txn->store->world->mem, DK_PG_TEXTS, n);
        for (size_t i = from; i < from + n; i++) {
            dk_pg_array_str(&f->ids, f->finds[i].tenant->s);
        }
        if (f->ids.failed) {
            return DK_FAIL(err, NOMEM, "no memory to look for %zu keys", f->count);
        }
        f->params.n = 0;
        dk_pg_array(&f->params, &f->ids);
    }
    call->params = k == 0 ? NULL : &f->params;
    return DK_OK;
}

static dk_rc take_slice(void *arg, size_t k, PGresult *r, struct dk_err *err)
{
    struct finding *f = arg;
    dk_rc rc = DK_OK;
    if (k > 0) {
        size_t from = (k - 1) / 2 * FIND_SLICE, n = slice_n(f->count, (k - 1) / 2);
        rc = k % 2 == 1 ? take_tenants(r, &f->finds[from], n, err)
                        : take_keys(r, from, n, f->finds, f->calls, &f->more, err);
        for (size_t i = from; i < from + n && rc == DK_OK && f->more && k % 2 == 0; i++) {
            if (!is_unknown(&f->finds[i])) {
                tell_found(f, i);
            }
        }
    }
    PQclear(r);
    return rc;
}

dk_rc dk_pg_find_many(void *self, struct dk_find *finds, size_t count,
                      const struct dk_find_calls *calls, struct dk_err *err)
{
    struct finding f = {.txn = self, .finds = finds, .count = count, .calls = calls, .more = true};
    struct dk_pg_feed feed = {.count = 1 + (count + FIND_SLICE - 1) / FIND_SLICE * 2,
                              .what = "looking for keys",
                              .make = ask_slice,
                              .eat = take_slice,
                              .arg = &f};
    for (size_t i = 0; i < count; i++) {
        memset(&finds[i].row, 0, sizeof finds[i].row);
        finds[i].row_rc = finds[i].key_rc = DK_E_NOT_FOUND;
        finds[i].versions = 0;
        finds[i].in_log = false;
    }
    f.ids.mem = &f.txn->store->world->mem;
    dk_rc rc = dk_pg_feed(self, &feed, err);
    dk_pg_array_free(&f.ids);
    DK_TRY(rc);
    DK_TRY(look_into_log(self, finds, count, err));
    for (size_t i = 0; i < count && f.more; i++) {
        if (is_unknown(&finds[i])) {
            tell_found(&f, i);
        }
    }
    return DK_OK;
}
