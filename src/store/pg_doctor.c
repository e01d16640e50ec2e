/* The doctor's visit to a server: the way there, the login, the clock, the room for connections. */
#include "store/pg_doctor.h"

#include <arpa/inet.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define TEXT 900
#define FIX 400
#define POOL_ROUNDS 4      /* questions over two connections, to see whether they share one */
#define VERSION_MIN 150000 /* views with the rights of who asks (security_invoker) */
#define SOON_US (180 * DK_DAY_US)
#define CLOCK_NOTE_US INT64_C(2000000)
#define CLOCK_FINDING_US INT64_C(60000000)

/* ---- asking and telling ---------------------------------------------------------------------- */

void dk_pg_note(struct dk_pg_exam *exam, enum dk_store_level level, const char *name,
                const char *fix, const char *format, ...)
{
    char text[TEXT];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    struct dk_store_note note = {level, name, text, fix};
    exam->each(exam->arg, &note);
}

bool dk_pg_inquire(struct dk_pg_exam *exam, const char *name, const char *sql, bool schema,
                   PGresult **out)
{
    struct dk_err cause;
    struct dk_pg_params p = {.n = 0};
    struct dk_pg_call call = {.sql = sql, .params = &p, .what = "examining the server"};
    bool lost = false;
    *out = NULL;
    if (exam->rc != DK_OK) {
        return false;
    }
    if (schema) {
        dk_pg_str(&p, exam->store->schema);
    }
    dk_err_clear(&cause);
    dk_rc rc = dk_pg_run(exam->pg, &call, 1, &lost, &cause);
    if (rc == DK_OK) {
        *out = call.result;
        return true;
    }
    if (lost) {
        exam->rc = rc;
        *exam->err = cause;
    } else {
        dk_pg_note(exam, DK_STORE_NOTE, name, "", "it cannot be seen by this login: %.300s",
                   cause.text);
    }
    PQclear(call.result);
    return false;
}

void dk_pg_odd(struct dk_pg_exam *exam, const char *name)
{
    dk_pg_note(exam, DK_STORE_NOTE, name, "",
               "the server gives an answer that this version does not understand");
}

/* ---- the server's version -------------------------------------------------------------------- */

/* The day of a version's last release. */
static const struct {
    int major;
    const char *end;
} majors[] = {
    {15, "2027-11-11T00:00:00.000000Z"},
    {16, "2028-11-09T00:00:00.000000Z"},
    {17, "2029-11-08T00:00:00.000000Z"},
    {18, "2030-11-14T00:00:00.000000Z"},
};

/* Past its end it is a note: distributors and hosts may mend a version for longer. */
enum dk_store_level dk_pg_version_level(int version, int64_t now_us, int64_t *end)
{
    *end = 0;
    for (size_t i = 0; i < sizeof majors / sizeof majors[0]; i++) {
        if (majors[i].major == version / 10000 &&
            !dk_time_parse(majors[i].end, DK_TIME_TEXT - 1, end)) {
            *end = 0;
        }
    }
    return version < VERSION_MIN                  ? DK_STORE_FINDING
           : *end != 0 && now_us > *end - SOON_US ? DK_STORE_NOTE
                                                  : DK_STORE_WELL;
}

static void look_at_version(struct dk_pg_exam *exam)
{
    const char *said = PQparameterStatus(exam->pg, "server_version");
    int version = PQserverVersion(exam->pg);
    char day[DK_TIME_TEXT];
    int64_t end, now = dk_wall_us(exam->store->world);
    enum dk_store_level level = dk_pg_version_level(version, now, &end);
    said = said != NULL ? said : "of an unknown version";
    dk_time_format(end, day);
    if (level == DK_STORE_FINDING) {
        dk_pg_note(exam, level, "server", "take a server of version 15 or later",
                   "PostgreSQL %.40s at %s: dekhand needs 15", said, exam->store->where);
    } else if (level == DK_STORE_NOTE) {
        dk_pg_note(exam, level, "server", "plan the step to a newer major version (pg_upgrade)",
                   "PostgreSQL %.40s at %s: its project mends it until %.10s, and %s", said,
                   exam->store->where, day,
                   now > end ? "no more: only a distributor may still do that"
                             : "that is less than half a year");
    } else {
        dk_pg_note(exam, level, "server", "", "PostgreSQL %.40s at %s%s%.10s", said,
                   exam->store->where, end != 0 ? ", mended by its project until " : "",
                   end != 0 ? day : "");
    }
}

