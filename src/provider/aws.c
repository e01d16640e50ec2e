#include "provider/aws.h"

#include <stdio.h>

#include "provider/aws_inspect.h"
#include "provider/aws_own.h"

/* ---- data keys ------------------------------------------------------------------------------- */

/* What KMS made is opaque; what is no base64 it never made. */
static dk_rc check_blob(const char *blob, struct dk_err *err)
{
    uint8_t bytes[DK_WRAPPED_MAX];
    size_t n = 0;
    return dk_base64_decode(blob, strlen(blob), bytes, sizeof bytes, &n) && n > 0
               ? DK_OK
               : DK_FAIL(err, FORMAT, "the wrapped key is no CiphertextBlob of AWS KMS");
}

/* A wrap that a row holds: opened, or moved, by the key that it names or our replica of it. */
static dk_rc prepare_row(struct dk_aws *aws, const struct dk_wrapped *row, struct dk_aws_call *x,
                         struct dk_err *err)
{
    x->ask.key_id = x->way.key_id;
    x->ask.blob = row->blob;
    DK_TRY(check_blob(row->blob, err));
    return dk_aws_find_way(aws, row->kms_key_id, &x->way, err);
}

/* KMS moves within a region: ours, which is where a way leads. */
static dk_rc prepare_move(struct dk_aws *aws, struct dk_provider_item *item, struct dk_aws_call *x)
{
    x->ask.op = DK_KMS_REENCRYPT;
    x->ask.destination = aws->aws.key_id;
    x->answer.wrapped = item->wrapped;
    return prepare_row(aws, item->before, x, &item->err);
}

static dk_rc prepare(struct dk_aws *aws, enum dk_provider_op op, struct dk_provider_item *item,
                     struct dk_aws_call *x)
{
    *x = (struct dk_aws_call){.aws = aws,
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
    case DK_PROVIDER_MOVE:
        return prepare_move(aws, item, x);
    default:
        x->ask.op = DK_KMS_DECRYPT;
        x->answer.key = &item->key;
        return prepare_row(aws, item->wrapped, x, &item->err);
    }
}

/* The answer of a replica, under its own name, counts as one of the key that is stored (F31). */
static void take_answered(struct dk_provider_item *item, const struct dk_aws_call *x)
{
    bool same = strcmp(x->answer.key_id, x->way.key_id) == 0;
    bool replica = strcmp(x->way.key_id, item->wrapped->kms_key_id) != 0;
    if (replica && !same) {
        (void)DK_FAIL(&item->err, PROVIDER,
                      "AWS KMS answered with the key %.120s, asked was %.120s", x->answer.key_id,
                      x->way.key_id);
        return;
    }
    memcpy(item->answered, same ? item->wrapped->kms_key_id : x->answer.key_id,
           sizeof item->answered);
}

static void take(struct dk_aws *aws, enum dk_provider_op op, struct dk_provider_item *item,
                 struct dk_aws_call *x)
{
    dk_aws_call_end(x);
    if (item->err.rc != DK_OK) {
        return;
    }
    if (op == DK_PROVIDER_UNWRAP) {
        take_answered(item, x);
    } else if (dk_aws_check_own(aws, x->answer.key_id, &item->err) == DK_OK) {
        dk_aws_note_own(aws, x->answer.key_id);
    }
}

static void fail_all(struct dk_provider_item *const *items, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        (void)DK_FAIL(&items[i]->err, NOMEM, "no memory for a call of AWS KMS");
    }
}

static bool any_to_learn_for(const struct dk_aws *aws, enum dk_provider_op op,
                             struct dk_provider_item *const *items, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const struct dk_wrapped *row =
            op == DK_PROVIDER_MOVE ? items[i]->before : items[i]->wrapped;
        if (dk_aws_must_learn(aws, row->kms_key_id)) {
            return true;
        }
    }
    return false;
}

/* Fails where KMS does: then it stays unknown, and a key of before is asked. */
static void aws_learn_own(void *self, struct dk_provider_item *const *items, size_t count)
{
    char arn[DK_KMS_KEY_ID_MAX + 1];
    struct dk_err ignored;
    dk_err_clear(&ignored);
    dk_rc rc = any_to_learn_for(self, DK_PROVIDER_UNWRAP, items, count)
                   ? dk_aws_learn_own(self, arn, &ignored)
                   : DK_OK;
    (void)rc;
}

/*
 * What all of them would wait for, once: within the run it would hold up the other requests. Before
 * an unwrap where the setting does not name the key's account, that too: rows are judged by it.
 */
static bool is_ready(struct dk_aws *aws, enum dk_provider_op op,
                     struct dk_provider_item *const *items, size_t count)
{
    struct dk_aws_keys *keys = NULL;
    struct dk_err err;
    char arn[DK_KMS_KEY_ID_MAX + 1];
    dk_err_clear(&err);
    dk_rc rc = dk_aws_credentials_get(aws->credentials, &keys, &err);
    if (rc == DK_OK) {
        dk_aws_credentials_put(aws->credentials, keys);
        bool learns = (op == DK_PROVIDER_UNWRAP || op == DK_PROVIDER_MOVE) &&
                      any_to_learn_for(aws, op, items, count);
        rc = learns ? dk_aws_learn_own(aws, arn, &err) : DK_OK;
    }
    for (size_t i = 0; i < count && rc != DK_OK; i++) {
        items[i]->err = err;
    }
    return rc == DK_OK;
}

