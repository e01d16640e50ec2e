#include "provider/aws_credentials.h"

#include "provider/aws_fetch.h"

#define MINUTE_MS (INT64_C(60) * 1000)
#define EARLY_MS (15 * MINUTE_MS) /* before their end: one thread asks */
#define LATE_MS (10 * MINUTE_MS)  /* all wait */
/* An instance has new ones five minutes before the end. Where it has none it has trouble of its
   own, and where anybody hands out what is over, it may be our clock. It is used until the service
   refuses it, and asked for again in 20 minutes: share() of these. */
#define INSTANCE_MS (5 * MINUTE_MS)
#define TROUBLE_MS (20 * MINUTE_MS / 3 * 4)

struct dk_aws_credentials {
    struct dk_aws_credentials_setup setup;
    struct dk_passes *passes;
};

/* ---- keys ------------------------------------------------------------------------------------ */

static void keys_free(void *self, struct dk_pass *pass)
{
    struct dk_aws_credentials *c = self;
    struct dk_aws_keys *keys = (struct dk_aws_keys *)pass;
    const struct dk_mem *mem = &c->setup.world->mem;
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
        keys_free(c, &keys->pass);
        return rc;
    }
    *out = keys;
    return DK_OK;
}

static int64_t share(int64_t most, int64_t left, int64_t part)
{
    int64_t some = left > 0 ? left / part : 0;
    return some < most ? some : most;
}

/* Counted from before they were asked for. What is short-lived is not asked for all the time. */
static void set_times(const struct dk_aws_credentials *c, int64_t begun_ms, int64_t left_us,
                      struct dk_pass *pass)
{
    const struct dk_aws_plan *plan = &c->setup.aws->plan;
    bool instance = plan->source == DK_AWS_INSTANCE && plan->role_count == 0;
    int64_t left = left_us / 1000;
    if (left_us == INT64_MAX) {
        pass->renew_ms = pass->late_ms = pass->good_ms = INT64_MAX;
        return;
    }
    if (left <= 0 || (instance && left < INSTANCE_MS)) {
        left = TROUBLE_MS;
    }
    pass->good_ms = begun_ms + left;
    left = pass->good_ms - dk_boot_ms(c->setup.world);
    pass->renew_ms = pass->good_ms - share(EARLY_MS, left, 4);
    pass->late_ms = pass->good_ms - share(LATE_MS, left, 6);
}

static dk_rc fetch(void *self, const struct dk_pass_ask *ask, struct dk_pass **out,
                   struct dk_err *err)
{
    struct dk_aws_credentials *c = self;
    const struct dk_mem *mem = &c->setup.world->mem;
    struct dk_aws_grant *grant = dk_mem_alloc(mem, sizeof *grant);
    struct dk_aws_keys *keys = NULL;
    int64_t left_us = 0, begun_ms = dk_boot_ms(c->setup.world);
    if (grant == NULL) {
        return DK_FAIL(err, NOMEM, "no memory for credentials");
    }
    dk_rc rc = dk_aws_fetch(&c->setup, grant, &left_us, err);
    rc = rc == DK_OK ? keys_new(c, grant, &keys, err) : rc;
    dk_aws_grant_clear(grant);
    dk_mem_free(mem, grant);
    if (rc != DK_OK) {
        return dk_err_while(err, "asking for AWS credentials (%s)", c->setup.aws->plan.told);
    }
    keys->number = ask->number;
    set_times(c, begun_ms, left_us, &keys->pass);
    *out = &keys->pass;
    return DK_OK;
}

/* Its cell is another's by now. */
static void disown(struct dk_pass *pass)
{
    ((struct dk_aws_keys *)pass)->secret = (struct dk_secret){0};
}

static const struct dk_pass_ops ops = {.fetch = fetch, .free = keys_free, .again_ms = MINUTE_MS};

/* ---- open and close -------------------------------------------------------------------------- */

dk_rc dk_aws_credentials_open(const struct dk_aws_credentials_setup *setup,
                              struct dk_aws_credentials **out, struct dk_err *err)
{
    struct dk_aws_credentials *c = dk_mem_zalloc(&setup->world->mem, sizeof *c);
    if (c == NULL) {
        return DK_FAIL(err, NOMEM, "no memory for credentials");
    }
    c->setup = *setup;
    dk_rc rc = dk_passes_open(setup->world, &ops, c, &c->passes, err);
    if (rc != DK_OK) {
        dk_aws_credentials_close(c);
        return rc;
    }
    *out = c;
    return DK_OK;
}

void dk_aws_credentials_close(struct dk_aws_credentials *c)
{
    if (c != NULL) {
        dk_passes_close(c->passes);
        dk_mem_free(&c->setup.world->mem, c);
    }
}

void dk_aws_credentials_after_fork(struct dk_aws_credentials *c)
{
    dk_passes_after_fork(c->passes, disown);
}

/* ---- get and put ----------------------------------------------------------------------------- */

dk_rc dk_aws_credentials_get(struct dk_aws_credentials *c, struct dk_aws_keys **out,
                             struct dk_err *err)
{
    struct dk_pass *pass = NULL;
    DK_TRY(dk_passes_get(c->passes, NULL, &pass, err));
    *out = (struct dk_aws_keys *)pass;
    return DK_OK;
}

dk_rc dk_aws_credentials_get_amid(struct dk_aws_credentials *c, struct dk_aws_keys **out,
                                  struct dk_err *err)
{
    struct dk_pass *pass = NULL;
    DK_TRY(dk_passes_get_amid(c->passes, NULL, &pass, err));
    *out = (struct dk_aws_keys *)pass;
    return DK_OK;
}

void dk_aws_credentials_put(struct dk_aws_credentials *c, struct dk_aws_keys *keys)
{
    dk_passes_put(c->passes, &keys->pass);
}

bool dk_aws_credentials_refused(struct dk_aws_credentials *c, unsigned number)
{
    const struct dk_aws_plan *plan = &c->setup.aws->plan;
    bool can_change = plan->source != DK_AWS_STATIC || plan->role_count > 0;
    return can_change && dk_passes_refused(c->passes, number);
}
