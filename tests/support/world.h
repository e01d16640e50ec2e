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

struct dk_place {
    struct dk_test_world w;
    struct dk_limits limits; /* small caches; change it before opening */
    struct dk_fake *fake;    /* NULL = the local provider */
    char folder[64];
    char database[96];   /* the file of SQLite */
    char url[DK_PG_URL]; /* of a database of its own in PostgreSQL; "" = SQLite */
    char log[4096];      /* the last lines of all instances, for one thread */
    size_t log_n;
    bool keep_log;
    struct dekhand_init_result made;
};

struct dk_test_value {
    uint8_t p[DK_TEST_VALUE];
    size_t n;
};

/* A fresh folder with an initialised registry in it. */
void dk_place_new(struct dk_place *place, bool fake);
/* The same, not initialised. */
void dk_place_bare(struct dk_place *place, bool fake);
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

/* Raw SQL as any program could send it, with every right there is; 0: it was done. */
int dk_place_sql(struct dk_place *place, const char *sql);
/* Puts back what such SQL dropped of the schema. */
void dk_place_mend(struct dk_place *place);
/* The one number a query gives; aborts on an error. */
int64_t dk_place_number(struct dk_place *place, const char *sql);
/* Every row as text; without `history` not the log, the seals, and the heads of the tenants. The
   caller's, free(). */
char *dk_place_dump(struct dk_place *place, bool history);
/* True when the rows are those of `before`, which is freed; else both are shown. */
bool dk_place_unchanged(struct dk_place *place, bool history, char *before);

/* `count` threads run `body` at the same moment, each with its index; returns when all ended. */
void dk_test_threads(size_t count, void (*body)(void *arg, size_t index), void *arg);
/* `count` forked children run `body` at the same moment; true when all returned 0. */
bool dk_test_processes(size_t count, int (*body)(void *arg, size_t index), void *arg);
/* Shared memory for what children report; zeroed. Given back with the process. */
void *dk_test_shared(size_t n);

#endif
