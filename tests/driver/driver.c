/*
 * A program that keeps a registry open and does what its standard input says, for tests in Python.
 *
 *     driver NAME=VALUE ..        settings
 *
 *     open | close | tick         the registry; it is not open at the start
 *     encrypt TENANT TEXT         the value
 *     decrypt TENANT VALUE        the text
 *     rotate TENANT               the new version
 *     many THREADS PREFIX FROM TO encrypts TENANT for the tenants PREFIX<FROM> .. PREFIX<TO - 1>,
 *                                 spread over the threads; an answer for each
 *     batch PREFIX FROM TO        the same in one call, backwards where FROM is the greater
 *     fork COMMAND                a child does it
 *
 * An answer is one line: `CODE MS RESULT`, after an error its text; of several the last is `done`.
 * A name of a tenant in front of it where there are several.
 */
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "dekhand.h"

#define LINE 4096
#define THREADS_MAX 64
#define BATCH_MAX 2048

static struct dekhand *open_now;
static struct dekhand_config config = {.size = sizeof config, .ignore_environment = true};

/* ---- answers --------------------------------------------------------------------------------- */

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void answer(const char *tenant, int code, int64_t began, const char *result, int n,
                   const struct dekhand_error *error)
{
    bool good = code == DEKHAND_OK;
    flockfile(stdout);
    printf("%s%s%s %" PRId64 " %.*s\n", tenant, tenant[0] != '\0' ? " " : "",
           dekhand_error_name(code), now_ms() - began, good ? n : LINE,
           good ? result : error->text);
    fflush(stdout);
    funlockfile(stdout);
}

static void done(void)
{
    puts("done");
    fflush(stdout);
}

/* ---- commands -------------------------------------------------------------------------------- */

static void open_it(void)
{
    struct dekhand_error error;
    int64_t began = now_ms();
    int code = dekhand_open(&config, &open_now, &error);
    answer("", code, began, "", 0, &error);
}

static void close_it(void)
{
    struct dekhand_error error;
    int64_t began = now_ms();
    int code = dekhand_close(open_now, &error);
    open_now = NULL;
    answer("", code, began, "", 0, &error);
}

static void tick(void)
{
    struct dekhand_error error;
    int64_t began = now_ms();
    int code = dekhand_tick(open_now, &error);
    answer("", code, began, "", 0, &error);
}

static void value(const char *name, const char *tenant, const char *text, bool encrypt)
{
    char out[LINE];
    struct dekhand_error error;
    struct dekhand_item item = {
        .tenant = tenant, .in = text, .in_size = strlen(text), .out = out, .capacity = sizeof out};
    int64_t began = now_ms();
    int code = encrypt ? dekhand_encrypt(open_now, &item, &error)
                       : dekhand_decrypt(open_now, &item, &error);
    answer(name, code, began, out, (int)item.size, &error);
}

static bool keep_version(void *arg, const struct dekhand_rotation *rotation)
{
    snprintf(arg, 16, "%u", rotation->to_version);
    return true;
}

static void rotate(const char *tenant)
{
    char version[16] = "";
    struct dekhand_error error;
    struct dekhand_rotate_args args = {
        .size = sizeof args, .which = DEKHAND_ROTATE_TENANT, .tenant = tenant};
    int64_t began = now_ms();
    int code = dekhand_rotate(open_now, &args, keep_version, version, &error);
    answer("", code, began, version, (int)strlen(version), &error);
}

struct many {
    const char *prefix;
    atomic_int next;
    int to;
};

static void *work(void *arg)
{
    struct many *many = arg;
    char tenant[128];
    int i;
    while ((i = atomic_fetch_add(&many->next, 1)) < many->to) {
        snprintf(tenant, sizeof tenant, "%.100s%d", many->prefix, i);
        value(tenant, tenant, tenant, true);
    }
    return NULL;
}

static void many(int threads, const char *prefix, int from, int to)
{
    struct many all = {.prefix = prefix, .to = to};
    pthread_t id[THREADS_MAX];
    int started = 0;
    atomic_init(&all.next, from);
    while (started < threads && started < THREADS_MAX &&
           pthread_create(&id[started], NULL, work, &all) == 0) {
        started++;
    }
    for (int i = 0; i < started; i++) {
        pthread_join(id[i], NULL);
    }
    done();
}

static void batch(const char *prefix, int from, int to)
{
    static struct dekhand_item items[BATCH_MAX];
    static char tenants[BATCH_MAX][64], out[BATCH_MAX][256];
    struct dekhand_error error;
    int n = abs(to - from), step = to < from ? -1 : 1;
    n = n > BATCH_MAX ? BATCH_MAX : n;
    for (int i = 0; i < n; i++) {
        int number = (step > 0 ? from : from - 1) + step * i;
        snprintf(tenants[i], sizeof tenants[i], "%.40s%d", prefix, number);
        items[i] = (struct dekhand_item){.tenant = tenants[i],
                                         .in = tenants[i],
                                         .in_size = strlen(tenants[i]),
                                         .out = out[i],
                                         .capacity = sizeof out[i]};
    }
    int64_t began = now_ms();
    dekhand_encrypt_batch(open_now, items, (size_t)n, &error);
    for (int i = 0; i < n; i++) {
        answer(tenants[i], items[i].code, began, out[i], (int)items[i].size, &error);
    }
    done();
}

/* ---- input ----------------------------------------------------------------------------------- */

static void obey(char *line)
{
    char *word[6] = {0}, *rest = line;
    size_t n = 0;
    for (char *w; n < 6 && (w = strsep(&rest, " ")) != NULL; n++) {
        word[n] = w;
    }
    const char *command = word[0];
    if (strcmp(command, "open") == 0) {
        open_it();
    } else if (strcmp(command, "close") == 0) {
        close_it();
    } else if (strcmp(command, "tick") == 0) {
        tick();
    } else if (n == 3 && (strcmp(command, "encrypt") == 0 || strcmp(command, "decrypt") == 0)) {
        value("", word[1], word[2], command[0] == 'e');
    } else if (n == 2 && strcmp(command, "rotate") == 0) {
        rotate(word[1]);
    } else if (n == 5 && strcmp(command, "many") == 0) {
        many(atoi(word[1]), word[2], atoi(word[3]), atoi(word[4]));
    } else if (n == 4 && strcmp(command, "batch") == 0) {
        batch(word[1], atoi(word[2]), atoi(word[3]));
    } else {
        printf("UNKNOWN 0 %s\n", command);
        fflush(stdout);
    }
}

int main(int argc, char **argv)
{
    static struct dekhand_setting settings[32];
    char line[LINE];
    for (int i = 1; i < argc && i <= 32; i++) {
        char *equals = strchr(argv[i], '=');
        if (equals != NULL) {
            *equals = '\0';
            settings[config.setting_count++] = (struct dekhand_setting){argv[i], equals + 1};
        }
    }
    config.settings = settings;
    while (fgets(line, sizeof line, stdin) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        if (strncmp(line, "fork ", 5) != 0) {
            obey(line);
            continue;
        }
        pid_t child = fork();
        if (child == 0) {
            obey(line + 5);
            _exit(0);
        }
        waitpid(child, NULL, 0);
    }
    dekhand_close(open_now, NULL);
    return 0;
}
