#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include <stdlib.h>
#include <sys/stat.h>

#include "base/options.h"
#include "support/expect.h"

static struct dk_err err;
static char folder[64];
static char env_file[96];

static int make_folder(void **state)
{
    (void)state;
    dk_test_folder_new(folder);
    snprintf(env_file, sizeof env_file, "%s/.env", folder);
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    dk_test_folder_remove(folder);
    return 0;
}

static struct dk_settings fresh(void)
{
    struct dk_settings s;
    dk_settings_init(&s, &dk_mem_default);
    return s;
}

static void every_option_is_complete_and_its_default_is_valid(void **state)
{
    (void)state;
    struct dk_settings s = fresh();
    for (int i = 0; i < DK_OPT_COUNT; i++) {
        const struct dk_option *o = &dk_options[i];
        assert_true(strlen(o->help) > 10);
        for (int k = 0; k < i; k++) {
            assert_string_not_equal(dk_options[k].name, o->name);
            assert_true(o->flag == NULL || dk_options[k].flag == NULL ||
                        strcmp(dk_options[k].flag, o->flag) != 0);
        }
        assert_false(dk_settings_is_set(&s, (enum dk_option_id)i));
        if (o->type == DK_OPT_INT) {
            assert_non_null(o->def); /* dk_settings_int() leans on it */
            assert_true(strlen(o->unit) > 0);
            assert_true(o->min < o->max);
        }
        if (o->def != NULL) {
            DK_TEST_OK(err, dk_settings_set(&s, o->name, o->def, DK_FROM_FLAG, &err));
        }
    }
    dk_settings_clear(&s);
}

static void the_defaults_are_the_documented_ones(void **state)
{
    (void)state;
    struct dk_settings s = fresh();
    assert_int_equal(dk_settings_int(&s, DK_OPT_ROTATION_DAYS), 90);
    assert_int_equal(dk_settings_int(&s, DK_OPT_WARNING_DAYS), 7);
    assert_int_equal(dk_settings_int(&s, DK_OPT_CACHE_TTL_SECONDS), 3600);
    assert_int_equal(dk_settings_int(&s, DK_OPT_CACHE_HARD_TTL_SECONDS), 14400);
    assert_int_equal(dk_settings_int(&s, DK_OPT_CACHE_MAX_KEYS), 100000);
    assert_int_equal(dk_settings_int(&s, DK_OPT_POLL_SECONDS), 5);
    assert_null(dk_settings_str(&s, DK_OPT_PROVIDER));
    dk_settings_clear(&s);
}

static void F74_each_number_has_its_bounds(void **state)
{
    (void)state;
    for (int i = 0; i < DK_OPT_COUNT; i++) {
        const struct dk_option *o = &dk_options[i];
        if (o->type != DK_OPT_INT) {
            continue;
        }
        struct dk_settings s = fresh();
        char text[32];
        static const int steps[] = {-1, 0, 1};
        for (int k = 0; k < 3; k++) {
            snprintf(text, sizeof text, "%lld", (long long)o->min + steps[k]);
            dk_err_clear(&err);
            dk_rc want = steps[k] < 0 ? DK_E_CONFIG : DK_OK;
            assert_int_equal(dk_settings_set(&s, o->name, text, DK_FROM_FLAG, &err), want);
            if (want != DK_OK) {
                DK_TEST_SAYS(err, o->name);
                DK_TEST_SAYS(err, "below");
            } else {
                assert_int_equal(dk_settings_int(&s, (enum dk_option_id)i), o->min + steps[k]);
            }
            snprintf(text, sizeof text, "%lld", (long long)o->max + steps[k]);
            dk_err_clear(&err);
            want = steps[k] > 0 ? DK_E_CONFIG : DK_OK;
            assert_int_equal(dk_settings_set(&s, o->name, text, DK_FROM_FLAG, &err), want);
            if (want != DK_OK) {
                DK_TEST_SAYS(err, o->name);
                DK_TEST_SAYS(err, "above");
            }
        }
        dk_settings_clear(&s);
    }
}