/* ---- the way there --------------------------------------------------------------------------- */

enum dk_store_level dk_pg_tls_level(bool local, bool tls, const char *sslmode)
{
    return local || (tls && strcmp(sslmode, "verify-full") == 0) ? DK_STORE_WELL : DK_STORE_FINDING;
}

/* Where it is really connected to: a name of the URL may be anything. */
static bool ends_here(PGconn *pg)
{
    const char *host = PQhost(pg), *address = PQhostaddr(pg);
    struct in6_addr six;
    struct in_addr four;
    if (host != NULL && (host[0] == '/' || host[0] == '@')) {
        return true;
    }
    address = address != NULL ? address : "";
    return (inet_pton(AF_INET, address, &four) == 1 && (ntohl(four.s_addr) >> 24) == 127) ||
           (inet_pton(AF_INET6, address, &six) == 1 && IN6_IS_ADDR_LOOPBACK(&six));
}

static void look_at_tls(struct dk_pg_exam *exam)
{
    PQconninfoOption *options = PQconninfo(exam->pg);
    const char *sslmode = "";
    bool tls = PQsslInUse(exam->pg) != 0, local = ends_here(exam->pg);
    for (PQconninfoOption *o = options; o != NULL && o->keyword != NULL; o++) {
        if (strcmp(o->keyword, "sslmode") == 0 && o->val != NULL) {
            sslmode = o->val;
        }
    }
    const char *version = tls ? PQsslAttribute(exam->pg, "protocol") : NULL;
    enum dk_store_level level = dk_pg_tls_level(local, tls, sslmode);
    if (level == DK_STORE_FINDING) {
        dk_pg_note(exam, level, "tls",
                   "take sslmode out of DATABASE_URL and PGSSLMODE: verify-full is what dekhand "
                   "does off this machine; sslrootcert=FILE names a CA that the system does not "
                   "know",
                   "%s, sslmode=%.20s: %s", tls ? "encrypted" : "not encrypted", sslmode,
                   tls ? "whoever is on the way may take the server's place: it has not proven "
                         "its name"
                       : "whoever is on the way reads wrapped keys and names of tenants, and may "
                         "change what is answered");
    } else if (tls) {
        dk_pg_note(exam, level, "tls", "", "%.20s, sslmode=%.20s",
                   version != NULL ? version : "encrypted", sslmode);
    } else {
        dk_pg_note(exam, level, "tls", "", "none: the connection does not leave this machine");
    }
    PQconninfoFree(options);
}

/* ---- a pooler in front ----------------------------------------------------------------------- */

static int backend_of(PGconn *pg)
{
    struct dk_err none;
    struct dk_pg_call call = {.sql = "SELECT pg_backend_pid()", .what = "asking who answers"};
    int64_t pid = 0;
    bool lost;
    dk_err_clear(&none);
    if (dk_pg_run(pg, &call, 1, &lost, &none) != DK_OK ||
        !dk_pg_get_int(call.result, 0, 0, 1, INT32_MAX, &pid)) {
        pid = 0;
    }
    PQclear(call.result);
    return (int)pid;
}

enum mode { MODE_SESSION, MODE_TRANSACTION, MODE_STATEMENT, MODE_UNKNOWN };

/* One by one: what is over when the pooler looks at it is no transaction to it. */
static bool takes_transactions(PGconn *pg)
{
    static const char *const texts[] = {"BEGIN", "SELECT", "COMMIT"};
    struct dk_err none;
    dk_rc rc = DK_OK;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0] && rc == DK_OK; i++) {
        struct dk_pg_call call = {.sql = texts[i], .what = "trying a transaction"};
        bool lost;
        dk_err_clear(&none);
        rc = dk_pg_run(pg, &call, 1, &lost, &none);
        PQclear(call.result);
    }
    return rc == DK_OK;
}

