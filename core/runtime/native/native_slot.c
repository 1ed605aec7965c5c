/* The events that a plugin has in hand. */
#include <stdlib.h>

#include "runtime/native/native_call.h"

#define SLOTS_PER_BLOCK 32

struct lvt_native_block {
    struct lvt_native_block *next;
    struct lvt_native_slot slots[SLOTS_PER_BLOCK];
};

struct lvt_native_slot *lvt_native_slot_of(struct leveret_event event) {
    struct lvt_native_slot *slot = event.slot;
    return slot && atomic_load(&slot->generation) == event.generation ? slot : NULL;
}

struct leveret_event lvt_native_event_of(const struct lvt_native_slot *slot) {
    return (struct leveret_event){(void *)slot, atomic_load(&slot->generation)};
}

static bool add_block(struct lvt_native *native) {
    struct lvt_native_block *block = calloc(1, sizeof *block);
    if (!block)
        return false;
    block->next = native->blocks;
    native->blocks = block;
    for (size_t i = 0; i < SLOTS_PER_BLOCK; i++) {
        block->slots[i].native = native;
        block->slots[i].next = native->unused;
        native->unused = &block->slots[i];
    }
    return true;
}

static struct leveret_text text_of(struct lvt_bytes bytes) {
    return (struct leveret_text){bytes.data, bytes.len};
}

static void describe(const struct lvt_event *event, struct leveret_event_info *info) {
    const struct lvt_delivery *delivery = event->delivery;
    const struct lvt_properties *properties = &delivery->properties;
    const char *queue = delivery->queue ? delivery->queue->name : "";
    *info = (struct leveret_event_info){
        .size = sizeof *info,
        .type = text_of(event->type),
        .id = text_of(event->id),
        .time = text_of(event->time),
        .payload = text_of(event->payload),
        .body = text_of(delivery->body),
        .exchange = text_of(event->exchange),
        .routing_key = text_of(event->routing_key),
        .queue = leveret_text_of(queue),
        .attempt = event->attempt,
        .priority = (int32_t)event->priority,
        .header_count = properties->headers.count,
    };
}

/* The queue's own name goes with the worker, which a stuck thread outlives. */
static void keep_queue(struct lvt_native_slot *slot) {
    struct leveret_text *queue = &slot->info.queue;
    *queue = text_of(lvt_arena_copy(&slot->delivery->arena, lvt_bytes(queue->data, queue->len)));
}

struct lvt_native_slot *lvt_native_slot_take(struct lvt_native *native, struct lvt_run *run) {
    if (!native->unused && !add_block(native))
        return NULL;
    struct lvt_native_slot *slot = native->unused;
    native->unused = slot->next;
    slot->next = NULL;
    slot->stage = LVT_SLOT_HANDLED;
    slot->run = run;
    slot->delivery = run->event->delivery;
    slot->sqlstate[0] = '\0';
    slot->calling = false;
    slot->worker = NULL;
    lvt_delivery_hold(slot->delivery);
    describe(run->event, &slot->info);
    if (native->blocking)
        keep_queue(slot);
    return slot;
}

void lvt_native_slot_release(struct lvt_native_slot *slot) {
    struct lvt_native *native = slot->native;
    lvt_native_call_free(slot->kept);
    free(slot->reason);
    lvt_delivery_free(slot->delivery);
    slot->kept = NULL;
    slot->reason = NULL;
    slot->delivery = NULL;
    slot->run = NULL;
    slot->stage = LVT_SLOT_FREE;
    slot->next = native->unused;
    native->unused = slot;
}

void lvt_native_slots_free(struct lvt_native *native) {
    while (native->blocks) {
        struct lvt_native_block *block = native->blocks;
        native->blocks = block->next;
        for (size_t i = 0; i < SLOTS_PER_BLOCK; i++)
            if (block->slots[i].stage != LVT_SLOT_FREE)
                lvt_native_slot_release(&block->slots[i]);
        free(block);
    }
    native->unused = NULL;
}
