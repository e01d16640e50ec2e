/*
 * Any bytes as base64 and base64url: what decodes is the one text of its bytes, and any bytes come
 * back. A slow decoder beside it, one letter at a time, must agree.
 */
#include <stdlib.h>

#include "base/bytes.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

static void must(bool ok)
{
    if (!ok) {
        abort();
    }
}

static void *room(size_t n)
{
    void *p = malloc(n + (n == 0));
    must(p != NULL);
    return p;
}

/* What the letters mean, without padding; false when one is none or bits are left over. */
static bool slowly(const char *text, size_t n, const char *last_two, uint8_t *out)
{
    uint32_t bits = 0;
    unsigned have = 0;
    for (size_t i = 0; i < n; i++) {
        const char *at = text[i] != '\0' ? strchr(letters, text[i]) : NULL;
        const char *end = text[i] != '\0' ? strchr(last_two, text[i]) : NULL;
        if (at == NULL && end == NULL) {
            return false;
        }
        bits = bits << 6 | (uint32_t)(at != NULL ? at - letters : 62 + (end - last_two));
        have += 6;
        if (have >= 8) {
            have -= 8;
            *out++ = (uint8_t)(bits >> have);
            bits &= (1u << have) - 1;
        }
    }
    return n % 4 != 1 && bits == 0;
}

static void check_url(const char *text, size_t n)
{
    size_t len = 0;
    uint8_t *slow = room(n);
    bool good = slowly(text, n, "-_", slow);
    if (!dk_base64url_decoded_len(n, &len)) {
        must(!good && n % 4 == 1);
    } else {
        uint8_t *out = room(len);
        char *again = room(DK_BASE64URL_LEN(len));
        must(dk_base64url_decode(text, n, out) == good);
        if (good) {
            dk_base64url_encode(out, len, again);
            must(memcmp(out, slow, len) == 0 && DK_BASE64URL_LEN(len) == n &&
                 memcmp(again, text, n) == 0);
        }
        free(out);
        free(again);
    }
    free(slow);
}

static void check_standard(const char *text, size_t n, size_t cap)
{
    size_t pad = 0, len = 0;
    while (pad < 2 && pad < n && text[n - 1 - pad] == '=') {
        pad++;
    }
    uint8_t *slow = room(n), *out = room(cap);
    bool good = n % 4 == 0 && slowly(text, n - pad, "+/", slow) && n / 4 * 3 - pad <= cap;
    must(dk_base64_decode(text, n, out, cap, &len) == good);
    if (good) {
        char *again = room(DK_BASE64_LEN(len) + 1);
        dk_base64_encode(out, len, again);
        must(memcmp(out, slow, len) == 0 && strlen(again) == n && memcmp(again, text, n) == 0);
        free(again);
    }
    free(slow);
    free(out);
}

static void check_there_and_back(const uint8_t *data, size_t n)
{
    char *text = room(DK_BASE64_LEN(n) + 1), *url = room(DK_BASE64URL_LEN(n));
    uint8_t *out = room(n);
    size_t len = 0;
    dk_base64_encode(data, n, text);
    must(dk_base64_decode(text, DK_BASE64_LEN(n), out, n, &len) && len == n);
    must(n == 0 || memcmp(out, data, n) == 0);
    dk_base64url_encode(data, n, url);
    must(dk_base64url_decode(url, DK_BASE64URL_LEN(n), out));
    must(n == 0 || memcmp(out, data, n) == 0);
    free(text);
    free(url);
    free(out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data;
    check_url(text, size);
    check_standard(text, size, size);
    check_standard(text, size, size / 2);
    check_there_and_back(data, size);
    return 0;
}
