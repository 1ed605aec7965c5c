#include "memory/memory_outbox.h"

#include <stdlib.h>

#include "base/container.h"

struct lvt_memory_row {
    struct lvt_memory_row *next;
    struct lvt_arena arena;
    struct lvt_outbox_row row;
};

static void free_row(struct lvt_memory_row *row) {
    lvt_arena_free(&row->arena);
    free(row);
}

bool lvt_memory_rows_add(struct lvt_memory_rows *rows, const struct lvt_outgoing *outgoing) {
    struct lvt_memory_row *row = calloc(1, sizeof *row);
    if (!row)
        return false;
    lvt_arena_init(&row->arena, outgoing->payload.len * 2 + 512);
    row->row.arena = &row->arena;
    if (lvt_outgoing_copy(outgoing, &row->arena, &row->row.outgoing) != LEVERET_OK) {
        free_row(row);
        return false;
    }
    if (rows->last)
        rows->last->next = row;
    else
        rows->first = row;
    rows->last = row;
    return true;
}

void lvt_memory_rows_free(struct lvt_memory_rows *rows) {
    while (rows->first) {
        struct lvt_memory_row *row = rows->first;
        rows->first = row->next;
        free_row(row);
    }
    rows->last = NULL;
}

void lvt_memory_outbox_commit(struct lvt_memory_outbox *outbox, struct lvt_memory_rows *rows) {
    if (!rows->first)
        return;
    if (outbox->committed.last)
        outbox->committed.last->next = rows->first;
    else
        outbox->committed.first = rows->first;
    outbox->committed.last = rows->last;
    *rows = (struct lvt_memory_rows){0};
}

struct lvt_outbox_row *lvt_memory_outbox_take(struct lvt_memory_outbox *outbox) {
    struct lvt_outbox_row *first = NULL, **last = &first;
    if (outbox->out > 0)
        return NULL;
    while (outbox->committed.first) {
        struct lvt_memory_row *row = outbox->committed.first;
        outbox->committed.first = row->next;
        row->row.number = ++outbox->number;
        *last = &row->row;
        last = &row->row.next;
        outbox->out++;
    }
    outbox->committed.last = NULL;
    return first;
}

bool lvt_memory_outbox_pending(const struct lvt_memory_outbox *outbox) {
    return outbox->out == 0 && outbox->committed.first;
}

void lvt_memory_outbox_done(struct lvt_memory_outbox *outbox, struct lvt_outbox_row *row) {
    outbox->out--;
    free_row(LVT_CONTAINER_OF(row, struct lvt_memory_row, row));
}
