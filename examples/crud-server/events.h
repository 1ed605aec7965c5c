/* Events straight to RabbitMQ, for a server without a database: they wait in memory until it has
 * confirmed them. */
#ifndef EVENTS_H
#define EVENTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "item.h"

#define EVENTS_QUEUE "item_events"
/* That may wait. Further ones are lost, and the log says so. */
#define EVENTS_MAX 10000
#define EVENTS_PROBLEM_SIZE 512 /* the library's texts fit in */

struct events;

/* RabbitMQ need not be there. NULL with a text when it makes no sense of the address. */
struct events *events_start(const char *rabbitmq_url, char problem[EVENTS_PROBLEM_SIZE]);

/* From any thread, and without waiting. They are sent in this order. */
void events_add(struct events *events, const char *type, const struct item *item);

struct events_status {
    size_t waiting;
    uint64_t lost;
};
void events_status(struct events *events, struct events_status *ret_status);

/* Gives those that wait `wait_ms` to get through; the others are lost, and the log says so. */
void events_stop(struct events *events, uint64_t wait_ms);

#endif
