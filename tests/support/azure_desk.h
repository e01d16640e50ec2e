/*
 * azure_desk: the provider of Azure on the fake vault, in a world whose clock and memory are the
 * test's.
 *
 * A test includes it after <cmocka.h>; the fake starts with the first desk.
 */
#ifndef DK_TEST_AZURE_DESK_H
#define DK_TEST_AZURE_DESK_H

#include "provider/provider.h"
#include "support/cloud.h"
#include "support/expect.h"

#define DK_DESK_NOW "2026-01-01T00:00:00.000000Z"

struct dk_desk {
    struct dk_test_world w;
    struct dk_suite suite;
    struct dk_arena *arena;
    struct dk_log log;
    struct dk_settings settings;
    struct dk_provider *provider;
};

/* The fake as at its start, settings with a secret and this key; 64 cells: what is not given back
   is missed soon. */
void dk_desk_new(struct dk_desk *desk, const char *key);
dk_rc dk_desk_try_open(struct dk_desk *desk, struct dk_err *why);
/* Both. */
void dk_desk_open(struct dk_desk *desk, const char *key);
void dk_desk_close(struct dk_desk *desk);

struct dk_wrap_context dk_desk_context(const char *tenant);
/* The record is cleared first. */
dk_rc dk_desk_generate(struct dk_desk *desk, const char *tenant, struct dk_secret *key,
                       struct dk_wrapped *wrapped, struct dk_err *why);
dk_rc dk_desk_unwrap(struct dk_desk *desk, const char *tenant, const struct dk_wrapped *wrapped,
                     struct dk_secret *key, struct dk_err *why);
/* It opens, and to the same key; NULL: to any. */
void dk_desk_expect_opens(struct dk_desk *desk, const char *tenant,
                          const struct dk_wrapped *wrapped, const struct dk_secret *key);
void dk_desk_expect_generates(struct dk_desk *desk);

void dk_desk_clear_counts(void);
/* How many requests of Azure, and connections, there were since then. */
int dk_desk_total(void);

/* A data key that Azure's SDK wrapped under a key of the vault, for tenant acme at DK_DESK_NOW. */
void dk_desk_sdk_wraps(const char *name, uint8_t key[static DK_DATA_KEY], struct dk_wrapped *out);

#endif
