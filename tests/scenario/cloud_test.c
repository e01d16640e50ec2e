/* A registry whose master key is in AWS KMS: what the service is asked, and what is served when it
   does not answer, throttles, or takes the key away. Against the fake, which counts. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include <stdlib.h>
#include <time.h>

#include "support/cloud.h"
#include "support/world.h"

#define ASSERT_CODE(call, code) assert_string_equal(dekhand_error_name(call), #code)

/* Sanitizers make each call several times as long. */
#ifdef DK_SANITIZED
enum { TENANTS = 100, CROWD = 64 };
#else
enum { TENANTS = 1000, CROWD = 500 };
#endif

static struct dekhand_setting settings[16];
static size_t setting_count;

static void set(const char *name, const char *value)
{
    settings[setting_count++] = (struct dekhand_setting){name, value};
}

static void kms_bare(struct dk_place *place)
{
    dk_cloud_reset();
    setting_count = 0;
    set("AWS_KMS_KEY_ID", dk_cloud("AWS_KEY_ARN"));
    set("AWS_ENDPOINT_URL", dk_cloud("FAKE_TLS"));
    set("AWS_ACCESS_KEY_ID", dk_cloud("AWS_ID"));
    set("AWS_SECRET_ACCESS_KEY", dk_cloud("AWS_SECRET"));
    set("AWS_CONFIG_FILE", "/dev/null");
    set("AWS_SHARED_CREDENTIALS_FILE", "/dev/null");
    set("KMS_CA_FILE", dk_cloud("FAKE_CA"));
    dk_place_bare_on(place, DK_SQLITE, false);
    place->provided = settings;
}

static void kms_new(struct dk_place *place)
{
    struct dekhand_error error;
    kms_bare(place);
    place->provided_count = setting_count;
    assert_int_equal(dk_place_init(place, &error), DEKHAND_OK);
}

static int asked(void)
{
    return dk_cloud_count("kms.Decrypt") + dk_cloud_count("kms.GenerateDataKey");
}

/* ---- few calls ------------------------------------------------------------------------------- */

struct crowd {
    struct dekhand *d;
    const struct dk_test_value *value;
    atomic_int failed;
};

static void decrypt_once(void *arg, size_t index)
{
    struct crowd *crowd = arg;
    (void)index;
    if (dk_test_decrypt(crowd->d, "acme", crowd->value, "x") != DEKHAND_OK) {
        atomic_fetch_add(&crowd->failed, 1);
    }
}

static void R12_F47_a_crowd_on_one_cold_key_makes_one_call(void **state)
{
    (void)state;
    struct dk_place place;
    struct dk_test_value value;
    kms_new(&place);
    struct dekhand *d = dk_place_open(&place);
    ASSERT_CODE(dk_test_encrypt(d, "acme", "x", &value), OK);
    dk_place_close(d);
    struct crowd crowd = {.d = dk_place_open(&place), .value = &value};
    int before = asked();
    dk_test_threads(CROWD, decrypt_once, &crowd);
    assert_int_equal(crowd.failed, 0);
    assert_int_equal(asked() - before, 1);
    dk_place_close(crowd.d);
    dk_place_free(&place);
}

struct all {
    char names[TENANTS][16];
    char plain[DK_TEST_VALUE];
    size_t plain_n;
    struct dk_test_value values[TENANTS];
    uint8_t opened[TENANTS][DK_TEST_VALUE];
    struct dekhand_item items[TENANTS];
};

static void fill_items(struct all *all, bool encrypt)
{
    all->plain_n = dk_test_plain("x", all->plain);
    for (size_t i = 0; i < TENANTS; i++) {
        snprintf(all->names[i], sizeof all->names[i], "t%05zu", i);
        struct dk_test_value *value = &all->values[i];
        all->items[i] = (struct dekhand_item){.tenant = all->names[i],
                                              .in = encrypt ? (const void *)all->plain : value->p,
                                              .in_size = encrypt ? all->plain_n : value->n,
                                              .out = encrypt ? value->p : all->opened[i],
                                              .capacity = DK_TEST_VALUE};
    }
}

