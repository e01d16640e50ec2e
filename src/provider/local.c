#include "provider/local.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "base/file.h"
#include "crypto/aead.h"
#include "crypto/hkdf.h"
#include "provider/masterfile.h"

/* 0x01 | u32 key number | nonce12 | ct | tag (FORMATS "Wraps"). */
#define MARK 0x01
#define HEAD_LEN (1 + 4 + DK_AEAD_NONCE)
#define BLOB_LEN (HEAD_LEN + DK_DATA_KEY + DK_AEAD_TAG)

struct local {
    struct dk_provider_setup setup;
    char path[DK_PATH_MAX];
    struct dk_master_keys keys; /* immutable after open */
};

static dk_rc fill_id(const struct dk_suite *suite, struct dk_master_key *key, struct dk_err *err)
{
    uint8_t info[4 + 18];
    uint8_t id[16];
    dk_put_lp(info, "dekhand/local-id/1", 18);
    DK_TRY(dk_hkdf_public(suite, &key->key, dk_view_of(info, sizeof info), id, sizeof id, err));
    memcpy(key->id, "local:", 6);
    dk_hex_encode(id, sizeof id, key->id + 6);
    return DK_OK;
}

/* The file's bytes lie in locked pages of their own while they are parsed. */
static dk_rc read_file(struct local *local, int fd, struct dk_arena *pages, struct dk_err *err)
{
    size_t cap, n = 0;
    uint8_t *text = dk_arena_expose_whole_for_file(pages, &cap);
    for (;;) {
        ssize_t got = read(fd, text + n, cap - n);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            return DK_FAIL_BACKEND(err, IO, errno, "reading failed: %s", strerror(errno));
        }
        n += (size_t)got;
        if (got == 0) {
            break;
        }
        if (n == cap) {
            return DK_FAIL(err, FORMAT, "it is larger than %d bytes", DK_MASTER_FILE_MAX);
        }
    }
    DK_TRY(dk_masterfile_parse(local->setup.arena, dk_view_of(text, n), &local->keys, err));
    for (size_t i = 0; i < local->keys.count; i++) {
        DK_TRY(fill_id(local->setup.suite, &local->keys.key[i], err));
    }
    return DK_OK;
}

static dk_rc load(struct local *local, struct dk_err *err)
{
    struct dk_arena *pages = NULL;
    struct dk_arena_report report;
    int fd;
    struct dk_err cause;
    dk_err_clear(&cause);
    dk_rc rc = dk_file_open_private(local->path, &fd, &cause);
    if (rc == DK_E_NOT_FOUND) {
        return DK_FAIL(err, NO_MASTER_KEY,
                       "the master key file %s is not there, and the registry is: copy "
                       "master.key here",
                       local->path);
    }
    if (rc != DK_OK) {
        return dk_err_set(err, rc, cause.file, cause.line, "%s", cause.text);
    }
    rc = dk_arena_open(local->setup.world, DK_MASTER_FILE_MAX / DK_SECRET_CELL, &pages, &report,
                       &cause);
    if (rc == DK_OK) {
        rc = read_file(local, fd, pages, &cause);
    }
    dk_arena_close(pages);
    close(fd);
    if (rc != DK_OK) {
        dk_master_keys_clear(local->setup.arena, &local->keys);
        rc = rc == DK_E_FORMAT ? DK_E_CONFIG : rc;
        return dk_err_set(err, rc, cause.file, cause.line, "%s: %s", local->path, cause.text);
    }
    return DK_OK;
}

static dk_rc local_open(const struct dk_provider_setup *setup, void **self, struct dk_err *err)
{
    struct local *local = dk_mem_zalloc(&setup->world->mem, sizeof *local);
    if (local == NULL) {
        return DK_FAIL(err, NOMEM, "no memory for the local provider");
    }
    local->setup = *setup;
    snprintf(local->path, sizeof local->path, "%s", setup->master_key_path);
    dk_rc rc = load(local, err);
    if (rc != DK_OK) {
        dk_mem_free(&setup->world->mem, local);
        return rc;
    }
    *self = local;
    return DK_OK;
}

