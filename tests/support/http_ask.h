/*
 * http_ask: a call of net/http whose owner is a test: it writes one plain request, keeps what was
 * answered, and judges as the owners of src/ do.
 *
 * The fake answers PUT /latest/api/token without a signature: that is what is asked.
 */
#ifndef DK_TEST_HTTP_ASK_H
#define DK_TEST_HTTP_ASK_H

#include "net/http.h"

/* The fake's names for it, in scripts and counts. */
#define DK_ASK_SERVICE "imds"
#define DK_ASK_OPERATION "Token"
#define DK_ASK_COUNT "imds.Token"

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

/* The endpoint behind a URL of this machine; aborts when it is none. */
struct dk_endpoint dk_ask_endpoint(const char *url);
int64_t dk_ask_now_ms(void);

#endif
