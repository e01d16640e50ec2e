#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include <sys/resource.h>

#include "support/world.h"

#define ASSERT_CODE(call, code) assert_string_equal(dekhand_error_name(call), #code)

static int unwraps(const struct dk_place *place)
{
    return atomic_load(&place->fake->calls[DK_FAKE_UNWRAP]);
}

static void use(struct dekhand *d, const char *tenant)
{
    struct dk_test_value value;
    ASSERT_CODE(dk_test_encrypt(d, tenant, "x", &value), OK);
}

static void poll_now(struct dk_place *place, struct dekhand *d)
{
    place->w.mono_ms += place->limits.poll_ms;
    ASSERT_CODE(dekhand_tick(d, NULL), OK);
}

static struct dekhand_stats stats_of(struct dekhand *d)
{
    struct dekhand_stats stats = {.size = sizeof stats};
    ASSERT_CODE(dekhand_stats(d, &stats, NULL), OK);
    return stats;
}

/* ---- cache clear ----------------------------------------------------------------------------- */

static void R13_a_clear_reaches_every_process_at_its_next_poll_and_once(void **state)
{
    (void)state;
    struct dk_place place;
    dk_place_new(&place, true);
    struct dekhand *one = dk_place_open(&place), *other = dk_place_open(&place);
    use(one, "acme");
    use(other, "acme");
    poll_now(&place, one); /* they have seen the new tenant */
    poll_now(&place, other);
    use(one, "acme");
    use(other, "acme");
    int before = unwraps(&place);
    ASSERT_CODE(dekhand_cache_clear(one, NULL), OK);
    assert_int_equal(stats_of(one).cached_keys, 0);
    use(one, "acme");
    assert_int_equal(unwraps(&place), before + 1);
    use(other, "acme"); /* it has not looked yet */
    assert_int_equal(unwraps(&place), before + 1);
    poll_now(&place, other);
    assert_int_equal(stats_of(other).cached_keys, 0);
    use(other, "acme");
    assert_int_equal(unwraps(&place), before + 2);
    for (int i = 0; i < 3; i++) { /* nobody takes it for another one */
        poll_now(&place, one);
        poll_now(&place, other);
        use(one, "acme");
        use(other, "acme");
    }
    assert_int_equal(unwraps(&place), before + 2);
    assert_int_equal(dk_place_number(&place, "SELECT count(*) FROM key_rotation_log WHERE "
                                             "operation = 'cache-clear' AND tenant_id = '*' AND "
                                             "success AND mac IS NOT NULL"),
                     1);
    struct dekhand *late = dk_place_open(&place); /* what was before it is not news */
    use(late, "acme");
    poll_now(&place, late);
    assert_int_equal(stats_of(late).cached_keys, 1);
    dk_place_close(late);
    dk_place_close(other);
    dk_place_close(one);
    dk_place_free(&place);
}

static void a_clear_that_cannot_be_written_is_an_error_and_clears_here(void **state)
{
    (void)state;
    struct dk_place place;
    struct dekhand_error error;
    dk_place_new(&place, true);
    struct dekhand *d = dk_place_open(&place);
    use(d, "acme");
    dk_place_refuse(&place, "INSERT", "key_rotation_log");
    assert_int_not_equal(dekhand_cache_clear(d, &error), DEKHAND_OK);
    assert_true(error.text[0] != '\0');
    assert_int_equal(stats_of(d).cached_keys, 0);
    dk_place_allow(&place, "key_rotation_log");
    use(d, "acme");
    dk_place_close(d);
    dk_place_free(&place);
    ASSERT_CODE(dekhand_cache_clear(NULL, NULL), E_USAGE);
}

/* ---- keyed contexts -------------------------------------------------------------------------- */

static struct {
    const struct dk_aead_ops *real;
    struct dk_aead_ops counting;
    int made, changed, live;
} contexts;

static dk_rc count_new(const struct dk_suite *suite, const struct dk_secret *key,
                       enum dk_aead_way way, struct dk_aead_key **out, struct dk_err *err)
{
    contexts.made++;
    contexts.live++;
    return contexts.real->key_new(suite, key, way, out, err);
}

static dk_rc count_change(const struct dk_suite *suite, const struct dk_secret *key,
                          enum dk_aead_way way, struct dk_aead_key *in, struct dk_err *err)
{
    contexts.changed++;
    return contexts.real->key_change(suite, key, way, in, err);
}

static void count_free(struct dk_aead_key *key)
{
    contexts.live -= key != NULL;
    contexts.real->key_free(key);
}

/* Before the first value: contexts are made and freed through here. The provider has none. */
static struct dekhand *open_counting(struct dk_place *place)
{
    struct dekhand *d = dk_place_open(place);
    contexts.real = d->in->core.suite.aead;
    contexts.counting = *contexts.real;
    contexts.counting.key_new = count_new;
    contexts.counting.key_change = count_change;
    contexts.counting.key_free = count_free;
    contexts.made = contexts.changed = contexts.live = 0;
    return d;
}

