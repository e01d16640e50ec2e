/*
 * sweep: a call in which each allocation, or each I/O, fails in turn.
 *
 * alloc_test.c and io_sweep_test.c share it. A scenario (sweep_table.c) says what is prepared, what
 * is called and what must hold after. Its folder is made once and put back before each round, so
 * that every round meets the same registry and makes the same calls up to the one that fails. Then:
 * an error with a name that fits, the same call again without a fault, rows as before or as after,
 * the first tenant's value opens, nothing is leaked.
 */
#ifndef DK_TEST_SWEEP_H
#define DK_TEST_SWEEP_H

#include "support/world.h"

struct dk_sweep {
    struct dk_place place;
    struct dekhand *d;         /* NULL while a scenario that opens for itself runs */
    struct dk_test_value kept; /* of tenant "kept", from before; none where nothing is prepared */
    bool well;                 /* nothing fails: the call has to do all that it is for */
};

struct dk_sweep_scenario {
    const char *name;
    bool bare;                           /* an empty folder: no registry, no value */
    bool opens;                          /* there is no handle: the call opens for itself */
    int days;                            /* between what was prepared and the call */
    void (*prepare)(struct dk_sweep *s); /* beside tenant "kept"; NULL = nothing */
    int (*run)(struct dk_sweep *s);
    void (*after)(struct dk_sweep *s); /* what must hold beside the above; NULL = nothing */
};

#define DK_SWEEP_SCENARIOS 26
extern const struct dk_sweep_scenario dk_sweep_table[DK_SWEEP_SCENARIOS];

/*
 * Which of the calls fail in turn; DEKHAND_SWEEP=full: each, whatever the program wants. A call is
 * known by its stack: our frames, and SQLite's below them.
 */
enum dk_sweep_points {
    DK_SWEEP_EACH,
    DK_SWEEP_UNLIKE, /* of each stack, ours and SQLite's, the first */
    DK_SWEEP_OURS,   /* of each stack of ours the first; of SQLite's one in the whole program */
    DK_SWEEP_LAST,   /* of each place of ours (the three frames next to SQLite) the last */
};

/* How calls fail. */
struct dk_sweep_way {
    unsigned kinds;                 /* for the program: which calls */
    int error;                      /* .. and with what */
    enum dk_sweep_points once, all; /* where one fails; where one and all after it do */
    const char *const *names;       /* of errors that fit, NULL at the end */
    /* From here to `disarm` calls of these kinds ask dk_sweep_point(). */
    void (*arm)(struct dk_sweep *s, const struct dk_sweep_way *way);
    void (*disarm)(struct dk_sweep *s);
};

/* One call of the kind that fails; true: it is to fail now. */
bool dk_sweep_point(void);

/* Fills DK_SWEEP_SCENARIOS tests: `run` with a scenario as its state, called `title` with its name
   for %s. */
void dk_sweep_tests(struct CMUnitTest *tests, const char *title, void (*run)(void **state));
/* In a test: all of it. */
void dk_sweep_scenario(const struct dk_sweep_scenario *scenario, const struct dk_sweep_way *way);

/* ---- its parts, for a test of its own ---------------------------------------------------------
 */

void dk_sweep_prepare(struct dk_sweep *s, const struct dk_sweep_scenario *scenario);
/* The folder as it was prepared, the clock moved on, a handle where the scenario wants one. */
void dk_sweep_begin(struct dk_sweep *s, const struct dk_sweep_scenario *scenario);
void dk_sweep_end(struct dk_sweep *s);
void dk_sweep_free(struct dk_sweep *s);

#endif
