/*
 * dekhand: a data key for every tenant of an application.
 *
 * Every tenant gets its own 256-bit data key, wrapped by a master key, kept in a registry, and
 * rotated; values are sealed with AES-256-GCM into the format dk1 (docs/FORMAT.md), as text or
 * binary. This header is all that an application needs; dekhand_admin.h is for operators.
 *
 * Threads: a `struct dekhand` may be used by any number of threads at once, except that
 * dekhand_close() must be the last call, after the others have returned and while no thread that
 * used it is ending. The library starts no thread and keeps no global state.
 * Fork: a child process may go on using what its parent opened; its keys are read again at its
 * first call. If another thread of the parent was inside the registry or the random generator at
 * the moment of fork(), the child's calls may end with DEKHAND_E_FORKED: open again after exec.
 *
 * Every function that can fail returns a code, 0 = fine, and takes an optional error record. On an
 * error nothing is written to the caller's buffers.
 */
#ifndef DEKHAND_H
#define DEKHAND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define DEKHAND_API __attribute__((visibility("default")))

/* Codes: part of the ABI, never renumbered. `dekhand_error_name` gives the name. */
enum dekhand_code {
    DEKHAND_OK = 0,
    DEKHAND_E_USAGE = 1,
    DEKHAND_E_CONFIG = 2,
    DEKHAND_E_NOMEM = 3,
    DEKHAND_E_IO = 4,
    DEKHAND_E_RANDOM = 5,
    DEKHAND_E_SELFTEST = 6,
    DEKHAND_E_BUFFER = 7,
    DEKHAND_E_LIMIT = 8,
    DEKHAND_E_FORMAT = 9,
    DEKHAND_E_AUTH = 10,
    DEKHAND_E_WRONG_KEY = 11,
    DEKHAND_E_UNKNOWN_VERSION = 12,
    DEKHAND_E_DISABLED = 13,
    DEKHAND_E_PURGED = 14,
    DEKHAND_E_NOT_FOUND = 15,
    DEKHAND_E_COMPROMISED = 16,
    DEKHAND_E_KEY_EXHAUSTED = 17,
    DEKHAND_E_EXPIRED = 18,
    DEKHAND_E_CONFLICT = 19,
    DEKHAND_E_BUSY = 20,
    DEKHAND_E_STORE = 21,
    DEKHAND_E_READ_ONLY = 22,
    DEKHAND_E_SCHEMA = 23,
    DEKHAND_E_TAMPERED = 24,
    DEKHAND_E_PROVIDER = 25,
    DEKHAND_E_UNREACHABLE = 26,
    DEKHAND_E_NO_MASTER_KEY = 27,
    DEKHAND_E_FORKED = 28,
    DEKHAND_E_CLOCK = 29,
    DEKHAND_E_INTERNAL = 30,
    DEKHAND_E_ROLLBACK = 31,
    DEKHAND_E_DENIED = 32,
    DEKHAND_E_REFUSED = 33,
    DEKHAND_E_LEASE = 34,
    DEKHAND_E_THROTTLED = 35,
    DEKHAND_E_PROVIDER_DENIED = 36,
    DEKHAND_E_MASTER_KEY_DISABLED = 37,
};

/* A record of the caller's, filled on failure. The texts never hold a key or a plaintext. */
struct dekhand_error {
    int code;
    bool retryable; /* the same call may succeed later */
    char name[24];  /* "E_AUTH" */
    char text[512]; /* what happened */
    char todo[160]; /* what to do */
};

DEKHAND_API const char *dekhand_version(void);
/* "E_AUTH" for 10; "OK" for 0. Never NULL. */
DEKHAND_API const char *dekhand_error_name(int code);

/* ---- open and close -------------------------------------------------------------------------- */

struct dekhand;

struct dekhand_setting {
    const char *name; /* "KMS_STATE_DIR": the names that `dekhand config` lists */
    const char *value;
};

enum dekhand_log_level { DEKHAND_DEBUG, DEKHAND_INFO, DEKHAND_WARN, DEKHAND_ERROR };

struct dekhand_config {
    size_t size;                            /* sizeof(struct dekhand_config) */
    const struct dekhand_setting *settings; /* win over the environment */
    size_t setting_count;
    bool ignore_environment;
    const char *actor; /* who does this, for the history; NULL = lib:<user> */
    /* Gets whole log lines, from any thread; NULL = standard error. */
    void (*log)(void *arg, enum dekhand_log_level level, const char *line, size_t length);
    void *log_arg;
    /* What the caller found wrong with its settings: dekhand_open() is then E_CONFIG. */
    const char *const *faults;
    size_t fault_count;
};

