/* Receives deliveries and sends acks. */
#ifndef LEVERET_BROKER_CONSUMER_H
#define LEVERET_BROKER_CONSUMER_H

#include "broker/shared.h"

enum leveret_code lvt_consumer_new(struct lvt_broker *broker, struct lvt_consumer **ret,
                                   struct leveret_error *err) LVT_MUST_CHECK;
void lvt_consumer_free(struct lvt_consumer *consumer);

extern const struct lvt_link_work lvt_consumer_work;

/* The loop's thread's. */
bool lvt_consumer_live(struct lvt_broker *broker, const struct lvt_delivery *delivery);
void lvt_consumer_ack(struct lvt_broker *broker, const struct lvt_delivery *delivery);
void lvt_consumer_requeue(struct lvt_broker *broker, const struct lvt_delivery *delivery);
void lvt_consumer_flush(struct lvt_broker *broker);
void lvt_consumer_cancel(struct lvt_broker *broker);

#endif
