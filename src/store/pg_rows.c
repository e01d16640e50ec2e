/* The registry's row, its earlier keys, tenants, and what changed, to and from PostgreSQL. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/pg_txn.h"

#define STANDBY "standby" /* as DK_PG_PLACE says it */
#define EVERYTHING "3:3:" /* a snapshot in which no transaction is visible */

/* ---- the registry ---------------------------------------------------------------------------- */

dk_rc dk_pg_registry_read(void *self, struct dk_registry_row *out, struct dk_err *err)
{
    struct dk_pg_txn *txn = self;
    switch (txn->registry_rc) {
    case DK_OK:
        *out = txn->registry;
        return DK_OK;
    case DK_E_NOT_FOUND:
        return DK_FAIL(err, NOT_FOUND, "no such row in registry");
    default:
        return dk_pg_tampered("registry", err);
    }
}

static void add_wrap(struct dk_pg_params *p, const struct dk_wrap_columns *wrap)
{
    dk_pg_str(p, wrap->provider);
    dk_pg_str(p, wrap->kms_key_id);
    dk_pg_str(p, wrap->encrypted_data_key);
    dk_pg_str(p, wrap->context_timestamp);
}

dk_rc dk_pg_registry_fill(void *self, const struct dk_wrap_columns *wrap, bool *filled,
                          struct dk_err *err)
{
    struct dk_pg_txn *txn = self;
    struct dk_pg_params p = {.n = 0};
    add_wrap(&p, wrap);
    DK_TRY(dk_pg_do(txn, NULL,
                    "UPDATE registry SET provider = $1, kms_key_id = $2, encrypted_data_key = $3, "
                    "context_timestamp = $4 WHERE id = 1 AND encrypted_data_key IS NULL",
                    &p, "storing the registry key", filled, err));
    if (*filled) {
        txn->registry.wrap = *wrap;
    }
    return DK_OK;
}

dk_rc dk_pg_registry_rekey(void *self, const struct dk_registry_key_row *earlier,
                           const struct dk_wrap_columns *wrap, struct dk_err *err)
{
    struct dk_pg_txn *txn = self;
    struct dk_pg_params kept = {.n = 0}, next = {.n = 0};
    bool stored = false;
    dk_pg_int(&kept, earlier->generation);
    add_wrap(&kept, &earlier->wrap);
    dk_pg_int(&kept, earlier->last_seal);
    DK_TRY(dk_pg_do(txn, NULL,
                    "INSERT INTO registry_keys (generation, provider, kms_key_id, "
                    "encrypted_data_key, context_timestamp, last_seal) VALUES ($1, $2, $3, $4, $5, "
                    "$6)",
                    &kept, "keeping the earlier registry key", &stored, err));
    if (!stored) {
        return DK_FAIL(err, TAMPERED, "something in the database drops earlier registry keys");
    }
    add_wrap(&next, wrap);
    dk_pg_int(&next, earlier->generation);
    DK_TRY(dk_pg_do(txn, NULL,
                    "UPDATE registry SET provider = $1, kms_key_id = $2, encrypted_data_key = $3, "
                    "context_timestamp = $4, generation = $5 + 1, rekeying = true WHERE id = 1 AND "
                    "generation = $5 AND NOT rekeying",
                    &next, "storing the next registry key", &stored, err));
    if (!stored) {
        return DK_FAIL(err, CONFLICT, "the registry was rekeyed by another");
    }
    txn->registry.wrap = *wrap;
    txn->registry.generation = earlier->generation + 1;
    txn->registry.rekeying = true;
    return DK_OK;
}

dk_rc dk_pg_registry_rekeyed(void *self, uint32_t generation, struct dk_err *err)
{
    struct dk_pg_txn *txn = self;
    struct dk_pg_params p = {.n = 0};
    bool changed = false;
    dk_pg_int(&p, generation);
    DK_TRY(dk_pg_do(txn, NULL,
                    "UPDATE registry SET rekeying = false WHERE id = 1 AND generation = $1 AND "
                    "rekeying",
                    &p, "ending the rekey", &changed, err));
    if (!changed) {
        return DK_FAIL(err, CONFLICT, "there is no rekey under way");
    }
    txn->registry.rekeying = false;
    return DK_OK;
}

