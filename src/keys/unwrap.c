#include "keys/unwrap.h"

#include <openssl/crypto.h>

#include "keys/registry.h"

static bool is_ours(const struct dk_core *core, const struct dk_key_row *row)
{
    return strcmp(row->wrap.provider, dk_provider_name(core->provider)) == 0;
}

static dk_rc refuse_provider(const struct dk_core *core, struct dk_unwrapping *one)
{
    const struct dk_key_row *row = one->row;
    return DK_FAIL(&one->err, CONFIG,
                   "version %u of tenant %s is wrapped by %s, KMS_PROVIDER is %s", row->version,
                   row->tenant.s, row->wrap.provider, dk_provider_name(core->provider));
}

static dk_rc compare(struct dk_core *core, struct dk_unwrapping *one)
{
    const struct dk_key_row *row = one->row;
    uint8_t check_value[DK_CHECK_VALUE];
    DK_TRY(dk_check_value(&core->suite, &one->key, check_value, &one->err));
    if (CRYPTO_memcmp(check_value, row->check_value, DK_CHECK_VALUE) != 0) {
        return DK_FAIL(&one->err, TAMPERED, "version %u of tenant %s unwraps to another key",
                       row->version, row->tenant.s);
    }
    return DK_OK;
}

static void take(struct dk_core *core, struct dk_unwrapping *one, struct dk_provider_item *item)
{
    one->err = item->err;
    one->key = item->key;
    dk_revoked_note(&core->revoked, &core->log, one->row->wrap.kms_key_id, one->err.rc,
                    dk_mono_ms(core->world));
    if (one->err.rc == DK_E_AUTH || one->err.rc == DK_E_FORMAT) {
        one->err.rc = DK_E_PROVIDER; /* not the value's fault: the wrapped key does not open */
    }
    if (one->err.rc == DK_OK && compare(core, one) != DK_OK) {
        dk_secret_free(core->arena, &one->key);
    }
    if (one->err.rc != DK_OK) {
        (void)dk_err_while(&one->err, "unwrapping version %u of tenant %s", one->row->version,
                           one->row->tenant.s);
    }
}

/* `items` and `wrapped` have room for all. */
static void run(struct dk_core *core, struct dk_unwrapping *list, size_t count,
                struct dk_provider_item *items, struct dk_wrapped *wrapped)
{
    size_t n = 0;
    for (size_t i = 0; i < count; i++) {
        dk_err_clear(&list[i].err);
        list[i].key = (struct dk_secret){0};
        if (!is_ours(core, list[i].row)) {
            (void)refuse_provider(core, &list[i]);
            continue;
        }
        dk_registry_wrapped(&list[i].row->wrap, &wrapped[n]);
        items[n].context =
            (struct dk_wrap_context){dk_tenant_view(&list[i].row->tenant), DK_PURPOSE_DATA,
                                     list[i].row->wrap.context_timestamp};
        items[n].wrapped = &wrapped[n];
        n++;
    }
    dk_provider_unwrap_many(core->provider, items, n);
    n = 0;
    for (size_t i = 0; i < count; i++) {
        if (list[i].err.rc == DK_OK) {
            take(core, &list[i], &items[n++]);
        }
    }
}

void dk_unwrap_many(struct dk_core *core, struct dk_unwrapping *list, size_t count)
{
    const struct dk_mem *mem = &core->world->mem;
    struct dk_provider_item *items = dk_mem_alloc(mem, count * sizeof *items);
    struct dk_wrapped *wrapped = dk_mem_alloc(mem, count * sizeof *wrapped);
    if (items != NULL && wrapped != NULL) {
        run(core, list, count, items, wrapped);
    } else {
        for (size_t i = 0; i < count; i++) {
            dk_err_clear(&list[i].err);
            list[i].key = (struct dk_secret){0};
            (void)DK_FAIL(&list[i].err, NOMEM, "no memory to unwrap %zu keys", count);
        }
    }
    dk_mem_free(mem, items);
    dk_mem_free(mem, wrapped);
}

dk_rc dk_unwrap(struct dk_core *core, const struct dk_key_row *row, struct dk_secret *out,
                struct dk_err *err)
{
    struct dk_unwrapping one = {.row = row};
    struct dk_provider_item item;
    struct dk_wrapped wrapped;
    run(core, &one, 1, &item, &wrapped);
    if (one.err.rc != DK_OK) {
        *err = one.err;
        return one.err.rc;
    }
    *out = one.key;
    return DK_OK;
}
