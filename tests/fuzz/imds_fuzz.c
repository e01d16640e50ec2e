/*
 * Any bytes as what hands out credentials says: a token or name in a line, credentials in JSON,
 * what a command prints; and a time. Read, or refused with a text.
 */
#include <stdlib.h>

#include "provider/aws_grant.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool ok)
{
    if (!ok) {
        abort();
    }
}

static void check(dk_rc rc, struct dk_aws_grant *grant, const struct dk_err *err)
{
    must(rc == DK_OK || (rc == err->rc && err->text[0] != '\0'));
    must(rc != DK_OK || (grant->id[0] != '\0' && grant->secret[0] != '\0'));
    must(rc != DK_OK || strlen(grant->token) <= DK_AWS_TOKEN_MAX);
    dk_aws_grant_clear(grant);
}

/* What is taken for a name makes a path that stays where it is. */
static void check_line(struct dk_view text)
{
    char line[64];
    struct dk_http_request request;
    struct dk_err err;
    dk_err_clear(&err);
    if (dk_aws_read_line(text, line, sizeof line, &err) != DK_OK) {
        must(err.rc == DK_E_PROVIDER);
        return;
    }
    must(line[0] != '\0' && strlen(line) <= text.n);
    dk_http_request_init(&request, &dk_mem_default);
    dk_rc rc = dk_aws_ask_instance(line, line, &request, &err);
    must(rc != DK_OK || strchr(request.path + 43, '/') == NULL);
    must(rc != DK_OK || strcmp(request.path + 43, line) == 0);
    dk_http_request_clear(&request);
}

static void check_time(struct dk_view text)
{
    char copy[64];
    int64_t us = 0;
    size_t n = text.n < sizeof copy - 1 ? text.n : sizeof copy - 1;
    if (n > 0) {
        memcpy(copy, text.p, n);
    }
    copy[n] = '\0';
    must(!dk_aws_parse_time(copy, &us) || us != DK_TIME_NONE);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct dk_aws_grant grant;
    struct dk_view text = dk_view_of(data, size);
    struct dk_err err;
    dk_err_clear(&err);
    check(dk_aws_read_metadata(text, &grant, &err), &grant, &err);
    dk_err_clear(&err);
    check(dk_aws_read_process(text, &grant, &err), &grant, &err);
    check_line(text);
    check_time(text);
    return 0;
}
