/* The part of checkup about a store that others share: its circumstances, and who seals. */
#include <string.h>

#include "keys/checkup.h"

#define MOVED_MAX 32     /* chains looked at */
#define ROWS_MAX 1000    /* of the log, for the newest of one chain */
#define POLLS_UNSEALED 5 /* who polls seals: so many missed, and nobody does */

/* ---- circumstances --------------------------------------------------------------------------- */

static const enum dk_level levels[] = {
    [DK_STORE_WELL] = DK_LEVEL_OK,
    [DK_STORE_NOTE] = DK_LEVEL_NOTE,
    [DK_STORE_FINDING] = DK_LEVEL_WARNING,
};

static void tell_note(void *arg, const struct dk_store_note *note)
{
    dk_report_tell(arg, note->name, levels[note->level], note->fix, "%s", note->text);
}

void dk_checkup_circumstances(struct dk_core *core, struct dk_report *report)
{
    struct dk_err err;
    const struct dk_store *store = &core->store;
    dk_err_clear(&err);
    if (store->ops == NULL || store->ops->circumstances == NULL) {
        return;
    }
    dk_rc ignored = store->ops->circumstances(store->self, tell_note, report, &err);
    (void)ignored; /* `database` or `registry` has said why */
}

/* ---- seals ----------------------------------------------------------------------------------- */

struct unsealed {
    size_t n;
    struct dk_moved chain[MOVED_MAX];
};

static bool take_chain(void *arg, const struct dk_moved *moved)
{
    struct unsealed *unsealed = arg;
    unsealed->chain[unsealed->n++] = *moved;
    return unsealed->n < MOVED_MAX;
}

struct newest {
    const struct dk_moved *chain;
    int64_t at; /* of the chain's newest row; DK_TIME_NONE = not found */
    int looked_at;
};

static bool see_row(void *arg, const struct dk_log_row *row)
{
    struct newest *newest = arg;
    if (strcmp(row->mac, newest->chain->head) == 0) {
        newest->at = row->performed_at;
        return false;
    }
    return ++newest->looked_at < ROWS_MAX;
}

/* When the chain moved last. */
static dk_rc read_moment(struct dk_txn *txn, const struct dk_moved *chain, int64_t *at,
                         struct dk_err *err)
{
    struct dk_tenant tenant;
    struct newest newest = {.chain = chain, .at = DK_TIME_NONE};
    struct dk_log_query query = {
        .since = DK_TIME_NONE, .until = DK_TIME_NONE, .newest_first = true};
    if (!chain->process) {
        DK_TRY(dk_tenant_parse(dk_view_str(chain->name), &tenant, err));
        query.tenant = &tenant;
    }
    DK_TRY(txn->ops->log_walk(txn->self, &query, see_row, &newest, err));
    *at = newest.at;
    return DK_OK;
}

/* The oldest moment at which a chain moved last and was not sealed since; DK_TIME_NONE: all are. */
static dk_rc read_oldest(struct dk_txn *txn, int64_t *oldest, struct dk_err *err)
{
    struct unsealed unsealed = {.n = 0};
    *oldest = DK_TIME_NONE;
    DK_TRY(txn->ops->moved(txn->self, take_chain, &unsealed, err));
    for (size_t i = 0; i < unsealed.n; i++) {
        int64_t at = DK_TIME_NONE;
        DK_TRY(read_moment(txn, &unsealed.chain[i], &at, err));
        if (at != DK_TIME_NONE && (*oldest == DK_TIME_NONE || at < *oldest)) {
            *oldest = at;
        }
    }
    return DK_OK;
}

void dk_checkup_seals(struct dk_core *core, struct dk_report *report)
{
    struct dk_err err;
    struct dk_txn txn;
    char since[DK_TIME_TEXT];
    int64_t oldest = DK_TIME_NONE, patience = POLLS_UNSEALED * core->limits.poll_ms * 1000;
    dk_err_clear(&err);
    if (core->store.ops->moved == NULL) {
        return;
    }
    dk_rc rc = dk_store_begin(&core->store, DK_TXN_READ, &txn, &err);
    if (rc == DK_OK) {
        rc = read_oldest(&txn, &oldest, &err);
        dk_store_rollback(&txn);
    }
    if (rc != DK_OK) {
        dk_report_error(report, "seals", &err, "Whether all changes are sealed is not known");
    } else if (oldest != DK_TIME_NONE && dk_wall_us(core->world) - oldest > patience) {
        dk_time_format(oldest, since);
        dk_report_tell(report, "seals", DK_LEVEL_WARNING,
                       "run a process that polls, or a dekhand command that opens a key",
                       "nobody seals: what was changed on %s stands in no seal yet, and whoever "
                       "takes it back is not found out by the anchor",
                       since);
    } else {
        dk_report_tell(report, "seals", DK_LEVEL_OK, "",
                       oldest != DK_TIME_NONE ? "the newest changes are about to be sealed"
                                              : "all changes stand in seals");
    }
}
