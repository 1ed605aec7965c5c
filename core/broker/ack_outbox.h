/* Acks, and deliveries to give back, on their way from the loop to the thread that owns the
 * channel. */
#ifndef LEVERET_BROKER_ACK_OUTBOX_H
#define LEVERET_BROKER_ACK_OUTBOX_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct lvt_ack {
    uint64_t epoch, tag;
    bool requeue; /* instead of being acked */
};

/* Never holds more than what is out, on the channel and on the one before it. */
struct lvt_ack_list {
    struct lvt_ack *items;
    size_t count, size;
};

struct lvt_ack_outbox {
    struct lvt_ack_list batch; /* the loop's, until it flushes */
    bool batch_lost;           /* the loop's: one was lost for lack of memory */
    pthread_mutex_t mutex;
    struct lvt_ack_list flushed; /* under the mutex */
    bool lost;                   /* under the mutex */
    struct lvt_ack_list taken;   /* the thread's */
};

void lvt_ack_outbox_init(struct lvt_ack_outbox *outbox);
void lvt_ack_outbox_free(struct lvt_ack_outbox *outbox);

/* The loop's. */
void lvt_ack_outbox_add(struct lvt_ack_outbox *outbox, struct lvt_ack ack);
/* Whether the thread has to be woken. */
bool lvt_ack_outbox_flush(struct lvt_ack_outbox *outbox);

/* The thread's. The list is valid until the next call. False when an ack was lost for lack of
 * memory: the channel's window would never close again, so it has to be given up. */
bool lvt_ack_outbox_take(struct lvt_ack_outbox *outbox, const struct lvt_ack_list **ret);

#endif
