#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

/* I29: where a request may go, URL by URL and address by address. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/un.h>

#include "net/endpoint.h"
#include "support/expect.h"

static struct dk_err err;
static const char *const suffixes[] = {".amazonaws.com", ".vault.azure.net", NULL};
static const struct dk_endpoint_policy service = {
    .kind = DK_ENDPOINT_SERVICE,
    .setting = "THE_URL",
    .suffixes = suffixes,
    .allowed = "kms.example.org, [fd12::1],10.1.2.3 , FD12::1,Kms2.Example.ORG"};
static const struct dk_endpoint_policy metadata = {
    .kind = DK_ENDPOINT_METADATA, .setting = "THE_METADATA", .allowed = "kms.example.org"};

static dk_rc parse(const struct dk_endpoint_policy *policy, const char *url,
                   struct dk_endpoint *out)
{
    dk_err_clear(&err);
    return dk_endpoint_parse(url, policy, out, &err);
}

/* ---- good URLs ------------------------------------------------------------------------------- */

static void a_good_url_becomes_an_endpoint(void **state)
{
    (void)state;
    static const struct {
        const char *url;
        const char *host;
        const char *authority;
        const char *path;
        uint16_t port;
        bool tls, loopback;
    } cases[] = {
        {"https://kms.us-east-1.amazonaws.com", "kms.us-east-1.amazonaws.com",
         "kms.us-east-1.amazonaws.com", "", 443, true, false},
        {"https://kms.us-east-1.amazonaws.com/", "kms.us-east-1.amazonaws.com",
         "kms.us-east-1.amazonaws.com", "", 443, true, false},
        {"HTTPS://KMS.US-EAST-1.AmazonAWS.com:443/", "kms.us-east-1.amazonaws.com",
         "kms.us-east-1.amazonaws.com", "", 443, true, false},
        {"https://vpce-0123-abc.kms.eu-west-1.vpce.amazonaws.com:8443",
         "vpce-0123-abc.kms.eu-west-1.vpce.amazonaws.com",
         "vpce-0123-abc.kms.eu-west-1.vpce.amazonaws.com:8443", "", 8443, true, false},
        {"https://kms.example.org", "kms.example.org", "kms.example.org", "", 443, true, false},
        {"https://kms2.example.org", "kms2.example.org", "kms2.example.org", "", 443, true, false},
        {"https://10.1.2.3:1", "10.1.2.3", "10.1.2.3:1", "", 1, true, false},
        {"https://[FD12::1]:65535/", "fd12::1", "[fd12::1]:65535", "", 65535, true, false},
        {"https://v.vault.azure.net/a/b//", "v.vault.azure.net", "v.vault.azure.net", "/a/b", 443,
         true, false},
        {"https://localhost:8200", "localhost", "localhost:8200", "", 8200, true, true},
        {"http://localhost", "localhost", "localhost", "", 80, false, true},
        {"http://LOCALHOST:80/x", "localhost", "localhost", "/x", 80, false, true},
        {"http://localhost:443", "localhost", "localhost:443", "", 443, false, true},
        {"http://127.0.0.1:4566", "127.0.0.1", "127.0.0.1:4566", "", 4566, false, true},
        {"http://127.8.9.10", "127.8.9.10", "127.8.9.10", "", 80, false, true},
        {"http://[::1]:4566/", "::1", "[::1]:4566", "", 4566, false, true},
        {"http://[0:0:0:0:0:0:0:1]", "::1", "[::1]", "", 80, false, true},
        {"http://[::ffff:127.0.0.1]", "::ffff:127.0.0.1", "[::ffff:127.0.0.1]", "", 80, false,
         true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct dk_endpoint to;
        if (parse(&service, cases[i].url, &to) != DK_OK) {
            fail_msg("%s: %s", cases[i].url, err.text);
        }
        assert_string_equal(to.host, cases[i].host);
        assert_string_equal(to.authority, cases[i].authority);
        assert_string_equal(to.path, cases[i].path);
        assert_int_equal(to.port, cases[i].port);
        assert_int_equal(to.tls, cases[i].tls);
        assert_int_equal(to.loopback, cases[i].loopback);
        assert_int_equal(to.kind, DK_ENDPOINT_SERVICE);
    }
}

/* ---- bad URLs -------------------------------------------------------------------------------- */

static void is_refused(const struct dk_endpoint_policy *policy, const char *url)
{
    struct dk_endpoint to;
    memset(&to, 0x5A, sizeof to);
    if (parse(policy, url, &to) != DK_E_CONFIG) {
        fail_msg("taken: %s (%s, port %u)", url, to.host, to.port);
    }
    assert_int_equal(err.rc, DK_E_CONFIG);
    assert_memory_equal(err.text, policy->setting, strlen(policy->setting));
    assert_null(strstr(err.text, "hunter2"));
    for (size_t i = 0; i < sizeof to; i++) {
        assert_int_equal(((const uint8_t *)&to)[i], 0x5A); /* untouched */
    }
}

static void I29_a_url_that_is_more_or_less_than_a_place_is_refused(void **state)
{
    (void)state;
    static const char *const urls[] = {
        "",
        " ",
        "kms",
        "kms.us-east-1.amazonaws.com",
        "//kms.us-east-1.amazonaws.com",
        "https:",
        "https://",
        "https:///",
        "https://:443",
        "https://?x",
        "https://#",
        /* schemes */
        "http://kms.us-east-1.amazonaws.com",
        "ftp://kms.us-east-1.amazonaws.com",
        "file:///etc/passwd",
        "file://localhost/etc/passwd",
        "gopher://localhost:25/x",
        "unix:///run/x",
        "javascript:1",
        "httpss://localhost",
        "ws://localhost",
        "ldap://localhost",
        "dict://localhost:11211/",
        /* with a user, a query, a fragment */
        "https://eve@kms.us-east-1.amazonaws.com",
        "https://eve:hunter2@kms.us-east-1.amazonaws.com",
        "https://:hunter2@localhost",
        "https://@localhost:1@evil.example",
        "https://localhost?x=hunter2",
        "https://localhost/?x",
        "https://localhost#x",
        "https://kms.us-east-1.amazonaws.com@evil.example",
        "https://evil.example#@kms.us-east-1.amazonaws.com",
        "https://evil.example?.amazonaws.com",
        "https://evil.example/.amazonaws.com",
        "https://evil.example\\@kms.us-east-1.amazonaws.com",
        /* ports */
        "https://localhost:0",
        "https://localhost:65536",
        "https://localhost:443443",
        "https://localhost:-1",
        "https://localhost:x",
        "https://localhost:0x50",
        "https://localhost:4 43",
        /* bytes */
        "https://local host",
        "https://localhost\r\nHost: x",
        "https://localhost/\n",
        "https://localhost/ x",
        "https://kms.\tamazonaws.com",
        "https://k\xC3\xB6.amazonaws.com",
        "https://kms\xE3\x80\x82"
        "amazonaws.com",
        "https://kms.us-east-1.amazonaws.com%00.evil.example",
        "https://kms.us-east-1.amazonaws.com%2eevil.example",
        "https://%31%32%37.0.0.1",
        "https://kms%2famazonaws.com",
        "https://kms_x.amazonaws.com",
        "https://*.amazonaws.com",
        "https://kms,x.amazonaws.com",
        "https://kms;x.amazonaws.com",
    };
    for (size_t i = 0; i < sizeof urls / sizeof urls[0]; i++) {
        is_refused(&service, urls[i]);
    }
}

static void I29_a_host_that_is_none_of_the_services_is_refused(void **state)
{
    (void)state;
    static const char *const hosts[] = {
        "evil.example",
        "evilamazonaws.com",
        "amazonaws.com",
        "amazonaws.com.evil.example",
        "kms.us-east-1.amazonaws.com.evil",
        "kms.us-east-1.amazonaws.com.cn",
        "kms.us-east-1.amazonaws.com.",
        "kms.us-east-1.amazonaws.com..",
        ".amazonaws.com",
        "amazonaws.co",
        "kms.us-east-1.amazonaws-com",
        "x.kms.example.org",
        "kms.example.org.",
        "kms.example",
        "example.org",
        "org",
        "s.example.org",
        "kms2",
        "localhost.",
        "localhost.x",
        "x.localhost",
        "localhost.localdomain",
        "ip6-localhost",
        "localhost.amazonaws.co",
        /* addresses */
        "10.1.2.4",
        "192.168.0.1",
        "8.8.8.8",
        "169.254.169.254",
        "169.254.170.2",
        "0.0.0.0",
        "255.255.255.255",
        "[fd12::2]",
        "[::]",
        "[fe80::1]",
        "[fe80::1%25eth0]",
        "[fd00:ec2::254]",
        "[::ffff:10.1.2.4]",
        "[64:ff9b::7f00:1]",
        "[::ffff:169.254.169.254]",
        "fd12::1",
        "[fd12::1",
        "fd12::1]",
        "[]",
        "[x]",
        "[10.1.2.3]",
        "[::1]x",
        "x[::1]",
    };
    for (size_t i = 0; i < sizeof hosts / sizeof hosts[0]; i++) {
        char url[128];
        snprintf(url, sizeof url, "https://%s", hosts[i]);
        is_refused(&service, url);
    }
}

/* Some read these as 127.0.0.1, others as names: here they are neither. */
static void I29_an_address_is_written_as_one(void **state)
{
    (void)state;
    static const char *const hosts[] = {
        "2130706433", "0x7f000001",   "0x7f.1",          "0x7f.0.0.1", "127.1",       "127.0.1",
        "0177.0.0.1", "017700000001", "127.0.0.01",      "127.0.0.1.", "127.0.0.256", "127.0.0.1.1",
        "0xa9fea9fe", "2852039166",   "169.254.43518",   "1",          "0",           "256",
        "1.2.3",      "a.1",          "amazonaws.com.1",
    };
    for (size_t i = 0; i < sizeof hosts / sizeof hosts[0]; i++) {
        static const char *const forms[] = {"https://%s", "http://%s", "http://%s:80/"};
        for (size_t k = 0; k < 3; k++) {
            char url[128];
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
            snprintf(url, sizeof url, forms[k], hosts[i]);
#pragma GCC diagnostic pop
            is_refused(&service, url);
            is_refused(&metadata, url);
        }
    }
}

static void a_url_that_is_too_long_is_refused(void **state)
{
    (void)state;
    static char url[DK_URL_MAX + 64];
    struct dk_endpoint to;
    snprintf(url, sizeof url, "https://localhost/");
    size_t n = strlen(url);
    memset(url + n, 'p', 254);
    url[n + 254] = '\0';
    assert_int_equal(parse(&service, url, &to), DK_OK); /* a path of 255 */
    assert_int_equal(strlen(to.path), 255);
    url[n + 254] = 'p';
    url[n + 255] = '\0';
    is_refused(&service, url);
    memset(url + n, 'p', sizeof url - n - 1);
    is_refused(&service, url);
    snprintf(url, sizeof url, "https://");
    for (size_t i = 8; i < 8 + 240; i++) {
        url[i] = i % 50 == 49 ? '.' : 'h';
    }
    snprintf(url + 248, 64, "%s", ".amazonaws.com");
    assert_true(strlen(url + 8) > DK_HOST_MAX);
    is_refused(&service, url);
}

static void what_is_allowed_further_is_named_in_the_error(void **state)
{
    (void)state;
    struct dk_endpoint to;
    assert_int_equal(parse(&service, "https://evil.example", &to), DK_E_CONFIG);
    DK_TEST_SAYS(err, "evil.example");
    DK_TEST_SAYS(err, "KMS_ALLOWED_ENDPOINTS");
    assert_int_equal(parse(&service, "http://kms.example.org", &to), DK_E_CONFIG);
    DK_TEST_SAYS(err, "https://");
    struct dk_endpoint_policy none = service;
    none.allowed = NULL;
    is_refused(&none, "https://kms.example.org");
    none.allowed = "";
    is_refused(&none, "https://kms.example.org");
    none.allowed = " , ,";
    is_refused(&none, "https://kms.example.org");
    none.allowed = "kms.example.orgx xkms.example.org,kms.example.org";
    assert_int_equal(parse(&none, "https://kms.example.org", &to), DK_OK);
}

/* ---- who hands out credentials --------------------------------------------------------------- */

static void I29_metadata_is_at_its_fixed_addresses_or_here(void **state)
{
    (void)state;
    static const char *const good[] = {
        "http://169.254.169.254",    "http://169.254.169.254/",
        "http://169.254.170.2/v2/x", "http://169.254.170.23/v1/credentials",
        "http://[fd00:ec2::254]",    "http://[fd00:ec2::23]/v1/credentials",
        "http://[FD00:EC2::23]",     "http://localhost:51679/x",
        "http://127.0.0.1:1",        "http://[::1]",
        "https://localhost",
    };
    static const char *const bad[] = {
        "http://169.254.169.253",
        "http://169.254.170.1",
        "http://169.254.170.24",
        "http://[fd00:ec2::253]",
        "http://10.0.0.1",
        "http://kms.example.org",
        "https://kms.example.org",
        "http://metadata",
        "http://instance-data.ec2.internal",
        "http://169.254.169.254.nip.io",
        "http://[::ffff:169.254.169.254]",
        "http://kms.us-east-1.amazonaws.com",
        "http://169.254.169.254/?x",
        "http://x@169.254.169.254",
        "ftp://169.254.169.254",
        "http://[fe80::a9fe:a9fe]",
        "http://169.254.169.254:0",
    };
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        struct dk_endpoint to;
        if (parse(&metadata, good[i], &to) != DK_OK) {
            fail_msg("%s: %s", good[i], err.text);
        }
        assert_int_equal(to.kind, DK_ENDPOINT_METADATA);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        is_refused(&metadata, bad[i]);
    }
}