static void encrypt_all(struct dekhand *d, struct all *all)
{
    struct dekhand_error error;
    fill_items(all, true);
    assert_int_equal(dekhand_encrypt_batch(d, all->items, TENANTS, &error), DEKHAND_OK);
    for (size_t i = 0; i < TENANTS; i++) {
        all->values[i].n = all->items[i].size;
    }
}

static void decrypt_all(struct dekhand *d, struct all *all)
{
    struct dekhand_error error;
    fill_items(all, false);
    assert_int_equal(dekhand_decrypt_batch(d, all->items, TENANTS, &error), DEKHAND_OK);
    for (size_t i = 0; i < TENANTS; i++) {
        assert_int_equal(all->items[i].size, all->plain_n);
    }
}

/* Each tenant twenty times in an hour: the guide's figure is nine calls of ten saved. */
static void R12_the_cache_saves_nine_of_ten_calls(void **state)
{
    (void)state;
    enum { ROUNDS = 20 };
    struct dk_place place;
    struct all *all = calloc(1, sizeof *all);
    kms_new(&place);
    place.limits.max_keys = 2 * TENANTS;
    struct dekhand *d = dk_place_open(&place);
    encrypt_all(d, all);
    dk_place_close(d);
    d = dk_place_open(&place);
    int before = asked();
    for (int round = 0; round < ROUNDS; round++) {
        decrypt_all(d, all);
        place.w.mono_ms += place.limits.ttl_ms * 7 / 10 / ROUNDS;
    }
    int made = asked() - before;
    print_message("%d tenants, %d uses: %d calls\n", TENANTS, TENANTS * ROUNDS, made);
    assert_int_equal(made, TENANTS);
    assert_true(made * 10 <= TENANTS * ROUNDS);
    dk_place_close(d);
    dk_place_free(&place);
    free(all);
}

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Keys that came together expire together: the rate holds, and nobody is refused. */
static void R12_keys_that_expire_together_stay_under_the_set_rate(void **state)
{
    (void)state;
    struct dk_place place;
    struct all *all = calloc(1, sizeof *all);
    kms_new(&place);
    place.limits.max_keys = 2 * TENANTS;
    struct dekhand *d = dk_place_open(&place);
    encrypt_all(d, all);
    dk_place_close(d);
    const int rate = TENANTS / 4;
    char text[16];
    snprintf(text, sizeof text, "%d", rate);
    set("KMS_MAX_CALLS_PER_SECOND", text);
    place.provided_count = setting_count;
    d = dk_place_open(&place);
    decrypt_all(d, all);
    place.w.mono_ms += place.limits.ttl_ms;
    int before = asked();
    int64_t begun = now_ms();
    decrypt_all(d, all);
    int64_t took = now_ms() - begun;
    int made = asked() - before;
    print_message("%d calls in %lld ms at %d a second\n", made, (long long)took, rate);
    assert_int_equal(made, TENANTS);
    assert_true(took * rate >= (int64_t)(TENANTS - rate) * 1000 * 9 / 10);
    dk_place_close(d);
    dk_place_free(&place);
    free(all);
}

/* ---- trouble --------------------------------------------------------------------------------- */

static void set_key_state(const char *state)
{
    char json[256];
    snprintf(json, sizeof json, "{\"id\":\"%s\",\"state\":\"%s\"}", dk_cloud("AWS_KEY_ARN"), state);
    (void)dk_cloud_control("key", json);
}

