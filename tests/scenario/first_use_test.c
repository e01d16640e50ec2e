#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include <stdlib.h>

#include "support/world.h"

#define ASSERT_CODE(call, code) assert_string_equal(dekhand_error_name(call), #code)

/* ---- many at once ---------------------------------------------------------------------------- */

enum { PROCESSES = 4, THREADS = 16, ALL = PROCESSES * THREADS, TENANTS = 8 };

struct rush {
    struct dk_place place;
    struct dekhand *d; /* each process has its own */
    size_t process;
    unsigned tenants;
    struct dk_test_value *values; /* shared, one a thread */
    int *codes;
};

static void name_tenant(const struct rush *rush, size_t who, char out[static 16])
{
    snprintf(out, 16, "acme-%zu", who % rush->tenants);
}

static void encrypt_one(void *arg, size_t index)
{
    struct rush *rush = arg;
    size_t who = rush->process * THREADS + index;
    char tenant[16], plain[32];
    name_tenant(rush, who, tenant);
    snprintf(plain, sizeof plain, "value %zu", who);
    rush->codes[who] = dk_test_encrypt(rush->d, tenant, plain, &rush->values[who]);
}

static int run_process(void *arg, size_t index)
{
    struct rush *rush = arg;
    rush->process = index;
    rush->d = dk_place_open(&rush->place);
    dk_test_threads(THREADS, encrypt_one, rush);
    dk_place_close(rush->d);
    return 0;
}

static void rush_in(unsigned tenants)
{
    struct rush rush = {.tenants = tenants};
    rush.values = dk_test_shared(ALL * sizeof *rush.values);
    rush.codes = dk_test_shared(ALL * sizeof *rush.codes);
    dk_place_new(&rush.place, false);
    assert_true(dk_test_processes(PROCESSES, run_process, &rush));
    for (size_t who = 0; who < ALL; who++) {
        ASSERT_CODE(rush.codes[who], OK);
    }
    assert_int_equal(dk_place_number(&rush.place, "SELECT count(*) FROM encryption_keys"), tenants);
    assert_int_equal(dk_place_number(&rush.place, "SELECT count(*) FROM tenants"), tenants);
    assert_int_equal(dk_place_number(&rush.place, "SELECT sum(messages) FROM encryption_keys"),
                     ALL);
    for (size_t who = 0; who < ALL; who++) {
        char tenant[16], plain[32];
        name_tenant(&rush, who, tenant);
        snprintf(plain, sizeof plain, "value %zu", who);
        assert_true(dk_place_reads(&rush.place, tenant, &rush.values[who], plain));
    }
    dk_place_free(&rush.place);
}

static void R2_I05_64_threads_in_4_processes_make_one_key(void **state)
{
    (void)state;
    rush_in(1);
}

static void R2_many_new_tenants_at_once_get_one_key_each(void **state)
{
    (void)state;
    rush_in(TENANTS);
}

/* ---- I07: no row is not a new tenant --------------------------------------------------------- */

static const struct {
    const char *what;
    int code;
    const char *sql;      /* after one encryption for acme, .. */
    const char *unminded; /* .. without the triggers of this table */
} losses[] = {
    {"a retired version whose tenant row is gone", DEKHAND_E_TAMPERED,
     "UPDATE encryption_keys SET state = 'retired'; DELETE FROM tenants", "tenants"},
    {"a disabled version whose tenant row is gone", DEKHAND_E_TAMPERED,
     "UPDATE encryption_keys SET state = 'retired'; "
     "UPDATE encryption_keys SET state = 'disabled'; DELETE FROM tenants",
     "tenants"},
    {"a tombstone whose tenant row is gone", DEKHAND_E_TAMPERED,
     "UPDATE encryption_keys SET state = 'retired'; "
     "UPDATE encryption_keys SET state = 'disabled'; "
     "UPDATE encryption_keys SET state = 'purged', encrypted_data_key = '', "
     "purged_at = '2026-01-01T00:00:00.000000Z'; DELETE FROM tenants",
     "tenants"},
    {"a tenant whose active row is gone", DEKHAND_E_ROLLBACK, "DELETE FROM encryption_keys",
     "encryption_keys"},
    {"a tenant whose active row reads retired", DEKHAND_E_TAMPERED,
     "UPDATE encryption_keys SET state = 'retired'", NULL},
    {"a tombstone beside a tenant row", DEKHAND_E_TAMPERED,
     "UPDATE encryption_keys SET state = 'retired'; "
     "UPDATE encryption_keys SET state = 'disabled'; "
     "UPDATE encryption_keys SET state = 'purged', encrypted_data_key = '', "
     "purged_at = '2026-01-01T00:00:00.000000Z'",
     NULL},
};

