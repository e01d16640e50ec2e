/*
 * endpoint: where a request may go (I29).
 *
 * Called by provider/. A URL from a setting, a profile or an answer becomes an endpoint only after
 * its scheme, host and form were judged; the address that its name stands for is judged once more
 * when the connection is made, so that a name that moves leads nowhere new. Pure functions.
 */
#ifndef DK_NET_ENDPOINT_H
#define DK_NET_ENDPOINT_H

#include <sys/socket.h>

#include "base/bytes.h"

#define DK_HOST_MAX 253
#define DK_URL_MAX 511

/* What a caller lets an endpoint be. */
enum dk_endpoint_kind {
    /* https to a host that ends as one of `suffixes`, or that is allowed by name; http and https to
       loopback. Private addresses are fine (a private link), link-local ones never. */
    DK_ENDPOINT_SERVICE,
    /* What hands out credentials: loopback, and the fixed addresses that clouds give it. */
    DK_ENDPOINT_METADATA,
};

struct dk_endpoint_policy {
    enum dk_endpoint_kind kind;
    const char *setting;         /* named in errors */
    const char *const *suffixes; /* ".amazonaws.com", .., NULL at the end */
    const char *allowed;         /* further hosts, separated by commas; NULL = none */
    bool link_local; /* METADATA: any address of 169.254.0.0/16, App Service has one of its own */
};

struct dk_endpoint {
    enum dk_endpoint_kind kind;
    bool tls;
    bool loopback; /* its addresses have to be, too */
    uint16_t port;
    char host[DK_HOST_MAX + 1]; /* lower case; an IPv6 address without its brackets */
    char authority[DK_HOST_MAX +
                   9]; /* as in `Host`: with brackets, and a port that is not the default */
    char path[256];    /* what the URL had behind the host: "" or "/..", no slash at its end */
};

/* E_CONFIG names the setting and what is wrong, never a password in the URL. */
DK_MUST_USE dk_rc dk_endpoint_parse(const char *url, const struct dk_endpoint_policy *policy,
                                    struct dk_endpoint *out, struct dk_err *err);

/* Whether a connection of this endpoint may go to this address. */
DK_MUST_USE bool dk_endpoint_may_connect(const struct dk_endpoint *endpoint,
                                         const struct sockaddr *address);

/* True for a host that ends as `suffix` (".x.y") at a label's boundary. Both lower case. */
bool dk_host_ends_with(const char *host, const char *suffix);

#endif
