/*
 * store: where wrapped keys and their history live (the registry).
 *
 * Called from keys/ only. Knows rows and transactions, not rules: whether a version may be retired
 * is decided above. Never sees an unwrapped key, and does not compute row MACs.
 * A back end is one dk_store_ops, named in dk_store_backends. A dk_store may be shared by threads;
 * a dk_txn belongs to one thread and must be ended by commit or rollback. What a store keeps open
 * between transactions is not used in a child of a fork.
 * Outputs are untouched on any error.
 */
#ifndef DK_STORE_STORE_H
#define DK_STORE_STORE_H

#include <stdatomic.h>

#include "base/log.h"
#include "base/tenant.h"

#define DK_KMS_KEY_ID_TEXT 512
#define DK_WRAPPED_TEXT 2048
#define DK_MAC_TEXT 45
#define DK_CHECK_BYTES 32
#define DK_HASH_TEXT 65

enum dk_state { DK_ACTIVE, DK_RETIRED, DK_DISABLED, DK_PURGED, DK_STATE_COUNT };

/* "active" .. "purged". */
const char *dk_state_name(enum dk_state state);
DK_MUST_USE bool dk_state_from_name(const char *name, enum dk_state *out);

/* The wrap of the registry key lies in the same four columns as that of a data key. */
struct dk_wrap_columns {
    char provider[32]; /* "" = the registry has no key yet */
    char kms_key_id[DK_KMS_KEY_ID_TEXT];
    char encrypted_data_key[DK_WRAPPED_TEXT];
    char context_timestamp[DK_TIME_TEXT];
};

struct dk_registry_row {
    char uuid[DK_UUID_TEXT];
    uint32_t schema_version;
    int64_t created_at;
    struct dk_wrap_columns wrap;
    uint32_t generation; /* of the key; the first is 1 */
    bool rekeying;       /* rows may still be under the key before */
    int64_t pruned_seq;  /* log rows that were pruned go up to this one */
};

/* An earlier registry key, kept for what it made. */
struct dk_registry_key_row {
    uint32_t generation;
    struct dk_wrap_columns wrap;
    int64_t last_seal; /* under it */
};

struct dk_tenant_row {
    struct dk_tenant tenant;
    int64_t next_version; /* 2147483648 = no version is left */
    int64_t epoch;
    int64_t rotation_days;         /* 0 = the default */
    char log_head[DK_MAC_TEXT];    /* mac of the newest log row of the tenant's chain */
    char keys_digest[DK_MAC_TEXT]; /* over the MACs of all its key rows; "" = not chained yet */
    char row_mac[DK_MAC_TEXT];
};

struct dk_key_row {
    char id[DK_UUID_TEXT];
    struct dk_tenant tenant;
    uint32_t version;
    enum dk_state state;
    struct dk_wrap_columns wrap;
    uint8_t check_value[DK_CHECK_BYTES];
    int64_t created_at;
    int64_t expires_at;
    int64_t rotated_at; /* DK_TIME_NONE = NULL, as in those that follow */
    int64_t compromised_at;
    int64_t disabled_at;
    int64_t purged_at;
    int64_t messages;
    char row_mac[DK_MAC_TEXT];
};

struct dk_log_row {
    int64_t seq; /* the order in which rows were written; not part of the row */
    char id[DK_UUID_TEXT];
    char tenant[DK_TENANT_MAX + 1]; /* "*": several, or none */
    char operation[32];
    uint32_t from_version; /* 0 = NULL */
    uint32_t to_version;   /* 0 = NULL */
    bool success;
    char error_message[256]; /* "" = NULL, as in those that follow */
    int64_t performed_at;
    char performed_by[128];
    char node[128];
    const char *detail;     /* lent for the call; never NULL */
    char prev[DK_MAC_TEXT]; /* the mac before this one in its chain */
    char mac[DK_MAC_TEXT];
};

struct dk_log_query {
    const struct dk_tenant *tenant; /* NULL = all */
    int64_t since;                  /* DK_TIME_NONE = from the beginning */
    int64_t until;                  /* DK_TIME_NONE = to the end */
    int64_t after;                  /* seq: rows behind it in the order asked for; 0 = the start */
    bool newest_first;
    bool unchained; /* only rows without a mac; wants a tenant */
    bool failed;    /* only what did not succeed; of all tenants, newest first */
};

