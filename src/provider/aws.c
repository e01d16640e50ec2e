#include "provider/aws.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>

#include "provider/aws_credentials.h"
#include "provider/aws_kms.h"
#include "provider/aws_policy.h"
#include "provider/aws_sign.h"

struct aws {
    struct dk_provider_setup setup;
    struct dk_aws_setup aws;
    struct dk_http *kms;
    struct dk_http *sts;
    struct dk_http *metadata;
    struct dk_aws_credentials *credentials;
    int64_t skew_us;      /* of the service's clock against ours; atomic */
    pthread_mutex_t lock; /* guards what follows */
    char
        own_arn[DK_KMS_KEY_ID_MAX + 1]; /* the key that wraps now, from an answer; "" = not known */
};

/* ---- one call -------------------------------------------------------------------------------- */

struct exchange {
    struct aws *aws;
    struct dk_kms_ask ask;
    struct dk_kms_answer answer;
    struct dk_kms_key *described; /* DescribeKey */
    bool *rotates;                /* GetKeyRotationStatus */
    struct dk_aws_keys *keys;     /* that the request was signed with */
    bool refreshed;
    bool corrected;
    int64_t skew_us; /* that the request was signed with */
};

static void put_keys(struct exchange *x)
{
    if (x->keys != NULL) {
        dk_aws_credentials_put(x->aws->credentials, x->keys);
        x->keys = NULL;
    }
}

static dk_rc build(void *self, struct dk_http_request *out, struct dk_err *err)
{
    struct exchange *x = self;
    struct aws *aws = x->aws;
    out->to = &aws->aws.kms;
    put_keys(x);
    DK_TRY(dk_aws_credentials_get(aws->credentials, &x->keys, err));
    x->skew_us = __atomic_load_n(&aws->skew_us, __ATOMIC_RELAXED);
    struct dk_sigv4 sign = {.suite = aws->setup.suite,
                            .access_key_id = x->keys->id,
                            .secret = &x->keys->secret,
                            .session_token = x->keys->token,
                            .region = aws->aws.region,
                            .service = "kms",
                            .at_us = dk_wall_us(aws->setup.world) + x->skew_us};
    DK_TRY(dk_kms_build(&x->ask, out, err));
    return dk_sigv4_sign(&sign, out, err);
}

/* True when the service's clock is another than was thought: the request is signed anew, once. */
static bool correct_clock(struct exchange *x, const struct dk_http_reply *reply)
{
    struct aws *aws = x->aws;
    int64_t theirs;
    if (x->corrected || !dk_http_date(reply, &theirs)) {
        return false;
    }
    int64_t skew = theirs - dk_wall_us(aws->setup.world);
    int64_t moved = skew - x->skew_us;
    x->corrected = true;
    if (moved < DK_AWS_SKEW_US && moved > -DK_AWS_SKEW_US) {
        return false;
    }
    __atomic_store_n(&aws->skew_us, skew, __ATOMIC_RELAXED);
    DK_LOG(aws->setup.log, WARN, "clock_differs", DK_LOG_S(PROVIDER, dk_provider_aws.name),
           DK_LOG_I(SECONDS, skew / 1000000));
    return true;
}

static enum dk_http_next judge_fault(struct exchange *x, const struct dk_http_reply *reply,
                                     struct dk_err *err)
{
    switch (dk_kms_explain(&x->ask, reply, err)) {
    case DK_AWS_TRANSIENT:
        return DK_HTTP_LATER;
    case DK_AWS_SKEW:
        return correct_clock(x, reply) ? DK_HTTP_AGAIN : DK_HTTP_DONE;
    case DK_AWS_CREDENTIALS:
        if (!x->refreshed && dk_aws_credentials_refused(x->aws->credentials, x->keys->number)) {
            x->refreshed = true;
            return DK_HTTP_AGAIN;
        }
        return DK_HTTP_DONE;
    default:
        return DK_HTTP_DONE;
    }
}

static dk_rc read_answer(struct exchange *x, struct dk_view body, struct dk_err *err)
{
    switch (x->ask.op) {
    case DK_KMS_DESCRIBE:
        return dk_kms_read_key(body, x->described, err);
    case DK_KMS_ROTATION:
        return dk_kms_read_rotation(body, x->rotates, err);
    default:
        return dk_kms_read(&x->ask, body, &x->answer, err);
    }
}

