/*
 * provider: who holds the master key and wraps data keys under it.
 *
 * Called from keys/ and the wiring. Knows contexts and blobs, not tenants' rules and not the store.
 * A back end ends in one dk_provider_ops, named in dk_provider_backends. Callers use the
 * dk_provider_* functions, which check before and after: a data key of 31 bytes, of zeros, one
 * handed out twice or an answer under another key id is refused here, once for all back ends.
 * A dk_provider may be shared by threads; a call may block on network or disk.
 */
#ifndef DK_PROVIDER_PROVIDER_H
#define DK_PROVIDER_PROVIDER_H

#include "base/log.h"
#include "base/options.h"
#include "base/tenant.h"
#include "crypto/context.h"
#include "crypto/suite.h"
#include "provider/price.h"

#define DK_DATA_KEY 32
#define DK_CHECK_VALUE 32
#define DK_KMS_KEY_ID_MAX 511
/* base64 of the longest wrap: RSA-4096 and its seal, or a KMS CiphertextBlob */
#define DK_WRAPPED_MAX 2047
#define DK_PURPOSE_DATA "DataEncryption"
#define DK_PURPOSE_REGISTRY "Registry"

/* The three pairs that every wrap is bound to (FORMATS "Wraps", I01). */
struct dk_wrap_context {
    struct dk_view tenant; /* or the registry's UUID */
    const char *purpose;
    const char *timestamp; /* exact text, stored beside the blob */
};

struct dk_wrapped {
    char kms_key_id[DK_KMS_KEY_ID_MAX + 1]; /* from the provider's answer, never an alias */
    char blob[DK_WRAPPED_MAX + 1];          /* encrypted_data_key: standard base64 */
};

/* What a back end cannot do is a missing bit, never a question for its name. */
enum dk_provider_caps {
    DK_PROVIDER_BINDS_CONTEXT = 1, /* an unwrap under another context fails */
    DK_PROVIDER_AUTHENTICATES = 2, /* only a holder of the master key can make a wrap */
    DK_PROVIDER_AT_HAND = 4,       /* it waits for nobody: may be asked inside a transaction */
    DK_PROVIDER_MOVES = 8,         /* from one of its keys to another, the data key staying there */
};

/* How often a service was asked, by operation as it names and bills them. Atomic, of this process.
 */
#define DK_PROVIDER_OPERATIONS 8
struct dk_provider_calls {
    int64_t calls[DK_PROVIDER_OPERATIONS];
    int64_t failed[DK_PROVIDER_OPERATIONS]; /* among them */
};

struct dk_provider_setup {
    const struct dk_world *world;
    const struct dk_suite *suite;
    struct dk_arena *arena;
    const struct dk_log *log;
    const struct dk_settings *settings; /* lent for the opening alone */
    struct dk_provider_calls *calls;    /* dk_provider_count(); filled in by dk_provider_open() */
    const char *master_key_path;        /* local */
    void *test_arg;                     /* the fake of the tests */
};

struct dk_provider_info {
    char kms_key_id[DK_KMS_KEY_ID_MAX + 1]; /* the key that wraps now */
    unsigned key_count;                     /* master keys that can unwrap */
};

/* One data key of a call. */
struct dk_provider_item {
    struct dk_wrap_context context;
    struct dk_secret key;                 /* to wrap: lent; else the answer */
    struct dk_wrapped *wrapped;           /* to unwrap: lent; else the answer */
    const struct dk_wrapped *before;      /* to move: lent, the wrap under another of its keys */
    uint8_t check_value[DK_CHECK_VALUE];  /* of a generated key */
    char answered[DK_KMS_KEY_ID_MAX + 1]; /* unwrap: the id in the provider's answer */
    struct dk_err err;                    /* how it ended */
};

/* What a back end has to say of its master key: as serious as keys/checkup's levels. */
enum dk_provider_level {
    DK_PROVIDER_OK,
    DK_PROVIDER_NOTE,
    DK_PROVIDER_WARNING,
    DK_PROVIDER_ERROR,
};
struct dk_provider_tell {
    /* `todo`: what mends it, "" = nothing. Texts live until it returns. */
    void (*tell)(void *arg, enum dk_provider_level level, const char *text, const char *todo);
    void *arg;
    bool
        thorough; /* the doctor asks: what costs more, and does not change from call to call, too */
};
/* Tells what is written as by printf. */
DK_PRINTF(4, 5)
void dk_provider_say(const struct dk_provider_tell *tell, enum dk_provider_level level,
                     const char *todo, const char *format, ...);

