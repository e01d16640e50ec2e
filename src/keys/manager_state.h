/*
 * manager_state: what manager.c (calls) and poll.c (news of the registry) share of one instance.
 */
#ifndef DK_KEYS_MANAGER_STATE_H
#define DK_KEYS_MANAGER_STATE_H

#include <pthread.h>

#include "keys/lease.h"
#include "keys/manager.h"

#define DK_CACHE_CLEAR "cache-clear" /* the operation, in the log */

struct dk_manager {
    struct dk_core *core;
    struct dk_cache *cache;
    struct dk_key_source keys; /* the cache */
    struct dk_threads *threads;
    _Atomic int64_t next_poll_ms; /* who moves it on does the poll */
    _Atomic int64_t next_flush_ms;
    _Atomic int64_t next_warning_ms; /* 0: at the first tick */
    _Atomic int64_t next_hello_ms;   /* 0: it has not said yet that it is there */
    atomic_bool leads; /* this process has the lease to seal, and does what one does for all */
    struct dk_lease lease;
    pthread_mutex_t poll_lock; /* guards the marks, and busy_turns */
    unsigned busy_turns;       /* to seal, in a row, at which another was there */
    atomic_bool behind;        /* the last look was at a copy that may be late */
    struct dk_mark mark;       /* changes of tenants seen so far */
    int64_t clears;            /* asked for so far, as the store numbers them */
};

/* Where the registry stands at open: what changes after it is news. */
DK_MUST_USE dk_rc dk_poll_first(struct dk_manager *manager, struct dk_err *err);
/*
 * Forgets keys that changed elsewhere, moves the anchor on, renews the lease, and seals where that
 * is this process's turn. A failure is logged too.
 */
DK_MUST_USE dk_rc dk_poll(struct dk_manager *manager, struct dk_err *err);
/* A process that ticks is a node, and says so from time to time. */
void dk_poll_hello(struct dk_manager *manager);
/* At close: seals what this process wrote, and moves the anchor on. */
void dk_poll_last(struct dk_manager *manager);
/* The lease is over: looks, once a poll at most. E_LEASE: there is no news still. */
DK_MUST_USE dk_rc dk_poll_renew_lease(struct dk_manager *manager, struct dk_err *err);
/* Whether somebody asked since the last look that every process reads its keys again. */
DK_MUST_USE dk_rc dk_poll_see_clears(struct dk_manager *manager, struct dk_txn *txn, bool *cleared,
                                     struct dk_err *err);

#endif
