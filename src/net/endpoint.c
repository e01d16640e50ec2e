#include "net/endpoint.h"

#include <arpa/inet.h>
#include <curl/curl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>

/* Where AWS and Azure put what hands out credentials: IMDS, ECS, EKS. */
static const char *const metadata_hosts[] = {"169.254.169.254", "169.254.170.2", "169.254.170.23",
                                             "fd00:ec2::254",   "fd00:ec2::23",  NULL};

bool dk_host_ends_with(const char *host, const char *suffix)
{
    size_t h = strlen(host), s = strlen(suffix);
    return h > s && strcmp(host + h - s, suffix) == 0;
}

static void lower(char *text)
{
    for (; *text != '\0'; text++) {
        *text = *text >= 'A' && *text <= 'Z' ? (char)(*text - 'A' + 'a') : *text;
    }
}

/* ---- addresses ------------------------------------------------------------------------------- */

static bool is_loopback_4(uint32_t a)
{
    return a >> 24 == 127;
}

/* Nothing that a service can have: this host, link-local, multicast and what is above. */
static bool is_special_4(uint32_t a)
{
    return a >> 24 == 0 || a >> 24 == 127 || a >> 16 == 0xA9FE || a >> 28 >= 0xE;
}

/* An IPv4 address in another's clothes: a NAT64 gateway leads to it, or the kernel does. */
static bool holds_v4(const struct in6_addr *a, uint32_t *v4)
{
    *v4 = dk_get_u32(a->s6_addr + 12);
    bool nat64 = dk_get_u32(a->s6_addr) == 0x0064FF9B && dk_get_u32(a->s6_addr + 4) == 0 &&
                 dk_get_u32(a->s6_addr + 8) == 0;
    return nat64 || IN6_IS_ADDR_V4MAPPED(a) || (IN6_IS_ADDR_V4COMPAT(a) && *v4 > 1);
}

static bool is_loopback(const struct sockaddr *address)
{
    if (address->sa_family == AF_INET) {
        const struct sockaddr_in *in = (const void *)address;
        return is_loopback_4(ntohl(in->sin_addr.s_addr));
    }
    const struct sockaddr_in6 *in6 = (const void *)address;
    return IN6_IS_ADDR_LOOPBACK(&in6->sin6_addr) ||
           (IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr) &&
            is_loopback_4(dk_get_u32(in6->sin6_addr.s6_addr + 12)));
}

/* AWS puts its metadata at fd00:ec2::/32, which no other use of that prefix may be taken for. */
static bool is_special_6(const struct in6_addr *a)
{
    return IN6_IS_ADDR_LOOPBACK(a) || IN6_IS_ADDR_UNSPECIFIED(a) || IN6_IS_ADDR_LINKLOCAL(a) ||
           IN6_IS_ADDR_SITELOCAL(a) || IN6_IS_ADDR_MULTICAST(a) ||
           dk_get_u32(a->s6_addr) == 0xFD000EC2;
}

static bool is_special(const struct sockaddr *address)
{
    uint32_t v4;
    if (address->sa_family == AF_INET) {
        const struct sockaddr_in *in = (const void *)address;
        return is_special_4(ntohl(in->sin_addr.s_addr));
    }
    const struct sockaddr_in6 *in6 = (const void *)address;
    return is_special_6(&in6->sin6_addr) || (holds_v4(&in6->sin6_addr, &v4) && is_special_4(v4));
}

static bool same_address(const char *text, const struct sockaddr *address)
{
    uint8_t bytes[16];
    if (address->sa_family == AF_INET) {
        const struct sockaddr_in *in = (const void *)address;
        return inet_pton(AF_INET, text, bytes) == 1 && memcmp(bytes, &in->sin_addr, 4) == 0;
    }
    const struct sockaddr_in6 *in6 = (const void *)address;
    return inet_pton(AF_INET6, text, bytes) == 1 && memcmp(bytes, &in6->sin6_addr, 16) == 0;
}

bool dk_endpoint_may_connect(const struct dk_endpoint *endpoint, const struct sockaddr *address)
{
    if (address->sa_family != AF_INET && address->sa_family != AF_INET6) {
        return false;
    }
    if (endpoint->loopback) {
        return is_loopback(address);
    }
    if (endpoint->kind == DK_ENDPOINT_METADATA) {
        return same_address(endpoint->host, address);
    }
    return !is_special(address);
}

/* ---- URLs ------------------------------------------------------------------------------------ */

static bool is_loopback_host(const char *host)
{
    struct sockaddr_in in = {.sin_family = AF_INET};
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6};
    if (inet_pton(AF_INET, host, &in.sin_addr) == 1) {
        return is_loopback((const void *)&in);
    }
    if (inet_pton(AF_INET6, host, &in6.sin6_addr) == 1) {
        return is_loopback((const void *)&in6);
    }
    return strcmp(host, "localhost") == 0;
}

static bool is_listed(const char *host, const char *list)
{
    size_t n = strlen(host);
    while (list != NULL && *(list += strspn(list, ", ")) != '\0') {
        size_t item = strcspn(list, ", ");
        if (item == n && strncasecmp(list, host, n) == 0) {
            return true;
        }
        list += item;
    }
    return false;
}

static bool is_allowed_host(const char *host, const struct dk_endpoint_policy *policy)
{
    if (policy->kind == DK_ENDPOINT_METADATA) {
        for (const char *const *fixed = metadata_hosts; *fixed != NULL; fixed++) {
            if (strcmp(*fixed, host) == 0) {
                return true;
            }
        }
        struct in_addr v4;
        return policy->link_local && inet_pton(AF_INET, host, &v4) == 1 &&
               ntohl(v4.s_addr) >> 16 == 0xA9FE;
    }
    for (const char *const *suffix = policy->suffixes; *suffix != NULL; suffix++) {
        if (dk_host_ends_with(host, *suffix)) {
            return true;
        }
    }
    return is_listed(host, policy->allowed);
}

