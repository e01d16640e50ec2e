#include "provider/azure_jwt.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <stdio.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json_out.h"

#define PEM_MAX 65536
#define CERTIFICATES_MAX 16 /* of a chain */
#define SIGNATURE_MAX 1024  /* RSA of 8192 bits */
#define BEFORE_SECONDS 60   /* a server's clock may be behind ours */
#define LIFE_SECONDS 540    /* ten minutes are the most */

/* ---- the certificate ------------------------------------------------------------------------- */

/* Nobody is there to be asked for a password. */
static int no_password(char *buf, int size, int writing, void *arg)
{
    (void)buf, (void)size, (void)writing, (void)arg;
    return -1;
}

static dk_rc read_key(struct dk_view pem, struct dk_azure_certificate *out, struct dk_err *err)
{
    BIO *bio = BIO_new_mem_buf(pem.p, (int)pem.n);
    if (bio == NULL) {
        return DK_FAIL(err, NOMEM, "no memory for the certificate");
    }
    out->key = PEM_read_bio_PrivateKey(bio, NULL, no_password, NULL);
    BIO_free(bio);
    ERR_clear_error();
    if (out->key == NULL) {
        return DK_FAIL(err, CONFIG,
                       "it holds no private key that can be read (PEM, without a password)");
    }
    if (!EVP_PKEY_is_a(out->key, "RSA") || EVP_PKEY_get_bits(out->key) < 2048 ||
        EVP_PKEY_get_size(out->key) > SIGNATURE_MAX) {
        return DK_FAIL(err, CONFIG, "its private key is none of RSA with 2048 bits or more");
    }
    return DK_OK;
}

/* The first one that is of the key: a chain may be in the file, too. */
static bool find_certificate(BIO *bio, struct dk_azure_certificate *out)
{
    bool found = false;
    for (int i = 0; i < CERTIFICATES_MAX && !found; i++) {
        unsigned n = 0;
        X509 *certificate = PEM_read_bio_X509(bio, NULL, no_password, NULL);
        if (certificate == NULL) {
            break;
        }
        found = EVP_PKEY_eq(X509_get0_pubkey(certificate), out->key) == 1 &&
                X509_digest(certificate, EVP_sha256(), out->thumbprint, &n) == 1 &&
                n == sizeof out->thumbprint;
        X509_free(certificate);
    }
    ERR_clear_error();
    return found;
}

static dk_rc parse(struct dk_view pem, struct dk_azure_certificate *out, struct dk_err *err)
{
    DK_TRY(read_key(pem, out, err));
    BIO *bio = BIO_new_mem_buf(pem.p, (int)pem.n);
    if (bio == NULL) {
        return DK_FAIL(err, NOMEM, "no memory for the certificate");
    }
    bool found = find_certificate(bio, out);
    BIO_free(bio);
    return found ? DK_OK : DK_FAIL(err, CONFIG, "it holds no certificate of its private key");
}

dk_rc dk_azure_certificate_parse(struct dk_view pem, struct dk_azure_certificate *out,
                                 struct dk_err *err)
{
    *out = (struct dk_azure_certificate){0};
    if (pem.n == 0 || pem.n > PEM_MAX) {
        return DK_FAIL(err, CONFIG, "it is empty, or larger than %d bytes", PEM_MAX);
    }
    dk_rc rc = parse(pem, out, err);
    if (rc != DK_OK) {
        dk_azure_certificate_clear(out);
    }
    return rc;
}

void dk_azure_certificate_clear(struct dk_azure_certificate *certificate)
{
    EVP_PKEY_free(certificate->key); /* wipes it */
    *certificate = (struct dk_azure_certificate){0};
}

/* ---- the file -------------------------------------------------------------------------------- */

static dk_rc read_all(int fd, uint8_t *text, size_t cap, size_t *n, struct dk_err *err)
{
    for (*n = 0; *n < cap;) {
        ssize_t got = read(fd, text + *n, cap - *n);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            return DK_FAIL_BACKEND(err, CONFIG, errno, "reading failed: %s", strerror(errno));
        }
        if (got == 0) {
            return DK_OK;
        }
        *n += (size_t)got;
    }
    return DK_FAIL(err, CONFIG, "it is empty, or larger than %d bytes", PEM_MAX);
}

static dk_rc read_file(const struct dk_suite *suite, int fd, struct dk_azure_certificate *out,
                       struct dk_err *err)
{
    struct dk_arena *pages = NULL;
    struct dk_arena_report report;
    size_t cap = 0, n = 0;
    DK_TRY(dk_arena_open(suite->world, (PEM_MAX + DK_SECRET_CELL) / DK_SECRET_CELL, &pages, &report,
                         err));
    uint8_t *text = dk_arena_expose_whole_for_file(pages, &cap);
    dk_rc rc = read_all(fd, text, cap, &n, err);
    rc = rc == DK_OK ? dk_azure_certificate_parse(dk_view_of(text, n), out, err) : rc;
    dk_arena_close(pages);
    return rc;
}

