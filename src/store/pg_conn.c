/* Statements on one connection: sent together, waited for with a deadline, errors told as ours. */
#include "store/pg_conn.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

/* ---- errors ---------------------------------------------------------------------------------- */

/* By SQLSTATE, a class or a whole one; the first that fits. */
static const struct {
    const char *state;
    dk_rc rc;
    const char *text;
} states[] = {
    {"08", DK_E_UNREACHABLE, "the connection was lost"},
    {"57P", DK_E_UNREACHABLE, "the server is stopping or starting"},
    {"57014", DK_E_BUSY, "it took longer than it may"},
    {"40", DK_E_BUSY, "another transaction was in the way"},
    {"55P03", DK_E_BUSY, "another transaction holds the lock"},
    {"25P03", DK_E_BUSY, "the transaction was idle for too long"},
    {"53300", DK_E_BUSY, "the server has no connection left"},
    {"53100", DK_E_STORE, "the server's disk is full"},
    {"53", DK_E_STORE, "the server is short of something"},
    {"0A000", DK_E_READ_ONLY, "the server takes no writes: it is a standby"},
    {"25006", DK_E_READ_ONLY, "the server takes no writes: it is a standby, or set read-only"},
    {"42501", DK_E_CONFIG,
     "the login may not do this: run `dekhand migrate`, and make the login a "
     "member of dekhand_rw"},
    {"22023", DK_E_CONFIG, "a role or setting is missing: run `dekhand migrate`"},
    {"42P01", DK_E_CONFIG, "there is no registry here: run `dekhand init`"},
    {"3F000", DK_E_CONFIG, "there is no registry here: run `dekhand init`"},
    {"42", DK_E_SCHEMA, "the schema is not the one of this program"},
    {"28", DK_E_CONFIG, "the server refuses the login"},
    {"3D000", DK_E_CONFIG, "there is no such database"},
    {"XX", DK_E_STORE, "the server failed, or its data are damaged"},
};

/* The first line of what the server or libpq says, without the blanks at its end. */
static int first_line(const char *text)
{
    size_t n = strcspn(text, "\n");
    while (n > 0 && text[n - 1] == ' ') {
        n--;
    }
    return n > 200 ? 200 : (int)n;
}

static long number_of(const char *state)
{
    long number = 0;
    for (const char *p = state; *p != '\0'; p++) {
        number = number * 36 + (*p <= '9' ? *p - '0' : *p - 'A' + 10);
    }
    return number;
}

bool dk_pg_failed_by(const struct dk_err *err, const char *state)
{
    return err->backend == number_of(state);
}

dk_rc dk_pg_fail(PGconn *pg, const PGresult *result, const char *what, struct dk_err *err)
{
    const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    const char *text = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
    if (state == NULL || text == NULL) {
        const char *said = PQerrorMessage(pg);
        return DK_FAIL(err, UNREACHABLE, "%s: the connection was lost: %.*s", what,
                       first_line(said), said);
    }
    for (size_t i = 0; i < sizeof states / sizeof states[0]; i++) {
        if (strncmp(state, states[i].state, strlen(states[i].state)) == 0) {
            return dk_err_set_backend(err, states[i].rc, number_of(state), __FILE__, __LINE__,
                                      "%s: %s (%s: %.*s)", what, states[i].text, state,
                                      first_line(text), text);
        }
    }
    return DK_FAIL_BACKEND(err, STORE, number_of(state), "%s failed: %.*s (%s)", what,
                           first_line(text), text, state);
}

/* ---- waiting --------------------------------------------------------------------------------- */

int64_t dk_pg_now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/*
 * Until there is something to read, or (`sends`) all is out: nothing may come before it is. What is
 * to be sent goes out meanwhile, and what comes is kept. -1 = for ever.
 */