dk_rc dk_pg_registry_pruned(void *self, const struct dk_log_edge *edge, struct dk_err *err)
{
    struct dk_pg_txn *txn = self;
    struct dk_pg_params p = {.n = 0};
    bool changed = false;
    dk_pg_int(&p, edge->seal);
    dk_pg_int(&p, edge->seq);
    DK_TRY(dk_pg_do(txn, NULL,
                    "UPDATE registry SET pruned_seal = greatest(pruned_seal, $1), pruned_seq = "
                    "greatest(pruned_seq, $2) WHERE id = 1",
                    &p, "noting what was pruned", &changed, err));
    if (!changed) {
        return DK_FAIL(err, TAMPERED, "there is no registry row");
    }
    if (edge->seq > txn->registry.pruned_seq) {
        txn->registry.pruned_seq = edge->seq;
    }
    return DK_OK;
}

dk_rc dk_pg_registry_keys(void *self, uint32_t from,
                          bool (*each)(void *arg, const struct dk_registry_key_row *row), void *arg,
                          struct dk_err *err)
{
    struct dk_pg_params p = {.n = 0};
    struct dk_registry_key_row row;
    PGresult *r = NULL;
    dk_rc rc = DK_OK;
    bool more = true;
    dk_pg_int(&p, from);
    DK_TRY(dk_pg_ask(self, NULL,
                     "SELECT generation, provider, kms_key_id, encrypted_data_key, "
                     "context_timestamp, last_seal FROM registry_keys WHERE generation >= $1 ORDER "
                     "BY generation",
                     &p, "reading the earlier registry keys", &r, err));
    for (int i = 0; i < PQntuples(r) && rc == DK_OK && more; i++) {
        bool good = dk_pg_get_version(r, i, 0, &row.generation) &&
                    dk_pg_get_wrap(r, i, 1, &row.wrap) &&
                    dk_pg_get_int(r, i, 5, 1, INT64_MAX, &row.last_seal);
        rc = good ? DK_OK : dk_pg_tampered("registry_keys", err);
        more = rc == DK_OK && each(arg, &row);
    }
    PQclear(r);
    return rc;
}

/* ---- tenants --------------------------------------------------------------------------------- */

static bool read_days(const PGresult *r, int i, int c, int64_t *out)
{
    return dk_pg_get_int(r, i, c, PQgetisnull(r, i, c) ? 0 : 1, INT32_MAX, out);
}

bool dk_pg_get_tenant_row(const PGresult *r, int i, int c, struct dk_tenant_row *out)
{
    return dk_pg_get_tenant(r, i, c, &out->tenant) &&
           dk_pg_get_int(r, i, c + 1, 1, (int64_t)INT32_MAX + 1, &out->next_version) &&
           dk_pg_get_int(r, i, c + 2, 1, INT64_MAX, &out->epoch) &&
           read_days(r, i, c + 3, &out->rotation_days) &&
           dk_pg_get_str(r, i, c + 4, out->row_mac, sizeof out->row_mac) &&
           dk_pg_get_nullable(r, i, c + 5, out->log_head, sizeof out->log_head) &&
           dk_pg_get_nullable(r, i, c + 6, out->keys_digest, sizeof out->keys_digest);
}

/* Who may write reads with the row locked: it stays as it is until the transaction ends. */
dk_rc dk_pg_tenant_read(void *self, const struct dk_tenant *tenant, struct dk_tenant_row *out,
                        struct dk_err *err)
{
    const struct dk_pg_txn *txn = self;
    struct dk_pg_params p = {.n = 0};
    struct dk_tenant_row row;
    PGresult *r = NULL;
    memset(&row, 0, sizeof row);
    dk_pg_str(&p, tenant->s);
    DK_TRY(dk_pg_one(self, tenant->s,
                     txn->mode == DK_TXN_READ ? "SELECT " DK_PG_TENANT_COLUMNS
                                                " FROM tenants WHERE tenant_id = $1"
                                              : "SELECT " DK_PG_TENANT_COLUMNS
                                                " FROM tenants WHERE tenant_id = $1 FOR NO KEY "
                                                "UPDATE",
                     &p, "tenants", &r, err));
    bool good = dk_pg_get_tenant_row(r, 0, 0, &row);
    PQclear(r);
    if (!good) {
        return dk_pg_tampered("tenants", err);
    }
    *out = row;
    return DK_OK;
}

