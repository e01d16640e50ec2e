/* Where the server is, and the connections of this process to it. */
#include "store/pg_conn.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"

#define HOST_MS_MIN 1000 /* for one of several servers */
#define FREE_S 3         /* a call has several transactions, and may have to wait in each */
#define IDLE_MS 30000    /* asked for a sign of life before it is used again */
#define SILENT_MS 1000   /* a call that was told once is told at once what follows from it */
#define OPTION_MAX 64
#define SCHEMA_OPTION "dekhand_schema"
/* The systems' bundles of certificates; libpq looks for one in the home folder only. */
static const char *const bundles[] = {"/etc/ssl/certs/ca-certificates.crt",
                                      "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"};

/* How many connections this thread has: who has one may take one of the reserve. */
static _Thread_local int held;

/* ---- the URL --------------------------------------------------------------------------------- */

static dk_rc bad_url(const char *why, struct dk_err *err)
{
    return DK_FAIL(err, CONFIG, "DATABASE_URL: %s; it wants postgresql://user@host:port/database",
                   why);
}

/*
 * The user's part ends at the first @ before a slash, and before the query there is no other one:
 * else what libpq takes for a server's or a database's name is a piece of a password, and those are
 * told in texts.
 */
static dk_rc check_user(const char *url, struct dk_err *err)
{
    const char *from = strstr(url, "://");
    if (from == NULL) {
        return DK_OK;
    }
    from += strlen("://");
    const char *end = from + strcspn(from, "@/");
    from = *end == '@' ? end + 1 : from;
    return memchr(from, '@', strcspn(from, "?")) == NULL
               ? DK_OK
               : bad_url("an @ in a password is written %40, a / there is %2F", err);
}

/* Takes `dekhand_schema=NAME` out of the query: libpq does not know it. */
static dk_rc take_schema(struct dk_pg *store, char *url, struct dk_err *err)
{
    snprintf(store->schema, sizeof store->schema, "dekhand");
    char *at = strstr(url, SCHEMA_OPTION "=");
    if (at == NULL || at == url || (at[-1] != '?' && at[-1] != '&')) {
        return DK_OK;
    }
    char *name = at + strlen(SCHEMA_OPTION "=");
    size_t n = strcspn(name, "&");
    if (n == 0 || n >= sizeof store->schema ||
        strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_") < n) {
        return bad_url("dekhand_schema is 1 to 63 of a-z, 0-9 and _", err);
    }
    memcpy(store->schema, name, n);
    store->schema[n] = '\0';
    name += n + (name[n] == '&');
    memmove(at, name, strlen(name) + 1);
    return DK_OK;
}

static char **option(struct dk_pg *store, const char *keyword)
{
    for (PQconninfoOption *o = store->options; o->keyword != NULL; o++) {
        if (strcmp(o->keyword, keyword) == 0) {
            return &o->val;
        }
    }
    return NULL;
}

static const char *value_of(struct dk_pg *store, const char *keyword)
{
    char **val = option(store, keyword);
    return val != NULL && *val != NULL ? *val : "";
}

/* Only where nothing was said; libpq frees it. */
static bool set_default(struct dk_pg *store, const char *keyword, const char *value)
{
    char **val = option(store, keyword);
    if (val == NULL || (*val != NULL && (*val)[0] != '\0')) {
        return true;
    }
    free(*val);
    *val = strdup(value);
    return *val != NULL;
}

static bool replace(struct dk_pg *store, const char *keyword, const char *value)
{
    char **val = option(store, keyword);
    if (val == NULL) {
        return true;
    }
    free(*val);
    *val = NULL;
    return set_default(store, keyword, value);
}

/* The i-th of a list with commas; a list of one counts for all. */
static void nth(const char *list, size_t i, char *out, size_t cap)
{
    if (strchr(list, ',') == NULL) {
        snprintf(out, cap, "%s", list);
        return;
    }
    for (; i > 0 && *list != '\0'; i--) {
        list += strcspn(list, ",");
        list += *list == ',';
    }
    snprintf(out, cap, "%.*s", (int)strcspn(list, ","), list);
}

