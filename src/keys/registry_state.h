/*
 * registry_state: the keys of one instance's registry, as registry.c, row_macs.c and keyring.c
 * share them.
 *
 * A rekey by another process moves them while threads compute MACs: `lock` is held for a MAC, and
 * alone while they move.
 */
#ifndef DK_KEYS_REGISTRY_STATE_H
#define DK_KEYS_REGISTRY_STATE_H

#include <pthread.h>
#include <stdatomic.h>

#include "keys/core.h"

struct dk_registry {
    char uuid[DK_UUID_TEXT];     /* fixed once open */
    pthread_mutex_t follow_lock; /* one thread at a time follows a rekey */
    atomic_uint moves;           /* how often the keys were others */
    pthread_rwlock_t lock;       /* guards all that follows */
    struct dk_registry_keys now;
    struct dk_registry_keys earlier; /* believed in rows, while a rekey moves them; else empty */
    char wrap[DK_WRAPPED_TEXT];      /* what `now` was unwrapped from */
    char refused[DK_WRAPPED_TEXT];   /* a wrap to which no seal under our key leads */
    int64_t boundary;                /* the last seal under an earlier key; 0 = none */
    int64_t looked;                  /* seals up to here do not end the rekey */
    uint32_t finished;               /* of this generation no row is under the key before */
};

#endif