static void F74_what_is_no_whole_number_is_refused_without_showing_it(void **state)
{
    (void)state;
    static const char *const bad[] = {"abc",
                                      "5x",
                                      "x5",
                                      "0x10",
                                      "1e3",
                                      "5.0",
                                      "+5",
                                      " 5",
                                      "5 ",
                                      "-",
                                      "--5",
                                      "5,0",
                                      "\xD9\xA5",
                                      "5\n",
                                      "9223372036854775808",
                                      "99999999999999999999999"};
    struct dk_settings s = fresh();
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        DK_TEST_FAILS(err, CONFIG,
                      dk_settings_set(&s, "KMS_POLL_SECONDS", bad[i], DK_FROM_FLAG, &err));
        assert_string_equal(err.text, "KMS_POLL_SECONDS: not a whole number of seconds");
        assert_false(dk_settings_is_set(&s, DK_OPT_POLL_SECONDS));
    }
    dk_settings_clear(&s);
}

static void F74_an_empty_value_names_the_setting(void **state)
{
    (void)state;
    for (int i = 0; i < DK_OPT_COUNT; i++) {
        struct dk_settings s = fresh();
        DK_TEST_FAILS(err, CONFIG, dk_settings_set(&s, dk_options[i].name, "", DK_FROM_FLAG, &err));
        DK_TEST_SAYS(err, dk_options[i].name);
        DK_TEST_SAYS(err, "is empty");
        dk_settings_clear(&s);
    }
}

static void F74_an_unknown_name_is_refused_with_a_suggestion(void **state)
{
    (void)state;
    struct dk_settings s = fresh();
    DK_TEST_FAILS(err, CONFIG, dk_settings_set(&s, "KMS_ROTATION_DAY", "5", DK_FROM_FLAG, &err));
    DK_TEST_SAYS(err, "KMS_ROTATION_DAY is not a setting");
    DK_TEST_SAYS(err, "KMS_ROTATION_DAYS?");
    DK_TEST_FAILS(
        err, CONFIG,
        dk_settings_set(&s, "kms_poll_seconds", "5", DK_FROM_FLAG, &err)); /* exact case */
    DK_TEST_FAILS(err, CONFIG,
                  dk_settings_set(&s, "KMS_SOMETHING_FAR_AWAY_FROM_ALL", "5", DK_FROM_FLAG, &err));
    DK_TEST_SAYS(err, "dekhand config");
    DK_TEST_FAILS(err, CONFIG, dk_settings_set(&s, "", "5", DK_FROM_FLAG, &err));
    char name[400];
    memset(name, 'K', sizeof name);
    name[sizeof name - 1] = '\0';
    DK_TEST_FAILS(err, CONFIG, dk_settings_set(&s, name, "5", DK_FROM_FLAG, &err));
    assert_true(strlen(err.text) < 200);
    dk_settings_clear(&s);
}

static void suggestions_are_near_or_none(void **state)
{
    (void)state;
    for (int i = 0; i < DK_OPT_COUNT; i++) {
        const char *name = dk_options[i].name;
        char typo[64];
        assert_string_equal(dk_option_suggest(name), name);
        snprintf(typo, sizeof typo, "%.*s", (int)strlen(name) - 1, name); /* one letter missing */
        assert_string_equal(dk_option_suggest(typo), name);
        snprintf(typo, sizeof typo, "%sX", name); /* one too many */
        assert_string_equal(dk_option_suggest(typo), name);
        snprintf(typo, sizeof typo, "%s", name);
        typo[2] = '#'; /* another one */
        assert_string_equal(dk_option_suggest(typo), name);
    }
    assert_null(dk_option_suggest("XXXXXXXXXXXXXXXXXXXXXXXXXXXXXX"));
    assert_string_equal(dk_option_suggest("KMS_CACHE_TTL_SECOND"), "KMS_CACHE_TTL_SECONDS");
    char far[66];
    memset(far, 'K', 65);
    far[65] = '\0';
    assert_null(dk_option_suggest(far));
}

