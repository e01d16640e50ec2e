#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include <pthread.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "provider/aws.h"
#include "provider/azure.h"
#include "provider/local.h"
#include "provider/masterfile.h"
#include "support/cloud.h"
#include "support/expect.h"
#include "support/fake_provider.h"
#include "support/golden.h"
#include "support/world.h"

#define NOW "2026-01-01T00:00:00.000000Z"

static struct dk_err err;

/* ---- the back ends, each on a desk of its own ------------------------------------------------ */

static void no_settings(struct dk_settings *settings)
{
    dk_settings_init(settings, &dk_mem_default);
}

static void azure_rsa(struct dk_settings *settings)
{
    dk_cloud_azure(settings, "kek");
}

static void azure_oct(struct dk_settings *settings)
{
    dk_cloud_azure(settings, "kek-oct");
}

/* How often a service was asked to open something. */
static int asked_to_open(void)
{
    return dk_cloud_count("kms.Decrypt") + dk_cloud_count("vault.decrypt") +
           dk_cloud_count("vault.unwrapkey");
}

static const struct {
    const struct dk_provider_ops *ops;
    void (*settings)(struct dk_settings *settings);
    bool remote;
} backends[] = {
    {&dk_provider_local, no_settings, false},     {&dk_fake_provider, no_settings, false},
    {&dk_provider_aws, dk_cloud_aws, true},       {&dk_provider_aws, dk_cloud_moto, true},
    {&dk_provider_azure, azure_rsa, true},        {&dk_provider_azure, azure_oct, true},
    {&dk_provider_aws, dk_cloud_local_kms, true},
};
#define BACKENDS (sizeof backends / sizeof backends[0])
#define AT_LOCAL_KMS (BACKENDS - 1)
#define LOCAL_KMS_NAME 80 /* bytes at the beginning of its blobs */

struct desk {
    struct dk_test_world w;
    struct dk_suite suite;
    struct dk_arena *arena;
    struct dk_log log;
    struct dk_fake *fake;
    char folder[64];
    char master_key[96];
    struct dk_settings settings;
    struct dk_provider_setup setup;
    struct dk_provider *provider;
};

/* 64 cells: what is not given back is missed soon. */
static void desk_new(struct desk *desk)
{
    struct dk_arena_report report;
    memset(desk, 0, sizeof *desk);
    dk_test_world_init(&desk->w);
    desk->w.world.random = dk_world_default.random;
    desk->fake = dk_fake_new();
    dk_test_folder_new(desk->folder);
    snprintf(desk->master_key, sizeof desk->master_key, "%s/master.key", desk->folder);
    DK_TEST_OK(err, dk_suite_open(&desk->w.world, &desk->suite, &err));
    DK_TEST_OK(err, dk_arena_open(&desk->w.world, 64, &desk->arena, &report, &err));
    desk->setup = (struct dk_provider_setup){.world = &desk->w.world,
                                             .suite = &desk->suite,
                                             .arena = desk->arena,
                                             .log = &desk->log,
                                             .master_key_path = desk->master_key,
                                             .test_arg = desk->fake};
}

static void desk_open(struct desk *desk, size_t backend)
{
    desk_new(desk);
    DK_TEST_OK(err, dk_local_create(&desk->w.world, desk->master_key, &err));
    backends[backend].settings(&desk->settings);
    desk->setup.settings = &desk->settings;
    DK_TEST_OK(err, dk_provider_open(backends[backend].ops, &desk->setup, &desk->provider, &err));
}

static void desk_close(struct desk *desk)
{
    dk_provider_close(desk->provider);
    if (desk->settings.mem != NULL) {
        dk_settings_clear(&desk->settings);
    }
    dk_arena_close(desk->arena);
    dk_suite_close(&desk->suite);
    dk_fake_free(desk->fake);
    dk_test_folder_remove(desk->folder);
    assert_int_equal(desk->w.live, 0);
}

static struct dk_wrap_context context_of(const char *tenant)
{
    return (struct dk_wrap_context){dk_view_str(tenant), DK_PURPOSE_DATA, NOW};
}

static void generate(struct desk *desk, const char *tenant, struct dk_secret *key,
                     struct dk_wrapped *wrapped)
{
    uint8_t check_value[DK_CHECK_VALUE];
    struct dk_wrap_context context = context_of(tenant);
    *key = (struct dk_secret){0};
    DK_TEST_OK(err,
               dk_provider_generate(desk->provider, &context, key, wrapped, check_value, &err));
}

/* ---- what every provider does ---------------------------------------------------------------- */

static void a_key_comes_back_as_it_was_wrapped(void **state)
{
    (void)state;
    for (size_t i = 0; i < BACKENDS; i++) {
        struct desk desk;
        struct dk_secret key = {0}, again = {0};
        struct dk_wrapped first, second;
        struct dk_wrap_context context = context_of("acme");
        uint8_t told[DK_CHECK_VALUE], computed[DK_CHECK_VALUE];
        desk_open(&desk, i);
        assert_string_equal(dk_provider_name(desk.provider), backends[i].ops->name);
        DK_TEST_OK(err, dk_provider_generate(desk.provider, &context, &key, &first, told, &err));
        assert_int_equal(key.n, DK_DATA_KEY);
        DK_TEST_OK(err, dk_check_value(&desk.suite, &key, computed, &err));
        assert_memory_equal(told, computed, sizeof told);
        DK_TEST_OK(err, dk_provider_unwrap(desk.provider, &context, &first, &again, &err));
        assert_true(dk_secret_equal(&key, &again));
        dk_secret_free(desk.arena, &again);
        DK_TEST_OK(err, dk_provider_wrap(desk.provider, &context, &key, &second, &err));
        assert_string_not_equal(first.blob, second.blob); /* a nonce of its own */
        assert_string_equal(first.kms_key_id, second.kms_key_id);
        DK_TEST_OK(err, dk_provider_unwrap(desk.provider, &context, &second, &again, &err));
        assert_true(dk_secret_equal(&key, &again));
        dk_secret_free(desk.arena, &again);
        dk_secret_free(desk.arena, &key);
        desk_close(&desk);
    }
}

static const struct {
    const char *tenant, *purpose, *timestamp;
} contexts[] = {
    {"acme", "DataEncryption", NOW},
    {"acme", "DataEncryption", "2026-01-01T00:00:00.000001Z"},
    {"acme", "Registry", NOW},
    {"acme", "DataEncryptioN", NOW},
    {"Acme", "DataEncryption", NOW},
    {"acm", "DataEncryption", NOW},
    {"acme.", "DataEncryption", NOW},
    {"globex", "DataEncryption", NOW},
    {"globex", "DataEncryption", "2026-01-01T00:00:00.000001Z"},
    {"DataEncryption", "acme", NOW},
    {NOW, "DataEncryption", "acme"},
    {"", "DataEncryption", NOW},
    {"acme", "", NOW},
    {"acme", "DataEncryption", ""},
};
#define CONTEXTS (sizeof contexts / sizeof contexts[0])