struct dk_seal_row {
    int64_t n;
    int64_t at;
    const char *heads;       /* lent for the call */
    char prev[DK_HASH_TEXT]; /* hash of seal n - 1, "" for the first */
    char mac[DK_MAC_TEXT];
};

/* The rows of the log that stand in a seal, and in those before it. */
struct dk_log_edge {
    int64_t seal;
    char mac[DK_MAC_TEXT]; /* of the last head in it; "" = there is none */
    int64_t seq;           /* the highest of those rows */
    int64_t rows;          /* how many are there */
};

/* Where a page of keys begins: after this tenant and version. All zero = at the start. */
struct dk_key_cursor {
    struct dk_tenant tenant;
    uint32_t version;
};

/* A page of keys that goes past rows that dekhand cannot have written: each of those is told. */
struct dk_key_page {
    struct dk_key_cursor after;
    size_t limit;
    struct dk_key_row *rows;
    size_t count; /* out; below `limit`: there are no more */
    /* May be NULL. A tenant that is none is "", a version that is none 0. */
    void (*unreadable)(void *arg, const char *tenant, uint32_t version);
    void *arg;
};

struct dk_key_counts {
    int64_t total;
    int64_t active;
    int64_t expired;     /* active and past expires_at */
    int64_t near_expiry; /* active, not expired, expiring before the given time */
};

/* One key that is looked for, and what the store has of it and of its tenant. */
struct dk_find {
    const struct dk_tenant *tenant;
    uint32_t version; /* 0 = the active one */
    struct dk_tenant_row row;
    dk_rc row_rc; /* DK_OK, E_NOT_FOUND, or E_TAMPERED: it holds what dekhand does not write */
    struct dk_key_row *key; /* a row only where key_rc is DK_OK */
    dk_rc key_rc;           /* as row_rc; E_TAMPERED also when the MAC of any row is no text */
    size_t versions;        /* key rows of the tenant */
    bool in_log; /* of one without any row: its own chain has rows (unwraps are not of it) */
};

/* What find_many tells. In these calls the transaction is not to be used. */
struct dk_find_calls {
    /* Version and MAC of each key row, by version, of the i-th that is looked for; false ends it.
     */
    bool (*mac)(void *arg, size_t i, uint32_t version, const char *row_mac);
    /* All of finds[i] is there; others may be on their way. May be NULL. */
    void (*found)(void *arg, size_t i);
    void *arg;
};

/* The same data key under a further master key. */
struct dk_wrap_row {
    struct dk_tenant tenant;
    uint32_t version;
    struct dk_wrap_columns wrap;
    int64_t last_verified_at;
    char row_mac[DK_MAC_TEXT];
};

/* Calls of a provider's operation on a day (UTC), or what the cache did without one. */
#define DK_CALLS_MAX (INT64_C(1) << 52)
struct dk_call_row {
    char day[11];    /* 2026-01-31 */
    char source[32]; /* the provider, or "cache" */
    char operation[40];
    int64_t calls;  /* to DK_CALLS_MAX: more is no count */
    int64_t failed; /* among them */
};

/* Where a page of further wraps begins: after this one. verified_at DK_TIME_NONE = at the start. */
struct dk_wrap_cursor {
    int64_t verified_at;
    struct dk_tenant tenant;
    uint32_t version;
    char provider[32];
};

/* Further wraps that are to be opened again, a page of them. */
struct dk_stale {
    int64_t before_us; /* verified before this */
    int64_t beyond_us; /* .. or after it: by a clock that was ahead */
    struct dk_wrap_cursor after;
    size_t limit; /* of rows that can be read */
};

/* A tenant's first rows. */
struct dk_first {
    const struct dk_tenant_row *tenant;
    const struct dk_key_row *key;
    const struct dk_log_row *log;
    bool inserted; /* out. false: the tenant is there already */
    bool orphans;  /* it is not, but key rows of it are, which forbid it */
};

/* Messages that a version has sealed, and what became of them. */
struct dk_sealed {
    const struct dk_tenant *tenant;
    uint32_t version;
    int64_t count; /* since the last time */
    int64_t sum;   /* out: all that the version has sealed now */
    bool gone;     /* out: there is no such version; sum is 0 */
};

enum dk_key_filter { DK_KEYS_ALL, DK_KEYS_ACTIVE };

/* Where the schema is not what the migrations of this version make. Texts are lent for the call. */
enum dk_schema_fault { DK_SCHEMA_MISSING, DK_SCHEMA_CHANGED, DK_SCHEMA_FOREIGN };

