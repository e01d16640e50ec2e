#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

/* K14: published vectors against our faces. The files say where they come from. */
#include <openssl/err.h>
#include <stdlib.h>

#include "crypto/aead.h"
#include "crypto/hkdf.h"
#include "crypto/mac.h"
#include "support/expect.h"

static struct dk_err err;
static struct dk_suite suite;

/* A line cut into words; hex words become bytes on demand. */
struct line {
    char *text;
    size_t cap;
    char *word[12];
    size_t words;
};

static bool next_line(FILE *file, struct line *line)
{
    while (getline(&line->text, &line->cap, file) >= 0) {
        line->words = 0;
        char *rest = NULL;
        for (char *w = strtok_r(line->text, " \n", &rest); w != NULL && line->words < 12;
             w = strtok_r(NULL, " \n", &rest)) {
            line->word[line->words++] = w;
        }
        if (line->words > 0 && line->word[0][0] != '#') {
            return true;
        }
    }
    return false;
}

/* The buffer is exactly as long as the value: a sanitizer sees each byte too far. */
struct bytes {
    uint8_t *p;
    size_t n;
};

static struct bytes unhex(const char *word)
{
    size_t digits = strcmp(word, "-") == 0 ? 0 : strlen(word);
    struct bytes b = {malloc(digits / 2 + (digits == 0)), digits / 2};
    assert_non_null(b.p);
    assert_true(dk_hex_decode(word, digits, b.p, b.n));
    return b;
}

static struct dk_view view(struct bytes b)
{
    return dk_view_of(b.p, b.n);
}

static bool is_valid(const struct line *line)
{
    bool valid = strcmp(line->word[1], "valid") == 0;
    assert_true(valid || strcmp(line->word[1], "invalid") == 0);
    return valid;
}

static FILE *open_vectors(const char *name)
{
    char path[64];
    snprintf(path, sizeof path, "tests/vectors/%s", name); /* tests run in the repository's root */
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        fail_msg("%s is not there", path);
    }
    return file;
}

static struct dk_aead_key *aead_key(struct bytes key, enum dk_aead_way way)
{
    struct dk_secret secret = {key.p, (uint8_t)key.n};
    struct dk_aead_key *out = NULL;
    DK_TEST_OK(err, suite.aead->key_new(&suite, &secret, way, &out, &err));
    return out;
}

static void run_aead(const struct line *line)
{
    struct bytes b[6]; /* key iv aad msg ct tag */
    for (size_t i = 0; i < 6; i++) {
        b[i] = unhex(line->word[2 + i]);
    }
    assert_int_equal(b[0].n, DK_AEAD_KEY);
    assert_int_equal(b[1].n, DK_AEAD_NONCE);
    assert_int_equal(b[5].n, DK_AEAD_TAG);
    assert_int_equal(b[3].n, b[4].n);
    bool valid = is_valid(line);
    struct dk_aead_key *seal = aead_key(b[0], DK_AEAD_SEAL), *open = aead_key(b[0], DK_AEAD_OPEN);
    uint8_t *out = malloc(b[3].n + 1), tag[DK_AEAD_TAG];
    assert_non_null(out);
    struct dk_aead_op op = {b[1].p, view(b[2]), view(b[4]), out, b[5].p, false};
    if (suite.aead->open(open, &op) != valid || (valid && memcmp(out, b[3].p, b[3].n) != 0)) {
        fail_msg("open, tcId %s", line->word[0]);
    }
    op.in = view(b[3]);
    op.tag = tag;
    assert_true(suite.aead->seal(seal, &op));
    bool same = memcmp(out, b[4].p, b[4].n) == 0 && memcmp(tag, b[5].p, sizeof tag) == 0;
    if (same != valid) {
        fail_msg("seal, tcId %s", line->word[0]);
    }
    suite.aead->key_free(seal);
    suite.aead->key_free(open);
    free(out);
    for (size_t i = 0; i < 6; i++) {
        free(b[i].p);
    }
}

