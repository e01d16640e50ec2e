#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

/* The vectors of dk1.txt: each is answered with exactly the result that stands there. */
#include <openssl/err.h>
#include <stdlib.h>

#include "crypto/field.h"
#include "support/expect.h"

#define WORDS 6
#define KEYS_MAX 16
#define UNTOUCHED 0xA5

static struct dk_err err;
static struct dk_suite suite;

/* Exactly as long as the word says: a sanitizer sees each byte too far. */
struct bytes {
    uint8_t *p;
    size_t n;
};

static struct dk_view view(struct bytes b)
{
    return dk_view_of(b.p, b.n);
}

static struct bytes bytes_of(const void *p, size_t n)
{
    struct bytes b = {malloc(n + (n == 0)), n};
    assert_non_null(b.p);
    memcpy(b.p, p, n);
    return b;
}

/* Hex of `n` characters; `*count` at its end repeats the last byte. */
static struct bytes unhex(const char *hex, size_t n)
{
    const char *star = memchr(hex, '*', n);
    size_t digits = star != NULL ? (size_t)(star - hex) : n;
    size_t repeat = star != NULL ? strtoul(star + 1, NULL, 10) : 1;
    struct bytes b = {malloc(digits / 2 + repeat), digits / 2};
    assert_non_null(b.p);
    assert_true(dk_hex_decode(hex, digits, b.p, b.n));
    if (star != NULL) {
        memset(b.p + b.n, b.p[b.n - 1], repeat - 1);
        b.n += repeat - 1;
    }
    struct bytes exact = bytes_of(b.p, b.n);
    free(b.p);
    return exact;
}

static struct bytes word(const char *text)
{
    return text[0] == '=' ? unhex(text + 1, strlen(text + 1)) : bytes_of(text, strlen(text));
}

/* ---- the file -------------------------------------------------------------------------------- */

struct key {
    struct bytes tenant;
    uint32_t version;
    uint8_t cell[DK_SECRET_CELL];
};

struct vectors {
    FILE *file;
    char *line;
    size_t cap;
    char *word[WORDS];
    struct key key[KEYS_MAX];
    size_t keys;
};

static void add_key(struct vectors *v)
{
    assert_true(v->keys < KEYS_MAX);
    struct key *key = &v->key[v->keys++];
    struct bytes secret = word(v->word[3]);
    assert_int_equal(secret.n, 32);
    key->tenant = word(v->word[1]);
    key->version = (uint32_t)strtoul(v->word[2], NULL, 10);
    memcpy(key->cell, secret.p, 32);
    free(secret.p);
}

static size_t split(struct vectors *v)
{
    size_t n = 0;
    char *rest = NULL;
    for (char *w = strtok_r(v->line, " \n", &rest); w != NULL; w = strtok_r(NULL, " \n", &rest)) {
        assert_true(n < WORDS);
        v->word[n++] = w;
    }
    return n;
}

/* The next vector; the keys before it are taken up. */
static bool next(struct vectors *v)
{
    while (getline(&v->line, &v->cap, v->file) >= 0) {
        size_t n = v->line[0] == '#' ? 0 : split(v);
        if (n == 4 && strcmp(v->word[0], "key") == 0) {
            add_key(v);
        } else if (n > 0) {
            assert_int_equal(n, WORDS);
            return true;
        }
    }
    return false;
}

static void open_vectors(struct vectors *v)
{
    memset(v, 0, sizeof *v);
    v->file = fopen("tests/vectors/dk1.txt", "re"); /* tests run in the repository's root */
    assert_non_null(v->file);
}

static void close_vectors(struct vectors *v)
{
    fclose(v->file);
    free(v->line);
    for (size_t i = 0; i < v->keys; i++) {
        free(v->key[i].tenant.p);
    }
}

/* ---- context --------------------------------------------------------------------------------- */

#define PAIRS 20 /* more than may be: the library counts */

struct context {
    struct bytes owned[2 * PAIRS];
    struct dk_pair pairs[PAIRS];
    size_t count;
};

static void read_context(const char *text, struct context *out)
{
    out->count = 0;
    if (strcmp(text, "-") == 0) {
        return;
    }
    for (const char *p = text; p != NULL; out->count++) {
        assert_true(out->count < PAIRS);
        const char *colon = strchr(p, ':'), *comma = strchr(p, ',');
        assert_non_null(colon);
        struct bytes *half = &out->owned[2 * out->count];
        half[0] = unhex(p, (size_t)(colon - p));
        half[1] = unhex(colon + 1, comma != NULL ? (size_t)(comma - colon) - 1 : strlen(colon + 1));
        out->pairs[out->count] = (struct dk_pair){view(half[0]), view(half[1])};
        p = comma != NULL ? comma + 1 : NULL;
    }
}

static void free_context(struct context *context)
{
    for (size_t i = 0; i < 2 * context->count; i++) {
        free(context->owned[i].p);
    }
}

/* ---- reading a value as docs/FORMAT.md 4.4 says ---------------------------------------------- */

