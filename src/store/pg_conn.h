/*
 * pg_conn: connections to PostgreSQL: which, how many, how long, and what became of a statement.
 *
 * Called by the store's back end for PostgreSQL. A dk_pg may be shared by threads; a connection
 * that was taken belongs to one thread until it is given back.
 */
#ifndef DK_STORE_PG_CONN_H
#define DK_STORE_PG_CONN_H

#include <libpq-fe.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/types.h>

#include "store/store.h"

#define DK_PG_POOL 8    /* connections of a process */
#define DK_PG_RESERVE 8 /* beyond them, for a thread that has one already */
#define DK_PG_DEADLINE_MS 5000
#define DK_PG_HOSTS 8
#define DK_PG_SCHEMA_MAX 63 /* bytes of a name */
#define DK_PG_WHERE 128

struct dk_pg_conn {
    PGconn *pg; /* NULL: none is open here */
    bool taken;
    bool used; /* before it was taken: it may have died meanwhile */
    int64_t idle_since_ms;
    ino_t ino; /* of its socket: a child of a fork may have closed it, and opened something else */
};

/* One server of the URL's list. */
struct dk_pg_host {
    char name[256], address[64], port[8];
};

struct dk_pg {
    const struct dk_world *world;
    PQconninfoOption *options; /* as parsed, with our defaults; hosts apart */
    struct dk_pg_host hosts[DK_PG_HOSTS];
    size_t host_count;
    atomic_uint first_host; /* the one that was good last */
    char schema[DK_PG_SCHEMA_MAX + 1];
    char where[DK_PG_WHERE]; /* "host:port/database", for texts; never a password */
    pid_t pid;               /* whose connections these are */
    atomic_llong silent_ms;  /* until then no server is asked again: none answered a moment ago */
    atomic_llong lost_ms; /* when one was lost last: those that were idle then are not used again */
    pthread_mutex_t lock;
    pthread_cond_t given_back;
    struct dk_pg_conn conns[DK_PG_POOL + DK_PG_RESERVE];
};

/* `url` with its scheme. E_CONFIG: it does not parse; nothing of it is in the text. */
DK_MUST_USE dk_rc dk_pg_parse(struct dk_pg *store, const char *url, struct dk_err *err);
void dk_pg_forget_url(struct dk_pg *store);
/* "host:port/database" of one of them. */
void dk_pg_name_server(struct dk_pg *store, const struct dk_pg_host *host,
                       char out[static DK_PG_WHERE]);
void dk_pg_pool_init(struct dk_pg *store);

/* A connection that was good a moment ago. E_BUSY: none became free; E_UNREACHABLE; E_CONFIG. */
DK_MUST_USE dk_rc dk_pg_take(struct dk_pg *store, struct dk_pg_conn **out, struct dk_err *err);
/* One that was in use is lost: it is closed, and those that are idle now are not trusted either. */
void dk_pg_lose(struct dk_pg *store, struct dk_pg_conn *conn);
/* A new one, not from the pool: *out is the caller's, PQfinish. */
DK_MUST_USE dk_rc dk_pg_connect(struct dk_pg *store, PGconn **out, struct dk_err *err);
/* One that is in the middle of something is closed. */
void dk_pg_give(struct dk_pg *store, struct dk_pg_conn *conn);
/* Ends those that nobody has. In a child of a fork they are the parent's: nothing is said there. */
void dk_pg_close_all(struct dk_pg *store);
/* In a child, alone. One that a thread of the parent had is closed, and its memory is left: nobody
   knows what that thread was doing to it. */
void dk_pg_after_fork(struct dk_pg *store);

/* What a statement is given. Values are lent until it was sent. */
#define DK_PG_PARAMS 32
struct dk_pg_params {
    int n;
    Oid type[DK_PG_PARAMS];
    const char *value[DK_PG_PARAMS];
    int length[DK_PG_PARAMS];
    int format[DK_PG_PARAMS];
    uint8_t number[DK_PG_PARAMS][8];
};

struct dk_pg_call {
    const char *sql;
    const struct dk_pg_params *params; /* NULL = none */
    const char *what;                  /* completes "... failed: "; of several, the first one's */
    int wait_ms;                       /* for its answer; 0 = 5 s */
    PGresult *result;                  /* out, in binary form; the caller's, PQclear */
};

/*
 * Sends all of them at once and waits for all answers, 5 s at most: real ones, whatever clock the
 * world has. On an error no result is left; *lost says whether it is known what the server did.
 */
DK_MUST_USE dk_rc dk_pg_run(PGconn *pg, struct dk_pg_call *calls, size_t count, bool *lost,
                            struct dk_err *err);
/*
 * The same of any number, each made just before it is sent, and eaten once it is answered.
 * `streams`: each goes out at once, so that the server works on it while the next is made; the
 * deadline is that of one answer.
 */
struct dk_pg_feed {
    size_t count;
    const char *what; /* completes "... failed: " */
    int wait_ms;
    bool streams;
    /* Lent until the next is made. An error ends it: nothing more is sent, and that is told. */
    dk_rc (*make)(void *arg, size_t k, struct dk_pg_call *call, struct dk_err *err);
    /* The result is eat's: PQclear. After an error nothing more is eaten, and that is told. */
    dk_rc (*eat)(void *arg, size_t k, PGresult *result, struct dk_err *err);
    void *arg;
};
DK_MUST_USE dk_rc dk_pg_stream(PGconn *pg, const struct dk_pg_feed *feed, bool *lost,
                               struct dk_err *err);

/* Several statements in one text, without parameters or results. No deadline of ours. */
DK_MUST_USE dk_rc dk_pg_script(PGconn *pg, const char *sql, const char *what, struct dk_err *err);

/* The error of a result, or of the connection (NULL), as one of ours. */
DK_MUST_USE dk_rc dk_pg_fail(PGconn *pg, const PGresult *result, const char *what,
                             struct dk_err *err);

/* Whether it is this SQLSTATE that made the error. */
bool dk_pg_failed_by(const struct dk_err *err, const char *state);

/* Real time that never goes back, for deadlines. */
int64_t dk_pg_now_ms(void);

#endif
