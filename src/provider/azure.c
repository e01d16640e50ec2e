#include "provider/azure.h"

#include <stdio.h>

#include "provider/azure_call.h"
#include "provider/azure_fetch.h"
#include "provider/azure_inspect.h"

#define LOOKED_MS (INT64_C(5) * 60 * 1000) /* so long what GET said of the key counts */

/* ---- what the key is ------------------------------------------------------------------------- */

/* Asks the vault. Who may not ask may wrap all the same: what the key is stays unknown. */
static dk_rc look(struct dk_azure *azure, struct dk_vault_key *out, struct dk_err *err)
{
    struct dk_azure_call x = {.azure = azure, .key = out};
    struct dk_http_call call = {dk_azure_call_build, dk_azure_call_judge, &x, err};
    *out = (struct dk_vault_key){0};
    dk_http_run(azure->vault, &call, 1);
    dk_azure_call_end(&x);
    if (x.denied) {
        dk_err_clear(err);
        *out = (struct dk_vault_key){.kind = DK_VAULT_RSA, .enabled = true};
    } else if (err->rc == DK_OK) {
        DK_TRY(dk_azure_check_own(azure, out->kid, err));
        DK_TRY(dk_vault_check_kind(out, err));
    }
    return err->rc;
}

/* What is known, if it is young enough. Whoever unwraps is content with an old answer. */
static bool recall(struct dk_azure *azure, bool wraps, struct dk_vault_key *out)
{
    pthread_mutex_lock(&azure->lock);
    int64_t age = dk_boot_ms(azure->setup.world) - azure->looked_ms;
    bool known = azure->looked && (!wraps || age < LOOKED_MS);
    *out = azure->key;
    pthread_mutex_unlock(&azure->lock);
    return known;
}

static void remember(struct dk_azure *azure, const struct dk_vault_key *key)
{
    pthread_mutex_lock(&azure->lock);
    azure->key = *key;
    azure->looked = true;
    azure->looked_ms = dk_boot_ms(azure->setup.world);
    if (key->kid[0] != '\0') {
        memcpy(azure->own_kid, key->kid, sizeof azure->own_kid);
    }
    pthread_mutex_unlock(&azure->lock);
}

static dk_rc check_usable(const struct dk_azure *azure, const struct dk_vault_key *key,
                          struct dk_err *err)
{
    return dk_vault_check_usable(key, dk_wall_us(azure->setup.world) / 1000000, err);
}

static bool is_usable(const struct dk_azure *azure, const struct dk_vault_key *key)
{
    struct dk_err ignored;
    dk_err_clear(&ignored);
    return check_usable(azure, key, &ignored) == DK_OK;
}

static unsigned looks_of(struct dk_azure *azure)
{
    pthread_mutex_lock(&azure->lock);
    unsigned looks = azure->looks;
    pthread_mutex_unlock(&azure->lock);
    return looks;
}

/* What the last look brought. */
static dk_rc look_result(struct dk_azure *azure, struct dk_vault_key *out, struct dk_err *err)
{
    pthread_mutex_lock(&azure->lock);
    dk_rc rc = azure->look_failure.rc;
    if (rc == DK_OK) {
        *out = azure->key;
    } else {
        *err = azure->look_failure;
    }
    pthread_mutex_unlock(&azure->lock);
    return rc;
}

/* One thread at a time. Who waited while another asked has what he was told: else each of a crowd
   would wait for all before it, as long as a call may take. */
static dk_rc look_for_all(struct dk_azure *azure, unsigned before, struct dk_vault_key *out,
                          struct dk_err *err)
{
    if (looks_of(azure) != before) {
        return look_result(azure, out, err);
    }
    dk_rc rc = look(azure, out, err);
    if (rc == DK_OK) {
        remember(azure, out);
    }
    pthread_mutex_lock(&azure->lock);
    azure->looks++;
    azure->look_failure = *err;
    pthread_mutex_unlock(&azure->lock);
    return rc;
}

