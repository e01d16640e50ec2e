#include "keys/audit.h"

#include <stdio.h>

#include "keys/audit_state.h"
#include "keys/epochs.h"
#include "keys/keyring.h"
#include "keys/registry.h"

#define DIGEST_MARK 0x01
#define UNWRAP_TEXT 12 /* in a list: a colon, a version, and a space or the NUL */

/* ---- open, close, fork ----------------------------------------------------------------------- */

static dk_rc new_chain_locked(struct dk_core *core, struct dk_err *err)
{
    struct dk_audit *audit = core->audit;
    uint8_t bytes[8];
    char hex[2 * sizeof bytes + 1];
    DK_TRY(dk_random_fill(core->world, bytes, sizeof bytes, err));
    dk_hex_encode(bytes, sizeof bytes, hex);
    pthread_mutex_lock(&audit->node_lock);
    snprintf(audit->node, sizeof audit->node, "%s/%s", core->host, hex);
    pthread_mutex_unlock(&audit->node_lock);
    audit->head[0] = '\0';
    audit->in_doubt = false;
    return DK_OK;
}

dk_rc dk_audit_new_chain(struct dk_core *core, struct dk_err *err)
{
    pthread_mutex_lock(&core->audit->lock);
    dk_rc rc = new_chain_locked(core, err);
    pthread_mutex_unlock(&core->audit->lock);
    return rc;
}

dk_rc dk_audit_open(struct dk_core *core, struct dk_err *err)
{
    struct dk_audit *audit = dk_mem_zalloc(&core->world->mem, sizeof *audit);
    if (audit == NULL) {
        return DK_FAIL(err, NOMEM, "no memory for the audit");
    }
    pthread_mutex_init(&audit->lock, NULL);
    pthread_mutex_init(&audit->node_lock, NULL);
    core->audit = audit;
    DK_TRY(dk_epochs_open(core->world, core->limits.max_keys, &audit->epochs, err));
    return dk_audit_new_chain(core, err);
}

void dk_audit_close(struct dk_core *core)
{
    if (core->audit != NULL) {
        pthread_mutex_destroy(&core->audit->lock);
        pthread_mutex_destroy(&core->audit->node_lock);
        dk_epochs_close(core->audit->epochs);
        dk_mem_free(&core->world->mem, core->audit);
        core->audit = NULL;
    }
}

void dk_audit_forget(struct dk_core *core)
{
    pthread_mutex_init(&core->audit->lock, NULL);
    pthread_mutex_init(&core->audit->node_lock, NULL);
    dk_epochs_after_fork(core->audit->epochs);
}

dk_rc dk_audit_after_fork(struct dk_core *core, struct dk_err *err)
{
    dk_audit_forget(core);
    return dk_audit_new_chain(core, err);
}

/* ---- one change ------------------------------------------------------------------------------ */

void dk_change_init(struct dk_change *change, const struct dk_core *core, struct dk_txn *txn)
{
    *change = (struct dk_change){.mem = &core->world->mem, .txn = txn};
}

void dk_change_clear(struct dk_change *change)
{
    dk_mem_free(change->mem, change->heads);
    change->heads = NULL;
    change->n = change->cap = 0;
}

static dk_rc add_head(struct dk_change *change, const char *line, size_t n, struct dk_err *err)
{
    if (change->n + n + 1 > change->cap) {
        size_t cap = (change->cap + n + 128) * 2;
        char *heads = dk_mem_alloc(change->mem, cap);
        if (heads == NULL) {
            return DK_FAIL(err, NOMEM, "no memory for a seal");
        }
        if (change->n > 0) {
            memcpy(heads, change->heads, change->n);
        }
        dk_mem_free(change->mem, change->heads);
        change->heads = heads;
        change->cap = cap;
    }
    memcpy(change->heads + change->n, line, n + 1);
    change->n += n;
    return DK_OK;
}

dk_rc dk_audit_add_tenant(struct dk_change *change, const char *tenant, int64_t epoch,
                          const char *head, struct dk_err *err)
{
    char line[DK_TENANT_MAX + DK_MAC_TEXT + 40];
    int n = snprintf(line, sizeof line, "tenant %s %lld %s\n", tenant, (long long)epoch,
                     head[0] != '\0' ? head : "-");
    return add_head(change, line, (size_t)n, err);
}

dk_rc dk_audit_add_process(struct dk_change *change, const char *node, const char *head,
                           struct dk_err *err)
{
    char line[2 * DK_ACTOR_MAX];
    int n = snprintf(line, sizeof line, "process %s %s\n", node, head);
    return add_head(change, line, (size_t)n, err);
}