/*
 * Opens the registry that `dekhand init` or dekhand_init() made. `config` NULL = all from the
 * environment. Self-tests the cryptography first. E_CONFIG, E_NO_MASTER_KEY, E_SCHEMA, E_TAMPERED,
 * E_SELFTEST, E_NOMEM. The result is the caller's: dekhand_close().
 */
DEKHAND_API int dekhand_open(const struct dekhand_config *config, struct dekhand **out,
                             struct dekhand_error *error);
/*
 * Writes the message counts, wipes the keys, frees. An error says that the counts could not be
 * written; everything is freed all the same. NULL is allowed.
 */
DEKHAND_API int dekhand_close(struct dekhand *d, struct dekhand_error *error);
/*
 * Looks for changes of other processes, fetches keys anew ahead of their TTL, writes counts that
 * are due, rotates versions near their message budget. Call it every few seconds from a thread of
 * your own, so that no other call has to: while it comes, a slow provider holds up no value whose
 * key is in memory. Without it, the call that finds the look-out overdue (KMS_POLL_SECONDS), or
 * its key due, does it.
 */
DEKHAND_API int dekhand_tick(struct dekhand *d, struct dekhand_error *error);

/* ---- actors ---------------------------------------------------------------------------------- */

/*
 * On whose behalf a call is made. dekhand_open() gives a handle for who links the library: it may
 * do all that a service and a super admin may. docs/SECURITY.md has the table; what it does not
 * allow ends with E_DENIED and does nothing.
 */
enum dekhand_role {
    DEKHAND_ROLE_NONE, /* may do nothing */
    DEKHAND_ROLE_SUPER_ADMIN,
    DEKHAND_ROLE_ORG_OWNER, /* sees the keys of its own tenant */
    DEKHAND_ROLE_AGENT,     /* may do nothing */
    DEKHAND_ROLE_SERVICE,
    DEKHAND_ROLE_CRON,
    DEKHAND_ROLE_HEALTH /* sees the health, nothing else */
};

struct dekhand_actor {
    size_t size; /* sizeof(struct dekhand_actor) */
    enum dekhand_role role;
    const char *tenant; /* of DEKHAND_ROLE_ORG_OWNER; NULL for all others */
    const char *name;   /* performed_by in the log: 1 to 127 bytes, no control characters */
};

/*
 * A second handle to the same instance, for that actor: every call through it is checked. `d` must
 * be one that dekhand_open() gave (E_DENIED otherwise). Cheap; may be shared by threads. The result
 * is the caller's: dekhand_close(), before that of `d`. A first key that a value makes is written
 * down under the name that opened the instance.
 */
DEKHAND_API int dekhand_act_as(struct dekhand *d, const struct dekhand_actor *actor,
                               struct dekhand **out, struct dekhand_error *error);

/* ---- values ---------------------------------------------------------------------------------- */

/* Plaintext is 0 bytes to 1 MiB. */
#define DEKHAND_PLAINTEXT_MAX ((size_t)1048576)

enum dekhand_format {
    DEKHAND_TEXT,  /* dk1.<version>.<base64url>: for text columns; not NUL-terminated */
    DEKHAND_BINARY /* for bytea and BLOB columns */
};

struct dekhand_pair {
    const char *name;  /* 1 to 256 bytes of UTF-8 */
    const char *value; /* 0 to 256 bytes of UTF-8 */
};

/*
 * One value to encrypt or decrypt. Zero what you do not use.
 * `out` must not overlap `in`. `size` is set to the size of the result, also when `capacity` was
 * too small (E_BUFFER). In batches `code` is the item's own result.
 */
struct dekhand_item {
    const char *tenant; /* 1 to 128 of [A-Za-z0-9._:-]; a UUID may be in either case */
    const struct dekhand_pair *context; /* at most 16; the same pairs are needed to decrypt */
    size_t context_count;
    enum dekhand_format format; /* of encryption; decryption knows both */
    const void *in;
    size_t in_size;
    void *out;
    size_t capacity;
    size_t size;
    int code;
};

/* Exact size of a value of `n` bytes under a key version; version 0 = the most it can be. */
DEKHAND_API size_t dekhand_encrypted_size(enum dekhand_format format, uint32_t version, size_t n);
/* Exact size of the plaintext of a value. E_FORMAT: it is no dk1 value. */
DEKHAND_API int dekhand_decrypted_size(const void *value, size_t size, size_t *out,
                                       struct dekhand_error *error);
/* The key version of a value. E_FORMAT. */
DEKHAND_API int dekhand_value_version(const void *value, size_t size, uint32_t *out,
                                      struct dekhand_error *error);

