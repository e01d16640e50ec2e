#include "provider/aws_sign.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "crypto/mac.h"

#define DATE_LEN 8   /* 20150830 */
#define TIME_TEXT 17 /* 20150830T123600Z and the NUL */
#define SECRET_MAX 128

/* ---- the canonical request ------------------------------------------------------------------- */

struct line {
    const char *name;
    size_t name_len;
    const char *value;
    size_t at; /* lines of one name keep their order */
};

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

static int compare_names(const struct line *x, const struct line *y)
{
    size_t n = x->name_len < y->name_len ? x->name_len : y->name_len;
    for (size_t i = 0; i < n; i++) {
        int difference = lower(x->name[i]) - lower(y->name[i]);
        if (difference != 0) {
            return difference;
        }
    }
    return (x->name_len > y->name_len) - (x->name_len < y->name_len);
}

static int compare_lines(const void *a, const void *b)
{
    const struct line *x = a, *y = b;
    int difference = compare_names(x, y);
    return difference != 0 ? difference : (x->at > y->at) - (x->at < y->at);
}

static struct line line_of(const char *text, size_t at)
{
    size_t n = strcspn(text, ":");
    return (struct line){text, n, text[n] == ':' ? text + n + 1 : text + n, at};
}

static dk_rc collect(const struct dk_http_request *request, struct line *lines, size_t *count,
                     struct dk_err *err)
{
    size_t n = 0;
    lines[n++] = (struct line){"host", 4, request->to->authority, 0};
    for (const char *text = dk_http_next_line(request, NULL); text != NULL;
         text = dk_http_next_line(request, text)) {
        if (n == DK_SIGV4_LINES) {
            return DK_FAIL(err, LIMIT, "a request with more than %d headers", DK_SIGV4_LINES);
        }
        lines[n] = line_of(text, n);
        n++;
    }
    qsort(lines, n, sizeof lines[0], compare_lines);
    *count = n;
    return DK_OK;
}

/* Blanks at both ends go, runs of them become one. */
static dk_rc add_value(struct dk_buf *out, const char *value, struct dk_err *err)
{
    bool blank = false, any = false;
    for (; *value != '\0'; value++) {
        if (*value == ' ' || *value == '\t') {
            blank = true;
            continue;
        }
        if (blank && any) {
            DK_TRY(dk_buf_add(out, " ", 1, err));
        }
        DK_TRY(dk_buf_add(out, value, 1, err));
        blank = false;
        any = true;
    }
    return DK_OK;
}

static dk_rc add_name(struct dk_buf *out, const struct line *line, char *names, struct dk_err *err)
{
    char name[64];
    size_t used = strlen(names);
    if (line->name_len >= sizeof name || used + line->name_len + 2 > DK_SIGV4_SIGNED) {
        return DK_FAIL(err, LIMIT, "the names of a request's headers are too long");
    }
    for (size_t i = 0; i < line->name_len; i++) {
        name[i] = lower(line->name[i]);
    }
    name[line->name_len] = '\0';
    snprintf(names + used, DK_SIGV4_SIGNED - used, "%s%s", used > 0 ? ";" : "", name);
    DK_TRY(dk_buf_add(out, name, line->name_len, err));
    return dk_buf_add(out, ":", 1, err);
}

static dk_rc add_lines(struct dk_buf *out, const struct line *lines, size_t count, char *names,
                       struct dk_err *err)
{
    for (size_t i = 0; i < count; i++) {
        bool again = i > 0 && compare_names(&lines[i - 1], &lines[i]) == 0;
        bool more = i + 1 < count && compare_names(&lines[i], &lines[i + 1]) == 0;
        if (again) {
            DK_TRY(dk_buf_add(out, ",", 1, err));
        } else {
            DK_TRY(add_name(out, &lines[i], names, err));
        }
        DK_TRY(add_value(out, lines[i].value, err));
        if (!more) {
            DK_TRY(dk_buf_add(out, "\n", 1, err));
        }
    }
    return DK_OK;
}

static dk_rc add_text(struct dk_buf *out, const char *text, struct dk_err *err)
{
    return dk_buf_add(out, text, strlen(text), err);
}

dk_rc dk_sigv4_canonical(const struct dk_suite *suite, const struct dk_http_request *request,
                         struct dk_buf *out, char names[static DK_SIGV4_SIGNED], struct dk_err *err)
{
    struct line lines[DK_SIGV4_LINES];
    size_t count = 0;
    uint8_t digest[DK_SHA256_LEN];
    char hex[2 * DK_SHA256_LEN + 1];
    names[0] = '\0';
    DK_TRY(collect(request, lines, &count, err));
    DK_TRY(dk_sha256(suite, dk_view_of(request->body.p, request->body.n), digest, err));
    dk_hex_encode(digest, sizeof digest, hex);
    DK_TRY(add_text(out, request->method, err));
    DK_TRY(add_text(out, "\n/\n\n", err)); /* path `/`, no query */
    DK_TRY(add_lines(out, lines, count, names, err));
    DK_TRY(add_text(out, "\n", err));
    DK_TRY(add_text(out, names, err));
    DK_TRY(add_text(out, "\n", err));
    return add_text(out, hex, err);
}

