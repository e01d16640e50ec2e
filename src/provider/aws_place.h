/*
 * aws_place: regions, partitions, names of keys, and the endpoints that follow from them.
 *
 * Called by the files of aws. Pure. Source: botocore's endpoint rules for kms, sts and iam
 * (PROVIDERS A.4); tests compare the table with botocore's own.
 */
#ifndef DK_PROVIDER_AWS_PLACE_H
#define DK_PROVIDER_AWS_PLACE_H

#include "net/endpoint.h"

#define DK_AWS_REGION_MAX 32
#define DK_AWS_ACCOUNT_LEN 12

/* IAM is one for all regions of a partition: its hosts, and the region that is signed for. */
struct dk_aws_iam_place {
    const char *region;
    const char *plain;
    const char *dual;
    const char *fips;
    const char *fips_dual;
};

struct dk_aws_partition {
    const char *prefix; /* of its regions; "" = all others */
    const char *name;   /* "aws-cn" */
    const char *suffix; /* "amazonaws.com.cn" */
    const char *dual;   /* of dual-stack endpoints */
    struct dk_aws_iam_place iam;
};
/* Never NULL. */
const struct dk_aws_partition *dk_aws_partition_of(const char *region);
/* Partition number i, NULL past the end. */
const struct dk_aws_partition *dk_aws_partition_at(size_t i);

/* IAM has no regions: in which one its requests are signed. */
const char *dk_aws_iam_region(const char *region);

/* Whether it reads like a region: lower case, digits, dashes. It becomes part of a host name. */
bool dk_aws_is_region(const char *region);

enum dk_aws_key_form { DK_AWS_KEY_ID, DK_AWS_KEY_ALIAS, DK_AWS_KEY_ARN, DK_AWS_ALIAS_ARN };

/* A key as a setting or an answer names it. */
struct dk_aws_key {
    enum dk_aws_key_form form;
    char partition[16]; /* of an ARN; else "" */
    char region[DK_AWS_REGION_MAX + 1];
    char account[DK_AWS_ACCOUNT_LEN + 1];
    char id[257]; /* the id, or `alias/..` */
};
/* false: it is none of the forms that AWS KMS takes. */
DK_MUST_USE bool dk_aws_key_parse(const char *text, struct dk_aws_key *out);
/* A multi-Region key: its replicas have the same id. */
bool dk_aws_key_is_multi_region(const struct dk_aws_key *key);

/* Where a service is asked. */
struct dk_aws_service {
    const char *name; /* "kms" */
    const char *region;
    bool fips;
    bool dual_stack;
    const char *url;     /* in place of the service's own; NULL = none */
    const char *setting; /* where it comes from, for errors */
    const char *allowed; /* KMS_ALLOWED_ENDPOINTS */
};
/* E_CONFIG: an endpoint of one's own and FIPS or dual-stack exclude each other (as in the SDKs). */
DK_MUST_USE dk_rc dk_aws_endpoint(const struct dk_aws_service *service, struct dk_endpoint *out,
                                  struct dk_err *err);

#endif