static enum dk_http_next judge(void *self, const struct dk_http_reply *reply, struct dk_err *err)
{
    struct exchange *x = self;
    if (reply->status == 0) {
        return err->rc == DK_E_UNREACHABLE ? DK_HTTP_LATER : DK_HTTP_DONE;
    }
    dk_provider_count(&x->aws->setup, x->ask.op, reply->status != 200);
    if (reply->status != 200) {
        return judge_fault(x, reply, err);
    }
    (void)read_answer(x, reply->body, err);
    return DK_HTTP_DONE;
}

static dk_rc run_one(struct exchange *x, struct dk_err *err)
{
    struct dk_http_call call = {build, judge, x, err};
    dk_http_run(x->aws->kms, &call, 1);
    put_keys(x);
    return err->rc;
}

/* ---- which keys are ours --------------------------------------------------------------------- */

static void note_own(struct aws *aws, const char *arn)
{
    pthread_mutex_lock(&aws->lock);
    snprintf(aws->own_arn, sizeof aws->own_arn, "%s", arn);
    pthread_mutex_unlock(&aws->lock);
}

/* The ARN that an answer names has to be one of what was asked for (F31). */
static dk_rc check_own(const struct aws *aws, const char *arn, struct dk_err *err)
{
    const struct dk_aws_key *own = &aws->aws.key;
    struct dk_aws_key key;
    bool same = dk_aws_key_parse(arn, &key) && key.form == DK_AWS_KEY_ARN &&
                strcmp(key.region, aws->aws.region) == 0;
    if (own->account[0] != '\0') {
        same = same && strcmp(own->account, key.account) == 0 &&
               strcmp(own->partition, key.partition) == 0;
    }
    if (own->form == DK_AWS_KEY_ID || own->form == DK_AWS_KEY_ARN) {
        same = same && strcmp(own->id, key.id) == 0;
    }
    return same ? DK_OK
                : DK_FAIL(err, PROVIDER, "AWS KMS answered with the key %.120s, asked was %.120s",
                          arn, aws->aws.key_id);
}

static dk_rc describe(struct aws *aws, struct dk_kms_key *out, struct dk_err *err)
{
    struct exchange x = {
        .aws = aws, .ask = {.op = DK_KMS_DESCRIBE, .key_id = aws->aws.key_id}, .described = out};
    DK_TRY(run_one(&x, err));
    return check_own(aws, out->arn, err);
}

static dk_rc generate_and_forget(struct aws *aws, char arn[static DK_KMS_KEY_ID_MAX + 1],
                                 struct dk_err *err)
{
    char now[DK_TIME_TEXT];
    struct dk_secret key = {0};
    dk_time_format(dk_wall_us(aws->setup.world), now);
    struct dk_wrap_context context = {dk_view_str("dekhand-canary"), "ConnectionTest", now};
    DK_TRY(dk_secret_new(aws->setup.arena, DK_SECRET_CELL, &key, err));
    struct exchange x = {
        .aws = aws,
        .ask = {.op = DK_KMS_GENERATE, .key_id = aws->aws.key_id, .context = &context},
        .answer = {.key = &key}};
    dk_rc rc = run_one(&x, err);
    dk_secret_free(aws->setup.arena, &key);
    memcpy(arn, x.answer.key_id, sizeof x.answer.key_id);
    return rc == DK_OK ? check_own(aws, arn, err) : rc;
}

/* By asking, where no answer told it yet. Who may not describe the key may generate under it. */
static dk_rc learn_own(struct aws *aws, char arn[static DK_KMS_KEY_ID_MAX + 1], struct dk_err *err)
{
    struct dk_kms_key key;
    struct dk_err cause;
    pthread_mutex_lock(&aws->lock);
    memcpy(arn, aws->own_arn, sizeof aws->own_arn);
    pthread_mutex_unlock(&aws->lock);
    if (arn[0] != '\0') {
        return DK_OK;
    }
    dk_err_clear(&cause);
    dk_rc rc = describe(aws, &key, &cause);
    if (rc == DK_E_PROVIDER_DENIED) {
        DK_TRY(generate_and_forget(aws, arn, err));
    } else if (rc != DK_OK) {
        *err = cause;
        return rc;
    } else {
        memcpy(arn, key.arn, sizeof key.arn);
    }
    note_own(aws, arn);
    return DK_OK;
}

