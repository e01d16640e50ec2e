/* The log and the seals to and from PostgreSQL. */
#include <stdio.h>
#include <string.h>

#include "store/pg_txn.h"

#define LOG_WALK(where, order)                                                                     \
    "SELECT seq, " DK_PG_LOG_COLUMNS " FROM key_rotation_log WHERE " where                         \
    " AND ($2::timestamptz IS NULL OR performed_at >= $2) AND ($3::timestamptz IS NULL OR "        \
    "performed_at < $3) " order " LIMIT $4"
/* Who stops early has not read much: the first page is small. */
#define LOG_PAGE_MIN 16
#define LOG_PAGE_MAX 1024
#define SEAL_PAGE 64 /* one may be long */

/* ---- the log --------------------------------------------------------------------------------- */

/* A tenant's id, or "*". */
static bool read_subject(const PGresult *r, int i, int c, char *out)
{
    struct dk_tenant tenant;
    char star[4];
    if (dk_pg_get_tenant(r, i, c, &tenant)) {
        memcpy(out, tenant.s, tenant.n + 1);
        return true;
    }
    if (dk_pg_get_str(r, i, c, star, sizeof star) && strcmp(star, "*") == 0) {
        memcpy(out, "*", 2);
        return true;
    }
    return false;
}

static bool read_log(const PGresult *r, int i, struct dk_log_row *out)
{
    return dk_pg_get_int(r, i, 0, 1, INT64_MAX, &out->seq) && dk_pg_get_uuid(r, i, 1, out->id) &&
           read_subject(r, i, 2, out->tenant) &&
           dk_pg_get_str(r, i, 3, out->operation, sizeof out->operation) &&
           dk_pg_get_version_or_null(r, i, 4, &out->from_version) &&
           dk_pg_get_version_or_null(r, i, 5, &out->to_version) &&
           dk_pg_get_bool(r, i, 6, &out->success) &&
           dk_pg_get_nullable(r, i, 7, out->error_message, sizeof out->error_message) &&
           dk_pg_get_time(r, i, 8, false, &out->performed_at) &&
           dk_pg_get_nullable(r, i, 9, out->performed_by, sizeof out->performed_by) &&
           dk_pg_get_nullable(r, i, 10, out->node, sizeof out->node) &&
           dk_pg_lend_str(r, i, 11, &out->detail) &&
           (out->detail[0] != '\0' || PQgetisnull(r, i, 11)) &&
           dk_pg_get_nullable(r, i, 12, out->prev, sizeof out->prev) &&
           dk_pg_get_nullable(r, i, 13, out->mac, sizeof out->mac);
}

dk_rc dk_pg_log_append(void *self, const struct dk_log_row *row, struct dk_err *err)
{
    struct dk_pg_params p = {.n = 0};
    bool stored = false;
    dk_pg_uuid(&p, row->id);
    dk_pg_str(&p, row->tenant);
    dk_pg_str(&p, row->operation);
    dk_pg_int_or_null(&p, row->from_version);
    dk_pg_int_or_null(&p, row->to_version);
    dk_pg_bool(&p, row->success);
    dk_pg_str_or_null(&p, row->error_message);
    dk_pg_time(&p, row->performed_at);
    dk_pg_str_or_null(&p, row->performed_by);
    dk_pg_str_or_null(&p, row->node);
    dk_pg_str_or_null(&p, row->detail);
    dk_pg_str_or_null(&p, row->prev);
    dk_pg_str_or_null(&p, row->mac);
    DK_TRY(dk_pg_do(self, row->tenant,
                    "INSERT INTO key_rotation_log (" DK_PG_LOG_COLUMNS
                    ") VALUES ($1, $2, $3, $4, $5, $6, "
                    "$7, $8, $9, $10, $11, $12, $13)",
                    &p, "writing the log", &stored, err));
    return stored ? DK_OK : DK_FAIL(err, TAMPERED, "something in the database drops log rows");
}

dk_rc dk_pg_log_chain(void *self, const struct dk_log_row *row, struct dk_err *err)
{
    struct dk_pg_params p = {.n = 0};
    bool changed = false;
    dk_pg_uuid(&p, row->id);
    dk_pg_str_or_null(&p, row->prev);
    dk_pg_str(&p, row->mac);
    DK_TRY(dk_pg_do(self, NULL,
                    "UPDATE key_rotation_log SET prev = $2, mac = $3 WHERE id = $1 AND mac IS NULL",
                    &p, "chaining the log", &changed, err));
    return changed ? DK_OK : DK_FAIL(err, CONFLICT, "a log row was chained by another");
}

