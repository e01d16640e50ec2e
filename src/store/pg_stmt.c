#include "store/pg_stmt.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"

#define OID_BOOL 16
#define OID_BYTEA 17
#define OID_INT8 20
#define OID_INT2 21
#define OID_INT4 23
#define OID_TEXT 25
#define OID_TIMESTAMPTZ 1184
#define OID_UUID 2950
/* PostgreSQL counts microseconds from the year 2000. */
#define EPOCH_US (INT64_C(946684800) * 1000000)

/* ---- parameters ------------------------------------------------------------------------------ */

static void add(struct dk_pg_params *p, Oid type, const void *value, int length, int format)
{
    int i = p->n++;
    p->type[i] = type;
    p->value[i] = value;
    p->length[i] = length;
    p->format[i] = format;
}

static void add_number(struct dk_pg_params *p, Oid type, int64_t v)
{
    uint8_t *b = p->number[p->n];
    for (int k = 0; k < 8; k++) {
        b[k] = (uint8_t)((uint64_t)v >> (56 - 8 * k));
    }
    add(p, type, b, 8, 1);
}

void dk_pg_str(struct dk_pg_params *p, const char *s)
{
    add(p, OID_TEXT, s, 0, 0);
}

void dk_pg_str_or_null(struct dk_pg_params *p, const char *s)
{
    dk_pg_str(p, s[0] != '\0' ? s : NULL);
}

void dk_pg_uuid(struct dk_pg_params *p, const char *s)
{
    add(p, OID_UUID, s, 0, 0);
}

void dk_pg_int(struct dk_pg_params *p, int64_t v)
{
    add_number(p, OID_INT8, v);
}

void dk_pg_int_or_null(struct dk_pg_params *p, int64_t v)
{
    if (v == 0) {
        add(p, OID_INT8, NULL, 0, 1);
    } else {
        dk_pg_int(p, v);
    }
}

void dk_pg_bool(struct dk_pg_params *p, bool v)
{
    add(p, OID_BOOL, v ? "t" : "f", 0, 0);
}

void dk_pg_time(struct dk_pg_params *p, int64_t us)
{
    if (us == DK_TIME_NONE) {
        add(p, OID_TIMESTAMPTZ, NULL, 0, 1);
    } else {
        add_number(p, OID_TIMESTAMPTZ, us - EPOCH_US);
    }
}

void dk_pg_bytes(struct dk_pg_params *p, const uint8_t *b, size_t n)
{
    add(p, OID_BYTEA, b, (int)n, 1);
}

/* ---- arrays ---------------------------------------------------------------------------------- */

#define OID_BYTEA_ARRAY 1001
#define OID_TEXT_ARRAY 1009
#define OID_INT8_ARRAY 1016
#define OID_TIMESTAMPTZ_ARRAY 1185

static const struct {
    Oid array, member;
} member_types[] = {
    [DK_PG_TEXTS] = {OID_TEXT_ARRAY, OID_TEXT},
    [DK_PG_INTS] = {OID_INT8_ARRAY, OID_INT8},
    [DK_PG_TIMES] = {OID_TIMESTAMPTZ_ARRAY, OID_TIMESTAMPTZ},
    [DK_PG_BYTEAS] = {OID_BYTEA_ARRAY, OID_BYTEA},
};

static void put(struct dk_pg_array *array, const void *p, size_t n)
{
    if (!array->failed && array->n + n > array->cap) {
        size_t cap = (array->cap + n) * 2;
        uint8_t *bytes = dk_mem_alloc(array->mem, cap);
        array->failed = bytes == NULL;
        if (bytes != NULL && array->n > 0) {
            memcpy(bytes, array->bytes, array->n);
        }
        dk_mem_free(array->mem, array->bytes);
        array->bytes = bytes;
        array->cap = bytes != NULL ? cap : 0;
        array->n = bytes != NULL ? array->n : 0;
    }
    if (!array->failed && n > 0) {
        memcpy(array->bytes + array->n, p, n);
        array->n += n;
    }
}

