#include "base/json_out.h"

#include <assert.h>
#include <stdio.h>

static void put_str(struct dk_json *json, const char *s)
{
    json->put(json->arg, s, strlen(s));
}

static void put_escaped(struct dk_json *json, struct dk_view v)
{
    put_str(json, "\"");
    size_t from = 0;
    for (size_t i = 0; i < v.n;) {
        uint8_t c = v.p[i];
        size_t len = 1;
        char out[8];
        if (c == '"' || c == '\\') {
            snprintf(out, sizeof out, "\\%c", c);
        } else if (c < 0x20 || c == 0x7F) {
            snprintf(out, sizeof out, "\\u%04x", c);
        } else if (c < 0x80) {
            i++;
            continue;
        } else {
            len = c >= 0xF0 ? 4 : c >= 0xE0 ? 3 : 2;
            if (len <= v.n - i && dk_utf8_valid(v.p + i, len)) {
                i += len;
                continue;
            }
            len = 1;
            snprintf(out, sizeof out, "\\ufffd");
        }
        json->put(json->arg, (const char *)v.p + from, i - from);
        put_str(json, out);
        i += len;
        from = i;
    }
    json->put(json->arg, (const char *)v.p + from, v.n - from);
    put_str(json, "\"");
}

/* Comma where one is due, then the name. */
static void start(struct dk_json *json, const char *name)
{
    if (!json->first[json->depth]) {
        put_str(json, ",");
    }
    json->first[json->depth] = false;
    if (name != NULL) {
        put_escaped(json, dk_view_str(name));
        put_str(json, ":");
    }
}

void dk_json_init(struct dk_json *json, void (*put)(void *arg, const char *p, size_t n), void *arg)
{
    *json = (struct dk_json){.put = put, .arg = arg};
    json->first[0] = true;
}

static void open_level(struct dk_json *json, const char *name, const char *brace)
{
    assert(json->depth < 16);
    start(json, name);
    put_str(json, brace);
    json->first[++json->depth] = true;
}

void dk_json_object(struct dk_json *json, const char *name)
{
    open_level(json, name, "{");
}

void dk_json_array(struct dk_json *json, const char *name)
{
    open_level(json, name, "[");
}

void dk_json_end(struct dk_json *json, char close)
{
    assert(json->depth > 0);
    json->depth--;
    json->put(json->arg, &close, 1);
}

void dk_json_view(struct dk_json *json, const char *name, struct dk_view value)
{
    start(json, name);
    put_escaped(json, value);
}

void dk_json_str(struct dk_json *json, const char *name, const char *value)
{
    if (value == NULL) {
        dk_json_null(json, name);
    } else {
        dk_json_view(json, name, dk_view_str(value));
    }
}

void dk_json_int(struct dk_json *json, const char *name, int64_t value)
{
    char text[24];
    snprintf(text, sizeof text, "%lld", (long long)value);
    start(json, name);
    put_str(json, text);
}

void dk_json_num(struct dk_json *json, const char *name, double value)
{
    /* By whole numbers: an application's locale may have a decimal comma. */
    if (!(value > -9e15 && value < 9e15)) { /* NaN too */
        dk_json_null(json, name);
        return;
    }
    long long n = (long long)((value < 0 ? -value : value) * 1000 + 0.5);
    char text[40];
    snprintf(text, sizeof text, "%s%lld.%03lld", value < 0 && n > 0 ? "-" : "", n / 1000, n % 1000);
    start(json, name);
    put_str(json, text);
}

void dk_json_bool(struct dk_json *json, const char *name, bool value)
{
    start(json, name);
    put_str(json, value ? "true" : "false");
}

void dk_json_null(struct dk_json *json, const char *name)
{
    start(json, name);
    put_str(json, "null");
}

void dk_json_time(struct dk_json *json, const char *name, int64_t us)
{
    char text[DK_TIME_TEXT];
    if (us == DK_TIME_NONE) {
        dk_json_null(json, name);
        return;
    }
    dk_time_format(us, text);
    dk_json_str(json, name, text);
}
