/* Whether the second provider could take over. */
#include <stdio.h>

#include "keys/checkup.h"
#include "keys/keyring.h"

#define CHECK "second"

enum lacking { NONE_LACKS, ONE_LACKS, NOT_KNOWN };

static void note_unreadable(void *arg, const char *tenant, uint32_t version)
{
    bool *unreadable = arg;
    (void)tenant, (void)version;
    *unreadable = true;
}

/* Whether a version has no wrap of this provider; of which tenant. */
static enum lacking look(struct dk_core *core, const struct dk_provider *provider, char *tenant)
{
    struct dk_txn txn;
    struct dk_err ignored;
    dk_rc rc = DK_E_NOMEM;
    bool unreadable = false;
    struct dk_key_row *row = dk_mem_alloc(&core->world->mem, sizeof *row);
    struct dk_key_page page = {
        .limit = 1, .rows = row, .unreadable = note_unreadable, .arg = &unreadable};
    dk_err_clear(&ignored);
    if (row != NULL && dk_registry_begin(core, DK_TXN_READ, &txn, &ignored) == DK_OK) {
        rc = txn.ops->wraps_missing(txn.self, dk_provider_name(provider), &page, &ignored);
        dk_store_rollback(&txn);
    }
    if (rc == DK_OK && page.count > 0) {
        memcpy(tenant, row->tenant.s, row->tenant.n + 1);
    }
    dk_mem_free(&core->world->mem, row);
    return rc != DK_OK      ? NOT_KNOWN
           : page.count > 0 ? ONE_LACKS
           : unreadable     ? NOT_KNOWN
                            : NONE_LACKS;
}

static bool tell_missing(struct dk_core *core, const struct dk_provider *provider,
                         struct dk_report *report)
{
    char tenant[DK_TENANT_MAX + 1], todo[80];
    enum lacking lacking = look(core, provider, tenant);
    if (lacking == NOT_KNOWN) {
        dk_report_tell(report, CHECK, DK_LEVEL_WARNING, "see what the other lines say of the store",
                       "whether every key version has a wrap of %s could not be read",
                       dk_provider_name(provider));
    }
    if (lacking != ONE_LACKS) {
        return lacking == NOT_KNOWN;
    }
    snprintf(todo, sizeof todo, "dekhand rewrap --to %s, or wait for the ticks",
             dk_provider_name(core->provider));
    dk_report_tell(report, CHECK, DK_LEVEL_WARNING, todo,
                   "key versions have no wrap of %s yet, one of tenant %s: without the other "
                   "provider they do not open",
                   dk_provider_name(provider), tenant);
    return true;
}

void dk_checkup_second(struct dk_core *core, struct dk_report *report)
{
    struct dk_err err;
    int64_t served = __atomic_load_n(&core->second_served, __ATOMIC_RELAXED);
    dk_err_clear(&err);
    if (core->second == NULL) {
        return;
    }
    const char *name = dk_provider_name(core->second);
    if (dk_provider_test(core->second, &err) != DK_OK) {
        const struct dk_error_info *info = dk_error_info(err.rc);
        dk_report_tell(report, CHECK, DK_LEVEL_WARNING, info->todo,
                       "%s: %s. While the first provider works nothing is lacking; new keys have "
                       "its wrap alone until this one works",
                       info->name, err.text);
        return;
    }
    bool missing = tell_missing(core, core->provider, report);
    missing = tell_missing(core, core->second, report) || missing;
    if (served > 0) {
        dk_report_tell(report, CHECK, DK_LEVEL_WARNING, "see why the first provider does not",
                       "%s has opened %lld keys of this process that the first provider did not",
                       name, (long long)served);
    } else if (!missing) {
        dk_report_tell(report, CHECK, DK_LEVEL_OK, "",
                       "%s wrapped and unwrapped a canary; every key version has a wrap of both",
                       name);
    }
}
