/* Where the servers are: the URL, what it leaves out, and how far they are trusted. */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "store/pg_conn.h"

#define SCHEMA_OPTION "dekhand_schema"
/* The systems' bundles of certificates; libpq looks for one in the home folder only. */
static const char *const bundles[] = {"/etc/ssl/certs/ca-certificates.crt",
                                      "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"};

static dk_rc bad_url(const char *why, struct dk_err *err)
{
    return DK_FAIL(err, CONFIG, "DATABASE_URL: %s; it wants postgresql://user@host:port/database",
                   why);
}

/*
 * The user's part ends at the first @ before a slash, and before the query there is no other one:
 * else what libpq takes for a server's or a database's name is a piece of a password, and those are
 * told in texts.
 */
static dk_rc check_user(const char *url, struct dk_err *err)
{
    const char *from = strstr(url, "://");
    if (from == NULL) {
        return DK_OK;
    }
    from += strlen("://");
    const char *end = from + strcspn(from, "@/");
    from = *end == '@' ? end + 1 : from;
    return memchr(from, '@', strcspn(from, "?")) == NULL
               ? DK_OK
               : bad_url("an @ in a password is written %40, a / there is %2F", err);
}

/* Takes `dekhand_schema=NAME` out of the query: libpq does not know it. */
static dk_rc take_schema(struct dk_pg *store, char *url, struct dk_err *err)
{
    snprintf(store->schema, sizeof store->schema, "dekhand");
    char *at = strstr(url, SCHEMA_OPTION "=");
    if (at == NULL || at == url || (at[-1] != '?' && at[-1] != '&')) {
        return DK_OK;
    }
    char *name = at + strlen(SCHEMA_OPTION "=");
    size_t n = strcspn(name, "&");
    if (n == 0 || n >= sizeof store->schema ||
        strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_") < n) {
        return bad_url("dekhand_schema is 1 to 63 of a-z, 0-9 and _", err);
    }
    memcpy(store->schema, name, n);
    store->schema[n] = '\0';
    name += n + (name[n] == '&');
    memmove(at, name, strlen(name) + 1);
    return DK_OK;
}

static char **option(struct dk_pg *store, const char *keyword)
{
    for (PQconninfoOption *o = store->options; o->keyword != NULL; o++) {
        if (strcmp(o->keyword, keyword) == 0) {
            return &o->val;
        }
    }
    return NULL;
}

static const char *value_of(struct dk_pg *store, const char *keyword)
{
    char **val = option(store, keyword);
    return val != NULL && *val != NULL ? *val : "";
}

/* Only where nothing was said; libpq frees it. */
static bool set_default(struct dk_pg *store, const char *keyword, const char *value)
{
    char **val = option(store, keyword);
    if (val == NULL || (*val != NULL && (*val)[0] != '\0')) {
        return true;
    }
    free(*val);
    *val = strdup(value);
    return *val != NULL;
}

static bool replace(struct dk_pg *store, const char *keyword, const char *value)
{
    char **val = option(store, keyword);
    if (val == NULL) {
        return true;
    }
    free(*val);
    *val = NULL;
    return set_default(store, keyword, value);
}

/* The i-th of a list with commas; a list of one counts for all. */
static void nth(const char *list, size_t i, char *out, size_t cap)
{
    if (strchr(list, ',') == NULL) {
        snprintf(out, cap, "%s", list);
        return;
    }
    for (; i > 0 && *list != '\0'; i--) {
        list += strcspn(list, ",");
        list += *list == ',';
    }
    snprintf(out, cap, "%.*s", (int)strcspn(list, ","), list);
}

static size_t count_of(const char *list)
{
    size_t n = 1;
    for (; *list != '\0'; list++) {
        n += *list == ',';
    }
    return n;
}

static dk_rc take_hosts(struct dk_pg *store, struct dk_err *err)
{
    const char *names = value_of(store, "host"), *addresses = value_of(store, "hostaddr");
    size_t n = count_of(names[0] != '\0' ? names : addresses);
    if (n > DK_PG_HOSTS) {
        return bad_url("8 hosts at most", err);
    }
    for (size_t i = 0; i < n; i++) {
        struct dk_pg_host *host = &store->hosts[i];
        nth(names, i, host->name, sizeof host->name);
        nth(addresses, i, host->address, sizeof host->address);
        nth(value_of(store, "port"), i, host->port, sizeof host->port);
    }
    store->host_count = n;
    return DK_OK;
}

/* A socket file, or an address of this machine. */
static bool is_local(const struct dk_pg_host *host)
{
    const char *name = host->address[0] != '\0' ? host->address : host->name;
    struct in6_addr six;
    struct in_addr four;
    if (name[0] == '\0' || name[0] == '/' || name[0] == '@' || strcmp(name, "localhost") == 0) {
        return true;
    }
    return (inet_pton(AF_INET, name, &four) == 1 && (ntohl(four.s_addr) >> 24) == 127) ||
           (inet_pton(AF_INET6, name, &six) == 1 && IN6_IS_ADDR_LOOPBACK(&six));
}