struct dk_schema_finding {
    enum dk_schema_fault fault;
    const char *type; /* "table", "index", "trigger", "view" */
    const char *name;
    const char *table; /* the table or view it works on */
    const char *mend;  /* SQL that takes a foreign object away; "" for others */
};

struct dk_schema_version {
    uint32_t version;
    char uuid[DK_UUID_TEXT]; /* of the registry */
};

/* What a back end finds of its own circumstances. Texts are lent for the call. */
enum dk_store_level { DK_STORE_WELL, DK_STORE_NOTE, DK_STORE_FINDING };

struct dk_store_note {
    enum dk_store_level level;
    const char *name; /* of the check */
    const char *text;
    const char *fix; /* "" = nothing is to be done */
};

struct dk_store;
struct dk_txn;

/*
 * READ sees one moment of the store. WRITE changes some tenants, beside others that do so where the
 * store can: what it reads of a tenant stays as it is until its end. SEAL sees one moment and adds
 * seals. ALONE sees one moment, and nobody else writes. SQLite knows one writer at a time: the last
 * three are one there.
 */
enum dk_txn_mode { DK_TXN_READ, DK_TXN_WRITE, DK_TXN_SEAL, DK_TXN_ALONE };

/*
 * How far somebody has seen the store; what it says is the back end's. Zeroed: nothing yet. Only
 * what was not visible then is told later, each thing once.
 */
#define DK_MARK_TEXT 1024
struct dk_mark {
    int64_t n;
    char text[DK_MARK_TEXT];
    char place[80];
    bool behind; /* the store is a copy that may be late: what it tells may not be all */
};

/* A chain whose newest row stands in no seal. */
struct dk_moved {
    bool process;
    char name[128 + 1]; /* of the tenant, or the process */
    int64_t epoch;      /* of the tenant */
    char head[DK_MAC_TEXT];
};

/*
 * What a back end gives. Any call may end with E_BUSY (locked, retry), E_STORE, E_READ_ONLY,
 * E_NOMEM or E_TAMPERED (a row that dekhand cannot have written). After an error of a call in a
 * write transaction only rollback is allowed.
 */
struct dk_store_ops {
    const char *scheme; /* "sqlite" */
    const char *alias;  /* another name for it, or NULL */
    /* Others write at the same time: heads go into seals in a transaction of their own. */
    bool seals_apart;
    /* Many at once are worked on one after another, while the caller does the same with others. */
    bool streams;
    /* `url` without the scheme. Opens nothing that stays open. */
    dk_rc (*open)(const struct dk_world *world, const char *url, void **self, struct dk_err *err);
    void (*close)(void *self);
    /*
     * In a child, alone. Where the parent was inside a transaction, SQLite is E_FORKED for ever;
     * PostgreSQL goes on, and leaves behind what that thread had, with its memory.
     */
    dk_rc (*after_fork)(void *self, struct dk_err *err);
    /*
     * Creates or brings up to date, and makes triggers, indexes and views again that are missing or
     * changed; repeatable; safe when two start at once. E_SCHEMA: newer.
     */
    dk_rc (*migrate)(void *self, struct dk_err *err);
    /* What migrate() would find; version 0: nothing that is ours. Needs no more rights than that.
     */
    dk_rc (*schema_version)(void *self, struct dk_schema_version *out, struct dk_err *err);
    /*
     * What migrate() does, as a script for somebody else to run; `self` NULL = for the default
     * place. NULL: there is no such thing.
     */
    dk_rc (*script)(void *self, bool supabase, void (*put)(void *arg, const char *text, size_t n),
                    void *arg, struct dk_err *err);
    /* False: there is nothing at all at this place yet. */
    dk_rc (*exists)(void *self, bool *out, struct dk_err *err);

    /*
     * What the back end itself finds damaged, as text, until `each` says false; `table` is "" where
     * it is in none. Reads it all.
     */
    dk_rc (*integrity)(void *txn, bool (*each)(void *arg, const char *table, const char *text),
                       void *arg, struct dk_err *err);
    /*
     * Compares the schema with that of the migrations. What else lies in the database is the
     * application's, and is told only where it works on a table or view of ours.
     */
    dk_rc (*schema)(void *txn, void (*each)(void *arg, const struct dk_schema_finding *finding),
                    void *arg, struct dk_err *err);

