/* Transactions of PostgreSQL: how they begin, how they end, and what became of one in doubt. */
#include "store/postgres.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "store/migrations.h"
#include "store/pg_txn.h"

#define DOUBT_PAUSE_MS 100
#define STATEMENT_MS                                                                               \
    "4500"              /* before our own deadline: who waits for a lock hears that it was one */
#define LONG_MS "60000" /* of what looks at the whole of the store */
#define LONG_WAIT_MS 60500
#define LIMIT(ms) "SET LOCAL statement_timeout = " ms
#define IDLE_MS "30000" /* of a client that is gone and did not say so: its locks end */

/* ---- begin ----------------------------------------------------------------------------------- */

/*
 * A snapshot is taken by the first statement that reads rows: in the two modes that look at the
 * whole of the store, after the lock.
 */
static const struct {
    const char *begin, *lock, *limit;
    int wait_ms; /* ours, a little longer than the server's */
} modes[] = {
    [DK_TXN_READ] = {"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", NULL, LIMIT(STATEMENT_MS),
                     0},
    [DK_TXN_WRITE] = {"BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE",
                      "LOCK TABLE registry IN ROW SHARE MODE", LIMIT(STATEMENT_MS), 0},
    [DK_TXN_SEAL] = {"BEGIN ISOLATION LEVEL REPEATABLE READ READ WRITE",
                     "LOCK TABLE registry IN ROW SHARE MODE", LIMIT(LONG_MS), LONG_WAIT_MS},
    [DK_TXN_ALONE] = {"BEGIN ISOLATION LEVEL REPEATABLE READ READ WRITE",
                      "LOCK TABLE registry IN EXCLUSIVE MODE", LIMIT(LONG_MS), LONG_WAIT_MS},
};

#define READ_REGISTRY                                                                              \
    "SELECT registry_uuid, schema_version, created_at, provider, kms_key_id, encrypted_data_key, " \
    "context_timestamp, generation, rekeying, pruned_seq, clears FROM registry WHERE id = 1"

static bool read_registry(const PGresult *r, struct dk_registry_row *out, int64_t *clears)
{
    return dk_pg_get_uuid(r, 0, 0, out->uuid) && dk_pg_get_version(r, 0, 1, &out->schema_version) &&
           dk_pg_get_time(r, 0, 2, false, &out->created_at) &&
           dk_pg_get_wrap(r, 0, 3, &out->wrap) && dk_pg_get_version(r, 0, 7, &out->generation) &&
           dk_pg_get_bool(r, 0, 8, &out->rekeying) &&
           dk_pg_get_int(r, 0, 9, 0, INT64_MAX, &out->pruned_seq) &&
           dk_pg_get_int(r, 0, 10, 0, INT64_MAX, clears);
}

/* What is newer or older than this program is not touched. */
static dk_rc take_registry(struct dk_pg_txn *txn, const PGresult *r, struct dk_err *err)
{
    if (PQntuples(r) == 0) {
        txn->registry_rc = DK_E_NOT_FOUND;
        return DK_OK;
    }
    txn->registry_rc = read_registry(r, &txn->registry, &txn->clears) ? DK_OK : DK_E_TAMPERED;
    unsigned version = txn->registry.schema_version;
    if (txn->registry_rc == DK_OK && version != dk_postgres_migration_count) {
        return DK_FAIL(err, SCHEMA, "%s has schema %u, this program knows %u: %s",
                       txn->store->where, version, dk_postgres_migration_count,
                       version > dk_postgres_migration_count ? "it was written by a newer dekhand"
                                                             : "run `dekhand migrate`");
    }
    return DK_OK;
}

static bool take_xid(struct dk_pg_txn *txn, const PGresult *r)
{
    return PQntuples(r) == 1 && dk_pg_get_str(r, 0, 0, txn->xid, sizeof txn->xid) &&
           dk_pg_get_str(r, 0, 1, txn->place, sizeof txn->place);
}

