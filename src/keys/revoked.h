/*
 * revoked: when a master key counts as taken away (DESIGN 9, F28).
 *
 * Called by unwrap, which tells what a provider said of a master key, and by the cache, which lets
 * go of its keys. Disabled, about to be deleted, or unknown: said twice, ten seconds apart and with
 * no good word between, that is meant. Denied or silent is an outage. Shared by threads.
 */
#ifndef DK_KEYS_REVOKED_H
#define DK_KEYS_REVOKED_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/log.h"

#define DK_REVOKED_KEYS 8
#define DK_REVOKED_MS 10000

struct dk_revoked {
    _Atomic uint32_t times; /* grows when a master key was taken away */
    pthread_mutex_t lock;   /* guards what follows */
    struct {
        uint64_t id;      /* a hash of the master key's name; 0 = free */
        int64_t first_ms; /* when it was said for the first time */
        bool over;        /* it counts as taken away */
    } key[DK_REVOKED_KEYS];
};

void dk_revoked_init(struct dk_revoked *revoked);
/* `err` is what an unwrap under this master key ended with; what nobody outside said counts for
   nothing (a file that lacks the key, an id that is none of ours). */
void dk_revoked_note(struct dk_revoked *revoked, const struct dk_log *log, const char *kms_key_id,
                     const struct dk_err *err, int64_t now_ms);
/* What a provider says of a master key that is taken away. */
bool dk_revoked_is(dk_rc rc);

#endif