static void local_close(void *self)
{
    struct local *local = self;
    dk_master_keys_clear(local->setup.arena, &local->keys);
    dk_mem_free(&local->setup.world->mem, local);
}

/* The cells were wiped with the arena. */
static void local_forget(void *self)
{
    struct local *local = self;
    local->keys.count = 0;
}

static dk_rc local_after_fork(void *self, struct dk_err *err)
{
    local_forget(self);
    return load(self, err);
}

static const struct dk_master_key *newest(const struct local *local)
{
    return &local->keys.key[local->keys.count - 1];
}

static dk_rc local_describe(void *self, struct dk_provider_info *out, struct dk_err *err)
{
    const struct local *local = self;
    if (local->keys.count == 0) {
        return DK_FAIL(err, NO_MASTER_KEY, "%s could not be read after fork", local->path);
    }
    snprintf(out->kms_key_id, sizeof out->kms_key_id, "%s", newest(local)->id);
    out->key_count = (unsigned)local->keys.count;
    return DK_OK;
}

/* One message under a master key; the context is keyed for this call only. */
static dk_rc run_aead(const struct local *local, const struct dk_master_key *master,
                      enum dk_aead_way way, struct dk_aead_op *op, struct dk_err *err)
{
    const struct dk_aead_ops *aead = local->setup.suite->aead;
    struct dk_aead_key *key = NULL;
    DK_TRY(aead->key_new(local->setup.suite, &master->key, way, &key, err));
    bool ok = way == DK_AEAD_SEAL ? aead->seal(key, op) : aead->open(key, op);
    aead->key_free(key);
    if (!ok && way == DK_AEAD_SEAL) {
        return DK_FAIL(err, INTERNAL, "AES-256-GCM failed");
    }
    if (!ok) {
        return DK_FAIL(err, AUTH,
                       "the wrapped key was changed, or belongs to another tenant, purpose or "
                       "time");
    }
    return DK_OK;
}

static dk_rc local_wrap(void *self, const struct dk_wrap_context *context,
                        const struct dk_secret *key, struct dk_wrapped *out, struct dk_err *err)
{
    const struct local *local = self;
    uint8_t aad[DK_WRAP_AAD_MAX];
    size_t aad_len;
    uint8_t blob[BLOB_LEN] = {MARK};
    struct dk_provider_info info;
    DK_TRY(local_describe(self, &info, err));
    const struct dk_master_key *master = newest(local);
    DK_TRY(dk_wrap_aad(context, aad, &aad_len, err));
    uint8_t *nonce = dk_put_u32(blob + 1, master->number);
    DK_TRY(dk_random_fill(local->setup.world, nonce, DK_AEAD_NONCE, err));
    struct dk_aead_op op = {.nonce = nonce,
                            .aad = dk_view_of(aad, aad_len),
                            .in = dk_view_of(dk_secret_expose_for_crypto(key), DK_DATA_KEY),
                            .out = blob + HEAD_LEN,
                            .tag = blob + HEAD_LEN + DK_DATA_KEY};
    DK_TRY(run_aead(local, master, DK_AEAD_SEAL, &op, err));
    dk_base64_encode(blob, sizeof blob, out->blob);
    snprintf(out->kms_key_id, sizeof out->kms_key_id, "%s", master->id);
    return DK_OK;
}

static dk_rc local_generate(void *self, const struct dk_wrap_context *context,
                            struct dk_secret *key, struct dk_wrapped *out, struct dk_err *err)
{
    const struct local *local = self;
    const struct dk_random *random = &local->setup.world->random;
    key->n = DK_DATA_KEY;
    if (random->fill_private(random->arg, dk_secret_expose_for_crypto(key), DK_DATA_KEY) != 1) {
        return DK_FAIL(err, RANDOM, "no random bytes for a data key");
    }
    return local_wrap(self, context, key, out, err);
}

