/* The part of verify that reads the registry's keys and the seals. */
#include <stdio.h>
#include <string.h>

#include "keys/audit.h"
#include "keys/heads.h"
#include "keys/registry.h"
#include "keys/verify_state.h"

/* ---- the registry's keys --------------------------------------------------------------------- */

bool dk_verify_has_key(const struct dk_verifier *v, size_t at)
{
    return v->ring.key[at].keys.generation != 0;
}

static bool extra_key(void *arg, const struct dk_registry_key_row *row)
{
    char number[24];
    snprintf(number, sizeof number, "%u", row->generation);
    dk_verify_tell(arg, "registry_keys", "", number,
                   "registry key %s is no earlier one: dekhand did not write it", number);
    return true;
}

/* Earlier keys are needed for what they made, and for nothing else. */
dk_rc dk_verify_open_keys(struct dk_verifier *v)
{
    char number[24];
    DK_TRY(v->txn->ops->registry_read(v->txn->self, &v->registry, v->err));
    if (v->registry.generation > DK_GENERATIONS_MAX) {
        snprintf(number, sizeof number, "%u", v->registry.generation);
        dk_verify_tell(v, "registry_keys", "", number,
                       "the registry's row says that its key is number %s, and the keys before it "
                       "are not there: the row was edited",
                       number);
        v->registry.generation = 1;
    }
    DK_TRY(dk_ring_open_any(v->core, v->txn, &v->registry, &v->ring, v->err));
    for (size_t i = 0; i < v->ring.n; i++) {
        if (!dk_verify_has_key(v, i)) {
            v->blind = true;
            snprintf(number, sizeof number, "%zu", i + 1);
            dk_verify_tell(
                v, "registry_keys", "", number,
                "registry key %s is gone or does not open: somebody who can write to the database "
                "deleted or edited it, and what was written under it cannot be proven",
                number);
        }
    }
    return v->txn->ops->registry_keys(v->txn->self, (uint32_t)v->ring.n, extra_key, v, v->err);
}

dk_rc dk_verify_open_pruned(struct dk_verifier *v)
{
    dk_rc rc = dk_pruned_read(v->core, v->txn, &v->ring, &v->pruned, v->err);
    if (rc == DK_E_TAMPERED) { /* the walk over the log tells of it */
        dk_err_clear(v->err);
        return DK_OK;
    }
    DK_TRY(rc);
    if (v->registry.pruned_seq != v->pruned.seq && !v->blind) {
        dk_verify_tell(
            v, "registry", "", "1",
            "the row says that the log was pruned up to row %lld, the log's own rows say %lld: the "
            "row was edited, or the row `prune` is not dekhand's or is gone",
            (long long)v->registry.pruned_seq, (long long)v->pruned.seq);
    }
    return DK_OK;
}

/* ---- seals ----------------------------------------------------------------------------------- */

/* A head whose row needs not be there any more. */
static void take_pruned(struct dk_verifier *v, struct dk_chain *chain, const char *mac)
{
    struct dk_hash128 head = dk_chains_hash(&v->chains, mac);
    if (!chain->rows && mac[0] != '\0') {
        chain->pruned = true;
        chain->head = head;
    }
    chain->base_known = chain->base_known || dk_hash_same(chain->base, head);
}

/* Under the key of the seal, or one before: a head may be sealed again, after a rekey. */
static bool has_row(const struct dk_verifier *v, const char *mac)
{
    for (size_t at = v->seal_at + 1; at-- > 0;) {
        if (dk_chains_has_mac(&v->chains, (uint32_t)at, mac)) {
            return true;
        }
    }
    return false;
}

/* What is not in the log any more may not be: unless the log was pruned up to this seal. */
static void look_for_row(struct dk_verifier *v, const struct dk_seal_row *seal,
                         struct dk_chain *chain, const struct dk_head *head)
{
    char number[24];
    bool process = head->of == DK_HEAD_PROCESS;
    if (chain->lost || v->log_cut || head->mac[0] == '\0' || has_row(v, head->mac)) {
        return;
    }
    chain->lost = true;
    snprintf(number, sizeof number, "%lld", (long long)seal->n);
    dk_verify_tell(v, "key_rotation_log", process ? "" : head->name, number,
                   "seal %s knows a row of %s %s that the log has not: it was deleted, by somebody "
                   "who can write to the database",
                   number, process ? "process" : "tenant", head->name);
}

static bool take_chain(struct dk_verifier *v, const struct dk_seal_row *seal,
                       const struct dk_head *head)
{
    bool process = head->of == DK_HEAD_PROCESS;
    struct dk_chain *chain = dk_verify_chain(v, process, head->name);
    if (chain == NULL) {
        return false;
    }
    if (!process && head->epoch < chain->epoch && !chain->broken) {
        chain->broken = true;
        dk_verify_tell(v, "tenants", head->name, head->name,
                       "its epoch went from %lld back to %lld: an old row was put back, and used",
                       (long long)chain->epoch, (long long)head->epoch);
    }
    if (seal->n <= v->pruned.seal) {
        take_pruned(v, chain, head->mac);
    } else {
        look_for_row(v, seal, chain, head);
    }
    chain->sealed = dk_chains_hash(&v->chains, head->mac);
    chain->epoch = head->epoch;
    return true;
}

