/* First use and cold keys beside the same rows in bare tables: no trigger, no policy, no MAC. */
#include <stdlib.h>

#include "base/bytes.h"
#include "cli/bench_pg.h"
#include "cli/bench_rounds.h"

#define TABLES 3
#define COLUMNS 20
#define TEXT_OID 25
#define TEXT_ARRAY_OID 1009
#define ROUNDS 3 /* over all cold keys */
#define TURNS_MAX 4096

static const char *const tables[TABLES] = {"tenants", "encryption_keys", "key_rotation_log"};

/* ---- arrays, as the server reads them -------------------------------------------------------- */

struct array {
    uint8_t *p;
    size_t n, cap;
    bool failed;
};

static void put(struct array *a, const void *p, size_t n)
{
    if (a->n + n > a->cap && !a->failed) {
        size_t cap = (a->n + n) * 2;
        uint8_t *more = realloc(a->p, cap);
        a->failed = more == NULL;
        a->p = more != NULL ? more : a->p;
        a->cap = more != NULL ? cap : a->cap;
    }
    if (!a->failed) {
        memcpy(a->p + a->n, p, n);
        a->n += n;
    }
}

static void put_u32(struct array *a, uint32_t v)
{
    uint8_t b[4];
    dk_put_u32(b, v);
    put(a, b, sizeof b);
}

/* One dimension from 1 on; there may be NULLs. */
static void begin_array(struct array *a, Oid member, size_t count)
{
    a->n = 0;
    put_u32(a, 1);
    put_u32(a, 1);
    put_u32(a, member);
    put_u32(a, (uint32_t)count);
    put_u32(a, 1);
}

static void put_names(struct array *a, const struct bench_keys *keys, size_t at, size_t n)
{
    begin_array(a, TEXT_OID, n);
    for (size_t i = at; i < at + n; i++) {
        put_u32(a, (uint32_t)strlen(keys->names[i]));
        put(a, keys->names[i], strlen(keys->names[i]));
    }
}

/* Column `c` of all rows. */
static void put_column(struct array *a, const PGresult *r, int c)
{
    begin_array(a, PQftype(r, c), (size_t)PQntuples(r));
    for (int i = 0; i < PQntuples(r); i++) {
        int length = PQgetlength(r, i, c);
        put_u32(a, PQgetisnull(r, i, c) ? UINT32_MAX : (uint32_t)length);
        put(a, PQgetvalue(r, i, c), PQgetisnull(r, i, c) ? 0 : (size_t)length);
    }
}

/* ---- the bare tables ------------------------------------------------------------------------- */

struct rows {
    char select[TABLES][800],
        insert[TABLES][1600]; /* the columns that are not made by the server */
    struct array values[TABLES][COLUMNS];
    int columns[TABLES];
    char cold[2][160];
};

static void make_bare(struct bench_pg *b)
{
    bench_pg_do(b, BENCH_PG_AS_OWNER
                "SET LOCAL search_path = $; "
                "CREATE TABLE bare_tenants (LIKE tenants INCLUDING ALL) WITH (fillfactor = 85); "
                "CREATE TABLE bare_encryption_keys (LIKE encryption_keys INCLUDING ALL) WITH "
                "(fillfactor = 85); "
                "CREATE TABLE bare_key_rotation_log (LIKE key_rotation_log INCLUDING ALL); "
                "GRANT SELECT, INSERT ON bare_tenants, bare_encryption_keys, bare_key_rotation_log "
                "TO dekhand_rw; COMMIT");
}

