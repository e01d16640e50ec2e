#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include <stdlib.h>

#include "support/fault_vfs.h"
#include "support/world.h"

/*
 * F13: the power goes. A seed is one life of a registry: init, first uses, rotations, exports,
 * flushes, reopenings, over a disk that is cut at a chosen call and comes back as fault_disk.h
 * says. After each cut: whatever was acknowledged is there, the audit finds nothing, and life goes
 * on. DEKHAND_SEED=n runs that seed alone; DEKHAND_SEEDS=n, so many.
 * The slow builds live fewer: what is lost is lost in each build alike.
 */

#define TENANTS 6
#define VALUES 160
#define STEPS 20
#define WRONG 512

#if defined(DK_SANITIZED) || defined(DK_COVER)
#define SEEDS 60
#define REPLAYS 3
#define LIVES 12 /* with each lie of the disk */
#else
#define SEEDS 1000
#define REPLAYS 10
#define LIVES 40
#endif

/* What the callers were told. */
struct told {
    bool init;
    char pin[65];
    size_t count;
    struct {
        unsigned tenant;
        unsigned n; /* the plaintext */
        struct dk_test_value value;
    } values[VALUES];
    uint32_t version[TENANTS];                   /* the highest acknowledged; 0 = no key yet */
    int64_t creates, rotates, exports, decrypts; /* log rows */
    int64_t messages;                            /* by instances that closed well */
};

struct life {
    struct dk_place place;
    struct dekhand *d;
    uint64_t random;
    struct told told;
    int64_t messages;   /* by the instance that is open */
    int64_t tried;      /* calls that may have been counted */
    bool cold[TENANTS]; /* nobody has its keys in memory */
    int cuts;
    char wrong[WRONG]; /* "" = all is well */
};

static size_t below(struct life *life, size_t n)
{
    return (size_t)(dk_test_random(&life->random) % n);
}

__attribute__((format(printf, 2, 3))) static void wrong(struct life *life, const char *format, ...)
{
    va_list args;
    if (life->wrong[0] == '\0') {
        va_start(args, format);
        vsnprintf(life->wrong, sizeof life->wrong, format, args);
        va_end(args);
    }
}

/* A call that the disk did not disturb has to succeed. */
static bool went_well(struct life *life, const char *what, int code)
{
    dk_disk_trace_add(&code, sizeof code);
    if (code != DEKHAND_OK && !dk_disk_is_cut()) {
        wrong(life, "%s after %d cuts: %s", what, life->cuts, dekhand_error_name(code));
    }
    return code == DEKHAND_OK;
}

static const char *tenant_name(unsigned tenant)
{
    static const char *const names[TENANTS] = {"acme",     "globex", "initech",
                                               "umbrella", "wonka",  "hooli"};
    return names[tenant];
}

static const char *plain_of(unsigned n, char out[static 32])
{
    snprintf(out, 32, "value number %u", n);
    return out;
}

/* ---- what a life is made of ------------------------------------------------------------------ */

static void note_value(struct life *life, unsigned tenant, unsigned n,
                       const struct dk_test_value *value)
{
    struct told *told = &life->told;
    uint32_t version = dk_test_version(value);
    dk_disk_trace_add(value->p, value->n);
    if (version < told->version[tenant]) {
        wrong(life, "%s encrypts under version %u after %u", tenant_name(tenant), version,
              told->version[tenant]);
    }
    told->creates += told->version[tenant] == 0;
    told->version[tenant] = version;
    life->messages++;
    told->values[told->count].tenant = tenant;
    told->values[told->count].n = n;
    told->values[told->count++].value = *value;
}

static void step_encrypt(struct life *life)
{
    char plain[32];
    struct dk_test_value value;
    unsigned tenant = (unsigned)below(life, TENANTS), n = (unsigned)life->tried++;
    if (life->told.count == VALUES) {
        return;
    }
    int code = dk_test_encrypt(life->d, tenant_name(tenant), plain_of(n, plain), &value);
    if (went_well(life, "encrypt", code)) {
        note_value(life, tenant, n, &value);
        life->cold[tenant] = false;
    }
}