static dk_rc wait_on(PGconn *pg, bool sends, int64_t deadline, const char *what, struct dk_err *err)
{
    int unsent = PQflush(pg);
    struct pollfd fd = {.fd = PQsocket(pg), .events = POLLIN};
    int64_t left = deadline - dk_pg_now_ms();
    if (unsent < 0) {
        return dk_pg_fail(pg, NULL, what, err);
    }
    if (sends && unsent == 0) {
        return DK_OK;
    }
    fd.events = (short)(POLLIN | (unsent > 0 ? POLLOUT : 0));
    if (deadline >= 0 && left <= 0) {
        return DK_FAIL(err, UNREACHABLE, "%s: the server gave no answer in time", what);
    }
    int n = poll(&fd, 1, deadline < 0 ? -1 : (int)left);
    if (n < 0 && errno != EINTR) {
        return DK_FAIL_BACKEND(err, STORE, errno, "%s: poll: %s", what, strerror(errno));
    }
    if (n > 0 && (fd.revents & ~POLLOUT) != 0 && PQconsumeInput(pg) == 0) {
        return dk_pg_fail(pg, NULL, what, err);
    }
    return DK_OK;
}

static dk_rc next_result(PGconn *pg, int64_t deadline, const char *what, PGresult **out,
                         struct dk_err *err)
{
    while (PQisBusy(pg)) {
        DK_TRY(wait_on(pg, false, deadline, what, err));
    }
    *out = PQgetResult(pg);
    return DK_OK;
}

/* ---- several statements ---------------------------------------------------------------------- */

static bool open_pipeline(PGconn *pg)
{
    return PQsetnonblocking(pg, 1) == 0 && PQenterPipelineMode(pg) == 1;
}

static bool send_one(PGconn *pg, const struct dk_pg_call *call)
{
    static const struct dk_pg_params none;
    const struct dk_pg_params *p = call->params != NULL ? call->params : &none;
    return PQsendQueryParams(pg, call->sql, p->n, p->type, p->value, p->length, p->format, 1) == 1;
}

static dk_rc flush(PGconn *pg, int wait_ms, const char *what, struct dk_err *err)
{
    int64_t deadline = dk_pg_now_ms() + wait_ms;
    int unsent;
    while ((unsent = PQflush(pg)) > 0) {
        DK_TRY(wait_on(pg, true, deadline, what, err));
    }
    return unsent == 0 ? DK_OK : dk_pg_fail(pg, NULL, what, err);
}

static bool is_good(const PGresult *result)
{
    ExecStatusType status = PQresultStatus(result);
    return status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK;
}

/* Each statement gives one result and a NULL. */
static dk_rc take_one(PGconn *pg, int64_t deadline, const char *what, PGresult **out,
                      struct dk_err *err)
{
    PGresult *result = NULL, *null = NULL;
    DK_TRY(next_result(pg, deadline, what, &result, err));
    dk_rc rc = result == NULL || PQstatus(pg) != CONNECTION_OK
                   ? dk_pg_fail(pg, result, what, err)
                   : next_result(pg, deadline, what, &null, err);
    PQclear(null);
    if (rc != DK_OK) {
        PQclear(result);
        return rc;
    }
    *out = result;
    return DK_OK;
}

static dk_rc close_pipeline(PGconn *pg, int64_t deadline, struct dk_err *err)
{
    PGresult *end = NULL;
    DK_TRY(next_result(pg, deadline, "ending a pipeline", &end, err));
    bool in_step = PQresultStatus(end) == PGRES_PIPELINE_SYNC && PQexitPipelineMode(pg) == 1;
    PQclear(end);
    return in_step ? DK_OK : dk_pg_fail(pg, NULL, "ending a pipeline", err);
}

/* *sent: how many; what `make` refuses is told in `first`, and nothing after it is sent. */
static dk_rc send_all(PGconn *pg, const struct dk_pg_feed *feed, size_t *sent, struct dk_err *first,
                      struct dk_err *err)
{
    if (!open_pipeline(pg)) {
        return dk_pg_fail(pg, NULL, feed->what, err);
    }
    for (*sent = 0; *sent < feed->count; ++*sent) {
        struct dk_pg_call call = {.sql = NULL};
        if (feed->make(feed->arg, *sent, &call, first) != DK_OK) {
            break;
        }
        if (!send_one(pg, &call)) {
            return dk_pg_fail(pg, NULL, feed->what, err);
        }
        if (feed->streams) {
            DK_TRY(flush(pg, feed->wait_ms, feed->what, err));
        }
    }
    return PQpipelineSync(pg) == 1 ? DK_OK : dk_pg_fail(pg, NULL, feed->what, err);
}

