/* One batch: its rows to items, the items through the library, the rows to what is written. */
#include <openssl/crypto.h>
#include <stdarg.h>
#include <stdlib.h>

#include "base/tenant.h"
#include "cli/bulk.h"

#define KEEP_BYTES ((size_t)512 * 1024) /* a larger buffer is given back after its batch */
#define BUFFER_MAX ((size_t)1 << 30)

/* ---- the batch ------------------------------------------------------------------------------- */

struct bulk_batch *bulk_batch_new(const struct bulk *bulk)
{
    struct bulk_batch *batch = calloc(1, sizeof *batch);
    if (batch == NULL) {
        return NULL;
    }
    dk_buf_init(&batch->in, &dk_mem_default, BUFFER_MAX);
    dk_buf_init(&batch->out, &dk_mem_default, BUFFER_MAX);
    dk_buf_init(&batch->rejects, &dk_mem_default, BUFFER_MAX);
    batch->cells = calloc(bulk->plan.name_count + 1, sizeof *batch->cells);
    batch->scratch = calloc(1, bulk->format->scratch_size + 1);
    if (batch->cells == NULL || batch->scratch == NULL) {
        bulk_batch_free(batch);
        return NULL;
    }
    return batch;
}

void bulk_batch_free(struct bulk_batch *batch)
{
    if (batch == NULL) {
        return;
    }
    dk_buf_wipe(&batch->in);
    dk_buf_wipe(&batch->out);
    dk_buf_wipe(&batch->rejects);
    pool_free(&batch->pool);
    free(batch->cells);
    free(batch->scratch);
    free(batch->items);
    free(batch->places);
    free(batch);
}

/* A large buffer has held this batch alone: no more than `n` of it was ever touched. */
static void reset_buf(struct dk_buf *buf)
{
    if (buf->cap > KEEP_BYTES) {
        OPENSSL_cleanse(buf->p, buf->n);
        dk_buf_clear(buf);
    }
    buf->n = 0;
}

void bulk_batch_reset(struct bulk_batch *batch)
{
    reset_buf(&batch->in);
    reset_buf(&batch->out);
    reset_buf(&batch->rejects);
    pool_reset(&batch->pool);
    batch->done = batch->is_piece = batch->first_piece = batch->last_piece = false;
    batch->refused = batch->failed = false;
    batch->row_count = batch->item_count = 0;
    batch->counts = (struct bulk_counts){0};
}

void bulk_fail(struct bulk_batch *batch, int code, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    batch->failed = true;
    batch->error = (struct dekhand_error){.code = code};
    vsnprintf(batch->error.text, sizeof batch->error.text, format, args);
    va_end(args);
}

static void no_memory(struct bulk_batch *batch)
{
    bulk_fail(batch, DEKHAND_E_NOMEM, "no memory for a batch of rows");
}

void bulk_bad(struct bulk_batch *batch, struct bulk_row *row, size_t name, const char *format, ...)
{
    char why[sizeof batch->messages[0].why];
    va_list args;
    va_start(args, format);
    vsnprintf(why, sizeof why, format, args);
    va_end(args);
    char *kept = pool_take(&batch->pool, strlen(why) + 1);
    if (kept == NULL) {
        no_memory(batch);
        return;
    }
    row->why = strcpy(kept, why);
    row->why_name = name;
}

/* ---- one row to items ------------------------------------------------------------------------ */

static bool is_sound(const struct bulk_batch *batch, const struct bulk_row *row)
{
    return row->why == NULL && !batch->failed;
}

/* A cell's value as a C string in the pool, for a tenant or a context; NULL: the row is bad. */
static const char *cell_text(const struct bulk *bulk, struct bulk_batch *batch,
                             struct bulk_row *row, size_t name, const char *what)
{
    const struct cell *cell = &batch->cells[name];
    bool null = cell->kind == CELL_NULL && !bulk->format->null_is_empty;
    if (null || cell->kind == CELL_MISSING || cell->kind == CELL_OTHER) {
        bulk_bad(batch, row, name, "a %s is wanted here: a string or a number", what);
        return NULL;
    }
    char *text = pool_take(&batch->pool, cell->n + 1);
    if (text == NULL) {
        no_memory(batch);
        return NULL;
    }
    size_t n = bulk->format->unescape(cell, (uint8_t *)text);
    if (memchr(text, '\0', n) != NULL) {
        bulk_bad(batch, row, name, "the %s holds a NUL byte", what);
        return NULL;
    }
    text[n] = '\0';
    return text;
}

