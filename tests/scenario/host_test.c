/* Host names that are none: the kernel takes any bytes. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include <string.h>
#include <unistd.h>

#include "dekhand_admin.h"
#include "support/world.h"

#define ASSERT_CODE(call, code) assert_string_equal(dekhand_error_name(call), #code)

static const char *host;

/* Before that of the C library. */
int gethostname(char *name, size_t size)
{
    snprintf(name, size, "%s", host);
    return 0;
}

static void use_and_verify(const char *name, const char *node)
{
    struct dk_place place;
    struct dk_test_value value;
    struct dekhand_audit_result result = {.size = sizeof result};
    char query[200];
    host = name;
    dk_place_new(&place, false);
    struct dekhand *d = dk_place_open(&place);
    ASSERT_CODE(dk_test_encrypt(d, "acme", "x", &value), OK);
    dk_place_close(d);
    d = dk_place_open(&place); /* and a row of unwraps, in the process's chain */
    ASSERT_CODE(dk_test_decrypt(d, "acme", &value, "x"), OK);
    ASSERT_CODE(dekhand_audit_verify(d, NULL, NULL, &result, NULL), OK);
    assert_int_equal(result.findings, 0);
    snprintf(query, sizeof query,
             "SELECT CAST(count(*) > 0 AS INTEGER) FROM key_rotation_log WHERE node LIKE '%s%%' "
             "ESCAPE '\\'",
             node);
    assert_int_equal(dk_place_number(&place, query), 1);
    dk_place_close(d);
    dk_place_free(&place);
}

static void I26_any_host_name_makes_a_log_that_verifies(void **state)
{
    (void)state;
    use_and_verify("db-1.example.org", "db-1.example.org");
    use_and_verify("two words", "two\\_words");
    use_and_verify("line\nprocess x", "line\\_process\\_x");
    use_and_verify("\xff\x01", "\\_\\_");
    use_and_verify("", "unknown");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(I26_any_host_name_makes_a_log_that_verifies),
    };
    dk_test_folders_in_memory();
    return cmocka_run_group_tests_name("host", tests, NULL, NULL);
}
