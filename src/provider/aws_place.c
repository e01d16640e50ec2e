#include "provider/aws_place.h"

#include <stdio.h>

/* The last one takes all regions that none before it does. */
static const struct dk_aws_partition partitions[] = {
    {"cn-",
     "aws-cn",
     "amazonaws.com.cn",
     "api.amazonwebservices.com.cn",
     {"cn-north-1", "iam.cn-north-1.amazonaws.com.cn", "iam.global.api.amazonwebservices.com.cn",
      "iam-fips.amazonaws.com.cn", "iam-fips.api.amazonwebservices.com.cn"}},
    {"us-gov-",
     "aws-us-gov",
     "amazonaws.com",
     "api.aws",
     {"us-gov-west-1", "iam.us-gov.amazonaws.com", "iam.us-gov.api.aws", "iam.us-gov.amazonaws.com",
      "iam.us-gov.api.aws"}},
    {"us-isob-",
     "aws-iso-b",
     "sc2s.sgov.gov",
     "api.aws.scloud",
     {"us-isob-east-1", "iam.us-isob-east-1.sc2s.sgov.gov", "iam.api.aws.scloud",
      "iam-fips.us-isob-east-1.sc2s.sgov.gov", "iam-fips.api.aws.scloud"}},
    {"us-isof-",
     "aws-iso-f",
     "csp.hci.ic.gov",
     "api.aws.hci.ic.gov",
     {"us-isof-south-1", "iam.us-isof-south-1.csp.hci.ic.gov", "iam.api.aws.hci.ic.gov",
      "iam-fips.csp.hci.ic.gov", "iam-fips.api.aws.hci.ic.gov"}},
    {"us-iso-",
     "aws-iso",
     "c2s.ic.gov",
     "api.aws.ic.gov",
     {"us-iso-east-1", "iam.us-iso-east-1.c2s.ic.gov", "iam.api.aws.ic.gov",
      "iam-fips.us-iso-east-1.c2s.ic.gov", "iam-fips.api.aws.ic.gov"}},
    {"eu-isoe-",
     "aws-iso-e",
     "cloud.adc-e.uk",
     "api.cloud-aws.adc-e.uk",
     {"eu-isoe-west-1", "iam.eu-isoe-west-1.cloud.adc-e.uk", "iam.api.cloud-aws.adc-e.uk",
      "iam-fips.cloud.adc-e.uk", "iam-fips.api.cloud-aws.adc-e.uk"}},
    {"eusc-",
     "aws-eusc",
     "amazonaws.eu",
     "api.amazonwebservices.eu",
     {"eusc-de-east-1", "iam.eusc-de-east-1.amazonaws.eu", "iam.global.api.amazonwebservices.eu",
      "iam-fips.amazonaws.eu", "iam-fips.api.amazonwebservices.eu"}},
    {"",
     "aws",
     "amazonaws.com",
     "api.aws",
     {"us-east-1", "iam.amazonaws.com", "iam.global.api.aws", "iam-fips.amazonaws.com",
      "iam-fips.global.api.aws"}},
};
#define PARTITIONS (sizeof partitions / sizeof partitions[0])

static const char *const suffixes[] = {
    ".amazonaws.com",
    ".api.aws",
    ".amazonaws.com.cn",
    ".api.amazonwebservices.com.cn",
    ".sc2s.sgov.gov",
    ".api.aws.scloud",
    ".csp.hci.ic.gov",
    ".api.aws.hci.ic.gov",
    ".c2s.ic.gov",
    ".api.aws.ic.gov",
    ".cloud.adc-e.uk",
    ".api.cloud-aws.adc-e.uk",
    ".amazonaws.eu",
    ".api.amazonwebservices.eu",
    NULL,
};

const struct dk_aws_partition *dk_aws_partition_of(const char *region)
{
    size_t i = 0;
    while (!dk_begins(region, partitions[i].prefix)) {
        i++;
    }
    return &partitions[i];
}

const char *dk_aws_iam_region(const char *region)
{
    return dk_aws_partition_of(region)->iam.region;
}

const struct dk_aws_partition *dk_aws_partition_at(size_t i)
{
    return i < PARTITIONS ? &partitions[i] : NULL;
}

bool dk_aws_is_region(const char *region)
{
    size_t n = strlen(region);
    return n >= 2 && n <= DK_AWS_REGION_MAX && region[0] != '-' && region[n - 1] != '-' &&
           strspn(region, "abcdefghijklmnopqrstuvwxyz0123456789-") == n;
}

/* ---- keys ------------------------------------------------------------------------------------ */

#define HEX "0123456789abcdefABCDEF"

/* 8-4-4-4-12, or mrk- and 32 digits. */
static bool is_id(const char *text)
{
    static const char uuid[] = "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx";
    if (dk_begins(text, "mrk-")) {
        return strlen(text) == 36 && strspn(text + 4, HEX) == 32;
    }
    if (strlen(text) != sizeof uuid - 1) {
        return false;
    }
    for (size_t i = 0; i < sizeof uuid - 1; i++) {
        bool dash = text[i] == '-';
        if (dash != (uuid[i] == '-') || (!dash && strchr(HEX, text[i]) == NULL)) {
            return false;
        }
    }
    return true;
}