static struct dk_wrap_context context_at(size_t i)
{
    return (struct dk_wrap_context){dk_view_str(contexts[i].tenant), contexts[i].purpose,
                                    contexts[i].timestamp};
}

static void I01_R10_a_wrap_opens_under_its_own_context_only(void **state)
{
    (void)state;
    for (size_t i = 0; i < BACKENDS; i++) {
        struct desk desk;
        desk_open(&desk, i);
        assert_true(dk_provider_caps(desk.provider) & DK_PROVIDER_BINDS_CONTEXT);
        for (size_t made = 0; made < CONTEXTS; made++) {
            struct dk_wrap_context mine = context_at(made);
            struct dk_secret key = {0};
            struct dk_wrapped wrapped;
            uint8_t check_value[DK_CHECK_VALUE];
            DK_TEST_OK(
                err, dk_provider_generate(desk.provider, &mine, &key, &wrapped, check_value, &err));
            for (size_t asked = 0; asked < CONTEXTS; asked++) {
                struct dk_wrap_context other = context_at(asked);
                struct dk_secret opened = {0};
                if (asked == made) {
                    DK_TEST_OK(err,
                               dk_provider_unwrap(desk.provider, &other, &wrapped, &opened, &err));
                    assert_true(dk_secret_equal(&opened, &key));
                    dk_secret_free(desk.arena, &opened);
                } else {
                    DK_TEST_FAILS(
                        err, AUTH,
                        dk_provider_unwrap(desk.provider, &other, &wrapped, &opened, &err));
                    assert_null(opened.cell);
                }
            }
            dk_secret_free(desk.arena, &key);
        }
        desk_close(&desk);
    }
}

static void I02_F50_swapped_wraps_of_two_tenants_do_not_open(void **state)
{
    (void)state;
    for (size_t i = 0; i < BACKENDS; i++) {
        struct desk desk;
        struct dk_secret acme, globex, opened = {0};
        struct dk_wrapped of_acme, of_globex;
        struct dk_wrap_context as_acme = context_of("acme"), as_globex = context_of("globex");
        desk_open(&desk, i);
        generate(&desk, "acme", &acme, &of_acme);
        generate(&desk, "globex", &globex, &of_globex);
        assert_false(dk_secret_equal(&acme, &globex));
        DK_TEST_FAILS(err, AUTH,
                      dk_provider_unwrap(desk.provider, &as_acme, &of_globex, &opened, &err));
        DK_TEST_FAILS(err, AUTH,
                      dk_provider_unwrap(desk.provider, &as_globex, &of_acme, &opened, &err));
        dk_secret_free(desk.arena, &acme);
        dk_secret_free(desk.arena, &globex);
        desk_close(&desk);
    }
}

static void a_wrap_with_any_bit_flipped_does_not_open(void **state)
{
    (void)state;
    for (size_t i = 0; i < BACKENDS; i++) {
        struct desk desk;
        struct dk_secret key, opened = {0};
        struct dk_wrapped good, bad;
        struct dk_wrap_context context = context_of("acme");
        uint8_t blob[1024];
        size_t n = 0;
        desk_open(&desk, i);
        generate(&desk, "acme", &key, &good);
        assert_true(dk_base64_decode(good.blob, strlen(good.blob), blob, sizeof blob, &n));
        bad = good;
        for (size_t bit = 0; bit < 8 * n; bit += backends[i].remote ? 61 : 1) {
            blob[bit / 8] ^= (uint8_t)(1u << bit % 8);
            dk_base64_encode(blob, n, bad.blob);
            blob[bit / 8] ^= (uint8_t)(1u << bit % 8);
            dk_err_clear(&err);
            dk_rc rc = dk_provider_unwrap(desk.provider, &context, &bad, &opened, &err);
            if (i == AT_LOCAL_KMS && rc == DK_OK) { /* its blobs begin with a name under no tag */
                assert_true(bit < 8 * LOCAL_KMS_NAME && dk_secret_equal(&opened, &key));
                dk_secret_free(desk.arena, &opened);
                continue;
            }
            /* AWS KMS says of a key that it does not find in a blob that access is denied. */
            assert_true(rc == DK_E_AUTH || rc == DK_E_FORMAT || rc == DK_E_NO_MASTER_KEY ||
                        (backends[i].remote && rc == DK_E_PROVIDER_DENIED));
            assert_null(opened.cell);
        }
        dk_secret_free(desk.arena, &key);
        desk_close(&desk);
    }
}

/* A blob of bytes that it did not make is to a service what it is to itself: a changed one. */
static void assert_another_form(size_t backend, struct desk *desk,
                                const struct dk_wrap_context *context,
                                const struct dk_wrapped *wrapped)
{
    struct dk_secret opened = {0};
    dk_err_clear(&err);
    dk_rc rc = dk_provider_unwrap(desk->provider, context, wrapped, &opened, &err);
    assert_true(rc == DK_E_FORMAT ||
                (backends[backend].remote && (rc == DK_E_AUTH || rc == DK_E_PROVIDER_DENIED)));
    assert_null(opened.cell);
}

static void a_wrap_of_another_form_is_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < BACKENDS; i++) {
        struct desk desk;
        struct dk_secret key;
        struct dk_wrapped good;
        struct dk_wrap_context context = context_of("acme");
        desk_open(&desk, i);
        generate(&desk, "acme", &key, &good);
        char *forms[] = {"", "A", "AAAA", "!!!!", " ", good.blob + 4};
        for (size_t k = 0; k < sizeof forms / sizeof forms[0]; k++) {
            struct dk_wrapped bad = good;
            memmove(bad.blob, forms[k], strlen(forms[k]) + 1);
            assert_another_form(i, &desk, &context, &bad);
        }
        struct dk_wrapped longer = good;
        strcat(longer.blob, "AAAA");
        assert_another_form(i, &desk, &context, &longer);
        dk_secret_free(desk.arena, &key);
        desk_close(&desk);
    }
}

static void a_key_id_that_is_not_here_is_named(void **state)
{
    (void)state;
    for (size_t i = 0; i < BACKENDS; i++) {
        struct desk desk;
        struct dk_secret key, opened = {0};
        struct dk_wrapped wrapped;
        struct dk_wrap_context context = context_of("acme");
        desk_open(&desk, i);
        generate(&desk, "acme", &key, &wrapped);
        snprintf(wrapped.kms_key_id, sizeof wrapped.kms_key_id, "local:0123");
        DK_TEST_FAILS(err, NO_MASTER_KEY,
                      dk_provider_unwrap(desk.provider, &context, &wrapped, &opened, &err));
        DK_TEST_SAYS(err, "local:0123");
        dk_secret_free(desk.arena, &key);
        desk_close(&desk);
    }
}