dk_rc dk_audit_add_head(struct dk_change *change, const struct dk_tenant_row *tenant,
                        struct dk_err *err)
{
    return dk_audit_add_tenant(change, tenant->tenant.s, tenant->epoch, tenant->log_head, err);
}

dk_rc dk_change_add(struct dk_change *change, const char *line, struct dk_err *err)
{
    return add_head(change, line, strlen(line), err);
}

dk_rc dk_seal_hash(const struct dk_core *core, const char *mac, char out[static DK_HASH_TEXT],
                   struct dk_err *err)
{
    uint8_t hash[DK_SHA256_LEN];
    DK_TRY(dk_sha256(&core->suite, dk_view_str(mac), hash, err));
    dk_hex_encode(hash, sizeof hash, out);
    return DK_OK;
}

struct read_seal {
    struct dk_core *core;
    int64_t n;
    bool hash_only;
    struct dk_seal *out;
    dk_rc rc;
    struct dk_err *err;
};

static bool read_seal(void *arg, const struct dk_seal_row *row)
{
    struct read_seal *read = arg;
    if (row->n != read->n) {
        return false; /* the walk begins at the next one that is there */
    }
    read->rc = read->hash_only ? DK_OK : dk_registry_verify_seal(read->core, NULL, row, read->err);
    if (read->rc == DK_OK) {
        read->rc = dk_seal_hash(read->core, row->mac, read->out->hash, read->err);
        read->out->n = row->n;
    }
    return false;
}

static dk_rc read_one(struct dk_core *core, struct dk_txn *txn, int64_t n, bool hash_only,
                      struct dk_seal *out, struct dk_err *err)
{
    struct dk_seal seal = {.n = 0};
    struct read_seal read = {core, n, hash_only, &seal, DK_E_NOT_FOUND, err};
    DK_TRY(txn->ops->seal_walk(txn->self, n, read_seal, &read, err));
    if (read.rc == DK_E_NOT_FOUND) {
        return DK_FAIL(err, NOT_FOUND, "there is no seal %lld", (long long)n);
    }
    if (read.rc != DK_OK) {
        return dk_err_while(err, "reading seal %lld", (long long)n);
    }
    *out = seal;
    return DK_OK;
}

dk_rc dk_seal_read(struct dk_core *core, struct dk_txn *txn, int64_t n, struct dk_seal *out,
                   struct dk_err *err)
{
    return read_one(core, txn, n, n <= dk_registry_boundary(core), out, err);
}

dk_rc dk_seal_newest(struct dk_core *core, struct dk_txn *txn, struct dk_seal *out,
                     struct dk_err *err)
{
    struct dk_seal_row row;
    DK_TRY(txn->ops->seal_newest(txn->self, &row, err));
    if (row.n > 0) {
        return read_one(core, txn, row.n, false, out, err);
    }
    *out = (struct dk_seal){.n = 0};
    return DK_OK;
}

dk_rc dk_change_seal(struct dk_core *core, struct dk_change *change, struct dk_err *err)
{
    struct dk_seal newest;
    struct dk_seal_row seal = {.at = dk_wall_us(core->world)};
    if (core->store.ops->seals_apart && change->txn->mode == DK_TXN_WRITE) {
        atomic_store(&core->audit->unsealed, true);
        return DK_OK;
    }
    DK_TRY(dk_seal_newest(core, change->txn, &newest, err));
    memcpy(seal.prev, newest.hash, sizeof seal.prev);
    seal.n = newest.n + 1;
    seal.heads = change->n > 0 ? change->heads : "";
    DK_TRY(dk_registry_seal_seal(core, change->keys, &seal, err));
    DK_TRY(change->txn->ops->seal_append(change->txn->self, &seal, err));
    dk_trace(core->world, "change.sealed");
    return DK_OK;
}

bool dk_audit_has_unsealed(struct dk_core *core)
{
    return atomic_exchange(&core->audit->unsealed, false);
}

/* ---- rows ------------------------------------------------------------------------------------ */

void dk_audit_node(const struct dk_core *core, char out[static DK_ACTOR_MAX + 1])
{
    struct dk_audit *audit = core->audit;
    pthread_mutex_lock(&audit->node_lock);
    memcpy(out, audit->node, DK_ACTOR_MAX + 1);
    pthread_mutex_unlock(&audit->node_lock);
}

