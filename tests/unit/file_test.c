#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#include "base/file.h"
#include "support/expect.h"

static struct dk_err err;
static char folder[64];

static int make_folder(void **state)
{
    (void)state;
    dk_test_folder_new(folder);
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    dk_test_folder_remove(folder);
    return 0;
}

/* A path in the test's folder; four may be in use at a time. */
static const char *in(const char *name)
{
    static char paths[4][DK_PATH_MAX];
    static unsigned next;
    char *path = paths[next++ % 4];
    snprintf(path, DK_PATH_MAX, "%s/%s", folder, name);
    return path;
}

static size_t entries(void)
{
    size_t n = 0;
    DIR *dir = opendir(folder);
    assert_non_null(dir);
    for (struct dirent *d; (d = readdir(dir)) != NULL;) {
        n += strcmp(d->d_name, ".") != 0 && strcmp(d->d_name, "..") != 0;
    }
    closedir(dir);
    return n;
}

static unsigned mode_of(const char *path)
{
    struct stat st;
    assert_int_equal(lstat(path, &st), 0);
    return (unsigned)st.st_mode & 07777;
}

static void holds(const char *path, const char *want)
{
    char got[256] = "";
    FILE *file = fopen(path, "re");
    assert_non_null(file);
    size_t n = fread(got, 1, sizeof got - 1, file);
    fclose(file);
    assert_int_equal(n, strlen(want));
    assert_string_equal(got, want);
}

static void joined_paths_fit_or_are_refused(void **state)
{
    (void)state;
    char out[DK_PATH_MAX], name[DK_PATH_MAX + 1];
    DK_TEST_OK(err, dk_path_join(out, "/a/b", "c", &err));
    assert_string_equal(out, "/a/b/c");
    memset(name, 'n', sizeof name);
    name[DK_PATH_MAX - 3] = '\0'; /* "d/" and the NUL fill it exactly */
    DK_TEST_OK(err, dk_path_join(out, "d", name, &err));
    assert_int_equal(strlen(out), DK_PATH_MAX - 1);
    name[DK_PATH_MAX - 3] = 'n';
    name[DK_PATH_MAX - 2] = '\0';
    DK_TEST_FAILS(err, CONFIG, dk_path_join(out, "d", name, &err));
}

static void new_folders_are_private_and_old_ones_are_left_alone(void **state)
{
    (void)state;
    mode_t old = umask(0);
    DK_TEST_OK(err, dk_dir_make(in("a/b/c"), &err));
    umask(old);
    assert_int_equal(mode_of(in("a")), 0700);
    assert_int_equal(mode_of(in("a/b/c")), 0700);
    assert_int_equal(chmod(in("a/b"), 0755), 0);
    DK_TEST_OK(err, dk_dir_make(in("a/b/c"), &err));
    DK_TEST_OK(err, dk_dir_make(in("a//b/d/"), &err));
    assert_int_equal(mode_of(in("a/b")), 0755);
    assert_true(dk_file_exists(in("a/b/d")));
    DK_TEST_OK(err, dk_dir_make("/", &err));
}

static void what_cannot_be_a_folder_is_named(void **state)
{
    (void)state;
    char name[DK_PATH_MAX + 2];
    DK_TEST_FAILS(err, CONFIG, dk_dir_make("", &err));
    memset(name, 'n', sizeof name);
    name[DK_PATH_MAX] = '\0';
    DK_TEST_FAILS(err, CONFIG, dk_dir_make(name, &err));
    dk_test_file_write(in("plain"), "x", 1, 0600);
    DK_TEST_FAILS(err, CONFIG, dk_dir_make(in("plain"), &err));
    DK_TEST_SAYS(err, "is not a folder");
    DK_TEST_FAILS(err, IO, dk_dir_make(in("plain/below"), &err));
    assert_int_equal(err.backend, ENOTDIR);
    assert_int_equal(symlink("nowhere", in("dangling")), 0);
    DK_TEST_FAILS(err, CONFIG, dk_dir_make(in("dangling"), &err));
}

static void existence_does_not_follow_links(void **state)
{
    (void)state;
    assert_false(dk_file_exists(in("link")));
    assert_int_equal(symlink("nowhere", in("link")), 0);
    assert_true(dk_file_exists(in("link")));
}