/* Not even asked for: whoever writes rows names no key of his own (I32). */
static void I32_a_foreign_key_id_is_not_asked_for(void **state)
{
    (void)state;
    static const char *const foreign[] = {
        "arn:aws:kms:us-east-1:999988887777:key/00000000-0000-0000-0000-000000000000",
        "arn:aws:kms:eu-west-1:111122223333:key/00000000-0000-0000-0000-000000000000",
        "arn:aws-cn:kms:us-east-1:111122223333:key/00000000-0000-0000-0000-000000000000",
        "alias/dekhand",
        "https://vault.evil.example/keys/kek/0123456789abcdef0123456789abcdef",
        "",
    };
    for (size_t i = 0; i < BACKENDS; i++) {
        struct desk desk;
        struct dk_secret key, opened = {0};
        struct dk_wrapped wrapped;
        struct dk_wrap_context context = context_of("acme");
        desk_open(&desk, i);
        generate(&desk, "acme", &key, &wrapped);
        int before = backends[i].remote ? asked_to_open() : 0;
        for (size_t k = 0; k < sizeof foreign / sizeof foreign[0]; k++) {
            snprintf(wrapped.kms_key_id, sizeof wrapped.kms_key_id, "%s", foreign[k]);
            DK_TEST_FAILS(err, NO_MASTER_KEY,
                          dk_provider_unwrap(desk.provider, &context, &wrapped, &opened, &err));
        }
        assert_int_equal(backends[i].remote ? asked_to_open() : 0, before);
        dk_secret_free(desk.arena, &key);
        desk_close(&desk);
    }
}

/* What the vendor's own SDK wrapped for the same context opens, and for no other. */
static void I01_a_wrap_of_boto3_opens_under_its_context(void **state)
{
    (void)state;
    struct desk desk;
    struct dk_secret opened = {0};
    struct dk_wrapped wrapped = {{0}, {0}};
    struct dk_wrap_context context = context_of("acme"), other = context_of("globex");
    uint8_t expected[DK_DATA_KEY];
    desk_open(&desk, 2);
    for (size_t i = 0; i < sizeof expected; i++) {
        expected[i] = (uint8_t)(i + 1);
    }
    dk_cloud_boto3_wraps(expected, sizeof expected, NOW, wrapped.blob, sizeof wrapped.blob);
    snprintf(wrapped.kms_key_id, sizeof wrapped.kms_key_id, "%s", dk_cloud("AWS_KEY_ARN"));
    DK_TEST_OK(err, dk_provider_unwrap(desk.provider, &context, &wrapped, &opened, &err));
    assert_memory_equal(dk_secret_expose_for_crypto(&opened), expected, sizeof expected);
    dk_secret_free(desk.arena, &opened);
    DK_TEST_FAILS(err, AUTH, dk_provider_unwrap(desk.provider, &other, &wrapped, &opened, &err));
    DK_TEST_SAYS(err, "Invalid ciphertext");
    desk_close(&desk);
}

/* local-kms knows the states of a key, which moto does not look at. */
static void F28_a_master_key_that_is_disabled_or_about_to_be_deleted_is_named(void **state)
{
    (void)state;
    struct desk desk;
    struct dk_secret key = {0}, opened = {0};
    struct dk_wrapped wrapped, other;
    struct dk_wrap_context context = context_of("acme");
    uint8_t check_value[DK_CHECK_VALUE];
    desk_open(&desk, AT_LOCAL_KMS);
    generate(&desk, "acme", &key, &wrapped);
    dk_secret_free(desk.arena, &key);
    dk_cloud_local_kms_do(&desk.settings, "DisableKey", "");
    DK_TEST_FAILS(err, MASTER_KEY_DISABLED,
                  dk_provider_unwrap(desk.provider, &context, &wrapped, &opened, &err));
    DK_TEST_FAILS(err, MASTER_KEY_DISABLED,
                  dk_provider_generate(desk.provider, &context, &key, &other, check_value, &err));
    DK_TEST_FAILS(err, MASTER_KEY_DISABLED, dk_provider_test(desk.provider, &err));
    dk_cloud_local_kms_do(&desk.settings, "EnableKey", "");
    DK_TEST_OK(err, dk_provider_unwrap(desk.provider, &context, &wrapped, &opened, &err));
    dk_secret_free(desk.arena, &opened);
    dk_cloud_local_kms_do(&desk.settings, "ScheduleKeyDeletion", ",\"PendingWindowInDays\":7");
    DK_TEST_FAILS(err, MASTER_KEY_DISABLED,
                  dk_provider_generate(desk.provider, &context, &key, &other, check_value, &err));
    DK_TEST_SAYS(err, "is pending deletion");
    dk_err_clear(&err); /* it says here that access is denied, where AWS names the state */
    assert_int_not_equal(dk_provider_unwrap(desk.provider, &context, &wrapped, &opened, &err),
                         DK_OK);
    assert_null(key.cell);
    assert_null(opened.cell);
    desk_close(&desk);
}

static void describe_names_the_key_that_wraps_and_test_passes(void **state)
{
    (void)state;
    for (size_t i = 0; i < BACKENDS; i++) {
        struct desk desk;
        struct dk_provider_info info;
        struct dk_secret key;
        struct dk_wrapped wrapped;
        desk_open(&desk, i);
        DK_TEST_OK(err, dk_provider_describe(desk.provider, &info, &err));
        assert_int_equal(info.key_count, 1);
        generate(&desk, "acme", &key, &wrapped);
        /* What a setting names by half, an answer names in full. */
        DK_TEST_OK(err, dk_provider_describe(desk.provider, &info, &err));
        assert_string_equal(info.kms_key_id, wrapped.kms_key_id);
        dk_secret_free(desk.arena, &key);
        DK_TEST_OK(err, dk_provider_test(desk.provider, &err));
        desk_close(&desk);
    }
}

static void F30_what_is_no_data_key_is_not_wrapped(void **state)
{
    (void)state;
    static const size_t sizes[] = {1, 16, 31, 33, 64};
    for (size_t i = 0; i < BACKENDS; i++) {
        struct desk desk;
        struct dk_wrap_context context = context_of("acme");
        struct dk_wrapped wrapped;
        struct dk_secret key = {0};
        desk_open(&desk, i);
        for (size_t k = 0; k < sizeof sizes / sizeof sizes[0]; k++) {
            DK_TEST_OK(err, dk_secret_new(desk.arena, sizes[k], &key, &err));
            memset(dk_secret_expose_for_crypto(&key), 1, sizes[k]);
            DK_TEST_FAILS(err, PROVIDER,
                          dk_provider_wrap(desk.provider, &context, &key, &wrapped, &err));
            dk_secret_free(desk.arena, &key);
        }
        DK_TEST_OK(err, dk_secret_new(desk.arena, DK_DATA_KEY, &key, &err));
        DK_TEST_FAILS(err, PROVIDER,
                      dk_provider_wrap(desk.provider, &context, &key, &wrapped, &err));
        dk_secret_free(desk.arena, &key);
        desk_close(&desk);
    }
}

