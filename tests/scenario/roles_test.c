/* Every public call by every role, on its own tenant and on another: the door asks the table. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include <stdlib.h>

#include "support/world.h"

#define ASSERT_CODE(call, code) assert_string_equal(dekhand_error_name(call), #code)

#define OWN "own"
#define OTHER "other"

/* What a call needs, and the call. `tenant` NULL = of all. */
struct call {
    const char *name;
    char needs; /* a column of the table below */
    bool of_tenant;
    int (*run)(struct dekhand *d, const char *tenant);
};

/* A column for each action, a row for each role: as DESIGN has it. */
static const char columns[] = "grvhuad";
static const char *const table[] = {
    [DEKHAND_ROLE_NONE] = "-------",      [DEKHAND_ROLE_SUPER_ADMIN] = "aaaa-aa",
    [DEKHAND_ROLE_ORG_OWNER] = "--o----", [DEKHAND_ROLE_AGENT] = "-------",
    [DEKHAND_ROLE_SERVICE] = "aaaaaa-",   [DEKHAND_ROLE_CRON] = "-aaa---",
    [DEKHAND_ROLE_HEALTH] = "---a---",
};

static struct dk_test_value values[2]; /* of OWN and OTHER */

static const struct dk_test_value *value_of(const char *tenant)
{
    return &values[strcmp(tenant, OTHER) == 0];
}

static int encrypt(struct dekhand *d, const char *tenant)
{
    struct dk_test_value value;
    return dk_test_encrypt(d, tenant, "plain", &value);
}

static int first_encrypt(struct dekhand *d, const char *tenant)
{
    struct dk_test_value value;
    char fresh[64];
    snprintf(fresh, sizeof fresh, "%s-%p", tenant, (void *)d);
    return dk_test_encrypt(d, fresh, "plain", &value);
}

static int decrypt(struct dekhand *d, const char *tenant)
{
    return dk_test_decrypt(d, tenant, value_of(tenant), "plain");
}

static int batch(struct dekhand *d, const char *tenant,
                 int (*run)(struct dekhand *, struct dekhand_item *, size_t,
                            struct dekhand_error *))
{
    const struct dk_test_value *value = value_of(tenant);
    uint8_t out[DK_TEST_VALUE];
    struct dekhand_item item = {
        .tenant = tenant, .in = value->p, .in_size = value->n, .out = out, .capacity = sizeof out};
    int code = run(d, &item, 1, NULL);
    assert_int_equal(code, item.code);
    return code;
}

static int encrypt_batch(struct dekhand *d, const char *tenant)
{
    return batch(d, tenant, dekhand_encrypt_batch);
}

static int decrypt_batch(struct dekhand *d, const char *tenant)
{
    return batch(d, tenant, dekhand_decrypt_batch);
}

static int rotate_with(struct dekhand *d, const char *tenant, enum dekhand_rotate_which which,
                       bool dry_run, bool compromised)
{
    struct dekhand_rotate_args args = {.size = sizeof args,
                                       .which = which,
                                       .tenant = tenant,
                                       .dry_run = dry_run,
                                       .compromised = compromised};
    return dekhand_rotate(d, &args, NULL, NULL, NULL);
}

static int rotate(struct dekhand *d, const char *tenant)
{
    return rotate_with(d, tenant, DEKHAND_ROTATE_TENANT, false, false);
}

static int rotate_dry(struct dekhand *d, const char *tenant)
{
    return rotate_with(d, tenant, DEKHAND_ROTATE_TENANT, true, false);
}

static int rotate_all(struct dekhand *d, const char *tenant)
{
    return rotate_with(d, tenant, DEKHAND_ROTATE_ALL, true, false);
}

static int rotate_compromised(struct dekhand *d, const char *tenant)
{
    return rotate_with(d, tenant, DEKHAND_ROTATE_TENANT, false, true);
}

static bool each_key(void *arg, const struct dekhand_key *key)
{
    const char *tenant = arg;
    assert_true(tenant == NULL || strcmp(tenant, key->tenant) == 0);
    return true;
}

static int keys(struct dekhand *d, const char *tenant)
{
    return dekhand_keys(d, tenant, each_key, (void *)(uintptr_t)tenant, NULL);
}

