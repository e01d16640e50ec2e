/* A key of Azure Key Vault: its id, and what GET says of it. */
#include <stdio.h>

#include "net/json_in.h"
#include "provider/azure_vault.h"

#define LAST_SECOND INT64_C(253402300799) /* of the year 9999 */
#define HEX "0123456789abcdefABCDEF"
#define NAME_CHARACTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-"

static void lower(char *text)
{
    for (; *text != '\0'; text++) {
        *text = *text >= 'A' && *text <= 'Z' ? (char)(*text - 'A' + 'a') : *text;
    }
}

static bool take_word(const char *text, size_t n, const char *characters, char *out, size_t cap)
{
    if (n == 0 || n >= cap || strspn(text, characters) < n) {
        return false;
    }
    memcpy(out, text, n);
    out[n] = '\0';
    return true;
}

/* ---- key ids --------------------------------------------------------------------------------- */

static bool read_port(const char *text, size_t n, struct dk_vault_kid *out)
{
    unsigned port = 0;
    for (size_t i = 0; i < n && n <= 5; i++) {
        if (text[i] < '0' || text[i] > '9') {
            return false;
        }
        port = port * 10 + (unsigned)(text[i] - '0');
    }
    out->port = (uint16_t)port;
    return n > 0 && n <= 5 && port > 0 && port <= UINT16_MAX;
}

/* HOST, HOST:PORT or [ADDRESS]:PORT, up to the path. */
static bool read_host(const char *text, size_t n, struct dk_vault_kid *out)
{
    const char *close = text[0] == '[' ? memchr(text, ']', n) : NULL;
    size_t host = close != NULL ? (size_t)(close - text) + 1 : strcspn(text, ":/");
    size_t inner = close != NULL ? host - 2 : host;
    if (host > n || !take_word(text + (close != NULL), inner,
                               "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-:",
                               out->host, sizeof out->host)) {
        return false;
    }
    lower(out->host);
    out->port = out->tls ? 443 : 80;
    return host == n || (text[host] == ':' && read_port(text + host + 1, n - host - 1, out));
}

/* NAME or NAME/VERSION */
static bool read_name(const char *text, struct dk_vault_kid *out)
{
    size_t n = strcspn(text, "/");
    if (!take_word(text, n, NAME_CHARACTERS, out->name, sizeof out->name)) {
        return false;
    }
    const char *version = text + n + (text[n] == '/');
    if (*version == '\0') {
        return true;
    }
    bool ok = strlen(version) == DK_VAULT_VERSION_LEN &&
              take_word(version, DK_VAULT_VERSION_LEN, HEX, out->version, sizeof out->version);
    lower(out->version);
    return ok;
}

bool dk_vault_kid_parse(const char *text, struct dk_vault_kid *out)
{
    *out = (struct dk_vault_kid){0};
    out->tls = strncasecmp(text, "https://", 8) == 0;
    if (!out->tls && strncasecmp(text, "http://", 7) != 0) {
        return false;
    }
    text += out->tls ? 8 : 7;
    size_t n = strcspn(text, "/");
    return read_host(text, n, out) && strncmp(text + n, "/keys/", 6) == 0 &&
           read_name(text + n + 6, out);
}

bool dk_vault_kid_copy(const char *text, char out[static DK_KMS_KEY_ID_MAX + 1])
{
    size_t n = text != NULL ? strlen(text) : 0;
    if (n == 0 || n > DK_KMS_KEY_ID_MAX || !dk_is_word(text)) {
        return false;
    }
    memcpy(out, text, n + 1);
    char *host = strstr(out, "://");
    for (host = host != NULL ? host + 3 : out; *host != '\0' && *host != '/'; host++) {
        *host = *host >= 'A' && *host <= 'Z' ? (char)(*host - 'A' + 'a') : *host;
    }
    return true;
}

bool dk_vault_kid_equal(const struct dk_vault_kid *a, const struct dk_vault_kid *b)
{
    return strcmp(a->host, b->host) == 0 && a->port == b->port && a->tls == b->tls &&
           strcasecmp(a->name, b->name) == 0 && strcmp(a->version, b->version) == 0;
}

bool dk_vault_kid_is_of(const struct dk_vault_kid *kid, const struct dk_azure_setup *setup)
{
    return strcmp(kid->host, setup->vault.host) == 0 && kid->port == setup->vault.port &&
           kid->tls == setup->vault.tls && strcasecmp(kid->name, setup->key_name) == 0;
}

/* ---- what GET says --------------------------------------------------------------------------- */

static const struct {
    const char *kty;
    enum dk_vault_kind kind;
} kinds[] = {{"RSA", DK_VAULT_RSA}, {"RSA-HSM", DK_VAULT_RSA}, {"oct-HSM", DK_VAULT_OCT}};

