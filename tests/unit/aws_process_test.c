#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

/* The credential_process of a profile: its words, and what it prints. */
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "provider/aws_process.h"
#include "support/expect.h"
#include "support/http_ask.h"

static struct dk_err err;
static struct dk_buf out;
static int seconds = DK_AWS_PROCESS_SECONDS;

static int begin(void **state)
{
    (void)state;
    dk_buf_init(&out, &dk_mem_default, 4096);
    return 0;
}

static int end(void **state)
{
    (void)state;
    dk_buf_clear(&out);
    return 0;
}

/* ---- words ----------------------------------------------------------------------------------- */

/* Words joined by `|`; NULL = no command. */
static void cuts(const char *command, const char *expected)
{
    char *words[DK_AWS_WORDS + 1], joined[256] = "";
    char *text = malloc(strlen(command) + 1); /* exactly: a sanitizer sees one byte too far */
    assert_non_null(text);
    size_t n = dk_aws_process_words(command, text, words);
    if ((n > 0) != (expected != NULL)) {
        fail_msg("%s: %zu words", command, n);
    }
    for (size_t i = 0; i < n; i++) {
        strcat(joined, i > 0 ? "|" : "");
        strcat(joined, words[i]);
    }
    if (expected != NULL && strcmp(joined, expected) != 0) {
        fail_msg("%s: %s", command, joined);
    }
    assert_true(n == 0 || words[n] == NULL);
    free(text);
}

static void a_command_is_cut_into_its_words(void **state)
{
    (void)state;
    cuts("a", "a");
    cuts(" a \t b  ", "a|b");
    cuts("/bin/x --flag=v 1", "/bin/x|--flag=v|1");
    cuts("\"/my tools/x\" 'a b'", "/my tools/x|a b");
    cuts("a\"b c\"d", "ab cd");
    cuts("a \"\" ''", "a||");
    cuts("a\\ b c", "a b|c");
    cuts("'a\\b' \"a\\\"b\"", "a\\b|a\"b");
    cuts("'a\"b' \"a'b\"", "a\"b|a'b");
    cuts("a\\", "a\\");
    cuts("\\'a", "'a");
    cuts("$HOME `x` $(y) a;b a|b a>b * ~ &", "$HOME|`x`|$(y)|a;b|a|b|a>b|*|~|&"); /* no shell */
    cuts("", NULL);
    cuts(" \t", NULL);
    cuts("\"a", NULL);
    cuts("a 'b", NULL);
    cuts("'a\\'", "a\\");
}

static void a_command_has_at_most_32_words(void **state)
{
    (void)state;
    char command[128] = "", expected[128] = "";
    for (int i = 0; i < DK_AWS_WORDS; i++) {
        strcat(command, "w ");
        strcat(expected, i > 0 ? "|w" : "w");
    }
    cuts(command, expected);
    strcat(command, "w");
    cuts(command, NULL);
}

/* ---- runs ------------------------------------------------------------------------------------ */

static void prints(const char *command, const char *text)
{
    dk_buf_clear(&out);
    DK_TEST_OK(err, dk_aws_process_run(command, seconds, &out, &err));
    assert_int_equal(out.n, strlen(text));
    assert_memory_equal(out.p != NULL ? out.p : (const uint8_t *)"", text, out.n);
}

static void what_it_prints_is_read(void **state)
{
    (void)state;
    prints("printf '%s\\n' 'a b' c", "a b\nc\n");
    prints("/bin/echo $HOME", "$HOME\n");
    prints("true", "");
    prints("sh -c 'printf 1; sleep 0.1; printf 2'", "12");
    prints("sh -c 'echo to standard error >&2'", "");
    prints("cat", ""); /* its input is empty */
}

