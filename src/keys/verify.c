#include "keys/verify.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "crypto/siphash.h"
#include "keys/audit.h"
#include "keys/registry.h"

#define PAGE 128
#define TEXT 400

/* One chain of the log, as far as it was read. Macs and names are kept as keyed hashes. */
struct chain {
    struct dk_hash128 id; /* of "t" and the tenant, or "p" and the process */
    struct dk_hash128 head;
    struct dk_hash128 sealed;
    int64_t epoch; /* as the newest seal has it */
    bool rows;
    bool broken; /* its first wrong row was told */
    bool lost;   /* so was the first row that a seal knows and the log has not */
    bool row_of_tenant;
};

struct verify {
    struct dk_core *core;
    struct dk_txn *txn;
    void (*each)(void *arg, const struct dk_finding *finding);
    void *arg;
    struct dk_verify_result *result;
    struct dk_err *err;
    dk_rc rc; /* of what a walk could not go on with */
    uint8_t hash_key[16];
    struct chain *chains; /* open addressing; an id of zero is free */
    size_t cap, used;
    uint64_t *macs; /* of all log rows, as keyed hashes; 0 is free */
    size_t mac_cap, mac_count;
    bool log_cut, tenants_cut; /* a row could not be read: what follows it is not known */
    int64_t seal_n;
    char seal_hash[DK_HASH_TEXT];
    bool seals_broken;
};

DK_PRINTF(5, 6)
static void tell(struct verify *v, const char *table, const char *tenant, const char *row,
                 const char *format, ...)
{
    char text[TEXT];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    struct dk_finding finding = {table, tenant, row, text};
    v->result->findings++;
    v->each(v->arg, &finding);
}

/* ---- chains ---------------------------------------------------------------------------------- */

static struct dk_hash128 hash_text(const struct verify *v, const char *s)
{
    return dk_siphash128(v->hash_key, (const uint8_t *)s, strlen(s));
}

static bool same(struct dk_hash128 a, struct dk_hash128 b)
{
    return a.lo == b.lo && a.hi == b.hi;
}

static bool is_zero(struct dk_hash128 a)
{
    return (a.lo | a.hi) == 0;
}

static struct chain *place(struct chain *chains, size_t cap, struct dk_hash128 id)
{
    size_t i = (size_t)id.lo & (cap - 1);
    while (!is_zero(chains[i].id) && !same(chains[i].id, id)) {
        i = (i + 1) & (cap - 1);
    }
    return &chains[i];
}

static bool grow(struct verify *v)
{
    const struct dk_mem *mem = &v->core->world->mem;
    size_t cap = v->cap == 0 ? 256 : v->cap * 2;
    struct chain *bigger = dk_mem_zalloc(mem, cap * sizeof *bigger);
    if (bigger == NULL) {
        v->rc = DK_FAIL(v->err, NOMEM, "no memory for the chains of the log");
        return false;
    }
    for (size_t i = 0; i < v->cap; i++) {
        if (!is_zero(v->chains[i].id)) {
            *place(bigger, cap, v->chains[i].id) = v->chains[i];
        }
    }
    dk_mem_free(mem, v->chains);
    v->chains = bigger;
    v->cap = cap;
    return true;
}

/* The chain of a tenant or a process, made when it is new; NULL without memory. */
static struct chain *chain_of(struct verify *v, bool process, const char *name)
{
    char text[DK_ACTOR_MAX + DK_TENANT_MAX + 2];
    snprintf(text, sizeof text, "%c%s", process ? 'p' : 't', name);
    if (v->used + 1 > v->cap / 4 * 3 && !grow(v)) {
        return NULL;
    }
    struct dk_hash128 id = hash_text(v, text);
    struct chain *chain = place(v->chains, v->cap, id);
    v->used += is_zero(chain->id);
    chain->id = id;
    return chain;
}

/* ---- the macs of all log rows ---------------------------------------------------------------- */

static uint64_t *mac_place(uint64_t *macs, size_t cap, uint64_t hash)
{
    size_t i = (size_t)hash & (cap - 1);
    while (macs[i] != 0 && macs[i] != hash) {
        i = (i + 1) & (cap - 1);
    }
    return &macs[i];
}