dk_rc dk_audit_row(const struct dk_core *core, const char *by, const char *tenant,
                   const char *operation, struct dk_log_row *out, struct dk_err *err)
{
    *out = (struct dk_log_row){.success = true, .detail = ""};
    snprintf(out->tenant, sizeof out->tenant, "%s", tenant);
    snprintf(out->operation, sizeof out->operation, "%s", operation);
    snprintf(out->performed_by, sizeof out->performed_by, "%s", by != NULL ? by : core->actor);
    dk_audit_node(core, out->node);
    out->performed_at = dk_wall_us(core->world);
    return dk_uuid_new(core->world, out->id, err);
}

static dk_rc chain(const struct dk_core *core, const struct dk_registry_keys *keys,
                   char head[static DK_MAC_TEXT], struct dk_log_row *row, struct dk_err *err)
{
    memcpy(row->prev, head, DK_MAC_TEXT);
    DK_TRY(dk_registry_seal_log(core, keys, row, err));
    memcpy(head, row->mac, DK_MAC_TEXT);
    return DK_OK;
}

dk_rc dk_audit_chain(const struct dk_core *core, struct dk_tenant_row *tenant,
                     struct dk_log_row *row, struct dk_err *err)
{
    return chain(core, NULL, tenant->log_head, row, err);
}

dk_rc dk_audit_store(struct dk_change *change, const struct dk_tenant_row *tenant,
                     const struct dk_log_row *row, struct dk_err *err)
{
    DK_TRY(change->txn->ops->log_append(change->txn->self, row, err));
    return dk_audit_add_head(change, tenant, err);
}

dk_rc dk_audit_believe(const struct dk_core *core, const struct dk_tenant *tenant,
                       const struct dk_tenant_row *row, struct dk_err *err)
{
    DK_TRY(dk_registry_verify_tenant(core, NULL, row, err));
    if (!dk_tenant_equal(&row->tenant, tenant)) {
        return DK_FAIL(err, TAMPERED, "the row read for tenant %s is another's", tenant->s);
    }
    if (row->keys_digest[0] == '\0') {
        return DK_FAIL(err, SCHEMA, "the rows of tenant %s are not chained yet: run `dekhand init`",
                       tenant->s);
    }
    return DK_OK;
}

dk_rc dk_audit_tenant(struct dk_core *core, struct dk_txn *txn, const struct dk_tenant *tenant,
                      struct dk_tenant_row *out, struct dk_err *err)
{
    DK_TRY(txn->ops->tenant_read(txn->self, tenant, out, err));
    return dk_audit_believe(core, tenant, out, err);
}

dk_rc dk_audit_update_tenant(struct dk_core *core, struct dk_txn *txn, struct dk_tenant_row *row,
                             int64_t old_epoch, struct dk_err *err)
{
    bool changed = false;
    DK_TRY(dk_registry_seal_tenant(core, NULL, row, err));
    DK_TRY(txn->ops->tenant_update(txn->self, row, old_epoch, &changed, err));
    return changed ? DK_OK
                   : DK_FAIL(err, CONFLICT, "tenant %s was changed by another at the same time",
                             row->tenant.s);
}

static dk_rc write_in(struct dk_core *core, struct dk_change *change,
                      const struct dk_tenant *tenant, struct dk_log_row *row, struct dk_err *err)
{
    struct dk_tenant_row now;
    DK_TRY(dk_audit_tenant(core, change->txn, tenant, &now, err));
    DK_TRY(dk_audit_chain(core, &now, row, err));
    DK_TRY(dk_audit_update_tenant(core, change->txn, &now, now.epoch, err));
    DK_TRY(dk_audit_store(change, &now, row, err));
    DK_TRY(dk_change_seal(core, change, err));
    return dk_store_commit(change->txn, err);
}

dk_rc dk_audit_write(struct dk_core *core, const struct dk_tenant *tenant, struct dk_log_row *row,
                     struct dk_err *err)
{
    struct dk_txn txn;
    struct dk_change change;
    DK_TRY(dk_registry_begin(core, DK_TXN_WRITE, &txn, err));
    dk_change_init(&change, core, &txn);
    dk_rc rc = write_in(core, &change, tenant, row, err);
    dk_change_clear(&change);
    dk_store_rollback(&txn);
    return rc;
}

/* ---- unwraps --------------------------------------------------------------------------------- */

/* `tenant:version` of each, with a space between. */
static char *list_unwraps(const struct dk_core *core, const struct dk_key_row *rows,
                          const dk_rc *rc, size_t count)
{
    size_t cap = 1;
    for (size_t i = 0; i < count; i++) {
        cap += rc[i] == DK_OK ? rows[i].tenant.n + UNWRAP_TEXT : 0;
    }
    char *list = dk_mem_alloc(&core->world->mem, cap);
    char *p = list;
    for (size_t i = 0; i < count && list != NULL; i++) {
        if (rc[i] == DK_OK) {
            *p = ' ';
            p += p != list;
            memcpy(p, rows[i].tenant.s, rows[i].tenant.n);
            p += rows[i].tenant.n;
            p += snprintf(p, UNWRAP_TEXT, ":%u", rows[i].version);
        }
    }
    return list;
}