/* A key that was found not to be usable is looked at again before that is said. */
static dk_rc learn(struct dk_azure *azure, bool wraps, struct dk_vault_key *out, struct dk_err *err)
{
    unsigned before = looks_of(azure);
    if (recall(azure, wraps, out) && (!wraps || is_usable(azure, out))) {
        return DK_OK;
    }
    pthread_mutex_lock(&azure->look);
    dk_rc rc = DK_OK;
    if (!recall(azure, wraps, out) || (wraps && !is_usable(azure, out))) {
        rc = look_for_all(azure, before, out, err);
    }
    pthread_mutex_unlock(&azure->look);
    DK_TRY(rc);
    return wraps ? check_usable(azure, out, err) : DK_OK;
}

static enum dk_azure_pair choose_pair(struct dk_azure *azure, const struct dk_vault_key *key,
                                      bool wraps)
{
    pthread_mutex_lock(&azure->lock);
    enum dk_azure_pair pair = azure->pair;
    pthread_mutex_unlock(&azure->lock);
    if (pair != DK_AZURE_AUTO) {
        return pair;
    }
    bool encrypts = (key->ops & 1U << dk_azure_op_of(DK_AZURE_ENCRYPT, wraps)) != 0;
    bool wrapkey = (key->ops & 1U << dk_azure_op_of(DK_AZURE_WRAPKEY, wraps)) != 0;
    return !encrypts && wrapkey ? DK_AZURE_WRAPKEY : DK_AZURE_ENCRYPT;
}

/* ---- data keys ------------------------------------------------------------------------------- */

/* A key id from a row is used only if it is one of the configured key's (I32). */
static dk_rc prepare_unwrap(const struct dk_azure *azure, struct dk_provider_item *item,
                            struct dk_azure_call *x)
{
    struct dk_vault_kid kid;
    const char *id = item->wrapped->kms_key_id;
    if (!dk_vault_kid_parse(id, &kid) || !dk_vault_kid_is_of(&kid, &azure->azure) ||
        kid.version[0] == '\0') {
        return DK_FAIL(&item->err, NO_MASTER_KEY,
                       "the data key was wrapped by %.120s, which is no version of %.40s "
                       "(AZURE_KEY_NAME) at %.60s, and not in KMS_PREVIOUS_KEYS",
                       id, azure->azure.key_name, azure->azure.vault.authority);
    }
    memcpy(x->version, kid.version, sizeof x->version);
    DK_TRY(dk_azure_blob_read(item->wrapped->blob, &x->blob, &item->err));
    x->oct = x->blob.rsa_n == 0;
    return DK_OK;
}

static dk_rc prepare(struct dk_azure *azure, enum dk_provider_op op, struct dk_provider_item *item,
                     struct dk_azure_call *x)
{
    const struct dk_random *random = &azure->setup.world->random;
    *x = (struct dk_azure_call){.azure = azure, .item = item, .wraps = op != DK_PROVIDER_UNWRAP};
    if (op == DK_PROVIDER_UNWRAP) {
        return prepare_unwrap(azure, item, x);
    }
    if (op == DK_PROVIDER_GENERATE) {
        item->key.n = DK_DATA_KEY;
        if (random->fill_private(random->arg, dk_secret_expose_for_crypto(&item->key),
                                 DK_DATA_KEY) != 1) {
            return DK_FAIL(&item->err, RANDOM, "no random bytes for a data key");
        }
    }
    return DK_OK;
}

