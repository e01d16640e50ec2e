#include "net/xml.h"

#include <expat.h>
#include <malloc.h>
#include <openssl/crypto.h>
#include <stdlib.h>

#define DEPTH_MAX 16
#define NAME_MAX_BYTES 64

/* ---- expat's memory -------------------------------------------------------------------------- */

/* It copies what it reads, and an answer may be a secret access key. */
static void wiping_free(void *p)
{
    if (p != NULL) {
        OPENSSL_cleanse(p, malloc_usable_size(p));
        free(p);
    }
}

static void *wiping_realloc(void *p, size_t n)
{
    void *larger = malloc(n);
    if (larger != NULL && p != NULL) {
        size_t had = malloc_usable_size(p);
        memcpy(larger, p, had < n ? had : n);
        wiping_free(p);
    }
    return larger;
}

static const XML_Memory_Handling_Suite wiping = {malloc, wiping_realloc, wiping_free};

/* ---- documents ------------------------------------------------------------------------------- */

struct reading {
    XML_Parser parser;
    const struct dk_xml_field *fields;
    size_t count;
    char path[DEPTH_MAX + 1][NAME_MAX_BYTES]; /* [0] is outside */
    size_t depth;
    const struct dk_xml_field *at; /* the field whose text comes now */
    size_t n;
    bool refused;
};

static void refuse(struct reading *reading)
{
    reading->refused = true;
    XML_StopParser(reading->parser, XML_FALSE);
}

static void begin(void *arg, const XML_Char *name, const XML_Char **attributes)
{
    struct reading *reading = arg;
    (void)attributes;
    reading->at = NULL;
    if (reading->depth == DEPTH_MAX || strlen(name) >= NAME_MAX_BYTES) {
        refuse(reading);
        return;
    }
    strcpy(reading->path[++reading->depth], name);
    for (size_t i = 0; i < reading->count; i++) {
        const struct dk_xml_field *field = &reading->fields[i];
        if (strcmp(field->name, name) == 0 &&
            strcmp(field->parent, reading->path[reading->depth - 1]) == 0) {
            reading->at = field;
            reading->n = 0;
            if (field->out[0] != '\0') {
                refuse(reading);
            }
        }
    }
}

static void end(void *arg, const XML_Char *name)
{
    struct reading *reading = arg;
    (void)name;
    reading->at = NULL;
    reading->depth--;
}

static void text(void *arg, const XML_Char *p, int n)
{
    struct reading *reading = arg;
    if (reading->at == NULL) {
        return;
    }
    if (reading->n + (size_t)n >= reading->at->cap) {
        refuse(reading);
        return;
    }
    memcpy(reading->at->out + reading->n, p, (size_t)n);
    reading->n += (size_t)n;
    reading->at->out[reading->n] = '\0';
}

static void doctype(void *arg, const XML_Char *name, const XML_Char *system, const XML_Char *public,
                    int internal)
{
    (void)name;
    (void)system;
    (void)public;
    (void)internal;
    refuse(arg);
}

dk_rc dk_xml_read(struct dk_view xml, const struct dk_xml_field *fields, size_t count,
                  struct dk_err *err)
{
    struct reading reading = {.fields = fields, .count = count};
    for (size_t i = 0; i < count; i++) {
        fields[i].out[0] = '\0';
    }
    reading.parser = XML_ParserCreate_MM("UTF-8", &wiping, NULL);
    if (reading.parser == NULL) {
        return DK_FAIL(err, NOMEM, "no memory to read an answer");
    }
    XML_SetUserData(reading.parser, &reading);
    XML_SetElementHandler(reading.parser, begin, end);
    XML_SetCharacterDataHandler(reading.parser, text);
    XML_SetStartDoctypeDeclHandler(reading.parser, doctype);
    bool ok =
        XML_Parse(reading.parser, (const char *)xml.p, (int)xml.n, XML_TRUE) == XML_STATUS_OK &&
        !reading.refused;
    XML_ParserFree(reading.parser);
    return ok ? DK_OK : DK_FAIL(err, PROVIDER, "the answer is not the XML that was expected");
}
