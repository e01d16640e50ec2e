#include "keys/ring.h"

#include <stdio.h>

#include "keys/audit.h"
#include "keys/registry.h"

/* ---- the ring -------------------------------------------------------------------------------- */

void dk_ring_hand_over(const struct dk_registry_keys *next, char out[static DK_HAND_OVER_TEXT])
{
    snprintf(out, DK_HAND_OVER_TEXT, "rekey %u %s\n", next->generation, next->pin);
}

void dk_ring_end_line(uint32_t generation, char out[static DK_HAND_OVER_TEXT])
{
    snprintf(out, DK_HAND_OVER_TEXT, "rekeyed %u\n", generation);
}

void dk_ring_close(struct dk_core *core, struct dk_ring *ring)
{
    for (size_t i = 0; i < ring->n; i++) {
        dk_registry_keys_free(&ring->key[i].keys);
    }
    dk_mem_free(&core->world->mem, ring->key);
    *ring = (struct dk_ring){.n = 0};
}

struct open_ring {
    struct dk_core *core;
    const struct dk_registry_row *row;
    uint32_t from;
    struct dk_ring *ring;
    dk_rc rc;
    struct dk_err *err;
};

static dk_rc add_key(struct open_ring *open, const struct dk_wrap_columns *wrap, int64_t last_seal)
{
    struct dk_ring *ring = open->ring;
    struct dk_ring_key key = {.last_seal = last_seal};
    uint32_t generation = open->from + (uint32_t)ring->n;
    dk_rc rc =
        dk_registry_open_wrap(open->core, open->row->uuid, wrap, generation, &key.keys, open->err);
    if (rc != DK_OK) {
        return dk_err_while(open->err, "opening registry key %u", generation);
    }
    ring->key[ring->n++] = key;
    return DK_OK;
}

static bool add_earlier(void *arg, const struct dk_registry_key_row *row)
{
    struct open_ring *open = arg;
    if (row->generation >= open->row->generation) {
        return false; /* not an earlier one: audit verify names it */
    }
    if (row->generation != open->from + (uint32_t)open->ring->n) {
        return false;
    }
    open->rc = add_key(open, &row->wrap, row->last_seal);
    return open->rc == DK_OK;
}

static dk_rc open_ring(struct open_ring *open, struct dk_txn *txn)
{
    size_t want = open->row->generation - open->from;
    DK_TRY(txn->ops->registry_keys(txn->self, open->from, add_earlier, open, open->err));
    DK_TRY(open->rc);
    if (open->ring->n != want) {
        return DK_FAIL(open->err, TAMPERED, "registry key %u is gone: somebody deleted it",
                       open->from + (uint32_t)open->ring->n);
    }
    return add_key(open, &open->row->wrap, 0);
}

dk_rc dk_ring_open(struct dk_core *core, struct dk_txn *txn, const struct dk_registry_row *row,
                   uint32_t from, struct dk_ring *out, struct dk_err *err)
{
    struct dk_ring ring = {.n = 0};
    struct open_ring open = {core, row, from, &ring, DK_OK, err};
    if (from == 0 || from > row->generation || row->generation - from >= DK_GENERATIONS_MAX) {
        return DK_FAIL(err, TAMPERED, "there is no registry key %u", from);
    }
    ring.key = dk_mem_zalloc(&core->world->mem, (row->generation - from + 1) * sizeof *ring.key);
    if (ring.key == NULL) {
        return DK_FAIL(err, NOMEM, "no memory for the registry's keys");
    }
    dk_rc rc = open_ring(&open, txn);
    if (rc != DK_OK) {
        dk_ring_close(core, &ring);
        return rc;
    }
    *out = ring;
    return DK_OK;
}

struct open_any {
    struct dk_core *core;
    struct dk_ring *ring;
    const char *uuid;
    dk_rc rc;
    struct dk_err *err;
};

/* What does not open is left out; only trouble with the provider ends it. */
static bool open_one(void *arg, const struct dk_registry_key_row *row)
{
    struct open_any *open = arg;
    struct dk_err one;
    if (row->generation >= open->ring->n) {
        return false;
    }
    struct dk_ring_key *key = &open->ring->key[row->generation - 1];
    dk_err_clear(&one);
    dk_rc rc = dk_registry_open_wrap(open->core, open->uuid, &row->wrap, row->generation,
                                     &key->keys, &one);
    key->last_seal = row->last_seal;
    if (rc != DK_OK && (rc == DK_E_NOMEM || dk_error_info(rc)->retryable)) {
        *open->err = one;
        open->rc = rc;
        return false;
    }
    return true;
}

