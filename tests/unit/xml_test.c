#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include <malloc.h>
#include <stdlib.h>

#include "net/xml.h"
#include "support/expect.h"

static struct dk_err err;
static char id[16], token[16];
static const struct dk_xml_field fields[] = {
    {"Credentials", "AccessKeyId", id, sizeof id},
    {"Credentials", "SessionToken", token, sizeof token},
};

static dk_rc read_bytes(const void *p, size_t n)
{
    uint8_t *exact = malloc(n + (n == 0));
    assert_non_null(exact);
    memcpy(exact, p, n);
    memset(id, 'x', sizeof id);
    memset(token, 'x', sizeof token);
    dk_err_clear(&err);
    dk_rc rc = dk_xml_read(dk_view_of(exact, n), fields, 2, &err);
    free(exact);
    return rc;
}

static dk_rc read_text(const char *text)
{
    return read_bytes(text, strlen(text));
}

static void the_texts_of_fields_are_read(void **state)
{
    (void)state;
    static const struct {
        const char *xml;
        const char *id;
        const char *token;
    } cases[] = {
        {"<a/>", "", ""},
        {"<Credentials><AccessKeyId>AKID</AccessKeyId><SessionToken>T</SessionToken></Credentials>",
         "AKID", "T"},
        {"<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<R xmlns=\"https://sts/\"><X y=\"z\">"
         "<Credentials>\n <SessionToken>T==</SessionToken>\n <AccessKeyId>AKID</AccessKeyId>\n"
         "</Credentials></X></R>\n",
         "AKID", "T=="},
        /* the five entities, numbers, sections: text comes in pieces */
        {"<Credentials><AccessKeyId>a&amp;b&lt;c&gt;&quot;&apos;</AccessKeyId></Credentials>",
         "a&b<c>\"'", ""},
        {"<Credentials><AccessKeyId>&#65;&#x42;</AccessKeyId></Credentials>", "AB", ""},
        {"<Credentials><AccessKeyId><![CDATA[<x>]]></AccessKeyId></Credentials>", "<x>", ""},
        {"<Credentials><AccessKeyId>AK<!-- c -->ID</AccessKeyId></Credentials>", "AKID", ""},
        /* elsewhere, or of another name */
        {"<AccessKeyId>AKID</AccessKeyId>", "", ""},
        {"<Credentials><x><AccessKeyId>AKID</AccessKeyId></x></Credentials>", "", ""},
        {"<credentials><AccessKeyId>AKID</AccessKeyId></credentials>", "", ""},
        {"<Credentials><accessKeyId>AKID</accessKeyId></Credentials>", "", ""},
        {"<Credentials AccessKeyId=\"AKID\"/>", "", ""},
        {"<Credentials><AccessKeyId/></Credentials>", "", ""},
        /* what stands inside of it is none of its own text */
        {"<Credentials><AccessKeyId>AK<x>evil</x></AccessKeyId></Credentials>", "AK", ""},
        /* 15 bytes fit */
        {"<Credentials><AccessKeyId>123456789012345</AccessKeyId></Credentials>", "123456789012345",
         ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        if (read_text(cases[i].xml) != DK_OK) {
            fail_msg("%s: %s", cases[i].xml, err.text);
        }
        assert_string_equal(id, cases[i].id);
        assert_string_equal(token, cases[i].token);
    }
}

static void F29_what_is_no_xml_is_refused(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "",
        " ",
        "x",
        "{}",
        "<",
        "<a",
        "<a>",
        "</a>",
        "<a></b>",
        "<a/><b/>",
        "<a>&nbsp;</a>",
        "<a>&x;</a>",
        "<a b/>",
        "<a>\x01</a>",
        "<a>\xFF</a>",
        "<a>&#0;</a>",
        "<a/>x",
        /* nobody sends documents with definitions */
        "<!DOCTYPE a><a/>",
        "<!DOCTYPE a SYSTEM \"file:///etc/passwd\"><a/>",
        "<!DOCTYPE a [<!ENTITY x \"y\">]><a>&x;</a>",
        "<!DOCTYPE a [<!ENTITY x SYSTEM \"file:///etc/passwd\">]><Credentials><AccessKeyId>&x;"
        "</AccessKeyId></Credentials>",
        /* a field twice, or too long */
        "<Credentials><AccessKeyId>1</AccessKeyId><AccessKeyId>2</AccessKeyId></Credentials>",
        "<r><Credentials><AccessKeyId>1</AccessKeyId></Credentials><Credentials><AccessKeyId>2"
        "</AccessKeyId></Credentials></r>",
        "<Credentials><AccessKeyId>1234567890123456</AccessKeyId></Credentials>",
        "<Credentials><AccessKeyId>1234567890&amp;12345</AccessKeyId></Credentials>",
        /* names that nobody has */
        "<n23456789012345678901234567890123456789012345678901234567890123456/>",
    };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        if (read_text(texts[i]) != DK_E_PROVIDER) {
            fail_msg("taken: %s", texts[i]);
        }
        assert_int_equal(err.rc, DK_E_PROVIDER);
    }
    assert_int_equal(read_bytes("<a>\0</a>", 8), DK_E_PROVIDER);
    assert_int_equal(read_bytes("<a/>\0", 5), DK_E_PROVIDER);
}

