#include "keys/unwrap.h"

#include <openssl/crypto.h>

#include "keys/keyring.h"
#include "keys/registry.h"

struct dk_provider *dk_unwrap_provider(const struct dk_core *core, const char *name)
{
    if (strcmp(name, dk_provider_name(core->provider)) == 0) {
        return core->provider;
    }
    bool second = core->second != NULL && strcmp(name, dk_provider_name(core->second)) == 0;
    return second ? core->second : NULL;
}

/* ---- by one provider ------------------------------------------------------------------------- */

dk_rc dk_unwrap_compare(struct dk_core *core, const struct dk_key_row *row,
                        const struct dk_secret *key, struct dk_err *err)
{
    uint8_t check_value[DK_CHECK_VALUE];
    DK_TRY(dk_check_value(&core->suite, key, check_value, err));
    if (CRYPTO_memcmp(check_value, row->check_value, DK_CHECK_VALUE) != 0) {
        return DK_FAIL(err, TAMPERED, "version %u of tenant %s unwraps to another key",
                       row->version, row->tenant.s);
    }
    return DK_OK;
}

static void take(struct dk_core *core, struct dk_unwrapping *one, struct dk_provider_item *item)
{
    one->err = item->err;
    one->key = item->key;
    one->by = NULL;
    dk_revoked_note(&core->revoked, &core->log, one->wrap->kms_key_id, &one->err,
                    dk_mono_ms(core->world));
    if (one->err.rc == DK_E_AUTH || one->err.rc == DK_E_FORMAT) {
        one->err.rc = DK_E_PROVIDER; /* not the value's fault: the wrapped key does not open */
    }
    if (one->err.rc == DK_OK && dk_unwrap_compare(core, one->row, &one->key, &one->err) != DK_OK) {
        dk_secret_free(core->arena, &one->key);
    }
    if (one->err.rc != DK_OK) {
        (void)dk_err_while(&one->err, "unwrapping version %u of tenant %s", one->row->version,
                           one->row->tenant.s);
    }
}

/* Of a wrap that is tried: what was said of it stays as it is, the key goes. */
static void take_try(struct dk_core *core, struct dk_unwrapping *one, struct dk_provider_item *item)
{
    one->err = item->err;
    one->by = NULL;
    dk_revoked_note(&core->revoked, &core->log, one->wrap->kms_key_id, &one->err,
                    dk_mono_ms(core->world));
    if (one->err.rc == DK_OK) {
        dk_rc ignored = dk_unwrap_compare(core, one->row, &item->key, &one->err);
        (void)ignored;
        dk_secret_free(core->arena, &item->key);
    }
}

/* What the provider is asked in one call; both have room for all of the list. */
struct asking {
    struct dk_provider_item *items;
    struct dk_wrapped *wrapped;
    void (*take)(struct dk_core *core, struct dk_unwrapping *one, struct dk_provider_item *item);
};

/* Those of the list that this provider is to open. */
static void ask(struct dk_core *core, struct dk_provider *provider, struct dk_unwrapping *list,
                size_t count, const struct asking *asking)
{
    size_t n = 0;
    for (size_t i = 0; i < count && provider != NULL; i++) {
        if (list[i].by == provider) {
            dk_registry_wrapped(list[i].wrap, &asking->wrapped[n]);
            asking->items[n].context =
                (struct dk_wrap_context){dk_tenant_view(&list[i].row->tenant), DK_PURPOSE_DATA,
                                         list[i].wrap->context_timestamp};
            asking->items[n].wrapped = &asking->wrapped[n];
            n++;
        }
    }
    if (n == 0) {
        return;
    }
    dk_provider_unwrap_many(provider, asking->items, n);
    n = 0;
    for (size_t i = 0; i < count; i++) {
        if (list[i].by == provider) {
            asking->take(core, &list[i], &asking->items[n++]);
        }
    }
}

static void ask_both(struct dk_core *core, struct dk_unwrapping *list, size_t count,
                     const struct asking *asking)
{
    ask(core, core->provider, list, count, asking);
    ask(core, core->second, list, count, asking);
}

