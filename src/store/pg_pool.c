/* The connections of this process to its servers: made, lent, lost. */
#include "store/pg_conn.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define HOST_MS_MIN 1000 /* for one of several servers */
#define FREE_S 3         /* a call has several transactions, and may have to wait in each */
#define IDLE_MS 30000    /* asked for a sign of life before it is used again */
#define SILENT_MS 1000   /* a call that was told once is told at once what follows from it */
#define OPTION_MAX 64
/* How many connections this thread has: who has one may take one of the reserve. */
static _Thread_local int held;

/* ---- connecting ------------------------------------------------------------------------------ */

static void say_nothing(void *arg, const char *message)
{
    (void)arg;
    (void)message;
}

static PGconn *start_connecting(const struct dk_pg *store, const struct dk_pg_host *host)
{
    const char *keyword[OPTION_MAX], *value[OPTION_MAX];
    int n = 0;
    for (const PQconninfoOption *o = store->options; o->keyword != NULL && n < OPTION_MAX - 4;
         o++) {
        if (o->val != NULL && strcmp(o->keyword, "host") != 0 &&
            strcmp(o->keyword, "hostaddr") != 0 && strcmp(o->keyword, "port") != 0) {
            keyword[n] = o->keyword;
            value[n++] = o->val;
        }
    }
    keyword[n] = "host";
    value[n++] = host->name;
    keyword[n] = "hostaddr";
    value[n++] = host->address;
    keyword[n] = "port";
    value[n++] = host->port;
    keyword[n] = NULL;
    value[n] = NULL;
    return PQconnectStartParams(keyword, value, 0);
}

static bool finish_connecting(PGconn *pg, int64_t deadline)
{
    PostgresPollingStatusType status = PGRES_POLLING_WRITING;
    while (status == PGRES_POLLING_READING || status == PGRES_POLLING_WRITING) {
        struct pollfd fd = {.fd = PQsocket(pg),
                            .events = status == PGRES_POLLING_READING ? POLLIN : POLLOUT};
        int64_t left = deadline - dk_pg_now_ms();
        if (left <= 0 || (poll(&fd, 1, (int)left) < 0 && errno != EINTR)) {
            return false;
        }
        if (fd.revents != 0) {
            status = PQconnectPoll(pg);
        }
    }
    return status == PGRES_POLLING_OK;
}

/* What libpq and PgBouncer say when one cannot connect has no SQLSTATE: their words have to do. */
static const struct {
    const char *said;
    dk_rc rc;
    const char *todo;
} refusals[] = {
    {"too many", DK_E_BUSY, ""},
    {"remaining connection slots", DK_E_BUSY, ""},
    {"no more connections allowed", DK_E_BUSY, ""},
    {"authentication failed", DK_E_CONFIG, ""},
    {"no password supplied", DK_E_CONFIG, ""},
    {"pg_hba.conf", DK_E_CONFIG, ""},
    {"is not permitted to log in", DK_E_CONFIG, ""},
    {"does not match host name", DK_E_CONFIG, ": use the name that its certificate has"},
    {"certificate verify failed", DK_E_CONFIG,
     ": give the file of the authority that signed it as sslrootcert=FILE"},
    {"root certificate file", DK_E_CONFIG, ": give another as sslrootcert=FILE"},
    {"certificate", DK_E_CONFIG, ""},
    {"server does not support SSL", DK_E_CONFIG,
     ": switch TLS on there, or say sslmode=disable where nobody else is on the way"},
    {"private key file", DK_E_CONFIG, ""},
    {"channel binding required", DK_E_CONFIG, ""},
    {"does not exist", DK_E_CONFIG, ""},
    /* Parameters of the URL, of the environment, or of the options in them. */
    {" value: \"", DK_E_CONFIG, ""}, /* "invalid sslmode value: .." */
    {"invalid integer value", DK_E_CONFIG, ""},
    {"invalid port number", DK_E_CONFIG, ""},
    {"invalid SSL protocol version range", DK_E_CONFIG, ""},
    {"is too long (maximum", DK_E_CONFIG, ""}, /* the path of a socket */
    {"unrecognized configuration parameter", DK_E_CONFIG, ""},
    {"invalid value for parameter", DK_E_CONFIG, ""},
    {"invalid command-line argument", DK_E_CONFIG, ""},
    {"unsupported startup parameter", DK_E_CONFIG, ": PgBouncer takes no options"},
};

