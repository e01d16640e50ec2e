/*
 * heads: the lines of a seal, exactly as docs/FORMAT.md 13 has them.
 *
 * Called by whoever reads seals, and only for seals whose MAC, or whose place in a report, the
 * caller knows: a line says nothing of who wrote it. Pure.
 */
#ifndef DK_KEYS_HEADS_H
#define DK_KEYS_HEADS_H

#include "keys/core.h"

enum dk_head_of {
    DK_HEAD_OTHER, /* not what dekhand writes */
    DK_HEAD_TENANT,
    DK_HEAD_PROCESS,
    DK_HEAD_REKEY,  /* the only line: the next key */
    DK_HEAD_REKEYED /* the last line: the rekey to that key is over */
};

/* One line. What its kind has not is 0 or "". */
struct dk_head {
    enum dk_head_of of;
    char name[DK_TENANT_MAX + 1]; /* of the tenant, or the node of the process */
    char mac[DK_MAC_TEXT];        /* of the chain's newest row; "": the tenant has none */
    int64_t epoch;
    uint32_t generation;
    char pin[DK_HASH_TEXT];
};

struct dk_heads {
    const char *start; /* lent */
    const char *at;
};

static inline struct dk_heads dk_heads_of(const char *heads)
{
    return (struct dk_heads){heads, heads};
}

/* The next line. False: there is none. */
DK_MUST_USE bool dk_heads_next(struct dk_heads *heads, struct dk_head *out);

#endif