static dk_rc start(struct dk_pg_txn *txn, bool *lost, struct dk_err *err)
{
    char path[DK_PG_SCHEMA_MAX + 48];
    struct dk_pg_call calls[11] = {{.sql = modes[txn->mode].begin}};
    size_t n = 1, registry, xid = 0;
    snprintf(path, sizeof path, "SET LOCAL search_path = \"%s\", pg_temp", txn->store->schema);
    calls[n++].sql = path;
    calls[n++].sql = "SET LOCAL ROLE dekhand_rw";
    calls[n++].sql = "SET LOCAL lock_timeout = " STATEMENT_MS;
    calls[n++].sql = modes[txn->mode].limit;
    calls[n++].sql = "SET LOCAL idle_in_transaction_session_timeout = " IDLE_MS;
    calls[n++].sql = "SET LOCAL dekhand.scope = 'all'";
    if (modes[txn->mode].lock != NULL) {
        calls[n++].sql = modes[txn->mode].lock;
    }
    registry = n;
    calls[n++].sql = READ_REGISTRY;
    if (txn->mode != DK_TXN_READ) {
        xid = n;
        calls[n++].sql = "SELECT pg_current_xact_id()::text, " DK_PG_PLACE;
    }
    for (size_t i = 0; i < n; i++) {
        calls[i].what = "starting a transaction";
    }
    DK_TRY(dk_pg_run(txn->conn->pg, calls, n, lost, err));
    dk_rc rc = take_registry(txn, calls[registry].result, err);
    if (rc == DK_OK && xid != 0 && !take_xid(txn, calls[xid].result)) {
        rc = DK_FAIL(err, STORE, "the server does not tell the number of a transaction");
    }
    for (size_t i = 0; i < n; i++) {
        PQclear(calls[i].result);
    }
    return rc;
}

static void end(struct dk_pg_txn *txn)
{
    if (txn->gone) {
        dk_pg_lose(txn->store, txn->conn);
    }
    PQclear(txn->news);
    dk_pg_give(txn->store, txn->conn);
    dk_mem_free(&txn->store->world->mem, txn);
}

static void pg_rollback(void *self);

/* *died: a connection that was good before; it is not used again. */
static dk_rc begin_once(struct dk_pg *store, enum dk_txn_mode mode, bool *died, void **out,
                        struct dk_err *err)
{
    bool lost = false;
    struct dk_pg_txn *txn = dk_mem_zalloc(&store->world->mem, sizeof *txn);
    if (txn == NULL) {
        return DK_FAIL(err, NOMEM, "no memory for a transaction");
    }
    txn->store = store;
    txn->mode = mode;
    txn->wait_ms = modes[mode].wait_ms;
    dk_rc rc = dk_pg_take(store, &txn->conn, err);
    if (rc != DK_OK) {
        dk_mem_free(&store->world->mem, txn);
        return rc;
    }
    rc = start(txn, &lost, err);
    if (rc != DK_OK) {
        *died = lost && txn->conn->used;
        txn->gone = lost;
        pg_rollback(txn);
        return rc;
    }
    *out = txn;
    return DK_OK;
}

/* A connection that died while nobody used it shows when it is used: nothing was done, so anew. */
static dk_rc pg_begin(void *self, enum dk_txn_mode mode, void **out, struct dk_err *err)
{
    struct dk_err first;
    bool died = false;
    dk_err_clear(&first);
    dk_rc rc = begin_once(self, mode, &died, out, &first);
    if (rc != DK_OK && died) {
        return begin_once(self, mode, &died, out, err);
    }
    if (rc != DK_OK) {
        *err = first;
    }
    return rc;
}

/* ---- commit ---------------------------------------------------------------------------------- */

static void note_warning(void *arg, const PGresult *notice)
{
    const char *severity = PQresultErrorField(notice, PG_DIAG_SEVERITY_NONLOCALIZED);
    bool *warned = arg;
    *warned = *warned || (severity != NULL && strcmp(severity, "WARNING") == 0);
}

enum fate { FATE_COMMITTED, FATE_ABORTED, FATE_UNKNOWN, FATE_RUNNING };

#define FUTURE "22023" /* a number that was not given out yet */

/*
 * A number of another timeline says nothing: transactions there have numbers of their own. After a
 * crash of the server numbers are given out again, but never one whose commit was kept: what is
 * said to be committed then may be another's, anything else is true of ours too.
 */
static enum fate read_fate(const struct dk_pg_txn *txn, const PGresult *where,
                           const PGresult *status, dk_rc rc, bool future)
{
    char place[sizeof txn->place], text[16];
    bool alone = false;
    if (!dk_pg_get_str(where, 0, 0, place, sizeof place) || strncmp(place, txn->place, 8) != 0) {
        return FATE_UNKNOWN;
    }
    if (future) {
        return FATE_ABORTED;
    }
    if (rc != DK_OK) {
        return FATE_RUNNING;
    }
    if (!dk_pg_get_nullable(status, 0, 0, text, sizeof text)) {
        return FATE_UNKNOWN;
    }
    if (strcmp(text, "committed") == 0) {
        /* Where a standby has to have it too, nobody knows whether one has. */
        return strcmp(place, txn->place) == 0 && dk_pg_get_bool(where, 0, 1, &alone) && alone
                   ? FATE_COMMITTED
                   : FATE_UNKNOWN;
    }
    return strcmp(text, "aborted") == 0       ? FATE_ABORTED
           : strcmp(text, "in progress") == 0 ? FATE_RUNNING
                                              : FATE_UNKNOWN;
}

