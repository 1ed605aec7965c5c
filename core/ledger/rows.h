/* A statement's answer as the ledger's port shows it. Its rows are taken over one by one as they
 * come, so that one that is too large is not in memory whole before anybody notices. */
#ifndef LEVERET_LEDGER_ROWS_H
#define LEVERET_LEDGER_ROWS_H

#include <libpq-fe.h>

#include "base/buffer.h"
#include "engine/ports.h"

#define LVT_ROWS_MAX_BYTES (16u << 20) /* of texts, and as much to find them again */
#define LVT_ROWS_REFUSAL "the answer is larger than 16 MiB: ask for fewer rows (LIMIT) or columns"

struct lvt_row_store {
    size_t row_count;
    struct lvt_buffer text;
    struct lvt_buffer cells;
    const PGresult *last;
};

void lvt_row_store_init(struct lvt_row_store *store);
void lvt_row_store_free(struct lvt_row_store *store);
/* Copies a result of one row of texts. False when that is too much, or out of memory; what is in
 * the store is of no use then. */
bool lvt_row_store_add(struct lvt_row_store *store, const PGresult *row);
/* `last` is what came behind the rows. Valid as long as both. */
void lvt_rows_of(struct lvt_row_store *store, const PGresult *last, struct lvt_rows *ret_rows);

#endif
