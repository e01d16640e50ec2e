#include "support/world.h"

#include <openssl/rand.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static void must(bool ok, const char *what)
{
    if (!ok) {
        fprintf(stderr, "%s\n", what);
        abort();
    }
}

/* ---- the place ------------------------------------------------------------------------------- */

static int real_random(void *arg, uint8_t *p, size_t n)
{
    const struct dk_test_world *w = arg;
    return !w->random_fails && RAND_bytes(p, (int)n) == 1;
}

enum dk_test_store dk_test_store(void)
{
    const char *store = getenv("DEKHAND_TEST_STORE");
    bool pooled = store != NULL && strcmp(store, "pooled") == 0;
    must(store == NULL || pooled || strcmp(store, "postgres") == 0,
         "DEKHAND_TEST_STORE: postgres, pooled, or not set");
    return pooled ? DK_POOLED : store != NULL ? DK_POSTGRES : DK_SQLITE;
}

void dk_place_bare(struct dk_place *place, bool fake)
{
    dk_place_bare_on(place, dk_test_store(), fake);
}

void dk_place_bare_on(struct dk_place *place, enum dk_test_store store, bool fake)
{
    memset(place, 0, sizeof *place);
    dk_test_world_init(&place->w);
    place->w.world.random = (struct dk_random){real_random, real_random, &place->w};
    place->limits = dk_limits_default;
    place->limits.max_keys = 64;
    place->fake = fake ? dk_fake_new() : NULL;
    dk_test_folder_new(place->folder);
    snprintf(place->database, sizeof place->database, "%s/dekhand.db", place->folder);
    snprintf(place->opens, sizeof place->opens, "sqlite:%s", place->database);
    if (store != DK_SQLITE) {
        dk_pg_database_new(place->url);
        memcpy(place->opens, place->url, sizeof place->opens);
    }
    if (store == DK_POOLED) {
        dk_pg_pooled(place->url, place->opens);
    }
}

void dk_place_new(struct dk_place *place, bool fake)
{
    struct dekhand_error error;
    dk_place_bare(place, fake);
    must(dk_place_init(place, &error) == DEKHAND_OK, error.text);
}

void dk_place_free(struct dk_place *place)
{
    dk_place_forget(place);
    if (place->fake != NULL) {
        dk_fake_free(place->fake);
    }
    dk_test_folder_remove(place->folder);
}

static void take_line(void *arg, enum dekhand_log_level level, const char *line, size_t n)
{
    struct dk_place *place = arg;
    (void)level;
    if (place->keep_log && n < sizeof place->log) {
        place->log_n = place->log_n + n < sizeof place->log ? place->log_n : 0;
        memcpy(place->log + place->log_n, line, n);
        place->log_n += n;
        place->log[place->log_n] = '\0';
    }
}

enum { FURTHER = 24 };

struct call {
    struct dekhand_setting settings[2 + FURTHER];
    struct dekhand_config config;
    struct dk_parts parts;
};

static void fill_call(struct dk_place *place, struct call *call)
{
    size_t n = 0;
    call->settings[n++] = (struct dekhand_setting){"KMS_STATE_DIR", place->folder};
    if (dk_place_is_postgres(place)) {
        call->settings[n++] = (struct dekhand_setting){"DATABASE_URL", place->opens};
    }
    must(place->provided_count <= FURTHER, "too many settings");
    for (size_t i = 0; i < place->provided_count; i++) {
        call->settings[n++] = place->provided[i];
    }
    call->config = (struct dekhand_config){.size = sizeof call->config,
                                           .settings = call->settings,
                                           .setting_count = n,
                                           .ignore_environment = true,
                                           .actor = "test",
                                           .log = take_line,
                                           .log_arg = place};
    call->parts = (struct dk_parts){.world = &place->w.world, .limits = &place->limits};
    if (place->fake != NULL) {
        *(place->fake_is_second ? &call->parts.second : &call->parts.provider) = &dk_fake_provider;
        call->parts.provider_arg = place->fake;
    }
}

int dk_place_init(struct dk_place *place, struct dekhand_error *error)
{
    struct call call;
    fill_call(place, &call);
    return dk_door_init(&call.config, &call.parts, &place->made, error);
}

int dk_place_doctor(struct dk_place *place,
                    void (*each)(void *arg, const struct dekhand_check *check), void *arg,
                    struct dekhand_doctor_result *out)
{
    struct call call;
    fill_call(place, &call);
    return dk_door_doctor(&call.config, &call.parts, each, arg, out, NULL);
}

int dk_place_try_open(struct dk_place *place, struct dekhand **out, struct dekhand_error *error)
{
    struct call call;
    fill_call(place, &call);
    return dk_door_open(&call.config, &call.parts, out, error);
}

struct dekhand *dk_place_open(struct dk_place *place)
{
    struct dekhand *d = NULL;
    struct dekhand_error error;
    must(dk_place_try_open(place, &d, &error) == DEKHAND_OK, error.text);
    return d;
}

void dk_place_close(struct dekhand *d)
{
    struct dekhand_error error;
    must(dekhand_close(d, &error) == DEKHAND_OK, error.text);
}

/* ---- values ---------------------------------------------------------------------------------- */

/* Nowhere but in memory may it be: the harness looks for it in all that a test leaves or prints. */
#define CANARY "dekhand-canary-b2f1c7e6: "

size_t dk_test_plain(const char *plain, char out[static DK_TEST_VALUE])
{
    int n = snprintf(out, DK_TEST_VALUE, CANARY "%s", plain);
    must(n < DK_TEST_VALUE, "a plaintext is too long");
    return (size_t)n;
}

