/* The door for values: encrypt and decrypt, one or many. */
#include "dekhand.h"

#include "door.h"

/* ---- sizes ----------------------------------------------------------------------------------- */

size_t dekhand_encrypted_size(enum dekhand_format format, uint32_t version, size_t n)
{
    enum dk_field_form form = format == DEKHAND_BINARY ? DK_FIELD_BINARY : DK_FIELD_TEXT;
    return dk_field_size(form, version == 0 ? DK_FIELD_VERSION_MAX : version, n);
}

static dk_rc parse_value(const void *value, size_t size, struct dk_field_parts *out,
                         struct dk_err *err)
{
    if (value == NULL && size > 0) {
        return DK_FAIL(err, USAGE, "no value is given");
    }
    return dk_field_parse(dk_view_of(value, size), out, err);
}

int dekhand_decrypted_size(const void *value, size_t size, size_t *out, struct dekhand_error *error)
{
    struct dk_err err;
    struct dk_field_parts parts;
    dk_err_clear(&err);
    dk_rc rc = out == NULL ? DK_FAIL(&err, USAGE, "no place for the result")
                           : parse_value(value, size, &parts, &err);
    if (rc == DK_OK) {
        *out = parts.plain_size;
    }
    return dk_door_leave(rc, &err, error);
}

int dekhand_value_version(const void *value, size_t size, uint32_t *out,
                          struct dekhand_error *error)
{
    struct dk_err err;
    struct dk_field_parts parts;
    dk_err_clear(&err);
    dk_rc rc = out == NULL ? DK_FAIL(&err, USAGE, "no place for the result")
                           : parse_value(value, size, &parts, &err);
    if (rc == DK_OK) {
        *out = parts.version;
    }
    return dk_door_leave(rc, &err, error);
}

/* ---- values ---------------------------------------------------------------------------------- */

enum way { ENCRYPT, DECRYPT };

static inline dk_rc check_item(const struct dekhand_item *item, struct dk_err *err)
{
    if (item == NULL || item->tenant == NULL) {
        return DK_FAIL(err, USAGE, "no tenant is given");
    }
    if ((item->in == NULL && item->in_size > 0) || (item->out == NULL && item->capacity > 0)) {
        return DK_FAIL(err, USAGE, "a buffer of NULL with a size");
    }
    if (item->context_count > DK_CONTEXT_PAIRS) {
        return DK_FAIL(err, LIMIT, "a context has at most %d pairs, not %zu", DK_CONTEXT_PAIRS,
                       item->context_count);
    }
    if (item->context == NULL && item->context_count > 0) {
        return DK_FAIL(err, USAGE, "a context of NULL with a count");
    }
    if (item->format != DEKHAND_TEXT && item->format != DEKHAND_BINARY) {
        return DK_FAIL(err, USAGE, "the format is neither text nor binary");
    }
    return DK_OK;
}

static dk_rc copy_context(const struct dekhand_item *item, struct dk_pair *pairs,
                          struct dk_err *err)
{
    for (size_t i = 0; i < item->context_count; i++) {
        const struct dekhand_pair *pair = &item->context[i];
        if (pair->name == NULL || pair->value == NULL) {
            return DK_FAIL(err, USAGE, "a context pair without name or value");
        }
        pairs[i] = (struct dk_pair){dk_view_str(pair->name), dk_view_str(pair->value)};
    }
    return DK_OK;
}

static inline dk_rc run_request(struct dk_instance *d, enum way way, struct dekhand_item *item,
                                const struct dk_request *request, struct dk_err *err)
{
    struct dk_view in = dk_view_of(item->in, item->in_size);
    if (way == ENCRYPT) {
        enum dk_field_form form = item->format == DEKHAND_BINARY ? DK_FIELD_BINARY : DK_FIELD_TEXT;
        return dk_manager_encrypt(d->manager, request, form, in, item->out, item->capacity,
                                  &item->size, err);
    }
    return dk_manager_decrypt(d->manager, request, in, item->out, item->capacity, &item->size, err);
}

__attribute__((noinline)) static dk_rc run_with_context(struct dk_instance *d, enum way way,
                                                        struct dekhand_item *item,
                                                        struct dk_err *err)
{
    struct dk_pair pairs[DK_CONTEXT_PAIRS];
    DK_TRY(copy_context(item, pairs, err));
    struct dk_request request = {dk_view_str(item->tenant), pairs, item->context_count};
    return run_request(d, way, item, &request, err);
}

static inline dk_rc run_item(struct dekhand *d, enum way way, struct dekhand_item *item,
                             struct dk_err *err)
{
    DK_TRY(check_item(item, err));
    struct dk_request request = {dk_view_str(item->tenant), NULL, 0};
    DK_TRY(dk_access_check(&d->actor, DK_MAY_USE_KEYS, request.tenant, err));
    if (item->context_count > 0) {
        return run_with_context(d->in, way, item, err);
    }
    return run_request(d->in, way, item, &request, err);
}

