#include "support/pg.h"

#include <fcntl.h>
#include <libpq-fe.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

_Noreturn static void give_up(const char *what, const char *why)
{
    fprintf(stderr, "PostgreSQL for the tests: %s: %s\n", what, why);
    abort();
}

/* ---- the server ------------------------------------------------------------------------------ */

static char server[DK_PG_URL];
static char bouncer[32]; /* its address; "" = there is none */
static pid_t keeper;     /* runs tests/servers.py, which stops the server when `hold` closes */
static pid_t owner;
static int hold = -1;

/* A child of a fork must not keep the server alive. */
static void let_go(void)
{
    if (hold >= 0) {
        close(hold);
        hold = -1;
    }
}

static void stop_server(void)
{
    if (getpid() == owner) {
        let_go();
        waitpid(keeper, NULL, 0);
    }
}

static void become_keeper(const int in[2], const int out[2])
{
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    dup2(in[0], STDIN_FILENO);
    dup2(out[1], STDOUT_FILENO);
    for (int fd = STDERR_FILENO + 1; fd < 1024; fd++) {
        close(fd); /* who reads a pipe of ours to its end would wait for the keeper */
    }
    execlp("python3", "python3", "tests/servers.py", (char *)NULL);
    perror("python3");
    _exit(127);
}

static void start_server(void)
{
    int in[2];
    int out[2];
    if (pipe2(in, O_CLOEXEC) != 0 || pipe2(out, O_CLOEXEC) != 0) {
        give_up("start", "no pipe");
    }
    keeper = fork();
    if (keeper == 0) {
        become_keeper(in, out);
    }
    close(in[0]);
    close(out[1]);
    hold = in[1];
    owner = getpid();
    FILE *told = fdopen(out[0], "r");
    if (keeper < 0 || told == NULL || fgets(server, sizeof server, told) == NULL ||
        fgets(bouncer, sizeof bouncer, told) == NULL) {
        give_up("start", "tests/servers.py says why (or was not found)");
    }
    fclose(told);
    server[strcspn(server, "\n")] = '\0';
    bouncer[strcspn(bouncer, "\n")] = '\0';
    if (atexit(stop_server) != 0 || pthread_atfork(NULL, NULL, let_go) != 0) {
        give_up("start", "no exit handler");
    }
}

static bool is_given(const char *name, char *out, size_t size)
{
    const char *given = getenv(name);
    if (given == NULL || given[0] == '\0') {
        return false;
    }
    if ((size_t)snprintf(out, size, "%s", given) >= size) {
        give_up(name, "too long");
    }
    return true;
}

static void find_server(void)
{
    if (!is_given("DEKHAND_TEST_PG", server, sizeof server)) {
        start_server();
    } else {
        is_given("DEKHAND_TEST_BOUNCER", bouncer, sizeof bouncer);
    }
}

const char *dk_pg_server(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, find_server);
    return server;
}

/* ---- SQL ------------------------------------------------------------------------------------- */

static PGconn *connect_to(const char *url)
{
    const char *const names[] = {"dbname", "connect_timeout", "gssencmode", NULL};
    const char *const values[] = {url, "20", "disable", NULL};
    PGconn *conn = PQconnectdbParams(names, values, 1);
    if (conn == NULL) {
        give_up(url, "no memory");
    }
    return conn;
}

static bool is_good(const PGresult *result)
{
    ExecStatusType status = PQresultStatus(result);
    return status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK || status == PGRES_EMPTY_QUERY;
}

/* PQexec() would tell the last error: of a connection that is cut, not why. */
bool dk_pg_sql(const char *url, const char *sql, char state[static 6])
{
    PGconn *conn = connect_to(url);
    bool good = PQsendQuery(conn, sql) == 1;
    snprintf(state, 6, good ? "00000" : "08006");
    for (PGresult *result = NULL; (result = PQgetResult(conn)) != NULL; PQclear(result)) {
        if (good && !is_good(result)) {
            const char *found = PQresultErrorField(result, PG_DIAG_SQLSTATE);
            snprintf(state, 6, "%.5s", found != NULL ? found : "08006");
            good = false;
        }
    }
    PQfinish(conn);
    return good;
}

char *dk_pg_text(const char *url, const char *sql)
{
    PGconn *conn = connect_to(url);
    PGresult *result = PQexec(conn, sql);
    if (!is_good(result)) {
        give_up(sql, PQerrorMessage(conn));
    }
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    if (out == NULL) {
        give_up(sql, "no memory");
    }
    int columns = PQnfields(result);
    for (int row = 0; row < PQntuples(result); row++) {
        for (int column = 0; column < columns; column++) {
            fprintf(out, "%s%s", column > 0 ? "|" : "", PQgetvalue(result, row, column));
        }
        fputc('\n', out);
    }
    if (fclose(out) != 0) {
        give_up(sql, "no memory");
    }
    PQclear(result);
    PQfinish(conn);
    return text;
}