static void I07_what_was_lost_is_an_error_and_no_first_version(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof losses / sizeof losses[0]; i++) {
        struct dk_place place;
        struct dk_test_value value;
        print_message("%s\n", losses[i].what);
        dk_place_new(&place, false);
        struct dekhand *d = dk_place_open(&place);
        ASSERT_CODE(dk_test_encrypt(d, "acme", "one", &value), OK);
        dk_place_close(d);
        if (losses[i].unminded != NULL) {
            dk_place_drop_triggers(&place, losses[i].unminded);
        }
        assert_int_equal(dk_place_sql(&place, losses[i].sql), 0);
        char *before = dk_place_dump(&place, true);
        d = dk_place_open(&place);
        assert_string_equal(dekhand_error_name(dk_test_encrypt(d, "acme", "two", &value)),
                            dekhand_error_name(losses[i].code));
        dk_place_close(d);
        assert_true(dk_place_unchanged(&place, true, before));
        dk_place_free(&place);
    }
}

static void I07_an_active_version_without_its_tenant_row_gets_no_second_one(void **state)
{
    (void)state;
    struct dk_place place;
    struct dk_test_value value;
    dk_place_new(&place, false);
    struct dekhand *d = dk_place_open(&place);
    ASSERT_CODE(dk_test_encrypt(d, "acme", "one", &value), OK);
    dk_place_close(d);
    dk_place_drop_triggers(&place, "tenants");
    assert_int_equal(dk_place_sql(&place, "DELETE FROM tenants"), 0);
    d = dk_place_open(&place);
    ASSERT_CODE(dk_test_encrypt(d, "acme", "two", &value), E_TAMPERED);
    ASSERT_CODE(dk_test_rotate(d, "acme", 0, NULL), E_NOT_FOUND);
    dk_place_close(d);
    assert_int_equal(dk_place_number(&place, "SELECT count(*) FROM encryption_keys"), 1);
    assert_int_equal(dk_place_number(&place, "SELECT count(*) FROM tenants"), 0);
    dk_place_free(&place);
}

static void I07_decrypting_makes_nothing(void **state)
{
    (void)state;
    struct dk_place place;
    struct dk_test_value value;
    dk_place_new(&place, false);
    struct dekhand *d = dk_place_open(&place);
    ASSERT_CODE(dk_test_encrypt(d, "acme", "one", &value), OK);
    dk_place_close(d);
    char *before = dk_place_dump(&place, true);
    d = dk_place_open(&place);
    ASSERT_CODE(dk_test_decrypt(d, "globex", &value, "one"), E_UNKNOWN_VERSION);
    memcpy(value.p, "dk1.7", 5);
    ASSERT_CODE(dk_test_decrypt(d, "acme", &value, "one"), E_UNKNOWN_VERSION);
    dk_place_close(d);
    assert_true(dk_place_unchanged(&place, true, before));
    dk_place_free(&place);
}

/* ---- I08, R4: a provider that fails ---------------------------------------------------------- */

