/*
 * manager: encrypt and decrypt one value: find the key, seal or open.
 *
 * Called by the door. A call whose key is hot in its thread takes no lock, asks no one and
 * allocates at most once. Shared by threads.
 */
#ifndef DK_KEYS_MANAGER_H
#define DK_KEYS_MANAGER_H

#include "keys/cache.h"
#include "keys/thread.h"
#include "keys/usage.h"

struct dk_manager;

struct dk_request {
    struct dk_view tenant;       /* as the caller gave it */
    const struct dk_pair *pairs; /* the context */
    size_t pair_count;
};

/* `core` is lent; its counts are opened here. */
DK_MUST_USE dk_rc dk_manager_open(struct dk_core *core, struct dk_manager **out,
                                  struct dk_err *err);
/* Flushes the message counts: an error says that they are lost, all else is closed. */
DK_MUST_USE dk_rc dk_manager_close(struct dk_manager *manager, struct dk_err *err);
/* Closes it as it stands: neither counts nor anchor are written. NULL is allowed. */
void dk_manager_abandon(struct dk_manager *manager);
/* In a child process, alone. */
void dk_manager_after_fork(struct dk_manager *manager);

/*
 * *need = the exact size of the result. E_BUFFER: `cap` is smaller, nothing was written. E_LIMIT:
 * over 1 MiB. The buffer must not overlap the input.
 */
DK_MUST_USE dk_rc dk_manager_encrypt(struct dk_manager *manager, const struct dk_request *request,
                                     enum dk_field_form form, struct dk_view plain, uint8_t *out,
                                     size_t cap, size_t *need, struct dk_err *err);
DK_MUST_USE dk_rc dk_manager_decrypt(struct dk_manager *manager, const struct dk_request *request,
                                     struct dk_view value, uint8_t *out, size_t cap, size_t *need,
                                     struct dk_err *err);

/*
 * Fetches the keys that a batch needs and memory lacks: one transaction for reading, one for all
 * new tenants. `version` of each name as asked later. What cannot be had is told by the call that
 * needs it.
 */
void dk_manager_prefetch(struct dk_manager *manager, struct dk_key_name *names, size_t count);
/* True when the calling thread has the key in hand: no need to name it for a prefetch. */
DK_MUST_USE bool dk_manager_is_hot(struct dk_manager *manager, struct dk_view tenant,
                                   uint32_t version);

/* Polls for changes of other processes, flushes counts that are due, rotates what is full. */
DK_MUST_USE dk_rc dk_manager_tick(struct dk_manager *manager, struct dk_err *err);

struct dk_cache *dk_manager_cache(struct dk_manager *manager);

struct dk_manager_stats {
    int64_t calls;    /* that found their key */
    int64_t hits;     /* among them: their key was in memory */
    int64_t misses;   /* keys that were not there and had to be fetched first */
    int64_t unwraps;  /* keys fetched: misses and refreshes */
    int64_t failures; /* fetches that failed */
    int64_t evictions;
    int64_t cached_keys;
    int64_t capacity;
};
struct dk_manager_stats dk_manager_stats(struct dk_manager *manager);
/* Of one version, sealing and opening, as long as it is in memory; else 0. */
struct dk_key_uses dk_manager_key_uses(struct dk_manager *manager, const struct dk_key_name *name);

/* dk_usage_costs(), with what this process counted until now. */
DK_MUST_USE dk_rc dk_manager_costs(struct dk_manager *manager, int64_t days,
                                   struct dk_usage_costs *out, struct dk_err *err);

/*
 * Forgets every key of this process, and asks all others for the same at their next poll, by a row
 * of the log. On an error this process has forgotten, and nobody was asked.
 */
DK_MUST_USE dk_rc dk_manager_clear(struct dk_manager *manager, const char *by, struct dk_err *err);

/* dk_audit_accept, and every key in memory is read again. */
DK_MUST_USE dk_rc dk_manager_accept(struct dk_manager *manager, const char *confirm, const char *by,
                                    int64_t *tenants, struct dk_err *err);

#endif