/*
 * A key id from a row is used only if it is one of the configured key's account and region (I32):
 * an alias may have been moved, but never into a stranger's account.
 */
static dk_rc check_row(struct aws *aws, const char *kms_key_id, struct dk_err *err)
{
    struct dk_aws_key key, own = aws->aws.key;
    char arn[DK_KMS_KEY_ID_MAX + 1];
    bool is_arn = dk_aws_key_parse(kms_key_id, &key) && key.form == DK_AWS_KEY_ARN;
    if (is_arn && strcmp(key.region, aws->aws.region) == 0 && own.account[0] == '\0') {
        DK_TRY(learn_own(aws, arn, err));
        if (!dk_aws_key_parse(arn, &own)) {
            return DK_FAIL(err, PROVIDER, "AWS KMS named a key that is none: %.120s", arn);
        }
    }
    if (!is_arn || strcmp(key.region, aws->aws.region) != 0 ||
        strcmp(key.account, own.account) != 0 || strcmp(key.partition, own.partition) != 0) {
        return DK_FAIL(err, NO_MASTER_KEY,
                       "the data key was wrapped by %.150s, which is no key of the account and "
                       "region of AWS_KMS_KEY_ID (%.100s)",
                       kms_key_id, aws->aws.key_id);
    }
    return DK_OK;
}

/* ---- data keys ------------------------------------------------------------------------------- */

/* What KMS made is opaque; what is no base64 it never made. */
static dk_rc check_blob(struct dk_provider_item *item)
{
    uint8_t bytes[DK_WRAPPED_MAX];
    size_t n = 0;
    const char *blob = item->wrapped->blob;
    return dk_base64_decode(blob, strlen(blob), bytes, sizeof bytes, &n) && n > 0
               ? DK_OK
               : DK_FAIL(&item->err, FORMAT, "the wrapped key is no CiphertextBlob of AWS KMS");
}

static dk_rc prepare(struct aws *aws, enum dk_provider_op op, struct dk_provider_item *item,
                     struct exchange *x)
{
    *x = (struct exchange){.aws = aws,
                           .ask = {.key_id = aws->aws.key_id, .context = &item->context}};
    switch (op) {
    case DK_PROVIDER_GENERATE:
        x->ask.op = DK_KMS_GENERATE;
        x->answer.key = &item->key;
        x->answer.wrapped = item->wrapped;
        return DK_OK;
    case DK_PROVIDER_WRAP:
        x->ask.op = DK_KMS_ENCRYPT;
        x->ask.plaintext = &item->key;
        x->answer.wrapped = item->wrapped;
        return DK_OK;
    default:
        x->ask.op = DK_KMS_DECRYPT;
        x->ask.key_id = item->wrapped->kms_key_id;
        x->ask.blob = item->wrapped->blob;
        x->answer.key = &item->key;
        DK_TRY(check_blob(item));
        return check_row(aws, item->wrapped->kms_key_id, &item->err);
    }
}

static void take(struct aws *aws, enum dk_provider_op op, struct dk_provider_item *item,
                 struct exchange *x)
{
    put_keys(x);
    if (item->err.rc != DK_OK) {
        return;
    }
    if (op == DK_PROVIDER_UNWRAP) {
        memcpy(item->answered, x->answer.key_id, sizeof item->answered);
    } else if (check_own(aws, x->answer.key_id, &item->err) == DK_OK) {
        note_own(aws, x->answer.key_id);
    }
}

static void fail_all(struct dk_provider_item *const *items, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        (void)DK_FAIL(&items[i]->err, NOMEM, "no memory for a call of AWS KMS");
    }
}