/* Disabled, twice and ten seconds apart: its keys go, and come again when it is enabled. */
static void F28_a_master_key_that_is_taken_away_takes_its_keys_along(void **state)
{
    (void)state;
    struct dk_place place;
    struct dk_test_value acme, globex;
    kms_new(&place);
    struct dekhand *d = dk_place_open(&place);
    ASSERT_CODE(dk_test_encrypt(d, "acme", "x", &acme), OK);
    ASSERT_CODE(dk_test_encrypt(d, "globex", "x", &globex), OK);
    ASSERT_CODE(dk_test_decrypt(d, "acme", &acme, "x"), OK);
    ASSERT_CODE(dk_test_decrypt(d, "globex", &globex, "x"), OK);
    set_key_state("Disabled");
    place.w.mono_ms += place.limits.ttl_ms;
    ASSERT_CODE(dk_test_decrypt(d, "acme", &acme, "x"), OK);
    place.w.mono_ms += 5000;
    ASSERT_CODE(dk_test_decrypt(d, "acme", &acme, "x"), OK);
    place.w.mono_ms += 5000;
    ASSERT_CODE(dk_test_decrypt(d, "acme", &acme, "x"), E_MASTER_KEY_DISABLED);
    ASSERT_CODE(dk_test_decrypt(d, "globex", &globex, "x"), E_MASTER_KEY_DISABLED);
    set_key_state("Enabled");
    ASSERT_CODE(dk_test_decrypt(d, "acme", &acme, "x"), OK);
    ASSERT_CODE(dk_test_decrypt(d, "globex", &globex, "x"), OK);
    dk_place_close(d);
    dk_place_free(&place);
}

/* The answers of the fake, and whether keys in memory serve on. */
static const struct {
    const char *answer;
    int code; /* of what is not in memory */
} outages[] = {
    {"{\"status\":400,\"json\":{\"__type\":\"AccessDeniedException\"}}", DEKHAND_E_PROVIDER_DENIED},
    {"{\"fault\":\"throttle\"}", DEKHAND_E_THROTTLED},
    {"{\"fault\":\"reset\"}", DEKHAND_E_UNREACHABLE},
    {"{\"fault\":\"html500\"}", DEKHAND_E_UNREACHABLE},
    {"{\"fault\":\"bad_json\"}", DEKHAND_E_PROVIDER},
    {"{\"fault\":\"wrong_key_id\"}", DEKHAND_E_PROVIDER},
    {"{\"fault\":\"short_key\"}", DEKHAND_E_PROVIDER},
    {"{\"fault\":\"zero_key\"}", DEKHAND_E_PROVIDER},
    {"{\"fault\":\"truncate\"}", DEKHAND_E_PROVIDER},
};
#define OUTAGES (sizeof outages / sizeof outages[0])

static void F26_F27_F29_R17_what_is_in_memory_serves_through_each_outage(void **state)
{
    (void)state;
    for (size_t i = 0; i < OUTAGES; i++) {
        struct dk_place place;
        struct dk_test_value acme, globex;
        kms_new(&place);
        struct dekhand *d = dk_place_open(&place);
        ASSERT_CODE(dk_test_encrypt(d, "globex", "x", &globex), OK);
        dk_place_close(d);
        d = dk_place_open(&place);
        ASSERT_CODE(dk_test_encrypt(d, "acme", "x", &acme), OK);
        ASSERT_CODE(dk_test_decrypt(d, "acme", &acme, "x"), OK);
        dk_cloud_script("kms", "Decrypt", outages[i].answer, -1);
        place.w.mono_ms += place.limits.ttl_ms;
        ASSERT_CODE(dk_test_decrypt(d, "acme", &acme, "x"), OK);
        assert_int_equal(dk_test_decrypt(d, "globex", &globex, "x"), outages[i].code);
        assert_int_equal(dk_test_encrypt(d, "new", "x", &globex), outages[i].code);
        place.w.mono_ms += place.limits.hard_ttl_ms;
        assert_int_equal(dk_test_decrypt(d, "acme", &acme, "x"), outages[i].code);
        dk_cloud_reset();
        place.w.mono_ms += 61000; /* the breaker's longest */
        place.w.wall_us += 61 * 1000000;
        ASSERT_CODE(dk_test_decrypt(d, "acme", &acme, "x"), OK);
        dk_place_close(d);
        dk_place_free(&place);
    }
}

