/* A registry whose master key is in AWS KMS, then the same in Azure Key Vault: days, new processes,
   and starts while the service does not answer. Against the fake, which enforces contexts. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include "support/cloud.h"
#include "support/world.h"

#define ASSERT_CODE(call, code) assert_string_equal(dekhand_error_name(call), #code)

struct cloud {
    const char *service; /* as the fake calls it */
    const struct dekhand_setting *settings;
    size_t count;
};

enum { CLOUDS = 2, MOST = 8 };

static void fill(struct cloud clouds[static CLOUDS], struct dekhand_setting list[CLOUDS][MOST])
{
    const struct dekhand_setting aws[] = {{"AWS_KMS_KEY_ID", dk_cloud("AWS_KEY_ARN")},
                                          {"AWS_ENDPOINT_URL", dk_cloud("FAKE_TLS")},
                                          {"AWS_ACCESS_KEY_ID", dk_cloud("AWS_ID")},
                                          {"AWS_SECRET_ACCESS_KEY", dk_cloud("AWS_SECRET")},
                                          {"AWS_CONFIG_FILE", "/dev/null"},
                                          {"AWS_SHARED_CREDENTIALS_FILE", "/dev/null"},
                                          {"KMS_CA_FILE", dk_cloud("FAKE_CA")}};
    const struct dekhand_setting azure[] = {{"AZURE_KEY_VAULT_URL", dk_cloud("AZURE_VAULT")},
                                            {"AZURE_KEY_NAME", "kek"},
                                            {"AZURE_TENANT_ID", dk_cloud("AZURE_TENANT")},
                                            {"AZURE_CLIENT_ID", dk_cloud("AZURE_CLIENT")},
                                            {"AZURE_CLIENT_SECRET", dk_cloud("AZURE_SECRET")},
                                            {"AZURE_AUTHORITY_HOST", dk_cloud("FAKE_TLS")},
                                            {"KMS_CA_FILE", dk_cloud("FAKE_CA")}};
    memcpy(list[0], aws, sizeof aws);
    memcpy(list[1], azure, sizeof azure);
    clouds[0] = (struct cloud){"kms", list[0], sizeof aws / sizeof aws[0]};
    clouds[1] = (struct cloud){"vault", list[1], sizeof azure / sizeof azure[0]};
}

static void on_each(void (*test)(struct dk_place *place, const struct cloud *cloud))
{
    struct cloud clouds[CLOUDS];
    struct dekhand_setting list[CLOUDS][MOST];
    fill(clouds, list);
    for (size_t i = 0; i < CLOUDS; i++) {
        struct dk_place place;
        struct dekhand_error error;
        dk_cloud_reset();
        dk_place_bare_on(&place, DK_SQLITE, false);
        place.provided = clouds[i].settings;
        place.provided_count = clouds[i].count;
        assert_int_equal(dk_place_init(&place, &error), DEKHAND_OK);
        test(&place, &clouds[i]);
        dk_place_free(&place);
    }
}

/* The next calls of the service find nobody. */
static void down(const struct cloud *cloud)
{
    dk_cloud_script(cloud->service, NULL, "{\"fault\":\"reset\"}", -1);
}

static void up(void)
{
    (void)dk_cloud_control("unscript", "{}");
}

static int rotate(struct dekhand *d, bool compromised)
{
    struct dekhand_rotate_args args = {.size = sizeof args,
                                       .which = DEKHAND_ROTATE_TENANT,
                                       .tenant = "acme",
                                       .compromised = compromised};
    return dekhand_rotate(d, &args, NULL, NULL, NULL);
}

/* ---- days ------------------------------------------------------------------------------------ */

