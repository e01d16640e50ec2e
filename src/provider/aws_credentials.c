#include "provider/aws_credentials.h"

#include <pthread.h>

#include "provider/aws_fetch.h"

#define MINUTE_MS (INT64_C(60) * 1000)
#define EARLY_MS (15 * MINUTE_MS) /* before their end: one thread asks */
#define LATE_MS (10 * MINUTE_MS)  /* all wait */
#define AGAIN_MS MINUTE_MS        /* after a failure that nobody had to wait for */
#define REFUSED_MS 5000           /* between two askings because a service refused what it got */
#define FAILED_MS 1000            /* what went wrong is told to all, before anybody asks again */
/* An instance has new ones five minutes before the end. Where it has none it has trouble of its
   own, and where anybody hands out what is over, it may be our clock. It is used until the service
   refuses it, and asked for again in 20 minutes: share() of these. */
#define INSTANCE_MS (5 * MINUTE_MS)
#define TROUBLE_MS (20 * MINUTE_MS / 3 * 4)

struct dk_aws_credentials {
    struct dk_aws_credentials_setup setup;
    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t came;
    struct dk_aws_keys *keys; /* the newest; NULL = none yet */
    bool asking;
    int64_t early_ms; /* of these keys: what is short-lived is not asked for all the time */
    int64_t late_ms;
    int64_t again_ms; /* not before */
    int64_t asked_ms; /* the last time */
    unsigned number;
    unsigned failures;     /* so far */
    int64_t failed_ms;     /* the last time */
    struct dk_err failure; /* how */
};

static int64_t now_ms(const struct dk_aws_credentials *c)
{
    return dk_boot_ms(c->setup.world);
}

/* ---- keys ------------------------------------------------------------------------------------ */

static void keys_free(struct dk_aws_credentials *c, struct dk_aws_keys *keys)
{
    const struct dk_mem *mem = &c->setup.world->mem;
    if (keys == NULL) {
        return;
    }
    if (keys->token != NULL) {
        dk_wipe(keys->token, strlen(keys->token));
    }
    dk_secret_free(c->setup.arena, &keys->secret);
    dk_mem_free(mem, keys->token);
    dk_mem_free(mem, keys->id);
    dk_mem_free(mem, keys);
}

static dk_rc keys_fill(struct dk_aws_credentials *c, const struct dk_aws_grant *grant,
                       struct dk_aws_keys *keys, struct dk_err *err)
{
    const struct dk_mem *mem = &c->setup.world->mem;
    keys->id = dk_mem_strdup(mem, grant->id);
    keys->token = grant->token[0] != '\0' ? dk_mem_strdup(mem, grant->token) : NULL;
    if (keys->id == NULL || (grant->token[0] != '\0' && keys->token == NULL)) {
        return DK_FAIL(err, NOMEM, "no memory for credentials");
    }
    DK_TRY(dk_secret_new(c->setup.arena, strlen(grant->secret), &keys->secret, err));
    memcpy(dk_secret_expose_for_crypto(&keys->secret), grant->secret, keys->secret.n);
    return DK_OK;
}

static dk_rc keys_new(struct dk_aws_credentials *c, const struct dk_aws_grant *grant,
                      struct dk_aws_keys **out, struct dk_err *err)
{
    struct dk_aws_keys *keys = dk_mem_zalloc(&c->setup.world->mem, sizeof *keys);
    if (keys == NULL) {
        return DK_FAIL(err, NOMEM, "no memory for credentials");
    }
    dk_rc rc = keys_fill(c, grant, keys, err);
    if (rc != DK_OK) {
        keys_free(c, keys);
        return rc;
    }
    *out = keys;
    return DK_OK;
}

static dk_rc fetch(struct dk_aws_credentials *c, struct dk_aws_keys **out, struct dk_err *err)
{
    const struct dk_mem *mem = &c->setup.world->mem;
    struct dk_aws_grant *grant = dk_mem_alloc(mem, sizeof *grant);
    int64_t left_us = 0, begun = now_ms(c);
    if (grant == NULL) {
        return DK_FAIL(err, NOMEM, "no memory for credentials");
    }
    dk_rc rc = dk_aws_fetch(&c->setup, grant, &left_us, err);
    rc = rc == DK_OK ? keys_new(c, grant, out, err) : rc;
    dk_aws_grant_clear(grant);
    dk_mem_free(mem, grant);
    if (rc != DK_OK) {
        return dk_err_while(err, "asking for AWS credentials (%s)", c->setup.aws->plan.told);
    }
    int64_t left = left_us == INT64_MAX ? INT64_MAX : left_us / 1000;
    bool instance =
        c->setup.aws->plan.source == DK_AWS_INSTANCE && c->setup.aws->plan.role_count == 0;
    if (left <= 0 || (instance && left < INSTANCE_MS)) {
        left = TROUBLE_MS;
    }
    (*out)->good_ms = left == INT64_MAX ? INT64_MAX : begun + left;
    return DK_OK;
}

/* ---- open and close -------------------------------------------------------------------------- */

static void locks_init(struct dk_aws_credentials *c)
{
    pthread_mutex_init(&c->lock, NULL);
    pthread_cond_init(&c->came, NULL);
}

dk_rc dk_aws_credentials_open(const struct dk_aws_credentials_setup *setup,
                              struct dk_aws_credentials **out, struct dk_err *err)
{
    struct dk_aws_credentials *c = dk_mem_zalloc(&setup->world->mem, sizeof *c);
    if (c == NULL) {
        return DK_FAIL(err, NOMEM, "no memory for credentials");
    }
    c->setup = *setup;
    c->again_ms = c->asked_ms = c->failed_ms = INT64_MIN;
    locks_init(c);
    *out = c;
    return DK_OK;
}

