/*
 * fake_provider: a full provider back end under the test's control.
 *
 * It wraps with AES-256-GCM under a key of its own and enforces the context. It counts its calls,
 * fails the next ones with a code, is slow (calls wait at a gate until the test opens it: nobody
 * sleeps), and answers with what a provider must not answer with. Its state lies in shared memory:
 * forked children count into the same numbers.
 */
#ifndef DK_TEST_FAKE_PROVIDER_H
#define DK_TEST_FAKE_PROVIDER_H

#include <pthread.h>
#include <stdatomic.h>
#include <sys/types.h>

#include "provider/provider.h"

#define DK_FAKE_KEY_ID "fake:11111111111111111111111111111111"

enum dk_fake_call {
    DK_FAKE_OPEN,
    DK_FAKE_DESCRIBE,
    DK_FAKE_GENERATE,
    DK_FAKE_WRAP,
    DK_FAKE_UNWRAP,
    DK_FAKE_AFTER_FORK,
    DK_FAKE_CALLS
};

/* What a data key looks like that the fake hands out (generate) or opens (unwrap). */
enum dk_fake_key {
    DK_FAKE_GOOD,
    DK_FAKE_BYTES_0,
    DK_FAKE_BYTES_31,
    DK_FAKE_BYTES_33,
    DK_FAKE_ZEROS,
    DK_FAKE_SAME /* the same key each time */
};

struct dk_fake {
    atomic_int calls[DK_FAKE_CALLS];
    atomic_int fail[DK_FAKE_CALLS]; /* the code with which the next calls end .. */
    atomic_int left[DK_FAKE_CALLS]; /* .. and how many; negative = all */
    atomic_int fresh;               /* enum dk_fake_key of generate */
    atomic_int opened;              /* of unwrap */
    atomic_bool other_key_id;       /* unwrap answers under another key id */
    atomic_bool no_key_id;          /* generate and wrap answer without one */
    atomic_bool flip_wrap;          /* a bit of each fresh wrap is wrong (I15) */
    atomic_bool wrap_another;       /* each fresh wrap holds another key */
    pid_t home;                     /* the gate holds up calls of this process alone */
    pthread_mutex_t lock;           /* guards the rest */
    pthread_cond_t changed;
    bool gate_shut;
    int waiting; /* calls that stand at the gate */
};

extern const struct dk_provider_ops dk_fake_provider;

/* For dk_parts.provider_arg and dk_provider_setup.test_arg. */
struct dk_fake *dk_fake_new(void);
void dk_fake_free(struct dk_fake *fake);

/* The next `count` calls (-1 = all) of this kind end with `rc`. */
void dk_fake_fail(struct dk_fake *fake, enum dk_fake_call call, dk_rc rc, int count);
/* Everything but describe and open ends with E_UNREACHABLE, until dk_fake_up(). */
void dk_fake_down(struct dk_fake *fake);
void dk_fake_up(struct dk_fake *fake);
/* generate + wrap + unwrap so far. */
int dk_fake_uses(const struct dk_fake *fake);

/* From now on calls of generate, wrap and unwrap wait; the second waits until `n` stand there. */
void dk_fake_shut_gate(struct dk_fake *fake);
void dk_fake_await(struct dk_fake *fake, int n);
void dk_fake_open_gate(struct dk_fake *fake);

#endif
