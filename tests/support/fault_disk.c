#include "support/fault_disk.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "support/expect.h"

#define SECTOR 512
#define NAMES 64
#define NAME_MAX_BYTES 64

/* One write since the last sync; p == NULL: the file was cut to `at` bytes. */
struct op {
    uint8_t *p;
    size_t n, at;
    size_t size; /* of the file after it */
};

struct dk_disk_file {
    uint8_t *durable;
    size_t n;
    size_t size; /* now */
    struct op *ops;
    size_t count, cap;
    struct dk_disk_file *next; /* all of them, for the end */
};

struct name {
    char name[NAME_MAX_BYTES];
    struct dk_disk_file *durable; /* at the last sync of the folder; NULL = none */
    struct dk_disk_file *now;
    bool was_missing; /* at some moment between the two */
};

static struct {
    bool on, cut;
    char folder[NAME_MAX_BYTES];
    enum dk_disk_lie lie;
    uint64_t random, trace;
    struct dk_disk_plan plan;
    unsigned calls;
    bool cut_in_call;
    struct name names[NAMES];
    size_t name_count;
    struct dk_disk_file *files;
} disk;

static void must(bool ok, const char *what)
{
    if (!ok) {
        perror(what);
        abort();
    }
}

static void *grown(void *p, size_t n)
{
    void *bigger = realloc(p, n);
    must(bigger != NULL, "no memory for the disk");
    return bigger;
}

uint64_t dk_disk_random(void)
{
    return dk_test_random(&disk.random);
}

static size_t below(size_t n)
{
    return (size_t)(dk_disk_random() % n);
}

/* ---- names ----------------------------------------------------------------------------------- */

bool dk_disk_is_watching(void)
{
    return disk.on;
}

bool dk_disk_is_folder(const char *path)
{
    return disk.on && strcmp(path, disk.folder) == 0;
}

const char *dk_disk_name(const char *path)
{
    size_t n = strlen(disk.folder);
    bool inside = disk.on && path != NULL && strncmp(path, disk.folder, n) == 0 && path[n] == '/';
    return inside && strchr(path + n + 1, '/') == NULL ? path + n + 1 : NULL;
}

static struct name *find(const char *name)
{
    for (size_t i = 0; i < disk.name_count; i++) {
        if (strcmp(disk.names[i].name, name) == 0) {
            return &disk.names[i];
        }
    }
    return NULL;
}

static struct name *find_or_add(const char *name)
{
    struct name *found = find(name);
    for (size_t i = 0; i < disk.name_count && found == NULL; i++) {
        const struct name *old = &disk.names[i];
        if (old->now == NULL && old->durable == NULL) {
            found = &disk.names[i];
            found->name[0] = '\0';
        }
    }
    if (found == NULL) {
        must(disk.name_count < NAMES, "no place for a name on the disk");
        found = &disk.names[disk.name_count++];
        found->name[0] = '\0';
    }
    if (found->name[0] == '\0') {
        must(strlen(name) < NAME_MAX_BYTES, "the name is too long");
        *found = (struct name){.was_missing = true};
        memcpy(found->name, name, strlen(name) + 1);
    }
    return found;
}

static struct dk_disk_file *new_file(void)
{
    struct dk_disk_file *file = grown(NULL, sizeof *file);
    *file = (struct dk_disk_file){.next = disk.files};
    disk.files = file;
    return file;
}

bool dk_disk_has(const char *name)
{
    struct name *found = find(name);
    return found != NULL && found->now != NULL;
}

struct dk_disk_file *dk_disk_open(const char *name)
{
    struct name *found = find_or_add(name);
    if (found->now == NULL) {
        found->now = new_file();
    }
    return found->now;
}

void dk_disk_delete(const char *name)
{
    struct name *found = find(name);
    if (found != NULL) {
        found->now = NULL;
        found->was_missing = true;
    }
}

void dk_disk_rename(const char *from, const char *to, bool keep_from)
{
    struct dk_disk_file *file = dk_disk_open(from);
    struct name *target = find_or_add(to);
    target->now = file;
    if (!keep_from) {
        dk_disk_delete(from);
    }
}

void dk_disk_sync_folder(void)
{
    for (size_t i = 0; disk.lie != DK_DISK_FORGETS_FOLDER_SYNCS && i < disk.name_count; i++) {
        struct name *name = &disk.names[i];
        name->durable = name->now;
        name->was_missing = name->now == NULL;
    }
}

/* ---- bytes ----------------------------------------------------------------------------------- */

static void forget_ops(struct dk_disk_file *file)
{
    for (size_t i = 0; i < file->count; i++) {
        free(file->ops[i].p);
    }
    file->count = 0;
}

static void add_op(struct dk_disk_file *file, struct op op)
{
    if (file->count == file->cap) {
        file->cap = file->cap * 2 + 16;
        file->ops = grown(file->ops, file->cap * sizeof *file->ops);
    }
    file->size = op.size;
    file->ops[file->count++] = op;
}