static bool grow_macs(struct verify *v)
{
    const struct dk_mem *mem = &v->core->world->mem;
    size_t cap = v->mac_cap == 0 ? 1024 : v->mac_cap * 2;
    uint64_t *bigger = dk_mem_zalloc(mem, cap * sizeof *bigger);
    if (bigger == NULL) {
        v->rc = DK_FAIL(v->err, NOMEM, "no memory for the rows of the log");
        return false;
    }
    for (size_t i = 0; i < v->mac_cap; i++) {
        if (v->macs[i] != 0) {
            *mac_place(bigger, cap, v->macs[i]) = v->macs[i];
        }
    }
    dk_mem_free(mem, v->macs);
    v->macs = bigger;
    v->mac_cap = cap;
    return true;
}

static uint64_t mac_hash(const struct verify *v, const char *mac)
{
    uint64_t hash = hash_text(v, mac).lo;
    return hash != 0 ? hash : 1;
}

static bool remember_mac(struct verify *v, const char *mac)
{
    if (v->mac_count + 1 > v->mac_cap / 4 * 3 && !grow_macs(v)) {
        return false;
    }
    uint64_t hash = mac_hash(v, mac);
    uint64_t *place = mac_place(v->macs, v->mac_cap, hash);
    v->mac_count += *place == 0;
    *place = hash;
    return true;
}

static bool is_in_log(const struct verify *v, const char *mac)
{
    return v->mac_cap > 0 && *mac_place(v->macs, v->mac_cap, mac_hash(v, mac)) != 0;
}

/* ---- the log --------------------------------------------------------------------------------- */

static void look_at_row(struct verify *v, struct chain *chain, const struct dk_log_row *row)
{
    struct dk_err one;
    char when[DK_TIME_TEXT];
    dk_err_clear(&one);
    dk_time_format(row->performed_at, when);
    bool follows = row->prev[0] == '\0' ? !chain->rows : same(chain->head, hash_text(v, row->prev));
    if (chain->broken) {
        return; /* the first wrong row of a chain is told */
    }
    if (row->mac[0] == '\0' || dk_registry_verify_log(v->core, row, &one) != DK_OK) {
        tell(
            v, "key_rotation_log", row->tenant, row->id,
            "the row `%s` of %s was edited, or was not written by dekhand: who did it can write to "
            "the database but has not the registry key",
            row->operation, when);
        chain->broken = true;
    } else if (!follows) {
        tell(v, "key_rotation_log", row->tenant, row->id,
             "the row `%s` of %s does not follow the row before it: rows between them were deleted "
             "or moved, by somebody who can write to the database",
             row->operation, when);
        chain->broken = true;
    }
}

/* Unwraps, and what concerns the whole registry, stand in the chain of the process. */
static bool is_of_process(const struct dk_log_row *row)
{
    return strcmp(row->operation, "decrypt") == 0 || strcmp(row->tenant, "*") == 0;
}

static bool see_row(void *arg, const struct dk_log_row *row)
{
    struct verify *v = arg;
    bool process = is_of_process(row);
    struct chain *chain = chain_of(v, process, process ? row->node : row->tenant);
    if (chain == NULL) {
        return false;
    }
    v->result->log_rows++;
    look_at_row(v, chain, row);
    chain->rows = true;
    chain->head = hash_text(v, row->mac);
    return remember_mac(v, row->mac);
}

/* ---- seals ----------------------------------------------------------------------------------- */

