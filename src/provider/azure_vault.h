/*
 * azure_vault: the messages of Azure Key Vault's keys, as bytes.
 *
 * Called by the files of azure. Builds requests and reads answers; nothing here has a socket or a
 * clock (PROVIDERS B.1, B.2, B.6). A key is named by its kid, https://VAULT/keys/NAME/VERSION; of
 * one that comes from a row or an answer only name and version are ever used.
 */
#ifndef DK_PROVIDER_AZURE_VAULT_H
#define DK_PROVIDER_AZURE_VAULT_H

#include "net/http.h"
#include "provider/azure_setup.h"
#include "provider/provider.h"

#define DK_VAULT_VERSION_LEN 32
#define DK_VAULT_VALUE_MAX 512 /* RSA-4096 */
#define DK_VAULT_IV 12
#define DK_VAULT_TAG 16

/* ---- key ids --------------------------------------------------------------------------------- */

struct dk_vault_kid {
    char host[DK_HOST_MAX + 1]; /* lower case */
    uint16_t port;
    bool tls;
    char name[DK_AZURE_NAME_MAX + 1];
    char version[DK_VAULT_VERSION_LEN + 1]; /* lower case; "" = none is named */
};
/* False: it is no kid. */
DK_MUST_USE bool dk_vault_kid_parse(const char *text, struct dk_vault_kid *out);
/* Its host in lower case, the rest as it came. False: NULL, empty, too long, or no visible ASCII.
 */
DK_MUST_USE bool dk_vault_kid_copy(const char *text, char out[static DK_KMS_KEY_ID_MAX + 1]);
/* Whatever the case in which they are written. */
DK_MUST_USE bool dk_vault_kid_equal(const struct dk_vault_kid *a, const struct dk_vault_kid *b);
/* A key of the vault and of the name that are configured. */
DK_MUST_USE bool dk_vault_kid_is_of(const struct dk_vault_kid *kid,
                                    const struct dk_azure_setup *setup);

/* ---- requests -------------------------------------------------------------------------------- */

enum dk_vault_op {
    DK_VAULT_GET,
    DK_VAULT_ENCRYPT,
    DK_VAULT_DECRYPT,
    DK_VAULT_WRAPKEY,
    DK_VAULT_UNWRAPKEY,
    DK_VAULT_OPS
};
/* As in `key_ops` and permissions: "wrapKey". */
const char *dk_vault_op_name(enum dk_vault_op op);

enum dk_vault_alg { DK_VAULT_RSA_OAEP_256, DK_VAULT_A256GCM };

struct dk_vault_ask {
    enum dk_vault_op op;
    const char *name;
    const char *version; /* "" = the one that is current */
    const char *api_version;
    enum dk_vault_alg alg;
    const struct dk_secret *secret; /* to be wrapped */
    struct dk_view value;           /* to be unwrapped */
    struct dk_view aad;             /* A256GCM */
    const uint8_t *iv;              /* A256GCM, to unwrap */
    const uint8_t *tag;
};

/* Without authorization. */
DK_MUST_USE dk_rc dk_vault_build(const struct dk_vault_ask *ask, struct dk_http_request *out,
                                 struct dk_err *err);

/* ---- answers --------------------------------------------------------------------------------- */

struct dk_vault_answer {
    char kid[DK_KMS_KEY_ID_MAX + 1];   /* its host in lower case */
    struct dk_secret *secret;          /* gets what was unwrapped: lent */
    uint8_t value[DK_VAULT_VALUE_MAX]; /* what was wrapped */
    size_t value_n;
    uint8_t iv[DK_VAULT_IV]; /* A256GCM */
    uint8_t tag[DK_VAULT_TAG];
};
/* An answer of 200 to one of the four. E_PROVIDER: it is not what they answer with (F29, F30). */
DK_MUST_USE dk_rc dk_vault_read(const struct dk_vault_ask *ask, struct dk_view body,
                                struct dk_vault_answer *out, struct dk_err *err);

enum dk_vault_kind { DK_VAULT_RSA, DK_VAULT_OCT, DK_VAULT_OTHER };

struct dk_vault_key {
    char kid[DK_KMS_KEY_ID_MAX + 1];
    char kty[16]; /* "RSA-HSM" */
    enum dk_vault_kind kind;
    size_t bits;  /* of RSA */
    unsigned ops; /* a bit for each dk_vault_op */
    bool has_ops; /* the answer listed them */
    bool enabled;
    int64_t nbf; /* seconds since 1970; 0 = none */
    int64_t exp;
    char recovery[64]; /* recoveryLevel: "Recoverable+Purgeable" */
};
/* An answer of 200 to GET. */
DK_MUST_USE dk_rc dk_vault_read_key(struct dk_view body, struct dk_vault_key *out,
                                    struct dk_err *err);
/* E_CONFIG says which kinds will do. */
DK_MUST_USE dk_rc dk_vault_check_kind(const struct dk_vault_key *key, struct dk_err *err);
/* Whether it may wrap now: E_MASTER_KEY_DISABLED when it is disabled, expired or not valid yet. */
DK_MUST_USE dk_rc dk_vault_check_usable(const struct dk_vault_key *key, int64_t now_s,
                                        struct dk_err *err);

/* What an answer that is no success asks for. */
enum dk_vault_fault {
    DK_VAULT_FAILED,    /* it will not pass */
    DK_VAULT_TRANSIENT, /* again, after a wait */
    DK_VAULT_TOKEN,     /* with a token, or a fresh one, once */
    DK_VAULT_FORBIDDEN, /* this operation is not allowed; another one may be */
};
/* Fills `err` with the code of its own, the guide's wording where it has one, and what is missing.
 */
enum dk_vault_fault dk_vault_explain(const struct dk_vault_ask *ask,
                                     const struct dk_http_reply *reply, struct dk_err *err);

#endif
