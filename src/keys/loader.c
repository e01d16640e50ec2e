#include "keys/loader.h"

#include <openssl/crypto.h>

#include "keys/audit.h"
#include "keys/counts.h"
#include "keys/create.h"
#include "keys/keyring.h"
#include "keys/registry.h"
#include "keys/states.h"

/* Without a tenant row there may be no key row either (I07). */
static dk_rc explain_no_tenant(struct dk_core *core, const struct dk_key_name *name,
                               const struct dk_find *find, struct dk_err *err)
{
    if (find->versions > 0) {
        return DK_FAIL(err, TAMPERED, "tenant %s has key rows but no tenant row", name->tenant.s);
    }
    if (name->version != DK_VERSION_ACTIVE) {
        return DK_FAIL(err, UNKNOWN_VERSION,
                       "tenant %s has no key: is it the right tenant? (unknown key version %u)",
                       name->tenant.s, name->version);
    }
    DK_TRY(dk_audit_check(core, err)); /* an older registry may have forgotten the tenant */
    DK_TRY(dk_audit_check_unknown(core, find, err));
    return DK_FAIL(err, NOT_FOUND, "tenant %s has no key yet", name->tenant.s);
}

static dk_rc explain_no_key(const struct dk_key_name *name, struct dk_err *err)
{
    if (name->version != DK_VERSION_ACTIVE) {
        return DK_FAIL(err, UNKNOWN_VERSION, "unknown key version %u of tenant %s", name->version,
                       name->tenant.s);
    }
    return DK_FAIL(err, TAMPERED,
                   "No active key found: tenant %s is known, its active row is gone; if it was "
                   "accepted as lost, `dekhand rotate --tenant %s`",
                   name->tenant.s, name->tenant.s);
}

/* One key of a batch: what the store has of it, and of all key rows of its tenant. */
struct look {
    struct dk_find find;
    struct dk_digest digest;
};

/* `older`: the tenant's rows are older than there were, and why; else it is clear. */
static dk_rc judge_key(struct dk_core *core, const struct dk_key_name *name,
                       const struct dk_find *find, const struct dk_err *older, struct dk_err *err)
{
    dk_rc rc = find->key_rc;
    if (rc == DK_OK) {
        DK_TRY(dk_registry_verify_key(core, NULL, find->key, err));
        if (!dk_tenant_equal(&find->key->tenant, &name->tenant)) {
            return DK_FAIL(err, TAMPERED, "the row read for tenant %s is another's",
                           name->tenant.s);
        }
    }
    /* Older rows than there were: nothing is encrypted; what is there still opens (I04). */
    if (older->rc != DK_OK && (name->version == DK_VERSION_ACTIVE || rc != DK_OK)) {
        *err = *older;
        return err->rc;
    }
    return rc == DK_OK ? DK_OK : explain_no_key(name, err);
}

/*
 * `last`: what looks older is older. A first look may be into a snapshot from before a change that
 * another thread has seen meanwhile: it ends with E_ROLLBACK, and a new transaction decides.
 */
static dk_rc judge(struct dk_core *core, const struct dk_key_name *name, const struct look *look,
                   bool last, struct dk_err *err)
{
    const struct dk_find *find = &look->find;
    struct dk_err cause;
    dk_err_clear(&cause);
    if (find->row_rc == DK_E_NOT_FOUND) {
        return explain_no_tenant(core, name, find, err);
    }
    dk_rc rc =
        find->row_rc == DK_OK
            ? dk_audit_believe(core, &name->tenant, &find->row, &cause)
            : DK_FAIL(&cause, TAMPERED, "a row of tenants holds what dekhand does not write");
    if (rc == DK_OK && find->key_rc == DK_E_TAMPERED) {
        return DK_FAIL(err, TAMPERED, "a row of encryption_keys holds what dekhand does not write");
    }
    bool older = rc == DK_OK && dk_audit_check(core, &cause) != DK_OK; /* told already */
    if (rc == DK_OK && !older) {
        rc = dk_audit_check_rows(core, &find->row, &look->digest, &cause);
    }
    if (rc != DK_OK && (rc != DK_E_ROLLBACK || !last)) {
        *err = cause;
        return rc;
    }
    if (rc == DK_E_ROLLBACK) {
        DK_LOG(&core->log, ERROR, "tenant_went_back", DK_LOG_S(TENANT, name->tenant.s),
               DK_LOG_S(REASON, cause.text));
    }
    return judge_key(core, name, find, &cause, err);
}

