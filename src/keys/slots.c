#include "keys/slots.h"

#include <stdlib.h>

#define KEY_WORDS (DK_FIELD_SECRET / 8)
#define BUCKET 8      /* cells a bucket: half a cache line */
#define ROOM 6        /* free cells from which on the first bucket is good enough */
#define LEAST_KEYS 16 /* of one tenant: below that a quarter says nothing */
/* Who is fetched is used once: that alone makes nobody warm. The hand cools by one a round. */
#define HEAT_COLD 1
#define HEAT_MAX 4
#define LOOK_AT 256 /* slots that a search for a victim looks at, at most */
#define THROWS 64   /* of the dice, for one of a tenant that has a quarter or more */
#define DUE_UNIT 64 /* milliseconds: 24 bits reach 12 days */
#define DUE_MASK 0xFFFFFFu
#define DUE_BITS 24

/*
 * All members are atomic, for who reads while another writes. A reader takes the generation, then
 * the rest, each with acquire, then the generation again. A writer makes it 0, writes with
 * release, and then sets one that was never used before: who saw any new word sees that too.
 */
struct dk_slot {
    _Atomic uint64_t okm[KEY_WORDS];
    _Atomic uint64_t id_lo;
    _Atomic uint64_t id_hi;
    _Atomic int64_t messages;
    _Atomic uint64_t times;      /* asked + 1 in 40 bits (0: never fresh), due - asked in units */
    _Atomic uint32_t version;    /* the next free slot while it is free */
    _Atomic uint32_t generation; /* 0 = free, or being written */
    _Atomic uint32_t hits;
    _Atomic uint16_t unwraps;
    _Atomic uint8_t misses;
    _Atomic uint8_t heat;
};
_Static_assert(sizeof(struct dk_slot) == 96, "96 bytes an entry");
_Static_assert(DK_FIELD_SECRET % 8 == 0, "a key is copied in words");

#define GET(member) atomic_load_explicit(&(member), memory_order_acquire)
#define SET(member, value) atomic_store_explicit(&(member), value, memory_order_release)

/* ---- size and layout ------------------------------------------------------------------------- */

/* Three cells for two keys: no two buckets of one key are ever both full but by great chance. */
static size_t buckets_for(size_t keys)
{
    size_t buckets = (keys * 3 / 2 + BUCKET - 1) / BUCKET;
    return buckets < 8 ? 8 : buckets;
}

static size_t entries_at(size_t keys)
{
    return (buckets_for(keys) * BUCKET * 4 + 63) / 64 * 64;
}

size_t dk_slots_bytes(size_t keys)
{
    return entries_at(keys) + keys * sizeof(struct dk_slot);
}

size_t dk_slots_fitting(size_t bytes)
{
    size_t keys = bytes / (sizeof(struct dk_slot) + 6);
    while (keys > 0 && dk_slots_bytes(keys) > bytes) {
        keys--;
    }
    return keys;
}

void dk_slots_init(struct dk_slots *slots, uint8_t *table, size_t keys, uint64_t seed)
{
    slots->cells = (_Atomic uint32_t *)(void *)table;
    slots->entries = (struct dk_slot *)(void *)(table + entries_at(keys));
    slots->bucket_count = (uint32_t)buckets_for(keys);
    slots->capacity = (uint32_t)keys;
    slots->free_slot = DK_SLOT_NONE;
    slots->dice = seed | 1;
}

void dk_slots_after_fork(struct dk_slots *slots)
{
    slots->used = 0;
    slots->free_slot = DK_SLOT_NONE;
    slots->hand = 0;
    slots->keys = 0;
    memset(slots->shares, 0, sizeof slots->shares);
    atomic_fetch_add(&slots->changes, 1);
}

/* ---- the index ------------------------------------------------------------------------------- */

/* A cell: 8 bits of the identity, never all 0; 24 of slot + 1. 0 = free. A cell never moves. */
#define CELL_SLOT 0xFFFFFFu

