/*
 * sqlite: the registry in one file, for one machine and many processes.
 *
 * WAL, synchronous FULL, 5 s of patience for a lock. Every transaction has a connection of its own
 * that is closed with it: SQLite forbids carrying a connection over fork(), and a closed one
 * cannot be carried. Cost: about 0.2 ms a transaction, on cold paths only.
 */
#ifndef DK_STORE_SQLITE_H
#define DK_STORE_SQLITE_H

#include "store/store.h"

extern const struct dk_store_ops dk_store_sqlite;

#endif
