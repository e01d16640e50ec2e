/*
 * error: the codes of errors.def and the record that carries the first cause of a failure.
 *
 * Used by every room. A record has a fixed size, lives on the caller's stack and never allocates;
 * what is set first stays (later calls only add to the trail). Texts never hold a secret.
 * A record belongs to one thread.
 */
#ifndef DK_BASE_ERROR_H
#define DK_BASE_ERROR_H

#include <stdbool.h>
#include <stddef.h>

#define DK_MUST_USE __attribute__((warn_unused_result))
#define DK_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))

typedef enum dk_rc {
    DK_OK = 0,
#define DK_ERROR(name, number, outward, retryable, http, exit, text, todo) DK_E_##name = number,
#include "base/errors.def"
#undef DK_ERROR
} dk_rc;

struct dk_err {
    dk_rc rc;
    int line;         /* where the first cause was seen */
    const char *file; /* static string */
    long backend;     /* the code of SQLite, errno, HTTP; 0 = none */
    char text[320];   /* one sentence */
    char trail[160];  /* what was being done, innermost first */
};

struct dk_error_info {
    dk_rc rc;
    const char *name;    /* "E_AUTH" */
    const char *outward; /* the name shown outside the process */
    bool retryable;
    int http_status;
    int exit_code;
    const char *text;
    const char *todo;
};

/* Empties a record; costs three stores. */
static inline void dk_err_clear(struct dk_err *err)
{
    err->rc = DK_OK;
    err->text[0] = '\0';
    err->trail[0] = '\0';
}

/* Sets code and text unless a cause is there already. Returns the record's code. */
dk_rc dk_err_set(struct dk_err *err, dk_rc rc, const char *file, int line, const char *format, ...)
    DK_PRINTF(5, 6);
/* As above with the backend's own code. */
dk_rc dk_err_set_backend(struct dk_err *err, dk_rc rc, long backend, const char *file, int line,
                         const char *format, ...) DK_PRINTF(6, 7);
/* Adds to the trail what was being done; returns the record's code. */
dk_rc dk_err_while(struct dk_err *err, const char *format, ...) DK_PRINTF(2, 3);

/* The row of errors.def, never NULL: an unknown code gives E_INTERNAL. */
const struct dk_error_info *dk_error_info(dk_rc rc);
/* Row number i of errors.def, NULL past the end: for docs and tests. */
const struct dk_error_info *dk_error_at(size_t i);

#define DK_FAIL(err, name, ...) dk_err_set((err), DK_E_##name, __FILE__, __LINE__, __VA_ARGS__)
#define DK_FAIL_BACKEND(err, name, code, ...)                                                      \
    dk_err_set_backend((err), DK_E_##name, (code), __FILE__, __LINE__, __VA_ARGS__)

/* Leaves the function with the callee's code. The one macro that hides a return. */
#define DK_TRY(call)                                                                               \
    do {                                                                                           \
        dk_rc dk_try_rc_ = (call);                                                                 \
        if (dk_try_rc_ != DK_OK) {                                                                 \
            return dk_try_rc_;                                                                     \
        }                                                                                          \
    } while (0)

#endif