    /*
     * The server, the way to it, the login and its rights, as they are for everybody who works
     * there: a line a check, two where it finds two things. What the login may not see is a note.
     * Outside of transactions, also where the registry does not open. NULL: it has none.
     */
    dk_rc (*circumstances)(void *self, void (*each)(void *arg, const struct dk_store_note *note),
                           void *arg, struct dk_err *err);

    /* E_SCHEMA: not this program's. */
    dk_rc (*begin)(void *self, enum dk_txn_mode mode, void **txn, struct dk_err *err);
    /*
     * The transaction is over. After E_UNREACHABLE (the answer was lost, or no standby has it) and
     * E_STORE (a sync that failed) it may have been stored all the same; after any other error
     * nothing was.
     */
    dk_rc (*commit)(void *txn, struct dk_err *err);
    void (*rollback)(void *txn);

    dk_rc (*registry_read)(void *txn, struct dk_registry_row *out, struct dk_err *err);
    /* Fills the registry key where it is empty; *filled false = there was one. */
    dk_rc (*registry_fill)(void *txn, const struct dk_wrap_columns *wrap, bool *filled,
                           struct dk_err *err);
    /* Puts the key by as `earlier` and takes the next one; rekeying is set. E_CONFLICT. */
    dk_rc (*registry_rekey)(void *txn, const struct dk_registry_key_row *earlier,
                            const struct dk_wrap_columns *wrap, struct dk_err *err);
    /* No row is under the key before any more. E_CONFLICT: there is no rekey under way. */
    dk_rc (*registry_rekeyed)(void *txn, uint32_t generation, struct dk_err *err);
    /* Log rows that stand in that seal, or in one before, may be deleted from now on. */
    dk_rc (*registry_pruned)(void *txn, const struct dk_log_edge *edge, struct dk_err *err);
    /* Earlier keys from this generation on, in order, until `each` says false. */
    dk_rc (*registry_keys)(void *txn, uint32_t from,
                           bool (*each)(void *arg, const struct dk_registry_key_row *row),
                           void *arg, struct dk_err *err);

    dk_rc (*tenant_read)(void *txn, const struct dk_tenant *tenant, struct dk_tenant_row *out,
                         struct dk_err *err); /* E_NOT_FOUND */
    /* Compare and set on the epoch. */
    dk_rc (*tenant_update)(void *txn, const struct dk_tenant_row *row, int64_t old_epoch,
                           bool *changed, struct dk_err *err);
    /* Writes the MAC and the digest alone, where the MAC is still `old_mac`: no change for others.
     */
    dk_rc (*tenant_remac)(void *txn, const struct dk_tenant_row *row, const char *old_mac,
                          bool *changed, struct dk_err *err);

    dk_rc (*key_read)(void *txn, const struct dk_tenant *tenant, uint32_t version,
                      struct dk_key_row *out, struct dk_err *err); /* E_NOT_FOUND */
    dk_rc (*key_read_active)(void *txn, const struct dk_tenant *tenant, struct dk_key_row *out,
                             struct dk_err *err); /* E_NOT_FOUND */
    /* *inserted false: the version or the active key exists. E_PROVIDER: the check value does. */
    dk_rc (*key_insert)(void *txn, const struct dk_key_row *row, bool *inserted,
                        struct dk_err *err);
    /* Writes state, dates, wrap and MAC where state is still `old_state`. */
    dk_rc (*key_update)(void *txn, const struct dk_key_row *row, enum dk_state old_state,
                        bool *changed, struct dk_err *err);
    dk_rc (*key_remac)(void *txn, const struct dk_key_row *row, const char *old_mac, bool *changed,
                       struct dk_err *err);
    /*
     * Many versions at once, each of them once, by tenant and version: whoever else adds goes over
     * the rows in the same order, and none waits for one that waits for it.
     */
    dk_rc (*key_add_messages)(void *txn, struct dk_sealed *list, size_t count, struct dk_err *err);
    /* At most `limit` rows after the cursor, by tenant and version; `tenant` NULL = all. */
    dk_rc (*key_list)(void *txn, const struct dk_tenant *tenant, enum dk_key_filter filter,
                      const struct dk_key_cursor *after, size_t limit, struct dk_key_row *out,
                      size_t *count, struct dk_err *err);
    /* The same of all states; a row that dekhand cannot have written keeps nobody from the rows
       behind it. In a READ transaction. */
    dk_rc (*key_page)(void *txn, const struct dk_tenant *tenant, struct dk_key_page *page,
                      struct dk_err *err);

