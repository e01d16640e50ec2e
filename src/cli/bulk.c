/*
 * The run: threads that take a batch, work on it and put it in line; whoever puts the one that
 * comes next writes it, and all that wait behind it.
 */
#include <openssl/crypto.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "cli/bulk.h"

/* ---- in order -------------------------------------------------------------------------------- */

static void stop(struct bulk *bulk, int code)
{
    bulk->code = code;
    atomic_store_explicit(&bulk->stopped, true, memory_order_relaxed);
}

static void say_messages(struct bulk *bulk, const struct bulk_batch *batch)
{
    for (int64_t i = 0; i < batch->counts.bad && i <= BULK_MESSAGES_MAX; i++) {
        const struct bulk_message *message = &batch->messages[i];
        int64_t before = bulk->counts.bad + i;
        if (before > BULK_MESSAGES_MAX) {
            return;
        }
        cli_progress_end(&bulk->progress);
        if (before == BULK_MESSAGES_MAX) {
            cli_say("dekhand: more bad rows follow; they are counted, not listed");
        } else if (message->name == SIZE_MAX) {
            cli_say("dekhand: line %lld: %s", (long long)message->line, message->why);
        } else {
            cli_say("dekhand: line %lld, %s %s: %s", (long long)message->line,
                    bulk->format->words.noun, bulk->plan.names[message->name], message->why);
        }
    }
}

static void add_counts(struct bulk_counts *to, const struct bulk_counts *more)
{
    to->bytes += more->bytes;
    to->rows += more->rows;
    to->values += more->values;
    to->nulls += more->nulls;
    to->bad += more->bad;
}

static void write_batch(struct bulk *bulk, const struct bulk_batch *batch)
{
    struct dk_err err;
    dk_err_clear(&err);
    cli_out_write(bulk->out, batch->out.p, batch->out.n);
    say_messages(bulk, batch);
    add_counts(&bulk->counts, &batch->counts);
    cli_progress_show(&bulk->progress, bulk->counts.bytes, bulk->counts.rows);
    if (bulk->out->failed) {
        stop(bulk, CLI_FAILED);
    } else if (batch->rejects.n > 0 &&
               dk_fd_write(bulk->rejects.fd, batch->rejects.p, batch->rejects.n, &err) != DK_OK) {
        stop(bulk, cli_fail_internal(bulk->cli, &err));
    } else if (batch->failed) {
        cli_progress_end(&bulk->progress);
        stop(bulk, cli_fail(bulk->cli, &batch->error));
    } else if (batch->refused) {
        cli_say("  what to do: mend the row, or give --rejects FILE to set bad rows aside");
        stop(bulk, CLI_FAILED);
    }
}

static void give_back(struct bulk *bulk, struct bulk_batch *batch)
{
    bulk->idle[bulk->idle_count++] = batch;
    pthread_cond_signal(&bulk->freed);
}

/* What follows a failure is not written. */
static void put_in_line(struct bulk *bulk, struct bulk_batch *batch)
{
    pthread_mutex_lock(&bulk->order);
    bulk->waiting[batch->number % bulk->batch_count] = batch;
    while (!bulk->writing) {
        struct bulk_batch **place = &bulk->waiting[bulk->next_number % bulk->batch_count];
        struct bulk_batch *next = *place;
        if (next == NULL) {
            break;
        }
        *place = NULL;
        bulk->next_number++;
        bulk->writing = true;
        pthread_mutex_unlock(&bulk->order);
        if (bulk->code == CLI_OK) {
            write_batch(bulk, next);
        }
        bulk_batch_reset(next);
        pthread_mutex_lock(&bulk->order);
        bulk->writing = false;
        give_back(bulk, next);
    }
    pthread_mutex_unlock(&bulk->order);
}

/* One is always on its way back: the oldest is being worked on or written by another thread. */
static struct bulk_batch *take_idle(struct bulk *bulk)
{
    pthread_mutex_lock(&bulk->order);
    while (bulk->idle_count == 0) {
        pthread_cond_wait(&bulk->freed, &bulk->order);
    }
    struct bulk_batch *batch = bulk->idle[--bulk->idle_count];
    pthread_mutex_unlock(&bulk->order);
    return batch;
}

static void *work(void *arg)
{
    struct bulk *bulk = arg;
    for (;;) {
        struct bulk_batch *batch = take_idle(bulk);
        if (!bulk_take(bulk, batch)) {
            pthread_mutex_lock(&bulk->order);
            give_back(bulk, batch);
            pthread_mutex_unlock(&bulk->order);
            return NULL;
        }
        bulk_work(bulk, batch);
        put_in_line(bulk, batch);
    }
}

/* ---- threads --------------------------------------------------------------------------------- */

/* How many: --threads, or two where there are two cores. 0: it was no number, and that was said. */
static size_t thread_count(const struct cli *cli)
{
    const char *text = cli_get(cli, "threads");
    cpu_set_t cores;
    if (text == NULL) {
        return sched_getaffinity(0, sizeof cores, &cores) == 0 && CPU_COUNT(&cores) == 1 ? 1 : 2;
    }
    if (text[0] < '1' || text[0] > '0' + BULK_THREADS_MAX || text[1] != '\0') {
        cli_usage("--threads wants a number from 1 to %d", BULK_THREADS_MAX);
        return 0;
    }
    return (size_t)(text[0] - '0');
}

static int make_batches(struct bulk *bulk, size_t threads)
{
    bulk->batch_count = BULK_BATCHES(threads);
    for (size_t i = 0; i < bulk->batch_count; i++) {
        bulk->batches[i] = bulk_batch_new(bulk);
        if (bulk->batches[i] == NULL) {
            cli_say("dekhand: E_NOMEM: no memory for a batch of rows");
            return CLI_FAILED;
        }
        bulk->idle[bulk->idle_count++] = bulk->batches[i];
    }
    return CLI_OK;
}