/* One that reads like a key of AWS: for others nobody is asked (I32). */
static bool any_of_ours(struct dk_provider_item *const *items, size_t count)
{
    struct dk_aws_key key;
    for (size_t i = 0; i < count; i++) {
        if (dk_aws_key_parse(items[i]->wrapped->kms_key_id, &key) && key.form == DK_AWS_KEY_ARN) {
            return true;
        }
    }
    return false;
}

/*
 * What all of them would wait for, once: within the run it would hold up the other requests. Before
 * an unwrap where the setting does not name the key's account, that too: rows are judged by it.
 */
static bool is_ready(struct aws *aws, enum dk_provider_op op, struct dk_provider_item *const *items,
                     size_t count)
{
    struct dk_aws_keys *keys = NULL;
    struct dk_err err;
    char arn[DK_KMS_KEY_ID_MAX + 1];
    dk_err_clear(&err);
    dk_rc rc = dk_aws_credentials_get(aws->credentials, &keys, &err);
    if (rc == DK_OK) {
        dk_aws_credentials_put(aws->credentials, keys);
        bool learns = op == DK_PROVIDER_UNWRAP && aws->aws.key.account[0] == '\0';
        rc = learns && any_of_ours(items, count) ? learn_own(aws, arn, &err) : DK_OK;
    }
    for (size_t i = 0; i < count && rc != DK_OK; i++) {
        items[i]->err = err;
    }
    return rc == DK_OK;
}

static void aws_run(void *self, enum dk_provider_op op, struct dk_provider_item *const *items,
                    size_t count)
{
    struct aws *aws = self;
    const struct dk_mem *mem = &aws->setup.world->mem;
    struct exchange *x = dk_mem_alloc(mem, count * sizeof *x);
    struct dk_http_call *calls = dk_mem_alloc(mem, count * sizeof *calls);
    size_t n = 0;
    if (x == NULL || calls == NULL) {
        fail_all(items, count);
        count = 0;
    }
    if (count > 0 && !is_ready(aws, op, items, count)) {
        count = 0;
    }
    for (size_t i = 0; i < count; i++) {
        if (prepare(aws, op, items[i], &x[i]) == DK_OK) {
            calls[n++] = (struct dk_http_call){build, judge, &x[i], &items[i]->err};
        }
    }
    if (n > 0) {
        dk_http_run(aws->kms, calls, n);
    }
    for (size_t i = 0; i < count; i++) {
        take(aws, op, items[i], &x[i]);
    }
    dk_mem_free(mem, x);
    dk_mem_free(mem, calls);
}

/* ---- open and close -------------------------------------------------------------------------- */

static dk_rc open_http(struct aws *aws, const char *service, struct dk_http **out,
                       struct dk_err *err)
{
    const struct dk_settings *settings = aws->setup.settings;
    struct dk_http_setup setup = {.world = aws->setup.world,
                                  .limits = dk_http_limits_default,
                                  .service = service,
                                  .ca_file = dk_settings_str(settings, DK_OPT_CA_FILE),
                                  .proxy = dk_settings_str(settings, DK_OPT_PROXY)};
    setup.limits.per_second = (unsigned)dk_settings_int(settings, DK_OPT_MAX_CALLS);
    return dk_http_open(&setup, out, err);
}

/* On this machine or the next: quick or not at all (PROVIDERS A.5). Never through a proxy. */
static dk_rc open_metadata(struct aws *aws, struct dk_err *err)
{
    bool container = aws->aws.plan.source == DK_AWS_CONTAINER;
    int64_t try_ms = container ? 2000 : 1000;
    struct dk_http_setup setup = {.world = aws->setup.world,
                                  .limits = dk_http_limits_default,
                                  .service = container ? "the container's credentials service"
                                                       : "the instance's metadata service",
                                  .ca_file = dk_settings_str(aws->setup.settings, DK_OPT_CA_FILE)};
    setup.limits.tries = container ? 3 : 1;
    setup.limits.connect_ms = setup.limits.try_ms = try_ms;
    setup.limits.total_ms = try_ms * 3;
    setup.limits.budget = 0;
    return dk_http_open(&setup, &aws->metadata, err);
}