static void put_int4(struct dk_pg_array *array, int32_t v)
{
    uint8_t b[4];
    dk_put_u32(b, (uint32_t)v);
    put(array, b, sizeof b);
}

/* Dimensions, whether there are NULLs (it may say so without any), type; size and lower bound. */
void dk_pg_array_begin(struct dk_pg_array *array, const struct dk_mem *mem, enum dk_pg_member of,
                       size_t count)
{
    *array = (struct dk_pg_array){.mem = mem, .type = member_types[of].array};
    put_int4(array, 1);
    put_int4(array, 1);
    put_int4(array, (int32_t)member_types[of].member);
    put_int4(array, (int32_t)count);
    put_int4(array, 1);
}

void dk_pg_array_bytes(struct dk_pg_array *array, const uint8_t *b, size_t n)
{
    put_int4(array, (int32_t)n);
    put(array, b, n);
}

void dk_pg_array_str(struct dk_pg_array *array, const char *s)
{
    dk_pg_array_bytes(array, (const uint8_t *)s, strlen(s));
}

void dk_pg_array_str_or_null(struct dk_pg_array *array, const char *s)
{
    if (s[0] == '\0') {
        put_int4(array, -1);
    } else {
        dk_pg_array_str(array, s);
    }
}

void dk_pg_array_int(struct dk_pg_array *array, int64_t v)
{
    uint8_t b[8];
    dk_put_u32(b, (uint32_t)((uint64_t)v >> 32));
    dk_put_u32(b + 4, (uint32_t)v);
    dk_pg_array_bytes(array, b, sizeof b);
}

void dk_pg_array_time(struct dk_pg_array *array, int64_t us)
{
    if (us == DK_TIME_NONE) {
        put_int4(array, -1);
    } else {
        dk_pg_array_int(array, us - EPOCH_US);
    }
}

void dk_pg_array_free(struct dk_pg_array *array)
{
    dk_mem_free(array->mem, array->bytes);
    array->bytes = NULL;
}

void dk_pg_array(struct dk_pg_params *p, const struct dk_pg_array *array)
{
    add(p, array->type, array->bytes, (int)array->n, 1);
}

/* ---- one statement --------------------------------------------------------------------------- */

/* Whose rows the policies show; sent before the statement, in the same message, when it changes. */
#define SET_SCOPE                                                                                  \
    "SELECT set_config('dekhand.tenant', $1, true), set_config('dekhand.scope', $2, true)"

static dk_rc check_open(const struct dk_pg_txn *txn, const char *what, struct dk_err *err)
{
    return txn->failed ? DK_FAIL(err, STORE, "%s: the transaction has failed", what) : DK_OK;
}

/* After an error only rollback is left; `lost`: not even that. */
static dk_rc note_end(struct dk_pg_txn *txn, dk_rc rc, bool lost)
{
    txn->failed = rc != DK_OK;
    txn->gone = txn->gone || (rc != DK_OK && lost);
    return rc;
}

/* Several in one message. */
static dk_rc run_in(struct dk_pg_txn *txn, struct dk_pg_call *calls, size_t count,
                    struct dk_err *err)
{
    bool lost = false;
    DK_TRY(check_open(txn, calls[0].what, err));
    dk_rc rc = dk_pg_run(txn->conn->pg, calls, count, &lost, err);
    return note_end(txn, rc, lost);
}

dk_rc dk_pg_ask(struct dk_pg_txn *txn, const char *scope, const char *sql,
                const struct dk_pg_params *params, const char *what, PGresult **out,
                struct dk_err *err)
{
    const char *tenant = scope != NULL ? scope : "";
    struct dk_pg_params of_scope = {.n = 0};
    struct dk_pg_call calls[2] = {
        {.sql = SET_SCOPE, .params = &of_scope, .what = what},
        {.sql = sql, .params = params, .what = what, .wait_ms = txn->wait_ms}};
    size_t first = strcmp(txn->scope, tenant) == 0;
    dk_pg_str(&of_scope, tenant);
    dk_pg_str(&of_scope, scope != NULL ? "" : "all");
    DK_TRY(run_in(txn, calls + first, 2 - first, err));
    snprintf(txn->scope, sizeof txn->scope, "%s", tenant);
    PQclear(calls[0].result);
    *out = calls[1].result;
    return DK_OK;
}

