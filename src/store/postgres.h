/*
 * postgres: the registry in a schema of a PostgreSQL database, for any number of nodes at once.
 *
 * Everything works through a pooler in transaction mode: settings are SET LOCAL, statements have no
 * names, nothing is kept in a session. Each transaction works as dekhand_rw, whoever logged in.
 * A write transaction does not keep others from writing: what two may not change at once is locked
 * row by row. A call waits 5 s at most for a connection, a lock, or an answer.
 */
#ifndef DK_STORE_POSTGRES_H
#define DK_STORE_POSTGRES_H

#include "store/store.h"

extern const struct dk_store_ops dk_store_postgres;

#endif
