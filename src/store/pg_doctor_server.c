/* The doctor's look at the server: what survives what, and what goes well for how long. */
#include <stdio.h>
#include <string.h>

#include "store/pg_doctor.h"

#define FIX 400
#define OLD_SECONDS 3600
#define SPAN_MAX 1000000 /* transactions between the oldest one that runs and the newest */
#define LAG_BYTES (INT64_C(16) * 1024 * 1024)
#define LAG_SECONDS 10
#define AGE_MAX 1200000000 /* transactions; the server takes no writes from 2 147 000 000 on */
#define SEE_MORE "GRANT pg_monitor TO the login, to see it"

/* ---- settings -------------------------------------------------------------------------------- */

#define SETTINGS                                                                                   \
    "SELECT pg_is_in_recovery(), current_setting('default_transaction_read_only'), "               \
    "current_setting('fsync'), current_setting('full_page_writes'), "                              \
    "current_setting('synchronous_commit'), current_setting('synchronous_standby_names'), "        \
    "current_setting('data_checksums'), getdatabaseencoding()::text, "                             \
    "to_regproc('pg_catalog.aurora_version') IS NOT NULL OR "                                      \
    "coalesce(current_setting('neon.timeline_id', true), '') <> ''"

struct settings {
    bool standby, storage;
    const char *read_only, *fsync, *full_pages, *commit, *standbys, *checksums, *encoding;
};

static bool read_settings(const PGresult *r, struct settings *out)
{
    return dk_pg_get_bool(r, 0, 0, &out->standby) && dk_pg_lend_str(r, 0, 1, &out->read_only) &&
           dk_pg_lend_str(r, 0, 2, &out->fsync) && dk_pg_lend_str(r, 0, 3, &out->full_pages) &&
           dk_pg_lend_str(r, 0, 4, &out->commit) && dk_pg_lend_str(r, 0, 5, &out->standbys) &&
           dk_pg_lend_str(r, 0, 6, &out->checksums) && dk_pg_lend_str(r, 0, 7, &out->encoding) &&
           dk_pg_get_bool(r, 0, 8, &out->storage);
}

static bool is_off(const char *setting)
{
    return strcmp(setting, "off") == 0;
}

static void tell_primary(struct dk_pg_exam *exam, const struct settings *s)
{
    if (s->standby) {
        dk_pg_note(exam, DK_STORE_FINDING, "primary",
                   "name all servers in DATABASE_URL (postgresql://app@one,two/db): the one that "
                   "takes writes is found; or let the pooler point at it",
                   "this is a standby: what is here opens, nothing new is made, and a rotation is "
                   "seen when it arrives");
    } else if (!is_off(s->read_only)) {
        dk_pg_note(exam, DK_STORE_FINDING, "primary",
                   "ALTER ROLE .. / ALTER DATABASE .. RESET default_transaction_read_only, unless "
                   "the server's disk is full: then make room first",
                   "default_transaction_read_only is on for this login: somebody wants no writes "
                   "here");
    } else {
        dk_pg_note(exam, DK_STORE_WELL, "primary", "", "it takes writes, and is no standby");
    }
}

static void tell_durability(struct dk_pg_exam *exam, const struct settings *s)
{
    char fix[FIX];
    bool fsync = is_off(s->fsync);
    if (s->storage) {
        dk_pg_note(exam, DK_STORE_WELL, "durability", "",
                   "a service with storage of its own: it does not depend on fsync here");
    } else if (fsync || is_off(s->full_pages)) {
        snprintf(fix, sizeof fix, "ALTER SYSTEM SET %s = on; SELECT pg_reload_conf()",
                 fsync ? "fsync" : "full_page_writes");
        dk_pg_note(exam, DK_STORE_FINDING, "durability", fix,
                   "%s is off: a power cut may damage the registry beyond repair, and with it "
                   "every value",
                   fsync ? "fsync" : "full_page_writes");
    } else {
        dk_pg_note(exam, DK_STORE_WELL, "durability", "", "fsync and full_page_writes are on");
    }
    if (!s->storage && is_off(s->checksums)) {
        dk_pg_note(exam, DK_STORE_NOTE, "checksums",
                   "pg_checksums --enable, while the server is stopped",
                   "data_checksums is off: a page that the disk changes is not noticed by the "
                   "server, only row by row by `dekhand audit verify`");
    }
}

