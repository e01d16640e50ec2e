/*
 * fault_disk: the disk under a test: it fails calls on demand, and knows what is on it for good.
 *
 * fault_vfs.c tells it what SQLite does, fault_files.c what base/file.c does, with the files of one
 * folder. Their bytes go to the real files at once, so that every connection reads them; beside
 * that the disk remembers, for each file, what the last fsync made durable and each write since,
 * and for each name of the folder which file it meant at the last sync of the folder. A power cut
 * makes of these one of the states that a machine could find when it starts again:
 *
 *   - of each 512-byte sector, any of the versions since the last fsync (dropped, kept, reordered;
 *     a write that spans sectors is torn), or all, none or the first few writes in order;
 *   - of the file's length, any since the last fsync;
 *   - for each name, the file of the last sync of the folder or that of now.
 *
 * From the cut on every call fails, until dk_disk_restart(). One thread.
 */
#ifndef DK_TEST_FAULT_DISK_H
#define DK_TEST_FAULT_DISK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum dk_io {
    DK_IO_READ = 1 << 0,
    DK_IO_WRITE = 1 << 1,
    DK_IO_SYNC = 1 << 2,
    DK_IO_TRUNCATE = 1 << 3,
    DK_IO_OPEN = 1 << 4,
    DK_IO_DELETE = 1 << 5, /* and rename, link: names of the folder */
    DK_IO_SHM = 1 << 6,
    DK_IO_LOCK = 1 << 7,
};
#define DK_IO_ANY 0xFFu
/* What needs room, and what changes the disk: where it can be full, and where a cut makes a
   difference. */
#define DK_IO_ROOM ((unsigned)(DK_IO_WRITE | DK_IO_TRUNCATE | DK_IO_SHM))
#define DK_IO_CHANGE ((unsigned)(DK_IO_WRITE | DK_IO_SYNC | DK_IO_TRUNCATE | DK_IO_DELETE))

/* What befalls calls of these kinds. Zero = nothing. */
struct dk_disk_plan {
    unsigned kinds;
    unsigned at;         /* this call of them, counted from 1; 0 = none */
    bool and_all_after;  /* and each after it */
    bool (*fails)(void); /* asked instead, at each call of them; NULL = nobody */
    int error;           /* EIO, ENOSPC: what it ends with. 0 with `at`: the power is cut there */
    bool part;           /* a write that fails leaves the first half of its bytes */
    int64_t *clock_ms;   /* slow: each call of these kinds moves this clock on */
    int64_t delay_ms;
};

/* A disk that does not do what it says: a checker has to notice each. */
enum dk_disk_lie {
    DK_DISK_HONEST,
    DK_DISK_FORGETS_SYNCS,      /* of SQLite's files */
    DK_DISK_FORGETS_FILE_SYNCS, /* of the others */
    DK_DISK_FORGETS_FOLDER_SYNCS,
};

/* Watches this folder from now on; `seed` decides what a cut leaves. */
void dk_disk_start(const char *folder, uint64_t seed, enum dk_disk_lie lie);
void dk_disk_stop(void);
void dk_disk_plan(const struct dk_disk_plan *plan); /* NULL = none; counts from 1 again */
unsigned dk_disk_calls(void);                       /* of the plan's kinds so far */
void dk_disk_cut(void);                             /* the power is cut now */
bool dk_disk_is_cut(void);
/* After a cut: the folder becomes what the machine finds; no plan is on. */
void dk_disk_restart(void);
/* A number that two runs share only when they made the same calls in the same order. */
uint64_t dk_disk_trace(void);
void dk_disk_trace_add(const void *p, size_t n);

/* ---- for fault_vfs.c and fault_files.c ------------------------------------------------------- */

struct dk_disk_file;

bool dk_disk_is_watching(void);
/* The watched file of this path, as its name in the folder; NULL = not watched. */
const char *dk_disk_name(const char *path);
bool dk_disk_is_folder(const char *path);
/* 0, or the errno that the call ends with. */
int dk_disk_call(enum dk_io kind, const char *name, int64_t at, size_t n);
bool dk_disk_writes_part(void);
uint64_t dk_disk_random(void);

/* The file that a name means now; makes it, known to be empty, when the name means none. */
struct dk_disk_file *dk_disk_open(const char *name);
bool dk_disk_has(const char *name);
/* As it is on the disk: nobody saw it being written (made before, or by others). */
void dk_disk_import(struct dk_disk_file *file, const void *p, size_t n);
void dk_disk_write(struct dk_disk_file *file, const void *p, size_t n, size_t at);
void dk_disk_truncate(struct dk_disk_file *file, size_t n);
void dk_disk_sync(struct dk_disk_file *file);
void dk_disk_sync_whole(struct dk_disk_file *file, const void *p, size_t n);
void dk_disk_sync_folder(void);
void dk_disk_delete(const char *name);
void dk_disk_rename(const char *from, const char *to, bool keep_from);

#endif