static void step_batch(struct life *life)
{
    char plain[32], marked[3][DK_TEST_VALUE];
    struct dk_test_value value[3];
    struct dekhand_item items[3] = {0};
    unsigned first = (unsigned)below(life, TENANTS), n = (unsigned)life->tried;
    life->tried += 3;
    for (unsigned i = 0; i < 3; i++) {
        items[i].tenant = tenant_name((first + i) % TENANTS);
        items[i].in = marked[i];
        items[i].in_size = dk_test_plain(plain_of(n + i, plain), marked[i]);
        items[i].out = value[i].p;
        items[i].capacity = sizeof value[i].p;
    }
    (void)went_well(life, "batch", dekhand_encrypt_batch(life->d, items, 3, NULL));
    for (unsigned i = 0; i < 3 && life->told.count < VALUES; i++) {
        if (items[i].code == DEKHAND_OK) {
            value[i].n = items[i].size;
            note_value(life, (first + i) % TENANTS, n + i, &value[i]);
            life->cold[(first + i) % TENANTS] = false;
        }
    }
}

static void step_decrypt(struct life *life)
{
    char plain[32];
    const struct told *told = &life->told;
    if (told->count == 0) {
        return;
    }
    size_t i = below(life, told->count);
    unsigned tenant = told->values[i].tenant;
    int code = dk_test_decrypt(life->d, tenant_name(tenant), &told->values[i].value,
                               plain_of(told->values[i].n, plain));
    if (went_well(life, "decrypt", code) && life->cold[tenant]) {
        life->told.decrypts++;
        life->cold[tenant] = false;
    }
}

static void step_rotate(struct life *life)
{
    unsigned tenant = (unsigned)below(life, TENANTS);
    uint32_t to = 0, from = life->told.version[tenant];
    if (from == 0) {
        return;
    }
    struct dekhand_rotate_args args = {.size = sizeof args,
                                       .which = DEKHAND_ROTATE_TENANT,
                                       .tenant = tenant_name(tenant),
                                       .compromised = below(life, 4) == 0};
    int code = args.compromised ? dekhand_rotate(life->d, &args, NULL, NULL, NULL)
                                : dk_test_rotate(life->d, args.tenant, 0, &to);
    if (went_well(life, "rotate", code)) {
        life->told.rotates += !args.compromised;
        life->told.version[tenant] = to > from ? to : from + 1;
        if (!args.compromised && to <= from) {
            wrong(life, "%s was rotated from %u to %u", args.tenant, from, to);
        }
    }
}

static void step_export(struct life *life)
{
    uint8_t key[DEKHAND_DATA_KEY];
    unsigned tenant = (unsigned)below(life, TENANTS);
    uint32_t version = life->told.version[tenant];
    if (version > 0 &&
        went_well(life, "export",
                  dekhand_key_export(life->d, tenant_name(tenant), version, true, key, NULL))) {
        life->told.exports++;
    }
}

/* The next look-out is due, sometimes the flush of the counts too. */
static void step_tick(struct life *life)
{
    life->place.w.mono_ms += below(life, 3) == 0 ? INT64_C(3700000) : 6000;
    life->place.w.wall_us += INT64_C(60000000);
    (void)went_well(life, "tick", dekhand_tick(life->d, NULL));
}

static void open_it(struct life *life)
{
    struct dekhand_error error;
    struct dekhand_registry_info info = {.size = sizeof info};
    life->messages = 0;
    if (!went_well(life, "open", dk_place_try_open(&life->place, &life->d, &error))) {
        life->d = NULL;
        return;
    }
    for (unsigned i = 0; i < TENANTS; i++) {
        life->cold[i] = true;
    }
    if (went_well(life, "registry", dekhand_registry(life->d, &info, NULL)) && info.older) {
        wrong(life, "seal %lld of the anchor is not in the registry, whose newest is %lld",
              (long long)info.anchor_seal, (long long)info.newest_seal);
    }
}

