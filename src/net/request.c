/* Requests and answers as bytes: pure functions, no socket. */
#include <curl/curl.h>
#include <stdio.h>

#include "net/http.h"

void dk_http_request_init(struct dk_http_request *request, const struct dk_mem *mem)
{
    *request = (struct dk_http_request){0};
    dk_buf_init(&request->head, mem, DK_HTTP_HEAD_MAX);
    dk_buf_init(&request->body, mem, DK_HTTP_REPLY_MAX);
}

void dk_http_request_clear(struct dk_http_request *request)
{
    dk_buf_wipe(&request->head);
    dk_buf_wipe(&request->body);
}

/* Visible ASCII and blanks: a value with a line end would be two headers. */
static bool is_value(const char *value)
{
    for (; *value != '\0'; value++) {
        if ((unsigned char)*value < 0x20 || (unsigned char)*value > 0x7E) {
            return false;
        }
    }
    return true;
}

dk_rc dk_http_add(struct dk_http_request *request, const char *name, const char *value,
                  struct dk_err *err)
{
    if (!is_value(value)) {
        return DK_FAIL(err, CONFIG, "the value for the header %s has bytes that no header may have",
                       name);
    }
    DK_TRY(dk_buf_add(&request->head, name, strlen(name), err));
    DK_TRY(dk_buf_add(&request->head, ": ", 2, err));
    return dk_buf_add(&request->head, value, strlen(value) + 1, err);
}

dk_rc dk_http_body(struct dk_http_request *request, const char *text, struct dk_err *err)
{
    return dk_buf_add(&request->body, text, strlen(text), err);
}

const char *dk_http_next_line(const struct dk_http_request *request, const char *line)
{
    const char *first = (const char *)request->head.p;
    const char *next = line == NULL ? first : line + strlen(line) + 1;
    return first != NULL && next < first + request->head.n ? next : NULL;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r';
}

static bool is_line_of(const char *line, const char *end, const char *name, size_t n)
{
    return (size_t)(end - line) > n && strncasecmp(line, name, n) == 0 && line[n] == ':';
}

/* Without the blanks around it. */
static void copy_value(const char *value, const char *end, char *out, size_t cap)
{
    while (value < end && is_blank(*value)) {
        value++;
    }
    while (end > value && is_blank(end[-1])) {
        end--;
    }
    snprintf(out, cap, "%.*s", (int)(end - value), value);
}

bool dk_http_header(const struct dk_http_reply *reply, const char *name, char *out, size_t cap)
{
    const char *line = (const char *)reply->head.p, *all = line + reply->head.n;
    size_t n = strlen(name);
    out[0] = '\0';
    while (line != NULL && line < all) {
        const char *end = memchr(line, '\n', (size_t)(all - line));
        end = end != NULL ? end : all;
        if (is_line_of(line, end, name, n)) {
            copy_value(line + n + 1, end, out, cap);
            return true;
        }
        line = end + 1;
    }
    return false;
}

/* The end of the year 9999: what a header says beyond is no date. */
#define DK_HTTP_DATE_END INT64_C(253402300800)

bool dk_http_date(const struct dk_http_reply *reply, int64_t *us)
{
    char text[64];
    if (!dk_http_header(reply, "date", text, sizeof text)) {
        return false;
    }
    time_t seconds = curl_getdate(text, NULL);
    bool sane = seconds > 0 && seconds < DK_HTTP_DATE_END;
    *us = sane ? (int64_t)seconds * 1000000 : 0;
    return sane;
}
