/*
 * pruned: what a prune of the log leaves as its proof: a row `prune`, and the seal that it names.
 *
 * Called by prune, which writes it, and by verify, which asks for no row that stands in that seal
 * or one before it. A row counts only when its MAC is right under a key of the registry.
 */
#ifndef DK_KEYS_PRUNED_H
#define DK_KEYS_PRUNED_H

#include "keys/ring.h"

#define DK_PRUNED_TEXT 160

struct dk_pruned {
    int64_t seal; /* rows in it and in those before it may be gone; 0 = the log was never pruned */
    char hash[DK_HASH_TEXT]; /* of that seal */
    int64_t rows;            /* that the prune wanted to delete */
    int64_t seq;             /* up to this one */
};

/* The detail of the row, and back; false: dekhand does not write it so. */
void dk_pruned_format(const struct dk_pruned *pruned, char out[static DK_PRUNED_TEXT]);
bool dk_pruned_parse(const char *text, struct dk_pruned *out);

/* The one that goes furthest. */
DK_MUST_USE dk_rc dk_pruned_read(struct dk_core *core, struct dk_txn *txn,
                                 const struct dk_ring *ring, struct dk_pruned *out,
                                 struct dk_err *err);

#endif