static void a_flag_beats_the_environment_beats_the_file(void **state)
{
    (void)state;
    static const enum dk_option_source order[][3] = {
        {DK_FROM_FILE, DK_FROM_ENVIRONMENT, DK_FROM_FLAG},
        {DK_FROM_FILE, DK_FROM_FLAG, DK_FROM_ENVIRONMENT},
        {DK_FROM_ENVIRONMENT, DK_FROM_FILE, DK_FROM_FLAG},
        {DK_FROM_ENVIRONMENT, DK_FROM_FLAG, DK_FROM_FILE},
        {DK_FROM_FLAG, DK_FROM_FILE, DK_FROM_ENVIRONMENT},
        {DK_FROM_FLAG, DK_FROM_ENVIRONMENT, DK_FROM_FILE}};
    static const char *const values[] = {"", "11", "22", "33"};
    for (size_t i = 0; i < 6; i++) {
        struct dk_settings s = fresh();
        enum dk_option_source highest = DK_FROM_DEFAULT;
        for (int k = 0; k < 3; k++) {
            enum dk_option_source from = order[i][k];
            highest = from > highest ? from : highest;
            DK_TEST_OK(err, dk_settings_set(&s, "KMS_POLL_SECONDS", values[from], from, &err));
            assert_string_equal(dk_settings_str(&s, DK_OPT_POLL_SECONDS), values[highest]);
            assert_int_equal(s.source[DK_OPT_POLL_SECONDS], highest);
        }
        dk_settings_clear(&s);
    }
}

static void F74_a_bad_value_is_refused_even_where_another_would_win(void **state)
{
    (void)state;
    struct dk_settings s = fresh();
    DK_TEST_OK(err, dk_settings_set(&s, "KMS_POLL_SECONDS", "9", DK_FROM_FLAG, &err));
    DK_TEST_FAILS(err, CONFIG, dk_settings_set(&s, "KMS_POLL_SECONDS", "0", DK_FROM_FILE, &err));
    assert_int_equal(dk_settings_int(&s, DK_OPT_POLL_SECONDS), 9);
    dk_settings_clear(&s);
}

struct warnings {
    unsigned count;
    char name[80];
    char suggestion[80];
};

static void keep_warning(void *arg, const char *name, const char *suggestion)
{
    struct warnings *w = arg;
    w->count++;
    snprintf(w->name, sizeof w->name, "%s", name);
    snprintf(w->suggestion, sizeof w->suggestion, "%s", suggestion != NULL ? suggestion : "-");
}

static void the_environment_gives_known_names_and_warns_of_unknown_ones(void **state)
{
    (void)state;
    char path[] = "PATH=/bin", log[] = "KMS_LOG=json", poll[] = "KMS_POLL_SECONDS=7",
         typo[] = "KMS_POLL_SECOND=8", no_value[] = "KMS_LOG", nameless[] = "=x",
         with_equals[] = "DATABASE_URL=sqlite:a=b";
    char *list[] = {path, log, poll, typo, no_value, nameless, with_equals, NULL};
    struct dk_settings s = fresh();
    struct warnings w = {0};
    DK_TEST_OK(err, dk_settings_read_environment(&s, list, keep_warning, &w, &err));
    assert_string_equal(dk_settings_str(&s, DK_OPT_LOG), "json");
    assert_int_equal(dk_settings_int(&s, DK_OPT_POLL_SECONDS), 7);
    assert_string_equal(dk_settings_str(&s, DK_OPT_DATABASE_URL), "sqlite:a=b");
    assert_int_equal(s.source[DK_OPT_LOG], DK_FROM_ENVIRONMENT);
    assert_int_equal(w.count, 1);
    assert_string_equal(w.name, "KMS_POLL_SECOND");
    assert_string_equal(w.suggestion, "KMS_POLL_SECONDS");
    DK_TEST_OK(err, dk_settings_read_environment(&s, list, NULL, NULL, &err)); /* nobody listens */
    dk_settings_clear(&s);
}

static unsigned warned_of(const char *entry)
{
    char copy[200];
    snprintf(copy, sizeof copy, "%s", entry);
    char *list[] = {copy, NULL};
    struct dk_settings s = fresh();
    struct warnings w = {0};
    DK_TEST_OK(err, dk_settings_read_environment(&s, list, keep_warning, &w, &err));
    for (int i = 0; i < DK_OPT_COUNT; i++) {
        assert_false(dk_settings_is_set(&s, (enum dk_option_id)i));
    }
    dk_settings_clear(&s);
    return w.count;
}

