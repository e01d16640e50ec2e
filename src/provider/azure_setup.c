#include "provider/azure_setup.h"

#include <stdio.h>

#include "base/secret.h"

#define PUBLIC                                                                                     \
    {                                                                                              \
        "login.microsoftonline.com", "login.windows.net", "login.microsoft.com", NULL              \
    }
#define US_GOVERNMENT                                                                              \
    {                                                                                              \
        "login.microsoftonline.us", NULL                                                           \
    }
#define CHINA                                                                                      \
    {                                                                                              \
        "login.chinacloudapi.cn", "login.partner.microsoftonline.cn", NULL                         \
    }

static const struct dk_azure_cloud clouds[] = {
    {".vault.azure.net", "vault.azure.net", PUBLIC},
    {".managedhsm.azure.net", "managedhsm.azure.net", PUBLIC},
    {".vault.usgovcloudapi.net", "vault.usgovcloudapi.net", US_GOVERNMENT},
    {".managedhsm.usgovcloudapi.net", "managedhsm.usgovcloudapi.net", US_GOVERNMENT},
    {".vault.azure.cn", "vault.azure.cn", CHINA},
    {".managedhsm.azure.cn", "managedhsm.azure.cn", CHINA},
};
#define CLOUDS (sizeof clouds / sizeof clouds[0])

static const char *const vault_suffixes[] = {".vault.azure.net",
                                             ".managedhsm.azure.net",
                                             ".vault.usgovcloudapi.net",
                                             ".managedhsm.usgovcloudapi.net",
                                             ".vault.azure.cn",
                                             ".managedhsm.azure.cn",
                                             NULL};
static const char *const authority_suffixes[] = {".microsoftonline.com", ".microsoftonline.us",
                                                 ".chinacloudapi.cn", ".microsoftonline.cn", NULL};

const struct dk_azure_cloud *dk_azure_cloud_at(size_t i)
{
    return i < CLOUDS ? &clouds[i] : NULL;
}

const struct dk_azure_cloud *dk_azure_cloud_of(const char *host)
{
    for (size_t i = 0; i < CLOUDS; i++) {
        if (dk_host_ends_with(host, clouds[i].suffix)) {
            return &clouds[i];
        }
    }
    return NULL;
}

/* ---- reading --------------------------------------------------------------------------------- */

struct reading {
    const struct dk_settings *settings;
    struct dk_azure_setup *out;
    struct dk_err *err;
};

static const char *setting(const struct reading *r, enum dk_option_id id)
{
    return dk_settings_str(r->settings, id);
}

static bool is_set(const struct reading *r, enum dk_option_id id)
{
    return dk_settings_is_set(r->settings, id);
}

static dk_rc require(const struct reading *r, enum dk_option_id id)
{
    return is_set(r, id) ? DK_OK : DK_FAIL(r->err, CONFIG, "%s is required", dk_options[id].name);
}

static dk_rc keep(const struct reading *r, enum dk_option_id id, char **out)
{
    const char *text = setting(r, id);
    *out = text != NULL ? dk_mem_strdup(r->out->mem, text) : NULL;
    return text == NULL || *out != NULL ? DK_OK : DK_FAIL(r->err, NOMEM, "no memory for settings");
}

/* Copies a text of these characters alone. */
static dk_rc keep_word(const struct reading *r, enum dk_option_id id, const char *characters,
                       const char *what, char *out, size_t cap)
{
    const char *text = setting(r, id);
    size_t n = strlen(text);
    if (n == 0 || n >= cap || strspn(text, characters) != n) {
        return DK_FAIL(r->err, CONFIG, "%s: %s", dk_options[id].name, what);
    }
    memcpy(out, text, n + 1);
    return DK_OK;
}

#define ALNUM "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"

/* ---- vault and key --------------------------------------------------------------------------- */

static dk_rc find_vault(struct reading *r)
{
    struct dk_azure_setup *out = r->out;
    const struct dk_endpoint_policy policy = {.kind = DK_ENDPOINT_SERVICE,
                                              .setting = "AZURE_KEY_VAULT_URL",
                                              .suffixes = vault_suffixes,
                                              .allowed = setting(r, DK_OPT_ALLOWED_ENDPOINTS)};
    DK_TRY(require(r, DK_OPT_AZURE_KEY_VAULT_URL));
    DK_TRY(dk_endpoint_parse(setting(r, DK_OPT_AZURE_KEY_VAULT_URL), &policy, &out->vault, r->err));
    if (out->vault.path[0] != '\0') {
        return DK_FAIL(r->err, CONFIG,
                       "AZURE_KEY_VAULT_URL: it ends with the host (https://NAME.vault.azure.net); "
                       "the key's name is the setting AZURE_KEY_NAME");
    }
    out->cloud = dk_azure_cloud_of(out->vault.host);
    return DK_OK;
}

static dk_rc find_key(struct reading *r)
{
    struct dk_azure_setup *out = r->out;
    DK_TRY(require(r, DK_OPT_AZURE_KEY_NAME));
    DK_TRY(keep_word(r, DK_OPT_AZURE_KEY_NAME, ALNUM "-",
                     "it has to be the name alone: letters, digits and -, without a version",
                     out->key_name, sizeof out->key_name));
    return keep_word(r, DK_OPT_AZURE_API_VERSION, ALNUM ".-", "it is no version, such as 7.4",
                     out->api_version, sizeof out->api_version);
}

