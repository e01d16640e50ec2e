/*
 * field: the dk1 format, text and binary (FORMATS "dk1", docs/FORMAT.md).
 *
 * Called by keys/manager and the self-test. Knows bytes, not states: which version may be used is
 * decided above. Pure but for the allocation of a private buffer for long values.
 */
#ifndef DK_CRYPTO_FIELD_H
#define DK_CRYPTO_FIELD_H

#include "base/tenant.h"
#include "crypto/aead.h"
#include "crypto/context.h"

#define DK_FIELD_PLAIN_MAX (1024 * 1024)
#define DK_FIELD_VERSION_MAX 2147483647u
#define DK_FIELD_COMMITMENT 16
/* commitment, nonce, tag: what a value has beside its ciphertext */
#define DK_FIELD_OVERHEAD (DK_FIELD_COMMITMENT + DK_AEAD_NONCE + DK_AEAD_TAG)
#define DK_FIELD_BINARY_HEAD 5
/* okm: the encryption key, then the commitment */
#define DK_FIELD_SECRET (DK_AEAD_KEY + DK_FIELD_COMMITMENT)
/* lp("dk1") | lp(tenant) | u32(version) */
#define DK_FIELD_AAD_PREFIX_MAX (7 + 4 + DK_TENANT_MAX + 4)
#define DK_FIELD_AAD_MAX (DK_FIELD_AAD_PREFIX_MAX + DK_CONTEXT_ENCODED_MAX)

enum dk_field_form { DK_FIELD_TEXT, DK_FIELD_BINARY };

/* Exact sizes: of a value for n bytes of plaintext, of the plaintext of a value. */
size_t dk_field_size(enum dk_field_form form, uint32_t version, size_t n);

/* A value taken apart; pointers are into the value. */
struct dk_field_parts {
    enum dk_field_form form;
    uint32_t version;
    struct dk_view body; /* commitment | nonce | ciphertext | tag, base64url in the text form */
    size_t plain_size;
};

/* Strict grammar; E_FORMAT says what is wrong. The base64url letters are checked at opening. */
DK_MUST_USE dk_rc dk_field_parse(struct dk_view value, struct dk_field_parts *out,
                                 struct dk_err *err);

/* The rest of the grammar: the letters of the text form. Opening checks them too; this is for
   the case that no key is there to open with. */
DK_MUST_USE bool dk_field_letters_ok(const struct dk_field_parts *parts);

/* okm of (data key, tenant, version), 48 bytes; once at key load. */
DK_MUST_USE dk_rc dk_field_derive(const struct dk_suite *suite, const struct dk_secret *data_key,
                                  const struct dk_tenant *tenant, uint32_t version,
                                  struct dk_secret *okm, struct dk_err *err);

/* The part of the AAD that is the same for every value of a key. Returns its length. */
size_t dk_field_aad_prefix(const struct dk_tenant *tenant, uint32_t version,
                           uint8_t out[static DK_FIELD_AAD_PREFIX_MAX]);

struct dk_field_seal {
    const struct dk_aead_ops *aead;
    struct dk_aead_key *key;
    const uint8_t *commitment;
    uint32_t version;
    const uint8_t *nonce;
    struct dk_view aad;
};

/*
 * Writes dk_field_size() bytes to `out`, which must not overlap `plain`. On E_RANDOM or E_INTERNAL
 * `out` is zeroed. Sizes were checked by the caller.
 */
DK_MUST_USE dk_rc dk_field_seal(const struct dk_field_seal *seal, enum dk_field_form form,
                                struct dk_view plain, uint8_t *out, struct dk_err *err);

struct dk_field_open {
    const struct dk_suite *suite;
    struct dk_aead_key *key;
    const uint8_t *commitment;
    struct dk_view aad;
};

/*
 * Opens a parsed value into `out` (parts->plain_size bytes). E_FORMAT, E_WRONG_KEY (commitment),
 * E_AUTH (tag). Nothing is written to `out` before the tag verified (I20).
 */
DK_MUST_USE dk_rc dk_field_open(const struct dk_field_open *open,
                                const struct dk_field_parts *parts, uint8_t *out,
                                struct dk_err *err);

#endif