dk_rc dk_audit_store_here(struct dk_core *core, struct dk_change *change, struct dk_log_row *row,
                          char head[static DK_MAC_TEXT], struct dk_err *err)
{
    if (core->audit->in_doubt) {
        DK_TRY(new_chain_locked(core, err));
    }
    dk_audit_node(core, row->node); /* it may have a new name since the row was begun */
    memcpy(head, core->audit->head, DK_MAC_TEXT);
    DK_TRY(chain(core, change->keys, head, row, err));
    DK_TRY(change->txn->ops->log_append(change->txn->self, row, err));
    return dk_audit_add_process(change, row->node, head, err);
}

/*
 * A commit that ends with an error may have come through (its sync failed, and the next connection
 * found the rows in the log of the database). A row behind the old head would fork the chain then,
 * so the chain ends here.
 */
dk_rc dk_audit_commit_here(struct dk_core *core, struct dk_txn *txn,
                           const char head[static DK_MAC_TEXT], struct dk_err *err)
{
    struct dk_audit *audit = core->audit;
    dk_rc rc = dk_store_commit(txn, err);
    audit->in_doubt = rc != DK_OK;
    if (rc == DK_OK) {
        memcpy(audit->head, head, DK_MAC_TEXT);
    }
    return rc;
}

static dk_rc change_here_locked(struct dk_core *core, struct dk_log_row *row,
                                const struct dk_audit_change *with, struct dk_err *err)
{
    struct dk_txn txn;
    struct dk_change change;
    char head[DK_MAC_TEXT];
    DK_TRY(dk_registry_begin(core, DK_TXN_WRITE, &txn, err));
    dk_change_init(&change, core, &txn);
    dk_rc rc = with != NULL ? with->make(with->arg, &txn, err) : DK_OK;
    rc = rc == DK_OK ? dk_audit_store_here(core, &change, row, head, err) : rc;
    rc = rc == DK_OK ? dk_change_seal(core, &change, err) : rc;
    dk_trace(core->world, "unwrap.log_written");
    rc = rc == DK_OK ? dk_audit_commit_here(core, &txn, head, err) : rc;
    dk_change_clear(&change);
    dk_store_rollback(&txn);
    return rc;
}

dk_rc dk_audit_change_here(struct dk_core *core, struct dk_log_row *row,
                           const struct dk_audit_change *with, struct dk_err *err)
{
    pthread_mutex_lock(&core->audit->lock);
    dk_rc rc = change_here_locked(core, row, with, err);
    pthread_mutex_unlock(&core->audit->lock);
    return rc;
}

dk_rc dk_audit_write_here(struct dk_core *core, struct dk_log_row *row, struct dk_err *err)
{
    return dk_audit_change_here(core, row, NULL, err);
}

static dk_rc write_unwraps(struct dk_core *core, struct dk_log_row *row, struct dk_err *err)
{
    dk_rc rc = dk_audit_write_here(core, row, err);
    if (rc == DK_E_READ_ONLY) {
        DK_LOG(&core->log, WARN, "unwrap_not_audited", DK_LOG_S(TENANT, row->tenant),
               DK_LOG_S(CODE, dk_error_info(rc)->name), DK_LOG_S(REASON, err->text));
        dk_err_clear(err);
        return DK_OK;
    }
    return rc;
}

dk_rc dk_audit_unwraps(struct dk_core *core, const struct dk_key_row *rows, const dk_rc *rc,
                       size_t count, struct dk_err *err)
{
    size_t n = 0, last = 0;
    for (size_t i = 0; i < count; i++) {
        n += rc[i] == DK_OK;
        last = rc[i] == DK_OK ? i : last;
    }
    if (n == 0) {
        return DK_OK;
    }
    struct dk_log_row row;
    struct dk_err cause;
    dk_err_clear(&cause);
    DK_TRY(dk_audit_row(core, NULL, n == 1 ? rows[last].tenant.s : "*", "decrypt", &row, err));
    char *list = NULL;
    if (n == 1) {
        row.from_version = rows[last].version;
    } else if ((list = list_unwraps(core, rows, rc, count)) == NULL) {
        return DK_FAIL(err, NOMEM, "no memory to audit the unwraps");
    }
    row.detail = list != NULL ? list : "";
    dk_rc written = write_unwraps(core, &row, &cause);
    dk_mem_free(&core->world->mem, list);
    if (written != DK_OK) {
        *err = cause;
    }
    return written;
}

