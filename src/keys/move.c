#include "keys/move.h"

#include "keys/registry.h"
#include "keys/unwrap.h"

static dk_rc fill_out(struct dk_core *core, struct dk_provider *provider,
                      struct dk_provider_item *item, struct dk_further *one)
{
    if (item->err.rc != DK_OK) {
        return item->err.rc;
    }
    if (dk_unwrap_compare(core, one->row, &item->key, &item->err) == DK_OK) {
        dk_further_made(core, provider, item->wrapped, one->row->wrap.context_timestamp, one);
    }
    dk_secret_free(core->arena, &item->key);
    return item->err.rc;
}

dk_rc dk_move_wraps(struct dk_core *core, struct dk_provider *provider, struct dk_further *list,
                    size_t count)
{
    const struct dk_mem *mem = &core->world->mem;
    struct dk_provider_item *items = dk_mem_alloc(mem, count * sizeof *items);
    struct dk_wrapped *wraps = dk_mem_alloc(mem, 2 * count * sizeof *wraps);
    dk_rc first = items != NULL && wraps != NULL ? DK_OK : DK_E_NOMEM;
    for (size_t i = 0; i < count; i++) {
        list[i].out.version = 0;
    }
    if (first == DK_OK) {
        for (size_t i = 0; i < count; i++) {
            const struct dk_key_row *row = list[i].row;
            dk_registry_wrapped(&row->wrap, &wraps[count + i]);
            items[i].context = (struct dk_wrap_context){
                dk_tenant_view(&row->tenant), DK_PURPOSE_DATA, row->wrap.context_timestamp};
            items[i].before = &wraps[count + i];
            items[i].wrapped = &wraps[i];
        }
        dk_provider_move_many(provider, items, count);
        for (size_t i = 0; i < count; i++) {
            dk_rc rc = fill_out(core, provider, &items[i], &list[i]);
            first = first == DK_OK ? rc : first;
        }
    }
    dk_mem_free(mem, items);
    dk_mem_free(mem, wraps);
    return first;
}