static uint32_t tag_of(struct dk_hash128 id)
{
    uint32_t tag = (uint32_t)(id.hi >> 56);
    return (tag != 0 ? tag : 1) << 24;
}

static inline _Atomic uint32_t *bucket_of(const struct dk_slots *slots, struct dk_hash128 id,
                                          int which)
{
    uint32_t half = (uint32_t)(which == 0 ? id.lo : id.lo >> 32);
    uint32_t bucket = (uint32_t)((uint64_t)half * slots->bucket_count >> 32);
    return &slots->cells[(size_t)bucket * BUCKET];
}

static unsigned count_free(_Atomic uint32_t *bucket)
{
    unsigned n = 0;
    for (int i = 0; i < BUCKET; i++) {
        n += GET(bucket[i]) == 0;
    }
    return n;
}

static struct dk_hash128 id_of(const struct dk_slot *entry)
{
    return (struct dk_hash128){GET(entry->id_lo), GET(entry->id_hi)};
}

static bool has_tag(uint32_t cell, uint32_t tag)
{
    return (cell & ~CELL_SLOT) == tag;
}

static _Atomic uint32_t *find_cell(const struct dk_slots *slots, struct dk_hash128 id)
{
    for (unsigned which = 0; which < 2; which++) {
        _Atomic uint32_t *bucket = bucket_of(slots, id, which);
        for (int i = 0; i < BUCKET; i++) {
            uint32_t cell = GET(bucket[i]);
            if (has_tag(cell, tag_of(id))) {
                struct dk_hash128 found = id_of(&slots->entries[(cell & CELL_SLOT) - 1]);
                if (found.lo == id.lo && found.hi == id.hi) {
                    return &bucket[i];
                }
            }
        }
    }
    return NULL;
}

uint32_t dk_slots_find_locked(const struct dk_slots *slots, struct dk_hash128 id)
{
    _Atomic uint32_t *cell = find_cell(slots, id);
    return cell == NULL ? DK_SLOT_NONE : (GET(*cell) & CELL_SLOT) - 1;
}

/* ---- reading --------------------------------------------------------------------------------- */

static int64_t asked_of(uint64_t times)
{
    return (int64_t)(times >> DUE_BITS) - 1;
}

static inline bool copy_entry(const struct dk_slot *entry, struct dk_hash128 id,
                              struct dk_slot_key *out, uint8_t *okm)
{
    uint32_t generation = GET(entry->generation);
    if (generation == 0 || GET(entry->id_lo) != id.lo || GET(entry->id_hi) != id.hi) {
        return false;
    }
    for (size_t i = 0; i < KEY_WORDS && okm != NULL; i++) {
        uint64_t word = GET(entry->okm[i]);
        memcpy(okm + 8 * i, &word, 8);
    }
    uint64_t times = GET(entry->times);
    out->generation = generation;
    out->version = GET(entry->version);
    out->messages = GET(entry->messages);
    out->asked_ms = asked_of(times);
    out->due_ms = out->asked_ms + (int64_t)(times & DUE_MASK) * DUE_UNIT;
    return GET(entry->generation) == generation;
}

void dk_slots_warm(const struct dk_slots *slots, uint32_t slot, int64_t uses)
{
    struct dk_slot *entry = &slots->entries[slot];
    uint8_t heat = GET(entry->heat);
    if (heat < HEAT_MAX) { /* a line that all read is seldom written */
        SET(entry->heat, (uint8_t)(uses < HEAT_MAX - heat ? heat + uses : HEAT_MAX));
    }
}

bool dk_slots_peek(const struct dk_slots *slots, struct dk_hash128 id, struct dk_slot_key *out,
                   uint8_t *okm)
{
    uint32_t tag = tag_of(id);
    for (unsigned which = 0; which < 2; which++) {
        _Atomic uint32_t *bucket = bucket_of(slots, id, which);
        for (int i = 0; i < BUCKET; i++) {
            uint32_t cell = GET(bucket[i]);
            if (has_tag(cell, tag)) {
                out->slot = (cell & CELL_SLOT) - 1;
                if (copy_entry(&slots->entries[out->slot], id, out, okm)) {
                    return true;
                }
            }
        }
    }
    return false;
}

