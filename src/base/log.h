/*
 * log: one line an event, as text or JSON, with allow-listed fields only (I27).
 *
 * Used by every room. A line is built on the stack, escaped, and given whole to the sink, which
 * must be callable from several threads. A line is at most DK_LOG_LINE bytes: a value is cut at 240
 * bytes, a field that does not fit any more is left out. `DEBUG=kms:*` adds the lines
 * `[KMS Audit] {...}` of the guide for every provider call.
 */
#ifndef DK_BASE_LOG_H
#define DK_BASE_LOG_H

#include "base/json_out.h"

#define DK_LOG_LINE 2048

enum dk_log_level { DK_LOG_DEBUG, DK_LOG_INFO, DK_LOG_WARN, DK_LOG_ERROR };
enum dk_log_format { DK_LOG_TEXT, DK_LOG_JSON };

enum dk_log_field_id {
#define DK_LOG_FIELD(name, json) DK_LOGF_##name,
#include "base/log_fields.def"
#undef DK_LOG_FIELD
};

struct dk_log_field {
    enum dk_log_field_id id;
    enum { DK_LOG_STR, DK_LOG_INT, DK_LOG_BOOL } type;
    const char *str;
    int64_t num;
};

#define DK_LOG_S(name, value) ((struct dk_log_field){DK_LOGF_##name, DK_LOG_STR, (value), 0})
#define DK_LOG_I(name, value) ((struct dk_log_field){DK_LOGF_##name, DK_LOG_INT, NULL, (value)})
#define DK_LOG_B(name, value) ((struct dk_log_field){DK_LOGF_##name, DK_LOG_BOOL, NULL, (value)})

struct dk_log {
    void (*sink)(void *arg, enum dk_log_level level, const char *line, size_t n); /* NULL = none */
    void *arg;
    enum dk_log_format format;
    enum dk_log_level min;
    bool kms_audit; /* DEBUG=kms:* */
    const struct dk_clock *clock;
};

/* `event` is a fixed word of ours, "key_rotated". */
void dk_log_event(const struct dk_log *log, enum dk_log_level level, const char *event,
                  const struct dk_log_field *fields, size_t count);

#define DK_LOG(log, level, event, ...)                                                             \
    dk_log_event((log), DK_LOG_##level, (event), (const struct dk_log_field[]){__VA_ARGS__},       \
                 sizeof((const struct dk_log_field[]){__VA_ARGS__}) / sizeof(struct dk_log_field))

/* The guide's debug line for one provider call. */
void dk_log_kms_audit(const struct dk_log *log, const char *operation, const char *tenant,
                      bool success, const char *code);

/* A sink that writes whole lines to standard error. */
void dk_log_to_stderr(void *arg, enum dk_log_level level, const char *line, size_t n);

#endif
