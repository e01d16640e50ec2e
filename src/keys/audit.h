/*
 * audit: the log as a chain, the seals over the chains' heads, and what a tenant's rows add up to.
 *
 * Called by whatever changes a row or unwraps a key. Rows of changes are chained per tenant (the
 * head stands in the tenant's row), rows of unwraps per process (the head is kept here). On a store
 * with one writer at a time every transaction that adds a log row ends with one seal (I26); on
 * others the sealer does it. A dk_audit may be shared by threads; a
 * dk_change belongs to one transaction.
 */
#ifndef DK_KEYS_AUDIT_H
#define DK_KEYS_AUDIT_H

#include "keys/anchor.h"
#include "keys/core.h"
#include "keys/source.h"

/* Fills core->audit, and names this process's chain. */
DK_MUST_USE dk_rc dk_audit_open(struct dk_core *core, struct dk_err *err);
void dk_audit_close(struct dk_core *core); /* allowed when nothing is open */
/* In a child, alone: the locks that a thread of the parent may have held are free. */
void dk_audit_forget(struct dk_core *core);
/* That, and it begins a chain of its own. */
DK_MUST_USE dk_rc dk_audit_after_fork(struct dk_core *core, struct dk_err *err);

/*
 * Reads the anchor, then the newest seal, and remembers both. An older registry is no error here:
 * it is logged, encryption ends with E_ROLLBACK, decryption goes on. E_TAMPERED: the anchor is
 * another registry's, or damaged. E_CONFIG: there is no seal yet (run init).
 */
DK_MUST_USE dk_rc dk_audit_start(struct dk_core *core, struct dk_err *err);
/* E_ROLLBACK where the anchor knows a seal that the registry does not hold: nothing is adopted. */
DK_MUST_USE dk_rc dk_audit_before_adopt(struct dk_core *core, struct dk_err *err);
/* The same look at each poll; *back: what is known of the registry counts no more. */
DK_MUST_USE dk_rc dk_audit_look(struct dk_core *core, struct dk_txn *txn, bool *back,
                                struct dk_err *err);
/* Moves the anchor to the newest seal seen; at most once a poll, and at close. */
void dk_audit_anchor(struct dk_core *core);
/* Whether this process wrote what no seal may have yet; asked once, it is a no. */
bool dk_audit_has_unsealed(struct dk_core *core);
/* E_ROLLBACK while the registry is older than the anchor, or than this process saw it. */
DK_MUST_USE dk_rc dk_audit_check(const struct dk_core *core, struct dk_err *err);
/*
 * An operator takes the registry as it stands: `confirm` is its UUID. Audited, sealed, and the
 * anchor is set to it. *tenants: how many had rows put back or lost.
 */
DK_MUST_USE dk_rc dk_audit_accept(struct dk_core *core, const char *confirm, const char *by,
                                  int64_t *tenants, struct dk_err *err);

/* The heads that one transaction moves. */
struct dk_change {
    const struct dk_mem *mem;
    struct dk_txn *txn;
    const char *by; /* who makes it, for its log rows; NULL = who opened the library */
    const struct dk_registry_keys *keys; /* for its MACs; NULL = the registry's */
    char *heads;
    size_t n, cap;
};

void dk_change_init(struct dk_change *change, const struct dk_core *core, struct dk_txn *txn);
void dk_change_clear(struct dk_change *change);
/* A line that is no head: what a rekey says. */
DK_MUST_USE dk_rc dk_change_add(struct dk_change *change, const char *line, struct dk_err *err);
/*
 * Seals what moved, in the change's transaction; the caller commits. Where seals stand apart, a
 * change that goes on beside others leaves it to the sealer.
 */
DK_MUST_USE dk_rc dk_change_seal(struct dk_core *core, struct dk_change *change,
                                 struct dk_err *err);

/* The name of this process's chain. */
void dk_audit_node(const struct dk_core *core, char out[static DK_ACTOR_MAX + 1]);
/*
 * A log row of this instance; `by` who did it (NULL = who opened it), `tenant` an id or "*",
 * `operation` as in the guide.
 */
DK_MUST_USE dk_rc dk_audit_row(const struct dk_core *core, const char *by, const char *tenant,
                               const char *operation, struct dk_log_row *out, struct dk_err *err);
/* Puts the row behind the tenant's head and moves the head: tenant->row_mac is to be sealed. */
DK_MUST_USE dk_rc dk_audit_chain(const struct dk_core *core, struct dk_tenant_row *tenant,
                                 struct dk_log_row *row, struct dk_err *err);
/* Stores a chained row, and notes the tenant's head for the seal. */
DK_MUST_USE dk_rc dk_audit_store(struct dk_change *change, const struct dk_tenant_row *tenant,
                                 const struct dk_log_row *row, struct dk_err *err);
/*
 * A tenant's row as it stands in this transaction, believed. E_NOT_FOUND; E_TAMPERED; E_SCHEMA:
 * its rows are not chained yet.
 */