static void add_tenant(struct dk_pg_params *p, const struct dk_tenant_row *row)
{
    dk_pg_str(p, row->tenant.s);
    dk_pg_int(p, row->next_version);
    dk_pg_int(p, row->epoch);
    dk_pg_int_or_null(p, row->rotation_days);
    dk_pg_str(p, row->row_mac);
    dk_pg_str_or_null(p, row->log_head);
    dk_pg_str_or_null(p, row->keys_digest);
}

dk_rc dk_pg_tenant_update(void *self, const struct dk_tenant_row *row, int64_t old_epoch,
                          bool *changed, struct dk_err *err)
{
    struct dk_pg_params p = {.n = 0};
    add_tenant(&p, row);
    dk_pg_int(&p, old_epoch);
    return dk_pg_do(self, row->tenant.s,
                    "UPDATE tenants SET next_version = $2, epoch = $3, rotation_days = $4, row_mac "
                    "= $5, log_head = $6, keys_digest = $7 WHERE tenant_id = $1 AND epoch = $8",
                    &p, "changing a tenant", changed, err);
}

dk_rc dk_pg_tenant_remac(void *self, const struct dk_tenant_row *row, const char *old_mac,
                         bool *changed, struct dk_err *err)
{
    struct dk_pg_params p = {.n = 0};
    dk_pg_str(&p, row->tenant.s);
    dk_pg_str(&p, row->row_mac);
    dk_pg_str_or_null(&p, row->keys_digest);
    dk_pg_str(&p, old_mac);
    return dk_pg_do(self, row->tenant.s,
                    "UPDATE tenants SET row_mac = $2, keys_digest = $3 WHERE tenant_id = $1 AND "
                    "row_mac = $4",
                    &p, "renewing a MAC", changed, err);
}

dk_rc dk_pg_tenant_list(void *self, const char *after, size_t limit, struct dk_tenant_row *out,
                        size_t *count, struct dk_err *err)
{
    struct dk_pg_params p = {.n = 0};
    PGresult *r = NULL;
    dk_rc rc = DK_OK;
    dk_pg_str(&p, after);
    dk_pg_int(&p, (int64_t)limit);
    DK_TRY(dk_pg_ask(self, NULL,
                     "SELECT " DK_PG_TENANT_COLUMNS " FROM tenants WHERE tenant_id > $1 ORDER BY "
                     "tenant_id LIMIT $2",
                     &p, "listing tenants", &r, err));
    size_t n = (size_t)PQntuples(r);
    for (size_t i = 0; i < n && rc == DK_OK; i++) {
        memset(&out[i], 0, sizeof out[i]);
        rc = dk_pg_get_tenant_row(r, (int)i, 0, &out[i]) ? DK_OK : dk_pg_tampered("tenants", err);
    }
    PQclear(r);
    *count = rc == DK_OK ? n : 0;
    return rc;
}

/* ---- what changed ---------------------------------------------------------------------------- */

/* "xmin:xmax:running,..": the n-th number. */
static uint64_t nth_of(const char *snapshot, int n)
{
    for (; n > 0; n--) {
        const char *colon = strchr(snapshot, ':');
        snapshot = colon != NULL ? colon + 1 : "";
    }
    return strtoull(snapshot, NULL, 10);
}

/*
 * Numbers of transactions grow along a timeline only. After a failover those that the old server
 * gave out last are given out again: what was running then, and all after it, counts as not seen.
 */
void dk_pg_since(const char *then, const char *place_then, const char *now, const char *place_now,
                 bool *back, char out[static DK_MARK_TEXT])
{
    *back = false;
    if (then[0] == '\0' || nth_of(then, 1) > nth_of(now, 1)) {
        *back = then[0] != '\0';
        snprintf(out, DK_MARK_TEXT, EVERYTHING);
    } else if (strcmp(place_then, place_now) != 0) {
        *back = true;
        snprintf(out, DK_MARK_TEXT, "%llu:%llu:", (unsigned long long)nth_of(then, 0),
                 (unsigned long long)nth_of(then, 0));
    } else {
        snprintf(out, DK_MARK_TEXT, "%s", then);
    }
}

