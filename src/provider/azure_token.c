#include "provider/azure_token.h"

#include <pthread.h>
#include <stdio.h>

#include "provider/azure_fetch.h"
#include "provider/azure_jwt.h"

#define EARLY_MS (INT64_C(5) * 60 * 1000)
#define LONG_MS (INT64_C(7200) * 1000) /* from this life on half of it is the time */
#define AGAIN_MS 30000                 /* after a failure while the old one is good */
#define FAILED_MS 1000                 /* who comes so soon after a failure is told of it */
#define REFUSED_MS 5000                /* between two askings because a vault refused a token */

struct dk_azure_tokens {
    struct dk_azure_tokens_setup setup;
    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t came;
    struct dk_azure_token *token; /* the newest; NULL = none */
    struct dk_err failure;        /* of the last asking */
    int64_t failed_ms;            /* when that was */
    int64_t asked_ms;             /* the last time */
    unsigned number;
    bool asking;
};

static int64_t now_ms(const struct dk_azure_tokens *t)
{
    return dk_boot_ms(t->setup.world);
}

/* ---- tokens ---------------------------------------------------------------------------------- */

static void token_free(struct dk_azure_tokens *t, struct dk_azure_token *token)
{
    const struct dk_mem *mem = &t->setup.world->mem;
    if (token == NULL) {
        return;
    }
    if (token->bearer != NULL) {
        dk_wipe(token->bearer, strlen(token->bearer));
    }
    dk_mem_free(mem, token->bearer);
    dk_mem_free(mem, token);
}

/* `begun`: before it was asked for. One of a short life is not asked for all the time. */
static dk_rc token_new(struct dk_azure_tokens *t, const struct dk_azure_grant *grant,
                       const char *resource, int64_t begun, struct dk_azure_token **out,
                       struct dk_err *err)
{
    const struct dk_mem *mem = &t->setup.world->mem;
    int64_t life = grant->seconds * 1000;
    int64_t early = life / 4 < EARLY_MS ? life / 4 : EARLY_MS;
    size_t n = strlen("Bearer ") + strlen(grant->token) + 1;
    struct dk_azure_token *token = dk_mem_zalloc(mem, sizeof *token);
    char *bearer = dk_mem_alloc(mem, n);
    if (token == NULL || bearer == NULL) {
        dk_mem_free(mem, token);
        dk_mem_free(mem, bearer);
        return DK_FAIL(err, NOMEM, "no memory for a token");
    }
    snprintf(bearer, n, "Bearer %s", grant->token);
    snprintf(token->resource, sizeof token->resource, "%s", resource);
    token->bearer = bearer;
    token->renew_ms = begun + (life >= LONG_MS ? life / 2 : life - early);
    token->good_ms = begun + life;
    *out = token;
    return DK_OK;
}

static dk_rc fetch(struct dk_azure_tokens *t, const char *resource, struct dk_azure_token **out,
                   struct dk_err *err)
{
    const struct dk_mem *mem = &t->setup.world->mem;
    int64_t begun = now_ms(t);
    struct dk_azure_grant *grant = dk_mem_alloc(mem, sizeof *grant);
    if (grant == NULL) {
        return DK_FAIL(err, NOMEM, "no memory for a token");
    }
    dk_rc rc = dk_azure_fetch(&t->setup, resource, grant, err);
    rc = rc == DK_OK ? token_new(t, grant, resource, begun, out, err) : rc;
    dk_azure_grant_clear(grant);
    dk_mem_free(mem, grant);
    return rc == DK_OK ? rc
                       : dk_err_while(err, "asking for an Azure token (%s)", t->setup.azure->told);
}

/* ---- open and close -------------------------------------------------------------------------- */

static void begin(struct dk_azure_tokens *t)
{
    pthread_mutex_init(&t->lock, NULL);
    pthread_cond_init(&t->came, NULL);
    t->token = NULL;
    t->failed_ms = t->asked_ms = INT64_MIN / 2;
    t->asking = false;
}

