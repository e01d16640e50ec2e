#include "keys/pruned.h"

#include <stdio.h>
#include <string.h>

#include "keys/registry.h"

void dk_pruned_format(const struct dk_pruned *pruned, char out[static DK_PRUNED_TEXT])
{
    snprintf(out, DK_PRUNED_TEXT, "seal %lld %s rows %lld seq %lld", (long long)pruned->seal,
             pruned->hash, (long long)pruned->rows, (long long)pruned->seq);
}

bool dk_pruned_parse(const char *text, struct dk_pruned *out)
{
    long long seal = 0, rows = 0, seq = 0;
    char again[DK_PRUNED_TEXT];
    struct dk_pruned pruned = {.seal = 0};
    if (sscanf(text, "seal %18lld %64[0-9a-f] rows %18lld seq %18lld", &seal, pruned.hash, &rows,
               &seq) != 4) {
        return false;
    }
    pruned.seal = seal;
    pruned.rows = rows;
    pruned.seq = seq;
    dk_pruned_format(&pruned, again);
    if (strcmp(again, text) != 0 || seal < 1 || rows < 1 || seq < 1) {
        return false;
    }
    *out = pruned;
    return true;
}

struct search {
    struct dk_core *core;
    const struct dk_ring *ring;
    struct dk_pruned best;
};

static bool is_ours(const struct search *search, const struct dk_log_row *row)
{
    struct dk_err one;
    for (size_t i = search->ring->n; i > 0; i--) {
        const struct dk_registry_keys *keys = &search->ring->key[i - 1].keys;
        dk_err_clear(&one);
        if (keys->generation != 0 &&
            dk_registry_verify_log(search->core, keys, row, &one) == DK_OK) {
            return true;
        }
    }
    return false;
}

static bool see_row(void *arg, const struct dk_log_row *row)
{
    struct search *search = arg;
    struct dk_pruned pruned;
    if (strcmp(row->operation, "prune") == 0 && dk_pruned_parse(row->detail, &pruned) &&
        pruned.seal > search->best.seal && is_ours(search, row)) {
        search->best = pruned;
    }
    return true;
}

dk_rc dk_pruned_read(struct dk_core *core, struct dk_txn *txn, const struct dk_ring *ring,
                     struct dk_pruned *out, struct dk_err *err)
{
    static const struct dk_tenant all = {.n = 1, .s = "*"};
    struct search search = {core, ring, {.seal = 0}};
    struct dk_log_query query = {.tenant = &all, .since = DK_TIME_NONE, .until = DK_TIME_NONE};
    DK_TRY(txn->ops->log_walk(txn->self, &query, see_row, &search, err));
    *out = search.best;
    return DK_OK;
}
