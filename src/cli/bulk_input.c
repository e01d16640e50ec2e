/* Standard input to batches of whole rows, in order; one thread at a time. */
#include <errno.h>
#include <openssl/crypto.h>
#include <poll.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

#include "cli/bulk.h"

#define BUFFER_MIN ((size_t)512 * 1024)
#define LOOK_UP_MS 100

bool bulk_is_stopped(const struct bulk *bulk)
{
    return atomic_load_explicit(&bulk->stopped, memory_order_relaxed) || cli_interrupted();
}

static bool fail(struct dekhand_error *error, enum dekhand_code code, const char *format, ...)
    DK_PRINTF(3, 4);

static bool fail(struct dekhand_error *error, enum dekhand_code code, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    *error = (struct dekhand_error){.code = (int)code};
    vsnprintf(error->text, sizeof error->text, format, args);
    va_end(args);
    return false;
}

static bool grow(struct bulk_input *in, struct dekhand_error *error)
{
    size_t cap = in->cap == 0 ? BUFFER_MIN : in->cap * 2;
    uint8_t *p = malloc(cap);
    if (p == NULL) {
        return fail(error, DEKHAND_E_NOMEM, "no memory for a row of more than %zu bytes", in->cap);
    }
    if (in->buffer != NULL) {
        memcpy(p, in->buffer, in->n);
        OPENSSL_cleanse(in->buffer, in->n);
        free(in->buffer);
    }
    in->buffer = p;
    in->cap = cap;
    return true;
}

void bulk_input_clear(struct bulk_input *in)
{
    if (in->buffer != NULL) {
        OPENSSL_cleanse(in->buffer, in->cap);
        free(in->buffer);
    }
    in->buffer = NULL;
}

/* Another thread, or a signal, may end the run while nobody writes to our standard input. */
static bool wait_for_input(const struct bulk *bulk)
{
    struct pollfd fd = {.fd = STDIN_FILENO, .events = POLLIN};
    while (!bulk_is_stopped(bulk)) {
        int n = poll(&fd, 1, LOOK_UP_MS);
        if (n > 0 || (n < 0 && errno != EINTR)) {
            return true; /* read() will say what is wrong */
        }
    }
    return false;
}

bool bulk_fill(struct bulk *bulk, struct dekhand_error *error)
{
    struct bulk_input *in = &bulk->input;
    if (in->at > 0) {
        memmove(in->buffer, in->buffer + in->at, in->n - in->at);
        in->n -= in->at;
        in->at = 0;
    }
    if (in->n == in->cap && !grow(in, error)) {
        return false;
    }
    while (!in->ended && in->n < in->cap && wait_for_input(bulk)) {
        ssize_t got = read(STDIN_FILENO, in->buffer + in->n, in->cap - in->n);
        if (got < 0 && (errno == EINTR || errno == EAGAIN)) {
            continue;
        }
        if (got < 0) {
            return fail(error, DEKHAND_E_IO, "standard input cannot be read: %s", strerror(errno));
        }
        in->ended = got == 0;
        in->n += (size_t)got;
    }
    return true;
}

/* ---- batches --------------------------------------------------------------------------------- */

/* Copies the bytes that the batch is about, and is done with them. */
static bool take_bytes(struct bulk_input *in, struct bulk_batch *batch, size_t n)
{
    struct dk_err err;
    dk_err_clear(&err);
    if (dk_buf_add(&batch->in, in->buffer + in->at, n, &err) != DK_OK) {
        bulk_fail(batch, err.rc, "%s", err.text);
        return false;
    }
    in->at += n;
    return true;
}

static void take_rows(struct bulk *bulk, struct bulk_batch *batch)
{
    struct bulk_input *in = &bulk->input;
    size_t n = 0, size = 0, lines = 0;
    int64_t line = in->line;
    while (
        batch->row_count < BULK_ROWS && n < BULK_BYTES && in->at + n < in->n &&
        bulk->format->find(in->buffer + in->at + n, in->n - in->at - n, in->ended, &size, &lines)) {
        batch->rows[batch->row_count++] = (struct bulk_row){.n = size, .line = line};
        line += (int64_t)lines;
        n += size;
    }
    if (!take_bytes(in, batch, n)) {
        return;
    }
    const uint8_t *p = batch->in.p;
    for (size_t i = 0; i < batch->row_count; i++) {
        batch->rows[i].p = p;
        p += batch->rows[i].n;
    }
    in->line = line;
}

/* A row that does not fit into memory is handed on in pieces. */
static void take_piece(struct bulk *bulk, struct bulk_batch *batch)
{
    struct bulk_input *in = &bulk->input;
    size_t lines = 0, most = in->n - in->at < BULK_BYTES ? in->n - in->at : BULK_BYTES;
    bool row_ended = false;
    batch->is_piece = true;
    batch->first_piece = !in->in_long_row;
    batch->line = in->line;
    if (!in->in_long_row) {
        in->skip = (struct csv_skip){.at_start = true};
    }
    size_t n = bulk->format->skip(&in->skip, in->buffer + in->at, most, &lines, &row_ended);
    if (take_bytes(in, batch, n)) {
        in->line += (int64_t)lines;
        batch->last_piece = row_ended || (in->ended && in->at == in->n);
        in->in_long_row = !batch->last_piece;
    }
}

/* Fills the batch; leaves it as it is where nothing more comes. */
static void gather(struct bulk *bulk, struct bulk_batch *batch)
{
    struct bulk_input *in = &bulk->input;
    while (!bulk_is_stopped(bulk)) {
        bool some = in->at < in->n;
        if (some && !in->in_long_row) {
            take_rows(bulk, batch);
        }
        if (some && batch->row_count == 0 && !batch->failed &&
            (in->in_long_row || in->n - in->at >= BULK_ROW_MAX)) {
            take_piece(bulk, batch);
        }
        if (batch->row_count > 0 || batch->is_piece || batch->failed ||
            (in->ended && in->at == in->n)) {
            return;
        }
        if (!bulk_fill(bulk, &batch->error)) {
            batch->failed = true;
        }
    }
}

bool bulk_take(struct bulk *bulk, struct bulk_batch *batch)
{
    pthread_mutex_lock(&bulk->input.lock);
    gather(bulk, batch);
    bool some = batch->row_count > 0 || batch->is_piece || batch->failed;
    if (some) {
        batch->number = bulk->input.next_number++;
    }
    pthread_mutex_unlock(&bulk->input.lock);
    return some;
}