static void what_kubernetes_makes_is_passed_over(void **state)
{
    (void)state;
    static const char *const passed[] = {"KMS_PORT=tcp://10.0.0.1:8200",
                                         "KMS_PORT_8200_TCP=tcp://10.0.0.1:8200",
                                         "KMS_PORT_8200_TCP_ADDR=10.0.0.1",
                                         "KMS_SERVICE_HOST=10.0.0.1",
                                         "KMS_SERVICE_PORT=8200",
                                         "KMS_SERVICE_PORT_HTTP=8200",
                                         "DEKHAND_SERVICE_HOST=10.0.0.1",
                                         "DEKHAND_PORT=tcp://10.0.0.1:8200",
                                         "KMS_API_PORT_80_TCP_PROTO=tcp",
                                         "OTHER=1",
                                         "MY_KMS_THING=1",
                                         "kms_log=json"};
    for (size_t i = 0; i < sizeof passed / sizeof passed[0]; i++) {
        assert_int_equal(warned_of(passed[i]), 0);
    }
    assert_int_equal(warned_of("KMS_PORTS=1"), 1);
    assert_int_equal(warned_of("KMS_PORT_X=1"), 1);
    assert_int_equal(warned_of("KMS_=1"), 1);
    assert_int_equal(warned_of("DEKHAND_LOG=json"), 1);
}

static void another_programs_DEBUG_is_not_ours(void **state)
{
    (void)state;
    assert_int_equal(warned_of("DEBUG=express:*"), 0);
    assert_int_equal(warned_of("DEBUG="), 0);
    char debug[] = "DEBUG=kms:*";
    char *list[] = {debug, NULL};
    struct dk_settings s = fresh();
    DK_TEST_OK(err, dk_settings_read_environment(&s, list, NULL, NULL, &err));
    assert_string_equal(dk_settings_str(&s, DK_OPT_DEBUG), "kms:*");
    dk_settings_clear(&s);
}

static void F74_an_invalid_value_of_the_environment_is_an_error(void **state)
{
    (void)state;
    char empty[] = "KMS_LOG=", bad[] = "KMS_ROTATION_DAYS=never", name_65[90];
    char *lists[][2] = {{empty, NULL}, {bad, NULL}};
    for (size_t i = 0; i < 2; i++) {
        struct dk_settings s = fresh();
        DK_TEST_FAILS(err, CONFIG, dk_settings_read_environment(&s, lists[i], NULL, NULL, &err));
        DK_TEST_SAYS(err, i == 0 ? "KMS_LOG" : "KMS_ROTATION_DAYS");
        dk_settings_clear(&s);
    }
    memset(name_65, 'K', sizeof name_65);
    memcpy(name_65, "KMS_", 4);
    strcpy(name_65 + 65, "=1");
    assert_int_equal(warned_of(name_65), 0); /* too long to be a slip */
}

static dk_rc read_text(struct dk_settings *s, const char *text)
{
    *s = fresh();
    dk_test_file_write(env_file, text, strlen(text), 0600);
    dk_err_clear(&err);
    return dk_settings_read_file(s, env_file, true, &err);
}

static void a_file_line_gives(const char *text, const char *want)
{
    struct dk_settings s;
    if (read_text(&s, text) != DK_OK) {
        fail_msg("%s: %s", text, err.text);
    }
    const char *got = dk_settings_str(&s, DK_OPT_DATABASE_URL);
    if (want == NULL) {
        assert_null(got);
    } else {
        assert_non_null(got);
        assert_string_equal(got, want);
        assert_int_equal(s.source[DK_OPT_DATABASE_URL], DK_FROM_FILE);
    }
    assert_string_equal(s.file, env_file);
    dk_settings_clear(&s);
    assert_null(s.file);
}