static bool take_head(struct verify *v, const struct dk_seal_row *seal, const char *line)
{
    char name[DK_ACTOR_MAX + DK_TENANT_MAX + 2], mac[DK_MAC_TEXT] = "", number[24];
    long long epoch = 0;
    bool process = sscanf(line, "process %128s %44s", name, mac) == 2;
    if (!process && sscanf(line, "tenant %128s %lld %44s", name, &epoch, mac) != 3) {
        snprintf(number, sizeof number, "%lld", (long long)seal->n);
        tell(v, "seals", "", number, "seal %s holds a line that dekhand does not write", number);
        return true;
    }
    struct chain *chain = chain_of(v, process, name);
    if (chain == NULL) {
        return false;
    }
    if (!process && epoch < chain->epoch && !chain->broken) {
        chain->broken = true;
        tell(v, "tenants", name, name,
             "its epoch went from %lld back to %lld: an old row was put back, and used",
             (long long)chain->epoch, epoch);
    }
    if (!chain->lost && !v->log_cut && strcmp(mac, "-") != 0 && !is_in_log(v, mac)) {
        chain->lost = true;
        snprintf(number, sizeof number, "%lld", (long long)seal->n);
        tell(v, "key_rotation_log", process ? "" : name, number,
             "seal %s knows a row of %s %s that the log has not: it was deleted, by somebody who "
             "can write to the database",
             number, process ? "process" : "tenant", name);
    }
    chain->sealed = hash_text(v, strcmp(mac, "-") == 0 ? "" : mac);
    chain->epoch = epoch;
    return true;
}

static bool take_heads(struct verify *v, const struct dk_seal_row *seal)
{
    const char *line = seal->heads;
    while (*line != '\0') {
        if (!take_head(v, seal, line)) {
            return false;
        }
        line += strcspn(line, "\n");
        line += *line == '\n';
    }
    return true;
}

static void look_at_seal(struct verify *v, const struct dk_seal_row *seal)
{
    struct dk_err one;
    char number[24];
    dk_err_clear(&one);
    snprintf(number, sizeof number, "%lld", (long long)seal->n);
    if (v->seals_broken) {
        return;
    }
    if (dk_registry_verify_seal(v->core, seal, &one) != DK_OK) {
        v->seals_broken = true;
        tell(v, "seals", "", number,
             "seal %s was edited: who did it can write to the database but has not the registry "
             "key",
             number);
    } else if (seal->n != v->seal_n + 1) {
        v->seals_broken = true;
        tell(v, "seals", "", number,
             "%lld seals before it, from number %lld on, are gone: somebody who can write to the "
             "database deleted them",
             (long long)(seal->n - v->seal_n - 1), (long long)v->seal_n + 1);
    } else if (strcmp(seal->prev, v->seal_hash) != 0) {
        v->seals_broken = true;
        tell(v, "seals", "", number,
             "seal %s does not follow the one before it: a seal of another time was put in its "
             "place",
             number);
    }
}

static bool see_seal(void *arg, const struct dk_seal_row *seal)
{
    struct verify *v = arg;
    v->result->seals++;
    look_at_seal(v, seal);
    v->seal_n = seal->n;
    v->rc = dk_seal_hash(v->core, seal->mac, v->seal_hash, v->err);
    return v->rc == DK_OK && take_heads(v, seal);
}

/* ---- tenants and keys ------------------------------------------------------------------------ */

static void look_at_head(struct verify *v, struct chain *chain, const struct dk_tenant_row *row)
{
    const char *name = row->tenant.s;
    struct dk_hash128 head = hash_text(v, row->log_head);
    bool sealed = same(chain->sealed, head) && chain->epoch == row->epoch;
    if (chain->broken) {
        return;
    }
    if (row->epoch < chain->epoch) {
        tell(v, "tenants", name, name,
             "its row is of epoch %lld, the seals know %lld: an old row was put back",
             (long long)row->epoch, (long long)chain->epoch);
    } else if (v->log_cut) {
        return;
    } else if (row->log_head[0] != '\0' ? !(chain->rows && same(chain->head, head)) : chain->rows) {
        tell(v, "tenants", name, name,
             "its newest log row is not the last of its chain: rows at the end were deleted, or "
             "an old row of the tenant was put back");
    } else if (!sealed) {
        tell(v, "tenants", name, name,
             "its last change stands in no seal: seals were deleted, or rows of an older copy were "
             "put back");
    }
}