static dk_rc open_parts(struct aws *aws, struct dk_err *err)
{
    DK_TRY(dk_aws_setup_read(aws->setup.settings, &aws->setup.world->mem, &aws->aws, err));
    DK_TRY(open_http(aws, "AWS KMS", &aws->kms, err));
    DK_TRY(open_http(aws, "AWS STS", &aws->sts, err));
    DK_TRY(open_metadata(aws, err));
    struct dk_aws_credentials_setup setup = {.world = aws->setup.world,
                                             .suite = aws->setup.suite,
                                             .arena = aws->setup.arena,
                                             .aws = &aws->aws,
                                             .sts = aws->sts,
                                             .metadata = aws->metadata,
                                             .skew_us = &aws->skew_us};
    return dk_aws_credentials_open(&setup, &aws->credentials, err);
}

static void aws_close(void *self)
{
    struct aws *aws = self;
    dk_aws_credentials_close(aws->credentials);
    dk_http_close(aws->metadata);
    dk_http_close(aws->sts);
    dk_http_close(aws->kms);
    dk_aws_setup_clear(&aws->aws);
    pthread_mutex_destroy(&aws->lock);
    dk_mem_free(&aws->setup.world->mem, aws);
}

static dk_rc aws_open(const struct dk_provider_setup *setup, void **self, struct dk_err *err)
{
    struct aws *aws = dk_mem_zalloc(&setup->world->mem, sizeof *aws);
    if (aws == NULL) {
        return DK_FAIL(err, NOMEM, "no memory for AWS KMS");
    }
    aws->setup = *setup;
    aws->aws.plan.mem = &setup->world->mem;
    pthread_mutex_init(&aws->lock, NULL);
    dk_rc rc = open_parts(aws, err);
    aws->setup.settings = NULL; /* lent for the opening */
    if (rc != DK_OK) {
        aws_close(aws);
        return rc;
    }
    *self = aws;
    return DK_OK;
}

/* Nothing of the parent's is used: neither its connections nor its cells. */
static void aws_forget(void *self)
{
    struct aws *aws = self;
    pthread_mutex_init(&aws->lock, NULL);
    dk_http_after_fork(aws->kms);
    dk_http_after_fork(aws->sts);
    dk_http_after_fork(aws->metadata);
    dk_aws_credentials_after_fork(aws->credentials);
}

static dk_rc aws_after_fork(void *self, struct dk_err *err)
{
    (void)err;
    aws_forget(self);
    return DK_OK;
}

/* Asks nobody: before the first answer it is what the setting says. */
static dk_rc aws_describe(void *self, struct dk_provider_info *out, struct dk_err *err)
{
    struct aws *aws = self;
    (void)err;
    pthread_mutex_lock(&aws->lock);
    snprintf(out->kms_key_id, sizeof out->kms_key_id, "%s",
             aws->own_arn[0] != '\0' ? aws->own_arn : aws->aws.key_id);
    pthread_mutex_unlock(&aws->lock);
    out->key_count = 1;
    return DK_OK;
}

/* ---- what is said of the key ----------------------------------------------------------------- */

DK_PRINTF(4, 5)
static void say(const struct dk_provider_tell *tell, enum dk_provider_level level, const char *todo,
                const char *format, ...)
{
    char text[400];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    tell->tell(tell->arg, level, text, todo);
}

static void tell_state(const struct dk_kms_key *key, const struct dk_provider_tell *tell)
{
    char todo[2 * DK_KMS_KEY_ID_MAX + 200], when[DK_TIME_TEXT] = "a day that it does not tell";
    if (key->deletion_us != DK_TIME_NONE) {
        dk_time_format(key->deletion_us, when);
    }
    bool pending = strncmp(key->state, "Pending", 7) == 0;
    snprintf(todo, sizeof todo, "%s%s%saws kms enable-key --key-id %s",
             pending ? "aws kms cancel-key-deletion --key-id " : "", pending ? key->arn : "",
             pending ? " && " : "", key->arn);
    if (pending) {
        say(tell, DK_PROVIDER_ERROR, todo,
            "%s is %s: on %.19s it is deleted, and every data key under it is lost for ever",
            key->arn, key->state, when);
    } else {
        say(tell, DK_PROVIDER_ERROR, todo, "%s is %s: no data key under it opens", key->arn,
            key->state);
    }
}