static size_t count_of(const char *list)
{
    size_t n = 1;
    for (; *list != '\0'; list++) {
        n += *list == ',';
    }
    return n;
}

static dk_rc take_hosts(struct dk_pg *store, struct dk_err *err)
{
    const char *names = value_of(store, "host"), *addresses = value_of(store, "hostaddr");
    size_t n = count_of(names[0] != '\0' ? names : addresses);
    if (n > DK_PG_HOSTS) {
        return bad_url("8 hosts at most", err);
    }
    for (size_t i = 0; i < n; i++) {
        struct dk_pg_host *host = &store->hosts[i];
        nth(names, i, host->name, sizeof host->name);
        nth(addresses, i, host->address, sizeof host->address);
        nth(value_of(store, "port"), i, host->port, sizeof host->port);
    }
    store->host_count = n;
    return DK_OK;
}

/* A socket file, or an address of this machine. */
static bool is_local(const struct dk_pg_host *host)
{
    const char *name = host->address[0] != '\0' ? host->address : host->name;
    struct in6_addr six;
    struct in_addr four;
    if (name[0] == '\0' || name[0] == '/' || name[0] == '@' || strcmp(name, "localhost") == 0) {
        return true;
    }
    return (inet_pton(AF_INET, name, &four) == 1 && (ntohl(four.s_addr) >> 24) == 127) ||
           (inet_pton(AF_INET6, name, &six) == 1 && IN6_IS_ADDR_LOOPBACK(&six));
}

/* Off this machine the server has to prove its name, unless somebody said sslmode. */
static bool set_tls(struct dk_pg *store, bool said)
{
    bool local = true;
    const char *home = getenv("HOME");
    char own[DK_PATH_MAX];
    for (size_t i = 0; i < store->host_count; i++) {
        local = local && is_local(&store->hosts[i]);
    }
    if (local) {
        return true;
    }
    if (!said && !replace(store, "sslmode", "verify-full")) {
        return false;
    }
    snprintf(own, sizeof own, "%s/.postgresql/root.crt", home != NULL ? home : "");
    for (size_t i = 0; i < sizeof bundles / sizeof bundles[0] && !dk_file_exists(own); i++) {
        if (dk_file_exists(bundles[i])) {
            return set_default(store, "sslrootcert", bundles[i]);
        }
    }
    return true;
}

static void name_server(struct dk_pg *store, const struct dk_pg_host *host,
                        char out[static sizeof store->where])
{
    snprintf(out, sizeof store->where, "%.60s:%.5s/%.50s",
             host->name[0] != '\0' ? host->name : host->address, host->port,
             value_of(store, "dbname"));
}

/*
 * `tls`, `attrs`: somebody said sslmode, target_session_attrs. Keepalives: a migration has no
 * deadline, and its server may be gone.
 */
static dk_rc take_options(struct dk_pg *store, bool tls, bool attrs, struct dk_err *err)
{
    DK_TRY(take_hosts(store, err));
    bool writer = store->host_count > 1 && !attrs;
    if (!set_tls(store, tls) || !set_default(store, "application_name", "dekhand") ||
        (writer && !replace(store, "target_session_attrs", "read-write")) ||
        !replace(store, "client_encoding", "UTF8") || !replace(store, "gssencmode", "disable") ||
        !set_default(store, "tcp_user_timeout", "10000") ||
        !set_default(store, "keepalives_idle", "30") ||
        !set_default(store, "keepalives_interval", "10") ||
        !set_default(store, "keepalives_count", "3")) {
        return DK_FAIL(err, NOMEM, "no memory for the database's address");
    }
    name_server(store, &store->hosts[0], store->where);
    return DK_OK;
}

static bool is_in_url(const PQconninfoOption *said, const char *keyword)
{
    for (; said->keyword != NULL; said++) {
        if (strcmp(said->keyword, keyword) == 0 && said->val != NULL) {
            return true;
        }
    }
    return false;
}

static bool is_said(const PQconninfoOption *said, const char *keyword, const char *environment)
{
    return is_in_url(said, keyword) || getenv(environment) != NULL;
}