enum { THREADS = 8, EACH = 20 };

struct crowd {
    struct desk *desk;
    uint8_t check_values[THREADS][EACH][DK_CHECK_VALUE];
    atomic_int failures;
    atomic_int next;
};

static void *generate_many(void *arg)
{
    struct crowd *crowd = arg;
    int who = atomic_fetch_add(&crowd->next, 1);
    struct dk_wrap_context context = context_of("acme");
    for (int i = 0; i < EACH; i++) {
        struct dk_err mine;
        struct dk_secret key = {0}, again = {0};
        struct dk_wrapped wrapped;
        dk_err_clear(&mine);
        if (dk_provider_generate(crowd->desk->provider, &context, &key, &wrapped,
                                 crowd->check_values[who][i], &mine) != DK_OK ||
            dk_provider_unwrap(crowd->desk->provider, &context, &wrapped, &again, &mine) != DK_OK ||
            !dk_secret_equal(&key, &again)) {
            atomic_fetch_add(&crowd->failures, 1);
        }
        dk_secret_free(crowd->desk->arena, &key);
        dk_secret_free(crowd->desk->arena, &again);
    }
    return NULL;
}

static int compare_check_values(const void *a, const void *b)
{
    return memcmp(a, b, DK_CHECK_VALUE);
}

static void threads_share_a_provider_and_no_key_comes_twice(void **state)
{
    (void)state;
    for (size_t i = 0; i < BACKENDS; i++) {
        struct desk desk;
        static struct crowd crowd;
        pthread_t threads[THREADS];
        desk_open(&desk, i);
        memset(&crowd, 0, sizeof crowd);
        crowd.desk = &desk;
        for (size_t k = 0; k < THREADS; k++) {
            assert_int_equal(pthread_create(&threads[k], NULL, generate_many, &crowd), 0);
        }
        for (size_t k = 0; k < THREADS; k++) {
            pthread_join(threads[k], NULL);
        }
        assert_int_equal(crowd.failures, 0);
        uint8_t *all = crowd.check_values[0][0];
        qsort(all, THREADS * EACH, DK_CHECK_VALUE, compare_check_values);
        for (size_t k = 1; k < THREADS * EACH; k++) {
            assert_memory_not_equal(all + (k - 1) * DK_CHECK_VALUE, all + k * DK_CHECK_VALUE,
                                    DK_CHECK_VALUE);
        }
        desk_close(&desk);
    }
}

/* ---- which key is ours ----------------------------------------------------------------------- */

struct cold {
    struct desk *desk;
    const struct dk_wrapped *wrapped;
    atomic_int opened;
    atomic_int denied;
};

static void open_cold(void *arg, size_t index)
{
    struct cold *cold = arg;
    struct dk_wrap_context context = context_of("acme");
    struct dk_secret key = {0};
    struct dk_err mine;
    (void)index;
    dk_err_clear(&mine);
    dk_rc rc = dk_provider_unwrap(cold->desk->provider, &context, cold->wrapped, &key, &mine);
    atomic_fetch_add(rc == DK_OK ? &cold->opened : &cold->denied,
                     rc == DK_OK || rc == DK_E_PROVIDER_DENIED);
    dk_secret_free(cold->desk->arena, &key);
}

/* A back end that has not asked yet, and a crowd that wants to know at once: how often it asks. */
static int open_with_alias(struct desk *desk, struct cold *cold, size_t threads)
{
    int before = dk_cloud_count("kms.DescribeKey");
    dk_provider_close(desk->provider);
    dk_cloud_set(&desk->settings, "AWS_KMS_KEY_ID", "alias/dekhand");
    dk_cloud_set(&desk->settings, "AWS_REGION", "us-east-1");
    DK_TEST_OK(err, dk_provider_open(&dk_provider_aws, &desk->setup, &desk->provider, &err));
    cold->opened = cold->denied = 0;
    dk_test_threads(threads, open_cold, cold);
    return dk_cloud_count("kms.DescribeKey") - before;
}

static void R12_a_crowd_asks_once_which_key_is_ours(void **state)
{
    (void)state;
    struct desk desk;
    struct dk_wrapped wrapped;
    struct dk_secret key;
    dk_cloud_reset();
    desk_open(&desk, 2);
    generate(&desk, "acme", &key, &wrapped);
    dk_secret_free(desk.arena, &key);
    struct cold cold = {.desk = &desk, .wrapped = &wrapped};
    dk_cloud_control("latency", "{\"service\": \"kms\", \"seconds\": 0.3}");
    int alone = open_with_alias(&desk, &cold, 1); /* the clock is corrected by a second request */
    assert_int_equal(cold.opened, 1);
    assert_int_equal(open_with_alias(&desk, &cold, THREADS), alone);
    assert_int_equal(cold.opened, THREADS);
    int before = dk_cloud_count("kms.Decrypt");
    dk_cloud_control("deny", "{\"action\": \"kms:DescribeKey\"}");
    dk_cloud_control("deny", "{\"action\": \"kms:GenerateDataKey\"}");
    /* All are told what the one was told. */
    assert_int_equal(open_with_alias(&desk, &cold, THREADS), alone);
    assert_int_equal(cold.denied, THREADS);
    assert_int_equal(dk_cloud_count("kms.Decrypt"), before);
    dk_cloud_reset();
    desk_close(&desk);
}

struct forked {
    struct desk *desk;
    const struct dk_wrapped *wrapped;
    uint8_t key[DK_DATA_KEY];
};

static int unwrap_in_child(void *arg)
{
    const struct forked *forked = arg;
    struct desk *desk = forked->desk;
    struct dk_wrap_context context = context_of("acme");
    struct dk_secret key = {0};
    dk_err_clear(&err);
    DK_TEST_CHILD(dk_arena_forked(desk->arena));
    dk_arena_reset(desk->arena);
    DK_TEST_CHILD(dk_provider_after_fork(desk->provider, &err) == DK_OK);
    dk_arena_revive(desk->arena);
    DK_TEST_CHILD(dk_provider_unwrap(desk->provider, &context, forked->wrapped, &key, &err) ==
                  DK_OK);
    DK_TEST_CHILD(memcmp(dk_secret_expose_for_crypto(&key), forked->key, DK_DATA_KEY) == 0);
    dk_secret_free(desk->arena, &key);
    dk_provider_close(desk->provider);
    return 0;
}

