/* The library's door: checks arguments, wires provider and store, calls keys/. */
#include "dekhand.h"

#include <sched.h>
#include <stdio.h>
#include <unistd.h>

#include "door.h"
#include "keys/inspect.h"
#include "keys/audit.h"
#include "keys/registry.h"
#include "keys/rotate.h"
#include "keys/states.h"

/* The public codes are those of errors.def: a number that differs does not compile. */
#define DK_ERROR(name, number, outward, retryable, http, exit, text, todo)                         \
    _Static_assert((int)DEKHAND_E_##name == number, #name);
#include "base/errors.def"
#undef DK_ERROR

const char *dekhand_version(void)
{
    return DK_VERSION;
}

const char *dekhand_error_name(int code)
{
    return code == DEKHAND_OK ? "OK" : dk_error_info((dk_rc)code)->name;
}

int dk_door_leave(dk_rc rc, const struct dk_err *err, struct dekhand_error *error)
{
    if (error == NULL) {
        return (int)rc;
    }
    if (rc == DK_OK) {
        *error = (struct dekhand_error){.code = DEKHAND_OK};
        return DEKHAND_OK;
    }
    const struct dk_error_info *info = dk_error_info(rc);
    error->code = (int)rc;
    error->retryable = info->retryable;
    snprintf(error->name, sizeof error->name, "%s", info->name);
    snprintf(error->text, sizeof error->text, err->trail[0] != '\0' ? "%s (%s)" : "%s%s",
             err->text[0] != '\0' ? err->text : info->text, err->trail);
    snprintf(error->todo, sizeof error->todo, "%s", info->todo);
    return (int)rc;
}

/* ---- open, close, fork ---------------------------------------------------------------------- */

/* Before the provider is asked: without a registry a missing master key is no loss. */
static dk_rc check_initialised(struct dekhand *d, struct dk_err *err)
{
    bool exists = false;
    DK_TRY(d->core.store.ops->exists(d->core.store.self, &exists, err));
    return exists ? DK_OK
                  : DK_FAIL(err, CONFIG, "there is no registry at %s yet: run `dekhand init`",
                            d->places.database_url);
}

static dk_rc open_all(struct dekhand *d, const struct dekhand_config *config,
                      const struct dk_parts *parts, struct dk_settings *settings,
                      struct dk_err *err)
{
    DK_TRY(dk_wire_settings(config, settings, &d->core.log, err));
    DK_TRY(dk_wire_core(d, config, settings, parts, err));
    DK_TRY(check_initialised(d, err));
    DK_TRY(dk_wire_provider(d, settings, parts, err));
    DK_TRY(dk_registry_open(&d->core, err));
    DK_TRY(dk_audit_open(&d->core, err));
    return dk_manager_open(&d->core, &d->manager, err);
}

int dk_door_open(const struct dekhand_config *config, const struct dk_parts *parts,
                 struct dekhand **out, struct dekhand_error *error)
{
    static const struct dekhand_config plain = {.size = sizeof plain};
    struct dk_err err;
    struct dk_settings settings;
    dk_err_clear(&err);
    config = config != NULL ? config : &plain;
    const struct dk_mem *mem = parts->world != NULL ? &parts->world->mem : &dk_mem_default;
    if (out == NULL) {
        return dk_door_leave(DK_FAIL(&err, USAGE, "dekhand_open: no place for the result"), &err,
                             error);
    }
    struct dekhand *d = dk_mem_zalloc(mem, sizeof *d);
    if (d == NULL) {
        return dk_door_leave(DK_FAIL(&err, NOMEM, "no memory to open"), &err, error);
    }
    dk_wire_log(d, config);
    dk_settings_init(&settings, mem);
    dk_rc rc = open_all(d, config, parts, &settings, &err);
    dk_settings_clear(&settings);
    if (rc != DK_OK) {
        dk_wire_close(d);
        dk_mem_free(mem, d);
        return dk_door_leave(rc, &err, error);
    }
    *out = d;
    return dk_door_leave(DK_OK, &err, error);
}

int dekhand_open(const struct dekhand_config *config, struct dekhand **out,
                 struct dekhand_error *error)
{
    static const struct dk_parts real;
    return dk_door_open(config, &real, out, error);
}

int dekhand_close(struct dekhand *d, struct dekhand_error *error)
{
    struct dk_err err;
    dk_err_clear(&err);
    if (d == NULL) {
        return dk_door_leave(DK_OK, &err, error);
    }
    /* A child that never used its copy has nothing to write: the counts are the parent's. */
    if (dk_arena_forked(d->core.arena)) {
        dk_arena_reset(d->core.arena);
        dk_registry_forget(&d->core);
        dk_audit_forget(&d->core);
        dk_manager_after_fork(d->manager);
        dk_provider_forget(d->core.provider);
    }
    dk_rc rc = dk_manager_close(d->manager, &err);
    struct dk_mem mem = d->world.mem;
    dk_wire_close(d);
    dk_mem_free(&mem, d);
    return dk_door_leave(rc, &err, error);
}

/* In a child: everything that lay in the arena is read again, in the order of open. */
static dk_rc recover(struct dekhand *d, struct dk_err *err)
{
    if (atomic_load(&d->in_random) != 0) {
        return DK_FAIL(err, FORKED,
                       "this process was forked while another thread drew random bytes");
    }
    dk_arena_reset(d->core.arena);
    dk_registry_forget(&d->core);
    dk_manager_after_fork(d->manager);
    dk_rc rc = dk_provider_after_fork(d->core.provider, err);
    if (rc == DK_OK) {
        rc = d->core.store.ops->after_fork(d->core.store.self, err);
    }
    if (rc == DK_OK) {
        rc = dk_registry_open(&d->core, err);
    }
    if (rc == DK_OK) {
        rc = dk_audit_after_fork(&d->core, err);
    }
    if (rc == DK_OK) {
        dk_arena_revive(d->core.arena);
    }
    return rc == DK_OK ? rc : dk_err_while(err, "opening again after fork");
}

static dk_rc enter_forked(struct dekhand *d, struct dk_err *err)
{
    dk_rc rc = DK_OK;
    int self = (int)getpid();
    int who = 0;
    /* A pid that is not ours was copied by a fork in the midst of a recovery: nobody is at it. */
    while (!atomic_compare_exchange_weak(&d->recovering, &who, self)) {
        if (who == self) {
            sched_yield();
            who = 0;
        }
    }
    if (dk_arena_forked(d->core.arena)) {
        rc = recover(d, err);
    }
    atomic_store(&d->recovering, 0);
    return rc;
}

dk_rc dk_door_enter(struct dekhand *d, struct dk_err *err)
{
    if (d == NULL) {
        return DK_FAIL(err, USAGE, "no dekhand instance is given");
    }
    bool alive = atomic_load_explicit(d->alive, memory_order_acquire) != 0;
    return alive ? DK_OK : enter_forked(d, err);
}

int dekhand_tick(struct dekhand *d, struct dekhand_error *error)
{
    struct dk_err err;
    dk_err_clear(&err);
    dk_rc rc = dk_door_enter(d, &err);
    if (rc == DK_OK) {
        rc = dk_manager_tick(d->manager, &err);
    }
    return dk_door_leave(rc, &err, error);
}

/* ---- sizes ---------------------------------------------------------------------------------- */

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

/* ---- values --------------------------------------------------------------------------------- */

enum way { ENCRYPT, DECRYPT };

static dk_rc check_item(const struct dekhand_item *item, struct dk_err *err)
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

static dk_rc run_request(struct dekhand *d, enum way way, struct dekhand_item *item,
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

__attribute__((noinline)) static dk_rc run_with_context(struct dekhand *d, enum way way,
                                                        struct dekhand_item *item,
                                                        struct dk_err *err)
{
    struct dk_pair pairs[DK_CONTEXT_PAIRS];
    DK_TRY(copy_context(item, pairs, err));
    struct dk_request request = {dk_view_str(item->tenant), pairs, item->context_count};
    return run_request(d, way, item, &request, err);
}

static dk_rc run_item(struct dekhand *d, enum way way, struct dekhand_item *item,
                      struct dk_err *err)
{
    DK_TRY(check_item(item, err));
    if (item->context_count > 0) {
        return run_with_context(d, way, item, err);
    }
    struct dk_request request = {dk_view_str(item->tenant), NULL, 0};
    return run_request(d, way, item, &request, err);
}

static int run_one(struct dekhand *d, enum way way, struct dekhand_item *item,
                   struct dekhand_error *error)
{
    struct dk_err err;
    dk_err_clear(&err);
    dk_rc rc = dk_door_enter(d, &err);
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

/* ---- batches -------------------------------------------------------------------------------- */

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
static size_t collect_names(struct dekhand *d, enum way way, const struct dekhand_item *items,
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
static void prefetch(struct dekhand *d, enum way way, const struct dekhand_item *items,
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

static dk_rc run_items(struct dekhand *d, enum way way, struct dekhand_item *items, size_t count,
                       struct dk_err *err)
{
    for (size_t i = 0; i < count; i++) {
        struct dk_err one;
        dk_err_clear(&one);
        items[i].code = (int)run_item(d, way, &items[i], &one);
        if (items[i].code != DEKHAND_OK && err->rc == DK_OK) {
            *err = one;
            (void)dk_err_while(err, "item %zu of %zu", i + 1, count);
        }
    }
    return err->rc;
}

static int run_batch(struct dekhand *d, enum way way, struct dekhand_item *items, size_t count,
                     struct dekhand_error *error)
{
    struct dk_err err;
    dk_err_clear(&err);
    if (count == 0) {
        return dk_door_leave(dk_door_enter(d, &err), &err, error);
    }
    if (items == NULL) {
        return dk_door_leave(DK_FAIL(&err, USAGE, "a batch of NULL with a count"), &err, error);
    }
    dk_rc rc = dk_door_enter(d, &err);
    if (rc != DK_OK) {
        fail_items(items, count, rc);
        return dk_door_leave(rc, &err, error);
    }
    prefetch(d, way, items, count);
    return dk_door_leave(run_items(d, way, items, count, &err), &err, error);
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

/* ---- keys ----------------------------------------------------------------------------------- */

struct rotation_call {
    void (*each)(void *arg, const struct dekhand_rotation *rotation);
    void *arg;
};

static void tell_rotation(void *arg, const struct dk_rotation *rotation)
{
    const struct rotation_call *call = arg;
    struct dekhand_rotation out = {rotation->tenant.s, rotation->from_version, rotation->to_version,
                                   (int)rotation->rc, rotation->text};
    if (call->each != NULL) {
        call->each(call->arg, &out);
    }
}

static dk_rc rotate(struct dekhand *d, const struct dekhand_rotate_args *args,
                    struct rotation_call *call, struct dk_err *err)
{
    struct dk_tenant tenant;
    if (args == NULL || args->size != sizeof *args) {
        return DK_FAIL(err, USAGE, "dekhand_rotate_args.size is not %zu", sizeof *args);
    }
    struct dk_rotate_args inner = {.which = (enum dk_rotate_which)args->which,
                                   .if_version = args->if_version,
                                   .dry_run = args->dry_run,
                                   .compromised = args->compromised};
    if (args->which == DEKHAND_ROTATE_TENANT) {
        if (args->tenant == NULL) {
            return DK_FAIL(err, USAGE, "no tenant is given");
        }
        DK_TRY(dk_tenant_parse(dk_view_str(args->tenant), &tenant, err));
        inner.tenant = &tenant;
    } else if (args->which != DEKHAND_ROTATE_DUE && args->which != DEKHAND_ROTATE_ALL) {
        return DK_FAIL(err, USAGE, "what to rotate is neither a tenant, nor due, nor all");
    }
    return dk_rotate(&d->core, dk_manager_cache(d->manager), &inner, tell_rotation, call, err);
}

int dekhand_rotate(struct dekhand *d, const struct dekhand_rotate_args *args,
                   void (*each)(void *arg, const struct dekhand_rotation *rotation), void *arg,
                   struct dekhand_error *error)
{
    struct dk_err err;
    struct rotation_call call = {each, arg};
    dk_err_clear(&err);
    dk_rc rc = dk_door_enter(d, &err);
    if (rc == DK_OK) {
        rc = rotate(d, args, &call, &err);
    }
    return dk_door_leave(rc, &err, error);
}

struct keys_call {
    struct dekhand *d;
    bool (*each)(void *arg, const struct dekhand_key *key);
    void *arg;
};

static bool tell_key(void *arg, const struct dk_key_row *row, dk_rc rc)
{
    const struct keys_call *call = arg;
    const struct dk_core *core = &call->d->core;
    struct dekhand_key key = {
        .tenant = row->tenant.s,
        .version = row->version,
        .state = dk_state_name(row->state),
        .provider = row->wrap.provider,
        .kms_key_id = row->wrap.kms_key_id,
        .created_at = row->created_at,
        .expires_at = row->expires_at,
        .rotated_at = row->rotated_at,
        .compromised_at = row->compromised_at,
        .disabled_at = row->disabled_at,
        .purged_at = row->purged_at,
        .messages = row->messages,
        .due =
            row->state == DK_ACTIVE && dk_state_is_due(row, dk_wall_us(core->world), &core->limits),
        .code = (int)rc,
    };
    return call->each(call->arg, &key);
}

int dekhand_keys(struct dekhand *d, const char *tenant,
                 bool (*each)(void *arg, const struct dekhand_key *key), void *arg,
                 struct dekhand_error *error)
{
    struct dk_err err;
    struct dk_tenant parsed;
    struct keys_call call = {d, each, arg};
    dk_err_clear(&err);
    dk_rc rc = dk_door_enter(d, &err);
    if (rc == DK_OK && each == NULL) {
        rc = DK_FAIL(&err, USAGE, "nobody is there to be told the keys");
    }
    if (rc == DK_OK && tenant != NULL) {
        rc = dk_tenant_parse(dk_view_str(tenant), &parsed, &err);
    }
    if (rc == DK_OK) {
        rc = dk_inspect_keys(&d->core, tenant != NULL ? &parsed : NULL, tell_key, &call, &err);
    }
    return dk_door_leave(rc, &err, error);
}
