/*
 * slots: the cached keys as they lie in the arena's table, and the index by which they are found.
 *
 * Called by keys/cache only. Knows identities, not names; knows no clock and no source. Reading
 * takes no lock and waits for nobody: it copies and then looks whether the slot is still what it
 * was. Everything else that changes a slot wants the cache's lock (`_locked`); counts and heat are
 * atomic and want none. Table bytes of a key: an entry of 96 and 6 of index, below the 112 of the
 * design. A fork leaves the table zero, which is empty.
 */
#ifndef DK_KEYS_SLOTS_H
#define DK_KEYS_SLOTS_H

#include <stdatomic.h>

#include "crypto/field.h"
#include "crypto/siphash.h"

#define DK_SLOT_NONE UINT32_MAX
#define DK_SLOT_SHARES 4096

struct dk_slot;

/* What the owner of the slots keeps outside the table. All but `changes` is under its lock. */
struct dk_slots {
    struct dk_slot *entries;
    _Atomic uint32_t *cells; /* buckets of the index */
    uint32_t bucket_count;
    uint32_t capacity;
    uint32_t used; /* entries handed out so far; the rest is memory that was never touched */
    uint32_t free_slot;
    uint32_t hand; /* of the clock that finds a victim */
    uint32_t keys; /* held now */
    uint32_t last_generation;
    uint64_t dice;                   /* where a victim of one tenant is looked for */
    _Atomic uint64_t changes;        /* grows with every slot that is given up */
    uint32_t shares[DK_SLOT_SHARES]; /* entries by hash of their tenant */
};

/*
 * `id.hi` is the tenant's alone. Times are milliseconds since the cache was opened; asked_ms < 0:
 * it was never fresh.
 */
struct dk_slot_key {
    uint32_t slot;
    uint32_t generation;
    uint32_t version;
    int64_t messages;
    int64_t asked_ms;
    int64_t due_ms;
};

struct dk_slot_counts {
    uint32_t version;
    int64_t hits;
    int64_t misses;
    int64_t unwraps;
    int64_t messages;
};

/* What a table for so many keys has to have, and how many keys a table of that size takes. */
size_t dk_slots_bytes(size_t keys);
size_t dk_slots_fitting(size_t bytes);

/* `table` is zeroed, aligned to a cache line, and of dk_slots_bytes(keys). */
void dk_slots_init(struct dk_slots *slots, uint8_t *table, size_t keys, uint64_t seed);
/* In a child, alone: the table is zero again; generations are never used twice. */
void dk_slots_after_fork(struct dk_slots *slots);

/* Copies a key out: DK_FIELD_SECRET bytes to `okm`. False: it is not there, or goes this moment. */
DK_MUST_USE bool dk_slots_read(const struct dk_slots *slots, struct dk_hash128 id,
                               struct dk_slot_key *out, uint8_t *okm);
/* The same, not as a use. `okm` NULL: the key itself is not wanted. */
DK_MUST_USE bool dk_slots_peek(const struct dk_slots *slots, struct dk_hash128 id,
                               struct dk_slot_key *out, uint8_t *okm);

/*
 * Keeps a key; its times are set by dk_slots_set_times. When the table is full another goes: one
 * that was used little, or one of the same tenant when that has a quarter of the table.
 */
uint32_t dk_slots_put_locked(struct dk_slots *slots, struct dk_hash128 id, uint32_t version,
                             const uint8_t *okm, int64_t *evictions);
uint32_t dk_slots_find_locked(const struct dk_slots *slots, struct dk_hash128 id);
/* True when the slot holds this very key. */
DK_MUST_USE bool dk_slots_same_locked(const struct dk_slots *slots, uint32_t slot, uint32_t version,
                                      const uint8_t *okm);
/* Wipes it, and ends its generation. */
void dk_slots_drop_locked(struct dk_slots *slots, uint32_t slot);
/* Drops those of slots [from, to) whose tenant is one of the sorted `tenants`; NULL = all. */
void dk_slots_drop_range_locked(struct dk_slots *slots, uint32_t from, uint32_t to,
                                const uint64_t *tenants, size_t count);
/* Drops those of slots [from, to) that were asked for before this. */
void dk_slots_drop_old_locked(struct dk_slots *slots, uint32_t from, uint32_t to,
                              int64_t oldest_ms);

void dk_slots_set_times(struct dk_slots *slots, uint32_t slot, int64_t asked_ms, int64_t due_ms);
/* Messages known of the version: the more of the two. */
void dk_slots_set_messages(struct dk_slots *slots, uint32_t slot, int64_t messages);
/* One unwrap more; `miss`: a caller waited for it. */
void dk_slots_count_unwrap(struct dk_slots *slots, uint32_t slot, bool miss);

/* Of a slot that is still in this generation: adds, and returns the messages; else 0. */
int64_t dk_slots_add_uses(struct dk_slots *slots, uint32_t slot, uint32_t generation, int64_t hits,
                          int64_t messages);
/* Valid as long as the table. */
const _Atomic uint32_t *dk_slots_generation(const struct dk_slots *slots, uint32_t slot);
/* It was used: it is not the next to go. */
void dk_slots_warm(const struct dk_slots *slots, uint32_t slot, int64_t uses);
struct dk_slot_counts dk_slots_counts(const struct dk_slots *slots, uint32_t slot);

#endif