/*
 * Two of our connections that are answered by one session of the server share it. No setting is
 * left in a session to see whether it is still there: it would be somebody else's afterwards.
 */
static enum mode mode_of(struct dk_pg_exam *exam)
{
    struct dk_err none;
    PGconn *other = NULL;
    int mine[POOL_ROUNDS], theirs[POOL_ROUNDS];
    bool shared = false, answered = true;
    dk_err_clear(&none);
    if (dk_pg_connect(exam->store, &other, &none) != DK_OK) {
        return MODE_UNKNOWN;
    }
    for (int i = 0; i < POOL_ROUNDS && answered; i++) {
        mine[i] = backend_of(exam->pg);
        theirs[i] = backend_of(other);
        answered = mine[i] != 0 && theirs[i] != 0;
        for (int k = 0; k <= i && answered; k++) {
            shared = shared || mine[i] == theirs[k] || mine[k] == theirs[i];
        }
    }
    enum mode mode = !answered ? MODE_UNKNOWN : shared ? MODE_TRANSACTION : MODE_SESSION;
    if (mode != MODE_UNKNOWN && !takes_transactions(other)) {
        mode = MODE_STATEMENT;
    }
    PQfinish(other);
    return mode;
}

static const struct {
    enum dk_store_level level;
    const char *text, *fix;
} modes[] = {
    [MODE_SESSION] = {DK_STORE_NOTE,
                      "in session mode, as it seems: it works, but each of our connections keeps "
                      "one of the server's",
                      "pool_mode = transaction (Supabase: port 6543)"},
    [MODE_TRANSACTION] = {DK_STORE_WELL, "in transaction mode, which works", ""},
    [MODE_STATEMENT] = {DK_STORE_FINDING,
                        "that allows no transactions (statement mode): dekhand does not work there",
                        "pool_mode = transaction (Supabase: port 6543)"},
    [MODE_UNKNOWN] = {DK_STORE_NOTE,
                      "whose mode cannot be told: it has no second connection for us",
                      "raise the size of its pool; transaction mode and session mode work"},
};

static void look_at_pooler(struct dk_pg_exam *exam)
{
    int pid = backend_of(exam->pg);
    exam->pooled = pid != 0 && pid != PQbackendPID(exam->pg);
    if (!exam->pooled) {
        dk_pg_note(exam, DK_STORE_WELL, "pooler", "", "none: the server itself answers");
        return;
    }
    enum mode mode = mode_of(exam);
    bool local = ends_here(exam->pg);
    dk_pg_note(exam, modes[mode].level, "pooler", modes[mode].fix, "one is in front, %s%s",
               modes[mode].text,
               local ? ""
                     : "; whether its own way to the server is encrypted is not seen from here");
}

/* ---- the login ------------------------------------------------------------------------------- */

#define LOGIN                                                                                      \
    "SELECT r.rolname::text, r.rolsuper, r.rolbypassrls, r.rolcreaterole, EXISTS (SELECT 1 FROM "  \
    "pg_catalog.pg_namespace n WHERE n.nspname = $1 AND pg_has_role(r.oid, n.nspowner, "           \
    "'MEMBER')), coalesce((SELECT pg_has_role(r.oid, w.oid, 'MEMBER') FROM pg_catalog.pg_roles w " \
    "WHERE w.rolname = 'dekhand_rw'), false) FROM pg_catalog.pg_roles r WHERE r.rolname = "        \
    "session_user"

