/* dekhand health: the guide's report, and the event of a key that enters its warning phase. */
#include <errno.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/cli.h"

extern char **environ;

#define FOUND_MAX 32

static const char *const statuses[] = {
    [DEKHAND_LEVEL_OK] = "ok",
    [DEKHAND_LEVEL_NOTE] = "ok",
    [DEKHAND_LEVEL_WARNING] = "warning",
    [DEKHAND_LEVEL_ERROR] = "error",
};
static const char *const verdicts[] = {
    [DEKHAND_LEVEL_OK] = "healthy",
    [DEKHAND_LEVEL_NOTE] = "healthy",
    [DEKHAND_LEVEL_WARNING] = "degraded",
    [DEKHAND_LEVEL_ERROR] = "unhealthy",
};

/* What was told, kept for the two lists at the end of the body. */
struct told {
    struct cli_out *out;
    bool json;
    char *issue[FOUND_MAX];
    char *advice[FOUND_MAX];
    size_t n;
};

/* A sentence: a capital first, a full stop last. */
static char *sentence(const char *text)
{
    size_t n = strlen(text);
    char *copy = malloc(n + 2);
    if (copy != NULL) {
        memcpy(copy, text, n + 1);
        copy[0] = (char)(copy[0] >= 'a' && copy[0] <= 'z' ? copy[0] - 'a' + 'A' : copy[0]);
        if (n > 0 && copy[n - 1] != '.') {
            memcpy(copy + n, ".", 2);
        }
    }
    return copy;
}

static void print_check(void *arg, const struct dekhand_check *check)
{
    struct told *told = arg;
    if (!told->json) {
        cli_print_check(told->out, check);
    }
    if (check->level >= DEKHAND_LEVEL_WARNING && told->n < FOUND_MAX) {
        told->issue[told->n] = sentence(check->text);
        told->advice[told->n] = sentence(check->todo);
        told->n++;
    }
}

static void told_free(struct told *told)
{
    for (size_t i = 0; i < told->n; i++) {
        free(told->issue[i]);
        free(told->advice[i]);
    }
}

/* ---- the body -------------------------------------------------------------------------------- */

/* NULL when the registry did not open: what is not known is null. */
static void int_or_null(struct dk_json *json, const char *name, bool known, int64_t value)
{
    if (known) {
        dk_json_int(json, name, value);
    } else {
        dk_json_null(json, name);
    }
}

static void begin(struct dk_json *json, const char *name, enum dekhand_level level, bool known)
{
    dk_json_object(json, name);
    dk_json_str(json, "status", known ? statuses[level] : "unknown");
}

static void kms_json(struct dk_json *json, const struct dekhand_health *h, bool known)
{
    begin(json, "kms", h->provider_level, known || h->provider_level != DEKHAND_LEVEL_OK);
    dk_json_str(json, "provider", h->provider[0] != '\0' ? h->provider : NULL);
    dk_json_bool(json, "connectivity", h->provider_works);
    int_or_null(json, "latency", h->provider_works, h->provider_latency_ms);
    int_or_null(json, "cacheHitRate", h->cache_hit_rate >= 0, h->cache_hit_rate);
    dk_json_end(json, '}');
}

static void keys_json(struct dk_json *json, const struct dekhand_health *h, bool known)
{
    enum dekhand_level database =
        h->anchor_level > h->database_level ? h->anchor_level : h->database_level;
    begin(json, "database", database, known || database != DEKHAND_LEVEL_OK);
    dk_json_bool(json, "connectivity", h->database_works);
    int_or_null(json, "latency", h->database_works, h->database_latency_ms);
    if (known) {
        dk_json_str(json, "anchor",
                    h->anchor_level == DEKHAND_LEVEL_ERROR ? "older"
                    : h->anchor_seal == 0                  ? "none"
                                                           : "ok");
    } else {
        dk_json_null(json, "anchor");
    }
    dk_json_end(json, '}');
    begin(json, "keys", h->keys_level, known);
    int_or_null(json, "totalKeys", known, h->total_keys);
    int_or_null(json, "activeKeys", known, h->active_keys);
    int_or_null(json, "expiredKeys", known, h->expired_keys);
    int_or_null(json, "keysNearExpiration", known, h->near_expiry_keys);
    dk_json_end(json, '}');
    enum dekhand_level soon =
        h->expired_keys + h->near_expiry_keys > 0 ? DEKHAND_LEVEL_WARNING : DEKHAND_LEVEL_OK;
    begin(json, "rotation", h->rotation_level > soon ? h->rotation_level : soon, known);
    dk_json_bool(json, "healthy", known && h->failed_rotations == 0 && h->expired_keys == 0);
    int_or_null(json, "tenantsNeedingRotation", known, h->expired_keys + h->near_expiry_keys);
    int_or_null(json, "failedRotations", known, h->failed_rotations);
    dk_json_end(json, '}');
}

static void list_json(struct dk_json *json, const char *name, char *const *texts, size_t n)
{
    dk_json_array(json, name);
    for (size_t i = 0; i < n; i++) {
        bool again = false; /* one command may mend two things */
        for (size_t k = 0; k < i && texts[i] != NULL && !again; k++) {
            again = texts[k] != NULL && strcmp(texts[i], texts[k]) == 0;
        }
        if (texts[i] != NULL && texts[i][0] != '\0' && !again) {
            dk_json_str(json, NULL, texts[i]);
        }
    }
    dk_json_end(json, ']');
}