static const struct {
    const char *what;
    dk_rc rc; /* the unwrap ends with it, or it answers with .. */
    enum dk_fake_key opened;
    bool other_key_id;
    int code;
} bad_unwraps[] = {
    {"unreachable", DK_E_UNREACHABLE, DK_FAKE_GOOD, false, DEKHAND_E_UNREACHABLE},
    {"a wrap that does not open", DK_E_AUTH, DK_FAKE_GOOD, false, DEKHAND_E_PROVIDER},
    {"a wrap of no known form", DK_E_FORMAT, DK_FAKE_GOOD, false, DEKHAND_E_PROVIDER},
    {"an answer that cannot be used", DK_E_PROVIDER, DK_FAKE_GOOD, false, DEKHAND_E_PROVIDER},
    {"no master key", DK_E_NO_MASTER_KEY, DK_FAKE_GOOD, false, DEKHAND_E_NO_MASTER_KEY},
    {"no memory", DK_E_NOMEM, DK_FAKE_GOOD, false, DEKHAND_E_NOMEM},
    {"0 bytes (F30)", DK_OK, DK_FAKE_BYTES_0, false, DEKHAND_E_PROVIDER},
    {"31 bytes (F30)", DK_OK, DK_FAKE_BYTES_31, false, DEKHAND_E_PROVIDER},
    {"33 bytes (F30)", DK_OK, DK_FAKE_BYTES_33, false, DEKHAND_E_PROVIDER},
    {"zeros (F30)", DK_OK, DK_FAKE_ZEROS, false, DEKHAND_E_PROVIDER},
    {"another key", DK_OK, DK_FAKE_SAME, false, DEKHAND_E_TAMPERED},
    {"another key id (F31)", DK_OK, DK_FAKE_GOOD, true, DEKHAND_E_PROVIDER},
};

/* The call fails with `code`, and not a byte of the caller's is touched (R4). */
static void refuses(struct dekhand *d, bool decrypt, const char *tenant,
                    const struct dk_test_value *value, int code)
{
    uint8_t out[DK_TEST_VALUE], untouched[DK_TEST_VALUE];
    struct dekhand_error error;
    memset(out, 0xEE, sizeof out);
    memset(untouched, 0xEE, sizeof untouched);
    struct dekhand_item item = {
        .tenant = tenant, .in = value->p, .in_size = value->n, .out = out, .capacity = sizeof out};
    int got = decrypt ? dekhand_decrypt(d, &item, &error) : dekhand_encrypt(d, &item, &error);
    assert_string_equal(dekhand_error_name(got), dekhand_error_name(code));
    assert_int_equal(got, code);
    assert_int_equal(error.code, code);
    assert_int_equal(item.code, code);
    assert_true(error.text[0] != '\0' && error.todo[0] != '\0');
    assert_memory_equal(out, untouched, sizeof out);
}

static void set_fault(struct dk_fake *fake, size_t i)
{
    dk_fake_fail(fake, DK_FAKE_UNWRAP, bad_unwraps[i].rc, bad_unwraps[i].rc == DK_OK ? 0 : -1);
    atomic_store(&fake->opened, (int)bad_unwraps[i].opened);
    atomic_store(&fake->other_key_id, bad_unwraps[i].other_key_id);
}

static void clear_fault(struct dk_fake *fake)
{
    dk_fake_fail(fake, DK_FAKE_UNWRAP, DK_OK, 0);
    atomic_store(&fake->opened, DK_FAKE_GOOD);
    atomic_store(&fake->other_key_id, false);
}

static void I08_R4_a_failed_unwrap_changes_nothing(void **state)
{
    (void)state;
    struct dk_place place;
    struct dk_test_value value;
    dk_place_new(&place, true);
    struct dekhand *d = dk_place_open(&place);
    ASSERT_CODE(dk_test_encrypt(d, "acme", "one", &value), OK);
    dk_place_close(d);
    for (size_t i = 0; i < sizeof bad_unwraps / sizeof bad_unwraps[0]; i++) {
        print_message("%s\n", bad_unwraps[i].what);
        int made = atomic_load(&place.fake->calls[DK_FAKE_GENERATE]);
        d = dk_place_open(&place);
        char *before = dk_place_dump(&place, true);
        set_fault(place.fake, i);
        refuses(d, false, "acme", &value, bad_unwraps[i].code);
        refuses(d, true, "acme", &value, bad_unwraps[i].code);
        refuses(d, true, "acme", &value, bad_unwraps[i].code); /* not remembered as good */
        assert_int_equal(atomic_load(&place.fake->calls[DK_FAKE_GENERATE]), made);
        assert_true(dk_place_unchanged(&place, true, before));
        clear_fault(place.fake); /* nor as bad */
        ASSERT_CODE(dk_test_decrypt(d, "acme", &value, "one"), OK);
        dk_place_close(d);
    }
    dk_place_free(&place);
}

