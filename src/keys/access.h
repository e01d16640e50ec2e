/*
 * access: who may do what, as one table (DESIGN "Who may do what", I31).
 *
 * Called by the door alone, once for every public call. What the table does not allow is denied. A
 * dk_actor is immutable once made, and may be shared by threads.
 */
#ifndef DK_KEYS_ACCESS_H
#define DK_KEYS_ACCESS_H

#include "base/tenant.h"

enum dk_role {
    DK_ROLE_NONE, /* nobody: may do nothing */
    DK_ROLE_SUPER_ADMIN,
    DK_ROLE_ORG_OWNER,
    DK_ROLE_AGENT,
    DK_ROLE_SERVICE,
    DK_ROLE_CRON,
    DK_ROLE_HEALTH,
    DK_ROLE_COUNT
};

enum dk_action {
    DK_MAY_GENERATE, /* a first key for a new tenant */
    DK_MAY_ROTATE,
    DK_MAY_VIEW_KEYS, /* metadata only */
    DK_MAY_SEE_HEALTH,
    DK_MAY_USE_KEYS, /* encrypt and decrypt */
    DK_MAY_READ_AUDIT,
    DK_MAY_ADMINISTER, /* export, compromised, disable, policy, registry, doctor, cache */
    DK_ACTION_COUNT
};

enum dk_reach { DK_REACH_NONE, DK_REACH_OWN, DK_REACH_ALL };

#define DK_ACTOR_NAME_MAX 127

struct dk_actor {
    enum dk_reach reach[DK_ACTION_COUNT];
    struct dk_tenant own;             /* n = 0: none */
    const char *role;                 /* as errors name it */
    char name[DK_ACTOR_NAME_MAX + 1]; /* for performed_by */
};

/*
 * `own`: whose owner an org owner is (NULL = nobody's; other roles have none). `name`: 1 to 127
 * bytes without control characters. E_USAGE.
 */
DK_MUST_USE dk_rc dk_actor_make(enum dk_role role, const struct dk_tenant *own, const char *name,
                                struct dk_actor *out, struct dk_err *err);
/* Who runs the program or links the library: service and super admin in one. */
void dk_actor_make_local(const char *name, struct dk_actor *out);

/* The rest of dk_access_check: what is not allowed for all tenants. */
DK_MUST_USE dk_rc dk_access_check_own(const struct dk_actor *actor, enum dk_action action,
                                      struct dk_view tenant, struct dk_err *err);

/*
 * E_DENIED: not in the table. `tenant` as the caller gave it; p = NULL: all tenants. Asked for
 * every value: one comparison where the table says `all`.
 */
DK_MUST_USE static inline dk_rc dk_access_check(const struct dk_actor *actor, enum dk_action action,
                                                struct dk_view tenant, struct dk_err *err)
{
    return actor->reach[action] == DK_REACH_ALL ? DK_OK
                                                : dk_access_check_own(actor, action, tenant, err);
}

#endif