dk_rc dk_ring_open_any(struct dk_core *core, struct dk_txn *txn, const struct dk_registry_row *row,
                       struct dk_ring *out, struct dk_err *err)
{
    struct dk_ring ring = {.n = row->generation};
    struct open_any open = {core, &ring, row->uuid, DK_OK, err};
    if (ring.n > DK_GENERATIONS_MAX) {
        return DK_FAIL(err, TAMPERED, "the registry's row names key %zu", ring.n);
    }
    ring.key = dk_mem_zalloc(&core->world->mem, ring.n * sizeof *ring.key);
    if (ring.key == NULL) {
        return DK_FAIL(err, NOMEM, "no memory for the registry's keys");
    }
    dk_rc rc = dk_registry_open_wrap(core, row->uuid, &row->wrap, row->generation,
                                     &ring.key[ring.n - 1].keys, err);
    rc = rc == DK_OK ? txn->ops->registry_keys(txn->self, 1, open_one, &open, err) : rc;
    rc = rc == DK_OK ? open.rc : rc;
    if (rc != DK_OK) {
        dk_ring_close(core, &ring);
        return rc;
    }
    *out = ring;
    return DK_OK;
}

/* ---- from one key to the next ---------------------------------------------------------------- */

struct follow {
    struct dk_core *core;
    const struct dk_ring *ring;
    size_t at; /* which key the next seal is under */
    bool whole;
    int64_t next;
    char prev[DK_HASH_TEXT]; /* "" = not known */
    char want[DK_HASH_TEXT]; /* hash of the first one; "" = any */
    struct dk_ring_end end;
    bool under_last; /* a seal of the last key was seen */
    dk_rc rc;
    struct dk_err *err;
};

static dk_rc refuse(struct follow *follow, const char *why)
{
    return DK_FAIL(follow->err, TAMPERED,
                   "the seals do not lead to the registry's key: seal %lld %s",
                   (long long)follow->next, why);
}

bool dk_ring_is_end(uint32_t generation, const char *heads)
{
    char line[DK_HAND_OVER_TEXT];
    dk_ring_end_line(generation, line);
    size_t n = strlen(heads), m = strlen(line);
    return n >= m && strcmp(heads + n - m, line) == 0 && (n == m || heads[n - m - 1] == '\n');
}

/* Whether the seal is the last of its key, and says so; then the next one is under the next key. */
static dk_rc hand_over(struct follow *follow, const struct dk_seal_row *seal)
{
    const struct dk_ring_key *key = &follow->ring->key[follow->at];
    bool is_last = follow->at + 1 == follow->ring->n;
    char line[DK_HAND_OVER_TEXT];
    if (is_last) {
        follow->under_last = true;
        follow->end.finished =
            follow->end.finished || dk_ring_is_end(key->keys.generation, seal->heads);
        return DK_OK;
    }
    dk_ring_hand_over(&key[1].keys, line);
    bool says = strcmp(seal->heads, line) == 0;
    if (says != (seal->n == key->last_seal)) {
        return refuse(follow, "is not the one that hands over to the next key");
    }
    follow->at += says;
    return DK_OK;
}

static dk_rc follow_seal(struct follow *follow, const struct dk_seal_row *seal)
{
    struct dk_err forged;
    dk_err_clear(&forged);
    if (seal->n != follow->next) {
        return refuse(follow, "is gone");
    }
    dk_rc rc =
        dk_registry_verify_seal(follow->core, &follow->ring->key[follow->at].keys, seal, &forged);
    if (rc == DK_E_TAMPERED) {
        return refuse(follow, "is not under that key");
    }
    if (rc != DK_OK) {
        *follow->err = forged;
        return rc;
    }
    if (follow->prev[0] != '\0' && strcmp(seal->prev, follow->prev) != 0) {
        return refuse(follow, "does not follow the one before");
    }
    DK_TRY(dk_seal_hash(follow->core, seal->mac, follow->prev, follow->err));
    if (follow->want[0] != '\0' && strcmp(follow->want, follow->prev) != 0) {
        return refuse(follow, "is another");
    }
    follow->want[0] = '\0';
    DK_TRY(hand_over(follow, seal));
    follow->end.looked = seal->n;
    follow->next++;
    return DK_OK;
}

static bool see_seal(void *arg, const struct dk_seal_row *seal)
{
    struct follow *follow = arg;
    follow->rc = follow_seal(follow, seal);
    return follow->rc == DK_OK && (follow->whole || !follow->under_last);
}

dk_rc dk_ring_follow(struct dk_core *core, struct dk_txn *txn, const struct dk_ring *ring,
                     const struct dk_seal *start, bool whole, struct dk_ring_end *out,
                     struct dk_err *err)
{
    struct follow follow = {
        .core = core, .ring = ring, .whole = whole, .next = start->n, .err = err};
    memcpy(follow.want, start->hash, sizeof follow.want);
    DK_TRY(txn->ops->seal_walk(txn->self, start->n, see_seal, &follow, err));
    DK_TRY(follow.rc);
    if (!follow.under_last) {
        return refuse(&follow, "is gone");
    }
    *out = follow.end;
    return DK_OK;
}
