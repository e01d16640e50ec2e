#include "base/tenant.h"

static bool is_tenant_char(uint8_t c)
{
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '.' ||
           c == '_' || c == ':' || c == '-';
}

static bool is_uuid(struct dk_view text)
{
    if (text.n != 36) {
        return false;
    }
    for (size_t i = 0; i < 36; i++) {
        bool dash = i == 8 || i == 13 || i == 18 || i == 23;
        uint8_t c = text.p[i];
        bool hex = (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'f');
        if (dash ? c != '-' : !hex) {
            return false;
        }
    }
    return true;
}

dk_rc dk_tenant_parse(struct dk_view text, struct dk_tenant *out, struct dk_err *err)
{
    if (text.n == 0 || text.n > DK_TENANT_MAX) {
        return DK_FAIL(err, USAGE, "a tenant id has 1 to %d bytes, not %zu", DK_TENANT_MAX, text.n);
    }
    for (size_t i = 0; i < text.n; i++) {
        if (!is_tenant_char(text.p[i])) {
            return DK_FAIL(err, USAGE,
                           "byte %zu of the tenant id is 0x%02x: letters, digits and ._:- are "
                           "allowed",
                           i + 1, text.p[i]);
        }
    }
    bool lower = is_uuid(text);
    for (size_t i = 0; i < text.n; i++) {
        uint8_t c = text.p[i];
        out->s[i] = (char)(lower && c >= 'A' && c <= 'F' ? c | 0x20 : c);
    }
    out->s[text.n] = '\0';
    out->n = (uint8_t)text.n;
    return DK_OK;
}