/* ---- the signature --------------------------------------------------------------------------- */

static void format_time(int64_t us, char out[static TIME_TEXT])
{
    time_t seconds = (time_t)(us / 1000000);
    struct tm parts;
    if (gmtime_r(&seconds, &parts) == NULL ||
        strftime(out, TIME_TEXT, "%Y%m%dT%H%M%SZ", &parts) == 0) {
        out[0] = '\0';
    }
}

/* AWS4-HMAC-SHA256 \n time \n scope \n hex(sha256(canonical)) */
static dk_rc string_to_sign(const struct dk_sigv4 *sign, const char *time, const char *scope,
                            struct dk_view canonical, char *out, size_t cap, struct dk_err *err)
{
    uint8_t digest[DK_SHA256_LEN];
    char hex[2 * DK_SHA256_LEN + 1];
    DK_TRY(dk_sha256(sign->suite, canonical, digest, err));
    dk_hex_encode(digest, sizeof digest, hex);
    snprintf(out, cap, "AWS4-HMAC-SHA256\n%s\n%s\n%s", time, scope, hex);
    return DK_OK;
}

/* HMAC(HMAC(HMAC(HMAC(HMAC("AWS4" secret, date), region), service), "aws4_request"), text) */
static bool sign_text(const struct dk_sigv4 *sign, const char *date, const char *text,
                      uint8_t out[static DK_HMAC_LEN])
{
    uint8_t first[4 + SECRET_MAX], key[DK_HMAC_LEN];
    const char *const steps[] = {sign->region, sign->service, "aws4_request"};
    memcpy(first, "AWS4", 4);
    memcpy(first + 4, dk_secret_expose_for_crypto(sign->secret), sign->secret->n);
    bool ok = dk_hmac_raw(sign->suite, dk_view_of(first, 4 + (size_t)sign->secret->n),
                          dk_view_of(date, DATE_LEN), key);
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        ok =
            ok && dk_hmac_raw(sign->suite, dk_view_of(key, sizeof key), dk_view_str(steps[i]), key);
    }
    ok = ok && dk_hmac_raw(sign->suite, dk_view_of(key, sizeof key), dk_view_str(text), out);
    dk_wipe(first, sizeof first);
    dk_wipe(key, sizeof key);
    return ok;
}

static dk_rc authorize(const struct dk_sigv4 *sign, struct dk_http_request *request,
                       const char *time, struct dk_buf *canonical, struct dk_err *err)
{
    char names[DK_SIGV4_SIGNED], scope[160], text[320], line[1024];
    uint8_t signature[DK_HMAC_LEN];
    char hex[2 * DK_HMAC_LEN + 1];
    snprintf(scope, sizeof scope, "%.8s/%.64s/%.32s/aws4_request", time, sign->region,
             sign->service);
    DK_TRY(dk_sigv4_canonical(sign->suite, request, canonical, names, err));
    DK_TRY(string_to_sign(sign, time, scope, dk_view_of(canonical->p, canonical->n), text,
                          sizeof text, err));
    if (!sign_text(sign, time, text, signature)) {
        return DK_FAIL(err, NOMEM, "a request could not be signed");
    }
    dk_hex_encode(signature, sizeof signature, hex);
    snprintf(line, sizeof line,
             "AWS4-HMAC-SHA256 Credential=%.128s/%s, SignedHeaders=%s, Signature=%s",
             sign->access_key_id, scope, names, hex);
    return dk_http_add(request, "Authorization", line, err);
}

dk_rc dk_sigv4_sign(const struct dk_sigv4 *sign, struct dk_http_request *request,
                    struct dk_err *err)
{
    char time[TIME_TEXT];
    struct dk_buf canonical;
    format_time(sign->at_us, time);
    DK_TRY(dk_http_add(request, "X-Amz-Date", time, err));
    if (sign->session_token != NULL) {
        DK_TRY(dk_http_add(request, "X-Amz-Security-Token", sign->session_token, err));
    }
    dk_buf_init(&canonical, request->head.mem, 2 * DK_HTTP_HEAD_MAX);
    dk_rc rc = authorize(sign, request, time, &canonical, err);
    dk_buf_wipe(&canonical); /* a token stands in it */
    return rc;
}