/* App Service has one of its own, of 169.254.0.0/16. */
static void I29_an_identity_service_may_have_a_link_local_address(void **state)
{
    (void)state;
    struct dk_endpoint_policy local = metadata;
    local.link_local = true;
    static const char *const good[] = {"http://169.254.129.5:8081/msi/token", "http://169.254.0.1",
                                       "http://169.254.169.254", "http://127.0.0.1:41741"};
    static const char *const bad[] = {"http://169.253.1.1", "http://169.255.1.1",
                                      "http://[fe80::1]",   "http://[::ffff:169.254.1.1]",
                                      "http://10.0.0.1",    "http://169.254.1.1.nip.io",
                                      "http://2851995905",  "http://kms.example.org"};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        struct dk_endpoint to;
        DK_TEST_OK(err, dk_endpoint_parse(good[i], &local, &to, &err));
        assert_int_equal(to.kind, DK_ENDPOINT_METADATA);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        is_refused(&local, bad[i]);
    }
}

/* ---- addresses ------------------------------------------------------------------------------- */

enum { TO_SERVICE = 1, TO_LOOPBACK = 2, TO_METADATA = 4 };

static bool may(const struct dk_endpoint *endpoint, const char *text)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(443)};
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(443)};
    if (inet_pton(AF_INET, text, &in.sin_addr) == 1) {
        return dk_endpoint_may_connect(endpoint, (const struct sockaddr *)&in);
    }
    assert_int_equal(inet_pton(AF_INET6, text, &in6.sin6_addr), 1);
    return dk_endpoint_may_connect(endpoint, (const struct sockaddr *)&in6);
}

