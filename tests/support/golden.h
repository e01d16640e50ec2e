/*
 * golden: reads the files of tests/golden: cases of name=value lines (their heads say the rules).
 *
 * A file that is missing or malformed aborts the test program.
 */
#ifndef DK_TEST_GOLDEN_H
#define DK_TEST_GOLDEN_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#define DK_GOLDEN_ITEMS 48

struct dk_golden_case {
    size_t count;
    struct {
        const char *name;
        const char *value;
    } item[DK_GOLDEN_ITEMS];
    char text[64 * 1024];
};

/* From the repository's root: "local_wrap.txt". The caller closes it. */
FILE *dk_golden_open(const char *name);
/* False at the end. */
bool dk_golden_next(FILE *file, struct dk_golden_case *out);
/* The value of the nth (from 0) item of a name; NULL: there is none. */
const char *dk_golden_get(const struct dk_golden_case *c, const char *name, size_t nth);
/* The bytes of a _hex item, at most `cap`; returns how many. */
size_t dk_golden_bytes(const struct dk_golden_case *c, const char *name, uint8_t *out, size_t cap);
/* Takes apart a context_hex item; both become NUL-terminated texts. False: no such pair. */
bool dk_golden_pair(const struct dk_golden_case *c, size_t nth, char name[static 300],
                    char value[static 300]);

#endif
