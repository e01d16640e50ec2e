/*
 * form: application/x-www-form-urlencoded, into a request's body or a path.
 *
 * Called by provider/. Everything but RFC 3986's unreserved characters is percent-encoded.
 */
#ifndef DK_NET_FORM_H
#define DK_NET_FORM_H

#include "base/bytes.h"

/* Adds `name=value`, and before it `&` unless it is the first of the buffer, or follows `?`. */
DK_MUST_USE dk_rc dk_form_add(struct dk_buf *buf, const char *name, const char *value,
                              struct dk_err *err);
/* Adds the value alone. */
DK_MUST_USE dk_rc dk_form_encode(struct dk_buf *buf, const char *value, struct dk_err *err);

#endif
