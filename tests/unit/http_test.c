#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

/* What net/http takes for an answer, from whom, and by which way. Against the fake. */
#include <stdlib.h>
#include <sys/stat.h>

#include "support/cloud.h"
#include "support/expect.h"
#include "support/http_ask.h"

static struct dk_err err;
static struct dk_ask_desk desk;
static char folder_of_keys[64], key_log[96];

static int begin(void **state)
{
    (void)state;
    dk_ask_desk_open(&desk, dk_ask_quick);
    return 0;
}

static int end(void **state)
{
    (void)state;
    assert_true(dk_ask_desk_close(&desk));
    return 0;
}

static void succeeds(struct dk_http *with, const struct dk_endpoint *to)
{
    struct dk_ask ask = dk_ask_of(to);
    if (dk_ask_run(with, &ask) != DK_OK) {
        fail_msg("%s", ask.err.text);
    }
    assert_int_equal(ask.status, 200);
}

static void fails(struct dk_http *with, const struct dk_endpoint *to, dk_rc rc, const char *words)
{
    struct dk_ask ask = dk_ask_of(to);
    (void)dk_ask_run(with, &ask);
    if (ask.err.rc != rc || strstr(ask.err.text, words) == NULL) {
        fail_msg("it ended with %d: %s", (int)ask.err.rc, ask.err.text);
    }
}

/* ---- answers --------------------------------------------------------------------------------- */

static void an_answer_comes_with_its_status_head_and_body(void **state)
{
    (void)state;
    struct dk_ask ask = dk_ask_of(&desk.tls);
    assert_int_equal(dk_ask_run(desk.http, &ask), DK_OK);
    assert_int_equal(ask.status, 200);
    assert_int_equal(ask.built, 1);
    assert_memory_equal(ask.head, "HTTP/1.1 200 OK\r\n", 17);
    assert_non_null(strstr(ask.head, "\r\nServer: EC2ws\r\n"));
    assert_true(ask.body_n > 40);
    const char *said = dk_cloud_control("requests", "{}");
    assert_non_null(strstr(said, "\"user-agent\": \"dekhand/"));
    assert_non_null(strstr(said, "\"x-aws-ec2-metadata-token-ttl-seconds\": \"60\""));
    assert_null(strstr(said, "\"expect\""));
    succeeds(desk.http, &desk.plain);
}

static void an_answer_in_chunks_is_put_together(void **state)
{
    (void)state;
    dk_ask_script("{\"fault\":\"chunked\"}", 1);
    struct dk_ask ask = dk_ask_of(&desk.tls);
    assert_int_equal(dk_ask_run(desk.http, &ask), DK_OK);
    assert_non_null(strstr(ask.head, "\r\nTransfer-Encoding: chunked\r\n"));
    assert_true(ask.body_n > 40);
    assert_null(strchr(ask.body, '\n'));
}

static void an_answer_without_a_body_is_one(void **state)
{
    (void)state;
    dk_ask_script("{\"fault\":\"empty\"}", 1);
    struct dk_ask ask = dk_ask_of(&desk.tls);
    assert_int_equal(dk_ask_run(desk.http, &ask), DK_OK);
    assert_int_equal(ask.body_n, 0);
}

/* ---- what is no answer (F29) ----------------------------------------------------------------- */

/* A cut answer is asked for again, as one that never came. */
static void F29_a_broken_answer_is_none(void **state)
{
    (void)state;
    static const char *const faults[] = {
        "{\"fault\":\"truncate\"}",
        "{\"fault\":\"bad_chunk\"}",
        "{\"status\":200,\"headers\":{\"Transfer-Encoding\":\"chunked\"},\"body\":\"zz\\r\\n\"}",
        "{\"status\":200,\"headers\":{\"Transfer-Encoding\":\"chunked\",\"Content-Length\":\"3\"},"
        "\"body\":\"3\\r\\nabc\\r\\n0\\r\\n\\r\\n\"}",
    };
    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++) {
        dk_cloud_reset();
        dk_ask_script(faults[i], -1);
        struct dk_ask ask = dk_ask_of(&desk.tls);
        if (dk_ask_run(desk.http, &ask) != DK_E_PROVIDER) {
            fail_msg("%s: %d %s", faults[i], (int)ask.err.rc, ask.err.text);
        }
        assert_int_equal(ask.status, 0);
        assert_int_equal(dk_ask_count(), 3);
        dk_cloud_reset();
        dk_ask_script(faults[i], 1);
        succeeds(desk.http, &desk.tls);
        assert_int_equal(dk_ask_count(), 2);
    }
}

