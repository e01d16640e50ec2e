/*
 * world: a registry in a folder of its own, and the world that instances over it live in.
 *
 * Clock, allocator and failures are those of dk_test_world (expect.h); the randomness is real, so
 * that several threads and processes may draw from it. Nothing here asserts: it serves forked
 * children too. What cannot fail for a good reason aborts.
 *
 * The registry is in SQLite, or where DEKHAND_TEST_STORE says: `postgres`, or `pooled` (PostgreSQL
 * behind PgBouncer in transaction mode, at DEKHAND_TEST_BOUNCER).
 */
#ifndef DK_TEST_WORLD_H
#define DK_TEST_WORLD_H

#include "door.h"
#include "support/expect.h"
#include "support/fake_provider.h"
#include "support/pg.h"

/* Room for a value of up to a few hundred bytes. */
#define DK_TEST_VALUE 512

enum dk_test_store { DK_SQLITE, DK_POSTGRES, DK_POOLED };

/* What a test keeps of a place. */
enum { DK_PLACE_COPIES = 2 };

struct dk_place {
    struct dk_test_world w;
    struct dk_limits limits; /* small caches; change it before opening */
    struct dk_fake *fake;    /* NULL = the provider that `provided` names, else local */
    bool fake_is_second;     /* the fake is KMS_SECONDARY_PROVIDER, the first is local */
    const struct dekhand_setting *provided; /* further settings, lent; NULL = none */
    size_t provided_count;
    char folder[64];
    char database[96];     /* the file of SQLite */
    char url[DK_PG_URL];   /* of a database of its own in PostgreSQL; "" = SQLite */
    char opens[DK_PG_URL]; /* what dekhand opens: the file, that database, or its pool */
    char copies[DK_PLACE_COPIES][DK_PG_URL]; /* files, or URLs */
    size_t copied;
    char away[DK_PG_URL];
    char log[4096]; /* the last lines of all instances, for one thread */
    size_t log_n;
    bool keep_log;
    struct dekhand_init_result made;
};

struct dk_test_value {
    uint8_t p[DK_TEST_VALUE];
    size_t n;
};

/* What DEKHAND_TEST_STORE says. */
enum dk_test_store dk_test_store(void);
/* A fresh folder with an initialised registry in it. */
void dk_place_new(struct dk_place *place, bool fake);
/* The same, not initialised. */
void dk_place_bare(struct dk_place *place, bool fake);
/* The same, whatever DEKHAND_TEST_STORE says. */
void dk_place_bare_on(struct dk_place *place, enum dk_test_store store, bool fake);
int dk_place_init(struct dk_place *place, struct dekhand_error *error);
void dk_place_free(struct dk_place *place);

int dk_place_try_open(struct dk_place *place, struct dekhand **out, struct dekhand_error *error);
/* dekhand_doctor in this place. */
int dk_place_doctor(struct dk_place *place,
                    void (*each)(void *arg, const struct dekhand_check *check), void *arg,
                    struct dekhand_doctor_result *out);
struct dekhand *dk_place_open(struct dk_place *place);
/* Closes; aborts when the counts could not be written. */
void dk_place_close(struct dekhand *d);

/* What dk_test_encrypt seals for `plain`: marked, so that the canary scan knows it. */
size_t dk_test_plain(const char *plain, char out[static DK_TEST_VALUE]);
/* Text values without a context. The answer is the call's code. */
int dk_test_encrypt(struct dekhand *d, const char *tenant, const char *plain,
                    struct dk_test_value *out);
/* DEKHAND_E_INTERNAL when it opens to another plaintext than `plain`. */
int dk_test_decrypt(struct dekhand *d, const char *tenant, const struct dk_test_value *value,
                    const char *plain);
/* One tenant; *to (may be NULL) = the new version. */
int dk_test_rotate(struct dekhand *d, const char *tenant, uint32_t if_version, uint32_t *to);
/* The version that a value names. */
uint32_t dk_test_version(const struct dk_test_value *value);

/* True when a fresh process opens the value as `plain`. */
bool dk_place_reads(struct dk_place *place, const char *tenant, const struct dk_test_value *value,
                    const char *plain);

/* ---- the database as others see it (world_sql.c) --------------------------------------------- */

bool dk_place_is_postgres(const struct dk_place *place);
/* The one that the place's store understands, where one text for both would be none. */
const char *dk_place_pick(const struct dk_place *place, const char *sqlite, const char *postgres);
/* Raw SQL as any program could send it, with every right there is; 0: it was done. */
int dk_place_sql(struct dk_place *place, const char *sql);
/* The triggers of a table do not hinder any more; a check of the schema tells. */
void dk_place_drop_triggers(struct dk_place *place, const char *table);
/* Puts back what that took, or SQL dropped, of the schema. */
void dk_place_mend(struct dk_place *place);
/* From now on the table refuses an event ("INSERT", "UPDATE OF messages"); one at a time. */
void dk_place_refuse(struct dk_place *place, const char *event, const char *table);
void dk_place_allow(struct dk_place *place, const char *table);
/* The whole database as it is now, put by; to be put back, as often as one likes, by its number. */
size_t dk_place_keep(struct dk_place *place);
void dk_place_put_back(struct dk_place *place, size_t copy);
/* The database is not there any more; and there again. */
void dk_place_take_away(struct dk_place *place);
bool dk_place_is_away(const struct dk_place *place);
void dk_place_bring_back(struct dk_place *place);
/* The database and its copies go; the folder stays. */
void dk_place_forget(struct dk_place *place);
/* The one number a query gives; aborts on an error. */
int64_t dk_place_number(struct dk_place *place, const char *sql);
/* Every row as text; without `history` not the log, the seals, and the heads of the tenants. The
   caller's, free(). */
char *dk_place_dump(struct dk_place *place, bool history);
/* True when the rows are those of `before`, which is freed; else both are shown. */
bool dk_place_unchanged(struct dk_place *place, bool history, char *before);

/* ---- threads and processes ------------------------------------------------------------------- */

/* `count` threads run `body` at the same moment, each with its index; returns when all ended. */
void dk_test_threads(size_t count, void (*body)(void *arg, size_t index), void *arg);
/* `count` forked children run `body` at the same moment; true when all returned 0. */
bool dk_test_processes(size_t count, int (*body)(void *arg, size_t index), void *arg);
/* Shared memory for what children report; zeroed. Given back with the process. */
void *dk_test_shared(size_t n);

#endif