/* A token, and what all items need to know of the key; why it is not known is each one's error. */
static bool aim(struct dk_azure *azure, struct dk_http_call *calls, size_t n, bool wraps)
{
    struct dk_vault_key key;
    struct dk_err err;
    dk_err_clear(&err);
    dk_rc rc = learn(azure, wraps, &key, &err);
    rc = rc == DK_OK ? dk_azure_renew_token(azure, &err) : rc;
    for (size_t i = 0; i < n; i++) {
        struct dk_azure_call *x = calls[i].self;
        if (rc != DK_OK) {
            *calls[i].err = err;
        }
        x->pair = choose_pair(azure, &key, wraps);
        x->oct = wraps ? key.kind == DK_VAULT_OCT : x->oct;
    }
    return rc == DK_OK;
}

static void fail_all(struct dk_provider_item *const *items, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        (void)DK_FAIL(&items[i]->err, NOMEM, "no memory for a call of Azure Key Vault");
    }
}

static void azure_run(void *self, enum dk_provider_op op, struct dk_provider_item *const *items,
                      size_t count)
{
    struct dk_azure *azure = self;
    const struct dk_mem *mem = &azure->setup.world->mem;
    struct dk_azure_call *x = dk_mem_alloc(mem, count * sizeof *x);
    struct dk_http_call *calls = dk_mem_alloc(mem, count * sizeof *calls);
    size_t n = 0;
    if (x == NULL || calls == NULL) {
        fail_all(items, count);
        count = 0;
    }
    for (size_t i = 0; i < count; i++) {
        if (prepare(azure, op, items[i], &x[i]) == DK_OK) {
            calls[n++] = (struct dk_http_call){dk_azure_call_build, dk_azure_call_judge, &x[i],
                                               &items[i]->err};
        }
    }
    if (n > 0 && aim(azure, calls, n, op != DK_PROVIDER_UNWRAP)) {
        dk_http_run(azure->vault, calls, n);
    }
    for (size_t i = 0; i < count; i++) {
        dk_azure_call_end(&x[i]);
    }
    dk_mem_free(mem, x);
    dk_mem_free(mem, calls);
}

/* ---- open and close -------------------------------------------------------------------------- */

static dk_rc open_http(struct dk_azure *azure, const char *service, struct dk_http_limits limits,
                       bool proxy, struct dk_http **out, struct dk_err *err)
{
    const struct dk_settings *settings = azure->setup.settings;
    const struct dk_http_setup setup = {.world = azure->setup.world,
                                        .limits = limits,
                                        .service = service,
                                        .ca_file = dk_settings_str(settings, DK_OPT_CA_FILE),
                                        .proxy =
                                            proxy ? dk_settings_str(settings, DK_OPT_PROXY) : NULL};
    return dk_http_open(&setup, out, err);
}

static dk_rc open_parts(struct dk_azure *azure, struct dk_err *err)
{
    const struct dk_settings *settings = azure->setup.settings;
    struct dk_azure_setup *setup = &azure->azure;
    struct dk_http_limits limits = dk_http_limits_default;
    limits.per_second = (unsigned)dk_settings_int(settings, DK_OPT_MAX_CALLS);
    DK_TRY(dk_azure_setup_read(settings, &azure->setup.world->mem, setup, err));
    azure->pair = setup->pair;
    DK_TRY(open_http(azure, "Azure Key Vault", limits, true, &azure->vault, err));
    DK_TRY(open_http(azure, "Microsoft Entra", dk_azure_fetch_limits(setup, false), true,
                     &azure->authority, err));
    DK_TRY(open_http(azure, "the managed identity", dk_azure_fetch_limits(setup, true), false,
                     &azure->identity, err));
    const struct dk_azure_tokens_setup tokens = {.world = azure->setup.world,
                                                 .suite = azure->setup.suite,
                                                 .azure = setup,
                                                 .authority = azure->authority,
                                                 .identity = azure->identity};
    return dk_azure_tokens_open(&tokens, &azure->tokens, err);
}

