/*
 * http_ask: a call of net/http whose owner is a test: it writes one plain request, keeps what was
 * answered, and judges as the owners of src/ do. And a desk: what such a test works with.
 *
 * The fake answers PUT /latest/api/token without a signature: that is what is asked.
 */
#ifndef DK_TEST_HTTP_ASK_H
#define DK_TEST_HTTP_ASK_H

#include "net/http.h"
#include "support/expect.h"

enum { DK_ASKS_BUILT = 8 };

struct dk_ask {
    const struct dk_endpoint *to;
    dk_rc build_fails; /* DK_OK = it does not */
    struct dk_err err;
    int built;
    int64_t built_ms[DK_ASKS_BUILT]; /* when, by the machine's clock */
    int judged;
    long status; /* of the last answer */
    char head[1024];
    char body[512];
    size_t body_n; /* of all of it */
};

struct dk_ask dk_ask_of(const struct dk_endpoint *to);
struct dk_http_call dk_ask_call(struct dk_ask *ask);
/* One call; how it ended. */
dk_rc dk_ask_run(struct dk_http *http, struct dk_ask *ask);

/* How the fake answers what is asked, the next `times` times (-1 = always), and how often it was.
 */
void dk_ask_script(const char *answer, int times);
int dk_ask_count(void);

/* The endpoint behind a URL of this machine; aborts when it is none. */
struct dk_endpoint dk_ask_endpoint(const char *url);
int64_t dk_ask_now_ms(void);

/* Short waits, and time enough for a machine that is busy: where nothing hangs. */
extern const struct dk_http_limits dk_ask_quick;

/* A world, and in it a client that believes the fake's certificates. */
struct dk_ask_desk {
    struct dk_test_world w;
    struct dk_endpoint tls, plain;
    struct dk_http *http;
};

/* The fake is reset; aborts when anything fails. */
void dk_ask_desk_open(struct dk_ask_desk *desk, struct dk_http_limits limits);
/* Its client anew, with other limits. */
void dk_ask_desk_reopen(struct dk_ask_desk *desk, struct dk_http_limits limits);
/* One more in its world; NULL = the system's authorities, no proxy. dk_http_close(). */
struct dk_http *dk_ask_desk_http(struct dk_ask_desk *desk, struct dk_http_limits limits,
                                 const char *ca_file, const char *proxy);
/* True when all memory of the world was given back. */
bool dk_ask_desk_close(struct dk_ask_desk *desk);

#endif