static int run_one(struct dekhand *d, enum way way, struct dekhand_item *item,
                   struct dekhand_error *error)
{
    struct dk_err err;
    dk_err_clear(&err);
    dk_rc rc = dk_door_begin(d, &err);
    if (rc == DK_OK) {
        rc = run_item(d, way, item, &err);
    }
    if (item != NULL) {
        item->code = (int)rc;
    }
    return dk_door_leave(rc, &err, error);
}

int dekhand_encrypt(struct dekhand *d, struct dekhand_item *item, struct dekhand_error *error)
{
    return run_one(d, ENCRYPT, item, error);
}

int dekhand_decrypt(struct dekhand *d, struct dekhand_item *item, struct dekhand_error *error)
{
    return run_one(d, DECRYPT, item, error);
}

/* ---- batches --------------------------------------------------------------------------------- */

/* The key that an item will ask for; false when it has none, and its own call will say why. */
static bool name_of(enum way way, const struct dekhand_item *item, struct dk_key_name *out)
{
    struct dk_err err;
    struct dk_field_parts parts;
    dk_err_clear(&err);
    out->version = DK_VERSION_ACTIVE;
    if (item->tenant == NULL ||
        dk_tenant_parse(dk_view_str(item->tenant), &out->tenant, &err) != DK_OK) {
        return false;
    }
    if (way == DECRYPT) {
        if (parse_value(item->in, item->in_size, &parts, &err) != DK_OK) {
            return false;
        }
        out->version = parts.version;
    }
    return true;
}

/* Names those keys that this thread does not have in hand. */
static size_t collect_names(struct dk_instance *d, enum way way, const struct dekhand_item *items,
                            size_t count, struct dk_key_name *names)
{
    size_t n = 0;
    for (size_t i = 0; i < count; i++) {
        if (way == ENCRYPT && items[i].tenant != NULL &&
            dk_manager_is_hot(d->manager, dk_view_str(items[i].tenant), DK_VERSION_ACTIVE)) {
            continue;
        }
        if (name_of(way, &items[i], &names[n]) &&
            !dk_manager_is_hot(d->manager, dk_tenant_view(&names[n].tenant), names[n].version)) {
            n++;
        }
    }
    return n;
}

/* One look-up for all keys of the batch that memory lacks. Best effort: each item asks again. */
static void prefetch(struct dk_instance *d, enum way way, const struct dekhand_item *items,
                     size_t count)
{
    struct dk_key_name *names = dk_mem_alloc(&d->world.mem, count * sizeof *names);
    size_t n = names == NULL ? 0 : collect_names(d, way, items, count, names);
    if (n > 0) {
        dk_manager_prefetch(d->manager, names, n);
    }
    dk_mem_free(&d->world.mem, names);
}

/* A batch that could not begin: no item may look as if it had gone well. */
static void fail_items(struct dekhand_item *items, size_t count, dk_rc rc)
{
    for (size_t i = 0; i < count; i++) {
        items[i].code = (int)rc;
        items[i].size = 0;
    }
}

/* Items from `at` on; keys are fetched for so many, and used before a poll may forget them. */
#define FETCH_ITEMS 4096

static size_t run_some(struct dekhand *d, enum way way, struct dekhand_item *items, size_t at,
                       size_t count, struct dk_err *err)
{
    size_t end = count - at < FETCH_ITEMS ? count : at + FETCH_ITEMS;
    if (d->actor.reach[DK_MAY_USE_KEYS] == DK_REACH_ALL) { /* else each item will say no */
        prefetch(d->in, way, items + at, end - at);
    }
    for (size_t i = at; i < end; i++) {
        struct dk_err one;
        dk_err_clear(&one);
        items[i].code = (int)run_item(d, way, &items[i], &one);
        if (items[i].code != DEKHAND_OK && err->rc == DK_OK) {
            *err = one;
            (void)dk_err_while(err, "item %zu of %zu", i + 1, count);
        }
    }
    return end;
}

static int run_batch(struct dekhand *d, enum way way, struct dekhand_item *items, size_t count,
                     struct dekhand_error *error)
{
    struct dk_err err;
    dk_err_clear(&err);
    if (count == 0) {
        return dk_door_leave(dk_door_begin(d, &err), &err, error);
    }
    if (items == NULL) {
        return dk_door_leave(DK_FAIL(&err, USAGE, "a batch of NULL with a count"), &err, error);
    }
    dk_rc rc = dk_door_begin(d, &err);
    if (rc != DK_OK) {
        fail_items(items, count, rc);
        return dk_door_leave(rc, &err, error);
    }
    for (size_t at = 0; at < count;) {
        at = run_some(d, way, items, at, count, &err);
    }
    return dk_door_leave(err.rc, &err, error);
}

int dekhand_encrypt_batch(struct dekhand *d, struct dekhand_item *items, size_t count,
                          struct dekhand_error *error)
{
    return run_batch(d, ENCRYPT, items, count, error);
}

int dekhand_decrypt_batch(struct dekhand *d, struct dekhand_item *items, size_t count,
                          struct dekhand_error *error)
{
    return run_batch(d, DECRYPT, items, count, error);
}