/* A list of running transactions that is too long is left out: they are seen twice, not never. */
static void keep_mark(struct dk_mark *mark, const char *snapshot, const char *place)
{
    snprintf(mark->place, sizeof mark->place, "%s", place);
    if (strlen(snapshot) < sizeof mark->text) {
        memcpy(mark->text, snapshot, strlen(snapshot) + 1);
    } else {
        snprintf(mark->text, sizeof mark->text,
                 "%llu:%llu:", (unsigned long long)nth_of(snapshot, 0),
                 (unsigned long long)nth_of(snapshot, 0));
    }
}

/*
 * Who asks for changes looks at the newest seal and the leases next, and a poll is to cost little:
 * so these come in one statement, and are kept for it (dk_pg_seal_newest(), dk_pg_lease()). Changes
 * are ordered as numbers: a bare name after ORDER BY may be that of the text.
 */
#define NEWS                                                                                       \
    "SELECT pg_current_snapshot()::text, " DK_PG_PLACE ", (SELECT t.changed_xid FROM tenants t "   \
    "ORDER BY t.changed_xid DESC LIMIT 1)::text, s.n, s.at, NULL::text, s.prev, s.mac, l.name, "   \
    "l.holder FROM (SELECT) one LEFT JOIN (SELECT n, at, prev, mac FROM seals ORDER BY n DESC "    \
    "LIMIT 1) s ON true LEFT JOIN leases l ON l.until > clock_timestamp()"

/* What is below the first transaction that ran at the mark was seen there. */
static bool may_have_changed(const struct dk_pg_txn *txn, const char *since)
{
    const char *newest;
    return !dk_pg_lend_str(txn->news, 0, 2, &newest) ||
           strtoull(newest, NULL, 10) >= nth_of(since, 0);
}

/* Moves the mark on; `since` is what it was, fit for a statement of this transaction. */
static dk_rc move_mark(struct dk_pg_txn *txn, struct dk_mark *mark, bool *back,
                       char since[static DK_MARK_TEXT], struct dk_err *err)
{
    const char *snapshot, *place;
    if (txn->news == NULL) { /* it sees one moment */
        DK_TRY(dk_pg_one(txn, NULL, NEWS, NULL, "pg_current_snapshot", &txn->news, err));
    }
    if (!dk_pg_lend_str(txn->news, 0, 0, &snapshot) || !dk_pg_lend_str(txn->news, 0, 1, &place)) {
        return DK_FAIL(err, STORE, "the server does not tell its snapshot");
    }
    dk_pg_since(mark->text, mark->place, snapshot, place, back, since);
    keep_mark(mark, snapshot, place);
    mark->behind = strncmp(place, STANDBY, strlen(STANDBY)) == 0;
    *back = *back || mark->behind; /* its snapshots do not tell what runs on the primary */
    return DK_OK;
}

static dk_rc tell_changed(struct dk_pg_txn *txn, const char *since,
                          void (*each)(void *arg, const struct dk_tenant *tenant), void *arg,
                          struct dk_err *err)
{
    struct dk_pg_params p = {.n = 0};
    PGresult *r = NULL;
    dk_rc rc = DK_OK;
    dk_pg_str(&p, since);
    dk_pg_bool(&p, false);
    DK_TRY(dk_pg_ask(
        txn, NULL,
        "SELECT tenant_id FROM tenants WHERE " DK_PG_NOT_SEEN("changed_xid") " AND epoch > 1", &p,
        "reading the changes", &r, err));
    for (int i = 0; i < PQntuples(r) && rc == DK_OK; i++) {
        struct dk_tenant tenant;
        rc = dk_pg_get_tenant(r, i, 0, &tenant) ? DK_OK : dk_pg_tampered("tenants", err);
        if (rc == DK_OK) {
            each(arg, &tenant);
        }
    }
    PQclear(r);
    return rc;
}

/*
 * A tenant whose first version is its only one so far (epoch 1) makes nothing old that anybody has
 * in memory.
 */
dk_rc dk_pg_changes(void *self, struct dk_mark *mark, bool *went_back,
                    void (*each)(void *arg, const struct dk_tenant *tenant), void *arg,
                    struct dk_err *err)
{
    struct dk_mark moved = *mark;
    char since[DK_MARK_TEXT];
    dk_rc rc = move_mark(self, &moved, went_back, since, err);
    if (rc == DK_OK && each != NULL && !*went_back && may_have_changed(self, since)) {
        rc = tell_changed(self, since, each, arg, err);
    }
    if (rc == DK_OK) {
        *mark = moved;
    }
    return rc;
}