static void I08_a_wrap_that_does_not_open_is_not_stored(void **state)
{
    (void)state;
    struct dk_place place;
    struct dk_test_value value;
    dk_place_new(&place, true);
    struct dekhand *d = dk_place_open(&place);
    ASSERT_CODE(dk_test_encrypt(d, "acme", "one", &value), OK);
    for (size_t i = 0; i < sizeof bad_unwraps / sizeof bad_unwraps[0]; i++) {
        char *before = dk_place_dump(&place, false);
        set_fault(place.fake, i);
        print_message("%s\n", bad_unwraps[i].what);
        int first = dk_test_encrypt(d, "globex", "one", &(struct dk_test_value){0});
        int next = dk_test_rotate(d, "acme", 0, NULL);
        int code =
            bad_unwraps[i].code == DEKHAND_E_TAMPERED ? DEKHAND_E_PROVIDER : bad_unwraps[i].code;
        assert_string_equal(dekhand_error_name(first), dekhand_error_name(code));
        assert_string_equal(dekhand_error_name(next), dekhand_error_name(code));
        assert_true(dk_place_unchanged(&place, false, before));
        clear_fault(place.fake);
        ASSERT_CODE(dk_test_decrypt(d, "acme", &value, "one"), OK);
    }
    dk_place_close(d);
    dk_place_free(&place);
}

static void R4_without_provider_a_new_tenant_gets_an_error_and_no_rows(void **state)
{
    (void)state;
    struct dk_place place;
    struct dk_test_value value = {.p = "plain text", .n = 10};
    struct dekhand_error error;
    dk_place_new(&place, true);
    struct dekhand *d = dk_place_open(&place);
    char *before = dk_place_dump(&place, true);
    dk_fake_down(place.fake);
    refuses(d, false, "acme", &value, DEKHAND_E_UNREACHABLE);
    struct dekhand_item item = {.tenant = "acme"};
    assert_int_equal(dekhand_encrypt(d, &item, &error), DEKHAND_E_UNREACHABLE);
    assert_true(error.retryable);
    assert_true(dk_place_unchanged(&place, true, before));
    dk_fake_up(place.fake);
    ASSERT_CODE(dk_test_encrypt(d, "acme", "now", &value), OK);
    ASSERT_CODE(dk_test_decrypt(d, "acme", &value, "now"), OK);
    dk_place_close(d);
    dk_place_free(&place);
}

static void R4_without_randomness_nothing_is_made(void **state)
{
    (void)state;
    struct dk_place place;
    struct dk_test_value value = {.p = "plain text", .n = 10};
    dk_place_new(&place, false);
    struct dekhand *d = dk_place_open(&place);
    char *before = dk_place_dump(&place, true);
    place.w.random_fails = true;
    refuses(d, false, "acme", &value, DEKHAND_E_RANDOM);
    assert_true(dk_place_unchanged(&place, true, before));
    place.w.random_fails = false;
    ASSERT_CODE(dk_test_encrypt(d, "acme", "now", &value), OK);
    dk_place_close(d);
    dk_place_free(&place);
}

/* ---- I06, R3: the commit that is lost -------------------------------------------------------- */

struct thief {
    struct dk_place *place;
    const char *label;
    const char *sql;
    int times;
};

static void steal(void *arg, const char *label)
{
    struct thief *thief = arg;
    if (strcmp(label, thief->label) == 0) {
        thief->times++;
        dk_place_drop_triggers(thief->place, "encryption_keys");
        if (dk_place_sql(thief->place, thief->sql) != 0) {
            abort();
        }
    }
}