static bool take_heads(struct dk_verifier *v, const struct dk_seal_row *seal)
{
    struct dk_heads heads = dk_heads_of(seal->heads);
    struct dk_head head;
    char number[24];
    while (dk_heads_next(&heads, &head)) {
        if (head.of == DK_HEAD_REKEYED) {
            v->rekeyed =
                v->rekeyed || (head.generation == v->ring.n && v->seal_at + 1 == v->ring.n);
        } else if (head.of == DK_HEAD_OTHER) {
            snprintf(number, sizeof number, "%lld", (long long)seal->n);
            dk_verify_tell(v, "seals", "", number,
                           "seal %s holds a line that dekhand does not write", number);
        } else if (head.of != DK_HEAD_REKEY && !take_chain(v, seal, &head)) {
            return false;
        }
    }
    return true;
}

/* The key that the seal is under: that of the one before, unless keys between do not open. */
static bool find_seal_key(struct dk_verifier *v, const struct dk_seal_row *seal)
{
    struct dk_err one;
    size_t at = v->seal_at;
    while (at + 1 < v->ring.n && !dk_verify_has_key(v, at)) {
        at++;
    }
    dk_err_clear(&one);
    if (dk_verify_has_key(v, at) &&
        dk_registry_verify_seal(v->core, &v->ring.key[at].keys, seal, &one) == DK_OK) {
        v->seal_at = at;
        return true;
    }
    return !dk_verify_has_key(v, v->seal_at);
}

/* After the seal: is the next one under the next key? What the keys' table says must agree. */
static void look_at_hand_over(struct dk_verifier *v, const struct dk_seal_row *seal)
{
    char line[DK_HAND_OVER_TEXT], number[24];
    const struct dk_ring_key *key = &v->ring.key[v->seal_at];
    if (v->seal_at + 1 == v->ring.n) {
        return;
    }
    struct dk_heads heads = dk_heads_of(seal->heads);
    struct dk_head head;
    bool says = dk_heads_next(&heads, &head) && head.of == DK_HEAD_REKEY;
    dk_ring_hand_over(&key[1].keys, line);
    if (says && dk_verify_has_key(v, v->seal_at + 1) && strcmp(seal->heads, line) != 0) {
        snprintf(number, sizeof number, "%zu", v->seal_at + 2);
        dk_verify_tell(v, "registry_keys", "", number,
                       "registry key %s is not the one that the seals hand over to", number);
    } else if (dk_verify_has_key(v, v->seal_at) && says != (seal->n == key->last_seal)) {
        snprintf(number, sizeof number, "%zu", v->seal_at + 1);
        dk_verify_tell(
            v, "registry_keys", "", number,
            "the last seal under registry key %s is another than its row says: the row was edited",
            number);
        v->ring.key[v->seal_at].last_seal = says ? seal->n : INT64_MAX; /* told once */
    }
    v->seal_at += says;
}

static void look_at_seal(struct dk_verifier *v, const struct dk_seal_row *seal)
{
    char number[24];
    snprintf(number, sizeof number, "%lld", (long long)seal->n);
    if (v->seals_broken) {
        return;
    }
    if (!find_seal_key(v, seal)) {
        v->seals_broken = true;
        dk_verify_tell(
            v, "seals", "", number,
            "seal %s was edited: who did it can write to the database but has not the registry "
            "key",
            number);
    } else if (seal->n != v->seal_n + 1) {
        v->seals_broken = true;
        dk_verify_tell(
            v, "seals", "", number,
            "%lld seals before it, from number %lld on, are gone: somebody who can write to the "
            "database deleted them",
            (long long)(seal->n - v->seal_n - 1), (long long)v->seal_n + 1);
    } else if (strcmp(seal->prev, v->seal_hash) != 0) {
        v->seals_broken = true;
        dk_verify_tell(
            v, "seals", "", number,
            "seal %s does not follow the one before it: a seal of another time was put in its "
            "place",
            number);
    }
}

bool dk_verify_seal(void *arg, const struct dk_seal_row *seal)
{
    struct dk_verifier *v = arg;
    v->result->seals++;
    look_at_seal(v, seal);
    v->seal_n = seal->n;
    v->rc = dk_seal_hash(v->core, seal->mac, v->seal_hash, v->err);
    if (v->rc != DK_OK || !take_heads(v, seal)) {
        return false;
    }
    if (seal->n == v->pruned.seal && strcmp(v->seal_hash, v->pruned.hash) != 0) {
        char number[24];
        snprintf(number, sizeof number, "%lld", (long long)seal->n);
        dk_verify_tell(v, "seals", "", number,
                       "the log was pruned up to a seal %s that is another than this one", number);
    }
    look_at_hand_over(v, seal);
    return true;
}

/* Whether the registry's row tells of a rekey what the seals tell. */
void dk_verify_rekey(struct dk_verifier *v)
{
    bool over = v->ring.n == 1 || v->rekeyed;
    if (v->seals_broken || v->seals_cut || v->blind) {
        return;
    }
    if (v->seal_at + 1 != v->ring.n) {
        dk_verify_tell(
            v, "registry", "", "1",
            "no seal hands over to the registry's key: the row was edited, or seals are gone");
    } else if (over == v->registry.rekeying) {
        dk_verify_tell(
            v, "registry", "", "1",
            "the row says that a rekey is %s, the seals say that it is not: the row was edited; "
            "`dekhand registry rekey` puts it right",
            over ? "under way" : "over");
    }
}
