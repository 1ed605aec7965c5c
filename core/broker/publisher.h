/* Publishes, and answers each publish when the broker has: confirms are counted, never awaited one
 * by one. */
#ifndef LEVERET_BROKER_PUBLISHER_H
#define LEVERET_BROKER_PUBLISHER_H

#include "broker/shared.h"

enum leveret_code lvt_publisher_new(struct lvt_broker *broker, struct lvt_publisher **ret,
                                    struct leveret_error *err) LVT_MUST_CHECK;
void lvt_publisher_free(struct lvt_publisher *publisher);

extern const struct lvt_link_work lvt_publisher_work;

/* The loop's thread's. */
void lvt_publisher_publish(struct lvt_broker *broker, struct lvt_publish *publish);
void lvt_publisher_flush(struct lvt_broker *broker);

#endif