static void azure_close(void *self)
{
    struct dk_azure *azure = self;
    dk_azure_tokens_close(azure->tokens);
    dk_http_close(azure->identity);
    dk_http_close(azure->authority);
    dk_http_close(azure->vault);
    dk_azure_setup_clear(&azure->azure);
    pthread_mutex_destroy(&azure->look);
    pthread_mutex_destroy(&azure->lock);
    dk_mem_free(&azure->setup.world->mem, azure);
}

static void locks_init(struct dk_azure *azure)
{
    pthread_mutex_init(&azure->look, NULL);
    pthread_mutex_init(&azure->lock, NULL);
}

static dk_rc azure_open(const struct dk_provider_setup *setup, void **self, struct dk_err *err)
{
    struct dk_azure *azure = dk_mem_zalloc(&setup->world->mem, sizeof *azure);
    if (azure == NULL) {
        return DK_FAIL(err, NOMEM, "no memory for Azure Key Vault");
    }
    azure->setup = *setup;
    azure->azure.mem = &setup->world->mem;
    locks_init(azure);
    dk_rc rc = open_parts(azure, err);
    azure->setup.settings = NULL; /* lent for the opening */
    if (rc != DK_OK) {
        azure_close(azure);
        return rc;
    }
    *self = azure;
    return DK_OK;
}

/* Nothing of the parent's is used: neither its connections nor its token. */
static void azure_forget(void *self)
{
    struct dk_azure *azure = self;
    locks_init(azure);
    dk_http_after_fork(azure->vault);
    dk_http_after_fork(azure->authority);
    dk_http_after_fork(azure->identity);
    dk_azure_tokens_after_fork(azure->tokens);
}

static dk_rc azure_after_fork(void *self, struct dk_err *err)
{
    (void)err;
    azure_forget(self);
    return DK_OK;
}

/* Asks nobody: before the first answer it is the key without its version. */
static dk_rc azure_describe(void *self, struct dk_provider_info *out, struct dk_err *err)
{
    struct dk_azure *azure = self;
    const struct dk_endpoint *vault = &azure->azure.vault;
    (void)err;
    pthread_mutex_lock(&azure->lock);
    if (azure->own_kid[0] != '\0') {
        memcpy(out->kms_key_id, azure->own_kid, sizeof out->kms_key_id);
    } else {
        snprintf(out->kms_key_id, sizeof out->kms_key_id, "%s://%s/keys/%s",
                 vault->tls ? "https" : "http", vault->authority, azure->azure.key_name);
    }
    pthread_mutex_unlock(&azure->lock);
    out->key_count = 1;
    return DK_OK;
}

/* ---- what is said of the key ----------------------------------------------------------------- */

static void azure_inspect(void *self, bool opens_only, const struct dk_provider_tell *tell)
{
    struct dk_azure *azure = self;
    struct dk_vault_key key;
    struct dk_err err;
    char text[sizeof err.text + 64];
    dk_err_clear(&err);
    dk_rc rc = look(azure, &key, &err);
    if (rc == DK_OK && key.kid[0] != '\0') {
        dk_azure_tell_key(&key, dk_wall_us(azure->setup.world) / 1000000, opens_only, tell);
    } else if (rc == DK_OK) {
        snprintf(text, sizeof text, "the state of %s is not known: keys/get is denied",
                 azure->azure.key_name);
        tell->tell(tell->arg, DK_PROVIDER_NOTE, text,
                   "allow keys/get (dekhand doctor --print-policy)");
    } else {
        snprintf(text, sizeof text, "%s: %s", dk_error_info(rc)->name, err.text);
        tell->tell(tell->arg, DK_PROVIDER_WARNING, text, dk_error_info(rc)->todo);
    }
}

/* With the operations that the key lists; where it cannot be asked, as the guide has them. */
static dk_rc azure_policy(void *self, const struct dk_previous_ids *previous, struct dk_buf *out,
                          struct dk_err *err)
{
    (void)previous; /* a role says what may be done, its assignment where */
    struct dk_azure *azure = self;
    struct dk_vault_key key;
    struct dk_err ignored;
    dk_err_clear(&ignored);
    if (learn(azure, false, &key, &ignored) != DK_OK) {
        key = (struct dk_vault_key){0};
    }
    return dk_azure_role(&azure->azure, choose_pair(azure, &key, true), out, err);
}

