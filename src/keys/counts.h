/*
 * counts: messages that this process sealed and the store does not know of yet (the budget).
 *
 * Fed by keys/thread, emptied into the store by keys/manager: at 2^20 of a version, hourly, at
 * close. What could not be written is kept. Shared by threads.
 */
#ifndef DK_KEYS_COUNTS_H
#define DK_KEYS_COUNTS_H

#include "keys/core.h"

DK_MUST_USE dk_rc dk_counts_open(const struct dk_world *world, struct dk_counts **out,
                                 struct dk_err *err);
void dk_counts_close(struct dk_counts *counts); /* NULL is allowed */
/* In a child process, alone: the parent's counts are the parent's. */
void dk_counts_after_fork(struct dk_counts *counts);

/* Adds, and returns what is pending of this version. Without memory to remember it, nothing is
   counted and INT64_MAX comes back: the caller must not encrypt on. */
int64_t dk_counts_add(struct dk_counts *counts, const struct dk_tenant *tenant, uint32_t version,
                      int64_t count);
int64_t dk_counts_pending(struct dk_counts *counts, const struct dk_tenant *tenant,
                          uint32_t version);
/* True when any version may have so many pending; takes no lock. */
bool dk_counts_reach(struct dk_counts *counts, int64_t messages);
/* True when a version has reached `messages`, or many versions wait. */
bool dk_counts_want_flush(struct dk_counts *counts, int64_t messages);

/*
 * Writes all to the store in one transaction. `full` is given each version that has reached
 * limits.rotate_messages. On an error everything is pending as before.
 */
DK_MUST_USE dk_rc dk_counts_flush(struct dk_core *core,
                                  void (*full)(void *arg, const struct dk_tenant *tenant,
                                               uint32_t version),
                                  void *arg, struct dk_err *err);

#endif