static void F29_an_answer_that_is_too_long_is_refused_once(void **state)
{
    (void)state;
    struct dk_ask ask = dk_ask_of(&desk.tls);
    dk_ask_script("{\"fault\":\"oversize\",\"bytes\":65537}", -1);
    assert_int_equal(dk_ask_run(desk.http, &ask), DK_E_PROVIDER);
    DK_TEST_SAYS(ask.err, "longer than an answer is");
    assert_int_equal(dk_ask_count(), 1);
    dk_cloud_reset();
    dk_ask_script("{\"fault\":\"oversize\",\"bytes\":65536}", -1);
    succeeds(desk.http, &desk.tls);
}

static void F29_headers_that_are_too_long_are_refused(void **state)
{
    (void)state;
    static char answer[4096];
    char value[1500];
    size_t n = (size_t)snprintf(answer, sizeof answer, "{\"status\":200,\"headers\":[");
    memset(value, 'v', sizeof value - 1);
    value[sizeof value - 1] = '\0';
    n += (size_t)snprintf(answer + n, sizeof answer - n, "[\"X-Long\",\"%s\"]]}", value);
    dk_ask_script(answer, 1);
    succeeds(desk.http, &desk.tls); /* 1.5 KiB are none too many */
    dk_ask_script("{\"fault\":\"oversize\",\"bytes\":1048576}", 1);
    fails(desk.http, &desk.tls, DK_E_PROVIDER, "longer than an answer is");
}

/* A server that says a second status line in the place of a body. */
static void F29_bytes_after_the_answer_are_not_the_next_one(void **state)
{
    (void)state;
    dk_ask_script("{\"status\":200,\"headers\":{\"Content-Length\":\"2\"},"
                  "\"body\":\"okHTTP/1.1 200 OK\\r\\nContent-Length: 4\\r\\n\\r\\nevil\"}",
                  1);
    struct dk_ask first = dk_ask_of(&desk.tls), second = dk_ask_of(&desk.tls);
    assert_int_equal(dk_ask_run(desk.http, &first), DK_OK);
    assert_string_equal(first.body, "ok");
    assert_int_equal(dk_ask_run(desk.http, &second), DK_OK);
    assert_string_not_equal(second.body, "evil");
    assert_true(second.body_n > 40);
}

/* ---- redirects, names and addresses (I29) ---------------------------------------------------- */

static void I29_F35_a_redirect_is_not_followed(void **state)
{
    (void)state;
    static const int statuses[] = {301, 302, 303, 307, 308};
    for (size_t i = 0; i < sizeof statuses / sizeof statuses[0]; i++) {
        char answer[160];
        snprintf(answer, sizeof answer,
                 "{\"fault\":\"redirect\",\"status\":%d,"
                 "\"to\":\"http://169.254.169.254/latest/meta-data/\"}",
                 statuses[i]);
        dk_ask_script(answer, 1);
        struct dk_ask ask = dk_ask_of(&desk.tls);
        assert_int_equal(dk_ask_run(desk.http, &ask), DK_E_PROVIDER);
        assert_int_equal(ask.status, statuses[i]);
        assert_int_equal(ask.built, 1);
    }
    assert_int_equal(dk_cloud_count("imds.Role"), 0);
}

/* The URL was good, and the name stands for another address by now. */
static void I29_an_address_that_is_none_of_a_service_is_not_connected_to(void **state)
{
    (void)state;
    static const char *const hosts[] = {"127.0.0.1", "localhost", "169.254.169.254", "::1",
                                        "fe80::1",   "0.0.0.0",   "::ffff:127.0.0.1"};
    int connections = dk_cloud_count("connections");
    struct dk_http_limits limits = dk_ask_quick;
    limits.budget = 0; /* no breaker */
    struct dk_http *other = dk_ask_desk_http(&desk, limits, NULL, NULL);
    for (size_t i = 0; i < sizeof hosts / sizeof hosts[0]; i++) {
        struct dk_endpoint to = desk.plain;
        to.loopback = false;
        snprintf(to.host, sizeof to.host, "%s", hosts[i]);
        fails(other, &to, DK_E_UNREACHABLE, "nothing was sent");
    }
    dk_http_close(other);
    assert_int_equal(dk_ask_count(), 0);
    assert_int_equal(dk_cloud_count("connections"), connections);
}

