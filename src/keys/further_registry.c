/* The registry's keys under a second master key. */
#include "keys/further.h"
#include "keys/keyring.h"
#include "keys/registry.h"

#define PAGE 64

/* ---- one wrap -------------------------------------------------------------------------------- */

dk_rc dk_further_wrap_registry(struct dk_core *core, struct dk_provider *provider,
                               const struct dk_ring *ring, const struct dk_registry_row *row,
                               struct dk_wrap_columns *out, struct dk_err *err)
{
    char now[DK_TIME_TEXT];
    struct dk_secret key = {0};
    struct dk_wrapped wrapped;
    DK_TRY(dk_registry_unwrap(core, row->uuid, &row->wrap, row->generation, &key, err));
    dk_time_format(dk_wall_us(core->world), now);
    struct dk_wrap_context context = {dk_view_str(row->uuid), DK_PURPOSE_REGISTRY, now};
    dk_rc rc = dk_keyring_check_key(core, ring, row->generation, &key, err);
    rc = rc == DK_OK ? dk_provider_wrap(provider, &context, &key, &wrapped, err) : rc;
    dk_secret_free(core->arena, &key);
    DK_TRY(rc);
    dk_registry_wrap_columns(provider, &wrapped, now, out);
    return DK_OK;
}

dk_rc dk_further_try_registry(struct dk_core *core, const struct dk_ring *ring,
                              const struct dk_registry_row *row, const struct dk_wrap_columns *wrap,
                              struct dk_err *err)
{
    struct dk_secret key = {0};
    DK_TRY(dk_registry_unwrap_one(core, row->uuid, wrap, &key, err));
    dk_rc rc = dk_keyring_check_key(core, ring, row->generation, &key, err);
    dk_secret_free(core->arena, &key);
    return rc;
}

static dk_rc make_wrap(struct dk_core *core, const struct dk_ring *ring,
                       const struct dk_registry_row *row, struct dk_provider *provider,
                       struct dk_err *err)
{
    struct dk_wrap_columns columns;
    struct dk_txn txn;
    DK_TRY(dk_further_wrap_registry(core, provider, ring, row, &columns, err));
    DK_TRY(dk_registry_begin(core, DK_TXN_WRITE, &txn, err));
    dk_rc rc = txn.ops->registry_wrap_put(txn.self, row->generation, &columns, err);
    rc = rc == DK_OK ? dk_store_commit(&txn, err) : rc;
    dk_store_rollback(&txn);
    return rc;
}

/* ---- of one provider ------------------------------------------------------------------------- */

struct wanted {
    const char *provider;
    struct dk_wrap_columns wrap;
    bool there;
};

static bool note_wanted(void *arg, const struct dk_wrap_columns *wrap)
{
    struct wanted *wanted = arg;
    if (strcmp(wrap->provider, wanted->provider) == 0) {
        wanted->wrap = *wrap;
        wanted->there = true;
    }
    return !wanted->there;
}

static dk_rc find_wanted(struct dk_core *core, uint32_t generation, struct wanted *wanted,
                         struct dk_err *err)
{
    struct dk_txn txn;
    DK_TRY(dk_registry_begin(core, DK_TXN_READ, &txn, err));
    dk_rc rc = txn.ops->registry_wraps(txn.self, generation, note_wanted, wanted, err);
    dk_store_rollback(&txn);
    return rc;
}

dk_rc dk_further_registry(struct dk_core *core, struct dk_provider *provider, struct dk_err *err)
{
    struct dk_registry_row row;
    struct wanted wanted = {.provider = dk_provider_name(provider)};
    DK_TRY(dk_registry_read(core, &row, err));
    if (strcmp(row.wrap.provider, wanted.provider) == 0) {
        return DK_OK;
    }
    DK_TRY(find_wanted(core, row.generation, &wanted, err));
    return wanted.there ? DK_OK : make_wrap(core, NULL, &row, provider, err);
}

/* ---- whether they still open ----------------------------------------------------------------- */

static void tell_broken(struct dk_core *core, const struct dk_registry_row *row,
                        const char *provider, const struct dk_err *err)
{
    DK_LOG(&core->log, ERROR, "second_wrap_does_not_open", DK_LOG_S(TENANT, "*"),
           DK_LOG_I(VERSION, row->generation), DK_LOG_S(PROVIDER, provider),
           DK_LOG_S(CODE, dk_error_info(err->rc)->name), DK_LOG_S(REASON, err->text));
}

