/*
 * Any pairs, twice: what is encoded reads back as the same pairs sorted, whatever their order, and
 * two AADs are the same only for the same tenant, version and context (I17).
 */
#include <stdlib.h>

#include "crypto/field.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define PAIRS 18

struct place {
    struct dk_tenant tenant;
    uint32_t version;
    struct dk_pair pairs[PAIRS];
    size_t count;
    uint8_t aad[DK_FIELD_AAD_MAX];
    size_t n;
    bool good;
};

static void must(bool ok)
{
    if (!ok) {
        abort();
    }
}

static struct dk_view take(struct dk_view *in, size_t n)
{
    n = n < in->n ? n : in->n;
    struct dk_view taken = dk_view_of(in->p, n);
    *in = dk_view_of(in->p + n, in->n - n);
    return taken;
}

static size_t take_number(struct dk_view *in)
{
    struct dk_view byte = take(in, 1);
    return byte.n == 1 ? byte.p[0] : 0;
}

static void encode(struct place *place)
{
    struct dk_err err;
    size_t pairs = 0;
    dk_err_clear(&err);
    size_t head = dk_field_aad_prefix(&place->tenant, place->version, place->aad);
    place->good =
        dk_context_encode(place->pairs, place->count, place->aad + head, &pairs, &err) == DK_OK;
    place->n = head + pairs;
    must(place->good || (err.text[0] != '\0' && (err.rc == DK_E_LIMIT || err.rc == DK_E_USAGE)));
}

/* Reads pairs(c) again, by itself: all of it, ascending, each pair one of the place's. */
static void check_encoding(const struct place *place)
{
    struct dk_view rest = dk_view_of(place->aad, place->n), before = {0};
    (void)take(&rest, 7 + 4 + place->tenant.n + 4);
    must(dk_get_u32(take(&rest, 4).p) == place->count);
    for (size_t i = 0; i < place->count; i++) {
        struct dk_view name = take(&rest, dk_get_u32(take(&rest, 4).p));
        struct dk_view value = take(&rest, dk_get_u32(take(&rest, 4).p));
        size_t both = before.n < name.n ? before.n : name.n, found = 0;
        int order = i == 0 ? -1 : memcmp(before.p, name.p, both);
        must(order < 0 || (order == 0 && before.n < name.n));
        for (size_t k = 0; k < place->count; k++) {
            found += dk_view_equal(name, place->pairs[k].name) &&
                     dk_view_equal(value, place->pairs[k].value);
        }
        must(found == 1);
        before = name;
    }
    must(rest.n == 0);
}

static void check_order(struct place *place)
{
    static struct place turned;
    turned = *place;
    for (size_t i = 0; i < place->count; i++) {
        turned.pairs[i] = place->pairs[place->count - 1 - i];
    }
    encode(&turned);
    must(turned.good && turned.n == place->n && memcmp(turned.aad, place->aad, place->n) == 0);
}

static void read_place(struct dk_view *in, struct place *place)
{
    struct dk_err err;
    dk_err_clear(&err);
    if (dk_tenant_parse(take(in, take_number(in)), &place->tenant, &err) != DK_OK) {
        must(err.rc == DK_E_USAGE);
        memcpy(place->tenant.s, "acme", 5);
        place->tenant.n = 4;
    }
    place->version = 1 + (uint32_t)take_number(in);
    place->count = take_number(in) % PAIRS;
    for (size_t i = 0; i < place->count; i++) {
        place->pairs[i].name = take(in, take_number(in) + 2 * (size_t)(take_number(in) == 255));
        place->pairs[i].value = take(in, take_number(in) + 2 * (size_t)(take_number(in) == 255));
    }
    encode(place);
    if (place->good) {
        check_encoding(place);
        check_order(place);
    }
}

static bool same_pairs(const struct place *a, const struct place *b)
{
    size_t found = 0;
    for (size_t i = 0; i < a->count; i++) {
        for (size_t k = 0; k < b->count; k++) {
            found += dk_view_equal(a->pairs[i].name, b->pairs[k].name) &&
                     dk_view_equal(a->pairs[i].value, b->pairs[k].value);
        }
    }
    return a->count == b->count && found == a->count;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct place a, b;
    struct dk_view in = dk_view_of(data, size);
    read_place(&in, &a);
    read_place(&in, &b);
    if (a.good && b.good) {
        bool same =
            dk_tenant_equal(&a.tenant, &b.tenant) && a.version == b.version && same_pairs(&a, &b);
        must(same == (a.n == b.n && memcmp(a.aad, b.aad, a.n) == 0));
    }
    return 0;
}
