/*
 * audit_state: what audit.c (the chains), adopt.c (rows from before them) and guard.c (the anchor)
 * share of one instance.
 */
#ifndef DK_KEYS_AUDIT_STATE_H
#define DK_KEYS_AUDIT_STATE_H

#include <pthread.h>
#include <stdatomic.h>

#include "keys/anchor.h"
#include "keys/audit.h"

struct dk_epochs;

struct dk_audit {
    pthread_mutex_t lock;        /* guards head, from the reading of it to the commit */
    char head[DK_MAC_TEXT];      /* of this process's chain */
    bool in_doubt;               /* a commit failed: `head` may be one row behind; under `lock` */
    pthread_mutex_t node_lock;   /* guards node, which moves under `lock` too */
    char node[DK_ACTOR_MAX + 1]; /* host/instance: the name of the chain */
    struct dk_epochs *epochs;
    /* Moved by one thread at a time: at open, under the manager's poll lock, at close. */
    struct dk_seal known; /* the newest seal seen */
    int64_t anchored;     /* as far as the anchor file is known to be */
    atomic_bool back;     /* the registry is older than it was */
    atomic_bool unsealed; /* this process wrote what no seal of its own has */
};

/* A new name and an empty head: the old chain ends where the registry that had it went. */
DK_MUST_USE dk_rc dk_audit_new_chain(struct dk_core *core, struct dk_err *err);

/*
 * Chains and stores a row of this process in the change. The caller holds `lock` until it has
 * committed with dk_audit_commit_here.
 */
DK_MUST_USE dk_rc dk_audit_store_here(struct dk_core *core, struct dk_change *change,
                                      struct dk_log_row *row, char head[static DK_MAC_TEXT],
                                      struct dk_err *err);
/* Commits, and makes `head` the chain's. */
DK_MUST_USE dk_rc dk_audit_commit_here(struct dk_core *core, struct dk_txn *txn,
                                       const char head[static DK_MAC_TEXT], struct dk_err *err);

/* Lines of a seal. */
DK_MUST_USE dk_rc dk_audit_add_tenant(struct dk_change *change, const char *tenant, int64_t epoch,
                                      const char *head, struct dk_err *err);
DK_MUST_USE dk_rc dk_audit_add_process(struct dk_change *change, const char *node, const char *head,
                                       struct dk_err *err);
/* Notes the tenant's head for the seal of the change. */
DK_MUST_USE dk_rc dk_audit_add_head(struct dk_change *change, const struct dk_tenant_row *tenant,
                                    struct dk_err *err);

#endif
