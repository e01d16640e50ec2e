/*
 * dekhand encrypt|decrypt --csv: columns of a file, as a stream, in constant memory.
 *
 * Rows are read into one buffer, a chunk of them becomes one batch of the library, then the rows
 * are written with the cells replaced and every other byte as it was (DESIGN 6).
 */
#include <errno.h>
#include <openssl/crypto.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/tenant.h"
#include "cli/cli.h"
#include "cli/csv_plan.h"
#include "cli/csv_row.h"

#define CHUNK_ROWS 512
#define BUFFER_MIN (512 * 1024)
/* A row with a 1 MiB value as dk1, its quotes doubled, and room beside it. */
#define ROW_MAX (4 * 1024 * 1024)
#define MESSAGES_MAX 10

struct row {
    const uint8_t *p;
    struct csv_row shape;
    struct csv_cell *cells;
    int64_t line;
    size_t first_item;
    size_t items;
    const char *tenant;
    bool bad;
};

struct job {
    struct cli *cli;
    bool encrypt;
    struct csv_plan plan;
    struct csv_pool pool; /* what a chunk needs beside the buffer */
    struct cli_out *out;
    struct dk_new_file rejects;
    bool has_rejects;
    uint8_t *buffer;
    size_t cap, n, at; /* bytes in it, and how many of them are done with */
    bool ended;        /* of the input */
    int64_t line;
    struct row rows[CHUNK_ROWS];
    size_t row_count;
    struct csv_cell *cells;
    struct dekhand_item *items;
    size_t item_count;
    struct cli_progress progress;
    int64_t bytes, row_total, value_total, null_total, bad_total;
};

/* ---- input ---------------------------------------------------------------------------------- */

static int grow(struct job *job)
{
    size_t cap = job->cap == 0 ? BUFFER_MIN : job->cap * 2;
    uint8_t *p = malloc(cap);
    if (p == NULL) {
        cli_say("dekhand: E_NOMEM: no memory for a row of more than %zu bytes", job->cap);
        return CLI_FAILED;
    }
    if (job->buffer != NULL) {
        memcpy(p, job->buffer, job->n);
        OPENSSL_cleanse(job->buffer, job->n);
        free(job->buffer);
    }
    job->buffer = p;
    job->cap = cap;
    return CLI_OK;
}

/* Moves what is left to the front and reads more behind it. */
static int fill(struct job *job)
{
    memmove(job->buffer, job->buffer + job->at, job->n - job->at);
    job->n -= job->at;
    job->at = 0;
    if (job->n == job->cap && grow(job) != CLI_OK) {
        return CLI_FAILED;
    }
    while (!job->ended && job->n < job->cap) {
        ssize_t got = cli_read_input(job->buffer + job->n, job->cap - job->n);
        if (cli_interrupted()) {
            return cli_give_up(job->row_total, job->out->to_file ? "rows; no file was written"
                                                                 : "rows, which were written");
        }
        if (got < 0) {
            cli_say("dekhand: E_IO: standard input cannot be read: %s", strerror(errno));
            return CLI_FAILED;
        }
        job->ended = got == 0;
        job->n += (size_t)got;
    }
    return CLI_OK;
}

/* ---- bad rows ------------------------------------------------------------------------------- */

static void say_bad(struct job *job, int64_t line, const char *column, const char *why)
{
    job->bad_total++;
    if (job->bad_total <= MESSAGES_MAX) {
        cli_progress_end(&job->progress);
        cli_say("dekhand: line %lld%s%s: %s", (long long)line, column != NULL ? ", column " : "",
                column != NULL ? column : "", why);
    } else if (job->bad_total == MESSAGES_MAX + 1) {
        cli_say("dekhand: more bad rows follow; they are counted, not listed");
    }
}

/* Encrypt: to the rejects, or the end. Decrypt: the row stays as it is. */
static int put_bad(struct job *job, const uint8_t *p, size_t n)
{
    struct dk_err err;
    if (!job->encrypt) {
        cli_out_write(job->out, p, n);
        return CLI_OK;
    }
    if (!job->has_rejects) {
        cli_say("  what to do: mend the row, or give --rejects FILE to set bad rows aside");
        return CLI_FAILED;
    }
    dk_err_clear(&err);
    return dk_fd_write(job->rejects.fd, p, n, &err) == DK_OK ? CLI_OK
                                                             : cli_fail_internal(job->cli, &err);
}