/* Names and arrays' types of the columns of a table, into the two statements. */
static void prepare_table(struct bench_pg *b, struct rows *rows, size_t t)
{
    const char *params[2] = {b->schema, tables[t]};
    char names[600] = "", places[600] = "";
    PGresult *r = PQexecParams(
        b->pg,
        "SELECT quote_ident(attname), format_type(atttypid, NULL) FROM pg_attribute a JOIN "
        "pg_class "
        "c ON c.oid = attrelid JOIN pg_namespace n ON n.oid = relnamespace WHERE nspname = $1 AND "
        "relname = $2 AND attnum > 0 AND NOT attisdropped AND attgenerated = '' AND attidentity = "
        "'' ORDER BY attnum",
        2, NULL, params, NULL, NULL, 0);
    int n = PQntuples(r);
    if (n == 0 || n > COLUMNS) {
        bench_pg_fail(b, tables[t], "its columns cannot be read");
        n = 0;
    }
    for (int i = 0; i < n; i++) {
        size_t names_n = strlen(names), places_n = strlen(places);
        snprintf(names + names_n, sizeof names - names_n, "%s%s", i > 0 ? ", " : "",
                 PQgetvalue(r, i, 0));
        snprintf(places + places_n, sizeof places - places_n, "%s$%d::%s[]", i > 0 ? ", " : "",
                 i + 1, PQgetvalue(r, i, 1));
    }
    PQclear(r);
    rows->columns[t] = n;
    snprintf(rows->select[t], sizeof rows->select[t],
             "SELECT %s FROM %s.%s WHERE tenant_id = ANY($1)%s", names, b->schema, tables[t],
             t == 2 ? " AND operation = 'create'" : "");
    snprintf(rows->insert[t], sizeof rows->insert[t],
             "INSERT INTO %s.bare_%s (%s) SELECT * FROM unnest(%s)", b->schema, tables[t], names,
             places);
}

static struct rows *prepare(struct bench_pg *b)
{
    struct rows *rows = calloc(1, sizeof *rows);
    if (rows == NULL) {
        bench_pg_fail(b, "bare tables", "no memory");
        return NULL;
    }
    for (size_t t = 0; t < TABLES; t++) {
        prepare_table(b, rows, t);
    }
    for (size_t t = 0; t < 2; t++) {
        snprintf(rows->cold[t], sizeof rows->cold[t],
                 "SELECT * FROM %s.bare_%s WHERE tenant_id = ANY($1)", b->schema, tables[t]);
    }
    return rows;
}

static void free_rows(struct rows *rows)
{
    for (size_t t = 0; rows != NULL && t < TABLES; t++) {
        for (size_t c = 0; c < COLUMNS; c++) {
            free(rows->values[t][c].p);
        }
    }
    free(rows);
}

/* ---- one pipeline ---------------------------------------------------------------------------- */

static void send_plain(struct bench_pg *b, const char *sql)
{
    if (PQsendQueryParams(b->pg, sql, 0, NULL, NULL, NULL, NULL, 1) != 1) {
        bench_pg_fail(b, "sending", PQerrorMessage(b->pg));
    }
}

static void send_arrays(struct bench_pg *b, const char *sql, const struct array *arrays, int count)
{
    const char *value[COLUMNS];
    int length[COLUMNS], format[COLUMNS];
    for (int i = 0; i < count; i++) {
        value[i] = (const char *)arrays[i].p;
        length[i] = (int)arrays[i].n;
        format[i] = 1;
        if (arrays[i].failed) {
            bench_pg_fail(b, "arrays", "no memory");
        }
    }
    if (PQsendQueryParams(b->pg, sql, count, NULL, value, length, format, 1) != 1) {
        bench_pg_fail(b, "sending", PQerrorMessage(b->pg));
    }
}

/* The next statement's; it is followed by a NULL. */
static PGresult *receive(struct bench_pg *b)
{
    PGresult *r = PQgetResult(b->pg);
    ExecStatusType status = PQresultStatus(r);
    if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK) {
        bench_pg_fail(b, "a bare statement", PQerrorMessage(b->pg));
    }
    if (status != PGRES_PIPELINE_SYNC && r != NULL) {
        PQclear(PQgetResult(b->pg));
    }
    return r;
}

