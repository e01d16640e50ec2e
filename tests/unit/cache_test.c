#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>

#include "crypto/siphash.h"
#include "keys/cache.h"
#include "support/world.h"

static struct dk_err err;

/* ---- a source of keys under the test's control ----------------------------------------------- */

struct spring {
    struct dk_core *core;
    atomic_int calls;
    atomic_int opened; /* those for which nothing was lent */
    atomic_int fail;   /* a dk_rc */
    atomic_int seed;   /* another seed, other keys */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool shut;
    int inside;
};

/* Of all tenants. */
enum { ACTIVE = 1 };

/* What the key of a name begins with: 16 bytes that no other has. */
static struct dk_hash128 pattern(const struct dk_key_name *name, int seed)
{
    uint32_t version = name->version == DK_VERSION_ACTIVE ? ACTIVE : name->version;
    uint8_t key[16] = "a spring of keys", text[DK_TENANT_MAX + 8];
    memcpy(text, name->tenant.s, name->tenant.n);
    uint8_t *end = dk_put_u32(dk_put_u32(text + name->tenant.n, version), (uint32_t)seed);
    return dk_siphash128(key, text, (size_t)(end - text));
}

static void pass_gate(struct spring *spring)
{
    pthread_mutex_lock(&spring->lock);
    spring->inside++;
    pthread_cond_broadcast(&spring->changed);
    while (spring->shut) {
        pthread_cond_wait(&spring->changed, &spring->lock);
    }
    spring->inside--;
    pthread_mutex_unlock(&spring->lock);
}

static void set_gate(struct spring *spring, bool shut)
{
    pthread_mutex_lock(&spring->lock);
    spring->shut = shut;
    pthread_cond_broadcast(&spring->changed);
    pthread_mutex_unlock(&spring->lock);
}

static void await_inside(struct spring *spring, int n)
{
    pthread_mutex_lock(&spring->lock);
    while (spring->inside < n) {
        pthread_cond_wait(&spring->changed, &spring->lock);
    }
    pthread_mutex_unlock(&spring->lock);
}

/* Names whose tenant begins with 'x' are not there. */
static dk_rc spring_get(void *self, const struct dk_key_name *name, struct dk_live_key *out,
                        struct dk_err *e)
{
    struct spring *spring = self;
    if (name->tenant.s[0] == 'x') {
        return DK_FAIL(e, NOT_FOUND, "no such tenant");
    }
    atomic_fetch_add(&spring->calls, 1);
    pass_gate(spring);
    dk_rc rc = (dk_rc)atomic_load(&spring->fail);
    if (rc != DK_OK) {
        return dk_err_set(e, rc, __FILE__, __LINE__, "the spring is dry");
    }
    const struct dk_key_lender *lender = spring->core->lender;
    uint32_t version = name->version == DK_VERSION_ACTIVE ? ACTIVE : name->version;
    if (name->version == DK_VERSION_ACTIVE) { /* as the loader does */
        rc = lender->lend(lender->self, name, version, true, out, e);
        if (rc != DK_E_NOT_FOUND) {
            return rc;
        }
    }
    atomic_fetch_add(&spring->opened, 1);
    *out = (struct dk_live_key){.version = version, .messages = 7};
    DK_TRY(dk_secret_new(spring->core->arena, DK_FIELD_SECRET, &out->okm, e));
    struct dk_hash128 mark = pattern(name, atomic_load(&spring->seed));
    memcpy(dk_secret_expose_for_crypto(&out->okm), &mark, sizeof mark);
    memset(dk_secret_expose_for_crypto(&out->okm) + 16, 0xC0, DK_FIELD_SECRET - 16);
    return DK_OK;
}

static dk_rc spring_get_many(void *self, const struct dk_key_name *names, size_t count,
                             struct dk_live_key *keys, dk_rc *rc, struct dk_err *e)
{
    for (size_t i = 0; i < count; i++) {
        rc[i] = spring_get(self, &names[i], &keys[i], e);
    }
    return DK_OK;
}

/* ---- a cache over it ------------------------------------------------------------------------- */

struct bench {
    struct dk_test_world w;
    struct dk_core core;
    struct dk_fake *fake;
    struct spring spring;
    struct dk_cache *cache;
    struct dk_key_source keys;
};

static void bench_open(struct bench *bench, size_t max_keys)
{
    struct dk_core *core = &bench->core;
    struct dk_arena_report report;
    memset(bench, 0, sizeof *bench);
    dk_test_world_init(&bench->w);
    core->world = &bench->w.world;
    core->limits = dk_limits_default;
    core->limits.max_keys = max_keys;
    bench->fake = dk_fake_new();
    DK_TEST_OK(err, dk_suite_open(core->world, &core->suite, &err));
    DK_TEST_OK(err, dk_arena_open_with_table(core->world, 4096, dk_cache_table_bytes(max_keys),
                                             &core->arena, &report, &err));
    struct dk_provider_setup setup = {.world = core->world,
                                      .suite = &core->suite,
                                      .arena = core->arena,
                                      .log = &core->log,
                                      .test_arg = bench->fake};
    DK_TEST_OK(err, dk_provider_open(&dk_fake_provider, &setup, &core->provider, &err));
    bench->spring.core = core;
    pthread_mutex_init(&bench->spring.lock, NULL);
    pthread_cond_init(&bench->spring.changed, NULL);
    struct dk_key_source below = {&bench->spring, spring_get, spring_get_many};
    DK_TEST_OK(err, dk_cache_open(core, &below, &bench->cache, &err));
    bench->keys = dk_cache_source(bench->cache);
}

static void bench_close(struct bench *bench)
{
    dk_cache_close(bench->cache);
    dk_provider_close(bench->core.provider);
    dk_arena_close(bench->core.arena);
    dk_suite_close(&bench->core.suite);
    dk_fake_free(bench->fake);
    pthread_cond_destroy(&bench->spring.changed);
    pthread_mutex_destroy(&bench->spring.lock);
    assert_int_equal(bench->w.live, 0);
}

static struct dk_key_name name_of(const char *tenant, uint32_t version)
{
    struct dk_key_name name = {.version = version};
    name.tenant.n = (uint8_t)strlen(tenant);
    memcpy(name.tenant.s, tenant, name.tenant.n);
    return name;
}

static struct dk_key_name nth_name(unsigned i)
{
    char tenant[32];
    snprintf(tenant, sizeof tenant, "tenant-%u", i);
    return name_of(tenant, 0);
}

static bool is_right(const struct dk_live_key *key, const struct dk_key_name *name, int seed)
{
    struct dk_hash128 mark = pattern(name, seed);
    return key->okm.n == DK_FIELD_SECRET &&
           memcmp(dk_secret_expose_for_crypto(&key->okm), &mark, sizeof mark) == 0;
}