static enum fate ask_fate_on(const struct dk_pg_txn *txn, PGconn *pg)
{
    struct dk_pg_params p = {.n = 0};
    struct dk_pg_call where = {.sql = "SELECT " DK_PG_PLACE
                                      ", current_setting('synchronous_standby_names') = ''",
                               .what = "asking where the server is"};
    struct dk_pg_call status = {.sql = "SELECT pg_xact_status($1::text::xid8)",
                                .params = &p,
                                .what = "asking for a commit"};
    struct dk_err none;
    bool lost;
    enum fate fate = FATE_RUNNING;
    dk_err_clear(&none);
    dk_pg_str(&p, txn->xid);
    if (dk_pg_run(pg, &where, 1, &lost, &none) == DK_OK) {
        dk_rc rc = dk_pg_run(pg, &status, 1, &lost, &none);
        bool future = rc != DK_OK && dk_pg_failed_by(&none, FUTURE);
        fate = read_fate(txn, where.result, status.result, rc, future);
        PQclear(status.result);
    }
    PQclear(where.result);
    return fate;
}

static enum fate ask_fate(struct dk_pg_txn *txn)
{
    PGconn *pg = NULL;
    struct dk_err none;
    enum fate fate = FATE_RUNNING;
    dk_err_clear(&none);
    if (dk_pg_connect(txn->store, &pg, &none) == DK_OK) {
        fate = ask_fate_on(txn, pg);
        PQfinish(pg);
    }
    return fate;
}

/*
 * The connection was lost after COMMIT went out: what became of it is read, never assumed. It is
 * closed before that is asked: a server that never got the COMMIT then ends the transaction.
 */
static dk_rc resolve(struct dk_pg_txn *txn, struct dk_err *err)
{
    const struct timespec pause = {.tv_nsec = DOUBT_PAUSE_MS * 1000000L};
    struct timespec now, until;
    enum fate fate;
    dk_pg_lose(txn->store, txn->conn);
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += DK_PG_DEADLINE_MS / 1000;
    while ((fate = ask_fate(txn)) == FATE_RUNNING) {
        clock_gettime(CLOCK_MONOTONIC, &now);
        if (now.tv_sec >= until.tv_sec) {
            break;
        }
        nanosleep(&pause, NULL);
    }
    if (fate == FATE_COMMITTED) {
        return DK_OK;
    }
    return fate == FATE_ABORTED
               ? DK_FAIL(err, UNREACHABLE,
                         "the connection to %s was lost while committing, and nothing was stored",
                         txn->store->where)
               : DK_FAIL(err, UNREACHABLE,
                         "the connection to %s was lost while committing; whether it was stored is "
                         "not known",
                         txn->store->where);
}

/*
 * A COMMIT that waits for a synchronous standby and is cancelled is there, but only here: the
 * server says so in a warning, and calls it done. So nothing of ours may cancel it, and a warning
 * counts. COMMIT of a transaction that failed is answered with ROLLBACK, and that is no error
 * there.
 */
static dk_rc commit_on(struct dk_pg_txn *txn, bool *lost, struct dk_err *err)
{
    struct dk_pg_call calls[] = {{.sql = "SET LOCAL statement_timeout = 0", .what = "committing"},
                                 {.sql = "COMMIT", .what = "committing"}};
    bool warned = false;
    PQnoticeReceiver before = PQsetNoticeReceiver(txn->conn->pg, note_warning, &warned);
    dk_rc rc = dk_pg_run(txn->conn->pg, calls, 2, lost, err);
    PQsetNoticeReceiver(txn->conn->pg, before, NULL);
    if (rc == DK_OK && strcmp(PQcmdStatus(calls[1].result), "COMMIT") != 0) {
        rc = DK_FAIL(err, STORE, "committing: the server rolled it back");
    } else if (rc == DK_OK && warned) {
        rc = DK_FAIL(err, UNREACHABLE,
                     "%s has committed, but no synchronous standby is known to have it",
                     txn->store->where);
    }
    PQclear(calls[0].result);
    PQclear(calls[1].result);
    return rc;
}

static dk_rc pg_commit(void *self, struct dk_err *err)
{
    struct dk_pg_txn *txn = self;
    struct dk_err cause;
    bool lost = false;
    dk_err_clear(&cause);
    dk_rc rc = txn->failed ? DK_FAIL(&cause, STORE, "committing: the transaction has failed")
                           : commit_on(txn, &lost, &cause);
    if (lost) {
        txn->gone = true;
        if (txn->mode != DK_TXN_READ) {
            dk_err_clear(&cause);
            rc = resolve(txn, &cause);
        }
    }
    if (rc != DK_OK) {
        *err = cause;
    }
    if (txn->failed && !txn->gone) {
        pg_rollback(txn);
    } else {
        end(txn);
    }
    return rc;
}

