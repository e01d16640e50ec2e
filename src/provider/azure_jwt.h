/*
 * azure_jwt: an application's assertion, signed by its certificate (PS256).
 *
 * Called by azure_token. The PEM file holds a private RSA key and its certificate, in any order,
 * and perhaps others; it has to be private as master.key has (F75). Its text lies in locked pages
 * while it is read; the key itself is OpenSSL's, for as long as the signing takes.
 */
#ifndef DK_PROVIDER_AZURE_JWT_H
#define DK_PROVIDER_AZURE_JWT_H

#include <openssl/evp.h>

#include "crypto/suite.h"

#define DK_AZURE_JWT_MAX 4095

struct dk_azure_certificate {
    EVP_PKEY *key; /* NULL = none */
    uint8_t thumbprint[DK_SHA256_LEN];
};

struct dk_azure_claims {
    const char *audience; /* the token server's URL */
    const char *client_id;
    const char *jti;
    int64_t now_s;
};

/* E_CONFIG says what is wrong with the text. The caller's: dk_azure_certificate_clear(). */
DK_MUST_USE dk_rc dk_azure_certificate_parse(struct dk_view pem, struct dk_azure_certificate *out,
                                             struct dk_err *err);
/* The same from a file. E_CONFIG. */
DK_MUST_USE dk_rc dk_azure_certificate_read(const struct dk_suite *suite, const char *path,
                                            struct dk_azure_certificate *out, struct dk_err *err);
void dk_azure_certificate_clear(struct dk_azure_certificate *certificate);

/* Good for nine minutes, and from one minute ago on. `out` of DK_AZURE_JWT_MAX + 1 bytes. */
DK_MUST_USE dk_rc dk_azure_jwt_make(const struct dk_azure_certificate *certificate,
                                    const struct dk_azure_claims *claims, char *out,
                                    struct dk_err *err);

#endif
