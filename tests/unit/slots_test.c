#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include <stdlib.h>

#include "keys/slots.h"
#include "support/expect.h"

struct table {
    struct dk_slots slots;
    uint8_t *memory;
    int64_t evictions;
};

static void table_open(struct table *table, size_t keys)
{
    size_t bytes = (dk_slots_bytes(keys) + 63) / 64 * 64;
    memset(table, 0, sizeof *table);
    table->memory = aligned_alloc(64, bytes);
    assert_non_null(table->memory);
    memset(table->memory, 0, bytes);
    dk_slots_init(&table->slots, table->memory, keys, 4711);
}

static void table_close(struct table *table)
{
    free(table->memory);
}

static void key_of(struct dk_hash128 id, uint8_t okm[static DK_FIELD_SECRET])
{
    for (size_t i = 0; i < DK_FIELD_SECRET; i++) {
        okm[i] = (uint8_t)(id.lo * 7 + id.hi * 13 + i);
    }
}

static uint32_t put(struct table *table, struct dk_hash128 id)
{
    uint8_t okm[DK_FIELD_SECRET];
    key_of(id, okm);
    return dk_slots_put_locked(&table->slots, id, 9, okm, &table->evictions);
}

/* Found, with the right key; not as a use. */
static bool has(struct table *table, struct dk_hash128 id)
{
    uint8_t okm[DK_FIELD_SECRET], right[DK_FIELD_SECRET];
    struct dk_slot_key key;
    key_of(id, right);
    bool there = dk_slots_peek(&table->slots, id, &key, okm);
    assert_true(!there || memcmp(okm, right, sizeof right) == 0);
    return there;
}

static struct dk_hash128 random_id(uint64_t *seed)
{
    uint64_t lo = dk_test_random(seed);
    return (struct dk_hash128){lo, dk_test_random(seed)};
}

/* Number i of those that have the same two buckets, and for one tenant the same tag. */
static struct dk_hash128 crowded(uint64_t i, uint64_t tenant)
{
    return (struct dk_hash128){i | UINT64_C(1) << 63, tenant};
}

/* ---- finding --------------------------------------------------------------------------------- */

/* Same buckets, same tag, and every pair of halves: only the whole identity decides. */
static void I21_names_that_fall_together_are_told_apart(void **state)
{
    (void)state;
    struct table table;
    table_open(&table, 1000);
    for (uint64_t hi = 0; hi < 4; hi++) {
        for (uint64_t lo = 0; lo < 4; lo++) {
            put(&table, crowded(lo, hi));
        }
    }
    for (uint64_t hi = 0; hi < 5; hi++) {
        for (uint64_t lo = 0; lo < 5; lo++) {
            assert_int_equal(has(&table, crowded(lo, hi)), hi < 4 && lo < 4);
        }
    }
    assert_int_equal(table.evictions, 0);
    table_close(&table);
}

static void I21_when_all_its_places_are_taken_the_coldest_there_makes_room(void **state)
{
    (void)state;
    enum { PLACES = 16 };
    struct table table;
    struct dk_slot_key key;
    uint8_t okm[DK_FIELD_SECRET];
    table_open(&table, 1000);
    for (uint64_t i = 0; i <= PLACES; i++) {
        struct dk_hash128 id = crowded(i, 1);
        put(&table, id);
        for (int use = 0; use < 3 && i != 5; use++) {
            assert_true(dk_slots_read(&table.slots, id, &key, okm));
        }
    }
    assert_int_equal(table.evictions, 1);
    for (uint64_t i = 0; i <= PLACES; i++) {
        assert_int_equal(has(&table, crowded(i, 1)), i != 5);
    }
    assert_int_equal(table.slots.keys, PLACES);
    table_close(&table);
}

static void R14_a_full_table_holds_as_many_keys_as_it_says(void **state)
{
    (void)state;
    enum { KEYS = 50000 };
    struct table table;
    uint64_t seed = 1, again = 1;
    table_open(&table, KEYS);
    for (int i = 0; i < KEYS; i++) {
        put(&table, random_id(&seed));
    }
    assert_int_equal(table.slots.keys, KEYS);
    assert_int_equal(table.evictions, 0);
    for (int i = 0; i < KEYS; i++) {
        assert_true(has(&table, random_id(&again)));
    }
    for (int i = 0; i < 2 * KEYS; i++) {
        put(&table, random_id(&seed));
    }
    assert_in_range(table.slots.keys, KEYS - 5, KEYS);
    assert_in_range(table.evictions, 2 * KEYS, 2 * KEYS + 5);
    table_close(&table);
}

/* ---- going ----------------------------------------------------------------------------------- */

static bool in_memory(const struct table *table, const uint8_t *p, size_t n, size_t keys)
{
    for (size_t i = 0; i + n <= dk_slots_bytes(keys); i += 8) {
        if (memcmp(table->memory + i, p, n) == 0) {
            return true;
        }
    }
    return false;
}

