#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/log.h"
#include "support/expect.h"

#define NOW "2026-01-01T00:00:00.000000Z"

static char line[DK_LOG_LINE + 1];
static size_t line_len;
static unsigned lines;
static enum dk_log_level last_level;

static void keep(void *arg, enum dk_log_level level, const char *text, size_t n)
{
    (void)arg;
    assert_true(n <= DK_LOG_LINE);
    memcpy(line, text, n);
    line[n] = '\0';
    line_len = n;
    last_level = level;
    lines++;
}

static struct dk_test_world world;

static struct dk_log new_log(enum dk_log_format format)
{
    dk_test_world_init(&world);
    lines = 0;
    line_len = 0;
    line[0] = '\0';
    return (struct dk_log){
        .sink = keep, .format = format, .min = DK_LOG_INFO, .clock = &world.world.clock};
}

/* One line: it ends with the only line break, and no control byte gets through. */
static void is_one_clean_line(void)
{
    assert_int_equal(lines, 1);
    assert_true(line_len > 1 && line[line_len - 1] == '\n');
    for (size_t i = 0; i < line_len - 1; i++) {
        if ((uint8_t)line[i] < 0x20 || line[i] == 0x7F) {
            fail_msg("byte %zu is 0x%02x", i, (uint8_t)line[i]);
        }
    }
    assert_true(dk_utf8_valid((const uint8_t *)line, line_len));
}

static void is_one_json_line(void)
{
    is_one_clean_line();
    assert_true(dk_test_json_valid(line, line_len));
}

static void a_text_line_reads_like_this(void **state)
{
    (void)state;
    struct dk_log log = new_log(DK_LOG_TEXT);
    DK_LOG(&log, INFO, "key_rotated", DK_LOG_S(TENANT, "acme"), DK_LOG_I(VERSION, 7),
           DK_LOG_B(SUCCESS, true), DK_LOG_B(SUCCESS, 0));
    assert_string_equal(line, NOW " info key_rotated tenantId=\"acme\" version=7 success=true "
                                  "success=false\n");
    assert_int_equal(last_level, DK_LOG_INFO);
}

static void a_json_line_reads_like_this(void **state)
{
    (void)state;
    struct dk_log log = new_log(DK_LOG_JSON);
    DK_LOG(&log, ERROR, "key_refused", DK_LOG_S(TENANT, "acme"), DK_LOG_I(COUNT, -7),
           DK_LOG_B(SUCCESS, false), DK_LOG_S(REASON, NULL));
    assert_string_equal(line, "{\"timestamp\":\"" NOW "\",\"level\":\"error\",\"event\":"
                              "\"key_refused\",\"tenantId\":\"acme\",\"count\":-7,"
                              "\"success\":false,\"reason\":\"\"}\n");
    is_one_json_line();
}

static void every_level_has_its_word_and_the_low_ones_stay_silent(void **state)
{
    (void)state;
    static const char *const words[] = {"debug", "info", "warn", "error"};
    for (int min = DK_LOG_DEBUG; min <= DK_LOG_ERROR; min++) {
        for (int level = DK_LOG_DEBUG; level <= DK_LOG_ERROR; level++) {
            struct dk_log log = new_log(DK_LOG_TEXT);
            char want[64];
            log.min = (enum dk_log_level)min;
            dk_log_event(&log, (enum dk_log_level)level, "e", NULL, 0);
            assert_int_equal(lines, level >= min);
            snprintf(want, sizeof want, NOW " %s e\n", words[level]);
            assert_string_equal(line, level >= min ? want : "");
        }
    }
}

static void without_a_sink_nothing_happens(void **state)
{
    (void)state;
    struct dk_log log = {.sink = NULL, .kms_audit = true}; /* no clock either */
    DK_LOG(&log, ERROR, "e", DK_LOG_I(COUNT, 1));
    dk_log_kms_audit(&log, "Decrypt", "acme", true, NULL);
    log = new_log(DK_LOG_TEXT);
    dk_log_kms_audit(&log, "Decrypt", "acme", true, NULL); /* DEBUG=kms:* is not set */
    assert_int_equal(lines, 0);
}