static int close_in_child(void *arg)
{
    const struct forked *forked = arg;
    dk_arena_reset(forked->desk->arena);
    dk_provider_forget(forked->desk->provider);
    dk_provider_close(forked->desk->provider);
    return 0;
}

static void a_child_process_gets_its_master_key_again(void **state)
{
    (void)state;
    for (size_t i = 0; i < BACKENDS; i++) {
        struct desk desk;
        struct dk_secret key;
        struct dk_wrapped wrapped;
        desk_open(&desk, i);
        generate(&desk, "acme", &key, &wrapped);
        struct forked forked = {.desk = &desk, .wrapped = &wrapped};
        memcpy(forked.key, dk_secret_expose_for_crypto(&key), DK_DATA_KEY);
        assert_true(dk_test_in_child(false, unwrap_in_child, &forked));
        assert_true(dk_test_in_child(false, close_in_child, &forked));
        dk_secret_free(desk.arena, &key);
        desk_close(&desk);
    }
}

/* ---- what the checked calls refuse: the fake answers as no provider should
 * ----------------------- */

enum { FAKE = 1, AWS_FAKE = 2 };

static const enum dk_fake_key no_keys[] = {DK_FAKE_BYTES_0, DK_FAKE_BYTES_31, DK_FAKE_BYTES_33,
                                           DK_FAKE_ZEROS};

static void refuse_generate(struct desk *desk)
{
    struct dk_wrap_context context = context_of("acme");
    struct dk_secret key = {0};
    struct dk_wrapped wrapped;
    uint8_t check_value[DK_CHECK_VALUE];
    for (int i = 0; i < 100; i++) { /* more often than the arena has cells */
        DK_TEST_FAILS(
            err, PROVIDER,
            dk_provider_generate(desk->provider, &context, &key, &wrapped, check_value, &err));
        assert_null(key.cell);
    }
}

static void F30_a_data_key_that_is_none_is_refused(void **state)
{
    (void)state;
    struct desk desk;
    struct dk_secret good, key = {0};
    struct dk_wrapped wrapped;
    struct dk_wrap_context context = context_of("acme");
    desk_open(&desk, FAKE);
    generate(&desk, "acme", &good, &wrapped);
    for (size_t i = 0; i < sizeof no_keys / sizeof no_keys[0]; i++) {
        atomic_store(&desk.fake->fresh, (int)no_keys[i]);
        refuse_generate(&desk);
        atomic_store(&desk.fake->fresh, DK_FAKE_GOOD);
        atomic_store(&desk.fake->opened, (int)no_keys[i]);
        for (int k = 0; k < 100; k++) {
            DK_TEST_FAILS(err, PROVIDER,
                          dk_provider_unwrap(desk.provider, &context, &wrapped, &key, &err));
            assert_null(key.cell);
        }
        refuse_generate(&desk); /* it opens its own fresh wrap */
        atomic_store(&desk.fake->opened, DK_FAKE_GOOD);
    }
    DK_TEST_OK(err, dk_provider_unwrap(desk.provider, &context, &wrapped, &key, &err));
    dk_secret_free(desk.arena, &key);
    dk_secret_free(desk.arena, &good);
    desk_close(&desk);
}

/* As the settings name another of its keys. */
static void desk_turn(struct desk *desk, const char *key_id)
{
    dk_provider_close(desk->provider);
    dk_cloud_set(&desk->settings, "AWS_KMS_KEY_ID", key_id);
    DK_TEST_OK(err, dk_provider_open(&dk_provider_aws, &desk->setup, &desk->provider, &err));
    assert_int_not_equal(dk_provider_caps(desk->provider) & DK_PROVIDER_MOVES, 0);
}

static struct dk_provider_item move(struct desk *desk, const char *tenant,
                                    const struct dk_wrapped *before, struct dk_wrapped *wrapped)
{
    struct dk_provider_item item = {.before = before, .wrapped = wrapped};
    item.context = context_of(tenant);
    dk_provider_move_many(desk->provider, &item, 1);
    return item;
}

static void R5_a_wrap_moves_to_another_key_and_the_data_key_stays_there(void **state)
{
    (void)state;
    struct desk desk;
    struct dk_secret key, again = {0};
    struct dk_wrapped before, after;
    struct dk_wrap_context context = context_of("acme");
    desk_open(&desk, AWS_FAKE);
    generate(&desk, "acme", &key, &before);
    desk_turn(&desk, dk_cloud("AWS_OTHER_ARN"));
    int wrapped = dk_cloud_count("kms.Encrypt"), opened = dk_cloud_count("kms.Decrypt");
    struct dk_provider_item item = move(&desk, "acme", &before, &after);
    assert_int_equal(item.err.rc, DK_OK);
    assert_true(dk_secret_equal(&item.key, &key));
    dk_secret_free(desk.arena, &item.key);
    assert_string_equal(after.kms_key_id, dk_cloud("AWS_OTHER_ARN"));
    assert_int_equal(dk_cloud_count("kms.Encrypt"), wrapped);
    assert_int_equal(dk_cloud_count("kms.Decrypt"), opened + 1); /* what was moved opens */
    DK_TEST_OK(err, dk_provider_unwrap(desk.provider, &context, &after, &again, &err));
    assert_true(dk_secret_equal(&again, &key));
    dk_secret_free(desk.arena, &again);
    dk_secret_free(desk.arena, &key);
    desk_close(&desk);
}

static void I02_what_cannot_be_moved_leaves_no_key(void **state)
{
    (void)state;
    struct desk desk;
    struct dk_secret key;
    struct dk_wrapped before, after;
    desk_open(&desk, AWS_FAKE);
    generate(&desk, "acme", &key, &before);
    dk_secret_free(desk.arena, &key);
    desk_turn(&desk, dk_cloud("AWS_OTHER_ARN"));
    struct dk_provider_item item = move(&desk, "globex", &before, &after);
    assert_int_equal(item.err.rc, DK_E_AUTH);
    assert_null(item.key.cell);
    dk_cloud_control("deny", "{\"action\": \"kms:ReEncryptTo\"}");
    item = move(&desk, "acme", &before, &after);
    assert_int_equal(item.err.rc, DK_E_PROVIDER_DENIED);
    dk_cloud_reset();
    dk_cloud_script("kms", "ReEncrypt", "{\"fault\": \"wrong_key_id\"}", 1);
    item = move(&desk, "acme", &before, &after);
    assert_int_equal(item.err.rc, DK_E_PROVIDER);
    dk_cloud_reset();
    snprintf(before.kms_key_id, sizeof before.kms_key_id, "%s",
             "arn:aws:kms:us-east-1:999999999999:key/4bc8e833-4893-4f1d-a601-fd75e88d836d");
    item = move(&desk, "acme", &before, &after);
    assert_int_equal(item.err.rc, DK_E_NO_MASTER_KEY);
    desk_close(&desk);
}