static void find_tenant(const struct bulk *bulk, struct bulk_batch *batch, struct bulk_row *row)
{
    struct dk_tenant tenant;
    struct dk_err err;
    dk_err_clear(&err);
    if (bulk->plan.tenant_name == SIZE_MAX) {
        row->tenant = bulk->plan.tenant;
        return;
    }
    row->tenant = cell_text(bulk, batch, row, bulk->plan.tenant_name, "tenant id");
    if (row->tenant != NULL && dk_tenant_parse(dk_view_str(row->tenant), &tenant, &err) != DK_OK) {
        bulk_bad(batch, row, bulk->plan.tenant_name, "%s", err.text);
    }
}

/* A template with the row's cells in it; NULL: the row is bad. */
static const char *fill_template(const struct bulk *bulk, struct bulk_batch *batch,
                                 struct bulk_row *row, const struct bulk_template *template)
{
    char *out = pool_take(&batch->pool, BULK_CONTEXT_VALUE + 1);
    size_t n = 0;
    for (size_t i = 0; out != NULL && i < template->count; i++) {
        const struct bulk_part *part = &template->parts[i];
        const char *text = part->text;
        size_t len = part->n;
        if (part->name != SIZE_MAX) {
            text = cell_text(bulk, batch, row, part->name, "context value");
            len = text != NULL ? strlen(text) : 0;
        }
        if (text == NULL) {
            return NULL;
        }
        if (len > BULK_CONTEXT_VALUE - n) {
            bulk_bad(batch, row, part->name, "a context value is longer than %d bytes",
                     BULK_CONTEXT_VALUE);
            return NULL;
        }
        memcpy(out + n, text, len);
        n += len;
    }
    if (out == NULL) {
        no_memory(batch);
        return NULL;
    }
    out[n] = '\0';
    return out;
}

/* The row's context: the fixed pairs, or each with its {names} filled in. */
static const struct dekhand_pair *row_context(const struct bulk *bulk, struct bulk_batch *batch,
                                              struct bulk_row *row)
{
    const struct bulk_plan *plan = &bulk->plan;
    if (!plan->context_varies) {
        return plan->context.pairs;
    }
    struct dekhand_pair *pairs = pool_take(&batch->pool, plan->context.count * sizeof *pairs);
    if (pairs == NULL) {
        no_memory(batch);
        return NULL;
    }
    for (size_t i = 0; i < plan->context.count && is_sound(batch, row); i++) {
        pairs[i] = plan->context.pairs[i];
        if (plan->templates[i].parts != NULL) {
            pairs[i].value = fill_template(bulk, batch, row, &plan->templates[i]);
        }
    }
    return pairs;
}

/* Room for the items of one more row. */
static bool reserve_items(struct bulk_batch *batch, size_t more)
{
    size_t cap = batch->item_cap == 0 ? 256 : batch->item_cap;
    if (batch->item_cap - batch->item_count >= more) {
        return true;
    }
    while (cap - batch->item_count < more) {
        cap *= 2;
    }
    struct dekhand_item *items = realloc(batch->items, cap * sizeof *items);
    batch->items = items != NULL ? items : batch->items;
    struct bulk_place *places = realloc(batch->places, cap * sizeof *places);
    batch->places = places != NULL ? places : batch->places;
    if (items == NULL || places == NULL) {
        no_memory(batch);
        return false;
    }
    batch->item_cap = cap;
    return true;
}

static void add_item(const struct bulk *bulk, struct bulk_batch *batch, struct bulk_row *row,
                     const struct bulk_place *place, const struct dekhand_pair *context)
{
    const struct cell *cell = &place->cell;
    struct dekhand_item *item = &batch->items[batch->item_count];
    *item = (struct dekhand_item){.tenant = row->tenant,
                                  .context = context,
                                  .context_count = bulk->plan.context.count,
                                  .format = DEKHAND_TEXT,
                                  .in = cell->p,
                                  .in_size = cell->n};
    if (cell->escaped) {
        uint8_t *plain = pool_take(&batch->pool, cell->n);
        if (plain == NULL) {
            no_memory(batch);
            return;
        }
        item->in_size = bulk->format->unescape(cell, plain);
        item->in = plain;
    }
    if (bulk->encrypt) {
        item->capacity = dekhand_encrypted_size(DEKHAND_TEXT, 0, item->in_size);
    } else if (dekhand_decrypted_size(item->in, item->in_size, &item->capacity, NULL) != 0) {
        item->capacity = 0; /* the call will say that it is no value */
    }
    item->out = pool_take(&batch->pool, item->capacity + 1);
    if (item->out == NULL) {
        no_memory(batch);
        return;
    }
    batch->item_count++;
    row->items++;
}

