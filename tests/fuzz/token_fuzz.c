/*
 * Any bytes as an answer of who hands out tokens: refused with a reason, or a token that a header
 * may have and that is good for a while. The first byte says as what it is read.
 */
#include <stdlib.h>
#include <string.h>

#include "net/json_in.h"
#include "provider/azure_grant.h"
#include "provider/azure_jwt.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_grant(struct dk_view body)
{
    static struct dk_azure_grant grant;
    struct dk_err err;
    dk_err_clear(&err);
    dk_rc rc = dk_azure_read_grant(body, INT64_C(1790000000000000), &grant, &err);
    if (rc != (err.rc) || (rc != DK_OK && rc != DK_E_PROVIDER)) {
        abort();
    }
    if (rc == DK_OK && (grant.token[0] == '\0' || strpbrk(grant.token, " \t\r\n") != NULL ||
                        grant.seconds <= 0 || grant.seconds > 7 * 86400)) {
        abort();
    }
}

static void explain(enum dk_azure_source source, long status, struct dk_view body)
{
    const struct dk_azure_setup setup = {.source = source};
    const struct dk_http_reply reply = {.status = status, .body = body};
    struct dk_err err;
    dk_err_clear(&err);
    enum dk_http_next next = dk_azure_explain_grant(&setup, &reply, &err);
    if (err.rc == DK_OK || err.text[0] == '\0' || strpbrk(err.text, "\r\n") != NULL ||
        (next == DK_HTTP_LATER) != (err.rc == DK_E_UNREACHABLE || err.rc == DK_E_THROTTLED)) {
        abort();
    }
}

static void read_certificate(struct dk_view pem)
{
    struct dk_azure_certificate certificate;
    struct dk_err err;
    dk_err_clear(&err);
    if (dk_azure_certificate_parse(pem, &certificate, &err) == DK_OK && certificate.key == NULL) {
        abort();
    }
    dk_azure_certificate_clear(&certificate);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const long statuses[] = {400, 401, 403, 404, 410, 429, 500, 302};
    dk_json_in_setup();
    if (size == 0) {
        return 0;
    }
    struct dk_view body = dk_view_of(data + 1, size - 1);
    if (data[0] == 'c') {
        read_certificate(body);
    } else if (data[0] == 'g') {
        read_grant(body);
    } else {
        explain(data[0] & 1 ? DK_AZURE_IMDS : DK_AZURE_SECRET, statuses[data[0] >> 1 & 7], body);
    }
    return 0;
}
