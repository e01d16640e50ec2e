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

/* Until there is something to read; what is to be sent goes out meanwhile. -1 = for ever. */
static dk_rc wait_for_input(PGconn *pg, int64_t deadline, const char *what, struct dk_err *err)
{
    int unsent = PQflush(pg);
    struct pollfd fd = {.fd = PQsocket(pg), .events = POLLIN};
    int64_t left = deadline - dk_pg_now_ms();
    if (unsent < 0) {
        return dk_pg_fail(pg, NULL, what, err);
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
        DK_TRY(wait_for_input(pg, deadline, what, err));
    }
    *out = PQgetResult(pg);
    return DK_OK;
}

/* ---- several statements ---------------------------------------------------------------------- */

static bool send_all(PGconn *pg, const struct dk_pg_call *calls, size_t count)
{
    static const struct dk_pg_params none;
    bool sent = PQsetnonblocking(pg, 1) == 0 && PQenterPipelineMode(pg) == 1;
    for (size_t i = 0; i < count && sent; i++) {
        const struct dk_pg_params *p = calls[i].params != NULL ? calls[i].params : &none;
        sent = PQsendQueryParams(pg, calls[i].sql, p->n, p->type, p->value, p->length, p->format,
                                 1) == 1;
    }
    return sent && PQpipelineSync(pg) == 1;
}

static bool is_good(const PGresult *result)
{
    ExecStatusType status = PQresultStatus(result);
    return status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK;
}

/* Each statement gives one result and a NULL; the first that failed is told. */
static dk_rc receive_all(PGconn *pg, struct dk_pg_call *calls, size_t count, int64_t deadline,
                         bool *lost, struct dk_err *err)
{
    struct dk_err first;
    PGresult *end = NULL;
    dk_err_clear(&first);
    for (size_t i = 0; i < count; i++) {
        PGresult *null = NULL;
        DK_TRY(next_result(pg, deadline, calls[i].what, &calls[i].result, err));
        if (calls[i].result == NULL || PQstatus(pg) != CONNECTION_OK) {
            return dk_pg_fail(pg, calls[i].result, calls[i].what, err);
        }
        DK_TRY(next_result(pg, deadline, calls[i].what, &null, err));
        PQclear(null);
        if (!is_good(calls[i].result) && first.rc == DK_OK) {
            dk_rc ignored = dk_pg_fail(pg, calls[i].result, calls[i].what, &first);
            (void)ignored;
        }
    }
    DK_TRY(next_result(pg, deadline, "ending a pipeline", &end, err));
    bool in_step = PQresultStatus(end) == PGRES_PIPELINE_SYNC && PQexitPipelineMode(pg) == 1;
    PQclear(end);
    if (!in_step) {
        return dk_pg_fail(pg, NULL, "ending a pipeline", err);
    }
    *lost = false;
    if (first.rc != DK_OK) {
        *err = first;
    }
    return first.rc;
}

dk_rc dk_pg_run(PGconn *pg, struct dk_pg_call *calls, size_t count, bool *lost, struct dk_err *err)
{
    struct dk_err cause;
    dk_err_clear(&cause);
    *lost = true;
    int64_t wait_ms = DK_PG_DEADLINE_MS;
    for (size_t i = 0; i < count; i++) {
        calls[i].result = NULL;
        wait_ms = calls[i].wait_ms > wait_ms ? calls[i].wait_ms : wait_ms;
    }
    dk_rc rc = send_all(pg, calls, count)
                   ? receive_all(pg, calls, count, dk_pg_now_ms() + wait_ms, lost, &cause)
                   : dk_pg_fail(pg, NULL, calls[0].what, &cause);
    for (size_t i = 0; i < count && rc != DK_OK; i++) {
        PQclear(calls[i].result);
        calls[i].result = NULL;
    }
    if (rc != DK_OK) {
        *err = cause;
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