/* This thread and others; signals come to this one. Fewer threads do the same work. */
static void work_together(struct bulk *bulk, size_t threads)
{
    pthread_t others[BULK_THREADS_MAX];
    size_t n = 0;
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (n + 1 < threads && pthread_create(&others[n], NULL, work, bulk) == 0) {
        n++;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    work(bulk);
    while (n > 0) {
        pthread_join(others[--n], NULL);
    }
}

/* ---- the run --------------------------------------------------------------------------------- */

static void print_summary(struct bulk *bulk, double seconds)
{
    const struct bulk_counts *c = &bulk->counts;
    if (bulk->cli->json) {
        static struct cli_out err_out;
        err_out.fd = STDERR_FILENO;
        struct dk_json json = cli_out_json(&err_out);
        dk_json_object(&json, NULL);
        dk_json_int(&json, "rows", c->rows);
        dk_json_int(&json, "values", c->values);
        dk_json_int(&json, "nulls", c->nulls);
        dk_json_int(&json, "badRows", c->bad);
        dk_json_num(&json, "seconds", seconds);
        dk_json_end(&json, '}');
        cli_out_str(&err_out, "\n");
        (void)cli_out_finish(&err_out);
        return;
    }
    const char *done = bulk->encrypt ? "encrypted" : "decrypted";
    const char *kept = bulk->encrypt ? "set aside" : "kept as they are";
    cli_say(
        "%lld rows, %lld values %s, %lld NULL left alone, %lld bad rows %s, %.2f s (%.0f rows/s)",
        (long long)c->rows, (long long)c->values, done, (long long)c->nulls, (long long)c->bad,
        kept, seconds, seconds > 0 ? (double)c->rows / seconds : 0.0);
}

static int finish(struct bulk *bulk)
{
    struct dk_err err;
    dk_err_clear(&err);
    int code = bulk->code;
    cli_progress_end(&bulk->progress);
    if (code == CLI_OK && bulk->has_rejects && dk_new_file_commit(&bulk->rejects, &err) != DK_OK) {
        code = cli_fail_internal(bulk->cli, &err);
    }
    if (code != CLI_OK && !bulk->out->failed) {
        cli_out_abandon(bulk->out);
        return code;
    }
    code = cli_out_finish(bulk->out);
    if (code == CLI_OK) {
        print_summary(bulk, (double)(cli_now_ms() - bulk->progress.started_ms) / 1000);
        return bulk->counts.bad > 0 ? CLI_ATTENTION : CLI_OK;
    }
    return code;
}

static int open_files(struct bulk *bulk)
{
    const char *rejects = cli_get(bulk->cli, "rejects");
    struct dk_err err;
    dk_err_clear(&err);
    if (rejects != NULL) {
        if (cli_new_file_open(&bulk->rejects, rejects, &err) != DK_OK) {
            return cli_fail_internal(bulk->cli, &err);
        }
        bulk->has_rejects = true;
    }
    return cli_out_open(bulk->out, cli_get(bulk->cli, "output"));
}

/* A signal came before all of the input was worked on. */
static void end_interrupted(struct bulk *bulk)
{
    bool all = bulk->input.ended && bulk->input.at == bulk->input.n;
    if (cli_interrupted() && !all && bulk->code == CLI_OK) {
        cli_progress_end(&bulk->progress);
        bulk->code =
            cli_give_up(bulk->counts.rows, bulk->out->to_file ? "rows; no file was written"
                                                              : "rows, which were written");
    }
}

static int run(struct bulk *bulk, size_t threads)
{
    int code = bulk->format->begin(bulk);
    code = code == CLI_OK ? make_batches(bulk, threads) : code;
    code = code == CLI_OK ? open_files(bulk) : code;
    if (code != CLI_OK) {
        return code;
    }
    code = cli_open(bulk->cli);
    if (code != CLI_OK) {
        cli_out_abandon(bulk->out);
        return code;
    }
    cli_progress_start(&bulk->progress, STDIN_FILENO);
    cli_out_write(bulk->out, bulk->head.p, bulk->head.n);
    bulk->counts.bytes = (int64_t)bulk->head.n;
    work_together(bulk, threads);
    end_interrupted(bulk);
    return cli_close(bulk->cli, finish(bulk));
}

static void clear(struct bulk *bulk)
{
    dk_new_file_abandon(&bulk->rejects);
    for (size_t i = 0; i < bulk->batch_count; i++) {
        bulk_batch_free(bulk->batches[i]);
    }
    bulk_input_clear(&bulk->input);
    dk_buf_wipe(&bulk->head);
    bulk->format->end(bulk);
    bulk_plan_clear(&bulk->plan);
    OPENSSL_cleanse(bulk->out->buffer, sizeof bulk->out->buffer);
}

int cli_bulk(struct cli *cli, bool encrypt)
{
    static struct cli_out out;
    static struct bulk bulk = {.input.lock = PTHREAD_MUTEX_INITIALIZER,
                               .order = PTHREAD_MUTEX_INITIALIZER,
                               .freed = PTHREAD_COND_INITIALIZER};
    size_t threads = thread_count(cli);
    if (threads == 0 || bulk_check_rejects(cli) != CLI_OK) {
        return CLI_USAGE;
    }
    bulk.cli = cli;
    bulk.format = cli_has(cli, "csv") ? &bulk_csv : &bulk_jsonl;
    bulk.encrypt = encrypt;
    bulk.out = &out;
    bulk.rejects.fd = -1;
    dk_buf_init(&bulk.head, &dk_mem_default, 2 * BULK_ROW_MAX);
    int code = run(&bulk, threads);
    clear(&bulk);
    return code;
}