static void close_it(struct life *life)
{
    if (life->d != NULL && went_well(life, "close", dekhand_close(life->d, NULL))) {
        life->told.messages += life->messages;
    }
    life->d = NULL;
    life->messages = 0;
}

static void step_reopen(struct life *life)
{
    close_it(life);
    if (!dk_disk_is_cut()) {
        open_it(life);
    }
}

static void run_steps(struct life *life)
{
    static void (*const steps[])(struct life *) = {
        step_encrypt, step_encrypt, step_encrypt, step_batch,  step_decrypt, step_decrypt,
        step_rotate,  step_rotate,  step_export,  step_reopen, step_tick,    step_tick};
    for (int i = 0; i < STEPS && life->d != NULL && !dk_disk_is_cut(); i++) {
        steps[below(life, sizeof steps / sizeof steps[0])](life);
    }
}

/* ---- what has to hold after a cut ------------------------------------------------------------ */

static void check_init(struct life *life)
{
    struct dekhand_error error;
    struct told *told = &life->told;
    int code = dk_place_init(&life->place, &error);
    if (!went_well(life, "init", code)) {
        if (!dk_disk_is_cut()) {
            wrong(life, "%s", error.text);
        }
        return;
    }
    const struct dekhand_init_result *made = &life->place.made;
    if (told->init && (made->made_master_key || made->made_registry)) {
        wrong(life, "init made again what it had made");
    }
    if (told->init && strcmp(told->pin, made->pin) != 0) {
        wrong(life, "another registry key");
    }
    told->init = true;
    memcpy(told->pin, made->pin, sizeof told->pin);
}

static void check_values(struct life *life)
{
    static struct dekhand_item items[VALUES];
    static uint8_t out[VALUES][DK_TEST_VALUE];
    const struct told *told = &life->told;
    for (size_t i = 0; i < told->count; i++) {
        items[i] = (struct dekhand_item){.tenant = tenant_name(told->values[i].tenant),
                                         .in = told->values[i].value.p,
                                         .in_size = told->values[i].value.n,
                                         .out = out[i],
                                         .capacity = sizeof out[i]};
    }
    (void)dekhand_decrypt_batch(life->d, items, told->count, NULL);
    for (size_t i = 0; i < told->count; i++) {
        char plain[32], marked[DK_TEST_VALUE];
        size_t n = dk_test_plain(plain_of(told->values[i].n, plain), marked);
        if (items[i].code != DEKHAND_OK || items[i].size != n || memcmp(out[i], marked, n) != 0) {
            wrong(life, "value %zu of %s, version %u: %s", i, items[i].tenant,
                  dk_test_version(&told->values[i].value), dekhand_error_name(items[i].code));
        }
        life->cold[told->values[i].tenant] = false;
    }
}

static void find(void *arg, const struct dekhand_finding *finding)
{
    wrong(arg, "audit: %s %s %s: %s", finding->table, finding->tenant, finding->row, finding->text);
}

static void check_audit(struct life *life)
{
    struct dekhand_audit_result result = {.size = sizeof result};
    (void)went_well(life, "audit verify", dekhand_audit_verify(life->d, find, life, &result, NULL));
}

static void at_least(struct life *life, const char *what, int64_t told, int64_t there)
{
    if (there < told) {
        wrong(life, "%s: %lld were acknowledged, %lld are there", what, (long long)told,
              (long long)there);
    }
}

struct there {
    int64_t creates, rotates, exports, decrypts, messages;
    uint32_t version[TENANTS];
};

static bool count_log(void *arg, const struct dekhand_audit_entry *entry)
{
    struct there *there = arg;
    there->creates += strcmp(entry->operation, "create") == 0;
    there->rotates += strcmp(entry->operation, "rotate") == 0;
    there->exports += strcmp(entry->operation, "export") == 0;
    there->decrypts += strcmp(entry->operation, "decrypt") == 0;
    return true;
}