static void look_at_login(struct dk_pg_exam *exam)
{
    static const char *const names[] = {"a superuser", "exempt from row security (BYPASSRLS)",
                                        "able to make roles (CREATEROLE)", "owner of the schema"};
    PGresult *r = NULL;
    const char *login;
    bool has[4] = {false}, member = false, good;
    char list[200] = "";
    if (!dk_pg_inquire(exam, "login", LOGIN, true, &r)) {
        return;
    }
    good = dk_pg_lend_str(r, 0, 0, &login) && dk_pg_get_bool(r, 0, 5, &member);
    for (int i = 0; i < 4; i++) {
        good = good && dk_pg_get_bool(r, 0, 1 + i, &has[i]);
        if (has[i] && (i == 0 || !has[0])) { /* a superuser is all of it */
            size_t n = strlen(list);
            snprintf(list + n, sizeof list - n, "%s%s", n > 0 ? ", " : "", names[i]);
        }
    }
    if (!good) {
        dk_pg_odd(exam, "login");
    } else if (list[0] != '\0') {
        dk_pg_note(exam, DK_STORE_FINDING, "login",
                   "CREATE ROLE app LOGIN PASSWORD '..' IN ROLE dekhand_rw, for DATABASE_URL; this "
                   "one belongs into KMS_MIGRATE_URL",
                   "%.63s is %s: dekhand works as dekhand_rw in each of its transactions, but who "
                   "gets hold of this login does not",
                   login, list);
    } else if (!member) {
        dk_pg_note(exam, DK_STORE_FINDING, "login",
                   "GRANT dekhand_rw TO the login, as a role administrator; where there is no such "
                   "role: `dekhand migrate`",
                   "%.63s is no member of dekhand_rw: nothing can be read or written", login);
    } else {
        dk_pg_note(exam, DK_STORE_WELL, "login", "", "%.63s is a member of dekhand_rw, and no more",
                   login);
    }
    PQclear(r);
}

/* ---- the clock ------------------------------------------------------------------------------- */

static void look_at_clock(struct dk_pg_exam *exam)
{
    PGresult *r = NULL;
    int64_t there = 0, before = dk_wall_us(exam->store->world);
    if (!dk_pg_inquire(exam, "server clock", "SELECT clock_timestamp()", false, &r)) {
        return;
    }
    int64_t after = dk_wall_us(exam->store->world);
    bool good = dk_pg_get_time(r, 0, 0, false, &there);
    PQclear(r);
    if (!good) {
        dk_pg_odd(exam, "server clock");
        return;
    }
    /* It was read at some moment between the two: what lies there is no difference. */
    int64_t ahead = there > after ? there - after : there < before ? there - before : 0;
    int64_t off = ahead < 0 ? -ahead : ahead;
    enum dk_store_level level = off > CLOCK_FINDING_US ? DK_STORE_FINDING
                                : off > CLOCK_NOTE_US  ? DK_STORE_NOTE
                                                       : DK_STORE_WELL;
    if (level == DK_STORE_WELL) {
        dk_pg_note(exam, level, "server clock", "", "the server's and this machine's agree");
    } else {
        dk_pg_note(exam, level, "server clock", "set both clocks by NTP",
                   "the server's is %lld.%lld s %s this machine's: dates of keys and of the log "
                   "are this machine's, leases are the server's",
                   (long long)(off / 1000000), (long long)(off / 100000 % 10),
                   ahead > 0 ? "ahead of" : "behind");
    }
}

/* ---- room for connections -------------------------------------------------------------------- */

/*
 * The lowest of the limits; those of other sessions; ours. The name of a session's program is shown
 * to everybody.
 */
#define ROOM                                                                                       \
    "SELECT least(current_setting('max_connections')::bigint - "                                   \
    "current_setting('superuser_reserved_connections')::bigint - "                                 \
    "coalesce(current_setting('reserved_connections', true), '0')::bigint, (SELECT "               \
    "nullif(datconnlimit, -1)::bigint FROM pg_catalog.pg_database WHERE datname = "                \
    "current_database()), (SELECT nullif(rolconnlimit, -1)::bigint FROM pg_catalog.pg_roles "      \
    "WHERE rolname = session_user)), count(*) FILTER (WHERE coalesce(application_name, '') NOT "   \
    "LIKE "                                                                                        \
    "'dekhand%'), count(*) FILTER (WHERE application_name LIKE 'dekhand%') FROM "                  \
    "pg_catalog.pg_stat_activity WHERE usesysid IS NOT NULL AND datid IS NOT NULL"