static void I06_R3_a_lost_first_version_encrypts_nothing(void **state)
{
    (void)state;
    struct dk_place place;
    struct thief thief = {&place, "first_use.committed", "DELETE FROM encryption_keys", 0};
    struct dk_test_value value = {.p = "plain text", .n = 10};
    dk_place_new(&place, false);
    place.w.world.trace = steal;
    place.w.world.trace_arg = &thief;
    struct dekhand *d = dk_place_open(&place);
    refuses(d, false, "acme", &value, DEKHAND_E_ROLLBACK);
    assert_int_equal(thief.times, 1);
    dk_place_close(d);
    dk_place_free(&place);
}

static void I06_R3_a_lost_next_version_encrypts_nothing(void **state)
{
    (void)state;
    struct dk_place place;
    struct thief thief = {&place, "rotate.committed",
                          "DELETE FROM encryption_keys WHERE version = 2", 0};
    struct dk_test_value value;
    dk_place_new(&place, false);
    place.w.world.trace = steal;
    place.w.world.trace_arg = &thief;
    struct dekhand *d = dk_place_open(&place);
    ASSERT_CODE(dk_test_encrypt(d, "acme", "one", &value), OK);
    ASSERT_CODE(dk_test_rotate(d, "acme", 0, NULL), E_ROLLBACK);
    assert_int_equal(thief.times, 1);
    refuses(d, false, "acme", &value, DEKHAND_E_ROLLBACK);
    ASSERT_CODE(dk_test_decrypt(d, "acme", &value, "one"), OK);
    dk_place_close(d);
    dk_place_free(&place);
}

struct rival {
    struct dekhand *d;
    const char *label;
    int times;
    struct dk_test_value value;
};

static void be_quicker(void *arg, const char *label)
{
    struct rival *rival = arg;
    if (strcmp(label, rival->label) == 0) {
        rival->times++;
        if (dk_test_encrypt(rival->d, "acme", "theirs", &rival->value) != DEKHAND_OK) {
            abort();
        }
    }
}

/* Another instance makes the tenant while this one is on its way to do so. */
static void R2_I06_who_comes_second_uses_the_key_of_the_first(void **state)
{
    (void)state;
    static const char *const labels[] = {"first_use.begin", "first_use.generated"};
    for (size_t i = 0; i < sizeof labels / sizeof labels[0]; i++) {
        struct dk_place place, other;
        struct rival rival = {.label = labels[i]};
        struct dk_test_value mine;
        dk_place_new(&place, false);
        other = place;
        other.w.world.mem.arg = other.w.world.clock.arg = other.w.world.random.arg = &other.w;
        rival.d = dk_place_open(&other);
        place.w.world.trace = be_quicker;
        place.w.world.trace_arg = &rival;
        struct dekhand *d = dk_place_open(&place);
        ASSERT_CODE(dk_test_encrypt(d, "acme", "mine", &mine), OK);
        assert_int_equal(rival.times, 1);
        ASSERT_CODE(dk_test_decrypt(rival.d, "acme", &mine, "mine"), OK);
        ASSERT_CODE(dk_test_decrypt(d, "acme", &rival.value, "theirs"), OK);
        assert_int_equal(dk_place_number(&place, "SELECT count(*) FROM encryption_keys"), 1);
        dk_place_close(d);
        dk_place_close(rival.d);
        dk_place_free(&place);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(R2_I05_64_threads_in_4_processes_make_one_key),
        cmocka_unit_test(R2_many_new_tenants_at_once_get_one_key_each),
        cmocka_unit_test(I07_what_was_lost_is_an_error_and_no_first_version),
        cmocka_unit_test(I07_an_active_version_without_its_tenant_row_gets_no_second_one),
        cmocka_unit_test(I07_decrypting_makes_nothing),
        cmocka_unit_test(I08_R4_a_failed_unwrap_changes_nothing),
        cmocka_unit_test(I08_a_wrap_that_does_not_open_is_not_stored),
        cmocka_unit_test(R4_without_provider_a_new_tenant_gets_an_error_and_no_rows),
        cmocka_unit_test(R4_without_randomness_nothing_is_made),
        cmocka_unit_test(I06_R3_a_lost_first_version_encrypts_nothing),
        cmocka_unit_test(I06_R3_a_lost_next_version_encrypts_nothing),
        cmocka_unit_test(R2_I06_who_comes_second_uses_the_key_of_the_first),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