static void begin_pipeline(struct bench_pg *b)
{
    if (PQenterPipelineMode(b->pg) != 1) {
        bench_pg_fail(b, "a pipeline", PQerrorMessage(b->pg));
    }
}

static void end_pipeline(struct bench_pg *b)
{
    PGresult *end = PQgetResult(b->pg);
    bool in_step = PQresultStatus(end) == PGRES_PIPELINE_SYNC;
    PQclear(end);
    if (!in_step || PQexitPipelineMode(b->pg) != 1) {
        bench_pg_fail(b, "a pipeline", "out of step");
        PQreset(b->pg);
    }
}

/* ---- new tenants ----------------------------------------------------------------------------- */

/* What the library has stored of them, ready to be sent. */
static void read_ours(struct bench_pg *b, struct rows *rows, size_t at, size_t n)
{
    struct array names = {.n = 0};
    const char *value;
    int length, format = 1;
    const Oid type = TEXT_ARRAY_OID;
    put_names(&names, &b->keys, at, n);
    value = (const char *)names.p;
    length = (int)names.n;
    bench_pg_do(b, BENCH_PG_AS_US);
    for (size_t t = 0; t < TABLES && !b->failed; t++) {
        PGresult *r = PQexecParams(b->pg, rows->select[t], 1, &type, &value, &length, &format, 1);
        if (PQntuples(r) != (int)n) {
            bench_pg_fail(b, tables[t], "not the rows that were stored");
        }
        for (int c = 0; c < rows->columns[t] && !b->failed; c++) {
            put_column(&rows->values[t][c], r, c);
        }
        PQclear(r);
    }
    bench_pg_do(b, "COMMIT");
    free(names.p);
}

static double bare_insert(struct bench_pg *b, const struct rows *rows)
{
    double began = bench_now_s();
    begin_pipeline(b);
    send_plain(b, "BEGIN");
    send_plain(b, "SET LOCAL ROLE dekhand_rw");
    for (size_t t = 0; t < TABLES; t++) {
        send_arrays(b, rows->insert[t], rows->values[t], rows->columns[t]);
    }
    send_plain(b, "COMMIT");
    PQpipelineSync(b->pg);
    for (size_t i = 0; i < TABLES + 3; i++) {
        PQclear(receive(b));
    }
    end_pipeline(b);
    return bench_now_s() - began;
}

static double bare_create(struct bench_pg *b, struct rows *rows, size_t at, size_t n)
{
    double took = 0;
    bench_keys_name(&b->keys, at, n);
    for (size_t done = 0; done < n && !b->failed; done += BENCH_PG_BATCH) {
        size_t m = n - done < BENCH_PG_BATCH ? n - done : BENCH_PG_BATCH;
        read_ours(b, rows, done, m);
        took += b->failed ? 0 : bare_insert(b, rows);
    }
    return took;
}

/* ---- cold keys ------------------------------------------------------------------------------- */

static void take_rows(struct bench_pg *b, size_t wanted, bool keys)
{
    volatile unsigned seen = 0; /* the compiler keeps the reads */
    PGresult *r = receive(b);
    if (PQntuples(r) != (int)wanted) {
        bench_pg_fail(b, "bare rows", "not as many as were stored");
    }
    for (int i = 0; i < PQntuples(r) && !b->failed; i++) {
        for (int c = 0; c < PQnfields(r); c++) {
            seen += (unsigned char)PQgetvalue(r, i, c)[0];
        }
        b->failed = (keys && !bench_keys_bare(&b->keys)) || b->failed;
    }
    (void)seen;
    PQclear(r);
}