/* A row that does not fit into memory is handed on in pieces. */
static int pass_long_row(struct job *job)
{
    struct csv_skip skip = {.at_start = true};
    bool row_ended = false;
    say_bad(job, job->line, NULL, "the row is longer than 4 MiB, or a quote is never closed");
    for (;;) {
        size_t lines = 0;
        size_t n = csv_row_skip(&skip, job->buffer + job->at, job->n - job->at, &lines, &row_ended);
        int code = put_bad(job, job->buffer + job->at, n);
        job->at += n;
        job->bytes += (int64_t)n;
        job->line += (int64_t)lines;
        if (code != CLI_OK || row_ended || (job->ended && job->at == job->n)) {
            job->row_total++;
            return code;
        }
        code = fill(job);
        if (code != CLI_OK) {
            return code;
        }
    }
}

/* ---- one row to items ----------------------------------------------------------------------- */

static bool is_null(const struct csv_cell *cell)
{
    return cell->n == 0 && !cell->quoted;
}

/* A cell's text as a C string in the pool; NULL when it holds a NUL. */
static const char *cell_text(struct job *job, const struct csv_cell *cell)
{
    char *text = csv_pool_take(&job->pool, cell->n + 1);
    size_t n = text != NULL ? csv_cell_unquote(cell, (uint8_t *)text) : 0;
    if (text == NULL || memchr(text, '\0', n) != NULL) {
        return NULL;
    }
    text[n] = '\0';
    return text;
}

static void mark_bad(struct job *job, struct row *row, size_t column, const char *why)
{
    row->bad = true;
    say_bad(job, row->line, column < job->plan.column_count ? job->plan.names[column] : NULL, why);
}

static bool check_shape(struct job *job, struct row *row)
{
    if (row->shape.fault != CSV_GOOD && row->shape.fault != CSV_TOO_MANY) {
        mark_bad(job, row, row->shape.fault_cell, csv_fault_text(row->shape.fault));
    } else if (row->shape.count != job->plan.column_count) {
        char why[96];
        snprintf(why, sizeof why, "%zu cells, the header has %zu", row->shape.count,
                 job->plan.column_count);
        mark_bad(job, row, SIZE_MAX, why);
    }
    return !row->bad;
}

static bool check_tenant(struct job *job, struct row *row)
{
    struct dk_tenant tenant;
    struct dk_err err;
    dk_err_clear(&err);
    if (job->plan.tenant_column == SIZE_MAX) {
        row->tenant = job->plan.tenant;
        return true;
    }
    row->tenant = cell_text(job, &row->cells[job->plan.tenant_column]);
    if (row->tenant == NULL) {
        mark_bad(job, row, job->plan.tenant_column, "the tenant id holds a NUL byte");
    } else if (dk_tenant_parse(dk_view_str(row->tenant), &tenant, &err) != DK_OK) {
        mark_bad(job, row, job->plan.tenant_column, err.text);
    }
    return !row->bad;
}

/* The row's context: the fixed pairs, or each with its {columns} filled in. */
static const struct dekhand_pair *row_context(struct job *job, struct row *row)
{
    const struct csv_plan *plan = &job->plan;
    if (!plan->context_varies) {
        return plan->pairs;
    }
    struct dekhand_pair *pairs = csv_pool_take(&job->pool, plan->pair_count * sizeof *pairs);
    for (size_t i = 0; pairs != NULL && i < plan->pair_count; i++) {
        pairs[i].name = plan->pairs[i].name;
        pairs[i].value = csv_plan_fill(plan, &job->pool, i, row->cells);
        if (pairs[i].value == NULL) {
            mark_bad(job, row, SIZE_MAX, "a context value holds a NUL byte or is too long");
            return NULL;
        }
    }
    return pairs;
}

static bool add_item(struct job *job, const struct row *row, const struct csv_cell *cell,
                     const struct dekhand_pair *context)
{
    struct dekhand_item *item = &job->items[job->item_count];
    *item = (struct dekhand_item){.tenant = row->tenant,
                                  .context = context,
                                  .context_count = job->plan.pair_count,
                                  .format = DEKHAND_TEXT,
                                  .in = cell->p,
                                  .in_size = cell->n};
    if (cell->doubled) {
        uint8_t *plain = csv_pool_take(&job->pool, cell->n);
        if (plain == NULL) {
            return false;
        }
        item->in_size = csv_cell_unquote(cell, plain);
        item->in = plain;
    }
    if (job->encrypt) {
        item->capacity = dekhand_encrypted_size(DEKHAND_TEXT, 0, item->in_size);
    } else if (dekhand_decrypted_size(item->in, item->in_size, &item->capacity, NULL) != 0) {
        item->capacity = 0; /* the call will say that it is no value */
    }
    item->out = csv_pool_take(&job->pool, item->capacity + 1);
    job->item_count++;
    return item->out != NULL;
}