static void aws_run(void *self, enum dk_provider_op op, struct dk_provider_item *const *items,
                    size_t count)
{
    struct dk_aws *aws = self;
    const struct dk_mem *mem = &aws->setup.world->mem;
    struct dk_aws_call *x = dk_mem_alloc(mem, count * sizeof *x);
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
            calls[n++] =
                (struct dk_http_call){dk_aws_call_build, dk_aws_call_judge, &x[i], &items[i]->err};
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

static dk_rc open_http(struct dk_aws *aws, const char *service, int tries, struct dk_http **out,
                       struct dk_err *err)
{
    const struct dk_settings *settings = aws->setup.settings;
    struct dk_http_setup setup = {.world = aws->setup.world,
                                  .limits = dk_http_limits_default,
                                  .service = service,
                                  .ca_file = dk_settings_str(settings, DK_OPT_CA_FILE),
                                  .proxy = dk_settings_str(settings, DK_OPT_PROXY)};
    setup.limits.tries = tries;
    setup.limits.per_second = (unsigned)dk_settings_int(settings, DK_OPT_MAX_CALLS);
    return dk_http_open(&setup, out, err);
}

/* On this machine or the next: quick or not at all (PROVIDERS A.5). Never through a proxy. */
static dk_rc open_metadata(struct dk_aws *aws, struct dk_err *err)
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

static dk_rc open_parts(struct dk_aws *aws, struct dk_err *err)
{
    DK_TRY(dk_aws_setup_read(aws->setup.settings, &aws->setup.world->mem, &aws->aws, err));
    int tries = dk_http_limits_default.tries;
    DK_TRY(open_http(aws, "AWS KMS", tries, &aws->kms, err));
    DK_TRY(open_http(aws, "AWS STS", tries, &aws->sts, err));
    /* Out of a network of one's own IAM is often not reached: one try, the answer may be missing */
    DK_TRY(open_http(aws, "AWS IAM", 1, &aws->iam, err));
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
    struct dk_aws *aws = self;
    dk_aws_credentials_close(aws->credentials);
    dk_http_close(aws->metadata);
    dk_http_close(aws->iam);
    dk_http_close(aws->sts);
    dk_http_close(aws->kms);
    dk_aws_setup_clear(&aws->aws);
    pthread_mutex_destroy(&aws->ask);
    pthread_mutex_destroy(&aws->lock);
    dk_mem_free(&aws->setup.world->mem, aws);
}

static void locks_init(struct dk_aws *aws)
{
    pthread_mutex_init(&aws->ask, NULL);
    pthread_mutex_init(&aws->lock, NULL);
}

static dk_rc aws_open(const struct dk_provider_setup *setup, void **self, struct dk_err *err)
{
    struct dk_aws *aws = dk_mem_zalloc(&setup->world->mem, sizeof *aws);
    if (aws == NULL) {
        return DK_FAIL(err, NOMEM, "no memory for AWS KMS");
    }
    aws->setup = *setup;
    aws->aws.plan.mem = &setup->world->mem;
    locks_init(aws);
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
    struct dk_aws *aws = self;
    locks_init(aws);
    dk_http_after_fork(aws->kms);
    dk_http_after_fork(aws->sts);
    dk_http_after_fork(aws->iam);
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
    struct dk_aws *aws = self;
    (void)err;
    pthread_mutex_lock(&aws->lock);
    snprintf(out->kms_key_id, sizeof out->kms_key_id, "%s",
             aws->own_arn[0] != '\0' ? aws->own_arn : aws->aws.key_id);
    pthread_mutex_unlock(&aws->lock);
    out->key_count = 1;
    return DK_OK;
}

static const char *aws_operation(unsigned operation)
{
    return operation < DK_KMS_OPS ? dk_kms_op_name((enum dk_kms_op)operation) : NULL;
}
_Static_assert(DK_KMS_OPS <= DK_PROVIDER_OPERATIONS, "counts");

/* An ARN says it all; one whose region is none of its partition would be asked elsewhere. */
static bool aws_previous_aim(const char *id, struct dk_previous_aim *out)
{
    struct dk_aws_key key;
    if (!dk_aws_key_parse(id, &key) || key.form != DK_AWS_KEY_ARN ||
        strcmp(key.partition, dk_aws_partition_of(key.region)->name) != 0) {
        return false;
    }
    out->option[0] = DK_OPT_AWS_KMS_KEY_ID;
    snprintf(out->value[0], sizeof out->value[0], "%s", id);
    out->option[1] = DK_OPT_AWS_REGION;
    snprintf(out->value[1], sizeof out->value[1], "%s", key.region);
    out->count = 2;
    return true;
}

const struct dk_provider_ops dk_provider_aws = {
    .name = "aws-kms",
    .caps = DK_PROVIDER_BINDS_CONTEXT | DK_PROVIDER_AUTHENTICATES | DK_PROVIDER_MOVES,
    .open = aws_open,
    .close = aws_close,
    .after_fork = aws_after_fork,
    .forget = aws_forget,
    .describe = aws_describe,
    .run = aws_run,
    .inspect = dk_aws_inspect,
    .policy = dk_aws_tell_policy,
    .operation = aws_operation,
    .previous_aim = aws_previous_aim,
    .previous_is = dk_aws_is_same_key,
    .learn_own = aws_learn_own,
    .is_own = dk_aws_is_own,
};