static void ask_first(struct dk_core *core, struct dk_unwrapping *list, size_t count,
                      const struct asking *asking)
{
    for (size_t i = 0; i < count; i++) {
        struct dk_unwrapping *one = &list[i];
        dk_err_clear(&one->err);
        one->key = (struct dk_secret){0};
        one->further = false;
        one->wrap = &one->row->wrap;
        one->by = dk_unwrap_provider(core, one->wrap->provider);
        if (one->by == NULL) {
            (void)DK_FAIL(&one->err, CONFIG,
                          "version %u of tenant %s is wrapped by %s, which is neither KMS_PROVIDER "
                          "(%s) nor KMS_SECONDARY_PROVIDER",
                          one->row->version, one->row->tenant.s, one->wrap->provider,
                          dk_provider_name(core->provider));
        }
    }
    ask_both(core, list, count, asking);
}

/* ---- by a further wrap ----------------------------------------------------------------------- */

/* The first one is away, gone, or says no; not: the row is none, or the machine is out of memory.
 */
static bool may_be_opened_further(dk_rc rc)
{
    return rc != DK_OK && rc != DK_E_TAMPERED && rc != DK_E_NOMEM && rc != DK_E_INTERNAL;
}

struct looking {
    const struct dk_core *core;
    const struct dk_unwrapping *one;
    struct dk_wrap_row *out;
    bool found;
};

static bool look(void *arg, const struct dk_wrap_row *row)
{
    struct looking *looking = arg;
    struct dk_err ignored;
    dk_err_clear(&ignored);
    bool usable = strcmp(row->wrap.provider, looking->one->wrap->provider) != 0 &&
                  dk_unwrap_provider(looking->core, row->wrap.provider) != NULL &&
                  dk_registry_verify_wrap(looking->core, NULL, row, &ignored) == DK_OK;
    if (usable) {
        *looking->out = *row;
        looking->found = true;
    }
    return !usable;
}

/* Where no further wrap could be looked for, the first cause stands, but for want of memory. */
static void tell_no_memory(struct dk_unwrapping *list, size_t count, const struct dk_err *err)
{
    for (size_t i = 0; i < count && err->rc == DK_E_NOMEM; i++) {
        bool found = list[i].wrap != &list[i].row->wrap;
        if (may_be_opened_further(list[i].err.rc) && !found) {
            list[i].err = *err;
        }
    }
}

/* Which of the list have a further wrap that somebody here can open; how many. */
static size_t find_further(struct dk_core *core, struct dk_unwrapping *list, size_t count,
                           struct dk_wrap_row *rows)
{
    struct dk_txn txn;
    struct dk_err err;
    size_t n = 0;
    dk_err_clear(&err);
    if (dk_registry_begin(core, DK_TXN_READ, &txn, &err) != DK_OK) {
        tell_no_memory(list, count, &err);
        return 0;
    }
    for (size_t i = 0; i < count && err.rc == DK_OK; i++) {
        struct looking looking = {core, &list[i], &rows[i], false};
        if (may_be_opened_further(list[i].err.rc) &&
            txn.ops->wraps_of(txn.self, &list[i].row->tenant, list[i].row->version, look, &looking,
                              &err) == DK_OK &&
            looking.found) {
            list[i].wrap = &rows[i].wrap;
            list[i].by = dk_unwrap_provider(core, rows[i].wrap.provider);
            n++;
        }
    }
    dk_store_rollback(&txn);
    tell_no_memory(list, count, &err);
    return n;
}

/* Never in silence: that the first one did not open them is an alarm. */
static void tell(struct dk_core *core, const struct dk_unwrapping *list, size_t count,
                 const struct dk_err *first)
{
    int64_t served = 0;
    dk_rc rc = DK_OK;
    const char *provider = "";
    for (size_t i = 0; i < count; i++) {
        if (list[i].further) {
            provider = list[i].wrap->provider;
            rc = first[i].rc;
            served++;
        }
    }
    if (served > 0) {
        __atomic_fetch_add(&core->second_served, served, __ATOMIC_RELAXED);
        DK_LOG(&core->log, WARN, "second_provider_served", DK_LOG_S(PROVIDER, provider),
               DK_LOG_I(COUNT, served), DK_LOG_S(CODE, dk_error_info(rc)->name));
    }
}

