#include "support/expect.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define ORDINARY_USER 65534

uint64_t dk_test_random(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9E3779B97F4A7C15);
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}

void dk_test_random_bytes(uint64_t *state, void *p, size_t n)
{
    uint8_t *at = p;
    for (size_t i = 0; i < n; i++) {
        at[i] = (uint8_t)(dk_test_random(state) >> 56);
    }
}

static void *world_alloc(void *arg, size_t n)
{
    struct dk_test_world *w = arg;
    unsigned call = atomic_fetch_add(&w->allocs, 1) + 1;
    if ((w->fail_alloc_at != 0 && call == w->fail_alloc_at) ||
        (w->fail_alloc_all != 0 && call >= w->fail_alloc_all) ||
        (w->alloc_fails != NULL && w->alloc_fails())) {
        return NULL;
    }
    void *p = malloc(n);
    if (p != NULL) {
        memset(p, 0xA5, n); /* nobody may lean on zeroes */
        atomic_fetch_add(&w->live, 1);
    }
    return p;
}

static void world_free(void *arg, void *p)
{
    struct dk_test_world *w = arg;
    if (p != NULL) {
        atomic_fetch_sub(&w->live, 1);
    }
    free(p);
}

static int64_t world_wall_us(void *arg)
{
    return ((struct dk_test_world *)arg)->wall_us;
}

static int64_t world_mono_ms(void *arg)
{
    return ((struct dk_test_world *)arg)->mono_ms;
}

static int64_t world_boot_ms(void *arg)
{
    const struct dk_test_world *w = arg;
    return w->mono_ms + w->slept_ms;
}

static int world_random(void *arg, uint8_t *p, size_t n)
{
    struct dk_test_world *w = arg;
    if (w->random_fails) {
        memset(p, 0x5A, n > 1 ? n / 2 : n); /* a generator may fail half way */
        return 0;
    }
    dk_test_random_bytes(&w->random_state, p, n);
    return 1;
}

void dk_test_world_init(struct dk_test_world *w)
{
    memset(w, 0, sizeof *w);
    w->world = (struct dk_world){.mem = {world_alloc, world_free, w},
                                 .clock = {world_wall_us, world_mono_ms, world_boot_ms, w},
                                 .random = {world_random, world_random, w}};
    w->random_state = 1;
    w->wall_us = INT64_C(1767225600) * 1000000; /* 2026-01-01T00:00:00Z */
    w->mono_ms = 1000;
}

/* Present in coverage builds only: a child that leaves by _exit() writes its counts here. */
extern void __gcov_exit(void) __attribute__((weak));

static int run_child(bool ordinary_user, int (*body)(void *arg), void *arg)
{
    if (ordinary_user && geteuid() == 0 &&
        (setgroups(0, NULL) != 0 || setresgid(ORDINARY_USER, ORDINARY_USER, ORDINARY_USER) != 0 ||
         setresuid(ORDINARY_USER, ORDINARY_USER, ORDINARY_USER) != 0)) {
        perror("dropping to an ordinary user");
        return 2;
    }
    return body(arg);
}

int dk_test_child_start(bool ordinary_user, int (*body)(void *arg), void *arg)
{
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        int rc = run_child(ordinary_user, body, arg);
        fflush(NULL);
        if (__gcov_exit != NULL && !ordinary_user) {
            __gcov_exit();
        }
        _exit(rc);
    }
    return pid;
}

bool dk_test_child_end(int pid)
{
    int status = 0;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    if (pid > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0) {
        return true;
    }
    fprintf(stderr, "the child ended with status 0x%x\n", (unsigned)status);
    return false;
}

bool dk_test_in_child(bool ordinary_user, int (*body)(void *arg), void *arg)
{
    return dk_test_child_end(dk_test_child_start(ordinary_user, body, arg));
}

static void must(bool ok, const char *what)
{
    if (!ok) {
        perror(what);
        abort();
    }
}

/* Thousands of folders: in memory, and none is kept. */
static bool many;

void dk_test_folders_in_memory(void)
{
    many = true;
}

/* The harness says where (DEKHAND_MEMORY, TMPDIR) and clears up there. */
static const char *folders(void)
{
    const char *memory = getenv("DEKHAND_MEMORY");
    const char *disk = getenv("TMPDIR");
    if (many && memory != NULL) {
        return memory;
    }
    if (many && access("/dev/shm", W_OK) == 0) {
        return "/dev/shm";
    }
    return disk != NULL && strlen(disk) < 40 ? disk : "/tmp";
}

void dk_test_folder_new(char path[static 64])
{
    snprintf(path, 64, "%s/dekhand-test.XXXXXX", folders());
    must(mkdtemp(path) != NULL, "mkdtemp");
    must(geteuid() != 0 || chown(path, ORDINARY_USER, ORDINARY_USER) == 0, "chown");
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *ftw)
{
    (void)st;
    (void)kind;
    (void)ftw;
    return remove(path);
}

/* DEKHAND_KEPT: where folders go instead, to be looked through when the tests have ended. */
void dk_test_folder_remove(const char *path)
{
    const char *kept = getenv("DEKHAND_KEPT");
    char there[256];
    if (kept != NULL && !many) {
        snprintf(there, sizeof there, "%s/%s", kept, strrchr(path, '/') + 1);
        must(rename(path, there) == 0, "rename");
        return;
    }
    must(nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS) == 0, "nftw");
}

void dk_test_file_write(const char *path, const void *p, size_t n, unsigned mode)
{
    FILE *file = fopen(path, "wbe");
    must(file != NULL, path);
    must(n == 0 || fwrite(p, 1, n, file) == n, path);
    must(fclose(file) == 0, path);
    must(chmod(path, mode) == 0, path);
}