    /*
     * Active versions that expire from `from_us` on and not after `until_us`, soonest first, until
     * `each` says false.
     */
    dk_rc (*key_expiring)(void *txn, int64_t from_us, int64_t until_us,
                          bool (*each)(void *arg, const struct dk_key_row *row), void *arg,
                          struct dk_err *err);

    dk_rc (*key_counts)(void *txn, int64_t now_us, int64_t warn_until_us, struct dk_key_counts *out,
                        struct dk_err *err);

    /* Version and MAC of each key row of a tenant, by version. */
    dk_rc (*key_macs)(void *txn, const struct dk_tenant *tenant,
                      bool (*each)(void *arg, uint32_t version, const char *row_mac), void *arg,
                      struct dk_err *err);
    /* Many keys at once, each with the row of its tenant. */
    dk_rc (*find_many)(void *txn, struct dk_find *finds, size_t count,
                       const struct dk_find_calls *calls, struct dk_err *err);
    /*
     * Many first versions at once, each only where nothing of its tenant is there: distinct tenants
     * in the order of their bytes. `make` (NULL = they are there already) fills firsts[i] before it
     * is stored, each once and in order; earlier ones may be on their way meanwhile, and the
     * transaction is not for it to use. What it answers ends it all.
     */
    dk_rc (*insert_first)(void *txn, struct dk_first *firsts, size_t count,
                          dk_rc (*make)(void *arg, size_t i, struct dk_err *err), void *arg,
                          struct dk_err *err);
    /* At most `limit` rows after the tenant `after` ("" = from the first), by tenant id. */
    dk_rc (*tenant_list)(void *txn, const char *after, size_t limit, struct dk_tenant_row *out,
                         size_t *count, struct dk_err *err);

    /* Further wraps of a version, or of all of a tenant (version 0), until `each` says false. A row
       that dekhand cannot have written is left out. */
    dk_rc (*wraps_of)(void *txn, const struct dk_tenant *tenant, uint32_t version,
                      bool (*each)(void *arg, const struct dk_wrap_row *row), void *arg,
                      struct dk_err *err);
    /* Those, the longest ago first; rows that dekhand cannot have written are passed over, and are
       none of the `limit`: fewer than that is the end. In a READ transaction. */
    dk_rc (*wraps_stale)(void *txn, const struct dk_stale *stale,
                         bool (*each)(void *arg, const struct dk_wrap_row *row), void *arg,
                         struct dk_err *err);
    /* Adds it, or replaces the one of its provider. */
    dk_rc (*wrap_put)(void *txn, const struct dk_wrap_row *row, struct dk_err *err);
    dk_rc (*wrap_drop)(void *txn, const struct dk_tenant *tenant, uint32_t version,
                       const char *provider, struct dk_err *err);
    /* Versions that are not purged and have no wrap of that provider, neither in their row nor
       further. In a READ transaction. */
    dk_rc (*wraps_missing)(void *txn, const char *provider, struct dk_key_page *page,
                           struct dk_err *err);
    /* The same of a registry key. */
    dk_rc (*registry_wraps)(void *txn, uint32_t generation,
                            bool (*each)(void *arg, const struct dk_wrap_columns *wrap), void *arg,
                            struct dk_err *err);
    dk_rc (*registry_wrap_put)(void *txn, uint32_t generation, const struct dk_wrap_columns *wrap,
                               struct dk_err *err);
    dk_rc (*registry_wrap_drop)(void *txn, uint32_t generation, const char *provider,
                                struct dk_err *err);
    /* Makes one of the further wraps of this generation the registry's own, where that is still
       `before`. E_CONFLICT: it is none, or the registry has another wrap or key by now. */
    dk_rc (*registry_rewrap)(void *txn, uint32_t generation, const struct dk_wrap_columns *before,
                             const struct dk_wrap_columns *wrap, struct dk_err *err);

    /* Adds to what is there. In the order of day, source and operation, as others do. */
    dk_rc (*calls_add)(void *txn, const struct dk_call_row *rows, size_t count, struct dk_err *err);
    /* Of that day and later, one row for each operation, whose day is the first; until `each` says
       false. */
    dk_rc (*calls_sum)(void *txn, const char *from,
                       bool (*each)(void *arg, const struct dk_call_row *row), void *arg,
                       struct dk_err *err);