static void F31_an_answer_under_another_key_id_is_refused(void **state)
{
    (void)state;
    struct desk desk;
    struct dk_secret good, key = {0};
    struct dk_wrapped wrapped;
    struct dk_wrap_context context = context_of("acme");
    desk_open(&desk, FAKE);
    generate(&desk, "acme", &good, &wrapped);
    atomic_store(&desk.fake->other_key_id, true);
    DK_TEST_FAILS(err, PROVIDER, dk_provider_unwrap(desk.provider, &context, &wrapped, &key, &err));
    DK_TEST_SAYS(err, "fake:another");
    refuse_generate(&desk);
    atomic_store(&desk.fake->other_key_id, false);
    atomic_store(&desk.fake->no_key_id, true);
    refuse_generate(&desk);
    DK_TEST_FAILS(err, PROVIDER, dk_provider_wrap(desk.provider, &context, &good, &wrapped, &err));
    dk_secret_free(desk.arena, &good);
    desk_close(&desk);
}

static void F32_the_same_key_twice_is_refused(void **state)
{
    (void)state;
    struct desk desk;
    struct dk_secret key;
    struct dk_wrapped wrapped;
    desk_open(&desk, FAKE);
    atomic_store(&desk.fake->fresh, DK_FAKE_SAME);
    generate(&desk, "acme", &key, &wrapped);
    dk_secret_free(desk.arena, &key);
    refuse_generate(&desk);
    DK_TEST_SAYS(err, "twice");
    atomic_store(&desk.fake->fresh, DK_FAKE_GOOD);
    for (int i = 0; i < 10; i++) {
        generate(&desk, "acme", &key, &wrapped);
        dk_secret_free(desk.arena, &key);
    }
    atomic_store(&desk.fake->fresh, DK_FAKE_SAME); /* remembered past some others */
    refuse_generate(&desk);
    desk_close(&desk);
}

static void I15_a_fresh_wrap_that_does_not_hold_the_key_is_refused(void **state)
{
    (void)state;
    struct desk desk;
    struct dk_secret good;
    struct dk_wrapped wrapped;
    struct dk_wrap_context context = context_of("acme");
    desk_open(&desk, FAKE);
    generate(&desk, "acme", &good, &wrapped);
    for (int way = 0; way < 2; way++) {
        atomic_store(&desk.fake->flip_wrap, way == 0);
        atomic_store(&desk.fake->wrap_another, way == 1);
        refuse_generate(&desk);
        DK_TEST_FAILS(err, PROVIDER,
                      dk_provider_wrap(desk.provider, &context, &good, &wrapped, &err));
    }
    dk_secret_free(desk.arena, &good);
    desk_close(&desk);
}

static void a_failure_is_passed_on_with_its_code(void **state)
{
    (void)state;
    static const dk_rc codes[] = {DK_E_UNREACHABLE, DK_E_PROVIDER, DK_E_NOMEM, DK_E_CONFIG};
    struct desk desk;
    struct dk_secret good, key = {0};
    struct dk_wrapped wrapped, other;
    struct dk_wrap_context context = context_of("acme");
    uint8_t check_value[DK_CHECK_VALUE];
    desk_open(&desk, FAKE);
    generate(&desk, "acme", &good, &wrapped);
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++) {
        dk_fake_fail(desk.fake, DK_FAKE_UNWRAP, codes[i], 1);
        dk_err_clear(&err);
        assert_int_equal(dk_provider_unwrap(desk.provider, &context, &wrapped, &key, &err),
                         codes[i]);
        dk_fake_fail(desk.fake, DK_FAKE_WRAP, codes[i], 1);
        dk_err_clear(&err);
        assert_int_equal(dk_provider_wrap(desk.provider, &context, &good, &other, &err), codes[i]);
        dk_fake_fail(desk.fake, DK_FAKE_GENERATE, codes[i], 1);
        dk_err_clear(&err);
        assert_int_equal(
            dk_provider_generate(desk.provider, &context, &key, &other, check_value, &err),
            codes[i]);
        dk_fake_fail(desk.fake, DK_FAKE_GENERATE, codes[i], 1);
        dk_err_clear(&err);
        assert_int_equal(dk_provider_test(desk.provider, &err), codes[i]);
        assert_null(key.cell);
    }
    DK_TEST_OK(err, dk_provider_unwrap(desk.provider, &context, &wrapped, &key, &err));
    dk_secret_free(desk.arena, &key);
    dk_secret_free(desk.arena, &good);
    desk_close(&desk);
}

static void a_back_end_is_found_by_its_name(void **state)
{
    (void)state;
    const struct dk_provider_ops *ops = NULL;
    DK_TEST_OK(err, dk_provider_find("local", &ops, &err));
    assert_ptr_equal(ops, &dk_provider_local);
    DK_TEST_OK(err, dk_provider_find("aws-kms", &ops, &err));
    assert_ptr_equal(ops, &dk_provider_aws);
    DK_TEST_FAILS(err, CONFIG, dk_provider_find("aws", &ops, &err));
    DK_TEST_SAYS(err, "local aws-kms azure-key-vault");
    assert_ptr_equal(ops, &dk_provider_aws);
}

struct lines {
    char text[4096];
    size_t n;
};

static void keep_line(void *arg, enum dk_log_level level, const char *line, size_t n)
{
    struct lines *lines = arg;
    (void)level;
    if (lines->n + n < sizeof lines->text) {
        memcpy(lines->text + lines->n, line, n);
        lines->n += n;
    }
}

static void I28_the_audit_lines_tell_calls_and_no_key(void **state)
{
    (void)state;
    for (size_t i = 0; i < BACKENDS; i++) {
        struct desk desk;
        struct lines lines = {.n = 0};
        struct dk_secret key;
        struct dk_wrapped wrapped;
        char hex[2 * DK_DATA_KEY + 1], base64[DK_BASE64_LEN(DK_DATA_KEY) + 1];
        desk_open(&desk, i);
        desk.log = (struct dk_log){
            .sink = keep_line, .arg = &lines, .kms_audit = true, .clock = &desk.w.world.clock};
        generate(&desk, "acme", &key, &wrapped);
        assert_non_null(strstr(lines.text, "[KMS Audit]"));
        assert_non_null(strstr(lines.text, "generateDataKey"));
        assert_non_null(strstr(lines.text, "decryptDataKey"));
        dk_hex_encode(dk_secret_expose_for_crypto(&key), DK_DATA_KEY, hex);
        dk_base64_encode(dk_secret_expose_for_crypto(&key), DK_DATA_KEY, base64);
        assert_null(strstr(lines.text, hex));
        assert_null(strstr(lines.text, base64));
        assert_null(strstr(lines.text, wrapped.blob));
        dk_secret_free(desk.arena, &key);
        desk_close(&desk);
    }
}

