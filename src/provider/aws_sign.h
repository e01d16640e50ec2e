/*
 * aws_sign: Signature Version 4 (docs.aws.amazon.com/IAM: "Create a signed AWS API request").
 *
 * Called by the files of aws. Signs a request that is complete, path `/` and no query: all lines
 * that are in it, and the host. Pure: the time is handed in. Source of the vectors:
 * tests/vectors/sigv4.
 */
#ifndef DK_PROVIDER_AWS_SIGN_H
#define DK_PROVIDER_AWS_SIGN_H

#include "crypto/suite.h"
#include "net/http.h"

/* AWS takes five minutes of difference: from four on the clock is corrected. */
#define DK_AWS_SKEW_US (INT64_C(240) * 1000000)

struct dk_sigv4 {
    const struct dk_suite *suite;
    const char *access_key_id;
    const struct dk_secret *secret; /* the secret access key, as text */
    const char *session_token;      /* NULL = none */
    const char *region;
    const char *service; /* "kms" */
    int64_t at_us;       /* of the service's clock */
};

/* Adds x-amz-date, x-amz-security-token and authorization to the request's lines. */
DK_MUST_USE dk_rc dk_sigv4_sign(const struct dk_sigv4 *sign, struct dk_http_request *request,
                                struct dk_err *err);

#define DK_SIGV4_LINES 16
#define DK_SIGV4_SIGNED 512
/*
 * The canonical request, into `out`, and the names of the headers in it. E_LIMIT: more than
 * DK_SIGV4_LINES lines.
 */
DK_MUST_USE dk_rc dk_sigv4_canonical(const struct dk_suite *suite,
                                     const struct dk_http_request *request, struct dk_buf *out,
                                     char names[static DK_SIGV4_SIGNED], struct dk_err *err);

#endif