/* The fake unwraps with the suite too: only what lives on counts. */
static void use_many(struct dekhand *d, unsigned from, unsigned to)
{
    for (unsigned i = from; i < to; i++) {
        char tenant[32];
        snprintf(tenant, sizeof tenant, "tenant-%u", i);
        use(d, tenant);
    }
}

static void contexts_of_keys_that_went_are_freed_at_the_next_call(void **state)
{
    (void)state;
    enum { ALL = 20 };
    struct dk_place place;
    dk_place_new(&place, true);
    struct dekhand *d = open_counting(&place);
    d->in->core.suite.aead = &contexts.counting;
    use_many(d, 0, ALL);
    assert_int_equal(contexts.live, ALL);
    ASSERT_CODE(dekhand_cache_clear(d, NULL), OK);
    assert_int_equal(contexts.live, ALL); /* they are this thread's: it has to come by */
    use_many(d, 0, 1);
    assert_int_equal(contexts.live, 1);
    use_many(d, 0, ALL);
    assert_int_equal(contexts.live, ALL);
    ASSERT_CODE(dk_test_rotate(d, "tenant-3", 0, NULL), OK);
    use_many(d, 0, 1);
    assert_int_equal(contexts.live, ALL - 1);
    dk_place_close(d);
    assert_int_equal(contexts.live, 0);
    dk_place_free(&place);
}

static void beyond_the_bound_contexts_are_keyed_anew_and_not_made(void **state)
{
    (void)state;
    enum { ALL = DK_HOT_KEYS + 50 };
    struct dk_place place;
    dk_place_new(&place, true);
    place.limits.max_keys = 2 * ALL;
    struct dekhand *d = open_counting(&place);
    d->in->core.suite.aead = &contexts.counting;
    use_many(d, 0, ALL);
    assert_int_equal(contexts.live, DK_HOT_KEYS);
    int made = contexts.made;
    use_many(d, 0, ALL);
    use_many(d, 0, ALL);
    assert_int_equal(contexts.made, made);
    assert_true(contexts.changed >= 2 * 50);
    assert_int_equal(stats_of(d).unwraps, ALL);
    dk_place_close(d);
    assert_int_equal(contexts.live, 0);
    assert_int_equal(dk_place_number(&place, "SELECT sum(messages) FROM encryption_keys"),
                     3 * ALL); /* what went with a context was counted */
    dk_place_free(&place);
}

/* Its hits never come by the cache, and yet it is not the one that goes. */
static void F48_a_hot_tenant_keeps_its_key_while_another_floods_the_cache(void **state)
{
    (void)state;
    enum { ROUNDS = 40, FLOOD = 40, MAX = 64 };
    struct dk_place place;
    dk_place_new(&place, true);
    place.limits.max_keys = MAX;
    place.limits.poll_ms = INT32_MAX;
    struct dekhand *d = dk_place_open(&place);
    use(d, "victim");
    int64_t missed = 0;
    for (unsigned r = 0; r < ROUNDS; r++) {
        char names[FLOOD][32];
        uint8_t out[FLOOD][128];
        struct dekhand_item items[FLOOD];
        for (unsigned i = 0; i < FLOOD; i++) {
            snprintf(names[i], sizeof names[i], "flood-%u", r * FLOOD + i);
            items[i] =
                (struct dekhand_item){.tenant = names[i], .out = out[i], .capacity = sizeof out[i]};
        }
        ASSERT_CODE(dekhand_encrypt_batch(d, items, FLOOD, NULL), OK);
        int64_t before = stats_of(d).unwraps;
        for (int i = 0; i < 10; i++) {
            use(d, "victim");
        }
        missed += stats_of(d).unwraps - before;
    }
    assert_in_range(missed, 0, 2);
    assert_true(stats_of(d).evictions >= ROUNDS * FLOOD - MAX);
    dk_place_close(d);
    dk_place_free(&place);
}

/* ---- statistics ------------------------------------------------------------------------------ */

