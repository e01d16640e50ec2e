/* Standard output or a file that appears whole; the progress line. */
#include <dirent.h>
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "cli/cli.h"

int cli_out_open(struct cli_out *out, const char *path)
{
    out->fd = STDOUT_FILENO;
    out->to_file = path != NULL;
    out->failed = false;
    out->n = 0;
    dk_err_clear(&out->err);
    if (path != NULL) {
        if (cli_new_file_open(&out->file, path, &out->err) != DK_OK) {
            return cli_fail_internal(NULL, &out->err);
        }
        out->fd = out->file.fd;
    }
    return CLI_OK;
}

static void flush(struct cli_out *out)
{
    if (!out->failed && out->n > 0) {
        out->failed = dk_fd_write(out->fd, out->buffer, out->n, &out->err) != DK_OK;
    }
    out->n = 0;
}

void cli_out_write(struct cli_out *out, const void *p, size_t n)
{
    if (n > sizeof out->buffer - out->n) {
        flush(out);
    }
    if (n > sizeof out->buffer) {
        out->failed = out->failed || dk_fd_write(out->fd, p, n, &out->err) != DK_OK;
        return;
    }
    dk_put_bytes((uint8_t *)out->buffer + out->n, p, n); /* nothing may be NULL */
    out->n += n;
}

void cli_out_str(struct cli_out *out, const char *s)
{
    cli_out_write(out, s, strlen(s));
}

void cli_out_printf(struct cli_out *out, const char *format, ...)
{
    char text[4096];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    cli_out_write(out, text, n < (int)sizeof text ? (size_t)n : sizeof text - 1);
}

int cli_out_finish(struct cli_out *out)
{
    flush(out);
    if (!out->failed && out->to_file) {
        out->failed = dk_new_file_commit(&out->file, &out->err) != DK_OK;
    }
    if (out->failed) {
        cli_out_abandon(out);
        if (!out->to_file && out->err.backend == EPIPE) {
            cli_say("dekhand: E_IO: standard output was closed");
            return CLI_FAILED;
        }
        return cli_fail_internal(NULL, &out->err);
    }
    return CLI_OK;
}

void cli_out_abandon(struct cli_out *out)
{
    if (out->to_file) {
        dk_new_file_abandon(&out->file);
    } else {
        flush(out); /* whole rows that were good */
    }
}

static void put(void *arg, const char *p, size_t n)
{
    cli_out_write(arg, p, n);
}

struct dk_json cli_out_json(struct cli_out *out)
{
    struct dk_json json;
    dk_json_init(&json, put, out);
    return json;
}

void cli_json_version(struct dk_json *json, const char *name, uint32_t version)
{
    if (version == 0) {
        dk_json_null(json, name);
    } else {
        dk_json_int(json, name, version);
    }
}

void cli_json_text(struct dk_json *json, const char *name, const char *text)
{
    dk_json_str(json, name, text[0] != '\0' ? text : NULL);
}

/* ---- progress -------------------------------------------------------------------------------- */

#define SHOW_EVERY_MS 200
#define BAR 24

int64_t cli_now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

void cli_progress_start(struct cli_progress *progress, int input_fd)
{
    struct stat st;
    *progress =
        (struct cli_progress){.shown = isatty(STDERR_FILENO) == 1, .started_ms = cli_now_ms()};
    if (fstat(input_fd, &st) == 0 && S_ISREG(st.st_mode)) {
        progress->total_bytes = st.st_size;
    }
}

static void print_bar(const struct cli_progress *progress, int64_t bytes, double seconds)
{
    double done = (double)bytes / (double)progress->total_bytes;
    done = done > 1 ? 1 : done;
    char bar[BAR + 1];
    for (int i = 0; i < BAR; i++) {
        bar[i] = i < (int)(done * BAR) ? '#' : '.';
    }
    bar[BAR] = '\0';
    long left = done > 0.001 ? (long)(seconds / done - seconds + 0.5) : 0;
    fprintf(stderr, "  [%s] %3.0f%%  ETA %ld:%02ld", bar, done * 100, left / 60, left % 60);
}

void cli_progress_show(struct cli_progress *progress, int64_t bytes, int64_t rows)
{
    int64_t now = progress->shown ? cli_now_ms() : 0;
    if (!progress->shown || now - progress->printed_ms < SHOW_EVERY_MS) {
        return;
    }
    progress->printed_ms = now;
    double seconds = (double)(now - progress->started_ms + 1) / 1000;
    fprintf(stderr, "\r%lld rows, %.0f rows/s", (long long)rows, (double)rows / seconds);
    if (progress->total_bytes > 0) {
        print_bar(progress, bytes, seconds);
    }
    fprintf(stderr, "\033[K");
}

void cli_progress_end(struct cli_progress *progress)
{
    if (progress->shown && progress->printed_ms > 0) {
        fprintf(stderr, "\r\033[K");
    }
}

/* ---- a folder of our own --------------------------------------------------------------------- */

dk_rc cli_scratch_make_in(const char *base, const char *what, char *out, struct dk_err *err)
{
    const char *tmp = getenv("TMPDIR");
    tmp = tmp != NULL && tmp[0] == '/' ? tmp : "/tmp";
    snprintf(out, DK_PATH_MAX, "%.3000s/dekhand-%s-XXXXXX", base != NULL ? base : tmp, what);
    return mkdtemp(out) != NULL ? DK_OK
                                : DK_FAIL_BACKEND(err, IO, errno, "no temporary folder %.200s: %s",
                                                  out, strerror(errno));
}

int cli_scratch_make(const char *what, char *out)
{
    struct dk_err err;
    dk_err_clear(&err);
    if (cli_scratch_make_in(NULL, what, out, &err) != DK_OK) {
        cli_say("dekhand: E_IO: %s", err.text);
        return CLI_FAILED;
    }
    return CLI_OK;
}

void cli_scratch_remove(const char *dir)
{
    DIR *list = opendir(dir);
    for (const struct dirent *entry; list != NULL && (entry = readdir(list)) != NULL;) {
        unlinkat(dirfd(list), entry->d_name, 0); /* `.` and `..` are no files: refused */
    }
    if (list != NULL) {
        closedir(list);
    }
    rmdir(dir);
}
