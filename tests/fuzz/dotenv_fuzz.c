/* Any bytes as a settings file: refused with a text, or values within their bounds. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/options.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static int fd = -1;
    static char path[64];
    struct dk_settings settings;
    struct dk_err err;
    dk_err_clear(&err);
    if (fd < 0) {
        fd = memfd_create("dotenv", 0);
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    }
    if (fd < 0 || ftruncate(fd, 0) != 0 || pwrite(fd, data, size, 0) != (ssize_t)size) {
        abort();
    }
    dk_settings_init(&settings, &dk_mem_default);
    if (dk_settings_read_file(&settings, path, true, &err) == DK_OK) {
        int64_t days = dk_settings_int(&settings, DK_OPT_ROTATION_DAYS);
        if (days < dk_options[DK_OPT_ROTATION_DAYS].min ||
            days > dk_options[DK_OPT_ROTATION_DAYS].max) {
            abort();
        }
    } else if (err.text[0] == '\0') {
        abort();
    }
    dk_settings_clear(&settings);
    return 0;
}
