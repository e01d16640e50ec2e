#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

dk_rc dk_path_join(char out[static DK_PATH_MAX], const char *dir, const char *name,
                   struct dk_err *err)
{
    int n = snprintf(out, DK_PATH_MAX, "%s/%s", dir, name);
    if (n < 0 || n >= DK_PATH_MAX) {
        return DK_FAIL(err, CONFIG, "the path %.80s.. is too long", dir);
    }
    return DK_OK;
}

dk_rc dk_dir_make(const char *path, struct dk_err *err)
{
    char part[DK_PATH_MAX];
    size_t n = strlen(path);
    if (n == 0 || n >= sizeof part) {
        return DK_FAIL(err, CONFIG, "not a folder name: %.80s", path);
    }
    memcpy(part, path, n + 1);
    for (size_t i = 1; i <= n; i++) {
        if (part[i] != '/' && part[i] != '\0') {
            continue;
        }
        part[i] = '\0';
        if (mkdir(part, 0700) != 0 && errno != EEXIST) {
            return DK_FAIL_BACKEND(err, IO, errno, "the folder %s cannot be made: %s", part,
                                   strerror(errno));
        }
        if (i < n) {
            part[i] = '/';
        }
    }
    struct stat st;
    if (stat(path, &st) != 0 || !S_ISDIR(st.st_mode)) {
        return DK_FAIL(err, CONFIG, "%s is not a folder", path);
    }
    return DK_OK;
}

bool dk_file_exists(const char *path)
{
    struct stat st;
    return lstat(path, &st) == 0;
}

static dk_rc check_private(const char *path, const struct stat *st, struct dk_err *err)
{
    if (!S_ISREG(st->st_mode)) {
        return DK_FAIL(err, CONFIG, "%s is not a regular file", path);
    }
    if (st->st_uid != geteuid()) {
        return DK_FAIL(err, CONFIG, "%s belongs to user %u, not to you (%u): chown it", path,
                       (unsigned)st->st_uid, (unsigned)geteuid());
    }
    if ((st->st_mode & 077) != 0) {
        return DK_FAIL(err, CONFIG, "%s can be read by others (mode %04o): chmod 600 %s", path,
                       (unsigned)st->st_mode & 07777, path);
    }
    return DK_OK;
}

dk_rc dk_file_open_private(const char *path, int *fd, struct dk_err *err)
{
    int f = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    if (f < 0) {
        int code = errno;
        if (code == ENOENT || code == ENOTDIR) {
            return DK_FAIL_BACKEND(err, NOT_FOUND, code, "%s is not there", path);
        }
        if (code == ELOOP) {
            return DK_FAIL_BACKEND(err, CONFIG, code,
                                   "%s is a symbolic link: put the file itself there", path);
        }
        return DK_FAIL_BACKEND(err, IO, code, "%s cannot be opened: %s", path, strerror(code));
    }
    struct stat st;
    dk_rc rc = fstat(f, &st) != 0 ? DK_FAIL_BACKEND(err, IO, errno, "%s cannot be looked at", path)
                                  : check_private(path, &st, err);
    if (rc != DK_OK) {
        close(f);
        return rc;
    }
    *fd = f;
    return DK_OK;
}

dk_rc dk_fd_write(int fd, const void *p, size_t n, struct dk_err *err)
{
    const uint8_t *at = p;
    while (n > 0) {
        ssize_t done = write(fd, at, n);
        if (done < 0 && errno == EINTR) {
            continue;
        }
        if (done <= 0) {
            return DK_FAIL_BACKEND(err, IO, errno, "writing failed: %s", strerror(errno));
        }
        at += done;
        n -= (size_t)done;
    }
    return DK_OK;
}

dk_rc dk_dir_sync(const char *path_inside, struct dk_err *err)
{
    char copy[DK_PATH_MAX];
    snprintf(copy, sizeof copy, "%s", path_inside);
    int fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || fsync(fd) != 0) {
        int code = errno;
        if (fd >= 0) {
            close(fd);
        }
        return DK_FAIL_BACKEND(err, IO, code, "the folder of %s cannot be synced: %s", path_inside,
                               strerror(code));
    }
    close(fd);
    return DK_OK;
}

static dk_rc write_synced(int fd, const char *path, const void *p, size_t n, struct dk_err *err)
{
    DK_TRY(dk_fd_write(fd, p, n, err));
    if (fsync(fd) != 0) {
        return DK_FAIL_BACKEND(err, IO, errno, "%s cannot be synced: %s", path, strerror(errno));
    }
    return DK_OK;
}

static dk_rc read_all(int fd, const char *path, struct dk_buf *out, struct dk_err *err)
{
    for (;;) {
        DK_TRY(dk_buf_reserve(out, 1, err));
        ssize_t got = read(fd, out->p + out->n, out->cap - out->n);
        if (got < 0 && errno != EINTR) {
            return DK_FAIL_BACKEND(err, IO, errno, "%s cannot be read: %s", path, strerror(errno));
        }
        out->n += got > 0 ? (size_t)got : 0;
        if (got == 0) {
            return DK_OK;
        }
    }
}