static void F26_a_name_that_nobody_knows_is_unreachable(void **state)
{
    (void)state;
    struct dk_endpoint to = desk.tls;
    to.loopback = false;
    snprintf(to.host, sizeof to.host, "kms.nowhere.invalid");
    snprintf(to.authority, sizeof to.authority, "kms.nowhere.invalid");
    fails(desk.http, &to, DK_E_UNREACHABLE, "kms.nowhere.invalid");
}

/* ---- certificates (R29) ---------------------------------------------------------------------- */

static void R29_F26_a_certificate_that_is_not_good_gets_no_request(void **state)
{
    (void)state;
    static const struct {
        const char *port;
        const char *words;
    } cases[] = {
        {"FAKE_EXPIRED", "expired"},
        {"FAKE_WRONG_HOST", "localhost"},
        {"FAKE_SELF_SIGNED", "self"},
        {"FAKE_TLS10", "alert protocol version"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct dk_endpoint to = dk_ask_endpoint(dk_cloud(cases[i].port));
        fails(desk.http, &to, DK_E_UNREACHABLE, cases[i].words);
    }
    assert_int_equal(dk_ask_count(), 0);
}

static void R29_the_fakes_authority_is_none_of_the_systems(void **state)
{
    (void)state;
    struct dk_http *other = dk_ask_desk_http(&desk, dk_ask_quick, NULL, NULL);
    fails(other, &desk.tls, DK_E_UNREACHABLE, "certificate");
    assert_int_equal(dk_ask_count(), 0);
    dk_http_close(other);
}

static void a_ca_file_that_is_none_is_named(void **state)
{
    (void)state;
    struct dk_http *other = dk_ask_desk_http(&desk, dk_ask_quick, "/nowhere/ca.pem", NULL);
    struct dk_ask ask = dk_ask_of(&desk.tls);
    assert_int_equal(dk_ask_run(other, &ask), DK_E_CONFIG);
    DK_TEST_SAYS(ask.err, "KMS_CA_FILE");
    assert_int_equal(ask.built, 1);
    dk_http_close(other);
}

/* ---- the environment (R29) ------------------------------------------------------------------- */

static int ask_in_a_strange_environment(void *arg)
{
    const char *folder = arg;
    struct dk_http *own = NULL;
    struct dk_http_setup setup = {&dk_world_default, dk_ask_quick, "the service",
                                  dk_cloud("FAKE_CA"), NULL};
    DK_TEST_CHILD(setenv("HOME", folder, 1) == 0);
    static const char *const names[] = {"http_proxy", "https_proxy", "HTTPS_PROXY", "ALL_PROXY"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        DK_TEST_CHILD(setenv(names[i], "http://127.0.0.1:1", 1) == 0);
    }
    dk_err_clear(&err);
    DK_TEST_CHILD(dk_http_open(&setup, &own, &err) == DK_OK);
    struct dk_ask over_tls = dk_ask_of(&desk.tls), in_clear = dk_ask_of(&desk.plain);
    DK_TEST_CHILD(dk_ask_run(own, &over_tls) == DK_OK);
    DK_TEST_CHILD(dk_ask_run(own, &in_clear) == DK_OK);
    dk_http_close(own);
    return 0;
}

static void R29_proxies_and_netrc_of_the_environment_are_passed_over(void **state)
{
    (void)state;
    char folder[64], path[128];
    static const char netrc[] = "machine localhost login eve password hunter2\n"
                                "machine 127.0.0.1 login eve password hunter2\n";
    dk_test_folder_new(folder);
    snprintf(path, sizeof path, "%s/.netrc", folder);
    dk_test_file_write(path, netrc, sizeof netrc - 1, 0644);
    assert_true(dk_test_in_child(false, ask_in_a_strange_environment, folder));
    assert_int_equal(dk_ask_count(), 2);
    assert_null(strstr(dk_cloud_control("requests", "{}"), "\"authorization\""));
    dk_test_folder_remove(folder);
}

/* It would be a way to any address. */
static void R29_no_proxy_of_the_environment_does_not_go_round_ours(void **state)
{
    (void)state;
    struct dk_http *other =
        dk_ask_desk_http(&desk, dk_ask_quick, dk_cloud("FAKE_CA"), "http://127.0.0.1:1");
    struct dk_ask ask = dk_ask_of(&desk.tls);
    assert_int_equal(setenv("no_proxy", "*", 1), 0);
    (void)dk_ask_run(other, &ask);
    assert_int_equal(unsetenv("no_proxy"), 0);
    dk_http_close(other);
    assert_int_equal(ask.err.rc, DK_E_UNREACHABLE);
    DK_TEST_SAYS(ask.err, "127.0.0.1 port 1");
    assert_int_equal(dk_ask_count(), 0);
}

/* It was set before the first request of this process. */
static void R29_the_keys_of_tls_are_written_to_no_file_of_the_environment(void **state)
{
    (void)state;
    struct stat s;
    succeeds(desk.http, &desk.tls);
    assert_true(stat(key_log, &s) != 0 || s.st_size == 0);
}

/* ---- connections ----------------------------------------------------------------------------- */

static void a_connection_serves_again(void **state)
{
    (void)state;
    int before = dk_cloud_count("connections");
    for (int i = 0; i < 10; i++) {
        succeeds(desk.http, &desk.tls);
    }
    assert_int_equal(dk_cloud_count("connections"), before + 1);
    assert_int_equal(dk_ask_count(), 10);
}

static void a_connection_that_was_closed_meanwhile_is_made_anew(void **state)
{
    (void)state;
    succeeds(desk.http, &desk.tls);
    dk_ask_script("{\"status\":200,\"headers\":{\"Connection\":\"close\"},\"body\":\"bye\"}", 1);
    succeeds(desk.http, &desk.tls);
    succeeds(desk.http, &desk.tls);
    assert_int_equal(dk_ask_count(), 3);
}

/* ---- no memory ------------------------------------------------------------------------------- */

static void nothing_is_left_when_an_allocation_fails(void **state)
{
    (void)state;
    dk_http_close(desk.http);
    desk.http = NULL;
    bool went_well = false;
    for (unsigned n = 1; !went_well && n < 60; n++) {
        struct dk_http *own = NULL;
        struct dk_http_setup setup = {&desk.w.world, dk_ask_quick, "the service",
                                      dk_cloud("FAKE_CA"), "x"};
        setup.proxy = NULL;
        desk.w.fail_alloc_at = desk.w.allocs + n;
        dk_err_clear(&err);
        if (dk_http_open(&setup, &own, &err) == DK_OK) {
            struct dk_ask ask = dk_ask_of(&desk.tls);
            went_well = dk_ask_run(own, &ask) == DK_OK;
            assert_true(went_well || ask.err.rc == DK_E_NOMEM);
        } else {
            assert_int_equal(err.rc, DK_E_NOMEM);
        }
        dk_http_close(own);
        assert_int_equal(desk.w.live, 0);
    }
    assert_true(went_well);
    desk.w.fail_alloc_at = 0;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(an_answer_comes_with_its_status_head_and_body),
        TEST(an_answer_in_chunks_is_put_together),
        TEST(an_answer_without_a_body_is_one),
        TEST(F29_a_broken_answer_is_none),
        TEST(F29_an_answer_that_is_too_long_is_refused_once),
        TEST(F29_headers_that_are_too_long_are_refused),
        TEST(F29_bytes_after_the_answer_are_not_the_next_one),
        TEST(I29_F35_a_redirect_is_not_followed),
        TEST(I29_an_address_that_is_none_of_a_service_is_not_connected_to),
        TEST(F26_a_name_that_nobody_knows_is_unreachable),
        TEST(R29_F26_a_certificate_that_is_not_good_gets_no_request),
        TEST(R29_the_fakes_authority_is_none_of_the_systems),
        TEST(a_ca_file_that_is_none_is_named),
        TEST(R29_proxies_and_netrc_of_the_environment_are_passed_over),
        TEST(R29_the_keys_of_tls_are_written_to_no_file_of_the_environment),
        TEST(R29_no_proxy_of_the_environment_does_not_go_round_ours),
        TEST(a_connection_serves_again),
        TEST(a_connection_that_was_closed_meanwhile_is_made_anew),
        TEST(nothing_is_left_when_an_allocation_fails),
    };
    dk_test_folder_new(folder_of_keys);
    snprintf(key_log, sizeof key_log, "%s/keys.log", folder_of_keys);
    (void)setenv("SSLKEYLOGFILE", key_log, 1);
    int failed = cmocka_run_group_tests_name("http", tests, NULL, NULL);
    dk_test_folder_remove(folder_of_keys);
    return failed;
}