/* To all rows first, where those of one tenant were shown before. */
static dk_rc show_all(struct dk_pg_txn *txn, const char *what, struct dk_err *err)
{
    PGresult *none = NULL;
    if (txn->scope[0] != '\0') {
        DK_TRY(dk_pg_ask(txn, NULL, "SELECT", NULL, what, &none, err));
        PQclear(none);
    }
    return DK_OK;
}

dk_rc dk_pg_ask_all(struct dk_pg_txn *txn, struct dk_pg_call *calls, size_t count,
                    struct dk_err *err)
{
    DK_TRY(show_all(txn, calls[0].what, err));
    return run_in(txn, calls, count, err);
}

dk_rc dk_pg_feed(struct dk_pg_txn *txn, struct dk_pg_feed *feed, struct dk_err *err)
{
    bool lost = false;
    DK_TRY(check_open(txn, feed->what, err));
    DK_TRY(show_all(txn, feed->what, err));
    feed->streams = true;
    feed->wait_ms = txn->wait_ms > DK_PG_DEADLINE_MS ? txn->wait_ms : DK_PG_DEADLINE_MS;
    dk_rc rc = dk_pg_stream(txn->conn->pg, feed, &lost, err);
    return note_end(txn, rc, lost);
}

int64_t dk_pg_touched(const PGresult *result)
{
    const char *n =
        PQcmdTuples((PGresult *)(uintptr_t)result); /* only reads; libpq says no const */
    return n[0] != '\0' ? strtoll(n, NULL, 10) : 0;
}

dk_rc dk_pg_do(struct dk_pg_txn *txn, const char *scope, const char *sql,
               const struct dk_pg_params *params, const char *what, bool *changed,
               struct dk_err *err)
{
    PGresult *result = NULL;
    DK_TRY(dk_pg_ask(txn, scope, sql, params, what, &result, err));
    if (changed != NULL) {
        *changed = dk_pg_touched(result) == 1;
    }
    PQclear(result);
    return DK_OK;
}

dk_rc dk_pg_one(struct dk_pg_txn *txn, const char *scope, const char *sql,
                const struct dk_pg_params *params, const char *table, PGresult **out,
                struct dk_err *err)
{
    PGresult *result = NULL;
    DK_TRY(dk_pg_ask(txn, scope, sql, params, table, &result, err));
    if (PQntuples(result) < 1) {
        PQclear(result);
        *out = NULL;
        return DK_FAIL(err, NOT_FOUND, "no such row in %s", table);
    }
    *out = result;
    return DK_OK;
}

dk_rc dk_pg_tampered(const char *table, struct dk_err *err)
{
    return DK_FAIL(err, TAMPERED, "a row of %s holds what dekhand does not write", table);
}

/* ---- columns --------------------------------------------------------------------------------- */

static bool is_of(const PGresult *r, int i, int c, Oid type, int length)
{
    return !PQgetisnull(r, i, c) && PQftype(r, c) == type && PQfformat(r, c) == 1 &&
           (length < 0 || PQgetlength(r, i, c) == length);
}

static int64_t big_endian(const char *p, int n)
{
    uint64_t v = (p[0] & 0x80) != 0 ? UINT64_MAX : 0;
    for (int k = 0; k < n; k++) {
        v = v << 8 | (uint8_t)p[k];
    }
    return (int64_t)v;
}

bool dk_pg_lend_str(const PGresult *r, int i, int c, const char **out)
{
    *out = PQgetisnull(r, i, c) ? "" : PQgetvalue(r, i, c);
    return PQgetisnull(r, i, c) || is_of(r, i, c, OID_TEXT, -1);
}

bool dk_pg_get_str(const PGresult *r, int i, int c, char *out, size_t cap)
{
    const char *text;
    if (!dk_pg_lend_str(r, i, c, &text) || strlen(text) >= cap) {
        return false;
    }
    memcpy(out, text, strlen(text) + 1);
    return true;
}

