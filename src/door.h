/*
 * door: what the public calls share: the instance, its wiring, and the way out of an error.
 *
 * Included by the files of src/ itself and by the bench.
 */
#ifndef DK_DOOR_H
#define DK_DOOR_H

#include "base/file.h"
#include "base/options.h"
#include "dekhand_admin.h"
#include "keys/access.h"
#include "keys/checkup.h"
#include "keys/manager.h"

/* What tests hand in; zero = the real ones. */
struct dk_parts {
    const struct dk_world *world;
    const struct dk_provider_ops *provider;
    const struct dk_provider_ops *second;
    void *provider_arg; /* of either */
    const struct dk_limits *limits;
};

/* Settings turned into places. */
struct dk_places {
    char state_dir[DK_PATH_MAX];
    char master_key[DK_PATH_MAX];
    char database_url[DK_PATH_MAX + 16]; /* to open it with: it may hold a password */
    char database[DK_PATH_MAX + 16];     /* the same to be shown */
    char anchor[DK_PATH_MAX];
};

struct dk_instance {
    struct dk_core core;
    const _Atomic uint32_t *alive; /* of the arena: 0 in a child that has not recovered */
    struct dk_world world;
    struct dk_random random; /* what the world's is made of */
    atomic_int in_random;    /* calls of it under way; seen by the child of a fork */
    struct dk_places places;
    struct dk_manager *manager;
    void (*log)(void *arg, enum dekhand_log_level level, const char *line, size_t length);
    void *log_arg;
    struct dk_arena_report memory;
    atomic_int recovering; /* the pid of a child whose thread opens everything again; 0 = none */
};

/* What the application holds: an instance, and on whose behalf it is used. */
struct dekhand {
    struct dk_instance *in;
    struct dk_actor actor;
    bool lent; /* made by dekhand_act_as: the instance is another handle's */
};

/* dekhand_open() and dekhand_init() with parts. */
int dk_door_open(const struct dekhand_config *config, const struct dk_parts *parts,
                 struct dekhand **out, struct dekhand_error *error);
int dk_door_init(const struct dekhand_config *config, const struct dk_parts *parts,
                 struct dekhand_init_result *out, struct dekhand_error *error);

int dk_door_doctor(const struct dekhand_config *config, const struct dk_parts *parts,
                   void (*each)(void *arg, const struct dekhand_check *check), void *arg,
                   struct dekhand_doctor_result *out, struct dekhand_error *error);
/* Of init: the schema is made where it is missing or older, as the login that may
 * (KMS_MIGRATE_URL).
 */
DK_MUST_USE dk_rc dk_door_migrate(struct dk_instance *d, const struct dk_settings *settings,
                                  struct dk_err *err);
/* E_CONFIG: there is no registry. Asked before the provider: a missing master key is no loss then.
 */
DK_MUST_USE dk_rc dk_door_check_initialised(struct dk_instance *d, struct dk_err *err);
/* Of a registry that is there: what its provider's setting lacks is said by the registry. */
DK_MUST_USE dk_rc dk_door_open_provider(struct dk_instance *d, const struct dk_settings *settings,
                                        const struct dk_parts *parts, struct dk_err *err);

/* wire.c: settings to a core with provider and store, registry not yet opened. */
void dk_wire_log(struct dk_instance *d, const struct dekhand_config *config);
DK_MUST_USE dk_rc dk_wire_settings(const struct dekhand_config *config, struct dk_settings *out,
                                   struct dk_log *log, struct dk_err *err);
DK_MUST_USE dk_rc dk_wire_places(const struct dk_settings *settings, struct dk_places *out,
                                 struct dk_err *err);
/* `database_url` and `database` alone, of the login that may change the schema. */
DK_MUST_USE dk_rc dk_wire_migrate_place(const struct dk_settings *settings, struct dk_places *out,
                                        struct dk_err *err);
DK_MUST_USE dk_rc dk_wire_core(struct dk_instance *d, const struct dekhand_config *config,
                               const struct dk_settings *settings, const struct dk_parts *parts,
                               struct dk_err *err);
/* The back end that the settings, or the tests, ask for. */
DK_MUST_USE dk_rc dk_wire_choose(const struct dk_settings *settings, const struct dk_parts *parts,
                                 const struct dk_provider_ops **out, struct dk_err *err);
/* That of KMS_SECONDARY_PROVIDER, NULL without one. */
DK_MUST_USE dk_rc dk_wire_choose_second(const struct dk_settings *settings,
                                        const struct dk_parts *parts,
                                        const struct dk_provider_ops *first,
                                        const struct dk_provider_ops **out, struct dk_err *err);
DK_MUST_USE dk_rc dk_wire_provider(struct dk_instance *d, const struct dk_settings *settings,
                                   const struct dk_parts *parts, struct dk_err *err);
/* Closes what the two above opened, in any state of half done. */
void dk_wire_close(struct dk_instance *d);

/*
 * First thing in every public call: E_USAGE without a handle; recovery after fork. Alone only where
 * access is checked by what follows.
 */
DK_MUST_USE dk_rc dk_door_begin(struct dekhand *d, struct dk_err *err);
/* The same, and E_DENIED when the actor's role does not reach so far; `tenant` NULL = all. */
DK_MUST_USE dk_rc dk_door_enter(struct dekhand *d, enum dk_action action, const char *tenant,
                                struct dk_err *err);
/* E_USAGE: no tenant, or no version from 1 on. */
DK_MUST_USE dk_rc dk_door_name_key(const char *tenant, uint32_t version, struct dk_key_name *out,
                                   struct dk_err *err);
/* Hands a check on to the caller's function; `arg` is a struct dk_check_call. */
struct dk_check_call {
    void (*each)(void *arg, const struct dekhand_check *check);
    void *arg;
};
void dk_door_tell_check(void *arg, const struct dk_check *check);

/* Last thing: fills the public record and returns the code. */
int dk_door_leave(dk_rc rc, const struct dk_err *err, struct dekhand_error *error);

#endif