/* The face takes no sizes; a shorter key is refused where it comes in. */
static void is_refused_by_its_sizes(const struct line *line)
{
    assert_int_equal(line->words, 5);
    size_t key = strtoul(line->word[2], NULL, 10) / 8, iv = strtoul(line->word[3], NULL, 10) / 8,
           tag = strtoul(line->word[4], NULL, 10) / 8;
    assert_true(key != DK_AEAD_KEY || iv != DK_AEAD_NONCE || tag != DK_AEAD_TAG);
    if (key != DK_AEAD_KEY) {
        uint8_t cell[DK_SECRET_CELL] = {0};
        struct dk_secret secret = {cell, (uint8_t)key};
        struct dk_aead_key *none = NULL;
        dk_err_clear(&err);
        assert_int_not_equal(suite.aead->key_new(&suite, &secret, DK_AEAD_OPEN, &none, &err),
                             DK_OK);
        assert_null(none);
    }
}

static void K14_aes_gcm_66_cases_run_and_250_are_refused_by_parameter(void **state)
{
    (void)state;
    FILE *file = open_vectors("aes_gcm.txt");
    struct line line = {0};
    unsigned run = 0, refused = 0;
    while (next_line(file, &line)) {
        if (strcmp(line.word[1], "size") == 0) {
            is_refused_by_its_sizes(&line);
            refused++;
        } else {
            assert_int_equal(line.words, 8);
            run_aead(&line);
            run++;
        }
    }
    free(line.text);
    fclose(file);
    ERR_clear_error();
    assert_int_equal(run, 66);
    assert_int_equal(refused, 250);
}

static void K14_hkdf_sha256_86_cases(void **state)
{
    (void)state;
    FILE *file = open_vectors("hkdf_sha256.txt");
    struct line line = {0};
    unsigned valid = 0, invalid = 0;
    while (next_line(file, &line)) {
        assert_int_equal(line.words, 7);
        size_t n = strtoul(line.word[2], NULL, 10);
        struct bytes ikm = unhex(line.word[3]), salt = unhex(line.word[4]),
                     info = unhex(line.word[5]), okm = unhex(line.word[6]);
        uint8_t *out = malloc(n);
        assert_non_null(out);
        bool ok = dk_hkdf_raw(&suite, view(ikm), view(salt), view(info), out, n);
        if (ok != is_valid(&line) || (ok && (okm.n != n || memcmp(out, okm.p, n) != 0))) {
            fail_msg("tcId %s", line.word[0]);
        }
        valid += ok;
        invalid += !ok;
        free(out);
        free(ikm.p);
        free(salt.p);
        free(info.p);
        free(okm.p);
    }
    free(line.text);
    fclose(file);
    ERR_clear_error();
    assert_int_equal(valid, 83);
    assert_int_equal(invalid, 3); /* longer than 255 blocks */
}

static void K14_hmac_sha256_174_cases(void **state)
{
    (void)state;
    FILE *file = open_vectors("hmac_sha256.txt");
    struct line line = {0};
    unsigned valid = 0, invalid = 0, halves = 0;
    while (next_line(file, &line)) {
        assert_int_equal(line.words, 5);
        struct bytes key = unhex(line.word[2]), msg = unhex(line.word[3]),
                     tag = unhex(line.word[4]);
        uint8_t mac[DK_HMAC_LEN];
        assert_true(tag.n == 32 || tag.n == 16);
        assert_true(dk_hmac_raw(&suite, view(key), view(msg), mac));
        bool ok = memcmp(mac, tag.p, tag.n) == 0;
        if (ok != is_valid(&line)) {
            fail_msg("tcId %s", line.word[0]);
        }
        valid += ok;
        invalid += !ok;
        halves += tag.n == 16;
        free(key.p);
        free(msg.p);
        free(tag.p);
    }
    free(line.text);
    fclose(file);
    assert_int_equal(valid, 66);
    assert_int_equal(invalid, 108);
    assert_int_equal(halves, 87);
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
        cmocka_unit_test(K14_aes_gcm_66_cases_run_and_250_are_refused_by_parameter),
        cmocka_unit_test(K14_hkdf_sha256_86_cases),
        cmocka_unit_test(K14_hmac_sha256_174_cases),
    };
    return cmocka_run_group_tests_name("wycheproof", tests, open_suite, close_suite);
}
