#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "keys/access.h"
#include "support/expect.h"

static struct dk_err err;

/* DESIGN's table, written down a second time: a = of all tenants, o = of the own one. */
static const struct {
    const char *role;
    const char *cells; /* generate, rotate, view, health, use, audit, administer */
} wanted[DK_ROLE_COUNT] = {
    [DK_ROLE_NONE] = {"none", "-------"},
    [DK_ROLE_SUPER_ADMIN] = {"super_admin", "aaaa-aa"},
    [DK_ROLE_ORG_OWNER] = {"org_owner", "--o----"},
    [DK_ROLE_AGENT] = {"agent", "-------"},
    [DK_ROLE_SERVICE] = {"service", "aaaaaa-"},
    [DK_ROLE_CRON] = {"cron", "-aaa---"},
    [DK_ROLE_HEALTH] = {"health", "---a---"},
};
static const char *const actions[DK_ACTION_COUNT] = {"generate", "rotate", "view",      "health",
                                                     "use",      "audit",  "administer"};
static const char *const whose[] = {"own", "other", "all"};

struct cell {
    int role, action, whose;
    char name[80];
};

static struct dk_view tenant_of(int whose_it_is)
{
    static const char *const names[] = {"2F0E8D9C-0000-4000-8000-00000000000A", "acme"};
    return whose_it_is == 2 ? dk_view_of(NULL, 0) : dk_view_str(names[whose_it_is]);
}

static struct dk_actor actor_of(enum dk_role role)
{
    struct dk_tenant own;
    struct dk_actor actor;
    DK_TEST_OK(err,
               dk_tenant_parse(dk_view_str("2f0e8d9c-0000-4000-8000-00000000000a"), &own, &err));
    DK_TEST_OK(err, dk_actor_make(role, &own, "test", &actor, &err));
    return actor;
}

static void cell_is_as_in_the_table(void **state)
{
    const struct cell *cell = *state;
    char reach = wanted[cell->role].cells[cell->action];
    bool allowed = reach == 'a' || (reach == 'o' && cell->whose == 0);
    struct dk_actor actor = actor_of((enum dk_role)cell->role);
    dk_err_clear(&err);
    dk_rc rc = dk_access_check(&actor, (enum dk_action)cell->action, tenant_of(cell->whose), &err);
    assert_int_equal(rc, allowed ? DK_OK : DK_E_DENIED);
    if (!allowed) {
        DK_TEST_SAYS(err, actor.role);
    }
}

static void I31_an_owner_is_the_owner_of_exactly_one_tenant(void **state)
{
    (void)state;
    static const char *const not_own[] = {"2f0e8d9c-0000-4000-8000-00000000000b",
                                          "2f0e8d9c-0000-4000-8000-00000000000a ",
                                          "2f0e8d9c-0000-4000-8000-00000000000",
                                          "",
                                          "\xff",
                                          "*"};
    struct dk_actor owner = actor_of(DK_ROLE_ORG_OWNER);
    for (size_t i = 0; i < sizeof not_own / sizeof not_own[0]; i++) {
        DK_TEST_FAILS(err, DENIED,
                      dk_access_check(&owner, DK_MAY_VIEW_KEYS, dk_view_str(not_own[i]), &err));
    }
    struct dk_actor nobodys;
    DK_TEST_OK(err, dk_actor_make(DK_ROLE_ORG_OWNER, NULL, "test", &nobodys, &err));
    DK_TEST_FAILS(err, DENIED, dk_access_check(&nobodys, DK_MAY_VIEW_KEYS, dk_view_str(""), &err));
    DK_TEST_FAILS(err, DENIED, dk_access_check(&nobodys, DK_MAY_VIEW_KEYS, tenant_of(2), &err));
}

static void I31_names_of_tenants_differ_by_case(void **state)
{
    (void)state;
    struct dk_tenant own;
    struct dk_actor owner;
    DK_TEST_OK(err, dk_tenant_parse(dk_view_str("Acme"), &own, &err));
    DK_TEST_OK(err, dk_actor_make(DK_ROLE_ORG_OWNER, &own, "test", &owner, &err));
    DK_TEST_OK(err, dk_access_check(&owner, DK_MAY_VIEW_KEYS, dk_view_str("Acme"), &err));
    DK_TEST_FAILS(err, DENIED,
                  dk_access_check(&owner, DK_MAY_VIEW_KEYS, dk_view_str("acme"), &err));
}

static void I31_the_local_user_is_service_and_super_admin(void **state)
{
    (void)state;
    struct dk_actor local;
    dk_actor_make_local("lib:somebody", &local);
    for (int action = 0; action < DK_ACTION_COUNT; action++) {
        DK_TEST_OK(err, dk_access_check(&local, (enum dk_action)action, tenant_of(2), &err));
    }
    assert_string_equal(local.name, "lib:somebody");
}

static void I31_a_role_or_a_name_that_is_none_is_refused(void **state)
{
    (void)state;
    static char longest[DK_ACTOR_NAME_MAX + 2];
    struct dk_actor actor;
    memset(longest, 'n', DK_ACTOR_NAME_MAX + 1);
    DK_TEST_FAILS(err, USAGE, dk_actor_make(DK_ROLE_COUNT, NULL, "x", &actor, &err));
    DK_TEST_FAILS(err, USAGE, dk_actor_make((enum dk_role) - 1, NULL, "x", &actor, &err));
    DK_TEST_FAILS(err, USAGE, dk_actor_make(DK_ROLE_CRON, NULL, NULL, &actor, &err));
    DK_TEST_FAILS(err, USAGE, dk_actor_make(DK_ROLE_CRON, NULL, "", &actor, &err));
    DK_TEST_FAILS(err, USAGE, dk_actor_make(DK_ROLE_CRON, NULL, "a\nb", &actor, &err));
    DK_TEST_FAILS(err, USAGE, dk_actor_make(DK_ROLE_CRON, NULL, "a\x7f", &actor, &err));
    DK_TEST_FAILS(err, USAGE, dk_actor_make(DK_ROLE_CRON, NULL, longest, &actor, &err));
    longest[DK_ACTOR_NAME_MAX] = '\0';
    DK_TEST_OK(err, dk_actor_make(DK_ROLE_CRON, NULL, longest, &actor, &err));
}

#define CELLS (DK_ROLE_COUNT * DK_ACTION_COUNT * 3)

int main(void)
{
    static struct cell cells[CELLS];
    static struct CMUnitTest tests[CELLS + 4] = {
        cmocka_unit_test(I31_an_owner_is_the_owner_of_exactly_one_tenant),
        cmocka_unit_test(I31_names_of_tenants_differ_by_case),
        cmocka_unit_test(I31_the_local_user_is_service_and_super_admin),
        cmocka_unit_test(I31_a_role_or_a_name_that_is_none_is_refused),
    };
    for (int i = 0; i < CELLS; i++) {
        struct cell *cell = &cells[i];
        *cell = (struct cell){i / (DK_ACTION_COUNT * 3), i / 3 % DK_ACTION_COUNT, i % 3, ""};
        snprintf(cell->name, sizeof cell->name, "I31_%s_%s_%s", wanted[cell->role].role,
                 actions[cell->action], whose[cell->whose]);
        tests[4 + i] = (struct CMUnitTest){cell->name, cell_is_as_in_the_table, NULL, NULL, cell};
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