/* The modulus's length; 0: it cannot be read, or begins with a zero. */
static size_t bits_of(const char *n)
{
    uint8_t modulus[DK_VAULT_VALUE_MAX * 2];
    size_t bytes = 0, len = n != NULL ? strlen(n) : 0;
    if (len == 0 || !dk_base64url_decoded_len(len, &bytes) || bytes > sizeof modulus ||
        !dk_base64url_decode(n, len, modulus) || modulus[0] < 0x80) {
        return 0;
    }
    return bytes * 8;
}

static void read_ops(const json_t *list, struct dk_vault_key *out)
{
    out->has_ops = json_is_array(list);
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *text = json_string_value(json_array_get(list, i));
        for (unsigned op = DK_VAULT_ENCRYPT; text != NULL && op < DK_VAULT_OPS; op++) {
            if (strcmp(text, dk_vault_op_name((enum dk_vault_op)op)) == 0) {
                out->ops |= 1U << op;
            }
        }
    }
}

/* Seconds since 1970; 0: none is set. What is later than the year 9999 is its end. */
static int64_t read_time(const json_t *attributes, const char *name)
{
    int64_t at = 0;
    if (!dk_json_in_int(attributes, name, &at) || at <= 0) {
        return 0;
    }
    return at < LAST_SECOND ? at : LAST_SECOND;
}

static dk_rc read_members(const json_t *json, struct dk_vault_key *out, struct dk_err *err)
{
    const json_t *key = dk_json_in_object(json, "key");
    const json_t *attributes = dk_json_in_object(json, "attributes");
    const char *kid = dk_json_in_text(key, "kid"), *kty = dk_json_in_text(key, "kty");
    const char *recovery = dk_json_in_text(attributes, "recoveryLevel");
    *out = (struct dk_vault_key){.kind = DK_VAULT_OTHER};
    if (!dk_vault_kid_copy(kid, out->kid) || kty == NULL || strlen(kty) >= sizeof out->kty ||
        !dk_is_word(kty)) {
        return DK_FAIL(err, PROVIDER, "Azure Key Vault described a key without its id or kind");
    }
    memcpy(out->kty, kty, strlen(kty) + 1);
    snprintf(out->recovery, sizeof out->recovery, "%s", recovery != NULL ? recovery : "");
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        if (strcmp(kinds[i].kty, kty) == 0) {
            out->kind = kinds[i].kind;
        }
    }
    out->bits = bits_of(dk_json_in_text(key, "n"));
    read_ops(json_object_get(key, "key_ops"), out);
    out->enabled = dk_json_in_bool(attributes, "enabled") != 0;
    out->nbf = read_time(attributes, "nbf");
    out->exp = read_time(attributes, "exp");
    return DK_OK;
}

dk_rc dk_vault_read_key(struct dk_view body, struct dk_vault_key *out, struct dk_err *err)
{
    json_t *json = NULL;
    dk_rc rc = dk_json_in_parse(body, &json, err);
    if (rc == DK_OK) {
        rc = read_members(json, out, err);
        json_decref(json);
    }
    return rc == DK_OK ? rc : dk_err_while(err, "reading the answer to get");
}

/* ---- will it do? ----------------------------------------------------------------------------- */

dk_rc dk_vault_check_kind(const struct dk_vault_key *key, struct dk_err *err)
{
    bool size = key->bits == 2048 || key->bits == 3072 || key->bits == 4096;
    if (key->kind == DK_VAULT_OCT || (key->kind == DK_VAULT_RSA && size)) {
        return DK_OK;
    }
    char shown[32] = "";
    if (key->kind == DK_VAULT_RSA) {
        snprintf(shown, sizeof shown, "-%zu", key->bits);
    }
    return DK_FAIL(err, CONFIG,
                   "AZURE_KEY_NAME: a key of the kind %s%s cannot wrap; RSA or RSA-HSM of 2048, "
                   "3072 or 4096 bits will do, and oct-HSM of 256",
                   key->kty, shown);
}

dk_rc dk_vault_check_usable(const struct dk_vault_key *key, int64_t now_s, struct dk_err *err)
{
    char at[DK_TIME_TEXT];
    if (!key->enabled) {
        return DK_FAIL(err, MASTER_KEY_DISABLED,
                       "the master key is disabled: nothing is wrapped under %.120s", key->kid);
    }
    if (key->exp != 0 && now_s >= key->exp) {
        dk_time_format(key->exp * 1000000, at);
        return DK_FAIL(err, MASTER_KEY_DISABLED,
                       "the master key has expired at %s: give it a new version (%.120s)", at,
                       key->kid);
    }
    if (key->nbf != 0 && now_s < key->nbf) {
        dk_time_format(key->nbf * 1000000, at);
        return DK_FAIL(err, MASTER_KEY_DISABLED, "the master key is not valid before %s (%.120s)",
                       at, key->kid);
    }
    return DK_OK;
}
