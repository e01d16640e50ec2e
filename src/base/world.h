/*
 * world: the clock, the randomness, the allocator and the trace points a library instance uses.
 *
 * Handed in at open and passed down by pointer, so tests swap them and nobody sleeps. All members
 * may be called from several threads at once.
 */
#ifndef DK_BASE_WORLD_H
#define DK_BASE_WORLD_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct dk_mem {
    void *(*alloc)(void *arg, size_t n); /* NULL when there is none; n > 0 */
    void (*free)(void *arg, void *p);    /* p may be NULL */
    void *arg;
};

/* malloc and free. */
extern const struct dk_mem dk_mem_default;

static inline void *dk_mem_alloc(const struct dk_mem *mem, size_t n)
{
    return mem->alloc(mem->arg, n);
}

static inline void dk_mem_free(const struct dk_mem *mem, void *p)
{
    mem->free(mem->arg, p);
}

/* Zeroed memory, or NULL. */
void *dk_mem_zalloc(const struct dk_mem *mem, size_t n);
/* A NUL-terminated copy, or NULL. */
char *dk_mem_strdup(const struct dk_mem *mem, const char *s);

struct dk_clock {
    int64_t (*wall_us)(void *arg); /* microseconds since 1970-01-01 UTC */
    /* Milliseconds that never go back; a few of them coarse: read on every call. */
    int64_t (*mono_ms)(void *arg);
    int64_t (*boot_ms)(void *arg); /* the same, and the time that the machine slept counts */
    void *arg;
};

struct dk_random {
    /* Fills n bytes; 0 = failed, and the bytes must not be used. */
    int (*fill)(void *arg, uint8_t *p, size_t n);
    /* The same for keys (RAND_priv_bytes). */
    int (*fill_private)(void *arg, uint8_t *p, size_t n);
    void *arg;
};

struct dk_world {
    struct dk_mem mem;
    struct dk_clock clock;
    struct dk_random random;
    /* Called at the labelled points of a change (tests kill the process there); may be NULL. */
    void (*trace)(void *arg, const char *label);
    void *trace_arg;
};

/* The real one: malloc, CLOCK_REALTIME, CLOCK_MONOTONIC_COARSE, OpenSSL's DRBG. */
extern const struct dk_world dk_world_default;

static inline int64_t dk_wall_us(const struct dk_world *world)
{
    return world->clock.wall_us(world->clock.arg);
}

static inline int64_t dk_mono_ms(const struct dk_world *world)
{
    return world->clock.mono_ms(world->clock.arg);
}

static inline int64_t dk_boot_ms(const struct dk_world *world)
{
    return world->clock.boot_ms(world->clock.arg);
}

static inline void dk_trace(const struct dk_world *world, const char *label)
{
    if (world->trace != NULL) {
        world->trace(world->trace_arg, label);
    }
}

/* Random bytes; E_RANDOM, and `p` zeroed, when the generator fails (K11: no fallback). */
DK_MUST_USE dk_rc dk_random_fill(const struct dk_world *world, uint8_t *p, size_t n,
                                 struct dk_err *err);

/* A timestamp is microseconds since 1970; this value stands for NULL. */
#define DK_TIME_NONE INT64_MIN
#define DK_TIME_TEXT 28 /* "YYYY-MM-DDTHH:MM:SS.ffffffZ" and the NUL */
#define DK_DAY_US (INT64_C(86400) * 1000000)

/* Years 0001 to 9999; outside them the text is the nearest of the two ends. */
void dk_time_format(int64_t us, char out[static DK_TIME_TEXT]);
/* Only the exact form above; false otherwise. */
DK_MUST_USE bool dk_time_parse(const char *text, size_t len, int64_t *us);

#define DK_UUID_TEXT 37
/* A random UUID (RFC 9562 version 4), lower case. */
DK_MUST_USE dk_rc dk_uuid_new(const struct dk_world *world, char out[static DK_UUID_TEXT],
                              struct dk_err *err);

#endif