void dk_aws_credentials_close(struct dk_aws_credentials *c)
{
    if (c != NULL) {
        keys_free(c, c->keys);
        pthread_cond_destroy(&c->came);
        pthread_mutex_destroy(&c->lock);
        dk_mem_free(&c->setup.world->mem, c);
    }
}

void dk_aws_credentials_after_fork(struct dk_aws_credentials *c)
{
    locks_init(c);
    if (c->keys != NULL) {
        c->keys->secret = (struct dk_secret){0}; /* its cell is another's by now */
        keys_free(c, c->keys);
    }
    c->keys = NULL;
    c->asking = false;
    c->again_ms = c->asked_ms = c->failed_ms = INT64_MIN;
}

/* ---- get and put ----------------------------------------------------------------------------- */

static void release_locked(struct dk_aws_credentials *c, struct dk_aws_keys *keys)
{
    if (keys != NULL && keys->holders == 0) {
        keys_free(c, keys);
    }
}

static int64_t share(int64_t most, int64_t left, int64_t part)
{
    return left / part < most ? left / part : most;
}

static void take_new_locked(struct dk_aws_credentials *c, struct dk_aws_keys *keys)
{
    struct dk_aws_keys *old = c->keys;
    int64_t left = keys->good_ms == INT64_MAX ? INT64_MAX : keys->good_ms - now_ms(c);
    keys->number = ++c->number;
    c->keys = keys;
    c->early_ms = share(EARLY_MS, left, 4);
    c->late_ms = share(LATE_MS, left, 6);
    c->again_ms = INT64_MIN;
    release_locked(c, old);
}

/* The lock is let go while others are asked. */
static dk_rc ask_locked(struct dk_aws_credentials *c, struct dk_err *err)
{
    struct dk_aws_keys *fresh = NULL;
    c->asking = true;
    c->asked_ms = now_ms(c);
    pthread_mutex_unlock(&c->lock);
    dk_rc rc = fetch(c, &fresh, err);
    pthread_mutex_lock(&c->lock);
    c->asking = false;
    if (rc == DK_OK) {
        take_new_locked(c, fresh);
    } else {
        c->failed_ms = now_ms(c);
        c->again_ms = c->failed_ms + AGAIN_MS;
        c->failures++;
        c->failure = *err;
    }
    pthread_cond_broadcast(&c->came);
    return rc;
}

/* How long the keys are good yet; 0 = there are none, or they are over. */
static int64_t left_locked(const struct dk_aws_credentials *c)
{
    if (c->keys == NULL) {
        return 0;
    }
    if (c->keys->good_ms == INT64_MAX) {
        return INT64_MAX;
    }
    int64_t left = c->keys->good_ms - now_ms(c);
    return left > 0 ? left : 0;
}

/* Who waited for an answer that did not come has it too, and who comes a moment later: a crowd, or
   the calls of a batch, do not ask one after the other. */
static bool has_failed_locked(const struct dk_aws_credentials *c, unsigned before)
{
    return c->failures != before || now_ms(c) - FAILED_MS < c->failed_ms;
}

static dk_rc get_locked(struct dk_aws_credentials *c, struct dk_err *err)
{
    unsigned before = c->failures;
    for (;;) {
        int64_t left = left_locked(c);
        bool may_wait = left > 0 && (c->asking || now_ms(c) < c->again_ms);
        if (left > c->early_ms || (left > c->late_ms && may_wait)) {
            return DK_OK;
        }
        if (c->asking) {
            pthread_cond_wait(&c->came, &c->lock);
            continue;
        }
        if (may_wait) {
            return DK_OK; /* a moment ago there were no new ones */
        }
        if (left == 0 && has_failed_locked(c, before)) {
            *err = c->failure;
            return err->rc;
        }
        struct dk_err cause;
        dk_err_clear(&cause);
        if (ask_locked(c, &cause) == DK_OK) {
            return DK_OK; /* however short their time is */
        }
    }
}

dk_rc dk_aws_credentials_get(struct dk_aws_credentials *c, struct dk_aws_keys **out,
                             struct dk_err *err)
{
    pthread_mutex_lock(&c->lock);
    dk_rc rc = get_locked(c, err);
    if (rc == DK_OK) {
        *out = c->keys;
        c->keys->holders++;
    }
    pthread_mutex_unlock(&c->lock);
    return rc;
}

void dk_aws_credentials_put(struct dk_aws_credentials *c, struct dk_aws_keys *keys)
{
    pthread_mutex_lock(&c->lock);
    keys->holders--;
    if (keys != c->keys) {
        release_locked(c, keys);
    }
    pthread_mutex_unlock(&c->lock);
}

bool dk_aws_credentials_refused(struct dk_aws_credentials *c, unsigned number)
{
    const struct dk_aws_plan *plan = &c->setup.aws->plan;
    bool can_change = plan->source != DK_AWS_STATIC || plan->role_count > 0;
    pthread_mutex_lock(&c->lock);
    bool newer = c->keys != NULL && c->keys->number != number;
    bool anew = !newer && can_change && now_ms(c) - REFUSED_MS >= c->asked_ms;
    if (anew && c->keys != NULL) {
        c->keys->good_ms = INT64_MIN / 2;
        c->again_ms = INT64_MIN;
    }
    pthread_mutex_unlock(&c->lock);
    return newer || anew;
}