static const struct key *find_key(const struct vectors *v, const struct dk_tenant *tenant,
                                  uint32_t version)
{
    for (size_t i = 0; i < v->keys; i++) {
        if (v->key[i].version == version && v->key[i].tenant.n == tenant->n &&
            memcmp(v->key[i].tenant.p, tenant->s, tenant->n) == 0) {
            return &v->key[i];
        }
    }
    return NULL;
}

static dk_rc open_under(const struct key *key, const struct dk_tenant *tenant,
                        const struct context *context, const struct dk_field_parts *parts,
                        uint8_t *out)
{
    static uint8_t cell[DK_SECRET_CELL], aad[DK_FIELD_AAD_MAX];
    struct dk_secret okm = {cell, DK_FIELD_SECRET};
    uint8_t secret_cell[DK_SECRET_CELL];
    memcpy(secret_cell, key->cell, sizeof secret_cell);
    const struct dk_secret secret = {secret_cell, 32};
    struct dk_aead_key *keyed = NULL;
    size_t pairs = 0;
    size_t n = dk_field_aad_prefix(tenant, parts->version, aad);
    DK_TRY(dk_context_encode(context->pairs, context->count, aad + n, &pairs, &err));
    DK_TRY(dk_field_derive(&suite, &secret, tenant, parts->version, &okm, &err));
    DK_TRY(suite.aead->key_new(&suite, &okm, DK_AEAD_OPEN, &keyed, &err));
    const struct dk_field_open open = {&suite, keyed, cell + DK_AEAD_KEY,
                                       dk_view_of(aad, n + pairs)};
    dk_rc rc = dk_field_open(&open, parts, out, &err);
    suite.aead->key_free(keyed);
    ERR_clear_error();
    return rc;
}

/* `out` has room for as many bytes as the value. */
static dk_rc read_value(const struct vectors *v, struct dk_view tenant_text,
                        const struct context *context, struct dk_view value, uint8_t *out,
                        size_t *out_n)
{
    struct dk_tenant tenant;
    struct dk_field_parts parts;
    dk_err_clear(&err);
    DK_TRY(dk_tenant_parse(tenant_text, &tenant, &err));
    DK_TRY(dk_field_parse(value, &parts, &err));
    if (!dk_field_letters_ok(&parts)) {
        return DK_FAIL(&err, FORMAT, "the base64url part is not strict base64url");
    }
    const struct key *key = find_key(v, &tenant, parts.version);
    if (key == NULL) {
        return DK_FAIL(&err, UNKNOWN_VERSION, "no such key");
    }
    *out_n = parts.plain_size;
    return open_under(key, &tenant, context, &parts, out);
}

static const char *result_name(dk_rc rc)
{
    return rc == DK_OK ? "ok" : dk_error_info(rc)->name;
}

static bool is_untouched(const uint8_t *p, size_t n)
{
    while (n > 0 && p[n - 1] == UNTOUCHED) {
        n--;
    }
    return n == 0;
}

/* Returns whether it was a valid one. */
static bool check_vector(const struct vectors *v)
{
    const char *name = v->word[0], *result = v->word[1];
    struct bytes tenant = word(v->word[2]), value = word(v->word[4]), plain = word(v->word[5]);
    struct context context;
    read_context(v->word[3], &context);
    uint8_t *out = malloc(value.n + 1);
    assert_non_null(out);
    memset(out, UNTOUCHED, value.n + 1);
    size_t n = 0;
    dk_rc rc = read_value(v, view(tenant), &context, view(value), out, &n);
    if (strcmp(result_name(rc), result) != 0) {
        fail_msg("%s: %s, not %s", name, result_name(rc), result);
    }
    if (rc == DK_OK && (n != plain.n || memcmp(out, plain.p, n) != 0)) {
        fail_msg("%s: another plaintext", name);
    }
    if (rc != DK_OK && (!is_untouched(out, value.n + 1) || err.text[0] == '\0')) {
        fail_msg("%s: the buffer was written, or nothing is said", name);
    }
    free(out);
    free(tenant.p);
    free(value.p);
    free(plain.p);
    free_context(&context);
    return rc == DK_OK;
}

static void K14_F57_F58_F59_F60_F61_each_dk1_vector_gives_exactly_its_result(void **state)
{
    (void)state;
    struct vectors v;
    size_t good = 0, refused = 0;
    open_vectors(&v);
    while (next(&v)) {
        bool valid = check_vector(&v);
        good += valid;
        refused += !valid;
    }
    close_vectors(&v);
    assert_int_equal(good, 47);
    assert_int_equal(refused, 524);
}

static int open_suite(void **state)
{
    (void)state;
    dk_err_clear(&err);
    return dk_suite_open(&dk_world_default, &suite, &err) == DK_OK ? 0 : -1;
}

static int close_suite(void **state)
{
    (void)state;
    dk_suite_close(&suite);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(K14_F57_F58_F59_F60_F61_each_dk1_vector_gives_exactly_its_result),
    };
    return cmocka_run_group_tests_name("dk1 vectors", tests, open_suite, close_suite);
}
