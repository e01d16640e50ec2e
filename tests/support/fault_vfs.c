#include "support/fault_vfs.h"

#include <errno.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct file {
    sqlite3_file base;
    sqlite3_file *real;
    const char *name;          /* lent by SQLite until xClose; NULL = not watched */
    struct dk_disk_file *disk; /* NULL = not watched, or only read */
    bool sync_folder;          /* new: the first sync makes its name durable too, as unix does */
};

static sqlite3_vfs *real_vfs;

static struct file *file_of(sqlite3_file *base)
{
    return (struct file *)base;
}

/* SQLITE_OK, or the code for the errno that the call ends with. */
static int ask(const struct file *file, enum dk_io kind, int64_t at, size_t n, int otherwise)
{
    int error = file->name != NULL ? dk_disk_call(kind, file->name, at, n) : 0;
    return error == 0 ? SQLITE_OK : error == ENOSPC ? SQLITE_FULL : otherwise;
}

/* ---- a file ---------------------------------------------------------------------------------- */

static int file_close(sqlite3_file *base)
{
    sqlite3_file *real = file_of(base)->real;
    return real->pMethods != NULL ? real->pMethods->xClose(real) : SQLITE_OK;
}

static int file_read(sqlite3_file *base, void *p, int n, sqlite3_int64 at)
{
    struct file *file = file_of(base);
    int code = ask(file, DK_IO_READ, at, (size_t)n, SQLITE_IOERR_READ);
    return code == SQLITE_OK ? file->real->pMethods->xRead(file->real, p, n, at) : code;
}

static int write_real(struct file *file, const void *p, int n, sqlite3_int64 at)
{
    int code = file->real->pMethods->xWrite(file->real, p, n, at);
    if (code == SQLITE_OK && file->disk != NULL) {
        dk_disk_write(file->disk, p, (size_t)n, (size_t)at);
    }
    return code;
}

static int file_write(sqlite3_file *base, const void *p, int n, sqlite3_int64 at)
{
    struct file *file = file_of(base);
    bool was_cut = dk_disk_is_cut();
    int code = ask(file, DK_IO_WRITE, at, (size_t)n, SQLITE_IOERR_WRITE);
    if (code == SQLITE_OK) {
        return write_real(file, p, n, at);
    }
    if (dk_disk_is_cut() && !was_cut && file->disk != NULL) {
        dk_disk_write(file->disk, p, (size_t)n, (size_t)at); /* it was under way */
    } else if (dk_disk_writes_part() && n > 1) {
        (void)write_real(file, p, n / 2, at);
    }
    return code;
}

static int file_truncate(sqlite3_file *base, sqlite3_int64 n)
{
    struct file *file = file_of(base);
    int code = ask(file, DK_IO_TRUNCATE, n, 0, SQLITE_IOERR_TRUNCATE);
    code = code == SQLITE_OK ? file->real->pMethods->xTruncate(file->real, n) : code;
    if (code == SQLITE_OK && file->disk != NULL) {
        dk_disk_truncate(file->disk, (size_t)n);
    }
    return code;
}

static int file_sync(sqlite3_file *base, int flags)
{
    struct file *file = file_of(base);
    (void)flags;
    int code = ask(file, DK_IO_SYNC, 0, 0, SQLITE_IOERR_FSYNC);
    if (code == SQLITE_OK && file->disk != NULL) {
        dk_disk_sync(file->disk);
        if (file->sync_folder) {
            dk_disk_sync_folder();
            file->sync_folder = false;
        }
    }
    return code;
}

static int file_size(sqlite3_file *base, sqlite3_int64 *n)
{
    struct file *file = file_of(base);
    int code = ask(file, DK_IO_READ, -1, 0, SQLITE_IOERR_FSTAT);
    return code == SQLITE_OK ? file->real->pMethods->xFileSize(file->real, n) : code;
}