int dk_test_encrypt(struct dekhand *d, const char *tenant, const char *plain,
                    struct dk_test_value *out)
{
    char marked[DK_TEST_VALUE];
    struct dekhand_item item = {.tenant = tenant,
                                .in = marked,
                                .in_size = dk_test_plain(plain, marked),
                                .out = out->p,
                                .capacity = sizeof out->p};
    int code = dekhand_encrypt(d, &item, NULL);
    out->n = code == DEKHAND_OK ? item.size : 0;
    return code;
}

int dk_test_decrypt(struct dekhand *d, const char *tenant, const struct dk_test_value *value,
                    const char *plain)
{
    uint8_t out[DK_TEST_VALUE];
    struct dekhand_item item = {
        .tenant = tenant, .in = value->p, .in_size = value->n, .out = out, .capacity = sizeof out};
    int code = dekhand_decrypt(d, &item, NULL);
    if (code != DEKHAND_OK) {
        return code;
    }
    const size_t mark = strlen(CANARY);
    bool same = item.size == mark + strlen(plain) && memcmp(out, CANARY, mark) == 0 &&
                memcmp(out + mark, plain, item.size - mark) == 0;
    return same ? DEKHAND_OK : DEKHAND_E_INTERNAL;
}

static bool keep_version(void *arg, const struct dekhand_rotation *rotation)
{
    *(uint32_t *)arg = rotation->to_version;
    return true;
}

int dk_test_rotate(struct dekhand *d, const char *tenant, uint32_t if_version, uint32_t *to)
{
    uint32_t made = 0;
    struct dekhand_rotate_args args = {.size = sizeof args,
                                       .which = DEKHAND_ROTATE_TENANT,
                                       .tenant = tenant,
                                       .if_version = if_version};
    int code = dekhand_rotate(d, &args, keep_version, &made, NULL);
    if (to != NULL) {
        *to = made;
    }
    return code;
}

uint32_t dk_test_version(const struct dk_test_value *value)
{
    uint32_t version = 0;
    must(dekhand_value_version(value->p, value->n, &version, NULL) == DEKHAND_OK, "no value");
    return version;
}

struct read_call {
    struct dk_place *place;
    const char *tenant;
    const struct dk_test_value *value;
    const char *plain;
};

static int read_in_child(void *arg)
{
    const struct read_call *call = arg;
    struct dekhand *d = NULL;
    struct dekhand_error error;
    if (dk_place_try_open(call->place, &d, &error) != DEKHAND_OK) {
        fprintf(stderr, "opening: %s\n", error.text);
        return 1;
    }
    int code = dk_test_decrypt(d, call->tenant, call->value, call->plain);
    if (code != DEKHAND_OK) {
        fprintf(stderr, "reading a value of %s: %s\n", call->tenant, dekhand_error_name(code));
    }
    dk_place_close(d);
    return code;
}

bool dk_place_reads(struct dk_place *place, const char *tenant, const struct dk_test_value *value,
                    const char *plain)
{
    struct read_call call = {place, tenant, value, plain};
    return dk_test_in_child(false, read_in_child, &call);
}

/* ---- threads and processes ------------------------------------------------------------------- */

struct crowd {
    void (*body)(void *arg, size_t index);
    void *arg;
    pthread_barrier_t start;
};

struct member {
    struct crowd *crowd;
    size_t index;
    pthread_t thread;
};

static void *run_member(void *arg)
{
    struct member *member = arg;
    pthread_barrier_wait(&member->crowd->start);
    member->crowd->body(member->crowd->arg, member->index);
    return NULL;
}

void dk_test_threads(size_t count, void (*body)(void *arg, size_t index), void *arg)
{
    struct crowd crowd = {.body = body, .arg = arg};
    struct member *members = calloc(count, sizeof *members);
    must(members != NULL && pthread_barrier_init(&crowd.start, NULL, (unsigned)count) == 0,
         "no crowd");
    for (size_t i = 0; i < count; i++) {
        members[i].crowd = &crowd;
        members[i].index = i;
        must(pthread_create(&members[i].thread, NULL, run_member, &members[i]) == 0, "no thread");
    }
    for (size_t i = 0; i < count; i++) {
        pthread_join(members[i].thread, NULL);
    }
    pthread_barrier_destroy(&crowd.start);
    free(members);
}

struct start {
    int pipe[2];
    int (*body)(void *arg, size_t index);
    void *arg;
    size_t index;
};

static int run_process(void *arg)
{
    const struct start *start = arg;
    char byte;
    close(start->pipe[1]);
    must(read(start->pipe[0], &byte, 1) == 0, "no start"); /* the parent closes its end */
    return start->body(start->arg, start->index);
}

bool dk_test_processes(size_t count, int (*body)(void *arg, size_t index), void *arg)
{
    struct start start = {.body = body, .arg = arg};
    pid_t pids[64];
    bool good = true;
    must(count <= 64 && pipe(start.pipe) == 0, "no pipe");
    for (start.index = 0; start.index < count; start.index++) {
        pids[start.index] = dk_test_child_start(false, run_process, &start);
    }
    close(start.pipe[0]);
    close(start.pipe[1]);
    for (size_t i = 0; i < count; i++) {
        good = dk_test_child_end(pids[i]) && good;
    }
    return good;
}

void *dk_test_shared(size_t n)
{
    void *p = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    must(p != MAP_FAILED, "no shared memory");
    return p;
}