void dk_disk_write(struct dk_disk_file *file, const void *p, size_t n, size_t at)
{
    uint8_t *copy = grown(NULL, n + 1);
    memcpy(copy, p, n);
    add_op(file, (struct op){copy, n, at, at + n > file->size ? at + n : file->size});
}

void dk_disk_truncate(struct dk_disk_file *file, size_t n)
{
    add_op(file, (struct op){NULL, 0, n, n});
}

static void resize(uint8_t **bytes, size_t *have, size_t n)
{
    *bytes = grown(*bytes, n + 1);
    if (n > *have) {
        memset(*bytes + *have, 0, n - *have);
    }
    *have = n;
}

void dk_disk_import(struct dk_disk_file *file, const void *p, size_t n)
{
    forget_ops(file);
    resize(&file->durable, &file->n, n);
    memcpy(file->durable, p, n);
    file->size = n;
}

/* Applies a write whole. */
static void apply(uint8_t **bytes, size_t *n, const struct op *op)
{
    if (op->size > *n || op->p == NULL) {
        resize(bytes, n, op->size);
    }
    if (op->p != NULL) {
        memcpy(*bytes + op->at, op->p, op->n);
    }
}

static void make_durable(struct dk_disk_file *file)
{
    for (size_t i = 0; i < file->count; i++) {
        apply(&file->durable, &file->n, &file->ops[i]);
    }
    forget_ops(file);
}

void dk_disk_sync(struct dk_disk_file *file)
{
    if (disk.lie != DK_DISK_FORGETS_SYNCS) {
        make_durable(file);
    }
}

void dk_disk_sync_whole(struct dk_disk_file *file, const void *p, size_t n)
{
    if (disk.lie == DK_DISK_FORGETS_FILE_SYNCS) {
        dk_disk_write(file, p, n, 0);
    } else {
        dk_disk_import(file, p, n);
    }
}

/* ---- the plan -------------------------------------------------------------------------------- */

void dk_disk_trace_add(const void *p, size_t n)
{
    const uint8_t *at = p;
    for (size_t i = 0; i < n; i++) {
        disk.trace = (disk.trace ^ at[i]) * UINT64_C(1099511628211);
    }
}

uint64_t dk_disk_trace(void)
{
    return disk.trace;
}

/* mkostemp's six characters are another each time. */
static size_t name_without_chance(const char *name)
{
    size_t n = strlen(name);
    return n > 7 && name[n - 7] == '.' ? n - 6 : n;
}

static bool is_hit(enum dk_io kind)
{
    const struct dk_disk_plan *plan = &disk.plan;
    if ((plan->kinds & (unsigned)kind) == 0) {
        return false;
    }
    disk.calls++;
    if (plan->clock_ms != NULL) {
        *plan->clock_ms += plan->delay_ms;
    }
    if (plan->fails != NULL) {
        return plan->fails();
    }
    return plan->at != 0 &&
           (disk.calls == plan->at || (plan->and_all_after && disk.calls > plan->at));
}

int dk_disk_call(enum dk_io kind, const char *name, int64_t at, size_t n)
{
    int64_t numbers[] = {kind, at, (int64_t)n};
    if (!disk.on) {
        return 0;
    }
    if (disk.cut) {
        return EIO;
    }
    dk_disk_trace_add(numbers, sizeof numbers);
    dk_disk_trace_add(name, name_without_chance(name));
    if (!is_hit(kind)) {
        return 0;
    }
    if (disk.plan.error == 0) {
        dk_disk_cut();
        return EIO;
    }
    return disk.plan.error;
}

bool dk_disk_writes_part(void)
{
    return disk.plan.part && !disk.cut;
}

void dk_disk_plan(const struct dk_disk_plan *plan)
{
    disk.plan = plan != NULL ? *plan : (struct dk_disk_plan){.kinds = 0};
    disk.calls = 0;
}

unsigned dk_disk_calls(void)
{
    return disk.calls;
}

void dk_disk_cut(void)
{
    disk.cut = true;
}

bool dk_disk_is_cut(void)
{
    return disk.cut;
}

/* ---- what a machine finds -------------------------------------------------------------------- */

static bool touches(const struct op *op, size_t sector)
{
    size_t first = sector * SECTOR;
    return op->at < first + SECTOR && (op->p == NULL || op->at + op->n > first);
}

/* What a write, or a truncation (zeros), does to one sector that it touches. */
static void apply_to_sector(uint8_t *bytes, const struct op *op, size_t sector)
{
    size_t first = sector * SECTOR, end = first + SECTOR;
    size_t from = op->at > first ? op->at : first;
    size_t to = op->p == NULL || op->at + op->n > end ? end : op->at + op->n;
    if (op->p == NULL) {
        memset(bytes + from, 0, to - from);
    } else {
        memcpy(bytes + from, op->p + (from - op->at), to - from);
    }
}

