/*
 * anchor: the newest seal that was seen, kept in a file outside the database (FORMATS "Anchor").
 *
 * Called by audit. By it an older copy of the whole database is known, across restart (I04). The
 * file moves forward only, under a lock of its own, and is replaced whole.
 */
#ifndef DK_KEYS_ANCHOR_H
#define DK_KEYS_ANCHOR_H

#include "crypto/suite.h"
#include "store/store.h"

#define DK_ANCHOR_MAX 320 /* bytes of the file */

/* A seal as others name it. */
struct dk_seal {
    int64_t n; /* 0 = none */
    char hash[DK_HASH_TEXT];
};

struct dk_anchor {
    char pin[DK_HASH_TEXT];
    struct dk_seal seal;
};

/* Exactly the file's bytes: anything else is false. */
DK_MUST_USE bool dk_anchor_parse(const struct dk_suite *suite, const char *text, size_t n,
                                 struct dk_anchor *out);
/* seal.n = 0 where there is no file. E_TAMPERED: it is damaged. E_CONFIG: not a private file. */
DK_MUST_USE dk_rc dk_anchor_read(const struct dk_suite *suite, const char *path,
                                 struct dk_anchor *out, struct dk_err *err);
/* Writes it unless the file is as far already; `back` permits any other seal (accept-restore). */
DK_MUST_USE dk_rc dk_anchor_write(const struct dk_suite *suite, const char *path,
                                  const struct dk_anchor *anchor, bool back, struct dk_err *err);

#endif