int64_t dk_pg_number(const char *url, const char *sql)
{
    char *text = dk_pg_text(url, sql);
    char *end = NULL;
    int64_t number = strtoll(text, &end, 10);
    if (end == text || strchr("|\n", *end) == NULL) {
        give_up(sql, "not a number");
    }
    free(text);
    return number;
}

/* ---- databases ------------------------------------------------------------------------------- */

/* The database's name stands between these two in a URL: postgresql://user@host:port/name?.. */
static const char *name_begins(const char *url)
{
    const char *host = strstr(url, "://");
    const char *slash = host != NULL ? strchr(host + 3, '/') : NULL;
    if (slash == NULL) {
        give_up(url, "names no database");
    }
    return slash + 1;
}

static const char *name_ends(const char *url)
{
    const char *begins = name_begins(url);
    return begins + strcspn(begins, "?");
}

static int name_length(const char *url)
{
    return (int)(name_ends(url) - name_begins(url));
}

static void must(const char *sql)
{
    char state[6];
    if (!dk_pg_sql(dk_pg_server(), sql, state)) {
        give_up(sql, state);
    }
}

/* No two processes have the same number at the same time, and no number twice within a second. */
static void url_of_new(char url[static DK_PG_URL])
{
    static atomic_uint made;
    const char *all = dk_pg_server();
    int n =
        snprintf(url, DK_PG_URL, "%.*sc_%d_%lld_%u%s", (int)(name_begins(all) - all), all,
                 (int)getpid(), (long long)time(NULL), atomic_fetch_add(&made, 1), name_ends(all));
    if (n >= DK_PG_URL) {
        give_up(all, "too long");
    }
}

static char how_to_copy[32];

/* Through the log, as version 15 does it unasked, takes four times as long. */
static void find_how_to_copy(void)
{
    if (dk_pg_number(dk_pg_server(), "SHOW server_version_num") >= 150000) {
        snprintf(how_to_copy, sizeof how_to_copy, "STRATEGY file_copy");
    }
}

static void make_database(const char *url, int from_n, const char *from)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    char sql[256];
    pthread_once(&once, find_how_to_copy);
    snprintf(sql, sizeof sql, "CREATE DATABASE %.*s TEMPLATE %.*s %s", name_length(url),
             name_begins(url), from_n, from, how_to_copy);
    must(sql);
}

void dk_pg_database_new(char url[static DK_PG_URL])
{
    static const char nobody_is_connected_to[] = "template0";
    url_of_new(url);
    make_database(url, (int)strlen(nobody_is_connected_to), nobody_is_connected_to);
}

static void send_away(const char *url)
{
    char sql[256];
    snprintf(sql, sizeof sql,
             "SELECT pg_terminate_backend(pid, 20000) FROM pg_stat_activity WHERE datname = '%.*s'",
             name_length(url), name_begins(url));
    must(sql);
}

void dk_pg_database_copy(const char *url, char out[static DK_PG_URL])
{
    url_of_new(out);
    send_away(url);
    make_database(out, name_length(url), name_begins(url));
}

void dk_pg_database_replace(const char *url, const char *from)
{
    dk_pg_database_drop(url);
    send_away(from);
    make_database(url, name_length(from), name_begins(from));
}

void dk_pg_database_rename(const char *url, char out[static DK_PG_URL])
{
    url_of_new(out);
    dk_pg_database_rename_to(url, out);
}

void dk_pg_database_rename_to(const char *url, const char *name_of)
{
    char sql[256];
    send_away(url);
    snprintf(sql, sizeof sql, "ALTER DATABASE %.*s RENAME TO %.*s", name_length(url),
             name_begins(url), name_length(name_of), name_begins(name_of));
    must(sql);
}

void dk_pg_database_drop(const char *url)
{
    char sql[128];
    snprintf(sql, sizeof sql, "DROP DATABASE IF EXISTS %.*s WITH (FORCE)", name_length(url),
             name_begins(url));
    must(sql);
}

void dk_pg_pooled(const char *url, char out[static DK_PG_URL])
{
    const char *host = strchr(url, '@');
    (void)dk_pg_server();
    if (bouncer[0] == '\0') {
        give_up("PgBouncer", "DEKHAND_TEST_PG is given and DEKHAND_TEST_BOUNCER is not");
    }
    if (host == NULL || snprintf(out, DK_PG_URL, "%.*s@%s/%s", (int)(host - url), url, bouncer,
                                 name_begins(url)) >= DK_PG_URL) {
        give_up(url, "too long, or names no user");
    }
}