static dk_rc find_pair(struct reading *r)
{
    static const char *const names[] = {
        [DK_AZURE_AUTO] = "auto", [DK_AZURE_ENCRYPT] = "encrypt", [DK_AZURE_WRAPKEY] = "wrapkey"};
    const char *text = setting(r, DK_OPT_AZURE_KEY_OPS);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strcmp(text, names[i]) == 0) {
            r->out->pair = (enum dk_azure_pair)i;
            return DK_OK;
        }
    }
    return DK_FAIL(r->err, CONFIG, "KMS_AZURE_KEY_OPS: it is neither auto nor encrypt nor wrapkey");
}

/* ---- who hands out tokens -------------------------------------------------------------------- */

static dk_rc find_authority(struct reading *r)
{
    char url[DK_URL_MAX + 1];
    const char *host = setting(r, DK_OPT_AZURE_AUTHORITY_HOST);
    const struct dk_azure_cloud *cloud = r->out->cloud != NULL ? r->out->cloud : &clouds[0];
    const struct dk_endpoint_policy policy = {.kind = DK_ENDPOINT_SERVICE,
                                              .setting = "AZURE_AUTHORITY_HOST",
                                              .suffixes = authority_suffixes,
                                              .allowed = setting(r, DK_OPT_ALLOWED_ENDPOINTS)};
    r->out->authority_set = host != NULL;
    host = host != NULL ? host : cloud->authorities[0];
    int n = snprintf(url, sizeof url, "%s%s", strstr(host, "://") != NULL ? "" : "https://", host);
    return dk_endpoint_parse(n < (int)sizeof url ? url : "", &policy, &r->out->authority, r->err);
}

/* What secret, certificate and workload identity have in common. */
static dk_rc from_application(struct reading *r, enum dk_azure_source source,
                              enum dk_option_id told)
{
    struct dk_azure_setup *out = r->out;
    out->source = source;
    out->told = dk_options[told].name;
    DK_TRY(require(r, DK_OPT_AZURE_TENANT_ID));
    DK_TRY(require(r, DK_OPT_AZURE_CLIENT_ID));
    DK_TRY(keep_word(r, DK_OPT_AZURE_TENANT_ID, ALNUM ".-",
                     "it has to be the directory's id, or one of its domains", out->tenant,
                     sizeof out->tenant));
    DK_TRY(keep(r, DK_OPT_AZURE_CLIENT_ID, &out->client_id));
    DK_TRY(keep(r, told, source == DK_AZURE_SECRET ? &out->secret : &out->file));
    return find_authority(r);
}

static dk_rc from_identity(struct reading *r, enum dk_azure_source source, enum dk_option_id told)
{
    struct dk_azure_setup *out = r->out;
    const struct dk_endpoint_policy policy = {.kind = DK_ENDPOINT_METADATA,
                                              .setting = dk_options[told].name,
                                              .link_local = source == DK_AZURE_APP_SERVICE};
    out->source = source;
    DK_TRY(keep(r, DK_OPT_AZURE_CLIENT_ID, &out->client_id));
    if (source == DK_AZURE_APP_SERVICE) {
        out->told = "IDENTITY_ENDPOINT";
        DK_TRY(require(r, DK_OPT_IDENTITY_HEADER));
        DK_TRY(keep(r, DK_OPT_IDENTITY_HEADER, &out->secret));
    } else {
        out->told = "the machine's managed identity";
    }
    return dk_endpoint_parse(setting(r, told), &policy, &out->identity, r->err);
}

static dk_rc find_source(struct reading *r)
{
    static const struct {
        enum dk_option_id id;
        enum dk_azure_source source;
    } applications[] = {{DK_OPT_AZURE_CLIENT_SECRET, DK_AZURE_SECRET},
                        {DK_OPT_AZURE_CLIENT_CERTIFICATE, DK_AZURE_CERTIFICATE},
                        {DK_OPT_AZURE_FEDERATED_TOKEN_FILE, DK_AZURE_WORKLOAD}};
    for (size_t i = 0; i < sizeof applications / sizeof applications[0]; i++) {
        if (is_set(r, applications[i].id)) {
            return from_application(r, applications[i].source, applications[i].id);
        }
    }
    return is_set(r, DK_OPT_IDENTITY_ENDPOINT)
               ? from_identity(r, DK_AZURE_APP_SERVICE, DK_OPT_IDENTITY_ENDPOINT)
               : from_identity(r, DK_AZURE_IMDS, DK_OPT_AZURE_IMDS);
}

/* ---- all of it ------------------------------------------------------------------------------- */

static dk_rc read_all(struct reading *r)
{
    DK_TRY(find_vault(r));
    DK_TRY(find_key(r));
    DK_TRY(find_pair(r));
    return find_source(r);
}

dk_rc dk_azure_setup_read(const struct dk_settings *settings, const struct dk_mem *mem,
                          struct dk_azure_setup *out, struct dk_err *err)
{
    struct reading r = {settings, out, err};
    *out = (struct dk_azure_setup){.mem = mem};
    dk_rc rc = read_all(&r);
    if (rc != DK_OK) {
        dk_azure_setup_clear(out);
    }
    return rc;
}

static void let_go(const struct dk_mem *mem, char **text)
{
    if (*text != NULL) {
        dk_wipe(*text, strlen(*text));
        dk_mem_free(mem, *text);
        *text = NULL;
    }
}

void dk_azure_setup_clear(struct dk_azure_setup *setup)
{
    let_go(setup->mem, &setup->client_id);
    let_go(setup->mem, &setup->secret);
    let_go(setup->mem, &setup->file);
}
