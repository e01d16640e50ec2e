/*
 * The calls of base/file.c, on their way to the kernel: in a test program these stand before libc's
 * for what is linked into it (not for SQLite or OpenSSL, which are shared libraries). Outside the
 * folder that fault_disk watches they are the plain system calls.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "support/fault_disk.h"

#define FILE_MAX 8192

/* The path of a descriptor; "" when it has none, or nobody watches. */
static void path_of(int fd, char out[static 256])
{
    char link_name[64];
    if (!dk_disk_is_watching()) {
        out[0] = '\0';
        return;
    }
    snprintf(link_name, sizeof link_name, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link_name, out, 255);
    out[n > 0 ? n : 0] = '\0';
}

static int refuse(int error)
{
    errno = error;
    return -1;
}

static void sync_whole(const char *name, int fd)
{
    char bytes[FILE_MAX];
    ssize_t n = pread(fd, bytes, sizeof bytes, 0);
    if (n < 0) { /* it is open for writing alone */
        char path[64];
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        int again = open(path, O_RDONLY | O_CLOEXEC);
        n = pread(again, bytes, sizeof bytes, 0);
        close(again);
    }
    if (n < 0 || n == FILE_MAX) {
        abort();
    }
    dk_disk_sync_whole(dk_disk_open(name), bytes, (size_t)n);
}

int fsync(int fd)
{
    char path[256];
    path_of(fd, path);
    bool folder = dk_disk_is_folder(path);
    const char *name = folder ? "." : dk_disk_name(path);
    int error = name != NULL ? dk_disk_call(DK_IO_SYNC, name, 0, 0) : 0;
    if (error != 0) {
        return refuse(error);
    }
    if (folder) {
        dk_disk_sync_folder();
    } else if (name != NULL) {
        sync_whole(name, fd);
    }
    return name != NULL ? 0 : (int)syscall(SYS_fsync, fd);
}

ssize_t write(int fd, const void *p, size_t n)
{
    char path[256];
    path_of(fd, path);
    const char *name = dk_disk_name(path);
    int error = name != NULL ? dk_disk_call(DK_IO_WRITE, name, 0, n) : 0;
    if (error != 0 && dk_disk_writes_part() && n > 1) {
        return syscall(SYS_write, fd, p, n / 2); /* the next one fails */
    }
    return error != 0 ? refuse(error) : syscall(SYS_write, fd, p, n);
}

/* A file that gets its lasting name without having been synced: its bytes may be there or not. */
static void take_unsynced(const char *name, const char *path)
{
    char bytes[FILE_MAX];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, bytes, sizeof bytes) : -1;
    if (n < 0) {
        abort();
    }
    close(fd);
    dk_disk_write(dk_disk_open(name), bytes, (size_t)n, 0);
}

static int move(const char *from, const char *to, bool keep_from)
{
    const char *old = dk_disk_name(from), *new = dk_disk_name(to);
    bool was_cut = dk_disk_is_cut();
    int error = new != NULL ? dk_disk_call(DK_IO_DELETE, new, 0, 0) : 0;
    bool under_way = dk_disk_is_cut() && !was_cut;
    if (old != NULL && !dk_disk_has(old) && (error == 0 || under_way)) {
        take_unsynced(old, from);
    }
    if (under_way) {
        dk_disk_rename(old, new, keep_from);
    }
    if (error != 0) {
        return refuse(error);
    }
    int rc = (int)(keep_from ? syscall(SYS_linkat, AT_FDCWD, from, AT_FDCWD, to, 0)
                             : syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0));
    if (rc == 0 && old != NULL && new != NULL) {
        dk_disk_rename(old, new, keep_from);
    }
    return rc;
}

int rename(const char *from, const char *to)
{
    return move(from, to, false);
}

int link(const char *from, const char *to)
{
    return move(from, to, true);
}

int unlink(const char *path)
{
    const char *name = dk_disk_name(path);
    bool was_cut = dk_disk_is_cut();
    int error = name != NULL ? dk_disk_call(DK_IO_DELETE, name, 0, 0) : 0;
    if (dk_disk_is_cut() && !was_cut) {
        dk_disk_delete(name); /* it was under way */
    }
    if (error != 0) {
        return refuse(error);
    }
    int rc = (int)syscall(SYS_unlinkat, AT_FDCWD, path, 0);
    if (rc == 0 && name != NULL) {
        dk_disk_delete(name);
    }
    return rc;
}

int mkostemp(char *path, int flags)
{
    const char *name = dk_disk_name(path);
    int error = name != NULL ? dk_disk_call(DK_IO_OPEN, name, 0, 0) : 0;
    int (*real)(char *, int) = NULL;
    *(void **)&real = dlsym(RTLD_NEXT, "mkostemp");
    if (error != 0 || real == NULL) {
        return refuse(error != 0 ? error : ENOSYS);
    }
    return real(path, flags);
}
