/*
 * states: what a key version may do, and which way its state may go (DESIGN 4, I09).
 *
 * Called by the loader and the rules of this room. Pure: a row and the time in, an answer out.
 */
#ifndef DK_KEYS_STATES_H
#define DK_KEYS_STATES_H

#include "keys/core.h"

/* Two years: an active version that old encrypts no more (K8). */
#define DK_ENCRYPT_MAX_US (730 * DK_DAY_US)

/* The state x state table. From a state to itself is no change: false. */
DK_MUST_USE bool dk_state_may_become(enum dk_state from, enum dk_state to);

/* E_DISABLED, E_PURGED (with date) or E_TAMPERED when the version may not be opened. */
DK_MUST_USE dk_rc dk_state_check_open(const struct dk_key_row *row, struct dk_err *err);
/* E_COMPROMISED, E_EXPIRED, E_KEY_EXHAUSTED when the active version may not encrypt. */
DK_MUST_USE dk_rc dk_state_check_encrypt(const struct dk_key_row *row, int64_t now_us,
                                         const struct dk_limits *limits, struct dk_err *err);
/* Due for rotation: in its warning window or past it, near its budget, or compromised. */
DK_MUST_USE bool dk_state_is_due(const struct dk_key_row *row, int64_t now_us,
                                 const struct dk_limits *limits);

#endif
