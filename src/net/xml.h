/*
 * xml: the texts of a few elements of an answer (AWS STS answers in XML), by expat.
 *
 * Called by provider/. No DTD, no entity but the five; depth 16. What expat frees is wiped, for an
 * answer may hold a secret access key.
 */
#ifndef DK_NET_XML_H
#define DK_NET_XML_H

#include "base/bytes.h"

struct dk_xml_field {
    const char *parent; /* the element around it */
    const char *name;
    char *out; /* "" when it is not there; NUL-terminated */
    size_t cap;
};

/* E_PROVIDER: it is no XML, or a field is there twice, or too long. */
DK_MUST_USE dk_rc dk_xml_read(struct dk_view text, const struct dk_xml_field *fields, size_t count,
                              struct dk_err *err);

#endif
