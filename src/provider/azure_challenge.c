#include "provider/azure_challenge.h"

#include <stdio.h>

#define BLANKS " \t,"
#define NAME_MAX_BYTES 32
#define VALUE_MAX 512

/* ---- parameters ------------------------------------------------------------------------------ */

struct parameter {
    char name[NAME_MAX_BYTES];
    char value[VALUE_MAX];
};

/* name="value" or name=value; a backslash, which quotes what follows it, is in none of these. */
static bool take_parameter(const char **text, struct parameter *out)
{
    size_t n = strcspn(*text, "=\"" BLANKS);
    if (n == 0 || n >= sizeof out->name || (*text)[n] != '=') {
        return false;
    }
    memcpy(out->name, *text, n);
    out->name[n] = '\0';
    *text += n + 1;
    bool quoted = **text == '"';
    *text += quoted;
    n = strcspn(*text, quoted ? "\"\\" : "\"\\" BLANKS);
    char end = (*text)[n];
    if (n >= sizeof out->value || (quoted ? end != '"' : end != '\0' && !strchr(BLANKS, end))) {
        return false;
    }
    memcpy(out->value, *text, n);
    out->value[n] = '\0';
    *text += n + quoted;
    return **text == '\0' || strchr(BLANKS, **text) != NULL;
}

/* ---- URLs ------------------------------------------------------------------------------------ */

/* https://HOST or https://HOST:PORT, lower-cased; what is behind it is given back. NULL: no such.
 */
static const char *take_host(const char *url, char *out, size_t cap)
{
    static const char https[] = "https://";
    if (strncasecmp(url, https, sizeof https - 1) != 0) {
        return NULL;
    }
    url += sizeof https - 1;
    size_t n = strcspn(url, "/");
    if (n == 0 || n >= cap) {
        return NULL;
    }
    for (size_t i = 0; i < n; i++) {
        out[i] = url[i] >= 'A' && url[i] <= 'Z' ? (char)(url[i] - 'A' + 'a') : url[i];
    }
    out[n] = '\0';
    bool plain = strspn(out, "abcdefghijklmnopqrstuvwxyz0123456789.-:[]") == n;
    return plain ? url + n : NULL;
}

static bool read_authority(const char *url, struct dk_azure_challenge *out)
{
    const char *path = take_host(url, out->authority, sizeof out->authority);
    if (path == NULL || *path++ != '/') {
        return false;
    }
    size_t n = strcspn(path, "/");
    if (n == 0 || n >= sizeof out->tenant) {
        return false;
    }
    memcpy(out->tenant, path, n);
    out->tenant[n] = '\0';
    return strspn(out->tenant,
                  "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-") == n;
}

/* A scope is the resource and /.default. */
static bool read_resource(const char *url, bool scope, struct dk_azure_challenge *out)
{
    const char *rest = take_host(url, out->resource, sizeof out->resource);
    if (rest == NULL) {
        return false;
    }
    return scope ? strcmp(rest, "/.default") == 0 || strcmp(rest, "//.default") == 0
                 : rest[0] == '\0' || strcmp(rest, "/") == 0;
}

/* What is not known is passed over. False: it is no URL of its kind, or was said before. */
static bool take_one(const struct parameter *one, struct dk_azure_challenge *out)
{
    if (strcasecmp(one->name, "authorization") == 0 ||
        strcasecmp(one->name, "authorization_uri") == 0) {
        return out->authority[0] == '\0' && read_authority(one->value, out);
    }
    bool scope = strcasecmp(one->name, "scope") == 0;
    if (scope || strcasecmp(one->name, "resource") == 0) {
        return out->resource[0] == '\0' && read_resource(one->value, scope, out);
    }
    return true;
}

static bool parse(const char *text, struct dk_azure_challenge *out)
{
    struct parameter one;
    text += strspn(text, " \t");
    if (strncasecmp(text, "bearer", 6) != 0 || (text[6] != ' ' && text[6] != '\t')) {
        return false;
    }
    text += 6;
    for (text += strspn(text, BLANKS); *text != '\0'; text += strspn(text, BLANKS)) {
        if (!take_parameter(&text, &one) || !take_one(&one, out)) {
            return false;
        }
    }
    return out->authority[0] != '\0' && out->resource[0] != '\0';
}