/* Which settings a key of KMS_PREVIOUS_KEYS stands for, and how they read then. */
#define DK_PREVIOUS_AIMS 3
struct dk_previous_aim {
    enum dk_option_id option[DK_PREVIOUS_AIMS];
    char value[DK_PREVIOUS_AIMS][DK_KMS_KEY_ID_MAX + 1];
    size_t count;
};

/* Keys of KMS_PREVIOUS_KEYS of one back end, as the setting has them: lent. */
#define DK_PREVIOUS_MAX 16
struct dk_previous_ids {
    const char *id[DK_PREVIOUS_MAX];
    size_t count;
};

enum dk_provider_op {
    DK_PROVIDER_GENERATE,
    DK_PROVIDER_WRAP,
    DK_PROVIDER_UNWRAP,
    DK_PROVIDER_MOVE,
};

/*
 * Calls of a back end. `key` is a cell with room for DK_SECRET_CELL bytes; the back end sets key->n
 * to what it got. On an error `key` and `out` hold nothing of use; nothing was stored anywhere.
 */
struct dk_provider_ops {
    const char *name; /* as in KMS_PROVIDER and the column `provider` */
    unsigned caps;
    dk_rc (*open)(const struct dk_provider_setup *setup, void **self, struct dk_err *err);
    void (*close)(void *self);
    /* In a child process, alone, after the arena was reset: gets its secrets again. */
    dk_rc (*after_fork)(void *self, struct dk_err *err);
    /* In a child that will not use it: only close follows. */
    void (*forget)(void *self);
    /* Asks nobody. */
    dk_rc (*describe)(void *self, struct dk_provider_info *out, struct dk_err *err);
    /*
     * The same for each item, as many at once as is good; each ends in its own err.
     * Generate: key, wrapped. Wrap: wrapped. Unwrap opens wrapped->blob, which was made under
     * wrapped->kms_key_id: key, answered. E_AUTH: another context or a changed blob. Move, of those
     * that can: wrapped, by the newest key, of what `before` holds under the same context.
     */
    void (*run)(void *self, enum dk_provider_op op, struct dk_provider_item *const *items,
                size_t count);
    /* Asks for state, rotation and protection of the master key, and tells; of a key of before,
       that wraps nothing, whether it opens. NULL: there is nothing that run() would not show. */
    void (*inspect)(void *self, bool opens_only, const struct dk_provider_tell *tell);
    /* The rights that dekhand needs for the configured key and those of before, as its service
       takes them. NULL: none. */
    dk_rc (*policy)(void *self, const struct dk_previous_ids *previous, struct dk_buf *out,
                    struct dk_err *err);
    /* The names of what it counts, from 0 on, at most DK_PROVIDER_OPERATIONS; NULL after the last.
       NULL: nobody is asked, and nothing is paid. */
    const char *(*operation)(unsigned operation);
    /* Which of the list is the configured key; may ask. NULL: the first of the provider's. */
    const struct dk_price *(*price)(void *self);
    /* Pure. Which settings make a key of KMS_PREVIOUS_KEYS the configured one; false: it is no key
       of this back end. NULL: it has none such. */
    bool (*previous_aim)(const char *id, struct dk_previous_aim *out);
    /* Pure. Whether a row names that key: one that previous_aim took. */
    bool (*previous_is)(const char *id, const char *kms_key_id);
    /* Before is_own, of rows that a key of before may get: asks which key is the configured one,
       where that is not known and they cannot be judged without. NULL: it is always known. */
    void (*learn_own)(void *self, struct dk_provider_item *const *items, size_t count);
    /* Pure. Whether the configured key opens what a row names, as far as is known: then no key of
       before gets the row. Where previous_aim is. */
    bool (*is_own)(void *self, const char *kms_key_id);
};

/* Ends with NULL. */
extern const struct dk_provider_ops *const dk_provider_backends[];

struct dk_provider;

/* By its name among `dk_provider_backends`; E_CONFIG names those that exist. */
DK_MUST_USE dk_rc dk_provider_find(const char *name, const struct dk_provider_ops **out,
                                   struct dk_err *err);
DK_MUST_USE dk_rc dk_provider_open(const struct dk_provider_ops *ops,
                                   const struct dk_provider_setup *setup, struct dk_provider **out,
                                   struct dk_err *err);
void dk_provider_close(struct dk_provider *provider); /* NULL is allowed */
DK_MUST_USE dk_rc dk_provider_after_fork(struct dk_provider *provider, struct dk_err *err);