/* Off this machine the server has to prove its name, unless somebody said sslmode. */
static bool set_tls(struct dk_pg *store, bool said)
{
    bool local = true;
    const char *home = getenv("HOME");
    char own[DK_PATH_MAX];
    for (size_t i = 0; i < store->host_count; i++) {
        local = local && is_local(&store->hosts[i]);
    }
    if (local) {
        return true;
    }
    if (!said && !replace(store, "sslmode", "verify-full")) {
        return false;
    }
    snprintf(own, sizeof own, "%s/.postgresql/root.crt", home != NULL ? home : "");
    for (size_t i = 0; i < sizeof bundles / sizeof bundles[0] && !dk_file_exists(own); i++) {
        if (dk_file_exists(bundles[i])) {
            return set_default(store, "sslrootcert", bundles[i]);
        }
    }
    return true;
}

void dk_pg_name_server(struct dk_pg *store, const struct dk_pg_host *host,
                       char out[static DK_PG_WHERE])
{
    snprintf(out, DK_PG_WHERE, "%.60s:%.5s/%.50s",
             host->name[0] != '\0' ? host->name : host->address, host->port,
             value_of(store, "dbname"));
}

/*
 * `tls`, `attrs`: somebody said sslmode, target_session_attrs. Keepalives: a migration has no
 * deadline, and its server may be gone.
 */
static dk_rc take_options(struct dk_pg *store, bool tls, bool attrs, struct dk_err *err)
{
    DK_TRY(take_hosts(store, err));
    bool writer = store->host_count > 1 && !attrs;
    if (!set_tls(store, tls) || !set_default(store, "application_name", "dekhand") ||
        (writer && !replace(store, "target_session_attrs", "read-write")) ||
        !replace(store, "client_encoding", "UTF8") || !replace(store, "gssencmode", "disable") ||
        !set_default(store, "tcp_user_timeout", "10000") ||
        !set_default(store, "keepalives_idle", "30") ||
        !set_default(store, "keepalives_interval", "10") ||
        !set_default(store, "keepalives_count", "3")) {
        return DK_FAIL(err, NOMEM, "no memory for the database's address");
    }
    dk_pg_name_server(store, &store->hosts[0], store->where);
    return DK_OK;
}

static bool is_in_url(const PQconninfoOption *said, const char *keyword)
{
    for (; said->keyword != NULL; said++) {
        if (strcmp(said->keyword, keyword) == 0 && said->val != NULL) {
            return true;
        }
    }
    return false;
}

static bool is_said(const PQconninfoOption *said, const char *keyword, const char *environment)
{
    return is_in_url(said, keyword) || getenv(environment) != NULL;
}

/* The environment's PG* names fill what the URL leaves out, as in every program of libpq. */
static dk_rc merge(struct dk_pg *store, PQconninfoOption *said, struct dk_err *err)
{
    bool tls = is_said(said, "sslmode", "PGSSLMODE");
    bool attrs = is_said(said, "target_session_attrs", "PGTARGETSESSIONATTRS");
    store->options = PQconndefaults();
    if (store->options == NULL) {
        return DK_FAIL(err, NOMEM, "no memory for the database's address");
    }
    if (is_in_url(said,
                  "service")) { /* its host is known to libpq alone: is it off this machine? */
        return bad_url("service= is not read: name the host", err);
    }
    for (PQconninfoOption *o = said; o->keyword != NULL; o++) {
        char **val = option(store, o->keyword);
        if (o->val != NULL && val != NULL) {
            free(*val);
            *val = o->val;
            o->val = NULL;
        }
    }
    return take_options(store, tls, attrs, err);
}

dk_rc dk_pg_parse(struct dk_pg *store, const char *url, struct dk_err *err)
{
    char *why = NULL;
    char *copy = strdup(url);
    if (copy == NULL) {
        return DK_FAIL(err, NOMEM, "no memory for the database's address");
    }
    dk_rc rc = check_user(copy, err);
    rc = rc == DK_OK ? take_schema(store, copy, err) : rc;
    size_t n = strlen(copy);
    if (rc == DK_OK && n > 0 && (copy[n - 1] == '?' || copy[n - 1] == '&')) {
        copy[n - 1] = '\0';
    }
    PQconninfoOption *said = rc == DK_OK ? PQconninfoParse(copy, &why) : NULL;
    if (rc == DK_OK && said == NULL) {
        rc = bad_url("it is no address of PostgreSQL", err); /* why: may hold the password */
    }
    PQfreemem(why);
    free(copy);
    DK_TRY(rc);
    rc = merge(store, said, err);
    PQconninfoFree(said);
    if (rc != DK_OK) {
        dk_pg_forget_url(store);
    }
    return rc;
}

void dk_pg_forget_url(struct dk_pg *store)
{
    PQconninfoFree(store->options);
    store->options = NULL;
}
