#include "store/store.h"

#include <stdio.h>

#include "store/postgres.h"
#include "store/sqlite.h"

const struct dk_store_ops *const dk_store_backends[] = {&dk_store_sqlite, &dk_store_postgres, NULL};

static const char *const state_names[DK_STATE_COUNT] = {"active", "retired", "disabled", "purged"};

const char *dk_state_name(enum dk_state state)
{
    return state_names[state];
}

bool dk_state_from_name(const char *name, enum dk_state *out)
{
    for (int i = 0; i < DK_STATE_COUNT; i++) {
        if (strcmp(state_names[i], name) == 0) {
            *out = (enum dk_state)i;
            return true;
        }
    }
    return false;
}

/* How long `scheme:` is where the URL begins with it; 0 = it does not. */
static size_t is_scheme(const char *url, const char *scheme)
{
    size_t n = strlen(scheme);
    return strncmp(url, scheme, n) == 0 && url[n] == ':' ? n + 1 : 0;
}

dk_rc dk_store_open(const struct dk_world *world, const char *url, struct dk_store *out,
                    struct dk_err *err)
{
    char known[80] = "";
    for (size_t i = 0; dk_store_backends[i] != NULL; i++) {
        const struct dk_store_ops *ops = dk_store_backends[i];
        size_t n = is_scheme(url, ops->scheme);
        n = n == 0 && ops->alias != NULL ? is_scheme(url, ops->alias) : n;
        if (n > 0) {
            *out = (struct dk_store){.ops = ops, .world = world};
            return ops->open(world, url + n, &out->self, err);
        }
        size_t used = strlen(known);
        snprintf(known + used, sizeof known - used, " %s:", ops->scheme);
    }
    return DK_FAIL(err, CONFIG, "DATABASE_URL: this version has no such store; it has:%s", known);
}

void dk_store_close(struct dk_store *store)
{
    if (store->self != NULL) {
        store->ops->close(store->self);
        store->self = NULL;
    }
}

dk_rc dk_store_script(const struct dk_store *store, bool supabase,
                      void (*put)(void *arg, const char *text, size_t n), void *arg,
                      struct dk_err *err)
{
    for (size_t i = 0; store == NULL && dk_store_backends[i] != NULL; i++) {
        if (dk_store_backends[i]->script != NULL) {
            return dk_store_backends[i]->script(NULL, supabase, put, arg, err);
        }
    }
    if (store == NULL || store->ops->script == NULL) {
        return DK_FAIL(err, CONFIG, "this store has no script: `dekhand init` makes it");
    }
    return store->ops->script(store->self, supabase, put, arg, err);
}

dk_rc dk_store_begin(struct dk_store *store, enum dk_txn_mode mode, struct dk_txn *txn,
                     struct dk_err *err)
{
    struct dk_err cause;
    dk_err_clear(&cause);
    *txn = (struct dk_txn){.ops = store->ops, .mode = mode};
    dk_rc rc = store->ops->begin(store->self, mode, &txn->self, &cause);
    if (rc == DK_OK) {
        atomic_store_explicit(&store->seen, true, memory_order_relaxed);
        return DK_OK;
    }
    if (rc == DK_E_CONFIG && atomic_load_explicit(&store->seen, memory_order_relaxed)) {
        cause.rc = DK_E_STORE;
    }
    *err = cause;
    return err->rc;
}

dk_rc dk_store_commit(struct dk_txn *txn, struct dk_err *err)
{
    void *self = txn->self;
    txn->self = NULL;
    return txn->ops->commit(self, err);
}

void dk_store_rollback(struct dk_txn *txn)
{
    if (txn->self != NULL) {
        txn->ops->rollback(txn->self);
        txn->self = NULL;
    }
}