static void F29_depth_has_a_limit(void **state)
{
    (void)state;
    for (int depth = 1; depth < 64; depth++) {
        char text[1024] = "";
        for (int i = 0; i < depth; i++) {
            strcat(text, "<a>");
        }
        for (int i = 0; i < depth; i++) {
            strcat(text, "</a>");
        }
        assert_int_equal(read_text(text), depth <= 16 ? DK_OK : DK_E_PROVIDER);
    }
}

/* A cut answer is refused wherever it is cut. */
static void F29_a_part_is_none(void **state)
{
    (void)state;
    static const char whole[] =
        "<R><Credentials><AccessKeyId>AK</AccessKeyId><SessionToken>T</SessionToken></Credentials>"
        "</R>";
    for (size_t n = 0; n < sizeof whole - 1; n++) {
        assert_int_equal(read_bytes(whole, n), DK_E_PROVIDER);
    }
    assert_int_equal(read_bytes(whole, sizeof whole - 1), DK_OK);
}

/* ---- what is left in the heap ---------------------------------------------------------------- */

static const char canary[] = "sECNARY.SECRET.";
static bool watching;
static unsigned left_in_it;

/* This program's free(), which expat calls too, looks at what it is given. The sanitizers have one
   of their own. */
#ifndef DK_SANITIZED
void __libc_free(void *p); // NOLINT: glibc's name
__attribute__((visibility("default"))) void free(void *p)
{
    if (watching && p != NULL && memmem(p, malloc_usable_size(p), canary, strlen(canary)) != NULL) {
        left_in_it++;
    }
    __libc_free(p);
}
#endif

/* expat has copies of a secret access key. */
static void I28_what_expat_frees_is_wiped(void **state)
{
    (void)state;
    char text[200];
    int n = snprintf(text, sizeof text,
                     "<R><Credentials><SessionToken>%s</SessionToken></Credentials></R>", canary);
    dk_err_clear(&err);
    watching = true;
    assert_int_equal(dk_xml_read(dk_view_of(text, (size_t)n), fields, 2, &err), DK_OK);
    watching = false;
    assert_string_equal(token, canary);
    assert_int_equal(left_in_it, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_texts_of_fields_are_read),
        cmocka_unit_test(F29_what_is_no_xml_is_refused),
        cmocka_unit_test(F29_depth_has_a_limit),
        cmocka_unit_test(F29_a_part_is_none),
        cmocka_unit_test(I28_what_expat_frees_is_wiped),
    };
    return cmocka_run_group_tests_name("xml", tests, NULL, NULL);
}
