/*
 * fault_vfs: SQLite's files under the control of a test.
 *
 * A VFS around SQLite's own, registered as the default one: the library, which names no VFS, uses
 * it without knowing. Each call asks fault_disk.h whether it may succeed, and tells it what it
 * changed. Real syncs are left out: no machine loses its power here.
 */
#ifndef DK_TEST_FAULT_VFS_H
#define DK_TEST_FAULT_VFS_H

#include "support/fault_disk.h"

/* First thing in main(). */
void dk_fault_vfs_install(void);
/* SQLite's random numbers (salts of the WAL) begin anew from the disk's seed. */
void dk_fault_vfs_reseed(void);

#endif
