#include "crypto/context.h"

static int compare(struct dk_view a, struct dk_view b)
{
    int c = memcmp(a.p, b.p, a.n < b.n ? a.n : b.n);
    return c != 0 ? c : a.n < b.n ? -1 : a.n > b.n;
}

static dk_rc check(const struct dk_pair *pair, struct dk_err *err)
{
    if (pair->name.n == 0 || pair->name.n > DK_CONTEXT_NAME) {
        return DK_FAIL(err, LIMIT, "a context name has 1 to %d bytes, not %zu", DK_CONTEXT_NAME,
                       pair->name.n);
    }
    if (pair->value.n > DK_CONTEXT_VALUE) {
        return DK_FAIL(err, LIMIT, "a context value has at most %d bytes, not %zu",
                       DK_CONTEXT_VALUE, pair->value.n);
    }
    if (!dk_utf8_valid(pair->name.p, pair->name.n) ||
        !dk_utf8_valid(pair->value.p, pair->value.n)) {
        return DK_FAIL(err, USAGE, "a context name or value is not UTF-8, or holds a NUL");
    }
    return DK_OK;
}

/* Insertion sort of at most 16 indexes. */
static dk_rc sort(const struct dk_pair *pairs, size_t count, uint8_t *order, struct dk_err *err)
{
    for (size_t i = 0; i < count; i++) {
        size_t at = i;
        while (at > 0) {
            int c = compare(pairs[order[at - 1]].name, pairs[i].name);
            if (c == 0) {
                return DK_FAIL(err, USAGE, "a context name is given twice");
            }
            if (c < 0) {
                break;
            }
            order[at] = order[at - 1];
            at--;
        }
        order[at] = (uint8_t)i;
    }
    return DK_OK;
}

dk_rc dk_context_encode(const struct dk_pair *pairs, size_t count, uint8_t *out, size_t *out_len,
                        struct dk_err *err)
{
    uint8_t order[DK_CONTEXT_PAIRS];
    if (count > DK_CONTEXT_PAIRS) {
        return DK_FAIL(err, LIMIT, "a context has at most %d pairs, not %zu", DK_CONTEXT_PAIRS,
                       count);
    }
    for (size_t i = 0; i < count; i++) {
        DK_TRY(check(&pairs[i], err));
    }
    DK_TRY(sort(pairs, count, order, err));
    uint8_t *p = dk_put_u32(out, (uint32_t)count);
    for (size_t i = 0; i < count; i++) {
        const struct dk_pair *pair = &pairs[order[i]];
        p = dk_put_lp(p, pair->name.p, pair->name.n);
        p = dk_put_lp(p, pair->value.p, pair->value.n);
    }
    *out_len = (size_t)(p - out);
    return DK_OK;
}