static dk_rc see_tenant(struct verify *v, const struct dk_tenant_row *row)
{
    struct dk_err one;
    char digest[DK_MAC_TEXT];
    const char *name = row->tenant.s;
    struct chain *chain = chain_of(v, false, name);
    dk_err_clear(&one);
    if (chain == NULL) {
        return v->rc;
    }
    chain->row_of_tenant = true;
    v->result->tenants++;
    if (dk_registry_verify_tenant(v->core, row, &one) != DK_OK) {
        tell(v, "tenants", name, name,
             "its row was edited, or was not written by dekhand: who did it can write to the "
             "database but has not the registry key");
        return DK_OK;
    }
    DK_TRY(dk_audit_digest(v->core, v->txn, &row->tenant, digest, v->err));
    if (strcmp(digest, row->keys_digest) != 0) {
        tell(v, "tenants", name, name,
             "its key rows are not those of its last change: one was put back, edited or deleted");
    }
    look_at_head(v, chain, row);
    return DK_OK;
}

static dk_rc see_tenants(struct verify *v, struct dk_tenant_row *rows)
{
    char after[DK_TENANT_MAX + 1] = "";
    size_t count;
    do {
        DK_TRY(v->txn->ops->tenant_list(v->txn->self, after, PAGE, rows, &count, v->err));
        for (size_t i = 0; i < count; i++) {
            DK_TRY(see_tenant(v, &rows[i]));
            memcpy(after, rows[i].tenant.s, rows[i].tenant.n + 1);
        }
    } while (count == PAGE);
    return DK_OK;
}

static dk_rc see_key(struct verify *v, const struct dk_key_row *row)
{
    struct dk_err one;
    char name[DK_TENANT_MAX + 16];
    dk_err_clear(&one);
    v->result->keys++;
    snprintf(name, sizeof name, "%s:%u", row->tenant.s, row->version);
    if (dk_registry_verify_key(v->core, row, &one) != DK_OK) {
        tell(v, "encryption_keys", row->tenant.s, name,
             "the row of version %u was edited, or was not written by dekhand: it is never used; "
             "who did it can write to the database but has not the registry key",
             row->version);
    }
    struct chain *chain = chain_of(v, false, row->tenant.s);
    if (chain == NULL) {
        return v->rc;
    }
    if (!chain->row_of_tenant && !v->tenants_cut) {
        tell(v, "tenants", row->tenant.s, row->tenant.s,
             "it has a key row of version %u but no row of its own: somebody deleted it",
             row->version);
        chain->row_of_tenant = true; /* told once */
    }
    return DK_OK;
}

static dk_rc see_keys(struct verify *v, struct dk_key_row *rows)
{
    struct dk_key_cursor at = {0};
    size_t count;
    do {
        DK_TRY(v->txn->ops->key_list(v->txn->self, NULL, DK_KEYS_ALL, &at, PAGE, rows, &count,
                                     v->err));
        for (size_t i = 0; i < count; i++) {
            DK_TRY(see_key(v, &rows[i]));
            at = (struct dk_key_cursor){rows[i].tenant, rows[i].version};
        }
    } while (count == PAGE);
    return DK_OK;
}

/* ---- processes, and tenants of whom only the log knows ----------------------------------------
 */

/* The names are known to the rows and to the seals; a second walk finds the ones that are wrong. */
static void look_at_end(struct verify *v, bool process, const char *name, const char *row)
{
    struct chain *chain = chain_of(v, process, name);
    if (chain == NULL || chain->broken) {
        return;
    }
    if (!process && !chain->row_of_tenant && !v->tenants_cut) {
        chain->broken = true;
        tell(v, "tenants", name, name,
             "the log and the seals know it, but its row is gone: somebody deleted it");
    }
    if (process && !v->log_cut && !same(chain->head, chain->sealed)) {
        chain->broken = true;
        tell(v, "key_rotation_log", "", row,
             "the unwraps of process %s do not end with the row that was sealed: rows or seals at "
             "the end were deleted",
             name);
    }
}

static bool end_of_row(void *arg, const struct dk_log_row *row)
{
    bool process = is_of_process(row);
    look_at_end(arg, process, process ? row->node : row->tenant, row->id);
    return true;
}

