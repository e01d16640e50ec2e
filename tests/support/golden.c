#include "support/golden.h"

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"

static void must(bool ok, const char *what)
{
    if (!ok) {
        fprintf(stderr, "golden file: %s\n", what);
        abort();
    }
}

FILE *dk_golden_open(const char *name)
{
    char path[128];
    snprintf(path, sizeof path, "tests/golden/%s", name);
    FILE *file = fopen(path, "re");
    must(file != NULL, path);
    return file;
}

static void add_item(struct dk_golden_case *c, char *line)
{
    char *equals = strchr(line, '=');
    must(equals != NULL && c->count < DK_GOLDEN_ITEMS, line);
    *equals = '\0';
    c->item[c->count].name = line;
    c->item[c->count].value = equals + 1;
    c->count++;
}

bool dk_golden_next(FILE *file, struct dk_golden_case *out)
{
    size_t used = 0;
    out->count = 0;
    for (;;) {
        char *line = out->text + used;
        if (fgets(line, (int)(sizeof out->text - used), file) == NULL) {
            return out->count > 0;
        }
        size_t n = strlen(line);
        must(n > 0 && line[n - 1] == '\n', "a line without end");
        line[n - 1] = '\0';
        if (line[0] == '\0' && out->count > 0) {
            return true;
        }
        if (line[0] != '\0' && line[0] != '#') {
            add_item(out, line);
            used += n;
        }
    }
}

const char *dk_golden_get(const struct dk_golden_case *c, const char *name, size_t nth)
{
    for (size_t i = 0; i < c->count; i++) {
        if (strcmp(c->item[i].name, name) == 0 && nth-- == 0) {
            return c->item[i].value;
        }
    }
    return NULL;
}

size_t dk_golden_bytes(const struct dk_golden_case *c, const char *name, uint8_t *out, size_t cap)
{
    const char *hex = dk_golden_get(c, name, 0);
    must(hex != NULL && strlen(hex) / 2 <= cap, name);
    must(dk_hex_decode(hex, strlen(hex), out, strlen(hex) / 2), name);
    return strlen(hex) / 2;
}

bool dk_golden_pair(const struct dk_golden_case *c, size_t nth, char name[static 300],
                    char value[static 300])
{
    const char *hex = dk_golden_get(c, "context_hex", nth);
    if (hex == NULL) {
        return false;
    }
    const char *colon = strchr(hex, ':');
    must(colon != NULL && colon - hex < 600 && strlen(colon + 1) < 600, "a context pair");
    size_t n = (size_t)(colon - hex) / 2, m = strlen(colon + 1) / 2;
    must(dk_hex_decode(hex, 2 * n, (uint8_t *)name, n) &&
             dk_hex_decode(colon + 1, 2 * m, (uint8_t *)value, m),
         hex);
    name[n] = value[m] = '\0';
    return true;
}