dk_rc dk_azure_challenge_parse(const char *text, struct dk_azure_challenge *out, struct dk_err *err)
{
    *out = (struct dk_azure_challenge){0};
    if (!parse(text, out)) {
        *out = (struct dk_azure_challenge){0};
        return DK_FAIL(err, PROVIDER,
                       "Azure Key Vault refuses the call without a challenge that can be read: is "
                       "AZURE_KEY_VAULT_URL a vault?");
    }
    return DK_OK;
}

/* ---- is it to be believed? ------------------------------------------------------------------- */

static bool is_authority_of(const struct dk_azure_cloud *cloud, const char *host)
{
    for (const char *const *name = cloud->authorities; *name != NULL; name++) {
        if (strcmp(*name, host) == 0) {
            return true;
        }
    }
    return false;
}

/* One of the vault's cloud, or of any where the vault is of none; or the one that is set. */
static bool is_known_authority(const struct dk_azure_setup *setup, const char *host)
{
    if (setup->authority_set && strcmp(host, setup->authority.authority) == 0) {
        return true;
    }
    if (setup->cloud != NULL) {
        return is_authority_of(setup->cloud, host);
    }
    const struct dk_azure_cloud *cloud;
    for (size_t i = 0; (cloud = dk_azure_cloud_at(i)) != NULL; i++) {
        if (is_authority_of(cloud, host)) {
            return true;
        }
    }
    return false;
}

/*
 * A vault of a cloud has that cloud's resource and no other: "ends with it" would let .net pass,
 * too. A host of one's own may be its own resource, or be in the domain of one. On loopback, where
 * only tests and emulators are, it may also be that of any cloud.
 */
static bool is_known_resource(const struct dk_azure_setup *setup, const char *resource)
{
    const struct dk_endpoint *vault = &setup->vault;
    char suffix[DK_HOST_MAX + 10];
    if (setup->cloud != NULL) {
        return strcmp(resource, setup->cloud->resource) == 0;
    }
    if (strcmp(resource, vault->authority) == 0 || strcmp(resource, vault->host) == 0) {
        return true;
    }
    const struct dk_azure_cloud *cloud;
    for (size_t i = 0; vault->loopback && (cloud = dk_azure_cloud_at(i)) != NULL; i++) {
        if (strcmp(resource, cloud->resource) == 0) {
            return true;
        }
    }
    snprintf(suffix, sizeof suffix, ".%s", resource);
    return !vault->loopback && strchr(resource, '.') != NULL &&
           dk_host_ends_with(vault->host, suffix);
}

/* Only of two ids can it be said that they are not the same: a directory has domains, too. */
static bool is_guid(const char *text)
{
    static const char form[] = "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx";
    if (strlen(text) != sizeof form - 1) {
        return false;
    }
    for (size_t i = 0; i < sizeof form - 1; i++) {
        bool dash = form[i] == '-';
        if (dash ? text[i] != '-' : strchr("0123456789abcdefABCDEF", text[i]) == NULL) {
            return false;
        }
    }
    return true;
}

dk_rc dk_azure_challenge_verify(const struct dk_azure_challenge *challenge,
                                const struct dk_azure_setup *setup, char *out, struct dk_err *err)
{
    if (!is_known_resource(setup, challenge->resource)) {
        return DK_FAIL(err, PROVIDER,
                       "Azure Key Vault at %.80s wants a token for %.80s, which is not its own "
                       "service: none was asked for",
                       setup->vault.authority, challenge->resource);
    }
    if (!is_known_authority(setup, challenge->authority)) {
        return DK_FAIL(err, PROVIDER,
                       "Azure Key Vault at %.80s wants a token from %.80s, which is not the one of "
                       "its cloud nor AZURE_AUTHORITY_HOST: none was asked for",
                       setup->vault.authority, challenge->authority);
    }
    if (is_guid(challenge->tenant) && is_guid(setup->tenant) &&
        strcasecmp(challenge->tenant, setup->tenant) != 0) {
        return DK_FAIL(err, CONFIG,
                       "AZURE_TENANT_ID: the vault %.80s belongs to the directory %s, not to this "
                       "one",
                       setup->vault.authority, challenge->tenant);
    }
    snprintf(out, DK_AZURE_RESOURCE_MAX + 1, "https://%s", challenge->resource);
    return DK_OK;
}