static void keep_sector(const struct dk_disk_file *file, uint8_t *bytes, size_t sector)
{
    size_t touching = 0;
    for (size_t i = 0; i < file->count; i++) {
        touching += touches(&file->ops[i], sector);
    }
    size_t kept = below(touching + 1);
    for (size_t i = 0; kept > 0; i++) {
        if (touches(&file->ops[i], sector)) {
            apply_to_sector(bytes, &file->ops[i], sector);
            kept--;
        }
    }
}

/* Of each sector the first few of the writes that touch it. */
static void keep_by_sector(const struct dk_disk_file *file, uint8_t **bytes, size_t *n)
{
    size_t most = file->n;
    for (size_t i = 0; i < file->count; i++) {
        most = file->ops[i].size > most ? file->ops[i].size : most;
    }
    size_t sectors = most / SECTOR + 1;
    resize(bytes, n, sectors * SECTOR);
    for (size_t sector = 0; sector < sectors; sector++) {
        keep_sector(file, *bytes, sector);
    }
    size_t of = below(file->count + 1);
    resize(bytes, n, of == 0 ? file->n : file->ops[of - 1].size);
}

static void keep_some(struct dk_disk_file *file, uint8_t **bytes, size_t *n)
{
    size_t how = below(4);
    resize(bytes, n, file->n);
    if (file->n > 0) {
        memcpy(*bytes, file->durable, file->n);
    }
    if (how == 0 && file->count > 0) {
        keep_by_sector(file, bytes, n);
        return;
    }
    size_t kept = how == 1 ? 0 : how == 2 ? file->count : below(file->count + 1);
    for (size_t i = 0; i < kept; i++) {
        apply(bytes, n, &file->ops[i]);
    }
}

static struct dk_disk_file *choose(const struct name *name)
{
    size_t how = below(name->was_missing ? 3 : 2);
    return how == 0 ? name->durable : how == 1 ? name->now : NULL;
}

static void write_out(const char *name, const struct dk_disk_file *file)
{
    char path[2 * NAME_MAX_BYTES];
    snprintf(path, sizeof path, "%s/%s", disk.folder, name);
    dk_test_file_write(path, file->durable, file->n, 0600);
}

static void free_file(struct dk_disk_file *file)
{
    forget_ops(file);
    free(file->ops);
    free(file->durable);
    free(file);
}

static bool has_a_name(const struct dk_disk_file *file)
{
    for (size_t i = 0; i < disk.name_count; i++) {
        if (disk.names[i].now == file || disk.names[i].durable == file) {
            return true;
        }
    }
    return false;
}

/* Nobody has a file open any more. */
static void free_nameless(void)
{
    struct dk_disk_file **at = &disk.files;
    while (*at != NULL) {
        struct dk_disk_file *file = *at;
        if (has_a_name(file)) {
            at = &file->next;
        } else {
            *at = file->next;
            free_file(file);
        }
    }
}

static void settle(struct dk_disk_file *file)
{
    uint8_t *bytes = NULL;
    size_t n = 0;
    keep_some(file, &bytes, &n);
    forget_ops(file);
    free(file->durable);
    file->durable = bytes;
    file->n = file->size = n;
}

void dk_disk_restart(void)
{
    size_t kept = 0;
    must(disk.cut, "a restart wants a cut");
    free_nameless();
    for (struct dk_disk_file *file = disk.files; file != NULL; file = file->next) {
        settle(file); /* a file of two names has one content */
    }
    dk_test_folder_remove(disk.folder);
    must(mkdir(disk.folder, 0700) == 0, disk.folder);
    for (size_t i = 0; i < disk.name_count; i++) {
        struct name *name = &disk.names[i];
        name->now = name->durable = choose(name);
        name->was_missing = false;
        if (name->now != NULL) {
            write_out(name->name, name->now);
            disk.names[kept++] = *name;
        }
    }
    disk.name_count = kept;
    disk.cut = false;
    dk_disk_plan(NULL);
}

void dk_disk_start(const char *folder, uint64_t seed, enum dk_disk_lie lie)
{
    must(strlen(folder) < sizeof disk.folder, "a short name for the folder");
    dk_disk_stop(); /* of a test that failed */
    memset(&disk, 0, sizeof disk);
    snprintf(disk.folder, sizeof disk.folder, "%s", folder);
    disk.lie = lie;
    disk.random = seed;
    disk.trace = UINT64_C(1469598103934665603);
    disk.on = true;
}

void dk_disk_stop(void)
{
    while (disk.files != NULL) {
        struct dk_disk_file *file = disk.files;
        disk.files = file->next;
        free_file(file);
    }
    disk.on = false;
}
