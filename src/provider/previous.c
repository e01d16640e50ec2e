#include "provider/previous.h"

#include <stdio.h>

struct one {
    char id[DK_KMS_KEY_ID_MAX + 1]; /* as the setting has it */
    void *self;
};

struct dk_previous {
    const struct dk_provider_ops *ops;
    const struct dk_mem *mem;
    struct one list[DK_PREVIOUS_MAX];
    size_t count;
};

/* ---- open and close -------------------------------------------------------------------------- */

/* Whether a back end has such keys; the first one counts. */
static const struct dk_provider_ops *whose(const char *id, struct dk_previous_aim *aim)
{
    for (size_t i = 0; dk_provider_backends[i] != NULL; i++) {
        const struct dk_provider_ops *ops = dk_provider_backends[i];
        if (ops->previous_aim != NULL && ops->previous_aim(id, aim)) {
            return ops;
        }
    }
    return NULL;
}

/* The settings are lent for the opening, and so are those that differ. */
static dk_rc open_one(struct dk_previous *previous, const struct dk_provider_setup *setup,
                      struct dk_previous_aim *aim, const char *id, struct dk_err *err)
{
    struct dk_settings settings = *setup->settings;
    struct dk_provider_setup own = *setup;
    struct one *one = &previous->list[previous->count];
    struct dk_err cause;
    dk_err_clear(&cause);
    own.settings = &settings;
    for (size_t i = 0; i < aim->count; i++) {
        settings.value[aim->option[i]] = aim->value[i];
    }
    dk_rc rc = previous->ops->open(&own, &one->self, &cause);
    if (rc != DK_OK) {
        return dk_err_set(err, rc, __FILE__, __LINE__, "KMS_PREVIOUS_KEYS: %.110s: %.160s", id,
                          cause.text);
    }
    memcpy(one->id, id, strlen(id) + 1);
    previous->count++;
    return DK_OK;
}

static dk_rc open_entry(struct dk_previous *previous, const struct dk_provider_setup *setup,
                        const char *id, struct dk_err *err)
{
    struct dk_previous_aim aim;
    const struct dk_provider_ops *ops = whose(id, &aim);
    if (ops == NULL) {
        /* What may have a password in it is not shown. */
        return DK_FAIL(
            err, CONFIG,
            "KMS_PREVIOUS_KEYS: %.110s is neither the ARN of a key in AWS KMS nor the id "
            "of a key in Azure Key Vault without its version (https://VAULT/keys/NAME)",
            strchr(id, '@') == NULL ? id : "an entry with an @");
    }
    if (ops != previous->ops) {
        return DK_OK; /* that of another provider */
    }
    return previous->count < DK_PREVIOUS_MAX
               ? open_one(previous, setup, &aim, id, err)
               : DK_FAIL(err, CONFIG, "KMS_PREVIOUS_KEYS: more than %d keys of %s", DK_PREVIOUS_MAX,
                         ops->name);
}

/* The next entry, cut to what `id` holds; its length, 0 at the end. */
static size_t next_entry(const char **list, char id[static DK_KMS_KEY_ID_MAX + 1])
{
    static const char between[] = ", \t";
    *list += strspn(*list, between);
    size_t n = strcspn(*list, between);
    snprintf(id, DK_KMS_KEY_ID_MAX + 1, "%.*s",
             (int)(n < DK_KMS_KEY_ID_MAX ? n : DK_KMS_KEY_ID_MAX), *list);
    *list += n;
    return n;
}

static dk_rc open_all(struct dk_previous *previous, const struct dk_provider_setup *setup,
                      const char *list, struct dk_err *err)
{
    char id[DK_KMS_KEY_ID_MAX + 1];
    for (size_t n; (n = next_entry(&list, id)) > 0;) {
        if (n >= sizeof id) {
            return DK_FAIL(err, CONFIG, "KMS_PREVIOUS_KEYS: an entry is longer than %d bytes",
                           DK_KMS_KEY_ID_MAX);
        }
        DK_TRY(open_entry(previous, setup, id, err));
    }
    return DK_OK;
}

dk_rc dk_previous_open(const struct dk_provider_ops *ops, const struct dk_provider_setup *setup,
                       struct dk_previous **out, struct dk_err *err)
{
    const struct dk_mem *mem = &setup->world->mem;
    const char *list =
        setup->settings != NULL ? dk_settings_str(setup->settings, DK_OPT_PREVIOUS_KEYS) : NULL;
    *out = NULL;
    if (list == NULL) {
        return DK_OK;
    }
    struct dk_previous *previous = dk_mem_zalloc(mem, sizeof *previous);
    if (previous == NULL) {
        return DK_FAIL(err, NOMEM, "no memory for KMS_PREVIOUS_KEYS");
    }
    previous->ops = ops;
    previous->mem = mem;
    dk_rc rc = open_all(previous, setup, list, err);
    if (rc != DK_OK || previous->count == 0) {
        dk_previous_close(previous);
        return rc;
    }
    *out = previous;
    return DK_OK;
}

