/*
 * expect: what the test programs share: checks of a result, a world under the test's control, a
 * child process, a strict JSON reader.
 *
 * A test includes it after <cmocka.h>.
 */
#ifndef DK_TEST_EXPECT_H
#define DK_TEST_EXPECT_H

#include <stdatomic.h>

#include "base/bytes.h"
#include "base/world.h"

/* The call succeeds; else its text is shown. `err` is a struct dk_err. */
#define DK_TEST_OK(err, call)                                                                      \
    do {                                                                                           \
        dk_err_clear(&(err));                                                                      \
        if ((call) != DK_OK) {                                                                     \
            fail_msg("%s: %s", #call, (err).text);                                                 \
        }                                                                                          \
    } while (0)

/* The call ends with DK_E_<code>, and the record agrees and says something. */
#define DK_TEST_FAILS(err, code, call)                                                             \
    do {                                                                                           \
        dk_err_clear(&(err));                                                                      \
        assert_int_equal((call), DK_E_##code);                                                     \
        assert_int_equal((err).rc, DK_E_##code);                                                   \
        assert_true((err).text[0] != '\0');                                                        \
    } while (0)

/* The error's text holds these words. */
#define DK_TEST_SAYS(err, words)                                                                   \
    do {                                                                                           \
        if (strstr((err).text, (words)) == NULL) {                                                 \
            fail_msg("\"%s\" is not in \"%s\"", (words), (err).text);                              \
        }                                                                                          \
    } while (0)

/* A repeatable stream of numbers (splitmix64). */
uint64_t dk_test_random(uint64_t *state);
void dk_test_random_bytes(uint64_t *state, void *p, size_t n);

/* A world whose parts fail on demand; `world` is what the code under test gets. */
struct dk_test_world {
    struct dk_world world;
    atomic_uint allocs;        /* calls of alloc so far */
    atomic_int live;           /* blocks not yet freed */
    unsigned fail_alloc_at;    /* this call of alloc fails; 0 = none */
    unsigned fail_alloc_all;   /* that one and all after it */
    bool (*alloc_fails)(void); /* asked at each; NULL = never */
    bool random_fails;
    uint64_t random_state;
    int64_t wall_us;
    int64_t mono_ms;
    int64_t slept_ms; /* of the machine */
};
void dk_test_world_init(struct dk_test_world *w);

/*
 * Makes OpenSSL allocate through here; first thing in main(). Then dk_test_openssl_fail_in(n) makes
 * its nth allocation from now fail (0 = none does) and returns how many there were since the last
 * call.
 */
void dk_test_openssl_memory(void);
unsigned dk_test_openssl_fail_in(unsigned n);

/*
 * Runs `body` in a forked child, as an ordinary user (65534) when `ordinary_user` and we are root.
 * True when it returned 0; a signal or another value is told on standard error. No cmocka assert
 * may stand in the body: DK_TEST_CHILD does.
 */
bool dk_test_in_child(bool ordinary_user, int (*body)(void *arg), void *arg);
/* Its two halves; the first answers with the child's id. */
int dk_test_child_start(bool ordinary_user, int (*body)(void *arg), void *arg);
bool dk_test_child_end(int pid);
#define DK_TEST_CHILD(condition)                                                                   \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                        \
            return 1;                                                                              \
        }                                                                                          \
    } while (0)

/* For the rest of this process madvise(MADV_WIPEONFORK) fails, as on a kernel before 4.14. */
bool dk_test_no_wipeonfork(void);

/* A new empty folder that an ordinary user may write too; removed with all it holds (or kept where
   the harness looks for secrets in it). */
void dk_test_folder_new(char path[static 64]);
/* From now on in memory, where the machine has such a place, and none is kept: for tests that make
 * thousands. */
void dk_test_folders_in_memory(void);
void dk_test_folder_remove(const char *path);
/* Writes a file with exactly this mode. */
void dk_test_file_write(const char *path, const void *p, size_t n, unsigned mode);

/* One JSON document (RFC 8259, UTF-8, nothing after it). */
bool dk_test_json_valid(const char *p, size_t n);

#endif
