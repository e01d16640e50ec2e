#include "crypto/field.h"

#include "crypto/hkdf.h"

#define TEXT_PREFIX "dk1."
#define TEXT_PREFIX_LEN 4
#define BINARY_MARK 0x01
/* Values up to this many bytes are opened on the stack. */
#define STACK_BODY 2048

static size_t decimal(uint32_t v, char out[static 10])
{
    char reversed[10];
    size_t n = 0;
    do {
        reversed[n++] = (char)('0' + v % 10);
        v /= 10;
    } while (v > 0);
    for (size_t i = 0; i < n; i++) {
        out[i] = reversed[n - 1 - i];
    }
    return n;
}

size_t dk_field_size(enum dk_field_form form, uint32_t version, size_t n)
{
    if (form == DK_FIELD_BINARY) {
        return DK_FIELD_BINARY_HEAD + n + DK_FIELD_OVERHEAD;
    }
    char digits[10];
    return TEXT_PREFIX_LEN + decimal(version, digits) + 1 + DK_BASE64URL_LEN(n + DK_FIELD_OVERHEAD);
}

static dk_rc parse_body_size(size_t body, struct dk_field_parts *out, struct dk_err *err)
{
    if (body < DK_FIELD_OVERHEAD) {
        return DK_FAIL(err, FORMAT, "the value is cut short");
    }
    if (body - DK_FIELD_OVERHEAD > DK_FIELD_PLAIN_MAX) {
        return DK_FAIL(err, FORMAT, "the value is longer than 1 MiB");
    }
    out->plain_size = body - DK_FIELD_OVERHEAD;
    return DK_OK;
}

static dk_rc parse_binary(struct dk_view value, struct dk_field_parts *out, struct dk_err *err)
{
    if (value.n < DK_FIELD_BINARY_HEAD) {
        return DK_FAIL(err, FORMAT, "the value is cut short");
    }
    out->form = DK_FIELD_BINARY;
    out->version = dk_get_u32(value.p + 1);
    if (out->version == 0 || out->version > DK_FIELD_VERSION_MAX) {
        return DK_FAIL(err, FORMAT, "the key version is not 1 to 2147483647");
    }
    out->body = dk_view_of(value.p + DK_FIELD_BINARY_HEAD, value.n - DK_FIELD_BINARY_HEAD);
    return parse_body_size(out->body.n, out, err);
}

static dk_rc parse_text(struct dk_view value, struct dk_field_parts *out, struct dk_err *err)
{
    size_t i = TEXT_PREFIX_LEN;
    uint64_t version = 0;
    while (i < value.n && value.p[i] >= '0' && value.p[i] <= '9' &&
           version <= DK_FIELD_VERSION_MAX) {
        version = version * 10 + (value.p[i] - '0');
        i++;
    }
    if (value.p[TEXT_PREFIX_LEN] == '0' || version == 0 || version > DK_FIELD_VERSION_MAX) {
        return DK_FAIL(err, FORMAT, "the key version is not 1 to 2147483647 in plain decimal");
    }
    if (i == value.n || value.p[i] != '.') {
        return DK_FAIL(err, FORMAT, "no dot after the key version");
    }
    out->form = DK_FIELD_TEXT;
    out->version = (uint32_t)version;
    out->body = dk_view_of(value.p + i + 1, value.n - i - 1);
    size_t body = 0;
    if (!dk_base64url_decoded_len(out->body.n, &body)) {
        return DK_FAIL(err, FORMAT, "the base64url part has an impossible length");
    }
    return parse_body_size(body, out, err);
}

dk_rc dk_field_parse(struct dk_view value, struct dk_field_parts *out, struct dk_err *err)
{
    if (value.n > 0 && value.p[0] == BINARY_MARK) {
        return parse_binary(value, out, err);
    }
    if (value.n > TEXT_PREFIX_LEN && memcmp(value.p, TEXT_PREFIX, TEXT_PREFIX_LEN) == 0) {
        return parse_text(value, out, err);
    }
    return DK_FAIL(err, FORMAT, "the value does not begin as a dk1 value");
}

bool dk_field_letters_ok(const struct dk_field_parts *parts)
{
    uint8_t scratch[768];
    const char *text = (const char *)parts->body.p;
    size_t left = parts->form == DK_FIELD_TEXT ? parts->body.n : 0;
    while (left > 0) {
        size_t n = left < 1024 ? left : 1024; /* whole groups but for the last */
        if (!dk_base64url_decode(text, n, scratch)) {
            return false;
        }
        text += n;
        left -= n;
    }
    return true;
}

dk_rc dk_field_derive(const struct dk_suite *suite, const struct dk_secret *data_key,
                      const struct dk_tenant *tenant, uint32_t version, struct dk_secret *okm,
                      struct dk_err *err)
{
    /* info = lp("dekhand/1") | lp(tenant) | u32(version) */
    uint8_t info[4 + 9 + 4 + DK_TENANT_MAX + 4];
    uint8_t *p = dk_put_lp(info, "dekhand/1", 9);
    p = dk_put_lp(p, tenant->s, tenant->n);
    p = dk_put_u32(p, version);
    return dk_hkdf_secret(suite, data_key, dk_view_of(info, (size_t)(p - info)), okm, err);
}