static void what_fails_is_told(void **state)
{
    (void)state;
    static const struct {
        const char *command;
        dk_rc rc;
        const char *words;
    } cases[] = {
        {"", DK_E_CONFIG, "it is no command"},
        {"'open", DK_E_CONFIG, "it is no command"},
        {"/nowhere/program x", DK_E_CONFIG, "/nowhere/program cannot be run"},
        {"/", DK_E_CONFIG, "/ cannot be run"},
        {"sh -c /nowhere/program", DK_E_CONFIG, "sh cannot be run"},
        {"false", DK_E_PROVIDER, "false failed"},
        {"sh -c 'echo hunter2; exit 3' hunter2", DK_E_PROVIDER, "sh failed"},
        {"sh -c 'kill -9 $$'", DK_E_PROVIDER, "sh failed"},
        {"head -c 5000 /dev/zero", DK_E_PROVIDER, "more than"},
        {"cat /dev/zero", DK_E_PROVIDER, "more than"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        dk_buf_clear(&out);
        dk_err_clear(&err);
        if (dk_aws_process_run(cases[i].command, seconds, &out, &err) != cases[i].rc ||
            strstr(err.text, cases[i].words) == NULL) {
            fail_msg("%s: %d %s", cases[i].command, (int)err.rc, err.text);
        }
        assert_null(strstr(err.text, "hunter2"));
    }
}

/* Whoever started it waits for its end only as long as it may run. */
static void one_that_closes_its_output_and_stays_is_ended(void **state)
{
    (void)state;
    int64_t from = dk_ask_now_ms();
    prints("sh -c 'printf x; exec >&-; sleep 0.3'", "x");
    assert_true(dk_ask_now_ms() - from >= 290);
    seconds = 1;
    static const char *const commands[] = {"sh -c 'exec >&-; exec sleep 30'", "sleep 30",
                                           "sh -c 'while true; do echo; sleep 0.1; done'"};
    for (size_t i = 0; i < 3; i++) {
        dk_buf_clear(&out);
        from = dk_ask_now_ms();
        DK_TEST_FAILS(err, UNREACHABLE, dk_aws_process_run(commands[i], seconds, &out, &err));
        DK_TEST_SAYS(err, "did not end in time");
        assert_true(dk_ask_now_ms() - from < 5000);
    }
    seconds = DK_AWS_PROCESS_SECONDS;
}

/* What is ours to know is not its: descriptors are closed, also those of a careless caller's. */
static void it_gets_no_descriptor_of_ours(void **state)
{
    (void)state;
    int ours = open("/dev/null", O_RDONLY | O_CLOEXEC);
    assert_true(ours > 2);
    prints("sh -c 'for f in 0 1 2; do test -e /proc/self/fd/$f && printf $f; done'", "012");
    char command[128];
    snprintf(command, sizeof command, "sh -c 'test -e /proc/$$/fd/%d || printf none'", ours);
    prints(command, "none");
    close(ours);
}

static void without_memory_it_says_so(void **state)
{
    (void)state;
    struct dk_test_world w;
    bool ran = false;
    dk_test_world_init(&w);
    for (unsigned n = 1; !ran && n < 10; n++) {
        struct dk_buf into;
        dk_buf_init(&into, &w.world.mem, 4096);
        w.fail_alloc_at = w.allocs + n;
        dk_err_clear(&err);
        ran = dk_aws_process_run("printf x", seconds, &into, &err) == DK_OK;
        assert_true(ran || err.rc == DK_E_NOMEM);
        dk_buf_clear(&into);
        assert_int_equal(w.live, 0);
    }
    assert_true(ran);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_command_is_cut_into_its_words),
        TEST(a_command_has_at_most_32_words),
        TEST(what_it_prints_is_read),
        TEST(what_fails_is_told),
        TEST(one_that_closes_its_output_and_stays_is_ended),
        TEST(it_gets_no_descriptor_of_ours),
        TEST(without_memory_it_says_so),
    };
    return cmocka_run_group_tests_name("aws_process", tests, NULL, NULL);
}