dk_rc dk_azure_tokens_open(const struct dk_azure_tokens_setup *setup, struct dk_azure_tokens **out,
                           struct dk_err *err)
{
    if (setup->azure->source == DK_AZURE_CERTIFICATE) {
        struct dk_azure_certificate certificate; /* what is wrong with it is told now */
        DK_TRY(dk_azure_certificate_read(setup->suite, setup->azure->file, &certificate, err));
        dk_azure_certificate_clear(&certificate);
    }
    struct dk_azure_tokens *t = dk_mem_zalloc(&setup->world->mem, sizeof *t);
    if (t == NULL) {
        return DK_FAIL(err, NOMEM, "no memory for tokens");
    }
    t->setup = *setup;
    begin(t);
    *out = t;
    return DK_OK;
}

void dk_azure_tokens_close(struct dk_azure_tokens *t)
{
    if (t != NULL) {
        token_free(t, t->token);
        pthread_cond_destroy(&t->came);
        pthread_mutex_destroy(&t->lock);
        dk_mem_free(&t->setup.world->mem, t);
    }
}

void dk_azure_tokens_after_fork(struct dk_azure_tokens *t)
{
    token_free(t, t->token);
    begin(t);
}

/* ---- get and put ----------------------------------------------------------------------------- */

static void take_new_locked(struct dk_azure_tokens *t, struct dk_azure_token *token)
{
    struct dk_azure_token *old = t->token;
    token->number = ++t->number;
    t->token = token;
    if (old != NULL && old->holders == 0) {
        token_free(t, old);
    }
}

/* The lock is let go while others are asked. */
static void ask_locked(struct dk_azure_tokens *t, const char *resource)
{
    struct dk_azure_token *fresh = NULL;
    struct dk_err err;
    dk_err_clear(&err);
    t->asking = true;
    t->asked_ms = now_ms(t);
    pthread_mutex_unlock(&t->lock);
    dk_rc rc = fetch(t, resource, &fresh, &err);
    pthread_mutex_lock(&t->lock);
    t->asking = false;
    t->failure = err;
    t->failed_ms = rc == DK_OK ? INT64_MIN / 2 : now_ms(t);
    if (rc == DK_OK) {
        take_new_locked(t, fresh);
    }
    pthread_cond_broadcast(&t->came);
}

static bool is_good_locked(const struct dk_azure_tokens *t, const char *resource)
{
    return t->token != NULL && now_ms(t) < t->token->good_ms &&
           strcmp(t->token->resource, resource) == 0;
}

static dk_rc get_locked(struct dk_azure_tokens *t, const char *resource, struct dk_err *err)
{
    if (is_good_locked(t, resource)) {
        bool due = now_ms(t) >= t->token->renew_ms && now_ms(t) - t->failed_ms >= AGAIN_MS;
        if (due && !t->asking) {
            ask_locked(t, resource);
        }
    }
    while (!is_good_locked(t, resource)) {
        if (t->asking) {
            pthread_cond_wait(&t->came, &t->lock);
            continue;
        }
        if (now_ms(t) - t->failed_ms >= FAILED_MS) {
            ask_locked(t, resource);
        }
        if (t->failure.rc != DK_OK) {
            *err = t->failure;
            return err->rc;
        }
        if (!is_good_locked(t, resource)) {
            return DK_FAIL(err, PROVIDER, "the token was over before it came");
        }
    }
    return DK_OK;
}

dk_rc dk_azure_token_get(struct dk_azure_tokens *t, const char *resource,
                         struct dk_azure_token **out, struct dk_err *err)
{
    pthread_mutex_lock(&t->lock);
    dk_rc rc = get_locked(t, resource, err);
    if (rc == DK_OK) {
        *out = t->token;
        t->token->holders++;
    }
    pthread_mutex_unlock(&t->lock);
    return rc;
}

void dk_azure_token_put(struct dk_azure_tokens *t, struct dk_azure_token *token)
{
    pthread_mutex_lock(&t->lock);
    token->holders--;
    if (token != t->token && token->holders == 0) {
        token_free(t, token);
    }
    pthread_mutex_unlock(&t->lock);
}

bool dk_azure_token_refused(struct dk_azure_tokens *t, unsigned number)
{
    pthread_mutex_lock(&t->lock);
    bool newer = t->token != NULL && t->token->number != number;
    bool anew = !newer && now_ms(t) - t->asked_ms >= REFUSED_MS;
    if (anew && t->token != NULL) {
        t->token->good_ms = INT64_MIN / 2;
    }
    pthread_mutex_unlock(&t->lock);
    return newer || anew;
}