bool dk_pg_get_nullable(const PGresult *r, int i, int c, char *out, size_t cap)
{
    return dk_pg_get_str(r, i, c, out, cap) && (out[0] != '\0' || PQgetisnull(r, i, c));
}

bool dk_pg_get_uuid(const PGresult *r, int i, int c, char out[static DK_UUID_TEXT])
{
    char hex[33];
    if (!is_of(r, i, c, OID_UUID, 16)) {
        return false;
    }
    dk_hex_encode((const uint8_t *)PQgetvalue(r, i, c), 16, hex);
    snprintf(out, DK_UUID_TEXT, "%.8s-%.4s-%.4s-%.4s-%.12s", hex, hex + 8, hex + 12, hex + 16,
             hex + 20);
    return true;
}

bool dk_pg_get_int(const PGresult *r, int i, int c, int64_t min, int64_t max, int64_t *out)
{
    if (PQgetisnull(r, i, c)) {
        *out = 0;
        return min == 0;
    }
    if (!is_of(r, i, c, OID_INT8, 8) && !is_of(r, i, c, OID_INT4, 4) &&
        !is_of(r, i, c, OID_INT2, 2)) {
        return false;
    }
    *out = big_endian(PQgetvalue(r, i, c), PQgetlength(r, i, c));
    return *out >= min && *out <= max;
}

bool dk_pg_get_bool(const PGresult *r, int i, int c, bool *out)
{
    bool ok = is_of(r, i, c, OID_BOOL, 1);
    *out = ok && PQgetvalue(r, i, c)[0] != 0;
    return ok;
}

bool dk_pg_get_version(const PGresult *r, int i, int c, uint32_t *out)
{
    int64_t v = 0;
    bool ok = dk_pg_get_int(r, i, c, 1, INT32_MAX, &v);
    *out = (uint32_t)v;
    return ok;
}

bool dk_pg_get_version_or_null(const PGresult *r, int i, int c, uint32_t *out)
{
    *out = 0;
    return PQgetisnull(r, i, c) || dk_pg_get_version(r, i, c, out);
}

bool dk_pg_get_time(const PGresult *r, int i, int c, bool nullable, int64_t *out)
{
    int64_t low, high;
    if (PQgetisnull(r, i, c)) {
        *out = DK_TIME_NONE;
        return nullable;
    }
    if (!is_of(r, i, c, OID_TIMESTAMPTZ, 8)) {
        return false;
    }
    int64_t us = big_endian(PQgetvalue(r, i, c), 8);
    bool ok = dk_time_parse("0001-01-01T00:00:00.000000Z", DK_TIME_TEXT - 1, &low) &&
              dk_time_parse("9999-12-31T23:59:59.999999Z", DK_TIME_TEXT - 1, &high) &&
              us >= low - EPOCH_US && us <= high - EPOCH_US;
    *out = ok ? us + EPOCH_US : 0;
    return ok;
}

bool dk_pg_get_bytes(const PGresult *r, int i, int c, uint8_t *out, size_t n)
{
    if (!is_of(r, i, c, OID_BYTEA, (int)n)) {
        return false;
    }
    memcpy(out, PQgetvalue(r, i, c), n);
    return true;
}

bool dk_pg_get_tenant(const PGresult *r, int i, int c, struct dk_tenant *out)
{
    char text[DK_TENANT_MAX + 1];
    struct dk_err ignored;
    dk_err_clear(&ignored);
    return dk_pg_get_str(r, i, c, text, sizeof text) &&
           dk_tenant_parse(dk_view_str(text), out, &ignored) == DK_OK && strcmp(text, out->s) == 0;
}

bool dk_pg_get_wrap(const PGresult *r, int i, int c, struct dk_wrap_columns *out)
{
    return dk_pg_get_str(r, i, c, out->provider, sizeof out->provider) &&
           dk_pg_get_str(r, i, c + 1, out->kms_key_id, sizeof out->kms_key_id) &&
           dk_pg_get_str(r, i, c + 2, out->encrypted_data_key, sizeof out->encrypted_data_key) &&
           dk_pg_get_str(r, i, c + 3, out->context_timestamp, sizeof out->context_timestamp);
}
