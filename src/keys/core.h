/*
 * core: what the rules of a key's life share in one library instance.
 *
 * Filled by the door at open, lent to every file of this room. Immutable after open but for what
 * the parts guard themselves.
 */
#ifndef DK_KEYS_CORE_H
#define DK_KEYS_CORE_H

#include "crypto/field.h"
#include "crypto/rowmac.h"
#include "keys/revoked.h"
#include "provider/provider.h"
#include "store/store.h"

#define DK_ACTOR_MAX 127

struct dk_limits {
    int64_t rotation_us; /* how long a version encrypts */
    int64_t warning_us;  /* due and reported this long before */
    int64_t ttl_ms;
    int64_t hard_ttl_ms;
    int64_t poll_ms;
    int64_t lease_ms;  /* nothing is encrypted this long after the last good poll */
    int64_t canary_us; /* further wraps are opened again after so long */
    size_t max_keys;
    int64_t flush_messages;   /* counts go to the store from here on: 2^20 */
    int64_t unflushed_max;    /* a process that cannot flush stops here: 2^28 */
    int64_t rotate_messages;  /* rotated early from here on: 2^31 */
    int64_t encrypt_messages; /* encrypts no more: 2^32 less what threads may not have folded yet */
};

/* The defaults of the settings and of FORMATS' budget. */
extern const struct dk_limits dk_limits_default;

/* What is derived from one registry key. */
struct dk_registry_keys {
    uint32_t generation; /* 0 = none is here */
    char pin[65];        /* fingerprint of the registry key */
    struct dk_mac *row;  /* for the MACs of rows, log rows and seals */
    struct dk_mac *log;
    struct dk_mac *seal;
};

/* How far the ticks came with further wraps: each goes on where the one before ended. */
struct dk_further_at {
    struct dk_key_cursor missing[2]; /* of the first provider, and the second */
    struct dk_wrap_cursor stale;
    bool begun;          /* `stale` is a place */
    int64_t registry_us; /* when all of the registry's were opened last; 0 = never */
};

struct dk_registry;   /* keys/registry */
struct dk_key_lender; /* keys/source */
struct dk_counts;
struct dk_audit;
struct dk_usage;

struct dk_core {
    const struct dk_world *world;
    struct dk_suite suite;
    struct dk_arena *arena;
    struct dk_log log;
    struct dk_limits limits;
    struct dk_provider *provider;
    _Atomic int64_t further_due_ms; /* when the ticks look after further wraps again; 0 = at once,
                                       below: one of them is at it */
    _Atomic bool further_busy;      /* a tick is at it, and has further_at */
    struct dk_further_at further_at;
    int64_t second_served;      /* keys that a further wrap opened; atomic */
    struct dk_provider *second; /* KMS_SECONDARY_PROVIDER; NULL = none */
    struct dk_store store;
    struct dk_registry *registry;
    struct dk_counts *counts;
    struct dk_usage *usage;
    struct dk_audit *audit;
    struct dk_revoked revoked;
    const struct dk_key_lender *lender; /* the cache, while it is open; NULL = none */
    bool just_made;      /* this process has made the registry's key: nothing is to be trusted */
    char pin_wanted[65]; /* KMS_REGISTRY_PIN, "" = none */
    const char *anchor_path; /* lent by the door */
    char actor[DK_ACTOR_MAX + 1];
    char host[65];
};

#endif
