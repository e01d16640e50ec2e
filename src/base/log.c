#include "base/log.h"

#include <stdio.h>
#include <unistd.h>

static const char *const field_names[] = {
#define DK_LOG_FIELD(name, json) json,
#include "base/log_fields.def"
#undef DK_LOG_FIELD
};

static const char *const level_names[] = {"debug", "info", "warn", "error"};

struct line {
    char text[DK_LOG_LINE];
    size_t n;
    bool full; /* something did not fit */
};

/* Keeps room for the closing brace and the newline. */
static void put(void *arg, const char *p, size_t n)
{
    struct line *line = arg;
    if (line->full || n > sizeof line->text - 8 - line->n) {
        line->full = true;
        return;
    }
    memcpy(line->text + line->n, p, n);
    line->n += n;
}

/* A field that does not fit is left out whole: what is there stays one valid line. */
static void keep_or_drop(struct line *line, size_t before)
{
    if (line->full) {
        line->n = before;
        line->full = false;
    }
}

/* A value longer than this is cut. */
static struct dk_view cut(const char *s)
{
    struct dk_view v = dk_view_str(s != NULL ? s : "");
    v.n = v.n < 240 ? v.n : 240;
    return v;
}

static void finish(const struct dk_log *log, enum dk_log_level level, struct line *line,
                   const char *close)
{
    size_t n = strlen(close);
    memcpy(line->text + line->n, close, n);
    line->n += n;
    line->text[line->n++] = '\n';
    log->sink(log->arg, level, line->text, line->n);
}

/* `name` NULL: the value alone. */
static void put_field(struct dk_json *json, const char *name, const struct dk_log_field *field)
{
    switch (field->type) {
    case DK_LOG_STR:
        dk_json_view(json, name, cut(field->str));
        break;
    case DK_LOG_INT:
        dk_json_int(json, name, field->num);
        break;
    case DK_LOG_BOOL:
        dk_json_bool(json, name, field->num != 0);
        break;
    }
}

/* key=value, values escaped as JSON strings so that no line break or ESC gets through. */
static void put_text_field(struct line *line, const struct dk_log_field *field)
{
    struct dk_json json;
    dk_json_init(&json, put, line);
    put(line, " ", 1);
    put(line, field_names[field->id], strlen(field_names[field->id]));
    put(line, "=", 1);
    put_field(&json, NULL, field);
}

void dk_log_event(const struct dk_log *log, enum dk_log_level level, const char *event,
                  const struct dk_log_field *fields, size_t count)
{
    if (log->sink == NULL || level < log->min) {
        return;
    }
    struct line line = {.n = 0};
    char now[DK_TIME_TEXT];
    dk_time_format(log->clock->wall_us(log->clock->arg), now);
    if (log->format == DK_LOG_JSON) {
        struct dk_json json;
        dk_json_init(&json, put, &line);
        dk_json_object(&json, NULL);
        dk_json_str(&json, "timestamp", now);
        dk_json_str(&json, "level", level_names[level]);
        dk_json_str(&json, "event", event);
        for (size_t i = 0; i < count; i++) {
            size_t before = line.n;
            put_field(&json, field_names[fields[i].id], &fields[i]);
            keep_or_drop(&line, before);
        }
    } else {
        char head[96];
        int n = snprintf(head, sizeof head, "%s %s %s", now, level_names[level], event);
        put(&line, head, (size_t)n < sizeof head ? (size_t)n : sizeof head - 1);
        for (size_t i = 0; i < count; i++) {
            size_t before = line.n;
            put_text_field(&line, &fields[i]);
            keep_or_drop(&line, before);
        }
    }
    finish(log, level, &line, log->format == DK_LOG_JSON ? "}" : "");
}

void dk_log_kms_audit(const struct dk_log *log, const char *operation, const char *tenant,
                      bool success, const char *code)
{
    if (log->sink == NULL || !log->kms_audit) {
        return;
    }
    struct line line = {.n = 0};
    struct dk_json json;
    put(&line, "[KMS Audit] ", 12);
    dk_json_init(&json, put, &line);
    dk_json_object(&json, NULL);
    dk_json_time(&json, "timestamp", log->clock->wall_us(log->clock->arg));
    dk_json_str(&json, "operation", operation);
    dk_json_view(&json, "tenantId", cut(tenant));
    dk_json_bool(&json, "success", success);
    if (code != NULL) {
        dk_json_str(&json, "code", code);
    }
    finish(log, DK_LOG_DEBUG, &line, "}");
}

void dk_log_to_stderr(void *arg, enum dk_log_level level, const char *line, size_t n)
{
    (void)arg;
    (void)level;
    ssize_t written = write(STDERR_FILENO, line, n); /* whole line, one call: lines do not mix */
    (void)written;
}