static const char *choose(const struct dk_log_query *query)
{
    if (query->unchained) {
        return LOG_WALK("seq > $1 AND tenant_id = $5 AND mac IS NULL", "ORDER BY seq");
    }
    if (query->failed) {
        return LOG_WALK("($1 = 0 OR seq < $1) AND NOT success", "ORDER BY seq DESC");
    }
    if (query->tenant != NULL) {
        return query->newest_first
                   ? LOG_WALK("($1 = 0 OR seq < $1) AND tenant_id = $5", "ORDER BY seq DESC")
                   : LOG_WALK("seq > $1 AND tenant_id = $5", "ORDER BY seq");
    }
    return query->newest_first ? LOG_WALK("($1 = 0 OR seq < $1)", "ORDER BY seq DESC")
                               : LOG_WALK("seq > $1", "ORDER BY seq");
}

/* Page by page: between two pages, and in `each`, the connection is free for other statements. */
dk_rc dk_pg_log_walk(void *self, const struct dk_log_query *query,
                     bool (*each)(void *arg, const struct dk_log_row *row), void *arg,
                     struct dk_err *err)
{
    struct dk_log_row row = {.seq = query->after};
    bool more = true;
    int n, page = LOG_PAGE_MIN / 4;
    do {
        page = page < LOG_PAGE_MAX ? 4 * page : page;
        struct dk_pg_params p = {.n = 0};
        PGresult *r = NULL;
        dk_rc rc = DK_OK;
        dk_pg_int(&p, row.seq);
        dk_pg_time(&p, query->since);
        dk_pg_time(&p, query->until);
        dk_pg_int(&p, page);
        if (query->tenant != NULL) {
            dk_pg_str(&p, query->tenant->s);
        }
        DK_TRY(dk_pg_ask(self, query->tenant != NULL ? query->tenant->s : NULL, choose(query), &p,
                         "reading the log", &r, err));
        n = PQntuples(r);
        for (int i = 0; i < n && rc == DK_OK && more; i++) {
            rc = read_log(r, i, &row) ? DK_OK : dk_pg_tampered("key_rotation_log", err);
            more = rc == DK_OK && each(arg, &row);
        }
        PQclear(r);
        DK_TRY(rc);
    } while (more && n == page);
    return DK_OK;
}

/* What the seal saw: numbers of rows are given out in another order than they are committed in. */
#define IN_SEAL                                                                                    \
    "pg_visible_in_snapshot(xid, (SELECT snapshot FROM seals WHERE n = $1)) AND seq <= $2"

/*
 * Numbers of transactions only grow, along with those of seals, unless the tables were copied into
 * another server that had given out fewer: then new rows look as if old seals had seen them.
 */
static dk_rc check_numbers(struct dk_pg_txn *txn, struct dk_err *err)
{
    PGresult *r = NULL;
    bool grow = false;
    DK_TRY(dk_pg_one(txn, NULL,
                     "SELECT NOT EXISTS (SELECT FROM (SELECT pg_snapshot_xmax(snapshot) AS top, "
                     "lead(pg_snapshot_xmax(snapshot), 1, "
                     "pg_snapshot_xmax(pg_current_snapshot())) OVER (ORDER BY n) AS next FROM "
                     "seals) s WHERE next < top)",
                     NULL, "seals", &r, err));
    bool good = dk_pg_get_bool(r, 0, 0, &grow);
    PQclear(r);
    if (!good) {
        return dk_pg_tampered("seals", err);
    }
    return grow ? DK_OK
                : DK_FAIL(err, STORE,
                          "the registry was copied to this server from another one with higher "
                          "numbers of transactions: which rows of the log are in which seal is "
                          "not known here, and none is deleted");
}

