#include "support/fake_provider.h"

#include <openssl/rand.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "crypto/aead.h"

#define MARK 0x7F
#define NONCE_AT 1
#define TEXT_AT (NONCE_AT + DK_AEAD_NONCE)
#define BLOB_LEN (TEXT_AT + DK_DATA_KEY + DK_AEAD_TAG)

struct self {
    struct dk_provider_setup setup;
    struct dk_fake *fake;
};

struct dk_fake *dk_fake_new(void)
{
    struct dk_fake *fake =
        mmap(NULL, sizeof *fake, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (fake == MAP_FAILED) {
        abort();
    }
    fake->home = getpid();
    pthread_mutex_init(&fake->lock, NULL);
    pthread_cond_init(&fake->changed, NULL);
    return fake;
}

void dk_fake_free(struct dk_fake *fake)
{
    pthread_cond_destroy(&fake->changed);
    pthread_mutex_destroy(&fake->lock);
    munmap(fake, sizeof *fake);
}

/* ---- what the test asks for ------------------------------------------------------------------ */

void dk_fake_fail(struct dk_fake *fake, enum dk_fake_call call, dk_rc rc, int count)
{
    atomic_store(&fake->fail[call], (int)rc);
    atomic_store(&fake->left[call], count);
}

static const enum dk_fake_call of_keys[] = {DK_FAKE_GENERATE, DK_FAKE_WRAP, DK_FAKE_UNWRAP};

void dk_fake_down(struct dk_fake *fake)
{
    for (size_t i = 0; i < 3; i++) {
        dk_fake_fail(fake, of_keys[i], DK_E_UNREACHABLE, -1);
    }
}

void dk_fake_up(struct dk_fake *fake)
{
    for (size_t i = 0; i < 3; i++) {
        dk_fake_fail(fake, of_keys[i], DK_OK, 0);
    }
}

int dk_fake_uses(const struct dk_fake *fake)
{
    int sum = 0;
    for (size_t i = 0; i < 3; i++) {
        sum += atomic_load(&fake->calls[of_keys[i]]);
    }
    return sum;
}

static void set_gate(struct dk_fake *fake, bool shut)
{
    pthread_mutex_lock(&fake->lock);
    fake->gate_shut = shut;
    pthread_cond_broadcast(&fake->changed);
    pthread_mutex_unlock(&fake->lock);
}

void dk_fake_shut_gate(struct dk_fake *fake)
{
    set_gate(fake, true);
}

void dk_fake_open_gate(struct dk_fake *fake)
{
    set_gate(fake, false);
}

void dk_fake_await(struct dk_fake *fake, int n)
{
    pthread_mutex_lock(&fake->lock);
    while (fake->waiting < n) {
        pthread_cond_wait(&fake->changed, &fake->lock);
    }
    pthread_mutex_unlock(&fake->lock);
}

static void pass_gate(struct dk_fake *fake)
{
    if (getpid() != fake->home) {
        return; /* lock and condition work within one process */
    }
    pthread_mutex_lock(&fake->lock);
    fake->waiting++;
    pthread_cond_broadcast(&fake->changed);
    while (fake->gate_shut) {
        pthread_cond_wait(&fake->changed, &fake->lock);
    }
    fake->waiting--;
    pthread_mutex_unlock(&fake->lock);
}

static bool takes_one(atomic_int *left)
{
    int n = atomic_load(left);
    while (n > 0 && !atomic_compare_exchange_weak(left, &n, n - 1)) {
    }
    return n != 0;
}

/* Counts, and fails when that was asked for. */
static dk_rc enter(struct dk_fake *fake, enum dk_fake_call call, struct dk_err *err)
{
    atomic_fetch_add(&fake->calls[call], 1);
    if (call == DK_FAKE_GENERATE || call == DK_FAKE_WRAP || call == DK_FAKE_UNWRAP) {
        pass_gate(fake);
    }
    if (takes_one(&fake->left[call])) {
        return dk_err_set(err, (dk_rc)atomic_load(&fake->fail[call]), __FILE__, __LINE__,
                          "the fake fails as it was told");
    }
    return DK_OK;
}

/* ---- wrapping -------------------------------------------------------------------------------- */

/* One message under the fake's own master key. */
static dk_rc run(const struct self *self, const struct dk_wrap_context *context,
                 enum dk_aead_way way, struct dk_aead_op *op, struct dk_err *err)
{
    const struct dk_suite *suite = self->setup.suite;
    uint8_t aad[DK_WRAP_AAD_MAX];
    size_t aad_len;
    struct dk_secret master = {0};
    struct dk_aead_key *key = NULL;
    DK_TRY(dk_wrap_aad(context, aad, &aad_len, err));
    op->aad = dk_view_of(aad, aad_len);
    DK_TRY(dk_secret_new(self->setup.arena, DK_AEAD_KEY, &master, err));
    memset(dk_secret_expose_for_crypto(&master), 0xFA, DK_AEAD_KEY);
    dk_rc rc = suite->aead->key_new(suite, &master, way, &key, err);
    if (rc == DK_OK) {
        bool ok = way == DK_AEAD_SEAL ? suite->aead->seal(key, op) : suite->aead->open(key, op);
        rc = ok ? DK_OK : DK_FAIL(err, AUTH, "the fake's wrap does not open");
    }
    suite->aead->key_free(key);
    dk_secret_free(self->setup.arena, &master);
    return rc;
}

static dk_rc wrap(const struct self *self, const struct dk_wrap_context *context,
                  const struct dk_secret *key, struct dk_wrapped *out, struct dk_err *err)
{
    uint8_t blob[BLOB_LEN] = {MARK}, plain[DK_DATA_KEY];
    struct dk_fake *fake = self->fake;
    if (RAND_bytes(blob + NONCE_AT, DK_AEAD_NONCE) != 1) {
        return DK_FAIL(err, RANDOM, "no random bytes for the fake");
    }
    memcpy(plain, dk_secret_expose_for_crypto(key), sizeof plain);
    plain[0] ^= atomic_load(&fake->wrap_another) ? 1 : 0;
    struct dk_aead_op op = {.nonce = blob + NONCE_AT,
                            .in = dk_view_of(plain, sizeof plain),
                            .out = blob + TEXT_AT,
                            .tag = blob + TEXT_AT + DK_DATA_KEY};
    dk_rc rc = run(self, context, DK_AEAD_SEAL, &op, err);
    dk_wipe(plain, sizeof plain);
    blob[TEXT_AT] ^= atomic_load(&fake->flip_wrap) ? 0x10 : 0;
    dk_base64_encode(blob, sizeof blob, out->blob);
    snprintf(out->kms_key_id, sizeof out->kms_key_id, "%s",
             atomic_load(&fake->no_key_id) ? "" : DK_FAKE_KEY_ID);
    return rc;
}

static void shape(int kind, struct dk_secret *key)
{
    uint8_t *bytes = dk_secret_expose_for_crypto(key);
    key->n = DK_DATA_KEY;
    switch (kind) {
    case DK_FAKE_BYTES_0:
        key->n = 0;
        return;
    case DK_FAKE_BYTES_31:
        key->n = 31;
        return;
    case DK_FAKE_BYTES_33:
        bytes[32] = 0x33;
        key->n = 33;
        return;
    case DK_FAKE_ZEROS:
        memset(bytes, 0, DK_DATA_KEY);
        return;
    case DK_FAKE_SAME:
        memset(bytes, 0x5A, DK_DATA_KEY);
        return;
    default:
        return;
    }
}

/* ---- the face -------------------------------------------------------------------------------- */

static dk_rc fake_open(const struct dk_provider_setup *setup, void **out, struct dk_err *err)
{
    DK_TRY(enter(setup->test_arg, DK_FAKE_OPEN, err));
    struct self *self = dk_mem_zalloc(&setup->world->mem, sizeof *self);
    if (self == NULL) {
        return DK_FAIL(err, NOMEM, "no memory for the fake");
    }
    self->setup = *setup;
    self->fake = setup->test_arg;
    *out = self;
    return DK_OK;
}

static void fake_close(void *at)
{
    struct self *self = at;
    dk_mem_free(&self->setup.world->mem, self);
}

static dk_rc fake_after_fork(void *at, struct dk_err *err)
{
    return enter(((struct self *)at)->fake, DK_FAKE_AFTER_FORK, err);
}

static void fake_forget(void *at)
{
    (void)at;
}

static dk_rc fake_describe(void *at, struct dk_provider_info *out, struct dk_err *err)
{
    DK_TRY(enter(((struct self *)at)->fake, DK_FAKE_DESCRIBE, err));
    snprintf(out->kms_key_id, sizeof out->kms_key_id, "%s", DK_FAKE_KEY_ID);
    out->key_count = 1;
    return DK_OK;
}

static dk_rc fake_generate(void *at, const struct dk_wrap_context *context, struct dk_secret *key,
                           struct dk_wrapped *out, struct dk_err *err)
{
    struct self *self = at;
    DK_TRY(enter(self->fake, DK_FAKE_GENERATE, err));
    if (RAND_priv_bytes(dk_secret_expose_for_crypto(key), DK_DATA_KEY) != 1) {
        return DK_FAIL(err, RANDOM, "no random bytes for the fake");
    }
    shape(atomic_load(&self->fake->fresh), key);
    return wrap(self, context, key, out, err);
}

static dk_rc fake_wrap(void *at, const struct dk_wrap_context *context, const struct dk_secret *key,
                       struct dk_wrapped *out, struct dk_err *err)
{
    struct self *self = at;
    DK_TRY(enter(self->fake, DK_FAKE_WRAP, err));
    return wrap(self, context, key, out, err);
}

static dk_rc fake_unwrap(void *at, const struct dk_wrap_context *context,
                         const struct dk_wrapped *wrapped, struct dk_secret *key,
                         char answered[static DK_KMS_KEY_ID_MAX + 1], struct dk_err *err)
{
    struct self *self = at;
    uint8_t blob[BLOB_LEN];
    size_t n = 0;
    DK_TRY(enter(self->fake, DK_FAKE_UNWRAP, err));
    if (!dk_base64_decode(wrapped->blob, strlen(wrapped->blob), blob, sizeof blob, &n) ||
        n != BLOB_LEN || blob[0] != MARK) {
        return DK_FAIL(err, FORMAT, "this is no wrap of the fake");
    }
    if (strcmp(wrapped->kms_key_id, DK_FAKE_KEY_ID) != 0) {
        return DK_FAIL(err, NO_MASTER_KEY, "master key %.80s is not the fake's",
                       wrapped->kms_key_id);
    }
    struct dk_aead_op op = {.nonce = blob + NONCE_AT,
                            .in = dk_view_of(blob + TEXT_AT, DK_DATA_KEY),
                            .out = dk_secret_expose_for_crypto(key),
                            .tag = blob + TEXT_AT + DK_DATA_KEY};
    DK_TRY(run(self, context, DK_AEAD_OPEN, &op, err));
    shape(atomic_load(&self->fake->opened), key);
    snprintf(answered, DK_KMS_KEY_ID_MAX + 1, "%s",
             atomic_load(&self->fake->other_key_id) ? "fake:another" : DK_FAKE_KEY_ID);
    return DK_OK;
}

static void fake_run(void *at, enum dk_provider_op op, struct dk_provider_item *const *items,
                     size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct dk_provider_item *item = items[i];
        switch (op) {
        case DK_PROVIDER_GENERATE:
            (void)fake_generate(at, &item->context, &item->key, item->wrapped, &item->err);
            break;
        case DK_PROVIDER_WRAP:
            (void)fake_wrap(at, &item->context, &item->key, item->wrapped, &item->err);
            break;
        default:
            (void)fake_unwrap(at, &item->context, item->wrapped, &item->key, item->answered,
                              &item->err);
            break;
        }
    }
}

const struct dk_provider_ops dk_fake_provider = {
    .name = "fake",
    .caps = DK_PROVIDER_BINDS_CONTEXT | DK_PROVIDER_AUTHENTICATES,
    .open = fake_open,
    .close = fake_close,
    .after_fork = fake_after_fork,
    .forget = fake_forget,
    .describe = fake_describe,
    .run = fake_run,
};