struct adding {
    const struct dk_core *core;
    struct look *looks;
    dk_rc rc;
    struct dk_err *err;
};

static bool add_mac(void *arg, size_t i, uint32_t version, const char *row_mac)
{
    struct adding *adding = arg;
    adding->rc =
        dk_digest_add(adding->core, &adding->looks[i].digest, version, row_mac, adding->err);
    return adding->rc == DK_OK;
}

/* Fills looks[i] for each, `finds` being room for as many. */
static dk_rc look_in(struct dk_core *core, struct dk_txn *txn, struct look *looks,
                     struct dk_find *finds, size_t count, struct dk_err *err)
{
    struct adding adding = {core, looks, DK_OK, err};
    for (size_t i = 0; i < count; i++) {
        finds[i] = looks[i].find;
        looks[i].digest = (struct dk_digest){{0}};
    }
    DK_TRY(txn->ops->find_many(txn->self, finds, count, add_mac, &adding, err));
    for (size_t i = 0; i < count; i++) {
        looks[i].find = finds[i];
    }
    return adding.rc;
}

static struct look look_for(const struct dk_key_name *name, struct dk_key_row *out)
{
    return (struct look){.find = {.tenant = &name->tenant, .version = name->version, .key = out}};
}

/* In a transaction of its own; again while other threads take other registry keys. */
static dk_rc read_last(struct dk_core *core, const struct dk_key_name *name, struct dk_key_row *out,
                       struct dk_err *err)
{
    struct dk_txn txn;
    struct dk_find find;
    struct dk_err last;
    dk_rc rc = DK_E_TAMPERED;
    bool again = true;
    for (int i = 0; i < DK_REGISTRY_TRIES && again; i++) {
        struct look look = look_for(name, out);
        dk_err_clear(&last);
        DK_TRY(dk_registry_begin(core, DK_TXN_READ, &txn, err));
        rc = look_in(core, &txn, &look, &find, 1, &last);
        rc = rc == DK_OK ? judge(core, name, &look, true, &last) : rc;
        dk_store_rollback(&txn);
        again = dk_registry_again(core, &txn, rc);
    }
    if (rc != DK_OK) {
        *err = last;
    }
    return rc;
}

/* A first look that may be too old, for the tenant or for the registry's key, does not decide. */
static dk_rc judge_or_look_again(struct dk_core *core, const struct dk_key_name *name,
                                 const struct look *look, struct dk_err *err)
{
    struct dk_err first;
    dk_err_clear(&first);
    dk_rc rc = judge(core, name, look, false, &first);
    if (rc == DK_E_ROLLBACK || rc == DK_E_TAMPERED) {
        return read_last(core, name, look->find.key, err);
    }
    if (rc != DK_OK) {
        *err = first;
    }
    return rc;
}

dk_rc dk_loader_read_row(struct dk_core *core, const struct dk_key_name *name,
                         struct dk_key_row *out, struct dk_err *err)
{
    struct look look = look_for(name, out);
    struct dk_find find;
    struct dk_txn txn;
    DK_TRY(dk_registry_begin(core, DK_TXN_READ, &txn, err));
    dk_rc rc = look_in(core, &txn, &look, &find, 1, err);
    dk_store_rollback(&txn);
    return rc == DK_OK ? judge_or_look_again(core, name, &look, err) : rc;
}

dk_rc dk_loader_unwrap(struct dk_core *core, const struct dk_key_row *row, struct dk_secret *out,
                       struct dk_err *err)
{
    if (strcmp(row->wrap.provider, dk_provider_name(core->provider)) != 0) {
        return DK_FAIL(err, CONFIG, "version %u of tenant %s is wrapped by %s, KMS_PROVIDER is %s",
                       row->version, row->tenant.s, row->wrap.provider,
                       dk_provider_name(core->provider));
    }
    uint8_t check_value[DK_CHECK_VALUE];
    struct dk_secret key = {0};
    dk_rc rc = dk_registry_unwrap(core, dk_tenant_view(&row->tenant), DK_PURPOSE_DATA, &row->wrap,
                                  &key, err);
    if (rc == DK_E_AUTH || rc == DK_E_FORMAT) {
        err->rc = rc = DK_E_PROVIDER; /* not the value's fault: the wrapped key does not open */
    }
    if (rc == DK_OK) {
        rc = dk_check_value(&core->suite, &key, check_value, err);
    }
    if (rc == DK_OK && CRYPTO_memcmp(check_value, row->check_value, DK_CHECK_VALUE) != 0) {
        rc = DK_FAIL(err, TAMPERED, "version %u of tenant %s unwraps to another key", row->version,
                     row->tenant.s);
    }
    if (rc != DK_OK) {
        dk_secret_free(core->arena, &key);
        return dk_err_while(err, "unwrapping version %u of tenant %s", row->version, row->tenant.s);
    }
    *out = key;
    return DK_OK;
}

