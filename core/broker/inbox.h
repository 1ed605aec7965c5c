/* What the broker's threads have for the loop: lists behind a mutex, and one wake per batch. */
#ifndef LEVERET_BROKER_INBOX_H
#define LEVERET_BROKER_INBOX_H

#include <pthread.h>

#include "engine/ports.h"

struct lvt_delivery_list {
    struct lvt_delivery *first, *last;
};

struct lvt_publish_list {
    struct lvt_publish *first, *last;
};

void lvt_delivery_list_add(struct lvt_delivery_list *list, struct lvt_delivery *delivery);
void lvt_delivery_list_free(struct lvt_delivery_list *list); /* and the deliveries on it */
void lvt_publish_list_add(struct lvt_publish_list *list, struct lvt_publish *publish);
/* Moves all of `more` behind `list`. */
void lvt_publish_list_join(struct lvt_publish_list *list, struct lvt_publish_list *more);

struct lvt_inbox {
    pthread_mutex_t mutex;
    struct lvt_delivery_list deliveries; /* bounded by the prefetch of all queues */
    struct lvt_publish_list answers;     /* bounded by what was published */
    void (*wake)(void *ctx);
    void *wake_ctx;
};

void lvt_inbox_init(struct lvt_inbox *inbox, void (*wake)(void *ctx), void *wake_ctx);
void lvt_inbox_free(struct lvt_inbox *inbox);

/* Both empty the list that they are given. */
void lvt_inbox_deliver(struct lvt_inbox *inbox, struct lvt_delivery_list *list);
void lvt_inbox_answer(struct lvt_inbox *inbox, struct lvt_publish_list *list);

void lvt_inbox_take(struct lvt_inbox *inbox, struct lvt_delivery_list *ret_deliveries,
                    struct lvt_publish_list *ret_answers);

#endif