static bool count_key(void *arg, const struct dekhand_key *key)
{
    struct there *there = arg;
    there->messages += key->messages;
    for (unsigned i = 0; i < TENANTS; i++) {
        if (strcmp(key->tenant, tenant_name(i)) == 0) {
            there->version[i] = key->version; /* in order */
        }
    }
    return true;
}

/* What is there now counts from here on: more may have happened than was acknowledged. */
static void check_rows(struct life *life)
{
    struct told *told = &life->told;
    struct there there = {.creates = 0};
    struct dekhand_audit_query query = {.size = sizeof query};
    (void)went_well(life, "audit list",
                    dekhand_audit_list(life->d, &query, count_log, &there, NULL));
    (void)went_well(life, "keys", dekhand_keys(life->d, NULL, count_key, &there, NULL));
    at_least(life, "creations", told->creates, there.creates);
    at_least(life, "rotations", told->rotates, there.rotates);
    at_least(life, "exports", told->exports, there.exports);
    at_least(life, "unwraps", told->decrypts, there.decrypts);
    at_least(life, "messages", told->messages, there.messages);
    at_least(life, "more messages are counted than were sealed", there.messages, life->tried);
    for (unsigned i = 0; i < TENANTS; i++) {
        at_least(life, tenant_name(i), told->version[i], there.version[i]);
        told->version[i] = there.version[i];
    }
    told->creates = there.creates;
}

static void check_all(struct life *life)
{
    check_init(life);
    if (life->wrong[0] != '\0') {
        return;
    }
    open_it(life);
    if (life->d == NULL) {
        return;
    }
    check_rows(life);
    check_values(life);
    check_audit(life);
}

/* ---- lives ----------------------------------------------------------------------------------- */

static void cut_at(struct life *life, unsigned most)
{
    struct dk_disk_plan plan = {.kinds = DK_IO_CHANGE, .at = 1 + (unsigned)below(life, most)};
    dk_disk_plan(&plan);
}

/* Until the power goes: at the planned call, or after the last step. */
static void live(struct life *life)
{
    if (life->d != NULL || life->told.init) {
        run_steps(life);
    } else {
        check_init(life);
        if (!dk_disk_is_cut() && life->wrong[0] == '\0') {
            open_it(life);
            run_steps(life);
        }
    }
    if (below(life, 2) == 0 && !dk_disk_is_cut()) {
        close_it(life);
    }
    dk_disk_cut();
    close_it(life); /* what is left of the process; it reaches no disk */
    life->cuts++;
    dk_disk_restart();
}

/* Randomness from the seed, for the library and for SQLite: a life is a function of its seed. */
static void begin(struct life *life, uint64_t seed, enum dk_disk_lie lie)
{
    struct dk_test_world seeded;
    memset(life, 0, sizeof *life);
    dk_place_bare(&life->place, false);
    dk_test_world_init(&seeded);
    life->place.w.world.random = seeded.world.random;
    life->place.w.world.random.arg = &life->place.w;
    life->place.w.random_state = seed;
    life->random = ~seed;
    dk_disk_start(life->place.folder, seed << 20, lie);
    dk_fault_vfs_reseed();
}

/* The trace of the life; life->wrong tells what did not hold. */
static uint64_t run_life(struct life *life, uint64_t seed, enum dk_disk_lie lie)
{
    begin(life, seed, lie);
    size_t rounds = 1 + below(life, 3);
    for (size_t i = 1; i <= rounds && life->wrong[0] == '\0'; i++) {
        cut_at(life, below(life, 4) == 0 ? 40 : 500);
        live(life);
        if (life->told.init || i == rounds) {
            check_all(life);
        }
    }
    if (life->wrong[0] == '\0') {
        run_steps(life);
    }
    close_it(life);
    uint64_t trace = dk_disk_trace();
    dk_disk_stop();
    dk_place_free(&life->place);
    return trace;
}