static int add_items(struct job *job, struct row *row)
{
    const struct dekhand_pair *context = row_context(job, row);
    for (size_t i = 0; i < job->plan.chosen_count && !row->bad; i++) {
        const struct csv_cell *cell = &row->cells[job->plan.chosen[i]];
        if (is_null(cell)) {
            job->null_total++;
        } else if (!add_item(job, row, cell, context)) {
            cli_say("dekhand: E_NOMEM: no memory for a chunk of rows");
            return CLI_FAILED;
        } else {
            row->items++;
        }
    }
    return CLI_OK;
}

static int take_row(struct job *job, const struct csv_row *shape, struct csv_cell *cells)
{
    struct row *row = &job->rows[job->row_count++];
    *row = (struct row){.p = job->buffer + job->at,
                        .shape = *shape,
                        .cells = cells,
                        .line = job->line,
                        .first_item = job->item_count};
    job->at += shape->size;
    job->line += (int64_t)shape->lines;
    return check_shape(job, row) && check_tenant(job, row) ? add_items(job, row) : CLI_OK;
}

/* ---- a chunk -------------------------------------------------------------------------------- */

/* Faults of a value or its row; all others end the run. */
static bool is_row_fault(int code)
{
    return code == DEKHAND_E_USAGE || code == DEKHAND_E_LIMIT || code == DEKHAND_E_FORMAT ||
           code == DEKHAND_E_AUTH || code == DEKHAND_E_WRONG_KEY ||
           code == DEKHAND_E_UNKNOWN_VERSION || code == DEKHAND_E_DISABLED ||
           code == DEKHAND_E_PURGED;
}

/* The column of item k of a row: NULL cells have no item. */
static size_t column_of(const struct job *job, const struct row *row, size_t k)
{
    for (size_t i = 0; i < job->plan.chosen_count; i++) {
        if (!is_null(&row->cells[job->plan.chosen[i]]) && k-- == 0) {
            return job->plan.chosen[i];
        }
    }
    return SIZE_MAX;
}

static int judge_item(struct job *job, struct row *row, size_t k)
{
    struct dekhand_item *item = &job->items[row->first_item + k];
    struct dekhand_error error;
    if (item->code == DEKHAND_OK) {
        return CLI_OK;
    }
    /* The batch keeps one text only: this item again, for its own. */
    int rc = job->encrypt ? dekhand_encrypt(job->cli->library, item, &error)
                          : dekhand_decrypt(job->cli->library, item, &error);
    if (rc == DEKHAND_OK) {
        return CLI_OK;
    }
    if (!is_row_fault(rc)) {
        return cli_fail(job->cli, &error);
    }
    char why[400];
    snprintf(why, sizeof why, "%s: %.350s", dk_error_info((dk_rc)rc)->outward,
             cli_error_text(&error));
    mark_bad(job, row, column_of(job, row, k), why);
    return CLI_OK;
}

/* Values keep their quoting; one that could not stand without quotes gets them. */
static void put_value(struct job *job, const struct row *row, const struct csv_cell *cell,
                      const struct dekhand_item *item)
{
    bool last = cell->p + cell->n + row->shape.line_end == row->p + row->shape.size;
    if (job->encrypt) {
        cli_out_write(job->out, item->out, item->size);
    } else if (cell->quoted) {
        cli_out_quoted(job->out, item->out, item->size);
    } else if (csv_needs_quotes(item->out, item->size, last && row->shape.line_end == 1)) {
        cli_out_write(job->out, "\"", 1);
        cli_out_quoted(job->out, item->out, item->size);
        cli_out_write(job->out, "\"", 1);
    } else {
        cli_out_write(job->out, item->out, item->size);
    }
}

