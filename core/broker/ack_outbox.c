#include "broker/ack_outbox.h"

#include <stdlib.h>
#include <string.h>

#define FIRST_SIZE 64

void lvt_ack_outbox_init(struct lvt_ack_outbox *outbox) {
    *outbox = (struct lvt_ack_outbox){0};
    pthread_mutex_init(&outbox->mutex, NULL);
}

void lvt_ack_outbox_free(struct lvt_ack_outbox *outbox) {
    free(outbox->batch.items);
    free(outbox->flushed.items);
    free(outbox->taken.items);
    pthread_mutex_destroy(&outbox->mutex);
}

static bool reserve(struct lvt_ack_list *list, size_t more) {
    if (list->size - list->count >= more) {
        return true;
    }
    size_t size = list->size ? list->size : FIRST_SIZE;
    while (size - list->count < more) {
        size *= 2;
    }
    struct lvt_ack *items = realloc(list->items, size * sizeof *items);
    if (!items) {
        return false;
    }
    list->items = items;
    list->size = size;
    return true;
}

static void swap(struct lvt_ack_list *a, struct lvt_ack_list *b) {
    struct lvt_ack_list old = *a;
    *a = *b;
    *b = old;
}

void lvt_ack_outbox_add(struct lvt_ack_outbox *outbox, struct lvt_ack ack) {
    if (reserve(&outbox->batch, 1)) {
        outbox->batch.items[outbox->batch.count++] = ack;
    } else {
        outbox->batch_lost = true;
    }
}

bool lvt_ack_outbox_flush(struct lvt_ack_outbox *outbox) {
    struct lvt_ack_list *batch = &outbox->batch, *flushed = &outbox->flushed;
    if (batch->count == 0 && !outbox->batch_lost) {
        return false;
    }
    pthread_mutex_lock(&outbox->mutex);
    bool wake = flushed->count == 0 && !outbox->lost;
    if (flushed->count == 0) {
        swap(batch, flushed);
    } else if (reserve(flushed, batch->count)) {
        memcpy(flushed->items + flushed->count, batch->items, batch->count * sizeof *batch->items);
        flushed->count += batch->count;
    } else {
        outbox->batch_lost = true;
    }
    outbox->lost |= outbox->batch_lost;
    pthread_mutex_unlock(&outbox->mutex);
    batch->count = 0;
    outbox->batch_lost = false;
    return wake;
}

bool lvt_ack_outbox_take(struct lvt_ack_outbox *outbox, const struct lvt_ack_list **ret) {
    outbox->taken.count = 0;
    pthread_mutex_lock(&outbox->mutex);
    swap(&outbox->taken, &outbox->flushed);
    bool lost = outbox->lost;
    outbox->lost = false;
    pthread_mutex_unlock(&outbox->mutex);
    *ret = &outbox->taken;
    return !lost;
}