dk_rc dk_pg_log_edge(void *self, struct dk_log_edge *edge, struct dk_err *err)
{
    struct dk_pg_params p = {.n = 0};
    PGresult *r = NULL;
    DK_TRY(check_numbers(self, err));
    dk_pg_int(&p, edge->seal);
    dk_pg_int(&p, INT64_MAX);
    DK_TRY(dk_pg_one(self, NULL,
                     "SELECT coalesce(max(seq), 0), count(*) FROM key_rotation_log WHERE " IN_SEAL,
                     &p, "key_rotation_log", &r, err));
    bool good = dk_pg_get_int(r, 0, 0, 0, INT64_MAX, &edge->seq) &&
                dk_pg_get_int(r, 0, 1, 0, INT64_MAX, &edge->rows);
    PQclear(r);
    return good ? DK_OK : dk_pg_tampered("key_rotation_log", err);
}

dk_rc dk_pg_log_prune(void *self, const struct dk_log_edge *edge, int64_t limit, int64_t *deleted,
                      struct dk_err *err)
{
    struct dk_pg_params p = {.n = 0};
    PGresult *r = NULL;
    dk_pg_int(&p, edge->seal);
    dk_pg_int(&p, edge->seq);
    dk_pg_int(&p, limit);
    DK_TRY(dk_pg_ask(self, NULL,
                     "DELETE FROM key_rotation_log WHERE seq IN (SELECT seq FROM key_rotation_log "
                     "WHERE " IN_SEAL " ORDER BY seq LIMIT $3)",
                     &p, "pruning the log", &r, err));
    *deleted = dk_pg_touched(r);
    PQclear(r);
    return DK_OK;
}

/* ---- seals ----------------------------------------------------------------------------------- */

static bool read_seal(const PGresult *r, int i, int c, struct dk_seal_row *out)
{
    return dk_pg_get_int(r, i, c, 1, INT64_MAX, &out->n) &&
           dk_pg_get_time(r, i, c + 1, false, &out->at) &&
           dk_pg_lend_str(r, i, c + 2, &out->heads) &&
           dk_pg_get_nullable(r, i, c + 3, out->prev, sizeof out->prev) &&
           dk_pg_get_str(r, i, c + 4, out->mac, sizeof out->mac);
}

/* With what is visible in this transaction: what is not is for the next seal. */
dk_rc dk_pg_seal_append(void *self, const struct dk_seal_row *row, struct dk_err *err)
{
    struct dk_pg_params p = {.n = 0};
    bool stored = false;
    dk_pg_int(&p, row->n);
    dk_pg_time(&p, row->at);
    dk_pg_str(&p, row->heads);
    dk_pg_str_or_null(&p, row->prev);
    dk_pg_str(&p, row->mac);
    DK_TRY(dk_pg_do(self, NULL,
                    "INSERT INTO seals (n, at, heads, prev, mac, snapshot, place) VALUES ($1, $2, "
                    "$3, $4, $5, pg_current_snapshot(), " DK_PG_PLACE ")",
                    &p, "writing a seal", &stored, err));
    return stored ? DK_OK : DK_FAIL(err, TAMPERED, "something in the database drops seals");
}

dk_rc dk_pg_seal_newest(void *self, struct dk_seal_row *out, struct dk_err *err)
{
    const struct dk_pg_txn *txn = self;
    struct dk_seal_row row = {.n = 0};
    PGresult *r = NULL;
    bool good;
    if (txn->mode == DK_TXN_READ && txn->news != NULL) { /* one moment: it is the same one */
        good = PQgetisnull(txn->news, 0, DK_PG_NEWS_SEAL) ||
               read_seal(txn->news, 0, DK_PG_NEWS_SEAL, &row);
    } else {
        DK_TRY(dk_pg_ask(self, NULL,
                         "SELECT n, at, NULL::text, prev, mac FROM seals ORDER BY n DESC LIMIT 1",
                         NULL, "reading the newest seal", &r, err));
        good = PQntuples(r) == 0 || read_seal(r, 0, 0, &row);
        PQclear(r);
    }
    if (!good) {
        return dk_pg_tampered("seals", err);
    }
    row.heads = NULL;
    *out = row;
    return DK_OK;
}