static int file_lock(sqlite3_file *base, int level)
{
    struct file *file = file_of(base);
    int code = ask(file, DK_IO_LOCK, level, 0, SQLITE_IOERR_LOCK);
    return code == SQLITE_OK ? file->real->pMethods->xLock(file->real, level) : code;
}

static int file_unlock(sqlite3_file *base, int level)
{
    struct file *file = file_of(base);
    return file->real->pMethods->xUnlock(file->real, level);
}

static int file_check_reserved(sqlite3_file *base, int *out)
{
    struct file *file = file_of(base);
    return file->real->pMethods->xCheckReservedLock(file->real, out);
}

static int file_control(sqlite3_file *base, int op, void *arg)
{
    struct file *file = file_of(base);
    return file->real->pMethods->xFileControl(file->real, op, arg);
}

static int file_sector_size(sqlite3_file *base)
{
    struct file *file = file_of(base);
    return file->real->pMethods->xSectorSize(file->real);
}

static int file_characteristics(sqlite3_file *base)
{
    struct file *file = file_of(base);
    return file->real->pMethods->xDeviceCharacteristics(file->real);
}

static int shm_map(sqlite3_file *base, int page, int n, int extend, void volatile **out)
{
    struct file *file = file_of(base);
    int code = ask(file, DK_IO_SHM, page, (size_t)n, SQLITE_IOERR_SHMMAP);
    return code == SQLITE_OK ? file->real->pMethods->xShmMap(file->real, page, n, extend, out)
                             : code;
}

/* Letting a lock go, and unmapping, succeed always: they reach no disk. */
static int shm_lock(sqlite3_file *base, int offset, int n, int flags)
{
    struct file *file = file_of(base);
    bool takes = (flags & SQLITE_SHM_LOCK) != 0;
    int code = takes ? ask(file, DK_IO_LOCK, offset, (size_t)n, SQLITE_IOERR_SHMLOCK) : SQLITE_OK;
    return code == SQLITE_OK ? file->real->pMethods->xShmLock(file->real, offset, n, flags) : code;
}

static void shm_barrier(sqlite3_file *base)
{
    struct file *file = file_of(base);
    file->real->pMethods->xShmBarrier(file->real);
}

static int shm_unmap(sqlite3_file *base, int remove_it)
{
    struct file *file = file_of(base);
    return file->real->pMethods->xShmUnmap(file->real, remove_it);
}

/* Version 2: no memory-mapped reads, which nobody could make fail. */
static const sqlite3_io_methods methods = {
    .iVersion = 2,
    .xClose = file_close,
    .xRead = file_read,
    .xWrite = file_write,
    .xTruncate = file_truncate,
    .xSync = file_sync,
    .xFileSize = file_size,
    .xLock = file_lock,
    .xUnlock = file_unlock,
    .xCheckReservedLock = file_check_reserved,
    .xFileControl = file_control,
    .xSectorSize = file_sector_size,
    .xDeviceCharacteristics = file_characteristics,
    .xShmMap = shm_map,
    .xShmLock = shm_lock,
    .xShmBarrier = shm_barrier,
    .xShmUnmap = shm_unmap,
};

/* ---- the VFS --------------------------------------------------------------------------------- */

static void read_in(struct file *file)
{
    sqlite3_int64 n = 0;
    if (file->real->pMethods->xFileSize(file->real, &n) == SQLITE_OK && n > 0) {
        uint8_t *bytes = malloc((size_t)n);
        if (bytes == NULL ||
            file->real->pMethods->xRead(file->real, bytes, (int)n, 0) != SQLITE_OK) {
            abort();
        }
        dk_disk_import(file->disk, bytes, (size_t)n);
        free(bytes);
    }
}

static void watch(struct file *file, bool was_there, int flags)
{
    bool known = dk_disk_has(file->name);
    file->disk = dk_disk_open(file->name);
    if (!was_there) {
        file->sync_folder = (flags & SQLITE_OPEN_MAIN_DB) == 0;
    } else if (!known) { /* others made it, and synced the folder */
        read_in(file);
        dk_disk_sync_folder();
    }
}

