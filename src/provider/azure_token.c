#include "provider/azure_token.h"

#include <stdio.h>

#include "provider/azure_fetch.h"
#include "provider/azure_jwt.h"

#define EARLY_MS (INT64_C(5) * 60 * 1000)
#define LONG_MS (INT64_C(7200) * 1000) /* from this life on half of it is the time */
#define AGAIN_MS 30000                 /* after a failure while the old one is good */

struct dk_azure_tokens {
    struct dk_azure_tokens_setup setup;
    struct dk_passes *passes;
};

/* ---- tokens ---------------------------------------------------------------------------------- */

static void token_free(void *self, struct dk_pass *pass)
{
    struct dk_azure_tokens *t = self;
    struct dk_azure_token *token = (struct dk_azure_token *)pass;
    const struct dk_mem *mem = &t->setup.world->mem;
    dk_wipe(token->bearer, strlen(token->bearer));
    dk_mem_free(mem, token->bearer);
    dk_mem_free(mem, token);
}

static dk_rc token_new(struct dk_azure_tokens *t, const struct dk_azure_grant *grant,
                       const struct dk_pass_ask *ask, struct dk_azure_token **out,
                       struct dk_err *err)
{
    const struct dk_mem *mem = &t->setup.world->mem;
    size_t n = strlen("Bearer ") + strlen(grant->token) + 1;
    struct dk_azure_token *token = dk_mem_zalloc(mem, sizeof *token);
    char *bearer = dk_mem_alloc(mem, n);
    if (token == NULL || bearer == NULL) {
        dk_mem_free(mem, token);
        dk_mem_free(mem, bearer);
        return DK_FAIL(err, NOMEM, "no memory for a token");
    }
    snprintf(bearer, n, "Bearer %s", grant->token);
    snprintf(token->resource, sizeof token->resource, "%s", ask->want);
    token->bearer = bearer;
    token->number = ask->number;
    *out = token;
    return DK_OK;
}

/* Counted from before it was asked for. One of a short life is not asked for all the time. */
static dk_rc set_times(const struct dk_azure_tokens *t, int64_t begun_ms, int64_t seconds,
                       struct dk_pass *pass, struct dk_err *err)
{
    int64_t life = seconds * 1000;
    int64_t early = life / 4 < EARLY_MS ? life / 4 : EARLY_MS;
    pass->renew_ms = begun_ms + (life >= LONG_MS ? life / 2 : life - early);
    pass->late_ms = pass->good_ms = begun_ms + life;
    return dk_boot_ms(t->setup.world) < pass->good_ms
               ? DK_OK
               : DK_FAIL(err, PROVIDER, "the token was over before it came");
}

static dk_rc fetch(void *self, const struct dk_pass_ask *ask, struct dk_pass **out,
                   struct dk_err *err)
{
    struct dk_azure_tokens *t = self;
    const struct dk_mem *mem = &t->setup.world->mem;
    struct dk_azure_token *token = NULL;
    int64_t begun_ms = dk_boot_ms(t->setup.world), seconds = 0;
    struct dk_azure_grant *grant = dk_mem_alloc(mem, sizeof *grant);
    if (grant == NULL) {
        return DK_FAIL(err, NOMEM, "no memory for a token");
    }
    dk_rc rc = dk_azure_fetch(&t->setup, ask->want, grant, err);
    if (rc == DK_OK) {
        seconds = grant->seconds;
        rc = token_new(t, grant, ask, &token, err);
    }
    dk_azure_grant_clear(grant);
    dk_mem_free(mem, grant);
    if (rc == DK_OK && (rc = set_times(t, begun_ms, seconds, &token->pass, err)) != DK_OK) {
        token_free(t, &token->pass);
    }
    if (rc != DK_OK) {
        return dk_err_while(err, "asking for an Azure token (%s)", t->setup.azure->told);
    }
    *out = &token->pass;
    return DK_OK;
}

static bool suits(const struct dk_pass *pass, const char *want)
{
    return strcmp(((const struct dk_azure_token *)pass)->resource, want) == 0;
}

static const struct dk_pass_ops ops = {
    .fetch = fetch, .free = token_free, .suits = suits, .again_ms = AGAIN_MS};

/* ---- open and close -------------------------------------------------------------------------- */

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
    dk_rc rc = dk_passes_open(setup->world, &ops, t, &t->passes, err);
    if (rc != DK_OK) {
        dk_azure_tokens_close(t);
        return rc;
    }
    *out = t;
    return DK_OK;
}

void dk_azure_tokens_close(struct dk_azure_tokens *t)
{
    if (t != NULL) {
        dk_passes_close(t->passes);
        dk_mem_free(&t->setup.world->mem, t);
    }
}

void dk_azure_tokens_after_fork(struct dk_azure_tokens *t)
{
    dk_passes_after_fork(t->passes, NULL);
}

/* ---- get and put ----------------------------------------------------------------------------- */

dk_rc dk_azure_token_get(struct dk_azure_tokens *t, const char *resource,
                         struct dk_azure_token **out, struct dk_err *err)
{
    struct dk_pass *pass = NULL;
    DK_TRY(dk_passes_get(t->passes, resource, &pass, err));
    *out = (struct dk_azure_token *)pass;
    return DK_OK;
}

dk_rc dk_azure_token_get_amid(struct dk_azure_tokens *t, const char *resource,
                              struct dk_azure_token **out, struct dk_err *err)
{
    struct dk_pass *pass = NULL;
    DK_TRY(dk_passes_get_amid(t->passes, resource, &pass, err));
    *out = (struct dk_azure_token *)pass;
    return DK_OK;
}

void dk_azure_token_put(struct dk_azure_tokens *t, struct dk_azure_token *token)
{
    dk_passes_put(t->passes, &token->pass);
}

bool dk_azure_token_refused(struct dk_azure_tokens *t, unsigned number)
{
    return dk_passes_refused(t->passes, number);
}