DK_MUST_USE dk_rc dk_audit_tenant(struct dk_core *core, struct dk_txn *txn,
                                  const struct dk_tenant *tenant, struct dk_tenant_row *out,
                                  struct dk_err *err);
/*
 * E_ROLLBACK: the tenant's rows are older than they were: a lower epoch than this process saw, or
 * key rows that are not those of the last change (one was put back, or is gone).
 */
DK_MUST_USE dk_rc dk_audit_check_tenant(struct dk_core *core, struct dk_txn *txn,
                                        const struct dk_tenant_row *tenant, struct dk_err *err);
/* What the key rows of one tenant add up to, told one after the other by version. Zeroed: none. */
struct dk_digest {
    uint8_t sum[DK_SHA256_LEN];
};
DK_MUST_USE dk_rc dk_digest_add(const struct dk_core *core, struct dk_digest *digest,
                                uint32_t version, const char *row_mac, struct dk_err *err);
/* The same as dk_audit_check_tenant, of rows that were read already. */
DK_MUST_USE dk_rc dk_audit_check_rows(struct dk_core *core, const struct dk_tenant_row *tenant,
                                      const struct dk_digest *digest, struct dk_err *err);
/* A row that was read: is it the tenant's, and dekhand's? Answers as dk_audit_tenant. */
DK_MUST_USE dk_rc dk_audit_believe(const struct dk_core *core, const struct dk_tenant *tenant,
                                   const struct dk_tenant_row *row, struct dk_err *err);
/* Seals the tenant's row and stores it where its epoch is still `old_epoch`: else E_CONFLICT. */
DK_MUST_USE dk_rc dk_audit_update_tenant(struct dk_core *core, struct dk_txn *txn,
                                         struct dk_tenant_row *row, int64_t old_epoch,
                                         struct dk_err *err);
/* E_TAMPERED or E_ROLLBACK when the log, or this process, knows a tenant whose row is not there. */
DK_MUST_USE dk_rc dk_audit_check_unknown(struct dk_core *core, const struct dk_find *find,
                                         struct dk_err *err);
/* One row about a tenant that changes no key, in a transaction of its own. */
DK_MUST_USE dk_rc dk_audit_write(struct dk_core *core, const struct dk_tenant *tenant,
                                 struct dk_log_row *row, struct dk_err *err);
/* One row about no single tenant, in this process's chain and a transaction of its own. */
DK_MUST_USE dk_rc dk_audit_write_here(struct dk_core *core, struct dk_log_row *row,
                                      struct dk_err *err);
/* The same beside a change of no tenant: both, or neither. `with` NULL = the row alone. */
struct dk_audit_change {
    dk_rc (*make)(void *arg, struct dk_txn *txn, struct dk_err *err);
    void *arg;
};
DK_MUST_USE dk_rc dk_audit_change_here(struct dk_core *core, struct dk_log_row *row,
                                       const struct dk_audit_change *with, struct dk_err *err);
/*
 * One row for the keys of a batch that were unwrapped (rc[i] == DK_OK), before they serve. A store
 * that cannot be written is a warning, not an error.
 */
DK_MUST_USE dk_rc dk_audit_unwraps(struct dk_core *core, const struct dk_key_row *rows,
                                   const dk_rc *rc, size_t count, struct dk_err *err);

/* Over the MACs of all key rows of a tenant, as they stand in this transaction. */
DK_MUST_USE dk_rc dk_audit_digest(struct dk_core *core, struct dk_txn *txn,
                                  const struct dk_tenant *tenant, char out[static DK_MAC_TEXT],
                                  struct dk_err *err);
/* The same of a tenant with one version. */
DK_MUST_USE dk_rc dk_audit_first_digest(const struct dk_core *core, const struct dk_key_row *row,
                                        char out[static DK_MAC_TEXT], struct dk_err *err);

/* The hash by which the next seal, and the anchor, name this one: hex of SHA-256 of its mac. */
DK_MUST_USE dk_rc dk_seal_hash(const struct dk_core *core, const char *mac,
                               char out[static DK_HASH_TEXT], struct dk_err *err);

/*
 * The seal of that number, its MAC verified. E_NOT_FOUND; E_TAMPERED: it was edited or forged. Of
 * one under an earlier registry key only the hash is right: it is to be compared with a known one.
 */
DK_MUST_USE dk_rc dk_seal_read(struct dk_core *core, struct dk_txn *txn, int64_t n,
                               struct dk_seal *out, struct dk_err *err);
/* The newest one; n = 0: there is none. E_TAMPERED: nothing is built upon it. */
DK_MUST_USE dk_rc dk_seal_newest(struct dk_core *core, struct dk_txn *txn, struct dk_seal *out,
                                 struct dk_err *err);

/*
 * After a migration: chains the rows that were there before, seals them, and writes the first seal
 * where there is none. Repeatable. E_TAMPERED: rows are chained already but the seals are gone.
 */
DK_MUST_USE dk_rc dk_audit_adopt(struct dk_core *core, struct dk_err *err);

#endif