static int vfs_open(sqlite3_vfs *vfs, const char *path, sqlite3_file *base, int flags,
                    int *out_flags)
{
    struct file *file = file_of(base);
    int was_there = 0;
    (void)vfs;
    *file = (struct file){.real = (sqlite3_file *)(file + 1), .name = dk_disk_name(path)};
    int code = ask(file, DK_IO_OPEN, 0, 0, SQLITE_CANTOPEN);
    if (code != SQLITE_OK) {
        return code;
    }
    if (file->name != NULL) {
        real_vfs->xAccess(real_vfs, path, SQLITE_ACCESS_EXISTS, &was_there);
    }
    code = real_vfs->xOpen(real_vfs, path, file->real, flags, out_flags);
    if (file->real->pMethods != NULL) {
        file->base.pMethods = &methods;
    }
    if (code == SQLITE_OK && file->name != NULL && (flags & SQLITE_OPEN_READWRITE) != 0) {
        watch(file, was_there != 0, flags);
    }
    return code;
}

static int vfs_delete(sqlite3_vfs *vfs, const char *path, int sync_folder)
{
    (void)vfs;
    const char *name = dk_disk_name(path);
    bool was_cut = dk_disk_is_cut();
    int error = name != NULL ? dk_disk_call(DK_IO_DELETE, name, 0, 0) : 0;
    if (dk_disk_is_cut() && !was_cut) {
        dk_disk_delete(name); /* it was under way */
    }
    if (error != 0) {
        return SQLITE_IOERR_DELETE;
    }
    int code = real_vfs->xDelete(real_vfs, path, 0);
    if (name != NULL && code == SQLITE_OK) {
        dk_disk_delete(name);
    }
    if (name != NULL && sync_folder != 0) {
        dk_disk_sync_folder();
    }
    return code;
}

static int vfs_access(sqlite3_vfs *vfs, const char *path, int flags, int *out)
{
    (void)vfs;
    return real_vfs->xAccess(real_vfs, path, flags, out);
}

static int vfs_full_path(sqlite3_vfs *vfs, const char *path, int n, char *out)
{
    (void)vfs;
    return real_vfs->xFullPathname(real_vfs, path, n, out);
}

static int vfs_randomness(sqlite3_vfs *vfs, int n, char *out)
{
    (void)vfs;
    for (int i = 0; i < n; i++) {
        out[i] = (char)(dk_disk_random() >> 56);
    }
    return n;
}

static int vfs_sleep(sqlite3_vfs *vfs, int us)
{
    (void)vfs;
    return real_vfs->xSleep(real_vfs, us);
}

static int vfs_time(sqlite3_vfs *vfs, sqlite3_int64 *out)
{
    (void)vfs;
    return real_vfs->xCurrentTimeInt64(real_vfs, out);
}

static int vfs_last_error(sqlite3_vfs *vfs, int n, char *out)
{
    (void)vfs;
    return real_vfs->xGetLastError(real_vfs, n, out);
}

void dk_fault_vfs_install(void)
{
    static sqlite3_vfs ours;
    real_vfs = sqlite3_vfs_find(NULL);
    if (real_vfs == NULL) {
        abort();
    }
    ours = (sqlite3_vfs){.iVersion = 2,
                         .szOsFile = (int)sizeof(struct file) + real_vfs->szOsFile,
                         .mxPathname = real_vfs->mxPathname,
                         .zName = "dekhand-fault",
                         .xOpen = vfs_open,
                         .xDelete = vfs_delete,
                         .xAccess = vfs_access,
                         .xFullPathname = vfs_full_path,
                         .xRandomness = vfs_randomness,
                         .xSleep = vfs_sleep,
                         .xGetLastError = vfs_last_error,
                         .xCurrentTimeInt64 = vfs_time};
    if (sqlite3_vfs_register(&ours, 1) != SQLITE_OK) {
        abort();
    }
}

void dk_fault_vfs_reseed(void)
{
    sqlite3_randomness(0, NULL);
}