static dk_rc check_use(struct dk_core *core, const struct dk_key_name *name,
                       const struct dk_key_row *row, struct dk_err *err)
{
    if (name->version == DK_VERSION_ACTIVE) {
        return dk_state_check_encrypt(row, dk_wall_us(core->world), &core->limits, err);
    }
    return dk_state_check_open(row, err);
}

static void warn_if_due(struct dk_core *core, const struct dk_key_row *row)
{
    char when[DK_TIME_TEXT];
    if (dk_state_is_due(row, dk_wall_us(core->world), &core->limits)) {
        dk_time_format(row->expires_at, when);
        DK_LOG(&core->log, WARN, "key_due_for_rotation", DK_LOG_S(TENANT, row->tenant.s),
               DK_LOG_I(VERSION, row->version), DK_LOG_S(EXPIRES_AT, when));
    }
}

/* From a believed row to a key in hand. */
static dk_rc make_live(struct dk_core *core, const struct dk_key_name *name,
                       const struct dk_key_row *row, struct dk_live_key *out, struct dk_err *err)
{
    struct dk_secret key = {0};
    DK_TRY(check_use(core, name, row, err));
    DK_TRY(dk_loader_unwrap(core, row, &key, err));
    *out = (struct dk_live_key){
        .version = row->version,
        .messages = row->messages + dk_counts_pending(core->counts, &row->tenant, row->version)};
    dk_rc rc = dk_secret_new(core->arena, DK_FIELD_SECRET, &out->okm, err);
    if (rc == DK_OK) {
        rc = dk_field_derive(&core->suite, &key, &row->tenant, row->version, &out->okm, err);
    }
    dk_secret_free(core->arena, &key);
    if (rc != DK_OK) {
        dk_secret_free(core->arena, &out->okm);
        return rc;
    }
    if (name->version == DK_VERSION_ACTIVE) {
        warn_if_due(core, row);
    }
    return DK_OK;
}

/* The looks of one batch, and which name each is for. */
struct looks {
    struct look *look;
    struct dk_find *find;
    size_t *at;
    size_t count;
};

static void free_looks(const struct dk_mem *mem, struct looks *looks)
{
    dk_mem_free(mem, looks->look);
    dk_mem_free(mem, looks->find);
    dk_mem_free(mem, looks->at);
}

static dk_rc look_at_all(struct dk_core *core, struct looks *looks, struct dk_err *err)
{
    struct dk_txn txn;
    DK_TRY(dk_registry_begin(core, DK_TXN_READ, &txn, err));
    dk_rc rc = look_in(core, &txn, looks->look, looks->find, looks->count, err);
    dk_store_rollback(&txn);
    return rc;
}

/* Reads those whose answer is `only` at one moment; the missing active ones get E_NOT_FOUND. */
static dk_rc read_many(struct dk_core *core, const struct dk_key_name *names, size_t count,
                       struct dk_key_row *rows, dk_rc *rc, dk_rc only, struct dk_err *err)
{
    const struct dk_mem *mem = &core->world->mem;
    struct looks looks = {.look = dk_mem_alloc(mem, count * sizeof *looks.look),
                          .find = dk_mem_alloc(mem, count * sizeof *looks.find),
                          .at = dk_mem_alloc(mem, count * sizeof *looks.at)};
    bool room = looks.look != NULL && looks.find != NULL && looks.at != NULL;
    for (size_t i = 0; i < count && room; i++) {
        if (rc[i] == only) {
            looks.look[looks.count] = look_for(&names[i], &rows[i]);
            looks.at[looks.count++] = i;
        }
    }
    dk_rc all = room ? look_at_all(core, &looks, err)
                     : DK_FAIL(err, NOMEM, "no memory to look for %zu keys", count);
    for (size_t k = 0; k < looks.count && all == DK_OK; k++) {
        struct dk_err one;
        dk_err_clear(&one);
        size_t i = looks.at[k];
        rc[i] = judge_or_look_again(core, &names[i], &looks.look[k], &one);
        if (rc[i] != DK_OK) {
            *err = one;
        }
    }
    free_looks(mem, &looks);
    return all;
}

