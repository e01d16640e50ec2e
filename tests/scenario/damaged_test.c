#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include <sqlite3.h>
#include <stdlib.h>
#include <unistd.h>

#include "support/world.h"

/*
 * F14: one byte of the database file, or of its WAL, is another. Every byte of page 1 and of the
 * WAL's header, and seeded others. Each call ends with a named error or with the right bytes; what
 * was encrypted over the damaged file opens over the whole one; nothing crashes. The slow builds
 * flip a part of them.
 */

#define PAGE 4096
#define WAL_HEADER 32
#define TENANTS 3
#define VALUES (2 * TENANTS)
#define FILE_MAX ((size_t)1 << 20)

#if defined(DK_SANITIZED) || defined(DK_COVER)
#define EVERY 8 /* of the bytes of page 1 */
#define OTHERS 250
#define WAL_OTHERS 100
#else
#define EVERY 1
#define OTHERS 2000
#define WAL_OTHERS 500
#endif

struct bytes {
    uint8_t *p;
    size_t n;
};

struct answers {
    atomic_uint good, refused;
};

/* A registry with everything in it, as files; the place itself stays whole. */
struct whole {
    struct dk_place place;
    struct dekhand *d;
    struct bytes database, wal, master_key, anchor;
    struct dk_test_value values[VALUES];
    bool of_wal;             /* which of the two is damaged */
    struct answers *answers; /* shared with the processes that try */
    size_t *told;            /* of each process: flips that some call told of */
};

static const char *const tenants[TENANTS] = {"acme", "globex", "initech"};

static void plain_of(size_t i, char out[static 32])
{
    snprintf(out, 32, "of %s, the %s", tenants[i % TENANTS], i < TENANTS ? "first" : "second");
}

/* ---- files ----------------------------------------------------------------------------------- */

static struct bytes read_file(const char *folder, const char *name)
{
    char path[160];
    struct bytes bytes = {.p = malloc(FILE_MAX)};
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "rbe");
    if (file == NULL || bytes.p == NULL) {
        abort();
    }
    bytes.n = fread(bytes.p, 1, FILE_MAX, file);
    fclose(file);
    return bytes;
}

static void write_file(const char *folder, const char *name, const struct bytes *bytes)
{
    char path[160];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    unlink(path);
    if (bytes->n > 0) {
        dk_test_file_write(path, bytes->p, bytes->n, 0600);
    }
}

static void fill(struct whole *whole)
{
    char plain[32];
    whole->d = dk_place_open(&whole->place);
    for (size_t i = 0; i < VALUES; i++) {
        plain_of(i, plain);
        assert_int_equal(dk_test_encrypt(whole->d, tenants[i % TENANTS], plain, &whole->values[i]),
                         DEKHAND_OK);
        assert_int_equal(dk_test_rotate(whole->d, tenants[i % TENANTS], 0, NULL), DEKHAND_OK);
    }
    whole->place.w.mono_ms += 60000; /* the anchor moves on */
    assert_int_equal(dekhand_tick(whole->d, NULL), DEKHAND_OK);
}

/* While another connection is open, the WAL is not copied back into the database. */
static void whole_new(struct whole *whole, bool of_wal)
{
    sqlite3 *other = NULL;
    memset(whole, 0, sizeof *whole);
    whole->of_wal = of_wal;
    whole->answers = dk_test_shared(sizeof *whole->answers);
    dk_place_new(&whole->place, false);
    if (of_wal) {
        assert_int_equal(sqlite3_open(whole->place.database, &other), SQLITE_OK);
        assert_int_equal(sqlite3_exec(other, "SELECT count(*) FROM tenants", NULL, NULL, NULL),
                         SQLITE_OK);
    }
    fill(whole);
    whole->database = read_file(whole->place.folder, "dekhand.db");
    whole->master_key = read_file(whole->place.folder, "master.key");
    whole->anchor = read_file(whole->place.folder, "anchor");
    if (of_wal) {
        whole->wal = read_file(whole->place.folder, "dekhand.db-wal");
        assert_true(whole->wal.n > 20 * PAGE);
    }
    sqlite3_close(other);
}

static void whole_free(struct whole *whole)
{
    dk_place_close(whole->d);
    free(whole->database.p);
    free(whole->wal.p);
    free(whole->master_key.p);
    free(whole->anchor.p);
    dk_place_free(&whole->place);
}

/* ---- one flip -------------------------------------------------------------------------------- */

/* Nobody is told of a defect of dekhand, nor that it is the caller's fault. To open, a byte of the
 * master key's own name is another master key. */
static int named(struct whole *whole, int code, const char *what, size_t at)
{
    static const char *const names[] = {
        "OK",         "E_STORE",           "E_SCHEMA",   "E_CONFIG", "E_TAMPERED",
        "E_ROLLBACK", "E_UNKNOWN_VERSION", "E_CONFLICT", "E_IO"};
    atomic_fetch_add(code == DEKHAND_OK ? &whole->answers->good : &whole->answers->refused, 1);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strcmp(dekhand_error_name(code), names[i]) == 0) {
            return 0;
        }
    }
    if (code == DEKHAND_E_NO_MASTER_KEY && strcmp(what, "open") == 0) {
        return 0;
    }
    fprintf(stderr, "byte %zu: %s: %s\n", at, what, dekhand_error_name(code));
    return 1;
}

