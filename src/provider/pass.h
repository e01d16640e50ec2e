/*
 * pass: what a process is let in with at a service, kept fresh.
 *
 * Called by aws_credentials.c and azure_token.c, which say how a pass is got and how it is freed.
 * Knows when to ask: near the end of a pass one caller asks for the next and the others go on with
 * what they have; what goes wrong then is of no account. Where there is none that is good, all wait
 * for who asks, and have what he has: the pass, or why there is none. Times are of the clock that
 * counts sleep: a wrong wall clock makes no pass older. A caller uses the one that it has in its
 * hands (get .. put), whatever comes meanwhile. Shared by threads.
 */
#ifndef DK_PROVIDER_PASS_H
#define DK_PROVIDER_PASS_H

#include "base/error.h"
#include "base/world.h"

/* The first member of what is lent. */
struct dk_pass {
    int64_t renew_ms; /* from now on one caller asks for the next one */
    int64_t late_ms;  /* .. and all wait for it */
    int64_t good_ms;  /* the end; INT64_MAX = none */
    unsigned holders; /* pass.c's; 0 at first */
};

struct dk_pass_ask {
    const char *want; /* what dk_passes_get() was asked for; NULL = there is one kind */
    unsigned number;  /* of the pass that is to come: who holds it says so when it is refused */
};

struct dk_pass_ops {
    /*
     * Asks for a pass and sets its times; by one thread at a time, without a lock: it may block.
     * The pass is then the keeper's. On an error there is none.
     */
    dk_rc (*fetch)(void *self, const struct dk_pass_ask *ask, struct dk_pass **out,
                   struct dk_err *err);
    /* Wipes it and frees it. */
    void (*free)(void *self, struct dk_pass *pass);
    /* True when the pass is of this kind; NULL = there is one kind. Asks nobody. */
    bool (*suits)(const struct dk_pass *pass, const char *want);
    int64_t again_ms; /* after a failure that nobody had to wait for */
};

struct dk_passes; /* dk_passes_open .. close */

/* E_NOMEM. Asks nobody. All but `out` and `err` is lent, for as long as it is open. */
DK_MUST_USE dk_rc dk_passes_open(const struct dk_world *world, const struct dk_pass_ops *ops,
                                 void *self, struct dk_passes **out, struct dk_err *err);
/* All passes were put back. NULL is allowed. */
void dk_passes_close(struct dk_passes *passes);
/* In a child: the next get asks anew. `disown` (NULL = nothing to do) makes the pass forget what
   was the parent's, before it is freed. */
void dk_passes_after_fork(struct dk_passes *passes, void (*disown)(struct dk_pass *pass));

/* Lent until dk_passes_put(). The errors of fetch: there is none that is good. */
DK_MUST_USE dk_rc dk_passes_get(struct dk_passes *passes, const char *want, struct dk_pass **out,
                                struct dk_err *err);
/* For who has requests on their way that would wait meanwhile, until they time out: asks only where
   there is none that is good. Before a run somebody gets one the other way. */
DK_MUST_USE dk_rc dk_passes_get_amid(struct dk_passes *passes, const char *want,
                                     struct dk_pass **out, struct dk_err *err);
void dk_passes_put(struct dk_passes *passes, struct dk_pass *pass);
/*
 * The service refused the one of this number: it is lent to nobody any more. True: a get has
 * another, or asks for one. False: this one came just now, there is no use in asking.
 */
bool dk_passes_refused(struct dk_passes *passes, unsigned number);

#endif