static void put_row(struct job *job, const struct row *row)
{
    const uint8_t *from = row->p;
    size_t k = 0;
    for (size_t i = 0; i < job->plan.chosen_count; i++) {
        const struct csv_cell *cell = &row->cells[job->plan.chosen[i]];
        if (is_null(cell)) {
            continue;
        }
        cli_out_write(job->out, from, (size_t)(cell->p - from));
        put_value(job, row, cell, &job->items[row->first_item + k++]);
        from = cell->p + cell->n;
    }
    cli_out_write(job->out, from, (size_t)(row->p + row->shape.size - from));
    job->value_total += (int64_t)row->items;
}

static int finish_row(struct job *job, struct row *row)
{
    int code = CLI_OK;
    for (size_t k = 0; k < row->items && !row->bad && code == CLI_OK; k++) {
        code = judge_item(job, row, k);
    }
    if (code == CLI_OK && row->bad) {
        code = put_bad(job, row->p, row->shape.size);
    } else if (code == CLI_OK) {
        put_row(job, row);
    }
    job->row_total++;
    job->bytes += (int64_t)row->shape.size;
    return code;
}

/* Items carry their own codes; a batch that fails without any of them did no work at all. */
static int run_batch(struct job *job)
{
    struct dekhand_error error;
    int rc = job->encrypt
                 ? dekhand_encrypt_batch(job->cli->library, job->items, job->item_count, &error)
                 : dekhand_decrypt_batch(job->cli->library, job->items, job->item_count, &error);
    for (size_t i = 0; i < job->item_count; i++) {
        if (rc == DEKHAND_OK || job->items[i].code != DEKHAND_OK) {
            return CLI_OK;
        }
    }
    return rc == DEKHAND_OK ? CLI_OK : cli_fail(job->cli, &error);
}

static int finish_chunk(struct job *job)
{
    int code = job->item_count > 0 ? run_batch(job) : CLI_OK;
    for (size_t i = 0; i < job->row_count && code == CLI_OK; i++) {
        code = finish_row(job, &job->rows[i]);
    }
    if (code != CLI_OK) {
        return code;
    }
    job->row_count = 0;
    job->item_count = 0;
    csv_pool_reset(&job->pool);
    cli_progress_show(&job->progress, job->bytes, job->row_total);
    return job->out->failed ? CLI_FAILED : CLI_OK;
}

/* All whole rows of the buffer, in chunks. */
static int work_buffer(struct job *job)
{
    int code = CLI_OK;
    while (code == CLI_OK && job->at < job->n) {
        struct csv_row shape;
        struct csv_cell *cells = job->cells + job->row_count * job->plan.column_count;
        if (!csv_row_find(job->buffer + job->at, job->n - job->at, job->ended, cells,
                          job->plan.column_count, &shape)) {
            break;
        }
        code = take_row(job, &shape, cells);
        if (code == CLI_OK && job->row_count == CHUNK_ROWS) {
            code = finish_chunk(job);
        }
    }
    return code == CLI_OK ? finish_chunk(job) : code;
}

static int work(struct job *job)
{
    for (;;) {
        int code = work_buffer(job);
        if (code != CLI_OK || (job->ended && job->at == job->n)) {
            return code;
        }
        if (job->n - job->at >= ROW_MAX) {
            code = pass_long_row(job);
        }
        code = code == CLI_OK ? fill(job) : code;
        if (code != CLI_OK) {
            return code;
        }
    }
}

/* ---- the run -------------------------------------------------------------------------------- */

/* Reads until the header row is whole, makes the plan from it, writes it unchanged. */
static int read_header(struct job *job)
{
    struct csv_row shape;
    static struct csv_cell cells[CSV_COLUMNS_MAX];
    int code = fill(job);
    size_t mark = csv_mark_size(job->buffer, job->n);
    while (code == CLI_OK && !csv_row_find(job->buffer + mark, job->n - mark, job->ended, cells,
                                           CSV_COLUMNS_MAX, &shape)) {
        if (job->n >= ROW_MAX) {
            return cli_usage("the first line is longer than 4 MiB: a CSV file with a header is "
                             "wanted");
        }
        code = fill(job);
    }
    if (code != CLI_OK) {
        return code;
    }
    if (shape.size == 0) {
        return cli_usage("the input is empty: a CSV file with a header is wanted");
    }
    if (shape.fault != CSV_GOOD) {
        return cli_usage("line 1: %s: a header is wanted", csv_fault_text(shape.fault));
    }
    code = csv_plan_make(job->cli, cells, shape.count, &job->plan);
    job->at = mark + shape.size;
    job->line = 1 + (int64_t)shape.lines;
    job->bytes = (int64_t)job->at;
    return code;
}