/* All batches are under way at once: while one is worked on here, the server reads the next. */
static double bare_cold(struct bench_pg *b, const struct rows *rows, size_t at, size_t n)
{
    struct array names = {.n = 0};
    bench_keys_name(&b->keys, at, n);
    double began = bench_now_s();
    begin_pipeline(b);
    for (size_t done = 0; done < n; done += BENCH_PG_BATCH) {
        put_names(&names, &b->keys, done, n - done < BENCH_PG_BATCH ? n - done : BENCH_PG_BATCH);
        send_arrays(b, rows->cold[0], &names, 1);
        send_arrays(b, rows->cold[1], &names, 1);
    }
    PQpipelineSync(b->pg);
    for (size_t done = 0; done < n; done += BENCH_PG_BATCH) {
        size_t m = n - done < BENCH_PG_BATCH ? n - done : BENCH_PG_BATCH;
        take_rows(b, m, false);
        take_rows(b, m, true);
    }
    end_pipeline(b);
    double took = bench_now_s() - began;
    free(names.p);
    return took;
}

/* ---- the figures ----------------------------------------------------------------------------- */

struct turns {
    double bare, ours; /* seconds */
    double ratio[TURNS_MAX];
    size_t n, tenants;
};

static void add_turn(struct turns *turns, double bare, double ours, size_t tenants)
{
    turns->bare += bare;
    turns->ours += ours;
    turns->tenants += tenants;
    if (turns->n < TURNS_MAX) {
        turns->ratio[turns->n++] = bare / ours;
    }
}

/* The median of the ratios: others who need the machine meet one side of a turn and not the other.
 */
static struct bench_result sum_up(struct turns *turns)
{
    if (turns->n == 0) {
        return (struct bench_result){0, 0, 0};
    }
    return (struct bench_result){bench_median(turns->ratio, turns->n),
                                 turns->bare * 1e6 / (double)turns->tenants,
                                 turns->ours * 1e6 / (double)turns->tenants};
}

void bench_pg_create(struct bench_pg *b, struct bench_result *out)
{
    static struct turns turns;
    turns = (struct turns){.n = 0};
    make_bare(b);
    struct rows *rows = prepare(b);
    for (size_t at = 0; at < b->tenants && bench_pg_goes_on(b); at += BENCH_PG_CHUNK) {
        size_t n = b->tenants - at < BENCH_PG_CHUNK ? b->tenants - at : BENCH_PG_CHUNK;
        double ours = bench_keys_encrypt(&b->keys, b->d, at, n);
        if (bench_pg_goes_on(b)) {
            add_turn(&turns, bare_create(b, rows, at, n), ours, n);
        }
    }
    free_rows(rows);
    *out = sum_up(&turns);
}

static void one_round(struct bench_pg *b, const struct rows *rows, bool bare_first,
                      struct turns *turns)
{
    for (size_t at = 0; at < b->tenants && bench_pg_goes_on(b); at += BENCH_PG_CHUNK) {
        size_t n = b->tenants - at < BENCH_PG_CHUNK ? b->tenants - at : BENCH_PG_CHUNK;
        double bare = bare_first ? bare_cold(b, rows, at, n) : 0;
        double ours = bench_keys_decrypt(&b->keys, b->d, at, n);
        add_turn(turns, bare_first ? bare : bare_cold(b, rows, at, n), ours, n);
        bare_first = !bare_first;
    }
}

/* Rows that were written a moment ago are seen for the first time: once is enough, and not here. */
static void settle(struct bench_pg *b)
{
    bench_pg_do(b, "SET ROLE dekhand_admin");
    bench_pg_do(b, "VACUUM (ANALYZE) $.tenants, $.encryption_keys, $.bare_tenants, "
                   "$.bare_encryption_keys");
    bench_pg_do(b, "RESET ROLE");
}

void bench_pg_cold(struct bench_pg *b, struct bench_result *out)
{
    static struct turns turns;
    turns = (struct turns){.n = 0};
    settle(b);
    struct rows *rows = prepare(b);
    for (size_t i = 0; i < ROUNDS && bench_pg_goes_on(b); i++) {
        bench_pg_reopen(b);
        one_round(b, rows, i % 2 == 0, &turns);
    }
    free_rows(rows);
    *out = sum_up(&turns);
}