/* Gets a key, checks that it is the name's, gives it back; `out` (may be NULL) keeps the rest. */
static dk_rc get(struct bench *bench, struct dk_key_name name, struct dk_live_key *out)
{
    struct dk_live_key key = {0};
    struct dk_err mine;
    dk_err_clear(&mine);
    dk_rc rc = bench->keys.get(bench->keys.self, &name, &key, &mine);
    if (rc == DK_OK && !is_right(&key, &name, atomic_load(&bench->spring.seed))) {
        rc = DK_E_INTERNAL;
    }
    dk_secret_free(bench->core.arena, &key.okm);
    if (out != NULL) {
        *out = key;
    }
    return rc;
}

static int calls(struct bench *bench)
{
    return atomic_load(&bench->spring.calls);
}

static bool has_mark(const uint8_t *p, size_t n, struct dk_hash128 mark)
{
    for (size_t i = 0; i + sizeof mark <= n; i += 8) {
        if (memcmp(p + i, &mark, sizeof mark) == 0) {
            return true;
        }
    }
    return false;
}

/* True when the pattern of a name's key is anywhere in the locked memory. */
static bool in_arena(struct bench *bench, struct dk_key_name name)
{
    size_t cells, table;
    struct dk_hash128 mark = pattern(&name, atomic_load(&bench->spring.seed));
    const uint8_t *all = dk_arena_expose_whole_for_file(bench->core.arena, &cells);
    const uint8_t *kept = dk_arena_expose_table_for_cache(bench->core.arena, &table);
    return has_mark(all, cells, mark) || has_mark(kept, table, mark);
}

static bool has(struct bench *bench, struct dk_key_name name)
{
    struct dk_key_uses uses;
    return dk_cache_key_uses(bench->cache, &name, &uses);
}

/* ---- one flight a key ------------------------------------------------------------------------ */

enum { CROWD = 1000, CALLS = 10, FLIGHTS = 64 };

struct crowd {
    struct bench bench;
    bool same;
    atomic_int arrived, good, failed;
};

static void get_in_crowd(void *arg, size_t index)
{
    struct crowd *crowd = arg;
    atomic_fetch_add(&crowd->arrived, 1);
    for (int i = 0; i < CALLS; i++) {
        dk_rc rc =
            get(&crowd->bench, crowd->same ? name_of("acme", 0) : nth_name((unsigned)index), NULL);
        atomic_fetch_add(rc == DK_OK ? &crowd->good : &crowd->failed, 1);
    }
}

/* Index CROWD opens the gate once all others are there. */
static void get_or_open_gate(void *arg, size_t index)
{
    struct crowd *crowd = arg;
    if (index < CROWD) {
        get_in_crowd(arg, index);
        return;
    }
    while (atomic_load(&crowd->arrived) < CROWD) {
        sched_yield();
    }
    await_inside(&crowd->bench.spring, crowd->same ? 1 : FLIGHTS);
    set_gate(&crowd->bench.spring, false);
}

static void F47_R12_1000_threads_and_one_cold_key_make_one_call(void **state)
{
    (void)state;
    static struct crowd crowd;
    memset(&crowd, 0, sizeof crowd);
    crowd.same = true;
    bench_open(&crowd.bench, 64);
    set_gate(&crowd.bench.spring, true);
    dk_test_threads(CROWD + 1, get_or_open_gate, &crowd);
    assert_int_equal(crowd.good, CROWD * CALLS);
    assert_int_equal(calls(&crowd.bench), 1);
    bench_close(&crowd.bench);
}

static void F47_a_failure_is_told_to_all_who_wait_and_is_not_kept(void **state)
{
    (void)state;
    static struct crowd crowd;
    memset(&crowd, 0, sizeof crowd);
    crowd.same = true;
    bench_open(&crowd.bench, 64);
    set_gate(&crowd.bench.spring, true);
    atomic_store(&crowd.bench.spring.fail, DK_E_UNREACHABLE);
    dk_test_threads(CROWD + 1, get_or_open_gate, &crowd);
    assert_int_equal(crowd.failed, CROWD * CALLS);
    int failed_calls = calls(&crowd.bench);
    assert_int_equal(dk_cache_stats(crowd.bench.cache).failures, failed_calls);
    atomic_store(&crowd.bench.spring.fail, DK_OK);
    assert_int_equal(get(&crowd.bench, name_of("acme", 0), NULL), DK_OK);
    assert_int_equal(calls(&crowd.bench), failed_calls + 1);
    bench_close(&crowd.bench);
}

static void many_keys_fly_at_once_and_more_wait_for_a_place(void **state)
{
    (void)state;
    static struct crowd crowd;
    memset(&crowd, 0, sizeof crowd);
    bench_open(&crowd.bench, 1024);
    set_gate(&crowd.bench.spring, true);
    dk_test_threads(CROWD + 1, get_or_open_gate, &crowd);
    assert_int_equal(crowd.good, CROWD * CALLS);
    assert_int_equal(calls(&crowd.bench), CROWD);
    bench_close(&crowd.bench);
}

static void *get_acme(void *arg)
{
    struct bench *bench = arg;
    return get(bench, name_of("acme", 0), NULL) == DK_OK ? bench : NULL;
}

static void R13_what_is_forgotten_during_its_flight_is_not_kept(void **state)
{
    (void)state;
    struct bench bench;
    pthread_t thread;
    void *good = NULL;
    struct dk_tenant acme = name_of("acme", 0).tenant;
    bench_open(&bench, 64);
    set_gate(&bench.spring, true);
    assert_int_equal(pthread_create(&thread, NULL, get_acme, &bench), 0);
    await_inside(&bench.spring, 1);
    dk_cache_forget(bench.cache, &acme, 1);
    set_gate(&bench.spring, false);
    pthread_join(thread, &good);
    assert_non_null(good); /* who asked before is served */
    struct dk_key_name name = name_of("acme", 0);
    for (int i = 0; i < 3; i++) { /* the next one fetches again, those after it do not */
        assert_int_equal(get(&bench, name, NULL), DK_OK);
        assert_int_equal(calls(&bench), 2);
    }
    bench_close(&bench);
}

/* ---- time ------------------------------------------------------------------------------------ */

