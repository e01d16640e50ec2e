/*
 * options: the settings table, where each value comes from, and what is wrong with it.
 *
 * Filled by the CLI (dotenv file, environment, flags) and by the library (environment, the list of
 * the call); read by the door, which turns it into limits. Texts name the setting, never a value
 * that might be a secret. A dk_settings belongs to one thread until it is complete.
 */
#ifndef DK_BASE_OPTIONS_H
#define DK_BASE_OPTIONS_H

#include "base/bytes.h"

enum dk_option_id {
#define DK_OPTION(id, name, flag, type, def, min, max, unit, secret, reload, help) DK_OPT_##id,
#include "base/options.def"
#undef DK_OPTION
    DK_OPT_COUNT
};

enum dk_option_type { DK_OPT_STRING, DK_OPT_INT, DK_OPT_BOOL };
/* Later ones win. */
enum dk_option_source { DK_FROM_DEFAULT, DK_FROM_FILE, DK_FROM_ENVIRONMENT, DK_FROM_FLAG };

struct dk_option {
    const char *name;
    const char *flag; /* NULL: has no flag */
    enum dk_option_type type;
    const char *def; /* NULL: none */
    int64_t min;
    int64_t max;
    const char *unit;
    bool secret;
    bool reload;
    const char *help;
};

extern const struct dk_option dk_options[DK_OPT_COUNT];

struct dk_settings {
    const struct dk_mem *mem;
    char *value[DK_OPT_COUNT]; /* NULL = not set */
    enum dk_option_source source[DK_OPT_COUNT];
    char *file; /* the dotenv file that was read, or NULL */
    /* Gets each fault, and the reading goes on without that setting; NULL: the first one ends it.
     */
    void (*fault)(void *arg, const char *text);
    void *fault_arg;
};

void dk_settings_init(struct dk_settings *settings, const struct dk_mem *mem);
void dk_settings_clear(struct dk_settings *settings);

/*
 * E_CONFIG: unknown name (with a suggestion), empty value, not a number, out of range. An empty one
 * of AWS_.., AZURE_.. in a file or the environment is one that is not set, as their programs have
 * it.
 */
DK_MUST_USE dk_rc dk_settings_set(struct dk_settings *settings, const char *name, const char *value,
                                  enum dk_option_source source, struct dk_err *err);
/*
 * Takes the known names of `environ`. Unknown KMS_* and DEKHAND_* names are given to `warn`
 * (name, suggestion or NULL), which may be NULL; those that Kubernetes makes are passed over.
 */
DK_MUST_USE dk_rc dk_settings_read_environment(struct dk_settings *settings, char **environ_list,
                                               void (*warn)(void *arg, const char *name,
                                                            const char *suggestion),
                                               void *arg, struct dk_err *err);
/* Reads a dotenv file. E_CONFIG names file, line and setting. `must_exist` false: none is fine. */
DK_MUST_USE dk_rc dk_settings_read_file(struct dk_settings *settings, const char *path,
                                        bool must_exist, struct dk_err *err);

/* The value or the default; NULL when there is neither. Lent. */
const char *dk_settings_str(const struct dk_settings *settings, enum dk_option_id id);
int64_t dk_settings_int(const struct dk_settings *settings, enum dk_option_id id);
/* `true` or `1`; false when there is neither value nor default. */
bool dk_settings_bool(const struct dk_settings *settings, enum dk_option_id id);
bool dk_settings_is_set(const struct dk_settings *settings, enum dk_option_id id);
/* The state directory, `out` of DK_PATH_MAX bytes. E_CONFIG: nothing says where it is. */
DK_MUST_USE dk_rc dk_settings_state_dir(const struct dk_settings *settings, char *out,
                                        struct dk_err *err);

/* KMS_PROVIDER, or what follows from the other settings. E_CONFIG: they do not say which. */
DK_MUST_USE dk_rc dk_settings_provider(const struct dk_settings *settings, const char **out,
                                       struct dk_err *err);

/*
 * A database's URL as it may be shown: passwords in it become ********, whether it parses or not.
 * `out` of any size; what does not fit is cut off.
 */
void dk_url_shown(const char *url, char *out, size_t cap);

/* The nearest known name, or NULL when none is near. */
const char *dk_option_suggest(const char *name);

/* DEBUG as Node's packages read it: a list of names; ours are `kms:` and what follows, and `*`. */
bool dk_debug_asks_for_kms(const char *debug);

#endif
