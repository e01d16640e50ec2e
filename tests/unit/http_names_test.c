#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

/* A name server that does not answer. libcurl calls the getaddrinfo() of this program. */
#include <netdb.h>
#include <unistd.h>

#include "support/expect.h"
#include "support/http_ask.h"

enum { SILENT_S = 6 };

static atomic_int looked_up;

/* As with a server that drops what it gets: long after all have gone away, there is no name. */
__attribute__((visibility("default"))) int getaddrinfo(const char *node, const char *service,
                                                       const struct addrinfo *hints,
                                                       struct addrinfo **out)
{
    (void)node, (void)service, (void)hints, (void)out;
    looked_up++;
    sleep(SILENT_S);
    return EAI_AGAIN;
}

static struct dk_err err;
static struct dk_test_world w;

static void F26_a_name_server_that_is_silent_holds_nobody_up(void **state)
{
    (void)state;
    static const struct dk_http_limits limits = {.tries = 3,
                                                 .connect_ms = 300,
                                                 .try_ms = 400,
                                                 .total_ms = 1000,
                                                 .wait_ms = 1,
                                                 .wait_max_ms = 2,
                                                 .parallel = 4};
    struct dk_endpoint to = {.host = "kms.us-east-1.amazonaws.com",
                             .authority = "kms.us-east-1.amazonaws.com",
                             .port = 443,
                             .tls = true};
    struct dk_http *http = NULL;
    dk_test_world_init(&w);
    struct dk_http_setup setup = {&w.world, limits, "the service", NULL, NULL};
    DK_TEST_OK(err, dk_http_open(&setup, &http, &err));
    int64_t from = dk_ask_now_ms();
    struct dk_ask ask = dk_ask_of(&to);
    assert_int_equal(dk_ask_run(http, &ask), DK_E_UNREACHABLE);
    dk_http_close(http);
    int64_t took = dk_ask_now_ms() - from;
    DK_TEST_SAYS(ask.err, "kms.us-east-1.amazonaws.com");
    assert_true(looked_up > 0);
    assert_true(took < 3000);
    assert_int_equal(w.live, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(F26_a_name_server_that_is_silent_holds_nobody_up),
    };
    return cmocka_run_group_tests_name("http_names", tests, NULL, NULL);
}