static bool each_history(void *arg, const struct dekhand_history *entry)
{
    (void)arg;
    (void)entry;
    return true;
}

static int history(struct dekhand *d, const char *tenant)
{
    return dekhand_history(d, tenant, 10, each_history, NULL, NULL);
}

static bool each_entry(void *arg, const struct dekhand_audit_entry *entry)
{
    (void)arg;
    (void)entry;
    return true;
}

static int audit_list(struct dekhand *d, const char *tenant)
{
    struct dekhand_audit_query query = {.size = sizeof query, .tenant = tenant};
    return dekhand_audit_list(d, &query, each_entry, NULL, NULL);
}

static int audit_verify(struct dekhand *d, const char *tenant)
{
    struct dekhand_audit_result result = {.size = sizeof result};
    (void)tenant;
    int code = dekhand_audit_verify(d, NULL, NULL, &result, NULL);
    assert_true(code != DEKHAND_OK || result.findings == 0);
    return code;
}

static int stats(struct dekhand *d, const char *tenant)
{
    struct dekhand_stats out = {.size = sizeof out};
    (void)tenant;
    return dekhand_stats(d, &out, NULL);
}

static int health(struct dekhand *d, const char *tenant)
{
    struct dekhand_health out = {.size = sizeof out};
    (void)tenant;
    return dekhand_health(d, NULL, NULL, &out, NULL);
}

static int warnings(struct dekhand *d, const char *tenant)
{
    (void)tenant;
    return dekhand_warnings(d, NULL, NULL, NULL);
}

static int export(struct dekhand *d, const char *tenant)
{
    uint8_t key[DEKHAND_DATA_KEY];
    return dekhand_key_export(d, tenant, 1, true, key, NULL);
}

static int registry(struct dekhand *d, const char *tenant)
{
    struct dekhand_registry_info info = {.size = sizeof info};
    (void)tenant;
    return dekhand_registry(d, &info, NULL);
}

static char registry_id[37];

static int accept_restore(struct dekhand *d, const char *tenant)
{
    (void)tenant;
    return dekhand_registry_accept_restore(d, registry_id, NULL, NULL);
}

static int audit_prune(struct dekhand *d, const char *tenant)
{
    struct dekhand_prune out = {.size = sizeof out};
    (void)tenant;
    return dekhand_audit_prune(d, 1, false, &out, NULL);
}

static int registry_rekey(struct dekhand *d, const char *tenant)
{
    struct dekhand_rekey out = {.size = sizeof out};
    (void)tenant;
    return dekhand_registry_rekey(d, false, NULL, NULL, &out, NULL);
}

static int cache_clear(struct dekhand *d, const char *tenant)
{
    (void)tenant;
    return dekhand_cache_clear(d, NULL);
}

static int costs(struct dekhand *d, const char *tenant)
{
    struct dekhand_cost_report out = {.size = sizeof out};
    (void)tenant;
    return dekhand_costs(d, 30, NULL, NULL, &out, NULL);
}

static int key_stats(struct dekhand *d, const char *tenant)
{
    struct dekhand_key_stats out = {.size = sizeof out};
    return dekhand_key_stats(d, tenant, 1, &out, NULL);
}

static const struct call calls[] = {
    {"encrypt", 'u', true, encrypt},
    {"first_encrypt", 'u', true, first_encrypt},
    {"decrypt", 'u', true, decrypt},
    {"encrypt_batch", 'u', true, encrypt_batch},
    {"decrypt_batch", 'u', true, decrypt_batch},
    {"rotate", 'r', true, rotate},
    {"rotate_dry", 'r', true, rotate_dry},
    {"rotate_all", 'r', false, rotate_all},
    {"keys", 'v', true, keys},
    {"keys_of_all", 'v', false, keys},
    {"costs", 'v', false, costs},
    {"history", 'a', true, history},
    {"history_of_all", 'a', false, history},
    {"audit_list", 'a', true, audit_list},
    {"audit_list_of_all", 'a', false, audit_list},
    {"audit_verify", 'a', false, audit_verify},
    {"stats", 'h', false, stats},
    {"health", 'h', false, health},
    {"key_stats", 'h', true, key_stats},
    {"warnings", 'r', false, warnings},
    {"export", 'd', true, export},
    {"rotate_compromised", 'd', true, rotate_compromised},
    {"registry", 'd', false, registry},
    {"audit_prune", 'd', false, audit_prune},
    {"accept_restore", 'd', false, accept_restore},
    {"registry_rekey", 'd', false, registry_rekey},
    {"cache_clear", 'd', false, cache_clear},
};

