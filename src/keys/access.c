#include "keys/access.h"

#include <stdio.h>

static const char *const action_words[DK_ACTION_COUNT] = {
    [DK_MAY_GENERATE] = "make a tenant's first key",
    [DK_MAY_ROTATE] = "rotate keys",
    [DK_MAY_VIEW_KEYS] = "see the keys",
    [DK_MAY_SEE_HEALTH] = "see the health",
    [DK_MAY_USE_KEYS] = "encrypt or decrypt",
    [DK_MAY_READ_AUDIT] = "read the log",
    [DK_MAY_ADMINISTER] = "do what only a super admin may",
};

/* A cell that is not written is DK_REACH_NONE. */
static const struct {
    const char *name;
    enum dk_reach reach[DK_ACTION_COUNT];
} roles[DK_ROLE_COUNT] = {
    [DK_ROLE_NONE] = {"nobody", {DK_REACH_NONE}},
    [DK_ROLE_SUPER_ADMIN] = {"super admin",
                             {
                                 [DK_MAY_GENERATE] = DK_REACH_ALL,
                                 [DK_MAY_ROTATE] = DK_REACH_ALL,
                                 [DK_MAY_VIEW_KEYS] = DK_REACH_ALL,
                                 [DK_MAY_SEE_HEALTH] = DK_REACH_ALL,
                                 [DK_MAY_READ_AUDIT] = DK_REACH_ALL,
                                 [DK_MAY_ADMINISTER] = DK_REACH_ALL,
                             }},
    [DK_ROLE_ORG_OWNER] = {"org owner", {[DK_MAY_VIEW_KEYS] = DK_REACH_OWN}},
    [DK_ROLE_AGENT] = {"agent", {DK_REACH_NONE}},
    [DK_ROLE_SERVICE] = {"service",
                         {
                             [DK_MAY_GENERATE] = DK_REACH_ALL,
                             [DK_MAY_ROTATE] = DK_REACH_ALL,
                             [DK_MAY_VIEW_KEYS] = DK_REACH_ALL,
                             [DK_MAY_SEE_HEALTH] = DK_REACH_ALL,
                             [DK_MAY_USE_KEYS] = DK_REACH_ALL,
                             [DK_MAY_READ_AUDIT] = DK_REACH_ALL,
                         }},
    [DK_ROLE_CRON] = {"cron job",
                      {
                          [DK_MAY_ROTATE] = DK_REACH_ALL,
                          [DK_MAY_VIEW_KEYS] = DK_REACH_ALL,
                          [DK_MAY_SEE_HEALTH] = DK_REACH_ALL,
                      }},
    [DK_ROLE_HEALTH] = {"health check", {[DK_MAY_SEE_HEALTH] = DK_REACH_ALL}},
};

static bool is_printable(const char *name)
{
    size_t n = strlen(name);
    for (size_t i = 0; i < n; i++) {
        if ((unsigned char)name[i] < ' ' || name[i] == 0x7f) {
            return false;
        }
    }
    return n > 0 && n <= DK_ACTOR_NAME_MAX;
}

dk_rc dk_actor_make(enum dk_role role, const struct dk_tenant *own, const char *name,
                    struct dk_actor *out, struct dk_err *err)
{
    if ((unsigned)role >= DK_ROLE_COUNT) {
        return DK_FAIL(err, USAGE, "there is no role %d", (int)role);
    }
    if (name == NULL || !is_printable(name)) {
        return DK_FAIL(err, USAGE,
                       "an actor has a name of 1 to %d bytes without control characters",
                       DK_ACTOR_NAME_MAX);
    }
    *out = (struct dk_actor){.role = roles[role].name};
    memcpy(out->reach, roles[role].reach, sizeof out->reach);
    snprintf(out->name, sizeof out->name, "%s", name);
    if (own != NULL) {
        out->own = *own;
    }
    return DK_OK;
}

void dk_actor_make_local(const char *name, struct dk_actor *out)
{
    *out = (struct dk_actor){.role = "local user"};
    snprintf(out->name, sizeof out->name, "%s", name);
    for (int action = 0; action < DK_ACTION_COUNT; action++) {
        enum dk_reach admin = roles[DK_ROLE_SUPER_ADMIN].reach[action];
        enum dk_reach service = roles[DK_ROLE_SERVICE].reach[action];
        out->reach[action] = admin > service ? admin : service;
    }
}

/* Tenants compare as they are stored: nothing but a UUID's case is alike. */
static bool is_own(const struct dk_actor *actor, struct dk_view tenant)
{
    struct dk_tenant parsed;
    struct dk_err ignored;
    dk_err_clear(&ignored);
    return tenant.p != NULL && actor->own.n > 0 &&
           dk_tenant_parse(tenant, &parsed, &ignored) == DK_OK &&
           dk_tenant_equal(&parsed, &actor->own);
}

dk_rc dk_access_check_own(const struct dk_actor *actor, enum dk_action action,
                          struct dk_view tenant, struct dk_err *err)
{
    enum dk_reach reach = actor->reach[action];
    if (reach == DK_REACH_OWN && is_own(actor, tenant)) {
        return DK_OK;
    }
    return DK_FAIL(err, DENIED, "the role `%s` may not %s%s", actor->role, action_words[action],
                   reach == DK_REACH_OWN ? " of another tenant" : "");
}
