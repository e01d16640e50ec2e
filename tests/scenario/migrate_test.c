#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include <string.h>

#include "dekhand_admin.h"
#include "support/expect.h"

#define ASSERT_CODE(call, code) assert_string_equal(dekhand_error_name(call), #code)

static char folder[64], url[96];

static int make_folder(void **state)
{
    (void)state;
    dk_test_folder_new(folder);
    snprintf(url, sizeof url, "sqlite:%s/dekhand.db", folder);
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    dk_test_folder_remove(folder);
    return 0;
}

/* Of one database, and whatever the environment says. */
static struct dekhand_config config_of(const char *database, struct dekhand_setting list[static 2])
{
    list[0] = (struct dekhand_setting){"DATABASE_URL", database};
    list[1] = (struct dekhand_setting){"KMS_STATE_DIR", folder};
    return (struct dekhand_config){.size = sizeof(struct dekhand_config),
                                   .settings = list,
                                   .setting_count = 2,
                                   .ignore_environment = true};
}

struct text {
    size_t pieces, n;
    char end[16];
};

static void keep(void *arg, const char *piece, size_t length)
{
    struct text *text = arg;
    text->pieces++;
    text->n += length;
    if (length >= sizeof text->end) {
        piece += length - sizeof text->end + 1;
        length = sizeof text->end - 1;
    }
    memcpy(text->end, piece, length);
    text->end[length] = '\0';
}

static void a_file_is_brought_up_to_date_and_never_made(void **state)
{
    (void)state;
    struct dekhand_setting list[2];
    struct dekhand_config config = config_of(url, list);
    struct dekhand_migration out = {.size = sizeof out};
    struct dekhand_init_result made;
    struct dekhand_error error;
    ASSERT_CODE(dekhand_migrate(&config, &out, &error), E_CONFIG);
    assert_non_null(strstr(error.text, "dekhand init"));
    ASSERT_CODE(dekhand_init(&config, &made, &error), OK);
    ASSERT_CODE(dekhand_migrate(&config, &out, &error), OK);
    assert_true(out.from == out.to && out.to >= 4);
    assert_int_equal(strlen(out.registry_id), 36);
    assert_string_equal(out.database, url);
}

static void a_call_that_is_none_is_refused(void **state)
{
    (void)state;
    struct dekhand_setting list[2];
    struct dekhand_config config = config_of(url, list);
    struct dekhand_migration out = {.size = sizeof out - 1};
    struct dekhand_error error;
    ASSERT_CODE(dekhand_migrate(&config, NULL, &error), E_USAGE);
    ASSERT_CODE(dekhand_migrate(&config, &out, &error), E_USAGE);
    ASSERT_CODE(dekhand_migrate_script(&config, false, NULL, NULL, &error), E_USAGE);
    out.size = sizeof out;
    config.size = 1;
    ASSERT_CODE(dekhand_migrate(&config, &out, &error), E_USAGE);
    ASSERT_CODE(dekhand_migrate_script(&config, false, keep, NULL, NULL), E_USAGE);
    config = config_of("mysql://x", list);
    ASSERT_CODE(dekhand_migrate(&config, &out, &error), E_CONFIG);
}

static void the_script_asks_nobody(void **state)
{
    (void)state;
    static const char *const urls[] = {url, "postgresql://nobody@127.0.0.1:1/db"};
    for (size_t i = 0; i < 2; i++) {
        struct dekhand_setting list[2];
        struct dekhand_config config = config_of(urls[i], list);
        struct dekhand_error error;
        struct text plain = {.pieces = 0}, supabase = {.pieces = 0};
        ASSERT_CODE(dekhand_migrate_script(&config, false, keep, &plain, &error), OK);
        ASSERT_CODE(dekhand_migrate_script(&config, true, keep, &supabase, &error), OK);
        assert_true(plain.n > 15000 && supabase.n > 15000);
        assert_non_null(strstr(plain.end, "COMMIT;\n"));
        assert_null(strstr(supabase.end, "COMMIT;"));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_file_is_brought_up_to_date_and_never_made, make_folder,
                                        remove_folder),
        cmocka_unit_test_setup_teardown(a_call_that_is_none_is_refused, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(the_script_asks_nobody, make_folder, remove_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
