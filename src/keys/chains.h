/*
 * chains: what verify remembers of a log that it has read: each chain, and the MAC of each row.
 *
 * Names and MACs are kept as keyed hashes: nobody can make two of them meet on purpose. One thread.
 */
#ifndef DK_KEYS_CHAINS_H
#define DK_KEYS_CHAINS_H

#include "base/world.h"
#include "crypto/siphash.h"

/* One chain of the log, as far as it was read. */
struct dk_chain {
    struct dk_hash128 id; /* of "t" and the tenant, or "p" and the process; zero: no chain */
    struct dk_hash128 head;
    struct dk_hash128 sealed;
    struct dk_hash128 base; /* what its first row follows, where that was pruned; zero: nothing */
    int64_t epoch;          /* as the newest seal has it */
    uint32_t generation;    /* of the registry key of its newest row */
    bool rows;
    bool broken; /* its first wrong row was told */
    bool lost;   /* so was the first row that a seal knows and the log has not */
    bool row_of_tenant;
    bool pruned;     /* all of its rows that seals know so far may be gone, and are */
    bool moved;      /* since the newest seal: its end stands in none yet */
    bool base_known; /* a seal up to which the log was pruned has `base` */
};

struct dk_chains {
    const struct dk_mem *mem;
    uint8_t hash_key[16];
    struct dk_chain *chains; /* open addressing */
    size_t cap, used;
    uint64_t *macs; /* of all rows; 0 is free */
    size_t mac_cap, mac_count;
};

DK_MUST_USE dk_rc dk_chains_init(struct dk_chains *chains, const struct dk_world *world,
                                 struct dk_err *err);
void dk_chains_clear(struct dk_chains *chains);

struct dk_hash128 dk_chains_hash(const struct dk_chains *chains, const char *s);
bool dk_hash_same(struct dk_hash128 a, struct dk_hash128 b);

/* The chain of a tenant or a process, made when it is new; NULL without memory. Lent until the
   next call. */
struct dk_chain *dk_chain_of(struct dk_chains *chains, bool process, const char *name);
/* That the log has a row with that MAC, of that generation of the registry key. False: no memory.
 */
DK_MUST_USE bool dk_chains_add_mac(struct dk_chains *chains, uint32_t generation, const char *mac);
bool dk_chains_has_mac(const struct dk_chains *chains, uint32_t generation, const char *mac);

#endif