/* Processes that poll say that they are there; 0 where it is not known. */
static int64_t count_nodes(struct dk_pg_exam *exam)
{
    struct dk_err none;
    char sql[DK_PG_SCHEMA_MAX + 128];
    struct dk_pg_call call = {.sql = sql, .what = "counting nodes"};
    bool lost = false;
    int64_t n = 0;
    snprintf(sql, sizeof sql,
             "SELECT count(*) FROM %s.nodes WHERE seen_at > clock_timestamp() - interval '10 "
             "minutes'",
             exam->store->schema);
    dk_err_clear(&none);
    if (exam->rc != DK_OK || dk_pg_run(exam->pg, &call, 1, &lost, &none) != DK_OK ||
        !dk_pg_get_int(call.result, 0, 0, 0, INT32_MAX, &n)) {
        n = 0;
    }
    PQclear(call.result);
    return n;
}

static void look_at_room(struct dk_pg_exam *exam)
{
    PGresult *r = NULL;
    int64_t limit = 0, others = 0, ours = 0;
    if (!dk_pg_inquire(exam, "connections", ROOM, false, &r)) {
        return;
    }
    bool good = dk_pg_get_int(r, 0, 0, 0, INT32_MAX, &limit) &&
                dk_pg_get_int(r, 0, 1, 0, INT32_MAX, &others) &&
                dk_pg_get_int(r, 0, 2, 0, INT32_MAX, &ours);
    PQclear(r);
    /* Known by their connections, or by what they say; each may come to have all of its own. */
    int64_t processes = (ours + DK_PG_POOL - 1) / DK_PG_POOL, nodes = count_nodes(exam);
    int64_t room = limit > others ? (limit - others) / DK_PG_POOL : 0;
    processes = nodes > processes ? nodes : processes;
    processes = processes > 0 ? processes : 1;
    if (!good) {
        dk_pg_odd(exam, "connections");
    } else if (exam->pooled) {
        dk_pg_note(exam, DK_STORE_WELL, "connections", "",
                   "%lld may be open at the server, %lld are, %lld of them ours: the pooler's "
                   "settings share them out",
                   (long long)limit, (long long)(others + ours), (long long)ours);
    } else if (processes > room) {
        dk_pg_note(exam, DK_STORE_NOTE, "connections",
                   "raise max_connections (or the limit of the login or the database), or put "
                   "PgBouncer in front, in transaction mode",
                   "%lld may be open, others have %lld: that leaves room for %lld process%s of "
                   "dekhand with %d each, and %lld or more run; one too many ends with E_BUSY",
                   (long long)limit, (long long)others, (long long)room, room == 1 ? "" : "es",
                   DK_PG_POOL, (long long)processes);
    } else {
        dk_pg_note(exam, DK_STORE_WELL, "connections", "",
                   "%lld may be open, others have %lld: room for %lld process%s of dekhand with %d "
                   "each",
                   (long long)limit, (long long)others, (long long)room, room == 1 ? "" : "es",
                   DK_PG_POOL);
    }
}

/* ---- all of it ------------------------------------------------------------------------------- */

dk_rc dk_pg_circumstances(void *self, void (*each)(void *arg, const struct dk_store_note *note),
                          void *arg, struct dk_err *err)
{
    struct dk_pg *store = self;
    struct dk_pg_conn *conn = NULL;
    DK_TRY(dk_pg_take(store, &conn, err));
    struct dk_pg_exam exam = {
        .store = store, .pg = conn->pg, .each = each, .arg = arg, .rc = DK_OK, .err = err};
    look_at_version(&exam);
    look_at_tls(&exam);
    look_at_pooler(&exam);
    look_at_login(&exam);
    dk_pg_look_at_rights(&exam);
    look_at_clock(&exam);
    look_at_room(&exam);
    dk_pg_look_at_server(&exam);
    if (exam.rc != DK_OK) {
        dk_pg_lose(store, conn);
    }
    dk_pg_give(store, conn);
    return exam.rc;
}