static struct dekhand *as(struct dekhand *d, enum dekhand_role role)
{
    struct dekhand *out = NULL;
    struct dekhand_actor actor = {.size = sizeof actor,
                                  .role = role,
                                  .tenant = role == DEKHAND_ROLE_ORG_OWNER ? OWN : NULL,
                                  .name = "test:actor"};
    ASSERT_CODE(dekhand_act_as(d, &actor, &out, NULL), OK);
    return out;
}

static char reach_of(enum dekhand_role role, char action)
{
    return table[role][strchr(columns, action) - columns];
}

static bool allowed(enum dekhand_role role, const struct call *call, const char *tenant)
{
    char reach = reach_of(role, call->needs);
    return reach == 'a' || (reach == 'o' && tenant != NULL && strcmp(tenant, OWN) == 0);
}

static void assert_as_the_table(struct dk_place *place, struct dekhand *d, enum dekhand_role role,
                                const struct call *call, const char *tenant)
{
    bool may = allowed(role, call, tenant);
    char *before = may ? NULL : dk_place_dump(place, true);
    int code = call->run(d, tenant);
    if (code != (may ? DEKHAND_OK : DEKHAND_E_DENIED)) {
        fail_msg("role %d, %s of %s: %s", (int)role, call->name, tenant != NULL ? tenant : "all",
                 dekhand_error_name(code));
    }
    assert_true(may || dk_place_unchanged(place, true, before)); /* denied: nothing was done */
}

static void role_by_role(struct dk_place *place, struct dekhand *d, enum dekhand_role role)
{
    struct dekhand *actor = as(d, role);
    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++) {
        assert_as_the_table(place, actor, role, &calls[i], calls[i].of_tenant ? OWN : NULL);
        if (calls[i].of_tenant) {
            assert_as_the_table(place, actor, role, &calls[i], OTHER);
        }
    }
    dk_place_close(actor);
}

static void I31_every_call_by_every_role_is_as_in_the_table(void **state)
{
    (void)state;
    struct dk_place place;
    dk_place_new(&place, false);
    struct dekhand *d = dk_place_open(&place);
    struct dekhand_registry_info info = {.size = sizeof info};
    ASSERT_CODE(dekhand_registry(d, &info, NULL), OK);
    memcpy(registry_id, info.id, sizeof registry_id);
    ASSERT_CODE(dk_test_encrypt(d, OWN, "plain", &values[0]), OK);
    ASSERT_CODE(dk_test_encrypt(d, OTHER, "plain", &values[1]), OK);
    for (int role = DEKHAND_ROLE_NONE; role <= DEKHAND_ROLE_HEALTH; role++) {
        role_by_role(&place, d, (enum dekhand_role)role);
    }
    dk_place_close(d);
    dk_place_free(&place);
}

static int64_t cached_keys(struct dekhand *d)
{
    struct dekhand_stats out = {.size = sizeof out};
    ASSERT_CODE(dekhand_stats(d, &out, NULL), OK);
    return out.cached_keys;
}

/* The rows are looked at above; keys in memory are no row. */
static void I31_a_cache_clear_that_is_denied_forgets_no_key(void **state)
{
    (void)state;
    struct dk_place place;
    dk_place_new(&place, false);
    struct dekhand *d = dk_place_open(&place);
    ASSERT_CODE(dk_test_encrypt(d, OWN, "plain", &values[0]), OK);
    for (int role = DEKHAND_ROLE_NONE; role <= DEKHAND_ROLE_HEALTH; role++) {
        struct dekhand *actor = as(d, (enum dekhand_role)role);
        bool may = role == DEKHAND_ROLE_SUPER_ADMIN;
        int64_t before = cached_keys(d);
        assert_true(before > 0);
        assert_int_equal(cache_clear(actor, NULL), may ? DEKHAND_OK : DEKHAND_E_DENIED);
        assert_int_equal(cached_keys(d), may ? 0 : before);
        ASSERT_CODE(decrypt(d, OWN), OK);
        dk_place_close(actor);
    }
    dk_place_close(d);
    dk_place_free(&place);
}