static void R13_a_key_is_fresh_to_80_or_90_percent_of_its_ttl_counted_from_the_fetch(void **state)
{
    (void)state;
    struct bench bench;
    struct dk_live_key first, again;
    bench_open(&bench, 64);
    int64_t ttl = bench.core.limits.ttl_ms, born = bench.w.mono_ms;
    assert_int_equal(get(&bench, name_of("acme", 0), &first), DK_OK);
    int64_t due = first.fresh_until_ms;
    assert_in_range(due - born, ttl * 8 / 10 - 64, ttl * 9 / 10);
    for (int i = 1; i <= 4; i++) { /* use does not keep it young */
        bench.w.mono_ms = born + i * (due - born) / 4 - 1;
        assert_int_equal(get(&bench, name_of("acme", 0), &again), DK_OK);
        assert_int_equal(again.fresh_until_ms, due);
    }
    assert_int_equal(calls(&bench), 1);
    bench.w.mono_ms = due;
    assert_int_equal(get(&bench, name_of("acme", 0), &again), DK_OK);
    assert_int_equal(calls(&bench), 2);
    assert_int_equal(again.fresh_until_ms, due + (due - born)); /* a key has its own moment */
    assert_int_equal(again.slot, first.slot); /* the same key: contexts made of it stay good */
    assert_int_equal(again.generation, first.generation);
    bench_close(&bench);
}

static void R12_what_was_fetched_together_is_not_due_together(void **state)
{
    (void)state;
    enum { ALL = 1000, PARTS = 10 };
    struct bench bench;
    int in_part[PARTS] = {0};
    bench_open(&bench, ALL);
    int64_t ttl = bench.core.limits.ttl_ms, born = bench.w.mono_ms;
    for (unsigned i = 0; i < ALL; i++) {
        struct dk_live_key key;
        assert_int_equal(get(&bench, nth_name(i), &key), DK_OK);
        int64_t part = (key.fresh_until_ms - born - ttl * 8 / 10 + 63) * PARTS / (ttl / 10);
        in_part[part < PARTS ? part : PARTS - 1]++;
    }
    for (int i = 0; i < PARTS; i++) {
        assert_in_range(in_part[i], ALL / PARTS / 2, ALL / PARTS * 2);
    }
    bench_close(&bench);
}

/* ---- refresh ahead --------------------------------------------------------------------------- */

static void R12_while_ticks_come_they_refresh_and_no_call_does(void **state)
{
    (void)state;
    struct bench bench;
    struct dk_live_key first, due, again;
    bench_open(&bench, 64);
    assert_int_equal(get(&bench, name_of("acme", 0), &first), DK_OK);
    bench.w.mono_ms = first.fresh_until_ms;
    dk_cache_tick(bench.cache);
    assert_int_equal(calls(&bench), 1); /* nobody asked for it since it is due */
    for (int i = 0; i < 3; i++) {
        assert_int_equal(get(&bench, name_of("acme", 0), &due), DK_OK);
        assert_in_range(due.fresh_until_ms - bench.w.mono_ms, 1, 1000);
    }
    assert_int_equal(calls(&bench), 1);
    dk_cache_tick(bench.cache);
    assert_int_equal(calls(&bench), 2);
    assert_int_equal(get(&bench, name_of("acme", 0), &again), DK_OK);
    assert_true(again.fresh_until_ms > first.fresh_until_ms + 1000);
    assert_int_equal(again.generation, first.generation);
    assert_int_equal(calls(&bench), 2);
    dk_cache_tick(bench.cache); /* it is not in the queue any more */
    assert_int_equal(calls(&bench), 2);
    struct dk_cache_stats stats = dk_cache_stats(bench.cache);
    assert_int_equal(stats.loads, 2);
    assert_int_equal(stats.misses, 1);
    bench_close(&bench);
}

static void without_ticks_or_past_its_ttl_a_call_refreshes(void **state)
{
    (void)state;
    struct bench bench;
    struct dk_live_key key;
    bench_open(&bench, 64);
    assert_int_equal(get(&bench, name_of("acme", 0), &key), DK_OK);
    dk_cache_tick(bench.cache);
    bench.w.mono_ms = key.fresh_until_ms; /* the last tick was long ago */
    assert_int_equal(get(&bench, name_of("acme", 0), &key), DK_OK);
    assert_int_equal(calls(&bench), 2);
    bench.w.mono_ms += bench.core.limits.ttl_ms; /* the tick comes too late */
    dk_cache_tick(bench.cache);
    assert_int_equal(get(&bench, name_of("acme", 0), &key), DK_OK);
    assert_int_equal(calls(&bench), 3);
    bench_close(&bench);
}

static void a_full_queue_leaves_the_refresh_to_the_call(void **state)
{
    (void)state;
    enum { ALL = 400, QUEUE = 256 };
    struct bench bench;
    bench_open(&bench, ALL);
    for (unsigned i = 0; i < ALL; i++) {
        assert_int_equal(get(&bench, nth_name(i), NULL), DK_OK);
    }
    bench.w.mono_ms += bench.core.limits.ttl_ms * 95 / 100;
    dk_cache_tick(bench.cache);
    for (unsigned i = 0; i < ALL; i++) {
        assert_int_equal(get(&bench, nth_name(i), NULL), DK_OK);
    }
    assert_int_equal(calls(&bench), ALL + ALL - QUEUE);
    dk_cache_tick(bench.cache);
    assert_int_equal(calls(&bench), ALL + ALL);
    bench_close(&bench);
}

static void R17_a_tick_in_an_outage_keeps_what_serves_and_tries_again(void **state)
{
    (void)state;
    struct bench bench;
    struct dk_live_key key;
    bench_open(&bench, 64);
    assert_int_equal(get(&bench, name_of("acme", 0), &key), DK_OK);
    atomic_store(&bench.spring.fail, DK_E_UNREACHABLE);
    bench.w.mono_ms = key.fresh_until_ms;
    dk_cache_tick(bench.cache);
    assert_int_equal(get(&bench, name_of("acme", 0), NULL), DK_OK);
    dk_cache_tick(bench.cache);
    assert_int_equal(dk_cache_stats(bench.cache).failures, 1);
    assert_int_equal(get(&bench, name_of("acme", 0), NULL), DK_OK);
    bench.w.mono_ms += 1000;
    dk_cache_tick(bench.cache);
    assert_int_equal(get(&bench, name_of("acme", 0), NULL), DK_OK);
    atomic_store(&bench.spring.fail, DK_E_DISABLED);
    dk_cache_tick(bench.cache); /* not an outage: it goes */
    assert_false(in_arena(&bench, name_of("acme", 0)));
    bench_close(&bench);
}

static void R14_ticks_wipe_what_nobody_asked_for_up_to_its_hard_ttl(void **state)
{
    (void)state;
    struct bench bench;
    bench_open(&bench, 64);
    assert_int_equal(get(&bench, name_of("acme", 0), NULL), DK_OK);
    bench.w.mono_ms += bench.core.limits.hard_ttl_ms;
    dk_cache_tick(bench.cache);
    assert_true(in_arena(&bench, name_of("acme", 0)));
    bench.w.mono_ms++;
    dk_cache_tick(bench.cache);
    assert_false(in_arena(&bench, name_of("acme", 0)));
    assert_int_equal(dk_cache_stats(bench.cache).keys, 0);
    bench_close(&bench);
}

