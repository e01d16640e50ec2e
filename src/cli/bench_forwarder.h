/*
 * bench_forwarder: a proxy (CONNECT) on loopback that carries bytes, and holds answers back when it
 * is told to.
 *
 * Called by bench_kms_cache.c. One thread of its own; it sees nothing but TLS records.
 */
#ifndef DK_CLI_BENCH_FORWARDER_H
#define DK_CLI_BENCH_FORWARDER_H

#include <stdbool.h>
#include <stdint.h>

struct bench_forwarder; /* bench_forwarder_open .. close */

/* NULL: no socket, thread or memory. */
struct bench_forwarder *bench_forwarder_open(uint16_t *port);
void bench_forwarder_close(struct bench_forwarder *f); /* NULL is allowed */

/* From here on nothing that comes back is handed on. */
void bench_forwarder_hold(struct bench_forwarder *f);
/* Until somebody waits for what is held back; false: nobody asked within `ms`. */
bool bench_forwarder_await(struct bench_forwarder *f, int ms);
void bench_forwarder_release(struct bench_forwarder *f);

#endif