static void a_private_file_opens_for_reading(void **state)
{
    (void)state;
    static const unsigned modes[] = {0600, 0400, 0700};
    for (size_t i = 0; i < 3; i++) {
        int fd = -1;
        char got[8] = "";
        dk_test_file_write(in("key"), "secret", 6, modes[i]);
        DK_TEST_OK(err, dk_file_open_private(in("key"), &fd, &err));
        assert_int_equal(read(fd, got, sizeof got), 6);
        assert_memory_equal(got, "secret", 6);
        assert_int_equal(write(fd, "x", 1), -1);
        assert_true((fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
        close(fd);
        assert_int_equal(unlink(in("key")), 0);
    }
}

static void F75_a_file_that_others_may_touch_is_refused(void **state)
{
    (void)state;
    for (unsigned bit = 1; bit <= 040; bit <<= 1) {
        int fd = -1;
        char mode[32];
        dk_test_file_write(in("key"), "secret", 6, 0600 | bit);
        DK_TEST_FAILS(err, CONFIG, dk_file_open_private(in("key"), &fd, &err));
        snprintf(mode, sizeof mode, "mode %04o", 0600 | bit);
        DK_TEST_SAYS(err, mode);
        DK_TEST_SAYS(err, "chmod 600");
        assert_int_equal(fd, -1);
    }
    int fd = -1;
    dk_test_file_write(in("key"), "secret", 6, 0644);
    DK_TEST_FAILS(err, CONFIG, dk_file_open_private(in("key"), &fd, &err));
}

static void F75_a_symbolic_link_is_refused(void **state)
{
    (void)state;
    int fd = -1;
    dk_test_file_write(in("key"), "secret", 6, 0600);
    assert_int_equal(symlink("key", in("link")), 0);
    DK_TEST_FAILS(err, CONFIG, dk_file_open_private(in("link"), &fd, &err));
    DK_TEST_SAYS(err, "symbolic link");
    assert_int_equal(symlink("nowhere", in("dangling")), 0);
    DK_TEST_FAILS(err, CONFIG, dk_file_open_private(in("dangling"), &fd, &err));
    assert_int_equal(fd, -1);
}

static void F75_what_is_no_regular_file_is_refused_without_waiting(void **state)
{
    (void)state;
    int fd = -1;
    assert_int_equal(mkfifo(in("fifo"), 0600), 0);
    alarm(20); /* an open() that waits for a writer would never end */
    DK_TEST_FAILS(err, CONFIG, dk_file_open_private(in("fifo"), &fd, &err));
    alarm(0);
    DK_TEST_SAYS(err, "not a regular file");
    assert_int_equal(mkdir(in("dir"), 0700), 0);
    DK_TEST_FAILS(err, CONFIG, dk_file_open_private(in("dir"), &fd, &err));
    DK_TEST_FAILS(err, CONFIG, dk_file_open_private("/dev/null", &fd, &err));
    assert_int_equal(fd, -1);
}

static int meets_files_of_others(void *arg)
{
    int fd = -1;
    (void)arg;
    dk_err_clear(&err);
    DK_TEST_CHILD(dk_file_open_private("/etc/passwd", &fd, &err) == DK_E_CONFIG);
    DK_TEST_CHILD(strstr(err.text, "belongs to user 0") != NULL);
    dk_err_clear(&err);
    DK_TEST_CHILD(dk_file_open_private("/etc/shadow", &fd, &err) == DK_E_IO);
    DK_TEST_CHILD(err.backend == EACCES);
    DK_TEST_CHILD(fd == -1);
    return 0;
}

static void F75_a_file_of_another_user_is_refused(void **state)
{
    (void)state;
    assert_true(dk_test_in_child(true, meets_files_of_others, NULL));
}

static int refuses_the_users_file_as_root(void *arg)
{
    int fd = -1;
    dk_err_clear(&err);
    DK_TEST_CHILD(chown(arg, 65534, 65534) == 0);
    DK_TEST_CHILD(dk_file_open_private(arg, &fd, &err) == DK_E_CONFIG);
    DK_TEST_CHILD(strstr(err.text, "belongs to user 65534") != NULL);
    DK_TEST_CHILD(strstr(err.text, "chown") != NULL);
    return 0;
}

static int opens_its_own(void *arg)
{
    int fd = -1;
    dk_err_clear(&err);
    DK_TEST_CHILD(dk_file_open_private(arg, &fd, &err) == DK_OK);
    return 0;
}

static void F75_root_too_refuses_a_file_of_another_user(void **state)
{
    (void)state;
    if (geteuid() != 0) {
        skip(); /* only root can give a file away */
    }
    char path[DK_PATH_MAX];
    snprintf(path, sizeof path, "%s", in("key"));
    dk_test_file_write(path, "secret", 6, 0600);
    assert_true(dk_test_in_child(false, refuses_the_users_file_as_root, path));
    assert_true(dk_test_in_child(true, opens_its_own, path)); /* its owner may */
}

static void a_missing_private_file_is_not_found(void **state)
{
    (void)state;
    int fd = -1;
    DK_TEST_FAILS(err, NOT_FOUND, dk_file_open_private(in("none"), &fd, &err));
    dk_test_file_write(in("plain"), "x", 1, 0600);
    DK_TEST_FAILS(err, NOT_FOUND, dk_file_open_private(in("plain/below"), &fd, &err));
    assert_int_equal(fd, -1);
}

static void a_created_file_is_private_and_never_replaces_one(void **state)
{
    (void)state;
    mode_t old = umask(0);
    DK_TEST_OK(err, dk_file_create(in("key"), "secret", 6, &err));
    umask(old);
    assert_int_equal(mode_of(in("key")), 0600);
    holds(in("key"), "secret");
    DK_TEST_FAILS(err, CONFLICT, dk_file_create(in("key"), "other", 5, &err));
    DK_TEST_SAYS(err, "exists already");
    holds(in("key"), "secret");
    assert_int_equal(symlink("elsewhere", in("link")), 0);
    DK_TEST_FAILS(err, CONFLICT, dk_file_create(in("link"), "other", 5, &err));
    assert_false(dk_file_exists(in("elsewhere")));
    DK_TEST_FAILS(err, IO, dk_file_create(in("none/key"), "x", 1, &err));
    assert_int_equal(err.backend, ENOENT);
    DK_TEST_OK(err, dk_file_create(in("empty"), NULL, 0, &err));
    holds(in("empty"), "");
}

enum { CREATORS = 8 };

static void *create_one(void *arg)
{
    struct dk_err mine;
    dk_err_clear(&mine);
    return (void *)(uintptr_t)dk_file_create(arg, "secret", 6, &mine);
}

static void of_many_creators_one_wins(void **state)
{
    (void)state;
    char path[DK_PATH_MAX];
    snprintf(path, sizeof path, "%s", in("key"));
    pthread_t threads[CREATORS];
    unsigned won = 0, lost = 0;
    for (int i = 0; i < CREATORS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, create_one, path), 0);
    }
    for (int i = 0; i < CREATORS; i++) {
        void *rc = NULL;
        pthread_join(threads[i], &rc);
        won += rc == NULL;
        lost += (uintptr_t)rc == DK_E_CONFLICT;
    }
    assert_int_equal(won, 1);
    assert_int_equal(lost, CREATORS - 1);
}

