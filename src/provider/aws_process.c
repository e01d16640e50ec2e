#include "provider/aws_process.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

/* ---- words ----------------------------------------------------------------------------------- */

/* One word from *command to *text; false: its quote is not closed. */
static bool cut_word(const char **command, char **text)
{
    const char *p = *command;
    char *out = *text, quote = '\0';
    for (; *p != '\0' && (quote != '\0' || (*p != ' ' && *p != '\t')); p++) {
        if (quote == '\0' && (*p == '"' || *p == '\'')) {
            quote = *p;
        } else if (quote != '\0' && *p == quote) {
            quote = '\0';
        } else if (*p == '\\' && quote != '\'' && p[1] != '\0') {
            *out++ = *++p;
        } else {
            *out++ = *p;
        }
    }
    *out++ = '\0';
    *command = p;
    *text = out;
    return quote == '\0';
}

size_t dk_aws_process_words(const char *command, char *text, char *words[static DK_AWS_WORDS + 1])
{
    size_t n = 0;
    while (*(command += strspn(command, " \t")) != '\0') {
        if (n == DK_AWS_WORDS) {
            return 0;
        }
        words[n++] = text;
        if (!cut_word(&command, &text)) {
            return 0;
        }
    }
    words[n] = NULL;
    return n;
}

/* ---- the process ----------------------------------------------------------------------------- */

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static bool start(char **words, int output, pid_t *pid)
{
    posix_spawn_file_actions_t actions;
    if (posix_spawn_file_actions_init(&actions) != 0) {
        return false;
    }
    bool ok = posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0) == 0 &&
              posix_spawn_file_actions_adddup2(&actions, output, 1) == 0 &&
              posix_spawnp(pid, words[0], &actions, NULL, words, environ) == 0;
    posix_spawn_file_actions_destroy(&actions);
    return ok;
}

static dk_rc reserve(struct dk_buf *out, struct dk_err *err)
{
    struct dk_err cause;
    dk_err_clear(&cause);
    dk_rc rc = dk_buf_reserve(out, 1, &cause);
    return rc == DK_OK ? rc
           : rc == DK_E_LIMIT
               ? DK_FAIL(err, PROVIDER, "credential_process printed more than %zu bytes",
                         out->max_bytes)
               : DK_FAIL(err, NOMEM, "credential_process: %s", cause.text);
}

/* Until its output's end, or the time's. */
static dk_rc read_output(int fd, int64_t end_ms, struct dk_buf *out, struct dk_err *err)
{
    for (;;) {
        struct pollfd wait = {fd, POLLIN, 0};
        int64_t left = end_ms - now_ms();
        int ready = left > 0 ? poll(&wait, 1, (int)left) : 0;
        if (ready == 0) {
            return DK_FAIL(err, UNREACHABLE, "credential_process did not end in time");
        }
        DK_TRY(reserve(out, err));
        ssize_t got = ready > 0 ? read(fd, out->p + out->n, out->cap - out->n) : -1;
        if (got < 0 && errno != EINTR) {
            return DK_FAIL_BACKEND(err, IO, errno, "credential_process: %s", strerror(errno));
        }
        out->n += got > 0 ? (size_t)got : 0;
        if (got == 0) {
            return DK_OK;
        }
    }
}

/* One that closed its output and stays is waited for as long as it may run; false: it was killed.
 */
static bool await_end(pid_t pid, int64_t end_ms, int *status)
{
    const struct timespec pause = {0, 5000000};
    pid_t ended;
    while ((ended = waitpid(pid, status, WNOHANG)) == 0 && now_ms() < end_ms) {
        nanosleep(&pause, NULL);
    }
    if (ended != 0) {
        return true; /* also where the application collects all children itself */
    }
    kill(pid, SIGKILL);
    while (waitpid(pid, status, 0) < 0 && errno == EINTR) {
    }
    return false;
}

static dk_rc run(char **words, int seconds, struct dk_buf *out, struct dk_err *err)
{
    int ends[2], status = 0;
    int64_t end_ms = now_ms() + (int64_t)seconds * 1000;
    pid_t pid = 0;
    if (pipe2(ends, O_CLOEXEC) != 0) {
        return DK_FAIL_BACKEND(err, IO, errno, "credential_process: %s", strerror(errno));
    }
    bool started = start(words, ends[1], &pid);
    close(ends[1]);
    dk_rc rc = started ? read_output(ends[0], end_ms, out, err)
                       : DK_FAIL(err, CONFIG, "credential_process: %.100s cannot be run", words[0]);
    close(ends[0]);
    if (started && !await_end(pid, rc == DK_OK ? end_ms : 0, &status) && rc == DK_OK) {
        rc = DK_FAIL(err, UNREACHABLE, "credential_process did not end in time");
    }
    int code = WIFEXITED(status) ? WEXITSTATUS(status) : 0;
    if (rc == DK_OK && (code == 126 || code == 127)) { /* a shell's or spawn's words for it */
        rc = DK_FAIL(err, CONFIG, "credential_process: %.100s cannot be run", words[0]);
    }
    if (rc == DK_OK && (!WIFEXITED(status) || WEXITSTATUS(status) != 0)) {
        rc = DK_FAIL(err, PROVIDER,
                     "credential_process: %.100s failed; it says more on its "
                     "standard error",
                     words[0]);
    }
    return rc;
}

dk_rc dk_aws_process_run(const char *command, int seconds, struct dk_buf *out, struct dk_err *err)
{
    char *words[DK_AWS_WORDS + 1];
    char *text = dk_mem_alloc(out->mem, strlen(command) + DK_AWS_WORDS + 1);
    if (text == NULL) {
        return DK_FAIL(err, NOMEM, "no memory for credential_process");
    }
    dk_rc rc = dk_aws_process_words(command, text, words) > 0
                   ? run(words, seconds, out, err)
                   : DK_FAIL(err, CONFIG, "credential_process: it is no command");
    dk_mem_free(out->mem, text);
    return rc;
}
