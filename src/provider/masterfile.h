/*
 * masterfile: the text of a master key file, written and read strictly (FORMATS).
 *
 * Called by provider/local and its fuzz target. Pure but for the cells it fills.
 */
#ifndef DK_PROVIDER_MASTERFILE_H
#define DK_PROVIDER_MASTERFILE_H

#include "provider/provider.h"

#define DK_MASTER_KEYS_MAX 64
#define DK_MASTER_FILE_MAX (16 * 1024)

struct dk_master_key {
    uint32_t number;
    char created[DK_TIME_TEXT];
    struct dk_secret key;
    char id[6 + 32 + 1]; /* "local:" and 32 hex digits; filled by local.c */
};

struct dk_master_keys {
    struct dk_master_key key[DK_MASTER_KEYS_MAX];
    size_t count; /* ascending numbers, at least 1 */
};

/* E_FORMAT says what is wrong and on which line, never what the line holds. On an error the cells
   are given back. */
DK_MUST_USE dk_rc dk_masterfile_parse(struct dk_arena *arena, struct dk_view text,
                                      struct dk_master_keys *out, struct dk_err *err);
void dk_master_keys_clear(struct dk_arena *arena, struct dk_master_keys *keys);
/* Writes the text of one key; `out` has room for DK_MASTER_FILE_MAX bytes. */
DK_MUST_USE dk_rc dk_masterfile_write(uint32_t number, const char *created, const uint8_t *key,
                                      uint8_t *out, size_t *out_len, struct dk_err *err);

#endif