/* ---- a provider that hangs ------------------------------------------------------------------- */

struct jam {
    struct bench *bench;
    struct dk_key_name name;
    dk_rc rc;
};

static void *get_in_jam(void *arg)
{
    struct jam *jam = arg;
    jam->rc = get(jam->bench, jam->name, NULL);
    return NULL;
}

static void start_jam(struct bench *bench, struct jam *jams, pthread_t *threads, size_t from,
                      size_t to, bool one_tenant)
{
    for (size_t i = from; i < to; i++) {
        jams[i].bench = bench;
        /* From 1 on: the active one is one of the others. */
        jams[i].name = one_tenant ? name_of("greedy", (uint32_t)i + 1) : nth_name((unsigned)i);
        assert_int_equal(pthread_create(&threads[i], NULL, get_in_jam, &jams[i]), 0);
    }
}

static void end_jam(struct bench *bench, struct jam *jams, pthread_t *threads, size_t count)
{
    set_gate(&bench->spring, false);
    for (size_t i = 0; i < count; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(jams[i].rc, DK_OK);
    }
}

static void F47_with_all_places_taken_by_a_slow_provider_cached_keys_serve(void **state)
{
    (void)state;
    struct bench bench;
    struct jam jams[FLIGHTS];
    pthread_t threads[FLIGHTS];
    struct dk_live_key fresh, due;
    bench_open(&bench, 1024);
    assert_int_equal(get(&bench, name_of("old", 0), &due), DK_OK);
    bench.w.mono_ms = due.fresh_until_ms; /* it is due, and no tick comes */
    assert_int_equal(get(&bench, name_of("young", 0), &fresh), DK_OK);
    set_gate(&bench.spring, true);
    start_jam(&bench, jams, threads, 0, FLIGHTS, false);
    await_inside(&bench.spring, FLIGHTS);
    assert_int_equal(get(&bench, name_of("young", 0), NULL), DK_OK);
    assert_int_equal(get(&bench, name_of("old", 0), NULL), DK_OK);
    struct dk_key_name young = name_of("young", 0);
    dk_cache_prefetch(bench.cache, &young, 1); /* a batch of what is there does not wait either */
    assert_int_equal(calls(&bench), 2 + FLIGHTS);
    end_jam(&bench, jams, threads, FLIGHTS);
    bench_close(&bench);
}

static void F47_no_tenant_has_more_than_a_quarter_of_the_flights(void **state)
{
    (void)state;
    enum { GREEDY = 40, QUARTER = FLIGHTS / 4, ALL = GREEDY + FLIGHTS - QUARTER };
    struct bench bench;
    struct jam jams[ALL];
    pthread_t threads[ALL];
    bench_open(&bench, 1024);
    set_gate(&bench.spring, true);
    start_jam(&bench, jams, threads, 0, GREEDY, true);
    await_inside(&bench.spring, QUARTER);
    start_jam(&bench, jams, threads, GREEDY, ALL, false);
    await_inside(&bench.spring, FLIGHTS); /* all others find a place at once */
    assert_int_equal(calls(&bench), FLIGHTS);
    end_jam(&bench, jams, threads, ALL);
    assert_int_equal(calls(&bench), ALL);
    bench_close(&bench);
}

/* ---- two names of one key -------------------------------------------------------------------- */

static int opened(struct bench *bench)
{
    return atomic_load(&bench->spring.opened);
}

static void R12_a_version_is_opened_once_a_ttl_by_whatever_name(void **state)
{
    (void)state;
    for (uint32_t first = 0; first < 2; first++) {
        struct bench bench;
        bench_open(&bench, 64);
        int64_t ttl = bench.core.limits.ttl_ms, born = bench.w.mono_ms;
        for (int64_t at = 0; at < 10 * ttl; at += ttl / 100) {
            bench.w.mono_ms = born + at;
            assert_int_equal(get(&bench, name_of("acme", first), NULL), DK_OK);
            assert_int_equal(get(&bench, name_of("acme", 1 - first), NULL), DK_OK);
        }
        assert_in_range(opened(&bench), 1 + 10 * 10 / 9, 1 + 10 * 10 / 8);
        bench_close(&bench);
    }
}

static void R12_a_tick_refreshes_a_version_once_for_both_names(void **state)
{
    (void)state;
    struct bench bench;
    bench_open(&bench, 64);
    int64_t ttl = bench.core.limits.ttl_ms, born = bench.w.mono_ms;
    for (int64_t at = 0; at < 10 * ttl; at += 1000) {
        bench.w.mono_ms = born + at;
        assert_int_equal(get(&bench, name_of("acme", 0), NULL), DK_OK);
        assert_int_equal(get(&bench, name_of("acme", 1), NULL), DK_OK);
        dk_cache_tick(bench.cache);
    }
    assert_in_range(opened(&bench), 1 + 10 * 10 / 9, 1 + 10 * 10 / 8);
    /* Both are due by now, and both are in the batch: one is enough. */
    struct dk_key_name both[] = {name_of("acme", 0), name_of("acme", 1)};
    bench.w.mono_ms += ttl;
    int before = opened(&bench);
    dk_cache_prefetch(bench.cache, both, 2);
    assert_int_equal(get(&bench, both[1], NULL), DK_OK);
    assert_int_equal(get(&bench, both[0], NULL), DK_OK);
    assert_int_equal(opened(&bench), before + 1);
    bench_close(&bench);
}

/* What a change elsewhere made old has no name left by which it serves. */
static void R13_what_is_forgotten_is_lent_to_nobody(void **state)
{
    (void)state;
    struct bench bench;
    struct dk_tenant acme = name_of("acme", 0).tenant;
    bench_open(&bench, 64);
    assert_int_equal(get(&bench, name_of("acme", 0), NULL), DK_OK);
    dk_cache_forget(bench.cache, &acme, 1);
    atomic_store(&bench.spring.fail, DK_E_DISABLED);
    assert_int_equal(get(&bench, name_of("acme", 1), NULL), DK_E_DISABLED);
    atomic_store(&bench.spring.fail, DK_OK);
    assert_int_equal(get(&bench, name_of("acme", 1), NULL), DK_OK);
    dk_cache_forget_all(bench.cache);
    assert_int_equal(get(&bench, name_of("acme", 0), NULL), DK_OK);
    assert_int_equal(opened(&bench), 3);
    bench_close(&bench);
}