static void each_field_has_the_json_name_of_the_list(void **state)
{
    (void)state;
    static const char *const names[] = {
        "tenantId", "version", "fromVersion", "operation", "success",   "provider", "kmsKeyId",
        "code",     "count",   "setting",     "reason",    "expiresAt", "bytes"};
    assert_int_equal(DK_LOGF_BYTES + 1, sizeof names / sizeof names[0]); /* I27: a closed list */
    for (int i = 0; i <= DK_LOGF_BYTES; i++) {
        struct dk_log log = new_log(DK_LOG_JSON);
        struct dk_log_field field = {(enum dk_log_field_id)i, DK_LOG_INT, NULL, 5};
        char want[32];
        dk_log_event(&log, DK_LOG_INFO, "e", &field, 1);
        snprintf(want, sizeof want, ",\"%s\":5}", names[i]);
        assert_non_null(strstr(line, want));
        is_one_json_line();
    }
}

static const char *const hostile[] = {
    "a\r\nb",
    "2026-01-01T00:00:00Z info all_is_well\n",
    "\033[2J\033]0;title\007",
    "\"",
    "\\",
    "\",\"level\":\"info",
    "}\n{\"level\":\"info\"}",
    "\x7F\x08\x01",
    "\xFF\xFE",
    "\xC3\xA4\xE2\x80\xA8",
    "' OR 1=1 --",
    "",
    " x=\"y\"",
};

static void I27_hostile_values_stay_inside_their_field(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof hostile / sizeof hostile[0]; i++) {
        struct dk_log log = new_log(DK_LOG_JSON);
        DK_LOG(&log, WARN, "e", DK_LOG_S(TENANT, hostile[i]), DK_LOG_S(REASON, hostile[i]),
               DK_LOG_I(COUNT, 99));
        is_one_json_line();
        assert_non_null(strstr(line, "\"count\":99}"));
        log = new_log(DK_LOG_TEXT);
        DK_LOG(&log, WARN, "e", DK_LOG_S(TENANT, hostile[i]), DK_LOG_I(COUNT, 99));
        is_one_clean_line();
        assert_non_null(strstr(line, "\" count=99\n"));
        assert_int_equal(strncmp(line, NOW " warn e tenantId=\"", 44), 0);
        log.kms_audit = true;
        lines = 0;
        dk_log_kms_audit(&log, "Decrypt", hostile[i], true, NULL);
        is_one_clean_line();
        assert_true(dk_test_json_valid(line + 12, line_len - 12));
    }
}

static void I27_a_NUL_ends_the_value(void **state)
{
    (void)state;
    struct dk_log log = new_log(DK_LOG_JSON);
    DK_LOG(&log, INFO, "e", DK_LOG_S(TENANT, "ab\0secret"));
    is_one_json_line();
    assert_non_null(strstr(line, "\"tenantId\":\"ab\"}"));
}