/* https://VAULT/keys/NAME: the vault is judged as AZURE_KEY_VAULT_URL is. By which operations that
   key wraps is its own affair. */
static bool azure_previous_aim(const char *id, struct dk_previous_aim *out)
{
    struct dk_vault_kid kid;
    if (!dk_vault_kid_parse(id, &kid) || kid.version[0] != '\0') {
        return false;
    }
    out->option[0] = DK_OPT_AZURE_KEY_VAULT_URL;
    snprintf(out->value[0], sizeof out->value[0], "%.*s", (int)(strstr(id + 8, "/keys/") - id), id);
    out->option[1] = DK_OPT_AZURE_KEY_NAME;
    snprintf(out->value[1], sizeof out->value[1], "%s", kid.name);
    out->option[2] = DK_OPT_AZURE_KEY_OPS;
    snprintf(out->value[2], sizeof out->value[2], "auto");
    out->count = 3;
    return true;
}

static bool azure_previous_is(const char *id, const char *kms_key_id)
{
    struct dk_vault_kid kid, of_row;
    if (!dk_vault_kid_parse(id, &kid) || !dk_vault_kid_parse(kms_key_id, &of_row)) {
        return false;
    }
    of_row.version[0] = '\0';
    return dk_vault_kid_equal(&kid, &of_row);
}

static bool azure_is_own(void *self, const char *kms_key_id)
{
    const struct dk_azure *azure = self;
    struct dk_vault_kid kid;
    return dk_vault_kid_parse(kms_key_id, &kid) && dk_vault_kid_is_of(&kid, &azure->azure);
}

/* ---- what it costs --------------------------------------------------------------------------- */

static const char *azure_operation(unsigned operation)
{
    return operation < DK_VAULT_OPS ? dk_vault_op_name((enum dk_vault_op)operation) : NULL;
}
_Static_assert(DK_VAULT_OPS <= DK_PROVIDER_OPERATIONS, "counts");

/* By what the key is; a key that may not be looked at counts as the usual one. */
static const struct dk_price *azure_price(void *self)
{
    struct dk_azure *azure = self;
    struct dk_vault_key key;
    struct dk_err ignored;
    dk_err_clear(&ignored);
    if (strstr(azure->azure.vault.host, ".managedhsm.") != NULL) {
        return &dk_prices[DK_PRICE_AZURE_POOL];
    }
    if (learn(azure, false, &key, &ignored) != DK_OK) {
        return &dk_prices[DK_PRICE_AZURE_RSA];
    }
    bool hsm = strcmp(key.kty, "RSA-HSM") == 0;
    if (key.kind == DK_VAULT_OCT) {
        return &dk_prices[DK_PRICE_AZURE_POOL];
    }
    if (key.bits > 2048) {
        return &dk_prices[hsm ? DK_PRICE_AZURE_RSA_HSM_LONG : DK_PRICE_AZURE_RSA_LONG];
    }
    return &dk_prices[hsm ? DK_PRICE_AZURE_RSA_HSM : DK_PRICE_AZURE_RSA];
}

const struct dk_provider_ops dk_provider_azure = {
    .name = "azure-key-vault",
    .caps = DK_PROVIDER_BINDS_CONTEXT,
    .open = azure_open,
    .close = azure_close,
    .after_fork = azure_after_fork,
    .forget = azure_forget,
    .describe = azure_describe,
    .run = azure_run,
    .inspect = azure_inspect,
    .policy = azure_policy,
    .operation = azure_operation,
    .price = azure_price,
    .previous_aim = azure_previous_aim,
    .previous_is = azure_previous_is,
    .is_own = azure_is_own,
};