static void try_further(struct dk_core *core, struct dk_unwrapping *list, size_t count,
                        const struct asking *asking, struct dk_wrap_row *rows, struct dk_err *first)
{
    for (size_t i = 0; i < count; i++) {
        first[i] = list[i].err;
    }
    if (find_further(core, list, count, rows) == 0) {
        return;
    }
    ask_both(core, list, count, asking);
    for (size_t i = 0; i < count; i++) {
        bool again = list[i].wrap != &list[i].row->wrap;
        list[i].further = again && list[i].err.rc == DK_OK;
        if (again && list[i].err.rc != DK_OK && list[i].err.rc != DK_E_NOMEM) {
            list[i].err = first[i]; /* the first cause is the one to be mended */
        }
    }
    tell(core, list, count, first);
}

static void open_further(struct dk_core *core, struct dk_unwrapping *list, size_t count,
                         const struct asking *asking)
{
    const struct dk_mem *mem = &core->world->mem;
    bool any = false;
    for (size_t i = 0; i < count; i++) {
        any = any || may_be_opened_further(list[i].err.rc);
    }
    if (!any) {
        return;
    }
    struct dk_wrap_row *rows = dk_mem_alloc(mem, count * sizeof *rows);
    struct dk_err *first = dk_mem_alloc(mem, count * sizeof *first);
    if (rows != NULL && first != NULL) {
        try_further(core, list, count, asking, rows, first);
    } else {
        struct dk_err err;
        dk_err_clear(&err);
        (void)DK_FAIL(&err, NOMEM, "no memory to look for further wraps");
        tell_no_memory(list, count, &err);
    }
    for (size_t i = 0; i < count; i++) {
        list[i].wrap = NULL; /* it lay in `rows` */
    }
    dk_mem_free(mem, rows);
    dk_mem_free(mem, first);
}

/* ---- all ------------------------------------------------------------------------------------- */

static void run(struct dk_core *core, struct dk_unwrapping *list, size_t count,
                const struct asking *asking)
{
    ask_first(core, list, count, asking);
    open_further(core, list, count, asking);
}

static void run_tries(struct dk_core *core, struct dk_unwrapping *list, size_t count,
                      const struct asking *asking)
{
    for (size_t i = 0; i < count; i++) {
        struct dk_unwrapping *one = &list[i];
        dk_err_clear(&one->err);
        one->by = dk_unwrap_provider(core, one->wrap->provider);
        if (one->by == NULL) {
            (void)DK_FAIL(&one->err, CONFIG, "there is no provider %s here", one->wrap->provider);
        }
    }
    ask_both(core, list, count, asking);
}

static void alloc_and_run(struct dk_core *core, struct dk_unwrapping *list, size_t count,
                          bool tries)
{
    const struct dk_mem *mem = &core->world->mem;
    struct asking asking = {dk_mem_alloc(mem, count * sizeof *asking.items),
                            dk_mem_alloc(mem, count * sizeof *asking.wrapped),
                            tries ? take_try : take};
    if (asking.items != NULL && asking.wrapped != NULL) {
        (tries ? run_tries : run)(core, list, count, &asking);
    } else {
        for (size_t i = 0; i < count; i++) {
            dk_err_clear(&list[i].err);
            list[i].key = (struct dk_secret){0};
            (void)DK_FAIL(&list[i].err, NOMEM, "no memory to unwrap %zu keys", count);
        }
    }
    dk_mem_free(mem, asking.items);
    dk_mem_free(mem, asking.wrapped);
}

void dk_unwrap_many(struct dk_core *core, struct dk_unwrapping *list, size_t count)
{
    alloc_and_run(core, list, count, false);
}

void dk_unwrap_try_many(struct dk_core *core, struct dk_unwrapping *list, size_t count)
{
    alloc_and_run(core, list, count, true);
}

dk_rc dk_unwrap(struct dk_core *core, const struct dk_key_row *row, struct dk_secret *out,
                struct dk_err *err)
{
    struct dk_unwrapping one = {.row = row};
    struct dk_provider_item item;
    struct dk_wrapped wrapped;
    struct asking asking = {&item, &wrapped, take};
    run(core, &one, 1, &asking);
    if (one.err.rc != DK_OK) {
        *err = one.err;
        return one.err.rc;
    }
    *out = one.key;
    return DK_OK;
}