static const struct dk_master_key *find(const struct local *local, uint32_t number)
{
    for (size_t i = 0; i < local->keys.count; i++) {
        if (local->keys.key[i].number == number) {
            return &local->keys.key[i];
        }
    }
    return NULL;
}

static dk_rc local_unwrap(const struct local *local, struct dk_provider_item *item)
{
    const struct dk_wrapped *wrapped = item->wrapped;
    struct dk_secret *key = &item->key;
    struct dk_err *err = &item->err;
    uint8_t blob[BLOB_LEN];
    uint8_t aad[DK_WRAP_AAD_MAX];
    size_t n = 0, aad_len;
    if (!dk_base64_decode(wrapped->blob, strlen(wrapped->blob), blob, sizeof blob, &n) ||
        n != BLOB_LEN || blob[0] != MARK) {
        return DK_FAIL(err, FORMAT, "the wrapped key is not one of the local provider");
    }
    const struct dk_master_key *master = find(local, dk_get_u32(blob + 1));
    if (master == NULL || strcmp(master->id, wrapped->kms_key_id) != 0) {
        return DK_FAIL(err, NO_MASTER_KEY,
                       "master key %.80s (number %u) is not in %s: copy master.key here",
                       wrapped->kms_key_id, dk_get_u32(blob + 1), local->path);
    }
    DK_TRY(dk_wrap_aad(&item->context, aad, &aad_len, err));
    key->n = DK_DATA_KEY;
    struct dk_aead_op op = {.nonce = blob + 1 + 4,
                            .aad = dk_view_of(aad, aad_len),
                            .in = dk_view_of(blob + HEAD_LEN, DK_DATA_KEY),
                            .out = dk_secret_expose_for_crypto(key),
                            .tag = blob + HEAD_LEN + DK_DATA_KEY};
    DK_TRY(run_aead(local, master, DK_AEAD_OPEN, &op, err));
    snprintf(item->answered, sizeof item->answered, "%s", master->id);
    return DK_OK;
}

static void local_run(void *self, enum dk_provider_op op, struct dk_provider_item *const *items,
                      size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct dk_provider_item *item = items[i];
        switch (op) {
        case DK_PROVIDER_GENERATE:
            (void)local_generate(self, &item->context, &item->key, item->wrapped, &item->err);
            break;
        case DK_PROVIDER_WRAP:
            (void)local_wrap(self, &item->context, &item->key, item->wrapped, &item->err);
            break;
        default:
            (void)local_unwrap(self, item);
            break;
        }
    }
}

const struct dk_provider_ops dk_provider_local = {
    .name = "local",
    .caps = DK_PROVIDER_BINDS_CONTEXT | DK_PROVIDER_AUTHENTICATES | DK_PROVIDER_AT_HAND,
    .open = local_open,
    .close = local_close,
    .after_fork = local_after_fork,
    .forget = local_forget,
    .describe = local_describe,
    .run = local_run,
};

static dk_rc create_in(const struct dk_world *world, const char *path, struct dk_arena *pages,
                       struct dk_err *err)
{
    size_t cap, n;
    uint8_t *text = dk_arena_expose_whole_for_file(pages, &cap);
    uint8_t *key = text + cap - DK_DATA_KEY; /* behind the text, in the same locked pages */
    char created[DK_TIME_TEXT];
    if (world->random.fill_private(world->random.arg, key, DK_DATA_KEY) != 1) {
        return DK_FAIL(err, RANDOM, "no random bytes for a master key");
    }
    dk_time_format(dk_wall_us(world), created);
    DK_TRY(dk_masterfile_write(1, created, key, text, &n, err));
    return dk_file_create(path, text, n, err);
}

dk_rc dk_local_create(const struct dk_world *world, const char *path, struct dk_err *err)
{
    struct dk_arena *pages = NULL;
    struct dk_arena_report report;
    DK_TRY(dk_arena_open(world, DK_MASTER_FILE_MAX / DK_SECRET_CELL, &pages, &report, err));
    dk_rc rc = create_in(world, path, pages, err);
    dk_arena_close(pages);
    return rc;
}