    dk_rc (*log_append)(void *txn, const struct dk_log_row *row, struct dk_err *err);
    /* Gives prev and mac to a row that has none yet. */
    dk_rc (*log_chain)(void *txn, const struct dk_log_row *row, struct dk_err *err);
    /* Rows in the order in which they were written, or the other way, until `each` says false. */
    dk_rc (*log_walk)(void *txn, const struct dk_log_query *query,
                      bool (*each)(void *arg, const struct dk_log_row *row), void *arg,
                      struct dk_err *err);
    /* Fills seq and rows of the edge: seq 0 = the log has none of them any more. */
    dk_rc (*log_edge)(void *txn, struct dk_log_edge *edge, struct dk_err *err);
    /* Deletes the oldest of those rows, at most `limit`. */
    dk_rc (*log_prune)(void *txn, const struct dk_log_edge *edge, int64_t limit, int64_t *deleted,
                       struct dk_err *err);
    /*
     * Whether a row `cache-clear` about all was written since *mark (0 at first), which moves on;
     * or the store may be older than it was then.
     */
    dk_rc (*log_cleared)(void *txn, int64_t *mark, bool *cleared, struct dk_err *err);

    dk_rc (*seal_append)(void *txn, const struct dk_seal_row *row, struct dk_err *err);
    /* n, at, prev and mac of the newest seal (`heads` is NULL); n = 0: there is none. */
    dk_rc (*seal_newest)(void *txn, struct dk_seal_row *out, struct dk_err *err);
    /* Seals from number `from` on, in order, until `each` says false. */
    dk_rc (*seal_walk)(void *txn, int64_t from,
                       bool (*each)(void *arg, const struct dk_seal_row *row), void *arg,
                       struct dk_err *err);

    /*
     * Chains that moved since the newest seal, tenants first, until `each` says false. NULL: every
     * transaction seals for itself.
     */
    dk_rc (*moved)(void *txn, bool (*each)(void *arg, const struct dk_moved *moved), void *arg,
                   struct dk_err *err);
    /*
     * Tenants whose keys changed after *mark, given to `each` (NULL: not wanted); *mark moves on.
     * First versions are no such change: they make nothing old. *went_back: the store is older than
     * it was, or another server's, and nothing known of it counts any more.
     */
    dk_rc (*changes)(void *txn, struct dk_mark *mark, bool *went_back,
                     void (*each)(void *arg, const struct dk_tenant *tenant), void *arg,
                     struct dk_err *err);
    /* That this process is there, or leaves; in a WRITE transaction. NULL: nobody asks. */
    dk_rc (*node)(void *txn, const char *node, bool leaves, struct dk_err *err);
    /* What who has the lease does beside: keeps counts small, forgets nodes that are gone. In a
       SEAL transaction. */
    dk_rc (*tidy)(void *txn, struct dk_err *err);
    /*
     * Takes or keeps a lease for that long; *held false: another has it. It counts from the commit.
     * A transaction that reads only looks whether it could. NULL: nobody needs one.
     */
    dk_rc (*lease)(void *txn, const char *name, const char *holder, int64_t ms, bool *held,
                   struct dk_err *err);
};

/* Ends with NULL. */
extern const struct dk_store_ops *const dk_store_backends[];

struct dk_store {
    const struct dk_store_ops *ops;
    void *self;
    const struct dk_world *world;
    atomic_bool seen; /* a transaction has begun: what is missing since was there */
};

struct dk_txn {
    const struct dk_store_ops *ops;
    void *self; /* NULL: over */
    enum dk_txn_mode mode;
    unsigned stamp; /* the caller's */
};

/* By its URL `scheme:place`. E_CONFIG names the schemes there are. */
DK_MUST_USE dk_rc dk_store_open(const struct dk_world *world, const char *url, struct dk_store *out,
                                struct dk_err *err);
void dk_store_close(struct dk_store *store);
/* The back end that has a script, E_CONFIG: `store` is another; NULL = the first that has one. */
DK_MUST_USE dk_rc dk_store_script(const struct dk_store *store, bool supabase,
                                  void (*put)(void *arg, const char *text, size_t n), void *arg,
                                  struct dk_err *err);

/* E_CONFIG at first only: what was there once and is not is an outage, E_STORE. */
DK_MUST_USE dk_rc dk_store_begin(struct dk_store *store, enum dk_txn_mode mode, struct dk_txn *txn,
                                 struct dk_err *err);
DK_MUST_USE dk_rc dk_store_commit(struct dk_txn *txn, struct dk_err *err);
/* Does nothing when the transaction is over: fit for every exit. */
void dk_store_rollback(struct dk_txn *txn);

#endif