static void I31_who_acts_is_written_down(void **state)
{
    (void)state;
    struct dk_place place;
    dk_place_new(&place, false);
    struct dekhand *d = dk_place_open(&place);
    struct dekhand *admin = as(d, DEKHAND_ROLE_SUPER_ADMIN);
    ASSERT_CODE(dk_test_encrypt(d, OWN, "plain", &values[0]), OK);
    ASSERT_CODE(rotate(admin, OWN), OK);
    ASSERT_CODE(rotate_compromised(admin, OWN), OK);
    ASSERT_CODE(export(admin, OWN), OK);
    struct dekhand_registry_info info = {.size = sizeof info};
    ASSERT_CODE(dekhand_registry(admin, &info, NULL), OK);
    ASSERT_CODE(dekhand_registry_accept_restore(admin, info.id, NULL, NULL), OK);
    ASSERT_CODE(registry_rekey(admin, NULL), OK);
    ASSERT_CODE(cache_clear(admin, NULL), OK);
    assert_int_equal(dk_place_number(&place, "SELECT count(*) FROM key_rotation_log "
                                             "WHERE performed_by = 'test:actor'"),
                     7); /* a rekey begins and ends */
    assert_int_equal(dk_place_number(&place, "SELECT count(*) FROM key_rotation_log WHERE "
                                             "operation = 'create' AND performed_by = "
                                             "'test:actor'"),
                     0);
    dk_place_close(admin);
    assert_int_equal(audit_verify(d, NULL), DEKHAND_OK);
    dk_place_close(d);
    dk_place_free(&place);
}

static void I31_an_actor_cannot_become_another(void **state)
{
    (void)state;
    struct dk_place place;
    dk_place_new(&place, false);
    struct dekhand *d = dk_place_open(&place);
    struct dekhand *out = NULL;
    struct dekhand *admin = as(d, DEKHAND_ROLE_SUPER_ADMIN);
    struct dekhand_actor actor = {
        .size = sizeof actor, .role = DEKHAND_ROLE_SERVICE, .name = "test:more"};
    ASSERT_CODE(dekhand_act_as(admin, &actor, &out, NULL), E_DENIED);
    dk_place_close(admin);
    actor.name = "line\nfeed";
    ASSERT_CODE(dekhand_act_as(d, &actor, &out, NULL), E_USAGE);
    actor.name = NULL;
    ASSERT_CODE(dekhand_act_as(d, &actor, &out, NULL), E_USAGE);
    actor.name = "x";
    actor.tenant = OWN; /* of an owner alone */
    ASSERT_CODE(dekhand_act_as(d, &actor, &out, NULL), E_USAGE);
    actor =
        (struct dekhand_actor){.size = sizeof actor, .role = DEKHAND_ROLE_ORG_OWNER, .name = "x"};
    ASSERT_CODE(dekhand_act_as(d, &actor, &out, NULL), E_USAGE); /* of whom? */
    actor.tenant = "no tenant";
    assert_true(dekhand_act_as(d, &actor, &out, NULL) != DEKHAND_OK);
    actor = (struct dekhand_actor){.size = 1, .role = DEKHAND_ROLE_CRON, .name = "x"};
    ASSERT_CODE(dekhand_act_as(d, &actor, &out, NULL), E_USAGE);
    ASSERT_CODE(dekhand_act_as(d, NULL, &out, NULL), E_USAGE);
    actor.size = sizeof actor;
    ASSERT_CODE(dekhand_act_as(d, &actor, NULL, NULL), E_USAGE);
    ASSERT_CODE(dekhand_act_as(NULL, &actor, &out, NULL), E_USAGE);
    assert_null(out);
    dk_place_close(d);
    dk_place_free(&place);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(I31_every_call_by_every_role_is_as_in_the_table),
        cmocka_unit_test(I31_a_cache_clear_that_is_denied_forgets_no_key),
        cmocka_unit_test(I31_who_acts_is_written_down),
        cmocka_unit_test(I31_an_actor_cannot_become_another),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