static void tell_commit(struct dk_pg_exam *exam, const struct settings *s)
{
    if (is_off(s->commit) || strcmp(s->commit, "local") == 0) {
        dk_pg_note(exam, DK_STORE_FINDING, "commit",
                   "ALTER ROLE .. SET synchronous_commit = on, for this login",
                   "synchronous_commit is %.20s: %s", s->commit,
                   is_off(s->commit)
                       ? "a crash of the server loses keys that values were sealed under already"
                       : "a failover loses keys that values were sealed under already");
    } else if (strcmp(s->commit, "remote_write") == 0) {
        dk_pg_note(exam, DK_STORE_NOTE, "commit",
                   "ALTER ROLE .. SET synchronous_commit = on, for this login",
                   "synchronous_commit is remote_write: keys are lost where primary and standby "
                   "lose their power at once");
    } else {
        dk_pg_note(exam, DK_STORE_WELL, "commit", "", "synchronous_commit is %.20s", s->commit);
    }
}

static void tell_encoding(struct dk_pg_exam *exam, const struct settings *s)
{
    if (strcmp(s->encoding, "UTF8") == 0) {
        dk_pg_note(exam, DK_STORE_WELL, "encoding", "", "UTF8");
    } else {
        dk_pg_note(exam, DK_STORE_FINDING, "encoding",
                   "make a database with ENCODING 'UTF8' TEMPLATE template0, and move to it "
                   "(docs/OPERATIONS.md, PostgreSQL)",
                   "the database is in %.30s: names and texts beyond it are refused, or come back "
                   "as others",
                   s->encoding);
    }
}

/* ---- replication ----------------------------------------------------------------------------- */

/* Those that copy the whole server; a backup is none, nor is who subscribes to tables. */
#define STANDBYS                                                                                   \
    "SELECT count(*), count(*) FILTER (WHERE r.sync_state IN ('sync', 'quorum')), count(*) "       \
    "FILTER "                                                                                      \
    "(WHERE r.sync_state IS NULL), coalesce(max(extract(epoch FROM r.replay_lag)), 0)::bigint, "   \
    "coalesce(max(CASE WHEN pg_is_in_recovery() THEN 0 ELSE pg_wal_lsn_diff("                      \
    "pg_current_wal_lsn(), r.replay_lsn) END), 0)::bigint, (SELECT count(*) FROM "                 \
    "pg_catalog.pg_replication_slots WHERE slot_type = 'physical' AND NOT active) FROM "           \
    "pg_catalog.pg_stat_replication r LEFT JOIN pg_catalog.pg_replication_slots l ON "             \
    "l.active_pid = r.pid WHERE r.state IS DISTINCT FROM 'backup' AND l.slot_type IS DISTINCT "    \
    "FROM 'logical'"

struct standbys {
    int64_t all, synchronous, unseen, lag_s, lag_bytes, away;
};

static bool read_standbys(const PGresult *r, struct standbys *out)
{
    int64_t *const fields[] = {&out->all,   &out->synchronous, &out->unseen,
                               &out->lag_s, &out->lag_bytes,   &out->away};
    for (int i = 0; i < 6; i++) {
        if (!dk_pg_get_int(r, 0, i, 0, INT64_MAX, fields[i])) {
            return false;
        }
    }
    return true;
}

