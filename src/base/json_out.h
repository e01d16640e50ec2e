/*
 * json_out: writes one JSON document piece by piece to a sink, without allocating.
 *
 * Used by the log, the daemon and the CLI. Strings are escaped; bytes that are not UTF-8 become
 * U+FFFD. A writer belongs to one thread. Depth at most 16: deeper is our own defect (assert).
 */
#ifndef DK_BASE_JSON_OUT_H
#define DK_BASE_JSON_OUT_H

#include "base/bytes.h"

struct dk_json {
    void (*put)(void *arg, const char *p, size_t n);
    void *arg;
    unsigned depth;
    bool first[17]; /* nothing written yet at this depth */
};

void dk_json_init(struct dk_json *json, void (*put)(void *arg, const char *p, size_t n), void *arg);
/* `name` NULL inside arrays and at the top. */
void dk_json_object(struct dk_json *json, const char *name);
void dk_json_array(struct dk_json *json, const char *name);
void dk_json_end(struct dk_json *json, char close);                          /* '}' or ']' */
void dk_json_str(struct dk_json *json, const char *name, const char *value); /* NULL = null */
void dk_json_view(struct dk_json *json, const char *name, struct dk_view value);
void dk_json_int(struct dk_json *json, const char *name, int64_t value);
void dk_json_num(struct dk_json *json, const char *name,
                 double value); /* 3 decimals; no number = null */
void dk_json_bool(struct dk_json *json, const char *name, bool value);
void dk_json_null(struct dk_json *json, const char *name);
/* DK_TIME_NONE = null. */
void dk_json_time(struct dk_json *json, const char *name, int64_t us);

#endif