/* Who may not ask is told which right he lacks; nothing is wrong with the key then. */
static void tell_rotation(struct aws *aws, const struct dk_kms_key *key,
                          const struct dk_provider_tell *tell)
{
    bool rotates = false;
    struct dk_err err;
    char todo[DK_KMS_KEY_ID_MAX + 64];
    struct exchange x = {
        .aws = aws, .ask = {.op = DK_KMS_ROTATION, .key_id = key->arn}, .rotates = &rotates};
    dk_err_clear(&err);
    if (run_one(&x, &err) != DK_OK) {
        say(tell, DK_PROVIDER_NOTE,
            "allow kms:GetKeyRotationStatus (dekhand doctor --print-policy)",
            "%s is %s; whether it rotates is not known (%s)", key->arn, key->state,
            dk_error_info(err.rc)->name);
    } else if (!rotates) {
        snprintf(todo, sizeof todo, "aws kms enable-key-rotation --key-id %s", key->arn);
        say(tell, DK_PROVIDER_NOTE, todo,
            "%s is %s, not scheduled for deletion; its material does not rotate by itself",
            key->arn, key->state);
    } else {
        say(tell, DK_PROVIDER_OK, "", "%s is %s, rotates, and is not scheduled for deletion",
            key->arn, key->state);
    }
}

static void aws_inspect(void *self, const struct dk_provider_tell *tell)
{
    struct aws *aws = self;
    struct dk_kms_key key;
    struct dk_err err;
    dk_err_clear(&err);
    dk_rc rc = describe(aws, &key, &err);
    if (rc == DK_E_PROVIDER_DENIED) {
        say(tell, DK_PROVIDER_NOTE, "allow kms:DescribeKey (dekhand doctor --print-policy)",
            "the state of %s is not known: %.200s", aws->aws.key_id, err.text);
    } else if (rc != DK_OK) {
        say(tell, DK_PROVIDER_WARNING, dk_error_info(rc)->todo, "%s: %.250s",
            dk_error_info(rc)->name, err.text);
    } else if (strcmp(key.state, "Enabled") != 0) {
        tell_state(&key, tell);
    } else if (key.usage[0] != '\0' && strcmp(key.usage, "ENCRYPT_DECRYPT") != 0) {
        say(tell, DK_PROVIDER_ERROR, "name a symmetric key with the usage ENCRYPT_DECRYPT",
            "%s is a key for %s", key.arn, key.usage);
    } else {
        tell_rotation(aws, &key, tell);
    }
}

/* A policy names keys by ARN; where that is not known it has a place to fill in. */
static dk_rc aws_policy(void *self, struct dk_buf *out, struct dk_err *err)
{
    struct aws *aws = self;
    char arn[DK_KMS_KEY_ID_MAX + 1];
    struct dk_err ignored;
    dk_err_clear(&ignored);
    if (aws->aws.key.form == DK_AWS_KEY_ARN) {
        return dk_aws_policy(aws->aws.key_id, out, err);
    }
    if (learn_own(aws, arn, &ignored) != DK_OK) {
        snprintf(arn, sizeof arn, "arn:%s:kms:%s:<ACCOUNT>:key/%s",
                 dk_aws_partition_of(aws->aws.region)->name, aws->aws.region,
                 aws->aws.key.form == DK_AWS_KEY_ID ? aws->aws.key.id : "<KEY_ID>");
    }
    return dk_aws_policy(arn, out, err);
}

static const char *aws_operation(unsigned operation)
{
    return operation < DK_KMS_OPS ? dk_kms_op_name((enum dk_kms_op)operation) : NULL;
}
_Static_assert(DK_KMS_OPS <= DK_PROVIDER_OPERATIONS, "counts");

const struct dk_provider_ops dk_provider_aws = {
    .name = "aws-kms",
    .caps = DK_PROVIDER_BINDS_CONTEXT | DK_PROVIDER_AUTHENTICATES,
    .open = aws_open,
    .close = aws_close,
    .after_fork = aws_after_fork,
    .forget = aws_forget,
    .describe = aws_describe,
    .run = aws_run,
    .inspect = aws_inspect,
    .policy = aws_policy,
    .operation = aws_operation,
};