/* Puts the row's places in the order in which they stand in it. */
static void insert_place(struct bulk_place *places, size_t n, struct bulk_place place)
{
    while (n > 0 && places[n - 1].cell.p > place.cell.p) {
        places[n] = places[n - 1];
        n--;
    }
    places[n] = place;
}

static void add_items(const struct bulk *bulk, struct bulk_batch *batch, struct bulk_row *row)
{
    const struct bulk_plan *plan = &bulk->plan;
    struct bulk_place *places = batch->places + batch->item_count;
    size_t n = 0;
    const struct dekhand_pair *context = row_context(bulk, batch, row);
    for (size_t i = 0; i < plan->chosen_count && is_sound(batch, row); i++) {
        size_t name = plan->chosen[i];
        const struct cell *cell = &batch->cells[name];
        if (cell->kind == CELL_NULL) {
            batch->counts.nulls++;
        } else if (cell->kind != CELL_MISSING) {
            bulk->format->check(batch, row, name);
            insert_place(places, n++, (struct bulk_place){*cell, name});
        }
    }
    for (size_t i = 0; i < n && is_sound(batch, row); i++) {
        add_item(bulk, batch, row, &places[i], context);
    }
}

static void read_row(const struct bulk *bulk, struct bulk_batch *batch, struct bulk_row *row)
{
    row->first_item = batch->item_count;
    if (!reserve_items(batch, bulk->plan.chosen_count)) {
        return;
    }
    bulk->format->read(bulk, batch, row);
    if (!row->blank && is_sound(batch, row)) {
        find_tenant(bulk, batch, row);
    }
    if (!row->blank && is_sound(batch, row)) {
        add_items(bulk, batch, row);
    }
}

/* ---- through the library --------------------------------------------------------------------- */

/* Faults of a value or its row; all others end the run. */
static bool is_row_fault(int code)
{
    return code == DEKHAND_E_USAGE || code == DEKHAND_E_LIMIT || code == DEKHAND_E_FORMAT ||
           code == DEKHAND_E_AUTH || code == DEKHAND_E_WRONG_KEY ||
           code == DEKHAND_E_UNKNOWN_VERSION || code == DEKHAND_E_DISABLED ||
           code == DEKHAND_E_PURGED;
}

/* Items carry their own codes; a call that fails without any of them did no work at all. */
static void run_items(const struct bulk *bulk, struct bulk_batch *batch)
{
    struct dekhand_error error;
    int rc =
        bulk->encrypt
            ? dekhand_encrypt_batch(bulk->cli->library, batch->items, batch->item_count, &error)
            : dekhand_decrypt_batch(bulk->cli->library, batch->items, batch->item_count, &error);
    for (size_t i = 0; i < batch->item_count; i++) {
        if (rc == DEKHAND_OK || batch->items[i].code != DEKHAND_OK) {
            return;
        }
    }
    if (rc != DEKHAND_OK) {
        batch->failed = true;
        batch->error = error;
    }
}

static void judge_item(const struct bulk *bulk, struct bulk_batch *batch, struct bulk_row *row,
                       size_t i)
{
    struct dekhand_item *item = &batch->items[i];
    struct dekhand_error error;
    if (item->code != DEKHAND_OK) {
        /* The batch keeps one text only: this item again, for its own. */
        int rc = bulk->encrypt ? dekhand_encrypt(bulk->cli->library, item, &error)
                               : dekhand_decrypt(bulk->cli->library, item, &error);
        if (rc != DEKHAND_OK && !is_row_fault(rc)) {
            batch->failed = true;
            batch->error = error;
            return;
        }
        if (rc != DEKHAND_OK) {
            bulk_bad(batch, row, batch->places[i].name, "%s: %.350s",
                     dk_error_info((dk_rc)rc)->outward, cli_error_text(&error));
            return;
        }
    }
    const char *why = bulk->encrypt ? NULL : bulk->format->refuse(item->out, item->size);
    if (why != NULL) {
        bulk_bad(batch, row, batch->places[i].name, "%s", why);
    }
}

/* ---- what is written ------------------------------------------------------------------------- */

