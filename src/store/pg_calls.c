/* Counts of provider calls in PostgreSQL. */
#include "store/pg_txn.h"

static dk_rc add_one(struct dk_pg_txn *txn, const struct dk_call_row *row, struct dk_err *err)
{
    struct dk_pg_params p = {.n = 0};
    dk_pg_str(&p, row->day);
    dk_pg_str(&p, row->source);
    dk_pg_str(&p, row->operation);
    dk_pg_int(&p, row->calls);
    dk_pg_int(&p, row->failed);
    return dk_pg_do(txn, NULL,
                    "INSERT INTO call_counts AS c (day, source, operation, calls, failed) VALUES "
                    "($1, $2, $3, $4, $5) ON CONFLICT (day, source, operation) DO UPDATE SET calls "
                    "= c.calls + $4, failed = c.failed + $5",
                    &p, "counting provider calls", NULL, err);
}

dk_rc dk_pg_calls_add(void *self, const struct dk_call_row *rows, size_t count, struct dk_err *err)
{
    for (size_t i = 0; i < count; i++) {
        DK_TRY(add_one(self, &rows[i], err));
    }
    return DK_OK;
}

static bool get_call(const PGresult *r, int i, struct dk_call_row *out)
{
    return dk_pg_get_str(r, i, 0, out->day, sizeof out->day) &&
           dk_pg_get_str(r, i, 1, out->source, sizeof out->source) &&
           dk_pg_get_str(r, i, 2, out->operation, sizeof out->operation) &&
           dk_pg_get_int(r, i, 3, 0, DK_CALLS_MAX, &out->calls) &&
           dk_pg_get_int(r, i, 4, 0, DK_CALLS_MAX, &out->failed);
}

dk_rc dk_pg_calls_sum(void *self, const char *from,
                      bool (*each)(void *arg, const struct dk_call_row *row), void *arg,
                      struct dk_err *err)
{
    struct dk_pg_params p = {.n = 0};
    struct dk_call_row row;
    PGresult *r = NULL;
    bool more = true;
    dk_pg_str(&p, from);
    DK_TRY(dk_pg_ask(self, NULL,
                     "SELECT min(day), source, operation, sum(calls)::bigint, "
                     "sum(failed)::bigint FROM call_counts WHERE day >= $1 GROUP BY source, "
                     "operation ORDER BY source, operation",
                     &p, "reading counts of provider calls", &r, err));
    for (int i = 0; i < PQntuples(r) && more; i++) {
        more = !get_call(r, i, &row) || each(arg, &row);
    }
    PQclear(r);
    return DK_OK;
}