bool dk_slots_read(const struct dk_slots *slots, struct dk_hash128 id, struct dk_slot_key *out,
                   uint8_t *okm)
{
    if (!dk_slots_peek(slots, id, out, okm)) {
        return false;
    }
    dk_slots_warm(slots, out->slot, 1);
    return true;
}

/* ---- writing --------------------------------------------------------------------------------- */

static uint32_t *share_of(struct dk_slots *slots, uint64_t tenant)
{
    return &slots->shares[tenant % DK_SLOT_SHARES];
}

static void give_up(struct dk_slots *slots, uint32_t slot)
{
    struct dk_slot *entry = &slots->entries[slot];
    struct dk_hash128 id = id_of(entry);
    SET(*find_cell(slots, id), 0);
    SET(entry->generation, 0);
    for (size_t i = 0; i < KEY_WORDS; i++) {
        SET(entry->okm[i], 0);
    }
    SET(entry->id_lo, 0);
    SET(entry->id_hi, 0);
    SET(entry->version, slots->free_slot);
    slots->free_slot = slot;
    slots->keys--;
    --*share_of(slots, id.hi);
}

void dk_slots_drop_locked(struct dk_slots *slots, uint32_t slot)
{
    give_up(slots, slot);
    atomic_fetch_add(&slots->changes, 1);
}

/* Once for many: keyed contexts are looked through at each change. */
static void note_changes(struct dk_slots *slots, uint32_t keys_before)
{
    if (slots->keys != keys_before) {
        atomic_fetch_add(&slots->changes, 1);
    }
}

