/*
 * Any bytes as a URL, and as the name of a key (I29): what is taken is a host that is allowed, on a
 * port, with a path at most, and is taken again as it is written then.
 */
#include <stdio.h>
#include <stdlib.h>

#include "net/endpoint.h"
#include "provider/aws_place.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const suffixes[] = {".amazonaws.com", ".vault.azure.net", NULL};

static void must(bool ok)
{
    if (!ok) {
        abort();
    }
}

static bool is_one_of_metadata(const char *host)
{
    return strncmp(host, "169.254.", 8) == 0 || strncmp(host, "fd00:ec2::", 10) == 0;
}

static void check_again(const struct dk_endpoint *to, const struct dk_endpoint_policy *policy)
{
    char url[DK_HOST_MAX + 300];
    struct dk_endpoint again;
    struct dk_err err;
    dk_err_clear(&err);
    snprintf(url, sizeof url, "%s://%s%s", to->tls ? "https" : "http", to->authority, to->path);
    must(dk_endpoint_parse(url, policy, &again, &err) == DK_OK);
    must(strcmp(again.host, to->host) == 0 && again.port == to->port && again.tls == to->tls);
    must(strcmp(again.path, to->path) == 0 && again.loopback == to->loopback);
}

static void check_url(const char *url, const struct dk_endpoint_policy *policy)
{
    struct dk_endpoint to;
    struct dk_err err;
    dk_err_clear(&err);
    if (dk_endpoint_parse(url, policy, &to, &err) != DK_OK) {
        must(err.rc == DK_E_CONFIG && err.text[0] != '\0');
        return;
    }
    bool service = policy->kind == DK_ENDPOINT_SERVICE;
    must(to.port != 0 && to.host[0] != '\0' && strlen(to.host) <= DK_HOST_MAX);
    must(strpbrk(to.host, "@/?#%\\ \t\r\n[]") == NULL && strpbrk(to.path, "?# \t\r\n") == NULL);
    must(to.loopback || !service || to.tls);
    must(to.loopback || (service ? dk_host_ends_with(to.host, ".amazonaws.com") ||
                                       dk_host_ends_with(to.host, ".vault.azure.net") ||
                                       strcmp(to.host, "kms.example.org") == 0
                                 : is_one_of_metadata(to.host)));
    check_again(&to, policy);
}

static void check_key(const char *text)
{
    struct dk_aws_key key;
    if (dk_aws_key_parse(text, &key)) {
        bool arn = key.form == DK_AWS_KEY_ARN || key.form == DK_AWS_ALIAS_ARN;
        must(key.id[0] != '\0' && (key.region[0] != '\0') == arn);
        must(!arn || (dk_aws_is_region(key.region) && strlen(key.account) == DK_AWS_ACCOUNT_LEN));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct dk_endpoint_policy service = {.kind = DK_ENDPOINT_SERVICE,
                                               .setting = "A",
                                               .suffixes = suffixes,
                                               .allowed = "kms.example.org"},
                                    metadata = {.kind = DK_ENDPOINT_METADATA, .setting = "B"},
                                    local = {.kind = DK_ENDPOINT_METADATA,
                                             .setting = "C",
                                             .link_local = true};
    char *text = malloc(size + 1);
    must(text != NULL);
    if (size > 0) {
        memcpy(text, data, size);
    }
    text[size] = '\0';
    check_url(text, &service);
    check_url(text, &metadata);
    check_url(text, &local);
    check_key(text);
    free(text);
    return 0;
}