/* A new version encrypts: the old one's number is no name of it. */
static void a_version_that_encrypts_no_more_is_not_lent(void **state)
{
    (void)state;
    struct bench bench;
    bench_open(&bench, 64);
    assert_int_equal(get(&bench, name_of("acme", 2), NULL), DK_OK);
    assert_int_equal(get(&bench, name_of("acme", 0), NULL), DK_OK);
    assert_int_equal(get(&bench, name_of("acme", 3), NULL), DK_OK);
    assert_int_equal(opened(&bench), 3);
    bench_close(&bench);
}

struct by_name {
    struct bench *bench;
    struct dk_key_name name;
    dk_rc rc;
};

static void *get_by_name(void *arg)
{
    struct by_name *by = arg;
    by->rc = get(by->bench, by->name, NULL);
    return NULL;
}

static void F47_who_encrypts_waits_for_who_opens_that_version(void **state)
{
    (void)state;
    static const dk_rc ends[] = {DK_OK, DK_E_UNREACHABLE};
    for (size_t i = 0; i < 2; i++) {
        struct bench bench;
        pthread_t threads[2];
        bench_open(&bench, 64);
        struct by_name by[2] = {{&bench, name_of("acme", 1), DK_OK},
                                {&bench, name_of("acme", 0), DK_OK}};
        set_gate(&bench.spring, true);
        atomic_store(&bench.spring.fail, ends[i]);
        pthread_create(&threads[0], NULL, get_by_name, &by[0]);
        await_inside(&bench.spring, 1);
        pthread_create(&threads[1], NULL, get_by_name, &by[1]);
        await_inside(&bench.spring, 2);
        set_gate(&bench.spring, false);
        pthread_join(threads[0], NULL);
        pthread_join(threads[1], NULL);
        assert_int_equal(by[0].rc, ends[i]);
        assert_int_equal(by[1].rc, ends[i]);
        assert_int_equal(opened(&bench), ends[i] == DK_OK ? 1 : 0);
        bench_close(&bench);
    }
}

/* ---- time, again ----------------------------------------------------------------------------- */

static void another_key_at_the_refresh_ends_the_generation(void **state)
{
    (void)state;
    struct bench bench;
    struct dk_live_key first, again;
    bench_open(&bench, 64);
    assert_int_equal(get(&bench, name_of("acme", 0), &first), DK_OK);
    const _Atomic uint32_t *generation = dk_cache_generation(bench.cache, first.slot);
    assert_int_equal(atomic_load(generation), first.generation);
    bench.w.mono_ms += bench.core.limits.ttl_ms;
    atomic_store(&bench.spring.seed, 2);
    assert_int_equal(get(&bench, name_of("acme", 0), &again), DK_OK);
    assert_int_not_equal(again.generation, first.generation);
    assert_int_equal(dk_cache_add_uses(bench.cache, first.slot, first.generation, 5, 5), 0);
    assert_int_equal(dk_cache_add_uses(bench.cache, again.slot, again.generation, 5, 5), 12);
    bench_close(&bench);
}

static void R17_an_outage_is_bridged_up_to_the_hard_ttl(void **state)
{
    (void)state;
    static const dk_rc outages[] = {DK_E_UNREACHABLE,
                                    DK_E_BUSY,
                                    DK_E_STORE,
                                    DK_E_IO,
                                    DK_E_NOMEM,
                                    DK_E_THROTTLED,
                                    DK_E_PROVIDER_DENIED,
                                    DK_E_PROVIDER,
                                    DK_E_MASTER_KEY_DISABLED,
                                    DK_E_NO_MASTER_KEY};
    for (size_t i = 0; i < sizeof outages / sizeof outages[0]; i++) {
        struct bench bench;
        bench_open(&bench, 64);
        int64_t born = bench.w.mono_ms;
        assert_int_equal(get(&bench, name_of("acme", 0), NULL), DK_OK);
        atomic_store(&bench.spring.fail, (int)outages[i]);
        bench.w.mono_ms = born + bench.core.limits.ttl_ms;
        assert_int_equal(get(&bench, name_of("acme", 0), NULL), DK_OK);
        assert_int_equal(calls(&bench), 2);
        assert_int_equal(get(&bench, name_of("acme", 0), NULL), DK_OK); /* no storm of retries */
        assert_int_equal(calls(&bench), 2);
        assert_int_equal(get(&bench, name_of("globex", 0), NULL), outages[i]); /* a cold one */
        bench.w.mono_ms = born + bench.core.limits.hard_ttl_ms - 1;
        assert_int_equal(get(&bench, name_of("acme", 0), NULL), DK_OK);
        bench.w.mono_ms = born + bench.core.limits.hard_ttl_ms + 1000;
        assert_int_equal(get(&bench, name_of("acme", 0), NULL), outages[i]);
        assert_false(in_arena(&bench, name_of("acme", 0)));
        atomic_store(&bench.spring.fail, DK_OK);
        assert_int_equal(get(&bench, name_of("acme", 0), NULL), DK_OK);
        bench_close(&bench);
    }
}

/* The hard TTL ends at its time, also when a retry was planned for later. */
static void R17_a_planned_retry_does_not_outlast_the_hard_ttl(void **state)
{
    (void)state;
    struct bench bench;
    bench_open(&bench, 64);
    int64_t born = bench.w.mono_ms;
    assert_int_equal(get(&bench, name_of("acme", 0), NULL), DK_OK);
    atomic_store(&bench.spring.fail, DK_E_UNREACHABLE);
    bench.w.mono_ms = born + bench.core.limits.hard_ttl_ms - 1;
    struct dk_live_key last;
    assert_int_equal(get(&bench, name_of("acme", 0), &last), DK_OK);
    assert_true(last.fresh_until_ms <= born + bench.core.limits.hard_ttl_ms);
    bench.w.mono_ms = born + bench.core.limits.hard_ttl_ms;
    assert_int_equal(get(&bench, name_of("acme", 0), NULL), DK_E_UNREACHABLE);
    bench_close(&bench);
}

static void what_the_registry_refuses_is_not_served_from_memory(void **state)
{
    (void)state;
    static const dk_rc refusals[] = {DK_E_DISABLED, DK_E_PURGED, DK_E_COMPROMISED, DK_E_TAMPERED};
    for (size_t i = 0; i < sizeof refusals / sizeof refusals[0]; i++) {
        struct bench bench;
        bench_open(&bench, 64);
        assert_int_equal(get(&bench, name_of("acme", 0), NULL), DK_OK);
        atomic_store(&bench.spring.fail, (int)refusals[i]);
        bench.w.mono_ms += bench.core.limits.ttl_ms;
        assert_int_equal(get(&bench, name_of("acme", 0), NULL), refusals[i]);
        assert_false(in_arena(&bench, name_of("acme", 0)));
        assert_int_equal(dk_cache_stats(bench.cache).keys, 0);
        bench_close(&bench);
    }
}

