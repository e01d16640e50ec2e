/*
 * dekhand_admin: what an operator does with a registry: make it, look into it, export a key.
 *
 * Threads, fork and errors as in dekhand.h.
 */
#ifndef DEKHAND_ADMIN_H
#define DEKHAND_ADMIN_H

#include "dekhand.h"

#ifdef __cplusplus
extern "C" {
#endif

struct dekhand_init_result {
    bool made_master_key;
    bool made_registry;
    char pin[65];          /* 64 hex digits: KMS_REGISTRY_PIN */
    char kms_key_id[512];  /* the master key that wraps now */
    char database[4096];   /* where the registry is, without a password */
    char master_key[4096]; /* the file to keep safe; "" when the provider has none */
};

/*
 * Makes the local master key and the registry where they are missing; repeatable. Never makes a
 * second master or registry key where there was one: E_NO_MASTER_KEY names the one that is missing.
 */
DEKHAND_API int dekhand_init(const struct dekhand_config *config, struct dekhand_init_result *out,
                             struct dekhand_error *error);

/* What dekhand_migrate() found and made. */
struct dekhand_migration {
    size_t size;          /* sizeof(struct dekhand_migration), set by the caller */
    uint32_t from;        /* the schema's version before; 0 = there was none */
    uint32_t to;          /* and now */
    char registry_id[37]; /* its key is missing until dekhand_init() was called */
    char database[4096];  /* without a password */
};

/*
 * Makes the registry's schema in PostgreSQL, or brings it up to date, without any key: roles,
 * tables, rights, the registry's row. Logs in by KMS_MIGRATE_URL, else DATABASE_URL. Repeatable;
 * safe when several start at once; all of it or nothing. A file of SQLite is brought up to date,
 * never made. E_CONFIG: the login may not, and the text says what it lacks. E_SCHEMA: it is newer.
 */
DEKHAND_API int dekhand_migrate(const struct dekhand_config *config, struct dekhand_migration *out,
                                struct dekhand_error *error);
/*
 * The same as a script for psql, given to `each` in pieces; asks no server. `supabase`: as a file
 * of supabase/migrations, whose name stands in its first line.
 */
DEKHAND_API int dekhand_migrate_script(const struct dekhand_config *config, bool supabase,
                                       void (*each)(void *arg, const char *text, size_t length),
                                       void *arg, struct dekhand_error *error);

#define DEKHAND_DATA_KEY 32
/*
 * The data key itself (not the one derived from it), into 32 bytes of the caller's, who wipes
 * them. Written to the history first. `allow` must be true: E_USAGE otherwise.
 */
DEKHAND_API int dekhand_key_export(struct dekhand *d, const char *tenant, uint32_t version,
                                   bool allow, uint8_t out[DEKHAND_DATA_KEY],
                                   struct dekhand_error *error);

/*
 * Disables a version: its row and wrapped key stay, every process refuses to open it (E_DISABLED),
 * this one at once, others within their KMS_POLL_SECONDS. Enables it again. *changed (may be NULL)
 * false: it was so already. E_REFUSED: it is the active version (rotate first), or purged.
 */
DEKHAND_API int dekhand_key_disable(struct dekhand *d, const char *tenant, uint32_t version,
                                    bool *changed, struct dekhand_error *error);
DEKHAND_API int dekhand_key_enable(struct dekhand *d, const char *tenant, uint32_t version,
                                   bool *changed, struct dekhand_error *error);

/*
 * How many days a version of this tenant encrypts before its rotation, 1 to 730; 0 = as
 * KMS_ROTATION_DAYS says again. It counts for the active version too: *expires_at (may be NULL) is
 * its expiry now. E_NOT_FOUND: the tenant has no key yet.
 */
DEKHAND_API int dekhand_tenant_set(struct dekhand *d, const char *tenant, int64_t rotation_days,
                                   int64_t *expires_at, struct dekhand_error *error);

struct dekhand_history {
    const char *tenant;
    const char *operation; /* create, rotate, compromise, export */
    uint32_t from_version; /* 0 = none */
    uint32_t to_version;
    bool success;
    const char *error_message; /* "" = none */
    int64_t performed_at;
    const char *performed_by;
    const char *node;
};

/* The newest `limit` (at most 1000) entries, newest first; `tenant` NULL = all. */
DEKHAND_API int dekhand_history(struct dekhand *d, const char *tenant, size_t limit,
                                bool (*each)(void *arg, const struct dekhand_history *entry),
                                void *arg, struct dekhand_error *error);

/* ---- registry -------------------------------------------------------------------------------- */

struct dekhand_registry_info {
    size_t size; /* sizeof(struct dekhand_registry_info), set by the caller */
    char id[37];
    int64_t created_at;
    uint32_t schema_version;
    char provider[32]; /* that wraps the registry key */
    char kms_key_id[512];
    char pin[65]; /* KMS_REGISTRY_PIN */
    char database[4096];
    char anchor[4096];   /* the file */
    int64_t anchor_seal; /* the newest seal that it knows; 0 = there is no anchor */
    int64_t newest_seal; /* in the registry */
    bool older;          /* than the anchor, or than this instance saw it: nothing is encrypted */
    uint32_t generation; /* of the registry key: 1, and one more with each rekey */
    bool rekeying;       /* a rekey is unfinished: dekhand_registry_rekey() goes on with it */
    int64_t rekeyed_at;  /* INT64_MIN: never */
    char rekeyed_by[128];
};

DEKHAND_API int dekhand_registry(struct dekhand *d, struct dekhand_registry_info *out,
                                 struct dekhand_error *error);
/*
 * Takes the registry as it stands although it is older than the anchor, or rows of tenants are:
 * `confirm` is its id. Written to the log. What was sealed under versions that the registry does
 * not have is lost. *tenants (may be NULL): how many had key rows put back or lost.
 */
DEKHAND_API int dekhand_registry_accept_restore(struct dekhand *d, const char *confirm,
                                                int64_t *tenants, struct dekhand_error *error);

/* How far a rekey is. */
struct dekhand_rekey {
    size_t size; /* sizeof(struct dekhand_rekey), set by the caller */
    uint32_t generation;
    char pin[65];    /* the new KMS_REGISTRY_PIN */
    bool begun;      /* by this call; else it went on with one that was unfinished */
    int64_t tenants; /* whose rows this call has moved under the new key */
    int64_t keys;
    int64_t damaged; /* rows that prove nothing under either key: left as they are */
};

/*
 * A new registry key: every row of tenants and keys gets its MAC anew, log and seals stay under the
 * key that made them. Instances of other processes follow by themselves. Interrupted, it is
 * unfinished, and everything works: the next call goes on with it and never makes another key.
 * E_TAMPERED: damaged rows are left; repair them and call again, or end it with `leave_damaged`:
 * then they cannot be repaired any more. `each` (may be NULL) is told after every page. *out is
 * filled after an error too.
 */
DEKHAND_API int dekhand_registry_rekey(struct dekhand *d, bool leave_damaged,
                                       void (*each)(void *arg, const struct dekhand_rekey *so_far),
                                       void *arg, struct dekhand_rekey *out,
                                       struct dekhand_error *error);

/* ---- rewrap ---------------------------------------------------------------------------------- */

struct dekhand_rewrap {
    size_t size;          /* sizeof(struct dekhand_rewrap), set by the caller */
    int64_t rewrapped;    /* key versions that are under it since this call */
    int64_t kept;         /* that were already */
    int64_t failed;       /* that could not be opened, or wrapped: the log names each */
    int failed_code;      /* of the first of them */
    int64_t dropped;      /* that lost their wrap of `drop` */
    bool registry;        /* the registry's key was rewrapped */
    char kms_key_id[512]; /* what wraps now */
};

/*
 * The same data keys under the newest master key of the provider `to`, which is KMS_PROVIDER or
 * KMS_SECONDARY_PROVIDER; values stay as they are, and readers do not notice. Each new wrap is
 * opened and compared before it takes the place of the old one, which stays as a further one while
 * its provider is configured. `drop` (NULL = none): further wraps of this provider, which is not
 * configured any more, go, each after the first wrap was opened. `tenant` NULL = all, and the
 * registry's key. Repeatable: a call that was cut short leaves a registry that works, and the next
 * one does what is left. `each` (may be NULL) is told after every page, false = stop. *out is
 * filled after an error too. Who rewraps from a provider that is gone needs the other one's wraps:
 * KMS_SECONDARY_PROVIDER.
 */
DEKHAND_API int dekhand_rewrap(struct dekhand *d, const char *to, const char *tenant,
                               const char *drop,
                               bool (*each)(void *arg, const struct dekhand_rewrap *so_far),
                               void *arg, struct dekhand_rewrap *out, struct dekhand_error *error);

/* ---- audit ----------------------------------------------------------------------------------- */

/* Which rows of the log; zero everything and set `size`. */
struct dekhand_audit_query {
    size_t size;
    const char *tenant;    /* NULL = all */
    const char *operation; /* NULL = all: create, rotate, compromise, export, decrypt,
                              accept-restore, warning, cache-clear, rekey, rewrap, prune */
    int64_t since;         /* microseconds since 1970; 0 = from the beginning */
    int64_t until;         /* before this moment; 0 = to the end */
    size_t limit;          /* 0 = all */
    bool oldest_first;
};

/* Texts live until the callback returns; "" = none. */
struct dekhand_audit_entry {
    int64_t seq; /* the order in which rows were written */
    const char *id;
    const char *tenant; /* "*": several; then `detail` lists them as tenant:version */
    const char *operation;
    uint32_t from_version; /* 0 = none */
    uint32_t to_version;
    bool success;
    const char *error_message;
    int64_t performed_at;
    const char *performed_by;
    const char *node; /* host/instance: the process */
    const char *detail;
    const char *prev; /* mac of the row before it in its chain */
    const char *mac;
};

/* Rows as they stand; whether they are to be believed is dekhand_audit_verify's to say. */
DEKHAND_API int dekhand_audit_list(struct dekhand *d, const struct dekhand_audit_query *query,
                                   bool (*each)(void *arg, const struct dekhand_audit_entry *entry),
                                   void *arg, struct dekhand_error *error);

struct dekhand_finding {
    const char *table; /* key_rotation_log, seals, tenants, encryption_keys, registry,
                          registry_keys; schema = what they are made of */
    const char *tenant;
    const char *row;
    const char *text; /* what is wrong, and what it took to make it so */
};

struct dekhand_audit_result {
    size_t size; /* sizeof(struct dekhand_audit_result), set by the caller */
    int64_t log_rows;
    int64_t seals;
    int64_t tenants;
    int64_t keys;
    int64_t findings; /* 0 = every row is one that dekhand wrote, and none is missing */
};

/* Reads the whole registry. 0 with findings too; `each` (may be NULL) is told each of them. */
DEKHAND_API int dekhand_audit_verify(struct dekhand *d,
                                     void (*each)(void *arg, const struct dekhand_finding *finding),
                                     void *arg, struct dekhand_audit_result *out,
                                     struct dekhand_error *error);

struct dekhand_prune {
    size_t size;  /* sizeof(struct dekhand_prune), set by the caller */
    int64_t seal; /* the log is pruned up to this one; 0: nothing was ever pruned */
    int64_t rows; /* that this call has deleted, or would delete */
};

/*
 * Deletes rows of the log that stand in seals of before that moment (microseconds since 1970); a
 * row `prune` stays as the proof, and dekhand_audit_verify goes on from it. Seals are never
 * deleted. Interrupted, the next call ends it. DEKHAND_E_TAMPERED: there are findings; nothing is
 * deleted then. *out is filled after an error too.
 */
DEKHAND_API int dekhand_audit_prune(struct dekhand *d, int64_t before, bool dry_run,
                                    struct dekhand_prune *out, struct dekhand_error *error);

/* ---- health and doctor ----------------------------------------------------------------------- */

enum dekhand_level {
    DEKHAND_LEVEL_OK,
    DEKHAND_LEVEL_NOTE,    /* worth knowing; nothing is wrong */
    DEKHAND_LEVEL_WARNING, /* something needs attention; all goes on */
    DEKHAND_LEVEL_ERROR    /* something does not work, or a promise is not kept */
};

/* Texts live until the callback returns. */
struct dekhand_check {
    const char *name; /* what was looked at: one word */
    enum dekhand_level level;
    const char *text; /* what is, since when, and what it means for the data */
    const char *todo; /* what to do; "" = nothing */
};

struct dekhand_health {
    size_t size;              /* sizeof(struct dekhand_health), set by the caller */
    enum dekhand_level level; /* the worst of those below */
    int64_t at;
    char provider[32];
    bool provider_works; /* a canary was wrapped and unwrapped */
    int64_t provider_latency_ms;
    bool database_works;
    int64_t database_latency_ms;
    int cache_hit_rate; /* percent of this instance's calls; -1 = none yet */
    int64_t total_keys;
    int64_t active_keys;
    int64_t expired_keys;
    int64_t near_expiry_keys;
    int64_t failed_rotations; /* tenants of the last 7 days whose rotation was not made good */
    int64_t anchor_seal;      /* 0 = there is no anchor */
    enum dekhand_level provider_level, database_level, keys_level, rotation_level, anchor_level;
};

/*
 * How this instance and its registry are. 0 whatever is found; changes nothing. `each` (may be
 * NULL) is told every check. Asks the provider and the store: seconds when they hang, else
 * milliseconds.
 */
DEKHAND_API int dekhand_health(struct dekhand *d,
                               void (*each)(void *arg, const struct dekhand_check *check),
                               void *arg, struct dekhand_health *out, struct dekhand_error *error);

/*
 * The same when dekhand_open() fails with this configuration: `each` is told what keeps it from
 * opening, provider_level or database_level says which of the two it is (neither: the settings),
 * and the rest is not known. 0 whatever is found; changes nothing.
 */
DEKHAND_API int dekhand_health_closed(const struct dekhand_config *config,
                                      void (*each)(void *arg, const struct dekhand_check *check),
                                      void *arg, struct dekhand_health *out,
                                      struct dekhand_error *error);

struct dekhand_doctor_result {
    size_t size; /* sizeof(struct dekhand_doctor_result), set by the caller */
    int64_t checks;
    int64_t notes;
    int64_t findings; /* warnings and errors */
};

/*
 * Looks at everything: this machine, the files, then opens the registry, which may fail, and reads
 * the whole of it. 0 whatever is found; changes nothing but that unwraps are written down.
 */
DEKHAND_API int dekhand_doctor(const struct dekhand_config *config,
                               void (*each)(void *arg, const struct dekhand_check *check),
                               void *arg, struct dekhand_doctor_result *out,
                               struct dekhand_error *error);

/*
 * The least rights that dekhand needs at the provider for the configured master key, as the
 * provider's own tools take them: a policy of AWS IAM in JSON, commands of Azure's. `put` gets the
 * text, once. Asks the provider for the key's full name where the setting has only an alias;
 * without an answer a place to fill in stands there. E_USAGE: the local provider, which has none.
 * Reads no registry.
 */
DEKHAND_API int dekhand_provider_policy(const struct dekhand_config *config,
                                        void (*put)(void *arg, const char *text, size_t length),
                                        void *arg, struct dekhand_error *error);

/* A key version that entered its warning phase: KMS_WARNING_DAYS before its expiry. */
struct dekhand_warning {
    const char *tenant;
    uint32_t version;
    int64_t expires_at;
};

/*
 * Tells `each` (may be NULL) of every version in its warning phase, once for all processes: a log
 * row `warning` remembers it, and a log line says so. dekhand_tick() does this every hour.
 */
DEKHAND_API int dekhand_warnings(struct dekhand *d,
                                 void (*each)(void *arg, const struct dekhand_warning *warning),
                                 void *arg, struct dekhand_error *error);

struct dekhand_stats {
    size_t size; /* sizeof(struct dekhand_stats), set by the caller */
    int64_t total_keys;
    int64_t active_keys;
    int64_t expired_keys;     /* active and past their expiry */
    int64_t near_expiry_keys; /* active and within KMS_WARNING_DAYS of it */
    int64_t calls;            /* of this instance, values that found their key */
    int64_t hits;     /* ... in memory; hits / calls is the hit rate, none while calls = 0 */
    int64_t misses;   /* keys that were not in memory and had to be fetched first */
    int64_t unwraps;  /* keys fetched: misses, and refreshes ahead of the TTL */
    int64_t failures; /* fetches that failed */
    int64_t evictions;
    int64_t cached_keys;
    int64_t cache_capacity; /* KMS_CACHE_MAX_KEYS, or what the memory lock limit has room for */
    int64_t locked_bytes;   /* of memory for keys */
    bool memory_locked;     /* false: the lock was refused, keys may reach swap */
};

/* Takes no lock that a call waits for; counts of calls are as of this moment. */
DEKHAND_API int dekhand_stats(struct dekhand *d, struct dekhand_stats *out,
                              struct dekhand_error *error);

struct dekhand_calls {
    const char *operation; /* as the provider's service names it: "Decrypt" */
    int64_t calls;
    int64_t failed; /* among them */
};

/* What one provider costs. Amounts are millionths of a US dollar, at list price. */
struct dekhand_cost {
    const char *provider;
    const char *kms_key_id;   /* "": it is not configured any more */
    const char *key_kind;     /* as the price list tells keys apart; "": it is not in the list */
    int64_t per_10000;        /* for 10,000 calls */
    int64_t key_month;        /* for the key itself, a month */
    int64_t free_calls_month; /* calls that cost nothing, of the whole account */
    const struct dekhand_calls *operations;
    size_t operation_count;
    int64_t calls;
    int64_t failed;
    int64_t month_calls; /* forecast: 30 days at the measured rate */
    int64_t month;
    int64_t month_calls_uncached; /* .. had memory never answered */
    int64_t month_uncached;
};

struct dekhand_cost_report {
    size_t size;        /* sizeof(struct dekhand_cost_report), set by the caller */
    char prices_of[8];  /* the month of the price list: "2026-03" */
    char from[11];      /* the first day (UTC) with counts, or today: "2026-01-31" */
    char to[11];        /* today */
    int64_t measured_s; /* from the start of the first day until now, at least a day */
    int64_t hits;       /* calls whose key was in memory */
    int64_t misses;     /* keys that had to be fetched */
    int64_t month;      /* of all providers */
    int64_t month_uncached;
};

/*
 * How often the providers were asked in the last `days` (1 to 366), by all processes, as they have
 * told the store: hourly and when they end, this one now; dekhand_init() and dekhand_doctor() tell
 * nothing. `each` (may be NULL) is told of every
 * provider; what it gets lives until it returns. Asks Azure what its key is, when that is not
 * known.
 */
DEKHAND_API int dekhand_costs(struct dekhand *d, int64_t days,
                              void (*each)(void *arg, const struct dekhand_cost *cost), void *arg,
                              struct dekhand_cost_report *out, struct dekhand_error *error);

struct dekhand_key_stats {
    size_t size;      /* sizeof(struct dekhand_key_stats), set by the caller */
    int64_t hits;     /* values sealed and opened, as long as the key is in memory */
    int64_t misses;   /* fetches that a call waited for */
    int64_t unwraps;  /* misses and refreshes */
    int64_t messages; /* sealed by all processes, as far as this one knows; 0: not active here */
};

/* Of one key version in this instance's memory; all 0 when it is not there. */
DEKHAND_API int dekhand_key_stats(struct dekhand *d, const char *tenant, uint32_t version,
                                  struct dekhand_key_stats *out, struct dekhand_error *error);

/*
 * Forgets every key of this instance, and has every process that uses the registry read its keys
 * again within its KMS_POLL_SECONDS. Written to the log as `cache-clear`. On an error (the log
 * cannot be written) this instance has forgotten its keys, and the others were not told.
 */
DEKHAND_API int dekhand_cache_clear(struct dekhand *d, struct dekhand_error *error);

#ifdef __cplusplus
}
#endif

#endif