static dk_rc connect_failed(const char *where, PGconn *pg, bool late, struct dk_err *err)
{
    const char *said = pg != NULL ? PQerrorMessage(pg) : "no memory";
    const char *text = strstr(said, "FATAL:");
    text = text != NULL ? text + strlen("FATAL:") : said;
    text += strspn(text, " ");
    int n = (int)strcspn(text, "\n");
    n = n > 180 ? 180 : n;
    if (late) {
        return DK_FAIL(err, UNREACHABLE, "%s does not answer", where);
    }
    for (size_t i = 0; i < sizeof refusals / sizeof refusals[0]; i++) {
        if (strstr(said, refusals[i].said) != NULL) {
            return dk_err_set(err, refusals[i].rc, __FILE__, __LINE__, "%s: %.*s%s", where, n, text,
                              refusals[i].todo);
        }
    }
    return DK_FAIL(err, UNREACHABLE, "%s cannot be reached: %.*s", where, n, text);
}

static dk_rc connect_to(struct dk_pg *store, const struct dk_pg_host *host, int64_t deadline,
                        PGconn **out, struct dk_err *err)
{
    char where[sizeof store->where];
    PGconn *pg = start_connecting(store, host);
    if (pg != NULL && PQstatus(pg) != CONNECTION_BAD && finish_connecting(pg, deadline)) {
        PQsetNoticeProcessor(pg, say_nothing, NULL);
        *out = pg;
        return DK_OK;
    }
    dk_pg_name_server(store, host, where);
    dk_rc rc = connect_failed(where, pg, dk_pg_now_ms() >= deadline, err);
    PQfinish(pg);
    return rc;
}

dk_rc dk_pg_connect(struct dk_pg *store, PGconn **out, struct dk_err *err)
{
    size_t n = store->host_count;
    unsigned first = atomic_load(&store->first_host);
    int64_t start = dk_pg_now_ms(), each = DK_PG_DEADLINE_MS / (int64_t)n;
    struct dk_err last;
    each = each < HOST_MS_MIN ? HOST_MS_MIN : each;
    if (start < atomic_load(&store->silent_ms)) {
        return DK_FAIL(err, UNREACHABLE, "%s did not answer a moment ago", store->where);
    }
    for (size_t i = 0; i < n; i++) {
        unsigned at = (unsigned)((first + i) % n);
        dk_err_clear(&last);
        if (connect_to(store, &store->hosts[at], start + (int64_t)(i + 1) * each, out, &last) ==
            DK_OK) {
            atomic_store(&store->first_host, at);
            return DK_OK;
        }
    }
    if (dk_pg_now_ms() - start >= DK_PG_DEADLINE_MS) {
        atomic_store(&store->silent_ms, dk_pg_now_ms() + SILENT_MS);
    }
    *err = last;
    return err->rc;
}

/* ---- the pool -------------------------------------------------------------------------------- */

static void close_one(struct dk_pg_conn *conn)
{
    PQfinish(conn->pg);
    conn->pg = NULL;
}

/*
 * Something to read on an idle connection is its end: the server's last words, which libpq takes
 * for an answer to what is asked next.
 */
static bool is_alive(const struct dk_pg *store, struct dk_pg_conn *conn)
{
    struct pollfd fd = {.fd = PQsocket(conn->pg), .events = POLLIN};
    if (PQstatus(conn->pg) != CONNECTION_OK || PQtransactionStatus(conn->pg) != PQTRANS_IDLE ||
        conn->idle_since_ms <= atomic_load(&store->lost_ms) || poll(&fd, 1, 0) != 0) {
        return false;
    }
    if (dk_pg_now_ms() - conn->idle_since_ms < IDLE_MS) {
        return true;
    }
    struct dk_pg_call call = {.sql = "SELECT 1", .what = "asking for a sign of life"};
    struct dk_err none;
    bool lost;
    dk_err_clear(&none);
    dk_rc rc = dk_pg_run(conn->pg, &call, 1, &lost, &none);
    PQclear(call.result);
    return rc == DK_OK;
}

static struct dk_pg_conn *find_free(struct dk_pg *store)
{
    size_t n = held > 0 ? DK_PG_POOL + DK_PG_RESERVE : DK_PG_POOL;
    struct dk_pg_conn *found = NULL;
    for (size_t i = 0; i < n; i++) {
        struct dk_pg_conn *conn = &store->conns[i];
        if (!conn->taken && conn->pg != NULL) {
            return conn;
        }
        if (!conn->taken && found == NULL) {
            found = conn;
        }
    }
    return found;
}