/* A number is no name here: 0x7f.1, 2130706433 and 0177.0.0.1 are read by some as 127.0.0.1, and by
   libcurl: a host that it wrote anew is refused. */
static bool is_as_written(const char *url, const char *host)
{
    const char *at = strstr(url, "://");
    size_t n = strlen(host);
    return at != NULL && (host[0] == '[' ||
                          (strncasecmp(at + 3, host, n) == 0 && strchr(":/", at[3 + n]) != NULL));
}

static bool is_plain_host(const char *host)
{
    uint8_t bytes[16];
    size_t n = strlen(host);
    if (inet_pton(AF_INET, host, bytes) == 1 || inet_pton(AF_INET6, host, bytes) == 1) {
        return true;
    }
    const char *last = strrchr(host, '.');
    last = last != NULL ? last + 1 : host;
    bool named = n > 0 && host[0] != '.' && *last != '\0' && (*last < '0' || *last > '9');
    return named && strspn(host, "abcdefghijklmnopqrstuvwxyz0123456789.-") == n;
}

/* Takes one part of a URL, "" when there is none; false: it does not fit. */
static bool take_part(CURLU *url, CURLUPart part, unsigned flags, char *out, size_t cap)
{
    char *text = NULL;
    out[0] = '\0';
    if (curl_url_get(url, part, &text, flags) != CURLUE_OK) {
        return true;
    }
    bool fits = strlen(text) < cap;
    if (fits) {
        memcpy(out, text, strlen(text) + 1);
    }
    curl_free(text);
    return fits;
}

struct parts {
    char scheme[16];
    char host[DK_HOST_MAX + 3];
    char port[8];
    char extra[8]; /* user, password, query or fragment: there may be none */
};

static dk_rc cut(const char *text, const char *setting, struct parts *parts,
                 struct dk_endpoint *out, struct dk_err *err)
{
    CURLU *url = curl_url();
    bool ok = url != NULL && strlen(text) <= DK_URL_MAX &&
              curl_url_set(url, CURLUPART_URL, text, CURLU_NON_SUPPORT_SCHEME) == CURLUE_OK &&
              take_part(url, CURLUPART_SCHEME, 0, parts->scheme, sizeof parts->scheme) &&
              take_part(url, CURLUPART_HOST, 0, parts->host, sizeof parts->host) &&
              take_part(url, CURLUPART_PORT, CURLU_DEFAULT_PORT, parts->port, sizeof parts->port) &&
              take_part(url, CURLUPART_PATH, 0, out->path, sizeof out->path);
    const CURLUPart forbidden[] = {CURLUPART_USER, CURLUPART_PASSWORD, CURLUPART_QUERY,
                                   CURLUPART_FRAGMENT};
    for (size_t i = 0; ok && i < sizeof forbidden / sizeof forbidden[0]; i++) {
        ok = take_part(url, forbidden[i], 0, parts->extra, sizeof parts->extra) &&
             parts->extra[0] == '\0';
    }
    curl_url_cleanup(url);
    return ok ? DK_OK
              : DK_FAIL(err, CONFIG,
                        "%s: it has to be https://HOST, with a port and a path at most (no user, "
                        "no query)",
                        setting);
}

static void fill(struct dk_endpoint *out, const struct parts *parts)
{
    const char *host = parts->host;
    size_t n = strlen(host);
    bool six = host[0] == '[' && host[n - 1] == ']';
    snprintf(out->host, sizeof out->host, "%.*s", (int)(six ? n - 2 : n), host + six);
    lower(out->host);
    out->tls = strcmp(parts->scheme, "https") == 0;
    out->port = (uint16_t)strtoul(parts->port, NULL, 10);
    out->loopback = is_loopback_host(out->host);
    bool usual = out->port == (out->tls ? 443 : 80);
    snprintf(out->authority, sizeof out->authority, usual ? "%s%s%s" : "%s%s%s:%u", six ? "[" : "",
             out->host, six ? "]" : "", out->port);
    for (n = strlen(out->path); n > 0 && out->path[n - 1] == '/'; n--) {
        out->path[n - 1] = '\0';
    }
}

dk_rc dk_endpoint_parse(const char *url, const struct dk_endpoint_policy *policy,
                        struct dk_endpoint *out, struct dk_err *err)
{
    struct parts parts;
    struct dk_endpoint made = {.kind = policy->kind};
    DK_TRY(cut(url, policy->setting, &parts, &made, err));
    fill(&made, &parts);
    if (!made.tls && strcmp(parts.scheme, "http") != 0) {
        return DK_FAIL(err, CONFIG, "%s: it has to begin with https://", policy->setting);
    }
    if (!is_as_written(url, parts.host) || !is_plain_host(made.host) || made.port == 0) {
        return DK_FAIL(err, CONFIG, "%s: its host is neither a name nor an address",
                       policy->setting);
    }
    if (!made.loopback && !is_allowed_host(made.host, policy)) {
        return DK_FAIL(err, CONFIG, "%s: %.100s is no host of this service%s", policy->setting,
                       made.host,
                       policy->kind == DK_ENDPOINT_METADATA
                           ? ""
                           : "; one of your own is named in KMS_ALLOWED_ENDPOINTS");
    }
    if (!made.tls && !made.loopback && policy->kind == DK_ENDPOINT_SERVICE) {
        return DK_FAIL(err, CONFIG, "%s: http:// is for loopback only, use https://",
                       policy->setting);
    }
    *out = made;
    return DK_OK;
}
