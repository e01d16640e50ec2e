/*
 * tenant: the one form a tenant id has everywhere (DESIGN 4, FORMATS "dk1").
 *
 * Used by every room. 1 to 128 bytes of [A-Za-z0-9._:-]; only the 36-character UUID form is
 * lower-cased, before everything else; all other ids are case-sensitive.
 */
#ifndef DK_BASE_TENANT_H
#define DK_BASE_TENANT_H

#include "base/bytes.h"

#define DK_TENANT_MAX 128

struct dk_tenant {
    uint8_t n;
    char s[DK_TENANT_MAX + 1];
};

/* E_USAGE: not a tenant id; `out` is untouched. */
DK_MUST_USE dk_rc dk_tenant_parse(struct dk_view text, struct dk_tenant *out, struct dk_err *err);

static inline bool dk_tenant_equal(const struct dk_tenant *a, const struct dk_tenant *b)
{
    return a->n == b->n && memcmp(a->s, b->s, a->n) == 0;
}

static inline struct dk_view dk_tenant_view(const struct dk_tenant *tenant)
{
    return dk_view_of(tenant->s, tenant->n);
}

#endif
