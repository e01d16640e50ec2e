/*
 * pg: a PostgreSQL server for the tests, databases on it, and SQL that goes by no code of ours.
 *
 * The server is the one that DEKHAND_TEST_PG names (the harness starts one for all suites), else
 * one of this process's own, started at the first call and gone with it, however it ends. Programs
 * run in the repository's root. Threads may call at the same time.
 */
#ifndef DK_TEST_PG_H
#define DK_TEST_PG_H

#include <stdbool.h>
#include <stdint.h>

enum { DK_PG_URL = 160 };

/* The URL of the superuser's database `postgres`; no server to be had ends the process. */
const char *dk_pg_server(void);

/* A new empty database; its URL is the superuser's. */
void dk_pg_database_new(char url[static DK_PG_URL]);
/* In what follows, whoever is connected to a database is sent away. */
/* A new one with what `url` holds. */
void dk_pg_database_copy(const char *url, char out[static DK_PG_URL]);
/* `url` holds what `from` holds, and nothing of what it held. */
void dk_pg_database_replace(const char *url, const char *from);
/* Gives it a name of a new one; the URL is then that. */
void dk_pg_database_rename(const char *url, char out[static DK_PG_URL]);
/* The other way. */
void dk_pg_database_rename_to(const char *url, const char *name_of);
void dk_pg_database_drop(const char *url);

/*
 * The same database behind a PgBouncer in transaction mode: at DEKHAND_TEST_BOUNCER, or before the
 * server of this process's own.
 */
void dk_pg_pooled(const char *url, char out[static DK_PG_URL]);

/*
 * Runs SQL as the URL's user. `state` becomes its SQLSTATE: "00000" when all was good, else that of
 * the first error; "08006" when there is no connection. Several statements are one transaction.
 */
bool dk_pg_sql(const char *url, const char *sql, char state[static 6]);
/* Its first column of its first row; anything but a number ends the process. */
int64_t dk_pg_number(const char *url, const char *sql);
/* All rows, `|` between columns and a line feed after each row; caller frees. Errors end the
 * process. */
char *dk_pg_text(const char *url, const char *sql);

#endif