dk_rc dk_pg_seal_walk(void *self, int64_t from,
                      bool (*each)(void *arg, const struct dk_seal_row *row), void *arg,
                      struct dk_err *err)
{
    struct dk_seal_row row = {.n = from - 1};
    bool more = true;
    int n;
    do {
        struct dk_pg_params p = {.n = 0};
        PGresult *r = NULL;
        dk_rc rc = DK_OK;
        dk_pg_int(&p, row.n);
        dk_pg_int(&p, SEAL_PAGE);
        DK_TRY(dk_pg_ask(self, NULL,
                         "SELECT n, at, heads, prev, mac FROM seals WHERE n > $1 ORDER BY n LIMIT "
                         "$2",
                         &p, "reading the seals", &r, err));
        n = PQntuples(r);
        for (int i = 0; i < n && rc == DK_OK && more; i++) {
            rc = read_seal(r, i, 0, &row) ? DK_OK : dk_pg_tampered("seals", err);
            more = rc == DK_OK && each(arg, &row);
        }
        PQclear(r);
        DK_TRY(rc);
    } while (more && n == SEAL_PAGE);
    return DK_OK;
}

/* ---- what no seal has yet -------------------------------------------------------------------- */

/* What the newest seal saw, as a snapshot for a statement of this transaction; *back: elsewhere. */
static dk_rc sealed_so_far(struct dk_pg_txn *txn, char since[static DK_MARK_TEXT], bool *back,
                           struct dk_err *err)
{
    PGresult *r = NULL;
    const char *then = "", *place_then = "", *now, *place_now;
    DK_TRY(dk_pg_one(txn, NULL,
                     "SELECT pg_current_snapshot()::text, " DK_PG_PLACE ", s.snapshot::text, "
                     "s.place FROM (SELECT) one LEFT JOIN (SELECT snapshot, place FROM seals ORDER "
                     "BY n DESC LIMIT 1) s ON true",
                     NULL, "seals", &r, err));
    bool good = dk_pg_lend_str(r, 0, 0, &now) && dk_pg_lend_str(r, 0, 1, &place_now) &&
                dk_pg_lend_str(r, 0, 2, &then) && dk_pg_lend_str(r, 0, 3, &place_then) &&
                strlen(then) < DK_MARK_TEXT;
    if (good) {
        dk_pg_since(then, place_then, now, place_now, back, since);
    }
    PQclear(r);
    return good ? DK_OK : dk_pg_tampered("seals", err);
}

static dk_rc tell_moved(PGresult *r, bool process,
                        bool (*each)(void *arg, const struct dk_moved *moved), void *arg,
                        bool *more, struct dk_err *err)
{
    dk_rc rc = DK_OK;
    for (int i = 0; i < PQntuples(r) && rc == DK_OK && *more; i++) {
        struct dk_moved moved = {.process = process};
        bool good = dk_pg_get_str(r, i, 0, moved.name, sizeof moved.name) &&
                    dk_pg_get_int(r, i, 1, 0, INT64_MAX, &moved.epoch) &&
                    dk_pg_get_nullable(r, i, 2, moved.head, sizeof moved.head);
        rc = good ? DK_OK : dk_pg_tampered(process ? "key_rotation_log" : "tenants", err);
        *more = rc == DK_OK && each(arg, &moved);
    }
    PQclear(r);
    return rc;
}

dk_rc dk_pg_moved(void *self, bool (*each)(void *arg, const struct dk_moved *moved), void *arg,
                  struct dk_err *err)
{
    struct dk_pg_params p = {.n = 0};
    char since[DK_MARK_TEXT];
    PGresult *r = NULL;
    bool back = false, more = true;
    DK_TRY(sealed_so_far(self, since, &back, err));
    dk_pg_str(&p, since);
    dk_pg_bool(&p, back);
    DK_TRY(dk_pg_ask(self, NULL,
                     "SELECT tenant_id, epoch, log_head FROM tenants WHERE " DK_PG_NOT_SEEN(
                         "changed_xid") " ORDER BY tenant_id",
                     &p, "reading what no seal has", &r, err));
    DK_TRY(tell_moved(r, false, each, arg, &more, err));
    if (!more) {
        return DK_OK;
    }
    DK_TRY(dk_pg_ask(
        self, NULL,
        "SELECT DISTINCT ON (node) node, 0::bigint, mac FROM key_rotation_log "
        "WHERE " DK_PG_NOT_SEEN("xid") " AND (operation = 'decrypt' OR tenant_id = '*') AND mac IS "
                                       "NOT NULL ORDER BY node, seq DESC",
        &p, "reading what no seal has", &r, err));
    return tell_moved(r, true, each, arg, &more, err);
}