/* Counted by the database, in the row that was read at the start. */
dk_rc dk_pg_log_cleared(void *self, int64_t *mark, bool *cleared, struct dk_err *err)
{
    const struct dk_pg_txn *txn = self;
    (void)err;
    if (txn->registry_rc != DK_OK) { /* no news: what is open goes on */
        *cleared = false;
        return DK_OK;
    }
    *cleared = txn->clears != *mark;
    *mark = txn->clears;
    return DK_OK;
}

/* ---- leases ---------------------------------------------------------------------------------- */

dk_rc dk_pg_node(void *self, const char *node, bool leaves, struct dk_err *err)
{
    struct dk_pg_params p = {.n = 0};
    dk_pg_str(&p, node);
    if (leaves) {
        return dk_pg_do(self, NULL, "DELETE FROM nodes WHERE node = $1", &p, "leaving", NULL, err);
    }
    dk_pg_str(&p, DK_VERSION);
    return dk_pg_do(
        self, NULL,
        "INSERT INTO nodes (node, version, started_at, seen_at) VALUES ($1, $2, "
        "clock_timestamp(), clock_timestamp()) ON CONFLICT (node) DO UPDATE SET seen_at "
        "= excluded.seen_at",
        &p, "saying that this process is there", NULL, err);
}

/* Numbers of which only the sum counts: from many rows into few. And who is gone for a day. */
dk_rc dk_pg_tidy(void *self, struct dk_err *err)
{
    DK_TRY(dk_pg_do(self, NULL, "DELETE FROM nodes WHERE seen_at < now() - interval '1 day'", NULL,
                    "forgetting nodes", NULL, err));
    return dk_pg_do(
        self, NULL,
        "WITH d AS (DELETE FROM key_count_deltas RETURNING bucket, active, total) INSERT "
        "INTO key_counts AS c (bucket, active, total) SELECT bucket, sum(active), "
        "sum(total) FROM d GROUP BY bucket ON CONFLICT (bucket) DO UPDATE SET active = "
        "c.active + excluded.active, total = c.total + excluded.total",
        NULL, "keeping counts", NULL, err);
}

static bool is_free(const PGresult *news, const char *name, const char *holder)
{
    const char *of, *who;
    for (int i = 0; i < PQntuples(news); i++) {
        if (dk_pg_lend_str(news, i, DK_PG_NEWS_LEASE, &of) && strcmp(of, name) == 0 &&
            dk_pg_lend_str(news, i, DK_PG_NEWS_LEASE + 1, &who) && strcmp(who, holder) != 0) {
            return false;
        }
    }
    return true;
}

/* By the server's clock; the row stays locked until the transaction ends. */
dk_rc dk_pg_lease(void *self, const char *name, const char *holder, int64_t ms, bool *held,
                  struct dk_err *err)
{
    const struct dk_pg_txn *txn = self;
    struct dk_pg_params p = {.n = 0};
    PGresult *r = NULL;
    dk_pg_str(&p, name);
    dk_pg_str(&p, holder);
    if (txn->mode == DK_TXN_READ && txn->news != NULL) {
        *held = is_free(txn->news, name, holder);
        return DK_OK;
    }
    if (txn->mode == DK_TXN_READ) {
        DK_TRY(dk_pg_ask(self, NULL,
                         "SELECT 1 FROM leases WHERE name = $1 AND holder <> $2 AND until > "
                         "clock_timestamp()",
                         &p, "looking at a lease", &r, err));
        *held = PQntuples(r) == 0;
        PQclear(r);
        return DK_OK;
    }
    dk_pg_int(&p, ms);
    return dk_pg_do(self, NULL,
                    "INSERT INTO leases AS l (name, holder, fence, until) VALUES ($1, $2, 1, "
                    "clock_timestamp() + $3 * interval '1 millisecond') ON CONFLICT (name) DO "
                    "UPDATE SET holder = excluded.holder, fence = l.fence + (l.holder <> "
                    "excluded.holder)::integer, until = excluded.until WHERE l.holder = "
                    "excluded.holder OR l.until <= clock_timestamp()",
                    &p, "taking a lease", held, err);
}
