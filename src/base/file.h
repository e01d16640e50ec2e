/*
 * file: files that must be private, and files that appear whole or not at all.
 *
 * Used by provider/local, the door and the CLI. Paths are NUL-terminated; nothing here follows a
 * symbolic link at the last component of a private file.
 */
#ifndef DK_BASE_FILE_H
#define DK_BASE_FILE_H

#include "base/bytes.h"

#define DK_PATH_MAX 4096

/* dir/name; E_CONFIG when it does not fit. */
DK_MUST_USE dk_rc dk_path_join(char out[static DK_PATH_MAX], const char *dir, const char *name,
                               struct dk_err *err);
/* Makes a folder and its parents, 0700 where it is new. */
DK_MUST_USE dk_rc dk_dir_make(const char *path, struct dk_err *err);
DK_MUST_USE bool dk_file_exists(const char *path);
/*
 * Opens for reading a file that must be a regular one of this user with mode 0600 or less, no
 * symbolic link (F75). E_NOT_FOUND; E_CONFIG says what is wrong and how to mend it.
 */
DK_MUST_USE dk_rc dk_file_open_private(const char *path, int *fd, struct dk_err *err);
/*
 * Adds the whole of a file to `out`, whose ceiling is the file's. E_NOT_FOUND, E_LIMIT, E_IO; the
 * text names the file.
 */
DK_MUST_USE dk_rc dk_file_read(const char *path, struct dk_buf *out, struct dk_err *err);
/* Writes a new file, 0600, exclusively, and syncs it and its folder. E_CONFLICT: it exists. */
DK_MUST_USE dk_rc dk_file_create(const char *path, const void *p, size_t n, struct dk_err *err);
/* Writes all of it to a descriptor, through EINTR and short writes. */
DK_MUST_USE dk_rc dk_fd_write(int fd, const void *p, size_t n, struct dk_err *err);
DK_MUST_USE dk_rc dk_dir_sync(const char *path_inside, struct dk_err *err);

/* A file written beside its place, then renamed onto it. */
struct dk_new_file {
    int fd; /* -1 = none */
    char path[DK_PATH_MAX];
    char temporary[DK_PATH_MAX];
};
DK_MUST_USE dk_rc dk_new_file_open(struct dk_new_file *file, const char *path, struct dk_err *err);
/* Syncs and renames; the file is closed whatever happens. */
DK_MUST_USE dk_rc dk_new_file_commit(struct dk_new_file *file, struct dk_err *err);
/* Removes what was written; allowed after commit (does nothing then). */
void dk_new_file_abandon(struct dk_new_file *file);

#endif
