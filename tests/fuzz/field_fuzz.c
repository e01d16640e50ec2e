/* Any bytes as a dk1 value: never more than a refusal, and what parses has the size it says. */
#include <stdlib.h>

#include "crypto/field.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct dk_suite suite;
static uint8_t cell[DK_SECRET_CELL];
static struct dk_aead_key *opener;

static void start(void)
{
    struct dk_err err;
    struct dk_secret key = {cell, DK_FIELD_SECRET};
    dk_err_clear(&err);
    if (dk_suite_open(&dk_world_default, &suite, &err) != DK_OK ||
        suite.aead->key_new(&suite, &key, DK_AEAD_OPEN, &opener, &err) != DK_OK) {
        abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct dk_field_parts parts;
    struct dk_err err;
    dk_err_clear(&err);
    if (opener == NULL) {
        start();
    }
    if (dk_field_parse(dk_view_of(data, size), &parts, &err) != DK_OK) {
        return 0;
    }
    bool letters = dk_field_letters_ok(&parts);
    if (letters && dk_field_size(parts.form, parts.version, parts.plain_size) != size) {
        abort(); /* one text for each value */
    }
    uint8_t *out = malloc(parts.plain_size + 1);
    struct dk_field_open open = {&suite, opener, cell + DK_AEAD_KEY, dk_view_of(NULL, 0)};
    dk_rc rc = dk_field_open(&open, &parts, out, &err);
    if (rc == DK_OK || (!letters && rc != DK_E_FORMAT)) {
        abort(); /* nobody forges a tag by chance */
    }
    free(out);
    return 0;
}
