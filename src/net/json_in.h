/*
 * json_in: an answer's JSON, with limits (W3): depth 16, 1,000 nodes, no name twice, strict UTF-8,
 * no NUL in a string.
 *
 * Called by provider/. Values are jansson's; what jansson frees is wiped (net/http's set-up), for
 * an answer may hold a data key. A document belongs to one thread.
 */
#ifndef DK_NET_JSON_IN_H
#define DK_NET_JSON_IN_H

#include <jansson.h>

#include "base/bytes.h"

/* Called once in a process, before the first document: jansson wipes what it frees from now on,
   unless the application gave it an allocator of its own. */
void dk_json_in_setup(void);

/* An object; anything else is E_PROVIDER. The caller's: json_decref(). */
DK_MUST_USE dk_rc dk_json_in_parse(struct dk_view text, json_t **out, struct dk_err *err);

/* A member's text, lent; NULL when there is none, or it is no string. `object` may be NULL. */
const char *dk_json_in_text(const json_t *object, const char *name);
/* A member that is an object, lent; NULL when there is none. `object` may be NULL. */
json_t *dk_json_in_object(const json_t *object, const char *name);
/* A member that is a whole number, or text of one (Azure has both); false otherwise. */
bool dk_json_in_int(const json_t *object, const char *name, int64_t *out);
/* 1 or 0; -1 when there is none, or it is none. */
int dk_json_in_bool(const json_t *object, const char *name);

#endif
