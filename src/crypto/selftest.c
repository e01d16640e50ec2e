#include "crypto/selftest.h"

#include "crypto/aead.h"
#include "crypto/hkdf.h"
#include "crypto/mac.h"

/* HKDF-SHA-256: RFC 5869, A.3 (no salt, no info). */
static bool hkdf_ok(const struct dk_suite *suite)
{
    uint8_t ikm[22];
    uint8_t got[42], want[42];
    memset(ikm, 0x0b, sizeof ikm);
    return dk_hex_decode("8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d"
                         "9d201395faa4b61a96c8",
                         84, want, sizeof want) &&
           dk_hkdf_raw(suite, dk_view_of(ikm, sizeof ikm), dk_view_of(NULL, 0), dk_view_of(NULL, 0),
                       got, sizeof got) &&
           memcmp(got, want, sizeof want) == 0;
}

/* HMAC-SHA-256: RFC 4231, 4.3 (key "Jefe"). */
static bool hmac_ok(const struct dk_suite *suite)
{
    uint8_t got[32], want[32];
    return dk_hex_decode("5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843", 64,
                         want, sizeof want) &&
           dk_hmac_raw(suite, dk_view_str("Jefe"), dk_view_str("what do ya want for nothing?"),
                       got) &&
           memcmp(got, want, sizeof want) == 0;
}

/* AES-256-GCM: the GCM specification of McGrew and Viega, test case 16. */
static const char gcm_key[] = "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308";
static const char gcm_nonce[] = "cafebabefacedbaddecaf888";
static const char gcm_aad[] = "feedfacedeadbeeffeedfacedeadbeefabaddad2";
static const char gcm_plain[] =
    "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6"
    "b525b16aedf5aa0de657ba637b39";
static const char gcm_cipher[] =
    "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b105682"
    "8838c5f61e6393ba7a0abcc9f662";
static const char gcm_tag[] = "76fc6ece0f4e1768cddf8853bb2d551b";

static bool gcm_run(const struct dk_suite *suite, const struct dk_secret *key)
{
    uint8_t nonce[12], aad[20], plain[60], cipher[60], tag[16], out[60], got_tag[16];
    struct dk_err err;
    dk_err_clear(&err);
    if (!dk_hex_decode(gcm_nonce, 24, nonce, 12) || !dk_hex_decode(gcm_aad, 40, aad, 20) ||
        !dk_hex_decode(gcm_plain, 120, plain, 60) || !dk_hex_decode(gcm_cipher, 120, cipher, 60) ||
        !dk_hex_decode(gcm_tag, 32, tag, 16)) {
        return false;
    }
    struct dk_aead_key *seal = NULL, *open = NULL;
    struct dk_aead_op op = {nonce, dk_view_of(aad, 20), dk_view_of(plain, 60), out, got_tag, false};
    bool ok = suite->aead->key_new(suite, key, DK_AEAD_SEAL, &seal, &err) == DK_OK &&
              suite->aead->key_new(suite, key, DK_AEAD_OPEN, &open, &err) == DK_OK &&
              suite->aead->seal(seal, &op) && memcmp(out, cipher, 60) == 0 &&
              memcmp(got_tag, tag, 16) == 0;
    op.in = dk_view_of(cipher, 60);
    ok = ok && suite->aead->open(open, &op) && memcmp(out, plain, 60) == 0;
    got_tag[15] ^= 1; /* a wrong tag must be refused */
    ok = ok && !suite->aead->open(open, &op);
    suite->aead->key_free(seal);
    suite->aead->key_free(open);
    return ok;
}

static bool gcm_ok(const struct dk_suite *suite)
{
    /* The key is public: a plain array serves as its cell. */
    uint8_t cell[DK_SECRET_CELL] = {0};
    struct dk_secret key = {cell, 32};
    return dk_hex_decode(gcm_key, 64, cell, 32) && gcm_run(suite, &key);
}

dk_rc dk_selftest(const struct dk_suite *suite, struct dk_err *err)
{
    static const struct {
        const char *name;
        bool (*ok)(const struct dk_suite *suite);
    } tests[] = {{"HKDF-SHA-256", hkdf_ok}, {"HMAC-SHA-256", hmac_ok}, {"AES-256-GCM", gcm_ok}};
    for (size_t i = 0; i < sizeof tests / sizeof tests[0]; i++) {
        if (!tests[i].ok(suite)) {
            return DK_FAIL(err, SELFTEST, "%s does not give its known answer", tests[i].name);
        }
    }
    return DK_OK;
}