static bool is_alias(const char *text)
{
    size_t n = strlen(text);
    return dk_begins(text, "alias/") && n > 6 && n <= 256 &&
           strspn(text + 6, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:/_-") ==
               n - 6;
}

/* The part up to the next colon, which is passed. */
static bool take_part(const char **text, char *out, size_t cap)
{
    size_t n = strcspn(*text, ":");
    if ((*text)[n] != ':' || n == 0 || n >= cap) {
        return false;
    }
    memcpy(out, *text, n);
    out[n] = '\0';
    *text += n + 1;
    return true;
}

/* arn:PARTITION:kms:REGION:ACCOUNT:key/ID or alias/NAME */
static bool parse_arn(const char *text, struct dk_aws_key *out)
{
    char word[8];
    if (!take_part(&text, word, sizeof word) ||
        !take_part(&text, out->partition, sizeof out->partition) ||
        !take_part(&text, word, sizeof word) || strcmp(word, "kms") != 0 ||
        !take_part(&text, out->region, sizeof out->region) ||
        !take_part(&text, out->account, sizeof out->account)) {
        return false;
    }
    bool known = dk_aws_is_region(out->region) &&
                 strspn(out->account, "0123456789") == DK_AWS_ACCOUNT_LEN &&
                 strspn(out->partition, "abcdefghijklmnopqrstuvwxyz-") == strlen(out->partition);
    bool key = dk_begins(text, "key/");
    text += key ? 4 : 0;
    out->form = key ? DK_AWS_KEY_ARN : DK_AWS_ALIAS_ARN;
    snprintf(out->id, sizeof out->id, "%s", text);
    return known && strlen(text) < sizeof out->id && (key ? is_id(text) : is_alias(text));
}

bool dk_aws_key_parse(const char *text, struct dk_aws_key *out)
{
    *out = (struct dk_aws_key){0};
    if (dk_begins(text, "arn:")) {
        return parse_arn(text, out);
    }
    out->form = dk_begins(text, "alias/") ? DK_AWS_KEY_ALIAS : DK_AWS_KEY_ID;
    snprintf(out->id, sizeof out->id, "%s", text);
    return out->form == DK_AWS_KEY_ALIAS ? is_alias(text) : is_id(text);
}

bool dk_aws_key_is_multi_region(const struct dk_aws_key *key)
{
    return dk_begins(key->id, "mrk-");
}

/* ---- endpoints ------------------------------------------------------------------------------- */

/* A signature is one over the path `/`. */
static dk_rc parse_own(const struct dk_aws_service *service,
                       const struct dk_endpoint_policy *policy, struct dk_endpoint *out,
                       struct dk_err *err)
{
    struct dk_endpoint made;
    DK_TRY(dk_endpoint_parse(service->url, policy, &made, err));
    if (made.path[0] != '\0') {
        return DK_FAIL(err, CONFIG, "%s: the services of AWS have no path behind their host",
                       service->setting);
    }
    *out = made;
    return DK_OK;
}

/* STS of the partition for the US government is the same for FIPS, as long as it is not dual-stack.
 */
static bool has_fips_name(const struct dk_aws_service *service,
                          const struct dk_aws_partition *partition)
{
    bool same = strcmp(service->name, "sts") == 0 && strcmp(partition->name, "aws-us-gov") == 0 &&
                !service->dual_stack;
    return service->fips && !same;
}

static void put_url(const struct dk_aws_service *service, char *url, size_t cap)
{
    const struct dk_aws_partition *partition = dk_aws_partition_of(service->region);
    const struct dk_aws_iam_place *iam = &partition->iam;
    if (strcmp(service->name, "iam") == 0) {
        snprintf(url, cap, "https://%s",
                 service->fips ? (service->dual_stack ? iam->fips_dual : iam->fips)
                               : (service->dual_stack ? iam->dual : iam->plain));
        return;
    }
    snprintf(url, cap, "https://%s%s.%s.%s", service->name,
             has_fips_name(service, partition) ? "-fips" : "", service->region,
             service->dual_stack ? partition->dual : partition->suffix);
}

dk_rc dk_aws_endpoint(const struct dk_aws_service *service, struct dk_endpoint *out,
                      struct dk_err *err)
{
    struct dk_endpoint_policy policy = {.kind = DK_ENDPOINT_SERVICE,
                                        .setting = service->setting,
                                        .suffixes = suffixes,
                                        .allowed = service->allowed};
    char url[DK_URL_MAX + 1];
    if (service->url != NULL && (service->fips || service->dual_stack)) {
        return DK_FAIL(err, CONFIG, "%s and %s exclude each other: take one of them away",
                       service->setting,
                       service->fips ? "AWS_USE_FIPS_ENDPOINT" : "AWS_USE_DUALSTACK_ENDPOINT");
    }
    if (service->url != NULL) {
        return parse_own(service, &policy, out, err);
    }
    policy.setting = "AWS_REGION";
    put_url(service, url, sizeof url);
    return dk_endpoint_parse(url, &policy, out, err);
}