dk_rc dk_file_read(const char *path, struct dk_buf *out, struct dk_err *err)
{
    struct dk_err cause;
    dk_err_clear(&cause);
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 && errno == ENOENT) {
        return DK_FAIL_BACKEND(err, NOT_FOUND, errno, "%s is not there", path);
    }
    if (fd < 0) {
        return DK_FAIL_BACKEND(err, IO, errno, "%s cannot be opened: %s", path, strerror(errno));
    }
    dk_rc rc = read_all(fd, path, out, &cause);
    close(fd);
    if (rc == DK_E_LIMIT) {
        return DK_FAIL(err, LIMIT, "%s is larger than %zu bytes", path, out->max_bytes);
    }
    return rc == DK_OK ? rc : dk_err_set(err, rc, cause.file, cause.line, "%s", cause.text);
}

dk_rc dk_file_create(const char *path, const void *p, size_t n, struct dk_err *err)
{
    char temporary[DK_PATH_MAX];
    if (snprintf(temporary, sizeof temporary, "%s.XXXXXX", path) >= (int)sizeof temporary) {
        return DK_FAIL(err, CONFIG, "the path %.80s.. is too long", path);
    }
    int fd = mkostemp(temporary, O_CLOEXEC); /* 0600 */
    if (fd < 0) {
        return DK_FAIL_BACKEND(err, IO, errno, "%s cannot be made: %s", path, strerror(errno));
    }
    dk_rc rc = write_synced(fd, path, p, n, err);
    if (close(fd) != 0 && rc == DK_OK) {
        rc = DK_FAIL_BACKEND(err, IO, errno, "%s cannot be closed: %s", path, strerror(errno));
    }
    /* Whole or not at all, and never over another: link() refuses a name that is taken. */
    if (rc == DK_OK && link(temporary, path) != 0) {
        rc = errno == EEXIST
                 ? DK_FAIL_BACKEND(err, CONFLICT, errno, "%s exists already", path)
                 : DK_FAIL_BACKEND(err, IO, errno, "%s cannot be made: %s", path, strerror(errno));
    }
    unlink(temporary);
    return rc == DK_OK ? dk_dir_sync(path, err) : rc;
}

/* What rename() would replace for good: a link, a pipe or a device that somebody meant to write to.
 */
static dk_rc check_replaceable(const char *path, struct dk_err *err)
{
    struct stat st;
    if (lstat(path, &st) != 0 || S_ISREG(st.st_mode)) {
        return DK_OK; /* making the file beside it tells what else is wrong */
    }
    if (S_ISDIR(st.st_mode)) {
        return DK_FAIL(err, USAGE, "%s is a folder: name a file in it", path);
    }
    return DK_FAIL(err, USAGE, "%s is %s: redirect standard output instead", path,
                   S_ISLNK(st.st_mode)    ? "a symbolic link"
                   : S_ISFIFO(st.st_mode) ? "a pipe, not a regular file"
                   : S_ISSOCK(st.st_mode) ? "a socket, not a regular file"
                                          : "a device, not a regular file");
}

dk_rc dk_new_file_open(struct dk_new_file *file, const char *path, struct dk_err *err)
{
    file->fd = -1;
    int n = snprintf(file->path, sizeof file->path, "%s", path);
    int m = snprintf(file->temporary, sizeof file->temporary, "%s.XXXXXX", path);
    if (n < 0 || m < 0 || (size_t)m >= sizeof file->temporary) {
        return DK_FAIL(err, USAGE, "the path %.80s.. is too long", path);
    }
    DK_TRY(check_replaceable(path, err));
    file->fd = mkostemp(file->temporary, O_CLOEXEC); /* 0600 */
    if (file->fd < 0) {
        return DK_FAIL_BACKEND(err, IO, errno, "%s cannot be made: %s", path, strerror(errno));
    }
    return DK_OK;
}

dk_rc dk_new_file_commit(struct dk_new_file *file, struct dk_err *err)
{
    dk_rc rc = DK_OK;
    if (fsync(file->fd) != 0 && errno != EINVAL) {
        rc =
            DK_FAIL_BACKEND(err, IO, errno, "%s cannot be synced: %s", file->path, strerror(errno));
    }
    if (close(file->fd) != 0 && rc == DK_OK) {
        rc =
            DK_FAIL_BACKEND(err, IO, errno, "%s cannot be closed: %s", file->path, strerror(errno));
    }
    file->fd = -1;
    if (rc == DK_OK && rename(file->temporary, file->path) != 0) {
        rc = DK_FAIL_BACKEND(err, IO, errno, "%s cannot be put in place: %s", file->path,
                             strerror(errno));
    }
    if (rc != DK_OK) {
        unlink(file->temporary);
        return rc;
    }
    return dk_dir_sync(file->path, err);
}

void dk_new_file_abandon(struct dk_new_file *file)
{
    if (file->fd >= 0) {
        close(file->fd);
        unlink(file->temporary);
        file->fd = -1;
    }
}