static void a_dotenv_file_reads_as_people_write_it(void **state)
{
    (void)state;
    a_file_line_gives("DATABASE_URL=sqlite:x", "sqlite:x");
    a_file_line_gives("DATABASE_URL=sqlite:x\n", "sqlite:x");
    a_file_line_gives("DATABASE_URL=sqlite:x\r\n", "sqlite:x");
    a_file_line_gives("\n\r\n# a comment\n  \t# another\nDATABASE_URL=a\n", "a");
    a_file_line_gives("export DATABASE_URL=a\n", "a");
    a_file_line_gives("  DATABASE_URL = a b \n", "a b");
    a_file_line_gives("DATABASE_URL=a # note\n", "a");
    a_file_line_gives("DATABASE_URL=a\t# note\n", "a");
    a_file_line_gives("DATABASE_URL=a#b\n", "a#b");
    a_file_line_gives("DATABASE_URL=\"a # b \"\n", "a # b ");
    a_file_line_gives("DATABASE_URL='a \"b\"' # note\n", "a \"b\"");
    a_file_line_gives("DATABASE_URL=\"it's\"\r\n", "it's");
    a_file_line_gives("DATABASE_URL=a=b=c\n", "a=b=c");
    a_file_line_gives("DATABASE_URL=a\nDATABASE_URL=b\n", "b"); /* the last one, as in a shell */
    a_file_line_gives("", NULL);
    a_file_line_gives("NEXT_PUBLIC_THING=1\nSECRET=\nA='open\n", NULL); /* the application's own */
    a_file_line_gives("DEBUG=express:*\nDEBUG=\n", NULL);
}

static void what_other_programs_keep_in_the_file_is_passed_over(void **state)
{
    (void)state;
    a_file_line_gives("hunter2\nset -a\nDATABASE_URL=a\n", "a");
    a_file_line_gives("if [ x ]; then\n  . ./other\nfi\nDATABASE_URL=a\n", "a");
    a_file_line_gives("PEM=\"-----BEGIN\nDATABASE_URL=theirs\n==\n-----END\"\nDATABASE_URL=a\n",
                      "a");
    a_file_line_gives("export PEM='one\r\nKMS_NONE=x\r\ntwo'\r\nDATABASE_URL=a\r\n", "a");
    a_file_line_gives("J=\"{ \\\"a\\\":\nDATABASE_URL=theirs\n}\"\nDATABASE_URL=a", "a");
    a_file_line_gives("DATABASE_URL=a\nPEM=\"one\ntwo\"", "a");
    a_file_line_gives("A=\"closed\"\nDATABASE_URL=\"a\"\n", "a");
    a_file_line_gives("A=it's\nDATABASE_URL=a\nB=isn't\n", "a");
    a_file_line_gives("A='never closed\nDATABASE_URL=a\n", "a");
}

