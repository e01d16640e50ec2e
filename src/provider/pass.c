#include "provider/pass.h"

#include <pthread.h>

#define FAILED_MS 1000  /* what went wrong is told to all, before anybody asks again */
#define REFUSED_MS 5000 /* between two askings because a service refused what it got */

struct dk_passes {
    const struct dk_world *world;
    const struct dk_pass_ops *ops;
    void *self;
    pthread_mutex_t lock; /* guards what follows, and who holds which pass */
    pthread_cond_t came;
    struct dk_pass *pass; /* the newest; NULL = none */
    unsigned number;      /* its number, if it is there; only grows */
    bool refused;         /* it was */
    bool asking;
    int64_t asked_ms;      /* the last time */
    int64_t again_ms;      /* not before, while it is good */
    unsigned failures;     /* so far */
    int64_t failed_ms;     /* the last time */
    struct dk_err failure; /* how */
};

/* ---- open and close -------------------------------------------------------------------------- */

static void begin(struct dk_passes *p)
{
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->came, NULL);
    p->pass = NULL;
    p->refused = p->asking = false;
    p->asked_ms = p->again_ms = p->failed_ms = INT64_MIN;
}

dk_rc dk_passes_open(const struct dk_world *world, const struct dk_pass_ops *ops, void *self,
                     struct dk_passes **out, struct dk_err *err)
{
    struct dk_passes *p = dk_mem_zalloc(&world->mem, sizeof *p);
    if (p == NULL) {
        return DK_FAIL(err, NOMEM, "no memory for credentials");
    }
    p->world = world;
    p->ops = ops;
    p->self = self;
    begin(p);
    *out = p;
    return DK_OK;
}

void dk_passes_close(struct dk_passes *p)
{
    if (p == NULL) {
        return;
    }
    if (p->pass != NULL) {
        p->ops->free(p->self, p->pass);
    }
    pthread_cond_destroy(&p->came);
    pthread_mutex_destroy(&p->lock);
    dk_mem_free(&p->world->mem, p);
}

/* The threads that held it, and the one that may have been asking, are the parent's. */
void dk_passes_after_fork(struct dk_passes *p, void (*disown)(struct dk_pass *pass))
{
    struct dk_pass *pass = p->pass;
    begin(p);
    if (pass != NULL && disown != NULL) {
        disown(pass);
    }
    if (pass != NULL) {
        p->ops->free(p->self, pass);
    }
}

/* ---- asking ---------------------------------------------------------------------------------- */

static int64_t now_ms(const struct dk_passes *p)
{
    return dk_boot_ms(p->world);
}

static void take_locked(struct dk_passes *p, struct dk_pass *pass)
{
    struct dk_pass *old = p->pass;
    p->pass = pass;
    p->number++;
    p->refused = false;
    p->again_ms = INT64_MIN;
    if (old != NULL && old->holders == 0) {
        p->ops->free(p->self, old);
    }
}

static void note_failure_locked(struct dk_passes *p, const struct dk_err *why)
{
    p->failures++;
    p->failure = *why;
    p->failed_ms = now_ms(p);
    p->again_ms = p->failed_ms + p->ops->again_ms;
}

/* The lock is let go while others are asked. */
static void ask_locked(struct dk_passes *p, const char *want)
{
    const struct dk_pass_ask ask = {.want = want, .number = p->number + 1};
    struct dk_pass *fresh = NULL;
    struct dk_err err;
    dk_err_clear(&err);
    p->asking = true;
    p->asked_ms = now_ms(p);
    pthread_mutex_unlock(&p->lock);
    dk_rc rc = p->ops->fetch(p->self, &ask, &fresh, &err);
    pthread_mutex_lock(&p->lock);
    p->asking = false;
    if (rc == DK_OK) {
        take_locked(p, fresh);
    } else {
        note_failure_locked(p, &err);
    }
    pthread_cond_broadcast(&p->came);
}

/* ---- get and put ----------------------------------------------------------------------------- */

enum age { OVER, LATE, DUE, FRESH };

static enum age age_locked(const struct dk_passes *p, const char *want, int64_t now)
{
    const struct dk_pass *pass = p->pass;
    if (pass == NULL || p->refused || (p->ops->suits != NULL && !p->ops->suits(pass, want))) {
        return OVER;
    }
    if (pass->good_ms == INT64_MAX || now < pass->renew_ms) {
        return FRESH;
    }
    if (now >= pass->good_ms) {
        return OVER;
    }
    return now < pass->late_ms ? DUE : LATE;
}

/* However short its time is: who waited for it does not ask once more, one after the other. */
static bool came_locked(const struct dk_passes *p, const char *want, unsigned before)
{
    return p->number != before && age_locked(p, want, INT64_MIN) != OVER;
}

/* Who waited for an answer that did not come has it too, and who comes a moment later: a crowd, or
   the calls of a batch, do not ask one after the other. */
static bool has_failed_locked(const struct dk_passes *p, unsigned before, int64_t now)
{
    return p->failures != before || now - FAILED_MS < p->failed_ms;
}

static dk_rc get_locked(struct dk_passes *p, const char *want, bool ahead, struct dk_err *err)
{
    const unsigned number = p->number, failures = p->failures;
    for (;;) {
        int64_t now = now_ms(p);
        enum age age = age_locked(p, want, now);
        bool bides = age != OVER && (p->asking || now < p->again_ms);
        if (age == FRESH || (age == DUE && bides) || came_locked(p, want, number)) {
            return DK_OK;
        }
        if (age != OVER && !ahead) {
            return DK_OK;
        }
        if (p->asking) {
            pthread_cond_wait(&p->came, &p->lock);
        } else if (bides) {
            return DK_OK; /* a moment ago there was no new one */
        } else if (age == OVER && has_failed_locked(p, failures, now)) {
            *err = p->failure;
            return err->rc;
        } else {
            ask_locked(p, want);
        }
    }
}

static dk_rc lend(struct dk_passes *p, const char *want, bool ahead, struct dk_pass **out,
                  struct dk_err *err)
{
    pthread_mutex_lock(&p->lock);
    dk_rc rc = get_locked(p, want, ahead, err);
    if (rc == DK_OK) {
        *out = p->pass;
        p->pass->holders++;
    }
    pthread_mutex_unlock(&p->lock);
    return rc;
}

dk_rc dk_passes_get(struct dk_passes *p, const char *want, struct dk_pass **out, struct dk_err *err)
{
    return lend(p, want, true, out, err);
}

dk_rc dk_passes_get_amid(struct dk_passes *p, const char *want, struct dk_pass **out,
                         struct dk_err *err)
{
    return lend(p, want, false, out, err);
}

void dk_passes_put(struct dk_passes *p, struct dk_pass *pass)
{
    pthread_mutex_lock(&p->lock);
    pass->holders--;
    if (pass != p->pass && pass->holders == 0) {
        p->ops->free(p->self, pass);
    }
    pthread_mutex_unlock(&p->lock);
}

/* Somebody may be asking for the next one already: then that is waited for. */
bool dk_passes_refused(struct dk_passes *p, unsigned number)
{
    pthread_mutex_lock(&p->lock);
    bool newer = p->pass != NULL && p->number != number;
    bool anew = !newer && (p->asking || now_ms(p) - REFUSED_MS >= p->asked_ms);
    p->refused = p->refused || anew;
    pthread_mutex_unlock(&p->lock);
    return newer || anew;
}
