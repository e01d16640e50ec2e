/*
 * pg_doctor: what is well and what is not about a server of PostgreSQL and the way to it.
 *
 * For the store's `circumstances` alone. Reads the server's catalogue and settings, as the login
 * that dekhand has, in no transaction of dekhand's. One thread.
 */
#ifndef DK_STORE_PG_DOCTOR_H
#define DK_STORE_PG_DOCTOR_H

#include "store/pg_txn.h"

struct dk_pg_exam {
    struct dk_pg *store;
    PGconn *pg;
    void (*each)(void *arg, const struct dk_store_note *note);
    void *arg;
    dk_rc rc; /* the connection was lost: nothing more can be asked */
    struct dk_err *err;
    bool pooled; /* a pooler is in front */
};

DK_PRINTF(5, 6)
void dk_pg_note(struct dk_pg_exam *exam, enum dk_store_level level, const char *name,
                const char *fix, const char *format, ...);
/*
 * Asks with the schema's name as $1, if `schema`. False: there is no answer, which was told as a
 * note of that name. *out is the caller's, PQclear.
 */
bool dk_pg_inquire(struct dk_pg_exam *exam, const char *name, const char *sql, bool schema,
                   PGresult **out);
/* The answer has columns of another kind: no server that we know. */
void dk_pg_odd(struct dk_pg_exam *exam, const char *name);

/* What is to be said of a way that ends `local`, on this machine, with or without TLS. */
enum dk_store_level dk_pg_tls_level(bool local, bool tls, const char *sslmode);
/* Of a server's number (150005 = 15.5) on that day; *end = the last day of the major, 0 = unknown.
 */
enum dk_store_level dk_pg_version_level(int version, int64_t now_us, int64_t *end);

/* Who may read and write what (pg_doctor_rights.c). */
void dk_pg_look_at_rights(struct dk_pg_exam *exam);
/* What survives what, and for how long it goes on like this (pg_doctor_server.c). */
void dk_pg_look_at_server(struct dk_pg_exam *exam);

#endif
