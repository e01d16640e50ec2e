/*
 * verify_state: what verify.c (the log, tenants, keys) and verify_seals.c (the registry's keys, the
 * seals) share of one run.
 */
#ifndef DK_KEYS_VERIFY_STATE_H
#define DK_KEYS_VERIFY_STATE_H

#include "keys/chains.h"
#include "keys/pruned.h"
#include "keys/ring.h"
#include "keys/verify.h"

struct dk_verifier {
    struct dk_core *core;
    struct dk_txn *txn;
    void (*each)(void *arg, const struct dk_finding *finding);
    void *arg;
    struct dk_verify_result *result;
    struct dk_err *err;
    dk_rc rc; /* of what a walk could not go on with */
    struct dk_chains chains;
    struct dk_registry_row registry;
    struct dk_ring ring;                  /* all keys of the registry */
    struct dk_pruned pruned;              /* how far the log was pruned */
    bool blind;                           /* one of them does not open */
    size_t log_at;                        /* which key the row before was under */
    size_t seal_at;                       /* and the next seal is */
    bool rekeyed;                         /* a seal ends the rekey to the newest key */
    bool log_cut, seals_cut, tenants_cut; /* a row could not be read: what follows is not known */
    int64_t seal_n;
    char seal_hash[DK_HASH_TEXT];
    bool seals_broken;
};

DK_PRINTF(5, 6)
void dk_verify_tell(struct dk_verifier *v, const char *table, const char *tenant, const char *row,
                    const char *format, ...);
/* Of a tenant or a process; NULL without memory. */
struct dk_chain *dk_verify_chain(struct dk_verifier *v, bool process, const char *name);

/* verify_schema.c: tables, triggers, indexes and views that are not as the migrations make them. */
DK_MUST_USE dk_rc dk_verify_schema(struct dk_verifier *v);

/* ---- verify_seals.c -------------------------------------------------------------------------- */

/* Earlier keys are needed for what they made, and for nothing else. */
DK_MUST_USE dk_rc dk_verify_open_keys(struct dk_verifier *v);
/* How far the log was pruned; what the registry's row says of it must agree. */
DK_MUST_USE dk_rc dk_verify_open_pruned(struct dk_verifier *v);
bool dk_verify_has_key(const struct dk_verifier *v, size_t at);
/* For a walk over all seals; `arg` is the verifier. */
bool dk_verify_seal(void *arg, const struct dk_seal_row *seal);
/* After it: whether the registry's row tells of a rekey what the seals tell. */
void dk_verify_rekey(struct dk_verifier *v);

#endif
