/*
 * Any environment: refused with a text that names the setting, or values within their bounds. The
 * input is NAME=VALUE with a NUL after each.
 */
#include <stdlib.h>

#include "base/options.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define ENTRIES 64

static void must(bool ok)
{
    if (!ok) {
        abort();
    }
}

static bool is_known(const char *name)
{
    for (size_t i = 0; i < DK_OPT_COUNT; i++) {
        if (strcmp(dk_options[i].name, name) == 0) {
            return true;
        }
    }
    return false;
}

static void warn(void *arg, const char *name, const char *suggestion)
{
    (void)arg;
    must(!is_known(name) && (suggestion == NULL || is_known(suggestion)));
}

static void check_values(const struct dk_settings *settings)
{
    for (size_t i = 0; i < DK_OPT_COUNT; i++) {
        const struct dk_option *option = &dk_options[i];
        const char *value = dk_settings_str(settings, (enum dk_option_id)i);
        must(!dk_settings_is_set(settings, (enum dk_option_id)i) || value[0] != '\0');
        if (option->type == DK_OPT_INT) {
            int64_t n = dk_settings_int(settings, (enum dk_option_id)i);
            must(n >= option->min && n <= option->max);
        }
    }
}

/* One setting, as a flag gives it. */
static void set_one(struct dk_settings *settings, char *entry)
{
    struct dk_err err;
    char *equals = strchr(entry, '=');
    dk_err_clear(&err);
    if (equals == NULL) {
        (void)dk_option_suggest(entry);
        (void)dk_debug_asks_for_kms(entry);
        return;
    }
    *equals = '\0';
    if (dk_settings_set(settings, entry, equals + 1, DK_FROM_FLAG, &err) != DK_OK) {
        must(err.rc == DK_E_CONFIG && err.text[0] != '\0');
    } else {
        must(is_known(entry));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1), *entries[ENTRIES + 1];
    struct dk_settings settings;
    struct dk_err err;
    size_t count = 0;
    must(text != NULL);
    if (size > 0) {
        memcpy(text, data, size);
    }
    text[size] = '\0';
    for (size_t at = 0; at < size && count < ENTRIES; at += strlen(text + at) + 1) {
        entries[count++] = text + at;
    }
    entries[count] = NULL;
    dk_err_clear(&err);
    dk_settings_init(&settings, &dk_mem_default);
    dk_rc rc = dk_settings_read_environment(&settings, entries, warn, NULL, &err);
    must(rc == DK_OK || (rc == DK_E_CONFIG && err.text[0] != '\0'));
    if (rc == DK_OK) {
        check_values(&settings);
    }
    for (size_t i = 0; i < count; i++) {
        set_one(&settings, entries[i]);
    }
    check_values(&settings);
    dk_settings_clear(&settings);
    free(text);
    return 0;
}