static int alloc_chunk(struct job *job)
{
    job->cells = calloc(CHUNK_ROWS * job->plan.column_count + 1, sizeof *job->cells);
    job->items = calloc(CHUNK_ROWS * job->plan.chosen_count + 1, sizeof *job->items);
    if (job->cells == NULL || job->items == NULL) {
        cli_say("dekhand: E_NOMEM: no memory for a chunk of rows");
        return CLI_FAILED;
    }
    return CLI_OK;
}

static void print_summary(struct job *job, double seconds)
{
    if (job->cli->json) {
        static struct cli_out err_out;
        err_out.fd = STDERR_FILENO;
        struct dk_json json = cli_out_json(&err_out);
        dk_json_object(&json, NULL);
        dk_json_int(&json, "rows", job->row_total);
        dk_json_int(&json, "values", job->value_total);
        dk_json_int(&json, "nulls", job->null_total);
        dk_json_int(&json, "badRows", job->bad_total);
        dk_json_num(&json, "seconds", seconds);
        dk_json_end(&json, '}');
        cli_out_str(&err_out, "\n");
        (void)cli_out_finish(&err_out);
        return;
    }
    const char *done = job->encrypt ? "encrypted" : "decrypted";
    const char *kept = job->encrypt ? "set aside" : "kept as they are";
    cli_say(
        "%lld rows, %lld values %s, %lld NULL left alone, %lld bad rows %s, %.2f s (%.0f rows/s)",
        (long long)job->row_total, (long long)job->value_total, done, (long long)job->null_total,
        (long long)job->bad_total, kept, seconds,
        seconds > 0 ? (double)job->row_total / seconds : 0.0);
}

static int finish(struct job *job, int code)
{
    struct dk_err err;
    dk_err_clear(&err);
    cli_progress_end(&job->progress);
    if (code == CLI_OK && job->has_rejects && dk_new_file_commit(&job->rejects, &err) != DK_OK) {
        code = cli_fail_internal(job->cli, &err);
    }
    if (code != CLI_OK && !job->out->failed) {
        cli_out_abandon(job->out);
        return code;
    }
    code = cli_out_finish(job->out);
    if (code == CLI_OK) {
        print_summary(job, (double)(cli_now_ms() - job->progress.started_ms) / 1000);
        return job->bad_total > 0 ? CLI_ATTENTION : CLI_OK;
    }
    return code;
}

static int open_files(struct job *job)
{
    const char *rejects = cli_get(job->cli, "rejects");
    struct dk_err err;
    dk_err_clear(&err);
    if (rejects != NULL) {
        if (cli_new_file_open(&job->rejects, rejects, &err) != DK_OK) {
            return cli_fail_internal(job->cli, &err);
        }
        job->has_rejects = true;
    }
    return cli_out_open(job->out, cli_get(job->cli, "output"));
}

static int run(struct job *job)
{
    int code = grow(job);
    code = code == CLI_OK ? read_header(job) : code;
    code = code == CLI_OK ? alloc_chunk(job) : code;
    code = code == CLI_OK ? open_files(job) : code;
    if (code != CLI_OK) {
        return code;
    }
    code = cli_open(job->cli);
    if (code != CLI_OK) {
        cli_out_abandon(job->out);
        return code;
    }
    cli_progress_start(&job->progress, STDIN_FILENO);
    cli_out_write(job->out, job->buffer, job->at); /* the header */
    return cli_close(job->cli, finish(job, work(job)));
}

int cli_csv(struct cli *cli, bool encrypt)
{
    static struct cli_out out;
    static struct job job;
    if (csv_check_rejects(cli) != CLI_OK) {
        return CLI_USAGE;
    }
    job = (struct job){.cli = cli, .encrypt = encrypt, .out = &out};
    job.rejects.fd = -1;
    int code = run(&job);
    dk_new_file_abandon(&job.rejects);
    csv_pool_free(&job.pool);
    csv_plan_clear(&job.plan);
    if (job.buffer != NULL) {
        OPENSSL_cleanse(job.buffer, job.cap);
    }
    OPENSSL_cleanse(out.buffer, sizeof out.buffer);
    free(job.buffer);
    free(job.cells);
    free(job.items);
    return code;
}