/* ---- bounds ---------------------------------------------------------------------------------- */

static void R14_a_full_cache_evicts_and_what_goes_is_wiped(void **state)
{
    (void)state;
    enum { MAX = 16, ALL = 100 };
    struct bench bench;
    bench_open(&bench, MAX);
    for (unsigned i = 0; i < ALL; i++) {
        assert_int_equal(get(&bench, nth_name(i), NULL), DK_OK);
        assert_true(dk_cache_stats(bench.cache).keys <= MAX);
    }
    struct dk_cache_stats stats = dk_cache_stats(bench.cache);
    assert_int_equal(stats.keys, MAX);
    assert_int_equal(stats.evictions, ALL - MAX);
    assert_int_equal(stats.loads, ALL);
    int held = 0;
    for (unsigned i = 0; i < ALL; i++) {
        struct dk_key_name name = nth_name(i);
        bool held_now = has(&bench, name);
        assert_int_equal(in_arena(&bench, name), held_now);
        held += held_now;
    }
    assert_int_equal(held, MAX);
    bench_close(&bench);
}

/* A victim's calls among those of a tenant that churns: how many of `rounds` were not at hand. */
static int missed_beside(struct bench *bench, unsigned rounds, unsigned churn,
                         struct dk_key_name (*hostile)(unsigned i))
{
    enum { VICTIMS = 16 };
    int missed = 0;
    for (unsigned i = 0; i < rounds; i++) {
        for (unsigned k = 0; k < churn; k++) {
            assert_int_equal(get(bench, hostile(i * churn + k), NULL), DK_OK);
        }
        int before = calls(bench);
        assert_int_equal(get(bench, nth_name(i % VICTIMS), NULL), DK_OK);
        missed += calls(bench) - before;
    }
    return missed;
}

static struct dk_key_name many_tenants(unsigned i)
{
    return nth_name(1000 + i);
}

static struct dk_key_name many_versions(unsigned i)
{
    return name_of("hostile", i + 1);
}

/* Each version is used again and again: to the clock they look as good as anybody's. */
static struct dk_key_name warm_versions(unsigned i)
{
    return name_of("hostile", (i / 4) % 200 + 1);
}

static void R14_closing_wipes_every_key(void **state)
{
    (void)state;
    enum { ALL = 200 };
    struct bench bench;
    bench_open(&bench, ALL);
    for (unsigned i = 0; i < ALL; i++) {
        assert_int_equal(get(&bench, nth_name(i), NULL), DK_OK);
        assert_true(in_arena(&bench, nth_name(i)));
    }
    dk_cache_close(bench.cache);
    bench.cache = NULL;
    for (unsigned i = 0; i < ALL; i++) {
        assert_false(in_arena(&bench, nth_name(i)));
    }
    bench_close(&bench);
}

static void F48_what_is_used_stays_while_others_churn(void **state)
{
    (void)state;
    struct bench bench;
    bench_open(&bench, 128);
    assert_in_range(missed_beside(&bench, 5000, 4, many_tenants), 16, 100);
    bench_close(&bench);
    bench_open(&bench, 128);
    assert_in_range(missed_beside(&bench, 5000, 4, many_versions), 16, 100);
    bench_close(&bench);
    bench_open(&bench, 128);
    assert_in_range(missed_beside(&bench, 5000, 16, warm_versions), 16, 100);
    bench_close(&bench);
}

static void F48_a_tenant_with_a_quarter_of_the_table_displaces_its_own(void **state)
{
    (void)state;
    enum { MAX = 400, OTHERS = 300 };
    struct bench bench;
    bench_open(&bench, MAX);
    for (unsigned i = 0; i < OTHERS; i++) {
        assert_int_equal(get(&bench, nth_name(i), NULL), DK_OK);
    }
    for (unsigned i = 0; i < 5000; i++) {
        assert_int_equal(get(&bench, many_versions(i), NULL), DK_OK);
    }
    for (unsigned i = 0; i < OTHERS; i++) { /* none was asked for in the meantime */
        assert_true(has(&bench, nth_name(i)));
    }
    bench_close(&bench);
}

static void R14_a_million_keys_take_less_than_112_bytes_each(void **state)
{
    (void)state;
    assert_true(dk_cache_table_bytes(1000000) <= UINT64_C(112) * 1000000);
    for (size_t bytes = 0; bytes < 100000; bytes += 997) {
        size_t keys = dk_cache_keys_fitting(bytes);
        assert_true(keys == 0 || dk_cache_table_bytes(keys) <= bytes);
        assert_true(dk_cache_table_bytes(keys + 8) > bytes);
    }
}

/* ---- reading while others write -------------------------------------------------------------- */

struct stir {
    struct bench bench;
    atomic_int wrong;
};

static void read_or_churn(void *arg, size_t index)
{
    struct stir *stir = arg;
    uint64_t seed = 100 + index;
    for (int i = 0; i < 4000; i++) {
        unsigned which = (unsigned)(dk_test_random(&seed) % (index == 0 ? 1000 : 40));
        struct dk_tenant tenant = nth_name(which).tenant;
        if (get(&stir->bench, nth_name(which), NULL) != DK_OK) {
            atomic_fetch_add(&stir->wrong, 1);
        }
        if (index == 0 && i % 64 == 0) {
            dk_cache_forget(stir->bench.cache, &tenant, 1);
        }
        if (index == 0 && i % 500 == 0) {
            dk_cache_forget_all(stir->bench.cache);
        }
    }
}

/* get() looks whether each key is the name's: no reader ever sees a slot half changed. */
static void I21_who_reads_without_a_lock_gets_whole_keys_of_his_own(void **state)
{
    (void)state;
    static struct stir stir;
    memset(&stir, 0, sizeof stir);
    bench_open(&stir.bench, 48);
    dk_test_threads(4, read_or_churn, &stir);
    assert_int_equal(stir.wrong, 0);
    assert_true(dk_cache_stats(stir.bench.cache).evictions > 100);
    bench_close(&stir.bench);
}