static void I29_each_address_is_for_whom_it_is(void **state)
{
    (void)state;
    static const struct {
        const char *address;
        int who;
    } rows[] = {
        /* of services: public and private */
        {"52.94.1.1", TO_SERVICE},
        {"1.0.0.0", TO_SERVICE},
        {"10.0.0.1", TO_SERVICE},
        {"172.16.0.1", TO_SERVICE},
        {"192.168.255.255", TO_SERVICE},
        {"100.64.0.1", TO_SERVICE},
        {"126.255.255.255", TO_SERVICE},
        {"128.0.0.0", TO_SERVICE},
        {"169.253.255.255", TO_SERVICE},
        {"169.255.0.0", TO_SERVICE},
        {"223.255.255.255", TO_SERVICE},
        {"2600:1f18::1", TO_SERVICE},
        {"fd12:3456::1", TO_SERVICE},
        {"fd00:ec1::1", TO_SERVICE},
        {"fd00:ec3::1", TO_SERVICE},
        {"::ffff:10.0.0.1", TO_SERVICE},
        {"64:ff9b::a00:1", TO_SERVICE},
        {"64:ff9b:1::7f00:1", TO_SERVICE},
        /* loopback */
        {"127.0.0.1", TO_LOOPBACK},
        {"127.0.0.0", TO_LOOPBACK},
        {"127.255.255.255", TO_LOOPBACK},
        {"::1", TO_LOOPBACK},
        {"::ffff:127.0.0.1", TO_LOOPBACK},
        {"::127.0.0.1", 0},
        {"64:ff9b::7f00:1", 0},
        /* link-local, and what clouds put there */
        {"169.254.169.254", TO_METADATA},
        {"169.254.0.0", 0},
        {"169.254.255.255", 0},
        {"169.254.170.2", 0},
        {"::ffff:169.254.169.254", 0},
        {"64:ff9b::a9fe:a9fe", 0},
        {"::a9fe:a9fe", 0},
        {"fe80::1", 0},
        {"febf::1", 0},
        {"fec0::1", 0},
        {"fd00:ec2::254", 0},
        {"fd00:ec2::23", 0},
        {"fd00:ec2::", 0},
        {"fd00:ec2:ffff::1", 0},
        /* no host's */
        {"0.0.0.0", 0},
        {"0.255.255.255", 0},
        {"::", 0},
        {"::ffff:0.0.0.0", 0},
        {"224.0.0.1", 0},
        {"239.255.255.255", 0},
        {"240.0.0.1", 0},
        {"255.255.255.255", 0},
        {"ff02::1", 0},
        {"ff0e::1", 0},
        {"::ffff:224.0.0.1", 0},
    };
    const struct dk_endpoint to_service = {.kind = DK_ENDPOINT_SERVICE, .host = "kms.example.org"};
    const struct dk_endpoint to_loopback = {
        .kind = DK_ENDPOINT_SERVICE, .loopback = true, .host = "localhost"};
    const struct dk_endpoint to_metadata = {.kind = DK_ENDPOINT_METADATA,
                                            .host = "169.254.169.254"};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        int who = (may(&to_service, rows[i].address) ? TO_SERVICE : 0) |
                  (may(&to_loopback, rows[i].address) ? TO_LOOPBACK : 0) |
                  (may(&to_metadata, rows[i].address) ? TO_METADATA : 0);
        if (who != rows[i].who) {
            fail_msg("%s: %d, not %d", rows[i].address, who, rows[i].who);
        }
    }
    const struct dk_endpoint six = {.kind = DK_ENDPOINT_METADATA, .host = "fd00:ec2::254"};
    assert_true(may(&six, "fd00:ec2::254"));
    assert_false(may(&six, "fd00:ec2::23"));
    assert_false(may(&six, "169.254.169.254"));
}

