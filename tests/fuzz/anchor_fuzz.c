/* Any bytes as an anchor file: refused, or a seal number from 1 on with two hashes in hex. */
#include <stdlib.h>
#include <string.h>

#include "keys/anchor.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool is_hex(const char *s)
{
    return strlen(s) == 64 && strspn(s, "0123456789abcdef") == 64;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct dk_suite suite;
    struct dk_anchor anchor;
    struct dk_err err;
    dk_err_clear(&err);
    if (suite.sha256 == NULL && dk_suite_open(&dk_world_default, &suite, &err) != DK_OK) {
        abort();
    }
    if (dk_anchor_parse(&suite, (const char *)data, size, &anchor) &&
        (anchor.seal.n < 1 || !is_hex(anchor.pin) || !is_hex(anchor.seal.hash))) {
        abort();
    }
    return 0;
}
