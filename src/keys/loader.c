#include "keys/loader.h"

#include <openssl/crypto.h>

#include "keys/audit.h"
#include "keys/counts.h"
#include "keys/create.h"
#include "keys/keyring.h"
#include "keys/registry.h"
#include "keys/states.h"

/* Without a tenant row there may be no key row either (I07). */
static dk_rc explain_no_tenant(struct dk_core *core, struct dk_txn *txn,
                               const struct dk_key_name *name, struct dk_key_row *scratch,
                               struct dk_err *err)
{
    struct dk_key_cursor start = {0};
    size_t count = 0;
    DK_TRY(
        txn->ops->key_list(txn->self, &name->tenant, DK_KEYS_ALL, &start, 1, scratch, &count, err));
    if (count > 0) {
        return DK_FAIL(err, TAMPERED, "tenant %s has key rows but no tenant row", name->tenant.s);
    }
    if (name->version != DK_VERSION_ACTIVE) {
        return DK_FAIL(err, UNKNOWN_VERSION,
                       "tenant %s has no key: is it the right tenant? (unknown key version %u)",
                       name->tenant.s, name->version);
    }
    DK_TRY(dk_audit_check(core, err)); /* an older registry may have forgotten the tenant */
    DK_TRY(dk_audit_check_unknown(core, txn, &name->tenant, err));
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

/* What a transaction has of a key, and of the rows of its tenant. */
struct found {
    struct dk_err tenant; /* E_ROLLBACK: they are older than there were */
    bool read;            /* `key` says what reading the row gave */
    dk_rc key;
};

static dk_rc read_alone(struct dk_txn *txn, const struct dk_key_name *name, struct dk_key_row *out,
                        struct dk_err *err)
{
    return name->version == DK_VERSION_ACTIVE
               ? txn->ops->key_read_active(txn->self, &name->tenant, out, err)
               : txn->ops->key_read(txn->self, &name->tenant, name->version, out, err);
}

static dk_rc read_key(struct dk_core *core, struct dk_txn *txn, const struct dk_key_name *name,
                      const struct found *found, struct dk_key_row *out, struct dk_err *err)
{
    struct dk_err none;
    dk_err_clear(&none);
    dk_rc rc = found->read ? found->key : read_alone(txn, name, out, &none);
    if (rc == DK_E_TAMPERED && found->read) {
        return DK_FAIL(err, TAMPERED, "a row of encryption_keys holds what dekhand does not write");
    }
    if (rc == DK_OK) {
        DK_TRY(dk_registry_verify_key(core, NULL, out, err));
        if (!dk_tenant_equal(&out->tenant, &name->tenant)) {
            return DK_FAIL(err, TAMPERED, "the row read for tenant %s is another's",
                           name->tenant.s);
        }
    } else if (rc != DK_E_NOT_FOUND) {
        *err = none;
        return rc;
    }
    /* Older rows than there were: nothing is encrypted; what is there still opens (I04). */
    if (found->tenant.rc != DK_OK && (name->version == DK_VERSION_ACTIVE || rc != DK_OK)) {
        *err = found->tenant;
        return err->rc;
    }
    return rc == DK_OK ? DK_OK : explain_no_key(name, err);
}

/*
 * `last`: what looks older is older. A first look may be into a snapshot from before a change that
 * another thread has seen meanwhile: it ends with E_ROLLBACK, and a new transaction decides.
 */
static dk_rc read_in(struct dk_core *core, struct dk_txn *txn, const struct dk_key_name *name,
                     bool last, struct dk_key_row *out, struct dk_err *err)
{
    struct dk_tenant_row tenant;
    struct found found = {.read = false};
    struct dk_err *cause = &found.tenant;
    dk_err_clear(cause);
    dk_rc rc = dk_audit_tenant(core, txn, &name->tenant, &tenant, cause);
    if (rc == DK_E_NOT_FOUND) {
        return explain_no_tenant(core, txn, name, out, err);
    }
    bool older = rc == DK_OK && dk_audit_check(core, cause) != DK_OK; /* told already */
    if (rc == DK_OK && !older) {
        rc = dk_audit_find_key(core, txn, &tenant, name->version, out, &found.key, cause);
        found.read = true;
    }
    if (rc != DK_OK && (rc != DK_E_ROLLBACK || (!last && !older))) {
        *err = *cause;
        return rc;
    }
    if (rc == DK_E_ROLLBACK) {
        DK_LOG(&core->log, ERROR, "tenant_went_back", DK_LOG_S(TENANT, name->tenant.s),
               DK_LOG_S(REASON, cause->text));
    }
    return read_key(core, txn, name, &found, out, err);
}

static dk_rc read_last(struct dk_core *core, const struct dk_key_name *name, struct dk_key_row *out,
                       struct dk_err *err)
{
    struct dk_txn txn;
    struct dk_err last;
    dk_rc rc = DK_E_TAMPERED;
    bool again = true;
    for (int i = 0; i < DK_REGISTRY_TRIES && again; i++) {
        dk_err_clear(&last);
        DK_TRY(dk_registry_begin(core, DK_TXN_READ, &txn, err));
        rc = read_in(core, &txn, name, true, out, &last);
        dk_store_rollback(&txn);
        again = dk_registry_again(core, &txn, rc);
    }
    if (rc != DK_OK) {
        *err = last;
    }
    return rc;
}

/*
 * In this transaction; in one of its own when this one may be too old: for the tenant, or for the
 * registry key that another thread has followed meanwhile.
 */
static dk_rc read_row(struct dk_core *core, struct dk_txn *txn, const struct dk_key_name *name,
                      struct dk_key_row *out, struct dk_err *err)
{
    struct dk_err first;
    dk_err_clear(&first);
    dk_rc rc = read_in(core, txn, name, false, out, &first);
    if (rc == DK_E_ROLLBACK || rc == DK_E_TAMPERED) {
        return read_last(core, name, out, err);
    }
    if (rc != DK_OK) {
        *err = first;
    }
    return rc;
}

dk_rc dk_loader_read_row(struct dk_core *core, const struct dk_key_name *name,
                         struct dk_key_row *out, struct dk_err *err)
{
    struct dk_txn txn;
    DK_TRY(dk_registry_begin(core, DK_TXN_READ, &txn, err));
    dk_rc rc = read_row(core, &txn, name, out, err);
    dk_store_rollback(&txn);
    return rc;
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

/* Reads all rows in one transaction; the missing active ones keep E_NOT_FOUND. */
static dk_rc read_many(struct dk_core *core, const struct dk_key_name *names, size_t count,
                       struct dk_key_row *rows, dk_rc *rc, dk_rc only, struct dk_err *err)
{
    struct dk_txn txn;
    DK_TRY(dk_registry_begin(core, DK_TXN_READ, &txn, err));
    for (size_t i = 0; i < count; i++) {
        if (rc[i] == only) {
            struct dk_err one;
            dk_err_clear(&one);
            rc[i] = read_row(core, &txn, &names[i], &rows[i], &one);
            if (rc[i] != DK_OK) {
                *err = one;
            }
        }
    }
    dk_store_rollback(&txn);
    return DK_OK;
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