static void I29_no_other_family_is_connected_to(void **state)
{
    (void)state;
    const struct sockaddr_un local = {.sun_family = AF_UNIX, .sun_path = "/run/x"};
    const struct dk_endpoint kinds[] = {{.kind = DK_ENDPOINT_SERVICE, .host = "kms.example.org"},
                                        {.kind = DK_ENDPOINT_SERVICE, .loopback = true},
                                        {.kind = DK_ENDPOINT_METADATA, .host = "169.254.169.254"}};
    for (size_t i = 0; i < 3; i++) {
        assert_false(dk_endpoint_may_connect(&kinds[i], (const struct sockaddr *)&local));
    }
}

static void a_suffix_begins_at_a_label(void **state)
{
    (void)state;
    assert_true(dk_host_ends_with("a.x.y", ".x.y"));
    assert_false(dk_host_ends_with(".x.y", ".x.y"));
    assert_false(dk_host_ends_with("x.y", ".x.y"));
    assert_false(dk_host_ends_with("ax.y", ".x.y"));
    assert_false(dk_host_ends_with("a.x.y.z", ".x.y"));
    assert_false(dk_host_ends_with("", ".x.y"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_good_url_becomes_an_endpoint),
        cmocka_unit_test(I29_a_url_that_is_more_or_less_than_a_place_is_refused),
        cmocka_unit_test(I29_a_host_that_is_none_of_the_services_is_refused),
        cmocka_unit_test(I29_an_address_is_written_as_one),
        cmocka_unit_test(a_url_that_is_too_long_is_refused),
        cmocka_unit_test(what_is_allowed_further_is_named_in_the_error),
        cmocka_unit_test(I29_metadata_is_at_its_fixed_addresses_or_here),
        cmocka_unit_test(I29_an_identity_service_may_have_a_link_local_address),
        cmocka_unit_test(I29_each_address_is_for_whom_it_is),
        cmocka_unit_test(I29_no_other_family_is_connected_to),
        cmocka_unit_test(a_suffix_begins_at_a_label),
    };
    return cmocka_run_group_tests_name("endpoint", tests, NULL, NULL);
}
