/* The memory ledger's outbox: events wait for their transaction's commit, and then for the engine.
 * For core/memory only. */
#ifndef LEVERET_MEMORY_MEMORY_OUTBOX_H
#define LEVERET_MEMORY_MEMORY_OUTBOX_H

#include "engine/ports.h"

struct lvt_memory_row;

struct lvt_memory_rows {
    struct lvt_memory_row *first, *last;
};

struct lvt_memory_outbox {
    struct lvt_memory_rows committed;
    size_t out; /* rows that the engine has */
    int64_t number;
};

/* False when out of memory. */
bool lvt_memory_rows_add(struct lvt_memory_rows *rows, const struct lvt_outgoing *outgoing);
void lvt_memory_rows_free(struct lvt_memory_rows *rows);

/* Takes the rows of a transaction over. */
void lvt_memory_outbox_commit(struct lvt_memory_outbox *outbox, struct lvt_memory_rows *rows);
/* What the engine is to be given now: nothing while it has some. */
struct lvt_outbox_row *lvt_memory_outbox_take(struct lvt_memory_outbox *outbox);
bool lvt_memory_outbox_pending(const struct lvt_memory_outbox *outbox);
/* Frees the row; one that was not tried, or not taken, is lost: the engine has told the log. */
void lvt_memory_outbox_done(struct lvt_memory_outbox *outbox, struct lvt_outbox_row *row);

#endif