/* The environment's PG* names fill what the URL leaves out, as in every program of libpq. */
static dk_rc merge(struct dk_pg *store, PQconninfoOption *said, struct dk_err *err)
{
    bool tls = is_said(said, "sslmode", "PGSSLMODE");
    bool attrs = is_said(said, "target_session_attrs", "PGTARGETSESSIONATTRS");
    store->options = PQconndefaults();
    if (store->options == NULL) {
        return DK_FAIL(err, NOMEM, "no memory for the database's address");
    }
    if (is_in_url(said,
                  "service")) { /* its host is known to libpq alone: is it off this machine? */
        return bad_url("service= is not read: name the host", err);
    }
    for (PQconninfoOption *o = said; o->keyword != NULL; o++) {
        char **val = option(store, o->keyword);
        if (o->val != NULL && val != NULL) {
            free(*val);
            *val = o->val;
            o->val = NULL;
        }
    }
    return take_options(store, tls, attrs, err);
}

dk_rc dk_pg_parse(struct dk_pg *store, const char *url, struct dk_err *err)
{
    char *why = NULL;
    char *copy = strdup(url);
    if (copy == NULL) {
        return DK_FAIL(err, NOMEM, "no memory for the database's address");
    }
    dk_rc rc = check_user(copy, err);
    rc = rc == DK_OK ? take_schema(store, copy, err) : rc;
    size_t n = strlen(copy);
    if (rc == DK_OK && n > 0 && (copy[n - 1] == '?' || copy[n - 1] == '&')) {
        copy[n - 1] = '\0';
    }
    PQconninfoOption *said = rc == DK_OK ? PQconninfoParse(copy, &why) : NULL;
    if (rc == DK_OK && said == NULL) {
        rc = bad_url("it is no address of PostgreSQL", err); /* why: may hold the password */
    }
    PQfreemem(why);
    free(copy);
    DK_TRY(rc);
    rc = merge(store, said, err);
    PQconninfoFree(said);
    if (rc != DK_OK) {
        dk_pg_forget_url(store);
    }
    return rc;
}

void dk_pg_forget_url(struct dk_pg *store)
{
    PQconninfoFree(store->options);
    store->options = NULL;
}

/* ---- connecting ------------------------------------------------------------------------------ */

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

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
        int64_t left = deadline - now_ms();
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
    {"does not exist", DK_E_CONFIG, ""},
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
    name_server(store, host, where);
    dk_rc rc = connect_failed(where, pg, now_ms() >= deadline, err);
    PQfinish(pg);
    return rc;
}

dk_rc dk_pg_connect(struct dk_pg *store, PGconn **out, struct dk_err *err)
{
    size_t n = store->host_count;
    unsigned first = atomic_load(&store->first_host);
    int64_t start = now_ms(), each = DK_PG_DEADLINE_MS / (int64_t)n;
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
    if (now_ms() - start >= DK_PG_DEADLINE_MS) {
        atomic_store(&store->silent_ms, now_ms() + SILENT_MS);
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
    if (now_ms() - conn->idle_since_ms < IDLE_MS) {
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
    dk_rc rc = conn->pg == NULL ? dk_pg_connect(store, &conn->pg, err) : DK_OK;
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
    conn->idle_since_ms = now_ms();
    pthread_mutex_lock(&store->lock);
    conn->taken = false;
    pthread_cond_broadcast(&store->given_back); /* not everybody may take one of the reserve */
    pthread_mutex_unlock(&store->lock);
}

/* After a restart, a failover, or a firewall's silence, one timeout is enough: not one for each. */
void dk_pg_lose(struct dk_pg *store, struct dk_pg_conn *conn)
{
    close_one(conn);
    atomic_store(&store->lost_ms, now_ms());
}

/* A goodbye on a socket that the parent has too would end the parent's session. */
static void drop(struct dk_pg_conn *conn, int nowhere)
{
    if (conn->pg != NULL && !conn->taken && nowhere >= 0 && PQsocket(conn->pg) >= 0) {
        (void)dup2(nowhere, PQsocket(conn->pg));
        PQfinish(conn->pg);
    } else if (conn->pg != NULL && PQsocket(conn->pg) >= 0) {
        close(PQsocket(conn->pg)); /* a thread of the parent was in the middle of it */
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
