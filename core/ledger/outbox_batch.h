/* Rows of the outbox that have been read, and what is to be marked of them. */
#ifndef LEVERET_LEDGER_OUTBOX_BATCH_H
#define LEVERET_LEDGER_OUTBOX_BATCH_H

#include <libpq-fe.h>

#include "engine/ports.h"
#include "ledger/pg_array.h"

/* Rows with one result. */
struct lvt_outbox_list {
    struct lvt_pg_array ids, reasons;
    int64_t first; /* and why, for the log */
    char first_reason[200];
};

struct lvt_outbox_marks {
    struct lvt_outbox_list sent, later, wrong;
};

void lvt_outbox_marks_init(struct lvt_outbox_marks *marks);
void lvt_outbox_marks_free(struct lvt_outbox_marks *marks);
void lvt_outbox_marks_clear(struct lvt_outbox_marks *marks);
uint32_t lvt_outbox_marks_count(const struct lvt_outbox_marks *marks);

struct lvt_outbox_batch;

/* Of the columns id, event, payload, event_id, key, exchange, queue, delay_ms, ttl_ms, priority,
 * max_attempts, headers and whole, as text; payload and headers are NULL where they are too long.
 * Takes the result over in any case. NULL when out of memory. */
struct lvt_outbox_batch *lvt_outbox_batch_new(PGresult *result);
/* Rows that were handed out are not used any more. NULL is fine. */
void lvt_outbox_batch_free(struct lvt_outbox_batch *batch);

/* Hands all rows out, once, in their order. One that makes no sense is marked as wrong instead. */
struct lvt_outbox_row *lvt_outbox_batch_rows(struct lvt_outbox_batch *batch,
                                             struct lvt_outbox_marks *marks);
/* Takes a row back, and notes its result. */
void lvt_outbox_batch_close(struct lvt_outbox_batch *batch, const struct lvt_outbox_row *row,
                            struct lvt_outbox_marks *marks);
/* How many are out. */
size_t lvt_outbox_batch_open(const struct lvt_outbox_batch *batch);

#endif