static void tell_replication(struct dk_pg_exam *exam, const struct settings *s,
                             const struct standbys *of)
{
    bool wanted = s->standbys[0] != '\0';
    if (wanted && of->synchronous > 0) {
        dk_pg_note(exam, DK_STORE_WELL, "replication", "",
                   "%lld standby%s, %lld of them synchronous: a failover to it loses nothing that "
                   "was acknowledged",
                   (long long)of->all, of->all == 1 ? "" : "s", (long long)of->synchronous);
    } else if (wanted && of->unseen > 0) {
        dk_pg_note(exam, DK_STORE_NOTE, "replication", SEE_MORE,
                   "%lld standby%s; whether one is synchronous cannot be seen by this login",
                   (long long)of->all, of->all == 1 ? "" : "s");
    } else if (wanted) {
        dk_pg_note(exam, DK_STORE_FINDING, "replication",
                   "bring the standby back; SELECT * FROM pg_stat_replication shows who is there",
                   "synchronous_standby_names is %.100s, and no such standby is there: every "
                   "commit waits for it, and ends with E_UNREACHABLE",
                   s->standbys);
    } else if (of->all > 0 || of->away > 0) {
        dk_pg_note(exam, DK_STORE_FINDING, "replication",
                   "ALTER SYSTEM SET synchronous_standby_names = 'ANY 1 (*)'; SELECT "
                   "pg_reload_conf(); with two standbys, so that one may be away",
                   "%lld standby%s%s, none synchronous: a failover may lose acknowledged keys, and "
                   "what was sealed under them never opens",
                   (long long)(of->all + of->away), of->all + of->away == 1 ? "" : "s",
                   of->away > 0 ? ", some of them away" : "");
    } else if (s->storage) {
        dk_pg_note(exam, DK_STORE_WELL, "replication", "",
                   "a matter of the service's storage, and not seen from here");
    } else {
        dk_pg_note(exam, DK_STORE_NOTE, "replication",
                   "add a synchronous standby, or archive the WAL and copy the registry after each "
                   "rotation (docs/OPERATIONS.md, PostgreSQL)",
                   "a single server, as far as it says: with its disk all keys since the last copy "
                   "are lost");
    }
}

static void tell_lag(struct dk_pg_exam *exam, const struct standbys *of)
{
    if (of->all == 0) {
        return;
    }
    if (of->unseen > 0) {
        dk_pg_note(exam, DK_STORE_NOTE, "lag", SEE_MORE,
                   "how far the standbys are behind cannot be seen by this login");
    } else if (of->lag_s > LAG_SECONDS || of->lag_bytes > LAG_BYTES) {
        dk_pg_note(exam, DK_STORE_NOTE, "lag",
                   "see what holds it up: SELECT * FROM pg_stat_replication; "
                   "pg_wal_replay_resume() where it was paused",
                   "a standby is behind by %lld s, %lld KiB of WAL: reading there sees old keys, "
                   "and a failover takes that long",
                   (long long)of->lag_s, (long long)(of->lag_bytes / 1024));
    } else {
        dk_pg_note(exam, DK_STORE_WELL, "lag", "", "the standbys are behind by %lld s at most",
                   (long long)of->lag_s);
    }
}

static void look_at_standbys(struct dk_pg_exam *exam, const struct settings *s)
{
    PGresult *r = NULL;
    struct standbys of;
    if (s->standby || !dk_pg_inquire(exam, "replication", STANDBYS, false, &r)) {
        return;
    }
    if (read_standbys(r, &of)) {
        tell_replication(exam, s, &of);
        tell_lag(exam, &of);
    } else {
        dk_pg_odd(exam, "replication");
    }
    PQclear(r);
}

/* ---- what goes on for too long --------------------------------------------------------------- */

/* Of other users' sessions a login sees neither query nor times. */
#define TRANSACTIONS                                                                               \
    "SELECT (SELECT count(*) FROM pg_catalog.pg_prepared_xacts), coalesce((SELECT gid FROM "       \
    "pg_catalog.pg_prepared_xacts ORDER BY prepared LIMIT 1), ''), coalesce(max(extract(epoch "    \
    "FROM clock_timestamp() - xact_start)), 0)::bigint, coalesce((array_agg(pid ORDER BY "         \
    "xact_start))[1], 0), count(*) FILTER (WHERE query = '<insufficient privilege>' AND usesysid " \
    "IS NOT NULL), (pg_snapshot_xmax(pg_current_snapshot())::text::bigint - "                      \
    "pg_snapshot_xmin(pg_current_snapshot())::text::bigint) FROM pg_catalog.pg_stat_activity "     \
    "WHERE pid <> pg_backend_pid() AND datid IS NOT NULL AND backend_type IS DISTINCT FROM "       \
    "'walsender'"