static void body(struct told *told, const struct dekhand_health *health, bool known)
{
    struct dk_json json = cli_out_json(told->out);
    dk_json_object(&json, NULL);
    dk_json_str(&json, "status", verdicts[health->level]);
    dk_json_time(&json, "timestamp", health->at);
    dk_json_object(&json, "checks");
    kms_json(&json, health, known);
    keys_json(&json, health, known);
    dk_json_end(&json, '}');
    list_json(&json, "issues", told->issue, told->n);
    list_json(&json, "recommendations", told->advice, told->n);
    dk_json_end(&json, '}');
    cli_out_str(told->out, "\n");
}

static void verdict(struct told *told, const struct dekhand_health *health)
{
    char at[DK_TIME_TEXT];
    dk_time_format(health->at, at);
    cli_out_printf(told->out, "%s, %s\n", verdicts[health->level], at);
}

static int finish(struct told *told, const struct dekhand_health *health, bool known)
{
    if (told->json) {
        body(told, health, known);
    } else {
        verdict(told, health);
    }
    told_free(told);
    int code = cli_out_finish(told->out);
    return code != CLI_OK                           ? code
           : health->level == DEKHAND_LEVEL_ERROR   ? CLI_FINDINGS
           : health->level == DEKHAND_LEVEL_WARNING ? CLI_ATTENTION
                                                    : CLI_OK;
}

/* The registry did not open: the same body, with what is known. */
static int closed(struct cli *cli, struct told *told, const struct dekhand_error *why)
{
    struct dekhand_setting list[DK_OPT_COUNT];
    struct dekhand_config config = cli_config(cli, list);
    struct dekhand_health health = {.size = sizeof health};
    struct dekhand_error error;
    if (dekhand_health_closed(&config, print_check, told, &health, &error) != DEKHAND_OK) {
        return cli_fail(cli, &error);
    }
    int code = finish(told, &health, false);
    return code == CLI_FINDINGS ? cli_exit_code(why->code) : code;
}

/* ---- events ---------------------------------------------------------------------------------- */

struct events {
    const struct cli *cli;
    const char *exec;
    size_t failed;
};

struct line {
    char text[512];
    size_t n;
};

static void put(void *arg, const char *p, size_t n)
{
    struct line *line = arg;
    if (line->n + n < sizeof line->text) {
        memcpy(line->text + line->n, p, n);
        line->n += n;
    }
}

/* The command gets the event on its standard input; its output goes to standard error. */
static bool run_hook(const char *command, const struct line *line)
{
    int ends[2], status = -1;
    pid_t pid;
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t defaults;
    char *const argv[] = {(char *)(uintptr_t) "sh", (char *)(uintptr_t) "-c",
                          (char *)(uintptr_t)command, NULL};
    if (pipe(ends) != 0) {
        return false;
    }
    sigemptyset(&defaults);
    sigaddset(&defaults, SIGPIPE);
    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF);
    posix_spawnattr_setsigdefault(&attributes, &defaults);
    posix_spawn_file_actions_adddup2(&actions, ends[0], STDIN_FILENO);
    posix_spawn_file_actions_adddup2(&actions, STDERR_FILENO, STDOUT_FILENO);
    posix_spawn_file_actions_addclose(&actions, ends[0]);
    posix_spawn_file_actions_addclose(&actions, ends[1]);
    int rc = posix_spawn(&pid, "/bin/sh", &actions, &attributes, argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
    close(ends[0]);
    ssize_t written = rc == 0 ? write(ends[1], line->text, line->n) : 0;
    (void)written; /* a hook need not read it */
    close(ends[1]);
    while (rc == 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    return rc == 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static void tell_event(void *arg, const struct dekhand_warning *warning)
{
    struct events *events = arg;
    struct line line = {.n = 0};
    struct dk_json json;
    dk_json_init(&json, put, &line);
    dk_json_object(&json, NULL);
    dk_json_str(&json, "event", "key-expires-soon");
    dk_json_str(&json, "tenantId", warning->tenant);
    dk_json_int(&json, "version", warning->version);
    dk_json_time(&json, "expiresAt", warning->expires_at);
    dk_json_end(&json, '}');
    put(&line, "\n", 1);
    if (cli_has(events->cli, "events")) {
        fwrite(line.text, 1, line.n, stderr);
    }
    if (events->exec != NULL && !run_hook(events->exec, &line)) {
        events->failed++;
        cli_say("dekhand: the command of --exec failed for tenant %s, version %u; it is not told "
                "again",
                warning->tenant, warning->version);
    }
}

static int tell_events(struct cli *cli)
{
    struct events events = {.cli = cli, .exec = cli_get(cli, "exec")};
    struct dekhand_error error;
    if (events.exec == NULL && !cli_has(cli, "events")) {
        return CLI_OK;
    }
    if (dekhand_warnings(cli->library, tell_event, &events, &error) != DEKHAND_OK) {
        return cli_fail(cli, &error);
    }
    return events.failed > 0 ? CLI_ATTENTION : CLI_OK;
}

/* ---- the command ----------------------------------------------------------------------------- */

static int report(struct cli *cli, struct told *told)
{
    struct dekhand_health health = {.size = sizeof health};
    struct dekhand_error error;
    int events = tell_events(cli);
    if (dekhand_health(cli->library, print_check, told, &health, &error) != DEKHAND_OK) {
        return cli_fail(cli, &error);
    }
    int code = finish(told, &health, true);
    return code != CLI_OK ? code : events;
}

int cli_health(struct cli *cli)
{
    static struct cli_out out;
    struct dekhand_error error;
    struct told told = {.out = &out, .json = cli->json};
    int code = cli_out_open(&out, NULL);
    if (code != CLI_OK) {
        return code;
    }
    if (cli_open_quietly(cli, &error) != DEKHAND_OK) {
        return closed(cli, &told, &error);
    }
    return cli_close(cli, report(cli, &told));
}
