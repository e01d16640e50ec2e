/*
 * checkup: what is well and what is not: the provider, the store, the registry's keys and history.
 *
 * Called by the door for `health` and `doctor`. Reads only. Each check tells `each` one line when
 * all is well, else a line for each thing that is not: what it is, since when, what it means for
 * the data, and the command that mends it.
 */
#ifndef DK_KEYS_CHECKUP_H
#define DK_KEYS_CHECKUP_H

#include "keys/core.h"

enum dk_level { DK_LEVEL_OK, DK_LEVEL_NOTE, DK_LEVEL_WARNING, DK_LEVEL_ERROR };

struct dk_check {
    const char *name;
    enum dk_level level;
    const char *text;
    const char *todo; /* "" = nothing */
};

/* Where checks are told; `level` becomes the worst of them. */
struct dk_report {
    void (*each)(void *arg, const struct dk_check *check);
    void *arg;
    enum dk_level level;
    bool thorough; /* for the doctor, and where the registry does not open: asks what costs more */
    int64_t count[DK_LEVEL_ERROR + 1];
};

DK_PRINTF(5, 6)
void dk_report_tell(struct dk_report *report, const char *name, enum dk_level level,
                    const char *todo, const char *format, ...);
/* An error as a check. */
void dk_report_error(struct dk_report *report, const char *name, const struct dk_err *err,
                     const char *meaning);
/* `out` = the worst level that `call` told. */
#define DK_REPORT_LEVEL(out, report, call)                                                         \
    do {                                                                                           \
        enum dk_level before_ = (report)->level;                                                   \
        (report)->level = DK_LEVEL_OK;                                                             \
        (void)(call);                                                                              \
        (out) = (report)->level;                                                                   \
        (report)->level = before_ > (out) ? before_ : (out);                                       \
    } while (0)

/* Wraps and unwraps a canary, and lets the provider say of its master key what a canary does not
   show (state, rotation, deletion); false: the canary failed. *latency_ms counts while it holds. */
bool dk_checkup_provider(struct dk_core *core, struct dk_report *report, int64_t *latency_ms);
/* The same of KMS_SECONDARY_PROVIDER, and whether every key version has a wrap of both; nothing is
   told without one. */
void dk_checkup_second(struct dk_core *core, struct dk_report *report);
/* Reads, and begins a write that changes nothing. */
bool dk_checkup_store(struct dk_core *core, struct dk_report *report, int64_t *latency_ms);
/* Expired and soon to expire; *counts is zero where the store cannot be read. */
void dk_checkup_expiry(struct dk_core *core, struct dk_report *report,
                       struct dk_key_counts *counts);
/* Rotations of the last week that failed and were not made good since. */
void dk_checkup_rotation(struct dk_core *core, struct dk_report *report, int64_t *failed);
/* Whether the registry is as far as it was; *anchored = the seal that the anchor knows, 0 = none.
 */
void dk_checkup_guard(struct dk_core *core, struct dk_report *report, int64_t *anchored);

/* Whether what was written stands in seals, where those are made apart; else nothing is told. */
void dk_checkup_seals(struct dk_core *core, struct dk_report *report);
/* The store's own circumstances: nothing is told where it has none, or cannot be reached. */
void dk_checkup_circumstances(struct dk_core *core, struct dk_report *report);

/* Those below read the whole registry; these two want no more of it than that a transaction begins.
 */
void dk_checkup_integrity(struct dk_core *core, struct dk_report *report);
void dk_checkup_schema(struct dk_core *core, struct dk_report *report);
void dk_checkup_rows(struct dk_core *core, struct dk_report *report);
/* Message budgets, marks of compromise, ages. */
void dk_checkup_keys(struct dk_core *core, struct dk_report *report);
/* The clock beside the newest seal. */
void dk_checkup_clock(struct dk_core *core, struct dk_report *report);

#endif