static void open_a_day_later(struct dk_place *place, const struct cloud *cloud)
{
    enum { DAYS = 3 };
    struct dk_test_value values[DAYS];
    char plain[32];
    (void)cloud;
    for (int day = 0; day < DAYS; day++) {
        struct dekhand *d = dk_place_open(place);
        snprintf(plain, sizeof plain, "of day %d", day);
        ASSERT_CODE(dk_test_encrypt(d, "acme", plain, &values[day]), OK);
        ASSERT_CODE(rotate(d, false), OK);
        dk_place_close(d);
        place->w.wall_us += DK_DAY_US;
        place->w.mono_ms += DK_DAY_US / 1000;
        d = dk_place_open(place); /* knows what is stored, and nothing else */
        for (int old = 0; old <= day; old++) {
            snprintf(plain, sizeof plain, "of day %d", old);
            ASSERT_CODE(dk_test_decrypt(d, "acme", &values[old], plain), OK);
            ASSERT_CODE(dk_test_decrypt(d, "globex", &values[old], plain), E_UNKNOWN_VERSION);
        }
        dk_place_close(d);
    }
}

static void R5_R11_a_new_process_opens_all_a_day_later(void **state)
{
    (void)state;
    on_each(open_a_day_later);
}

/* ---- while nobody answers -------------------------------------------------------------------- */

static void start_while_down(struct dk_place *place, const struct cloud *cloud)
{
    struct dk_test_value value;
    struct dekhand_error error;
    struct dekhand *d = dk_place_open(place), *none = NULL;
    ASSERT_CODE(dk_test_encrypt(d, "acme", "x", &value), OK);
    down(cloud);
    ASSERT_CODE(dk_place_try_open(place, &none, &error), E_UNREACHABLE);
    assert_true(error.retryable);
    ASSERT_CODE(dk_test_decrypt(d, "acme", &value, "x"), OK); /* who was there goes on */
    up();
    place->w.mono_ms += 60000;                    /* the breaker of this instance lets one try */
    struct dekhand *later = dk_place_open(place); /* nothing has to be mended */
    ASSERT_CODE(dk_test_decrypt(later, "acme", &value, "x"), OK);
    ASSERT_CODE(dk_test_encrypt(later, "globex", "y", &value), OK);
    dk_place_close(later);
    dk_place_close(d);
}

static void F33_a_start_while_the_provider_is_down_is_told_and_comes_later(void **state)
{
    (void)state;
    on_each(start_while_down);
}

/* ---- compromised ----------------------------------------------------------------------------- */

static void compromise_while_down(struct dk_place *place, const struct cloud *cloud)
{
    struct dk_test_value value, none;
    struct dekhand *d = dk_place_open(place), *other = dk_place_open(place);
    ASSERT_CODE(dk_test_encrypt(d, "acme", "old", &value), OK);
    ASSERT_CODE(dk_test_encrypt(other, "acme", "x", &none), OK);
    down(cloud);
    ASSERT_CODE(rotate(d, true), E_COMPROMISED);
    ASSERT_CODE(dk_test_encrypt(d, "acme", "new", &none), E_COMPROMISED);
    place->w.mono_ms += place->limits.poll_ms; /* the other looks, and knows */
    ASSERT_CODE(dk_test_encrypt(other, "acme", "new", &none), E_COMPROMISED);
    up();
    place->w.mono_ms += 60000;
    ASSERT_CODE(rotate(d, false), OK);
    ASSERT_CODE(dk_test_encrypt(d, "acme", "new", &none), OK);
    ASSERT_CODE(dk_test_decrypt(d, "acme", &value, "old"), OK);
    ASSERT_CODE(dk_test_decrypt(other, "acme", &value, "old"), OK);
    dk_place_close(other);
    dk_place_close(d);
}

static void F49_a_compromise_while_the_provider_is_down_counts_at_once(void **state)
{
    (void)state;
    on_each(compromise_while_down);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(R5_R11_a_new_process_opens_all_a_day_later),
        cmocka_unit_test(F33_a_start_while_the_provider_is_down_is_told_and_comes_later),
        cmocka_unit_test(F49_a_compromise_while_the_provider_is_down_counts_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