static void look_at_transactions(struct dk_pg_exam *exam)
{
    static const char *const name = "transactions";
    static const char *const meaning =
        "polls look again at what changed since it began, and VACUUM takes nothing away";
    PGresult *r = NULL;
    int64_t prepared = 0, oldest_s = 0, pid = 0, unseen = 0, span = 0;
    const char *gid;
    char fix[FIX];
    if (!dk_pg_inquire(exam, name, TRANSACTIONS, false, &r)) {
        return;
    }
    bool good = dk_pg_get_int(r, 0, 0, 0, INT32_MAX, &prepared) && dk_pg_lend_str(r, 0, 1, &gid) &&
                dk_pg_get_int(r, 0, 2, 0, INT64_MAX, &oldest_s) &&
                dk_pg_get_int(r, 0, 3, 0, INT32_MAX, &pid) &&
                dk_pg_get_int(r, 0, 4, 0, INT32_MAX, &unseen) &&
                dk_pg_get_int(r, 0, 5, 0, INT64_MAX, &span);
    if (!good) {
        dk_pg_odd(exam, name);
    } else if (prepared > 0) {
        snprintf(fix, sizeof fix,
                 "COMMIT PREPARED or ROLLBACK PREPARED '%.200s', if nobody will any more", gid);
        dk_pg_note(exam, DK_STORE_NOTE, name, fix,
                   "%lld prepared transaction%s, the oldest "
                   "'%.200s': while it is there, %s",
                   (long long)prepared, prepared == 1 ? "" : "s", gid, meaning);
    } else if (oldest_s > OLD_SECONDS) {
        snprintf(fix, sizeof fix, "see what it is for, or SELECT pg_terminate_backend(%lld)",
                 (long long)pid);
        dk_pg_note(exam, DK_STORE_NOTE, name, fix,
                   "one is open for %lld minutes, of process %lld: while it is there, %s",
                   (long long)oldest_s / 60, (long long)pid, meaning);
    } else if (span > SPAN_MAX) {
        dk_pg_note(exam, DK_STORE_NOTE, name,
                   "see pg_stat_activity for the oldest xact_start, as who may see all of it",
                   "%lld transactions began since the oldest that is still open: %s",
                   (long long)span, meaning);
    } else if (unseen > 0) {
        dk_pg_note(exam, DK_STORE_NOTE, name, SEE_MORE,
                   "those of %lld other session%s cannot be seen by this login; none of them holds "
                   "much back",
                   (long long)unseen, unseen == 1 ? "" : "s");
    } else {
        dk_pg_note(exam, DK_STORE_WELL, name, "", "none is prepared, none is open for an hour");
    }
    PQclear(r);
}

#define AGES                                                                                       \
    "SELECT datname::text, greatest(age(datfrozenxid), mxid_age(datminmxid)) FROM "                \
    "pg_catalog.pg_database ORDER BY 2 DESC LIMIT 1"

static void look_at_age(struct dk_pg_exam *exam)
{
    PGresult *r = NULL;
    const char *database;
    int64_t age = 0;
    if (!dk_pg_inquire(exam, "wraparound", AGES, false, &r)) {
        return;
    }
    if (!dk_pg_lend_str(r, 0, 0, &database) || !dk_pg_get_int(r, 0, 1, 0, INT32_MAX, &age)) {
        dk_pg_odd(exam, "wraparound");
    } else if (age > AGE_MAX) {
        dk_pg_note(
            exam, DK_STORE_FINDING, "wraparound",
            "end old transactions, prepared ones and replication slots, then VACUUM (FREEZE) "
            "in that database",
            "database %.63s is %lld million transactions behind with freezing: at 2147 the "
            "server takes no writes",
            database, (long long)age / 1000000);
    } else {
        dk_pg_note(exam, DK_STORE_WELL, "wraparound", "", "far: %lld million transactions of 2147",
                   (long long)age / 1000000);
    }
    PQclear(r);
}

/* ---- all of it ------------------------------------------------------------------------------- */

void dk_pg_look_at_server(struct dk_pg_exam *exam)
{
    PGresult *r = NULL;
    struct settings s;
    if (dk_pg_inquire(exam, "primary", SETTINGS, false, &r)) {
        if (read_settings(r, &s)) {
            tell_primary(exam, &s);
            tell_durability(exam, &s);
            tell_commit(exam, &s);
            look_at_standbys(exam, &s);
            tell_encoding(exam, &s);
        } else {
            dk_pg_odd(exam, "primary");
        }
        PQclear(r);
    }
    look_at_transactions(exam);
    look_at_age(exam);
}
