#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include <dirent.h>
#include <execinfo.h>
#include <link.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "support/sweep.h"

static void *grown(void *p, size_t n)
{
    void *bigger = realloc(p, n);
    if (bigger == NULL) {
        abort();
    }
    return bigger;
}

/* ---- where a call comes from -------------------------------------------------------------------
 */

#define FRAMES_MAX 96
#define SQLITE_FRAMES 3 /* those next to the call */
#define NEAR_FRAMES 3

struct place {
    uint64_t ours, near; /* our frames: all, and those next to SQLite */
    uint64_t sqlite;
};

static struct {
    uintptr_t from, to;
} sqlite_code;

static int find_sqlite(struct dl_phdr_info *info, size_t size, void *arg)
{
    (void)size;
    (void)arg;
    for (int i = 0; strstr(info->dlpi_name, "libsqlite3") != NULL && i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *part = &info->dlpi_phdr[i];
        if (part->p_type == PT_LOAD && (part->p_flags & PF_X) != 0) {
            sqlite_code.from = info->dlpi_addr + part->p_vaddr;
            sqlite_code.to = sqlite_code.from + part->p_memsz;
        }
    }
    return 0;
}

static bool in_sqlite(const void *frame)
{
    return (uintptr_t)frame >= sqlite_code.from && (uintptr_t)frame < sqlite_code.to;
}

static uint64_t mixed(uint64_t hash, uint64_t n)
{
    hash = (hash ^ n) * UINT64_C(0x9E3779B97F4A7C15);
    return hash ^ hash >> 29;
}

static int depth_of_run; /* frames below the scenario's call */

/* The stack of this call, down to the scenario's; the hook above SQLite does not count. */
static struct place place_here(void)
{
    void *frames[FRAMES_MAX];
    struct place place = {0, 0, 0};
    int n = backtrace(frames, FRAMES_MAX) - depth_of_run, at = 0;
    while (at < n && !in_sqlite(frames[at])) {
        at++;
    }
    at = at == n ? 0 : at;
    for (int i = 0; at < n && in_sqlite(frames[at]); i++, at++) {
        if (i < SQLITE_FRAMES) {
            place.sqlite = mixed(place.sqlite, (uintptr_t)frames[at]);
        }
    }
    for (int i = 0; at < n; i++, at++) {
        place.ours = mixed(place.ours, (uintptr_t)frames[at]);
        place.near = i < NEAR_FRAMES ? place.ours : place.near;
    }
    return place;
}

/* ---- the calls of a run ------------------------------------------------------------------------
 */

static struct {
    bool on, recording, and_all_after;
    unsigned at, count; /* which is to fail, how many there were */
    struct place hit;   /* where the one that failed came from */
    struct place *seen; /* in the recording */
    size_t seen_n, seen_cap;
} calls;

static void remember(const struct place *place)
{
    if (calls.seen_n == calls.seen_cap) {
        calls.seen_cap = calls.seen_cap * 2 + 1024;
        calls.seen = grown(calls.seen, calls.seen_cap * sizeof *calls.seen);
    }
    calls.seen[calls.seen_n++] = *place;
}

bool dk_sweep_point(void)
{
    if (!calls.on) {
        return false;
    }
    calls.count++;
    if (calls.recording || calls.count == calls.at) {
        calls.hit = place_here();
    }
    if (calls.recording) {
        remember(&calls.hit);
        return false;
    }
    return calls.count == calls.at ||
           (calls.and_all_after && calls.at != 0 && calls.count > calls.at);
}

/* ---- which of them fail ------------------------------------------------------------------------
 */

struct set {
    uint64_t *cells; /* 0 = free */
    size_t size, n;
};

static void set_grow(struct set *set);

/* True when it was not in the set yet. */
static bool add(struct set *set, uint64_t hash)
{
    hash += hash == 0;
    if (set->n * 2 >= set->size) {
        set_grow(set);
    }
    size_t at = (size_t)hash & (set->size - 1);
    while (set->cells[at] != 0 && set->cells[at] != hash) {
        at = (at + 1) & (set->size - 1);
    }
    bool is_new = set->cells[at] == 0;
    set->cells[at] = hash;
    set->n += is_new;
    return is_new;
}

static void set_grow(struct set *set)
{
    struct set bigger = {.size = set->size * 2 + (set->size == 0 ? 1024 : 0)};
    bigger.cells = calloc(bigger.size, sizeof *bigger.cells);
    for (size_t i = 0; i < set->size; i++) {
        if (set->cells[i] != 0) {
            (void)add(&bigger, set->cells[i]);
        }
    }
    free(set->cells);
    *set = bigger;
}