/* ---- the local provider
 * -------------------------------------------------------------------------- */

static void copy_golden_key(const struct desk *desk, unsigned mode)
{
    char text[DK_MASTER_FILE_MAX];
    FILE *file = dk_golden_open("master.key");
    size_t n = fread(text, 1, sizeof text, file);
    fclose(file);
    assert_int_not_equal(n, 0);
    dk_test_file_write(desk->master_key, text, n, mode);
}

static void R9_golden_wraps_open(void **state)
{
    (void)state;
    static struct dk_golden_case c;
    struct desk desk;
    size_t cases = 0;
    desk_new(&desk);
    copy_golden_key(&desk, 0600);
    DK_TEST_OK(err, dk_provider_open(&dk_provider_local, &desk.setup, &desk.provider, &err));
    FILE *file = dk_golden_open("local_wrap.txt");
    while (dk_golden_next(file, &c)) {
        char name[300], tenant[300], purpose[300], timestamp[300];
        uint8_t expected[DK_DATA_KEY], aad[DK_WRAP_AAD_MAX], golden_aad[DK_WRAP_AAD_MAX];
        struct dk_wrapped wrapped;
        struct dk_secret key = {0};
        size_t aad_n = 0;
        assert_true(dk_golden_pair(&c, 0, name, tenant));
        assert_string_equal(name, "TenantId");
        assert_true(dk_golden_pair(&c, 1, name, purpose));
        assert_true(dk_golden_pair(&c, 2, name, timestamp));
        struct dk_wrap_context context = {dk_view_str(tenant), purpose, timestamp};
        snprintf(wrapped.kms_key_id, sizeof wrapped.kms_key_id, "%s",
                 dk_golden_get(&c, "kms_key_id", 0));
        snprintf(wrapped.blob, sizeof wrapped.blob, "%s",
                 dk_golden_get(&c, "encrypted_data_key", 0));
        DK_TEST_OK(err, dk_wrap_aad(&context, aad, &aad_n, &err));
        assert_int_equal(dk_golden_bytes(&c, "aad_hex", golden_aad, sizeof golden_aad), aad_n);
        assert_memory_equal(aad, golden_aad, aad_n);
        DK_TEST_OK(err, dk_provider_unwrap(desk.provider, &context, &wrapped, &key, &err));
        assert_int_equal(dk_golden_bytes(&c, "key_hex", expected, sizeof expected), DK_DATA_KEY);
        assert_memory_equal(dk_secret_expose_for_crypto(&key), expected, DK_DATA_KEY);
        dk_secret_free(desk.arena, &key);
        cases++;
    }
    fclose(file);
    assert_true(cases >= 3);
    desk_close(&desk);
}

static void R9_the_golden_master_key_file_is_read_and_its_highest_number_wraps(void **state)
{
    (void)state;
    static struct dk_golden_case c;
    struct desk desk;
    struct dk_provider_info info;
    char newest[DK_KMS_KEY_ID_MAX + 1] = "";
    unsigned cases = 0;
    desk_new(&desk);
    copy_golden_key(&desk, 0400); /* less than 0600 is fine */
    DK_TEST_OK(err, dk_provider_open(&dk_provider_local, &desk.setup, &desk.provider, &err));
    FILE *file = dk_golden_open("master_key.txt");
    while (dk_golden_next(file, &c)) {
        snprintf(newest, sizeof newest, "%s", dk_golden_get(&c, "kms_key_id", 0));
        cases++;
    }
    fclose(file);
    DK_TEST_OK(err, dk_provider_describe(desk.provider, &info, &err));
    assert_string_equal(info.kms_key_id, newest);
    assert_int_equal(info.key_count, cases);
    desk_close(&desk);
}

static void R9_golden_check_values(void **state)
{
    (void)state;
    static struct dk_golden_case c;
    struct desk desk;
    size_t cases = 0;
    desk_new(&desk);
    FILE *file = dk_golden_open("derived.txt");
    while (dk_golden_next(file, &c)) {
        uint8_t expected[DK_CHECK_VALUE], got[DK_CHECK_VALUE];
        struct dk_secret key = {0};
        if (dk_golden_get(&c, "check_value_hex", 0) == NULL) {
            continue;
        }
        DK_TEST_OK(err, dk_secret_new(desk.arena, DK_DATA_KEY, &key, &err));
        dk_golden_bytes(&c, "data_key_hex", dk_secret_expose_for_crypto(&key), DK_DATA_KEY);
        dk_golden_bytes(&c, "check_value_hex", expected, sizeof expected);
        DK_TEST_OK(err, dk_check_value(&desk.suite, &key, got, &err));
        assert_memory_equal(got, expected, sizeof got);
        dk_secret_free(desk.arena, &key);
        cases++;
    }
    fclose(file);
    assert_true(cases >= 2);
    desk_close(&desk);
}