/* In a child process that will not use it: its cells went with the arena, they are not given back.
 */
void dk_provider_forget(struct dk_provider *provider);

const char *dk_provider_name(const struct dk_provider *provider);
unsigned dk_provider_caps(const struct dk_provider *provider);
DK_MUST_USE dk_rc dk_provider_describe(struct dk_provider *provider, struct dk_provider_info *out,
                                       struct dk_err *err);

/*
 * Many at once: items with context and a place for the wrap. Each gets a fresh data key, its wrap
 * and check value, and the blob was unwrapped again and compared; or err. Keys are the caller's:
 * dk_secret_free(). Without memory for the call, all of them end so.
 */
void dk_provider_generate_many(struct dk_provider *provider, struct dk_provider_item *items,
                               size_t count);
/* The same for unwrapping: items with context and wrap. */
void dk_provider_unwrap_many(struct dk_provider *provider, struct dk_provider_item *items,
                             size_t count);

/* Wraps keys that exist: items with context, key (lent) and a place for the wrap; each blob was
   unwrapped again and compared (I15), or err. */
void dk_provider_wrap_many(struct dk_provider *provider, struct dk_provider_item *items,
                           size_t count);

/* Moves wraps (DK_PROVIDER_MOVES): items with context, `before` and a place for the wrap; each blob
   was unwrapped, and `key` is what it holds, for the caller to compare and free; or err. */
void dk_provider_move_many(struct dk_provider *provider, struct dk_provider_item *items,
                           size_t count);

/* One: its check value has DK_CHECK_VALUE bytes. */
DK_MUST_USE dk_rc dk_provider_generate(struct dk_provider *provider,
                                       const struct dk_wrap_context *context, struct dk_secret *key,
                                       struct dk_wrapped *out,
                                       uint8_t check_value[static DK_CHECK_VALUE],
                                       struct dk_err *err);
/* Wraps a key that exists; the blob was unwrapped again and compared (I15). */
DK_MUST_USE dk_rc dk_provider_wrap(struct dk_provider *provider,
                                   const struct dk_wrap_context *context,
                                   const struct dk_secret *key, struct dk_wrapped *out,
                                   struct dk_err *err);
/* `key` is the caller's: dk_secret_free(). */
DK_MUST_USE dk_rc dk_provider_unwrap(struct dk_provider *provider,
                                     const struct dk_wrap_context *context,
                                     const struct dk_wrapped *wrapped, struct dk_secret *key,
                                     struct dk_err *err);
/* Generates, unwraps and forgets a canary. */
DK_MUST_USE dk_rc dk_provider_test(struct dk_provider *provider, struct dk_err *err);

/* See struct dk_provider_ops. */
void dk_provider_inspect(struct dk_provider *provider, const struct dk_provider_tell *tell);
/* E_USAGE: this provider knows no rights. */
DK_MUST_USE dk_rc dk_provider_policy(struct dk_provider *provider, struct dk_buf *out,
                                     struct dk_err *err);
/* "Decrypt"; NULL: there is no such operation. */
const char *dk_provider_operation(const struct dk_provider *provider, unsigned operation);
/* Since it was opened, or since the fork. */
struct dk_provider_calls dk_provider_calls(struct dk_provider *provider);
const struct dk_price *dk_provider_price(struct dk_provider *provider);

/* A back end was answered, well or not. */
static inline void dk_provider_count(const struct dk_provider_setup *setup, unsigned operation,
                                     bool failed)
{
    if (setup->calls != NULL) { /* opened without the face: nobody counts */
        __atomic_fetch_add(&setup->calls->calls[operation], 1, __ATOMIC_RELAXED);
        __atomic_fetch_add(&setup->calls->failed[operation], failed, __ATOMIC_RELAXED);
    }
}

/* check_value of a data key (FORMATS). */
DK_MUST_USE dk_rc dk_check_value(const struct dk_suite *suite, const struct dk_secret *key,
                                 uint8_t out[static DK_CHECK_VALUE], struct dk_err *err);

/* AAD of the wraps that are ours: lp("dekhand/wrap/1") | pairs(context). */
#define DK_WRAP_AAD_MAX (4 + 14 + DK_CONTEXT_ENCODED_MAX)
DK_MUST_USE dk_rc dk_wrap_aad(const struct dk_wrap_context *context, uint8_t *out, size_t *out_len,
                              struct dk_err *err);

#endif