static void pg_rollback(void *self)
{
    struct dk_pg_txn *txn = self;
    struct dk_pg_call call = {.sql = "ROLLBACK", .what = "rolling back"};
    struct dk_err none;
    bool lost = false;
    dk_err_clear(&none);
    if (!txn->gone && PQtransactionStatus(txn->conn->pg) != PQTRANS_IDLE) {
        dk_rc ignored = dk_pg_run(txn->conn->pg, &call, 1, &lost, &none);
        (void)ignored;
        PQclear(call.result);
        txn->gone = lost;
    }
    end(txn);
}

/* ---- the store ------------------------------------------------------------------------------- */

static dk_rc pg_open(const struct dk_world *world, const char *url, void **self, struct dk_err *err)
{
    char whole[2048];
    if (snprintf(whole, sizeof whole, "postgresql:%s", url) >= (int)sizeof whole) {
        return DK_FAIL(err, CONFIG, "DATABASE_URL is too long");
    }
    struct dk_pg *store = dk_mem_zalloc(&world->mem, sizeof *store);
    if (store == NULL) {
        return DK_FAIL(err, NOMEM, "no memory for the store");
    }
    store->world = world;
    dk_rc rc = dk_pg_parse(store, whole, err);
    if (rc != DK_OK) {
        dk_mem_free(&world->mem, store);
        return rc;
    }
    dk_pg_pool_init(store);
    *self = store;
    return DK_OK;
}

static void pg_close(void *self)
{
    struct dk_pg *store = self;
    dk_pg_close_all(store);
    dk_pg_forget_url(store);
    pthread_mutex_destroy(&store->lock);
    pthread_cond_destroy(&store->given_back);
    dk_mem_free(&store->world->mem, store);
}

static dk_rc pg_after_fork(void *self, struct dk_err *err)
{
    (void)err;
    dk_pg_after_fork(self);
    return DK_OK;
}

const struct dk_store_ops dk_store_postgres = {
    .scheme = "postgresql",
    .alias = "postgres",
    .seals_apart = true,
    .streams = true,
    .open = pg_open,
    .close = pg_close,
    .after_fork = pg_after_fork,
    .migrate = dk_pg_migrate,
    .schema_version = dk_pg_schema_version,
    .script = dk_pg_print,
    .exists = dk_pg_exists,
    .integrity = dk_pg_integrity,
    .schema = dk_pg_schema,
    .circumstances = dk_pg_circumstances,
    .begin = pg_begin,
    .commit = pg_commit,
    .rollback = pg_rollback,
    .registry_read = dk_pg_registry_read,
    .registry_fill = dk_pg_registry_fill,
    .registry_rekey = dk_pg_registry_rekey,
    .registry_rekeyed = dk_pg_registry_rekeyed,
    .registry_pruned = dk_pg_registry_pruned,
    .registry_keys = dk_pg_registry_keys,
    .tenant_read = dk_pg_tenant_read,
    .tenant_update = dk_pg_tenant_update,
    .tenant_remac = dk_pg_tenant_remac,
    .tenant_list = dk_pg_tenant_list,
    .key_read = dk_pg_key_read,
    .key_read_active = dk_pg_key_read_active,
    .key_insert = dk_pg_key_insert,
    .key_update = dk_pg_key_update,
    .key_remac = dk_pg_key_remac,
    .key_add_messages = dk_pg_key_add_messages,
    .key_list = dk_pg_key_list,
    .key_page = dk_pg_key_page,
    .key_expiring = dk_pg_key_expiring,
    .key_counts = dk_pg_key_counts,
    .key_macs = dk_pg_key_macs,
    .find_many = dk_pg_find_many,
    .insert_first = dk_pg_insert_first,
    .calls_add = dk_pg_calls_add,
    .calls_sum = dk_pg_calls_sum,
    .wraps_of = dk_pg_wraps_of,
    .wraps_stale = dk_pg_wraps_stale,
    .wrap_put = dk_pg_wrap_put,
    .wrap_drop = dk_pg_wrap_drop,
    .wraps_missing = dk_pg_wraps_missing,
    .registry_wraps = dk_pg_registry_wraps,
    .registry_wrap_put = dk_pg_registry_wrap_put,
    .registry_wrap_drop = dk_pg_registry_wrap_drop,
    .registry_rewrap = dk_pg_registry_rewrap,
    .log_append = dk_pg_log_append,
    .log_chain = dk_pg_log_chain,
    .log_walk = dk_pg_log_walk,
    .log_edge = dk_pg_log_edge,
    .log_prune = dk_pg_log_prune,
    .log_cleared = dk_pg_log_cleared,
    .seal_append = dk_pg_seal_append,
    .seal_newest = dk_pg_seal_newest,
    .seal_walk = dk_pg_seal_walk,
    .moved = dk_pg_moved,
    .changes = dk_pg_changes,
    .node = dk_pg_node,
    .tidy = dk_pg_tidy,
    .lease = dk_pg_lease,
};