static void a_master_key_file_is_made_once_and_private(void **state)
{
    (void)state;
    struct desk desk;
    struct stat st;
    char first[DK_MASTER_FILE_MAX] = "", again[DK_MASTER_FILE_MAX] = "";
    desk_open(&desk, 0);
    FILE *file = fopen(desk.master_key, "re");
    assert_non_null(file);
    assert_int_not_equal(fread(first, 1, sizeof first - 1, file), 0);
    fclose(file);
    assert_int_equal(stat(desk.master_key, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    DK_TEST_FAILS(err, CONFLICT, dk_local_create(&desk.w.world, desk.master_key, &err));
    file = fopen(desk.master_key, "re");
    assert_non_null(file);
    assert_int_not_equal(fread(again, 1, sizeof again - 1, file), 0);
    fclose(file);
    assert_string_equal(first, again);
    desk_close(&desk);
}

static void without_randomness_no_key_is_made(void **state)
{
    (void)state;
    struct desk desk;
    struct dk_secret key = {0};
    struct dk_wrapped wrapped;
    struct dk_wrap_context context = context_of("acme");
    uint8_t check_value[DK_CHECK_VALUE];
    char other[128];
    desk_open(&desk, 0);
    struct dk_test_world broken;
    dk_test_world_init(&broken);
    broken.random_fails = true;
    desk.w.world.random = broken.world.random;
    for (int i = 0; i < 100; i++) {
        DK_TEST_FAILS(
            err, RANDOM,
            dk_provider_generate(desk.provider, &context, &key, &wrapped, check_value, &err));
    }
    snprintf(other, sizeof other, "%s/other.key", desk.folder);
    DK_TEST_FAILS(err, RANDOM, dk_local_create(&desk.w.world, other, &err));
    assert_int_equal(access(other, F_OK), -1);
    desk_close(&desk);
}

static void a_missing_file_says_what_to_copy(void **state)
{
    (void)state;
    struct desk desk;
    desk_new(&desk);
    DK_TEST_FAILS(err, NO_MASTER_KEY,
                  dk_provider_open(&dk_provider_local, &desk.setup, &desk.provider, &err));
    DK_TEST_SAYS(err, desk.master_key);
    DK_TEST_SAYS(err, "copy master.key here");
    desk_close(&desk);
}

static void F75_a_file_others_may_read_is_refused(void **state)
{
    (void)state;
    static const unsigned modes[] = {0644, 0640, 0604, 0660, 0666, 0610, 0601};
    struct desk desk;
    desk_new(&desk);
    for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++) {
        copy_golden_key(&desk, modes[i]);
        DK_TEST_FAILS(err, CONFIG,
                      dk_provider_open(&dk_provider_local, &desk.setup, &desk.provider, &err));
        DK_TEST_SAYS(err, "600");
    }
    desk_close(&desk);
}

static void F75_a_symbolic_link_is_refused(void **state)
{
    (void)state;
    struct desk desk;
    char real[128];
    desk_new(&desk);
    copy_golden_key(&desk, 0600);
    snprintf(real, sizeof real, "%s/real.key", desk.folder);
    assert_int_equal(rename(desk.master_key, real), 0);
    assert_int_equal(symlink(real, desk.master_key), 0);
    DK_TEST_FAILS(err, CONFIG,
                  dk_provider_open(&dk_provider_local, &desk.setup, &desk.provider, &err));
    DK_TEST_SAYS(err, "symbolic link");
    desk_close(&desk);
}

static int open_as_another(void *arg)
{
    struct desk *desk = arg;
    dk_err_clear(&err);
    dk_rc rc = dk_provider_open(&dk_provider_local, &desk->setup, &desk->provider, &err);
    DK_TEST_CHILD(rc != DK_OK);
    DK_TEST_CHILD(desk->provider == NULL);
    DK_TEST_CHILD(rc == DK_E_CONFIG || rc == DK_E_IO);
    return 0;
}

static void F75_a_file_of_another_user_is_refused(void **state)
{
    (void)state;
    struct desk desk;
    if (geteuid() != 0) {
        print_message("only root can own a file that another opens\n");
        return;
    }
    desk_new(&desk);
    copy_golden_key(&desk, 0600);
    assert_true(dk_test_in_child(true, open_as_another, &desk)); /* the child is 65534 */
    assert_int_equal(chown(desk.master_key, 65534, 65534), 0);
    DK_TEST_FAILS(err, CONFIG, /* root may read it, and does not */
                  dk_provider_open(&dk_provider_local, &desk.setup, &desk.provider, &err));
    desk_close(&desk);
}

static void a_damaged_file_is_refused_and_its_text_not_shown(void **state)
{
    (void)state;
    struct desk desk;
    char text[DK_MASTER_FILE_MAX];
    desk_new(&desk);
    FILE *file = dk_golden_open("master.key");
    size_t n = fread(text, 1, sizeof text, file);
    fclose(file);
    for (size_t i = 0; i < n; i++) {
        text[i] ^= 1;
        dk_test_file_write(desk.master_key, text, n, 0600);
        text[i] ^= 1;
        DK_TEST_FAILS(err, CONFIG,
                      dk_provider_open(&dk_provider_local, &desk.setup, &desk.provider, &err));
        assert_null(strstr(err.text, "NGuy5Lb"));
    }
    for (size_t cut = 0; cut < n; cut += 7) {
        dk_test_file_write(desk.master_key, text, cut, 0600);
        DK_TEST_FAILS(err, CONFIG,
                      dk_provider_open(&dk_provider_local, &desk.setup, &desk.provider, &err));
    }
    char *large = calloc(1, DK_MASTER_FILE_MAX + 1);
    assert_non_null(large);
    dk_test_file_write(desk.master_key, large, DK_MASTER_FILE_MAX + 1, 0600);
    free(large);
    DK_TEST_FAILS(err, CONFIG,
                  dk_provider_open(&dk_provider_local, &desk.setup, &desk.provider, &err));
    desk_close(&desk);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_key_comes_back_as_it_was_wrapped),
        cmocka_unit_test(I01_R10_a_wrap_opens_under_its_own_context_only),
        cmocka_unit_test(I02_F50_swapped_wraps_of_two_tenants_do_not_open),
        cmocka_unit_test(a_wrap_with_any_bit_flipped_does_not_open),
        cmocka_unit_test(a_wrap_of_another_form_is_refused),
        cmocka_unit_test(a_key_id_that_is_not_here_is_named),
        cmocka_unit_test(I32_a_foreign_key_id_is_not_asked_for),
        cmocka_unit_test(I01_a_wrap_of_boto3_opens_under_its_context),
        cmocka_unit_test(F28_a_master_key_that_is_disabled_or_about_to_be_deleted_is_named),
        cmocka_unit_test(describe_names_the_key_that_wraps_and_test_passes),
        cmocka_unit_test(F30_what_is_no_data_key_is_not_wrapped),
        cmocka_unit_test(threads_share_a_provider_and_no_key_comes_twice),
        cmocka_unit_test(R12_a_crowd_asks_once_which_key_is_ours),
        cmocka_unit_test(a_child_process_gets_its_master_key_again),
        cmocka_unit_test(F30_a_data_key_that_is_none_is_refused),
        cmocka_unit_test(R5_a_wrap_moves_to_another_key_and_the_data_key_stays_there),
        cmocka_unit_test(I02_what_cannot_be_moved_leaves_no_key),
        cmocka_unit_test(F31_an_answer_under_another_key_id_is_refused),
        cmocka_unit_test(F32_the_same_key_twice_is_refused),
        cmocka_unit_test(I15_a_fresh_wrap_that_does_not_hold_the_key_is_refused),
        cmocka_unit_test(a_failure_is_passed_on_with_its_code),
        cmocka_unit_test(a_back_end_is_found_by_its_name),
        cmocka_unit_test(I28_the_audit_lines_tell_calls_and_no_key),
        cmocka_unit_test(R9_golden_wraps_open),
        cmocka_unit_test(R9_the_golden_master_key_file_is_read_and_its_highest_number_wraps),
        cmocka_unit_test(R9_golden_check_values),
        cmocka_unit_test(a_master_key_file_is_made_once_and_private),
        cmocka_unit_test(without_randomness_no_key_is_made),
        cmocka_unit_test(a_missing_file_says_what_to_copy),
        cmocka_unit_test(F75_a_file_others_may_read_is_refused),
        cmocka_unit_test(F75_a_symbolic_link_is_refused),
        cmocka_unit_test(F75_a_file_of_another_user_is_refused),
        cmocka_unit_test(a_damaged_file_is_refused_and_its_text_not_shown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