/* A disk that takes 4 bytes a file, and then says no. */
static int small_disk(void)
{
    struct rlimit four = {4, 4};
    struct sigaction ignore = {.sa_handler = SIG_IGN};
    return sigaction(SIGXFSZ, &ignore, NULL) == 0 ? setrlimit(RLIMIT_FSIZE, &four) : -1;
}

static int creates_on_a_small_disk(void *arg)
{
    dk_err_clear(&err);
    DK_TEST_CHILD(small_disk() == 0);
    DK_TEST_CHILD(dk_file_create(arg, "more than four", 14, &err) == DK_E_IO);
    DK_TEST_CHILD(err.backend == EFBIG);
    DK_TEST_CHILD(!dk_file_exists(arg));
    DK_TEST_CHILD(dk_file_create(arg, "four", 4, &err) == DK_OK);
    return 0;
}

static void F11_a_file_that_does_not_fit_leaves_nothing(void **state)
{
    (void)state;
    char path[DK_PATH_MAX];
    snprintf(path, sizeof path, "%s", in("key"));
    assert_true(dk_test_in_child(true, creates_on_a_small_disk, path));
    holds(path, "four");
}

static void F11_a_full_device_is_told(void **state)
{
    (void)state;
    int fd = open("/dev/full", O_WRONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    DK_TEST_FAILS(err, IO, dk_fd_write(fd, "abc", 3, &err));
    assert_int_equal(err.backend, ENOSPC);
    DK_TEST_OK(err, dk_fd_write(fd, "abc", 0, &err));
    close(fd);
    DK_TEST_FAILS(err, IO, dk_fd_write(-1, "abc", 3, &err));
    assert_int_equal(err.backend, EBADF);
}

enum { MUCH = 1 << 20 };
static volatile sig_atomic_t interrupts;

static void interrupted(int signal)
{
    (void)signal;
    interrupts++;
}

/* Reads slowly, so that the writer blocks and is interrupted. */
static void *read_slowly(void *arg)
{
    uint8_t buf[5000];
    size_t at = 0;
    uintptr_t bad = 0;
    for (ssize_t n; (n = read(*(int *)arg, buf, sizeof buf)) > 0;) {
        for (ssize_t i = 0; i < n; i++, at++) {
            bad += buf[i] != (uint8_t)(at * 31 + (at >> 8));
        }
        usleep(300);
    }
    return (void *)(bad + (at != MUCH));
}

static void a_write_goes_through_interrupts_and_short_writes(void **state)
{
    (void)state;
    int ends[2];
    uint8_t *much = malloc(MUCH);
    assert_non_null(much);
    for (size_t i = 0; i < MUCH; i++) {
        much[i] = (uint8_t)(i * 31 + (i >> 8));
    }
    assert_int_equal(pipe(ends), 0);
    sigset_t alarms, before;
    sigemptyset(&alarms);
    sigaddset(&alarms, SIGALRM);
    pthread_sigmask(SIG_BLOCK, &alarms, &before); /* the reader never sees it */
    pthread_t reader;
    assert_int_equal(pthread_create(&reader, NULL, read_slowly, &ends[0]), 0);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    struct sigaction action = {.sa_handler = interrupted}; /* no SA_RESTART: write() ends early */
    struct sigaction old;
    sigaction(SIGALRM, &action, &old);
    struct itimerval often = {{0, 1000}, {0, 1000}}, never = {{0, 0}, {0, 0}};
    interrupts = 0;
    setitimer(ITIMER_REAL, &often, NULL);
    dk_err_clear(&err);
    dk_rc rc = dk_fd_write(ends[1], much, MUCH, &err);
    setitimer(ITIMER_REAL, &never, NULL);
    close(ends[1]);
    void *bad = NULL;
    pthread_join(reader, &bad);
    sigaction(SIGALRM, &old, NULL); /* the last alarm may come late (valgrind) */
    close(ends[0]);
    free(much);
    assert_int_equal(rc, DK_OK);
    assert_null(bad);
    assert_true(interrupts > 0);
}

static void a_folder_is_synced_or_the_failure_told(void **state)
{
    (void)state;
    DK_TEST_OK(err, dk_dir_sync(in("any"), &err));
    DK_TEST_FAILS(err, IO, dk_dir_sync(in("none/any"), &err));
    assert_int_equal(err.backend, ENOENT);
    DK_TEST_FAILS(err, IO, dk_dir_sync("/proc/self/fd", &err)); /* procfs has no fsync */
    DK_TEST_SAYS(err, "cannot be synced");
}

static void a_new_file_appears_whole_or_not_at_all(void **state)
{
    (void)state;
    struct dk_new_file file;
    dk_test_file_write(in("out"), "old", 3, 0644);
    mode_t old = umask(0);
    DK_TEST_OK(err, dk_new_file_open(&file, in("out"), &err));
    umask(old);
    assert_int_equal(mode_of(file.temporary), 0600);
    DK_TEST_OK(err, dk_fd_write(file.fd, "new value", 9, &err));
    holds(in("out"), "old"); /* until the commit */
    DK_TEST_OK(err, dk_new_file_commit(&file, &err));
    holds(in("out"), "new value");
    assert_int_equal(mode_of(in("out")), 0600);
    assert_int_equal(file.fd, -1);
    dk_new_file_abandon(&file);
    holds(in("out"), "new value");
    assert_int_equal(entries(), 1);
}

static void an_abandoned_file_leaves_the_old_one(void **state)
{
    (void)state;
    struct dk_new_file file;
    dk_test_file_write(in("out"), "old", 3, 0600);
    DK_TEST_OK(err, dk_new_file_open(&file, in("out"), &err));
    DK_TEST_OK(err, dk_fd_write(file.fd, "half", 4, &err));
    dk_new_file_abandon(&file);
    dk_new_file_abandon(&file);
    holds(in("out"), "old");
    assert_int_equal(entries(), 1);
}

static void a_new_file_replaces_regular_files_only(void **state)
{
    (void)state;
    struct dk_new_file file;
    dk_test_file_write(in("target"), "old", 3, 0600);
    assert_int_equal(symlink("target", in("out")), 0);
    DK_TEST_FAILS(err, USAGE, dk_new_file_open(&file, in("out"), &err));
    DK_TEST_SAYS(err, "out is a symbolic link: redirect standard output instead");
    assert_int_equal(file.fd, -1);
    holds(in("target"), "old");
    assert_int_equal(mkfifo(in("fifo"), 0600), 0);
    DK_TEST_FAILS(err, USAGE, dk_new_file_open(&file, in("fifo"), &err));
    DK_TEST_SAYS(err, "fifo is a pipe, not a regular file");
    DK_TEST_FAILS(err, USAGE, dk_new_file_open(&file, "/dev/null", &err));
    DK_TEST_SAYS(err, "/dev/null is a device, not a regular file");
    DK_TEST_FAILS(err, USAGE, dk_new_file_open(&file, folder, &err));
    DK_TEST_SAYS(err, "is a folder");
    assert_int_equal(entries(), 3);
}

static void a_new_file_that_cannot_be_put_in_place_is_removed(void **state)
{
    (void)state;
    struct dk_new_file file;
    DK_TEST_OK(err, dk_new_file_open(&file, in("out"), &err));
    assert_int_equal(mkdir(in("out"), 0700), 0);
    DK_TEST_FAILS(err, IO, dk_new_file_commit(&file, &err));
    DK_TEST_SAYS(err, "put in place");
    assert_int_equal(entries(), 1);
    dk_new_file_abandon(&file);
    DK_TEST_FAILS(err, IO, dk_new_file_open(&file, in("none/out"), &err));
    assert_int_equal(file.fd, -1);
    char name[DK_PATH_MAX + 1];
    memset(name, 'n', sizeof name);
    name[DK_PATH_MAX - 7] = '\0'; /* one too long with ".XXXXXX" */
    DK_TEST_FAILS(err, USAGE, dk_new_file_open(&file, name, &err));
    assert_int_equal(file.fd, -1);
}

static void F12_a_new_file_whose_sync_fails_is_not_put_in_place(void **state)
{
    (void)state;
    struct dk_new_file file;
    dk_test_file_write(in("out"), "old", 3, 0600);
    DK_TEST_OK(err, dk_new_file_open(&file, in("out"), &err));
    close(file.fd);
    file.fd = open("/dev/null", O_WRONLY | O_PATH | O_CLOEXEC); /* fsync: EBADF, close works */
    assert_true(file.fd >= 0);
    DK_TEST_FAILS(err, IO, dk_new_file_commit(&file, &err));
    DK_TEST_SAYS(err, "cannot be synced");
    holds(in("out"), "old");
    assert_int_equal(entries(), 1);

    DK_TEST_OK(err, dk_new_file_open(&file, in("out"), &err));
    close(file.fd);
    file.fd = 1 << 20; /* was closed by somebody else: fsync and close fail */
    DK_TEST_FAILS(err, IO, dk_new_file_commit(&file, &err));
    holds(in("out"), "old");
    assert_int_equal(entries(), 1);
}

static void what_has_no_sync_is_put_in_place_without(void **state)
{
    (void)state;
    struct dk_new_file file;
    int ends[2];
    DK_TEST_OK(err, dk_new_file_open(&file, in("out"), &err));
    assert_int_equal(pipe(ends), 0);
    close(ends[0]);
    close(file.fd);
    file.fd = ends[1]; /* fsync: EINVAL */
    DK_TEST_OK(err, dk_new_file_commit(&file, &err));
    holds(in("out"), "");
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, make_folder, remove_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(joined_paths_fit_or_are_refused),
        TEST(new_folders_are_private_and_old_ones_are_left_alone),
        TEST(what_cannot_be_a_folder_is_named),
        TEST(existence_does_not_follow_links),
        TEST(a_private_file_opens_for_reading),
        TEST(F75_a_file_that_others_may_touch_is_refused),
        TEST(F75_a_symbolic_link_is_refused),
        TEST(F75_what_is_no_regular_file_is_refused_without_waiting),
        TEST(F75_a_file_of_another_user_is_refused),
        TEST(F75_root_too_refuses_a_file_of_another_user),
        TEST(a_missing_private_file_is_not_found),
        TEST(a_created_file_is_private_and_never_replaces_one),
        TEST(of_many_creators_one_wins),
        TEST(F11_a_file_that_does_not_fit_leaves_nothing),
        TEST(F11_a_full_device_is_told),
        TEST(a_write_goes_through_interrupts_and_short_writes),
        TEST(a_folder_is_synced_or_the_failure_told),
        TEST(a_new_file_appears_whole_or_not_at_all),
        TEST(an_abandoned_file_leaves_the_old_one),
        TEST(a_new_file_replaces_regular_files_only),
        TEST(a_new_file_that_cannot_be_put_in_place_is_removed),
        TEST(F12_a_new_file_whose_sync_fails_is_not_put_in_place),
        TEST(what_has_no_sync_is_put_in_place_without),
    };
    return cmocka_run_group_tests_name("file", tests, NULL, NULL);
}
