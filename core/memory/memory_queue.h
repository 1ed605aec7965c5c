/* The memory broker's messages and queues. For core/memory only. */
#ifndef LEVERET_MEMORY_MEMORY_QUEUE_H
#define LEVERET_MEMORY_MEMORY_QUEUE_H

#include "base/timers.h"
#include "memory/memory_broker.h"

struct lvt_message {
    struct lvt_message *prev, *next; /* of the one list that it is on */
    struct lvt_arena arena;          /* holds this struct and its texts */
    struct lvt_memory_broker *broker;
    struct lvt_memory_queue *queue; /* NULL for a dead letter */
    struct lvt_memory_message view;
    struct lvt_timer timer; /* ends a delay */
    bool redelivered;
    bool acked, requeued; /* and not flushed */
    uint64_t tag;
};

struct lvt_message_list {
    struct lvt_message *first, *last;
    size_t count;
};

struct lvt_memory_queue {
    struct lvt_queue *route;
    struct lvt_message_list *ready; /* one for each priority */
    uint32_t max_priority;          /* as it was declared */
    size_t ready_count;
    size_t unacked;
};

/* NULL when out of memory. */
struct lvt_message *lvt_message_new(const struct lvt_memory_message *like);
void lvt_message_free(struct lvt_message *message);
/* A delivery of it, without epoch and tag; NULL when out of memory. */
struct lvt_delivery *lvt_message_deliver(const struct lvt_message *message);
size_t lvt_message_size(const struct lvt_message *message);

void lvt_message_append(struct lvt_message_list *list, struct lvt_message *message);
void lvt_message_unlink(struct lvt_message_list *list, struct lvt_message *message);
void lvt_message_list_free(struct lvt_message_list *list);

bool lvt_memory_queue_init(struct lvt_memory_queue *queue, struct lvt_queue *route);
void lvt_memory_queue_free(struct lvt_memory_queue *queue);
/* front: where it was before it was delivered. */
void lvt_memory_queue_put(struct lvt_memory_queue *queue, struct lvt_message *message, bool front);
/* The next in turn; NULL when there is none, or when the window is full. Stays in the queue. */
struct lvt_message *lvt_memory_queue_next(const struct lvt_memory_queue *queue);
void lvt_memory_queue_take(struct lvt_memory_queue *queue, struct lvt_message *message);
bool lvt_memory_queue_binds(const struct lvt_memory_queue *queue, struct lvt_bytes exchange,
                            struct lvt_bytes routing_key);

#endif