/* What is damaged stays until there is another: only a key that is known is wrapped. */
static dk_rc see_wrap(struct dk_core *core, const struct dk_ring *ring,
                      const struct dk_registry_row *row, struct dk_provider *provider,
                      struct dk_err *err)
{
    struct wanted wanted = {.provider = dk_provider_name(provider)};
    struct dk_err broken;
    if (strcmp(row->wrap.provider, wanted.provider) == 0) {
        return DK_OK;
    }
    DK_TRY(find_wanted(core, row->generation, &wanted, err));
    dk_err_clear(&broken);
    if (wanted.there) {
        dk_rc rc = dk_further_try_registry(core, ring, row, &wanted.wrap, &broken);
        if (rc == DK_OK) {
            return DK_OK;
        }
        if (rc != DK_E_BUSY) {
            tell_broken(core, row, wanted.provider, &broken);
        }
        if (rc != DK_E_TAMPERED) {
            *err = broken;
            return rc;
        }
    }
    return make_wrap(core, ring, row, provider, err);
}

static dk_rc see_both(void *arg, const struct dk_ring *ring, const struct dk_registry_row *row,
                      struct dk_err *err)
{
    struct dk_core *core = arg;
    struct dk_err second;
    dk_err_clear(&second);
    dk_rc rc = see_wrap(core, ring, row, core->provider, err);
    dk_rc other = see_wrap(core, ring, row, core->second, &second);
    return dk_further_first(rc, other, &second, err);
}

static dk_rc see_all(struct dk_core *core, struct dk_err *err)
{
    struct dk_registry_row row;
    struct dk_err earlier;
    dk_err_clear(&earlier);
    DK_TRY(dk_registry_read(core, &row, err));
    dk_trace(core->world, "further.registry_read");
    dk_rc rc = see_both(core, NULL, &row, err);
    dk_rc other = dk_further_each_earlier(core, &row, see_both, core, &earlier);
    return dk_further_first(rc, other, &earlier, err);
}

bool dk_further_registry_tick(struct dk_core *core)
{
    int64_t *last = &core->further_at.registry_us;
    int64_t now = dk_wall_us(core->world);
    struct dk_err err;
    if (*last != 0 && now >= *last && now - *last < core->limits.canary_us) {
        return true;
    }
    dk_err_clear(&err);
    dk_rc rc = see_all(core, &err);
    if (rc == DK_OK) {
        *last = now;
    } else if (rc != DK_E_BUSY) {
        DK_LOG(&core->log, WARN, "second_wraps_wait", DK_LOG_S(CODE, dk_error_info(rc)->name),
               DK_LOG_S(REASON, err.text));
    }
    return rc == DK_OK;
}

/* ---- earlier keys ---------------------------------------------------------------------------- */

struct earlier {
    struct dk_registry_key_row list[PAGE];
    size_t n;
};

static bool note_earlier(void *arg, const struct dk_registry_key_row *row)
{
    struct earlier *earlier = arg;
    earlier->list[earlier->n++] = *row;
    return earlier->n < PAGE;
}

static dk_rc read_earlier(struct dk_core *core, uint32_t from, struct earlier *earlier,
                          struct dk_err *err)
{
    struct dk_txn txn;
    earlier->n = 0;
    DK_TRY(dk_registry_begin(core, DK_TXN_READ, &txn, err));
    dk_rc rc = txn.ops->registry_keys(txn.self, from, note_earlier, earlier, err);
    dk_store_rollback(&txn);
    return rc;
}

struct walk {
    const struct dk_ring *ring;
    const struct dk_registry_row *now;
    dk_rc (*each)(void *arg, const struct dk_ring *ring, const struct dk_registry_row *row,
                  struct dk_err *err);
    void *arg;
};

static dk_rc walk_earlier(struct dk_core *core, const struct walk *walk, struct earlier *earlier,
                          struct dk_err *err)
{
    uint32_t from = 1;
    dk_rc rc = DK_OK;
    struct dk_err one;
    do {
        dk_err_clear(&one);
        rc = dk_further_first(rc, read_earlier(core, from, earlier, &one), &one, err);
        for (size_t i = 0; i < earlier->n; i++) {
            struct dk_registry_row row = *walk->now;
            row.wrap = earlier->list[i].wrap;
            row.generation = earlier->list[i].generation;
            from = row.generation + 1;
            dk_err_clear(&one);
            rc = dk_further_first(rc, walk->each(walk->arg, walk->ring, &row, &one), &one, err);
        }
    } while (earlier->n == PAGE);
    return rc;
}

dk_rc dk_further_each_earlier(struct dk_core *core, const struct dk_registry_row *now,
                              dk_rc (*each)(void *arg, const struct dk_ring *ring,
                                            const struct dk_registry_row *row, struct dk_err *err),
                              void *arg, struct dk_err *err)
{
    struct dk_ring ring;
    struct earlier *earlier = NULL;
    if (now->generation < 2) {
        return DK_OK;
    }
    DK_TRY(dk_keyring_open_ring(core, &ring, err));
    earlier = dk_mem_alloc(&core->world->mem, sizeof *earlier);
    const struct walk walk = {&ring, now, each, arg};
    dk_rc rc = earlier != NULL ? walk_earlier(core, &walk, earlier, err)
                               : DK_FAIL(err, NOMEM, "no memory for earlier registry keys");
    dk_mem_free(&core->world->mem, earlier);
    dk_ring_close(core, &ring);
    return rc;
}
