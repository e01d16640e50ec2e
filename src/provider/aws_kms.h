/*
 * aws_kms: the messages of AWS KMS, as bytes.
 *
 * Called by the files of aws. Builds requests and reads answers; nothing here has a socket or a
 * clock. Source: botocore data/kms/2014-11-01 (PROVIDERS A.2, A.3).
 */
#ifndef DK_PROVIDER_AWS_KMS_H
#define DK_PROVIDER_AWS_KMS_H

#include "net/http.h"
#include "provider/provider.h"

enum dk_kms_op {
    DK_KMS_GENERATE,
    DK_KMS_ENCRYPT,
    DK_KMS_DECRYPT,
    DK_KMS_REENCRYPT,
    DK_KMS_DESCRIBE,
    DK_KMS_ROTATION,
    DK_KMS_ALIASES,
    DK_KMS_OPS
};

/* What an operation is about; which members it needs follows from it. */
struct dk_kms_ask {
    enum dk_kms_op op;
    const char *key_id;
    const struct dk_wrap_context *context;
    const struct dk_secret *plaintext; /* Encrypt */
    const char *blob;                  /* Decrypt, ReEncrypt: base64 */
    const char *destination;           /* ReEncrypt: the key; the context stays */
    const char *marker;                /* ListAliases: of the page before; NULL: the first one */
};

/* "GenerateDataKey". The permission has the same name, but of ReEncrypt, which takes two. */
const char *dk_kms_op_name(enum dk_kms_op op);

/* The request's headers and body, without signature. */
DK_MUST_USE dk_rc dk_kms_build(const struct dk_kms_ask *ask, struct dk_http_request *out,
                               struct dk_err *err);

/* What an answer holds; what an operation does not answer with stays empty. */
struct dk_kms_answer {
    struct dk_secret *key;      /* gets Plaintext; NULL: none is expected */
    struct dk_wrapped *wrapped; /* gets CiphertextBlob and KeyId; may be NULL */
    char key_id[DK_KMS_KEY_ID_MAX + 1];
};
/* An answer of 200. E_PROVIDER: it is not what the operation answers with (F29, F30). */
DK_MUST_USE dk_rc dk_kms_read(const struct dk_kms_ask *ask, struct dk_view body,
                              struct dk_kms_answer *out, struct dk_err *err);

struct dk_kms_key {
    char arn[DK_KMS_KEY_ID_MAX + 1];
    char state[40]; /* "Enabled", "Disabled", "PendingDeletion" .. */
    char usage[32];
    char spec[40];
    char origin[24];
    bool multi_region;
    int64_t deletion_us; /* DK_TIME_NONE */
};
DK_MUST_USE dk_rc dk_kms_read_key(struct dk_view body, struct dk_kms_key *out, struct dk_err *err);
DK_MUST_USE dk_rc dk_kms_read_rotation(struct dk_view body, bool *enabled, struct dk_err *err);

#define DK_KMS_MARKER_MAX 1024
/* The names of a key, page after page; {0} at first. */
struct dk_kms_aliases {
    char text[300]; /* "alias/a, alias/b": as many as there is room for */
    size_t shown;   /* .. and how many they are */
    size_t count;   /* .. of how many */
    bool more;      /* there is another page */
    char marker[DK_KMS_MARKER_MAX + 1];
};
/* Adds a page to `out`: names that point at the key of this id. E_PROVIDER: it is no such list, or
   says that there is more and not where. */
DK_MUST_USE dk_rc dk_kms_read_aliases(struct dk_view body, const char *id,
                                      struct dk_kms_aliases *out, struct dk_err *err);

/* What an answer that is no success asks for. */
enum dk_aws_fault {
    DK_AWS_FAILED,      /* it will not pass */
    DK_AWS_TRANSIENT,   /* again, after a wait */
    DK_AWS_CREDENTIALS, /* with fresh credentials, once */
    DK_AWS_SKEW,        /* with the service's time, once */
};
/* Fills `err` with the code of its own, the guide's wording where it has one, and what is missing.
 */
enum dk_aws_fault dk_kms_explain(const struct dk_kms_ask *ask, const struct dk_http_reply *reply,
                                 struct dk_err *err);

/* The code and message of an AWS error, from JSON, a header or XML; "" when there is none. */
void dk_aws_error_of(const struct dk_http_reply *reply, char code[static 64],
                     char message[static 200]);

#endif