static void set_free(struct set *set)
{
    free(set->cells);
    *set = (struct set){NULL, 0, 0};
}

static void choose_last(bool *chosen)
{
    struct set near = {NULL, 0, 0};
    for (size_t i = calls.seen_n; i-- > 0;) {
        chosen[i] = add(&near, calls.seen[i].near);
    }
    set_free(&near);
}

static struct set sqlites; /* of all scenarios: SQLite is the same in each */

static void choose_first(bool *chosen, enum dk_sweep_points which)
{
    struct set ours = {NULL, 0, 0}, both = {NULL, 0, 0};
    for (size_t i = 0; i < calls.seen_n; i++) {
        const struct place *place = &calls.seen[i];
        bool new_ours = add(&ours, place->ours);
        bool new_both = add(&both, mixed(place->ours, place->sqlite));
        chosen[i] = which == DK_SWEEP_EACH || new_ours || (which == DK_SWEEP_UNLIKE && new_both) ||
                    (which == DK_SWEEP_OURS && add(&sqlites, place->sqlite));
    }
    set_free(&ours);
    set_free(&both);
}

/* A sanitised or measured build takes the first few, then one in four. */
static void thin_out(bool *chosen)
{
#if defined(DK_SANITIZED) || defined(DK_COVER)
    for (size_t i = 0, n = 0; i < calls.seen_n; i++) {
        n += chosen[i];
        chosen[i] = chosen[i] && (n <= 16 || n % 4 == 0);
    }
#else
    (void)chosen;
#endif
}

/* One flag for each call of the recording; the caller's, free(). */
static bool *choose(enum dk_sweep_points which)
{
    bool *chosen = calloc(calls.seen_n + 1, 1);
    assert_non_null(chosen);
    if (getenv("DEKHAND_SWEEP") != NULL) {
        choose_first(chosen, DK_SWEEP_EACH);
        return chosen;
    }
    if (which == DK_SWEEP_LAST) {
        choose_last(chosen);
    } else {
        choose_first(chosen, which);
    }
    thin_out(chosen);
    return chosen;
}

/* ---- the folder --------------------------------------------------------------------------------
 */

#define FILES_MAX 8
#define PATH_BYTES 1024

static struct {
    char name[64];
    uint8_t *p;
    size_t n;
} files[FILES_MAX];
static size_t file_count;

static void path_of(const struct dk_sweep *s, const char *name, char out[static PATH_BYTES])
{
    snprintf(out, PATH_BYTES, "%s/%s", s->place.folder, name);
}

static size_t read_file(const char *path, uint8_t **out)
{
    struct stat st;
    FILE *file = fopen(path, "rbe");
    assert_non_null(file);
    assert_int_equal(fstat(fileno(file), &st), 0);
    *out = grown(NULL, (size_t)st.st_size + 1);
    assert_int_equal(fread(*out, 1, (size_t)st.st_size, file), st.st_size);
    fclose(file);
    return (size_t)st.st_size;
}

static void each_name(const struct dk_sweep *s, void (*each)(const struct dk_sweep *, const char *))
{
    DIR *folder = opendir(s->place.folder);
    struct dirent *entry = NULL;
    assert_non_null(folder);
    while ((entry = readdir(folder)) != NULL) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
            each(s, entry->d_name);
        }
    }
    closedir(folder);
}

static void keep_file(const struct dk_sweep *s, const char *name)
{
    char path[PATH_BYTES];
    path_of(s, name, path);
    assert_true(file_count < FILES_MAX && strlen(name) < sizeof files[0].name);
    memcpy(files[file_count].name, name, strlen(name) + 1);
    files[file_count].n = read_file(path, &files[file_count].p);
    file_count++;
}

static void forget_files(void)
{
    while (file_count > 0) {
        free(files[--file_count].p);
    }
}

static void remove_if_new(const struct dk_sweep *s, const char *name)
{
    char path[PATH_BYTES];
    for (size_t i = 0; i < file_count; i++) {
        if (strcmp(files[i].name, name) == 0) {
            return;
        }
    }
    path_of(s, name, path);
    assert_int_equal(remove(path), 0);
}

static void put_back(const struct dk_sweep *s)
{
    char path[PATH_BYTES];
    each_name(s, remove_if_new);
    for (size_t i = 0; i < file_count; i++) {
        path_of(s, files[i].name, path);
        dk_test_file_write(path, files[i].p, files[i].n, 0600);
    }
}

/* True when the files are, byte for byte, those that were put back. */
static bool is_unchanged(const struct dk_sweep *s)
{
    bool same = file_count > 0;
    for (size_t i = 0; i < file_count && same; i++) {
        char path[PATH_BYTES];
        uint8_t *now = NULL;
        path_of(s, files[i].name, path);
        size_t n = read_file(path, &now);
        same = n == files[i].n && memcmp(now, files[i].p, n) == 0;
        free(now);
    }
    return same;
}