static dk_rc wait_for_free(struct dk_pg *store, struct dk_pg_conn **out, struct dk_err *err)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += FREE_S;
    pthread_mutex_lock(&store->lock);
    int waited = 0;
    while ((*out = find_free(store)) == NULL && waited == 0) {
        waited = pthread_cond_timedwait(&store->given_back, &store->lock, &until);
    }
    if (*out != NULL) {
        (*out)->taken = true;
    }
    pthread_mutex_unlock(&store->lock);
    return *out != NULL ? DK_OK
                        : DK_FAIL(err, BUSY, "all %d connections to %s were in use for %d s",
                                  DK_PG_POOL, store->where, FREE_S);
}

static dk_rc connect_one(struct dk_pg *store, struct dk_pg_conn *conn, struct dk_err *err)
{
    struct stat made;
    DK_TRY(dk_pg_connect(store, &conn->pg, err));
    conn->ino = fstat(PQsocket(conn->pg), &made) == 0 ? made.st_ino : 0;
    return DK_OK;
}

dk_rc dk_pg_take(struct dk_pg *store, struct dk_pg_conn **out, struct dk_err *err)
{
    struct dk_pg_conn *conn = NULL;
    if (store->pid != getpid()) {
        return DK_FAIL(err, FORKED, "this process was forked, and looks at its parent's store");
    }
    DK_TRY(wait_for_free(store, &conn, err));
    held++;
    if (conn->pg != NULL && !is_alive(store, conn)) {
        close_one(conn);
    }
    conn->used = conn->pg != NULL;
    dk_rc rc = conn->pg == NULL ? connect_one(store, conn, err) : DK_OK;
    if (rc != DK_OK) {
        dk_pg_give(store, conn);
        return rc;
    }
    *out = conn;
    return DK_OK;
}

void dk_pg_give(struct dk_pg *store, struct dk_pg_conn *conn)
{
    if (conn->pg != NULL &&
        (PQstatus(conn->pg) != CONNECTION_OK || PQtransactionStatus(conn->pg) != PQTRANS_IDLE ||
         PQpipelineStatus(conn->pg) != PQ_PIPELINE_OFF)) {
        close_one(conn);
    }
    held--;
    conn->idle_since_ms = dk_pg_now_ms();
    pthread_mutex_lock(&store->lock);
    conn->taken = false;
    pthread_cond_broadcast(&store->given_back); /* not everybody may take one of the reserve */
    pthread_mutex_unlock(&store->lock);
}

/* After a restart, a failover, or a firewall's silence, one timeout is enough: not one for each. */
void dk_pg_lose(struct dk_pg *store, struct dk_pg_conn *conn)
{
    close_one(conn);
    atomic_store(&store->lost_ms, dk_pg_now_ms());
}

static bool is_still_its_socket(const struct dk_pg_conn *conn)
{
    struct stat now;
    return conn->pg != NULL && PQsocket(conn->pg) >= 0 && fstat(PQsocket(conn->pg), &now) == 0 &&
           S_ISSOCK(now.st_mode) && now.st_ino == conn->ino;
}

/* A goodbye on a socket that the parent has too would end the parent's session. */
static void drop(struct dk_pg_conn *conn, int nowhere)
{
    if (!is_still_its_socket(conn)) {
        /* none, or closed: its number may be another file's by now */
    } else if (!conn->taken && nowhere >= 0) {
        (void)dup2(nowhere, PQsocket(conn->pg));
        PQfinish(conn->pg);
    } else {
        close(PQsocket(conn->pg)); /* the rest stays: a thread was in the middle of it */
    }
    conn->pg = NULL;
    conn->taken = false;
}

static void drop_all(struct dk_pg *store)
{
    int nowhere = open("/dev/null", O_RDWR | O_CLOEXEC);
    for (size_t i = 0; i < DK_PG_POOL + DK_PG_RESERVE; i++) {
        drop(&store->conns[i], nowhere);
    }
    if (nowhere >= 0) {
        close(nowhere);
    }
}

void dk_pg_close_all(struct dk_pg *store)
{
    if (store->pid != getpid()) {
        drop_all(store);
        return;
    }
    for (size_t i = 0; i < DK_PG_POOL + DK_PG_RESERVE; i++) {
        close_one(&store->conns[i]);
    }
}

void dk_pg_pool_init(struct dk_pg *store)
{
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_mutex_init(&store->lock, NULL);
    pthread_cond_init(&store->given_back, &attr);
    pthread_condattr_destroy(&attr);
    store->pid = getpid();
    atomic_store(&store->lost_ms, -1);
    atomic_store(&store->silent_ms, -1);
}

void dk_pg_after_fork(struct dk_pg *store)
{
    drop_all(store);
    dk_pg_pool_init(store);
    held = 0;
}