/* Room for n bytes at the end; NULL: there is no memory. */
static uint8_t *reserve(struct bulk_batch *batch, struct dk_buf *buf, size_t n)
{
    struct dk_err err;
    dk_err_clear(&err);
    if (dk_buf_reserve(buf, n, &err) != DK_OK) {
        bulk_fail(batch, err.rc, "%s", err.text);
        return NULL;
    }
    return buf->p + buf->n;
}

static void put_raw(struct bulk_batch *batch, struct dk_buf *buf, const uint8_t *p, size_t n)
{
    uint8_t *to = reserve(batch, buf, n);
    if (to != NULL) {
        memcpy(to, p, n);
        buf->n += n;
    }
}

static void add_message(struct bulk_batch *batch, int64_t line, size_t name, const char *why)
{
    int64_t n = batch->counts.bad++;
    if (n <= BULK_MESSAGES_MAX) {
        struct bulk_message *message = &batch->messages[n];
        message->line = line;
        message->name = name;
        snprintf(message->why, sizeof message->why, "%s", why);
    }
}

/* Encrypt: to the rejects, or the end. Decrypt: the row stays as it is. */
static void put_bad(const struct bulk *bulk, struct bulk_batch *batch, const uint8_t *p, size_t n)
{
    if (!bulk->encrypt) {
        put_raw(batch, &batch->out, p, n);
    } else if (bulk->has_rejects) {
        put_raw(batch, &batch->rejects, p, n);
    } else {
        batch->refused = true;
    }
}

static void put_row(const struct bulk *bulk, struct bulk_batch *batch, const struct bulk_row *row)
{
    size_t most = row->n;
    for (size_t i = 0; i < row->items; i++) {
        most += batch->items[row->first_item + i].size * bulk->format->growth + 2;
    }
    uint8_t *to = reserve(batch, &batch->out, most);
    if (to == NULL) {
        return;
    }
    const uint8_t *from = row->p;
    for (size_t i = row->first_item; i < row->first_item + row->items; i++) {
        const struct cell *cell = &batch->places[i].cell;
        const struct dekhand_item *item = &batch->items[i];
        to = dk_put_bytes(to, from, (size_t)(cell->p - from));
        to = bulk->encrypt ? dk_put_bytes(to, item->out, item->size)
                           : bulk->format->put(to, row, cell, item->out, item->size);
        from = cell->p + cell->n;
    }
    to = dk_put_bytes(to, from, (size_t)(row->p + row->n - from));
    batch->out.n = (size_t)(to - batch->out.p);
    batch->counts.values += (int64_t)row->items;
}

static void finish_row(const struct bulk *bulk, struct bulk_batch *batch, struct bulk_row *row)
{
    for (size_t i = 0; i < row->items && is_sound(batch, row); i++) {
        judge_item(bulk, batch, row, row->first_item + i);
    }
    if (batch->failed) {
        return;
    }
    if (row->why != NULL) {
        add_message(batch, row->line, row->why_name, row->why);
        put_bad(bulk, batch, row->p, row->n);
    } else {
        put_row(bulk, batch, row);
    }
    batch->counts.rows += !row->blank;
    batch->counts.bytes += (int64_t)row->n;
}

static void work_on_piece(const struct bulk *bulk, struct bulk_batch *batch)
{
    if (batch->first_piece) {
        add_message(batch, batch->line, SIZE_MAX, bulk->format->long_row);
    }
    put_bad(bulk, batch, batch->in.p, batch->in.n);
    batch->counts.rows += batch->last_piece;
    batch->counts.bytes += (int64_t)batch->in.n;
}

static void work_on_rows(const struct bulk *bulk, struct bulk_batch *batch)
{
    for (size_t i = 0; i < batch->row_count && !batch->failed; i++) {
        read_row(bulk, batch, &batch->rows[i]);
    }
    if (batch->item_count > 0 && !batch->failed) {
        run_items(bulk, batch);
    }
    for (size_t i = 0; i < batch->row_count && !batch->failed && !batch->refused; i++) {
        finish_row(bulk, batch, &batch->rows[i]);
    }
}

/* What is written needs neither the rows nor what was made of them: it may wait for its turn. */
void bulk_work(const struct bulk *bulk, struct bulk_batch *batch)
{
    if (batch->is_piece && !batch->failed) {
        work_on_piece(bulk, batch);
    } else {
        work_on_rows(bulk, batch);
    }
    reset_buf(&batch->in);
    pool_reset(&batch->pool);
}
