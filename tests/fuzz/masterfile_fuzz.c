/* Any bytes as a master key file: refused, or keys with ascending numbers. */
#include <stdlib.h>

#include "provider/masterfile.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct dk_arena *arena;
    static struct dk_master_keys keys;
    struct dk_arena_report report;
    struct dk_err err;
    dk_err_clear(&err);
    if (arena == NULL &&
        dk_arena_open(&dk_world_default, DK_MASTER_KEYS_MAX + 1, &arena, &report, &err) != DK_OK) {
        abort();
    }
    if (dk_masterfile_parse(arena, dk_view_of(data, size), &keys, &err) == DK_OK) {
        for (size_t i = 1; i < keys.count; i++) {
            if (keys.key[i - 1].number >= keys.key[i].number) {
                abort();
            }
        }
    }
    dk_master_keys_clear(arena, &keys);
    return 0;
}
