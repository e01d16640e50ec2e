/*
 * pg_stmt: statements of one transaction: what they are given, and rows read with suspicion.
 *
 * What dekhand cannot have written (a wrong type, a text too long) is E_TAMPERED. One thread,
 * inside one transaction.
 */
#ifndef DK_STORE_PG_STMT_H
#define DK_STORE_PG_STMT_H

#include "store/pg_conn.h"

struct dk_pg_txn {
    struct dk_pg *store;
    struct dk_pg_conn *conn;
    enum dk_txn_mode mode;
    int wait_ms; /* for one answer; 0 = as for any */
    bool failed; /* a statement failed: only rollback is left */
    bool gone;   /* nobody knows what the server did: the connection is not used again */
    char scope[DK_TENANT_MAX + 1]; /* whose rows are seen now; "" = all */
    char xid[24];                  /* of a transaction that may write; "" = none */
    char place[80];                /* timeline and start of the server */
    PGresult *news; /* what dk_pg_changes() has read beside; NULL = it was not called */
    struct dk_registry_row registry; /* as it was at the start; its lock is held */
    dk_rc registry_rc;               /* DK_OK, E_NOT_FOUND, E_TAMPERED */
    int64_t clears;                  /* of that row */
};

/* ---- parameters, in order; values are lent until the statement was sent ---------------------- */

void dk_pg_str(struct dk_pg_params *p, const char *s);
void dk_pg_str_or_null(struct dk_pg_params *p, const char *s); /* "" = NULL */
void dk_pg_uuid(struct dk_pg_params *p, const char *s);
void dk_pg_int(struct dk_pg_params *p, int64_t v);
void dk_pg_int_or_null(struct dk_pg_params *p, int64_t v); /* 0 = NULL */
void dk_pg_bool(struct dk_pg_params *p, bool v);
void dk_pg_time(struct dk_pg_params *p, int64_t us); /* DK_TIME_NONE = NULL */
void dk_pg_bytes(struct dk_pg_params *p, const uint8_t *b, size_t n);

/*
 * An array of one dimension, for unnest(): begun for `count` members, then one add for each. Memory
 * of the world's, until it is freed; `failed`: there was none.
 */
struct dk_pg_array {
    const struct dk_mem *mem;
    Oid type; /* of the array */
    uint8_t *bytes;
    size_t n, cap;
    bool failed;
};
enum dk_pg_member { DK_PG_TEXTS, DK_PG_INTS, DK_PG_TIMES, DK_PG_BYTEAS };
void dk_pg_array_begin(struct dk_pg_array *array, const struct dk_mem *mem, enum dk_pg_member of,
                       size_t count);
void dk_pg_array_str(struct dk_pg_array *array, const char *s);
void dk_pg_array_str_or_null(struct dk_pg_array *array, const char *s); /* "" = NULL */
void dk_pg_array_int(struct dk_pg_array *array, int64_t v);
void dk_pg_array_time(struct dk_pg_array *array, int64_t us);
void dk_pg_array_bytes(struct dk_pg_array *array, const uint8_t *b, size_t n);
void dk_pg_array_free(struct dk_pg_array *array);
void dk_pg_array(struct dk_pg_params *p, const struct dk_pg_array *array);

/* ---- one statement --------------------------------------------------------------------------- */

/*
 * Runs it over the rows of `scope`: a tenant's id, or NULL = all. *out is the caller's, PQclear.
 * After an error only rollback is allowed.
 */
DK_MUST_USE dk_rc dk_pg_ask(struct dk_pg_txn *txn, const char *scope, const char *sql,
                            const struct dk_pg_params *params, const char *what, PGresult **out,
                            struct dk_err *err);
/* The same where no row is wanted; *changed (may be NULL): exactly one row was touched. */
DK_MUST_USE dk_rc dk_pg_do(struct dk_pg_txn *txn, const char *scope, const char *sql,
                           const struct dk_pg_params *params, const char *what, bool *changed,
                           struct dk_err *err);
/* The one row. E_NOT_FOUND: none; then *out is NULL. */
DK_MUST_USE dk_rc dk_pg_one(struct dk_pg_txn *txn, const char *scope, const char *sql,
                            const struct dk_pg_params *params, const char *table, PGresult **out,
                            struct dk_err *err);
/* Any in one message, over all rows; the results are the caller's. */
DK_MUST_USE dk_rc dk_pg_ask_all(struct dk_pg_txn *txn, struct dk_pg_call *calls, size_t count,
                                struct dk_err *err);
/* Any number, over all rows: fills how long it waits, and that it streams. */
DK_MUST_USE dk_rc dk_pg_feed(struct dk_pg_txn *txn, struct dk_pg_feed *feed, struct dk_err *err);
int64_t dk_pg_touched(const PGresult *result);
DK_MUST_USE dk_rc dk_pg_tampered(const char *table, struct dk_err *err);

/* ---- columns of row `i`; false: not what dekhand writes -------------------------------------- */

bool dk_pg_get_str(const PGresult *r, int i, int c, char *out, size_t cap);      /* NULL = "" */
bool dk_pg_get_nullable(const PGresult *r, int i, int c, char *out, size_t cap); /* never '' */
bool dk_pg_get_uuid(const PGresult *r, int i, int c, char out[static DK_UUID_TEXT]);
bool dk_pg_get_int(const PGresult *r, int i, int c, int64_t min, int64_t max, int64_t *out);
bool dk_pg_get_bool(const PGresult *r, int i, int c, bool *out);
bool dk_pg_get_version(const PGresult *r, int i, int c, uint32_t *out);
bool dk_pg_get_version_or_null(const PGresult *r, int i, int c, uint32_t *out); /* NULL = 0 */
bool dk_pg_get_time(const PGresult *r, int i, int c, bool nullable, int64_t *out);
bool dk_pg_get_bytes(const PGresult *r, int i, int c, uint8_t *out, size_t n);
bool dk_pg_get_tenant(const PGresult *r, int i, int c, struct dk_tenant *out);
/* provider, kms_key_id, encrypted_data_key, context_timestamp from column c on. */
bool dk_pg_get_wrap(const PGresult *r, int i, int c, struct dk_wrap_columns *out);
/* A text of any length, lent until the result goes; NULL = "". */
bool dk_pg_lend_str(const PGresult *r, int i, int c, const char **out);

#endif