static void F74_a_bad_line_is_named_by_file_line_and_setting(void **state)
{
    (void)state;
    static const struct {
        const char *text, *line, *says;
    } rows[] = {
        {"\n\nKMS_POLL_SECONDS=no\n", "line 3", "KMS_POLL_SECONDS"},
        {"KMS_POLL_SECOND=5\n", "line 1", "KMS_POLL_SECONDS?"},
        {"# x\nDEKHAND_LOG=json", "line 2", "DEKHAND_LOG"},
        {"KMS_LOG=\n", "line 1", "KMS_LOG is empty"},
        {"KMS_LOG=   # only a note\n", "line 1", "KMS_LOG is empty"},
        {"KMS_LOG=# only a note\n", "line 1", "KMS_LOG is empty"},
        {"KMS_LOG=''\n", "line 1", "KMS_LOG is empty"},
        {"KMS_LOG=\"json\n", "line 1", "KMS_LOG: the quote is not closed"},
        {"KMS_LOG='json\"\n", "line 1", "KMS_LOG: the quote is not closed"},
        {"A=1\nB=2\nKMS_LOG hunter2\n", "line 3", "NAME=value"},
        {"DATABASE_URL\n", "line 1", "NAME=value"},
        {"A=\"1\n2\n3\"\nKMS_LOG=\n", "line 4", "KMS_LOG is empty"},
        {"A='1\n2' # x\n\nKMS_LOG=\n", "line 4", "KMS_LOG is empty"},
        {"A='never closed\nKMS_LOG=\n", "line 2", "KMS_LOG is empty"},
        {"KMS_ROTATION_DAYS=731\n", "line 1", "above 730 days"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct dk_settings s;
        assert_int_equal(read_text(&s, rows[i].text), DK_E_CONFIG);
        DK_TEST_SAYS(err, env_file);
        DK_TEST_SAYS(err, rows[i].line);
        DK_TEST_SAYS(err, rows[i].says);
        assert_null(strstr(err.text, "hunter2")); /* never a mistyped secret */
        assert_null(s.file);
        dk_settings_clear(&s);
    }
}

static void F74_a_file_that_is_no_settings_file_is_refused(void **state)
{
    (void)state;
    struct dk_settings s = fresh();
    dk_test_file_write(env_file, "A=1\0B=2\n", 8, 0600);
    DK_TEST_FAILS(err, CONFIG, dk_settings_read_file(&s, env_file, true, &err));
    DK_TEST_SAYS(err, "NUL");
    char *large = malloc(256 * 1024 + 1);
    assert_non_null(large);
    memset(large, '#', 256 * 1024 + 1);
    dk_test_file_write(env_file, large, 256 * 1024 + 1, 0600);
    DK_TEST_FAILS(err, CONFIG, dk_settings_read_file(&s, env_file, true, &err));
    DK_TEST_SAYS(err, "256 KiB");
    dk_test_file_write(env_file, large, 256 * 1024 - 1, 0600);
    DK_TEST_OK(err, dk_settings_read_file(&s, env_file, true, &err));
    free(large);
    DK_TEST_FAILS(err, IO, dk_settings_read_file(&s, folder, true, &err));
    dk_settings_clear(&s);
}

static void F74_a_missing_file_is_an_error_only_if_it_was_asked_for(void **state)
{
    (void)state;
    struct dk_settings s = fresh();
    char none[96], below[128];
    snprintf(none, sizeof none, "%s/none.env", folder);
    snprintf(below, sizeof below, "%s/below", env_file); /* ENOTDIR */
    dk_test_file_write(env_file, "", 0, 0600);
    DK_TEST_FAILS(err, CONFIG, dk_settings_read_file(&s, none, true, &err));
    DK_TEST_SAYS(err, none);
    DK_TEST_OK(err, dk_settings_read_file(&s, none, false, &err));
    DK_TEST_OK(err, dk_settings_read_file(&s, below, false, &err));
    assert_null(s.file);
    dk_settings_clear(&s);
}

static int may_not_read(void *arg)
{
    (void)arg;
    struct dk_settings s = fresh();
    dk_err_clear(&err);
    DK_TEST_CHILD(dk_settings_read_file(&s, env_file, false, &err) == DK_E_CONFIG);
    DK_TEST_CHILD(strstr(err.text, env_file) != NULL);
    return 0;
}

static void F74_a_file_that_may_not_be_read_is_no_missing_file(void **state)
{
    (void)state;
    dk_test_file_write(env_file, "KMS_LOG=json\n", 13, 0000);
    assert_true(dk_test_in_child(true, may_not_read, NULL));
    assert_int_equal(chmod(env_file, 0600), 0);
}

static void F01_each_failed_allocation_is_told_and_leaks_nothing(void **state)
{
    (void)state;
    static const char text[] = "KMS_LOG=json\nDATABASE_URL=a\nKMS_POLL_SECONDS=9\n";
    dk_test_file_write(env_file, text, sizeof text - 1, 0600);
    unsigned failed = 0;
    for (unsigned n = 1; n <= 6; n++) {
        struct dk_test_world w;
        dk_test_world_init(&w);
        w.fail_alloc_at = n;
        struct dk_settings s;
        dk_settings_init(&s, &w.world.mem);
        dk_err_clear(&err);
        dk_rc rc = dk_settings_read_file(&s, env_file, true, &err);
        failed += rc != DK_OK;
        assert_true(rc == DK_OK || rc == DK_E_NOMEM);
        dk_settings_clear(&s);
        assert_int_equal(w.live, 0);
    }
    assert_int_equal(failed, 4); /* the text and three values; the file's name is only for show */
}

static void a_url_is_shown_without_its_passwords(void **state)
{
    (void)state;
    static const struct {
        const char *url, *shown;
    } rows[] = {
        {"sqlite:/a:b@c/dekhand.db?password=x", "sqlite:/a:b@c/dekhand.db?password=x"},
        {"postgresql://h/db", "postgresql://h/db"},
        {"postgresql://u@h:5432/db", "postgresql://u@h:5432/db"},
        {"postgresql://u:pw@h:5432/db", "postgresql://u:********@h:5432/db"},
        {"postgres://u:@h/db", "postgres://u:********@h/db"},
        {"postgresql://:pw@h/db", "postgresql://:********@h/db"},
        {"postgresql://u:p:w@h1:1,h2:2/db", "postgresql://u:********@h1:1,h2:2/db"},
        {"postgresql://u:p@w@h/db", "postgresql://u:********@h/db"},
        {"postgresql://u:p?w@h/db?sslmode=require", "postgresql://u:********@h/db?sslmode=require"},
        {"postgresql://u:p/w@h/db", "postgresql://u:********@h/db"},
        {"postgresql://u:12/w@h/db", "postgresql://u:********@h/db"},
        {"postgresql://u@[::1]:5432/db", "postgresql://u@[::1]:5432/db"},
        {"postgresql://h/db?user=u&password=pw&sslmode=require",
         "postgresql://h/db?user=u&password=********&sslmode=require"},
        {"postgresql://h/db?PassWord=pw", "postgresql://h/db?PassWord=********"},
        {"postgresql://h/db?pass%77ord=pw", "postgresql://h/db?pass%77ord=********"},
        {"postgresql://h/db?sslpassword=pw&sslkey=/k", "postgresql://h/db?sslpassword=********"
                                                       "&sslkey=/k"},
        {"postgresql://h/db?password=", "postgresql://h/db?password=********"},
        {"postgresql://h/db?password", "postgresql://h/db?password"},
        {"postgresql://h/db?&&a=b&", "postgresql://h/db?&&a=b&"},
        {"host=h password=pw", "********"},
        {"postgres:u:pw@h/db", "********"},
        {"postgresql:", "postgresql:"},
        {"", ""},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char out[128], small[8];
        dk_url_shown(rows[i].url, out, sizeof out);
        assert_string_equal(out, rows[i].shown);
        dk_url_shown(rows[i].url, small, sizeof small);
        assert_int_equal(strlen(small), strlen(out) < 7 ? strlen(out) : 7);
        assert_memory_equal(small, out, strlen(small));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_option_is_complete_and_its_default_is_valid),
        cmocka_unit_test(the_defaults_are_the_documented_ones),
        cmocka_unit_test(F74_each_number_has_its_bounds),
        cmocka_unit_test(F74_what_is_no_whole_number_is_refused_without_showing_it),
        cmocka_unit_test(F74_an_empty_value_names_the_setting),
        cmocka_unit_test(F74_an_unknown_name_is_refused_with_a_suggestion),
        cmocka_unit_test(suggestions_are_near_or_none),
        cmocka_unit_test(a_flag_beats_the_environment_beats_the_file),
        cmocka_unit_test(F74_a_bad_value_is_refused_even_where_another_would_win),
        cmocka_unit_test(the_environment_gives_known_names_and_warns_of_unknown_ones),
        cmocka_unit_test(what_kubernetes_makes_is_passed_over),
        cmocka_unit_test(another_programs_DEBUG_is_not_ours),
        cmocka_unit_test(F74_an_invalid_value_of_the_environment_is_an_error),
        cmocka_unit_test(a_dotenv_file_reads_as_people_write_it),
        cmocka_unit_test(what_other_programs_keep_in_the_file_is_passed_over),
        cmocka_unit_test(F74_a_bad_line_is_named_by_file_line_and_setting),
        cmocka_unit_test(F74_a_file_that_is_no_settings_file_is_refused),
        cmocka_unit_test(F74_a_missing_file_is_an_error_only_if_it_was_asked_for),
        cmocka_unit_test(F74_a_file_that_may_not_be_read_is_no_missing_file),
        cmocka_unit_test(F01_each_failed_allocation_is_told_and_leaks_nothing),
        cmocka_unit_test(a_url_is_shown_without_its_passwords),
    };
    return cmocka_run_group_tests_name("options", tests, make_folder, remove_folder);
}