/* First use of the `n` names whose answer is E_NOT_FOUND; then they are read back (I06). */
static dk_rc create_and_read(struct dk_core *core, const struct dk_key_name *names, size_t count,
                             const struct dk_tenant **missing, dk_rc *created,
                             struct dk_key_row *rows, dk_rc *rc, struct dk_err *err)
{
    size_t n = 0;
    for (size_t i = 0; i < count; i++) {
        if (rc[i] == DK_E_NOT_FOUND) {
            missing[n++] = &names[i].tenant;
        }
    }
    DK_TRY(dk_create_first(core, missing, n, created, err));
    n = 0;
    for (size_t i = 0; i < count; i++) {
        if (rc[i] == DK_E_NOT_FOUND) {
            rc[i] = created[n] == DK_OK ? DK_E_CONFLICT : created[n]; /* E_CONFLICT: read it now */
            n++;
        }
    }
    DK_TRY(read_many(core, names, count, rows, rc, DK_E_CONFLICT, err));
    dk_trace(core->world, "first_use.read_back");
    return DK_OK;
}

static bool any_missing(const dk_rc *rc, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (rc[i] == DK_E_NOT_FOUND) {
            return true;
        }
    }
    return false;
}

static dk_rc create_missing(struct dk_core *core, const struct dk_key_name *names, size_t count,
                            struct dk_key_row *rows, dk_rc *rc, struct dk_err *err)
{
    const struct dk_mem *mem = &core->world->mem;
    if (!any_missing(rc, count)) {
        return DK_OK;
    }
    dk_err_clear(err); /* that they are not there is no error now */
    const struct dk_tenant **missing = dk_mem_alloc(mem, count * sizeof(*missing));
    dk_rc *created = dk_mem_alloc(mem, count * sizeof *created);
    dk_rc all = missing == NULL || created == NULL
                    ? DK_FAIL(err, NOMEM, "no memory for %zu new tenants", count)
                    : create_and_read(core, names, count, missing, created, rows, rc, err);
    dk_mem_free(mem, missing);
    dk_mem_free(mem, created);
    return all;
}

/* No key serves whose unwrap could not be written down (I26). */
static dk_rc audit_all(struct dk_core *core, const struct dk_key_row *rows, size_t count,
                       struct dk_live_key *keys, dk_rc *rc, struct dk_err *err)
{
    struct dk_err cause;
    dk_err_clear(&cause);
    dk_rc audited = dk_audit_unwraps(core, rows, rc, count, &cause);
    for (size_t i = 0; i < count && audited != DK_OK; i++) {
        if (rc[i] == DK_OK) {
            dk_secret_free(core->arena, &keys[i].okm);
            rc[i] = audited;
            *err = cause;
        }
    }
    return DK_OK;
}

static dk_rc load_many(void *self, const struct dk_key_name *names, size_t count,
                       struct dk_live_key *keys, dk_rc *rc, struct dk_err *err)
{
    struct dk_core *core = self;
    struct dk_key_row *rows = dk_mem_alloc(&core->world->mem, count * sizeof *rows);
    if (rows == NULL) {
        return DK_FAIL(err, NOMEM, "no memory for %zu rows", count);
    }
    for (size_t i = 0; i < count; i++) {
        rc[i] = DK_OK;
    }
    dk_rc all = read_many(core, names, count, rows, rc, DK_OK, err);
    if (all == DK_OK) {
        all = create_missing(core, names, count, rows, rc, err);
    }
    for (size_t i = 0; i < count && all == DK_OK; i++) {
        if (rc[i] == DK_OK) {
            struct dk_err one;
            dk_err_clear(&one);
            rc[i] = make_live(core, &names[i], &rows[i], &keys[i], &one);
            if (rc[i] != DK_OK) {
                *err = one;
            }
        }
    }
    if (all == DK_OK) {
        all = audit_all(core, rows, count, keys, rc, err);
    }
    dk_mem_free(&core->world->mem, rows);
    return all;
}

static dk_rc load(void *self, const struct dk_key_name *name, struct dk_live_key *out,
                  struct dk_err *err)
{
    dk_rc rc = DK_OK;
    struct dk_err cause;
    dk_err_clear(&cause);
    dk_rc all = load_many(self, name, 1, out, &rc, &cause);
    rc = all != DK_OK ? all : rc;
    if (rc != DK_OK) {
        *err = cause;
    }
    return rc;
}

struct dk_key_source dk_loader_source(struct dk_core *core)
{
    return (struct dk_key_source){.self = core, .get = load, .get_many = load_many};
}
