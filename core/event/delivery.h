/* A message as the broker delivered it, whole or too big to keep. */
#ifndef LEVERET_EVENT_DELIVERY_H
#define LEVERET_EVENT_DELIVERY_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "event/headers.h"

struct lvt_queue;

struct lvt_delivery {
    struct lvt_delivery *next;
    struct lvt_arena arena; /* holds this struct's texts and the event made of it */
    struct lvt_queue *queue;
    uint64_t epoch; /* of the channel that delivered it: a tag means nothing on another */
    uint64_t tag;
    bool redelivered;
    struct lvt_bytes exchange, routing_key; /* as this message came, which may be from the ladder */
    struct lvt_properties properties;
    struct lvt_bytes body;
    bool settled;      /* an answer for it has gone to the broker */
    atomic_uint holds; /* beside the owner's */
};

/* One block of memory for all of it: `hint` is the room that its texts and body will want. NULL
 * when out of memory. Whoever takes a delivery off a list owns it, and frees it. */
struct lvt_delivery *lvt_delivery_new(size_t hint);
void lvt_delivery_free(struct lvt_delivery *delivery);

/* Keeps its memory, and what its texts are, until one more lvt_delivery_free, on any thread. */
void lvt_delivery_hold(struct lvt_delivery *delivery);

#endif