static void R14_what_is_dropped_is_wiped_and_its_generation_never_comes_back(void **state)
{
    (void)state;
    struct table table;
    struct dk_hash128 id = {3, 4};
    uint8_t okm[DK_FIELD_SECRET];
    table_open(&table, 100);
    key_of(id, okm);
    uint32_t slot = put(&table, id), last = 0;
    for (int i = 0; i < 1000; i++) {
        uint32_t now = atomic_load(dk_slots_generation(&table.slots, slot));
        assert_true(now > last);
        last = now;
        assert_true(in_memory(&table, okm, sizeof okm, 100));
        uint64_t changes = atomic_load(&table.slots.changes);
        dk_slots_drop_locked(&table.slots, slot);
        assert_int_equal(atomic_load(&table.slots.changes), changes + 1);
        assert_int_equal(atomic_load(dk_slots_generation(&table.slots, slot)), 0);
        assert_false(in_memory(&table, okm, sizeof okm, 100));
        assert_false(has(&table, id));
        assert_int_equal(put(&table, id), slot); /* the free slot is used again */
    }
    table.slots.last_generation = UINT32_MAX - 1; /* at its end it begins again, and not with 0 */
    dk_slots_drop_locked(&table.slots, slot);
    put(&table, id);
    dk_slots_drop_locked(&table.slots, slot);
    put(&table, id);
    assert_int_equal(atomic_load(dk_slots_generation(&table.slots, slot)), 1);
    table_close(&table);
}

static struct dk_hash128 nth_id(uint64_t i)
{
    return (struct dk_hash128){i * UINT64_C(0x9E3779B97F4A7C15), i % 3 + 1};
}

static void a_range_is_dropped_by_tenant_by_age_or_whole(void **state)
{
    (void)state;
    enum { KEYS = 60 };
    struct table table;
    table_open(&table, KEYS);
    for (uint64_t i = 0; i < KEYS; i++) {
        uint32_t slot = put(&table, nth_id(i));
        dk_slots_set_times(&table.slots, slot, (int64_t)i * 1000, (int64_t)i * 1000 + 500);
    }
    uint64_t tenants[] = {1, 3};
    dk_slots_drop_range_locked(&table.slots, 0, KEYS / 2, tenants, 2);
    assert_int_equal(table.slots.keys, KEYS / 2 + KEYS / 6);
    dk_slots_drop_old_locked(&table.slots, 0, KEYS, 40000);
    for (uint64_t i = 0; i < KEYS; i++) {
        assert_int_equal(has(&table, nth_id(i)), i >= 40);
    }
    uint64_t changes = atomic_load(&table.slots.changes);
    dk_slots_drop_range_locked(&table.slots, 0, UINT32_MAX, NULL, 0);
    assert_int_equal(table.slots.keys, 0);
    dk_slots_drop_range_locked(&table.slots, 0, UINT32_MAX, NULL, 0);
    assert_int_equal(atomic_load(&table.slots.changes), changes + 1);
    table_close(&table);
}

/* ---- times and counts ------------------------------------------------------------------------ */

static void times_come_back_and_never_later_than_they_were(void **state)
{
    (void)state;
    static const int64_t week = INT64_C(7) * 86400 * 1000, year = INT64_C(365) * 86400 * 1000;
    const struct {
        int64_t asked, due;
    } times[] = {{0, 0},
                 {0, 800},
                 {1, 1 + week},
                 {year, year + 3600000},
                 {30 * year, 30 * year + week},
                 {5, 5 + 12 * INT64_C(86400000)}};
    struct table table;
    struct dk_hash128 id = {1, 2};
    struct dk_slot_key key;
    table_open(&table, 100);
    uint32_t slot = put(&table, id);
    assert_true(dk_slots_peek(&table.slots, id, &key, NULL));
    assert_true(key.asked_ms < 0); /* not fresh until somebody says so */
    for (size_t i = 0; i < sizeof times / sizeof times[0]; i++) {
        dk_slots_set_times(&table.slots, slot, times[i].asked, times[i].due);
        assert_true(dk_slots_peek(&table.slots, id, &key, NULL));
        assert_int_equal(key.asked_ms, times[i].asked);
        assert_in_range(times[i].due - key.due_ms, 0, 63);
    }
    dk_slots_set_times(&table.slots, slot, -1, 1000);
    assert_true(dk_slots_peek(&table.slots, id, &key, NULL));
    assert_true(key.asked_ms < 0 && key.due_ms < 1000);
    table_close(&table);
}

static void counts_stop_at_their_ends(void **state)
{
    (void)state;
    struct table table;
    struct dk_hash128 id = {1, 2};
    table_open(&table, 100);
    uint32_t slot = put(&table, id);
    uint32_t generation = atomic_load(dk_slots_generation(&table.slots, slot));
    for (int i = 0; i < 70000; i++) {
        dk_slots_count_unwrap(&table.slots, slot, i % 2 == 0);
    }
    dk_slots_set_messages(&table.slots, slot, 100);
    dk_slots_set_messages(&table.slots, slot, 50); /* what is known does not shrink */
    assert_int_equal(dk_slots_add_uses(&table.slots, slot, generation, 3, 2), 102);
    assert_int_equal(dk_slots_add_uses(&table.slots, slot, generation + 1, 3, 2), 0);
    struct dk_slot_counts counts = dk_slots_counts(&table.slots, slot);
    assert_int_equal(counts.version, 9);
    assert_int_equal(counts.unwraps, UINT16_MAX);
    assert_int_equal(counts.misses, UINT8_MAX);
    assert_int_equal(counts.messages, 102);
    assert_int_equal(counts.hits, 3);
    table_close(&table);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(I21_names_that_fall_together_are_told_apart),
        cmocka_unit_test(I21_when_all_its_places_are_taken_the_coldest_there_makes_room),
        cmocka_unit_test(R14_a_full_table_holds_as_many_keys_as_it_says),
        cmocka_unit_test(R14_what_is_dropped_is_wiped_and_its_generation_never_comes_back),
        cmocka_unit_test(a_range_is_dropped_by_tenant_by_age_or_whole),
        cmocka_unit_test(times_come_back_and_never_later_than_they_were),
        cmocka_unit_test(counts_stop_at_their_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
