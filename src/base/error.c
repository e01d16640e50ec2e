#include "base/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const struct dk_error_info infos[] = {
#define DK_ERROR(name, number, outward, retryable, http, exit, text, todo)                         \
    {DK_E_##name, "E_" #name, outward, retryable, http, exit, text, todo},
#include "base/errors.def"
#undef DK_ERROR
};

DK_PRINTF(6, 0)
static dk_rc set_v(struct dk_err *err, dk_rc rc, long backend, const char *file, int line,
                   const char *format, va_list args)
{
    if (err->rc != DK_OK) {
        return err->rc; /* the first cause stays */
    }
    err->rc = rc;
    err->file = file;
    err->line = line;
    err->backend = backend;
    vsnprintf(err->text, sizeof err->text, format, args);
    return rc;
}

dk_rc dk_err_set(struct dk_err *err, dk_rc rc, const char *file, int line, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    rc = set_v(err, rc, 0, file, line, format, args);
    va_end(args);
    return rc;
}

dk_rc dk_err_set_backend(struct dk_err *err, dk_rc rc, long backend, const char *file, int line,
                         const char *format, ...)
{
    va_list args;
    va_start(args, format);
    rc = set_v(err, rc, backend, file, line, format, args);
    va_end(args);
    return rc;
}

dk_rc dk_err_while(struct dk_err *err, const char *format, ...)
{
    size_t used = strlen(err->trail);
    if (used + 4 < sizeof err->trail) {
        if (used > 0) {
            memcpy(err->trail + used, ", ", 3);
            used += 2;
        }
        va_list args;
        va_start(args, format);
        vsnprintf(err->trail + used, sizeof err->trail - used, format, args);
        va_end(args);
    }
    return err->rc;
}

const struct dk_error_info *dk_error_at(size_t i)
{
    return i < sizeof infos / sizeof infos[0] ? &infos[i] : NULL;
}

const struct dk_error_info *dk_error_info(dk_rc rc)
{
    const struct dk_error_info *defect = NULL;
    for (size_t i = 0; i < sizeof infos / sizeof infos[0]; i++) {
        if (infos[i].rc == rc) {
            return &infos[i];
        }
        defect = infos[i].rc == DK_E_INTERNAL ? &infos[i] : defect;
    }
    return defect;
}