static void a_lent_cell_gets_the_key_and_is_wiped_on_an_error(void **state)
{
    (void)state;
    struct bench bench;
    struct dk_key_name name = name_of("acme", 0), missing = name_of("xenon", 0);
    struct dk_live_key key = {0};
    bench_open(&bench, 64);
    DK_TEST_OK(err, dk_secret_new(bench.core.arena, DK_FIELD_SECRET, &key.okm, &err));
    const uint8_t *cell = key.okm.cell;
    DK_TEST_OK(err, bench.keys.get(bench.keys.self, &name, &key, &err));
    assert_ptr_equal(key.okm.cell, cell);
    assert_true(is_right(&key, &name, 0));
    DK_TEST_FAILS(err, NOT_FOUND, bench.keys.get(bench.keys.self, &missing, &key, &err));
    assert_ptr_equal(key.okm.cell, cell);
    assert_true(dk_secret_is_zero(&key.okm));
    dk_secret_free(bench.core.arena, &key.okm);
    bench_close(&bench);
}

static void uses_of_a_name_are_counted_where_it_lies(void **state)
{
    (void)state;
    struct bench bench;
    struct dk_key_name name = name_of("acme", 0);
    struct dk_live_key key;
    struct dk_key_uses uses;
    bench_open(&bench, 64);
    assert_false(dk_cache_key_uses(bench.cache, &name, &uses));
    assert_int_equal(get(&bench, name, &key), DK_OK);
    assert_int_equal(dk_cache_add_uses(bench.cache, key.slot, key.generation, 5, 3), 10);
    bench.w.mono_ms = key.fresh_until_ms;
    assert_int_equal(get(&bench, name, NULL), DK_OK);
    assert_int_equal(dk_cache_add_uses(bench.cache, key.slot, key.generation, 1, 0), 10);
    assert_true(dk_cache_key_uses(bench.cache, &name, &uses));
    assert_int_equal(uses.hits, 6);
    assert_int_equal(uses.misses, 1);
    assert_int_equal(uses.unwraps, 2);
    assert_int_equal(uses.messages, 10); /* what was known is more than what was read */
    dk_cache_add_uses(bench.cache, key.slot, key.generation, INT64_C(1) << 40, 0);
    assert_true(dk_cache_key_uses(bench.cache, &name, &uses));
    assert_int_equal(uses.hits, UINT32_MAX);
    bench_close(&bench);
}

/* ---- forgetting ------------------------------------------------------------------------------ */

static void R13_forgetting_a_tenant_drops_all_its_versions_and_no_other(void **state)
{
    (void)state;
    struct bench bench;
    struct dk_tenant acme = name_of("acme", 0).tenant;
    bench_open(&bench, 64);
    for (uint32_t v = 0; v < 5; v++) {
        assert_int_equal(get(&bench, name_of("acme", v), NULL), DK_OK);
        assert_int_equal(get(&bench, name_of("globex", v), NULL), DK_OK);
    }
    dk_cache_forget(bench.cache, &acme, 1);
    for (uint32_t v = 0; v < 5; v++) {
        assert_true(has(&bench, name_of("globex", v)));
        assert_false(in_arena(&bench, name_of("acme", v)));
    }
    assert_int_equal(dk_cache_stats(bench.cache).keys, 5);
    bench_close(&bench);
}

static void I21_100000_tenants_never_get_another_ones_key(void **state)
{
    (void)state;
    enum { ALL = 100000 };
    struct bench bench;
    uint64_t seed = 21;
    bench_open(&bench, ALL);
    for (unsigned i = 0; i < ALL; i++) {
        assert_int_equal(get(&bench, nth_name(i), NULL), DK_OK);
    }
    assert_int_equal(dk_cache_stats(bench.cache).keys, ALL);
    for (unsigned i = 0; i < ALL; i++) {
        unsigned which = (unsigned)(dk_test_random(&seed) % ALL);
        assert_int_equal(get(&bench, nth_name(which), NULL), DK_OK);
    }
    assert_int_equal(calls(&bench), ALL);
    bench_close(&bench);
}

static void I21_in_a_small_cache_slots_change_hands_and_keys_do_not(void **state)
{
    (void)state;
    struct bench bench;
    uint64_t seed = 22;
    bench_open(&bench, 1500);
    for (unsigned i = 0; i < 50000; i++) {
        struct dk_key_name name = nth_name((unsigned)(dk_test_random(&seed) % 5000));
        name.version = (uint32_t)(dk_test_random(&seed) % 3);
        assert_int_equal(get(&bench, name, NULL), DK_OK);
    }
    assert_int_equal(dk_cache_stats(bench.cache).keys, 1500);
    bench_close(&bench);
}

/* ---- batches, memory, fork ------------------------------------------------------------------- */

static void R27_a_prefetch_keeps_what_can_be_had_and_the_rest_has_its_own_answer(void **state)
{
    (void)state;
    struct bench bench;
    struct dk_key_name names[] = {name_of("acme", 0), name_of("xenon", 0), name_of("globex", 3)};
    bench_open(&bench, 64);
    dk_cache_prefetch(bench.cache, names, 3);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(has(&bench, names[i]), i != 1);
        /* get() looks whether the key is the right one */
        assert_int_equal(get(&bench, names[i], NULL), i == 1 ? DK_E_NOT_FOUND : DK_OK);
    }
    bench_close(&bench);
}

static void *prefetch_acme(void *arg)
{
    struct bench *bench = arg;
    struct dk_key_name names[] = {name_of("acme", 0), name_of("globex", 0)};
    dk_cache_prefetch(bench->cache, names, 2);
    return bench;
}

static void F47_batches_and_single_calls_for_a_key_make_one_call(void **state)
{
    (void)state;
    struct bench bench;
    pthread_t threads[8];
    void *good = NULL;
    bench_open(&bench, 64);
    set_gate(&bench.spring, true);
    assert_int_equal(pthread_create(&threads[0], NULL, prefetch_acme, &bench), 0);
    await_inside(&bench.spring, 1);
    for (size_t i = 1; i < 8; i++) {
        assert_int_equal(
            pthread_create(&threads[i], NULL, i % 2 ? get_acme : prefetch_acme, &bench), 0);
    }
    set_gate(&bench.spring, false);
    for (size_t i = 0; i < 8; i++) {
        pthread_join(threads[i], &good);
        assert_non_null(good);
    }
    assert_int_equal(calls(&bench), 2);
    bench_close(&bench);
}

static void a_stale_key_serves_while_a_batch_renews_it(void **state)
{
    (void)state;
    struct bench bench;
    pthread_t thread;
    void *good = NULL;
    struct dk_live_key stale;
    bench_open(&bench, 64);
    assert_int_equal(get(&bench, name_of("acme", 0), NULL), DK_OK);
    bench.w.mono_ms += bench.core.limits.ttl_ms;
    set_gate(&bench.spring, true);
    assert_int_equal(pthread_create(&thread, NULL, prefetch_acme, &bench), 0);
    await_inside(&bench.spring, 1);
    assert_int_equal(get(&bench, name_of("acme", 0), &stale), DK_OK); /* beside the shut gate */
    assert_true(stale.fresh_until_ms < bench.w.mono_ms); /* the next call looks again */
    set_gate(&bench.spring, false);
    pthread_join(thread, &good);
    assert_non_null(good);
    assert_int_equal(get(&bench, name_of("acme", 0), &stale), DK_OK);
    assert_true(stale.fresh_until_ms > bench.w.mono_ms);
    bench_close(&bench);
}

