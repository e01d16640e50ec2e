/*
 * aws_credentials: the AWS credentials of a process, kept fresh.
 *
 * Called by the files of aws. From a quarter of an hour before they expire one thread asks for new
 * ones, from ten minutes before all wait for it (PROVIDERS A.5); how, pass.h says. How long they
 * are good is counted from the answer that brought them. A caller signs with the ones that it has
 * in its hands (get .. put). Shared by threads.
 */
#ifndef DK_PROVIDER_AWS_CREDENTIALS_H
#define DK_PROVIDER_AWS_CREDENTIALS_H

#include "crypto/suite.h"
#include "net/http.h"
#include "provider/aws_setup.h"
#include "provider/pass.h"

struct dk_aws_keys {
    struct dk_pass pass;
    char *id;
    struct dk_secret secret;
    char *token;     /* NULL = none */
    unsigned number; /* counts the ones that came */
};

struct dk_aws_credentials_setup {
    const struct dk_world *world;
    const struct dk_suite *suite;
    struct dk_arena *arena;
    const struct dk_aws_setup *aws; /* lent, for as long as the credentials are open */
    struct dk_http *sts;            /* lent */
    struct dk_http *metadata;       /* lent */
    const int64_t *skew_us;         /* of the service's clock; lent */
};

struct dk_aws_credentials; /* dk_aws_credentials_open .. close */

DK_MUST_USE dk_rc dk_aws_credentials_open(const struct dk_aws_credentials_setup *setup,
                                          struct dk_aws_credentials **out, struct dk_err *err);
void dk_aws_credentials_close(struct dk_aws_credentials *credentials); /* NULL is allowed */
/* In a child: the cells went with the arena; the next get asks anew. */
void dk_aws_credentials_after_fork(struct dk_aws_credentials *credentials);

/*
 * Lent until dk_aws_credentials_put(). E_CONFIG: there is no source. E_UNREACHABLE,
 * E_THROTTLED, E_PROVIDER_DENIED, E_PROVIDER: the source gave none, and there are none that are
 * still good.
 */
DK_MUST_USE dk_rc dk_aws_credentials_get(struct dk_aws_credentials *credentials,
                                         struct dk_aws_keys **out, struct dk_err *err);
/* Amid a run: see dk_passes_get_amid(). */
DK_MUST_USE dk_rc dk_aws_credentials_get_amid(struct dk_aws_credentials *credentials,
                                              struct dk_aws_keys **out, struct dk_err *err);
void dk_aws_credentials_put(struct dk_aws_credentials *credentials, struct dk_aws_keys *keys);
/* The service refused the ones of this number: the next get asks anew. False: they cannot change.
 */
bool dk_aws_credentials_refused(struct dk_aws_credentials *credentials, unsigned number);

#endif