size_t dk_field_aad_prefix(const struct dk_tenant *tenant, uint32_t version,
                           uint8_t out[static DK_FIELD_AAD_PREFIX_MAX])
{
    uint8_t *p = dk_put_lp(out, "dk1", 3);
    p = dk_put_lp(p, tenant->s, tenant->n);
    return (size_t)(dk_put_u32(p, version) - out);
}

/* commitment | nonce | ciphertext | tag at `body`. */
static bool seal_body(const struct dk_field_seal *seal, struct dk_view plain, uint8_t *body)
{
    uint8_t *p = dk_put_bytes(body, seal->commitment, DK_FIELD_COMMITMENT);
    uint8_t *ciphertext = dk_put_bytes(p, seal->nonce, DK_AEAD_NONCE);
    struct dk_aead_op op = {
        .nonce = p, .aad = seal->aad, .in = plain, .out = ciphertext, .tag = ciphertext + plain.n};
    return seal->aead->seal(seal->key, &op);
}

dk_rc dk_field_seal(const struct dk_field_seal *seal, enum dk_field_form form, struct dk_view plain,
                    uint8_t *out, struct dk_err *err)
{
    size_t body_len = plain.n + DK_FIELD_OVERHEAD;
    uint8_t *body;
    char *text = NULL;
    size_t size;
    if (form == DK_FIELD_BINARY) {
        size = DK_FIELD_BINARY_HEAD + body_len;
        out[0] = BINARY_MARK;
        body = dk_put_u32(out + 1, seal->version);
    } else {
        char *p = (char *)dk_put_bytes(out, TEXT_PREFIX, TEXT_PREFIX_LEN);
        p += decimal(seal->version, p);
        *p++ = '.';
        text = p;
        size = (size_t)((uint8_t *)text - out) + DK_BASE64URL_LEN(body_len);
        /* The body lies at the end of the output and is encoded forwards onto itself: before
           each group the reader is ahead of the writer by at least the groups that are left. */
        body = out + size - body_len;
    }
    if (!seal_body(seal, plain, body)) {
        memset(out, 0, size);
        return DK_FAIL(err, INTERNAL, "AES-256-GCM failed");
    }
    if (form == DK_FIELD_TEXT) {
        dk_base64url_encode(body, body_len, text);
    }
    return DK_OK;
}

/* Opens `body`; in the text form `private_buf` holds it already decoded. */
static dk_rc open_body(const struct dk_field_open *open, const uint8_t *body, size_t plain_size,
                       uint8_t *private_buf, struct dk_err *err)
{
    if (memcmp(body, open->commitment, DK_FIELD_COMMITMENT) != 0) { /* stands in every value */
        return DK_FAIL(err, WRONG_KEY, "the value was sealed under another key");
    }
    const uint8_t *nonce = body + DK_FIELD_COMMITMENT;
    const uint8_t *ciphertext = nonce + DK_AEAD_NONCE;
    uint8_t tag[DK_AEAD_TAG];
    memcpy(tag, ciphertext + plain_size, DK_AEAD_TAG);
    struct dk_aead_op op = {.nonce = nonce,
                            .aad = open->aad,
                            .in = dk_view_of(ciphertext, plain_size),
                            .out = private_buf,
                            .tag = tag};
    if (!open->suite->aead->open(open->key, &op)) {
        return DK_FAIL(err, AUTH, "the value was changed, or its context is another");
    }
    return DK_OK;
}

static dk_rc open_in(const struct dk_field_open *open, const struct dk_field_parts *parts,
                     uint8_t *scratch, uint8_t *out, struct dk_err *err)
{
    const uint8_t *body = parts->body.p;
    uint8_t *plain = scratch;
    if (parts->form == DK_FIELD_TEXT) {
        if (!dk_base64url_decode((const char *)parts->body.p, parts->body.n, scratch)) {
            return DK_FAIL(err, FORMAT, "the base64url part is not strict base64url");
        }
        body = scratch;
        plain = scratch + DK_FIELD_COMMITMENT + DK_AEAD_NONCE; /* in place */
    }
    dk_rc rc = open_body(open, body, parts->plain_size, plain, err);
    if (rc == DK_OK && parts->plain_size > 0) {
        memcpy(out, plain, parts->plain_size);
    }
    dk_wipe(plain, parts->plain_size);
    return rc;
}

dk_rc dk_field_open(const struct dk_field_open *open, const struct dk_field_parts *parts,
                    uint8_t *out, struct dk_err *err)
{
    size_t need = parts->plain_size + DK_FIELD_OVERHEAD;
    uint8_t stack[STACK_BODY];
    uint8_t *scratch = stack;
    if (need > sizeof stack) {
        scratch = dk_mem_alloc(&open->suite->world->mem, need);
        if (scratch == NULL) {
            return DK_FAIL(err, NOMEM, "no memory to open a value of %zu bytes", parts->plain_size);
        }
    }
    dk_rc rc = open_in(open, parts, scratch, out, err);
    if (scratch != stack) {
        dk_wipe(scratch, need);
        dk_mem_free(&open->suite->world->mem, scratch);
    }
    return rc;
}