void dk_previous_tell_unused(const struct dk_settings *settings, const struct dk_log *log,
                             const struct dk_provider_ops *first,
                             const struct dk_provider_ops *second)
{
    const char *list = dk_settings_str(settings, DK_OPT_PREVIOUS_KEYS);
    char id[DK_KMS_KEY_ID_MAX + 1];
    while (list != NULL && next_entry(&list, id) > 0) {
        struct dk_previous_aim aim;
        const struct dk_provider_ops *ops = whose(id, &aim);
        if (ops != NULL && ops != first && ops != second) {
            DK_LOG(log, WARN, "previous_key_unused", DK_LOG_S(KEY_ID, id),
                   DK_LOG_S(PROVIDER, ops->name),
                   DK_LOG_S(REASON, "it is in KMS_PREVIOUS_KEYS, and its provider is neither "
                                    "KMS_PROVIDER nor KMS_SECONDARY_PROVIDER: it opens nothing"));
        }
    }
}

void dk_previous_close(struct dk_previous *previous)
{
    if (previous == NULL) {
        return;
    }
    for (size_t i = 0; i < previous->count; i++) {
        previous->ops->close(previous->list[i].self);
    }
    dk_mem_free(previous->mem, previous);
}

dk_rc dk_previous_after_fork(struct dk_previous *previous, struct dk_err *err)
{
    for (size_t i = 0; previous != NULL && i < previous->count; i++) {
        DK_TRY(previous->ops->after_fork(previous->list[i].self, err));
    }
    return DK_OK;
}

void dk_previous_forget(struct dk_previous *previous)
{
    for (size_t i = 0; previous != NULL && i < previous->count; i++) {
        previous->ops->forget(previous->list[i].self);
    }
}

/* ---- unwrapping ------------------------------------------------------------------------------ */

/* Of replicas of one multi-Region key the configured one opens, whatever becomes of the other. */
static bool is_for(const struct dk_previous *previous, const struct one *one, void *own,
                   const char *kms_key_id)
{
    return previous->ops->previous_is(one->id, kms_key_id) &&
           !previous->ops->is_own(own, kms_key_id);
}

/* Those that are not for this key, in front: how many they are. */
static size_t part(const struct dk_previous *previous, const struct one *one, void *own,
                   struct dk_provider_item **items, size_t count)
{
    size_t rest = 0;
    for (size_t i = 0; i < count; i++) {
        struct dk_provider_item *item = items[i];
        if (!is_for(previous, one, own, item->wrapped->kms_key_id)) {
            items[i] = items[rest];
            items[rest++] = item;
        }
    }
    return rest;
}

static bool is_claimed(const struct dk_previous *previous, const char *kms_key_id)
{
    for (size_t i = 0; i < previous->count; i++) {
        if (previous->ops->previous_is(previous->list[i].id, kms_key_id)) {
            return true;
        }
    }
    return false;
}

static bool any_is_claimed(const struct dk_previous *previous,
                           struct dk_provider_item *const *items, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (is_claimed(previous, items[i]->wrapped->kms_key_id)) {
            return true;
        }
    }
    return false;
}

size_t dk_previous_unwrap(struct dk_previous *previous, void *own, struct dk_provider_item **items,
                          size_t count)
{
    if (previous == NULL) {
        return count;
    }
    if (previous->ops->learn_own != NULL && any_is_claimed(previous, items, count)) {
        previous->ops->learn_own(own, items, count);
    }
    for (size_t i = 0; i < previous->count && count > 0; i++) {
        size_t rest = part(previous, &previous->list[i], own, items, count);
        if (rest < count) {
            previous->ops->run(previous->list[i].self, DK_PROVIDER_UNWRAP, items + rest,
                               count - rest);
        }
        count = rest;
    }
    return count;
}

/* ---- what is said of them -------------------------------------------------------------------- */

struct told {
    const struct dk_provider_tell *to;
    const char *id;
};

/* Which of the keys it is stands in most texts. */
static void tell_one(void *arg, enum dk_provider_level level, const char *text, const char *todo)
{
    const struct told *told = arg;
    bool named = strstr(text, told->id) != NULL;
    dk_provider_say(told->to, level, todo, "KMS_PREVIOUS_KEYS: %s%s%s", named ? "" : told->id,
                    named ? "" : ": ", text);
}

void dk_previous_inspect(struct dk_previous *previous, const struct dk_provider_tell *tell)
{
    for (size_t i = 0; previous != NULL && i < previous->count; i++) {
        struct told told = {tell, previous->list[i].id};
        const struct dk_provider_tell one = {.tell = tell_one, .arg = &told};
        previous->ops->inspect(previous->list[i].self, true, &one);
    }
}

struct dk_previous_ids dk_previous_ids(const struct dk_previous *previous)
{
    struct dk_previous_ids ids = {.count = 0};
    for (size_t i = 0; previous != NULL && i < previous->count; i++) {
        ids.id[ids.count++] = previous->list[i].id;
    }
    return ids;
}