/* ---- a round -----------------------------------------------------------------------------------
 */

#define FAILURES_MAX 8 /* in a round */

static int64_t born_us, born_ms;

void dk_sweep_prepare(struct dk_sweep *s, const struct dk_sweep_scenario *scenario)
{
    *s = (struct dk_sweep){.d = NULL};
    forget_files(); /* of a test that failed */
    calls.on = false;
    s->well = true;
    dk_place_bare(&s->place, false);
    assert_int_equal(chown(s->place.folder, geteuid(), getegid()), 0);
    born_us = s->place.w.wall_us;
    born_ms = s->place.w.mono_ms;
    if (!scenario->bare) {
        struct dekhand_error error;
        assert_int_equal(dk_place_init(&s->place, &error), DEKHAND_OK);
        s->d = dk_place_open(&s->place);
        assert_int_equal(dk_test_encrypt(s->d, "kept", "kept for ever", &s->kept), DEKHAND_OK);
        dk_place_close(s->d);
    }
    if (scenario->prepare != NULL) {
        scenario->prepare(s);
    }
    s->d = NULL;
    each_name(s, keep_file);
}

void dk_sweep_begin(struct dk_sweep *s, const struct dk_sweep_scenario *scenario)
{
    put_back(s);
    s->place.w.wall_us = born_us + scenario->days * INT64_C(86400) * 1000000;
    s->place.w.mono_ms = born_ms;
    s->d = scenario->opens ? NULL : dk_place_open(&s->place);
}

void dk_sweep_end(struct dk_sweep *s)
{
    if (s->d != NULL) {
        dk_place_close(s->d);
        s->d = NULL;
    }
}

void dk_sweep_free(struct dk_sweep *s)
{
    forget_files();
    dk_place_free(&s->place);
}

/* The call; the one of its calls that has this number fails, 0 = none. */
static int run_armed(struct dk_sweep *s, const struct dk_sweep_scenario *scenario,
                     const struct dk_sweep_way *way, unsigned at)
{
    void *frames[FRAMES_MAX];
    depth_of_run = backtrace(frames, FRAMES_MAX) - 1;
    s->well = at == 0;
    calls.at = at;
    calls.count = 0;
    way->arm(s, way);
    calls.on = true;
    int rc = scenario->run(s);
    calls.on = false;
    way->disarm(s);
    return rc;
}

/* Whole rows only: chains, digests, counts of keys and versions agree. */
#define TORN                                                                                       \
    "SELECT (SELECT count(*) FROM tenants t WHERE next_version - 1 <> (SELECT max(version) FROM "  \
    "encryption_keys k WHERE k.tenant_id = t.tenant_id)) + (SELECT count(*) FROM (SELECT 1 FROM "  \
    "encryption_keys GROUP BY tenant_id HAVING sum(state = 'active') <> 1))"

static void tell(void *arg, const struct dekhand_finding *finding)
{
    (void)arg;
    print_message("%s %s %s: %s\n", finding->table, finding->tenant, finding->row, finding->text);
}

static void check_whole(struct dk_sweep *s)
{
    struct dekhand_audit_result result = {.size = sizeof result};
    assert_int_equal(dekhand_audit_verify(s->d, tell, NULL, &result, NULL), DEKHAND_OK);
    assert_int_equal(result.findings, 0);
    assert_int_equal(dk_place_number(&s->place, TORN), 0);
}

static void check_after(struct dk_sweep *s, const struct dk_sweep_scenario *scenario)
{
    s->d = s->d != NULL ? s->d : dk_place_open(&s->place);
    if (!is_unchanged(s)) {
        check_whole(s);
    }
    if (s->kept.n > 0) {
        assert_int_equal(dk_test_decrypt(s->d, "kept", &s->kept, "kept for ever"), DEKHAND_OK);
    }
    if (scenario->after != NULL) {
        scenario->after(s);
    }
}

static bool is_named(int rc, const char *const *names)
{
    bool named = rc == DEKHAND_OK;
    for (; *names != NULL && !named; names++) {
        named = strcmp(dekhand_error_name(rc), *names) == 0;
    }
    return named;
}

static size_t open_files(void)
{
    size_t count = 0;
    DIR *folder = opendir("/proc/self/fd");
    assert_non_null(folder);
    while (readdir(folder) != NULL) {
        count++;
    }
    closedir(folder);
    return count;
}

/* What is there before a round, and has to be there after it. */
struct held {
    int live;
    size_t descriptors;
    int64_t sqlite;
};

