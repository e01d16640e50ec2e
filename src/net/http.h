/*
 * http: requests to one service, several at once, with deadlines, retries and a breaker.
 *
 * Called by provider/. TLS 1.2 at least, host and chain verified; no redirect, no netrc, no proxy
 * of the environment; an answer has at most 64 KiB. Knows nothing of what is asked: a call is built
 * and judged by its owner's functions (struct dk_http_call), and messages are plain bytes that can
 * be built and read without a socket. A dk_http may be shared by threads; it starts none of its own
 * (libcurl's resolver does, and the thread of a look-up that was given up lives on until the
 * system's resolver gives up: by its timeout, attempts and name servers). Requests and answers are
 * wiped when they are done with.
 */
#ifndef DK_NET_HTTP_H
#define DK_NET_HTTP_H

#include "net/endpoint.h"
#include "net/retry.h"

#define DK_HTTP_PATH_MAX 1023
#define DK_HTTP_REPLY_MAX (64 * 1024)
#define DK_HTTP_HEAD_MAX (16 * 1024)

struct dk_http_limits {
    int tries;          /* of a call, the first one included */
    int64_t connect_ms; /* until a connection stands, TLS included */
    int64_t try_ms;     /* of one request and its answer */
    int64_t total_ms;   /* of a call with its retries and waits */
    int64_t wait_ms;    /* the first wait is up to this long, each further one up to twice that */
    int64_t wait_max_ms;
    unsigned parallel;   /* requests on their way in one run */
    unsigned per_second; /* calls of this process that begin in a second; 0 = no limit */
    int budget;          /* of retries (net/retry); 0 = none is counted, no breaker: who hands out
                            credentials          has its own rules */
};

/* SECURITY-BAR 6; connect and try so that one hang leaves room for a second try. */
extern const struct dk_http_limits dk_http_limits_default;

struct dk_http_setup {
    const struct dk_world *world;
    struct dk_http_limits limits;
    const char *service; /* "AWS KMS": named in errors; static */
    const char *ca_file; /* PEM; NULL = the system's */
    const char *proxy;   /* NULL = none */
};

struct dk_http; /* dk_http_open .. dk_http_close */

struct dk_http_request {
    const struct dk_endpoint *to; /* lent: it outlives the call */
    const char *method;
    char path[DK_HTTP_PATH_MAX + 1]; /* behind the endpoint's own; with its query */
    struct dk_buf head;              /* "name: value" and a NUL, each; by dk_http_add */
    struct dk_buf body;
};

struct dk_http_reply {
    long status; /* 0: none came */
    struct dk_view head;
    struct dk_view body;
};

enum dk_http_next {
    DK_HTTP_DONE,
    DK_HTTP_AGAIN, /* something was mended: at once, if a try is left */
    DK_HTTP_LATER, /* it may pass: after a wait, if tries, time and budget are left */
};

/* One call, its owner's. */
struct dk_http_call {
    /* Writes the next request into an empty one. An error ends the call. */
    dk_rc (*build)(void *self, struct dk_http_request *out, struct dk_err *err);
    /* Reads an answer; `err` is clear, or says why none came. It stays as it is when the call ends
       with this answer. */
    enum dk_http_next (*judge)(void *self, const struct dk_http_reply *reply, struct dk_err *err);
    void *self;
    struct dk_err *err; /* how it ended; the owner's, one for each call */
};

DK_MUST_USE dk_rc dk_http_open(const struct dk_http_setup *setup, struct dk_http **out,
                               struct dk_err *err);
void dk_http_close(struct dk_http *http); /* NULL is allowed */
/* In a child process: its parent's connections are let go, without a word on them. */
void dk_http_after_fork(struct dk_http *http);

/* Until all calls have ended; how each did is in its `err`. */
void dk_http_run(struct dk_http *http, struct dk_http_call *calls, size_t count);

/* E_CONFIG: a value that is no header's (a line end in a token: it is refused, not sent). */
DK_MUST_USE dk_rc dk_http_add(struct dk_http_request *request, const char *name, const char *value,
                              struct dk_err *err);
/* Adds text to the body. */
DK_MUST_USE dk_rc dk_http_body(struct dk_http_request *request, const char *text,
                               struct dk_err *err);
/* The lines of a request, one by one: NULL at first, NULL at the end. */
const char *dk_http_next_line(const struct dk_http_request *request, const char *line);
void dk_http_request_init(struct dk_http_request *request, const struct dk_mem *mem);
void dk_http_request_clear(struct dk_http_request *request); /* wipes */

/* A header of an answer (any case), cut to `cap`; false: it has none. */
bool dk_http_header(const struct dk_http_reply *reply, const char *name, char *out, size_t cap);
/* What `Date` says, in microseconds; false: nothing that can be read. */
bool dk_http_date(const struct dk_http_reply *reply, int64_t *us);

#endif
