#include "net/json_in.h"

#include <malloc.h>
#include <openssl/crypto.h>
#include <pthread.h>
#include <stdlib.h>

#define DEPTH_MAX 16
#define NODES_MAX 1000

/* ---- jansson's memory ------------------------------------------------------------------------ */

static void wiping_free(void *p)
{
    if (p != NULL) {
        OPENSSL_cleanse(p, malloc_usable_size(p));
        free(p);
    }
}

/* What was allocated before stays good: it is malloc's, and so is what comes. */
static void take_over(void)
{
    json_malloc_t alloc;
    json_free_t release;
    json_get_alloc_funcs(&alloc, &release);
    if (alloc == malloc && release == free) {
        json_set_alloc_funcs(malloc, wiping_free);
    }
}

void dk_json_in_setup(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, take_over);
}

/* ---- documents ------------------------------------------------------------------------------- */

/* Before jansson, which recurses and builds: how deep, and how many values at most. */
static bool is_within_limits(struct dk_view text)
{
    size_t depth = 0, nodes = 1;
    bool quoted = false;
    for (size_t i = 0; i < text.n; i++) {
        uint8_t c = text.p[i];
        if (quoted) {
            i += c == '\\';
            quoted = c != '"';
        } else if (c == '"') {
            quoted = true;
        } else if (c == '{' || c == '[') {
            depth++;
            nodes++;
        } else if (c == '}' || c == ']') {
            depth -= depth > 0;
        } else if (c == ',') {
            nodes++;
        }
        if (depth > DEPTH_MAX || nodes > NODES_MAX) {
            return false;
        }
    }
    return true;
}

dk_rc dk_json_in_parse(struct dk_view text, json_t **out, struct dk_err *err)
{
    json_error_t error;
    if (!is_within_limits(text)) {
        return DK_FAIL(err, PROVIDER, "the answer's JSON is deeper or longer than an answer is");
    }
    json_t *json = json_loadb((const char *)text.p, text.n, JSON_REJECT_DUPLICATES, &error);
    if (json == NULL) {
        return DK_FAIL(err, PROVIDER, "the answer is no JSON (byte %d of %zu)", error.position,
                       text.n);
    }
    if (!json_is_object(json)) {
        json_decref(json);
        return DK_FAIL(err, PROVIDER, "the answer's JSON is no object");
    }
    *out = json;
    return DK_OK;
}

const char *dk_json_in_text(const json_t *object, const char *name)
{
    return json_string_value(json_object_get(object, name));
}

json_t *dk_json_in_object(const json_t *object, const char *name)
{
    json_t *member = json_object_get(object, name);
    return json_is_object(member) ? member : NULL;
}

static bool read_digits(const char *text, int64_t *out)
{
    char *end = NULL;
    if (text == NULL || text[0] == '\0' || strspn(text, "0123456789") != strlen(text) ||
        strlen(text) > 18) {
        return false;
    }
    *out = strtoll(text, &end, 10);
    return true;
}

bool dk_json_in_int(const json_t *object, const char *name, int64_t *out)
{
    const json_t *member = json_object_get(object, name);
    if (json_is_integer(member)) {
        *out = json_integer_value(member);
        return true;
    }
    double real = json_real_value(member); /* 0 for what is none */
    if (json_is_real(member) && real > -1e15 && real < 1e15) {
        *out = (int64_t)real;
        return true;
    }
    return read_digits(json_string_value(member), out);
}

int dk_json_in_bool(const json_t *object, const char *name)
{
    const json_t *member = json_object_get(object, name);
    return json_is_boolean(member) ? json_is_true(member) : -1;
}