dk_rc dk_azure_certificate_read(const struct dk_suite *suite, const char *path,
                                struct dk_azure_certificate *out, struct dk_err *err)
{
    struct dk_err cause;
    int fd = -1;
    dk_err_clear(&cause);
    *out = (struct dk_azure_certificate){0};
    dk_rc rc = dk_file_open_private(path, &fd, &cause);
    if (rc == DK_OK) {
        rc = read_file(suite, fd, out, &cause);
        close(fd);
    }
    if (rc == DK_OK || rc == DK_E_NOMEM) {
        return rc == DK_OK ? rc : DK_FAIL(err, NOMEM, "%s", cause.text);
    }
    return DK_FAIL(err, CONFIG, "AZURE_CLIENT_CERTIFICATE_PATH: %.120s: %.180s", path, cause.text);
}

/* ---- the token ------------------------------------------------------------------------------- */

struct text {
    char p[1536];
    size_t n;
    bool too_long;
};

static void put(void *arg, const char *p, size_t n)
{
    struct text *text = arg;
    if (n > sizeof text->p - text->n) {
        text->too_long = true;
        return;
    }
    memcpy(text->p + text->n, p, n);
    text->n += n;
}

/* {"alg":"PS256","typ":"JWT","x5t#S256":".."} */
static void put_header(const struct dk_azure_certificate *certificate, struct text *out)
{
    char thumbprint[DK_BASE64URL_LEN(DK_SHA256_LEN)];
    struct dk_json json;
    dk_base64url_encode(certificate->thumbprint, DK_SHA256_LEN, thumbprint);
    dk_json_init(&json, put, out);
    dk_json_object(&json, NULL);
    dk_json_str(&json, "alg", "PS256");
    dk_json_str(&json, "typ", "JWT");
    dk_json_view(&json, "x5t#S256", dk_view_of(thumbprint, sizeof thumbprint));
    dk_json_end(&json, '}');
}

static void put_claims(const struct dk_azure_claims *claims, struct text *out)
{
    struct dk_json json;
    dk_json_init(&json, put, out);
    dk_json_object(&json, NULL);
    dk_json_str(&json, "aud", claims->audience);
    dk_json_str(&json, "iss", claims->client_id);
    dk_json_str(&json, "sub", claims->client_id);
    dk_json_str(&json, "jti", claims->jti);
    dk_json_int(&json, "nbf", claims->now_s - BEFORE_SECONDS);
    dk_json_int(&json, "exp", claims->now_s + LIFE_SECONDS);
    dk_json_end(&json, '}');
}

/* RSASSA-PSS, SHA-256 in both places, salt as long as the digest (RFC 7518, 3.5). */
static bool sign(EVP_PKEY *key, const char *message, size_t n, uint8_t *out, size_t *out_n)
{
    EVP_PKEY_CTX *how = NULL; /* of the context */
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool ok = ctx != NULL && EVP_DigestSignInit(ctx, &how, EVP_sha256(), NULL, key) == 1 &&
              EVP_PKEY_CTX_set_rsa_padding(how, RSA_PKCS1_PSS_PADDING) == 1 &&
              EVP_PKEY_CTX_set_rsa_pss_saltlen(how, RSA_PSS_SALTLEN_DIGEST) == 1 &&
              EVP_PKEY_CTX_set_rsa_mgf1_md(how, EVP_sha256()) == 1 &&
              EVP_DigestSign(ctx, out, out_n, (const uint8_t *)message, n) == 1;
    EVP_MD_CTX_free(ctx);
    ERR_clear_error();
    return ok;
}

/* Adds text in base64url. */
static char *put_part(char *out, const void *p, size_t n)
{
    dk_base64url_encode(p, n, out);
    return out + DK_BASE64URL_LEN(n);
}

dk_rc dk_azure_jwt_make(const struct dk_azure_certificate *certificate,
                        const struct dk_azure_claims *claims, char *out, struct dk_err *err)
{
    struct text header = {.n = 0}, body = {.n = 0};
    uint8_t signature[SIGNATURE_MAX];
    size_t n = sizeof signature;
    put_header(certificate, &header);
    put_claims(claims, &body);
    if (body.too_long) {
        return DK_FAIL(err, CONFIG, "AZURE_CLIENT_ID: it is too long");
    }
    char *p = put_part(out, header.p, header.n);
    *p++ = '.';
    p = put_part(p, body.p, body.n);
    if (!sign(certificate->key, out, (size_t)(p - out), signature, &n)) {
        return DK_FAIL(err, CONFIG, "AZURE_CLIENT_CERTIFICATE_PATH: its key does not sign");
    }
    *p++ = '.';
    p = put_part(p, signature, n);
    *p = '\0';
    return DK_OK;
}
