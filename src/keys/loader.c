#include "keys/loader.h"

#include "keys/audit.h"
#include "keys/counts.h"
#include "keys/create.h"
#include "keys/keyring.h"
#include "keys/registry.h"
#include "keys/states.h"
#include "keys/unwrap.h"

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

/* What the store has of a key, and of all key rows of its tenant. */
struct look {
    struct dk_find *find;
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
    const struct dk_find *find = look->find;
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

struct looking {
    const struct dk_core *core;
    struct look *looks;
    void (*found)(void *arg, size_t i); /* may be NULL */
    void *arg;
    dk_rc rc;
    struct dk_err *err;
};

static bool add_mac(void *arg, size_t i, uint32_t version, const char *row_mac)
{
    struct looking *looking = arg;
    looking->rc =
        dk_digest_add(looking->core, &looking->looks[i].digest, version, row_mac, looking->err);
    return looking->rc == DK_OK;
}

static void tell_found(void *arg, size_t i)
{
    const struct looking *looking = arg;
    if (looking->found != NULL) {
        looking->found(looking->arg, i);
    }
}

static dk_rc look_in(struct looking *looking, struct dk_txn *txn, struct dk_find *finds,
                     size_t count)
{
    const struct dk_find_calls calls = {add_mac, tell_found, looking};
    for (size_t i = 0; i < count; i++) {
        looking->looks[i] = (struct look){.find = &finds[i]};
    }
    DK_TRY(txn->ops->find_many(txn->self, finds, count, &calls, looking->err));
    return looking->rc;
}

static struct dk_find find_for(const struct dk_key_name *name, struct dk_key_row *out)
{
    return (struct dk_find){.tenant = &name->tenant, .version = name->version, .key = out};
}

/* One key, in a transaction of its own. */
static dk_rc look_at_one(struct dk_core *core, struct dk_find *find, struct look *look,
                         struct dk_txn *txn, struct dk_err *err)
{
    struct looking looking = {.core = core, .looks = look, .err = err};
    DK_TRY(dk_registry_begin(core, DK_TXN_READ, txn, err));
    dk_rc rc = look_in(&looking, txn, find, 1);
    dk_store_rollback(txn);
    return rc;
}

/* Again while other threads take other registry keys. */
static dk_rc read_last(struct dk_core *core, const struct dk_key_name *name, struct dk_key_row *out,
                       struct dk_err *err)
{
    struct dk_txn txn;
    struct dk_err last;
    dk_rc rc = DK_E_TAMPERED;
    bool again = true;
    for (int i = 0; i < DK_REGISTRY_TRIES && again; i++) {
        struct dk_find find = find_for(name, out);
        struct look look;
        dk_err_clear(&last);
        DK_TRY(look_at_one(core, &find, &look, &txn, err));
        rc = judge(core, name, &look, true, &last);
        again = dk_registry_again(core, &txn, rc);
    }
    if (rc != DK_OK) {
        *err = last;
    }
    return rc;
}

/* A first look that may be too old, for the tenant or for the registry's key, does not decide. */
static bool is_no_answer(dk_rc rc)
{
    return rc == DK_E_ROLLBACK || rc == DK_E_TAMPERED;
}

dk_rc dk_loader_read_row(struct dk_core *core, const struct dk_key_name *name,
                         struct dk_key_row *out, struct dk_err *err)
{
    struct dk_find find = find_for(name, out);
    struct look look;
    struct dk_txn txn;
    struct dk_err first;
    DK_TRY(look_at_one(core, &find, &look, &txn, err));
    dk_err_clear(&first);
    dk_rc rc = judge(core, name, &look, false, &first);
    if (is_no_answer(rc)) {
        return read_last(core, name, out, err);
    }
    if (rc != DK_OK) {
        *err = first;
    }
    return rc;
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

static int64_t known_messages(const struct dk_core *core, const struct dk_key_row *row)
{
    return row->messages + dk_counts_pending(core->counts, &row->tenant, row->version);
}

/* From a data key, which goes, to a key in hand. */
static dk_rc derive(struct dk_core *core, const struct dk_key_name *name,
                    const struct dk_key_row *row, struct dk_secret *key, struct dk_live_key *out,
                    struct dk_err *err)
{
    *out = (struct dk_live_key){.version = row->version, .messages = known_messages(core, row)};
    dk_rc rc = dk_secret_new(core->arena, DK_FIELD_SECRET, &out->okm, err);
    if (rc == DK_OK) {
        rc = dk_field_derive(&core->suite, key, &row->tenant, row->version, &out->okm, err);
    }
    dk_secret_free(core->arena, key);
    if (rc != DK_OK) {
        dk_secret_free(core->arena, &out->okm);
        return rc;
    }
    if (name->version == DK_VERSION_ACTIVE) {
        warn_if_due(core, row);
    }
    return DK_OK;
}

/* ---- many ------------------------------------------------------------------------------------ */

/* What a batch is asked for, and its answers. */
struct load {
    struct dk_core *core;
    const struct dk_key_name *names;
    size_t count;
    struct dk_key_row *rows;
    struct dk_live_key *keys;
    dk_rc *rc;
    struct dk_err *err; /* of the last that failed */
};

/* Those of a batch that are read at one moment. */
struct reading {
    struct load *load;
    struct look *looks;
    struct dk_find *finds;
    size_t *at; /* which name each is for */
    size_t count;
};

static void fail_one(struct load *load, size_t i, dk_rc rc, const struct dk_err *err)
{
    load->rc[i] = rc;
    if (rc != DK_OK) {
        *load->err = *err;
    }
}

static void take_unwrapped(struct load *load, size_t i, struct dk_unwrapping *unwrapped)
{
    struct dk_err *err = &unwrapped->err;
    if (err->rc == DK_OK) {
        (void)derive(load->core, &load->names[i], &load->rows[i], &unwrapped->key, &load->keys[i],
                     err);
    }
    fail_one(load, i, err->rc, err);
}

/* By a provider that waits for nobody. */
static void make_one_live(struct load *load, size_t i)
{
    struct dk_unwrapping one = {.row = &load->rows[i]};
    dk_err_clear(&one.err);
    if (check_use(load->core, &load->names[i], one.row, &one.err) == DK_OK &&
        dk_unwrap(load->core, one.row, &one.key, &one.err) != DK_OK) {
        one.key = (struct dk_secret){0};
    }
    take_unwrapped(load, i, &one);
}

/* The key that encrypts may be in memory by its version's name: it is as old as that. */
static bool borrow(struct load *load, size_t i)
{
    const struct dk_key_row *row = &load->rows[i];
    const struct dk_key_lender *lender = load->core->lender;
    struct dk_live_key *out = &load->keys[i];
    struct dk_err err;
    if (lender == NULL || load->names[i].version != DK_VERSION_ACTIVE) {
        return false;
    }
    dk_err_clear(&err);
    dk_rc rc =
        lender->lend(lender->self, &load->names[i], row->version, load->count == 1, out, &err);
    if (rc == DK_OK) {
        out->messages = known_messages(load->core, row);
        warn_if_due(load->core, row);
    } else if (rc != DK_E_NOT_FOUND) {
        fail_one(load, i, rc, &err);
    }
    return rc != DK_E_NOT_FOUND;
}

/* All that are to be unwrapped yet, as many at once as there is room for in the arena. */
static void make_many_live(struct load *load, const size_t *at, size_t count,
                           struct dk_unwrapping *list, size_t *whose)
{
    size_t n = 0;
    for (size_t k = 0; k < count; k++) {
        size_t i = at[k];
        struct dk_err err;
        dk_err_clear(&err);
        bool waits = load->rc[i] == DK_OK && load->keys[i].version == 0;
        if (waits && check_use(load->core, &load->names[i], &load->rows[i], &err) != DK_OK) {
            fail_one(load, i, err.rc, &err);
        } else if (waits && !borrow(load, i)) {
            list[n].row = &load->rows[i];
            whose[n++] = i;
        }
        if (n == DK_UNWRAP_MOST || (k + 1 == count && n > 0)) {
            dk_unwrap_many(load->core, list, n);
            for (size_t j = 0; j < n; j++) {
                take_unwrapped(load, whose[j], &list[j]);
            }
            n = 0;
        }
    }
}

/* While others are still on their way; what is not at hand is unwrapped when all are there. */
static void take_found(void *arg, size_t k)
{
    const struct reading *reading = arg;
    struct load *load = reading->load;
    size_t i = reading->at[k];
    struct dk_err err;
    dk_err_clear(&err);
    fail_one(load, i, judge(load->core, &load->names[i], &reading->looks[k], false, &err), &err);
    if (load->rc[i] == DK_OK && dk_create_at_hand(load->core)) {
        make_one_live(load, i);
    }
}

/* The transaction is over: what a first look does not decide. */
static void finish_one(struct load *load, size_t i)
{
    struct dk_err err;
    dk_err_clear(&err);
    if (is_no_answer(load->rc[i])) {
        fail_one(load, i, read_last(load->core, &load->names[i], &load->rows[i], &err), &err);
    }
}

/* And what is to be unwrapped yet. */
static dk_rc finish_all(struct reading *reading)
{
    struct load *load = reading->load;
    const struct dk_mem *mem = &load->core->world->mem;
    size_t most = reading->count < DK_UNWRAP_MOST ? reading->count : DK_UNWRAP_MOST;
    for (size_t k = 0; k < reading->count; k++) {
        finish_one(load, reading->at[k]);
    }
    if (most == 0) {
        return DK_OK;
    }
    struct dk_unwrapping *list = dk_mem_alloc(mem, most * sizeof *list);
    size_t *whose = dk_mem_alloc(mem, most * sizeof *whose);
    bool room = list != NULL && whose != NULL;
    if (room) {
        make_many_live(load, reading->at, reading->count, list, whose);
    }
    dk_mem_free(mem, list);
    dk_mem_free(mem, whose);
    if (!room) {
        dk_err_clear(load->err); /* one of a single key is none of all */
        return DK_FAIL(load->err, NOMEM, "no memory to unwrap %zu keys", most);
    }
    return DK_OK;
}

static dk_rc read_all(struct reading *reading)
{
    struct load *load = reading->load;
    struct dk_err cause; /* of the whole; those of single keys are told meanwhile */
    struct looking looking = {.core = load->core,
                              .looks = reading->looks,
                              .found = take_found,
                              .arg = reading,
                              .err = &cause};
    struct dk_txn txn;
    dk_err_clear(&cause);
    DK_TRY(dk_registry_begin(load->core, DK_TXN_READ, &txn, load->err));
    dk_rc rc = look_in(&looking, &txn, reading->finds, reading->count);
    dk_store_rollback(&txn);
    if (rc != DK_OK) {
        *load->err = cause;
        return rc;
    }
    return finish_all(reading);
}

/* Reads those whose answer is `only` at one moment; the missing active ones get E_NOT_FOUND. */
static dk_rc read_many(struct load *load, dk_rc only)
{
    const struct dk_mem *mem = &load->core->world->mem;
    struct reading reading = {.load = load,
                              .looks = dk_mem_alloc(mem, load->count * sizeof *reading.looks),
                              .finds = dk_mem_alloc(mem, load->count * sizeof *reading.finds),
                              .at = dk_mem_alloc(mem, load->count * sizeof *reading.at)};
    bool room = reading.looks != NULL && reading.finds != NULL && reading.at != NULL;
    for (size_t i = 0; i < load->count && room; i++) {
        if (load->rc[i] == only) {
            reading.finds[reading.count] = find_for(&load->names[i], &load->rows[i]);
            reading.at[reading.count++] = i;
        }
    }
    dk_rc all = room ? read_all(&reading)
                     : DK_FAIL(load->err, NOMEM, "no memory to look for %zu keys", load->count);
    dk_mem_free(mem, reading.looks);
    dk_mem_free(mem, reading.finds);
    dk_mem_free(mem, reading.at);
    return all;
}

/* First use of the names whose answer is E_NOT_FOUND; then they are read back (I06). */
static dk_rc create_and_read(struct load *load, const struct dk_tenant **missing, dk_rc *created)
{
    size_t n = 0;
    for (size_t i = 0; i < load->count; i++) {
        if (load->rc[i] == DK_E_NOT_FOUND) {
            missing[n++] = &load->names[i].tenant;
        }
    }
    DK_TRY(dk_create_first(load->core, missing, n, created, load->err));
    n = 0;
    for (size_t i = 0; i < load->count; i++) {
        if (load->rc[i] == DK_E_NOT_FOUND) { /* E_CONFLICT: read it now */
            load->rc[i] = created[n] == DK_OK ? DK_E_CONFLICT : created[n];
            n++;
        }
    }
    DK_TRY(read_many(load, DK_E_CONFLICT));
    dk_trace(load->core->world, "first_use.read_back");
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

static dk_rc create_missing(struct load *load)
{
    const struct dk_mem *mem = &load->core->world->mem;
    if (!any_missing(load->rc, load->count)) {
        return DK_OK;
    }
    dk_err_clear(load->err); /* that they are not there is no error now */
    const struct dk_tenant **missing = dk_mem_alloc(mem, load->count * sizeof(*missing));
    dk_rc *created = dk_mem_alloc(mem, load->count * sizeof *created);
    dk_rc all = missing == NULL || created == NULL
                    ? DK_FAIL(load->err, NOMEM, "no memory for %zu new tenants", load->count)
                    : create_and_read(load, missing, created);
    dk_mem_free(mem, missing);
    dk_mem_free(mem, created);
    return all;
}

/* What was lent was written down when it was opened. */
static void set_lent(struct load *load, dk_rc rc)
{
    for (size_t i = 0; i < load->count; i++) {
        load->rc[i] = load->keys[i].lent ? rc : load->rc[i];
    }
}

/* No key serves whose unwrap could not be written down (I26). */
static void audit_all(struct load *load)
{
    struct dk_err cause;
    dk_err_clear(&cause);
    set_lent(load, DK_E_NOT_FOUND);
    dk_rc audited = dk_audit_unwraps(load->core, load->rows, load->rc, load->count, &cause);
    for (size_t i = 0; i < load->count && audited != DK_OK; i++) {
        if (load->rc[i] == DK_OK) {
            dk_secret_free(load->core->arena, &load->keys[i].okm);
            fail_one(load, i, audited, &cause);
        }
    }
    set_lent(load, DK_OK);
}

static dk_rc load_many(void *self, const struct dk_key_name *names, size_t count,
                       struct dk_live_key *keys, dk_rc *rc, struct dk_err *err)
{
    struct dk_core *core = self;
    struct load load = {core, names, count, NULL, keys, rc, err};
    load.rows = dk_mem_alloc(&core->world->mem, count * sizeof *load.rows);
    if (load.rows == NULL) {
        return DK_FAIL(err, NOMEM, "no memory for %zu rows", count);
    }
    for (size_t i = 0; i < count; i++) {
        rc[i] = DK_OK;
        keys[i] = (struct dk_live_key){.version = 0};
    }
    dk_rc all = read_many(&load, DK_OK);
    all = all == DK_OK ? create_missing(&load) : all;
    if (all == DK_OK) {
        audit_all(&load);
    }
    for (size_t i = 0; i < count && all != DK_OK; i++) {
        dk_secret_free(core->arena, &keys[i].okm);
    }
    dk_mem_free(&core->world->mem, load.rows);
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
