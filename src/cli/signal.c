/*
 * SIGINT, SIGTERM and SIGHUP (F03). At first each ends the program at once, but for the temporary
 * files of -o and --rejects, which go with it. A command that has something to bring to an end asks
 * cli_interrupted() between two steps instead; then the second signal is the one that ends it at
 * once. Either way the program dies by the signal, so that a shell sees it.
 */
#include <signal.h>
#include <stdatomic.h>
#include <unistd.h>

#include "cli/cli.h"

static const struct {
    int number;
    const char *name;
} caught[] = {{SIGINT, "SIGINT"}, {SIGTERM, "SIGTERM"}, {SIGHUP, "SIGHUP"}};

#define TEMPORARIES 2

static atomic_int first;        /* the signal that came; 0 = none */
static atomic_bool cooperating; /* the first one is answered between two steps */
static bool gave_up;
static char temporary[TEMPORARIES][DK_PATH_MAX];
static atomic_size_t temporaries; /* so many of them are there */

/* Whatever thread and place the signal came in: only calls that signal-safety(7) allows. */
static void die_by(int number)
{
    sigset_t one;
    signal(number, SIG_DFL);
    sigemptyset(&one);
    sigaddset(&one, number);
    sigprocmask(SIG_UNBLOCK, &one, NULL);
    raise(number);
    _exit(128 + number); /* process 1 of a container does not die by a signal */
}

static void on_signal(int number)
{
    int none = 0;
    bool is_first = atomic_compare_exchange_strong(&first, &none, number);
    if (is_first && atomic_load(&cooperating)) {
        return;
    }
    for (size_t i = atomic_load(&temporaries); i > 0; i--) {
        unlink(temporary[i - 1]); /* in place or abandoned already: there is none of that name */
    }
    die_by(number);
}

void cli_signals_catch(void)
{
    struct sigaction old, action = {.sa_handler = on_signal};
    sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < sizeof caught / sizeof caught[0]; i++) {
        /* What nohup or a shell's `&` had ignored stays ignored. */
        if (sigaction(caught[i].number, NULL, &old) == 0 && old.sa_handler != SIG_IGN) {
            sigaction(caught[i].number, &action, NULL);
        }
    }
}

void cli_signals_cooperate(void)
{
    atomic_store(&cooperating, true);
}

bool cli_interrupted(void)
{
    return atomic_load(&first) != 0;
}

int cli_give_up(int64_t done, const char *what)
{
    const char *name = "a signal";
    for (size_t i = 0; i < sizeof caught / sizeof caught[0]; i++) {
        name = caught[i].number == atomic_load(&first) ? caught[i].name : name;
    }
    gave_up = true;
    cli_say("dekhand: stopped by %s after %lld %s", name, (long long)done, what);
    return CLI_FAILED;
}

int cli_signals_end(int code)
{
    if (gave_up) {
        die_by(atomic_load(&first));
    }
    return code;
}

dk_rc cli_new_file_open(struct dk_new_file *file, const char *path, struct dk_err *err)
{
    sigset_t ours, before;
    sigemptyset(&ours);
    for (size_t i = 0; i < sizeof caught / sizeof caught[0]; i++) {
        sigaddset(&ours, caught[i].number);
    }
    /* Between its making and its entry here a signal would leave it behind. */
    pthread_sigmask(SIG_BLOCK, &ours, &before);
    dk_rc rc = dk_new_file_open(file, path, err);
    size_t n = atomic_load(&temporaries);
    if (rc == DK_OK && n < TEMPORARIES) {
        memcpy(temporary[n], file->temporary, sizeof temporary[n]);
        atomic_store(&temporaries, n + 1);
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return rc;
}