static struct held held_now(const struct dk_sweep *s)
{
    return (struct held){atomic_load(&s->place.w.live), open_files(), sqlite3_memory_used()};
}

struct round {
    struct dk_sweep *s;
    const struct dk_sweep_scenario *scenario;
    const struct dk_sweep_way *way;
    bool begun;
    unsigned failures; /* so far */
    struct held before;
};

static void begin_round(struct round *round)
{
    round->before = held_now(round->s);
    dk_sweep_begin(round->s, round->scenario);
    round->begun = true;
    round->failures = 0;
}

/*
 * The second try, with nothing that fails. When it begins with the bytes of the recording and makes
 * as many calls, what comes of it is known (but for allocations of ours: there are a handful); else
 * all is looked at.
 */
static void end_round(struct round *round)
{
    struct dk_sweep *s = round->s;
    bool same = is_unchanged(s) && round->way->once != DK_SWEEP_EACH;
    assert_int_equal(run_armed(s, round->scenario, round->way, 0), DEKHAND_OK);
    if (!same || calls.count != calls.seen_n) {
        check_after(s, round->scenario);
    }
    dk_sweep_end(s);
    struct held after = held_now(s);
    assert_int_equal(after.live, round->before.live);
    assert_int_equal(after.descriptors, round->before.descriptors);
    assert_true(after.sqlite == round->before.sqlite);
    round->begun = false;
}

/* False: the call of this number was not the one of the recording. */
static bool fail_at(struct round *round, size_t i)
{
    if (!round->begun) {
        begin_round(round);
    }
    int rc = run_armed(round->s, round->scenario, round->way, (unsigned)i + 1);
    if (!is_named(rc, round->way->names)) {
        fail_msg("call %zu: %s", i + 1, dekhand_error_name(rc));
    }
    round->failures++;
    return calls.count > i && calls.hit.ours == calls.seen[i].ours &&
           calls.hit.sqlite == calls.seen[i].sqlite;
}

/*
 * A failure that left the files as they were may be followed by the next one on the same handle:
 * that one passes by the place of the first, as the recording did. At the end of them all is looked
 * at.
 */
static void round_of(struct round *round, size_t i)
{
    if (!fail_at(round, i)) {
        bool was_first = round->failures == 1;
        end_round(round);
        if (was_first || !fail_at(round, i)) {
            fail_msg("call %zu is another than in the recording", i + 1);
        }
    }
    if (round->failures == FAILURES_MAX || getenv("DEKHAND_SWEEP") != NULL ||
        !is_unchanged(round->s)) {
        end_round(round);
    }
}

/* Twice: what is done once in a process is not in the second. */
static void record(struct dk_sweep *s, const struct dk_sweep_scenario *scenario,
                   const struct dk_sweep_way *way)
{
    for (int i = 0; i < 2; i++) {
        calls.recording = i == 1;
        calls.seen_n = 0;
        dk_sweep_begin(s, scenario);
        assert_int_equal(run_armed(s, scenario, way, 0), DEKHAND_OK);
        check_after(s, scenario);
        dk_sweep_end(s);
    }
    calls.recording = false;
}

static void sweep(struct round *round, bool and_all_after)
{
    bool *chosen = choose(and_all_after ? round->way->all : round->way->once);
    calls.and_all_after = and_all_after;
    for (size_t i = 0; i < calls.seen_n; i++) {
        if (chosen[i]) {
            round_of(round, i);
        }
    }
    if (round->begun) {
        end_round(round);
    }
    free(chosen);
}

void dk_sweep_scenario(const struct dk_sweep_scenario *scenario, const struct dk_sweep_way *way)
{
    static struct dk_sweep s;
    dl_iterate_phdr(find_sqlite, NULL);
    dk_sweep_prepare(&s, scenario);
    record(&s, scenario, way);
    struct round round = {.s = &s, .scenario = scenario, .way = way};
    sweep(&round, false);
    sweep(&round, true);
    if (s.kept.n > 0) {
        assert_true(dk_place_reads(&s.place, "kept", &s.kept, "kept for ever"));
    }
    dk_sweep_free(&s);
}

void dk_sweep_tests(struct CMUnitTest *tests, const char *title, void (*run)(void **state))
{
    const char *after = strstr(title, "%s") + 2;
    for (size_t i = 0; i < DK_SWEEP_SCENARIOS; i++) {
        char *name = grown(NULL, 96); /* the program's to its end */
        snprintf(name, 96, "%.*s%s%s", (int)(after - 2 - title), title, dk_sweep_table[i].name,
                 after);
        tests[i] = (struct CMUnitTest){
            .name = name, .test_func = run, .initial_state = (void *)(uintptr_t)&dk_sweep_table[i]};
    }
}