static int compare_hashes(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

void dk_slots_drop_range_locked(struct dk_slots *slots, uint32_t from, uint32_t to,
                                const uint64_t *tenants, size_t count)
{
    uint32_t before = slots->keys;
    for (uint32_t i = from; i < to && i < slots->used; i++) {
        struct dk_slot *entry = &slots->entries[i];
        uint64_t tenant = GET(entry->id_hi);
        if (GET(entry->generation) != 0 &&
            (tenants == NULL ||
             bsearch(&tenant, tenants, count, sizeof *tenants, compare_hashes) != NULL)) {
            give_up(slots, i);
        }
    }
    note_changes(slots, before);
}

void dk_slots_drop_old_locked(struct dk_slots *slots, uint32_t from, uint32_t to, int64_t oldest_ms)
{
    uint32_t before = slots->keys;
    for (uint32_t i = from; i < to && i < slots->used; i++) {
        const struct dk_slot *entry = &slots->entries[i];
        if (GET(entry->generation) != 0 && asked_of(GET(entry->times)) < oldest_ms) {
            give_up(slots, i);
        }
    }
    note_changes(slots, before);
}

/* ---- who goes (F48) -------------------------------------------------------------------------- */

static uint32_t throw_dice(struct dk_slots *slots)
{
    slots->dice ^= slots->dice << 13;
    slots->dice ^= slots->dice >> 7;
    slots->dice ^= slots->dice << 17;
    return (uint32_t)((slots->dice >> 32) * slots->used >> 32);
}

/* Of a tenant that holds a quarter of the table, found by chance: 64 misses are one in 10^8. */
static uint32_t one_of_tenant(struct dk_slots *slots, uint64_t tenant)
{
    for (int i = 0; i < THROWS; i++) {
        uint32_t slot = throw_dice(slots);
        const struct dk_slot *entry = &slots->entries[slot];
        if (GET(entry->generation) != 0 && GET(entry->id_hi) == tenant) {
            return slot;
        }
    }
    return DK_SLOT_NONE;
}

/* The first cold slot that the hand comes to; it cools what it passes. */
static uint32_t coldest(struct dk_slots *slots)
{
    uint32_t best = DK_SLOT_NONE;
    uint8_t least = UINT8_MAX;
    for (uint32_t i = 0; i < LOOK_AT || best == DK_SLOT_NONE; i++) {
        uint32_t slot = slots->hand;
        struct dk_slot *entry = &slots->entries[slot];
        slots->hand = slot + 1 < slots->used ? slot + 1 : 0;
        uint8_t heat = GET(entry->heat);
        if (GET(entry->generation) == 0) {
            continue;
        }
        if (heat < least) {
            best = slot;
            least = heat;
        }
        if (heat <= HEAT_COLD) {
            break;
        }
        SET(entry->heat, (uint8_t)(heat - 1));
    }
    return best;
}

static uint32_t victim(struct dk_slots *slots, uint64_t tenant)
{
    uint32_t quarter = slots->capacity / 4 > LEAST_KEYS ? slots->capacity / 4 : LEAST_KEYS;
    uint32_t slot = DK_SLOT_NONE;
    if (*share_of(slots, tenant) >= quarter) {
        slot = one_of_tenant(slots, tenant);
    }
    return slot != DK_SLOT_NONE ? slot : coldest(slots);
}

static uint32_t take_slot(struct dk_slots *slots, uint64_t tenant, int64_t *evictions)
{
    if (slots->free_slot == DK_SLOT_NONE && slots->used < slots->capacity) {
        return slots->used++;
    }
    if (slots->free_slot == DK_SLOT_NONE) {
        dk_slots_drop_locked(slots, victim(slots, tenant));
        ++*evictions;
    }
    uint32_t slot = slots->free_slot;
    slots->free_slot = GET(slots->entries[slot].version);
    return slot;
}

static _Atomic uint32_t *free_cell(_Atomic uint32_t *bucket)
{
    for (int i = 0; i < BUCKET; i++) {
        if (GET(bucket[i]) == 0) {
            return &bucket[i];
        }
    }
    return NULL;
}

static _Atomic uint32_t *coldest_cell(const struct dk_slots *slots, struct dk_hash128 id)
{
    _Atomic uint32_t *best = NULL;
    unsigned least = UINT8_MAX;
    for (unsigned i = 0; i < 2 * BUCKET; i++) {
        _Atomic uint32_t *cell = &bucket_of(slots, id, i / BUCKET)[i % BUCKET];
        uint8_t heat = GET(slots->entries[(GET(*cell) & CELL_SLOT) - 1].heat);
        if (best == NULL || heat < least) {
            best = cell;
            least = heat;
        }
    }
    return best;
}

/*
 * A free cell: in the first bucket while it has several, for that is looked at first; else in the
 * emptier of the two. When both are full, the coldest of their keys goes.
 */
static _Atomic uint32_t *take_cell(struct dk_slots *slots, struct dk_hash128 id, int64_t *evictions)
{
    _Atomic uint32_t *first = bucket_of(slots, id, 0), *second = bucket_of(slots, id, 1);
    unsigned room = count_free(first);
    _Atomic uint32_t *cell = free_cell(room < ROOM && count_free(second) > room ? second : first);
    if (cell == NULL) {
        cell = coldest_cell(slots, id);
        dk_slots_drop_locked(slots, (GET(*cell) & CELL_SLOT) - 1);
        ++*evictions;
    }
    return cell;
}

static uint32_t next_generation(struct dk_slots *slots)
{
    slots->last_generation += slots->last_generation == UINT32_MAX ? 2 : 1;
    return slots->last_generation;
}

uint32_t dk_slots_put_locked(struct dk_slots *slots, struct dk_hash128 id, uint32_t version,
                             const uint8_t *okm, int64_t *evictions)
{
    _Atomic uint32_t *cell = take_cell(slots, id, evictions);
    uint32_t slot = take_slot(slots, id.hi, evictions);
    struct dk_slot *entry = &slots->entries[slot];
    for (size_t i = 0; i < KEY_WORDS; i++) {
        uint64_t word;
        memcpy(&word, okm + 8 * i, 8);
        SET(entry->okm[i], word);
    }
    SET(entry->id_lo, id.lo);
    SET(entry->id_hi, id.hi);
    SET(entry->messages, 0);
    SET(entry->times, 0);
    SET(entry->version, version);
    SET(entry->hits, 0);
    SET(entry->unwraps, 0);
    SET(entry->misses, 0);
    SET(entry->heat, 0);
    SET(entry->generation, next_generation(slots));
    SET(*cell, tag_of(id) | (slot + 1));
    slots->keys++;
    ++*share_of(slots, id.hi);
    return slot;
}

bool dk_slots_same_locked(const struct dk_slots *slots, uint32_t slot, uint32_t version,
                          const uint8_t *okm)
{
    const struct dk_slot *entry = &slots->entries[slot];
    uint64_t differ = GET(entry->version) ^ version;
    for (size_t i = 0; i < KEY_WORDS; i++) { /* all of them, whatever the first one says */
        uint64_t word;
        memcpy(&word, okm + 8 * i, 8);
        differ |= word ^ GET(entry->okm[i]);
    }
    return differ == 0;
}

void dk_slots_set_times(struct dk_slots *slots, uint32_t slot, int64_t asked_ms, int64_t due_ms)
{
    uint64_t units = (uint64_t)(due_ms - asked_ms) / DUE_UNIT;
    uint64_t due = units < DUE_MASK ? units : DUE_MASK;
    SET(slots->entries[slot].times, asked_ms < 0 ? 0 : (uint64_t)(asked_ms + 1) << DUE_BITS | due);
}

/* ---- counting -------------------------------------------------------------------------------- */

void dk_slots_set_messages(struct dk_slots *slots, uint32_t slot, int64_t messages)
{
    _Atomic int64_t *at = &slots->entries[slot].messages;
    int64_t known = atomic_load(at);
    while (known < messages && !atomic_compare_exchange_weak(at, &known, messages)) {
    }
}

void dk_slots_count_unwrap(struct dk_slots *slots, uint32_t slot, bool miss)
{
    struct dk_slot *entry = &slots->entries[slot];
    uint16_t unwraps = GET(entry->unwraps);
    uint8_t misses = GET(entry->misses);
    SET(entry->unwraps, unwraps < UINT16_MAX ? (uint16_t)(unwraps + 1) : unwraps);
    SET(entry->misses, miss && misses < UINT8_MAX ? (uint8_t)(misses + 1) : misses);
}

/* It stops at its end rather than to begin again. */
static void add_hits(struct dk_slot *entry, int64_t hits)
{
    uint32_t known = atomic_load(&entry->hits), sum;
    do {
        sum = hits < UINT32_MAX - (int64_t)known ? known + (uint32_t)hits : UINT32_MAX;
    } while (!atomic_compare_exchange_weak(&entry->hits, &known, sum));
}

/*
 * A slot that changes hands in this very moment may get what was another's: a few messages too
 * many of 2^32, never too few (what is pending is counted by name in keys/counts).
 */
int64_t dk_slots_add_uses(struct dk_slots *slots, uint32_t slot, uint32_t generation, int64_t hits,
                          int64_t messages)
{
    struct dk_slot *entry = &slots->entries[slot];
    if (GET(entry->generation) != generation) {
        return 0;
    }
    add_hits(entry, hits);
    return atomic_fetch_add(&entry->messages, messages) + messages;
}

const _Atomic uint32_t *dk_slots_generation(const struct dk_slots *slots, uint32_t slot)
{
    return &slots->entries[slot].generation;
}

struct dk_slot_counts dk_slots_counts(const struct dk_slots *slots, uint32_t slot)
{
    const struct dk_slot *entry = &slots->entries[slot];
    return (struct dk_slot_counts){.version = GET(entry->version),
                                   .hits = GET(entry->hits),
                                   .misses = GET(entry->misses),
                                   .unwraps = GET(entry->unwraps),
                                   .messages = GET(entry->messages)};
}