/* ---- what a tenant's key rows add up to ------------------------------------------------------ */

/* sum = SHA-256(sum | u32(version) | lp(row_mac)), beginning with zeros. */
dk_rc dk_digest_add(const struct dk_core *core, struct dk_digest *digest, uint32_t version,
                    const char *row_mac, struct dk_err *err)
{
    uint8_t message[DK_SHA256_LEN + 8 + DK_MAC_TEXT];
    memcpy(message, digest->sum, DK_SHA256_LEN);
    uint8_t *p = dk_put_u32(message + DK_SHA256_LEN, version);
    p = dk_put_lp(p, row_mac, strlen(row_mac));
    struct dk_view view = dk_view_of(message, (size_t)(p - message));
    return dk_sha256(&core->suite, view, digest->sum, err);
}

static void digest_text(const struct dk_digest *digest, char out[static DK_MAC_TEXT])
{
    uint8_t marked[1 + DK_SHA256_LEN] = {DIGEST_MARK};
    memcpy(marked + 1, digest->sum, DK_SHA256_LEN);
    dk_base64_encode(marked, sizeof marked, out);
}

struct summing {
    const struct dk_core *core;
    struct dk_digest digest;
    dk_rc rc;
    struct dk_err *err;
};

static bool add_one(void *arg, uint32_t version, const char *row_mac)
{
    struct summing *sum = arg;
    sum->rc = dk_digest_add(sum->core, &sum->digest, version, row_mac, sum->err);
    return sum->rc == DK_OK;
}

dk_rc dk_audit_digest(struct dk_core *core, struct dk_txn *txn, const struct dk_tenant *tenant,
                      char out[static DK_MAC_TEXT], struct dk_err *err)
{
    struct summing sum = {.core = core, .err = err};
    DK_TRY(txn->ops->key_macs(txn->self, tenant, add_one, &sum, err));
    DK_TRY(sum.rc);
    digest_text(&sum.digest, out);
    return DK_OK;
}

dk_rc dk_audit_first_digest(const struct dk_core *core, const struct dk_key_row *row,
                            char out[static DK_MAC_TEXT], struct dk_err *err)
{
    struct dk_digest digest = {{0}};
    DK_TRY(dk_digest_add(core, &digest, row->version, row->row_mac, err));
    digest_text(&digest, out);
    return DK_OK;
}

static dk_rc check_epoch(struct dk_core *core, const struct dk_tenant_row *tenant,
                         struct dk_err *err)
{
    int64_t highest = dk_epochs_see(core->audit->epochs, &tenant->tenant, tenant->epoch);
    if (highest > tenant->epoch) {
        return DK_FAIL(err, ROLLBACK, "tenant %s is at epoch %lld and was at %lld",
                       tenant->tenant.s, (long long)tenant->epoch, (long long)highest);
    }
    return DK_OK;
}

static dk_rc check_digest(const struct dk_tenant_row *tenant, const char *digest,
                          struct dk_err *err)
{
    if (strcmp(digest, tenant->keys_digest) != 0) {
        return DK_FAIL(err, ROLLBACK,
                       "the key rows of tenant %s are not those of its last change: one was put "
                       "back, or is gone",
                       tenant->tenant.s);
    }
    return DK_OK;
}

dk_rc dk_audit_check_tenant(struct dk_core *core, struct dk_txn *txn,
                            const struct dk_tenant_row *tenant, struct dk_err *err)
{
    char digest[DK_MAC_TEXT];
    DK_TRY(check_epoch(core, tenant, err));
    DK_TRY(dk_audit_digest(core, txn, &tenant->tenant, digest, err));
    return check_digest(tenant, digest, err);
}

dk_rc dk_audit_check_rows(struct dk_core *core, const struct dk_tenant_row *tenant,
                          const struct dk_digest *digest, struct dk_err *err)
{
    char text[DK_MAC_TEXT];
    digest_text(digest, text);
    DK_TRY(check_epoch(core, tenant, err));
    return check_digest(tenant, text, err);
}

dk_rc dk_audit_check_unknown(struct dk_core *core, const struct dk_find *find, struct dk_err *err)
{
    const char *name = find->tenant->s;
    if (dk_epochs_see(core->audit->epochs, find->tenant, 0) > 0) {
        return DK_FAIL(err, ROLLBACK, "tenant %s was there, and its row is gone", name);
    }
    return find->in_log
               ? DK_FAIL(err, TAMPERED,
                         "the log knows tenant %s, and its row is gone: it is not a new tenant",
                         name)
               : DK_OK;
}