static unsigned number_from(const char *name, unsigned otherwise)
{
    const char *text = getenv(name);
    return text != NULL ? (unsigned)strtoul(text, NULL, 10) : otherwise;
}

/* Two processes share the seeds; each leaves the first that did not hold. */
struct report {
    size_t cuts, values;
    unsigned seed;
    char wrong[WRONG];
};

struct crowd {
    unsigned first, last;
    struct report *reports;
};

static int live_every_second(void *arg, size_t index)
{
    static struct life life;
    const struct crowd *crowd = arg;
    struct report *report = &crowd->reports[index];
    for (unsigned seed = crowd->first + (unsigned)index; seed <= crowd->last; seed += 2) {
        uint64_t trace = run_life(&life, seed, DK_DISK_HONEST);
        report->cuts += (size_t)life.cuts;
        report->values += life.told.count;
        if (life.wrong[0] != '\0') {
            report->seed = seed;
            memcpy(report->wrong, life.wrong, sizeof life.wrong);
            break;
        }
        if (crowd->first == crowd->last) {
            print_message("seed %u: trace %016llx\n", seed, (unsigned long long)trace);
        }
    }
    return 0;
}

static void F13_I06_nothing_acknowledged_is_lost_by_a_power_cut(void **state)
{
    (void)state;
    unsigned alone = number_from("DEKHAND_SEED", 0);
    struct report *reports = dk_test_shared(2 * sizeof *reports);
    struct crowd crowd = {.first = alone != 0 ? alone : 1,
                          .last = alone != 0 ? alone : number_from("DEKHAND_SEEDS", SEEDS),
                          .reports = reports};
    assert_true(dk_test_processes(2, live_every_second, &crowd));
    for (size_t i = 0; i < 2; i++) {
        if (reports[i].wrong[0] != '\0') {
            fail_msg("DEKHAND_SEED=%u: %s", reports[i].seed, reports[i].wrong);
        }
    }
    assert_true(reports[0].values > 0);
    print_message("%zu cuts, %zu values acknowledged\n", reports[0].cuts + reports[1].cuts,
                  reports[0].values + reports[1].values);
}

static void F13_a_seed_replays_exactly(void **state)
{
    (void)state;
    static struct life first, again;
    uint64_t before = 0;
    for (unsigned seed = 1; seed <= REPLAYS; seed++) {
        uint64_t trace = run_life(&first, seed, DK_DISK_HONEST);
        assert_true(run_life(&again, seed, DK_DISK_HONEST) == trace);
        assert_int_equal(first.told.count, again.told.count);
        assert_int_equal(first.cuts, again.cuts);
        assert_true(trace != before);
        before = trace;
    }
}

/* How many of the seeds show what the disk did. */
static unsigned noticed(enum dk_disk_lie lie)
{
    static struct life life;
    unsigned count = 0;
    for (unsigned seed = 1; seed <= LIVES; seed++) {
        (void)run_life(&life, seed, lie);
        count += life.wrong[0] != '\0';
    }
    return count;
}

static void F13_a_disk_that_forgets_what_was_synced_is_noticed(void **state)
{
    (void)state;
    assert_int_equal(noticed(DK_DISK_HONEST), 0);
    assert_in_range(noticed(DK_DISK_FORGETS_SYNCS), LIVES / 4, LIVES);
    assert_in_range(noticed(DK_DISK_FORGETS_FILE_SYNCS), LIVES / 4, LIVES);
    assert_in_range(noticed(DK_DISK_FORGETS_FOLDER_SYNCS), LIVES / 4, LIVES);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(F13_I06_nothing_acknowledged_is_lost_by_a_power_cut),
        cmocka_unit_test(F13_a_seed_replays_exactly),
        cmocka_unit_test(F13_a_disk_that_forgets_what_was_synced_is_noticed),
    };
    dk_test_folders_in_memory();
    dk_fault_vfs_install();
    return cmocka_run_group_tests_name("power cut", tests, NULL, NULL);
}