static int encrypt_and_open_over_the_whole(struct whole *whole, struct dekhand *d, size_t at)
{
    struct dk_test_value value;
    int code = dk_test_encrypt(d, tenants[at % TENANTS], "sealed over damage", &value);
    DK_TEST_CHILD(named(whole, code, "encrypt", at) == 0);
    if (code == DEKHAND_OK) {
        code = dk_test_decrypt(whole->d, tenants[at % TENANTS], &value, "sealed over damage");
        DK_TEST_CHILD(code == DEKHAND_OK);
    }
    return 0;
}

static int decrypt_all(struct whole *whole, struct dekhand *d, size_t at)
{
    struct dekhand_item items[VALUES] = {0};
    uint8_t out[VALUES][DK_TEST_VALUE];
    char plain[32], marked[DK_TEST_VALUE];
    for (size_t i = 0; i < VALUES; i++) {
        items[i].tenant = tenants[i % TENANTS];
        items[i].in = whole->values[i].p;
        items[i].in_size = whole->values[i].n;
        items[i].out = out[i];
        items[i].capacity = sizeof out[i];
    }
    (void)dekhand_decrypt_batch(d, items, VALUES, NULL);
    for (size_t i = 0; i < VALUES; i++) {
        plain_of(i, plain);
        DK_TEST_CHILD(named(whole, items[i].code, "decrypt", at) == 0);
        size_t n = dk_test_plain(plain, marked);
        DK_TEST_CHILD(items[i].code != DEKHAND_OK ||
                      (items[i].size == n && memcmp(out[i], marked, n) == 0));
    }
    return 0;
}

static int use_damaged(struct whole *whole, struct dk_place *damaged, size_t at)
{
    struct dekhand *d = NULL;
    struct dekhand_error error;
    struct dekhand_audit_result audit = {.size = sizeof audit};
    int code = dk_place_try_open(damaged, &d, &error);
    DK_TEST_CHILD(named(whole, code, "open", at) == 0);
    if (code != DEKHAND_OK) {
        return 0;
    }
    DK_TEST_CHILD(decrypt_all(whole, d, at) == 0);
    DK_TEST_CHILD(encrypt_and_open_over_the_whole(whole, d, at) == 0);
    if (at % 8 == 0) {
        code = dekhand_audit_verify(d, NULL, NULL, &audit, NULL);
        DK_TEST_CHILD(named(whole, code, "audit verify", at) == 0);
    }
    (void)dekhand_close(d, NULL);
    return 0;
}

static int flip(struct whole *whole, struct dk_place *damaged, size_t at, uint8_t bits)
{
    struct bytes *bytes = whole->of_wal ? &whole->wal : &whole->database;
    const struct bytes none = {NULL, 0};
    bytes->p[at] ^= bits;
    write_file(damaged->folder, "dekhand.db", &whole->database);
    write_file(damaged->folder, "dekhand.db-wal", &whole->wal);
    write_file(damaged->folder, "dekhand.db-shm", &none);
    write_file(damaged->folder, "master.key", &whole->master_key);
    write_file(damaged->folder, "anchor", &whole->anchor);
    bytes->p[at] ^= bits;
    return use_damaged(whole, damaged, at);
}

/* ---- all of them, by two processes ----------------------------------------------------------- */

static int flip_many(void *arg, size_t index)
{
    struct whole *whole = arg;
    struct dk_place damaged;
    uint64_t random = 14 + index;
    size_t head = whole->of_wal ? WAL_HEADER : PAGE;
    size_t size = whole->of_wal ? whole->wal.n : whole->database.n;
    dk_place_bare(&damaged, false);
    damaged.w.wall_us = whole->place.w.wall_us;
    for (size_t at = index; at < head; at += whole->of_wal ? 2 : 2 * EVERY) {
        uint8_t bits = (uint8_t)(1 + dk_test_random(&random) % 255);
        DK_TEST_CHILD(flip(whole, &damaged, at, bits) == 0);
    }
    for (size_t i = 0; i < (whole->of_wal ? WAL_OTHERS : OTHERS) / 2; i++) {
        uint8_t bits = (uint8_t)(1 + dk_test_random(&random) % 255);
        size_t at = head + dk_test_random(&random) % (size - head);
        DK_TEST_CHILD(flip(whole, &damaged, at, bits) == 0);
    }
    dk_place_free(&damaged);
    return 0;
}

static void flip_all(bool of_wal)
{
    static struct whole whole;
    whole_new(&whole, of_wal);
    assert_true(dk_test_processes(2, flip_many, &whole));
    assert_true(whole.answers->good > 0 && whole.answers->refused > 10);
    print_message("%u calls right, %u refused\n", whole.answers->good, whole.answers->refused);
    whole_free(&whole);
}

static void F14_a_flipped_byte_of_the_database_gives_no_wrong_plaintext(void **state)
{
    (void)state;
    flip_all(false);
}

static void F14_a_flipped_byte_of_the_wal_gives_no_wrong_plaintext(void **state)
{
    (void)state;
    flip_all(true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(F14_a_flipped_byte_of_the_database_gives_no_wrong_plaintext),
        cmocka_unit_test(F14_a_flipped_byte_of_the_wal_gives_no_wrong_plaintext),
    };
    dk_test_folders_in_memory();
    return cmocka_run_group_tests_name("damaged", tests, NULL, NULL);
}