/*
 * Encrypts under the tenant's active version; a tenant's first value makes its first key.
 * E_USAGE (tenant, context), E_LIMIT, E_BUFFER, E_RANDOM, E_COMPROMISED, E_KEY_EXHAUSTED,
 * E_EXPIRED, E_TAMPERED, or why the key cannot be had (E_UNREACHABLE, E_BUSY, E_READ_ONLY, ..).
 */
DEKHAND_API int dekhand_encrypt(struct dekhand *d, struct dekhand_item *item,
                                struct dekhand_error *error);
/*
 * Decrypts. E_FORMAT, E_WRONG_KEY and E_AUTH (changed, or another tenant or context),
 * E_UNKNOWN_VERSION, E_DISABLED, E_PURGED, E_BUFFER, or why the key cannot be had. Nothing is
 * written before the value has proved to be whole.
 */
DEKHAND_API int dekhand_decrypt(struct dekhand *d, struct dekhand_item *item,
                                struct dekhand_error *error);
/*
 * Many at once: for each 1,024 tenants of the batch, keys are looked up once and new tenants made
 * in one transaction; each item has its own code. Returns the first item's error code that is not
 * 0, with its text, after all items were worked on.
 */
DEKHAND_API int dekhand_encrypt_batch(struct dekhand *d, struct dekhand_item *items, size_t count,
                                      struct dekhand_error *error);
DEKHAND_API int dekhand_decrypt_batch(struct dekhand *d, struct dekhand_item *items, size_t count,
                                      struct dekhand_error *error);

/* ---- keys ------------------------------------------------------------------------------------ */

enum dekhand_rotate_which {
    DEKHAND_ROTATE_TENANT,
    DEKHAND_ROTATE_DUE, /* from KMS_WARNING_DAYS before the expiry on */
    DEKHAND_ROTATE_ALL
};

struct dekhand_rotate_args {
    size_t size; /* sizeof(struct dekhand_rotate_args) */
    enum dekhand_rotate_which which;
    const char *tenant;  /* DEKHAND_ROTATE_TENANT */
    uint32_t if_version; /* E_CONFLICT unless it is the active one; 0 = any */
    bool dry_run;
    bool compromised; /* the old version never encrypts again; it still decrypts */
};

struct dekhand_rotation {
    const char *tenant;
    uint32_t from_version;
    uint32_t to_version; /* 0: not rotated */
    int code;
    const char *text; /* of the error, else "" */
};

/*
 * A new key version; values of the old ones still decrypt. `each` gets every tenant's outcome (the
 * pointers are lent for the call) and may be NULL; false = no further tenant. One tenant's error
 * stops no other's; with one tenant it is the answer. E_NOT_FOUND: the tenant has no key.
 * E_CONFLICT: another was first.
 */
DEKHAND_API int dekhand_rotate(struct dekhand *d, const struct dekhand_rotate_args *args,
                               bool (*each)(void *arg, const struct dekhand_rotation *rotation),
                               void *arg, struct dekhand_error *error);

/* Times are microseconds since 1970-01-01 UTC. */
#define DEKHAND_NO_TIME INT64_MIN

struct dekhand_key {
    const char *tenant;
    uint32_t version;
    const char *state; /* active, retired, disabled, purged */
    const char *provider;
    const char *kms_key_id;
    int64_t created_at;
    int64_t expires_at;
    int64_t rotated_at; /* DEKHAND_NO_TIME: not yet; so are those that follow */
    int64_t compromised_at;
    int64_t disabled_at;
    int64_t purged_at;
    int64_t messages; /* sealed under it, as far as counts were written */
    bool due;         /* for rotation */
    int code;         /* E_TAMPERED: the row is not believed */
};

/*
 * Every key version, by tenant and number; `tenant` NULL = all. Metadata only. `each` returns false
 * to stop; its pointers are lent for the call.
 */
DEKHAND_API int dekhand_keys(struct dekhand *d, const char *tenant,
                             bool (*each)(void *arg, const struct dekhand_key *key), void *arg,
                             struct dekhand_error *error);

struct dekhand_tenant {
    const char *tenant;
    uint32_t versions;     /* made so far */
    int64_t rotation_days; /* 0: KMS_ROTATION_DAYS */
    int code;              /* E_TAMPERED: the row is not believed */
};

/* Every tenant, by id; `tenant` NULL = all. As dekhand_keys in all else. */
DEKHAND_API int dekhand_tenants(struct dekhand *d, const char *tenant,
                                bool (*each)(void *arg, const struct dekhand_tenant *tenant),
                                void *arg, struct dekhand_error *error);

#ifdef __cplusplus
}
#endif

#endif
