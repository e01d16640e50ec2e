/*
 * migrations: the numbered SQL files of sql/, compiled in.
 *
 * Called by the store's back ends. The array is made by scripts/embed_sql.sh, ascending.
 */
#ifndef DK_STORE_MIGRATIONS_H
#define DK_STORE_MIGRATIONS_H

struct dk_migration {
    unsigned number;
    const char *name;
    const char *sql;
};

extern const struct dk_migration dk_sqlite_migrations[];
extern const unsigned dk_sqlite_migration_count;

extern const struct dk_migration dk_postgres_migrations[];
extern const unsigned dk_postgres_migration_count;
extern const char dk_postgres_roles[]; /* before the first of them */

#endif