static void F01_without_memory_nothing_opens_and_a_key_is_kept_all_the_same(void **state)
{
    (void)state;
    struct bench bench;
    bench_open(&bench, 64);
    struct dk_cache *second = NULL;
    struct dk_key_source below = {&bench.spring, spring_get, spring_get_many};
    struct dk_key_name acme = name_of("acme", 0), globex = name_of("globex", 0);
    bench.w.fail_alloc_all = bench.w.allocs + 1;
    DK_TEST_FAILS(err, NOMEM, dk_cache_open(&bench.core, &below, &second, &err));
    dk_cache_prefetch(bench.cache, &globex, 1); /* cannot: the call will say so, or do it */
    assert_int_equal(calls(&bench), 0);
    for (int i = 0; i < 1000; i++) { /* a key needs none but its place in the table */
        assert_int_equal(get(&bench, acme, NULL), DK_OK);
        assert_int_equal(get(&bench, globex, NULL), DK_OK);
    }
    assert_int_equal(calls(&bench), 2);
    bench.w.fail_alloc_all = 0;
    bench_close(&bench);
}

static struct dk_live_key parents_key;

static int use_in_child(void *arg)
{
    struct bench *bench = arg;
    struct dk_key_name name = name_of("acme", 0);
    struct dk_live_key key;
    dk_arena_reset(bench->core.arena);
    dk_arena_revive(bench->core.arena);
    dk_cache_after_fork(bench->cache);
    DK_TEST_CHILD(!has(bench, name));
    DK_TEST_CHILD(!in_arena(bench, name));
    DK_TEST_CHILD(get(bench, name, &key) == DK_OK);
    /* A context of the parent's, keyed for that slot, is not taken for one of the child's. */
    DK_TEST_CHILD(key.slot == parents_key.slot && key.generation != parents_key.generation);
    DK_TEST_CHILD(calls(bench) == 2);
    for (unsigned i = 0; i < 100; i++) {
        DK_TEST_CHILD(get(bench, nth_name(i), NULL) == DK_OK);
    }
    DK_TEST_CHILD(dk_cache_stats(bench->cache).keys == 64);
    return 0;
}

static void a_child_process_fetches_its_keys_again(void **state)
{
    (void)state;
    struct bench bench;
    bench_open(&bench, 64);
    assert_int_equal(get(&bench, name_of("acme", 0), &parents_key), DK_OK);
    assert_true(dk_test_in_child(false, use_in_child, &bench));
    assert_int_equal(get(&bench, name_of("acme", 0), NULL), DK_OK);
    assert_int_equal(calls(&bench), 1);
    bench_close(&bench);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(F47_R12_1000_threads_and_one_cold_key_make_one_call),
        cmocka_unit_test(F47_a_failure_is_told_to_all_who_wait_and_is_not_kept),
        cmocka_unit_test(many_keys_fly_at_once_and_more_wait_for_a_place),
        cmocka_unit_test(R13_what_is_forgotten_during_its_flight_is_not_kept),
        cmocka_unit_test(R13_a_key_is_fresh_to_80_or_90_percent_of_its_ttl_counted_from_the_fetch),
        cmocka_unit_test(R12_what_was_fetched_together_is_not_due_together),
        cmocka_unit_test(R12_while_ticks_come_they_refresh_and_no_call_does),
        cmocka_unit_test(without_ticks_or_past_its_ttl_a_call_refreshes),
        cmocka_unit_test(a_full_queue_leaves_the_refresh_to_the_call),
        cmocka_unit_test(R17_a_tick_in_an_outage_keeps_what_serves_and_tries_again),
        cmocka_unit_test(R14_ticks_wipe_what_nobody_asked_for_up_to_its_hard_ttl),
        cmocka_unit_test(F47_with_all_places_taken_by_a_slow_provider_cached_keys_serve),
        cmocka_unit_test(F47_no_tenant_has_more_than_a_quarter_of_the_flights),
        cmocka_unit_test(R12_a_version_is_opened_once_a_ttl_by_whatever_name),
        cmocka_unit_test(R12_a_tick_refreshes_a_version_once_for_both_names),
        cmocka_unit_test(R13_what_is_forgotten_is_lent_to_nobody),
        cmocka_unit_test(a_version_that_encrypts_no_more_is_not_lent),
        cmocka_unit_test(F47_who_encrypts_waits_for_who_opens_that_version),
        cmocka_unit_test(another_key_at_the_refresh_ends_the_generation),
        cmocka_unit_test(R17_an_outage_is_bridged_up_to_the_hard_ttl),
        cmocka_unit_test(R17_a_planned_retry_does_not_outlast_the_hard_ttl),
        cmocka_unit_test(what_the_registry_refuses_is_not_served_from_memory),
        cmocka_unit_test(R14_a_full_cache_evicts_and_what_goes_is_wiped),
        cmocka_unit_test(R14_closing_wipes_every_key),
        cmocka_unit_test(F48_what_is_used_stays_while_others_churn),
        cmocka_unit_test(F48_a_tenant_with_a_quarter_of_the_table_displaces_its_own),
        cmocka_unit_test(R14_a_million_keys_take_less_than_112_bytes_each),
        cmocka_unit_test(I21_who_reads_without_a_lock_gets_whole_keys_of_his_own),
        cmocka_unit_test(a_lent_cell_gets_the_key_and_is_wiped_on_an_error),
        cmocka_unit_test(uses_of_a_name_are_counted_where_it_lies),
        cmocka_unit_test(R13_forgetting_a_tenant_drops_all_its_versions_and_no_other),
        cmocka_unit_test(I21_100000_tenants_never_get_another_ones_key),
        cmocka_unit_test(I21_in_a_small_cache_slots_change_hands_and_keys_do_not),
        cmocka_unit_test(R27_a_prefetch_keeps_what_can_be_had_and_the_rest_has_its_own_answer),
        cmocka_unit_test(F47_batches_and_single_calls_for_a_key_make_one_call),
        cmocka_unit_test(a_stale_key_serves_while_a_batch_renews_it),
        cmocka_unit_test(F01_without_memory_nothing_opens_and_a_key_is_kept_all_the_same),
        cmocka_unit_test(a_child_process_fetches_its_keys_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
