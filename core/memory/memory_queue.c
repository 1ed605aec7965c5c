#include "memory/memory_queue.h"

#include <stdlib.h>

#include "memory/memory_copy.h"

/* Room in an arena's first block for the structs and the usual headers. */
#define ARENA_EXTRA 1024

/* ---- messages ---- */

static bool copy_view(struct lvt_arena *arena, const struct lvt_memory_message *from,
                      struct lvt_memory_message *to) {
    to->queue = lvt_arena_copy(arena, from->queue);
    to->exchange = lvt_arena_copy(arena, from->exchange);
    to->routing_key = lvt_arena_copy(arena, from->routing_key);
    to->body = lvt_arena_copy(arena, from->body);
    return to->queue.data && to->exchange.data && to->routing_key.data && to->body.data &&
           lvt_memory_copy_properties(arena, &from->properties, &to->properties) == LEVERET_OK;
}

struct lvt_message *lvt_message_new(const struct lvt_memory_message *like) {
    struct lvt_arena arena;
    lvt_arena_init(&arena, like->body.len + sizeof(struct lvt_message) + ARENA_EXTRA);
    struct lvt_message *message = lvt_arena_zalloc(&arena, sizeof *message);
    if (!message || !copy_view(&arena, like, &message->view)) {
        lvt_arena_free(&arena);
        return NULL;
    }
    message->arena = arena;
    return message;
}

void lvt_message_free(struct lvt_message *message) {
    if (!message)
        return;
    struct lvt_arena arena = message->arena; /* which holds the message itself */
    lvt_arena_free(&arena);
}

struct lvt_delivery *lvt_message_deliver(const struct lvt_message *message) {
    struct lvt_memory_message copy;
    struct lvt_delivery *delivery = lvt_delivery_new(message->view.body.len + ARENA_EXTRA);
    if (!delivery)
        return NULL;
    if (!copy_view(&delivery->arena, &message->view, &copy)) {
        lvt_delivery_free(delivery);
        return NULL;
    }
    delivery->queue = message->queue->route;
    delivery->redelivered = message->redelivered;
    delivery->exchange = copy.exchange;
    delivery->routing_key = copy.routing_key;
    delivery->properties = copy.properties;
    delivery->body = copy.body;
    return delivery;
}

size_t lvt_message_size(const struct lvt_message *message) {
    return message->view.body.len + sizeof *message + ARENA_EXTRA;
}

/* ---- lists ---- */

void lvt_message_append(struct lvt_message_list *list, struct lvt_message *message) {
    message->prev = list->last;
    message->next = NULL;
    if (list->last)
        list->last->next = message;
    else
        list->first = message;
    list->last = message;
    list->count++;
}

static void prepend(struct lvt_message_list *list, struct lvt_message *message) {
    message->prev = NULL;
    message->next = list->first;
    if (list->first)
        list->first->prev = message;
    else
        list->last = message;
    list->first = message;
    list->count++;
}

void lvt_message_unlink(struct lvt_message_list *list, struct lvt_message *message) {
    if (message->prev)
        message->prev->next = message->next;
    else
        list->first = message->next;
    if (message->next)
        message->next->prev = message->prev;
    else
        list->last = message->prev;
    list->count--;
}

void lvt_message_list_free(struct lvt_message_list *list) {
    while (list->first) {
        struct lvt_message *message = list->first;
        lvt_message_unlink(list, message);
        lvt_message_free(message);
    }
}

/* ---- queues ---- */

bool lvt_memory_queue_init(struct lvt_memory_queue *queue, struct lvt_queue *route) {
    *queue = (struct lvt_memory_queue){.route = route, .max_priority = route->max_priority};
    queue->ready = calloc((size_t)route->max_priority + 1, sizeof *queue->ready);
    return queue->ready != NULL;
}

void lvt_memory_queue_free(struct lvt_memory_queue *queue) {
    for (size_t i = 0; queue->ready && i <= queue->max_priority; i++)
        lvt_message_list_free(&queue->ready[i]);
    free(queue->ready);
}

static struct lvt_message_list *list_for(const struct lvt_memory_queue *queue,
                                         const struct lvt_message *message) {
    const struct lvt_properties *properties = &message->view.properties;
    uint32_t priority = properties->present & LVT_HAS_PRIORITY ? properties->priority : 0;
    if (priority > queue->max_priority)
        priority = queue->max_priority;
    return &queue->ready[priority];
}

void lvt_memory_queue_put(struct lvt_memory_queue *queue, struct lvt_message *message, bool front) {
    message->queue = queue;
    queue->ready_count++;
    if (front)
        prepend(list_for(queue, message), message);
    else
        lvt_message_append(list_for(queue, message), message);
}

struct lvt_message *lvt_memory_queue_next(const struct lvt_memory_queue *queue) {
    if (queue->ready_count == 0 || queue->route->handler_count == 0 ||
        queue->unacked >= queue->route->prefetch)
        return NULL;
    size_t priority = queue->max_priority;
    while (!queue->ready[priority].first)
        priority--;
    return queue->ready[priority].first;
}

void lvt_memory_queue_take(struct lvt_memory_queue *queue, struct lvt_message *message) {
    lvt_message_unlink(list_for(queue, message), message);
    queue->ready_count--;
}

bool lvt_memory_queue_binds(const struct lvt_memory_queue *queue, struct lvt_bytes exchange,
                            struct lvt_bytes routing_key) {
    const struct lvt_queue *route = queue->route;
    if (exchange.len == 0)
        return lvt_bytes_is(routing_key, route->name);
    if (!lvt_bytes_is(exchange, route->exchange))
        return false;
    for (size_t i = 0; i < route->bind.count; i++)
        if (lvt_pattern_matches(route->bind.items[i], routing_key))
            return true;
    return false;
}
