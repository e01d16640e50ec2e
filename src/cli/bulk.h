/*
 * bulk: a file's rows encrypted or decrypted as a stream, in constant memory, by several threads.
 *
 * Rows are read in order into batches (bulk_input.c), each batch is worked on by one thread
 * (bulk_batch.c), and what came of it is written in order (bulk.c): all that the user sees is the
 * same for any number of threads. A format (csv.c, jsonl.c) knows what a row looks like and nothing
 * of the rest.
 */
#ifndef DK_CLI_BULK_H
#define DK_CLI_BULK_H

#include <pthread.h>
#include <stdatomic.h>

#include "cli/bulk_plan.h"
#include "cli/cell.h"
#include "cli/csv_row.h"
#include "cli/pool.h"

#define BULK_THREADS_MAX 8
/* Enough to go on while the machine holds up the thread whose batch comes next. */
#define BULK_BATCHES(threads) ((threads) == 1 ? 1 : 2 * (threads) + 8)
#define BULK_BATCHES_MAX BULK_BATCHES(BULK_THREADS_MAX)
#define BULK_ROWS 512
#define BULK_BYTES ((size_t)32 * 1024) /* of rows in a batch; one row may be longer */
/* A row with a 1 MiB value as dk1, its quotes doubled, and room beside it. */
#define BULK_ROW_MAX ((size_t)4 * 1024 * 1024)
#define BULK_MESSAGES_MAX 10

struct bulk;

struct bulk_row {
    const uint8_t *p;
    size_t n; /* the line end included */
    int64_t line;
    const char *tenant;
    size_t first_item;
    size_t items;
    bool blank;      /* no row at all: kept and not counted */
    const char *why; /* it is bad, or NULL */
    size_t why_name; /* SIZE_MAX = the row as a whole */
};

struct bulk_place {
    struct cell cell;
    size_t name;
};

struct bulk_message {
    int64_t line;
    size_t name;
    char why[400];
};

struct bulk_counts {
    int64_t bytes, rows, values, nulls, bad;
};

/* Belongs to one thread at a time: reader, worker, writer. */
struct bulk_batch {
    uint64_t number;
    bool done; /* waits to be written; guarded by bulk.order */

    /* read */
    struct dk_buf in;
    struct bulk_row rows[BULK_ROWS];
    size_t row_count;
    bool is_piece; /* `in` is a piece of a row that is too long to be held */
    bool first_piece;
    bool last_piece;
    int64_t line;

    /* worked on */
    struct cell *cells; /* of one row, one for each name of the plan */
    void *scratch;      /* of the format */
    struct dekhand_item *items;
    struct bulk_place *places;
    size_t item_count, item_cap;
    struct pool pool;

    /* to be written */
    struct dk_buf out;
    struct dk_buf rejects;
    struct bulk_message messages[BULK_MESSAGES_MAX + 1];
    struct bulk_counts counts;
    bool refused; /* a bad row that nothing sets aside ends the run here */
    bool failed;
    struct dekhand_error error;
};

struct bulk_format {
    struct bulk_words words;
    const char *long_row;
    bool null_is_empty;  /* in a context or as a tenant */
    size_t growth;       /* a value becomes at most so many times longer as it is written */
    size_t scratch_size; /* of a batch */
    /* Reads what comes before the rows, makes the plan; prints what is wrong. */
    int (*begin)(struct bulk *bulk);
    void (*end)(struct bulk *bulk);
    /* Where the first row ends. False: not within these bytes, and more may come (`last` false). */
    bool (*find)(const uint8_t *p, size_t n, bool last, size_t *size, size_t *lines);
    /* Bytes of a piece that belong to a row too long to be held. */
    size_t (*skip)(struct csv_skip *skip, const uint8_t *p, size_t n, size_t *lines, bool *ended);
    /* Finds the row's cells, or says with bulk_bad() why it is a bad one. */
    void (*read)(const struct bulk *bulk, struct bulk_batch *batch, struct bulk_row *row);
    /* Whether a cell is a value to work on, NULL, or (bulk_bad) neither. */
    void (*check)(struct bulk_batch *batch, struct bulk_row *row, size_t name);
    size_t (*unescape)(const struct cell *cell, uint8_t *out);
    /* Why a decrypted value cannot stand in such a file; NULL: it can. */
    const char *(*refuse)(const uint8_t *p, size_t n);
    /* Writes a value where its cell stood; returns the byte after. */
    uint8_t *(*put)(uint8_t *out, const struct bulk_row *row, const struct cell *cell,
                    const uint8_t *value, size_t n);
};

extern const struct bulk_format bulk_csv, bulk_jsonl;

/* What is read of the input and not yet in a batch. */
struct bulk_input {
    pthread_mutex_t lock; /* guards all of it */
    uint8_t *buffer;
    size_t cap, n, at; /* bytes in it, and how many of them are done with */
    bool ended;
    bool in_long_row;
    struct csv_skip skip;
    int64_t line;
    uint64_t next_number;
};

struct bulk {
    struct cli *cli;
    const struct bulk_format *format;
    bool encrypt;
    bool has_rejects;
    struct bulk_plan plan;
    void *format_state;
    struct dk_buf head; /* what stands before the rows */
    struct bulk_input input;
    atomic_bool stopped;

    pthread_mutex_t order; /* guards what follows, and `done` of each batch */
    pthread_cond_t freed;
    struct bulk_batch *batches[BULK_BATCHES_MAX];
    size_t batch_count;
    struct bulk_batch *idle[BULK_BATCHES_MAX];
    size_t idle_count;
    struct bulk_batch *waiting[BULK_BATCHES_MAX]; /* at their number modulo batch_count */
    uint64_t next_number;
    bool writing; /* a thread is, and what follows is its */

    struct cli_out *out;
    struct dk_new_file rejects;
    struct cli_progress progress;
    struct bulk_counts counts;
    int code;
};

/* ---- bulk_input.c ---------------------------------------------------------------------------- */

/* Whether the run ends early. Asked before each batch and while input is waited for. */
bool bulk_is_stopped(const struct bulk *bulk);
/* Moves what is left to the front and reads more behind it; false: `err` says why. */
DK_MUST_USE bool bulk_fill(struct bulk *bulk, struct dekhand_error *error);
/* The next rows. False: there are none. */
bool bulk_take(struct bulk *bulk, struct bulk_batch *batch);
void bulk_input_clear(struct bulk_input *input);

/* ---- bulk_batch.c ---------------------------------------------------------------------------- */

struct bulk_batch *bulk_batch_new(const struct bulk *bulk);
void bulk_batch_free(struct bulk_batch *batch);
/* For the next rows; large buffers go. */
void bulk_batch_reset(struct bulk_batch *batch);
/* Rows to what is to be written. */
void bulk_work(const struct bulk *bulk, struct bulk_batch *batch);
/* Marks the row; `name` SIZE_MAX = as a whole. */
void bulk_bad(struct bulk_batch *batch, struct bulk_row *row, size_t name, const char *format, ...)
    DK_PRINTF(4, 5);
/* Ends the run where this batch is written. */
void bulk_fail(struct bulk_batch *batch, int code, const char *format, ...) DK_PRINTF(3, 4);

#endif