struct slow {
    struct dekhand *d;
    const struct dk_test_value *cold, *warm;
    atomic_bool over;
    atomic_int uses;
};

static void use_cold_or_warm(void *arg, size_t index)
{
    struct slow *slow = arg;
    if (index == 0) {
        (void)dk_test_decrypt(slow->d, "cold", slow->cold, "x");
        atomic_store(&slow->over, true);
        return;
    }
    while (!atomic_load(&slow->over)) {
        if (dk_test_decrypt(slow->d, "warm", slow->warm, "x") == DEKHAND_OK) {
            atomic_fetch_add(&slow->uses, 1);
        }
    }
}

/* An answer that takes long holds up who waits for it, and nobody else. */
static void P5_a_slow_provider_holds_up_no_cached_tenant(void **state)
{
    (void)state;
    struct dk_place place;
    struct dk_test_value cold, warm;
    kms_new(&place);
    struct dekhand *d = dk_place_open(&place);
    ASSERT_CODE(dk_test_encrypt(d, "cold", "x", &cold), OK);
    dk_place_close(d);
    struct slow slow = {.d = dk_place_open(&place), .cold = &cold, .warm = &warm};
    ASSERT_CODE(dk_test_encrypt(slow.d, "warm", "x", &warm), OK);
    ASSERT_CODE(dk_test_decrypt(slow.d, "warm", &warm, "x"), OK);
    dk_cloud_script("kms", "Decrypt", "{\"fault\":\"slow\",\"seconds\":1}", 1);
    dk_test_threads(2, use_cold_or_warm, &slow);
    print_message("%d uses while one call took a second\n", slow.uses);
    assert_true(slow.uses > 1000);
    dk_place_close(slow.d);
    dk_place_free(&place);
}

/* ---- fork ------------------------------------------------------------------------------------ */

struct family {
    struct dekhand *d;
    const struct dk_test_value *value;
};

static int decrypt_in_child(void *arg, size_t index)
{
    struct family *family = arg;
    char tenant[16];
    struct dk_test_value fresh;
    snprintf(tenant, sizeof tenant, "child%zu", index);
    return dk_test_decrypt(family->d, "acme", family->value, "x") == DEKHAND_OK &&
                   dk_test_encrypt(family->d, tenant, "x", &fresh) == DEKHAND_OK
               ? 0
               : 1;
}

static void children_make_connections_of_their_own(void **state)
{
    (void)state;
    struct dk_place place;
    struct dk_test_value value, more;
    kms_new(&place);
    struct family family = {.d = dk_place_open(&place), .value = &value};
    ASSERT_CODE(dk_test_encrypt(family.d, "acme", "x", &value), OK);
    assert_true(dk_test_processes(4, decrypt_in_child, &family));
    int before = dk_cloud_count("connections");
    ASSERT_CODE(dk_test_encrypt(family.d, "after", "x", &more), OK);
    assert_int_equal(dk_cloud_count("connections"), before); /* on the old one */
    dk_place_close(family.d);
    dk_place_free(&place);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(R12_F47_a_crowd_on_one_cold_key_makes_one_call),
        cmocka_unit_test(R12_the_cache_saves_nine_of_ten_calls),
        cmocka_unit_test(R12_keys_that_expire_together_stay_under_the_set_rate),
        cmocka_unit_test(F28_a_master_key_that_is_taken_away_takes_its_keys_along),
        cmocka_unit_test(F26_F27_F29_R17_what_is_in_memory_serves_through_each_outage),
        cmocka_unit_test(P5_a_slow_provider_holds_up_no_cached_tenant),
        cmocka_unit_test(children_make_connections_of_their_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