static bool end_of_seal(void *arg, const struct dk_seal_row *seal)
{
    char name[DK_ACTOR_MAX + DK_TENANT_MAX + 2];
    for (const char *line = seal->heads; *line != '\0';) {
        if (sscanf(line, "process %128s", name) == 1) {
            look_at_end(arg, true, name, name);
        } else if (sscanf(line, "tenant %128s", name) == 1) {
            look_at_end(arg, false, name, name);
        }
        line += strcspn(line, "\n");
        line += *line == '\n';
    }
    return true;
}

/* ---- all of it ------------------------------------------------------------------------------- */

/* What a page of rows needs, one after the other. */
union page {
    struct dk_tenant_row tenants[PAGE];
    struct dk_key_row keys[PAGE];
};

/* A row that cannot even be read is a finding, and the other tables are looked at all the same. */
static dk_rc or_finding(struct verify *v, const char *table, int64_t before, dk_rc rc)
{
    char number[24];
    if (rc != DK_E_TAMPERED) {
        return rc == DK_OK ? v->rc : rc;
    }
    snprintf(number, sizeof number, "%lld", (long long)before + 1);
    tell(v, table, "", number, "row number %s cannot be read: %s", number, v->err->text);
    dk_err_clear(v->err);
    return DK_OK;
}

static dk_rc verify_in(struct verify *v, union page *page)
{
    struct dk_log_query all = {.since = DK_TIME_NONE, .until = DK_TIME_NONE};
    const struct dk_store_ops *ops = v->txn->ops;
    void *txn = v->txn->self;
    struct dk_verify_result *n = v->result;
    dk_rc rc = ops->log_walk(txn, &all, see_row, v, v->err);
    v->log_cut = rc == DK_E_TAMPERED;
    DK_TRY(or_finding(v, "key_rotation_log", n->log_rows, rc));
    rc = ops->seal_walk(txn, 1, see_seal, v, v->err);
    DK_TRY(or_finding(v, "seals", n->seals, rc));
    rc = see_tenants(v, page->tenants);
    v->tenants_cut = rc == DK_E_TAMPERED;
    DK_TRY(or_finding(v, "tenants", n->tenants, rc));
    rc = see_keys(v, page->keys);
    DK_TRY(or_finding(v, "encryption_keys", n->keys, rc));
    rc = ops->log_walk(txn, &all, end_of_row, v, v->err);
    DK_TRY(rc == DK_E_TAMPERED ? DK_OK : rc); /* it was told above */
    dk_err_clear(v->err);
    rc = ops->seal_walk(txn, 1, end_of_seal, v, v->err);
    DK_TRY(rc == DK_E_TAMPERED ? DK_OK : rc);
    dk_err_clear(v->err);
    struct dk_err older;
    dk_err_clear(&older);
    if (dk_audit_check(v->core, &older) != DK_OK) {
        tell(v, "seals", "", "newest",
             "the registry does not hold a seal that was seen in it: it is an older copy, or "
             "another one, put in its place");
    }
    if (v->seal_n == 0) {
        tell(v, "seals", "", "1", "there is no seal: somebody deleted them all");
    }
    return v->rc;
}

dk_rc dk_verify(struct dk_core *core, void (*each)(void *arg, const struct dk_finding *finding),
                void *arg, struct dk_verify_result *out, struct dk_err *err)
{
    struct dk_txn txn;
    struct dk_verify_result result = {0};
    struct verify v = {
        .core = core, .txn = &txn, .each = each, .arg = arg, .result = &result, .err = err};
    DK_TRY(dk_random_fill(core->world, v.hash_key, sizeof v.hash_key, err));
    union page *page = dk_mem_alloc(&core->world->mem, sizeof *page);
    dk_rc rc = page != NULL ? dk_store_begin(&core->store, DK_TXN_READ, &txn, err)
                            : DK_FAIL(err, NOMEM, "no memory for a page of rows");
    if (rc == DK_OK) {
        rc = verify_in(&v, page);
        dk_store_rollback(&txn);
    }
    dk_mem_free(&core->world->mem, page);
    dk_mem_free(&core->world->mem, v.chains);
    dk_mem_free(&core->world->mem, v.macs);
    if (rc == DK_OK) {
        *out = result;
    }
    return rc;
}