static void I27_values_of_1_MiB_are_cut_and_the_line_stays_whole(void **state)
{
    (void)state;
    static const char fill[] = {'x', '\033', '\n', '"', (char)0xC3};
    static const struct {
        enum dk_log_field_id id;
    } many[] = {{DK_LOGF_TENANT},   {DK_LOGF_OPERATION}, {DK_LOGF_PROVIDER}, {DK_LOGF_KEY_ID},
                {DK_LOGF_CODE},     {DK_LOGF_SETTING},   {DK_LOGF_REASON},   {DK_LOGF_TENANT},
                {DK_LOGF_PROVIDER}, {DK_LOGF_REASON},    {DK_LOGF_KEY_ID},   {DK_LOGF_CODE}};
    enum { COUNT = sizeof many / sizeof many[0] };
    char *huge = malloc((1 << 20) + 1);
    assert_non_null(huge);
    for (size_t f = 0; f < sizeof fill; f++) {
        memset(huge, fill[f], 1 << 20);
        huge[1 << 20] = '\0';
        for (size_t count = 1; count <= COUNT; count++) {
            struct dk_log_field fields[COUNT + 1];
            for (size_t i = 0; i < count; i++) {
                fields[i] = (struct dk_log_field){many[i].id, DK_LOG_STR, huge, 0};
            }
            /* what fits still gets its place: five whole values leave room for a number */
            bool room = count <= 5;
            fields[count] = DK_LOG_I(COUNT, 99);
            struct dk_log log = new_log(DK_LOG_JSON);
            dk_log_event(&log, DK_LOG_WARN, "e", fields, count + 1);
            is_one_json_line();
            assert_true(!room || strstr(line, "\"count\":99}\n") != NULL);
            log = new_log(DK_LOG_TEXT);
            dk_log_event(&log, DK_LOG_WARN, "e", fields, count + 1);
            is_one_clean_line();
            assert_true(!room || strstr(line, "\" count=99\n") != NULL);
        }
    }
    free(huge);
}

static void a_value_of_240_bytes_is_whole_and_the_next_byte_is_cut(void **state)
{
    (void)state;
    char value[242];
    memset(value, 'v', 241);
    value[241] = '\0';
    for (size_t n = 239; n <= 241; n++) {
        struct dk_log log = new_log(DK_LOG_JSON);
        char text[242];
        snprintf(text, sizeof text, "%.*s", (int)n, value);
        DK_LOG(&log, INFO, "e", DK_LOG_S(KEY_ID, text));
        const char *from = strstr(line, "kmsKeyId\":\"");
        assert_non_null(from);
        assert_int_equal(strspn(from + 11, "v"), n < 240 ? n : 240);
        is_one_json_line();
    }
}

static void I27_any_mix_of_fields_makes_one_valid_line(void **state)
{
    (void)state;
    uint64_t seed = 270;
    for (int round = 0; round < 5000; round++) {
        struct dk_log_field fields[16];
        char values[16][300];
        size_t count = dk_test_random(&seed) % 17;
        for (size_t i = 0; i < count; i++) {
            size_t n = dk_test_random(&seed) % 299;
            dk_test_random_bytes(&seed, values[i], n);
            values[i][n] = '\0';
            uint64_t r = dk_test_random(&seed);
            fields[i].id = (enum dk_log_field_id)(r % (DK_LOGF_BYTES + 1));
            fields[i].type = r >> 32 & 3 ? DK_LOG_STR : r >> 40 & 1 ? DK_LOG_INT : DK_LOG_BOOL;
            fields[i].str = values[i];
            fields[i].num = (int64_t)r;
        }
        struct dk_log log = new_log(DK_LOG_JSON);
        dk_log_event(&log, DK_LOG_INFO, "e", fields, count);
        is_one_json_line();
        log = new_log(DK_LOG_TEXT);
        dk_log_event(&log, DK_LOG_INFO, "e", fields, count);
        is_one_clean_line();
    }
}

static void a_long_event_name_is_cut(void **state)
{
    (void)state;
    struct dk_log log = new_log(DK_LOG_TEXT);
    char event[300];
    memset(event, 'e', sizeof event);
    event[sizeof event - 1] = '\0';
    dk_log_event(&log, DK_LOG_INFO, event, NULL, 0);
    is_one_clean_line();
    assert_true(line_len < 100);
}

static void the_guides_audit_line_reads_like_this(void **state)
{
    (void)state;
    struct dk_log log = new_log(DK_LOG_TEXT);
    log.kms_audit = true;
    log.min = DK_LOG_ERROR; /* asked for by DEBUG=kms:*: the level does not hide it */
    dk_log_kms_audit(&log, "GenerateDataKey", "acme", true, NULL);
    assert_string_equal(line, "[KMS Audit] {\"timestamp\":\"" NOW "\",\"operation\":"
                              "\"GenerateDataKey\",\"tenantId\":\"acme\",\"success\":true}\n");
    dk_log_kms_audit(&log, "Decrypt", NULL, false, "E_UNREACHABLE");
    assert_string_equal(line, "[KMS Audit] {\"timestamp\":\"" NOW "\",\"operation\":\"Decrypt\","
                              "\"tenantId\":\"\",\"success\":false,\"code\":\"E_UNREACHABLE\"}\n");
    assert_int_equal(lines, 2);
}