static void hits_misses_unwraps_and_messages_add_up(void **state)
{
    (void)state;
    struct dk_place place;
    struct dk_test_value value;
    dk_place_new(&place, true);
    struct dekhand *d = dk_place_open(&place);
    struct dekhand_stats none = stats_of(d);
    assert_int_equal(none.calls, 0); /* there is no hit rate yet */
    for (int i = 0; i < 10; i++) {
        ASSERT_CODE(dk_test_encrypt(d, "acme", "x", &value), OK);
    }
    for (int i = 0; i < 5; i++) {
        ASSERT_CODE(dk_test_decrypt(d, "acme", &value, "x"), OK);
    }
    struct dekhand_stats stats = stats_of(d);
    assert_int_equal(stats.calls, 15);
    assert_int_equal(stats.misses, 1); /* to seal; what opens is the same key */
    assert_int_equal(stats.hits, 14);
    assert_int_equal(stats.unwraps, 1);
    assert_int_equal(stats.cached_keys, 2);
    assert_int_equal(stats.cache_capacity, 64);
    assert_true(stats.locked_bytes > 64 * 96);
    struct dekhand_key_stats key = {.size = sizeof key};
    ASSERT_CODE(dekhand_key_stats(d, "acme", 1, &key, NULL), OK);
    assert_int_equal(key.hits, 15);
    assert_int_equal(key.misses, 1);
    assert_int_equal(key.unwraps, 1);
    assert_int_equal(key.messages, 10);
    ASSERT_CODE(dekhand_key_stats(d, "acme", 2, &key, NULL), OK);
    assert_int_equal(key.hits + key.misses + key.unwraps + key.messages, 0);
    ASSERT_CODE(dekhand_key_stats(d, "acme", 0, &key, NULL), E_USAGE);
    ASSERT_CODE(dekhand_key_stats(d, NULL, 1, &key, NULL), E_USAGE);
    ASSERT_CODE(dekhand_key_stats(d, "acme", 1, NULL, NULL), E_USAGE);
    dk_place_close(d);
    dk_place_free(&place);
}

/* While ticks come, a slow or dead provider is no call's business until the TTL. */
static void R12_R17_the_tick_refreshes_and_calls_do_not_wait_for_the_provider(void **state)
{
    (void)state;
    struct dk_place place;
    dk_place_new(&place, true);
    place.limits.poll_ms = 5000;
    struct dekhand *d = dk_place_open(&place);
    use(d, "acme");
    poll_now(&place, d);
    use(d, "acme");
    int before = unwraps(&place);
    int64_t from = place.w.mono_ms, ttl = place.limits.ttl_ms;
    while (place.w.mono_ms < from + 3 * ttl) {
        poll_now(&place, d);
        int now = unwraps(&place);
        use(d, "acme");
        assert_int_equal(unwraps(&place), now); /* never in the call */
    }
    assert_in_range(unwraps(&place) - before, 3, 4); /* one for each 80 to 90 % of the TTL */
    dk_place_close(d);
    dk_place_free(&place);
}

/* ---- the memory lock limit ------------------------------------------------------------------- */

static int capacity_under(size_t limit, size_t wanted, struct dekhand_stats *stats)
{
    struct dk_place place;
    struct rlimit memlock = {limit, limit};
    dk_place_new(&place, true);
    place.limits.max_keys = wanted;
    DK_TEST_CHILD(setrlimit(RLIMIT_MEMLOCK, &memlock) == 0);
    struct dekhand *d = dk_place_open(&place);
    *stats = (struct dekhand_stats){.size = sizeof *stats};
    DK_TEST_CHILD(dekhand_stats(d, stats, NULL) == DEKHAND_OK);
    struct dk_test_value value;
    DK_TEST_CHILD(dk_test_encrypt(d, "acme", "x", &value) == DEKHAND_OK);
    dk_place_close(d);
    dk_place_free(&place);
    return 0;
}

static int fits_the_cache_into_the_limit(void *arg)
{
    (void)arg;
    struct dekhand_stats stats;
    struct rlimit most;
    size_t two_mib = 2 * 1024 * 1024;
    DK_TEST_CHILD(getrlimit(RLIMIT_MEMLOCK, &most) == 0);
    if (most.rlim_max >= two_mib) { /* what an ordinary user has on a machine of today */
        DK_TEST_CHILD(capacity_under(two_mib, 100000, &stats) == 0);
        DK_TEST_CHILD(stats.memory_locked && stats.cache_capacity > 10000 &&
                      stats.cache_capacity < 20000 && stats.locked_bytes < (int64_t)two_mib);
        DK_TEST_CHILD(capacity_under(two_mib, 1000, &stats) == 0);
        DK_TEST_CHILD(stats.memory_locked && stats.cache_capacity == 1000);
    }
    DK_TEST_CHILD(capacity_under(0, 100000, &stats) == 0);
    DK_TEST_CHILD(!stats.memory_locked && stats.cache_capacity == 100000);
    return 0;
}

static void R30_F05_the_cache_is_as_large_as_what_can_be_locked(void **state)
{
    (void)state;
    assert_true(dk_test_in_child(true, fits_the_cache_into_the_limit, NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(R13_a_clear_reaches_every_process_at_its_next_poll_and_once),
        cmocka_unit_test(a_clear_that_cannot_be_written_is_an_error_and_clears_here),
        cmocka_unit_test(contexts_of_keys_that_went_are_freed_at_the_next_call),
        cmocka_unit_test(beyond_the_bound_contexts_are_keyed_anew_and_not_made),
        cmocka_unit_test(F48_a_hot_tenant_keeps_its_key_while_another_floods_the_cache),
        cmocka_unit_test(hits_misses_unwraps_and_messages_add_up),
        cmocka_unit_test(R12_R17_the_tick_refreshes_and_calls_do_not_wait_for_the_provider),
        cmocka_unit_test(R30_F05_the_cache_is_as_large_as_what_can_be_locked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