/* The first that failed is told; what was answered after it is dropped. */
static dk_rc take_all(PGconn *pg, const struct dk_pg_feed *feed, size_t sent, struct dk_err *first,
                      struct dk_err *err)
{
    int64_t deadline = dk_pg_now_ms() + feed->wait_ms;
    for (size_t k = 0; k < sent; k++) {
        PGresult *result = NULL;
        DK_TRY(take_one(pg, deadline, feed->what, &result, err));
        if (first->rc == DK_OK && is_good(result)) {
            dk_rc eaten = feed->eat(feed->arg, k, result, first);
            (void)eaten; /* it is in `first` */
        } else {
            dk_rc told = first->rc == DK_OK ? dk_pg_fail(pg, result, feed->what, first) : first->rc;
            (void)told;
            PQclear(result);
        }
        deadline = feed->streams ? dk_pg_now_ms() + feed->wait_ms : deadline;
    }
    return close_pipeline(pg, deadline, err);
}

dk_rc dk_pg_stream(PGconn *pg, const struct dk_pg_feed *feed, bool *lost, struct dk_err *err)
{
    struct dk_err cause, first;
    size_t sent = 0;
    dk_err_clear(&cause);
    dk_err_clear(&first);
    *lost = true;
    dk_rc rc = send_all(pg, feed, &sent, &first, &cause);
    rc = rc == DK_OK ? take_all(pg, feed, sent, &first, &cause) : rc;
    if (rc != DK_OK) {
        *err = cause;
        return rc;
    }
    *lost = false;
    if (first.rc != DK_OK) {
        *err = first;
    }
    return first.rc;
}

static dk_rc next_call(void *arg, size_t k, struct dk_pg_call *call, struct dk_err *err)
{
    const struct dk_pg_call *calls = arg;
    (void)err;
    *call = calls[k];
    return DK_OK;
}

static dk_rc keep_result(void *arg, size_t k, PGresult *result, struct dk_err *err)
{
    struct dk_pg_call *calls = arg;
    (void)err;
    calls[k].result = result;
    return DK_OK;
}

dk_rc dk_pg_run(PGconn *pg, struct dk_pg_call *calls, size_t count, bool *lost, struct dk_err *err)
{
    struct dk_pg_feed feed = {.count = count,
                              .what = calls[0].what,
                              .wait_ms = DK_PG_DEADLINE_MS,
                              .make = next_call,
                              .eat = keep_result,
                              .arg = calls};
    for (size_t i = 0; i < count; i++) {
        calls[i].result = NULL;
        feed.wait_ms = calls[i].wait_ms > feed.wait_ms ? calls[i].wait_ms : feed.wait_ms;
    }
    dk_rc rc = dk_pg_stream(pg, &feed, lost, err);
    for (size_t i = 0; i < count && rc != DK_OK; i++) {
        PQclear(calls[i].result);
        calls[i].result = NULL;
    }
    return rc;
}

dk_rc dk_pg_script(PGconn *pg, const char *sql, const char *what, struct dk_err *err)
{
    struct dk_err cause;
    PGresult *result = NULL;
    dk_err_clear(&cause);
    if (PQsetnonblocking(pg, 1) != 0 || PQsendQuery(pg, sql) != 1) {
        return dk_pg_fail(pg, NULL, what, err);
    }
    do {
        PQclear(result);
        DK_TRY(next_result(pg, -1, what, &result, err));
        if (result != NULL && !is_good(result) && cause.rc == DK_OK) {
            dk_rc ignored = dk_pg_fail(pg, result, what, &cause);
            (void)ignored;
        }
    } while (result != NULL && PQstatus(pg) == CONNECTION_OK);
    PQclear(result);
    if (cause.rc != DK_OK) {
        *err = cause;
    }
    return cause.rc;
}