static int writes_to_stderr(void *arg)
{
    int *ends = arg;
    DK_TEST_CHILD(dup2(ends[1], STDERR_FILENO) == STDERR_FILENO);
    struct dk_log log = new_log(DK_LOG_TEXT);
    log.sink = dk_log_to_stderr;
    DK_LOG(&log, WARN, "e", DK_LOG_I(COUNT, 1));
    return 0;
}

static void the_standard_sink_writes_whole_lines_to_standard_error(void **state)
{
    (void)state;
    int ends[2];
    char got[128] = "";
    assert_int_equal(pipe(ends), 0);
    assert_true(dk_test_in_child(false, writes_to_stderr, ends));
    close(ends[1]);
    assert_true(read(ends[0], got, sizeof got - 1) > 0);
    close(ends[0]);
    assert_string_equal(got, NOW " warn e count=1\n");
}

static int writes_to_a_closed_stderr(void *arg)
{
    (void)arg;
    struct dk_log log = new_log(DK_LOG_TEXT);
    log.sink = dk_log_to_stderr;
    close(STDERR_FILENO);
    DK_LOG(&log, WARN, "e", DK_LOG_I(COUNT, 1));
    return 0;
}

static void F77_a_log_that_cannot_be_written_stops_nothing(void **state)
{
    (void)state;
    assert_true(dk_test_in_child(false, writes_to_a_closed_stderr, NULL));
}

static atomic_uint whole_lines;

static void check_line(void *arg, enum dk_log_level level, const char *text, size_t n)
{
    (void)arg;
    (void)level;
    if (dk_test_json_valid(text, n)) {
        atomic_fetch_add(&whole_lines, 1);
    }
}

static void *log_much(void *arg)
{
    for (int i = 0; i < 500; i++) {
        DK_LOG((const struct dk_log *)arg, INFO, "e", DK_LOG_I(COUNT, i), DK_LOG_S(TENANT, "acme"));
    }
    return NULL;
}

static void threads_may_share_a_log(void **state)
{
    (void)state;
    struct dk_log log = new_log(DK_LOG_JSON);
    log.sink = check_line;
    pthread_t threads[4];
    for (int i = 0; i < 4; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, log_much, &log), 0);
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
    }
    assert_int_equal(whole_lines, 2000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_text_line_reads_like_this),
        cmocka_unit_test(a_json_line_reads_like_this),
        cmocka_unit_test(every_level_has_its_word_and_the_low_ones_stay_silent),
        cmocka_unit_test(without_a_sink_nothing_happens),
        cmocka_unit_test(each_field_has_the_json_name_of_the_list),
        cmocka_unit_test(I27_hostile_values_stay_inside_their_field),
        cmocka_unit_test(I27_a_NUL_ends_the_value),
        cmocka_unit_test(I27_values_of_1_MiB_are_cut_and_the_line_stays_whole),
        cmocka_unit_test(a_value_of_240_bytes_is_whole_and_the_next_byte_is_cut),
        cmocka_unit_test(I27_any_mix_of_fields_makes_one_valid_line),
        cmocka_unit_test(a_long_event_name_is_cut),
        cmocka_unit_test(the_guides_audit_line_reads_like_this),
        cmocka_unit_test(the_standard_sink_writes_whole_lines_to_standard_error),
        cmocka_unit_test(F77_a_log_that_cannot_be_written_stops_nothing),
        cmocka_unit_test(threads_may_share_a_log),
    };
    return cmocka_run_group_tests_name("log", tests, NULL, NULL);
}
